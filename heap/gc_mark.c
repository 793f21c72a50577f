/* gc_mark.c -- what the machine reaches: from the roots, or from what the candidates' own references leave over.
 *
 *   roots ..  -- reach -->  stack  -- a batch at a time (gc_scan.h) -->  scan: reach what it refers to
 *
 * A full collection marks whatever it comes to: nobody who is no candidate is in the way, and to ask costs more.
 * A young one marks candidates only, gc->young says who they are.
 *
 * A container with more references than a piece may have is scanned, or subtracted, from the end backwards, one such
 * at a time (gc->partial); what is added later comes behind what has been looked at, and its count changes.  Who moves
 * references about in a container says so: gc_before_insert() and the like.
 *
 * The stack lies where address space is reserved for it: it grows without moving, and what it does not need is given
 * back a mebibyte at a time.  What it cannot take is found by scanning again all that is marked.
 * Stack entries outlive slices.  One whose mark is gone has died since; what lives there now is somebody else, and
 * scanning that does no harm.
 * Start at drain().
 */
#include "gc_scan.h"
#include "gc_walk.h"

#include <sys/mman.h>

#define AHEAD 8u       /* of a pass over a chunk: so many slots before it is read a header is asked for */

/* ---- the stack of what is reached and not yet scanned ---- */

bool gc_stack_grow(struct gc *gc)
{
    if (gc->stack_room * 2 > gc->stack_max) {
        return false;
    }
    gc->stack_room *= 2;
    atomic_store_explicit(&gc->stack_is_large, gc->stack_room > GC_STACK_KEPT, memory_order_relaxed);
    return true;
}

bool gc_stack_release(struct gc *gc)
{
    if (gc->state != GC_IDLE || gc->stack_room <= GC_STACK_KEPT) {
        return false;
    }
    HEAP_ASSERT(gc->stack_used == 0);
    uint64_t left = gc->stack_room > GC_STACK_KEPT + GC_STACK_PIECE ? gc->stack_room - GC_STACK_PIECE : GC_STACK_KEPT;
    madvise(gc->stack + left, (gc->stack_room - left) * sizeof *gc->stack, MADV_DONTNEED);
    gc->stack_room = left;
    atomic_store_explicit(&gc->stack_is_large, gc->stack_room > GC_STACK_KEPT, memory_order_relaxed);
    return true;
}

void gc_push(struct gc *gc, uint32_t ref)
{
    if (unlikely(gc->stack_used == gc->stack_room) && !gc_stack_grow(gc)) {
        /* Benign: what was not pushed is found by scanning all that is reached again. */
        gc->overflowed = true;
        return;
    }
    gc->stack[gc->stack_used++] = ref;
}

/* `only` NULL: whatever it is.  All that is small here is inlined with it known. */
static inline __attribute__((always_inline)) void reach(struct gc *gc, uint32_t ref, const uint64_t *only)
{
    if (ref != 0 && !ref_is_atom(ref) && !bit_get(gc->mark, ref) && (only == NULL || bit_get(only, ref))) {
        bit_set(gc->mark, ref);
        gc_push(gc, ref);
    }
}

/* Candidates that have not come out of their chunk, or have not been told of in gc->young, count too. */
static bool is_candidate(const struct heap *heap, uint32_t ref)
{
    const struct gc *gc = &heap->gc;
    const struct container *c = (const struct container *)object_at(heap, ref);
    if (bit_get(gc->candidates, ref)) {
        return true;
    }
    return (c->head.flags & FLAG_TRACKED) && c->gc != 0 && gc->chunks[(c->gc - 1) >> CHUNK_SHIFT]->list == LIST_CANDIDATE;
}

void gc_touch(struct heap *heap, uint32_t ref)
{
    if (ref != 0 && !ref_is_atom(ref) && !bit_get(heap->gc.mark, ref) && is_candidate(heap, ref)) {
        bit_set(heap->gc.mark, ref);
        gc_push(&heap->gc, ref);
    }
}

/* ---- scanning ---- */

/* The references of the large container under way that come next, from gc->partial.left down; at the end that is
 * done with.  They are counted on the slice. */
static struct edges partial_piece(struct heap *heap, struct slice *slice)
{
    struct gc_partial *partial = &heap->gc.partial;
    struct edges edges = object_edges(heap, (const struct container *)object_at(heap, partial->ref));
    uint32_t left = partial->left < edges.count ? partial->left : edges.count;
    uint32_t count = left < SLICE_PIECE_REFS ? left : SLICE_PIECE_REFS;
    partial->left = left - count;
    edges.refs += edges.refs != NULL ? partial->left : 0;
    edges.count = count;
    if (partial->left > 0) {
        edges.extra = 0;
    } else {
        partial->ref = 0;
    }
    slice_spend(slice, 1, count);
    return edges;
}

/* Scans the containers of a batch one by one until the slice is over, since they have many references together.
 * Returns how many that were. */
static __attribute__((noinline)) uint32_t scan_some(struct gc *gc, const struct batch *batch, const struct edges *edges,
                                                    struct slice *slice, const uint64_t *only)
{
    uint32_t i = 0;
    for (; i < batch->count && !slice->is_over; i++) {
        if (edges[i].count <= SLICE_PIECE_REFS) {
            mark_edges(gc, &edges[i], 1, only);
            slice_spend(slice, 1, edges[i].count + 1);
        } else if (gc->partial.ref == 0) {
            gc->partial = (struct gc_partial){.ref = batch->refs[i], .left = edges[i].count};
        } else {
            gc_push(gc, batch->refs[i]);
        }
    }
    return i;
}

static void push_back(struct gc *gc, const struct batch *batch, uint32_t from)
{
    for (uint32_t i = batch->count; i-- > from;) {
        gc_push(gc, batch->refs[i]);
    }
}

static inline __attribute__((always_inline)) bool drain_with(struct heap *heap, struct slice *slice, const uint64_t *only)
{
    struct gc *gc = &heap->gc;
    struct batch batches[2]; /* one is scanned while the other's headers are on their way */
    struct edges edges[BATCH_ROOM];
    uint32_t want = slice->objects_left < 2 * BATCH_ROOM ? 1 : BATCH_ROOM;
    unsigned now = 0;
    batch_take(heap, &batches[now], want);
    while (!slice->is_over) {
        if (unlikely(gc->partial.ref != 0)) {
            struct edges piece = partial_piece(heap, slice);
            mark_edges(gc, &piece, 1, only);
            continue;
        }
        struct batch *batch = &batches[now];
        if (batch->count == 0 && gc->stack_used == 0) {
            break;
        }
        if (slice->objects + batch->count > SLICE_OBJECTS && slice_look(slice)) {
            break;
        }
        uint64_t refs = batch_open(heap, batch, edges);
        now = !now;
        batch_take(heap, &batches[now], want);
        if (likely(slice->refs + refs <= SLICE_REFS + SLICE_PIECE_REFS)) {
            mark_edges(gc, edges, batch->count, only);
            slice_spend(slice, batch->count, (uint32_t)refs);
        } else {
            push_back(gc, batch, scan_some(gc, batch, edges, slice, only));
        }
    }
    push_back(gc, &batches[now], 0);
    return gc->stack_used == 0 && gc->partial.ref == 0;
}

/* Scans what is on the stack; true: nothing is left there.  Nobody changes the graph meanwhile. */
static bool drain(struct heap *heap, struct slice *slice)
{
    const struct gc *gc = &heap->gc;
    return gc->candidates == gc->old ? drain_with(heap, slice, NULL) : drain_with(heap, slice, gc->young);
}

/* ---- full: the young become old ---- */

/* Those from slot gc->next of the chunk on, as many as a piece may have.  Returns how many slots that were. */
static uint32_t promote_piece(struct heap *heap, struct gc_chunk *chunk, struct slice *slice)
{
    struct gc *gc = &heap->gc;
    uint32_t room = slice_room(slice), made = 0, i = gc->next;
    for (; i < chunk->untouched && made < room; i++) {
        if (i + AHEAD < chunk->untouched) {
            __builtin_prefetch(object_at(heap, chunk->refs[i + AHEAD]), 1);
        }
        if (chunk->refs[i] != 0) {
            gc_make_old(heap, (struct container *)object_at(heap, chunk->refs[i]));
            chunk->refs[i] = 0;
            chunk->used--;
            made++;
        }
    }
    slice_spend(slice, made, (i - gc->next) / 16);
    gc->next = i;
    return made;
}

/* gc_promote_slice -- candidates leave their chunks, which are free then; also for survivors of generation 1. */
bool gc_promote_slice(struct heap *heap, struct slice *slice)
{
    struct gc *gc = &heap->gc;
    while (!slice->is_over) {
        if (gc->lists[LIST_CANDIDATE].head == NO_CHUNK) {
            return true;
        }
        struct gc_chunk *chunk = gc->chunks[gc->lists[LIST_CANDIDATE].head];
        uint32_t made = promote_piece(heap, chunk, slice);
        gc->long_lived_pending += gc->candidates == gc->young ? made : 0;
        if (gc->next >= chunk->untouched) {
            gc_chunk_move(gc, chunk, LIST_FREE);
            gc->next = 0;
        }
    }
    return false;
}

/* ---- full: roots ---- */

/* gc_frozen_slice -- the collector's own roots: gc.garbage, then frozen objects. */
bool gc_frozen_slice(struct heap *heap, struct slice *slice)
{
    struct gc *gc = &heap->gc;
    bool has_frozen = counter_read(&gc->frozen_count) > 0;
    while (drain(heap, slice) && !slice->is_over) {
        uint32_t ref;
        if (gc->next < heap->garbage.len) { /* nothing is added to it: that takes the machine */
            reach(gc, heap->garbage.refs[gc->next++], NULL);
            slice_spend(slice, 1, 1);
        } else if (has_frozen && gc_next_word(heap, &ref)) {
            for (uint64_t bits = gc->frozen[ref >> 6]; bits != 0; bits &= bits - 1) {
                reach(gc, ref + (uint32_t)__builtin_ctzll(bits), NULL);
            }
            slice_spend(slice, 0, 1);
        } else {
            return true;
        }
    }
    return false;
}

/* gc_roots_slice -- what sessions and names have, by the handle table, in its order. */
bool gc_roots_slice(struct heap *heap, struct slice *slice)
{
    struct gc *gc = &heap->gc;
    while (drain(heap, slice) && !slice->is_over) {
        uint64_t first = handle_next(heap, (uint64_t)gc->next + 1);
        if (first > handle_count(heap)) {
            return true;
        }
        gc->next = (uint32_t)first - 1;
        uint32_t end = handle_count(heap) - gc->next < 64 ? handle_count(heap) : gc->next + 64;
        while (gc->next < end && !slice->is_over) {
            uint32_t slot = ++gc->next; /* they begin with 1 */
            bool is_root = handle_roots(heap, slot) > 0;
            if (is_root) {
                reach(gc, handle_ref(heap, slot), NULL);
            }
            slice_spend(slice, is_root, 1);
        }
    }
    return false;
}

/* ---- young: subtraction ---- */

static uint32_t *scratch_of(const struct heap *heap, uint32_t ref)
{
    const struct container *c = (const struct container *)object_at(heap, ref);
    return &heap->gc.chunks[(c->gc - 1) >> CHUNK_SHIFT]->scratch[(c->gc - 1) & (CHUNK_SLOTS - 1)];
}

/* gc_copy_slice -- scratch = refcount, for every candidate, and gc->young knows it from now on. */
bool gc_copy_slice(struct heap *heap, struct slice *slice)
{
    struct gc *gc = &heap->gc;
    struct gc_chunk *chunk;
    while ((chunk = gc_next_chunk(gc)) != NULL && !slice->is_over) {
        uint32_t i = gc->next++;
        if (i + AHEAD < chunk->untouched) {
            __builtin_prefetch(object_at(heap, chunk->refs[i + AHEAD]));
        }
        if (chunk->refs[i] != 0) {
            chunk->scratch[i] = object_at(heap, chunk->refs[i])->refcount;
            bit_set(gc->young, chunk->refs[i]);
        }
        slice_spend(slice, chunk->refs[i] != 0, 1);
    }
    return chunk == NULL;
}

static void subtract(struct heap *heap, const struct edges *edges)
{
    const uint64_t *young = heap->gc.young;
    for (uint32_t k = 0; k < edges->count; k++) {
        uint32_t ref = edges->refs[k];
        if (ref != 0 && !ref_is_atom(ref) && bit_get(young, ref)) {
            (*scratch_of(heap, ref))--; /* of one that has been touched it does not matter */
        }
    }
    if (edges->extra != 0 && bit_get(young, edges->extra)) {
        (*scratch_of(heap, edges->extra))--;
    }
}

/* gc_subtract_slice -- one less for every reference from a candidate. */
bool gc_subtract_slice(struct heap *heap, struct slice *slice)
{
    struct gc *gc = &heap->gc;
    struct gc_chunk *chunk;
    while (!slice->is_over) {
        if (gc->partial.ref != 0) {
            struct edges piece = partial_piece(heap, slice);
            subtract(heap, &piece);
            continue;
        }
        chunk = gc_next_chunk(gc);
        if (chunk == NULL) {
            return true;
        }
        uint32_t i = gc->next++, ref = chunk->refs[i];
        if (i + AHEAD < chunk->untouched) {
            __builtin_prefetch(object_at(heap, chunk->refs[i + AHEAD]));
        }
        struct edges edges = {0};
        if (ref != 0) {
            edges = object_edges(heap, (const struct container *)object_at(heap, ref));
        }
        if (edges.count > SLICE_PIECE_REFS) {
            gc->partial = (struct gc_partial){.ref = ref, .left = edges.count};
        } else {
            subtract(heap, &edges);
            slice_spend(slice, ref != 0, edges.count + 1);
        }
    }
    return false;
}

/* gc_outside_slice -- what is referred to from elsewhere is reached, and what that refers to. */
bool gc_outside_slice(struct heap *heap, struct slice *slice)
{
    struct gc *gc = &heap->gc;
    while (drain(heap, slice) && !slice->is_over) {
        struct gc_chunk *chunk = gc_next_chunk(gc);
        if (chunk == NULL) {
            return true;
        }
        uint32_t end = chunk->untouched - gc->next < 64 ? chunk->untouched : gc->next + 64;
        uint32_t room = slice_room(slice), found = 0;
        for (; gc->next < end && found < room; gc->next++) {
            if (chunk->refs[gc->next] != 0 && chunk->scratch[gc->next] != 0) {
                reach(gc, chunk->refs[gc->next], gc->young);
                found++;
            }
        }
        slice_spend(slice, found, 8);
    }
    return false;
}

/* ---- again ---- */

/* gc_rescan_slice -- what is marked is scanned again, because the stack could not take everything. */
bool gc_rescan_slice(struct heap *heap, struct slice *slice)
{
    struct gc *gc = &heap->gc;
    while (drain(heap, slice) && !slice->is_over) {
        uint32_t ref;
        if (!gc_next_word(heap, &ref)) {
            return true;
        }
        /* The stack is empty, and so has room for these: each is scanned. */
        for (uint64_t bits = gc->mark[ref >> 6]; bits != 0; bits &= bits - 1) {
            gc_push(gc, ref + (uint32_t)__builtin_ctzll(bits));
        }
        slice_spend(slice, 0, 1);
    }
    return false;
}

/* gc_named_slice -- what finalizers have given a name, or somebody holds since, is reached after all. */
bool gc_named_slice(struct heap *heap, struct slice *slice)
{
    while (drain(heap, slice) && !slice->is_over) {
        uint32_t named;
        if (!finalizer_next_ran(heap, &named)) {
            return true;
        }
        reach(&heap->gc, named, heap->gc.candidates);
        slice_spend(slice, 1, 1);
    }
    return false;
}
