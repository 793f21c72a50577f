/* snapshot.c -- all that lives, as it was at one moment, for who writes it down: heap.h, "what lasts".
 *
 * The walk is visit.c's: what is about to change or to die is shown first.  So the one who writes has the object before
 * him as it was at t0, in the heap itself, and copies nothing.
 * Start at heap_snapshot_begin().
 */
#include "visit.h"

struct heap_snapshot {
    struct visit visit; /* first: what the walk knows is what this knows */
    struct heap *heap;
    heap_snapshot_row *row;
    void *arg;
};

static void on_node(struct visit *visit, struct heap *heap, uint32_t ref)
{
    struct heap_snapshot *snapshot = (struct heap_snapshot *)visit;
    (void)heap;
    snapshot->row(snapshot->arg, ref);
}

struct heap_snapshot *heap_snapshot_begin(struct heap *heap, heap_snapshot_row *row, void *arg)
{
    GIL_ASSERT_HELD(heap);
    struct heap_snapshot *snapshot = calloc(1, sizeof *snapshot);
    if (snapshot == NULL) {
        return NULL;
    }
    snapshot->visit.node = on_node;
    snapshot->heap = heap;
    snapshot->row = row;
    snapshot->arg = arg;
    if (!visit_begin(&snapshot->visit, heap)) {
        free(snapshot);
        return NULL;
    }
    return snapshot;
}

bool heap_snapshot_step(struct heap_snapshot *snapshot)
{
    return visit_slice(&snapshot->visit, snapshot->heap);
}

void heap_snapshot_end(struct heap_snapshot *snapshot)
{
    visit_end(&snapshot->visit, snapshot->heap);
    free(snapshot);
}

static void show(const uint32_t *refs, unsigned count, heap_snapshot_row *row, void *arg)
{
    for (unsigned i = 0; i < count; i++) {
        row(arg, refs[i]);
    }
}

void heap_each_immortal(struct heap *heap, heap_snapshot_row *row, void *arg)
{
    const uint32_t single[] = {heap->none,        heap->truth[0],  heap->truth[1],
                               heap->empty_tuple, heap->empty_str, heap->empty_bytes};
    show(single, sizeof single / sizeof single[0], row, arg);
    show(heap->small_ints, SMALL_INTS, row, arg);
    show(heap->latin1, 256, row, arg);
    show(heap->byte1, 256, row, arg);
}

uint64_t heap_id_if_any(const struct heap *heap, heap_ref obj)
{
    return handle_slot_if_any(heap, obj) != 0 ? handle_id(heap, obj) : 0;
}
