/* test_reading.c -- `get` of large values, which a worker writes in slices.
 *
 * Whether the worker gets to its end before something else happens is a matter of luck; what is demanded holds in both
 * cases.  The writer itself, slice by slice, is test_literal_slices.c's.
 */
#include "rpc_fixture.h"

#include "../../protocol/rpc_internal.h"

#define ROWS 20000 /* of a value: enough for a dozen slices */

#define GET "{\"id\":1,\"method\":\"get\",\"params\":[\"big\",-1]}\n"

/* A list of ROWS lists, named `big`; its text, to be freed. */
static char *make_big(struct rpc_fixture *f)
{
    struct out out, request;
    out_init(&out, 0);
    for (int i = 0; i < ROWS; i++) {
        out_text(&out, i == 0 ? "[" : ",");
        out_text(&out, "[\"some\",{\"key\":1000.25}]");
    }
    out_text(&out, "]");
    out_char(&out, '\0');
    assert_true(!out.failed && out.len > 4 * READING_BYTES);
    out_init(&request, 0);
    out_text(&request, "{\"id\":1,\"method\":\"create\",\"params\":{\"name\":\"big\",\"value\":");
    out_text(&request, out.data);
    out_text(&request, "}}");
    out_char(&request, '\0');
    tell(f, request.data, "{\"id\":1,\"result\":<object>}");
    out_fini(&request);
    return out.data;
}

/* The reply to a request of that id, with the newline; to be freed. */
static char *reply_of(const char *value, int id)
{
    size_t size = strlen(value) + 64;
    char *reply = malloc(size);
    assert_non_null(reply);
    snprintf(reply, size, "{\"id\":%d,\"result\":%s}\n", id, value);
    return reply;
}

static void expect_sound(struct rpc_fixture *f)
{
    call(f, "collect", "{}", "<has {\"unreachable\":0}>");
    call(f, "heap.check", "{}", "<has {\"ok\":true}>");
}

/* Whether somebody has had a value read by the worker: it is made for the first. */
static bool has_asked(const struct rpc_fixture *f)
{
    return f->service->desk.benches[QUESTION_READS].has_worker;
}

/* Only what is large, and can be read in slices, is a question; each is one request. */
static void test_reading_is_a_question_when_large(void **state)
{
    struct rpc_fixture *f = *state;
    char *value = make_big(f), *reply = reply_of(value, 1);
    static const struct {
        const char *line;
        bool asks;
    } CASES[] = {
        {"{\"id\":1,\"method\":\"get\",\"params\":[\"big\",0]}\n", false},
        {"{\"id\":1,\"method\":\"get\",\"params\":{\"object\":\"big\",\"depth\":-1,\"shared\":\"let\"}}\n", false},
        {"{\"id\":1,\"method\":\"list.getitem\",\"params\":{\"object\":\"big\",\"index\":0,\"depth\":-1}}\n", false},
        {"{\"id\":1,\"method\":\"get\",\"params\":{\"object\":\"big\",\"depth\":1}}\n", true},
        {GET, true},
    };
    for (size_t i = 0; i < sizeof CASES / sizeof CASES[0]; i++) {
        uint64_t before = f->thread->counters.requests;
        fixture_forget(f);
        fixture_feed(f->conn, CASES[i].line, strlen(CASES[i].line));
        fixture_run(f);
        assert_int_equal(has_asked(f), CASES[i].asks);
        fixture_match(f, CASES[i].line, "{\"id\":1,\"result\":<any>}\n", f->said);
        assert_int_equal(f->thread->counters.requests, before + 1);
    }
    assert_string_equal(say(f, GET), reply);
    expect_sound(f);
    free(reply);
    free(value);
}

/* Answers keep their order, and a batch is one line. */
static void test_reading_keeps_its_place(void **state)
{
    struct rpc_fixture *f = *state;
    char *value = make_big(f), *first = reply_of(value, 1), *third = reply_of(value, 3);
    say(f, GET "{\"id\":2,\"method\":\"ping\"}\n{\"method\":\"get\",\"params\":[\"big\",-1]}\n"
               "{\"id\":3,\"method\":\"get\",\"params\":[\"big\",-1]}\n");
    size_t size = strlen(first) + strlen(third) + 128;
    char *wanted = malloc(size);
    snprintf(wanted, size, "%s{\"id\":2,\"result\":\"pong\"}\n%s", first, third);
    assert_string_equal(f->said, wanted);
    say(f, "[{\"id\":1,\"method\":\"get\",\"params\":[\"big\",-1]},{\"id\":2,\"method\":\"ping\"},"
           "{\"method\":\"get\",\"params\":[\"big\",-1]},{\"id\":3,\"method\":\"get\",\"params\":[\"big\",-1]}]\n");
    first[strlen(first) - 1] = third[strlen(third) - 1] = '\0';
    snprintf(wanted, size, "[%s,{\"id\":2,\"result\":\"pong\"},%s]\n", first, third);
    assert_string_equal(f->said, wanted);
    free(wanted);
    free(first);
    free(third);
    free(value);
}

static void test_reading_what_is_larger_than_the_limit(void **state)
{
    struct rpc_limits limits;
    (void)state;
    rpc_limits_default(&limits);
    struct rpc_fixture *f = fixture_open(&limits);
    char *value = make_big(f);
    size_t len = strlen(value) + strlen("{\"id\":1,\"result\":}");
    for (int larger = 1; larger >= 0; larger--) {
        limits.max_output = len - (size_t)larger * 100;
        rpc_service_set_limits(f->service, &limits);
        say(f, GET);
        fixture_match(f, GET, larger ? "{\"id\":1,\"error\":<error limit_exceeded>}\n" : "{\"id\":1,\"result\":<any>}\n", f->said);
    }
    limits.max_output = READING_BYTES - 1;
    rpc_service_set_limits(f->service, &limits);
    fail_call(f, "get", "[\"big\",-1]", "limit_exceeded", "{\"limit\":\"max-output\",\"max\":65535}");
    call(f, "ping", "{}", "\"pong\"");
    free(value);
    fixture_close(f);
}

/* ---- while others change it ---- */

/* Two entries of a dict, its first and its last, are always the same to who gets it, and never older than when he asked. */
static void test_reading_is_of_one_moment(void **state)
{
    struct rpc_fixture *f = *state;
    struct rpc_conn *other = rpc_conn_create(f->thread, 2, &fixture_peer, f);
    struct out out;
    int number = 0;
    out_init(&out, 0);
    out_text(&out, "{\"id\":1,\"method\":\"create\",\"params\":{\"name\":\"big\",\"value\":{\"a\":0");
    for (int i = 0; i < ROWS; i++) {
        char text[64];
        snprintf(text, sizeof text, ",\"key %d\":[%d]", i, i + 1000);
        out_text(&out, text);
    }
    out_text(&out, ",\"z\":0}}}");
    out_char(&out, '\0');
    tell(f, out.data, "{\"id\":1,\"result\":<object>}");
    out_fini(&out);
    for (int round = 0; round < 20; round++) {
        int asked = number, first = -1, last = -2;
        unsigned changes = 0;
        fixture_forget(f);
        fixture_feed(f->conn, GET, strlen(GET));
        do {
            char line[128];
            fixture_run_once(f);
            int len = snprintf(line, sizeof line, "{\"method\":\"dict.update\",\"params\":[\"big\",{\"a\":%d,\"z\":%d}]}\n",
                               number + 1, number + 1);
            if (rpc_conn_is_waiting(f->conn) && changes++ < (unsigned)round * 4) {
                number++;
                fixture_feed(other, line, (size_t)len);
            }
        } while (f->said_len == 0);
        assert_int_equal(sscanf(f->said, "{\"id\":1,\"result\":{\"a\":%d,", &first), 1);
        const char *z = strstr(f->said, ",\"z\":");
        assert_true(z != NULL && sscanf(z, ",\"z\":%d}}", &last) == 1);
        assert_int_equal(first, last);
        assert_true(first >= asked && first <= number);
    }
    rpc_conn_destroy(other, "end of test");
    expect_sound(f);
}

/* Its name goes, or becomes another's, while it is read: the answer is of before or of after. */
static void test_reading_while_the_target_goes(void **state)
{
    struct rpc_fixture *f = *state;
    struct rpc_conn *other = rpc_conn_create(f->thread, 2, &fixture_peer, f);
    static const char *const LINES[] = {
        "{\"method\":\"name.unbind\",\"params\":[\"big\"]}\n",
        "{\"method\":\"create\",\"params\":[[2000],\"big\"]}\n",
        "{\"method\":\"list.clear\",\"params\":[\"big\"]}\n",
    };
    static const char *const AFTER[] = {"{\"id\":1,\"error\":<error name_error>}\n", "{\"id\":1,\"result\":[2000]}\n",
                                        "{\"id\":1,\"result\":[]}\n"};
    for (int i = 0; i < 9; i++) {
        char *value = make_big(f), *before = reply_of(value, 1);
        fixture_forget(f);
        fixture_feed(f->conn, GET, strlen(GET));
        (void)rpc_thread_run(f->thread);
        for (int pass = 0; pass < i / 3; pass++) { /* the worker gets some of the way */
            heap_enter(f->service->heap);
            heap_leave(f->service->heap);
        }
        fixture_feed(other, LINES[i % 3], strlen(LINES[i % 3]));
        fixture_run(f);
        if (strcmp(f->said, before) != 0) {
            fixture_match(f, LINES[i % 3], AFTER[i % 3], f->said);
        }
        free(before);
        free(value);
        expect_sound(f);
    }
    rpc_conn_destroy(other, "end of test");
}

/* Connections that go while their questions wait, are being answered, or are answered. */
static void test_reading_for_a_connection_that_is_gone(void **state)
{
    struct rpc_fixture *f = *state;
    char *value = make_big(f);
    for (int stage = 0; stage < 4; stage++) {
        struct rpc_conn *conns[3];
        for (unsigned i = 0; i < 3; i++) {
            conns[i] = rpc_conn_create(f->thread, 10 + i, &fixture_peer, f);
        }
        fixture_run_once(f);
        for (unsigned i = 0; i < 3; i++) {
            fixture_feed(conns[i], GET, strlen(GET));
        }
        (void)rpc_thread_run(f->thread);
        assert_true(has_asked(f));
        for (int slice = 0; slice < 4 * stage; slice++) { /* the worker gets some of the way */
            heap_enter(f->service->heap);
            heap_leave(f->service->heap);
        }
        if (stage == 3) {
            fixture_await_wake(f); /* the first is answered, and nobody has looked */
        }
        for (unsigned i = 0; i < 3; i++) {
            rpc_conn_destroy(conns[i], "gone");
        }
        expect_sound(f);
    }
    char *reply = reply_of(value, 1);
    assert_string_equal(say(f, GET), reply);
    free(reply);
    free(value);
}

/* The whole service ends while a value is read. */
static void test_reading_when_the_service_ends(void **state)
{
    (void)state;
    for (int i = 0; i < 3; i++) {
        struct rpc_limits limits;
        rpc_limits_default(&limits);
        struct rpc_fixture *f = fixture_open(&limits);
        free(make_big(f));
        struct rpc_conn *other = rpc_conn_create(f->thread, 2, &fixture_peer, f);
        fixture_feed(other, GET GET, 2 * strlen(GET));
        (void)rpc_thread_run(f->thread);
        for (int slice = 0; slice < 3 * i; slice++) {
            heap_enter(f->service->heap);
            heap_leave(f->service->heap);
        }
        rpc_conn_destroy(other, "end of test");
        fixture_close(f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        fixture_test(test_reading_is_a_question_when_large),
        fixture_test(test_reading_keeps_its_place),
        cmocka_unit_test(test_reading_what_is_larger_than_the_limit),
        fixture_test(test_reading_is_of_one_moment),
        fixture_test(test_reading_while_the_target_goes),
        fixture_test(test_reading_for_a_connection_that_is_gone),
        cmocka_unit_test(test_reading_when_the_service_ends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
