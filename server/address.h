/* address.h -- where to listen: unix:PATH, tcp:HOST:PORT or tls:HOST:PORT.
 *
 * An address is parsed and, where HOST is a name, looked up once, so what follows (is it loopback, bind,
 * the ready line) all speak of the same place.
 */
#ifndef HEAPD_SERVER_ADDRESS_H
#define HEAPD_SERVER_ADDRESS_H

#include "reason.h"

#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>

/* The longest path of a Unix socket, and what comes before it. */
#define ADDRESS_TEXT_BYTES 128u
/* What an address looks like, for messages and --help. */
#define ADDRESS_GRAMMAR "unix:PATH, tcp:HOST:PORT or tls:HOST:PORT ([::1] for IPv6, port 0 for a free one)"

struct address {
    struct sockaddr_storage name; /* AF_UNIX, AF_INET or AF_INET6 */
    socklen_t len;
    bool is_tls; /* TCP, and TLS on it */
};

/* Reads one address. */
bool address_parse(struct address *address, const char *text, struct reason *reason);
/* The Unix socket that is used when none is named: $XDG_RUNTIME_DIR/heapd.sock or /tmp/heapd-UID/heapd.sock. */
bool address_default(struct address *address, struct reason *reason);
/* As address_parse() reads it, HOST as a number. */
void address_text(const struct address *address, char text[ADDRESS_TEXT_BYTES]);

bool address_is_unix(const struct address *address);
/* The path of a Unix address. */
const char *address_path(const struct address *address);
/* Whether only programs on this machine can reach it. */
bool address_is_local(const struct address *address);
bool address_equal(const struct address *a, const struct address *b);

#endif
