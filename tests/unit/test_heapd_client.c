/* test_heapd_client.c -- the client library against a scripted peer.
 *
 * The peer is the other end of a Unix socket in a temporary folder.  Most tests write its replies before
 * the client asks: ids count up from 1, so they are known.  Where both sides must run at once the peer has
 * a thread.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "../../client/heapd_client.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* A listening socket, one client connected to it, and the end that was accepted. */
struct pair {
    char folder[64];
    char path[80];
    char address[96];
    int listener;
    int peer;
    struct heapd_client *client;
};

static int set_up(void **state)
{
    struct pair *pair = calloc(1, sizeof *pair);
    assert_non_null(pair);
    snprintf(pair->folder, sizeof pair->folder, "/tmp/heapd-client-test-XXXXXX");
    assert_non_null(mkdtemp(pair->folder));
    snprintf(pair->path, sizeof pair->path, "%s/s", pair->folder);
    snprintf(pair->address, sizeof pair->address, "unix:%s", pair->path);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s", pair->path);
    pair->listener = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(bind(pair->listener, (const struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(listen(pair->listener, 5), 0);
    pair->client = heapd_client_create();
    assert_non_null(pair->client);
    assert_int_equal(heapd_connect(pair->client, pair->address), HEAPD_OK);
    pair->peer = accept(pair->listener, NULL, NULL);
    assert_true(pair->peer >= 0);
    *state = pair;
    return 0;
}

static int tear_down(void **state)
{
    struct pair *pair = *state;
    heapd_client_destroy(pair->client);
    if (pair->peer >= 0) {
        close(pair->peer);
    }
    close(pair->listener);
    unlink(pair->path);
    rmdir(pair->folder);
    free(pair);
    return 0;
}

/* What the peer says. */
static void say(struct pair *pair, const char *text)
{
    assert_int_equal(send(pair->peer, text, strlen(text), MSG_NOSIGNAL), (ssize_t)strlen(text));
}

/* What the peer has received must be exactly `expected`. */
static void assert_heard(struct pair *pair, const char *expected)
{
    char heard[4096];
    ssize_t n = recv(pair->peer, heard, sizeof heard - 1, MSG_DONTWAIT);
    assert_true(n >= 0);
    heard[n] = '\0';
    assert_string_equal(heard, expected);
}

static void assert_error(struct pair *pair, enum heapd_status status, const char *message_part)
{
    const struct heapd_error *error = heapd_last_error(pair->client);
    assert_int_equal(error->status, status);
    if (strstr(error->message, message_part) == NULL) {
        print_error("message: %s\n", error->message);
    }
    assert_non_null(strstr(error->message, message_part));
}

/* ---- calls ---- */

static void test_heapd_client_call_returns_result(void **state)
{
    struct pair *pair = *state;
    json_t *j_result = NULL;
    size_t len;
    say(pair, "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":[1.1,\"a]}\\\"\",{\"result\":2}]}\r\n");
    assert_int_equal(heapd_callf(pair->client, &j_result, "get", "{s:i,s:f}", "object", 17, "x", 1.5),
                     HEAPD_OK);
    assert_heard(pair,
                 "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"get\",\"params\":{\"object\":17,\"x\":1.5}}\n");
    assert_int_equal(json_array_size(j_result), 3);
    assert_string_equal(heapd_result_text(pair->client, &len), "[1.1,\"a]}\\\"\",{\"result\":2}]");
    assert_int_equal(len, strlen(heapd_result_text(pair->client, NULL)));
    assert_int_equal(heapd_last_error(pair->client)->status, HEAPD_OK);
    json_decref(j_result);
}

static void test_heapd_client_call_sends_all_forms_of_params(void **state)
{
    struct pair *pair = *state;
    json_t *j_params = json_pack("[s]", "a\nb");
    for (int id = 1; id <= 4; id++) {
        char reply[64];
        snprintf(reply, sizeof reply, "{\"jsonrpc\":\"2.0\",\"id\":%d,\"result\":null}\n", id);
        say(pair, reply);
    }
    assert_int_equal(heapd_call(pair->client, NULL, "m", NULL), HEAPD_OK);
    assert_string_equal(heapd_result_text(pair->client, NULL), "null");
    assert_int_equal(heapd_call(pair->client, NULL, "m", j_params), HEAPD_OK);
    assert_int_equal(heapd_callf(pair->client, NULL, "q\"", NULL), HEAPD_OK);
    assert_int_equal(heapd_call_text(pair->client, NULL, "m", "[1e400,\n99999999999999999999]"), HEAPD_OK);
    assert_heard(
        pair, "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"m\"}\n"
              "{\"jsonrpc\":\"2.0\",\"id\":2,\"method\":\"m\",\"params\":[\"a\\nb\"]}\n"
              "{\"jsonrpc\":\"2.0\",\"id\":3,\"method\":\"q\\\"\"}\n"
              "{\"jsonrpc\":\"2.0\",\"id\":4,\"method\":\"m\",\"params\":[1e400, 99999999999999999999]}\n");
    json_decref(j_params);
}

static void test_heapd_client_call_refuses_impossible_params(void **state)
{
    struct pair *pair = *state;
    json_t *j_number = json_integer(5);
    assert_int_equal(heapd_call(pair->client, NULL, "m", j_number), HEAPD_USAGE);
    assert_error(pair, HEAPD_USAGE, "object or array");
    assert_int_equal(heapd_callf(pair->client, NULL, "m", "{s:s}", "a", "\xff"), HEAPD_USAGE);
    assert_error(pair, HEAPD_USAGE, "cannot be packed");
    assert_int_equal(heapd_call(pair->client, NULL, "\xff", NULL), HEAPD_USAGE);
    assert_int_equal(heapd_receive(pair->client, NULL), HEAPD_USAGE);
    assert_int_equal(heapd_flush(pair->client), HEAPD_OK);
    assert_int_equal(recv(pair->peer, &(char){0}, 1, MSG_DONTWAIT), -1);
    assert_int_equal(heapd_due(pair->client), 0);
    json_decref(j_number);
}

static void test_heapd_client_call_tells_the_daemons_error(void **state)
{
    struct pair *pair = *state;
    json_t *j_result = NULL;
    say(pair, "{\"jsonrpc\":\"2.0\",\"id\":1,\"error\":{\"code\":-32001,\"message\":\"no object 17\","
              "\"data\":{\"error\":\"not_found\",\"object\":17}}}\n"
              "{\"jsonrpc\":\"2.0\",\"id\":null,\"error\":{\"code\":-32008,\"message\":\"too long\"}}\n"
              "{\"jsonrpc\":\"2.0\",\"id\":3,\"result\":5}\n");
    assert_int_equal(heapd_callf(pair->client, &j_result, "ref", "[i]", 17), HEAPD_ERROR);
    assert_null(j_result);
    assert_null(heapd_result_text(pair->client, NULL));
    const struct heapd_error *error = heapd_last_error(pair->client);
    assert_int_equal(error->code, -32001);
    assert_string_equal(error->word, "not_found");
    assert_string_equal(error->message, "no object 17");
    assert_int_equal(json_integer_value(json_object_get(error->data, "object")), 17);

    /* An error without id stands for the line that was sent. */
    assert_int_equal(heapd_call(pair->client, &j_result, "m", NULL), HEAPD_ERROR);
    assert_string_equal(heapd_last_error(pair->client)->word, "error");
    assert_null(heapd_last_error(pair->client)->data);

    assert_int_equal(heapd_call(pair->client, &j_result, "m", NULL), HEAPD_OK);
    assert_int_equal(json_integer_value(j_result), 5);
    json_decref(j_result);
}

static void test_heapd_client_keeps_keys_with_nul_as_text(void **state)
{
    struct pair *pair = *state;
    json_t *j_result = NULL;
    say(pair, "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{\"a\\u0000b\":1}}\n"
              "{\"jsonrpc\":\"2.0\",\"id\":2,\"result\":{\"a\\u0000b\":2}}\n"
              "{\"jsonrpc\":\"2.0\",\"id\":3,\"result\":\"a\\u0000b\"}\n");
    assert_int_equal(heapd_call(pair->client, &j_result, "get", NULL), HEAPD_PROTOCOL);
    assert_null(j_result);
    assert_string_equal(heapd_result_text(pair->client, NULL), "{\"a\\u0000b\":1}");
    assert_int_equal(heapd_call(pair->client, NULL, "get", NULL), HEAPD_OK);
    assert_string_equal(heapd_result_text(pair->client, NULL), "{\"a\\u0000b\":2}");
    assert_int_equal(heapd_call(pair->client, &j_result, "get", NULL), HEAPD_OK);
    assert_int_equal(json_string_length(j_result), 3);
    json_decref(j_result);
}

/* ---- what goes wrong ---- */

static void test_heapd_client_drops_late_replies(void **state)
{
    struct pair *pair = *state;
    json_t *j_result = NULL;
    heapd_set_timeout_ms(pair->client, 30);
    assert_int_equal(heapd_call(pair->client, &j_result, "slow", NULL), HEAPD_TIMEOUT);
    assert_error(pair, HEAPD_TIMEOUT, "no answer");
    say(pair, "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":\"late\"}\n{\"jsonrpc\":\"2.0\",\"id\":2,\"result\":"
              "\"fresh\"}\n");
    heapd_set_timeout_ms(pair->client, 0);
    assert_int_equal(heapd_call(pair->client, &j_result, "quick", NULL), HEAPD_OK);
    assert_string_equal(json_string_value(j_result), "fresh");
    json_decref(j_result);
}

static void test_heapd_client_waits_again_after_timeout_of_receive(void **state)
{
    struct pair *pair = *state;
    heapd_set_timeout_ms(pair->client, 20);
    assert_int_equal(heapd_send(pair->client, "slow", NULL), HEAPD_OK);
    say(pair, "{\"jsonrpc\":\"2.0\",");
    assert_int_equal(heapd_receive(pair->client, NULL), HEAPD_TIMEOUT);
    assert_int_equal(heapd_due(pair->client), 1);
    say(pair, "\"id\":1,\"result\":7}\n");
    assert_int_equal(heapd_receive(pair->client, NULL), HEAPD_OK);
    assert_string_equal(heapd_result_text(pair->client, NULL), "7");
}

static void test_heapd_client_notices_the_end(void **state)
{
    struct pair *pair = *state;
    say(pair, "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":1}\n{\"jsonrpc\":\"2.0\",\"id\":2,");
    close(pair->peer);
    pair->peer = -1;
    /* What was said before the end still counts, even though the request cannot be sent any more. */
    assert_int_equal(heapd_call(pair->client, NULL, "m", NULL), HEAPD_OK);
    assert_int_equal(heapd_call(pair->client, NULL, "m", NULL), HEAPD_CLOSED);
    assert_error(pair, HEAPD_CLOSED, "closed the connection");
    assert_int_equal(heapd_call(pair->client, NULL, "m", NULL), HEAPD_CLOSED);
    assert_int_equal(heapd_flush(pair->client), HEAPD_CLOSED);
}

static void test_heapd_client_refuses_what_is_no_reply(void **state)
{
    static const char *const lines[] = {"HTTP/1.1 400 Bad Request\n",
                                        "[]\n",
                                        "5\n",
                                        "{}\n",
                                        "{\"jsonrpc\":\"2.0\",\"id\":9,\"result\":1}\n",
                                        "{\"jsonrpc\":\"2.0\",\"id\":1}\n",
                                        "\n",
                                        "{\"id\":1,\"result\":\xff}\n"};
    struct pair *pair = *state;
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        if (i > 0) {
            heapd_client_destroy(pair->client);
            close(pair->peer);
            pair->client = heapd_client_create();
            assert_int_equal(heapd_connect(pair->client, pair->address), HEAPD_OK);
            pair->peer = accept(pair->listener, NULL, NULL);
        }
        say(pair, lines[i]);
        assert_int_equal(heapd_call(pair->client, NULL, "m", NULL), HEAPD_PROTOCOL);
        assert_error(pair, HEAPD_PROTOCOL, "no heapd daemon");
        assert_int_equal(heapd_call(pair->client, NULL, "m", NULL), HEAPD_PROTOCOL);
        assert_error(pair, HEAPD_PROTOCOL, "connect again");
    }
}

/* ---- pipelining ---- */

static void test_heapd_client_receives_in_order(void **state)
{
    struct pair *pair = *state;
    for (int i = 1; i <= 3; i++) {
        json_t *j_params = json_pack("[i]", i);
        assert_int_equal(heapd_send(pair->client, "m", j_params), HEAPD_OK);
        json_decref(j_params);
    }
    assert_int_equal(heapd_notify(pair->client, "n", NULL), HEAPD_OK);
    assert_int_equal(heapd_send_text(pair->client, "m", "[4]"), HEAPD_OK);
    assert_int_equal(heapd_due(pair->client), 4);
    assert_int_equal(heapd_call(pair->client, NULL, "m", NULL), HEAPD_USAGE);
    assert_error(pair, HEAPD_USAGE, "4 replies are due");
    assert_int_equal(heapd_flush(pair->client), HEAPD_OK);
    assert_heard(pair, "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"m\",\"params\":[1]}\n"
                       "{\"jsonrpc\":\"2.0\",\"id\":2,\"method\":\"m\",\"params\":[2]}\n"
                       "{\"jsonrpc\":\"2.0\",\"id\":3,\"method\":\"m\",\"params\":[3]}\n"
                       "{\"jsonrpc\":\"2.0\",\"method\":\"n\"}\n"
                       "{\"jsonrpc\":\"2.0\",\"id\":4,\"method\":\"m\",\"params\":[4]}\n");
    say(pair,
        "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":10}\n{\"jsonrpc\":\"2.0\",\"id\":2,\"error\":{\"code\":1,"
        "\"message\":\"x\"}}\n{\"jsonrpc\":\"2.0\",\"id\":3,\"result\":30}\n"
        "{\"jsonrpc\":\"2.0\",\"id\":4,\"result\":40}\n");
    static const char *const expected[] = {"10", NULL, "30", "40"};
    for (int i = 0; i < 4; i++) {
        assert_int_equal(heapd_receive(pair->client, NULL), i == 1 ? HEAPD_ERROR : HEAPD_OK);
        if (expected[i] != NULL) {
            assert_string_equal(heapd_result_text(pair->client, NULL), expected[i]);
        }
    }
    assert_int_equal(heapd_due(pair->client), 0);
    assert_int_equal(heapd_receive(pair->client, NULL), HEAPD_USAGE);
}

#define PIPELINE_REQUESTS 1500
#define PIPELINE_BYTES 4000

/* Answers each line with a reply as large as the request, reading nothing more until it is written. */
static void *answer_at_length(void *arg)
{
    struct pair *pair = arg;
    FILE *in = fdopen(dup(pair->peer), "r");
    char *line = NULL, *padding = calloc(1, PIPELINE_BYTES + 1);
    size_t capacity = 0;
    memset(padding, 'r', PIPELINE_BYTES);
    for (int i = 1; i <= PIPELINE_REQUESTS && getline(&line, &capacity, in) > 0; i++) {
        char *reply = NULL;
        int len = asprintf(&reply, "{\"jsonrpc\":\"2.0\",\"id\":%d,\"result\":\"%s\"}\n", i, padding);
        for (int sent = 0; sent < len;) {
            ssize_t n = send(pair->peer, reply + sent, (size_t)(len - sent), MSG_NOSIGNAL);
            if (n < 0) {
                break;
            }
            sent += (int)n;
        }
        free(reply);
    }
    free(line);
    free(padding);
    fclose(in);
    return NULL;
}

/* Both directions fill up: a client that only wrote would wait for ever. */
static void test_heapd_client_pipeline_cannot_block(void **state)
{
    struct pair *pair = *state;
    pthread_t thread;
    char *params = calloc(1, PIPELINE_BYTES + 5);
    memset(params, 'p', PIPELINE_BYTES + 4);
    params[0] = '[';
    params[1] = '"';
    memcpy(params + PIPELINE_BYTES + 2, "\"]", 3);
    assert_int_equal(pthread_create(&thread, NULL, answer_at_length, pair), 0);
    for (int i = 0; i < PIPELINE_REQUESTS; i++) {
        assert_int_equal(heapd_send_text(pair->client, "m", params), HEAPD_OK);
    }
    for (int i = 0; i < PIPELINE_REQUESTS; i++) {
        size_t len;
        assert_int_equal(heapd_receive(pair->client, NULL), HEAPD_OK);
        assert_non_null(heapd_result_text(pair->client, &len));
        assert_int_equal(len, PIPELINE_BYTES + 2);
    }
    assert_int_equal(pthread_join(thread, NULL), 0);
    free(params);
}

/* ---- events and raw lines ---- */

static void count_event(void *arg, json_t *params)
{
    assert_string_equal(json_string_value(json_object_get(params, "event")), "gc");
    ++*(int *)arg;
}

static void test_heapd_client_delivers_events_between_replies(void **state)
{
    struct pair *pair = *state;
    static const char event[] = "{\"jsonrpc\":\"2.0\",\"method\":\"event\",\"params\":{\"event\":\"gc\"}}\n";
    int events = 0;
    say(pair, event);
    say(pair, event);
    say(pair, "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":1}\n");
    say(pair, event);
    say(pair, "{\"jsonrpc\":\"2.0\",\"id\":2,\"result\":2}\n");
    heapd_on_event(pair->client, count_event, &events);
    assert_int_equal(heapd_call(pair->client, NULL, "m", NULL), HEAPD_OK);
    assert_int_equal(events, 2);
    assert_int_equal(heapd_wait_event(pair->client), HEAPD_OK);
    assert_int_equal(events, 3);
    assert_int_equal(heapd_call(pair->client, NULL, "m", NULL), HEAPD_OK);
    heapd_on_event(pair->client, NULL, NULL);
    say(pair, event);
    assert_int_equal(heapd_wait_event(pair->client), HEAPD_OK);
    assert_int_equal(events, 3);
    heapd_set_timeout_ms(pair->client, 20);
    assert_int_equal(heapd_wait_event(pair->client), HEAPD_TIMEOUT);
}

/* What is there is delivered, whole lines only, and nothing is waited for. */
static void test_heapd_client_takes_the_events_that_are_there(void **state)
{
    struct pair *pair = *state;
    static const char event[] = "{\"jsonrpc\":\"2.0\",\"method\":\"event\",\"params\":{\"event\":\"gc\"}}\n";
    int events = 0;
    size_t count = 7;
    heapd_on_event(pair->client, count_event, &events);
    assert_int_equal(heapd_take_events(pair->client, &count), HEAPD_OK);
    assert_int_equal(count, 0);
    say(pair, event);
    say(pair, event);
    say(pair, "{\"jsonrpc\":\"2.0\",\"met");
    assert_int_equal(heapd_take_events(pair->client, &count), HEAPD_OK);
    assert_int_equal(count, 2);
    assert_int_equal(heapd_take_events(pair->client, &count), HEAPD_OK);
    assert_int_equal(count, 0);
    say(pair, "hod\":\"event\",\"params\":{\"event\":\"gc\"}}\n");
    assert_int_equal(heapd_take_events(pair->client, NULL), HEAPD_OK);
    assert_int_equal(events, 3);
    /* Those that were read together with a reply are there, too. */
    say(pair, "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":1}\n");
    say(pair, event);
    assert_int_equal(heapd_call(pair->client, NULL, "m", NULL), HEAPD_OK);
    assert_int_equal(heapd_take_events(pair->client, &count), HEAPD_OK);
    assert_int_equal(count, 1);
    assert_int_equal(heapd_send(pair->client, "m", NULL), HEAPD_OK);
    assert_int_equal(heapd_take_events(pair->client, &count), HEAPD_USAGE);
    say(pair, "{\"jsonrpc\":\"2.0\",\"id\":2,\"result\":1}\n");
    assert_int_equal(heapd_receive(pair->client, NULL), HEAPD_OK);
    say(pair, event);
    close(pair->peer);
    pair->peer = -1;
    assert_int_equal(heapd_take_events(pair->client, &count), HEAPD_CLOSED);
    assert_int_equal(count, 1);
    assert_int_equal(events, 5);
}

static void test_heapd_client_take_events_refuses_replies(void **state)
{
    struct pair *pair = *state;
    say(pair, "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":1}\n");
    assert_int_equal(heapd_take_events(pair->client, NULL), HEAPD_PROTOCOL);
    assert_error(pair, HEAPD_PROTOCOL, "nothing asked for");
}

static void test_heapd_client_raw_lines_go_and_come_as_they_are(void **state)
{
    struct pair *pair = *state;
    const char *line = NULL;
    size_t len = 0;
    assert_int_equal(heapd_send_line(pair->client, "[\0x]", 4), HEAPD_OK);
    say(pair, "[{\"jsonrpc\":\"2.0\"}]\n\nlast without newline");
    assert_int_equal(heapd_read_line(pair->client, &line, &len), HEAPD_OK);
    assert_string_equal(line, "[{\"jsonrpc\":\"2.0\"}]");
    assert_int_equal(len, strlen(line));
    char heard[16];
    assert_int_equal(recv(pair->peer, heard, sizeof heard, MSG_DONTWAIT), 5);
    assert_memory_equal(heard, "[\0x]\n", 5);
    assert_int_equal(heapd_read_line(pair->client, &line, &len), HEAPD_OK);
    assert_int_equal(len, 0);
    close(pair->peer);
    pair->peer = -1;
    assert_int_equal(heapd_read_line(pair->client, &line, &len), HEAPD_CLOSED);
}

/* ---- addresses ---- */

static void assert_address(const char *address, enum heapd_status status, const char *message_part)
{
    struct heapd_client *client = heapd_client_create();
    assert_int_equal(heapd_connect(client, address), status);
    assert_string_equal(heapd_address(client), address);
    if (strstr(heapd_last_error(client)->message, message_part) == NULL) {
        print_error("%s: %s\n", address, heapd_last_error(client)->message);
    }
    assert_non_null(strstr(heapd_last_error(client)->message, message_part));
    assert_int_equal(heapd_fd(client), -1);
    assert_int_equal(heapd_call(client, NULL, "m", NULL), HEAPD_CLOSED);
    heapd_client_destroy(client);
}

static void test_heapd_client_explains_addresses(void **state)
{
    (void)state;
    char longer[300] = "unix:/";
    memset(longer + 6, 'x', 200);
    assert_address("", HEAPD_USAGE, "unix:PATH, tcp:HOST:PORT or tls:HOST:PORT");
    assert_address("/tmp/x", HEAPD_USAGE, "unix:PATH, tcp:HOST:PORT or tls:HOST:PORT");
    assert_address("unix:", HEAPD_USAGE, "path");
    assert_address(longer, HEAPD_USAGE, "path");
    assert_address("tcp:7411", HEAPD_USAGE, "tcp:HOST:PORT");
    assert_address("tcp::7411", HEAPD_USAGE, "tcp:HOST:PORT");
    assert_address("tcp:localhost:", HEAPD_USAGE, "tcp:HOST:PORT");
    assert_address("tcp:::1:7411", HEAPD_USAGE, "[::1]");
    assert_address("tcp:[::1:7411", HEAPD_USAGE, "[::1]");
    assert_address("tcp:[]:7411", HEAPD_USAGE, "[::1]");
    assert_address("unix:/nonexistent/socket", HEAPD_CLOSED, "No such file");
    assert_address("tcp:127.0.0.1:port", HEAPD_CLOSED, "cannot connect to tcp:127.0.0.1:port");
}

static void test_heapd_client_default_address_follows_the_environment(void **state)
{
    (void)state;
    char address[256], expected[64], small[10];
    setenv("HEAPD_URL", "tcp:[::1]:7411", 1);
    setenv("XDG_RUNTIME_DIR", "/run/user/1", 1);
    assert_true(heapd_default_address(address, sizeof address));
    assert_string_equal(address, "tcp:[::1]:7411");
    assert_false(heapd_default_address(small, sizeof small));
    unsetenv("HEAPD_URL");
    assert_true(heapd_default_address(address, sizeof address));
    assert_string_equal(address, "unix:/run/user/1/heapd.sock");
    unsetenv("XDG_RUNTIME_DIR");
    assert_true(heapd_default_address(address, sizeof address));
    snprintf(expected, sizeof expected, "unix:/tmp/heapd-%lu/heapd.sock", (unsigned long)getuid());
    assert_string_equal(address, expected);
}

static void test_heapd_client_is_careful_without_connection(void **state)
{
    struct pair *pair = *state;
    assert_int_equal(heapd_connect(pair->client, "unix:/x"), HEAPD_USAGE);
    assert_error(pair, HEAPD_USAGE, "already connected");
    heapd_client_destroy(NULL);
    assert_int_equal(heapd_last_error(NULL)->status, HEAPD_NO_MEMORY);
    struct heapd_client *client = heapd_client_create();
    assert_string_equal(heapd_address(client), "");
    assert_int_equal(heapd_send(client, "m", NULL), HEAPD_CLOSED);
    assert_int_equal(heapd_flush(client), HEAPD_CLOSED);
    heapd_client_destroy(client);
}

#define WITH_PAIR(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_PAIR(test_heapd_client_call_returns_result),
        WITH_PAIR(test_heapd_client_call_sends_all_forms_of_params),
        WITH_PAIR(test_heapd_client_call_refuses_impossible_params),
        WITH_PAIR(test_heapd_client_call_tells_the_daemons_error),
        WITH_PAIR(test_heapd_client_keeps_keys_with_nul_as_text),
        WITH_PAIR(test_heapd_client_drops_late_replies),
        WITH_PAIR(test_heapd_client_waits_again_after_timeout_of_receive),
        WITH_PAIR(test_heapd_client_notices_the_end),
        WITH_PAIR(test_heapd_client_refuses_what_is_no_reply),
        WITH_PAIR(test_heapd_client_receives_in_order),
        WITH_PAIR(test_heapd_client_pipeline_cannot_block),
        WITH_PAIR(test_heapd_client_delivers_events_between_replies),
        WITH_PAIR(test_heapd_client_takes_the_events_that_are_there),
        WITH_PAIR(test_heapd_client_take_events_refuses_replies),
        WITH_PAIR(test_heapd_client_raw_lines_go_and_come_as_they_are),
        cmocka_unit_test(test_heapd_client_explains_addresses),
        cmocka_unit_test(test_heapd_client_default_address_follows_the_environment),
        WITH_PAIR(test_heapd_client_is_careful_without_connection),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
