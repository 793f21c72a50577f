/* rpc_internal.h -- what the files behind rpc.h share: service, thread, connection, request.
 *
 *   service -- threads -- connections -- requests waiting to run
 *
 *   rpc_service.c   the service: heap, limits, counters
 *   rpc_conn.c      a connection: bytes in, framing, replies not yet sent
 *   envelope.c      a line into requests (no GIL)
 *   params.c        the parameters of a request against the method's row (no GIL)
 *   rpc.c           a turn: the GIL, running requests, writing replies
 *   question.c      requests that a worker thread answers
 *   call.c          what the handlers (method_*.c) share
 *
 * A connection with requests is on its thread's `ready` list; one that the server has to look after is on
 * its `notice` list.  Threads and what hangs from them belong to one thread and have no locks; a service's
 * atomics may be touched by anybody, the rest of it is guarded by its mutex or never changes.
 */
#ifndef HEAPD_PROTOCOL_RPC_INTERNAL_H
#define HEAPD_PROTOCOL_RPC_INTERNAL_H

#include "../heap/heap.h"
#include "errmap.h"
#include "fault.h"
#include "frame.h"
#include "json_writer.h"
#include "method.h"
#include "rpc.h"
#include "slowlog.h"
#include "turn.h"

#include <pthread.h>
#include <stdatomic.h>

/* ---- service ---- */

/* The limits as threads read them while others change them. */
struct rpc_shared_limits {
#define X(member, name, unit, fallback, largest, doc) _Atomic uint64_t member;
    RPC_LIMIT_MAP(X)
#undef X
};

/* What one thread has counted; only that thread writes, anybody reads. */
struct rpc_counters {
    _Atomic uint64_t requests, notifications;
    _Atomic uint64_t errors[RPC_ERROR_COUNT];
};

/* The questions of a service, and the worker that answers them. */
struct question_desk {
    pthread_mutex_t mutex;   /* guards what follows, and the threads' `answers` */
    pthread_cond_t asked;    /* a question has come, or the end */
    pthread_cond_t answered; /* a thread has got an answer */
    pthread_t worker;        /* when has_worker */
    bool has_worker, is_ending;
    struct question *first, *last; /* that wait for the worker; last is void when first is NULL */
};

struct rpc_service {
    struct heap *heap;
    struct rpc_shared_limits limits;
    struct rpc_host host;
    struct method_index index;
    struct slowlog slowlog;
    struct question_desk desk;
    char heap_token[33]; /* random, in hex: tells one heap from the next */
    uint64_t started_ms; /* CLOCK_MONOTONIC at creation */
    _Atomic uint64_t bytes_in, bytes_out;
    _Atomic uint64_t sessions_unmade; /* connections that have not needed a heap session yet */
    pthread_mutex_t mutex;            /* guards what follows */
    struct rpc_thread *threads;
    struct rpc_counters retired; /* of threads that are gone; atomics for uniformity */
    char *discovery;             /* the text of rpc.discover; NULL until somebody asked */
};

/* Nesting can never be deeper, whatever max-depth says. */
#define RPC_DEPTH_MAX 2000u

/* A limit as it is now. */
#define RPC_LIMIT(service, member) atomic_load_explicit(&(service)->limits.member, memory_order_relaxed)

/* Adds one to a counter of this thread. */
static inline void rpc_count(_Atomic uint64_t *counter)
{
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + 1,
                          memory_order_relaxed);
}

/* The sum over all threads, those that are gone included. */
struct rpc_counts {
    uint64_t requests, notifications;
    uint64_t errors[RPC_ERROR_COUNT];
};
void rpc_service_counts(struct rpc_service *service, struct rpc_counts *counts);
/* The text of rpc.discover, made when first asked for; NULL: no memory.  Valid as long as the service. */
const char *rpc_service_discovery(struct rpc_service *service);
/* Whole seconds since it was created. */
uint64_t rpc_service_uptime_s(const struct rpc_service *service);
/* rpc_service_set_limits() with the GIL held. */
void rpc_service_use_limits(struct rpc_service *service, const struct rpc_limits *limits);
/* The heap's part of the limits. */
struct heap_limits rpc_heap_limits(const struct rpc_limits *limits);

/* ---- requests ---- */

enum request_flag {
    REQUEST_NOTIFICATION = 1, /* has no id: no reply */
    REQUEST_SHORT = 2,        /* had no `jsonrpc`: its reply has none */
    REQUEST_IN_BATCH = 4,     /* an element of a batch */
    REQUEST_BATCH_FIRST = 8,  /* its first element */
    REQUEST_BATCH_LAST = 16,  /* its last */
};

/* One request of a connection, or what takes its place when it could not be read: a reply that is ready.
 * Lies in its turn and borrows from the request's bytes. */
struct request {
    struct request *next;        /* of the connection, in order */
    struct turn *turn;           /* where it lies; counted as a user of it */
    const struct method *method; /* NULL: it is answered with `reply` */
    const char *id;              /* as written; NULL: none */
    size_t id_len;
    size_t bytes;         /* of its text */
    unsigned flags;       /* enum request_flag */
    enum rpc_error error; /* of `reply`, for the counters */
    const char *reply;    /* text, without newline; NULL for a notification */
    size_t reply_len;
    method_arg args[]; /* method->param_count of them */
};

/* Whether its arguments make it one for the worker. */
bool request_is_question(const struct request *request);

/* ---- connections ---- */

/* A doubly linked list through the connections of a thread. */
struct conn_link {
    struct rpc_conn *prev, *next;
    bool linked;
};
struct conn_list {
    struct rpc_conn *first, *last;
};

struct rpc_conn {
    struct rpc_thread *thread;
    struct heap_session *session; /* NULL until the first request that needs the heap */
    uint64_t client;
    void *user;
    struct conn_link ready, notice;

    /* input */
    struct frame frame;
    struct turn_block *partial; /* the bytes of the unfinished line; NULL: none */
    char *reading;              /* where the bytes of the read under way follow the unfinished line's */
    size_t reading_prefix;      /* how many of the unfinished line are in front of them there */
    bool reading_partial;       /* `reading` is in `partial`, not in the thread's turn */
    bool eof;                   /* nothing comes any more */

    /* requests that have not run */
    struct request *first, *last;
    struct question *question; /* that `first` is, and which is being answered; nothing runs meanwhile */

    /* replies */
    struct out out;
    size_t sent;            /* bytes of out that are on their way */
    size_t unsent_before;   /* unsent bytes when the run under way began */
    size_t batch_start;     /* where in out the batch under way begins; void outside of one */
    uint64_t batch_replies; /* how many of its elements were answered */
    const char *must_close; /* why; NULL: it need not */
};

struct rpc_thread {
    struct rpc_service *service;
    struct rpc_thread *next; /* of the service */
    void *user;              /* what its host knows it by */
    struct turn *turn;       /* the one being filled */
    struct turn *idle;       /* empty ones */
    struct conn_list ready;  /* with requests to run, in order of arrival */
    struct conn_list notice; /* for rpc_thread_next() */
    struct rpc_conn *buried; /* destroyed, their sessions still alive; linked by ready.next */
    struct rpc_counters counters;
    struct fault fault; /* of the request in hand */
    uint64_t began;     /* slowlog_ticks() when the request in hand could begin to run */
    uint64_t waited;    /* ticks of this run that its requests waited for the GIL */
    uint64_t aimed_ms;  /* when slowlog_aim() was called last */
    struct out scratch; /* for replies that are written before their time */

    uint32_t questions;        /* asked, and not destroyed */
    struct question *answers;  /* answered ones, to be taken; guarded by the desk's mutex */
    _Atomic bool has_answers;  /* there are some */
};

void conn_list_add_ready(struct rpc_thread *thread, struct rpc_conn *conn);
void conn_list_add_notice(struct rpc_thread *thread, struct rpc_conn *conn);
void conn_list_remove_ready(struct rpc_thread *thread, struct rpc_conn *conn);
void conn_list_remove_notice(struct rpc_thread *thread, struct rpc_conn *conn);

/* Bytes of replies that wait. */
static inline size_t conn_unsent(const struct rpc_conn *conn)
{
    return conn->out.len - conn->sent;
}
/* The connection cannot go on; the first reason stays. */
void conn_must_close(struct rpc_conn *conn, const char *reason);
/* Drops the first request, which has run. */
void conn_drop_first(struct rpc_conn *conn);
/* Drops all requests. */
void conn_drop_requests(struct rpc_conn *conn);

/* Lets go of a turn; keeps it for later when nobody uses it. */
void thread_release_turn(struct rpc_thread *thread, struct turn *turn);

/* ---- envelope.c ---- */

/* Reads a line into requests at the end of the connection's. */
void envelope_read_line(struct rpc_conn *conn, const struct frame_line *line);
/* The answer to an over-long line. */
void envelope_too_long(struct rpc_conn *conn);

/* ---- params.c ---- */

enum params_result {
    PARAMS_OK,
    PARAMS_FAULT,  /* invalid_params, in *fault */
    PARAMS_SYNTAX, /* the text is no JSON: the cursor knows */
    PARAMS_NO_MEMORY
};
/* Binds the array or object at the cursor to a method's parameters; `args` has room for them.  After
 * PARAMS_FAULT the cursor is anywhere.  Strings with escapes are decoded into `turn`. */
enum params_result params_bind(struct json_cursor *cursor, const struct method *method, method_arg *args,
                               struct turn *turn, struct fault *fault);
/* No params at all. */
enum params_result params_bind_none(const struct method *method, method_arg *args, struct fault *fault);

/* ---- question.c ---- */

/* A request that the worker answers. */
struct question {
    struct question *next; /* at the desk, then of its thread's answers */
    struct rpc_thread *thread;
    struct rpc_conn *conn;         /* whose first request it is; NULL: that is gone.  The thread's */
    const struct request *request; /* lies in a turn of which the question is a user */
    _Atomic bool cancel;           /* nobody wants the answer any more; set under the desk's mutex */
    uint64_t asked;                /* slowlog_ticks() when it was asked */
    bool is_answered;              /* `out` is the reply, without newline; else `fault` says why not */
    struct out out;
    struct fault fault;
};

bool question_desk_init(struct question_desk *desk); /* false: no resources */
/* Ends the worker.  All threads must be gone. */
void question_desk_fini(struct question_desk *desk);
/* Asks the connection's first request.  false: no memory, or no thread to be had. */
bool question_ask(struct rpc_conn *conn);
/* Nobody waits for the answer to the connection's question, if it has one. */
void question_forget(struct rpc_conn *conn);
/* An answered question of the thread; NULL: none.  The caller destroys it. */
struct question *question_take(struct rpc_thread *thread);
void question_destroy(struct question *question);
/* Waits until all questions of the thread, forgotten by now, are done with, and destroys them. */
void question_wait_for_all(struct rpc_thread *thread);

/* ---- replies ---- */

/* The method's handler once, with the head of the reply before its result, from call->result_start on. */
bool reply_attempt(struct call *call, const struct request *request);

/* `{"jsonrpc":"2.0","id":ID,` with or without its first member. */
void reply_head(struct out *out, bool is_short, const char *id, size_t id_len);
/* A whole error reply, without newline.  id NULL: null. */
void reply_error(struct out *out, bool is_short, const char *id, size_t id_len, const struct fault *fault);

#endif
