/* gc_cycle.c -- full collections: marking from the roots, in steps.
 *
 *   begin   the young objects become old; the barrier goes up                        t0
 *   MARK    roots are reached: objects with holds or names (the handle table knows them),
 *           frozen objects, gc.garbage; then what they refer to, through a stack and a ring that prefetches
 *   t1      nothing is left to scan:  condemned(o) == old(o) and not mark(o)
 *   SWEEP   weakrefs to the condemned are cleared and their finalizers run; what those gave a name is marked
 *           after all, with what hangs on it; with `saveall` the others go to gc.garbage; otherwise all
 *           references they hold are dropped, but those to each other, and the blocks are freed in address
 *           order; marks are wiped
 *
 * Between steps of MARK others may change the graph.  Garbage is quiet: nobody can change a reference to
 * it or from it without naming it by an id or a weakref, and then its refcount changes and the barrier
 * marks it.  What is made after t0 is young and no candidate.  So the verdict is that of t0, less what
 * was named meanwhile.
 *
 * Invariant in MARK: a marked object that is on no stack and in no ring refers to marked objects and to
 * objects that are no candidates only.
 * Source of the equivalence with refcount subtraction: every reference is an edge, a hold, a name, an entry
 * of gc.garbage or a frozen object's, as heap_check() proves.  Start at gc_cycle_step().
 */
#include "edges.h"
#include "visit.h"

#define RING_SLOTS 16u /* headers in flight; more gains nothing */

/* ---- marking ---- */

static inline void reach(struct gc *gc, uint32_t ref)
{
    if (ref != 0 && !ref_is_atom(ref) && !bit_get(gc->mark, ref)) {
        bit_set(gc->mark, ref);
        gc_push(gc, ref);
    }
}

void gc_touch(struct gc *gc, uint32_t ref)
{
    if (!ref_is_atom(ref) && bit_get(gc->old, ref)) {
        reach(gc, ref);
    }
}

static inline void reach_all(struct gc *gc, const struct edges *edges)
{
    for (uint32_t i = 0; i < edges->count; i++) {
        reach(gc, edges->refs[i]);
    }
    reach(gc, edges->extra);
}

static void scan(struct heap *heap, uint32_t ref)
{
    struct edges edges = object_edges(heap, (const struct container *)object_at(heap, ref));
    reach_all(&heap->gc, &edges);
}

/* Containers on their way from the stack to being scanned: the header of one that comes in is prefetched,
 * and halfway through the header is read and its references are. */
struct ring {
    uint32_t refs[RING_SLOTS];
    struct edges edges[RING_SLOTS]; /* of those that are halfway through */
    uint32_t first, count;
    uint32_t opened; /* of the first ones `edges` are known */
};

static void ring_fill(struct heap *heap, struct ring *ring)
{
    struct gc *gc = &heap->gc;
    while (ring->count < RING_SLOTS && gc->stack_used > 0) {
        uint32_t ref = gc->stack[--gc->stack_used];
        if (bit_get(gc->mark, ref)) { /* else it died since it was pushed */
            __builtin_prefetch(object_at(heap, ref));
            ring->refs[(ring->first + ring->count++) % RING_SLOTS] = ref;
        }
    }
}

static void ring_open(struct heap *heap, struct ring *ring)
{
    while (ring->opened < ring->count && ring->opened <= RING_SLOTS / 2) {
        uint32_t at = (ring->first + ring->opened++) % RING_SLOTS;
        ring->edges[at] = object_edges(heap, (const struct container *)object_at(heap, ring->refs[at]));
        __builtin_prefetch(ring->edges[at].refs);
    }
}

/* Scans what is on the stack until it is empty or the budget is spent.  Nobody changes the graph meanwhile. */
static void drain_stack(struct heap *heap, uint64_t *budget)
{
    struct gc *gc = &heap->gc;
    struct ring ring;
    ring.first = ring.count = ring.opened = 0;
    while (*budget > 0 && (gc->stack_used > 0 || ring.count > 0)) {
        ring_fill(heap, &ring);
        if (ring.count == 0) {
            break;
        }
        ring_open(heap, &ring);
        const struct edges *edges = &ring.edges[ring.first];
        reach_all(gc, edges);
        *budget -= edges->count < *budget ? edges->count + 1 : *budget;
        ring.first = (ring.first + 1) % RING_SLOTS;
        ring.count--;
        ring.opened--;
    }
    while (ring.count > 0) {
        gc_push(gc, ring.refs[(ring.first + --ring.count) % RING_SLOTS]);
    }
}

/* Walks the pools of containers, calling `visit` with the first granule of each 64. */
static void for_words(struct heap *heap, void (*visit)(struct heap *heap, uint32_t ref))
{
    uint32_t pool = 0, first;
    unsigned class;
    while (pymalloc_next_pool(&heap->pm, POOL_CONTAINER, &pool, &first, &class)) {
        uint32_t start = first & ~(WORDS_PER_POOL * 64 - 1);
        for (uint32_t i = 0; i < WORDS_PER_POOL; i++) {
            visit(heap, start + i * 64);
        }
    }
}

static void scan_frozen_word(struct heap *heap, uint32_t ref)
{
    for (uint64_t bits = heap->gc.frozen[ref >> 6]; bits != 0; bits &= bits - 1) {
        scan(heap, ref + (uint32_t)__builtin_ctzll(bits));
    }
}

/* After the stack could not take everything: what is marked is scanned again. */
static void scan_marked_word(struct heap *heap, uint32_t ref)
{
    uint64_t used = pymalloc_used_word(&heap->pm, ref);
    for (uint64_t bits = heap->gc.mark[ref >> 6] & used; bits != 0; bits &= bits - 1) {
        scan(heap, ref + (uint32_t)__builtin_ctzll(bits));
        uint64_t budget = UINT64_MAX;
        drain_stack(heap, &budget);
    }
}

/* Reaches roots from the handle table on.  false: the budget is spent. */
static bool mark_roots(struct heap *heap, uint64_t *budget)
{
    struct gc *gc = &heap->gc;
    drain_stack(heap, budget);
    while (*budget > 0 && gc->next_slot <= handle_count(heap)) {
        uint32_t slot = gc->next_slot++;
        (*budget)--;
        if (handle_roots(heap, slot) > 0) {
            reach(gc, handle_ref(heap, slot));
            drain_stack(heap, budget);
        }
    }
    return *budget > 0;
}

static void mark_overflowed(struct heap *heap)
{
    while (heap->gc.overflowed) {
        heap->gc.overflowed = false;
        for_words(heap, scan_marked_word);
    }
}

/* true: nothing is left to scan (t1). */
static bool mark_step(struct heap *heap, uint64_t budget)
{
    if (!mark_roots(heap, &budget)) {
        return false;
    }
    mark_overflowed(heap);
    return true;
}

/* ---- sweep ---- */

static bool is_condemned(const struct heap *heap, uint32_t ref)
{
    return bit_get(heap->gc.old, ref) && !bit_get(heap->gc.mark, ref);
}

static inline uint64_t condemned_word(const struct gc *gc, uint32_t ref)
{
    return gc->old[ref >> 6] & ~gc->mark[ref >> 6];
}

static void judge_word(struct heap *heap, uint32_t ref)
{
    for (uint64_t bits = condemned_word(&heap->gc, ref); bits != 0; bits &= bits - 1) {
        gc_judge(heap, ref + (uint32_t)__builtin_ctzll(bits), is_condemned);
    }
}

/* A finalizer has given it a name. */
static void reach_named(struct heap *heap, uint32_t ref)
{
    uint64_t budget = UINT64_MAX;
    reach(&heap->gc, ref);
    drain_stack(heap, &budget);
}

static void count_word(struct heap *heap, uint32_t ref)
{
    heap->gc.unreachable += (uint64_t)__builtin_popcountll(condemned_word(&heap->gc, ref));
}

static void save_word(struct heap *heap, uint32_t ref)
{
    for (uint64_t bits = condemned_word(&heap->gc, ref); bits != 0; bits &= bits - 1) {
        uint32_t at = ref + (uint32_t)__builtin_ctzll(bits);
        bit_set(heap->gc.mark, at);
        garbage_append(heap, at);
    }
}

static void visit_word(struct heap *heap, uint32_t ref)
{
    for (uint64_t bits = condemned_word(&heap->gc, ref); bits != 0; bits &= bits - 1) {
        visit_before_death(heap, ref + (uint32_t)__builtin_ctzll(bits));
    }
}

static void strip_word(struct heap *heap, uint32_t ref)
{
    for (uint64_t bits = condemned_word(&heap->gc, ref); bits != 0; bits &= bits - 1) {
        uint32_t at = ref + (uint32_t)__builtin_ctzll(bits);
        gc_strip(heap, (struct container *)object_at(heap, at), is_condemned);
    }
}

/* Frees the condemned of a word, and wipes its marks: the survivors stay old. */
static void free_word(struct heap *heap, uint32_t ref)
{
    struct gc *gc = &heap->gc;
    uint64_t condemned = condemned_word(gc, ref);
    gc->old[ref >> 6] &= gc->mark[ref >> 6];
    gc->mark[ref >> 6] = 0;
    gc->swept += (uint64_t)__builtin_popcountll(condemned);
    for (uint64_t bits = condemned; bits != 0; bits &= bits - 1) {
        struct container *c = (struct container *)object_at(heap, ref + (uint32_t)__builtin_ctzll(bits));
        gc_free_class(heap, c);
        object_count_freed(heap, &c->head);
    }
    pymalloc_free_word(&heap->pm, ref, condemned);
}

/* Weakrefs and finalizers; afterwards what is condemned is so for good. */
static void judge_condemned(struct heap *heap)
{
    if (heap->weakrefs.count > 0 || heap->finalizers.waiting > 0 ||
        (heap_gc_debug(heap) & HEAP_GC_COLLECTABLE)) {
        for_words(heap, judge_word);
    }
    if (heap->finalizers.judged.first != NULL) {
        finalizer_run_judged(heap);
        finalizer_each_named(heap, is_condemned, reach_named);
        mark_overflowed(heap);
        finalizer_tell_ran(heap, is_condemned);
    }
}

/* Moves what is condemned to gc.garbage.  Without memory for that it is freed like any other. */
static void save_condemned(struct heap *heap)
{
    struct gc *gc = &heap->gc;
    gc->unreachable = 0;
    for_words(heap, count_word);
    if (!garbage_reserve(heap, gc->unreachable)) {
        gc->unreachable = 0;
        return;
    }
    for_words(heap, save_word);
}

static void sweep(struct heap_collection *result, struct heap *heap)
{
    struct gc *gc = &heap->gc;
    gc->unreachable = gc->swept = 0;
    judge_condemned(heap);
    if (heap_gc_debug(heap) & HEAP_GC_SAVEALL) {
        save_condemned(heap);
    }
    if (heap->visit != NULL) { /* each is seen before any of them is taken apart */
        for_words(heap, visit_word);
    }
    for_words(heap, strip_word);
    for_words(heap, free_word);
    counter_sub(&gc->generations[2].objects, gc->swept);
    result->unreachable = gc->unreachable + gc->swept;
    result->freed += heap_settle(heap);
    gc->long_lived_pending = 0;
    gc->long_lived_total = counter_read(&gc->generations[2].objects);
}

/* ---- the machine ---- */

/* gc_cycle_begin -- the moment t0; the dead list is empty. */
void gc_cycle_begin(struct heap *heap)
{
    struct gc *gc = &heap->gc;
    HEAP_ASSERT(gc->state == GC_IDLE && heap->dead_head == 0);
    gc_promote_all(heap);
    gc->state = GC_MARK;
    gc->cycle_on = true;
    gc->next_slot = 1;
    gc->stack_used = 0;
    gc->overflowed = false;
    if (counter_read(&gc->frozen_count) > 0) {
        for_words(heap, scan_frozen_word);
    }
    for (uint64_t i = 0; i < heap->garbage.len; i++) {
        reach(gc, heap->garbage.refs[i]);
    }
}

bool gc_cycle_step(struct heap_collection *result, struct heap *heap, uint64_t budget)
{
    struct gc *gc = &heap->gc;
    HEAP_ASSERT(gc->state == GC_MARK && heap->dead_head == 0);
    if (!mark_step(heap, budget)) {
        return false;
    }
    gc->cycle_on = false;
    gc->state = GC_SWEEP;
    sweep(result, heap);
    gc->state = GC_IDLE;
    return true;
}
