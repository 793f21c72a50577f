/* literal_graph.h -- walking containers, and the sharing found: literal_write.c and literal_share.c.
 */
#ifndef HEAPD_PROTOCOL_LITERAL_GRAPH_H
#define HEAPD_PROTOCOL_LITERAL_GRAPH_H

#include "literal_internal.h"

/* ---- the children of a container, in the order of the text ---- */

/* Classes and weakrefs have none, an instance's class is none. */
struct literal_children {
    heap_ref container;
    enum heap_type type;
    uint32_t pos;
    heap_ref value;   /* of a dict: what the next call gives, 0: a key */
    bool is_key;      /* the child given last is a dict's key or a member of a set */
    const char *name; /* of an instance: the attribute given last; ends in NUL */
};

static inline struct literal_children literal_children_of(const struct heap *heap, heap_ref container)
{
    return (struct literal_children){.container = container, .type = heap_type(heap, container)};
}

/* The next child, borrowed; 0: no more. */
heap_ref literal_children_next(struct literal_children *children, const struct heap *heap);

/* Whether a dict is written as a plain JSON object. */
bool literal_is_plain_dict(const struct heap *heap, heap_ref dict);

/* Whether a container can be written where `nesting` brackets are open, with each container in it as
 * `$ref` or `$label`. */
bool literal_fits(const struct heap *heap, heap_ref container, unsigned nesting, unsigned max_nesting);

/* How many brackets stand around its children, its own and its form's. */
unsigned literal_levels(const struct heap *heap, heap_ref container);

/* ---- sharing: literal_share.c ---- */

/* A container that the answer writes out. */
struct share_node {
    heap_ref obj;
    uint32_t parent;  /* the node it was first found in */
    uint32_t uses;    /* places where it stands, the answer itself being one */
    uint32_t label;   /* its number in `labels`; PLAN_NONE: it stands where it is used */
    unsigned nesting; /* brackets around it */
    int64_t depth;    /* containers around it, at least */
    bool visited;     /* the search for what hashing needs was here */
    bool touches;     /* of tuples and frozensets: hashing it needs a label */
};

/* All containers of an answer with `$let`, breadth first; node 0 is the object asked for. */
struct literal_share {
    struct share_node *nodes;
    size_t count, room;
    struct literal_map numbers; /* object -> node */
    uint32_t *labels;           /* nodes that get a label, in the order in which they are written */
    size_t label_count, label_room;
};

/* What an answer of that format shares.  No labels: nothing is shared.  To be given to
 * literal_share_fini() in any case. */
bool literal_share_make(struct literal_share *share, struct heap *heap, heap_ref obj,
                        const struct literal_format *format, struct literal_error *error);
void literal_share_fini(struct literal_share *share);

/* The node of an object that the answer writes out, or NULL. */
static inline struct share_node *literal_share_find(const struct literal_share *share, heap_ref obj)
{
    uint32_t *number = literal_map_find(&share->numbers, obj);
    return number ? &share->nodes[*number] : NULL;
}

#endif
