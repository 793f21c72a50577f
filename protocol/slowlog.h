/* slowlog.h -- which requests took long lately, and a clock that is cheap enough to ask at each of them.
 *
 * Ticks are the processor's time stamps where it has them (about 8 ns to read, against 20 of clock_gettime),
 * else nanoseconds.  How long a tick is follows from two readings of both clocks, far apart: at the start of
 * the service and whenever somebody asks.
 *
 * A third clock, the kernel's coarse one, costs 3 ns and moves every few milliseconds.  While it stands still, a
 * request has taken less than from one move to the next, so ticks need be read only where that could be too long.
 *
 * Threads: slowlog_ticks() any; the rest takes the slowlog's mutex, which is asked for only when a request was
 * slow or somebody reads.
 */
#ifndef HEAPD_PROTOCOL_SLOWLOG_H
#define HEAPD_PROTOCOL_SLOWLOG_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#if defined(__x86_64__)
#include <x86intrin.h>
#endif

/* Entries that are kept; older ones are forgotten. */
#define SLOWLOG_ENTRIES 1024u

struct slowlog_entry {
    double at;          /* seconds since 1970, when the request was done */
    uint64_t client;    /* number of the connection */
    const char *method; /* static */
    uint64_t us;        /* from when it could run to its reply: the two below and what was neither */
    uint64_t gil_wait_us, gil_hold_us;
    uint64_t bytes_in, bytes_out; /* of the request as read, of its reply */
};

struct slowlog {
    _Atomic uint64_t threshold_us;    /* 0: every request is an entry */
    _Atomic uint64_t threshold_ticks; /* the same, as far as known when slowlog_aim() was called last */
    _Atomic uint64_t coarse_ticks;    /* from one move of the coarse clock to the next, as far as known then */
    uint64_t coarse_ns;               /* the same */
    _Atomic uint64_t ticks_per_ms;    /* as far as known then */
    uint64_t start_ticks, start_ns;   /* both clocks at the start */
    pthread_mutex_t mutex;            /* guards what follows */
    uint64_t count;                   /* entries ever; the next one's place is count % SLOWLOG_ENTRIES */
    struct slowlog_entry entries[SLOWLOG_ENTRIES];
};

static inline uint64_t slowlog_ticks(void)
{
#if defined(__x86_64__)
    return __rdtsc();
#else
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
#endif
}

/* The coarse clock. */
static inline uint64_t slowlog_coarse_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* false: no mutex can be had. */
bool slowlog_init(struct slowlog *slowlog, uint64_t threshold_us);
void slowlog_fini(struct slowlog *slowlog);
void slowlog_set_threshold(struct slowlog *slowlog, uint64_t threshold_us);
/* Now and then: works out anew how many ticks the threshold is. */
void slowlog_aim(struct slowlog *slowlog);
uint64_t slowlog_us(const struct slowlog *slowlog, uint64_t ticks);

/* Whether so many ticks are worth slowlog_add(). */
static inline bool slowlog_is_slow(const struct slowlog *slowlog, uint64_t ticks)
{
    return ticks >= atomic_load_explicit(&slowlog->threshold_ticks, memory_order_relaxed);
}

/* Whether a request may be slow during which the coarse clock stood still and which had waited for `waited` ticks. */
static inline bool slowlog_may_be_slow(const struct slowlog *slowlog, uint64_t waited)
{
    return slowlog_is_slow(slowlog, waited + atomic_load_explicit(&slowlog->coarse_ticks, memory_order_relaxed));
}

/* Copies the entry; the time is filled in. */
void slowlog_add(struct slowlog *slowlog, const struct slowlog_entry *entry);
/* The newest first, up to `limit`; returns how many. */
size_t slowlog_read(struct slowlog *slowlog, struct slowlog_entry *entries, size_t limit);

#endif
