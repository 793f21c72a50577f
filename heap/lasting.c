/* lasting.c -- what the heap does for a journal (heap.h, "what lasts") while it lives.
 *
 *   containers   get an id when they are made: so nothing that an effect tells of, and nothing that a listing of
 *                containers shows, needs one later
 *   new ids      are noted in order, for the record of the request that gave them
 *   effects      are told where they happen, by their object's id
 *
 * Without a journal each of these is one branch that is not taken.
 * Locking: the GIL for everything.   Start at lasting_container() and lasting_tell_now(); replay.c is the other half.
 */
#include "heap_internal.h"

#define IDS_MIN 64u

void heap_set_journal(struct heap *heap, const struct heap_journal *journal)
{
    GIL_ASSERT_HELD(heap);
    heap->lasting.journal = *journal;
    heap->lasting.is_on = true;
}

void lasting_fini(struct heap *heap)
{
    free(heap->lasting.ids);
}

/* ---- ids ---- */

struct container *lasting_container(struct heap *heap, struct container *c, uint32_t bytes)
{
    if (likely(handle_slot(heap, object_ref(heap, c)) != 0)) {
        return c;
    }
    if (heap->marks != NULL) {
        mark_died(heap, object_ref(heap, c));
    }
    counter_add(&heap->freed, 1);
    counter_sub(&heap->type_objects[c->head.type], 1);
    counter_sub(&heap->type_bytes[c->head.type], object_block_rounded(bytes));
    gc_count_freed(&heap->gc, 1);
    pymalloc_free(&heap->pm, POOL_CONTAINER, size_class(bytes), c);
    return NULL;
}

/* The notes are no heap memory: they are gone when the request is over. */
static bool reserve(struct lasting *lasting)
{
    if (lasting->count < lasting->room) {
        return true;
    }
    size_t room = lasting->room == 0 ? IDS_MIN : 2 * lasting->room;
    uint64_t *ids = realloc(lasting->ids, room * sizeof *ids);
    if (ids == NULL) {
        return false;
    }
    lasting->ids = ids;
    lasting->room = room;
    return true;
}

bool lasting_may_give(struct heap *heap, uint32_t ref)
{
    struct lasting *lasting = &heap->lasting;
    bool may = lasting->notes == HEAP_NOTES_ALL || lasting->replays || !ref_is_atom(ref);
    return may && (lasting->notes == HEAP_NOTES_NOTHING || reserve(lasting));
}

void lasting_note(struct heap *heap, uint64_t id)
{
    heap->lasting.ids[heap->lasting.count++] = id;
}

/* Notes of a request that gave more ids than this are given back. */
#define IDS_KEPT 65536u

void heap_note_ids(struct heap *heap, enum heap_notes notes)
{
    struct lasting *lasting = &heap->lasting;
    lasting->notes = notes;
    lasting->count = 0;
    if (unlikely(lasting->room > IDS_KEPT)) {
        free(lasting->ids);
        lasting->ids = NULL;
        lasting->room = 0;
    }
}

const uint64_t *heap_noted_ids(const struct heap *heap, size_t *count)
{
    *count = heap->lasting.count;
    return heap->lasting.ids;
}

/* The container that a request has made and that lives on, 0: there is none.  With a journal every container has its id
 * from the moment it is made; without, a noted id may be that of an old one. */
static uint32_t made_container(const struct heap *heap, uint64_t id)
{
    uint32_t ref = heap->lasting.is_on ? handle_ref_of_id(heap, id) : 0;
    bool is_made = ref != 0 && !ref_is_atom(ref) && !object_is_immortal(object_at(heap, ref)) &&
                   handle_roots(heap, (uint32_t)id) == 0;
    return is_made ? ref : 0;
}

static void drop_atom_id(struct heap *heap, uint64_t id)
{
    uint32_t ref = handle_ref_of_id(heap, id);
    if (ref != 0 && ref_is_atom(ref) && handle_roots(heap, (uint32_t)id) == 0 &&
        !(object_at(heap, ref)->flags & (FLAG_WEAKREF | FLAG_FINALIZER))) {
        handle_release(heap, ref);
    }
}

/* Containers are all kept alive, emptied, which takes every cycle among them apart, and let go. */
void heap_drop_noted(struct heap *heap)
{
    GIL_ASSERT_HELD(heap);
    struct lasting *lasting = &heap->lasting;
    for (size_t i = lasting->count; i-- > 0;) {
        uint32_t ref = made_container(heap, lasting->ids[i]);
        if (ref != 0) {
            object_incref(heap, ref);
        } else {
            drop_atom_id(heap, lasting->ids[i]);
            lasting->ids[i] = 0;
        }
    }
    for (size_t i = 0; i < lasting->count; i++) {
        if (lasting->ids[i] != 0) {
            object_clear(heap, handle_ref_of_id(heap, lasting->ids[i]));
        }
    }
    for (size_t i = 0; i < lasting->count; i++) {
        if (lasting->ids[i] != 0) {
            object_decref(heap, handle_ref_of_id(heap, lasting->ids[i]));
        }
    }
    lasting->count = 0;
}

/* ---- effects ---- */

void lasting_tell_now(struct heap *heap, enum heap_effect effect, uint32_t ref, bool is_bound)
{
    const struct heap_journal *journal = &heap->lasting.journal;
    if (journal->effect != NULL && !heap->lasting.replays) {
        journal->effect(journal->arg, effect, handle_id(heap, ref), is_bound);
    }
}
