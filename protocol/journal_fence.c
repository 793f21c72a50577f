/* journal_fence.c -- replies that wait until what they tell is on disk.
 *
 *   unsent bytes of a connection   [ may be sent | wait for fence_lsn | written since ]
 *                                    fence_free    fence_next
 *
 * A reply saw nothing younger than the last line there was when the server first asked for it; that line's LSN is its
 * fence.  Reads have one, too, or a client could see what a crash takes back.  Lines of what a collection swept are left
 * out: where they are lost, the start sweeps the same again.  So these may wait for a disk that is full, and nobody with
 * them.  When the fence is durable the bytes in
 * front of it are free, and what was written meanwhile gets the next one: so two numbers are enough.
 *
 * A message has a fence also when it has no reply: the server tells of it nevertheless.
 *
 * Once a fence is set only journal_look_at_fences() opens it, which tells the server to send: the server asks more than
 * once how much it may, and what became free between two questions would be sent by nobody.
 *
 * Threads: journal_fence() is the connection's thread's; rpc_journal_durable() any other's.  The one notes that it waits
 * and then looks once more, the other publishes and then looks who waits: so nobody sleeps through it.
 */
#include "rpc_internal.h"

/* The fence is durable. */
static void open_fence(struct rpc_conn *conn)
{
    conn->fence_free = conn->fence_next;
    conn->fence_lsn = 0;
    conn_list_remove_fenced(conn->thread, conn);
}

/* What was written since the last fence waits for a new one, unless all is durable. */
static void set_fence(struct rpc_conn *conn, size_t len)
{
    struct journal *journal = &conn->thread->service->journal;
    uint64_t lsn = atomic_load(&journal->seen);
    conn->fence_next = len;
    conn->fence_lsn = lsn;
    conn->wants_fence = false;
    conn_list_add_fenced(conn->thread, conn);
    if (atomic_load(&journal->durable) >= lsn) {
        open_fence(conn);
    }
}

size_t journal_fence(struct rpc_conn *conn, size_t len)
{
    bool is_silent_end = conn->wants_fence && conn->first == NULL;
    if (conn->fence_lsn == 0 && (conn->fence_free < len || is_silent_end)) {
        set_fence(conn, len);
    }
    return conn->fence_free < len ? conn->fence_free : len;
}

void journal_look_at_fences(struct rpc_thread *thread)
{
    const struct journal *journal = &thread->service->journal;
    struct rpc_conn *next;
    if (thread->fenced.first == NULL) {
        return;
    }
    uint64_t durable = atomic_load(&journal->durable);
    for (struct rpc_conn *conn = thread->fenced.first; conn != NULL; conn = next) {
        next = conn->fenced.next;
        if (durable >= conn->fence_lsn) {
            open_fence(conn);
            conn_list_add_notice(thread, conn);
            rpc_conn_resume(conn);
        }
    }
}

void rpc_journal_durable(struct rpc_service *service, uint64_t lsn)
{
    struct journal *journal = &service->journal;
    atomic_store(&journal->durable, lsn);
    if (!journal->keeps_back || service->host.wake == NULL) {
        return;
    }
    pthread_mutex_lock(&service->mutex);
    for (struct rpc_thread *thread = service->threads; thread != NULL; thread = thread->next) {
        if (atomic_load(&thread->has_fenced)) {
            service->host.wake(service->host.arg, thread->user);
        }
    }
    pthread_mutex_unlock(&service->mutex);
}
