/* latency.h -- a histogram of durations: counts in buckets about 3 % wide, from 1 ns up.
 *
 * Each power of two is split into LATENCY_STEPS equal buckets, so a percentile is right to 1 part in
 * LATENCY_STEPS whatever its size; the maximum is exact.
 */
#ifndef HEAPD_TESTS_LATENCY_H
#define HEAPD_TESTS_LATENCY_H

#include <stdint.h>

#define LATENCY_STEPS 32
#define LATENCY_BUCKETS (64 * LATENCY_STEPS)

struct latency {
    uint64_t total;                   /* durations counted: the sum of bucket[] */
    uint64_t max_ns;                  /* the longest; 0 while total is 0 */
    uint64_t bucket[LATENCY_BUCKETS]; /* durations by latency_bucket() */
};

void latency_clear(struct latency *latency);
/* Counts `times` durations of `ns` each. */
void latency_add(struct latency *latency, uint64_t ns, uint64_t times);
/* The upper edge of the bucket below which `share` (0..1) of the durations lie, at most max_ns; 0 if none. */
uint64_t latency_quantile(const struct latency *latency, double share);

#endif
