/* test_client.c -- the parts of heapctl that need no daemon: words, values, binding, printing, completion.
 *
 * heapctl is a program, not a library; the files under test are included here whole, which also gives the
 * tests their static functions.  The library below it is tested in test_heapd_client.c.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "../../client/cli_bind.c"
#include "../../client/cli_complete.c"
#include "../../client/cli_grid.c"
#include "../../client/cli_help.c"
#include "../../client/cli_json.c"
#include "../../client/cli_method.c"
#include "../../client/cli_nearest.c"
#include "../../client/cli_print.c"
#include "../../client/cli_words.c"

/* ---- words ---- */

/* Splits `line` and compares with the NULL-terminated list of words that follows. */
static void assert_words(const char *line, ...)
{
    struct cli_words words;
    va_list expected;
    assert_true(cli_words_split(&words, line));
    va_start(expected, line);
    for (size_t i = 0; i <= words.count; i++) {
        const char *word = va_arg(expected, const char *);
        if (i == words.count) {
            assert_null(word);
        } else {
            assert_non_null(word);
            assert_string_equal(words.word[i], word);
        }
    }
    va_end(expected);
    assert_false(words.is_open);
    cli_words_fini(&words);
}

static void test_client_words_split_as_sh_does(void **state)
{
    (void)state;
    assert_words("", NULL);
    assert_words("  \t \r\n", NULL);
    assert_words("ref a", "ref", "a", NULL);
    assert_words("  ref\ta  \n", "ref", "a", NULL);
    assert_words("create '\"hello\"'", "create", "\"hello\"", NULL);
    assert_words("create \"[1, 2]\" --name a", "create", "[1, 2]", "--name", "a", NULL);
    assert_words("a'b c'd\"e f\"\\ g", "ab cde f g", NULL);
    assert_words("'' \"\"", "", "", NULL);
    assert_words("\"a\\\"b\\\\c\\$d\\`e\\f\"", "a\"b\\c$d`e\\f", NULL);
    assert_words("'a\\b'", "a\\b", NULL);
    assert_words("# only a comment", NULL);
    assert_words("ref a # comment 'open", "ref", "a", NULL);
    assert_words("ref a#b '#' \\#", "ref", "a#b", "#", "#", NULL);
}

static void test_client_words_tell_what_is_open(void **state)
{
    (void)state;
    struct cli_words words;
    assert_true(cli_words_split(&words, "create '[1, 2"));
    assert_true(words.is_open);
    assert_int_equal(words.quote, '\'');
    assert_int_equal(words.count, 2);
    assert_string_equal(words.word[1], "[1, 2");
    assert_int_equal(words.at[1], 7);
    cli_words_fini(&words);
    assert_true(cli_words_split(&words, "ref a\\"));
    assert_true(words.is_open);
    assert_int_equal(words.quote, 0);
    cli_words_fini(&words);
}

static void test_client_words_quote_reads_back(void **state)
{
    (void)state;
    static const char *const texts[] = {"",     "plain",     "two words", "it's", "\"q\"", "#",
                                        "a\\b", "$HOME `x`", "a;b",       "\t",   "'",     "''",
                                        "é",    "[1]",       "{}",        "~"};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        char *quoted = cli_words_quote(texts[i]);
        assert_non_null(quoted);
        assert_words(quoted, texts[i], NULL);
        free(quoted);
    }
}

/* Random lines never harm the splitter, and what it made, quoted, splits into the same words. */
static void test_client_words_survive_anything(void **state)
{
    (void)state;
    static const char bytes[] = "ab '\"\\#\t$";
    const char *seed_text = getenv("SEED");
    unsigned seed = seed_text != NULL ? (unsigned)strtoul(seed_text, NULL, 10) : 20260101u;
    print_message("SEED=%u\n", seed);
    for (int round = 0; round < 5000; round++) {
        char line[40];
        size_t len = (size_t)rand_r(&seed) % (sizeof line - 1);
        for (size_t i = 0; i < len; i++) {
            line[i] = bytes[(size_t)rand_r(&seed) % (sizeof bytes - 1)];
        }
        line[len] = '\0';
        struct cli_words words;
        assert_true(cli_words_split(&words, line));
        for (size_t i = 0; i < words.count; i++) {
            char *quoted = cli_words_quote(words.word[i]);
            assert_words(quoted, words.word[i], NULL);
            assert_true(words.at[i] < len);
            free(quoted);
        }
        cli_words_fini(&words);
    }
}

/* ---- nearest ---- */

static void test_client_nearest_counts_edits(void **state)
{
    (void)state;
    assert_int_equal(cli_nearest_distance("", ""), 0);
    assert_int_equal(cli_nearest_distance("abc", "abc"), 0);
    assert_int_equal(cli_nearest_distance("", "abc"), 3);
    assert_int_equal(cli_nearest_distance("kitten", "sitting"), 3);
    assert_int_equal(cli_nearest_distance("ref", "rfe"), 1);
    assert_int_equal(cli_nearest_distance("list.apend", "list.append"), 1);
    assert_int_equal(cli_nearest_distance("sitting", "kitten"), 3);
}

static void test_client_nearest_finds_what_was_meant(void **state)
{
    (void)state;
    static const char *const names[] = {"create", "ref", "unref", "list.append", "list.pop", "dict.pop"};
    assert_int_equal(cli_nearest_best("craete", names, 6), 0);
    assert_int_equal(cli_nearest_best("list.apend", names, 6), 3);
    assert_int_equal(cli_nearest_best("append", names, 6), 3);
    assert_int_equal(cli_nearest_best("dict.ppo", names, 6), 5);
    assert_int_equal(cli_nearest_best("something-else", names, 6), 6);
    assert_int_equal(cli_nearest_best("x", names, 0), 0);
}

/* ---- JSON for people ---- */

static void assert_real(double real, const char *expected)
{
    char text[CLI_JSON_REAL_BYTES];
    cli_json_format_real(text, real);
    assert_string_equal(text, expected);
}

static void test_client_reals_print_as_python_does(void **state)
{
    (void)state;
    assert_real(1.1, "1.1");
    assert_real(1.0, "1.0");
    assert_real(-0.0, "-0.0");
    assert_real(0.1 + 0.2, "0.30000000000000004");
    assert_real(1e15, "1000000000000000.0");
    assert_real(1e16, "1e+16");
    assert_real(123456789012345680.0, "1.2345678901234568e+17");
    assert_real(0.0001, "0.0001");
    assert_real(0.00001, "1e-05");
    assert_real(5e-324, "5e-324");
    assert_real(1.7976931348623157e308, "1.7976931348623157e+308");
    assert_real(-2.5, "-2.5");
    assert_real(100.0, "100.0");
}

/* Writes with `write_it` into a string, new. */
static char *json_text(const char *json, size_t width)
{
    char *text = NULL;
    size_t len;
    json_t *j_value = json_loads(json, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
    FILE *out = open_memstream(&text, &len);
    assert_non_null(j_value);
    assert_non_null(out);
    if (width == 0) {
        cli_json_put(out, j_value);
    } else {
        cli_json_put_wrapped(out, j_value, 0, 0, width);
    }
    fclose(out);
    json_decref(j_value);
    return text;
}

static void assert_json(const char *json, size_t width, const char *expected)
{
    char *text = json_text(json, width);
    assert_string_equal(text, expected);
    free(text);
}

static void test_client_json_fits_the_width(void **state)
{
    (void)state;
    assert_json("{\"a\":[1,2.50,null],\"b\":{}}", 0, "{\"a\": [1, 2.5, null], \"b\": {}}");
    assert_json("[1,2,3]", 80, "[1, 2, 3]");
    assert_json("[[1,2,3],[4,5,6]]", 12, "[\n  [1, 2, 3],\n  [4, 5, 6]\n]");
    assert_json("{\"key\":[\"aaaa\",\"bbbb\"],\"l\":true}", 16,
                "{\n  \"key\": [\n    \"aaaa\",\n    \"bbbb\"\n  ],\n  \"l\": true\n}");
}

static void test_client_json_escapes_what_controls_a_terminal(void **state)
{
    (void)state;
    assert_json("\"\\u001b[31m\\n\\t\\r\\u0000\\u007f\"", 0, "\"\\u001b[31m\\n\\t\\r\\u0000\\u007f\"");
    assert_json("\"\\u0085\\u202e\\u2028\"", 0, "\"\\u0085\\u202e\\u2028\"");
    assert_json("\"a\\\"b\\\\c\"", 0, "\"a\\\"b\\\\c\"");
    assert_json("\"äöü€𝄞\"", 0, "\"äöü€𝄞\"");
    char *text = NULL;
    size_t len;
    FILE *out = open_memstream(&text, &len);
    const char raw[] = "[\"a\x7f\",\"\\u001b\",1.10]";
    cli_json_put_raw(out, raw, sizeof raw - 1);
    fclose(out);
    assert_string_equal(text, "[\"a\\u007f\",\"\\u001b\",1.10]");
    free(text);
}

/* ---- values ---- */

static void assert_value(enum cli_kind kind, const char *word, const char *expected)
{
    char *problem = NULL;
    char *text = cli_bind_value(&problem, kind, word);
    if (expected == NULL) {
        assert_null(text);
        assert_non_null(problem);
    } else {
        assert_non_null(text);
        assert_string_equal(text, expected);
        assert_null(problem);
    }
    free(text);
    free(problem);
}

static void test_client_value_follows_its_kind(void **state)
{
    (void)state;
    assert_value(CLI_KIND_TARGET, "17", "17");
    assert_value(CLI_KIND_TARGET, "007", "7");
    assert_value(CLI_KIND_TARGET, "000", "0");
    assert_value(CLI_KIND_TARGET, "99999999999999999999", "99999999999999999999");
    assert_value(CLI_KIND_TARGET, "a", "\"a\"");
    assert_value(CLI_KIND_TARGET, "17a", "\"17a\"");
    assert_value(CLI_KIND_TARGET, "-1", "\"-1\"");
    assert_value(CLI_KIND_TARGET, "", "\"\"");
    assert_value(CLI_KIND_TARGET, "\xff", NULL);
    assert_value(CLI_KIND_TEXT, "17", "\"17\"");
    assert_value(CLI_KIND_TEXT, "a\"b\n", "\"a\\\"b\\n\"");
    assert_value(CLI_KIND_VALUE, "1.10", "1.10");
    assert_value(CLI_KIND_VALUE, "1e400", "1e400");
    assert_value(CLI_KIND_VALUE, "123456789012345678901234567890", "123456789012345678901234567890");
    assert_value(CLI_KIND_VALUE, " [1, \"a\"] ", " [1, \"a\"] ");
    assert_value(CLI_KIND_VALUE, "{\"a\\u0000b\": 1}", "{\"a\\u0000b\": 1}");
    assert_value(CLI_KIND_VALUE, "hello", NULL);
    assert_value(CLI_KIND_VALUE, "[1,", NULL);
    assert_value(CLI_KIND_VALUE, "1 2", NULL);
    assert_value(CLI_KIND_VALUE, "", NULL);
    assert_value(CLI_KIND_VALUE, "None", NULL);
    assert_value(CLI_KIND_INT, "-1", "-1");
    assert_value(CLI_KIND_INT, "010", "10");
    assert_value(CLI_KIND_INT, "1.5", NULL);
    assert_value(CLI_KIND_INT, "-", NULL);
    assert_value(CLI_KIND_INT, "x", NULL);
    assert_value(CLI_KIND_NUMBER, "0.005", "0.005");
    assert_value(CLI_KIND_NUMBER, "\"1\"", NULL);
    assert_value(CLI_KIND_BOOL, "true", "true");
    assert_value(CLI_KIND_BOOL, "yes", NULL);
    assert_value(CLI_KIND_LIST, "stats,saveall", "[\"stats\",\"saveall\"]");
    assert_value(CLI_KIND_LIST, "", "[]");
    assert_value(CLI_KIND_LIST, "[\"stats\"]", "[\"stats\"]");
}

/* ---- methods and binding ---- */

/* A small daemon's description of itself. */
static const char document[] =
    "{\"openrpc\":\"1.3.2\",\"info\":{\"title\":\"t\",\"version\":\"1\"},\"methods\":["
    "{\"name\":\"create\",\"summary\":\"Makes an object.\",\"params\":["
    "  {\"name\":\"value\",\"required\":true,\"x-kind\":\"value\",\"schema\":{}},"
    "  {\"name\":\"name\",\"x-kind\":\"str\",\"schema\":{\"type\":\"string\"}},"
    "  {\"name\":\"hold\",\"x-kind\":\"bool\",\"schema\":{\"type\":\"boolean\"}}]},"
    "{\"name\":\"get\",\"summary\":\"Shows it.\",\"params\":["
    "  {\"name\":\"object\",\"required\":true,\"x-kind\":\"target\",\"schema\":{}},"
    "  {\"name\":\"depth\",\"schema\":{\"type\":\"integer\",\"default\":1}},"
    "  {\"name\":\"shared\",\"x-kind\":\"enum\",\"schema\":{\"enum\":[\"ref\",\"let\"]}}],"
    " \"result\":{\"name\":\"value\",\"schema\":{}},\"examples\":[{\"params\":["
    "  {\"name\":\"object\",\"value\":\"a\"},{\"name\":\"depth\",\"value\":-1}]}]},"
    "{\"name\":\"list.insert\",\"summary\":\"Inserts.\",\"params\":["
    "  "
    "{\"name\":\"object\",\"required\":true,\"schema\":{\"oneOf\":[{\"type\":\"integer\"},{\"type\":"
    "\"string\"}]}},"
    "  {\"name\":\"index\",\"required\":true,\"schema\":{\"type\":\"integer\"}},"
    "  {\"name\":\"value\",\"required\":true,\"schema\":{\"$ref\":\"#/components/schemas/value\"}}],"
    " \"result\":{\"name\":\"r\",\"schema\":{\"type\":\"null\"}}},"
    "{\"name\":\"finalizer.set\",\"params\":["
    "  {\"name\":\"object\",\"required\":true,\"x-kind\":\"target\",\"schema\":{}},"
    "  {\"name\":\"resurrect_as\",\"schema\":{\"type\":\"string\"}},"
    "  {\"name\":\"flags\",\"schema\":{\"type\":\"array\",\"items\":{\"enum\":[\"stats\",\"saveall\"]}}}]}]}";

static struct cli_table *make_table(void)
{
    struct cli_table *table = cli_table_create_steal(json_loads(document, 0, NULL));
    assert_non_null(table);
    return table;
}

/* Binds a line to the method that its first word names; the params must come out as `expected`, or, when
 * that is NULL, the problem must contain `problem_part`. */
static void assert_bound(const char *line, const char *expected, const char *problem_part)
{
    struct cli_table *table = make_table();
    struct cli_words words;
    struct cli_call call;
    char *problem = NULL;
    assert_true(cli_words_split(&words, line));
    const struct cli_method *method = cli_table_find(table, words.word[0]);
    assert_non_null(method);
    bool is_bound = cli_bind(&call, &problem, method, words.count - 1, words.word + 1, "heapctl ");
    if (expected != NULL) {
        assert_true(is_bound);
        char *params = cli_call_params(&call);
        assert_string_equal(params, expected);
        free(params);
        cli_call_fini(&call);
    } else {
        assert_false(is_bound);
        assert_non_null(problem);
        if (strstr(problem, problem_part) == NULL) {
            print_error("%s: %s\n", line, problem);
        }
        assert_non_null(strstr(problem, problem_part));
    }
    free(problem);
    cli_words_fini(&words);
    cli_table_destroy(table);
}

static void test_client_bind_takes_positions_and_names(void **state)
{
    (void)state;
    assert_bound("create '[1, 2.50]'", "{\"value\":[1, 2.50]}", NULL);
    assert_bound("create 1 a true", "{\"value\":1,\"name\":\"a\",\"hold\":true}", NULL);
    assert_bound("create --name a 1 --hold", "{\"value\":1,\"name\":\"a\",\"hold\":true}", NULL);
    assert_bound("create 1 --no-hold --name=a", "{\"value\":1,\"name\":\"a\",\"hold\":false}", NULL);
    assert_bound("create --name a 1 --hold=false", "{\"value\":1,\"name\":\"a\",\"hold\":false}", NULL);
    assert_bound("create -1", "{\"value\":-1}", NULL);
    assert_bound("create --value -1 --name -1", "{\"value\":-1,\"name\":\"-1\"}", NULL);
    assert_bound("create 1 -- --name", "{\"value\":1,\"name\":\"--name\"}", NULL);
    assert_bound("get 17 --depth -1", "{\"object\":17,\"depth\":-1}", NULL);
    assert_bound("get a -1 let", "{\"object\":\"a\",\"depth\":-1,\"shared\":\"let\"}", NULL);
    assert_bound("get -", "{\"object\":\"-\"}", NULL);
    assert_bound("list.insert a 0 '\"x\"'", "{\"object\":\"a\",\"index\":0,\"value\":\"x\"}", NULL);
    assert_bound("list.insert --value 5 a 0", "{\"object\":\"a\",\"index\":0,\"value\":5}", NULL);
    assert_bound("finalizer.set a --resurrect-as b --flags stats",
                 "{\"object\":\"a\",\"resurrect_as\":\"b\",\"flags\":[\"stats\"]}", NULL);
}

static void test_client_bind_says_what_is_wrong(void **state)
{
    (void)state;
    assert_bound("create hello", NULL, "write: heapctl create '\"hello\"'");
    assert_bound("create --name 'a b' it\\'s", NULL, "write: heapctl create --name 'a b' '\"it'\\''s\"'");
    assert_bound("create None", NULL, "write: heapctl create null");
    assert_bound("create '[1,'", NULL, "']' expected");
    assert_bound("create", NULL, "it needs value\nusage: heapctl create VALUE");
    assert_bound("create 1 a true 4", NULL, "one word too many: 4");
    assert_bound("create 1 --nmae a", NULL, "nearest: --name");
    assert_bound("create 1 --name", NULL, "--name needs a value");
    assert_bound("create 1 --name a --name b", NULL, "name is given twice");
    assert_bound("create 1 --hold --no-hold", NULL, "hold is given twice");
    assert_bound("create 1 -x", NULL, "no option -x");
    assert_bound("create 1 --no-name", NULL, "no option --no-name");
    assert_bound("create 1 --url x", NULL, "--url stands before the command");
    assert_bound("get a --depth x", NULL, "depth must be an int");
}

static void test_client_bind_sees_help_and_json(void **state)
{
    (void)state;
    struct cli_table *table = make_table();
    struct cli_call call;
    char *problem = NULL;
    char help[] = "--help", json[] = "--json", object[] = "a";
    char *const help_words[] = {help, NULL};
    char *const json_words[] = {object, json, NULL};
    assert_true(cli_bind(&call, &problem, cli_table_find(table, "get"), 1, help_words, ""));
    assert_true(call.wants_help);
    cli_call_fini(&call);
    assert_true(cli_bind(&call, &problem, cli_table_find(table, "get"), 2, json_words, ""));
    assert_true(call.wants_json);
    assert_false(call.wants_help);
    assert_string_equal(cli_call_value(&call, "object"), "\"a\"");
    assert_null(cli_call_value(&call, "depth"));
    assert_null(cli_call_value(&call, "nothing"));
    cli_call_fini(&call);
    cli_table_destroy(table);
}

static void test_client_method_table_reads_kinds(void **state)
{
    (void)state;
    struct cli_table *table = make_table();
    assert_int_equal(table->count, 4);
    const struct cli_method *insert = cli_table_find(table, "list.insert");
    assert_int_equal(insert->params[0].kind, CLI_KIND_TARGET);
    assert_int_equal(insert->params[1].kind, CLI_KIND_INT);
    assert_int_equal(insert->params[2].kind, CLI_KIND_VALUE);
    assert_true(insert->params[0].is_name);
    assert_false(insert->gives_value);
    assert_true(cli_table_find(table, "get")->gives_value);
    assert_true(cli_table_find(table, "create")->params[1].is_name);
    assert_null(cli_table_find(table, "nothing"));
    cli_table_destroy(table);
}

static void test_client_method_table_refuses_other_documents(void **state)
{
    (void)state;
    static const char *const texts[] = {"{}",
                                        "{\"methods\":5}",
                                        "[]",
                                        "{\"methods\":[{}]}",
                                        "{\"methods\":[{\"name\":\"a\"}]}",
                                        "{\"methods\":[{\"name\":\"a\",\"params\":[{}]}]}"};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        assert_null(cli_table_create_steal(json_loads(texts[i], 0, NULL)));
    }
    assert_null(cli_table_create_steal(NULL));
}

/* ---- completion ---- */

static void assert_completed(const char *line, const char *expected)
{
    struct cli_table *table = make_table();
    struct cli_words words;
    char empty[] = "";
    assert_true(cli_words_split(&words, line));
    bool is_new = *line == '\0' || line[strlen(line) - 1] == ' ';
    if (is_new) {
        words.word[words.count] = empty; /* there is room for one more */
    }
    json_t *j_found = cli_complete(table, NULL, words.count + is_new, words.word);
    char *text = json_dumps(j_found, JSON_COMPACT);
    assert_string_equal(text, expected);
    free(text);
    json_decref(j_found);
    cli_words_fini(&words);
    cli_table_destroy(table);
}

static void test_client_complete_follows_the_description(void **state)
{
    (void)state;
    assert_completed("cr", "[\"create\"]");
    assert_completed("r", "[\"run\"]");
    assert_completed("help li", "[\"list.insert\"]");
    assert_completed("get a --d", "[\"--depth\"]");
    assert_completed("create 1 --",
                     "[\"--value\",\"--name\",\"--hold\",\"--no-hold\",\"--json\",\"--help\"]");
    assert_completed("get a 1 ", "[\"ref\",\"let\"]");
    assert_completed("get a --shared l", "[\"let\"]");
    assert_completed("create --name x 1 t", "[]");
    assert_completed("create 1 x t", "[\"true\"]");
    assert_completed("finalizer.set a --flags stats,s", "[\"stats,stats\",\"stats,saveall\"]");
    assert_completed("nothing x", "[]");
}

/* ---- printing ---- */

static void assert_printed(const char *json, const char *expected)
{
    const struct cli_style style = {.is_terminal = true, .has_color = false, .width = 60};
    char *text = NULL;
    size_t len;
    json_t *j_result = json_loads(json, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
    FILE *out = open_memstream(&text, &len);
    assert_non_null(j_result);
    cli_print_result(out, &style, j_result);
    fclose(out);
    assert_string_equal(text, expected);
    free(text);
    json_decref(j_result);
}

static void test_client_print_scalars(void **state)
{
    (void)state;
    assert_printed("null", "ok\n");
    assert_printed("true", "true\n");
    assert_printed("2", "2\n");
    assert_printed("0.005", "0.005\n");
    assert_printed("\"list\"", "list\n");
    assert_printed("\"\\u001b[0m\\nline 2\\n\"", "\\u001b[0m\nline 2\n");
    assert_printed("[700,10,10]", "[700, 10, 10]\n");
    assert_printed("{}", "{}\n");
    assert_printed("[]", "[]\n");
}

static void test_client_print_block(void **state)
{
    (void)state;
    assert_printed("{\"object\":17,\"type\":\"list\",\"refcount\":4294967295}",
                   "object:   17\ntype:     list\nrefcount: 4294967295 (immortal)\n");
    assert_printed("{\"object\":null,\"value\":null,\"bytes\":2048,\"elapsed_us\":1500,\"uptime_s\":61}",
                   "object:     -\nvalue:      null\nbytes:      2.0 KiB\nelapsed_us: 1.5 ms\n"
                   "uptime_s:   1 min 1 s\n");
    assert_printed("{\"object\":1,\"value\":{\"$tuple\":[\"a\"]}}",
                   "object: 1\nvalue:  {\"$tuple\": [\"a\"]}\n");
    assert_printed("{\"a\":{\"x\":1,\"y\":2},\"b\":{},\"c\":[]}", "a\n  x: 1\n  y: 2\nb: none\nc: none\n");
    assert_printed("{\"n\":1,\"a\":{\"x\":1,\"y\":2}}", "n: 1\na: x 1, y 2\n");
    assert_printed(
        "{\"n\":1,\"rows\":[{\"type\":\"list\",\"bytes\":88},{\"type\":\"str\",\"bytes\":204800}]}",
        "n: 1\nrows\n  type      bytes\n  list       88 B\n  str   200.0 KiB\n");
}

static void test_client_print_pages_and_tables(void **state)
{
    (void)state;
    assert_printed(
        "{\"names\":[{\"name\":\"a\\u001b\",\"object\":17},{\"name\":\"bb\",\"object\":5}],\"next\":null}",
        "name     object\na\\u001b      17\nbb            5\n");
    assert_printed("{\"names\":[],\"next\":null}", "none\n");
    assert_printed("{\"objects\":[1,2],\"next\":2}", "1\n2\nmore: --after 2\n");
    assert_printed("{\"keys\":[\"a\",{\"$ref\":5}],\"next\":null}", "\"a\"\n{\"$ref\": 5}\n");
    assert_printed("{\"keys\":[{\"$ref\":5},{\"$tuple\":[]}],\"next\":null}",
                   "{\"$ref\": 5}\n{\"$tuple\": []}\n");
    assert_printed("[{\"a\":1},{\"b\":\"x\"}]", "a  b\n1\n   x\n");
    assert_printed("[{\"wide\":\"é\",\"n\":1},{\"wide\":\"ab\",\"n\":10}]", "wide   n\né      1\nab    10\n");
}

static void test_client_print_leaves_rows_of_zeros_out(void **state)
{
    (void)state;
    assert_printed("[{\"size\":16,\"used\":0},{\"size\":32,\"used\":1}]",
                   "size  used\n  16     0\n  32     1\n");
    assert_printed(
        "[{\"n\":0,\"u\":0},{\"n\":1,\"u\":0},{\"n\":2,\"u\":5},{\"n\":3,\"u\":0},{\"n\":4,\"u\":0},"
        "{\"n\":5,\"u\":0},{\"n\":6,\"u\":0},{\"n\":7,\"u\":0},{\"n\":8,\"u\":0}]",
        "n  u\n2  5\nand 8 rows of zeros\n");
}

static void test_client_print_bytes_round(void **state)
{
    (void)state;
    assert_printed("{\"bytes\":1023}", "bytes: 1023 B\n");
    assert_printed("{\"bytes\":1024}", "bytes: 1.0 KiB\n");
    assert_printed("{\"bytes\":1048575}", "bytes: 1.0 MiB\n");
    assert_printed("{\"bytes\":-2048}", "bytes: -2.0 KiB\n");
    assert_printed("{\"max_us\":999,\"b_us\":1234567}", "max_us: 999 us\nb_us:   1.23 s\n");
}

static void test_client_help_explains_a_method(void **state)
{
    (void)state;
    struct cli_table *table = make_table();
    const struct cli_style style = {.width = 80};
    char *text = NULL;
    size_t len;
    FILE *out = open_memstream(&text, &len);
    cli_help_method(out, &style, cli_table_find(table, "get"), "heapctl ");
    cli_help_commands(out, &style, table, "");
    fclose(out);
    assert_non_null(
        strstr(text, "usage: heapctl get OBJECT [--depth DEPTH] [--shared SHARED]\n\nShows it.\n"));
    assert_non_null(strstr(text, "(default 1)"));
    assert_non_null(strstr(text, "Example:\n  heapctl get a --depth -1\n"));
    assert_non_null(strstr(text, "\n  create         Makes an object.\n"));
    assert_non_null(strstr(text, "\n  run            "));
    free(text);
    cli_table_destroy(table);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_client_words_split_as_sh_does),
        cmocka_unit_test(test_client_words_tell_what_is_open),
        cmocka_unit_test(test_client_words_quote_reads_back),
        cmocka_unit_test(test_client_words_survive_anything),
        cmocka_unit_test(test_client_nearest_counts_edits),
        cmocka_unit_test(test_client_nearest_finds_what_was_meant),
        cmocka_unit_test(test_client_reals_print_as_python_does),
        cmocka_unit_test(test_client_json_fits_the_width),
        cmocka_unit_test(test_client_json_escapes_what_controls_a_terminal),
        cmocka_unit_test(test_client_value_follows_its_kind),
        cmocka_unit_test(test_client_bind_takes_positions_and_names),
        cmocka_unit_test(test_client_bind_says_what_is_wrong),
        cmocka_unit_test(test_client_bind_sees_help_and_json),
        cmocka_unit_test(test_client_method_table_reads_kinds),
        cmocka_unit_test(test_client_method_table_refuses_other_documents),
        cmocka_unit_test(test_client_complete_follows_the_description),
        cmocka_unit_test(test_client_print_scalars),
        cmocka_unit_test(test_client_print_block),
        cmocka_unit_test(test_client_print_pages_and_tables),
        cmocka_unit_test(test_client_print_leaves_rows_of_zeros_out),
        cmocka_unit_test(test_client_print_bytes_round),
        cmocka_unit_test(test_client_help_explains_a_method),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
