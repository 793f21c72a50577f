/* peer.c -- the other end of a connection, as the kernel knows it. */
#include "peer.h"

#include <arpa/inet.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

/* Without an acknowledgement for so long, and after so many attempts in vain, a peer is gone.  The connection
 * is looked at every ten seconds, so that makes 85 s at most. */
#define GONE_AFTER_MS 75000u
#define GONE_ATTEMPTS 3u
/* No answer takes longer than this to come. */
#define GONE_GRACE_MS 5000u

/* What peer_discard_input() throws away at most. */
#define DISCARD_ROUNDS 256

static void set_option(int fd, int level, int option, int value)
{
    /* These options only make a connection better; where one cannot be set it serves all the same. */
    (void)!setsockopt(fd, level, option, &value, sizeof value);
}

const char *peer_word(enum peer_kind kind)
{
    static const char *const WORDS[] = {[PEER_UNIX] = "unix", [PEER_TCP] = "tcp", [PEER_TLS] = "tls"};
    return WORDS[kind];
}

void peer_tune_tcp(int fd)
{
    set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    set_option(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
    set_option(fd, IPPROTO_TCP, TCP_KEEPIDLE, PEER_PROBE_AFTER_S);
    set_option(fd, IPPROTO_TCP, TCP_KEEPINTVL, PEER_PROBE_EVERY_S);
    set_option(fd, IPPROTO_TCP, TCP_KEEPCNT, PEER_PROBES);
}

bool peer_is_allowed(int fd, uid_t *uid)
{
    struct ucred peer;
    socklen_t len = sizeof peer;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) != 0) {
        *uid = (uid_t)-1;
        return false;
    }
    *uid = peer.uid;
    return peer.uid == 0 || peer.uid == geteuid();
}

static void tcp_name(int fd, char name[PEER_NAME_BYTES])
{
    struct sockaddr_storage peer;
    socklen_t len = sizeof peer;
    char host[INET6_ADDRSTRLEN] = "?";
    if (getpeername(fd, (struct sockaddr *)&peer, &len) != 0) {
        snprintf(name, PEER_NAME_BYTES, "gone");
    } else if (peer.ss_family == AF_INET6) {
        const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)&peer;
        inet_ntop(AF_INET6, &in6->sin6_addr, host, sizeof host);
        snprintf(name, PEER_NAME_BYTES, "[%s]:%u", host, (unsigned)ntohs(in6->sin6_port));
    } else {
        const struct sockaddr_in *in = (const struct sockaddr_in *)&peer;
        inet_ntop(AF_INET, &in->sin_addr, host, sizeof host);
        snprintf(name, PEER_NAME_BYTES, "%s:%u", host, (unsigned)ntohs(in->sin_port));
    }
}

void peer_name(int fd, enum peer_kind kind, char name[PEER_NAME_BYTES])
{
    struct ucred peer;
    socklen_t len = sizeof peer;
    if (kind != PEER_UNIX) {
        tcp_name(fd, name);
    } else if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) != 0) {
        snprintf(name, PEER_NAME_BYTES, "gone");
    } else {
        snprintf(name, PEER_NAME_BYTES, "uid %lu pid %ld", (unsigned long)peer.uid, (long)peer.pid);
    }
}

bool peer_owes_acknowledgement(int fd)
{
    int bytes = 0;
    return ioctl(fd, SIOCOUTQ, &bytes) == 0 && bytes > 0;
}

bool peer_is_gone(int fd)
{
    struct tcp_info info;
    socklen_t len = sizeof info;
    if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) != 0 || info.tcpi_last_ack_recv < GONE_AFTER_MS) {
        return false;
    }
    /* The kernel counts attempts, but not those towards a peer that had closed its window before; of these it
     * is known when the last was made.  A peer that lives answers each at once, however full it is. */
    bool is_counted = (unsigned)info.tcpi_retransmits + info.tcpi_probes >= GONE_ATTEMPTS;
    bool is_ignored = info.tcpi_unacked > 0 &&
                      info.tcpi_last_ack_recv - GONE_GRACE_MS > info.tcpi_last_data_sent &&
                      info.tcpi_last_data_sent > GONE_GRACE_MS;
    return is_counted || is_ignored;
}

void peer_discard_input(int fd)
{
    char bytes[4096];
    for (int i = 0; i < DISCARD_ROUNDS && recv(fd, bytes, sizeof bytes, MSG_DONTWAIT) > 0; i++) {
    }
}
