/* test_lease.c -- leases: which one ends first, how many at a time, how many there may be, and what is left of those
 * that come back.
 */
#include "rpc_fixture.h"

#include "../support/splitmix64.h"

#include "../../protocol/rpc_internal.h"

#include <unistd.h>

#define A_DAY_MS 86400000u

/* Says a line on a connection of its own, and runs it; the answer is in `said`. */
static void say_on(struct rpc_fixture *f, struct rpc_conn *conn, const char *line)
{
    fixture_forget(f);
    fixture_feed(conn, line, strlen(line));
    fixture_run(f);
}

static struct rpc_conn *connect_to(struct rpc_fixture *f)
{
    static uint64_t client = 10;
    struct rpc_conn *conn = rpc_conn_create(f->thread, client++, &fixture_peer, f);
    assert_non_null(conn);
    return conn;
}

static void disconnect(struct rpc_fixture *f, struct rpc_conn *conn)
{
    rpc_conn_destroy(conn, "end of input");
    fixture_run(f);
}

static void open_lease(struct rpc_fixture *f, struct rpc_conn *conn, unsigned lease_ms, char token[RPC_TOKEN_BYTES])
{
    char line[128];
    snprintf(line, sizeof(line), "{\"id\":1,\"method\":\"session.open\",\"params\":[%u]}\n", lease_ms);
    say_on(f, conn, line);
    assert_int_equal(sscanf(f->said, "{\"id\":1,\"result\":{\"session\":\"%32s", token), 1);
}

static bool resume(struct rpc_fixture *f, struct rpc_conn *conn, const char *token)
{
    char line[160];
    snprintf(line, sizeof(line), "{\"id\":1,\"method\":\"session.resume\",\"params\":[\"%.32s\"]}\n", token);
    say_on(f, conn, line);
    return strstr(f->said, "\"result\"") != NULL;
}

static uint64_t leased(struct rpc_fixture *f)
{
    return atomic_load(&f->service->book.leased);
}

/* A session that is leased and that nobody is in. */
static void leave_lease(struct rpc_fixture *f, unsigned lease_ms, char token[RPC_TOKEN_BYTES])
{
    struct rpc_conn *conn = connect_to(f);
    open_lease(f, conn, lease_ms, token);
    disconnect(f, conn);
}

/* ---- tests ---- */

/* However many end at one moment, others have the GIL between a few of them. */
static void test_lease_ends_are_spread_over_looks(void **state)
{
    enum { COUNT = 500, LEAST_LOOKS = 5 };
    struct rpc_fixture *f = *state;
    char token[RPC_TOKEN_BYTES];
    struct rpc_conn *conns[COUNT];
    for (int i = 0; i < COUNT; i++) {
        conns[i] = connect_to(f);
        open_lease(f, conns[i], 1, token);
    }
    assert_int_equal(leased(f), COUNT);
    for (int i = 0; i < COUNT; i++) {
        rpc_conn_destroy(conns[i], "end of input");
    }
    rpc_thread_run(f->thread);
    usleep(3000);
    unsigned looks = 0;
    while (leased(f) > 0) {
        uint64_t before = leased(f);
        rpc_thread_run(f->thread);
        assert_true(leased(f) <= before);
        looks += leased(f) < before;
        assert_true(before - leased(f) <= COUNT / LEAST_LOOKS);
    }
    assert_true(looks >= LEAST_LOOKS);
    fixture_run(f);
}

/* In whatever order they begin, are resumed and begin anew, the one that ends first ends first: none before its time,
 * and none is forgotten. */
static void test_lease_ends_in_the_order_of_time(void **state)
{
    enum { COUNT = 300 };
    struct rpc_fixture *f = *state;
    static char tokens[COUNT][RPC_TOKEN_BYTES];
    uint64_t random = 5, ends_ms[COUNT];
    for (int i = 0; i < COUNT; i++) {
        unsigned lease_ms = splitmix64(&random) % 3 == 0 ? A_DAY_MS : 2000 + (unsigned)(splitmix64(&random) % 3000);
        leave_lease(f, lease_ms, tokens[i]);
        ends_ms[i] = rpc_now_ms() + lease_ms;
    }
    for (int i = 0; i < 2 * COUNT; i++) { /* out of the middle, and back with another end */
        size_t at = (size_t)(splitmix64(&random) % COUNT);
        unsigned lease_ms = splitmix64(&random) % 3 == 0 ? A_DAY_MS : 300 + (unsigned)(splitmix64(&random) % 300);
        struct rpc_conn *conn = connect_to(f);
        assert_true(resume(f, conn, tokens[at]) || rpc_now_ms() >= ends_ms[at]);
        if (strstr(f->said, "\"result\"") != NULL) {
            open_lease(f, conn, lease_ms, tokens[at]);
            ends_ms[at] = rpc_now_ms() + lease_ms;
        }
        disconnect(f, conn);
        const struct lease_heap *heap = &f->service->book.running_leases;
        for (uint32_t place = 1; place < heap->count; place++) {
            assert_true(heap->sessions[(place - 1) / 2]->ends_ms <= heap->sessions[place]->ends_ms);
            assert_int_equal(heap->sessions[place]->lease_place, place + 1);
        }
    }
    uint64_t last_ms = 0, long_ones = 0;
    for (int i = 0; i < COUNT; i++) {
        bool is_long = ends_ms[i] > rpc_now_ms() + A_DAY_MS / 2;
        long_ones += is_long;
        last_ms = !is_long && ends_ms[i] > last_ms ? ends_ms[i] : last_ms;
    }
    assert_true(long_ones > 0 && long_ones < COUNT);
    while (rpc_now_ms() <= last_ms) {
        usleep(20000);
        fixture_run(f);
    }
    while (leased(f) > long_ones) { /* 64 at a time */
        fixture_run(f);
    }
    assert_int_equal(leased(f), long_ones);
    for (int i = 0; i < COUNT; i++) {
        struct rpc_conn *conn = connect_to(f);
        if (resume(f, conn, tokens[i])) {
            assert_true(ends_ms[i] > rpc_now_ms());
            say_on(f, conn, "{\"method\":\"session.close\"}\n");
            long_ones--;
        }
        disconnect(f, conn);
    }
    assert_int_equal(long_ones, 0);
}

/* One more is refused, and a lease may be renewed all the same. */
static void test_lease_has_a_limit(void **state)
{
    (void)state;
    struct rpc_limits limits;
    rpc_limits_default(&limits);
    limits.max_leases = 2;
    struct rpc_fixture *f = fixture_open(&limits);
    char first[RPC_TOKEN_BYTES], second[RPC_TOKEN_BYTES], again[RPC_TOKEN_BYTES];
    leave_lease(f, A_DAY_MS, first);
    struct rpc_conn *conn = connect_to(f);
    open_lease(f, conn, A_DAY_MS, second);
    fail_call(f, "session.open", "[1000]", "limit_exceeded", "{\"limit\":\"max-leases\",\"max\":2}");
    call(f, "stats", "[\"sessions\"]", "{\"count\":3,\"leased\":2,\"holds\":0}");
    call(f, "stats", "[\"limits\"]", "<has {\"max-leases\":2,\"reached\":<has {\"max-leases\":1}>}>");
    open_lease(f, conn, 1000, again);
    assert_string_equal(second, again);
    say_on(f, conn, "{\"method\":\"session.close\"}\n");
    call(f, "session.open", "[1000]", "<object>");
    assert_true(resume(f, conn, first));
    say_on(f, conn, "{\"method\":\"session.close\"}\n");
    disconnect(f, conn);
    fixture_close(f);
}

/* How many numbers find the session of that connection. */
static unsigned numbers_of(const struct rpc_conn *conn)
{
    unsigned count = 0;
    for (const struct session_number *entry = conn->session->numbers; entry != NULL; entry = entry->more) {
        count++;
    }
    return count;
}

/* Clients that come again and again leave nothing behind, whatever they ask before they resume; but the number of one
 * with a finalizer goes on to name the session that it went into. */
static void test_lease_takes_in_no_more_than_it_must(void **state)
{
    struct rpc_fixture *f = *state;
    char token[RPC_TOKEN_BYTES];
    struct rpc_conn *conn = connect_to(f);
    open_lease(f, conn, A_DAY_MS, token);
    say_on(f, conn, "{\"method\":\"subscribe\",\"params\":[[\"finalized\"]]}\n");
    for (int i = 0; i < 10; i++) {
        struct rpc_conn *visitor = connect_to(f);
        say_on(f, visitor, "{\"method\":\"ping\"}\n{\"method\":\"create\",\"params\":{\"value\":[1],\"hold\":true}}\n"
                           "{\"method\":\"ping\"}\n");
        assert_true(resume(f, visitor, token));
        disconnect(f, visitor);
    }
    assert_int_equal(numbers_of(conn), 1);
    struct rpc_conn *visitor = connect_to(f);
    say_on(f, visitor, "{\"method\":\"create\",\"params\":{\"value\":[1],\"name\":\"a\"}}\n"
                       "{\"method\":\"finalizer.set\",\"params\":[\"a\",\"mine\"]}\n");
    assert_true(resume(f, visitor, token));
    disconnect(f, visitor);
    assert_int_equal(numbers_of(conn), 2);
    say_on(f, conn, "{\"method\":\"name.unbind\",\"params\":[\"a\"]}\n");
    assert_non_null(strstr(f->said, "\"token\":\"mine\""));
    say_on(f, conn, "{\"method\":\"session.close\"}\n");
    disconnect(f, conn);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        fixture_test(test_lease_ends_are_spread_over_looks),
        fixture_test(test_lease_ends_in_the_order_of_time),
        cmocka_unit_test(test_lease_has_a_limit),
        fixture_test(test_lease_takes_in_no_more_than_it_must),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
