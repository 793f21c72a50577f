/* random_fixture.h -- random numbers for the tests of one program; the seed is $SEED, or always the same. */
#ifndef HEAPD_TESTS_RANDOM_FIXTURE_H
#define HEAPD_TESTS_RANDOM_FIXTURE_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "../support/splitmix64.h"

static uint64_t random_state;

static inline uint64_t random_u64(void)
{
    return splitmix64(&random_state);
}

static inline uint32_t random_below(uint32_t n)
{
    return (uint32_t)(random_u64() % n);
}

/* A setup of cmocka's for all tests of the program: takes the seed and prints it. */
static inline int seed_random(void **state)
{
    (void)state;
    const char *given = getenv("SEED");
    random_state = given ? strtoull(given, NULL, 0) : 20240607;
    printf("SEED=%llu\n", (unsigned long long)random_state);
    return 0;
}

#endif
