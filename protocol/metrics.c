/* metrics.c -- the figures of stats in the text format of Prometheus, version 0.0.4.
 *
 *   # HELP heapd_objects Live objects that are not immortal.
 *   # TYPE heapd_objects gauge
 *   heapd_objects 12
 *
 * Every figure of `stats` is here, under a name that says what it counts and in which unit: bytes, seconds, or things.
 * Counters end in _total.  Labels have few values, none of them from a client: no object, session, name or class.
 *
 * Needs no GIL and waits for nothing, as stats.  Start at rpc_service_metrics().
 */
#include "layers.h"
#include "rpc_internal.h"

#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

/* What the page is made of, read once. */
struct figures {
    struct rpc_service *service;
    struct heap_stats heap;
    struct rpc_counts counts;
    struct rpc_server_figures server;
    struct layer_figures layers[LAYER_COUNT];
};

/* ---- lines ---- */

/* The head of a family; its samples follow. */
static void family(struct out *out, const char *name, const char *type, const char *help)
{
    out_text(out, "# HELP ");
    out_text(out, name);
    out_char(out, ' ');
    out_text(out, help);
    out_text(out, "\n# TYPE ");
    out_text(out, name);
    out_char(out, ' ');
    out_text(out, type);
    out_char(out, '\n');
}

/* `name{label="value"} `; label NULL: no label. */
static void begin_sample(struct out *out, const char *name, const char *label, const char *value)
{
    out_text(out, name);
    if (label != NULL) {
        out_char(out, '{');
        out_text(out, label);
        out_text(out, "=\"");
        out_text(out, value);
        out_text(out, "\"}");
    }
    out_char(out, ' ');
}

static void sample(struct out *out, const char *name, const char *label, const char *value, uint64_t figure)
{
    begin_sample(out, name, label, value);
    out_u64(out, figure);
    out_char(out, '\n');
}

/* The same with a label that is a number. */
static void sample_of(struct out *out, const char *name, const char *label, uint64_t number, uint64_t figure)
{
    char value[NUMBER_TEXT_MAX + 1];
    value[number_write_u64(value, number)] = '\0';
    sample(out, name, label, value, figure);
}

static void sample_seconds(struct out *out, const char *name, double seconds)
{
    begin_sample(out, name, NULL, NULL);
    out_double(out, seconds);
    out_char(out, '\n');
}

/* A family of one sample without labels. */
static void counter(struct out *out, const char *name, uint64_t figure, const char *help)
{
    family(out, name, "counter", help);
    sample(out, name, NULL, NULL, figure);
}

static void gauge(struct out *out, const char *name, uint64_t figure, const char *help)
{
    family(out, name, "gauge", help);
    sample(out, name, NULL, NULL, figure);
}

static void gauge_seconds(struct out *out, const char *name, double seconds, const char *help)
{
    family(out, name, "gauge", help);
    sample_seconds(out, name, seconds);
}

/* ---- histograms ---- */

/* Buckets up to 2^22 us, some four seconds, have a line each: what takes longer is above them all. */
#define BUCKETS_SHOWN 23

/* A histogram of seconds, and its maximum, which buckets do not tell. */
static void histogram(struct out *out, const char *name, const struct heap_histogram_figures *figures,
                      const char *help)
{
    char line[96];
    uint64_t below = 0;
    family(out, name, "histogram", help);
    snprintf(line, sizeof(line), "%s_bucket", name);
    for (unsigned b = 0; b < BUCKETS_SHOWN; b++) {
        char edge[NUMBER_TEXT_MAX + 1];
        edge[number_write_double(edge, (double)((uint64_t)1 << b) / 1e6)] = '\0';
        below += figures->buckets[b];
        sample(out, line, "le", edge, below);
    }
    sample(out, line, "le", "+Inf", figures->count);
    snprintf(line, sizeof(line), "%s_sum", name);
    sample_seconds(out, line, (double)figures->sum_us / 1e6);
    snprintf(line, sizeof(line), "%s_count", name);
    sample(out, line, NULL, NULL, figures->count);
}

/* ---- sections, in the order of stats ---- */

static void server_section(struct out *out, const struct figures *figures)
{
    struct rpc_service *service = figures->service;
    const struct rpc_counts *counts = &figures->counts;
    family(out, "heapd_build_info", "gauge", "Always 1; the labels say which version of heapd and of its protocol runs.");
    out_text(out, "heapd_build_info{version=\"" RPC_VERSION "\",protocol=\"");
    out_u64(out, RPC_PROTOCOL_VERSION);
    out_text(out, "\"} 1\n");
    gauge(out, "heapd_uptime_seconds", rpc_service_uptime_s(service), "Seconds since the daemon was started.");
    gauge(out, "heapd_connections", figures->server.connections, "Open connections.");
    counter(out, "heapd_connections_accepted_total", figures->server.connections_total, "Connections ever accepted.");
    counter(out, "heapd_requests_total", counts->requests, "Requests that have been run, batch elements included.");
    counter(out, "heapd_notifications_total", counts->notifications, "Notifications that have been run.");
    family(out, "heapd_errors_total", "counter", "Requests answered with an error, by its word in data.error.");
    for (int i = 1; i < RPC_ERROR_COUNT; i++) {
        sample(out, "heapd_errors_total", "error", rpc_error_word((enum rpc_error)i), counts->errors[i]);
    }
    counter(out, "heapd_auth_failures_total", counts->wrong_tokens, "Wrong tokens that were shown.");
    family(out, "heapd_limits_reached_total", "counter", "How often a limit was in somebody's way, by its name.");
#define X(member, name, ...)                                                                                   \
    sample(out, "heapd_limits_reached_total", "limit", name,                                                   \
           atomic_load_explicit(&service->limit_hits.member, memory_order_relaxed));
    RPC_LIMIT_MAP(X)
    RPC_FIXED_LIMIT_MAP(X)
#undef X
    counter(out, "heapd_network_receive_bytes_total", atomic_load_explicit(&service->bytes_in, memory_order_relaxed),
            "Bytes read from connections.");
    counter(out, "heapd_network_transmit_bytes_total",
            atomic_load_explicit(&service->bytes_out, memory_order_relaxed), "Bytes written to connections.");
}

static void objects_section(struct out *out, const struct figures *figures)
{
    const struct heap_stats *heap = &figures->heap;
    gauge(out, "heapd_objects", heap->live, "Live objects that are not immortal.");
    gauge(out, "heapd_objects_bytes", heap->bytes, "Bytes of live objects, with their own buffers and share of tables.");
    gauge(out, "heapd_immortal_objects", heap->immortal, "Immortal objects, which count nowhere else.");
    counter(out, "heapd_objects_created_total", heap->created, "Objects ever made.");
    counter(out, "heapd_objects_freed_total", heap->freed, "Objects that have died.");
    family(out, "heapd_type_objects", "gauge", "Live objects by type; instances of all classes are one.");
    for (unsigned type = 0; type < HEAP_T_COUNT; type++) {
        sample(out, "heapd_type_objects", "type", heap_builtin_name((enum heap_type)type), heap->type_objects[type]);
    }
    family(out, "heapd_type_bytes", "gauge", "Bytes of live objects by type; instances of all classes are one.");
    for (unsigned type = 0; type < HEAP_T_COUNT; type++) {
        sample(out, "heapd_type_bytes", "type", heap_builtin_name((enum heap_type)type), heap->type_bytes[type]);
    }
}

static void layers_section(struct out *out, const struct figures *figures)
{
    family(out, "heapd_layer_bytes", "gauge", "Bytes that each layer of memory has given out.");
    for (unsigned i = 0; i < LAYER_COUNT; i++) {
        sample(out, "heapd_layer_bytes", "layer", figures->layers[i].name, figures->layers[i].bytes);
    }
    family(out, "heapd_layer_items", "gauge", "Objects, blocks, mappings or pages that each layer has given out.");
    for (unsigned i = 0; i < LAYER_COUNT; i++) {
        sample(out, "heapd_layer_items", "layer", figures->layers[i].name, figures->layers[i].count);
    }
}

static void classes_section(struct out *out, const struct heap_stats *heap)
{
    family(out, "heapd_pymalloc_class_pools", "gauge", "Pools of each size class, by the bytes of its blocks.");
    for (unsigned i = 0; i < 32; i++) {
        sample_of(out, "heapd_pymalloc_class_pools", "size", heap->classes[i].size, heap->classes[i].pools);
    }
    family(out, "heapd_pymalloc_class_blocks", "gauge", "Blocks in use of each size class, by their bytes.");
    for (unsigned i = 0; i < 32; i++) {
        sample_of(out, "heapd_pymalloc_class_blocks", "size", heap->classes[i].size, heap->classes[i].blocks);
    }
    family(out, "heapd_pymalloc_class_free_blocks", "gauge", "Free blocks in the pools of each size class, by their bytes.");
    for (unsigned i = 0; i < 32; i++) {
        sample_of(out, "heapd_pymalloc_class_free_blocks", "size", heap->classes[i].size, heap->classes[i].free);
    }
}

static void allocator_section(struct out *out, const struct figures *figures)
{
    const struct heap_stats *heap = &figures->heap;
    gauge(out, "heapd_arenas", heap->arenas, "Arenas that are mapped.");
    counter(out, "heapd_arenas_mapped_total", heap->arenas_total, "Arenas ever mapped.");
    counter(out, "heapd_arenas_reclaimed_total", heap->arenas_reclaimed, "Arenas given back to the kernel.");
    gauge(out, "heapd_arenas_highwater", heap->arenas_highwater, "The most arenas that were ever mapped at once.");
    gauge(out, "heapd_arena_bytes", heap->arena_bytes, "Bytes of mapped arenas.");
    gauge(out, "heapd_pools", heap->pools, "Pools in use.");
    gauge(out, "heapd_pools_free", heap->pools_free, "Free pools in mapped arenas.");
    gauge(out, "heapd_pool_bytes", heap->pool_bytes, "Bytes of pools in use.");
    gauge(out, "heapd_pymalloc_blocks", heap->blocks, "Blocks of pools in use.");
    gauge(out, "heapd_pymalloc_block_bytes", heap->block_bytes, "Bytes of blocks in use.");
    gauge(out, "heapd_raw_blocks", heap->raw_blocks, "Larger blocks in use.");
    gauge(out, "heapd_raw_bytes", heap->raw_bytes, "Bytes of larger blocks in use.");
    gauge(out, "heapd_table_bytes", heap->table_bytes, "Bytes of the heap's own tables: handles, names, interned strings.");
    classes_section(out, heap);
}

/* A family with a sample for each generation. */
static void generations(struct out *out, const char *name, const char *type, const uint64_t figures[3],
                        const char *help)
{
    family(out, name, type, help);
    for (unsigned i = 0; i < 3; i++) {
        sample_of(out, name, "generation", i, figures[i]);
    }
}

static void gc_section(struct out *out, const struct figures *figures)
{
    const struct heap_stats *heap = &figures->heap;
    uint64_t count[3], threshold[3], collections[3], collected[3], uncollectable[3], objects[3];
    for (unsigned i = 0; i < 3; i++) {
        count[i] = heap->gc_count[i];
        threshold[i] = heap->gc_threshold[i];
        collections[i] = heap->generations[i].collections;
        collected[i] = heap->generations[i].collected;
        uncollectable[i] = heap->generations[i].uncollectable;
        objects[i] = heap->generations[i].objects;
    }
    gauge(out, "heapd_gc_enabled", heap->gc_enabled, "1 while automatic collection is enabled, else 0.");
    gauge(out, "heapd_gc_collecting", heap->gc_collecting, "1 while a collection is under way, else 0.");
    generations(out, "heapd_gc_pending", "gauge", count, "The counts of gc.get_count, by generation.");
    generations(out, "heapd_gc_threshold", "gauge", threshold, "The thresholds of gc.get_threshold, by generation.");
    gauge(out, "heapd_gc_frozen_objects", heap->gc_frozen, "Frozen objects.");
    generations(out, "heapd_gc_collections_total", "counter", collections, "Collections, by generation.");
    generations(out, "heapd_gc_collected_objects_total", "counter", collected,
                "Unreachable containers that collections found, by generation.");
    generations(out, "heapd_gc_uncollectable_objects_total", "counter", uncollectable,
                "Unreachable containers that could not be freed, by generation.");
    generations(out, "heapd_gc_tracked_objects", "gauge", objects, "Tracked containers, by generation.");
    histogram(out, "heapd_gc_pause_seconds", &heap->gc_pauses, "How long collections stopped everybody, a slice each.");
    gauge_seconds(out, "heapd_gc_pause_max_seconds", (double)heap->gc_pauses.max_us / 1e6,
                  "The longest of these pauses.");
    gauge_seconds(out, "heapd_gc_pause_p99_seconds", (double)heap->gc_pauses.p99_us / 1e6,
                  "What 99 in 100 of these pauses did not exceed.");
}

static void gil_section(struct out *out, const struct figures *figures)
{
    const struct heap_stats *heap = &figures->heap;
    gauge_seconds(out, "heapd_gil_switch_interval_seconds", heap->switch_interval_us / 1e6,
                  "How long a thread waits for the GIL before it asks for it.");
    counter(out, "heapd_gil_acquisitions_total", heap->gil_acquisitions, "How often the GIL was taken.");
    counter(out, "heapd_gil_contended_total", heap->gil_contended, "How often somebody had to wait for it.");
    counter(out, "heapd_gil_drop_requests_total", heap->gil_drop_requests, "How often a waiter asked for it.");
    counter(out, "heapd_gil_forced_switches_total", heap->gil_forced_switches, "How often it was handed over.");
    histogram(out, "heapd_gil_hold_seconds", &heap->gil_hold, "How long the GIL was held at once.");
    gauge_seconds(out, "heapd_gil_hold_max_seconds", (double)heap->gil_hold.max_us / 1e6, "The longest of these.");
    gauge_seconds(out, "heapd_gil_hold_p99_seconds", (double)heap->gil_hold.p99_us / 1e6,
                  "What 99 in 100 of these did not exceed.");
    histogram(out, "heapd_gil_wait_seconds", &heap->gil_wait, "How long threads waited for the GIL.");
    gauge_seconds(out, "heapd_gil_wait_max_seconds", (double)heap->gil_wait.max_us / 1e6, "The longest of these.");
    gauge_seconds(out, "heapd_gil_wait_p99_seconds", (double)heap->gil_wait.p99_us / 1e6,
                  "What 99 in 100 of these did not exceed.");
}

static void sessions_section(struct out *out, const struct figures *figures)
{
    struct rpc_service *service = figures->service;
    gauge(out, "heapd_sessions", atomic_load_explicit(&service->sessions, memory_order_relaxed),
          "Sessions, of connections and leased ones.");
    gauge(out, "heapd_sessions_leased", atomic_load_explicit(&service->book.leased, memory_order_relaxed),
          "Sessions with a lease.");
    gauge(out, "heapd_holds", figures->heap.holds, "References owned by sessions.");
    gauge(out, "heapd_names", figures->heap.names, "Bound names.");
}

/* What is behind a limit's name for its unit. */
#define UNIT_SIZE "_bytes"
#define UNIT_NUMBER ""
#define UNIT_SECONDS "_seconds"

static void limits_section(struct out *out, const struct figures *figures)
{
#define X(member, name, unit, fallback, largest, doc)                                                          \
    gauge(out, "heapd_limit_" #member UNIT_##unit, RPC_LIMIT(figures->service, member),                         \
          "The option " name ": " doc "; 0 is no limit.");
    RPC_LIMIT_MAP(X)
#undef X
}

/* What client libraries of Prometheus tell of any process. */
static void process_section(struct out *out, const struct figures *figures)
{
    struct rusage used;
    struct rlimit files;
    double cpu_s = 0;
    if (getrusage(RUSAGE_SELF, &used) == 0) {
        cpu_s = (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
                (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
    }
    family(out, "process_cpu_seconds_total", "counter", "User and system time of the process.");
    sample_seconds(out, "process_cpu_seconds_total", cpu_s);
    gauge(out, "process_virtual_memory_bytes", figures->layers[4].bytes, "Address space of the process.");
    gauge(out, "process_resident_memory_bytes", figures->layers[5].bytes, "Memory that the kernel charges the process.");
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        gauge(out, "process_max_fds", files.rlim_cur, "Files that the process may have open.");
    }
    gauge_seconds(out, "process_start_time_seconds", figures->service->started_unix_s,
                  "When the daemon was started, since 1970.");
}

/* ---- the page ---- */

char *rpc_service_metrics(struct rpc_service *service, size_t *len)
{
    struct figures *figures = calloc(1, sizeof(*figures)); /* large for a stack */
    struct out out;
    if (figures == NULL) {
        return NULL;
    }
    figures->service = service;
    heap_stats(&figures->heap, service->heap);
    rpc_service_counts(service, &figures->counts);
    layers_read(figures->layers, &figures->heap);
    if (service->host.figures != NULL) {
        service->host.figures(service->host.arg, &figures->server);
    }
    out_init(&out, 0);
    server_section(&out, figures);
    objects_section(&out, figures);
    layers_section(&out, figures);
    allocator_section(&out, figures);
    gc_section(&out, figures);
    gil_section(&out, figures);
    sessions_section(&out, figures);
    limits_section(&out, figures);
    process_section(&out, figures);
    free(figures);
    if (out.failed) {
        out_fini(&out);
        return NULL;
    }
    *len = out.len;
    return out.data;
}
