/* heapd_client.h -- talk to a heapd daemon from C.
 *
 * A client is one connection, and so one session: the holds that `create`, `ref` and others give belong
 * to it and are released when it is destroyed.  A program that keeps a list and lets the heap sort it out:
 *
 *     #include "heapd_client.h"
 *
 *     int main(void)
 *     {
 *         struct heapd_client *client = heapd_client_create();
 *         json_t *j_list = NULL, *j_value = NULL;
 *         if (client == NULL || heapd_connect(client, NULL) != HEAPD_OK ||
 *             heapd_callf(client, &j_list, "create", "{s:[i,s,f]}", "value", 1, "two", 3.5) != HEAPD_OK ||
 *             heapd_callf(client, NULL, "list.append", "{s:O,s:b}",
 *                         "object", json_object_get(j_list, "object"), "value", 1) != HEAPD_OK ||
 *             heapd_callf(client, &j_value, "get", "[O]", json_object_get(j_list, "object")) != HEAPD_OK) {
 *             fprintf(stderr, "heapd: %s\n", heapd_last_error(client)->message);
 *         } else {
 *             printf("%s\n", heapd_result_text(client, NULL)); // [1,"two",3.5,true]
 *         }
 *         json_decref(j_list);
 *         json_decref(j_value);
 *         heapd_client_destroy(client); // the list dies here: nothing else referred to it
 *     }
 *
 * Build it with: cc program.c -lheapdclient -ljansson -lssl -lcrypto
 *
 * Errors: what can fail returns an enum heapd_status; the results behind pointers are untouched then, and
 * heapd_last_error() says more.  Nothing prints, nothing exits, no signal is raised or needed.
 * Ownership: "new" means the caller must json_decref() it, "borrowed" that the caller keeps what it
 * passes, or must not free what it gets.  Where nothing is said, arguments are borrowed.
 * Threads: one thread at a time per client; different clients share nothing.
 * Reconnecting is the program's business: a new connection is a new session, and the old holds are gone.
 */
#ifndef HEAPD_CLIENT_H
#define HEAPD_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

#ifdef __cplusplus
extern "C" {
#endif

/* One connection: socket, buffers, replies that are due, the last error. */
struct heapd_client;

enum heapd_status {
    HEAPD_OK = 0,
    HEAPD_ERROR,     /* the daemon answered with an error; the connection is fine */
    HEAPD_TIMEOUT,   /* no answer in time; the connection is fine, the late reply will be dropped */
    HEAPD_CLOSED,    /* not connected, cannot connect, or the connection is gone */
    HEAPD_PROTOCOL,  /* what came is no reply of a heapd daemon, and the connection is of no more use; or the
                        result has a dict key with a NUL in it, which no json_t can hold: then
                        heapd_result_text() has it, and the connection is fine */
    HEAPD_USAGE,     /* the program passed something impossible; nothing was sent */
    HEAPD_NO_MEMORY, /* nothing was sent, or the answer could not be kept */
};

/* Why the last call failed.  Valid until the next call on the client. */
struct heapd_error {
    enum heapd_status status; /* HEAPD_OK when the last call succeeded */
    int code;                 /* JSON-RPC code, like -32001; 0 unless status is HEAPD_ERROR */
    const char *word;         /* the stable word, like "not_found"; the library's own if status is another */
    const char *message;      /* for people; never NULL */
    json_t *data;             /* borrowed: the error's `data` object; NULL unless status is HEAPD_ERROR */
};

/* ---- connecting ---- */

/* heapd_client_create -- a client that is not connected yet, or NULL: no memory. */
struct heapd_client *heapd_client_create(void);

/* heapd_client_destroy -- closes the connection, frees everything.  NULL is fine. */
void heapd_client_destroy(struct heapd_client *client);

/* heapd_connect -- connects to `address`: "unix:PATH", "tcp:HOST:PORT" ("tcp:[::1]:7411" for IPv6), or
 * "tls:HOST:PORT", where the daemon's certificate must be for HOST and from an authority that OpenSSL trusts
 * by default ($SSL_CERT_FILE names others).  NULL means heapd_default_address().  A connection that takes longer than ten seconds, or than the
 * time-out if that is shorter, is HEAPD_TIMEOUT.  On a connected client: HEAPD_USAGE. */
enum heapd_status heapd_connect(struct heapd_client *client, const char *address);

/* heapd_default_address -- writes $HEAPD_URL, else "unix:$XDG_RUNTIME_DIR/heapd.sock", else
 * "unix:/tmp/heapd-UID/heapd.sock".  Returns false if it does not fit. */
bool heapd_default_address(char *buffer, size_t size);

/* heapd_address -- borrowed: the address of the last heapd_connect(), "" before. */
const char *heapd_address(const struct heapd_client *client);

/* heapd_set_timeout_ms -- how long each call may take from here on; 0, the default, is for ever. */
void heapd_set_timeout_ms(struct heapd_client *client, int64_t timeout_ms);

/* heapd_fd -- the socket, for the program's own poll loop; -1 when not connected. */
int heapd_fd(const struct heapd_client *client);

/* heapd_last_error -- borrowed: never NULL, also for a NULL client (no memory). */
const struct heapd_error *heapd_last_error(const struct heapd_client *client);

/* ---- calls ---- */

/* heapd_call -- one request and its reply.  `params` is an object or array, borrowed; NULL: none.
 * `*result` is new; `result` may be NULL when only success matters.
 * HEAPD_USAGE while replies to heapd_send() are due. */
enum heapd_status heapd_call(struct heapd_client *client, json_t **result, const char *method,
                             json_t *params);

/* heapd_callf -- as heapd_call, the params packed as by json_pack(format, ...): "O" borrows, "o" steals,
 * also when the call fails.  `format` NULL or "": no params. */
enum heapd_status heapd_callf(struct heapd_client *client, json_t **result, const char *method,
                              const char *format, ...);

/* heapd_call_text -- as heapd_call, the params as JSON text, which is sent as it stands (line breaks
 * become spaces): for numbers that no C type holds.  NULL: no params. */
enum heapd_status heapd_call_text(struct heapd_client *client, json_t **result, const char *method,
                                  const char *params);

/* heapd_notify -- a request that is never answered, whatever becomes of it.  Sent with the next call or
 * heapd_flush(). */
enum heapd_status heapd_notify(struct heapd_client *client, const char *method, json_t *params);

/* heapd_result_text -- borrowed, until the next call on the client: the last result's JSON text exactly as
 * the daemon sent it (1.1 is 1.1), NUL at its end; NULL if the last reply was an error.  `len` may be NULL.
 */
const char *heapd_result_text(const struct heapd_client *client, size_t *len);

/* ---- pipelining: send many, receive in the same order ---- */

/* heapd_send -- queues a request; what is queued goes out as buffers fill and before any receive.  Replies
 * that arrive meanwhile are kept, so any number may be sent before the first is received.  After
 * HEAPD_TIMEOUT the request is queued all the same, and its reply is due. */
enum heapd_status heapd_send(struct heapd_client *client, const char *method, json_t *params);
enum heapd_status heapd_send_text(struct heapd_client *client, const char *method, const char *params);

/* heapd_flush -- everything queued is handed to the kernel. */
enum heapd_status heapd_flush(struct heapd_client *client);

/* heapd_receive -- the reply to the oldest request that is due one; as the end of heapd_call().
 * HEAPD_USAGE when none is due.  After HEAPD_TIMEOUT it is still due: receive again. */
enum heapd_status heapd_receive(struct heapd_client *client, json_t **result);

/* heapd_due -- how many replies heapd_receive() can still be asked for. */
size_t heapd_due(const struct heapd_client *client);

/* ---- events ---- */

/* Called from inside the functions that read, for each event line; `params` is borrowed, its member
 * "event" says which.  It must not use the client. */
typedef void heapd_event_callback(void *arg, json_t *params);

/* heapd_on_event -- who gets the events; NULL drops them, which is how a client begins. */
void heapd_on_event(struct heapd_client *client, heapd_event_callback *callback, void *arg);

/* heapd_wait_event -- returns after at least one event was delivered.  HEAPD_USAGE while replies are due. */
enum heapd_status heapd_wait_event(struct heapd_client *client);

/* heapd_take_events -- delivers the events that are there, perhaps none, without waiting for more: for a
 * program that waits for heapd_fd() to become readable itself.  `count`, which may be NULL, is how many.
 * HEAPD_CLOSED when the daemon has closed the connection and all that it said before was delivered;
 * `*count` is set then, too.  HEAPD_USAGE while replies are due. */
enum heapd_status heapd_take_events(struct heapd_client *client, size_t *count);

/* ---- raw lines: batches, broken input, other envelopes ---- */

/* heapd_send_line -- queues `len` bytes and a newline.  Replies to it are read with heapd_read_line(). */
enum heapd_status heapd_send_line(struct heapd_client *client, const char *line, size_t len);

/* heapd_read_line -- the next line, whatever it is, events too, without its newline, a NUL after it.
 * Borrowed, until the next call on the client.  HEAPD_CLOSED at the end.  HEAPD_USAGE while replies to
 * heapd_send() are due. */
enum heapd_status heapd_read_line(struct heapd_client *client, const char **line, size_t *len);

#ifdef __cplusplus
}
#endif

#endif
