/* pymalloc_private.h -- what arena.c, mapped.c, pymalloc.c, pymalloc_check.c, raw.c and storage.c share; nobody else includes it.
 *
 *   pymalloc.c   magazines and pools      arena.c            arenas and the reserved stretches
 *   raw.c        malloc, counted          mapped.c           what is too large for malloc
 *   storage.c    where objects lie        pymalloc_check.c   proves that all of it agrees
 */
#ifndef HEAPD_HEAP_PYMALLOC_PRIVATE_H
#define HEAPD_HEAP_PYMALLOC_PRIVATE_H

#include "pymalloc.h"

#include <pthread.h>

#define POOL_WORDS (POOL_BYTES / GRANULE_BYTES / 64) /* of `freebit`, per pool */
#define ARENA_NUMBERS 65536u                         /* of both stretches: ref >> REF_ARENA_SHIFT */
#define STRETCHES 2u                                 /* 0: containers and buffers; 1: atoms */
#define ARENAS_WARM_MAX 128u /* a graph of 100 MB comes and goes without the kernel */
#define STRETCH_ARENAS (ARENA_NUMBERS / STRETCHES)   /* of one, the unused first included */
_Static_assert(POOLS_PER_ARENA == 64, "an arena's free pools are the bits of one word");
_Static_assert(HALF_DISTANCE / ARENA_BYTES == STRETCH_ARENAS, "bit 31 of a reference is the stretch");

/* Where a pool is.  FREE must be 0: side arrays that were never touched are all zero.
 *   FREE   its bit in its arena's `free_pools` is set; all other fields are meaningless
 *   USED   on the list of its kind and class; 0 < free < capacity
 *   FULL   on no list; free == 0 (all its blocks are in use or in the magazine) */
enum pool_state { POOL_FREE, POOL_USED, POOL_FULL };

/* Descriptor of a pool, away from its blocks.  Invariants: free == bits set in its words of `freebit`;
 * capacity == free + blocks in use + blocks in the magazine. */
struct pool {
    uint32_t next, prev; /* USED: numbers of its neighbours on the list; 0: none */
    uint16_t free;       /* blocks whose bit is set */
    uint16_t capacity;   /* blocks that fit: 32 to 1024 */
    uint8_t state;       /* enum pool_state */
    uint8_t kind;        /* enum pool_kind */
    uint8_t class;       /* blocks of (class + 1) * 16 bytes */
    uint8_t low;         /* words below this one have no bit set */
};
_Static_assert(sizeof(struct pool) == 16, "descriptors are dense");

/* An arena of a stretch, mapped or not.  Its index there is ref >> REF_ARENA_SHIFT without bit 15. */
struct arena {
    uint64_t free_pools; /* a bit a pool; 0 while not mapped */
    uint32_t next, prev; /* indexes, 0: none; on the usable list (mapped, a pool free) or, `next` alone, on
                          * the warm or the unused list (not mapped); meaningless for a full arena */
    uint32_t mapped;     /* whether it may have blocks */
};

/* A stretch.  Arenas 1..touched have been mapped at some time and are each usable, full, warm or unused. */
struct arena_stretch {
    struct arena *arenas; /* index 0 stays unused */
    uint32_t count;       /* arenas there is address space for: 1..count */
    uint32_t touched;     /* the highest index that was ever mapped */
    uint32_t unused;      /* head of the unused list */
    uint32_t warm;        /* head of the list of those that were given back, but still have their pages */
    uint32_t usable;      /* head of the usable list: ascending number of free pools, so that the fullest
                           * arena serves first and nearly empty ones can drain */
    uint32_t last_with[POOLS_PER_ARENA + 1]; /* the last usable arena with that many free pools; 0: none */
};

/* Figures of one class and kind. */
struct class_counters {
    counter_u64 pools; /* USED and FULL */
    counter_u64 taken; /* blocks not set in freebit: in use or in the magazine */
};

struct pymalloc_private {
    uint64_t templates[SIZE_CLASSES][POOL_WORDS]; /* a fresh pool's words of `freebit` */
    uint32_t lists[POOL_KINDS][SIZE_CLASSES];     /* heads of the lists of USED pools; 0: empty */
    struct arena_stretch stretches[STRETCHES];
    struct class_counters classes[POOL_KINDS][SIZE_CLASSES];
    counter_u64 warm; /* arenas on the warm lists of both stretches; at most ARENAS_WARM_MAX */
    counter_u64 arenas, arenas_total, arenas_reclaimed, arenas_highwater;
    counter_u64 raw_blocks, raw_bytes; /* bytes as pymalloc_raw_rounded() says */
    counter_u64 table_bytes;           /* the same */
    struct waste *waste;               /* mapped.c: freed, and not yet given to the kernel */
    counter_u64 waste_bytes;           /* of it */
    pthread_t trimmer;                 /* gives malloc's free pages back, where has_trimmer */
    bool has_trimmer;
    atomic_bool is_trimmed;            /* it is through; written by it */
    uint64_t malloc_freed;             /* raw and table bytes freed since raw_trim() began */
};

static inline unsigned stretch_of(enum pool_kind kind)
{
    return kind == POOL_ATOM;
}

static inline uint32_t pool_first_ref(uint32_t number)
{
    return number << REF_POOL_SHIFT;
}

/* ---- arena.c ---- */

/* Reserves the stretches and side arrays; fills base, freebit, pools and half_bytes. */
HEAP_MUST_USE bool arena_init(struct pymalloc *pm, uint64_t half_bytes);
void arena_fini(struct pymalloc *pm);
/* The number of a pool that was free, from the fullest arena; 0: limit or no memory. */
uint32_t arena_pool_take(struct pymalloc *pm, unsigned stretch);
/* Takes an empty pool back; may give its arena back. */
void arena_pool_give(struct pymalloc *pm, uint32_t number);
/* Gives the wholly free arenas back that are kept for the next pool, and the pages of all that are warm. */
void arena_drop_empty(struct pymalloc *pm);
/* Gives the pages of one warm arena to the kernel.  false: there was none. */
bool arena_cool_one(struct pymalloc *pm);

/* ---- mapped.c: blocks of MAPPED_BYTES_MIN and more; what is counted is raw.c's affair ---- */

/* Its bytes are 0, and so are those that mapped_realloc() adds.  NULL: no memory. */
void *mapped_alloc(size_t bytes);
void *mapped_realloc(struct pymalloc *pm, void *block, size_t old_bytes, size_t new_bytes);
void mapped_free(struct pymalloc *pm, void *block, size_t bytes);
/* Gives a piece of what was freed to the kernel.  false: there was none. */
bool mapped_release(struct pymalloc *pm);
uint32_t mapped_check(const struct pymalloc *pm, FILE *why);

/* ---- raw.c ---- */

/* false: a fault is injected here; struct pymalloc says how that is asked for. */
bool raw_fault_passed(struct pymalloc *pm);
/* Whether `more` bytes may be asked for; at the limit empty arenas go first.  false: the limit, or a fault. */
bool raw_may_take(struct pymalloc *pm, uint64_t more);
/* Sees to it that malloc's free pages are given back, if that is worth while. */
void raw_trim(struct pymalloc *pm);
/* Waits until that has been done. */
void raw_fini(struct pymalloc *pm);

#endif
