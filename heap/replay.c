/* replay.c -- a heap that lives again what a journal has kept: heap.h, "what lasts".
 *
 * Between heap_replay_begin() and heap_replay_end() the heap does what its caller repeats, and nothing by itself:
 *
 *   ids          come from heap_replay_ids(), in the order in which they were given the first time
 *   finalizers   of what dies wait, however long, until their effect comes
 *   collections  are not begun; what one has swept is taken apart when its effect comes
 *   slots        that become free are not given again: heap_replay_end() finds them
 *
 * So after each record the heap is as it was behind it the first time, but for what was dying in slices then, which
 * nobody could tell.
 *
 * Locking: the GIL for everything.   Start at heap_replay_effect().
 */
#include "heap_internal.h"

void heap_replay_begin(struct heap *heap)
{
    GIL_ASSERT_HELD(heap);
    struct lasting *lasting = &heap->lasting;
    HEAP_ASSERT(!lasting->replays);
    lasting->replays = lasting->is_on = true;
    lasting->given_count = lasting->given_at = 0;
    lasting->event = heap->observer.event;
    heap->observer.event = NULL;
}

void heap_replay_end(struct heap *heap)
{
    GIL_ASSERT_HELD(heap);
    struct lasting *lasting = &heap->lasting;
    HEAP_ASSERT(lasting->replays);
    lasting->replays = false;
    heap->observer.event = lasting->event;
    weakref_silence_all(heap);
    handle_requeue(heap);
}

/* ---- ids ---- */

void heap_replay_ids(struct heap *heap, const uint64_t *ids, size_t count)
{
    heap->lasting.given = ids;
    heap->lasting.given_count = count;
    heap->lasting.given_at = 0;
}

size_t heap_replay_ids_left(const struct heap *heap)
{
    return heap->lasting.given_count - heap->lasting.given_at;
}

uint32_t replay_take_slot(struct heap *heap)
{
    struct lasting *lasting = &heap->lasting;
    if (lasting->given_at == lasting->given_count) {
        return 0;
    }
    return handle_claim_slot(heap, lasting->given[lasting->given_at++]);
}

heap_ref heap_replay_find(const struct heap *heap, uint64_t id)
{
    return handle_ref_of_id(heap, id);
}

/* ---- sessions ---- */

struct heap_session *heap_replay_session(struct heap *heap, uint64_t number)
{
    GIL_ASSERT_HELD(heap);
    uint64_t made = heap->sessions_made;
    heap->sessions_made = number - 1;
    struct heap_session *session = heap_session_create(heap);
    if (made > heap->sessions_made) {
        heap->sessions_made = made;
    }
    return session;
}

/* ---- effects ---- */

/* What a condemned container does not keep for others: what it refers to, if it can let go of it.  Every cycle leads
 * through one that can. */
static void empty(struct heap *heap, uint32_t ref)
{
    struct container *c = (struct container *)object_at(heap, ref);
    if (c->head.type == HEAP_T_WEAKREF) {
        weakref_unlink(heap, (struct weakref *)c);
    } else {
        object_clear(heap, ref);
    }
    if (c->head.flags & FLAG_FINALIZER) {
        (void)heap_finalizer_clear(heap, ref); /* it has run */
    }
}

/* What a line says was swept.  A collection in slices has several: what only an earlier line's objects referred to died
 * with them, and the id is void.  Returns NOT_SWEPT for what cannot have been swept. */
#define NOT_SWEPT UINT32_MAX
static uint32_t swept_at(const struct heap *heap, uint64_t id)
{
    uint32_t ref = handle_ref_of_id(heap, id);
    if (ref == 0) {
        return handle_was_given(heap, id) ? 0 : NOT_SWEPT;
    }
    bool may_be = !ref_is_atom(ref) && !object_is_immortal(object_at(heap, ref)) && handle_roots(heap, (uint32_t)id) == 0;
    return may_be ? ref : NOT_SWEPT;
}

/* First all are kept alive and emptied, which takes every cycle among them apart; then those die that nothing else,
 * not yet swept, refers to.  An id is void at once. */
static bool sweep(struct heap *heap, const uint64_t *ids, size_t count)
{
    size_t kept = 0;
    for (size_t i = 0; i < count; i++) {
        uint32_t ref = swept_at(heap, ids[i]);
        if (ref == NOT_SWEPT) {
            return false;
        }
        if (ref != 0) {
            object_incref(heap, ref);
            kept++;
        }
    }
    for (size_t i = 0; i < count; i++) {
        uint32_t ref = handle_ref_of_id(heap, ids[i]);
        if (ref != 0) {
            empty(heap, ref);
        }
    }
    for (size_t i = 0; i < count; i++) {
        uint32_t ref = handle_ref_of_id(heap, ids[i]);
        if (ref != 0) {
            if (object_at(heap, ref)->refcount > 1) {
                handle_release(heap, ref);
            }
            object_decref(heap, ref);
            kept--;
        }
    }
    heap_settle(heap);
    return kept == 0; /* else one is there twice */
}

static bool keep(struct heap *heap, const uint64_t *ids, size_t count)
{
    if (!garbage_reserve(heap, count)) {
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        uint32_t ref = handle_ref_of_id(heap, ids[i]);
        if (ref == 0) {
            return false;
        }
        garbage_append(heap, ref);
    }
    return true;
}

static bool unaim(struct heap *heap, uint64_t id)
{
    uint32_t ref = handle_ref_of_id(heap, id);
    if (ref == 0 || heap_type(heap, ref) != HEAP_T_WEAKREF) {
        return false;
    }
    weakref_unlink(heap, (struct weakref *)object_at(heap, ref));
    return true;
}

static bool finalize(struct heap *heap, uint64_t id, bool is_bound)
{
    uint32_t ref = handle_ref_of_id(heap, id);
    if (ref == 0 || !finalizer_replay(heap, ref, is_bound)) {
        return false;
    }
    heap_settle(heap);
    return true;
}

bool heap_replay_effect(struct heap *heap, enum heap_effect effect, const uint64_t *ids, size_t count, bool is_bound)
{
    GIL_ASSERT_HELD(heap);
    HEAP_ASSERT(heap->lasting.replays);
    bool ok = true;
    switch (effect) {
    case HEAP_EFFECT_SWEPT:
        return sweep(heap, ids, count);
    case HEAP_EFFECT_KEPT:
        return keep(heap, ids, count);
    case HEAP_EFFECT_UNAIMED:
        for (size_t i = 0; ok && i < count; i++) {
            ok = unaim(heap, ids[i]);
        }
        return ok;
    case HEAP_EFFECT_FINALIZED:
        for (size_t i = 0; ok && i < count; i++) {
            ok = finalize(heap, ids[i], is_bound);
        }
        return ok;
    }
    return false;
}
