/* schedule_run.h -- one collection on a real heap, in slices, with operations in between, beside the model.
 *
 *   run_begin()    builds the graph that a struct setup describes; t0 may come later, when deaths are under way
 *   run_step()     one slice
 *   run_operate()  one operation, as a request would do it: all its objects by id, and where the heap says so it is
 *                  parked and begun again
 *   run_end()      the remaining slices; compares everything, and empties the heap
 *
 * An object is a list, a dict or an instance; a wide one has more references than one piece of a slice may.
 */
#ifndef HEAPD_TESTS_SCHEDULE_RUN_H
#define HEAPD_TESTS_SCHEDULE_RUN_H

#include "heap_fixture.h"
#include "schedule_model.h"

enum shape { SHAPE_LIST, SHAPE_DICT, SHAPE_INSTANCE, SHAPE_WIDE_LIST, SHAPE_WIDE_DICT, SHAPES };
#define WIDE 6000u /* references to None */
#define RUN_OPS 12
#define SLICE_US 10000000u /* the clock never ends a slice: a run that is repeated goes the same way */

enum settling { SETTLED_OLD, SETTLED_MIDDLE, SETTLED_FROZEN };

struct setup {
    unsigned objects;
    uint64_t edges;    /* bit i * objects + j: i refers to j */
    unsigned held;     /* objects that the session holds */
    unsigned weak;     /* objects with a weakref, which the session holds */
    unsigned settled;  /* objects that were there earlier: the first so many, as bits */
    enum settling how; /* and what they are now */
    int generation;    /* to be collected */
    bool saveall;
    uint8_t finalizer; /* an object, or NOBODY */
    bool clears;
    uint8_t shapes[MODEL_FIRST];
};

struct run {
    struct heap *heap;
    struct heap_session *session;
    heap_ref class;
    const struct setup *setup;
    struct model model;
    heap_ref refs[MODEL_OBJECTS];
    uint64_t ids[MODEL_OBJECTS];
    heap_ref weakrefs[MODEL_OBJECTS];
    struct heap_dying dying[RUN_OPS];
    unsigned operations;
    unsigned cleared;     /* objects that an operation has cleared */
    uint64_t extra;       /* live objects that are not the model's: weakrefs, the class */
    unsigned slices;      /* of the collection */
    unsigned parked;      /* operations that had to wait */
    unsigned inside;      /* collections of generation 0 meanwhile */
    unsigned found_inside; /* by the last of them */
    bool checks_often;    /* the referee looks after each slice and operation */
    bool is_over;
    struct heap_collection result;
};

/* ---- the collector's own words ---- */

static void run_on_event(void *arg, const struct heap_event *event)
{
    struct run *run = arg;
    if (event->automatic && event->kind == HEAP_EVENT_GC_START) {
        run->inside++;
        run->found_inside = model_collect_inside(&run->model);
    } else if (event->automatic && event->kind == HEAP_EVENT_GC_STOP) {
        assert_int_equal(event->collection->generation, 0);
        assert_int_equal(event->collection->unreachable, run->found_inside);
    } else if (event->kind == HEAP_EVENT_GC_START && !run->is_over) {
        model_start(&run->model, event->collection->generation);
    }
}

/* ---- objects ---- */

static void run_watch(struct run *run, struct heap *heap)
{
    *run = (struct run){.heap = heap};
    run->session = heap_session_create(heap);
    assert_non_null(run->session);
    OK(heap_class_create(&run->class, heap, (struct heap_text){"Node", 4}, NULL, 0));
    OK(heap_name_bind(heap, "Node", 4, run->class));
    heap_decref(heap, run->class);
    collect(heap, 2); /* so that it is old in each run */
    heap_set_observer(heap, &(struct heap_observer){.arg = run, .event = run_on_event});
}

static heap_ref make_shape(struct run *run, enum shape shape)
{
    struct heap *heap = run->heap;
    heap_ref obj;
    switch (shape) {
    case SHAPE_INSTANCE:
        OK(heap_instance_create(&obj, heap, run->class, 0));
        break;
    case SHAPE_DICT:
    case SHAPE_WIDE_DICT:
        OK(heap_dict_create(&obj, heap, 0));
        for (unsigned i = 0; shape == SHAPE_WIDE_DICT && i < WIDE / 2; i++) {
            OK(heap_dict_set_steal(heap, obj, new_int(heap, 1000 + i), heap_none(heap)));
        }
        break;
    default:
        obj = new_list(heap);
        for (unsigned i = 0; shape == SHAPE_WIDE_LIST && i < WIDE; i++) {
            OK(heap_list_append_steal(heap, obj, heap_none(heap)));
        }
        break;
    }
    return obj;
}

static enum shape shape_of(const struct run *run, unsigned i)
{
    return i < run->setup->objects ? run->setup->shapes[i] : SHAPE_LIST;
}

/* Live objects that come with it: the keys of a wide dict. */
static unsigned atoms_of(const struct run *run, unsigned i)
{
    const struct model *m = &run->model;
    bool cleared = run->cleared & bit(i) || (m->clears && m->finalized && m->finalizer == i);
    return shape_of(run, i) == SHAPE_WIDE_DICT && !cleared ? WIDE / 2 : 0;
}

/* Gives a new object, which the caller owns, the number `i`. */
static void adopt(struct run *run, unsigned i, heap_ref obj)
{
    run->refs[i] = obj;
    OK(heap_id(&run->ids[i], run->heap, obj));
}

/* The key, or the attribute's name, under which `from` refers to `to`; the second time another. */
static heap_ref edge_key(struct run *run, unsigned to, unsigned nth)
{
    return new_int(run->heap, (int64_t)(to + nth * MODEL_OBJECTS));
}

static size_t edge_attr(char attr[3], unsigned to, unsigned nth)
{
    attr[0] = nth == 0 ? 'a' : 'b';
    attr[1] = (char)('0' + to);
    attr[2] = '\0';
    return 2;
}

static bool has_edge(struct run *run, unsigned from, unsigned to, unsigned nth)
{
    heap_ref value = 0, key = edge_key(run, to, nth);
    char attr[3];
    size_t len = edge_attr(attr, to, nth);
    if (shape_of(run, from) == SHAPE_INSTANCE) {
        OK(heap_attr_get(&value, run->heap, run->refs[from], attr, len));
    } else {
        OK(heap_dict_get(&value, run->heap, run->refs[from], key));
    }
    heap_decref(run->heap, key);
    return value != 0;
}

/* `place`: where in a list, in parts of its length. */
static void edge_put_steal(struct run *run, unsigned from, heap_ref item, unsigned to, unsigned place)
{
    struct heap *heap = run->heap;
    heap_ref container = run->refs[from];
    char attr[3];
    unsigned nth;
    switch (shape_of(run, from)) {
    case SHAPE_LIST:
    case SHAPE_WIDE_LIST:
        OK(heap_list_insert_steal(heap, container, (uint32_t)((uint64_t)heap_seq_len(heap, container) * place / 4), item));
        break;
    case SHAPE_INSTANCE:
        nth = has_edge(run, from, to, 0);
        OK(heap_attr_set_steal(heap, container, attr, edge_attr(attr, to, nth), item));
        break;
    default:
        nth = has_edge(run, from, to, 0);
        OK(heap_dict_set_steal(heap, container, edge_key(run, to, nth), item));
        break;
    }
}

/* Takes one reference to `to` out of `from`; the caller owns it then. */
static heap_ref edge_take(struct run *run, unsigned from, unsigned to)
{
    struct heap *heap = run->heap;
    heap_ref container = run->refs[from], key, own_key, value;
    char attr[3];
    unsigned nth;
    uint32_t at = 0;
    switch (shape_of(run, from)) {
    case SHAPE_LIST:
    case SHAPE_WIDE_LIST:
        while (heap_seq_item(heap, container, at) != run->refs[to]) {
            at++;
            assert_true(at < heap_seq_len(heap, container));
        }
        return heap_list_pop(heap, container, at);
    case SHAPE_INSTANCE:
        nth = !has_edge(run, from, to, 0);
        OK(heap_incref(heap, run->refs[to]));
        OK(heap_attr_del(heap, container, attr, edge_attr(attr, to, nth)));
        return run->refs[to];
    default:
        key = edge_key(run, to, !has_edge(run, from, to, 0));
        OK(heap_dict_pop(&own_key, &value, heap, container, key));
        heap_decref(heap, own_key);
        heap_decref(heap, key);
        return value;
    }
}

static void edges_clear(struct run *run, unsigned from)
{
    switch (shape_of(run, from)) {
    case SHAPE_LIST:
    case SHAPE_WIDE_LIST:
        heap_list_clear(run->heap, run->refs[from]);
        break;
    case SHAPE_INSTANCE:
        for (unsigned to = 0; to < run->model.count; to++) {
            for (unsigned n = run->model.edges[from][to]; n > 0; n--) {
                heap_decref(run->heap, edge_take(run, from, to));
            }
        }
        break;
    default:
        heap_dict_clear(run->heap, run->refs[from]);
        break;
    }
}

/* ---- comparing ---- */

/* What of the graph can be seen at any time: who lives, and how often it is referred to.  What is dying, and what is
 * condemned until it is swept, may still have its references. */
static void run_compare(struct run *run)
{
    const struct model *m = &run->model;
    unsigned doomed = m->started && !run->is_over ? model_doomed(m) : model_condemned(m);
    bool is_dying = run->heap->dying_first != NULL;
    /* With a finalizer the model may be ahead. */
    bool is_settling = m->finalizer != NOBODY && (is_dying || (m->started && !run->is_over));
    for (unsigned i = 0; i < m->count; i++) {
        if (!(m->lives & bit(i) & ~doomed)) {
            continue;
        }
        uint32_t refcount = heap_refcount_of_id(run->heap, run->ids[i]);
        unsigned most = model_refcount(m, i, 0), least = is_settling ? 0 : model_refcount(m, i, doomed);
        if (refcount < least || (refcount > most && !is_dying && !is_settling)) {
            fail_msg("object %u has refcount %u, not %u to %u", i, refcount, least, most);
        }
    }
    if (run->checks_often) {
        fixture_check(run->heap);
    }
}

/* When everything is over. */
static void run_compare_all(struct run *run)
{
    const struct model *m = &run->model;
    uint64_t live = run->extra;
    for (unsigned i = 0; i < m->count; i++) {
        heap_ref found = heap_find(run->heap, run->ids[i]);
        assert_int_equal(heap_take_wait(run->heap), HEAP_WAIT_NOTHING);
        assert_int_equal(found, m->lives & bit(i) ? run->refs[i] : 0);
        if (found == 0) {
            continue;
        }
        live += 1 + atoms_of(run, i);
        bool saved = run->setup->saveall && m->condemned & bit(i);
        assert_int_equal(heap_refcount(run->heap, found), model_refcount(m, i, 0) + saved);
        if (m->finalizer != i) {
            assert_int_equal(heap_gc_generation(run->heap, found), m->generation[i]);
        }
        for (unsigned k = 0; k < m->count; k++) {
            uint64_t position = 0;
            unsigned edges = 0;
            heap_ref referent;
            while (m->lives & bit(k) && heap_referent_next(run->heap, found, &position, &referent)) {
                edges += referent == run->refs[k];
            }
            assert_int_equal(edges, m->lives & bit(k) ? m->edges[i][k] : 0);
        }
    }
    for (unsigned i = 0; i < run->setup->objects; i++) {
        if (run->weakrefs[i] != 0) {
            assert_int_equal(heap_weakref_target(run->heap, run->weakrefs[i]), m->weak & bit(i) ? run->refs[i] : 0);
        }
    }
    assert_int_equal(fixture_live(run->heap), live);
}

/* ---- slices ---- */

/* Whether what is condemned lives on in gc.garbage, where everybody finds it. */
static bool is_saved(const struct run *run)
{
    return run->setup->saveall && heap_garbage_len(run->heap) > 0;
}

/* A finalizer that has run, and what is in gc.garbage, tell that the verdict was spoken. */
static void run_notice(struct run *run)
{
    struct model *m = &run->model;
    if (m->started && is_saved(run)) {
        model_judge(m);
    }
    if (m->started && !run->is_over && m->finalizer != NOBODY && !m->finalized && m->lives & bit(m->finalizer) &&
        heap_is_finalized(run->heap, run->refs[m->finalizer])) {
        assert_true(model_doomed(m) & bit(m->finalizer));
        model_judge(m);
        if (!m->finalized) { /* it was not condemned, but died with those */
            model_finalize(m);
            model_deaths(m, m->condemned);
        }
    }
}

static void run_note_end(struct run *run)
{
    struct model *m = &run->model;
    if (run->is_over || heap_is_collecting(run->heap)) {
        return;
    }
    run->is_over = true;
    assert_true(m->started);
    heap_last_collection(run->heap, &run->result);
    unsigned before = m->lives;
    model_judge(m);
    unsigned condemned = m->condemned;
    assert_int_equal(run->result.generation, run->setup->generation);
    assert_int_equal(run->result.uncollectable, 0);
    if (run->result.unreachable != (unsigned)__builtin_popcount(condemned)) {
        fail_msg("%u are reported as unreachable, not those of %#x", (unsigned)run->result.unreachable, condemned);
    }
    if (run->setup->saveall) {
        assert_int_equal(heap_garbage_len(run->heap), run->result.unreachable);
        unsigned candidates = m->candidates;
        for (unsigned i = 0; i < m->count; i++) {
            if (candidates & bit(i)) {
                m->generation[i] = (uint8_t)(run->setup->generation < 2 ? run->setup->generation + 1 : 2);
            }
        }
        return;
    }
    model_sweep(m, run->setup->generation);
    unsigned died = (before & ~m->lives) | m->died_judging, least = 0;
    for (unsigned i = 0; i < m->count; i++) {
        least += condemned & bit(i) ? 1 + atoms_of(run, i) : 0;
    }
    assert_true(run->result.freed >= least);
    bool keys_died = m->clears && shape_of(run, m->finalizer) == SHAPE_WIDE_DICT;
    if (run->operations == 1 && !keys_died) { /* nobody else killed anything */
        unsigned most = 0;
        for (unsigned i = 0; i < m->count; i++) {
            most += died & bit(i) ? 1 + atoms_of(run, i) : 0;
        }
        assert_int_equal(run->result.freed, most);
    }
}

static void run_step(struct run *run)
{
    run->slices += !run->is_over;
    heap_step(run->heap, SLICE_US);
    assert_true(run->slices < 100000);
    run_notice(run);
    run_note_end(run);
    run_compare(run);
}

/* ---- operations ---- */

enum outcome { DONE, GONE, PARKED };

/* An object by its id, or through its weakref. */
static enum outcome look_up(struct run *run, unsigned i, bool weakly)
{
    struct model *m = &run->model;
    heap_ref found = weakly ? heap_weakref_target(run->heap, run->weakrefs[i]) : heap_find(run->heap, run->ids[i]);
    enum heap_wait wait = heap_take_wait(run->heap);
    if (wait != HEAP_WAIT_NOTHING) {
        assert_int_equal(found, 0);
        if (heap_wait_is_over(run->heap, wait)) {
            fail_msg("object %u is waited for, and the wait is over at once", i);
        }
        run->parked++;
        return PARKED;
    }
    bool may_be_condemned = m->lives & bit(i) & model_condemned(m) && !run->is_over;
    if (found == 0) {
        if (may_be_condemned || (m->lives & bit(i) && !run->is_over && m->started && model_doomed(m) & bit(i))) {
            model_judge(m);
        } else if (m->lives & bit(i) && !(weakly && !(m->weak & bit(i)))) {
            fail_msg("object %u is reached and not found", i);
        }
        return GONE;
    }
    assert_int_equal(found, run->refs[i]);
    if (!(m->lives & bit(i))) {
        fail_msg("object %u has died and is found", i);
    }
    if (may_be_condemned && m->judged && !is_saved(run)) {
        fail_msg("object %u is condemned and found", i);
    }
    if (m->started && !m->judged) {
        model_touch(m, i);
    }
    return DONE;
}

/* All objects that the operation names. */
static enum outcome look_up_all(struct run *run, struct op op)
{
    unsigned wanted[3] = {op.i, op.j, op.k}, n = 0;
    switch ((enum op_kind)op.kind) {
    case OP_ADD:
        n = 2;
        break;
    case OP_DELETE: /* by its place in i */
    case OP_POP:
    case OP_HOLD:
    case OP_RELEASE:
    case OP_BIND:
    case OP_CLEAR:
    case OP_MAKE_INSIDE:
        n = 1;
        break;
    case OP_MOVE:
        wanted[1] = op.k;
        n = 2;
        break;
    case OP_WEAK:
        return look_up(run, op.i, true);
    case OP_MAKE:
    case OP_MAKE_CYCLE:
        wanted[0] = op.j;
        n = 1;
        break;
    default:
        break;
    }
    enum outcome outcome = DONE;
    for (unsigned i = 0; i < n && outcome == DONE; i++) {
        outcome = look_up(run, wanted[i], false);
    }
    return outcome;
}

/* A reference to it for the caller to give away. */
static heap_ref own(struct run *run, unsigned i)
{
    OK(heap_incref(run->heap, run->refs[i]));
    return run->refs[i];
}

static void take_hold(struct run *run, unsigned i)
{
    OK(heap_hold(run->heap, run->session, run->refs[i]));
}

/* A new list that the caller owns; its number is the model's count. */
static unsigned make(struct run *run)
{
    unsigned n = run->model.count;
    adopt(run, n, new_list(run->heap));
    return n;
}

/* On the heap; model_do() has not been called yet. */
static void operate(struct run *run, struct op op, unsigned place)
{
    struct heap *heap = run->heap;
    unsigned n;
    switch ((enum op_kind)op.kind) {
    case OP_ADD:
        edge_put_steal(run, op.i, own(run, op.j), op.j, place);
        break;
    case OP_DELETE:
        heap_decref(heap, edge_take(run, op.i, op.j));
        break;
    case OP_POP:
        n = edge_take(run, op.i, op.j);
        take_hold(run, op.j);
        heap_decref(heap, n);
        break;
    case OP_MOVE:
        edge_put_steal(run, op.k, edge_take(run, op.i, op.j), op.j, place);
        break;
    case OP_HOLD:
    case OP_WEAK:
        take_hold(run, op.i);
        break;
    case OP_RELEASE:
        OK(heap_unhold(heap, run->session, run->refs[op.i]));
        break;
    case OP_BIND:
        OK(heap_name_bind(heap, "name", 4, run->refs[op.i]));
        break;
    case OP_UNBIND:
        OK(heap_name_unbind(heap, "name", 4));
        break;
    case OP_MAKE:
        n = make(run);
        OK(heap_list_append_steal(heap, run->refs[n], own(run, op.j)));
        take_hold(run, n);
        heap_decref(heap, run->refs[n]);
        break;
    case OP_MAKE_INSIDE:
        n = make(run);
        edge_put_steal(run, op.i, run->refs[n], n, place);
        break;
    case OP_MAKE_CYCLE:
        n = make(run);
        OK(heap_list_append_steal(heap, run->refs[n], own(run, op.j)));
        OK(heap_list_append_steal(heap, run->refs[n], run->refs[n]));
        break;
    case OP_CLEAR:
        edges_clear(run, op.i);
        run->cleared |= bit(op.i);
        break;
    case OP_YOUNG:
        atomic_store(&heap->gc.count[0], 10000);
        heap_gc_poll(heap);
        atomic_store(&heap->gc.count[0], 0);
        break;
    default: /* OP_RELEASE_ALL: run_operate() */
        break;
    }
}

/* The end of the request: what died goes in slices of its own. */
static void settle(struct run *run, struct op op)
{
    struct heap_dying *dying = &run->dying[run->operations++];
    uint64_t n;
    assert_true(run->operations < RUN_OPS);
    if (op.kind == OP_RELEASE_ALL) { /* the weakrefs stay: they are held under a name of their own */
        (void)!heap_session_end(&n, run->heap, run->session, true, dying);
    } else {
        (void)!heap_settle_slice(&n, run->heap, dying);
    }
}

static void run_operate(struct run *run, struct op op, unsigned place)
{
    enum outcome outcome;
    while ((outcome = look_up_all(run, op)) == PARKED) {
        run_step(run);
    }
    bool takes_edge = op.kind == OP_DELETE || op.kind == OP_POP || op.kind == OP_MOVE;
    if (outcome == GONE || (takes_edge && run->model.edges[op.i][op.j] == 0)) { /* a finalizer cleared it meanwhile */
        return;
    }
    operate(run, op, place);
    model_do(&run->model, op);
    settle(run, op);
    model_deaths(&run->model, run->is_over && !run->setup->saveall ? 0 : model_condemned(&run->model));
    run_note_end(run);
    run_compare(run);
}

/* ---- beginning ---- */

static void build_object(struct run *run, unsigned i)
{
    struct heap *heap = run->heap;
    unsigned n = model_make(&run->model);
    assert_int_equal(n, i);
    adopt(run, i, make_shape(run, shape_of(run, i)));
    run->model.generation[i] = 0;
    take_hold(run, i); /* until all edges are there */
    heap_decref(heap, run->refs[i]);
    run->model.holds[i] = 1;
}

static void build_weakref(struct run *run, unsigned i)
{
    char name[3] = {'w', (char)('0' + i), '\0'};
    OK(heap_weakref_shared(&run->weakrefs[i], run->heap, run->refs[i]));
    OK(heap_name_bind(run->heap, name, 2, run->weakrefs[i]));
    heap_decref(run->heap, run->weakrefs[i]);
    run->model.weak |= bit(i);
    run->extra++;
}

static void build_edges(struct run *run)
{
    unsigned n = run->setup->objects;
    for (unsigned e = 0; e < n * n; e++) {
        if (run->setup->edges >> e & 1) {
            edge_put_steal(run, e / n, own(run, e % n), e % n, 2);
            run->model.edges[e / n][e % n] = 1;
        }
    }
}

/* The objects that there are grow older, or are frozen. */
static void build_settled(struct run *run)
{
    static const uint8_t generations[] = {[SETTLED_OLD] = 2, [SETTLED_MIDDLE] = 1, [SETTLED_FROZEN] = 3};
    const struct setup *setup = run->setup;
    if (setup->settled == 0) {
        return;
    }
    if (setup->how == SETTLED_MIDDLE) {
        collect(run->heap, 0);
    } else {
        heap_gc_freeze(run->heap);
    }
    if (setup->how == SETTLED_OLD) {
        heap_gc_unfreeze(run->heap);
    }
    for (unsigned i = 0; i < run->model.count; i++) {
        run->model.generation[i] = generations[setup->how];
    }
}

/* Everything but the collection; the session still holds all objects. */
static void run_build(struct run *run, const struct setup *setup)
{
    struct heap *heap = run->heap;
    struct model *m = &run->model;
    run->setup = setup;
    run->extra = 1; /* the class */
    *m = (struct model){.named = NOBODY, .finalizer = NOBODY};
    memset(run->refs, 0, sizeof run->refs);
    memset(run->weakrefs, 0, sizeof run->weakrefs);
    memset(run->dying, 0, sizeof run->dying);
    run->operations = run->cleared = run->slices = run->parked = run->inside = 0;
    run->is_over = true;
    heap_set_slice(heap, SLICE_US, 0);
    /* Those that settle come first: bits of `settled` are the lowest ones. */
    for (unsigned i = 0; i < setup->objects; i++) {
        if (i > 0 && setup->settled >> (i - 1) == 1) {
            build_settled(run);
        }
        build_object(run, i);
    }
    if (setup->settled >> (setup->objects - 1) == 1) {
        build_settled(run);
    }
    build_edges(run);
    for (unsigned i = 0; i < setup->objects; i++) {
        if (setup->weak & bit(i)) {
            build_weakref(run, i);
        }
    }
    if (setup->finalizer != NOBODY) {
        const struct heap_finalizer finalizer = {.resurrect_as = {"back", 4}, .clear = setup->clears};
        OK(heap_finalizer_set(heap, NULL, run->refs[setup->finalizer], &finalizer));
        m->finalizer = setup->finalizer;
        m->clears = setup->clears;
    }
    heap_gc_set_debug(heap, setup->saveall ? HEAP_GC_SAVEALL : 0);
}

/* Builds the graph, and begins the collection in slices of one object. */
static void run_begin(struct run *run, const struct setup *setup)
{
    struct heap *heap = run->heap;
    run_build(run, setup);
    for (unsigned i = 0; i < setup->objects; i++) {
        if (!(setup->held & bit(i))) {
            OK(heap_unhold(heap, run->session, run->refs[i]));
            run->model.holds[i] = 0;
        }
    }
    model_deaths(&run->model, 0);
    heap_set_slice(heap, SLICE_US, 1);
    settle(run, (struct op){.kind = OP_KINDS});
    run->slices = 1;
    run->is_over = false;
    heap->gc.small_max = setup->generation < 2 ? 0 : GC_SMALL_MAX;
    assert_int_not_equal(heap_collect_begin(&run->result, heap, setup->generation, false), HEAP_BUSY);
    run_notice(run);
    run_note_end(run);
    run_compare(run);
}

/* ---- end ---- */

static void run_empty(struct run *run)
{
    struct heap *heap = run->heap;
    heap_set_slice(heap, SLICE_US, 0);
    heap->gc.small_max = GC_SMALL_MAX;
    if (run->setup->saveall) {
        heap_gc_set_debug(heap, 0);
        heap_garbage_clear(heap);
    }
    if (run->setup->how == SETTLED_FROZEN) {
        heap_gc_unfreeze(heap);
    }
    heap_session_release_all(heap, run->session);
    for (unsigned i = 0; i < run->setup->objects; i++) {
        char name[3] = {'w', (char)('0' + i), '\0'};
        if (run->weakrefs[i] != 0) {
            OK(heap_name_unbind(heap, name, 2));
        }
    }
    if (run->model.named != NOBODY) {
        OK(heap_name_unbind(heap, "name", 4));
    }
    if (heap_name_find(heap, "back", 4) != 0) {
        OK(heap_name_unbind(heap, "back", 4));
    }
    heap_settle(heap);
    collect(heap, 2);
    if (heap_name_find(heap, "back", 4) != 0) { /* only now its finalizer has run */
        OK(heap_name_unbind(heap, "back", 4));
        collect(heap, 2);
    }
    assert_int_equal(fixture_live(heap), 1);
}

static void run_end(struct run *run)
{
    while (!run->is_over || heap_work_pending(run->heap)) {
        run_step(run);
    }
    for (unsigned i = 0; i < run->operations; i++) {
        assert_true(run->dying[i].is_done || run->dying[i].first == 0);
    }
    run_compare_all(run);
    run_empty(run);
}

#endif
