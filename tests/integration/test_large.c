/* test_large.c -- large values, which workers build and read: what may end a request of one, or come in between.
 *
 * Many such requests are on their way at any time, since how far a worker has got when something happens is a matter of
 * luck.  The teardown demands that nothing is left, and a clean end of the daemon.
 */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "../support/fixture.h"
#include "../support/process.h"

#define ROWS 20000 /* of a value: enough to be large */
#define GET "{\"id\":1,\"method\":\"get\",\"params\":[\"big\",-1]}\n"

/* `head`, a list of ROWS lists, `tail`; to be freed. */
static char *large(const char *head, const char *tail)
{
    char *text = NULL;
    size_t size = 0;
    FILE *file = open_memstream(&text, &size);
    assert_non_null(file);
    fprintf(file, "%s[", head);
    for (int i = 0; i < ROWS; i++) {
        fprintf(file, "[\"row\",{\"key\":%d.5}],", i + 1000);
    }
    fprintf(file, "null]%s", tail);
    assert_int_equal(fclose(file), 0);
    return text;
}

static char *create_line(void)
{
    return large("{\"id\":1,\"method\":\"create\",\"params\":{\"name\":\"big\",\"value\":", "}}\n");
}

/* Makes the object `big`. */
static void make_big(struct wire *wire)
{
    char *line = create_line();
    wire_send_text(wire, line);
    wire_expect_line(wire, "{'id':1,'result':<object>}");
    free(line);
}

/* Waits until the other connections, which are closed, have run what they had sent, and their sessions are over. */
static void await_end_of_others(struct wire *wire)
{
    while (wire_stat(wire, "sessions", "count") > 1) {
        usleep(1000);
    }
}

/* ---- streams of requests ---- */

/* A connection that sends the same line over and over; its replies are dropped. */
struct stream {
    struct wire *wire;
    char *line;
    size_t len, part; /* bytes of it that are sent */
    unsigned replies;
};

static void stream_open(struct stream *stream, const struct daemon *daemon, char *line)
{
    *stream = (struct stream){.wire = wire_open_unix(daemon), .line = line, .len = strlen(line)};
}

static void stream_close(struct stream *stream)
{
    wire_close(stream->wire);
    free(stream->line);
}

/* Takes what has come, and sends as much as goes. */
static void stream_run(struct stream *stream)
{
    size_t sent;
    while (wire_line_within(stream->wire, 0)) {
        size_t len;
        const char *reply = wire_line(stream->wire, &len);
        assert_non_null(reply);
        assert_non_null(strstr(reply, "\"result\""));
        stream->replies++;
    }
    do {
        sent = wire_send_blindly(stream->wire, stream->line + stream->part, stream->len - stream->part);
        stream->part += sent;
        if (stream->part == stream->len) {
            stream->part = 0;
        }
    } while (sent > 0);
}

#define STREAMS 3

/* Two that create large values, and one that gets them. */
static void streams_open(struct stream streams[STREAMS], const struct daemon *daemon)
{
    for (int i = 0; i < STREAMS; i++) {
        stream_open(&streams[i], daemon, i < 2 ? create_line() : strdup(GET));
    }
}

static void streams_run(struct stream streams[STREAMS])
{
    for (int i = 0; i < STREAMS; i++) {
        stream_run(&streams[i]);
    }
}

static bool all_have_replies(const struct stream streams[STREAMS], unsigned replies)
{
    bool all = true;
    for (int i = 0; i < STREAMS; i++) {
        all = all && streams[i].replies >= replies;
    }
    return all;
}

/* What walks over the whole heap, or waits until nothing is built, comes to its turn, and the streams go on. */
static void test_large_values_let_collections_in(void **state)
{
    const struct fixture *fixture = *state;
    static const char *const WALKS[] = {"{'id':7,'method':'collect'}", "{'id':7,'method':'heap.check'}",
                                        "{'id':7,'method':'heap.mark','params':['m']}", "{'id':7,'method':'gc.get_objects'}"};
    struct stream streams[STREAMS];
    unsigned rounds = 0;
    make_big(fixture->wire);
    streams_open(streams, fixture->daemon);
    while (rounds < 12 || !all_have_replies(streams, 3)) {
        const char *walk = WALKS[rounds++ % (sizeof WALKS / sizeof WALKS[0])];
        char line[128];
        snprintf(line, sizeof line, "%s\n", walk);
        for (char *p = line; *p != '\0'; p++) {
            *p = *p == '\'' ? '"' : *p;
        }
        wire_send_text(fixture->wire, line);
        do {
            streams_run(streams);
        } while (!wire_line_within(fixture->wire, 1));
        wire_expect_line(fixture->wire, rounds % 4 == 2 ? "{'id':7,'result':<has {\"ok\":true}>}" : "{'id':7,'result':<any>}");
    }
    printf("%u walks beside %u and %u creates and %u gets\n", rounds, streams[0].replies, streams[1].replies,
           streams[2].replies);
    for (int i = 0; i < STREAMS; i++) {
        stream_close(&streams[i]);
    }
    await_end_of_others(fixture->wire);
}

/* Sessions whose connections go at any time. */
static void test_large_values_of_clients_that_go(void **state)
{
    const struct fixture *fixture = *state;
    int rounds = process_rounds(40, 10);
    make_big(fixture->wire);
    for (int i = 0; i < rounds; i++) {
        char *hold = large("{\"id\":1,\"method\":\"create\",\"params\":[", "]}\n");
        struct wire *wires[4];
        for (int k = 0; k < 4; k++) {
            wires[k] = k % 2 == 0 ? wire_open(fixture->daemon) : wire_open_unix(fixture->daemon);
            if (k < 2) {
                wire_send_text(wires[k], hold);
            } else {
                wire_send_text(wires[k], GET GET);
            }
        }
        usleep((unsigned)(i % 10) * 500);
        for (int k = 0; k < 4; k++) {
            if ((i + k) % 3 == 0) {
                wire_reset(wires[k]);
            } else {
                wire_close(wires[k]);
            }
        }
        free(hold);
    }
    await_end_of_others(fixture->wire);
    assert_int_equal(wire_stat(fixture->wire, "sessions", "holds"), 0);
    wire_check_heap(fixture->wire);
}

/* The number of the only other connection, 0: there is none. */
static int64_t other_client(struct wire *wire)
{
    json_t *j_clients = wire_callf(wire, "server.clients", NULL), *j_client;
    size_t i;
    int64_t found = 0;
    int64_t self = -1;
    json_array_foreach(json_object_get(j_clients, "clients"), i, j_client) {
        int64_t client = json_integer_value(json_object_get(j_client, "client"));
        if (self < 0) {
            self = client; /* the first is the oldest, the fixture's own */
        } else {
            found = client;
        }
    }
    json_decref(j_clients);
    return found;
}

/* Killed while its value is built, or read. */
static void test_large_values_of_clients_that_are_killed(void **state)
{
    const struct fixture *fixture = *state;
    int rounds = process_rounds(20, 10);
    make_big(fixture->wire);
    for (int i = 0; i < rounds; i++) {
        struct wire *victim = wire_open(fixture->daemon);
        char *line = large("{\"id\":1,\"method\":\"create\",\"params\":[", "]}\n");
        int64_t client;
        wire_expect(victim, "{'id':1,'method':'ping'}", "{'id':1,'result':'pong'}");
        client = other_client(fixture->wire);
        assert_int_not_equal(client, 0);
        wire_send_text(victim, i % 2 == 0 ? line : GET);
        usleep((unsigned)(i / 2 % 5) * 400);
        json_decref(wire_callf(fixture->wire, "server.kill", "[I]", (json_int_t)client));
        wire_drain(victim); /* to the end, which comes */
        wire_close(victim);
        free(line);
    }
    await_end_of_others(fixture->wire);
    wire_check_heap(fixture->wire);
}

/* Little memory: each create is done, or refused, and no heap but a sound one is ever seen. */
static void test_large_values_without_memory(void **state)
{
    struct fixture fixture;
    unsigned done = 0, refused = 0;
    char *line = large("{\"id\":1,\"method\":\"create\",\"params\":[", "]}\n");
    (void)state;
    fixture_start(&fixture, (const char *[]){"--max-memory", "12m", NULL});
    struct wire *wire = wire_open_unix(fixture.daemon);
    for (int i = 0; i < 12; i++) {
        size_t len;
        wire_send_text(wire, line);
        const char *reply = wire_line(wire, &len);
        assert_non_null(reply);
        done += strstr(reply, "\"result\"") != NULL;
        refused += strstr(reply, "\"memory_error\"") != NULL;
        wire_check_heap(fixture.wire);
    }
    assert_true(done > 0 && refused > 0 && done + refused == 12);
    wire_close(wire);
    free(line);
    fixture_end(&fixture);
}

/* Answers that are larger than the daemon gives. */
static void test_large_values_beyond_max_output(void **state)
{
    struct fixture fixture;
    (void)state;
    fixture_start(&fixture, (const char *[]){"--max-output", "200k", NULL});
    make_big(fixture.wire);
    for (int i = 0; i < 3; i++) {
        wire_expect(fixture.wire, "{'id':1,'method':'get','params':['big',-1]}",
                    "{'id':1,'error':<error limit_exceeded {'limit':'max-output'}>}");
        wire_expect(fixture.wire, "{'id':1,'method':'list.len','params':['big']}", "{'id':1,'result':{'len':20001}}");
    }
    fixture_end(&fixture);
}

/* SIGTERM while values are built and read; the daemon's end is clean. */
static void test_large_values_when_the_daemon_ends(void **state)
{
    (void)state;
    if (daemon_is_elsewhere()) {
        process_skip("the daemon runs elsewhere");
    }
    for (int i = 0; i < 4; i++) {
        struct daemon *daemon = daemon_start(NULL);
        struct wire *wire = wire_open_unix(daemon);
        struct stream streams[STREAMS];
        make_big(wire);
        streams_open(streams, daemon);
        for (int k = 0; k <= 2 * i; k++) {
            streams_run(streams);
            usleep(300);
        }
        assert_int_equal(kill(daemon->pid, SIGTERM), 0);
        for (int k = 0; k < STREAMS; k++) {
            wire_drain(streams[k].wire); /* it waits a while for who does not read */
            stream_close(&streams[k]);
        }
        wire_close(wire);
        daemon_wait(daemon);
    }
}

/* ---- one moment ---- */

/* Another client gives the first and the last entry of a dict the same number, again and again. */
static void test_large_values_are_of_one_moment(void **state)
{
    const struct fixture *fixture = *state;
    struct wire *changer = wire_open_unix(fixture->daemon);
    char line[200];
    int number = 0;
    char *values = large("{\"id\":1,\"method\":\"create\",\"params\":{\"name\":\"big\",\"value\":{\"a\":0,\"rows\":", ",\"z\":0}}}\n");
    wire_send_text(fixture->wire, values);
    wire_expect_line(fixture->wire, "{'id':1,'result':<object>}");
    int rounds = process_rounds(30, 10);
    for (int i = 0; i < rounds; i++) {
        int asked = number, first = -1, last = -2;
        size_t len;
        wire_send_text(fixture->wire, GET);
        do {
            snprintf(line, sizeof line, "{\"id\":2,\"method\":\"dict.update\",\"params\":[\"big\",{\"a\":%d,\"z\":%d}]}\n",
                     number + 1, number + 1);
            if (i % 3 > 0) {
                number++;
                wire_send_text(changer, line);
                assert_non_null(wire_line(changer, &len));
            }
        } while (!wire_line_within(fixture->wire, 0));
        const char *reply = wire_line(fixture->wire, &len);
        assert_non_null(reply);
        assert_int_equal(sscanf(reply, "{\"id\":1,\"result\":{\"a\":%d,", &first), 1);
        assert_int_equal(sscanf(reply + len - strlen(strrchr(reply, ',')), ",\"z\":%d}}", &last), 1);
        assert_int_equal(first, last);
        assert_true(first >= asked && first <= number);
    }
    printf("%d changes beside %d gets\n", number, rounds);
    wire_close(changer);
    free(values);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        fixture_test(test_large_values_let_collections_in),
        fixture_test(test_large_values_of_clients_that_go),
        fixture_test(test_large_values_of_clients_that_are_killed),
        cmocka_unit_test(test_large_values_without_memory),
        cmocka_unit_test(test_large_values_beyond_max_output),
        cmocka_unit_test(test_large_values_when_the_daemon_ends),
        fixture_test(test_large_values_are_of_one_moment),
    };
    return cmocka_run_group_tests_name("large", tests, NULL, NULL);
}
