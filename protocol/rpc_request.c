/* rpc_request.c -- a request runs, and its reply is written.
 *
 *   rpc_request_run_first   head of the reply, the method's handler, the death of what the request killed; then what
 *                           all that made sessions hear (event.c) goes in front of the reply
 *   parked                  requests that wait for the heap (parked.c) run again, or are finished by rpc_finish_parked()
 *   questions               go to a worker (question.c); their connections wait for it, and nobody else
 *
 * A reply is written straight behind those that wait.  A handler that fails has what it wrote cut off, and an
 * error takes its place; so a reply is whole or not there.  The replies of a batch grow into one line, which is not
 * sent, and no event put in, before it is whole.
 *
 * Locking: rpc.c holds the GIL around requests that need it.
 */
#include "method_handlers.h"
#include "rpc_internal.h"

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
uint64_t rpc_request_take_time(struct rpc_thread *thread)
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
    uint64_t held = rpc_request_take_time(thread);
    if (time->began == 0) {
        time->began = thread->began - held - thread->waited;
    }
    time->held += held;
    time->waited += thread->waited;
}

/* So many quick requests may be taken for part of the one behind them. */
#define UNSTAMPED_MAX 8

/* Looks at the coarse clock.  Whether it is time to rpc_request_take_time(): a request has ended that may have been
 * slow, or there have been many since the last time. */
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
    if (done && event_is_watched(call->service, 1u << EVENT_JOURNAL)) {
        journal_tell(call, session);
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

/* The handler once; a journal keeps what it did, and tells who listens. */
static inline bool attempt(struct call *call, const struct request *request)
{
    bool is_plain = !call->service->journal.is_on && !event_is_watched(call->service, 1u << EVENT_JOURNAL);
    return likely(is_plain) ? reply_attempt(call, request) : journal_attempt(call, request);
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
void rpc_request_run_first(struct rpc_conn *conn)
{
    struct request *request = conn->first;
    const struct method *method = request->method;
    size_t bytes_in = request->bytes, out_before = conn->out.len;
    if (unlikely(request->needs > conn->access.cleared) && access_holds(conn)) {
        return;
    }
    if (!request_is_within_batch(request)) {
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
        note_time(conn, method, method != NULL && method->needs_gil, rpc_request_take_time(conn->thread), &before,
                  bytes_in, conn->out.len - out_before);
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
void rpc_request_take_answers(struct rpc_thread *thread)
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

/* ---- while a journal is loaded ---- */

/* What may be asked while a journal is replayed: it needs neither the heap nor a session. */
static bool may_run_while_loading(const struct request *request)
{
    const struct method *method = request->method;
    return method == NULL || method->handler == method_ping || method->handler == method_auth ||
           (method->handler == method_stats && method_stats_is_server(request->args));
}

/* The connection's first request, when the heap is not there yet. */
void rpc_request_run_while_loading(struct rpc_conn *conn)
{
    struct request *request = conn->first;
    if (may_run_while_loading(request) || batch_is_full(conn, request)) {
        rpc_request_run_first(conn);
        return;
    }
    if (!request_is_within_batch(request)) {
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
