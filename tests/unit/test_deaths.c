/* test_deaths.c -- what dies in slices: between two of them the heap adds up, others work, and nobody can tell. */
#include "heap_fixture.h"

/* A list of `width` lists of `width` floats; the caller owns it. */
static heap_ref make_tree(struct heap *heap, unsigned width)
{
    heap_ref top = new_list(heap), leaf;
    for (unsigned i = 0; i < width; i++) {
        heap_ref list = new_list(heap);
        for (unsigned k = 0; k < width; k++) {
            OK(heap_float_create(&leaf, heap, i * 1000 + k));
            OK(heap_list_append_steal(heap, list, leaf));
        }
        OK(heap_list_append_steal(heap, top, list));
    }
    return top;
}

/* Steps until the batch is done, with the referee after each. */
static unsigned finish(struct heap *heap, const struct heap_dying *dying)
{
    unsigned steps = 0;
    while (!dying->is_done) {
        assert_true(heap_work_pending(heap));
        assert_int_equal(heap_check(heap, stderr), 0);
        heap_step(heap, 500);
        steps++;
    }
    return steps;
}

static int setup_one_object(void **state)
{
    fixture_setup(state);
    heap_set_slice(*state, 500, 1);
    return 0;
}

static int teardown_counted(void **state)
{
    struct heap_stats stats;
    heap_stats(&stats, *state);
    assert_in_range(stats.slice_objects_max, 0, 64);
    assert_in_range(stats.slice_refs_max, 0, 4096);
    return fixture_teardown(state);
}

static void test_deaths_of_a_tree_go_on_in_steps(void **state)
{
    struct heap *heap = *state;
    struct heap_dying dying;
    uint64_t freed;
    heap_decref(heap, make_tree(heap, 30));
    assert_false(heap_settle_slice(&freed, heap, &dying));
    assert_true(finish(heap, &dying) >= 30);
    assert_false(heap_work_pending(heap));
    assert_int_equal(dying.freed, 1 + 30 + 30 * 30);
}

static void test_deaths_of_one_huge_list_go_on_in_pieces(void **state)
{
    struct heap *heap = *state;
    struct heap_dying dying;
    uint64_t freed;
    enum { LENGTH = 100000 };
    heap_ref list = new_list(heap), leaf;
    for (unsigned i = 0; i < LENGTH; i++) {
        OK(heap_float_create(&leaf, heap, i));
        OK(heap_list_append_steal(heap, list, leaf));
    }
    heap_set_slice(heap, 1, 0);
    heap_decref(heap, list);
    assert_false(heap_settle_slice(&freed, heap, &dying));
    while (!dying.is_done) {
        assert_int_equal(heap_check(heap, stderr), 0);
        heap_step(heap, 1);
    }
    assert_int_equal(dying.freed, LENGTH + 1);
}

/* Clearing a huge container leaves it empty at once, and its items die in pieces. */
static void test_deaths_of_what_is_cleared_go_on_in_pieces(void **state)
{
    struct heap *heap = *state;
    struct heap_dying dying;
    uint64_t freed;
    enum { LENGTH = 5000 };
    heap_ref list = keep(heap, new_list(heap)), dict, leaf;
    OK(heap_dict_create(&dict, heap, 0));
    keep(heap, dict);
    for (unsigned i = 0; i < LENGTH; i++) {
        OK(heap_float_create(&leaf, heap, i));
        OK(heap_list_append_steal(heap, list, leaf));
        heap_ref key = new_int(heap, 1000 + i);
        OK(heap_float_create(&leaf, heap, i));
        OK(heap_dict_set_steal(heap, dict, key, leaf));
    }
    uint64_t live = fixture_live(heap);
    heap_list_clear(heap, list);
    assert_int_equal(heap_seq_len(heap, list), 0);
    assert_false(heap_settle_slice(&freed, heap, &dying));
    finish(heap, &dying);
    assert_int_equal(dying.freed, LENGTH);
    heap_dict_clear(heap, dict);
    assert_int_equal(heap_dict_len(heap, dict), 0);
    assert_false(heap_settle_slice(&freed, heap, &dying));
    finish(heap, &dying);
    assert_int_equal(dying.freed, 2 * LENGTH);
    assert_int_equal(fixture_live(heap), live - 3 * LENGTH);
    drop(heap, list);
    drop(heap, dict);
}

static void test_deaths_of_others_are_over_at_once(void **state)
{
    struct heap *heap = *state;
    struct heap_dying large, small;
    uint64_t freed;
    heap_decref(heap, make_tree(heap, 20));
    assert_false(heap_settle_slice(&freed, heap, &large));
    heap_decref(heap, new_list(heap));
    assert_true(heap_settle_slice(&freed, heap, &small));
    assert_int_equal(freed, 1);
    assert_false(large.is_done);
    finish(heap, &large);
    assert_int_equal(large.freed, 1 + 20 + 20 * 20);
}

static void test_deaths_make_ids_of_what_nobody_holds_wait(void **state)
{
    struct heap *heap = *state;
    struct heap_dying dying;
    uint64_t freed, top_id, inner_id, held_id, owned_id;
    heap_ref top = make_tree(heap, 10);
    heap_ref held = keep(heap, new_list(heap)), owned = new_list(heap);
    OK(heap_list_append_steal(heap, held, owned));
    OK(heap_id(&top_id, heap, top));
    OK(heap_id(&inner_id, heap, heap_seq_item(heap, top, 0)));
    OK(heap_id(&held_id, heap, held));
    OK(heap_id(&owned_id, heap, owned));
    heap_decref(heap, top);
    assert_false(heap_settle_slice(&freed, heap, &dying));

    assert_int_equal(heap_find(heap, top_id), 0);
    assert_int_equal(heap_take_wait(heap), HEAP_WAIT_NOTHING);
    assert_int_equal(heap_find(heap, held_id), held);
    assert_int_equal(heap_take_wait(heap), HEAP_WAIT_NOTHING);
    assert_int_equal(heap_find(heap, owned_id), 0);
    assert_int_equal(heap_take_wait(heap), HEAP_WAIT_DEATHS);
    assert_false(heap_wait_is_over(heap, HEAP_WAIT_DEATHS));
    assert_false(heap_is_still(heap));
    assert_int_equal(heap_take_wait(heap), HEAP_WAIT_COLLECTION);

    finish(heap, &dying);
    assert_true(heap_wait_is_over(heap, HEAP_WAIT_DEATHS));
    assert_true(heap_is_still(heap));
    assert_int_equal(heap_find(heap, inner_id), 0);
    assert_int_equal(heap_find(heap, owned_id), owned);
    assert_int_equal(heap_take_wait(heap), HEAP_WAIT_NOTHING);
    drop(heap, held);
}

static void test_deaths_make_weakrefs_wait(void **state)
{
    struct heap *heap = *state;
    struct heap_dying dying;
    uint64_t freed;
    heap_ref bottom = new_list(heap), chain = bottom, weakref;
    OK(heap_weakref_shared(&weakref, heap, bottom));
    keep(heap, weakref);
    for (unsigned i = 0; i < 10; i++) {
        heap_ref list = new_list(heap);
        OK(heap_list_append_steal(heap, list, chain));
        chain = list;
    }
    heap_decref(heap, chain);
    assert_false(heap_settle_slice(&freed, heap, &dying));
    assert_int_equal(heap_weakref_target(heap, weakref), 0);
    assert_int_equal(heap_take_wait(heap), HEAP_WAIT_DEATHS);
    finish(heap, &dying);
    assert_int_equal(heap_weakref_target(heap, weakref), 0);
    assert_int_equal(heap_take_wait(heap), HEAP_WAIT_NOTHING);
    drop(heap, weakref);
}

static void test_deaths_of_a_session_release_its_holds_in_steps(void **state)
{
    struct heap *heap = *state;
    enum { HOLDS = 500 };
    struct heap_session *other = heap_session_create(heap);
    for (int keep_it = 0; keep_it < 2; keep_it++) {
        struct heap_session *session = heap_session_create(heap);
        heap_ref shared = new_list(heap);
        uint64_t shared_id, own_id, released;
        OK(heap_hold(heap, other, shared));
        heap_decref(heap, shared);
        OK(heap_hold(heap, session, shared));
        OK(heap_id(&shared_id, heap, shared));
        for (unsigned i = 0; i < HOLDS; i++) {
            heap_ref list = new_list(heap);
            OK(heap_hold(heap, session, list));
            OK(heap_id(&own_id, heap, list));
            heap_decref(heap, list);
        }
        struct heap_dying dying;
        assert_false(heap_session_end(&released, heap, session, keep_it, &dying));
        assert_int_equal(released, HOLDS + 1);
        assert_int_equal(heap_find(heap, shared_id), shared);
        assert_int_equal(heap_take_wait(heap), HEAP_WAIT_NOTHING);
        struct heap_stats stats;
        heap_stats(&stats, heap);
        assert_int_equal(stats.holds, 1);
        if (keep_it) {
            assert_int_equal(heap_session_holds(session), 0);
            assert_int_equal(heap_holds_of(heap, session, shared), 0);
        }
        assert_int_equal(heap_find(heap, own_id), 0);
        assert_int_equal(heap_take_wait(heap), HEAP_WAIT_DEATHS);
        assert_true(finish(heap, &dying) >= HOLDS);
        assert_int_equal(dying.freed, HOLDS);
        assert_int_equal(heap_find(heap, own_id), 0);
        assert_int_equal(heap_refcount(heap, shared), 1);
        OK(heap_unhold(heap, other, shared));
        heap_settle(heap);
        if (keep_it) {
            heap_session_destroy(heap, session);
        }
    }
}

/* A finalizer that waits in one batch runs when that batch comes to it, and what it brings back lives. */
static void test_deaths_run_their_own_finalizers(void **state)
{
    struct heap *heap = *state;
    struct heap_dying first, second;
    uint64_t freed;
    heap_ref top = make_tree(heap, 10), last = new_list(heap);
    const struct heap_finalizer back = {.resurrect_as = {"back", 4}};
    OK(heap_finalizer_set(heap, NULL, last, &back));
    OK(heap_list_append_steal(heap, top, last));
    heap_decref(heap, top);
    assert_false(heap_settle_slice(&freed, heap, &first));
    heap_decref(heap, make_tree(heap, 5));
    assert_false(heap_settle_slice(&freed, heap, &second));
    assert_int_equal(heap_name_find(heap, "back", 4), 0);
    finish(heap, &first);
    assert_int_equal(heap_name_find(heap, "back", 4), last);
    assert_int_equal(first.freed, 1 + 10 + 10 * 10);
    finish(heap, &second);
    assert_int_equal(second.freed, 1 + 5 + 5 * 5);
    OK(heap_name_unbind(heap, "back", 4));
}

/* The heap goes while something is still dying. */
static void test_deaths_end_with_the_heap(void **state)
{
    (void)state;
    struct heap *heap = fixture_heap();
    heap_enter(heap);
    heap_set_slice(heap, 500, 1);
    struct heap_session *session = heap_session_create(heap);
    for (unsigned i = 0; i < 10; i++) {
        heap_ref tree = make_tree(heap, 3);
        OK(heap_hold(heap, session, tree));
        heap_decref(heap, tree);
    }
    struct heap_dying dying;
    uint64_t released;
    assert_false(heap_session_end(&released, heap, session, false, &dying));
    assert_int_equal(heap_check(heap, stderr), 0);
    heap_leave(heap);
    heap_destroy(heap);
    assert_true(dying.is_done);
}

/* What may become of a str that is found in the interned table while its finalizer waits. */
enum meeting { DIES_AGAIN, LOSES_ITS_FINALIZER, GETS_ANOTHER, LIVES, MEETINGS };

enum { STRS = 3 };

/* One of the strs, which wait in the line of the deaths that are put down, is found by its text. */
static void meet_one_of_the_dying(struct heap *heap, unsigned which, enum meeting meeting)
{
    static const char *const texts[STRS] = {"text-0", "text-1", "text-2"};
    const struct heap_finalizer finalizer = {.token = {"t", 1}};
    struct heap_dying dying;
    struct heap_stats before, after;
    uint64_t freed;
    heap_ref list = new_list(heap), found;
    heap_stats(&before, heap);
    for (unsigned i = 0; i < STRS; i++) {
        OK(heap_str_intern(&found, heap, texts[i], strlen(texts[i])));
        OK(heap_finalizer_set(heap, NULL, found, &finalizer));
        OK(heap_list_append_steal(heap, list, found));
    }
    heap_decref(heap, list);
    assert_false(heap_settle_slice(&freed, heap, &dying));
    OK(heap_str_intern(&found, heap, texts[which], strlen(texts[which])));
    if (meeting == LOSES_ITS_FINALIZER) {
        assert_true(heap_finalizer_clear(heap, found));
    } else if (meeting == GETS_ANOTHER) {
        OK(heap_finalizer_set(heap, NULL, found, &finalizer));
    }
    if (meeting == LIVES) {
        OK(heap_hold(heap, heap->sessions, found));
    }
    heap_decref(heap, found);
    heap_settle(heap);
    finish(heap, &dying);
    if (meeting == LIVES) {
        OK(heap_unhold(heap, heap->sessions, found));
        assert_int_equal(heap_settle(heap), 1);
    }
    heap_stats(&after, heap);
    assert_int_equal(after.type_objects[HEAP_T_STR], before.type_objects[HEAP_T_STR]);
}

/* The interned table is a way to those that wait, past their ids: leaving the line they must not break it. */
static void test_deaths_interned_str_is_met_again(void **state)
{
    assert_non_null(heap_session_create(*state));
    for (unsigned which = 0; which < STRS; which++) {
        for (enum meeting meeting = DIES_AGAIN; meeting < MEETINGS; meeting++) {
            meet_one_of_the_dying(*state, which, meeting);
        }
    }
}

/* The checker of the batches sees damage. */
static void test_deaths_checker_finds_a_live_object_among_the_dying(void **state)
{
    struct heap *heap = *state;
    struct heap_dying dying;
    uint64_t freed;
    heap_decref(heap, make_tree(heap, 10));
    assert_false(heap_settle_slice(&freed, heap, &dying));
    assert_int_not_equal(dying.first, 0);
    FILE *nowhere = fopen("/dev/null", "w");
    object_at(heap, dying.first)->flags &= (uint8_t)~FLAG_DEAD;
    assert_int_not_equal(dying_check(heap, nowhere), 0);
    object_at(heap, dying.first)->flags |= FLAG_DEAD;
    dying.last ^= 2;
    assert_int_not_equal(dying_check(heap, nowhere), 0);
    dying.last ^= 2;
    fclose(nowhere);
    finish(heap, &dying);
}

/* And a line of finalizers with one that it does not have. */
static void test_deaths_checker_finds_a_finalizer_out_of_line(void **state)
{
    struct heap *heap = *state;
    const struct heap_finalizer finalizer = {.token = {"t", 1}};
    struct heap_dying dying;
    uint64_t freed;
    heap_ref list = new_list(heap);
    for (unsigned i = 0; i < 2; i++) {
        heap_ref child = new_list(heap);
        OK(heap_finalizer_set(heap, NULL, child, &finalizer));
        OK(heap_list_append_steal(heap, list, child));
    }
    heap_decref(heap, list);
    assert_false(heap_settle_slice(&freed, heap, &dying));
    void *first = dying.finalizers[0], *last = dying.finalizers[1];
    assert_ptr_not_equal(first, last);
    FILE *nowhere = fopen("/dev/null", "w");
    dying.finalizers[0] = last;
    assert_int_not_equal(heap_check(heap, nowhere), 0);
    dying.finalizers[0] = first;
    dying.finalizers[1] = first;
    assert_int_not_equal(heap_check(heap, nowhere), 0);
    dying.finalizers[1] = last;
    fclose(nowhere);
    finish(heap, &dying);
}

#define DEATHS(name) cmocka_unit_test_setup_teardown(name, setup_one_object, teardown_counted)

int main(void)
{
    const struct CMUnitTest tests[] = {
        DEATHS(test_deaths_of_a_tree_go_on_in_steps),
        DEATHS(test_deaths_of_one_huge_list_go_on_in_pieces),
        DEATHS(test_deaths_of_what_is_cleared_go_on_in_pieces),
        DEATHS(test_deaths_of_others_are_over_at_once),
        DEATHS(test_deaths_make_ids_of_what_nobody_holds_wait),
        DEATHS(test_deaths_make_weakrefs_wait),
        DEATHS(test_deaths_of_a_session_release_its_holds_in_steps),
        DEATHS(test_deaths_run_their_own_finalizers),
        cmocka_unit_test(test_deaths_end_with_the_heap),
        DEATHS(test_deaths_interned_str_is_met_again),
        DEATHS(test_deaths_checker_finds_a_live_object_among_the_dying),
        DEATHS(test_deaths_checker_finds_a_finalizer_out_of_line),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
