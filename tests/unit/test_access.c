/* test_access.c -- tokens and roles: who may call what, in which order errors are told, and what becomes of wrong
 * tokens.
 */
#include "../../protocol/method.h"
#include "rpc_fixture.h"

/* Who must show a token. */
static const struct rpc_peer stranger = {.transport = "tcp", .name = "1.2.3.4:5", .must_authenticate = true};

static const struct rpc_auth_token TOKENS[] = {{RPC_ROLE_READ, "reader-0123456789", 17},
                                               {RPC_ROLE_WRITE, "writer-0123456789", 17},
                                               {RPC_ROLE_ADMIN, "admin-0123456789", 16}};

/* The fixture's connection is one of a stranger from here on. */
static void become_stranger(struct rpc_fixture *f)
{
    static uint64_t client = 100;
    rpc_conn_destroy(f->conn, "a stranger takes its place");
    f->conn = rpc_conn_create(f->thread, client++, &stranger, f);
    assert_non_null(f->conn);
    fixture_run_once(f);
}

static int setup(void **state)
{
    fixture_setup(state);
    struct rpc_fixture *f = *state;
    tell(f, "{\"id\":1,\"method\":\"create\",\"params\":{\"value\":[[1]],\"name\":\"a\"}}",
         "{\"id\":1,\"result\":<object>}");
    assert_true(rpc_service_set_auth_tokens(f->service, TOKENS, 3));
    become_stranger(f);
    return 0;
}

/* The connection is the admin that the teardown of the fixture wants. */
static int teardown(void **state)
{
    struct rpc_fixture *f = *state;
    rpc_conn_destroy(f->conn, "end of test");
    f->conn = rpc_conn_create(f->thread, 99, &fixture_peer, f);
    return fixture_teardown(state);
}

#define access_test(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

/* Shows the token of that row of TOKENS. */
static void show(struct rpc_fixture *f, enum rpc_role role)
{
    char params[64], result[64];
    snprintf(params, sizeof(params), "[\"%s\"]", TOKENS[role - 1].text);
    snprintf(result, sizeof(result), "{\"role\":\"%s\"}", method_role_word((enum method_role)role));
    call(f, "auth", params, result);
    assert_int_equal(rpc_conn_role(f->conn), role);
}

/* ---- roles ---- */

/* Arguments do not matter: a method that may be called complains of them. */
static void test_access_asks_for_the_role_of_each_row(void **state)
{
    struct rpc_fixture *f = *state;
    for (enum rpc_role role = RPC_ROLE_NONE; role <= RPC_ROLE_ADMIN; role++) {
        become_stranger(f);
        if (role != RPC_ROLE_NONE) {
            show(f, role);
        }
        for (unsigned i = 0; i < METHOD_COUNT; i++) {
            bool may = METHODS[i].role <= (enum method_role)role;
            const char *word = may ? "invalid_params" : role == RPC_ROLE_NONE ? "unauthenticated" : "forbidden";
            fail_call(f, METHODS[i].name, "{\"bogus\":1}", word, NULL);
        }
    }
}

static void test_access_lets_anybody_ping(void **state)
{
    call(*state, "ping", "{}", "\"pong\"");
}

static void test_access_gives_admin_to_who_need_not_ask(void **state)
{
    struct rpc_fixture *f = *state;
    rpc_conn_destroy(f->conn, "end");
    f->conn = rpc_conn_create(f->thread, 50, &fixture_peer, f);
    assert_int_equal(rpc_conn_role(f->conn), RPC_ROLE_ADMIN);
    call(f, "server.slowlog", "{}", "<object>");
    show(f, RPC_ROLE_READ); /* it may ask for less */
    fail_call(f, "server.slowlog", "{}", "forbidden", NULL);
}

/* ---- the order of errors ---- */

static void test_access_tells_the_first_error_that_applies(void **state)
{
    struct rpc_fixture *f = *state;
    tell(f, "{\"id\":1,\"method\":\"get\"", "{\"jsonrpc\":\"2.0\",\"id\":null,\"error\":<error parse_error>}");
    tell(f, "{\"id\":1,\"method\":7}", "{\"jsonrpc\":\"2.0\",\"id\":1,\"error\":<error invalid_request>}");
    fail_call(f, "no.such", "{}", "unauthenticated", NULL);
    fail_call(f, "get", "{\"bogus\":1}", "unauthenticated", NULL);
    fail_call(f, "get", "[\"nowhere\"]", "unauthenticated", NULL);
    fail_call(f, "ping", "{\"bogus\":1}", "invalid_params", NULL);
    fail_call(f, "auth", "{}", "invalid_params", "{\"param\":\"token\"}");
    show(f, RPC_ROLE_READ);
    fail_call(f, "no.such", "{}", "method_not_found", NULL);
    fail_call(f, "create", "{\"bogus\":1}", "forbidden", NULL);
    fail_call(f, "create", "[1]", "forbidden", NULL);
    fail_call(f, "get", "{\"bogus\":1}", "invalid_params", NULL);
    fail_call(f, "get", "[\"nowhere\"]", "name_error", NULL);
}

/* A notification is never answered, and does nothing. */
static void test_access_keeps_silent_to_notifications(void **state)
{
    struct rpc_fixture *f = *state;
    tell(f, "{\"method\":\"name.unbind\",\"params\":[\"a\"]}", NULL);
    show(f, RPC_ROLE_READ);
    tell(f, "{\"method\":\"name.unbind\",\"params\":[\"a\"]}", NULL);
    call(f, "get", "[\"a\",-1]", "[[1]]");
}

/* What is sent behind `auth` without waiting for its reply runs with the role that it gave, in a batch too. */
static void test_access_takes_auth_and_more_at_once(void **state)
{
    struct rpc_fixture *f = *state;
    say(f, "{\"id\":1,\"method\":\"auth\",\"params\":[\"writer-0123456789\"]}\n"
           "{\"id\":2,\"method\":\"list.append\",\"params\":[\"a\",2]}\n");
    assert_string_equal(f->said, "{\"id\":1,\"result\":{\"role\":\"write\"}}\n{\"id\":2,\"result\":null}\n");
    become_stranger(f);
    tell(f,
         "[{\"id\":1,\"method\":\"list.len\",\"params\":[\"a\"]},"
         "{\"id\":2,\"method\":\"auth\",\"params\":[\"reader-0123456789\"]},"
         "{\"id\":3,\"method\":\"list.len\",\"params\":[\"a\"]}]",
         "[{\"id\":1,\"error\":<error unauthenticated>},{\"id\":2,\"result\":{\"role\":\"read\"}},"
         "{\"id\":3,\"result\":{\"len\":2}}]");
}

/* ---- what a reader may not ask for ---- */

static void test_access_lets_readers_hold_nothing(void **state)
{
    struct rpc_fixture *f = *state;
    show(f, RPC_ROLE_READ);
    call(f, "name.lookup", "{\"name\":\"a\"}", "{\"name\":\"a\",\"object\":<int>,\"refcount\":1}");
    call(f, "name.lookup", "{\"name\":\"a\",\"hold\":false}", "{\"name\":\"a\",\"object\":<int>,\"refcount\":1}");
    fail_call(f, "name.lookup", "{\"name\":\"a\",\"hold\":true}", "forbidden", "{\"param\":\"hold\"}");
    fail_call(f, "name.lookup", "{\"name\":\"nowhere\",\"hold\":true}", "forbidden", NULL);
    fail_call(f, "list.getitem", "{\"object\":\"a\",\"index\":0,\"hold\":true}", "forbidden", NULL);
    fail_call(f, "ref", "[\"a\"]", "forbidden", NULL);
    call(f, "stats", "[\"sessions\"]", "{\"count\":1,\"leased\":0,\"holds\":0}");
}

/* weakref.get holds unless it is told not to; for a reader it does not. */
static void test_access_turns_the_default_of_hold_for_readers(void **state)
{
    struct rpc_fixture *f = *state;
    show(f, RPC_ROLE_WRITE);
    call(f, "create", "{\"value\":{\"$weakref\":\"a\"},\"name\":\"w\"}", "<object>");
    call(f, "weakref.get", "[\"w\"]", "{\"object\":<int>}");
    call(f, "sys.getrefcount", "[\"a\"]", "3");
    become_stranger(f);
    show(f, RPC_ROLE_READ);
    call(f, "weakref.get", "[\"w\"]", "{\"object\":<int>}");
    call(f, "sys.getrefcount", "[\"a\"]", "2");
    fail_call(f, "weakref.get", "{\"object\":\"w\",\"hold\":true}", "forbidden", NULL);
}

static void test_access_lets_readers_see_garbage_but_not_clear_it(void **state)
{
    struct rpc_fixture *f = *state;
    show(f, RPC_ROLE_READ);
    call(f, "gc.garbage", "{}", "{\"objects\":[]}");
    call(f, "gc.garbage", "[false]", "{\"objects\":[]}");
    fail_call(f, "gc.garbage", "[true]", "forbidden", NULL);
}

static void test_access_shows_addresses_to_admins_alone(void **state)
{
    struct rpc_fixture *f = *state;
    show(f, RPC_ROLE_WRITE);
    for (int referrers = 0; referrers < 2; referrers++) {
        say(f, referrers ? "{\"id\":1,\"method\":\"heap.inspect\",\"params\":[\"a\",true]}\n"
                         : "{\"id\":1,\"method\":\"heap.inspect\",\"params\":[\"a\"]}\n");
        assert_non_null(strstr(f->said, "\"address\":null"));
    }
    show(f, RPC_ROLE_ADMIN);
    say(f, "{\"id\":1,\"method\":\"heap.inspect\",\"params\":[\"a\",true]}\n");
    assert_non_null(strstr(f->said, "\"address\":\"0x"));
}

/* ---- the journal's events ---- */

static void test_access_keeps_the_journal_for_admins(void **state)
{
    struct rpc_fixture *f = *state;
    show(f, RPC_ROLE_WRITE);
    fail_call(f, "subscribe", "[[\"gc\",\"journal\"]]", "forbidden", NULL);
    call(f, "subscribe", "[[\"gc\"]]", "[\"gc\"]");
    show(f, RPC_ROLE_ADMIN);
    call(f, "subscribe", "[[\"journal\"]]", "[\"gc\",\"journal\"]");
    say(f, "{\"id\":1,\"method\":\"list.append\",\"params\":[\"a\",3]}\n");
    assert_non_null(strstr(f->said, "\"event\":\"journal\""));
    show(f, RPC_ROLE_WRITE);
    say(f, "{\"id\":1,\"method\":\"list.append\",\"params\":[\"a\",4]}\n");
    assert_null(strstr(f->said, "\"event\":\"journal\""));
}

/* The token of a session brings no events that its bearer may not hear. */
static void test_access_resumes_no_session_that_hears_the_journal(void **state)
{
    struct rpc_fixture *f = *state;
    char token[33], params[64];
    show(f, RPC_ROLE_ADMIN);
    say(f, "{\"id\":1,\"method\":\"session.open\",\"params\":[60000]}\n");
    assert_int_equal(sscanf(f->said, "{\"id\":1,\"result\":{\"session\":\"%32[0-9a-f]", token), 1);
    snprintf(params, sizeof(params), "[\"%s\"]", token);
    call(f, "subscribe", "[[\"journal\"]]", "[\"journal\"]");
    become_stranger(f);
    show(f, RPC_ROLE_READ);
    fail_call(f, "session.resume", params, "forbidden", NULL);
    show(f, RPC_ROLE_ADMIN);
    call(f, "session.resume", params, "{\"holds\":0}");
    call(f, "session.close", "{}", "{\"released\":0}");
}

/* ---- wrong tokens ---- */

static uint64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static void test_access_delays_the_answer_to_a_wrong_token(void **state)
{
    struct rpc_fixture *f = *state;
    uint64_t began = now_ms();
    fixture_forget(f);
    static const char text[] = "{\"id\":1,\"method\":\"auth\",\"params\":[\"guess\"]}\n{\"id\":2,\"method\":\"ping\"}\n";
    fixture_feed(f->conn, text, strlen(text));
    fixture_run_once(f);
    assert_true(rpc_conn_is_held(f->conn));
    assert_string_equal(f->said, "");
    assert_true(rpc_thread_due_in_ms(f->thread) <= 500);
    fixture_run(f);
    assert_true(now_ms() - began >= 500);
    assert_true(rpc_thread_due_in_ms(f->thread) == UINT64_MAX);
    assert_non_null(strstr(f->said, "unauthenticated"));
    assert_non_null(strstr(f->said, "{\"id\":2,\"result\":\"pong\"}\n"));
    show(f, RPC_ROLE_WRITE); /* the second attempt may be right */
}

/* Others are served while a wrong token waits. */
static void test_access_serves_others_while_a_wrong_token_waits(void **state)
{
    struct rpc_fixture *f = *state;
    struct rpc_conn *held = f->conn;
    static const char wrong[] = "{\"id\":1,\"method\":\"auth\",\"params\":[\"guess\"]}\n";
    fixture_feed(held, wrong, strlen(wrong));
    fixture_run_once(f);
    f->conn = rpc_conn_create(f->thread, 60, &fixture_peer, f);
    call(f, "ping", "{}", "\"pong\"");
    assert_true(rpc_conn_is_held(held));
    rpc_conn_destroy(held, "it does not wait for the answer");
    fixture_run_once(f);
    assert_true(rpc_thread_due_in_ms(f->thread) == UINT64_MAX);
}

static void test_access_closes_at_the_third_wrong_token(void **state)
{
    struct rpc_fixture *f = *state;
    static const char params[3][40] = {"[\"guess\"]", "[\"reader-012345678\"]", "[\"reader-0123456780\"]"};
    for (int i = 0; i < 3; i++) {
        assert_false(rpc_conn_has_failed_auth(f->conn));
        fail_call(f, "auth", params[i], "unauthenticated", NULL);
        assert_int_equal(rpc_conn_is_finished(f->conn), i == 2);
    }
    tell(f, "{\"id\":1,\"method\":\"ping\"}", NULL);
    become_stranger(f);
    show(f, RPC_ROLE_ADMIN);
    say(f, "{\"id\":1,\"method\":\"stats\"}\n");
    assert_non_null(strstr(f->said, "\"unauthenticated\":3"));
    assert_non_null(strstr(f->said, "\"wrong_tokens\":3"));
}

/* The rest of a batch gets nothing after the third, and does not wait either. */
static void test_access_tries_three_tokens_of_a_batch(void **state)
{
    struct rpc_fixture *f = *state;
    tell(f,
         "[{\"id\":1,\"method\":\"auth\",\"params\":[\"x\"]},{\"method\":\"auth\",\"params\":[\"y\"]},"
         "{\"id\":3,\"method\":\"auth\",\"params\":[\"z\"]},{\"id\":4,\"method\":\"auth\",\"params\":[\"admin-0123456789\"]},"
         "{\"id\":5,\"method\":\"list.len\",\"params\":[\"a\"]}]",
         "[{\"id\":1,\"error\":<error unauthenticated>},{\"id\":3,\"error\":<error unauthenticated>},"
         "{\"id\":4,\"error\":<error unauthenticated>},{\"id\":5,\"error\":<error unauthenticated>}]");
    assert_true(rpc_conn_is_finished(f->conn));
}

/* Neither the beginning of a token, nor it and more, nor one that is longer than any. */
static void test_access_wants_all_of_a_token(void **state)
{
    struct rpc_fixture *f = *state;
    char longest[RPC_AUTH_TOKEN_BYTES_MAX + 1], line[512];
    memset(longest, 'x', sizeof(longest));
    longest[RPC_AUTH_TOKEN_BYTES_MAX] = '\0';
    struct rpc_auth_token token = {RPC_ROLE_READ, longest, RPC_AUTH_TOKEN_BYTES_MAX};
    assert_true(rpc_service_set_auth_tokens(f->service, &token, 1));
    snprintf(line, sizeof(line), "[\"%sx\"]", longest);
    fail_call(f, "auth", line, "unauthenticated", NULL);
    fail_call(f, "auth", "[\"\"]", "unauthenticated", NULL);
    snprintf(line, sizeof(line), "[\"%s\"]", longest);
    call(f, "auth", line, "{\"role\":\"read\"}");
}

/* ---- tokens that change ---- */

static void test_access_closes_who_has_shown_a_token_that_is_gone(void **state)
{
    struct rpc_fixture *f = *state;
    show(f, RPC_ROLE_WRITE);
    assert_true(rpc_service_set_auth_tokens(f->service, TOKENS, 3));
    fixture_run_once(f);
    assert_null(rpc_conn_must_close(f->conn)); /* the same tokens, read again */
    assert_true(rpc_service_set_auth_tokens(f->service, TOKENS, 1));
    fixture_run_once(f);
    assert_string_equal(rpc_conn_must_close(f->conn), "its token is not known any more");
    become_stranger(f);
    show(f, RPC_ROLE_READ);
    struct rpc_auth_token promoted = TOKENS[0];
    promoted.role = RPC_ROLE_ADMIN;
    assert_true(rpc_service_set_auth_tokens(f->service, &promoted, 1));
    fixture_run_once(f);
    assert_non_null(rpc_conn_must_close(f->conn)); /* it would have another role now */
}

/* ---- a token that comes with a message ---- */

static void test_access_takes_a_token_with_a_message(void **state)
{
    struct rpc_fixture *f = *state;
    const char *begun;
    size_t len;
    rpc_conn_take_messages(f->conn, &begun, &len);
    assert_true(rpc_conn_auth(f->conn, "writer-0123456789", 17));
    assert_int_equal(rpc_conn_role(f->conn), RPC_ROLE_WRITE);
    assert_true(rpc_conn_auth(f->conn, NULL, 0));
    assert_int_equal(rpc_conn_role(f->conn), RPC_ROLE_NONE);
    assert_false(rpc_conn_auth(f->conn, "guess", 5));
    assert_int_equal(rpc_conn_role(f->conn), RPC_ROLE_NONE);
    assert_true(rpc_conn_is_held(f->conn));
    while (rpc_conn_is_held(f->conn)) {
        fixture_await_wake(f);
        rpc_thread_run(f->thread);
    }
    assert_ptr_equal(rpc_thread_next(f->thread), f->conn);
    assert_false(rpc_conn_has_failed_auth(f->conn));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        access_test(test_access_asks_for_the_role_of_each_row),
        access_test(test_access_lets_anybody_ping),
        access_test(test_access_gives_admin_to_who_need_not_ask),
        access_test(test_access_tells_the_first_error_that_applies),
        access_test(test_access_keeps_silent_to_notifications),
        access_test(test_access_takes_auth_and_more_at_once),
        access_test(test_access_lets_readers_hold_nothing),
        access_test(test_access_turns_the_default_of_hold_for_readers),
        access_test(test_access_lets_readers_see_garbage_but_not_clear_it),
        access_test(test_access_shows_addresses_to_admins_alone),
        access_test(test_access_keeps_the_journal_for_admins),
        access_test(test_access_resumes_no_session_that_hears_the_journal),
        access_test(test_access_delays_the_answer_to_a_wrong_token),
        access_test(test_access_serves_others_while_a_wrong_token_waits),
        access_test(test_access_closes_at_the_third_wrong_token),
        access_test(test_access_tries_three_tokens_of_a_batch),
        access_test(test_access_wants_all_of_a_token),
        access_test(test_access_closes_who_has_shown_a_token_that_is_gone),
        access_test(test_access_takes_a_token_with_a_message),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
