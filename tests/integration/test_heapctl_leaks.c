/* test_heapctl_leaks.c -- planted leaks, each found with three commands of heapctl.
 *
 * A leak is planted over the wire, with other things around it; then each of the three commands must name
 * the culprit in what it prints for people.  Then pictures, with and without Graphviz.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <unistd.h>

#include "../support/fixture.h"
#include "../support/process.h"

#define COUNT 10000

/* Runs heapctl with these words and demands that it prints each of `expected` (ended by NULL) on stdout. */
static void demand(void **state, const char *const words[], const char *const expected[])
{
    const struct daemon *daemon = ((struct fixture *)*state)->daemon;
    char program[4200], url[256];
    const char *argv[12] = {program, "--url", url};
    struct process_result result;
    process_program(program, sizeof program, "heapctl");
    snprintf(url, sizeof url, "tcp:%s:%d", daemon->host, daemon->port);
    for (size_t i = 0; words[i] != NULL && i < 8; i++) {
        argv[3 + i] = words[i];
    }
    process_run(&result, argv, NULL);
    if (result.exit_code != 0 || process_has_complaint(result.err)) {
        fail_msg("heapctl %s: exit code %d, %s", words[0], result.exit_code, result.err);
    }
    for (size_t i = 0; expected[i] != NULL; i++) {
        if (strstr(result.out, expected[i]) == NULL) {
            fail_msg("heapctl %s does not tell \"%s\":\n%s", words[0], expected[i], result.out);
        }
    }
    process_result_free(&result);
}

#define WORDS(...) ((const char *const[]){__VA_ARGS__, NULL})

/* Sends `count` of the same request without waiting for each reply. */
static void send_many(struct wire *wire, const char *format, long long object, int count)
{
    char line[256];
    for (int i = 0; i < count; i++) {
        int len = snprintf(line, sizeof line, format, object, i);
        wire_send(wire, line, (size_t)len);
    }
    for (int i = 0; i < count; i++) {
        size_t len;
        const char *reply = wire_line(wire, &len);
        assert_non_null(reply);
        assert_null(strstr(reply, "error"));
    }
}

static long long create_named(struct wire *wire, const char *name, const char *value)
{
    json_t *j_value = json_loads(value, JSON_DECODE_ANY, NULL);
    assert_non_null(j_value);
    return wire_call_int(wire, "object", "create", "{s:o,s:s}", "value", j_value, "name", name);
}

static void mark(void **state)
{
    demand(state, WORDS("mark", "before"), WORDS("before"));
}

/* A cache has a list that was meant to be of weak references, and has the objects themselves. */
static void test_heapctl_leaks_cache_with_a_weak_looking_list(void **state)
{
    struct wire *wire = ((struct fixture *)*state)->wire;
    char culprit[64], suspect[32];
    create_named(wire, "config", "{\"a\": [1, 2, 3]}");
    create_named(wire, "Page", "{\"$class\": \"Page\"}");
    long long list = create_named(wire, "list", "[]");
    create_named(wire, "cache", "{\"weakrefs\": {\"$ref\": \"list\"}, \"hits\": 17}");
    mark(state);
    send_many(
        wire,
        "{\"id\":1,\"method\":\"list.append\",\"params\":{\"object\":%lld,\"value\":{\"$instance\":\"Page\","
        "\"attrs\":{\"n\":%d}}}}\n",
        list, COUNT);
    long long page = wire_call_int(wire, "object", "list.getitem", "[I,i]", (json_int_t)list, 4321);
    json_decref(wire_callf(wire, "name.unbind", "[s]", "list"));
    demand(state, WORDS("diff", "before"), WORDS("Page", "+10000"));
    demand(state, WORDS("top", "--limit", "2"), WORDS("name cache", "list", "dict", "####################"));
    snprintf(suspect, sizeof suspect, "%lld", page);
    snprintf(culprit, sizeof culprit, "    ['weakrefs']  list %lld\n      [4321]  Page %lld   refcount 1, ",
             list, page);
    demand(state, WORDS("why", suspect), WORDS("name cache\n  dict ", culprit));
}

/* A session took 10,000 holds and never gave them back. */
static void test_heapctl_leaks_session_that_forgot_its_holds(void **state)
{
    struct fixture *fixture = *state;
    struct wire *forgetful = wire_open(fixture->daemon);
    char suspect[32], row[64];
    create_named(fixture->wire, "config", "{\"a\": [1, 2, 3]}");
    mark(state);
    send_many(forgetful, "{\"id\":%lld,\"method\":\"create\",\"params\":{\"value\":[%d]}}\n", 1, COUNT);
    long long object = wire_call_int(forgetful, "object", "create", "{s:[i]}", "value", 7);
    snprintf(suspect, sizeof suspect, "%lld", object);
    demand(state, WORDS("clients"), WORDS("10001", "create"));
    json_t *j_clients = wire_callf(fixture->wire, "server.clients", NULL);
    long long session = 0;
    size_t i;
    json_t *j_client;
    json_array_foreach(json_object_get(j_clients, "clients"), i, j_client)
    {
        if (json_integer_value(json_object_get(j_client, "holds")) == COUNT + 1) {
            session = json_integer_value(json_object_get(j_client, "session"));
        }
    }
    json_decref(j_clients);
    snprintf(row, sizeof row, "session %lld (client ", session);
    demand(state, WORDS("diff", "before"), WORDS(row, "holds 10001)"));
    demand(state, WORDS("why", suspect), WORDS(row, "holds 10001)\n  list "));
    wire_close(forgetful);
}

/* A ring of objects that all refer to each other is kept by a name bound to one of them. */
static void test_heapctl_leaks_cycle_pinned_by_one_name(void **state)
{
    struct wire *wire = ((struct fixture *)*state)->wire;
    char suspect[32], path[] = "/tmp/heapd-test-XXXXXX.dot";
    create_named(wire, "config", "{\"a\": [1, 2, 3]}");
    json_decref(
        wire_callf(wire, "create", "{s:o,s:s}", "value",
                   json_loads("{\"$let\":{\"a\":{\"next\":{\"$label\":\"b\"}},\"b\":{\"next\":{\"$label\":"
                              "\"c\"}},\"c\":{\"next\":{\"$label\":\"a\"},\"load\":[]}},\"in\":{\"$label\":"
                              "\"b\"}}",
                              0, NULL),
                   "name", "debug_last"));
    long long b = wire_call_int(wire, "object", "name.lookup", "[s]", "debug_last");
    long long c = wire_call_int(wire, "object", "dict.getitem", "[I,s]", (json_int_t)b, "next");
    long long load = wire_call_int(wire, "object", "dict.getitem", "[I,s]", (json_int_t)c, "load");
    send_many(wire, "{\"id\":1,\"method\":\"list.append\",\"params\":{\"object\":%lld,\"value\":[%d]}}\n",
              load, COUNT);
    snprintf(suspect, sizeof suspect, "%lld", load);
    demand(state, WORDS("top", "--limit", "1"), WORDS("name debug_last", "dict"));
    demand(state, WORDS("why", suspect),
           WORDS("name debug_last\n  dict ", "\n    ['next']  dict ", "\n      ['load']  list "));
    close(mkstemps(path, 4));
    demand(state, WORDS("graph", suspect, "-o", path, "--depth", "0"), WORDS("objects"));
    size_t len;
    char *text = process_read_file(path, &len);
    assert_non_null(text);
    assert_non_null(strstr(text, "name debug_last"));
    assert_non_null(strstr(text, "['load']"));
    free(text);
    unlink(path);
}

/* What is garbage already has nobody to name. */
static void test_heapctl_leaks_garbage_is_no_leak(void **state)
{
    struct wire *wire = ((struct fixture *)*state)->wire;
    char suspect[32];
    json_decref(wire_callf(wire, "gc.disable", NULL));
    long long loop =
        create_named(wire, "loop", "{\"$let\":{\"x\":[{\"$label\":\"x\"}]},\"in\":{\"$label\":\"x\"}}");
    json_decref(wire_callf(wire, "name.unbind", "[s]", "loop"));
    snprintf(suspect, sizeof suspect, "%lld", loop);
    demand(state, WORDS("why", suspect), WORDS("list ", "refcount 1", "Nothing keeps it alive"));
    demand(state, WORDS("--json", "why", suspect), WORDS("{\"reachable\":false,\"path\":[]}\n"));
    json_decref(wire_callf(wire, "gc.enable", NULL));
}

/* ---- pictures ---- */

/* Runs heapctl graph into `folder`/`file`; `path` is $PATH for it, NULL: as it is. */
static int run_graph(void **state, const char *object, const char *file, const char *path, char **err)
{
    const struct daemon *daemon = ((struct fixture *)*state)->daemon;
    char program[4200], url[256], variable[256];
    struct process_result result;
    process_program(program, sizeof program, "heapctl");
    snprintf(url, sizeof url, "tcp:%s:%d", daemon->host, daemon->port);
    snprintf(variable, sizeof variable, "PATH=%s", path != NULL ? path : getenv("PATH"));
    process_run(&result,
                (const char *[]){"env", variable, program, "--url", url, "graph", object, "-o", file, NULL},
                NULL);
    if (process_has_complaint(result.err)) {
        fail_msg("%s", result.err);
    }
    int exit_code = result.exit_code;
    *err = result.err;
    result.err = NULL;
    process_result_free(&result);
    return exit_code;
}

/* Whether the file is there and has `text` in it; then it is gone. */
static bool takes_file_with(const char *path, const char *text)
{
    size_t len;
    char *found = process_read_file(path, &len);
    bool has = found != NULL && strstr(found, text) != NULL;
    free(found);
    unlink(path);
    return has;
}

/* One of each kind of object, with texts that would break a picture if they were not escaped. */
static void plant_everything(struct wire *wire)
{
    create_named(wire, "Plain", "{\"$class\": \"Plain\"}");
    create_named(wire, "all",
                 "{\"list\": [1, \"two <&> \\\"quoted\\\" \\n\", 3.5, null, true, {\"$bytes\": \"AAEC\"}],"
                 " \"it's\": {\"$tuple\": [[], {\"$int\": \"123456789012345678901234567890\"}]},"
                 " \"set\": {\"$set\": [7, {\"$frozenset\": [8]}]},"
                 " \"dict\": {\"$dict\": [[{\"$tuple\": [1, 2]}, \"tuple key\"], [1.5, \"float key\"]]},"
                 " \"p\": {\"$instance\": \"Plain\", \"attrs\": {\"x\": [], \"y\": 2}},"
                 " \"weak\": {\"$weakref\": \"Plain\"}}");
}

static void test_heapctl_leaks_graph_draws_everything(void **state)
{
    struct wire *wire = ((struct fixture *)*state)->wire;
    static const char *const edges[] = {
        "['list']", "['it\\\\'s']", "label=\"key\"", "[1.5]",
        "{}",       ".x",           ".__class__",    "label=\"weak\", style=dashed",
        "name all", "name Plain"};
    char folder[] = "/tmp/heapd-test-XXXXXX", path[64], *err;
    plant_everything(wire);
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/a.dot", folder);
    assert_int_equal(run_graph(state, "all", path, NULL, &err), 0);
    free(err);
    for (size_t i = 0; i < sizeof edges / sizeof edges[0]; i++) {
        size_t len;
        char *text = process_read_file(path, &len);
        if (strstr(text, edges[i]) == NULL) {
            fail_msg("no %s in %s", edges[i], text);
        }
        free(text);
    }
    unlink(path);
    /* The whole heap, and what does not fit. */
    assert_int_equal(run_graph(state, "--all", path, NULL, &err), 0);
    free(err);
    assert_true(takes_file_with(path, "name all"));
    rmdir(folder);
}

static void test_heapctl_leaks_graph_is_drawn_by_graphviz(void **state)
{
    struct wire *wire = ((struct fixture *)*state)->wire;
    char folder[] = "/tmp/heapd-test-XXXXXX", path[64], dot_path[80], *err;
    plant_everything(wire);
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/a.svg", folder);
    /* Without Graphviz its input is left, and how to get it is said. */
    assert_int_equal(run_graph(state, "all", path, "/nonexistent", &err), 1);
    assert_non_null(strstr(err, "graphviz"));
    free(err);
    snprintf(dot_path, sizeof dot_path, "%s.dot", path);
    assert_true(takes_file_with(dot_path, "digraph"));
    assert_int_not_equal(access(path, F_OK), 0);
    rmdir(folder);
    assert_non_null(mkdtemp(strcpy(folder, "/tmp/heapd-test-XXXXXX")));
    snprintf(path, sizeof path, "%s/a.svg", folder);
    int code = run_graph(state, "all", path, NULL, &err);
    bool has_graphviz = strstr(err, "not installed") == NULL;
    if (has_graphviz && code != 0) {
        fail_msg("exit code %d: %s", code, err);
    }
    free(err);
    snprintf(dot_path, sizeof dot_path, "%s.dot", path);
    unlink(dot_path);
    bool is_drawn = takes_file_with(path, "<svg");
    assert_int_equal(rmdir(folder), 0);
    if (!has_graphviz) {
        process_skip("Graphviz is not installed");
    }
    assert_true(is_drawn);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        fixture_test(test_heapctl_leaks_cache_with_a_weak_looking_list),
        fixture_test(test_heapctl_leaks_session_that_forgot_its_holds),
        fixture_test(test_heapctl_leaks_cycle_pinned_by_one_name),
        fixture_test(test_heapctl_leaks_garbage_is_no_leak),
        fixture_test(test_heapctl_leaks_graph_draws_everything),
        fixture_test(test_heapctl_leaks_graph_is_drawn_by_graphviz),
    };
    return cmocka_run_group_tests_name("heapctl_leaks", tests, NULL, NULL);
}
