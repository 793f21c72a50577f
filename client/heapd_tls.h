/* heapd_tls.h -- TLS on a connected socket, for heapd_client.c: what recv(2) and send(2) are without it.
 *
 * The daemon's certificate is verified, and that it is for the host that was asked for.  Which authorities are
 * trusted is OpenSSL's default, the system's; $SSL_CERT_FILE and $SSL_CERT_DIR change it.
 */
#ifndef HEAPD_CLIENT_TLS_H
#define HEAPD_CLIENT_TLS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct heapd_tls;

/* heapd_tls_create -- for a socket that does not block and stays the caller's.  NULL: no memory. */
struct heapd_tls *heapd_tls_create(int fd, const char *host);
/* heapd_tls_destroy -- says that nothing more comes, if the handshake is over; frees.  NULL is fine. */
void heapd_tls_destroy(struct heapd_tls *tls);

/* heapd_tls_handshake -- goes on with it.  1: it is over.  0: again, when poll(2) sees *events.  -1: it has failed. */
int heapd_tls_handshake(struct heapd_tls *tls, short *events);
/* heapd_tls_why -- borrowed: why the handshake has failed. */
const char *heapd_tls_why(const struct heapd_tls *tls);

/* As recv(2) and send(2): 0 is the end, -1 with EAGAIN: again, when the socket is ready. */
ssize_t heapd_tls_recv(struct heapd_tls *tls, char *bytes, size_t room);
ssize_t heapd_tls_send(struct heapd_tls *tls, const char *bytes, size_t len);
/* heapd_tls_has_more -- whether heapd_tls_recv() would give something that poll(2) does not see. */
bool heapd_tls_has_more(const struct heapd_tls *tls);

#endif
