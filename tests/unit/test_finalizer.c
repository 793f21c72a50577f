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

/* ---- setting, replacing, clearing ---- */

static void test_finalizer_get_tells_what_was_set(void **state)
{
    struct heap *heap = *state;
    struct recorder recorder;
    start(&recorder, heap);
    heap_ref obj = new_list(heap);
    struct heap_finalizer got;
    assert_false(heap_finalizer_get(&got, heap, obj));
    assert_false(heap_finalizer_clear(heap, obj));
    set_finalizer(heap, obj, "token", "name", true);
    set_finalizer(heap, obj, "", NULL, false);
    assert_true(heap_finalizer_get(&got, heap, obj));
    assert_non_null(got.token.text);
    assert_int_equal(got.token.len, 0);
    assert_null(got.resurrect_as.text);
    assert_false(got.clear || got.done);
    assert_int_equal(got.session, heap_session_number(heap->sessions));
    set_finalizer(heap, obj, NULL, "name", true);
    assert_true(heap_finalizer_get(&got, heap, obj));
    assert_null(got.token.text);
    assert_memory_equal(got.resurrect_as.text, "name", got.resurrect_as.len);
    assert_true(got.clear);
    assert_true(heap_finalizer_clear(heap, obj));
    assert_false(heap_finalizer_get(&got, heap, obj));
    heap_decref(heap, obj);
    heap_settle(heap);
    assert_int_equal(recorder.finalized, 0);
    recorder_stop(&recorder, heap);
}

static void test_finalizer_that_has_run_is_shown_until_it_is_cleared(void **state)
{
    struct heap *heap = *state;
    struct recorder recorder;
    start(&recorder, heap);
    heap_ref obj = new_list(heap);
    set_finalizer(heap, obj, "t", "n", false);
    heap_decref(heap, obj);
    heap_settle(heap);
    struct heap_finalizer got;
    assert_true(heap_finalizer_get(&got, heap, obj));
    assert_true(got.done);
    assert_false(heap_finalizer_clear(heap, obj)); /* there is none that has not run */
    assert_false(heap_finalizer_get(&got, heap, obj));
    assert_true(heap_is_finalized(heap, obj));
    assert_int_equal(heap_finalizer_set(heap, NULL, obj, &(struct heap_finalizer){0}), HEAP_FINALIZED);
    fixture_check(heap);
    unbind(heap, "n");
    assert_int_equal(recorder.finalized, 1);
    recorder_stop(&recorder, heap);
}

static void test_finalizer_refuses_immortals_and_bad_names(void **state)
{
    struct heap *heap = *state;
    char name[HEAP_NAME_BYTES_MAX + 1];
    memset(name, 'n', sizeof name);
    struct heap_finalizer finalizer = {.resurrect_as = {name, 0}};
    assert_int_equal(heap_finalizer_set(heap, NULL, heap_none(heap), &finalizer), HEAP_TYPE);
    assert_int_equal(heap_finalizer_set(heap, NULL, heap_empty_tuple(heap), &finalizer), HEAP_TYPE);
    heap_ref obj = new_list(heap);
    assert_int_equal(heap_finalizer_set(heap, NULL, obj, &finalizer), HEAP_BAD_NAME);
    finalizer.resurrect_as.len = sizeof name;
    assert_int_equal(heap_finalizer_set(heap, NULL, obj, &finalizer), HEAP_BAD_NAME);
    finalizer.resurrect_as.len = HEAP_NAME_BYTES_MAX;
    OK(heap_finalizer_set(heap, NULL, obj, &finalizer));
    assert_true(heap_finalizer_clear(heap, obj));
    heap_decref(heap, obj);
}

/* ---- what `clear` drops ---- */

static void test_finalizer_clear_empties_each_type(void **state)
{
    struct heap *heap = *state;
    struct recorder recorder;
    start(&recorder, heap);
    heap_ref item = keep(heap, new_list(heap)), key = keep(heap, new_str(heap, "key"));
    heap_ref slotted_class, objs[6];
    const struct heap_text slot = {"x", 1};
    OK(heap_class_create(&slotted_class, heap, (struct heap_text){"S", 1}, &slot, 1));
    keep(heap, slotted_class);
    objs[0] = new_list(heap);
    link_to(heap, objs[0], item);
    OK(heap_dict_create(&objs[1], heap, 0));
    OK(heap_incref(heap, key));
    OK(heap_incref(heap, item));
    OK(heap_dict_set_steal(heap, objs[1], key, item));
    bool added;
    OK(heap_set_create(&objs[2], heap, false, 0));
    OK(heap_incref(heap, key));
    OK(heap_set_add_steal(&added, heap, objs[2], key));
    objs[3] = new_instance(heap);
    set_attr(heap, objs[3], "x", item);
    set_attr(heap, objs[3], "y", objs[3]); /* which only the finalizer takes apart */
    OK(heap_instance_create(&objs[4], heap, slotted_class, 0));
    set_attr(heap, objs[4], "x", item);
    heap_ref items[1] = {item};
    OK(heap_incref(heap, item));
    OK(heap_tuple_create_steal(&objs[5], heap, items, 1)); /* nothing can be taken out of a tuple */
    for (unsigned i = 0; i < 6; i++) {
        set_finalizer(heap, objs[i], NULL, ring_names[i], true);
        heap_decref(heap, objs[i]);
        heap_settle(heap);
    }
    assert_int_equal(collect(heap, 2), 0); /* the instance's turn */
    for (unsigned i = 0; i < 6; i++) {
        assert_int_equal(heap_name_find(heap, ring_names[i], 2), objs[i]);
        assert_int_equal(heap_refcount(heap, objs[i]), 1);
    }
    assert_int_equal(heap_refcount(heap, key), 1);
    assert_int_equal(heap_refcount(heap, item), 2); /* the session's and the tuple's */
    assert_int_equal(heap_attr_count(heap, objs[3]), 0);
    set_attr(heap, objs[3], "z", item); /* it goes on like a new one */
    set_attr(heap, objs[4], "x", item);
    fixture_check(heap);
    for (unsigned i = 0; i < 6; i++) {
        unbind(heap, ring_names[i]);
    }
    assert_int_equal(recorder.resurrected, 6);
    recorder_stop(&recorder, heap);
}

static void test_finalizer_clear_of_an_instance_with_many_attributes(void **state)
{
    struct heap *heap = *state;
    struct recorder recorder;
    start(&recorder, heap);
    heap_ref obj = new_instance(heap), item = keep(heap, new_list(heap));
    char name[16];
    for (unsigned i = 0; i < 100; i++) {
        snprintf(name, sizeof name, "x%u", i);
        set_attr(heap, obj, name, item);
    }
    OK(heap_attr_del(heap, obj, "x50", 3));
    set_finalizer(heap, obj, NULL, "n", true);
    heap_decref(heap, obj);
    heap_settle(heap);
    assert_int_equal(heap_refcount(heap, item), 1);
    fixture_check(heap);
    set_attr(heap, obj, "x7", item);
    assert_int_equal(heap_attr_count(heap, obj), 1);
    unbind(heap, "n");
    recorder_stop(&recorder, heap);
}

/* ---- who is where while it waits ---- */

static void test_finalizer_of_what_was_found_again_does_not_run(void **state)
{
    struct heap *heap = *state;
    struct recorder recorder;
    start(&recorder, heap);
    heap_ref obj = new_list(heap), weakref = weakref_to(heap, obj);
    set_finalizer(heap, obj, NULL, NULL, false);
    heap_decref(heap, obj);
    assert_int_equal(heap_weakref_target(heap, weakref), obj);
    OK(heap_hold(heap, heap->sessions, obj));
    assert_int_equal(heap_settle(heap), 0);
    assert_int_equal(recorder.finalized, 0);
    assert_false(heap_is_finalized(heap, obj));
    drop(heap, obj);
    assert_int_equal(heap_settle(heap), 1);
    assert_int_equal(recorder.finalized, 1);
    recorder_stop(&recorder, heap);
}

static void test_finalizer_replaced_or_cleared_while_it_waits(void **state)
{
    struct heap *heap = *state;
    struct recorder recorder;
    start(&recorder, heap);
    heap_ref a = new_list(heap), b = new_list(heap);
    set_finalizer(heap, a, "a", NULL, false);
    set_finalizer(heap, b, "b", NULL, false);
    char expected[64];
    snprintf(expected, sizeof expected, "finalized %u later no\n", id_of(heap, a));
    heap_decref(heap, a);
    heap_decref(heap, b);
    set_finalizer(heap, a, "later", NULL, false);
    assert_true(heap_finalizer_clear(heap, b));
    assert_int_equal(heap_settle(heap), 2);
    assert_string_equal(recorder_told(&recorder), expected);
    recorder_stop(&recorder, heap);
}

#define LARGE 300u /* more than a magazine and two pools hold */

/* A collection resurrects into a name whose old object dies of it, old and reached, with so many large ones
 * that their pools are given back: no mark stays behind. */
static void test_finalizer_in_a_collection_kills_what_had_its_name(void **state)
{
    struct heap *heap = *state;
    struct recorder recorder;
    start(&recorder, heap);
    heap_ref item = keep(heap, new_list(heap)), other = new_list(heap), a = new_list(heap), large[LARGE];
    for (unsigned i = 0; i < LARGE; i++) {
        heap_ref items[TUPLE_INSIDE_MAX];
        for (unsigned k = 0; k < TUPLE_INSIDE_MAX; k++) {
            OK(heap_incref(heap, item));
            items[k] = item;
        }
        OK(heap_tuple_create_steal(&large[i], heap, items, TUPLE_INSIDE_MAX));
        OK(heap_list_append_steal(heap, other, large[i]));
    }
    OK(heap_name_bind(heap, "n", 1, other));
    heap_decref(heap, other);
    link_to(heap, a, a);
    set_finalizer(heap, a, NULL, "n", false);
    heap_decref(heap, a);
    struct heap_collection result;
    heap_collect(&result, heap, 2);
    assert_int_equal(result.unreachable, 0);
    assert_int_equal(result.freed, 1 + LARGE);
    for (unsigned i = 0; i < LARGE; i++) {
        assert_false(bit_get(heap->gc.mark, large[i]));
    }
    assert_int_equal(heap_name_find(heap, "n", 1), a);
    fixture_check(heap);
    unbind(heap, "n");
    recorder_stop(&recorder, heap);
}

/* What garbage alone kept, but is not condemned itself, goes the way of refcounts, after the verdict. */
static void test_finalizer_of_an_atom_in_garbage_goes_by_refcount(void **state)
{
    struct heap *heap = *state;
    struct recorder recorder;
    start(&recorder, heap);
    for (int generation = 0; generation <= 2; generation++) {
        heap_ref list = new_list(heap), atom = new_int(heap, 1000), weakref = weakref_to(heap, atom);
        link_to(heap, list, list);
        link_to(heap, list, atom);
        set_finalizer(heap, atom, NULL, "n", false);
        heap_decref(heap, atom);
        heap_decref(heap, list);
        assert_int_equal(collect(heap, generation), 1);
        assert_int_equal(heap_name_find(heap, "n", 1), atom);
        assert_int_equal(heap_weakref_target(heap, weakref), atom);
        unbind(heap, "n");
        assert_int_equal(heap_weakref_target(heap, weakref), 0);
    }
    assert_int_equal(recorder.resurrected, 3);
    recorder_stop(&recorder, heap);
}

/* An atom that dies of another's finalizer in the collection and is brought back is no candidate, and lives on.
 */
static void test_finalizer_of_an_atom_that_a_finalizer_drops(void **state)
{
    struct heap *heap = *state;
    struct recorder recorder;
    start(&recorder, heap);
    for (int generation = 0; generation <= 2; generation++) {
        heap_ref list = new_list(heap), atoms[2] = {new_int(heap, 1000), new_int(heap, 1001)};
        link_to(heap, list, list);
        for (unsigned i = 0; i < 2; i++) {
            set_finalizer(heap, atoms[i], NULL, i == 0 ? "n" : NULL, false);
            OK(heap_list_append_steal(heap, list, atoms[i]));
        }
        set_finalizer(heap, list, NULL, NULL, true);
        heap_decref(heap, list);
        struct heap_collection result;
        heap_collect(&result, heap, generation);
        assert_int_equal(result.unreachable, 0);
        assert_int_equal(result.freed, 2);
        assert_int_equal(heap_name_find(heap, "n", 1), atoms[0]);
        fixture_check(heap);
        unbind(heap, "n");
    }
    assert_int_equal(recorder.finalized, 9);
    assert_int_equal(recorder.resurrected, 3);
    recorder_stop(&recorder, heap);
}

/* What one finalizer kills is gone before the next runs, and tells so. */
static void test_finalizer_order_of_events_of_a_list_and_its_items(void **state)
{
    struct heap *heap = *state;
    struct recorder recorder;
    start(&recorder, heap);
    heap_ref list = new_list(heap), item = new_list(heap), weakref;
    OK(heap_weakref_notify(&weakref, heap, heap->sessions, list));
    keep(heap, weakref);
    link_to(heap, list, item);
    set_finalizer(heap, item, "item", NULL, false);
    set_finalizer(heap, list, "list", NULL, false);
    char expected[200];
    snprintf(expected, sizeof expected, "finalized %u list no\nweakref %u of %u to %u\nfinalized %u item no\n",
             id_of(heap, list), id_of(heap, weakref), id_of(heap, list),
             (unsigned)heap_session_number(heap->sessions), id_of(heap, item));
    heap_decref(heap, item);
    heap_decref(heap, list);
    assert_int_equal(heap_settle(heap), 2);
    assert_string_equal(recorder_told(&recorder), expected);
    recorder_stop(&recorder, heap);
}

/* ---- nothing recurses, nothing is quadratic ---- */

#define CHAIN 100000u

/* In `list` are CHAIN objects whose finalizers bind one name: each kills the one before. */
static void bind_and_rebind_one_name(struct heap *heap)
{
    heap_ref list = new_list(heap);
    for (unsigned i = 0; i < CHAIN; i++) {
        heap_ref obj = new_list(heap);
        set_finalizer(heap, obj, NULL, "n", false);
        OK(heap_list_append_steal(heap, list, obj));
    }
    heap_decref(heap, list);
    assert_int_equal(heap_settle(heap), CHAIN); /* and one lives on */
    unbind(heap, "n");
}

/* Object i is called after i, and its finalizer takes the name of the next, which dies of it. */
static void each_takes_the_name_of_the_next(struct heap *heap)
{
    char name[16], next[16];
    for (unsigned i = 0; i < CHAIN; i++) {
        heap_ref obj = new_list(heap);
        snprintf(name, sizeof name, "n%u", i);
        snprintf(next, sizeof next, "n%u", i + 1);
        set_finalizer(heap, obj, NULL, next, false);
        OK(heap_name_bind(heap, name, strlen(name), obj));
        heap_decref(heap, obj);
    }
    unbind(heap, "n0");
    assert_false(is_bound(heap, "n0"));
    for (unsigned i = 1; i <= CHAIN; i++) {
        snprintf(name, sizeof name, "n%u", i);
        unbind(heap, name);
    }
}

/* A ring of CHAIN, each with a finalizer that clears it: all die by refcount while they run. */
static void a_ring_takes_itself_apart(struct heap *heap)
{
    heap_ref first = new_list(heap), last = first;
    set_finalizer(heap, first, NULL, NULL, true);
    for (unsigned i = 1; i < CHAIN; i++) {
        heap_ref obj = new_list(heap);
        set_finalizer(heap, obj, NULL, NULL, true);
        OK(heap_list_append_steal(heap, last, obj));
        last = obj;
    }
    OK(heap_list_append_steal(heap, last, first));
    struct heap_collection result;
    heap_collect(&result, heap, 2);
    assert_int_equal(result.unreachable, 0);
    assert_int_equal(result.freed, CHAIN);
}

static void *run_chains(void *arg)
{
    struct heap *heap = arg;
    heap_enter(heap);
    bind_and_rebind_one_name(heap);
    each_takes_the_name_of_the_next(heap);
    a_ring_takes_itself_apart(heap);
    heap_leave(heap);
    return NULL;
}

static void test_finalizer_chains_run_on_a_small_stack(void **state)
{
    struct heap *heap = *state;
    struct recorder recorder;
    if (fixture_is_small()) {
        print_message("skipped: its long chains take too long here\n");
        skip();
    }
    recorder_start(&recorder, heap);
    heap_leave(heap);
    pthread_attr_t attr;
    pthread_t thread;
    pthread_attr_init(&attr);
    assert_int_equal(pthread_attr_setstacksize(&attr, 262144), 0);
    assert_int_equal(pthread_create(&thread, &attr, run_chains, heap), 0);
    pthread_join(thread, NULL);
    pthread_attr_destroy(&attr);
    heap_enter(heap);
    assert_int_equal(recorder.finalized, 3 * CHAIN);
    assert_int_equal(recorder.resurrected, 2 * CHAIN);
    recorder_stop(&recorder, heap);
}

/* ---- limits and memory ---- */

static void test_finalizer_whose_name_cannot_be_bound_lets_die(void **state)
{
    struct heap *heap = *state;
    struct recorder recorder;
    start(&recorder, heap);
    OK(heap_name_bind(heap, "only", 4, heap_none(heap)));
    heap_set_limits(heap, &(struct heap_limits){.max_names = 1});
    for (int generation = -1; generation <= 2; generation++) {
        heap_ref obj = new_list(heap);
        set_finalizer(heap, obj, NULL, "n", false);
        if (generation >= 0) {
            link_to(heap, obj, obj);
        }
        heap_decref(heap, obj);
        assert_int_equal(heap_settle(heap), generation < 0);
        if (generation >= 0) {
            assert_int_equal(collect(heap, generation), 1);
        }
    }
    assert_int_equal(recorder.finalized, 4);
    assert_int_equal(recorder.resurrected, 0);
    assert_false(is_bound(heap, "n"));
    heap_set_limits(heap, &(struct heap_limits){0});
    unbind(heap, "only");
    recorder_stop(&recorder, heap);
}

#if HEAP_DEBUG >= 1
static void test_finalizer_any_request_for_memory_may_fail(void **state)
{
    struct heap *heap = *state;
    heap_ref objs[40];
    assert_non_null(heap_session_create(heap));
    for (unsigned i = 0; i < 40; i++) {
        objs[i] = keep(heap, i % 2 == 0 ? new_list(heap) : new_int(heap, 1000));
        const struct heap_finalizer finalizer = {.token = {"token", 5}, .resurrect_as = {"name", 4}};
        enum heap_error error = HEAP_MEMORY;
        for (uint64_t n = 1; error != HEAP_OK; n++) {
            struct heap_finalizer got;
            assert_false(heap_finalizer_get(&got, heap, objs[i]));
            pymalloc_trim(&heap->pm);
            heap->pm.fail_after = n;
            error = heap_finalizer_set(heap, heap->sessions, objs[i], &finalizer);
            heap->pm.fail_after = 0;
            assert_true(error == HEAP_OK || error == HEAP_MEMORY);
            fixture_check(heap);
        }
        heap->pm.fail_after = 1; /* replacing fails, and the old one stays */
        assert_int_equal(heap_finalizer_set(heap, NULL, objs[i], &(struct heap_finalizer){.clear = true}),
                         HEAP_MEMORY);
        heap->pm.fail_after = 0;
        struct heap_finalizer got;
        assert_true(heap_finalizer_get(&got, heap, objs[i]));
        assert_false(got.clear);
        assert_true(heap_finalizer_clear(heap, objs[i]));
    }
}

/* Running takes no memory but for the name; without that the object dies. */
static void test_finalizer_runs_without_memory(void **state)
{
    struct heap *heap = *state;
    struct recorder recorder;
    start(&recorder, heap);
    for (int generation = 0; generation <= 2; generation++) {
        heap_ref list = new_list(heap);
        for (unsigned i = 0; i < 100; i++) {
            heap_ref obj = new_list(heap);
            link_to(heap, obj, list);
            set_finalizer(heap, obj, NULL, i % 2 == 0 ? "n" : NULL, i % 3 == 0);
            OK(heap_list_append_steal(heap, list, obj));
        }
        heap_decref(heap, list);
        heap->pm.fail_after = 1;
        assert_int_equal(collect(heap, generation), 101); /* those that cleared are kept by the list */
        heap->pm.fail_after = 0;
        fixture_check(heap);
    }
    assert_int_equal(recorder.finalized, 300);
    assert_int_equal(recorder.resurrected, 0);
    recorder_stop(&recorder, heap);
}
#endif

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
        TEST(test_finalizer_get_tells_what_was_set),
        TEST(test_finalizer_that_has_run_is_shown_until_it_is_cleared),
        TEST(test_finalizer_refuses_immortals_and_bad_names),
        TEST(test_finalizer_clear_empties_each_type),
        TEST(test_finalizer_clear_of_an_instance_with_many_attributes),
        TEST(test_finalizer_of_what_was_found_again_does_not_run),
        TEST(test_finalizer_replaced_or_cleared_while_it_waits),
        TEST(test_finalizer_in_a_collection_kills_what_had_its_name),
        TEST(test_finalizer_of_an_atom_in_garbage_goes_by_refcount),
        TEST(test_finalizer_of_an_atom_that_a_finalizer_drops),
        TEST(test_finalizer_order_of_events_of_a_list_and_its_items),
        TEST(test_finalizer_chains_run_on_a_small_stack),
        TEST(test_finalizer_whose_name_cannot_be_bound_lets_die),
#if HEAP_DEBUG >= 1
        TEST(test_finalizer_any_request_for_memory_may_fail),
        TEST(test_finalizer_runs_without_memory),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
