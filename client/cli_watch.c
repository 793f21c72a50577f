/* cli_watch.c -- looks at an interval.   Start at cli_watch_next(). */
#include "cli_watch.h"

#include <errno.h>
#include <math.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

static int64_t now_of_watch_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

bool cli_watch_begin(struct cli_watch *watch, struct cli_session *session, const struct cli_call *call)
{
    const char *period = cli_call_value(call, "watch");
    const char *count = cli_call_value(call, "count");
    bool can_count = period != NULL || cli_method_param(call->method, "watch", 5) == NULL;
    *watch = (struct cli_watch){.session = session, .left = UINT64_MAX, .signal_fd = -1};
    if (count != NULL) {
        watch->left = strtoull(count, NULL, 10);
    }
    if (count != NULL && (!can_count || *count == '-' || watch->left == 0)) {
        cli_session_complain(session,
                             can_count ? "%s: --count must be at least 1" : "%s: --count goes with --watch",
                             call->method->name);
        return false;
    }
    if (period != NULL) {
        watch->period_ms = (int64_t)ceil(strtod(period, NULL) * 1000);
    }
    sigset_t ends;
    sigemptyset(&ends);
    sigaddset(&ends, SIGINT);
    sigaddset(&ends, SIGTERM);
    sigprocmask(SIG_BLOCK, &ends, &watch->before);
    watch->signal_fd = signalfd(-1, &ends, SFD_CLOEXEC | SFD_NONBLOCK);
    return true;
}

void cli_watch_end(struct cli_watch *watch)
{
    if (watch->signal_fd >= 0) {
        close(watch->signal_fd);
    }
    sigprocmask(SIG_SETMASK, &watch->before, NULL);
}

/* Takes the events, and notices the end of the connection. */
static bool take_events(struct cli_watch *watch, size_t *count)
{
    if (heapd_take_events(watch->session->client, count) == HEAPD_OK) {
        return true;
    }
    watch->code = cli_session_complain_reply(watch->session, watch->session->json);
    return false;
}

/* Waits for a signal, for something from the daemon, or until `deadline` (-1: for ever).  True: one of the
 * latter two. */
static bool wait_for(struct cli_watch *watch, int64_t deadline)
{
    int64_t left = deadline < 0 ? -1 : deadline - now_of_watch_ms();
    struct pollfd fds[2] = {{heapd_fd(watch->session->client), POLLIN, 0}, {watch->signal_fd, POLLIN, 0}};
    fflush(stdout);
    int ready = poll(fds, 2, deadline < 0 ? -1 : left > 0 ? (int)left : 0);
    struct signalfd_siginfo info;
    if (ready > 0 && fds[1].revents != 0 && read(watch->signal_fd, &info, sizeof info) > 0) {
        watch->is_interrupted = true;
        if (watch->session->style.is_terminal) {
            fputc('\n', stdout);
        }
        return false;
    }
    return ready >= 0 || errno == EINTR;
}

bool cli_watch_next(struct cli_watch *watch)
{
    if (watch->period_ms == 0 || (watch->left != UINT64_MAX && --watch->left == 0)) {
        return false;
    }
    int64_t deadline = now_of_watch_ms() + watch->period_ms;
    while (now_of_watch_ms() < deadline) {
        if (!wait_for(watch, deadline) || !take_events(watch, NULL)) {
            return false;
        }
    }
    return true;
}

bool cli_watch_events(struct cli_watch *watch)
{
    size_t count;
    /* Also when more keeps coming a signal is looked for. */
    return take_events(watch, &count) && wait_for(watch, count > 0 ? 0 : -1);
}

void cli_watch_clear(const struct cli_watch *watch)
{
    if (watch->session->style.is_terminal && watch->period_ms > 0) {
        fputs("\033[H\033[J", stdout);
    }
}
