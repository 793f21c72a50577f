/* notify.c -- tells the service manager how the daemon is, if it wants to know.
 *
 * The protocol is one datagram of NAME=VALUE lines, so this stands in for all of libsystemd.
 */
#include "notify.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

void notify_send(const char *state)
{
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    size_t len = path == NULL ? 0 : strlen(path);
    if (len < 2 || len >= sizeof name.sun_path || (path[0] != '/' && path[0] != '@')) {
        return;
    }
    memcpy(name.sun_path, path, len);
    if (path[0] == '@') {
        /* An abstract name begins with a NUL byte and has no end but its length. */
        name.sun_path[0] = '\0';
    }
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        return;
    }
    socklen_t name_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len);
    /* Nothing can be done about a manager that does not listen. */
    (void)!sendto(fd, state, strlen(state), MSG_NOSIGNAL, (const struct sockaddr *)&name, name_len);
    close(fd);
}
