/* pymalloc.h -- arenas, pools and blocks: what object.c and the buffers allocate from (layers +3 to -1).
 *
 *   range   two reserved stretches of address space, 32 GiB apart: containers and buffers in the lower,
 *           atoms in the upper.  A reference is (address - base) >> 4, so bit 31 says "atom".
 *   arena   1 MiB of a stretch, made readable and writable when first needed, given back when empty
 *   pool    16 KiB of an arena: blocks of one size class and one kind
 *   block   a multiple of 16 bytes (a granule), up to 512
 *   raw     everything larger: malloc, counted
 *
 * Nothing here knows what a block contains.  Locking: every function needs the GIL, but
 * pymalloc_figures(), which reads counters that are written with relaxed atomics by the holder.
 */
#ifndef HEAPD_HEAP_PYMALLOC_H
#define HEAPD_HEAP_PYMALLOC_H

#include "heap.h"

#include <stdatomic.h>
#include <string.h>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#define BLOCK_POISON(p, n) ASAN_POISON_MEMORY_REGION(p, n)
#define BLOCK_UNPOISON(p, n) ASAN_UNPOISON_MEMORY_REGION(p, n)
#else
#define BLOCK_POISON(p, n) ((void)(p), (void)(n))
#define BLOCK_UNPOISON(p, n) ((void)(p), (void)(n))
#endif

#define GRANULE_SHIFT 4
#define GRANULE_BYTES 16u
#define BLOCK_BYTES_MAX 512u
#define SIZE_CLASSES 32u /* class c has blocks of (c + 1) * 16 bytes */
#define POOL_SHIFT 14
#define POOL_BYTES 16384u
#define ARENA_SHIFT 20
#define ARENA_BYTES 1048576u
#define POOLS_PER_ARENA (ARENA_BYTES / POOL_BYTES)
#define REF_POOL_SHIFT (POOL_SHIFT - GRANULE_SHIFT)   /* pool number = ref >> 10 */
#define REF_ARENA_SHIFT (ARENA_SHIFT - GRANULE_SHIFT) /* arena number = ref >> 16 */
#define REF_ATOM 0x80000000u                          /* set: the upper stretch */
#define HALF_DISTANCE ((uint64_t)32 << 30)            /* bytes from the lower stretch to the upper */
#define MAGAZINE_ROOM 64u
#define MAGAZINE_REFILL 32u

enum pool_kind { POOL_CONTAINER, POOL_BUFFER, POOL_ATOM, POOL_KINDS };

/* A last-in first-out array of free blocks; allocation and free touch nothing else while it is neither
 * empty nor full.  The bits of its blocks in `freebit` are clear, though the blocks are free. */
struct magazine {
    _Atomic uint32_t count;       /* written by the holder of the GIL, relaxed; read by pymalloc_figures() */
    uint32_t refs[MAGAZINE_ROOM]; /* `count` of them */
};

struct pool; /* descriptor of a pool, indexed by pool number; pymalloc_private.h */

/* The allocator of one heap; embedded in struct heap. */
struct pymalloc {
    char *base;         /* address of reference 0 (never handed out) */
    uint64_t *freebit;  /* a bit a granule, indexed ref >> 6: a free block starts here */
    struct pool *pools; /* indexed ref >> 10 */
    struct magazine magazines[POOL_KINDS][SIZE_CLASSES];
    struct pymalloc_private *private; /* lists of pools and arenas, counters */
    uint64_t max_bytes;               /* arenas + raw + tables may not pass this; 0: no limit */
    uint64_t half_bytes;              /* bytes of each stretch that references reach */
#if HEAP_DEBUG >= 1
    /* Fault injection.  The slow paths that ask for memory count: mapping an arena, refilling a magazine,
     * a raw block, a table, growing one of the last two.  The fail_after'th of them from now fails, and
     * all that follow until a test sets this to 0 (off); with fail_once only that one does.  A block out
     * of a magazine asks for nothing: pymalloc_trim() first makes the next allocation of each class ask. */
    uint64_t fail_after;
    bool fail_once;
#endif
};

static inline void *pymalloc_address(const struct pymalloc *pm, uint32_t ref)
{
    return pm->base + ((uint64_t)ref << GRANULE_SHIFT);
}

static inline uint32_t pymalloc_ref(const struct pymalloc *pm, const void *block)
{
    return (uint32_t)((uint64_t)((const char *)block - pm->base) >> GRANULE_SHIFT);
}

/* 1..512 bytes -> class 0..31. */
static inline unsigned size_class(size_t bytes)
{
    return (unsigned)((bytes - 1) >> GRANULE_SHIFT);
}

/* Reserves both stretches (half_bytes each, rounded up to arenas; at most 32 GiB less an arena) and the side
 * arrays.  The first arena of each stretch is never used, so no block has a reference below 65536, and
 * pm->half_bytes counts it.  false: no address space. */
HEAP_MUST_USE bool pymalloc_init(struct pymalloc *pm, uint64_t half_bytes);
void pymalloc_fini(struct pymalloc *pm);

/* Slow paths of the two functions below. */
void *pymalloc_alloc_slow(struct pymalloc *pm, enum pool_kind kind, unsigned class);
void pymalloc_free_slow(struct pymalloc *pm, enum pool_kind kind, unsigned class, void *block);

/* A block of class `class` (0..31), contents undefined, or NULL: limit reached or no memory. */
static inline void *pymalloc_alloc(struct pymalloc *pm, enum pool_kind kind, unsigned class)
{
    struct magazine *magazine = &pm->magazines[kind][class];
    uint32_t count = atomic_load_explicit(&magazine->count, memory_order_relaxed);
    if (__builtin_expect(count == 0, 0)) {
        return pymalloc_alloc_slow(pm, kind, class);
    }
    atomic_store_explicit(&magazine->count, count - 1, memory_order_relaxed);
    void *block = pymalloc_address(pm, magazine->refs[count - 1]);
    BLOCK_UNPOISON(block, (class + 1) * GRANULE_BYTES);
    return block;
}

/* Frees a block of that kind and class. */
static inline void pymalloc_free(struct pymalloc *pm, enum pool_kind kind, unsigned class, void *block)
{
    struct magazine *magazine = &pm->magazines[kind][class];
    BLOCK_POISON(block, (class + 1) * GRANULE_BYTES);
    uint32_t count = atomic_load_explicit(&magazine->count, memory_order_relaxed);
    if (__builtin_expect(count == MAGAZINE_ROOM, 0)) {
        pymalloc_free_slow(pm, kind, class, block);
        return;
    }
    magazine->refs[count] = pymalloc_ref(pm, block);
    atomic_store_explicit(&magazine->count, count + 1, memory_order_relaxed);
}

/* Raw layer: more than 512 bytes.  `bytes` must be given again, so no header is needed.  Counted against
 * max_bytes as pymalloc_raw_rounded() says.  NULL: limit or no memory; then the old block is as it was. */
void *pymalloc_raw_alloc(struct pymalloc *pm, size_t bytes);
void *pymalloc_raw_realloc(struct pymalloc *pm, void *block, size_t old_bytes, size_t new_bytes);
void pymalloc_raw_free(struct pymalloc *pm, void *block, size_t bytes);
/* Blocks from this size on are mappings of their own (mapped.c), rounded to a multiple of every size of pages. */
#if defined(__SANITIZE_ADDRESS__)
#define MAPPED_BYTES_MIN SIZE_MAX
#else
#define MAPPED_BYTES_MIN ((size_t)1 << 20)
#endif
#define MAPPED_ROUND_BYTES ((size_t)65536)
/* What it takes: of malloc 8 bytes of header and rounding to 16. */
static inline size_t pymalloc_raw_rounded(size_t bytes)
{
    return bytes < MAPPED_BYTES_MIN ? (bytes + 8 + 15) & ~(size_t)15
                                    : (bytes + MAPPED_ROUND_BYTES - 1) & ~(MAPPED_ROUND_BYTES - 1);
}

/* Tables (handles, names, indexes of sessions..): bytes that are no objects, 0 at first, what a realloc adds
 * too; counted as tables.  `table` may be NULL.  NULL: limit or no memory. */
void *pymalloc_table_alloc(struct pymalloc *pm, size_t bytes);
void *pymalloc_table_realloc(struct pymalloc *pm, void *table, size_t old_bytes, size_t new_bytes);
void pymalloc_table_free(struct pymalloc *pm, void *table, size_t bytes);
/* A table of more than 512 bytes is a raw block from here on. */
void pymalloc_table_to_raw(struct pymalloc *pm, size_t bytes);

/* A buffer of any size: a block of kind POOL_BUFFER up to 512 bytes, raw above.  `bytes` > 0. */
static inline void *pymalloc_buffer_alloc(struct pymalloc *pm, size_t bytes)
{
    return bytes <= BLOCK_BYTES_MAX ? pymalloc_alloc(pm, POOL_BUFFER, size_class(bytes))
                                    : pymalloc_raw_alloc(pm, bytes);
}

static inline void pymalloc_buffer_free(struct pymalloc *pm, void *buffer, size_t bytes)
{
    if (bytes <= BLOCK_BYTES_MAX) {
        pymalloc_free(pm, POOL_BUFFER, size_class(bytes), buffer);
    } else {
        pymalloc_raw_free(pm, buffer, bytes);
    }
}

/* Moves the contents where the size class changes; NULL leaves the old buffer as it was. */
void *pymalloc_buffer_realloc(struct pymalloc *pm, void *buffer, size_t old_bytes, size_t new_bytes);

/* What a buffer of that many bytes really takes. */
static inline size_t pymalloc_buffer_rounded(size_t bytes)
{
    return bytes <= BLOCK_BYTES_MAX ? (bytes + 15) & ~(size_t)15 : pymalloc_raw_rounded(bytes);
}

/* Puts all magazines back into their pools, so that empty pools and arenas can go (one empty arena a
 * stretch stays), and sees to it that malloc's free pages are given back. */
void pymalloc_trim(struct pymalloc *pm);
/* Large blocks and arenas that are given back keep their pages for a while: this gives a mebibyte of them to the
 * kernel (some 50 us).  false: there was nothing. */
bool pymalloc_release(struct pymalloc *pm);
/* Whether there is something.  GIL: either. */
bool pymalloc_can_release(const struct pymalloc *pm);

/* Frees at once all blocks whose bits are set in `bits`, 64 granules from `ref` (a multiple of 64, one
 * pool).  For the collector's sweep; the blocks must not be in a magazine. */
void pymalloc_free_word(struct pymalloc *pm, uint32_t ref, uint64_t bits);

/* Walks all pools of a kind that have blocks in use, in memory order: *pool starts at 0.  Afterwards
 * *first is the reference of its first block, *class its size class.  false: no more. */
bool pymalloc_next_pool(const struct pymalloc *pm, enum pool_kind kind, uint32_t *pool, uint32_t *first,
                        unsigned *class);
/* The start bits of the blocks in use among the 64 granules from `ref` (multiple of 64).  Blocks in
 * magazines look used: call pymalloc_trim() before the walk. */
uint64_t pymalloc_used_word(const struct pymalloc *pm, uint32_t ref);

/* The size of the block at `ref`, which is in use. */
uint32_t pymalloc_block_bytes(const struct pymalloc *pm, uint32_t ref);

/* Whether `ref` is the start of a block in use of that kind.  For checks; linear in the magazine. */
bool pymalloc_is_block(const struct pymalloc *pm, uint32_t ref, enum pool_kind kind);

/* Fills the allocator's fields of `stats`.  GIL: either. */
void pymalloc_figures(const struct pymalloc *pm, struct heap_stats *stats);

/* Each pool is on exactly the list its state says, used + free + in magazines == capacity, arenas sorted
 * as promised, counters true.  Say what is wrong on `why`, a line each; return the number of problems. */
uint32_t pymalloc_check(struct pymalloc *pm, FILE *why);
uint32_t arena_check(struct pymalloc *pm, FILE *why);

/* A counter written by the holder of the GIL and read by anybody. */
typedef _Atomic uint64_t counter_u64;
static inline void counter_add(counter_u64 *counter, uint64_t n)
{
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + n,
                          memory_order_relaxed);
}
static inline void counter_sub(counter_u64 *counter, uint64_t n)
{
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) - n,
                          memory_order_relaxed);
}
static inline uint64_t counter_read(const counter_u64 *counter)
{
    return atomic_load_explicit(counter, memory_order_relaxed);
}

#endif
