/* test_deaths_large.c -- what dies in slices when it is large: graphs, sessions, clears, names, buffers. */
#include "heap_fixture.h"
#include "../../heap/pymalloc_private.h"
#include "../../heap/shape.h"

#define SLICE_US 500

/* A number for ordinary runs, and one for those that may take long. */
static uint32_t sized(uint32_t usual, uint32_t when_long)
{
    return fixture_is_small() ? usual / 10 : getenv("LONG") != NULL ? when_long : usual;
}

static uint64_t random_state;

static uint32_t random_below(uint32_t n)
{
    random_state = random_state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)((random_state >> 33) % n);
}

static int setup_random(void **state)
{
    const char *seed = getenv("SEED");
    random_state = seed != NULL ? strtoull(seed, NULL, 0) : 20261123;
    printf("SEED=%llu\n", (unsigned long long)random_state);
    *state = heap_create(&(struct heap_config){.reserve_bytes = (uint64_t)2 << 30});
    assert_non_null(*state);
    heap_enter(*state);
    heap_gc_enable(*state, false);
    return 0;
}

/* What may be done between two looks at the clock is bounded always. */
static int teardown_counted(void **state)
{
    struct heap_stats stats;
    while (heap_step(*state, SLICE_US)) {
    }
    heap_stats(&stats, *state);
    assert_in_range(stats.slice_objects_max, 0, 64);
    assert_in_range(stats.slice_refs_max, 0, 4096);
    return fixture_teardown(state);
}

/* A tree of `count` lists, each in a random earlier one.  Returns: new. */
static heap_ref random_tree(struct heap *heap, uint32_t count)
{
    heap_ref *nodes = malloc(count * sizeof *nodes);
    assert_non_null(nodes);
    nodes[0] = new_list(heap);
    for (uint32_t i = 1; i < count; i++) {
        nodes[i] = new_list(heap);
        OK(heap_list_append_steal(heap, nodes[random_below(i)], nodes[i]));
    }
    heap_ref top = nodes[0];
    free(nodes);
    return top;
}

/* What a client may do while others' objects die: it makes, drops, finds. */
static void work_between(struct heap *heap, uint64_t held_id, heap_ref held, uint64_t owned_id)
{
    uint64_t freed;
    struct heap_dying dying;
    heap_ref list = new_list(heap);
    link_to(heap, list, held);
    heap_decref(heap, list);
    assert_true(heap_settle_slice(&freed, heap, &dying)); /* small deaths are over at once */
    assert_int_equal(freed, 1);
    assert_int_equal(heap_find(heap, held_id), held);
    assert_int_equal(heap_take_wait(heap), HEAP_WAIT_NOTHING);
    assert_int_equal(heap_find(heap, owned_id), 0);
    assert_int_equal(heap_take_wait(heap), HEAP_WAIT_DEATHS);
}

static void test_deaths_large_graph_lets_others_work(void **state)
{
    struct heap *heap = *state;
    uint32_t count = sized(300000, 5000000), steps = 0;
    struct heap_dying dying;
    uint64_t freed, held_id, owned_id, top_id;
    heap_ref held = keep(heap, new_list(heap)), owned = new_list(heap), top = random_tree(heap, count);
    link_to(heap, held, owned);
    heap_decref(heap, owned);
    OK(heap_id(&held_id, heap, held));
    OK(heap_id(&owned_id, heap, owned));
    OK(heap_id(&top_id, heap, top));
    uint64_t live = fixture_live(heap);
    heap_decref(heap, top);
    assert_false(heap_settle_slice(&freed, heap, &dying));
    while (!dying.is_done) {
        work_between(heap, held_id, held, owned_id);
        assert_int_equal(heap_find(heap, top_id), 0); /* dead is dead: nothing to wait for */
        assert_int_equal(heap_take_wait(heap), HEAP_WAIT_NOTHING);
        if (steps++ % 16 == 0) {
            fixture_check(heap);
        }
        heap_step(heap, SLICE_US);
    }
    assert_int_equal(dying.freed, count);
    assert_int_equal(fixture_live(heap), live - count);
    assert_true(steps > 3);
    assert_int_equal(heap_find(heap, owned_id), owned);
    drop(heap, held);
}

struct holders {
    uint64_t sessions[4];
    unsigned count;
};

static void note_holder(void *arg, uint64_t session, uint64_t holds)
{
    struct holders *holders = arg;
    (void)holds;
    assert_true(holders->count < 4);
    holders->sessions[holders->count++] = session;
}

/* Holds of the ended session count for nobody from the first moment on, however long they take to go. */
static void test_deaths_large_session_holds_nothing_at_once(void **state)
{
    struct heap *heap = *state;
    uint32_t count = sized(100000, 1000000), steps = 0;
    struct heap_session *session = heap_session_create(heap), *other = heap_session_create(heap);
    heap_ref shared = new_list(heap);
    uint64_t shared_id, released;
    OK(heap_id(&shared_id, heap, shared));
    OK(heap_hold(heap, other, shared));
    heap_decref(heap, shared);
    for (uint32_t i = 0; i < count; i++) {
        heap_ref list = new_list(heap);
        OK(heap_hold(heap, session, list));
        OK(heap_hold(heap, session, i % 2 == 0 ? list : shared));
        heap_decref(heap, list);
    }
    OK(heap_hold(heap, session, heap_none(heap)));
    struct heap_dying dying;
    assert_false(heap_session_end(&released, heap, session, false, &dying));
    assert_int_equal(released, 2 * count + 1);
    while (!dying.is_done) {
        struct holders holders = {0};
        struct heap_stats stats;
        heap_stats(&stats, heap);
        assert_int_equal(stats.sessions, 1);
        assert_int_equal(stats.holds, 1);
        heap_holders_of(heap, shared, note_holder, &holders);
        assert_int_equal(holders.count, 1);
        assert_int_equal(holders.sessions[0], heap_session_number(other));
        assert_int_equal(heap_find(heap, shared_id), shared);
        if (steps++ % 16 == 0) {
            fixture_check(heap);
        }
        heap_step(heap, SLICE_US);
    }
    assert_int_equal(dying.freed, count);
    assert_int_equal(heap_refcount(heap, shared), 1);
    assert_int_equal(fixture_live(heap), 1);
    assert_true(steps > 3);
}

/* A map of holds that has just grown is mostly empty places, which take time to pass over, too. */
static void test_deaths_large_session_with_few_holds_in_a_large_map(void **state)
{
    struct heap *heap = *state;
    enum { ROOM = 1 << 16 };
    struct heap_session *session = heap_session_create(heap);
    uint64_t released;
    for (unsigned i = 0; i < ROOM - ROOM / 4 + 2; i++) {
        heap_ref list = new_list(heap);
        OK(heap_hold(heap, session, list));
        heap_decref(heap, list);
    }
    struct heap_dying dying;
    struct heap_stats stats;
    if (!heap_session_end(&released, heap, session, false, &dying)) {
        while (!dying.is_done) {
            heap_step(heap, SLICE_US);
        }
    }
    heap_stats(&stats, heap);
    assert_in_range(stats.slice_refs_max, 1024, 4096); /* the clock was asked on the way */
}

/* What two that are dying refer to dies with the later. */
static void test_deaths_large_graphs_share_what_dies_last(void **state)
{
    struct heap *heap = *state;
    struct heap_dying first, second;
    uint64_t freed, id;
    heap_ref shared = new_list(heap), a = random_tree(heap, 2000), b = random_tree(heap, 3000);
    link_to(heap, a, shared);
    link_to(heap, b, shared);
    OK(heap_id(&id, heap, shared));
    heap_decref(heap, shared);
    heap_set_slice(heap, SLICE_US, 10);
    heap_decref(heap, a);
    assert_false(heap_settle_slice(&freed, heap, &first));
    heap_decref(heap, b);
    assert_false(heap_settle_slice(&freed, heap, &second));
    while (!second.is_done) {
        assert_true(first.is_done || second.freed < 100); /* the oldest first */
        assert_int_equal(heap_find(heap, id), 0);
        fixture_check(heap);
        heap_step(heap, SLICE_US);
    }
    assert_int_equal(first.freed, 2000);
    assert_int_equal(second.freed, 3001);
    assert_int_equal(heap_find(heap, id), 0);
    assert_int_equal(heap_take_wait(heap), HEAP_WAIT_NOTHING);
}

/* ---- finalizers ---- */

struct tokens {
    char text[32];
    unsigned count;
};

static void note_token(void *arg, const struct heap_event *event)
{
    struct tokens *tokens = arg;
    if (event->kind == HEAP_EVENT_FINALIZED) {
        assert_true(tokens->count < sizeof tokens->text - 1);
        tokens->text[tokens->count++] = event->token[0];
    }
}

static void add_finalizable(struct heap *heap, struct heap_session *session, heap_ref to, const char *token)
{
    const struct heap_finalizer finalizer = {.token = {token, 1}};
    heap_ref list = new_list(heap);
    OK(heap_finalizer_set(heap, session, list, &finalizer));
    OK(heap_list_append_steal(heap, to, list));
}

/* Finalizers of each operation run in the order of the deaths, those of an earlier operation before its `freed` is
 * told, and never among those of another. */
static void test_deaths_large_run_finalizers_in_order(void **state)
{
    struct heap *heap = *state;
    struct heap_session *session = heap_session_create(heap);
    struct tokens tokens = {0};
    struct heap_dying first, second;
    uint64_t freed;
    heap_set_observer(heap, &(struct heap_observer){.event = note_token, .arg = &tokens});
    heap_set_slice(heap, SLICE_US, 1);
    heap_ref a = random_tree(heap, 50), b = random_tree(heap, 50), c = new_list(heap);
    add_finalizable(heap, session, a, "3");
    add_finalizable(heap, session, a, "2");
    add_finalizable(heap, session, a, "1");
    add_finalizable(heap, session, b, "5");
    add_finalizable(heap, session, b, "4");
    add_finalizable(heap, session, c, "0");
    heap_decref(heap, a);
    assert_false(heap_settle_slice(&freed, heap, &first));
    heap_decref(heap, b);
    assert_false(heap_settle_slice(&freed, heap, &second));
    heap_set_slice(heap, SLICE_US, 0);
    heap_decref(heap, c);
    assert_int_equal(heap_settle(heap), 2);
    heap_set_slice(heap, SLICE_US, 1);
    assert_string_equal(tokens.text, "0");
    while (!first.is_done) {
        fixture_check(heap);
        heap_step(heap, SLICE_US);
    }
    assert_int_equal(first.freed, 53);
    while (!second.is_done) {
        fixture_check(heap);
        heap_step(heap, SLICE_US);
    }
    assert_int_equal(second.freed, 52);
    assert_string_equal(tokens.text, "012345"); /* a list is taken apart from its end */
    heap_set_observer(heap, &(struct heap_observer){0});
}

/* ---- clears ---- */

/* Steps to the end of what settling has left, if it has; returns how many objects died. */
static uint64_t settle_in_steps(struct heap *heap, bool *in_steps)
{
    struct heap_dying dying;
    uint64_t freed;
    *in_steps = !heap_settle_slice(&freed, heap, &dying);
    while (*in_steps && !dying.is_done) {
        fixture_check(heap);
        heap_step(heap, SLICE_US);
    }
    return *in_steps ? dying.freed : freed;
}

/* Without memory for somebody who dies in its place, the container drops its items at once; they die in slices all the
 * same. */
static void test_deaths_large_clear_needs_no_memory(void **state)
{
#if HEAP_DEBUG >= 1
    struct heap *heap = *state;
    heap_ref list = keep(heap, new_list(heap));
    bool in_steps;
    for (unsigned i = 0; i < 2000; i++) {
        OK(heap_list_append_steal(heap, list, new_list(heap)));
    }
    heap_set_slice(heap, SLICE_US, 100);
    pymalloc_trim(&heap->pm);
    heap->pm.fail_after = 1;
    heap_list_clear(heap, list);
    heap->pm.fail_after = 0;
    assert_int_equal(heap_seq_len(heap, list), 0);
    assert_int_equal(settle_in_steps(heap, &in_steps), 2000);
    assert_true(in_steps);
    drop(heap, list);
#else
    (void)state;
    puts("skipped: no fault injection in this build");
    skip();
#endif
}

static void test_deaths_large_garbage_goes_in_steps(void **state)
{
    struct heap *heap = *state;
    enum { COUNT = 3000 };
    heap_gc_set_debug(heap, HEAP_GC_SAVEALL);
    for (unsigned i = 0; i < COUNT; i++) {
        heap_ref list = new_list(heap);
        link_to(heap, list, list);
        heap_decref(heap, list);
    }
    assert_int_equal(collect(heap, 2), COUNT);
    heap_gc_set_debug(heap, 0);
    assert_int_equal(heap_garbage_len(heap), COUNT);
    for (unsigned i = 0; i < COUNT; i++) {
        heap_list_clear(heap, heap_garbage_item(heap, i));
    }
    heap_set_slice(heap, SLICE_US, 100);
    bool in_steps;
    heap_garbage_clear(heap);
    assert_int_equal(heap_garbage_len(heap), 0);
    assert_int_equal(settle_in_steps(heap, &in_steps), COUNT);
    assert_true(in_steps);
    assert_int_equal(fixture_live(heap), 0);
}

/* ---- instances with very many attributes ---- */

static void set_attributes(struct heap *heap, heap_ref instance, uint32_t count)
{
    char name[16];
    for (uint32_t i = 0; i < count; i++) {
        size_t len = (size_t)snprintf(name, sizeof name, "a%u", i);
        OK(heap_attr_set_steal(heap, instance, name, len, new_list(heap)));
    }
}

static void test_deaths_large_instance_leaves_in_steps(void **state)
{
    struct heap *heap = *state;
    enum { COUNT = 3000 };
    heap_ref class, instance;
    bool in_steps;
    OK(heap_class_create(&class, heap, (struct heap_text){"Large", 5}, NULL, 0));
    keep(heap, class);
    for (unsigned is_cleared = 0; is_cleared < 2; is_cleared++) {
        OK(heap_instance_create(&instance, heap, class, 0));
        keep(heap, instance);
        set_attributes(heap, instance, COUNT);
        heap_set_slice(heap, SLICE_US, 100);
        if (is_cleared) {
            instance_clear(heap, instance);
            assert_int_equal(heap_attr_count(heap, instance), 0);
            assert_int_equal(settle_in_steps(heap, &in_steps), COUNT);
            assert_true(in_steps);
            set_attributes(heap, instance, 40); /* while its old names are still going */
            fixture_check(heap);
        }
        drop(heap, instance);
        assert_int_equal(settle_in_steps(heap, &in_steps), is_cleared ? 41 : COUNT + 1);
        unsigned steps = 0;
        while (heap_step(heap, SLICE_US)) { /* names */
            fixture_check(heap);
            steps++;
        }
        assert_true(steps >= COUNT / 100 - 1);
        assert_int_equal(symbol_find(heap, "a2999", 5), 0);
        heap_set_slice(heap, SLICE_US, 0);
    }
    drop(heap, class);
}

/* The heap goes while names are leaving. */
static void test_deaths_large_instance_leaves_with_the_heap(void **state)
{
    (void)state;
    struct heap *heap = fixture_heap();
    heap_enter(heap);
    heap_ref class, instance;
    OK(heap_class_create(&class, heap, (struct heap_text){"Large", 5}, NULL, 0));
    OK(heap_instance_create(&instance, heap, class, 0));
    set_attributes(heap, instance, 1000);
    heap_decref(heap, class);
    heap_decref(heap, instance);
    assert_int_equal(heap_settle(heap), 1002);
    assert_true(heap_work_pending(heap));
    heap_leave(heap);
    heap_destroy(heap);
}

/* ---- buffers ---- */

/* The buffer of a huge list goes to the kernel in pieces, after everything else. */
static void test_deaths_large_buffers_are_released_in_steps(void **state)
{
    struct heap *heap = *state;
    if (MAPPED_BYTES_MIN == SIZE_MAX) {
        puts("skipped: all buffers are malloc's under AddressSanitizer");
        skip();
    }
    enum { COUNT = 2000000 };
    heap_ref list = new_list(heap);
    for (uint32_t i = 0; i < COUNT; i++) {
        OK(heap_list_append_steal(heap, list, heap_none(heap)));
    }
    while (heap_step(heap, SLICE_US)) {
    }
    heap_decref(heap, list);
    assert_int_equal(heap_settle(heap), 1);
    struct heap_stats stats;
    heap_stats(&stats, heap);
    assert_int_equal(stats.raw_bytes, 0);
    unsigned steps = 1;
    while (heap_step(heap, SLICE_US)) {
        steps++;
    }
    assert_true(steps >= COUNT * sizeof(uint32_t) / ARENA_BYTES);
}

#define LARGE(name) cmocka_unit_test_setup_teardown(name, setup_random, teardown_counted)

int main(void)
{
    const struct CMUnitTest tests[] = {
        LARGE(test_deaths_large_graph_lets_others_work),
        LARGE(test_deaths_large_session_holds_nothing_at_once),
        LARGE(test_deaths_large_session_with_few_holds_in_a_large_map),
        LARGE(test_deaths_large_graphs_share_what_dies_last),
        LARGE(test_deaths_large_run_finalizers_in_order),
        LARGE(test_deaths_large_clear_needs_no_memory),
        LARGE(test_deaths_large_garbage_goes_in_steps),
        LARGE(test_deaths_large_instance_leaves_in_steps),
        cmocka_unit_test(test_deaths_large_instance_leaves_with_the_heap),
        LARGE(test_deaths_large_buffers_are_released_in_steps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
