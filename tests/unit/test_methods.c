/* test_methods.c -- what the methods answer and change, in the order of PROTOCOL sections 4 to 7. */
#include "rpc_fixture.h"

/* ---- create, ref, unref ---- */

static void test_methods_create_holds_or_names(void **state)
{
    struct rpc_fixture *f = *state;
    call(f, "create", "[[\"hello\",1000,5]]", "<ordered {\"object\":<id:a>,\"type\":\"list\",\"refcount\":1}>");
    call(f, "create", "[{\"k\":1},\"d\"]", "{\"object\":<id:d>,\"type\":\"dict\",\"refcount\":1}");
    call(f, "create", "{\"value\":2000,\"name\":\"n\",\"hold\":true}",
         "{\"object\":<id:n>,\"type\":\"int\",\"refcount\":2}");
    call(f, "stats", "[\"sessions\"]", "{\"count\":1,\"leased\":0,\"holds\":2}");
    call(f, "unref", "[<id:a>]", "<ordered {\"object\":<id:a>,\"refcount\":0,\"freed\":3}>");
    fail_call(f, "unref", "[<id:a>]", "not_found", "{\"object\":<id:a>}");
    call(f, "unref", "[\"n\"]", "{\"object\":<id:n>,\"refcount\":1}");
    fail_call(f, "unref", "[\"n\"]", "not_held", "{\"object\":<id:n>}");
    fail_call(f, "unref", "[\"nobody\"]", "name_error", "{\"name\":\"nobody\"}");
    call(f, "ref", "[\"d\"]", "<ordered {\"object\":<id:d>,\"refcount\":2}>");
}

static void test_methods_create_makes_nothing_of_what_exists(void **state)
{
    struct rpc_fixture *f = *state;
    call(f, "create", "[[1],\"a\"]", "{\"object\":<id:a>,\"type\":\"list\",\"refcount\":1}");
    call(f, "create", "[{\"$ref\":\"a\"}]", "{\"object\":<id:a>,\"type\":\"list\",\"refcount\":2}");
    call(f, "create", "[{\"$ref\":<id:a>},\"b\"]", "{\"object\":<id:a>,\"type\":\"list\",\"refcount\":3}");
    call(f, "create", "[7]", "{\"object\":<id:seven>,\"type\":\"int\",\"refcount\":4294967295}");
    call(f, "unref", "[<id:seven>]", "{\"object\":<id:seven>,\"refcount\":4294967295}");
    fail_call(f, "unref", "[<id:seven>]", "not_held", NULL);
    call(f, "create", "[null]", "{\"object\":<id:none>,\"type\":\"NoneType\",\"refcount\":4294967295}");
    fail_call(f, "create", "[{\"$ref\":4711}]", "not_found", "{\"object\":4711}");
    fail_call(f, "create", "[{\"$ref\":\"zz\"}]", "name_error", "{\"name\":\"zz\"}");
}

/* Rebinding comes last: the old object dies, and the count told is the one after its death. */
static void test_methods_create_rebinds(void **state)
{
    struct rpc_fixture *f = *state;
    call(f, "create", "[[[9]],\"a\"]", "<object>");
    call(f, "list.getitem", "[\"a\",0]", "{\"object\":<id:inner>}");
    call(f, "create", "[{\"$ref\":<id:inner>},\"a\"]",
         "{\"object\":<id:inner>,\"type\":\"list\",\"refcount\":1,\"freed\":1}");
    call(f, "create", "[\"new\",\"a\"]", "{\"object\":<id:new>,\"type\":\"str\",\"refcount\":1,\"freed\":1}");
    fail_call(f, "create", "[1,\"\"]", "value_error", "{\"name\":\"\"}");
    call(f, "get", "[\"a\"]", "\"new\"");
}

static void test_methods_create_is_all_or_nothing(void **state)
{
    struct rpc_fixture *f = *state;
    static const char *const values[] = {
        "[1000,{\"$ref\":\"nobody\"}]",
        "{\"a\":[2000],\"b\":{\"$bytes\":\"!\"}}",
        "{\"$set\":[1000,[]]}",
        "[[3000],123456789012345678901]",
        "[1e999]",
        "{\"$instance\":{\"$ref\":1}}",
    };
    for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
        char line[256];
        snprintf(line, sizeof(line), "{\"id\":1,\"method\":\"create\",\"params\":[%s,\"x\",true]}\n",
                 values[i]);
        say(f, line);
        assert_non_null(strstr(f->said, "\"error\":{\"code\":-32"));
        call(f, "stats", "[\"objects\"]", "<has {\"live\":0}>");
    }
    fail_call(f, "get", "[\"x\"]", "name_error", NULL);
}

/* The numbers of the mission's document. */
static void test_methods_refcounts_as_in_python(void **state)
{
    struct rpc_fixture *f = *state;
    call(f, "create", "[\"my-string\",\"a\"]", "<object>");
    call(f, "sys.getrefcount", "[\"a\"]", "2");
    call(f, "create", "[[{\"$ref\":\"a\"}],\"b\"]", "<object>");
    call(f, "create", "[{\"key\":{\"$ref\":\"a\"}},\"c\"]", "<object>");
    call(f, "sys.getrefcount", "[\"a\"]", "4");
    call(f, "gc.get_threshold", "[]", "[700,10,10]");
    call(f, "gc.set_threshold", "[1000,15,15]", "null");
    call(f, "gc.get_threshold", "[]", "[1000,15,15]");
    call(f, "gc.get_count", "[]", "[2,0,0]");
    call(f, "gc.set_threshold", "[700,null,10]", "null");
    call(f, "gc.get_threshold", "[]", "[700,15,10]");
}

/* ---- collect ---- */

static void test_methods_collect_finds_cycles(void **state)
{
    struct rpc_fixture *f = *state;
    call(f, "create", "[{\"$let\":{\"a\":[1000,{\"$label\":\"a\"}]},\"in\":{\"$label\":\"a\"}},\"x\"]",
         "<object>");
    call(f, "name.unbind", "[\"x\"]", "{\"name\":\"x\",\"object\":<int>,\"refcount\":1}");
    call(f, "collect", "[]",
         "<ordered {\"generation\":2,\"unreachable\":1,\"uncollectable\":0,\"freed\":2,\"elapsed_us\":<int>}>");
    call(f, "collect", "[0]",
         "{\"generation\":0,\"unreachable\":0,\"uncollectable\":0,\"freed\":0,\"elapsed_us\":<int>}");
    call(f, "gc.get_count", "[]", "[0,1,0]");
    call(f, "gc.get_stats", "[]",
         "[{\"collections\":1,\"collected\":0,\"uncollectable\":0},{\"collections\":0,\"collected\":0,"
         "\"uncollectable\":0},"
         "{\"collections\":1,\"collected\":1,\"uncollectable\":0}]");
}

static void test_methods_collection_runs_by_itself(void **state)
{
    struct rpc_fixture *f = *state;
    call(f, "gc.set_threshold", "[10]", "null");
    for (int i = 0; i < 30; i++) {
        tell(f,
             "{\"method\":\"create\",\"params\":[{\"$let\":{\"a\":[{\"$label\":\"a\"}]},\"in\":{\"$label\":"
             "\"a\"}}]}",
             NULL);
    }
    call(f, "gc.get_stats", "[]",
         "[<has {\"collections\":2}>,<has {\"collections\":0}>,<has {\"collections\":0}>]");
    call(f, "gc.disable", "[]", "null");
    call(f, "gc.isenabled", "[]", "false");
    for (int i = 0; i < 30; i++) {
        tell(f,
             "{\"method\":\"create\",\"params\":[{\"$let\":{\"a\":[{\"$label\":\"a\"}]},\"in\":{\"$label\":"
             "\"a\"}}]}",
             NULL);
    }
    call(f, "gc.get_stats", "[]",
         "[<has {\"collections\":2}>,<has {\"collections\":0}>,<has {\"collections\":0}>]");
    call(f, "gc.enable", "[]", "null");
    call(f, "gc.isenabled", "[]", "true");
}

/* ---- get, type, names ---- */

static void test_methods_get_writes_depths(void **state)
{
    struct rpc_fixture *f = *state;
    call(f, "create", "[[1,[2,[3]],{\"$tuple\":[]}],\"a\"]",
         "{\"object\":<id:a>,\"type\":\"list\",\"refcount\":1}");
    call(f, "get", "[\"a\",0]", "{\"$ref\":<id:a>}");
    call(f, "get", "[\"a\"]", "[1,{\"$ref\":<int>},{\"$tuple\":[]}]");
    call(f, "get", "[\"a\",2]", "[1,[2,{\"$ref\":<int>}],{\"$tuple\":[]}]");
    call(f, "get", "[\"a\",-1]", "[1,[2,[3]],{\"$tuple\":[]}]");
    call(f, "create", "[{\"$let\":{\"s\":[]},\"in\":[{\"$label\":\"s\"},{\"$label\":\"s\"}]},\"b\"]",
         "<object>");
    say(f, "{\"id\":1,\"method\":\"get\",\"params\":{\"object\":\"b\",\"depth\":-1,\"shared\":\"let\"}}\n");
    assert_non_null(strstr(f->said, "\"$let\""));
}

static void test_methods_type_names(void **state)
{
    struct rpc_fixture *f = *state;
    static const char *const cases[][2] = {
        {"null", "NoneType"},
        {"true", "bool"},
        {"1", "int"},
        {"1.0", "float"},
        {"\"s\"", "str"},
        {"[]", "list"},
        {"{}", "dict"},
        {"{\"$bytes\":\"\"}", "bytes"},
        {"{\"$tuple\":[1]}", "tuple"},
        {"{\"$set\":[]}", "set"},
        {"{\"$frozenset\":[]}", "frozenset"},
        {"{\"$class\":\"Node\"}", "type"},
        {"{\"$weakref\":null}", "weakref"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char params[128], wanted[128];
        snprintf(params, sizeof(params), "[%s,\"x\"]", cases[i][0]);
        snprintf(wanted, sizeof(wanted), "<has {\"type\":\"%s\"}>", cases[i][1]);
        call(f, "create", params, wanted);
        snprintf(wanted, sizeof(wanted), "\"%s\"", cases[i][1]);
        call(f, "type", "[\"x\"]", wanted);
    }
    call(f, "create", "[{\"$class\":\"Node\"},\"Node\"]", "<object>");
    call(f, "create", "[{\"$instance\":\"Node\"},\"x\"]", "<has {\"type\":\"Node\"}>");
    call(f, "type", "[\"x\"]", "\"Node\"");
}

static void test_methods_names(void **state)
{
    struct rpc_fixture *f = *state;
    call(f, "create", "[[1]]", "{\"object\":<id:a>,\"type\":\"list\",\"refcount\":1}");
    call(f, "name.bind", "[\"n\",<id:a>]", "<ordered {\"name\":\"n\",\"object\":<id:a>,\"refcount\":2}>");
    call(f, "name.bind", "[\"n\",\"n\"]", "{\"name\":\"n\",\"object\":<id:a>,\"refcount\":2}");
    call(f, "name.bind", "[\"m\",\"n\"]", "{\"name\":\"m\",\"object\":<id:a>,\"refcount\":3}");
    call(f, "name.lookup", "[\"m\"]", "<ordered {\"name\":\"m\",\"object\":<id:a>,\"refcount\":3}>");
    call(f, "name.lookup", "[\"m\",true,1]", "{\"name\":\"m\",\"object\":<id:a>,\"refcount\":4,\"value\":[1]}");
    call(f, "unref", "[\"m\"]", "{\"object\":<id:a>,\"refcount\":3}");
    call(f, "unref", "[\"m\"]", "{\"object\":<id:a>,\"refcount\":2}");
    call(f, "name.unbind", "[\"n\"]", "{\"name\":\"n\",\"object\":<id:a>,\"refcount\":1}");
    call(f, "name.unbind", "[\"m\"]",
         "<ordered {\"name\":\"m\",\"object\":<id:a>,\"refcount\":0,\"freed\":1}>");
    fail_call(f, "name.unbind", "[\"m\"]", "name_error", "{\"name\":\"m\"}");
    fail_call(f, "name.lookup", "[\"m\"]", "name_error", "{\"name\":\"m\"}");
    fail_call(f, "name.bind", "[\"\",<id:a>]", "value_error", "{\"name\":\"\"}");
    fail_call(f, "name.bind", "[\"x\",<id:a>]", "not_found", "{\"object\":<id:a>}");
}

static void test_methods_name_list_pages(void **state)
{
    struct rpc_fixture *f = *state;
    static const char *const names[] = {"b", "a\xc3\xa9", "a", "ab", "a\\\"", "\xf0\x9f\x98\x80"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        char params[64];
        snprintf(params, sizeof(params), "[null,\"%s\"]", names[i]);
        call(f, "create", params, "<object>");
    }
    call(f, "name.list", "{\"limit\":2}",
         "{\"names\":[<has {\"name\":\"a\"}>,<has {\"name\":\"a\\\"\"}>],\"next\":\"a\\\"\"}");
    call(f, "name.list", "{\"limit\":2,\"after\":\"a\\\"\"}",
         "{\"names\":[<has {\"name\":\"ab\"}>,<has {\"name\":\"a\xc3\xa9\"}>],\"next\":\"a\xc3\xa9\"}");
    call(f, "name.list", "{\"after\":\"a\xc3\xa9\"}",
         "{\"names\":[<has {\"name\":\"b\"}>,<has {\"name\":\"\xf0\x9f\x98\x80\"}>],\"next\":null}");
    call(f, "name.list", "{\"prefix\":\"a\",\"limit\":4}", "<has {\"next\":null}>");
    call(f, "name.list", "{\"prefix\":\"zz\"}", "{\"names\":[],\"next\":null}");
}

/* ---- lists ---- */

static void test_methods_lists(void **state)
{
    struct rpc_fixture *f = *state;
    call(f, "create", "[[],\"l\"]", "{\"object\":<id:l>,\"type\":\"list\",\"refcount\":1}");
    call(f, "list.append", "[\"l\",{\"$ref\":\"l\"}]", "null");
    call(f, "get", "[\"l\"]", "[{\"$ref\":<id:l>}]");
    call(f, "list.clear", "[\"l\"]", "null");
    call(f, "list.extend", "[\"l\",[1,2]]", "null");
    call(f, "list.extend", "[\"l\",{\"$tuple\":[3]}]", "null");
    call(f, "list.extend", "[\"l\",{\"$ref\":\"l\"}]", "null");
    call(f, "get", "[\"l\"]", "[1,2,3,1,2,3]");
    call(f, "list.insert", "[\"l\",-100,0]", "null");
    call(f, "list.insert", "[\"l\",100,9]", "null");
    call(f, "list.insert", "[\"l\",-1,8]", "null");
    call(f, "get", "[\"l\"]", "[0,1,2,3,1,2,3,8,9]");
    call(f, "list.setitem", "[\"l\",-1,90]", "null");
    call(f, "list.delitem", "[\"l\",0]", "null");
    call(f, "list.getitem", "[\"l\",-1,false,0]", "{\"object\":<int>,\"value\":90}");
    call(f, "list.len", "[\"l\"]", "{\"len\":8}");
    call(f, "list.pop", "[\"l\"]", "{\"object\":<int>}");
    call(f, "list.pop", "{\"object\":\"l\",\"index\":0,\"hold\":false,\"depth\":0}",
         "{\"object\":<int>,\"value\":1}");
    call(f, "get", "[\"l\"]", "[2,3,1,2,3,8]");
    fail_call(f, "list.getitem", "[\"l\",6]", "index_error", "{\"object\":<id:l>,\"index\":6}");
    fail_call(f, "list.setitem", "[\"l\",-7,{\"$ref\":99}]", "index_error", "{\"index\":-7}");
    fail_call(f, "list.delitem", "[\"l\",-9223372036854775808]", "index_error", NULL);
    fail_call(f, "list.setitem", "[\"l\",0,{\"$ref\":99}]", "not_found", "{\"object\":99}");
    fail_call(f, "list.extend", "[\"l\",{}]", "type_error", NULL);
    fail_call(f, "list.extend", "[\"l\",\"text\"]", "type_error", NULL);
    call(f, "create", "[{\"$tuple\":[5,[6]]},\"t\"]", "{\"object\":<id:t>,\"type\":\"tuple\",\"refcount\":1}");
    call(f, "list.len", "[\"t\"]", "{\"len\":2}");
    call(f, "list.getitem", "[\"t\",1,true,1]", "{\"object\":<id:six>,\"value\":[6]}");
    fail_call(f, "list.append", "[\"t\",1]", "type_error", "{\"object\":<id:t>}");
    fail_call(f, "dict.len", "[\"l\"]", "type_error", "{\"object\":<id:l>}");
    call(f, "unref", "[<id:six>]", "{\"object\":<id:six>,\"refcount\":1}");
}

/* pop moves a reference from the list to the session, and what nobody takes dies. */
static void test_methods_pop_holds(void **state)
{
    struct rpc_fixture *f = *state;
    call(f, "create", "[[[1000],[2000,3000],4000],\"l\"]", "<object>");
    call(f, "list.pop", "[\"l\",0]", "{\"object\":<id:a>}");
    call(f, "sys.getrefcount", "[<id:a>]", "2");
    call(f, "list.pop", "{\"object\":\"l\",\"index\":0,\"hold\":false,\"depth\":1}",
         "<ordered {\"object\":<id:b>,\"value\":[2000,3000],\"freed\":3}>");
    fail_call(f, "get", "[<id:b>]", "not_found", NULL);
    tell(f, "{\"method\":\"list.pop\",\"params\":[\"l\"]}", NULL);
    fail_call(f, "list.pop", "[\"l\"]", "index_error", "{\"index\":-1}");
    call(f, "unref", "[<id:a>]", "{\"object\":<id:a>,\"refcount\":0,\"freed\":2}");
    call(f, "stats", "[\"objects\"]", "<has {\"live\":1}>");
}

/* ---- dicts ---- */

static void test_methods_dicts(void **state)
{
    struct rpc_fixture *f = *state;
    call(f, "create", "[{\"a\":1},\"d\"]", "{\"object\":<id:d>,\"type\":\"dict\",\"refcount\":1}");
    call(f, "dict.setitem", "[\"d\",\"b\",[2]]", "null");
    call(f, "dict.setitem", "[\"d\",1.0,\"one\"]", "null");
    call(f, "dict.setitem", "[\"d\",true,\"uno\"]", "null");
    call(f, "get", "[\"d\"]", "{\"$dict\":[[\"a\",1],[\"b\",{\"$ref\":<id:b>}],[1.0,\"uno\"]]}");
    call(f, "dict.getitem", "[\"d\",\"b\",false,1]", "{\"object\":<id:b>,\"value\":[2]}");
    call(f, "dict.getitem", "[\"d\",1,false,0]", "{\"object\":<int>,\"value\":\"uno\"}");
    fail_call(f, "dict.getitem", "[\"d\",\"zz\"]", "key_error", "{\"object\":<id:d>,\"key\":\"zz\"}");
    fail_call(f, "dict.getitem", "[\"d\",[]]", "value_error", "{\"object\":<id:d>,\"key\":[]}");
    fail_call(f, "dict.setitem", "[\"d\",[],{\"$ref\":99}]", "value_error", "{\"key\":[]}");
    fail_call(f, "dict.setitem", "[\"d\",{\"$ref\":98},{\"$ref\":99}]", "not_found", "{\"object\":98}");
    call(f, "dict.contains", "[\"d\",true]", "{\"contains\":true}");
    call(f, "dict.contains", "[\"d\",null]", "{\"contains\":false}");
    call(f, "dict.len", "[\"d\"]", "{\"len\":3}");
    call(f, "dict.delitem", "[\"d\",1]", "null");
    fail_call(f, "dict.delitem", "[\"d\",1]", "key_error", "{\"key\":1}");
    call(f, "dict.pop", "[\"d\",\"b\"]", "{\"object\":<id:b>}");
    call(f, "unref", "[<id:b>]", "{\"object\":<id:b>,\"refcount\":0,\"freed\":1}");
    call(f, "dict.update", "[\"d\",{\"a\":5,\"key\":[6000]}]", "null");
    fail_call(f, "dict.update", "[\"d\",[[1,2]]]", "type_error", NULL);
    /* The key's str and the list with its int die. */
    call(f, "dict.pop", "{\"object\":\"d\",\"key\":\"key\",\"hold\":false}", "{\"object\":<int>,\"freed\":3}");
    call(f, "get", "[\"d\"]", "{\"a\":5}");
    call(f, "dict.clear", "[\"d\"]", "null");
    call(f, "dict.len", "[\"d\"]", "{\"len\":0}");
}

static void test_methods_dict_setdefault(void **state)
{
    struct rpc_fixture *f = *state;
    call(f, "create", "[{},\"d\"]", "<object>");
    call(f, "dict.setdefault", "[\"d\",\"k\",[1],true,1]",
         "<ordered {\"object\":<id:v>,\"value\":[1],\"added\":true}>");
    call(f, "sys.getrefcount", "[<id:v>]", "3");
    call(f, "dict.setdefault", "[\"d\",\"k\",[1000,2000]]", "{\"object\":<id:v>,\"added\":false}");
    fail_call(f, "dict.setdefault", "[\"d\",\"k\",{\"$ref\":99}]", "not_found", NULL);
    fail_call(f, "dict.setdefault", "[\"d\",{},{\"$ref\":99}]", "value_error", NULL);
    call(f, "get", "[\"d\",-1]", "{\"k\":[1]}");
    call(f, "stats", "[\"objects\"]", "<has {\"live\":2}>");
}

static void test_methods_dict_keys_pages(void **state)
{
    struct rpc_fixture *f = *state;
    call(f, "create", "[{\"$dict\":[[\"x\",1],[2,2],[{\"$tuple\":[1]},3],[null,4],[2.5,5]]},\"d\"]",
         "<object>");
    say(f, "{\"id\":1,\"method\":\"dict.keys\",\"params\":{\"object\":\"d\",\"limit\":2}}\n");
    assert_memory_equal(f->said, "{\"id\":1,\"result\":{\"keys\":[\"x\",2],\"next\":", 39);
    long next = strtol(strstr(f->said, "next\":") + 6, NULL, 10);
    /* Entries that come and go between the pages: what is there all along is listed once. */
    call(f, "dict.delitem", "[\"d\",2]", "null");
    call(f, "dict.delitem", "[\"d\",null]", "null");
    call(f, "dict.setitem", "[\"d\",\"x\",9]", "null");
    call(f, "dict.setitem", "[\"d\",\"y\",9]", "null");
    char params[128];
    snprintf(params, sizeof(params), "{\"object\":\"d\",\"limit\":100,\"after\":%ld}", next);
    call(f, "dict.keys", params, "{\"keys\":[{\"$ref\":<int>},2.5,\"y\"],\"next\":null}");
}

static void test_methods_dict_incr(void **state)
{
    struct rpc_fixture *f = *state;
    call(f, "create", "[{\"s\":\"x\",\"t\":true,\"n\":1000,\"max\":9223372036854775807},\"d\"]",
         "{\"object\":<id:d>,\"type\":\"dict\",\"refcount\":1}");
    call(f, "dict.incr", "[\"d\",\"new\"]", "{\"value\":1}");
    call(f, "dict.incr", "[\"d\",\"new\",-3]", "{\"value\":-2}");
    call(f, "dict.incr", "[\"d\",\"n\",-999]", "{\"value\":1,\"freed\":1}");
    call(f, "dict.incr", "[\"d\",\"n\",999999]", "{\"value\":1000000}");
    call(f, "dict.incr", "[\"d\",\"n\",1]", "{\"value\":1000001,\"freed\":1}");
    fail_call(f, "dict.incr", "[\"d\",\"max\"]", "value_error", "{\"key\":\"max\"}");
    fail_call(f, "dict.incr", "[\"d\",\"s\"]", "type_error", "{\"key\":\"s\"}");
    fail_call(f, "dict.incr", "[\"d\",\"t\"]", "type_error", NULL);
    fail_call(f, "dict.incr", "[\"d\",[]]", "value_error", NULL);
    /* A number that somebody holds stays what it is. */
    call(f, "dict.getitem", "[\"d\",\"n\",true,0]", "{\"object\":<id:n>,\"value\":1000001}");
    call(f, "dict.incr", "[\"d\",\"n\"]", "{\"value\":1000002}");
    call(f, "get", "[<id:n>]", "1000001");
}

/* ---- sets and attributes ---- */

static void test_methods_sets(void **state)
{
    struct rpc_fixture *f = *state;
    call(f, "create", "[{\"$set\":[]},\"s\"]", "{\"object\":<id:s>,\"type\":\"set\",\"refcount\":1}");
    call(f, "set.add", "[\"s\",1000]", "{\"added\":true}");
    call(f, "set.add", "[\"s\",1000.0]", "{\"added\":false}");
    call(f, "set.add", "[\"s\",{\"$tuple\":[\"x\",1.5]}]", "{\"added\":true}");
    call(f, "set.contains", "[\"s\",{\"$tuple\":[\"x\",1.5]}]", "{\"contains\":true}");
    call(f, "set.contains", "[\"s\",\"x\"]", "{\"contains\":false}");
    call(f, "set.len", "[\"s\"]", "{\"len\":2}");
    call(f, "set.discard", "[\"s\",1000]", "{\"removed\":true,\"freed\":1}");
    call(f, "set.discard", "[\"s\",1000]", "{\"removed\":false}");
    fail_call(f, "set.add", "[\"s\",{}]", "value_error", "{\"object\":<id:s>}");
    call(f, "set.clear", "[\"s\"]", "null");
    call(f, "create", "[{\"$frozenset\":[1]},\"fs\"]", "<object>");
    call(f, "set.contains", "[\"fs\",true]", "{\"contains\":true}");
    call(f, "set.len", "[\"fs\"]", "{\"len\":1}");
    fail_call(f, "set.add", "[\"fs\",2]", "type_error", NULL);
    fail_call(f, "set.clear", "[\"fs\"]", "type_error", NULL);
}

static void test_methods_attributes(void **state)
{
    struct rpc_fixture *f = *state;
    call(f, "create", "[{\"$class\":\"Node\"},\"Node\"]", "<object>");
    call(f, "create", "[{\"$class\":\"Point\",\"slots\":[\"x\",\"y\"]},\"Point\"]", "<object>");
    call(f, "create", "[{\"$instance\":\"Node\",\"attrs\":{\"b\":1}},\"n\"]",
         "{\"object\":<id:n>,\"type\":\"Node\",\"refcount\":1}");
    call(f, "create", "[{\"$instance\":\"Point\"},\"p\"]", "<object>");
    call(f, "attr.set", "[\"n\",\"a\",[2000]]", "null");
    call(f, "attr.list", "[\"n\"]", "{\"attrs\":[\"b\",\"a\"]}");
    call(f, "attr.get", "[\"n\",\"a\",false,1]", "{\"object\":<int>,\"value\":[2000]}");
    fail_call(f, "attr.get", "[\"n\",\"c\"]", "attribute_error", "{\"object\":<id:n>,\"attr\":\"c\"}");
    call(f, "attr.del", "[\"n\",\"b\"]", "null");
    fail_call(f, "attr.del", "[\"n\",\"b\"]", "attribute_error", "{\"attr\":\"b\"}");
    fail_call(f, "attr.set", "[\"n\",\"1x\",0]", "value_error", "{\"attr\":\"1x\"}");
    call(f, "attr.set", "[\"p\",\"y\",1]", "null");
    call(f, "attr.set", "[\"p\",\"x\",2]", "null");
    call(f, "attr.list", "[\"p\"]", "{\"attrs\":[\"x\",\"y\"]}");
    fail_call(f, "attr.set", "[\"p\",\"z\",{\"$ref\":99}]", "attribute_error", "{\"attr\":\"z\"}");
    fail_call(f, "attr.set", "[\"p\",\"x\",{\"$ref\":99}]", "not_found", NULL);
    fail_call(f, "attr.get", "[\"Node\",\"x\"]", "type_error", NULL);
}

/* ---- notifications ---- */

static void test_methods_notifications_hold_nothing(void **state)
{
    struct rpc_fixture *f = *state;
    tell(f, "{\"method\":\"create\",\"params\":[[1000]]}", NULL);
    tell(f, "{\"method\":\"create\",\"params\":{\"value\":[1000],\"hold\":true}}", NULL);
    tell(f, "{\"method\":\"sys.intern\",\"params\":[\"text\"]}", NULL);
    call(f, "stats", "[\"objects\"]", "<has {\"live\":0}>");
    tell(f, "{\"method\":\"create\",\"params\":[[[1]],\"a\"]}", NULL);
    tell(f, "{\"method\":\"name.lookup\",\"params\":[\"a\",true]}", NULL);
    tell(f, "{\"method\":\"list.getitem\",\"params\":[\"a\",0,true]}", NULL);
    call(f, "stats", "[\"sessions\"]", "{\"count\":1,\"leased\":0,\"holds\":0}");
    tell(f, "{\"method\":\"ref\",\"params\":[\"a\"]}", NULL);
    call(f, "sys.getrefcount", "[\"a\"]", "3");
    tell(f, "{\"method\":\"unref\",\"params\":[\"a\"]}", NULL);
    tell(f, "{\"method\":\"unref\",\"params\":[\"a\"]}", NULL);
    call(f, "sys.getrefcount", "[\"a\"]", "2");
    tell(f, "{\"method\":\"list.pop\",\"params\":[\"a\"]}", NULL);
    call(f, "stats", "[\"objects\"]", "<has {\"live\":1}>");
}

/* ---- the memory manager and the daemon ---- */

static void test_methods_sys(void **state)
{
    struct rpc_fixture *f = *state;
    call(f, "create", "[[1,2],\"a\"]", "<object>");
    call(f, "create", "[[1,2,3,4,5,6,7,8,9],\"b\"]", "<object>");
    call(f, "sys.getsizeof", "[\"a\"]", "<min 16>");
    call(f, "sys.getsizeof", "[\"b\"]", "<min 52>");
    call(f, "sys.intern", "[\"hello\"]", "{\"object\":<id:h>}");
    call(f, "sys.intern", "[\"hello\",false]", "{\"object\":<id:h>}");
    call(f, "sys.getrefcount", "[<id:h>]", "2");
    call(f, "create", "[{\"hello\":1},\"d\"]", "<object>");
    call(f, "sys.getrefcount", "[<id:h>]", "3");
    call(f, "sys.getswitchinterval", "[]", "0.005");
    call(f, "sys.setswitchinterval", "[1e-6]", "null");
    call(f, "sys.getswitchinterval", "[]", "1e-06");
    call(f, "sys.setswitchinterval", "[10]", "null");
    call(f, "sys.getswitchinterval", "[]", "10.0");
    call(f, "gc.is_tracked", "[\"a\"]", "true");
    call(f, "gc.is_tracked", "[<id:h>]", "false");
    fail_call(f, "gc.is_tracked", "[\"nobody\"]", "name_error", NULL);
}

static void test_methods_session_close(void **state)
{
    struct rpc_fixture *f = *state;
    call(f, "create", "[[1000]]", "{\"object\":<id:a>,\"type\":\"list\",\"refcount\":1}");
    call(f, "ref", "[<id:a>]", "<object>");
    call(f, "create", "[7]", "<object>");
    call(f, "session.close", "[]", "<ordered {\"released\":3,\"freed\":2}>");
    call(f, "session.close", "[]", "{\"released\":0}");
    fail_call(f, "get", "[<id:a>]", "not_found", NULL);
    call(f, "create", "[[1]]", "<object>");
    call(f, "stats", "[\"sessions\"]", "{\"count\":1,\"leased\":0,\"holds\":1}");
}

/* Every section has its members, and the sums agree with each other. */
static void test_methods_stats(void **state)
{
    struct rpc_fixture *f = *state;
    call(f, "create", "[{\"$class\":\"Node\"},\"Node\"]", "<object>");
    call(f, "create", "[[{\"$instance\":\"Node\"},{\"$instance\":\"Node\"},\"text\",1000],\"a\"]", "<object>");
    call(f, "stats", "[\"objects\"]",
         "<ordered {\"live\":6,\"bytes\":<min 100>,\"immortal\":<min "
         "700>,\"created\":6,\"freed\":0,\"types\":<list>}>");
    call(f, "stats", "[\"objects\"]",
         "<has {\"types\":<unordered "
         "[{\"type\":\"int\",\"objects\":1,\"bytes\":<int>},{\"type\":\"str\",\"objects\":1,\"bytes\":<int>},"
         "{\"type\":\"list\",\"objects\":1,\"bytes\":<int>},{\"type\":\"type\",\"objects\":1,\"bytes\":<int>},"
         "{\"type\":\"Node\",\"objects\":2,\"bytes\":<int>}]>}>");
    call(f, "stats", "[\"layers\"]",
         "[{\"layer\":3,\"name\":\"object-specific\",\"bytes\":<min 1>,\"count\":6},"
         "{\"layer\":2,\"name\":\"pymalloc\",\"bytes\":<min 1>,\"count\":<min "
         "6>},{\"layer\":1,\"name\":\"raw\",\"bytes\":<int>,\"count\":<int>},"
         "{\"layer\":0,\"name\":\"malloc\",\"bytes\":<int>,\"count\":<int>},{\"layer\":-1,\"name\":\"virtual\","
         "\"bytes\":<min 1>,\"count\":<min 5>},"
         "{\"layer\":-2,\"name\":\"resident\",\"bytes\":<min 1>,\"count\":<min 1>}]");
    call(f, "stats", "[\"allocator\"]",
         "<has {\"arenas\":<min 1>,\"arenas_total\":<min 1>,\"arenas_reclaimed\":0,\"arenas_highwater\":<min "
         "1>,\"arena_bytes\":<min 1>,"
         "\"pools\":<min 1>,\"pools_free\":<int>,\"pool_bytes\":<min 1>,\"blocks\":<min "
         "6>,\"raw_blocks\":<int>,\"raw_bytes\":<int>,"
         "\"classes\":<list>}>");
    call(f, "stats", "[\"gc\"]",
         "{\"enabled\":true,\"collecting\":false,\"count\":[4,0,0],\"threshold\":[700,10,10],\"frozen\":0,"
         "\"generations\":["
         "{\"collections\":0,\"collected\":0,\"uncollectable\":0,\"objects\":4},"
         "{\"collections\":0,\"collected\":0,\"uncollectable\":0,\"objects\":0},"
         "{\"collections\":0,\"collected\":0,\"uncollectable\":0,\"objects\":0}],"
         "\"pauses\":{\"count\":<int>,\"max_us\":<int>,\"p99_us\":<int>}}");
    call(f, "stats", "[\"gil\"]",
         "{\"switch_interval_us\":5000,\"acquisitions\":<min "
         "2>,\"contended\":0,\"drop_requests\":0,\"forced_switches\":0,"
         "\"hold\":{\"count\":<min "
         "2>,\"max_us\":<int>,\"p99_us\":<int>},\"wait\":{\"count\":<int>,\"max_us\":<int>,\"p99_us\":<int>}}");
    call(f, "stats", "[\"names\"]", "{\"count\":2}");
    call(f, "stats", "[]",
         "<ordered "
         "{\"server\":<object>,\"objects\":<object>,\"layers\":<list>,\"allocator\":<object>,\"gc\":<object>,"
         "\"gil\":<object>,"
         "\"sessions\":<object>,\"names\":<object>,\"limits\":<object>}>");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        fixture_test(test_methods_create_holds_or_names),
        fixture_test(test_methods_create_makes_nothing_of_what_exists),
        fixture_test(test_methods_create_rebinds),
        fixture_test(test_methods_create_is_all_or_nothing),
        fixture_test(test_methods_refcounts_as_in_python),
        fixture_test(test_methods_collect_finds_cycles),
        fixture_test(test_methods_collection_runs_by_itself),
        fixture_test(test_methods_get_writes_depths),
        fixture_test(test_methods_type_names),
        fixture_test(test_methods_names),
        fixture_test(test_methods_name_list_pages),
        fixture_test(test_methods_lists),
        fixture_test(test_methods_pop_holds),
        fixture_test(test_methods_dicts),
        fixture_test(test_methods_dict_setdefault),
        fixture_test(test_methods_dict_keys_pages),
        fixture_test(test_methods_dict_incr),
        fixture_test(test_methods_sets),
        fixture_test(test_methods_attributes),
        fixture_test(test_methods_notifications_hold_nothing),
        fixture_test(test_methods_sys),
        fixture_test(test_methods_session_close),
        fixture_test(test_methods_stats),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
