/* gc.c -- where tracked containers are, what is counted, and when a collection is due.
 *
 *   generation 0, 1   lists of chunks of 4,096 slots; a container's `gc` word is its slot
 *   generation 2      a bit per granule, so old objects cost a young collection nothing
 *
 * Counting and triggering are CPython's: PyObject_GC_New adds one, PyObject_GC_Del takes one away, and a
 * collection is due when count 0 exceeds threshold 0.
 * Invariant: a tracked container is in one place; every chunk with room comes before the full ones.
 * Checker: gc_check_generations().   Start at heap_gc_poll() and heap_collect().
 */
#include "edges.h"
#include "visit.h"

#include <sys/mman.h>
#include <time.h>

#define STACK_ROOM_FIRST 4096u

/* ---- life ---- */

static uint64_t *bitmap_create(size_t bytes)
{
    void *bits = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return bits != MAP_FAILED ? bits : NULL;
}

bool gc_init(struct heap *heap)
{
    struct gc *gc = &heap->gc;
    gc->bitmap_bytes = heap->pm.half_bytes / GRANULE_BYTES / 8;
    gc->old = bitmap_create(gc->bitmap_bytes);
    gc->mark = bitmap_create(gc->bitmap_bytes);
    gc->frozen = bitmap_create(gc->bitmap_bytes);
    for (unsigned i = 0; i < 3; i++) {
        gc->lists[i] = (struct gc_list){NO_CHUNK, NO_CHUNK};
    }
    atomic_store(&gc->enabled, true);
    atomic_store(&gc->threshold[0], 700);
    atomic_store(&gc->threshold[1], 10);
    atomic_store(&gc->threshold[2], 10);
    gc->stack_max = UINT64_MAX;
    gc->young_collected = -1;
    return gc->old != NULL && gc->mark != NULL && gc->frozen != NULL;
}

static void bitmap_destroy(uint64_t *bits, size_t bytes)
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
    free(gc->stack);
    bitmap_destroy(gc->old, gc->bitmap_bytes);
    bitmap_destroy(gc->mark, gc->bitmap_bytes);
    bitmap_destroy(gc->frozen, gc->bitmap_bytes);
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

bool gc_track(struct heap *heap, struct container *c)
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
    struct gc *gc = &heap->gc;
    uint32_t ref = object_ref(heap, c);
    c->gc = 0;
    bit_set(gc->old, ref);
    if (gc->cycle_on) { /* newer than the collection under way: no candidate */
        bit_set(gc->mark, ref);
    }
}

void gc_promote_all(struct heap *heap)
{
    struct gc *gc = &heap->gc;
    for (uint32_t list = 0; list < 2; list++) {
        while (gc->lists[list].head != NO_CHUNK) {
            struct gc_chunk *chunk = gc->chunks[gc->lists[list].head];
            for (uint32_t i = 0; i < chunk->untouched; i++) {
                if (chunk->refs[i] != 0) {
                    gc_make_old(heap, (struct container *)object_at(heap, chunk->refs[i]));
                    chunk->refs[i] = 0;
                }
            }
            gc_chunk_move(gc, chunk, LIST_FREE);
        }
        uint64_t moved = counter_read(&gc->generations[list].objects);
        counter_sub(&gc->generations[list].objects, moved);
        counter_add(&gc->generations[2].objects, moved);
    }
}

int gc_generation(const struct heap *heap, uint32_t ref)
{
    const struct gc *gc = &heap->gc;
    if (ref_is_atom(ref) || !(object_at(heap, ref)->flags & FLAG_TRACKED)) {
        return -1;
    }
    const struct container *c = (const struct container *)object_at(heap, ref);
    if (c->gc != 0) {
        return (int)gc->chunks[(c->gc - 1) >> CHUNK_SHIFT]->list;
    }
    return bit_get(gc->old, ref) ? 2 : 3;
}

/* ---- the stack of what is reached and not yet scanned ---- */

void gc_push(struct gc *gc, uint32_t ref)
{
    if (unlikely(gc->stack_used == gc->stack_room)) {
        uint64_t room = gc->stack_room == 0 ? STACK_ROOM_FIRST : gc->stack_room * 2;
        /* Benign when it fails: what was not pushed is found by scanning all that is reached again. */
        uint32_t *stack = room <= gc->stack_max ? realloc(gc->stack, room * sizeof *stack) : NULL;
        if (stack == NULL) {
            gc->overflowed = true;
            return;
        }
        gc->stack = stack;
        gc->stack_room = room;
    }
    gc->stack[gc->stack_used++] = ref;
}

void gc_judge(struct heap *heap, uint32_t ref, bool (*condemned)(const struct heap *heap, uint32_t ref))
{
    uint8_t flags = object_at(heap, ref)->flags;
    debug_say_collectable(heap, ref);
    if (flags & FLAG_WEAKREF) {
        weakref_clear_all(heap, ref, condemned);
    }
    if (object_at(heap, ref)->type == HEAP_T_WEAKREF) { /* dead, too, should it be brought back */
        visit_before_change(heap, ref);
        weakref_unlink(heap, (struct weakref *)object_at(heap, ref));
    }
    if (flags & FLAG_FINALIZER) {
        finalizer_judge(heap, ref);
    }
}

void gc_strip(struct heap *heap, struct container *c, bool (*condemned)(const struct heap *heap, uint32_t ref))
{
    struct edges edges = object_edges(heap, c);
    for (uint32_t i = 0; i < edges.count; i++) {
        uint32_t ref = edges.refs[i];
        if (ref != 0 && (ref_is_atom(ref) || !condemned(heap, ref))) {
            object_decref(heap, ref);
        }
    }
    if (edges.extra != 0 && !condemned(heap, edges.extra)) {
        object_decref(heap, edges.extra);
    }
    if (unlikely(c->head.flags & FLAG_FINALIZER)) {
        finalizer_forget(heap, object_ref(heap, c));
    }
    if (c->handle != 0) {
        handle_release(heap, object_ref(heap, c));
    }
    if (c->head.type != HEAP_T_CLASS) {
        object_free_buffers(heap, c);
    }
}

void gc_free_class(struct heap *heap, struct container *c)
{
    if (c->head.type == HEAP_T_CLASS) {
        object_free_buffers(heap, c);
    }
}

/* ---- when ---- */

/* The oldest generation whose count exceeds its threshold; -1: none.  Generation 2 also has to have
 * taken in a quarter of what the last full collection left. */
static int generation_due(const struct gc *gc)
{
    for (int g = 2; g >= 0; g--) {
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

bool heap_gc_poll(struct heap *heap)
{
    GIL_ASSERT_HELD(heap);
    struct gc *gc = &heap->gc;
    uint32_t threshold = atomic_load_explicit(&gc->threshold[0], memory_order_relaxed);
    if (likely(atomic_load_explicit(&gc->count[0], memory_order_relaxed) <= threshold) || threshold == 0 ||
        !atomic_load_explicit(&gc->enabled, memory_order_relaxed) || gc->state != GC_IDLE || heap->dying_first != NULL) {
        return false;
    }
    int generation = generation_due(gc);
    if (generation >= 0) {
        struct heap_collection result;
        return heap_collect_begin(&result, heap, generation, true) == HEAP_GOES_ON;
    }
    return false;
}

static uint64_t now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000u + (uint64_t)t.tv_nsec / 1000u;
}

/* What CPython does to the counts when a collection starts. */
static void restart_counts(struct gc *gc, int generation)
{
    if (generation < 2) {
        atomic_fetch_add_explicit(&gc->count[generation + 1], 1, memory_order_relaxed);
    }
    for (int g = 0; g <= generation; g++) {
        atomic_store_explicit(&gc->count[g], 0, memory_order_relaxed);
    }
}

static void tell(struct heap *heap, enum heap_event_kind kind, struct heap_collection *collection,
                 bool automatic)
{
    if (heap->observer.event != NULL) {
        const struct heap_event event = {.kind = kind, .automatic = automatic, .collection = collection};
        heap->observer.event(heap->observer.arg, &event);
    }
}

static void collect(struct heap_collection *result, struct heap *heap, int generation, bool automatic)
{
    struct gc *gc = &heap->gc;
    struct heap_collection done = {.generation = generation};
    uint64_t start = now_us();
    heap_settle(heap);
    tell(heap, HEAP_EVENT_GC_START, &done, automatic);
    debug_say_start(heap, generation);
    atomic_store_explicit(&gc->collecting, true, memory_order_relaxed);
    restart_counts(gc, generation);
    if (generation < 2) {
        gc_collect_young(&done, heap, generation);
    } else {
        gc_cycle_begin(heap);
        while (!gc_cycle_step(&done, heap, UINT64_MAX)) {
        }
        pymalloc_trim(&heap->pm); /* a full collection empties the free lists, as CPython's does */
    }
    atomic_store_explicit(&gc->collecting, false, memory_order_relaxed);
    counter_add(&gc->generations[generation].collections, 1);
    counter_add(&gc->generations[generation].collected, done.unreachable);
    done.elapsed_us = now_us() - start;
    histogram_add(&gc->pauses, done.elapsed_us);
    debug_say_stop(heap, &done);
    tell(heap, HEAP_EVENT_GC_STOP, &done, automatic);
    gc->last = done;
    *result = done;
}

void heap_collect(struct heap_collection *result, struct heap *heap, int generation)
{
    GIL_ASSERT_HELD(heap);
    HEAP_ASSERT(generation >= 0 && generation <= 2);
    collect(result, heap, generation, false);
}

enum heap_progress heap_collect_begin(struct heap_collection *result, struct heap *heap, int generation, bool automatic)
{
    GIL_ASSERT_HELD(heap);
    collect(result, heap, generation, automatic);
    return HEAP_DONE;
}

bool heap_is_collecting(const struct heap *heap)
{
    return gc_is_collecting(&heap->gc);
}

void heap_last_collection(const struct heap *heap, struct heap_collection *result)
{
    *result = heap->gc.last;
}

/* ---- settings ---- */

void heap_gc_freeze(struct heap *heap)
{
    GIL_ASSERT_HELD(heap);
    struct gc *gc = &heap->gc;
    heap_settle(heap);
    gc_promote_all(heap);
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
    restart_counts(gc, 2);
}

void heap_gc_unfreeze(struct heap *heap)
{
    GIL_ASSERT_HELD(heap);
    struct gc *gc = &heap->gc;
    heap_settle(heap);
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
        for (uint32_t ref = from & ~63u; ref - start < (WORDS_PER_POOL * 64); ref += 64) {
            uint64_t word = generation == 2 || generation < 0 ? heap->gc.old[ref >> 6] : 0;
            word |= generation != 2 ? young_word(heap, ref, generation, class) : 0;
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

/* ---- checker ---- */

static uint32_t check_chunk(struct heap *heap, const struct gc_chunk *chunk, FILE *why)
{
    uint32_t problems = 0, used = 0;
    for (uint32_t i = 0; i < chunk->untouched; i++) {
        uint32_t ref = chunk->refs[i];
        if (ref == 0) {
            continue;
        }
        used++;
        const struct container *c = (const struct container *)object_at(heap, ref);
        if (!pymalloc_is_block(&heap->pm, ref, POOL_CONTAINER) || !(c->head.flags & FLAG_TRACKED) ||
            c->gc != (chunk->number << CHUNK_SHIFT) + i + 1 || bit_get(heap->gc.old, ref) ||
            bit_get(heap->gc.frozen, ref)) {
            fprintf(why, "slot %u of young chunk %u has %#x, which is not only there\n", i, chunk->number, ref);
            problems++;
        }
    }
    uint32_t free = 0;
    for (uint32_t slot = chunk->free; slot != 0 && free <= CHUNK_SLOTS; slot = chunk->scratch[slot - 1]) {
        free++;
    }
    if (used != chunk->used || free != chunk->untouched - used) {
        fprintf(why, "young chunk %u has %u objects and %u free slots of %u, and says %u\n", chunk->number,
                used, free, chunk->untouched, chunk->used);
        problems++;
    }
    return problems;
}

static uint32_t check_list(struct heap *heap, uint32_t list, FILE *why)
{
    const struct gc *gc = &heap->gc;
    uint32_t problems = 0, seen = 0;
    uint64_t objects = 0;
    bool full = false;
    for (uint32_t n = gc->lists[list].head; n != NO_CHUNK && seen++ <= gc->chunk_count;
         n = gc->chunks[n]->next) {
        const struct gc_chunk *chunk = gc->chunks[n];
        problems += check_chunk(heap, chunk, why);
        objects += chunk->used;
        if (chunk->list != list || (full && chunk->used < CHUNK_SLOTS)) {
            fprintf(why, "young chunk %u is out of place in list %u\n", n, list);
            problems++;
        }
        full = chunk->used == CHUNK_SLOTS;
    }
    if (list < 2 && objects != counter_read(&gc->generations[list].objects)) {
        fprintf(why, "generation %u has %llu objects and says %llu\n", list, (unsigned long long)objects,
                (unsigned long long)counter_read(&gc->generations[list].objects));
        problems++;
    }
    return problems;
}

/* Old and frozen bits sit on tracked containers without a slot, and nowhere else. */
static uint32_t check_bits(struct heap *heap, FILE *why)
{
    struct gc *gc = &heap->gc;
    uint32_t problems = 0, pool = 0, first;
    uint64_t old = 0, frozen = 0;
    unsigned class;
    while (pymalloc_next_pool(&heap->pm, POOL_CONTAINER, &pool, &first, &class)) {
        for (uint32_t ref = first & ~1023u; (ref ^ first) < 1024; ref += 64) {
            uint64_t used = pymalloc_used_word(&heap->pm, ref), tracked = 0;
            for (uint64_t bits = used; bits != 0; bits &= bits - 1) {
                uint32_t at = ref + (uint32_t)__builtin_ctzll(bits);
                const struct container *c = (const struct container *)object_at(heap, at);
                tracked |= (c->head.flags & FLAG_TRACKED) && c->gc == 0 ? bits & -bits : 0;
            }
            uint64_t o = gc->old[ref >> 6], f = gc->frozen[ref >> 6];
            old += (uint64_t)__builtin_popcountll(o);
            frozen += (uint64_t)__builtin_popcountll(f);
            if ((o | f) != tracked || (o & f) != 0 || (gc->state == GC_IDLE && gc->mark[ref >> 6] != 0)) {
                fprintf(why, "the collector's bits of the 64 granules at %#x are wrong\n", ref);
                problems++;
            }
        }
    }
    if (old != counter_read(&gc->generations[2].objects) || frozen != counter_read(&gc->frozen_count)) {
        fprintf(why, "generation 2 has %llu objects and says %llu, %llu are frozen and it says %llu\n",
                (unsigned long long)old, (unsigned long long)counter_read(&gc->generations[2].objects),
                (unsigned long long)frozen, (unsigned long long)counter_read(&gc->frozen_count));
        problems++;
    }
    return problems;
}

uint32_t gc_check_generations(struct heap *heap, FILE *why)
{
    return check_list(heap, 0, why) + check_list(heap, 1, why) + check_list(heap, LIST_FREE, why) +
           check_bits(heap, why);
}
