/* journal.h -- what is kept of changes, so that they are there after a restart.
 *
 *   a request that changed something -> journal_attempt()  \
 *   what no request did: deaths of finalizers, collections  > a line each -> `log` -> journal_hand_over() -> the host,
 *   the end of a session                                   /                          which writes it to its disk
 *
 * A line is `CRC TEXT\n`: CRC-32C of TEXT in eight hex digits, then a JSON object.  journal_line.h says what stands in
 * it, journal.c when it is written, journal_replay.c how it happens again, journal_fence.c what waits until it is on
 * disk.
 *
 * An LSN counts the bytes of all lines: a reply may be sent when everything up to the LSN that it saw is durable.
 */
#ifndef HEAPD_PROTOCOL_JOURNAL_H
#define HEAPD_PROTOCOL_JOURNAL_H

#include "../heap/heap.h"
#include "json_writer.h"
#include "method.h"
#include "rpc.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct rpc_conn;
struct rpc_service;
struct rpc_session;
struct rpc_thread;
struct call;
struct replay;
struct request;

/* Runs of ids: each the first, and how many follow one another. */
struct journal_runs {
    uint64_t first, count; /* the run under way; count 0: none */
    struct out text;       /* those before it, `17,3,` */
};

/* So many generations of ids are ahead of those that were given when the end is raised. */
#define JOURNAL_GENERATIONS 16u
/* The end of those that begin with `first`, as far as there are so many. */
static inline uint32_t journal_generations_from(uint32_t first)
{
    uint32_t left = HEAP_GENERATION_END - first;
    return first + (left < JOURNAL_GENERATIONS ? left : JOURNAL_GENERATIONS);
}

/* Of a service; the GIL guards all but the atomics and what says otherwise. */
struct journal {
    bool is_on;          /* changes are kept; never changes once requests run */
    bool keeps_back;     /* replies wait until what they saw is durable */
    struct rpc_journal_sink sink;
    struct out log;      /* lines that were not handed over */
    size_t at;           /* in `log`: the line of the request under way goes here */
    struct out line;     /* the one being written */
    struct replay *replay; /* while files are loaded; else NULL */
    enum heap_effect effect;  /* of `runs` */
    bool is_bound;            /* the same */
    struct journal_runs runs; /* effects of one kind, not yet a line */
    uint32_t generations_first; /* new ids have one from here on */
    uint32_t generations_end; /* no id reaches it before a line has raised it */
    uint64_t generations_lsn; /* that line; 0: none is under way */
    uint64_t loaded;     /* bytes of lines in the files that were loaded */
    uint64_t before;     /* bytes of lines in all files before the newest */
    uint64_t handed;     /* LSN of what was handed over */

    _Atomic uint64_t appended; /* LSN of the last line */
    _Atomic uint64_t seen;     /* LSN of the last one that a reply can tell of */
    _Atomic uint64_t durable;  /* LSN of what is on disk */
    _Atomic uint64_t room;     /* LSN up to which lines will find a place there; UINT64_MAX: however many */
    _Atomic bool waits;        /* effects were told since journal_hand_over() */
    _Atomic bool is_loading;   /* requests cannot run yet */
    _Atomic bool is_broken;    /* a change could not be kept: nothing more is changed */

    pthread_mutex_t mutex;     /* guards what follows */
    pthread_cond_t taken;      /* the host has taken something, or given it back */
    struct out ready;          /* handed over, for the host */
    uint64_t ready_lsn;
    uint64_t number;           /* of the file that `ready` is for */
    struct out next;           /* handed over since a new file has begun, while `ready` is for the old one */
    struct out spare;          /* an empty buffer, the next `log`; without data while the host has it */
    bool is_taken;             /* the host has what was `ready`, */
    size_t taken_room;         /* which has so much room */
    uint64_t next_lsn, next_number; /* number 0: none has */
};

void journal_init(struct rpc_service *service);
void journal_fini(struct rpc_service *service);
/* Memory for lines of what cannot be refused, kept from now on.  false: there is none. */
bool journal_reserve(struct rpc_service *service);

/* ---- while requests run; GIL: held ---- */

/* reply_attempt() where a journal is kept or listened to: keeps and tells what the request did. */
bool journal_attempt(struct call *call, const struct request *request);
/* Whether the call may add a lease: as for a change, the fault says why not. */
bool journal_may_lease(struct call *call);
/* Tells listeners of a call that has succeeded and is not kept as a request: a collection, a setting. */
void journal_tell(const struct call *call, uint64_t session);
/* What was written since the last time goes to the host.  At the end of every hold of the GIL in which something may
 * have happened. */
void journal_hand_over(struct rpc_service *service);
/* The session lets go of everything. */
void journal_release(struct rpc_service *service, struct rpc_session *session);
/* The session has a lease. */
void journal_lease(struct rpc_service *service, struct rpc_session *session);
/* Everything that `from` held is `to`'s from now on. */
void journal_merge(struct rpc_service *service, struct rpc_session *from, struct rpc_session *to);

/* The heap's effects go into the journal from now on. */
void journal_observe_heap(struct rpc_service *service);
/* A line was written straight into the log. */
void journal_note_appended(struct rpc_service *service);
/* Ends what rpc_journal_begin() began, if it goes no further. */
void journal_give_up_replay(struct rpc_service *service);

/* From here on lines are for a new file.  false: no memory. */
bool journal_begin_file(struct rpc_service *service, uint64_t number);

/* ---- replies that wait: journal_fence.c ---- */

/* Connections whose replies wait no more are looked at by the server. */
void journal_look_at_fences(struct rpc_thread *thread);
/* journal_hand_over() if there is something, by who does not hold the GIL.  false: nor does he get it now. */
bool journal_catch_up(struct rpc_service *service);
/* How many of the connection's unsent bytes may be sent, out of `len` that could be if everything were durable. */
size_t journal_fence(struct rpc_conn *conn, size_t len);

#endif
