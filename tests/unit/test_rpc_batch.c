/* test_rpc_batch.c -- batches of megabytes: read in slices, in order, and others are heard meanwhile. */
#include "rpc_fixture.h"

#include <stdio.h>

#define MIB 1048576u
#define ONE "{\"method\":\"list.append\",\"params\":[\"l\",1]}"
#define PING_BEHIND "\n{\"id\":\"behind\",\"method\":\"ping\"}\n"
#define PONG_BEHIND "{\"id\":\"behind\",\"result\":\"pong\"}\n"

/* A batch of so many notifications and one call, with `end` behind the last, and a ping behind it: new (free()). */
static char *make_batch(size_t count, const char *end)
{
    size_t len = 1;
    char *text = malloc(count * (sizeof(ONE) + 1) + 256);
    assert_non_null(text);
    *text = '[';
    for (size_t i = 0; i < count; i++) {
        len += (size_t)sprintf(text + len, ONE ",");
    }
    sprintf(text + len, "{\"id\":\"last\",\"method\":\"list.len\",\"params\":[\"l\"]}%s" PING_BEHIND, end);
    return text;
}

static struct rpc_fixture *open_without_limit(uint64_t max_batch)
{
    struct rpc_limits limits;
    rpc_limits_default(&limits);
    limits.max_batch = max_batch;
    struct rpc_fixture *f = fixture_open(&limits);
    tell(f, "{\"id\":1,\"method\":\"create\",\"params\":[[],\"l\"]}", "{\"id\":1,\"result\":<object>}");
    fixture_forget(f);
    return f;
}

static void close_it(struct rpc_fixture *f)
{
    tell(f, "{\"id\":1,\"method\":\"name.unbind\",\"params\":[\"l\"]}", "{\"id\":1,\"result\":<any>}");
    fixture_close(f);
}

/* Runs the thread until the first connection has said all; another one asks before each run and must be answered by it.
 * Returns how many runs that took.  What the first one said is in `said`. */
static size_t run_beside_another(struct rpc_fixture *f)
{
    struct rpc_conn *other = rpc_conn_create(f->thread, 2, &fixture_peer, f), *conn;
    size_t runs = 0;
    bool more = true;
    assert_non_null(other);
    while (more) {
        bool is_answered = false;
        fixture_feed(other, "{\"id\":7,\"method\":\"ping\"}\n", 25);
        more = rpc_thread_run(f->thread);
        runs++;
        while ((conn = rpc_thread_next(f->thread)) != NULL) {
            size_t len;
            const char *output = rpc_conn_output(conn, &len);
            if (conn == other) {
                is_answered = len > 0 && memcmp(output, "{\"id\":7,\"result\":\"pong\"}", 24) == 0;
                rpc_conn_sent(conn, len);
            } else {
                fixture_hear(f, conn);
            }
        }
        assert_true(is_answered);
    }
    rpc_conn_destroy(other, "the test is over");
    fixture_run(f);
    return runs;
}

static void test_rpc_batch_is_read_in_slices(void **state)
{
    (void)state;
    struct rpc_fixture *f = open_without_limit(0);
    size_t count = 6 * MIB / sizeof(ONE);
    char *text = make_batch(count, "]"), expected[256];
    fixture_feed(f->conn, "{\"id\":\"before\",\"method\":\"ping\"}\n", 32);
    fixture_feed(f->conn, text, strlen(text));
    assert_true(run_beside_another(f) >= 5);
    snprintf(expected, sizeof expected,
             "{\"id\":\"before\",\"result\":\"pong\"}\n[{\"id\":\"last\",\"result\":{\"len\":%zu}}]\n" PONG_BEHIND, count);
    assert_string_equal(f->said, expected);
    free(text);
    close_it(f);
}

/* An error in the last byte, or one element too many: nothing has run, and what stands behind is answered. */
static void test_rpc_batch_that_is_wrong_does_nothing(void **state)
{
    (void)state;
    static const struct {
        const char *end, *word;
        uint64_t max_batch;
    } cases[] = {
        {"}", "parse_error", 0},
        {",]", "parse_error", 0},
        {"]", "limit_exceeded", 1000},
        {"}", "parse_error", 1000},
        {"]]", "parse_error", 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct rpc_fixture *f = open_without_limit(cases[i].max_batch);
        char *text = make_batch(3 * MIB / sizeof(ONE), cases[i].end);
        fixture_feed(f->conn, text, strlen(text));
        assert_true(run_beside_another(f) >= 2);
        char *newline = strchr(f->said, '\n');
        assert_non_null(newline);
        assert_string_equal(newline + 1, PONG_BEHIND);
        *newline = '\0';
        assert_non_null(strstr(f->said, cases[i].word));
        tell(f, "{\"id\":1,\"method\":\"list.len\",\"params\":[\"l\"]}", "{\"id\":1,\"result\":{\"len\":0}}");
        free(text);
        close_it(f);
    }
}

/* The connection's input ends behind a batch that is not read yet: it is answered all the same. */
static void test_rpc_batch_before_the_end_of_input(void **state)
{
    (void)state;
    struct rpc_fixture *f = open_without_limit(0);
    char *text = make_batch(3 * MIB / sizeof(ONE), "]");
    fixture_feed(f->conn, text, strlen(text) - strlen(PING_BEHIND));
    rpc_conn_received_eof(f->conn);
    assert_true(rpc_conn_is_waiting(f->conn));
    assert_false(rpc_conn_is_finished(f->conn));
    fixture_run(f);
    assert_non_null(strstr(f->said, "[{\"id\":\"last\",\"result\":{\"len\":"));
    assert_true(rpc_conn_is_finished(f->conn));
    free(text);
    fixture_close(f);
}

/* It goes in the middle: all that was read so far goes with it. */
static void test_rpc_batch_of_a_connection_that_goes(void **state)
{
    (void)state;
    struct rpc_fixture *f = open_without_limit(0);
    struct rpc_conn *other = rpc_conn_create(f->thread, 2, &fixture_peer, f);
    char *text = make_batch(5 * MIB / sizeof(ONE), "]");
    assert_non_null(other);
    fixture_feed(other, text, strlen(text));
    assert_true(rpc_thread_run(f->thread));
    assert_true(rpc_thread_run(f->thread));
    assert_true(rpc_conn_is_waiting(other));
    rpc_conn_destroy(other, "the test wants it so");
    fixture_run(f);
    tell(f, "{\"id\":1,\"method\":\"list.len\",\"params\":[\"l\"]}", "{\"id\":1,\"result\":{\"len\":0}}");
    free(text);
    close_it(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rpc_batch_is_read_in_slices),
        cmocka_unit_test(test_rpc_batch_that_is_wrong_does_nothing),
        cmocka_unit_test(test_rpc_batch_before_the_end_of_input),
        cmocka_unit_test(test_rpc_batch_of_a_connection_that_goes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
