/* pymalloc_fixture.h -- an allocator without a heap, and a source of random numbers, for the tests of
 * pymalloc.c, arena.c and map32.c.
 *
 * Include it first.  Each test gets `struct fixture *` from *state; teardown demands that nothing is in
 * use any more and that the checkers find nothing.  Random tests take their seed from SEED.
 */
#ifndef HEAPD_TESTS_PYMALLOC_FIXTURE_H
#define HEAPD_TESTS_PYMALLOC_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "../../heap/pymalloc_private.h"
#include "../support/splitmix64.h"

#define FIXTURE_HALF_BYTES ((uint64_t)64 << 20) /* little, for valgrind */

struct fixture {
    struct pymalloc pm;
    uint64_t random; /* state of splitmix64 */
    FILE *nowhere;   /* for what checkers say of damage done on purpose */
};

static inline int fixture_setup(void **state)
{
    struct fixture *fixture = calloc(1, sizeof *fixture);
    assert_non_null(fixture);
    const char *seed = getenv("SEED");
    fixture->random = seed != NULL ? strtoull(seed, NULL, 0) : 20240607;
    printf("SEED=%llu\n", (unsigned long long)fixture->random);
    fixture->nowhere = fopen("/dev/null", "w");
    assert_non_null(fixture->nowhere);
    assert_true(pymalloc_init(&fixture->pm, FIXTURE_HALF_BYTES));
    *state = fixture;
    return 0;
}

static inline uint32_t fixture_random(struct fixture *fixture, uint32_t below)
{
    return (uint32_t)(splitmix64(&fixture->random) % below);
}

static inline struct heap_stats fixture_figures(const struct pymalloc *pm)
{
    struct heap_stats stats;
    memset(&stats, 0, sizeof stats);
    pymalloc_figures(pm, &stats);
    return stats;
}

static inline void fixture_check(struct pymalloc *pm)
{
    assert_int_equal(pymalloc_check(pm, stderr), 0);
    assert_int_equal(arena_check(pm, stderr), 0);
}

static inline int fixture_teardown(void **state)
{
    struct fixture *fixture = *state;
    struct pymalloc *pm = &fixture->pm;
    pymalloc_trim(pm);
    fixture_check(pm);
    struct heap_stats stats = fixture_figures(pm);
    assert_int_equal(stats.blocks, 0);
    assert_int_equal(stats.pools, 0);
    assert_in_range(stats.arenas, 0, STRETCHES);
    assert_int_equal(stats.raw_blocks, 0);
    assert_int_equal(stats.raw_bytes, 0);
    assert_int_equal(stats.table_bytes, 0);
    pymalloc_fini(pm);
    fclose(fixture->nowhere);
    free(fixture);
    return 0;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

#endif
