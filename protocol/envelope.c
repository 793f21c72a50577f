/* envelope.c -- a line into requests: the JSON-RPC envelope, in one pass, without the GIL.
 *
 *   line -> read_element() once, or for each element of a batch -> requests at the end of the connection's
 *
 * The whole line is read before any of it counts: the requests are collected in a chain of their own, which
 * is thrown away when the line turns out to be no JSON text or nested too deeply.  Then one ready reply
 * takes its place.  What is wrong with one request (its envelope, method or params) makes a ready reply of
 * that request alone, with the id it had.
 *
 * `params` is bound on the way when the method is known by then, as it is when clients write the members in
 * the usual order; else its place is remembered and it is bound at the end.
 *
 * Start at envelope_read_line().
 */
#include "json_reader.h"
#include "method_handlers.h"
#include "rpc_internal.h"

#include <stdlib.h>

_Static_assert(TURN_PADDING > JSON_PADDING_BYTES, "the end of a line and the scanner's padding must fit");

/* The requests of a line so far. */
struct chain {
    struct request *first, *last;
    uint64_t count;
};

enum envelope_member { MEMBER_JSONRPC = 1, MEMBER_ID = 2, MEMBER_METHOD = 4, MEMBER_PARAMS = 8 };

/* Unknown members are ignored, but none may be given twice: their names are remembered, the first few here. */
#define UNKNOWN_MEMBERS_FIRST 16u

/* What is known of a request while its members are read. */
struct envelope {
    struct rpc_conn *conn;
    struct turn *turn;
    unsigned seen;               /* enum envelope_member */
    const char *wrong;           /* why it is no valid request; NULL: nothing so far */
    struct json_value id;        /* when seen and valid; else text is NULL */
    struct json_string name;     /* of the method; valid when it was seen */
    const struct method *method; /* NULL: not seen, or there is none of that name */
    struct request *request;     /* room for the method's arguments; NULL before they are bound */
    struct json_value params;    /* text NULL: not seen, or bound already */
    size_t unknown_count, unknown_room; /* of names of ignored members, unescaped */
    struct json_string *unknown;        /* first_unknown, or room in the turn */
    struct json_string first_unknown[UNKNOWN_MEMBERS_FIRST];
    bool params_faulty; /* binding failed: conn->thread->fault says why */
    bool no_memory;
};

/* ---- requests ---- */

static struct request *new_request(struct turn *turn, unsigned args)
{
    struct request *request = turn_alloc(turn, sizeof(*request) + args * sizeof(request->args[0]));
    if (request != NULL) {
        request->next = NULL;
        request->turn = turn;
        request->method = NULL;
        request->id = NULL;
        request->id_len = 0;
        request->bytes = 0;
        request->flags = 0;
        request->needs = RPC_ROLE_NONE;
        request->error = RPC_OK;
        request->reply = NULL;
        request->reply_len = 0;
    }
    return request;
}

/* Makes the request one that is answered with the fault. */
static bool set_reply(struct rpc_thread *thread, struct request *request, const struct fault *fault)
{
    request->method = NULL;
    request->error = fault->error;
    rpc_service_count_fault(thread->service, fault);
    if ((request->flags & REQUEST_NOTIFICATION) != 0) {
        return true;
    }
    struct out *out = &thread->scratch;
    out_truncate(out, 0);
    reply_error(out, (request->flags & REQUEST_SHORT) != 0, request->id, request->id_len, fault);
    char *reply = out->failed ? NULL : turn_alloc(request->turn, out->len);
    if (reply == NULL) {
        return false;
    }
    memcpy(reply, out->data, out->len);
    request->reply = reply;
    request->reply_len = out->len;
    return true;
}

static void append(struct chain *chain, struct request *request)
{
    if (chain->last == NULL) {
        chain->first = request;
    } else {
        chain->last->next = request;
    }
    chain->last = request;
    chain->count++;
}

/* Puts the chain behind the requests that wait. */
static void enqueue(struct rpc_conn *conn, const struct chain *chain)
{
    if (chain->first == NULL) {
        return;
    }
    chain->first->turn->users += (uint32_t)chain->count;
    if (conn->last == NULL) {
        conn->first = chain->first;
    } else {
        conn->last->next = chain->first;
    }
    conn->last = chain->last;
}

/* One reply, id null, that stands for the whole line. */
static void answer_line(struct rpc_conn *conn, struct chain *chain, const struct fault *fault)
{
    struct request *request = new_request(conn->thread->turn, 0);
    *chain = (struct chain){0};
    if (request == NULL || !set_reply(conn->thread, request, fault)) {
        conn_must_close(conn, "no memory for its requests");
        return;
    }
    append(chain, request);
}

/* ---- members ---- */

static void wrong(struct envelope *envelope, const char *why)
{
    if (envelope->wrong == NULL) {
        envelope->wrong = why;
    }
}

/* Longest method name that can be: longer ones need not be looked for.  Escaped, a character takes six. */
#define METHOD_NAME_MAX 64u

static const struct method *find_method(const struct rpc_service *service, const struct json_string *name)
{
    char plain[6 * METHOD_NAME_MAX];
    if (!name->has_escapes) {
        return method_find(&service->index, name->text, name->len);
    }
    if (name->len > sizeof(plain)) {
        return NULL;
    }
    return method_find(&service->index, plain, json_unescape(plain, name));
}

static const char GIVEN_TWICE[] = "a member of the request is given twice; give each once";

/* Whether the member may be taken: false when it came before. */
static bool first_time(struct envelope *envelope, enum envelope_member member)
{
    if ((envelope->seen & member) != 0) {
        wrong(envelope, GIVEN_TWICE);
        return false;
    }
    envelope->seen |= member;
    return true;
}

/* Remembers the name of an unknown member. */
static void add_unknown(struct envelope *envelope, struct json_string name)
{
    if (envelope->unknown_count == envelope->unknown_room) {
        struct json_string *larger = turn_alloc(envelope->turn, 2 * envelope->unknown_room * sizeof(*larger));
        if (larger == NULL) {
            envelope->no_memory = true;
            return;
        }
        memcpy(larger, envelope->unknown, envelope->unknown_count * sizeof(*larger));
        envelope->unknown = larger;
        envelope->unknown_room *= 2;
    }
    envelope->unknown[envelope->unknown_count++] = name;
}

static int compare_names(const void *a, const void *b)
{
    const struct json_string *x = a, *y = b;
    if (x->len != y->len) {
        return x->len < y->len ? -1 : 1;
    }
    return memcmp(x->text, y->text, x->len);
}

/* Whether two unknown members have one name. */
static bool has_twins(struct envelope *envelope)
{
    if (envelope->unknown_count > 1) {
        qsort(envelope->unknown, envelope->unknown_count, sizeof(*envelope->unknown), compare_names);
    }
    for (size_t i = 1; i < envelope->unknown_count; i++) {
        if (compare_names(&envelope->unknown[i - 1], &envelope->unknown[i]) == 0) {
            return true;
        }
    }
    return false;
}

/* An unknown member, whose value is skipped. */
static void read_unknown(struct envelope *envelope, struct json_string name, struct json_cursor *cursor)
{
    struct json_value ignored;
    if (name.has_escapes) {
        char *plain = turn_alloc(envelope->turn, name.len);
        if (plain == NULL) {
            envelope->no_memory = true;
            return;
        }
        name.len = json_unescape(plain, &name);
        name.text = plain;
    }
    add_unknown(envelope, name);
    json_scan_value(cursor, &ignored);
}

/* Binds what stands at the cursor to the method's parameters. */
static enum params_result bind_params(struct envelope *envelope, struct json_cursor *cursor)
{
    const struct method *method = envelope->method;
    envelope->request = new_request(envelope->turn, method->param_count);
    if (envelope->request == NULL) {
        envelope->no_memory = true;
        return PARAMS_NO_MEMORY;
    }
    enum params_result result =
        params_bind(cursor, method, envelope->request->args, envelope->turn, &envelope->conn->thread->fault);
    envelope->no_memory |= result == PARAMS_NO_MEMORY;
    envelope->params_faulty |= result == PARAMS_FAULT;
    return result;
}

static void read_params(struct envelope *envelope, struct json_cursor *cursor)
{
    struct json_value value;
    char c = json_peek(cursor);
    if (!first_time(envelope, MEMBER_PARAMS) || (c != '[' && c != '{')) {
        wrong(envelope, "params is neither an array nor an object; leave it out when there are none");
        json_scan_value(cursor, &value);
        return;
    }
    if (envelope->method == NULL) {
        json_scan_value(cursor, &envelope->params);
        return;
    }
    const char *start = cursor->at;
    unsigned depth = cursor->depth;
    if (bind_params(envelope, cursor) != PARAMS_OK) {
        cursor->at = start;
        cursor->depth = depth;
        cursor->first = false;
        cursor->error = (struct json_error){0};
        json_scan_value(cursor, &value);
    }
}

static void read_jsonrpc(struct envelope *envelope, struct json_cursor *cursor)
{
    struct json_value value;
    if (json_take_value(cursor, "\"2.0\"")) {
        first_time(envelope, MEMBER_JSONRPC);
        return;
    }
    if (!json_scan_value(cursor, &value) || !first_time(envelope, MEMBER_JSONRPC)) {
        return;
    }
    struct json_string text =
        value.kind == JSON_KIND_STRING ? json_string_of(&value) : (struct json_string){"", 0, false};
    if (!json_string_is(&text, "2.0")) {
        wrong(envelope, "jsonrpc is not \"2.0\"; write exactly that or leave it out");
    }
}

static void read_id(struct envelope *envelope, struct json_cursor *cursor)
{
    struct json_value *id = &envelope->id;
    if (!json_scan_value(cursor, id)) {
        return;
    }
    bool valid = id->kind == JSON_KIND_STRING || id->kind == JSON_KIND_INT || id->kind == JSON_KIND_FLOAT ||
                 id->kind == JSON_KIND_NULL;
    if (!first_time(envelope, MEMBER_ID)) {
        id->text = NULL;
    } else if (!valid) {
        id->text = NULL;
        wrong(envelope, "id is not a string, a number or null");
    }
}

static void read_method(struct envelope *envelope, struct json_cursor *cursor)
{
    struct json_value value;
    if (!json_scan_value(cursor, &value) || !first_time(envelope, MEMBER_METHOD)) {
        return;
    }
    if (value.kind != JSON_KIND_STRING) {
        wrong(envelope, "method is not a string; name a method, as \"ping\"");
        return;
    }
    envelope->name = json_string_of(&value);
    envelope->method = find_method(envelope->conn->thread->service, &envelope->name);
}

/* Whether the name means the constant; without a call for one that is written plainly. */
#define NAME_IS(name, constant)                                                                                \
    ((name)->has_escapes                                                                                       \
         ? json_string_is((name), constant)                                                                    \
         : (name)->len == sizeof(constant) - 1 && memcmp((name)->text, constant, sizeof(constant) - 1) == 0)

/* The members as most clients write them, as far as they stand so: names are compared with what is expected next.
 * read_members() goes on with whatever is left. */
static inline void read_expected_members(struct envelope *envelope, struct json_cursor *cursor)
{
    if (json_take_member(cursor, "jsonrpc")) {
        read_jsonrpc(envelope, cursor);
    }
    if (json_take_member(cursor, "id")) {
        read_id(envelope, cursor);
    }
    if (json_take_member(cursor, "method")) {
        read_method(envelope, cursor);
    }
    if (json_take_member(cursor, "params")) {
        read_params(envelope, cursor);
    }
}

static void read_members(struct envelope *envelope, struct json_cursor *cursor)
{
    struct json_string name;
    read_expected_members(envelope, cursor);
    while (!envelope->no_memory && json_next_member(cursor, &name)) {
        if (NAME_IS(&name, "id")) {
            read_id(envelope, cursor);
        } else if (NAME_IS(&name, "method")) {
            read_method(envelope, cursor);
        } else if (NAME_IS(&name, "params")) {
            read_params(envelope, cursor);
        } else if (NAME_IS(&name, "jsonrpc")) {
            read_jsonrpc(envelope, cursor);
        } else {
            read_unknown(envelope, name, cursor);
        }
    }
}

/* ---- a request ---- */

/* Sets the fault of a method that does not exist. */
static void method_not_found(struct envelope *envelope)
{
    struct rpc_thread *thread = envelope->conn->thread;
    struct json_string *name = &envelope->name;
    char *plain = turn_alloc(envelope->turn, name->len + 1);
    if (plain == NULL) {
        envelope->no_memory = true;
        return;
    }
    size_t len = json_unescape(plain, name);
    out_truncate(&thread->scratch, 0);
    method_nearest(&thread->scratch, plain, len);
    char *nearest = thread->scratch.failed ? NULL : turn_alloc(envelope->turn, thread->scratch.len);
    if (nearest == NULL) {
        envelope->no_memory = true;
        return;
    }
    memcpy(nearest, thread->scratch.data, thread->scratch.len);
    fault_set(&thread->fault, RPC_METHOD_NOT_FOUND, "no method %.*s; rpc.discover lists all there are",
              fault_clip(plain, len, METHOD_NAME_MAX), plain);
    fault_json(&thread->fault, "nearest", nearest, thread->scratch.len);
}

/* The fault that the request is answered with; false: there is none. */
static bool find_fault(struct envelope *envelope)
{
    struct fault *fault = &envelope->conn->thread->fault;
    if (envelope->wrong == NULL && (envelope->seen & MEMBER_METHOD) == 0) {
        envelope->wrong = "method is missing; name one, as \"ping\"";
    }
    if (envelope->wrong != NULL) {
        fault_set(fault, RPC_INVALID_REQUEST, "%s", envelope->wrong);
        return true;
    }
    if (envelope->method == NULL) {
        method_not_found(envelope);
        return true;
    }
    if (envelope->params.text != NULL) {
        struct json_cursor cursor;
        json_cursor_within(&cursor, &envelope->params);
        bind_params(envelope, &cursor);
    } else if (envelope->request == NULL) {
        envelope->request = new_request(envelope->turn, envelope->method->param_count);
        if (envelope->request == NULL) {
            envelope->no_memory = true;
        } else {
            enum params_result result = params_bind_none(envelope->method, envelope->request->args, fault);
            envelope->params_faulty = result != PARAMS_OK;
        }
    }
    return envelope->params_faulty;
}

/* What a connection must have for the request to run, or for what is wrong with it to be told. */
static uint16_t needs_of(const struct envelope *envelope)
{
    if (envelope->wrong != NULL) {
        return RPC_ROLE_NONE;
    }
    if (envelope->method == NULL) {
        return RPC_ROLE_READ; /* which methods there are is not for everybody */
    }
    bool is_token = envelope->method->handler == method_auth && !envelope->params_faulty;
    return is_token ? ACCESS_NEEDS_TOKEN : (uint16_t)envelope->method->role;
}

/* The request, or its ready reply, that the members make.  NULL: no memory. */
static struct request *finish_request(struct envelope *envelope)
{
    bool faulty = find_fault(envelope);
    struct request *request = envelope->request;
    if (request == NULL && !envelope->no_memory) {
        request = new_request(envelope->turn, 0);
    }
    if (request == NULL || envelope->no_memory) {
        return NULL;
    }
    request->method = envelope->method;
    request->needs = needs_of(envelope);
    request->id = envelope->id.text;
    request->id_len = envelope->id.text == NULL ? 0 : envelope->id.len;
    if (envelope->wrong == NULL) {
        /* Only what was read as a request can be a notification or have the short form. */
        request->flags |= (envelope->seen & MEMBER_ID) == 0 ? REQUEST_NOTIFICATION : 0;
        request->flags |= (envelope->seen & MEMBER_JSONRPC) == 0 ? REQUEST_SHORT : 0;
    }
    if (faulty && !set_reply(envelope->conn->thread, request, &envelope->conn->thread->fault)) {
        return NULL;
    }
    return request;
}

/* Reads the value at the cursor as a request.  NULL: no memory, or a syntax error, which the cursor has. */
static struct request *read_element(struct rpc_conn *conn, struct json_cursor *cursor)
{
    struct envelope envelope;
    const char *start = cursor->at;
    envelope.conn = conn;
    envelope.turn = conn->thread->turn;
    envelope.seen = 0;
    envelope.wrong = NULL;
    envelope.id.text = NULL;
    envelope.method = NULL;
    envelope.request = NULL;
    envelope.params.text = NULL;
    envelope.unknown_count = 0;
    envelope.unknown_room = UNKNOWN_MEMBERS_FIRST;
    envelope.unknown = envelope.first_unknown;
    envelope.params_faulty = false;
    envelope.no_memory = false;
    if (json_peek(cursor) == '{' && json_enter(cursor)) {
        read_members(&envelope, cursor);
        if (has_twins(&envelope)) {
            wrong(&envelope, GIVEN_TWICE);
        }
    } else {
        struct json_value ignored;
        json_scan_value(cursor, &ignored);
        envelope.wrong = "a request is an object with a method; this is something else";
    }
    if (json_failed(cursor)) {
        return NULL;
    }
    struct request *request = finish_request(&envelope);
    if (request == NULL) {
        conn_must_close(conn, "no memory for its requests");
    } else {
        request->bytes = (size_t)(cursor->at - start);
    }
    return request;
}

/* ---- a line ---- */

/* So many bytes of a batch are read at a time, then others are heard: a quarter of a millisecond, or a whole one where
 * the memory for its requests is new. */
#define SLICE_BYTES 262144u

/* A line that is a batch. */
struct batch {
    struct frame_line line;
    struct json_cursor cursor; /* behind the elements of the chain */
    struct chain chain;
    uint64_t max; /* elements that it may have; 0: any number */
};

/* More elements, of a slice.  Above the limit they are only read over, to know whether the line is well formed.  Whether
 * that was the last one, or there is an error. */
static bool read_elements(struct rpc_conn *conn, struct batch *batch)
{
    struct json_cursor *cursor = &batch->cursor;
    const char *until = cursor->at + SLICE_BYTES;
    while (cursor->at < until) {
        if (!json_next_item(cursor)) {
            return true;
        }
        if (batch->max != 0 && batch->chain.count >= batch->max) {
            struct json_value ignored;
            json_scan_value(cursor, &ignored);
            batch->chain.count++;
            continue;
        }
        struct request *request = read_element(conn, cursor);
        if (request == NULL) {
            return true;
        }
        request->flags |= REQUEST_IN_BATCH;
        append(&batch->chain, request);
    }
    return false;
}

/* Deepest nesting of a line; what is recursive in here relies on there being one. */
static unsigned depth_limit(const struct rpc_service *service)
{
    uint64_t max = RPC_LIMIT(service, max_depth);
    return max == 0 || max > RPC_DEPTH_MAX ? RPC_DEPTH_MAX : (unsigned)max;
}

/* The line is no JSON text, or nested too deeply. */
static void answer_unreadable(struct rpc_conn *conn, struct chain *chain, const struct json_cursor *cursor,
                              const struct frame_line *line)
{
    struct fault *fault = &conn->thread->fault;
    if (cursor->error.too_deep) {
        unsigned max = depth_limit(conn->thread->service);
        fault_set(fault, RPC_LIMIT_EXCEEDED,
                  "the line is nested deeper than %u; build large structures in steps or raise --max-depth",
                  max);
        fault_text(fault, "limit", "max-depth", strlen("max-depth"));
        fault_number(fault, "max", max);
    } else {
        fault_set(fault, RPC_PARSE_ERROR, "line %llu is no JSON text: %s at column %zu",
                  (unsigned long long)line->number, cursor->error.message, cursor->error.offset + 1);
        fault_number(fault, "line", (int64_t)line->number);
        fault_number(fault, "column", (int64_t)cursor->error.offset + 1);
    }
    answer_line(conn, chain, fault);
}

static void answer_long_batch(struct rpc_conn *conn, struct chain *chain, uint64_t count, uint64_t max)
{
    struct fault *fault = &conn->thread->fault;
    fault_set(fault, RPC_LIMIT_EXCEEDED,
              "the batch has %llu elements and may have %llu; send it in parts or raise --max-batch",
              (unsigned long long)count, (unsigned long long)max);
    fault_text(fault, "limit", "max-batch", strlen("max-batch"));
    fault_number(fault, "max", (int64_t)max);
    answer_line(conn, chain, fault);
}

/* The batch has been read: its chain becomes what is to run, or the reply that says why not. */
static void end_batch(struct rpc_conn *conn, struct batch *batch)
{
    struct chain *chain = &batch->chain;
    if (conn->must_close != NULL) {
        *chain = (struct chain){0};
    } else if (!json_finish(&batch->cursor)) {
        answer_unreadable(conn, chain, &batch->cursor, &batch->line);
    } else if (chain->count == 0) {
        fault_set(&conn->thread->fault, RPC_INVALID_REQUEST,
                  "the batch is empty; put at least one request into it");
        answer_line(conn, chain, &conn->thread->fault);
    } else if (batch->max != 0 && chain->count > batch->max) {
        answer_long_batch(conn, chain, chain->count, batch->max);
    } else {
        chain->first->flags |= REQUEST_BATCH_FIRST;
        chain->last->flags |= REQUEST_BATCH_LAST;
    }
}

/* What is left of the batch is read when it is its turn to run; until then one request stands for all of it. */
static void put_off(struct rpc_conn *conn, const struct batch *batch)
{
    struct request *request = new_request(conn->thread->turn, 0);
    struct batch *kept = request == NULL ? NULL : turn_alloc(conn->thread->turn, sizeof(*kept));
    if (kept == NULL) {
        conn_must_close(conn, "no memory for its requests");
        return;
    }
    *kept = *batch;
    request->flags = REQUEST_UNREAD;
    request->batch = kept;
    enqueue(conn, &(struct chain){request, request, 1});
}

void envelope_read_on(struct rpc_conn *conn)
{
    struct rpc_thread *thread = conn->thread;
    struct request *request = conn->first;
    struct batch *batch = request->batch;
    struct turn *turn = thread->turn;
    thread->turn = request->turn; /* all of a line lies in one */
    if (read_elements(conn, batch)) {
        end_batch(conn, batch);
        if (batch->chain.first != NULL) { /* else it must close */
            batch->chain.last->next = request->next;
            request->turn->users += (uint32_t)batch->chain.count - 1;
            conn->first = batch->chain.first;
            conn->last = request->next == NULL ? batch->chain.last : conn->last;
        }
    }
    thread->turn = turn;
}

/* A line that is a batch, the cursor at its bracket.  Messages, which may be for another session each, are read in one
 * go. */
static void read_batch_line(struct rpc_conn *conn, struct json_cursor *cursor, const struct frame_line *line)
{
    struct batch batch = {.line = *line, .max = RPC_LIMIT(conn->thread->service, max_batch)};
    bool is_read;
    json_enter(cursor);
    batch.cursor = *cursor;
    do {
        is_read = read_elements(conn, &batch);
    } while (!is_read && conn->takes_messages);
    if (!is_read) {
        put_off(conn, &batch);
        return;
    }
    end_batch(conn, &batch);
    enqueue(conn, &batch.chain);
}

void envelope_read_line(struct rpc_conn *conn, const struct frame_line *line)
{
    struct json_cursor cursor;
    struct chain chain;
    json_cursor_init(&cursor, line->text, line->len, depth_limit(conn->thread->service));
    if (json_peek(&cursor) == '[') {
        read_batch_line(conn, &cursor, line);
        return;
    }
    struct request *request = read_element(conn, &cursor);
    if (conn->must_close != NULL) {
        return;
    }
    if (!json_finish(&cursor)) {
        answer_unreadable(conn, &chain, &cursor, line);
    } else {
        chain = (struct chain){request, request, 1};
    }
    enqueue(conn, &chain);
}

struct request *envelope_add(struct rpc_conn *conn, const struct method *method)
{
    static const char no_id[TURN_PADDING] = "0"; /* what reads ids may read on */
    struct request *request = new_request(conn->thread->turn, method->param_count);
    if (request == NULL) {
        conn_must_close(conn, "no memory for its requests");
        return NULL;
    }
    request->method = method;
    request->needs = (uint16_t)method->role;
    request->id = no_id;
    request->id_len = 1;
    memset(request->args, 0, method->param_count * sizeof(request->args[0]));
    enqueue(conn, &(struct chain){request, request, 1});
    return request;
}

void envelope_too_long(struct rpc_conn *conn)
{
    struct fault *fault = &conn->thread->fault;
    struct chain chain;
    uint64_t max = RPC_LIMIT(conn->thread->service, max_request);
    fault_set(fault, RPC_LIMIT_EXCEEDED,
              "the line is longer than %llu bytes and was dropped; send less at once or raise --max-request",
              (unsigned long long)max);
    fault_text(fault, "limit", "max-request", strlen("max-request"));
    fault_number(fault, "max", (int64_t)max);
    answer_line(conn, &chain, fault);
    enqueue(conn, &chain);
}
