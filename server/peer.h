/* peer.h -- the other end of a connection, as the kernel knows it. */
#ifndef HEAPD_SERVER_PEER_H
#define HEAPD_SERVER_PEER_H

#include <stdbool.h>
#include <sys/types.h>

/* A silent TCP peer is probed from the first number of seconds on, so often, so many times; then it is gone:
 * 80 s, within the 90 that the protocol promises. */
#define PEER_PROBE_AFTER_S 30
#define PEER_PROBE_EVERY_S 10
#define PEER_PROBES 5

/* What a connection comes over. */
enum peer_kind { PEER_UNIX, PEER_TCP, PEER_TLS };
/* "unix", "tcp", "tls". */
const char *peer_word(enum peer_kind kind);

/* A TCP connection as we want it: no delay, probed when silent. */
void peer_tune_tcp(int fd);
/* Whether the peer of a Unix socket is root or has our uid; *uid is whose it is. */
bool peer_is_allowed(int fd, uid_t *uid);

/* Who it is, for a person: `127.0.0.1:40000`, `[::1]:40000`, or `uid 1000 pid 4711`. */
#define PEER_NAME_BYTES 64
void peer_name(int fd, enum peer_kind kind, char name[PEER_NAME_BYTES]);

/* TCP: whether bytes that were sent are not yet known to have arrived. */
bool peer_owes_acknowledgement(int fd);
/* TCP: whether it has not acknowledged bytes for so long, though asked again and again, that it must be
 * gone.  While bytes are under way the kernel sends no probes, and by itself gives up after a quarter of an
 * hour only.  A peer that lives but does not read is not gone. */
bool peer_is_gone(int fd);

/* Throws away what has arrived: closing a socket with unread bytes would reset the connection, and the peer
 * may then lose what was sent to it. */
void peer_discard_input(int fd);

#endif
