/* test_arena.c -- arenas: which serves, when they come and go, what the checker notices. */
#include "pymalloc_fixture.h"

#include <sys/mman.h>

/* Free pools of the arena that a pool is in. */
static uint32_t free_pools(const struct pymalloc *pm, uint32_t pool)
{
    uint32_t arena = pool / POOLS_PER_ARENA;
    const struct arena_stretch *s = &pm->private->stretches[arena >= STRETCH_ARENAS];
    return (uint32_t)__builtin_popcountll(s->arenas[arena % STRETCH_ARENAS].free_pools);
}

/* The least number of free pools that a usable arena of the stretch has; 0: none is usable. */
static uint32_t fewest_free(const struct pymalloc *pm, unsigned stretch)
{
    const struct arena_stretch *s = &pm->private->stretches[stretch];
    uint32_t fewest = 0;
    for (uint32_t i = 1; i <= s->touched; i++) {
        uint32_t free = (uint32_t)__builtin_popcountll(s->arenas[i].free_pools);
        if (free != 0 && (fewest == 0 || free < fewest)) {
            fewest = free;
        }
    }
    return fewest;
}

static void test_arena_takes_lowest_pool_first(void **state)
{
    struct pymalloc *pm = &((struct fixture *)*state)->pm;
    uint32_t pools[POOLS_PER_ARENA];
    for (uint32_t i = 0; i < POOLS_PER_ARENA; i++) {
        pools[i] = arena_pool_take(pm, 0);
        assert_int_equal(pools[i], POOLS_PER_ARENA + i);
    }
    arena_pool_give(pm, pools[40]);
    arena_pool_give(pm, pools[7]);
    assert_int_equal(arena_pool_take(pm, 0), pools[7]);
    assert_int_equal(arena_pool_take(pm, 0), pools[40]);
    for (uint32_t i = 0; i < POOLS_PER_ARENA; i++) {
        arena_pool_give(pm, pools[i]);
    }
}

static void test_arena_never_gives_what_small_references_name(void **state)
{
    struct pymalloc *pm = &((struct fixture *)*state)->pm;
    uint32_t lower = arena_pool_take(pm, 0), upper = arena_pool_take(pm, 1);
    assert_int_equal(pool_first_ref(lower), ARENA_BYTES / GRANULE_BYTES);
    assert_int_equal(pool_first_ref(upper), REF_ATOM | ARENA_BYTES / GRANULE_BYTES);
    assert_int_equal((uintptr_t)pymalloc_address(pm, pool_first_ref(lower)) % ARENA_BYTES, 0);
    const char *low = pymalloc_address(pm, pool_first_ref(lower));
    assert_ptr_equal(pymalloc_address(pm, pool_first_ref(upper)), low + HALF_DISTANCE);
    arena_pool_give(pm, lower);
    arena_pool_give(pm, upper);
}

/* Takes and gives at random, more takes in every other phase; the fullest arena must serve each time. */
static void test_arena_fullest_serves_first(void **state)
{
    struct fixture *fixture = *state;
    struct pymalloc *pm = &fixture->pm;
    enum { ROOM = 1000, STEPS = 12000, PHASE = 1500 };
    uint32_t *pools = calloc(ROOM, sizeof *pools), count = 0;
    assert_non_null(pools);
    for (uint32_t step = 0; step < STEPS; step++) {
        bool growing = step / PHASE % 2 == 0;
        bool take = count == 0 || (count < ROOM && fixture_random(fixture, 4) < (growing ? 3 : 1));
        if (take) {
            uint32_t fewest = fewest_free(pm, 0), pool = arena_pool_take(pm, 0);
            assert_int_not_equal(pool, 0);
            assert_int_equal(free_pools(pm, pool), fewest == 0 ? POOLS_PER_ARENA - 1 : fewest - 1);
            pools[count++] = pool;
        } else {
            uint32_t i = fixture_random(fixture, count);
            arena_pool_give(pm, pools[i]);
            pools[i] = pools[--count];
        }
        if (step % 16 == 0) {
            assert_int_equal(arena_check(pm, stderr), 0);
        }
    }
    struct heap_stats stats = fixture_figures(pm);
    assert_true(stats.arenas_reclaimed > 0);
    assert_int_equal(stats.arenas_total, stats.arenas + stats.arenas_reclaimed);
    while (count > 0) {
        arena_pool_give(pm, pools[--count]);
    }
    assert_int_equal(arena_check(pm, stderr), 0);
    assert_int_equal(fixture_figures(pm).arenas, 1);
    free(pools);
}

static void test_arena_keeps_one_empty_a_stretch(void **state)
{
    struct pymalloc *pm = &((struct fixture *)*state)->pm;
    uint32_t pools[STRETCHES][3 * POOLS_PER_ARENA];
    for (unsigned stretch = 0; stretch < STRETCHES; stretch++) {
        for (unsigned i = 0; i < 3 * POOLS_PER_ARENA; i++) {
            pools[stretch][i] = arena_pool_take(pm, stretch);
        }
    }
    assert_int_equal(fixture_figures(pm).arenas, 6);
    for (unsigned stretch = 0; stretch < STRETCHES; stretch++) {
        for (unsigned i = 0; i < 3 * POOLS_PER_ARENA; i++) {
            arena_pool_give(pm, pools[stretch][i]);
        }
        assert_int_equal(arena_check(pm, stderr), 0);
    }
    struct heap_stats stats = fixture_figures(pm);
    assert_int_equal(stats.arenas, 2);
    assert_int_equal(stats.arenas_reclaimed, 4);
    assert_int_equal(stats.arenas_highwater, 6);
    assert_int_equal(stats.arena_bytes, 2 * ARENA_BYTES);
    assert_int_equal(stats.pools_free, 2 * POOLS_PER_ARENA);
}

/* What was written into an arena that went back to the kernel is gone, so are its bits and descriptors. */
static void test_arena_gives_pages_back(void **state)
{
    struct pymalloc *pm = &((struct fixture *)*state)->pm;
    enum { BLOCKS = 8 * ARENA_BYTES / 512 };
    char **blocks = calloc(BLOCKS, sizeof *blocks);
    assert_non_null(blocks);
    for (unsigned i = 0; i < BLOCKS; i++) {
        blocks[i] = pymalloc_alloc(pm, POOL_CONTAINER, size_class(512));
        assert_non_null(blocks[i]);
        memset(blocks[i], 0xA5, 512);
    }
    assert_int_equal(fixture_figures(pm).arenas, 8);
    uint32_t last = pymalloc_ref(pm, blocks[BLOCKS - 1]);
    for (unsigned i = 0; i < BLOCKS; i++) {
        pymalloc_free(pm, POOL_CONTAINER, size_class(512), blocks[i]);
    }
    pymalloc_trim(pm);
    while (pymalloc_release(pm)) {
    }
    assert_int_equal(fixture_figures(pm).arenas, 1);
    assert_int_equal(fixture_figures(pm).arenas_reclaimed, 7);
    assert_int_equal(pm->freebit[last >> 6], 0);
    assert_false(pymalloc_is_block(pm, last, POOL_CONTAINER));
    assert_int_equal(pymalloc_used_word(pm, last & ~63u), 0);
    unsigned fresh = 0;
    for (unsigned i = 0; i < BLOCKS; i++) {
        blocks[i] = pymalloc_alloc(pm, POOL_CONTAINER, size_class(512));
        fresh += blocks[i][100] == 0;
    }
    assert_true(fresh >= 7 * ARENA_BYTES / 512);
    for (unsigned i = 0; i < BLOCKS; i++) {
        pymalloc_free(pm, POOL_CONTAINER, size_class(512), blocks[i]);
    }
    free(blocks);
}

/* A graph that comes and goes meets the same pages again; who releases them gives them to the kernel one by one. */
static void test_arena_stays_warm_until_released(void **state)
{
    struct pymalloc *pm = &((struct fixture *)*state)->pm;
    uint32_t pools[3 * POOLS_PER_ARENA];
    for (unsigned round = 0; round < 3; round++) {
        unsigned fresh = 0;
        for (unsigned i = 0; i < 3 * POOLS_PER_ARENA; i++) {
            pools[i] = arena_pool_take(pm, 0);
            char *page = pymalloc_address(pm, pool_first_ref(pools[i]));
            BLOCK_UNPOISON(page, 1);
            fresh += *page == 0;
            *page = 'x';
            BLOCK_POISON(page, 1);
        }
        assert_int_equal(fresh, round == 0 ? 3 * POOLS_PER_ARENA : round == 1 ? 0 : 2 * POOLS_PER_ARENA);
        for (unsigned i = 0; i < 3 * POOLS_PER_ARENA; i++) {
            arena_pool_give(pm, pools[i]);
        }
        assert_int_equal(fixture_figures(pm).arenas, 1);
        assert_int_equal(fixture_figures(pm).arenas_reclaimed, 2 + 2 * round);
        assert_int_equal(pm->private->warm, 2);
        assert_int_equal(arena_check(pm, stderr), 0);
        while (round == 1 && pymalloc_release(pm)) {
            assert_int_equal(arena_check(pm, stderr), 0);
        }
    }
}

/* The limit is one on pages: what is warm counts, and goes where something else needs the room. */
static void test_arena_warm_ones_yield_to_the_limit(void **state)
{
    struct pymalloc *pm = &((struct fixture *)*state)->pm;
    uint32_t pools[4 * POOLS_PER_ARENA];
    pm->max_bytes = 4 * ARENA_BYTES;
    for (unsigned i = 0; i < 4 * POOLS_PER_ARENA; i++) {
        pools[i] = arena_pool_take(pm, 0);
        assert_int_not_equal(pools[i], 0);
    }
    assert_int_equal(arena_pool_take(pm, 1), 0);
    for (unsigned i = 0; i < 4 * POOLS_PER_ARENA; i++) {
        arena_pool_give(pm, pools[i]);
    }
    assert_int_equal(pm->private->warm, 3);
    void *raw = pymalloc_raw_alloc(pm, 2 * ARENA_BYTES + 1);
    assert_non_null(raw);
    assert_int_equal(pm->private->warm, 0);
    assert_int_equal(fixture_figures(pm).arenas, 1);
    void *more = pymalloc_raw_alloc(pm, ARENA_BYTES + ARENA_BYTES / 2);
    assert_non_null(more);
    assert_int_equal(fixture_figures(pm).arenas, 0);
    assert_int_equal(arena_check(pm, stderr), 0);
    pymalloc_raw_free(pm, raw, 2 * ARENA_BYTES + 1);
    pymalloc_raw_free(pm, more, ARENA_BYTES + ARENA_BYTES / 2);
    pm->max_bytes = 0;
}

static void test_arena_stops_at_the_end_of_the_stretch(void **state)
{
    (void)state;
    struct pymalloc pm;
    assert_true(pymalloc_init(&pm, 2 * ARENA_BYTES - 5)); /* rounded up */
    for (unsigned i = 0; i < 2 * POOLS_PER_ARENA; i++) {
        assert_int_not_equal(arena_pool_take(&pm, 0), 0);
    }
    assert_int_equal(arena_pool_take(&pm, 0), 0);
    uint32_t atom = arena_pool_take(&pm, 1);
    assert_int_not_equal(atom, 0);
    assert_int_equal(arena_check(&pm, stderr), 0);
    assert_false(pymalloc_is_block(&pm, 0, POOL_CONTAINER));
    assert_false(pymalloc_is_block(&pm, 0x7FFFFFFFu, POOL_CONTAINER));
    assert_false(pymalloc_is_block(&pm, 0xFFFFFFFFu, POOL_ATOM));
    pymalloc_fini(&pm);
}

/* Two allocators in one process know nothing of each other. */
static void test_arena_two_allocators(void **state)
{
    struct pymalloc *pm = &((struct fixture *)*state)->pm, other;
    assert_true(pymalloc_init(&other, FIXTURE_HALF_BYTES));
    char *mine = pymalloc_alloc(pm, POOL_ATOM, 0), *its = pymalloc_alloc(&other, POOL_ATOM, 0);
    assert_ptr_not_equal(mine, its);
    assert_int_equal(pymalloc_ref(pm, mine), pymalloc_ref(&other, its));
    memset(mine, 1, 16);
    memset(its, 2, 16);
    assert_int_equal(mine[15], 1);
    assert_int_equal(fixture_figures(&other).blocks, 1);
    pymalloc_free(&other, POOL_ATOM, 0, its);
    fixture_check(&other);
    pymalloc_fini(&other);
    pymalloc_free(pm, POOL_ATOM, 0, mine);
}

/* ---- the checker ---- */

/* Adds `by` to something, demands that arena_check() notices, and takes it back. */
#define DAMAGED(fixture, field, by)                                                                          \
    do {                                                                                                     \
        uint64_t kept = (field);                                                                             \
        (field) += (by);                                                                                     \
        assert_int_not_equal(arena_check(&(fixture)->pm, (fixture)->nowhere), 0);                            \
        (field) = (__typeof__((field) + 0))kept;                                                             \
        assert_int_equal(arena_check(&(fixture)->pm, stderr), 0);                                            \
    } while (0)

static void test_arena_check_notices_damage(void **state)
{
    struct fixture *fixture = *state;
    struct pymalloc *pm = &fixture->pm;
    /* Afterwards: arenas 1 and 2 usable with 1 and 2 free pools, 3 full, 4 unused, 5 wholly free. */
    uint32_t pools[5 * POOLS_PER_ARENA];
    for (uint32_t i = 0; i < 5 * POOLS_PER_ARENA; i++) {
        pools[i] = arena_pool_take(pm, 0);
    }
    arena_pool_give(pm, pools[10]);
    arena_pool_give(pm, pools[70]);
    arena_pool_give(pm, pools[71]);
    for (uint32_t i = 0; i < POOLS_PER_ARENA; i++) {
        arena_pool_give(pm, pools[4 * POOLS_PER_ARENA + i]);
        arena_pool_give(pm, pools[3 * POOLS_PER_ARENA + i]);
    }
    assert_true(pymalloc_release(pm));
    assert_int_equal(arena_check(pm, stderr), 0);
    struct arena_stretch *s = &pm->private->stretches[0];
    assert_int_equal(s->usable, 1);
    assert_int_equal(s->unused, 4);

    DAMAGED(fixture, s->usable, 1);                  /* an arena missing from the list */
    DAMAGED(fixture, s->usable, 2);                  /* a full one on it */
    DAMAGED(fixture, s->usable, 6);                  /* one that never was */
    DAMAGED(fixture, s->unused, 1);                  /* a mapped arena on the unused list */
    DAMAGED(fixture, s->warm, 4);                    /* one that is unused on the warm list */
    DAMAGED(fixture, s->warm, 5);                    /* a mapped one on it */
    DAMAGED(fixture, pm->private->warm, 1);
    DAMAGED(fixture, s->arenas[2].prev, 1);          /* links that disagree */
    DAMAGED(fixture, s->arenas[4].next, 4);          /* a circle */
    DAMAGED(fixture, s->last_with[2], 1);            /* the wrong last one */
    DAMAGED(fixture, s->last_with[30], 1);           /* a last one of none */
    DAMAGED(fixture, s->arenas[3].free_pools, 1);    /* a usable arena on no list */
    DAMAGED(fixture, s->arenas[1].free_pools, 0xFF); /* order broken: 9 free pools before 2 */
    DAMAGED(fixture, s->arenas[4].free_pools, 1);    /* a pool of an unused arena on offer */
    DAMAGED(fixture, pm->private->arenas, 1);
    DAMAGED(fixture, pm->private->arenas_total, 1);
    DAMAGED(fixture, pm->private->arenas_highwater, 100);
    pm->base += GRANULE_BYTES; /* arenas that do not begin where they should */
    assert_int_not_equal(arena_check(pm, fixture->nowhere), 0);
    pm->base -= GRANULE_BYTES;

    s->arenas[4].free_pools = UINT64_MAX; /* two wholly free: not mapped counts too */
    assert_int_not_equal(arena_check(pm, fixture->nowhere), 0);
    s->arenas[4].free_pools = 0;
    for (uint32_t i = 0; i < 3 * POOLS_PER_ARENA; i++) {
        if (i != 10 && i != 70 && i != 71) {
            arena_pool_give(pm, pools[i]);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_arena_takes_lowest_pool_first),
        TEST(test_arena_never_gives_what_small_references_name),
        TEST(test_arena_fullest_serves_first),
        TEST(test_arena_keeps_one_empty_a_stretch),
        TEST(test_arena_stays_warm_until_released),
        TEST(test_arena_warm_ones_yield_to_the_limit),
        TEST(test_arena_gives_pages_back),
        cmocka_unit_test(test_arena_stops_at_the_end_of_the_stretch),
        TEST(test_arena_two_allocators),
        TEST(test_arena_check_notices_damage),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
