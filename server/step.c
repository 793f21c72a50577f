/* step.c -- when an I/O thread takes slices of the heap's work.
 *
 * There is no collector thread: it would fight the loops for the GIL, and lose or starve them.  The thread whose
 * request began the work takes its slices between its turns:
 *
 *   nobody asks anything       slice after slice, without a pause; the sockets are looked at in between
 *   requests come              half of each millisecond
 *   from many connections      a fifth of it, since so many wait for each slice
 *   a request waits for room   as if nobody asked: it would fail otherwise, and so would the next ones
 *
 * Source of the figures: measured with full collections of ten million objects beside 8 and 50 clients.
 * Start at step_turn().
 */
#include "step.h"

#include "conn.h"
#include "io_thread.h"

#define PERIOD_NS 1000000u /* begins one slice while requests come */
#define QUIET_NS 2000000u  /* without input: nobody asks anything */
#define MANY 8u            /* connections */
#define SLICE_ALONE_US 500u
#define SLICE_US 500u
#define SLICE_AMONG_MANY_US 200u

void step_init(struct io_thread *thread)
{
    uv_timer_init(&thread->loop, &thread->step.timer);
    thread->step.timer.data = thread;
}

void step_close(struct io_thread *thread)
{
    rpc_thread_leave_work(thread->rpc);
    uv_close((uv_handle_t *)&thread->step.timer, NULL);
}

void step_note_input(struct io_thread *thread, struct conn *conn)
{
    struct step *step = &thread->step;
    if (conn->asked_round != step->round + 1) {
        conn->asked_round = step->round + 1;
        step->active++;
    }
}

/* The turn that follows looks whether a slice is due, and who waits for what others have done. */
static void on_timer(uv_timer_t *timer)
{
    io_thread_want_run(timer->data);
}

/* Makes the loop turn after a millisecond, if it does not before. */
static void turn_soon(struct step *step)
{
    if (!uv_is_active((uv_handle_t *)&step->timer)) {
        uv_timer_start(&step->timer, on_timer, 1, 0);
    }
}

static void take_slice(struct io_thread *thread, uint64_t now, uint32_t us)
{
    struct step *step = &thread->step;
    step->stepped_ns = now;
    step->round++;
    step->active = 0;
    rpc_thread_step(thread->rpc, us);
    io_thread_want_run(thread); /* what waited for it may go on */
}

void step_turn(struct io_thread *thread)
{
    struct step *step = &thread->step;
    if (!rpc_thread_has_work(thread->rpc)) {
        if (rpc_thread_has_parked(thread->rpc)) {
            turn_soon(step);
        }
        return;
    }
    uint64_t now = uv_hrtime();
    if (step->active > 0 || rpc_thread_has_company(thread->rpc)) {
        step->asked_ns = now;
    }
    bool is_alone = now - step->asked_ns >= QUIET_NS || rpc_thread_must_hurry(thread->rpc);
    if (is_alone) {
        take_slice(thread, now, SLICE_ALONE_US);
    } else if (now - step->stepped_ns >= PERIOD_NS) {
        take_slice(thread, now, step->active >= MANY ? SLICE_AMONG_MANY_US : SLICE_US);
    } else {
        turn_soon(step);
    }
}
