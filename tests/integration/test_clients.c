/* test_clients.c -- server.clients and server.kill, with several connections. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "../support/fixture.h"
#include "../support/process.h"

/* ---- helpers ---- */

static json_t *clients(struct wire *wire)
{
    json_t *j_clients = wire_callf(wire, "server.clients", NULL), *j_rows = json_object_get(j_clients, "clients");
    assert_true(json_is_array(j_rows));
    json_incref(j_rows);
    json_decref(j_clients);
    return j_rows;
}

static int64_t figure(const json_t *j_row, const char *name)
{
    const json_t *j_figure = json_object_get(j_row, name);
    if (!json_is_integer(j_figure)) {
        fail_msg("a client has no integer %s", name);
    }
    return json_integer_value(j_figure);
}

static const char *text(const json_t *j_row, const char *name)
{
    const json_t *j_text = json_object_get(j_row, name);
    if (!json_is_string(j_text)) {
        fail_msg("a client has no text %s", name);
    }
    return json_string_value(j_text);
}

/* The row of the one connection whose last method was that; NULL: there is none. */
static const json_t *find_by_method(const json_t *j_rows, const char *method)
{
    size_t i;
    json_t *j_row;
    json_array_foreach(j_rows, i, j_row)
    {
        const char *last = json_string_value(json_object_get(j_row, "last_method"));
        if (last != NULL && strcmp(last, method) == 0) {
            return j_row;
        }
    }
    return NULL;
}

/* The row of a session without a connection; NULL: there is none. */
static const json_t *find_without_client(const json_t *j_rows)
{
    size_t i;
    json_t *j_row;
    json_array_foreach(j_rows, i, j_row)
    {
        if (!json_is_integer(json_object_get(j_row, "client"))) {
            return j_row;
        }
    }
    return NULL;
}

/* The number of the connection whose last method was that. */
static int64_t client_by_method(struct wire *wire, const char *method)
{
    json_t *j_rows = clients(wire);
    const json_t *j_row = find_by_method(j_rows, method);
    assert_non_null(j_row);
    int64_t client = figure(j_row, "client");
    json_decref(j_rows);
    return client;
}

static void await_clients(struct wire *wire, size_t count)
{
    int64_t deadline = process_now_ms() + PROCESS_PATIENCE_MS;
    for (;;) {
        json_t *j_rows = clients(wire);
        size_t there = json_array_size(j_rows);
        json_decref(j_rows);
        if (there == count) {
            return;
        }
        if (process_now_ms() > deadline) {
            fail_msg("%zu clients, expected %zu", there, count);
        }
        usleep(1000);
    }
}

static int64_t create(struct wire *wire)
{
    return wire_call_int(wire, "object", "create", "[[i]]", 1000);
}

static int64_t open_lease(struct wire *wire, char token[33])
{
    json_t *j_lease = wire_callf(wire, "session.open", "[i]", 3600000);
    strcpy(token, text(j_lease, "session"));
    int64_t lease_ms = figure(j_lease, "lease_ms");
    json_decref(j_lease);
    return lease_ms;
}

static int64_t kill_client(struct wire *wire, int64_t client)
{
    json_t *j_killed = wire_callf(wire, "server.kill", "[I]", (json_int_t)client);
    assert_int_equal(figure(j_killed, "client"), client);
    int64_t released = figure(j_killed, "released");
    json_decref(j_killed);
    return released;
}

/* ---- server.clients ---- */

static const char *const MEMBERS[] = {"client",   "session",     "transport", "peer",  "role",
                                      "age_s",    "idle_s",      "requests",  "last_method", "holds",
                                      "retained_bytes", "in_buffer", "out_buffer", "events", "lease_ms"};

static void test_clients_shows_every_connection(void **state)
{
    const struct fixture *fixture = *state;
    struct wire *tcp = wire_open(fixture->daemon), *local = wire_open_unix(fixture->daemon);
    json_decref(wire_callf(local, "ping", NULL));
    create(local);
    create(local);
    json_decref(wire_callf(local, "gc.isenabled", NULL));
    wire_send_text(tcp, "{\"id\":1,\"method\":\"gc.get_count\"}\n{\"id\":2,");
    assert_true(wire_line_within(tcp, PROCESS_PATIENCE_MS));
    await_clients(fixture->wire, 3);
    json_t *j_rows = clients(fixture->wire);
    size_t i;
    json_t *j_row;
    json_array_foreach(j_rows, i, j_row)
    {
        const char *name;
        json_t *j_value;
        size_t n = 0;
        json_object_foreach(j_row, name, j_value)
        {
            assert_true(n < sizeof MEMBERS / sizeof *MEMBERS);
            assert_string_equal(name, MEMBERS[n++]);
        }
        assert_int_equal(n, sizeof MEMBERS / sizeof *MEMBERS);
        assert_string_equal(text(j_row, "role"), "admin");
        assert_true(json_is_null(json_object_get(j_row, "retained_bytes")));
        assert_true(json_is_null(json_object_get(j_row, "lease_ms")));
        assert_true(figure(j_row, "age_s") >= figure(j_row, "idle_s"));
        assert_int_equal(figure(j_row, "events"), 0);
    }
    const json_t *j_local = find_by_method(j_rows, "gc.isenabled"), *j_tcp = find_by_method(j_rows, "gc.get_count");
    assert_non_null(j_local);
    assert_non_null(j_tcp);
    assert_int_equal(figure(j_local, "holds"), 2);
    assert_int_equal(figure(j_local, "requests"), 4);
    assert_int_equal(figure(j_tcp, "holds"), 0);
    assert_int_equal(figure(j_tcp, "requests"), 1);
    assert_string_equal(text(j_tcp, "transport"), "tcp");
    assert_non_null(strstr(text(j_tcp, "peer"), "127.0.0.1:"));
    if (!daemon_is_elsewhere()) {
        assert_string_equal(text(j_local, "transport"), "unix");
    }
    assert_true(figure(j_local, "session") != figure(j_tcp, "session"));
    json_decref(j_rows);
    wire_close(tcp);
    wire_close(local);
    await_clients(fixture->wire, 1);
}

static void test_clients_shows_leased_sessions_without_one(void **state)
{
    const struct fixture *fixture = *state;
    char token[33];
    struct wire *first = wire_open(fixture->daemon), *second = wire_open_unix(fixture->daemon);
    create(first);
    int64_t lease_ms = open_lease(first, token);
    json_decref(wire_callf(second, "session.resume", "[s]", token));
    json_t *j_rows = clients(fixture->wire);
    assert_int_equal(json_array_size(j_rows), 3);
    /* The two are in one session. */
    const json_t *j_first = find_by_method(j_rows, "session.open"), *j_second = find_by_method(j_rows, "session.resume");
    int64_t session = figure(j_first, "session");
    assert_int_equal(figure(j_second, "session"), session);
    assert_int_equal(figure(j_second, "holds"), 1);
    assert_int_equal(figure(j_second, "lease_ms"), lease_ms);
    json_decref(j_rows);
    wire_close(first);
    wire_close(second);
    do {
        j_rows = clients(fixture->wire);
        const json_t *j_row = find_without_client(j_rows);
        if (j_row != NULL) {
            static const char *const nulls[] = {"client", "transport", "peer", "role", "age_s", "idle_s",
                                                "requests", "last_method", "in_buffer", "out_buffer"};
            for (size_t i = 0; i < sizeof nulls / sizeof *nulls; i++) {
                assert_true(json_is_null(json_object_get(j_row, nulls[i])));
            }
            assert_int_equal(figure(j_row, "session"), session);
            assert_int_equal(figure(j_row, "holds"), 1);
            assert_int_equal(figure(j_row, "lease_ms"), lease_ms);
            session = 0;
        }
        json_decref(j_rows);
    } while (session != 0);
    json_decref(wire_callf(fixture->wire, "session.resume", "[s]", token));
    json_decref(wire_callf(fixture->wire, "session.close", NULL));
}

/* What each session alone keeps alive; what a name or two sessions keep counts for none. */
static void test_clients_shows_retained_bytes(void **state)
{
    const struct fixture *fixture = *state;
    struct wire *rich = wire_open(fixture->daemon), *poor = wire_open_unix(fixture->daemon);
    json_decref(wire_callf(fixture->wire, "create", "[[i,i],s]", 1000, 2000, "named"));
    int64_t shared = create(poor);
    json_decref(wire_callf(poor, "ref", "[s]", "named"));
    json_decref(wire_callf(rich, "ref", "[I]", (json_int_t)shared));
    json_decref(wire_callf(rich, "create", "[[[i],[i],s]]", 3000, 4000, "a text of some length"));
    json_decref(wire_callf(rich, "gc.isenabled", NULL));
    json_decref(wire_callf(poor, "gc.get_count", NULL));
    json_t *j_clients = wire_callf(fixture->wire, "server.clients", "[b]", 1);
    const json_t *j_rows = json_object_get(j_clients, "clients");
    assert_true(figure(find_by_method(j_rows, "gc.isenabled"), "retained_bytes") > 100);
    assert_int_equal(figure(find_by_method(j_rows, "gc.get_count"), "retained_bytes"), 0);
    assert_int_equal(figure(find_by_method(j_rows, "server.clients"), "retained_bytes"), 0);
    json_decref(j_clients);
    wire_close(rich);
    wire_close(poor);
}

/* ---- server.kill ---- */

static void test_clients_kill_releases_and_closes(void **state)
{
    const struct fixture *fixture = *state;
    for (int over_unix = 0; over_unix < 2; over_unix++) {
        struct wire *victim = over_unix ? wire_open_unix(fixture->daemon) : wire_open(fixture->daemon);
        create(victim);
        create(victim);
        json_decref(wire_callf(victim, "gc.isenabled", NULL));
        int64_t client = client_by_method(fixture->wire, "gc.isenabled");
        assert_int_equal(kill_client(fixture->wire, client), 2);
        /* Its session has let go when the answer comes. */
        assert_int_equal(wire_stat(fixture->wire, "objects", "live"), 0);
        assert_int_equal(wire_stat(fixture->wire, "sessions", "holds"), 0);
        char line[128];
        snprintf(line, sizeof line, "{'id':1,'method':'server.kill','params':[%lld]}", (long long)client);
        wire_expect(fixture->wire, line, "{'id':1,'error':<error not_found {'client':<int>}>}");
        wire_expect_end(victim);
        wire_close(victim);
        await_clients(fixture->wire, 1);
    }
    wire_expect(fixture->wire, "{'id':1,'method':'server.kill','params':[123456789]}",
                "{'id':1,'error':<error not_found {'client':123456789}>}");
}

static void test_clients_kill_keeps_a_lease(void **state)
{
    const struct fixture *fixture = *state;
    char token[33];
    struct wire *victim = wire_open(fixture->daemon);
    create(victim);
    open_lease(victim, token);
    assert_int_equal(kill_client(fixture->wire, client_by_method(fixture->wire, "session.open")), 0);
    wire_expect_end(victim);
    wire_close(victim);
    assert_int_equal(wire_stat(fixture->wire, "sessions", "holds"), 1);
    assert_int_equal(wire_call_int(fixture->wire, "holds", "session.resume", "[s]", token), 1);
    assert_int_equal(wire_call_int(fixture->wire, "released", "session.close", NULL), 1);
}

static void test_clients_kill_of_oneself_answers_first(void **state)
{
    const struct fixture *fixture = *state;
    for (int is_leased = 0; is_leased < 2; is_leased++) {
        char token[33], line[256];
        struct wire *wire = wire_open(fixture->daemon);
        create(wire);
        if (is_leased) {
            open_lease(wire, token);
        }
        json_decref(wire_callf(wire, "gc.get_threshold", NULL));
        int64_t client = client_by_method(fixture->wire, "gc.get_threshold");
        snprintf(line, sizeof line,
                 "[{\"id\":1,\"method\":\"server.kill\",\"params\":[%lld]},{\"id\":2,\"method\":\"ping\"}]\n"
                 "{\"id\":3,\"method\":\"ping\"}\n",
                 (long long)client);
        wire_send_text(wire, line);
        wire_expect_line(wire, is_leased ? "[{'id':1,'result':{'client':<int>,'released':0}},{'id':2,'result':'pong'}]"
                                         : "[{'id':1,'result':{'client':<int>,'released':1,'freed':2}},"
                                           "{'id':2,'result':'pong'}]");
        wire_expect_end(wire);
        wire_close(wire);
        await_clients(fixture->wire, is_leased ? 2 : 1);
        if (is_leased) {
            assert_int_equal(wire_call_int(fixture->wire, "holds", "session.resume", "[s]", token), 1);
            assert_int_equal(wire_call_int(fixture->wire, "released", "session.close", NULL), 1);
        }
    }
}

/* What the victim has sent and is not answered yet does nothing any more. */
static void test_clients_kill_stops_a_busy_client(void **state)
{
    const struct fixture *fixture = *state;
    struct wire *victim = wire_open(fixture->daemon);
    json_decref(wire_callf(victim, "gc.isenabled", NULL));
    int64_t client = client_by_method(fixture->wire, "gc.isenabled");
    for (int i = 0; i < 20000; i++) {
        const char line[] = "{\"id\":1,\"method\":\"create\",\"params\":[[1000,2000,[3000]]]}\n";
        wire_send_blindly(victim, line, sizeof line - 1);
    }
    kill_client(fixture->wire, client);
    wire_drain(victim);
    wire_close(victim);
    while (wire_stat(fixture->wire, "sessions", "count") > 1) {
        usleep(1000);
    }
    assert_int_equal(wire_stat(fixture->wire, "sessions", "holds"), 0);
    assert_int_equal(wire_stat(fixture->wire, "objects", "live"), 0);
    wire_check_heap(fixture->wire);
}

/* Clients that kill each other, and themselves, as chance has it. */
static void test_clients_kill_at_random(void **state)
{
    enum { WIRES = 8 };
    const struct fixture *fixture = *state;
    struct wire *wires[WIRES];
    struct process_random random;
    const int rounds = process_rounds(300, 20);
    process_random_init(&random);
    for (int i = 0; i < WIRES; i++) {
        wires[i] = wire_open(fixture->daemon);
    }
    for (int n = 0; n < rounds; n++) {
        uint32_t i = process_random_below(&random, WIRES);
        char line[256];
        snprintf(line, sizeof line,
                 "{\"id\":1,\"method\":\"create\",\"params\":[[[]]]}\n"
                 "[{\"id\":2,\"method\":\"ping\"},{\"id\":3,\"method\":\"server.clients\",\"params\":[true]}]\n"
                 "{\"id\":1,\"method\":\"server.kill\",\"params\":[%u]}\n",
                 1 + process_random_below(&random, (uint32_t)(WIRES + n)));
        if (!wire_try_send(wires[i], line, strlen(line))) {
            wire_close(wires[i]);
            wires[i] = process_random_below(&random, 2) == 0 ? wire_open(fixture->daemon)
                                                             : wire_open_unix(fixture->daemon);
        }
    }
    for (int i = 0; i < WIRES; i++) {
        wire_half_close(wires[i]);
        wire_drain(wires[i]);
        wire_close(wires[i]);
    }
    /* The fixture's own connection may have been hit. */
    wire_close(fixture->wire);
    ((struct fixture *)*state)->wire = wire_open(fixture->daemon);
    while (wire_stat(fixture->wire, "sessions", "count") > 1) {
        usleep(1000); /* connections leave the list before their sessions have ended */
    }
    assert_int_equal(wire_stat(fixture->wire, "objects", "live"), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        fixture_test(test_clients_shows_every_connection),
        fixture_test(test_clients_shows_leased_sessions_without_one),
        fixture_test(test_clients_shows_retained_bytes),
        fixture_test(test_clients_kill_releases_and_closes),
        fixture_test(test_clients_kill_keeps_a_lease),
        fixture_test(test_clients_kill_of_oneself_answers_first),
        fixture_test(test_clients_kill_stops_a_busy_client),
        fixture_test(test_clients_kill_at_random),
    };
    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests_name("clients", tests, NULL, NULL);
}
