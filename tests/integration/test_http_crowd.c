/* test_http_crowd.c -- many connections that speak HTTP and do not read: what all of them together may have. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>

#include "../support/fixture.h"
#include "../support/process.h"
#include "../support/web.h"

#define MIB ((size_t)1 << 20)

enum { CROWD = 40, TEXT_MIB = 8, OUTPUT_MIB = 16, ALL_MIB = 8 * OUTPUT_MIB };

static void make_text(struct wire *wire)
{
    char *text = malloc(TEXT_MIB * MIB + 1);
    assert_non_null(text);
    memset(text, 'x', TEXT_MIB * MIB);
    text[TEXT_MIB * MIB] = '\0';
    json_decref(wire_callf(wire, "create", "{s:s, s:s}", "value", text, "name", "text"));
    free(text);
}

/* Asks for the text. */
static void ask(int fd)
{
    static const char body[] = "{\"id\":1,\"method\":\"get\",\"params\":[\"text\"]}";
    char request[256];
    int len = snprintf(request, sizeof request, "POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
                                                "Content-Length: %zu\r\n\r\n%s",
                       sizeof body - 1, body);
    web_send(fd, request, (size_t)len);
}

/* What server.clients says of those that have asked: the unsent bytes of all; *asked: how many there are. */
static uint64_t unsent(struct wire *wire, unsigned *asked)
{
    uint64_t sum = 0;
    size_t at;
    json_t *j_answer = wire_callf(wire, "server.clients", "{}"), *j_client;
    *asked = 0;
    json_array_foreach(json_object_get(j_answer, "clients"), at, j_client) {
        const char *method = json_string_value(json_object_get(j_client, "last_method"));
        if (method != NULL && strcmp(method, "get") == 0) {
            sum += (uint64_t)json_integer_value(json_object_get(j_client, "out_buffer"));
            ++*asked;
        }
    }
    json_decref(j_answer);
    return sum;
}

/* Takes the answer; whether it is the text. */
static bool is_text(int fd, char *body)
{
    assert_int_equal(web_read_answer(fd, body, (TEXT_MIB + 1) * MIB), 200);
    bool is_result = strncmp(body, "{\"id\":1,\"result\":", 17) == 0;
    if (!is_result) {
        assert_non_null(strstr(body, "\"error\":\"limit_exceeded\""));
        assert_non_null(strstr(body, "\"limit\":\"max-output\""));
    }
    return is_result;
}

/* Their unread answers are bounded in sum, as those of lines are; who comes too late is told so, and all go on when the
 * others have read. */
static void test_http_crowd_has_a_bounded_sum_of_unread_answers(void **state)
{
    (void)state;
    if (daemon_is_elsewhere()) {
        process_skip("the daemon runs elsewhere");
    }
    struct fixture fixture;
    int fds[CROWD], texts = 0;
    unsigned asked;
    char *body = malloc((TEXT_MIB + 1) * MIB);
    assert_non_null(body);
    fixture_start(&fixture, (const char *[]){"--max-output", "16m", NULL});
    make_text(fixture.wire);
    for (int i = 0; i < CROWD; i++) {
        fds[i] = web_connect(fixture.daemon);
        ask(fds[i]);
    }
    uint64_t all;
    while ((all = unsent(fixture.wire, &asked)), asked < CROWD) {
        usleep(1000);
    }
    assert_true(all > TEXT_MIB * MIB && all <= ALL_MIB * MIB);
    for (int i = 0; i < CROWD; i++) {
        texts += is_text(fds[i], body);
    }
    assert_true(texts > 0 && texts <= ALL_MIB / TEXT_MIB);
    assert_int_equal(unsent(fixture.wire, &asked), 0);
    for (int i = 0; i < CROWD; i++) {
        ask(fds[i]);
        assert_true(is_text(fds[i], body));
        close(fds[i]);
    }
    json_decref(wire_callf(fixture.wire, "name.unbind", "[s]", "text"));
    free(body);
    fixture_end(&fixture);
}

/* Who reads nothing for a minute is ended, and what it was to get is free; who reads a little now and then is not. */
static void test_http_crowd_ends_who_reads_nothing(void **state)
{
    (void)state;
    if (daemon_is_elsewhere()) {
        process_skip("the daemon runs elsewhere");
    }
    if (process_rounds(1, 2) == 1) {
        process_skip("takes more than a minute: LONG=1");
    }
    struct fixture fixture;
    char some[MIB / 4];
    ssize_t n;
    size_t len = 0;
    unsigned asked;
    fixture_start(&fixture, NULL);
    make_text(fixture.wire);
    int silent = web_connect(fixture.daemon), slow = web_connect(fixture.daemon);
    ask(silent);
    ask(slow);
    int64_t began = process_now_ms();
    while (wire_limit_reached(fixture.wire, "http-unread") == 0) {
        assert_true(process_now_ms() - began < 60000 + PROCESS_PATIENCE_MS);
        len += (size_t)read(slow, some, sizeof some);
        sleep(5);
    }
    assert_true(process_now_ms() - began >= 60000);
    while (unsent(fixture.wire, &asked), asked > 1) {
        usleep(1000);
    }
    while ((n = read(slow, some, sizeof some)) > 0) {
        len += (size_t)n;
        if (len > TEXT_MIB * MIB) {
            break;
        }
    }
    assert_true(len > TEXT_MIB * MIB);
    for (len = 0; (n = read(silent, some, sizeof some)) > 0; len += (size_t)n) {
    }
    assert_true(len < TEXT_MIB * MIB);
    assert_int_equal(wire_limit_reached(fixture.wire, "http-unread"), 1);
    close(silent);
    close(slow);
    json_decref(wire_callf(fixture.wire, "name.unbind", "[s]", "text"));
    fixture_end(&fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_http_crowd_has_a_bounded_sum_of_unread_answers),
                                       cmocka_unit_test(test_http_crowd_ends_who_reads_nothing)};
    return cmocka_run_group_tests_name("test_http_crowd", tests, NULL, NULL);
}
