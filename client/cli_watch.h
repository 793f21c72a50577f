/* cli_watch.h -- commands that go on until they are interrupted: looks at an interval, or events. */
#ifndef HEAPD_CLIENT_CLI_WATCH_H
#define HEAPD_CLIENT_CLI_WATCH_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

#include "cli_session.h"

/* One such command.  While it lasts SIGINT and SIGTERM are blocked and read from `signal_fd`, so that it
 * ends between two looks and not within one. */
struct cli_watch {
    struct cli_session *session;
    int64_t period_ms; /* between looks; 0: look once */
    uint64_t left;     /* looks, or events, still to come; UINT64_MAX: no limit */
    int signal_fd;
    sigset_t before; /* the signal mask to go back to */
    bool is_interrupted;
    enum cli_exit code; /* CLI_EXIT_OK, or why it ended */
};

/* cli_watch_begin -- from the params "watch" and "count" of the call.  Complains and returns false when
 * they do not fit together; else cli_watch_end() must follow. */
bool cli_watch_begin(struct cli_watch *watch, struct cli_session *session, const struct cli_call *call);

/* cli_watch_next -- after a look: shows what was printed, and waits until it is time for the next one.
 * False: there is none, `code` says why. */
bool cli_watch_next(struct cli_watch *watch);

/* cli_watch_events -- lets the events that are there be delivered, else waits for one.  False: interrupted,
 * or the connection is gone, which it complains about. */
bool cli_watch_events(struct cli_watch *watch);

void cli_watch_end(struct cli_watch *watch);

/* cli_watch_clear -- for a command that redraws: an empty screen, on a terminal. */
void cli_watch_clear(const struct cli_watch *watch);

#endif
