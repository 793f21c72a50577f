/* http_problem.h -- why a request over HTTP is not answered as it wished: status, word of PROTOCOL section 9, sentence. */
#ifndef HEAPD_SERVER_HTTP_PROBLEM_H
#define HEAPD_SERVER_HTTP_PROBLEM_H

/* Bytes of a head, from its first line to its empty one; and header lines in it. */
#define HTTP_HEAD_BYTES_MAX 16384u
#define HTTP_HEADERS_MAX 100u

/* name, status, word, sentence. */
#define HTTP_PROBLEM_MAP(X)                                                                                          \
    X(HTTP_BAD_REQUEST, 400, "invalid_request", "this is no request of HTTP/1.1")                                    \
    X(HTTP_BAD_HOST, 400, "invalid_request", "a request of HTTP/1.1 has one Host header")                            \
    X(HTTP_BAD_LENGTH, 400, "invalid_request",                                                                       \
      "how long the body is must be told in one way: one Content-Length, or Transfer-Encoding: chunked")             \
    X(HTTP_BAD_QUERY, 400, "invalid_params",                                                                         \
      "say which events: /events?events=gc,pressure; or whose, with a Heapd-Session header")                         \
    X(HTTP_UNAUTHENTICATED, 401, "unauthenticated", "send Authorization: Bearer TOKEN with a token that is known")   \
    X(HTTP_FOREIGN_HOST, 403, "forbidden",                                                                           \
      "this Host is not allowed; use the address that heapd listens on, or start it with --allow-host NAME")         \
    X(HTTP_FOREIGN_ORIGIN, 403, "forbidden", "requests of pages from elsewhere are refused")                         \
    X(HTTP_NOT_ALLOWED, 403, "forbidden", "the role of this token may not do that")                                  \
    X(HTTP_NO_SUCH_PATH, 404, "not_found",                                                                           \
      "there is nothing here; there are /, /metrics, /healthz, /readyz, /events, /heap.heapsnapshot and /heap.dot")  \
    X(HTTP_NO_SUCH_SESSION, 404, "not_found",                                                                        \
      "no session of that token: its lease has run out, or it never existed; open a new one")                        \
    X(HTTP_WRONG_METHOD, 405, "invalid_request", "this method is not for this path; Allow says which are")           \
    X(HTTP_SLOW, 408, "limit_exceeded", "the request did not come in time")                                          \
    X(HTTP_TOO_LARGE, 413, "limit_exceeded",                                                                         \
      "the body is longer than allowed; send less at once or raise --max-request")                                   \
    X(HTTP_WRONG_TYPE, 415, "invalid_request", "the body must be of Content-Type: application/json, not encoded")    \
    X(HTTP_HEAD_TOO_LARGE, 431, "limit_exceeded", "the head of the request is too large")                            \
    X(HTTP_STOPPING, 503, "unavailable", "heapd is loading or shutting down")                                        \
    X(HTTP_BUSY, 503, "limit_exceeded", "too many exports are under way; try again later")                           \
    X(HTTP_NO_ROOM, 503, "memory_error", "there is no memory, or no room for a file, for this")

enum http_problem {
    HTTP_FINE = 0,
#define X(name, status, word, sentence) name,
    HTTP_PROBLEM_MAP(X)
#undef X
};

#endif
