/* lease.c -- leases: sessions that live on without a connection, found by their tokens, and when each ends.
 *
 *   leased    lease_begin(): it has a token; a connection that gives that comes in, and it outlives its last one
 *   running   lease_run(): no connection is in it, and it ends at ends_ms; lease_stop() when one comes
 *   ended     lease_end(): the token names nothing any more
 *
 * Those whose lease runs lie in a binary heap, the one that ends first on top (Knuth, The Art of Computer Programming,
 * volume 3, 5.2.3).  It has a place for every leased session from lease_begin() on, so that a lease never fails to run.
 *
 * A look at them is due at book->look_ms, which the host is asked to see to; no session ends before the look, which may
 * be in vain when a connection has come meanwhile.  It ends so many sessions at the most, and the next look is due at
 * once: others get the GIL between them.
 *
 * Tokens are found through a table of fixed size; chains are short below a hundred thousand.
 *
 * The GIL guards everything here but where it says otherwise.
 */
#include "rpc_internal.h"

#include <stdlib.h>

/* Sessions that end in one look, a microsecond each where they hold nothing. */
#define ENDS_A_LOOK 64u

/* ---- when they end ---- */

/* The session is at `place` of the heap now. */
static void put(struct lease_heap *heap, uint32_t place, struct rpc_session *session)
{
    heap->sessions[place] = session;
    session->lease_place = place + 1;
}

/* Finds the place of a session that belongs at `place`, above those that end later. */
static void rise(struct lease_heap *heap, uint32_t place, struct rpc_session *session)
{
    while (place > 0 && heap->sessions[(place - 1) / 2]->ends_ms > session->ends_ms) {
        put(heap, place, heap->sessions[(place - 1) / 2]);
        place = (place - 1) / 2;
    }
    put(heap, place, session);
}

/* The same, below those that end earlier. */
static void sink(struct lease_heap *heap, uint32_t place, struct rpc_session *session)
{
    uint32_t child;
    while ((child = 2 * place + 1) < heap->count) {
        child += child + 1 < heap->count && heap->sessions[child + 1]->ends_ms < heap->sessions[child]->ends_ms;
        if (heap->sessions[child]->ends_ms >= session->ends_ms) {
            break;
        }
        put(heap, place, heap->sessions[child]);
        place = child;
    }
    put(heap, place, session);
}

void lease_stop(struct rpc_service *service, struct rpc_session *session)
{
    struct lease_heap *heap = &service->book.running_leases;
    if (session->lease_place == 0) {
        return;
    }
    uint32_t place = session->lease_place - 1;
    struct rpc_session *last = heap->sessions[--heap->count];
    session->lease_place = 0;
    if (last == session) {
        return;
    }
    if (last->ends_ms < session->ends_ms) {
        rise(heap, place, last);
    } else {
        sink(heap, place, last);
    }
}

/* Places for so many.  false: no memory. */
static bool reserve(struct lease_heap *heap, uint64_t count)
{
    if (count <= heap->room) {
        return true;
    }
    uint64_t room = count < 64 ? 64 : 2 * count;
    struct rpc_session **sessions = room > UINT32_MAX ? NULL : realloc(heap->sessions, room * sizeof(*sessions));
    if (sessions == NULL) {
        return false;
    }
    heap->sessions = sessions;
    heap->room = (uint32_t)room;
    return true;
}

/* The host is to see to a look at that time, or is to do so earlier already. */
static void plan_look(struct rpc_service *service, uint64_t at_ms)
{
    uint64_t planned = atomic_load_explicit(&service->book.look_ms, memory_order_relaxed);
    if (planned != 0 && planned <= at_ms) {
        return;
    }
    atomic_store_explicit(&service->book.look_ms, at_ms, memory_order_relaxed);
    if (service->host.run_in != NULL) {
        uint64_t now = rpc_now_ms();
        service->host.run_in(service->host.arg, at_ms > now ? at_ms - now : 0);
    }
}

void lease_run(struct rpc_service *service, struct rpc_session *session)
{
    struct lease_heap *heap = &service->book.running_leases;
    uint64_t now = rpc_now_ms();
    session->ends_ms = session->lease_ms < UINT64_MAX - now ? now + session->lease_ms : UINT64_MAX;
    rise(heap, heap->count++, session);
    plan_look(service, session->ends_ms);
}

bool lease_look_is_due(struct rpc_service *service)
{
    uint64_t at_ms = atomic_load_explicit(&service->book.look_ms, memory_order_relaxed);
    return at_ms != 0 && rpc_now_ms() >= at_ms;
}

void lease_look(struct rpc_service *service)
{
    const struct lease_heap *heap = &service->book.running_leases;
    if (!lease_look_is_due(service)) {
        return;
    }
    uint64_t now = rpc_now_ms();
    for (unsigned i = 0; i < ENDS_A_LOOK && heap->count > 0 && heap->sessions[0]->ends_ms <= now; i++) {
        session_end(service, heap->sessions[0], NULL);
    }
    atomic_store_explicit(&service->book.look_ms, 0, memory_order_relaxed);
    if (heap->count > 0) {
        plan_look(service, heap->sessions[0]->ends_ms);
    }
    heap_settle(service->heap);
    (void)heap_gc_poll(service->heap);
}

/* ---- tokens ---- */

/* In the place of the first digit, as long as only the hash of the token is known. */
#define UNKNOWN_TOKEN '?'

/* By the hash of its token. */
static struct rpc_session **token_bucket(struct session_book *book, const char hash[SHA256_TEXT_BYTES])
{
    const char digits[4] = {hash[0], hash[1], hash[2], '\0'};
    return &book->tokens[strtoul(digits, NULL, 16) % SESSION_BUCKETS];
}

struct rpc_session *lease_find(struct rpc_service *service, const char *token, size_t len)
{
    char hash[SHA256_TEXT_BYTES];
    if (len != RPC_TOKEN_BYTES - 1) {
        return NULL;
    }
    sha256_text(hash, token, len);
    struct rpc_session *session = *token_bucket(&service->book, hash);
    while (session != NULL && memcmp(session->token_hash, hash, sizeof(hash)) != 0) {
        session = session->next_token;
    }
    if (session != NULL) {
        memcpy(session->token, token, len); /* one that a journal has brought back did not know it */
    }
    return session;
}

/* The session has a place among those that run, and the hash of its token. */
static void add_token(struct session_book *book, struct rpc_session *session)
{
    struct rpc_session **bucket = token_bucket(book, session->token_hash);
    session->next_token = *bucket;
    *bucket = session;
    atomic_fetch_add_explicit(&book->leased, 1, memory_order_relaxed);
}

void lease_end(struct rpc_service *service, struct rpc_session *session)
{
    struct session_book *book = &service->book;
    if (session->token[0] == '\0') {
        return;
    }
    lease_stop(service, session);
    struct rpc_session **link = token_bucket(book, session->token_hash);
    while (*link != session) {
        link = &(*link)->next_token;
    }
    *link = session->next_token;
    memset(session->token, 0, sizeof(session->token));
    atomic_fetch_sub_explicit(&book->leased, 1, memory_order_relaxed);
}

/* ---- leases ---- */

static uint64_t leased(const struct session_book *book)
{
    return atomic_load_explicit(&book->leased, memory_order_relaxed);
}

enum lease_error lease_begin(struct rpc_service *service, struct rpc_session *session, uint64_t lease_ms)
{
    struct session_book *book = &service->book;
    uint64_t max = RPC_LIMIT(service, max_leases);
    if (session->token[0] == '\0') {
        if (max != 0 && leased(book) >= max) {
            return LEASE_LIMIT;
        }
        if (!reserve(&book->running_leases, leased(book) + 1)) {
            return LEASE_NO_MEMORY;
        }
        if (!rpc_make_token(session->token)) {
            session->token[0] = '\0';
            return LEASE_NO_TOKEN;
        }
        sha256_text(session->token_hash, session->token, strlen(session->token));
        add_token(book, session);
    }
    session->lease_ms = lease_ms;
    journal_lease(service, session);
    return LEASE_BEGUN;
}

bool lease_restore(struct rpc_service *service, struct heap_session *heap, uint64_t lease_ms, const char *token_hash)
{
    struct session_book *book = &service->book;
    struct rpc_session *session =
        reserve(&book->running_leases, leased(book) + 1) ? session_create_for(service, heap) : NULL;
    if (session == NULL) {
        return false;
    }
    atomic_fetch_add_explicit(&service->sessions, 1, memory_order_relaxed);
    memcpy(session->token_hash, token_hash, sizeof(session->token_hash));
    session->token[0] = UNKNOWN_TOKEN;
    add_token(book, session);
    session->lease_ms = lease_ms;
    session->is_journalled = true;
    session_note_kept(session);
    lease_run(service, session);
    return true;
}

void lease_fini(struct session_book *book)
{
    free(book->running_leases.sessions);
}
