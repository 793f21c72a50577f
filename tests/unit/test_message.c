/* test_message.c -- connections that take messages: bodies, the sessions they are for, streams of events, exports. */
#include "rpc_fixture.h"

#include <sys/stat.h>
#include <unistd.h>

/* ---- helpers ---- */

/* A connection that takes messages, and what it said last. */
struct talker {
    struct rpc_fixture *f;
    struct rpc_conn *conn;
    char said[4096];
    bool is_lost;
    char error[32]; /* "": none */
};

static uint64_t next_client = 100;

static void talker_open(struct talker *talker, struct rpc_fixture *f)
{
    const char *begun;
    size_t len;
    *talker = (struct talker){.f = f};
    talker->conn = rpc_conn_create(f->thread, next_client++, &fixture_peer, talker);
    assert_non_null(talker->conn);
    rpc_conn_take_messages(talker->conn, &begun, &len);
    assert_int_equal(len, 0);
}

static void talker_close(struct talker *talker)
{
    rpc_conn_destroy(talker->conn, "end of test");
    fixture_run_once(talker->f);
}

/* What the connection has to say now. */
static const char *hear(struct talker *talker)
{
    size_t len;
    const char *output = rpc_conn_output(talker->conn, &len);
    assert_true(len < sizeof talker->said);
    memcpy(talker->said, output, len);
    talker->said[len] = '\0';
    rpc_conn_sent(talker->conn, len);
    return talker->said;
}

/* Runs until the connection waits for nothing. */
static void run(struct talker *talker)
{
    struct rpc_fixture *f = talker->f;
    do {
        if (rpc_thread_has_work(f->thread)) {
            rpc_thread_step(f->thread, 500);
        } else if (rpc_conn_is_waiting(talker->conn) && !rpc_conn_wants_run(talker->conn)) {
            fixture_await_wake(f);
        }
        while (rpc_thread_run(f->thread)) {
        }
        while (rpc_thread_next(f->thread) != NULL) {
        }
    } while (rpc_conn_is_waiting(talker->conn));
}

/* A message in pieces of `step` bytes, for a session (NULL: its own); returns the reply, "" when there is none. */
static const char *post_in_steps(struct talker *talker, const char *session, const char *text, size_t step)
{
    size_t len = strlen(text);
    for (size_t i = 0; i < len; i += step) {
        assert_true(rpc_conn_message_add(talker->conn, text + i, len - i < step ? len - i : step));
    }
    rpc_conn_message_end(talker->conn, session, session == NULL ? 0 : strlen(session));
    run(talker);
    const char *error = rpc_conn_message_error(talker->conn);
    snprintf(talker->error, sizeof talker->error, "%s", error == NULL ? "" : error);
    talker->is_lost = rpc_conn_message_is_lost(talker->conn);
    hear(talker);
    rpc_conn_message_taken(talker->conn);
    return talker->said;
}

static const char *post(struct talker *talker, const char *session, const char *text)
{
    return post_in_steps(talker, session, text, 4096);
}

static void expect(struct talker *talker, const char *session, const char *text, const char *reply)
{
    post(talker, session, text);
    char *newline = strchr(talker->said, '\n');
    if (newline != NULL) {
        *newline = '\0';
    }
    fixture_match(talker->f, text, reply, talker->said);
}

/* A lease for the connection's session; its token. */
static void open_session(struct talker *talker, char token[33])
{
    post(talker, NULL, "{\"id\":1,\"method\":\"session.open\",\"params\":[60000]}");
    const char *found = strstr(talker->said, "\"session\":\"");
    assert_non_null(found);
    snprintf(token, 33, "%s", found + 11);
    assert_int_equal(strlen(token), 32);
}

/* ---- bodies ---- */

static void test_message_is_answered_however_it_comes(void **state)
{
    static const char request[] = "{\"id\":1,\n\"method\":\r\n \"ping\"}\n";
    struct talker talker;
    talker_open(&talker, *state);
    for (size_t step = 1; step < sizeof request; step++) {
        assert_string_equal(post_in_steps(&talker, NULL, request, step), "{\"id\":1,\"result\":\"pong\"}\n");
    }
    talker_close(&talker);
}

static void test_message_larger_than_a_block(void **state)
{
    struct talker talker;
    char *text = malloc(300001);
    assert_non_null(text);
    talker_open(&talker, *state);
    memset(text, ' ', 300000);
    memcpy(text, "{\"id\":1,\"method\":\"ping\"}", 24);
    text[300000] = '\0';
    assert_string_equal(post_in_steps(&talker, NULL, text, 7000), "{\"id\":1,\"result\":\"pong\"}\n");
    free(text);
    talker_close(&talker);
}

static void test_message_replies(void **state)
{
    struct talker talker;
    talker_open(&talker, *state);
    assert_string_equal(post(&talker, NULL, "{\"method\":\"ping\"}"), "");
    assert_string_equal(post(&talker, NULL, "[{\"method\":\"ping\"},{\"method\":\"ping\"}]"), "");
    expect(&talker, NULL, "[{\"id\":1,\"method\":\"ping\"},{\"id\":2,\"method\":\"nope\"}]",
           "[{\"id\":1,\"result\":\"pong\"},{\"id\":2,\"error\":<error method_not_found>}]");
    assert_string_equal(talker.error, "method_not_found");
    expect(&talker, NULL, "", "{\"jsonrpc\":\"2.0\",\"id\":null,\"error\":<error parse_error>}");
    expect(&talker, NULL, " \n ", "{\"jsonrpc\":\"2.0\",\"id\":null,\"error\":<error parse_error>}");
    assert_string_equal(talker.error, "parse_error");
    expect(&talker, NULL, "{\"id\":1,\"method\":\"ping\"}\n{\"id\":2,\"method\":\"ping\"}",
           "{\"jsonrpc\":\"2.0\",\"id\":null,\"error\":<error parse_error>}");
    expect(&talker, NULL, "{\"id\":\"a\nb\",\"method\":\"ping\"}",
           "{\"jsonrpc\":\"2.0\",\"id\":null,\"error\":<error parse_error>}");
    expect(&talker, NULL, "{\"id\":1,\"method\":\"ping\"}", "{\"id\":1,\"result\":\"pong\"}");
    assert_string_equal(talker.error, "");
    talker_close(&talker);
}

/* What came as the beginning of a line is handed over. */
static void test_message_takes_what_was_a_line(void **state)
{
    struct rpc_fixture *f = *state;
    const char *begun;
    size_t len;
    struct rpc_conn *conn = rpc_conn_create(f->thread, next_client++, &fixture_peer, f);
    fixture_feed(conn, "PO", 2);
    fixture_feed(conn, "ST", 2);
    rpc_conn_take_messages(conn, &begun, &len);
    assert_int_equal(len, 4);
    assert_memory_equal(begun, "POST", 4);
    rpc_conn_destroy(conn, "end of test");
}

/* ---- sessions ---- */

static void test_message_of_no_session_is_of_the_connections_own(void **state)
{
    struct talker talker;
    struct rpc_fixture *f = *state;
    talker_open(&talker, f);
    expect(&talker, NULL, "{\"id\":1,\"method\":\"create\",\"params\":{\"value\":[]}}",
           "{\"id\":1,\"result\":{\"object\":<id:a>,\"type\":\"list\",\"refcount\":1}}");
    call(f, "stats", "[\"sessions\"]", "{\"count\":2,\"leased\":0,\"holds\":1}");
    talker_close(&talker);
    call(f, "stats", "[\"sessions\"]", "{\"count\":1,\"leased\":0,\"holds\":0}");
}

static void test_message_for_a_session_from_any_connection(void **state)
{
    struct talker a, b;
    char token[33];
    struct rpc_fixture *f = *state;
    talker_open(&a, f);
    talker_open(&b, f);
    post(&a, NULL, "{\"id\":1,\"method\":\"create\",\"params\":{\"value\":[]}}");
    open_session(&a, token);
    expect(&b, token, "{\"id\":1,\"method\":\"create\",\"params\":{\"value\":[]}}",
           "{\"id\":1,\"result\":{\"object\":<id:x>,\"type\":\"list\",\"refcount\":1}}");
    expect(&b, NULL, "{\"id\":1,\"method\":\"create\",\"params\":{\"value\":{}}}",
           "{\"id\":1,\"result\":{\"object\":<id:y>,\"type\":\"dict\",\"refcount\":1}}");
    /* The first one holds two, of which the second one may let go for it, and nothing of the second's own. */
    talker_close(&b);
    call(f, "stats", "[\"sessions\"]", "{\"count\":3,\"leased\":1,\"holds\":2}");
    expect(&a, token, "{\"id\":1,\"method\":\"session.close\"}", "{\"id\":1,\"result\":{\"released\":2,\"freed\":2}}");
    expect(&a, token, "{\"id\":1,\"method\":\"ping\"}",
           "{\"jsonrpc\":\"2.0\",\"id\":null,\"error\":<error not_found>}");
    assert_true(a.is_lost);
    talker_close(&a);
}

/* Between messages nobody is in a leased session, whose lease therefore runs. */
static void test_message_leaves_a_leased_session(void **state)
{
    struct talker talker;
    char token[33];
    struct rpc_fixture *f = *state;
    talker_open(&talker, f);
    post(&talker, NULL, "{\"id\":1,\"method\":\"create\",\"params\":{\"value\":[]}}");
    open_session(&talker, token);
    say(f, "{\"id\":1,\"method\":\"server.clients\"}\n");
    assert_non_null(strstr(f->said, "\"client\":null"));
    /* Without a token it is in its own again, which is that one. */
    expect(&talker, NULL, "{\"id\":1,\"method\":\"session.resume\",\"params\":[\"0123456789abcdef0123456789abcdef\"]}",
           "{\"id\":1,\"error\":<error not_found>}");
    expect(&talker, NULL, "{\"id\":1,\"method\":\"session.close\"}",
           "{\"id\":1,\"result\":{\"released\":1,\"freed\":1}}");
    expect(&talker, NULL, "{\"id\":1,\"method\":\"session.close\"}", "{\"id\":1,\"result\":{\"released\":0}}");
    call(f, "stats", "[\"sessions\"]", "{\"count\":2,\"leased\":0,\"holds\":0}");
    talker_close(&talker);
}

static void test_message_of_an_unknown_session_runs_nothing(void **state)
{
    static const char *const tokens[] = {"", "x", "0123456789abcdef0123456789abcdef",
                                         "0123456789abcdef0123456789abcdef0"};
    struct talker talker;
    struct rpc_fixture *f = *state;
    talker_open(&talker, f);
    for (size_t i = 0; i < sizeof tokens / sizeof tokens[0]; i++) {
        expect(&talker, tokens[i],
               "[{\"id\":1,\"method\":\"create\",\"params\":{\"value\":[],\"name\":\"a\"}},{\"id\":2,\"method\":\"ping\"}]",
               "{\"jsonrpc\":\"2.0\",\"id\":null,\"error\":<error not_found>}");
        assert_true(talker.is_lost);
        assert_string_equal(talker.error, "not_found");
        expect(&talker, tokens[i], "{\"id\":2,\"method\":\"ping\"}",
               "{\"jsonrpc\":\"2.0\",\"id\":null,\"error\":<error not_found>}");
    }
    fail_call(f, "get", "[\"a\"]", "name_error", NULL);
    expect(&talker, NULL, "{\"id\":2,\"method\":\"ping\"}", "{\"id\":2,\"result\":\"pong\"}");
    assert_false(talker.is_lost);
    talker_close(&talker);
}

/* A message that ends with what runs without the GIL leaves all the same. */
static void test_message_that_ends_without_the_gil_leaves(void **state)
{
    struct talker a, b;
    char token[33];
    struct rpc_fixture *f = *state;
    talker_open(&a, f);
    talker_open(&b, f);
    open_session(&a, token);
    expect(&b, token, "[{\"id\":1,\"method\":\"create\",\"params\":{\"value\":[]}},{\"id\":2,\"method\":\"heap.types\"}]",
           "[{\"id\":1,\"result\":<object>},{\"id\":2,\"result\":<object>}]");
    expect(&b, NULL, "{\"id\":1,\"method\":\"session.close\"}", "{\"id\":1,\"result\":{\"released\":0}}");
    expect(&b, token, "[{\"id\":2,\"method\":\"heap.types\"}]", "[{\"id\":2,\"result\":<object>}]");
    fixture_run(f);
    say(f, "{\"id\":1,\"method\":\"server.clients\"}\n");
    assert_non_null(strstr(f->said, "\"client\":null"));
    talker_close(&b);
    expect(&a, token, "{\"id\":1,\"method\":\"session.close\"}", "{\"id\":1,\"result\":{\"released\":1,\"freed\":1}}");
    talker_close(&a);
}

/* What a message in another session does to sessions: it resumes a third, it is killed. */
static void test_message_moves_between_sessions(void **state)
{
    struct talker a, b;
    char first[33], second[33], text[256];
    struct rpc_fixture *f = *state;
    talker_open(&a, f);
    talker_open(&b, f);
    post(&a, NULL, "{\"id\":1,\"method\":\"create\",\"params\":{\"value\":[]}}");
    open_session(&a, first);
    post(&b, NULL, "{\"id\":1,\"method\":\"create\",\"params\":{\"value\":{}}}");
    open_session(&b, second);
    snprintf(text, sizeof text, "{\"id\":1,\"method\":\"session.resume\",\"params\":[\"%s\"]}", second);
    expect(&a, first, text, "{\"id\":1,\"result\":{\"holds\":2}}");
    expect(&b, first, "{\"id\":1,\"method\":\"ping\"}", "{\"jsonrpc\":\"2.0\",\"id\":null,\"error\":<error not_found>}");
    expect(&b, second, "{\"id\":1,\"method\":\"session.close\"}", "{\"id\":1,\"result\":{\"released\":2,\"freed\":2}}");
    talker_close(&a);
    talker_close(&b);
}

static void test_message_of_a_connection_that_kills_itself(void **state)
{
    struct talker talker;
    char token[33], text[128];
    struct rpc_fixture *f = *state;
    talker_open(&talker, f);
    post(&talker, NULL, "{\"id\":1,\"method\":\"create\",\"params\":{\"value\":[]}}");
    open_session(&talker, token);
    snprintf(text, sizeof text, "{\"id\":1,\"method\":\"server.kill\",\"params\":[%llu]}",
             (unsigned long long)next_client - 1);
    expect(&talker, token, text, "{\"id\":1,\"result\":{\"client\":<id:k>,\"released\":0}}");
    talker_close(&talker);
    call(f, "stats", "[\"sessions\"]", "{\"count\":2,\"leased\":1,\"holds\":1}");
    talker_open(&talker, f);
    expect(&talker, token, "{\"id\":1,\"method\":\"session.close\"}",
           "{\"id\":1,\"result\":{\"released\":1,\"freed\":1}}");
    talker_close(&talker);
}

/* ---- events ---- */

static const char finalizer[] = "[{\"id\":1,\"method\":\"create\",\"params\":{\"value\":[],\"name\":\"a\"}},"
                                "{\"id\":2,\"method\":\"finalizer.set\",\"params\":{\"object\":\"a\",\"token\":\"t\"}},"
                                "{\"id\":3,\"method\":\"name.unbind\",\"params\":[\"a\"]}]";

/* No event stands in a reply: they wait for a stream. */
static void test_message_replies_have_no_events(void **state)
{
    struct talker talker, stream;
    char token[33];
    struct rpc_fixture *f = *state;
    talker_open(&talker, f);
    open_session(&talker, token);
    post(&talker, token, finalizer);
    assert_null(strstr(talker.said, "\"event\""));
    talker_open(&stream, f);
    rpc_conn_want_stream(stream.conn);
    static const char subscribe[] = "{\"id\":0,\"method\":\"subscribe\",\"params\":{\"events\":[\"gc\"]}}";
    rpc_conn_message_add(stream.conn, subscribe, strlen(subscribe));
    rpc_conn_message_end(stream.conn, token, 32);
    run(&stream);
    assert_string_equal(hear(&stream), "{\"id\":0,\"result\":[\"gc\"]}\n");
    rpc_conn_begin_stream(stream.conn);
    run(&stream);
    assert_non_null(strstr(hear(&stream), "\"event\":\"finalized\""));
    /* What happens now comes at once, that of others, too. */
    post(&talker, token, finalizer);
    run(&stream);
    assert_non_null(strstr(hear(&stream), "\"event\":\"finalized\""));
    post(&talker, NULL, "{\"id\":1,\"method\":\"collect\"}");
    run(&stream);
    assert_non_null(strstr(hear(&stream), "\"event\":\"gc\""));
    size_t params_len;
    char *newline = strchr(stream.said, '\n');
    const char *params = rpc_event_params(stream.said, (size_t)(newline + 1 - stream.said), &params_len);
    assert_memory_equal(params, "{\"event\":\"gc\",", 14);
    assert_int_equal(params[params_len - 1], '}');
    /* Its subscription goes with it; the session asked for nothing. */
    expect(&talker, token, "{\"id\":1,\"method\":\"unsubscribe\",\"params\":[[]]}", "{\"id\":1,\"result\":[]}");
    talker_close(&stream);
    expect(&talker, token, "{\"id\":1,\"method\":\"collect\"}", "{\"id\":1,\"result\":<object>}");
    say(f, "{\"id\":1,\"method\":\"server.clients\"}\n");
    assert_null(strstr(f->said, "\"events\":1"));
    expect(&talker, token, "{\"id\":1,\"method\":\"session.close\"}", "{\"id\":1,\"result\":{\"released\":0}}");
    talker_close(&talker);
}

/* ---- exports ---- */

static void test_message_export_comes_with_a_file(void **state)
{
    struct talker talker;
    struct rpc_fixture *f = *state;
    static const char *const formats[] = {"heapsnapshot", "dot", "jsonl"};
    call(f, "create", "{\"value\":[1000,2000],\"name\":\"a\"}", "<object>");
    talker_open(&talker, f);
    assert_false(rpc_conn_ask_export(talker.conn, "nope"));
    for (size_t i = 0; i < 3; i++) {
        char text[4096];
        assert_true(rpc_conn_ask_export(talker.conn, formats[i]));
        run(&talker);
        assert_null(rpc_conn_message_error(talker.conn));
        assert_non_null(strstr(hear(&talker), "\"objects\":3"));
        int file = rpc_conn_take_file(talker.conn);
        assert_true(file >= 0);
        ssize_t n = pread(file, text, sizeof text - 1, 0);
        assert_true(n > 0);
        text[n] = '\0';
        assert_non_null(strstr(text, "list"));
        struct stat stat_of;
        assert_int_equal(fstat(file, &stat_of), 0);
        assert_int_equal(stat_of.st_nlink, 0);
        close(file);
        assert_int_equal(rpc_conn_take_file(talker.conn), -1);
        rpc_conn_message_taken(talker.conn);
    }
    expect(&talker, NULL, "{\"id\":1,\"method\":\"ping\"}", "{\"id\":1,\"result\":\"pong\"}");
    talker_close(&talker);
}

/* A file that nobody takes is closed, whether the answer came or not. */
static void test_message_export_that_nobody_takes(void **state)
{
    struct talker talker;
    struct rpc_fixture *f = *state;
    int before = dup(0);
    close(before);
    for (int round = 0; round < 2; round++) {
        talker_open(&talker, f);
        rpc_conn_ask_export(talker.conn, "dot");
        if (round == 0) {
            run(&talker);
            hear(&talker);
        } else {
            rpc_thread_run(f->thread);
        }
        talker_close(&talker);
    }
    call(f, "heap.check", "{}", "<has {\"ok\":true}>"); /* asks the same worker, who is done with what came before */
    int after = dup(0);
    close(after);
    assert_int_equal(after, before);
}

/* ---- errors ---- */

static void test_message_error_lines(void **state)
{
    char line[RPC_ERROR_LINE_BYTES];
    (void)state;
    size_t len = rpc_error_line(line, "limit_exceeded", "too \"much\"", "max-request", 100);
    assert_int_equal(len, strlen(line));
    assert_string_equal(line, "{\"jsonrpc\":\"2.0\",\"id\":null,\"error\":{\"code\":-32008,\"message\":\"too \\\"much\\\"\","
                              "\"data\":{\"error\":\"limit_exceeded\",\"limit\":\"max-request\",\"max\":100}}}\n");
    rpc_error_line(line, "forbidden", "no", NULL, 0);
    assert_string_equal(line, "{\"jsonrpc\":\"2.0\",\"id\":null,\"error\":{\"code\":-32010,\"message\":\"no\","
                              "\"data\":{\"error\":\"forbidden\"}}}\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        fixture_test(test_message_is_answered_however_it_comes),
        fixture_test(test_message_larger_than_a_block),
        fixture_test(test_message_replies),
        fixture_test(test_message_takes_what_was_a_line),
        fixture_test(test_message_of_no_session_is_of_the_connections_own),
        fixture_test(test_message_for_a_session_from_any_connection),
        fixture_test(test_message_leaves_a_leased_session),
        fixture_test(test_message_of_an_unknown_session_runs_nothing),
        fixture_test(test_message_that_ends_without_the_gil_leaves),
        fixture_test(test_message_moves_between_sessions),
        fixture_test(test_message_of_a_connection_that_kills_itself),
        fixture_test(test_message_replies_have_no_events),
        fixture_test(test_message_export_comes_with_a_file),
        fixture_test(test_message_export_that_nobody_takes),
        cmocka_unit_test(test_message_error_lines),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
