/* test_leases.c -- sessions that outlive their connections: session.open, session.resume, session.close.
 *
 * In the end every lease is given back or has run out: the teardown of the fixture demands that no session
 * is left.
 */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "../support/fixture.h"
#include "../support/process.h"

#define LONG_MS 3600000
#define TOKEN_BYTES 33

/* ---- helpers ---- */

/* Waits until a figure of `stats sessions` has that value; only a hang takes long. */
static void await_sessions(struct wire *wire, const char *member, int64_t value)
{
    int64_t deadline = process_now_ms() + PROCESS_PATIENCE_MS;
    while (wire_stat(wire, "sessions", member) != value) {
        if (process_now_ms() > deadline) {
            fail_msg("sessions.%s is %lld, expected %lld", member,
                     (long long)wire_stat(wire, "sessions", member), (long long)value);
        }
        usleep(1000);
    }
}

static void open_lease(struct wire *wire, int64_t lease_ms, char token[TOKEN_BYTES])
{
    json_t *j_lease = wire_callf(wire, "session.open", "[I]", (json_int_t)lease_ms);
    const char *text = json_string_value(json_object_get(j_lease, "session"));
    assert_int_equal(json_integer_value(json_object_get(j_lease, "lease_ms")), lease_ms);
    assert_int_equal(strlen(text), TOKEN_BYTES - 1);
    assert_int_equal(strspn(text, "0123456789abcdef"), TOKEN_BYTES - 1);
    memcpy(token, text, TOKEN_BYTES);
    json_decref(j_lease);
}

/* Joins the session and returns how many holds it has. */
static int64_t resume(struct wire *wire, const char *token)
{
    return wire_call_int(wire, "holds", "session.resume", "[s]", token);
}

static void expect_no_session(struct wire *wire, const char *token)
{
    char line[128];
    snprintf(line, sizeof line, "{'id':1,'method':'session.resume','params':['%s']}", token);
    wire_expect(wire, line, "{'id':1,'error':<error not_found>}");
}

static int64_t create(struct wire *wire)
{
    return wire_call_int(wire, "object", "create", "[[i]]", 1000);
}

static int64_t release(struct wire *wire)
{
    return wire_call_int(wire, "released", "session.close", NULL);
}

/* ---- one connection after another ---- */

static void test_leases_outlive_a_close_and_a_reset(void **state)
{
    const struct fixture *fixture = *state;
    char token[TOKEN_BYTES];
    struct wire *wire = wire_open_unix(fixture->daemon);
    int64_t object = create(wire);
    open_lease(wire, LONG_MS, token);
    for (int i = 0; i < 2; i++) {
        (i == 0 ? wire_close : wire_reset)(wire);
        while (wire_stat(fixture->wire, "server", "connections") > 1) {
            usleep(1000);
        }
        await_sessions(fixture->wire, "count", 2);
        assert_int_equal(wire_stat(fixture->wire, "sessions", "leased"), 1);
        assert_int_equal(wire_stat(fixture->wire, "sessions", "holds"), 1);
        wire = wire_open(fixture->daemon);
        assert_int_equal(resume(wire, token), 1);
    }
    assert_int_equal(wire_call_int(wire, "refcount", "unref", "[I]", (json_int_t)object), 0);
    assert_int_equal(release(wire), 0);
    expect_no_session(fixture->wire, token);
}

static void test_leases_outlive_kill_9(void **state)
{
    const struct fixture *fixture = *state;
    int out[2], status;
    char token[TOKEN_BYTES] = "";
    assert_int_equal(pipe(out), 0);
    fflush(stdout);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        process_become_child();
        struct wire *wire = wire_try_open(fixture->daemon, true);
        create(wire);
        open_lease(wire, LONG_MS, token);
        _exit(write(out[1], token, TOKEN_BYTES) == TOKEN_BYTES ? pause() : 1);
    }
    assert_int_equal(read(out[0], token, TOKEN_BYTES), TOKEN_BYTES);
    kill(pid, SIGKILL);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    close(out[0]);
    close(out[1]);
    await_sessions(fixture->wire, "count", 2);
    assert_int_equal(resume(fixture->wire, token), 1);
    assert_int_equal(release(fixture->wire), 1);
    assert_int_equal(wire_stat(fixture->wire, "objects", "live"), 0);
}

static void test_leases_run_out(void **state)
{
    const struct fixture *fixture = *state;
    char token[TOKEN_BYTES];
    struct wire *wire = wire_open(fixture->daemon);
    create(wire);
    open_lease(wire, 50, token);
    int64_t closed = process_now_ms();
    wire_close(wire);
    await_sessions(fixture->wire, "leased", 0);
    assert_true(process_now_ms() - closed >= 50);
    assert_int_equal(wire_stat(fixture->wire, "sessions", "holds"), 0);
    assert_int_equal(wire_stat(fixture->wire, "objects", "live"), 0);
    expect_no_session(fixture->wire, token);
}

/* Nobody but the timer makes the daemon look: what dies then is told to one who only listens. */
static void test_leases_run_out_in_silence(void **state)
{
    const struct fixture *fixture = *state;
    char token[TOKEN_BYTES];
    wire_expect(fixture->wire, "{'id':1,'method':'subscribe','params':[['finalized']]}",
                "{'id':1,'result':['finalized']}");
    for (int i = 2; i >= 0; i--) {
        struct wire *wire = wire_open(fixture->daemon);
        int64_t object = create(wire);
        json_decref(wire_callf(wire, "finalizer.set", "[I,s]", (json_int_t)object, i == 2 ? "2" : i == 1 ? "1" : "0"));
        open_lease(wire, 300 + 300 * i, token);
        wire_close(wire);
    }
    for (int i = 0; i < 3; i++) {
        char expected[160];
        snprintf(expected, sizeof expected,
                 "{'jsonrpc':'2.0','method':'event','params':{'event':'finalized','object':<int>,'token':'%d',"
                 "'resurrected':false}}",
                 i);
        wire_expect_line(fixture->wire, expected);
    }
    assert_int_equal(wire_stat(fixture->wire, "sessions", "leased"), 0);
    wire_check_heap(fixture->wire); /* waits until all that dies of it is dead */
    assert_int_equal(wire_stat(fixture->wire, "objects", "live"), 0);
}

static void test_leases_do_not_run_while_connected(void **state)
{
    const struct fixture *fixture = *state;
    char token[TOKEN_BYTES];
    struct wire *first = wire_open(fixture->daemon), *second = wire_open_unix(fixture->daemon);
    create(first);
    open_lease(first, 30, token);
    assert_int_equal(resume(second, token), 1);
    wire_close(first);
    usleep(200000);
    assert_int_equal(wire_stat(second, "sessions", "leased"), 1);
    assert_int_equal(wire_stat(second, "sessions", "holds"), 1);
    /* A resume takes back a lease that runs. */
    char other[TOKEN_BYTES];
    open_lease(second, 400, other);
    assert_string_equal(other, token);
    wire_close(second);
    second = wire_open(fixture->daemon);
    assert_int_equal(resume(second, token), 1);
    usleep(600000);
    assert_int_equal(wire_stat(second, "sessions", "holds"), 1);
    assert_int_equal(release(second), 1);
}

/* ---- several connections ---- */

static void test_leases_are_shared(void **state)
{
    const struct fixture *fixture = *state;
    char token[TOKEN_BYTES];
    struct wire *first = wire_open(fixture->daemon), *second = wire_open_unix(fixture->daemon);
    int64_t a = create(first), b = create(second);
    open_lease(first, LONG_MS, token);
    /* The second brings what it held, and both may let go of all. */
    assert_int_equal(resume(second, token), 2);
    assert_int_equal(resume(second, token), 2);
    assert_int_equal(wire_call_int(second, "refcount", "unref", "[I]", (json_int_t)a), 0);
    assert_int_equal(wire_call_int(first, "refcount", "ref", "[I]", (json_int_t)b), 2);
    assert_int_equal(wire_call_int(second, "refcount", "unref", "[I]", (json_int_t)b), 1);
    assert_int_equal(wire_stat(fixture->wire, "sessions", "count"), 2);
    wire_close(first);
    assert_int_equal(wire_call_int(second, "refcount", "unref", "[I]", (json_int_t)b), 0);
    assert_int_equal(release(second), 0);
}

static void test_leases_end_for_all_with_a_close(void **state)
{
    const struct fixture *fixture = *state;
    char token[TOKEN_BYTES];
    struct wire *first = wire_open(fixture->daemon), *second = wire_open_unix(fixture->daemon);
    int64_t a = create(first);
    open_lease(first, LONG_MS, token);
    assert_int_equal(resume(second, token), 1);
    create(second);
    assert_int_equal(release(second), 2);
    expect_no_session(first, token);
    /* Each goes on in a session of its own. */
    assert_int_equal(wire_stat(first, "sessions", "count"), 3);
    assert_int_equal(wire_stat(first, "sessions", "leased"), 0);
    assert_int_equal(wire_stat(first, "objects", "live"), 0);
    char line[128];
    snprintf(line, sizeof line, "{'id':1,'method':'unref','params':[%lld]}", (long long)a);
    wire_expect(first, line, "{'id':1,'error':<error not_found>}");
    create(first);
    create(second);
    assert_int_equal(release(first), 1);
    assert_int_equal(release(second), 1);
}

/* A leased session that joins another one is one with it; its own token has died. */
static void test_leases_merge(void **state)
{
    const struct fixture *fixture = *state;
    char one[TOKEN_BYTES], other[TOKEN_BYTES];
    struct wire *first = wire_open(fixture->daemon), *second = wire_open_unix(fixture->daemon);
    create(first);
    create(second);
    open_lease(first, LONG_MS, one);
    open_lease(second, LONG_MS, other);
    assert_string_not_equal(one, other);
    assert_int_equal(resume(second, one), 2);
    expect_no_session(fixture->wire, other);
    assert_int_equal(wire_stat(fixture->wire, "sessions", "leased"), 1);
    wire_close(first);
    wire_close(second);
    assert_int_equal(resume(fixture->wire, one), 2);
    assert_int_equal(release(fixture->wire), 2);
}

/* Requests that were sent together with the resume run in the session that was joined. */
static void test_leases_are_joined_within_a_batch(void **state)
{
    const struct fixture *fixture = *state;
    char token[TOKEN_BYTES], line[512];
    struct wire *wire = wire_open(fixture->daemon);
    int64_t object = create(wire);
    open_lease(wire, LONG_MS, token);
    wire_close(wire);
    snprintf(line, sizeof line,
             "[{'id':1,'method':'session.resume','params':['%s']},{'id':2,'method':'ref','params':[%lld]},"
             "{'id':3,'method':'session.close'},{'id':4,'method':'create','params':[[]]}]",
             token, (long long)object);
    wire_expect(fixture->wire, line,
                "[{'id':1,'result':{'holds':1}},{'id':2,'result':{'object':<int>,'refcount':2}},"
                "{'id':3,'result':{'released':2,'freed':2}},"
                "{'id':4,'result':{'object':<int>,'type':'list','refcount':1}}]");
    assert_int_equal(release(fixture->wire), 1);
}

/* ---- secrets ---- */

static void test_leases_tokens_are_told_to_nobody(void **state)
{
    const struct fixture *fixture = *state;
    char token[TOKEN_BYTES];
    size_t len;
    struct wire *wire = wire_open(fixture->daemon);
    wire_expect(fixture->wire, "{'id':1,'method':'subscribe','params':[['journal','clients']]}",
                "{'id':1,'result':['clients','journal']}");
    open_lease(wire, LONG_MS, token);
    wire_close(wire);
    wire = wire_open(fixture->daemon);
    assert_int_equal(resume(wire, token), 0);
    wire_send_text(wire, "{\"id\":1,\"method\":\"stats\"}\n{\"id\":2,\"method\":\"server.clients\"}\n"
                         "{\"id\":3,\"method\":\"server.slowlog\"}\n");
    for (int i = 0; i < 3; i++) {
        assert_null(strstr(wire_line(wire, &len), token));
    }
    assert_int_equal(release(wire), 0);
    wire_send_text(fixture->wire, "{\"id\":9,\"method\":\"unsubscribe\",\"params\":[[\"journal\",\"clients\"]]}\n");
    const char *line;
    do {
        line = wire_line(fixture->wire, &len);
        assert_null(strstr(line, token));
    } while (strstr(line, "\"id\":9") == NULL);
    char *log = daemon_log(fixture->daemon);
    assert_null(strstr(log, token));
    free(log);
}

/* ---- at random ---- */

/* Connections that come, go, lease, resume and close as chance has it; whatever remains must run out. */
static void test_leases_at_random(void **state)
{
    enum { WIRES = 8 };
    const struct fixture *fixture = *state;
    struct wire *wires[WIRES];
    char tokens[WIRES][TOKEN_BYTES] = {""};
    struct process_random random;
    const int rounds = process_rounds(1500, 20);
    process_random_init(&random);
    for (int i = 0; i < WIRES; i++) {
        wires[i] = wire_open(fixture->daemon);
    }
    for (int n = 0; n < rounds; n++) {
        uint32_t i = process_random_below(&random, WIRES), j = process_random_below(&random, WIRES);
        switch (process_random_below(&random, 6)) {
        case 0:
            (process_random_below(&random, 2) == 0 ? wire_close : wire_reset)(wires[i]);
            wires[i] = process_random_below(&random, 2) == 0 ? wire_open(fixture->daemon)
                                                              : wire_open_unix(fixture->daemon);
            break;
        case 1:
            open_lease(wires[i], 1 + process_random_below(&random, 20), tokens[j]);
            break;
        case 2:
        case 3: {
            /* The lease may be over. */
            char line[128];
            snprintf(line, sizeof line, "{\"id\":1,\"method\":\"session.resume\",\"params\":[\"%s\"]}\n", tokens[j]);
            size_t len;
            wire_send_text(wires[i], line);
            const char *reply = wire_line(wires[i], &len);
            assert_true(strstr(reply, "\"holds\"") != NULL || strstr(reply, "not_found") != NULL);
            break;
        }
        case 4:
            create(wires[i]);
            break;
        default:
            if (process_random_below(&random, 4) == 0) {
                release(wires[i]);
            }
        }
    }
    for (int i = 0; i < WIRES; i++) {
        wire_close(wires[i]);
    }
    await_sessions(fixture->wire, "count", 1);
    await_sessions(fixture->wire, "holds", 0);
    assert_int_equal(wire_stat(fixture->wire, "sessions", "leased"), 0);
    wire_check_heap(fixture->wire); /* waits until all that dies of it is dead */
    assert_int_equal(wire_stat(fixture->wire, "objects", "live"), 0);
}

/* A daemon that stops does not wait for leases. */
static void test_leases_do_not_hold_up_the_end(void **state)
{
    const struct fixture *fixture = *state;
    char token[TOKEN_BYTES];
    struct daemon *daemon = daemon_start(NULL);
    struct wire *wire = wire_open(daemon);
    create(wire);
    open_lease(wire, LONG_MS, token);
    wire_close(wire);
    int64_t began = process_now_ms();
    daemon_stop(daemon);
    assert_true(process_now_ms() - began < LONG_MS);
    assert_non_null(fixture->wire);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        fixture_test(test_leases_outlive_a_close_and_a_reset),
        fixture_test(test_leases_outlive_kill_9),
        fixture_test(test_leases_run_out),
        fixture_test(test_leases_run_out_in_silence),
        fixture_test(test_leases_do_not_run_while_connected),
        fixture_test(test_leases_are_shared),
        fixture_test(test_leases_end_for_all_with_a_close),
        fixture_test(test_leases_merge),
        fixture_test(test_leases_are_joined_within_a_batch),
        fixture_test(test_leases_tokens_are_told_to_nobody),
        fixture_test(test_leases_at_random),
        fixture_test(test_leases_do_not_hold_up_the_end),
    };
    return cmocka_run_group_tests_name("leases", tests, NULL, NULL);
}
