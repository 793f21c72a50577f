/* privileges.c -- who the daemon is: --user. */
#include "privileges.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

bool privileges_find(struct privileges *privileges, const char *name, struct reason *reason)
{
    *privileges = (struct privileges){.is_wanted = false};
    if (name[0] == '\0') {
        return true;
    }
    errno = 0;
    const struct passwd *entry = getpwnam(name);
    if (entry == NULL) {
        return reason_set(reason, "--user: there is no user %.100s%s%s", name, errno != 0 ? ": " : "",
                          errno != 0 ? strerror(errno) : "");
    }
    if (geteuid() != 0 && geteuid() != entry->pw_uid) {
        return reason_set(reason, "--user: only root can become %.100s", name);
    }
    *privileges = (struct privileges){.is_wanted = geteuid() == 0, .uid = entry->pw_uid, .gid = entry->pw_gid};
    return true;
}

uid_t privileges_owner(const struct privileges *privileges)
{
    return privileges->is_wanted ? privileges->uid : geteuid();
}

bool privileges_drop(const struct privileges *privileges, const char *name, struct reason *reason)
{
    if (!privileges->is_wanted) {
        return true;
    }
    if (initgroups(name, privileges->gid) != 0 || setresgid(privileges->gid, privileges->gid, privileges->gid) != 0 ||
        setresuid(privileges->uid, privileges->uid, privileges->uid) != 0) {
        return reason_set(reason, "--user: cannot become %.100s: %s", name, strerror(errno));
    }
    if (privileges->uid != 0 && (setuid(0) == 0 || geteuid() != privileges->uid)) {
        return reason_set(reason, "--user: root could be had again after becoming %.100s", name);
    }
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    return true;
}
