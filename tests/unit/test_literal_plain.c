/* test_literal_plain.c -- values without `$` words, built whole and in slices. */
#include "literal_fixture.h"

/* ---- random values ---- */

static void random_space(struct out *out)
{
    for (uint32_t n = random_below(4) == 0 ? random_below(40) : 0; n > 0; n--) {
        out_char(out, " \t\r\n"[random_below(4)]);
    }
}

static void random_string(struct out *out, uint32_t different)
{
    static const char *const pieces[] = {"\\n", "\\\"", "\\\\", "\\u00e4", "\xc3\xa4", "\\ud83d\\ude00", "k", "the longer text", "/"};
    uint32_t number = random_below(different);
    out_text(out, "\"x"); /* no `$` comes first */
    for (uint32_t n = number % 7; n > 0; n--) {
        out_text(out, pieces[(number + n) % (sizeof pieces / sizeof *pieces)]);
    }
    out_u64(out, number);
    out_char(out, '"');
}

static void random_atom(struct out *out)
{
    static const char *const atoms[] = {"null", "true", "false", "0", "-0", "257", "-9223372036854775808", "\"\"", "\"\\u0000\"", "[]", "{ }",
                                        "1.5", "-0.0", "1e300", "0.1234567890123456789", "123456789012345678e-20"};
    if (random_below(3) == 0) {
        random_string(out, 1000);
    } else if (random_below(3) == 0) {
        out_i64(out, (int64_t)random_u64() >> random_below(60));
    } else {
        out_text(out, atoms[random_below(sizeof atoms / sizeof *atoms)]);
    }
}

/* A value of JSON without `$`; sometimes a container is longer than what is made at once. */
static void random_plain(struct out *out, unsigned depth)
{
    random_space(out);
    if (depth == 0 || random_below(4) == 0) {
        random_atom(out);
    } else {
        bool is_object = random_below(2) != 0;
        uint32_t n = random_below(60) == 0 ? 400 + random_below(1500) : random_below(12);
        uint32_t different = 1 + random_below(2 * n + 2);
        out_char(out, is_object ? '{' : '[');
        for (uint32_t i = 0; i < n; i++) {
            random_space(out);
            if (is_object) {
                random_string(out, different);
                random_space(out);
                out_char(out, ':');
            }
            random_plain(out, n > 100 ? 0 : depth - 1);
            if (i + 1 < n) {
                out_char(out, ',');
            }
        }
        random_space(out);
        out_char(out, is_object ? '}' : ']');
    }
    random_space(out);
}

/* ---- tests ---- */

/* Builds in slices of the least size; gives up after `steps` of them. 0: given up, or failed with *error. */
static heap_ref read_sliced(struct heap *heap, const struct json_value *value, uint64_t steps,
                            struct literal_error *error)
{
    struct literal_builder *builder = literal_builder_create(heap, value);
    enum literal_progress progress = LITERAL_GOES_ON;
    heap_ref obj = 0;
    assert_non_null(builder);
    while (progress == LITERAL_GOES_ON && steps-- > 0) {
        progress = literal_builder_step(&obj, builder, 0, error);
    }
    while (!literal_builder_drop(builder, 0)) {
    }
    literal_builder_destroy(builder);
    return progress == LITERAL_DONE ? obj : 0;
}

/* The two ways that read without a plan of labels, and the slices of one of them, make the same. */
static void test_literal_plain_is_the_same_however_it_is_read(void **state)
{
    struct heap *heap = *state;
    struct literal_error error;
    for (int round = 0; round < 300; round++) {
        struct out out, forms;
        out_init(&out, 0);
        random_plain(&out, 5);
        out_init(&forms, 0);
        out_text(&forms, "{\"$json\":");
        out_bytes(&forms, out.data, out.len);
        out_text(&forms, "}");
        out_char(&forms, '\0');
        out_char(&out, '\0');
        struct text text = text_of(out.data, out.len - 1);
        assert_false(text.value.has_dollar);
        heap_ref whole = must_read(heap, out.data), with_forms = must_read(heap, forms.data);
        heap_ref sliced = read_sliced(heap, &text.value, UINT64_MAX, &error);
        assert_true(sliced != 0);
        char *expected = written(heap, with_forms), *first = written(heap, whole), *second = written(heap, sliced);
        assert_string_equal(first, expected);
        assert_string_equal(second, expected);
        heap_decref(heap, whole);
        heap_decref(heap, with_forms);
        heap_decref(heap, sliced);
        assert_int_equal(live(heap), 0);
        heap_ref half = read_sliced(heap, &text.value, random_below(20), &error);
        heap_decref(heap, half);
        assert_int_equal(live(heap), 0);
        free(expected);
        free(first);
        free(second);
        free(text.data);
        out_fini(&out);
        out_fini(&forms);
    }
}

/* What only the content can have wrong is found in slices too, wherever it stands. */
static void test_literal_plain_failing_in_slices_leaves_nothing(void **state)
{
    struct heap *heap = *state;
    static const char *const wrong[] = {"1e400", "9223372036854775808", "-1e999999999999"};
    for (uint32_t before = 0; before < 4000; before += 1 + before) {
        struct out out;
        out_init(&out, 0);
        out_text(&out, "{\"a\":[");
        for (uint32_t i = 0; i < before; i++) {
            out_text(&out, "{\"b\":[\"some\",1000]},");
        }
        out_text(&out, wrong[before % 3]);
        out_text(&out, "]}");
        struct text text = text_of(out.data, out.len);
        struct literal_error error = {0};
        assert_int_equal(read_sliced(heap, &text.value, UINT64_MAX, &error), 0);
        assert_int_equal(error.fault, LITERAL_VALUE);
        assert_int_equal(live(heap), 0);
        free(text.data);
        out_fini(&out);
    }
}

/* Every limit of bytes below what is needed fails as memory_error and leaves nothing, in slices or not. */
static void test_literal_plain_fails_cleanly_without_memory(void **state)
{
    (void)state;
    struct out out;
    int failed = 0, taken = 0;
    out_init(&out, 0);
    out_text(&out, "{\"few\":[1000,\"text\",{}],\"list\":[");
    for (int i = 0; i < 3000; i++) {
        out_text(&out, "10000,");
    }
    out_text(&out, "{\"dict\":{");
    for (int i = 0; i < 1500; i++) {
        out_text(&out, "\"key number ");
        out_i64(&out, i);
        out_text(&out, "\":1.5,");
    }
    out_text(&out, "\"last\":null}}]}");
    struct text text = text_of(out.data, out.len);
    for (uint64_t limit = 1; limit < (uint64_t)64 << 20; limit += limit / 16 + 1) {
        struct heap *heap = heap_create(
            &(struct heap_config){.limits.max_bytes = limit, .reserve_bytes = (uint64_t)512 << 20});
        if (heap == NULL) {
            continue;
        }
        heap_enter(heap);
        for (int sliced = 0; sliced < 2; sliced++) {
            struct literal_error error = {0};
            heap_ref obj = 0;
            if (sliced) {
                obj = read_sliced(heap, &text.value, UINT64_MAX, &error);
            } else if (!literal_read(&obj, heap, &text.value, &error)) {
                obj = 0;
            }
            if (obj == 0) {
                assert_int_equal(error.fault, LITERAL_HEAP);
                assert_int_equal(error.heap, HEAP_MEMORY);
                failed++;
            }
            taken += obj != 0;
            heap_decref(heap, obj);
            assert_int_equal(live(heap), 0);
        }
        assert_int_equal(heap_check(heap, stderr), 0);
        heap_leave(heap);
        heap_destroy(heap);
    }
    assert_true(failed > 20 && taken > 0);
    free(text.data);
    out_fini(&out);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_literal_plain_is_the_same_however_it_is_read),
        TEST(test_literal_plain_failing_in_slices_leaves_nothing),
        cmocka_unit_test(test_literal_plain_fails_cleanly_without_memory),
    };
    return cmocka_run_group_tests(tests, seed_random, NULL);
}
