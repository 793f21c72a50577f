/* test_weakref.c -- weak references: shared and notifying ones, the order of their clearing, who is told and
 * who is not, and lists of a hundred thousand. */
#include "heap_fixture.h"
#include "heap_recorder.h"

static heap_ref notifying(struct heap *heap, heap_ref target)
{
    heap_ref weakref;
    OK(heap_weakref_notify(&weakref, heap, heap->sessions, target));
    return weakref;
}

static heap_ref shared(struct heap *heap, heap_ref target)
{
    heap_ref weakref;
    OK(heap_weakref_shared(&weakref, heap, target));
    return weakref;
}

static void start(struct recorder *recorder, struct heap *heap)
{
    assert_non_null(heap_session_create(heap));
    recorder_start(recorder, heap);
}

/* ---- making ---- */

static void test_weakref_of_an_object_is_one_shared_and_any_number_of_others(void **state)
{
    struct heap *heap = *state;
    assert_non_null(heap_session_create(heap));
    heap_ref target = keep(heap, new_list(heap));
    assert_int_equal(heap_weakref_count(heap, target), 0);
    heap_ref first = keep(heap, notifying(heap, target)); /* the shared one need not be the first made */
    heap_ref basic = keep(heap, shared(heap, target));
    heap_ref second = keep(heap, notifying(heap, target));
    assert_true(first != basic && first != second && basic != second);
    assert_int_equal(keep(heap, shared(heap, target)), basic);
    heap_ref plain;
    OK(heap_weakref_create(&plain, heap));
    OK(heap_weakref_aim(heap, plain, target)); /* there is a shared one: it is one more */
    assert_int_equal(heap_weakref_count(heap, target), 4);
    keep(heap, plain);
    fixture_check(heap);
    drop(heap, plain);
    heap_settle(heap);
    drop(heap, basic);
    assert_int_equal(heap_weakref_count(heap, target), 3);
    drop(heap, basic);
    heap_settle(heap);
    assert_int_equal(heap_weakref_count(heap, target), 2);
    assert_int_not_equal(keep(heap, shared(heap, target)), first);
    fixture_check(heap);
    drop(heap, target);
    heap_settle(heap);
    assert_int_equal(heap_weakref_target(heap, first), 0);
    assert_int_equal(heap_weakref_target(heap, second), 0);
}

static void test_weakref_refuses_immortals(void **state)
{
    struct heap *heap = *state;
    heap_ref weakref = 7;
    struct heap_session *session = heap_session_create(heap);
    assert_int_equal(heap_weakref_notify(&weakref, heap, session, heap_none(heap)), HEAP_TYPE);
    assert_int_equal(heap_weakref_shared(&weakref, heap, heap_empty_tuple(heap)), HEAP_TYPE);
    assert_int_equal(weakref, 7);
    assert_int_equal(heap_weakref_count(heap, heap_none(heap)), 0);
}

static void test_weakref_that_notifies_has_a_larger_block(void **state)
{
    struct heap *heap = *state;
    assert_non_null(heap_session_create(heap));
    heap_ref target = keep(heap, new_list(heap));
    heap_ref basic = keep(heap, shared(heap, target)), other = keep(heap, notifying(heap, target));
    assert_int_equal(heap_sizeof(heap, basic), 32 + HANDLE_BYTES);
    assert_int_equal(heap_sizeof(heap, other), 48 + HANDLE_BYTES);
    fixture_check(heap);
}

/* ---- death ---- */

static void test_weakref_death_by_refcount_tells_newest_first(void **state)
{
    struct heap *heap = *state;
    struct recorder recorder;
    start(&recorder, heap);
    heap_ref targets[] = {new_list(heap), new_int(heap, 1000), new_str(heap, "text")};
    for (unsigned i = 0; i < 3; i++) {
        heap_ref oldest = keep(heap, notifying(heap, targets[i])), basic = keep(heap, shared(heap, targets[i]));
        heap_ref newest = keep(heap, notifying(heap, targets[i]));
        unsigned id = id_of(heap, targets[i]), session = (unsigned)heap_session_number(heap->sessions);
        char expected[100];
        snprintf(expected, sizeof expected, "weakref %u of %u to %u\nweakref %u of %u to %u\n",
                 id_of(heap, newest), id, session, id_of(heap, oldest), id, session);
        heap_decref(heap, targets[i]);
        heap_settle(heap);
        assert_string_equal(recorder_told(&recorder), expected);
        assert_int_equal(heap_weakref_target(heap, basic), 0);
    }
    recorder_stop(&recorder, heap);
}

static void test_weakref_that_died_before_tells_nothing(void **state)
{
    struct heap *heap = *state;
    struct recorder recorder;
    start(&recorder, heap);
    heap_ref target = keep(heap, new_list(heap));
    heap_ref weakrefs[3];
    for (unsigned i = 0; i < 3; i++) {
        weakrefs[i] = keep(heap, notifying(heap, target));
    }
    drop(heap, weakrefs[1]);
    heap_settle(heap);
    fixture_check(heap);
    drop(heap, target);
    heap_settle(heap);
    assert_int_equal(recorder.weakrefs, 2);
    recorder_stop(&recorder, heap);
}

/* CPython's test_bug1055820b: both are dead before anybody is told of one. */
static void test_weakref_collection_clears_all_and_tells_the_living(void **state)
{
    struct heap *heap = *state;
    struct recorder recorder;
    for (int generation = 0; generation <= 2; generation++) {
        if (generation == 0) {
            start(&recorder, heap);
        }
        heap_ref a = new_list(heap), b = new_list(heap);
        link_to(heap, a, b);
        link_to(heap, b, a);
        heap_ref outside = keep(heap, notifying(heap, a)), inside = notifying(heap, a);
        heap_ref of_b = keep(heap, shared(heap, b));
        OK(heap_list_append_steal(heap, b, inside)); /* condemned with its target: nobody is told */
        char expected[64];
        snprintf(expected, sizeof expected, "weakref %u of %u to %u\n", id_of(heap, outside), id_of(heap, a),
                 (unsigned)heap_session_number(heap->sessions));
        heap_decref(heap, a);
        heap_decref(heap, b);
        assert_int_equal(collect(heap, generation), 3);
        assert_string_equal(recorder_told(&recorder), expected);
        assert_int_equal(heap_weakref_target(heap, outside), 0);
        assert_int_equal(heap_weakref_target(heap, of_b), 0);
        fixture_check(heap);
    }
    recorder_stop(&recorder, heap);
}

/* Weakrefs first, then finalizers; once told, a target that lives on is not told of again. */
static void test_weakref_collection_tells_before_the_finalizer_and_once(void **state)
{
    struct heap *heap = *state;
    struct recorder recorder;
    start(&recorder, heap);
    heap_ref a = new_list(heap), weakref;
    link_to(heap, a, a);
    weakref = keep(heap, notifying(heap, a));
    const struct heap_finalizer finalizer = {.resurrect_as = {"a", 1}};
    OK(heap_finalizer_set(heap, heap->sessions, a, &finalizer));
    char expected[100];
    snprintf(expected, sizeof expected, "weakref %u of %u to %u\nfinalized %u  yes\n", id_of(heap, weakref),
             id_of(heap, a), (unsigned)heap_session_number(heap->sessions), id_of(heap, a));
    heap_decref(heap, a);
    assert_int_equal(collect(heap, 2), 0);
    assert_string_equal(recorder_told(&recorder), expected);
    heap_ref later = keep(heap, notifying(heap, a)); /* one made after that is told of the second death */
    OK(heap_name_unbind(heap, "a", 1));
    assert_int_equal(collect(heap, 2), 1);
    assert_int_equal(recorder.weakrefs, 2);
    assert_int_equal(recorder.finalized, 1);
    assert_int_equal(heap_weakref_target(heap, later), 0);
    recorder_stop(&recorder, heap);
}

/* A weakref may have a finalizer, and live on without its target. */
static void test_weakref_can_be_resurrected(void **state)
{
    struct heap *heap = *state;
    struct recorder recorder;
    start(&recorder, heap);
    heap_ref a = new_list(heap), weakref = notifying(heap, a);
    const struct heap_finalizer finalizer = {.resurrect_as = {"w", 1}, .clear = true};
    OK(heap_finalizer_set(heap, heap->sessions, weakref, &finalizer));
    link_to(heap, a, a);
    OK(heap_list_append_steal(heap, a, weakref));
    heap_decref(heap, a);
    assert_int_equal(collect(heap, 2), 1);
    assert_int_equal(recorder.weakrefs, 0);
    assert_int_equal(heap_name_find(heap, "w", 1), weakref);
    assert_int_equal(heap_weakref_target(heap, weakref), 0);
    OK(heap_name_unbind(heap, "w", 1));
    recorder_stop(&recorder, heap);
}

/* ---- many ---- */

static void test_weakref_a_hundred_thousand_to_one_target(void **state)
{
    struct heap *heap = *state;
    struct recorder recorder;
    uint32_t n = fixture_is_small() ? 1000 : 100000;
    start(&recorder, heap);
    heap_ref target = keep(heap, new_list(heap)), first = 0;
    for (uint32_t i = 0; i < n; i++) {
        heap_ref weakref = keep(heap, notifying(heap, target));
        first = i == 0 ? weakref : first;
    }
    assert_int_equal(heap_weakref_count(heap, target), n);
    fixture_check(heap);
    drop(heap, first); /* the end of the list: found without walking it */
    heap_settle(heap);
    assert_int_equal(heap_weakref_count(heap, target), n - 1);
    OK(heap_name_bind(heap, "target", 6, target));
    heap_session_release_all(heap, heap->sessions);
    heap_settle(heap);
    assert_int_equal(heap_weakref_count(heap, target), 0);
    OK(heap_name_unbind(heap, "target", 6));
    heap_settle(heap);
    assert_int_equal(recorder.weakrefs, 0);
    recorder_stop(&recorder, heap);
}

#if HEAP_DEBUG >= 1
static void test_weakref_any_request_for_memory_may_fail(void **state)
{
    struct heap *heap = *state;
    assert_non_null(heap_session_create(heap));
    for (unsigned i = 0; i < 20; i++) {
        heap_ref target = keep(heap, i % 2 == 0 ? new_list(heap) : new_int(heap, 1000)), weakref = 0;
        enum heap_error error = HEAP_MEMORY;
        for (uint64_t n = 1; error != HEAP_OK; n++) {
            assert_int_equal(heap_weakref_count(heap, target), 0);
            pymalloc_trim(&heap->pm);
            heap->pm.fail_after = n;
            error = heap_weakref_notify(&weakref, heap, heap->sessions, target);
            heap->pm.fail_after = 0;
            heap_settle(heap);
        }
        keep(heap, weakref);
        fixture_check(heap);
    }
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_weakref_of_an_object_is_one_shared_and_any_number_of_others),
        TEST(test_weakref_refuses_immortals),
        TEST(test_weakref_that_notifies_has_a_larger_block),
        TEST(test_weakref_death_by_refcount_tells_newest_first),
        TEST(test_weakref_that_died_before_tells_nothing),
        TEST(test_weakref_collection_clears_all_and_tells_the_living),
        TEST(test_weakref_collection_tells_before_the_finalizer_and_once),
        TEST(test_weakref_can_be_resurrected),
        TEST(test_weakref_a_hundred_thousand_to_one_target),
#if HEAP_DEBUG >= 1
        TEST(test_weakref_any_request_for_memory_may_fail),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
