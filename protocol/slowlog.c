/* slowlog.c -- which requests took long lately: a ring of entries. */
#include "slowlog.h"

static uint64_t now_ns(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

bool slowlog_init(struct slowlog *slowlog, uint64_t threshold_us)
{
    slowlog->start_ticks = slowlog_ticks();
    slowlog->start_ns = now_ns(CLOCK_MONOTONIC);
    slowlog->count = 0;
    struct timespec coarse;
    clock_getres(CLOCK_MONOTONIC_COARSE, &coarse);
    slowlog->coarse_ns = (uint64_t)coarse.tv_sec * 1000000000u + (uint64_t)coarse.tv_nsec;
    if (pthread_mutex_init(&slowlog->mutex, NULL) != 0) {
        return false;
    }
    slowlog_set_threshold(slowlog, threshold_us);
    return true;
}

void slowlog_fini(struct slowlog *slowlog)
{
    pthread_mutex_destroy(&slowlog->mutex);
}

/* Ticks a microsecond since the start; a little above 0 right after it, when nothing can be known. */
static double ticks_per_us(const struct slowlog *slowlog)
{
    uint64_t ticks = slowlog_ticks() - slowlog->start_ticks, ns = now_ns(CLOCK_MONOTONIC) - slowlog->start_ns;
    return ns == 0 || ticks == 0 ? 1.0 : (double)ticks * 1000.0 / (double)ns;
}

void slowlog_aim(struct slowlog *slowlog)
{
    uint64_t threshold_us = atomic_load_explicit(&slowlog->threshold_us, memory_order_relaxed);
    double per_us = ticks_per_us(slowlog);
    atomic_store_explicit(&slowlog->threshold_ticks, (uint64_t)((double)threshold_us * per_us),
                          memory_order_relaxed);
    atomic_store_explicit(&slowlog->coarse_ticks, (uint64_t)((double)slowlog->coarse_ns / 1000.0 * per_us),
                          memory_order_relaxed);
    atomic_store_explicit(&slowlog->ticks_per_ms, (uint64_t)(per_us * 1000.0), memory_order_relaxed);
}

void slowlog_set_threshold(struct slowlog *slowlog, uint64_t threshold_us)
{
    atomic_store_explicit(&slowlog->threshold_us, threshold_us, memory_order_relaxed);
    slowlog_aim(slowlog);
}

uint64_t slowlog_us(const struct slowlog *slowlog, uint64_t ticks)
{
    return (uint64_t)((double)ticks / ticks_per_us(slowlog));
}

void slowlog_add(struct slowlog *slowlog, const struct slowlog_entry *entry)
{
    pthread_mutex_lock(&slowlog->mutex);
    struct slowlog_entry *place = &slowlog->entries[slowlog->count++ % SLOWLOG_ENTRIES];
    *place = *entry;
    place->at = (double)now_ns(CLOCK_REALTIME) / 1e9;
    pthread_mutex_unlock(&slowlog->mutex);
}

size_t slowlog_read(struct slowlog *slowlog, struct slowlog_entry *entries, size_t limit)
{
    pthread_mutex_lock(&slowlog->mutex);
    size_t kept = slowlog->count < SLOWLOG_ENTRIES ? (size_t)slowlog->count : SLOWLOG_ENTRIES;
    size_t n = kept < limit ? kept : limit;
    for (size_t i = 0; i < n; i++) {
        entries[i] = slowlog->entries[(slowlog->count - 1 - i) % SLOWLOG_ENTRIES];
    }
    pthread_mutex_unlock(&slowlog->mutex);
    return n;
}
