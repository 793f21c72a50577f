/* test_json_reader.c -- the one-pass reader against the RFC and the parsing suite.  test_json_differential.c has it
 * beside jansson.
 *
 * Every text is scanned in a block of malloc that ends where the padding ends, so that the address
 * sanitizer sees a byte too many.
 */
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../../protocol/json_reader.h"

#define DEPTH 2000

/* Where the real inputs lie; HEAPD_TEST_DATA says otherwise. */
static const char *data_path(void)
{
    const char *given = getenv("HEAPD_TEST_DATA");
    return given ? given : "../shared/data";
}

/* ---- helpers ---- */

/* The text as a reader wants it: a newline and the padding behind it.  Freed by the caller. */
static char *padded(const char *text, size_t len)
{
    char *copy = malloc(len + 1 + JSON_PADDING_BYTES);
    assert_non_null(copy);
    memcpy(copy, text, len);
    copy[len] = '\n';
    memset(copy + len + 1, '"', JSON_PADDING_BYTES); /* what would mislead a reader that runs over */
    return copy;
}

static bool scan(const char *text, size_t len, unsigned max_depth, struct json_error *error)
{
    char *copy = padded(text, len);
    struct json_value value;
    bool good = json_scan(copy, len, max_depth, &value, error);
    assert_int_equal(good, error->message == NULL);
    if (good) {
        assert_true(value.text >= copy && value.text + value.len <= copy + len);
    } else {
        assert_true(error->offset <= len);
    }
    free(copy);
    return good;
}

static bool is_good(const char *text)
{
    struct json_error error;
    return scan(text, strlen(text), DEPTH, &error);
}

static char *meaning_of(const struct json_string *string, size_t *len)
{
    char *text = malloc(string->len + 1);
    assert_non_null(text);
    *len = json_unescape(text, string);
    assert_true(*len <= string->len);
    text[*len] = '\0';
    assert_true(json_string_equals(string, text, *len));
    assert_false(json_string_equals(string, text, *len + 1));
    return text;
}

/* ---- grammar ---- */

static void test_json_reader_takes_what_the_grammar_takes(void **state)
{
    (void)state;
    static const char *const good[] = {"0",
                                       "-0",
                                       "10",
                                       "-1",
                                       "1.5",
                                       "0.5e1",
                                       "1E+2",
                                       "1e-2",
                                       "123456789012345678901234567890",
                                       "true",
                                       "false",
                                       "null",
                                       "\"\"",
                                       "\"a\"",
                                       " [ ] ",
                                       "{}",
                                       "[1]",
                                       "[1,2]",
                                       "[[],{}]",
                                       "{\"a\":1}",
                                       "{\"a\" : 1 , \"b\" : [ ] }",
                                       "\t\r\n 1 \n\r\t",
                                       "\"\\u0000\"",
                                       "\"\\ud83d\\ude00\"",
                                       "\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"",
                                       "{\"\":{\"\":{}}}",
                                       "\"\x7f\"",
                                       "\"\xc2\x80\"",
                                       "\"\xf4\x8f\xbf\xbf\"",
                                       "\"\xed\x9f\xbf\"",
                                       "\"\xee\x80\x80\"",
                                       "{\"a\":1,\"a\":2}",
                                       "\"0123456789abcdef0123456789abcdef\xc3\xa4 0123456789abcdef\"",
                                       "[                                                                1]"};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        if (!is_good(good[i])) {
            fail_msg("refused: %s", good[i]);
        }
    }
}

static void test_json_reader_refuses_what_is_no_json(void **state)
{
    (void)state;
    static const char *const bad[] = {"",
                                      " ",
                                      "-",
                                      "+1",
                                      "01",
                                      "-01",
                                      "1.",
                                      ".5",
                                      "1e",
                                      "1e+",
                                      "1.e1",
                                      "0x1",
                                      "1 2",
                                      "nul",
                                      "nulll",
                                      "True",
                                      "NaN",
                                      "Infinity",
                                      "'a'",
                                      "\"",
                                      "\"a",
                                      "\"\\",
                                      "\"\\\"",
                                      "\"\\x\"",
                                      "\"\\u12g4\"",
                                      "\"\\u123\"",
                                      "\"\\ud800\"",
                                      "\"\\udc00\"",
                                      "\"\\ud800\\u0041\"",
                                      "\"\\ud800\\ud800\"",
                                      "\"\\ud800x\"",
                                      "\"\n\"",
                                      "\"\x01\"",
                                      "\"\x1f\"",
                                      "[",
                                      "]",
                                      "[1",
                                      "[1,",
                                      "[1,]",
                                      "[,1]",
                                      "[1 2]",
                                      "[1}",
                                      "{",
                                      "}",
                                      "{\"a\"",
                                      "{\"a\":",
                                      "{\"a\":}",
                                      "{\"a\":1",
                                      "{\"a\":1,",
                                      "{\"a\":1,}",
                                      "{a:1}",
                                      "{1:1}",
                                      "{\"a\" 1}",
                                      "{\"a\":1]",
                                      "{,}",
                                      "[]]",
                                      "{}}",
                                      "[] []",
                                      "1,",
                                      "\xef\xbb\xbf"
                                      "1",
                                      "\"\x80\"",
                                      "\"\xc0\x80\"",
                                      "\"\xc1\xbf\"",
                                      "\"\xe0\x80\x80\"",
                                      "\"\xe0\x9f\xbf\"",
                                      "\"\xed\xa0\x80\"",
                                      "\"\xf0\x80\x80\x80\"",
                                      "\"\xf0\x8f\xbf\xbf\"",
                                      "\"\xf4\x90\x80\x80\"",
                                      "\"\xf5\x80\x80\x80\"",
                                      "\"\xff\"",
                                      "\"\xc3\"",
                                      "\"\xe2\x82\"",
                                      "\"\xf0\x9f\x98\"",
                                      "\v1",
                                      "\f1",
                                      "1\f",
                                      "// 1",
                                      "1 /* a */",
                                      "\xc3\xa4"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        if (is_good(bad[i])) {
            fail_msg("taken: %s", bad[i]);
        }
    }
}

static void test_json_reader_refuses_nul_everywhere(void **state)
{
    (void)state;
    static const char text[] = "{\"a\": [1, 2.5, \"b\", true]} ";
    struct json_error error;
    for (size_t i = 0; i < sizeof text; i++) {
        char with[sizeof text + 1];
        memcpy(with, text, i);
        with[i] = '\0';
        memcpy(with + i + 1, text + i, sizeof text - 1 - i);
        assert_false(scan(with, sizeof text, DEPTH, &error));
        assert_false(error.too_deep);
    }
}

/* A text that ends early is refused wherever it ends. */
static void test_json_reader_refuses_every_beginning(void **state)
{
    (void)state;
    static const char text[] =
        "{\"key\": [1.25e+10, \"\\u00e4\\ud83d\\ude00 \xc3\xa4 \\n\", true, false, null, {}]}";
    struct json_error error;
    for (size_t n = 0; n < sizeof text - 1; n++) {
        assert_false(scan(text, n, DEPTH, &error));
    }
    assert_true(scan(text, sizeof text - 1, DEPTH, &error));
}

static void test_json_reader_says_where(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        size_t offset;
    } cases[] = {
        {"", 0},          {"   ", 3}, {"[1 2]", 3}, {"{\"a\":1,}", 7}, {"[\"ab\x01\"]", 4},
        {"[tru]", 1},     {"1 x", 2}, {"[1,2", 4},  {"\"abc", 4},      {"{\"a\" 1}", 5},
        {"[\"\\q\"]", 2}, {"01", 1},  {"-x", 1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct json_error error;
        assert_false(scan(cases[i].text, strlen(cases[i].text), DEPTH, &error));
        assert_int_equal(error.offset, cases[i].offset);
        assert_true(strlen(error.message) > 5);
    }
}

/* ---- nesting ---- */

static char *nested(size_t depth, bool closed, size_t *len)
{
    /* Arrays and objects in turn. */
    char *text = malloc(depth * 6 + 1);
    assert_non_null(text);
    size_t n = 0;
    for (size_t i = 0; i < depth; i++) {
        n += (size_t)sprintf(text + n, "%s", i % 3 == 1 && i + 1 < depth ? "{\"\":" : "[");
    }
    for (size_t i = depth; i > 0 && closed; i--) {
        text[n++] = (i - 1) % 3 == 1 && i < depth ? '}' : ']';
    }
    *len = n;
    return text;
}

static void test_json_reader_limits_nesting(void **state)
{
    (void)state;
    static const size_t depths[] = {1, 2, 63, 64, 65, 1999, 2000, 2001, 2047, 2048, 2049, 5000, 100000};
    for (size_t i = 0; i < sizeof depths / sizeof *depths; i++) {
        size_t len;
        char *text = nested(depths[i], true, &len);
        struct json_error error;
        assert_int_equal(scan(text, len, 2000, &error), depths[i] <= 2000);
        assert_int_equal(error.too_deep, depths[i] > 2000);
        assert_int_equal(scan(text, len, (unsigned)depths[i], &error), 1);
        assert_false(scan(text, len, (unsigned)depths[i] - 1, &error));
        assert_true(error.too_deep);
        /* Malformed is said before too deep. */
        assert_false(scan(text, len - 1, 10, &error));
        assert_false(error.too_deep);
        text[len - 1] = '!';
        assert_false(scan(text, len, 10, &error));
        assert_false(error.too_deep);
        assert_int_equal(error.offset, len - 1);
        free(text);
    }
}

static void test_json_reader_counts_entered_containers(void **state)
{
    (void)state;
    static const char text[] = "{\"a\":[[1]]}\n";
    for (unsigned max = 0; max < 5; max++) {
        char *copy = padded(text, sizeof text - 2);
        struct json_cursor cursor;
        struct json_string name;
        struct json_value value;
        json_cursor_init(&cursor, copy, sizeof text - 2, max);
        assert_int_equal(json_peek(&cursor), '{');
        assert_true(json_enter(&cursor));
        assert_true(json_next_member(&cursor, &name));
        assert_true(json_scan_value(&cursor, &value));
        assert_false(json_next_member(&cursor, &name));
        assert_int_equal(json_finish(&cursor), max >= 3);
        assert_int_equal(cursor.error.too_deep, max < 3);
        free(copy);
    }
}

/* ---- what the spans say ---- */

static void test_json_reader_classifies_values(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        enum json_kind kind;
        int64_t integer;
        bool overflow, escapes, dollar;
    } cases[] = {
        {"null", JSON_KIND_NULL, 0, 0, 0, 0},
        {"true", JSON_KIND_TRUE, 0, 0, 0, 0},
        {"false", JSON_KIND_FALSE, 0, 0, 0, 0},
        {"17", JSON_KIND_INT, 17, 0, 0, 0},
        {"-0", JSON_KIND_INT, 0, 0, 0, 0},
        {"-999999999999999999", JSON_KIND_INT, -999999999999999999, 0, 0, 0},
        {"9223372036854775807", JSON_KIND_INT, INT64_MAX, 0, 0, 0},
        {"-9223372036854775808", JSON_KIND_INT, INT64_MIN, 0, 0, 0},
        {"9223372036854775808", JSON_KIND_INT, 0, 1, 0, 0},
        {"1e3", JSON_KIND_FLOAT, 0, 0, 0, 0},
        {"1.0", JSON_KIND_FLOAT, 0, 0, 0, 0},
        {"\"$a\"", JSON_KIND_STRING, 0, 0, 0, 0},
        {"\"\\u0041\"", JSON_KIND_STRING, 0, 0, 1, 0},
        {"[\"$\"]", JSON_KIND_ARRAY, 0, 0, 0, 0},
        {"[{\"a$\":1}]", JSON_KIND_ARRAY, 0, 0, 0, 0},
        {"[{\"$a\":1}]", JSON_KIND_ARRAY, 0, 0, 0, 1},
        {"{\"a\":1,\"\\u0024\":1}", JSON_KIND_OBJECT, 0, 0, 0, 1},
        {"{\"a\":{\"$\":1}}", JSON_KIND_OBJECT, 0, 0, 0, 1},
        {"{\"\\u0025\":1}", JSON_KIND_OBJECT, 0, 0, 0, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *copy = padded(cases[i].text, strlen(cases[i].text));
        struct json_value value;
        struct json_error error;
        assert_true(json_scan(copy, strlen(cases[i].text), DEPTH, &value, &error));
        assert_ptr_equal(value.text, copy);
        assert_int_equal(value.len, strlen(cases[i].text));
        assert_int_equal(value.kind, cases[i].kind);
        assert_int_equal(value.integer, cases[i].integer);
        assert_int_equal(value.overflow, cases[i].overflow);
        assert_int_equal(value.has_escapes, cases[i].escapes);
        assert_int_equal(value.has_dollar, cases[i].dollar);
        free(copy);
    }
}

static void test_json_reader_keeps_dollars_of_values_apart(void **state)
{
    (void)state;
    static const char text[] = "[{\"$a\":1},{\"b\":[]}]";
    char *copy = padded(text, sizeof text - 1);
    struct json_cursor cursor;
    struct json_value value;
    json_cursor_init(&cursor, copy, sizeof text - 1, DEPTH);
    assert_true(json_enter(&cursor));
    assert_true(json_next_item(&cursor));
    assert_true(json_scan_value(&cursor, &value));
    assert_true(value.has_dollar);
    assert_true(json_next_item(&cursor));
    assert_true(json_scan_value(&cursor, &value));
    assert_false(value.has_dollar);
    assert_true(cursor.has_dollar);
    free(copy);
}

static void test_json_reader_walks_members(void **state)
{
    (void)state;
    static const char text[] = " { \"a\" : 1 , \"\\u0062\" : [ 1 , { \"x\" : 2 } ] , \"c\":{}}";
    char *copy = padded(text, sizeof text - 1);
    struct json_cursor cursor;
    struct json_string name;
    struct json_value value;
    json_cursor_init(&cursor, copy, sizeof text - 1, DEPTH);
    assert_int_equal(json_peek(&cursor), '{');
    assert_true(json_enter(&cursor));
    assert_true(json_next_member(&cursor, &name));
    assert_true(json_string_is(&name, "a"));
    assert_true(json_scan_value(&cursor, &value));
    assert_true(json_next_member(&cursor, &name));
    assert_true(json_string_is(&name, "b"));
    assert_false(json_string_is(&name, "a"));
    assert_false(json_string_is(&name, "bb"));
    assert_true(json_enter(&cursor));
    assert_true(json_next_item(&cursor));
    assert_true(json_scan_value(&cursor, &value));
    assert_true(json_next_item(&cursor));
    assert_int_equal(json_peek(&cursor), '{');
    assert_true(json_scan_value(&cursor, &value));
    assert_int_equal(value.len, strlen("{ \"x\" : 2 }"));
    struct json_cursor inner;
    json_cursor_within(&inner, &value);
    assert_true(json_enter(&inner));
    assert_true(json_next_member(&inner, &name));
    assert_true(json_string_is(&name, "x"));
    assert_true(json_scan_value(&inner, &value));
    assert_int_equal(value.integer, 2);
    assert_false(json_next_member(&inner, &name));
    assert_false(json_failed(&inner));
    assert_false(json_next_item(&cursor));
    assert_true(json_next_member(&cursor, &name));
    assert_true(json_enter(&cursor));
    assert_false(json_next_member(&cursor, &name));
    assert_false(json_next_member(&cursor, &name));
    assert_true(json_finish(&cursor));
    free(copy);
}

/* What is expected next is taken when it stands there as expected, and else nothing happens. */
static void test_json_reader_takes_expected_members(void **state)
{
    (void)state;
    static const char member[JSON_MEMBER_BYTES] = "\"key\":", longest[JSON_MEMBER_BYTES] = "\"abcdefghijklm\":";
    static const char text[] = "{\"id\":\"2.0\",\"key\":1 ,\"key\":2,\"abcdefghijklm\":3,\"keys\":4, \"id\":5}";
    char *block = padded(text, sizeof text - 1);
    struct json_cursor cursor;
    struct json_value value;
    struct json_string name;
    json_cursor_init(&cursor, block, sizeof text - 1, DEPTH);
    assert_true(json_enter(&cursor));
    assert_false(json_take_member(&cursor, "i"));
    assert_false(json_take_member_padded(&cursor, member));
    assert_true(json_take_member(&cursor, "id"));
    assert_false(json_take_value(&cursor, "\"2.1\""));
    assert_true(json_take_value(&cursor, "\"2.0\""));
    assert_true(json_take_member_padded(&cursor, member));
    assert_true(json_scan_value(&cursor, &value));
    assert_int_equal(value.integer, 1);
    assert_false(json_take_member_padded(&cursor, member)); /* a space stands before the comma */
    assert_true(json_next_member(&cursor, &name));
    assert_true(json_scan_value(&cursor, &value));
    assert_int_equal(value.integer, 2);
    assert_true(json_take_member_padded(&cursor, longest));
    assert_true(json_scan_value(&cursor, &value));
    assert_int_equal(value.integer, 3);
    assert_false(json_take_member_padded(&cursor, member)); /* only the beginning is the same */
    assert_true(json_next_member(&cursor, &name));
    assert_true(json_scan_value(&cursor, &value));
    assert_false(json_take_member(&cursor, "id")); /* a space stands behind the comma */
    assert_true(json_next_member(&cursor, &name));
    assert_true(json_scan_value(&cursor, &value));
    assert_int_equal(value.integer, 5);
    assert_false(json_take_member(&cursor, "id"));
    assert_false(json_next_member(&cursor, &name));
    assert_true(json_finish(&cursor));
    free(block);
}

static void test_json_reader_stays_failed(void **state)
{
    (void)state;
    static const char text[] = "[1,,2]";
    char *copy = padded(text, sizeof text - 1);
    struct json_cursor cursor;
    struct json_value value;
    json_cursor_init(&cursor, copy, sizeof text - 1, DEPTH);
    assert_true(json_enter(&cursor));
    assert_true(json_next_item(&cursor));
    assert_true(json_scan_value(&cursor, &value));
    assert_true(json_next_item(&cursor));
    assert_false(json_scan_value(&cursor, &value));
    assert_true(json_failed(&cursor));
    assert_false(json_next_item(&cursor));
    assert_false(json_enter(&cursor));
    assert_false(json_scan_value(&cursor, &value));
    assert_int_equal(json_peek(&cursor), 0);
    assert_false(json_finish(&cursor));
    assert_int_equal(cursor.error.offset, 3);
    free(copy);
}

static void test_json_reader_unescapes(void **state)
{
    (void)state;
    static const struct {
        const char *text, *meaning;
    } cases[] = {
        {"\"\"", ""},
        {"\"abc\"", "abc"},
        {"\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"", "\"\\/\b\f\n\r\t"},
        {"\"x\\u0041y\\u00e4\\u20ac\\ud83d\\uDE00z\"", "xAy\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80z"},
        {"\"\\uffff\\u07ff\\u0800\"", "\xef\xbf\xbf\xdf\xbf\xe0\xa0\x80"},
        {"\"\\udbff\\udfff\\ud800\\udc00\"", "\xf4\x8f\xbf\xbf\xf0\x90\x80\x80"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        size_t len = strlen(cases[i].text);
        char *copy = padded(cases[i].text, len);
        struct json_value value;
        struct json_error error;
        assert_true(json_scan(copy, len, DEPTH, &value, &error));
        struct json_string string = json_string_of(&value);
        size_t n;
        char *meaning = meaning_of(&string, &n);
        assert_string_equal(meaning, cases[i].meaning);
        assert_int_equal(n, strlen(cases[i].meaning));
        free(meaning);
        free(copy);
    }
}

/* ---- the parsing suite ---- */

static char *read_whole(const char *path, size_t *len)
{
    FILE *file = fopen(path, "rb");
    if (!file) {
        return NULL;
    }
    char *text = NULL;
    size_t room = 0;
    *len = 0;
    do {
        room = room ? room * 2 : 65536;
        text = realloc(text, room);
        assert_non_null(text);
        *len += fread(text + *len, 1, room - *len, file);
    } while (*len == room);
    fclose(file);
    return text;
}

static void test_json_reader_agrees_with_the_parsing_suite(void **state)
{
    (void)state;
    char folder[1000], path[1600];
    snprintf(folder, sizeof folder, "%s/JSONTestSuite/test_parsing", data_path());
    DIR *dir = opendir(folder);
    if (!dir) {
        print_message("skipped: %s is not there; set HEAPD_TEST_DATA\n", folder);
        skip();
    }
    int files = 0;
    for (struct dirent *entry = readdir(dir); entry; entry = readdir(dir)) {
        const char *name = entry->d_name;
        if (!strstr(name, ".json")) {
            continue;
        }
        snprintf(path, sizeof path, "%s/%s", folder, name);
        size_t len = 0;
        char *text = read_whole(path, &len);
        assert_non_null(text);
        struct json_error error;
        bool good = scan(text, len, DEPTH, &error);
        /* What the suite leaves open: numbers of any size and 500 levels are JSON; text that is no Unicode
         * and a byte order mark are not. */
        bool open_good =
            strncmp(name, "i_number", 8) == 0 || strcmp(name, "i_structure_500_nested_arrays.json") == 0;
        if (good != (name[0] == 'y' || (name[0] == 'i' && open_good))) {
            fail_msg("%s is %s", name, good ? "taken" : error.message);
        }
        assert_false(!good && error.too_deep);
        free(text);
        files++;
    }
    closedir(dir);
    assert_true(files > 300);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_json_reader_takes_what_the_grammar_takes),
        cmocka_unit_test(test_json_reader_refuses_what_is_no_json),
        cmocka_unit_test(test_json_reader_refuses_nul_everywhere),
        cmocka_unit_test(test_json_reader_refuses_every_beginning),
        cmocka_unit_test(test_json_reader_says_where),
        cmocka_unit_test(test_json_reader_limits_nesting),
        cmocka_unit_test(test_json_reader_counts_entered_containers),
        cmocka_unit_test(test_json_reader_classifies_values),
        cmocka_unit_test(test_json_reader_keeps_dollars_of_values_apart),
        cmocka_unit_test(test_json_reader_walks_members),
        cmocka_unit_test(test_json_reader_takes_expected_members),
        cmocka_unit_test(test_json_reader_stays_failed),
        cmocka_unit_test(test_json_reader_unescapes),
        cmocka_unit_test(test_json_reader_agrees_with_the_parsing_suite),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
