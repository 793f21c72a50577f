/* http.h -- a connection that speaks HTTP.  Its states are drawn in http.c. */
#ifndef HEAPD_SERVER_HTTP_H
#define HEAPD_SERVER_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct conn;
struct http;

/* For a connection that turns out to speak HTTP, with the bytes that said so: its rpc takes messages from here on.
 * http_turn() goes on.  NULL: no memory. */
struct http *http_create(struct conn *conn, const char *bytes, size_t n);
void http_destroy(struct http *http);

/* Bytes have come; http_turn() goes on with them. */
void http_received(struct http *http, const char *bytes, size_t n);
/* The client has ended its input. */
void http_received_end(struct http *http);
/* After a run, or when something was sent: takes what the rpc has to say, and goes on with what has come. */
void http_turn(struct http *http);

/* What is to be sent, in one piece; good until the next call. */
const char *http_output(const struct http *http, size_t *len);
void http_sent(struct http *http, size_t n);
/* Whether it would take more bytes now. */
bool http_wants_input(const struct http *http);
/* Whether http_turn() has something to do as soon as the output is sent. */
bool http_has_more(const struct http *http);
/* Bytes of memory for what came behind the request under way. */
size_t http_unread_input(const struct http *http);
/* Whether nothing comes after the output. */
bool http_is_over(const struct http *http);
/* There is no memory to go on. */
bool http_must_close(const struct http *http);
/* Whether silence is no reason to close it: a stream, or a request that is being answered. */
bool http_is_kept(const struct http *http);

/* The daemon stops: what was asked is answered, nothing more. */
void http_drain(struct http *http);
/* Gives up a request that does not come, or an answer that is not taken; `silent_ms`: no byte has come or gone for so
 * long.  Then http_turn() goes on. */
void http_check_time(struct http *http, uint64_t now, uint64_t silent_ms);

#endif
