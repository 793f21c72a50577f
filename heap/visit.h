/* visit.h -- a walk over all objects as they were at one moment, in slices, while others go on.
 *
 *   visit_begin    the moment t0: which blocks live is copied (a bit a granule)
 *   visit_step     calls `node` for objects that lived at t0, in memory order, until its budget is spent
 *   visit_end      nobody needs to be told of changes and deaths any more
 *
 * Copy before change: whoever is about to change a container's edges, its size or an object's names, and
 * every death, first calls visit_before_change() or visit_before_death(); an object that has not been visited
 * is visited then.
 * So `node` sees each object once, as it was at t0.  A visit that is complete goes on hearing of deaths until
 * visit_end(), so that its owner can tell what still lives (visit_has_died()).
 *
 * One visit at a time.  GIL: held in every function.   Start at visit_step().
 */
#ifndef HEAPD_HEAP_VISIT_H
#define HEAPD_HEAP_VISIT_H

#include "heap_internal.h"

struct visit {
    /* Called once for each object that is not immortal.  It must make no object and change none. */
    void (*node)(struct visit *visit, struct heap *heap, uint32_t ref);
    bool containers_only; /* atoms are not visited, and visit_has_died() does not know them */
    uint64_t *live[2];    /* containers, atoms: a bit a granule, set for what lived at t0 */
    uint64_t *done[2];    /* set for what has been visited */
    uint64_t *died[2];    /* set for what has died since t0 */
    size_t words[2];      /* of each of the three */
    size_t at[2];         /* words below are done */
};

/* false: no memory.  The dead list is settled first. */
HEAP_MUST_USE bool visit_begin(struct visit *visit, struct heap *heap);
/* Visits about `budget` objects more; true: all have been visited. */
HEAP_MUST_USE bool visit_step(struct visit *visit, struct heap *heap, uint32_t budget);
/* Steps for half a millisecond; true: all have been visited. */
HEAP_MUST_USE bool visit_slice(struct visit *visit, struct heap *heap);
/* What others get between two slices.  GIL: not held. */
void visit_pause(void);
void visit_end(struct visit *visit, struct heap *heap);
bool visit_has_died(const struct visit *visit, uint32_t ref);

/* Slow paths of the two below; watches (watch.c) are told, too. */
void visit_now(struct heap *heap, uint32_t ref);
void visit_death(struct heap *heap, uint32_t ref);

/* The container changes or dies: who has read it is told.  watch.c */
void watch_tell(struct heap *heap, uint32_t ref);
/* A visit or a watch has come or gone. */
static inline void visit_note_watchers(struct heap *heap)
{
    heap->is_watched = heap->visit != NULL || heap->watches != NULL;
}

/* The container's edges, the object's names or what heap_sizeof() says of it are about to change. */
static inline void visit_before_change(struct heap *heap, uint32_t ref)
{
    if (unlikely(heap->is_watched)) {
        visit_now(heap, ref);
    }
}

/* The object is about to die: its edges and its block are still there. */
static inline void visit_before_death(struct heap *heap, uint32_t ref)
{
    if (unlikely(heap->is_watched)) {
        visit_death(heap, ref);
    }
}

#endif
