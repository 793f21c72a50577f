/* work.c -- what is done in slices: which comes first, and who has to wait for it.
 *
 * Start at heap_step().
 */
#include "shape.h"

#include <time.h>

bool heap_work_pending(const struct heap *heap)
{
    return atomic_load_explicit(&heap->work_pending, memory_order_relaxed) || pymalloc_can_release(&heap->pm) ||
           atomic_load_explicit(&heap->gc.stack_is_large, memory_order_relaxed);
}

bool heap_step(struct heap *heap, uint32_t budget_us)
{
    GIL_ASSERT_HELD(heap);
    heap_settle(heap); /* who left something behind has no use for it */
    struct slice slice;
    slice_begin(&slice, &heap->slices, budget_us);
    bool is_done = dying_step(heap, &slice) && gc_step(heap, &slice) && shape_leave_slice(heap, &slice);
    atomic_store_explicit(&heap->work_pending, !is_done, memory_order_relaxed);
    if (is_done && !gc_stack_release(&heap->gc)) { /* one piece a step: who goes on may well want them again */
        pymalloc_release(&heap->pm);
    }
    return heap_work_pending(heap);
}

void heap_set_slice(struct heap *heap, uint32_t us, uint32_t objects)
{
    GIL_ASSERT_HELD(heap);
    heap->slices.us = us;
    heap->slices.objects = objects;
}

/* ---- builds ---- */

void heap_build_begin(struct heap *heap)
{
    GIL_ASSERT_HELD(heap);
    heap->builds++;
}

void heap_build_end(struct heap *heap)
{
    GIL_ASSERT_HELD(heap);
    HEAP_ASSERT(heap->builds > 0);
    heap->builds--;
}

bool heap_is_awaited(struct heap *heap)
{
    GIL_ASSERT_HELD(heap);
    return atomic_load_explicit(&heap->still_wanted, memory_order_relaxed) > 0 || gc_awaits_builds(&heap->gc);
}

/* ---- waiting ---- */

#define LOOK_NS 500000 /* between two looks of heap_enter_still(): as long as a slice */

enum heap_wait heap_take_wait(struct heap *heap)
{
    enum heap_wait wait = heap->wait;
    heap->wait = HEAP_WAIT_NOTHING;
    return wait;
}

bool heap_wait_is_over(const struct heap *heap, enum heap_wait wait)
{
    switch (wait) {
    case HEAP_WAIT_NOTHING:
        return true;
    case HEAP_WAIT_VERDICT: /* also of those that only the condemned may refer to */
        return !gc_is_judging(&heap->gc) && heap->gc.state != GC_STRIP;
    case HEAP_WAIT_COLLECTION:
        return heap->dying_first == NULL && !heap_is_collecting(heap) && heap->visit == NULL && heap->builds == 0 &&
               atomic_load_explicit(&heap->still_wanted, memory_order_relaxed) == 0;
    default:
        return heap->dying_first == NULL;
    }
}

bool heap_is_still(struct heap *heap)
{
    GIL_ASSERT_HELD(heap);
    bool is_still = heap->dying_first == NULL && !heap_is_collecting(heap) && heap->builds == 0;
    if (!is_still) {
        heap->wait = HEAP_WAIT_COLLECTION;
    }
    return is_still;
}

bool heap_enter_still(struct heap *heap, const _Atomic bool *cancel)
{
    bool is_still = false;
    atomic_fetch_add(&heap->still_wanted, 1);
    for (;;) {
        heap_enter(heap);
        is_still = heap_is_still(heap);
        if (is_still) {
            break;
        }
        heap_leave(heap);
        if (cancel != NULL && atomic_load_explicit(cancel, memory_order_relaxed)) {
            break;
        }
        nanosleep(&(struct timespec){.tv_nsec = LOOK_NS}, NULL);
    }
    atomic_fetch_sub(&heap->still_wanted, 1);
    return is_still;
}
