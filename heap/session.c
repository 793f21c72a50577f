/* session.c -- sessions: who holds what, so that what a client leaves behind can be let go.
 *
 * A session counts its holds by handle slot.  Each hold is one reference of the object and one root of
 * its handle entry.  `total` counts repeats, holds on immortals too.
 *
 * The session itself is no heap memory: whoever comes to a heap that is at its limit, to let something go or to
 * raise the limit, must find a place.
 */
#include "heap_internal.h"

#define PASSED_MAX 512u /* places of a map that are passed over before the clock may be asked */

struct heap_session {
    uint64_t number;
    struct map32 holds;  /* handle slot -> how often */
    uint64_t position;   /* of one that has ended: the holds before are dropped, and count 0 */
    counter_u64 total;   /* holds, repeats counted */
    bool is_noted;       /* a finalizer or weakref has its number, or that of one that it has taken in */
    struct heap_session *next, *prev;
};

struct heap_session *heap_session_create(struct heap *heap)
{
    GIL_ASSERT_HELD(heap);
    struct heap_session *session = calloc(1, sizeof *session);
    if (session == NULL) {
        return NULL;
    }
    session->number = ++heap->sessions_made;
    map32_init(&session->holds, &heap->pm);
    session->next = heap->sessions;
    if (session->next != NULL) {
        session->next->prev = session;
    }
    heap->sessions = session;
    counter_add(&heap->session_count, 1);
    return session;
}

/* Drops n holds on the object of a slot; the session has been told. */
static void drop_holds(struct heap *heap, uint32_t slot, uint32_t n)
{
    uint32_t ref = handle_ref(heap, slot);
    struct object *o = object_at(heap, ref);
    handle_root_drop(heap, slot, n);
    if (!object_is_immortal(o)) {
        HEAP_ASSERT(o->refcount >= n);
        o->refcount -= n - 1;
        object_decref(heap, ref);
    }
}

/* The session counts n holds less. */
static void count_dropped(struct heap *heap, struct heap_session *session, uint64_t n)
{
    counter_sub(&session->total, n);
    counter_sub(&heap->hold_count, n);
}

/* Takes a session off the list. */
static void session_unlink(struct heap *heap, struct heap_session *session)
{
    if (session->prev != NULL) {
        session->prev->next = session->next;
    } else {
        heap->sessions = session->next;
    }
    if (session->next != NULL) {
        session->next->prev = session->prev;
    }
    counter_sub(&heap->session_count, 1);
}

/* Frees one that is on no list. */
static void session_free(struct heap_session *session)
{
    map32_fini(&session->holds);
    free(session);
}

/* ---- the end ---- */

uint32_t session_holds_left(const struct heap_session *session, uint32_t slot)
{
    const uint32_t *n = map32_find(&session->holds, slot);
    return n != NULL ? *n : 0;
}

/* Drops the holds from session->position on, all of them or a slice.  A map that has just grown is mostly empty, so
 * what is passed over counts, too. */
static bool release_from_position(struct heap *heap, struct heap_session *session, struct slice *slice)
{
    uint64_t end = map32_end(&session->holds);
    while (session->position < end && !slice->is_over) {
        uint32_t slot;
        uint64_t from = session->position, stop = end - from > PASSED_MAX ? from + PASSED_MAX : end;
        uint32_t *n = map32_next_value(&session->holds, &session->position, stop, &slot);
        if (n != NULL) {
            uint32_t count = *n;
            *n = 0;
            drop_holds(heap, slot, count);
        }
        slice_spend(slice, n != NULL, (uint32_t)(session->position - from));
    }
    return session->position == end;
}

bool session_release_slice(struct heap *heap, struct heap_session *session, struct slice *slice)
{
    if (!release_from_position(heap, session, slice)) {
        return false;
    }
    session_free(session);
    return true;
}

/* What is left of the session has ended, and holds what it held, for the deaths alone: the session itself or, if it
 * goes on, another one that takes its holds over.  NULL: no memory for that. */
static struct heap_session *session_retire(struct heap *heap, struct heap_session *session, bool keep)
{
    struct heap_session *retired = session;
    if (keep) {
        retired = calloc(1, sizeof *retired);
        if (retired == NULL) {
            return NULL;
        }
        retired->holds = session->holds;
        map32_init(&session->holds, &heap->pm);
    } else {
        session_unlink(heap, session);
    }
    count_dropped(heap, session, counter_read(&session->total));
    return retired;
}

bool heap_session_end(uint64_t *released, struct heap *heap, struct heap_session *session, bool keep,
                      struct heap_dying *dying)
{
    GIL_ASSERT_HELD(heap);
    *released = counter_read(&session->total);
    struct heap_session *retired = session_retire(heap, session, keep);
    if (retired == NULL) {
        heap_session_release_all(heap, session);
        dying->freed = heap_settle(heap);
        return true;
    }
    struct slice slice;
    slice_begin(&slice, &heap->slices, heap->slices.us);
    bool is_released = session_release_slice(heap, retired, &slice);
    if (is_released && dead_slice(heap, &slice)) {
        dying->freed = heap_settle(heap);
        return true;
    }
    dying->session = is_released ? NULL : retired;
    dying_defer(heap, dying);
    return false;
}

uint64_t heap_session_release_all(struct heap *heap, struct heap_session *session)
{
    GIL_ASSERT_HELD(heap);
    uint64_t released = counter_read(&session->total);
    struct slice endless;
    slice_begin(&endless, &heap->slices, 0);
    count_dropped(heap, session, released);
    session->position = 0;
    HEAP_ASSERT(release_from_position(heap, session, &endless));
    map32_fini(&session->holds);
    map32_init(&session->holds, &heap->pm);
    return released;
}

uint64_t heap_session_destroy(struct heap *heap, struct heap_session *session)
{
    uint64_t released = heap_session_release_all(heap, session);
    session_unlink(heap, session);
    session_free(session);
    return released;
}

uint64_t heap_session_number(const struct heap_session *session)
{
    return session->number;
}

uint64_t session_note_number(struct heap_session *session)
{
    session->is_noted = true;
    return session->number;
}

bool heap_session_is_noted(const struct heap_session *session)
{
    return session->is_noted;
}

uint64_t heap_session_holds(const struct heap_session *session)
{
    return counter_read(&session->total);
}

enum heap_error heap_hold(struct heap *heap, struct heap_session *session, heap_ref obj)
{
    GIL_ASSERT_HELD(heap);
    if (unlikely(heap->limits.max_holds != 0 && counter_read(&session->total) >= heap->limits.max_holds)) {
        return HEAP_LIMIT_HOLDS;
    }
    if (unlikely(object_is_full(object_at(heap, obj)))) {
        return HEAP_LIMIT_REFS;
    }
    uint32_t slot = handle_slot(heap, obj);
    uint32_t *n = slot != 0 ? map32_put(&session->holds, slot) : NULL;
    if (unlikely(n == NULL)) {
        return HEAP_MEMORY;
    }
    if (unlikely(*n == UINT32_MAX)) {
        return HEAP_LIMIT_HOLDS;
    }
    (*n)++;
    counter_add(&session->total, 1);
    counter_add(&heap->hold_count, 1);
    handle_root_add(heap, slot, 1);
    object_incref(heap, obj);
    return HEAP_OK;
}

enum heap_error heap_unhold(struct heap *heap, struct heap_session *session, heap_ref obj)
{
    GIL_ASSERT_HELD(heap);
    uint32_t slot = handle_slot_if_any(heap, obj);
    uint32_t *n = slot != 0 ? map32_find(&session->holds, slot) : NULL;
    if (n == NULL) {
        return HEAP_NOT_HELD;
    }
    if (--*n == 0) {
        map32_remove(&session->holds, slot);
    }
    count_dropped(heap, session, 1);
    drop_holds(heap, slot, 1);
    return HEAP_OK;
}

uint64_t heap_holds_of(struct heap *heap, struct heap_session *session, heap_ref obj)
{
    uint32_t slot = handle_slot_if_any(heap, obj);
    uint32_t *n = slot != 0 ? map32_find(&session->holds, slot) : NULL;
    return n != NULL ? *n : 0;
}

/* ---- merging ---- */

/* Makes room in `to` for every slot of `from`.  HEAP_LIMIT_HOLDS: more holds on one immortal than can be
 * counted. */
static enum heap_error reserve_slots(struct map32 *to, const struct map32 *from)
{
    uint64_t position = 0;
    uint32_t slot, n;
    while (map32_next(from, &position, &slot, &n)) {
        const uint32_t *there = map32_put(to, slot);
        if (there == NULL) {
            return HEAP_MEMORY;
        }
        if (*there > UINT32_MAX - n) {
            return HEAP_LIMIT_HOLDS;
        }
    }
    return HEAP_OK;
}

/* Takes away what reserve_slots() has made: slots that are held no time. */
static void unreserve_slots(struct map32 *to, const struct map32 *from)
{
    uint64_t position = 0;
    uint32_t slot, n;
    while (map32_next(from, &position, &slot, &n)) {
        const uint32_t *there = map32_find(to, slot);
        if (there != NULL && *there == 0) {
            map32_remove(to, slot);
        }
    }
}

static void add_slots(struct map32 *to, const struct map32 *from)
{
    uint64_t position = 0;
    uint32_t slot, n;
    while (map32_next(from, &position, &slot, &n)) {
        *map32_find(to, slot) += n;
    }
}

enum heap_error heap_session_merge(struct heap *heap, struct heap_session *to, struct heap_session *from)
{
    GIL_ASSERT_HELD(heap);
    HEAP_ASSERT(to != from);
    /* The shorter map goes into the longer, so that a connection that joins a large session costs nothing. */
    bool from_is_shorter = from->holds.count <= to->holds.count;
    struct map32 *longer = from_is_shorter ? &to->holds : &from->holds;
    struct map32 *shorter = from_is_shorter ? &from->holds : &to->holds;
    enum heap_error error = reserve_slots(longer, shorter);
    if (error != HEAP_OK) {
        unreserve_slots(longer, shorter);
        return error;
    }
    add_slots(longer, shorter);
    struct map32 merged = *longer, spent = *shorter;
    to->holds = merged;
    from->holds = spent;
    counter_add(&to->total, counter_read(&from->total));
    to->is_noted |= from->is_noted;
    session_unlink(heap, from);
    session_free(from);
    return HEAP_OK;
}

/* ---- who holds ---- */

void heap_holders_of(struct heap *heap, heap_ref obj, void (*row)(void *arg, uint64_t session, uint64_t holds),
                     void *arg)
{
    GIL_ASSERT_HELD(heap);
    struct heap_session *session = heap->sessions;
    while (session != NULL && session->next != NULL) {
        session = session->next;
    }
    for (; session != NULL; session = session->prev) {
        uint64_t holds = heap_holds_of(heap, session, obj);
        if (holds > 0) {
            row(arg, session->number, holds);
        }
    }
}

bool session_walk_holds(struct heap *heap, bool (*row)(void *arg, uint64_t session, uint32_t slot), void *arg)
{
    for (const struct heap_session *session = heap->sessions; session != NULL; session = session->next) {
        uint64_t position = 0;
        uint32_t slot, n;
        while (map32_next(&session->holds, &position, &slot, &n)) {
            if (!row(arg, session->number, slot)) {
                return false;
            }
        }
    }
    return true;
}

bool heap_each_hold(struct heap *heap, bool (*row)(void *arg, uint64_t session, uint64_t id, uint64_t holds), void *arg)
{
    GIL_ASSERT_HELD(heap);
    for (const struct heap_session *session = heap->sessions; session != NULL; session = session->next) {
        uint64_t position = 0;
        uint32_t slot, n;
        while (map32_next(&session->holds, &position, &slot, &n)) {
            if (n > 0 && !row(arg, session->number, handle_id(heap, handle_ref(heap, slot)), n)) {
                return false;
            }
        }
    }
    return true;
}

static void count_holds(const struct heap_session *session, uint32_t *roots)
{
    uint64_t position = 0;
    uint32_t slot, n;
    while (map32_next(&session->holds, &position, &slot, &n)) {
        roots[slot] += n;
    }
}

void session_count_holds(struct heap *heap, uint32_t *roots)
{
    for (const struct heap_session *session = heap->sessions; session != NULL; session = session->next) {
        count_holds(session, roots);
    }
    for (const struct heap_dying *dying = heap->dying_first; dying != NULL; dying = dying->next) {
        if (dying->session != NULL) {
            count_holds(dying->session, roots);
        }
    }
}
