/* step.h -- when an I/O thread takes slices of the heap's work: step.c. */
#ifndef HEAPD_SERVER_STEP_H
#define HEAPD_SERVER_STEP_H

#include <stdint.h>
#include <uv.h>

struct conn;
struct io_thread;

/* Of an I/O thread.  Times are uv_hrtime(). */
struct step {
    uv_timer_t timer;    /* wakes the loop for a slice that is not due yet; active while one waits */
    uint64_t asked_ns;   /* when bytes came last */
    uint64_t stepped_ns; /* when the last slice began */
    uint32_t round;      /* number of slices, for conn->asked_round */
    unsigned active;     /* connections from which bytes have come since the last slice */
};

void step_init(struct io_thread *thread);
void step_close(struct io_thread *thread);
/* Bytes have come from the connection. */
void step_note_input(struct io_thread *thread, struct conn *conn);
/* At the end of a turn: takes a slice if the heap has work for this thread and one is due. */
void step_turn(struct io_thread *thread);

#endif
