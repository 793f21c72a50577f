/* journal.h -- the thread that keeps changes on disk: loads what was kept, then writes what comes.
 *
 *   journal_create   the folder is locked, and is known to hold a journal or nothing
 *   journal_start    the thread: loads everything, opens a new file, lets requests run; then writes, and makes durable as
 *                    the policy says, until
 *   journal_destroy  everything is on disk, as far as that had room
 */
#ifndef HEAPD_SERVER_JOURNAL_H
#define HEAPD_SERVER_JOURNAL_H

#include "reason.h"

#include <stdbool.h>

struct server;
struct journal_thread;

/* When a change is on disk, with the words of --fsync: before its reply is sent; at most a second later; when the
 * kernel likes. */
#define JOURNAL_POLICY_MAP(X)                                                                                  \
    X(JOURNAL_ALWAYS, "always")                                                                                \
    X(JOURNAL_EVERYSEC, "everysec")                                                                            \
    X(JOURNAL_NO, "no")

enum journal_policy {
#define X(policy, word) policy,
    JOURNAL_POLICY_MAP(X)
#undef X
};

/* How far it is. */
enum journal_state { JOURNAL_LOADING, JOURNAL_RUNNING, JOURNAL_FAILED };

/* After the service, before threads.  NULL: the reason says why not. */
struct journal_thread *journal_create(struct server *server, struct reason *reason);
/* false: no thread. */
bool journal_start(struct journal_thread *journal, struct reason *reason);
/* Any thread.  JOURNAL_FAILED: it has been logged; the daemon cannot go on. */
enum journal_state journal_state(const struct journal_thread *journal);
/* No thread runs requests any more.  Whether all that was acknowledged is on disk: that may have been full. */
bool journal_destroy(struct journal_thread *journal);

#endif
