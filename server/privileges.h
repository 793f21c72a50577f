/* privileges.h -- who the daemon is: --user. */
#ifndef HEAPD_SERVER_PRIVILEGES_H
#define HEAPD_SERVER_PRIVILEGES_H

#include "reason.h"

#include <stdbool.h>
#include <sys/types.h>

/* Who to become. */
struct privileges {
    bool is_wanted; /* else the rest is void */
    uid_t uid;
    gid_t gid;
};

/* Looks the user up; "" is nobody else.  It must be root who asks, or already that user. */
bool privileges_find(struct privileges *privileges, const char *name, struct reason *reason);
/* Who the daemon is, or will be: whose files it may trust besides root's. */
uid_t privileges_owner(const struct privileges *privileges);
/* Becomes that user, with its groups, for good: no way leads back.  While there is one thread only. */
bool privileges_drop(const struct privileges *privileges, const char *name, struct reason *reason);

#endif
