/* access.h -- who may do what: tokens, roles, and what becomes of wrong tokens.
 *
 *   the row of a method   says which role it asks for; the envelope copies that into the request as `needs`
 *   a connection          has a role, and `cleared`, up to which requests of it run without a further look
 *   needs > cleared       access_allows() looks: is the role enough, does an argument ask for more than it may
 *
 * `cleared` is 0 for the roles that need the further look, so that the way of all others costs one comparison.
 */
#ifndef HEAPD_PROTOCOL_ACCESS_H
#define HEAPD_PROTOCOL_ACCESS_H

#include "rpc.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct call;
struct request;
struct rpc_conn;
struct rpc_service;
struct rpc_thread;

/* What a request of the method `auth` needs: more than any role, so that it is always looked at. */
#define ACCESS_NEEDS_TOKEN 4u

/* So long a wrong token waits for its answer, and so many close the connection. */
#define ACCESS_DELAY_MS 500u
#define ACCESS_FAILURES_MAX 3u

struct access_token;

/* The tokens of a service. */
struct access_book {
    pthread_mutex_t mutex;       /* guards what follows */
    struct access_token *tokens;
    size_t count;
    uint64_t last_number;        /* that a token was given */
};

/* A connection's part; its thread's but for the atomics, which others read. */
struct access_pass {
    uint8_t cleared;         /* requests that need no more than this run without a further look */
    uint8_t failures;        /* wrong tokens so far */
    bool is_judged;          /* the first request is an `auth` whose token was looked at */
    bool is_wrong;           /* and found wrong */
    _Atomic uint8_t role;    /* enum rpc_role */
    uint8_t at_first;        /* enum rpc_role it began with */
    _Atomic uint64_t token;  /* number of the token it has shown; 0: none */
    uint64_t held_until_ms;  /* rpc_now_ms(), while it is on the thread's list of those that are held */
};

bool access_book_init(struct access_book *book); /* false: no mutex to be had */
void access_book_fini(struct access_book *book);

/* The role a connection begins with. */
void access_begin(struct rpc_conn *conn, const struct rpc_peer *peer);
/* Whether its first request, which needs more than `cleared`, is a wrong token that has to wait for its answer. */
bool access_holds(struct rpc_conn *conn);
/* Whether it may run; false: thread->fault says why not.  Arguments that are left out and mean a hold are set to mean
 * none for a connection that may not take one. */
bool access_allows(struct rpc_conn *conn, struct request *request);
/* Connections that were held long enough go on. */
void access_release(struct rpc_thread *thread);
/* Whether the connection's token, if it has shown one, is still known.  It is in a session; GIL: held. */
bool access_is_valid(const struct rpc_conn *conn);

#endif
