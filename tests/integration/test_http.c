/* test_http.c -- HTTP on the same port: JSON-RPC by POST, sessions, metrics, events, exports, and what is refused. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>

#include "../support/fixture.h"
#include "../support/process.h"
#include "../support/promtext.h"
#include "../support/web.h"

#define PING "{\"id\":1,\"method\":\"ping\"}"
#define PONG "{\"id\":1,\"result\":\"pong\"}\n"
_Static_assert(sizeof PING - 1 == 24, "Content-Length below is 24");

/* ---- helpers ---- */

static struct web *open_web(void **state)
{
    return web_open(((struct fixture *)*state)->daemon);
}

/* Posts, and demands status 200 and exactly that body. */
static void expect_post(struct web *web, const char *session, const char *json, const char *body)
{
    const struct web_answer *answer = web_post(web, session, json);
    assert_int_equal(answer->status, 200);
    assert_string_equal(answer->body, body);
    assert_true(web_has_header(answer, "Content-Type: application/json"));
}

/* Whether the body is a JSON-RPC error, id null, of that word. */
static void expect_error(const char *body, const char *word)
{
    const char *version, *found;
    json_t *j_body = json_loads(body, 0, NULL), *j_id;
    if (j_body == NULL) {
        fail_msg("no JSON: %s", body);
    }
    assert_int_equal(json_unpack(j_body, "{s:s, s:o, s:{s:i, s:s, s:{s:s}}}", "jsonrpc", &version, "id", &j_id, "error",
                                 "code", &(int){0}, "message", &(const char *){NULL}, "data", "error", &found),
                     0);
    assert_true(json_is_null(j_id));
    assert_string_equal(found, word);
    json_decref(j_body);
}

static void open_session(struct web *web, unsigned lease_ms, char token[33])
{
    char text[128];
    snprintf(text, sizeof text, "{\"id\":1,\"method\":\"session.open\",\"params\":[%u]}", lease_ms);
    const struct web_answer *answer = web_post(web, NULL, text);
    assert_int_equal(answer->status, 200);
    json_t *j_reply = json_loads(answer->body, 0, NULL);
    const char *found;
    assert_int_equal(json_unpack(j_reply, "{s:{s:s}}", "result", "session", &found), 0);
    assert_int_equal(strlen(found), 32);
    strcpy(token, found);
    json_decref(j_reply);
}

/* The id in the result of a reply. */
static json_int_t object_of(const struct web_answer *answer)
{
    json_int_t id = 0;
    json_t *j_reply = json_loads(answer->body, 0, NULL);
    if (json_unpack(j_reply, "{s:{s:I}}", "result", "object", &id) != 0) {
        fail_msg("no object: %s", answer->body);
    }
    json_decref(j_reply);
    return id;
}

static const char *request_of(char text[256], const char *method, json_int_t object)
{
    snprintf(text, 256, "{\"id\":1,\"method\":\"%s\",\"params\":[%lld]}", method, (long long)object);
    return text;
}

/* Waits until a figure of `stats sessions` has that value; only a hang takes long. */
static void await_sessions(struct wire *wire, const char *member, int64_t value)
{
    int64_t deadline = process_now_ms() + PROCESS_PATIENCE_MS;
    while (wire_stat(wire, "sessions", member) != value) {
        if (process_now_ms() > deadline) {
            fail_msg("sessions.%s is %lld, not %lld", member, (long long)wire_stat(wire, "sessions", member),
                     (long long)value);
        }
        usleep(1000);
    }
}

/* ---- JSON-RPC by POST ---- */

static void test_http_post_answers(void **state)
{
    struct web *web = open_web(state);
    expect_post(web, NULL, PING, PONG);
    expect_post(web, NULL, "{\"jsonrpc\":\"2.0\",\"id\":\"x\",\"method\":\"ping\"}",
                "{\"jsonrpc\":\"2.0\",\"id\":\"x\",\"result\":\"pong\"}\n");
    expect_post(web, NULL, "[" PING ",{\"id\":2,\"method\":\"ping\"},{\"method\":\"ping\"}]",
                "[{\"id\":1,\"result\":\"pong\"},{\"id\":2,\"result\":\"pong\"}]\n");
    expect_post(web, NULL, "\n{\n  \"id\": 1,\r\n  \"method\":\t\"ping\"\n}\n\n", PONG);
    /* Errors are replies, too. */
    expect_post(web, NULL, "[]",
                "{\"jsonrpc\":\"2.0\",\"id\":null,\"error\":{\"code\":-32600,\"message\":\"the batch is empty; put at "
                "least one request into it\",\"data\":{\"error\":\"invalid_request\"}}}\n");
    const struct web_answer *answer = web_post(web, NULL, "{\"id\":1,\"method\":\"nope\"}");
    assert_int_equal(answer->status, 200);
    assert_non_null(strstr(answer->body, "method_not_found"));
    const char *const broken[] = {"", " \n ", "{", PING PING, PING "\n" PING, "\xef\xbb\xbf" PING, "\"\\ud800\""};
    for (size_t i = 0; i < sizeof broken / sizeof broken[0]; i++) {
        answer = web_post(web, NULL, broken[i]);
        assert_int_equal(answer->status, 200);
        expect_error(answer->body, "parse_error");
    }
    /* Nothing to say. */
    const char *const silent[] = {"{\"method\":\"ping\"}", "[{\"method\":\"ping\"}]", "{\"method\":\"nope\"}"};
    for (size_t i = 0; i < sizeof silent / sizeof silent[0]; i++) {
        answer = web_post(web, NULL, silent[i]);
        assert_int_equal(answer->status, 204);
        assert_int_equal(answer->len, 0);
        assert_null(strcasestr(answer->headers, "content-length"));
    }
    web_close(web);
}

/* A reply of some megabytes, a body of some, many requests on one connection. */
static void test_http_large_and_many(void **state)
{
    struct fixture *fixture = *state;
    struct web *web = open_web(state);
    size_t len = 3000000;
    char *text = malloc(len + 100);
    assert_non_null(text);
    int at = snprintf(text, 100, "{\"id\":1,\"method\":\"create\",\"params\":{\"name\":\"big\",\"value\":\"");
    memset(text + at, 'x', len);
    strcpy(text + (size_t)at + len, "\"}}");
    const struct web_answer *answer = web_post(web, NULL, text);
    assert_int_equal(answer->status, 200);
    assert_non_null(strstr(answer->body, "\"type\":\"str\""));
    answer = web_post(web, NULL, "{\"id\":1,\"method\":\"get\",\"params\":[\"big\"]}");
    assert_int_equal(answer->len, len + strlen("{\"id\":1,\"result\":\"\"}\n"));
    free(text);
    int64_t before = wire_stat(fixture->wire, "server", "connections_total");
    for (int i = 0; i < 200; i++) {
        expect_post(web, NULL, PING, PONG);
    }
    assert_int_equal(wire_stat(fixture->wire, "server", "connections_total"), before);
    web_close(web);
}

/* ---- bytes ---- */

#define HOST "Host: localhost\r\n"
#define POST "POST / HTTP/1.1\r\n" HOST "Content-Type: application/json\r\n"
#define POST_PING POST "Content-Length: 24\r\n\r\n" PING
#define CHUNKED POST "Transfer-Encoding: chunked\r\n\r\n"
#define HEALTH "GET /healthz HTTP/1.1\r\n" HOST "\r\n"

/* Requests that come in one go, or byte by byte, are answered in order. */
static void test_http_pipelined_and_in_pieces(void **state)
{
    struct fixture *fixture = *state;
    static const char requests[] = POST_PING HEALTH "\r\n" CHUNKED "A;x=\"y\"\r\n{\"id\":1,\"m\r\ne\r\nethod\":\"ping\"}"
                                   "\r\n0\r\nX-Trailer: z\r\n\r\n" POST_PING
                                   "GET /nope HTTP/1.1\r\n" HOST "\r\n"
                                   "HEAD /metrics HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n" POST_PING;
    for (int step = 1; step <= 4096; step *= 4) {
        int fd = web_connect(fixture->daemon);
        char body[512];
        for (size_t i = 0; i < sizeof requests - 1; i += (size_t)step) {
            size_t left = sizeof requests - 1 - i;
            web_send(fd, requests + i, left < (size_t)step ? left : (size_t)step);
        }
        assert_int_equal(web_read_answer(fd, body, sizeof body), 200);
        assert_string_equal(body, PONG);
        assert_int_equal(web_read_answer(fd, body, sizeof body), 200);
        assert_string_equal(body, "ok\n");
        assert_int_equal(web_read_answer(fd, body, sizeof body), 200);
        assert_string_equal(body, PONG);
        assert_int_equal(web_read_answer(fd, body, sizeof body), 200);
        assert_int_equal(web_read_answer(fd, body, sizeof body), 404);
        expect_error(body, "not_found");
        /* The head of what HEAD asked for, whose body does not come: then the end, since it was asked for. */
        char seen[2048] = "";
        web_read_until(fd, seen, sizeof seen, "\r\n\r\n");
        assert_non_null(strstr(seen, "HTTP/1.1 200 OK"));
        assert_non_null(strstr(seen, "Connection: close"));
        assert_true(web_is_closed(fd));
        close(fd);
    }
}

/* Who sends a head that asks for permission gets it before the body, or a refusal instead. */
static void test_http_expect_continue(void **state)
{
    struct fixture *fixture = *state;
    char seen[512] = "", body[64];
    int fd = web_connect(fixture->daemon);
    web_send(fd, POST "Expect: 100-continue\r\nContent-Length: 24\r\n\r\n",
             strlen(POST "Expect: 100-continue\r\nContent-Length: 24\r\n\r\n"));
    web_read_until(fd, seen, sizeof seen, "\r\n\r\n");
    assert_string_equal(seen, "HTTP/1.1 100 Continue\r\n\r\n");
    web_send(fd, PING, 24);
    assert_int_equal(web_read_answer(fd, body, sizeof body), 200);
    assert_string_equal(body, PONG);
    static const char wrong[] = "POST / HTTP/1.1\r\n" HOST "Expect: 100-continue\r\nContent-Length: 24\r\n\r\n";
    web_send(fd, wrong, sizeof wrong - 1);
    assert_int_equal(web_read_answer(fd, NULL, 0), 415);
    assert_true(web_is_closed(fd));
    close(fd);
}

/* A client that has nothing more to send is answered all the same. */
static void test_http_half_closed(void **state)
{
    struct fixture *fixture = *state;
    char body[64];
    int fd = web_connect(fixture->daemon);
    web_send(fd, POST_PING POST_PING "GET /hea", strlen(POST_PING POST_PING "GET /hea"));
    shutdown(fd, SHUT_WR);
    assert_int_equal(web_read_answer(fd, body, sizeof body), 200);
    assert_int_equal(web_read_answer(fd, body, sizeof body), 200);
    assert_string_equal(body, PONG);
    assert_true(web_is_closed(fd));
    close(fd);
}

/* ---- what is refused ---- */

struct refusal {
    const char *what, *request;
    int status;
    bool goes_on; /* the connection does */
};

#define BAD(what, request) {what, request, 400, false}

static const struct refusal refusals[] = {
    /* requests that two programs may read in two ways */
    BAD("both lengths", POST "Content-Length: 24\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" POST_PING),
    BAD("both lengths, the other way", POST "Transfer-Encoding: chunked\r\nContent-Length: 24\r\n\r\n0\r\n\r\n"),
    BAD("two lengths", POST "Content-Length: 24\r\nContent-Length: 24\r\n\r\n" PING),
    BAD("two different lengths", POST "Content-Length: 24\r\nContent-Length: 0\r\n\r\n" PING),
    BAD("a list of lengths", POST "Content-Length: 24, 24\r\n\r\n" PING),
    BAD("a signed length", POST "Content-Length: +24\r\n\r\n" PING),
    BAD("a negative length", POST "Content-Length: -1\r\n\r\n" PING),
    BAD("a length in hex", POST "Content-Length: 0x18\r\n\r\n" PING),
    BAD("no length in Content-Length", POST "Content-Length: \r\n\r\n" PING),
    BAD("a length beyond all numbers", POST "Content-Length: 18446744073709551640\r\n\r\n" PING),
    BAD("identity", POST "Transfer-Encoding: identity\r\n\r\n" PING),
    BAD("chunked, then something", POST "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n"),
    BAD("something, then chunked", POST "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
    BAD("chunked twice", POST "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    BAD("nearly chunked", POST "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"),
    BAD("chunked behind a control character", POST "Transfer-Encoding: \vchunked\r\n\r\n0\r\n\r\n"),
    BAD("a space before the colon", POST "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n"),
    BAD("chunked in version 1.0", "POST / HTTP/1.0\r\n" HOST "Content-Type: application/json\r\n"
                                  "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    BAD("a folded line", "GET /healthz HTTP/1.1\r\n" HOST "X: a\r\n b\r\n\r\n"),
    BAD("a folded line at first", "GET /healthz HTTP/1.1\r\n " HOST "\r\n"),
    BAD("bare newlines", "GET /healthz HTTP/1.1\nHost: localhost\n\n"),
    BAD("a bare newline", "GET /healthz HTTP/1.1\r\n" HOST "X: a\nY: b\r\n\r\n"),
    BAD("a bare return", "GET /healthz HTTP/1.1\r\n" HOST "X: a\rY: b\r\n\r\n"),
    BAD("two returns", "GET /healthz HTTP/1.1\r\n" HOST "X: a\r\r\n\r\n"),
    BAD("no colon", "GET /healthz HTTP/1.1\r\n" HOST "abc\r\n\r\n"),
    BAD("no name", "GET /healthz HTTP/1.1\r\n" HOST ": abc\r\n\r\n"),
    BAD("a space in a name", "GET /healthz HTTP/1.1\r\n" HOST "X Y: abc\r\n\r\n"),
    BAD("two spaces", "GET  /healthz HTTP/1.1\r\n" HOST "\r\n"),
    BAD("a space behind the version", "GET /healthz HTTP/1.1 \r\n" HOST "\r\n"),
    BAD("a chunk ended by a newline", CHUNKED "18\n" PING "\r\n0\r\n\r\n"),
    BAD("a chunk's data ended by a newline", CHUNKED "18\r\n" PING "\n0\r\n\r\n"),
    BAD("a chunk longer than it says", CHUNKED "18\r\n" PING "x\r\n0\r\n\r\n"),
    BAD("a chunk's length with 0x", CHUNKED "0x18\r\n" PING "\r\n0\r\n\r\n"),
    BAD("a negative chunk", CHUNKED "-1\r\n" PING "\r\n0\r\n\r\n"),
    BAD("a chunk beyond all numbers", CHUNKED "10000000000000018\r\n" PING "\r\n0\r\n\r\n"),
    BAD("a newline in an extension", CHUNKED "18;a\nb\r\n" PING "\r\n0\r\n\r\n"),
    BAD("the end by a newline", CHUNKED "18\r\n" PING "\r\n0\r\n\n"),
    BAD("a folded trailer", CHUNKED "18\r\n" PING "\r\n0\r\nX: a\r\n b\r\n\r\n"),
    BAD("a newline in a trailer", CHUNKED "18\r\n" PING "\r\n0\r\nX: a\nY: b\r\n\r\n"),
    /* who is meant */
    BAD("no host", "GET /healthz HTTP/1.1\r\n\r\n"),
    BAD("two hosts", "GET /healthz HTTP/1.1\r\n" HOST HOST "\r\n"),
    BAD("a whole URL", "GET http://localhost/healthz HTTP/1.1\r\n" HOST "\r\n"),
    {"another host", "GET /healthz HTTP/1.1\r\nHost: evil.example\r\n\r\n", 403, true},
    {"another port", "GET /healthz HTTP/1.1\r\nHost: localhost:1\r\n\r\n", 403, true},
    {"an empty host", "GET /healthz HTTP/1.1\r\nHost:\r\n\r\n", 403, true},
    {"no host in version 1.0", "GET /healthz HTTP/1.0\r\n\r\n", 403, false},
    {"another origin", "GET /healthz HTTP/1.1\r\n" HOST "Origin: http://evil.example\r\n\r\n", 403, true},
    {"the null origin", "GET /healthz HTTP/1.1\r\n" HOST "Origin: null\r\n\r\n", 403, true},
    {"another site", "GET /healthz HTTP/1.1\r\n" HOST "Sec-Fetch-Site: cross-site\r\n\r\n", 403, true},
    {"the same site, another origin", "GET /healthz HTTP/1.1\r\n" HOST "Sec-Fetch-Site: same-site\r\n\r\n", 403, true},
    {"a page's preflight", "OPTIONS / HTTP/1.1\r\n" HOST "Origin: http://evil.example\r\n"
                           "Access-Control-Request-Method: POST\r\n\r\n", 403, true},
    {"a page's form", "POST / HTTP/1.1\r\n" HOST "Origin: http://evil.example\r\nContent-Type: text/plain\r\n"
                      "Content-Length: 24\r\n\r\n" PING, 403, false},
    /* what is wanted */
    {"no such path", "GET /nope HTTP/1.1\r\n" HOST "\r\n", 404, true},
    {"a path that only looks like one", "GET /metrics/ HTTP/1.1\r\n" HOST "\r\n", 404, true},
    {"POST elsewhere", "POST /metrics HTTP/1.1\r\n" HOST "Content-Type: application/json\r\n\r\n", 405, true},
    {"PUT", "PUT / HTTP/1.1\r\n" HOST "\r\n", 405, true},
    {"DELETE", "DELETE /healthz HTTP/1.1\r\n" HOST "\r\n", 405, true},
    {"OPTIONS", "OPTIONS / HTTP/1.1\r\n" HOST "\r\n", 405, true},
    {"OPTIONS *", "OPTIONS * HTTP/1.1\r\n" HOST "\r\n", 405, true},
    {"TRACE", "TRACE / HTTP/1.1\r\n" HOST "\r\n", 405, true},
    {"CONNECT", "CONNECT localhost:80 HTTP/1.1\r\n" HOST "\r\n", 405, true},
    {"a method that is none", "BREW / HTTP/1.1\r\n" HOST "\r\n", 405, false},
    {"no type", "POST / HTTP/1.1\r\n" HOST "Content-Length: 24\r\n\r\n" PING, 415, false},
    {"a type that pages may send", "POST / HTTP/1.1\r\n" HOST "Content-Type: text/plain\r\nContent-Length: 24\r\n\r\n" PING,
     415, false},
    {"an encoded body", POST "Content-Encoding: gzip\r\nContent-Length: 24\r\n\r\n" PING, 415, false},
    BAD("version 2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    BAD("version 1.2", "GET /healthz HTTP/1.2\r\n" HOST "\r\n"),
    /* events */
    {"events of no kind", "GET /events HTTP/1.1\r\n" HOST "\r\n", 400, true},
    {"events of an unknown kind", "GET /events?events=gc,nope HTTP/1.1\r\n" HOST "\r\n", 400, true},
    {"events of what is no word", "GET /events?events=gc%22 HTTP/1.1\r\n" HOST "\r\n", 400, true},
    {"events of an unknown session", "GET /events?events=gc HTTP/1.1\r\n" HOST "Heapd-Session: abc\r\n\r\n", 404, true},
};

static const char *word_of(int status)
{
    return status == 403 ? "forbidden" : status == 404 ? "not_found" : "invalid_request";
}

static void test_http_refuses(void **state)
{
    struct fixture *fixture = *state;
    for (size_t i = 0; i < sizeof refusals / sizeof refusals[0]; i++) {
        const struct refusal *row = &refusals[i];
        char body[1024];
        int fd = web_connect(fixture->daemon);
        web_send(fd, row->request, strlen(row->request));
        int status = web_read_answer(fd, body, sizeof body);
        if (status != row->status) {
            fail_msg("%s: %d, not %d: %s", row->what, status, row->status, body);
        }
        expect_error(body, strstr(row->what, "events of no kind") != NULL || strstr(row->what, "events of an unknown k") ||
                                   strstr(row->what, "events of what")
                               ? "invalid_params"
                               : word_of(status));
        if (row->goes_on) {
            web_send(fd, HEALTH, strlen(HEALTH));
            if (web_read_answer(fd, NULL, 0) != 200) {
                fail_msg("%s: the connection does not go on", row->what);
            }
        } else if (!web_is_closed(fd)) {
            fail_msg("%s: what follows is taken for a request", row->what);
        }
        close(fd);
    }
    assert_int_equal(wire_stat(fixture->wire, "objects", "created"), 0);
}

/* The parts of a head that are not text in C. */
static void test_http_refuses_nul(void **state)
{
    struct fixture *fixture = *state;
    static const char request[] = "GET /healthz HTTP/1.1\r\n" HOST "X: a\0b\r\n\r\n";
    int fd = web_connect(fixture->daemon);
    web_send(fd, request, sizeof request - 1);
    assert_int_equal(web_read_answer(fd, NULL, 0), 400);
    assert_true(web_is_closed(fd));
    close(fd);
}

static void expect_refusal(const struct daemon *daemon, const char *request, size_t len, int status, const char *word)
{
    char body[1024];
    int fd = web_connect(daemon);
    web_send(fd, request, len);
    assert_int_equal(web_read_answer(fd, body, sizeof body), status);
    expect_error(body, word);
    assert_true(web_is_closed(fd));
    close(fd);
}

/* Heads and bodies that are too large, told by their length or by coming. */
static void test_http_limits(void **state)
{
    struct fixture fixture;
    const char *const arguments[] = {"--max-request", "100000", NULL};
    size_t len = 300000;
    char *text = malloc(len + 1);
    (void)state;
    if (daemon_is_elsewhere()) {
        process_skip("the daemon runs elsewhere");
    }
    assert_non_null(text);
    fixture_start(&fixture, arguments);
    static const char large[] = POST "Content-Length: 100001\r\n\r\n";
    expect_refusal(fixture.daemon, large, sizeof large - 1, 413, "limit_exceeded");
    memset(text, ' ', len);
    memcpy(text, CHUNKED "30000\r\n", strlen(CHUNKED "30000\r\n"));
    expect_refusal(fixture.daemon, text, len, 413, "limit_exceeded");
    memset(text, 'a', len);
    memcpy(text, "GET /healthz HTTP/1.1\r\n" HOST "X: ", strlen("GET /healthz HTTP/1.1\r\n" HOST "X: "));
    expect_refusal(fixture.daemon, text, len, 431, "limit_exceeded");
    memcpy(text, "GET /aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", 60);
    expect_refusal(fixture.daemon, text, len, 431, "limit_exceeded");
    size_t at = strlen("GET /healthz HTTP/1.1\r\n" HOST);
    memcpy(text, "GET /healthz HTTP/1.1\r\n" HOST, at);
    for (int i = 0; i < 200; i++, at += 6) {
        memcpy(text + at, "X: y\r\n", 6);
    }
    memcpy(text + at, "\r\n", 2);
    expect_refusal(fixture.daemon, text, at + 2, 431, "limit_exceeded");
    assert_int_equal(wire_limit_reached(fixture.wire, "max-request"), 2);
    assert_int_equal(wire_limit_reached(fixture.wire, "http-head"), 3);
    /* Framing without end around no content. */
    memset(text, 'a', len);
    memcpy(text, CHUNKED "18;", strlen(CHUNKED "18;"));
    expect_refusal(fixture.daemon, text, len, 400, "invalid_request");
    free(text);
    /* A body of exactly the limit is fine. */
    struct web *web = web_open(fixture.daemon);
    char *body = malloc(100001);
    assert_non_null(body);
    memset(body, ' ', 100000);
    memcpy(body, PING, 24);
    body[100000] = '\0';
    expect_post(web, NULL, body, PONG);
    free(body);
    web_close(web);
    fixture_end(&fixture);
}

static void test_http_slow_requests(void **state)
{
    struct fixture fixture;
    const char *const arguments[] = {"--first-byte-timeout", "1", NULL};
    (void)state;
    if (daemon_is_elsewhere()) {
        process_skip("the daemon runs elsewhere");
    }
    fixture_start(&fixture, arguments);
    wire_check_heap(fixture.wire); /* its first byte */
    expect_refusal(fixture.daemon, "GET /healthz HT", 15, 408, "limit_exceeded");
    expect_refusal(fixture.daemon, POST "Content-Length: 24\r\n\r\n{", strlen(POST "Content-Length: 24\r\n\r\n{"), 408,
                   "limit_exceeded");
    assert_int_equal(wire_limit_reached(fixture.wire, "first-byte-timeout"), 2);
    /* Between requests there is time. */
    struct web *web = web_open(fixture.daemon);
    int64_t before = wire_stat(fixture.wire, "server", "connections_total");
    expect_post(web, NULL, PING, PONG);
    usleep(1600000);
    expect_post(web, NULL, PING, PONG);
    assert_int_equal(wire_stat(fixture.wire, "server", "connections_total"), before + 1);
    web_close(web);
    fixture_end(&fixture);
}

/* ---- names ---- */

static void test_http_allowed_hosts(void **state)
{
    struct fixture fixture;
    const char *const arguments[] = {"--allow-host", "heap.example", "--allow-host", "proxy:8443", NULL};
    static const struct {
        const char *headers[4];
        long status;
    } cases[] = {
        {{"Host: heap.example"}, 200},
        {{"Host: heap.example:443", "Origin: https://heap.example:443", "Sec-Fetch-Site: same-origin"}, 200},
        {{"Host: proxy:8443"}, 200},
        {{"Host: proxy"}, 403},
        {{"Host: example"}, 403},
        {{"Host: localhost", "Origin: http://localhost", "Sec-Fetch-Site: same-origin"}, 200},
        {{"Host: localhost", "Origin: http://heap.example"}, 403},
        {{"Host: [::1]"}, 200},
    };
    (void)state;
    if (daemon_is_elsewhere()) {
        process_skip("the daemon runs elsewhere");
    }
    fixture_start(&fixture, arguments);
    struct web *web = web_open(fixture.daemon);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        if (web_request(web, "GET", "/healthz", cases[i].headers, NULL)->status != cases[i].status) {
            fail_msg("%s: %ld", cases[i].headers[0], web->answer.status);
        }
    }
    web_close(web);
    /* On a Unix socket nobody can be sent astray. */
    web = web_open_unix(fixture.daemon);
    const char *const any[] = {"Host: whatever.example", NULL}, *const foreign[] = {"Origin: http://evil.example", NULL};
    assert_int_equal(web_request(web, "GET", "/healthz", any, NULL)->status, 200);
    assert_int_equal(web_request(web, "GET", "/healthz", foreign, NULL)->status, 403);
    expect_post(web, NULL, PING, PONG);
    web_close(web);
    fixture_end(&fixture);
}

/* ---- headers ---- */

static void expect_headers(const struct web_answer *answer)
{
    assert_true(web_has_header(answer, "X-Content-Type-Options: nosniff"));
    assert_true(web_has_header(answer, "Cross-Origin-Resource-Policy: same-origin"));
    assert_true(web_has_header(answer, "X-Frame-Options: DENY"));
    assert_true(web_has_header(answer, "Cache-Control: no-store"));
    assert_null(strcasestr(answer->headers, "access-control"));
    assert_null(strcasestr(answer->headers, "\nserver:"));
}

static void test_http_headers_and_page(void **state)
{
    static const char *const paths[] = {"/", "/metrics", "/healthz", "/readyz", "/heap.dot", "/heap.heapsnapshot", "/nope"};
    struct web *web = open_web(state);
    for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++) {
        expect_headers(web_get(web, paths[i]));
        expect_headers(web_request(web, "HEAD", paths[i], NULL, NULL));
        assert_int_equal(web->answer.len, 0);
        assert_int_equal(web->answer.status, i == 6 ? 404 : 200);
    }
    expect_headers(web_post(web, NULL, PING));
    expect_headers(web_post(web, NULL, "{\"method\":\"ping\"}"));
    expect_headers(web_post(web, "unknown", PING));
    expect_headers(web_request(web, "PUT", "/", NULL, NULL));
    assert_true(web_has_header(&web->answer, "Allow: GET, HEAD, POST"));
    web_request(web, "POST", "/metrics", NULL, "");
    assert_true(web_has_header(&web->answer, "Allow: GET, HEAD"));
    const struct web_answer *page = web_get(web, "/");
    assert_true(web_has_header(page, "Content-Type: text/html; charset=utf-8"));
    const char *policy = strcasestr(page->headers, "\nContent-Security-Policy: default-src 'none'");
    assert_non_null(policy);
    assert_null(strstr(page->headers, "unsafe"));
    assert_null(strstr(page->body, "<script"));
    assert_non_null(strstr(page->body, "href=\"/metrics\""));
    web_close(web);
}

/* ---- sessions ---- */

/* What a connection without a token creates goes with it. */
static void test_http_connection_is_a_session(void **state)
{
    struct fixture *fixture = *state;
    struct web *web = open_web(state);
    char text[256];
    json_int_t id = object_of(web_post(web, NULL, "{\"id\":1,\"method\":\"create\",\"params\":[[1000]]}"));
    assert_int_equal(wire_stat(fixture->wire, "sessions", "holds"), 1);
    assert_non_null(strstr(web_post(web, NULL, request_of(text, "ref", id))->body, "\"refcount\":2"));
    web_close(web);
    await_sessions(fixture->wire, "holds", 0);
    snprintf(text, sizeof text, "{'id':1,'method':'get','params':[%lld]}", (long long)id);
    wire_expect(fixture->wire, text, "{'id':1,'error':<error not_found>}");
}

static void test_http_session_of_many_connections(void **state)
{
    struct fixture *fixture = *state;
    struct web *a = open_web(state), *b = open_web(state);
    char token[33], text[256];
    json_int_t mine = object_of(web_post(a, NULL, "{\"id\":1,\"method\":\"create\",\"params\":[[1]]}"));
    open_session(a, 60000, token);
    json_int_t second = object_of(web_post(b, token, "{\"id\":1,\"method\":\"create\",\"params\":[[2]]}"));
    web_close(a);
    web_close(b);
    await_sessions(fixture->wire, "count", 2);
    assert_int_equal(wire_stat(fixture->wire, "sessions", "holds"), 2);
    struct web *c = open_web(state);
    json_int_t own = object_of(web_post(c, NULL, "{\"id\":1,\"method\":\"create\",\"params\":[[3]]}"));
    assert_non_null(strstr(web_post(c, token, request_of(text, "unref", mine))->body, "\"refcount\":0"));
    assert_non_null(strstr(web_post(c, token, request_of(text, "unref", own))->body, "not_held"));
    assert_non_null(strstr(web_post(c, NULL, request_of(text, "unref", second))->body, "not_held"));
    assert_non_null(strstr(web_post(c, NULL, request_of(text, "unref", own))->body, "\"refcount\":0"));
    /* A raw connection joins it with the same token. */
    snprintf(text, sizeof text, "{'id':1,'method':'session.resume','params':['%s']}", token);
    wire_expect(fixture->wire, text, "{'id':1,'result':{'holds':1}}");
    expect_post(c, token, "{\"id\":1,\"method\":\"session.close\"}", "{\"id\":1,\"result\":{\"released\":1,\"freed\":1}}\n");
    assert_int_equal(web_post(c, token, PING)->status, 404);
    expect_error(c->answer.body, "not_found");
    web_close(c);
}

/* The lease runs while nobody asks, though the connection that asked is still there. */
static void test_http_lease_runs_from_the_last_request(void **state)
{
    struct fixture *fixture = *state;
    struct web *web = open_web(state);
    char token[33];
    open_session(web, 400, token);
    object_of(web_post(web, token, "{\"id\":1,\"method\":\"create\",\"params\":[[1]]}"));
    for (int i = 0; i < 5; i++) {
        usleep(150000);
        if (web_post(web, token, PING)->status != 200) {
            fail_msg("the lease ran out though it was in use (or this machine is very slow)");
        }
    }
    assert_int_equal(wire_stat(fixture->wire, "sessions", "holds"), 1);
    await_sessions(fixture->wire, "holds", 0);
    await_sessions(fixture->wire, "leased", 0);
    assert_int_equal(web_post(web, token, PING)->status, 404);
    /* Without a token the connection is in a session as ever. */
    object_of(web_post(web, NULL, "{\"id\":1,\"method\":\"create\",\"params\":[[1]]}"));
    assert_int_equal(wire_stat(fixture->wire, "sessions", "holds"), 1);
    web_close(web);
}

static void test_http_unknown_session_runs_nothing(void **state)
{
    struct fixture *fixture = *state;
    struct web *web = open_web(state);
    const char *const tokens[] = {"x", "0123456789abcdef0123456789abcdef", "0123456789ABCDEF0123456789ABCDEF-and-more"};
    for (size_t i = 0; i < sizeof tokens / sizeof tokens[0]; i++) {
        web_post(web, tokens[i], "{\"id\":1,\"method\":\"create\",\"params\":{\"value\":[],\"name\":\"a\"}}");
        assert_int_equal(web->answer.status, 404);
        expect_error(web->answer.body, "not_found");
    }
    assert_int_equal(wire_stat(fixture->wire, "objects", "created"), 0);
    web_close(web);
}

/* Who kills its own connection gets the answer, and then the end. */
static void test_http_connection_that_kills_itself(void **state)
{
    struct fixture *fixture = *state;
    char request[512], json[128], body[512];
    int fd = web_connect(fixture->daemon);
    web_send(fd, HEALTH, strlen(HEALTH));
    assert_int_equal(web_read_answer(fd, NULL, 0), 200);
    int64_t client = wire_stat(fixture->wire, "server", "connections_total");
    snprintf(json, sizeof json, "{\"id\":1,\"method\":\"server.kill\",\"params\":[%lld]}", (long long)client);
    snprintf(request, sizeof request, POST "Content-Length: %zu\r\n\r\n%s" POST_PING, strlen(json), json);
    web_send(fd, request, strlen(request));
    assert_int_equal(web_read_answer(fd, body, sizeof body), 200);
    assert_non_null(strstr(body, "\"released\":0"));
    assert_true(web_is_closed(fd));
    close(fd);
}

/* ---- metrics, health ---- */

static void test_http_metrics(void **state)
{
    struct fixture *fixture = *state;
    struct web *web = open_web(state);
    char why[PROMTEXT_WHY_BYTES];
    double value;
    json_decref(wire_callf(fixture->wire, "create", "{s:[i], s:s}", "value", 1000, "name", "a"));
    const struct web_answer *answer = web_get(web, "/metrics");
    assert_int_equal(answer->status, 200);
    assert_true(web_has_header(answer, "Content-Type: text/plain; version=0.0.4; charset=utf-8"));
    if (!promtext_check(answer->body, why)) {
        fail_msg("%s", why);
    }
    assert_true(promtext_value(&value, answer->body, "heapd_objects") && value == 2);
    assert_true(promtext_value(&value, answer->body, "heapd_connections") && value == 2);
    assert_true(promtext_value(&value, answer->body, "heapd_network_receive_bytes_total") && value > 0);
    assert_true(promtext_value(&value, answer->body, "process_start_time_seconds") && value > 1e9);
    assert_string_equal(web_get(web, "/healthz")->body, "ok\n");
    assert_string_equal(web_get(web, "/readyz?verbose")->body, "ok\n");
    web_close(web);
}

/* Many collections of a large heap go on meanwhile: the pages come, and take the time that a page takes.  What that is
 * on a quiet machine is measured elsewhere; here only a hang is too long. */
static void test_http_metrics_while_the_heap_is_busy(void **state)
{
    struct fixture *fixture = *state;
    struct web *web = open_web(state);
    struct wire *busy = wire_open(fixture->daemon);
    for (int i = 0; i < 20; i++) {
        json_t *j_list = json_array();
        for (int k = 0; k < 5000; k++) {
            json_array_append_new(j_list, json_pack("[i]", k));
        }
        json_decref(wire_callf(busy, "create", "{s:o}", "value", j_list));
    }
    for (int i = 0; i < 40; i++) {
        wire_send_text(busy, "{\"id\":1,\"method\":\"collect\"}\n{\"id\":2,\"method\":\"heap.retained\",\"params\":[1]}\n");
    }
    for (int i = 0; i < 20; i++) {
        assert_int_equal(web_get(web, "/metrics")->status, 200);
        assert_int_equal(web_get(web, "/healthz")->status, 200);
    }
    for (int i = 0; i < 80; i++) {
        size_t len;
        assert_non_null(wire_line(busy, &len));
    }
    wire_close(busy);
    web_close(web);
}

/* ---- events ---- */

/* Asks for events and reads the head of the answer. */
static int open_events(const struct daemon *daemon, const char *query, const char *session)
{
    char request[512], seen[1024] = "";
    int fd = web_connect(daemon);
    snprintf(request, sizeof request, "GET /events%s HTTP/1.1\r\n" HOST "%s%s%s\r\n", query,
             session == NULL ? "" : "Heapd-Session: ", session == NULL ? "" : session, session == NULL ? "" : "\r\n");
    web_send(fd, request, strlen(request));
    web_read_until(fd, seen, sizeof seen, "\r\n\r\n");
    assert_non_null(strstr(seen, "HTTP/1.1 200 OK\r\n"));
    assert_non_null(strstr(seen, "Content-Type: text/event-stream\r\n"));
    return fd;
}

static void test_http_events(void **state)
{
    struct fixture *fixture = *state;
    char seen[4096] = "";
    int fd = open_events(fixture->daemon, "?events=gc%2Cclients", NULL);
    json_decref(wire_callf(fixture->wire, "collect", NULL));
    web_read_until(fd, seen, sizeof seen, "\"elapsed_us\"");
    assert_non_null(strstr(seen, "data: {\"event\":\"gc\",\"phase\":\"start\",\"generation\":2,\"automatic\":false}\n\n"));
    assert_null(strstr(seen, "jsonrpc"));
    struct wire *other = wire_open(fixture->daemon);
    web_read_until(fd, seen, sizeof seen, "\"what\":\"connected\"");
    wire_close(other);
    web_read_until(fd, seen, sizeof seen, "\"what\":\"closed\"");
    /* What it says now is not heard; its end is. */
    web_send(fd, HEALTH, strlen(HEALTH));
    json_decref(wire_callf(fixture->wire, "gc.get_count", NULL));
    close(fd);
    await_sessions(fixture->wire, "count", 1);
}

/* Those of a session, which nobody else hears, wait while there is no stream. */
static void test_http_events_of_a_session(void **state)
{
    struct fixture *fixture = *state;
    struct web *web = open_web(state);
    char token[33], seen[4096] = "";
    open_session(web, 60000, token);
    static const char finalized[] =
        "[{\"id\":1,\"method\":\"create\",\"params\":{\"value\":[],\"name\":\"a\"}},"
        "{\"id\":2,\"method\":\"finalizer.set\",\"params\":{\"object\":\"a\",\"token\":\"one\"}},"
        "{\"id\":3,\"method\":\"name.unbind\",\"params\":[\"a\"]}]";
    assert_null(strstr(web_post(web, token, finalized)->body, "\"event\""));
    int fd = open_events(fixture->daemon, "", token);
    web_read_until(fd, seen, sizeof seen, "\"token\":\"one\",\"resurrected\":false}\n\n");
    seen[0] = '\0';
    web_post(web, token, finalized);
    web_read_until(fd, seen, sizeof seen, "\"token\":\"one\"");
    seen[0] = '\0';
    int second = open_events(fixture->daemon, "?events=gc", token);
    json_decref(wire_callf(fixture->wire, "collect", NULL));
    web_read_until(fd, seen, sizeof seen, "\"phase\":\"stop\""); /* one of them hears, and that is the first */
    close(fd);
    seen[0] = '\0';
    web_post(web, token, finalized);
    web_read_until(second, seen, sizeof seen, "\"token\":\"one\"");
    close(second);
    await_sessions(fixture->wire, "count", 3);
    expect_post(web, token, "{\"id\":1,\"method\":\"session.close\"}", "{\"id\":1,\"result\":{\"released\":0}}\n");
    web_close(web);
}

/* A stream that is not read: the daemon keeps its events within bounds, and tells how many were lost. */
static void test_http_events_that_are_not_read(void **state)
{
    struct fixture fixture;
    const char *const arguments[] = {"--max-events", "10", NULL};
    (void)state;
    if (daemon_is_elsewhere()) {
        process_skip("the daemon runs elsewhere");
    }
    fixture_start(&fixture, arguments);
    int fd = open_events(fixture.daemon, "?events=journal", NULL);
    size_t size = 1u << 20;
    char *text = malloc(size + 1), *seen = calloc(1, 32u << 20);
    assert_true(text != NULL && seen != NULL);
    memset(text, 'x', size);
    text[size] = '\0';
    for (int i = 0; i < 40; i++) {
        json_decref(wire_callf(fixture.wire, "create", "{s:s, s:s}", "value", text, "name", "a"));
    }
    /* Some have come; behind them the number of those that did not. */
    size_t len = 0;
    while (strstr(seen + (len > 4096 ? len - 4096 : 0), "\"event\":\"lost\"") == NULL) {
        ssize_t n = recv(fd, seen + len, len + 65536 < 32u << 20 ? 65536 : 0, 0);
        if (n <= 0) {
            fail_msg("the stream has ended, or there are too many events");
        }
        len += (size_t)n;
    }
    close(fd);
    free(text);
    free(seen);
    fixture_end(&fixture);
}

/* ---- exports ---- */

static void test_http_exports(void **state)
{
    struct fixture *fixture = *state;
    struct web *web = open_web(state);
    json_t *j_list = json_array();
    for (int i = 0; i < 20000; i++) {
        json_array_append_new(j_list, json_pack("[s]", "some text"));
    }
    json_decref(wire_callf(fixture->wire, "create", "{s:o, s:s}", "value", j_list, "name", "a"));
    const struct web_answer *answer = web_get(web, "/heap.heapsnapshot");
    assert_int_equal(answer->status, 200);
    assert_true(web_has_header(answer, "Content-Type: application/json"));
    json_t *j_snapshot = json_loads(answer->body, 0, NULL);
    int nodes;
    assert_int_equal(json_unpack(j_snapshot, "{s:{s:i}}", "snapshot", "node_count", &nodes), 0);
    assert_true(nodes > 40001);
    json_decref(j_snapshot);
    answer = web_get(web, "/heap.dot");
    assert_int_equal(answer->status, 200);
    assert_true(web_has_header(answer, "Content-Type: text/vnd.graphviz"));
    assert_memory_equal(answer->body, "digraph", 7);
    assert_string_equal(answer->body + answer->len - 2, "}\n");
    expect_post(web, NULL, PING, PONG);
    web_close(web);
}

/* Clients that ask for exports and read them slowly, or not at all: so many, and no more; then there is room again. */
static void test_http_exports_that_are_not_read(void **state)
{
    static const char request[] = "GET /heap.heapsnapshot HTTP/1.1\r\n" HOST "\r\n";
    struct fixture *fixture = *state;
    struct web *web = open_web(state);
    int fds[5];
    json_t *j_list = json_array();
    for (int i = 0; i < 300000; i++) {
        json_array_append_new(j_list, json_pack("[]"));
    }
    json_decref(wire_callf(fixture->wire, "create", "{s:o, s:s}", "value", j_list, "name", "a"));
    for (int i = 0; i < 4; i++) {
        char seen[2048] = "";
        fds[i] = web_connect(fixture->daemon);
        web_send(fds[i], request, sizeof request - 1);
        web_read_until(fds[i], seen, sizeof seen, "\r\n\r\n");
        assert_non_null(strstr(seen, "HTTP/1.1 200 OK"));
    }
    assert_int_equal(web_get(web, "/heap.dot")->status, 503);
    expect_error(web->answer.body, "limit_exceeded");
    assert_int_equal(wire_limit_reached(fixture->wire, "http-exports"), 1);
    expect_post(web, NULL, PING, PONG);
    for (int i = 0; i < 4; i++) {
        close(fds[i]);
    }
    int64_t deadline = process_now_ms() + PROCESS_PATIENCE_MS;
    while (web_get(web, "/heap.dot")->status != 200) {
        assert_true(process_now_ms() < deadline);
        usleep(1000);
    }
    web_close(web);
}

/* ---- tokens ---- */

#define READ_TOKEN "read-token-0123456789"
#define WRITE_TOKEN "write-token-0123456789"

/* A request with that token; its status. */
static long ask_as(struct web *web, const char *token, const char *method, const char *path, const char *body)
{
    char header[128];
    const char *const headers[] = {"Content-Type: application/json", token == NULL ? NULL : header, NULL};
    snprintf(header, sizeof header, "Authorization: Bearer %s", token == NULL ? "" : token);
    return web_request(web, method, path, headers, body)->status;
}

/* Each request has the role of its own token, whoever asked before on the connection. */
static void test_http_tokens(void **state)
{
    struct fixture fixture;
    char path[] = "/tmp/heapd-test-tokens-XXXXXX";
    const char *const arguments[] = {"--auth-token-file", path, NULL};
    static const char create[] = "{\"id\":1,\"method\":\"create\",\"params\":{\"value\":[1],\"name\":\"a\"}}";
    static const char *const open_paths[] = {"/healthz", "/readyz"};
    static const char *const read_paths[] = {"/", "/metrics", "/heap.dot", "/heap.heapsnapshot"};
    (void)state;
    if (daemon_is_elsewhere()) {
        process_skip("the daemon runs elsewhere");
    }
    FILE *file = fdopen(mkstemp(path), "w");
    assert_non_null(file);
    fprintf(file, "read %s\nwrite %s\n", READ_TOKEN, WRITE_TOKEN);
    fclose(file);
    fixture.daemon = daemon_start(arguments);
    struct web *web = web_open(fixture.daemon);
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(ask_as(web, NULL, "GET", open_paths[i], NULL), 200);
    }
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(ask_as(web, NULL, "GET", read_paths[i], NULL), 401);
        assert_true(web_has_header(&web->answer, "WWW-Authenticate: Bearer"));
        expect_error(web->answer.body, "unauthenticated");
        assert_int_equal(ask_as(web, READ_TOKEN, "GET", read_paths[i], NULL), 200);
    }
    assert_int_equal(ask_as(web, NULL, "GET", "/events?events=gc", NULL), 401);
    assert_int_equal(ask_as(web, WRITE_TOKEN, "GET", "/events?events=journal", NULL), 403);
    assert_int_equal(ask_as(web, NULL, "POST", "/", create), 401);
    assert_int_equal(ask_as(web, READ_TOKEN, "POST", "/", create), 200);
    assert_non_null(strstr(web->answer.body, "\"forbidden\""));
    assert_int_equal(ask_as(web, WRITE_TOKEN, "POST", "/", create), 200);
    assert_non_null(strstr(web->answer.body, "\"type\":\"list\""));
    assert_int_equal(ask_as(web, NULL, "POST", "/", PING), 401);
    /* A token in the URL is none. */
    assert_int_equal(ask_as(web, NULL, "GET", "/metrics?token=" READ_TOKEN, NULL), 401);
    /* A session lends nobody its maker's role, and its token is none of access. */
    char session[33], header[64];
    assert_int_equal(ask_as(web, WRITE_TOKEN, "POST", "/", "{\"id\":1,\"method\":\"session.open\",\"params\":[60000]}"), 200);
    const char *told = strstr(web->answer.body, "\"session\":\"");
    assert_non_null(told);
    snprintf(session, sizeof session, "%s", told + strlen("\"session\":\""));
    snprintf(header, sizeof header, "Heapd-Session: %s", session);
    const char *const without[] = {"Content-Type: application/json", header, NULL};
    const char *const as_reader[] = {"Content-Type: application/json", header, "Authorization: Bearer " READ_TOKEN, NULL};
    const char *const as_writer[] = {"Content-Type: application/json", header, "Authorization: Bearer " WRITE_TOKEN, NULL};
    assert_int_equal(web_request(web, "POST", "/", without, create)->status, 401);
    assert_int_equal(web_request(web, "POST", "/", as_reader, create)->status, 200);
    assert_non_null(strstr(web->answer.body, "\"forbidden\""));
    assert_int_equal(web_request(web, "POST", "/", as_writer, "{\"id\":1,\"method\":\"session.close\"}")->status, 200);
    assert_int_equal(web_request(web, "POST", "/", as_writer, create)->status, 404);
    assert_int_equal(web_request(web, "POST", "/", as_reader, create)->status, 404);
    web_close(web);
    /* Wrong ones: the third is the last. */
    static const char wrong[] = "GET /metrics HTTP/1.1\r\n" HOST "Authorization: Bearer wrong\r\n\r\n";
    int fd = web_connect(fixture.daemon);
    int64_t before = process_now_ms();
    for (int i = 0; i < 4; i++) {
        web_send(fd, wrong, sizeof wrong - 1);
    }
    for (int i = 0; i < 3; i++) {
        assert_int_equal(web_read_answer(fd, NULL, 0), 401);
    }
    assert_true(web_is_closed(fd));
    assert_true(process_now_ms() - before >= 1000);
    close(fd);
    /* Over the Unix socket there is no need for one. */
    web = web_open_unix(fixture.daemon);
    const struct web_answer *answer = web_post(web, NULL, "{\"id\":1,\"method\":\"name.unbind\",\"params\":[\"a\"]}");
    assert_non_null(strstr(answer->body, "\"refcount\":0"));
    assert_non_null(strstr(web_get(web, "/metrics")->body, "\nheapd_auth_failures_total 3\n"));
    web_close(web);
    daemon_stop(fixture.daemon);
    unlink(path);
}

/* ---- the end ---- */

/* Streams and idle connections end at once when the daemon stops; daemon_stop() demands a clean end. */
static void test_http_stop(void **state)
{
    struct fixture fixture;
    (void)state;
    if (daemon_is_elsewhere()) {
        process_skip("the daemon runs elsewhere");
    }
    fixture_start(&fixture, NULL);
    int events = open_events(fixture.daemon, "?events=gc", NULL), begun = web_connect(fixture.daemon);
    struct web *web = web_open(fixture.daemon);
    expect_post(web, NULL, PING, PONG);
    web_send(begun, POST "Content-Length: 24\r\n\r\n{", strlen(POST "Content-Length: 24\r\n\r\n{"));
    json_decref(wire_call(fixture.wire, "gc.get_count", NULL));
    wire_close(fixture.wire);
    int64_t before = process_now_ms();
    kill(fixture.daemon->pid, SIGTERM);
    assert_int_equal(web_read_answer(begun, NULL, 0), 503);
    assert_true(web_is_closed(begun));
    assert_true(web_is_closed(events));
    close(events);
    close(begun);
    daemon_wait(fixture.daemon);
    assert_true(process_now_ms() - before < 4500 || getenv("ASAN_OPTIONS") != NULL);
    web_close(web);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        fixture_test(test_http_post_answers),
        fixture_test(test_http_large_and_many),
        fixture_test(test_http_pipelined_and_in_pieces),
        fixture_test(test_http_expect_continue),
        fixture_test(test_http_half_closed),
        fixture_test(test_http_refuses),
        fixture_test(test_http_refuses_nul),
        cmocka_unit_test(test_http_limits),
        cmocka_unit_test(test_http_slow_requests),
        cmocka_unit_test(test_http_allowed_hosts),
        fixture_test(test_http_headers_and_page),
        fixture_test(test_http_connection_is_a_session),
        fixture_test(test_http_session_of_many_connections),
        fixture_test(test_http_lease_runs_from_the_last_request),
        fixture_test(test_http_unknown_session_runs_nothing),
        fixture_test(test_http_connection_that_kills_itself),
        fixture_test(test_http_metrics),
        fixture_test(test_http_metrics_while_the_heap_is_busy),
        fixture_test(test_http_events),
        fixture_test(test_http_events_of_a_session),
        cmocka_unit_test(test_http_events_that_are_not_read),
        fixture_test(test_http_exports),
        fixture_test(test_http_exports_that_are_not_read),
        cmocka_unit_test(test_http_tokens),
        cmocka_unit_test(test_http_stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
