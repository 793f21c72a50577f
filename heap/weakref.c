/* weakref.c -- weak references: objects that name another without keeping it alive.
 *
 * The table maps a target to the first of its weakrefs: the one shared weakref if there is one, then the
 * others, newest first, doubly linked.  A weakref whose target died has target 0 and is in no list.
 *
 * Invariants: FLAG_WEAKREF on the target == the table has an entry for it; the first one's `count` is the
 * length of the list.   Checker: weakref_check().   Start at weakref_clear_all().
 */
#include "visit.h"

static struct weakref *weakref_at(const struct heap *heap, uint32_t ref)
{
    struct weakref *w = (struct weakref *)object_at(heap, ref);
    HEAP_ASSERT(w->head.head.type == HEAP_T_WEAKREF);
    return w;
}

/* ---- the list of a target ---- */

/* The first of the target's weakrefs, or NULL. */
static struct weakref *first_of(const struct heap *heap, uint32_t target)
{
    if (!(object_at(heap, target)->flags & FLAG_WEAKREF)) {
        return NULL;
    }
    return weakref_at(heap, *map32_find(&heap->weakrefs, target));
}

static bool is_shared(const struct weakref *w)
{
    return w->head.head.n == WEAKREF_SHARED;
}

/* Puts a weakref in front; or, when that is the shared one's place, behind it.  false: no memory. */
static bool list_add(struct heap *heap, struct weakref *w, uint32_t target)
{
    if (unlikely(heap->lasting.is_on) && handle_slot(heap, target) == 0) {
        return false;
    }
    uint32_t self = object_ref(heap, w), *link = map32_put(&heap->weakrefs, target);
    if (link == NULL) {
        return false;
    }
    struct weakref *first = *link != 0 ? weakref_at(heap, *link) : NULL;
    uint32_t count = first != NULL ? first->count + 1 : 1;
    visit_before_change(heap, self);
    w->target = target;
    w->prev = 0;
    if (first != NULL && is_shared(first)) {
        w->prev = *link;
        link = &first->next;
    }
    w->next = *link;
    *link = self;
    if (w->next != 0) {
        weakref_at(heap, w->next)->prev = self;
    }
    (w->prev != 0 ? first : w)->count = count;
    object_at(heap, target)->flags |= FLAG_WEAKREF;
    return true;
}

void weakref_unlink(struct heap *heap, struct weakref *w)
{
    if (w->target == 0) {
        return;
    }
    uint32_t *link = map32_find(&heap->weakrefs, w->target);
    uint32_t left = weakref_at(heap, *link)->count - 1;
    if (w->prev != 0) {
        weakref_at(heap, w->prev)->next = w->next;
    } else {
        *link = w->next;
    }
    if (w->next != 0) {
        weakref_at(heap, w->next)->prev = w->prev;
    }
    if (left > 0) {
        weakref_at(heap, *link)->count = left;
    } else {
        map32_remove(&heap->weakrefs, w->target);
        object_at(heap, w->target)->flags &= (uint8_t)~FLAG_WEAKREF;
    }
    w->target = 0;
}

/* The target's shared weakref, or NULL.  One that a collection has condemned is dead for everybody from then on, whether
 * or not the machine has come to it. */
static struct weakref *shared_of(struct heap *heap, uint32_t target)
{
    struct weakref *first = first_of(heap, target);
    if (first == NULL || !is_shared(first)) {
        return NULL;
    }
    uint32_t ref = object_ref(heap, first);
    if (unlikely(gc_is_judging(&heap->gc)) && gc_is_condemned(&heap->gc, ref)) {
        visit_before_change(heap, ref);
        weakref_unlink(heap, first);
        return NULL;
    }
    return first;
}

/* ---- making ---- */

/* A weakref without a target; `kind` as in its `n`. */
static enum heap_error create(heap_ref *weakref, struct heap *heap, uint16_t kind)
{
    uint32_t bytes = kind == WEAKREF_NOTIFY ? sizeof(struct weakref_notify) : sizeof(struct weakref);
    struct weakref *w = (struct weakref *)object_container_create(heap, HEAP_T_WEAKREF, bytes);
    if (w == NULL) {
        return HEAP_MEMORY;
    }
    w->head.head.n = kind;
    if (!gc_track(heap, &w->head)) {
        object_decref(heap, object_ref(heap, w));
        return HEAP_MEMORY;
    }
    *weakref = object_ref(heap, w);
    return HEAP_OK;
}

enum heap_error heap_weakref_create(heap_ref *weakref, struct heap *heap)
{
    GIL_ASSERT_HELD(heap);
    return create(weakref, heap, 0);
}

enum heap_error heap_weakref_aim(struct heap *heap, heap_ref weakref, heap_ref target)
{
    GIL_ASSERT_HELD(heap);
    struct weakref *w = weakref_at(heap, weakref);
    HEAP_ASSERT(w->target == 0 && w->head.head.n != WEAKREF_NOTIFY);
    if (object_is_immortal(object_at(heap, target))) {
        return HEAP_TYPE;
    }
    uint16_t kind = shared_of(heap, target) == NULL ? WEAKREF_SHARED : 0;
    if (!list_add(heap, w, target)) {
        return HEAP_MEMORY;
    }
    w->head.head.n = kind;
    return HEAP_OK;
}

bool heap_weakref_is_shared(const struct heap *heap, heap_ref weakref)
{
    return is_shared(weakref_at(heap, weakref));
}

heap_ref heap_weakref_target_of(const struct heap *heap, heap_ref weakref)
{
    return weakref_at(heap, weakref)->target;
}

enum heap_error heap_replay_aim(struct heap *heap, heap_ref weakref, heap_ref target, bool shared)
{
    struct weakref *w = weakref_at(heap, weakref);
    HEAP_ASSERT(w->target == 0);
    if (object_is_immortal(object_at(heap, target)) || (shared && shared_of(heap, target) != NULL)) {
        return HEAP_TYPE;
    }
    if (!list_add(heap, w, target)) {
        return HEAP_MEMORY;
    }
    if (shared) {
        w->head.head.n = WEAKREF_SHARED;
    }
    return HEAP_OK;
}

enum heap_error heap_weakref_shared(heap_ref *weakref, struct heap *heap, heap_ref target)
{
    GIL_ASSERT_HELD(heap);
    if (object_is_immortal(object_at(heap, target))) {
        return HEAP_TYPE;
    }
    const struct weakref *shared = shared_of(heap, target);
    if (shared != NULL) {
        *weakref = object_ref(heap, shared);
        return heap_incref(heap, *weakref);
    }
    heap_ref made;
    enum heap_error error = heap_weakref_create(&made, heap);
    if (error != HEAP_OK) {
        return error;
    }
    error = heap_weakref_aim(heap, made, target);
    if (error != HEAP_OK) {
        object_decref(heap, made);
        return error;
    }
    *weakref = made;
    return HEAP_OK;
}

enum heap_error heap_weakref_notify(heap_ref *weakref, struct heap *heap, struct heap_session *session,
                                    heap_ref target)
{
    GIL_ASSERT_HELD(heap);
    if (object_is_immortal(object_at(heap, target))) {
        return HEAP_TYPE;
    }
    heap_ref made;
    enum heap_error error = create(&made, heap, WEAKREF_NOTIFY);
    if (error != HEAP_OK) {
        return error;
    }
    struct weakref_notify *w = (struct weakref_notify *)weakref_at(heap, made);
    w->session = session_note_number(session);
    if (handle_slot(heap, made) == 0 || handle_slot(heap, target) == 0 ||
        !list_add(heap, &w->weakref, target)) {
        object_decref(heap, made);
        return HEAP_MEMORY;
    }
    *weakref = made;
    return HEAP_OK;
}

heap_ref heap_weakref_target(struct heap *heap, heap_ref weakref)
{
    heap_ref target = weakref_at(heap, weakref)->target;
    return target != 0 && !dying_decides(heap, target) ? gc_meet_weakly(heap, target) : 0;
}

uint64_t heap_weakref_count(const struct heap *heap, heap_ref target)
{
    const struct weakref *first = first_of(heap, target);
    return first != NULL ? first->count : 0;
}

/* ---- the target's death ---- */

/* No session has that number: a weakref that has come back from a journal tells nobody. */
#define SILENT 0u

void weakref_silence_all(struct heap *heap)
{
    uint32_t target, ref;
    uint64_t position = 0;
    while (map32_next(&heap->weakrefs, &position, &target, &ref)) {
        for (; ref != 0; ref = weakref_at(heap, ref)->next) {
            struct weakref *w = weakref_at(heap, ref);
            if (w->head.head.n == WEAKREF_NOTIFY) {
                ((struct weakref_notify *)w)->session = SILENT;
            }
        }
    }
}

static void tell(struct heap *heap, const struct weakref *w, uint32_t target)
{
    if (((const struct weakref_notify *)w)->session == SILENT) {
        return;
    }
    const struct heap_event event = {.kind = HEAP_EVENT_WEAKREF,
                                     .session = ((const struct weakref_notify *)w)->session,
                                     .weakref = handle_id(heap, object_ref(heap, w)),
                                     .object = handle_id(heap, target)};
    heap->observer.event(heap->observer.arg, &event);
}

void weakref_clear_all(struct heap *heap, uint32_t target,
                       bool (*condemned)(const struct heap *heap, uint32_t ref))
{
    uint32_t ref = *map32_find(&heap->weakrefs, target);
    map32_remove(&heap->weakrefs, target);
    object_at(heap, target)->flags &= (uint8_t)~FLAG_WEAKREF;
    while (ref != 0) {
        struct weakref *w = weakref_at(heap, ref);
        visit_before_change(heap, ref);
        w->target = 0;
        if (w->head.head.n == WEAKREF_NOTIFY && heap->observer.event != NULL &&
            (condemned == NULL || !condemned(heap, ref))) {
            tell(heap, w, target);
        }
        ref = w->next;
    }
}

void weakref_clear_first(struct heap *heap, uint32_t target,
                         bool (*condemned)(const struct heap *heap, uint32_t ref))
{
    uint32_t ref = *map32_find(&heap->weakrefs, target);
    struct weakref *w = weakref_at(heap, ref);
    visit_before_change(heap, ref);
    lasting_tell(heap, HEAP_EFFECT_UNAIMED, ref, false);
    weakref_unlink(heap, w);
    if (w->head.head.n == WEAKREF_NOTIFY && heap->observer.event != NULL &&
        (condemned == NULL || !condemned(heap, ref))) {
        tell(heap, w, target);
    }
}

/* ---- checker ---- */

/* The list of one target, which lives. */
static uint32_t check_list(struct heap *heap, uint32_t target, uint32_t first, FILE *why)
{
    uint32_t length = 0, prev = 0;
    for (uint32_t ref = first; ref != 0; ref = weakref_at(heap, ref)->next, length++) {
        const struct weakref *w = weakref_at(heap, ref);
        if (w->target != target || w->prev != prev) {
            fprintf(why, "weakref %#x is listed under %#x but points elsewhere\n", ref, target);
            return 1;
        }
        if (is_shared(w) && ref != first) {
            fprintf(why, "%#x has shared weakref %#x behind another\n", target, ref);
            return 1;
        }
        prev = ref;
    }
    if (length != weakref_at(heap, first)->count) {
        fprintf(why, "%#x has %u weakrefs and counts %u\n", target, length, weakref_at(heap, first)->count);
        return 1;
    }
    return 0;
}

uint32_t weakref_check(struct heap *heap, FILE *why)
{
    uint32_t problems = 0, target, first;
    uint64_t position = 0;
    while (map32_next(&heap->weakrefs, &position, &target, &first)) {
        bool live = pymalloc_is_block(&heap->pm, target, ref_is_atom(target) ? POOL_ATOM : POOL_CONTAINER);
        if (!live || first == 0 || !(object_at(heap, target)->flags & FLAG_WEAKREF)) {
            fprintf(why, "the weakref table has %#x, which is no live target\n", target);
            problems++;
        } else {
            problems += check_list(heap, target, first, why);
        }
    }
    return problems + map32_check(&heap->weakrefs, why);
}
