/* web.h -- HTTP to a daemon: whole requests by libcurl, and bytes as they are by a socket.
 *
 * What cannot be done fails the running test.
 */
#ifndef HEAPD_TESTS_WEB_H
#define HEAPD_TESTS_WEB_H

#include "daemon.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What came back; good until the next request of the same web, or web_close(). */
struct web_answer {
    long status;
    char *headers; /* its last head, from the status line on, ends in NUL */
    char *body;    /* ends in NUL */
    size_t len;    /* of the body */
};

/* A client that keeps its connection. */
struct web {
    void *curl;
    char base[160]; /* "http://127.0.0.1:7411" */
    struct web_answer answer;
};

struct web *web_open(const struct daemon *daemon);
struct web *web_open_unix(const struct daemon *daemon);
void web_close(struct web *web);

/* A request for base + path with these further header lines (ended by NULL; NULL: none).  `body` NULL: none. */
const struct web_answer *web_request(struct web *web, const char *method, const char *path,
                                     const char *const headers[], const char *body);
const struct web_answer *web_get(struct web *web, const char *path);
/* JSON by POST /, for a session (NULL: none). */
const struct web_answer *web_post(struct web *web, const char *session, const char *json);
/* Whether the head has that line, `Name: value`. */
bool web_has_header(const struct web_answer *answer, const char *line);

/* ---- bytes ---- */

/* A connected socket. */
int web_connect(const struct daemon *daemon);
void web_send(int fd, const char *bytes, size_t len);
/* The next whole answer, by its Content-Length: its status, and the body into `body` (NULL: thrown away), which ends
 * in NUL.  0: the connection has ended before one began. */
int web_read_answer(int fd, char *body, size_t size);
/* Whether the daemon closes, saying nothing more. */
bool web_is_closed(int fd);
/* Reads until `text` has come, behind what was read before; `seen` has room for `size` bytes and ends in NUL. */
void web_read_until(int fd, char *seen, size_t size, const char *text);

#endif
