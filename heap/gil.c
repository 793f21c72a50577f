/* gil.c -- the global lock of a heap: one owner word, a queue of sleepers, CPython's way of taking turns.
 *
 *   owner word   GIL_FREE -> thread -> GIL_FREE       by compare-and-swap alone while nobody waits
 *                thread -> GIL_RESERVED -> thread     when a waiter asked for it
 *
 * Taking turns.  Who finds the GIL held sleeps on `freed` for at most the switch interval.  When that is over
 * and the holder is still the same, the waiter sets `drop_requested`.  The holder sees this at its next
 * safe point (gil_yield() between operations and between slices, or gil_release()) and lets go with the
 * word GIL_RESERVED, which everybody may take but the thread that let go: the switch is forced, for without
 * it that thread, being awake, would win the GIL back before the waiter has woken up.
 *
 * Starving.  The interval runs from the moment the waiter began to wait for this holder, and is not prolonged
 * by being woken in vain, so that a holder that lets go and comes back a thousand times within it
 * is asked all the same.  Among waiters the condition variable chooses.
 *
 * Patience.  Letting go for a waiter that has to be woken first costs more than most operations, so who lets go
 * may win the GIL back; but not from somebody who has waited GIL_PATIENCE_US: then it is handed over, unasked, when
 * the holder lets go (gil_release()) or is between two operations (gil_is_wanted(), gil_pass()).  The interval is for
 * what holds the GIL longer than that in one piece.
 *
 * Invariants: `waiting` counts the threads inside wait_in_line(); GIL_RESERVED is stored only under the mutex
 * and only while another thread waits, so it is always taken.
 * No wake-up is lost: a waiter raises `waiting` before it looks at the owner word, the holder clears the
 * owner word before it looks at `waiting`, both sequentially consistent; the waiter keeps the mutex from its
 * look until it sleeps.
 * Start at gil_acquire() and gil_release().
 */
#include "gil.h"

#include "clock.h"
#include "heap_internal.h"

#include <errno.h>
#include <time.h>

_Thread_local char gil_thread_mark[8];

/* ---- time ---- */

static struct timespec timespec_of_us(uint64_t us)
{
    return (struct timespec){.tv_sec = (time_t)(us / 1000000u), .tv_nsec = (long)(us % 1000000u) * 1000};
}

/* ---- histograms ---- */

void histogram_add(struct histogram *histogram, uint64_t us)
{
    unsigned bucket = us == 0 ? 0 : 64u - (unsigned)__builtin_clzll(us);
    if (bucket >= HEAP_HISTOGRAM_BUCKETS) {
        bucket = HEAP_HISTOGRAM_BUCKETS - 1;
    }
    counter_add(&histogram->buckets[bucket], 1);
    counter_add(&histogram->count, 1);
    counter_add(&histogram->sum_us, us);
    if (us > counter_read(&histogram->max_us)) {
        atomic_store_explicit(&histogram->max_us, us, memory_order_relaxed);
    }
}

/* The 99th percentile is the upper edge of its bucket, or the maximum where that is lower. */
void histogram_figures(const struct histogram *histogram, struct heap_histogram_figures *figures)
{
    uint64_t *buckets = figures->buckets;
    uint64_t count = 0; /* of these buckets: the writer goes on meanwhile */
    for (unsigned b = 0; b < HEAP_HISTOGRAM_BUCKETS; b++) {
        buckets[b] = counter_read(&histogram->buckets[b]);
        count += buckets[b];
    }
    figures->count = count;
    figures->sum_us = counter_read(&histogram->sum_us);
    figures->max_us = counter_read(&histogram->max_us);
    figures->p99_us = 0;
    uint64_t above = count / 100; /* so many may lie above the percentile */
    uint64_t seen = 0;
    for (unsigned b = 0; b < HEAP_HISTOGRAM_BUCKETS && count > 0; b++) {
        seen += buckets[b];
        if (seen >= count - above) {
            uint64_t edge = (uint64_t)1 << b;
            figures->p99_us = edge < figures->max_us ? edge : figures->max_us;
            break;
        }
    }
}

/* ---- life ---- */

bool gil_init(struct gil *gil, uint32_t interval_us)
{
    memset(gil, 0, sizeof *gil);
    atomic_store(&gil->interval_us, interval_us);
    pthread_condattr_t monotonic;
    if (pthread_condattr_init(&monotonic) != 0) {
        return false;
    }
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    bool ok = false;
    if (pthread_mutex_init(&gil->mutex, NULL) != 0) {
        goto fail_mutex;
    }
    if (pthread_cond_init(&gil->freed, &monotonic) != 0) {
        goto fail_freed;
    }
    if (pthread_cond_init(&gil->taken, &monotonic) != 0) {
        goto fail_taken;
    }
    ok = true;
    goto done;

fail_taken:
    pthread_cond_destroy(&gil->freed);
fail_freed:
    pthread_mutex_destroy(&gil->mutex);
fail_mutex:
done:
    pthread_condattr_destroy(&monotonic);
    return ok;
}

void gil_fini(struct gil *gil)
{
    HEAP_ASSERT(atomic_load(&gil->owner) == GIL_FREE);
    HEAP_ASSERT(atomic_load(&gil->waiting) == 0);
    pthread_cond_destroy(&gil->taken);
    pthread_cond_destroy(&gil->freed);
    pthread_mutex_destroy(&gil->mutex);
}

/* ---- taking ---- */

/* What the new holder notes down. */
static void note_taken(struct gil *gil, uintptr_t self, uint64_t began_us, uint64_t now)
{
    if (atomic_load_explicit(&gil->last_holder, memory_order_relaxed) != self) {
        atomic_store_explicit(&gil->last_holder, self, memory_order_relaxed);
        counter_add(&gil->switch_number, 1);
    }
    counter_add(&gil->acquisitions, 1);
    histogram_add(&gil->wait, now - began_us);
    gil->taken_at_us = now;
}

/* One attempt of a waiter, under the mutex. */
static bool try_take(struct gil *gil, uintptr_t self)
{
    uintptr_t owner = atomic_load(&gil->owner);
    if (owner == GIL_RESERVED && atomic_load_explicit(&gil->last_holder, memory_order_relaxed) == self) {
        return false;
    }
    return (owner == GIL_FREE || owner == GIL_RESERVED) &&
           atomic_compare_exchange_strong(&gil->owner, &owner, self);
}

/* The waiter has waited an interval for one and the same holder. */
static void request_drop(struct gil *gil)
{
    if (!atomic_load_explicit(&gil->drop_requested, memory_order_relaxed)) {
        counter_add(&gil->drop_requests, 1);
        atomic_store_explicit(&gil->drop_requested, true, memory_order_relaxed);
    }
}

/* Sleeps under the mutex until this thread, which has waited since `began_us`, holds the GIL.  false: `until_us` has
 * come first. */
static bool wait_in_line(struct gil *gil, uintptr_t self, uint64_t began_us, uint64_t until_us)
{
    if (atomic_load_explicit(&gil->waiting, memory_order_relaxed) == 0) {
        atomic_store_explicit(&gil->waiting_since_us, began_us, memory_order_relaxed);
    }
    atomic_fetch_add(&gil->waiting, 1);
    while (atomic_load(&gil->owner) == GIL_RESERVED &&
           atomic_load_explicit(&gil->last_holder, memory_order_relaxed) == self) {
        pthread_cond_wait(&gil->taken, &gil->mutex);
    }
    uint64_t seen = counter_read(&gil->switch_number);
    uint64_t now = clock_us();
    uint64_t deadline_us = (until_us == UINT64_MAX ? now : began_us) +
                           atomic_load_explicit(&gil->interval_us, memory_order_relaxed);
    bool taken;
    while (!(taken = try_take(gil, self)) && now < until_us) {
        struct timespec deadline = timespec_of_us(deadline_us < until_us ? deadline_us : until_us);
        bool late = pthread_cond_timedwait(&gil->freed, &gil->mutex, &deadline) == ETIMEDOUT;
        now = clock_us();
        late = late && now >= deadline_us;
        uint64_t now_number = counter_read(&gil->switch_number);
        if (late && now_number == seen) {
            request_drop(gil);
        }
        if (late || now_number != seen) {
            seen = now_number;
            deadline_us = now + atomic_load_explicit(&gil->interval_us, memory_order_relaxed);
        }
    }
    atomic_fetch_sub(&gil->waiting, 1);
    atomic_store_explicit(&gil->waiting_since_us, now, memory_order_relaxed);
    if (taken) {
        counter_add(&gil->contended, 1);
        atomic_store_explicit(&gil->drop_requested, false, memory_order_relaxed);
        note_taken(gil, self, began_us, now);
        pthread_cond_broadcast(&gil->taken);
    }
    return taken;
}

/* gil_acquire() until then. */
static bool acquire_until(struct gil *gil, uint64_t now, uint64_t began_us, uint64_t until_us)
{
    uintptr_t self = gil_self();
    uintptr_t owner = GIL_FREE;
    if (likely(atomic_compare_exchange_strong(&gil->owner, &owner, self))) {
        note_taken(gil, self, began_us, now);
        return true;
    }
    HEAP_ASSERT(owner != self);
    pthread_mutex_lock(&gil->mutex);
    bool taken = wait_in_line(gil, self, began_us, until_us);
    pthread_mutex_unlock(&gil->mutex);
    return taken;
}

void gil_acquire(struct gil *gil)
{
    uint64_t now = clock_us();
    (void)acquire_until(gil, now, now, UINT64_MAX);
}

bool gil_acquire_within(struct gil *gil, uint32_t us, uint64_t *since_us)
{
    uint64_t now = clock_us();
    if (*since_us == 0) {
        *since_us = now;
    }
    bool taken = acquire_until(gil, now, *since_us, now + us);
    if (taken) {
        *since_us = 0;
    }
    return taken;
}

/* ---- letting go ---- */

/* Whether a waiter has asked, or waited for too long; somebody waits, or did a moment ago. */
static bool waiter_is_impatient(const struct gil *gil, uint64_t now)
{
    return atomic_load_explicit(&gil->drop_requested, memory_order_relaxed) ||
           now >= atomic_load_explicit(&gil->waiting_since_us, memory_order_relaxed) + GIL_PATIENCE_US;
}

bool gil_waiter_is_impatient(const struct gil *gil)
{
    return waiter_is_impatient(gil, clock_us());
}

/* Lets go for a waiter, under the mutex.  false: nobody waits any more, and the GIL is still held. */
static bool hand_over(struct gil *gil)
{
    if (atomic_load(&gil->waiting) == 0) {
        atomic_store_explicit(&gil->drop_requested, false, memory_order_relaxed);
        return false;
    }
    histogram_add(&gil->hold, clock_us() - gil->taken_at_us);
    counter_add(&gil->forced_switches, atomic_load_explicit(&gil->drop_requested, memory_order_relaxed));
    atomic_store(&gil->owner, GIL_RESERVED);
    pthread_cond_signal(&gil->freed);
    return true;
}

static bool release_for_waiter(struct gil *gil)
{
    pthread_mutex_lock(&gil->mutex);
    bool handed = hand_over(gil);
    pthread_mutex_unlock(&gil->mutex);
    return handed;
}

void gil_release(struct gil *gil)
{
    HEAP_ASSERT(gil_is_mine(gil));
    uint64_t now = clock_us();
    if (unlikely(gil_has_waiters(gil)) && waiter_is_impatient(gil, now) && release_for_waiter(gil)) {
        return;
    }
    histogram_add(&gil->hold, now - gil->taken_at_us);
    atomic_store(&gil->owner, GIL_FREE);
    if (unlikely(atomic_load(&gil->waiting) > 0)) {
        pthread_mutex_lock(&gil->mutex);
        pthread_cond_signal(&gil->freed);
        pthread_mutex_unlock(&gil->mutex);
    }
}

void gil_give_way(struct gil *gil)
{
    HEAP_ASSERT(gil_is_mine(gil));
    if (atomic_load(&gil->waiting) > 0) {
        gil_pass(gil);
        return;
    }
    gil_release(gil);
    gil_acquire(gil);
}

void gil_yield(struct gil *gil)
{
    HEAP_ASSERT(gil_is_mine(gil));
    if (unlikely(atomic_load_explicit(&gil->drop_requested, memory_order_relaxed))) {
        gil_pass(gil);
    }
}

void gil_pass(struct gil *gil)
{
    HEAP_ASSERT(gil_is_mine(gil));
    pthread_mutex_lock(&gil->mutex);
    if (hand_over(gil)) {
        wait_in_line(gil, gil_self(), clock_us(), UINT64_MAX);
    }
    pthread_mutex_unlock(&gil->mutex);
}
