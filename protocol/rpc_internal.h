/* rpc_internal.h -- what the files behind rpc.h share: service, thread, connection, request.
 *
 *   service -- threads -- connections -- requests waiting to run
 *
 *   rpc_service.c   the service: heap, limits, counters
 *   rpc_conn.c      a connection: bytes in, framing, replies not yet sent
 *   envelope.c      a line into requests (no GIL)
 *   access.c        tokens and roles
 *   params.c        the parameters of a request against the method's row (no GIL)
 *   rpc.c           a turn: the GIL, whose requests run
 *   rpc_request.c   one request: running it, writing its reply
 *   question.c      requests that a worker thread answers
 *   building.c      values that one builds
 *   parked.c        requests that wait while the heap works in slices
 *   session.c       sessions: who is in which, leases
 *   event.c         events: who is told, and when
 *   message.c       connections that bring whole messages instead of lines
 *   metrics.c       the figures of stats for Prometheus
 *   call.c          what the handlers (method_*.c) share
 *
 * A connection with requests is on its thread's `ready` list; one that the server has to look after is on
 * its `notice` list.  Threads and what hangs from them belong to one thread and have no locks, but for what
 * says that the GIL guards it: sessions, and which connection is in which.  A service's atomics may be touched
 * by anybody, the rest of it is guarded by its mutex or the GIL, or never changes.
 */
#ifndef HEAPD_PROTOCOL_RPC_INTERNAL_H
#define HEAPD_PROTOCOL_RPC_INTERNAL_H

#include "../heap/heap.h"
#include "access.h"
#include "errmap.h"
#include "fault.h"
#include "frame.h"
#include "journal.h"
#include "json_writer.h"
#include "method.h"
#include "parked.h"
#include "rpc.h"
#include "sha256.h"
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

/* How often each limit was in somebody's way. */
struct rpc_limit_hits {
#define X(member, ...) _Atomic uint64_t member;
    RPC_LIMIT_MAP(X)
    RPC_FIXED_LIMIT_MAP(X)
#undef X
};

/* What one thread has counted; only that thread writes, anybody reads. */
struct rpc_counters {
    _Atomic uint64_t requests, notifications;
    _Atomic uint64_t errors[RPC_ERROR_COUNT];
    _Atomic uint64_t wrong_tokens;
};

/* Room for 128 random bits in hex. */
#define RPC_TOKEN_BYTES 33

/* A worker, and the questions that wait for it. */
struct question_bench {
    struct rpc_service *service;
    pthread_cond_t asked; /* a question has come, or the end */
    pthread_t worker;     /* when has_worker */
    bool has_worker;
    struct question *first, *last; /* that wait; last is void when first is NULL */
};

/* The questions of a service: walks over the heap, values that are built, and large values that are read. */
enum question_kind { QUESTION_WALKS, QUESTION_BUILDS, QUESTION_READS, QUESTION_BENCHES };
struct question_desk {
    pthread_mutex_t mutex;   /* guards what follows, and the threads' `answers` */
    pthread_cond_t answered; /* a thread has got an answer */
    bool is_ending;
    struct question_bench benches[QUESTION_BENCHES];
};

/* A doubly linked list through connections. */
struct conn_link {
    struct rpc_conn *prev, *next;
    bool linked;
};
struct conn_list {
    struct rpc_conn *first, *last;
};

/* The sessions of a service and who wants to hear what.  The GIL guards all but the atomics. */
#define SESSION_BUCKETS 4096u
/* Sessions whose lease runs, the one that ends first on top. */
struct lease_heap {
    struct rpc_session **sessions; /* at each place i one that ends no later than those at 2i + 1 and 2i + 2 */
    uint32_t count, room;          /* room: at least as many as are leased */
};

struct session_book {
    struct rpc_session *first, *last;                /* all, oldest first */
    struct rpc_session *listeners;                   /* those that subscribe to something */
    struct session_number *numbers[SESSION_BUCKETS]; /* by number */
    struct rpc_session *tokens[SESSION_BUCKETS];     /* the leased ones, by token */
    unsigned watched;                                /* union of the listeners' subscriptions */
    bool is_pressed;         /* the last `pressure` event said high; false while nobody listens */
    struct rpc_thread *running; /* that holds the GIL, and looks at its `told` before it lets go; NULL: none */
    struct rpc_conn *acting; /* whose request runs just now; NULL: nobody's */
    struct out line;         /* the event in hand */
    struct lease_heap running_leases; /* leased sessions without connections */
    _Atomic uint64_t leased;  /* sessions with a lease */
    _Atomic uint64_t look_ms; /* when a lease may have run out, CLOCK_MONOTONIC; 0: none runs */
};

struct rpc_service {
    struct heap *heap;
    struct rpc_shared_limits limits;
    struct rpc_limit_hits limit_hits;
    struct rpc_host host;
    struct method_index index;
    struct slowlog slowlog;
    char *export_dir; /* where heap.export writes; NULL: nowhere */
    struct question_desk desk;
    struct session_book book;
    struct journal journal;
    struct access_book access;
    pthread_mutex_t walk_mutex; /* held by who walks over the whole heap: the worker, or a snapshot */
    struct park *graves;    /* deaths that nobody waits for; the GIL guards the three */
    struct park *spare;     /* for the next; NULL: there is none */
    _Atomic bool is_short_of_room; /* the collector is one that had no memory */
    uint32_t build_delays;  /* who wait for the builds to end, so that the next one gives them precedence */
    uint32_t build_turns;   /* how many of them have had their turn so far; the GIL guards both */
    struct park *collector; /* whose `collection` is under way; NULL: nobody's */
    _Atomic(struct rpc_thread *) stepper; /* who takes the slices of the work under way; NULL: nobody */
    _Atomic bool has_company; /* another thread has run requests meanwhile */
    char heap_token[RPC_TOKEN_BYTES]; /* tells one heap from the next */
    uint64_t started_ms; /* CLOCK_MONOTONIC at creation */
    double started_unix_s; /* the same on the calendar */
    _Atomic uint64_t bytes_in, bytes_out;
    uint64_t events_waiting; /* bytes of the events that wait in all sessions; the GIL */
    _Atomic uint64_t unread; /* bytes of all connections' buffers of replies that are larger than RPC_OUTPUT_LOW_BYTES */
    _Atomic uint64_t sessions; /* of connections, those that are on their way to one included, and leased ones */
    pthread_mutex_t mutex;     /* guards what follows */
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
    uint64_t wrong_tokens;
};
void rpc_service_counts(struct rpc_service *service, struct rpc_counts *counts);
/* The text of rpc.discover, made when first asked for; NULL: no memory.  Valid as long as the service. */
const char *rpc_service_discovery(struct rpc_service *service);
/* Counts the limit that the fault tells of, if it tells of one. */
void rpc_service_count_fault(struct rpc_service *service, const struct fault *fault);
/* CLOCK_MONOTONIC in milliseconds. */
uint64_t rpc_now_ms(void);
/* false: there are no random bits to be had. */
bool rpc_make_token(char token[RPC_TOKEN_BYTES]);
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
    REQUEST_UNREAD = 32,      /* a long batch that is still being read: envelope_read_on() puts its elements here */
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
    uint16_t flags;       /* enum request_flag */
    uint16_t needs;       /* enum rpc_role, or ACCESS_NEEDS_TOKEN; also of what is answered with `reply` */
    enum rpc_error error; /* of `reply`, for the counters */
    union {
        const char *reply;   /* text, without newline; NULL for a notification */
        struct batch *batch; /* with REQUEST_UNREAD; lies in the turn, too */
    };
    size_t reply_len;
    method_arg args[]; /* method->param_count of them */
};

/* Whether its arguments make it one for the worker. */
static inline bool request_is_question(const struct request *request)
{
    return request->method != NULL && request->method->asks != NULL && request->method->asks(request->args);
}

/* An element of a batch that is not its first. */
static inline bool request_is_within_batch(const struct request *request)
{
    return (request->flags & (REQUEST_IN_BATCH | REQUEST_BATCH_FIRST)) == REQUEST_IN_BATCH;
}

/* ---- connections ---- */

struct rpc_conn {
    struct rpc_thread *thread;
    uint64_t client;
    void *user;
    struct conn_link ready, notice;
    struct conn_link arrived; /* of the thread, while it is in no session */
    const char *reason;       /* why it was destroyed; static */
    _Atomic(const char *) end_reason; /* why it is to end, before it was destroyed; static; NULL: it is not */
    struct conn_link held;    /* of the thread, while a wrong token waits for its answer */
    struct access_pass access;
    const char *transport;    /* "unix", "tcp", "tls"; static */
    char peer[RPC_PEER_BYTES];
    uint64_t opened_ms; /* CLOCK_MONOTONIC */

    /* guarded by the GIL */
    struct rpc_session *session; /* NULL before it has arrived */
    struct conn_link joined;     /* of the session */
    struct conn_link told;       /* of the thread: its session's events, or its end, are to be looked at */
    struct rpc_session *home;    /* that it goes back to; NULL: it is there */
    uint64_t own;                /* number of the leased session that is its own; 0: none, `home` is */
    unsigned stream_kinds;       /* set of 1 << enum event_kind that it subscribes to itself */
    _Atomic bool is_deaf;        /* hears no events; its thread writes, GIL or not */

    /* for server.clients, and what others do to it; any thread */
    _Atomic uint64_t requests;  /* that have been run */
    _Atomic(const struct method *) last_method; /* NULL: none so far */
    _Atomic uint64_t active_ms; /* when bytes came or went last */
    _Atomic uint64_t in_bytes, out_bytes;
    _Atomic bool is_gone;   /* destroyed; buried in the thread's next run */
    _Atomic bool is_killed; /* runs nothing more: server.kill, or wrong tokens */
    _Atomic bool is_kept;   /* its session holds or subscribes to something */

    /* input */
    struct frame frame;
    struct turn_block *partial; /* the bytes of the unfinished line; NULL: none */
    char *reading;              /* where the bytes of the read under way follow the unfinished line's */
    size_t reading_prefix;      /* how many of the unfinished line are in front of them there */
    bool reading_partial;       /* `reading` is in `partial`, not in the thread's turn */
    bool eof;                   /* nothing comes any more */
    bool takes_messages;        /* whole messages come, not lines; what follows is of the last one */
    bool wants_visit;           /* it runs in another session than the connection is in */
    bool wants_settling;        /* it is over, and the connection may have to leave that session */
    bool wants_stream;          /* what it subscribes to is the connection's */
    bool is_unsettled;          /* some of it has run with the GIL */
    bool is_lost;               /* its session was unknown */
    enum rpc_error last_error;  /* of its replies; kept up to date for all connections */
    int file;                   /* of the answer to an export; -1: none */
    size_t visit_token_len;
    char visit_token[RPC_TOKEN_BYTES]; /* of the session it is for; 0 bytes: the connection's own */
    bool ends_itself;           /* killed by its own request: what it is owed is sent, then it closes */

    /* requests that have not run */
    struct request *first, *last;
    struct question *question; /* that `first` is, and which is being answered; nothing runs meanwhile */
    bool has_had_share;        /* a run ended with it: in the next those come first that came since */
    bool runs_at_once;         /* `first` is not to be answered by who reads large values: that has given up */
    struct question *built;    /* has the value that was built for `first`; NULL: none */
    struct park *park;         /* what it waits for: nothing runs while `parked` is linked; NULL: nothing */
    struct conn_link parked;   /* of the thread */

    /* replies */
    struct out out;
    size_t noted_unread; /* what conn_note_unread() has added for it */
    size_t taken, noted_taken; /* bytes that the host has of them, and what it has added for them */
    size_t sent;            /* bytes of out that are on their way */
    size_t unsent_before;   /* unsent bytes when the run under way began */
    size_t event_bytes;     /* how many of the unsent bytes are events, at least */
    bool events_due;        /* events of its session wait until there is room; then it is ready */
    struct out events;      /* caused by the line under way: go in front of its reply */
    size_t line_start;      /* where in out the reply of the line under way begins; void between lines */
    uint64_t batch_replies; /* how many of its elements were answered */
    const char *must_close; /* why; NULL: it need not */
    size_t fence_free;      /* unsent bytes that may be sent, where replies wait for the journal */
    size_t fence_next;      /* those that may be when fence_lsn is durable */
    uint64_t fence_lsn;     /* 0: nothing waits */
    bool wants_fence;       /* a message came, which gets one when it is over, though nothing be said to it */
    struct conn_link fenced; /* of the thread, while something does */
};

struct rpc_thread {
    struct rpc_service *service;
    struct rpc_thread *next; /* of the service */
    void *user;              /* what its host knows it by */
    struct turn *turn;       /* the one being filled */
    struct turn *idle;       /* empty ones */
    struct turn *used;       /* that nobody uses any more, not yet emptied; linked like those */
    struct conn_list ready;  /* with requests to run, in order of arrival */
    struct conn_list notice; /* for rpc_thread_next() */
    struct conn_list arrived; /* not yet in a session */
    struct rpc_conn *buried;  /* destroyed, still in their sessions; linked by ready.next */
    struct conn_list held;    /* that wait for the answer to a wrong token, in order of its time */
    struct conn_list parked;  /* that wait for the heap */
    _Atomic bool has_parked;  /* there are some */
    struct conn_list fenced;  /* with replies that wait until they are durable */
    _Atomic bool has_fenced;  /* there are some */
    bool has_used_value;      /* one that was built: others may have waited for that */
    struct conn_list told;    /* whose events, or end, are to be looked at; guarded by the GIL */
    _Atomic bool has_told;    /* another thread has put one there */
    struct rpc_counters counters;
    struct fault fault; /* of the request in hand */
    uint64_t began;     /* slowlog_ticks() when the request in hand could begin to run, or a few before it that ended
                         * while the coarse clock stood still */
    uint64_t now_ms;    /* slowlog_coarse_ms() when it was looked at last */
    uint64_t until, until_ms; /* by both clocks: this run has had its share */
    unsigned unstamped; /* requests that have ended since `began` */
    uint64_t waited;    /* ticks of this run that its requests waited for the GIL */
    bool is_shut_out;   /* the GIL was not to be had in this run, or not all answers were taken */
    uint64_t shut_out;  /* ticks that were waited for it in vain since it was had */
    uint64_t wants_heap_since_us; /* heap_enter_within()'s */
    uint64_t aimed_ms;  /* when slowlog_aim() was called last */
    struct out scratch; /* for replies that are written before their time */

    uint32_t questions;        /* asked, and not destroyed */
    struct question *answers;  /* answered ones, to be taken; guarded by the desk's mutex */
    size_t answer_bytes;       /* of their replies; guarded like them */
    _Atomic bool has_answers;  /* there are some */
};

void conn_list_add_ready(struct rpc_thread *thread, struct rpc_conn *conn);
void conn_list_add_notice(struct rpc_thread *thread, struct rpc_conn *conn);
void conn_list_remove_ready(struct rpc_thread *thread, struct rpc_conn *conn);
void conn_list_remove_notice(struct rpc_thread *thread, struct rpc_conn *conn);
void conn_list_add_fenced(struct rpc_thread *thread, struct rpc_conn *conn);
void conn_list_remove_fenced(struct rpc_thread *thread, struct rpc_conn *conn);
void conn_list_add_parked(struct rpc_thread *thread, struct rpc_conn *conn);
void conn_list_remove_parked(struct rpc_thread *thread, struct rpc_conn *conn);
void conn_list_add_held(struct rpc_thread *thread, struct rpc_conn *conn);
void conn_list_remove_held(struct rpc_thread *thread, struct rpc_conn *conn);

/* Within these lists: the GIL is held. */
void conn_list_add_told(struct rpc_thread *thread, struct rpc_conn *conn);
void conn_list_remove_told(struct rpc_thread *thread, struct rpc_conn *conn);
void conn_list_add_joined(struct conn_list *list, struct rpc_conn *conn);
void conn_list_remove_joined(struct conn_list *list, struct rpc_conn *conn);
void conn_list_add_arrived(struct rpc_thread *thread, struct rpc_conn *conn);
void conn_list_remove_arrived(struct rpc_thread *thread, struct rpc_conn *conn);

/* Bytes that wait to be sent. */
static inline size_t conn_unsent(const struct rpc_conn *conn)
{
    return conn->out.len - conn->sent;
}
/* Whether the end of a reply is waited for. */
static inline bool conn_has_begun_reply(const struct rpc_conn *conn)
{
    return conn->park != NULL && conn->park->kind == PARK_REPLY;
}
/* Whether nothing of it may run: it waits for the worker, for the heap, or with a wrong token. */
static inline bool conn_is_waiting(const struct rpc_conn *conn)
{
    return conn->question != NULL || conn->parked.linked || conn->held.linked;
}
/* Whether a reply has begun and goes on, or the line of a batch: nothing else may be written. */
static inline bool conn_line_is_open(const struct rpc_conn *conn)
{
    const struct request *first = conn->first;
    return (first != NULL && (first->flags & REQUEST_IN_BATCH) != 0 &&
               ((first->flags & REQUEST_BATCH_FIRST) == 0 || conn->question != NULL)) ||
           conn_has_begun_reply(conn);
}
/* Whether so much waits for the journal that nothing more may run. */
static inline bool conn_is_dammed(const struct rpc_conn *conn)
{
    return conn->fence_lsn != 0 && conn_unsent(conn) - conn->fence_free > RPC_OUTPUT_HIGH_BYTES;
}
/* Bytes that may be sent now: a line that is open is held back. */
static inline size_t conn_sendable(const struct rpc_conn *conn)
{
    return (conn_line_is_open(conn) ? conn->line_start : conn->out.len) - conn->sent;
}
/* Those of replies, which max-output bounds. */
static inline size_t conn_unread(const struct rpc_conn *conn)
{
    size_t sendable = conn_sendable(conn);
    return sendable > conn->event_bytes ? sendable - conn->event_bytes : 0;
}
static inline bool conn_is(const _Atomic bool *flag)
{
    return atomic_load_explicit(flag, memory_order_relaxed);
}
/* A buffer of replies has so much room now, for which *noted was added before. */
static inline void service_note_unread(struct rpc_service *service, size_t *noted, size_t room)
{
    size_t counts = room > RPC_OUTPUT_LOW_BYTES ? room : 0;
    if (__builtin_expect(counts != *noted, false)) {
        atomic_fetch_add_explicit(&service->unread, counts - *noted, memory_order_relaxed);
        *noted = counts;
    }
}
/* After its buffer of replies has changed. */
static inline void conn_note_unread(struct rpc_conn *conn)
{
    service_note_unread(conn->thread->service, &conn->noted_unread, conn->out.room);
}
/* Whether all connections together have so much unread that the half of what they may is used up. */
static inline bool service_is_crowded(const struct rpc_service *service)
{
    uint64_t max = RPC_LIMIT(service, max_output);
    uint64_t unread = atomic_load_explicit(&service->unread, memory_order_relaxed);
    return __builtin_expect(unread > max * RPC_OUTPUT_ALL / 2, false) && max != 0;
}
/* Bytes that a reply, or what is written of a batch, may have now; 0: no limit. */
uint64_t service_reply_max_of_crowd(const struct rpc_service *service);
static inline uint64_t service_reply_max(const struct rpc_service *service)
{
    return service_is_crowded(service) ? service_reply_max_of_crowd(service) : RPC_LIMIT(service, max_output);
}
/* Whether the connection has to be read from before it may run more, since all is used up. */
static inline bool conn_is_crowded_out(const struct rpc_conn *conn)
{
    const struct rpc_service *service = conn->thread->service;
    return service_is_crowded(service) && conn_sendable(conn) > RPC_OUTPUT_LOW_BYTES && conn->built == NULL &&
           service_reply_max_of_crowd(service) == RPC_OUTPUT_LOW_BYTES;
}
/* The connection cannot go on; the first reason stays. */
void conn_must_close(struct rpc_conn *conn, const char *reason);
/* Drops the first request, which has run. */
void conn_drop_first(struct rpc_conn *conn);
/* Drops all requests. */
void conn_drop_requests(struct rpc_conn *conn);

/* Lets go of a turn. */
void thread_release_turn(struct rpc_thread *thread, struct turn *turn);
/* Empties the turns that nobody uses any more, and keeps some.  GIL: not held, since giving back the memory of a large
 * request takes half a millisecond. */
void thread_tidy_turns(struct rpc_thread *thread);

/* ---- rpc_request.c ---- */

/* Runs the connection's first request and drops it; one that goes on later stays.  GIL: held where it needs it. */
void rpc_request_run_first(struct rpc_conn *conn);
/* The same when the heap is not there yet: what needs that is refused.  GIL: not held. */
void rpc_request_run_while_loading(struct rpc_conn *conn);
/* Ticks since the request in hand could begin; the next one begins now. */
uint64_t rpc_request_take_time(struct rpc_thread *thread);
/* The answers to questions that have come take their places among the replies, and their connections go on. */
void rpc_request_take_answers(struct rpc_thread *thread);
/* The first request's deaths are over: ends its reply.  GIL: held. */
void rpc_finish_parked(struct rpc_conn *conn);

/* ---- rpc_conn.c ---- */

/* Makes room for n more bytes in the unfinished line's own block. */
bool conn_grow_partial(struct rpc_conn *conn, size_t n);
/* After input: the connection waits its turn where it has something to wait for. */
void conn_queue(struct rpc_conn *conn);
/* Bytes came or went. */
void conn_note_activity(struct rpc_conn *conn);

/* ---- message.c ---- */

/* Before and after what runs of a connection's message in one go.  GIL: held. */
void message_begin(struct rpc_conn *conn);
void message_pause(struct rpc_conn *conn);

/* ---- session.c ---- */

/* A number that a session is found by: its own, or that of one that was merged into it. */
struct session_number {
    struct session_number *next; /* of its bucket */
    struct session_number *more; /* of its session */
    uint64_t number;
    struct rpc_session *session;
};

/* Events that wait for a connection to read them, as lines. */
struct event_queue {
    struct out lines;  /* from `start` on they wait */
    size_t start;
    uint64_t count;
    uint64_t lost; /* that were dropped behind the last of them */
    size_t noted;  /* its bytes in the sum over all sessions */
};

struct rpc_session {
    struct rpc_session *prev, *next; /* of the book */
    struct heap_session *heap;       /* its holds */
    uint64_t number;
    struct session_number *numbers; /* all it is found by */
    struct conn_list conns;         /* that are in it, in order of joining */
    struct rpc_session *prev_listener, *next_listener; /* of the book, while `subscribed` */
    unsigned asked;      /* set of 1 << enum event_kind that `subscribe` was asked for */
    unsigned subscribed; /* that, and what its connections subscribe to themselves */
    struct event_queue waiting;
    bool is_journalled;           /* the journal knows of it, and is to hear of its end */
    bool is_kept;                 /* it held or subscribed to something when that was looked at last */
    char token[RPC_TOKEN_BYTES];  /* "": no lease; `?..`: one that was restored, and nobody has given the token yet */
    char token_hash[SHA256_TEXT_BYTES]; /* when leased */
    struct rpc_session *next_token; /* of its bucket, when leased */
    uint64_t lease_ms;            /* when leased */
    uint64_t ends_ms;             /* when its lease runs: when it ends */
    uint32_t lease_place;         /* among those that run, from 1; 0: it does not */
};

/* GIL: held in all of these. */

/* The session of that number, or that has taken it in; NULL: it has ended. */
struct rpc_session *session_find(struct rpc_service *service, uint64_t number);
/* Puts the connections that have arrived into sessions of their own; who finds no memory is left for the next time. */
void session_admit(struct rpc_thread *thread);
/* Takes a connection that is gone out of its session, which ends if it was the last and there is no lease.
 * What died with it is not settled. */
void session_bury(struct rpc_conn *conn);
/* Everything of the connection's session goes into `to`, and it ends.  HEAP_MEMORY. */
HEAP_MUST_USE enum heap_error session_merge(struct rpc_conn *conn, struct rpc_session *to);
/* Each connection of this one's session gets a new one, and it ends.  *released: its holds.  HEAP_MEMORY. */
HEAP_MUST_USE enum heap_error session_close(uint64_t *released, struct call *call);
/* The connection runs nothing more and will be closed.  Its session lets go, unless it is leased.  HEAP_MEMORY. */
HEAP_MUST_USE enum heap_error session_kill(uint64_t *released, struct call *call, struct rpc_conn *conn);
/* The connection runs nothing more and will be closed, for that reason, which is static; its session ends as that of
 * one that closes itself. */
void session_dismiss(struct rpc_conn *conn, const char *reason);
/* Notes whether it holds or subscribes to something, for the idle time limit. */
void session_note_kept(struct rpc_session *session);
/* The connection goes into the session that its message is for.  false: there is none. */
bool session_visit(struct rpc_conn *conn);
/* Its message is over: it leaves a leased session. */
void session_settle(struct rpc_conn *conn);
/* A session with the heap's, which nobody is in.  NULL: no memory. */
struct rpc_session *session_create_for(struct rpc_service *service, struct heap_session *heap);
/* Ends a session without connections; returns how many holds it had.  What died with it is not settled, and goes on
 * as call->park where it takes long, or by itself when `call` is NULL. */
uint64_t session_end(struct rpc_service *service, struct rpc_session *session, struct call *call);
/* Ends all sessions; all connections must be gone. */
void session_end_all(struct rpc_service *service);

/* ---- lease.c ---- */

enum lease_error {
    LEASE_BEGUN,
    LEASE_LIMIT,     /* there are max-leases already */
    LEASE_NO_MEMORY,
    LEASE_NO_TOKEN   /* no random bits */
};

/* A new lease, and a token if it has none; a connection is in it. */
enum lease_error lease_begin(struct rpc_service *service, struct rpc_session *session, uint64_t lease_ms);
/* A leased session that a journal has brought back, with the heap's and its holds; its lease begins anew, whatever
 * max-leases says.  false: no memory. */
bool lease_restore(struct rpc_service *service, struct heap_session *heap, uint64_t lease_ms, const char *token_hash);
/* The leased session of that token; NULL: there is none. */
struct rpc_session *lease_find(struct rpc_service *service, const char *token, size_t len);
/* It is leased, and its last connection has left it; one that is in it stops that. */
void lease_run(struct rpc_service *service, struct rpc_session *session);
void lease_stop(struct rpc_service *service, struct rpc_session *session);
/* The session ends, and what there is of a lease with it. */
void lease_end(struct rpc_service *service, struct rpc_session *session);
/* Ends sessions whose lease has run out, or so many of them that others should have their turn.  What died with them
 * is settled. */
void lease_look(struct rpc_service *service);
/* Whether that is due.  GIL: either. */
bool lease_look_is_due(struct rpc_service *service);
/* All sessions have ended.  GIL: either. */
void lease_fini(struct session_book *book);

/* ---- event.c ---- */

/* The words of `subscribe`, in the order of PROTOCOL section 7. */
#define EVENT_MAP(X)                                                                                         \
    X(EVENT_GC, "gc")                                                                                        \
    X(EVENT_FINALIZED, "finalized")                                                                          \
    X(EVENT_WEAKREF, "weakref")                                                                              \
    X(EVENT_PRESSURE, "pressure")                                                                            \
    X(EVENT_CLIENTS, "clients")                                                                              \
    X(EVENT_JOURNAL, "journal")                                                                              \
    X(EVENT_LOST, "lost")

enum event_kind {
#define X(kind, word) kind,
    EVENT_MAP(X)
#undef X
    EVENT_KIND_COUNT
};
const char *event_word(enum event_kind kind);

/* Unread output above this: events wait in the session instead. */
#define EVENT_UNREAD_BYTES 65536u

/* The heap's events go to the service's sessions. */
void event_observe_heap(struct rpc_service *service);
void event_fini(struct rpc_service *service);

/* GIL: held from here on. */

/* Whether somebody subscribes to it. */
static inline bool event_is_watched(const struct rpc_service *service, unsigned kinds)
{
    return (service->book.watched & kinds) != 0;
}
/* The session asks for these, and no others. */
void event_subscribe(struct rpc_service *service, struct rpc_session *session, unsigned kinds);
/* One of its connections that subscribes itself has come or gone. */
void event_follow(struct rpc_service *service, struct rpc_session *session);
/* `clients`; reason NULL: none. */
void event_client(const struct rpc_conn *conn, const char *what, const char *reason);
/* `pressure`, if it has changed. */
void event_check_pressure(struct rpc_service *service);
/* `journal`: the line that ends `text`, newline included, from `start` on. */
void event_journal(struct rpc_service *service, const struct out *text, size_t start);

void event_queue_fini(struct rpc_service *service, struct event_queue *queue);
/* What waits in `from` waits in `to`. */
void event_queue_move(struct rpc_service *service, struct event_queue *to, struct event_queue *from);
static inline bool event_queue_is_empty(const struct event_queue *queue)
{
    return queue->count == 0 && queue->lost == 0;
}
/* The session's events are to be looked at by its first connection that hears them. */
void event_call_for(struct rpc_session *session);
/* The connection is to be looked at by its thread, which is woken: it is killed, or events are to be sent. */
void event_call(struct rpc_conn *conn);
/* Sends the first connection what waits for its session, as far as there is room.  Its own thread only. */
void event_deliver(struct rpc_conn *conn);
/* Puts the events of the line under way in front of its reply.  Its own thread only.  GIL: either. */
void event_insert(struct rpc_conn *conn);
/* What waits for the connection's session is to go in front of the reply under way, too.  GIL: held. */
void event_catch_up(struct rpc_conn *conn);

/* ---- envelope.c ---- */

/* Reads a line into requests at the end of the connection's. */
void envelope_read_line(struct rpc_conn *conn, const struct frame_line *line);
/* The connection's first request is REQUEST_UNREAD: a slice more of it is read. */
void envelope_read_on(struct rpc_conn *conn);
/* A request without text at the end of the connection's, all arguments left out.  NULL: no memory, and the connection
 * must close. */
struct request *envelope_add(struct rpc_conn *conn, const struct method *method);
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

/* A request that a worker answers, or whose value one builds. */
struct question {
    struct question *next; /* at the desk, then of its thread's answers */
    struct rpc_thread *thread;
    struct rpc_conn *conn;         /* whose first request it is; NULL: that is gone.  The thread's */
    const struct request *request; /* lies in a turn of which the question is a user */
    _Atomic bool cancel;           /* nobody wants the answer any more; set under the desk's mutex */
    uint64_t asked;                /* slowlog_ticks() when it was asked */
    enum rpc_role role;            /* of the connection that has asked */
    enum question_kind kind;
    struct building *building;     /* the value of QUESTION_BUILDS; else NULL */
    bool is_moved;                 /* there is no answer: the request runs where it came from, in one go */
    bool is_answered;              /* `out` is the reply, without newline; else `fault` says why not */
    struct out out;
    struct fault fault;
    int file;                      /* that the answer is about; -1: none */
};

bool question_desk_init(struct rpc_service *service); /* false: no resources */
/* Ends the workers.  All threads must be gone. */
void question_desk_fini(struct question_desk *desk);
/* Asks the connection's first request.  false: no memory, or no thread to be had. */
bool question_ask(struct rpc_conn *conn);
/* Has it answered by who reads large values.  false: the same. */
bool question_ask_reading(struct rpc_conn *conn);
/* Has its value built, for the session of that number.  false: the same. */
bool question_ask_value(struct rpc_conn *conn, uint64_t session);
/* Nobody waits for the answer to the connection's question, or for the value built for it, if it has one. */
void question_forget(struct rpc_conn *conn);
/* An answered question of the thread; NULL: none.  The caller destroys it, or keeps it for its value. */
struct question *question_take(struct rpc_thread *thread);
/* A value that nobody has taken goes back to the worker, which drops it. */
void question_destroy(struct question *question);
/* Waits until all questions of the thread, forgotten by now, are done with, and destroys them. */
void question_wait_for_all(struct rpc_thread *thread);

/* ---- building.c ---- */

struct literal_error;

/* Shorter values are made by their request itself. */
#define BUILDING_BYTES 65536u
/* Whether the request has a value that is to be built before it runs. */
bool building_is_wanted(const struct request *request);
/* NULL: no memory. */
struct building *building_create(const struct request *request, uint64_t creator);
/* Builds the value, or does not when *cancel gets true.  GIL: not held. */
void building_run(struct rpc_service *service, struct building *building, const _Atomic bool *cancel);
/* Whether there is an object that nobody has taken; then it must be dropped. */
bool building_owns(const struct building *building);
/* GIL: not held. */
void building_drop(struct rpc_service *service, struct building *building);
/* What came of the value of that parameter: *obj, new, or *error, which is NULL if nothing went wrong.  false: that
 * one was not built, or has been taken. */
bool building_take(struct building *building, struct heap *heap, unsigned param, heap_ref *obj,
                   const struct literal_error **error);

/* ---- reading.c ---- */

/* Longer answers of `get` are written by a worker. */
#define READING_BYTES 65536u

/* ---- call.c ---- */

/* How the value is to be written that comes next in the answer.  false: there is no room for it. */
struct literal_format;
bool call_format(struct literal_format *format, struct call *call, int64_t depth, bool shared_let);
/* What is wrong with the literal, as a fault.  Returns false. */
bool call_fail_literal(struct call *call, unsigned param, const struct literal_error *error);

/* ---- replies ---- */

/* The method's handler once, with the head of the reply before its result, from call->result_start on. */
bool reply_attempt(struct call *call, const struct request *request);

/* `{"jsonrpc":"2.0","id":ID,` with or without its first member. */
void reply_head(struct out *out, bool is_short, const char *id, size_t id_len);
/* A whole error reply, without newline.  id NULL: null. */
void reply_error(struct out *out, bool is_short, const char *id, size_t id_len, const struct fault *fault);

#endif
