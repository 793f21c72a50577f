/* conn.h -- a connection: bytes in and out, from accept to close.  Its life is drawn in conn.c. */
#ifndef HEAPD_SERVER_CONN_H
#define HEAPD_SERVER_CONN_H

#include "../protocol/rpc.h"
#include "first_line.h"
#include "log.h"
#include "peer.h"
#include "tls.h"

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

struct io_thread;

/* Everything belongs to the thread. */
struct conn {
    struct conn *prev, *next; /* of the thread; void when closing */
    struct io_thread *thread;
    struct conn *next_resting; /* of the thread; void unless is_resting */
    struct rpc_conn *rpc;      /* NULL: lingering or closing */
    struct tls *tls;           /* what is on the wire is encrypted; NULL: it is not, or it is closing */
    struct http *http;         /* NULL: it speaks lines, as far as is known; void without rpc */
    union {
        uv_handle_t any;
        uv_stream_t stream;
        uv_tcp_t tcp;
        uv_pipe_t pipe;
    } handle;
    uint64_t client;    /* its number */
    uint64_t opened_ms; /* loop time */
    uint64_t active_ms; /* loop time of the last byte in or out */
    size_t unfinished;  /* bytes of a line that is not whole, as they are in the thread's sum */
    uint32_t read_turn;   /* of the thread: it has read something in that one */
    uint32_t asked_round; /* of step.c: bytes have come since that slice */
    struct first_line first_line;
    bool is_tcp;
    bool is_reading;   /* libuv reads */
    bool is_writing;   /* a write waits in libuv; nothing else may be written before it is done */
    bool is_resting;   /* its requests run on when `pace` says so */
    bool is_ended;     /* the client has ended its input, or the daemon wants no more of it */
    bool is_dismissed; /* was never admitted: has no number and no session, and counts nowhere */
    bool is_draining;  /* the daemon stops: close as soon as nothing is owed */
    bool is_closing;   /* uv_close() was called */
    bool has_spoken;   /* a byte has come */
    bool has_sent;     /* bytes were sent that may not have arrived */
};

/* Begins to serve a connected socket; takes it in any case. */
void conn_open(struct io_thread *thread, int fd, enum peer_kind kind, uint64_t client);
/* Sends a line to a connected socket that is not wanted, and closes it when the client has had time to read
 * that.  Takes it in any case. */
void conn_dismiss(struct io_thread *thread, int fd, enum peer_kind kind, const char *line);
/* After a run that named it, or when more can be sent: closes it if it must be or is done, sends what can be
 * sent, reads or stops reading, and asks for another run if its requests wait for one. */
void conn_flush(struct conn *conn);
/* Reads no more; closes when what is owed has been sent. */
void conn_drain(struct conn *conn);
/* Closes it, with the reason for the log.  Its session ends; memory goes when the loop has turned. */
void conn_close(struct conn *conn, enum log_level level, const char *why);
/* Whether it would be unfair to write more replies at once, and perhaps go beyond max-output, before the client has had a
 * moment to read: of `unsent` bytes `unread` are of replies. */
bool conn_has_much_unread(const struct conn *conn, size_t unsent, size_t unread);
/* Closes it because all connections together have more of unfinished lines than they may. */
void conn_close_unfinished(struct conn *conn);
/* Closes it if it has been silent, or its peer gone, for too long; `now` is loop time. */
void conn_check_silence(struct conn *conn, uint64_t now);

#endif
