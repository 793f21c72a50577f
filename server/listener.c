/* listener.c -- an address that is listened on.
 *
 * All listeners live on the loop of threads[0] and hand each connection to the loop with the fewest.  The
 * listening socket is ours, not libuv's: libuv would accept into a handle of this loop, from which there is
 * no way to another one, and would remove the path of a Unix socket when it closes, whoever owns it by then.
 *
 * Start at on_connections().
 */
#include "listener.h"

#include "conn.h"
#include "io_thread.h"
#include "peer.h"
#include "server.h"
#include "unix_socket.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>

/* Connections that may wait to be accepted; the kernel lowers it to its own limit. */
#define BACKLOG 1024
/* Accepted in one go, so that a flood of connections leaves time for those that are there. */
#define ACCEPTS_A_TURN 128
/* Without files or memory for a connection there is no use in asking again at once. */
#define PAUSE_MS 100u

struct listener {
    struct server *server;
    uv_poll_t poll;
    uv_timer_t pause; /* active while nothing is accepted for want of files */
    int fd;
    enum peer_kind kind;
    bool has_complained;            /* about max-clients or files, since a connection was last accepted */
    unsigned open_handles;          /* 0: not watched yet; freed when both are closed */
    struct unix_socket unix_socket; /* of a PEER_UNIX */
};

/* ---- accept ---- */

/* The thread with the fewest connections; of equals the first. */
static struct io_thread *least_loaded(struct server *server)
{
    struct io_thread *best = server->threads[0];
    unsigned least = atomic_load_explicit(&best->load, memory_order_relaxed);
    for (unsigned i = 1; i < server->thread_count; i++) {
        unsigned load = atomic_load_explicit(&server->threads[i]->load, memory_order_relaxed);
        if (load < least) {
            best = server->threads[i];
            least = load;
        }
    }
    return best;
}

/* Says so in the log, but not once for each of a flood. */
static void complain(struct listener *listener, const char *what)
{
    if (!listener->has_complained) {
        log_write(&listener->server->log, LOG_WARNING, "%s", what);
        listener->has_complained = true;
    }
}

/* Whether one more may come in; if not, it has been turned away. */
static bool admit(struct listener *listener, int fd)
{
    struct server *server = listener->server;
    uid_t uid;
    if (listener->kind == PEER_UNIX && !peer_is_allowed(fd, &uid)) {
        log_write(&server->log, LOG_WARNING, "a connection of user %lu was refused", (unsigned long)uid);
        close(fd);
        return false;
    }
    uint64_t max = atomic_load(&server->max_clients);
    if (max != 0 && atomic_load(&server->connections) >= max) {
        char line[RPC_DISMISSAL_BYTES];
        rpc_service_count_limit(server->service, "max-clients");
        complain(listener, "max-clients is reached: connections are refused");
        rpc_too_many_clients_line(line, max);
        conn_dismiss(server->threads[0], fd, listener->kind, line);
        return false;
    }
    listener->has_complained = false;
    return true;
}

/* Hands an accepted connection to a loop. */
static void hand_over(struct listener *listener, int fd)
{
    struct server *server = listener->server;
    if (!admit(listener, fd)) {
        return;
    }
    if (listener->kind != PEER_UNIX) {
        peer_tune_tcp(fd);
    }
    uint64_t client = atomic_fetch_add(&server->accepted, 1) + 1;
    atomic_fetch_add(&server->connections, 1);
    if (!io_thread_adopt(least_loaded(server), fd, listener->kind, client)) {
        atomic_fetch_sub(&server->connections, 1);
        close(fd);
    }
}

static void on_connections(uv_poll_t *poll, int status, int events);

static void on_pause_over(uv_timer_t *timer)
{
    struct listener *listener = timer->data;
    uv_poll_start(&listener->poll, UV_READABLE, on_connections);
}

/* Leaves connections waiting for a moment: the socket would stay readable, and the loop would spin. */
static void pause_accepting(struct listener *listener, int error)
{
    char what[128];
    snprintf(what, sizeof what, "cannot accept connections for now: %s", strerror(error));
    complain(listener, what);
    uv_poll_stop(&listener->poll);
    uv_timer_start(&listener->pause, on_pause_over, PAUSE_MS, 0);
}

static void on_connections(uv_poll_t *poll, int status, int events)
{
    struct listener *listener = poll->data;
    (void)events;
    if (status < 0) {
        return;
    }
    for (int i = 0; i < ACCEPTS_A_TURN; i++) {
        int fd = accept4(listener->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0) {
            hand_over(listener, fd);
        } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
            return;
        } else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
            pause_accepting(listener, errno);
            return;
        }
        /* Else the connection was gone before it was accepted, or a signal came: the next, please. */
    }
}

/* ---- open, close ---- */

/* A listening TCP socket; -1: cannot. */
static int listen_tcp(const struct address *address, struct address *bound, struct reason *reason)
{
    char text[ADDRESS_TEXT_BYTES];
    const int on = 1;
    int fd = socket(address->name.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    address_text(address, text);
    if (fd < 0) {
        reason_set(reason, "cannot make a socket for %s: %s", text, strerror(errno));
        return -1;
    }
    /* Addresses of connections that a daemon before this one closed may still be in use for a minute. */
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (address->name.ss_family == AF_INET6) {
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
    }
    bound->is_tls = address->is_tls;
    bound->len = sizeof bound->name;
    if (bind(fd, (const struct sockaddr *)&address->name, address->len) != 0 || listen(fd, BACKLOG) != 0 ||
        getsockname(fd, (struct sockaddr *)&bound->name, &bound->len) != 0) {
        reason_set(reason, "cannot listen on %s: %s%s", text, strerror(errno),
                   errno == EADDRINUSE ? " by another program" : "");
        close(fd);
        return -1;
    }
    return fd;
}

/* The listening socket of either kind. */
static bool open_socket(struct listener *listener, const struct address *address, struct address *bound,
                        struct reason *reason)
{
    listener->kind = address_is_unix(address) ? PEER_UNIX : address->is_tls ? PEER_TLS : PEER_TCP;
    if (listener->kind != PEER_UNIX) {
        listener->fd = listen_tcp(address, bound, reason);
        return listener->fd >= 0;
    }
    *bound = *address;
    if (!unix_socket_open(&listener->unix_socket, address, BACKLOG, reason)) {
        return false;
    }
    listener->fd = listener->unix_socket.fd;
    return true;
}

struct listener *listener_open(struct server *server, const struct address *address, struct address *bound,
                               struct reason *reason)
{
    struct listener *listener = calloc(1, sizeof *listener);
    if (listener == NULL) {
        reason_set(reason, "no memory for a listener");
        return NULL;
    }
    listener->server = server;
    if (!open_socket(listener, address, bound, reason)) {
        free(listener);
        return NULL;
    }
    return listener;
}

bool listener_give(struct listener *listener, uid_t uid, gid_t gid, struct reason *reason)
{
    return listener->kind != PEER_UNIX || unix_socket_give(&listener->unix_socket, uid, gid, reason);
}

bool listener_watch(struct listener *listener, struct reason *reason)
{
    uv_loop_t *loop = &listener->server->threads[0]->loop;
    int status = uv_poll_init(loop, &listener->poll, listener->fd);
    if (status != 0) {
        return reason_set(reason, "cannot watch a socket: %s", uv_strerror(status));
    }
    uv_timer_init(loop, &listener->pause);
    listener->poll.data = listener;
    listener->pause.data = listener;
    listener->open_handles = 2;
    return true;
}

void listener_start(struct listener *listener)
{
    uv_poll_start(&listener->poll, UV_READABLE, on_connections);
}

static void on_closed(uv_handle_t *handle)
{
    struct listener *listener = handle->data;
    if (--listener->open_handles == 0) {
        free(listener);
    }
}

void listener_close(struct listener *listener)
{
    bool is_watched = listener->open_handles > 0;
    if (is_watched) {
        uv_close((uv_handle_t *)&listener->poll, on_closed);
        uv_close((uv_handle_t *)&listener->pause, on_closed);
    }
    /* A poll handle lets its file be closed as soon as it is stopped, and uv_close() has stopped it. */
    close(listener->fd);
    if (listener->kind == PEER_UNIX) {
        unix_socket_remove(&listener->unix_socket);
    }
    if (!is_watched) {
        free(listener);
    }
}
