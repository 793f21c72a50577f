/* http_answer.h -- what is sent: status lines, headers, bodies. */
#ifndef HEAPD_SERVER_HTTP_ANSWER_H
#define HEAPD_SERVER_HTTP_ANSWER_H

#include "buffer.h"
#include "http_problem.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* How the answer's end is known, and whether the connection goes on after it. */
struct http_manner {
    bool is_head;      /* nobody wants the body */
    bool close;        /* the connection ends with this */
    unsigned minor;    /* of the request's version */
};

/* A whole answer.  `headers`: further header lines, each with its end. */
void http_answer(struct buffer *out, struct http_manner manner, unsigned status, const char *type,
                 const char *headers, const char *body, size_t len);
/* An answer without a body, because there is nothing to say. */
void http_answer_nothing(struct buffer *out, struct http_manner manner);
/* The head of an answer whose body follows: `len` bytes. */
void http_answer_head(struct buffer *out, struct http_manner manner, const char *type, const char *headers,
                      uint64_t len);
/* The head of an answer whose body goes on until the connection ends. */
void http_answer_stream_head(struct buffer *out, const char *type);
/* What is wrong with a request: the status, and a JSON-RPC error.  `allow`: the methods there are, of HTTP_WRONG_METHOD;
 * `max`: of a limit, or 0. */
void http_answer_problem(struct buffer *out, struct http_manner manner, enum http_problem problem, const char *allow,
                         uint64_t max);
/* The status of a problem. */
unsigned http_problem_status(enum http_problem problem);
/* The limit that was reached, by the name under which it is counted; NULL: it is none. */
const char *http_problem_limit(enum http_problem problem);
/* The page at /. */
void http_answer_page(struct buffer *out, struct http_manner manner);

#endif
