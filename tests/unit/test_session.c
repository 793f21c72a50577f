/* test_session.c -- sessions: merging the holds of two, and who holds an object. */
#include "heap_fixture.h"

/* ---- helpers ---- */

static void hold(struct heap *heap, struct heap_session *session, heap_ref obj, int times)
{
    for (int i = 0; i < times; i++) {
        OK(heap_hold(heap, session, obj));
    }
}

/* What heap_holders_of() says: session and holds of up to four rows. */
struct holders {
    uint64_t rows, session[4], holds[4];
};

static void add_holder(void *arg, uint64_t session, uint64_t holds)
{
    struct holders *holders = arg;
    assert_true(holders->rows < 4);
    holders->session[holders->rows] = session;
    holders->holds[holders->rows++] = holds;
}

static struct holders holders_of(struct heap *heap, heap_ref obj)
{
    struct holders holders = {0};
    heap_holders_of(heap, obj, add_holder, &holders);
    return holders;
}

/* ---- tests ---- */

static void test_session_holders_are_those_that_hold(void **state)
{
    struct heap *heap = *state;
    struct heap_session *a = heap_session_create(heap), *b = heap_session_create(heap);
    heap_ref list = new_list(heap);
    assert_int_equal(holders_of(heap, list).rows, 0);
    hold(heap, a, list, 3);
    heap_decref(heap, list);
    struct holders holders = holders_of(heap, list);
    assert_int_equal(holders.rows, 1);
    assert_int_equal(holders.session[0], heap_session_number(a));
    assert_int_equal(holders.holds[0], 3);
    hold(heap, b, list, 1);
    hold(heap, b, heap_none(heap), 2);
    holders = holders_of(heap, list);
    assert_int_equal(holders.rows, 2);
    assert_int_equal(holders.holds[0] + holders.holds[1], 4);
    assert_int_equal(holders_of(heap, heap_none(heap)).holds[0], 2);
    assert_int_equal(holders_of(heap, heap_empty_tuple(heap)).rows, 0);
}

/* Whichever of the two holds more. */
static void test_session_merge_adds_the_holds_of_both(void **state)
{
    struct heap *heap = *state;
    for (int larger = 0; larger < 2; larger++) {
        struct heap_session *to = heap_session_create(heap), *from = heap_session_create(heap);
        heap_ref both = new_list(heap), only_from = new_list(heap), only_to = new_list(heap);
        hold(heap, to, both, 2);
        hold(heap, from, both, 3);
        hold(heap, from, only_from, 1);
        hold(heap, to, only_to, 1);
        for (int i = 0; i < 500; i++) { /* enough that the maps grow */
            heap_ref item = new_list(heap);
            hold(heap, larger == 0 ? from : to, item, 1);
            heap_decref(heap, item);
        }
        heap_decref(heap, both);
        heap_decref(heap, only_from);
        heap_decref(heap, only_to);
        uint64_t number = heap_session_number(to);
        OK(heap_session_merge(heap, to, from));
        assert_int_equal(heap_session_number(to), number);
        assert_int_equal(heap_session_holds(to), 507);
        assert_int_equal(heap_holds_of(heap, to, both), 5);
        assert_int_equal(heap_holds_of(heap, to, only_from), 1);
        assert_int_equal(heap_holds_of(heap, to, only_to), 1);
        assert_int_equal(heap_refcount(heap, both), 5);
        assert_int_equal(counter_read(&heap->session_count), 1);
        assert_int_equal(heap_settle(heap), 0);
        fixture_check(heap);
        assert_int_equal(heap_session_destroy(heap, to), 507);
        assert_int_equal(heap_settle(heap), 503);
    }
}

static void test_session_merge_may_pass_the_limit_of_holds(void **state)
{
    struct heap *heap = *state;
    struct heap_session *to = heap_session_create(heap), *from = heap_session_create(heap);
    heap_set_limits(heap, &(struct heap_limits){.max_holds = 2});
    heap_ref list = new_list(heap);
    hold(heap, to, list, 2);
    hold(heap, from, list, 2);
    heap_decref(heap, list);
    OK(heap_session_merge(heap, to, from));
    assert_int_equal(heap_session_holds(to), 4);
    assert_int_equal(heap_hold(heap, to, list), HEAP_LIMIT_HOLDS);
}

/* Who comes to let something go, or to raise the limit, must get in. */
static void test_session_is_made_when_the_heap_is_at_its_limit(void **state)
{
    struct heap *heap = *state;
    heap_set_limits(heap, &(struct heap_limits){.max_bytes = 1});
    struct heap_session *session = heap_session_create(heap);
    assert_non_null(session);
    assert_int_equal(heap_session_destroy(heap, session), 0);
    heap_set_limits(heap, &(struct heap_limits){0});
    fixture_check(heap);
}

/* Memory for the longer map may be short: then both sessions are as they were. */
static void test_session_merge_without_memory_changes_nothing(void **state)
{
    struct heap *heap = *state;
    struct heap_session *to = heap_session_create(heap), *from = heap_session_create(heap);
    heap_ref shared = new_list(heap);
    hold(heap, to, shared, 1);
    hold(heap, from, shared, 1);
    heap_decref(heap, shared);
    for (int i = 0; i < 600; i++) {
        heap_ref item = new_list(heap);
        hold(heap, i % 2 == 0 ? to : from, item, 1);
        heap_decref(heap, item);
    }
    heap_set_limits(heap, &(struct heap_limits){.max_bytes = 1});
    assert_int_equal(heap_session_merge(heap, to, from), HEAP_MEMORY);
    heap_set_limits(heap, &(struct heap_limits){0});
    assert_int_equal(heap_session_holds(to), 301);
    assert_int_equal(heap_session_holds(from), 301);
    fixture_check(heap);
    OK(heap_session_merge(heap, to, from));
    assert_int_equal(heap_session_holds(to), 602);
    assert_int_equal(heap_holds_of(heap, to, shared), 2);
    fixture_check(heap);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_session_holders_are_those_that_hold),
        TEST(test_session_merge_adds_the_holds_of_both),
        TEST(test_session_merge_may_pass_the_limit_of_holds),
        TEST(test_session_is_made_when_the_heap_is_at_its_limit),
        TEST(test_session_merge_without_memory_changes_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
