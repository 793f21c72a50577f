/* test_dict.c -- dicts and the table below them: order, growth, compaction, listings, counters, limits. */
#include "heap_fixture.h"

#include <stdlib.h>

#include "../../heap/table.h"
#include "../support/process.h"

/* ---- helpers ---- */

/* heap_dict_pop() for who does not want the dict's key. */
static enum heap_error pop(heap_ref *value, struct heap *heap, heap_ref dict, heap_ref key)
{
    heap_ref own_key;
    enum heap_error error = heap_dict_pop(&own_key, value, heap, dict, key);
    if (error == HEAP_OK) {
        heap_decref(heap, own_key);
    }
    return error;
}

static heap_ref new_dict(struct heap *heap)
{
    heap_ref dict;
    OK(heap_dict_create(&dict, heap, 0));
    return dict;
}

/* dict[key] = value, both ints. */
static void set_int(struct heap *heap, heap_ref dict, int64_t key, int64_t value)
{
    OK(heap_dict_set_steal(heap, dict, new_int(heap, key), new_int(heap, value)));
}

static void set_str(struct heap *heap, heap_ref dict, const char *key, int64_t value)
{
    OK(heap_dict_set_steal(heap, dict, new_str(heap, key), new_int(heap, value)));
}

/* The int under an int key; `missing` if it is not there. */
static int64_t get_int(struct heap *heap, heap_ref dict, int64_t key, int64_t missing)
{
    heap_ref k = new_int(heap, key), value;
    OK(heap_dict_get(&value, heap, dict, k));
    heap_decref(heap, k);
    int64_t result = missing;
    if (value != 0) {
        assert_true(heap_int_value(&result, heap, value));
    }
    return result;
}

static void pop_int(struct heap *heap, heap_ref dict, int64_t key)
{
    heap_ref k = new_int(heap, key), value;
    OK(pop(&value, heap, dict, k));
    heap_decref(heap, k);
    heap_decref(heap, value);
}

static int64_t int_of(struct heap *heap, heap_ref obj)
{
    int64_t value = 0;
    assert_true(heap_int_value(&value, heap, obj));
    return value;
}

static struct table *table_of(struct heap *heap, heap_ref dict)
{
    return table_at(heap, dict);
}

static void check_table(struct heap *heap, heap_ref dict)
{
    assert_int_equal(table_check(heap, table_of(heap, dict), stderr), 0);
}

/* Whether the checker complains; what it says is thrown away. */
static bool is_found_out(struct heap *heap, heap_ref dict)
{
    FILE *nowhere = fopen("/dev/null", "w");
    assert_non_null(nowhere);
    bool found = table_check(heap, table_of(heap, dict), nowhere) > 0;
    fclose(nowhere);
    return found;
}

static uint64_t buffer_bytes(struct heap *heap, heap_ref dict)
{
    return table_buffer_bytes(table_of(heap, dict));
}

/* ---- single entries ---- */

static void test_dict_keeps_insertion_order_and_the_first_key(void **state)
{
    struct heap *heap = *state;
    heap_ref dict = new_dict(heap), key, value;
    set_str(heap, dict, "bb", 1000);
    set_str(heap, dict, "aa", 2000);
    set_str(heap, dict, "cc", 3000);
    set_str(heap, dict, "bb", 4000);
    const char *const keys[] = {"bb", "aa", "cc"};
    const int64_t values[] = {4000, 2000, 3000};
    uint32_t pos = 0;
    for (int i = 0; i < 3; i++) {
        size_t len;
        assert_true(heap_dict_next(heap, dict, &pos, &key, &value));
        assert_memory_equal(heap_text(heap, key, &len), keys[i], 2);
        assert_int_equal(int_of(heap, value), values[i]);
    }
    assert_false(heap_dict_next(heap, dict, &pos, &key, &value));
    assert_int_equal(heap_dict_len(heap, dict), 3);

    heap_dict_clear(heap, dict);
    heap_ref one = new_int(heap, 1);
    OK(heap_dict_set_steal(heap, dict, one, new_str(heap, "int")));
    heap_ref as_float;
    OK(heap_float_create(&as_float, heap, 1.0));
    OK(heap_dict_set_steal(heap, dict, as_float, new_str(heap, "float")));
    OK(heap_dict_set_steal(heap, dict, heap_bool(heap, true), new_str(heap, "bool")));
    pos = 0;
    assert_true(heap_dict_next(heap, dict, &pos, &key, &value));
    assert_int_equal(key, one);
    size_t len;
    assert_memory_equal(heap_text(heap, value, &len), "bool", 4);
    assert_int_equal(heap_dict_len(heap, dict), 1);
    heap_decref(heap, dict);
}

static void test_dict_refuses_unhashable_keys_and_stays_as_it_was(void **state)
{
    struct heap *heap = *state;
    for (int64_t n = 0; n <= 20; n += 10) {
        heap_ref dict = new_dict(heap), value = 77;
        for (int64_t i = 0; i < n; i++) {
            set_int(heap, dict, i, i);
        }
        heap_ref list = new_list(heap);
        assert_int_equal(heap_dict_get(&value, heap, dict, list), HEAP_UNHASHABLE);
        assert_int_equal(pop(&value, heap, dict, list), HEAP_UNHASHABLE);
        int64_t sum = 78;
        assert_int_equal(heap_dict_incr(&sum, heap, dict, list, 1), HEAP_UNHASHABLE);
        assert_int_equal(value, 77);
        assert_int_equal(sum, 78);
        assert_int_equal(heap_refcount(heap, list), 1);
        /* stolen, though it fails */
        assert_int_equal(heap_dict_set_steal(heap, dict, list, new_int(heap, 5000)), HEAP_UNHASHABLE);
        assert_int_equal(heap_settle(heap), 2);
        assert_int_equal(heap_dict_len(heap, dict), n);
        heap_ref missing = new_int(heap, 999);
        assert_int_equal(pop(&value, heap, dict, missing), HEAP_KEY);
        heap_decref(heap, missing);
        check_table(heap, dict);
        heap_decref(heap, dict);
        heap_settle(heap);
    }
}

static void test_dict_values_may_be_holes(void **state)
{
    struct heap *heap = *state;
    heap_ref dict = new_dict(heap);
    for (int64_t i = 0; i < 20; i++) {
        OK(heap_dict_set_steal(heap, dict, new_int(heap, i), 0));
    }
    for (int64_t i = 19; i >= 0; i--) {
        uint32_t entry = heap_dict_entry(heap, dict, new_int(heap, i));
        assert_int_equal(entry, i);
        heap_fill_steal(heap, dict, entry, new_int(heap, i * 1000));
    }
    for (int64_t i = 0; i < 20; i++) {
        assert_int_equal(get_int(heap, dict, i, -1), i * 1000);
    }
    heap_decref(heap, dict);
}

static void test_dict_pop_gives_the_value_away(void **state)
{
    struct heap *heap = *state;
    heap_ref dict = new_dict(heap), list = new_list(heap), key = new_str(heap, "key"), value;
    OK(heap_incref(heap, list));
    OK(heap_incref(heap, key));
    OK(heap_dict_set_steal(heap, dict, key, list));
    assert_int_equal(heap_refcount(heap, list), 2);
    OK(pop(&value, heap, dict, key));
    assert_int_equal(value, list);
    assert_int_equal(heap_refcount(heap, list), 2);
    assert_int_equal(heap_refcount(heap, key), 1);
    assert_int_equal(heap_dict_len(heap, dict), 0);
    assert_int_equal(buffer_bytes(heap, dict), 0);
    heap_decref(heap, key);
    heap_decref(heap, value);
    heap_decref(heap, list);
    heap_decref(heap, dict);
}

/* ---- sizes ---- */

/* sys.getsizeof of CPython 3.11 for a dict of n str keys, and the allocator's rounding where it is small. */
static uint64_t cpython_bytes(uint32_t n)
{
    if (n == 0) {
        return 64;
    }
    uint32_t slots = 8;
    while (slots * 2 / 3 < n) {
        slots *= 2;
    }
    uint64_t slot = slots <= 128 ? 1 : slots <= 32768 ? 2 : 4;
    uint64_t table = 32 + slots * slot + slots * 2 / 3 * 16;
    return 64 + (table <= 512 ? (table + 15) / 16 * 16 : (table + 8 + 15) / 16 * 16);
}

static void test_dict_is_never_larger_than_cpythons(void **state)
{
    struct heap *heap = *state;
    heap_ref dict = new_dict(heap);
    assert_int_equal(heap_sizeof(heap, dict), 32);
    for (int64_t n = 1; n <= 20000; n++) {
        set_int(heap, dict, n, 0);
        if (heap_sizeof(heap, dict) > cpython_bytes((uint32_t)n)) {
            fail_msg("a dict of %d takes %d bytes", (int)n, (int)heap_sizeof(heap, dict));
        }
        if (n <= 8) {
            assert_int_equal(buffer_bytes(heap, dict), (n + 1) / 2 * 16);
        }
    }
    check_table(heap, dict);
    heap_decref(heap, dict);
}

static void test_dict_gives_room_back_as_it_empties(void **state)
{
    struct heap *heap = *state;
    heap_ref dict = new_dict(heap);
    enum { N = 30000 };
    for (int64_t i = 0; i < N; i++) {
        set_int(heap, dict, i, 0);
    }
    uint64_t full = buffer_bytes(heap, dict);
    for (int64_t i = 0; i < N; i++) {
        pop_int(heap, dict, i);
        if (i == N - 100) {
            assert_true(buffer_bytes(heap, dict) < full / 50);
            check_table(heap, dict);
        }
    }
    assert_int_equal(buffer_bytes(heap, dict), 0);
    heap_decref(heap, dict);
}

/* ---- many entries ---- */

/* A plain model of a dict of ints: value by key, and the order of insertion as a stamp. */
#define MODEL_KEYS 12000
struct model {
    int64_t value[MODEL_KEYS];
    uint64_t stamp[MODEL_KEYS]; /* 0: not there */
    uint64_t stamps;
    uint32_t live;
};

static void model_compare(struct heap *heap, heap_ref dict, const struct model *model)
{
    check_table(heap, dict);
    assert_int_equal(heap_dict_len(heap, dict), model->live);
    uint32_t pos = 0, count = 0;
    uint64_t last = 0;
    heap_ref key, value;
    while (heap_dict_next(heap, dict, &pos, &key, &value)) {
        int64_t k = int_of(heap, key);
        assert_true(model->stamp[k] > last); /* ascending: insertion order */
        last = model->stamp[k];
        assert_int_equal(int_of(heap, value), model->value[k]);
        count++;
    }
    assert_int_equal(count, model->live);
}

static void model_step(struct heap *heap, heap_ref dict, struct model *model, struct process_random *random,
                       uint32_t keys, uint32_t remove_percent)
{
    int64_t key = process_random_below(random, keys);
    bool there = model->stamp[key] != 0;
    if (process_random_below(random, 100) < remove_percent) {
        heap_ref k = new_int(heap, key), value;
        enum heap_error error = pop(&value, heap, dict, k);
        assert_int_equal(error, there ? HEAP_OK : HEAP_KEY);
        if (there) {
            assert_int_equal(int_of(heap, value), model->value[key]);
            heap_decref(heap, value);
            model->stamp[key] = 0;
            model->live--;
        }
        heap_decref(heap, k);
        return;
    }
    int64_t value = (int64_t)process_random_below(random, 1000);
    set_int(heap, dict, key, value);
    model->value[key] = value;
    if (!there) {
        model->stamp[key] = ++model->stamps;
        model->live++;
    }
    assert_int_equal(get_int(heap, dict, key, -1), value);
}

static void test_dict_behaves_as_a_model(void **state)
{
    struct heap *heap = *state;
    struct process_random random;
    process_random_init(&random);
    static const uint32_t key_counts[] = {6, 12, 30, 300, MODEL_KEYS};
    struct model *model = malloc(sizeof *model);
    for (int round = 0; round < process_rounds(15, 20); round++) {
        uint32_t keys = key_counts[round % 5];
        heap_ref dict = new_dict(heap);
        memset(model, 0, sizeof *model);
        for (int phase = 0; phase < 6; phase++) {
            static const uint32_t remove_percents[] = {2, 50, 90, 10, 70, 99};
            uint32_t steps = keys * 2;
            for (uint32_t i = 0; i < steps; i++) {
                model_step(heap, dict, model, &random, keys, remove_percents[phase]);
                if (process_random_below(&random, steps) < 5) {
                    model_compare(heap, dict, model);
                }
            }
            model_compare(heap, dict, model);
        }
        heap_decref(heap, dict);
        heap_settle(heap);
    }
    free(model);
}

/* First in, first out, for long: holes at the front, stale slots in the index. */
static void test_dict_as_a_queue_stays_small(void **state)
{
    struct heap *heap = *state;
    static const int64_t lengths[] = {1, 5, 8, 9, 100, 6000};
    for (size_t l = 0; l < sizeof lengths / sizeof *lengths; l++) {
        heap_ref dict = new_dict(heap);
        int64_t n = lengths[l];
        for (int64_t i = 0; i < n; i++) {
            set_int(heap, dict, i, i);
        }
        uint64_t most = 0;
        for (int64_t i = n; i < n + 40000; i++) {
            set_int(heap, dict, i, i);
            pop_int(heap, dict, i - n);
            uint64_t bytes = buffer_bytes(heap, dict);
            most = bytes > most ? bytes : most;
        }
        check_table(heap, dict);
        assert_true(most <= (uint64_t)n * 90 + 500);
        assert_int_equal(get_int(heap, dict, n + 39999, -1), n + 39999);
        heap_decref(heap, dict);
    }
}

/* Last in, first out: the end of the array is trimmed, and the same numbers are used again. */
static void test_dict_as_a_stack_stays_small(void **state)
{
    struct heap *heap = *state;
    heap_ref dict = new_dict(heap);
    for (int64_t i = 0; i < 5000; i++) {
        set_int(heap, dict, i, i);
    }
    uint64_t bytes = buffer_bytes(heap, dict);
    for (int64_t i = 0; i < 60000; i++) {
        set_int(heap, dict, 5000 + i, i);
        pop_int(heap, dict, 5000 + i);
    }
    check_table(heap, dict);
    assert_true(buffer_bytes(heap, dict) <= bytes * 4);
    assert_int_equal(table_of(heap, dict)->fill, 5000);
    heap_decref(heap, dict);
}

static void test_dict_positions_stay_good_while_entries_are_added(void **state)
{
    struct heap *heap = *state;
    heap_ref dict = new_dict(heap), key, value;
    for (int64_t i = 0; i < 6000; i++) {
        set_int(heap, dict, i, i);
    }
    for (int64_t i = 0; i < 6000; i += i % 3 == 0 ? 2 : 1) { /* leaves a compaction half done */
        pop_int(heap, dict, i);
    }
    uint32_t pos = 0;
    int64_t last = -1, next = 100000;
    for (int seen = 0; seen < 20000; seen++) {
        assert_true(heap_dict_next(heap, dict, &pos, &key, &value));
        assert_true(int_of(heap, key) > last);
        last = int_of(heap, key);
        set_int(heap, dict, next++, 0);
        set_int(heap, dict, next++, 0);
    }
    check_table(heap, dict);
    heap_decref(heap, dict);
}

/* ---- listings over changes ---- */

/* Walks by serial numbers, changing the dict at random between steps.  Entries 0 mod 4 are never removed. */
static void list_over_changes(struct heap *heap, heap_ref dict, int64_t n, struct process_random *random)
{
    uint64_t after = 0;
    int64_t kept = 0, last = -1, next = n;
    heap_ref key, value;
    while (heap_dict_serial_next(heap, dict, &after, &key, &value)) {
        int64_t k = int_of(heap, key);
        assert_true(k > last); /* insertion order, nothing twice */
        last = k;
        if (k < n && k % 4 == 0) {
            assert_int_equal(k, kept * 4);
            kept++;
        }
        for (int i = 0; i < 3; i++) {
            int64_t victim = process_random_below(random, (uint32_t)n);
            if (victim % 4 != 0 && get_int(heap, dict, victim, -1) != -1) {
                pop_int(heap, dict, victim);
            }
        }
        if (next < 2 * n && process_random_below(random, 3) == 0) {
            set_int(heap, dict, next, next);
            next++;
        }
        if (process_random_below(random, 500) == 0) {
            check_table(heap, dict);
        }
    }
    assert_int_equal(kept, (n + 3) / 4);
}

static void test_dict_listing_sees_once_what_stays(void **state)
{
    struct heap *heap = *state;
    struct process_random random;
    process_random_init(&random);
    static const int64_t sizes[] = {1, 3, 8, 9, 20, 500, 12000};
    for (int round = 0; round < 2 * process_rounds(7, 10); round++) {
        int64_t n = sizes[round % 7];
        heap_ref dict = new_dict(heap);
        for (int64_t i = 0; i < n; i++) {
            set_int(heap, dict, i, i);
        }
        if (round >= 7) { /* holes from before the listing, and perhaps a compaction under way */
            for (int64_t i = 0; i < n; i++) {
                if (i % 4 != 0 && process_random_below(&random, 10) < 7) {
                    pop_int(heap, dict, i);
                }
            }
        }
        list_over_changes(heap, dict, n, &random);
        check_table(heap, dict);
        heap_decref(heap, dict);
        heap_settle(heap);
    }
}

static void test_dict_listing_again_starts_from_the_front(void **state)
{
    struct heap *heap = *state;
    heap_ref dict = new_dict(heap), key, value;
    uint64_t after = 0;
    assert_false(heap_dict_serial_next(heap, dict, &after, &key, &value));
    for (int64_t i = 0; i < 100; i++) {
        set_int(heap, dict, i, i);
    }
    for (int round = 0; round < 3; round++) {
        after = 0;
        int count = 0;
        while (heap_dict_serial_next(heap, dict, &after, &key, &value)) {
            count++;
        }
        assert_int_equal(count, heap_dict_len(heap, dict));
        for (int64_t i = round * 30; i < round * 30 + 30; i++) {
            pop_int(heap, dict, i);
        }
        check_table(heap, dict);
    }
    heap_decref(heap, dict);
}

/* ---- update ---- */

static void test_dict_update_takes_all(void **state)
{
    struct heap *heap = *state;
    static const int64_t sizes[] = {0, 3, 8, 50, 5000};
    for (int a = 0; a < 5; a++) {
        for (int b = 0; b < 5; b++) {
            heap_ref to = new_dict(heap), from = new_dict(heap);
            for (int64_t i = 0; i < sizes[a]; i++) {
                set_int(heap, to, i * 2, 1000);
            }
            for (int64_t i = 0; i < sizes[b]; i++) {
                set_int(heap, from, i * 3, 2000);
            }
            OK(heap_dict_update(heap, to, from));
            for (int64_t i = 0; i < 15000; i++) {
                int64_t expected = i % 3 == 0 && i / 3 < sizes[b]   ? 2000
                                   : i % 2 == 0 && i / 2 < sizes[a] ? 1000
                                                                    : -1;
                assert_int_equal(get_int(heap, to, i, -1), expected);
            }
            assert_int_equal(heap_dict_len(heap, from), sizes[b]);
            check_table(heap, to);
            heap_decref(heap, to);
            heap_decref(heap, from);
            heap_settle(heap);
        }
    }
}

static void test_dict_update_with_itself_or_a_list(void **state)
{
    struct heap *heap = *state;
    heap_ref dict = new_dict(heap), list = new_list(heap);
    set_int(heap, dict, 1, 1000);
    OK(heap_dict_update(heap, dict, dict));
    assert_int_equal(heap_dict_len(heap, dict), 1);
    assert_int_equal(heap_dict_update(heap, dict, list), HEAP_TYPE);
    heap_decref(heap, dict);
    heap_decref(heap, list);
}

static void test_dict_update_changes_nothing_when_a_count_is_full(void **state)
{
    struct heap *heap = *state;
    heap_ref to = new_dict(heap), from = new_dict(heap), full = new_str(heap, "full");
    set_int(heap, from, 1, 1000);
    OK(heap_incref(heap, full));
    OK(heap_dict_set_steal(heap, from, new_int(heap, 2), full));
    object_at(heap, full)->refcount = REFCOUNT_MAX;
    assert_int_equal(heap_dict_update(heap, to, from), HEAP_LIMIT_REFS);
    assert_int_equal(heap_dict_len(heap, to), 0);
    OK(heap_incref(heap, heap_none(heap)));
    int64_t sum;
    assert_int_equal(heap_dict_incr(&sum, heap, to, full, 1), HEAP_LIMIT_REFS);
    object_at(heap, full)->refcount = 2;
    heap_decref(heap, full);
    heap_decref(heap, to);
    heap_decref(heap, from);
}

/* ---- counters ---- */

static int64_t incr(struct heap *heap, heap_ref dict, heap_ref key, int64_t by)
{
    int64_t sum;
    OK(heap_dict_incr(&sum, heap, dict, key, by));
    heap_ref value;
    OK(heap_dict_get(&value, heap, dict, key));
    assert_int_equal(int_of(heap, value), sum);
    return sum;
}

static void test_dict_incr_counts(void **state)
{
    struct heap *heap = *state;
    heap_ref dict = new_dict(heap), key = new_str(heap, "hits"), value;
    assert_int_equal(incr(heap, dict, key, 1), 1);
    assert_int_equal(heap_refcount(heap, key), 2);
    for (int64_t i = 2; i < 600; i++) {
        assert_int_equal(incr(heap, dict, key, 1), i);
        OK(heap_dict_get(&value, heap, dict, key));
        assert_int_equal(heap_is_immortal(heap, value), i <= 256);
    }
    assert_int_equal(incr(heap, dict, key, -600), -1);
    OK(heap_dict_get(&value, heap, dict, key));
    assert_true(heap_is_immortal(heap, value));
    heap_decref(heap, dict);
    heap_decref(heap, key);
}

/* Whether an int is changed in place or replaced, the figures say that one was made and one died. */
static void test_dict_incr_replaces_an_int_as_far_as_anybody_can_tell(void **state)
{
    struct heap *heap = *state;
    heap_ref dict = new_dict(heap), key = new_str(heap, "hits"), before, after;
    incr(heap, dict, key, 1000);
    heap_settle(heap);
    uint64_t created = counter_read(&heap->created), freed = counter_read(&heap->freed);
    incr(heap, dict, key, 1);
    assert_int_equal(heap_settle(heap), 1);
    assert_int_equal(counter_read(&heap->created), created + 1);
    assert_int_equal(counter_read(&heap->freed), freed + 1);

    OK(heap_dict_get(&before, heap, dict, key)); /* seen by a client: it has an id */
    uint64_t id;
    OK(heap_id(&id, heap, before));
    incr(heap, dict, key, 1);
    assert_int_equal(heap_settle(heap), 1);
    assert_int_equal(heap_find(heap, id), 0);

    OK(heap_dict_get(&before, heap, dict, key)); /* referred to from elsewhere */
    OK(heap_incref(heap, before));
    incr(heap, dict, key, 1);
    OK(heap_dict_get(&after, heap, dict, key));
    assert_int_not_equal(before, after);
    assert_int_equal(int_of(heap, before), 1002);
    assert_int_equal(int_of(heap, after), 1003);
    assert_int_equal(heap_settle(heap), 0);
    heap_decref(heap, before);

    heap_ref weak; /* with a weakref: it must be seen to die */
    OK(heap_weakref_shared(&weak, heap, after));
    incr(heap, dict, key, 1);
    assert_int_equal(heap_weakref_target(heap, weak), 0);
    heap_decref(heap, weak);
    heap_decref(heap, dict);
    heap_decref(heap, key);
}

/* Keys given by their text are those given as objects: small and big tables, shared and long strs, deleted entries. */
static void test_dict_text_keys_are_str_keys(void **state)
{
    struct heap *heap = *state;
    heap_ref dict = new_dict(heap), value, bytes;
    char text[700];
    int64_t sum;
    memset(text, 'x', sizeof text);
    OK(heap_bytes_create(&bytes, heap, "x1", 2)); /* equal to no str */
    OK(heap_dict_set_steal(heap, dict, bytes, new_int(heap, 1)));
    for (int round = 0; round < 3; round++) {
        for (size_t len = 0; len < 600; len++) {
            struct heap_text key = {text, len};
            heap_ref str;
            OK(heap_str_create(&str, heap, text, len));
            bool was_there = round == 1 || (round == 2 && len % 3 != 0);
            assert_int_equal(heap_dict_get_text(heap, dict, key) != 0, was_there);
            OK(heap_dict_get(&value, heap, dict, str));
            assert_int_equal(value, heap_dict_get_text(heap, dict, key));
            OK(heap_dict_incr_text(&sum, heap, dict, key, 1000));
            assert_int_equal(sum, was_there ? (round + 1) * 1000 : 1000);
            assert_int_equal(incr(heap, dict, str, 0), sum);
            if (round == 1 && len % 3 == 0) {
                OK(pop(&value, heap, dict, str));
                heap_decref(heap, value);
            }
            heap_decref(heap, str);
        }
    }
    assert_int_equal(heap_dict_len(heap, dict), 601);
    heap_ref key = new_str(heap, "list"), list = new_list(heap);
    OK(heap_dict_set_steal(heap, dict, key, list));
    assert_int_equal(heap_dict_get_text(heap, dict, (struct heap_text){"list", 4}), list);
    assert_int_equal(heap_dict_incr_text(&sum, heap, dict, (struct heap_text){"list", 4}, 1), HEAP_TYPE);
    heap_decref(heap, dict);
}

static void set_digits(struct heap *heap, heap_ref dict, heap_ref key, const char *digits)
{
    heap_ref value;
    OK(heap_int_parse(&value, heap, digits, strlen(digits)));
    OK(heap_incref(heap, key));
    OK(heap_dict_set_steal(heap, dict, key, value));
}

static void test_dict_incr_stays_within_64_bits(void **state)
{
    struct heap *heap = *state;
    heap_ref dict = new_dict(heap), key = new_str(heap, "hits");
    int64_t sum = 77;
    set_digits(heap, dict, key, "9223372036854775807");
    assert_int_equal(heap_dict_incr(&sum, heap, dict, key, 1), HEAP_OVERFLOW);
    assert_int_equal(incr(heap, dict, key, 0), INT64_MAX);
    assert_int_equal(heap_dict_incr(&sum, heap, dict, key, INT64_MAX), HEAP_OVERFLOW);
    set_digits(heap, dict, key, "-9223372036854775808");
    assert_int_equal(heap_dict_incr(&sum, heap, dict, key, -1), HEAP_OVERFLOW);
    assert_true(incr(heap, dict, key, INT64_MAX) == -1);
    set_digits(heap, dict, key, "9223372036854775808");
    assert_int_equal(heap_dict_incr(&sum, heap, dict, key, 0), HEAP_OVERFLOW);
    assert_true(incr(heap, dict, key, -1) == INT64_MAX);
    set_digits(heap, dict, key, "-18446744073709551615");
    assert_int_equal(heap_dict_incr(&sum, heap, dict, key, INT64_MAX - 1), HEAP_OVERFLOW);
    assert_true(incr(heap, dict, key, INT64_MAX) == INT64_MIN);
    set_digits(heap, dict, key, "123456789012345678901234567890");
    assert_int_equal(heap_dict_incr(&sum, heap, dict, key, -1), HEAP_OVERFLOW);
    assert_int_equal(sum, 77);
    heap_decref(heap, dict);
    heap_decref(heap, key);
}

static void test_dict_incr_wants_an_int(void **state)
{
    struct heap *heap = *state;
    heap_ref dict = new_dict(heap), key = new_str(heap, "hits"), value;
    int64_t sum = 77;
    const heap_ref others[] = {heap_bool(heap, true), heap_none(heap), new_str(heap, "12")};
    for (int i = 0; i < 3; i++) {
        OK(heap_incref(heap, key));
        OK(heap_dict_set_steal(heap, dict, key, others[i]));
        assert_int_equal(heap_dict_incr(&sum, heap, dict, key, 1), HEAP_TYPE);
        OK(heap_dict_get(&value, heap, dict, key));
        assert_int_equal(value, others[i]);
    }
    assert_int_equal(sum, 77);
    heap_decref(heap, dict);
    heap_decref(heap, key);
}

/* ---- memory and damage ---- */

/* At every limit of memory a dict takes the entry whole or stays as it was. */
static void test_dict_out_of_memory_changes_nothing(void **state)
{
    struct heap *heap = *state;
    heap_ref dict = new_dict(heap), from = new_dict(heap);
    for (int64_t i = 0; i < 30000; i++) {
        set_int(heap, from, i, 0);
    }
    struct heap_stats stats;
    heap_stats(&stats, heap);
    uint64_t used = stats.arena_bytes + stats.raw_bytes + stats.table_bytes;
    heap_set_limits(heap, &(struct heap_limits){.max_bytes = used + 300000});
    assert_int_equal(heap_dict_update(heap, dict, from), HEAP_MEMORY);
    assert_int_equal(heap_dict_len(heap, dict), 0);
    int64_t n = 0;
    enum heap_error error = HEAP_OK;
    while (error == HEAP_OK && n < 200) {
        error = heap_dict_set_steal(heap, dict, new_int(heap, n), heap_none(heap));
        n += error == HEAP_OK;
    }
    assert_int_equal(n, 200); /* a small dict fits what is free */
    for (; error == HEAP_OK && n < 200000; n += error == HEAP_OK) {
        heap_ref key; /* of small ints there are not enough: the str is the first to fail now and then */
        error = heap_float_create(&key, heap, (double)n + 0.5);
        if (error == HEAP_OK) {
            error = heap_dict_set_steal(heap, dict, key, heap_none(heap));
        }
    }
    assert_int_equal(error, HEAP_MEMORY);
    assert_int_equal(heap_dict_len(heap, dict), n);
    check_table(heap, dict);
    heap_set_limits(heap, &(struct heap_limits){0});
    OK(heap_dict_update(heap, dict, from));
    check_table(heap, dict);
    heap_decref(heap, dict);
    heap_decref(heap, from);
}

#if HEAP_DEBUG >= 1
/* What is tried with the 1st, 2nd, .. request for memory failing, until none fails. */
enum attempt { ATTEMPT_SET, ATTEMPT_INCR, ATTEMPT_UPDATE, ATTEMPTS };

static enum heap_error attempt(struct heap *heap, heap_ref dict, enum attempt what, heap_ref key,
                               heap_ref from)
{
    int64_t sum;
    switch (what) {
    case ATTEMPT_SET:
        OK(heap_incref(heap, key));
        return heap_dict_set_steal(heap, dict, key, heap_none(heap));
    case ATTEMPT_INCR:
        return heap_dict_incr(&sum, heap, dict, key, 1000);
    default:
        return heap_dict_update(heap, dict, from);
    }
}

static void test_dict_any_request_for_memory_may_fail(void **state)
{
    struct heap *heap = *state;
    static const int64_t sizes[] = {0, 2, 8, 10, 21, 85, 5461, 10922}; /* where something grows */
    heap_ref from = new_dict(heap), key = new_str(heap, "another");
    for (int64_t i = 0; i < 100; i++) {
        set_int(heap, from, -i - 10, 0);
    }
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        for (int what = 0; what < ATTEMPTS; what++) {
            heap_ref dict = new_dict(heap);
            for (int64_t i = 0; i < sizes[s]; i++) {
                set_int(heap, dict, i, 0);
            }
            enum heap_error error = HEAP_MEMORY;
            for (uint64_t n = 1; error != HEAP_OK; n++) {
                assert_int_equal(heap_dict_len(heap, dict), sizes[s]);
                assert_int_equal(heap_refcount(heap, key), 1);
                pymalloc_trim(&heap->pm);
                heap->pm.fail_after = n;
                error = attempt(heap, dict, (enum attempt)what, key, from);
                heap->pm.fail_after = 0;
                assert_true(error == HEAP_OK || error == HEAP_MEMORY);
                check_table(heap, dict);
            }
            assert_int_equal(heap_dict_len(heap, dict), sizes[s] + (what == ATTEMPT_UPDATE ? 100 : 1));
            heap_decref(heap, dict);
            heap_settle(heap);
        }
    }
    heap_decref(heap, from);
    heap_decref(heap, key);
}

/* Removing needs no memory, not even to make the table smaller. */
static void test_dict_removing_does_without_memory(void **state)
{
    struct heap *heap = *state;
    heap_ref dict = new_dict(heap), keys = new_list(heap);
    for (int64_t i = 0; i < 6000; i++) {
        heap_ref key = new_int(heap, i * 1000);
        link_to(heap, keys, key);
        OK(heap_dict_set_steal(heap, dict, key, heap_none(heap)));
    }
    uint64_t after = 0;
    heap_ref key, value;
    assert_true(heap_dict_serial_next(heap, dict, &after, &key, &value)); /* it would need serial numbers */
    pymalloc_trim(&heap->pm);
    heap->pm.fail_after = 1;
    for (uint32_t i = 0; i < 6000; i++) {
        OK(pop(&value, heap, dict, heap_seq_item(heap, keys, i)));
        if (i % 500 == 0) {
            check_table(heap, dict);
        }
    }
    heap->pm.fail_after = 0;
    heap_decref(heap, dict);
    heap_decref(heap, keys);
}
#endif

static void test_dict_checker_finds_damage(void **state)
{
    struct heap *heap = *state;
    heap_ref small = new_dict(heap), big = new_dict(heap);
    for (int64_t i = 0; i < 100; i++) {
        set_int(heap, i < 5 ? small : big, i * 1000, i);
    }
    struct table *t = table_of(heap, small);
    t->live--;
    assert_true(is_found_out(heap, small));
    t->live++;
    uint32_t *entry = table_entry(t, 1), kept = entry[0];
    entry[0] = *table_entry(t, 0); /* the same key twice */
    assert_true(is_found_out(heap, small));
    entry[0] = kept;
    check_table(heap, small);

    t = table_of(heap, big);
    struct table_big *b = t->entries;
    uint32_t swapped = *table_entry(t, 3);
    *table_entry(t, 3) = *table_entry(t, 90); /* found under another number */
    *table_entry(t, 90) = swapped;
    assert_true(is_found_out(heap, big));
    *table_entry(t, 90) = *table_entry(t, 3);
    *table_entry(t, 3) = swapped;
    check_table(heap, big);
    b->index.used++;
    assert_true(is_found_out(heap, big));
    b->index.used--;
    b->loose = 5;
    assert_true(is_found_out(heap, big));
    b->loose = 0;
    b->migrated = 1;
    assert_true(is_found_out(heap, big));
    b->migrated = 0;
    t->fill = b->room + 1;
    assert_true(is_found_out(heap, big));
    t->fill = t->live;
    check_table(heap, big);
    heap_decref(heap, small);
    heap_decref(heap, big);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_dict_keeps_insertion_order_and_the_first_key),
        TEST(test_dict_refuses_unhashable_keys_and_stays_as_it_was),
        TEST(test_dict_values_may_be_holes),
        TEST(test_dict_pop_gives_the_value_away),
        TEST(test_dict_is_never_larger_than_cpythons),
        TEST(test_dict_gives_room_back_as_it_empties),
        TEST(test_dict_behaves_as_a_model),
        TEST(test_dict_as_a_queue_stays_small),
        TEST(test_dict_as_a_stack_stays_small),
        TEST(test_dict_positions_stay_good_while_entries_are_added),
        TEST(test_dict_listing_sees_once_what_stays),
        TEST(test_dict_listing_again_starts_from_the_front),
        TEST(test_dict_update_takes_all),
        TEST(test_dict_update_with_itself_or_a_list),
        TEST(test_dict_update_changes_nothing_when_a_count_is_full),
        TEST(test_dict_incr_counts),
        TEST(test_dict_incr_replaces_an_int_as_far_as_anybody_can_tell),
        TEST(test_dict_incr_stays_within_64_bits),
        TEST(test_dict_incr_wants_an_int),
        TEST(test_dict_text_keys_are_str_keys),
        TEST(test_dict_out_of_memory_changes_nothing),
#if HEAP_DEBUG >= 1
        TEST(test_dict_any_request_for_memory_may_fail),
        TEST(test_dict_removing_does_without_memory),
#endif
        TEST(test_dict_checker_finds_damage),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
