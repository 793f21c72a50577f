/* bench_pause.c -- how long the heap holds the GIL: CPU time of each hold, through the heap's own interface.
 *
 *     bench_pause WHAT COUNT ROUNDS
 *
 *     live      full collections of COUNT lists with two random edges each, all live
 *     garbage   one of the same graph, let go
 *     unref     a tree of COUNT lists in random order loses its last reference
 *     session   a session that holds COUNT lists ends
 *     dict, names, holds     a dict, the namespace, a session's holds and the table of ids grow to COUNT entries
 *
 * A hold is what the daemon does between taking the GIL and letting it go: the call that begins the work, each
 * heap_step(), and of a growing table OPERATIONS_A_HOLD operations, as of one pipelined client.  Prints a line of JSON a round, then one
 * with the counters of slices; exit code 1 if the heap is damaged at the end.  Start at run().
 */
#include "../../heap/heap.h"
#include "latency.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define STEP_US 500
/* A collection of a small heap has few holds: it is repeated until a percentile of them means something. */
#define HOLDS_WANTED 1000
#define COLLECTIONS_MAX 25
#define OPERATIONS_A_HOLD 16u
#define SEED UINT64_C(20240501)

struct bench {
    struct heap *heap;
    struct heap_session *session; /* holds what must not die */
    heap_ref subject;             /* of a growing table: the dict, or what gets the names */
    struct heap_session *growing; /* whose holds grow */
    uint32_t count;
    heap_ref *node;       /* [count], while a graph is built */
    struct latency holds; /* CPU time of this round's */
    uint64_t wall_max_ns; /* the longest of them, by the clock on the wall */
    uint64_t cpu_ns;      /* of all of them */
    uint64_t began_cpu_ns, began_wall_ns; /* of the hold under way */
    uint64_t random;
};

/* Nothing here can fail on a machine with memory enough. */
static void must(enum heap_error error)
{
    if (error != HEAP_OK) {
        fprintf(stderr, "bench_pause: %s\n", heap_error_sentence(error));
        exit(1);
    }
}

static uint32_t random_below(struct bench *bench, uint32_t below)
{
    bench->random = bench->random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)((bench->random >> 32) * below >> 32);
}

/* ---- holds ---- */

static uint64_t clock_ns(clockid_t clock)
{
    struct timespec time;
    clock_gettime(clock, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

static void hold_begin(struct bench *bench)
{
    bench->began_wall_ns = clock_ns(CLOCK_MONOTONIC);
    bench->began_cpu_ns = clock_ns(CLOCK_THREAD_CPUTIME_ID);
}

static void hold_end(struct bench *bench)
{
    uint64_t cpu = clock_ns(CLOCK_THREAD_CPUTIME_ID) - bench->began_cpu_ns;
    uint64_t wall = clock_ns(CLOCK_MONOTONIC) - bench->began_wall_ns;
    latency_add(&bench->holds, cpu, 1);
    bench->cpu_ns += cpu;
    bench->wall_max_ns = wall > bench->wall_max_ns ? wall : bench->wall_max_ns;
}

/* Goes on with what was begun, a hold a step, until nothing is left. */
static void step_to_end(struct bench *bench)
{
    bool more = heap_work_pending(bench->heap);
    while (more) {
        hold_begin(bench);
        more = heap_step(bench->heap, STEP_US);
        hold_end(bench);
    }
}

static void round_begin(struct bench *bench)
{
    latency_clear(&bench->holds);
    bench->wall_max_ns = bench->cpu_ns = 0;
}

static void round_print(const struct bench *bench)
{
    const struct latency *holds = &bench->holds;
    printf("{\"holds\": %" PRIu64 ", \"cpu_ns\": %" PRIu64 ", \"p50_ns\": %" PRIu64 ", \"p99_ns\": %" PRIu64,
           holds->total, bench->cpu_ns, latency_quantile(holds, 0.5), latency_quantile(holds, 0.99));
    printf(", \"p999_ns\": %" PRIu64 ", \"max_ns\": %" PRIu64 ", \"wall_max_ns\": %" PRIu64 "}\n",
           latency_quantile(holds, 0.999), holds->max_ns, bench->wall_max_ns);
    fflush(stdout);
}

/* ---- graphs ---- */

static heap_ref list_new(struct bench *bench, uint32_t room)
{
    heap_ref list;
    must(heap_list_create(&list, bench->heap, room));
    return list;
}

static void append_shared(struct bench *bench, heap_ref list, heap_ref item)
{
    must(heap_incref(bench->heap, item));
    must(heap_list_append_steal(bench->heap, list, item));
}

/* Gives our count of the object to the session. */
static void keep(struct bench *bench, heap_ref obj)
{
    must(heap_hold(bench->heap, bench->session, obj));
    heap_decref(bench->heap, obj);
}

/* `count` new lists in node[], each with one count of ours. */
static void make_nodes(struct bench *bench)
{
    bench->node = calloc(bench->count, sizeof *bench->node);
    if (bench->node == NULL) {
        must(HEAP_MEMORY);
    }
    for (uint32_t i = 0; i < bench->count; i++) {
        bench->node[i] = list_new(bench, 2);
    }
}

static void drop_nodes(struct bench *bench)
{
    for (uint32_t i = 0; i < bench->count; i++) {
        heap_decref(bench->heap, bench->node[i]);
    }
    free(bench->node);
    heap_settle(bench->heap);
}

/* Ages a graph, so that a measured collection finds it in the oldest generation. */
static void collect_unmeasured(struct bench *bench)
{
    struct heap_collection result;
    heap_collect(&result, bench->heap, 2);
}

/* Lists with two random edges each, in one list that also has itself, so that what is let go hangs from a cycle.
 * Returns: held by the session. */
static heap_ref random_graph(struct bench *bench)
{
    heap_ref holder = list_new(bench, bench->count + 1);
    make_nodes(bench);
    for (uint32_t i = 0; i < bench->count; i++) {
        append_shared(bench, bench->node[i], bench->node[random_below(bench, bench->count)]);
        append_shared(bench, bench->node[i], bench->node[random_below(bench, bench->count)]);
        append_shared(bench, holder, bench->node[i]);
    }
    append_shared(bench, holder, holder);
    drop_nodes(bench);
    keep(bench, holder);
    collect_unmeasured(bench);
    return holder;
}

/* A tree: each list hangs from a random earlier one.  Returns: the root, held by the session. */
static heap_ref random_tree(struct bench *bench)
{
    make_nodes(bench);
    heap_ref root = bench->node[0];
    for (uint32_t i = 1; i < bench->count; i++) {
        append_shared(bench, bench->node[random_below(bench, i)], bench->node[i]);
    }
    must(heap_hold(bench->heap, bench->session, root));
    drop_nodes(bench);
    collect_unmeasured(bench);
    return root;
}

/* ---- what is measured ---- */

/* Begins a full collection and goes on to its end. */
static void collect(struct bench *bench)
{
    struct heap_collection result;
    hold_begin(bench);
    enum heap_progress progress = heap_collect_begin(&result, bench->heap, 2, false);
    hold_end(bench);
    if (progress == HEAP_BUSY) {
        fputs("bench_pause: another collection is under way\n", stderr);
        exit(1);
    }
    step_to_end(bench);
}

static void run_live(struct bench *bench, unsigned rounds)
{
    heap_ref holder = random_graph(bench);
    for (unsigned i = 0; i < rounds; i++) {
        round_begin(bench);
        for (unsigned k = 0; k < COLLECTIONS_MAX && bench->holds.total < HOLDS_WANTED; k++) {
            collect(bench);
        }
        round_print(bench);
    }
    must(heap_unhold(bench->heap, bench->session, holder));
}

static void run_garbage(struct bench *bench, unsigned rounds)
{
    for (unsigned i = 0; i < rounds; i++) {
        must(heap_unhold(bench->heap, bench->session, random_graph(bench)));
        round_begin(bench);
        collect(bench);
        round_print(bench);
    }
}

/* Goes on until what one call has killed is taken apart. */
static void finish_dying(struct bench *bench, const struct heap_dying *dying)
{
    step_to_end(bench);
    if (!dying->is_done) {
        fputs("bench_pause: nothing is left to do, but the dying is not done\n", stderr);
        exit(1);
    }
}

static void run_unref(struct bench *bench, unsigned rounds)
{
    for (unsigned i = 0; i < rounds; i++) {
        struct heap_dying dying;
        uint64_t freed;
        heap_ref root = random_tree(bench);
        round_begin(bench);
        hold_begin(bench);
        must(heap_unhold(bench->heap, bench->session, root));
        bool is_done = heap_settle_slice(&freed, bench->heap, &dying);
        hold_end(bench);
        if (!is_done) {
            finish_dying(bench, &dying);
        }
        round_print(bench);
    }
}

static void run_session(struct bench *bench, unsigned rounds)
{
    for (unsigned i = 0; i < rounds; i++) {
        struct heap_dying dying;
        uint64_t released;
        struct heap_session *session = heap_session_create(bench->heap);
        for (uint32_t k = 0; k < bench->count; k++) {
            heap_ref list = list_new(bench, 0);
            must(heap_hold(bench->heap, session, list));
            heap_decref(bench->heap, list);
        }
        collect_unmeasured(bench);
        round_begin(bench);
        hold_begin(bench);
        bool is_done = heap_session_end(&released, bench->heap, session, false, &dying);
        hold_end(bench);
        if (!is_done) {
            finish_dying(bench, &dying);
        }
        round_print(bench);
        if (released != bench->count) {
            fprintf(stderr, "bench_pause: %" PRIu64 " of %" PRIu32 " holds released\n", released, bench->count);
            exit(1);
        }
    }
}

/* Lets a table grow: `operation` for each number below count, some in each hold. */
static void grow(struct bench *bench, void (*operation)(struct bench *bench, uint32_t k))
{
    round_begin(bench);
    for (uint32_t k = 0; k < bench->count;) {
        hold_begin(bench);
        for (uint32_t i = 0; i < OPERATIONS_A_HOLD && k < bench->count; i++) {
            operation(bench, k++);
        }
        hold_end(bench);
    }
    round_print(bench);
}

static void set_key(struct bench *bench, uint32_t k)
{
    heap_ref key;
    must(heap_int_create(&key, bench->heap, (int64_t)k));
    must(heap_dict_set_steal(bench->heap, bench->subject, key, heap_none(bench->heap)));
}

static void run_dict(struct bench *bench, unsigned rounds)
{
    for (unsigned i = 0; i < rounds; i++) {
        must(heap_dict_create(&bench->subject, bench->heap, 0));
        grow(bench, set_key);
        heap_decref(bench->heap, bench->subject);
        heap_settle(bench->heap);
    }
}

#define NAME_BYTES 24

static size_t name_of(char name[NAME_BYTES], uint32_t k)
{
    return (size_t)snprintf(name, NAME_BYTES, "name:%" PRIu32, k);
}

static void bind_name(struct bench *bench, uint32_t k)
{
    char name[NAME_BYTES];
    size_t len = name_of(name, k);
    must(heap_name_bind(bench->heap, name, len, bench->subject));
}

static void run_names(struct bench *bench, unsigned rounds)
{
    bench->subject = list_new(bench, 0);
    keep(bench, bench->subject);
    for (unsigned i = 0; i < rounds; i++) {
        grow(bench, bind_name);
        for (uint32_t k = 0; k < bench->count; k++) {
            char name[NAME_BYTES];
            size_t len = name_of(name, k);
            must(heap_name_unbind(bench->heap, name, len));
        }
    }
    must(heap_unhold(bench->heap, bench->session, bench->subject));
}

/* A new object, held, with an id. */
static void hold_new(struct bench *bench, uint32_t k)
{
    heap_ref number;
    uint64_t id;
    must(heap_float_create(&number, bench->heap, (double)k));
    must(heap_hold(bench->heap, bench->growing, number));
    must(heap_id(&id, bench->heap, number));
    heap_decref(bench->heap, number);
}

static void run_holds(struct bench *bench, unsigned rounds)
{
    for (unsigned i = 0; i < rounds; i++) {
        bench->growing = heap_session_create(bench->heap);
        grow(bench, hold_new);
        heap_session_destroy(bench->heap, bench->growing);
        heap_settle(bench->heap);
    }
}

/* ---- the run ---- */

struct subject {
    const char *name;
    void (*run)(struct bench *bench, unsigned rounds);
};

static const struct subject subjects[] = {
    {"live", run_live}, {"garbage", run_garbage}, {"unref", run_unref}, {"session", run_session},
    {"dict", run_dict}, {"names", run_names},     {"holds", run_holds},
};

static void slices_print(const struct heap *heap)
{
    struct heap_stats stats;
    heap_stats(&stats, heap);
    printf("{\"slice_objects_max\": %" PRIu64 ", \"slice_refs_max\": %" PRIu64 "}\n", stats.slice_objects_max,
           stats.slice_refs_max);
}

/* Returns how many problems the check of the heap found at the end. */
static uint32_t run(struct bench *bench, const struct subject *subject, unsigned rounds)
{
    heap_enter(bench->heap);
    heap_gc_enable(bench->heap, false);
    bench->session = heap_session_create(bench->heap);
    if (bench->session == NULL) {
        must(HEAP_MEMORY);
    }
    subject->run(bench, rounds);
    slices_print(bench->heap);
    heap_settle(bench->heap);
    uint32_t problems = heap_check(bench->heap, stderr);
    heap_session_destroy(bench->heap, bench->session);
    heap_leave(bench->heap);
    return problems;
}

int main(int argc, char **argv)
{
    struct heap_config config = {0};
    struct bench bench = {.random = SEED};
    const struct subject *subject = NULL;
    for (size_t i = 0; argc == 4 && i < sizeof subjects / sizeof *subjects; i++) {
        if (strcmp(argv[1], subjects[i].name) == 0) {
            subject = &subjects[i];
        }
    }
    if (subject == NULL) {
        fputs("usage: bench_pause live|garbage|unref|session|dict|names|holds COUNT ROUNDS\n", stderr);
        return 2;
    }
    bench.count = (uint32_t)strtoul(argv[2], NULL, 10);
    bench.heap = heap_create(&config);
    if (bench.heap == NULL) {
        must(HEAP_MEMORY);
    }
    uint32_t problems = run(&bench, subject, (unsigned)strtoul(argv[3], NULL, 10));
    heap_destroy(bench.heap);
    return problems == 0 ? 0 : 1;
}
