/* test_values.c -- values that need a conversation: copies that come back, deep keys, pages, long lives. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../support/fixture.h"
#include "../support/process.h"

/* ---- create(get(x)) ---- */

/* Both objects' whole graphs, written with labels, are the same text: ids do not occur in it but in
 * class references. */
static void demand_equal(struct wire *wire, const char *a, const char *b)
{
    json_t *j_a = wire_callf(wire, "get", "[s,i,s]", a, -1, "let"),
           *j_b = wire_callf(wire, "get", "[s,i,s]", b, -1, "let");
    if (!json_equal(j_a, j_b)) {
        fail_msg("%s\nis not\n%s", json_dumps(j_a, 0), json_dumps(j_b, 0));
    }
    json_decref(j_a);
    json_decref(j_b);
}

static void test_values_let_rebuilds_sharing_and_cycles(void **state)
{
    static const char *const values[] = {
        "[1,[2,{\"k\":[3]}],{\"$tuple\":[4,[5]]}]",
        "{\"$let\":{\"x\":[1]},\"in\":[{\"$label\":\"x\"},{\"$label\":\"x\"}]}",
        "{\"$let\":{\"x\":[{\"$label\":\"x\"}]},\"in\":{\"$label\":\"x\"}}",
        "{\"$let\":{\"a\":[{\"$label\":\"b\"}],\"b\":{\"a\":{\"$label\":\"a\"},\"b\":{\"$label\":\"b\"}}},"
        "\"in\":[{\"$label\":\"a\"},{\"$label\":\"b\"}]}",
        "{\"$let\":{\"t\":{\"$tuple\":[1,{\"$label\":\"l\"}]},\"l\":[{\"$label\":\"t\"}]},\"in\":{\"$label\":"
        "\"t\"}}",
        "{\"$let\":{\"k\":{\"$tuple\":[1,2]},\"d\":{\"$dict\":[[{\"$label\":\"k\"},{\"$label\":\"d\"}]]}},"
        "\"in\":[{\"$label\":\"d\"},{\"$label\":\"k\"}]}",
        "{\"$let\":{\"i\":{\"$instance\":\"Node\",\"attrs\":{\"me\":{\"$label\":\"i\"},\"list\":[{\"$label\":"
        "\"i\"}]}}},\"in\":{\"$label\":\"i\"}}",
        "{\"$let\":{\"f\":{\"$frozenset\":[1]}},\"in\":{\"$dict\":[[{\"$label\":\"f\"},1],[{\"$tuple\":[{\"$"
        "label\":\"f\"}]},2]]}}",
        "{\"$let\":{\"x\":[],\"w\":{\"$weakref\":{\"$label\":\"x\"}}},\"in\":[{\"$label\":\"x\"},{\"$label\":"
        "\"w\"},{\"$label\":\"w\"}]}",
        "[{\"$weakref\":null},{\"$float\":\"nan\"},{\"$bytes\":\"AAEC\"},{\"$int\":\"99999999999999999999\"}"
        "]",
        "{\"$dict\":[[\"$x\",1],[\"y\",{\"$dict\":[[1,{\"$set\":[5]}]]}]]}",
    };
    struct wire *wire = ((struct fixture *)*state)->wire;
    size_t len;
    json_decref(wire_callf(wire, "create", "[{s:s},s]", "$class", "Node", "Node"));
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        int64_t live = wire_stat(wire, "objects", "live");
        char *request;
        assert_true(
            asprintf(&request, "{\"id\":1,\"method\":\"create\",\"params\":[%s,\"a\"]}\n", values[i]) > 0);
        wire_send_text(wire, request);
        const char *reply = wire_line(wire, &len);
        if (strstr(reply, "\"result\"") == NULL) {
            fail_msg("%s%s", request, reply);
        }
        free(request);
        int64_t first = wire_stat(wire, "objects", "live") - live;
        json_t *j_text = wire_callf(wire, "get", "[s,i,s]", "a", -1, "let");
        json_decref(wire_callf(wire, "create", "[o,s]", j_text, "b"));
        int64_t second = wire_stat(wire, "objects", "live") - live - first;
        if (first != second) {
            fail_msg("%s: %lld objects, its copy %lld", values[i], (long long)first, (long long)second);
        }
        demand_equal(wire, "a", "b");
        json_decref(wire_callf(wire, "name.unbind", "[s]", "a"));
        json_decref(wire_callf(wire, "name.unbind", "[s]", "b"));
        json_decref(wire_callf(wire, "collect", NULL));
        wire_check_heap(wire);
    }
}

static void test_values_copy_is_shallow_or_deep(void **state)
{
    struct wire *wire = ((struct fixture *)*state)->wire;
    json_decref(wire_callf(wire, "create", "[[[i],{s:[i]}],s]", 1, "k", 2, "a"));
    json_decref(wire_callf(wire, "create", "[o,s]", wire_callf(wire, "get", "[s]", "a"), "shallow"));
    json_decref(wire_callf(wire, "create", "[o,s]", wire_callf(wire, "get", "[s,i]", "a", -1), "deep"));
    json_t *j_inner = wire_callf(wire, "list.getitem", "[s,i]", "a", 0);
    json_decref(wire_callf(wire, "list.append", "[O,s]", json_object_get(j_inner, "object"), "new"));
    json_decref(j_inner);
    wire_expect(wire, "{'id':1,'method':'get','params':['shallow',-1]}",
                "{'id':1,'result':[[1,'new'],{'k':[2]}]}");
    wire_expect(wire, "{'id':2,'method':'get','params':['deep',-1]}", "{'id':2,'result':[[1],{'k':[2]}]}");
}

/* ---- keys ---- */

/* Hashing or comparing deeper than 1000 is refused, wherever the depth comes from. */
static void test_values_deep_keys(void **state)
{
    struct wire *wire = ((struct fixture *)*state)->wire;
    wire_expect(wire, "{'id':1,'method':'create','params':[{'$tuple':[7]},'t']}",
                "{'id':1,'result':{'object':<int>,'type':'tuple','refcount':1}}");
    for (int depth = 2; depth <= 900; depth++) {
        wire_expect(wire, "{'id':1,'method':'create','params':[{'$tuple':[{'$ref':'t'}]},'t']}",
                    "{'id':1,'result':{'object':<int>,'type':'tuple','refcount':1}}");
    }
    json_decref(wire_callf(wire, "create", "[{},s]", "d"));
    wire_expect(wire, "{'id':2,'method':'dict.setitem','params':['d',{'$ref':'t'},'found']}",
                "{'id':2,'result':null}");
    wire_expect(wire, "{'id':3,'method':'dict.contains','params':['d',{'$ref':'t'}]}",
                "{'id':3,'result':{'contains':true}}");
    for (int depth = 901; depth <= 1100; depth++) {
        wire_expect(wire, "{'id':1,'method':'create','params':[{'$tuple':[{'$ref':'t'}]},'t']}",
                    "{'id':1,'result':{'object':<int>,'type':'tuple','refcount':1}}");
    }
    wire_expect(wire, "{'id':4,'method':'dict.setitem','params':['d',{'$ref':'t'},1]}",
                "{'id':4,'error':<error value_error>}");
    wire_expect(wire, "{'id':5,'method':'dict.contains','params':['d',{'$ref':'t'}]}",
                "{'id':5,'error':<error value_error>}");
    wire_expect(wire, "{'id':6,'method':'create','params':[{'$set':[{'$ref':'t'}]}]}",
                "{'id':6,'error':<error value_error>}");
    wire_expect(wire, "{'id':7,'method':'dict.len','params':['d']}", "{'id':7,'result':{'len':1}}");
}

/* Two programs reach the same key by content. */
static void test_values_many_keys(void **state)
{
    struct wire *wire = ((struct fixture *)*state)->wire;
    const int n = process_rounds(3000, 10);
    json_decref(wire_callf(wire, "create", "[{},s]", "d"));
    json_decref(wire_callf(wire, "create", "[{s:[]},s]", "$set", "s"));
    for (int i = 0; i < n; i++) {
        json_decref(wire_callf(wire, "dict.setitem", "[s,{s:[i,s]},i]", "d", "$tuple", i, "x", i));
        json_decref(wire_callf(wire, "set.add", "[s,f]", "s", (double)i));
    }
    assert_int_equal(wire_call_int(wire, "len", "dict.len", "[s]", "d"), n);
    for (int i = 0; i < n; i++) {
        assert_int_equal(wire_call_int(wire, "value", "dict.getitem", "{s:s,s:{s:[f,s]},s:i}", "object", "d",
                                       "key", "$tuple", (double)i, "x", "depth", 0),
                         i);
        json_t *j_added = wire_callf(wire, "set.add", "[s,i]", "s", i);
        assert_true(json_is_false(json_object_get(j_added, "added")));
        json_decref(j_added);
    }
    for (int i = 0; i < n; i += 2) {
        json_decref(wire_callf(wire, "dict.delitem", "[s,{s:[i,s]}]", "d", "$tuple", i, "x"));
    }
    assert_int_equal(wire_call_int(wire, "len", "dict.len", "[s]", "d"), n / 2);
}

/* ---- pages ---- */

/* What is there during the whole listing is listed once, though the dict changes between the pages. */
static void test_values_dict_keys_in_pages(void **state)
{
    struct wire *wire = ((struct fixture *)*state)->wire;
    enum { KEYS = 1000 };
    bool listed[KEYS] = {false};
    json_t *j_after = json_null();
    json_decref(wire_callf(wire, "create", "[{},s]", "d"));
    for (int i = 0; i < KEYS; i++) {
        json_decref(wire_callf(wire, "dict.setitem", "[s,i,n]", "d", i));
    }
    int pages = 0, expected = 0;
    do {
        json_t *j_page = wire_callf(wire, "dict.keys", "{s:s,s:i,s:O}", "object", "d", "limit", 37, "after",
                                    j_after),
               *j_key;
        size_t i;
        assert_true(json_array_size(json_object_get(j_page, "keys")) <= 37);
        json_array_foreach(json_object_get(j_page, "keys"), i, j_key)
        {
            json_int_t key = json_integer_value(j_key);
            if (key >= KEYS) {
                continue; /* added meanwhile: may be listed */
            }
            assert_false(listed[key]);
            assert_true(key >= expected); /* in insertion order */
            expected = (int)key;
            listed[key] = true;
        }
        json_decref(j_after);
        j_after = json_incref(json_object_get(j_page, "next"));
        json_decref(j_page);
        /* Entries listed already go, others come. */
        json_decref(
            wire_callf(wire, "dict.pop", "{s:s,s:i,s:b}", "object", "d", "key", pages * 30, "hold", 0));
        json_decref(wire_callf(wire, "dict.setitem", "[s,i,n]", "d", KEYS + pages));
        pages++;
        assert_true(pages < KEYS);
    } while (!json_is_null(j_after));
    json_decref(j_after);
    for (int i = 0; i < KEYS; i++) {
        assert_true(listed[i]);
    }
}

static void test_values_names_in_pages(void **state)
{
    struct wire *wire = ((struct fixture *)*state)->wire;
    enum { NAMES = 2500 };
    for (int i = 0; i < NAMES; i++) {
        char name[16];
        snprintf(name, sizeof name, "n%05d", i);
        json_decref(wire_callf(wire, "create", "[i,s]", 1, name));
    }
    json_t *j_page = wire_callf(wire, "name.list", NULL);
    assert_int_equal(json_array_size(json_object_get(j_page, "names")), 1000);
    assert_string_equal(json_string_value(json_object_get(j_page, "next")), "n00999");
    json_decref(j_page);
    json_t *j_after = json_null();
    int seen = 0;
    do {
        j_page = wire_callf(wire, "name.list", "{s:s,s:i,s:O}", "prefix", "n", "limit", 99, "after", j_after);
        json_t *j_name;
        size_t i;
        json_array_foreach(json_object_get(j_page, "names"), i, j_name)
        {
            char name[16];
            snprintf(name, sizeof name, "n%05d", seen++);
            assert_string_equal(json_string_value(json_object_get(j_name, "name")), name);
        }
        json_decref(j_after);
        j_after = json_incref(json_object_get(j_page, "next"));
        json_decref(j_page);
    } while (!json_is_null(j_after));
    json_decref(j_after);
    assert_int_equal(seen, NAMES);
}

/* ---- size and age ---- */

/* A long chain dies without deep recursion, by refcount and by collection. */
static void test_values_long_chain_dies(void **state)
{
    struct wire *wire = ((struct fixture *)*state)->wire;
    const int n = process_rounds(100000, 10);
    size_t len;
    for (int cyclic = 0; cyclic < 2; cyclic++) {
        json_decref(wire_callf(wire, "create", "[[],s]", "chain"));
        json_decref(wire_callf(wire, "name.bind", "[s,s]", "end", "chain"));
        for (int i = 0; i < n; i++) {
            wire_send_text(
                wire, "{\"id\":1,\"method\":\"create\",\"params\":[[{\"$ref\":\"chain\"}],\"chain\"]}\n");
        }
        for (int i = 0; i < n; i++) {
            assert_non_null(wire_line(wire, &len));
        }
        assert_int_equal(wire_stat(wire, "objects", "live"), n + 1);
        if (cyclic) {
            json_decref(wire_callf(wire, "list.append", "[s,{s:s}]", "end", "$ref", "chain"));
        }
        json_decref(wire_callf(wire, "name.unbind", "[s]", "end"));
        int64_t freed = wire_call_int(wire, "refcount", "name.unbind", "[s]", "chain");
        assert_int_equal(freed, cyclic);
        if (cyclic) {
            json_t *j_result = wire_callf(wire, "collect", NULL);
            assert_int_equal(json_integer_value(json_object_get(j_result, "unreachable")), n + 1);
            json_decref(j_result);
        }
        assert_int_equal(wire_stat(wire, "objects", "live"), 0);
    }
}

static void test_values_ids_are_never_reused(void **state)
{
    struct wire *wire = ((struct fixture *)*state)->wire;
    int64_t last = 0;
    json_t *j_seen = json_object();
    for (int i = 0; i < process_rounds(3000, 20); i++) {
        char key[32];
        last = wire_call_int(wire, "object", "create", "[[]]");
        assert_in_range(last, 1, (INT64_C(1) << 53) - 1);
        snprintf(key, sizeof key, "%lld", (long long)last);
        assert_null(json_object_get(j_seen, key));
        json_object_set_new(j_seen, key, json_true());
        json_decref(wire_callf(wire, "unref", "[I]", (json_int_t)last));
    }
    json_decref(j_seen);
}

/* Arenas go back when what was in them is gone. */
static void test_values_arenas_go_back(void **state)
{
    struct wire *wire = ((struct fixture *)*state)->wire;
    int64_t before = wire_stat(wire, "allocator", "arenas");
    for (int round = 0; round < 3; round++) {
        json_t *j_list = json_array();
        for (int i = 0; i < 200000; i++) {
            json_array_append_new(j_list, json_pack("[i]", 1000 + i));
        }
        json_decref(wire_callf(wire, "create", "[o,s]", j_list, "big"));
        assert_true(wire_stat(wire, "allocator", "arenas") > before + 4);
        json_decref(wire_callf(wire, "name.unbind", "[s]", "big"));
        assert_true(wire_stat(wire, "allocator", "arenas") <= before + 2);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        fixture_test(test_values_let_rebuilds_sharing_and_cycles),
        fixture_test(test_values_copy_is_shallow_or_deep),
        fixture_test(test_values_deep_keys),
        fixture_test(test_values_many_keys),
        fixture_test(test_values_dict_keys_in_pages),
        fixture_test(test_values_names_in_pages),
        fixture_test(test_values_long_chain_dies),
        fixture_test(test_values_ids_are_never_reused),
        fixture_test(test_values_arenas_go_back),
    };
    return cmocka_run_group_tests_name("values", tests, NULL, NULL);
}
