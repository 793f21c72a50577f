/* dying.c -- deaths that outlast the slice of the operation that caused them.
 *
 *   operation under way      heap->dead_head .., heap->finalizers.dying       dead.c
 *   operations that are over  [ struct heap_dying ] -> [ struct heap_dying ]   here, the oldest first
 *
 * Each has a list of its own, so that the small deaths of the operations between are over at once.  To go on with
 * one, its lists take the place of those of the operation under way, of which there is none then.  One that
 * releases the holds of a session that has ended drops those first.
 *
 * Meanwhile nobody knows of an object that is neither held nor named whether it is among those that are dying: who
 * asks for it by its id or a weakref waits.
 *
 * Invariant: between two operations the lists of the operation under way are empty.   Checker: dying_check().
 * Start at dying_step().
 */
#include "heap_internal.h"

static void put_down(struct heap *heap, struct heap_dying *dying)
{
    dying->first = heap->dead_head;
    dying->last = heap->dead_tail;
    dying->left = heap->dead_left;
    dying->finalizers[0] = heap->finalizers.dying.first;
    dying->finalizers[1] = heap->finalizers.dying.last;
    dying->freed = heap->freed_pending;
    heap->dead_head = heap->dead_tail = heap->dead_left = 0;
    heap->finalizers.dying = (struct finalizer_list){NULL, NULL};
    heap->freed_pending = 0;
}

static void take_up(struct heap *heap, const struct heap_dying *dying)
{
    HEAP_ASSERT(heap->dead_head == 0 && heap->finalizers.dying.first == NULL);
    heap->dead_head = dying->first;
    heap->dead_tail = dying->last;
    heap->dead_left = dying->left;
    heap->finalizers.dying = (struct finalizer_list){dying->finalizers[0], dying->finalizers[1]};
    heap->freed_pending = dying->freed;
}

void dying_defer(struct heap *heap, struct heap_dying *dying)
{
    put_down(heap, dying);
    dying->is_done = false;
    dying->next = NULL;
    *(heap->dying_first != NULL ? &heap->dying_last->next : &heap->dying_first) = dying;
    heap->dying_last = dying;
    heap->compare_steps = 0;
    atomic_store_explicit(&heap->work_pending, true, memory_order_relaxed);
}

/* Whether the first has come to its end. */
static bool go_on(struct heap *heap, struct heap_dying *dying, struct slice *slice)
{
    take_up(heap, dying);
    if (dying->session != NULL && session_release_slice(heap, dying->session, slice)) {
        dying->session = NULL;
    }
    bool is_done = dying->session == NULL && dead_slice(heap, slice);
    put_down(heap, dying);
    return is_done;
}

bool dying_step(struct heap *heap, struct slice *slice)
{
    struct heap_dying *dying;
    while ((dying = heap->dying_first) != NULL) {
        if (!go_on(heap, dying, slice)) {
            return false;
        }
        heap->dying_first = dying->next; /* before its owner may think that it is free */
        dying->is_done = true;
    }
    return true;
}

/* ---- waiting ---- */

bool dying_decides(struct heap *heap, uint32_t ref)
{
    if (likely(heap->dying_first == NULL) || object_is_immortal(object_at(heap, ref))) {
        return false;
    }
    uint32_t slot = handle_slot_if_any(heap, ref);
    uint32_t roots = slot != 0 ? handle_roots(heap, slot) : 0;
    for (const struct heap_dying *dying = heap->dying_first; dying != NULL && roots > 0; dying = dying->next) {
        roots -= dying->session != NULL ? session_holds_left(dying->session, slot) : 0;
    }
    if (roots > 0) {
        return false;
    }
    heap->wait = HEAP_WAIT_DEATHS;
    return true;
}

/* ---- checker ---- */

static bool is_dead(const struct heap *heap, uint32_t ref)
{
    const struct container *c = (const struct container *)object_at(heap, ref);
    return pymalloc_is_block(&heap->pm, ref, POOL_CONTAINER) && (c->head.flags & FLAG_DEAD) &&
           c->head.refcount == 0 && c->handle == 0;
}

uint32_t dying_check(struct heap *heap, FILE *why)
{
    uint32_t problems = 0;
    for (const struct heap_dying *dying = heap->dying_first; dying != NULL; dying = dying->next) {
        uint32_t last = 0;
        for (uint32_t ref = dying->first; ref != 0; ref = ((const struct container *)object_at(heap, ref))->gc) {
            if (!is_dead(heap, ref)) {
                fprintf(why, "%#x is on a list of the dying and is not dead\n", ref);
                return problems + 1;
            }
            last = ref;
        }
        if (last != dying->last || dying->is_done) {
            fprintf(why, "a list of the dying ends in %#x and says %#x\n", last, dying->last);
            problems++;
        }
    }
    return problems;
}
