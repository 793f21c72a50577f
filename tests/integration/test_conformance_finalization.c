/* test_conformance_finalization.c -- the scenarios of CPython's test_finalization.py (PEP 442), with its
 * numbers.
 *
 * What a class of that file does in its __del__ is told by finalizer.set:
 *
 *     simple         nothing, but it is told                token alone
 *     resurrecting   stores itself in a list of survivors   resurrect_as, a name of its own
 *     suicidal       drops its references                   clear
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../support/fixture.h"
#include "../support/pygc.h"

enum nature { SIMPLE, RESURRECTING, SUICIDAL };

#define CHAIN_MAX 8

static struct pygc gc_begin(void **state)
{
    struct pygc gc;
    pygc_begin(&gc, ((struct fixture *)*state)->wire);
    pygc_do(&gc, "gc.disable", NULL);
    return gc;
}

static void survivor_name(char name[16], int64_t object)
{
    snprintf(name, 16, "s%lld", (long long)object);
}

static void set_nature(struct pygc *gc, int64_t object, enum nature nature)
{
    char name[16];
    survivor_name(name, object);
    pygc_finalizer(gc, object, nature == SUICIDAL, nature == RESURRECTING ? name : NULL);
}

/* The end of the list of survivors' reference to it. */
static void forget_survivor(struct pygc *gc, int64_t object)
{
    char name[16];
    survivor_name(name, object);
    pygc_unbind(gc, name);
}

/* ---- one object ---- */

static void test_conformance_finalization_simple(void **state)
{
    struct pygc gc = gc_begin(state);
    int64_t object = pygc_instance(&gc), weak = pygc_weakref(&gc, object);
    set_nature(&gc, object, SIMPLE);
    pygc_drop(&gc, object);
    assert_int_equal(pygc_finalized(&gc, object), 1);
    assert_int_equal(pygc_deref(&gc, weak), 0);
    assert_int_equal(pygc_collect(&gc, 2), 0);
    assert_int_equal(pygc_finalized(&gc, object), 1);
    pygc_end(&gc);
}

static void test_conformance_finalization_simple_resurrect(void **state)
{
    struct pygc gc = gc_begin(state);
    int64_t object = pygc_instance(&gc), weak = pygc_weakref(&gc, object);
    set_nature(&gc, object, RESURRECTING);
    pygc_drop(&gc, object);
    assert_int_equal(pygc_finalized(&gc, object), 1);
    assert_int_equal(pygc_deref(&gc, weak), object);
    assert_int_equal(pygc_refcount(&gc, object), 1);
    forget_survivor(&gc, object);
    assert_int_equal(pygc_finalized(&gc, object), 1);
    assert_int_equal(pygc_deref(&gc, weak), 0);
    pygc_end(&gc);
}

/* An atom is an object that the collector does not know. */
static void test_conformance_finalization_non_gc(void **state)
{
    struct pygc gc = gc_begin(state);
    int64_t atom = pygc_create(&gc, "'no container'");
    set_nature(&gc, atom, SIMPLE);
    assert_false(pygc_bool(&gc, "gc.is_tracked", atom));
    pygc_drop(&gc, atom);
    assert_int_equal(pygc_finalized(&gc, atom), 1);
    pygc_collect(&gc, 2);
    assert_int_equal(pygc_finalized(&gc, atom), 1);
    pygc_end(&gc);
}

/* In CPython the second death of an object without a GC header is told again; here every object is finalized
 * once in its life. */
static void test_conformance_finalization_non_gc_resurrect(void **state)
{
    struct pygc gc = gc_begin(state);
    int64_t atom = pygc_create(&gc, "'no container'");
    set_nature(&gc, atom, RESURRECTING);
    pygc_drop(&gc, atom);
    assert_int_equal(pygc_finalized(&gc, atom), 1);
    assert_true(pygc_lives(&gc, atom));
    forget_survivor(&gc, atom);
    assert_int_equal(pygc_finalized(&gc, atom), 1);
    assert_false(pygc_lives(&gc, atom));
    pygc_end(&gc);
}

/* ---- a cycle of one ---- */

static int64_t self_cycle(struct pygc *gc, enum nature nature, int64_t *weak)
{
    int64_t object = pygc_instance(gc);
    pygc_set(gc, object, "ref", object);
    set_nature(gc, object, nature);
    *weak = pygc_weakref(gc, object);
    pygc_drop(gc, object);
    assert_int_equal(pygc_finalized(gc, object), 0);
    assert_int_equal(pygc_deref(gc, *weak), object);
    return object;
}

static void test_conformance_finalization_self_cycle(void **state)
{
    struct pygc gc = gc_begin(state);
    int64_t weak, object = self_cycle(&gc, SIMPLE, &weak);
    assert_int_equal(pygc_collect(&gc, 2), 1);
    assert_int_equal(pygc_finalized(&gc, object), 1);
    assert_int_equal(pygc_deref(&gc, weak), 0);
    assert_int_equal(pygc_collect(&gc, 2), 0);
    assert_int_equal(pygc_finalized(&gc, object), 1);
    pygc_end(&gc);
}

static void test_conformance_finalization_self_cycle_resurrect(void **state)
{
    struct pygc gc = gc_begin(state);
    int64_t weak, object = self_cycle(&gc, RESURRECTING, &weak);
    assert_int_equal(pygc_collect(&gc, 2), 0);
    assert_int_equal(pygc_finalized(&gc, object), 1);
    assert_true(pygc_lives(&gc, object));
    assert_int_equal(pygc_deref(&gc, weak), 0); /* dead though the object lives */
    forget_survivor(&gc, object);
    assert_int_equal(pygc_collect(&gc, 2), 1);
    assert_int_equal(pygc_finalized(&gc, object), 1);
    assert_false(pygc_lives(&gc, object));
    pygc_end(&gc);
}

static void test_conformance_finalization_self_cycle_suicide(void **state)
{
    struct pygc gc = gc_begin(state);
    int64_t weak, object = self_cycle(&gc, SUICIDAL, &weak);
    assert_int_equal(pygc_collect(&gc, 2), 0);
    assert_int_equal(pygc_finalized(&gc, object), 1);
    assert_int_equal(pygc_deref(&gc, weak), 0);
    assert_int_equal(pygc_collect(&gc, 2), 0);
    assert_int_equal(pygc_finalized(&gc, object), 1);
    pygc_end(&gc);
}

/* ---- rings: each node has its neighbours as `left` and `right` ---- */

struct chain {
    size_t count;
    int64_t node[CHAIN_MAX], weak[CHAIN_MAX];
    enum nature nature[CHAIN_MAX];
};

/* A ring of such nodes that nothing holds. */
static struct chain make_chain(struct pygc *gc, const enum nature natures[], size_t n)
{
    struct chain chain = {.count = n};
    for (size_t i = 0; i < n; i++) {
        chain.node[i] = pygc_instance(gc);
        chain.nature[i] = natures[i];
        set_nature(gc, chain.node[i], natures[i]);
        chain.weak[i] = pygc_weakref(gc, chain.node[i]);
    }
    for (size_t i = 0; i < n; i++) {
        int64_t left = chain.node[(i + n - 1) % n];
        pygc_set(gc, chain.node[i], "left", left);
        pygc_set(gc, left, "right", chain.node[i]);
    }
    for (size_t i = 0; i < n; i++) {
        pygc_drop(gc, chain.node[i]);
    }
    assert_int_equal(pygc_finalized(gc, 0), 0);
    return chain;
}

/* How many of them live; every weakref to them must be dead. */
static size_t living(struct pygc *gc, const struct chain *chain)
{
    size_t n = 0;
    for (size_t i = 0; i < chain->count; i++) {
        n += pygc_lives(gc, chain->node[i]);
        assert_int_equal(pygc_deref(gc, chain->weak[i]), 0);
    }
    return n;
}

/* Makes the ring and collects: `first` is what the collection finds, each finalizer runs once; then forgets the
 * survivors, and the next collection finds `second`. */
static void check_chain(void **state, const enum nature natures[], size_t n, int64_t first, int64_t second)
{
    struct pygc gc = gc_begin(state);
    struct chain chain = make_chain(&gc, natures, n);
    size_t survivors = 0;
    assert_int_equal(pygc_collect(&gc, 2), first);
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(pygc_finalized(&gc, chain.node[i]), 1);
        survivors += natures[i] == RESURRECTING;
    }
    /* A resurrected node keeps what it still reaches: in these rings all, or nothing survives. */
    assert_int_equal(living(&gc, &chain), survivors == 0 ? 0 : n);
    for (size_t i = 0; i < n; i++) {
        if (natures[i] == RESURRECTING) {
            assert_true(pygc_lives(&gc, chain.node[i]));
            forget_survivor(&gc, chain.node[i]);
        }
    }
    assert_int_equal(pygc_collect(&gc, 2), second);
    assert_int_equal(living(&gc, &chain), 0);
    assert_int_equal(pygc_finalized(&gc, 0), n);
    pygc_end(&gc);
}

#define CHAIN(first, second, ...)                                                                              \
    check_chain(state, (const enum nature[]){__VA_ARGS__},                                                     \
                sizeof((const enum nature[]){__VA_ARGS__}) / sizeof(enum nature), first, second)

static void test_conformance_finalization_homogenous(void **state)
{
    CHAIN(3, 0, SIMPLE, SIMPLE, SIMPLE);
}

static void test_conformance_finalization_homogenous_resurrect(void **state)
{
    CHAIN(0, 3, RESURRECTING, RESURRECTING, RESURRECTING);
}

static void test_conformance_finalization_homogenous_suicidal(void **state)
{
    CHAIN(0, 0, SUICIDAL, SUICIDAL, SUICIDAL);
}

static void test_conformance_finalization_heterogenous_suicidal_one(void **state)
{
    CHAIN(0, 0, SUICIDAL, SIMPLE, SUICIDAL, SIMPLE);
}

static void test_conformance_finalization_heterogenous_suicidal_two(void **state)
{
    CHAIN(4, 0, SUICIDAL, SUICIDAL, SIMPLE, SIMPLE);
}

static void test_conformance_finalization_heterogenous_resurrect_one(void **state)
{
    CHAIN(0, 4, RESURRECTING, SIMPLE, RESURRECTING, SIMPLE);
}

static void test_conformance_finalization_heterogenous_resurrect_two(void **state)
{
    CHAIN(0, 6, RESURRECTING, SIMPLE, SUICIDAL, RESURRECTING, SIMPLE, SUICIDAL);
}

static void test_conformance_finalization_heterogenous_resurrect_three(void **state)
{
    CHAIN(0, 6, RESURRECTING, RESURRECTING, SIMPLE, SIMPLE, SUICIDAL, SUICIDAL);
}

/* ---- orders (CPYTHON.md, 4.2) ---- */

/* The words of the events so far, in order, separated by spaces. */
static void demand_events(const struct pygc *gc, const char *expected)
{
    char words[256] = "";
    size_t i;
    json_t *j_event;
    json_array_foreach(gc->j_events, i, j_event)
    {
        size_t len = strlen(words);
        snprintf(words + len, sizeof words - len, "%s%s", len == 0 ? "" : " ",
                 json_string_value(json_object_get(j_event, "event")));
    }
    assert_string_equal(words, expected);
}

static void test_conformance_finalization_order_by_refcount(void **state)
{
    struct pygc gc = gc_begin(state);
    int64_t object = pygc_instance(&gc), older = pygc_notifying_weakref(&gc, object),
            newer = pygc_notifying_weakref(&gc, object);
    set_nature(&gc, object, SIMPLE);
    pygc_drop(&gc, object);
    demand_events(&gc, "finalized weakref weakref");
    /* Of the weakrefs the newest is told first. */
    assert_int_equal(json_integer_value(json_object_get(json_array_get(gc.j_events, 1), "weakref")), newer);
    assert_int_equal(json_integer_value(json_object_get(json_array_get(gc.j_events, 2), "weakref")), older);
    pygc_end(&gc);
}

static void test_conformance_finalization_order_in_a_cycle(void **state)
{
    struct pygc gc = gc_begin(state);
    int64_t weak, object = self_cycle(&gc, SIMPLE, &weak);
    pygc_notifying_weakref(&gc, object);
    pygc_collect(&gc, 2);
    demand_events(&gc, "weakref finalized");
    pygc_end(&gc);
}

/* What comes back from death by refcount is young again, as in CPython, which had untracked it; what a
 * collection brings back goes the way of its survivors. */
static void test_conformance_finalization_generation(void **state)
{
    struct pygc gc = gc_begin(state);
    int64_t weak, object = pygc_instance(&gc), cycle = self_cycle(&gc, RESURRECTING, &weak);
    set_nature(&gc, object, RESURRECTING);
    assert_int_equal(pygc_collect(&gc, 0), 0);
    assert_int_equal(pygc_generation(&gc, cycle), 1);
    pygc_collect(&gc, 2);
    assert_int_equal(pygc_generation(&gc, object), 2);
    pygc_do(&gc, "gc.freeze", NULL);
    assert_int_equal(pygc_generation(&gc, object), -1);
    pygc_drop(&gc, object);
    assert_int_equal(pygc_generation(&gc, object), 0);
    pygc_do(&gc, "gc.unfreeze", NULL);
    assert_int_equal(pygc_generation(&gc, object), 0);
    forget_survivor(&gc, object);
    forget_survivor(&gc, cycle);
    assert_int_equal(pygc_collect(&gc, 2), 1);
    pygc_end(&gc);
}

/* Nobody is told of a weakref that died before its target. */
static void test_conformance_finalization_weakref_dies_first(void **state)
{
    struct pygc gc = gc_begin(state);
    int64_t object = pygc_instance(&gc), weak = pygc_notifying_weakref(&gc, object);
    pygc_drop(&gc, weak);
    assert_int_equal(pygc_int(&gc, NULL, "weakref.count", "[I]", (json_int_t)object), 0);
    pygc_drop(&gc, object);
    demand_events(&gc, "");
    pygc_end(&gc);
}

/* A watcher is told once, at the first death by collection, though the object then lives on. */
static void test_conformance_finalization_second_death(void **state)
{
    struct pygc gc = gc_begin(state);
    int64_t shared, object = self_cycle(&gc, RESURRECTING, &shared), weak = pygc_notifying_weakref(&gc, object);
    assert_int_equal(pygc_collect(&gc, 2), 0);
    demand_events(&gc, "weakref finalized");
    assert_int_equal(pygc_deref(&gc, weak), 0);
    pygc_forget_events(&gc);
    /* The old shared weakref stays dead; there is a new one now. */
    int64_t second = pygc_weakref(&gc, object);
    assert_true(second != shared);
    forget_survivor(&gc, object);
    assert_int_equal(pygc_collect(&gc, 2), 1);
    demand_events(&gc, "");
    pygc_end(&gc);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        fixture_test(test_conformance_finalization_simple),
        fixture_test(test_conformance_finalization_simple_resurrect),
        fixture_test(test_conformance_finalization_non_gc),
        fixture_test(test_conformance_finalization_non_gc_resurrect),
        fixture_test(test_conformance_finalization_self_cycle),
        fixture_test(test_conformance_finalization_self_cycle_resurrect),
        fixture_test(test_conformance_finalization_self_cycle_suicide),
        fixture_test(test_conformance_finalization_homogenous),
        fixture_test(test_conformance_finalization_homogenous_resurrect),
        fixture_test(test_conformance_finalization_homogenous_suicidal),
        fixture_test(test_conformance_finalization_heterogenous_suicidal_one),
        fixture_test(test_conformance_finalization_heterogenous_suicidal_two),
        fixture_test(test_conformance_finalization_heterogenous_resurrect_one),
        fixture_test(test_conformance_finalization_heterogenous_resurrect_two),
        fixture_test(test_conformance_finalization_heterogenous_resurrect_three),
        fixture_test(test_conformance_finalization_order_by_refcount),
        fixture_test(test_conformance_finalization_order_in_a_cycle),
        fixture_test(test_conformance_finalization_generation),
        fixture_test(test_conformance_finalization_weakref_dies_first),
        fixture_test(test_conformance_finalization_second_death),
    };
    return cmocka_run_group_tests_name("conformance_finalization", tests, NULL, NULL);
}
