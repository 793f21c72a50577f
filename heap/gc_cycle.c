/* gc_cycle.c -- the machine: a collection of any size in slices, one state after the other.
 *
 *   IDLE -> DRAIN                                  deaths under way come to their end
 *      t0   full:   PROMOTE  FROZEN  ROOTS         marks from the roots                         gc_mark.c
 *           young:  COPY  SUBTRACT  OUTSIDE        subtracts references among the candidates
 *           (RESCAN)                               when the stack could not take everything
 *      t1   nothing is left to scan:  condemned(o) == candidate(o) and not mark(o)
 *           (WEAKREFS  SORT  FINALIZE  NAMED  TELL)   when somebody wants to know of the end     gc_sweep.c
 *           (COUNT  SAVE)                          with the debug flag `saveall`
 *      verdict
 *           STRIP  FREE  (KEEP)  (RETURN)  END  -> IDLE
 *
 * Until t1, and in NAMED, the barrier is up: others may change the graph between two slices, and any change of a
 * candidate's refcount marks it, as does asking for it by an id or a weakref.  Garbage is quiet: nobody can change a
 * reference to it or from it without one of these.  What is made after t0 is no candidate.  So the verdict is that of
 * t0, less what was named meanwhile.
 * From t1 on nobody meets a condemned object: who asks for one waits, after the verdict it is not found.
 * A slice begins when nothing is dying, so t1 finds no reference that only the dead have.
 *
 * Invariants: before t1 a marked object that is not on the stack and not being scanned refers to marked objects and to
 * what is no candidate only; from t1 on what is not condemned, and is no such object in NAMED, refers to nothing that is.
 * Source of the equivalence with refcount subtraction for full collections: every reference is an edge, a hold, a name,
 * an entry of gc.garbage or a frozen object's, as heap_check() proves.  Checker: gc_check_generations().
 * Start at gc_cycle_step().
 */
#include "heap_internal.h"

/* ---- from one state to the next ---- */

/* What follows t1, if nobody has to be told. */
static enum gc_state sentence(const struct heap *heap)
{
    return heap_gc_debug(heap) & HEAP_GC_SAVEALL ? GC_COUNT : GC_STRIP;
}

static enum gc_state judgement(const struct heap *heap)
{
    bool is_silent = heap->weakrefs.count == 0 && heap->finalizers.waiting == 0 &&
                     !(heap_gc_debug(heap) & HEAP_GC_COLLECTABLE);
    return is_silent ? sentence(heap) : GC_WEAKREFS;
}

/* With `saveall`.  Without memory for all that is condemned it is freed like any other. */
static enum gc_state save_or_strip(struct heap *heap)
{
    struct gc *gc = &heap->gc;
    uint64_t bytes = gc->unreachable * sizeof *gc->saved.refs;
    if (bytes == 0 || !garbage_reserve(heap, gc->unreachable)) {
        return GC_STRIP;
    }
    gc->saved.refs = pymalloc_table_alloc(&heap->pm, bytes);
    gc->saved.room = gc->saved.refs != NULL ? gc->unreachable : 0;
    gc->saved.len = 0;
    return gc->saved.refs != NULL ? GC_SAVE : GC_STRIP;
}

static enum gc_state state_after(struct heap *heap)
{
    struct gc *gc = &heap->gc;
    bool is_young = gc->run.result.generation < 2;
    switch (gc->state) {
    case GC_PROMOTE:
        return GC_FROZEN;
    case GC_FROZEN:
        return GC_ROOTS;
    case GC_COPY:
        return GC_SUBTRACT;
    case GC_SUBTRACT:
        return GC_OUTSIDE;
    case GC_ROOTS:
    case GC_OUTSIDE:
    case GC_RESCAN:
        return gc->overflowed ? GC_RESCAN : judgement(heap);
    case GC_WEAKREFS:
        return heap->finalizers.judged.first != NULL ? GC_SORT : sentence(heap);
    case GC_SORT:
        return GC_FINALIZE;
    case GC_FINALIZE:
        return GC_NAMED;
    case GC_NAMED:
    case GC_NAMED_AGAIN:
        return gc->overflowed ? GC_NAMED_AGAIN : GC_TELL;
    case GC_TELL:
        return sentence(heap);
    case GC_COUNT:
        return save_or_strip(heap);
    case GC_SAVE:
    case GC_STRIP:
        return GC_FREE;
    case GC_FREE:
        return gc->saves ? GC_KEEP : is_young ? GC_RETURN : GC_END;
    case GC_KEEP:
        return is_young ? GC_RETURN : GC_END;
    default:
        return GC_END;
    }
}

static void enter(struct heap *heap, enum gc_state state)
{
    struct gc *gc = &heap->gc;
    gc->saves = gc->saves || (gc->state == GC_SAVE && state == GC_FREE);
    gc->state = state;
    gc->cycle_on = gc_is_determining(gc);
    gc->cursor = 0;
    gc->next = 0;
    gc->chunk = gc->lists[LIST_CANDIDATE].head;
    if (state == GC_RESCAN || state == GC_NAMED_AGAIN) {
        gc->overflowed = false;
    } else if (state == GC_SORT) {
        finalizer_sort_begin(heap);
    } else if (state == GC_COUNT || state == GC_FREE) {
        gc->unreachable = gc->saves ? gc->saved.len : 0;
    } else if (state == GC_END) {
        gc->swept = 0;
        gc->saves = false;
        gc->run.result.unreachable = gc->unreachable;
    }
}

void gc_cycle_end(struct heap *heap)
{
    struct gc *gc = &heap->gc;
    if (gc->run.result.generation == 2) {
        gc->long_lived_total = counter_read(&gc->generations[2].objects);
        pymalloc_trim(&heap->pm); /* a full collection empties the free lists, as CPython's does */
    }
    gc->state = GC_IDLE;
}

/* ---- the machine ---- */

/* The candidates of generation 0 or 1: they stay in their chunks, which make a list of their own. */
static void take_candidates(struct gc *gc, uint32_t list)
{
    while (gc->lists[list].head != NO_CHUNK) {
        gc_chunk_move(gc, gc->chunks[gc->lists[list].head], LIST_CANDIDATE);
    }
    uint64_t objects = counter_read(&gc->generations[list].objects);
    counter_sub(&gc->generations[list].objects, objects);
    counter_add(&gc->generations[gc->target].objects, objects);
}

void gc_cycle_start(struct heap *heap)
{
    struct gc *gc = &heap->gc;
    int generation = gc->run.result.generation;
    HEAP_ASSERT(gc->lists[LIST_CANDIDATE].head == NO_CHUNK && gc->stack_used == 0 && gc->partial.ref == 0);
    gc->target = generation < 2 ? generation + 1 : 2;
    for (uint32_t list = 0; list < 2 && (int)list <= generation; list++) {
        take_candidates(gc, list);
    }
    gc->candidates = generation < 2 ? gc->young : gc->old;
    gc->overflowed = false;
    gc->swept = 0;
    gc->saves = false;
    gc->unreachable = 0;
    if (generation == 2) {
        gc->long_lived_pending = 0;
    }
    enter(heap, generation < 2 ? GC_COPY : GC_PROMOTE);
}

static bool tell_slice(struct heap *heap, struct slice *slice)
{
    while (!slice->is_over) {
        if (!finalizer_tell_ran(heap)) {
            return true;
        }
        slice_spend(slice, 1, 0);
    }
    return false;
}

static bool slice_of_state(struct heap *heap, struct slice *slice)
{
    switch (heap->gc.state) {
    case GC_PROMOTE:
        return gc_promote_slice(heap, slice);
    case GC_FROZEN:
        return gc_frozen_slice(heap, slice);
    case GC_ROOTS:
        return gc_roots_slice(heap, slice);
    case GC_COPY:
        return gc_copy_slice(heap, slice);
    case GC_SUBTRACT:
        return gc_subtract_slice(heap, slice);
    case GC_OUTSIDE:
        return gc_outside_slice(heap, slice);
    case GC_RESCAN:
    case GC_NAMED_AGAIN:
        return gc_rescan_slice(heap, slice);
    case GC_WEAKREFS:
        return gc_weakrefs_slice(heap, slice);
    case GC_SORT:
        return finalizer_sort_slice(heap, slice);
    case GC_FINALIZE:
        return gc_finalize_slice(heap, slice);
    case GC_NAMED:
        return gc_named_slice(heap, slice);
    case GC_TELL:
        return tell_slice(heap, slice);
    case GC_COUNT:
        return gc_count_slice(heap, slice);
    case GC_SAVE:
        return gc_save_slice(heap, slice);
    case GC_STRIP:
        return gc_strip_slice(heap, slice);
    case GC_FREE:
        return gc_free_slice(heap, slice);
    case GC_KEEP:
        return gc_keep_slice(heap, slice);
    case GC_RETURN:
        return gc_return_slice(heap, slice);
    default: /* gc_collect.c does what is left */
        break;
    }
    heap_assert_failed("a state of the machine", __FILE__, __LINE__);
}

bool gc_cycle_step(struct heap *heap, struct slice *slice)
{
    if (!slice_of_state(heap, slice)) {
        return false;
    }
    enter(heap, state_after(heap));
    return true;
}
