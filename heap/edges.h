/* edges.h -- what a container refers to, inline for the loops of the collector.
 *
 * Every container's references lie in one array, wherever its type keeps them; that is all that marking,
 * subtracting, dying and recounting need to know.
 */
#ifndef HEAPD_HEAP_EDGES_H
#define HEAPD_HEAP_EDGES_H

#include "heap_internal.h"
#include "shape.h"
#include "table.h"

/* References that lie in the object itself: the collector reads them, their type changes them. */
static inline uint32_t *edges_writable(const uint32_t *refs)
{
    union {
        const uint32_t *in;
        uint32_t *out;
    } cast = {.in = refs};
    return cast.out;
}

static inline bool list_is_inside(const struct list *l)
{
    return l->head.head.n != LIST_ELSEWHERE;
}

static inline struct edges list_edges(const struct list *l)
{
    if (list_is_inside(l)) {
        return (struct edges){.refs = edges_writable(l->u.inside), .count = l->head.head.n};
    }
    return (struct edges){.refs = l->u.out.items, .count = l->u.out.len};
}

static inline bool tuple_is_outside(const struct tuple *t)
{
    return (t->head.head.flags & FLAG_OUT_OF_LINE) != 0;
}

static inline struct edges tuple_edges(const struct tuple *t)
{
    if (tuple_is_outside(t)) {
        return (struct edges){.refs = t->u.out.items, .count = t->u.out.len};
    }
    return (struct edges){.refs = edges_writable(t->u.inside), .count = t->head.head.n};
}

/* Two an entry for dicts, one for sets; deleted entries are 0. */
static inline struct edges table_edges(const struct table *t)
{
    return (struct edges){.refs = table_refs(t), .count = t->fill * table_stride(t)};
}

static inline bool instance_is_outside(const struct instance *i)
{
    return (i->head.head.flags & FLAG_OUT_OF_LINE) != 0;
}

/* The number of its shape. */
static inline uint32_t instance_shape(const struct instance *i)
{
    return i->head.head.flags & FLAG_SLOTTED ? i->head.head.n : i->u.in.shape;
}

/* Not valid where there are none. */
static inline uint32_t *instance_values(const struct instance *i)
{
    if (i->head.head.flags & FLAG_SLOTTED) {
        return edges_writable((const uint32_t *)(&i->head + 1));
    }
    return instance_is_outside(i) ? i->u.out.values : edges_writable(i->u.in.values);
}

static inline struct edges instance_edges(const struct heap *heap, const struct instance *i)
{
    const struct shape *shape = shape_at(heap, instance_shape(i));
    return (struct edges){.refs = instance_values(i), .count = shape->count, .extra = shape->class};
}

static inline struct edges object_edges(const struct heap *heap, const struct container *c)
{
    switch ((enum heap_type)c->head.type) {
    case HEAP_T_LIST:
        return list_edges((const struct list *)c);
    case HEAP_T_TUPLE:
        return tuple_edges((const struct tuple *)c);
    case HEAP_T_DICT:
    case HEAP_T_SET:
    case HEAP_T_FROZENSET:
        return table_edges((const struct table *)c);
    case HEAP_T_INSTANCE:
        return instance_edges(heap, (const struct instance *)c);
    default: /* class, weakref */
        return (struct edges){0};
    }
}

#endif
