/* gc.h -- the face of the cyclic collector to the rest of heap/.
 *
 * Three generations.  A tracked container is in exactly one place:
 *   generations 0 and 1   a slot of a young chunk; the container's `gc` word says which
 *   generation 2          its bit in `old`, one a granule
 *   permanent             its bit in `frozen`
 *
 * gc.c          where tracked objects are, settings, listings
 * gc_collect.c  when a collection is due, its beginning and its end, who has to wait for it
 * gc_young.c    small collections of generations 0 and 1, in one go: subtraction of internal references
 * gc_cycle.c    the machine that collects anything in slices: its states, one after the other
 * gc_mark.c       what it does until the verdict: full collections mark from the roots, others subtract
 * gc_sweep.c      what it does with those that are not reached
 * gc_check.c    the checker, in any state
 * All give CPython's number of unreachable objects.
 */
#ifndef HEAPD_HEAP_GC_H
#define HEAPD_HEAP_GC_H

#include "gil.h"
#include "heap.h"
#include "pymalloc.h"

struct container;
struct slice;

#define CHUNK_SLOTS 4096u
#define CHUNK_SHIFT 12

/* Slots of young objects; `gc` word of a container = chunk number * CHUNK_SLOTS + slot + 1. */
struct gc_chunk {
    uint32_t number;     /* index in gc->chunks */
    uint32_t list;       /* 0, 1: the generation; LIST_FREE, LIST_CANDIDATE */
    uint32_t used;       /* slots taken */
    uint32_t untouched;  /* slots from here on were never used */
    uint32_t free;       /* first free slot below `untouched` + 1, linked through scratch; 0: none */
    uint32_t next, prev; /* numbers of neighbours in its list; NO_CHUNK */
    uint32_t refs[CHUNK_SLOTS];    /* 0: free */
    uint32_t scratch[CHUNK_SLOTS]; /* of objects, while collecting: references from outside */
};
#define NO_CHUNK 0xFFFFFFFFu
#define LIST_FREE 2u
#define LIST_CANDIDATE 3u /* what the machine collects; new objects do not go there */
#define LISTS 4u
#define GC_SMALL_MAX 20000u /* candidates that gc_young.c collects in one go: some 200 us */
#define GC_STACK_ROOM 4096u /* entries that it has at first */
#define GC_STACK_KEPT (GC_STACK_ROOM * 4)   /* that it goes on having */
#define GC_STACK_PIECE (GC_STACK_ROOM * 64) /* that are given back together */
#define WORDS_PER_POOL (POOL_BYTES / GRANULE_BYTES / 64) /* of a bitmap */

/* Chunks of one generation.  A chunk with a free slot comes before every full one. */
struct gc_list {
    uint32_t head, tail;
};

/* Where the machine is.  gc_cycle.c says what is done in each, and which are passed over. */
enum gc_state {
    GC_IDLE,
    GC_DRAIN,    /* deaths that were under way come to their end; then t0 */
    GC_PROMOTE,  /* full: the young become old */
    GC_FROZEN,   /* full: frozen objects and gc.garbage are reached */
    GC_ROOTS,    /* full: what sessions and names have is reached */
    GC_COPY,     /* young: refcounts are copied */
    GC_SUBTRACT, /* young: references among the candidates are taken away */
    GC_OUTSIDE,  /* young: what has references left is reached */
    GC_RESCAN,   /* what is reached is scanned again, where the stack could not take everything */
    /* t1: who is not reached is condemned. */
    GC_WEAKREFS, /* weakrefs to the condemned are cleared, their finalizers listed */
    GC_SORT,     /* these are put in order */
    GC_FINALIZE, /* and run */
    GC_NAMED,    /* what those have given a name is reached */
    GC_NAMED_AGAIN, /* as GC_RESCAN */
    GC_TELL,     /* what became of those that were finalized is told */
    GC_COUNT,    /* saveall: how many there are */
    GC_SAVE,     /* saveall: all get a reference from gc.garbage */
    /* The verdict: the condemned are gone for everybody. */
    GC_STRIP,    /* the condemned drop their references to others */
    GC_FREE,     /* their blocks are freed, and marks wiped */
    GC_KEEP,     /* saveall: they appear in gc.garbage */
    GC_RETURN,   /* young: the survivors go to the next generation */
    GC_END       /* what the sweep has killed comes to its end */
};

/* gc.garbage: each entry is one reference. */
struct garbage {
    uint32_t *refs;
    uint64_t len, room;
};

/* A collection that is under way. */
struct gc_run {
    struct heap_collection result;
    uint64_t start_us;
    bool automatic, is_sliced; /* it went on after its first slice */
    struct heap_dying dying;   /* of what it has killed; in use while `dies` */
    bool dies;
};

/* A container with more references than one piece may have, while it is scanned, from the end. */
struct gc_partial {
    uint32_t ref;  /* 0: none */
    uint32_t left; /* references below have not been looked at */
};

struct gc {
    bool cycle_on;           /* the barrier is up: the machine is determining its set */
    enum gc_state state;
    uint64_t *old;    /* bit a granule of the container half: in generation 2 */
    uint64_t *mark;   /* same: reached; all zero while GC_IDLE */
    uint64_t *frozen; /* same: in the permanent generation */
    uint64_t *young;  /* same: candidates of a young collection by the machine; all zero otherwise */
    uint64_t *candidates; /* old or young: who can be condemned is there, once the young of a full one are old */
    size_t bitmap_bytes;  /* of each of the four */
    struct gc_chunk **chunks;
    uint32_t chunk_count, chunk_room;
    struct gc_list lists[LISTS]; /* generation 0, generation 1, free chunks, candidates */
    atomic_bool collecting, enabled;
    _Atomic uint32_t count[3], threshold[3];
    uint64_t long_lived_pending, long_lived_total; /* CPython's 25 % rule */
    uint32_t *stack;         /* reached, not yet scanned */
    uint64_t stack_used, stack_room;
    uint64_t stack_max;      /* entries; past it `overflowed` is set instead */
    size_t stack_bytes;      /* of address space */
    atomic_bool stack_is_large; /* some of it can be given back; anybody may ask */
    bool overflowed;         /* something reached was not pushed: scan all reached again */
    struct gc_partial partial;

    /* Of gc_young.c. */
    uint64_t small_max;      /* candidates: more are for the machine */
    int young_collected;     /* generations 0..this are being collected; -1: none */
    uint64_t young_found;    /* how many are garbage */
    uint8_t young_flags;     /* all flags that any candidate has */
    bool young_needs_more;   /* the end of some is more than freeing them */
    bool young_weakrefs;     /* some have any */
    uint64_t stack_base;     /* entries below are not its own */

    /* Of the machine. */
    struct gc_run run;
    int target;              /* generation that LIST_CANDIDATE counts in: where its survivors end */
    uint32_t next;           /* slot of the handle table, entry of gc.garbage or slot of the first chunk to go on with */
    uint32_t chunk;          /* number of the chunk that `next` is of, NO_CHUNK: none; of passes that leave it in its list */
    uint32_t cursor;         /* granule that a walk over the pools goes on with; words below it are done */
    uint32_t swept;          /* GC_FREE: nothing below this granule is condemned or marked any more; else 0 */
    struct garbage saved;    /* GC_SAVE to GC_KEEP: what will be in gc.garbage */
    bool saves;              /* from the verdict on: all that would be condemned is there instead */
    uint64_t unreachable;    /* found by the collection under way */
    bool poll_waits;         /* a young collection that is due has to wait for the machine */
    struct gc_run inside;    /* a small young collection that is not yet over; while `dies` */

    uint64_t logged;         /* collectable objects that it has told the log of */
    _Atomic unsigned debug;  /* HEAP_GC_.. */
    bool collect_always;     /* heap_set_collect_always() */
    struct {
        counter_u64 collections, collected, uncollectable, objects;
    } generations[3];
    counter_u64 frozen_count;
    struct histogram pauses;
    struct heap_collection last; /* heap_last_collection() */
};

HEAP_MUST_USE bool gc_init(struct heap *heap);
void gc_fini(struct heap *heap);
/* gc_track() of heap_internal.h where the chunk has holes or is nearly full, or there is none.  false: no memory. */
HEAP_MUST_USE bool gc_track_slowly(struct heap *heap, struct container *c);
/* Takes a dying container out of whatever it is in. */
void gc_untrack(struct heap *heap, struct container *c);
/* Makes a container of any generation, also a frozen one, one of generation 0; an atom, or what is not tracked, stays
 * as it is, and so does everything when there is no memory for a slot. */
void gc_renew(struct heap *heap, uint32_t ref);
/* Whether a collection is under way: from its first look at the graph until what it has killed is gone. */
static inline bool gc_is_collecting(const struct gc *gc)
{
    return gc->state > GC_DRAIN;
}
/* Whether a full collection may be about to begin, which it cannot while something is built. */
static inline bool gc_awaits_builds(const struct gc *gc)
{
    return gc->state == GC_DRAIN && gc->run.result.generation == 2;
}
/* Counts a container made or freed, tracked or not. */
static inline void gc_count_made(struct gc *gc)
{
    uint32_t count = atomic_load_explicit(&gc->count[0], memory_order_relaxed);
    atomic_store_explicit(&gc->count[0], count + (count != UINT32_MAX), memory_order_relaxed);
}
static inline void gc_count_freed(struct gc *gc, uint32_t freed)
{
    uint32_t count = atomic_load_explicit(&gc->count[0], memory_order_relaxed);
    atomic_store_explicit(&gc->count[0], count > freed ? count - freed : 0, memory_order_relaxed);
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

/* ---- gc.c ---- */

/* Moves a chunk to another list; an emptied one (to LIST_FREE) is as new. */
void gc_chunk_move(struct gc *gc, struct gc_chunk *chunk, uint32_t list);
/* A slot of generation `list` (0 or 1) for the container.  false: no memory. */
HEAP_MUST_USE bool gc_place(struct heap *heap, struct container *c, uint32_t list);
/* Makes a container with a slot one of generation 2; the caller gives the slot back. */
void gc_make_old(struct heap *heap, struct container *c);
/* All of generations 0 and 1 but the machine's candidates become old; their chunks free.  Returns how many those were. */
uint64_t gc_promote_all(struct heap *heap);
/* The free slots of a chunk that collecting has made are threaded. */
void gc_chunk_thread(struct gc_chunk *chunk);
/* A container was freed by a sweep: nothing may take what lives there later for it. */
static inline void gc_forget(struct gc *gc, uint32_t ref)
{
    bit_clear(gc->mark, ref); /* a stack entry without its mark is skipped */
    bit_clear(gc->young, ref);
    if (gc->partial.ref == ref) {
        gc->partial.ref = 0;
    }
}

/* ---- gc_collect.c ---- */

/* What CPython does to the counts when a collection starts. */
void gc_restart_counts(struct gc *gc, int generation);
/* The moment t0: the collection is told of, and counted. */
void gc_start(struct heap *heap, struct gc_run *run);
/* It is over. */
void gc_stop(struct heap *heap, struct gc_run *run);
/* Goes on with what is under way, deaths being none; true: nothing is left. */
HEAP_MUST_USE bool gc_step(struct heap *heap, struct slice *slice);
/* Everything that is under way comes to its end, deaths too, in one hold. */
void gc_finish(struct heap *heap);
/* The object, which somebody has asked for by an id, a name or a weakref, or 0 when it is condemned or when that is not
 * yet known; then heap->wait says so. */
uint32_t gc_meet(struct heap *heap, uint32_t ref);
/* The same of a weakref's target: one that is condemned is dead already. */
uint32_t gc_meet_weakly(struct heap *heap, uint32_t ref);

/* ---- gc_young.c ---- */

/* Finds the garbage of generations 0..generation, if it is little work and nothing else than freeing it has to be done:
 * then gc_young_sweep() does that, before anything else happens.  false: it is for the machine; nothing has changed. */
HEAP_MUST_USE bool gc_young_judge(struct heap *heap, int generation);
void gc_young_sweep(struct heap *heap, struct gc_run *run);

/* ---- gc_cycle.c ---- */

/* The machine is at t0. */
void gc_cycle_start(struct heap *heap);
/* It was in GC_END, and nothing is left. */
void gc_cycle_end(struct heap *heap);
/* A slice of the state that the machine is in; true: that is done, and it is in the next one. */
HEAP_MUST_USE bool gc_cycle_step(struct heap *heap, struct slice *slice);
static inline bool gc_is_determining(const struct gc *gc)
{
    return (gc->state >= GC_PROMOTE && gc->state <= GC_RESCAN) || gc->state == GC_NAMED || gc->state == GC_NAMED_AGAIN;
}
static inline bool gc_is_judging(const struct gc *gc)
{
    return gc->state >= GC_WEAKREFS && gc->state <= GC_SAVE;
}
static inline bool gc_is_sentenced(const struct gc *gc)
{
    return gc->state == GC_STRIP || gc->state == GC_FREE;
}
/* While judging or sentenced: whether a container is condemned. */
static inline bool gc_is_condemned(const struct gc *gc, uint32_t ref)
{
    return ref >= gc->swept && !gc->saves && (gc->candidates[ref >> 6] & ~gc->mark[ref >> 6]) >> (ref & 63) & 1;
}
/* Whether the container is condemned and has dropped its references. */
bool gc_is_stripped(const struct gc *gc, uint32_t ref);

/* ---- gc_mark.c ---- */

bool gc_stack_grow(struct gc *gc);         /* to twice its room; false: it cannot */
/* Gives a piece of a large stack to the kernel (some 50 us).  false: there was none, or it is in use. */
bool gc_stack_release(struct gc *gc);
void gc_push(struct gc *gc, uint32_t ref); /* onto the stack, or sets `overflowed` */
/* Those of the states that determine what is reached.  true: done. */
bool gc_promote_slice(struct heap *heap, struct slice *slice);
bool gc_frozen_slice(struct heap *heap, struct slice *slice);
bool gc_roots_slice(struct heap *heap, struct slice *slice);
bool gc_copy_slice(struct heap *heap, struct slice *slice);
bool gc_subtract_slice(struct heap *heap, struct slice *slice);
bool gc_outside_slice(struct heap *heap, struct slice *slice);
bool gc_rescan_slice(struct heap *heap, struct slice *slice);
bool gc_named_slice(struct heap *heap, struct slice *slice);

/* ---- gc_sweep.c ---- */

bool gc_weakrefs_slice(struct heap *heap, struct slice *slice);
bool gc_finalize_slice(struct heap *heap, struct slice *slice);
bool gc_count_slice(struct heap *heap, struct slice *slice);
bool gc_save_slice(struct heap *heap, struct slice *slice);
bool gc_strip_slice(struct heap *heap, struct slice *slice);
bool gc_free_slice(struct heap *heap, struct slice *slice);
bool gc_keep_slice(struct heap *heap, struct slice *slice);
bool gc_return_slice(struct heap *heap, struct slice *slice);

/* ---- gc_check.c ---- */

/* Every tracked object in one place, chunks and counters right, and what the machine's state promises. */
uint32_t gc_check_generations(struct heap *heap, FILE *why);

#endif
