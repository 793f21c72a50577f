/* test_set.c -- sets and frozensets: members by content, growth, removal, all against a model. */
#include "heap_fixture.h"

#include <stdlib.h>

#include "../../heap/table.h"
#include "../support/process.h"

/* heap_set_discard() for who only wants to know whether there was such a member. */
static enum heap_error discard(bool *removed, struct heap *heap, heap_ref set, heap_ref member)
{
    heap_ref own_member;
    enum heap_error error = heap_set_discard(&own_member, heap, set, member);
    if (error == HEAP_OK) {
        *removed = own_member != 0;
        heap_decref(heap, own_member);
    }
    return error;
}

static heap_ref new_set(struct heap *heap, bool frozen)
{
    heap_ref set;
    OK(heap_set_create(&set, heap, frozen, 0));
    return set;
}

static bool add_int(struct heap *heap, heap_ref set, int64_t value)
{
    bool added;
    OK(heap_set_add_steal(&added, heap, set, new_int(heap, value)));
    return added;
}

static bool discard_int(struct heap *heap, heap_ref set, int64_t value)
{
    heap_ref member = new_int(heap, value);
    bool removed = false;
    OK(discard(&removed, heap, set, member));
    heap_decref(heap, member);
    return removed;
}

static bool contains_int(struct heap *heap, heap_ref set, int64_t value)
{
    heap_ref member = new_int(heap, value);
    bool contains;
    OK(heap_set_contains(&contains, heap, set, member));
    heap_decref(heap, member);
    return contains;
}

static void check_table(struct heap *heap, heap_ref set)
{
    assert_int_equal(table_check(heap, table_at(heap, set), stderr), 0);
}

/* ---- members ---- */

static void test_set_has_each_member_once(void **state)
{
    struct heap *heap = *state;
    for (int frozen = 0; frozen < 2; frozen++) {
        heap_ref set = new_set(heap, frozen);
        assert_int_equal(heap_type(heap, set), frozen ? HEAP_T_FROZENSET : HEAP_T_SET);
        assert_true(add_int(heap, set, 1));
        assert_false(add_int(heap, set, 1));
        bool added = false;
        OK(heap_set_add_steal(&added, heap, set, heap_bool(heap, true)));
        assert_false(added);
        heap_ref as_float;
        OK(heap_float_create(&as_float, heap, 1.0));
        OK(heap_set_add_steal(&added, heap, set, as_float));
        assert_false(added);
        assert_int_equal(heap_settle(heap), 1); /* the float was stolen and died */
        assert_true(add_int(heap, set, 1000));
        assert_false(add_int(heap, set, 1000));
        assert_int_equal(heap_set_len(heap, set), 2);
        assert_true(contains_int(heap, set, 1000));
        assert_false(contains_int(heap, set, 1001));
        assert_true(discard_int(heap, set, 1000));
        assert_false(discard_int(heap, set, 1000));
        heap_set_clear(heap, set);
        assert_int_equal(heap_set_len(heap, set), 0);
        assert_int_equal(heap_sizeof(heap, set), 32);
        heap_decref(heap, set);
        heap_settle(heap);
    }
}

static void test_set_refuses_unhashable_members(void **state)
{
    struct heap *heap = *state;
    heap_ref set = new_set(heap, false), list = new_list(heap);
    bool answer = true;
    assert_int_equal(heap_set_contains(&answer, heap, set, list), HEAP_UNHASHABLE);
    assert_int_equal(discard(&answer, heap, set, list), HEAP_UNHASHABLE);
    assert_int_equal(heap_set_contains(&answer, heap, set, set), HEAP_UNHASHABLE);
    assert_int_equal(heap_set_add_steal(&answer, heap, set, list), HEAP_UNHASHABLE);
    assert_true(answer);
    assert_int_equal(heap_settle(heap), 1);
    heap_ref frozen = new_set(heap, true), nested = new_set(heap, true);
    OK(heap_set_add_steal(&answer, heap, nested, frozen));
    OK(heap_set_add_steal(&answer, heap, set, nested));
    assert_int_equal(heap_set_len(heap, set), 1);
    heap_decref(heap, set);
}

static void test_set_members_are_references(void **state)
{
    struct heap *heap = *state;
    heap_ref set = new_set(heap, false), member = new_str(heap, "member"), got;
    bool answer;
    OK(heap_incref(heap, member));
    OK(heap_set_add_steal(&answer, heap, set, member));
    assert_int_equal(heap_refcount(heap, member), 2);
    uint32_t pos = 0;
    assert_true(heap_set_next(heap, set, &pos, &got));
    assert_int_equal(got, member);
    assert_false(heap_set_next(heap, set, &pos, &got));
    OK(discard(&answer, heap, set, member));
    assert_int_equal(heap_refcount(heap, member), 1);
    heap_decref(heap, member);
    heap_decref(heap, set);
}

/* ---- sizes ---- */

static void test_set_is_small(void **state)
{
    struct heap *heap = *state;
    heap_ref set = new_set(heap, false);
    static const uint64_t cpython[][2] = {{4, 216},    {18, 728},     {76, 2264},
                                          {306, 8408}, {1228, 32984}, {4914, 131288}};
    for (int64_t n = 1, row = 0; n <= 4914; n++) {
        add_int(heap, set, n);
        row += (uint64_t)n > cpython[row][0];
        assert_true(heap_sizeof(heap, set) <= cpython[row][1] / 2);
        if (n <= 8) {
            assert_int_equal(heap_sizeof(heap, set), n <= 4 ? 48 : 64);
        }
    }
    heap_decref(heap, set);
}

static void test_set_with_a_hint_does_not_grow(void **state)
{
    struct heap *heap = *state;
    static const uint32_t hints[] = {3, 8, 9, 1000, 200000};
    for (int h = 0; h < 5; h++) {
        heap_ref set;
        OK(heap_set_create(&set, heap, false, hints[h]));
        uint64_t bytes = heap_sizeof(heap, set);
        for (int64_t i = 0; i < hints[h] && i < 1000; i++) {
            add_int(heap, set, i);
        }
        assert_int_equal(heap_sizeof(heap, set), bytes);
        heap_decref(heap, set);
    }
}

/* ---- many members ---- */

#define MODEL_VALUES 15000

static void test_set_behaves_as_a_model(void **state)
{
    struct heap *heap = *state;
    struct process_random random;
    process_random_init(&random);
    static const uint32_t value_counts[] = {10, 40, 1000, MODEL_VALUES};
    bool *there = malloc(MODEL_VALUES);
    for (int round = 0; round < process_rounds(8, 20); round++) {
        uint32_t values = value_counts[round % 4], live = 0;
        heap_ref set = new_set(heap, false);
        memset(there, 0, MODEL_VALUES);
        for (uint32_t i = 0; i < values * 12; i++) {
            uint32_t value = process_random_below(&random, values);
            bool remove = process_random_below(&random, 100) < (i / (values * 2) % 2 ? 85 : 15);
            assert_int_equal(contains_int(heap, set, value), there[value]);
            if (remove) {
                assert_int_equal(discard_int(heap, set, value), there[value]);
            } else {
                assert_int_equal(add_int(heap, set, value), !there[value]);
            }
            live = live + (!remove && !there[value]) - (remove && there[value]);
            there[value] = !remove;
            if (process_random_below(&random, values) < 2) {
                check_table(heap, set);
                assert_int_equal(heap_set_len(heap, set), live);
            }
        }
        uint32_t pos = 0, count = 0;
        heap_ref member;
        while (heap_set_next(heap, set, &pos, &member)) {
            int64_t value;
            assert_true(heap_int_value(&value, heap, member) && there[value]);
            there[value] = false;
            count++;
        }
        assert_int_equal(count, live);
        check_table(heap, set);
        heap_decref(heap, set);
        heap_settle(heap);
    }
    free(there);
}

/* The new index of a large table is made a little at each change: no change does a tenth of the whole. */
static void test_set_grows_in_steps(void **state)
{
    struct heap *heap = *state;
    heap_ref set = new_set(heap, false);
    uint32_t most = 0, rebuilds = 0;
    for (int64_t i = 0; i < 60000; i++) {
        struct table *t = table_at(heap, set);
        struct table_big *big = table_is_big(t) && t->fill > 5000 ? t->entries : NULL;
        uint32_t before = big == NULL || big->next.slots == NULL ? 0 : big->migrated;
        bool making = big != NULL && big->next.slots != NULL;
        add_int(heap, set, i);
        if (making && big->next.slots != NULL) {
            most = big->migrated - before > most ? big->migrated - before : most;
        }
        rebuilds += making && big->next.slots == NULL;
    }
    assert_true(rebuilds >= 3);
    assert_true(most > 0 && most <= 64);
    check_table(heap, set);
    heap_decref(heap, set);
}

static void test_set_checker_finds_damage(void **state)
{
    struct heap *heap = *state;
    heap_ref set = new_set(heap, true);
    for (int64_t i = 0; i < 50; i++) {
        add_int(heap, set, i * 1000);
    }
    FILE *nowhere = fopen("/dev/null", "w");
    assert_non_null(nowhere);
    struct table *t = table_at(heap, set);
    uint32_t kept = *table_entry(t, 7);
    *table_entry(t, 7) = heap_none(heap); /* not found by its hash */
    assert_int_not_equal(table_check(heap, t, nowhere), 0);
    *table_entry(t, 7) = 0; /* lost */
    assert_int_not_equal(table_check(heap, t, nowhere), 0);
    *table_entry(t, 7) = kept;
    check_table(heap, set);
    fclose(nowhere);
    heap_decref(heap, set);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_set_has_each_member_once),
        TEST(test_set_refuses_unhashable_members),
        TEST(test_set_members_are_references),
        TEST(test_set_is_small),
        TEST(test_set_with_a_hint_does_not_grow),
        TEST(test_set_behaves_as_a_model),
        TEST(test_set_grows_in_steps),
        TEST(test_set_checker_finds_damage),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
