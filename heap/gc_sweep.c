/* gc_sweep.c -- what the machine does with those that it has not reached.
 *
 *   WEAKREFS   their weakrefs are cleared, newest first, and who wants to know is told; finalizers are listed
 *   FINALIZE   the finalizers run, one after the other; what dies of it dies by refcount
 *   SAVE       with `saveall`: each gets a reference from what will be in gc.garbage, all of which appears at once
 *   STRIP      they drop their references, but those to each other, their ids and their buffers
 *   FREE       blocks go in address order, and all marks with them: gc->swept says how far that is
 *   RETURN     survivors of a young collection leave the candidates' chunks
 *
 * Walks over the pools find the condemned by their bits: gc->candidates without gc->mark.
 * Start at gc_strip_slice().
 */
#include "gc_strip.h"
#include "gc_walk.h"
#include "visit.h"

static bool is_condemned(const struct heap *heap, uint32_t ref)
{
    return (heap->gc.candidates[ref >> 6] & ~heap->gc.mark[ref >> 6]) >> (ref & 63) & 1;
}

static inline uint64_t condemned_word(const struct gc *gc, uint32_t ref)
{
    return gc->candidates[ref >> 6] & ~gc->mark[ref >> 6];
}

/* The next condemned object from gc->cursor on, which stays there.  0: none in this word, and the cursor is behind it. */
static uint32_t condemned_in_word(struct gc *gc, uint32_t ref)
{
    uint64_t bits = condemned_word(gc, ref) & ~(uint64_t)0 << (ref & 63);
    return bits != 0 ? (ref & ~63u) + (uint32_t)__builtin_ctzll(bits) : 0;
}

/* The next condemned object at or after gc->cursor, which is moved to it; words without one are counted on the slice,
 * and 0 is returned when that is over, or at the end, with gc->cursor UINT32_MAX. */
static uint32_t next_condemned(struct heap *heap, struct slice *slice)
{
    struct gc *gc = &heap->gc;
    while (!slice->is_over) {
        if (gc->cursor % 64 != 0) { /* within a word */
            uint32_t ref = condemned_in_word(gc, gc->cursor);
            if (ref != 0) {
                gc->cursor = ref;
                return ref;
            }
            gc->cursor = (gc->cursor | 63u) + 1;
        }
        uint32_t word;
        if (!gc_next_word(heap, &word)) {
            gc->cursor = UINT32_MAX;
            return 0;
        }
        uint64_t bits = condemned_word(gc, word);
        if (bits != 0) {
            gc->cursor = word + (uint32_t)__builtin_ctzll(bits);
            return gc->cursor;
        }
        slice_spend(slice, 0, 1);
    }
    return 0;
}

/* Whether a walk with next_condemned() has come to the end. */
static bool is_walked(const struct gc *gc)
{
    return gc->cursor == UINT32_MAX;
}

/* ---- judging ---- */

/* gc_weakrefs_slice -- the weakrefs of the condemned are cleared, their finalizers listed; the log is told. */
bool gc_weakrefs_slice(struct heap *heap, struct slice *slice)
{
    uint32_t ref;
    while ((ref = next_condemned(heap, slice)) != 0) {
        const struct object *o = object_at(heap, ref);
        if (o->flags & FLAG_WEAKREF) { /* there may be any number of them */
            weakref_clear_first(heap, ref, is_condemned);
        } else {
            if (o->type == HEAP_T_WEAKREF) { /* dead, too, should it be brought back */
                visit_before_change(heap, ref);
                lasting_tell(heap, HEAP_EFFECT_UNAIMED, ref, false);
                weakref_unlink(heap, (struct weakref *)object_at(heap, ref));
            }
            if (o->flags & FLAG_FINALIZER) {
                finalizer_judge(heap, ref);
            }
            debug_say_collectable(heap, ref);
            heap->gc.cursor = ref + 1;
        }
        slice_spend(slice, 1, 0);
    }
    return is_walked(&heap->gc);
}

/* gc_finalize_slice -- runs them; what one has killed is gone before the next. */
bool gc_finalize_slice(struct heap *heap, struct slice *slice)
{
    while (dead_slice(heap, slice) && !slice->is_over) {
        if (!finalizer_run_judged(heap)) {
            return true;
        }
        slice_spend(slice, 1, 0);
    }
    return false;
}

/* ---- saveall ---- */

bool gc_count_slice(struct heap *heap, struct slice *slice)
{
    struct gc *gc = &heap->gc;
    while (!slice->is_over) {
        uint32_t ref;
        if (!gc_next_word(heap, &ref)) {
            return true;
        }
        gc->unreachable += (uint64_t)__builtin_popcountll(condemned_word(gc, ref));
        slice_spend(slice, 0, 1);
    }
    return false;
}

bool gc_save_slice(struct heap *heap, struct slice *slice)
{
    struct gc *gc = &heap->gc;
    uint32_t ref;
    while ((ref = next_condemned(heap, slice)) != 0) {
        HEAP_ASSERT(gc->saved.len < gc->saved.room);
        object_incref(heap, ref);
        gc->saved.refs[gc->saved.len++] = ref;
        gc->cursor = ref + 1;
        slice_spend(slice, 1, 0);
    }
    return is_walked(gc);
}

/* Of these a journal hears. */
static void tell_kept(struct heap *heap, const uint32_t *refs, uint64_t count)
{
    for (uint64_t i = 0; heap->lasting.is_on && i < count; i++) {
        lasting_tell_now(heap, HEAP_EFFECT_KEPT, refs[i], false);
    }
}

/* gc_keep_slice -- what has been saved appears in gc.garbage, which has room unless it was emptied meanwhile. */
bool gc_keep_slice(struct heap *heap, struct slice *slice)
{
    struct gc *gc = &heap->gc;
    struct garbage *garbage = &heap->garbage;
    uint64_t left = gc->saved.len - gc->next;
    if (garbage->len == 0 || garbage->room - garbage->len < left) {
        HEAP_ASSERT(garbage->len == 0);
        pymalloc_table_free(&heap->pm, garbage->refs, garbage->room * sizeof *garbage->refs);
        memmove(gc->saved.refs, gc->saved.refs + gc->next, left * sizeof *gc->saved.refs);
        tell_kept(heap, gc->saved.refs, left);
        *garbage = gc->saved;
        garbage->len = left;
        gc->saved = (struct garbage){0};
        return true;
    }
    while (gc->next < gc->saved.len && !slice->is_over) {
        uint32_t count = gc->saved.len - gc->next < 256 ? (uint32_t)gc->saved.len - gc->next : 256;
        tell_kept(heap, gc->saved.refs + gc->next, count);
        memcpy(garbage->refs + garbage->len, gc->saved.refs + gc->next, count * sizeof *garbage->refs);
        garbage->len += count;
        gc->next += count;
        slice_spend(slice, 1, count);
    }
    if (gc->next < gc->saved.len) {
        return false;
    }
    pymalloc_table_free(&heap->pm, gc->saved.refs, gc->saved.room * sizeof *gc->saved.refs);
    gc->saved = (struct garbage){0};
    return true;
}

/* ---- sweep ---- */

/* A walk that began before is to see each of them before any is taken apart; then there are no slices. */
static void visit_condemned(struct heap *heap)
{
    struct slice endless;
    uint32_t ref;
    slice_begin(&endless, &heap->slices, 0);
    while ((ref = next_condemned(heap, &endless)) != 0) {
        visit_before_death(heap, ref);
        heap->gc.cursor = ref + 1;
    }
    heap->gc.cursor = 0;
}

/* A piece of a large one, from the end: what it still refers to counts, what it does not must not. */
static void strip_piece(struct heap *heap, struct container *c, const struct edges *edges, struct slice *slice)
{
    struct gc *gc = &heap->gc;
    uint32_t left = gc->next != 0 ? gc->next : edges->count;
    uint32_t stop = left > SLICE_PIECE_REFS ? left - SLICE_PIECE_REFS : 0;
    gc_strip_refs(heap, edges->refs, stop, left, is_condemned);
    memset(edges->refs + stop, 0, (left - stop) * sizeof *edges->refs);
    gc->next = stop;
    if (stop == 0) {
        gc_strip_end(heap, c, edges->extra, is_condemned);
        gc->cursor++;
    }
    slice_spend(slice, 1, left - stop);
}

bool gc_strip_slice(struct heap *heap, struct slice *slice)
{
    struct gc *gc = &heap->gc;
    uint32_t ref;
    if (unlikely(heap->visit != NULL && gc->cursor == 0)) {
        visit_condemned(heap);
    }
    while ((ref = next_condemned(heap, slice)) != 0) {
        struct container *c = (struct container *)object_at(heap, ref);
        struct edges edges = object_edges(heap, c);
        if (unlikely(edges.count > SLICE_PIECE_REFS)) {
            strip_piece(heap, c, &edges, slice);
            continue;
        }
        gc_strip_refs(heap, edges.refs, 0, edges.count, is_condemned);
        gc_strip_end(heap, c, edges.extra, is_condemned);
        gc->cursor = ref + 1;
        slice_spend(slice, 1, edges.count + 1);
    }
    return is_walked(gc);
}

bool gc_is_stripped(const struct gc *gc, uint32_t ref)
{
    return gc_is_sentenced(gc) && gc_is_condemned(gc, ref) && (gc->state == GC_FREE || ref < gc->cursor);
}

/* Takes a condemned container out of its slot. */
static void leave_chunk(struct gc *gc, const struct container *c)
{
    struct gc_chunk *chunk = gc->chunks[(c->gc - 1) >> CHUNK_SHIFT];
    chunk->refs[(c->gc - 1) & (CHUNK_SLOTS - 1)] = 0;
    chunk->used--;
}

/* Frees the condemned of a word, and wipes its marks: the survivors stay where they are. */
static void free_word(struct heap *heap, uint32_t ref, uint64_t condemned)
{
    struct gc *gc = &heap->gc;
    bool is_young = gc->candidates == gc->young;
    for (uint64_t bits = condemned; bits != 0; bits &= bits - 1) {
        struct container *c = (struct container *)object_at(heap, ref + (uint32_t)__builtin_ctzll(bits));
        if (is_young) {
            leave_chunk(gc, c);
        }
        gc_free_class(heap, c);
        object_count_freed(heap, &c->head);
    }
    gc->candidates[ref >> 6] = is_young ? 0 : gc->candidates[ref >> 6] & ~condemned;
    gc->mark[ref >> 6] = 0;
    pymalloc_free_word(&heap->pm, ref, condemned);
}

bool gc_free_slice(struct heap *heap, struct slice *slice)
{
    struct gc *gc = &heap->gc;
    while (!slice->is_over) {
        uint32_t ref;
        if (!gc_next_word(heap, &ref)) {
            return true;
        }
        uint64_t condemned = gc->saves ? 0 : condemned_word(gc, ref);
        uint32_t count = (uint32_t)__builtin_popcountll(condemned);
        if (slice->objects + count > SLICE_OBJECTS) {
            slice_look(slice);
        }
        free_word(heap, ref, condemned);
        gc->swept = gc->cursor;
        gc->unreachable += count;
        counter_sub(&gc->generations[gc->target].objects, count);
        slice_spend(slice, count, 1);
    }
    return false;
}

/* ---- survivors of a young collection ---- */

/* Moves objects of a chunk that has few to chunks of generation 1.  false: the slice is over, or there is no memory
 * for a slot. */
static bool move_objects(struct heap *heap, struct gc_chunk *chunk, struct slice *slice)
{
    struct gc *gc = &heap->gc;
    for (; gc->next < chunk->untouched && !slice->is_over; gc->next++) {
        if (chunk->refs[gc->next] != 0) {
            struct container *c = (struct container *)object_at(heap, chunk->refs[gc->next]);
            uint32_t was = c->gc;
            if (!gc_place(heap, c, 1)) {
                c->gc = was;
                break;
            }
            chunk->refs[gc->next] = 0;
            chunk->used--;
        }
        slice_spend(slice, 1, 0);
    }
    return gc->next >= chunk->untouched;
}

/* Generation 0 -> 1: a well filled chunk changes its list, the objects of others move to one that has room; where there
 * is no memory for one, the chunk changes its list too. */
bool gc_return_slice(struct heap *heap, struct slice *slice)
{
    struct gc *gc = &heap->gc;
    if (gc->run.result.generation == 1) {
        return gc_promote_slice(heap, slice);
    }
    while (!slice->is_over) {
        if (gc->lists[LIST_CANDIDATE].head == NO_CHUNK) {
            return true;
        }
        struct gc_chunk *chunk = gc->chunks[gc->lists[LIST_CANDIDATE].head];
        bool is_emptied = chunk->used <= CHUNK_SLOTS / 4 && move_objects(heap, chunk, slice);
        if (slice->is_over && !is_emptied) {
            return false;
        }
        if (!is_emptied) {
            gc_chunk_thread(chunk);
        }
        gc_chunk_move(gc, chunk, is_emptied ? LIST_FREE : 1);
        gc->next = 0;
        slice_spend(slice, 0, CHUNK_SLOTS / 16);
    }
    return false;
}
