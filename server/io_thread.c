/* io_thread.c -- a loop and the connections on it.
 *
 *   a turn     poll   on_read of each connection with input: framed and parsed, not run     conn.c
 *              check  on_check: rpc_thread_run() runs everything in one GIL hold,
 *                     then one write for each connection that rpc_thread_next() names
 *
 *   wants_run  set by whoever gives rpc_thread_run() something to do: input, a connection that has come or
 *              gone, requests that wait, what other threads wake it for.  While it is set `busy` is active, so that a poll cannot sleep on it.
 *   step       a slice of the heap's work, if there is some and one is due             step.c
 *   pace       a connection whose replies are not read as fast as they come rests, so that others do not
 *              notice; each 20 ms it runs on for a share.  At 1 MiB each one that does not read at all has
 *              reached max-output, and is closed, within two seconds, and one that reads 50 MiB/s never.
 *
 *   relieve    when unfinished lines are too long in sum, the connections that have most for longest are closed
 *
 * A turn reads READ_BUDGET over all connections, and a little more from those that come too late for it: what it parses
 * waits in memory until it has run.  A connection that wants to read beyond that is given no room, which libuv reports as
 * UV_ENOBUFS, and its bytes stay in the kernel until the next turn.
 *
 * Start at on_check().
 */
#include "io_thread.h"

#include "conn.h"
#include "server.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Half a millisecond's worth, or nobody else is heard for longer; the memory of a turn is a small multiple. */
#define READ_BUDGET (512u * 1024u)
#define PACE_MS 20u
/* No handler recurses deeper than a request nests, and libuv and jansson need little. */
#define STACK_BYTES (1024u * 1024u)
/* Turns after a stop is wanted: one to open connections that were being handed over, one to read from them. */
#define LAST_TURNS 2u
/* Bounds of the interval at which silent connections are looked for. */
#define COARSE_LEAST_MS 250u
#define COARSE_MOST_MS 10000u
/* Unfinished lines of all connections of a loop may have so many times what max-request allows to one: a thousand, each a
 * little below its own limit, would have it all. */
#define UNFINISHED_SHARES 4u
/* Closing a connection that has less would help nobody. */
#define UNFINISHED_WORTH 16384u
/* The interval when something calls for a look. */
#define COARSE_SOON_MS 1100u

/* ---- what makes it turn ---- */

static void on_busy(uv_idle_t *busy)
{
    /* That it is active is all that is wanted of it. */
    (void)busy;
}

void io_thread_want_run(struct io_thread *thread)
{
    if (!thread->wants_run) {
        thread->wants_run = true;
        uv_idle_start(&thread->busy, on_busy);
    }
}

void io_thread_wake(struct io_thread *thread)
{
    uv_async_send(&thread->wake);
}

void io_thread_wake_to_run(struct io_thread *thread)
{
    atomic_store(&thread->run_wanted, true);
    io_thread_wake(thread);
}

/* ---- connections ---- */

/* How long until the next look at silent connections: a quarter of the shortest limit, within bounds. */
static uint64_t coarse_interval_ms(const struct io_thread *thread)
{
    uint64_t first_byte_s = atomic_load_explicit(&thread->server->first_byte_timeout_s, memory_order_relaxed);
    uint64_t idle_s = atomic_load_explicit(&thread->server->idle_timeout_s, memory_order_relaxed);
    uint64_t shortest_s = idle_s == 0 || (first_byte_s != 0 && first_byte_s < idle_s) ? first_byte_s : idle_s;
    uint64_t ms = shortest_s * 1000 / 4;
    if (ms == 0 || ms > COARSE_MOST_MS) {
        return COARSE_MOST_MS;
    }
    return ms < COARSE_LEAST_MS ? COARSE_LEAST_MS : ms;
}

/* Linear in connections; twelve thousand are looked at within a millisecond. */
static void on_coarse(uv_timer_t *timer)
{
    struct io_thread *thread = timer->data;
    uint64_t now = uv_now(&thread->loop);
    for (struct conn *conn = thread->conns, *next; conn != NULL; conn = next) {
        next = conn->next;
        conn_check_silence(conn, now);
    }
    if (thread->conns != NULL) {
        uv_timer_start(timer, on_coarse, coarse_interval_ms(thread), 0);
    }
}

static void on_pace(uv_timer_t *timer)
{
    struct io_thread *thread = timer->data;
    for (struct conn *conn = thread->resting; conn != NULL; conn = conn->next_resting) {
        conn->is_resting = false;
        rpc_conn_resume(conn->rpc);
    }
    thread->resting = NULL;
    io_thread_want_run(thread);
}

static void on_held(uv_timer_t *timer)
{
    io_thread_want_run(timer->data);
}

/* The run that is due for connections that are held comes. */
static void arm_held(struct io_thread *thread)
{
    uint64_t ms = rpc_thread_due_in_ms(thread->rpc);
    if (ms != UINT64_MAX && !uv_is_active((uv_handle_t *)&thread->held)) {
        uv_timer_start(&thread->held, on_held, ms + 1, 0);
    }
}

void io_thread_rest(struct io_thread *thread, struct conn *conn)
{
    if (conn->is_resting) {
        return;
    }
    conn->is_resting = true;
    conn->next_resting = thread->resting;
    thread->resting = conn;
    if (!uv_is_active((uv_handle_t *)&thread->pace)) {
        uv_timer_start(&thread->pace, on_pace, PACE_MS, 0);
    }
}

void io_thread_look_soon(struct io_thread *thread)
{
    if (uv_timer_get_due_in(&thread->coarse) > COARSE_SOON_MS) {
        uv_timer_start(&thread->coarse, on_coarse, COARSE_SOON_MS, 0);
    }
}

void io_thread_add(struct io_thread *thread, struct conn *conn)
{
    conn->prev = NULL;
    conn->next = thread->conns;
    if (conn->next != NULL) {
        conn->next->prev = conn;
    }
    thread->conns = conn;
    if (!uv_is_active((uv_handle_t *)&thread->coarse)) {
        uv_timer_start(&thread->coarse, on_coarse, coarse_interval_ms(thread), 0);
    }
}

void io_thread_remove(struct io_thread *thread, struct conn *conn)
{
    if (conn->is_resting) {
        struct conn **link = &thread->resting;
        while (*link != conn) {
            link = &(*link)->next_resting;
        }
        *link = conn->next_resting;
    }
    *(conn->prev != NULL ? &conn->prev->next : &thread->conns) = conn->next;
    if (conn->next != NULL) {
        conn->next->prev = conn->prev;
    }
    if (conn->is_dismissed) {
        thread->dismissed--;
    } else {
        io_thread_forget(thread);
    }
}

void io_thread_forget(struct io_thread *thread)
{
    atomic_fetch_sub_explicit(&thread->load, 1, memory_order_relaxed);
    atomic_fetch_sub(&thread->server->connections, 1);
}

bool io_thread_adopt(struct io_thread *thread, int fd, enum peer_kind kind, uint64_t client)
{
    struct arrival *arrival = malloc(sizeof *arrival);
    if (arrival == NULL) {
        return false;
    }
    *arrival = (struct arrival){.fd = fd, .kind = kind, .client = client};
    atomic_fetch_add_explicit(&thread->load, 1, memory_order_relaxed);
    uv_mutex_lock(&thread->mutex);
    bool was_empty = thread->first == NULL;
    *(was_empty ? &thread->first : &thread->last->next) = arrival;
    thread->last = arrival;
    uv_mutex_unlock(&thread->mutex);
    if (was_empty) {
        io_thread_wake(thread);
    }
    return true;
}

/* Opens the connections that have arrived; when the daemon stops they come too late. */
static void take_arrivals(struct io_thread *thread)
{
    uv_mutex_lock(&thread->mutex);
    struct arrival *arrival = thread->first;
    thread->first = NULL;
    uv_mutex_unlock(&thread->mutex);
    for (struct arrival *next; arrival != NULL; arrival = next) {
        next = arrival->next;
        if (thread->phase <= IO_LAST_CALL) {
            conn_open(thread, arrival->fd, arrival->kind, arrival->client);
        } else {
            close(arrival->fd);
            io_thread_forget(thread);
        }
        free(arrival);
    }
}

/* ---- unfinished lines ---- */

/* What its connections may have together; 0: no limit. */
static uint64_t unfinished_max(const struct io_thread *thread)
{
    return UNFINISHED_SHARES * atomic_load_explicit(&thread->server->max_request, memory_order_relaxed);
}

/* The one that has most for longest: its bytes times its silence.  NULL: none has enough to be worth it. */
static struct conn *worst(const struct io_thread *thread)
{
    struct conn *found = NULL;
    uint64_t now = uv_now(&thread->loop);
    double most = 0;
    for (struct conn *conn = thread->conns; conn != NULL; conn = conn->next) {
        double burden = (double)conn->unfinished * (double)(now - conn->active_ms + 1);
        if (conn->unfinished >= UNFINISHED_WORTH && burden > most) {
            most = burden;
            found = conn;
        }
    }
    return found;
}

/* Closes connections until the others have no more than they may. */
static void relieve(struct io_thread *thread)
{
    uint64_t max = unfinished_max(thread);
    while (max != 0 && thread->unfinished > max) {
        struct conn *conn = worst(thread);
        if (conn == NULL) {
            return;
        }
        conn_close_unfinished(conn);
    }
}

/* ---- the turn ---- */

/* Runs what was received and sends the replies. */
static void run(struct io_thread *thread)
{
    struct rpc_conn *rpc;
    thread->wants_run = false;
    rpc_thread_run(thread->rpc);
    /* Connections whose requests wait ask for the next run when they are flushed. */
    while ((rpc = rpc_thread_next(thread->rpc)) != NULL) {
        conn_flush(rpc_conn_user(rpc));
    }
    if (rpc_thread_is_shut_out(thread->rpc)) {
        io_thread_want_run(thread);
    }
    if (!thread->wants_run) {
        uv_idle_stop(&thread->busy);
    }
    arm_held(thread);
    thread->read_budget = READ_BUDGET;
    thread->turn++;
    rpc_service_count_bytes(thread->server->service, thread->bytes_in, thread->bytes_out);
    thread->bytes_in = thread->bytes_out = 0;
}

static void on_deadline(uv_timer_t *timer)
{
    struct io_thread *thread = timer->data;
    while (thread->conns != NULL) {
        conn_close(thread->conns, LOG_WARNING, "the daemon stops, and its last replies were not read in time");
    }
}

/* What arrived before the stop has been read and run by now. */
static void begin_draining(struct io_thread *thread)
{
    thread->phase = IO_DRAINING;
    uv_timer_start(&thread->deadline, on_deadline, SERVER_FLUSH_MS, 0);
    for (struct conn *conn = thread->conns, *next; conn != NULL; conn = next) {
        next = conn->next;
        conn_drain(conn);
    }
}

static void close_handles(struct io_thread *thread)
{
    thread->phase = IO_ENDED;
    uv_close((uv_handle_t *)&thread->wake, NULL);
    uv_close((uv_handle_t *)&thread->check, NULL);
    uv_close((uv_handle_t *)&thread->busy, NULL);
    uv_close((uv_handle_t *)&thread->pace, NULL);
    uv_close((uv_handle_t *)&thread->held, NULL);
    uv_close((uv_handle_t *)&thread->coarse, NULL);
    uv_close((uv_handle_t *)&thread->deadline, NULL);
    step_close(thread);
}

/* Whether a draining thread has nothing left to do. */
static bool may_end(const struct io_thread *thread)
{
    return thread->phase == IO_DRAINING && thread->conns == NULL && !thread->wants_run &&
           (!thread->is_main || atomic_load(&thread->server->threads_running) == 0);
}

static void on_check(uv_check_t *check)
{
    struct io_thread *thread = check->data;
    if (thread->wants_run) {
        run(thread);
    }
    relieve(thread);
    step_turn(thread);
    if (thread->phase == IO_LAST_CALL && thread->last_turns-- > 0) {
        io_thread_want_run(thread);
    } else if (thread->phase == IO_LAST_CALL) {
        begin_draining(thread);
    }
    if (may_end(thread)) {
        close_handles(thread);
    }
}

static void on_wake(uv_async_t *wake)
{
    struct io_thread *thread = wake->data;
    take_arrivals(thread);
    if (atomic_exchange(&thread->run_wanted, false)) {
        io_thread_want_run(thread);
    }
    if (thread->is_main) {
        server_woken(thread->server);
    }
    if (thread->phase == IO_RUNNING && atomic_load(&thread->stop_wanted)) {
        thread->phase = IO_LAST_CALL;
        thread->last_turns = LAST_TURNS;
        io_thread_want_run(thread);
    }
}

/* ---- life ---- */

static void init_handles(struct io_thread *thread)
{
    uv_loop_t *loop = &thread->loop;
    uv_check_init(loop, &thread->check);
    uv_idle_init(loop, &thread->busy);
    uv_timer_init(loop, &thread->pace);
    uv_timer_init(loop, &thread->held);
    uv_timer_init(loop, &thread->coarse);
    uv_timer_init(loop, &thread->deadline);
    step_init(thread);
    thread->wake.data = thread->check.data = thread->busy.data = thread;
    thread->pace.data = thread->held.data = thread->coarse.data = thread->deadline.data = thread;
    uv_check_start(&thread->check, on_check);
}

struct io_thread *io_thread_create(struct server *server, bool is_main)
{
    struct io_thread *thread = calloc(1, sizeof *thread);
    if (thread == NULL) {
        return NULL;
    }
    thread->server = server;
    thread->is_main = is_main;
    thread->read_budget = READ_BUDGET;
    thread->turn = 1; /* no connection has read in it */
    thread->rpc = rpc_thread_create(server->service, thread);
    if (thread->rpc == NULL) {
        goto fail_rpc;
    }
    if (uv_mutex_init(&thread->mutex) != 0) {
        goto fail_mutex;
    }
    if (uv_loop_init(&thread->loop) != 0) {
        goto fail_loop;
    }
    if (uv_async_init(&thread->loop, &thread->wake, on_wake) != 0) {
        goto fail_async;
    }
    init_handles(thread);
    return thread;

fail_async:
    uv_loop_close(&thread->loop);
fail_loop:
    uv_mutex_destroy(&thread->mutex);
fail_mutex:
    rpc_thread_destroy(thread->rpc);
fail_rpc:
    free(thread);
    return NULL;
}

void io_thread_run(struct io_thread *thread)
{
    uv_run(&thread->loop, UV_RUN_DEFAULT);
}

/* The body of threads[1..]. */
static void thread_main(void *arg)
{
    struct io_thread *thread = arg;
    struct server *server = thread->server;
    io_thread_run(thread);
    atomic_fetch_sub(&server->threads_running, 1);
    /* threads[0] is there until this thread has been joined. */
    io_thread_wake(server->threads[0]);
}

bool io_thread_start(struct io_thread *thread)
{
    uv_thread_options_t options = {.flags = UV_THREAD_HAS_STACK_SIZE, .stack_size = STACK_BYTES};
    atomic_fetch_add(&thread->server->threads_running, 1);
    thread->is_started = uv_thread_create_ex(&thread->thread, &options, thread_main, thread) == 0;
    if (!thread->is_started) {
        atomic_fetch_sub(&thread->server->threads_running, 1);
    }
    return thread->is_started;
}

void io_thread_stop(struct io_thread *thread)
{
    atomic_store(&thread->stop_wanted, true);
    io_thread_wake(thread);
}

bool io_thread_destroy(struct io_thread *thread)
{
    if (thread->is_started) {
        uv_thread_join(&thread->thread);
    }
    if (thread->phase != IO_ENDED) {
        close_handles(thread);
        uv_run(&thread->loop, UV_RUN_DEFAULT);
    }
    bool clean = uv_loop_close(&thread->loop) == 0;
    uv_mutex_destroy(&thread->mutex);
    rpc_thread_destroy(thread->rpc);
    free(thread);
    return clean;
}
