/* gc.h -- the face of the cyclic collector to the rest of heap/.
 *
 * Three generations.  A tracked container is in exactly one place:
 *   generations 0 and 1   a slot of a young chunk; the container's `gc` word says which
 *   generation 2          its bit in `old`, one a granule
 *   permanent             its bit in `frozen`
 *
 * gc_young.c collects generations 0 and 1 by CPython's subtraction of internal references; gc_cycle.c
 * collects everything by marking from the roots.  Both give CPython's number of unreachable objects.
 */
#ifndef HEAPD_HEAP_GC_H
#define HEAPD_HEAP_GC_H

#include "heap.h"
#include "gil.h"
#include "pymalloc.h"

#define CHUNK_SLOTS 4096u

/* Slots of young objects; `gc` word of a container = chunk number * CHUNK_SLOTS + slot + 1. */
struct gc_chunk {
    uint32_t number;             /* index in gc->chunks */
    uint32_t generation;         /* 0 or 1; meaningless while free */
    uint32_t used;               /* slots taken */
    uint32_t untouched;          /* slots from here on were never used */
    uint32_t free;               /* first free slot + 1, linked through scratch; 0: none */
    uint32_t next, prev;         /* numbers of neighbours in the generation's list or the free list; NO_CHUNK */
    uint32_t refs[CHUNK_SLOTS];  /* 0: free */
    uint32_t scratch[CHUNK_SLOTS]; /* gc_refs while collecting */
};
#define NO_CHUNK 0xFFFFFFFFu

/* Where a full collection is.  IDLE -> MARK -> JUDGE -> SWEEP -> IDLE. */
enum gc_state { GC_IDLE, GC_MARK, GC_JUDGE, GC_SWEEP };

struct gc {
    uint64_t *old;    /* bit a granule of the container half: in generation 2 */
    uint64_t *mark;   /* same: reached; all zero while GC_IDLE */
    uint64_t *frozen; /* same: in the permanent generation */
    struct gc_chunk **chunks;
    uint32_t chunk_count, chunk_room;
    uint32_t head[3], tail[3]; /* chunk lists: generation 0, generation 1, and free chunks at 2 */
    enum gc_state state;
    bool cycle_on; /* the barrier is up: a full collection is determining its set */
    bool collecting;
    atomic_bool enabled;
    _Atomic uint32_t count[3], threshold[3];
    uint64_t long_lived_pending, long_lived_total;
    uint32_t *stack; /* mark stack */
    uint64_t stack_used, stack_room;
    bool stack_overflowed; /* something marked was not pushed: rescan */
    struct {
        counter_u64 collections, collected, uncollectable, objects;
    } generations[3];
    counter_u64 frozen_count;
    struct histogram pauses;
};

/* The one barrier: while a full collection determines its set, any change of a candidate's refcount
 * marks it.  Sits in object_incref() and object_decref(); atoms never need it. */
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
/* Counts a container made or freed, tracked or not. */
void gc_count_made(struct gc *gc);
void gc_count_freed(struct gc *gc);
/* Generation 0..2, 3 for frozen, -1 untracked. */
int gc_generation(const struct heap *heap, uint32_t ref);

void gc_collect_young(struct heap_collection *result, struct heap *heap, int generation);
void gc_collect_full(struct heap_collection *result, struct heap *heap);

uint32_t gc_check_generations(struct heap *heap, FILE *why);

#endif
