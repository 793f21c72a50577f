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
    _Atomic uint64_t count, max_us;
    _Atomic uint64_t buckets[40];
};
void histogram_add(struct histogram *histogram, uint64_t us); /* one writer at a time */
void histogram_figures(const struct histogram *histogram, struct heap_histogram_figures *figures); /* anybody */

struct gil {
    pthread_mutex_t mutex; /* guards the fields down to `waiting` */
    pthread_cond_t freed;  /* the GIL was let go */
    pthread_cond_t taken;  /* the holder changed: ends a forced switch */
    bool locked;
    uint64_t switch_number;       /* how often the holder changed */
    uint32_t waiting;             /* threads in gil_acquire() */
    pthread_t last_holder;
    _Atomic uintptr_t owner;      /* who holds it, as gil_self() says; 0: nobody */
    atomic_bool drop_requested;   /* read by the holder at safe points */
    _Atomic uint32_t interval_us; /* how long a waiter waits before it asks */
    uint64_t taken_at_us;         /* when the holder took it */
    _Atomic uint64_t acquisitions, contended, drop_requests, forced_switches;
    struct histogram hold, wait;
};

bool gil_init(struct gil *gil, uint32_t interval_us);
void gil_fini(struct gil *gil);
void gil_acquire(struct gil *gil);
void gil_release(struct gil *gil);
/* At a safe point: if somebody asked, lets go, waits until the GIL has changed hands, and takes it again. */
void gil_yield(struct gil *gil);

/* A number of this thread, never 0. */
static inline uintptr_t gil_self(void)
{
    static _Thread_local char here;
    return (uintptr_t)&here;
}

static inline bool gil_is_mine(const struct gil *gil)
{
    return atomic_load_explicit(&gil->owner, memory_order_relaxed) == gil_self();
}

#endif
