/* bench_alloc.c -- one allocator, one pattern of use: ns per operation, once for each line on stdin.
 *
 *     bench_alloc SIDE PATTERN SCALE [FILE]
 *
 * SIDE      inlined   heap/'s allocator as heap/ uses it
 *           called    the same through functions in another file (alloc_called.c)
 *           malloc    malloc() and free(); LD_PRELOAD says whose
 * PATTERN   a name in `patterns` below; `trace` reads FILE, a cpython-heap.jsonl.gz
 * SCALE     what the numbers of blocks and steps are multiplied with; 1 but for a trial
 *
 * An allocation and a free are one operation each; a pair is one of both, and so is a step of churn: they
 * count once.  Who allocates writes the first word of the block, as an object writes its header.  Sizes and
 * orders come from tables made before, so that no random numbers are measured.  What is measured is the CPU time
 * of the process, the kernel's part included.  The first run, which maps fresh memory, is not timed.
 *
 * At the end of the input the blocks are counted and the allocator is checked; exit code 1 if anything is wrong.
 */
#include "alloc_called.h"
#include "graph.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define FILL_BLOCKS 1000000u
#define STEPS_FULL 2000000u /* of pairs and churn */

enum side { INLINED, CALLED, MALLOC, SIDES };

struct pattern;
struct bench {
    struct pymalloc pm;
    const struct pattern *pattern;
    uint32_t count;    /* blocks alive at the most */
    uint32_t steps;    /* of pairs and churn */
    void **blocks;     /* count */
    uint32_t *sizes;   /* count + steps: of the first fill, then of what comes */
    uint32_t *now;     /* count: churn's sizes of what is there */
    uint32_t *order;   /* a permutation of the blocks, or `steps` blocks for churn to replace */
    uint64_t random;
};

/* Returns ns per operation. */
typedef double (*runner)(struct bench *b);

struct pattern {
    const char *name;
    runner run[SIDES];
    uint32_t bytes_min, bytes_max; /* 0: sizes of the trace */
    uint32_t blocks;               /* alive at the most */
};

static void die(const char *why)
{
    fprintf(stderr, "bench_alloc: %s\n", why);
    exit(1);
}

static uint32_t random_below(struct bench *b, uint32_t below)
{
    uint64_t z = (b->random += UINT64_C(0x9E3779B97F4A7C15));
    z = (z ^ z >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ z >> 27) * UINT64_C(0x94D049BB133111EB);
    return (uint32_t)(((z ^ z >> 31) & 0xFFFFFFFFu) * below >> 32);
}

static uint64_t cpu_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* ---- the sides ---- */

static inline void *take(struct bench *b, enum side side, uint32_t bytes)
{
    void *block = side == INLINED  ? pymalloc_buffer_alloc(&b->pm, bytes)
                  : side == CALLED ? alloc_called(&b->pm, bytes)
                                   : malloc(bytes);
    if (__builtin_expect(block == NULL, 0)) {
        die("out of memory");
    }
    *(volatile uint64_t *)block = bytes;
    return block;
}

static inline void give(struct bench *b, enum side side, uint32_t bytes, void *block)
{
    if (side == INLINED) {
        pymalloc_buffer_free(&b->pm, block, bytes);
    } else if (side == CALLED) {
        free_called(&b->pm, block, bytes);
    } else {
        free(block);
    }
}

/* ---- patterns ---- */

static inline double pairs(struct bench *b, enum side side, bool mixed)
{
    uint64_t start = cpu_ns();
    for (uint32_t i = 0; i < b->steps; i++) {
        uint32_t bytes = mixed ? b->sizes[i] : 48;
        give(b, side, bytes, take(b, side, bytes));
    }
    return (double)(cpu_ns() - start) / b->steps;
}

enum drain { IN_ORDER, IN_REVERSE, SHUFFLED };

static inline double fill_drain(struct bench *b, enum side side, enum drain drain, bool mixed)
{
    uint32_t count = b->count;
    uint64_t start = cpu_ns();
    for (uint32_t i = 0; i < count; i++) {
        b->blocks[i] = take(b, side, mixed ? b->sizes[i] : 48);
    }
    for (uint32_t i = 0; i < count; i++) {
        uint32_t at = drain == IN_ORDER ? i : drain == IN_REVERSE ? count - 1 - i : b->order[i];
        give(b, side, mixed ? b->sizes[at] : 48, b->blocks[at]);
    }
    return (double)(cpu_ns() - start) / (2.0 * count);
}

/* Replaces random blocks by blocks of other sizes; filling before and draining after are not measured. */
static inline double churn(struct bench *b, enum side side)
{
    const uint32_t *next = b->sizes + b->count;
    for (uint32_t i = 0; i < b->count; i++) {
        b->now[i] = b->sizes[i];
        b->blocks[i] = take(b, side, b->now[i]);
    }
    uint64_t start = cpu_ns();
    for (uint32_t i = 0; i < b->steps; i++) {
        uint32_t at = b->order[i];
        give(b, side, b->now[at], b->blocks[at]);
        b->now[at] = next[i];
        b->blocks[at] = take(b, side, next[i]);
    }
    uint64_t spent = cpu_ns() - start;
    for (uint32_t i = 0; i < b->count; i++) {
        give(b, side, b->now[i], b->blocks[i]);
    }
    return (double)spent / b->steps;
}

/* Each side gets code of its own, as if it had been written for it. */
#define RUNNERS(name, call)                                                                                  \
    static double name##_inlined(struct bench *b)                                                            \
    {                                                                                                        \
        enum side side = INLINED;                                                                            \
        return call;                                                                                         \
    }                                                                                                        \
    static double name##_called(struct bench *b)                                                             \
    {                                                                                                        \
        enum side side = CALLED;                                                                             \
        return call;                                                                                         \
    }                                                                                                        \
    static double name##_malloc(struct bench *b)                                                             \
    {                                                                                                        \
        enum side side = MALLOC;                                                                             \
        return call;                                                                                         \
    }
#define RUN(name) {name##_inlined, name##_called, name##_malloc}
RUNNERS(pairs_same, pairs(b, side, false))
RUNNERS(pairs_mixed, pairs(b, side, true))
RUNNERS(drain_in_order, fill_drain(b, side, IN_ORDER, false))
RUNNERS(drain_in_reverse, fill_drain(b, side, IN_REVERSE, false))
RUNNERS(drain_shuffled, fill_drain(b, side, SHUFFLED, false))
RUNNERS(churn, churn(b, side))
RUNNERS(trace, fill_drain(b, side, IN_ORDER, true))

static const struct pattern patterns[] = {
    {"pairs", RUN(pairs_same), 48, 48, 1},
    {"pairs-mixed", RUN(pairs_mixed), 16, 512, 1},
    {"fill-drain", RUN(drain_in_order), 48, 48, FILL_BLOCKS},
    {"fill-drain-reverse", RUN(drain_in_reverse), 48, 48, FILL_BLOCKS},
    {"fill-drain-shuffled", RUN(drain_shuffled), 48, 48, FILL_BLOCKS},
    {"churn-2k", RUN(churn), 16, 512, 2000},
    {"churn-200k", RUN(churn), 16, 512, 200000},
    {"churn-2m", RUN(churn), 32, 96, 2000000},
    {"trace", RUN(trace), 0, 0, 0},
};
#define PATTERNS (sizeof patterns / sizeof *patterns)
static const char *const side_name[SIDES] = {[INLINED] = "inlined", [CALLED] = "called", [MALLOC] = "malloc"};

/* ---- preparing ---- */

static void *must_alloc(size_t count, size_t size)
{
    void *memory = calloc(count, size);
    if (memory == NULL) {
        die("out of memory");
    }
    return memory;
}

/* Fisher and Yates for drains; random blocks for churn. */
static void make_order(struct bench *b)
{
    bool permute = b->pattern->run[INLINED] != churn_inlined;
    uint32_t count = permute ? b->count : b->steps;
    b->order = must_alloc(count, sizeof *b->order);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t other = random_below(b, permute ? i + 1 : b->count);
        b->order[i] = permute ? b->order[other] : other;
        if (permute) {
            b->order[other] = i;
        }
    }
}

static uint32_t scaled(uint32_t count, double scale)
{
    double wanted = count * scale;
    return wanted >= 1 ? (uint32_t)wanted : 1;
}

static void bench_init(struct bench *b, const struct pattern *pattern, double scale, const char *trace)
{
    *b = (struct bench){.pattern = pattern, .random = 20240607};
    b->count = scaled(pattern->blocks, scale);
    b->steps = scaled(STEPS_FULL, scale);
    if (pattern->bytes_max == 0) {
        struct graph graph;
        graph_read(&graph, trace);
        b->count = scaled(graph.n, scale);
        b->sizes = graph.bytes;
        graph.bytes = NULL;
        graph_free(&graph);
    } else {
        b->sizes = must_alloc(b->count + b->steps, sizeof *b->sizes);
        for (uint32_t i = 0; i < b->count + b->steps; i++) {
            b->sizes[i] = pattern->bytes_min + random_below(b, pattern->bytes_max - pattern->bytes_min + 1);
        }
    }
    b->blocks = must_alloc(b->count, sizeof *b->blocks);
    b->now = must_alloc(b->count, sizeof *b->now);
    make_order(b);
    if (!pymalloc_init(&b->pm, HALF_DISTANCE)) {
        die("no address space");
    }
}

/* Returns how many problems the allocator has after all blocks were freed. */
static uint32_t bench_check(struct bench *b)
{
    struct heap_stats stats = {0};
    pymalloc_trim(&b->pm);
    uint32_t problems = pymalloc_check(&b->pm, stderr) + arena_check(&b->pm, stderr);
    pymalloc_figures(&b->pm, &stats);
    if (stats.blocks != 0 || stats.raw_blocks != 0) {
        fprintf(stderr, "bench_alloc: blocks are left\n");
        problems++;
    }
    return problems;
}

static void bench_fini(struct bench *b)
{
    pymalloc_fini(&b->pm);
    free(b->blocks);
    free(b->sizes);
    free(b->now);
    free(b->order);
}

static int usage_error(void)
{
    fputs("usage: bench_alloc inlined|called|malloc PATTERN SCALE [FILE]\npatterns:", stderr);
    for (size_t i = 0; i < PATTERNS; i++) {
        fprintf(stderr, " %s", patterns[i].name);
    }
    fputs("\n", stderr);
    return 2;
}

int main(int argc, char **argv)
{
    enum side side = 0;
    size_t number = 0;
    while (argc >= 4 && side < SIDES && strcmp(argv[1], side_name[side]) != 0) {
        side++;
    }
    while (argc >= 4 && number < PATTERNS && strcmp(argv[2], patterns[number].name) != 0) {
        number++;
    }
    if (argc < 4 || side == SIDES || number == PATTERNS || (patterns[number].bytes_max == 0) != (argc == 5)) {
        return usage_error();
    }
    struct bench b;
    char word[32];
    bench_init(&b, &patterns[number], strtod(argv[3], NULL), argv[argc - 1]);
    patterns[number].run[side](&b);
    while (fgets(word, sizeof word, stdin) != NULL) {
        printf("{\"ns\": %.3f}\n", patterns[number].run[side](&b));
        fflush(stdout);
    }
    uint32_t problems = bench_check(&b);
    bench_fini(&b);
    return problems == 0 ? 0 : 1;
}
