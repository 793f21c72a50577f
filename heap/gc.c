/* gc.c -- where tracked containers are; the collector's settings and listings.
 *
 *   generation 0, 1   lists of chunks of 4,096 slots; a container's `gc` word is its slot
 *   candidates        one more list, of what the machine collects; it counts in the generation of its survivors
 *   generation 2      a bit per granule, so old objects cost a young collection nothing
 *
 * Invariant: a tracked container is in one place; every chunk with room comes before the full ones, but among the
 * candidates, which keep their order.
 * Checker: gc_check_generations().   Start at gc_track().
 */
#include "edges.h"

#include <sys/mman.h>

/* ---- life ---- */

/* Zeros that take memory where they are written. */
static void *reserve(size_t bytes)
{
    void *bits = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return bits != MAP_FAILED ? bits : NULL;
}

bool gc_init(struct heap *heap)
{
    struct gc *gc = &heap->gc;
    gc->bitmap_bytes = heap->pm.half_bytes / GRANULE_BYTES / 8;
    gc->old = reserve(gc->bitmap_bytes);
    gc->mark = reserve(gc->bitmap_bytes);
    gc->frozen = reserve(gc->bitmap_bytes);
    gc->young = reserve(gc->bitmap_bytes);
    gc->candidates = gc->old;
    for (unsigned i = 0; i < LISTS; i++) {
        gc->lists[i] = (struct gc_list){NO_CHUNK, NO_CHUNK};
    }
    atomic_store(&gc->enabled, true);
    atomic_store(&gc->threshold[0], 700);
    atomic_store(&gc->threshold[1], 10);
    atomic_store(&gc->threshold[2], 10);
    gc->stack_max = gc->bitmap_bytes * 8 / 2 + GC_STACK_ROOM; /* containers take two granules at least */
    gc->stack_bytes = gc->stack_max * sizeof *gc->stack;
    gc->stack = reserve(gc->stack_bytes);
    gc->stack_room = GC_STACK_ROOM;
    gc->young_collected = -1;
    gc->small_max = GC_SMALL_MAX;
    return gc->old != NULL && gc->mark != NULL && gc->frozen != NULL && gc->young != NULL &&
           gc->stack != NULL;
}

static void reserve_end(void *bits, size_t bytes)
{
    if (bits != NULL) {
        munmap(bits, bytes);
    }
}

void gc_fini(struct heap *heap)
{
    struct gc *gc = &heap->gc;
    for (uint32_t i = 0; i < gc->chunk_count; i++) {
        pymalloc_table_free(&heap->pm, gc->chunks[i], sizeof **gc->chunks);
    }
    pymalloc_table_free(&heap->pm, gc->chunks, gc->chunk_room * sizeof *gc->chunks);
    reserve_end(gc->stack, gc->stack_bytes);
    reserve_end(gc->old, gc->bitmap_bytes);
    reserve_end(gc->mark, gc->bitmap_bytes);
    reserve_end(gc->frozen, gc->bitmap_bytes);
    reserve_end(gc->young, gc->bitmap_bytes);
    pymalloc_table_free(&heap->pm, gc->saved.refs, gc->saved.room * sizeof *gc->saved.refs);
}

/* ---- chunks ---- */

static void list_remove(struct gc *gc, struct gc_chunk *chunk)
{
    struct gc_list *list = &gc->lists[chunk->list];
    if (chunk->prev != NO_CHUNK) {
        gc->chunks[chunk->prev]->next = chunk->next;
    } else {
        list->head = chunk->next;
    }
    if (chunk->next != NO_CHUNK) {
        gc->chunks[chunk->next]->prev = chunk->prev;
    } else {
        list->tail = chunk->prev;
    }
}

static void list_push_front(struct gc *gc, struct gc_chunk *chunk, uint32_t to)
{
    struct gc_list *list = &gc->lists[to];
    chunk->list = to;
    chunk->prev = NO_CHUNK;
    chunk->next = list->head;
    if (list->head != NO_CHUNK) {
        gc->chunks[list->head]->prev = chunk->number;
    } else {
        list->tail = chunk->number;
    }
    list->head = chunk->number;
}

static void list_push_back(struct gc *gc, struct gc_chunk *chunk, uint32_t to)
{
    struct gc_list *list = &gc->lists[to];
    chunk->list = to;
    chunk->next = NO_CHUNK;
    chunk->prev = list->tail;
    if (list->tail != NO_CHUNK) {
        gc->chunks[list->tail]->next = chunk->number;
    } else {
        list->head = chunk->number;
    }
    list->tail = chunk->number;
}

void gc_chunk_move(struct gc *gc, struct gc_chunk *chunk, uint32_t list)
{
    list_remove(gc, chunk);
    if (list == LIST_FREE) {
        chunk->used = chunk->untouched = chunk->free = 0;
    }
    if (chunk->used == CHUNK_SLOTS) {
        list_push_back(gc, chunk, list);
    } else {
        list_push_front(gc, chunk, list);
    }
}

/* A chunk that is in no list, or NULL. */
static struct gc_chunk *chunk_create(struct heap *heap)
{
    struct gc *gc = &heap->gc;
    if (gc->chunk_count == gc->chunk_room) {
        uint32_t room = gc->chunk_room == 0 ? 16 : gc->chunk_room * 2;
        void *chunks = pymalloc_table_realloc(&heap->pm, gc->chunks, gc->chunk_room * sizeof *gc->chunks,
                                              room * sizeof *gc->chunks);
        if (chunks == NULL) {
            return NULL;
        }
        gc->chunks = chunks;
        gc->chunk_room = room;
    }
    struct gc_chunk *chunk = pymalloc_table_alloc(&heap->pm, sizeof *chunk);
    if (chunk != NULL) {
        chunk->number = gc->chunk_count;
        gc->chunks[gc->chunk_count++] = chunk;
    }
    return chunk;
}

/* A chunk from the free list or a new one, now of that generation; or NULL. */
static __attribute__((noinline)) struct gc_chunk *chunk_open(struct heap *heap, uint32_t list)
{
    struct gc *gc = &heap->gc;
    struct gc_chunk *chunk;
    if (gc->lists[LIST_FREE].head != NO_CHUNK) {
        chunk = gc->chunks[gc->lists[LIST_FREE].head];
        list_remove(gc, chunk);
    } else {
        chunk = chunk_create(heap);
        if (chunk == NULL) {
            return NULL;
        }
    }
    list_push_front(gc, chunk, list);
    return chunk;
}

/* A chunk of that generation with a free slot, or NULL. */
static inline struct gc_chunk *chunk_with_room(struct heap *heap, uint32_t list)
{
    struct gc *gc = &heap->gc;
    uint32_t head = gc->lists[list].head;
    if (likely(head != NO_CHUNK)) {
        struct gc_chunk *chunk = gc->chunks[head];
        if (likely(chunk->used < CHUNK_SLOTS)) {
            return chunk;
        }
    }
    return chunk_open(heap, list);
}

/* Puts the container into a free slot of the chunk, which has one. */
static inline void chunk_put(struct heap *heap, struct gc_chunk *chunk, struct container *c)
{
    struct gc *gc = &heap->gc;
    uint32_t slot = chunk->free;
    if (slot != 0) {
        chunk->free = chunk->scratch[--slot];
    } else {
        slot = chunk->untouched++;
    }
    chunk->refs[slot] = object_ref(heap, c);
    c->gc = (chunk->number << CHUNK_SHIFT) + slot + 1;
    if (unlikely(++chunk->used == CHUNK_SLOTS)) {
        list_remove(gc, chunk);
        list_push_back(gc, chunk, chunk->list);
    }
}

bool gc_place(struct heap *heap, struct container *c, uint32_t list)
{
    struct gc_chunk *chunk = chunk_with_room(heap, list);
    if (unlikely(chunk == NULL)) {
        return false;
    }
    chunk_put(heap, chunk, c);
    return true;
}

bool gc_track_slowly(struct heap *heap, struct container *c)
{
    struct gc_chunk *chunk = chunk_with_room(heap, 0);
    if (unlikely(chunk == NULL)) {
        return false;
    }
    chunk_put(heap, chunk, c);
    c->head.flags |= FLAG_TRACKED;
    counter_add(&heap->gc.generations[0].objects, 1);
    return true;
}

static void untrack_young(struct gc *gc, struct container *c)
{
    struct gc_chunk *chunk = gc->chunks[(c->gc - 1) >> CHUNK_SHIFT];
    uint32_t slot = (c->gc - 1) & (CHUNK_SLOTS - 1);
    chunk->refs[slot] = 0;
    chunk->scratch[slot] = chunk->free;
    chunk->free = slot + 1;
    if (unlikely(chunk->list == LIST_CANDIDATE)) {
        counter_sub(&gc->generations[gc->target].objects, 1);
        chunk->used--;
        return;
    }
    counter_sub(&gc->generations[chunk->list].objects, 1);
    if (unlikely(chunk->used-- == CHUNK_SLOTS)) { /* it has room again */
        list_remove(gc, chunk);
        list_push_front(gc, chunk, chunk->list);
    } else if (unlikely(chunk->used == 0) && gc->lists[chunk->list].head != chunk->number) {
        gc_chunk_move(gc, chunk, LIST_FREE); /* the head stays: it is where new objects go */
    }
}

void gc_untrack(struct heap *heap, struct container *c)
{
    struct gc *gc = &heap->gc;
    if (c->gc != 0) {
        untrack_young(gc, c);
        c->gc = 0;
    } else {
        uint32_t ref = object_ref(heap, c);
        if (bit_get(gc->old, ref)) {
            bit_clear(gc->old, ref);
            counter_sub(&gc->generations[2].objects, 1);
        } else {
            HEAP_ASSERT(bit_get(gc->frozen, ref));
            bit_clear(gc->frozen, ref);
            counter_sub(&gc->frozen_count, 1);
        }
    }
    c->head.flags &= (uint8_t)~FLAG_TRACKED;
}

void gc_renew(struct heap *heap, uint32_t ref)
{
    struct container *c = (struct container *)object_at(heap, ref);
    if (gc_generation(heap, ref) <= 0) {
        return;
    }
    uint32_t was = c->gc;
    if (!gc_place(heap, c, 0)) {
        return;
    }
    uint32_t slot = c->gc;
    c->gc = was;
    gc_untrack(heap, c);
    c->gc = slot;
    c->head.flags |= FLAG_TRACKED;
    counter_add(&heap->gc.generations[0].objects, 1);
}

void gc_make_old(struct heap *heap, struct container *c)
{
    c->gc = 0;
    bit_set(heap->gc.old, object_ref(heap, c));
}

/* One that is newer than the full collection under way: no candidate of that. */
static void make_old_meanwhile(struct heap *heap, struct container *c)
{
    struct gc *gc = &heap->gc;
    uint32_t ref = object_ref(heap, c);
    gc_make_old(heap, c);
    if (gc->state > GC_DRAIN && gc->state <= GC_FREE && gc->candidates == gc->old && ref >= gc->swept) {
        bit_set(gc->mark, ref);
    }
}

void gc_chunk_thread(struct gc_chunk *chunk)
{
    chunk->free = 0;
    for (uint32_t i = chunk->untouched; i-- > 0;) {
        if (chunk->refs[i] == 0) {
            chunk->scratch[i] = chunk->free;
            chunk->free = i + 1;
        }
    }
}

uint64_t gc_promote_all(struct heap *heap)
{
    struct gc *gc = &heap->gc;
    uint64_t all = 0;
    for (uint32_t list = 0; list < 2; list++) {
        uint64_t moved = 0; /* candidates of the machine may count in the same generation: they stay */
        while (gc->lists[list].head != NO_CHUNK) {
            struct gc_chunk *chunk = gc->chunks[gc->lists[list].head];
            moved += chunk->used;
            for (uint32_t i = 0; i < chunk->untouched; i++) {
                if (chunk->refs[i] != 0) {
                    make_old_meanwhile(heap, (struct container *)object_at(heap, chunk->refs[i]));
                    chunk->refs[i] = 0;
                }
            }
            gc_chunk_move(gc, chunk, LIST_FREE);
        }
        counter_sub(&gc->generations[list].objects, moved);
        counter_add(&gc->generations[2].objects, moved);
        all += moved;
    }
    return all;
}

int gc_generation(const struct heap *heap, uint32_t ref)
{
    const struct gc *gc = &heap->gc;
    if (ref_is_atom(ref) || !(object_at(heap, ref)->flags & FLAG_TRACKED)) {
        return -1;
    }
    const struct container *c = (const struct container *)object_at(heap, ref);
    if (c->gc != 0) {
        uint32_t list = gc->chunks[(c->gc - 1) >> CHUNK_SHIFT]->list;
        return list == LIST_CANDIDATE ? gc->target : (int)list;
    }
    return bit_get(gc->old, ref) ? 2 : 3;
}

/* ---- settings ---- */

void heap_gc_freeze(struct heap *heap)
{
    GIL_ASSERT_HELD(heap);
    struct gc *gc = &heap->gc;
    gc_finish(heap);
    (void)gc_promote_all(heap);
    uint32_t pool = 0, first;
    unsigned class;
    while (pymalloc_next_pool(&heap->pm, POOL_CONTAINER, &pool, &first, &class)) {
        uint64_t *old = &gc->old[(first & ~1023u) >> 6], *frozen = &gc->frozen[(first & ~1023u) >> 6];
        for (unsigned i = 0; i < WORDS_PER_POOL; i++) {
            frozen[i] |= old[i];
            old[i] = 0;
        }
    }
    uint64_t moved = counter_read(&gc->generations[2].objects);
    counter_sub(&gc->generations[2].objects, moved);
    counter_add(&gc->frozen_count, moved);
    gc_restart_counts(gc, 2);
}

void heap_gc_unfreeze(struct heap *heap)
{
    GIL_ASSERT_HELD(heap);
    struct gc *gc = &heap->gc;
    gc_finish(heap);
    uint32_t pool = 0, first;
    unsigned class;
    while (pymalloc_next_pool(&heap->pm, POOL_CONTAINER, &pool, &first, &class)) {
        uint64_t *old = &gc->old[(first & ~1023u) >> 6], *frozen = &gc->frozen[(first & ~1023u) >> 6];
        for (unsigned i = 0; i < WORDS_PER_POOL; i++) {
            old[i] |= frozen[i];
            frozen[i] = 0;
        }
    }
    uint64_t moved = counter_read(&gc->frozen_count);
    counter_sub(&gc->frozen_count, moved);
    counter_add(&gc->generations[2].objects, moved);
}

uint64_t heap_gc_frozen(const struct heap *heap)
{
    return counter_read(&heap->gc.frozen_count);
}

void heap_gc_enable(struct heap *heap, bool enabled)
{
    GIL_ASSERT_HELD(heap);
    atomic_store_explicit(&heap->gc.enabled, enabled, memory_order_relaxed);
}

bool heap_gc_enabled(const struct heap *heap)
{
    return atomic_load_explicit(&heap->gc.enabled, memory_order_relaxed);
}

void heap_gc_count(const struct heap *heap, uint32_t count[3])
{
    for (int g = 0; g < 3; g++) {
        count[g] = atomic_load_explicit(&heap->gc.count[g], memory_order_relaxed);
    }
}

void heap_gc_threshold(const struct heap *heap, uint32_t threshold[3])
{
    for (int g = 0; g < 3; g++) {
        threshold[g] = atomic_load_explicit(&heap->gc.threshold[g], memory_order_relaxed);
    }
}

void heap_gc_set_threshold(struct heap *heap, const uint32_t threshold[3])
{
    GIL_ASSERT_HELD(heap);
    for (int g = 0; g < 3; g++) {
        atomic_store_explicit(&heap->gc.threshold[g], threshold[g], memory_order_relaxed);
    }
}

bool heap_gc_is_tracked(const struct heap *heap, heap_ref obj)
{
    return !ref_is_atom(obj) && (object_at(heap, obj)->flags & FLAG_TRACKED);
}

/* ---- listing ---- */

int heap_gc_generation(const struct heap *heap, heap_ref obj)
{
    return gc_generation(heap, obj);
}

/* Of the 64 granules at `ref`: those with a container that is young. */
static uint64_t young_word(const struct heap *heap, uint32_t ref, int generation, unsigned class)
{
    const struct gc *gc = &heap->gc;
    uint64_t word = pymalloc_used_word(&heap->pm, ref) & ~(gc->old[ref >> 6] | gc->frozen[ref >> 6]);
    if (word != 0) { /* blocks in a magazine are free and may look like anything */
        const struct magazine *magazine = &heap->pm.magazines[POOL_CONTAINER][class];
        uint32_t count = atomic_load_explicit(&magazine->count, memory_order_relaxed);
        for (uint32_t i = 0; i < count; i++) {
            if (magazine->refs[i] >> 6 == ref >> 6) {
                word &= ~((uint64_t)1 << (magazine->refs[i] & 63));
            }
        }
    }
    uint64_t young = 0;
    for (uint64_t bits = word; bits != 0; bits &= bits - 1) {
        int own = gc_generation(heap, ref + (uint32_t)__builtin_ctzll(bits));
        young |= own >= 0 && (own == generation || generation < 0) ? bits & -bits : 0;
    }
    return young;
}

bool heap_gc_next(const struct heap *heap, int generation, uint32_t *position, heap_ref *obj)
{
    GIL_ASSERT_HELD(heap);
    uint32_t pool = *position / (WORDS_PER_POOL * 64), first;
    unsigned class;
    while (pymalloc_next_pool(&heap->pm, POOL_CONTAINER, &pool, &first, &class)) {
        uint32_t start = first & ~((WORDS_PER_POOL * 64) - 1);
        uint32_t from = *position > start ? *position : start;
        bool has_slots = generation != 2 || heap->gc.state != GC_IDLE; /* what counts there may still be in a chunk */
        for (uint32_t ref = from & ~63u; ref - start < (WORDS_PER_POOL * 64); ref += 64) {
            uint64_t word = generation == 2 || generation < 0 ? heap->gc.old[ref >> 6] : 0;
            word |= has_slots ? young_word(heap, ref, generation, class) : 0;
            word &= ref < from ? ~(uint64_t)0 << (from & 63) : ~(uint64_t)0;
            if (word != 0) {
                *obj = ref + (uint32_t)__builtin_ctzll(word);
                *position = *obj + 1;
                return true;
            }
        }
    }
    return false;
}
