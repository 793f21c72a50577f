/* io_thread.h -- a loop and the connections on it.  Its turn is drawn in io_thread.c. */
#ifndef HEAPD_SERVER_IO_THREAD_H
#define HEAPD_SERVER_IO_THREAD_H

#include "../protocol/rpc.h"
#include "peer.h"
#include "step.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

struct conn;
struct server;

/* A connection on its way from the listener to its loop. */
struct arrival {
    struct arrival *next;
    int fd;
    enum peer_kind kind;
    uint64_t client;
};

/* The phases of a thread's life; each leads to the next. */
enum io_phase {
    IO_RUNNING,
    IO_LAST_CALL, /* a stop is wanted; takes in what has already arrived */
    IO_DRAINING,  /* reads no more; connections close as soon as they owe nothing */
    IO_ENDED      /* its handles are closing; the loop returns */
};

/* Everything belongs to the thread but where it says otherwise. */
struct io_thread {
    struct server *server;
    struct rpc_thread *rpc;
    uv_loop_t loop;
    uv_thread_t thread; /* of threads[1..] */
    bool is_main;       /* threads[0] */
    bool is_started;    /* `thread` is there */
    enum io_phase phase;
    unsigned last_turns; /* that IO_LAST_CALL still lasts */

    uv_async_t wake;     /* arrivals, or a stop; any thread sends */
    uv_check_t check;    /* after each poll: the turn */
    uv_idle_t busy;      /* active exactly while wants_run: the next poll does not wait */
    uv_timer_t pace;     /* resumes connections that rest; active while there are any */
    uv_timer_t held;     /* a connection that was held may go on; active while there is one */
    uv_timer_t coarse;   /* looks for silent connections; active while there are any */
    uv_timer_t deadline; /* of draining */
    struct step step;    /* slices of the heap's work */

    struct conn *conns;           /* doubly linked */
    struct conn *resting;         /* linked; those whose replies are not read as fast as they come */
    unsigned dismissed;           /* connections of `conns` that were turned away */
    bool wants_run;               /* rpc_thread_run() has something to do */
    size_t read_budget;           /* bytes that this turn may still read */
    uint32_t turn;                /* counts them, as far as they ran something */
    size_t unfinished;            /* the sum over `conns` of theirs */
    uint64_t bytes_in, bytes_out; /* of this turn */
    char discard[4096];           /* what refused connections say is read into here */
    char tls_input[65536];        /* what comes encrypted */
    char http_input[65536];       /* what those say that speak HTTP */

    _Atomic unsigned load;    /* connections, those on their way included; any thread reads */
    _Atomic bool stop_wanted; /* any thread sets it */
    _Atomic bool run_wanted;  /* any thread sets it: rpc_thread_run() has something to do */
    uv_mutex_t mutex;         /* guards the arrivals, in order */
    struct arrival *first, *last;
};

/* NULL: no memory or no files. */
struct io_thread *io_thread_create(struct server *server, bool is_main);
/* Gives it a thread.  Not for threads[0]. */
bool io_thread_start(struct io_thread *thread);
/* Runs the loop until it has ended. */
void io_thread_run(struct io_thread *thread);
/* Waits for its thread, if it has one, and frees it, whether it ever ran or not.  Whether nothing was left on
 * the loop. */
bool io_thread_destroy(struct io_thread *thread);

/* ---- any thread ---- */

/* Gives it a connection.  false: no memory, and the caller keeps `fd`. */
bool io_thread_adopt(struct io_thread *thread, int fd, enum peer_kind kind, uint64_t client);
/* Answers what was received, then ends; threads[0] ends after the others. */
void io_thread_stop(struct io_thread *thread);
/* Makes the loop turn. */
void io_thread_wake(struct io_thread *thread);
/* Makes it turn and run what has come from elsewhere. */
void io_thread_wake_to_run(struct io_thread *thread);

/* ---- for its connections ---- */

/* rpc_thread_run() is due in this turn, or in the next when this one is past it. */
void io_thread_want_run(struct io_thread *thread);
/* Resumes a connection that rests, in a moment. */
void io_thread_rest(struct io_thread *thread, struct conn *conn);
/* Silent connections are looked for within a second or two, however long the time limits are. */
void io_thread_look_soon(struct io_thread *thread);
void io_thread_add(struct io_thread *thread, struct conn *conn);
void io_thread_remove(struct io_thread *thread, struct conn *conn);
/* A connection that was handed over will not be added. */
void io_thread_forget(struct io_thread *thread);

#endif
