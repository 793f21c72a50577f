/* dead.c -- the dead list: taking apart what nobody refers to, without recursion.
 *
 * A container whose refcount became 0 is linked here through its own `gc` word, so dying needs neither
 * stack nor memory and cannot fail, however long the chain.  Taking one apart drops its references;
 * those that reach 0 are appended.  References on their way to be dropped pass through a ring that
 * prefetches their headers, because the children of a large graph are seldom in the cache.
 *
 * Finalizers run between: only when the list and the ring are empty, one at a time, so that what one kills is
 * gone before the next runs.
 *
 * This is the list of the operation under way.  What its slice leaves of it goes on in dying.c.
 *
 * Invariant: a container on the list has refcount 0, FLAG_DEAD, no id, no weakrefs, and is untracked; between
 * two slices the references that it still has are those that it still counts for.
 * Start at dead_slice().
 */
#include "edges.h"

#define RING_SLOTS 32u  /* enough headers in flight to hide a cache miss */
#define PIECE_REFS 512u /* dropped of a container before the clock may be asked */

struct ring {
    uint32_t refs[RING_SLOTS];
    uint32_t first, count;
};

void dead_append(struct heap *heap, struct container *c)
{
    uint32_t ref = object_ref(heap, c);
    c->head.flags |= FLAG_DEAD;
    c->gc = 0;
    if (heap->dead_tail != 0) {
        ((struct container *)object_at(heap, heap->dead_tail))->gc = ref;
    } else {
        heap->dead_head = ref;
    }
    heap->dead_tail = ref;
}

/* On the list at once, with nothing to refer to yet; NULL: no memory. */
static struct container *stub_create(struct heap *heap, enum heap_type type, uint32_t bytes)
{
    struct container *stub = object_stub_create(heap, type, bytes);
    if (stub != NULL) {
        stub->head.refcount = 0;
        heap->freed_pending--; /* nobody is to hear of it */
        dead_append(heap, stub);
    }
    return stub;
}

bool dead_take_over(struct heap *heap, const struct container *c)
{
    if (object_edges(heap, c).count <= PIECE_REFS) {
        return false;
    }
    uint32_t bytes = object_block_bytes(heap, &c->head);
    struct container *stub = stub_create(heap, (enum heap_type)c->head.type, bytes);
    if (stub == NULL) {
        return false;
    }
    memcpy(stub + 1, c + 1, bytes - sizeof *c);
    stub->head.n = c->head.n;
    stub->head.flags |= c->head.flags & FLAG_OUT_OF_LINE;
    return true;
}

bool dead_take_buffer(struct heap *heap, uint32_t *refs, uint32_t count, uint32_t room)
{
    struct list *stub =
        count > PIECE_REFS ? (struct list *)stub_create(heap, HEAP_T_LIST, sizeof(struct list)) : NULL;
    if (stub == NULL) {
        return false;
    }
    stub->head.head.n = LIST_ELSEWHERE;
    stub->u.out.items = refs;
    stub->u.out.len = count;
    stub->u.out.room = room;
    counter_add(&heap->type_bytes[HEAP_T_LIST], pymalloc_buffer_rounded((size_t)room * sizeof *refs));
    return true;
}

static void ring_pop(struct heap *heap, struct ring *ring)
{
    uint32_t ref = ring->refs[ring->first];
    ring->first = (ring->first + 1) % RING_SLOTS;
    ring->count--;
    object_decref(heap, ref);
}

static void ring_push(struct heap *heap, struct ring *ring, uint32_t ref)
{
    if (ref == 0) {
        return;
    }
    if (ring->count == RING_SLOTS) {
        ring_pop(heap, ring);
    }
    __builtin_prefetch(object_at(heap, ref), 1);
    ring->refs[(ring->first + ring->count++) % RING_SLOTS] = ref;
}

/* object_free_buffers -- gives back everything of a container but its block; its edges have been dropped. */
void object_free_buffers(struct heap *heap, struct container *c)
{
    switch ((enum heap_type)c->head.type) {
    case HEAP_T_LIST:
        list_free_buffers(heap, (struct list *)c);
        break;
    case HEAP_T_TUPLE:
        tuple_free_buffers(heap, (struct tuple *)c);
        break;
    case HEAP_T_FROZENSET:
        compare_forget(heap, c);
        table_free_buffers(heap, (struct table *)c);
        break;
    case HEAP_T_DICT:
    case HEAP_T_SET:
        table_free_buffers(heap, (struct table *)c);
        break;
    case HEAP_T_INSTANCE:
        instance_free_buffers(heap, (struct instance *)c);
        break;
    case HEAP_T_CLASS:
        class_free_info(heap, (struct class *)c);
        break;
    case HEAP_T_WEAKREF:
        weakref_unlink(heap, (struct weakref *)c);
        break;
    default: /* atoms never come here */
        break;
    }
}

/* Takes the first of the list apart, or, if it has many references, the next piece of it, from the end. */
static void take_apart(struct heap *heap, struct ring *ring, struct slice *slice)
{
    struct container *c = (struct container *)object_at(heap, heap->dead_head);
    struct edges edges = object_edges(heap, c);
    uint32_t left = heap->dead_left != 0 ? heap->dead_left : edges.count;
    uint32_t stop = left > PIECE_REFS ? left - PIECE_REFS : 0;
    for (uint32_t i = left; i-- > stop;) {
        ring_push(heap, ring, edges.refs[i]);
    }
    if (stop > 0) { /* what it still refers to counts, what it does not must not */
        memset(edges.refs + stop, 0, PIECE_REFS * sizeof *edges.refs);
        heap->dead_left = stop;
        slice_spend(slice, 1, PIECE_REFS);
        return;
    }
    heap->dead_left = 0;
    heap->dead_head = c->gc;
    if (heap->dead_head == 0) {
        heap->dead_tail = 0;
    }
    ring_push(heap, ring, edges.extra);
    object_free_buffers(heap, c);
    object_block_free(heap, &c->head);
    slice_spend(slice, 1, left);
}

bool dead_slice(struct heap *heap, struct slice *slice)
{
    struct ring ring;
    ring.first = ring.count = 0;
    while (!slice->is_over) {
        if (heap->dead_head != 0) {
            take_apart(heap, &ring, slice);
        } else if (ring.count > 0) {
            ring_pop(heap, &ring);
        } else if (finalizer_is_due(heap)) {
            finalizer_run_dying(heap);
            slice_spend(slice, 1, 0);
        } else {
            return true;
        }
    }
    while (ring.count > 0) {
        ring_pop(heap, &ring);
    }
    return heap->dead_head == 0 && !finalizer_is_due(heap);
}

void dead_drain(struct heap *heap)
{
    struct slice endless;
    slice_begin(&endless, &heap->slices, 0);
    HEAP_ASSERT(dead_slice(heap, &endless));
}

/* What was freed since the last time, when nothing is dying any more. */
static inline uint64_t take_freed(struct heap *heap)
{
    heap->compare_steps = 0;
    uint64_t freed = heap->freed_pending;
    heap->freed_pending = 0;
    return freed;
}

uint64_t heap_settle(struct heap *heap)
{
    GIL_ASSERT_HELD(heap);
    if (unlikely(heap->dead_head != 0 || finalizer_is_due(heap))) {
        dead_drain(heap);
    }
    return take_freed(heap);
}

bool heap_settle_slice(uint64_t *freed, struct heap *heap, struct heap_dying *dying)
{
    GIL_ASSERT_HELD(heap);
    if (unlikely(heap->dead_head != 0 || finalizer_is_due(heap))) {
        struct slice slice;
        slice_begin(&slice, &heap->slices, heap->slices.us);
        if (!dead_slice(heap, &slice)) {
            dying->session = NULL;
            dying_defer(heap, dying);
            return false;
        }
    }
    *freed = take_freed(heap);
    return true;
}
