/* garbage.c -- gc.garbage, and what the collector's debug flags say.
 *
 * The list keeps what collections with the flag `saveall` have condemned: each entry is one reference and a
 * root.  Start at garbage_append().
 */
#include "heap_internal.h"

#include <inttypes.h>
#include <stdarg.h>

/* Objects that one collection names in the log; more are only counted. */
#define LOGGED_MAX 100u

/* ---- gc.garbage ---- */

bool garbage_reserve(struct heap *heap, uint64_t more)
{
    struct garbage *garbage = &heap->garbage;
    uint64_t need = garbage->len + more, room = garbage->room == 0 ? 64 : garbage->room;
    while (room < need) {
        room *= 2;
    }
    if (room == garbage->room) {
        return true;
    }
    void *refs = pymalloc_table_realloc(&heap->pm, garbage->refs, garbage->room * sizeof *garbage->refs,
                                        room * sizeof *garbage->refs);
    if (refs == NULL) {
        return false;
    }
    garbage->refs = refs;
    garbage->room = room;
    return true;
}

void garbage_append(struct heap *heap, uint32_t ref)
{
    HEAP_ASSERT(heap->garbage.len < heap->garbage.room);
    object_incref(heap, ref);
    heap->garbage.refs[heap->garbage.len++] = ref;
}

uint64_t heap_garbage_len(const struct heap *heap)
{
    return heap->garbage.len;
}

heap_ref heap_garbage_item(const struct heap *heap, uint64_t i)
{
    HEAP_ASSERT(i < heap->garbage.len);
    return heap->garbage.refs[i];
}

void heap_garbage_clear(struct heap *heap)
{
    GIL_ASSERT_HELD(heap);
    struct garbage garbage = heap->garbage;
    heap->garbage = (struct garbage){0};
    if (garbage.room <= UINT32_MAX &&
        dead_take_buffer(heap, garbage.refs, (uint32_t)garbage.len, (uint32_t)garbage.room)) {
        pymalloc_table_to_raw(&heap->pm, garbage.room * sizeof *garbage.refs);
        return;
    }
    for (uint64_t i = 0; i < garbage.len; i++) {
        object_decref(heap, garbage.refs[i]);
    }
    pymalloc_table_free(&heap->pm, garbage.refs, garbage.room * sizeof *garbage.refs);
}

void garbage_fini(struct heap *heap)
{
    pymalloc_table_free(&heap->pm, heap->garbage.refs, heap->garbage.room * sizeof *heap->garbage.refs);
}

/* ---- debug flags ---- */

void heap_gc_set_debug(struct heap *heap, unsigned flags)
{
    GIL_ASSERT_HELD(heap);
    atomic_store_explicit(&heap->gc.debug, flags, memory_order_relaxed);
}

unsigned heap_gc_debug(const struct heap *heap)
{
    return atomic_load_explicit(&heap->gc.debug, memory_order_relaxed);
}

__attribute__((format(printf, 2, 3))) static void say(struct heap *heap, const char *format, ...)
{
    char line[256];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    heap->observer.log(heap->observer.arg, line);
}

static bool wants(const struct heap *heap, unsigned flag)
{
    return heap->observer.log != NULL && (heap_gc_debug(heap) & flag) != 0;
}

void debug_say_start(struct heap *heap, int generation)
{
    const struct gc *gc = &heap->gc;
    heap->gc.logged = 0;
    if (wants(heap, HEAP_GC_STATS)) {
        say(heap, "gc: collecting generation %d...", generation);
        say(heap, "gc: objects in each generation: %" PRIu64 " %" PRIu64 " %" PRIu64,
            counter_read(&gc->generations[0].objects), counter_read(&gc->generations[1].objects),
            counter_read(&gc->generations[2].objects));
        say(heap, "gc: objects in permanent generation: %" PRIu64, counter_read(&gc->frozen_count));
    }
}

void debug_say_collectable(struct heap *heap, uint32_t ref)
{
    if (!wants(heap, HEAP_GC_COLLECTABLE) || heap->gc.logged++ >= LOGGED_MAX) {
        return;
    }
    const struct container *c = (const struct container *)object_at(heap, ref);
    uint64_t id;
    if (c->handle != 0 && heap_id(&id, heap, ref) == HEAP_OK) {
        say(heap, "gc: collectable <%s %" PRIu64 ">", heap_type_name(heap, ref), id);
    } else {
        say(heap, "gc: collectable <%s at %p>", heap_type_name(heap, ref), (const void *)c);
    }
}

void debug_say_stop(struct heap *heap, const struct heap_collection *done)
{
    if (heap->gc.logged > LOGGED_MAX) {
        say(heap, "gc: %" PRIu64 " more are collectable", heap->gc.logged - LOGGED_MAX);
    }
    if (wants(heap, HEAP_GC_STATS)) {
        say(heap, "gc: done, %" PRIu64 " unreachable, %" PRIu64 " uncollectable, %.6fs elapsed",
            done->unreachable, done->uncollectable, (double)done->elapsed_us / 1e6);
    }
}
