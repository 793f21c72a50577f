/* test_gil.c -- taking turns: mutual exclusion, requests after an interval, forced switches, figures. */
#include "heap_fixture.h"

#include <pthread.h>
#include <sched.h>
#include <time.h>

#define LONG_US 10000000u /* longer than any test waits */

static struct gil *new_gil(uint32_t interval_us)
{
    struct gil *gil = malloc(sizeof *gil);
    assert_non_null(gil);
    assert_true(gil_init(gil, interval_us));
    return gil;
}

static void free_gil(struct gil *gil)
{
    gil_fini(gil);
    free(gil);
}

static uint32_t waiting(struct gil *gil)
{
    return atomic_load(&gil->waiting);
}

/* A thread that takes the GIL once, notes that it had it, and lets go. */
struct visitor {
    struct gil *gil;
    pthread_t thread;
    atomic_bool been;
};

static void *visit(void *argument)
{
    struct visitor *visitor = argument;
    gil_acquire(visitor->gil);
    atomic_store(&visitor->been, true);
    gil_release(visitor->gil);
    return NULL;
}

static void visitor_start(struct visitor *visitor, struct gil *gil)
{
    visitor->gil = gil;
    atomic_init(&visitor->been, false);
    assert_int_equal(pthread_create(&visitor->thread, NULL, visit, visitor), 0);
}

static void visitor_join(struct visitor *visitor)
{
    assert_int_equal(pthread_join(visitor->thread, NULL), 0);
    assert_true(atomic_load(&visitor->been));
}

/* ---- alone ---- */

static void test_gil_taken_alone_is_mine_and_counted(void **state)
{
    (void)state;
    struct gil *gil = new_gil(5000);
    assert_false(gil_is_mine(gil));
    for (int i = 0; i < 100; i++) {
        gil_acquire(gil);
        assert_true(gil_is_mine(gil));
        gil_yield(gil); /* nobody asks: nothing happens */
        assert_true(gil_is_mine(gil));
        gil_release(gil);
        assert_false(gil_is_mine(gil));
    }
    struct heap_histogram_figures hold, wait;
    histogram_figures(&gil->hold, &hold);
    histogram_figures(&gil->wait, &wait);
    assert_int_equal(gil->acquisitions, 100);
    assert_int_equal(gil->contended, 0);
    assert_int_equal(gil->drop_requests, 0);
    assert_int_equal(gil->forced_switches, 0);
    assert_int_equal(hold.count, 100);
    assert_int_equal(wait.count, 100);
    assert_int_equal(wait.max_us, 0);
    free_gil(gil);
}

/* Gives up; since when it wanted the GIL is remembered and counted. */
static void *try_in_vain(void *arg)
{
    struct gil *gil = arg;
    uint64_t since_us = 0;
    assert_false(gil_acquire_within(gil, 0, &since_us));
    uint64_t first_us = since_us;
    assert_true(first_us > 0);
    assert_false(gil_acquire_within(gil, 2000, &since_us));
    assert_int_equal(since_us, first_us);
    return NULL;
}

static void test_gil_acquire_within_gives_up(void **state)
{
    (void)state;
    struct gil *gil = new_gil(1000);
    pthread_t thread;
    gil_acquire(gil);
    assert_int_equal(pthread_create(&thread, NULL, try_in_vain, gil), 0);
    pthread_join(thread, NULL);
    assert_int_equal(gil->drop_requests, 1); /* after an interval, not before */
    gil_yield(gil);                          /* who asked is gone */
    assert_true(gil_is_mine(gil));
    assert_false(atomic_load(&gil->drop_requested));
    gil_release(gil);
    uint64_t since_us = 1;
    assert_true(gil_acquire_within(gil, 0, &since_us));
    assert_int_equal(since_us, 0);
    struct heap_histogram_figures wait;
    histogram_figures(&gil->wait, &wait);
    assert_true(wait.max_us > 2000); /* since the first attempt */
    gil_release(gil);
    assert_int_equal(gil->contended, 0);
    free_gil(gil);
}

static void test_gil_two_locks_know_nothing_of_each_other(void **state)
{
    (void)state;
    struct gil *one = new_gil(5000), *two = new_gil(5000);
    gil_acquire(one);
    assert_false(gil_is_mine(two));
    gil_acquire(two);
    gil_release(one);
    assert_true(gil_is_mine(two));
    gil_release(two);
    assert_int_equal(two->acquisitions, 1);
    free_gil(one);
    free_gil(two);
}

/* ---- turns ---- */

static void test_gil_release_wakes_a_waiter_before_its_interval_is_over(void **state)
{
    (void)state;
    struct gil *gil = new_gil(LONG_US);
    struct visitor visitor;
    gil_acquire(gil);
    visitor_start(&visitor, gil);
    while (waiting(gil) == 0) {
        sched_yield();
    }
    assert_false(atomic_load(&visitor.been));
    gil_yield(gil); /* it has not asked yet */
    assert_false(atomic_load(&visitor.been));
    gil_release(gil);
    visitor_join(&visitor);
    assert_int_equal(gil->drop_requests, 0);
    assert_int_equal(gil->forced_switches, 0);
    assert_int_equal(gil->contended, 1);
    free_gil(gil);
}

static void test_gil_yield_returns_after_the_asking_thread_has_had_it(void **state)
{
    (void)state;
    struct gil *gil = new_gil(200);
    struct visitor visitor;
    gil_acquire(gil);
    visitor_start(&visitor, gil);
    while (!atomic_load(&gil->drop_requested)) {
        assert_false(atomic_load(&visitor.been));
        sched_yield();
    }
    gil_yield(gil);
    assert_true(atomic_load(&visitor.been));
    assert_true(gil_is_mine(gil));
    gil_release(gil);
    visitor_join(&visitor);
    assert_int_equal(gil->drop_requests, 1);
    assert_int_equal(gil->forced_switches, 1);
    struct heap_histogram_figures wait;
    histogram_figures(&gil->wait, &wait);
    assert_true(wait.max_us >= 200);
    free_gil(gil);
}

static void test_gil_release_that_was_asked_for_cannot_be_taken_back_first(void **state)
{
    (void)state;
    struct gil *gil = new_gil(200);
    for (int i = 0; i < 20; i++) {
        struct visitor visitor;
        gil_acquire(gil);
        visitor_start(&visitor, gil);
        while (!atomic_load(&gil->drop_requested)) {
            sched_yield();
        }
        gil_release(gil);
        gil_acquire(gil);
        assert_true(atomic_load(&visitor.been));
        gil_release(gil);
        visitor_join(&visitor);
    }
    assert_int_equal(gil->forced_switches, 20);
    free_gil(gil);
}

/* A holder that lets go and takes again without pause keeps nobody out. */
static void test_gil_greedy_thread_starves_nobody(void **state)
{
    (void)state;
    struct gil *gil = new_gil(100);
    for (int i = 0; i < 20; i++) {
        struct visitor visitor;
        gil_acquire(gil);
        visitor_start(&visitor, gil);
        while (!atomic_load(&visitor.been)) {
            gil_release(gil);
            gil_acquire(gil);
        }
        gil_release(gil);
        visitor_join(&visitor);
    }
    free_gil(gil);
}

/* Starts a visitor and comes back when it has waited for longer than GIL_PATIENCE_US, without having asked. */
static void wait_for_patience(struct visitor *visitor, struct gil *gil)
{
    visitor_start(visitor, gil);
    while (!gil_is_wanted(gil)) {
        sched_yield();
    }
    assert_false(atomic_load(&visitor->been));
    assert_false(atomic_load(&gil->drop_requested));
}

static void test_gil_release_hands_over_to_who_has_waited_long(void **state)
{
    (void)state;
    struct gil *gil = new_gil(LONG_US);
    for (int i = 0; i < 20; i++) {
        struct visitor visitor;
        gil_acquire(gil);
        assert_false(gil_is_wanted(gil));
        wait_for_patience(&visitor, gil);
        gil_release(gil);
        gil_acquire(gil);
        assert_true(atomic_load(&visitor.been));
        gil_release(gil);
        visitor_join(&visitor);
    }
    assert_int_equal(gil->drop_requests, 0);
    assert_int_equal(gil->forced_switches, 0);
    free_gil(gil);
}

static void test_gil_pass_between_operations_returns_after_the_waiter_has_had_it(void **state)
{
    (void)state;
    struct gil *gil = new_gil(LONG_US);
    struct visitor visitor;
    gil_acquire(gil);
    wait_for_patience(&visitor, gil);
    gil_yield(gil); /* within an operation only who has asked gets it */
    assert_false(atomic_load(&visitor.been));
    gil_pass(gil);
    assert_true(atomic_load(&visitor.been));
    assert_true(gil_is_mine(gil));
    assert_false(gil_is_wanted(gil));
    gil_pass(gil); /* nobody waits: nothing happens */
    assert_true(gil_is_mine(gil));
    gil_release(gil);
    visitor_join(&visitor);
    assert_int_equal(gil->forced_switches, 0);
    free_gil(gil);
}

static void test_gil_new_interval_holds_for_the_next_wait(void **state)
{
    (void)state;
    struct gil *gil = new_gil(LONG_US);
    atomic_store(&gil->interval_us, 1);
    struct visitor visitor;
    gil_acquire(gil);
    visitor_start(&visitor, gil);
    while (!atomic_load(&visitor.been)) {
        gil_yield(gil);
    }
    gil_release(gil);
    visitor_join(&visitor);
    assert_int_equal(gil->drop_requests, 1);
    free_gil(gil);
}

/* ---- many threads ---- */

struct crowd {
    struct gil *gil;
    uint64_t count; /* unprotected but for the GIL */
    uintptr_t inside;
    bool broken;
};

#define CROWD_THREADS 6
#define CROWD_ROUNDS 2000

static void crowd_step(struct crowd *crowd)
{
    crowd->broken |= crowd->inside != 0 || !gil_is_mine(crowd->gil);
    crowd->inside = gil_self();
    for (volatile int i = 0; i < 50; i++) {
    }
    crowd->broken |= crowd->inside != gil_self();
    crowd->inside = 0;
    crowd->count++;
}

static void *crowd_run(void *argument)
{
    struct crowd *crowd = argument;
    for (int i = 0; i < CROWD_ROUNDS; i++) {
        gil_acquire(crowd->gil);
        crowd_step(crowd);
        gil_yield(crowd->gil);
        crowd_step(crowd);
        gil_release(crowd->gil);
    }
    return NULL;
}

static void test_gil_lets_one_thread_in_at_a_time(void **state)
{
    (void)state;
    struct crowd crowd = {.gil = new_gil(1)};
    pthread_t threads[CROWD_THREADS];
    for (int i = 0; i < CROWD_THREADS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, crowd_run, &crowd), 0);
    }
    for (int i = 0; i < CROWD_THREADS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    }
    struct gil *gil = crowd.gil;
    assert_false(crowd.broken);
    assert_int_equal(crowd.count, 2 * CROWD_THREADS * CROWD_ROUNDS);
    assert_int_equal(waiting(gil), 0);
    assert_int_equal(atomic_load(&gil->owner), GIL_FREE);
    assert_true(gil->acquisitions >= CROWD_THREADS * CROWD_ROUNDS);
    assert_true(gil->contended <= gil->acquisitions);
    assert_true(gil->forced_switches <= gil->acquisitions);
    struct heap_histogram_figures hold;
    histogram_figures(&gil->hold, &hold);
    assert_int_equal(hold.count, gil->acquisitions);
    free_gil(gil);
}

/* ---- figures ---- */

static void test_gil_histogram_gives_upper_edges(void **state)
{
    (void)state;
    struct histogram *histogram = calloc(1, sizeof *histogram);
    struct heap_histogram_figures figures;
    histogram_figures(histogram, &figures);
    assert_int_equal(figures.count, 0);
    assert_int_equal(figures.max_us, 0);
    assert_int_equal(figures.p99_us, 0);
    for (int i = 0; i < 98; i++) {
        histogram_add(histogram, 3);
    }
    histogram_add(histogram, 100);
    histogram_figures(histogram, &figures);
    assert_int_equal(figures.count, 99);
    assert_int_equal(figures.max_us, 100);
    assert_int_equal(figures.p99_us, 100); /* the largest: its bucket ends at 128, above the maximum */
    histogram_add(histogram, 3);
    histogram_figures(histogram, &figures);
    assert_int_equal(figures.p99_us, 4); /* 1 of 100 may lie above */
    histogram_add(histogram, UINT64_MAX);
    histogram_figures(histogram, &figures);
    assert_int_equal(figures.count, 101);
    assert_int_equal(figures.max_us, UINT64_MAX);
    free(histogram);
}

static void test_gil_of_a_heap_is_entered_and_left(void **state)
{
    (void)state;
    struct heap *heap = fixture_heap();
    assert_int_equal(heap_switch_interval_us(heap), 5000);
    heap_set_switch_interval_us(heap, 1000);
    assert_int_equal(heap_switch_interval_us(heap), 1000);
    heap_enter(heap);
    assert_true(gil_is_mine(&heap->gil));
    assert_false(heap_wanted(heap));
    heap_yield(heap);
    fixture_check(heap);
    heap_leave(heap);
    assert_false(gil_is_mine(&heap->gil));
    heap_destroy(heap);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gil_taken_alone_is_mine_and_counted),
        cmocka_unit_test(test_gil_acquire_within_gives_up),
        cmocka_unit_test(test_gil_two_locks_know_nothing_of_each_other),
        cmocka_unit_test(test_gil_release_wakes_a_waiter_before_its_interval_is_over),
        cmocka_unit_test(test_gil_yield_returns_after_the_asking_thread_has_had_it),
        cmocka_unit_test(test_gil_release_that_was_asked_for_cannot_be_taken_back_first),
        cmocka_unit_test(test_gil_greedy_thread_starves_nobody),
        cmocka_unit_test(test_gil_release_hands_over_to_who_has_waited_long),
        cmocka_unit_test(test_gil_pass_between_operations_returns_after_the_waiter_has_had_it),
        cmocka_unit_test(test_gil_new_interval_holds_for_the_next_wait),
        cmocka_unit_test(test_gil_lets_one_thread_in_at_a_time),
        cmocka_unit_test(test_gil_histogram_gives_upper_edges),
        cmocka_unit_test(test_gil_of_a_heap_is_entered_and_left),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
