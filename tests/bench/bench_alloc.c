/* bench_alloc.c -- the allocator of heap/ beside the C library's malloc, ns per operation.
 *
 * Each row runs ROUNDS times on both in turn, so that noise of the machine meets both alike; the median
 * of each is printed.  An allocation and a free are one operation each; a pair is one of both, counted
 * once.  With "pages kept" one block in 200 survives all rounds, so that no memory goes back to the kernel
 * and comes anew: without it the page faults of fresh memory are most of a fill.  Sizes come from a table
 * made before, so the rows do not measure the random numbers.
 */
#include "../../heap/pymalloc.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define ROUNDS 9u
#define BLOCKS 1000000u

struct bench {
    struct pymalloc pm;
    void **blocks;    /* BLOCKS of them */
    uint32_t *order;  /* a permutation of 0..BLOCKS */
    uint8_t *classes; /* BLOCKS classes of the row's sizes */
    uint32_t live;    /* blocks that churn keeps alive */
    uint64_t random;
};

static uint32_t random_below(struct bench *b, uint32_t below)
{
    uint64_t z = (b->random += UINT64_C(0x9E3779B97F4A7C15));
    z = (z ^ z >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ z >> 27) * UINT64_C(0x94D049BB133111EB);
    return (uint32_t)(((z ^ z >> 31) & 0xFFFFFFFFu) * below >> 32);
}

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* ---- the two allocators ---- */

static inline void *take(struct bench *b, bool ours, unsigned class)
{
    void *block = ours ? pymalloc_alloc(&b->pm, POOL_CONTAINER, class) : malloc((class + 1) * GRANULE_BYTES);
    if (block == NULL) {
        fprintf(stderr, "bench_alloc: out of memory\n");
        exit(1);
    }
    *(volatile uint64_t *)block = class; /* an object writes its header, and reads it when it dies */
    return block;
}

static inline void give(struct bench *b, bool ours, unsigned class, void *block)
{
    (void)*(volatile uint64_t *)block;
    if (ours) {
        pymalloc_free(&b->pm, POOL_CONTAINER, class, block);
    } else {
        free(block);
    }
}

/* ---- rows: each returns how many operations it did ---- */

static inline uint64_t pairs(struct bench *b, bool ours)
{
    for (uint32_t i = 0; i < BLOCKS; i++) {
        give(b, ours, b->classes[i], take(b, ours, b->classes[i]));
    }
    return BLOCKS;
}

static inline void fill(struct bench *b, bool ours)
{
    for (uint32_t i = 0; i < BLOCKS; i++) {
        b->blocks[i] = take(b, ours, b->classes[i]);
    }
}

static inline uint64_t fill_drain(struct bench *b, bool ours)
{
    fill(b, ours);
    for (uint32_t i = 0; i < BLOCKS; i++) {
        give(b, ours, b->classes[i], b->blocks[i]);
    }
    return 2 * BLOCKS;
}

static inline uint64_t fill_drain_reverse(struct bench *b, bool ours)
{
    fill(b, ours);
    for (uint32_t i = BLOCKS; i-- > 0;) {
        give(b, ours, b->classes[i], b->blocks[i]);
    }
    return 2 * BLOCKS;
}

static inline uint64_t fill_drain_shuffled(struct bench *b, bool ours)
{
    fill(b, ours);
    for (uint32_t i = 0; i < BLOCKS; i++) {
        give(b, ours, b->classes[b->order[i]], b->blocks[b->order[i]]);
    }
    return 2 * BLOCKS;
}

/* Replaces random ones of `live` blocks by blocks of other sizes; a free and an allocation count as one. */
static inline uint64_t churn(struct bench *b, bool ours)
{
    uint32_t live = b->live;
    uint8_t *classes = b->classes + live; /* sizes of what comes; those of the first fill lie before */
    for (uint32_t i = 0; i < live; i++) {
        b->blocks[i] = take(b, ours, b->classes[i]);
    }
    uint8_t *now = malloc(live);
    if (now == NULL) {
        exit(1);
    }
    memcpy(now, b->classes, live);
    uint64_t start = now_ns();
    for (uint32_t i = 0; i < BLOCKS - live; i++) {
        uint32_t at = (uint32_t)((uint64_t)b->order[i] * live / BLOCKS);
        give(b, ours, now[at], b->blocks[at]);
        now[at] = classes[i];
        b->blocks[at] = take(b, ours, classes[i]);
    }
    uint64_t spent = now_ns() - start;
    for (uint32_t i = 0; i < live; i++) {
        give(b, ours, now[i], b->blocks[i]);
    }
    free(now);
    return spent;
}

/* ---- measuring ---- */

#define BOTH(name)                                                                                           \
    static uint64_t name##_ours(struct bench *b)                                                             \
    {                                                                                                        \
        return name(b, true);                                                                                \
    }                                                                                                        \
    static uint64_t name##_malloc(struct bench *b)                                                           \
    {                                                                                                        \
        return name(b, false);                                                                               \
    }
BOTH(pairs)
BOTH(fill_drain)
BOTH(fill_drain_reverse)
BOTH(fill_drain_shuffled)
BOTH(churn)

struct row {
    const char *name;
    uint64_t (*ours)(struct bench *b); /* operations; for churn ns */
    uint64_t (*libc)(struct bench *b);
    uint32_t bytes_min, bytes_max;
    uint32_t live; /* churn: blocks alive; else 0 */
    bool kept;     /* with survivors */
};
#define SURVIVORS_ONE_IN 200u

static int compare_doubles(const void *a, const void *b)
{
    double left = *(const double *)a, right = *(const double *)b;
    return (left > right) - (left < right);
}

static double run_once(struct bench *b, const struct row *row, bool ours)
{
    uint64_t start = now_ns();
    uint64_t result = ours ? row->ours(b) : row->libc(b);
    uint64_t spent = now_ns() - start;
    return row->live != 0 ? (double)result / (BLOCKS - row->live) : (double)spent / (double)result;
}

/* Fills and frees all but the survivors, which go to `survivors`; or frees these. */
static void make_survivors(struct bench *b, bool ours, void **survivors)
{
    fill(b, ours);
    for (uint32_t i = 0; i < BLOCKS; i++) {
        if (i % SURVIVORS_ONE_IN == 0) {
            survivors[i / SURVIVORS_ONE_IN] = b->blocks[i];
        } else {
            give(b, ours, b->classes[i], b->blocks[i]);
        }
    }
}

static void free_survivors(struct bench *b, bool ours, void *const *survivors)
{
    for (uint32_t i = 0; i < BLOCKS; i += SURVIVORS_ONE_IN) {
        give(b, ours, b->classes[i], survivors[i / SURVIVORS_ONE_IN]);
    }
}

static void run(struct bench *b, const struct row *row)
{
    double ours[ROUNDS], libc[ROUNDS];
    b->live = row->live;
    for (uint32_t i = 0; i < BLOCKS; i++) {
        b->classes[i] =
            (uint8_t)size_class(row->bytes_min + random_below(b, row->bytes_max - row->bytes_min + 1));
    }
    void *survivors[2][BLOCKS / SURVIVORS_ONE_IN];
    for (unsigned side = 0; side < 2 && row->kept; side++) {
        make_survivors(b, side == 1, survivors[side]);
    }
    for (unsigned i = 0; i < ROUNDS; i++) {
        libc[i] = run_once(b, row, false);
        ours[i] = run_once(b, row, true);
    }
    for (unsigned side = 0; side < 2 && row->kept; side++) {
        free_survivors(b, side == 1, survivors[side]);
    }
    qsort(ours, ROUNDS, sizeof *ours, compare_doubles);
    qsort(libc, ROUNDS, sizeof *libc, compare_doubles);
    printf("%-34s %10.1f %10.1f %9.1fx\n", row->name, ours[ROUNDS / 2], libc[ROUNDS / 2],
           libc[ROUNDS / 2] / ours[ROUNDS / 2]);
}

int main(void)
{
    static const struct row rows[] = {
        {"pair, 48 bytes", pairs_ours, pairs_malloc, 48, 48, 0, false},
        {"pair, 16 to 512 bytes", pairs_ours, pairs_malloc, 16, 512, 0, false},
        {"fill, drain, 48", fill_drain_ours, fill_drain_malloc, 48, 48, 0, false},
        {"fill, drain, 48, pages kept", fill_drain_ours, fill_drain_malloc, 48, 48, 0, true},
        {"the same, drained in reverse", fill_drain_reverse_ours, fill_drain_reverse_malloc, 48, 48, 0, true},
        {"the same, drained shuffled", fill_drain_shuffled_ours, fill_drain_shuffled_malloc, 48, 48, 0, true},
        {"churn 16 to 512, 2,000 live", churn_ours, churn_malloc, 16, 512, 2000, false},
        {"churn 16 to 512, 200,000 live", churn_ours, churn_malloc, 16, 512, 200000, false},
        {"churn 32 to 96, 500,000 live", churn_ours, churn_malloc, 32, 96, 500000, false},
    };
    struct bench b = {.random = 20240607};
    b.blocks = calloc(BLOCKS, sizeof *b.blocks);
    b.order = calloc(BLOCKS, sizeof *b.order);
    b.classes = calloc(BLOCKS, 1);
    if (b.blocks == NULL || b.order == NULL || b.classes == NULL || !pymalloc_init(&b.pm, HALF_DISTANCE)) {
        fprintf(stderr, "bench_alloc: no memory\n");
        return 1;
    }
    for (uint32_t i = 0; i < BLOCKS; i++) {
        uint32_t other = random_below(&b, i + 1);
        b.order[i] = b.order[other];
        b.order[other] = i;
    }
    printf("%-34s %10s %10s %10s\n", "ns per operation", "heapd", "malloc", "ratio");
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        run(&b, &rows[i]);
    }
    pymalloc_fini(&b.pm);
    free(b.blocks);
    free(b.order);
    free(b.classes);
    return 0;
}
