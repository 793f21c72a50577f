/* http_request.c -- the head of a request: what it says, and whether that is let in.
 *
 * Values that are too long for their room are kept as ones that fit nothing: they are refused where they matter.
 */
#include "http_request.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

/* ---- pieces ---- */

static void add(char *text, size_t size, size_t *len, const char *bytes, size_t n)
{
    if (*len < size) {
        size_t room = size - *len;
        memcpy(text + *len, bytes, n < room ? n : room);
    }
    *len += n;
}

void http_request_add_target(struct http_request *request, const char *bytes, size_t n)
{
    add(request->target, sizeof request->target, &request->target_len, bytes, n);
}

void http_request_add_name(struct http_request *request, const char *bytes, size_t n)
{
    add(request->name, sizeof request->name, &request->name_len, bytes, n);
}

void http_request_add_value(struct http_request *request, const char *bytes, size_t n)
{
    add(request->value, sizeof request->value, &request->value_len, bytes, n);
}

/* ---- header lines ---- */

static void note_problem(struct http_request *request, enum http_problem problem)
{
    if (request->problem == HTTP_FINE) {
        request->problem = problem;
    }
}

static void take_host(struct http_request *request, const char *value)
{
    if (request->has_host) {
        note_problem(request, HTTP_BAD_HOST);
    }
    request->has_host = true;
    snprintf(request->host, sizeof request->host, "%s", value);
}

static void take_origin(struct http_request *request, const char *value)
{
    /* Two of them are never those of one page. */
    request->is_foreign |= request->has_origin;
    request->has_origin = true;
    snprintf(request->origin, sizeof request->origin, "%s", value);
}

static void take_site(struct http_request *request, const char *value)
{
    request->is_foreign |= !http_site_is_own(value);
}

static void take_type(struct http_request *request, const char *value)
{
    if (request->has_type) {
        note_problem(request, HTTP_BAD_REQUEST);
    }
    request->has_type = true;
    request->is_json = http_type_is_json(value);
}

static void take_content_encoding(struct http_request *request, const char *value)
{
    if (strcasecmp(value, "identity") != 0) {
        note_problem(request, HTTP_WRONG_TYPE);
    }
}

static void take_length(struct http_request *request, const char *value)
{
    if (request->has_length || request->has_encoding || !http_read_length(&request->length, value)) {
        note_problem(request, HTTP_BAD_LENGTH);
    }
    request->has_length = true;
}

static void take_encoding(struct http_request *request, const char *value)
{
    if (request->has_length || request->has_encoding || strcasecmp(value, "chunked") != 0) {
        note_problem(request, HTTP_BAD_LENGTH);
    }
    request->has_encoding = true;
}

static void take_expect(struct http_request *request, const char *value)
{
    request->expects_continue |= http_list_has(value, "100-continue");
}

static void take_session(struct http_request *request, const char *value)
{
    if (request->has_session) {
        note_problem(request, HTTP_BAD_REQUEST);
    }
    request->has_session = true;
    snprintf(request->session, sizeof request->session, "%s", value);
}

static void take_authorization(struct http_request *request, const char *value)
{
    if (request->has_authorization) {
        note_problem(request, HTTP_BAD_REQUEST);
    }
    request->has_authorization = true;
    if (strncasecmp(value, "Bearer ", 7) == 0) {
        snprintf(request->bearer, sizeof request->bearer, "%s", value + 7 + strspn(value + 7, " "));
    }
}

static const struct {
    const char *name;
    void (*take)(struct http_request *request, const char *value);
} HEADERS[] = {
    {"host", take_host},
    {"origin", take_origin},
    {"sec-fetch-site", take_site},
    {"content-type", take_type},
    {"content-encoding", take_content_encoding},
    {"content-length", take_length},
    {"transfer-encoding", take_encoding},
    {"expect", take_expect},
    {"heapd-session", take_session},
    {"authorization", take_authorization},
};

/* Ends the value, without the spaces around it.  One that did not fit becomes one that nothing is equal to. */
static const char *finish_value(struct http_request *request)
{
    size_t len = request->value_len;
    if (len >= sizeof request->value) {
        return "?";
    }
    while (len > 0 && (request->value[len - 1] == ' ' || request->value[len - 1] == '\t')) {
        len--;
    }
    request->value[len] = '\0';
    return request->value + strspn(request->value, " \t");
}

void http_request_end_header(struct http_request *request)
{
    const char *value = finish_value(request);
    if (request->name_len == 0) {
        note_problem(request, HTTP_BAD_REQUEST);
    }
    for (size_t i = 0; i < sizeof HEADERS / sizeof HEADERS[0]; i++) {
        if (strlen(HEADERS[i].name) == request->name_len &&
            strncasecmp(HEADERS[i].name, request->name, request->name_len) == 0) {
            HEADERS[i].take(request, value);
        }
    }
    request->name_len = request->value_len = 0;
    if (++request->headers > HTTP_HEADERS_MAX) {
        note_problem(request, HTTP_HEAD_TOO_LARGE);
    }
}

/* ---- the whole ---- */

static const struct {
    const char *path;
    enum http_route route;
} ROUTES[] = {
    {"/", HTTP_ROUTE_ROOT},
    {"/metrics", HTTP_ROUTE_METRICS},
    {"/healthz", HTTP_ROUTE_HEALTHZ},
    {"/readyz", HTTP_ROUTE_READYZ},
    {"/events", HTTP_ROUTE_EVENTS},
    {"/heap.heapsnapshot", HTTP_ROUTE_HEAPSNAPSHOT},
    {"/heap.dot", HTTP_ROUTE_DOT},
};

/* Parts the target in path and query.  A path that did not fit is one where nothing is. */
static void find_route(struct http_request *request)
{
    request->query = "";
    if (request->target_len >= sizeof request->target) {
        request->target[1] = '\0';
        return;
    }
    request->target[request->target_len] = '\0';
    char *mark = strchr(request->target, '?');
    if (mark != NULL) {
        *mark = '\0';
        request->query = mark + 1;
    }
    for (size_t i = 0; i < sizeof ROUTES / sizeof ROUTES[0]; i++) {
        if (strcmp(request->target, ROUTES[i].path) == 0) {
            request->route = ROUTES[i].route;
        }
    }
}

bool http_request_has_body(const struct http_request *request)
{
    return request->has_encoding || (request->has_length && request->length > 0);
}

enum http_problem http_request_check_syntax(struct http_request *request)
{
    /* A target that names a host (of a proxy's client), or is no path at all, is not for us. */
    bool is_path = request->target_len > 0 && request->target[0] == '/';
    find_route(request);
    if (request->problem != HTTP_FINE && request->problem != HTTP_WRONG_TYPE) {
        return request->problem;
    }
    if (request->is_other_version || (!is_path && request->method != HTTP_METHOD_OTHER)) {
        return HTTP_BAD_REQUEST;
    }
    if (request->minor > 0 && !request->has_host) {
        return HTTP_BAD_HOST;
    }
    /* Programs of version 1.0 know no chunks, and might see another message in them. */
    return request->minor == 0 && request->has_encoding ? HTTP_BAD_LENGTH : HTTP_FINE;
}

enum http_problem http_request_check_origin(const struct http_request *request, const struct http_place *place)
{
    if (!http_host_is_allowed(place, request->host)) {
        return HTTP_FOREIGN_HOST;
    }
    bool is_own = !request->has_origin || http_origin_is_own(place, request->origin, request->host);
    return request->is_foreign || !is_own ? HTTP_FOREIGN_ORIGIN : HTTP_FINE;
}

enum http_problem http_request_check_route(const struct http_request *request, uint64_t max_body)
{
    bool is_post = request->method == HTTP_METHOD_POST;
    if (request->route == HTTP_ROUTE_NONE && *request->target == '/') {
        return HTTP_NO_SUCH_PATH;
    }
    if (request->method == HTTP_METHOD_OTHER || (is_post && request->route != HTTP_ROUTE_ROOT)) {
        return HTTP_WRONG_METHOD;
    }
    if (is_post && (!request->is_json || request->problem == HTTP_WRONG_TYPE)) {
        return HTTP_WRONG_TYPE;
    }
    return max_body != 0 && request->has_length && request->length > max_body ? HTTP_TOO_LARGE : HTTP_FINE;
}

const char *http_request_allow(const struct http_request *request)
{
    return request->route == HTTP_ROUTE_ROOT || request->route == HTTP_ROUTE_NONE ? "GET, HEAD, POST" : "GET, HEAD";
}
