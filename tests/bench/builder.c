/* builder.c -- objects of a graph: atoms and empty containers, then tuples, then what they all refer to.
 *
 * Start at builder_build().
 */
#include "builder.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

void must(enum heap_error error)
{
    if (error != HEAP_OK) {
        fprintf(stderr, "bench: %s\n", heap_error_sentence(error));
        exit(1);
    }
}

void *must_alloc(size_t count, size_t size)
{
    void *memory = calloc(count, size);
    if (memory == NULL) {
        must(HEAP_MEMORY);
    }
    return memory;
}

static uint32_t refs_of(const struct graph *graph, uint32_t i)
{
    return graph->start[i + 1] - graph->start[i];
}

/* The node at the end of edge j of node i.  Returns: new. */
static heap_ref edge_new(const struct builder *builder, uint32_t i, uint32_t j)
{
    heap_ref obj = builder->node[builder->graph->edge[builder->graph->start[i] + j]];
    must(heap_incref(builder->heap, obj));
    return obj;
}

static heap_ref share(struct builder *builder, heap_ref obj)
{
    must(heap_incref(builder->heap, obj));
    return obj;
}

/* Gives our count of the object to the session: what nothing but a C variable refers to is garbage to a
 * collection. */
static void keep(struct builder *builder, heap_ref obj)
{
    must(heap_hold(builder->heap, builder->session, obj));
    heap_decref(builder->heap, obj);
}

void builder_init(struct builder *builder, struct heap *heap, const struct graph *graph)
{
    *builder = (struct builder){.heap = heap, .session = heap_session_create(heap), .graph = graph};
    if (builder->session == NULL) {
        must(HEAP_MEMORY);
    }
    for (uint32_t i = 0; i < graph->n; i++) {
        uint32_t refs = refs_of(graph, i);
        builder->longest = refs > builder->longest ? refs : builder->longest;
    }
    builder->name = must_alloc(builder->longest, sizeof *builder->name);
    for (uint32_t j = 0; j < builder->longest; j++) {
        char text[16];
        int len = snprintf(text, sizeof text, "r%" PRIu32, j);
        must(heap_str_intern(&builder->name[j], heap, text, (size_t)len));
        keep(builder, builder->name[j]);
    }
    builder->class = must_alloc(builder->longest + 1u, sizeof *builder->class);
    for (uint32_t i = 0; i < graph->n; i++) {
        heap_ref *class = &builder->class[refs_of(graph, i)];
        if (graph->kind[i] == GRAPH_OBJECT && *class == 0) {
            must(heap_class_create(class, heap, (struct heap_text){"Node", 4}, NULL, 0));
            keep(builder, *class);
        }
    }
}

void builder_fini(struct builder *builder)
{
    heap_session_destroy(builder->heap, builder->session);
    free(builder->name);
    free(builder->class);
}

/* Makes node i if it needs no other; a tuple stays 0.  Each atom is an object of its own. */
static void make_node(struct builder *builder, uint32_t i)
{
    struct heap *heap = builder->heap;
    heap_ref *node = &builder->node[i];
    uint32_t refs = refs_of(builder->graph, i);
    char text[16];
    switch ((enum graph_kind)builder->graph->kind[i]) {
    case GRAPH_NONE:
        *node = share(builder, heap_none(heap));
        break;
    case GRAPH_BOOL:
        *node = share(builder, heap_bool(heap, true));
        break;
    case GRAPH_INT:
        must(heap_int_create(node, heap, 1000 + (int64_t)i));
        break;
    case GRAPH_FLOAT:
        must(heap_float_create(node, heap, i + 0.5));
        break;
    case GRAPH_STR:
        must(heap_str_create(node, heap, text, (size_t)snprintf(text, sizeof text, "s%" PRIu32, i)));
        break;
    case GRAPH_BYTES:
        must(heap_bytes_create(node, heap, text, (size_t)snprintf(text, sizeof text, "b%" PRIu32, i)));
        break;
    case GRAPH_LIST:
        must(heap_list_create(node, heap, refs));
        break;
    case GRAPH_DICT:
        must(heap_dict_create(node, heap, refs));
        break;
    case GRAPH_SET:
        must(heap_set_create(node, heap, false, refs));
        break;
    case GRAPH_OBJECT:
        must(heap_instance_create(node, heap, builder->class[refs], refs));
        break;
    case GRAPH_TUPLE:
    case GRAPH_KIND_COUNT:
        break;
    }
}

/* An edge of node i to a tuple that is not made yet, or n if there is none. */
static uint32_t missing_tuple(const struct builder *builder, uint32_t i)
{
    const struct graph *graph = builder->graph;
    for (uint32_t j = graph->start[i]; j < graph->start[i + 1]; j++) {
        if (builder->node[graph->edge[j]] == 0) {
            return graph->edge[j];
        }
    }
    return graph->n;
}

static void make_tuple(struct builder *builder, uint32_t i)
{
    uint32_t refs = refs_of(builder->graph, i);
    heap_ref *items = must_alloc(refs + 1u, sizeof *items);
    for (uint32_t j = 0; j < refs; j++) {
        items[j] = edge_new(builder, i, j);
    }
    must(heap_tuple_create_steal(&builder->node[i], builder->heap, items, refs));
    free(items);
}

/* Makes all tuples, each after those it refers to; no cycle goes through tuples alone. */
static void make_tuples(struct builder *builder)
{
    const struct graph *graph = builder->graph;
    uint32_t *waiting = must_alloc(graph->n + 1u, sizeof *waiting);
    for (uint32_t first = 0; first < graph->n; first++) {
        uint32_t depth = 0;
        if (builder->node[first] == 0) {
            waiting[depth++] = first;
        }
        while (depth > 0) {
            uint32_t missing = missing_tuple(builder, waiting[depth - 1]);
            if (missing < graph->n) {
                waiting[depth++] = missing;
            } else {
                make_tuple(builder, waiting[--depth]);
            }
        }
    }
    free(waiting);
}

/* Gives node i what it refers to. */
static void fill_node(struct builder *builder, uint32_t i)
{
    struct heap *heap = builder->heap;
    heap_ref node = builder->node[i];
    uint32_t refs = refs_of(builder->graph, i);
    for (uint32_t j = 0; j < refs; j++) {
        char name[16];
        size_t len;
        bool added;
        switch ((enum graph_kind)builder->graph->kind[i]) {
        case GRAPH_LIST:
            must(heap_list_append_steal(heap, node, edge_new(builder, i, j)));
            break;
        case GRAPH_DICT:
            must(heap_dict_set_steal(heap, node, share(builder, builder->name[j]), edge_new(builder, i, j)));
            break;
        case GRAPH_SET:
            must(heap_set_add_steal(&added, heap, node, edge_new(builder, i, j)));
            break;
        case GRAPH_OBJECT:
            len = (size_t)snprintf(name, sizeof name, "r%" PRIu32, j);
            must(heap_attr_set_steal(heap, node, name, len, edge_new(builder, i, j)));
            break;
        default:
            break;
        }
    }
}

/* Puts the roots and the holder itself into the holder, so that what is let go hangs from a cycle. */
static void fill_holder(struct builder *builder, heap_ref holder)
{
    for (uint32_t i = 0; i < builder->graph->roots; i++) {
        heap_ref root = share(builder, builder->node[builder->graph->root[i]]);
        must(heap_list_append_steal(builder->heap, holder, root));
    }
    must(heap_list_append_steal(builder->heap, holder, share(builder, holder)));
}

heap_ref builder_build(struct builder *builder)
{
    uint32_t n = builder->graph->n;
    heap_ref holder; /* made first, as in gc_python.py */
    must(heap_list_create(&holder, builder->heap, builder->graph->roots + 1));
    builder->node = must_alloc(n, sizeof *builder->node);
    for (uint32_t i = 0; i < n; i++) {
        make_node(builder, i);
    }
    make_tuples(builder);
    for (uint32_t i = 0; i < n; i++) {
        fill_node(builder, i);
    }
    fill_holder(builder, holder);
    for (uint32_t i = 0; i < n; i++) {
        heap_decref(builder->heap, builder->node[i]);
    }
    free(builder->node);
    keep(builder, holder);
    heap_settle(builder->heap);
    return holder;
}
