/* bench_memory.c -- what a million objects of a kind take from the machine, through the heap's own interface.
 *
 *     bench_memory KIND COUNT | bench_memory trace FILE
 *
 * KIND is list (of 2), dict (of 3), instance (of 3), slots (of 3) or str (of 10); memory_python.py is the same in
 * CPython.  Prints one line of JSON: `objects`, `resident`: by how many bytes the process's resident memory grew
 * by making them, and `counted`: what heap_stats() says they are.  What they refer to and what holds them is
 * there before.  With automatic collection on, as in a program; the trace is built with it off, and
 * collected once.  The heap is checked at the end; exit code 1 if anything is wrong.
 */
#include "builder.h"

#include <inttypes.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum kind { LIST_OF_2, DICT_OF_3, INSTANCE_OF_3, SLOTS_OF_3, STR_OF_10, KINDS };
static const char *const kind_name[KINDS] = {"list", "dict", "instance", "slots", "str"};
static const char *const attribute[3] = {"a", "b", "c"};

/* Makes objects of one kind. */
struct maker {
    struct heap *heap;
    struct heap_session *session; /* holds the others below */
    enum kind kind;
    heap_ref holder;              /* a list as long as there will be objects */
    heap_ref class;               /* of instances */
    heap_ref names[3];            /* keys of dicts, interned */
};

static uint64_t resident_bytes(void)
{
    unsigned long all, resident = 0;
    malloc_trim(0);
    FILE *statm = fopen("/proc/self/statm", "r");
    if (statm == NULL || fscanf(statm, "%lu %lu", &all, &resident) != 2) {
        fputs("bench_memory: /proc/self/statm cannot be read\n", stderr);
        exit(1);
    }
    fclose(statm);
    return (uint64_t)resident * (uint64_t)sysconf(_SC_PAGESIZE);
}

static uint64_t counted_bytes(const struct heap *heap)
{
    struct heap_stats stats;
    heap_stats(&stats, heap);
    return stats.bytes;
}

/* What is taken at a moment. */
struct taken {
    uint64_t resident, counted;
};

static struct taken taken_now(struct heap *heap)
{
    while (heap_work_pending(heap)) {
        heap_step(heap, 1000);
    }
    return (struct taken){resident_bytes(), counted_bytes(heap)};
}

static void print_growth(uint32_t objects, struct taken before, struct taken after)
{
    printf("{\"objects\": %" PRIu32 ", \"resident\": %" PRId64 ", \"counted\": %" PRId64 "}\n", objects,
           (int64_t)(after.resident - before.resident), (int64_t)(after.counted - before.counted));
}

/* ---- objects of a kind ---- */

/* The session has it from now on. */
static void keep(struct maker *maker, heap_ref obj)
{
    must(heap_hold(maker->heap, maker->session, obj));
    heap_decref(maker->heap, obj);
}

static void maker_init(struct maker *maker, struct heap *heap, enum kind kind, uint32_t count)
{
    *maker = (struct maker){.heap = heap, .session = heap_session_create(heap), .kind = kind};
    struct heap_text slots[3];
    if (maker->session == NULL) {
        must(HEAP_MEMORY);
    }
    for (unsigned i = 0; i < 3; i++) {
        slots[i] = (struct heap_text){attribute[i], 1};
        must(heap_str_intern(&maker->names[i], heap, attribute[i], 1));
        keep(maker, maker->names[i]);
    }
    must(heap_class_create(&maker->class, heap, (struct heap_text){"Node", 4}, kind == SLOTS_OF_3 ? slots : NULL,
                           kind == SLOTS_OF_3 ? 3 : 0));
    keep(maker, maker->class);
    must(heap_list_create(&maker->holder, heap, count));
    for (uint32_t i = 0; i < count; i++) {
        must(heap_list_append_steal(heap, maker->holder, heap_none(heap)));
    }
    keep(maker, maker->holder);
}

/* Small ints, which are there anyway.  Returns: new. */
static heap_ref small_int(struct maker *maker, uint32_t value)
{
    heap_ref obj;
    must(heap_int_create(&obj, maker->heap, value));
    return obj;
}

/* The i-th object.  Returns: new. */
static heap_ref make_one(struct maker *maker, uint32_t i)
{
    struct heap *heap = maker->heap;
    heap_ref obj = 0;
    char text[16];
    switch (maker->kind) {
    case LIST_OF_2:
        must(heap_list_create(&obj, heap, 2));
        must(heap_list_append_steal(heap, obj, small_int(maker, 0)));
        must(heap_list_append_steal(heap, obj, small_int(maker, 1)));
        break;
    case DICT_OF_3:
        must(heap_dict_create(&obj, heap, 3));
        for (uint32_t j = 0; j < 3; j++) {
            must(heap_incref(heap, maker->names[j]));
            must(heap_dict_set_steal(heap, obj, maker->names[j], small_int(maker, j)));
        }
        break;
    case INSTANCE_OF_3:
    case SLOTS_OF_3:
        must(heap_instance_create(&obj, heap, maker->class, 3));
        for (uint32_t j = 0; j < 3; j++) {
            must(heap_attr_set_steal(heap, obj, attribute[j], 1, small_int(maker, j)));
        }
        break;
    case STR_OF_10:
        must(heap_str_create(&obj, heap, text, (size_t)snprintf(text, sizeof text, "%010" PRIu32, i)));
        break;
    case KINDS:
        break;
    }
    return obj;
}

static void measure_kind(struct heap *heap, enum kind kind, uint32_t count)
{
    struct maker maker;
    maker_init(&maker, heap, kind, count);
    struct taken before = taken_now(heap);
    for (uint32_t i = 0; i < count; i++) {
        heap_list_set_steal(heap, maker.holder, i, make_one(&maker, i));
        heap_settle(heap);
        if (heap_gc_poll(heap)) {
            while (heap_work_pending(heap)) {
                heap_step(heap, 1000);
            }
        }
    }
    print_growth(count, before, taken_now(heap));
    heap_session_destroy(heap, maker.session);
}

/* ---- the trace ---- */

static void measure_trace(struct heap *heap, const char *path)
{
    struct graph graph;
    struct builder builder;
    struct heap_collection collection;
    graph_read(&graph, path);
    heap_gc_enable(heap, false);
    builder_init(&builder, heap, &graph);
    struct taken before = taken_now(heap);
    builder_build(&builder);
    heap_collect(&collection, heap, 2);
    print_growth(graph.n, before, taken_now(heap));
    builder_fini(&builder);
    graph_free(&graph);
}

int main(int argc, char **argv)
{
    unsigned kind = 0;
    bool is_trace = argc == 3 && strcmp(argv[1], "trace") == 0;
    while (argc == 3 && !is_trace && kind < KINDS && strcmp(argv[1], kind_name[kind]) != 0) {
        kind++;
    }
    if (argc != 3 || kind == KINDS) {
        fputs("usage: bench_memory list|dict|instance|slots|str COUNT | bench_memory trace FILE\n", stderr);
        return 2;
    }
    struct heap_config config = {0};
    struct heap *heap = heap_create(&config);
    if (heap == NULL) {
        must(HEAP_MEMORY);
    }
    heap_enter(heap);
    if (is_trace) {
        measure_trace(heap, argv[2]);
    } else {
        measure_kind(heap, (enum kind)kind, (uint32_t)strtoul(argv[2], NULL, 10));
    }
    uint32_t problems = heap_check(heap, stderr);
    heap_leave(heap);
    heap_destroy(heap);
    return problems == 0 ? 0 : 1;
}
