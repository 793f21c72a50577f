/* test_finalizer.c -- finalizers: each row of CPython's test_finalization that the heap can express, the order
 * of events, resurrection in part, memory that runs out, chains that must not recurse, and random graphs beside
 * a small model of the rules. */
#include "heap_fixture.h"
#include "heap_recorder.h"

#include <pthread.h>
#include <stdlib.h>

/* ---- helpers ---- */

/* What a finalizer does: Simple of CPython's test looks on, Suicidal clears, Resurrecting binds a name. */
enum kind { SIMPLE, SUICIDAL, RESURRECTING };

static void set_finalizer(struct heap *heap, heap_ref obj, const char *token, const char *name, bool clear)
{
    struct heap_finalizer finalizer = {.clear = clear};
    if (token != NULL) {
        finalizer.token = (struct heap_text){token, strlen(token)};
    }
    if (name != NULL) {
        finalizer.resurrect_as = (struct heap_text){name, strlen(name)};
    }
    OK(heap_finalizer_set(heap, heap->sessions, obj, &finalizer));
}

static heap_ref new_instance(struct heap *heap)
{
    heap_ref class, instance;
    OK(heap_class_create(&class, heap, (struct heap_text){"A", 1}, NULL, 0));
    OK(heap_instance_create(&instance, heap, class, 0));
    heap_decref(heap, class);
    return instance;
}

static void set_attr(struct heap *heap, heap_ref instance, const char *name, heap_ref value)
{
    OK(heap_incref(heap, value));
    OK(heap_attr_set_steal(heap, instance, name, strlen(name), value));
}

static bool is_bound(struct heap *heap, const char *name)
{
    return heap_name_find(heap, name, strlen(name)) != 0;
}

static void unbind(struct heap *heap, const char *name)
{
    OK(heap_name_unbind(heap, name, strlen(name)));
    heap_settle(heap);
}

static heap_ref weakref_to(struct heap *heap, heap_ref target)
{
    heap_ref weakref;
    OK(heap_weakref_shared(&weakref, heap, target));
    return keep(heap, weakref);
}

/* Teardown drops what the session holds; names are the test's own to unbind. */
static void start(struct recorder *recorder, struct heap *heap)
{
    assert_non_null(heap_session_create(heap));
    recorder_start(recorder, heap);
}

/* ---- one object, death by refcount ---- */

static void test_finalizer_simple_runs_once_and_the_weakref_dies(void **state)
{
    struct heap *heap = *state;
    struct recorder recorder;
    start(&recorder, heap);
    heap_ref obj = new_instance(heap), weakref = weakref_to(heap, obj);
    set_finalizer(heap, obj, NULL, NULL, false);
    heap_decref(heap, obj);
    assert_int_equal(heap_settle(heap), 2); /* its class too */
    assert_int_equal(recorder.finalized, 1);
    assert_int_equal(heap_weakref_target(heap, weakref), 0);
    assert_int_equal(collect(heap, 2), 0);
    assert_int_equal(recorder.finalized, 1);
    recorder_stop(&recorder, heap);
}

static void test_finalizer_simple_resurrect_keeps_the_weakref_and_runs_once(void **state)
{
    struct heap *heap = *state;
    struct recorder recorder;
    start(&recorder, heap);
    heap_ref obj = new_instance(heap), weakref = weakref_to(heap, obj);
    set_finalizer(heap, obj, "t", "again", false);
    assert_false(heap_is_finalized(heap, obj));
    char expected[64];
    snprintf(expected, sizeof expected, "finalized %u t yes\n", id_of(heap, obj));
    heap_decref(heap, obj);
    assert_int_equal(heap_settle(heap), 0);
    assert_string_equal(recorder_told(&recorder), expected);
    assert_int_equal(heap_name_find(heap, "again", 5), obj);
    assert_int_equal(heap_refcount(heap, obj), 1);
    assert_int_equal(heap_weakref_target(heap, weakref), obj);
    assert_true(heap_is_finalized(heap, obj));
    fixture_check(heap);
    unbind(heap, "again");
    assert_string_equal(recorder_told(&recorder), "");
    assert_int_equal(heap_weakref_target(heap, weakref), 0);
    recorder_stop(&recorder, heap);
}

/* CPython runs a finalizer of an atom each time; here it is once in an object's life, whatever it is. */
static void test_finalizer_of_an_atom_runs_once(void **state)
{
    struct heap *heap = *state;
    struct recorder recorder;
    start(&recorder, heap);
    heap_ref atoms[] = {new_int(heap, 1000), new_str(heap, "text"),
                        new_str(heap, "text that fits no small block"), 0, 0};
    OK(heap_float_create(&atoms[3], heap, 1.5));
    OK(heap_str_intern(&atoms[4], heap, "interned", 8));
    for (unsigned i = 0; i < 5; i++) {
        keep(heap, atoms[i]);
    }
    for (unsigned i = 0; i < 5; i++) {
        set_finalizer(heap, atoms[i], NULL, "atom", false);
        drop(heap, atoms[i]);
        heap_settle(heap);
        assert_int_equal(recorder.finalized, i + 1);
        assert_int_equal(heap_name_find(heap, "atom", 4), atoms[i]);
        assert_true(heap_is_finalized(heap, atoms[i]));
        struct heap_finalizer again = {.clear = true};
        assert_int_equal(heap_finalizer_set(heap, NULL, atoms[i], &again), HEAP_FINALIZED);
        fixture_check(heap);
        unbind(heap, "atom");
    }
    assert_int_equal(recorder.finalized, 5);
    recorder_stop(&recorder, heap);
}

/* ---- cycles ---- */

static void test_finalizer_self_cycle_simple(void **state)
{
    struct heap *heap = *state;
    struct recorder recorder;
    start(&recorder, heap);
    for (int generation = 0; generation <= 2; generation++) {
        heap_ref obj = new_list(heap), weakref = weakref_to(heap, obj);
        link_to(heap, obj, obj);
        set_finalizer(heap, obj, NULL, NULL, false);
        heap_decref(heap, obj);
        assert_int_equal(collect(heap, generation), 1);
        assert_int_equal(recorder.finalized, (unsigned)generation + 1);
        assert_int_equal(heap_weakref_target(heap, weakref), 0);
        fixture_check(heap);
    }
    recorder_stop(&recorder, heap);
}

static void test_finalizer_self_cycle_resurrect_kills_the_weakref(void **state)
{
    struct heap *heap = *state;
    struct recorder recorder;
    start(&recorder, heap);
    for (int generation = 0; generation <= 2; generation++) {
        heap_ref obj = new_list(heap), weakref = weakref_to(heap, obj);
        link_to(heap, obj, obj);
        set_finalizer(heap, obj, NULL, "again", false);
        heap_decref(heap, obj);
        assert_int_equal(collect(heap, generation), 0);
        assert_int_equal(recorder.resurrected, (unsigned)generation + 1);
        assert_int_equal(heap_weakref_target(heap, weakref), 0);
        assert_int_equal(heap_gc_generation(heap, obj), generation < 2 ? generation + 1 : 2);
        fixture_check(heap);
        unbind(heap, "again");
        assert_int_equal(collect(heap, 2), 1);
        assert_int_equal(recorder.finalized, (unsigned)generation + 1);
    }
    recorder_stop(&recorder, heap);
}

static void test_finalizer_self_cycle_suicide_dies_by_refcount(void **state)
{
    struct heap *heap = *state;
    struct recorder recorder;
    start(&recorder, heap);
    for (int generation = 0; generation <= 2; generation++) {
        heap_ref obj = new_instance(heap);
        set_attr(heap, obj, "me", obj);
        set_finalizer(heap, obj, NULL, NULL, true);
        heap_decref(heap, obj);
        struct heap_collection result;
        heap_collect(&result, heap, generation);
        assert_int_equal(result.unreachable, 0); /* nor does its class, which only it kept, count */
        assert_int_equal(result.freed, 2);
        assert_int_equal(recorder.finalized, (unsigned)generation + 1);
        fixture_check(heap);
    }
    assert_int_equal(recorder.resurrected, 0);
    recorder_stop(&recorder, heap);
}

/* ---- chains: a ring, each linked to its left and right neighbour ---- */

struct ring {
    heap_ref objs[6], weakrefs[6];
    unsigned n, resurrecting;
};

static const char *const ring_names[] = {"r0", "r1", "r2", "r3", "r4", "r5"};

static void build_ring(struct ring *ring, struct heap *heap, const enum kind *kinds, unsigned n)
{
    *ring = (struct ring){.n = n};
    for (unsigned i = 0; i < n; i++) {
        ring->objs[i] = new_list(heap);
        ring->weakrefs[i] = weakref_to(heap, ring->objs[i]);
        ring->resurrecting += kinds[i] == RESURRECTING;
        set_finalizer(heap, ring->objs[i], NULL, kinds[i] == RESURRECTING ? ring_names[i] : NULL,
                      kinds[i] == SUICIDAL);
    }
    for (unsigned i = 0; i < n; i++) {
        link_to(heap, ring->objs[i], ring->objs[(i + n - 1) % n]);
        link_to(heap, ring->objs[i], ring->objs[(i + 1) % n]);
    }
    for (unsigned i = 0; i < n; i++) {
        heap_decref(heap, ring->objs[i]);
    }
}

/* A ring of these gives `first` at its collection and, once the names are gone, `second` at the next. */
static void check_ring(struct heap *heap, const enum kind *kinds, unsigned n, uint64_t first, uint64_t second)
{
    struct recorder recorder;
    recorder_start(&recorder, heap);
    for (int generation = 0; generation <= 2; generation++) {
        struct ring ring;
        recorder.finalized = recorder.resurrected = 0;
        build_ring(&ring, heap, kinds, n);
        assert_int_equal(collect(heap, generation), first);
        assert_int_equal(recorder.finalized, n);
        for (unsigned i = 0; i < n; i++) {
            assert_int_equal(heap_weakref_target(heap, ring.weakrefs[i]), 0);
            assert_int_equal(is_bound(heap, ring_names[i]), kinds[i] == RESURRECTING);
        }
        fixture_check(heap);
        for (unsigned i = 0; i < n; i++) {
            if (kinds[i] == RESURRECTING) {
                unbind(heap, ring_names[i]);
            }
        }
        assert_int_equal(collect(heap, 2), second);
        assert_int_equal(recorder.finalized, n);
        fixture_check(heap);
    }
    recorder_stop(&recorder, heap);
}

#define RING(name, first, second, ...)                                                                         \
    static void test_finalizer_##name(void **state)                                                            \
    {                                                                                                          \
        const enum kind kinds[] = {__VA_ARGS__};                                                               \
        assert_non_null(heap_session_create(*state));                                                          \
        check_ring(*state, kinds, sizeof kinds / sizeof *kinds, first, second);                                \
    }

RING(homogenous, 3, 0, SIMPLE, SIMPLE, SIMPLE)
RING(homogenous_resurrect, 0, 3, RESURRECTING, RESURRECTING, RESURRECTING)
RING(homogenous_suicidal, 0, 0, SUICIDAL, SUICIDAL, SUICIDAL)
RING(heterogenous_suicidal_one, 0, 0, SUICIDAL, SIMPLE, SUICIDAL, SIMPLE)
RING(heterogenous_suicidal_two, 4, 0, SUICIDAL, SUICIDAL, SIMPLE, SIMPLE)
RING(heterogenous_resurrect_one, 0, 4, RESURRECTING, SIMPLE, RESURRECTING, SIMPLE)
RING(heterogenous_resurrect_two, 0, 6, RESURRECTING, SIMPLE, SUICIDAL, RESURRECTING, SIMPLE, SUICIDAL)
RING(heterogenous_resurrect_three, 0, 6, RESURRECTING, SUICIDAL, SIMPLE, RESURRECTING, SUICIDAL, SIMPLE)

/* ---- resurrection in part ---- */

/* r -> b <-> c, d -> r, d in a cycle of its own; r's finalizer binds r. */
static void test_finalizer_resurrects_what_it_reaches_and_no_more(void **state)
{
    struct heap *heap = *state;
    struct recorder recorder;
    start(&recorder, heap);
    heap_ref r = new_list(heap), b = new_list(heap), c = new_list(heap), d = new_list(heap);
    link_to(heap, r, b);
    link_to(heap, b, c);
    link_to(heap, c, b);
    link_to(heap, d, r);
    link_to(heap, d, d);
    set_finalizer(heap, r, "r", "r", false);
    set_finalizer(heap, b, "b", NULL, false);
    set_finalizer(heap, c, "c", NULL, false);
    set_finalizer(heap, d, "d", NULL, false);
    char expected[200];
    snprintf(expected, sizeof expected,
             "finalized %u r yes\nfinalized %u b yes\nfinalized %u c yes\nfinalized %u d no\n", id_of(heap, r),
             id_of(heap, b), id_of(heap, c), id_of(heap, d));
    heap_decref(heap, r);
    heap_decref(heap, b);
    heap_decref(heap, c);
    heap_decref(heap, d);
    assert_int_equal(collect(heap, 2), 1);
    assert_string_equal(recorder_told(&recorder), expected);
    fixture_check(heap);
    unbind(heap, "r");
    assert_int_equal(collect(heap, 2), 2);
    assert_int_equal(recorder.finalized, 4);
    recorder_stop(&recorder, heap);
}

static void test_finalizer_resurrection_does_not_block_cleanup(void **state)
{
    struct heap *heap = *state;
    struct recorder recorder;
    start(&recorder, heap);
    uint64_t expected[] = {100, 0, 100, 2};
    for (unsigned round = 0; round < 4; round++) {
        if (round == 3) {
            unbind(heap, "z1");
            unbind(heap, "z2");
        }
        for (unsigned i = 0; i < 100 && (round == 0 || round == 2); i++) {
            heap_ref a = new_list(heap);
            link_to(heap, a, a);
            heap_decref(heap, a);
        }
        if (round == 1 || round == 2) {
            heap_ref z = new_list(heap);
            link_to(heap, z, z);
            set_finalizer(heap, z, NULL, round == 1 ? "z1" : "z2", false);
            heap_decref(heap, z);
        }
        assert_int_equal(collect(heap, 2), expected[round]);
    }
    recorder_stop(&recorder, heap);
}

/* ---- two finalizers, one name ---- */

static void test_finalizer_of_two_that_bind_one_name_the_last_lives(void **state)
{
    struct heap *heap = *state;
    struct recorder recorder;
    start(&recorder, heap);
    heap_ref a = new_list(heap), b = new_list(heap);
    link_to(heap, a, a);
    link_to(heap, b, b);
    set_finalizer(heap, a, "a", "n", false);
    set_finalizer(heap, b, "b", "n", false);
    char expected[100];
    snprintf(expected, sizeof expected, "finalized %u a no\nfinalized %u b yes\n", id_of(heap, a),
             id_of(heap, b));
    heap_decref(heap, a);
    heap_decref(heap, b);
    assert_int_equal(collect(heap, 2), 1);
    assert_string_equal(recorder_told(&recorder), expected);
    assert_int_equal(heap_name_find(heap, "n", 1), b);
    unbind(heap, "n");
    assert_int_equal(collect(heap, 2), 1);
    recorder_stop(&recorder, heap);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_finalizer_simple_runs_once_and_the_weakref_dies),
        TEST(test_finalizer_simple_resurrect_keeps_the_weakref_and_runs_once),
        TEST(test_finalizer_of_an_atom_runs_once),
        TEST(test_finalizer_self_cycle_simple),
        TEST(test_finalizer_self_cycle_resurrect_kills_the_weakref),
        TEST(test_finalizer_self_cycle_suicide_dies_by_refcount),
        TEST(test_finalizer_homogenous),
        TEST(test_finalizer_homogenous_resurrect),
        TEST(test_finalizer_homogenous_suicidal),
        TEST(test_finalizer_heterogenous_suicidal_one),
        TEST(test_finalizer_heterogenous_suicidal_two),
        TEST(test_finalizer_heterogenous_resurrect_one),
        TEST(test_finalizer_heterogenous_resurrect_two),
        TEST(test_finalizer_heterogenous_resurrect_three),
        TEST(test_finalizer_resurrects_what_it_reaches_and_no_more),
        TEST(test_finalizer_resurrection_does_not_block_cleanup),
        TEST(test_finalizer_of_two_that_bind_one_name_the_last_lives),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
