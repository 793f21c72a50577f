/* method_stats.c -- stats: figures of the daemon and the heap, as PROTOCOL section 4 lists them.
 *
 * Needs no GIL and waits for nothing: every figure is a counter that is read as it stands.  The document is
 * built with jansson, since nobody asks often.  One function a section; SECTION_MAP is the order.
 */
#include "document.h"
#include "layers.h"
#include "method_handlers.h"
#include "rpc_internal.h"

#include <unistd.h>

/* What the sections are made of, read once a call. */
struct figures {
    struct rpc_service *service;
    struct heap_stats heap;
};

static json_t *integer(uint64_t value)
{
    return json_integer((json_int_t)value);
}

/* ---- server ---- */

static json_t *errors_by_word(const struct rpc_counts *counts)
{
    json_t *j_errors = json_object();
    for (int i = 1; i < RPC_ERROR_COUNT; i++) {
        json_object_set_new(j_errors, rpc_error_word((enum rpc_error)i), integer(counts->errors[i]));
    }
    return j_errors;
}

static json_t *server_section(const struct figures *figures)
{
    struct rpc_service *service = figures->service;
    struct rpc_server_figures server = {0};
    struct rpc_counts counts;
    if (service->host.figures != NULL) {
        service->host.figures(service->host.arg, &server);
    }
    rpc_service_counts(service, &counts);
    json_t *j_server = json_object();
    json_object_set_new(j_server, "name", json_string("heapd"));
    json_object_set_new(j_server, "version", json_string(RPC_VERSION));
    json_object_set_new(j_server, "protocol", json_integer(RPC_PROTOCOL_VERSION));
    json_object_set_new(j_server, "heap", json_string(service->heap_token));
    json_object_set_new(j_server, "pid", json_integer(getpid()));
    json_object_set_new(j_server, "uptime_s", integer(rpc_service_uptime_s(service)));
    json_object_set_new(j_server, "connections", integer(server.connections));
    json_object_set_new(j_server, "connections_total", integer(server.connections_total));
    json_object_set_new(j_server, "requests", integer(counts.requests));
    json_object_set_new(j_server, "notifications", integer(counts.notifications));
    json_object_set_new(j_server, "bytes_in",
                        integer(atomic_load_explicit(&service->bytes_in, memory_order_relaxed)));
    json_object_set_new(j_server, "bytes_out",
                        integer(atomic_load_explicit(&service->bytes_out, memory_order_relaxed)));
    json_object_set_new(j_server, "errors", errors_by_word(&counts));
    return j_server;
}

/* ---- objects ---- */

static json_t *objects_section(const struct figures *figures)
{
    const struct heap_stats *heap = &figures->heap;
    json_t *j_objects = json_object();
    json_object_set_new(j_objects, "live", integer(heap->live));
    json_object_set_new(j_objects, "bytes", integer(heap->bytes));
    json_object_set_new(j_objects, "immortal", integer(heap->immortal));
    json_object_set_new(j_objects, "created", integer(heap->created));
    json_object_set_new(j_objects, "freed", integer(heap->freed));
    json_object_set_new(j_objects, "types", document_types(figures->service->heap));
    return j_objects;
}

/* ---- layers ---- */

static json_t *layers_section(const struct figures *figures)
{
    struct layer_figures layers[LAYER_COUNT];
    json_t *j_layers = json_array();
    layers_read(layers, &figures->heap);
    for (unsigned i = 0; i < LAYER_COUNT; i++) {
        json_t *j_layer = json_object();
        json_object_set_new(j_layer, "layer", json_integer(layers[i].layer));
        json_object_set_new(j_layer, "name", json_string(layers[i].name));
        json_object_set_new(j_layer, "bytes", integer(layers[i].bytes));
        json_object_set_new(j_layer, "count", integer(layers[i].count));
        json_array_append_new(j_layers, j_layer);
    }
    return j_layers;
}

/* ---- allocator ---- */

static json_t *allocator_section(const struct figures *figures)
{
    const struct heap_stats *heap = &figures->heap;
    json_t *j_allocator = json_object(), *j_classes = json_array();
    json_object_set_new(j_allocator, "arenas", integer(heap->arenas));
    json_object_set_new(j_allocator, "arenas_total", integer(heap->arenas_total));
    json_object_set_new(j_allocator, "arenas_reclaimed", integer(heap->arenas_reclaimed));
    json_object_set_new(j_allocator, "arenas_highwater", integer(heap->arenas_highwater));
    json_object_set_new(j_allocator, "arena_bytes", integer(heap->arena_bytes));
    json_object_set_new(j_allocator, "pools", integer(heap->pools));
    json_object_set_new(j_allocator, "pools_free", integer(heap->pools_free));
    json_object_set_new(j_allocator, "pool_bytes", integer(heap->pool_bytes));
    json_object_set_new(j_allocator, "blocks", integer(heap->blocks));
    json_object_set_new(j_allocator, "raw_blocks", integer(heap->raw_blocks));
    json_object_set_new(j_allocator, "raw_bytes", integer(heap->raw_bytes));
    for (int i = 0; i < 32; i++) {
        const struct heap_class_figures *class = &heap->classes[i];
        json_t *j_class = json_object();
        json_object_set_new(j_class, "size", json_integer(class->size));
        json_object_set_new(j_class, "pools", integer(class->pools));
        json_object_set_new(j_class, "blocks", integer(class->blocks));
        json_object_set_new(j_class, "free", integer(class->free));
        json_array_append_new(j_classes, j_class);
    }
    json_object_set_new(j_allocator, "classes", j_classes);
    return j_allocator;
}

/* ---- gc and gil ---- */

static json_t *three(const uint32_t values[3])
{
    json_t *j_three = json_array();
    for (int i = 0; i < 3; i++) {
        json_array_append_new(j_three, json_integer(values[i]));
    }
    return j_three;
}

static json_t *histogram(const struct heap_histogram_figures *figures)
{
    json_t *j_histogram = json_object();
    json_object_set_new(j_histogram, "count", integer(figures->count));
    json_object_set_new(j_histogram, "max_us", integer(figures->max_us));
    json_object_set_new(j_histogram, "p99_us", integer(figures->p99_us));
    return j_histogram;
}

static json_t *gc_section(const struct figures *figures)
{
    const struct heap_stats *heap = &figures->heap;
    json_t *j_gc = json_object(), *j_generations = json_array();
    json_object_set_new(j_gc, "enabled", json_boolean(heap->gc_enabled));
    json_object_set_new(j_gc, "collecting", json_boolean(heap->gc_collecting));
    json_object_set_new(j_gc, "count", three(heap->gc_count));
    json_object_set_new(j_gc, "threshold", three(heap->gc_threshold));
    json_object_set_new(j_gc, "frozen", integer(heap->gc_frozen));
    for (int i = 0; i < 3; i++) {
        json_t *j_generation = json_object();
        json_object_set_new(j_generation, "collections", integer(heap->generations[i].collections));
        json_object_set_new(j_generation, "collected", integer(heap->generations[i].collected));
        json_object_set_new(j_generation, "uncollectable", integer(heap->generations[i].uncollectable));
        json_object_set_new(j_generation, "objects", integer(heap->generations[i].objects));
        json_array_append_new(j_generations, j_generation);
    }
    json_object_set_new(j_gc, "generations", j_generations);
    json_object_set_new(j_gc, "pauses", histogram(&heap->gc_pauses));
    return j_gc;
}

static json_t *gil_section(const struct figures *figures)
{
    const struct heap_stats *heap = &figures->heap;
    json_t *j_gil = json_object();
    json_object_set_new(j_gil, "switch_interval_us", json_integer(heap->switch_interval_us));
    json_object_set_new(j_gil, "acquisitions", integer(heap->gil_acquisitions));
    json_object_set_new(j_gil, "contended", integer(heap->gil_contended));
    json_object_set_new(j_gil, "drop_requests", integer(heap->gil_drop_requests));
    json_object_set_new(j_gil, "forced_switches", integer(heap->gil_forced_switches));
    json_object_set_new(j_gil, "hold", histogram(&heap->gil_hold));
    json_object_set_new(j_gil, "wait", histogram(&heap->gil_wait));
    return j_gil;
}

/* ---- sessions, names, limits ---- */

static json_t *sessions_section(const struct figures *figures)
{
    /* A connection is a session from its start, also before it has got one. */
    uint64_t sessions = atomic_load_explicit(&figures->service->sessions, memory_order_relaxed);
    uint64_t leased = atomic_load_explicit(&figures->service->book.leased, memory_order_relaxed);
    json_t *j_sessions = json_object();
    json_object_set_new(j_sessions, "count", integer(sessions));
    json_object_set_new(j_sessions, "leased", integer(leased));
    json_object_set_new(j_sessions, "holds", integer(figures->heap.holds));
    return j_sessions;
}

static json_t *names_section(const struct figures *figures)
{
    json_t *j_names = json_object();
    json_object_set_new(j_names, "count", integer(figures->heap.names));
    return j_names;
}

/* How often each limit was in somebody's way. */
static json_t *limits_reached(const struct rpc_service *service)
{
    json_t *j_limits = json_object();
#define X(member, name, ...)                                                                                   \
    json_object_set_new(j_limits, name,                                                                        \
                        integer(atomic_load_explicit(&service->limit_hits.member, memory_order_relaxed)));
    RPC_LIMIT_MAP(X)
    RPC_FIXED_LIMIT_MAP(X)
#undef X
    return j_limits;
}

static json_t *limits_section(const struct figures *figures)
{
    struct rpc_counts counts;
    json_t *j_limits = json_object();
#define X(member, name, unit, fallback, largest, doc)                                                          \
    json_object_set_new(j_limits, name, integer(RPC_LIMIT(figures->service, member)));
    RPC_LIMIT_MAP(X)
#undef X
    rpc_service_counts(figures->service, &counts);
    json_object_set_new(j_limits, "reached", limits_reached(figures->service));
    json_object_set_new(j_limits, "wrong_tokens", integer(counts.wrong_tokens));
    return j_limits;
}

/* ---- the method ---- */

/* The sections in order; each NAME is made by NAME_section(). */
#define SECTION_MAP(X) X(server) X(objects) X(layers) X(allocator) X(gc) X(gil) X(sessions) X(names) X(limits)

static const struct {
    const char *name;
    json_t *(*make)(const struct figures *figures);
} SECTIONS[] = {
#define X(section) {#section, section##_section},
    SECTION_MAP(X)
#undef X
};
#define SECTION_COUNT (sizeof(SECTIONS) / sizeof(SECTIONS[0]))

/* The words of the parameter `section`. */
const char *const METHOD_STATS_SECTIONS[SECTION_COUNT + 1] = {
#define X(section) #section,
    SECTION_MAP(X)
#undef X
        NULL};

bool method_stats_is_server(const method_arg *args)
{
    return arg_given(&args[0]) && SECTIONS[args[0].integer].make == server_section;
}

bool method_stats(struct call *call)
{
    struct figures figures = {.service = call->service};
    heap_stats(&figures.heap, call->heap);
    json_t *j_stats;
    if (arg_given(&call->args[0])) {
        j_stats = SECTIONS[call->args[0].integer].make(&figures);
    } else {
        j_stats = json_object();
        for (size_t i = 0; i < SECTION_COUNT; i++) {
            json_object_set_new(j_stats, SECTIONS[i].name, SECTIONS[i].make(&figures));
        }
    }
    return call_document_steal(call, j_stats);
}
