/* http.c -- a connection that speaks HTTP: requests in, one at a time, answers out.
 *
 *                 head whole            body whole
 *      HEAD ----------------> BODY ---------------+----> WAITING ----> EVENTS
 *       ^  \------------ no body -----------------/|       |  \-------> FILE
 *       |                                          |       |              |
 *       +---- answered, and it may go on ----------+-------+--------------+
 *                                                  |
 *                          LAST <--- answered, and nothing more is read: it was asked so, or what follows cannot
 *                                    be told from the request that was refused
 *
 *   HEAD     bytes go through http_guard_look(), which knows where the head ends, to the parser; also between requests
 *   BODY     bytes go to the parser, what it takes for the body to the rpc
 *   HELD     a wrong token was shown: the answer waits, so that nobody can try many
 *   WAITING  the rpc has the message
 *   EVENTS   server-sent events; what comes in is thrown away
 *   FILE     an export is sent, a piece whenever there is room
 *   LAST     conn.c closes when the output is sent
 *
 * What comes behind a request waits in `in`, and no more is read, until that request has been answered.
 *
 * Start at consume() and http_turn().
 */
#include "http.h"

#include "buffer.h"
#include "conn.h"
#include "http_answer.h"
#include "http_request.h"
#include "io_thread.h"
#include "journal.h"
#include "server.h"

#include <llhttp/llhttp.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* From the first byte of a head to its last, and between two pieces of a body; first-byte-timeout when that is less. */
#define SLOW_MS 30000u
/* Who takes nothing of an answer for so long is given up. */
#define UNREAD_MS 60000u
/* An export is read from its file so much at a time. */
#define PIECE_BYTES 262144u
/* A stream on which nothing happens says so this often: proxies give up what is silent for half a minute or more. */
#define STREAM_SILENT_MS 15000u
/* Events are taken from the rpc, which knows what to do when too many wait, only below this. */
#define EVENTS_UNSENT_MAX 65536u
/* Chunked bodies may have so many bytes of framing for each of content, and some more. */
#define FRAMING_MAX 16u
/* Exports whose file is still there; each may be as large as the heap. */
#define EXPORTS_MAX 4u

enum http_state { STATE_HEAD, STATE_BODY, STATE_HELD, STATE_WAITING, STATE_EVENTS, STATE_FILE, STATE_LAST };

struct http {
    struct conn *conn;
    enum http_state state;
    struct http_place place;
    llhttp_t parser;
    struct http_guard guard;
    struct http_request *request; /* NULL: none has begun */
    enum http_problem problem;    /* of the request; HTTP_FINE: none so far */
    uint64_t began_ms;            /* loop time of its first byte */
    uint64_t head_bytes, body_bytes, body_fed; /* so far; fed: with the framing of chunks */
    bool is_head_whole, is_in_trailer, is_whole;
    bool is_draining; /* nothing follows the request under way */
    bool has_ended;   /* the client sends nothing more */
    struct buffer in, out;
    bool is_exporting; /* counted in server->exports */
    int file;          /* of an export; -1: none */
    uint64_t file_at, file_size;
};

static struct server *server_of(const struct http *http)
{
    return http->conn->thread->server;
}

static uint64_t max_request(const struct http *http)
{
    return atomic_load_explicit(&server_of(http)->max_request, memory_order_relaxed);
}

/* After `out` has changed. */
static void note_output(struct http *http)
{
    rpc_conn_note_taken(http->conn->rpc, buffer_left(&http->out), http->out.room);
}

/* Whether no more may be answered before some of that has been read. */
static bool has_much_unread(const struct http *http)
{
    size_t unread = buffer_left(&http->out);
    return conn_has_much_unread(http->conn, unread, unread);
}

/* ---- the parser ---- */

static int on_url(llhttp_t *parser, const char *bytes, size_t n)
{
    struct http *http = parser->data;
    http_request_add_target(http->request, bytes, n);
    return 0;
}

static int on_header_field(llhttp_t *parser, const char *bytes, size_t n)
{
    struct http *http = parser->data;
    /* What comes behind a body is nothing to us. */
    if (!http->is_head_whole) {
        http_request_add_name(http->request, bytes, n);
    }
    return 0;
}

static int on_header_value(llhttp_t *parser, const char *bytes, size_t n)
{
    struct http *http = parser->data;
    if (!http->is_head_whole) {
        http_request_add_value(http->request, bytes, n);
    }
    return 0;
}

static int on_header_value_complete(llhttp_t *parser)
{
    struct http *http = parser->data;
    if (!http->is_head_whole) {
        http_request_end_header(http->request);
    }
    return 0;
}

static int on_headers_complete(llhttp_t *parser)
{
    struct http *http = parser->data;
    struct http_request *request = http->request;
    request->method = parser->method == HTTP_GET    ? HTTP_METHOD_GET
                      : parser->method == HTTP_HEAD ? HTTP_METHOD_HEAD
                      : parser->method == HTTP_POST ? HTTP_METHOD_POST
                                                    : HTTP_METHOD_OTHER;
    request->minor = parser->http_minor;
    request->is_other_version = parser->http_major != 1 || parser->http_minor > 1;
    request->keep_alive = llhttp_should_keep_alive(parser) != 0;
    http->is_head_whole = true;
    parser->upgrade = 0; /* a wish that is not granted; CONNECT is refused anyway */
    return 0;
}

static int on_body(llhttp_t *parser, const char *bytes, size_t n)
{
    struct http *http = parser->data;
    uint64_t max = max_request(http);
    http->body_bytes += n;
    if (max != 0 && http->body_bytes > max) {
        http->problem = HTTP_TOO_LARGE;
    } else if (http->request->method == HTTP_METHOD_POST && !rpc_conn_message_add(http->conn->rpc, bytes, n)) {
        http->problem = HTTP_NO_ROOM;
    }
    return http->problem == HTTP_FINE ? 0 : -1;
}

/* Behind the last chunk come lines, as in a head. */
static int on_chunk_header(llhttp_t *parser)
{
    struct http *http = parser->data;
    if (parser->content_length > 0) {
        return 0;
    }
    http->guard = HTTP_GUARD_TRAILER;
    http->is_in_trailer = true;
    return HPE_PAUSED;
}

static int on_message_complete(llhttp_t *parser)
{
    struct http *http = parser->data;
    http->is_whole = true;
    return HPE_PAUSED;
}

static const llhttp_settings_t settings = {
    .on_url = on_url,
    .on_header_field = on_header_field,
    .on_header_value = on_header_value,
    .on_header_value_complete = on_header_value_complete,
    .on_headers_complete = on_headers_complete,
    .on_body = on_body,
    .on_chunk_header = on_chunk_header,
    .on_message_complete = on_message_complete,
};

/* Gives bytes to the parser, which stops at the end of the request; returns how many it has taken.  What it finds
 * wrong becomes the request's problem. */
static size_t execute(struct http *http, const char *bytes, size_t n)
{
    llhttp_errno_t error = llhttp_execute(&http->parser, bytes, n);
    if (error == HPE_PAUSED) {
        llhttp_resume(&http->parser);
        return (size_t)(llhttp_get_error_pos(&http->parser) - bytes);
    }
    if (error != HPE_OK && http->problem == HTTP_FINE) {
        bool is_unknown_method = error == HPE_INVALID_METHOD;
        http->problem = is_unknown_method ? HTTP_WRONG_METHOD : HTTP_BAD_REQUEST;
    }
    return n;
}

/* ---- answers ---- */

static struct http_manner manner_of(const struct http *http)
{
    const struct http_request *request = http->request;
    return (struct http_manner){
        .is_head = request->method == HTTP_METHOD_HEAD,
        .close = !request->keep_alive || http->is_draining || http->has_ended ||
                 rpc_conn_is_finished(http->conn->rpc),
        .minor = request->minor,
    };
}

/* The request has been answered: the next one may come, unless this was the last. */
static void end_request(struct http *http, bool is_last)
{
    free(http->request);
    http->request = NULL;
    http->state = is_last ? STATE_LAST : STATE_HEAD;
}

static void answer_text(struct http *http, const char *type, const char *body, size_t len)
{
    struct http_manner manner = manner_of(http);
    http_answer(&http->out, manner, 200, type, "", body, len);
    end_request(http, manner.close);
}

/* Refuses the request.  What follows is only read when it is known where that begins. */
static void answer_problem(struct http *http, enum http_problem problem)
{
    struct http_manner manner = manner_of(http);
    uint64_t max = problem == HTTP_TOO_LARGE        ? max_request(http)
                   : problem == HTTP_HEAD_TOO_LARGE ? HTTP_HEAD_BYTES_MAX
                   : problem == HTTP_BUSY           ? EXPORTS_MAX
                                                    : 0;
    const char *limit = http_problem_limit(problem);
    if (limit != NULL) {
        rpc_service_count_limit(server_of(http)->service, limit);
    }
    bool is_misread = http_problem_status(problem) == 400 && problem != HTTP_BAD_QUERY;
    bool has_failed = problem == HTTP_UNAUTHENTICATED && rpc_conn_has_failed_auth(http->conn->rpc);
    manner.close |= !http->is_whole || is_misread || has_failed || problem == HTTP_HEAD_TOO_LARGE;
    http_answer_problem(&http->out, manner, problem, http_request_allow(http->request), max);
    end_request(http, manner.close);
}

static void answer_metrics(struct http *http)
{
    size_t len;
    char *text = rpc_service_metrics(server_of(http)->service, &len);
    if (text == NULL) {
        answer_problem(http, HTTP_NO_ROOM);
        return;
    }
    answer_text(http, "text/plain; version=0.0.4; charset=utf-8", text, len);
    free(text);
}

/* ---- requests that the rpc answers ---- */

static void wait_for_rpc(struct http *http)
{
    http->state = STATE_WAITING;
    io_thread_want_run(http->conn->thread);
}

static void send_message(struct http *http)
{
    const struct http_request *request = http->request;
    rpc_conn_message_end(http->conn->rpc, request->has_session ? request->session : NULL, strlen(request->session));
    wait_for_rpc(http);
}

/* Whether the text is words with commas between them, so that it may stand in a request. */
static bool is_list_of_words(const char *text)
{
    return strspn(text, "abcdefghijklmnopqrstuvwxyz_,") == strlen(text);
}

/* The `subscribe` that /events?events=A,B stands for. */
static void ask_for_events(struct http *http)
{
    const struct http_request *request = http->request;
    struct rpc_conn *rpc = http->conn->rpc;
    struct buffer text = {0};
    char words[HTTP_TARGET_BYTES];
    bool is_given, ok = http_query_value(words, sizeof words, request->query, "events", &is_given);
    ok = ok ? is_list_of_words(words) : !is_given && request->has_session;
    if (!ok) {
        answer_problem(http, HTTP_BAD_QUERY);
        return;
    }
    const char *before = "";
    buffer_text(&text, "{\"id\":0,\"method\":\"subscribe\",\"params\":{\"events\":[");
    for (const char *p = is_given ? words : ""; *p != '\0'; p += strspn(p, ",")) {
        size_t len = strcspn(p, ",");
        if (len > 0) {
            buffer_printf(&text, "%s\"%.*s\"", before, (int)len, p);
            before = ",";
        }
        p += len;
    }
    buffer_text(&text, "]}}");
    ok = !text.is_failed && rpc_conn_message_add(rpc, text.data, text.len);
    buffer_fini(&text);
    if (!ok) {
        answer_problem(http, HTTP_NO_ROOM);
        return;
    }
    rpc_conn_want_stream(rpc);
    send_message(http);
}

static void ask_for_export(struct http *http, const char *format)
{
    struct server *server = server_of(http);
    if (atomic_fetch_add(&server->exports, 1) >= EXPORTS_MAX) {
        atomic_fetch_sub(&server->exports, 1);
        answer_problem(http, HTTP_BUSY);
        return;
    }
    http->is_exporting = true;
    rpc_conn_ask_export(http->conn->rpc, format);
    wait_for_rpc(http);
}

static void end_export(struct http *http)
{
    if (http->file >= 0) {
        close(http->file);
        http->file = -1;
    }
    if (http->is_exporting) {
        atomic_fetch_sub(&server_of(http)->exports, 1);
        http->is_exporting = false;
    }
}

/* ---- dispatch ---- */

/* The head of an answer, without the work for its body. */
static void answer_head_only(struct http *http, const char *type)
{
    http_answer_stream_head(&http->out, type);
    end_request(http, true);
}

static void get(struct http *http)
{
    bool is_head = http->request->method == HTTP_METHOD_HEAD;
    switch (http->request->route) {
    case HTTP_ROUTE_ROOT: {
        struct http_manner manner = manner_of(http);
        http_answer_page(&http->out, manner);
        end_request(http, manner.close);
        break;
    }
    case HTTP_ROUTE_METRICS:
        answer_metrics(http);
        break;
    case HTTP_ROUTE_HEALTHZ:
    case HTTP_ROUTE_READYZ:
        answer_text(http, "text/plain; charset=utf-8", "ok\n", 3);
        break;
    case HTTP_ROUTE_EVENTS:
        is_head ? answer_head_only(http, "text/event-stream") : ask_for_events(http);
        break;
    case HTTP_ROUTE_HEAPSNAPSHOT:
        is_head ? answer_head_only(http, "application/json") : ask_for_export(http, "heapsnapshot");
        break;
    case HTTP_ROUTE_DOT:
        is_head ? answer_head_only(http, "text/vnd.graphviz") : ask_for_export(http, "dot");
        break;
    case HTTP_ROUTE_NONE:
        answer_problem(http, HTTP_NO_SUCH_PATH);
        break;
    }
}

/* The request is whole. */
static void handle(struct http *http)
{
    if (http->request->method == HTTP_METHOD_POST) {
        send_message(http);
    } else {
        get(http);
    }
}

/* Whether the one who asks may do so at all: the one place where tokens are looked at.  What a role may do with the
 * methods of the table is the rpc's affair; all else here only reads. */
static enum http_problem check_access(struct http *http)
{
    const char *token = *http->request->bearer != '\0' ? http->request->bearer : NULL;
    struct rpc_conn *rpc = http->conn->rpc;
    bool is_right = rpc_conn_auth(rpc, token, token == NULL ? 0 : strlen(token));
    return is_right && rpc_conn_role(rpc) >= RPC_ROLE_READ ? HTTP_FINE : HTTP_UNAUTHENTICATED;
}

/* Whether the daemon is there for such a request.  What the rpc is asked it answers itself, also while it loads. */
static enum http_problem check_readiness(const struct http *http)
{
    const struct journal_thread *journal = server_of(http)->journal;
    enum http_route route = http->request->route;
    bool is_own = http->request->method != HTTP_METHOD_POST;
    bool is_loading = journal != NULL && journal_state(journal) != JOURNAL_RUNNING;
    bool is_away = http->is_draining || (is_loading && is_own);
    return is_away && route != HTTP_ROUTE_HEALTHZ ? HTTP_STOPPING : HTTP_FINE;
}

/* The head is whole: what is wrong with the request, as far as that tells. */
static enum http_problem check(struct http *http)
{
    struct http_request *request = http->request;
    enum http_problem problem = http_request_check_syntax(request);
    bool is_open = request->route == HTTP_ROUTE_HEALTHZ || request->route == HTTP_ROUTE_READYZ;
    if (problem == HTTP_FINE) {
        problem = http_request_check_origin(request, &http->place);
    }
    if (problem == HTTP_FINE && !is_open) {
        problem = check_access(http);
    }
    if (problem == HTTP_FINE) {
        problem = http_request_check_route(request, max_request(http));
    }
    return problem == HTTP_FINE ? check_readiness(http) : problem;
}

/* ---- bytes in ---- */

/* A request begins.  false: no memory. */
static bool begin_request(struct http *http)
{
    if (http->request != NULL) {
        return true;
    }
    http->request = calloc(1, sizeof *http->request);
    http->guard = (struct http_guard){0};
    http->problem = HTTP_FINE;
    http->head_bytes = http->body_bytes = http->body_fed = 0;
    http->is_head_whole = http->is_in_trailer = http->is_whole = false;
    http->began_ms = uv_now(&http->conn->thread->loop);
    llhttp_init(&http->parser, HTTP_REQUEST, &settings);
    http->parser.data = http;
    return http->request != NULL;
}

/* The head has ended: its request is refused, answered, or its body comes. */
static void end_head(struct http *http)
{
    if (http->problem == HTTP_FINE) {
        http->problem = http->is_head_whole ? check(http) : HTTP_BAD_REQUEST;
    }
    if (http->problem == HTTP_UNAUTHENTICATED && rpc_conn_is_held(http->conn->rpc)) {
        http->state = STATE_HELD;
        io_thread_want_run(http->conn->thread); /* which sees to it that it is held no longer than it must */
    } else if (http->problem != HTTP_FINE) {
        answer_problem(http, http->problem);
    } else if (http->is_whole) {
        handle(http);
    } else {
        http->state = STATE_BODY;
    }
}

static size_t consume_head(struct http *http, const char *bytes, size_t n)
{
    size_t used;
    if (!begin_request(http)) {
        http->out.is_failed = true;
        return n;
    }
    size_t room = HTTP_HEAD_BYTES_MAX - http->head_bytes;
    enum http_guard_state state = http_guard_look(&http->guard, bytes, n < room ? n : room, &used);
    http->head_bytes += used;
    /* What is wrong first is told, in whatever pieces it comes. */
    execute(http, bytes, state == HTTP_GUARD_BAD ? used - 1 : used);
    if (http->problem == HTTP_FINE && state == HTTP_GUARD_BAD) {
        http->problem = HTTP_BAD_REQUEST;
    } else if (http->problem == HTTP_FINE && state == HTTP_GUARD_MORE && http->head_bytes == HTTP_HEAD_BYTES_MAX) {
        http->problem = HTTP_HEAD_TOO_LARGE;
    }
    if (state == HTTP_GUARD_END || http->problem != HTTP_FINE) {
        end_head(http);
    }
    return used;
}

static size_t consume_body(struct http *http, const char *bytes, size_t n)
{
    bool is_bad = false;
    if (http->is_in_trailer) {
        is_bad = http_guard_look(&http->guard, bytes, n, &n) == HTTP_GUARD_BAD;
    }
    size_t used = is_bad ? n : execute(http, bytes, n);
    http->body_fed += used;
    if (is_bad && http->problem == HTTP_FINE) {
        http->problem = HTTP_BAD_REQUEST;
    }
    if (http->problem == HTTP_FINE &&
        http->body_fed > HTTP_HEAD_BYTES_MAX + http->body_bytes + FRAMING_MAX * http->body_bytes) {
        http->problem = HTTP_BAD_REQUEST;
    }
    if (http->problem != HTTP_FINE) {
        answer_problem(http, http->problem);
    } else if (http->is_whole) {
        handle(http);
    }
    return used;
}

/* Takes requests, as far as they can be answered; returns how many bytes are done with. */
static size_t consume(struct http *http, const char *bytes, size_t n)
{
    size_t done = 0;
    while (done < n && !has_much_unread(http)) {
        if (http->state == STATE_HEAD) {
            done += consume_head(http, bytes + done, n - done);
        } else if (http->state == STATE_BODY) {
            done += consume_body(http, bytes + done, n - done);
        } else {
            break;
        }
    }
    /* Who waits to be told to send a body is told so, unless it is there already. */
    if (http->state == STATE_BODY && http->request->expects_continue && http->request->minor > 0) {
        http->request->expects_continue = false;
        if (http->body_fed == 0) {
            buffer_text(&http->out, "HTTP/1.1 100 Continue\r\n\r\n");
        }
    }
    return http->state == STATE_EVENTS || http->state == STATE_LAST ? n : done;
}

void http_received(struct http *http, const char *bytes, size_t n)
{
    size_t done = buffer_left(&http->in) > 0 ? 0 : consume(http, bytes, n);
    buffer_bytes(&http->in, bytes + done, n - done);
}

/* Ends it if it waits for what will not come, or will not be answered. */
static void end_if_idle(struct http *http)
{
    bool awaits = (http->state == STATE_HEAD || http->state == STATE_BODY) && buffer_left(&http->in) == 0;
    bool is_between = http->state == STATE_HEAD && http->request == NULL;
    if (awaits && (http->has_ended || (http->is_draining && is_between))) {
        http->state = STATE_LAST;
    }
}

void http_received_end(struct http *http)
{
    http->has_ended = true;
    if (http->state == STATE_EVENTS) {
        http->state = STATE_LAST;
    }
    end_if_idle(http);
}

/* ---- what the rpc says ---- */

/* The problem that an error of a request of ours is. */
static enum http_problem problem_of(const char *word)
{
    return strcmp(word, "not_found") == 0         ? HTTP_NO_SUCH_SESSION
           : strcmp(word, "unauthenticated") == 0 ? HTTP_UNAUTHENTICATED
           : strcmp(word, "forbidden") == 0       ? HTTP_NOT_ALLOWED
           : strcmp(word, "invalid_params") == 0  ? HTTP_BAD_QUERY
           : strcmp(word, "unavailable") == 0     ? HTTP_STOPPING
                                                  : HTTP_NO_ROOM;
}

/* The reply to a message: as it is, but for one that could not be run. */
static void take_reply(struct http *http)
{
    size_t len;
    struct http_manner manner = manner_of(http);
    const char *reply = rpc_conn_output(http->conn->rpc, &len);
    unsigned status = rpc_conn_message_is_lost(http->conn->rpc) ? http_problem_status(HTTP_NO_SUCH_SESSION) : 200;
    if (len == 0) {
        http_answer_nothing(&http->out, manner);
    } else {
        http_answer(&http->out, manner, status, "application/json", "", reply, len);
    }
    end_request(http, manner.close);
}

/* The answer to a request for events: they follow. */
static void begin_events(struct http *http)
{
    http_answer_stream_head(&http->out, "text/event-stream");
    end_request(http, false);
    http->state = STATE_EVENTS;
    buffer_take(&http->in, buffer_left(&http->in));
}

/* The answer to a request for an export: its file follows. */
static void begin_file(struct http *http)
{
    struct stat stat_of;
    const struct http_request *request = http->request;
    bool is_dot = request->route == HTTP_ROUTE_DOT;
    http->file = rpc_conn_take_file(http->conn->rpc);
    if (http->file < 0 || fstat(http->file, &stat_of) != 0) {
        end_export(http);
        answer_problem(http, HTTP_NO_ROOM);
        return;
    }
    http->file_at = 0;
    http->file_size = (uint64_t)stat_of.st_size;
    http_answer_head(&http->out, manner_of(http), is_dot ? "text/vnd.graphviz" : "application/json",
                     is_dot ? "Content-Disposition: attachment; filename=\"heap.dot\"\r\n"
                            : "Content-Disposition: attachment; filename=\"heap.heapsnapshot\"\r\n",
                     http->file_size);
    http->state = STATE_FILE;
}

/* The rpc has answered what it was asked. */
static void take_answer(struct http *http)
{
    size_t len;
    struct rpc_conn *rpc = http->conn->rpc;
    const char *word = rpc_conn_message_error(rpc);
    bool is_stream = false;
    if (http->request->method == HTTP_METHOD_POST) {
        take_reply(http);
    } else if (word != NULL) {
        end_export(http);
        answer_problem(http, problem_of(word));
    } else if (http->request->route == HTTP_ROUTE_EVENTS) {
        begin_events(http);
        is_stream = true;
    } else {
        begin_file(http);
    }
    rpc_conn_output(rpc, &len);
    rpc_conn_sent(rpc, len);
    is_stream ? rpc_conn_begin_stream(rpc) : rpc_conn_message_taken(rpc);
}

/* Events are lines; the client gets the params of each. */
static void take_events(struct http *http)
{
    size_t len, done = 0;
    const char *lines = rpc_conn_output(http->conn->rpc, &len);
    while (done < len && buffer_left(&http->out) < EVENTS_UNSENT_MAX) {
        const char *line = lines + done, *newline = memchr(line, '\n', len - done);
        size_t line_len = (size_t)(newline + 1 - line), params_len;
        const char *params = rpc_event_params(line, line_len, &params_len);
        buffer_text(&http->out, "data: ");
        buffer_bytes(&http->out, params, params_len);
        buffer_text(&http->out, "\n\n");
        done += line_len;
    }
    if (done > 0) {
        rpc_conn_sent(http->conn->rpc, done);
    }
}

/* The next piece of an export.  One that cannot be read is cut off, which its length tells the client. */
static void read_piece(struct http *http)
{
    uint64_t left = http->file_size - http->file_at;
    size_t wish = left < PIECE_BYTES ? (size_t)left : PIECE_BYTES;
    if (wish > 0) {
        if (!buffer_reserve(&http->out, wish)) {
            return;
        }
        ssize_t n = pread(http->file, http->out.data + http->out.len, wish, (off_t)http->file_at);
        if (n <= 0) {
            end_export(http);
            end_request(http, true);
            return;
        }
        http->out.len += (size_t)n;
        http->file_at += (uint64_t)n;
    }
    if (http->file_at == http->file_size) {
        bool is_last = manner_of(http).close;
        end_export(http);
        end_request(http, is_last);
    }
}

void http_turn(struct http *http)
{
    bool goes_on = true;
    while (goes_on && !http->out.is_failed) {
        goes_on = false;
        if (http->state == STATE_WAITING && !rpc_conn_is_waiting(http->conn->rpc) &&
            !rpc_conn_is_kept_back(http->conn->rpc)) {
            take_answer(http);
            goes_on = true;
        } else if (http->state == STATE_HELD && !rpc_conn_is_held(http->conn->rpc)) {
            answer_problem(http, HTTP_UNAUTHENTICATED);
            goes_on = true;
        } else if (http->state == STATE_EVENTS) {
            take_events(http);
        } else if (http->state == STATE_FILE && buffer_left(&http->out) < PIECE_BYTES) {
            read_piece(http);
            goes_on = true;
        } else if (buffer_left(&http->in) > 0) {
            size_t done = consume(http, http->in.data + http->in.taken, buffer_left(&http->in));
            buffer_take(&http->in, done);
            goes_on = done > 0;
        }
    }
    end_if_idle(http);
    note_output(http);
}

/* ---- for conn.c ---- */

const char *http_output(const struct http *http, size_t *len)
{
    *len = buffer_left(&http->out);
    return *len == 0 ? "" : http->out.data + http->out.taken;
}

void http_sent(struct http *http, size_t n)
{
    buffer_take(&http->out, n);
    note_output(http);
}

bool http_wants_input(const struct http *http)
{
    bool reads = http->state == STATE_HEAD || http->state == STATE_BODY || http->state == STATE_EVENTS;
    return reads && !http->has_ended && buffer_left(&http->in) == 0 &&
           !has_much_unread(http);
}

bool http_has_more(const struct http *http)
{
    size_t events = 0;
    if (http->state == STATE_EVENTS) {
        rpc_conn_output(http->conn->rpc, &events);
    }
    bool reads = http->state == STATE_HEAD || http->state == STATE_BODY;
    return http->state == STATE_FILE || events > 0 || (reads && buffer_left(&http->in) > 0);
}

size_t http_unread_input(const struct http *http)
{
    return http->in.room;
}

bool http_is_over(const struct http *http)
{
    return http->state == STATE_LAST;
}

bool http_must_close(const struct http *http)
{
    return http->out.is_failed || http->in.is_failed;
}

bool http_is_kept(const struct http *http)
{
    return http->state == STATE_HELD || http->state == STATE_WAITING || http->state == STATE_EVENTS || http->state == STATE_FILE;
}

void http_drain(struct http *http)
{
    http->is_draining = true;
    if (http->state == STATE_EVENTS) {
        http->state = STATE_LAST;
    } else if (http->request != NULL && (http->state == STATE_HEAD || http->state == STATE_BODY)) {
        answer_problem(http, HTTP_STOPPING);
    }
}

void http_check_time(struct http *http, uint64_t now, uint64_t silent_ms)
{
    uint64_t first_byte_ms = 1000 * atomic_load_explicit(&server_of(http)->first_byte_timeout_s, memory_order_relaxed);
    uint64_t slow_ms = first_byte_ms == 0 || first_byte_ms > SLOW_MS ? SLOW_MS : first_byte_ms;
    bool is_slow = http->state == STATE_HEAD ? http->request != NULL && http->guard.has_line &&
                                                  now - http->began_ms >= slow_ms
                                            : http->state == STATE_BODY && silent_ms >= slow_ms;
    if (is_slow) {
        answer_problem(http, HTTP_SLOW);
    } else if (buffer_left(&http->out) > 0 && http->state != STATE_EVENTS && silent_ms >= UNREAD_MS) {
        rpc_service_count_limit(server_of(http)->service, "http-unread");
        buffer_take(&http->out, buffer_left(&http->out));
        end_export(http);
        http->state = STATE_LAST;
    } else if (http->state == STATE_EVENTS && buffer_left(&http->out) == 0 && silent_ms >= STREAM_SILENT_MS) {
        buffer_text(&http->out, ": nothing has happened\n\n");
    }
}

/* ---- life ---- */

struct http *http_create(struct conn *conn, const char *bytes, size_t n)
{
    uv_os_fd_t fd = -1;
    size_t len;
    const char *begun;
    struct http *http = calloc(1, sizeof *http);
    if (http == NULL) {
        return NULL;
    }
    http->conn = conn;
    http->file = -1;
    uv_fileno(&conn->handle.any, &fd);
    http_place_of(&http->place, fd, conn->is_tcp);
    http->place.is_tls = conn->tls != NULL;
    http->place.names = server_of(http)->config.allow_hosts;
    http->place.name_count = server_of(http)->config.allow_host_count;
    rpc_conn_take_messages(conn->rpc, &begun, &len);
    /* They lie in memory that the rpc goes on with: they are looked at when they have been copied. */
    buffer_bytes(&http->in, begun, len);
    buffer_bytes(&http->in, bytes, n);
    return http;
}

void http_destroy(struct http *http)
{
    if (http != NULL) {
        end_export(http);
        buffer_fini(&http->in);
        buffer_fini(&http->out);
        free(http->request);
        free(http);
    }
}
