/* storage.c -- where objects lie, and what the arenas look like: for heap.inspect, heap.map and the figures.
 *
 * Reads what pymalloc keeps and changes nothing.  A block in use is one that an object or a buffer has: blocks
 * that wait in a magazine count as free, as they do in pymalloc_figures(), so the maps of all arenas add up to
 * its figures.
 */
#include "heap_internal.h"
#include "pymalloc_private.h"

#define POOL_IN_ARENA(number) ((number) % POOLS_PER_ARENA)

void heap_storage(struct heap_storage *storage, const struct heap *heap, heap_ref obj)
{
    GIL_ASSERT_HELD(heap);
    uint32_t pool = obj >> REF_POOL_SHIFT;
    *storage = (struct heap_storage){
        .address = (uint64_t)(uintptr_t)pymalloc_address(&heap->pm, obj),
        .size_class = pymalloc_block_bytes(&heap->pm, obj),
        .pool = POOL_IN_ARENA(pool),
        .arena = obj >> REF_ARENA_SHIFT,
    };
}

/* How many blocks of a pool wait in the magazine of its kind and class. */
static uint32_t waiting_of(const struct pymalloc *pm, uint32_t number)
{
    const struct pool *pool = &pm->pools[number];
    const struct magazine *magazine = &pm->magazines[pool->kind][pool->class];
    uint32_t count = atomic_load_explicit(&magazine->count, memory_order_relaxed), waiting = 0;
    for (uint32_t i = 0; i < count; i++) {
        waiting += magazine->refs[i] >> REF_POOL_SHIFT == number;
    }
    return waiting;
}

static struct heap_pool_figures pool_figures(const struct pymalloc *pm, uint32_t number)
{
    const struct pool *pool = &pm->pools[number];
    if (pool->state == POOL_FREE) {
        return (struct heap_pool_figures){0};
    }
    return (struct heap_pool_figures){
        .size = (pool->class + 1u) * GRANULE_BYTES,
        .used = (uint32_t)(pool->capacity - pool->free) - waiting_of(pm, number),
        .capacity = pool->capacity,
    };
}

bool heap_arena_next(const struct heap *heap, uint32_t *position, struct heap_arena_figures *arena)
{
    GIL_ASSERT_HELD(heap);
    uint32_t number = *position;
    for (; number < ARENA_NUMBERS; number++) {
        const struct arena_stretch *stretch = &heap->pm.private->stretches[number / STRETCH_ARENAS];
        uint32_t index = number % STRETCH_ARENAS;
        if (index > stretch->touched) {
            number += STRETCH_ARENAS - 1 - index; /* the rest of the stretch was never mapped */
        } else if (index > 0 && stretch->arenas[index].mapped) {
            break;
        }
    }
    if (number >= ARENA_NUMBERS) {
        return false;
    }
    *position = number + 1;
    *arena = (struct heap_arena_figures){.arena = number, .bytes = ARENA_BYTES, .pool_count = POOLS_PER_ARENA};
    for (uint32_t i = 0; i < POOLS_PER_ARENA; i++) {
        arena->pools[i] = pool_figures(&heap->pm, number * POOLS_PER_ARENA + i);
    }
    return true;
}

uint64_t heap_used_bytes(const struct heap *heap)
{
    const struct pymalloc_private *p = heap->pm.private;
    return counter_read(&p->arenas) * ARENA_BYTES + counter_read(&p->raw_bytes) + counter_read(&p->table_bytes);
}
