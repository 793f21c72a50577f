/* gc.h -- the face of the cyclic collector to the rest of heap/.
 *
 * Three generations.  A tracked container is in exactly one place:
 *   generations 0 and 1   a slot of a young chunk; the container's `gc` word says which
 *   generation 2          its bit in `old`, one a granule
 *   permanent             its bit in `frozen`
 *
 * gc.c        where tracked objects are, counting, when a collection is due
 * gc_young.c  generations 0 and 1: CPython's subtraction of internal references
 * gc_cycle.c  everything: marking from the roots, in steps
 * Both collectors give CPython's number of unreachable objects.
 */
#ifndef HEAPD_HEAP_GC_H
#define HEAPD_HEAP_GC_H

#include "gil.h"
#include "heap.h"
#include "pymalloc.h"

#define CHUNK_SLOTS 4096u
#define CHUNK_SHIFT 12

/* Slots of young objects; `gc` word of a container = chunk number * CHUNK_SLOTS + slot + 1. */
struct gc_chunk {
    uint32_t number;     /* index in gc->chunks */
    uint32_t list;       /* 0, 1: the generation; LIST_FREE */
    uint32_t used;       /* slots taken */
    uint32_t untouched;  /* slots from here on were never used */
    uint32_t free;       /* first free slot below `untouched` + 1, linked through scratch; 0: none */
    uint32_t next, prev; /* numbers of neighbours in its list; NO_CHUNK */
    uint32_t refs[CHUNK_SLOTS];    /* 0: free */
    uint32_t scratch[CHUNK_SLOTS]; /* while collecting: references from outside, or REACHED */
};
#define NO_CHUNK 0xFFFFFFFFu
#define LIST_FREE 2u
#define WORDS_PER_POOL (POOL_BYTES / GRANULE_BYTES / 64) /* of a bitmap */

/* Chunks of one generation.  A chunk with a free slot comes before every full one. */
struct gc_list {
    uint32_t head, tail;
};

/* Where a full collection is: IDLE -> MARK -> SWEEP -> IDLE. */
enum gc_state { GC_IDLE, GC_MARK, GC_SWEEP };

struct gc {
    uint64_t *old;    /* bit a granule of the container half: in generation 2 */
    uint64_t *mark;   /* same: reached; all zero while GC_IDLE */
    uint64_t *frozen; /* same: in the permanent generation */
    size_t bitmap_bytes; /* of each of the three */
    struct gc_chunk **chunks;
    uint32_t chunk_count, chunk_room;
    struct gc_list lists[3]; /* generation 0, generation 1, free chunks */
    enum gc_state state;
    bool cycle_on;           /* the barrier is up: a full collection is determining its set */
    atomic_bool collecting, enabled;
    _Atomic uint32_t count[3], threshold[3];
    uint64_t long_lived_pending, long_lived_total; /* CPython's 25 % rule */
    uint32_t *stack;         /* reached, not yet scanned */
    uint64_t stack_used, stack_room;
    uint64_t stack_max;      /* entries; past it `overflowed` is set instead */
    bool overflowed;         /* something reached was not pushed: scan all reached again */
    uint32_t next_slot;      /* GC_MARK: handles below this one have been looked at */
    int young_collected;     /* generations 0..this are being collected by gc_young.c; -1: none */
    uint64_t unreachable;    /* found by the collection under way; in SWEEP: saved in gc.garbage */
    uint64_t swept;          /* freed by the SWEEP under way */
    uint64_t logged;         /* collectable objects that it has told the log of */
    _Atomic unsigned debug;  /* HEAP_GC_.. */
    struct {
        counter_u64 collections, collected, uncollectable, objects;
    } generations[3];
    counter_u64 frozen_count;
    struct histogram pauses;
    struct heap_collection last; /* the one that ended last */
};

/* The one barrier: while a full collection determines its set, any change of a candidate's refcount
 * marks it.  Sits in object_incref(), object_decref() and where a reference changes owner; atoms and
 * what is no candidate are passed over. */
void gc_touch(struct gc *gc, uint32_t ref);
static inline void gc_barrier(struct gc *gc, uint32_t ref)
{
    if (__builtin_expect(gc->cycle_on, 0)) {
        gc_touch(gc, ref);
    }
}

struct container;
HEAP_MUST_USE bool gc_init(struct heap *heap);
void gc_fini(struct heap *heap);
/* Puts a new container into generation 0.  false: no memory for a slot. */
HEAP_MUST_USE bool gc_track(struct heap *heap, struct container *c);
/* Takes a dying container out of whatever it is in. */
void gc_untrack(struct heap *heap, struct container *c);
/* Makes a container of any generation, also a frozen one, one of generation 0; an atom, or what is not tracked, stays
 * as it is, and so does everything when there is no memory for a slot. */
void gc_renew(struct heap *heap, uint32_t ref);
/* Whether a collection is under way: from its first look at the graph until all survivors are in their generation. */
static inline bool gc_is_collecting(const struct gc *gc)
{
    return atomic_load_explicit(&gc->collecting, memory_order_relaxed);
}
/* Counts a container made or freed, tracked or not. */
static inline void gc_count_made(struct gc *gc)
{
    uint32_t count = atomic_load_explicit(&gc->count[0], memory_order_relaxed);
    atomic_store_explicit(&gc->count[0], count + (count != UINT32_MAX), memory_order_relaxed);
}
static inline void gc_count_freed(struct gc *gc)
{
    uint32_t count = atomic_load_explicit(&gc->count[0], memory_order_relaxed);
    atomic_store_explicit(&gc->count[0], count - (count != 0), memory_order_relaxed);
}
/* Generation 0..2, 3 for frozen, -1 untracked. */
int gc_generation(const struct heap *heap, uint32_t ref);

/* ---- between the files of the collector ---- */

static inline bool bit_get(const uint64_t *bits, uint32_t ref)
{
    return bits[ref >> 6] >> (ref & 63) & 1;
}
static inline void bit_set(uint64_t *bits, uint32_t ref)
{
    bits[ref >> 6] |= (uint64_t)1 << (ref & 63);
}
static inline void bit_clear(uint64_t *bits, uint32_t ref)
{
    bits[ref >> 6] &= ~((uint64_t)1 << (ref & 63));
}

void gc_push(struct gc *gc, uint32_t ref); /* onto the stack, or sets `overflowed` */
/* Moves a chunk to another list; an emptied one (to LIST_FREE) is as new. */
void gc_chunk_move(struct gc *gc, struct gc_chunk *chunk, uint32_t list);
/* A slot of generation `list` (0 or 1) for the container.  false: no memory. */
HEAP_MUST_USE bool gc_place(struct heap *heap, struct container *c, uint32_t list);
/* Makes a container with a slot one of generation 2; the caller gives the slot back. */
void gc_make_old(struct heap *heap, struct container *c);
/* All young objects become old; their chunks free. */
void gc_promote_all(struct heap *heap);
/* For each that is condemned: clears its weakrefs, lists its finalizer, names it to the log. */
void gc_judge(struct heap *heap, uint32_t ref, bool (*condemned)(const struct heap *heap, uint32_t ref));
/* First for all that is condemned: drops a container's references but to what else is condemned, its id, its
 * finalizer that has run and its buffers.  Then for each before its block goes: a class keeps its shapes until then, because its
 * instances need them. */
void gc_strip(struct heap *heap, struct container *c, bool (*condemned)(const struct heap *heap, uint32_t ref));
void gc_free_class(struct heap *heap, struct container *c);

void gc_collect_young(struct heap_collection *result, struct heap *heap, int generation);
/* A full collection: begin, then steps until true.  `budget` counts references scanned. */
void gc_cycle_begin(struct heap *heap);
HEAP_MUST_USE bool gc_cycle_step(struct heap_collection *result, struct heap *heap, uint64_t budget);

/* Every tracked object in one place, chunks and counters right, no mark outside a collection. */
uint32_t gc_check_generations(struct heap *heap, FILE *why);

#endif
