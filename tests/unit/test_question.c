/* test_question.c -- requests that the worker answers: what waits for them, and what does not.
 *
 * A test that holds the GIL holds the worker up in its handler, so that what happens meanwhile is no matter of
 * luck.  The questions are heap.mark and server.clients with `retained`.
 */
#include "rpc_fixture.h"

#include "../../protocol/rpc_internal.h"

#include <unistd.h>

#define MARK "{\"id\":1,\"method\":\"heap.mark\",\"params\":[\"m\"]}\n"
#define MARKED "{\"id\":1,\"result\":{\"label\":\"m\",\"objects\":<int>,\"bytes\":<int>}}"
#define RETAINED "{\"id\":2,\"method\":\"server.clients\",\"params\":[true]}\n"

/* The next line of `said`, ended by NUL; *at moves behind it. */
static char *next_line(char **at)
{
    char *line = *at, *end = strchr(line, '\n');
    assert_non_null(end);
    *end = '\0';
    *at = end + 1;
    return line;
}

static void test_question_answers_keep_their_place(void **state)
{
    struct rpc_fixture *f = *state;
    say(f, "{\"id\":0,\"method\":\"ping\"}\n" MARK RETAINED "{\"id\":3,\"method\":\"create\",\"params\":[[]]}\n" MARK
           "{\"method\":\"heap.mark\",\"params\":[\"n\"]}\n{\"id\":4,\"method\":\"ping\"}\n");
    static const char *const EXPECTED[] = {"{\"id\":0,\"result\":\"pong\"}",
                                           MARKED,
                                           "{\"id\":2,\"result\":{\"clients\":[<has {\"retained_bytes\":<int>}>]}}",
                                           "{\"id\":3,\"result\":<object>}",
                                           MARKED,
                                           "{\"id\":4,\"result\":\"pong\"}"};
    char *at = f->said;
    for (size_t i = 0; i < sizeof(EXPECTED) / sizeof(EXPECTED[0]); i++) {
        fixture_match(f, "the lines", EXPECTED[i], next_line(&at));
    }
    assert_string_equal(at, "");
}

static void test_question_is_one_element_of_a_batch(void **state)
{
    struct rpc_fixture *f = *state;
    tell(f,
         "[{\"id\":1,\"method\":\"heap.mark\",\"params\":[\"m\"]},{\"method\":\"heap.mark\",\"params\":[\"n\"]},"
         "{\"id\":2,\"method\":\"ping\"},{\"id\":3,\"method\":\"heap.diff\",\"params\":[\"m\",\"none\"]},"
         "{\"id\":4,\"method\":\"server.clients\",\"params\":[true]}]",
         "[" MARKED ",{\"id\":2,\"result\":\"pong\"},{\"id\":3,\"error\":<error value_error>},"
         "{\"id\":4,\"result\":<object>}]");
    tell(f, "[{\"method\":\"heap.mark\",\"params\":[\"n\"]}]", NULL);
}

/* While the worker is busy its connection is silent and wants nothing; another one is served. */
static void test_question_holds_up_its_connection_only(void **state)
{
    struct rpc_fixture *f = *state;
    struct rpc_conn *other = rpc_conn_create(f->thread, 2, &fixture_peer, f);
    const char *batch = "[{\"id\":8,\"method\":\"ping\"},{\"id\":9,\"method\":\"heap.mark\",\"params\":[\"m\"]}]\n",
               *ping = "{\"id\":7,\"method\":\"ping\"}\n";
    size_t len;
    fixture_run_once(f); /* they have sessions now, so that nothing below needs the GIL */
    fixture_forget(f);
    heap_enter(f->service->heap);
    fixture_feed(f->conn, batch, strlen(batch));
    fixture_feed(f->conn, ping, strlen(ping));
    assert_false(rpc_thread_run(f->thread));
    assert_true(rpc_conn_is_waiting(f->conn));
    assert_false(rpc_conn_wants_run(f->conn));
    rpc_conn_resume(f->conn);
    assert_false(rpc_conn_wants_run(f->conn));
    /* The batch is held back until it is whole. */
    rpc_conn_output(f->conn, &len);
    assert_int_equal(len, 0);
    fixture_feed(other, ping, strlen(ping));
    fixture_run_once(f);
    assert_string_equal(f->said, "{\"id\":7,\"result\":\"pong\"}\n");
    heap_leave(f->service->heap);
    f->said_len = 0;
    fixture_run(f);
    char *at = f->said;
    fixture_match(f, batch, "[{\"id\":8,\"result\":\"pong\"},{\"id\":9,\"result\":<object>}]", next_line(&at));
    assert_string_equal(at, "{\"id\":7,\"result\":\"pong\"}\n");
    rpc_conn_destroy(other, "end of test");
}

/* What a client sent before it closed its side is answered. */
static void test_question_is_answered_after_the_end_of_input(void **state)
{
    struct rpc_fixture *f = *state;
    struct rpc_conn *other = rpc_conn_create(f->thread, 2, &fixture_peer, f);
    fixture_forget(f);
    fixture_feed(other, MARK, strlen(MARK));
    rpc_conn_received_eof(other);
    fixture_run_once(f);
    while (!rpc_conn_is_finished(other)) {
        fixture_await_wake(f);
        fixture_run_once(f);
    }
    char *at = f->said;
    fixture_match(f, MARK, MARKED, next_line(&at));
    rpc_conn_destroy(other, "end of test");
}

/* Connections that go while their questions wait, or are being answered. */
static void test_question_of_a_connection_that_is_gone(void **state)
{
    struct rpc_fixture *f = *state;
    for (int is_started = 0; is_started < 2; is_started++) {
        struct rpc_conn *conns[5];
        for (int i = 0; i < 5; i++) {
            conns[i] = rpc_conn_create(f->thread, 10 + (uint64_t)i, &fixture_peer, f);
        }
        fixture_run_once(f);
        heap_enter(f->service->heap);
        for (int i = 0; i < 5; i++) {
            fixture_feed(conns[i], RETAINED MARK RETAINED, strlen(RETAINED MARK RETAINED));
        }
        rpc_thread_run(f->thread);
        if (is_started) {
            usleep(1000); /* the first may be in its handler by now; whether it is makes no difference to see */
        }
        for (int i = 0; i < 5; i++) {
            rpc_conn_destroy(conns[i], "end of test");
        }
        heap_leave(f->service->heap);
        call(f, "stats", "[\"names\"]", "<object>");
    }
    call(f, "heap.mark", "[\"m\"]", "<object>");
}

static void test_question_that_is_forgotten_when_its_thread_ends(void **state)
{
    struct rpc_limits limits;
    struct rpc_host host = {0};
    (void)state;
    rpc_limits_default(&limits);
    struct rpc_service *service = rpc_service_create(&limits, &host);
    struct rpc_thread *thread = rpc_thread_create(service, NULL);
    struct rpc_conn *conn = rpc_conn_create(thread, 1, &fixture_peer, NULL);
    fixture_feed(conn, RETAINED, strlen(RETAINED));
    rpc_thread_run(thread);
    assert_true(thread->questions == 1 || conn_unsent(conn) > 0); /* asked, and perhaps answered by now */
    rpc_conn_destroy(conn, "end of test");
    rpc_thread_destroy(thread);
    assert_int_equal(rpc_service_check(service), 0);
    rpc_service_destroy(service);
}

static void test_question_with_an_answer_that_is_too_large(void **state)
{
    struct rpc_limits limits;
    (void)state;
    rpc_limits_default(&limits);
    limits.max_output = 200;
    struct rpc_fixture *f = fixture_open(&limits);
    fail_call(f, "server.clients", "[true]", "limit_exceeded", "{\"limit\":\"max-output\",\"max\":200}");
    call(f, "ping", "{}", "\"pong\"");
    fixture_close(f);
}

/* Ids take memory, so that the referrers may be found and yet not be told; what had them is given back all the
 * same, as a build that looks for leaks sees. */
static void test_question_without_memory_for_the_ids_it_tells(void **state)
{
    struct rpc_fixture *f = *state;
    struct rpc_limits short_of_memory = f->limits;
    const char *inspect = "{\"id\":1,\"method\":\"heap.inspect\",\"params\":[\"x\",true]}\n";
    char params[4000] = "{\"value\":[";
    for (int i = 0; i < 100; i++) {
        strcat(params, "[{\"$ref\":\"x\"}],");
    }
    strcat(params, "0]}");
    short_of_memory.max_memory = 1;
    do {
        rpc_service_set_limits(f->service, &f->limits);
        call(f, "create", "{\"value\":[],\"name\":\"x\"}", "<object>");
        call(f, "create", params, "<object>");
        rpc_service_set_limits(f->service, &short_of_memory);
        say(f, inspect);
    } while (strstr(f->said, "\"referrers\":[") != NULL);
    assert_non_null(strstr(f->said, "\"memory_error\""));
    rpc_service_set_limits(f->service, &f->limits);
    say(f, inspect);
    assert_non_null(strstr(f->said, "\"referrers\":["));
}

/* Its session's events wait while a batch is being answered, and come whole behind it. */
static void test_question_in_a_batch_holds_events_back(void **state)
{
    struct rpc_fixture *f = *state;
    struct rpc_conn *other = rpc_conn_create(f->thread, 2, &fixture_peer, f);
    const char *batch = "[{\"id\":8,\"method\":\"ping\"},{\"id\":9,\"method\":\"heap.mark\",\"params\":[\"m\"]}]\n",
               *collect = "{\"id\":7,\"method\":\"collect\"}\n";
    say(f, "{\"id\":1,\"method\":\"subscribe\",\"params\":[[\"gc\"]]}\n");
    heap_enter(f->service->heap);
    fixture_feed(f->conn, batch, strlen(batch));
    rpc_thread_run(f->thread);
    heap_leave(f->service->heap);
    fixture_feed(other, collect, strlen(collect));
    fixture_forget(f);
    fixture_run(f);
    fixture_run_once(f);
    fixture_hear(f, f->conn);
    /* The collection may come before the mark or after it, but never between the batch's brackets. */
    const char *line = strstr(f->said, "[{\"id\":8,"), *end = line == NULL ? NULL : strchr(line, '\n');
    assert_non_null(end);
    assert_memory_equal(end - 3, "}}]", 3);
    assert_non_null(strstr(f->said, "\"phase\":\"start\""));
    assert_non_null(strstr(f->said, "\"phase\":\"stop\""));
    rpc_conn_destroy(other, "end of test");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        fixture_test(test_question_answers_keep_their_place),
        fixture_test(test_question_is_one_element_of_a_batch),
        fixture_test(test_question_holds_up_its_connection_only),
        fixture_test(test_question_is_answered_after_the_end_of_input),
        fixture_test(test_question_of_a_connection_that_is_gone),
        cmocka_unit_test(test_question_that_is_forgotten_when_its_thread_ends),
        cmocka_unit_test(test_question_with_an_answer_that_is_too_large),
        fixture_test(test_question_without_memory_for_the_ids_it_tells),
        fixture_test(test_question_in_a_batch_holds_events_back),
    };
    return cmocka_run_group_tests_name("question", tests, NULL, NULL);
}
