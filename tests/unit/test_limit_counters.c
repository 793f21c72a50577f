/* test_limit_counters.c -- each limit that a request can meet has its error, with the option's name, and its counter in
 * stats.
 */
#include "rpc_fixture.h"

#include "../../protocol/rpc_internal.h"

/* How often the limit was reached so far. */
static long reached(struct rpc_fixture *f, const char *name)
{
    char key[64];
    long count = -1;
    say(f, "{\"id\":1,\"method\":\"stats\",\"params\":[\"limits\"]}\n");
    const char *all = strstr(f->said, "\"reached\":{");
    assert_non_null(all);
    snprintf(key, sizeof(key), "\"%s\":", name);
    const char *found = strstr(all, key);
    assert_non_null(found);
    assert_int_equal(sscanf(found + strlen(key), "%ld", &count), 1);
    return count;
}

/* The line is answered with the limit's error, which is counted once. */
static void demand(struct rpc_fixture *f, const char *name, const char *word, const char *line)
{
    char limit[64];
    long before = reached(f, name);
    snprintf(limit, sizeof(limit), "\"limit\":\"%s\"", name);
    say(f, line);
    if (strstr(f->said, word) == NULL || strstr(f->said, limit) == NULL) {
        fail_msg("wanted %s of %s, came %s", word, name, f->said);
    }
    assert_int_equal(reached(f, name), before + 1);
}

static struct rpc_fixture *open_with(uint64_t (*change)(struct rpc_limits *limits))
{
    struct rpc_limits limits;
    rpc_limits_default(&limits);
    change(&limits);
    return fixture_open(&limits);
}

static uint64_t small(struct rpc_limits *limits)
{
    limits->max_depth = 8;
    limits->max_batch = 2;
    limits->max_holds = 1;
    limits->max_names = 1;
    return limits->max_request = 4000;
}

static void test_limit_counters_of_lines(void **state)
{
    (void)state;
    struct rpc_fixture *f = open_with(small);
    demand(f, "max-depth", "limit_exceeded", "{\"id\":1,\"method\":\"create\",\"params\":[[[[[[[[[[1]]]]]]]]]]}\n");
    demand(f, "max-batch", "limit_exceeded", "[{\"method\":\"ping\"},{\"method\":\"ping\"},{\"method\":\"ping\"}]\n");
    char line[5000];
    memset(line, ' ', sizeof(line));
    memcpy(line, "{\"id\":1", 7);
    memcpy(line + sizeof(line) - 3, "}\n", 3);
    demand(f, "max-request", "limit_exceeded", line);
    fixture_close(f);
}

static void test_limit_counters_of_sessions(void **state)
{
    (void)state;
    struct rpc_fixture *f = open_with(small);
    call(f, "create", "{\"value\":[1],\"name\":\"a\",\"hold\":true}", "<object>");
    demand(f, "max-names", "limit_exceeded", "{\"id\":1,\"method\":\"name.bind\",\"params\":[\"b\",\"a\"]}\n");
    demand(f, "max-holds", "limit_exceeded", "{\"id\":1,\"method\":\"ref\",\"params\":[\"a\"]}\n");
    fixture_close(f);
}

static uint64_t little_output(struct rpc_limits *limits)
{
    return limits->max_output = 4000;
}

static void test_limit_counters_of_replies(void **state)
{
    (void)state;
    struct rpc_fixture *f = open_with(little_output);
    char line[6000], *p = line;
    p += sprintf(p, "{\"id\":1,\"method\":\"create\",\"params\":{\"name\":\"a\",\"value\":[0");
    for (int i = 0; i < 900; i++) {
        p += sprintf(p, ",1000");
    }
    strcpy(p, "]}}\n");
    say(f, line);
    demand(f, "max-output", "limit_exceeded", "{\"id\":1,\"method\":\"get\",\"params\":[\"a\"]}\n");
    fixture_close(f);
}

/* ---- what all connections together have unread ---- */

#define CROWD_OUTPUT 250000 /* max-output */
#define CROWD_TEXT 131000 /* a multiple of it leaves less than RPC_OUTPUT_LOW_BYTES */
#define CROWD 40

static uint64_t output_of_crowd(struct rpc_limits *limits)
{
    return limits->max_output = CROWD_OUTPUT;
}

/* The connection says that, and reads nothing; returns the end of what it could read, or NULL: nothing runs for it. */
static const char *say_unread(struct rpc_fixture *f, struct rpc_conn *conn, const char *line)
{
    size_t before, len;
    rpc_conn_output(conn, &before);
    fixture_feed(conn, line, strlen(line));
    for (int runs = 0; runs < 100; runs++) {
        rpc_thread_run(f->thread);
        if (!rpc_conn_is_waiting(conn)) {
            break;
        }
        if (!rpc_conn_wants_run(conn)) { /* a worker reads the value */
            fixture_await_wake(f);
        }
    }
    const char *output = rpc_conn_output(conn, &len);
    return len > before ? output + before : NULL;
}

static void read_all(struct rpc_conn *conn)
{
    size_t len;
    rpc_conn_output(conn, &len);
    rpc_conn_sent(conn, len);
}

/* Many that ask for much and read nothing: replies are refused before the memory of all is more than a multiple of
 * max-output, who has unread replies runs no more, and others are served. */
static void test_limit_counters_of_a_crowd(void **state)
{
    (void)state;
    struct rpc_fixture *f = open_with(output_of_crowd);
    struct rpc_conn *crowd[CROWD];
    char *line = malloc(CROWD_TEXT + 100);
    assert_non_null(line);
    size_t at = (size_t)sprintf(line, "{\"id\":1,\"method\":\"create\",\"params\":[\"");
    memset(line + at, 'x', CROWD_TEXT);
    strcpy(line + at + CROWD_TEXT, "\",\"text\"]}\n");
    say(f, line);
    free(line);
    unsigned given = 0, refused = 0;
    for (unsigned i = 0; i < CROWD; i++) {
        crowd[i] = rpc_conn_create(f->thread, 2 + i, &fixture_peer, f);
        assert_non_null(crowd[i]);
        const char *reply = say_unread(f, crowd[i], "{\"id\":1,\"method\":\"get\",\"params\":[\"text\"]}\n");
        assert_non_null(reply);
        given += strncmp(reply, "{\"id\":1,\"result\":\"xxx", 21) == 0;
        refused += strstr(reply, "\"limit\":\"max-output\"") != NULL;
        assert_int_equal(given + refused, i + 1);
        assert_true(f->service->unread <= RPC_OUTPUT_ALL * CROWD_OUTPUT + CROWD_OUTPUT);
    }
    assert_in_range(given, 4, RPC_OUTPUT_ALL * CROWD_OUTPUT / CROWD_TEXT);
    static const char ping[] = "{\"id\":2,\"method\":\"ping\"}\n";
    assert_null(say_unread(f, crowd[0], ping)); /* it has a text unread */
    assert_non_null(say_unread(f, crowd[CROWD - 1], ping));
    for (unsigned i = 0; i < CROWD; i++) {
        read_all(crowd[i]);
    }
    assert_int_equal(f->service->unread, 0);
    rpc_thread_run(f->thread);
    size_t len;
    const char *output = rpc_conn_output(crowd[0], &len); /* its ping */
    assert_true(len > 0 && strncmp(output, "{\"id\":2,\"result\":\"pong\"}", 24) == 0);
    assert_non_null(strstr(say_unread(f, crowd[1], "{\"id\":1,\"method\":\"get\",\"params\":[\"text\"]}\n"), "xxx"));
    for (unsigned i = 0; i < CROWD; i++) {
        rpc_conn_destroy(crowd[i], "end of test");
    }
    assert_int_equal(f->service->unread, 0);
    assert_int_equal(reached(f, "max-output"), refused);
    fixture_close(f);
}

static uint64_t little_memory(struct rpc_limits *limits)
{
    return limits->max_memory = 1 << 20;
}

static void test_limit_counters_of_memory(void **state)
{
    (void)state;
    struct rpc_fixture *f = open_with(little_memory);
    size_t len = 3 << 20;
    char *line = malloc(len + 100);
    assert_non_null(line);
    size_t at = (size_t)sprintf(line, "{\"id\":1,\"method\":\"create\",\"params\":[\"");
    memset(line + at, 'x', len);
    strcpy(line + at + len, "\"]}\n");
    demand(f, "max-memory", "memory_error", line);
    free(line);
    fixture_close(f);
}

/* A limit that the host keeps is counted by its name, and another name counts nothing. */
static void test_limit_counters_of_the_host(void **state)
{
    struct rpc_fixture *f = *state;
    rpc_service_count_limit(f->service, "idle-timeout");
    rpc_service_count_limit(f->service, "max-clients");
    rpc_service_count_limit(f->service, "nonsense");
    assert_int_equal(reached(f, "idle-timeout"), 1);
    assert_int_equal(reached(f, "max-clients"), 1);
    assert_int_equal(reached(f, "first-byte-timeout"), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_limit_counters_of_lines),   cmocka_unit_test(test_limit_counters_of_sessions),
        cmocka_unit_test(test_limit_counters_of_replies), cmocka_unit_test(test_limit_counters_of_memory),
        cmocka_unit_test(test_limit_counters_of_a_crowd), fixture_test(test_limit_counters_of_the_host),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
