/* literal_share.c -- finds what an answer shares, so that a `$let` can rebuild it.
 *
 * Nodes are the containers that the answer writes out, found breadth first from the object asked for, down
 * to the depth asked for.  A node gets a label if
 *
 *   - it stands in more than one place (as a weakref's target too), or
 *   - it would be nested deeper than a request may be where it stands, or
 *   - it is a dict, set or frozenset, and to hash its keys or members a label is needed: then it must come
 *     after that label.
 *
 * Order of the labels: first those that hash nothing that has a label; they may name labels that come later.
 * Then the others, each behind what hashing it needs: tuples and frozensets in keys with what they consist
 * of first.  That order exists because tuples and frozensets alone make no cycle.
 *
 * Start at literal_share_make().
 */
#include <stdlib.h>

#include "literal_graph.h"

/* {"$let":{"0":HERE; behind "in" it is one less. */
#define LABEL_NESTING 2

struct search {
    struct literal_share *share;
    struct heap *heap;
    const struct literal_format *format;
    struct literal_error *error;
};

/* ---- nodes ---- */

static bool add_node(struct search *search, heap_ref obj, uint32_t parent, int64_t depth)
{
    struct literal_share *share = search->share;
    if (share->count >= PLAN_NONE || !LITERAL_GROW(share->nodes, NULL, share->room, share->count) ||
        !literal_map_put(&share->numbers, obj, (uint32_t)share->count)) {
        return literal_fail_memory(search->error);
    }
    share->nodes[share->count++] =
        (struct share_node){.obj = obj, .parent = parent, .uses = 1, .label = PLAN_NONE, .depth = depth};
    return true;
}

/* A container found in node `parent`. */
static bool meet(struct search *search, heap_ref obj, uint32_t parent)
{
    struct share_node *node = literal_share_find(search->share, obj);
    if (node) {
        node->uses++;
        return true;
    }
    int64_t depth = search->share->nodes[parent].depth + 1;
    if ((search->format->depth >= 0 && depth >= search->format->depth) ||
        heap_type(search->heap, obj) == HEAP_T_CLASS ||
        !literal_fits(search->heap, obj, LABEL_NESTING, search->format->max_nesting)) {
        return true; /* it will be a `$ref` */
    }
    return add_node(search, obj, parent, depth);
}

/* Whether so many nodes can still be an answer within the limit: each writes two bytes at least. */
static bool is_small_enough(struct search *search)
{
    size_t max = search->format->max_bytes;
    return max == 0 || search->share->count <= max / 2 ||
           literal_fail(search->error, LITERAL_OUTPUT,
                        "the answer would be larger than --max-output; ask with less depth");
}

static bool find_nodes(struct search *search, heap_ref obj)
{
    if (!add_node(search, obj, PLAN_NONE, 0)) {
        return false;
    }
    for (size_t i = 0; i < search->share->count; i++) {
        struct literal_children children = literal_children_of(search->heap, search->share->nodes[i].obj);
        for (heap_ref child = literal_children_next(&children, search->heap); child != 0;
             child = literal_children_next(&children, search->heap)) {
            if (heap_is_container(search->heap, child) && !meet(search, child, (uint32_t)i)) {
                return false;
            }
        }
        if (!is_small_enough(search)) {
            return false;
        }
    }
    return true;
}

/* A weakref's target that the answer writes out anyway is named by its label. */
static void count_weak_uses(struct search *search)
{
    struct literal_share *share = search->share;
    for (size_t i = 0; i < share->count; i++) {
        if (heap_type(search->heap, share->nodes[i].obj) == HEAP_T_WEAKREF) {
            heap_ref target = heap_weakref_target(search->heap, share->nodes[i].obj);
            struct share_node *node = target ? literal_share_find(share, target) : NULL;
            if (node) {
                node->uses++;
            }
        }
    }
}

/* ---- labels ---- */

/* A label whose number is not known yet. */
#define LABEL_WANTED (PLAN_NONE - 1)

static bool has_label(const struct share_node *node)
{
    return node->label != PLAN_NONE;
}

/* Marks what is shared, and what is nested too deep where it stands when `base` brackets are around the
 * answer.  Returns whether anything was marked. */
static bool mark_shared(struct search *search, unsigned base)
{
    struct literal_share *share = search->share;
    bool any = false;
    for (size_t i = 0; i < share->count; i++) { /* a node's only parent comes before it */
        struct share_node *node = &share->nodes[i];
        node->nesting = base;
        if (i > 0 && node->uses == 1) {
            const struct share_node *parent = &share->nodes[node->parent];
            node->nesting = parent->nesting + literal_levels(search->heap, parent->obj);
        }
        if (has_label(node) || node->uses > 1 ||
            !literal_fits(search->heap, node->obj, node->nesting, search->format->max_nesting)) {
            node->label = LABEL_WANTED;
            node->nesting = LABEL_NESTING;
            any = true;
        }
    }
    return any;
}

static bool append_label(struct search *search, uint32_t number)
{
    struct literal_share *share = search->share;
    if (!LITERAL_GROW(share->labels, NULL, share->label_room, share->label_count)) {
        return literal_fail_memory(search->error);
    }
    share->nodes[number].label = (uint32_t)share->label_count;
    share->labels[share->label_count++] = number;
    return true;
}

/* ---- what hashing needs ---- */

static bool is_hashed_by_content(enum heap_type type)
{
    return type == HEAP_T_TUPLE || type == HEAP_T_FROZENSET;
}

static bool is_hashing(enum heap_type type)
{
    return type == HEAP_T_DICT || type == HEAP_T_SET || type == HEAP_T_FROZENSET;
}

/* A node on the way down, and which of its children comes next. */
struct path {
    uint32_t number;
    struct literal_children children;
};

struct descent {
    struct path *path;
    size_t depth, room;
};

static bool descend(struct search *search, struct descent *descent, uint32_t number)
{
    struct share_node *node = &search->share->nodes[number];
    if (!LITERAL_GROW(descent->path, NULL, descent->room, descent->depth)) {
        return literal_fail_memory(search->error);
    }
    node->visited = true;
    descent->path[descent->depth++] = (struct path){number, literal_children_of(search->heap, node->obj)};
    return true;
}

/* The next child whose hash the node's keys need, as a node; NULL: no more. */
static struct share_node *next_hashed(struct search *search, struct path *top)
{
    for (heap_ref child = literal_children_next(&top->children, search->heap); child != 0;
         child = literal_children_next(&top->children, search->heap)) {
        bool counts = top->children.is_key || top->children.type == HEAP_T_TUPLE;
        struct share_node *node = counts ? literal_share_find(search->share, child) : NULL;
        if (node) {
            return node;
        }
    }
    return NULL;
}

/* All that the node's hashing needs is behind us: decides about its label, and gives it its place. */
static bool ascend(struct search *search, struct descent *descent)
{
    struct share_node *node = &search->share->nodes[descent->path[--descent->depth].number];
    if (node->touches && is_hashing(heap_type(search->heap, node->obj)) && !has_label(node)) {
        node->label = LABEL_WANTED;
        node->nesting = LABEL_NESTING;
    }
    if (has_label(node) && !append_label(search, (uint32_t)(node - search->share->nodes))) {
        return false;
    }
    if (descent->depth > 0 && (node->touches || has_label(node))) {
        search->share->nodes[descent->path[descent->depth - 1].number].touches = true;
    }
    return true;
}

/* Depth first below a dict, set or frozenset, through tuples and frozensets. */
static bool order_below(struct search *search, struct descent *descent, uint32_t number)
{
    if (!descend(search, descent, number)) {
        return false;
    }
    while (descent->depth > 0) {
        struct path *top = &descent->path[descent->depth - 1];
        struct share_node *child = next_hashed(search, top);
        if (!child) {
            if (!ascend(search, descent)) {
                return false;
            }
            continue;
        }
        struct share_node *node = &search->share->nodes[top->number];
        node->touches = node->touches || has_label(child);
        if (is_hashed_by_content(heap_type(search->heap, child->obj)) && !child->visited &&
            !descend(search, descent, (uint32_t)(child - search->share->nodes))) {
            return false;
        }
    }
    return true;
}

/* Gives the labels of everything that hashing reaches their places, at the end of the list. */
static bool order_hashing(struct search *search)
{
    struct literal_share *share = search->share;
    struct descent descent = {0};
    bool good = true;
    for (size_t i = 0; i < share->count && good; i++) {
        if (is_hashing(heap_type(search->heap, share->nodes[i].obj)) && !share->nodes[i].visited) {
            good = order_below(search, &descent, (uint32_t)i);
        }
    }
    free(descent.path);
    return good;
}

/* Puts the labels that hash nothing in front. */
static bool order_others(struct search *search)
{
    struct literal_share *share = search->share;
    size_t late = share->label_count;
    for (size_t i = 0; i < share->count; i++) {
        if (share->nodes[i].label == LABEL_WANTED && !append_label(search, (uint32_t)i)) {
            return false;
        }
    }
    size_t count = share->label_count;
    uint32_t *turned = malloc((count + 1) * sizeof *turned);
    if (!turned) {
        return literal_fail_memory(search->error);
    }
    for (size_t i = 0; i < count; i++) {
        turned[i] = share->labels[(i + late) % count];
        share->nodes[turned[i]].label = (uint32_t)i;
    }
    free(share->labels);
    share->labels = turned;
    share->label_room = count + 1;
    return true;
}

/* ---- the whole ---- */

bool literal_share_make(struct literal_share *share, struct heap *heap, heap_ref obj,
                        const struct literal_format *format, struct literal_error *error)
{
    struct search search = {share, heap, format, error};
    *share = (struct literal_share){0};
    if (!literal_fits(heap, obj, LABEL_NESTING, format->max_nesting)) {
        return true;
    }
    if (!find_nodes(&search, obj)) {
        return false;
    }
    count_weak_uses(&search);
    if (!mark_shared(&search, 0)) {
        return true;
    }
    mark_shared(&search, LABEL_NESTING);
    return order_hashing(&search) && order_others(&search);
}

void literal_share_fini(struct literal_share *share)
{
    free(share->nodes);
    free(share->labels);
    literal_map_fini(&share->numbers);
}
