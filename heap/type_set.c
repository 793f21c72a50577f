/* type_set.c -- sets and frozensets: a table of members.
 *
 * Every live entry owns one reference of its member.  A frozenset is a set that is only added to, while it
 * is built.  The table itself is table.c's.
 */
#include "table.h"

static struct table *set_at(const struct heap *heap, heap_ref ref)
{
    struct table *t = table_at(heap, ref);
    HEAP_ASSERT(t->head.head.type == HEAP_T_SET || t->head.head.type == HEAP_T_FROZENSET);
    return t;
}

enum heap_error heap_set_create(heap_ref *set, struct heap *heap, bool frozen, uint32_t room)
{
    GIL_ASSERT_HELD(heap);
    enum heap_type type = frozen ? HEAP_T_FROZENSET : HEAP_T_SET;
    struct table *t = (struct table *)object_container_create(heap, type, sizeof *t);
    if (t == NULL) {
        return HEAP_MEMORY;
    }
    if (!gc_track(heap, &t->head) || table_reserve_hint(heap, t, room) != HEAP_OK) {
        object_decref(heap, object_ref(heap, t));
        return HEAP_MEMORY;
    }
    *set = object_ref(heap, t);
    return HEAP_OK;
}

uint32_t heap_set_len(const struct heap *heap, heap_ref set)
{
    GIL_ASSERT_HELD(heap);
    return set_at(heap, set)->live;
}

enum heap_error heap_set_contains(bool *contains, struct heap *heap, heap_ref set, heap_ref member)
{
    GIL_ASSERT_HELD(heap);
    uint32_t number, hash;
    enum heap_error error = table_find(&number, &hash, heap, set_at(heap, set), member);
    if (error == HEAP_OK) {
        *contains = number != TABLE_NONE;
    }
    return error;
}

enum heap_error heap_set_add_steal(bool *added, struct heap *heap, heap_ref set, heap_ref member)
{
    GIL_ASSERT_HELD(heap);
    struct table *t = set_at(heap, set);
    uint32_t number, hash;
    enum heap_error error = table_find(&number, &hash, heap, t, member);
    if (error == HEAP_OK && number == TABLE_NONE) {
        error = table_reserve(heap, t, 1);
        if (error == HEAP_OK) {
            table_append(heap, t, hash, member, 0);
            *added = true;
            return HEAP_OK;
        }
    }
    if (error == HEAP_OK) {
        *added = false;
    }
    object_decref(heap, member);
    return error;
}

enum heap_error heap_set_discard(heap_ref *own_member, struct heap *heap, heap_ref set, heap_ref member)
{
    GIL_ASSERT_HELD(heap);
    struct table *t = set_at(heap, set);
    uint32_t number, hash;
    enum heap_error error = table_find(&number, &hash, heap, t, member);
    if (error != HEAP_OK) {
        return error;
    }
    *own_member = 0;
    if (number != TABLE_NONE) {
        *own_member = *table_entry(t, number);
        gc_barrier(heap, *own_member); /* the count stays, but what the set had becomes the caller's */
        table_remove(heap, t, number);
    }
    return HEAP_OK;
}

void heap_set_clear(struct heap *heap, heap_ref set)
{
    GIL_ASSERT_HELD(heap);
    table_clear(heap, set_at(heap, set));
}

bool heap_set_next(const struct heap *heap, heap_ref set, uint32_t *pos, heap_ref *member)
{
    const struct table *t = set_at(heap, set);
    uint32_t number = table_next(t, pos);
    if (number == TABLE_NONE) {
        return false;
    }
    *member = *table_entry(t, number);
    return true;
}
