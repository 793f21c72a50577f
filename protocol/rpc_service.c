/* rpc_service.c -- the service: one heap, its limits, and what its threads have counted. */
#include "json_memory.h"
#include "rpc_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <time.h>

/* Microseconds from which a request is worth an entry in the slowlog. */
#define SLOWLOG_US_DEFAULT 10000u

uint64_t rpc_now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

struct heap_limits rpc_heap_limits(const struct rpc_limits *limits)
{
    return (struct heap_limits){
        .max_bytes = limits->max_memory, .max_holds = limits->max_holds, .max_names = limits->max_names};
}

static void store_limits(struct rpc_service *service, const struct rpc_limits *limits)
{
#define X(member, name, unit, fallback, largest, doc)                                                          \
    atomic_store_explicit(&service->limits.member, limits->member, memory_order_relaxed);
    RPC_LIMIT_MAP(X)
#undef X
}

bool rpc_make_token(char token[RPC_TOKEN_BYTES])
{
    unsigned char bytes[16];
    if (getrandom(bytes, sizeof(bytes), 0) != (ssize_t)sizeof(bytes)) {
        return false;
    }
    for (size_t i = 0; i < sizeof(bytes); i++) {
        snprintf(token + 2 * i, 3, "%02x", bytes[i]);
    }
    return true;
}

#if HEAP_DEBUG >= 1
/* The switch of the stress tests (tests/fuzz): HEAPD_STRESS="collect=1,slice=1,interval=1", each as wanted: a full
 * collection at the end of each request; slices of so many objects; a switch interval of so many microseconds. */
static void use_stress(struct heap *heap)
{
    const char *switches = getenv("HEAPD_STRESS"), *found;
    if (switches == NULL) {
        return;
    }
    heap_enter(heap);
    if ((found = strstr(switches, "collect=")) != NULL) {
        heap_set_collect_always(heap, found[strlen("collect=")] == '1');
    }
    if ((found = strstr(switches, "slice=")) != NULL) {
        heap_set_slice(heap, 500, (uint32_t)strtoul(found + strlen("slice="), NULL, 10));
    }
    if ((found = strstr(switches, "interval=")) != NULL) {
        heap_set_switch_interval_us(heap, (uint32_t)strtoul(found + strlen("interval="), NULL, 10));
    }
    heap_leave(heap);
}
#endif

struct rpc_service *rpc_service_create(const struct rpc_limits *limits, const struct rpc_host *host)
{
    json_memory_use();
    struct rpc_service *service = calloc(1, sizeof(*service));
    if (service == NULL) {
        return NULL;
    }
    struct heap_config config = {.limits = rpc_heap_limits(limits)};
    service->heap = heap_create(&config);
    if (service->heap == NULL) {
        goto fail_heap;
    }
    if (!rpc_make_token(service->heap_token) || pthread_mutex_init(&service->mutex, NULL) != 0) {
        goto fail_token;
    }
    if (!slowlog_init(&service->slowlog, SLOWLOG_US_DEFAULT)) {
        goto fail_slowlog;
    }
    if (!question_desk_init(service)) {
        goto fail_desk;
    }
    if (!access_book_init(&service->access)) {
        goto fail_access;
    }
    store_limits(service, limits);
    service->host = *host;
    service->started_ms = rpc_now_ms();
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    service->started_unix_s = (double)now.tv_sec + (double)now.tv_nsec / 1e9;
    method_index_init(&service->index);
    event_observe_heap(service);
    journal_init(service);
    pthread_mutex_init(&service->walk_mutex, NULL);
#if HEAP_DEBUG >= 1
    use_stress(service->heap);
#endif
    return service;

fail_access:
    question_desk_fini(&service->desk);
fail_desk:
    slowlog_fini(&service->slowlog);
fail_slowlog:
    pthread_mutex_destroy(&service->mutex);
fail_token:
    heap_destroy(service->heap);
fail_heap:
    free(service);
    return NULL;
}

void rpc_service_destroy(struct rpc_service *service)
{
    question_desk_fini(&service->desk);
    heap_enter(service->heap);
    journal_give_up_replay(service);
    session_end_all(service);
    heap_leave(service->heap);
    event_fini(service);
    lease_fini(&service->book);
    heap_destroy(service->heap);
    park_fini(service);
    journal_fini(service);
    access_book_fini(&service->access);
    pthread_mutex_destroy(&service->walk_mutex);
    slowlog_fini(&service->slowlog);
    pthread_mutex_destroy(&service->mutex);
    free(service->export_dir);
    free(service->discovery);
    free(service);
}

void rpc_service_use_limits(struct rpc_service *service, const struct rpc_limits *limits)
{
    struct heap_limits heap_limits = rpc_heap_limits(limits);
    store_limits(service, limits);
    heap_set_limits(service->heap, &heap_limits);
}

void rpc_service_set_limits(struct rpc_service *service, const struct rpc_limits *limits)
{
    heap_enter(service->heap);
    rpc_service_use_limits(service, limits);
    heap_leave(service->heap);
}

void rpc_service_set_slowlog(struct rpc_service *service, uint64_t us)
{
    slowlog_set_threshold(&service->slowlog, us);
}

bool rpc_service_set_export_dir(struct rpc_service *service, const char *path)
{
    service->export_dir = path != NULL ? strdup(path) : NULL;
    return path == NULL || service->export_dir != NULL;
}

uint32_t rpc_service_check(struct rpc_service *service)
{
    heap_enter(service->heap);
    uint32_t problems = heap_check(service->heap, stderr);
    heap_leave(service->heap);
    return problems;
}

void rpc_service_count_bytes(struct rpc_service *service, uint64_t in, uint64_t out)
{
    atomic_fetch_add_explicit(&service->bytes_in, in, memory_order_relaxed);
    atomic_fetch_add_explicit(&service->bytes_out, out, memory_order_relaxed);
}

uint64_t rpc_service_uptime_s(const struct rpc_service *service)
{
    return (rpc_now_ms() - service->started_ms) / 1000;
}

const char *rpc_service_discovery(struct rpc_service *service)
{
    pthread_mutex_lock(&service->mutex);
    if (service->discovery == NULL) {
        service->discovery = rpc_discover_text();
    }
    const char *text = service->discovery;
    pthread_mutex_unlock(&service->mutex);
    return text;
}

/* ---- counters ---- */

void rpc_service_count_limit(struct rpc_service *service, const char *name)
{
#define X(member, limit, ...)                                                                                  \
    if (strcmp(name, limit) == 0) {                                                                            \
        atomic_fetch_add_explicit(&service->limit_hits.member, 1, memory_order_relaxed);                       \
    }
    RPC_LIMIT_MAP(X)
    RPC_FIXED_LIMIT_MAP(X)
#undef X
}

void rpc_service_count_fault(struct rpc_service *service, const struct fault *fault)
{
    bool may_be = fault->error == RPC_LIMIT_EXCEEDED || fault->error == RPC_MEMORY_ERROR;
    for (unsigned i = 0; may_be && i < fault->count; i++) {
        if (strcmp(fault->data[i].name, "limit") == 0) {
            rpc_service_count_limit(service, fault->data[i].text);
        }
    }
}

static void add_counters(struct rpc_counts *counts, const struct rpc_counters *counters)
{
    counts->requests += atomic_load_explicit(&counters->requests, memory_order_relaxed);
    counts->notifications += atomic_load_explicit(&counters->notifications, memory_order_relaxed);
    counts->wrong_tokens += atomic_load_explicit(&counters->wrong_tokens, memory_order_relaxed);
    for (int i = 0; i < RPC_ERROR_COUNT; i++) {
        counts->errors[i] += atomic_load_explicit(&counters->errors[i], memory_order_relaxed);
    }
}

void rpc_service_counts(struct rpc_service *service, struct rpc_counts *counts)
{
    memset(counts, 0, sizeof(*counts));
    pthread_mutex_lock(&service->mutex);
    add_counters(counts, &service->retired);
    for (struct rpc_thread *thread = service->threads; thread != NULL; thread = thread->next) {
        add_counters(counts, &thread->counters);
    }
    pthread_mutex_unlock(&service->mutex);
}

/* ---- threads ---- */

struct rpc_thread *rpc_thread_create(struct rpc_service *service, void *user)
{
    struct rpc_thread *thread = calloc(1, sizeof(*thread));
    if (thread == NULL) {
        return NULL;
    }
    thread->turn = turn_create();
    if (thread->turn == NULL) {
        free(thread);
        return NULL;
    }
    thread->service = service;
    thread->user = user;
    out_init(&thread->scratch, 0);
    pthread_mutex_lock(&service->mutex);
    thread->next = service->threads;
    service->threads = thread;
    pthread_mutex_unlock(&service->mutex);
    return thread;
}

/* Takes the thread off the service's list; what it counted stays. */
static void retire(struct rpc_thread *thread)
{
    struct rpc_service *service = thread->service;
    struct rpc_counts sum = {0};
    pthread_mutex_lock(&service->mutex);
    add_counters(&sum, &service->retired);
    add_counters(&sum, &thread->counters);
    atomic_store_explicit(&service->retired.requests, sum.requests, memory_order_relaxed);
    atomic_store_explicit(&service->retired.notifications, sum.notifications, memory_order_relaxed);
    atomic_store_explicit(&service->retired.wrong_tokens, sum.wrong_tokens, memory_order_relaxed);
    for (int i = 0; i < RPC_ERROR_COUNT; i++) {
        atomic_store_explicit(&service->retired.errors[i], sum.errors[i], memory_order_relaxed);
    }
    struct rpc_thread **link = &service->threads;
    while (*link != thread) {
        link = &(*link)->next;
    }
    *link = thread->next;
    pthread_mutex_unlock(&service->mutex);
}

void rpc_thread_destroy(struct rpc_thread *thread)
{
    if (thread->buried != NULL) {
        rpc_thread_run(thread);
    }
    question_wait_for_all(thread);
    rpc_thread_leave_work(thread);
    retire(thread);
    thread_tidy_turns(thread);
    turn_destroy(thread->turn);
    for (struct turn *turn = thread->idle, *next; turn != NULL; turn = next) {
        next = turn->next_idle;
        turn_destroy(turn);
    }
    out_fini(&thread->scratch);
    free(thread);
}

/* Turns that are kept for later: enough for one that is filled while another still has requests. */
#define IDLE_TURNS_MAX 2

void thread_release_turn(struct rpc_thread *thread, struct turn *turn)
{
    if (--turn->users == 0) {
        turn->next_idle = thread->used;
        thread->used = turn;
    }
}

void thread_tidy_turns(struct rpc_thread *thread)
{
    if (thread->used == NULL) {
        return;
    }
    unsigned kept = 0;
    for (struct turn *idle = thread->idle; idle != NULL; idle = idle->next_idle) {
        kept++;
    }
    for (struct turn *turn = thread->used, *next; turn != NULL; turn = next) {
        next = turn->next_idle;
        if (kept >= IDLE_TURNS_MAX) {
            turn_destroy(turn);
        } else {
            turn_reset(turn);
            turn->next_idle = thread->idle;
            thread->idle = turn;
            kept++;
        }
    }
    thread->used = NULL;
}
