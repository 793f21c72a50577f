/* gc_collect.c -- when a collection is due, its beginning and its end, and who has to wait for it.
 *
 * Counting and triggering are CPython's: PyObject_GC_New adds one, PyObject_GC_Del takes one away, and a collection is
 * due when count 0 exceeds threshold 0.
 *
 *   small young collection   in one go, also while the machine is at work on something larger    gc_young.c
 *   anything else            by the machine, one at a time                                       gc_cycle.c
 *
 * Both begin when all deaths that were under way are over, and end when all that they killed is gone; that may be later
 * slices.
 * Walks of the whole heap (visit.h) and the machine exclude each other between slices: who comes second waits.
 * Start at heap_gc_poll() and heap_collect_begin().
 */
#include "clock.h"
#include "visit.h"

/* ---- beginning and end ---- */

void gc_restart_counts(struct gc *gc, int generation)
{
    if (generation < 2) {
        atomic_fetch_add_explicit(&gc->count[generation + 1], 1, memory_order_relaxed);
    }
    for (int g = 0; g <= generation; g++) {
        atomic_store_explicit(&gc->count[g], 0, memory_order_relaxed);
    }
}

static void tell(struct heap *heap, enum heap_event_kind kind, struct gc_run *run)
{
    if (heap->observer.event != NULL) {
        const struct heap_event event = {.kind = kind, .automatic = run->automatic, .collection = &run->result};
        heap->observer.event(heap->observer.arg, &event);
    }
}

static void run_init(struct gc_run *run, int generation, bool automatic)
{
    *run = (struct gc_run){.result.generation = generation, .automatic = automatic, .start_us = clock_us()};
}

void gc_start(struct heap *heap, struct gc_run *run)
{
    run->result.freed = 0; /* what was dying before counts nowhere */
    tell(heap, HEAP_EVENT_GC_START, run);
    debug_say_start(heap, run->result.generation);
    gc_restart_counts(&heap->gc, run->result.generation);
}

/* Something is under way, or not. */
static void note_collecting(struct gc *gc)
{
    bool collecting = gc->state != GC_IDLE || gc->inside.dies;
    atomic_store_explicit(&gc->collecting, collecting, memory_order_relaxed);
}

void gc_stop(struct heap *heap, struct gc_run *run)
{
    struct gc *gc = &heap->gc;
    struct heap_collection *result = &run->result;
    counter_add(&gc->generations[result->generation].collections, 1);
    counter_add(&gc->generations[result->generation].collected, result->unreachable);
    result->elapsed_us = clock_us() - run->start_us;
    note_collecting(gc);
    debug_say_stop(heap, result);
    tell(heap, HEAP_EVENT_GC_STOP, run);
    if (run->is_sliced || !run->automatic) {
        gc->last = *result;
    }
}

/* ---- slices ---- */

/* What has been freed since the last call was the collection's doing. */
static void count_freed(struct heap *heap, struct gc_run *run)
{
    run->result.freed += heap->freed_pending;
    heap->freed_pending = 0;
}

/* What the collection has killed and the slice could not take apart goes on with the other deaths. */
static void defer_deaths(struct heap *heap, struct gc_run *run, struct slice *slice)
{
    if (!dead_slice(heap, slice)) {
        count_freed(heap, run);
        run->dying.session = NULL;
        run->dies = true;
        dying_defer(heap, &run->dying);
    }
    count_freed(heap, run);
}

/* The deaths that a slice of the collection left behind are over. */
static void take_deaths(struct gc_run *run)
{
    if (run->dies) {
        HEAP_ASSERT(run->dying.is_done);
        run->result.freed += run->dying.freed;
        run->dies = false;
    }
}

/* At t0: a small young collection is done here and now, anything else is for the machine. */
static void start(struct heap *heap)
{
    struct gc *gc = &heap->gc;
    struct gc_run *run = &gc->run;
    int generation = run->result.generation;
    bool is_small = generation < 2 && gc_young_judge(heap, generation);
    gc_start(heap, run);
    if (is_small) {
        gc->state = GC_END;
        gc_young_sweep(heap, run);
    } else {
        gc_cycle_start(heap);
    }
}

/* Until the slice is over, or deaths have to come first, or nothing is left. */
static void run_slice(struct heap *heap, struct slice *slice)
{
    struct gc *gc = &heap->gc;
    take_deaths(&gc->run);
    bool goes_on = true;
    while (goes_on && gc->state != GC_IDLE) {
        if (gc->state == GC_DRAIN && gc->run.result.generation == 2 && heap->builds > 0) {
            goes_on = false; /* marking from the roots would miss what is being built */
        } else if (gc->state == GC_DRAIN) {
            start(heap);
        } else if (gc->state == GC_END) {
            goes_on = dead_slice(heap, slice);
            if (goes_on) {
                gc_cycle_end(heap);
            }
        } else {
            goes_on = gc_cycle_step(heap, slice) && !slice->is_over;
        }
        count_freed(heap, &gc->run);
    }
    if (gc->state != GC_IDLE) {
        defer_deaths(heap, &gc->run, slice);
    } else {
        gc->poll_waits = false;
        gc_stop(heap, &gc->run);
    }
}

bool gc_step(struct heap *heap, struct slice *slice)
{
    struct gc *gc = &heap->gc;
    HEAP_ASSERT(heap->dying_first == NULL && heap->dead_head == 0);
    if (gc->inside.dies) {
        take_deaths(&gc->inside);
        gc_stop(heap, &gc->inside);
    }
    if (gc->state != GC_IDLE && !slice->is_over) {
        uint64_t start_us = clock_us(), others = heap->freed_pending;
        heap->freed_pending = 0;
        run_slice(heap, slice);
        histogram_add(&gc->pauses, clock_us() - start_us);
        heap->freed_pending = others;
    }
    return gc->state == GC_IDLE && !gc->inside.dies;
}

/* The first slice, or all at once if `slice` never ends.  true: it is over. */
static bool begin(struct heap *heap, int generation, bool automatic, struct slice *slice)
{
    struct gc *gc = &heap->gc;
    run_init(&gc->run, generation, automatic);
    gc->state = GC_DRAIN;
    note_collecting(gc);
    uint64_t others = heap->freed_pending;
    heap->freed_pending = 0;
    defer_deaths(heap, &gc->run, slice);
    bool is_over = dying_step(heap, slice) && gc_step(heap, slice);
    gc->run.is_sliced = !is_over;
    heap->freed_pending = others;
    return is_over;
}

void gc_finish(struct heap *heap)
{
    struct slice endless;
    HEAP_ASSERT(!gc_awaits_builds(&heap->gc) || heap->builds == 0);
    slice_begin(&endless, &heap->slices, 0);
    dead_drain(heap);
    uint64_t others = heap->freed_pending;
    heap->freed_pending = 0;
    do {
        HEAP_ASSERT(dying_step(heap, &endless));
    } while (!gc_step(heap, &endless));
    heap->freed_pending = others;
}

void heap_collect(struct heap_collection *result, struct heap *heap, int generation)
{
    GIL_ASSERT_HELD(heap);
    HEAP_ASSERT(generation >= 0 && generation <= 2);
    gc_finish(heap);
    heap_settle(heap);
    struct slice endless;
    slice_begin(&endless, &heap->slices, 0);
    HEAP_ASSERT(begin(heap, generation, false, &endless));
    *result = heap->gc.run.result;
}

/* Whether somebody goes over the whole heap, or waits to: who waits comes first, or one collection after the other would
 * keep it waiting. */
static bool is_walked(const struct heap *heap)
{
    return heap->visit != NULL || atomic_load_explicit(&heap->still_wanted, memory_order_relaxed) > 0;
}

/* Whether a collection may begin that perhaps goes on after its first slice. */
static bool may_begin(struct heap *heap, int generation)
{
    const struct gc *gc = &heap->gc;
    if (gc->state != GC_IDLE || gc->inside.dies) {
        return false;
    }
    if (generation == 2 && heap->builds > 0) {
        return false;
    }
    bool is_short = generation < 2 && heap->dying_first == NULL && heap->dead_head == 0;
    return !is_walked(heap) || (is_short && gc_young_judge(heap, generation));
}

enum heap_progress heap_collect_begin(struct heap_collection *result, struct heap *heap, int generation, bool automatic)
{
    GIL_ASSERT_HELD(heap);
    HEAP_ASSERT(generation >= 0 && generation <= 2);
    if (!may_begin(heap, generation)) {
        return HEAP_BUSY;
    }
    struct slice slice;
    /* Deaths under way have had a slice of this hold of the GIL already. */
    slice_begin(&slice, &heap->slices, heap->dying_first != NULL ? 1 : heap->slices.us);
    if (!begin(heap, generation, automatic, &slice)) {
        atomic_store_explicit(&heap->work_pending, true, memory_order_relaxed);
        return HEAP_GOES_ON;
    }
    *result = heap->gc.run.result;
    return HEAP_DONE;
}

bool heap_is_collecting(const struct heap *heap)
{
    return atomic_load_explicit(&heap->gc.collecting, memory_order_relaxed);
}

void heap_last_collection(const struct heap *heap, struct heap_collection *result)
{
    *result = heap->gc.last;
}

/* ---- when ---- */

/* The oldest generation up to `max` whose count exceeds its threshold; -1: none.  Generation 2 also has to have
 * taken in a quarter of what the last full collection left. */
static int generation_due(const struct gc *gc, int max)
{
    for (int g = max; g >= 0; g--) {
        if (atomic_load_explicit(&gc->count[g], memory_order_relaxed) >
            atomic_load_explicit(&gc->threshold[g], memory_order_relaxed)) {
            if (g == 2 && gc->long_lived_pending < gc->long_lived_total / 4) {
                continue;
            }
            return g;
        }
    }
    return -1;
}

/* A small young collection while the machine is between two slices.  Returns whether it goes on.  What is too much for
 * that waits for the machine; so does everything while that is judging, because finalizers and names are its then. */
static bool collect_inside(struct heap *heap, int generation)
{
    struct gc *gc = &heap->gc;
    if (gc->poll_waits || gc->state == GC_DRAIN || gc_is_judging(gc) || gc->inside.dies || heap->dying_first != NULL) {
        return false;
    }
    if (!gc_young_judge(heap, generation)) {
        gc->poll_waits = true;
        return false;
    }
    struct slice slice;
    slice_begin(&slice, &heap->slices, heap->slices.us);
    uint64_t others = heap->freed_pending;
    heap->freed_pending = 0;
    run_init(&gc->inside, generation, true);
    gc_start(heap, &gc->inside);
    gc_young_sweep(heap, &gc->inside);
    defer_deaths(heap, &gc->inside, &slice);
    if (!gc->inside.dies) {
        gc_stop(heap, &gc->inside);
    }
    histogram_add(&gc->pauses, clock_us() - gc->inside.start_us);
    heap->freed_pending = others;
    return gc->inside.dies;
}

/* Count 0 exceeds its threshold, or every poll collects.  Out of line: hardly any poll comes here. */
static __attribute__((noinline)) bool poll_due(struct heap *heap)
{
    struct gc *gc = &heap->gc;
    struct heap_collection result;
    if (unlikely(gc->collect_always)) {
        return heap_collect_begin(&result, heap, 2, true) == HEAP_GOES_ON;
    }
    if (atomic_load_explicit(&gc->threshold[0], memory_order_relaxed) == 0 ||
        !atomic_load_explicit(&gc->enabled, memory_order_relaxed)) {
        return false;
    }
    bool is_full_possible = gc->state == GC_IDLE && !is_walked(heap) && heap->builds == 0;
    int generation = generation_due(gc, is_full_possible ? 2 : 1);
    if (generation < 0) {
        return false;
    }
    if (gc->state != GC_IDLE) {
        return collect_inside(heap, generation);
    }
    return heap_collect_begin(&result, heap, generation, true) == HEAP_GOES_ON;
}

bool heap_gc_poll(struct heap *heap)
{
    GIL_ASSERT_HELD(heap);
    const struct gc *gc = &heap->gc;
    bool is_due = atomic_load_explicit(&gc->count[0], memory_order_relaxed) >
                  atomic_load_explicit(&gc->threshold[0], memory_order_relaxed);
    return unlikely(is_due || gc->collect_always) && poll_due(heap);
}

#if HEAP_DEBUG >= 1
void heap_set_collect_always(struct heap *heap, bool always)
{
    GIL_ASSERT_HELD(heap);
    heap->gc.collect_always = always;
}
#endif

/* ---- who meets the condemned ---- */

/* Whether the object may be among those that only the condemned refer to: nobody holds or names it, and it is not known
 * to be reached. */
static bool may_hang_on_condemned(const struct heap *heap, uint32_t ref)
{
    const struct gc *gc = &heap->gc;
    if (object_is_immortal(object_at(heap, ref)) || (!ref_is_atom(ref) && bit_get(gc->mark, ref))) {
        return false;
    }
    uint32_t slot = handle_slot_if_any(heap, ref);
    return slot == 0 || handle_roots(heap, slot) == 0;
}

/* While the machine is at work. */
static uint32_t meet(struct heap *heap, uint32_t ref, bool weakly)
{
    struct gc *gc = &heap->gc;
    bool is_condemned = (gc_is_judging(gc) || gc_is_sentenced(gc)) && !ref_is_atom(ref) && gc_is_condemned(gc, ref);
    if (gc_is_judging(gc) && is_condemned) {
        heap->wait = weakly ? heap->wait : HEAP_WAIT_VERDICT;
        return 0;
    }
    if (gc->state == GC_STRIP && !is_condemned && may_hang_on_condemned(heap, ref)) {
        heap->wait = HEAP_WAIT_VERDICT;
        return 0;
    }
    gc_barrier(heap, ref); /* whoever is asked for counts as reachable */
    return is_condemned ? 0 : ref;
}

uint32_t gc_meet(struct heap *heap, uint32_t ref)
{
    return likely(heap->gc.state == GC_IDLE) ? ref : meet(heap, ref, false);
}

uint32_t gc_meet_weakly(struct heap *heap, uint32_t ref)
{
    return likely(heap->gc.state == GC_IDLE) ? ref : meet(heap, ref, true);
}
