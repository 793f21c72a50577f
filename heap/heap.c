/* heap.c -- the life of a heap, and what belongs to no type.
 *
 *   heap ── pymalloc      arenas, pools, blocks, raw               pymalloc.c, arena.c
 *        ├─ gil           who may touch all of this                gil.c
 *        ├─ gc            generations                              gc.c, gc_young.c, gc_cycle.c
 *        ├─ handles       ids <-> objects, roots                   handle.c
 *        ├─ sessions      holds                                    session.c
 *        ├─ names         the global namespace                     name.c
 *        ├─ interned      str keys, once a text                    intern.c
 *        ├─ classes       symbols, shapes                          shape.c
 *        ├─ weakrefs      target -> weakrefs                       weakref.c
 *        ├─ finalizers    target -> what happens before it dies    finalizer.c
 *        ├─ garbage       what `saveall` kept                      garbage.c
 *        ├─ marks         what has grown since                     mark.c
 *        └─ dead list     what is dying by refcount                dead.c
 *
 * Start at heap_create(); then object.c.
 */
#include "edges.h"
#include "visit.h"

#include <sys/random.h>

#define HALF_BYTES_DEFAULT ((uint64_t)32 << 30)
#define SWITCH_INTERVAL_US_DEFAULT 5000u

/* ---- errors ---- */

static const struct {
    const char *word, *sentence;
} error_texts[HEAP_ERROR_COUNT] = {
    [HEAP_OK] = {"ok", "no error"},
#define X(code, word, sentence) [code] = {word, sentence},
    HEAP_ERROR_MAP(X)
#undef X
};

const char *heap_error_word(enum heap_error error)
{
    return error_texts[error].word;
}

const char *heap_error_sentence(enum heap_error error)
{
    return error_texts[error].sentence;
}

_Noreturn void heap_assert_failed(const char *condition, const char *file, int line)
{
    fprintf(stderr, "heapd: %s:%d: the heap is corrupt or misused: not true that %s\n", file, line, condition);
    abort();
}

/* ---- life ---- */

static bool seed_hashes(struct heap *heap)
{
    return getrandom(heap->hash_seed, sizeof heap->hash_seed, 0) == (ssize_t)sizeof heap->hash_seed;
}

/* The immortals count in no total. */
static void forget_immortals(struct heap *heap)
{
    atomic_store(&heap->created, 0);
    for (unsigned type = 0; type < HEAP_T_COUNT; type++) {
        heap->immortal_bytes += counter_read(&heap->type_bytes[type]);
        atomic_store(&heap->type_objects[type], 0);
        atomic_store(&heap->type_bytes[type], 0);
    }
    atomic_store(&heap->gc.count[0], 0);
}

/* The lock and the memory of a heap; nothing is left of them when there is not enough. */
static bool init_memory(struct heap *heap, const struct heap_config *config)
{
    uint64_t half = config->reserve_bytes != 0 ? config->reserve_bytes : HALF_BYTES_DEFAULT;
    uint32_t interval = config->switch_interval_us != 0 ? config->switch_interval_us : SWITCH_INTERVAL_US_DEFAULT;
    if (!gil_init(&heap->gil, interval)) {
        return false;
    }
    if (!pymalloc_init(&heap->pm, half)) {
        gil_fini(&heap->gil);
        return false;
    }
    return true;
}

/* What a heap has before there are objects, and the immortal ones.  false: no memory; what there is of it stays. */
static bool init_objects(struct heap *heap, const struct heap_config *config)
{
    heap->slices.us = SLICE_US_DEFAULT;
    map32_init(&heap->weakrefs, &heap->pm);
    map32_init(&heap->finalizers.by_target, &heap->pm);
    map32_init(&heap->hashes, &heap->pm);
    heap_enter(heap);
    bool ok = seed_hashes(heap) && gc_init(heap) && handle_init(heap) && name_init(heap) && intern_init(heap) &&
              class_table_init(heap) && atoms_create_immortals(heap);
    if (ok) {
        forget_immortals(heap);
        heap_set_limits(heap, &config->limits);
        heap->signature = HEAP_SIGNATURE;
    }
    heap_leave(heap);
    return ok;
}

/* Payloads in the raw layer are malloc'ed one by one; blocks go with their arenas. */
static void free_payloads(struct heap *heap)
{
    for (enum pool_kind kind = 0; kind < POOL_KINDS; kind++) {
        uint32_t pool = 0, first;
        unsigned class;
        while (kind != POOL_BUFFER && pymalloc_next_pool(&heap->pm, kind, &pool, &first, &class)) {
            for (uint32_t ref = first & ~63u; (ref ^ first) < 1024; ref += 64) {
                for (uint64_t bits = pymalloc_used_word(&heap->pm, ref); bits != 0; bits &= bits - 1) {
                    struct object *o = object_at(heap, ref + (uint32_t)__builtin_ctzll(bits));
                    if (kind == POOL_CONTAINER && o->type != HEAP_T_CLASS) {
                        object_free_buffers(heap, (struct container *)o);
                    } else if (kind == POOL_ATOM) {
                        atom_free_payload_only(heap, o);
                    }
                }
            }
        }
    }
}

/* Frees a heap that is under no work, whole or half-made. */
static void free_heap(struct heap *heap)
{
    heap_enter(heap);
    pymalloc_trim(&heap->pm);
    free_payloads(heap);
    name_fini(heap);
    handle_fini(heap);
    intern_fini(heap);
    class_table_fini(heap);
    map32_fini(&heap->weakrefs);
    finalizer_fini(heap);
    garbage_fini(heap);
    map32_fini(&heap->hashes);
    marks_fini(heap);
    lasting_fini(heap);
    gc_fini(heap);
    heap->signature = 0;
    heap_leave(heap);
    pymalloc_fini(&heap->pm);
    gil_fini(&heap->gil);
    free(heap);
}

struct heap *heap_create(const struct heap_config *config)
{
    struct heap *heap = calloc(1, sizeof *heap);
    if (heap == NULL) {
        return NULL;
    }
    if (!init_memory(heap, config)) {
        free(heap);
        return NULL;
    }
    if (!init_objects(heap, config)) {
        free_heap(heap);
        return NULL;
    }
    return heap;
}

void heap_destroy(struct heap *heap)
{
    HEAP_ASSERT(heap->signature == HEAP_SIGNATURE);
    heap_enter(heap);
    HEAP_ASSERT(heap->sessions == NULL);
    while (heap_step(heap, SLICE_US_DEFAULT)) { /* what is dying belongs to its owner */
    }
    heap_leave(heap);
    free_heap(heap);
}

void heap_set_limits(struct heap *heap, const struct heap_limits *limits)
{
    GIL_ASSERT_HELD(heap);
    heap->limits = *limits;
    heap->pm.max_bytes = limits->max_bytes;
}

void heap_set_observer(struct heap *heap, const struct heap_observer *observer)
{
    GIL_ASSERT_HELD(heap);
    heap->observer = *observer;
}

/* ---- GIL ---- */

void heap_enter(struct heap *heap)
{
    gil_acquire(&heap->gil);
}

bool heap_enter_within(struct heap *heap, uint32_t us, uint64_t *since_us)
{
    return gil_acquire_within(&heap->gil, us, since_us);
}

void heap_leave(struct heap *heap)
{
    GIL_ASSERT_HELD(heap);
    heap->wait = HEAP_WAIT_NOTHING; /* who has not asked does not want to know */
    gil_release(&heap->gil);
}

bool heap_wanted(const struct heap *heap)
{
    return gil_is_wanted(&heap->gil);
}

void heap_give_way(struct heap *heap)
{
    GIL_ASSERT_HELD(heap);
    gil_give_way(&heap->gil);
}

void heap_yield(struct heap *heap)
{
    GIL_ASSERT_HELD(heap);
    gil_yield(&heap->gil);
}

void heap_pass(struct heap *heap)
{
    GIL_ASSERT_HELD(heap);
    gil_pass(&heap->gil);
}

uint32_t heap_switch_interval_us(const struct heap *heap)
{
    return atomic_load_explicit(&heap->gil.interval_us, memory_order_relaxed);
}

void heap_set_switch_interval_us(struct heap *heap, uint32_t interval_us)
{
    atomic_store_explicit(&heap->gil.interval_us, interval_us, memory_order_relaxed);
}

/* ---- holes ---- */

static uint32_t *hole_at(struct heap *heap, heap_ref container, uint32_t i)
{
    struct container *c = (struct container *)object_at(heap, container);
    struct edges edges = object_edges(heap, c);
    if (c->head.type == HEAP_T_DICT) {
        i = i * 2 + 1;
    }
    HEAP_ASSERT(i < edges.count);
    return &edges.refs[i];
}

void heap_fill_steal(struct heap *heap, heap_ref container, uint32_t i, heap_ref obj)
{
    GIL_ASSERT_HELD(heap);
    uint32_t *hole = hole_at(heap, container, i);
    HEAP_ASSERT(*hole == 0);
    visit_before_change(heap, container);
    *hole = obj;
}

heap_ref heap_unfill(struct heap *heap, heap_ref container, uint32_t i)
{
    GIL_ASSERT_HELD(heap);
    uint32_t *hole = hole_at(heap, container, i), obj = *hole;
    visit_before_change(heap, container);
    *hole = 0;
    gc_barrier(heap, obj); /* the count stays, but the edge becomes the caller's */
    return obj;
}
