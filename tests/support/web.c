/* web.c -- HTTP to a daemon: whole requests by libcurl, and bytes as they are by a socket. */
#include "web.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <cmocka.h>
#include <curl/curl.h>
#include <netdb.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "process.h"

/* ---- requests ---- */

static struct web *open_at(const char *base, const char *unix_path)
{
    struct web *web = calloc(1, sizeof *web);
    assert_non_null(web);
    web->curl = curl_easy_init();
    assert_non_null(web->curl);
    snprintf(web->base, sizeof web->base, "%s", base);
    if (unix_path != NULL) {
        curl_easy_setopt(web->curl, CURLOPT_UNIX_SOCKET_PATH, unix_path);
    }
    curl_easy_setopt(web->curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(web->curl, CURLOPT_TIMEOUT_MS, (long)PROCESS_PATIENCE_MS);
    return web;
}

struct web *web_open(const struct daemon *daemon)
{
    char base[160];
    snprintf(base, sizeof base, "http://%s:%d", daemon->host, daemon->port);
    return open_at(base, NULL);
}

struct web *web_open_unix(const struct daemon *daemon)
{
    return open_at("http://heapd", daemon->socket);
}

void web_close(struct web *web)
{
    curl_easy_cleanup(web->curl);
    free(web->answer.headers);
    free(web->answer.body);
    free(web);
}

static void append(char **text, size_t *len, const char *bytes, size_t n)
{
    *text = realloc(*text, *len + n + 1);
    assert_non_null(*text);
    memcpy(*text + *len, bytes, n);
    *len += n;
    (*text)[*len] = '\0';
}

static size_t on_body(char *bytes, size_t size, size_t n, void *arg)
{
    struct web *web = arg;
    append(&web->answer.body, &web->answer.len, bytes, size * n);
    return size * n;
}

/* Each head begins with a status line; the last one counts. */
static size_t on_header(char *bytes, size_t size, size_t n, void *arg)
{
    struct web *web = arg;
    size_t len = size * n >= 5 && memcmp(bytes, "HTTP/", 5) == 0 ? 0 : strlen(web->answer.headers);
    append(&web->answer.headers, &len, bytes, size * n);
    return size * n;
}

const struct web_answer *web_request(struct web *web, const char *method, const char *path,
                                     const char *const headers[], const char *body)
{
    char url[1024];
    struct curl_slist *list = NULL;
    size_t none = 0;
    snprintf(url, sizeof url, "%s%s", web->base, path);
    for (size_t i = 0; headers != NULL && headers[i] != NULL; i++) {
        list = curl_slist_append(list, headers[i]);
    }
    web->answer.len = 0;
    append(&web->answer.body, &web->answer.len, "", 0);
    append(&web->answer.headers, &none, "", 0);
    curl_easy_setopt(web->curl, CURLOPT_URL, url);
    curl_easy_setopt(web->curl, CURLOPT_HTTPHEADER, list);
    curl_easy_setopt(web->curl, CURLOPT_POSTFIELDS, body);
    curl_easy_setopt(web->curl, CURLOPT_POSTFIELDSIZE, body == NULL ? -1L : (long)strlen(body));
    if (body == NULL) {
        curl_easy_setopt(web->curl, CURLOPT_HTTPGET, 1L);
    }
    curl_easy_setopt(web->curl, CURLOPT_NOBODY, strcmp(method, "HEAD") == 0 ? 1L : 0L);
    curl_easy_setopt(web->curl, CURLOPT_CUSTOMREQUEST, method);
    curl_easy_setopt(web->curl, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(web->curl, CURLOPT_WRITEDATA, web);
    curl_easy_setopt(web->curl, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(web->curl, CURLOPT_HEADERDATA, web);
    CURLcode code = curl_easy_perform(web->curl);
    if (code != CURLE_OK) {
        fail_msg("%s %s: %s", method, url, curl_easy_strerror(code));
    }
    curl_slist_free_all(list);
    curl_easy_getinfo(web->curl, CURLINFO_RESPONSE_CODE, &web->answer.status);
    return &web->answer;
}

const struct web_answer *web_get(struct web *web, const char *path)
{
    return web_request(web, "GET", path, NULL, NULL);
}

const struct web_answer *web_post(struct web *web, const char *session, const char *json)
{
    char header[128];
    const char *const headers[] = {"Content-Type: application/json", session == NULL ? NULL : header, NULL};
    snprintf(header, sizeof header, "Heapd-Session: %s", session == NULL ? "" : session);
    return web_request(web, "POST", "/", headers, json);
}

bool web_has_header(const struct web_answer *answer, const char *line)
{
    size_t len = strlen(line);
    for (const char *p = answer->headers; (p = strchr(p, '\n')) != NULL;) {
        p++;
        if (strncasecmp(p, line, len) == 0 && (p[len] == '\r' || p[len] == '\0')) {
            return true;
        }
    }
    return false;
}

/* ---- bytes ---- */

int web_connect(const struct daemon *daemon)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found;
    char port[16];
    snprintf(port, sizeof port, "%d", daemon->port);
    assert_int_equal(getaddrinfo(daemon->host, port, &hints, &found), 0);
    int fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, found->ai_addr, found->ai_addrlen), 0);
    freeaddrinfo(found);
    return fd;
}

void web_send(int fd, const char *bytes, size_t len)
{
    while (len > 0) {
        ssize_t n = send(fd, bytes, len, MSG_NOSIGNAL);
        if (n <= 0) {
            return; /* the daemon has closed; what it said shows whether that was right */
        }
        bytes += n;
        len -= (size_t)n;
    }
}

/* Up to n bytes; 0: the end, also by a reset. */
static size_t read_some(int fd, char *bytes, size_t n)
{
    struct pollfd poll_of = {.fd = fd, .events = POLLIN};
    if (poll(&poll_of, 1, PROCESS_PATIENCE_MS) != 1) {
        fail_msg("nothing came");
    }
    ssize_t got = recv(fd, bytes, n, 0);
    return got > 0 ? (size_t)got : 0;
}

static bool read_byte(int fd, char *byte)
{
    return read_some(fd, byte, 1) == 1;
}

int web_read_answer(int fd, char *body, size_t size)
{
    char head[4096], byte;
    size_t len = 0, body_len = 0, got = 0;
    int status = 0;
    while (len < 4 || memcmp(head + len - 4, "\r\n\r\n", 4) != 0) {
        if (!read_byte(fd, &byte)) {
            return 0;
        }
        assert_true(len + 1 < sizeof head);
        head[len++] = byte;
    }
    head[len] = '\0';
    assert_int_equal(sscanf(head, "HTTP/1.1 %d ", &status), 1);
    const char *found = strcasestr(head, "\r\nContent-Length: ");
    body_len = found == NULL ? 0 : strtoul(found + 18, NULL, 10);
    char rest[4096];
    for (size_t n = 1; got < body_len && n > 0; got += n) {
        bool fits = body != NULL && got + 1 < size;
        size_t room = fits ? size - 1 - got : sizeof rest;
        n = read_some(fd, fits ? body + got : rest, room < body_len - got ? room : body_len - got);
    }
    assert_int_equal(got, body_len);
    if (body != NULL) {
        body[got < size ? got : size - 1] = '\0';
    }
    return status;
}

bool web_is_closed(int fd)
{
    char byte;
    return !read_byte(fd, &byte);
}

void web_read_until(int fd, char *seen, size_t size, const char *text)
{
    size_t len = strlen(seen);
    while (strstr(seen, text) == NULL) {
        if (len + 1 >= size || !read_byte(fd, seen + len)) {
            fail_msg("'%s' did not come, but: %s", text, seen);
        }
        seen[++len] = '\0';
    }
}
