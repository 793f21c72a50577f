/* test_conformance_gc.c -- the scenarios of CPython's test_gc.py, with the numbers that CPython gives.
 *
 * tests/conformance.md says which test of CPython's is which case here, and which cannot be told to a heap
 * whose finalizers run no code.  Callbacks are events: test_conformance.c has those.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../support/fixture.h"
#include "../support/process.h"
#include "../support/pygc.h"

static struct pygc gc_begin(void **state)
{
    struct pygc gc;
    pygc_begin(&gc, ((struct fixture *)*state)->wire);
    pygc_do(&gc, "gc.disable", NULL);
    return gc;
}

/* An instance that refers to itself, held once. */
static int64_t self_cycle(struct pygc *gc)
{
    int64_t instance = pygc_instance(gc);
    pygc_set(gc, instance, "me", instance);
    return instance;
}

static void make_lists(struct pygc *gc, int n)
{
    for (int i = 0; i < n; i++) {
        pygc_create(gc, "[]");
    }
}

/* ---- what a collection finds ---- */

static void test_conformance_gc_list(void **state)
{
    struct pygc gc = gc_begin(state);
    int64_t list = pygc_create(&gc, "[]");
    pygc_append(&gc, list, list);
    assert_int_equal(pygc_drop(&gc, list), 0);
    assert_int_equal(pygc_collect(&gc, 2), 1);
    assert_int_equal(pygc_collect(&gc, 2), 0);
    pygc_end(&gc);
}

static void test_conformance_gc_dict(void **state)
{
    struct pygc gc = gc_begin(state);
    int64_t dict = pygc_create(&gc, "{}");
    pygc_do(&gc, "dict.setitem", "[I,i,{s:I}]", (json_int_t)dict, 1, "$ref", (json_int_t)dict);
    pygc_drop(&gc, dict);
    assert_int_equal(pygc_collect(&gc, 2), 1);
    pygc_end(&gc);
}

static void test_conformance_gc_tuple(void **state)
{
    struct pygc gc = gc_begin(state);
    int64_t list = pygc_create(&gc, "[]"),
            tuple = pygc_create(&gc, "{'$tuple':[{'$ref':%lld}]}", (long long)list);
    pygc_append(&gc, list, tuple);
    pygc_drop(&gc, tuple);
    pygc_drop(&gc, list);
    assert_int_equal(pygc_collect(&gc, 2), 2);
    pygc_end(&gc);
}

/* Attributes live in the object: 1, as from CPython 3.11 on. */
static void test_conformance_gc_instance(void **state)
{
    struct pygc gc = gc_begin(state);
    pygc_drop(&gc, self_cycle(&gc));
    assert_int_equal(pygc_collect(&gc, 2), 1);
    pygc_do(&gc, "create", "{s:{s:s,s:[s]},s:s}", "value", "$class", "Slotted", "slots", "me", "name",
            "Slotted");
    int64_t slotted = pygc_create(&gc, "{'$instance':'Slotted'}");
    pygc_set(&gc, slotted, "me", slotted);
    pygc_drop(&gc, slotted);
    assert_int_equal(pygc_collect(&gc, 2), 1);
    pygc_end(&gc);
}

/* A class has no edges, so it is never part of a cycle; one that only garbage refers to is garbage, too. */
static void test_conformance_gc_newinstance(void **state)
{
    struct pygc gc = gc_begin(state);
    int64_t class = pygc_create(&gc, "{'$class':'A'}"),
            instance = pygc_create(&gc, "{'$instance':%lld}", (long long)class);
    pygc_set(&gc, instance, "a", instance);
    pygc_drop(&gc, class);
    assert_true(pygc_lives(&gc, class));
    assert_int_equal(pygc_refcount(&gc, class), 1);
    pygc_drop(&gc, instance);
    assert_int_equal(pygc_collect(&gc, 2), 2);
    assert_false(pygc_lives(&gc, class));
    assert_int_equal(pygc_collect(&gc, 2), 0);
    pygc_end(&gc);
}

/* A bound method is an object that refers to its instance: a tuple does the same. */
static void test_conformance_gc_method(void **state)
{
    struct pygc gc = gc_begin(state);
    int64_t instance = pygc_instance(&gc),
            method = pygc_create(&gc, "{'$tuple':[{'$ref':%lld},'__init__']}", (long long)instance);
    pygc_set(&gc, instance, "init", method);
    pygc_drop(&gc, method);
    pygc_drop(&gc, instance);
    assert_int_equal(pygc_collect(&gc, 2), 2);
    pygc_end(&gc);
}

/* A function is an object that refers to its globals: an instance with that attribute. */
static void test_conformance_gc_function(void **state)
{
    struct pygc gc = gc_begin(state);
    int64_t globals = pygc_create(&gc, "{}"), function = pygc_instance(&gc);
    pygc_set(&gc, function, "globals", globals);
    pygc_do(&gc, "dict.setitem", "[I,s,{s:I}]", (json_int_t)globals, "f", "$ref", (json_int_t)function);
    pygc_drop(&gc, function);
    pygc_drop(&gc, globals);
    assert_int_equal(pygc_collect(&gc, 2), 2);
    pygc_end(&gc);
}

/* Two instances in a cycle whose attributes a Python class would break when they are looked up. */
static void test_conformance_gc_boom(void **state)
{
    struct pygc gc = gc_begin(state);
    int64_t a = pygc_instance(&gc), b = pygc_instance(&gc);
    pygc_set(&gc, a, "attr", b);
    pygc_set(&gc, b, "attr", a);
    pygc_collect(&gc, 2);
    pygc_drop(&gc, a);
    pygc_drop(&gc, b);
    assert_int_equal(pygc_collect(&gc, 2), 2);
    pygc_demand_ids(pygc_call(&gc, "gc.garbage", NULL), "objects", (int64_t)-1);
    pygc_end(&gc);
}

static void test_conformance_gc_saveall(void **state)
{
    struct pygc gc = gc_begin(state);
    int64_t list = pygc_create(&gc, "[]");
    pygc_append(&gc, list, list);
    pygc_do(&gc, "gc.set_debug", "[[s]]", "saveall");
    pygc_drop(&gc, list);
    assert_int_equal(pygc_collect(&gc, 2), 1);
    pygc_do(&gc, "gc.set_debug", "[[]]");
    pygc_demand_ids(pygc_call(&gc, "gc.garbage", NULL), "objects", list, (int64_t)-1);
    /* One reference of the list to itself, one of gc.garbage. */
    assert_int_equal(pygc_refcount(&gc, list), 2);
    assert_int_equal(pygc_collect(&gc, 2), 0);
    pygc_demand_ids(pygc_call(&gc, "gc.garbage", "[b]", 1), "objects", list, (int64_t)-1);
    pygc_demand_ids(pygc_call(&gc, "gc.garbage", NULL), "objects", (int64_t)-1);
    assert_int_equal(pygc_collect(&gc, 2), 1);
    assert_false(pygc_lives(&gc, list));
    pygc_end(&gc);
}

/* ---- counts, statistics, generations ---- */

static void test_conformance_gc_get_count(void **state)
{
    struct pygc gc = gc_begin(state);
    int64_t count[3];
    pygc_collect(&gc, 2);
    pygc_count(&gc, count);
    assert_true(count[0] < 5 && count[1] == 0 && count[2] == 0);
    int64_t before = count[0];
    pygc_create(&gc, "[]");
    pygc_count(&gc, count);
    assert_true(count[0] > before && count[1] == 0 && count[2] == 0);
    pygc_end(&gc);
}

static void test_conformance_gc_collect_generations(void **state)
{
    struct pygc gc = gc_begin(state);
    int64_t count[3];
    pygc_collect(&gc, 2);
    pygc_create(&gc, "[]");
    pygc_collect(&gc, 0);
    pygc_count(&gc, count);
    assert_true(count[1] == 1 && count[2] == 0);
    pygc_collect(&gc, 1);
    pygc_count(&gc, count);
    assert_true(count[1] == 0 && count[2] == 1);
    pygc_collect(&gc, 2);
    pygc_count(&gc, count);
    assert_true(count[1] == 0 && count[2] == 0);
    pygc_end(&gc);
}

static void test_conformance_gc_get_stats(void **state)
{
    struct pygc gc = gc_begin(state);
    int64_t before[3][3], after[3][3];
    for (int collected = 0; collected < 3; collected += 2) {
        for (int i = 0; i < 3; i++) {
            pygc_stats(&gc, i, before[i]);
            assert_true(before[i][2] == 0);
        }
        pygc_collect(&gc, collected);
        for (int i = 0; i < 3; i++) {
            pygc_stats(&gc, i, after[i]);
            assert_int_equal(after[i][0], before[i][0] + (i == collected));
        }
    }
    pygc_end(&gc);
}

static void test_conformance_gc_freeze(void **state)
{
    struct pygc gc = gc_begin(state);
    pygc_create(&gc, "[[],[]]");
    pygc_do(&gc, "gc.freeze", NULL);
    assert_int_equal(pygc_int(&gc, NULL, "gc.get_freeze_count", NULL), 3);
    pygc_do(&gc, "gc.unfreeze", NULL);
    assert_int_equal(pygc_int(&gc, NULL, "gc.get_freeze_count", NULL), 0);
    pygc_end(&gc);
}

/* Garbage that is frozen stays until it is unfrozen, and then is in generation 2: 0, 0, 1. */
static void test_conformance_gc_frozen_garbage(void **state)
{
    struct pygc gc = gc_begin(state);
    pygc_drop(&gc, self_cycle(&gc));
    pygc_do(&gc, "gc.freeze", NULL);
    assert_int_equal(pygc_collect(&gc, 2), 0);
    pygc_do(&gc, "gc.unfreeze", NULL);
    assert_int_equal(pygc_collect(&gc, 0), 0);
    assert_int_equal(pygc_collect(&gc, 2), 1);
    pygc_end(&gc);
}

/* A frozen list that collected cycles refer to: what they took away was counted right. */
static void test_conformance_gc_traverse_frozen_objects(void **state)
{
    struct pygc gc = gc_begin(state);
    int64_t list = pygc_create(&gc, "[]");
    pygc_do(&gc, "gc.freeze", NULL);
    for (int i = 0; i < 10; i++) {
        int64_t cycle = self_cycle(&gc);
        pygc_set(&gc, cycle, "frozen", list);
        pygc_drop(&gc, cycle);
    }
    assert_int_equal(pygc_refcount(&gc, list), 11);
    assert_int_equal(pygc_collect(&gc, 2), 10);
    assert_int_equal(pygc_refcount(&gc, list), 1);
    pygc_do(&gc, "gc.unfreeze", NULL);
    pygc_end(&gc);
}

static void test_conformance_gc_get_objects(void **state)
{
    struct pygc gc = gc_begin(state);
    pygc_collect(&gc, 2);
    int64_t list = pygc_create(&gc, "[]");
    assert_int_equal(pygc_generation(&gc, list), 0);
    for (int generation = 0; generation < 3; generation++) {
        pygc_collect(&gc, generation);
        assert_int_equal(pygc_generation(&gc, list), generation == 2 ? 2 : generation + 1);
    }
    pygc_demand_ids(pygc_call(&gc, "gc.get_objects", NULL), "objects", list, (int64_t)-1);
    pygc_do(&gc, "gc.freeze", NULL);
    assert_int_equal(pygc_generation(&gc, list), -1);
    pygc_demand_ids(pygc_call(&gc, "gc.get_objects", NULL), "objects", (int64_t)-1);
    pygc_do(&gc, "gc.unfreeze", NULL);
    assert_int_equal(pygc_generation(&gc, list), 2);
    pygc_end(&gc);
}

static void test_conformance_gc_get_objects_arguments(void **state)
{
    struct pygc gc = gc_begin(state);
    json_decref(pygc_call(&gc, "gc.get_objects", "{s:n}", "generation"));
    pygc_refuse(&gc, "invalid_params", "gc.get_objects", "[i]", 3);
    pygc_refuse(&gc, "invalid_params", "gc.get_objects", "[i]", 1000);
    pygc_refuse(&gc, "invalid_params", "gc.get_objects", "[i]", -1000);
    pygc_refuse(&gc, "invalid_params", "gc.get_objects", "[s]", "1");
    pygc_refuse(&gc, "invalid_params", "gc.get_objects", "[f]", 1.234);
    pygc_end(&gc);
}

/* How many objects are tracked, by the statistics. */
static int64_t tracked_objects(struct pygc *gc)
{
    json_int_t n[3];
    json_t *j_stats = pygc_call(gc, "stats", "[s]", "gc");
    assert_int_equal(json_unpack(j_stats, "{s:[{s:I},{s:I},{s:I}]}", "generations", "objects", &n[0], "objects",
                                 &n[1], "objects", &n[2]),
                     0);
    json_decref(j_stats);
    return n[0] + n[1] + n[2];
}

static void test_conformance_gc_heap_size(void **state)
{
    struct pygc gc = gc_begin(state);
    int64_t before = tracked_objects(&gc), list = pygc_create(&gc, "[]");
    assert_int_equal(tracked_objects(&gc), before + 1);
    pygc_drop(&gc, list);
    assert_int_equal(tracked_objects(&gc), before);
    pygc_end(&gc);
}

/* ---- neighbours and flags of one object ---- */

static void test_conformance_gc_get_referents(void **state)
{
    struct pygc gc = gc_begin(state);
    int64_t n[8];
    for (int i = 0; i < 8; i++) {
        n[i] = pygc_create(&gc, "%d", i);
    }
    int64_t list = pygc_create(&gc, "[1,3,5]"), tuple = pygc_create(&gc, "{'$tuple':[1,3,5]}"),
            dict = pygc_create(&gc, "{'$dict':[[1,3],[5,7]]}"), twice = pygc_create(&gc, "[0,0]");
    pygc_demand_ids(pygc_call(&gc, "gc.get_referents", "[I]", (json_int_t)list), "objects", n[1], n[3], n[5],
                    (int64_t)-1);
    pygc_demand_ids(pygc_call(&gc, "gc.get_referents", "[I]", (json_int_t)tuple), "objects", n[1], n[3], n[5],
                    (int64_t)-1);
    pygc_demand_ids(pygc_call(&gc, "gc.get_referents", "[I]", (json_int_t)dict), "objects", n[1], n[3], n[5],
                    n[7], (int64_t)-1);
    pygc_demand_ids(pygc_call(&gc, "gc.get_referents", "[I]", (json_int_t)twice), "objects", n[0], n[0],
                    (int64_t)-1);
    int64_t atoms[] = {pygc_create(&gc, "1000"), pygc_create(&gc, "'a str'"), pygc_create(&gc, "1.5"),
                       pygc_create(&gc, "null"), pygc_create(&gc, "{'$tuple':[]}")};
    for (size_t i = 0; i < sizeof atoms / sizeof *atoms; i++) {
        pygc_demand_ids(pygc_call(&gc, "gc.get_referents", "[I]", (json_int_t)atoms[i]), "objects",
                        (int64_t)-1);
    }
    pygc_end(&gc);
}

static void test_conformance_gc_is_tracked(void **state)
{
    struct pygc gc = gc_begin(state);
    static const char *const untracked[] = {"null",
                                            "1",
                                            "1.0",
                                            "true",
                                            "'a'",
                                            "{'$bytes':'YQ=='}",
                                            "'some text'",
                                            "{'$tuple':[]}",
                                            "{'$tuple':[1000,'a']}"};
    static const char *const tracked[] = {"{'$class':'UserClass'}",
                                          "[]",
                                          "[1]",
                                          "{}",
                                          "{'a':1}",
                                          "{'$set':[]}",
                                          "{'$frozenset':[1]}",
                                          "{'$tuple':[[]]}",
                                          "{'$weakref':null}"};
    for (size_t i = 0; i < sizeof untracked / sizeof *untracked; i++) {
        assert_false(pygc_bool(&gc, "gc.is_tracked", pygc_create(&gc, "%s", untracked[i])));
    }
    for (size_t i = 0; i < sizeof tracked / sizeof *tracked; i++) {
        assert_true(pygc_bool(&gc, "gc.is_tracked", pygc_create(&gc, "%s", tracked[i])));
    }
    assert_true(pygc_bool(&gc, "gc.is_tracked", pygc_instance(&gc)));
    int64_t slots = pygc_create(&gc, "{'$class':'UserIntSlots','slots':[]}");
    assert_true(pygc_bool(&gc, "gc.is_tracked", pygc_create(&gc, "{'$instance':%lld}", (long long)slots)));
    pygc_end(&gc);
}

static void test_conformance_gc_is_finalized(void **state)
{
    struct pygc gc = gc_begin(state);
    assert_false(pygc_bool(&gc, "gc.is_finalized", pygc_create(&gc, "3")));
    int64_t lazarus = pygc_instance(&gc);
    pygc_finalizer(&gc, lazarus, false, "storage");
    assert_false(pygc_bool(&gc, "gc.is_finalized", lazarus));
    pygc_drop(&gc, lazarus);
    assert_true(pygc_lives(&gc, lazarus));
    assert_true(pygc_bool(&gc, "gc.is_finalized", lazarus));
    pygc_end(&gc);
}

/* ---- weakrefs to garbage ---- */

/* Two objects, each on a cycle of its own and watched from outside: when the first watcher is told, both
 * weakrefs are dead already. */
static void test_conformance_gc_bug1055820b(void **state)
{
    struct pygc gc = gc_begin(state);
    int64_t weak[2], cycle[2];
    for (int i = 0; i < 2; i++) {
        cycle[i] = self_cycle(&gc);
        weak[i] = pygc_notifying_weakref(&gc, cycle[i]);
    }
    pygc_drop(&gc, cycle[0]);
    pygc_drop(&gc, cycle[1]);
    assert_int_equal(pygc_notified(&gc, 0), 0);
    assert_int_equal(pygc_deref(&gc, weak[0]), cycle[0]);
    assert_int_equal(pygc_collect(&gc, 2), 2);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(pygc_notified(&gc, weak[i]), 1);
        assert_int_equal(pygc_deref(&gc, weak[i]), 0);
    }
    pygc_end(&gc);
}

/* A watcher that is part of the garbage is not told. */
static void test_conformance_gc_weakref_in_garbage(void **state)
{
    struct pygc gc = gc_begin(state);
    int64_t cycle = self_cycle(&gc), inside = pygc_notifying_weakref(&gc, cycle),
            outside = pygc_notifying_weakref(&gc, cycle);
    pygc_set(&gc, cycle, "weak", inside);
    pygc_drop(&gc, inside);
    pygc_drop(&gc, cycle);
    assert_int_equal(pygc_collect(&gc, 2), 2);
    assert_int_equal(pygc_notified(&gc, inside), 0);
    assert_int_equal(pygc_notified(&gc, outside), 1);
    pygc_end(&gc);
}

/* A watcher in the garbage is dead, also when a finalizer brings it back and its target was never garbage. */
static void test_conformance_gc_weakref_in_garbage_is_cleared(void **state)
{
    struct pygc gc = gc_begin(state);
    for (int generation = 0; generation < 3; generation += 2) {
        const char *name = generation == 0 ? "young" : "old";
        int64_t target = pygc_instance(&gc), cycle = self_cycle(&gc),
                weak = pygc_notifying_weakref(&gc, target);
        pygc_set(&gc, cycle, "weak", weak);
        pygc_finalizer(&gc, cycle, false, name);
        pygc_drop(&gc, weak);
        pygc_drop(&gc, cycle);
        assert_int_equal(pygc_collect(&gc, generation), 0);
        assert_true(pygc_lives(&gc, weak));
        assert_int_equal(pygc_deref(&gc, weak), 0);
        assert_int_equal(pygc_int(&gc, NULL, "weakref.count", "[I]", (json_int_t)target), 0);
        pygc_drop(&gc, target);
        assert_int_equal(pygc_notified(&gc, 0), 0);
    }
    pygc_end(&gc);
}

/* c1 and c2 are young cycles, c0 is old and kept by c1 alone, so it dies by refcount while c1 is cleared: what
 * is told of c0 then must not reach c2.  Whether a weakref or a finalizer tells it is all that differs. */
static void bug1055820(void **state, bool finalizer, bool automatic)
{
    struct pygc gc = gc_begin(state);
    int64_t c0 = self_cycle(&gc);
    pygc_collect(&gc, 2);
    int64_t c1 = self_cycle(&gc);
    pygc_set(&gc, c1, "keep_c0_alive", c0);
    pygc_do(&gc, "attr.del", "[I,s]", (json_int_t)c0, "me");
    int64_t c2 = self_cycle(&gc), c2_weak = pygc_weakref(&gc, c2);
    int64_t c0_weak = finalizer ? 0 : pygc_notifying_weakref(&gc, c0);
    if (finalizer) {
        pygc_finalizer(&gc, c0, false, NULL);
    }
    pygc_drop(&gc, c0);
    pygc_drop(&gc, c1);
    pygc_drop(&gc, c2);
    if (automatic) {
        pygc_do(&gc, "gc.set_threshold", "[i]", 50);
        pygc_do(&gc, "gc.enable", NULL);
        make_lists(&gc, 60);
    } else {
        assert_int_equal(pygc_collect(&gc, 0), 2);
    }
    assert_int_equal(finalizer ? pygc_finalized(&gc, c0) : pygc_notified(&gc, c0_weak), 1);
    assert_int_equal(pygc_deref(&gc, c2_weak), 0);
    assert_false(pygc_lives(&gc, c0));
    assert_false(pygc_lives(&gc, c1));
    pygc_end(&gc);
}

static void test_conformance_gc_bug1055820c(void **state)
{
    bug1055820(state, false, false);
}

static void test_conformance_gc_bug1055820c_automatic(void **state)
{
    bug1055820(state, false, true);
}

static void test_conformance_gc_bug1055820d(void **state)
{
    bug1055820(state, true, false);
}

static void test_conformance_gc_bug1055820d_automatic(void **state)
{
    bug1055820(state, true, true);
}

/* ---- finalizers ---- */

/* Every container that is made starts a collection, also those made while finalizers are about to run. */
static void test_conformance_gc_del(void **state)
{
    struct pygc gc = gc_begin(state);
    pygc_do(&gc, "gc.set_threshold", "[i]", 1);
    pygc_do(&gc, "gc.enable", NULL);
    for (int i = 0; i < 50; i++) {
        int64_t object = i % 2 == 0 ? pygc_instance(&gc) : self_cycle(&gc);
        pygc_finalizer(&gc, object, i % 3 == 0, NULL);
        pygc_drop(&gc, object);
    }
    pygc_collect(&gc, 2);
    assert_int_equal(pygc_finalized(&gc, 0), 50);
    pygc_end(&gc);
}

/* One on a cycle where a finalizer drops what its object refers to. */
static void test_conformance_gc_bug21435(void **state)
{
    struct pygc gc = gc_begin(state);
    int64_t a = pygc_instance(&gc), b = pygc_instance(&gc), list = pygc_create(&gc, "[]");
    pygc_set(&gc, a, "x", b);
    pygc_set(&gc, b, "x", a);
    pygc_set(&gc, a, "y", list);
    pygc_append(&gc, list, a);
    pygc_finalizer(&gc, a, true, NULL);
    pygc_drop(&gc, list);
    pygc_drop(&gc, a);
    pygc_drop(&gc, b);
    /* With its references gone nothing is left of the cycles: all died by refcount, as in CPython. */
    assert_int_equal(pygc_collect(&gc, 2), 0);
    assert_int_equal(pygc_finalized(&gc, a), 1);
    assert_false(pygc_lives(&gc, a) || pygc_lives(&gc, b) || pygc_lives(&gc, list));
    pygc_end(&gc);
}

/* 150 deep, an object with a finalizer at each level, in lists, tuples and dicts; then twice as many. */
static void test_conformance_gc_trashcan(void **state)
{
    static const char *const levels[] = {"[{'$ref':%lld},{'$ref':%lld}]",
                                         "{'$tuple':[{'$ref':%lld},{'$ref':%lld}]}",
                                         "{'$dict':[[1,{'$ref':%lld}],[2,{'$ref':%lld}]]}"};
    struct pygc gc = gc_begin(state);
    for (int round = 0; round < 6; round++) {
        int64_t top = pygc_create(&gc, "[]");
        pygc_forget_events(&gc);
        for (int i = 0; i < 150; i++) {
            int64_t ouch = pygc_instance(&gc);
            pygc_finalizer(&gc, ouch, false, NULL);
            int64_t next = pygc_create(&gc, levels[round % 3], (long long)top, (long long)ouch);
            pygc_drop(&gc, ouch);
            pygc_drop(&gc, top);
            top = next;
            if (i % 17 == 0) {
                assert_int_equal(pygc_collect(&gc, 2), 0);
            }
        }
        assert_int_equal(pygc_drop(&gc, top), 301);
        assert_int_equal(pygc_finalized(&gc, 0), 150);
    }
    pygc_end(&gc);
}

/* Two sessions make and drop 60-fold nested containers in turns; as many finalizers run as were set. */
static void test_conformance_gc_trashcan_threads(void **state)
{
    const struct fixture *fixture = *state;
    struct pygc gc[2];
    int set[2] = {0, 0};
    pygc_begin(&gc[0], fixture->wire);
    struct wire *other = wire_open(fixture->daemon);
    pygc_begin(&gc[1], other);
    for (int round = 0; round < 5; round++) {
        int64_t top[2] = {pygc_create(&gc[0], "[]"), pygc_create(&gc[1], "[]")};
        for (int i = 0; i < 60; i++) {
            for (int s = 0; s < 2; s++) {
                int64_t ouch = pygc_instance(&gc[s]);
                pygc_finalizer(&gc[s], ouch, false, NULL);
                set[s]++;
                int64_t next =
                    pygc_create(&gc[s], "[{'$ref':%lld},{'$ref':%lld}]", (long long)top[s], (long long)ouch);
                pygc_drop(&gc[s], ouch);
                pygc_drop(&gc[s], top[s]);
                top[s] = next;
            }
        }
        pygc_drop(&gc[0], top[0]);
        pygc_drop(&gc[1], top[1]);
    }
    for (int s = 0; s < 2; s++) {
        assert_int_equal(pygc_finalized(&gc[s], 0), set[s]);
        pygc_end(&gc[s]);
    }
    wire_close(other);
}

static void test_conformance_gc_resurrection_only_happens_once_per_object(void **state)
{
    struct pygc gc = gc_begin(state);
    int64_t laz = self_cycle(&gc);
    pygc_finalizer(&gc, laz, false, "lazarus");
    pygc_collect(&gc, 2);
    pygc_drop(&gc, laz);
    assert_int_equal(pygc_collect(&gc, 2), 0);
    assert_int_equal(pygc_finalized(&gc, laz), 1);
    assert_true(pygc_lives(&gc, laz));
    pygc_unbind(&gc, "lazarus");
    assert_int_equal(pygc_collect(&gc, 2), 1);
    assert_int_equal(pygc_finalized(&gc, laz), 1);
    assert_false(pygc_lives(&gc, laz));
    pygc_end(&gc);
}

static void test_conformance_gc_resurrection_is_transitive(void **state)
{
    struct pygc gc = gc_begin(state);
    int64_t laz = pygc_instance(&gc), cargo = pygc_instance(&gc);
    pygc_set(&gc, laz, "cargo", cargo);
    pygc_set(&gc, cargo, "me", laz);
    pygc_finalizer(&gc, laz, false, "lazarus");
    pygc_drop(&gc, laz);
    pygc_drop(&gc, cargo);
    assert_int_equal(pygc_collect(&gc, 2), 0);
    assert_int_equal(pygc_int(&gc, "object", "name.lookup", "[s]", "lazarus"), laz);
    assert_int_equal(pygc_int(&gc, "object", "attr.get", "[I,s]", (json_int_t)laz, "cargo"), cargo);
    assert_int_equal(pygc_int(&gc, "object", "attr.get", "[I,s]", (json_int_t)cargo, "me"), laz);
    pygc_unbind(&gc, "lazarus");
    assert_int_equal(pygc_collect(&gc, 2), 2);
    pygc_end(&gc);
}

static void test_conformance_gc_resurrection_does_not_block_cleanup_of_other_objects(void **state)
{
    struct pygc gc = gc_begin(state);
    static const int cycles[] = {100, 0, 100}, expected[] = {100, 0, 100};
    static const char *const names[] = {NULL, "z0", "z1"};
    for (int step = 0; step < 3; step++) {
        int64_t before[3], after[3];
        for (int i = 0; i < cycles[step]; i++) {
            pygc_drop(&gc, self_cycle(&gc));
        }
        if (names[step] != NULL) {
            int64_t z = self_cycle(&gc);
            pygc_finalizer(&gc, z, false, names[step]);
            pygc_drop(&gc, z);
        }
        pygc_stats(&gc, 2, before);
        assert_int_equal(pygc_collect(&gc, 2), expected[step]);
        pygc_stats(&gc, 2, after);
        assert_int_equal(after[1] - before[1], expected[step]);
        assert_int_equal(after[2], before[2]);
    }
    pygc_unbind(&gc, "z0");
    pygc_unbind(&gc, "z1");
    assert_int_equal(pygc_collect(&gc, 2), 2);
    pygc_end(&gc);
}

/* r refers to b, b and c to each other, d to r; r comes back, and only d dies (CPYTHON.md, 4.2). */
static void test_conformance_gc_partial_resurrection(void **state)
{
    struct pygc gc = gc_begin(state);
    int64_t r = pygc_instance(&gc), b = pygc_instance(&gc), c = pygc_instance(&gc), d = pygc_instance(&gc);
    pygc_set(&gc, r, "b", b);
    pygc_set(&gc, b, "c", c);
    pygc_set(&gc, c, "b", b);
    pygc_set(&gc, d, "r", r);
    pygc_set(&gc, d, "me", d);
    const int64_t all[] = {r, b, c, d};
    for (int i = 0; i < 4; i++) {
        pygc_finalizer(&gc, all[i], false, i == 0 ? "r" : NULL);
    }
    for (int i = 0; i < 4; i++) {
        pygc_drop(&gc, all[i]);
    }
    assert_int_equal(pygc_collect(&gc, 2), 1);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(pygc_finalized(&gc, all[i]), 1);
        assert_int_equal(pygc_lives(&gc, all[i]), i < 3);
    }
    pygc_unbind(&gc, "r");
    assert_false(pygc_lives(&gc, r));
    assert_int_equal(pygc_collect(&gc, 2), 2);
    assert_int_equal(pygc_finalized(&gc, 0), 4);
    pygc_end(&gc);
}

/* A cycle that only a session reaches, as one that only a module's globals reach at exit: the session ends, the
 * collection after it runs the finalizer once.  The one who set it is gone, a subscriber hears of it. */
static void test_conformance_gc_cycle_of_an_ended_session(void **state)
{
    const struct fixture *fixture = *state;
    struct pygc gc = gc_begin(state), other;
    pygc_do(&gc, "subscribe", "[[s]]", "finalized");
    pygc_begin(&other, wire_open(fixture->daemon));
    int64_t cycle = self_cycle(&other);
    pygc_finalizer(&other, cycle, false, NULL);
    pygc_do(&other, "session.close", NULL);
    wire_close(other.wire);
    pygc_end(&other);
    assert_int_equal(pygc_collect(&gc, 2), 1);
    assert_int_equal(pygc_finalized(&gc, cycle), 1);
    pygc_collect(&gc, 2);
    assert_int_equal(pygc_finalized(&gc, cycle), 1);
    pygc_end(&gc);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        fixture_test(test_conformance_gc_list),
        fixture_test(test_conformance_gc_dict),
        fixture_test(test_conformance_gc_tuple),
        fixture_test(test_conformance_gc_instance),
        fixture_test(test_conformance_gc_newinstance),
        fixture_test(test_conformance_gc_method),
        fixture_test(test_conformance_gc_function),
        fixture_test(test_conformance_gc_boom),
        fixture_test(test_conformance_gc_saveall),
        fixture_test(test_conformance_gc_get_count),
        fixture_test(test_conformance_gc_collect_generations),
        fixture_test(test_conformance_gc_get_stats),
        fixture_test(test_conformance_gc_freeze),
        fixture_test(test_conformance_gc_frozen_garbage),
        fixture_test(test_conformance_gc_traverse_frozen_objects),
        fixture_test(test_conformance_gc_get_objects),
        fixture_test(test_conformance_gc_get_objects_arguments),
        fixture_test(test_conformance_gc_heap_size),
        fixture_test(test_conformance_gc_get_referents),
        fixture_test(test_conformance_gc_is_tracked),
        fixture_test(test_conformance_gc_is_finalized),
        fixture_test(test_conformance_gc_bug1055820b),
        fixture_test(test_conformance_gc_weakref_in_garbage),
        fixture_test(test_conformance_gc_weakref_in_garbage_is_cleared),
        fixture_test(test_conformance_gc_bug1055820c),
        fixture_test(test_conformance_gc_bug1055820c_automatic),
        fixture_test(test_conformance_gc_bug1055820d),
        fixture_test(test_conformance_gc_bug1055820d_automatic),
        fixture_test(test_conformance_gc_del),
        fixture_test(test_conformance_gc_bug21435),
        fixture_test(test_conformance_gc_trashcan),
        fixture_test(test_conformance_gc_trashcan_threads),
        fixture_test(test_conformance_gc_resurrection_only_happens_once_per_object),
        fixture_test(test_conformance_gc_resurrection_is_transitive),
        fixture_test(test_conformance_gc_resurrection_does_not_block_cleanup_of_other_objects),
        fixture_test(test_conformance_gc_partial_resurrection),
        fixture_test(test_conformance_gc_cycle_of_an_ended_session),
    };
    return cmocka_run_group_tests_name("conformance_gc", tests, NULL, NULL);
}
