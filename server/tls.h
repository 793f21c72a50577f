/* tls.h -- TLS on a connection: bytes of the wire in and out, plain bytes out and in, and no socket.
 *
 *   tls_feed() wire bytes -> tls_read() plain bytes     tls_write() plain bytes -> tls_output() wire bytes -> tls_sent()
 *
 * TLS 1.2 or later, no renegotiation, no compression, no resumption.  What the peer sends is read to its end with each
 * feed, so nothing waits in here but an unfinished record; what is to be sent grows only by what tls_write() is given.
 *
 * A context has the certificate; it may be loaded anew while connections go on with what they began with.
 * Threads: a context's functions may be called from any thread, a connection's from its own.
 */
#ifndef HEAPD_SERVER_TLS_H
#define HEAPD_SERVER_TLS_H

#include "reason.h"

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* A client that has not finished its handshake after so long is closed. */
#define TLS_HANDSHAKE_MS 10000u
/* Plain bytes that tls_write() takes at a time. */
#define TLS_WRITE_BYTES 65536u

struct tls_context;
struct tls;

/* NULL: no memory. */
struct tls_context *tls_context_create(void);
/* Connections from here on use this certificate and key, the key's file being the owner's or root's; on failure those
 * that were there stay. */
bool tls_context_load(struct tls_context *context, const char *cert_path, const char *key_path, uid_t owner,
                      struct reason *reason);
void tls_context_destroy(struct tls_context *context);

/* A connection that was accepted.  NULL: no memory. */
struct tls *tls_create(struct tls_context *context);
void tls_destroy(struct tls *tls);

/* n bytes have come, which stay there until tls_read() has said that there is no more. */
void tls_feed(struct tls *tls, const char *bytes, size_t n);
/* What tls_read() says instead of a number of bytes. */
enum tls_end {
    TLS_MORE = 0,    /* all that came is read, as far as it is whole */
    TLS_ENDED = -1,  /* the peer has said that it is done */
    TLS_BROKEN = -2  /* what came is no TLS, or not for us: the connection must be closed */
};
/* Plain bytes, or an enum tls_end.  Whatever it says, there may be output. */
int tls_read(struct tls *tls, char *bytes, size_t room);
/* Whether the handshake is over. */
bool tls_is_ready(const struct tls *tls);
/* Encrypts some of the bytes, when the handshake is over; returns how many, 0: it cannot go on. */
size_t tls_write(struct tls *tls, const char *bytes, size_t n);
/* Says that we are done; nothing is written after that.  Does nothing before the handshake is over. */
void tls_end(struct tls *tls);

/* What is to be sent. */
const char *tls_output(const struct tls *tls, size_t *len);
void tls_sent(struct tls *tls, size_t n);

/* Why it broke, for the log. */
const char *tls_why(const struct tls *tls);

#endif
