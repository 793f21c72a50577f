/* test_pymalloc.c -- blocks, pools, magazines, raw blocks, figures, limits, and what the checker notices. */
#include "pymalloc_fixture.h"

#include <pthread.h>
#include <string.h>

/* ---- blocks ---- */

static void test_pymalloc_blocks_are_where_their_kind_belongs(void **state)
{
    struct pymalloc *pm = &((struct fixture *)*state)->pm;
    for (enum pool_kind kind = 0; kind < POOL_KINDS; kind++) {
        for (unsigned class = 0; class < SIZE_CLASSES; class++) {
            size_t bytes = (class + 1) * GRANULE_BYTES;
            assert_int_equal(size_class(bytes), class);
            assert_int_equal(size_class(bytes - 15), class);
            char *block = pymalloc_alloc(pm, kind, class);
            assert_non_null(block);
            memset(block, 0x5A, bytes);
            uint32_t ref = pymalloc_ref(pm, block);
            assert_ptr_equal(pymalloc_address(pm, ref), block);
            assert_int_equal((ref & REF_ATOM) != 0, kind == POOL_ATOM);
            assert_int_equal((uintptr_t)block % GRANULE_BYTES, 0);
            assert_true(pymalloc_is_block(pm, ref, kind));
            assert_false(pymalloc_is_block(pm, ref, (kind + 1) % POOL_KINDS));
            assert_false(pymalloc_is_block(pm, ref + 1, kind));
            pymalloc_free(pm, kind, class, block);
            assert_false(pymalloc_is_block(pm, ref, kind)); /* in the magazine */
        }
    }
    pymalloc_trim(pm);
    assert_int_equal(fixture_figures(pm).pools, 0);
}

/* A fresh pool serves in memory order, every granule of it that a block can begin at, and nothing beyond. */
static void test_pymalloc_pool_serves_ascending_until_full(void **state)
{
    struct pymalloc *pm = &((struct fixture *)*state)->pm;
    for (unsigned class = 0; class < SIZE_CLASSES; class++) {
        uint32_t bytes = (class + 1) * GRANULE_BYTES, capacity = POOL_BYTES / bytes;
        char *first = pymalloc_alloc(pm, POOL_CONTAINER, class);
        for (uint32_t i = 1; i < capacity; i++) {
            assert_ptr_equal(pymalloc_alloc(pm, POOL_CONTAINER, class), first + (size_t)i * bytes);
            assert_int_equal(fixture_figures(pm).classes[class].pools, 1);
        }
        struct heap_class_figures row = fixture_figures(pm).classes[class];
        assert_int_equal(row.size, bytes);
        assert_int_equal(row.blocks, capacity);
        assert_int_equal(row.free, 0);
        char *another = pymalloc_alloc(pm, POOL_CONTAINER, class);
        assert_int_equal(fixture_figures(pm).classes[class].pools, 2);
        pymalloc_free(pm, POOL_CONTAINER, class, another);
        for (uint32_t i = 0; i < capacity; i++) {
            pymalloc_free(pm, POOL_CONTAINER, class, first + (size_t)i * bytes);
        }
        pymalloc_trim(pm);
        assert_int_equal(fixture_figures(pm).classes[class].pools, 0);
    }
}

static void test_pymalloc_last_freed_is_first_reused(void **state)
{
    struct pymalloc *pm = &((struct fixture *)*state)->pm;
    void *a = pymalloc_alloc(pm, POOL_ATOM, 3), *b = pymalloc_alloc(pm, POOL_ATOM, 3);
    pymalloc_free(pm, POOL_ATOM, 3, a);
    pymalloc_free(pm, POOL_ATOM, 3, b);
    assert_ptr_equal(pymalloc_alloc(pm, POOL_ATOM, 3), b);
    assert_ptr_equal(pymalloc_alloc(pm, POOL_ATOM, 3), a);
    pymalloc_free(pm, POOL_ATOM, 3, a);
    pymalloc_free(pm, POOL_ATOM, 3, b);
}

/* A pool that was full goes second in its list: the pool that serves now is filled up first. */
static void test_pymalloc_full_pool_comes_back_second(void **state)
{
    struct pymalloc *pm = &((struct fixture *)*state)->pm;
    enum { POOLS = 4, CAPACITY = POOL_BYTES / 512, COUNT = POOLS * CAPACITY - 8 };
    unsigned class = size_class(512);
    void *blocks[COUNT];
    for (unsigned i = 0; i < COUNT; i++) {
        blocks[i] = pymalloc_alloc(pm, POOL_BUFFER, class);
    }
    pymalloc_trim(pm); /* the last pool, with 8 free blocks, is the only one on the list */
    uint32_t serving = pymalloc_ref(pm, blocks[COUNT - 1]) >> REF_POOL_SHIFT;
    assert_int_equal(pm->private->lists[POOL_BUFFER][class], serving);
    pymalloc_free(pm, POOL_BUFFER, class, blocks[0]);
    pymalloc_free(pm, POOL_BUFFER, class, blocks[CAPACITY]);
    pymalloc_trim(pm);
    assert_int_equal(pm->private->lists[POOL_BUFFER][class], serving);
    assert_int_equal(pm->pools[serving].next, pymalloc_ref(pm, blocks[CAPACITY]) >> REF_POOL_SHIFT);
    fixture_check(pm);
    blocks[0] = pymalloc_alloc(pm, POOL_BUFFER, class);
    assert_int_equal(pymalloc_ref(pm, blocks[0]) >> REF_POOL_SHIFT, serving);
    pymalloc_free(pm, POOL_BUFFER, class, blocks[0]);
    for (unsigned i = 1; i < COUNT; i++) {
        if (i != CAPACITY) {
            pymalloc_free(pm, POOL_BUFFER, class, blocks[i]);
        }
    }
}

/* ---- random use ---- */

struct shadow {
    unsigned char *block; /* NULL: none */
    enum pool_kind kind;
    unsigned class;
    unsigned char fill; /* every byte of it */
};

static void shadow_alloc(struct fixture *fixture, struct shadow *s)
{
    s->kind = fixture_random(fixture, POOL_KINDS);
    s->class = fixture_random(fixture, fixture_random(fixture, 4) == 0 ? SIZE_CLASSES : 4); /* mostly small */
    s->fill = (unsigned char)fixture_random(fixture, 256);
    s->block = pymalloc_alloc(&fixture->pm, s->kind, s->class);
    assert_non_null(s->block);
    memset(s->block, s->fill, (s->class + 1) * GRANULE_BYTES);
}

static void shadow_free(struct fixture *fixture, struct shadow *s)
{
    for (size_t i = 0; i < (s->class + 1) * GRANULE_BYTES; i++) {
        assert_int_equal(s->block[i], s->fill);
    }
    pymalloc_free(&fixture->pm, s->kind, s->class, s->block);
    s->block = NULL;
}

/* Blocks never overlap and keep their contents; the figures are those of a count by hand. */
static void test_pymalloc_random_use(void **state)
{
    struct fixture *fixture = *state;
    enum { ROOM = 20000, STEPS = 150000, PHASE = 30000 };
    struct shadow *shadows = calloc(ROOM, sizeof *shadows);
    uint64_t live = 0;
    assert_non_null(shadows);
    for (uint32_t step = 0; step < STEPS; step++) {
        struct shadow *s = &shadows[fixture_random(fixture, ROOM)];
        if (s->block == NULL && fixture_random(fixture, 8) < (step / PHASE % 2 == 0 ? 7 : 1)) {
            shadow_alloc(fixture, s);
            live++;
        } else if (s->block != NULL && fixture_random(fixture, 8) < (step / PHASE % 2 == 0 ? 2 : 7)) {
            shadow_free(fixture, s);
            live--;
        }
        if (step % 5000 == 0) {
            fixture_check(&fixture->pm);
            assert_int_equal(fixture_figures(&fixture->pm).blocks, live);
        }
    }
    for (uint32_t i = 0; i < ROOM; i++) {
        if (shadows[i].block != NULL) {
            shadow_free(fixture, &shadows[i]);
        }
    }
    free(shadows);
}

/* Blocks freed in any order go back to their pools, so that arenas can go. */
static void test_pymalloc_shuffled_drain_empties_arenas(void **state)
{
    struct fixture *fixture = *state;
    enum { COUNT = 40000 };
    void **blocks = calloc(COUNT, sizeof *blocks);
    assert_non_null(blocks);
    for (unsigned i = 0; i < COUNT; i++) {
        blocks[i] = pymalloc_alloc(&fixture->pm, POOL_CONTAINER, size_class(80));
    }
    assert_int_equal(fixture_figures(&fixture->pm).arenas, 4);
    for (unsigned i = COUNT; i-- > 0;) {
        unsigned other = fixture_random(fixture, i + 1);
        void *block = blocks[other];
        blocks[other] = blocks[i];
        pymalloc_free(&fixture->pm, POOL_CONTAINER, size_class(80), block);
    }
    pymalloc_trim(&fixture->pm);
    struct heap_stats stats = fixture_figures(&fixture->pm);
    assert_int_equal(stats.blocks, 0);
    assert_int_equal(stats.arenas, 1);
    free(blocks);
}

/* ---- walking and freeing by words ---- */

/* The walk meets exactly the blocks in use of a kind, in memory order. */
static void test_pymalloc_walk_meets_every_block_once(void **state)
{
    struct fixture *fixture = *state;
    struct pymalloc *pm = &fixture->pm;
    enum { ROOM = 6000 };
    struct shadow *shadows = calloc(ROOM, sizeof *shadows);
    uint64_t live[POOL_KINDS] = {0};
    assert_non_null(shadows);
    for (unsigned i = 0; i < ROOM; i++) {
        shadow_alloc(fixture, &shadows[i]);
    }
    for (unsigned i = 0; i < ROOM; i++) {
        if (fixture_random(fixture, 3) != 0) {
            shadow_free(fixture, &shadows[i]);
        } else {
            live[shadows[i].kind]++;
        }
    }
    pymalloc_trim(pm);
    for (enum pool_kind kind = 0; kind < POOL_KINDS; kind++) {
        uint32_t pool = 0, first, before = 0;
        unsigned class;
        while (pymalloc_next_pool(pm, kind, &pool, &first, &class)) {
            assert_int_equal(first % (POOL_BYTES / GRANULE_BYTES), 0);
            for (uint32_t ref = first; ref < first + POOL_BYTES / GRANULE_BYTES; ref += 64) {
                for (uint64_t bits = pymalloc_used_word(pm, ref); bits != 0; bits &= bits - 1) {
                    uint32_t block = ref + (uint32_t)__builtin_ctzll(bits);
                    assert_true(block > before);
                    assert_true(pymalloc_is_block(pm, block, kind));
                    assert_int_equal((block - first) % (class + 1), 0);
                    before = block;
                    live[kind]--;
                }
            }
        }
        assert_int_equal(live[kind], 0);
    }
    for (unsigned i = 0; i < ROOM; i++) {
        if (shadows[i].block != NULL) {
            shadow_free(fixture, &shadows[i]);
        }
    }
    free(shadows);
}

/* A sweep: the used bits of every other word are freed, then the rest. */
static void test_pymalloc_free_word_frees_many(void **state)
{
    struct pymalloc *pm = &((struct fixture *)*state)->pm;
    enum { COUNT = 9000 };
    for (unsigned i = 0; i < COUNT; i++) {
        assert_non_null(pymalloc_alloc(pm, POOL_CONTAINER, size_class(i % 3 * 48 + 16)));
    }
    pymalloc_trim(pm);
    uint64_t left = COUNT;
    for (uint32_t round = 0; round < 2; round++) {
        uint32_t pool = 0, first;
        unsigned class;
        while (pymalloc_next_pool(pm, POOL_CONTAINER, &pool, &first, &class)) {
            for (uint32_t i = 0; i < POOL_WORDS; i++) {
                uint64_t bits = pymalloc_used_word(pm, first + i * 64);
                if (round == 1 || i % 2 == 0) {
                    pymalloc_free_word(pm, first + i * 64, bits);
                    left -= (uint64_t)__builtin_popcountll(bits);
                }
            }
        }
        fixture_check(pm);
        assert_int_equal(fixture_figures(pm).blocks, left);
    }
    assert_int_equal(left, 0);
}

/* ---- raw blocks, tables, buffers ---- */

static void test_pymalloc_raw_is_counted_as_malloc_takes(void **state)
{
    struct pymalloc *pm = &((struct fixture *)*state)->pm;
    assert_int_equal(pymalloc_raw_rounded(513), 528);
    assert_int_equal(pymalloc_raw_rounded(520), 528);
    assert_int_equal(pymalloc_raw_rounded(521), 544);
    char *block = pymalloc_raw_alloc(pm, 600);
    memset(block, 'x', 600);
    assert_int_equal(fixture_figures(pm).raw_bytes, pymalloc_raw_rounded(600));
    block = pymalloc_raw_realloc(pm, block, 600, 5000);
    assert_int_equal(block[599], 'x');
    assert_int_equal(fixture_figures(pm).raw_bytes, pymalloc_raw_rounded(5000));
    block = pymalloc_raw_realloc(pm, block, 5000, 700);
    assert_int_equal(fixture_figures(pm).raw_blocks, 1);
    assert_int_equal(fixture_figures(pm).raw_bytes, pymalloc_raw_rounded(700));
    assert_null(pymalloc_raw_alloc(pm, SIZE_MAX));
    assert_null(pymalloc_raw_realloc(pm, block, 700, SIZE_MAX - 7));
    assert_int_equal(block[599], 'x');
    pymalloc_raw_free(pm, block, 700);
}

static void test_pymalloc_tables_are_zero(void **state)
{
    struct pymalloc *pm = &((struct fixture *)*state)->pm;
    size_t bytes = 100;
    unsigned char *table = pymalloc_table_realloc(pm, NULL, 0, bytes);
    for (size_t more = 200; more < 100000; more = more * 3 + 8) {
        memset(table, 0xEE, bytes);
        table = pymalloc_table_realloc(pm, table, bytes, more);
        for (size_t i = 0; i < more; i++) {
            assert_int_equal(table[i], i < bytes ? 0xEE : 0);
        }
        bytes = more;
    }
    assert_int_equal(fixture_figures(pm).table_bytes, pymalloc_raw_rounded(bytes));
    assert_int_equal(fixture_figures(pm).raw_bytes, 0);
    pymalloc_table_free(pm, table, bytes);
    pymalloc_table_free(pm, NULL, 0);
}

/* A buffer keeps its contents through sizes on both sides of the largest block. */
static void test_pymalloc_buffer_keeps_contents(void **state)
{
    struct fixture *fixture = *state;
    struct pymalloc *pm = &fixture->pm;
    size_t bytes = 1;
    unsigned char *buffer = pymalloc_buffer_alloc(pm, bytes);
    buffer[0] = 0;
    for (unsigned i = 0; i < 3000; i++) {
        size_t more = 1 + fixture_random(fixture, i % 2 == 0 ? 1200 : 530);
        buffer = pymalloc_buffer_realloc(pm, buffer, bytes, more);
        assert_non_null(buffer);
        for (size_t k = 0; k < bytes && k < more; k++) {
            assert_int_equal(buffer[k], k % 251);
        }
        for (size_t k = 0; k < more; k++) {
            buffer[k] = (unsigned char)(k % 251);
        }
        bytes = more;
        struct heap_stats stats = fixture_figures(pm);
        assert_int_equal(stats.block_bytes + stats.raw_bytes, pymalloc_buffer_rounded(bytes));
    }
    pymalloc_buffer_free(pm, buffer, bytes);
}

/* ---- limit and faults ---- */

static void test_pymalloc_limit_counts_everything(void **state)
{
    struct pymalloc *pm = &((struct fixture *)*state)->pm;
    pm->max_bytes = 2 * ARENA_BYTES;
    void *first = pymalloc_alloc(pm, POOL_ATOM, 0); /* an arena */
    assert_non_null(first);
    char *raw = pymalloc_raw_alloc(pm, ARENA_BYTES / 2);
    assert_non_null(raw);
    void *table = pymalloc_table_alloc(pm, ARENA_BYTES / 4);
    assert_non_null(table);
    assert_null(pymalloc_alloc(pm, POOL_CONTAINER, 0)); /* would be an arena of the other stretch */
    assert_null(pymalloc_raw_alloc(pm, ARENA_BYTES / 4));
    assert_null(pymalloc_table_alloc(pm, ARENA_BYTES / 4));
    raw[0] = 'r';
    assert_null(pymalloc_raw_realloc(pm, raw, ARENA_BYTES / 2, ARENA_BYTES));
    assert_null(pymalloc_table_realloc(pm, table, ARENA_BYTES / 4, ARENA_BYTES));
    assert_null(pymalloc_buffer_alloc(pm, ARENA_BYTES));
    assert_int_equal(raw[0], 'r');
    uint64_t blocks = 1;
    void *blocks_kept[3] = {first};
    while (blocks < 3) {
        blocks_kept[blocks++] = pymalloc_alloc(pm, POOL_ATOM, 31); /* fits the arena that is there */
    }
    assert_non_null(blocks_kept[2]);
    struct heap_stats stats = fixture_figures(pm);
    assert_true(stats.arena_bytes + stats.raw_bytes + stats.table_bytes <= pm->max_bytes);
    raw = pymalloc_raw_realloc(pm, raw, ARENA_BYTES / 2, 1000); /* less is always granted */
    pm->max_bytes = 1;
    raw = pymalloc_raw_realloc(pm, raw, 1000, 900);
    assert_non_null(raw);
    pm->max_bytes = 0;
    pymalloc_raw_free(pm, raw, 900);
    pymalloc_table_free(pm, table, ARENA_BYTES / 4);
    pymalloc_free(pm, POOL_ATOM, 0, first);
    pymalloc_free(pm, POOL_ATOM, 31, blocks_kept[1]);
    pymalloc_free(pm, POOL_ATOM, 31, blocks_kept[2]);
}

/* Filled to the limit and drained, the same number of blocks fits again. */
static void test_pymalloc_limit_is_reached_again(void **state)
{
    struct pymalloc *pm = &((struct fixture *)*state)->pm;
    enum { FITS = 3 * ARENA_BYTES / 512 };
    void **blocks = calloc(FITS, sizeof *blocks);
    assert_non_null(blocks);
    pm->max_bytes = 3 * ARENA_BYTES + 100;
    for (unsigned round = 0; round < 3; round++) {
        for (unsigned i = 0; i < FITS; i++) {
            blocks[i] = pymalloc_alloc(pm, POOL_CONTAINER, 31);
            assert_non_null(blocks[i]);
        }
        assert_null(pymalloc_alloc(pm, POOL_CONTAINER, 31));
        assert_null(pymalloc_alloc(pm, POOL_BUFFER, 0));
        fixture_check(pm);
        for (unsigned i = 0; i < FITS; i++) {
            pymalloc_free(pm, POOL_CONTAINER, 31, blocks[i]);
        }
        if (round == 1) {
            pymalloc_trim(pm);
        }
    }
    free(blocks);
}

/* An empty arena that is kept for the next pool is no reason to refuse. */
static void test_pymalloc_limit_takes_empty_arenas_back(void **state)
{
    struct pymalloc *pm = &((struct fixture *)*state)->pm;
    pm->max_bytes = ARENA_BYTES + ARENA_BYTES / 2;
    pymalloc_free(pm, POOL_CONTAINER, 0, pymalloc_alloc(pm, POOL_CONTAINER, 0));
    pymalloc_trim(pm);
    assert_int_equal(fixture_figures(pm).arenas, 1);
    void *atom = pymalloc_alloc(pm, POOL_ATOM, 0); /* an arena of the other stretch */
    assert_non_null(atom);
    assert_int_equal(fixture_figures(pm).arenas, 1);
    pymalloc_free(pm, POOL_ATOM, 0, atom);
    pymalloc_trim(pm);
    void *raw = pymalloc_raw_alloc(pm, ARENA_BYTES);
    assert_non_null(raw);
    assert_int_equal(fixture_figures(pm).arenas, 0);
    fixture_check(pm);
    pymalloc_raw_free(pm, raw, ARENA_BYTES);
}

#if HEAP_DEBUG >= 1
/* Asks for five things; returns how many it got, and gives them back. */
static unsigned ask_for_five(struct pymalloc *pm)
{
    unsigned got = 0;
    void *block = pymalloc_alloc(pm, POOL_CONTAINER, 0); /* asks twice: a refill and an arena */
    void *atom = pymalloc_alloc(pm, POOL_ATOM, 0);       /* the same */
    void *raw = pymalloc_raw_alloc(pm, 1000);
    void *table = pymalloc_table_alloc(pm, 1000);
    void *grown = raw != NULL ? pymalloc_raw_realloc(pm, raw, 1000, 2000) : NULL;
    got = (block != NULL) + (atom != NULL) + (raw != NULL) + (table != NULL) + (grown != NULL);
    if (block != NULL) {
        pymalloc_free(pm, POOL_CONTAINER, 0, block);
    }
    if (atom != NULL) {
        pymalloc_free(pm, POOL_ATOM, 0, atom);
    }
    if (raw != NULL) {
        pymalloc_raw_free(pm, grown != NULL ? grown : raw, grown != NULL ? 2000 : 1000);
    }
    pymalloc_table_free(pm, table, 1000);
    pymalloc_trim(pm);
    return got;
}

static void test_pymalloc_faults_come_when_asked(void **state)
{
    (void)state;
    static const unsigned got_all[] = {0, 0, 1, 1, 2, 3, 4, 5}, got_once[] = {4, 4, 4, 4, 3, 4, 4, 5};
    for (unsigned n = 1; n <= 8; n++) {
        for (unsigned once = 0; once < 2; once++) {
            struct pymalloc pm;
            assert_true(pymalloc_init(&pm, FIXTURE_HALF_BYTES));
            pm.fail_after = n;
            pm.fail_once = once;
            assert_int_equal(ask_for_five(&pm), once ? got_once[n - 1] : got_all[n - 1]);
            fixture_check(&pm);
            pm.fail_after = 0;
            assert_int_equal(ask_for_five(&pm), 5);
            fixture_check(&pm);
            pymalloc_fini(&pm);
        }
    }
}
#endif

/* ---- figures of another thread ---- */

struct reader {
    const struct pymalloc *pm;
    atomic_bool stop;
    bool sane;
};

/* Reads without the GIL while the test allocates: never more than there can be, and no data race. */
static void *read_figures(void *argument)
{
    struct reader *reader = argument;
    reader->sane = true;
    do {
        struct heap_stats stats = fixture_figures(reader->pm);
        for (unsigned class = 0; class < SIZE_CLASSES; class++) {
            reader->sane = reader->sane && stats.classes[class].blocks <= 4000 + MAGAZINE_ROOM * POOL_KINDS &&
                           stats.classes[class].free < UINT32_MAX;
        }
    } while (!atomic_load(&reader->stop));
    return NULL;
}

static void test_pymalloc_figures_of_another_thread(void **state)
{
    struct fixture *fixture = *state;
    struct reader reader = {.pm = &fixture->pm};
    enum { ROOM = 4000, STEPS = 60000 };
    struct shadow *shadows = calloc(ROOM, sizeof *shadows);
    pthread_t thread;
    assert_non_null(shadows);
    assert_int_equal(pthread_create(&thread, NULL, read_figures, &reader), 0);
    for (unsigned i = 0; i < STEPS; i++) {
        struct shadow *s = &shadows[fixture_random(fixture, ROOM)];
        if (s->block == NULL) {
            shadow_alloc(fixture, s);
        } else {
            shadow_free(fixture, s);
        }
    }
    atomic_store(&reader.stop, true);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_true(reader.sane);
    for (unsigned i = 0; i < ROOM; i++) {
        if (shadows[i].block != NULL) {
            shadow_free(fixture, &shadows[i]);
        }
    }
    free(shadows);
}

/* ---- poison ---- */

#if defined(__SANITIZE_ADDRESS__)
/* Only blocks in use may be touched, and no poison stays in what went back to the kernel. */
static void test_pymalloc_poisons_free_blocks(void **state)
{
    (void)state;
    struct pymalloc pm;
    assert_true(pymalloc_init(&pm, FIXTURE_HALF_BYTES));
    char *block = pymalloc_alloc(&pm, POOL_CONTAINER, 2);
    char *arena = (char *)((uintptr_t)block & ~(uintptr_t)(ARENA_BYTES - 1));
    assert_null(__asan_region_is_poisoned(block, 48));
    assert_true(__asan_address_is_poisoned(block + 48)); /* the next block, in the magazine */
    assert_true(__asan_address_is_poisoned(arena + ARENA_BYTES - 1));
    pymalloc_free(&pm, POOL_CONTAINER, 2, block);
    assert_true(__asan_address_is_poisoned(block));
    block = pymalloc_alloc(&pm, POOL_CONTAINER, 2);
    pymalloc_trim(&pm);
    assert_null(__asan_region_is_poisoned(block, 48));
    pymalloc_free_word(&pm, pymalloc_ref(&pm, block) & ~63u, (uint64_t)1 << (pymalloc_ref(&pm, block) & 63));
    assert_true(__asan_address_is_poisoned(block + 47));
    pymalloc_fini(&pm);
    assert_null(__asan_region_is_poisoned(arena, ARENA_BYTES));
}
#endif

/* ---- the checker ---- */

/* Adds `by` to something, demands that pymalloc_check() notices, and takes it back. */
#define DAMAGED(fixture, field, by)                                                                          \
    do {                                                                                                     \
        uint64_t kept = (field);                                                                             \
        (field) += (by);                                                                                     \
        assert_int_not_equal(pymalloc_check(&(fixture)->pm, (fixture)->nowhere), 0);                         \
        (field) = (__typeof__((field) + 0))kept;                                                             \
        assert_int_equal(pymalloc_check(&(fixture)->pm, stderr), 0);                                         \
    } while (0)

static void test_pymalloc_check_notices_damage(void **state)
{
    struct fixture *fixture = *state;
    struct pymalloc *pm = &fixture->pm;
    /* Afterwards: pools 0 and 1 of 32 blocks used with one block free each, pool 2 full, pool 3 used, with
     * blocks in the magazine. */
    enum { CAPACITY = POOL_BYTES / 512, COUNT = 3 * CAPACITY + 1 };
    unsigned class = size_class(512);
    void *blocks[COUNT];
    for (unsigned i = 0; i < COUNT; i++) {
        blocks[i] = pymalloc_alloc(pm, POOL_CONTAINER, class);
    }
    pymalloc_free(pm, POOL_CONTAINER, class, blocks[1]);
    pymalloc_free(pm, POOL_CONTAINER, class, blocks[CAPACITY]);
    pymalloc_trim(pm);
    blocks[1] = pymalloc_alloc(pm, POOL_CONTAINER, class);
    assert_int_equal(pymalloc_check(pm, stderr), 0);
    uint32_t number = pymalloc_ref(pm, blocks[0]) >> REF_POOL_SHIFT;
    struct pool *pools = &pm->pools[number];
    struct magazine *magazine = &pm->magazines[POOL_CONTAINER][class];
    struct class_counters *counters = &pm->private->classes[POOL_CONTAINER][class];
    uint32_t count = magazine->count;
    assert_true(count > 1);
    uint32_t listed = pm->private->lists[POOL_CONTAINER][class];
    assert_int_not_equal(listed, 0);
    struct pool *used = &pm->pools[listed];

    DAMAGED(fixture, pools[2].free, 1); /* counted free, no bit */
    DAMAGED(fixture, used->capacity, 1);
    DAMAGED(fixture, used->low, POOL_WORDS - used->low);            /* free blocks below */
    DAMAGED(fixture, pools[2].state, -1);                           /* full, says used */
    DAMAGED(fixture, pools[2].state, -2);                           /* in use, says free */
    DAMAGED(fixture, pools[2].state, 1);                            /* no such state */
    DAMAGED(fixture, pools[2].kind, POOL_ATOM);                     /* of the other stretch */
    DAMAGED(fixture, pools[2].class, -1);                           /* of another class */
    DAMAGED(fixture, pools[2].class, 1);                            /* of none */
    DAMAGED(fixture, pools[5].state, 1);                            /* free, says used */
    DAMAGED(fixture, used->prev, number + 2);                       /* links that disagree */
    DAMAGED(fixture, used->next, listed);                           /* a circle, or an end that is none */
    DAMAGED(fixture, pm->private->lists[POOL_CONTAINER][class], 1); /* another pool at the head */
    DAMAGED(fixture, pm->private->lists[POOL_CONTAINER][class], -listed);  /* nothing on the list */
    DAMAGED(fixture, pm->private->lists[POOL_ATOM][class], 77);            /* a pool of no arena */
    DAMAGED(fixture, pm->freebit[(uint64_t)(number + 2) * POOL_WORDS], 1); /* a block in use marked free */
    DAMAGED(fixture, pm->freebit[(uint64_t)(number + 2) * POOL_WORDS], 2); /* free where no block begins */
    DAMAGED(fixture, pm->freebit[magazine->refs[0] >> 6],
            (uint64_t)1 << (magazine->refs[0] & 63));                           /* free twice */
    DAMAGED(fixture, magazine->refs[0], 1);                                     /* no block */
    DAMAGED(fixture, magazine->refs[0], magazine->refs[1] - magazine->refs[0]); /* a block twice */
    DAMAGED(fixture, magazine->refs[0], -magazine->refs[0]);                    /* reference 0 */
    DAMAGED(fixture, magazine->count, MAGAZINE_ROOM);                           /* more than fit */
    DAMAGED(fixture, counters->pools, 1);
    DAMAGED(fixture, counters->taken, 1);

    for (unsigned i = 0; i < COUNT; i++) {
        if (i != CAPACITY) {
            pymalloc_free(pm, POOL_CONTAINER, class, blocks[i]);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_pymalloc_blocks_are_where_their_kind_belongs),
        TEST(test_pymalloc_pool_serves_ascending_until_full),
        TEST(test_pymalloc_last_freed_is_first_reused),
        TEST(test_pymalloc_full_pool_comes_back_second),
        TEST(test_pymalloc_random_use),
        TEST(test_pymalloc_shuffled_drain_empties_arenas),
        TEST(test_pymalloc_walk_meets_every_block_once),
        TEST(test_pymalloc_free_word_frees_many),
        TEST(test_pymalloc_raw_is_counted_as_malloc_takes),
        TEST(test_pymalloc_tables_are_zero),
        TEST(test_pymalloc_buffer_keeps_contents),
        TEST(test_pymalloc_limit_counts_everything),
        TEST(test_pymalloc_limit_is_reached_again),
        TEST(test_pymalloc_limit_takes_empty_arenas_back),
#if HEAP_DEBUG >= 1
        cmocka_unit_test(test_pymalloc_faults_come_when_asked),
#endif
        TEST(test_pymalloc_figures_of_another_thread),
#if defined(__SANITIZE_ADDRESS__)
        cmocka_unit_test(test_pymalloc_poisons_free_blocks),
#endif
        TEST(test_pymalloc_check_notices_damage),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
