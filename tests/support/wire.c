/* wire.c -- one raw connection to a daemon, over TCP or its Unix socket, on libcurl.
 *
 * libcurl connects (CURLOPT_CONNECT_ONLY); bytes are moved here, on the socket it made: libcurl does not hand
 * out or read a connection whose peer has said something and closed, which is what some tests are about.
 * Input: input[start .. start+len) has come and was not taken yet, its first `scanned` bytes have no newline.
 */
#include "wire.h"

#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include <cmocka.h>
#include <curl/curl.h>

#include "process.h"

/* The connections of this process.  A failed test leaves its own behind; the next one must not meet them. */
static struct wire *open_wires;

/* ---- connecting ---- */

/* Makes the socket as libcurl would, and remembers it. */
static curl_socket_t open_socket(void *fd, curlsocktype purpose, struct curl_sockaddr *address)
{
    (void)purpose;
    *(curl_socket_t *)fd = socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
    return *(curl_socket_t *)fd;
}

struct wire *wire_try_open(const struct daemon *daemon, bool over_unix)
{
    char url[256];
    curl_socket_t fd = CURL_SOCKET_BAD;
    struct wire *wire = calloc(1, sizeof *wire);
    CURL *curl = curl_easy_init();
    if (wire == NULL || curl == NULL) {
        abort();
    }
    snprintf(url, sizeof url, "http://%s:%d/", daemon->host, daemon->port);
    if (over_unix && daemon->socket[0] != '\0') {
        curl_easy_setopt(curl, CURLOPT_UNIX_SOCKET_PATH, daemon->socket);
        strcpy(url, "http://localhost/");
    }
    curl_easy_setopt(curl, CURLOPT_URL, url);
    curl_easy_setopt(curl, CURLOPT_PROXY, "");
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_CONNECT_ONLY, 1L);
    curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, (long)PROCESS_PATIENCE_MS);
    curl_easy_setopt(curl, CURLOPT_OPENSOCKETFUNCTION, open_socket);
    curl_easy_setopt(curl, CURLOPT_OPENSOCKETDATA, &fd);
    if (curl_easy_perform(curl) != CURLE_OK) {
        curl_easy_cleanup(curl);
        free(wire);
        return NULL;
    }
    wire->curl = curl;
    wire->fd = fd;
    wire->next = open_wires;
    open_wires = wire;
    return wire;
}

struct wire *wire_open(const struct daemon *daemon)
{
    struct wire *wire = wire_try_open(daemon, false);
    assert_non_null(wire);
    return wire;
}

struct wire *wire_open_unix(const struct daemon *daemon)
{
    struct wire *wire = wire_try_open(daemon, true);
    assert_non_null(wire);
    return wire;
}

void wire_close(struct wire *wire)
{
    struct wire **link = &open_wires;
    while (*link != wire) {
        link = &(*link)->next;
    }
    *link = wire->next;
    curl_easy_cleanup(wire->curl);
    free(wire->input);
    free(wire);
}

void wire_close_all(void)
{
    while (open_wires != NULL) {
        wire_close(open_wires);
    }
}

void wire_reset(struct wire *wire)
{
    struct linger none = {1, 0};
    setsockopt(wire->fd, SOL_SOCKET, SO_LINGER, &none, sizeof none);
    wire_close(wire);
}

void wire_half_close(struct wire *wire)
{
    shutdown(wire->fd, SHUT_WR);
}

/* ---- bytes ---- */

/* Makes room for one more read. */
static void make_room(struct wire *wire)
{
    if (wire->start > 0 && wire->start + wire->len + 65536 > wire->room) {
        memmove(wire->input, wire->input + wire->start, wire->len);
        wire->start = 0;
    }
    if (wire->len + 65536 > wire->room) {
        wire->room = wire->room * 2 + 131072;
        wire->input = realloc(wire->input, wire->room);
        if (wire->input == NULL) {
            abort();
        }
    }
}

/* Takes what has come, without waiting. */
static void receive(struct wire *wire)
{
    make_room(wire);
    ssize_t n = recv(wire->fd, wire->input + wire->start + wire->len,
                     wire->room - wire->start - wire->len - 1, MSG_DONTWAIT);
    if (n == 0) {
        wire->closed = true;
    } else if (n > 0) {
        wire->len += (size_t)n;
    } else if (errno != EAGAIN && errno != EINTR) {
        wire->closed = wire->reset = true;
    }
}

size_t wire_send_blindly(struct wire *wire, const char *bytes, size_t len)
{
    ssize_t n = send(wire->fd, bytes, len, MSG_DONTWAIT | MSG_NOSIGNAL);
    return n > 0 ? (size_t)n : 0;
}

bool wire_try_send(struct wire *wire, const char *bytes, size_t len)
{
    int64_t deadline = process_now_ms() + PROCESS_PATIENCE_MS;
    while (len > 0) {
        struct pollfd fd = {wire->fd, POLLIN | POLLOUT, 0};
        ssize_t n = send(wire->fd, bytes, len, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n >= 0) {
            bytes += n;
            len -= (size_t)n;
            continue;
        }
        if ((errno != EAGAIN && errno != EINTR) || wire->closed || process_now_ms() > deadline) {
            return false;
        }
        poll(&fd, 1, 1000);
        if (fd.revents & (POLLIN | POLLHUP | POLLERR)) {
            receive(wire);
        }
    }
    return true;
}

void wire_send(struct wire *wire, const char *bytes, size_t len)
{
    if (!wire_try_send(wire, bytes, len)) {
        fail_msg("the daemon does not take what is sent; it %s",
                 wire->closed ? "closed the connection" : "reads no more");
    }
}

void wire_send_text(struct wire *wire, const char *text)
{
    wire_send(wire, text, strlen(text));
}

static bool has_line(struct wire *wire)
{
    if (wire->scanned < wire->len &&
        memchr(wire->input + wire->start + wire->scanned, '\n', wire->len - wire->scanned)) {
        return true;
    }
    wire->scanned = wire->len;
    return false;
}

bool wire_line_within(struct wire *wire, int64_t ms)
{
    int64_t deadline = process_now_ms() + ms, left = ms;
    while (!has_line(wire) && !wire->closed) {
        struct pollfd fd = {wire->fd, POLLIN, 0};
        poll(&fd, 1, left > 0 ? (int)left : 0);
        left = deadline - process_now_ms();
        if (fd.revents != 0) {
            receive(wire);
        } else if (left <= 0) {
            return false;
        }
    }
    return true;
}

char *wire_line(struct wire *wire, size_t *len)
{
    if (!wire_line_within(wire, PROCESS_PATIENCE_MS)) {
        fail_msg("no reply came, and no end");
    }
    if (!has_line(wire)) {
        if (wire->len > 0) {
            fail_msg("the daemon closed in the middle of a line: %.*s", (int)wire->len,
                     wire->input + wire->start);
        }
        return NULL;
    }
    char *line = wire->input + wire->start;
    size_t n = (size_t)((char *)memchr(line + wire->scanned, '\n', wire->len - wire->scanned) - line);
    line[n] = '\0';
    wire->start += n + 1;
    wire->len -= n + 1;
    wire->scanned = 0;
    *len = n;
    return line;
}

size_t wire_drain(struct wire *wire)
{
    int64_t deadline = process_now_ms() + PROCESS_PATIENCE_MS;
    size_t bytes = wire->len;
    while (!wire->closed) {
        struct pollfd fd = {wire->fd, POLLIN, 0};
        wire->start = wire->len = wire->scanned = 0;
        poll(&fd, 1, 1000);
        if (fd.revents != 0) {
            receive(wire);
            bytes += wire->len;
        } else if (process_now_ms() > deadline) {
            fail_msg("the daemon does not close the connection");
        }
    }
    return bytes;
}

/* ---- conversations ---- */

/* `text` with " for ' and the bound ids filled in; malloc'ed. */
static char *requote(const struct wire *wire, const char *text, size_t *len)
{
    char *copy = strdup(text);
    if (copy == NULL) {
        abort();
    }
    for (char *c = copy; *c != '\0'; c++) {
        *c = *c == '\'' ? '"' : *c;
    }
    char *filled = match_substitute(&wire->bindings, copy, strlen(copy), len);
    if (filled == NULL) {
        print_error("not all ids are known: %s\n", text);
        fail();
    }
    free(copy);
    return filled;
}

static void expect_reply(struct wire *wire, const char *request, const char *expected)
{
    char why[MATCH_WHY_BYTES], *pattern = strdup(expected);
    size_t len = 0;
    const char *line = wire_line(wire, &len);
    for (char *c = pattern; *c != '\0'; c++) {
        *c = *c == '\'' ? '"' : *c;
    }
    if (line == NULL) {
        fail_msg("the daemon closed instead of answering %s", request);
    }
    if (!match_reply(&wire->bindings, pattern, strlen(pattern), line, len, why)) {
        print_error("request:  %s\nexpected: %s\nreply:    %.2000s\n", request, pattern, line);
        fail_msg("%s", why);
    }
    free(pattern);
}

void wire_expect(struct wire *wire, const char *request, const char *expected)
{
    size_t len;
    char *line = requote(wire, request, &len);
    wire_send(wire, line, len);
    wire_send(wire, "\n", 1);
    expect_reply(wire, line, expected);
    free(line);
}

void wire_expect_line(struct wire *wire, const char *expected)
{
    expect_reply(wire, "(sent before)", expected);
}

void wire_expect_end(struct wire *wire)
{
    size_t len;
    const char *line = wire_line(wire, &len);
    if (line != NULL) {
        fail_msg("the connection should end, but the daemon said: %s", line);
    }
}

json_t *wire_call(struct wire *wire, const char *method, json_t *params)
{
    json_error_t error;
    size_t len;
    json_t *j_request = json_pack("{s:i,s:s,s:o*}", "id", 1, "method", method, "params", params);
    assert_non_null(j_request);
    char *line = json_dumps(j_request, JSON_COMPACT);
    assert_non_null(line);
    json_decref(j_request);
    wire_send(wire, line, strlen(line));
    wire_send(wire, "\n", 1);
    const char *reply = wire_line(wire, &len);
    if (reply == NULL) {
        fail_msg("the daemon closed instead of answering %s", line);
    }
    json_t *j_reply = json_loadb(reply, len, JSON_ALLOW_NUL, &error),
           *j_result = json_incref(json_object_get(j_reply, "result"));
    if (j_result == NULL) {
        fail_msg("%.1000s was answered with %.1000s", line, reply);
    }
    json_decref(j_reply);
    free(line);
    return j_result;
}

static json_t *pack_params(const char *format, va_list arguments)
{
    json_error_t error;
    json_t *j_params = format == NULL ? NULL : json_vpack_ex(&error, 0, format, arguments);
    if (format != NULL && j_params == NULL) {
        fail_msg("json_pack(\"%s\"): %s", format, error.text);
    }
    return j_params;
}

json_t *wire_callf(struct wire *wire, const char *method, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    json_t *j_params = pack_params(format, arguments);
    va_end(arguments);
    return wire_call(wire, method, j_params);
}

int64_t wire_call_int(struct wire *wire, const char *key, const char *method, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    json_t *j_result = wire_call(wire, method, pack_params(format, arguments));
    va_end(arguments);
    const json_t *j_number = key == NULL ? j_result : json_object_get(j_result, key);
    if (!json_is_integer(j_number)) {
        fail_msg("%s has no integer %s", method, key == NULL ? "as result" : key);
    }
    int64_t number = json_integer_value(j_number);
    json_decref(j_result);
    return number;
}

int64_t wire_stat(struct wire *wire, const char *section, const char *member)
{
    return wire_call_int(wire, member, "stats", "{s:s}", "section", section);
}

int64_t wire_limit_reached(struct wire *wire, const char *name)
{
    json_t *j_limits = wire_callf(wire, "stats", "[s]", "limits"), *j_reached;
    j_reached = json_object_get(json_object_get(j_limits, "reached"), name);
    if (!json_is_integer(j_reached)) {
        fail_msg("no limit is called %s", name);
    }
    int64_t reached = json_integer_value(j_reached);
    json_decref(j_limits);
    return reached;
}

void wire_check_heap(struct wire *wire)
{
    json_t *j_check = wire_callf(wire, "heap.check", NULL);
    if (!json_is_true(json_object_get(j_check, "ok")) ||
        json_array_size(json_object_get(j_check, "problems")) != 0) {
        char *text = json_dumps(j_check, 0);
        fail_msg("heap.check: %s", text);
    }
    json_decref(j_check);
}
