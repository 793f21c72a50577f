/* fuzz_service.h -- a service for each input of a fuzz target, driven with bytes and without a socket.
 *
 *   fuzz_open()    a service with a few connections and small limits
 *   fuzz_send()    bytes on one of them, in pieces; fuzz_run() until everything is answered
 *   fuzz_close()   ends the sessions, unbinds all names, collects, and aborts unless the heap is sound and empty
 *
 * What a connection answers is one JSON text a line: anything else aborts.  Assertions here are FUZZ_ASSERT(), which
 * libFuzzer takes for a crash.
 */
#ifndef HEAPD_TESTS_FUZZ_SERVICE_H
#define HEAPD_TESTS_FUZZ_SERVICE_H

#include <jansson.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../../protocol/rpc.h"

#define FUZZ_ASSERT(condition)                                                                               \
    do {                                                                                                     \
        if (!(condition)) {                                                                                  \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);                          \
            abort();                                                                                         \
        }                                                                                                    \
    } while (0)

enum { FUZZ_CONNS = 3 };

struct fuzz_service {
    struct rpc_service *service;
    struct rpc_thread *thread;
    struct rpc_conn *conns[FUZZ_CONNS];
    uint64_t clients;        /* connections made so far */
    char *said[FUZZ_CONNS];  /* whole lines of each connection, ends in NUL; NULL: nothing yet */
    size_t said_len[FUZZ_CONNS];
    atomic_uint defects;     /* internal errors that were logged */
};

static const struct rpc_peer fuzz_peer = {.transport = "unix", .name = "a fuzzer"};

static void fuzz_on_error(void *arg, const char *message)
{
    fprintf(stderr, "defect: %s\n", message);
    atomic_fetch_add(&((struct fuzz_service *)arg)->defects, 1);
}

static void fuzz_on_nothing(void *arg)
{
    (void)arg;
}

static void fuzz_on_figures(void *arg, struct rpc_server_figures *figures)
{
    (void)arg;
    *figures = (struct rpc_server_figures){.connections = FUZZ_CONNS};
}

static void fuzz_on_options(void *arg, void (*row)(void *row_arg, const struct rpc_option *option), void *row_arg)
{
    (void)arg;
    struct rpc_option text = {.name = "log-level", .kind = RPC_OPTION_TEXT, .text = "info"};
    row(row_arg, &text);
}

static bool fuzz_on_set_options(void *arg, const struct rpc_option *settings, size_t count, struct rpc_limits *limits,
                                char why[RPC_REASON_BYTES])
{
    (void)arg, (void)settings, (void)count, (void)limits;
    snprintf(why, RPC_REASON_BYTES, "nothing can be set here");
    return false;
}

static void fuzz_on_log(void *arg, const char *line)
{
    (void)arg, (void)line;
}

static void fuzz_on_wake(void *arg, void *user)
{
    (void)arg, (void)user; /* fuzz_run() looks by itself */
}

static void fuzz_connect(struct fuzz_service *f, unsigned which)
{
    f->conns[which] = rpc_conn_create(f->thread, ++f->clients, &fuzz_peer, (void *)(uintptr_t)which);
    FUZZ_ASSERT(f->conns[which] != NULL);
}

static void fuzz_open(struct fuzz_service *f)
{
    memset(f, 0, sizeof(*f));
    struct rpc_limits limits;
    rpc_limits_default(&limits);
    limits.max_memory = 16 << 20;
    limits.max_request = 1 << 20;
    limits.max_output = 1 << 20;
    limits.max_depth = 200;
    limits.max_batch = 100;
    limits.max_holds = 1000;
    limits.max_names = 1000;
    limits.max_events = 100;
    struct rpc_host host = {.arg = f,
                            .shutdown = fuzz_on_nothing,
                            .figures = fuzz_on_figures,
                            .log_error = fuzz_on_error,
                            .log = fuzz_on_log,
                            .options = fuzz_on_options,
                            .set_options = fuzz_on_set_options,
                            .wake = fuzz_on_wake};
    f->service = rpc_service_create(&limits, &host);
    FUZZ_ASSERT(f->service != NULL);
    f->thread = rpc_thread_create(f->service, f);
    FUZZ_ASSERT(f->thread != NULL);
    for (unsigned i = 0; i < FUZZ_CONNS; i++) {
        fuzz_connect(f, i);
    }
}

/* Takes what a connection has to say. */
static void fuzz_hear(struct fuzz_service *f, struct rpc_conn *conn)
{
    unsigned which = (unsigned)(uintptr_t)rpc_conn_user(conn);
    size_t len;
    const char *output = rpc_conn_output(conn, &len);
    f->said[which] = realloc(f->said[which], f->said_len[which] + len + 1);
    FUZZ_ASSERT(f->said[which] != NULL);
    memcpy(f->said[which] + f->said_len[which], output, len);
    f->said_len[which] += len;
    f->said[which][f->said_len[which]] = '\0';
    rpc_conn_sent(conn, len);
}

/* Whether some connection waits for an answer that is made elsewhere. */
static bool fuzz_is_waiting(const struct fuzz_service *f)
{
    for (unsigned i = 0; i < FUZZ_CONNS; i++) {
        if (f->conns[i] != NULL && rpc_conn_is_waiting(f->conns[i])) {
            return true;
        }
    }
    return false;
}

/* Runs until everything is answered and the heap has nothing to do. */
static void fuzz_run(struct fuzz_service *f)
{
    for (;;) {
        struct rpc_conn *conn;
        bool more = rpc_thread_run(f->thread);
        while ((conn = rpc_thread_next(f->thread)) != NULL) {
            fuzz_hear(f, conn);
        }
        if (rpc_thread_has_work(f->thread)) {
            rpc_thread_step(f->thread, 500);
        } else if (!more && !fuzz_is_waiting(f)) {
            break;
        } else if (!more) {
            nanosleep(&(struct timespec){.tv_nsec = 50000}, NULL);
        }
    }
}

/* Gives a connection bytes, at most `piece` at a time. */
static void fuzz_send(struct fuzz_service *f, unsigned which, const void *bytes, size_t len, size_t piece)
{
    for (const char *next = bytes; len > 0;) {
        size_t room;
        char *buffer = rpc_conn_buffer(f->conns[which], piece, &room);
        FUZZ_ASSERT(buffer != NULL && room > 0);
        size_t n = len < piece ? len : piece;
        n = n < room ? n : room;
        memcpy(buffer, next, n);
        rpc_conn_received(f->conns[which], n);
        next += n;
        len -= n;
    }
}

/* Everything that was said so far is lines of JSON; it is forgotten. */
static void fuzz_check_said(struct fuzz_service *f)
{
    for (unsigned i = 0; i < FUZZ_CONNS; i++) {
        char *line = f->said[i];
        while (line != NULL && *line != '\0') {
            char *newline = strchr(line, '\n');
            FUZZ_ASSERT(newline != NULL); /* no NUL among them, and no half line */
            json_error_t error;
            json_t *value = json_loadb(line, (size_t)(newline - line), JSON_ALLOW_NUL, &error);
            /* jansson takes no ids beyond 64 bits and no NUL in a key. */
            FUZZ_ASSERT(value != NULL || json_error_code(&error) == json_error_numeric_overflow ||
                        json_error_code(&error) == json_error_null_byte_in_key);
            json_decref(value);
            line = newline + 1;
        }
        f->said_len[i] = 0;
        if (f->said[i] != NULL) {
            f->said[i][0] = '\0';
        }
    }
}

/* A request on a connection, and what it answers, good until the next one. */
__attribute__((format(printf, 3, 4))) static const char *fuzz_ask(struct fuzz_service *f, unsigned which,
                                                                  const char *format, ...)
{
    char *line;
    va_list args;
    va_start(args, format);
    int len = vasprintf(&line, format, args);
    va_end(args);
    FUZZ_ASSERT(len >= 0);
    fuzz_check_said(f);
    fuzz_send(f, which, line, (size_t)len, 65536);
    fuzz_send(f, which, "\n", 1, 1);
    free(line);
    fuzz_run(f);
    return f->said[which] == NULL ? "" : f->said[which];
}

/* Ends a connection; the next one in its place has a session of its own. */
static void fuzz_reconnect(struct fuzz_service *f, unsigned which)
{
    rpc_conn_destroy(f->conns[which], "end of input");
    fuzz_connect(f, which);
    fuzz_run(f);
}

/* Unbinds every name and drops what the collector keeps. */
static void fuzz_empty(struct fuzz_service *f)
{
    for (;;) {
        const char *said = fuzz_ask(f, 0, "{\"id\":1,\"method\":\"name.list\",\"params\":{\"limit\":1}}");
        const char *name = strstr(said, "\"name\":"), *end = strstr(said, ",\"object\"");
        if (name == NULL) {
            break;
        }
        fuzz_ask(f, 0, "{\"method\":\"name.unbind\",\"params\":[%.*s]}", (int)(end - name - 7), name + 7);
    }
    fuzz_ask(f, 0, "{\"method\":\"gc.set_debug\",\"params\":[[]]}");
    fuzz_ask(f, 0, "{\"method\":\"gc.garbage\",\"params\":[true]}");
    fuzz_ask(f, 0, "{\"method\":\"gc.unfreeze\"}");
    fuzz_ask(f, 0, "{\"id\":1,\"method\":\"collect\"}");
}

static void fuzz_close(struct fuzz_service *f)
{
    fuzz_check_said(f);
    for (unsigned i = 0; i < FUZZ_CONNS; i++) {
        FUZZ_ASSERT(rpc_conn_must_close(f->conns[i]) == NULL || f->said_len[i] == 0);
        fuzz_ask(f, i, "{\"method\":\"session.close\"}"); /* one that has a lease would stay */
        fuzz_reconnect(f, i);
    }
    /* A finalizer may bind a name to what it brings back, once. */
    fuzz_empty(f);
    fuzz_empty(f);
    FUZZ_ASSERT(rpc_service_check(f->service) == 0);
    /* What a leased session that lost its connections holds stays, as it must. */
    bool is_leased = strstr(fuzz_ask(f, 0, "{\"id\":1,\"method\":\"stats\",\"params\":[\"sessions\"]}"),
                            "\"leased\":0") == NULL;
    const char *objects = fuzz_ask(f, 0, "{\"id\":1,\"method\":\"stats\",\"params\":[\"objects\"]}");
    FUZZ_ASSERT(is_leased || strstr(objects, "\"result\":{\"live\":0,") != NULL);
    for (unsigned i = 0; i < FUZZ_CONNS; i++) {
        rpc_conn_destroy(f->conns[i], "end");
    }
    rpc_thread_destroy(f->thread);
    rpc_service_destroy(f->service);
    for (unsigned i = 0; i < FUZZ_CONNS; i++) {
        free(f->said[i]);
    }
    FUZZ_ASSERT(atomic_load(&f->defects) == 0);
}

#endif
