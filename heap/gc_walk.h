/* gc_walk.h -- how the machine goes over everything in slices: over the pools, word by word, and over its chunks. */
#ifndef HEAPD_HEAP_GC_WALK_H
#define HEAPD_HEAP_GC_WALK_H

#include "heap_internal.h"

#define GRANULES_PER_POOL (WORDS_PER_POOL * 64)

/* The first granule of the next 64 of a pool of containers, from gc->cursor on, which is moved behind them.  A pool that
 * goes meanwhile has no objects: its bits are all zero.  false: no more. */
static inline bool gc_next_word(struct heap *heap, uint32_t *ref)
{
    uint32_t at = heap->gc.cursor;
    if (at % GRANULES_PER_POOL == 0) {
        uint32_t pool = at / GRANULES_PER_POOL, first;
        unsigned class;
        if (!pymalloc_next_pool(&heap->pm, POOL_CONTAINER, &pool, &first, &class)) {
            return false;
        }
        at = first - first % GRANULES_PER_POOL;
    }
    *ref = at;
    heap->gc.cursor = at + 64;
    return true;
}

/* The candidates' chunk to go on with, from slot gc->next on, or NULL: no more. */
static inline struct gc_chunk *gc_next_chunk(struct gc *gc)
{
    while (gc->chunk != NO_CHUNK && gc->next >= gc->chunks[gc->chunk]->untouched) {
        gc->chunk = gc->chunks[gc->chunk]->next;
        gc->next = 0;
    }
    return gc->chunk != NO_CHUNK ? gc->chunks[gc->chunk] : NULL;
}

#endif
