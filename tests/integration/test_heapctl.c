/* test_heapctl.c -- the command line: exit codes, output, quoting, runs of a file. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "../support/fixture.h"
#include "../support/process.h"

/* Runs heapctl on the fixture's daemon with these words (ended by NULL) and `input`. */
static void run_with(struct process_result *result, void **state, const char *input,
                     const char *const words[])
{
    const struct daemon *daemon = ((struct fixture *)*state)->daemon;
    static char program[4200], url[256];
    const char *argv[24] = {program, "--url", url};
    process_program(program, sizeof program, "heapctl");
    snprintf(url, sizeof url, "tcp:%s:%d", daemon->host, daemon->port);
    for (size_t i = 0; words[i] != NULL && i < 20; i++) {
        argv[3 + i] = words[i];
    }
    process_run(result, argv, input);
    if (result->signal != 0 || process_has_complaint(result->err)) {
        fail_msg("heapctl %s: signal %d, stderr %s", words[0], result->signal, result->err);
    }
}

/* Demands an exit code, and that stdout and stderr contain these texts (NULL: are empty; "": whatever). */
static void demand(struct process_result *result, int exit_code, const char *out, const char *err)
{
    bool ok = result->exit_code == exit_code;
    ok = ok && (out == NULL ? result->out_len == 0 : strstr(result->out, out) != NULL);
    ok = ok && (err == NULL ? result->err_len == 0 : strstr(result->err, err) != NULL);
    if (!ok) {
        fail_msg("exit code %d, stdout \"%s\", stderr \"%s\"; expected %d, \"%s\", \"%s\"", result->exit_code,
                 result->out, result->err, exit_code, out != NULL ? out : "(nothing)",
                 err != NULL ? err : "(nothing)");
    }
    process_result_free(result);
}

#define RUN(exit_code, out, err, ...)                                                                        \
    do {                                                                                                     \
        struct process_result result_;                                                                       \
        run_with(&result_, state, NULL, (const char *[]){__VA_ARGS__, NULL});                                \
        demand(&result_, exit_code, out, err);                                                               \
    } while (0)

/* ---- exit codes ---- */

static void test_heapctl_exit_codes(void **state)
{
    RUN(0, "pong\n", NULL, "ping");
    RUN(1, NULL, "name_error", "get", "nobody");
    RUN(1, NULL, "not_found", "get", "9007199254740991");
    RUN(2, NULL, "ping", "pong");
    RUN(2, NULL, "", "create");
    RUN(2, NULL, "", "get");
    RUN(2, NULL, "", "ping", "more");
    RUN(2, NULL, "", "--nope", "ping");
    RUN(2, NULL, "", "get", "a", "--nope", "1");
    RUN(2, NULL, "", "collect", "--generation");
    RUN(2, NULL, "", "get", "a", "--depth", "x");
}

/* Three dicts and the immortal empty tuple are in use; pools that are free, and those of one size, are one line. */
static void test_heapctl_map_folds_pools(void **state)
{
    RUN(0, "dict", NULL, "create", "{\"a\":{\"b\":{}}}", "--name", "x");
    RUN(0, "arena  size  pools  used", NULL, "map");
    RUN(0, "    1  32        1     4   512  #...................\n", NULL, "map");
    RUN(0, "  free     6", NULL, "map");
    RUN(0, "more with --after ", NULL, "map", "--limit", "1");
    RUN(0, "\"pools\":", NULL, "--json", "map");
    RUN(2, NULL, "", "map", "--limit", "x");
    RUN(0, "x", NULL, "name.unbind", "x");
}

static void test_heapctl_cannot_connect(void **state)
{
    char program[4200];
    struct process_result result;
    (void)state;
    process_program(program, sizeof program, "heapctl");
    process_run(&result, (const char *[]){program, "--url", "unix:/nonexistent/heapd.sock", "ping", NULL},
                NULL);
    demand(&result, 3, NULL, "/nonexistent/heapd.sock");
    process_run(&result, (const char *[]){program, "--url", "tcp:127.0.0.1:1", "ping", NULL}, NULL);
    demand(&result, 3, NULL, "");
    process_run(&result, (const char *[]){program, "--url", "nonsense", "ping", NULL}, NULL);
    demand(&result, 2, NULL, "");
}

static void test_heapctl_url_from_the_environment(void **state)
{
    const struct daemon *daemon = ((struct fixture *)*state)->daemon;
    char program[4200], variable[256];
    struct process_result result;
    if (daemon->pid == 0) {
        process_skip("the daemon runs elsewhere");
    }
    process_program(program, sizeof program, "heapctl");
    snprintf(variable, sizeof variable, "HEAPD_URL=unix:%s", daemon->socket);
    process_run(&result, (const char *[]){"env", variable, program, "ping", NULL}, NULL);
    demand(&result, 0, "pong\n", NULL);
    /* Without it: $XDG_RUNTIME_DIR/heapd.sock, which is what the fixture's socket is called. */
    snprintf(variable, sizeof variable, "XDG_RUNTIME_DIR=%s", daemon->folder);
    process_run(&result, (const char *[]){"env", "-u", "HEAPD_URL", variable, program, "ping", NULL}, NULL);
    demand(&result, 0, "pong\n", NULL);
}

/* ---- words ---- */

static void test_heapctl_targets_and_names_stand_as_they_are(void **state)
{
    struct wire *wire = ((struct fixture *)*state)->wire;
    char id[32];
    RUN(0, "", "", "create", "[1]", "--name", "a");
    RUN(0, "[1]\n", NULL, "--json", "get", "a");
    snprintf(id, sizeof id, "%lld", (long long)wire_call_int(wire, "object", "name.lookup", "[s]", "a"));
    RUN(0, "[1]\n", NULL, "--json", "get", id);
    /* All digits is an id, so this is no name. */
    RUN(1, NULL, "not_found", "get", "900719925474099");
    RUN(0, "", "", "create", "[2]", "--name", "two words");
    RUN(0, "[2]\n", NULL, "--json", "get", "two words");
    RUN(0, "", "", "create", "[3]", "--name", "\"quoted\" {json} é");
    RUN(0, "[3]\n", NULL, "--json", "get", "\"quoted\" {json} é");
    RUN(0, "", "", "create", "[4]", "--name", "-");
    RUN(0, "[4]\n", NULL, "--json", "get", "--", "-");
    RUN(0, "", "", "create", "[5]", "--name", "--depth");
    RUN(0, "[5]\n", NULL, "--json", "get", "--", "--depth");
}

static void test_heapctl_values_are_json(void **state)
{
    RUN(2, NULL, "'\"foo\"'", "create", "foo"); /* shows the quoting */
    RUN(2, NULL, "", "create", "{'a':1}");
    RUN(2, NULL, "", "create", "[1,");
    RUN(2, NULL, "", "create", "");
    RUN(2, NULL, "", "create", "1 2");
    RUN(0, "", "", "create", "{\"k\":[1.1,null,\"text\"]}", "--name", "d");
    RUN(0, "{\"k\":[1.1,null,\"text\"]}\n", NULL, "--json", "get", "d", "-1");
    RUN(0, "{\"k\":{\"$ref\":", NULL, "--json", "get", "d");
    RUN(0, "", NULL, "dict.setitem", "d", "\"n\"", "1000");
    RUN(0, "{\"value\":1005", NULL, "--json", "dict.incr", "d", "\"n\"", "5");
    RUN(0, "{\"value\":1000", NULL, "--json", "dict.incr", "d", "\"n\"", "-5");
    RUN(2, NULL, "", "dict.getitem", "d", "n");
    RUN(1, NULL, "key_error", "dict.getitem", "d", "\"missing\"");
}

static void test_heapctl_params_by_name(void **state)
{
    RUN(0, "", "", "create", "--name", "a", "--value", "[1,[2,[3]]]");
    RUN(0, "[1,[2,{\"$ref\":", NULL, "--json", "get", "a", "--depth", "2");
    RUN(0, "[1,[2,[3]]]\n", NULL, "--json", "get", "--depth", "-1", "--object", "a");
    RUN(0, "\"refcount\":2", "", "--json", "create", "[]", "--name", "b", "--hold");
    RUN(0, "\"refcount\":1", NULL, "--json", "create", "[]", "--name", "b", "--no-hold");
    RUN(0, "", NULL, "list.insert", "a", "-1", "9");
    RUN(0, "[1,9,{", NULL, "--json", "get", "a");
    RUN(0, "", NULL, "list.append", "a", "--value", "7");
    RUN(0, "{\"len\":4}\n", NULL, "--json", "list.len", "a");
}

/* ---- output ---- */

static void test_heapctl_says_what_a_run_lets_go(void **state)
{
    RUN(0, "", "released", "create", "[1000]");
    RUN(0, "", NULL, "create", "[1000]", "--name", "a");
}

static void test_heapctl_json_is_one_text_a_reply(void **state)
{
    struct process_result result;
    run_with(&result, state, NULL, (const char *[]){"--json", "stats", NULL});
    assert_int_equal(result.exit_code, 0);
    assert_true(match_is_json(result.out, result.out_len));
    assert_ptr_equal(strchr(result.out, '\n'), result.out + result.out_len - 1);
    process_result_free(&result);
    RUN(0, "null\n", NULL, "--json", "gc.enable");
    /* Numbers as the daemon wrote them. */
    RUN(0, "", NULL, "create", "[1.1,1e16,-0.0,123456789012345678]", "--name", "n");
    RUN(0, "[1.1,1e+16,-0.0,123456789012345678]\n", NULL, "--json", "get", "n");
}

static void test_heapctl_errors_as_json(void **state)
{
    struct process_result result;
    run_with(&result, state, NULL, (const char *[]){"--json", "get", "nobody", NULL});
    assert_int_equal(result.exit_code, 1);
    assert_true(strstr(result.out, "name_error") != NULL || strstr(result.err, "name_error") != NULL);
    process_result_free(&result);
}

static void test_heapctl_help(void **state)
{
    static const char *const commands[] = {
        "create",      "ref",       "unref",      "collect",          "stats",
        "list.append", "dict.incr", "heap.check", "gc.set_threshold", "rpc.discover"};
    char program[4200];
    struct process_result result;
    run_with(&result, state, NULL, (const char *[]){"help", NULL});
    assert_int_equal(result.exit_code, 0);
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
        if (strstr(result.out, commands[i]) == NULL) {
            fail_msg("help does not know %s", commands[i]);
        }
    }
    process_result_free(&result);
    RUN(0, "list.append", NULL, "help", "list.append");
    RUN(2, NULL, "list.append", "help", "list.apend");
    RUN(2, NULL, "list.append", "list.apend", "a", "1");
    process_program(program, sizeof program, "heapctl");
    process_run(&result, (const char *[]){program, "--help", NULL}, NULL);
    demand(&result, 0, "heapctl", NULL);
    process_run(&result, (const char *[]){program, "--version", NULL}, NULL);
    demand(&result, 0, "heapctl", NULL);
}

/* ---- run FILE ---- */

static void test_heapctl_run_is_one_session(void **state)
{
    struct wire *wire = ((struct fixture *)*state)->wire;
    char path[] = "/tmp/heapd-test-XXXXXX";
    FILE *file = fdopen(mkstemp(path), "w");
    struct process_result result;
    assert_non_null(file);
    fputs("# comments and empty lines are skipped\n"
          "\n"
          "create '[1000]' --name a   # so is the rest of a line\n"
          "list.append a '\"two words\"'\n"
          "list.append a {\\\"k\\\":1}\n"
          "name.bind \"x y\" a\n"
          "get 'x y' -1\n"
          "ref a\n"
          "unref a\n",
          file);
    fclose(file);
    run_with(&result, state, NULL, (const char *[]){"--json", "run", path, NULL});
    if (result.exit_code != 0 || strstr(result.out, "[1000,\"two words\",{\"k\":1}]\n") == NULL) {
        fail_msg("exit code %d, stdout \"%s\", stderr \"%s\"", result.exit_code, result.out, result.err);
    }
    process_result_free(&result);
    unlink(path);
    assert_int_equal(wire_call_int(wire, NULL, "sys.getrefcount", "[s]", "a"), 3);
    RUN(2, NULL, "", "run");
    RUN(2, NULL, "/nonexistent", "run", "/nonexistent");
}

static void test_heapctl_run_stops_at_the_first_error(void **state)
{
    struct process_result result;
    struct wire *wire = ((struct fixture *)*state)->wire;
    run_with(&result, state, "create [1] --name a\nget nobody\ncreate [2] --name b\n",
             (const char *[]){"run", "-", NULL});
    demand(&result, 1, "", "nobody");
    assert_int_equal(wire_stat(wire, "names", "count"), 1);
    run_with(&result, state, "get nobody\ncreate [2] --name b\nget nobody\n",
             (const char *[]){"run", "--keep-going", "-", NULL});
    demand(&result, 1, "", "nobody");
    assert_int_equal(wire_stat(wire, "names", "count"), 2);
    run_with(&result, state, "ping\nping", (const char *[]){"run", "-", NULL});
    demand(&result, 0, "pong\npong\n", NULL);
    run_with(&result, state, "", (const char *[]){"run", "-", NULL});
    demand(&result, 0, NULL, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        fixture_test(test_heapctl_exit_codes),
        fixture_test(test_heapctl_map_folds_pools),
        cmocka_unit_test(test_heapctl_cannot_connect),
        fixture_test(test_heapctl_url_from_the_environment),
        fixture_test(test_heapctl_targets_and_names_stand_as_they_are),
        fixture_test(test_heapctl_values_are_json),
        fixture_test(test_heapctl_params_by_name),
        fixture_test(test_heapctl_says_what_a_run_lets_go),
        fixture_test(test_heapctl_json_is_one_text_a_reply),
        fixture_test(test_heapctl_errors_as_json),
        fixture_test(test_heapctl_help),
        fixture_test(test_heapctl_run_is_one_session),
        fixture_test(test_heapctl_run_stops_at_the_first_error),
    };
    return cmocka_run_group_tests_name("heapctl", tests, NULL, NULL);
}
