/* event.c -- events: lines that tell a session what happened, between its replies.
 *
 *   what happens -> tell_all() -> the session whose finalizer or weakref it was, and all that subscribe to it
 *
 *   to the session whose request causes it   conn->events, which goes in front of the reply   event_insert()
 *   to any other                             session->waiting, and its first connection's thread is woken,
 *                                            which sends it in its next run                   event_deliver()
 *
 * An event goes to a connection only while less than EVENT_UNREAD_BYTES of its output are unread.  Else it
 * waits in the session, up to max-events (and as many bytes as max-output has); what comes then is counted, and
 * one `lost` stands in its place.  What cannot be told for want of memory counts as lost, too: what happens in
 * the heap never fails for it.
 *
 * A connection is not written to within the line of a batch: the events of a batch wait in conn->events for its
 * end, those of others in the session.
 *
 * The GIL is held in everything here but event_insert(); the lines of a connection's own are its thread's.
 * Start at tell_all().
 */
#include "rpc_internal.h"

#include <stdlib.h>

/* A buffer above this is given back when it is empty. */
#define KEEP_BYTES 4096u
/* Bytes that wait in a session when max-output gives no limit. */
#define WAITING_BYTES_MAX 67108864u

const char *event_word(enum event_kind kind)
{
    static const char *const WORDS[] = {
#define X(kind, word) [kind] = word,
        EVENT_MAP(X)
#undef X
    };
    return WORDS[kind];
}

/* ---- lines ---- */

/* `{"jsonrpc":..,"params":{"event":WORD`, to which members are added; end_line() finishes it. */
static void begin_line(struct out *out, enum event_kind kind)
{
    out_text(out, "{\"jsonrpc\":\"2.0\",\"method\":\"event\",\"params\":{\"event\":\"");
    out_text(out, event_word(kind));
    out_char(out, '"');
}

static void end_line(struct out *out)
{
    out_text(out, "}}\n");
}

const char *rpc_event_params(const char *line, size_t len, size_t *params_len)
{
    static const size_t head_len = sizeof("{\"jsonrpc\":\"2.0\",\"method\":\"event\",\"params\":") - 1;
    *params_len = len - head_len - strlen("}\n");
    return line + head_len;
}

static void add_u64(struct out *out, const char *name, uint64_t value)
{
    out_text(out, name);
    out_u64(out, value);
}

static void add_bool(struct out *out, const char *name, bool value)
{
    out_text(out, name);
    out_text(out, value ? "true" : "false");
}

/* text NULL: null */
static void add_text(struct out *out, const char *name, const char *text, size_t len)
{
    out_text(out, name);
    if (text == NULL) {
        out_text(out, "null");
    } else {
        out_json_string(out, text, len);
    }
}

static void write_lost(struct out *out, uint64_t count)
{
    begin_line(out, EVENT_LOST);
    add_u64(out, ",\"count\":", count);
    end_line(out);
}

/* Empties a buffer, and gives its memory back when it is more than a little. */
static void empty(struct out *out)
{
    out_truncate(out, 0);
    if (out->room > KEEP_BYTES) {
        out_fini(out);
        out_init(out, 0);
    }
}

/* ---- events that wait in a session ---- */

/* Brings the sum over all sessions up to date. */
static void note_waiting(struct rpc_service *service, struct event_queue *queue)
{
    service->events_waiting += queue->lines.len - queue->noted;
    queue->noted = queue->lines.len;
}

void event_queue_fini(struct rpc_service *service, struct event_queue *queue)
{
    out_fini(&queue->lines);
    note_waiting(service, queue);
}

/* Moves what waits to the front when what was taken has become the larger part. */
static void compact(struct rpc_service *service, struct event_queue *queue)
{
    struct out *lines = &queue->lines;
    if (queue->start == lines->len) {
        empty(lines);
        queue->start = 0;
    } else if (queue->start > lines->len / 2) {
        memmove(lines->data, lines->data + queue->start, lines->len - queue->start);
        out_truncate(lines, lines->len - queue->start);
        queue->start = 0;
    }
    note_waiting(service, queue);
}

/* Whether one more line of that length may wait: in the session, and in all of them together. */
static bool has_room(struct rpc_service *service, const struct event_queue *queue, size_t len)
{
    uint64_t max = RPC_LIMIT(service, max_events), max_bytes = RPC_LIMIT(service, max_output);
    size_t bytes = queue->lines.len - queue->start + len;
    max_bytes = max_bytes == 0 ? WAITING_BYTES_MAX : max_bytes;
    return (max == 0 || queue->count < max) && (bytes <= max_bytes || queue->count == 0) &&
           service->events_waiting + len <= RPC_OUTPUT_ALL * max_bytes;
}

/* Puts a line behind those that wait, and a `lost` in between when some were dropped there. */
static void enqueue(struct rpc_service *service, struct event_queue *queue, const char *line, size_t len)
{
    size_t before = queue->lines.len;
    if (len == 0 || !has_room(service, queue, len)) {
        rpc_service_count_limit(service, "max-events");
        queue->lost++;
        return;
    }
    if (queue->lost > 0) {
        write_lost(&queue->lines, queue->lost);
    }
    out_bytes(&queue->lines, line, len);
    if (queue->lines.failed) {
        out_truncate(&queue->lines, before);
        queue->lost++;
        return;
    }
    note_waiting(service, queue);
    queue->count += queue->lost > 0 ? 2 : 1;
    queue->lost = 0;
}

/* Appends the first line that waits; behind the last one, what was lost there.  false: there is none, or no
 * memory for it. */
static bool take_line(struct event_queue *queue, struct out *to)
{
    size_t before = to->len;
    if (queue->start < queue->lines.len) {
        const char *line = queue->lines.data + queue->start;
        const char *end = memchr(line, '\n', queue->lines.len - queue->start);
        out_bytes(to, line, (size_t)(end + 1 - line));
        if (!to->failed) {
            queue->start += (size_t)(end + 1 - line);
            queue->count--;
            return true;
        }
    } else if (queue->lost > 0) {
        write_lost(to, queue->lost);
        if (!to->failed) {
            queue->lost = 0;
            return true;
        }
    }
    out_truncate(to, before);
    return false;
}

void event_queue_move(struct rpc_service *service, struct event_queue *to, struct event_queue *from)
{
    struct out *line = &service->book.line;
    out_truncate(line, 0);
    while (take_line(from, line)) {
        enqueue(service, to, line->data, line->len);
        out_truncate(line, 0);
    }
    to->lost += from->count + from->lost;
}

/* ---- who is told, and how ---- */

/* The connection that is sent what waits for the session; NULL: none hears. */
static struct rpc_conn *hearer(const struct rpc_session *session)
{
    struct rpc_conn *conn = session->conns.first;
    while (conn != NULL && conn->is_deaf) {
        conn = conn->joined.next;
    }
    return conn;
}

void event_call_for(struct rpc_session *session)
{
    struct rpc_conn *conn = hearer(session);
    if (conn != NULL) {
        event_call(conn);
    }
}

void event_call(struct rpc_conn *conn)
{
    struct rpc_thread *thread = conn->thread;
    conn_list_add_told(thread, conn);
    if (thread->service->book.running == thread) {
        return; /* it looks at its end */
    }
    atomic_store_explicit(&thread->has_told, true, memory_order_release);
    if (thread->service->host.wake != NULL) {
        thread->service->host.wake(thread->service->host.arg, thread->user);
    }
}

/* Whether what the connection's request causes may go straight into its output: it reads, and nothing that
 * happened earlier waits for the same place. */
static bool takes_directly(const struct rpc_conn *conn)
{
    const struct rpc_session *session = conn->session;
    return !conn->is_deaf && conn->unsent_before < EVENT_UNREAD_BYTES &&
           (hearer(session) != conn || event_queue_is_empty(&session->waiting));
}

/* Before the first event of a request goes straight out, what waits goes. */
static void take_waiting(struct rpc_conn *conn)
{
    struct rpc_session *session = conn->session;
    if (conn->unsent_before < EVENT_UNREAD_BYTES && hearer(session) == conn) {
        while (take_line(&session->waiting, &conn->events)) {
        }
        compact(conn->thread->service, &session->waiting);
    }
}

/* The connection of the session whose request causes what happens, as far as anybody knows: the acting one, or one
 * whose reply waits for what its request has killed.  NULL: none. */
static struct rpc_conn *acting_in(const struct session_book *book, const struct rpc_session *session)
{
    struct rpc_conn *conn = book->acting;
    if (conn == NULL || conn->session != session) {
        conn = session->conns.first;
        bool is_acting = conn != NULL && conn->thread == book->running && conn_has_begun_reply(conn);
        conn = is_acting && !conn_is(&conn->is_gone) ? conn : NULL;
    }
    return conn;
}

/* Tells the session the line. */
static void tell(struct rpc_service *service, struct rpc_session *session, const struct out *line)
{
    struct rpc_conn *acting = acting_in(&service->book, session);
    size_t len = line->failed ? 0 : line->len;
    if (acting != NULL && len > 0) {
        take_waiting(acting);
        size_t before = acting->events.len;
        if (takes_directly(acting)) {
            out_bytes(&acting->events, line->data, len);
            if (!acting->events.failed) {
                return;
            }
            out_truncate(&acting->events, before);
            len = 0;
        }
    }
    enqueue(service, &session->waiting, line->data, len);
    event_call_for(session);
}

/* Whether anybody is to be told: `owner`, whose event it is (NULL: nobody's), or a subscriber. */
static bool is_wanted(struct rpc_service *service, enum event_kind kind, const struct rpc_session *owner)
{
    return owner != NULL || event_is_watched(service, 1u << kind);
}

/* Begins the line of an event that somebody wants. */
static struct out *begin(struct rpc_service *service, enum event_kind kind)
{
    struct out *line = &service->book.line;
    empty(line);
    begin_line(line, kind);
    return line;
}

/* Whether the session may hear of it: of all changes only a session of admins alone. */
static bool may_hear(const struct rpc_session *session, enum event_kind kind)
{
    const struct rpc_conn *conn = kind == EVENT_JOURNAL ? session->conns.first : NULL;
    while (conn != NULL && rpc_conn_role(conn) == RPC_ROLE_ADMIN) {
        conn = conn->joined.next;
    }
    return conn == NULL;
}

/* Tells book->line to its owner and to all that subscribe, each once. */
static void tell_all(struct rpc_service *service, enum event_kind kind, struct rpc_session *owner)
{
    struct out *line = &service->book.line;
    end_line(line);
    if (owner != NULL) {
        tell(service, owner, line);
    }
    for (struct rpc_session *session = service->book.listeners; session != NULL; session = session->next_listener) {
        if (session != owner && (session->subscribed & 1u << kind) != 0 && may_hear(session, kind)) {
            tell(service, session, line);
        }
    }
}

void event_deliver(struct rpc_conn *conn)
{
    struct rpc_session *session = conn->session;
    struct event_queue *queue = &session->waiting;
    if (hearer(session) != conn || event_queue_is_empty(queue)) {
        return;
    }
    bool is_open = conn_line_is_open(conn);
    size_t before = conn->out.len;
    while (!is_open && conn_unsent(conn) < EVENT_UNREAD_BYTES && take_line(queue, &conn->out)) {
    }
    compact(conn->thread->service, queue);
    conn->event_bytes += conn->out.len - before;
    conn->events_due = !event_queue_is_empty(queue);
    conn_list_add_notice(conn->thread, conn);
}

void event_catch_up(struct rpc_conn *conn)
{
    take_waiting(conn);
}

void event_insert(struct rpc_conn *conn)
{
    struct out *out = &conn->out, *events = &conn->events;
    size_t len = events->len, at = conn->line_start;
    if (out_reserve(out, len)) {
        memmove(out->data + at + len, out->data + at, out->len - at);
        memcpy(out->data + at, events->data, len);
        out->len += len;
        conn->event_bytes += len;
    }
    empty(events);
}

/* ---- subscriptions ---- */

/* What all listeners together want. */
static void sum_up(struct session_book *book)
{
    book->watched = 0;
    for (const struct rpc_session *session = book->listeners; session != NULL; session = session->next_listener) {
        book->watched |= session->subscribed;
    }
    book->is_pressed &= (book->watched & 1u << EVENT_PRESSURE) != 0;
}

/* The session is told of these, and no others. */
static void set_subscribed(struct rpc_service *service, struct rpc_session *session, unsigned kinds)
{
    struct session_book *book = &service->book;
    if (session->subscribed == 0 && kinds != 0) {
        session->prev_listener = NULL;
        session->next_listener = book->listeners;
        if (book->listeners != NULL) {
            book->listeners->prev_listener = session;
        }
        book->listeners = session;
    } else if (session->subscribed != 0 && kinds == 0) {
        *(session->prev_listener == NULL ? &book->listeners : &session->prev_listener->next_listener) =
            session->next_listener;
        if (session->next_listener != NULL) {
            session->next_listener->prev_listener = session->prev_listener;
        }
    }
    session->subscribed = kinds;
    sum_up(book);
}

void event_follow(struct rpc_service *service, struct rpc_session *session)
{
    unsigned kinds = session->asked;
    for (const struct rpc_conn *conn = session->conns.first; conn != NULL; conn = conn->joined.next) {
        kinds |= conn->stream_kinds;
    }
    if (kinds != session->subscribed) {
        set_subscribed(service, session, kinds);
    }
}

void event_subscribe(struct rpc_service *service, struct rpc_session *session, unsigned kinds)
{
    session->asked = kinds;
    event_follow(service, session);
}

/* ---- what the heap tells ---- */

static void tell_collection(struct rpc_service *service, const struct heap_event *event)
{
    bool is_stop = event->kind == HEAP_EVENT_GC_STOP;
    const struct heap_collection *collection = event->collection;
    if (!is_wanted(service, EVENT_GC, NULL)) {
        return;
    }
    struct out *line = begin(service, EVENT_GC);
    out_text(line, is_stop ? ",\"phase\":\"stop\"" : ",\"phase\":\"start\"");
    add_u64(line, ",\"generation\":", (uint64_t)collection->generation);
    add_bool(line, ",\"automatic\":", event->automatic);
    if (is_stop) {
        add_u64(line, ",\"unreachable\":", collection->unreachable);
        add_u64(line, ",\"uncollectable\":", collection->uncollectable);
        add_u64(line, ",\"freed\":", collection->freed);
        add_u64(line, ",\"elapsed_us\":", collection->elapsed_us);
    }
    tell_all(service, EVENT_GC, NULL);
}

static void tell_finalized(struct rpc_service *service, const struct heap_event *event)
{
    struct rpc_session *owner = session_find(service, event->session);
    if (!is_wanted(service, EVENT_FINALIZED, owner)) {
        return;
    }
    struct out *line = begin(service, EVENT_FINALIZED);
    add_u64(line, ",\"object\":", event->object);
    add_text(line, ",\"token\":", event->token, event->token_len);
    add_bool(line, ",\"resurrected\":", event->resurrected);
    tell_all(service, EVENT_FINALIZED, owner);
}

static void tell_weakref(struct rpc_service *service, const struct heap_event *event)
{
    struct rpc_session *owner = session_find(service, event->session);
    if (!is_wanted(service, EVENT_WEAKREF, owner)) {
        return;
    }
    struct out *line = begin(service, EVENT_WEAKREF);
    add_u64(line, ",\"weakref\":", event->weakref);
    add_u64(line, ",\"object\":", event->object);
    tell_all(service, EVENT_WEAKREF, owner);
}

static void on_heap_event(void *arg, const struct heap_event *event)
{
    struct rpc_service *service = arg;
    switch (event->kind) {
    case HEAP_EVENT_GC_START:
    case HEAP_EVENT_GC_STOP:
        tell_collection(service, event);
        break;
    case HEAP_EVENT_FINALIZED:
        tell_finalized(service, event);
        break;
    case HEAP_EVENT_WEAKREF:
        tell_weakref(service, event);
        break;
    }
}

static void on_heap_log(void *arg, const char *line)
{
    struct rpc_service *service = arg;
    if (service->host.log != NULL) {
        service->host.log(service->host.arg, line);
    }
}

void event_observe_heap(struct rpc_service *service)
{
    struct heap_observer observer = {.arg = service, .event = on_heap_event, .log = on_heap_log};
    out_init(&service->book.line, 0);
    heap_enter(service->heap);
    heap_set_observer(service->heap, &observer);
    heap_leave(service->heap);
}

void event_fini(struct rpc_service *service)
{
    out_fini(&service->book.line);
}

/* ---- what the service tells ---- */

void event_client(const struct rpc_conn *conn, const char *what, const char *reason)
{
    struct rpc_service *service = conn->thread->service;
    if (!is_wanted(service, EVENT_CLIENTS, NULL)) {
        return;
    }
    struct out *line = begin(service, EVENT_CLIENTS);
    add_u64(line, ",\"client\":", conn->client);
    add_text(line, ",\"what\":", what, strlen(what));
    add_text(line, ",\"reason\":", reason, reason == NULL ? 0 : strlen(reason));
    tell_all(service, EVENT_CLIENTS, NULL);
}

void event_check_pressure(struct rpc_service *service)
{
    struct session_book *book = &service->book;
    uint64_t max = RPC_LIMIT(service, max_memory), bytes = heap_used_bytes(service->heap);
    bool is_high = max != 0 && (book->is_pressed ? bytes >= max / 10 * 8 : bytes > max / 10 * 9);
    if (is_high == book->is_pressed) {
        return;
    }
    book->is_pressed = is_high;
    struct out *line = begin(service, EVENT_PRESSURE);
    out_text(line, is_high ? ",\"level\":\"high\"" : ",\"level\":\"normal\"");
    add_u64(line, ",\"bytes\":", bytes);
    add_u64(line, ",\"max\":", max);
    tell_all(service, EVENT_PRESSURE, NULL);
}

void event_journal(struct rpc_service *service, const struct out *text, size_t start)
{
    struct out *line = begin(service, EVENT_JOURNAL);
    if (text->failed) {
        line->failed = true;
    } else {
        add_text(line, ",\"line\":", text->data + start, text->len - start - strlen("\n"));
    }
    tell_all(service, EVENT_JOURNAL, NULL);
}
