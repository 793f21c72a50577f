/* test_garbage.c -- gc.garbage and the debug flags, the events of collections, and the listing of generations.
 */
#include "heap_fixture.h"
#include "heap_recorder.h"
#include "../../heap/visit.h"

#include <stdlib.h>

static heap_ref self_cycle(struct heap *heap)
{
    heap_ref list = new_list(heap);
    link_to(heap, list, list);
    return list;
}

/* ---- gc.garbage ---- */

static void test_garbage_saveall_keeps_what_is_condemned(void **state)
{
    struct heap *heap = *state;
    heap_gc_set_debug(heap, HEAP_GC_SAVEALL);
    assert_int_equal(heap_gc_debug(heap), HEAP_GC_SAVEALL);
    for (int generation = 0; generation <= 2; generation++) {
        heap_ref list = self_cycle(heap);
        unsigned id = id_of(heap, list);
        heap_decref(heap, list);
        struct heap_collection result;
        heap_collect(&result, heap, generation);
        assert_int_equal(result.unreachable, 1);
        assert_int_equal(result.freed, 0);
        assert_int_equal(heap_garbage_len(heap), generation + 1);
        assert_int_equal(heap_garbage_item(heap, (uint64_t)generation), list);
        assert_int_equal(heap_refcount(heap, list), 2);
        assert_int_equal(heap_find(heap, id), list);
        assert_int_equal(heap_gc_generation(heap, list), generation < 2 ? generation + 1 : 2);
        fixture_check(heap);
    }
    assert_int_equal(collect(heap, 2), 0); /* they are roots */
    heap_gc_set_debug(heap, 0);
    assert_int_equal(collect(heap, 2), 0);
    heap_garbage_clear(heap);
    assert_int_equal(heap_garbage_len(heap), 0);
    assert_int_equal(collect(heap, 2), 3);
}

static void test_garbage_saveall_finalizes_as_ever_and_keeps_all_that_is_condemned(void **state)
{
    struct heap *heap = *state;
    struct recorder recorder;
    assert_non_null(heap_session_create(heap));
    recorder_start(&recorder, heap);
    heap_gc_set_debug(heap, HEAP_GC_SAVEALL);
    heap_ref a = self_cycle(heap), child = new_list(heap), saved = self_cycle(heap), weakref;
    OK(heap_list_append_steal(heap, a, child));
    OK(heap_list_append_steal(heap, a, new_int(heap, 1000)));
    OK(heap_weakref_shared(&weakref, heap, a));
    keep(heap, weakref);
    OK(heap_finalizer_set(heap, NULL, a, &(struct heap_finalizer){.token = {"a", 1}}));
    OK(heap_finalizer_set(heap, NULL, saved, &(struct heap_finalizer){.resurrect_as = {"n", 1}}));
    heap_decref(heap, a);
    heap_decref(heap, saved);
    assert_int_equal(collect(heap, 2), 2); /* a and child */
    assert_int_equal(heap_garbage_len(heap), 2);
    assert_int_equal(recorder.finalized, 2);
    assert_int_equal(recorder.resurrected, 1);
    assert_true(heap_is_finalized(heap, a));
    assert_int_equal(heap_weakref_target(heap, weakref), 0);
    assert_int_equal(heap_refcount(heap, child), 2);
    fixture_check(heap);
    heap_gc_set_debug(heap, 0);
    heap_garbage_clear(heap);
    OK(heap_name_unbind(heap, "n", 1));
    assert_int_equal(collect(heap, 2), 3);
    assert_int_equal(recorder.finalized, 2);
    recorder_stop(&recorder, heap);
}

/* Entries that nothing else refers to die when the list is emptied. */
static void test_garbage_clear_lets_die_by_refcount(void **state)
{
    struct heap *heap = *state;
    heap_gc_set_debug(heap, HEAP_GC_SAVEALL);
    heap_ref list = self_cycle(heap);
    heap_decref(heap, list);
    assert_int_equal(collect(heap, 0), 1);
    heap_list_clear(heap, list);
    assert_int_equal(heap_refcount(heap, list), 1);
    heap_gc_set_debug(heap, 0);
    heap_garbage_clear(heap);
    assert_int_equal(heap_settle(heap), 1);
}

static void test_garbage_list_grows(void **state)
{
    struct heap *heap = *state;
    heap_gc_set_debug(heap, HEAP_GC_SAVEALL);
    for (unsigned round = 1; round <= 3; round++) {
        for (unsigned i = 0; i < 1000; i++) {
            heap_decref(heap, self_cycle(heap));
        }
        assert_int_equal(collect(heap, (int)round - 1), 1000);
        assert_int_equal(heap_garbage_len(heap), round * 1000);
    }
    fixture_check(heap);
    heap_gc_set_debug(heap, 0);
    heap_garbage_clear(heap);
    assert_int_equal(collect(heap, 2), 3000);
}

static void test_garbage_without_memory_is_freed(void **state)
{
    struct heap *heap = *state;
    heap_gc_set_debug(heap, HEAP_GC_SAVEALL);
    for (int generation = 0; generation <= 2; generation++) {
        heap_decref(heap, self_cycle(heap));
        heap_set_limits(heap, &(struct heap_limits){.max_bytes = 1});
        struct heap_collection result;
        heap_collect(&result, heap, generation);
        assert_int_equal(result.unreachable, 1);
        assert_int_equal(result.freed, 1);
        assert_int_equal(heap_garbage_len(heap), 0);
        heap_set_limits(heap, &(struct heap_limits){0});
        fixture_check(heap);
    }
    heap_gc_set_debug(heap, 0);
}

static void test_garbage_goes_with_the_heap(void **state)
{
    (void)state;
    struct heap *heap = fixture_heap();
    heap_enter(heap);
    heap_gc_set_debug(heap, HEAP_GC_SAVEALL);
    heap_decref(heap, self_cycle(heap));
    assert_int_equal(collect(heap, 2), 1);
    heap_ref list = new_list(heap);
    OK(heap_finalizer_set(heap, NULL, list, &(struct heap_finalizer){.token = {"never", 5}}));
    heap_leave(heap);
    heap_destroy(heap);
}

/* ---- events of collections ---- */

static void test_garbage_collections_tell_start_and_stop(void **state)
{
    struct heap *heap = *state;
    struct recorder recorder;
    recorder_start(&recorder, heap);
    recorder.collections = true;
    heap_ref list = self_cycle(heap);
    OK(heap_list_append_steal(heap, list, new_int(heap, 1000)));
    heap_decref(heap, list);
    collect(heap, 1);
    assert_string_equal(recorder_told(&recorder), "start 1\nstop 1 1 2\n");
    collect(heap, 2);
    assert_string_equal(recorder_told(&recorder), "start 2\nstop 2 0 0\n");
    recorder_stop(&recorder, heap);
}

static void test_garbage_automatic_collections_say_so(void **state)
{
    struct heap *heap = *state;
    struct recorder recorder;
    collect(heap, 2);
    heap_gc_set_threshold(heap, (const uint32_t[3]){2, 10, 10});
    recorder_start(&recorder, heap);
    recorder.collections = true;
    for (unsigned i = 0; i < 3; i++) {
        assert_string_equal(recorder_told(&recorder), "");
        keep(heap, new_list(heap));
        heap_gc_poll(heap);
    }
    assert_string_equal(recorder_told(&recorder), "start 0 auto\nstop 0 0 0\n");
    recorder_stop(&recorder, heap);
}

/* Between start and stop: weakrefs, then finalizers. */
static void test_garbage_events_of_a_collection_are_in_order(void **state)
{
    struct heap *heap = *state;
    struct recorder recorder;
    assert_non_null(heap_session_create(heap));
    recorder_start(&recorder, heap);
    recorder.collections = true;
    heap_ref a = self_cycle(heap), weakref, dying = new_list(heap);
    OK(heap_finalizer_set(heap, NULL, dying, &(struct heap_finalizer){.token = {"d", 1}}));
    OK(heap_weakref_notify(&weakref, heap, heap->sessions, a));
    keep(heap, weakref);
    OK(heap_finalizer_set(heap, NULL, a, &(struct heap_finalizer){.token = {"a", 1}}));
    char expected[200];
    snprintf(expected, sizeof expected,
             "finalized %u d no\nstart 2\nweakref %u of %u to %u\nfinalized %u a no\nstop 2 1 1\n",
             id_of(heap, dying), id_of(heap, weakref), id_of(heap, a),
             (unsigned)heap_session_number(heap->sessions), id_of(heap, a));
    heap_decref(heap, dying); /* it dies before the collection begins */
    heap_decref(heap, a);
    collect(heap, 2);
    assert_string_equal(recorder_told(&recorder), expected);
    recorder_stop(&recorder, heap);
}

/* ---- the log ---- */

static void test_garbage_stats_say_what_a_collection_did(void **state)
{
    struct heap *heap = *state;
    struct recorder recorder;
    recorder_start(&recorder, heap);
    heap_decref(heap, self_cycle(heap));
    heap_gc_set_debug(heap, HEAP_GC_STATS);
    collect(heap, 0);
    const char *told = recorder_told(&recorder);
    const char *expected = "gc: collecting generation 0...\ngc: objects in each generation: 1 0 0\n"
                           "gc: objects in permanent generation: 0\ngc: done, 1 unreachable, 0 uncollectable, ";
    assert_memory_equal(told, expected, strlen(expected));
    assert_non_null(strstr(told, "s elapsed\n"));
    heap_gc_set_debug(heap, 0);
    collect(heap, 0);
    assert_string_equal(recorder_told(&recorder), "");
    recorder_stop(&recorder, heap);
}

static unsigned lines_with(const char *text, const char *part)
{
    unsigned count = 0;
    for (const char *at = strstr(text, part); at != NULL; at = strstr(at + 1, part)) {
        count++;
    }
    return count;
}

static void test_garbage_collectable_names_a_hundred_objects(void **state)
{
    struct heap *heap = *state;
    struct recorder recorder;
    recorder_start(&recorder, heap);
    heap_gc_set_debug(heap, HEAP_GC_COLLECTABLE | HEAP_GC_UNCOLLECTABLE);
    for (int generation = 0; generation <= 2; generation++) {
        heap_ref list = self_cycle(heap);
        char expected[64];
        snprintf(expected, sizeof expected, "gc: collectable <list %u>\n", id_of(heap, list));
        heap_decref(heap, list);
        collect(heap, generation);
        assert_string_equal(recorder_told(&recorder), expected);
        for (unsigned i = 0; i < 150; i++) {
            heap_decref(heap, self_cycle(heap));
        }
        collect(heap, generation);
        const char *told = recorder_told(&recorder);
        assert_int_equal(lines_with(told, "gc: collectable <list at 0x"), 100);
        assert_int_equal(lines_with(told, "gc: 50 more are collectable\n"), 1);
        assert_int_equal(lines_with(told, "\n"), 101);
    }
    recorder_stop(&recorder, heap);
}

/* ---- listing ---- */

/* How many of a generation there are, each once, in the order of their addresses. */
static uint64_t count_listed(struct heap *heap, int generation)
{
    uint64_t count = 0;
    uint32_t position = 0;
    heap_ref obj, last = 0;
    while (heap_gc_next(heap, generation, &position, &obj)) {
        int own = heap_gc_generation(heap, obj);
        assert_true(generation < 0 ? own >= 0 && own <= 2 : own == generation);
        assert_true(obj > last);
        last = obj;
        count++;
    }
    return count;
}

static void test_garbage_listing_has_each_tracked_object_once(void **state)
{
    struct heap *heap = *state;
    for (int generation = -1; generation <= 2; generation++) {
        assert_int_equal(count_listed(heap, generation), 0);
    }
    for (unsigned g = 3; g-- > 0;) {
        for (unsigned i = 0; i < 1000 * (g + 1); i++) {
            keep(heap, new_list(heap));
            heap_decref(heap, new_list(heap)); /* a free block that looks like a list */
            heap_ref item = new_int(heap, 1000), tuple;
            OK(heap_tuple_create_steal(&tuple, heap, &item, 1)); /* untracked */
            keep(heap, tuple);
            heap_settle(heap);
        }
        if (g > 0) {
            collect(heap, (int)g - 1);
        }
    }
    assert_int_equal(count_listed(heap, 2), 3000);
    assert_int_equal(count_listed(heap, 1), 2000);
    assert_int_equal(count_listed(heap, 0), 1000);
    assert_int_equal(count_listed(heap, -1), 6000);
    heap_gc_freeze(heap);
    keep(heap, new_list(heap));
    for (int generation = -1; generation <= 2; generation++) {
        assert_int_equal(count_listed(heap, generation), generation <= 0);
    }
    heap_gc_unfreeze(heap);
    assert_int_equal(count_listed(heap, 2), 6000);
}

static void test_garbage_listing_goes_on_over_changes(void **state)
{
    struct heap *heap = *state;
    uint32_t position = 0, seen = 0;
    heap_ref objs[500], obj;
    for (unsigned i = 0; i < 500; i++) {
        objs[i] = keep(heap, new_list(heap));
    }
    while (heap_gc_next(heap, -1, &position, &obj)) {
        if (seen++ == 100) { /* what has been listed dies, collections move the others */
            for (unsigned i = 0; i < 500; i++) {
                if (objs[i] < position) {
                    drop(heap, objs[i]);
                }
            }
            heap_settle(heap);
        }
        collect(heap, seen % 3 == 0);
    }
    assert_int_equal(seen, 500);
}

/* ---- a walk sees what dies as it was ---- */

struct witness {
    struct visit visit; /* first: the walk gives its address */
    unsigned seen, items, ids;
};

/* Reads all that a picture might: items, and what a tuple among them holds; gives an id, as a picture may. */
static void witness_node(struct visit *visit, struct heap *heap, uint32_t ref)
{
    struct witness *witness = (struct witness *)visit;
    witness->seen++;
    witness->ids += id_of(heap, ref) != 0;
    enum heap_type type = heap_type(heap, ref);
    for (uint32_t i = 0; (type == HEAP_T_LIST || type == HEAP_T_TUPLE) && i < heap_seq_len(heap, ref); i++) {
        heap_ref item = heap_seq_item(heap, ref, i);
        witness->items += heap_type(heap, item) == HEAP_T_TUPLE ? heap_seq_len(heap, item) : 1;
    }
}

/* list -> list, list -> tuple of 200 lists, atom; all of it condemned.  Returns the list, which nobody holds.
 */
static heap_ref doomed(struct heap *heap)
{
    heap_ref list = self_cycle(heap), items[200], tuple;
    for (unsigned i = 0; i < 200; i++) {
        items[i] = list;
        OK(heap_incref(heap, list));
    }
    OK(heap_tuple_create_steal(&tuple, heap, items, 200)); /* its items lie outside, and go first */
    OK(heap_list_append_steal(heap, list, tuple));
    OK(heap_list_append_steal(heap, list, new_int(heap, 1000)));
    return list;
}

static void test_garbage_walk_sees_the_condemned_before_they_are_taken_apart(void **state)
{
    struct heap *heap = *state;
    for (int generation = -1; generation <= 2; generation++) { /* -1: death by refcount */
        struct witness witness = {.visit.node = witness_node};
        heap_ref list = doomed(heap);
        assert_true(visit_begin(&witness.visit, heap));
        if (generation < 0) {
            heap_list_clear(heap, list);
        }
        heap_decref(heap, list);
        heap_settle(heap);
        if (generation >= 0) {
            assert_int_equal(collect(heap, generation), 2);
        }
        assert_int_equal(witness.seen, 3);
        assert_int_equal(witness.ids, 3);
        assert_int_equal(witness.items, 1 + 200 + 1 + 200); /* the list's, then the tuple's own */
        assert_true(visit_has_died(&witness.visit, list));
        assert_true(visit_step(&witness.visit, heap, UINT32_MAX / 32));
        assert_int_equal(witness.seen, 3);
        visit_end(&witness.visit, heap);
        fixture_check(heap);
    }
}

static void test_garbage_walk_does_not_see_die_what_lives_on(void **state)
{
    struct heap *heap = *state;
    for (int generation = -1; generation <= 2; generation++) {
        struct witness witness = {.visit.node = witness_node};
        heap_ref list = doomed(heap);
        OK(heap_finalizer_set(heap, NULL, list, &(struct heap_finalizer){.resurrect_as = {"n", 1}}));
        if (generation < 0) {
            heap_list_clear(heap, list);
            heap_settle(heap);
        }
        assert_true(visit_begin(&witness.visit, heap));
        heap_decref(heap, list);
        heap_settle(heap);
        if (generation >= 0) {
            assert_int_equal(collect(heap, generation), 0);
        }
        assert_false(visit_has_died(&witness.visit, list));
        visit_end(&witness.visit, heap);
        OK(heap_name_unbind(heap, "n", 1));
        collect(heap, 2);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_garbage_saveall_keeps_what_is_condemned),
        TEST(test_garbage_saveall_finalizes_as_ever_and_keeps_all_that_is_condemned),
        TEST(test_garbage_clear_lets_die_by_refcount),
        TEST(test_garbage_list_grows),
        TEST(test_garbage_without_memory_is_freed),
        cmocka_unit_test(test_garbage_goes_with_the_heap),
        TEST(test_garbage_collections_tell_start_and_stop),
        TEST(test_garbage_automatic_collections_say_so),
        TEST(test_garbage_events_of_a_collection_are_in_order),
        TEST(test_garbage_stats_say_what_a_collection_did),
        TEST(test_garbage_collectable_names_a_hundred_objects),
        TEST(test_garbage_listing_has_each_tracked_object_once),
        TEST(test_garbage_listing_goes_on_over_changes),
        TEST(test_garbage_walk_sees_the_condemned_before_they_are_taken_apart),
        TEST(test_garbage_walk_does_not_see_die_what_lives_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
