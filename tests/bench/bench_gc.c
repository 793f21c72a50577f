/* bench_gc.c -- a full collection of a large graph, through the heap's own interface.
 *
 *     bench_gc random N SEED | bench_gc trace FILE
 *
 * gc_python.py is the same in CPython.  Makes the graph's arrays (graph.h), and answers one line of JSON for
 * each word on stdin: `live` times a full collection while the graph is held, `garbage` after it was let go,
 * `picture` times a picture of the held graph, its dominators, and how long another thread waited for the GIL.
 * A graph is built when there is none, and collected once, untimed, right after, so that a timed collection
 * finds it in the oldest generation.
 * At the end of the input the heap is checked; exit code 1 if anything is wrong.
 */
#include "../../heap/heap.h"
#include "graph.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Builds the objects of a graph, as often as asked. */
struct builder {
    struct heap *heap;
    struct heap_session *session; /* holds name[], class[] and the holder of the graph */
    const struct graph *graph;
    heap_ref *node;   /* graph->n while building, each with one count of ours; 0: not made yet */
    uint32_t longest; /* the most references that a node has */
    heap_ref *name;   /* [longest], held: interned strs, the keys of dicts */
    heap_ref *class;  /* [longest + 1], held: of the objects with that many attributes; 0: there are none */
};

/* Nothing here can fail on a machine with memory enough. */
static void must(enum heap_error error)
{
    if (error != HEAP_OK) {
        fprintf(stderr, "bench_gc: %s\n", heap_error_sentence(error));
        exit(1);
    }
}

static void *must_alloc(size_t count, size_t size)
{
    void *memory = calloc(count, size);
    if (memory == NULL) {
        must(HEAP_MEMORY);
    }
    return memory;
}

static uint64_t now_ns(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

/* ---- building ---- */

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

static void builder_init(struct builder *builder, struct heap *heap, const struct graph *graph)
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

static void builder_fini(struct builder *builder)
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

/* Builds the whole graph.  Returns the holder, held by the session. */
static heap_ref graph_build(struct builder *builder)
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

/* ---- measuring ---- */

static void collect_timed(struct heap *heap)
{
    struct heap_collection result;
    uint64_t start = now_ns();
    heap_collect(&result, heap, 2);
    uint64_t elapsed = now_ns() - start;
    printf("{\"ns\": %" PRIu64 ", \"unreachable\": %" PRIu64 ", \"freed\": %" PRIu64 "}\n", elapsed,
           result.unreachable, result.freed);
    fflush(stdout);
}

/* Somebody else who wants the GIL every now and then. */
struct prober {
    struct heap *heap;
    _Atomic bool stop;
    uint64_t longest_ns; /* wait */
};

static void *probe(void *arg)
{
    struct prober *prober = arg;
    while (!prober->stop) {
        uint64_t start = now_ns();
        heap_enter(prober->heap);
        uint64_t waited = now_ns() - start;
        heap_leave(prober->heap);
        prober->longest_ns = waited > prober->longest_ns ? waited : prober->longest_ns;
        nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL);
    }
    return NULL;
}

/* Asks a picture for everything; the GIL is not held. */
static void question_picture(struct heap_picture *picture)
{
    static const _Atomic bool never = false;
    uint64_t *objects, *bytes, one_objects, one_bytes, root, start = now_ns();
    uint32_t *path, length;
    must(heap_picture_complete(picture, &never));
    uint64_t copied = now_ns();
    must(heap_picture_dominators(&objects, &bytes, picture));
    uint64_t dominated = now_ns();
    must(heap_picture_retained(&one_objects, &one_bytes, picture, 0));
    uint64_t retained = now_ns();
    must(heap_picture_why(&path, &length, &root, picture, heap_picture_nodes(picture) - 1));
    printf("{\"nodes\": %" PRIu32 ", \"copy_ns\": %" PRIu64 ", \"dominators_ns\": %" PRIu64,
           heap_picture_nodes(picture), copied - start, dominated - copied);
    printf(", \"retained_ns\": %" PRIu64 ", \"why_ns\": %" PRIu64, retained - dominated, now_ns() - retained);
    free(objects);
    free(bytes);
    free(path);
}

static void picture_timed(struct heap *heap)
{
    struct prober prober = {.heap = heap};
    pthread_t thread;
    uint64_t start = now_ns();
    struct heap_picture *picture = heap_picture_begin(heap, HEAP_PICTURE_GRAPH);
    uint64_t begun = now_ns() - start;
    if (picture == NULL || pthread_create(&thread, NULL, probe, &prober) != 0) {
        must(HEAP_MEMORY);
    }
    heap_leave(heap);
    question_picture(picture);
    prober.stop = true;
    pthread_join(thread, NULL);
    heap_enter(heap);
    heap_picture_destroy(picture);
    printf(", \"begin_ns\": %" PRIu64 ", \"longest_wait_ns\": %" PRIu64 "}\n", begun, prober.longest_ns);
    fflush(stdout);
}

/* Answers the words on stdin until it ends. */
static void serve(struct builder *builder)
{
    heap_ref holder = 0; /* of the graph that is there; 0: none is */
    char word[32];
    while (fgets(word, sizeof word, stdin) != NULL) {
        if (holder == 0) {
            struct heap_collection aged;
            holder = graph_build(builder);
            heap_collect(&aged, builder->heap, 2);
        }
        if (strcmp(word, "picture\n") == 0) {
            picture_timed(builder->heap);
            continue;
        }
        if (strcmp(word, "garbage\n") == 0) {
            must(heap_unhold(builder->heap, builder->session, holder));
            holder = 0;
        }
        collect_timed(builder->heap);
    }
}

/* Returns how many problems the check of the heap found at the end. */
static uint32_t measure(struct heap *heap, const struct graph *graph)
{
    struct builder builder;
    heap_enter(heap);
    heap_gc_enable(heap, false);
    builder_init(&builder, heap, graph);
    serve(&builder);
    uint32_t problems = heap_check(heap, stderr);
    builder_fini(&builder);
    heap_leave(heap);
    return problems;
}

static void graph_print(const struct graph *graph)
{
    printf("{\"objects\": %" PRIu32 ", \"containers\": %" PRIu32, graph->n, graph_containers(graph));
    printf(", \"edges\": %" PRIu32 ", \"crc\": %" PRIu32 "}\n", graph->edges, graph_crc(graph));
    fflush(stdout);
}

static int usage_error(void)
{
    fputs("usage: bench_gc random N SEED | bench_gc trace FILE\n", stderr);
    return 2;
}

int main(int argc, char **argv)
{
    struct graph graph;
    struct heap_config config = {0};
    if (argc == 4 && strcmp(argv[1], "random") == 0) {
        graph_random(&graph, (uint32_t)strtoul(argv[2], NULL, 10), strtoull(argv[3], NULL, 10));
    } else if (argc == 3 && strcmp(argv[1], "trace") == 0) {
        graph_read(&graph, argv[2]);
    } else {
        return usage_error();
    }
    graph_print(&graph);
    struct heap *heap = heap_create(&config);
    if (heap == NULL) {
        must(HEAP_MEMORY);
    }
    uint32_t problems = measure(heap, &graph);
    heap_destroy(heap);
    graph_free(&graph);
    return problems == 0 ? 0 : 1;
}
