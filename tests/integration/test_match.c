/* test_match.c -- the language in which the tests say what they expect: it must refuse what differs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../support/match.h"

static bool matches(struct match_bindings *bindings, const char *expected, const char *reply)
{
    char why[MATCH_WHY_BYTES];
    struct match_bindings fresh = {0};
    bool ok = match_reply(bindings != NULL ? bindings : &fresh, expected, strlen(expected), reply,
                          strlen(reply), why);
    assert_int_equal(ok, why[0] == '\0'); /* a difference is always explained */
    return ok;
}

static void test_match_reads_json_strictly(void **state)
{
    static const char *const good[] = {
        "0",           "-0", "1.5e-7", "\"\"", "\"\\ud83d\\ude00\\n\"", "[]", "{}", " [1, {\"a\":null}] ",
        "\"\xc3\xa9\""};
    static const char *const bad[] = {"",
                                      "01",
                                      "+1",
                                      "1.",
                                      ".5",
                                      "1e",
                                      "-",
                                      "nul",
                                      "[1,]",
                                      "[1 2]",
                                      "{\"a\"}",
                                      "{\"a\":1,}",
                                      "{a:1}",
                                      "\"",
                                      "\"\\x\"",
                                      "\"\\ud83d\"",
                                      "\"\\ude00\"",
                                      "\"\\ud83d\\u0041\"",
                                      "\"\t\"",
                                      "\"\xc3\"",
                                      "\"\xed\xa0\x80\"",
                                      "\"\xc0\x80\"",
                                      "1 2",
                                      "[",
                                      "]",
                                      "<any>"};
    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        if (!match_is_json(good[i], strlen(good[i]))) {
            fail_msg("refused: %s", good[i]);
        }
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        if (match_is_json(bad[i], strlen(bad[i]))) {
            fail_msg("accepted: %s", bad[i]);
        }
    }
}

static void test_match_compares_values(void **state)
{
    (void)state;
    assert_true(matches(NULL, "{\"id\":1,\"result\":{\"a\":1,\"b\":[2,\"x\"]}}",
                        "{\"id\":1,\"result\":{\"b\":[2,\"\\u0078\"],\"a\":1}}"));
    assert_false(matches(NULL, "{\"id\":1,\"result\":{\"a\":1}}", "{\"id\":1,\"result\":{\"a\":1,\"b\":2}}"));
    assert_false(matches(NULL, "{\"id\":1,\"result\":{\"a\":1,\"b\":2}}", "{\"id\":1,\"result\":{\"a\":1}}"));
    assert_false(matches(NULL, "{\"id\":1,\"result\":1.0}", "{\"id\":1,\"result\":1}"));
    assert_false(matches(NULL, "{\"id\":1,\"result\":[1,2]}", "{\"id\":1,\"result\":[2,1]}"));
    assert_false(matches(NULL, "{\"id\":1,\"result\":[1]}", "{\"id\":1,\"result\":[1,1]}"));
    assert_false(matches(NULL, "{\"id\":1,\"result\":null}", "{\"id\":1,\"result\":false}"));
    assert_false(matches(NULL, "{\"id\":1,\"result\":\"a\"}", "{\"id\":1,\"result\":\"b\"}"));
    assert_false(matches(NULL, "{\"id\":1,\"result\":1}", "{\"id\":1,\"result\":1"));
}

static void test_match_envelope_is_in_order_and_ids_are_bytes(void **state)
{
    (void)state;
    assert_false(matches(NULL, "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":1}",
                         "{\"id\":1,\"jsonrpc\":\"2.0\",\"result\":1}"));
    assert_false(matches(NULL, "{\"id\":\"A\",\"result\":1}", "{\"id\":\"\\u0041\",\"result\":1}"));
    assert_true(matches(NULL, "{\"id\":\"\\u0041\",\"result\":1}", "{\"id\":\"\\u0041\",\"result\":1}"));
    assert_false(matches(NULL, "[{\"id\":1,\"result\":1}]", "[{\"result\":1,\"id\":1}]"));
    assert_false(
        matches(NULL, "[{\"id\":1,\"result\":1}]", "[{\"id\":1,\"result\":1},{\"id\":1,\"result\":1}]"));
    assert_false(matches(NULL, "{\"id\":1,\"result\":1}", "{\"id\":1,\"result\":1,\"more\":2}"));
}

static void test_match_placeholders(void **state)
{
    (void)state;
    assert_true(
        matches(NULL, "[<any>,<int>,<float>,<str>,<bool>,<list>,<object>]", "[null,-5,1.5,\"\",true,[],{}]"));
    assert_false(matches(NULL, "{\"r\":<int>}", "{\"r\":1.5}"));
    assert_false(matches(NULL, "{\"r\":<float>}", "{\"r\":15}"));
    assert_false(matches(NULL, "{\"r\":<float>}", "{\"r\":null}"));
    assert_false(matches(NULL, "{\"r\":<bool>}", "{\"r\":null}"));
    assert_true(matches(NULL, "{\"r\":<min 5>}", "{\"r\":5}"));
    assert_false(matches(NULL, "{\"r\":<min 5>}", "{\"r\":4}"));
    assert_true(matches(NULL, "{\"r\":<has {\"a\":1}>}", "{\"r\":{\"b\":2,\"a\":1}}"));
    assert_false(matches(NULL, "{\"r\":<has {\"a\":1}>}", "{\"r\":{\"b\":2}}"));
    assert_false(matches(NULL, "{\"r\":<ordered {\"a\":1,\"b\":2}>}", "{\"r\":{\"b\":2,\"a\":1}}"));
    assert_false(matches(NULL, "{\"r\":<ordered [{\"a\":1,\"b\":2}]>}", "{\"r\":[{\"b\":2,\"a\":1}]}"));
    assert_true(matches(NULL, "{\"r\":<unordered [1,2,2]>}", "{\"r\":[2,1,2]}"));
    assert_false(matches(NULL, "{\"r\":<unordered [1,2,2]>}", "{\"r\":[2,1,1]}"));
    assert_false(matches(NULL, "{\"r\":<unordered [1]>}", "{\"r\":[1,2]}"));
    assert_false(matches(NULL, "{\"r\":<nonsense>}", "{\"r\":1}"));
}

static void test_match_errors(void **state)
{
    static const char reply[] = "{\"id\":1,\"error\":{\"code\":-32001,\"message\":\"no object "
                                "17\",\"data\":{\"error\":\"not_found\",\"object\":17}}}";
    (void)state;
    assert_true(matches(NULL, "{\"id\":1,\"error\":<error not_found>}", reply));
    assert_true(matches(NULL, "{\"id\":1,\"error\":<error type_error|not_found {\"object\":17}>}", reply));
    assert_false(matches(NULL, "{\"id\":1,\"error\":<error not_held>}", reply));
    assert_false(matches(NULL, "{\"id\":1,\"error\":<error not_found {\"object\":18}>}", reply));
    assert_false(matches(NULL, "{\"id\":1,\"error\":<error not_found {\"name\":\"a\"}>}", reply));
    assert_false(matches(
        NULL, "{\"id\":1,\"error\":<error not_found>}",
        "{\"id\":1,\"error\":{\"code\":-32002,\"message\":\"m\",\"data\":{\"error\":\"not_found\"}}}"));
    assert_false(matches(
        NULL, "{\"id\":1,\"error\":<error not_found>}",
        "{\"id\":1,\"error\":{\"code\":-32001,\"message\":\"\",\"data\":{\"error\":\"not_found\"}}}"));
    assert_false(matches(NULL, "{\"id\":1,\"error\":<error not_found>}",
                         "{\"id\":1,\"error\":{\"code\":-32001,\"message\":\"m\"}}"));
}

static void test_match_binds_ids(void **state)
{
    struct match_bindings bindings = {0};
    size_t len;
    (void)state;
    assert_true(matches(&bindings, "{\"r\":[<id:a>,<id:b>,<id:a>]}", "{\"r\":[5,6,5]}"));
    assert_true(matches(&bindings, "{\"r\":<id:b>}", "{\"r\":6}"));
    assert_false(matches(&bindings, "{\"r\":<id:b>}", "{\"r\":5}"));
    assert_false(matches(&bindings, "{\"r\":<id:c>}", "{\"r\":5}")); /* that is a */
    assert_false(matches(&bindings, "{\"r\":<id:d>}", "{\"r\":1.0}"));
    char *filled = match_substitute(&bindings, "get <id:a> and <id:b>.", 22, &len);
    assert_string_equal(filled, "get 5 and 6.");
    assert_int_equal(len, 12);
    free(filled);
    assert_null(match_substitute(&bindings, "<id:zz>", 7, &len));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_match_reads_json_strictly),
        cmocka_unit_test(test_match_compares_values),
        cmocka_unit_test(test_match_envelope_is_in_order_and_ids_are_bytes),
        cmocka_unit_test(test_match_placeholders),
        cmocka_unit_test(test_match_errors),
        cmocka_unit_test(test_match_binds_ids),
    };
    return cmocka_run_group_tests_name("match", tests, NULL, NULL);
}
