/* test_finalizer_model.c -- random graphs beside a small model of the rules of death: refcounts, weakrefs,
 * finalizers with `clear` and `resurrect_as`, collections of all generations, gc.garbage.
 *
 * The model knows objects by number and does each step in the plainest way: reachability by repeated passes,
 * death by repeated passes.  Each object binds a name of its own, so no result hangs on an order that nobody
 * promises. After every step heap and model are compared object by object.  SEED in the environment repeats a
 * run. */
#include "heap_fixture.h"

#include <stdlib.h>
#include <time.h>

#define OBJECTS 16
#define EDGES_MAX 8 /* of one object */

struct object_model {
    bool live, atom; /* a list, or an int: no candidate, and without edges */
    heap_ref ref;
    uint64_t id;
    unsigned edges[EDGES_MAX], edge_count; /* numbers of objects */
    bool held, named, saved;               /* one reference each */
    bool set, done, clears, binds;         /* the finalizer */
    int generation;
    heap_ref weakref; /* held by the test; 0: none */
    bool weak_alive;
    unsigned finalized, resurrected, notified; /* events that must have been told */
    unsigned told_finalized, told_resurrected, told_notified;
};

struct model {
    struct heap *heap;
    struct object_model objects[OBJECTS];
    unsigned used;  /* objects that this program has: few make cycles soon, many make large graphs */
    unsigned pause; /* steps between collections, on average */
    bool saveall;
    unsigned short random[3];
};

static unsigned draw(struct model *m, unsigned n)
{
    return (unsigned)nrand48(m->random) % n;
}

/* ---- what the heap tells ---- */

static void on_event(void *arg, const struct heap_event *event)
{
    struct model *m = arg;
    for (unsigned i = 0; i < OBJECTS; i++) {
        struct object_model *o = &m->objects[i];
        if (event->kind == HEAP_EVENT_FINALIZED && event->object == o->id) {
            o->told_finalized++;
            o->told_resurrected += event->resurrected;
        } else if (event->kind == HEAP_EVENT_WEAKREF && event->object == o->id) {
            o->told_notified++;
        }
    }
}

/* ---- the model ---- */

static unsigned references(const struct model *m, unsigned to)
{
    const struct object_model *o = &m->objects[to];
    unsigned count = (unsigned)o->held + o->named + o->saved;
    for (unsigned i = 0; i < OBJECTS; i++) {
        for (unsigned k = 0; m->objects[i].live && k < m->objects[i].edge_count; k++) {
            count += m->objects[i].edges[k] == to;
        }
    }
    return count;
}

static void weakref_dies(struct object_model *o)
{
    if (o->weak_alive) {
        o->weak_alive = false;
        o->notified++;
    }
}

static void run_finalizer(struct object_model *o)
{
    o->done = true;
    o->finalized++;
    o->edge_count = o->clears ? 0 : o->edge_count;
    o->named = o->binds;
}

/* Deaths by refcount, until there are none.  What comes back is young again, but for what a collection kills. */
static void settle(struct model *m, bool collecting)
{
    for (bool again = true; again;) {
        again = false;
        for (unsigned i = 0; i < OBJECTS; i++) {
            struct object_model *o = &m->objects[i];
            if (!o->live || references(m, i) > 0) {
                continue;
            }
            again = true;
            if (o->set && !o->done) {
                run_finalizer(o);
                o->resurrected += o->named;
                o->generation = o->named && !collecting ? 0 : o->generation;
            } else {
                weakref_dies(o);
                o->live = false;
                o->edge_count = 0;
            }
        }
    }
}

/* Who among generations 0..g no root and no older object reaches. */
static void find_garbage(const struct model *m, int generation, bool garbage[OBJECTS])
{
    for (unsigned i = 0; i < OBJECTS; i++) {
        const struct object_model *o = &m->objects[i];
        garbage[i] = o->live && !o->atom && o->generation <= generation && !o->held && !o->named && !o->saved;
    }
    for (bool again = true; again;) {
        again = false;
        for (unsigned i = 0; i < OBJECTS; i++) {
            for (unsigned k = 0; m->objects[i].live && !garbage[i] && k < m->objects[i].edge_count; k++) {
                again |= garbage[m->objects[i].edges[k]];
                garbage[m->objects[i].edges[k]] = false;
            }
        }
    }
}

/* Returns what `unreachable` must be. */
static unsigned model_collect(struct model *m, int generation)
{
    bool garbage[OBJECTS], ran[OBJECTS] = {false}, still[OBJECTS];
    unsigned unreachable = 0;
    find_garbage(m, generation, garbage);
    for (unsigned i = 0; i < OBJECTS; i++) {
        if (garbage[i]) {
            weakref_dies(&m->objects[i]);
        }
    }
    for (unsigned i = 0; i < OBJECTS; i++) {
        if (garbage[i] && m->objects[i].set && !m->objects[i].done) {
            run_finalizer(&m->objects[i]);
            ran[i] = true;
        }
    }
    settle(m, true);
    find_garbage(m, generation, still);
    for (unsigned i = 0; i < OBJECTS; i++) {
        struct object_model *o = &m->objects[i];
        still[i] = still[i] && garbage[i];
        unreachable += still[i];
        o->resurrected += ran[i] && o->live && !still[i];
        o->saved |= still[i] && m->saveall;
    }
    for (unsigned i = 0; i < OBJECTS; i++) {
        struct object_model *o = &m->objects[i];
        if (still[i] && !m->saveall) {
            o->live = false;
            o->edge_count = 0;
        } else if (o->live && o->generation <= generation) {
            o->generation = generation < 2 ? generation + 1 : 2;
        }
    }
    settle(m, true);
    return unreachable;
}

/* ---- steps ---- */

static const char *name_of(unsigned i)
{
    static const char names[][2] = {"a", "b", "c", "d", "e", "f", "g", "h",
                                    "i", "j", "k", "l", "m", "n", "o", "p"};
    return names[i];
}

static void forget_weakref(struct model *m, struct object_model *o)
{
    if (o->weakref != 0) {
        drop(m->heap, o->weakref);
        o->weakref = 0;
        o->weak_alive = false;
    }
}

static void make(struct model *m, unsigned i)
{
    struct object_model *o = &m->objects[i];
    forget_weakref(m, o);
    bool atom = draw(m, 4) == 0;
    heap_ref ref = keep(m->heap, atom ? new_int(m->heap, 1000) : new_list(m->heap));
    *o = (struct object_model){.live = true, .atom = atom, .held = true, .ref = ref};
    OK(heap_id(&o->id, m->heap, o->ref));
    if (draw(m, 2) == 0) {
        heap_ref weakref;
        OK(heap_weakref_notify(&weakref, m->heap, m->heap->sessions, o->ref));
        o->weakref = keep(m->heap, weakref);
        o->weak_alive = true;
    }
}

static void set_finalizer(struct model *m, unsigned i)
{
    struct object_model *o = &m->objects[i];
    struct heap_finalizer finalizer = {.clear = draw(m, 3) == 0};
    if (draw(m, 2) == 0) {
        finalizer.resurrect_as = (struct heap_text){name_of(i), 1};
    }
    enum heap_error error = heap_finalizer_set(m->heap, NULL, o->ref, &finalizer);
    assert_int_equal(error, o->done ? HEAP_FINALIZED : HEAP_OK);
    if (!o->done) {
        o->set = true;
        o->clears = finalizer.clear;
        o->binds = finalizer.resurrect_as.text != NULL;
    }
}

static void change_edges(struct model *m, unsigned i, unsigned to)
{
    struct object_model *o = &m->objects[i];
    if (o->atom) {
        return;
    }
    if (o->edge_count < EDGES_MAX && m->objects[to].live && draw(m, 3) != 0) {
        link_to(m->heap, o->ref, m->objects[to].ref);
        o->edges[o->edge_count++] = to;
    } else if (o->edge_count > 0) {
        unsigned k = draw(m, o->edge_count);
        heap_decref(m->heap, heap_list_pop(m->heap, o->ref, k));
        memmove(&o->edges[k], &o->edges[k + 1], (--o->edge_count - k) * sizeof o->edges[0]);
    }
}

static void change_roots(struct model *m, unsigned i)
{
    struct object_model *o = &m->objects[i];
    if (o->held) {
        drop(m->heap, o->ref);
        o->held = false;
    } else if (o->named) {
        OK(heap_name_unbind(m->heap, name_of(i), 1));
        o->named = false;
    } else if (draw(m, 4) == 0) {
        OK(heap_hold(m->heap, m->heap->sessions, o->ref));
        o->held = true;
    }
}

static void clear_garbage(struct model *m)
{
    heap_garbage_clear(m->heap);
    for (unsigned i = 0; i < OBJECTS; i++) {
        m->objects[i].saved = false;
    }
}

static void clear_finalizer(struct model *m, unsigned i)
{
    struct object_model *o = &m->objects[i];
    assert_int_equal(heap_finalizer_clear(m->heap, o->ref), o->set && !o->done);
    o->set = false;
}

static void step(struct model *m)
{
    unsigned i = draw(m, m->used), what = draw(m, 40);
    if (draw(m, m->pause) == 0) {
        int generation = (int)draw(m, 3);
        heap_settle(m->heap);
        assert_int_equal(collect(m->heap, generation), model_collect(m, generation));
    } else if (!m->objects[i].live) {
        make(m, i);
    } else if (what < 7) {
        set_finalizer(m, i);
    } else if (what < 8) {
        clear_finalizer(m, i);
    } else if (what < 9) {
        m->saveall = draw(m, 4) == 0;
        heap_gc_set_debug(m->heap, m->saveall ? HEAP_GC_SAVEALL : 0);
    } else if (what < 10) {
        clear_garbage(m);
    } else if (what < 30) {
        change_edges(m, i, draw(m, m->used));
    } else {
        change_roots(m, i);
    }
    heap_settle(m->heap);
    settle(m, false);
}

/* ---- heap against model ---- */

static void compare_finalizer(struct model *m, const struct object_model *o)
{
    struct heap_finalizer finalizer;
    assert_int_equal(heap_is_finalized(m->heap, o->ref), o->done);
    assert_int_equal(heap_finalizer_get(&finalizer, m->heap, o->ref), o->set);
    if (o->set) {
        assert_int_equal(finalizer.done, o->done);
        assert_int_equal(finalizer.clear, o->clears);
        assert_int_equal(finalizer.resurrect_as.text != NULL, o->binds);
    }
}

static void compare(struct model *m)
{
    unsigned saved = 0;
    for (unsigned i = 0; i < OBJECTS; i++) {
        const struct object_model *o = &m->objects[i];
        assert_int_equal(o->told_finalized, o->finalized);
        assert_int_equal(o->told_resurrected, o->resurrected);
        assert_int_equal(o->told_notified, o->notified);
        if (o->weakref != 0) {
            assert_int_equal(heap_weakref_target(m->heap, o->weakref), o->weak_alive ? o->ref : 0);
        }
        if (o->id == 0) {
            continue;
        }
        assert_int_equal(heap_find(m->heap, o->id), o->live ? o->ref : 0);
        assert_int_equal(heap_name_find(m->heap, name_of(i), 1), o->named ? o->ref : 0);
        if (o->live) {
            assert_int_equal(heap_refcount(m->heap, o->ref), references(m, i));
            assert_int_equal(heap_gc_generation(m->heap, o->ref), o->atom ? -1 : o->generation);
            assert_int_equal(heap_weakref_count(m->heap, o->ref), o->weak_alive);
            compare_finalizer(m, o);
            saved += o->saved;
        }
    }
    assert_int_equal(heap_garbage_len(m->heap), saved);
}

/* Everything goes, so that the fixture finds an empty heap. */
static void finish(struct model *m)
{
    heap_gc_set_debug(m->heap, 0);
    for (unsigned i = 0; i < OBJECTS; i++) {
        struct object_model *o = &m->objects[i];
        forget_weakref(m, o);
        if (o->live) {
            heap_finalizer_clear(m->heap, o->ref);
            o->set = false;
        }
    }
    clear_garbage(m);
    for (unsigned i = 0; i < OBJECTS; i++) {
        while (m->objects[i].live && (m->objects[i].held || m->objects[i].named)) {
            change_roots(m, i);
        }
    }
    heap_settle(m->heap);
    collect(m->heap, 2);
    heap_set_observer(m->heap, &(struct heap_observer){0});
}

static void test_finalizer_agrees_with_a_model(void **state)
{
    const char *text = getenv("SEED");
    unsigned seed = text != NULL ? (unsigned)strtoul(text, NULL, 10) : (unsigned)time(NULL);
    unsigned programs = fixture_is_small() ? 5 : 60;
    print_message("SEED=%u\n", seed);
    assert_non_null(heap_session_create(*state));
    for (unsigned program = 0; program < programs; program++) {
        struct model m = {
            .heap = *state,
            .random = {(unsigned short)seed, (unsigned short)(seed >> 16), (unsigned short)program}};
        m.used = 2 + draw(&m, OBJECTS - 1);
        m.pause = 5 + draw(&m, 60);
        heap_set_observer(m.heap, &(struct heap_observer){.arg = &m, .event = on_event});
        for (unsigned i = 0; i < 1000; i++) {
            step(&m);
            compare(&m);
        }
        fixture_check(m.heap);
        finish(&m);
        assert_int_equal(fixture_live(m.heap), 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_finalizer_agrees_with_a_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
