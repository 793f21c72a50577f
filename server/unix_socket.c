/* unix_socket.c -- a listening Unix socket and the lock that says it is ours.
 *
 * Start at unix_socket_open().
 */
#include "unix_socket.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- folder ---- */

bool unix_socket_check_folder(const struct address *address, struct reason *reason)
{
    char folder[ADDRESS_TEXT_BYTES];
    struct stat info;
    snprintf(folder, sizeof folder, "%s", address_path(address));
    char *slash = strrchr(folder, '/');
    if (slash == NULL || slash == folder) {
        return true;
    }
    *slash = '\0';
    if (mkdir(folder, 0700) != 0 && errno != EEXIST) {
        return reason_set(reason, "cannot make the folder %s of the socket: %s", folder, strerror(errno));
    }
    if (lstat(folder, &info) != 0) {
        return reason_set(reason, "cannot look at the folder %s of the socket: %s", folder, strerror(errno));
    }
    if (!S_ISDIR(info.st_mode)) {
        return reason_set(
            reason, "%s, the folder of the socket, is no directory (a symbolic link is none, either)", folder);
    }
    if (info.st_uid != geteuid()) {
        return reason_set(reason, "%s, the folder of the socket, belongs to user %lu, not to us", folder,
                          (unsigned long)info.st_uid);
    }
    if ((info.st_mode & 0777) != 0700) {
        return reason_set(reason, "%s, the folder of the socket, has mode %04o; it must be 0700 (chmod 700 %s)",
                          folder, (unsigned)info.st_mode & 0777, folder);
    }
    return true;
}

/* ---- lock ---- */

static void lock_path(const struct address *address, char path[PATH_MAX])
{
    snprintf(path, PATH_MAX, "%s.lock", address_path(address));
}

/* Whether the open file is the one that has this path now. */
static bool is_file_at(int fd, const char *path)
{
    struct stat open_file, at_path;
    return fstat(fd, &open_file) == 0 && lstat(path, &at_path) == 0 && open_file.st_dev == at_path.st_dev &&
           open_file.st_ino == at_path.st_ino;
}

/* Takes the lock; -1: somebody has it, or it cannot be made. */
static int lock(const struct address *address, struct reason *reason)
{
    char path[PATH_MAX];
    lock_path(address, path);
    for (;;) {
        int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (fd < 0) {
            reason_set(reason, "cannot open the lock file %s: %s", path, strerror(errno));
            return -1;
        }
        if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
            reason_set(reason, "another heapd is running on unix:%s (it has locked %s)", address_path(address),
                       path);
            close(fd);
            return -1;
        }
        if (is_file_at(fd, path)) {
            return fd;
        }
        /* The owner before us removed the file between our open and our lock: a new one is there. */
        close(fd);
    }
}

/* ---- socket ---- */

/* Whether nobody listens at the socket any more.  A refusal is the only sign of that. */
static bool is_stale(const struct address *address)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        return false;
    }
    bool refused =
        connect(fd, (const struct sockaddr *)&address->name, address->len) != 0 && errno == ECONNREFUSED;
    close(fd);
    return refused;
}

/* Makes way for a new socket: nothing there, or a stale one. */
static bool remove_stale(const struct address *address, struct reason *reason)
{
    const char *path = address_path(address);
    struct stat info;
    if (lstat(path, &info) != 0) {
        return errno == ENOENT || reason_set(reason, "cannot look at %s: %s", path, strerror(errno));
    }
    if (!S_ISSOCK(info.st_mode)) {
        return reason_set(reason, "%s exists and is no socket; remove it or listen elsewhere", path);
    }
    if (!is_stale(address)) {
        return reason_set(reason, "another program is listening on unix:%s", path);
    }
    return unlink(path) == 0 || errno == ENOENT ||
           reason_set(reason, "cannot remove the stale socket %s: %s", path, strerror(errno));
}

/* Binds so that the socket has mode 0600 from its first moment.  The mask is the process's: no other
 * thread runs yet. */
static int bind_private(int fd, const struct address *address)
{
    mode_t mask = umask(0177);
    int status = bind(fd, (const struct sockaddr *)&address->name, address->len);
    int error = errno;
    umask(mask);
    errno = error;
    return status;
}

static bool bind_and_listen(struct unix_socket *unix_socket, int backlog, struct reason *reason)
{
    const char *path = address_path(&unix_socket->address);
    struct stat info;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        return reason_set(reason, "cannot make a socket: %s", strerror(errno));
    }
    if (bind_private(fd, &unix_socket->address) != 0) {
        reason_set(reason, "cannot bind unix:%s: %s", path, strerror(errno));
        goto fail_bind;
    }
    if (listen(fd, backlog) != 0 || lstat(path, &info) != 0) {
        reason_set(reason, "cannot listen on unix:%s: %s", path, strerror(errno));
        goto fail_listen;
    }
    unix_socket->fd = fd;
    unix_socket->device = info.st_dev;
    unix_socket->inode = info.st_ino;
    return true;

fail_listen:
    unlink(path);
fail_bind:
    close(fd);
    return false;
}

/* ---- open, remove ---- */

bool unix_socket_open(struct unix_socket *unix_socket, const struct address *address, int backlog,
                      struct reason *reason)
{
    char path[PATH_MAX];
    unix_socket->address = *address;
    unix_socket->lock_fd = lock(address, reason);
    if (unix_socket->lock_fd < 0) {
        return false;
    }
    if (!remove_stale(address, reason) || !bind_and_listen(unix_socket, backlog, reason)) {
        lock_path(address, path);
        unlink(path);
        close(unix_socket->lock_fd);
        return false;
    }
    return true;
}

bool unix_socket_give(const struct unix_socket *unix_socket, uid_t uid, gid_t gid, struct reason *reason)
{
    const char *path = address_path(&unix_socket->address);
    struct stat info;
    /* The folder may be anybody's, and a path may name another file at any time: so the file itself is held, and
     * changes hands only if it is the socket. */
    int fd = open(path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    bool is_ours = fd >= 0 && fstat(fd, &info) == 0 && info.st_dev == unix_socket->device &&
                   info.st_ino == unix_socket->inode;
    bool ok = is_ours && fchownat(fd, "", uid, gid, AT_EMPTY_PATH) == 0 && fchown(unix_socket->lock_fd, uid, gid) == 0;
    if (!ok) {
        reason_set(reason, "cannot give the socket %s to user %lu: %s", path, (unsigned long)uid,
                   fd < 0 || is_ours ? strerror(errno) : "it was replaced");
    }
    if (fd >= 0) {
        close(fd);
    }
    return ok;
}

void unix_socket_remove(struct unix_socket *unix_socket)
{
    const char *path = address_path(&unix_socket->address);
    char lock_file[PATH_MAX];
    struct stat info;
    if (lstat(path, &info) == 0 && info.st_dev == unix_socket->device && info.st_ino == unix_socket->inode) {
        unlink(path);
    }
    lock_path(&unix_socket->address, lock_file);
    if (is_file_at(unix_socket->lock_fd, lock_file)) {
        unlink(lock_file);
    }
    close(unix_socket->lock_fd);
}
