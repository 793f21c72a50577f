/* http_answer.c -- what is sent: status lines, headers, bodies. */
#include "http_answer.h"

#include "../protocol/rpc.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

static const char *reason_of(unsigned status)
{
    switch (status) {
    case 200:
        return "OK";
    case 204:
        return "No Content";
    case 400:
        return "Bad Request";
    case 401:
        return "Unauthorized";
    case 403:
        return "Forbidden";
    case 404:
        return "Not Found";
    case 405:
        return "Method Not Allowed";
    case 408:
        return "Request Timeout";
    case 413:
        return "Content Too Large";
    case 415:
        return "Unsupported Media Type";
    case 431:
        return "Request Header Fields Too Large";
    default:
        return "Service Unavailable";
    }
}

/* ---- heads ---- */

/* The time as HTTP writes it, whatever the locale. */
static void write_date(struct buffer *out)
{
    static const char days[7][4] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
    static const char months[12][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                       "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
    time_t now = time(NULL);
    struct tm tm;
    gmtime_r(&now, &tm);
    buffer_printf(out, "Date: %s, %02d %s %d %02d:%02d:%02d GMT\r\n", days[tm.tm_wday], tm.tm_mday,
                  months[tm.tm_mon], 1900 + tm.tm_year, tm.tm_hour, tm.tm_min, tm.tm_sec);
}

/* The headers of every answer: nothing of it is for another page, for a frame, for a cache, or for guessing. */
static void begin(struct buffer *out, unsigned status, bool close, unsigned minor)
{
    buffer_printf(out, "HTTP/1.1 %u %s\r\n", status, reason_of(status));
    write_date(out);
    buffer_text(out, "Cache-Control: no-store\r\n"
                     "X-Content-Type-Options: nosniff\r\n"
                     "Cross-Origin-Resource-Policy: same-origin\r\n"
                     "X-Frame-Options: DENY\r\n");
    if (close) {
        buffer_text(out, "Connection: close\r\n");
    } else if (minor == 0) {
        buffer_text(out, "Connection: keep-alive\r\n");
    }
}

void http_answer(struct buffer *out, struct http_manner manner, unsigned status, const char *type,
                 const char *headers, const char *body, size_t len)
{
    begin(out, status, manner.close, manner.minor);
    buffer_printf(out, "%sContent-Type: %s\r\nContent-Length: %zu\r\n\r\n", headers, type, len);
    if (!manner.is_head) {
        buffer_bytes(out, body, len);
    }
}

void http_answer_nothing(struct buffer *out, struct http_manner manner)
{
    begin(out, 204, manner.close, manner.minor);
    buffer_text(out, "\r\n");
}

void http_answer_head(struct buffer *out, struct http_manner manner, const char *type, const char *headers,
                      uint64_t len)
{
    begin(out, 200, manner.close, manner.minor);
    buffer_printf(out, "%sContent-Type: %s\r\nContent-Length: %llu\r\n\r\n", headers, type,
                  (unsigned long long)len);
}

void http_answer_stream_head(struct buffer *out, const char *type)
{
    begin(out, 200, true, 1);
    buffer_printf(out, "Content-Type: %s\r\n\r\n", type);
}

/* ---- problems ---- */

static const struct {
    unsigned status;
    const char *word, *sentence;
} PROBLEMS[] = {
#define X(name, status, word, sentence) [name] = {status, word, sentence},
    HTTP_PROBLEM_MAP(X)
#undef X
};

unsigned http_problem_status(enum http_problem problem)
{
    return PROBLEMS[problem].status;
}

const char *http_problem_limit(enum http_problem problem)
{
    switch (problem) {
    case HTTP_TOO_LARGE:
        return "max-request";
    case HTTP_SLOW:
        return "first-byte-timeout";
    case HTTP_HEAD_TOO_LARGE:
        return "http-head";
    case HTTP_BUSY:
        return "http-exports";
    default:
        return NULL;
    }
}

void http_answer_problem(struct buffer *out, struct http_manner manner, enum http_problem problem, const char *allow,
                         uint64_t max)
{
    char line[RPC_ERROR_LINE_BYTES], headers[128] = "";
    size_t len = rpc_error_line(line, PROBLEMS[problem].word, PROBLEMS[problem].sentence, http_problem_limit(problem),
                                max);
    if (problem == HTTP_UNAUTHENTICATED) {
        snprintf(headers, sizeof headers, "WWW-Authenticate: Bearer\r\n");
    } else if (problem == HTTP_WRONG_METHOD) {
        snprintf(headers, sizeof headers, "Allow: %s\r\n", allow);
    }
    http_answer(out, manner, PROBLEMS[problem].status, "application/json", headers, line, len);
}

/* ---- the page ---- */

static const char PAGE[] =
    "<!DOCTYPE html>\n"
    "<html lang=\"en\">\n"
    "<meta charset=\"utf-8\">\n"
    "<meta name=\"viewport\" content=\"width=device-width\">\n"
    "<title>heapd</title>\n"
    "<h1>heapd " RPC_VERSION "</h1>\n"
    "<p>CPython's memory manager as a network service. There is a daemon at this address, and it speaks:</p>\n"
    "<ul>\n"
    "<li>JSON-RPC 2.0, a message a line, on this very port;</li>\n"
    "<li>JSON-RPC 2.0 by <code>POST /</code> with <code>Content-Type: application/json</code>; the method\n"
    "<code>rpc.discover</code> tells all others;</li>\n"
    "<li><a href=\"/metrics\">/metrics</a> for Prometheus, <a href=\"/healthz\">/healthz</a> and\n"
    "<a href=\"/readyz\">/readyz</a> for whoever watches it;</li>\n"
    "<li><code>/events?events=gc,pressure</code>, a stream of server-sent events;</li>\n"
    "<li><a href=\"/heap.heapsnapshot\" download>/heap.heapsnapshot</a> for the Memory panel of Chrome's DevTools,\n"
    "<a href=\"/heap.dot\" download>/heap.dot</a> for Graphviz.</li>\n"
    "</ul>\n"
    "<p><code>heapctl help</code> and the README that came with it say more.</p>\n";

void http_answer_page(struct buffer *out, struct http_manner manner)
{
    http_answer(out, manner, 200, "text/html; charset=utf-8",
                "Content-Security-Policy: default-src 'none'; base-uri 'none'; form-action 'none'; "
                "frame-ancestors 'none'\r\n"
                "Referrer-Policy: no-referrer\r\n",
                PAGE, sizeof PAGE - 1);
}
