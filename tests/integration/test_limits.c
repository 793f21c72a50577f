/* test_limits.c -- limits on what comes from outside, and clients that do not read. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "../support/fixture.h"
#include "../support/process.h"

/* Binds "big" to a list whose get takes about so many bytes. */
static void create_big(struct wire *wire, int bytes)
{
    json_t *j_list = json_array();
    for (int i = 0; i < bytes / 8; i++) {
        json_array_append_new(j_list, json_integer(1000000 + i));
    }
    json_decref(wire_callf(wire, "create", "[o,s]", j_list, "big"));
}

static void expect_pong(struct wire *wire)
{
    wire_expect(wire, "{'id':1,'method':'ping'}", "{'id':1,'result':'pong'}");
}

/* ---- clients that do not read ---- */

static void test_limits_drop_who_does_not_read(void **state)
{
    struct fixture fixture;
    (void)state;
    fixture_start(&fixture, (const char *[]){"--max-output", "256k", NULL});
    create_big(fixture.wire, 20000);
    for (int over_unix = 0; over_unix < 2; over_unix++) {
        struct wire *deaf = over_unix ? wire_open_unix(fixture.daemon) : wire_open(fixture.daemon);
        static const char request[] = "{\"id\":1,\"method\":\"get\",\"params\":[\"big\"]}\n";
        expect_pong(deaf);
        json_decref(wire_callf(deaf, "create", "[[]]"));
        int64_t deadline = process_now_ms() + PROCESS_PATIENCE_MS;
        /* Others are served all the while. */
        while (wire_stat(fixture.wire, "sessions", "count") > 1) {
            for (int i = 0; i < 50; i++) {
                wire_send_blindly(deaf, request, strlen(request));
            }
            expect_pong(fixture.wire);
            if (process_now_ms() > deadline) {
                fail_msg("the client that does not read is kept");
            }
        }
        assert_int_equal(wire_stat(fixture.wire, "sessions", "holds"), 0);
        wire_drain(deaf);
        wire_close(deaf);
    }
    fixture_end(&fixture);
}

/* Below max-output nobody is dropped: the daemon reads no more until the replies are taken. */
static void test_limits_stop_reading_who_does_not_read(void **state)
{
    const struct fixture *fixture = *state;
    struct wire *slow = wire_open_unix(fixture->daemon);
    create_big(fixture->wire, 20000);
    int sent = 0;
    size_t part = 0, request_len;
    char *request = NULL;
    int64_t quiet_since = process_now_ms();
    /* Send until nothing was taken for a second. */
    while (process_now_ms() - quiet_since < 1000) {
        if (request == NULL) {
            assert_true(
                asprintf(&request,
                         "{\"id\":%d,\"method\":\"get\",\"params\":[\"big\"],\"filler\":\"%04000d\"}\n", sent,
                         0) > 0);
            part = 0;
        }
        request_len = strlen(request);
        size_t n = wire_send_blindly(slow, request + part, request_len - part);
        part += n;
        if (n > 0) {
            quiet_since = process_now_ms();
        } else {
            usleep(10000);
        }
        if (part == request_len) {
            free(request);
            request = NULL;
            sent++;
            if (sent > 100000) {
                fail_msg("the daemon reads on and on");
            }
        }
        if (sent % 50 == 0) {
            expect_pong(fixture->wire);
        }
    }
    /* Then everything is answered, in order. */
    if (request != NULL) {
        wire_send(slow, request + part, strlen(request) - part);
        free(request);
        sent++;
    }
    for (int i = 0; i < sent; i++) {
        char head[64];
        size_t len;
        const char *reply = wire_line(slow, &len);
        snprintf(head, sizeof head, "{\"id\":%d,\"result\":[1000000,", i);
        assert_non_null(reply);
        assert_int_equal(strncmp(reply, head, strlen(head)), 0);
    }
    printf("%d requests were sent before the daemon read no more\n", sent);
    expect_pong(slow);
    wire_close(slow);
}

/* Replies far beyond what is read from at once still come after the client has closed its side. */
static void test_limits_half_close_with_many_replies_due(void **state)
{
    const struct fixture *fixture = *state;
    struct wire *slow = wire_open_unix(fixture->daemon);
    const int n = process_rounds(300, 10);
    create_big(fixture->wire, 100000);
    for (int i = 0; i < n; i++) {
        char request[128];
        int len =
            snprintf(request, sizeof request, "{\"id\":%d,\"method\":\"get\",\"params\":[\"big\"]}\n", i);
        wire_send(slow, request, (size_t)len);
    }
    wire_half_close(slow);
    for (int i = 0; i < n; i++) {
        char head[64];
        size_t len;
        const char *reply = wire_line(slow, &len);
        snprintf(head, sizeof head, "{\"id\":%d,\"result\":[1000000,", i);
        assert_non_null(reply);
        assert_int_equal(strncmp(reply, head, strlen(head)), 0);
        assert_true(len > 90000);
    }
    wire_expect_end(slow);
    wire_close(slow);
}

/* Hundreds of thousands of requests in one go are answered in order. */
static void test_limits_long_pipeline(void **state)
{
    const struct fixture *fixture = *state;
    const int n = process_rounds(200000, 10);
    char *all = NULL;
    size_t size = 0, len;
    FILE *stream = open_memstream(&all, &size);
    for (int i = 0; i < n; i++) {
        fprintf(stream,
                i % 3 == 0 ? "{\"id\":%d,\"method\":\"ping\"}\n" : "{\"id\":%d,\"method\":\"nope\"}\r\n", i);
    }
    fclose(stream);
    wire_send(fixture->wire, all, size);
    free(all);
    for (int i = 0; i < n; i++) {
        char head[64];
        const char *reply = wire_line(fixture->wire, &len);
        snprintf(head, sizeof head, "{\"id\":%d,\"%s", i, i % 3 == 0 ? "result\":\"pong\"}" : "error\":{");
        assert_non_null(reply);
        assert_int_equal(strncmp(reply, head, strlen(head)), 0);
    }
}

/* A client that sends half a request and waits costs others nothing. */
static void test_limits_half_requests_hold_up_nobody(void **state)
{
    const struct fixture *fixture = *state;
    struct wire *waiting[50];
    for (int i = 0; i < 50; i++) {
        waiting[i] = i % 2 ? wire_open(fixture->daemon) : wire_open_unix(fixture->daemon);
        wire_send_text(waiting[i], "{\"id\":1,\"method\":\"create\",\"params\":[[1,2");
    }
    expect_pong(fixture->wire);
    assert_int_equal(wire_stat(fixture->wire, "objects", "live"), 0);
    for (int i = 0; i < 50; i++) {
        wire_send_text(waiting[i], ",3]]}\n");
        wire_expect_line(waiting[i], "{'id':1,'result':{'object':<int>,'type':'list','refcount':1}}");
        wire_close(waiting[i]);
    }
}

/* ---- connections ---- */

/* A list that is so long that to put something in front of it takes a while. */
static void make_long_list(struct wire *wire)
{
    json_t *j_items = json_array();
    for (int i = 0; i < 50000; i++) {
        json_array_append_new(j_items, json_integer(1000 + i));
    }
    json_decref(wire_call(wire, "create", json_pack("{s:o,s:s}", "value", j_items, "name", "part")));
    json_decref(wire_call(wire, "create", json_pack("{s:[],s:s}", "value", "name", "long")));
    for (int i = 0; i < 40; i++) {
        json_decref(wire_call(wire, "list.extend", json_pack("{s:s,s:{s:s}}", "object", "long", "value", "$ref", "part")));
    }
}

/* So many insertions take a second or more, and a moment of delay is not enough. */
#define INSERTIONS 10000
#define INSERTION "{\"id\":1,\"method\":\"list.insert\",\"params\":[\"long\",0,1]}"

/* INSERTIONS texts, with `between` between them. */
static char *many_insertions(const char *before, const char *between, const char *after, size_t *len)
{
    char *text = malloc(INSERTIONS * sizeof INSERTION + 3);
    assert_non_null(text);
    char *p = stpcpy(text, before);
    for (int i = 0; i < INSERTIONS; i++) {
        p = stpcpy(stpcpy(p, i > 0 ? between : ""), INSERTION);
    }
    *len = (size_t)(stpcpy(p, after) - text);
    return text;
}

/* How long the list is now must not be its length when all is done. */
static void expect_not_yet_done(struct wire *wire)
{
    json_t *j_len = wire_call(wire, "list.len", json_pack("{s:s}", "object", "long"));
    assert_true(json_integer_value(json_object_get(j_len, "len")) < 40 * 50000 + INSERTIONS);
    json_decref(j_len);
}

/* All that one connection had sent ran before anybody else on its thread was looked at. */
static void test_limits_long_queue_holds_up_nobody(void **state)
{
    struct fixture *fixture = *state;
    size_t len;
    make_long_list(fixture->wire);
    struct wire *busy = wire_open(fixture->daemon);
    char *requests = many_insertions("", "\n", "\n", &len);
    wire_send(busy, requests, len);
    free(requests);
    assert_non_null(wire_line(busy, &len)); /* the first has run; the others wait */
    expect_not_yet_done(fixture->wire);
    wire_close(busy);
}

/* A batch ran in one piece. */
static void test_limits_long_batch_holds_up_nobody(void **state)
{
    struct fixture *fixture = *state;
    size_t len;
    make_long_list(fixture->wire);
    struct wire *busy = wire_open(fixture->daemon);
    char *batch = many_insertions("[", ",", "]\n", &len);
    wire_send(busy, batch, len);
    free(batch);
    int64_t length = 0;
    while (length <= 40 * 50000) { /* until it has begun */
        json_t *j_len = wire_call(fixture->wire, "list.len", json_pack("{s:s}", "object", "long"));
        length = json_integer_value(json_object_get(j_len, "len"));
        json_decref(j_len);
    }
    expect_not_yet_done(fixture->wire);
    const char *replies = wire_line(busy, &len);
    assert_non_null(replies);
    size_t count = 0;
    for (const char *p = replies; (p = strstr(p, "\"result\"")) != NULL; p++) {
        count++;
    }
    assert_int_equal(count, INSERTIONS);
    assert_true(replies[0] == '[' && replies[len - 1] == ']');
    wire_close(busy);
}

/* Whether the figures come while a heap.check and a request that waits for the GIL have no answer yet. */
static bool figures_come_first(struct fixture *fixture, struct wire *checking, struct wire *creating)
{
    size_t len;
    bool created, checked;
    wire_send_text(checking, "{\"id\":1,\"method\":\"heap.check\"}\n");
    do { /* until one has to wait */
        wire_send_text(creating, "{\"id\":1,\"method\":\"create\",\"params\":[[]]}\n");
        created = wire_line_within(creating, 5);
        checked = wire_line_within(checking, 0);
        if (created) {
            assert_non_null(wire_line(creating, &len));
        }
    } while (created && !checked);
    assert_true(wire_stat(fixture->wire, "server", "requests") > 0);
    bool come_first = !created && !wire_line_within(creating, 0) && !wire_line_within(checking, 0);
    if (!created) {
        assert_non_null(wire_line(creating, &len));
    }
    assert_non_null(strstr(wire_line(checking, &len), "\"ok\":true"));
    return come_first;
}

/* What needs no GIL waited for whoever had it.  Where the machine is slow in sending, another attempt may do. */
static void test_limits_long_hold_keeps_no_figures_waiting(void **state)
{
    struct fixture *fixture = *state;
    json_t *j_value = json_array();
    for (int i = 0; i < 100000; i++) {
        json_array_append_new(j_value, json_pack("[[]]"));
    }
    for (int i = 0; i < 3; i++) {
        json_decref(wire_call(fixture->wire, "create", json_pack("{s:O}", "value", j_value)));
    }
    json_decref(j_value);
    struct wire *checking = wire_open(fixture->daemon), *creating = wire_open(fixture->daemon);
    bool come_first = false;
    for (int i = 0; i < 50 && !come_first; i++) {
        come_first = figures_come_first(fixture, checking, creating);
    }
    assert_true(come_first);
    wire_close(checking);
    wire_close(creating);
}

static void test_limits_max_clients(void **state)
{
    struct fixture fixture;
    struct wire *wires[2];
    (void)state;
    fixture_start(&fixture, (const char *[]){"--max-clients", "3", NULL});
    expect_pong(fixture.wire);
    for (int i = 0; i < 2; i++) {
        wires[i] = wire_open(fixture.daemon);
        expect_pong(wires[i]);
    }
    for (int i = 0; i < 5; i++) {
        struct wire *refused = i % 2 ? wire_open(fixture.daemon) : wire_open_unix(fixture.daemon);
        wire_expect_line(
            refused,
            "{'jsonrpc':'2.0','id':null,'error':<error limit_exceeded {'limit':'max-clients','max':3}>}");
        wire_expect_end(refused);
        wire_close(refused);
    }
    expect_pong(wires[0]);
    wire_close(wires[0]);
    wire_close(wires[1]);
    while (wire_stat(fixture.wire, "server", "connections") > 1) {
        usleep(1000);
    }
    struct wire *again = wire_open(fixture.daemon);
    expect_pong(again);
    wire_close(again);
    while (wire_stat(fixture.wire, "server", "connections") > 1) {
        usleep(1000);
    }
    fixture_end(&fixture);
}

static void test_limits_idle_timeout(void **state)
{
    struct fixture fixture;
    (void)state;
    fixture_start(&fixture, (const char *[]){"--idle-timeout", "1", NULL});
    struct wire *idle = wire_open(fixture.daemon), *holder = wire_open(fixture.daemon);
    expect_pong(idle);
    wire_expect(holder, "{'id':1,'method':'create','params':[[]]}",
                "{'id':1,'result':{'object':<id:held>,'type':'list','refcount':1}}");
    assert_true(wire_line_within(idle, PROCESS_PATIENCE_MS));
    wire_expect_end(idle);
    wire_close(idle);
    /* Who holds something may be silent. */
    assert_false(wire_line_within(holder, 3000));
    wire_expect(holder, "{'id':2,'method':'unref','params':[<id:held>]}",
                "{'id':2,'result':{'object':<id:held>,'refcount':0,'freed':1}}");
    wire_expect_end(holder);
    wire_close(holder);
    wire_drain(fixture.wire);
    fixture_end(&fixture);
}

static void test_limits_first_byte_timeout(void **state)
{
    struct fixture fixture;
    (void)state;
    fixture_start(&fixture, (const char *[]){"--first-byte-timeout", "1", NULL});
    expect_pong(fixture.wire);
    struct wire *silent = wire_open(fixture.daemon), *silent_unix = wire_open_unix(fixture.daemon);
    wire_expect_end(silent);
    wire_expect_end(silent_unix);
    wire_close(silent);
    wire_close(silent_unix);
    assert_false(wire_line_within(fixture.wire, 1500)); /* it has spoken */
    expect_pong(fixture.wire);
    fixture_end(&fixture);
}

/* ---- memory ---- */

static void test_limits_max_memory(void **state)
{
    struct fixture fixture;
    (void)state;
    fixture_start(&fixture, (const char *[]){"--max-memory", "32m", NULL});
    static char text[100001];
    memset(text, 'x', sizeof text - 1);
    json_decref(wire_callf(fixture.wire, "create", "[[],s]", "list"));
    int stored = 0;
    bool full = false;
    for (; !full && stored < 1000; stored++) {
        char *request;
        size_t len;
        assert_true(asprintf(&request, "{\"id\":1,\"method\":\"list.append\",\"params\":[\"list\",\"%s\"]}\n",
                             text) > 0);
        wire_send_text(fixture.wire, request);
        const char *reply = wire_line(fixture.wire, &len);
        full = strstr(reply, "\"error\"") != NULL;
        if (full) {
            char why[MATCH_WHY_BYTES];
            static const char want[] =
                "{\"id\":1,\"error\":<error memory_error {\"limit\":\"max-memory\",\"max\":33554432}>}";
            if (!match_reply(&fixture.wire->bindings, want, strlen(want), reply, len, why)) {
                fail_msg("%s: %s", why, reply);
            }
            stored--;
        }
        free(request);
    }
    assert_true(full);
    assert_in_range(stored, 200, 335);
    /* What failed left nothing; what was there is there; the heap goes on. */
    assert_int_equal(wire_call_int(fixture.wire, "len", "list.len", "[s]", "list"), stored);
    assert_int_equal(wire_stat(fixture.wire, "objects", "live"), stored + 1);
    wire_check_heap(fixture.wire);
    json_decref(wire_callf(fixture.wire, "list.clear", "[s]", "list"));
    assert_int_equal(wire_stat(fixture.wire, "objects", "live"), 1);
    json_decref(wire_callf(fixture.wire, "list.append", "[s,s]", "list", text));

    /* One value that is too large for all of it. */
    wire_send_text(fixture.wire, "{\"id\":2,\"method\":\"create\",\"params\":[[");
    for (int i = 0; i < 400; i++) {
        wire_send_text(fixture.wire, i == 0 ? "\"" : ",\"");
        wire_send(fixture.wire, text, sizeof text - 1);
        wire_send_text(fixture.wire, "\"");
    }
    wire_expect(fixture.wire, "]]}", "{'id':2,'error':<error memory_error>}");
    assert_int_equal(wire_stat(fixture.wire, "objects", "live"), 2);

    /* Garbage in cycles is collected before anybody is told that there is no room. */
    json_decref(wire_callf(fixture.wire, "gc.disable", NULL));
    for (int i = 0; i < 1000; i++) {
        char *request;
        size_t len;
        assert_true(asprintf(&request,
                             "{\"method\":\"create\",\"params\":[{\"$let\":{\"x\":[{\"$label\":\"x\"},\"%s\"]"
                             "},\"in\":{\"$label\":\"x\"}}]}\n"
                             "{\"id\":1,\"method\":\"ping\"}\n",
                             text) > 0);
        wire_send_text(fixture.wire, request);
        assert_non_null(wire_line(fixture.wire, &len));
        free(request);
    }
    json_decref(wire_callf(fixture.wire, "list.append", "[s,s]", "list", text));
    fixture_end(&fixture);
}

/* ---- long lines and large batches with the default limits ---- */

static void test_limits_long_line_is_dropped_to_its_end(void **state)
{
    struct fixture fixture;
    (void)state;
    fixture_start(&fixture, (const char *[]){"--max-request", "64k", NULL});
    static char filler[1000000];
    memset(filler, 'x', sizeof filler);
    for (int i = 0; i < 20; i++) {
        wire_send_text(fixture.wire, "{\"id\":1,\"method\":\"create\",\"params\":[\"");
        wire_send(fixture.wire, filler, sizeof filler);
        wire_send_text(fixture.wire, "\"]}\n");
        wire_expect_line(
            fixture.wire,
            "{'jsonrpc':'2.0','id':null,'error':<error limit_exceeded {'limit':'max-request','max':65536}>}");
        expect_pong(fixture.wire);
    }
    fixture_end(&fixture);
}

static void test_limits_batch_replies_beyond_max_output(void **state)
{
    struct fixture fixture;
    char *batch = NULL;
    size_t size = 0, len;
    (void)state;
    fixture_start(&fixture, (const char *[]){"--max-output", "1m", NULL});
    create_big(fixture.wire, 40000);
    FILE *stream = open_memstream(&batch, &size);
    for (int i = 0; i < 200; i++) {
        fprintf(stream, "%s{\"id\":%d,\"method\":\"get\",\"params\":[\"big\"]}", i == 0 ? "[" : ",", i);
    }
    fputs(",{\"id\":1000,\"method\":\"create\",\"params\":[[],\"late\"]}]\n", stream);
    fclose(stream);
    wire_send(fixture.wire, batch, size);
    const char *reply = wire_line(fixture.wire, &len);
    assert_non_null(reply);
    json_t *j_batch = json_loadb(reply, len, 0, NULL);
    assert_int_equal(json_array_size(j_batch), 201);
    int answered = 0;
    for (size_t i = 0; i < 201; i++) {
        const json_t *j_reply = json_array_get(j_batch, i), *j_error = json_object_get(j_reply, "error");
        const char *word = json_string_value(json_object_get(json_object_get(j_error, "data"), "error"));
        assert_int_equal(json_integer_value(json_object_get(j_reply, "id")), i == 200 ? 1000 : (json_int_t)i);
        if (j_error == NULL) {
            assert_int_equal(answered, i); /* after the first that was not run none is */
            answered++;
        } else {
            assert_string_equal(word, "limit_exceeded");
        }
    }
    assert_in_range(answered, 10, 60);
    json_decref(j_batch);
    free(batch);
    expect_pong(fixture.wire);
    wire_expect(fixture.wire, "{'id':1,'method':'get','params':['late']}",
                "{'id':1,'error':<error name_error>}");
    fixture_end(&fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_limits_drop_who_does_not_read),
        fixture_test(test_limits_stop_reading_who_does_not_read),
        fixture_test(test_limits_half_close_with_many_replies_due),
        fixture_test(test_limits_long_pipeline),
        fixture_test(test_limits_half_requests_hold_up_nobody),
        fixture_test(test_limits_long_queue_holds_up_nobody),
        fixture_test(test_limits_long_batch_holds_up_nobody),
        fixture_test(test_limits_long_hold_keeps_no_figures_waiting),
        cmocka_unit_test(test_limits_max_clients),
        cmocka_unit_test(test_limits_idle_timeout),
        cmocka_unit_test(test_limits_first_byte_timeout),
        cmocka_unit_test(test_limits_max_memory),
        cmocka_unit_test(test_limits_long_line_is_dropped_to_its_end),
        cmocka_unit_test(test_limits_batch_replies_beyond_max_output),
    };
    return cmocka_run_group_tests_name("limits", tests, NULL, NULL);
}
