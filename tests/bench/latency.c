/* latency.c -- the histogram of latency.h. */
#include "latency.h"

#include <math.h>
#include <string.h>

#define STEP_BITS 5

_Static_assert(1 << STEP_BITS == LATENCY_STEPS, "a power of two is split into 2^STEP_BITS steps");

/* Below LATENCY_STEPS a bucket is 1 ns; above, the leading bit chooses the row and the next bits the step. */
static unsigned latency_bucket(uint64_t ns)
{
    if (ns < LATENCY_STEPS) {
        return (unsigned)ns;
    }
    unsigned shift = 63u - (unsigned)__builtin_clzll(ns) - STEP_BITS;
    return (shift + 1) * LATENCY_STEPS + (unsigned)((ns >> shift) - LATENCY_STEPS);
}

/* The largest duration that falls into the bucket. */
static uint64_t bucket_edge(unsigned bucket)
{
    if (bucket < LATENCY_STEPS) {
        return bucket;
    }
    unsigned shift = bucket / LATENCY_STEPS - 1;
    return ((uint64_t)(LATENCY_STEPS + bucket % LATENCY_STEPS + 1) << shift) - 1;
}

void latency_clear(struct latency *latency)
{
    memset(latency, 0, sizeof *latency);
}

void latency_add(struct latency *latency, uint64_t ns, uint64_t times)
{
    latency->bucket[latency_bucket(ns)] += times;
    latency->total += times;
    if (ns > latency->max_ns) {
        latency->max_ns = ns;
    }
}

uint64_t latency_quantile(const struct latency *latency, double share)
{
    uint64_t wanted = (uint64_t)ceil(share * (double)latency->total);
    uint64_t seen = 0;
    for (unsigned i = 0; i < LATENCY_BUCKETS; i++) {
        seen += latency->bucket[i];
        if (latency->bucket[i] > 0 && seen >= wanted) {
            uint64_t edge = bucket_edge(i);
            return edge < latency->max_ns ? edge : latency->max_ns;
        }
    }
    return latency->max_ns;
}
