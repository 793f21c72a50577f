/* test_leaks.c -- leaks as programs make them, planted over the wire, and found with the questions of section 7.
 *
 * Each test plants one, in a heap where other things live too, asks as somebody would who knows nothing of it, and
 * demands that the answers name the culprit: a list, a session, a name.  Then it mends what the answers point at,
 * and demands that the leak is gone.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../support/fixture.h"
#include "../support/process.h"

/* ---- helpers ---- */

static int64_t number(const json_t *j_object, const char *key)
{
    const json_t *j_number = json_object_get(j_object, key);
    assert_true(json_is_integer(j_number));
    return json_integer_value(j_number);
}

static const char *text(const json_t *j_object, const char *key)
{
    const char *value = json_string_value(json_object_get(j_object, key));
    assert_non_null(value);
    return value;
}

/* The row of an array whose `key` is that text or, without one, that number; fails when there is none. */
static const json_t *row_of(const json_t *j_rows, const char *key, const char *value, int64_t integer)
{
    const json_t *j_row;
    size_t i;
    json_array_foreach(j_rows, i, j_row)
    {
        const json_t *j_member = json_object_get(j_row, key);
        if (value != NULL ? json_is_string(j_member) && strcmp(json_string_value(j_member), value) == 0
                          : json_integer_value(j_member) == integer) {
            return j_row;
        }
    }
    fail_msg("no row with %s %s (%lld)", key, value != NULL ? value : "", (long long)integer);
    return NULL;
}

/* Every entry but the last of a path, as `name:app .recent [17]`. */
static void path_words(char *words, size_t size, const json_t *j_why)
{
    const json_t *j_entry;
    size_t i, len = 0;
    json_array_foreach(json_object_get(j_why, "path"), i, j_entry)
    {
        if (i == 0 && json_object_get(j_entry, "name") != NULL) {
            len += (size_t)snprintf(words + len, size - len, "%s:%s", text(j_entry, "root"), text(j_entry, "name"));
        } else if (i == 0) {
            len += (size_t)snprintf(words + len, size - len, "%s:%lld", text(j_entry, "root"),
                                    (long long)number(j_entry, text(j_entry, "root")));
        } else if (i > 1) {
            len += (size_t)snprintf(words + len, size - len, " %s", text(j_entry, "edge"));
        }
        assert_true(len < size);
    }
}

/* What else lives in the heap: a table of users, larger than any one of its rows. */
static void furnish(struct wire *wire)
{
    json_t *j_users = json_object();
    for (int i = 0; i < 200; i++) {
        char name[32];
        snprintf(name, sizeof name, "user %d", i);
        json_object_set_new(j_users, name, json_pack("{s:i,s:s}", "id", 1000 + i, "mail", "somebody@example.org"));
    }
    json_decref(wire_callf(wire, "create", "{s:o,s:s}", "value", j_users, "name", "users"));
}

/* ---- a cache that keeps its objects ---- */

#define ENTRIES 1000

/* Makes entries and registers each with the cache: as a weakref, and in the list that was meant to be weak too. */
static void use_cache(const struct daemon *daemon)
{
    struct wire *wire = wire_open(daemon);
    for (int i = 0; i < ENTRIES; i++) {
        int64_t entry = wire_call_int(wire, "object", "create", "[{s:s,s:{s:i,s:s}}]", "$instance", "Entry", "attrs", "n",
                                      1000 + i, "page", "a page of so many words that it is worth keeping, and larger than the entry that has it");
        int64_t weak = wire_call_int(wire, "object", "weakref.create", "[I]", (json_int_t)entry);
        json_decref(wire_callf(wire, "dict.setitem", "[s,i,{s:I}]", "weakrefs", i, "$ref", (json_int_t)weak));
        json_decref(wire_callf(wire, "list.append", "[s,{s:I}]", "recent", "$ref", (json_int_t)entry));
        json_decref(wire_callf(wire, "unref", "[I]", (json_int_t)entry));
        json_decref(wire_callf(wire, "unref", "[I]", (json_int_t)weak));
    }
    wire_close(wire);
}

/* The cache's parts get names while it is built and filled; afterwards `cache` is the only one. */
static void create_cache(struct wire *wire)
{
    json_decref(wire_callf(wire, "create", "{s:{s:s},s:s}", "value", "$class", "Entry", "name", "Entry"));
    json_decref(wire_callf(wire, "create", "{s:{s:s},s:s}", "value", "$class", "Cache", "name", "Cache"));
    json_decref(wire_callf(wire, "create", "{s:{},s:s}", "value", "name", "weakrefs"));
    json_decref(wire_callf(wire, "create", "{s:[],s:s}", "value", "name", "recent"));
    json_decref(wire_callf(wire, "create", "{s:{s:s,s:{s:{s:s},s:{s:s}}},s:s}", "value", "$instance", "Cache", "attrs",
                           "weakrefs", "$ref", "weakrefs", "recent", "$ref", "recent", "name", "cache"));
}

static void test_leaks_a_cache_that_was_meant_to_be_weak(void **state)
{
    const struct fixture *fixture = *state;
    struct wire *wire = fixture->wire;
    char words[256];
    furnish(wire);
    create_cache(wire);
    json_decref(wire_callf(wire, "heap.mark", "[s]", "before"));
    use_cache(fixture->daemon);
    json_decref(wire_callf(wire, "name.unbind", "[s]", "recent"));
    json_decref(wire_callf(wire, "name.unbind", "[s]", "weakrefs"));
    assert_int_equal(wire_call_int(wire, "unreachable", "collect", NULL), 0);

    /* What has grown? Entries, although nobody holds one. */
    json_t *j_diff = wire_callf(wire, "heap.diff", "[s]", "before");
    const json_t *j_grown = json_object_get(j_diff, "types");
    assert_string_equal(text(json_array_get(j_grown, 0), "type"), "str");
    assert_int_equal(number(row_of(j_grown, "type", "Entry", 0), "objects"), ENTRIES);
    assert_int_equal(wire_stat(wire, "sessions", "holds"), 0);
    json_decref(j_diff);

    /* Who keeps the most? The cache, and in it a list that has all entries. */
    json_t *j_top = wire_callf(wire, "heap.dominators", "[i]", 2);
    const json_t *j_rows = json_object_get(j_top, "dominators");
    assert_string_equal(text(json_array_get(j_rows, 0), "type"), "Cache");
    const json_t *j_list = json_array_get(j_rows, 1);
    int64_t list = number(j_list, "object");
    assert_string_equal(text(j_list, "type"), "list");
    assert_true(number(j_list, "objects") > 3 * ENTRIES);
    json_decref(j_top);

    /* Why is an entry alive? Not by its weakref, but by that list. */
    int64_t entry = wire_call_int(wire, "object", "list.getitem", "[Ii]", (json_int_t)list, 17);
    json_t *j_why = wire_callf(wire, "heap.why", "[I]", (json_int_t)entry);
    path_words(words, sizeof words, j_why);
    assert_string_equal(words, "name:cache .recent [17]");
    json_decref(j_why);
    json_t *j_seen = wire_callf(wire, "heap.inspect", "[Ib]", (json_int_t)entry, 1);
    assert_int_equal(number(j_seen, "refcount"), 1);
    assert_int_equal(number(j_seen, "weakrefs"), 1);
    assert_int_equal(json_integer_value(json_array_get(json_object_get(j_seen, "referrers"), 0)), list);
    json_decref(j_seen);

    json_decref(wire_callf(wire, "list.clear", "[I]", (json_int_t)list));
    json_t *j_after = wire_callf(wire, "heap.diff", "[s]", "before");
    const json_t *j_row;
    size_t i;
    json_array_foreach(json_object_get(j_after, "types"), i, j_row)
    {
        assert_string_not_equal(text(j_row, "type"), "Entry");
    }
    json_decref(j_after);
}

/* ---- a session that forgot its holds ---- */

#define HELD 10000

/* Holds what it should have let go of. */
static struct wire *forget_holds(const struct daemon *daemon)
{
    struct wire *wire = wire_open(daemon);
    for (int i = 0; i < HELD; i += 1000) {
        for (int k = 0; k < 1000; k++) {
            char line[80];
            snprintf(line, sizeof line, "{\"id\":1,\"method\":\"create\",\"params\":[[%d]]}\n", 1000 + i + k);
            wire_send_text(wire, line);
        }
        for (int k = 0; k < 1000; k++) {
            assert_non_null(wire_line(wire, &(size_t){0}));
        }
    }
    return wire;
}

static void test_leaks_a_session_that_forgot_its_holds(void **state)
{
    const struct fixture *fixture = *state;
    struct wire *wire = fixture->wire;
    char words[256], wanted[64];
    furnish(wire);
    json_decref(wire_callf(wire, "heap.mark", "[s]", "before"));
    struct wire *modest = wire_open(fixture->daemon);
    json_decref(wire_callf(modest, "create", "[[i]]", 1000));
    struct wire *forgetful = forget_holds(fixture->daemon);
    assert_int_equal(wire_call_int(wire, "unreachable", "collect", NULL), 0);

    /* What has grown, and who made it? */
    json_t *j_diff = wire_callf(wire, "heap.diff", "[s]", "before");
    const json_t *j_maker = json_array_get(json_object_get(j_diff, "sessions"), 0);
    assert_int_equal(json_array_size(json_object_get(j_diff, "sessions")), 2);
    assert_int_equal(number(j_maker, "objects"), 2 * HELD);
    int64_t session = number(j_maker, "session");
    json_decref(j_diff);

    /* Why is one of them alive? No object keeps it: that session does. */
    json_t *j_top = wire_callf(wire, "gc.get_objects", "{s:i,s:i}", "generation", 2, "limit", 100000);
    const json_t *j_ids = json_object_get(j_top, "objects");
    int64_t leaked = json_integer_value(json_array_get(j_ids, json_array_size(j_ids) - 1));
    json_t *j_why = wire_callf(wire, "heap.why", "[I]", (json_int_t)leaked);
    path_words(words, sizeof words, j_why);
    snprintf(wanted, sizeof wanted, "session:%lld", (long long)session);
    assert_string_equal(words, wanted);
    json_decref(j_why);
    json_decref(j_top);

    /* Who is that? The client with 10,000 holds. */
    json_t *j_answer = wire_callf(wire, "server.clients", "[b]", 1);
    const json_t *j_client = row_of(json_object_get(j_answer, "clients"), "session", NULL, session);
    assert_int_equal(number(j_client, "holds"), HELD);
    assert_true(number(j_client, "retained_bytes") >= HELD * (32 + 16));
    assert_string_equal(text(j_client, "last_method"), "create");
    int64_t client = number(j_client, "client");
    json_decref(j_answer);

    assert_int_equal(wire_call_int(wire, "released", "server.kill", "[I]", (json_int_t)client), HELD);
    json_t *j_after = wire_callf(wire, "heap.diff", "[s]", "before");
    const json_t *j_left = json_object_get(j_after, "sessions");
    assert_int_equal(json_array_size(j_left), 1);
    assert_int_equal(number(json_array_get(j_left, 0), "objects"), 2);
    json_decref(j_after);
    wire_close(forgetful);
    wire_close(modest);
}

/* ---- a cycle pinned by one name ---- */

#define NODES 3000

/* A ring of nodes, each knowing its neighbours, of which one in the middle was given a name and forgotten. */
static void create_ring(struct wire *wire)
{
    json_t *j_let = json_object();
    for (int i = 0; i < NODES; i++) {
        char label[16], next[16], before[16];
        snprintf(label, sizeof label, "n%d", i);
        snprintf(next, sizeof next, "n%d", (i + 1) % NODES);
        snprintf(before, sizeof before, "n%d", (i + NODES - 1) % NODES);
        json_object_set_new(j_let, label, json_pack("{s:s,s:{s:{s:s},s:{s:s},s:i}}", "$instance", "Node", "attrs", "next",
                                                    "$label", next, "before", "$label", before, "value", 1000 + i));
    }
    json_decref(wire_callf(wire, "create", "{s:{s:s},s:s}", "value", "$class", "Node", "name", "Node"));
    json_decref(wire_callf(wire, "create", "{s:{s:o,s:{s:s}},s:s}", "value", "$let", j_let, "in", "$label", "n0", "name",
                           "ring"));
    json_decref(wire_callf(wire, "name.unbind", "[s]", "Node"));
    int64_t node = wire_call_int(wire, "object", "name.lookup", "[s]", "ring");
    for (int i = 0; i < 5; i++) {
        node = wire_call_int(wire, "object", "attr.get", "[Is]", (json_int_t)node, "next");
    }
    json_decref(wire_callf(wire, "name.bind", "[sI]", "debug", (json_int_t)node));
}

static void test_leaks_a_cycle_pinned_by_one_name(void **state)
{
    const struct fixture *fixture = *state;
    struct wire *wire = fixture->wire;
    char words[256];
    furnish(wire);
    json_decref(wire_callf(wire, "heap.mark", "[s]", "before"));
    create_ring(wire);
    int64_t first = wire_call_int(wire, "object", "name.lookup", "[s]", "ring");
    json_decref(wire_callf(wire, "name.unbind", "[s]", "ring"));
    assert_int_equal(wire_call_int(wire, "unreachable", "collect", NULL), 0);

    /* What has grown? */
    json_t *j_diff = wire_callf(wire, "heap.diff", "[s]", "before");
    assert_int_equal(number(row_of(json_object_get(j_diff, "types"), "type", "Node", 0), "objects"), NODES);
    json_decref(j_diff);

    /* Who keeps it? One node has all of them, and their class: the ring hangs on that one. */
    json_t *j_top = wire_callf(wire, "heap.dominators", "[i]", 1);
    const json_t *j_row = json_array_get(json_object_get(j_top, "dominators"), 0);
    int64_t pinned = number(j_row, "object");
    assert_string_equal(text(j_row, "type"), "Node");
    assert_int_equal(number(j_row, "objects"), 2 * NODES + 1);
    json_decref(j_top);

    /* Why is it alive, and why is the node alive that was let go of? */
    json_t *j_why = wire_callf(wire, "heap.why", "[I]", (json_int_t)pinned);
    path_words(words, sizeof words, j_why);
    assert_string_equal(words, "name:debug");
    json_decref(j_why);
    j_why = wire_callf(wire, "heap.why", "[I]", (json_int_t)first);
    path_words(words, sizeof words, j_why);
    assert_string_equal(words, "name:debug .before .before .before .before .before");
    json_decref(j_why);

    /* Without the name it is a cycle like any other. */
    json_decref(wire_callf(wire, "name.unbind", "[s]", "debug"));
    j_why = wire_callf(wire, "heap.why", "[I]", (json_int_t)first);
    assert_true(json_is_false(json_object_get(j_why, "reachable")));
    json_decref(j_why);
    assert_int_equal(wire_call_int(wire, "unreachable", "collect", NULL), NODES + 1);
    j_diff = wire_callf(wire, "heap.diff", "[s]", "before");
    assert_int_equal(json_array_size(json_object_get(j_diff, "types")), 0);
    assert_int_equal(json_array_size(json_object_get(j_diff, "sessions")), 0);
    json_decref(j_diff);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        fixture_test(test_leaks_a_cache_that_was_meant_to_be_weak),
        fixture_test(test_leaks_a_session_that_forgot_its_holds),
        fixture_test(test_leaks_a_cycle_pinned_by_one_name),
    };
    return cmocka_run_group_tests_name("leaks", tests, NULL, NULL);
}
