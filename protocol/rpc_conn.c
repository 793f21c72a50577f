/* rpc_conn.c -- a connection: bytes in, lines out of them, replies waiting to be sent.
 *
 *   rpc_conn_buffer      the kernel writes into the thread's turn, behind the unfinished line if there is
 *                        one (copied there while it is small); an unfinished line that has grown large
 *                        stays in its own block, which doubles
 *   rpc_conn_received    whole lines are parsed where they lie; what is left is copied to `partial`
 *
 * So a line that comes whole is never copied, a long one a constant number of times, and a connection
 * that is idle between lines owns no input memory at all.
 */
#include "rpc_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* An unfinished line up to here is copied in front of the next read rather than read into. */
#define PARTIAL_COPY_MAX 16384u
/* The smallest block for an unfinished line. */
#define PARTIAL_MIN 512u
/* A reply buffer above this is given back when it is empty: thousands of connections may be idle. */
#define OUT_KEEP_BYTES 4096u

/* ---- lists ---- */

static void list_add(struct conn_list *list, struct rpc_conn *conn, struct conn_link *link, size_t offset)
{
    if (link->linked) {
        return;
    }
    link->linked = true;
    link->next = NULL;
    link->prev = list->last;
    if (list->last != NULL) {
        struct conn_link *last = (struct conn_link *)((char *)list->last + offset);
        last->next = conn;
    } else {
        list->first = conn;
    }
    list->last = conn;
}

static void list_remove(struct conn_list *list, struct conn_link *link, size_t offset)
{
    if (!link->linked) {
        return;
    }
    link->linked = false;
    if (link->prev != NULL) {
        ((struct conn_link *)((char *)link->prev + offset))->next = link->next;
    } else {
        list->first = link->next;
    }
    if (link->next != NULL) {
        ((struct conn_link *)((char *)link->next + offset))->prev = link->prev;
    } else {
        list->last = link->prev;
    }
}

void conn_list_add_ready(struct rpc_thread *thread, struct rpc_conn *conn)
{
    list_add(&thread->ready, conn, &conn->ready, offsetof(struct rpc_conn, ready));
}

void conn_list_add_notice(struct rpc_thread *thread, struct rpc_conn *conn)
{
    list_add(&thread->notice, conn, &conn->notice, offsetof(struct rpc_conn, notice));
}

void conn_list_remove_ready(struct rpc_thread *thread, struct rpc_conn *conn)
{
    list_remove(&thread->ready, &conn->ready, offsetof(struct rpc_conn, ready));
}

void conn_list_remove_notice(struct rpc_thread *thread, struct rpc_conn *conn)
{
    list_remove(&thread->notice, &conn->notice, offsetof(struct rpc_conn, notice));
}

void conn_list_add_parked(struct rpc_thread *thread, struct rpc_conn *conn)
{
    list_add(&thread->parked, conn, &conn->parked, offsetof(struct rpc_conn, parked));
    atomic_store_explicit(&thread->has_parked, true, memory_order_relaxed);
}

void conn_list_remove_parked(struct rpc_thread *thread, struct rpc_conn *conn)
{
    list_remove(&thread->parked, &conn->parked, offsetof(struct rpc_conn, parked));
    atomic_store_explicit(&thread->has_parked, thread->parked.first != NULL, memory_order_relaxed);
}

void conn_list_add_fenced(struct rpc_thread *thread, struct rpc_conn *conn)
{
    list_add(&thread->fenced, conn, &conn->fenced, offsetof(struct rpc_conn, fenced));
    atomic_store(&thread->has_fenced, true);
}

void conn_list_remove_fenced(struct rpc_thread *thread, struct rpc_conn *conn)
{
    list_remove(&thread->fenced, &conn->fenced, offsetof(struct rpc_conn, fenced));
    atomic_store(&thread->has_fenced, thread->fenced.first != NULL);
}

void conn_list_add_held(struct rpc_thread *thread, struct rpc_conn *conn)
{
    list_add(&thread->held, conn, &conn->held, offsetof(struct rpc_conn, held));
}

void conn_list_remove_held(struct rpc_thread *thread, struct rpc_conn *conn)
{
    list_remove(&thread->held, &conn->held, offsetof(struct rpc_conn, held));
}

void conn_list_add_told(struct rpc_thread *thread, struct rpc_conn *conn)
{
    list_add(&thread->told, conn, &conn->told, offsetof(struct rpc_conn, told));
}

void conn_list_remove_told(struct rpc_thread *thread, struct rpc_conn *conn)
{
    list_remove(&thread->told, &conn->told, offsetof(struct rpc_conn, told));
}

void conn_list_add_joined(struct conn_list *list, struct rpc_conn *conn)
{
    list_add(list, conn, &conn->joined, offsetof(struct rpc_conn, joined));
}

void conn_list_remove_joined(struct conn_list *list, struct rpc_conn *conn)
{
    list_remove(list, &conn->joined, offsetof(struct rpc_conn, joined));
}

void conn_list_add_arrived(struct rpc_thread *thread, struct rpc_conn *conn)
{
    list_add(&thread->arrived, conn, &conn->arrived, offsetof(struct rpc_conn, arrived));
}

void conn_list_remove_arrived(struct rpc_thread *thread, struct rpc_conn *conn)
{
    list_remove(&thread->arrived, &conn->arrived, offsetof(struct rpc_conn, arrived));
}

/* ---- life ---- */

/* The coarse clock will do: at a pipeline of one this runs twice a request. */
void conn_note_activity(struct rpc_conn *conn)
{
    atomic_store_explicit(&conn->active_ms, slowlog_coarse_ms(), memory_order_relaxed);
    atomic_store_explicit(&conn->out_bytes, conn_unsent(conn) + conn->taken, memory_order_relaxed);
    atomic_store_explicit(&conn->in_bytes, conn->partial == NULL ? 0 : conn->partial->used, memory_order_relaxed);
}

struct rpc_conn *rpc_conn_create(struct rpc_thread *thread, uint64_t client, const struct rpc_peer *peer, void *user)
{
    struct rpc_conn *conn = calloc(1, sizeof(*conn));
    if (conn == NULL) {
        return NULL;
    }
    conn->thread = thread;
    conn->client = client;
    conn->user = user;
    conn->file = -1;
    conn->transport = peer->transport;
    snprintf(conn->peer, sizeof(conn->peer), "%s", peer->name);
    out_init(&conn->out, 0);
    out_init(&conn->events, 0);
    conn->opened_ms = rpc_now_ms();
    access_begin(conn, peer);
    conn_note_activity(conn);
    conn_list_add_arrived(thread, conn);
    atomic_fetch_add_explicit(&thread->service->sessions, 1, memory_order_relaxed);
    return conn;
}

void rpc_conn_destroy(struct rpc_conn *conn, const char *reason)
{
    struct rpc_thread *thread = conn->thread;
    conn_list_remove_ready(thread, conn);
    conn_list_remove_notice(thread, conn);
    conn_list_remove_parked(thread, conn);
    conn_list_remove_fenced(thread, conn);
    conn_list_remove_held(thread, conn);
    question_forget(conn);
    conn_drop_requests(conn);
    free(conn->partial);
    out_fini(&conn->out);
    conn_note_unread(conn);
    rpc_conn_note_taken(conn, 0, 0);
    out_fini(&conn->events);
    if (conn->file >= 0) {
        close(conn->file);
    }
    if (conn->arrived.linked) {
        conn_list_remove_arrived(thread, conn);
        atomic_fetch_sub_explicit(&thread->service->sessions, 1, memory_order_relaxed);
        free(conn);
        return;
    }
    conn->reason = reason;
    atomic_store_explicit(&conn->is_gone, true, memory_order_relaxed);
    conn->ready.next = thread->buried;
    thread->buried = conn;
}

void *rpc_conn_user(const struct rpc_conn *conn)
{
    return conn->user;
}

bool rpc_conn_is_kept(const struct rpc_conn *conn)
{
    return conn->first != NULL || conn_is(&conn->is_kept);
}

void conn_must_close(struct rpc_conn *conn, const char *reason)
{
    if (conn->must_close == NULL) {
        conn->must_close = reason;
    }
    conn_list_add_notice(conn->thread, conn);
}

/* ---- requests ---- */

void conn_drop_first(struct rpc_conn *conn)
{
    struct request *request = conn->first;
    if (conn->built != NULL) {
        conn->thread->has_used_value = true;
        question_forget(conn);
    }
    conn->runs_at_once = false;
    conn->first = request->next;
    if (conn->first == NULL) {
        conn->last = NULL;
    }
    if (request->turn->users > 1) {
        request->turn->users--;
    } else {
        thread_release_turn(conn->thread, request->turn);
    }
}

void conn_drop_requests(struct rpc_conn *conn)
{
    while (conn->first != NULL) {
        conn_drop_first(conn);
    }
}

/* ---- bytes in ---- */

bool conn_grow_partial(struct rpc_conn *conn, size_t n)
{
    size_t size = conn->partial->size, used = conn->partial->used;
    size_t max = RPC_LIMIT(conn->thread->service, max_request);
    if (size - used >= n) {
        return true;
    }
    do {
        size *= 2;
    } while (size - used < n);
    if (max != 0 && used <= max && size > max + n) {
        size = max + n; /* no line is longer */
    }
    struct turn_block *block = turn_block_grow(conn->partial, size);
    if (block == NULL) {
        return false;
    }
    conn->partial = block;
    return true;
}

char *rpc_conn_buffer(struct rpc_conn *conn, size_t suggested, size_t *room)
{
    size_t prefix = conn->partial == NULL ? 0 : conn->partial->used;
    size_t wish = suggested == 0 ? 1 : suggested;
    conn->reading_prefix = prefix;
    conn->reading_partial = prefix > PARTIAL_COPY_MAX;
    if (conn->reading_partial) {
        if (!conn_grow_partial(conn, wish)) {
            return NULL;
        }
        conn->reading = conn->partial->bytes;
        *room = conn->partial->size - prefix;
        return conn->reading + prefix;
    }
    conn->reading = turn_reserve(conn->thread->turn, prefix + wish, room);
    if (conn->reading == NULL) {
        return NULL;
    }
    if (prefix > 0) {
        memcpy(conn->reading, conn->partial->bytes, prefix);
    }
    *room = wish;
    return conn->reading + prefix;
}

/* Parses the whole lines at the front of the bytes; returns how many bytes are done with. */
static size_t read_lines(struct rpc_conn *conn, const char *data, size_t len)
{
    size_t max = RPC_LIMIT(conn->thread->service, max_request);
    size_t done = 0;
    while (conn->must_close == NULL) {
        struct frame_line line;
        size_t used;
        enum frame_kind kind = frame_next(&conn->frame, data + done, len - done, max, conn->eof, &line, &used);
        done += used;
        if (kind == FRAME_MORE) {
            return done;
        }
        if (kind == FRAME_TOO_LONG) {
            envelope_too_long(conn);
        } else {
            envelope_read_line(conn, &line);
        }
    }
    return len;
}

/* Keeps the bytes of the unfinished line in a block of its own. */
static void keep_partial(struct rpc_conn *conn, const char *rest, size_t len)
{
    struct turn_block *block = conn->partial;
    if (len == 0) {
        free(block);
        conn->partial = NULL;
        return;
    }
    if (block == NULL || block->size < len) {
        size_t size = PARTIAL_MIN;
        while (size < len) {
            size *= 2;
        }
        free(block);
        conn->partial = block = turn_block_create(size);
        if (block == NULL) {
            conn_must_close(conn, "no memory for its input");
            return;
        }
    }
    memcpy(block->bytes, rest, len);
    block->used = len;
}

/* What came lies in the unfinished line's own block. */
static void received_in_partial(struct rpc_conn *conn, size_t len)
{
    struct turn_block *block = conn->partial;
    size_t done = read_lines(conn, block->bytes, len);
    if (done == 0) {
        block->used = len;
        return;
    }
    /* Requests may borrow from the block now: it goes the way of their turn. */
    turn_adopt(conn->thread->turn, block);
    conn->partial = NULL;
    keep_partial(conn, block->bytes + done, len - done);
}

/* Whether the connection speaks TLS to a plain port. */
static bool is_tls_hello(const struct rpc_conn *conn, const char *data, size_t len)
{
    return conn->frame.lines == 0 && !conn->frame.dropping && len >= 2 && data[0] == 0x16 && data[1] == 0x03;
}

void conn_queue(struct rpc_conn *conn)
{
    if (conn->question != NULL) {
        return;
    }
    if (conn->first != NULL) {
        conn_list_add_ready(conn->thread, conn);
    } else if (conn->eof) {
        conn_list_add_notice(conn->thread, conn);
    }
}

void rpc_conn_received(struct rpc_conn *conn, size_t n)
{
    size_t len = conn->reading_prefix + n;
    if (conn->must_close != NULL || conn->ends_itself) {
        return;
    }
    if (is_tls_hello(conn, conn->reading, len)) {
        conn_must_close(conn, "TLS on a plain port");
        return;
    }
    if (conn->reading_partial) {
        received_in_partial(conn, len);
    } else {
        const char *data = conn->reading;
        turn_commit(conn->thread->turn, len);
        size_t done = read_lines(conn, data, len);
        keep_partial(conn, data + done, len - done);
    }
    conn_note_activity(conn);
    conn_queue(conn);
}

void rpc_conn_drop_unfinished(struct rpc_conn *conn)
{
    free(conn->partial);
    conn->partial = NULL;
}

void rpc_conn_received_eof(struct rpc_conn *conn)
{
    conn->eof = true;
    if (conn->must_close == NULL && !conn->ends_itself && conn->partial != NULL) {
        /* The scanner wants a line to end in a control character; the block has padding for it. */
        conn->partial->bytes[conn->partial->used] = '\n';
        received_in_partial(conn, conn->partial->used);
    }
    conn_queue(conn);
}

/* ---- replies out ---- */

const char *rpc_conn_output(struct rpc_conn *conn, size_t *len)
{
    size_t sendable = conn_sendable(conn);
    *len = conn->thread->service->journal.keeps_back ? journal_fence(conn, sendable) : sendable;
    return conn->out.data == NULL ? "" : conn->out.data + conn->sent;
}

void rpc_conn_sent(struct rpc_conn *conn, size_t n)
{
    conn->sent += n;
    conn->fence_free -= n < conn->fence_free ? n : conn->fence_free;
    conn->fence_next -= n < conn->fence_next ? n : conn->fence_next;
    conn_note_activity(conn);
    if (conn->event_bytes > conn_unsent(conn)) {
        conn->event_bytes = conn_unsent(conn);
    }
    if (conn->events_due && conn_unsent(conn) < EVENT_UNREAD_BYTES / 2) {
        conn_list_add_ready(conn->thread, conn);
    }
    if (conn->sent < conn->out.len) {
        return;
    }
    conn->sent = 0;
    conn->line_start = 0;
    out_truncate(&conn->out, 0);
    if (conn->out.room > OUT_KEEP_BYTES) {
        out_fini(&conn->out);
        out_init(&conn->out, 0);
        conn_note_unread(conn);
    }
}

size_t rpc_conn_unread(const struct rpc_conn *conn)
{
    return conn_unread(conn);
}

void rpc_conn_note_taken(struct rpc_conn *conn, size_t bytes, size_t room)
{
    conn->taken = bytes;
    service_note_unread(conn->thread->service, &conn->noted_taken, room);
    atomic_store_explicit(&conn->out_bytes, conn_unsent(conn) + bytes, memory_order_relaxed);
}

size_t rpc_conn_unfinished(const struct rpc_conn *conn)
{
    size_t max = RPC_LIMIT(conn->thread->service, max_request);
    size_t size = conn->partial == NULL ? 0 : conn->partial->size;
    return max != 0 && size > max ? max : size;
}

bool rpc_conn_is_finished(const struct rpc_conn *conn)
{
    return (conn->eof || conn->ends_itself) && conn->first == NULL;
}

bool rpc_conn_is_kept_back(struct rpc_conn *conn)
{
    size_t len;
    (void)rpc_conn_output(conn, &len);
    return conn->fence_lsn != 0;
}

bool rpc_conn_is_waiting(const struct rpc_conn *conn)
{
    return conn->first != NULL;
}

bool rpc_conn_wants_run(const struct rpc_conn *conn)
{
    return conn->ready.linked;
}

void rpc_conn_rest(struct rpc_conn *conn)
{
    if (conn->built == NULL) { /* what is built must not wait: others wait for it */
        conn_list_remove_ready(conn->thread, conn);
    }
}

void rpc_conn_resume(struct rpc_conn *conn)
{
    if (conn->first != NULL && !conn_is_waiting(conn) && !conn_is_dammed(conn)) {
        conn_list_add_ready(conn->thread, conn);
    }
}

const char *rpc_conn_must_close(const struct rpc_conn *conn)
{
    return conn->must_close;
}

void rpc_too_many_clients_line(char line[RPC_DISMISSAL_BYTES], uint64_t max)
{
    snprintf(line, RPC_DISMISSAL_BYTES,
             "{\"jsonrpc\":\"2.0\",\"id\":null,\"error\":{\"code\":-32008,\"message\":\"there are %llu connections "
             "already; close one or raise --max-clients\",\"data\":{\"error\":\"limit_exceeded\","
             "\"limit\":\"max-clients\",\"max\":%llu}}}\n",
             (unsigned long long)max, (unsigned long long)max);
}
