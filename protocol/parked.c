/* parked.c -- requests that wait while the heap works in slices.
 *
 *   PARK_AGAIN   a lookup met what is being decided, a collection is under way, memory is short: the request has
 *                changed nothing, and its handler runs again
 *   PARK_REPLY   what the request killed goes on dying: the reply is written up to its end, which tells of the dead
 *   PARK_NEXT    the request set off an automatic collection; its reply is out, the next request waits
 *
 * A connection that is parked runs nothing, like one whose question is being answered; others go on.  Its thread
 * looks at it again in each run, and after each slice; who takes the slices wakes the other threads.
 *
 * The deaths of a connection that is gone, or of a session that has ended, go on for themselves: their struct park
 * waits in the service until they are done.
 *
 * Start at park_look().
 */
#include "parked.h"

#include "method_handlers.h"
#include "rpc_internal.h"

#include <stdlib.h>

/* ---- parking ---- */

static void park(struct rpc_conn *conn, struct park *park, enum park_kind kind)
{
    park->kind = kind;
    conn->park = park;
    conn_list_add_parked(conn->thread, conn);
}

/* From when it meets builds until it has run, so that a stream of large values cannot keep it from its turn. */
static void set_delays_builds(struct rpc_service *service, struct park *park, bool delays)
{
    service->build_delays += (uint32_t)delays - (uint32_t)park->delays_builds;
    service->build_turns += park->delays_builds && !delays;
    park->delays_builds = delays;
}

bool park_again(struct rpc_conn *conn, const struct call *call)
{
    struct park *own = conn->park != NULL ? conn->park : calloc(1, sizeof(*own));
    if (own == NULL) {
        return false;
    }
    own->wait = call->wait;
    own->stage = call->stage;
    set_delays_builds(conn->thread->service, own, call->wait == HEAP_WAIT_COLLECTION && !call->has_begun_collection);
    if (call->has_begun_collection) {
        own->has_collected = true;
        own->wait = HEAP_WAIT_NOTHING;
        conn->thread->service->collector = own;
        atomic_store_explicit(&conn->thread->service->is_short_of_room, call->method->handler != method_collect,
                              memory_order_relaxed);
    }
    park(conn, own, PARK_AGAIN);
    return true;
}

void park_reply(struct rpc_conn *conn, const struct call *call, uint64_t session)
{
    struct park *own = call->park;
    own->session = session;
    if (conn->park != NULL) {
        own->time = conn->park->time;
        park_end(conn);
    }
    own->result_at = call->result_start - conn->line_start;
    own->value_at = call->value_start - conn->line_start;
    park(conn, own, PARK_REPLY);
}

void park_next(struct rpc_conn *conn)
{
    struct park *own = calloc(1, sizeof(*own));
    if (own != NULL) {
        own->wait = HEAP_WAIT_COLLECTION;
        park(conn, own, PARK_NEXT);
    }
}

void park_end(struct rpc_conn *conn)
{
    struct rpc_service *service = conn->thread->service;
    if (service->collector == conn->park) {
        service->collector = NULL;
    }
    conn_list_remove_parked(conn->thread, conn);
    set_delays_builds(service, conn->park, false);
    free(conn->park);
    conn->park = NULL;
}

void park_forget(struct rpc_conn *conn)
{
    struct park *own = conn->park;
    struct rpc_service *service = conn->thread->service;
    if (own == NULL) {
        return;
    }
    if (own->kind == PARK_REPLY && !own->dying.is_done) {
        own->next = service->graves;
        service->graves = own;
        conn->park = NULL;
    } else {
        park_end(conn);
    }
}

/* ---- what handlers use ---- */

struct heap_dying *park_dying(struct rpc_service *service)
{
    if (service->spare == NULL) {
        service->spare = calloc(1, sizeof(*service->spare));
    }
    return service->spare == NULL ? NULL : &service->spare->dying;
}

void park_take_dying(struct rpc_service *service, struct call *call)
{
    struct park *taken = service->spare;
    service->spare = NULL;
    if (call != NULL && call->conn != NULL) {
        call->park = taken;
    } else {
        taken->next = service->graves;
        service->graves = taken;
    }
}

/* ---- going on ---- */

static bool is_over(const struct rpc_service *service, const struct park *park)
{
    const struct heap *heap = service->heap;
    switch (park->kind) {
    case PARK_REPLY:
        return park->dying.is_done;
    case PARK_AGAIN:
        return service->collector != park && heap_wait_is_over(heap, park->wait);
    case PARK_NEXT:
        return !heap_is_collecting(heap);
    }
    return true;
}

void park_look(struct rpc_thread *thread)
{
    struct rpc_conn *next;
    for (struct rpc_conn *conn = thread->parked.first; conn != NULL; conn = next) {
        next = conn->parked.next;
        if (!is_over(thread->service, conn->park)) {
            continue;
        }
        if (conn->park->kind == PARK_REPLY) {
            rpc_finish_parked(conn);
        } else if (conn->park->kind == PARK_NEXT) {
            park_end(conn);
        } else {
            conn_list_remove_parked(thread, conn); /* its next run takes the rest */
        }
        if (conn->first != NULL || conn->events_due) {
            conn_list_add_ready(thread, conn);
        }
        conn_list_add_notice(thread, conn);
    }
}

/* ---- slices ---- */

/* Frees those of the graves whose deaths are over. */
static void free_graves(struct rpc_service *service)
{
    struct park **link = &service->graves;
    while (*link != NULL) {
        struct park *grave = *link;
        if (grave->dying.is_done) {
            *link = grave->next;
            free(grave);
        } else {
            link = &grave->next;
        }
    }
}

void park_after_step(struct rpc_service *service)
{
    if (!heap_is_collecting(service->heap)) {
        if (service->collector != NULL) {
            heap_last_collection(service->heap, &service->collector->collection);
            service->collector = NULL;
        }
        /* Even if the connection that was short is gone: others may have waited for the same room. */
        atomic_store_explicit(&service->is_short_of_room, false, memory_order_relaxed);
    }
    free_graves(service);
}

void park_wake_others(struct rpc_service *service, const struct rpc_thread *thread)
{
    pthread_mutex_lock(&service->mutex);
    for (struct rpc_thread *other = service->threads; other != NULL; other = other->next) {
        if (other != thread && atomic_load_explicit(&other->has_parked, memory_order_relaxed) &&
            service->host.wake != NULL) {
            service->host.wake(service->host.arg, other->user);
        }
    }
    pthread_mutex_unlock(&service->mutex);
}

void park_fini(struct rpc_service *service)
{
    free_graves(service);
    free(service->spare);
}
