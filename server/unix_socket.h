/* unix_socket.h -- a listening Unix socket and the lock that says it is ours.
 *
 *   PATH         the socket, mode 0600
 *   PATH.lock    an empty file; whoever holds its flock(2) owns PATH
 *
 * With the lock in hand a socket that nobody answers at is a stale one, left by a daemon that was killed,
 * and is replaced.  unix_socket_remove() removes the socket, if it is still the one that was bound, and then
 * the lock file.  libuv never sees the path: it would remove whatever lies there when it closes.
 */
#ifndef HEAPD_SERVER_UNIX_SOCKET_H
#define HEAPD_SERVER_UNIX_SOCKET_H

#include "address.h"
#include "reason.h"

#include <stdbool.h>
#include <sys/types.h>

struct unix_socket {
    int fd;      /* the listening socket, non-blocking */
    int lock_fd; /* holds the lock */
    struct address address;
    dev_t device; /* which file the socket is */
    ino_t inode;
};

/* The folder of the default socket: ours, a real directory, 0700.  Made when it is missing. */
bool unix_socket_check_folder(const struct address *address, struct reason *reason);
/* Locks, binds and listens. */
bool unix_socket_open(struct unix_socket *unix_socket, const struct address *address, int backlog,
                      struct reason *reason);
/* The files belong to that user from here on, who may then remove them if the folder lets it. */
bool unix_socket_give(const struct unix_socket *unix_socket, uid_t uid, gid_t gid, struct reason *reason);
/* Removes the files and lets go of the lock.  Does not close `fd`, which has an owner by then. */
void unix_socket_remove(struct unix_socket *unix_socket);

#endif
