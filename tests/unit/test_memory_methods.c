/* test_memory_methods.c -- section 6 at its limits: holds, the size of answers, many rows, other connections. */
#include "rpc_fixture.h"

/* A service with one limit changed. */
static struct rpc_fixture *limited(uint64_t max_holds, uint64_t max_output, uint64_t max_names)
{
    struct rpc_limits limits;
    rpc_limits_default(&limits);
    limits.max_holds = max_holds;
    limits.max_output = max_output;
    limits.max_names = max_names;
    return fixture_open(&limits);
}

/* A weakref that the session cannot hold is not made; the shared one stays as it was. */
static void test_memory_methods_weakref_that_cannot_be_held(void **state)
{
    (void)state;
    struct rpc_fixture *f = limited(1, 0, 0);
    call(f, "create", "[[],\"a\"]", "<object>");
    call(f, "create", "[[]]", "{\"object\":<id:held>,\"type\":\"list\",\"refcount\":1}");
    fail_call(f, "weakref.create", "[\"a\"]", "limit_exceeded", "{\"limit\":\"max-holds\",\"max\":1}");
    fail_call(f, "weakref.create", "[\"a\",true]", "limit_exceeded", "{\"limit\":\"max-holds\"}");
    call(f, "weakref.count", "[\"a\"]", "0");
    call(f, "create", "[{\"$weakref\":\"a\"},\"w\"]", "<object>");
    fail_call(f, "weakref.create", "[\"a\"]", "limit_exceeded", NULL);
    call(f, "sys.getrefcount", "[\"w\"]", "2");
    fail_call(f, "weakref.get", "[\"w\"]", "limit_exceeded", NULL);
    call(f, "weakref.get", "[\"w\",false]", "{\"object\":<id:a>}");
    call(f, "sys.getrefcount", "[\"a\"]", "2");
    fixture_close(f);
}

/* Answers that are too large change nothing. */
static void test_memory_methods_answers_too_large(void **state)
{
    (void)state;
    struct rpc_fixture *f = limited(0, 2048, 0);
    call(f, "gc.set_debug", "[[\"saveall\"]]", "null");
    call(f, "create", "[[],\"list\"]", "<object>");
    for (int i = 0; i < 600; i++) {
        call(f, "list.append", "[\"list\",[]]", "null");
    }
    call(f, "list.append", "[\"list\",{\"$ref\":\"list\"}]", "null");
    fail_call(f, "gc.get_objects", "[]", "limit_exceeded", "{\"limit\":\"max-output\",\"max\":2048}");
    fail_call(f, "gc.get_referents", "[\"list\"]", "limit_exceeded", NULL);
    call(f, "gc.get_referents", "[\"list\",1]", "{\"objects\":[<int>],\"more\":true}");
    call(f, "gc.get_objects", "[null,1]", "{\"objects\":[<int>],\"next\":<int>}");
    call(f, "name.unbind", "[\"list\"]", "<object>");
    call(f, "collect", "[]", "<has {\"unreachable\":601,\"freed\":0}>");
    fail_call(f, "gc.garbage", "[true]", "limit_exceeded", NULL);
    call(f, "stats", "[\"objects\"]", "<has {\"live\":601}>");
    call(f, "gc.set_debug", "[[]]", "null");
    tell(f, "{\"method\":\"gc.garbage\",\"params\":[true]}", NULL);
    call(f, "collect", "[]", "<has {\"unreachable\":601,\"freed\":601}>");
    fixture_close(f);
}

/* A finalizer whose name is one too many lets the object die, and says so. */
static void test_memory_methods_resurrection_beyond_the_limit_of_names(void **state)
{
    (void)state;
    struct rpc_fixture *f = limited(0, 0, 1);
    call(f, "create", "[[],\"a\"]", "<object>");
    call(f, "create", "[[]]", "{\"object\":<id:b>,\"type\":\"list\",\"refcount\":1}");
    call(f, "finalizer.set", "{\"object\":<id:b>,\"resurrect_as\":\"b\"}", "null");
    say(f, "{\"id\":1,\"method\":\"unref\",\"params\":[2]}\n");
    assert_non_null(strstr(f->said, "\"object\":2,\"token\":null,\"resurrected\":false"));
    assert_non_null(strstr(f->said, "{\"id\":1,\"result\":{\"object\":2,\"refcount\":0,\"freed\":1}"));
    fail_call(f, "gc.is_finalized", "[<id:b>]", "not_found", NULL);
    fail_call(f, "name.lookup", "[\"b\"]", "name_error", NULL);
    fixture_close(f);
}

/* Pages of gc.get_objects have everything once, while objects come, go and age between them. */
static void test_memory_methods_pages_of_objects(void **state)
{
    struct rpc_fixture *f = *state;
    call(f, "create", "[[],\"list\"]", "<object>");
    for (int i = 0; i < 300; i++) {
        call(f, "list.append", "[\"list\",[]]", "null");
    }
    long long after = 0, rows = 0;
    char seen[4096] = {0};
    for (bool more = true; more;) {
        char line[128];
        snprintf(line, sizeof line, "{\"id\":1,\"method\":\"gc.get_objects\",\"params\":[null,7,%lld]}\n", after);
        say(f, line);
        const char *p = strchr(f->said, '[') + 1, *next = strstr(f->said, "\"next\":") + 7;
        for (long long id; sscanf(p, "%lld", &id) == 1; p += *p == ',') {
            uint32_t slot = (uint32_t)id;
            assert_true(slot < sizeof seen);
            assert_int_equal(seen[slot], 0);
            seen[slot] = 1;
            rows++;
            p += strcspn(p, ",]");
            if (*p == ']') {
                break;
            }
        }
        more = sscanf(next, "%lld", &after) == 1;
        call(f, "create", "[[]]", "<object>"); /* held, so that it stays */
        call(f, "collect", "[0]", "<object>");
    }
    assert_true(rows >= 301);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_memory_methods_weakref_that_cannot_be_held),
        cmocka_unit_test(test_memory_methods_answers_too_large),
        cmocka_unit_test(test_memory_methods_resurrection_beyond_the_limit_of_names),
        cmocka_unit_test_setup_teardown(test_memory_methods_pages_of_objects, fixture_setup, fixture_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
