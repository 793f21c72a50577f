/* test_compare.c -- hash and equality of keys, held to Python's rules. */
#include "heap_fixture.h"

#include <math.h>
#include <pthread.h>

#include "../support/process.h"

/* ---- helpers ---- */

static heap_ref new_float(struct heap *heap, double value)
{
    heap_ref obj;
    OK(heap_float_create(&obj, heap, value));
    return obj;
}

static heap_ref new_digits(struct heap *heap, const char *digits)
{
    heap_ref obj;
    OK(heap_int_parse(&obj, heap, digits, strlen(digits)));
    return obj;
}

static heap_ref new_bytes(struct heap *heap, const char *text)
{
    heap_ref obj;
    OK(heap_bytes_create(&obj, heap, text, strlen(text)));
    return obj;
}

/* A tuple of two that steals its items. */
static heap_ref new_pair(struct heap *heap, heap_ref first, heap_ref second)
{
    heap_ref tuple;
    OK(heap_tuple_create_steal(&tuple, heap, (heap_ref[]){first, second}, 2));
    return tuple;
}

static heap_ref new_single(struct heap *heap, heap_ref item)
{
    heap_ref tuple;
    OK(heap_tuple_create_steal(&tuple, heap, &item, 1));
    return tuple;
}

/* A frozenset that steals its members. */
static heap_ref new_frozenset(struct heap *heap, const heap_ref *members, uint32_t n)
{
    heap_ref set;
    OK(heap_set_create(&set, heap, true, 0));
    for (uint32_t i = 0; i < n; i++) {
        bool added;
        OK(heap_set_add_steal(&added, heap, set, members[i]));
    }
    return set;
}

static heap_ref another(struct heap *heap, heap_ref obj)
{
    OK(heap_incref(heap, obj));
    return obj;
}

static uint32_t hash_of(struct heap *heap, heap_ref obj)
{
    uint32_t hash = 0;
    OK(object_hash(&hash, heap, obj));
    assert_int_not_equal(hash, 0);
    return hash;
}

static bool equal(struct heap *heap, heap_ref a, heap_ref b)
{
    bool there, back;
    OK(object_equal(&there, heap, a, b));
    OK(object_equal(&back, heap, b, a));
    assert_int_equal(there, back);
    if (there) {
        assert_int_equal(hash_of(heap, a), hash_of(heap, b));
    }
    return there;
}

/* Compares and drops both. */
static bool equal_drop(struct heap *heap, heap_ref a, heap_ref b)
{
    bool result = equal(heap, a, b);
    heap_decref(heap, a);
    heap_decref(heap, b);
    return result;
}

/* ---- atoms ---- */

static void test_compare_numbers_by_value(void **state)
{
    struct heap *heap = *state;
    assert_true(equal(heap, heap_bool(heap, true), new_int(heap, 1)));
    assert_true(equal(heap, heap_bool(heap, false), new_int(heap, 0)));
    assert_true(equal_drop(heap, new_float(heap, 1.0), heap_bool(heap, true)));
    assert_true(equal_drop(heap, new_float(heap, 1.0), new_int(heap, 1)));
    assert_true(equal_drop(heap, new_float(heap, -0.0), new_int(heap, 0)));
    assert_true(equal_drop(heap, new_float(heap, -0.0), new_float(heap, 0.0)));
    assert_true(equal_drop(heap, new_int(heap, 1000), new_int(heap, 1000)));
    assert_true(equal_drop(heap, new_int(heap, -1000), new_float(heap, -1000.0)));
    assert_false(equal_drop(heap, new_int(heap, 1000), new_int(heap, -1000)));
    assert_false(equal_drop(heap, new_int(heap, 1), new_float(heap, 1.5)));
    assert_true(equal_drop(heap, new_float(heap, INFINITY), new_float(heap, INFINITY)));
    assert_false(equal_drop(heap, new_float(heap, INFINITY), new_float(heap, -INFINITY)));
    assert_false(equal_drop(heap, new_int(heap, 0), another(heap, heap_none(heap))));
}

static void test_compare_large_numbers_exactly(void **state)
{
    struct heap *heap = *state;
    assert_true(equal_drop(heap, new_int(heap, (int64_t)1 << 53), new_float(heap, 0x1p53)));
    assert_false(equal_drop(heap, new_int(heap, ((int64_t)1 << 53) + 1), new_float(heap, 0x1p53)));
    assert_false(equal_drop(heap, new_int(heap, INT64_MAX), new_float(heap, 0x1p63)));
    assert_true(equal_drop(heap, new_int(heap, INT64_MIN), new_float(heap, -0x1p63)));
    assert_true(equal_drop(heap, new_digits(heap, "9223372036854775808"), new_float(heap, 0x1p63)));
    assert_false(equal_drop(heap, new_digits(heap, "9223372036854775808"), new_float(heap, -0x1p63)));
    assert_true(equal_drop(heap, new_digits(heap, "-18446744073709551616"), new_float(heap, -0x1p64)));
    assert_false(equal_drop(heap, new_digits(heap, "18446744073709551617"), new_float(heap, 0x1p64)));
    assert_true(
        equal_drop(heap, new_digits(heap, "18446744073709551617"), new_digits(heap, "18446744073709551617")));
    assert_false(equal_drop(heap, new_digits(heap, "18446744073709551617"),
                            new_digits(heap, "-18446744073709551617")));
    assert_false(equal_drop(heap, new_digits(heap, "18446744073709551617"), new_int(heap, 1)));
    assert_true(equal_drop(heap, new_digits(heap, "0009223372036854775807"), new_int(heap, INT64_MAX)));
    char googol[102] = "1"; /* 10**100 is no double */
    memset(googol + 1, '0', 100);
    assert_false(equal_drop(heap, new_digits(heap, googol), new_float(heap, 1e100)));
}

/* All nans had one hash, so that a set of n of them took n * n steps to make. */
static void test_compare_nans_hash_apart(void **state)
{
    struct heap *heap = *state;
    uint32_t hashes[64], same = 0;
    heap_ref nans[64];
    for (int i = 0; i < 64; i++) {
        nans[i] = new_float(heap, NAN);
        assert_int_equal(object_hash(&hashes[i], heap, nans[i]), HEAP_OK);
        for (int k = 0; k < i; k++) {
            same += hashes[k] == hashes[i];
        }
    }
    assert_true(same < 8);
    for (int i = 0; i < 64; i++) {
        heap_decref(heap, nans[i]);
    }
}

static void test_compare_nan_is_itself_as_the_same_object_only(void **state)
{
    struct heap *heap = *state;
    heap_ref nan = new_float(heap, NAN), other = new_float(heap, NAN);
    assert_true(equal(heap, nan, nan));
    assert_false(equal(heap, nan, other));
    assert_true(equal_drop(heap, new_single(heap, another(heap, nan)), new_single(heap, another(heap, nan))));
    assert_false(
        equal_drop(heap, new_single(heap, another(heap, nan)), new_single(heap, another(heap, other))));
    heap_decref(heap, nan);
    heap_decref(heap, other);
}

static void test_compare_text_by_content_and_kind(void **state)
{
    struct heap *heap = *state;
    char long_text[3001];
    memset(long_text, 'x', 3000);
    long_text[3000] = '\0';
    assert_true(equal_drop(heap, new_str(heap, "key"), new_str(heap, "key")));
    assert_false(equal_drop(heap, new_str(heap, "key"), new_str(heap, "kez")));
    assert_false(equal_drop(heap, new_str(heap, "key"), new_str(heap, "keys")));
    assert_false(equal_drop(heap, new_str(heap, "key"), new_bytes(heap, "key")));
    assert_false(equal_drop(heap, new_str(heap, ""), new_bytes(heap, "")));
    assert_true(equal_drop(heap, new_bytes(heap, "key"), new_bytes(heap, "key")));
    assert_true(equal_drop(heap, new_str(heap, long_text), new_str(heap, long_text)));
    assert_false(equal_drop(heap, new_str(heap, "1"), new_int(heap, 1)));
    heap_ref hashed = new_str(heap, "hashed"), fresh = new_str(heap, "hashee");
    hash_of(heap, hashed);
    assert_false(equal_drop(heap, hashed, fresh));
}

/* ---- identity ---- */

static void test_compare_instances_classes_and_weakrefs_by_identity(void **state)
{
    struct heap *heap = *state;
    heap_ref one, two, a, b, w;
    OK(heap_class_create(&one, heap, (struct heap_text){"Node", 4}, NULL, 0));
    OK(heap_class_create(&two, heap, (struct heap_text){"Node", 4}, NULL, 0));
    OK(heap_instance_create(&a, heap, one, 0));
    OK(heap_instance_create(&b, heap, one, 0));
    OK(heap_weakref_shared(&w, heap, a));
    assert_true(equal(heap, a, a));
    assert_false(equal(heap, a, b));
    assert_false(equal(heap, one, two));
    assert_false(equal(heap, w, a));
    assert_true(equal(heap, w, w));
    assert_true(equal(heap, one, one));
    hash_of(heap, w);
    const heap_ref all[] = {one, two, a, b, w};
    for (int i = 0; i < 5; i++) {
        heap_decref(heap, all[i]);
    }
}

/* ---- what cannot be hashed ---- */

static void test_compare_lists_dicts_sets_cannot_be_hashed(void **state)
{
    struct heap *heap = *state;
    heap_ref list = new_list(heap), dict, set;
    OK(heap_dict_create(&dict, heap, 0));
    OK(heap_set_create(&set, heap, false, 0));
    const heap_ref all[] = {list, dict, set};
    for (int i = 0; i < 3; i++) {
        uint32_t hash = 77;
        assert_int_equal(object_hash(&hash, heap, all[i]), HEAP_UNHASHABLE);
        heap_ref outer = new_single(heap, new_pair(heap, new_int(heap, 1), all[i]));
        assert_int_equal(object_hash(&hash, heap, outer), HEAP_UNHASHABLE);
        assert_int_equal(hash, 77);
        heap_decref(heap, outer);
    }
}

static void test_compare_tuples_with_a_hole_are_incomplete(void **state)
{
    struct heap *heap = *state;
    heap_ref hollow = new_pair(heap, new_int(heap, 1), 0);
    heap_ref outer = new_single(heap, another(heap, hollow));
    uint32_t hash;
    assert_int_equal(object_hash(&hash, heap, hollow), HEAP_INCOMPLETE);
    assert_int_equal(object_hash(&hash, heap, outer), HEAP_INCOMPLETE);
    heap_fill_steal(heap, hollow, 1, new_int(heap, 2));
    OK(heap_tuples_complete(heap, (heap_ref[]){hollow, outer}, 2));
    OK(object_hash(&hash, heap, outer));
    heap_decref(heap, hollow);
    heap_decref(heap, outer);
}

/* ---- tuples and frozensets ---- */

static void test_compare_tuples_item_by_item(void **state)
{
    struct heap *heap = *state;
    assert_true(equal(heap, heap_empty_tuple(heap), heap_empty_tuple(heap)));
    assert_true(equal_drop(heap, new_pair(heap, new_int(heap, 1), new_str(heap, "ab")),
                           new_pair(heap, new_float(heap, 1.0), new_str(heap, "ab"))));
    assert_false(equal_drop(heap, new_pair(heap, new_int(heap, 1), new_int(heap, 2)),
                            new_pair(heap, new_int(heap, 2), new_int(heap, 1))));
    assert_false(equal_drop(heap, new_single(heap, new_int(heap, 1)),
                            new_pair(heap, new_int(heap, 1), new_int(heap, 1))));
    assert_false(equal_drop(heap, new_single(heap, new_int(heap, 1)), new_int(heap, 1)));
    assert_true(equal_drop(heap, new_pair(heap, new_single(heap, new_int(heap, 7)), new_int(heap, 1)),
                           new_pair(heap, new_single(heap, new_float(heap, 7)), heap_bool(heap, true))));
    assert_false(equal_drop(heap, new_pair(heap, new_single(heap, new_int(heap, 7)), new_int(heap, 1)),
                            new_pair(heap, new_single(heap, new_int(heap, 8)), new_int(heap, 1))));
    assert_false(equal_drop(heap, new_single(heap, another(heap, heap_empty_tuple(heap))),
                            another(heap, heap_empty_tuple(heap))));
}

static void test_compare_frozensets_by_members(void **state)
{
    struct heap *heap = *state;
    for (int64_t n = 0; n <= 40; n += n < 10 ? 1 : 10) {
        heap_ref up = new_frozenset(heap, NULL, 0), down = new_frozenset(heap, NULL, 0);
        heap_ref fewer = new_frozenset(heap, NULL, 0);
        bool added;
        for (int64_t i = 0; i < n; i++) {
            OK(heap_set_add_steal(&added, heap, up,
                                  new_pair(heap, new_int(heap, i * 1000), new_int(heap, 1))));
            OK(heap_set_add_steal(
                &added, heap, down,
                new_pair(heap, new_float(heap, (double)((n - 1 - i) * 1000)), new_int(heap, 1))));
            if (i > 0) {
                OK(heap_set_add_steal(&added, heap, fewer,
                                      new_pair(heap, new_int(heap, i), new_int(heap, 1))));
            }
        }
        assert_true(equal(heap, up, down));
        assert_int_equal(equal(heap, up, fewer), n == 0);
        if (n > 0) {
            OK(heap_set_add_steal(&added, heap, fewer, new_str(heap, "another")));
            assert_false(equal(heap, up, fewer)); /* as many, but others */
        }
        assert_true(equal_drop(heap, new_pair(heap, another(heap, up), new_int(heap, 1)),
                               new_pair(heap, another(heap, down), new_int(heap, 1))));
        heap_decref(heap, up);
        heap_decref(heap, down);
        heap_decref(heap, fewer);
    }
    heap_ref nested =
        new_frozenset(heap, (heap_ref[]){new_frozenset(heap, (heap_ref[]){new_int(heap, 3)}, 1)}, 1);
    heap_ref same =
        new_frozenset(heap, (heap_ref[]){new_frozenset(heap, (heap_ref[]){new_float(heap, 3)}, 1)}, 1);
    assert_true(equal_drop(heap, nested, same));
}

/* ---- depth ---- */

static heap_ref nested(struct heap *heap, int depth, bool sets)
{
    heap_ref obj = new_str(heap, "innermost");
    for (int i = 0; i < depth; i++) {
        obj = sets && i % 2 == 0 ? new_frozenset(heap, &obj, 1) : new_single(heap, obj);
    }
    return obj;
}

/* Runs on a small stack: depth must not cost stack frames. */
static void *deep_comparisons(void *argument)
{
    struct heap *heap = argument;
    uint32_t hash;
    bool same;
    heap_enter(heap);
    for (int sets = 0; sets < 2; sets++) {
        heap_ref a = nested(heap, COMPARE_DEPTH_MAX, false), b = nested(heap, COMPARE_DEPTH_MAX, false);
        if (sets) {
            heap_decref(heap, a);
            heap_decref(heap, b);
            a = nested(heap, COMPARE_DEPTH_MAX - 1, true);
            b = nested(heap, COMPARE_DEPTH_MAX - 1, true);
        }
        assert_true(equal(heap, a, b));
        heap_ref deeper = nested(heap, COMPARE_DEPTH_MAX + 1, false);
        heap_ref deeper_too = nested(heap, COMPARE_DEPTH_MAX + 1, false);
        assert_int_equal(object_hash(&hash, heap, deeper), HEAP_TOO_DEEP);
        assert_int_equal(object_equal(&same, heap, deeper, deeper_too), HEAP_TOO_DEEP);
        assert_true(equal(heap, a, a));
        const heap_ref all[] = {a, b, deeper, deeper_too};
        for (int i = 0; i < 4; i++) {
            heap_decref(heap, all[i]);
        }
    }
    heap_settle(heap);
    heap_leave(heap);
    return NULL;
}

static void test_compare_to_depth_1000_on_a_small_stack(void **state)
{
    struct heap *heap = *state;
    pthread_attr_t attributes;
    pthread_t thread;
    assert_int_equal(pthread_attr_init(&attributes), 0);
    assert_int_equal(pthread_attr_setstacksize(&attributes, 256 << 10), 0);
    heap_leave(heap);
    assert_int_equal(pthread_create(&thread, &attributes, deep_comparisons, heap), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    pthread_attr_destroy(&attributes);
    heap_enter(heap);
}

/* Kept hashes must not let a key in that is nested deeper than 1000. */
static void test_compare_kept_hashes_count_their_depth(void **state)
{
    struct heap *heap = *state;
    uint32_t hash;
    heap_ref deep = new_single(heap, new_int(heap, 1));
    for (int depth = 2; depth <= 1000; depth++) {
        deep = new_single(heap, deep);
        if (depth == 600) {
            OK(object_hash(&hash, heap, deep));
        }
    }
    OK(object_hash(&hash, heap, deep));
    deep = new_single(heap, deep);
    assert_int_equal(object_hash(&hash, heap, deep), HEAP_TOO_DEEP);
    heap_decref(heap, deep);
}

/* One request may not name large keys over and over; the next one has an allowance of its own. */
static void test_compare_long_walks_share_an_allowance(void **state)
{
    struct heap *heap = *state;
    uint32_t hash;
    heap_ref items[100];
    for (int i = 0; i < 100; i++) {
        items[i] = new_int(heap, 1000 + i);
    }
    heap_ref wide;
    OK(heap_tuple_create_steal(&wide, heap, items, 100));
    heap_ref narrow = new_single(heap, new_int(heap, 7));
    heap->compare_steps = UINT32_MAX / 2;
    assert_int_equal(object_hash(&hash, heap, wide), HEAP_TOO_DEEP);
    heap_settle(heap);
    OK(object_hash(&hash, heap, wide));
    assert_int_equal(object_hash_again(heap, wide), hash);
    OK(object_hash(&hash, heap, narrow));
    heap_decref(heap, wide);
    heap_decref(heap, narrow);
}

/* Each level holds the one below twice, so a naive walk doubles with each; it was refused after 16 million
 * steps, and a request with many such keys held the GIL for seconds. */
static void test_compare_doubling_tuples_take_few_steps(void **state)
{
    struct heap *heap = *state;
    heap_ref a = new_single(heap, new_int(heap, 1)), b = new_single(heap, new_int(heap, 1));
    for (int i = 0; i < 60; i++) {
        a = new_pair(heap, another(heap, a), a);
        b = new_pair(heap, another(heap, b), b);
    }
    uint32_t hash_a, hash_b;
    bool same;
    OK(object_equal(&same, heap, a, b));
    assert_true(same);
    OK(object_hash(&hash_a, heap, a));
    OK(object_hash(&hash_b, heap, b));
    assert_int_equal(hash_a, hash_b);
    assert_true(heap->compare_steps < 1000);
    heap_decref(heap, a);
    heap_decref(heap, b);
}

/* ---- the key ---- */

static void test_compare_hashes_are_another_heaps_secret(void **state)
{
    struct heap *heap = *state;
    struct heap *other = fixture_heap();
    heap_enter(other);
    int same = 0;
    for (int64_t i = 0; i < 64; i++) {
        same += hash_of(heap, new_int(heap, i)) == hash_of(other, new_int(other, i));
    }
    assert_true(same < 4);
    heap_leave(other);
    heap_destroy(other);
}

/* Ints that agree modulo 2**61 - 1, or in their low bits, spread all the same. */
static void test_compare_chosen_ints_do_not_collide(void **state)
{
    struct heap *heap = *state;
    enum { N = 1000 };
    uint32_t buckets[256] = {0};
    for (int i = 0; i < N; i++) {
        char digits[32];
        snprintf(digits, sizeof digits, "%llu%013d", (unsigned long long)(i + 1) * 2305843009213693951u, 0);
        heap_ref big = new_digits(heap, digits), shifted = new_int(heap, (int64_t)i << 40);
        buckets[hash_of(heap, big) & 255]++;
        buckets[hash_of(heap, shifted) & 255]++;
        heap_decref(heap, big);
        heap_decref(heap, shifted);
    }
    for (int i = 0; i < 256; i++) {
        assert_true(buckets[i] < 40); /* 7.8 on average; 40 is beyond chance */
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_compare_numbers_by_value),
        TEST(test_compare_large_numbers_exactly),
        TEST(test_compare_nans_hash_apart),
        TEST(test_compare_nan_is_itself_as_the_same_object_only),
        TEST(test_compare_text_by_content_and_kind),
        TEST(test_compare_instances_classes_and_weakrefs_by_identity),
        TEST(test_compare_lists_dicts_sets_cannot_be_hashed),
        TEST(test_compare_tuples_with_a_hole_are_incomplete),
        TEST(test_compare_tuples_item_by_item),
        TEST(test_compare_frozensets_by_members),
        TEST(test_compare_to_depth_1000_on_a_small_stack),
        TEST(test_compare_doubling_tuples_take_few_steps),
        TEST(test_compare_kept_hashes_count_their_depth),
        TEST(test_compare_long_walks_share_an_allowance),
        TEST(test_compare_hashes_are_another_heaps_secret),
        TEST(test_compare_chosen_ints_do_not_collide),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
