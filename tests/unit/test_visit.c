/* test_visit.c -- a walk in slices: each object once, as it was when the walk began, whatever happens
 * between. */
#include "graph_fixture.h"

#include "../../heap/visit.h"

/* A walk that compares what it is shown with what there was. */
struct compare {
    struct visit visit; /* first */
    struct shot shot;
    bool *seen;
    uint32_t count;
};

static void compare_node(struct visit *visit, struct heap *heap, uint32_t ref)
{
    struct compare *compare = (struct compare *)visit;
    uint32_t i = shot_find(&compare->shot, ref);
    assert_int_not_equal(i, UINT32_MAX);
    assert_false(compare->seen[i]);
    compare->seen[i] = true;
    compare->count++;
    const struct shot_object *was = &compare->shot.objects[i];
    assert_int_equal(heap_type(heap, ref), was->type);
    assert_int_equal(heap_sizeof(heap, ref), was->bytes);
    uint64_t position = 0;
    heap_ref referent;
    for (uint32_t k = 0; k < was->count; k++) {
        assert_true(heap_referent_next(heap, ref, &position, &referent));
        assert_int_equal(referent, was->edges[k]);
    }
    assert_false(heap_referent_next(heap, ref, &position, &referent));
    if (was->type == HEAP_T_WEAKREF) {
        assert_int_equal(((const struct weakref *)object_at(heap, ref))->target, was->target);
    }
    if (ref_is_atom(ref)) {
        char text[100];
        heap_repr(text, sizeof text, heap, ref);
        assert_string_equal(text, was->text);
    }
}

static void compare_begin(struct compare *compare, struct heap *heap)
{
    *compare = (struct compare){.visit.node = compare_node};
    shot_take(&compare->shot, heap);
    compare->seen = calloc(compare->shot.count + 1, sizeof *compare->seen);
    assert_non_null(compare->seen);
    assert_true(visit_begin(&compare->visit, heap));
    assert_ptr_equal(heap->visit, &compare->visit);
}

static void compare_end(struct compare *compare, struct heap *heap)
{
    assert_int_equal(compare->count, compare->shot.count);
    visit_end(&compare->visit, heap);
    assert_null(heap->visit);
    shot_free(&compare->shot);
    free(compare->seen);
}

static void test_visit_sees_nothing_in_an_empty_heap(void **state)
{
    struct heap *heap = *state;
    struct compare compare;
    compare_begin(&compare, heap);
    assert_int_equal(compare.shot.count, 0);
    while (!visit_step(&compare.visit, heap, 1)) {
    }
    compare_end(&compare, heap);
}

static void test_visit_keeps_to_its_budget(void **state)
{
    struct heap *heap = *state;
    for (unsigned i = 0; i < 1000; i++) {
        keep(heap, new_list(heap));
    }
    struct compare compare;
    compare_begin(&compare, heap);
    for (uint32_t before = 0; !visit_step(&compare.visit, heap, 7); before = compare.count) {
        assert_true(compare.count <= before + 7);
    }
    compare_end(&compare, heap);
}

static void test_visit_does_not_see_what_is_made_later(void **state)
{
    struct heap *heap = *state;
    heap_ref old = keep(heap, new_list(heap));
    struct compare compare;
    compare_begin(&compare, heap);
    drop(heap, old);
    heap_settle(heap);
    assert_int_equal(compare.count, 1);
    assert_true(visit_has_died(&compare.visit, old));
    for (unsigned i = 0; i < 3000; i++) { /* one of them lies where the old one was */
        heap_ref list = keep(heap, new_list(heap));
        link_to(heap, list, list);
        heap_list_clear(heap, list);
    }
    while (!visit_step(&compare.visit, heap, 5)) {
    }
    compare_end(&compare, heap);
}

static void test_visit_of_containers_passes_atoms_over(void **state)
{
    struct heap *heap = *state;
    heap_ref list = keep(heap, new_list(heap)), atom = keep(heap, new_int(heap, 5000));
    struct compare compare;
    compare_begin(&compare, heap);
    visit_end(&compare.visit, heap);
    compare.visit.containers_only = true;
    assert_true(visit_begin(&compare.visit, heap));
    while (!visit_step(&compare.visit, heap, 5)) {
    }
    drop(heap, atom);
    assert_int_equal(compare.count, 1);
    assert_true(compare.seen[shot_find(&compare.shot, list)]);
    compare.count = compare.shot.count;
    compare_end(&compare, heap);
}

static void test_visit_finds_a_counter_as_it_was(void **state)
{
    struct heap *heap = *state;
    heap_ref dict, key = new_str(heap, "counter");
    int64_t sum;
    OK(heap_dict_create(&dict, heap, 0));
    keep(heap, dict);
    OK(heap_dict_incr(&sum, heap, dict, key, 1000));
    struct compare compare;
    compare_begin(&compare, heap);
    heap_ref value;
    OK(heap_dict_get(&value, heap, dict, key));
    OK(heap_dict_incr(&sum, heap, dict, key, 1)); /* written over the old int, which is as dead as any */
    assert_true(visit_has_died(&compare.visit, value));
    while (!visit_step(&compare.visit, heap, 1)) {
    }
    heap_decref(heap, key);
    compare_end(&compare, heap);
}

static void one_random_walk(struct heap *heap, uint64_t seed)
{
    struct graph graph;
    graph_init(&graph, heap, seed);
    for (uint32_t i = graph_random(&graph, 60) + 5; i > 0; i--) {
        graph_grow(&graph);
    }
    for (uint32_t i = 0; i < 100; i++) {
        graph_change(&graph);
    }
    struct compare compare;
    compare_begin(&compare, heap);
    while (!visit_step(&compare.visit, heap, 1)) {
        for (uint32_t i = graph_random(&graph, 3); i > 0; i--) {
            graph_change(&graph);
        }
    }
    for (uint32_t i = 0; i < compare.shot.count; i++) {
        const struct shot_object *was = &compare.shot.objects[i];
        if (was->id != 0) {
            assert_int_equal(visit_has_died(&compare.visit, was->ref), heap_find(heap, was->id) == 0);
        }
    }
    compare_end(&compare, heap);
    graph_fini(&graph);
    collect(heap, 2);
    fixture_check(heap);
}

static void test_visit_sees_each_object_once_as_it_was(void **state)
{
    uint64_t seed = graph_seed();
    for (uint32_t i = 0; i < (fixture_is_small() ? 20u : 400u); i++) {
        one_random_walk(*state, seed + i);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_visit_sees_nothing_in_an_empty_heap),   TEST(test_visit_keeps_to_its_budget),
        TEST(test_visit_does_not_see_what_is_made_later), TEST(test_visit_of_containers_passes_atoms_over),
        TEST(test_visit_finds_a_counter_as_it_was),       TEST(test_visit_sees_each_object_once_as_it_was),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
