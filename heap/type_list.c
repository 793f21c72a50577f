/* type_list.c -- lists: up to four items inside the block, more in a buffer that grows as CPython's does.
 *
 *   [ header, n ][ item item item item ]               n <= 4
 *   [ header, n = LIST_ELSEWHERE ][ items* len room ]  otherwise, until the list is cleared
 *
 * An item of 0 is a hole that a literal under construction will fill.
 * Invariant: len <= room; a buffer has at least one slot.
 */
#include "edges.h"
#include "visit.h"

#define LIST_LEN_MAX 0x40000000u /* references; a buffer of 4 GiB */

/* ---- layout ---- */

static struct list *list_at(const struct heap *heap, heap_ref ref)
{
    struct list *l = (struct list *)object_at(heap, ref);
    HEAP_ASSERT(l->head.head.type == HEAP_T_LIST);
    return l;
}

static inline uint32_t list_len(const struct list *l)
{
    return list_edges(l).count;
}

static inline uint32_t *list_items(const struct list *l)
{
    return list_edges(l).refs;
}

uint64_t list_buffer_bytes(const struct list *l)
{
    return list_is_inside(l) ? 0 : pymalloc_buffer_rounded((size_t)l->u.out.room * 4);
}

void list_free_buffers(struct heap *heap, struct list *l)
{
    if (!list_is_inside(l)) {
        object_buffer_free(heap, HEAP_T_LIST, l->u.out.items, (size_t)l->u.out.room * 4);
        l->head.head.n = 0;
    }
}

static void set_len(struct list *l, uint32_t len)
{
    if (list_is_inside(l)) {
        l->head.head.n = (uint16_t)len;
    } else {
        l->u.out.len = len;
    }
}

/* ---- room ---- */

static enum heap_error move_outside(struct heap *heap, struct list *l, uint32_t room)
{
    uint32_t *items = object_buffer_alloc(heap, HEAP_T_LIST, (size_t)room * 4);
    if (items == NULL) {
        return HEAP_MEMORY;
    }
    uint32_t len = l->head.head.n;
    memcpy(items, l->u.inside, len * sizeof *items);
    l->u.out.items = items;
    l->u.out.len = len;
    l->u.out.room = room;
    l->head.head.n = LIST_ELSEWHERE;
    return HEAP_OK;
}

/* The growth of CPython 3.9 and later: an eighth more, in steps of four. */
static uint32_t grown_room(uint32_t len)
{
    return (uint32_t)(((uint64_t)len + (len >> 3) + 6) & ~(uint64_t)3);
}

/* Makes room for `more` items behind the last. */
static enum heap_error make_room(struct heap *heap, struct list *l, uint32_t more)
{
    uint64_t wanted = (uint64_t)list_len(l) + more;
    if (wanted > LIST_LEN_MAX) {
        return HEAP_TOO_LONG;
    }
    if (list_is_inside(l)) {
        return wanted <= LIST_INSIDE_MAX ? HEAP_OK : move_outside(heap, l, grown_room((uint32_t)wanted));
    }
    if (wanted <= l->u.out.room) {
        return HEAP_OK;
    }
    uint32_t room = grown_room((uint32_t)wanted);
    uint32_t *items = object_buffer_realloc(heap, HEAP_T_LIST, l->u.out.items, (size_t)l->u.out.room * 4,
                                            (size_t)room * 4);
    if (items == NULL) {
        return HEAP_MEMORY;
    }
    l->u.out.items = items;
    l->u.out.room = room;
    return HEAP_OK;
}

/* A list that has shrunk below half of its buffer gives the rest back; failing to is harmless. */
static void give_room_back(struct heap *heap, struct list *l)
{
    if (list_is_inside(l) || l->u.out.len >= l->u.out.room / 2) {
        return;
    }
    uint32_t room = grown_room(l->u.out.len);
    if (room >= l->u.out.room) {
        return;
    }
    uint32_t *items = object_buffer_realloc(heap, HEAP_T_LIST, l->u.out.items, (size_t)l->u.out.room * 4,
                                            (size_t)room * 4);
    if (items != NULL) {
        l->u.out.items = items;
        l->u.out.room = room;
    }
}

/* ---- operations ---- */

enum heap_error heap_list_create(heap_ref *list, struct heap *heap, uint32_t room)
{
    GIL_ASSERT_HELD(heap);
    struct list *l = (struct list *)object_container_create(heap, HEAP_T_LIST, sizeof *l);
    if (l == NULL) {
        return HEAP_MEMORY;
    }
    if (!gc_track(heap, &l->head) ||
        (room > LIST_INSIDE_MAX && room <= LIST_LEN_MAX && move_outside(heap, l, room) != HEAP_OK)) {
        object_decref(heap, object_ref(heap, l));
        return HEAP_MEMORY;
    }
    *list = object_ref(heap, l);
    return HEAP_OK;
}

enum heap_error heap_list_create_steal(heap_ref *list, struct heap *heap, const heap_ref *items, uint32_t n)
{
    enum heap_error error = heap_list_create(list, heap, n);
    struct list *l = error == HEAP_OK ? list_at(heap, *list) : NULL;
    if (l != NULL && n > LIST_LEN_MAX) {
        heap_decref(heap, *list);
        error = HEAP_TOO_LONG;
    }
    if (error != HEAP_OK) {
        for (uint32_t i = 0; i < n; i++) {
            heap_decref(heap, items[i]);
        }
        return error;
    }
    memcpy(list_items(l), items, n * sizeof *items);
    set_len(l, n);
    return HEAP_OK;
}

enum heap_error heap_list_append_steal(struct heap *heap, heap_ref list, heap_ref item)
{
    struct list *l = list_at(heap, list);
    visit_before_change(heap, list);
    if (list_is_inside(l) ? l->head.head.n == LIST_INSIDE_MAX : l->u.out.len == l->u.out.room) {
        enum heap_error error = make_room(heap, l, 1);
        if (error != HEAP_OK) {
            heap_decref(heap, item);
            return error;
        }
    }
    if (list_is_inside(l)) {
        l->u.inside[l->head.head.n++] = item;
    } else {
        l->u.out.items[l->u.out.len++] = item;
    }
    return HEAP_OK;
}

/* Appends n references found at `from`, which may lie in the list itself. */
static enum heap_error extend_by(struct heap *heap, heap_ref list, struct edges from, uint32_t n)
{
    struct list *l = list_at(heap, list);
    for (uint32_t i = 0; i < from.count; i++) {
        if (from.refs[i] != 0 && object_at(heap, from.refs[i])->refcount >= REFCOUNT_MAX - n &&
            !object_is_immortal(object_at(heap, from.refs[i]))) {
            return HEAP_LIMIT_REFS;
        }
    }
    visit_before_change(heap, list);
    bool itself = from.refs == list_items(l);
    enum heap_error error = make_room(heap, l, n);
    if (error != HEAP_OK) {
        return error;
    }
    uint32_t *items = list_items(l);
    const uint32_t *source = itself ? items : from.refs;
    uint32_t len = list_len(l);
    for (uint32_t i = 0; i < from.count; i++) {
        uint32_t ref = source[i];
        if (ref != 0) { /* a set's deleted members are no items */
            object_incref(heap, ref);
            items[len++] = ref;
        }
    }
    set_len(l, len);
    return HEAP_OK;
}

enum heap_error heap_list_extend(struct heap *heap, heap_ref list, heap_ref from)
{
    GIL_ASSERT_HELD(heap);
    const struct container *source = (const struct container *)object_at(heap, from);
    switch ((enum heap_type)source->head.type) {
    case HEAP_T_LIST:
    case HEAP_T_TUPLE: {
        struct edges edges = object_edges(heap, source);
        return extend_by(heap, list, edges, edges.count);
    }
    case HEAP_T_SET:
    case HEAP_T_FROZENSET:
        return extend_by(heap, list, object_edges(heap, source), ((const struct table *)source)->live);
    default:
        return HEAP_TYPE;
    }
}

enum heap_error heap_list_insert_steal(struct heap *heap, heap_ref list, uint32_t i, heap_ref item)
{
    GIL_ASSERT_HELD(heap);
    struct list *l = list_at(heap, list);
    visit_before_change(heap, list);
    enum heap_error error = make_room(heap, l, 1);
    if (error != HEAP_OK) {
        heap_decref(heap, item);
        return error;
    }
    uint32_t len = list_len(l);
    HEAP_ASSERT(i <= len);
    uint32_t *items = list_items(l);
    gc_before_insert(heap, list, i);
    memmove(items + i + 1, items + i, (len - i) * sizeof *items);
    items[i] = item;
    set_len(l, len + 1);
    return HEAP_OK;
}

void heap_list_set_steal(struct heap *heap, heap_ref list, uint32_t i, heap_ref item)
{
    GIL_ASSERT_HELD(heap);
    struct list *l = list_at(heap, list);
    HEAP_ASSERT(i < list_len(l));
    visit_before_change(heap, list);
    uint32_t old = list_items(l)[i];
    list_items(l)[i] = item;
    heap_decref(heap, old);
}

heap_ref heap_list_pop(struct heap *heap, heap_ref list, uint32_t i)
{
    GIL_ASSERT_HELD(heap);
    struct list *l = list_at(heap, list);
    uint32_t len = list_len(l);
    HEAP_ASSERT(i < len);
    visit_before_change(heap, list);
    uint32_t *items = list_items(l);
    uint32_t item = items[i];
    gc_before_remove(heap, list, i);
    memmove(items + i, items + i + 1, (len - i - 1) * sizeof *items);
    set_len(l, len - 1);
    give_room_back(heap, l);
    gc_barrier(heap, item); /* the count stays, but the edge becomes the caller's */
    return item;
}

void heap_list_clear(struct heap *heap, heap_ref list)
{
    GIL_ASSERT_HELD(heap);
    struct list *l = list_at(heap, list);
    visit_before_change(heap, list);
    struct list old = *l;
    bool is_taken = dead_take_over(heap, &l->head);
    l->head.head.n = 0;
    if (is_taken) {
        return;
    }
    struct edges edges = list_edges(&old);
    for (uint32_t i = edges.count; i-- > 0;) {
        heap_decref(heap, edges.refs[i]);
    }
    list_free_buffers(heap, &old);
}

/* ---- reading lists and tuples ---- */

static struct edges seq_edges(const struct heap *heap, heap_ref seq)
{
    const struct container *c = (const struct container *)object_at(heap, seq);
    return c->head.type == HEAP_T_LIST ? list_edges((const struct list *)c) : tuple_edges((const struct tuple *)c);
}

uint32_t heap_seq_len(const struct heap *heap, heap_ref seq)
{
    return seq_edges(heap, seq).count;
}

heap_ref heap_seq_item(const struct heap *heap, heap_ref seq, uint32_t i)
{
    struct edges edges = seq_edges(heap, seq);
    HEAP_ASSERT(i < edges.count);
    return edges.refs[i];
}
