/* session.c -- sessions: who holds what, whichever connection it came by; for how long is lease.c.
 *
 *   connection ----+
 *   connection ----+--> session ---> heap_session (the holds)
 *                          |
 *                          +-- subscriptions, events that wait, a token with a lease
 *
 *   arrived    a connection of its thread's `arrived` list is in no session yet: that takes the GIL
 *   joined     it is in one; a connection is alone in its session unless others have given its token
 *   buried     it is gone; a session without connections ends, at once or when its lease has run out
 *
 * A session that is merged into another ends, but its number goes on to name the other one, so that what its
 * finalizers and weakrefs tell still arrives.
 *
 * Numbers are found through a table of fixed size; chains are short below a hundred thousand.
 *
 * The GIL guards everything here but where it says otherwise.
 * Start at session_admit() and session_bury().
 */
#include "rpc_internal.h"

#include <stdlib.h>

/* ---- the book ---- */

static struct session_number **number_bucket(struct session_book *book, uint64_t number)
{
    return &book->numbers[number % SESSION_BUCKETS];
}

struct rpc_session *session_find(struct rpc_service *service, uint64_t number)
{
    const struct session_number *entry = *number_bucket(&service->book, number);
    while (entry != NULL && entry->number != number) {
        entry = entry->next;
    }
    return entry == NULL ? NULL : entry->session;
}

static void forget_numbers(struct session_book *book, struct rpc_session *session)
{
    struct session_number *entry;
    while ((entry = session->numbers) != NULL) {
        struct session_number **link = number_bucket(book, entry->number);
        while (*link != entry) {
            link = &(*link)->next;
        }
        *link = entry->next;
        session->numbers = entry->more;
        free(entry);
    }
}

/* ---- one session ---- */

struct rpc_session *session_create_for(struct rpc_service *service, struct heap_session *heap)
{
    struct session_book *book = &service->book;
    struct rpc_session *session = calloc(1, sizeof(*session));
    struct session_number *number = malloc(sizeof(*number));
    if (session == NULL || number == NULL) {
        free(number);
        free(session);
        return NULL;
    }
    session->heap = heap;
    session->number = heap_session_number(heap);
    struct session_number **bucket = number_bucket(book, session->number);
    *number = (struct session_number){.next = *bucket, .number = session->number, .session = session};
    *bucket = session->numbers = number;
    session->prev = book->last;
    *(book->last == NULL ? &book->first : &book->last->next) = session;
    book->last = session;
    return session;
}

/* A session for a connection that was counted when it came.  NULL: no memory. */
static struct rpc_session *create(struct rpc_service *service)
{
    struct heap_session *heap = heap_session_create(service->heap);
    struct rpc_session *session = heap == NULL ? NULL : session_create_for(service, heap);
    if (session == NULL && heap != NULL) {
        heap_session_destroy(service->heap, heap);
    }
    return session;
}

/* A further session for a connection that is in one.  NULL: no memory. */
static struct rpc_session *create_another(struct rpc_service *service)
{
    struct rpc_session *session = create(service);
    if (session != NULL) {
        atomic_fetch_add_explicit(&service->sessions, 1, memory_order_relaxed);
    }
    return session;
}

/* Frees a session without connections whose holds are gone or elsewhere. */
static void discard(struct rpc_service *service, struct rpc_session *session)
{
    struct session_book *book = &service->book;
    atomic_fetch_sub_explicit(&service->sessions, 1, memory_order_relaxed);
    event_subscribe(service, session, 0);
    lease_end(service, session);
    forget_numbers(book, session);
    event_queue_fini(service, &session->waiting);
    *(session->prev == NULL ? &book->first : &session->prev->next) = session->next;
    *(session->next == NULL ? &book->last : &session->next->prev) = session->prev;
    free(session);
}

/* Releases its holds, and ends it in the heap unless `keep`; returns how many there were.  What takes longer than a
 * slice goes on as call->park, or for itself when `call` is NULL. */
static uint64_t release(struct rpc_service *service, struct rpc_session *from, bool keep, struct call *call)
{
    uint64_t released;
    struct heap_session *session = from->heap;
    journal_release(service, from);
    struct heap_dying *dying = park_dying(service);
    if (dying == NULL || (call != NULL && call->park != NULL)) {
        return keep ? heap_session_release_all(service->heap, session) : heap_session_destroy(service->heap, session);
    }
    if (!heap_session_end(&released, service->heap, session, keep, dying)) {
        park_take_dying(service, call);
    } else if (call != NULL) {
        call->freed += dying->freed;
    }
    return released;
}

uint64_t session_end(struct rpc_service *service, struct rpc_session *session, struct call *call)
{
    uint64_t released = release(service, session, false, call);
    discard(service, session);
    return released;
}

void session_end_all(struct rpc_service *service)
{
    while (service->book.first != NULL) {
        session_end(service, service->book.first, NULL);
    }
    heap_settle(service->heap);
}

void session_note_kept(struct rpc_session *session)
{
    bool is_kept = heap_session_holds(session->heap) > 0 || session->subscribed != 0;
    if (is_kept != session->is_kept) {
        session->is_kept = is_kept;
        for (struct rpc_conn *conn = session->conns.first; conn != NULL; conn = conn->joined.next) {
            atomic_store_explicit(&conn->is_kept, is_kept, memory_order_relaxed);
        }
    }
}

/* ---- joining and leaving ---- */

static void join(struct rpc_session *session, struct rpc_conn *conn)
{
    struct rpc_service *service = conn->thread->service;
    conn->session = session;
    lease_stop(service, session);
    conn_list_add_joined(&session->conns, conn);
    atomic_store_explicit(&conn->is_kept, session->is_kept, memory_order_relaxed);
    if (conn->stream_kinds != 0) {
        event_follow(conn->thread->service, session);
    }
    if (service->book.acting == conn) {
        heap_set_creator(service->heap, session->heap);
    }
}

/* Takes the connection out of its session, which then may be without any. */
static void leave(struct rpc_conn *conn)
{
    struct rpc_session *session = conn->session;
    bool was_first = session->conns.first == conn;
    conn_list_remove_joined(&session->conns, conn);
    conn->session = NULL;
    if (conn->stream_kinds != 0) {
        event_follow(conn->thread->service, session);
    }
    if (session->conns.first == NULL && session->token[0] != '\0') {
        lease_run(conn->thread->service, session);
    } else if (was_first && session->conns.first != NULL && !event_queue_is_empty(&session->waiting)) {
        event_call_for(session);
    }
}

void session_admit(struct rpc_thread *thread)
{
    struct rpc_service *service = thread->service;
    struct rpc_conn *conn;
    while ((conn = thread->arrived.first) != NULL) {
        struct rpc_session *session = create(service);
        if (session == NULL) {
            return;
        }
        conn_list_remove_arrived(thread, conn);
        join(session, conn);
        event_client(conn, "connected", NULL);
        if (!access_is_valid(conn)) {
            session_dismiss(conn, "its token is not known any more");
        }
    }
}

/* ---- visits ----
 *
 * A connection that takes messages has a session of its own, its home, and goes into another one while a message for
 * that runs.  A home without its connection is in the book all the same. */

/* Back from a visit.  What was visited ends if nobody else is in it and it has no lease. */
static void go_home(struct rpc_conn *conn)
{
    struct rpc_session *visited = conn->session, *home = conn->home;
    if (home == NULL) {
        return;
    }
    conn->home = NULL;
    leave(conn);
    if (visited->conns.first == NULL && visited->token[0] == '\0') {
        session_end(conn->thread->service, visited, NULL);
    }
    join(home, conn);
}

bool session_visit(struct rpc_conn *conn)
{
    struct rpc_service *service = conn->thread->service;
    struct rpc_session *host;
    if (conn->visit_token_len > 0) {
        host = lease_find(service, conn->visit_token, conn->visit_token_len);
        if (host == NULL) {
            return false;
        }
    } else {
        host = session_find(service, conn->own);
        conn->own = host == NULL ? 0 : conn->own;
    }
    bool tells_all = host != NULL && conn->wants_stream && (host->asked & 1u << EVENT_JOURNAL) != 0;
    if (tells_all && rpc_conn_role(conn) != RPC_ROLE_ADMIN) {
        return false;
    }
    if (host == conn->session) {
        return true;
    }
    go_home(conn);
    if (host != NULL && host != conn->session) {
        conn->home = conn->session;
        leave(conn);
        join(host, conn);
    }
    return true;
}

void session_settle(struct rpc_conn *conn)
{
    struct rpc_session *session = conn->session, *fresh;
    if (conn->home != NULL) {
        go_home(conn);
    } else if (session->token[0] != '\0' && (fresh = create_another(conn->thread->service)) != NULL) {
        conn->own = session->number;
        leave(conn);
        join(fresh, conn);
    }
}

void session_bury(struct rpc_conn *conn)
{
    struct rpc_service *service = conn->thread->service;
    go_home(conn);
    struct rpc_session *session = conn->session;
    conn_list_remove_told(conn->thread, conn);
    leave(conn);
    const char *reason = atomic_load_explicit(&conn->end_reason, memory_order_relaxed);
    event_client(conn, "closed", reason != NULL ? reason : conn->reason);
    if (session->conns.first == NULL && session->token[0] == '\0') {
        session_end(service, session, NULL);
    }
}

/* ---- what requests do to sessions ---- */

/* From here on the numbers of `from` name `to`. */
static void move_numbers(struct rpc_session *to, struct rpc_session *from)
{
    struct session_number *entry;
    while ((entry = from->numbers) != NULL) {
        from->numbers = entry->more;
        entry->session = to;
        entry->more = to->numbers;
        to->numbers = entry;
    }
}

enum heap_error session_merge(struct rpc_conn *conn, struct rpc_session *to)
{
    struct rpc_service *service = conn->thread->service;
    struct rpc_session *from = conn->session;
    /* The number of another one is given up: clients that come again and again would leave theirs behind. */
    bool is_known = from->token[0] != '\0' || heap_session_is_noted(from->heap);
    enum heap_error error = heap_session_merge(service->heap, to->heap, from->heap);
    if (error != HEAP_OK) {
        return error;
    }
    journal_merge(service, from, to);
    if (is_known) {
        move_numbers(to, from);
    }
    event_queue_move(service, &to->waiting, &from->waiting);
    event_subscribe(service, to, to->asked | from->asked);
    while (from->conns.first != NULL) {
        struct rpc_conn *moved = from->conns.first;
        conn_list_remove_joined(&from->conns, moved);
        join(to, moved);
    }
    discard(service, from);
    session_note_kept(to);
    return HEAP_OK;
}

/* As many new sessions as the old one has connections, which go into them.  HEAP_MEMORY: nothing has changed. */
static enum heap_error scatter(struct rpc_service *service, struct rpc_session *old)
{
    struct rpc_session *last = service->book.last;
    for (const struct rpc_conn *conn = old->conns.first; conn != NULL; conn = conn->joined.next) {
        if (create_another(service) == NULL) {
            while (service->book.last != last) {
                session_end(service, service->book.last, NULL);
            }
            return HEAP_MEMORY;
        }
    }
    /* The new ones are the last of the book, in order. */
    for (struct rpc_session *fresh = last->next; fresh != NULL; fresh = fresh->next) {
        struct rpc_conn *conn = old->conns.first;
        conn_list_remove_joined(&old->conns, conn);
        join(fresh, conn);
    }
    return HEAP_OK;
}

enum heap_error session_close(uint64_t *released, struct call *call)
{
    struct rpc_service *service = call->service;
    struct rpc_session *old = call->conn->session;
    enum heap_error error = scatter(service, old);
    if (error == HEAP_OK) {
        *released = session_end(service, old, call);
    }
    return error;
}

enum heap_error session_kill(uint64_t *released, struct call *call, struct rpc_conn *conn)
{
    struct rpc_service *service = conn->thread->service;
    struct rpc_session *session = conn->session;
    *released = 0;
    if (session->token[0] == '\0') {
        *released = release(service, session, true, call);
        event_subscribe(service, session, 0);
    } else {
        struct rpc_session *fresh = create_another(service);
        if (fresh == NULL) {
            return HEAP_MEMORY;
        }
        leave(conn);
        join(fresh, conn);
    }
    session_note_kept(conn->session);
    session_dismiss(conn, "killed by server.kill");
    return HEAP_OK;
}

void session_dismiss(struct rpc_conn *conn, const char *reason)
{
    atomic_store_explicit(&conn->end_reason, reason, memory_order_relaxed);
    atomic_store_explicit(&conn->is_killed, true, memory_order_relaxed);
    if (conn->thread->service->book.acting == conn) {
        conn->ends_itself = true;
    } else {
        event_call(conn);
    }
}
