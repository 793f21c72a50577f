/* test_heapctl_leaks.c -- planted leaks, each found with three commands of heapctl.
 *
 * A leak is planted over the wire, with other things around it; then each of the three commands must name
 * the culprit in what it prints for people.
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
    send_many(wire,
              "{\"id\":1,\"method\":\"list.append\",\"params\":{\"object\":%lld,\"value\":{\"$instance\":\"Page\","
              "\"attrs\":{\"n\":%d}}}}\n",
              list, COUNT);
    long long page = wire_call_int(wire, "object", "list.getitem", "[I,i]", (json_int_t)list, 4321);
    json_decref(wire_callf(wire, "name.unbind", "[s]", "list"));
    demand(state, WORDS("diff", "before"), WORDS("Page", "+10000"));
    demand(state, WORDS("top", "--limit", "2"), WORDS("name cache", "list", "dict", "####################"));
    snprintf(suspect, sizeof suspect, "%lld", page);
    snprintf(culprit, sizeof culprit, "    ['weakrefs']  list %lld\n      [4321]  Page %lld   refcount 1, ", list,
             page);
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
    json_decref(wire_callf(wire, "create", "{s:o,s:s}", "value",
                           json_loads("{\"$let\":{\"a\":{\"next\":{\"$label\":\"b\"}},\"b\":{\"next\":{\"$label\":"
                                      "\"c\"}},\"c\":{\"next\":{\"$label\":\"a\"},\"load\":[]}},\"in\":{\"$label\":"
                                      "\"b\"}}",
                                      0, NULL),
                           "name", "debug_last"));
    long long b = wire_call_int(wire, "object", "name.lookup", "[s]", "debug_last");
    long long c = wire_call_int(wire, "object", "dict.getitem", "[I,s]", (json_int_t)b, "next");
    long long load = wire_call_int(wire, "object", "dict.getitem", "[I,s]", (json_int_t)c, "load");
    send_many(wire, "{\"id\":1,\"method\":\"list.append\",\"params\":{\"object\":%lld,\"value\":[%d]}}\n", load,
              COUNT);
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
    long long loop = create_named(wire, "loop", "{\"$let\":{\"x\":[{\"$label\":\"x\"}]},\"in\":{\"$label\":\"x\"}}");
    json_decref(wire_callf(wire, "name.unbind", "[s]", "loop"));
    snprintf(suspect, sizeof suspect, "%lld", loop);
    demand(state, WORDS("why", suspect), WORDS("list ", "refcount 1", "Nothing keeps it alive"));
    demand(state, WORDS("--json", "why", suspect), WORDS("{\"reachable\":false,\"path\":[]}\n"));
    json_decref(wire_callf(wire, "gc.enable", NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        fixture_test(test_heapctl_leaks_cache_with_a_weak_looking_list),
        fixture_test(test_heapctl_leaks_session_that_forgot_its_holds),
        fixture_test(test_heapctl_leaks_cycle_pinned_by_one_name),
        fixture_test(test_heapctl_leaks_garbage_is_no_leak),
    };
    return cmocka_run_group_tests_name("heapctl_leaks", tests, NULL, NULL);
}
