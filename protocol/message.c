/* message.c -- connections that bring whole messages instead of lines, each for a session it names: HTTP.
 *
 *   rpc_conn_message_add()   bytes, into the block that otherwise is of the unfinished line
 *   rpc_conn_message_end()   they are read as a line would be; the requests wait for a run
 *   message_begin()          the connection goes into the session that the message is for    GIL
 *   message_pause()          when nothing of the message is left to run, it leaves again     GIL
 *   rpc_conn_message_taken() the same, later, for a message whose end ran without the GIL
 *
 * What a session is to such a connection is in session.c, under visits.
 */
#include "method_handlers.h"
#include "rpc_internal.h"

#include <stdlib.h>

/* Room at first: most messages are short. */
#define BLOCK_MIN 512u

/* ---- bytes ---- */

void rpc_conn_take_messages(struct rpc_conn *conn, const char **begun, size_t *len)
{
    struct turn_block *block = conn->partial;
    conn->takes_messages = true;
    atomic_store_explicit(&conn->is_deaf, true, memory_order_relaxed);
    conn->frame = (struct frame){0};
    conn->partial = NULL;
    *begun = "";
    *len = 0;
    if (block != NULL) {
        turn_adopt(conn->thread->turn, block);
        *begun = block->bytes;
        *len = block->used;
    }
}

/* A block for the message's bytes; false: no memory. */
static bool has_block(struct rpc_conn *conn)
{
    if (conn->partial == NULL) {
        conn->partial = turn_block_create(BLOCK_MIN);
    }
    return conn->partial != NULL;
}

bool rpc_conn_message_add(struct rpc_conn *conn, const char *bytes, size_t n)
{
    if (!has_block(conn) || !conn_grow_partial(conn, n)) {
        return false;
    }
    memcpy(conn->partial->bytes + conn->partial->used, bytes, n);
    conn->partial->used += n;
    conn_note_activity(conn);
    return true;
}

/* A message may have newlines between its tokens, while journal and events have a change a line: a tab is as good
 * there, and as wrong within a string. */
static void straighten(char *text, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (text[i] == '\n' || text[i] == '\r') {
            text[i] = '\t';
        }
    }
}

/* Nothing is known of a message that begins. */
static void begin_anew(struct rpc_conn *conn, const char *session, size_t session_len)
{
    conn->last_error = RPC_OK;
    conn->is_lost = false;
    conn->wants_fence = true;
    conn->visit_token_len = 0;
    if (session != NULL) {
        /* One that is no token is as unknown as one that has run out. */
        bool may_be = session_len == RPC_TOKEN_BYTES - 1;
        conn->visit_token_len = RPC_TOKEN_BYTES - 1;
        memset(conn->visit_token, '?', sizeof(conn->visit_token));
        memcpy(conn->visit_token, session, may_be ? session_len : 0);
    }
    conn->wants_visit = session != NULL || conn->own != 0 || conn->is_unsettled;
}

void rpc_conn_message_end(struct rpc_conn *conn, const char *session, size_t session_len)
{
    struct turn_block *block = has_block(conn) ? conn->partial : NULL;
    if (block == NULL) {
        conn_must_close(conn, "no memory for its input");
        return;
    }
    begin_anew(conn, session, session_len);
    straighten(block->bytes, block->used);
    block->bytes[block->used] = '\n'; /* the scanner wants an end; the block has padding for it */
    turn_adopt(conn->thread->turn, block);
    conn->partial = NULL;
    struct frame_line line = {.text = block->bytes, .len = block->used, .number = ++conn->frame.lines};
    envelope_read_line(conn, &line);
    conn_note_activity(conn);
    conn_queue(conn);
}

/* ---- replies ---- */

bool rpc_conn_message_is_lost(const struct rpc_conn *conn)
{
    return conn->is_lost;
}

const char *rpc_conn_message_error(const struct rpc_conn *conn)
{
    return conn->last_error == RPC_OK ? NULL : rpc_error_word(conn->last_error);
}

void rpc_conn_message_taken(struct rpc_conn *conn)
{
    conn->wants_stream = false;
    if (conn->is_unsettled) {
        conn->wants_settling = true;
        conn_list_add_ready(conn->thread, conn);
    }
}

/* The session does not exist: nothing of the message runs. */
static void refuse(struct rpc_conn *conn)
{
    struct fault *fault = &conn->thread->fault;
    conn_drop_requests(conn);
    fault_set(fault, RPC_NOT_FOUND,
              "no session of that token: its lease has run out, or it never existed; open a new one");
    reply_error(&conn->out, false, NULL, 0, fault);
    out_char(&conn->out, '\n');
    rpc_count(&conn->thread->counters.errors[RPC_NOT_FOUND]);
    conn->last_error = RPC_NOT_FOUND;
    conn->is_lost = true;
    if (conn->out.failed) {
        conn_must_close(conn, "no memory for its replies");
    }
}

/* ---- in a run ---- */

void message_begin(struct rpc_conn *conn)
{
    if (conn->wants_visit && !session_visit(conn)) {
        refuse(conn);
    }
    conn->wants_visit = false;
    conn->is_unsettled = true;
}

void message_pause(struct rpc_conn *conn)
{
    if (conn->first == NULL && !conn->wants_stream) {
        session_settle(conn);
        conn->is_unsettled = false;
        conn->wants_settling = false;
    }
}

/* ---- streams ---- */

void rpc_conn_want_stream(struct rpc_conn *conn)
{
    conn->wants_stream = true;
}

void rpc_conn_begin_stream(struct rpc_conn *conn)
{
    atomic_store_explicit(&conn->is_deaf, false, memory_order_relaxed);
    conn->events_due = true;
    conn_list_add_ready(conn->thread, conn);
}

/* ---- exports ---- */

bool rpc_conn_ask_export(struct rpc_conn *conn, const char *format)
{
    int64_t number = 0;
    while (METHOD_EXPORT_FORMATS[number] != NULL && strcmp(METHOD_EXPORT_FORMATS[number], format) != 0) {
        number++;
    }
    if (METHOD_EXPORT_FORMATS[number] == NULL) {
        return false;
    }
    begin_anew(conn, NULL, 0);
    struct request *request = envelope_add(conn, &METHOD_EXPORT_TO_READ);
    if (request != NULL) {
        static const char given[] = "given";
        request->args[0] = (method_arg){.text = given, .integer = number};
        conn_queue(conn);
    }
    return true;
}

int rpc_conn_take_file(struct rpc_conn *conn)
{
    int file = conn->file;
    conn->file = -1;
    return file;
}

/* ---- errors ---- */

size_t rpc_error_line(char line[RPC_ERROR_LINE_BYTES], const char *word, const char *message, const char *limit,
                      uint64_t max)
{
    enum rpc_error error = RPC_INTERNAL_ERROR;
    for (int i = 1; i < RPC_ERROR_COUNT; i++) {
        if (strcmp(rpc_error_word((enum rpc_error)i), word) == 0) {
            error = (enum rpc_error)i;
        }
    }
    struct fault fault;
    struct out out;
    fault_set(&fault, error, "%s", message);
    if (limit != NULL) {
        fault_text(&fault, "limit", limit, strlen(limit));
    }
    if (max != 0) {
        fault_number(&fault, "max", (int64_t)max);
    }
    out_init(&out, RPC_ERROR_LINE_BYTES - 1);
    reply_error(&out, false, NULL, 0, &fault);
    out_char(&out, '\n');
    size_t len = out.failed ? 0 : out.len;
    if (len > 0) {
        memcpy(line, out.data, len);
    }
    line[len] = '\0';
    out_fini(&out);
    return len;
}
