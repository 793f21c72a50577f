/* test_json_reader.c -- the one-pass reader against the RFC, the parsing suite and jansson.
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
#include <jansson.h>

#include "../../protocol/json_reader.h"
#include "../../protocol/number.h"

#define DEPTH 2000

/* Where the real inputs lie; HEAPD_TEST_DATA says otherwise. */
static const char *data_path(void)
{
    const char *given = getenv("HEAPD_TEST_DATA");
    return given ? given : "../shared/data";
}

/* ---- random numbers ---- */

static uint64_t random_state;

/* splitmix64 */
static uint64_t random_u64(void)
{
    uint64_t z = (random_state += UINT64_C(0x9e3779b97f4a7c15));
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

static size_t random_below(size_t n)
{
    return (size_t)(random_u64() % n);
}

static int seed_random(void **state)
{
    (void)state;
    const char *given = getenv("SEED");
    random_state = given ? strtoull(given, NULL, 0) : 20240607;
    printf("SEED=%llu\n", (unsigned long long)random_state);
    return 0;
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

/* The text's value as a jansson value, read with the cursor; NULL where jansson has no such value. */
static json_t *value_of(struct json_cursor *cursor);

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

static json_t *object_of(struct json_cursor *cursor)
{
    json_t *object = json_object();
    struct json_string name;
    assert_true(json_enter(cursor));
    while (json_next_member(cursor, &name)) {
        size_t len;
        char *key = meaning_of(&name, &len);
        assert_int_equal(json_object_setn_new(object, key, len, value_of(cursor)), 0);
        free(key);
    }
    assert_false(json_failed(cursor));
    return object;
}

static json_t *array_of(struct json_cursor *cursor)
{
    json_t *array = json_array();
    assert_true(json_enter(cursor));
    while (json_next_item(cursor)) {
        assert_int_equal(json_array_append_new(array, value_of(cursor)), 0);
    }
    assert_false(json_failed(cursor));
    return array;
}

static json_t *scalar_of(const struct json_value *value)
{
    struct json_string string;
    double real = 0;
    json_t *result = NULL;
    switch (value->kind) {
    case JSON_KIND_NULL:
        return json_null();
    case JSON_KIND_FALSE:
        return json_false();
    case JSON_KIND_TRUE:
        return json_true();
    case JSON_KIND_INT:
        return value->overflow ? NULL : json_integer(value->integer);
    case JSON_KIND_FLOAT:
        return number_read_double(&real, value->text, value->len) ? json_real(real) : NULL;
    case JSON_KIND_STRING:
        string = json_string_of(value);
        size_t len;
        char *text = meaning_of(&string, &len);
        result = json_stringn(text, len);
        free(text);
        return result;
    case JSON_KIND_ARRAY:
    case JSON_KIND_OBJECT:
        break;
    }
    fail();
    return NULL;
}

static json_t *value_of(struct json_cursor *cursor)
{
    char first = json_peek(cursor);
    if (first == '{') {
        return object_of(cursor);
    }
    if (first == '[') {
        return array_of(cursor);
    }
    struct json_value value;
    assert_true(json_scan_value(cursor, &value));
    return scalar_of(&value);
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
        size_t len;
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

/* ---- jansson as the oracle ---- */

/* Whether jansson's refusal is about what it can hold, not about the grammar. */
static bool is_limit_of_jansson(const json_error_t *error)
{
    enum json_error_code code = json_error_code(error);
    return code == json_error_numeric_overflow || code == json_error_null_character ||
           code == json_error_null_byte_in_key || code == json_error_stack_overflow;
}

/* Same verdict, and the same value where both take it. */
static void expect_same_as_jansson(const char *text, size_t len)
{
    char *copy = padded(text, len);
    struct json_value value;
    struct json_error error;
    json_error_t j_error;
    bool good = json_scan(copy, len, DEPTH, &value, &error);
    json_t *j_expected = json_loadb(copy, len, JSON_DECODE_ANY | JSON_ALLOW_NUL, &j_error);
    bool nul = memchr(text, '\0', len) != NULL; /* jansson overlooks some of them */
    if (good != (j_expected != NULL) && !nul && (j_expected || !is_limit_of_jansson(&j_error))) {
        fail_msg("%.*s: %s, jansson: %s", (int)len, text, good ? "taken" : error.message,
                 j_expected ? "taken" : j_error.text);
    }
    if (good && j_expected) {
        struct json_cursor cursor;
        json_cursor_init(&cursor, copy, len, DEPTH);
        json_t *j_value = value_of(&cursor);
        assert_true(json_finish(&cursor));
        if (!json_equal(j_value, j_expected)) {
            fail_msg("%.*s is read as another value", (int)len, text);
        }
        json_decref(j_value);
    }
    json_decref(j_expected);
    free(copy);
}

static const char *const seeds[] = {
    "{\"jsonrpc\":\"2.0\",\"method\":\"create\",\"params\":{\"value\":[1,2.5,-3e10,\"a\\u00e4\xc3\xa4\"]},"
    "\"id\":7}",
    "[null,true,false,0,-0,1.0,-1.5e-7,\"\",{},[],[[]],{\"a\":{\"b\":{\"c\":[]}}}]",
    "{\"\\ud83d\\ude00\":\"\xf0\x9f\x98\x80\",\"$ref\":12,\"\\\"\\\\\\/\\b\\f\\n\\r\\t\":\"\\u0041\\u20AC\"}",
    "  [ 123456789 , 0.000001 , 1e300 , \"a string of more than sixteen bytes, twice over\" ]  ",
    "{\"a\":1,\"b\":2,\"a\":3,\"c\":{\"d\":[1,{\"e\":[2,{\"f\":3}]}]}}",
};

/* One small damage: a byte changed, taken out, doubled or swapped, a piece copied elsewhere. */
static size_t mutate(char *text, size_t len, size_t room)
{
    static const char bytes[] =
        "{}[]\",:\\ \t0123456789.eE+-truefalsenull$u\x01\x1f\x7f\x80\xbf\xc3\xa4\xed\xf4\xff";
    size_t at = random_below(len);
    size_t n = 1 + random_below(8);
    switch (random_below(5)) {
    case 0:
        text[at] = bytes[random_below(sizeof bytes - 1)];
        return len;
    case 1:
        if (len > 1) {
            memmove(text + at, text + at + 1, len - at - 1);
            return len - 1;
        }
        return len;
    case 2:
        if (len < room) {
            memmove(text + at + 1, text + at, len - at);
            text[at] = bytes[random_below(sizeof bytes - 1)];
            return len + 1;
        }
        return len;
    case 3:
        n = n > len - at ? len - at : n;
        memmove(text + random_below(len - n + 1), text + at, n);
        return len;
    default:
        text[at] = (char)(text[at] ^ 1 << random_below(8));
        return len;
    }
}

static void test_json_reader_agrees_with_jansson_on_mutations(void **state)
{
    (void)state;
    for (int i = 0; i < 150000; i++) {
        char text[300];
        const char *seed = seeds[random_below(sizeof seeds / sizeof *seeds)];
        size_t len = strlen(seed);
        memcpy(text, seed, len);
        for (size_t rounds = random_below(4); rounds > 0; rounds--) {
            len = mutate(text, len, sizeof text);
        }
        expect_same_as_jansson(text, len);
    }
}

/* Texts of random bytes that the grammar uses: short, so that many are good. */
static void test_json_reader_agrees_with_jansson_on_noise(void **state)
{
    (void)state;
    static const char *const pieces[] = {"{",        "}",  "[",    "]",     ",",   ":",  "\"",   "\"a\"",
                                         "\"\"",     "1",  "0",    "-",     ".",   "e",  "E+",   " ",
                                         "\n",       "\t", "true", "null",  "fal", "se", "\\u0", "\"\\n",
                                         "\xc3\xa4", "12", "1.5",  "\"$\"", "[1]", "{}"};
    for (int i = 0; i < 300000; i++) {
        char text[200];
        size_t len = 0;
        for (size_t n = 1 + random_below(7); n > 0; n--) {
            const char *piece = pieces[random_below(sizeof pieces / sizeof *pieces)];
            memcpy(text + len, piece, strlen(piece));
            len += strlen(piece);
        }
        expect_same_as_jansson(text, len);
    }
}

/* Every two-byte, and random longer, sequences inside a string. */
static void test_json_reader_agrees_with_jansson_on_utf8(void **state)
{
    (void)state;
    char text[8] = "\"\"";
    for (unsigned first = 0x20; first < 256; first++) {
        for (unsigned second = 0x20; second < 256; second++) {
            text[1] = (char)first;
            text[2] = (char)second;
            text[3] = '"';
            expect_same_as_jansson(text, 4);
        }
    }
    for (int i = 0; i < 200000; i++) {
        size_t n = 3 + random_below(2);
        text[1] = (char)(0xe0 + random_below(24));
        for (size_t k = 2; k <= n; k++) {
            text[k] = (char)(random_below(20) == 0 ? random_u64() : 0x80 + random_below(64));
        }
        text[n + 1] = '"';
        expect_same_as_jansson(text, n + 2);
    }
}

static void test_json_reader_agrees_with_jansson_on_real_files(void **state)
{
    (void)state;
    static const char *const files[] = {"canada.json", "citm_catalog.json"};
    char path[1000];
    int found = 0;
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        snprintf(path, sizeof path, "%s/%s", data_path(), files[i]);
        size_t len;
        char *text = read_whole(path, &len);
        if (!text) {
            print_message("skipped: %s is not there; set HEAPD_TEST_DATA\n", path);
            continue;
        }
        expect_same_as_jansson(text, len);
        free(text);
        found++;
    }
    if (found == 0) {
        skip();
    }
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
        cmocka_unit_test(test_json_reader_agrees_with_jansson_on_mutations),
        cmocka_unit_test(test_json_reader_agrees_with_jansson_on_noise),
        cmocka_unit_test(test_json_reader_agrees_with_jansson_on_utf8),
        cmocka_unit_test(test_json_reader_agrees_with_jansson_on_real_files),
    };
    return cmocka_run_group_tests(tests, seed_random, NULL);
}
