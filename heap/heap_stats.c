/* heap_stats.c -- a snapshot of all counters, for anybody, at any time.
 *
 * Counters are written with relaxed atomics by the holder of the GIL and read here without it: each figure
 * is true by itself, figures of one moment may be a few operations apart.
 */
#include "heap_internal.h"

static void object_figures(struct heap_stats *stats, const struct heap *heap)
{
    stats->freed = counter_read(&heap->freed);
    stats->created = counter_read(&heap->created);
    for (unsigned type = 0; type < HEAP_T_COUNT; type++) {
        stats->type_objects[type] = counter_read(&heap->type_objects[type]);
        stats->type_bytes[type] = counter_read(&heap->type_bytes[type]);
        stats->live += stats->type_objects[type];
        stats->bytes += stats->type_bytes[type];
    }
    stats->ids = counter_read(&heap->id_count);
    stats->immortal_bytes = heap->immortal_bytes;
    stats->immortal = 3 + SMALL_INTS + 256 + 256 + 3; /* None and bools, ints, strs, bytes, the three empty ones */
}

static void gc_figures(struct heap_stats *stats, const struct heap *heap)
{
    const struct gc *gc = &heap->gc;
    stats->gc_enabled = heap_gc_enabled(heap);
    stats->gc_collecting = atomic_load_explicit(&gc->collecting, memory_order_relaxed);
    heap_gc_count(heap, stats->gc_count);
    heap_gc_threshold(heap, stats->gc_threshold);
    stats->gc_frozen = heap_gc_frozen(heap);
    for (unsigned g = 0; g < 3; g++) {
        stats->generations[g].collections = counter_read(&gc->generations[g].collections);
        stats->generations[g].collected = counter_read(&gc->generations[g].collected);
        stats->generations[g].uncollectable = counter_read(&gc->generations[g].uncollectable);
        stats->generations[g].objects = counter_read(&gc->generations[g].objects);
    }
    histogram_figures(&gc->pauses, &stats->gc_pauses);
    stats->slice_objects_max = counter_read(&heap->slices.objects_max);
    stats->slice_refs_max = counter_read(&heap->slices.refs_max);
}

static void gil_figures(struct heap_stats *stats, const struct gil *gil)
{
    stats->switch_interval_us = atomic_load_explicit(&gil->interval_us, memory_order_relaxed);
    stats->gil_acquisitions = atomic_load_explicit(&gil->acquisitions, memory_order_relaxed);
    stats->gil_contended = atomic_load_explicit(&gil->contended, memory_order_relaxed);
    stats->gil_drop_requests = atomic_load_explicit(&gil->drop_requests, memory_order_relaxed);
    stats->gil_forced_switches = atomic_load_explicit(&gil->forced_switches, memory_order_relaxed);
    histogram_figures(&gil->hold, &stats->gil_hold);
    histogram_figures(&gil->wait, &stats->gil_wait);
}

void heap_stats(struct heap_stats *stats, const struct heap *heap)
{
    *stats = (struct heap_stats){0};
    object_figures(stats, heap);
    pymalloc_figures(&heap->pm, stats);
    gc_figures(stats, heap);
    gil_figures(stats, &heap->gil);
    stats->sessions = counter_read(&heap->session_count);
    stats->holds = counter_read(&heap->hold_count);
    stats->names = counter_read(&heap->name_count);
}
