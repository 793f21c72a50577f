/* daemon.h -- the real daemon, started for a test in a folder of its own.
 *
 * It listens on a Unix socket in a temporary folder and on a free TCP port.  daemon_stop() asks it to end
 * with SIGTERM and demands exit code 0 and silence from every sanitizer.  With HEAPD_TEST_ENDPOINT=host:port
 * tests use a daemon that runs already, in a debugger say; those that need options or its process skip.
 * HEAPD_TEST_ARGUMENTS ("--threads 4") is given to every daemon that is started.
 */
#ifndef HEAPD_TESTS_DAEMON_H
#define HEAPD_TESTS_DAEMON_H

#include <stdbool.h>
#include <sys/types.h>

struct daemon {
    pid_t pid;       /* 0: runs elsewhere, see HEAPD_TEST_ENDPOINT */
    char folder[64]; /* temporary; removed by daemon_stop() */
    char socket[96]; /* path of the Unix socket; "" when it runs elsewhere */
    char host[128];
    int port;
    char ready[512]; /* the ready line */
    int out;         /* its stdout */
};

/* Starts a daemon with these further arguments (ended by NULL; NULL: none) and waits for its ready line. */
struct daemon *daemon_start(const char *const arguments[]);
/* The same with `listen` instead of the two usual addresses. */
struct daemon *daemon_start_at(const char *const listen[], const char *const arguments[]);
/* SIGTERM, exit code 0, no complaint in its log; frees. */
void daemon_stop(struct daemon *daemon);
/* Waits for its end after somebody else asked for it, with the same demands; frees. */
void daemon_wait(struct daemon *daemon);
/* kill -9, no demands; frees. */
void daemon_kill(struct daemon *daemon);
/* What it has written to stderr so far, malloc'ed. */
char *daemon_log(const struct daemon *daemon);
/* Bytes of memory the kernel charges it; 0 when it runs elsewhere. */
long daemon_resident_bytes(const struct daemon *daemon);
bool daemon_is_elsewhere(void);

#endif
