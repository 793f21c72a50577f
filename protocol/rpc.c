/* rpc.c -- a turn: the requests of a thread's connections run, and their replies written.
 *
 *   rpc_thread_run   requests at the head of a queue that need no GIL run first; then the GIL is taken once,
 *                    and every other request of every connection runs in order; between two requests it is
 *                    handed over when somebody waits.  Where somebody has the GIL for long the run is given up,
 *                    so that what needs none is answered meanwhile
 *   run_first        head of the reply, the method's handler, the death of what the request killed; then what
 *                    all that made sessions hear (event.c) goes in front of the reply, and an automatic
 *                    collection runs when one is due
 *   questions        go to a worker (question.c); their connections wait for it, and nobody else
 *
 * This is the only file that takes the GIL for requests.  Connections that have come or gone enter and leave
 * their sessions here, too.
 *
 * A reply is written straight behind those that wait.  A handler that fails has what it wrote cut off, and an
 * error takes its place; so a reply is whole or not there.  The replies of a batch grow into one line, which is not
 * sent, and no event put in, before it is whole.
 */
#include "method_handlers.h"
#include "rpc_internal.h"

#include <stdlib.h>

#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

/* ---- replies ---- */

/* Ids up to here are copied in one piece, with bytes behind them that do not matter: there is padding. */
#define ID_COPIED_MAX 16u
/* What stands around an id at the most. */
#define REPLY_HEAD_BYTES 32u
_Static_assert(ID_COPIED_MAX <= TURN_PADDING, "an id may end where the bytes of its turn end");

void reply_head(struct out *out, bool is_short, const char *id, size_t id_len)
{
    static const char null[ID_COPIED_MAX] = "null";
    if (id == NULL) {
        id = null;
        id_len = strlen("null");
    }
    char *p = out_room(out, REPLY_HEAD_BYTES + (id_len < ID_COPIED_MAX ? ID_COPIED_MAX : id_len));
    if (p == NULL) {
        return;
    }
    p = is_short ? OUT_PUT(p, "{\"id\":") : OUT_PUT(p, "{\"jsonrpc\":\"2.0\",\"id\":");
    if (id_len <= ID_COPIED_MAX) {
        memcpy(p, id, ID_COPIED_MAX);
    } else {
        memcpy(p, id, id_len);
    }
    p += id_len;
    *p++ = ',';
    out_take(out, p);
}

void reply_error(struct out *out, bool is_short, const char *id, size_t id_len, const struct fault *fault)
{
    reply_head(out, is_short, id, id_len);
    out_text(out, "\"error\":");
    fault_write(out, fault);
    out_char(out, '}');
}

/* An element of a batch that is not its first. */
static bool is_within_batch(const struct request *request)
{
    return (request->flags & (REQUEST_IN_BATCH | REQUEST_BATCH_FIRST)) == REQUEST_IN_BATCH;
}

/* What stands before a reply within a batch. */
static void begin_reply(struct rpc_conn *conn, const struct request *request)
{
    if ((request->flags & REQUEST_IN_BATCH) != 0) {
        out_char(&conn->out, conn->batch_replies == 0 ? '[' : ',');
        conn->batch_replies++;
    }
}

/* What stands behind a reply, or behind the last element of a batch. */
static void end_request(struct rpc_conn *conn, unsigned flags, bool replied)
{
    if ((flags & REQUEST_IN_BATCH) == 0) {
        if (replied) {
            out_char(&conn->out, '\n');
        }
    } else if ((flags & REQUEST_BATCH_LAST) != 0 && conn->batch_replies > 0) {
        out_text(&conn->out, "]\n");
    }
}

static void count_error(struct rpc_thread *thread, enum rpc_error error)
{
    rpc_count(&thread->counters.errors[error]);
}

static void count_request(struct rpc_conn *conn, const struct request *request)
{
    struct rpc_counters *counters = &conn->thread->counters;
    bool notification = (request->flags & REQUEST_NOTIFICATION) != 0;
    rpc_count(notification ? &counters->notifications : &counters->requests);
    rpc_count(&conn->requests);
    if (request->method != NULL) {
        atomic_store_explicit(&conn->last_method, request->method, memory_order_relaxed);
    }
}

/* ---- one request ---- */

/* A request took `held` ticks, after the thread's `waited`, and before that what it had used when it was parked: an
 * entry of the slowlog, if all was long. */
static void note_time(struct rpc_conn *conn, const struct method *method, bool with_gil, uint64_t held,
                      const struct park_time *before, size_t bytes_in, size_t bytes_out)
{
    struct slowlog *slowlog = &conn->thread->service->slowlog;
    uint64_t waited = conn->thread->waited;
    uint64_t ticks = before->began == 0 ? held + waited : slowlog_ticks() - before->began;
    if (method == NULL || !slowlog_is_slow(slowlog, ticks)) {
        return;
    }
    held += before->held;
    waited += before->waited;
    struct slowlog_entry entry = {
        .client = conn->client,
        .method = method->name,
        .us = slowlog_us(slowlog, ticks),
        .gil_wait_us = slowlog_us(slowlog, waited),
        .gil_hold_us = with_gil ? slowlog_us(slowlog, held) : 0,
        .bytes_in = bytes_in,
        .bytes_out = bytes_out,
    };
    slowlog_add(slowlog, &entry);
}

/* Ticks since the request in hand could begin; the next one begins now. */
static uint64_t take_time(struct rpc_thread *thread)
{
    uint64_t now = slowlog_ticks(), held = now - thread->began;
    thread->began = now;
    thread->unstamped = 0;
    return held;
}

/* The connection's request is parked; what it has used up is noted with that. */
static void note_parked(struct rpc_conn *conn)
{
    struct rpc_thread *thread = conn->thread;
    struct park_time *time = &conn->park->time;
    uint64_t held = take_time(thread);
    if (time->began == 0) {
        time->began = thread->began - held - thread->waited;
    }
    time->held += held;
    time->waited += thread->waited;
}

/* So many quick requests may be taken for part of the one behind them. */
#define UNSTAMPED_MAX 8

/* Looks at the coarse clock.  Whether it is time to take_time(): a request has ended that may have been slow, or there
 * have been many since the last time. */
static bool is_time(struct rpc_thread *thread)
{
    uint64_t now_ms = slowlog_coarse_ms();
    bool has_moved = now_ms != thread->now_ms;
    thread->now_ms = now_ms;
    return has_moved || ++thread->unstamped >= UNSTAMPED_MAX ||
           slowlog_may_be_slow(&thread->service->slowlog, thread->waited);
}

/* The reply that was ready when the request was read. */
static void send_ready(struct rpc_conn *conn, const struct request *request)
{
    if (request->error != RPC_OK) {
        conn->last_error = request->error;
        count_error(conn->thread, request->error);
    }
    if (request->reply != NULL) {
        begin_reply(conn, request);
        out_bytes(&conn->out, request->reply, request->reply_len);
    }
}

/* An error reply in place of what was written since `start`. */
static void send_fault(struct rpc_conn *conn, const struct request *request, size_t start)
{
    struct out *out = &conn->out;
    out_truncate(out, start);
    conn->last_error = conn->thread->fault.error;
    count_error(conn->thread, conn->thread->fault.error);
    rpc_service_count_fault(conn->thread->service, &conn->thread->fault);
    if (conn->thread->fault.error == RPC_INTERNAL_ERROR && conn->thread->service->host.log_error != NULL) {
        conn->thread->service->host.log_error(conn->thread->service->host.arg, conn->thread->fault.message);
    }
    if ((request->flags & REQUEST_NOTIFICATION) == 0) {
        reply_error(out, (request->flags & REQUEST_SHORT) != 0, request->id, request->id_len,
                    &conn->thread->fault);
    }
}

bool reply_attempt(struct call *call, const struct request *request)
{
    struct out *out = call->out;
    out_truncate(out, call->result_start);
    call->freed = 0;
    if (!out_reserve(out, CALL_RESERVED_BYTES)) {
        return call_fail(call, HEAP_MEMORY);
    }
    reply_head(out, (request->flags & REQUEST_SHORT) != 0, request->id, request->id_len);
    out_text(out, "\"result\":");
    call->value_start = out->len;
    if (!request->method->handler(call)) {
        return false;
    }
    if (call->park == NULL) {
        out_char(out, '}');
    }
    return true;
}

/* What subscribers hear of the request itself; `session` is the number of the one it came from. */
static void tell_listeners(const struct call *call, bool done, uint64_t session)
{
    if (event_is_watched(call->service, 1u << EVENT_JOURNAL) && done && !call->out->failed &&
        method_changes(call->method, call->args)) {
        event_journal(call, session);
    }
    if (event_is_watched(call->service, 1u << EVENT_PRESSURE)) {
        event_check_pressure(call->service);
    }
}

/* The handler is done, and so is what it killed: tells of it, and makes the reply what it should be. */
static inline void end_method(struct rpc_conn *conn, const struct call *call, bool done, uint64_t session)
{
    const struct request *request = conn->first;
    if (request->method->needs_gil && conn->thread->service->book.watched != 0) {
        tell_listeners(call, done, session);
    }
    if (!done) {
        send_fault(conn, request, call->result_start);
    } else if (call->is_notification) {
        out_truncate(&conn->out, call->result_start);
    }
}

static inline struct call call_of(struct rpc_conn *conn)
{
    struct rpc_thread *thread = conn->thread;
    const struct request *request = conn->first;
    return (struct call){
        .service = thread->service,
        .heap = thread->service->heap,
        .conn = conn,
        .session = request->method->needs_gil ? conn->session->heap : NULL,
        .args = request->args,
        .method = request->method,
        .out = &conn->out,
        .result_start = conn->out.len,
        .result_max = service_reply_max(thread->service),
        .is_notification = (request->flags & REQUEST_NOTIFICATION) != 0,
        .role = rpc_conn_role(conn),
        .stage = conn->park != NULL ? conn->park->stage : 0,
        .collection = conn->park != NULL ? &conn->park->collection : NULL,
        .building = conn->built != NULL ? conn->built->building : NULL,
        .fault = &thread->fault,
    };
}

/* The handler once; a journal keeps what it did. */
static inline bool attempt(struct call *call, const struct request *request)
{
    return likely(!call->service->journal.is_on) ? reply_attempt(call, request) : journal_attempt(call, request);
}

/* There was no memory: after a full collection the handler gets another chance, at once or when that is over. */
static bool try_for_room(struct call *call, const struct request *request)
{
    struct heap_collection collection;
    if (call->conn->park != NULL && call->conn->park->has_collected) {
        return false;
    }
    enum heap_progress progress = heap_collect_begin(&collection, call->heap, 2, true);
    if (progress == HEAP_DONE) {
        return attempt(call, request);
    }
    call->has_begun_collection = progress == HEAP_GOES_ON;
    return call_wait(call, HEAP_WAIT_COLLECTION, call->stage);
}

/* Runs the handler of a request that needs the GIL.  Sets call->wait or call->park where it goes on later. */
static bool run_handler(struct call *call, const struct request *request)
{
    bool done = attempt(call, request);
    if (unlikely(!done) && call->wait == HEAP_WAIT_NOTHING && call->fault->error == RPC_MEMORY_ERROR) {
        done = try_for_room(call, request);
    }
    enum heap_wait met = heap_take_wait(call->heap);
    if (unlikely(met != HEAP_WAIT_NOTHING) && call->wait == HEAP_WAIT_NOTHING) {
        call->wait = met;
    }
    heap_settle(call->heap);
    return done;
}

/* The request is to be answered by who reads large values, or, when that is not possible, runs again at once.  The
 * answer brings its own memory; what was tried needs none meanwhile, for many may wait. */
static void move_request(struct rpc_conn *conn)
{
    conn->runs_at_once = !question_ask_reading(conn);
    if (!conn->runs_at_once && conn->out.len == 0) {
        out_fini(&conn->out);
        out_init(&conn->out, 0);
    }
}

/* A request of a method.  false: it goes on later, and its connection is parked, or asks a question. */
static bool run_method(struct rpc_conn *conn, const struct request *request)
{
    size_t before = conn->out.len;
    uint64_t replies_before = conn->batch_replies;
    uint64_t session = request->method->needs_gil ? conn->session->number : 0;
    if ((request->flags & REQUEST_NOTIFICATION) == 0) {
        begin_reply(conn, request);
    }
    struct call call = call_of(conn);
    bool done = request->method->needs_gil ? run_handler(&call, request) : reply_attempt(&call, request);
    if (unlikely(call.wait != HEAP_WAIT_NOTHING)) {
        if (conn->built != NULL && (call.wait == HEAP_WAIT_COLLECTION || !building_owns(conn->built->building))) {
            question_forget(conn); /* it would wait for itself, or has lost the value: that is built again */
        }
        if (park_again(conn, &call)) {
            out_truncate(&conn->out, before);
            conn->batch_replies = replies_before;
            return false;
        }
        done = call_fail(&call, HEAP_MEMORY);
    }
    if (unlikely(call.is_moved)) {
        out_truncate(&conn->out, before);
        conn->batch_replies = replies_before;
        move_request(conn);
        return false;
    }
    if (unlikely(call.park != NULL)) {
        park_reply(conn, &call, session);
        return false;
    }
    end_method(conn, &call, done, session);
    return true;
}

/* The reply to a request that could not run: thread->fault. */
static void refuse(struct rpc_conn *conn, const struct request *request)
{
    if ((request->flags & REQUEST_NOTIFICATION) == 0) {
        begin_reply(conn, request);
    }
    send_fault(conn, request, conn->out.len);
}

/* Whether the batch has written more than a connection may have waiting; then it says so instead. */
static bool batch_is_full(struct rpc_conn *conn, const struct request *request)
{
    uint64_t max = service_reply_max(conn->thread->service);
    if ((request->flags & REQUEST_IN_BATCH) == 0 || max == 0 || conn->out.len - conn->line_start <= max) {
        return false;
    }
    fault_set(&conn->thread->fault, RPC_LIMIT_EXCEEDED,
              "the batch's replies so far are longer than %llu bytes; this request was not run, send it again",
              (unsigned long long)max);
    fault_text(&conn->thread->fault, "limit", "max-output", strlen("max-output"));
    fault_number(&conn->thread->fault, "max", (int64_t)max);
    refuse(conn, request);
    return true;
}

/* The connection's first request is answered: drops it. */
static void finish_first(struct rpc_conn *conn)
{
    unsigned flags = conn->first->flags;
    end_request(conn, flags, (flags & REQUEST_NOTIFICATION) == 0);
    conn_drop_first(conn);
    if (conn->events.len > 0 && !conn_line_is_open(conn)) {
        event_insert(conn);
    }
    if (conn->out.failed) {
        conn_must_close(conn, "no memory for its replies");
    }
}

/* Whether the value of the connection's first request is large, and has not been built.  Without memory or a thread
 * for that the request builds it by itself; so it does for a journal, which notes what each request makes. */
static inline bool building_is_due(const struct rpc_conn *conn)
{
    return conn->first->bytes >= BUILDING_BYTES && conn->built == NULL && building_is_wanted(conn->first) &&
           !conn->thread->service->journal.is_on;
}

/* Runs the connection's first request.  false: it goes on later, and stays. */
static bool run_request(struct rpc_conn *conn, struct request *request)
{
    if (unlikely(request->needs > conn->access.cleared) && !access_allows(conn, request)) {
        refuse(conn, request);
    } else if (request->method == NULL) {
        send_ready(conn, request);
    } else if (unlikely(building_is_due(conn)) && question_ask_value(conn, conn->session->number)) {
        return false;
    } else if (!request_is_question(request)) {
        if (!run_method(conn, request)) {
            if (conn->park != NULL) {
                note_parked(conn);
            }
            return false;
        }
    } else if (question_ask(conn)) {
        return false;
    } else {
        fault_heap(&conn->thread->fault, HEAP_MEMORY);
        refuse(conn, request);
    }
    return true;
}

/* Runs the connection's first request and drops it; a question is asked, and stays. */
static void run_first(struct rpc_conn *conn)
{
    struct request *request = conn->first;
    const struct method *method = request->method;
    size_t bytes_in = request->bytes, out_before = conn->out.len;
    if (unlikely(request->needs > conn->access.cleared) && access_holds(conn)) {
        return;
    }
    if (!is_within_batch(request)) {
        conn->line_start = conn->out.len;
        conn->batch_replies = 0;
    }
    if (conn->park == NULL && conn->built == NULL && !conn->runs_at_once) {
        count_request(conn, request);
    }
    if (!batch_is_full(conn, request) && !run_request(conn, request)) {
        return;
    }
    struct park_time before = {.began = 0};
    bool was_parked = conn->park != NULL;
    if (unlikely(was_parked)) {
        before = conn->park->time;
        park_end(conn);
    }
    finish_first(conn);
    if (is_time(conn->thread) || was_parked) {
        note_time(conn, method, method != NULL && method->needs_gil, take_time(conn->thread), &before, bytes_in,
                  conn->out.len - out_before);
    }
}

void rpc_finish_parked(struct rpc_conn *conn)
{
    const struct park *park = conn->park;
    const struct request *request = conn->first;
    const struct method *method = request->method;
    struct park_time before = park->time;
    size_t bytes_in = request->bytes;
    struct call call = call_of(conn);
    call.result_start = conn->line_start + park->result_at;
    call.value_start = conn->line_start + park->value_at;
    call.freed = park->freed + park->dying.freed;
    call_finish(&call, park->id);
    out_char(call.out, '}');
    end_method(conn, &call, true, park->session);
    event_catch_up(conn);
    park_end(conn);
    finish_first(conn);
    note_time(conn, method, true, 0, &before, bytes_in, conn->out.len - call.result_start);
    session_note_kept(conn->session);
    if (heap_gc_poll(call.heap)) {
        park_next(conn);
    }
}

/* The answer to the connection's question takes its place among the replies. */
static void finish_question(struct rpc_conn *conn, struct question *question)
{
    struct request *request = conn->first;
    bool notification = (request->flags & REQUEST_NOTIFICATION) != 0;
    size_t bytes_out = question->out.len;
    conn->question = NULL;
    conn->file = question->file;
    question->file = -1;
    if (!notification) {
        begin_reply(conn, request);
    }
    if (!question->is_answered) {
        conn->thread->fault = question->fault;
        send_fault(conn, request, conn->out.len);
    } else if (!notification) {
        out_take_over(&conn->out, &question->out);
    }
    conn->thread->waited = 0;
    /* Its slices of the GIL are short, and not counted. */
    const struct park_time before = {.began = question->asked};
    note_time(conn, request->method, false, 0, &before, request->bytes, bytes_out);
    finish_first(conn);
}

/* Bytes of answers that a run takes, and what makes it more. */
#define ANSWERS_A_RUN (1u << 20)

/* Takes the answers that have come.  At the end of a run, so that they can be sent before the next one looks
 * whether too much is unread; then their connections go on.  Not without end: workers may be as fast, and what is taken
 * is to be sent, and others to be served, meanwhile. */
static void take_answers(struct rpc_thread *thread)
{
    struct question *question;
    size_t bytes = 0;
    while (bytes < ANSWERS_A_RUN && (question = question_take(thread)) != NULL) {
        struct rpc_conn *conn = question->conn;
        bytes += question->out.len;
        if (conn != NULL && question->building != NULL) {
            conn->question = NULL;
            conn->built = question;
            conn_list_add_notice(thread, conn);
            conn_list_add_ready(thread, conn);
            continue;
        }
        if (conn != NULL) {
            if (question->is_moved) {
                conn->question = NULL;
                conn->runs_at_once = true;
            } else {
                finish_question(conn, question);
                conn_note_unread(conn);
            }
            conn_list_add_notice(thread, conn);
            if (conn->first != NULL || conn->events_due) {
                conn_list_add_ready(thread, conn);
            }
        }
        question_destroy(question);
    }
    if (bytes >= ANSWERS_A_RUN) {
        thread->is_shut_out = true;
    }
}

/* ---- a connection's share of the turn ---- */

/* Whether the connection may run another request in this run: it rests when it has written its share.  Only
 * between lines, so that a batch is one piece. */
static bool may_go_on(struct rpc_conn *conn)
{
    if (conn_is_waiting(conn) || conn_is_dammed(conn)) {
        return false;
    }
    bool is_over = conn->must_close != NULL || (conn_is(&conn->is_killed) && !conn_line_is_open(conn));
    if (is_over) {
        conn_drop_requests(conn);
    }
    if (conn->first == NULL || conn_is_crowded_out(conn)) {
        return false;
    }
    uint64_t max = RPC_LIMIT(conn->thread->service, max_output);
    uint64_t high = rpc_service_output_high(conn->thread->service);
    uint64_t share = max != 0 && max < high ? max : high;
    return conn->built != NULL || is_within_batch(conn->first) || conn_unsent(conn) - conn->unsent_before < share;
}

/* Once a run, when the server has had its chance to send: too much is still unread. */
static void close_if_unread(struct rpc_conn *conn)
{
    uint64_t max = RPC_LIMIT(conn->thread->service, max_output);
    if (max != 0 && conn_unread(conn) > max) {
        rpc_service_count_limit(conn->thread->service, "max-output");
        conn_must_close(conn, "more unread replies than max-output");
    }
}

/* Moves the unsent replies to the front when what was sent has become the larger part. */
static void compact_output(struct rpc_conn *conn)
{
    if (conn->sent > conn->out.len / 2) {
        memmove(conn->out.data, conn->out.data + conn->sent, conn_unsent(conn));
        conn->out.len -= conn->sent;
        conn->line_start -= conn->sent;
        conn->sent = 0;
    }
}

/* After the connection's share: is it done, or does it wait for the next run? */
static void leave_turn(struct rpc_thread *thread, struct rpc_conn *conn)
{
    if (conn->first == NULL || conn_is_waiting(conn) || conn_is_dammed(conn)) {
        conn_list_remove_ready(thread, conn);
    }
    atomic_store_explicit(&conn->out_bytes, conn_unsent(conn), memory_order_relaxed);
    conn_note_unread(conn);
    conn_list_add_notice(thread, conn);
}

/* Whether the connection's first request runs without the GIL.  A question's handler takes it by itself; but first
 * the connection must be known, which it becomes with the GIL.  Which session it is in is not looked at here: other
 * threads move it from one to another. */
static bool needs_no_gil(const struct rpc_conn *conn)
{
    const struct request *request = conn->first;
    bool needs = request->method != NULL && request->method->needs_gil &&
                 (!request_is_question(request) || conn->arrived.linked);
    return !needs && !conn->wants_visit;
}

/* Runs what stands at the head of the queues and needs no GIL.  Returns whether something is left that does. */
static bool run_without_heap(struct rpc_thread *thread)
{
    struct rpc_conn *next;
    bool needs_heap = false;
    thread->waited = 0;
    thread->began = slowlog_ticks();
    for (struct rpc_conn *conn = thread->ready.first; conn != NULL; conn = next) {
        next = conn->ready.next;
        compact_output(conn);
        close_if_unread(conn);
        conn->unsent_before = conn_unsent(conn);
        bool may = may_go_on(conn);
        while (may && needs_no_gil(conn)) {
            run_first(conn);
            may = may_go_on(conn);
        }
        bool needs = may || conn->events_due || conn->wants_settling;
        needs_heap |= needs;
        if (!needs) {
            leave_turn(thread, conn);
        }
    }
    return needs_heap;
}

/* ---- with the GIL ---- */

/* Takes the connections that are gone out of their sessions.  GIL: held. */
static void bury(struct rpc_thread *thread)
{
    struct heap *heap = thread->service->heap;
    while (thread->buried != NULL) {
        struct rpc_conn *conn = thread->buried;
        thread->buried = conn->ready.next;
        park_forget(conn);
        session_bury(conn);
        free(conn);
        heap_settle(heap);
        (void)heap_gc_poll(heap);
        if (event_is_watched(thread->service, 1u << EVENT_PRESSURE)) {
            event_check_pressure(thread->service);
        }
    }
}

/* Sends events to connections that were called for, and gives those up that were killed.  GIL: held. */
static void look_at_told(struct rpc_thread *thread)
{
    struct rpc_conn *conn;
    while ((conn = thread->told.first) != NULL) {
        conn_list_remove_told(thread, conn);
        if (conn_is(&conn->is_gone) || conn->must_close != NULL) {
            continue;
        }
        if (conn_is(&conn->is_killed) && !conn->ends_itself) {
            conn_must_close(conn, atomic_load_explicit(&conn->end_reason, memory_order_relaxed));
        } else {
            event_deliver(conn);
        }
    }
}

/* Milliseconds that a run may take before the loop gets to look at sockets and signals again; one request may take
 * longer. */
#define RUN_SHARE_MS 2
/* Milliseconds between two looks at how long a tick of the slowlog's clock is. */
#define AIM_MS 1000

/* Runs the connection's first request, and a collection when it is due, with what both make sessions hear.
 * GIL: held. */
static void run_first_with_heap(struct rpc_conn *conn)
{
    struct rpc_service *service = conn->thread->service;
    service->book.acting = conn;
    run_first(conn);
    if (likely(conn->park == NULL) && unlikely(heap_gc_poll(service->heap))) {
        park_next(conn);
    }
    service->book.acting = NULL;
    if (conn->events.len > 0 && !conn_line_is_open(conn)) {
        conn->line_start = conn->out.len;
        event_insert(conn);
    }
}

/* Whether the connection's request, which was parked, is over now, and another comes: those that wait for the heap to
 * be still come first, or one that asks for collections in a pipeline would keep them waiting to its end. */
static bool has_had_its_turn(const struct rpc_conn *conn, bool was_parked)
{
    return was_parked && conn->park == NULL && conn->first != NULL && !is_within_batch(conn->first);
}

/* Runs the connection's requests until it has had its share or the time is up; whether it is up. */
static bool run_share(struct rpc_conn *conn, uint64_t deadline_ms)
{
    struct rpc_thread *thread = conn->thread;
    struct heap *heap = thread->service->heap;
    bool late = false, is_next = false;
    if (conn->session == NULL) {
        conn_must_close(conn, "no memory for its session");
    } else {
        if (unlikely(conn->takes_messages)) {
            message_begin(conn);
        }
        heap_set_creator(heap, conn->session->heap);
    }
    while (!late && !is_next && may_go_on(conn)) {
        bool was_parked = conn->park != NULL;
        run_first_with_heap(conn);
        is_next = has_had_its_turn(conn, was_parked);
        if (heap_wanted(heap)) {
            take_time(thread);
            heap_pass(heap);
            thread->service->book.running = thread;
            thread->waited += take_time(thread);
            heap_set_creator(heap, conn->session->heap);
        }
        late = thread->now_ms > deadline_ms;
    }
    if (conn->session != NULL && conn->must_close == NULL) {
        session_note_kept(conn->session);
        event_deliver(conn);
        if (unlikely(conn->takes_messages)) {
            message_pause(conn);
        }
    }
    if (is_next && conn->ready.linked) {
        conn_list_remove_ready(thread, conn);
        conn_list_add_ready(thread, conn);
    }
    return late;
}

/* What came from elsewhere.  GIL: held. */
static void catch_up(struct rpc_thread *thread)
{
    atomic_store_explicit(&thread->has_told, false, memory_order_relaxed);
    bury(thread);
    session_admit(thread);
    session_look_at_leases(thread->service);
    park_look(thread);
    look_at_told(thread);
}

/* Whether there is such. */
static bool has_to_catch_up(struct rpc_thread *thread)
{
    return thread->buried != NULL || thread->parked.first != NULL || thread->arrived.first != NULL ||
           atomic_load_explicit(&thread->has_told, memory_order_acquire) || session_leases_are_due(thread->service);
}

/* The server is told of all that have something to run. */
static void notice_all(struct rpc_thread *thread)
{
    for (struct rpc_conn *conn = thread->ready.first; conn != NULL; conn = conn->ready.next) {
        conn_list_add_notice(thread, conn);
    }
}

/* The time is up: who has had a share goes behind the others, and the server is told who waits, so that it
 * does not read more from them. */
static void adjourn(struct rpc_thread *thread, struct rpc_conn *conn)
{
    if (conn->ready.linked) {
        conn_list_remove_ready(thread, conn);
        conn_list_add_ready(thread, conn);
    }
    notice_all(thread);
}

/* Requests have run: who takes the slices is to know when it is another thread. */
static void note_company(struct rpc_thread *thread)
{
    struct rpc_service *service = thread->service;
    struct rpc_thread *stepper = atomic_load_explicit(&service->stepper, memory_order_relaxed);
    if (unlikely(stepper != NULL) && stepper != thread) {
        atomic_store_explicit(&service->has_company, true, memory_order_relaxed);
    }
}

/* What this run has begun in the heap, this thread goes on with, unless another one has work already.  GIL: held. */
static void claim_work(struct rpc_thread *thread)
{
    struct rpc_service *service = thread->service;
    if (heap_work_pending(service->heap) && atomic_load_explicit(&service->stepper, memory_order_relaxed) == NULL) {
        atomic_store_explicit(&service->stepper, thread, memory_order_relaxed);
    }
}

/* Microseconds that a thread waits for the GIL before it looks at its sockets again: what needs no GIL is answered
 * meanwhile, and no single hold is promised to be shorter. */
#define ENTER_WITHIN_US 2500

/* heap_enter(), unless somebody has the GIL for long.  What waited for it is reported then as after a run that was too
 * short. */
static bool enter_heap(struct rpc_thread *thread)
{
    thread->is_shut_out = !heap_enter_within(thread->service->heap, ENTER_WITHIN_US, &thread->wants_heap_since_us);
    if (unlikely(thread->is_shut_out)) {
        notice_all(thread);
        return false;
    }
    thread->service->book.running = thread;
    return true;
}

static void run_with_heap(struct rpc_thread *thread)
{
    struct heap *heap = thread->service->heap;
    struct rpc_conn *next;
    bool late = false;
    take_time(thread);
    bool entered = enter_heap(thread);
    thread->shut_out += take_time(thread);
    if (unlikely(!entered)) {
        return;
    }
    thread->waited = thread->shut_out;
    thread->shut_out = 0;
    if (!heap_work_pending(heap)) {
        atomic_store_explicit(&thread->service->stepper, NULL, memory_order_relaxed);
    }
    catch_up(thread);
    thread->now_ms = slowlog_coarse_ms();
    uint64_t deadline_ms = thread->now_ms + RUN_SHARE_MS;
    if (thread->now_ms - thread->aimed_ms >= AIM_MS) {
        slowlog_aim(&thread->service->slowlog);
        thread->aimed_ms = thread->now_ms;
    }
    if (thread->ready.first != NULL) {
        note_company(thread);
    }
    for (struct rpc_conn *conn = thread->ready.first; conn != NULL && !late; conn = next) {
        next = conn->ready.next;
        if (conn->events_due || conn->wants_settling || may_go_on(conn)) {
            late = run_share(conn, deadline_ms);
            leave_turn(thread, conn);
            if (late) {
                adjourn(thread, conn);
            }
        }
    }
    look_at_told(thread);
    claim_work(thread);
    if (thread->service->journal.is_on) {
        journal_hand_over(thread->service);
    }
    thread->service->book.running = NULL;
    bool has_used_value = thread->has_used_value;
    if (unlikely(has_used_value)) {
        thread->has_used_value = false;
        park_look(thread);
    }
    heap_leave(heap);
    if (unlikely(has_used_value)) {
        park_wake_others(thread->service, thread);
    }
}

/* ---- slices of the heap's work ---- */

bool rpc_thread_has_work(const struct rpc_thread *thread)
{
    const struct rpc_service *service = thread->service;
    return heap_work_pending(service->heap) &&
           atomic_load_explicit(&service->stepper, memory_order_relaxed) == thread;
}

bool rpc_thread_must_hurry(const struct rpc_thread *thread)
{
    return atomic_load_explicit(&thread->service->is_short_of_room, memory_order_relaxed);
}

bool rpc_thread_has_company(struct rpc_thread *thread)
{
    return atomic_exchange_explicit(&thread->service->has_company, false, memory_order_relaxed);
}

void rpc_thread_leave_work(struct rpc_thread *thread)
{
    struct rpc_thread *stepper = thread;
    atomic_compare_exchange_strong(&thread->service->stepper, &stepper, NULL);
}

bool rpc_thread_has_parked(const struct rpc_thread *thread)
{
    return thread->parked.first != NULL;
}

bool rpc_thread_step(struct rpc_thread *thread, uint32_t budget_us)
{
    struct rpc_service *service = thread->service;
    if (!enter_heap(thread)) {
        return rpc_thread_has_work(thread);
    }
    thread->waited = 0;
    bool more = heap_step(service->heap, budget_us);
    park_after_step(service);
    park_look(thread);
    look_at_told(thread);
    if (!more) {
        atomic_store_explicit(&service->stepper, NULL, memory_order_relaxed);
        claim_work(thread); /* a reply that is finished may have set off a collection */
    }
    if (service->journal.is_on) {
        journal_hand_over(service);
    }
    service->book.running = NULL;
    heap_leave(service->heap);
    thread_tidy_turns(thread);
    park_wake_others(service, thread);
    return rpc_thread_has_work(thread);
}

/* ---- a turn ---- */

/* A fresh turn for what comes next; the old one stays with the requests that rest in it. */
static void change_turn(struct rpc_thread *thread)
{
    struct turn *turn = thread->turn;
    thread_tidy_turns(thread);
    if (turn->users == 1) {
        turn_reset(turn);
        return;
    }
    struct turn *fresh = thread->idle;
    if (fresh != NULL) {
        thread->idle = fresh->next_idle;
    } else {
        fresh = turn_create();
    }
    if (fresh != NULL) {
        thread->turn = fresh;
        thread_release_turn(thread, turn);
    }
}

/* ---- loading ---- */

/* What may be asked while a journal is replayed: it needs neither the heap nor a session. */
static bool may_run_while_loading(const struct request *request)
{
    const struct method *method = request->method;
    return method == NULL || method->handler == method_ping || method->handler == method_auth ||
           (method->handler == method_stats && method_stats_is_server(request->args));
}

/* The connection's first request, when the heap is not there yet. */
static void run_first_while_loading(struct rpc_conn *conn)
{
    struct request *request = conn->first;
    if (may_run_while_loading(request) || batch_is_full(conn, request)) {
        run_first(conn);
        return;
    }
    if (!is_within_batch(request)) {
        conn->line_start = conn->out.len;
        conn->batch_replies = 0;
    }
    count_request(conn, request);
    if (request->needs <= conn->access.cleared || access_allows(conn, request)) {
        fault_set(&conn->thread->fault, RPC_UNAVAILABLE,
                  "the daemon is loading what it has kept; `ping` and `stats` of section `server` answer, try again "
                  "soon");
    }
    refuse(conn, request);
    finish_first(conn);
}

/* Requests are answered in order; connections come into their sessions, and leave them, when all is loaded. */
static void run_while_loading(struct rpc_thread *thread)
{
    struct rpc_conn *next;
    thread->waited = 0;
    thread->began = slowlog_ticks();
    for (struct rpc_conn *conn = thread->ready.first; conn != NULL; conn = next) {
        next = conn->ready.next;
        compact_output(conn);
        conn->unsent_before = conn_unsent(conn);
        while (may_go_on(conn)) {
            run_first_while_loading(conn);
        }
        leave_turn(thread, conn);
    }
    change_turn(thread);
}

/* ---- the whole of it ---- */

bool rpc_thread_run(struct rpc_thread *thread)
{
    struct journal *journal = &thread->service->journal;
    thread->is_shut_out = false;
    if (unlikely(thread->held.first != NULL)) {
        access_release(thread);
    }
    if (conn_is(&journal->is_loading)) {
        run_while_loading(thread);
        return thread->ready.first != NULL;
    }
    journal_look_at_fences(thread);
    if (run_without_heap(thread) || has_to_catch_up(thread)) {
        run_with_heap(thread);
    }
    take_answers(thread);
    if (journal->is_on && !journal_catch_up(thread->service)) {
        thread->is_shut_out = true;
    }
    change_turn(thread);
    return thread->ready.first != NULL || thread->is_shut_out;
}

bool rpc_thread_is_shut_out(const struct rpc_thread *thread)
{
    return thread->is_shut_out;
}

struct rpc_conn *rpc_thread_next(struct rpc_thread *thread)
{
    struct rpc_conn *conn = thread->notice.first;
    if (conn != NULL) {
        conn_list_remove_notice(thread, conn);
    }
    return conn;
}
