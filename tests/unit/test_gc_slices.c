/* test_gc_slices.c -- collections in slices of one object, with others at work between them; the referee looks on
 * after each. */
#include "heap_fixture.h"

#include "graph_fixture.h"
#include "heap_recorder.h"

#define LONG_US 10000000u /* no slice ends by the clock */

/* Slices of so many objects from now on; young collections are the machine's, however small. */
static void slice_by(struct heap *heap, uint32_t objects)
{
    heap_set_slice(heap, LONG_US, objects);
    heap->gc.small_max = 0;
}

static void begin(struct heap *heap, int generation)
{
    struct heap_collection result;
    assert_int_equal(heap_collect_begin(&result, heap, generation, false), HEAP_GOES_ON);
    assert_true(heap_is_collecting(heap));
}

/* Steps until the machine is in that state, or a later one. */
static void step_to(struct heap *heap, enum gc_state state)
{
    while (heap->gc.state < state && heap_is_collecting(heap)) {
        heap_step(heap, LONG_US);
        fixture_check(heap);
    }
    assert_int_equal(heap->gc.state, state);
}

/* Steps to the end.  Returns how many were unreachable. */
static uint64_t finish(struct heap *heap)
{
    while (heap_step(heap, LONG_US)) {
        fixture_check(heap);
    }
    assert_false(heap_is_collecting(heap));
    assert_int_equal(heap->gc.state, GC_IDLE);
    fixture_check(heap);
    struct heap_collection result;
    heap_last_collection(heap, &result);
    return result.unreachable;
}

/* A list that contains itself, which nobody else knows; *id is its. */
static heap_ref make_garbage(struct heap *heap, uint64_t *id)
{
    heap_ref list = new_list(heap);
    link_to(heap, list, list);
    OK(heap_id(id, heap, list));
    heap_decref(heap, list);
    return list;
}

static void set_finalizer(struct heap *heap, heap_ref obj, const char *token, const char *name, bool clear)
{
    struct heap_finalizer finalizer = {.clear = clear, .token = {token, strlen(token)}};
    if (name != NULL) {
        finalizer.resurrect_as = (struct heap_text){name, strlen(name)};
    }
    OK(heap_finalizer_set(heap, heap->sessions, obj, &finalizer));
}

/* ---- the machine agrees with what is done at once ---- */

static void test_slices_find_what_one_go_finds(void **state)
{
    struct heap *heap = *state;
    for (int generation = 0; generation <= 2; generation++) {
        for (uint32_t by = 1; by <= 7; by += 3) {
            slice_by(heap, by);
            heap_ref keeper = keep(heap, new_list(heap));
            uint64_t ids[10];
            for (unsigned i = 0; i < 10; i++) {
                OK(heap_list_append_steal(heap, keeper, new_list(heap)));
                make_garbage(heap, &ids[i]);
            }
            begin(heap, generation);
            assert_int_equal(finish(heap), 10);
            struct heap_collection result;
            heap_last_collection(heap, &result);
            assert_int_equal(result.freed, 10);
            assert_int_equal(result.generation, generation);
            for (unsigned i = 0; i < 10; i++) {
                assert_int_equal(heap_find(heap, ids[i]), 0);
            }
            assert_int_equal(heap_gc_generation(heap, keeper), generation < 2 ? generation + 1 : 2);
            drop(heap, keeper);
            heap_settle(heap);
        }
    }
}

static void test_slices_count_one_that_fits_as_done(void **state)
{
    struct heap *heap = *state;
    struct heap_collection result;
    uint64_t id;
    for (int generation = 0; generation <= 2; generation++) {
        heap->gc.small_max = generation == 0 ? GC_SMALL_MAX : 0;
        make_garbage(heap, &id);
        heap_set_slice(heap, LONG_US, 0);
        assert_int_equal(heap_collect_begin(&result, heap, generation, false), HEAP_DONE);
        assert_int_equal(result.unreachable, 1);
        assert_int_equal(result.freed, 1);
        assert_false(heap_is_collecting(heap));
    }
}

/* ---- random graphs, random changes ---- */

static void run_random(struct heap *heap, uint64_t seed, int generation, uint32_t by, bool saveall)
{
    struct graph graph;
    graph_init(&graph, heap, seed);
    graph.never_collects = true;
    for (unsigned i = 0; i < 60; i++) {
        graph_grow(&graph);
    }
    for (unsigned i = 0; i < 120; i++) {
        graph_change(&graph);
    }
    collect(heap, generation);
    for (unsigned i = 0; i < 60; i++) {
        graph_change(&graph);
    }
    uint64_t ids[32];
    for (unsigned i = 0; i < 32; i++) {
        OK(heap_id(&ids[i], heap, graph_any(&graph)));
    }
    for (unsigned i = 0; i < 30 && graph.count > 8; i++) {
        graph_drop(&graph, graph_random(&graph, graph.count));
    }
    heap_settle(heap);
    fixture_check(heap);
    heap_gc_set_debug(heap, saveall ? HEAP_GC_SAVEALL : 0);
    slice_by(heap, by);
    struct heap_collection result;
    if (heap_collect_begin(&result, heap, generation, false) == HEAP_GOES_ON) {
        while (heap_step(heap, LONG_US)) {
            fixture_check(heap);
            if (!gc_is_judging(&heap->gc)) { /* it changes whatever it finds, and cannot wait */
                graph_change(&graph);
                fixture_check(heap);
            }
            heap_ref found = heap_find(heap, ids[graph_random(&graph, 32)]);
            if (found != 0 && graph_random(&graph, 4) == 0) {
                OK(heap_incref(heap, found));
                graph_keep(&graph, found);
            }
            (void)heap_take_wait(heap);
        }
    }
    fixture_check(heap);
    heap_gc_set_debug(heap, 0);
    heap_garbage_clear(heap);
    graph_fini(&graph);
    heap_settle(heap);
    char name[HEAP_NAME_BYTES_MAX];
    const char *next;
    size_t len;
    heap_ref obj;
    while (heap_name_next(heap, "", 0, "", 0, &next, &len, &obj)) {
        memcpy(name, next, len);
        OK(heap_name_unbind(heap, name, len));
        heap_settle(heap);
    }
    collect(heap, 2);
    heap_settle(heap);
}

static void test_slices_keep_random_graphs_whole(void **state)
{
    struct heap *heap = *state;
    uint64_t seed = graph_seed();
    for (unsigned round = 0; round < (fixture_is_small() ? 3 : 90); round++) {
        run_random(heap, seed + round, (int)(round % 3), 1 + round % 4, round % 5 == 0);
    }
}

/* ---- what is made, moved or named meanwhile ---- */

static void test_slices_leave_out_what_is_made_meanwhile(void **state)
{
    struct heap *heap = *state;
    uint64_t id;
    for (int generation = 0; generation <= 2; generation++) {
        slice_by(heap, 1);
        make_garbage(heap, &id);
        heap_ref keeper = keep(heap, new_list(heap));
        begin(heap, generation);
        heap_ref young = make_garbage(heap, &id);
        assert_int_equal(finish(heap), 1);
        assert_int_equal(heap_find(heap, id), young);
        assert_int_equal(heap_gc_generation(heap, young), 0);
        assert_int_equal(collect(heap, 0), 1);
        drop(heap, keeper);
        heap_settle(heap);
    }
}

/* An edge becomes a hold without a change of the count, before its list is scanned: each way that there is. */
static void test_slices_see_what_changes_its_owner(void **state)
{
    struct heap *heap = *state;
    for (unsigned way = 0; way < 8; way++) {
        int generation = way % 2 == 0 ? 2 : 1;
        heap_ref owner, key = keep(heap, new_int(heap, 1000)), moved = new_list(heap), value, own_key;
        bool added;
        heap_ref keeper = keep(heap, new_list(heap));
        switch (way / 2) {
        case 0:
            owner = new_list(heap);
            OK(heap_list_append_steal(heap, owner, moved));
            break;
        case 1:
            OK(heap_dict_create(&owner, heap, 0));
            OK(heap_incref(heap, key));
            OK(heap_dict_set_steal(heap, owner, key, moved));
            break;
        case 2: /* a frozenset in a set */
            heap_decref(heap, moved);
            OK(heap_set_create(&moved, heap, true, 0));
            OK(heap_set_create(&owner, heap, false, 0));
            OK(heap_set_add_steal(&added, heap, owner, moved));
            break;
        default: /* filled and made a hole again */
            owner = new_list(heap);
            OK(heap_list_append_steal(heap, owner, 0));
            heap_fill_steal(heap, owner, 0, moved);
            break;
        }
        OK(heap_list_append_steal(heap, keeper, owner));
        slice_by(heap, 1);
        begin(heap, generation);
        step_to(heap, generation == 2 ? GC_ROOTS : GC_SUBTRACT);
        switch (way / 2) {
        case 0:
            value = heap_list_pop(heap, owner, 0);
            break;
        case 1:
            OK(heap_dict_pop(&own_key, &value, heap, owner, key));
            heap_decref(heap, own_key);
            break;
        case 2:
            OK(heap_set_discard(&value, heap, owner, moved));
            break;
        default:
            value = heap_unfill(heap, owner, 0);
            break;
        }
        assert_int_equal(value, moved);
        /* The caller's own: no root of the mark, nor an edge of a candidate.  The referee would miss an owner. */
        while (gc_is_determining(&heap->gc)) {
            heap_step(heap, LONG_US);
        }
        assert_true(heap_gc_is_tracked(heap, moved));
        keep(heap, moved);
        assert_int_equal(finish(heap), 0);
        drop(heap, moved);
        drop(heap, key);
        drop(heap, keeper);
        heap_settle(heap);
    }
}

static void test_slices_spare_what_is_asked_for_meanwhile(void **state)
{
    struct heap *heap = *state;
    for (int generation = 1; generation <= 2; generation++) {
        uint64_t by_id, by_weakref, other;
        slice_by(heap, 1);
        heap_ref a = make_garbage(heap, &by_id), b = make_garbage(heap, &by_weakref), weakref;
        link_to(heap, a, new_list(heap)); /* hangs on it */
        heap_decref(heap, heap_seq_item(heap, a, 1));
        OK(heap_weakref_shared(&weakref, heap, b));
        keep(heap, weakref);
        make_garbage(heap, &other);
        begin(heap, generation);
        step_to(heap, generation == 2 ? GC_ROOTS : GC_SUBTRACT);
        assert_int_equal(heap_find(heap, by_id), a);
        assert_int_equal(heap_weakref_target(heap, weakref), b);
        assert_int_equal(heap_take_wait(heap), HEAP_WAIT_NOTHING);
        assert_int_equal(finish(heap), 1);
        assert_int_equal(heap_find(heap, by_id), a);
        assert_int_equal(heap_weakref_target(heap, weakref), b);
        assert_int_equal(heap_find(heap, other), 0);
        assert_int_equal(collect(heap, 2), 3);
        drop(heap, weakref);
        heap_settle(heap);
    }
}

/* ---- who waits ---- */

static void test_slices_make_who_meets_a_condemned_object_wait(void **state)
{
    struct heap *heap = *state;
    struct recorder recorder;
    recorder_start(&recorder, heap);
    for (int generation = 0; generation <= 2; generation++) {
        uint64_t dead_id, saved_id, other_id;
        const char *name;
        size_t len;
        heap_ref obj, weakref;
        heap_ref keeper = keep(heap, new_list(heap));
        heap_ref dead = make_garbage(heap, &dead_id), saved = make_garbage(heap, &saved_id);
        heap_ref other = make_garbage(heap, &other_id);
        set_finalizer(heap, saved, "s", "n", false);
        set_finalizer(heap, other, "o", NULL, false);
        OK(heap_weakref_shared(&weakref, heap, dead));
        keep(heap, weakref);
        slice_by(heap, 1);
        begin(heap, generation);
        step_to(heap, GC_WEAKREFS);
        assert_int_equal(heap_weakref_target(heap, weakref), 0);
        assert_int_equal(heap_take_wait(heap), HEAP_WAIT_NOTHING);
        assert_int_equal(heap_find(heap, dead_id), 0);
        assert_int_equal(heap_take_wait(heap), HEAP_WAIT_VERDICT);
        assert_false(heap_wait_is_over(heap, HEAP_WAIT_VERDICT));
        assert_int_equal(heap_find(heap, saved_id), 0);
        assert_int_equal(heap_take_wait(heap), HEAP_WAIT_VERDICT);
        struct heap_collection result;
        assert_int_equal(heap_collect_begin(&result, heap, 0, false), HEAP_BUSY);
        assert_false(heap_wait_is_over(heap, HEAP_WAIT_COLLECTION));
        assert_false(heap_is_still(heap));
        assert_int_equal(heap_take_wait(heap), HEAP_WAIT_COLLECTION);
        step_to(heap, GC_FINALIZE);
        while (heap->name_count == 0) {
            heap_step(heap, LONG_US);
            fixture_check(heap);
        }
        assert_true(gc_is_judging(&heap->gc));
        assert_int_equal(heap_name_find(heap, "n", 1), 0);
        assert_int_equal(heap_take_wait(heap), HEAP_WAIT_VERDICT);
        assert_false(heap_name_next(heap, "", 0, "", 0, &name, &len, &obj));
        assert_int_equal(heap_take_wait(heap), HEAP_WAIT_VERDICT);
        assert_int_not_equal(heap_name_bind(heap, "n", 1, keeper), HEAP_OK);
        assert_int_equal(heap_take_wait(heap), HEAP_WAIT_VERDICT);
        assert_int_not_equal(heap_name_unbind(heap, "n", 1), HEAP_OK);
        assert_int_equal(heap_take_wait(heap), HEAP_WAIT_VERDICT);
        OK(heap_name_bind(heap, "m", 1, keeper)); /* any other name is free */
        OK(heap_name_unbind(heap, "m", 1));
        step_to(heap, GC_STRIP);
        assert_int_equal(heap_find(heap, dead_id), 0);
        assert_int_equal(heap_take_wait(heap), HEAP_WAIT_NOTHING);
        assert_int_equal(heap_find(heap, saved_id), saved);
        assert_int_equal(heap_name_find(heap, "n", 1), saved);
        assert_int_equal(heap_take_wait(heap), HEAP_WAIT_NOTHING);
        assert_int_equal(finish(heap), 2);
        assert_true(heap_wait_is_over(heap, HEAP_WAIT_VERDICT));
        assert_true(heap_wait_is_over(heap, HEAP_WAIT_COLLECTION));
        assert_true(heap_is_still(heap));
        assert_int_equal(recorder.resurrected, generation + 1);
        assert_int_equal(recorder.finalized, 2 * (generation + 1));
        OK(heap_name_unbind(heap, "n", 1));
        drop(heap, weakref);
        drop(heap, keeper);
        assert_int_equal(collect(heap, 2), 1);
    }
    recorder_stop(&recorder, heap);
}

/* What only garbage refers to is neither there nor gone until that has dropped it. */
/* A shared weakref that is condemned was given to whoever asked its target for one, before the machine had come to
 * telling it: a hold on what was then freed. */
static void test_slices_make_a_new_weakref_when_the_shared_one_is_condemned(void **state)
{
    struct heap *heap = *state;
    for (unsigned is_literal = 0; is_literal < 2; is_literal++) {
        heap_ref target = keep(heap, new_list(heap)), old, made, again;
        uint64_t id;
        heap_ref garbage = make_garbage(heap, &id);
        OK(heap_weakref_shared(&old, heap, target));
        OK(heap_list_append_steal(heap, garbage, old));
        slice_by(heap, 1);
        begin(heap, 2);
        step_to(heap, GC_WEAKREFS);
        assert_true(gc_is_condemned(&heap->gc, old) && heap->gc.cursor <= old);
        if (is_literal) {
            OK(heap_weakref_create(&made, heap));
            OK(heap_weakref_aim(heap, made, target));
        } else {
            OK(heap_weakref_shared(&made, heap, target));
        }
        assert_int_not_equal(made, old);
        keep(heap, made);
        assert_int_equal(finish(heap), 2);
        assert_int_equal(heap_weakref_target(heap, made), target);
        assert_int_equal(heap_weakref_count(heap, target), 1);
        OK(heap_weakref_shared(&again, heap, target));
        assert_int_equal(again, made);
        heap_decref(heap, again);
        drop(heap, made);
        drop(heap, target);
    }
}

static void test_slices_make_who_meets_what_hangs_on_garbage_wait(void **state)
{
    struct heap *heap = *state;
    for (int generation = 1; generation <= 2; generation++) {
        uint64_t id, atom_id, kept_id;
        make_garbage(heap, &id);
        make_garbage(heap, &id);
        heap_ref list = make_garbage(heap, &id), atom = new_int(heap, 5000), kept = new_int(heap, 6000);
        heap_ref keeper = keep(heap, new_list(heap));
        OK(heap_id(&atom_id, heap, atom));
        OK(heap_id(&kept_id, heap, kept));
        OK(heap_list_append_steal(heap, list, atom));
        link_to(heap, list, kept);
        OK(heap_list_append_steal(heap, keeper, kept));
        slice_by(heap, 1);
        begin(heap, generation);
        step_to(heap, GC_STRIP);
        assert_int_equal(heap_find(heap, atom_id), 0);
        assert_int_equal(heap_take_wait(heap), HEAP_WAIT_VERDICT);
        assert_int_equal(heap_find(heap, kept_id), 0);
        assert_int_equal(heap_take_wait(heap), HEAP_WAIT_VERDICT);
        assert_int_equal(finish(heap), 3);
        assert_int_equal(heap_find(heap, atom_id), 0);
        assert_int_equal(heap_find(heap, kept_id), kept);
        assert_int_equal(heap_take_wait(heap), HEAP_WAIT_NOTHING);
        drop(heap, keeper);
        heap_settle(heap);
    }
}

static void test_slices_and_walks_wait_for_each_other(void **state)
{
    struct heap *heap = *state;
    uint64_t id;
    struct heap_collection result;
    slice_by(heap, 1);
    make_garbage(heap, &id);
    struct heap_picture *picture = heap_picture_begin(heap, HEAP_PICTURE_GRAPH);
    assert_non_null(picture);
    assert_int_equal(heap_collect_begin(&result, heap, 2, false), HEAP_BUSY);
    assert_false(heap_wait_is_over(heap, HEAP_WAIT_COLLECTION));
    assert_int_equal(heap_collect_begin(&result, heap, 1, false), HEAP_BUSY);
    heap->gc.small_max = GC_SMALL_MAX;
    heap_set_slice(heap, LONG_US, 0);
    assert_int_equal(heap_collect_begin(&result, heap, 1, false), HEAP_DONE); /* in one go */
    assert_int_equal(result.unreachable, 1);
    make_garbage(heap, &id);
    assert_int_equal(collect(heap, 2), 1);
    heap_picture_destroy(picture);
    assert_true(heap_wait_is_over(heap, HEAP_WAIT_COLLECTION));
    slice_by(heap, 1);
    make_garbage(heap, &id);
    begin(heap, 2);
    picture = heap_picture_begin(heap, HEAP_PICTURE_GRAPH); /* who does not wait ends it */
    assert_false(heap_is_collecting(heap));
    assert_int_equal(heap_find(heap, id), 0);
    heap_picture_destroy(picture);
}

/* ---- young ones inside ---- */

static void test_slices_have_small_young_collections_between_them(void **state)
{
    struct heap *heap = *state;
    struct recorder recorder;
    recorder_start(&recorder, heap);
    recorder.collections = true;
    uint64_t id, old_id;
    heap_ref keeper = keep(heap, new_list(heap));
    for (unsigned i = 0; i < 50; i++) {
        OK(heap_list_append_steal(heap, keeper, new_list(heap)));
    }
    make_garbage(heap, &old_id);
    slice_by(heap, 1);
    begin(heap, 2);
    step_to(heap, GC_ROOTS);
    heap->gc.small_max = GC_SMALL_MAX;
    heap_gc_set_threshold(heap, (uint32_t[]){2, 0, 100});
    heap_ref survivor = new_list(heap);
    OK(heap_list_append_steal(heap, keeper, survivor));
    for (unsigned round = 1; round <= 3; round++) {
        for (unsigned i = 0; i < 3; i++) {
            make_garbage(heap, &id);
        }
        (void)heap_gc_poll(heap);
        assert_int_equal(heap->gc.state, GC_ROOTS);
        fixture_check(heap);
        assert_int_equal(heap_find(heap, id), 0);
        assert_int_equal(heap_gc_generation(heap, survivor), round > 1 ? 2 : 1);
    }
    assert_int_equal(finish(heap), 1);
    assert_int_equal(heap_find(heap, old_id), 0);
    assert_string_equal(recorder_told(&recorder), "start 2\nstart 0 auto\nstop 0 3 3\nstart 1 auto\nstop 1 3 3\n"
                                                  "start 0 auto\nstop 0 3 3\nstop 2 1 1\n");
    recorder_stop(&recorder, heap);
    drop(heap, keeper);
}

/* The machine's candidates count in generation 1 already; a collection of that between two slices leaves them there. */
static void test_slices_of_generation_0_have_generation_1_collected_between_them(void **state)
{
    static const enum gc_state times[] = {GC_SUBTRACT, GC_FREE, GC_RETURN};
    struct heap *heap = *state;
    for (unsigned i = 0; i < 3; i++) {
        struct heap_stats before, after;
        uint64_t id;
        heap_ref keeper = keep(heap, new_list(heap));
        collect(heap, 2);
        for (unsigned k = 0; k < 20; k++) {
            OK(heap_list_append_steal(heap, keeper, new_list(heap)));
            make_garbage(heap, &id);
        }
        heap_stats(&before, heap);
        slice_by(heap, 1);
        begin(heap, 0);
        step_to(heap, times[i]);
        heap->gc.small_max = GC_SMALL_MAX;
        heap_gc_set_threshold(heap, (uint32_t[]){1, 0, 100});
        heap_ref newer = new_list(heap);
        OK(heap_list_append_steal(heap, keeper, newer));
        make_garbage(heap, &id);
        (void)heap_gc_poll(heap);
        assert_int_equal(heap->gc.state, times[i]);
        assert_int_equal(heap_gc_generation(heap, newer), 2);
        assert_int_equal(heap_find(heap, id), 0);
        fixture_check(heap);
        assert_int_equal(finish(heap), 20);
        heap_stats(&after, heap);
        assert_int_equal(after.generations[0].objects, 0);
        assert_true(after.generations[1].objects + after.generations[2].objects == before.generations[2].objects + 21);
        drop(heap, keeper);
        heap_settle(heap);
    }
}

/* ---- large containers ---- */

#define LARGE 20000u

/* A list of lists, scanned from the end: items are moved over the place where the scan is. */
static void test_slices_follow_a_list_that_changes_while_it_is_scanned(void **state)
{
    struct heap *heap = *state;
    for (unsigned round = 0; round < 6; round++) {
        int generation = round % 2 == 0 ? 2 : 1;
        heap_ref large = keep(heap, new_list(heap)), spare = keep(heap, new_list(heap));
        uint64_t id;
        for (unsigned i = 0; i < LARGE; i++) {
            OK(heap_list_append_steal(heap, large, new_list(heap)));
        }
        make_garbage(heap, &id);
        slice_by(heap, 1);
        begin(heap, generation);
        while (heap->gc.partial.ref != large) {
            heap_step(heap, LONG_US);
        }
        unsigned changes = 0;
        while (heap->gc.partial.ref == large) {
            switch (round / 2) {
            case 0: /* the first becomes the last, over and over: nothing is new, all move down */
                OK(heap_list_append_steal(heap, large, heap_list_pop(heap, large, 0)));
                break;
            case 1: /* the last becomes the first: all move up */
                OK(heap_list_insert_steal(heap, large, 0, heap_list_pop(heap, large, heap_seq_len(heap, large) - 1)));
                break;
            default:
                OK(heap_list_append_steal(heap, spare, heap_list_pop(heap, large, 5)));
                OK(heap_list_insert_steal(heap, large, 7, new_list(heap)));
                break;
            }
            changes++;
            if (changes % 3 == 0) {
                heap_step(heap, LONG_US);
            }
        }
        fixture_check(heap);
        while (heap_step(heap, LONG_US)) {
        }
        struct heap_collection result;
        heap_last_collection(heap, &result);
        assert_int_equal(result.unreachable, 1);
        fixture_check(heap);
        drop(heap, large);
        drop(heap, spare);
        heap_settle(heap);
    }
}

/* A dict of lists loses most of its entries while it is scanned, and so is compacted. */
static void test_slices_follow_a_dict_that_is_compacted_while_it_is_scanned(void **state)
{
    struct heap *heap = *state;
    for (int generation = 1; generation <= 2; generation++) {
        heap_ref large, key, own_key, value;
        uint64_t id;
        OK(heap_dict_create(&large, heap, 0));
        keep(heap, large);
        for (unsigned i = 0; i < LARGE; i++) {
            OK(heap_dict_set_steal(heap, large, new_int(heap, i), new_list(heap)));
        }
        make_garbage(heap, &id);
        slice_by(heap, 1);
        begin(heap, generation);
        while (heap->gc.partial.ref != large) {
            heap_step(heap, LONG_US);
        }
        for (unsigned i = 0; i < LARGE; i++) {
            if (i % 16 != 3) {
                key = new_int(heap, i);
                OK(heap_dict_pop(&own_key, &value, heap, large, key));
                heap_decref(heap, own_key);
                heap_decref(heap, value);
                heap_decref(heap, key);
                heap_settle(heap);
            }
            if (i % 1000 == 0) {
                heap_step(heap, LONG_US);
                fixture_check(heap);
            }
        }
        while (heap_step(heap, LONG_US)) {
        }
        struct heap_collection result;
        heap_last_collection(heap, &result);
        assert_int_equal(result.unreachable, 1);
        assert_int_equal(heap_dict_len(heap, large), LARGE / 16);
        fixture_check(heap);
        drop(heap, large);
        heap_settle(heap);
    }
}

static void test_slices_strip_large_garbage_in_pieces(void **state)
{
    struct heap *heap = *state;
    for (int generation = 1; generation <= 2; generation++) {
        heap_ref large = new_list(heap), dict, keeper = keep(heap, new_list(heap));
        link_to(heap, large, large);
        OK(heap_dict_create(&dict, heap, 0));
        for (unsigned i = 0; i < LARGE; i++) {
            OK(heap_list_append_steal(heap, large, new_int(heap, 1000 + i)));
            link_to(heap, large, keeper);
            OK(heap_dict_set_steal(heap, dict, new_int(heap, i), new_list(heap)));
        }
        link_to(heap, large, dict);
        heap_decref(heap, dict);
        heap_decref(heap, large);
        slice_by(heap, 64);
        begin(heap, generation);
        unsigned slices = 0;
        for (; heap_step(heap, LONG_US); slices++) {
            if (slices % 97 == 0) {
                fixture_check(heap);
            }
        }
        struct heap_collection result;
        heap_last_collection(heap, &result);
        assert_int_equal(result.unreachable, 2 + LARGE);
        assert_int_equal(heap_refcount(heap, keeper), 1);
        fixture_check(heap);
        drop(heap, keeper);
        heap_settle(heap);
    }
}

/* ---- saveall, frozen objects, no memory ---- */

static void test_slices_save_all_at_one_moment(void **state)
{
    struct heap *heap = *state;
    for (int generation = 0; generation <= 2; generation++) {
        uint64_t ids[20], weak_id;
        heap_ref atom = new_int(heap, 7000);
        for (unsigned i = 0; i < 20; i++) {
            link_to(heap, make_garbage(heap, &ids[i]), atom);
        }
        OK(heap_id(&weak_id, heap, atom));
        heap_decref(heap, atom);
        heap_gc_set_debug(heap, HEAP_GC_SAVEALL);
        slice_by(heap, 1);
        begin(heap, generation);
        step_to(heap, GC_SAVE);
        assert_int_equal(heap_find(heap, ids[3]), 0);
        assert_int_equal(heap_take_wait(heap), HEAP_WAIT_VERDICT);
        assert_int_equal(heap_garbage_len(heap), 20u * (unsigned)generation);
        while (!heap->gc.saves && heap->gc.state < GC_KEEP) {
            heap_step(heap, LONG_US);
            fixture_check(heap);
        }
        assert_int_not_equal(heap_find(heap, ids[3]), 0);
        assert_int_equal(heap_take_wait(heap), HEAP_WAIT_NOTHING);
        assert_int_equal(finish(heap), 20);
        assert_int_equal(heap_garbage_len(heap), 20u * (unsigned)(generation + 1));
        assert_int_equal(heap_find(heap, weak_id), atom);
        struct heap_collection result;
        heap_last_collection(heap, &result);
        assert_int_equal(result.freed, 0);
    }
    begin(heap, 2);
    assert_int_equal(finish(heap), 0);
    heap_gc_set_debug(heap, 0);
    heap_garbage_clear(heap);
    assert_int_equal(collect(heap, 2), 60);
}

/* gc.garbage is emptied while what has been saved is on its way there. */
static void test_slices_save_into_a_list_that_is_emptied(void **state)
{
    struct heap *heap = *state;
    uint64_t id;
    heap_gc_set_debug(heap, HEAP_GC_SAVEALL);
    for (unsigned i = 0; i < 3000; i++) {
        make_garbage(heap, &id);
    }
    assert_int_equal(collect(heap, 2), 3000);
    for (unsigned i = 0; i < 3000; i++) {
        make_garbage(heap, &id);
    }
    slice_by(heap, 1);
    begin(heap, 2);
    while (heap->gc.state != GC_KEEP || heap->gc.next == 0) {
        heap_step(heap, LONG_US);
    }
    fixture_check(heap);
    uint64_t there = heap_garbage_len(heap);
    assert_in_range(there, 3001, 5999);
    heap_garbage_clear(heap);
    heap_settle(heap);
    fixture_check(heap);
    assert_int_equal(finish(heap), 3000);
    assert_int_equal(heap_garbage_len(heap), 6000 - there);
    heap_gc_set_debug(heap, 0);
    heap_garbage_clear(heap);
    collect(heap, 2);
}

static void test_slices_begin_at_frozen_objects_too(void **state)
{
    struct heap *heap = *state;
    uint64_t id;
    heap_ref frozen = make_garbage(heap, &id);
    for (unsigned i = 0; i < 100; i++) {
        OK(heap_list_append_steal(heap, frozen, new_list(heap)));
    }
    heap_gc_freeze(heap);
    heap_ref kept = new_list(heap);
    OK(heap_list_append_steal(heap, frozen, kept));
    make_garbage(heap, &id);
    slice_by(heap, 1);
    begin(heap, 2);
    step_to(heap, GC_FROZEN);
    assert_int_equal(finish(heap), 1);
    assert_int_equal(heap_gc_generation(heap, kept), 2);
    begin(heap, 2);
    heap_gc_unfreeze(heap); /* ends what is under way */
    assert_false(heap_is_collecting(heap));
    assert_int_equal(collect(heap, 2), 102);
}

static void test_slices_scan_again_what_the_stack_could_not_take(void **state)
{
    struct heap *heap = *state;
    heap->gc.stack_max = GC_STACK_ROOM;
    heap_ref star = keep(heap, new_list(heap));
    for (int i = 0; i < 20000; i++) {
        heap_ref arm = new_list(heap);
        OK(heap_list_append_steal(heap, arm, new_list(heap)));
        OK(heap_list_append_steal(heap, star, arm));
    }
    for (int generation = 1; generation <= 2; generation++) {
        uint64_t id;
        make_garbage(heap, &id);
        slice_by(heap, 50);
        begin(heap, generation);
        bool rescanned = false;
        for (unsigned slices = 0; heap_step(heap, LONG_US); slices++) {
            rescanned = rescanned || heap->gc.state == GC_RESCAN;
            if (slices % 101 == 0) {
                fixture_check(heap);
            }
        }
        assert_true(rescanned);
        struct heap_collection result;
        heap_last_collection(heap, &result);
        assert_int_equal(result.unreachable, 1);
        assert_int_equal(fixture_live(heap), 40001);
        fixture_check(heap);
    }
    drop(heap, star);
}

/* ---- finalizers ---- */

static void test_slices_run_finalizers_in_the_order_of_registration(void **state)
{
    struct heap *heap = *state;
    struct recorder recorder;
    recorder_start(&recorder, heap);
    enum { COUNT = 300 };
    heap_ref lists[COUNT];
    unsigned order[COUNT];
    uint64_t id;
    for (unsigned i = 0; i < COUNT; i++) {
        lists[i] = make_garbage(heap, &id);
        order[i] = (i * 7919u) % COUNT;
    }
    char token[8];
    for (unsigned i = 0; i < COUNT; i++) {
        snprintf(token, sizeof token, "%u", i);
        set_finalizer(heap, lists[order[i]], token, i % 50 == 0 ? "n" : NULL, i % 3 == 0);
    }
    slice_by(heap, 1);
    begin(heap, 2);
    /* Each clears or not; the name is at last the one of 250. */
    uint64_t unreachable = finish(heap);
    assert_int_equal(unreachable, COUNT - COUNT / 3 - 1 + (250 % 3 == 0));
    const char *told = recorder_told(&recorder);
    for (unsigned i = 0, last = 0; i < COUNT; i++) {
        unsigned number, found;
        char lives[4];
        if (sscanf(told, "finalized %u %u %3s", &found, &number, lives) == 3 && number % 3 != 0) {
            assert_true(number >= last); /* those that did not clear themselves away are told of in order */
            last = number;
        }
        told = strchr(told, '\n') + 1;
    }
    assert_int_equal(recorder.finalized, COUNT);
    assert_int_equal(recorder.resurrected, 1);
    assert_int_equal(heap_name_find(heap, "n", 1), lists[order[250]]);
    OK(heap_name_unbind(heap, "n", 1));
    collect(heap, 2);
    recorder_stop(&recorder, heap);
}

/* What a finalizer brings back is reached in slices, and used meanwhile. */
static void test_slices_reach_what_is_brought_back(void **state)
{
    struct heap *heap = *state;
    uint64_t id;
    heap_ref top = make_garbage(heap, &id), middle = new_list(heap), bottom = new_list(heap);
    OK(heap_list_append_steal(heap, top, middle));
    OK(heap_list_append_steal(heap, middle, bottom));
    for (unsigned i = 0; i < 40; i++) {
        OK(heap_list_append_steal(heap, middle, new_list(heap)));
    }
    heap_ref keeper = keep(heap, new_list(heap));
    set_finalizer(heap, top, "t", "n", false);
    slice_by(heap, 1);
    begin(heap, 2);
    step_to(heap, GC_NAMED);
    while (!bit_get(heap->gc.mark, middle)) {
        heap_step(heap, LONG_US);
    }
    assert_int_equal(heap_name_find(heap, "n", 1), top);
    heap_ref moved = heap_list_pop(heap, middle, 0); /* before it is scanned */
    assert_int_equal(moved, bottom);
    OK(heap_list_append_steal(heap, keeper, moved));
    assert_int_equal(finish(heap), 0);
    assert_int_equal(heap_gc_generation(heap, bottom), 2);
    OK(heap_name_unbind(heap, "n", 1));
    drop(heap, keeper);
    heap_settle(heap);
    assert_int_equal(collect(heap, 2), 42);
}

/* ---- how long a slice is ---- */

static void assert_bounded(struct heap *heap)
{
    struct heap_stats stats;
    heap_stats(&stats, heap);
    assert_in_range(stats.slice_objects_max, 1, 64);
    assert_in_range(stats.slice_refs_max, 1, 4096);
}

static void test_slices_look_at_the_clock_often_enough(void **state)
{
    struct heap *heap = *state;
    unsigned count = fixture_is_small() ? 2000 : 100000;
    for (int generation = 1; generation <= 2; generation++) {
        heap_ref large = new_list(heap), target = new_list(heap), weakref, dict, keeper = keep(heap, new_list(heap));
        link_to(heap, large, large);
        OK(heap_dict_create(&dict, heap, 0));
        for (unsigned i = 0; i < count; i++) {
            heap_ref list = new_list(heap);
            link_to(heap, list, large);
            OK(heap_weakref_notify(&weakref, heap, heap->sessions, target));
            link_to(heap, list, weakref);
            OK(heap_list_append_steal(heap, keeper, weakref));
            set_finalizer(heap, list, "f", NULL, false);
            OK(heap_dict_set_steal(heap, dict, new_int(heap, i), list));
            link_to(heap, large, target);
        }
        link_to(heap, large, dict);
        heap_decref(heap, dict);
        heap_decref(heap, target);
        heap_decref(heap, large);
        heap_set_slice(heap, 100, 0);
        begin(heap, generation);
        unsigned slices = 1;
        while (heap_step(heap, 100)) {
            slices++;
        }
        struct heap_collection result;
        heap_last_collection(heap, &result);
        assert_int_equal(result.unreachable, count + 3);
        assert_true(slices > 3);
        fixture_check(heap);
        drop(heap, keeper);
        heap_settle(heap);
    }
    assert_bounded(heap);
}

/* Five million lists, every second one garbage. */
static void test_slices_collect_five_million_objects(void **state)
{
    struct heap *heap = *state;
    if (fixture_is_small()) {
        print_message("skipped: five million lists take too long here\n");
        skip();
    }
    heap_ref last = 0, garbage_last = 0;
    enum { PAIRS = 2500000 };
    heap_gc_enable(heap, false);
    for (unsigned i = 0; i < PAIRS; i++) {
        heap_ref live = new_list(heap), garbage = new_list(heap);
        if (last != 0) {
            OK(heap_list_append_steal(heap, live, last));
        }
        if (garbage_last != 0) {
            OK(heap_list_append_steal(heap, garbage, garbage_last));
        }
        link_to(heap, garbage, live);
        last = live;
        garbage_last = garbage;
    }
    keep(heap, last);
    heap_ref end = garbage_last;
    while (heap_seq_len(heap, end) > 1) {
        end = heap_seq_item(heap, end, 0);
    }
    OK(heap_list_append_steal(heap, end, garbage_last)); /* a cycle of them all */
    heap_set_slice(heap, 500, 0);
    heap_ref keeper = keep(heap, new_list(heap));
    for (int generation = 1; generation <= 2; generation++) {
        begin(heap, generation);
        unsigned slices = 0;
        for (; heap_step(heap, 500); slices++) {
            OK(heap_list_append_steal(heap, keeper, new_list(heap)));
        }
        assert_true(slices > 10);
        struct heap_collection result;
        heap_last_collection(heap, &result);
        assert_int_equal(result.unreachable, generation == 1 ? PAIRS : 0);
    }
    assert_bounded(heap);
    fixture_check(heap);
}

/* ---- the referee ---- */

static void assert_complains(struct heap *heap)
{
    FILE *null = fopen("/dev/null", "w");
    assert_non_null(null);
    assert_int_not_equal(heap_check(heap, null), 0);
    fclose(null);
}

static void test_slices_are_checked_in_every_state(void **state)
{
    struct heap *heap = *state;
    uint64_t id;
    heap_ref keeper = keep(heap, new_list(heap)), kept = new_list(heap);
    OK(heap_list_append_steal(heap, keeper, kept));
    bit_set(heap->gc.mark, keeper);
    assert_complains(heap); /* a mark outside a collection */
    bit_clear(heap->gc.mark, keeper);
    heap_ref garbage = make_garbage(heap, &id);
    make_garbage(heap, &id);
    slice_by(heap, 1);
    begin(heap, 2);
    step_to(heap, GC_ROOTS);
    while (!bit_get(heap->gc.mark, kept) || heap->gc.stack_used > 0) {
        heap_step(heap, LONG_US);
    }
    assert_int_equal(heap->gc.state, GC_ROOTS);
    bit_clear(heap->gc.mark, kept);
    assert_complains(heap); /* the keeper is scanned, and what it refers to is not reached */
    bit_set(heap->gc.mark, kept);
    heap->gc.cycle_on = false;
    assert_complains(heap);
    heap->gc.cycle_on = true;
    fixture_check(heap);
    step_to(heap, GC_STRIP);
    bit_clear(heap->gc.mark, kept);
    assert_complains(heap); /* what lives refers to the condemned */
    bit_set(heap->gc.mark, kept);
    while (heap->gc.cursor <= garbage) {
        heap_step(heap, LONG_US);
    }
    fixture_check(heap);
    object_at(heap, keeper)->refcount++;
    assert_complains(heap);
    object_at(heap, keeper)->refcount--;
    step_to(heap, GC_FREE);
    fixture_check(heap);
    finish(heap);
    make_garbage(heap, &id);
    heap_ref second = make_garbage(heap, &id);
    begin(heap, 1);
    bit_set(heap->gc.young, second + 1);
    assert_complains(heap); /* a candidate where no object is */
    bit_clear(heap->gc.young, second + 1);
    heap->gc.target = 0;
    assert_complains(heap); /* the candidates count elsewhere */
    heap->gc.target = 2;
    finish(heap);
    drop(heap, keeper);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_slices_find_what_one_go_finds),
        TEST(test_slices_count_one_that_fits_as_done),
        TEST(test_slices_keep_random_graphs_whole),
        TEST(test_slices_leave_out_what_is_made_meanwhile),
        TEST(test_slices_see_what_changes_its_owner),
        TEST(test_slices_spare_what_is_asked_for_meanwhile),
        TEST(test_slices_make_who_meets_a_condemned_object_wait),
        TEST(test_slices_make_a_new_weakref_when_the_shared_one_is_condemned),
        TEST(test_slices_make_who_meets_what_hangs_on_garbage_wait),
        TEST(test_slices_and_walks_wait_for_each_other),
        TEST(test_slices_have_small_young_collections_between_them),
        TEST(test_slices_of_generation_0_have_generation_1_collected_between_them),
        TEST(test_slices_follow_a_list_that_changes_while_it_is_scanned),
        TEST(test_slices_follow_a_dict_that_is_compacted_while_it_is_scanned),
        TEST(test_slices_strip_large_garbage_in_pieces),
        TEST(test_slices_save_all_at_one_moment),
        TEST(test_slices_save_into_a_list_that_is_emptied),
        TEST(test_slices_begin_at_frozen_objects_too),
        TEST(test_slices_scan_again_what_the_stack_could_not_take),
        TEST(test_slices_run_finalizers_in_the_order_of_registration),
        TEST(test_slices_reach_what_is_brought_back),
        TEST(test_slices_look_at_the_clock_often_enough),
        TEST(test_slices_collect_five_million_objects),
        TEST(test_slices_are_checked_in_every_state),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
