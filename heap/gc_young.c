/* gc_young.c -- small collections of generations 0 and 1, in one go, by CPython's subtraction of internal references.
 *
 * Candidates are the objects in the young chunks of the collected generations.  What their references to
 * each other do not account for comes from outside; what is reached from those with such a reference is
 * alive; the rest is garbage.  Older objects count as alive, as in CPython.
 *
 *   subtract    scratch = refcount, less one for every reference from a candidate
 *   reach       from those above 0: scratch = REACHED
 *   sweep       the others' weakrefs are cleared, they drop all references they hold, then the blocks are freed
 *   promote     what was reached goes to the next generation
 *
 * It may run while the machine (gc_cycle.c) is between two slices: the candidates are newer than those of the machine.
 * What takes longer is left to the machine: many candidates or references, finalizers, `saveall`.
 *
 * Source: CPython Modules/gcmodule.c, deduce_unreachable().  Start at gc_young_judge().
 */
#include "gc_strip.h"
#include "visit.h"

#define REACHED 0xFFFFFFFFu    /* scratch of a candidate that is alive */
#define REFERENCES_MAX 100000u /* of all candidates */
#define WEAKREFS_MAX 64u       /* of one of them */
#define FREED_TOGETHER 64u
#define SLOTS_TOGETHER 64u      /* of a loop that the compiler makes one of vectors */

/* Of a pass over all candidates. */
typedef void (*visitor)(struct heap *heap, struct gc_chunk *chunk, uint32_t i);

static inline __attribute__((always_inline)) void for_candidates(struct heap *heap, int generation, visitor visit)
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

/* Scratch words of candidates become 0; those of free slots stay, the slots are threaded through them.  Slots past
 * `untouched` are free. */
static void clear_scratch(struct gc_chunk *chunk)
{
    for (uint32_t i = 0; i < chunk->untouched; i += SLOTS_TOGETHER) {
        const uint32_t *refs = chunk->refs + i;
        uint32_t *scratch = chunk->scratch + i;
        for (unsigned k = 0; k < SLOTS_TOGETHER; k++) {
            scratch[k] = refs[k] != 0 ? 0 : scratch[k];
        }
    }
}

/* What is added later may make up for it: in between the word is what is missing, modulo 2^32. */
static inline void subtract_one(const struct heap *heap, uint32_t ref)
{
    uint32_t *scratch = scratch_of(heap, ref);
    if (scratch != NULL) {
        (*scratch)--;
    }
}

/* Adds the refcounts of a chunk's candidates, and takes their references away.  Ends early where they have more than
 * `refs_max` together.  Returns how many they have. */
static uint64_t subtract_references(struct heap *heap, struct gc_chunk *chunk, uint64_t refs_max)
{
    uint64_t refs = 0;
    uint8_t flags = 0;
    for (uint32_t i = 0; i < chunk->untouched; i++) {
        if (chunk->refs[i] == 0) {
            continue;
        }
        const struct container *c = candidate_at(heap, chunk, i);
        struct edges edges = object_edges(heap, c);
        chunk->scratch[i] += c->head.refcount;
        flags |= c->head.flags;
        refs += edges.count;
        if (unlikely(refs > refs_max)) {
            break;
        }
        for (uint32_t k = 0; k < edges.count; k++) {
            subtract_one(heap, edges.refs[k]);
        }
        subtract_one(heap, edges.extra);
    }
    heap->gc.young_flags |= flags;
    return refs;
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

/* What lies below is the machine's. */
static void drain_stack(struct heap *heap)
{
    struct gc *gc = &heap->gc;
    while (gc->stack_used > gc->stack_base) {
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

/* ---- promotion ---- */

/* Generation 0 -> 1: a well filled chunk changes its list, the objects of others move to one that has
 * room; where there is no memory for one, the chunk changes its list too. */
static void promote_chunk(struct heap *heap, struct gc_chunk *chunk)
{
    bool move_all = chunk->used <= CHUNK_SLOTS / 4;
    for (uint32_t i = 0; move_all && chunk->used > 0; i++) {
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
    if (!move_all) { /* what died or moved left holes behind */
        gc_chunk_thread(chunk);
    }
    gc_chunk_move(&heap->gc, chunk, move_all ? LIST_FREE : 1);
}

static void promote(struct heap *heap, int generation)
{
    struct gc *gc = &heap->gc;
    if (generation == 1) {
        gc->long_lived_pending += gc_promote_all(heap);
        return;
    }
    while (gc->lists[0].head != NO_CHUNK) {
        promote_chunk(heap, gc->chunks[gc->lists[0].head]);
    }
    uint64_t moved = counter_read(&gc->generations[0].objects);
    counter_sub(&gc->generations[0].objects, moved);
    counter_add(&gc->generations[1].objects, moved);
}

/* ---- verdict ---- */

static void reach_overflowed(struct heap *heap, int generation)
{
    while (heap->gc.overflowed) {
        heap->gc.overflowed = false;
        for_candidates(heap, generation, reach_again);
    }
}

/* Scratch becomes the number of references from outside.  false: there are too many references, the machine will do it. */
static bool subtract_all(struct heap *heap, int generation)
{
    struct gc *gc = &heap->gc;
    uint64_t left = REFERENCES_MAX;
    for (int g = 0; g <= generation; g++) {
        for (uint32_t n = gc->lists[g].head; n != NO_CHUNK; n = gc->chunks[n]->next) {
            clear_scratch(gc->chunks[n]);
        }
    }
    for (int g = 0; g <= generation; g++) {
        for (uint32_t n = gc->lists[g].head; n != NO_CHUNK; n = gc->chunks[n]->next) {
            uint64_t refs = subtract_references(heap, gc->chunks[n], left);
            if (refs > left) {
                return false;
            }
            left -= refs;
        }
    }
    return true;
}

/* Candidates of a chunk with a scratch of 0. */
static uint32_t count_zeros(const struct gc_chunk *chunk)
{
    uint32_t found = 0;
    for (uint32_t i = 0; i < chunk->untouched; i += SLOTS_TOGETHER) {
        const uint32_t *refs = chunk->refs + i, *scratch = chunk->scratch + i;
        for (unsigned k = 0; k < SLOTS_TOGETHER; k++) {
            found += (refs[k] != 0) & (scratch[k] == 0);
        }
    }
    return found;
}

static uint64_t count_all_zeros(const struct gc *gc, int generation)
{
    uint64_t found = 0;
    for (int g = 0; g <= generation; g++) {
        for (uint32_t n = gc->lists[g].head; n != NO_CHUNK; n = gc->chunks[n]->next) {
            found += count_zeros(gc->chunks[n]);
        }
    }
    return found;
}

/* What is not from outside, nor reached from there, has a scratch of 0, and is counted.  Often that are all.
 * false: there are too many references. */
static bool deduce_unreachable(struct heap *heap, int generation, uint64_t candidates)
{
    struct gc *gc = &heap->gc;
    bool overflowed = gc->overflowed;
    gc->overflowed = false;
    gc->stack_base = gc->stack_used;
    gc->young_flags = 0;
    bool is_small = subtract_all(heap, generation);
    gc->young_found = is_small ? count_all_zeros(gc, generation) : 0;
    if (is_small && gc->young_found < candidates) {
        for_candidates(heap, generation, reach_if_external);
        reach_overflowed(heap, generation);
        gc->young_found = count_all_zeros(gc, generation);
    }
    gc->overflowed = overflowed;
    return is_small;
}

static bool is_garbage(const struct heap *heap, uint32_t ref)
{
    const uint32_t *scratch = scratch_of(heap, ref);
    return scratch != NULL && *scratch == 0;
}

/* Whether its end is more than freeing it. */
static void look_at_garbage(struct heap *heap, struct gc_chunk *chunk, uint32_t i)
{
    if (chunk->scratch[i] == 0) {
        uint32_t ref = chunk->refs[i];
        uint8_t flags = object_at(heap, ref)->flags;
        heap->gc.young_weakrefs = heap->gc.young_weakrefs || (flags & FLAG_WEAKREF);
        heap->gc.young_needs_more = heap->gc.young_needs_more || (flags & FLAG_FINALIZER) ||
                                    ((flags & FLAG_WEAKREF) && heap_weakref_count(heap, ref) > WEAKREFS_MAX);
    }
}

bool gc_young_judge(struct heap *heap, int generation)
{
    struct gc *gc = &heap->gc;
    uint64_t candidates = counter_read(&gc->generations[0].objects);
    candidates += generation == 1 ? counter_read(&gc->generations[1].objects) : 0;
    if (candidates > gc->small_max) {
        return false;
    }
    gc->young_collected = generation;
    gc->young_needs_more = gc->young_weakrefs = false;
    bool is_small = deduce_unreachable(heap, generation, candidates);
    if (is_small) {
        if (gc->young_flags & (FLAG_WEAKREF | FLAG_FINALIZER)) {
            for_candidates(heap, generation, look_at_garbage);
        }
        bool saves = (heap_gc_debug(heap) & HEAP_GC_SAVEALL) && gc->young_found > 0;
        is_small = !saves && !gc->young_needs_more;
    }
    gc->young_collected = -1;
    return is_small;
}

/* ---- sweep ---- */

/* Clears its weakrefs, and tells of it. */
static void bury(struct heap *heap, struct gc_chunk *chunk, uint32_t i)
{
    if (chunk->scratch[i] == 0) {
        uint32_t ref = chunk->refs[i];
        debug_say_collectable(heap, ref);
        if (object_at(heap, ref)->flags & FLAG_WEAKREF) {
            weakref_clear_all(heap, ref, is_garbage);
        }
    }
}

static void visit_garbage(struct heap *heap, struct gc_chunk *chunk, uint32_t i)
{
    if (chunk->scratch[i] == 0) {
        visit_before_death(heap, chunk->refs[i]);
    }
}

static void strip_garbage(struct heap *heap, struct gc_chunk *chunk, uint32_t i)
{
    if (chunk->scratch[i] == 0) {
        gc_strip(heap, candidate_at(heap, chunk, i), is_garbage);
    }
}

/* Those of one chunk.  The slots it empties are threaded by promote_chunk(), and counted by free_all(). */
static void free_garbage(struct heap *heap, struct gc_chunk *chunk)
{
    uint32_t refs[FREED_TOGETHER], count = 0, freed = 0;
    for (uint32_t i = 0; i < chunk->untouched; i++) {
        uint32_t ref = chunk->refs[i];
        if (ref == 0 || chunk->scratch[i] != 0) {
            continue;
        }
        if (unlikely(heap->gc.state != GC_END)) { /* the machine is between two slices */
            gc_forget(&heap->gc, ref);
        }
        chunk->refs[i] = 0;
        gc_free_class(heap, (struct container *)object_at(heap, ref));
        refs[count++] = ref;
        if (count == FREED_TOGETHER) {
            object_free_containers(heap, refs, count);
            freed += count;
            count = 0;
        }
    }
    object_free_containers(heap, refs, count);
    chunk->used -= freed + count;
}

/* In slots of one generation. */
static uint64_t count_candidates(const struct gc *gc, int generation)
{
    uint64_t count = 0;
    for (uint32_t n = gc->lists[generation].head; n != NO_CHUNK; n = gc->chunks[n]->next) {
        count += gc->chunks[n]->used;
    }
    return count;
}

static void free_all(struct heap *heap, int generation)
{
    struct gc *gc = &heap->gc;
    uint64_t before[2] = {count_candidates(gc, 0), count_candidates(gc, 1)};
    for (int g = 0; g <= generation; g++) {
        for (uint32_t n = gc->lists[g].head; n != NO_CHUNK; n = gc->chunks[n]->next) {
            free_garbage(heap, gc->chunks[n]);
        }
        counter_sub(&gc->generations[g].objects, before[g] - count_candidates(gc, g));
    }
}

void gc_young_sweep(struct heap *heap, struct gc_run *run)
{
    struct gc *gc = &heap->gc;
    int generation = run->result.generation;
    gc->young_collected = generation;
    if (gc->young_found > 0) {
        if (gc->young_weakrefs || (heap_gc_debug(heap) & HEAP_GC_COLLECTABLE)) {
            for_candidates(heap, generation, bury);
        }
        if (heap->visit != NULL) { /* each is seen before any of them is taken apart */
            for_candidates(heap, generation, visit_garbage);
        }
        for_candidates(heap, generation, strip_garbage);
        free_all(heap, generation);
    }
    gc->young_collected = -1;
    run->result.unreachable = gc->young_found;
    promote(heap, generation);
}
