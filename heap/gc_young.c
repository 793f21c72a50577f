/* gc_young.c -- collections of generations 0 and 1, by CPython's subtraction of internal references.
 *
 * Candidates are the objects in the young chunks of the collected generations.  What their references to
 * each other do not account for comes from outside; what is reached from those with such a reference is
 * alive; the rest is garbage.  Older objects count as alive, as in CPython.
 *
 *   copy        scratch = refcount, for every candidate
 *   subtract    one less for every reference from a candidate
 *   reach       from those above 0: scratch = REACHED
 *   judge       weakrefs to the others are cleared and their finalizers run; what those gave a name is
 *               reached after all, with what hangs on it
 *   save        with the flag `saveall`: all the others go to gc.garbage, and are reached
 *   sweep       first all references they hold are dropped, then the blocks are freed
 *   promote     what was reached goes to the next generation
 *
 * Source: CPython Modules/gcmodule.c, deduce_unreachable().  Start at gc_collect_young().
 */
#include "edges.h"
#include "visit.h"

#define REACHED 0xFFFFFFFFu /* scratch of a candidate that is alive */

/* Of a pass over all candidates. */
typedef void (*visitor)(struct heap *heap, struct gc_chunk *chunk, uint32_t i);

static void for_candidates(struct heap *heap, int generation, visitor visit)
{
    struct gc *gc = &heap->gc;
    for (int g = 0; g <= generation; g++) {
        for (uint32_t n = gc->lists[g].head; n != NO_CHUNK; n = gc->chunks[n]->next) {
            struct gc_chunk *chunk = gc->chunks[n];
            for (uint32_t i = 0; i < chunk->untouched; i++) {
                if (chunk->refs[i] != 0) {
                    visit(heap, chunk, i);
                }
            }
        }
    }
}

static struct container *candidate_at(const struct heap *heap, const struct gc_chunk *chunk, uint32_t i)
{
    return (struct container *)object_at(heap, chunk->refs[i]);
}

/* The scratch word of a container if it is a candidate, else NULL. */
static inline uint32_t *scratch_of(const struct heap *heap, uint32_t ref)
{
    if (ref == 0 || ref_is_atom(ref)) {
        return NULL;
    }
    const struct container *c = (const struct container *)object_at(heap, ref);
    if (c->gc == 0) {
        return NULL;
    }
    struct gc_chunk *chunk = heap->gc.chunks[(c->gc - 1) >> CHUNK_SHIFT];
    return (int)chunk->list <= heap->gc.young_collected ? &chunk->scratch[(c->gc - 1) & (CHUNK_SLOTS - 1)]
                                                        : NULL;
}

/* ---- steps ---- */

static void copy_refcount(struct heap *heap, struct gc_chunk *chunk, uint32_t i)
{
    chunk->scratch[i] = candidate_at(heap, chunk, i)->head.refcount;
}

static inline void subtract_one(const struct heap *heap, uint32_t ref)
{
    uint32_t *scratch = scratch_of(heap, ref);
    if (scratch != NULL) {
        HEAP_DCHECK(*scratch > 0);
        (*scratch)--;
    }
}

static void subtract_references(struct heap *heap, struct gc_chunk *chunk, uint32_t i)
{
    struct edges edges = object_edges(heap, candidate_at(heap, chunk, i));
    for (uint32_t k = 0; k < edges.count; k++) {
        subtract_one(heap, edges.refs[k]);
    }
    subtract_one(heap, edges.extra);
}

static inline void reach_one(struct heap *heap, uint32_t ref)
{
    uint32_t *scratch = scratch_of(heap, ref);
    if (scratch != NULL && *scratch != REACHED) {
        *scratch = REACHED;
        gc_push(&heap->gc, ref);
    }
}

static void reach_from(struct heap *heap, const struct container *c)
{
    struct edges edges = object_edges(heap, c);
    for (uint32_t k = 0; k < edges.count; k++) {
        reach_one(heap, edges.refs[k]);
    }
    reach_one(heap, edges.extra);
}

static void drain_stack(struct heap *heap)
{
    struct gc *gc = &heap->gc;
    while (gc->stack_used > 0) {
        reach_from(heap, (struct container *)object_at(heap, gc->stack[--gc->stack_used]));
    }
}

static void reach_if_external(struct heap *heap, struct gc_chunk *chunk, uint32_t i)
{
    if (chunk->scratch[i] != 0) {
        reach_one(heap, chunk->refs[i]);
        drain_stack(heap);
    }
}

/* After the stack could not take everything. */
static void reach_again(struct heap *heap, struct gc_chunk *chunk, uint32_t i)
{
    if (chunk->scratch[i] == REACHED) {
        reach_from(heap, candidate_at(heap, chunk, i));
        drain_stack(heap);
    }
}

static bool is_garbage(const struct heap *heap, uint32_t ref)
{
    const uint32_t *scratch = scratch_of(heap, ref);
    return scratch != NULL && *scratch == 0;
}

static void judge(struct heap *heap, struct gc_chunk *chunk, uint32_t i)
{
    if (chunk->scratch[i] == 0) {
        heap->gc.unreachable++;
        gc_judge(heap, chunk->refs[i], is_garbage);
    }
}

/* A finalizer has given it a name. */
static void reach_named(struct heap *heap, uint32_t ref)
{
    reach_one(heap, ref);
    drain_stack(heap);
}

static void count_garbage(struct heap *heap, struct gc_chunk *chunk, uint32_t i)
{
    heap->gc.unreachable += chunk->scratch[i] == 0;
}

static void visit_garbage(struct heap *heap, struct gc_chunk *chunk, uint32_t i)
{
    if (chunk->scratch[i] == 0) {
        visit_before_death(heap, chunk->refs[i]);
    }
}

static void save_garbage(struct heap *heap, struct gc_chunk *chunk, uint32_t i)
{
    if (chunk->scratch[i] == 0) {
        chunk->scratch[i] = REACHED;
        garbage_append(heap, chunk->refs[i]);
    }
}

static void strip_garbage(struct heap *heap, struct gc_chunk *chunk, uint32_t i)
{
    if (chunk->scratch[i] == 0) {
        gc_strip(heap, candidate_at(heap, chunk, i), is_garbage);
    }
}

/* The slots it empties are threaded by promote_chunk(). */
static void free_garbage(struct heap *heap, struct gc_chunk *chunk, uint32_t i)
{
    if (chunk->scratch[i] == 0) {
        struct container *c = candidate_at(heap, chunk, i);
        chunk->refs[i] = 0;
        chunk->used--;
        counter_sub(&heap->gc.generations[chunk->list].objects, 1);
        gc_free_class(heap, c);
        object_block_free(heap, &c->head);
    }
}

/* ---- promotion ---- */

/* Generation 0 -> 1: a well filled chunk changes its list, the objects of others move to one that has
 * room; where there is no memory for one, the chunk changes its list too. */
static void promote_chunk(struct heap *heap, struct gc_chunk *chunk)
{
    bool move_all = chunk->used <= CHUNK_SLOTS / 4;
    for (uint32_t i = 0; move_all && i < chunk->untouched; i++) {
        if (chunk->refs[i] != 0) {
            struct container *c = candidate_at(heap, chunk, i);
            uint32_t was = c->gc;
            move_all = gc_place(heap, c, 1);
            if (move_all) {
                chunk->refs[i] = 0;
                chunk->used--;
            } else {
                c->gc = was;
            }
        }
    }
    if (!move_all) { /* what died or moved left holes behind: thread them anew */
        chunk->free = 0;
        for (uint32_t i = chunk->untouched; i-- > 0;) {
            if (chunk->refs[i] == 0) {
                chunk->scratch[i] = chunk->free;
                chunk->free = i + 1;
            }
        }
    }
    gc_chunk_move(&heap->gc, chunk, move_all ? LIST_FREE : 1);
}

static void promote(struct heap *heap, int generation)
{
    struct gc *gc = &heap->gc;
    if (generation == 1) {
        gc->long_lived_pending +=
            counter_read(&gc->generations[0].objects) + counter_read(&gc->generations[1].objects);
        gc_promote_all(heap);
        return;
    }
    while (gc->lists[0].head != NO_CHUNK) {
        promote_chunk(heap, gc->chunks[gc->lists[0].head]);
    }
    uint64_t moved = counter_read(&gc->generations[0].objects);
    counter_sub(&gc->generations[0].objects, moved);
    counter_add(&gc->generations[1].objects, moved);
}

/* ---- the steps ---- */

static void reach_overflowed(struct heap *heap, int generation)
{
    while (heap->gc.overflowed) {
        heap->gc.overflowed = false;
        for_candidates(heap, generation, reach_again);
    }
}

/* What is not from outside, nor reached from there, has a scratch of 0. */
static void deduce_unreachable(struct heap *heap, int generation)
{
    heap->gc.overflowed = false;
    for_candidates(heap, generation, copy_refcount);
    for_candidates(heap, generation, subtract_references);
    for_candidates(heap, generation, reach_if_external);
    reach_overflowed(heap, generation);
}

/* Weakrefs and finalizers; afterwards a scratch of 0 is final, and counted. */
static void judge_garbage(struct heap *heap, int generation)
{
    struct gc *gc = &heap->gc;
    gc->unreachable = 0;
    for_candidates(heap, generation, judge);
    if (heap->finalizers.judged.first != NULL) {
        finalizer_run_judged(heap);
        finalizer_each_named(heap, is_garbage, reach_named);
        reach_overflowed(heap, generation);
        finalizer_tell_ran(heap, is_garbage);
        gc->unreachable = 0;
        for_candidates(heap, generation, count_garbage);
    }
}

static void sweep_garbage(struct heap *heap, int generation)
{
    if (heap->gc.unreachable == 0) {
        return;
    }
    if ((heap_gc_debug(heap) & HEAP_GC_SAVEALL) && garbage_reserve(heap, heap->gc.unreachable)) {
        for_candidates(heap, generation, save_garbage);
    } else {
        if (heap->visit != NULL) { /* each is seen before any of them is taken apart */
            for_candidates(heap, generation, visit_garbage);
        }
        for_candidates(heap, generation, strip_garbage);
        for_candidates(heap, generation, free_garbage);
    }
}

/* gc_collect_young -- collects generations 0..generation, generation < 2; nothing is dying before and after. */
void gc_collect_young(struct heap_collection *result, struct heap *heap, int generation)
{
    heap->gc.young_collected = generation;
    deduce_unreachable(heap, generation);
    judge_garbage(heap, generation);
    sweep_garbage(heap, generation);
    result->freed += heap_settle(heap);
    heap->gc.young_collected = -1;
    result->unreachable = heap->gc.unreachable;
    promote(heap, generation);
}
