/* listener.h -- an address that is listened on. */
#ifndef HEAPD_SERVER_LISTENER_H
#define HEAPD_SERVER_LISTENER_H

#include "address.h"
#include "reason.h"

#include <stdbool.h>
#include <sys/types.h>

struct listener;
struct server;

/* Binds and listens.  *bound is the address with its real port.  NULL: cannot. */
struct listener *listener_open(struct server *server, const struct address *address, struct address *bound,
                               struct reason *reason);
/* A Unix socket belongs to that user from here on. */
bool listener_give(struct listener *listener, uid_t uid, gid_t gid, struct reason *reason);
/* Puts it on the loop of threads[0]. */
bool listener_watch(struct listener *listener, struct reason *reason);
/* Accepts from now on. */
void listener_start(struct listener *listener);
/* Stops listening; a Unix socket and its lock are removed.  Freed when the loop has turned. */
void listener_close(struct listener *listener);

#endif
