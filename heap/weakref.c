/* weakref.c -- weak references: objects that name another without keeping it alive.
 *
 * The table maps a target to its newest weakref; the others follow through `next`, newest first.  The one
 * shared weakref of a target (n = 1) is in that list like any other.  A weakref whose target died has
 * target 0 and is in no list.
 *
 * Invariant: FLAG_WEAKREF on the target == the table has an entry for it.   Checker: weakref_check().
 */
#include "visit.h"

static struct weakref *weakref_at(const struct heap *heap, uint32_t ref)
{
    struct weakref *w = (struct weakref *)object_at(heap, ref);
    HEAP_ASSERT(w->head.head.type == HEAP_T_WEAKREF);
    return w;
}

/* The target's shared weakref, or NULL. */
static struct weakref *find_shared(const struct heap *heap, uint32_t target)
{
    if (!(object_at(heap, target)->flags & FLAG_WEAKREF)) {
        return NULL;
    }
    for (uint32_t ref = *map32_find(&heap->weakrefs, target); ref != 0; ref = weakref_at(heap, ref)->next) {
        if (weakref_at(heap, ref)->head.head.n == 1) {
            return weakref_at(heap, ref);
        }
    }
    return NULL;
}

enum heap_error heap_weakref_create(heap_ref *weakref, struct heap *heap)
{
    GIL_ASSERT_HELD(heap);
    struct weakref *w = (struct weakref *)object_container_create(heap, HEAP_T_WEAKREF, sizeof *w);
    if (w == NULL) {
        return HEAP_MEMORY;
    }
    if (!gc_track(heap, &w->head)) {
        object_decref(heap, object_ref(heap, w));
        return HEAP_MEMORY;
    }
    *weakref = object_ref(heap, w);
    return HEAP_OK;
}

enum heap_error heap_weakref_aim(struct heap *heap, heap_ref weakref, heap_ref target)
{
    GIL_ASSERT_HELD(heap);
    struct weakref *w = weakref_at(heap, weakref);
    struct object *o = object_at(heap, target);
    if (object_is_immortal(o)) {
        return HEAP_TYPE;
    }
    bool shared = find_shared(heap, target) == NULL;
    uint32_t *newest = map32_put(&heap->weakrefs, target);
    if (newest == NULL) {
        return HEAP_MEMORY;
    }
    visit_before_change(heap, weakref);
    w->target = target;
    w->head.head.n = shared;
    w->next = *newest;
    *newest = weakref;
    o->flags |= FLAG_WEAKREF;
    return HEAP_OK;
}

enum heap_error heap_weakref_shared(heap_ref *weakref, struct heap *heap, heap_ref target)
{
    GIL_ASSERT_HELD(heap);
    if (object_is_immortal(object_at(heap, target))) {
        return HEAP_TYPE;
    }
    struct weakref *shared = find_shared(heap, target);
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

heap_ref heap_weakref_target(const struct heap *heap, heap_ref weakref)
{
    return weakref_at(heap, weakref)->target;
}

void weakref_clear_all(struct heap *heap, uint32_t target)
{
    uint32_t ref = *map32_find(&heap->weakrefs, target);
    while (ref != 0) {
        struct weakref *w = weakref_at(heap, ref);
        visit_before_change(heap, ref);
        ref = w->next;
        w->target = 0;
        w->next = 0;
    }
    map32_remove(&heap->weakrefs, target);
    object_at(heap, target)->flags &= (uint8_t)~FLAG_WEAKREF;
}

void weakref_unlink(struct heap *heap, struct weakref *w)
{
    if (w->target == 0) {
        return;
    }
    uint32_t self = object_ref(heap, w);
    uint32_t *link = map32_find(&heap->weakrefs, w->target);
    bool newest = true;
    while (*link != self) {
        link = &weakref_at(heap, *link)->next;
        newest = false;
    }
    if (newest && w->next == 0) {
        map32_remove(&heap->weakrefs, w->target);
        object_at(heap, w->target)->flags &= (uint8_t)~FLAG_WEAKREF;
    } else {
        *link = w->next;
    }
    w->target = 0;
}

uint32_t weakref_check(struct heap *heap, FILE *why)
{
    uint32_t problems = 0, target, ref;
    uint64_t position = 0;
    while (map32_next(&heap->weakrefs, &position, &target, &ref)) {
        bool live = pymalloc_is_block(&heap->pm, target, ref_is_atom(target) ? POOL_ATOM : POOL_CONTAINER);
        if (!live || !(object_at(heap, target)->flags & FLAG_WEAKREF)) {
            fprintf(why, "the weakref table has %#x, which is no live target\n", target);
            problems++;
            continue;
        }
        unsigned shared = 0;
        for (; ref != 0; ref = weakref_at(heap, ref)->next) {
            shared += weakref_at(heap, ref)->head.head.n;
            if (weakref_at(heap, ref)->target != target) {
                fprintf(why, "weakref %#x is listed under %#x but points elsewhere\n", ref, target);
                problems++;
                break;
            }
        }
        if (shared > 1) {
            fprintf(why, "%#x has %u shared weakrefs\n", target, shared);
            problems++;
        }
    }
    return problems + map32_check(&heap->weakrefs, why);
}
