/* http_request.h -- the head of a request: what it says, and whether that is let in. */
#ifndef HEAPD_SERVER_HTTP_REQUEST_H
#define HEAPD_SERVER_HTTP_REQUEST_H

#include "http_problem.h"
#include "http_rules.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum http_method { HTTP_METHOD_GET, HTTP_METHOD_HEAD, HTTP_METHOD_POST, HTTP_METHOD_OTHER };

/* What there is, at which path. */
enum http_route {
    HTTP_ROUTE_NONE,
    HTTP_ROUTE_ROOT,
    HTTP_ROUTE_METRICS,
    HTTP_ROUTE_HEALTHZ,
    HTTP_ROUTE_READYZ,
    HTTP_ROUTE_EVENTS,
    HTTP_ROUTE_HEAPSNAPSHOT,
    HTTP_ROUTE_DOT
};

#define HTTP_TARGET_BYTES 1024u
#define HTTP_VALUE_BYTES 2048u
#define HTTP_HOST_BYTES 280u

/* Filled by http_request_..() while the head is parsed; the checks come when it is whole. */
struct http_request {
    enum http_method method;
    unsigned minor; /* of version 1 */
    bool is_other_version;
    bool keep_alive;
    enum http_route route;
    char target[HTTP_TARGET_BYTES]; /* path?query; the query is what follows `query` */
    const char *query;              /* in target; "": none */
    size_t target_len;

    /* the header line under way */
    char name[40], value[HTTP_VALUE_BYTES];
    size_t name_len, value_len; /* as they are, also when they do not fit */
    unsigned headers;

    /* of lines that are over */
    enum http_problem problem;            /* the first; HTTP_FINE: none so far */
    char host[HTTP_HOST_BYTES];           /* "": none */
    char session[HTTP_VALUE_BYTES / 2];   /* Heapd-Session, when has_session */
    char bearer[HTTP_VALUE_BYTES / 2];    /* the token of Authorization; "": none */
    bool has_host, has_origin, has_session, has_length, has_encoding, has_type, has_authorization;
    bool is_foreign, is_json, expects_continue;
    char origin[HTTP_HOST_BYTES];
    uint64_t length; /* when has_length */
};

/* Pieces of the head, as the parser finds them. */
void http_request_add_target(struct http_request *request, const char *bytes, size_t n);
void http_request_add_name(struct http_request *request, const char *bytes, size_t n);
void http_request_add_value(struct http_request *request, const char *bytes, size_t n);
void http_request_end_header(struct http_request *request);

/* Whether it has a body, even an empty one in chunks. */
bool http_request_has_body(const struct http_request *request);
/* The head is whole, its method and version are set: finds the route.  What is wrong with it, but for what it may be
 * let in for: HTTP_FINE when nothing is. */
enum http_problem http_request_check_syntax(struct http_request *request);
/* Whether Host, Origin and Sec-Fetch-Site let it in. */
enum http_problem http_request_check_origin(const struct http_request *request, const struct http_place *place);
/* Whether there is something at its path, for its method and its body of at most max_body bytes (0: any). */
enum http_problem http_request_check_route(const struct http_request *request, uint64_t max_body);
/* The methods of its path, for Allow. */
const char *http_request_allow(const struct http_request *request);

#endif
