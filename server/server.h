/* server.h -- the daemon as a whole: what its threads share, and who may touch it.
 *
 *   server ---- service         the heap behind protocol/rpc.h
 *          ---- threads[0]      runs on the main thread: signals, listeners, connections
 *          ---- threads[1..]    connections only
 *          ---- listeners       accept on the loop of threads[0], hand over to the loop with the fewest
 *
 *   starting -> running -> stopping -> gone
 *
 * running -> stopping: a signal, or server.shutdown from any thread.  In stopping no address is listened on,
 *   every thread reads no more, answers what it has received, and ends when its connections are gone; the
 *   loop of threads[0] ends last.
 *
 * What is not atomic below is written before threads run and then left alone, or belongs to the main thread
 * where it says so.
 */
#ifndef HEAPD_SERVER_SERVER_H
#define HEAPD_SERVER_SERVER_H

#include "../protocol/rpc.h"
#include "config.h"
#include "io_thread.h"
#include "journal.h"
#include "listener.h"
#include "log.h"
#include "privileges.h"
#include "tls.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

/* How long clients may take to read the last replies of a daemon that stops. */
#define SERVER_FLUSH_MS 5000u

struct server {
    struct log log;
    struct config config; /* as it is now; config_mutex guards what may change while threads run */
    uv_mutex_t config_mutex;
    int argc;             /* the command line, to read the configuration again */
    char *const *argv;
    struct rpc_service *service;
    struct privileges privileges;   /* who it is to become, or has become */
    struct tls_context *tls; /* NULL: no certificate was given */
    struct journal_thread *journal; /* NULL: nothing is kept */
    struct io_thread *threads[CONFIG_THREADS_MAX];
    unsigned thread_count;

    /* main thread */
    struct listener *listeners[CONFIG_LISTEN_MAX];
    struct address bound[CONFIG_LISTEN_MAX]; /* where they listen, real ports in it */
    size_t listener_count;
    uv_signal_t signals[3]; /* on the loop of threads[0], which they do not keep alive */
    uv_timer_t lease;       /* the same: when a lease may have run out */
    bool is_stopping;
    bool is_announced;      /* the ready line is out */
    bool reload_waits;      /* SIGHUP came before that */
    bool has_failed;        /* the exit code says so */

    /* any thread */
    _Atomic uint64_t max_clients;                          /* 0: no limit */
    _Atomic bool stop_wanted;
    _Atomic uint64_t lease_due_ms; /* uv_hrtime() in ms, when `lease` is to be set to; 0: as it is */
    _Atomic unsigned threads_running;                      /* of threads[1..] */
    _Atomic uint64_t connections;                          /* open now */
    _Atomic uint64_t accepted;                             /* ever; the last one's number */
    _Atomic uint64_t idle_timeout_s, first_byte_timeout_s; /* 0: never */
    _Atomic uint64_t max_output, max_request;              /* bytes; 0: no limit */
    _Atomic unsigned exports;                              /* over HTTP, whose files are there */
};

/* Runs the daemon with this configuration until it is told to stop.  Returns the exit code. */
int server_run(const struct config *config, int argc, char *const argv[]);

/* Whether the files that the configuration names are as they must be, and --user is one to become. */
bool server_check_files(const struct config *config, struct reason *reason);

/* Whether who comes over TCP must show a token.  Never changes. */
bool server_wants_tokens(const struct server *server);

/* The loop of threads[0] was woken: somebody may have asked for a stop. */
void server_woken(struct server *server);

#endif
