/* method_session.c -- session.open, session.resume, session.close, subscribe, unsubscribe, server.clients,
 * server.kill.
 *
 * What they do to sessions is session.c.  server.clients copies what it shows while it has the GIL, one row a
 * connection and one a leased session without any, and prints it; with `retained` it is a question and prints
 * without the GIL.  Figures of connections are read as their threads have left them.
 */
#include "method_handlers.h"
#include "rpc_internal.h"

#include <stdlib.h>

/* ---- the event journal ---- */

/* The events that are for admins alone. */
#define ADMIN_EVENTS (1u << EVENT_JOURNAL)

static bool forbid_journal(struct call *call)
{
    return fault_set(call->fault, RPC_FORBIDDEN,
                     "the event journal tells of everything that all sessions do, which needs the role admin");
}

/* ---- leases ---- */

static bool fail_lease(struct call *call, enum lease_error error)
{
    uint64_t max = RPC_LIMIT(call->service, max_leases);
    if (error == LEASE_NO_MEMORY) {
        return call_fail(call, HEAP_MEMORY);
    }
    if (error == LEASE_NO_TOKEN) {
        return fault_set(call->fault, RPC_INTERNAL_ERROR, "the kernel gives no random bits for a token");
    }
    fault_set(call->fault, RPC_LIMIT_EXCEEDED,
              "%llu sessions are leased already; close some with session.close, or raise --max-leases",
              (unsigned long long)max);
    fault_text(call->fault, "limit", "max-leases", strlen("max-leases"));
    return fault_number(call->fault, "max", (int64_t)max);
}

bool method_session_open(struct call *call)
{
    struct rpc_session *session = call->conn->session;
    uint64_t lease_ms = (uint64_t)call->args[0].integer;
    if (!journal_may_lease(call)) {
        return false;
    }
    enum lease_error error = lease_begin(call->service, session, lease_ms);
    if (error != LEASE_BEGUN) {
        return fail_lease(call, error);
    }
    out_text(call->out, "{\"session\":");
    out_json_string(call->out, session->token, strlen(session->token));
    out_text(call->out, ",\"lease_ms\":");
    out_u64(call->out, lease_ms);
    return call_result_end(call);
}

bool method_session_resume(struct call *call)
{
    struct rpc_conn *conn = call->conn;
    struct rpc_session *session = lease_find(call->service, call->args[0].text, call->args[0].len);
    if (session == NULL) {
        return fault_set(call->fault, RPC_NOT_FOUND,
                         "no session of that token: its lease has run out, or it never existed; open a new one");
    }
    if ((session->asked & ADMIN_EVENTS) != 0 && call->role != RPC_ROLE_ADMIN) {
        return forbid_journal(call);
    }
    if (session != conn->session) {
        enum heap_error error = session_merge(conn, session);
        if (error != HEAP_OK) {
            return call_fail(call, error);
        }
        call->session = session->heap;
    }
    out_text(call->out, "{\"holds\":");
    out_u64(call->out, heap_session_holds(session->heap));
    return call_result_end(call);
}

bool method_session_close(struct call *call)
{
    uint64_t released;
    enum heap_error error = session_close(&released, call);
    if (error != HEAP_OK) {
        return call_fail(call, error);
    }
    call->session = call->conn->session->heap;
    out_text(call->out, "{\"released\":");
    out_u64(call->out, released);
    return call_result_end(call);
}

/* ---- subscriptions ---- */

const char *const METHOD_EVENT_WORDS[] = {
#define X(kind, word) [kind] = word,
    EVENT_MAP(X)
#undef X
    [EVENT_KIND_COUNT] = NULL};

/* What the connection, or its session, has subscribed to. */
static unsigned asked_before(const struct rpc_conn *conn)
{
    return conn->wants_stream ? conn->stream_kinds : conn->session->asked;
}

/* Subscribes to exactly these, and answers with the list of them. */
static bool listen_to(struct call *call, unsigned kinds)
{
    const char *before = "[\"";
    struct rpc_conn *conn = call->conn;
    if (conn->wants_stream) {
        conn->stream_kinds = kinds;
        event_follow(call->service, conn->session);
    } else {
        event_subscribe(call->service, conn->session, kinds);
    }
    for (unsigned kind = 0; kind < EVENT_KIND_COUNT; kind++) {
        if ((kinds & 1u << kind) != 0) {
            out_text(call->out, before);
            out_text(call->out, event_word((enum event_kind)kind));
            before = "\",\"";
        }
    }
    out_text(call->out, kinds == 0 ? "[]" : "\"]");
    return true;
}

bool method_subscribe(struct call *call)
{
    if (((unsigned)call->args[0].integer & ADMIN_EVENTS) != 0 && call->role != RPC_ROLE_ADMIN) {
        return forbid_journal(call);
    }
    return listen_to(call, asked_before(call->conn) | (unsigned)call->args[0].integer);
}

bool method_unsubscribe(struct call *call)
{
    return listen_to(call, asked_before(call->conn) & ~(unsigned)call->args[0].integer);
}

/* ---- server.clients ---- */

/* One line of the answer. */
struct client_row {
    uint64_t client; /* 0: none, the rest of its figures is void */
    const char *transport;
    enum method_role role;
    char peer[RPC_PEER_BYTES];
    uint64_t age_s, idle_s, requests, in_bytes, out_bytes;
    const struct method *last_method; /* NULL: none */
    uint64_t session, holds, events;
    uint64_t lease_ms; /* 0: none */
    uint32_t place;    /* of its session among all that have a row */
};

struct client_rows {
    struct client_row *rows;
    uint32_t count, room;
    uint32_t sessions;  /* that have rows */
    uint64_t *retained; /* bytes, by place; NULL: not asked */
};

/* A further row about a session; NULL: no memory. */
static struct client_row *add_row(struct client_rows *rows, const struct rpc_session *session)
{
    if (rows->count == rows->room) {
        uint32_t room = rows->room == 0 ? 16 : 2 * rows->room;
        struct client_row *grown = realloc(rows->rows, room * sizeof(*grown));
        if (grown == NULL) {
            return NULL;
        }
        rows->rows = grown;
        rows->room = room;
    }
    struct client_row *row = &rows->rows[rows->count++];
    *row = (struct client_row){.session = session->number,
                               .holds = heap_session_holds(session->heap),
                               .events = session->waiting.count,
                               .lease_ms = session->token[0] == '\0' ? 0 : session->lease_ms,
                               .place = rows->sessions};
    return row;
}

static uint64_t relaxed(const _Atomic uint64_t *figure)
{
    return atomic_load_explicit(figure, memory_order_relaxed);
}

static bool add_client(struct client_rows *rows, const struct rpc_session *session, const struct rpc_conn *conn,
                       uint64_t now_ms)
{
    struct client_row *row = add_row(rows, session);
    if (row == NULL) {
        return false;
    }
    row->client = conn->client;
    row->transport = conn->transport;
    row->role = (enum method_role)rpc_conn_role(conn);
    memcpy(row->peer, conn->peer, sizeof(row->peer));
    row->age_s = (now_ms - conn->opened_ms) / 1000;
    row->idle_s = (now_ms - relaxed(&conn->active_ms)) / 1000;
    row->requests = relaxed(&conn->requests);
    row->in_bytes = relaxed(&conn->in_bytes);
    row->out_bytes = relaxed(&conn->out_bytes);
    row->last_method = atomic_load_explicit(&conn->last_method, memory_order_relaxed);
    return true;
}

/* Copies who is there.  GIL: held.  false: no memory. */
static bool collect_rows(struct client_rows *rows, const struct rpc_service *service)
{
    uint64_t now_ms = rpc_now_ms();
    for (const struct rpc_session *session = service->book.first; session != NULL; session = session->next) {
        uint32_t before = rows->count;
        for (const struct rpc_conn *conn = session->conns.first; conn != NULL; conn = conn->joined.next) {
            bool is_there = !conn_is(&conn->is_gone) && !conn_is(&conn->is_killed);
            if (is_there && !add_client(rows, session, conn, now_ms)) {
                return false;
            }
        }
        bool is_leased = session->token[0] != '\0';
        if (session->conns.first == NULL && is_leased && add_row(rows, session) == NULL) {
            return false;
        }
        rows->sessions += rows->count > before;
    }
    return true;
}

static void write_figure(struct out *out, const char *name, uint64_t figure, bool is_there)
{
    out_text(out, name);
    if (is_there) {
        out_u64(out, figure);
    } else {
        out_text(out, "null");
    }
}

static void write_text(struct out *out, const char *name, const char *text)
{
    out_text(out, name);
    if (text != NULL) {
        out_json_string(out, text, strlen(text));
    } else {
        out_text(out, "null");
    }
}

static void write_row(struct out *out, const struct client_rows *rows, const struct client_row *row)
{
    bool is_there = row->client != 0, is_asked = rows->retained != NULL;
    write_figure(out, "{\"client\":", row->client, is_there);
    write_figure(out, ",\"session\":", row->session, true);
    write_text(out, ",\"transport\":", row->transport);
    write_text(out, ",\"peer\":", is_there ? row->peer : NULL);
    write_text(out, ",\"role\":", is_there && row->role != ROLE_ANY ? method_role_word(row->role) : NULL);
    write_figure(out, ",\"age_s\":", row->age_s, is_there);
    write_figure(out, ",\"idle_s\":", row->idle_s, is_there);
    write_figure(out, ",\"requests\":", row->requests, is_there);
    write_text(out, ",\"last_method\":", row->last_method == NULL ? NULL : row->last_method->name);
    write_figure(out, ",\"holds\":", row->holds, true);
    write_figure(out, ",\"retained_bytes\":", is_asked ? rows->retained[row->place] : 0, is_asked);
    write_figure(out, ",\"in_buffer\":", row->in_bytes, is_there);
    write_figure(out, ",\"out_buffer\":", row->out_bytes, is_there);
    write_figure(out, ",\"events\":", row->events, true);
    write_figure(out, ",\"lease_ms\":", row->lease_ms, row->lease_ms != 0);
    out_char(out, '}');
}

static bool write_rows(struct call *call, const struct client_rows *rows)
{
    out_text(call->out, "{\"clients\":[");
    for (uint32_t i = 0; i < rows->count; i++) {
        if (i > 0) {
            out_char(call->out, ',');
        }
        write_row(call->out, rows, &rows->rows[i]);
    }
    out_text(call->out, "]}");
    return call_output_ok(call);
}

/* What each session that has a row alone keeps alive, as of the picture's moment. */
static enum heap_error find_retained(struct client_rows *rows, const struct heap_picture *picture)
{
    uint64_t *sessions = calloc(rows->sessions + 1, sizeof(*sessions));
    rows->retained = calloc(rows->sessions + 1, sizeof(*rows->retained));
    enum heap_error error = HEAP_MEMORY;
    if (sessions != NULL && rows->retained != NULL) {
        for (uint32_t i = 0; i < rows->count; i++) {
            sessions[rows->rows[i].place] = rows->rows[i].session;
        }
        error = heap_picture_retained_by_sessions(rows->retained, sessions, rows->sessions, picture);
    }
    free(sessions);
    return error;
}

/* The question.  GIL: not held. */
static enum heap_error ask_retained(struct call *call, struct client_rows *rows)
{
    enum heap_error error = HEAP_MEMORY;
    if (!heap_enter_still(call->heap, call->cancel)) {
        return HEAP_CANCELLED;
    }
    bool is_complete = collect_rows(rows, call->service);
    struct heap_picture *picture = is_complete ? heap_picture_begin(call->heap, HEAP_PICTURE_GRAPH) : NULL;
    heap_leave(call->heap);
    if (picture == NULL) {
        return HEAP_MEMORY;
    }
    error = heap_picture_complete(picture, call->cancel);
    if (error == HEAP_OK) {
        error = find_retained(rows, picture);
    }
    heap_enter(call->heap);
    heap_picture_destroy(picture);
    heap_leave(call->heap);
    return error;
}

bool method_server_clients_asks(const method_arg *args)
{
    return arg_bool(&args[0], false);
}

bool method_server_clients(struct call *call)
{
    struct client_rows rows = {0};
    enum heap_error error;
    if (method_server_clients_asks(call->args)) {
        error = ask_retained(call, &rows);
    } else {
        error = collect_rows(&rows, call->service) ? HEAP_OK : HEAP_MEMORY;
    }
    bool ok = error == HEAP_OK ? write_rows(call, &rows) : call_fail(call, error);
    free(rows.retained);
    free(rows.rows);
    return ok;
}

/* ---- server.kill ---- */

/* The connection of that number; NULL: there is none.  Linear in connections; nobody kills often. */
static struct rpc_conn *find_client(const struct rpc_service *service, uint64_t client)
{
    for (const struct rpc_session *session = service->book.first; session != NULL; session = session->next) {
        for (struct rpc_conn *conn = session->conns.first; conn != NULL; conn = conn->joined.next) {
            if (conn->client == client && !conn_is(&conn->is_gone) && !conn_is(&conn->is_killed)) {
                return conn;
            }
        }
    }
    return NULL;
}

bool method_server_kill(struct call *call)
{
    uint64_t client = (uint64_t)call->args[0].integer, released;
    struct rpc_conn *conn = find_client(call->service, client);
    if (conn == NULL) {
        fault_set(call->fault, RPC_NOT_FOUND, "no client %llu: it has gone or never was; server.clients lists all",
                  (unsigned long long)client);
        return fault_number(call->fault, "client", (int64_t)client);
    }
    enum heap_error error = session_kill(&released, call, conn);
    if (error != HEAP_OK) {
        return call_fail(call, error);
    }
    call->session = call->conn->session->heap;
    out_text(call->out, "{\"client\":");
    out_u64(call->out, client);
    out_text(call->out, ",\"released\":");
    out_u64(call->out, released);
    return call_result_end(call);
}
