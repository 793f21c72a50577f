/* test_object.c -- refcounts, atoms, lists, tuples, deaths without recursion. */
#include "heap_fixture.h"

#include <pthread.h>
#include <stdlib.h>

/* ---- atoms ---- */

static void test_object_small_values_are_immortal_and_one(void **state)
{
    struct heap *heap = *state;
    for (int64_t i = -5; i <= 256; i++) {
        assert_int_equal(new_int(heap, i), new_int(heap, i));
        assert_int_equal(heap_refcount(heap, new_int(heap, i)), HEAP_REFCOUNT_IMMORTAL);
    }
    assert_int_equal(new_str(heap, "\xC3\xA9"), new_str(heap, "\xC3\xA9"));
    assert_int_equal(new_str(heap, ""), new_str(heap, ""));
    heap_ref bytes;
    OK(heap_bytes_create(&bytes, heap, "\xE9", 1));
    assert_int_equal(heap_refcount(heap, bytes), HEAP_REFCOUNT_IMMORTAL);
    heap_decref(heap, bytes);
    assert_int_equal(heap_refcount(heap, bytes), HEAP_REFCOUNT_IMMORTAL);
    assert_int_equal(fixture_live(heap), 0);
    heap_ref a = new_int(heap, 257), b = new_int(heap, 257);
    assert_int_not_equal(a, b);
    assert_int_equal(fixture_live(heap), 2);
    heap_decref(heap, a);
    heap_decref(heap, b);
}

static void test_object_text_of_every_length_is_kept(void **state)
{
    struct heap *heap = *state;
    char *text = malloc(70000);
    for (size_t i = 0; i < 70000; i++) {
        text[i] = (char)('a' + i % 26);
    }
    const size_t lengths[] = {2, 10, 495, 496, 497, 512, 513, 65536, 70000};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        heap_ref str, interned, again;
        OK(heap_str_create(&str, heap, text, lengths[i]));
        OK(heap_str_intern(&interned, heap, text, lengths[i]));
        OK(heap_str_intern(&again, heap, text, lengths[i]));
        assert_int_equal(interned, again);
        assert_int_not_equal(interned, str);
        size_t len;
        const char *kept = heap_text(heap, interned, &len);
        assert_int_equal(len, lengths[i]);
        assert_memory_equal(kept, text, len);
        assert_true(heap_sizeof(heap, str) >= len);
        keep(heap, str);
        keep(heap, interned);
        keep(heap, again);
        fixture_check(heap);
    }
    free(text);
}

/* Bytes outside of their block: their length is in two places, and nothing keeps their hash. */
static void test_object_long_bytes_are_kept_and_compared(void **state)
{
    static const size_t LENGTHS[] = {496, 497, 65535, 65536, 65537, 200001};
    static char content[200001];
    struct heap *heap = *state;
    heap_ref dict;
    OK(heap_dict_create(&dict, heap, 0));
    keep(heap, dict);
    for (size_t i = 0; i < sizeof LENGTHS / sizeof *LENGTHS; i++) {
        size_t len = LENGTHS[i], told;
        heap_ref bytes, same, other, value;
        memset(content, (int)i, sizeof content);
        OK(heap_bytes_create(&bytes, heap, content, len));
        OK(heap_bytes_create(&same, heap, content, len));
        content[len - 1]++;
        OK(heap_bytes_create(&other, heap, content, len));
        content[len - 1]--;
        assert_memory_equal(heap_text(heap, bytes, &told), content, len);
        assert_int_equal(told, len);
        assert_true(heap_sizeof(heap, bytes) <= 16 + (len + 8 + 15) / 16 * 16);
        OK(heap_dict_set_steal(heap, dict, bytes, new_int(heap, (int64_t)i)));
        OK(heap_dict_get(&value, heap, dict, same));
        assert_int_equal(value, new_int(heap, (int64_t)i));
        OK(heap_dict_get(&value, heap, dict, other));
        assert_int_equal(value, 0);
        heap_decref(heap, same);
        heap_decref(heap, other);
        fixture_check(heap);
    }
    for (int i = 0; i < 100; i++) { /* the table grows and hashes them again */
        OK(heap_dict_set_steal(heap, dict, new_int(heap, 1000 + i), new_int(heap, i)));
    }
    fixture_check(heap);
    drop(heap, dict);
}

static void test_object_interned_table_grows_and_shrinks_with_its_strs(void **state)
{
    struct heap *heap = *state;
    enum { N = 20000 };
    heap_ref *strs = malloc(N * sizeof *strs);
    char text[16];
    for (int i = 0; i < N; i++) {
        int len = snprintf(text, sizeof text, "key-%d", i);
        OK(heap_str_intern(&strs[i], heap, text, (size_t)len));
        keep(heap, strs[i]);
        if (i % 3 == 0) {
            drop(heap, strs[i]);
        }
    }
    fixture_check(heap);
    for (int i = 0; i < N; i++) {
        if (i % 3 != 0) {
            int len = snprintf(text, sizeof text, "key-%d", i);
            heap_ref again;
            OK(heap_str_intern(&again, heap, text, (size_t)len));
            assert_int_equal(again, strs[i]);
            heap_decref(heap, again);
            drop(heap, strs[i]);
        }
    }
    free(strs);
}

static void test_object_big_ints_keep_their_digits(void **state)
{
    struct heap *heap = *state;
    char digits[4301], back[HEAP_INT_DIGITS_MAX];
    memset(digits, '9', 4300);
    digits[4300] = '\0';
    const char *const cases[] = {"9223372036854775807",  "-9223372036854775808", "9223372036854775808",
                                 "-9223372036854775809", "340282366920938463463374607431768211456", digits};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        heap_ref obj;
        OK(heap_int_parse(&obj, heap, cases[i], strlen(cases[i])));
        int64_t value;
        assert_int_equal(heap_int_value(&value, heap, obj), i < 2);
        assert_int_equal(heap_int_digits(heap, obj, back), strlen(cases[i]));
        assert_string_equal(back, cases[i]);
        heap_decref(heap, obj);
    }
    heap_ref obj;
    OK(heap_int_parse(&obj, heap, "-0000", 5));
    assert_int_equal(obj, new_int(heap, 0));
    assert_int_equal(heap_int_parse(&obj, heap, "-", 1), HEAP_BAD_INT);
    assert_int_equal(heap_int_parse(&obj, heap, "1x", 2), HEAP_BAD_INT);
    assert_int_equal(heap_int_parse(&obj, heap, "+1", 2), HEAP_BAD_INT);
}

/* ---- lists and tuples ---- */

static void test_object_list_operations_against_an_array(void **state)
{
    struct heap *heap = *state;
    const char *env = getenv("SEED");
    unsigned seed = env != NULL ? (unsigned)atoi(env) : 7u;
    print_message("SEED=%u\n", seed);
    srand(seed);
    heap_ref list = keep(heap, new_list(heap)), model[600];
    uint32_t n = 0;
    for (int step = 0; step < 20000; step++) {
        uint32_t at = n > 0 ? (uint32_t)rand() % n : 0;
        switch (rand() % 6) {
        case 0:
        case 1:
            if (n < 500) {
                model[n] = new_int(heap, step + 1000);
                OK(heap_list_append_steal(heap, list, model[n]));
                n++;
            }
            break;
        case 2:
            if (n < 500) {
                memmove(model + at + 1, model + at, (n - at) * sizeof *model);
                model[at] = new_int(heap, step + 1000);
                OK(heap_list_insert_steal(heap, list, at, model[at]));
                n++;
            }
            break;
        case 3:
            if (n > 0) {
                model[at] = new_int(heap, step + 1000);
                heap_list_set_steal(heap, list, at, model[at]);
            }
            break;
        case 4:
            if (n > 0) {
                heap_ref item = heap_list_pop(heap, list, at);
                assert_int_equal(item, model[at]);
                heap_decref(heap, item);
                n--;
                memmove(model + at, model + at + 1, (n - at) * sizeof *model);
            }
            break;
        default:
            if (rand() % 500 == 0) {
                heap_list_clear(heap, list);
                n = 0;
            }
        }
        assert_int_equal(heap_seq_len(heap, list), n);
    }
    for (uint32_t i = 0; i < n; i++) {
        assert_int_equal(heap_seq_item(heap, list, i), model[i]);
    }
    fixture_check(heap);
}

static void test_object_list_extends_itself(void **state)
{
    struct heap *heap = *state;
    heap_ref list = keep(heap, new_list(heap)), item = new_list(heap);
    OK(heap_list_append_steal(heap, list, item));
    for (int i = 0; i < 8; i++) {
        OK(heap_list_extend(heap, list, list));
    }
    assert_int_equal(heap_seq_len(heap, list), 256);
    assert_int_equal(heap_refcount(heap, item), 256);
    assert_int_equal(heap_list_extend(heap, list, heap_none(heap)), HEAP_TYPE);
    fixture_check(heap);
}

static void test_object_tuple_is_tracked_exactly_if_it_holds_something_tracked(void **state)
{
    struct heap *heap = *state;
    heap_ref atoms[2] = {new_int(heap, 1), new_str(heap, "two")}, plain, nested, tracked, list = new_list(heap);
    OK(heap_tuple_create_steal(&plain, heap, atoms, 2));
    OK(heap_tuple_create_steal(&nested, heap, &plain, 1));
    assert_false(heap_gc_is_tracked(heap, nested));
    heap_ref items[2] = {nested, list};
    OK(heap_tuple_create_steal(&tracked, heap, items, 2));
    assert_true(heap_gc_is_tracked(heap, tracked));
    heap_ref none;
    OK(heap_tuple_create_steal(&none, heap, NULL, 0));
    assert_int_equal(none, heap_empty_tuple(heap));
    heap_decref(heap, tracked);
}

static void test_object_long_tuples_live_outside_their_block(void **state)
{
    struct heap *heap = *state;
    heap_ref items[1000], tuple;
    const uint32_t lengths[] = {1, 4, 5, 124, 125, 128, 129, 1000};
    for (size_t k = 0; k < sizeof lengths / sizeof *lengths; k++) {
        for (uint32_t i = 0; i < lengths[k]; i++) {
            items[i] = new_int(heap, 1000 + i);
        }
        OK(heap_tuple_create_steal(&tuple, heap, items, lengths[k]));
        assert_int_equal(heap_seq_len(heap, tuple), lengths[k]);
        assert_int_equal(heap_seq_item(heap, tuple, lengths[k] - 1), items[lengths[k] - 1]);
        keep(heap, tuple);
        fixture_check(heap);
    }
}

/* a = (b), b = (c), c a list: made with holes, in an order that needs looking ahead. */
static void test_object_tuples_made_with_holes_are_completed(void **state)
{
    struct heap *heap = *state;
    heap_ref hole = 0, a, b, list = new_list(heap);
    OK(heap_tuple_create_steal(&a, heap, &hole, 1));
    OK(heap_tuple_create_steal(&b, heap, &hole, 1));
    assert_true(heap_is_incomplete(heap, a));
    OK(heap_incref(heap, b));
    heap_fill_steal(heap, a, 0, b);
    heap_fill_steal(heap, b, 0, list);
    OK(heap_tuples_complete(heap, (heap_ref[]){a, b}, 2));
    assert_true(heap_gc_is_tracked(heap, a) && heap_gc_is_tracked(heap, b));
    assert_false(heap_is_incomplete(heap, a));
    heap_decref(heap, a);
    heap_decref(heap, b);
}

static void test_object_cycle_of_tuples_alone_is_refused(void **state)
{
    struct heap *heap = *state;
    heap_ref hole = 0, a, b;
    OK(heap_tuple_create_steal(&a, heap, &hole, 1));
    OK(heap_tuple_create_steal(&b, heap, &a, 1));
    OK(heap_incref(heap, b));
    heap_fill_steal(heap, a, 0, b);
    assert_int_equal(heap_tuples_complete(heap, (heap_ref[]){a, b}, 2), HEAP_TUPLE_CYCLE);
    heap_decref(heap, heap_unfill(heap, a, 0));
    heap_decref(heap, b);
}

/* ---- deaths ---- */

static heap_ref chain_of(struct heap *heap, int n)
{
    heap_ref head = new_list(heap);
    for (int i = 1; i < n; i++) {
        heap_ref next = new_list(heap);
        OK(heap_list_append_steal(heap, next, head));
        head = next;
    }
    return head;
}

/* On a stack of 256 KiB: what recursed, even once in a hundred levels, would overflow it. */
static void *die_on_a_small_stack(void *arg)
{
    struct heap *heap = arg;
    int n = fixture_is_small() ? 50000 : 5000000;
    heap_enter(heap);
    heap_gc_enable(heap, false);
    heap_decref(heap, chain_of(heap, n));
    assert_int_equal(heap_settle(heap), n);
    heap_ref wide = new_list(heap);
    for (int i = 0; i < n; i++) {
        OK(heap_list_append_steal(heap, wide, new_list(heap)));
    }
    heap_decref(heap, wide);
    assert_int_equal(heap_settle(heap), n + 1);
    heap_ref ring = new_list(heap), chain = chain_of(heap, n / 5), last = chain;
    link_to(heap, ring, chain);
    while (heap_seq_len(heap, last) > 0) {
        last = heap_seq_item(heap, last, 0);
    }
    OK(heap_list_append_steal(heap, last, ring));
    heap_decref(heap, chain);
    assert_int_equal(heap_settle(heap), 0);
    assert_int_equal(collect(heap, 2), n / 5 + 1);
    heap_leave(heap);
    return NULL;
}

static void test_object_deep_and_wide_graphs_die_on_a_small_stack(void **state)
{
    struct heap *heap = heap_create(&(struct heap_config){.reserve_bytes = (uint64_t)4 << 30});
    (void)state;
    pthread_attr_t attr;
    pthread_t thread;
    pthread_attr_init(&attr);
    assert_int_equal(pthread_attr_setstacksize(&attr, 262144), 0);
    assert_int_equal(pthread_create(&thread, &attr, die_on_a_small_stack, heap), 0);
    pthread_join(thread, NULL);
    pthread_attr_destroy(&attr);
    heap_enter(heap);
    assert_int_equal(fixture_live(heap), 0);
    struct heap_stats stats;
    heap_stats(&stats, heap);
    assert_true(stats.arenas <= 3); /* the immortals' two, and one kept empty */
    fixture_check(heap);
    heap_leave(heap);
    heap_destroy(heap);
}

static void test_object_reference_past_the_limit_is_refused(void **state)
{
    struct heap *heap = *state;
    heap_ref list = new_list(heap), other = new_list(heap);
    struct object *o = object_at(heap, list);
    o->refcount = REFCOUNT_MAX;
    assert_int_equal(heap_incref(heap, list), HEAP_LIMIT_REFS);
    struct heap_session *session = heap_session_create(heap);
    assert_int_equal(heap_hold(heap, session, list), HEAP_LIMIT_REFS);
    heap_session_destroy(heap, session);
    OK(heap_list_append_steal(heap, other, list));
    assert_int_equal(heap_list_extend(heap, other, other), HEAP_LIMIT_REFS);
    assert_int_equal(heap_seq_len(heap, other), 1);
    o->refcount = 1;
    heap_decref(heap, other);
}

/* ---- ids, sessions ---- */

static void test_object_ids_are_never_used_again(void **state)
{
    struct heap *heap = *state;
    uint64_t first, id;
    heap_ref list = new_list(heap);
    OK(heap_id(&first, heap, list));
    assert_int_equal(first, 1);
    OK(heap_id(&id, heap, list));
    assert_int_equal(id, first);
    assert_int_equal(heap_find(heap, first), list);
    heap_decref(heap, list);
    heap_settle(heap);
    uint64_t largest = 0;
    for (int i = 0; i < 200000; i++) { /* slots come round again after 65,536 others */
        heap_ref atom = new_int(heap, 1000);
        OK(heap_id(&id, heap, atom));
        assert_int_equal(heap_find(heap, id), atom);
        assert_true(id != first && id < (uint64_t)1 << 53);
        largest = id > largest ? id : largest;
        heap_decref(heap, atom);
        assert_int_equal(heap_find(heap, id), 0);
    }
    assert_true(largest >> 32 >= 2);
    assert_int_equal(heap_find(heap, first), 0);
    assert_int_equal(heap_find(heap, 0), 0);
    assert_int_equal(heap_find(heap, UINT64_MAX), 0);
}

static void test_object_session_releases_what_it_holds(void **state)
{
    struct heap *heap = *state;
    struct heap_session *a = heap_session_create(heap), *b = heap_session_create(heap);
    assert_int_equal(heap_session_number(a), 1);
    heap_ref list = new_list(heap);
    OK(heap_hold(heap, a, list));
    OK(heap_hold(heap, a, list));
    OK(heap_hold(heap, b, list));
    heap_decref(heap, list);
    assert_int_equal(heap_refcount(heap, list), 3);
    OK(heap_hold(heap, a, heap_none(heap)));
    assert_int_equal(heap_session_holds(a), 3);
    assert_int_equal(heap_holds_of(heap, a, list), 2);
    fixture_check(heap);
    OK(heap_unhold(heap, b, list));
    assert_int_equal(heap_unhold(heap, b, list), HEAP_NOT_HELD);
    assert_int_equal(heap_session_destroy(heap, b), 0);
    assert_int_equal(heap_session_destroy(heap, a), 3);
    assert_int_equal(heap_settle(heap), 1);
}

static void test_object_holds_are_limited(void **state)
{
    struct heap *heap = *state;
    heap_set_limits(heap, &(struct heap_limits){.max_holds = 2});
    struct heap_session *session = heap_session_create(heap);
    heap_ref list = new_list(heap);
    OK(heap_hold(heap, session, list));
    OK(heap_hold(heap, session, list));
    assert_int_equal(heap_hold(heap, session, list), HEAP_LIMIT_HOLDS);
    heap_decref(heap, list);
    assert_int_equal(heap_session_destroy(heap, session), 2);
}

/* ---- memory ---- */

static void test_object_running_out_of_memory_leaves_the_heap_as_it_was(void **state)
{
    struct heap *heap = *state;
    struct heap_stats before, after;
    heap_gc_enable(heap, false);
    heap_set_limits(heap, &(struct heap_limits){.max_bytes = 8u << 20});
    heap_ref keeper = keep(heap, new_list(heap)), list;
    enum heap_error error;
    while ((error = heap_list_create(&list, heap, 0)) == HEAP_OK) {
        OK(heap_list_append_steal(heap, keeper, list));
    }
    assert_int_equal(error, HEAP_MEMORY);
    heap_settle(heap);
    heap_stats(&before, heap);
    assert_int_equal(heap_list_create(&list, heap, 1000000), HEAP_MEMORY);
    heap_settle(heap);
    heap_stats(&after, heap);
    assert_int_equal(before.live, after.live);
    fixture_check(heap);
    drop(heap, keeper);
    heap_settle(heap);
    OK(heap_list_create(&list, heap, 0));
    heap_decref(heap, list);
}

static void test_object_two_heaps_know_nothing_of_each_other(void **state)
{
    struct heap *heap = *state, *other = fixture_heap();
    heap_enter(other);
    heap_ref here = new_list(heap), there = new_list(other);
    uint64_t id;
    OK(heap_id(&id, other, there));
    assert_int_equal(heap_find(heap, id), 0);
    heap_decref(heap, here);
    heap_decref(other, there);
    heap_settle(other);
    fixture_check(other);
    heap_leave(other);
    heap_destroy(other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_object_small_values_are_immortal_and_one),
        TEST(test_object_text_of_every_length_is_kept),
        TEST(test_object_long_bytes_are_kept_and_compared),
        TEST(test_object_interned_table_grows_and_shrinks_with_its_strs),
        TEST(test_object_big_ints_keep_their_digits),
        TEST(test_object_list_operations_against_an_array),
        TEST(test_object_list_extends_itself),
        TEST(test_object_tuple_is_tracked_exactly_if_it_holds_something_tracked),
        TEST(test_object_long_tuples_live_outside_their_block),
        TEST(test_object_tuples_made_with_holes_are_completed),
        TEST(test_object_cycle_of_tuples_alone_is_refused),
        cmocka_unit_test(test_object_deep_and_wide_graphs_die_on_a_small_stack),
        TEST(test_object_reference_past_the_limit_is_refused),
        TEST(test_object_ids_are_never_used_again),
        TEST(test_object_session_releases_what_it_holds),
        TEST(test_object_holds_are_limited),
        TEST(test_object_running_out_of_memory_leaves_the_heap_as_it_was),
        TEST(test_object_two_heaps_know_nothing_of_each_other),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
