/* test_numbers.c -- the numbers of the mission's document, over the wire and through heapctl.
 *
 *     >>> a = 'my-string'
 *     >>> sys.getrefcount(a)
 *     2
 *     >>> b = [a]
 *     >>> c = {'key': a}
 *     >>> sys.getrefcount(a)
 *     4
 *     >>> gc.get_threshold()
 *     (700, 10, 10)
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "../support/fixture.h"
#include "../support/process.h"

static void test_numbers_over_the_wire(void **state)
{
    struct wire *wire = ((struct fixture *)*state)->wire;
    wire_expect(wire, "{'id':1,'method':'create','params':{'value':'my-string','name':'a'}}",
                "{'id':1,'result':{'object':<id:a>,'type':'str','refcount':1}}");
    wire_expect(wire, "{'id':2,'method':'sys.getrefcount','params':['a']}", "{'id':2,'result':2}");
    wire_expect(wire, "{'id':3,'method':'create','params':{'value':[{'$ref':'a'}],'name':'b'}}",
                "{'id':3,'result':{'object':<id:b>,'type':'list','refcount':1}}");
    wire_expect(wire, "{'id':4,'method':'create','params':{'value':{'key':{'$ref':'a'}},'name':'c'}}",
                "{'id':4,'result':{'object':<id:c>,'type':'dict','refcount':1}}");
    wire_expect(wire, "{'id':5,'method':'sys.getrefcount','params':['a']}", "{'id':5,'result':4}");

    wire_expect(wire, "{'id':6,'method':'gc.get_threshold'}", "{'id':6,'result':[700,10,10]}");
    wire_expect(wire, "{'id':7,'method':'gc.set_threshold','params':[1000,15,15]}", "{'id':7,'result':null}");
    wire_expect(wire, "{'id':8,'method':'gc.get_threshold'}", "{'id':8,'result':[1000,15,15]}");
    /* b and c: two containers so far. */
    wire_expect(wire, "{'id':9,'method':'gc.get_count'}", "{'id':9,'result':[2,0,0]}");
    wire_expect(wire, "{'id':10,'method':'create','params':[[[],[],{'k':[]}],'d']}",
                "{'id':10,'result':{'object':<id:d>,'type':'list','refcount':1}}");
    wire_expect(wire, "{'id':11,'method':'gc.get_count'}", "{'id':11,'result':[7,0,0]}");

    /* del a, b, c: the string dies with its last reference. */
    wire_expect(wire, "{'id':12,'method':'name.unbind','params':['a']}",
                "{'id':12,'result':{'name':'a','object':<id:a>,'refcount':2}}");
    wire_expect(wire, "{'id':13,'method':'name.unbind','params':['b']}",
                "{'id':13,'result':{'name':'b','object':<id:b>,'refcount':0,'freed':1}}");
    /* dict, its key "key", and the string. */
    wire_expect(wire, "{'id':14,'method':'name.unbind','params':['c']}",
                "{'id':14,'result':{'name':'c','object':<id:c>,'refcount':0,'freed':3}}");
    wire_expect(wire, "{'id':15,'method':'get','params':[<id:a>]}",
                "{'id':15,'error':<error not_found {'object':<id:a>}>}");
}

/* 577 unreachable lists, as in the document's gc.collect(). */
static void test_numbers_of_a_collection(void **state)
{
    struct wire *wire = ((struct fixture *)*state)->wire;
    for (int i = 0; i < 577; i++) {
        wire_send_text(wire, "{\"method\":\"create\",\"params\":[{\"$let\":{\"x\":[{\"$label\":\"x\"}]},"
                             "\"in\":{\"$label\":\"x\"}}]}\n");
    }
    wire_expect(wire, "{'id':1,'method':'gc.get_count'}", "{'id':1,'result':[577,0,0]}");
    wire_expect(wire, "{'id':2,'method':'collect'}",
                "{'id':2,'result':{'generation':2,'unreachable':577,'uncollectable':0,'freed':577,'elapsed_"
                "us':<min 0>}}");
    wire_expect(wire, "{'id':3,'method':'gc.get_count'}", "{'id':3,'result':[0,0,0]}");
    wire_expect(wire, "{'id':4,'method':'collect'}",
                "{'id':4,'result':{'generation':2,'unreachable':0,'uncollectable':0,'freed':0,'elapsed_us':<"
                "min 0>}}");
}

/* Automatic collections of the youngest: 701 containers set one off, every eleventh takes the middle one. */
static void test_numbers_of_automatic_collections(void **state)
{
    struct wire *wire = ((struct fixture *)*state)->wire;
    size_t len;
    for (int i = 0; i < 701 * 11; i++) {
        wire_send_text(wire, "{\"id\":1,\"method\":\"create\",\"params\":[[]]}\n");
    }
    for (int i = 0; i < 701 * 11; i++) {
        assert_non_null(wire_line(wire, &len));
    }
    wire_expect(wire, "{'id':2,'method':'gc.get_count'}", "{'id':2,'result':[0,11,0]}");
    for (int i = 0; i < 701; i++) {
        wire_send_text(wire, "{\"id\":1,\"method\":\"create\",\"params\":[[]]}\n");
    }
    for (int i = 0; i < 701; i++) {
        assert_non_null(wire_line(wire, &len));
    }
    wire_expect(wire, "{'id':3,'method':'gc.get_count'}", "{'id':3,'result':[0,0,1]}");
    wire_expect(wire, "{'id':4,'method':'stats','params':['gc']}",
                "{'id':4,'result':<has {'generations':[<has {'collections':11}>,<has {'collections':1}>,<has "
                "{'collections':0}>]}>}");
}

/* ---- through heapctl ---- */

/* Runs heapctl with these words (ended by NULL), which must succeed, and print `expected` unless it is NULL.
 */
static void run_heapctl(void **state, const char *expected, const char *const words[])
{
    const struct daemon *daemon = ((struct fixture *)*state)->daemon;
    struct process_result result;
    char program[4200], url[256];
    const char *argv[16] = {program, "--url", url};
    process_program(program, sizeof program, "heapctl");
    snprintf(url, sizeof url, "tcp:%s:%d", daemon->host, daemon->port);
    for (size_t i = 0; words[i] != NULL && i < 12; i++) {
        argv[3 + i] = words[i];
    }
    process_run(&result, argv, NULL);
    if (result.exit_code != 0 || (expected != NULL && strcmp(result.out, expected) != 0)) {
        fail_msg("heapctl %s: exit code %d, stdout \"%s\", stderr \"%s\"", words[0], result.exit_code,
                 result.out, result.err);
    }
    process_result_free(&result);
}

#define HEAPCTL(expected, ...) run_heapctl(state, expected, (const char *[]){__VA_ARGS__, NULL})

static void test_numbers_through_heapctl(void **state)
{
    HEAPCTL(NULL, "create", "\"my-string\"", "--name", "a");
    HEAPCTL("2\n", "sys.getrefcount", "a");
    HEAPCTL(NULL, "create", "[{\"$ref\":\"a\"}]", "--name", "b");
    HEAPCTL(NULL, "create", "{\"key\":{\"$ref\":\"a\"}}", "--name", "c");
    HEAPCTL("4\n", "sys.getrefcount", "a");
    HEAPCTL("[700,10,10]\n", "--json", "gc.get_threshold");
    HEAPCTL(NULL, "gc.set_threshold", "1000", "15", "15");
    HEAPCTL("[1000,15,15]\n", "--json", "gc.get_threshold");
    HEAPCTL("[2,0,0]\n", "--json", "gc.get_count");
    HEAPCTL(NULL, "collect");
    HEAPCTL("[0,0,0]\n", "--json", "gc.get_count");
    HEAPCTL("true\n", "--json", "gc.isenabled");
    HEAPCTL(NULL, "gc.disable");
    HEAPCTL("false\n", "--json", "gc.isenabled");
    HEAPCTL(NULL, "gc.enable");
}

/* What one heapctl run creates without a name goes with it. */
static void test_numbers_of_holds_through_heapctl(void **state)
{
    struct wire *wire = ((struct fixture *)*state)->wire;
    HEAPCTL(NULL, "create", "[1000,2000]");
    while (wire_stat(wire, "sessions", "count") > 1) {
        usleep(1000);
    }
    assert_int_equal(wire_stat(wire, "objects", "live"), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        fixture_test(test_numbers_over_the_wire),
        fixture_test(test_numbers_of_a_collection),
        fixture_test(test_numbers_of_automatic_collections),
        fixture_test(test_numbers_through_heapctl),
        fixture_test(test_numbers_of_holds_through_heapctl),
    };
    return cmocka_run_group_tests_name("numbers", tests, NULL, NULL);
}
