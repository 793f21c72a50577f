/* rpc_fixture.h -- a service of its own for each test, driven with bytes and without a socket.
 *
 * say() sends bytes on the first connection and runs the thread until nothing is left; what came back is in
 * `said`.  tell() is a request and the reply demanded of it, in the language of match.h.  The teardown
 * unbinds all names, ends the sessions, collects, and demands an empty, sound heap.
 */
#ifndef HEAPD_TESTS_RPC_FIXTURE_H
#define HEAPD_TESTS_RPC_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <pthread.h>
#include <time.h>

#include "../../protocol/rpc.h"
#include "../support/match.h"

struct rpc_fixture {
    struct rpc_limits limits;
    struct rpc_service *service;
    struct rpc_thread *thread;
    struct rpc_conn *conn;
    char *said; /* since the last say(), ends in NUL */
    size_t said_len;
    struct match_bindings bindings;
    unsigned shutdowns; /* how often server.shutdown was heard of */
    char logged[512];   /* the last defect that was logged */
    pthread_mutex_t mutex; /* guards `wakes` */
    pthread_cond_t woken;
    unsigned wakes; /* how often the thread was woken and has not run since */
};

/* Who every connection of a fixture comes from. */
static const struct rpc_peer fixture_peer = {.transport = "unix", .name = "a test"};

static inline void fixture_on_shutdown(void *arg)
{
    ((struct rpc_fixture *)arg)->shutdowns++;
}

static inline void fixture_on_figures(void *arg, struct rpc_server_figures *figures)
{
    (void)arg;
    figures->connections = 3;
    figures->connections_total = 7;
}

static inline void fixture_on_error(void *arg, const char *message)
{
    struct rpc_fixture *f = arg;
    snprintf(f->logged, sizeof(f->logged), "%s", message);
}

static inline void fixture_on_wake(void *arg, void *user)
{
    struct rpc_fixture *f = arg;
    assert_ptr_equal(user, f);
    pthread_mutex_lock(&f->mutex);
    f->wakes++;
    pthread_cond_signal(&f->woken);
    pthread_mutex_unlock(&f->mutex);
}

/* Waits until somebody has something for the thread to do, or, where connections are parked, for a millisecond. */
static inline void fixture_await_wake(struct rpc_fixture *f)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += 1000000;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    bool is_late = false;
    pthread_mutex_lock(&f->mutex);
    while (f->wakes == 0 && !is_late) {
        if (rpc_thread_has_parked(f->thread) || rpc_thread_due_in_ms(f->thread) != UINT64_MAX) {
            is_late = pthread_cond_timedwait(&f->woken, &f->mutex, &until) != 0;
        } else {
            pthread_cond_wait(&f->woken, &f->mutex);
        }
    }
    f->wakes = 0;
    pthread_mutex_unlock(&f->mutex);
}

/* Two of a daemon's options. */
static inline void fixture_on_options(void *arg, void (*row)(void *row_arg, const struct rpc_option *option),
                                      void *row_arg)
{
    struct rpc_fixture *f = arg;
    struct rpc_option number = {.name = "max-request", .number = f->limits.max_request};
    struct rpc_option text = {.name = "log-level", .kind = RPC_OPTION_TEXT, .text = "info"};
    row(row_arg, &number);
    row(row_arg, &text);
}

/* A fixture with these limits; every test ends it with fixture_close(). */
static inline struct rpc_fixture *fixture_open(const struct rpc_limits *limits)
{
    struct rpc_fixture *f = calloc(1, sizeof(*f));
    assert_non_null(f);
    f->limits = *limits;
    struct rpc_host host = {.arg = f,
                            .shutdown = fixture_on_shutdown,
                            .figures = fixture_on_figures,
                            .log_error = fixture_on_error,
                            .options = fixture_on_options,
                            .wake = fixture_on_wake};
    pthread_mutex_init(&f->mutex, NULL);
    pthread_cond_init(&f->woken, NULL);
    f->service = rpc_service_create(limits, &host);
    assert_non_null(f->service);
    f->thread = rpc_thread_create(f->service, f);
    assert_non_null(f->thread);
    f->conn = rpc_conn_create(f->thread, 1, &fixture_peer, f);
    assert_non_null(f->conn);
    return f;
}

static inline int fixture_setup(void **state)
{
    struct rpc_limits limits;
    rpc_limits_default(&limits);
    *state = fixture_open(&limits);
    return 0;
}

/* Gives the bytes to a connection in one read, or as many as it takes. */
static inline void fixture_feed(struct rpc_conn *conn, const char *bytes, size_t len)
{
    while (len > 0) {
        size_t room;
        char *buffer = rpc_conn_buffer(conn, 65536, &room);
        assert_non_null(buffer);
        size_t n = len < room ? len : room;
        memcpy(buffer, bytes, n);
        rpc_conn_received(conn, n);
        bytes += n;
        len -= n;
    }
}

/* Takes what a connection has to say, behind `said`. */
static inline void fixture_hear(struct rpc_fixture *f, struct rpc_conn *conn)
{
    size_t len;
    const char *output = rpc_conn_output(conn, &len);
    f->said = realloc(f->said, f->said_len + len + 1);
    assert_non_null(f->said);
    memcpy(f->said + f->said_len, output, len);
    f->said_len += len;
    f->said[f->said_len] = '\0';
    rpc_conn_sent(conn, len);
}

/* Runs the thread until nothing is left but questions, and hears what all connections have to say. */
static inline void fixture_run_once(struct rpc_fixture *f)
{
    bool more;
    do {
        struct rpc_conn *conn;
        more = rpc_thread_run(f->thread);
        while ((conn = rpc_thread_next(f->thread)) != NULL) {
            fixture_hear(f, conn);
        }
    } while (more);
}

/* A slice of the heap's work, and what has waited for it.  Returns whether there was work. */
static inline bool fixture_step(struct rpc_fixture *f)
{
    bool has_work = rpc_thread_has_work(f->thread);
    if (has_work) {
        rpc_thread_step(f->thread, 500);
        fixture_run_once(f);
    }
    return has_work;
}

/* The same until the first connection has all its answers and the heap has nothing to do. */
static inline void fixture_run(struct rpc_fixture *f)
{
    fixture_run_once(f);
    while (fixture_step(f) || rpc_conn_is_waiting(f->conn)) {
        if (!rpc_thread_has_work(f->thread) && rpc_conn_is_waiting(f->conn)) {
            fixture_await_wake(f);
            fixture_run_once(f);
        }
    }
}

static inline void fixture_forget(struct rpc_fixture *f)
{
    fixture_hear(f, f->conn);
    f->said_len = 0;
    f->said[0] = '\0';
}

static inline const char *say_bytes(struct rpc_fixture *f, const char *bytes, size_t len)
{
    fixture_forget(f);
    fixture_feed(f->conn, bytes, len);
    fixture_run(f);
    return f->said;
}

static inline const char *say(struct rpc_fixture *f, const char *text)
{
    return say_bytes(f, text, strlen(text));
}

/* Whether the text is the reply demanded. */
static inline void fixture_match(struct rpc_fixture *f, const char *asked, const char *expected,
                                 const char *reply)
{
    char why[MATCH_WHY_BYTES];
    if (!match_reply(&f->bindings, expected, strlen(expected), reply, strlen(reply), why)) {
        fail_msg("%s\n  to:      %s\n  wanted:  %s\n  came:    %s", why, asked, expected, reply);
    }
}

/* Sends a line, in which <id:NAME> stands for ids that came before, and demands one reply line, or none
 * (expected NULL). */
static inline void tell(struct rpc_fixture *f, const char *line, const char *expected)
{
    size_t len;
    char *text = match_substitute(&f->bindings, line, strlen(line), &len);
    assert_non_null(text);
    fixture_forget(f);
    fixture_feed(f->conn, text, len);
    fixture_feed(f->conn, "\n", 1);
    fixture_run(f);
    if (expected == NULL) {
        assert_string_equal(f->said, "");
    } else {
        assert_true(f->said_len > 0);
        char *newline = strchr(f->said, '\n');
        assert_ptr_equal(newline, f->said + f->said_len - 1);
        *newline = '\0';
        fixture_match(f, text, expected, f->said);
    }
    free(text);
}

/* The result of a call in the short form. */
static inline void call(struct rpc_fixture *f, const char *method, const char *params, const char *expected)
{
    char line[4096], wanted[4096];
    snprintf(line, sizeof(line), "{\"id\":1,\"method\":\"%s\",\"params\":%s}", method, params);
    snprintf(wanted, sizeof(wanted), "{\"id\":1,\"result\":%s}", expected);
    tell(f, line, wanted);
}

/* The error of a call: a word, and members of its data as a JSON object (NULL: any). */
static inline void fail_call(struct rpc_fixture *f, const char *method, const char *params, const char *word,
                             const char *data)
{
    char line[4096], wanted[4096];
    snprintf(line, sizeof(line), "{\"id\":1,\"method\":\"%s\",\"params\":%s}", method, params);
    snprintf(wanted, sizeof(wanted), "{\"id\":1,\"error\":<error %s%s%s>}", word, data == NULL ? "" : " ",
             data == NULL ? "" : data);
    tell(f, line, wanted);
}

/* Unbinds every name and ends the session, its lease too. */
static inline void fixture_empty(struct rpc_fixture *f)
{
    say(f, "{\"method\":\"session.close\"}\n");
    rpc_conn_destroy(f->conn, "end of test");
    f->conn = rpc_conn_create(f->thread, 2, &fixture_peer, f);
    assert_non_null(f->conn);
    for (;;) {
        say(f, "{\"id\":1,\"method\":\"name.list\",\"params\":{\"limit\":1}}\n");
        char *name = strstr(f->said, "\"name\":"), *end = strstr(f->said, ",\"object\"");
        if (name == NULL) {
            return;
        }
        char *line;
        size_t len = (size_t)(end - name - 7);
        assert_true(asprintf(&line, "{\"method\":\"name.unbind\",\"params\":[%.*s]}\n", (int)len, name + 7) >
                    0);
        say(f, line);
        free(line);
    }
}

static inline void fixture_close(struct rpc_fixture *f)
{
    fixture_empty(f);
    call(f, "collect", "{}", "<object>");
    call(f, "heap.check", "{}", "{\"ok\":true,\"objects\":0,\"problems\":[]}");
    call(f, "stats", "[\"sessions\"]", "{\"count\":1,\"leased\":0,\"holds\":0}");
    assert_null(rpc_conn_must_close(f->conn));
    rpc_conn_destroy(f->conn, "end of test");
    rpc_thread_destroy(f->thread);
    assert_int_equal(rpc_service_check(f->service), 0);
    rpc_service_destroy(f->service);
    pthread_cond_destroy(&f->woken);
    pthread_mutex_destroy(&f->mutex);
    free(f->said);
    free(f);
}

static inline int fixture_teardown(void **state)
{
    fixture_close(*state);
    return 0;
}

/* A test with that setup and teardown. */
#define fixture_test(function) cmocka_unit_test_setup_teardown(function, fixture_setup, fixture_teardown)

#endif
