/* conn.c -- a connection: bytes in and out, from accept to close.
 *
 *                      +--------------------- OPEN ----------------------+
 *   conn_open() -----> |  reading   on_read -> rpc_conn_received()       |
 *                      |     |  ^     unread replies > 1 MiB, or         |
 *                      |     v  |     requests that wait for a run       |
 *                      |  not reading                                    |
 *                      |                                                 |
 *                      |  first line is HTTP: the same through http.c    |
 *                      +-----|-------------|---------------|-------------+
 *        end of input, or    |   HTTP is   |               |  reset, time limit,
 *        the daemon stops    v   over      v               |  max-output, no memory
 *                          ENDED        LINGERING          |
 *             answers what  |              | throws input  |
 *             was received  |  all sent    | away          |
 *                           v              v  end, 1 s     v
 *                          CLOSING  <------+---------------+
 *                             | on_closed
 *                             v
 *                            gone
 *
 *   OPEN      rpc is there.  is_reading says whether libuv reads.
 *   ENDED     is_ended.  Never reads again; conn_flush() closes when nothing is owed.
 *   LINGERING is_ended, rpc is NULL, reads.  An answer was sent and our side closed; waits for the other side,
 *             because closing with unread bytes would reset the connection under that answer, and closing
 *             at once looks to some clients as if they had never been connected.  conn_dismiss() begins here.
 *   CLOSING   is_closing, rpc is NULL, on no list.  Only libuv still knows it; write callbacks may come.
 *
 * The session ends with rpc_conn_destroy(), on the way into LINGERING or CLOSING; memory is freed in
 * on_closed() and nowhere else.
 *
 * Writing: what the socket takes is written from the replies in place.  When it takes no more, a copy of the
 * next few bytes is left with uv_write(), which tells when there is room again: so there is nothing of ours
 * that must lie still while replies move, and libuv's queue stays short.
 *
 * With TLS what is read goes through tls.c before anything else sees it, and what is sent goes through it last; it is
 * encrypted when what was encrypted before is gone, so that no more than one piece waits so.
 *
 * Start at on_read() and conn_flush().
 */
#include "conn.h"

#include "http.h"
#include "io_thread.h"
#include "peer.h"
#include "server.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* What is left with uv_write(): enough not to wake for nothing, little enough to copy without thought. */
#define WAITING_WRITE_BYTES 8192u
/* A client with replies above max-output has so long to take some of them. */
#define STUCK_MS 1000u
/* A connection that speaks HTTP sends so many pieces, of up to a quarter of a megabyte, in a turn. */
#define ANSWER_ROUNDS 8u
/* Of a connection in a turn when there is no more for all: many requests, but not much memory for ten thousand. */
#define READ_LEAST 4096u
/* In the midst of a line above this: once in so many turns. */
#define LONG_LINE_BYTES 16384u
#define LONG_LINE_TURNS 16u
/* How long a connection may go on talking when its last answer was sent. */
#define LINGER_MS 1000u
/* So many connections that were turned away may linger on a loop; the files set aside at the start cover them.
 */
#define DISMISSED_MAX 16u
/* A silent TCP peer that owes an acknowledgement is looked at after this. */
#define UNHEARD_MS 30000u

/* ---- close ---- */

static void on_closed(uv_handle_t *handle)
{
    free(handle->data);
}

/* Brings the thread's sum up to date. */
static void note_unfinished(struct conn *conn)
{
    size_t unfinished = conn->rpc == NULL ? 0 : rpc_conn_unfinished(conn->rpc);
    unfinished += conn->http == NULL ? 0 : http_unread_input(conn->http);
    conn->thread->unfinished += unfinished - conn->unfinished;
    conn->unfinished = unfinished;
}

/* It is in no session any more. */
static void end_session(struct conn *conn, const char *why)
{
    if (conn->rpc != NULL) {
        http_destroy(conn->http);
        conn->http = NULL;
        rpc_conn_destroy(conn->rpc, why);
        conn->rpc = NULL;
        io_thread_want_run(conn->thread);
        note_unfinished(conn);
    }
}

void conn_close(struct conn *conn, enum log_level level, const char *why)
{
    struct io_thread *thread = conn->thread;
    if (conn->is_closing) {
        return;
    }
    log_write(&thread->server->log, level, "client %llu closed: %s", (unsigned long long)conn->client, why);
    conn->is_closing = true;
    end_session(conn, why);
    io_thread_remove(thread, conn);
    tls_destroy(conn->tls);
    conn->tls = NULL;
    uv_close(&conn->handle.any, on_closed);
}

static int file_of(const struct conn *conn)
{
    uv_os_fd_t fd = -1;
    uv_fileno(&conn->handle.any, &fd);
    return fd;
}

/* ---- write ---- */

/* A write that waits in libuv, with the bytes it writes. */
struct waiting_write {
    uv_write_t request;
    size_t len;
    char bytes[WAITING_WRITE_BYTES];
};

/* What is to be sent, before it is encrypted. */
static const char *output_of(const struct conn *conn, size_t *len)
{
    return conn->http != NULL ? http_output(conn->http, len) : rpc_conn_output(conn->rpc, len);
}

/* Bytes of it are done with. */
static void count_sent(struct conn *conn, size_t n)
{
    conn->http != NULL ? http_sent(conn->http, n) : rpc_conn_sent(conn->rpc, n);
    conn->thread->bytes_out += n;
}

/* What goes to the socket. */
static const char *wire_output_of(const struct conn *conn, size_t *len)
{
    return conn->tls != NULL ? tls_output(conn->tls, len) : output_of(conn, len);
}

/* Bytes of it have gone there. */
static void count_wire(struct conn *conn, size_t n)
{
    conn->tls != NULL ? tls_sent(conn->tls, n) : count_sent(conn, n);
    conn->active_ms = uv_now(&conn->thread->loop);
    conn->has_sent = true;
}

/* Bytes that are encrypted and not sent. */
static size_t encrypted(const struct conn *conn)
{
    size_t len = 0;
    if (conn->tls != NULL) {
        tls_output(conn->tls, &len);
    }
    return len;
}

static void on_written(uv_write_t *request, int status)
{
    struct conn *conn = request->handle->data;
    struct waiting_write *waiting = request->data;
    size_t len = waiting->len;
    free(waiting);
    conn->is_writing = false;
    if (conn->rpc == NULL) {
        return;
    }
    if (status < 0) {
        conn_close(conn, LOG_DEBUG, uv_strerror(status));
        return;
    }
    count_wire(conn, len);
    conn_flush(conn);
}

/* Leaves the next bytes with libuv.  false: the connection is closed. */
static bool write_when_possible(struct conn *conn, const char *bytes, size_t len)
{
    struct waiting_write *waiting = malloc(sizeof *waiting);
    if (waiting == NULL) {
        conn_close(conn, LOG_WARNING, "no memory to send its replies");
        return false;
    }
    waiting->len = len < WAITING_WRITE_BYTES ? len : WAITING_WRITE_BYTES;
    waiting->request.data = waiting;
    memcpy(waiting->bytes, bytes, waiting->len);
    uv_buf_t buf = uv_buf_init(waiting->bytes, (unsigned)waiting->len);
    int status = uv_write(&waiting->request, &conn->handle.stream, &buf, 1, on_written);
    if (status < 0) {
        free(waiting);
        conn_close(conn, LOG_DEBUG, uv_strerror(status));
        return false;
    }
    conn->is_writing = true;
    return true;
}

/* Sends what the socket takes.  false: the connection is closed. */
static bool send_wire(struct conn *conn)
{
    size_t len;
    const char *bytes = wire_output_of(conn, &len);
    if (len == 0 || conn->is_writing) {
        return true;
    }
    uv_buf_t buf = uv_buf_init((char *)(uintptr_t)bytes, (unsigned)(len < INT32_MAX ? len : INT32_MAX));
    int n = uv_try_write(&conn->handle.stream, &buf, 1);
    if (n < 0 && n != UV_EAGAIN) {
        conn_close(conn, LOG_DEBUG, uv_strerror(n));
        return false;
    }
    size_t sent = n > 0 ? (size_t)n : 0;
    if (sent == len) {
        count_wire(conn, sent);
        return true;
    }
    if (sent > 0) {
        count_wire(conn, sent);
        bytes = wire_output_of(conn, &len);
    }
    return write_when_possible(conn, bytes, len);
}

/* Encrypts some of what is to be sent, when all that was encrypted before has gone.  false: the connection is closed. */
static bool encrypt(struct conn *conn)
{
    size_t len, n = 0;
    const char *bytes = output_of(conn, &len);
    if (len == 0 || encrypted(conn) > 0 || !tls_is_ready(conn->tls)) {
        return true;
    }
    n = tls_write(conn->tls, bytes, len);
    if (n == 0) {
        conn_close(conn, LOG_WARNING, tls_why(conn->tls));
        return false;
    }
    count_sent(conn, n);
    return true;
}

/* Sends what can be sent.  false: the connection is closed. */
static bool send_output(struct conn *conn)
{
    bool goes_on = true;
    while (conn->tls != NULL && goes_on) {
        if (!encrypt(conn)) {
            return false;
        }
        goes_on = encrypted(conn) > 0;
        if (!send_wire(conn)) {
            return false;
        }
        goes_on &= encrypted(conn) == 0;
    }
    return conn->tls != NULL || send_wire(conn);
}

/* Leaves the next of what is to be sent with libuv, though the socket might take it.  false: the connection is
 * closed. */
static bool send_later(struct conn *conn)
{
    size_t len;
    if (conn->tls != NULL && !encrypt(conn)) {
        return false;
    }
    const char *bytes = wire_output_of(conn, &len);
    return len == 0 || write_when_possible(conn, bytes, len);
}

/* Says that nothing more will be sent, where TLS has words for it.  Whether that has gone out. */
static bool say_farewell(struct conn *conn)
{
    if (conn->tls != NULL) {
        tls_end(conn->tls);
        if (!send_wire(conn)) {
            return false;
        }
    }
    return encrypted(conn) == 0 && !conn->is_writing;
}

/* ---- read ---- */

/* How many bytes it may read now: what is left of the turn for all, or else a little once a turn, or those who send much
 * would leave nothing to those who are behind them in the poll's order.  In the midst of a long line it is as much on the
 * average, but each time so much that the calls of hundreds are no large part of the turn that all others wait for. */
static size_t share_of(const struct conn *conn)
{
    const struct io_thread *thread = conn->thread;
    if (thread->read_budget > READ_LEAST) {
        return thread->read_budget;
    }
    if (conn->read_turn == thread->turn) {
        return 0;
    }
    if (conn->unfinished < LONG_LINE_BYTES) {
        return READ_LEAST;
    }
    return (conn->client + thread->turn) % LONG_LINE_TURNS == 0 ? LONG_LINE_TURNS * READ_LEAST : 0;
}

static void on_room_wanted(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
    struct conn *conn = handle->data;
    struct io_thread *thread = conn->thread;
    size_t room = 0, share = share_of(conn);
    char *bytes = NULL;
    if (conn->rpc == NULL) {
        bytes = thread->discard;
        room = share = sizeof thread->discard;
    } else if (share > 0 && conn->tls != NULL) {
        bytes = thread->tls_input;
        room = sizeof thread->tls_input;
    } else if (share > 0 && conn->http != NULL) {
        bytes = thread->http_input;
        room = sizeof thread->http_input;
    } else if (share > 0) {
        bytes = rpc_conn_buffer(conn->rpc, suggested, &room);
    }
    *buf = uv_buf_init(bytes, bytes == NULL ? 0 : (unsigned)(room < share ? room : share));
}

/* Nothing could be read for want of room: in this turn, or in memory. */
static void on_no_room(struct conn *conn)
{
    if (share_of(conn) > 0) {
        conn_close(conn, LOG_WARNING, "no memory for its input");
    } else {
        io_thread_want_run(conn->thread);
    }
}

static void stop_reading(struct conn *conn)
{
    if (conn->is_reading) {
        uv_read_stop(&conn->handle.stream);
        conn->is_reading = false;
    }
}

/* The connection turns out to speak HTTP. */
static void begin_http(struct conn *conn, const char *bytes, size_t n)
{
    log_write(&conn->thread->server->log, LOG_DEBUG, "client %llu speaks HTTP", (unsigned long long)conn->client);
    conn->http = http_create(conn, bytes, n);
    if (conn->http == NULL) {
        conn_close(conn, LOG_WARNING, "no memory for HTTP");
        return;
    }
    conn_flush(conn);
}

static void on_bytes(struct conn *conn, const char *bytes, size_t n)
{
    struct io_thread *thread = conn->thread;
    if (conn->rpc == NULL) {
        return;
    }
    thread->bytes_in += n;
    step_note_input(thread, conn);
    thread->read_budget -= n < thread->read_budget ? n : thread->read_budget;
    conn->read_turn = thread->turn;
    conn->active_ms = uv_now(&thread->loop);
    conn->has_spoken = true;
    if (conn->http != NULL) {
        http_received(conn->http, bytes, n);
        conn_flush(conn);
        return;
    }
    if (first_line_is_http(&conn->first_line, bytes, n)) {
        begin_http(conn, bytes, n);
        return;
    }
    rpc_conn_received(conn->rpc, n);
    io_thread_want_run(thread);
}

/* The client has closed its side; what it sent before is still answered. */
static void on_end(struct conn *conn)
{
    stop_reading(conn);
    conn->is_ended = true;
    if (conn->rpc == NULL) {
        conn_close(conn, LOG_DEBUG, "it was given time to read the last answer");
        return;
    }
    if (conn->http != NULL) {
        http_received_end(conn->http);
        conn_flush(conn);
        return;
    }
    rpc_conn_received_eof(conn->rpc);
    io_thread_want_run(conn->thread);
}

/* The end of a TLS connection without the word for it: somebody on the way may have cut it short, so a line that is not
 * finished is none. */
static void on_cut(struct conn *conn)
{
    if (conn->rpc != NULL && conn->http == NULL) {
        rpc_conn_drop_unfinished(conn->rpc);
    }
    on_end(conn);
}

/* Reads what has been decrypted into the place for it, as much as there is. */
static int decrypt(struct conn *conn, char **bytes, size_t *n)
{
    struct io_thread *thread = conn->thread;
    size_t room = sizeof thread->http_input;
    int got = TLS_MORE;
    *n = 0;
    *bytes = conn->http != NULL ? thread->http_input : rpc_conn_buffer(conn->rpc, sizeof thread->tls_input, &room);
    while (*bytes != NULL && *n < room && (got = tls_read(conn->tls, *bytes + *n, room - *n)) > 0) {
        *n += (size_t)got;
    }
    return got;
}

/* Bytes of the wire have come. */
static void on_wire_bytes(struct conn *conn, const char *bytes, size_t len)
{
    char *plain;
    size_t n;
    int got;
    tls_feed(conn->tls, bytes, len);
    do {
        got = decrypt(conn, &plain, &n);
        if (plain == NULL) {
            conn_close(conn, LOG_WARNING, "no memory for its input");
            return;
        }
        if (n > 0) {
            on_bytes(conn, plain, n);
        }
        if (conn->tls == NULL || conn->rpc == NULL) {
            return; /* it was closed, or lingers */
        }
    } while (got > 0);
    if (got == TLS_ENDED) {
        on_end(conn);
    } else if (send_output(conn) && got == TLS_BROKEN) {
        conn_close(conn, LOG_INFO, tls_why(conn->tls));
    }
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    struct conn *conn = stream->data;
    if (n > 0 && conn->tls != NULL && conn->rpc != NULL) {
        on_wire_bytes(conn, buf->base, (size_t)n);
    } else if (n > 0) {
        on_bytes(conn, buf->base, (size_t)n);
    } else if (n == UV_EOF && conn->tls != NULL) {
        on_cut(conn);
    } else if (n == UV_EOF) {
        on_end(conn);
    } else if (n == UV_ENOBUFS) {
        on_no_room(conn);
    } else if (n < 0) {
        conn_close(conn, LOG_DEBUG, uv_strerror((int)n));
    }
    note_unfinished(conn);
}

static bool start_reading(struct conn *conn)
{
    if (!conn->is_reading) {
        int status = uv_read_start(&conn->handle.stream, on_room_wanted, on_read);
        if (status < 0) {
            conn_close(conn, LOG_WARNING, uv_strerror(status));
            return false;
        }
        conn->is_reading = true;
    }
    return true;
}

/* ---- after a run ---- */

/* Whether nothing more will come of it: no input, no request that waits, no reply unsent. */
static bool is_done(const struct conn *conn, size_t unsent)
{
    bool answered = conn->is_draining ? !rpc_conn_is_waiting(conn->rpc) : rpc_conn_is_finished(conn->rpc);
    return answered && unsent == 0 && !rpc_conn_is_kept_back(conn->rpc);
}

/* Whether so many bytes of replies are more than max-output allows to be unread. */
static bool is_above_limit(const struct conn *conn, size_t unread)
{
    uint64_t max = atomic_load_explicit(&conn->thread->server->max_output, memory_order_relaxed);
    return max != 0 && unread > max;
}

bool conn_has_much_unread(const struct conn *conn, size_t unsent, size_t unread)
{
    return unsent > rpc_service_output_high(conn->thread->server->service) / 2 || is_above_limit(conn, 2 * unread);
}

/* Our side is closed, and the client is given the time to read what was sent: to close with unread bytes would reset
 * the connection under that. */
static void linger(struct conn *conn, const char *why)
{
    conn->is_ended = true;
    conn->active_ms = uv_now(&conn->thread->loop);
    end_session(conn, why);
    say_farewell(conn);
    shutdown(file_of(conn), SHUT_WR);
    io_thread_look_soon(conn->thread);
    start_reading(conn);
}

/* Sends answers for as long as they come and are taken; but not for ever: the rest is left with libuv, which calls
 * back when the loop has turned.  *unsent is what remains.  false: the connection is closed. */
static bool send_answers(struct conn *conn, size_t *unsent)
{
    bool goes_on = true;
    for (unsigned round = 0; goes_on; round++) {
        http_turn(conn->http);
        if (http_must_close(conn->http)) {
            conn_close(conn, LOG_WARNING, "no memory for HTTP");
            return false;
        }
        http_output(conn->http, unsent);
        bool is_last = round == ANSWER_ROUNDS && *unsent > 0 && !conn->is_writing;
        if (!(is_last ? send_later(conn) : send_output(conn))) {
            return false;
        }
        http_output(conn->http, unsent);
        goes_on = *unsent == 0 && http_has_more(conn->http) && round < ANSWER_ROUNDS;
    }
    return true;
}

/* conn_flush() of one that speaks HTTP. */
static void flush_http(struct conn *conn)
{
    size_t unsent;
    bool has_ended = conn->is_ended;
    if (!send_answers(conn, &unsent)) {
        return;
    }
    if (http_is_over(conn->http) && unsent + encrypted(conn) == 0) {
        has_ended ? conn_close(conn, LOG_DEBUG, "end of input") : linger(conn, "its last request was answered");
        return;
    }
    rpc_conn_resume(conn->rpc);
    if (rpc_conn_wants_run(conn->rpc)) {
        io_thread_want_run(conn->thread);
    }
    if (http_wants_input(conn->http)) {
        start_reading(conn);
    } else {
        stop_reading(conn);
    }
}

/* conn_flush() of one that speaks lines. */
static void flush_lines(struct conn *conn)
{
    size_t unsent;
    if (!send_output(conn)) {
        return;
    }
    rpc_conn_output(conn->rpc, &unsent);
    unsent += encrypted(conn);
    if (is_done(conn, unsent)) {
        if (!say_farewell(conn)) {
            return; /* it has not gone out, or the connection is closed */
        }
        peer_discard_input(file_of(conn));
        conn_close(conn, LOG_DEBUG, conn->is_draining ? "the daemon stops" : "end of input");
        return;
    }
    bool is_waiting = rpc_conn_is_waiting(conn->rpc);
    if (is_waiting && conn_has_much_unread(conn, unsent, rpc_conn_unread(conn->rpc))) {
        rpc_conn_rest(conn->rpc);
        io_thread_rest(conn->thread, conn);
    } else if (is_waiting) {
        rpc_conn_resume(conn->rpc);
    } else if (is_above_limit(conn, rpc_conn_unread(conn->rpc))) {
        io_thread_look_soon(conn->thread);
    }
    if (rpc_conn_wants_run(conn->rpc)) {
        io_thread_want_run(conn->thread);
    }
    if (conn->is_ended || is_waiting || unsent > rpc_service_output_high(conn->thread->server->service)) {
        stop_reading(conn);
    } else {
        start_reading(conn);
    }
}

void conn_flush(struct conn *conn)
{
    const char *why = rpc_conn_must_close(conn->rpc);
    if (why != NULL) {
        conn_close(conn, LOG_WARNING, why);
    } else if (conn->http != NULL) {
        flush_http(conn);
    } else {
        flush_lines(conn);
    }
    note_unfinished(conn);
}

void conn_drain(struct conn *conn)
{
    conn->is_draining = true;
    if (conn->rpc == NULL) {
        conn_close(conn, LOG_DEBUG, "the daemon stops");
        return;
    }
    if (conn->http != NULL) {
        http_drain(conn->http);
    }
    conn->is_ended = true;
    conn_flush(conn);
}

/* ---- silence ---- */

/* A client with more unread replies than it may have, which has read none for a while. */
static bool is_stuck(const struct conn *conn, uint64_t silent_ms)
{
    return silent_ms >= STUCK_MS && is_above_limit(conn, rpc_conn_unread(conn->rpc));
}

void conn_close_unfinished(struct conn *conn)
{
    rpc_service_count_limit(conn->thread->server->service, "max-request");
    conn_close(conn, LOG_WARNING, "unfinished lines of all connections together are too long");
}

/* Whether the peer of a TCP connection does not even acknowledge what was sent to it. */
static bool is_peer_gone(struct conn *conn, uint64_t silent_ms)
{
    if (!conn->is_tcp || !conn->has_sent || silent_ms < UNHEARD_MS) {
        return false;
    }
    conn->has_sent = peer_owes_acknowledgement(file_of(conn));
    return conn->has_sent && peer_is_gone(file_of(conn));
}

/* The same of one that speaks HTTP. */
static void check_http(struct conn *conn, uint64_t now, uint64_t idle_ms)
{
    uint64_t silent_ms = now - conn->active_ms;
    bool is_kept = rpc_conn_is_kept(conn->rpc) || http_is_kept(conn->http);
    if (idle_ms != 0 && silent_ms >= idle_ms && !is_kept) {
        rpc_service_count_limit(conn->thread->server->service, "idle-timeout");
        conn_close(conn, LOG_INFO, "silent for idle-timeout, and it holds nothing");
    } else if (is_peer_gone(conn, silent_ms)) {
        conn_close(conn, LOG_INFO, "its peer is gone without a word");
    } else {
        http_check_time(conn->http, now, silent_ms);
        conn_flush(conn);
    }
}

void conn_check_silence(struct conn *conn, uint64_t now)
{
    struct server *server = conn->thread->server;
    uint64_t first_byte_ms = 1000 * atomic_load_explicit(&server->first_byte_timeout_s, memory_order_relaxed);
    uint64_t idle_ms = 1000 * atomic_load_explicit(&server->idle_timeout_s, memory_order_relaxed);
    uint64_t silent_ms = now - conn->active_ms;
    if (conn->rpc == NULL) {
        if (silent_ms >= LINGER_MS) {
            conn_close(conn, LOG_DEBUG, "it was given time to read the last answer");
        }
    } else if (conn->tls != NULL && !tls_is_ready(conn->tls) && now - conn->opened_ms >= TLS_HANDSHAKE_MS) {
        rpc_service_count_limit(server->service, "tls-handshake");
        conn_close(conn, LOG_INFO, "no TLS handshake within 10 seconds");
    } else if (conn->http != NULL) {
        check_http(conn, now, idle_ms);
    } else if (!conn->has_spoken && first_byte_ms != 0 && now - conn->opened_ms >= first_byte_ms) {
        rpc_service_count_limit(server->service, "first-byte-timeout");
        conn_close(conn, LOG_INFO, "no byte within first-byte-timeout");
    } else if (idle_ms != 0 && silent_ms >= idle_ms && !rpc_conn_is_kept(conn->rpc)) {
        rpc_service_count_limit(conn->thread->server->service, "idle-timeout");
        conn_close(conn, LOG_INFO, "silent for idle-timeout, and it holds nothing");
    } else if (is_stuck(conn, silent_ms)) {
        rpc_service_count_limit(server->service, "max-output");
        conn_close(conn, LOG_WARNING, "more unread replies than max-output");
    } else if (is_peer_gone(conn, silent_ms)) {
        conn_close(conn, LOG_INFO, "its peer is gone without a word");
    }
}

/* ---- open ---- */

/* The handle around the socket.  A negative status of libuv: the socket is not taken. */
static int init_handle(struct conn *conn, int fd)
{
    uv_loop_t *loop = &conn->thread->loop;
    if (conn->is_tcp) {
        uv_tcp_init(loop, &conn->handle.tcp);
        return uv_tcp_open(&conn->handle.tcp, fd);
    }
    uv_pipe_init(loop, &conn->handle.pipe, 0);
    return uv_pipe_open(&conn->handle.pipe, fd);
}

/* Puts a connection on the loop, with all but its session.  false: its handle takes no socket, and both are
 * closed. */
static bool start(struct conn *conn, struct io_thread *thread, int fd, enum peer_kind kind)
{
    conn->thread = thread;
    conn->is_tcp = kind != PEER_UNIX;
    conn->opened_ms = conn->active_ms = uv_now(&thread->loop);
    int status = init_handle(conn, fd);
    conn->handle.any.data = conn;
    io_thread_add(thread, conn);
    if (status < 0) {
        close(fd);
        conn_close(conn, LOG_WARNING, uv_strerror(status));
        return false;
    }
    return start_reading(conn);
}

/* A connection with all that it needs but its place on the loop; NULL: no memory. */
static struct conn *create(struct io_thread *thread, int fd, enum peer_kind kind, uint64_t client)
{
    char name[PEER_NAME_BYTES];
    struct rpc_peer peer = {.transport = peer_word(kind),
                            .name = name,
                            .must_authenticate = kind != PEER_UNIX && server_wants_tokens(thread->server)};
    struct conn *conn = calloc(1, sizeof *conn);
    if (conn == NULL) {
        return NULL;
    }
    peer_name(fd, kind, name);
    conn->client = client;
    conn->tls = kind == PEER_TLS ? tls_create(thread->server->tls) : NULL;
    bool has_tls = kind != PEER_TLS || conn->tls != NULL;
    conn->rpc = has_tls ? rpc_conn_create(thread->rpc, client, &peer, conn) : NULL;
    if (conn->rpc == NULL) {
        tls_destroy(conn->tls);
        free(conn);
        return NULL;
    }
    return conn;
}

void conn_open(struct io_thread *thread, int fd, enum peer_kind kind, uint64_t client)
{
    struct conn *conn = create(thread, fd, kind, client);
    if (conn == NULL) {
        log_write(&thread->server->log, LOG_WARNING, "no memory for a connection");
        close(fd);
        io_thread_forget(thread);
        return;
    }
    io_thread_want_run(thread);
    log_write(&thread->server->log, LOG_DEBUG, "client %llu connected over %s", (unsigned long long)client,
              peer_word(kind));
    start(conn, thread, fd, kind);
}

void conn_dismiss(struct io_thread *thread, int fd, enum peer_kind kind, const char *line)
{
    struct conn *conn = thread->dismissed < DISMISSED_MAX ? calloc(1, sizeof *conn) : NULL;
    if (kind != PEER_TLS) { /* a handshake is too much for somebody who is not wanted */
        (void)!send(fd, line, strlen(line), MSG_DONTWAIT | MSG_NOSIGNAL);
    }
    shutdown(fd, SHUT_WR);
    if (conn == NULL) {
        peer_discard_input(fd);
        close(fd);
        return;
    }
    conn->is_dismissed = true;
    conn->is_ended = true;
    thread->dismissed++;
    if (start(conn, thread, fd, kind)) {
        io_thread_look_soon(thread);
    }
}
