/* parked.h -- what a connection waits for whose request cannot go on: parked.c. */
#ifndef HEAPD_PROTOCOL_PARKED_H
#define HEAPD_PROTOCOL_PARKED_H

#include "../heap/heap.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct rpc_conn;
struct rpc_service;
struct rpc_thread;
struct call;

enum park_kind {
    PARK_AGAIN, /* the first request has done nothing yet, and runs again when `wait` is over */
    PARK_REPLY, /* the first request is done; its reply is written but for the end, which needs the deaths */
    PARK_NEXT   /* the last request set off a collection, and the next one, if there is one, comes after it */
};

/* What a request had used up before it was parked, in slowlog_ticks(); zeros: it was not. */
struct park_time {
    uint64_t began; /* when it could begin to run */
    uint64_t held, waited; /* the GIL, and for it */
};

/* Belongs to a connection, or to none: then its deaths go on for themselves.  The GIL guards it. */
struct park {
    struct park *next; /* of the service's, when no connection waits for it */
    enum park_kind kind;
    enum heap_wait wait;    /* PARK_AGAIN */
    unsigned stage;         /* PARK_AGAIN: what the handler has behind it, call->stage of its next run */
    struct park_time time;
    uint64_t session;       /* number of the one that the request came from */
    bool delays_builds;     /* it waits for what comes after builds: one of the service's build_delays */
    bool has_collected;     /* it has begun a collection itself, and waits for the end of that */
    struct heap_collection collection; /* that one, when it is over */
    /* PARK_REPLY */
    struct heap_dying dying; /* the heap's until dying.is_done */
    uint64_t id;            /* the end of the result begins with the refcount of this object; 0: it does not */
    uint64_t freed;         /* before these deaths */
    size_t result_at, value_at; /* where reply and result begin, from the connection's line_start on */
};

/* ---- by who runs requests; GIL: held ---- */

/* The connection's first request has done nothing, and is to run again when call->wait is over.  false: no memory to
 * remember it. */
bool park_again(struct rpc_conn *conn, const struct call *call);
/* Its first request, which came from the session of that number, is done but for call->park. */
void park_reply(struct rpc_conn *conn, const struct call *call, uint64_t session);
/* It has set off a collection that goes on.  Without memory to remember it the next request does not wait. */
void park_next(struct rpc_conn *conn);
/* The connection's request is over: it waits no more. */
void park_end(struct rpc_conn *conn);
/* What waits long enough goes on: replies are finished, connections become ready. */
void park_look(struct rpc_thread *thread);
/* The connection is gone. */
void park_forget(struct rpc_conn *conn);

/* ---- by handlers; GIL: held ---- */

/* What heap_settle_slice() and heap_session_end() may use; NULL: no memory, settle in one go. */
struct heap_dying *park_dying(struct rpc_service *service);
/* They have: the request waits for it; or nobody does, then `call` is NULL. */
void park_take_dying(struct rpc_service *service, struct call *call);

/* ---- slices ---- */

/* After heap_step(): hands out what has been done.  GIL: held. */
void park_after_step(struct rpc_service *service);
/* Wakes the threads but this one, which may be NULL, in which somebody waits.  GIL: not held. */
void park_wake_others(struct rpc_service *service, const struct rpc_thread *thread);
/* When the heap is gone. */
void park_fini(struct rpc_service *service);

#endif
