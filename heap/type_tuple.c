/* type_tuple.c -- tuples: a fixed row of references, inside the block up to 124 of them.
 *
 * A tuple is tracked by the collector exactly if it holds something tracked, decided once: when it is
 * made, or, for a literal that gives it forward references, when the last of them is filled
 * (heap_tuples_complete()).  The empty tuple is one immortal object.
 *
 * FLAG_INCOMPLETE: it has a hole, or contains a tuple that was incomplete when it was put there.
 */
#include "edges.h"

/* ---- layout ---- */

uint64_t tuple_buffer_bytes(const struct tuple *t)
{
    return tuple_is_outside(t) ? pymalloc_buffer_rounded((size_t)t->u.out.len * 4) : 0;
}

void tuple_free_buffers(struct heap *heap, struct tuple *t)
{
    compare_forget(heap, &t->head);
    if (tuple_is_outside(t)) {
        object_buffer_free(heap, HEAP_T_TUPLE, t->u.out.items, (size_t)t->u.out.len * 4);
        t->u.out.items = NULL;
    }
}

/* ---- making one ---- */

/* A tuple of n holes, or NULL.  n > 0. */
static struct tuple *tuple_alloc(struct heap *heap, uint32_t n)
{
    bool outside = n > TUPLE_INSIDE_MAX;
    uint32_t bytes = outside ? 0 : (uint32_t)sizeof(struct container) + n * 4;
    struct tuple *t = (struct tuple *)object_container_create(
        heap, HEAP_T_TUPLE, bytes < sizeof *t ? (uint32_t)sizeof *t : bytes);
    if (t == NULL || !outside) {
        if (t != NULL) {
            t->head.head.n = (uint16_t)n;
        }
        return t;
    }
    uint32_t *items = object_buffer_alloc(heap, HEAP_T_TUPLE, (size_t)n * 4);
    t->head.head.flags |= FLAG_OUT_OF_LINE;
    if (items == NULL) {
        object_decref(heap, object_ref(heap, t));
        return NULL;
    }
    t->u.out.items = items;
    t->u.out.len = n;
    return t;
}

/* FLAG_TRACKED if one of the items is tracked, FLAG_INCOMPLETE if one is a hole or incomplete. */
static unsigned flags_from_items(const struct heap *heap, const uint32_t *items, uint32_t n)
{
    unsigned flags = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (items[i] == 0) {
            flags |= FLAG_INCOMPLETE;
        } else if (!ref_is_atom(items[i])) {
            flags |= object_at(heap, items[i])->flags & (FLAG_TRACKED | FLAG_INCOMPLETE);
        }
    }
    return flags;
}

enum heap_error heap_tuple_create_steal(heap_ref *tuple, struct heap *heap, const heap_ref *items, uint32_t n)
{
    GIL_ASSERT_HELD(heap);
    if (n == 0) {
        *tuple = heap->empty_tuple;
        return HEAP_OK;
    }
    struct tuple *t = tuple_alloc(heap, n);
    if (t == NULL) {
        goto fail_alloc;
    }
    unsigned flags = flags_from_items(heap, items, n);
    if (flags & FLAG_INCOMPLETE) {
        t->head.head.flags |= FLAG_INCOMPLETE;
    } else if ((flags & FLAG_TRACKED) && !gc_track(heap, &t->head)) {
        goto fail_track;
    }
    memcpy(tuple_edges(t).refs, items, (size_t)n * 4);
    *tuple = object_ref(heap, t);
    return HEAP_OK;

fail_track:
    memset(tuple_edges(t).refs, 0, (size_t)n * 4);
    object_decref(heap, object_ref(heap, t));
fail_alloc:
    for (uint32_t i = 0; i < n; i++) {
        heap_decref(heap, items[i]);
    }
    return HEAP_MEMORY;
}

bool heap_is_incomplete(const struct heap *heap, heap_ref obj)
{
    return !ref_is_atom(obj) && (object_at(heap, obj)->flags & FLAG_INCOMPLETE);
}

/* ---- completing tuples that were made with holes ---- */

/* While heap_tuples_complete() runs, `gc` of an incomplete tuple is its position in the walk: 0 not
 * reached, VISITING + next item while on the path.  Complete ones have no FLAG_INCOMPLETE. */
struct path_entry {
    struct tuple *tuple;
    uint32_t next; /* item to look at next */
    bool tracked;  /* something tracked was seen below */
};

/* Looks at the tuple's items from `next` on.  Returns an incomplete tuple to go down into, or NULL. */
static struct tuple *next_incomplete(struct heap *heap, struct path_entry *top)
{
    struct edges edges = tuple_edges(top->tuple);
    while (top->next < edges.count) {
        uint32_t ref = edges.refs[top->next];
        HEAP_ASSERT(ref != 0);
        struct object *o = object_at(heap, ref);
        if (!ref_is_atom(ref) && (o->flags & FLAG_INCOMPLETE)) {
            return (struct tuple *)o;
        }
        top->tracked = top->tracked || (!ref_is_atom(ref) && (o->flags & FLAG_TRACKED));
        top->next++;
    }
    return NULL;
}

/* Depth first from one tuple, items first; `path` has room for as many as there are incomplete tuples. */
static enum heap_error complete_from(struct heap *heap, struct tuple *root, struct path_entry *path)
{
    uint32_t depth = 0;
    path[depth++] = (struct path_entry){.tuple = root};
    root->head.gc = 1;
    enum heap_error error = HEAP_OK;
    while (depth > 0) {
        struct path_entry *top = &path[depth - 1];
        struct tuple *below = error == HEAP_OK ? next_incomplete(heap, top) : NULL;
        if (below != NULL && below->head.gc == 0) {
            below->head.gc = 1;
            path[depth++] = (struct path_entry){.tuple = below};
            continue;
        }
        if (below != NULL) { /* it is on the path: tuples alone lead back to it */
            error = HEAP_TUPLE_CYCLE;
        }
        top->tuple->head.gc = 0;
        if (error == HEAP_OK) {
            top->tuple->head.head.flags &= (uint8_t)~FLAG_INCOMPLETE;
            if (top->tracked && !gc_track(heap, &top->tuple->head)) {
                error = HEAP_MEMORY;
            }
        }
        depth--;
    }
    return error;
}

enum heap_error heap_tuples_complete(struct heap *heap, const heap_ref *tuples, uint32_t n)
{
    GIL_ASSERT_HELD(heap);
    if (n == 0) {
        return HEAP_OK;
    }
    struct path_entry *path = pymalloc_table_alloc(&heap->pm, (size_t)n * sizeof *path);
    if (path == NULL) {
        return HEAP_MEMORY;
    }
    enum heap_error error = HEAP_OK;
    for (uint32_t i = 0; i < n && error == HEAP_OK; i++) {
        struct tuple *t = (struct tuple *)object_at(heap, tuples[i]);
        if (t->head.head.flags & FLAG_INCOMPLETE) {
            error = complete_from(heap, t, path);
        }
    }
    pymalloc_table_free(&heap->pm, path, (size_t)n * sizeof *path);
    return error;
}
