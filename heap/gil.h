/* gil.h -- the lock that serialises everything done to a heap.
 *
 * Lock order: hold nothing while waiting for the GIL; only the log lock may be taken inside it.
 * gil.c says what the lock is, who may ask the holder to let go, and how a waiter is kept from starving.
 */
#ifndef HEAPD_HEAP_GIL_H
#define HEAPD_HEAP_GIL_H

#include "heap.h"

#include <pthread.h>
#include <stdatomic.h>

/* Times in power-of-two buckets: bucket b counts those below 2^b microseconds. */
struct histogram {
    _Atomic uint64_t count, max_us, sum_us;
    _Atomic uint64_t buckets[HEAP_HISTOGRAM_BUCKETS];
};
void histogram_add(struct histogram *histogram, uint64_t us); /* one writer at a time */
/* Anybody may read. */
void histogram_figures(const struct histogram *histogram, struct heap_histogram_figures *figures);

/* Who has waited so long gets the GIL when it is let go the next time. */
#define GIL_PATIENCE_US 200u

/* Values of `owner` that are no thread. */
#define GIL_FREE 0u     /* anybody may take it */
#define GIL_RESERVED 1u /* let go because somebody asked: anybody but the last holder may take it */

struct gil {
    pthread_mutex_t mutex; /* held by waiters but while they sleep, and by whoever wakes them */
    pthread_cond_t freed;  /* the GIL was let go */
    pthread_cond_t taken;  /* a reserved GIL was taken: ends a forced switch */

    _Atomic uintptr_t owner;       /* who holds it, as gil_self() says; or GIL_FREE, GIL_RESERVED */
    _Atomic uint32_t waiting;      /* threads that sleep until they get it; changed under the mutex */
    _Atomic uint64_t waiting_since_us; /* while somebody waits: since when none of them has got it; changed under the
                                        * mutex */
    atomic_bool drop_requested;    /* read by the holder at safe points */
    _Atomic uintptr_t last_holder; /* who took it last; written by the holder */
    _Atomic uint64_t switch_number; /* how often the holder was another than before; written by the holder */
    _Atomic uint32_t interval_us;  /* how long a waiter waits before it asks */
    uint64_t taken_at_us;          /* when the holder took it; the holder's */

    _Atomic uint64_t acquisitions, contended, forced_switches; /* written by the holder */
    _Atomic uint64_t drop_requests;                            /* written under the mutex */
    struct histogram hold, wait;                               /* written by the holder */
};

/* interval_us: 1 to 10,000,000.  false: no resources. */
HEAP_MUST_USE bool gil_init(struct gil *gil, uint32_t interval_us);
void gil_fini(struct gil *gil);
void gil_acquire(struct gil *gil);
/* false: it could not be had for `us` microseconds.  *since_us is 0 at the first attempt, and says at the next ones since
 * when this thread has wanted it. */
bool gil_acquire_within(struct gil *gil, uint32_t us, uint64_t *since_us);
void gil_release(struct gil *gil);
/* Lets go, and takes it again behind one of those who wait, if there are any. */
void gil_give_way(struct gil *gil);
/* At a safe point: if somebody asked, lets go, waits until the GIL has changed hands, and takes it again. */
void gil_yield(struct gil *gil);

/* Lets go for whoever waits, and takes it again after that. */
void gil_pass(struct gil *gil);
/* Whether a waiter has asked, or waited for GIL_PATIENCE_US; if somebody waits. */
bool gil_waiter_is_impatient(const struct gil *gil);

static inline bool gil_has_waiters(const struct gil *gil)
{
    return atomic_load_explicit(&gil->waiting, memory_order_relaxed) > 0;
}
/* Whether gil_pass() is due between two operations. */
static inline bool gil_is_wanted(const struct gil *gil)
{
    return __builtin_expect(gil_has_waiters(gil), false) && gil_waiter_is_impatient(gil);
}

/* Its address is a number of this thread, never GIL_FREE or GIL_RESERVED; nothing is kept in it. */
extern _Thread_local char gil_thread_mark[8];
static inline uintptr_t gil_self(void)
{
    return (uintptr_t)gil_thread_mark;
}

static inline bool gil_is_mine(const struct gil *gil)
{
    return atomic_load_explicit(&gil->owner, memory_order_relaxed) == gil_self();
}

#endif
