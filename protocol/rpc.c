/* rpc.c -- a turn: the requests of a thread's connections run.
 *
 *   rpc_thread_run   requests at the head of a queue that need no GIL run first; then the GIL is taken once,
 *                    and every other request of every connection runs in order; between two requests it is
 *                    handed over when somebody waits, and an automatic collection runs when one is due.  Where
 *                    somebody has the GIL for long the run is given up, so that what needs none is answered
 *                    meanwhile
 *   rpc_request.c    runs one of them, and writes its reply
 *
 * This is the only file that takes the GIL for requests.  Connections that have come or gone enter and leave
 * their sessions here, too.
 */
#include "rpc_internal.h"

#include <stdlib.h>

#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

/* ---- a connection's share of the turn ---- */

/* Whether the connection may run another request in this run: it rests when it has written its share.  Only
 * between lines, so that a batch is one piece. */
static bool may_go_on(struct rpc_conn *conn)
{
    if (conn_is_waiting(conn) || conn_is_dammed(conn)) {
        return false;
    }
    bool is_over = conn->must_close != NULL || (conn_is(&conn->is_killed) && !conn_line_is_open(conn));
    if (is_over) {
        conn_drop_requests(conn);
    }
    if (conn->first == NULL || (conn->first->flags & REQUEST_UNREAD) != 0 || conn_is_crowded_out(conn)) {
        return false;
    }
    uint64_t max = RPC_LIMIT(conn->thread->service, max_output);
    uint64_t high = rpc_service_output_high(conn->thread->service);
    uint64_t share = max != 0 && max < high ? max : high;
    return conn->built != NULL || request_is_within_batch(conn->first) ||
           conn_unsent(conn) - conn->unsent_before < share;
}

/* Once a run, when the server has had its chance to send: too much is still unread. */
static void close_if_unread(struct rpc_conn *conn)
{
    uint64_t max = RPC_LIMIT(conn->thread->service, max_output);
    if (max != 0 && conn_unread(conn) > max) {
        rpc_service_count_limit(conn->thread->service, "max-output");
        conn_must_close(conn, "more unread replies than max-output");
    }
}

/* Moves the unsent replies to the front when what was sent has become the larger part. */
static void compact_output(struct rpc_conn *conn)
{
    if (conn->sent > conn->out.len / 2) {
        memmove(conn->out.data, conn->out.data + conn->sent, conn_unsent(conn));
        conn->out.len -= conn->sent;
        conn->line_start -= conn->sent;
        conn->sent = 0;
    }
}

/* After the connection's share: is it done, or does it wait for the next run? */
static void leave_turn(struct rpc_thread *thread, struct rpc_conn *conn)
{
    if (conn->first == NULL || conn_is_waiting(conn) || conn_is_dammed(conn)) {
        conn_list_remove_ready(thread, conn);
    }
    atomic_store_explicit(&conn->out_bytes, conn_unsent(conn) + conn->taken, memory_order_relaxed);
    conn_note_unread(conn);
    conn_list_add_notice(thread, conn);
}

/* Whether the connection's first request runs without the GIL.  A question's handler takes it by itself; but first
 * the connection must be known, which it becomes with the GIL.  Which session it is in is not looked at here: other
 * threads move it from one to another. */
static bool needs_no_gil(const struct rpc_conn *conn)
{
    const struct request *request = conn->first;
    bool needs = request->method != NULL && request->method->needs_gil &&
                 (!request_is_question(request) || conn->arrived.linked);
    return !needs && !conn->wants_visit;
}

/* A long batch whose turn it is to run is read on, one slice of one batch in a run of the thread. */
static bool read_on(struct rpc_conn *conn)
{
    bool is_unread = conn->first != NULL && (conn->first->flags & REQUEST_UNREAD) != 0 && conn->must_close == NULL;
    if (is_unread) {
        envelope_read_on(conn);
    }
    return is_unread;
}

/* Runs what stands at the head of the queues and needs no GIL.  Returns whether something is left that does. */
static bool run_without_heap(struct rpc_thread *thread)
{
    struct rpc_conn *next;
    bool needs_heap = false, has_read = false;
    thread->waited = 0;
    thread->began = slowlog_ticks();
    for (struct rpc_conn *conn = thread->ready.first; conn != NULL; conn = next) {
        next = conn->ready.next;
        compact_output(conn);
        close_if_unread(conn);
        has_read = has_read || read_on(conn);
        conn->unsent_before = conn_unsent(conn);
        bool may = may_go_on(conn);
        while (may && needs_no_gil(conn)) {
            rpc_request_run_first(conn);
            may = may_go_on(conn);
        }
        bool needs = may || conn->events_due || conn->wants_settling;
        needs_heap |= needs;
        if (!needs) {
            leave_turn(thread, conn);
        }
    }
    return needs_heap;
}

/* ---- with the GIL ---- */

/* Takes the connections that are gone out of their sessions.  GIL: held. */
static void bury(struct rpc_thread *thread)
{
    struct heap *heap = thread->service->heap;
    while (thread->buried != NULL) {
        struct rpc_conn *conn = thread->buried;
        thread->buried = conn->ready.next;
        park_forget(conn);
        session_bury(conn);
        free(conn);
        heap_settle(heap);
        (void)heap_gc_poll(heap);
        if (event_is_watched(thread->service, 1u << EVENT_PRESSURE)) {
            event_check_pressure(thread->service);
        }
    }
}

/* Sends events to connections that were called for, and gives those up that were killed.  GIL: held. */
static void look_at_told(struct rpc_thread *thread)
{
    struct rpc_conn *conn;
    while ((conn = thread->told.first) != NULL) {
        conn_list_remove_told(thread, conn);
        if (conn_is(&conn->is_gone) || conn->must_close != NULL) {
            continue;
        }
        if (conn_is(&conn->is_killed) && !conn->ends_itself) {
            conn_must_close(conn, atomic_load_explicit(&conn->end_reason, memory_order_relaxed));
        } else {
            event_deliver(conn);
        }
    }
}

/* Milliseconds that a run may take before the loop gets to look at sockets and signals again; one request may take
 * longer. */
#define RUN_SHARE_MS 2
/* Milliseconds between two looks at how long a tick of the slowlog's clock is. */
#define AIM_MS 1000

/* Runs the connection's first request, and a collection when it is due, with what both make sessions hear.
 * GIL: held. */
static void run_first_with_heap(struct rpc_conn *conn)
{
    struct rpc_service *service = conn->thread->service;
    service->book.acting = conn;
    rpc_request_run_first(conn);
    if (likely(conn->park == NULL) && unlikely(heap_gc_poll(service->heap))) {
        park_next(conn);
    }
    service->book.acting = NULL;
    if (conn->events.len > 0 && !conn_line_is_open(conn)) {
        conn->line_start = conn->out.len;
        event_insert(conn);
    }
}

/* Whether the connection's request, which was parked, is over now, and another comes: those that wait for the heap to
 * be still come first, or one that asks for collections in a pipeline would keep them waiting to its end. */
static bool has_had_its_turn(const struct rpc_conn *conn, bool was_parked)
{
    return was_parked && conn->park == NULL && conn->first != NULL && !request_is_within_batch(conn->first);
}

/* The others on the list of those that have something to run come first. */
static void go_behind(struct rpc_thread *thread, struct rpc_conn *conn)
{
    conn_list_remove_ready(thread, conn);
    conn_list_add_ready(thread, conn);
}

/* Runs the connection's requests until it has had its share or the time is up; whether it is up. */
static bool run_share(struct rpc_conn *conn)
{
    struct rpc_thread *thread = conn->thread;
    struct heap *heap = thread->service->heap;
    bool late = false, is_next = false;
    if (conn->session == NULL) {
        conn_must_close(conn, "no memory for its session");
    } else {
        if (unlikely(conn->takes_messages)) {
            message_begin(conn);
        }
        heap_set_creator(heap, conn->session->heap);
    }
    while (!late && !is_next && may_go_on(conn)) {
        bool was_parked = conn->park != NULL;
        run_first_with_heap(conn);
        is_next = has_had_its_turn(conn, was_parked);
        if (heap_wanted(heap)) {
            rpc_request_take_time(thread);
            heap_pass(heap);
            thread->service->book.running = thread;
            thread->waited += rpc_request_take_time(thread);
            heap_set_creator(heap, conn->session->heap);
        }
        late = thread->began > thread->until || thread->now_ms > thread->until_ms;
    }
    if (conn->session != NULL && conn->must_close == NULL) {
        session_note_kept(conn->session);
        event_deliver(conn);
        if (unlikely(conn->takes_messages)) {
            message_pause(conn);
        }
    }
    if (is_next && conn->ready.linked) {
        go_behind(thread, conn);
    }
    return late;
}

/* What came from elsewhere.  GIL: held. */
static void catch_up(struct rpc_thread *thread)
{
    atomic_store_explicit(&thread->has_told, false, memory_order_relaxed);
    bury(thread);
    session_admit(thread);
    lease_look(thread->service);
    park_look(thread);
    look_at_told(thread);
}

/* Whether there is such. */
static bool has_to_catch_up(struct rpc_thread *thread)
{
    return thread->buried != NULL || thread->parked.first != NULL || thread->arrived.first != NULL ||
           atomic_load_explicit(&thread->has_told, memory_order_acquire) || lease_look_is_due(thread->service);
}

/* The server is told of all that have something to run. */
static void notice_all(struct rpc_thread *thread)
{
    for (struct rpc_conn *conn = thread->ready.first; conn != NULL; conn = conn->ready.next) {
        conn_list_add_notice(thread, conn);
    }
}

/* The time is up: who has had a share goes behind the others, and the server is told who waits, so that it
 * does not read more from them. */
static void adjourn(struct rpc_thread *thread, struct rpc_conn *conn)
{
    conn->has_had_share = true;
    if (conn->ready.linked) {
        go_behind(thread, conn);
    }
    notice_all(thread);
}

/* Whether it has gone behind those that came since the last run ended, which did so with it: each of them would wait for
 * another share. */
static bool lets_others_go_first(struct rpc_thread *thread, struct rpc_conn *conn)
{
    bool has_had_share = conn->has_had_share;
    conn->has_had_share = false;
    if (unlikely(has_had_share) && conn->ready.next != NULL) {
        go_behind(thread, conn);
        return true;
    }
    return false;
}

/* Requests have run: who takes the slices is to know when it is another thread. */
static void note_company(struct rpc_thread *thread)
{
    struct rpc_service *service = thread->service;
    struct rpc_thread *stepper = atomic_load_explicit(&service->stepper, memory_order_relaxed);
    if (unlikely(stepper != NULL) && stepper != thread) {
        atomic_store_explicit(&service->has_company, true, memory_order_relaxed);
    }
}

/* What this run has begun in the heap, this thread goes on with, unless another one has work already.  GIL: held. */
static void claim_work(struct rpc_thread *thread)
{
    struct rpc_service *service = thread->service;
    if (heap_work_pending(service->heap) && atomic_load_explicit(&service->stepper, memory_order_relaxed) == NULL) {
        atomic_store_explicit(&service->stepper, thread, memory_order_relaxed);
    }
}

/* Microseconds that a thread waits for the GIL before it looks at its sockets again: what needs no GIL is answered
 * meanwhile, and no single hold is promised to be shorter. */
#define ENTER_WITHIN_US 1000

/* heap_enter(), unless somebody has the GIL for long.  What waited for it is reported then as after a run that was too
 * short. */
static bool enter_heap(struct rpc_thread *thread)
{
    thread->is_shut_out = !heap_enter_within(thread->service->heap, ENTER_WITHIN_US, &thread->wants_heap_since_us);
    if (unlikely(thread->is_shut_out)) {
        notice_all(thread);
        return false;
    }
    thread->service->book.running = thread;
    return true;
}

/* Looks at the clocks: when the run that begins will have had its share.  The coarse clock says so, too, for ticks may
 * go on while the machine sleeps, or go wrong with it. */
static void begin_share(struct rpc_thread *thread)
{
    struct slowlog *slowlog = &thread->service->slowlog;
    thread->now_ms = slowlog_coarse_ms();
    if (thread->now_ms - thread->aimed_ms >= AIM_MS) {
        slowlog_aim(slowlog);
        thread->aimed_ms = thread->now_ms;
    }
    thread->until = thread->began + RUN_SHARE_MS * atomic_load_explicit(&slowlog->ticks_per_ms, memory_order_relaxed);
    thread->until_ms = thread->now_ms + 2 * RUN_SHARE_MS;
}

static void run_with_heap(struct rpc_thread *thread)
{
    struct heap *heap = thread->service->heap;
    struct rpc_conn *next;
    bool late = false;
    rpc_request_take_time(thread);
    bool entered = enter_heap(thread);
    thread->shut_out += rpc_request_take_time(thread);
    if (unlikely(!entered)) {
        return;
    }
    thread->waited = thread->shut_out;
    thread->shut_out = 0;
    if (!heap_work_pending(heap)) {
        atomic_store_explicit(&thread->service->stepper, NULL, memory_order_relaxed);
    }
    catch_up(thread);
    begin_share(thread);
    if (thread->ready.first != NULL) {
        note_company(thread);
    }
    for (struct rpc_conn *conn = thread->ready.first; conn != NULL && !late; conn = next) {
        next = conn->ready.next;
        if (lets_others_go_first(thread, conn)) {
            continue;
        }
        if (conn->events_due || conn->wants_settling || may_go_on(conn)) {
            late = run_share(conn);
            leave_turn(thread, conn);
            if (late) {
                adjourn(thread, conn);
            }
        }
    }
    look_at_told(thread);
    claim_work(thread);
    if (thread->service->journal.is_on) {
        journal_hand_over(thread->service);
    }
    thread->service->book.running = NULL;
    bool has_used_value = thread->has_used_value;
    if (unlikely(has_used_value)) {
        thread->has_used_value = false;
        park_look(thread);
    }
    heap_leave(heap);
    if (unlikely(has_used_value)) {
        park_wake_others(thread->service, thread);
    }
}

/* ---- slices of the heap's work ---- */

bool rpc_thread_has_work(const struct rpc_thread *thread)
{
    const struct rpc_service *service = thread->service;
    return heap_work_pending(service->heap) &&
           atomic_load_explicit(&service->stepper, memory_order_relaxed) == thread;
}

bool rpc_thread_must_hurry(const struct rpc_thread *thread)
{
    return atomic_load_explicit(&thread->service->is_short_of_room, memory_order_relaxed);
}

bool rpc_thread_has_company(struct rpc_thread *thread)
{
    return atomic_exchange_explicit(&thread->service->has_company, false, memory_order_relaxed);
}

void rpc_thread_leave_work(struct rpc_thread *thread)
{
    struct rpc_thread *stepper = thread;
    atomic_compare_exchange_strong(&thread->service->stepper, &stepper, NULL);
}

bool rpc_thread_has_parked(const struct rpc_thread *thread)
{
    return thread->parked.first != NULL;
}

bool rpc_thread_step(struct rpc_thread *thread, uint32_t budget_us)
{
    struct rpc_service *service = thread->service;
    if (!enter_heap(thread)) {
        return rpc_thread_has_work(thread);
    }
    thread->waited = 0;
    bool more = heap_step(service->heap, budget_us);
    park_after_step(service);
    park_look(thread);
    look_at_told(thread);
    if (!more) {
        atomic_store_explicit(&service->stepper, NULL, memory_order_relaxed);
        claim_work(thread); /* a reply that is finished may have set off a collection */
    }
    if (service->journal.is_on) {
        journal_hand_over(service);
    }
    service->book.running = NULL;
    heap_leave(service->heap);
    thread_tidy_turns(thread);
    park_wake_others(service, thread);
    return rpc_thread_has_work(thread);
}

/* ---- a turn ---- */

/* A fresh turn for what comes next; the old one stays with the requests that rest in it. */
static void change_turn(struct rpc_thread *thread)
{
    struct turn *turn = thread->turn;
    thread_tidy_turns(thread);
    if (turn->users == 1) {
        turn_reset(turn);
        return;
    }
    struct turn *fresh = thread->idle;
    if (fresh != NULL) {
        thread->idle = fresh->next_idle;
    } else {
        fresh = turn_create();
    }
    if (fresh != NULL) {
        thread->turn = fresh;
        thread_release_turn(thread, turn);
    }
}

/* ---- loading ---- */

/* Requests are answered in order; connections come into their sessions, and leave them, when all is loaded. */
static void run_while_loading(struct rpc_thread *thread)
{
    struct rpc_conn *next;
    thread->waited = 0;
    thread->began = slowlog_ticks();
    for (struct rpc_conn *conn = thread->ready.first; conn != NULL; conn = next) {
        next = conn->ready.next;
        compact_output(conn);
        conn->unsent_before = conn_unsent(conn);
        (void)read_on(conn);
        while (may_go_on(conn)) {
            rpc_request_run_while_loading(conn);
        }
        leave_turn(thread, conn);
    }
    change_turn(thread);
}

/* ---- the whole of it ---- */

bool rpc_thread_run(struct rpc_thread *thread)
{
    struct journal *journal = &thread->service->journal;
    thread->is_shut_out = false;
    if (unlikely(thread->held.first != NULL)) {
        access_release(thread);
    }
    if (conn_is(&journal->is_loading)) {
        run_while_loading(thread);
        return thread->ready.first != NULL;
    }
    journal_look_at_fences(thread);
    if (run_without_heap(thread) || has_to_catch_up(thread)) {
        run_with_heap(thread);
    }
    rpc_request_take_answers(thread);
    if (journal->is_on && !journal_catch_up(thread->service)) {
        thread->is_shut_out = true;
    }
    change_turn(thread);
    return thread->ready.first != NULL || thread->is_shut_out;
}

bool rpc_thread_is_shut_out(const struct rpc_thread *thread)
{
    return thread->is_shut_out;
}

struct rpc_conn *rpc_thread_next(struct rpc_thread *thread)
{
    struct rpc_conn *conn = thread->notice.first;
    if (conn != NULL) {
        conn_list_remove_notice(thread, conn);
    }
    return conn;
}
