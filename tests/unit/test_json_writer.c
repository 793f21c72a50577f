/* test_json_writer.c -- the output buffer, and strings that jansson reads back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "../../protocol/json_writer.h"
#include "random_fixture.h"

static void expect_content(const struct out *out, const char *text)
{
    assert_false(out->failed);
    assert_int_equal(out->len, strlen(text));
    assert_memory_equal(out->data, text, out->len);
}

static void test_json_writer_appends(void **state)
{
    (void)state;
    struct out out;
    out_init(&out, 0);
    out_text(&out, "{\"a\":");
    out_u64(&out, UINT64_MAX);
    out_char(&out, ',');
    out_i64(&out, INT64_MIN);
    out_char(&out, ' ');
    out_double(&out, 1.1);
    out_bytes(&out, "xyz", 2);
    expect_content(&out, "{\"a\":18446744073709551615,-9223372036854775808 1.1xy");
    out_truncate(&out, 3);
    out_json_string(&out, "q", 1);
    expect_content(&out, "{\"a\"q\"");
    out_fini(&out);
}

static void test_json_writer_escapes(void **state)
{
    (void)state;
    struct out out;
    out_init(&out, 0);
    out_json_string(&out, "", 0);
    out_json_string(&out, "a\"b\\c/d\b\f\n\r\t\v\x1f\x7f\0\xc3\xa4", 18);
    expect_content(&out, "\"\"\"a\\\"b\\\\c/d\\b\\f\\n\\r\\t\\u000b\\u001f\x7f\\u0000\xc3\xa4\"");
    out_fini(&out);
}

static void test_json_writer_strings_read_back(void **state)
{
    (void)state;
    for (int i = 0; i < 30000; i++) {
        char text[200];
        size_t len = random_u64() % 150, escapes = random_u64() % 4;
        for (size_t k = 0; k < len; k++) {
            text[k] = (char)(random_u64() % 8 < escapes ? random_u64() % 0x30 : 'a' + random_u64() % 26);
            if (random_u64() % 16 == 0) {
                text[k] = '\\';
            }
        }
        struct out out;
        out_init(&out, 0);
        out_json_string(&out, text, len);
        assert_false(out.failed);
        json_t *j_text = json_loadb(out.data, out.len, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
        assert_non_null(j_text);
        assert_int_equal(json_string_length(j_text), len);
        assert_memory_equal(json_string_value(j_text), text, len);
        json_decref(j_text);
        out_fini(&out);
    }
}

static void test_json_writer_keeps_to_its_limit(void **state)
{
    (void)state;
    struct out out;
    out_init(&out, 1000);
    for (int i = 0; i < 300; i++) {
        out_text(&out, "0123456789");
    }
    assert_true(out.failed);
    assert_true(out.too_long);
    assert_int_equal(out.len, 1000);
    out_char(&out, 'x');
    out_json_string(&out, "abc", 3);
    assert_int_equal(out.len, 1000);
    out_truncate(&out, 990);
    out_text(&out, "abc");
    assert_false(out.failed);
    assert_int_equal(out.len, 993);
    out_json_string(&out, "\n\n\n\n\n", 5); /* 12 bytes with its escapes: does not fit, leaves nothing */
    assert_true(out.failed);
    assert_int_equal(out.len, 993);
    out_fini(&out);
}

/* A size that cannot be had is a failure, not an overflow. */
static void test_json_writer_survives_lack_of_memory(void **state)
{
    (void)state;
    struct out out;
    out_init(&out, 0);
    out_text(&out, "abc");
    assert_false(out_reserve(&out, SIZE_MAX - 1));
    assert_true(out.failed);
    out_truncate(&out, 3);
    expect_content(&out, "abc");
    out_fini(&out);
    assert_null(out.data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_json_writer_appends),
        cmocka_unit_test(test_json_writer_escapes),
        cmocka_unit_test(test_json_writer_strings_read_back),
        cmocka_unit_test(test_json_writer_keeps_to_its_limit),
        cmocka_unit_test(test_json_writer_survives_lack_of_memory),
    };
    return cmocka_run_group_tests(tests, seed_random, NULL);
}
