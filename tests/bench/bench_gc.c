/* bench_gc.c -- collections, through the heap's own interface.
 *
 *     bench_gc random N SEED | bench_gc trace FILE | bench_gc young
 *
 * gc_python.py is the same in CPython.  Makes the graph's arrays (graph.h), and answers one line of JSON for
 * each word on stdin: `live` times a full collection while the graph is held, `garbage` after it was let go,
 * `picture` times a picture of the held graph, its dominators, and how long another thread waited for the GIL.
 * A graph is built when there is none, and collected once, untimed, right after, so that a timed collection
 * finds it in the oldest generation.
 * With `young` each line is a number: of lists that refer to themselves, made and dropped one after another, with
 * automatic collection as it is at first (700/10/10).
 * What is measured is CPU time.
 * At the end of the input the heap is checked; exit code 1 if anything is wrong.
 */
#include "builder.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static uint64_t clock_ns(clockid_t clock)
{
    struct timespec time;
    clock_gettime(clock, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

static uint64_t now_ns(void)
{
    return clock_ns(CLOCK_MONOTONIC);
}

/* One thread works here: what others on the machine do in between does not count. */
static uint64_t cpu_ns(void)
{
    return clock_ns(CLOCK_PROCESS_CPUTIME_ID);
}

/* ---- measuring ---- */

static void collect_timed(struct heap *heap)
{
    struct heap_collection result;
    uint64_t start = cpu_ns();
    heap_collect(&result, heap, 2);
    uint64_t elapsed = cpu_ns() - start;
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
            holder = builder_build(builder);
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

static void serve_graph(struct heap *heap, const struct graph *graph)
{
    struct builder builder;
    heap_gc_enable(heap, false);
    builder_init(&builder, heap, graph);
    serve(&builder);
    builder_fini(&builder);
}

/* ---- young collections ---- */

/* Nothing dies of it but by collection. */
static void make_cycle(struct heap *heap)
{
    heap_ref list;
    must(heap_list_create(&list, heap, 1));
    must(heap_list_append_steal(heap, list, list)); /* our reference becomes its own */
    if (heap_gc_poll(heap)) {
        while (heap_work_pending(heap)) {
            heap_step(heap, 1000);
        }
    }
}

static void serve_young(struct heap *heap)
{
    char word[32];
    while (fgets(word, sizeof word, stdin) != NULL) {
        uint32_t count = (uint32_t)strtoul(word, NULL, 10);
        struct heap_stats before, after;
        heap_stats(&before, heap);
        uint64_t start = cpu_ns();
        for (uint32_t i = 0; i < count; i++) {
            make_cycle(heap);
        }
        uint64_t elapsed = cpu_ns() - start;
        heap_stats(&after, heap);
        printf("{\"ns\": %" PRIu64 ", \"collections\": [", elapsed);
        for (unsigned g = 0; g < 3; g++) {
            uint64_t collections = after.generations[g].collections - before.generations[g].collections;
            printf("%s%" PRIu64, g == 0 ? "" : ", ", collections);
        }
        printf("], \"left\": %" PRIu64 "}\n", after.live - before.live);
        fflush(stdout);
    }
}

/* ---- the program ---- */

static void graph_print(const struct graph *graph)
{
    printf("{\"objects\": %" PRIu32 ", \"containers\": %" PRIu32, graph->n, graph_containers(graph));
    printf(", \"edges\": %" PRIu32 ", \"crc\": %" PRIu32 "}\n", graph->edges, graph_crc(graph));
    fflush(stdout);
}

static int usage_error(void)
{
    fputs("usage: bench_gc random N SEED | bench_gc trace FILE | bench_gc young\n", stderr);
    return 2;
}

int main(int argc, char **argv)
{
    struct graph graph = {0};
    struct heap_config config = {0};
    bool is_young = argc == 2 && strcmp(argv[1], "young") == 0;
    if (argc == 4 && strcmp(argv[1], "random") == 0) {
        graph_random(&graph, (uint32_t)strtoul(argv[2], NULL, 10), strtoull(argv[3], NULL, 10));
    } else if (argc == 3 && strcmp(argv[1], "trace") == 0) {
        graph_read(&graph, argv[2]);
    } else if (!is_young) {
        return usage_error();
    }
    struct heap *heap = heap_create(&config);
    if (heap == NULL) {
        must(HEAP_MEMORY);
    }
    heap_enter(heap);
    if (is_young) {
        serve_young(heap);
    } else {
        graph_print(&graph);
        serve_graph(heap, &graph);
    }
    uint32_t problems = heap_check(heap, stderr);
    heap_leave(heap);
    heap_destroy(heap);
    graph_free(&graph);
    return problems == 0 ? 0 : 1;
}
