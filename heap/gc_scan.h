/* gc_scan.h -- the inner loops of marking: containers off the stack, what they refer to onto it, a batch at a time.
 *
 *   stack --batch_take()-->  refs     headers are asked for
 *         --batch_open()-->  edges    headers are read, what holds their references is asked for
 *         --find_all()----->  found    references are read; those to containers stay
 *         --mark_found()-->  stack    those that are not marked are, and come back
 *
 * Memory is waited for once a batch instead of once an object, if the next batch is taken before this one is read.
 * Whether a reference is an atom, or marked, follows no pattern that a processor could learn; so neither is a branch.
 * A trace of real objects takes 15 ns each with these loops; with a ring of 16 and a branch a reference it takes 28.
 */
#ifndef HEAPD_HEAP_GC_SCAN_H
#define HEAPD_HEAP_GC_SCAN_H

#include "edges.h"

#define BATCH_ROOM 64u   /* 32 are 7 % slower, 128 no faster */
#define FOUND_ROOM 1024u /* references to containers that are marked together, about */

/* So that `only` is a constant in each copy. */
#define SCAN_INLINE inline __attribute__((always_inline))

/* Containers on their way from the stack to being scanned. */
struct batch {
    uint32_t count;
    uint32_t refs[BATCH_ROOM];
};

/* References to containers, which may be marked; a pointer goes with it to where the next one is stored. */
struct found {
    uint32_t refs[FOUND_ROOM + BATCH_ROOM + 1];
};

/* Takes up to `want` containers (at most BATCH_ROOM) off the stack.  What has lost its mark has died since it was pushed. */
static inline void batch_take(struct heap *heap, struct batch *batch, uint32_t want)
{
    struct gc *gc = &heap->gc;
    const uint64_t *mark = gc->mark;
    const uint32_t *top = gc->stack + gc->stack_used;
    uint32_t taken = gc->stack_used < want ? (uint32_t)gc->stack_used : want, count = 0;
    for (uint32_t i = 0; i < taken; i++) {
        uint32_t ref = *--top;
        __builtin_prefetch(object_at(heap, ref));
        batch->refs[count] = ref;
        count += bit_get(mark, ref);
    }
    gc->stack_used -= taken;
    batch->count = count;
}

/* What they refer to.  Returns how many references that are, and one more each. */
static inline uint64_t batch_open(const struct heap *heap, const struct batch *batch, struct edges edges[BATCH_ROOM])
{
    uint64_t refs = batch->count;
    for (uint32_t i = 0; i < batch->count; i++) {
        edges[i] = object_edges(heap, (const struct container *)object_at(heap, batch->refs[i]));
        __builtin_prefetch(edges[i].refs);
        __builtin_prefetch(edges[i].refs + edges[i].count); /* many lie in two lines */
        refs += edges[i].count;
    }
    return refs;
}

/* Adds those of the references that are of containers; there is room for all.  Returns the new end. */
static inline uint32_t *find(uint32_t *end, const uint32_t *refs, uint32_t count)
{
    uint64_t n = 0;
    for (const uint32_t *stop = refs + count; refs < stop; refs++) {
        uint32_t ref = *refs;
        end[n] = ref;
        n += (int32_t)ref > 0; /* neither 0 nor an atom */
    }
    return end + n;
}

/* mark_found() where the stack has no room and there is no memory. */
static __attribute__((noinline)) void mark_found_slowly(struct gc *gc, const struct found *found, const uint32_t *end,
                                                        const uint64_t *only)
{
    for (const uint32_t *at = found->refs; at < end; at++) {
        if (!bit_get(gc->mark, *at) && (only == NULL || bit_get(only, *at))) {
            bit_set(gc->mark, *at);
            gc_push(gc, *at);
        }
    }
}

/* Marks and pushes those that are not marked and, unless `only` is NULL, have their bit there. */
static SCAN_INLINE void mark_found(struct gc *gc, const struct found *found, const uint32_t *end, const uint64_t *only)
{
    if (unlikely(gc->stack_used + (uint64_t)(end - found->refs) > gc->stack_room) && !gc_stack_grow(gc)) {
        mark_found_slowly(gc, found, end, only);
        return;
    }
    uint64_t *mark = gc->mark;
    uint32_t *top = gc->stack + gc->stack_used;
    for (const uint32_t *at = found->refs; at < end; at++) {
        uint32_t ref = *at;
        uint64_t word = mark[ref >> 6], wanted = ~word;
        if (only != NULL) {
            wanted &= only[ref >> 6];
        }
        wanted = wanted >> (ref & 63) & 1;
        mark[ref >> 6] = word | wanted << (ref & 63);
        *top = ref;
        top += wanted;
    }
    gc->stack_used = (uint64_t)(top - gc->stack);
}

/* find() and mark_found() by turns, for a container with many references. */
static SCAN_INLINE void mark_many(struct gc *gc, struct found *found, const struct edges *edges, const uint64_t *only)
{
    for (uint32_t at = 0; at < edges->count; at += FOUND_ROOM) {
        uint32_t count = edges->count - at < FOUND_ROOM ? edges->count - at : FOUND_ROOM;
        mark_found(gc, found, find(found->refs, edges->refs + at, count), only);
    }
}

/* Adds what one container refers to, marking in between where `found` is full.  Returns the new end. */
static SCAN_INLINE uint32_t *find_all(struct gc *gc, struct found *found, uint32_t *end,
                                      const struct edges *edges, const uint64_t *only)
{
    if (unlikely(edges->count + (uint64_t)(end - found->refs) > FOUND_ROOM)) {
        mark_found(gc, found, end, only);
        end = found->refs;
        if (edges->count > FOUND_ROOM) {
            mark_many(gc, found, edges, only);
            return find(end, &edges->extra, 1);
        }
    }
    end = find(end, edges->refs, edges->count);
    *end = edges->extra;
    return end + (edges->extra != 0);
}

/* Marks and pushes what `count` containers refer to. */
static SCAN_INLINE void mark_edges(struct gc *gc, const struct edges *edges, uint32_t count, const uint64_t *only)
{
    struct found found;
    uint32_t *end = found.refs;
    for (const struct edges *stop = edges + count; edges < stop; edges++) {
        end = find_all(gc, &found, end, edges, only);
    }
    mark_found(gc, &found, end, only);
}

#endif
