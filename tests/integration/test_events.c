/* test_events.c -- events between connections: who hears what, in which order, and what becomes of what nobody reads.
 *
 * Most of them count with `journal`, which tells each change once, in order.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "../support/fixture.h"
#include "../support/process.h"

/* ---- helpers ---- */

static void subscribe(struct wire *wire, const char *word)
{
    char line[128], expected[128];
    snprintf(line, sizeof line, "{'id':1,'method':'subscribe','params':[['%s']]}", word);
    snprintf(expected, sizeof expected, "{'id':1,'result':['%s']}", word);
    wire_expect(wire, line, expected);
}

/* A change that says its number: the list "log" grows by it.  Padding makes its event as long as one likes. */
static void change(struct wire *wire, int number, size_t padding)
{
    char *pad = malloc(padding + 1);
    assert_non_null(pad);
    memset(pad, 'x', padding);
    pad[padding] = '\0';
    json_decref(wire_callf(wire, "list.append", "[s,{s:i,s:s}]", "log", "number", number, "pad", pad));
    free(pad);
}

#define JOURNAL "{\"jsonrpc\":\"2.0\",\"method\":\"event\",\"params\":{\"event\":\"journal\",\"line\":"

/* The next line must be the event of that change. */
static void expect_change(struct wire *wire, int number)
{
    char wanted[64];
    size_t len;
    const char *line = wire_line(wire, &len);
    assert_non_null(line);
    snprintf(wanted, sizeof wanted, "\\\"number\\\":%d,", number);
    if (strncmp(line, JOURNAL, strlen(JOURNAL)) != 0 || strstr(line, wanted) == NULL) {
        fail_msg("change %d should be told, came: %.300s", number, line);
    }
}

static void expect_pong(struct wire *wire)
{
    wire_expect(wire, "{'id':'pong','method':'ping'}", "{'id':'pong','result':'pong'}");
}

static void create_log(struct wire *wire)
{
    json_decref(wire_callf(wire, "create", "[[],s]", "log"));
}

static void open_lease(struct wire *wire, char token[33])
{
    json_t *j_lease = wire_callf(wire, "session.open", "[i]", 3600000);
    strcpy(token, json_string_value(json_object_get(j_lease, "session")));
    json_decref(j_lease);
}

static void send_resume(struct wire *wire, const char *token)
{
    char line[128];
    snprintf(line, sizeof line, "{\"id\":\"resume\",\"method\":\"session.resume\",\"params\":[\"%.32s\"]}\n", token);
    wire_send_text(wire, line);
}

static void await_connections(struct wire *wire, int64_t count)
{
    int64_t deadline = process_now_ms() + PROCESS_PATIENCE_MS;
    while (wire_stat(wire, "server", "connections") != count) {
        if (process_now_ms() > deadline) {
            fail_msg("there should be %lld connections", (long long)count);
        }
        usleep(1000);
    }
}

/* ---- who hears ---- */

static void test_events_reach_all_subscribers_once(void **state)
{
    const struct fixture *fixture = *state;
    struct wire *first = wire_open(fixture->daemon), *second = wire_open_unix(fixture->daemon);
    create_log(fixture->wire);
    subscribe(first, "journal");
    subscribe(second, "journal");
    subscribe(second, "journal");
    for (int i = 0; i < 50; i++) {
        change(fixture->wire, i, 10);
    }
    for (int i = 0; i < 50; i++) {
        expect_change(first, i);
        expect_change(second, i);
    }
    wire_expect(first, "{'id':2,'method':'unsubscribe','params':[['journal']]}", "{'id':2,'result':[]}");
    change(fixture->wire, 50, 10);
    expect_change(second, 50);
    expect_pong(first);
    wire_close(first);
    wire_close(second);
}

static void test_events_of_clients(void **state)
{
    const struct fixture *fixture = *state;
    subscribe(fixture->wire, "clients");
    struct wire *wire = wire_open_unix(fixture->daemon);
    wire_expect_line(fixture->wire, "{'jsonrpc':'2.0','method':'event','params':<ordered {'event':'clients',"
                                    "'client':<id:c>,'what':'connected','reason':null}>}");
    wire_close(wire);
    wire_expect_line(fixture->wire, "{'jsonrpc':'2.0','method':'event','params':<ordered {'event':'clients',"
                                    "'client':<id:c>,'what':'closed','reason':<str>}>}");
    wire = wire_open(fixture->daemon);
    wire_expect_line(fixture->wire, "{'jsonrpc':'2.0','method':'event','params':{'event':'clients',"
                                    "'client':<id:d>,'what':'connected','reason':null}}");
    wire_send_text(fixture->wire, "{\"id\":1,\"method\":\"server.kill\",\"params\":[");
    wire_send_text(fixture->wire, match_bound(&fixture->wire->bindings, "d"));
    wire_send_text(fixture->wire, "]}\n");
    wire_expect_line(fixture->wire, "{'id':1,'result':{'client':<id:d>,'released':0}}");
    wire_expect_line(fixture->wire, "{'jsonrpc':'2.0','method':'event','params':{'event':'clients',"
                                    "'client':<id:d>,'what':'closed','reason':'killed by server.kill'}}");
    wire_close(wire);
}

static void test_events_of_collections(void **state)
{
    const struct fixture *fixture = *state;
    struct wire *wire = wire_open(fixture->daemon);
    subscribe(fixture->wire, "gc");
    subscribe(wire, "gc");
    wire_send_text(fixture->wire, "{\"id\":1,\"method\":\"collect\",\"params\":[1]}\n");
    for (int i = 0; i < 2; i++) {
        struct wire *hearer = i == 0 ? fixture->wire : wire;
        wire_expect_line(hearer, "{'jsonrpc':'2.0','method':'event','params':<ordered {'event':'gc',"
                                 "'phase':'start','generation':1,'automatic':false}>}");
        wire_expect_line(hearer, "{'jsonrpc':'2.0','method':'event','params':<ordered {'event':'gc','phase':'stop',"
                                 "'generation':1,'automatic':false,'unreachable':0,'uncollectable':0,'freed':0,"
                                 "'elapsed_us':<int>}>}");
    }
    /* What the request has caused came before its reply. */
    wire_expect_line(fixture->wire, "{'id':1,'result':<object>}");
    /* An automatic one. */
    wire_expect(wire, "{'id':2,'method':'gc.set_threshold','params':[2]}", "{'id':2,'result':null}");
    json_decref(wire_callf(wire, "create", "[[[],[],[],[]],s]", "lists"));
    wire_expect_line(wire, "{'jsonrpc':'2.0','method':'event','params':{'event':'gc','phase':'start',"
                           "'generation':0,'automatic':true}}");
    wire_expect_line(wire, "{'jsonrpc':'2.0','method':'event','params':<has {'event':'gc','phase':'stop',"
                           "'generation':0,'automatic':true}>}");
    wire_close(wire);
    wire_expect_line(fixture->wire, "{'jsonrpc':'2.0','method':'event','params':<has {'phase':'start'}>}");
    wire_expect_line(fixture->wire, "{'jsonrpc':'2.0','method':'event','params':<has {'phase':'stop'}>}");
    wire_expect(fixture->wire, "{'id':3,'method':'unsubscribe','params':[['gc']]}", "{'id':3,'result':[]}");
}

/* Of a session's connections the one whose request causes an event hears it, else the first. */
/* A collection at the heap's limit is one that nobody asked for. */
static void test_events_of_a_collection_for_room(void **state)
{
    struct fixture fixture;
    (void)state;
    fixture_start(&fixture, (const char *[]){"--max-memory", "8m", NULL});
    static char text[8000001];
    memset(text, 'x', sizeof text - 1);
    json_decref(wire_callf(fixture.wire, "subscribe", "[[s]]", "gc"));
    wire_send_text(fixture.wire, "{\"id\":1,\"method\":\"create\",\"params\":[\"");
    wire_send(fixture.wire, text, sizeof text - 1);
    wire_expect(fixture.wire, "\"]}",
                "{'jsonrpc':'2.0','method':'event','params':<has {'event':'gc','phase':'start',"
                "'generation':2,'automatic':true}>}");
    wire_expect_line(fixture.wire,
                     "{'jsonrpc':'2.0','method':'event','params':<has {'event':'gc','phase':'stop',"
                     "'generation':2,'automatic':true,'unreachable':0}>}");
    wire_expect_line(fixture.wire, "{'id':1,'error':<error memory_error {'limit':'max-memory'}>}");
    fixture_end(&fixture);
}

static void test_events_of_a_shared_session(void **state)
{
    const struct fixture *fixture = *state;
    char token[33];
    struct wire *first = wire_open(fixture->daemon), *second = wire_open_unix(fixture->daemon);
    create_log(fixture->wire);
    subscribe(second, "journal");
    open_lease(first, token);
    send_resume(second, token);
    wire_expect_line(second, "{'id':'resume','result':{'holds':0}}");
    /* The subscription came along. */
    change(fixture->wire, 1, 10);
    expect_change(first, 1);
    wire_send_text(second, "{\"id\":5,\"method\":\"list.append\",\"params\":[\"log\",{\"number\":2,\"pad\":\"\"}]}\n");
    expect_change(second, 2);
    wire_expect_line(second, "{'id':5,'result':null}");
    expect_pong(first);
    /* The second is the first when that has gone. */
    wire_close(first);
    await_connections(fixture->wire, 2);
    change(fixture->wire, 3, 10);
    expect_change(second, 3);
    wire_expect(second, "{'id':6,'method':'session.close'}",
                "{'id':6,'result':{'released':0}}");
    change(fixture->wire, 4, 10);
    expect_pong(second);
    wire_close(second);
}

#define FINALIZED(object, token)                                                                             \
    "{'jsonrpc':'2.0','method':'event','params':<ordered {'event':'finalized','object':<id:" object              \
    ">,'token':" token ",'resurrected':false}>}"
#define CLEARED(weakref, object)                                                                             \
    "{'jsonrpc':'2.0','method':'event','params':<ordered {'event':'weakref','weakref':<id:" weakref              \
    ">,'object':<id:" object ">}>}"

/* An object with a finalizer and a notifying weakref of the connection's. */
static void watch(struct wire *wire)
{
    wire_expect(wire, "{'id':1,'method':'create','params':[[1000],'a']}",
                "{'id':1,'result':{'object':<id:a>,'type':'list','refcount':1}}");
    wire_expect(wire, "{'id':2,'method':'finalizer.set','params':['a','tok']}", "{'id':2,'result':null}");
    wire_expect(wire, "{'id':3,'method':'weakref.create','params':['a',true]}", "{'id':3,'result':{'object':<id:w>}}");
}

/* Whoever kills the object: its watcher hears, subscribed or not, once; and subscribers do. */
static void test_events_of_deaths_reach_their_owner(void **state)
{
    const struct fixture *fixture = *state;
    struct wire *owner = wire_open(fixture->daemon), *killer = wire_open_unix(fixture->daemon);
    for (int is_subscribed = 0; is_subscribed < 2; is_subscribed++) {
        if (is_subscribed) {
            wire_expect(owner, "{'id':1,'method':'subscribe','params':[['finalized','weakref']]}",
                        "{'id':1,'result':['finalized','weakref']}");
        }
        watch(owner);
        json_decref(wire_callf(killer, "name.unbind", "[s]", "a"));
        wire_expect_line(owner, FINALIZED("a", "'tok'"));
        wire_expect_line(owner, CLEARED("w", "a"));
        expect_pong(killer);
        expect_pong(owner);
        json_decref(wire_callf(owner, "session.close", NULL));
        memset(&owner->bindings, 0, sizeof owner->bindings);
    }
    /* Its own request: before the reply, or before the batch. */
    watch(owner);
    wire_send_text(owner, "[{\"id\":7,\"method\":\"ping\"},{\"id\":8,\"method\":\"name.unbind\",\"params\":[\"a\"]}]\n");
    wire_expect_line(owner, FINALIZED("a", "'tok'"));
    wire_expect_line(owner, CLEARED("w", "a"));
    wire_expect_line(owner, "[{'id':7,'result':'pong'},{'id':8,'result':<has {'freed':2}>}]");
    wire_close(owner);
    wire_close(killer);
}

/* A session that was merged into another one is heard there; one that has been closed by nobody. */
static void test_events_of_deaths_follow_a_merged_session(void **state)
{
    const struct fixture *fixture = *state;
    char token[33];
    struct wire *owner = wire_open(fixture->daemon), *other = wire_open_unix(fixture->daemon);
    open_lease(other, token);
    watch(owner);
    send_resume(owner, token);
    wire_expect_line(owner, "{'id':'resume','result':{'holds':1}}");
    /* The other one is the first of the two connections now. */
    json_decref(wire_callf(fixture->wire, "name.unbind", "[s]", "a"));
    other->bindings = owner->bindings;
    wire_expect_line(other, FINALIZED("a", "'tok'"));
    wire_expect_line(other, CLEARED("w", "a"));
    expect_pong(owner);
    /* Deaths while it is not connected are told later. */
    memset(&owner->bindings, 0, sizeof owner->bindings);
    watch(owner);
    other->bindings = owner->bindings;
    wire_close(owner);
    struct match_bindings bindings = other->bindings;
    wire_close(other);
    await_connections(fixture->wire, 1);
    json_decref(wire_callf(fixture->wire, "name.unbind", "[s]", "a"));
    other = wire_open(fixture->daemon);
    other->bindings = bindings;
    send_resume(other, token);
    wire_expect_line(other, "{'id':'resume','result':{'holds':2}}");
    wire_expect_line(other, FINALIZED("a", "'tok'"));
    wire_expect_line(other, CLEARED("w", "a"));
    memset(&other->bindings, 0, sizeof other->bindings);
    watch(other);
    wire_expect(other, "{'id':9,'method':'session.close'}", "{'id':9,'result':<has {'released':3}>}");
    json_decref(wire_callf(fixture->wire, "name.unbind", "[s]", "a"));
    expect_pong(other);
    wire_close(other);
}

/* ---- order ---- */

/* Changes of one connection, told to itself, while another's are told too: each before its own reply. */
static void test_events_come_before_the_reply_that_they_belong_to(void **state)
{
    const struct fixture *fixture = *state;
    struct wire *other = wire_open(fixture->daemon);
    create_log(fixture->wire);
    subscribe(fixture->wire, "journal");
    char lines[100 * 100] = "";
    for (int i = 0; i < 100; i++) {
        snprintf(lines + strlen(lines), 100,
                 "{\"id\":%d,\"method\":\"list.append\",\"params\":[\"log\",{\"number\":%d,\"pad\":\"\"}]}\n", i, i);
    }
    wire_send_text(fixture->wire, lines);
    for (int i = 1000; i < 1020; i++) {
        change(other, i, 10);
    }
    int next_event = 0, next_reply = 0, others = 1000;
    while (next_reply < 100 || others < 1020) {
        size_t len;
        const char *line = wire_line(fixture->wire, &len), *number = strstr(line, "\\\"number\\\":");
        if (number == NULL) {
            assert_int_equal(atoi(line + strlen("{\"id\":")), next_reply);
            next_reply++;
            assert_int_equal(next_event, next_reply);
        } else if (atoi(number + strlen("\\\"number\\\":")) >= 1000) {
            assert_int_equal(atoi(number + strlen("\\\"number\\\":")), others++);
        } else {
            assert_int_equal(atoi(number + strlen("\\\"number\\\":")), next_event++);
        }
    }
    wire_close(other);
}

/* ---- who does not read ---- */

/* Reads changes from `next` on up to the `lost` line, or to the end before `end`; returns the first not told, and
 * adds to *lost. */
static int read_changes(struct wire *wire, int next, int end, int64_t *lost)
{
    while (next + *lost < end) {
        size_t len;
        json_t *j_line, *j_params;
        const char *line = wire_line(wire, &len);
        assert_non_null(line);
        j_line = json_loads(line, 0, NULL);
        j_params = json_object_get(j_line, "params");
        const char *event = json_string_value(json_object_get(j_params, "event"));
        assert_non_null(event);
        if (strcmp(event, "lost") == 0) {
            assert_int_equal(json_object_size(j_params), 2);
            int64_t count = json_integer_value(json_object_get(j_params, "count"));
            assert_true(count > 0);
            *lost += count;
        } else {
            char wanted[64];
            snprintf(wanted, sizeof wanted, "\"number\":%lld,", (long long)(next + *lost));
            if (strstr(json_string_value(json_object_get(j_params, "line")), wanted) == NULL) {
                fail_msg("%lld were lost, so %s should come: %.200s", (long long)*lost, wanted, line);
            }
            next++;
        }
        json_decref(j_line);
    }
    return next;
}

static void test_events_wait_and_are_counted_when_lost(void **state)
{
    struct fixture *fixture = *state;
    enum { CHANGES = 3000, WAITING = 10 };
    fixture_end(fixture);
    fixture_start(fixture, (const char *const[]){"--max-events", "10", NULL});
    struct wire *slow = wire_open(fixture->daemon);
    create_log(fixture->wire);
    subscribe(slow, "journal");
    /* More than sockets hold: 30 MB. */
    for (int i = 0; i < CHANGES; i++) {
        change(fixture->wire, i, 10000);
    }
    json_t *j_clients = wire_callf(fixture->wire, "server.clients", NULL);
    char *text = json_dumps(j_clients, JSON_COMPACT);
    assert_non_null(strstr(text, "\"events\":10,"));
    free(text);
    json_decref(j_clients);
    int64_t lost = 0;
    int told = read_changes(slow, 0, CHANGES, &lost);
    assert_true(lost > 0);
    assert_true(told > WAITING);
    /* It reads again, and misses nothing. */
    for (int i = CHANGES; i < CHANGES + 20; i++) {
        change(fixture->wire, i, 10);
        expect_change(slow, i);
    }
    expect_pong(slow);
    wire_close(slow);
}

static void test_events_wait_for_a_leased_session(void **state)
{
    struct fixture *fixture = *state;
    char token[33];
    fixture_end(fixture);
    fixture_start(fixture, (const char *const[]){"--max-events", "10", NULL});
    create_log(fixture->wire);
    struct wire *wire = wire_open(fixture->daemon);
    subscribe(wire, "journal");
    open_lease(wire, token);
    for (int round = 0; round < 3; round++) {
        wire_close(wire);
        await_connections(fixture->wire, 1);
        const int changes = round == 1 ? 10 : 25;
        for (int i = 0; i < changes; i++) {
            change(fixture->wire, i, 10);
        }
        wire = wire_open_unix(fixture->daemon);
        send_resume(wire, token);
        wire_expect_line(wire, "{'id':'resume','result':{'holds':0}}");
        for (int i = 0; i < 10; i++) {
            expect_change(wire, i);
        }
        if (changes > 10) {
            wire_expect_line(wire, "{'jsonrpc':'2.0','method':'event','params':<ordered {'event':'lost','count':15}>}");
        }
        change(fixture->wire, 99, 10);
        expect_change(wire, 99);
        expect_pong(wire);
    }
    wire_expect(wire, "{'id':6,'method':'session.close'}", "{'id':6,'result':{'released':0}}");
    wire_close(wire);
}

/* All sessions together have eight times max-output of events that wait. */
static void test_events_that_wait_are_bounded_in_sum(void **state)
{
    struct fixture *fixture = *state;
    enum { SESSIONS = 20, CHANGES = 12, PAD = 10000, MAX_OUTPUT = 65536 };
    char tokens[SESSIONS][33];
    fixture_end(fixture);
    fixture_start(fixture, (const char *const[]){"--max-output", "64k", NULL});
    create_log(fixture->wire);
    for (unsigned i = 0; i < SESSIONS; i++) {
        struct wire *wire = wire_open_unix(fixture->daemon);
        subscribe(wire, "journal");
        open_lease(wire, tokens[i]);
        wire_close(wire);
    }
    await_connections(fixture->wire, 1);
    for (int i = 0; i < CHANGES; i++) {
        change(fixture->wire, i, PAD);
    }
    struct wire *wires[SESSIONS];
    int told = 0;
    for (unsigned i = 0; i < SESSIONS; i++) {
        int64_t lost = 0;
        wires[i] = wire_open_unix(fixture->daemon);
        send_resume(wires[i], tokens[i]);
        wire_expect_line(wires[i], "{'id':'resume','result':{'holds':0}}");
        told += read_changes(wires[i], 0, CHANGES, &lost);
        assert_true(lost > 0);
    }
    assert_in_range(told, 8, 8 * MAX_OUTPUT / PAD);
    for (unsigned i = 0; i < SESSIONS; i++) { /* before any is told of the end of another */
        wire_expect(wires[i], "{'id':5,'method':'unsubscribe','params':[['journal']]}", "{'id':5,'result':[]}");
    }
    for (unsigned i = 0; i < SESSIONS; i++) {
        wire_expect(wires[i], "{'id':6,'method':'session.close'}", "{'id':6,'result':{'released':0}}");
        wire_close(wires[i]);
    }
}

/* A client whose unread output is events has not too much of it, whatever max-output says. */
static void test_events_do_not_count_towards_max_output(void **state)
{
    struct fixture *fixture = *state;
    fixture_end(fixture);
    fixture_start(fixture, (const char *const[]){"--max-output", "16k", NULL});
    struct wire *slow = wire_open(fixture->daemon);
    create_log(fixture->wire);
    subscribe(slow, "journal");
    for (int i = 0; i < 10000; i++) {
        change(fixture->wire, i, 1000);
    }
    /* So long would a client with too many unread replies be suffered. */
    usleep(2500000);
    int64_t lost = 0;
    read_changes(slow, 0, 10000, &lost);
    assert_true(lost > 0);
    expect_pong(slow);
    wire_close(slow);
}

/* ---- the heap's limit ---- */

static void test_events_of_pressure(void **state)
{
    struct fixture *fixture = *state;
    fixture_end(fixture);
    fixture_start(fixture, (const char *const[]){"--max-memory", "64m", NULL});
    struct wire *wire = wire_open(fixture->daemon);
    subscribe(wire, "pressure");
    char *text = malloc(1000001);
    memset(text, 'x', 1000000);
    text[1000000] = '\0';
    create_log(fixture->wire);
    int n = 0;
    /* Grows until somebody cries. */
    while (!wire_line_within(wire, 0)) {
        json_decref(wire_callf(fixture->wire, "list.append", "[s,s]", "log", text));
        assert_true(++n < 64);
        if (n > 50) {
            wire_line_within(wire, 100);
        }
    }
    wire_expect_line(wire, "{'jsonrpc':'2.0','method':'event','params':<ordered {'event':'pressure','level':'high',"
                           "'bytes':<min 60397977>,'max':67108864}>}");
    json_decref(wire_callf(fixture->wire, "list.append", "[s,i]", "log", 1000));
    expect_pong(wire);
    json_decref(wire_callf(fixture->wire, "list.clear", "[s]", "log"));
    wire_expect_line(wire, "{'jsonrpc':'2.0','method':'event','params':<ordered {'event':'pressure','level':'normal',"
                           "'bytes':<int>,'max':67108864}>}");
    expect_pong(wire);
    free(text);
    wire_close(wire);
}

/* ---- idle-timeout ---- */

static void test_events_keep_a_silent_connection(void **state)
{
    struct fixture *fixture = *state;
    fixture_end(fixture);
    fixture_start(fixture, (const char *const[]){"--idle-timeout", "1", NULL});
    struct wire *listener = wire_open(fixture->daemon), *idle = wire_open(fixture->daemon);
    subscribe(listener, "gc");
    expect_pong(idle);
    wire_expect_end(idle);
    expect_pong(listener);
    wire_expect(listener, "{'id':1,'method':'unsubscribe','params':[['gc']]}", "{'id':1,'result':[]}");
    wire_expect_end(listener);
    wire_close(listener);
    wire_close(idle);
    wire_close(fixture->wire);
    fixture->wire = NULL;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        fixture_test(test_events_reach_all_subscribers_once),
        fixture_test(test_events_of_clients),
        fixture_test(test_events_of_collections),
        fixture_test(test_events_of_a_collection_for_room),
        fixture_test(test_events_of_a_shared_session),
        fixture_test(test_events_of_deaths_reach_their_owner),
        fixture_test(test_events_of_deaths_follow_a_merged_session),
        fixture_test(test_events_come_before_the_reply_that_they_belong_to),
        fixture_test(test_events_wait_and_are_counted_when_lost),
        fixture_test(test_events_wait_for_a_leased_session),
        fixture_test(test_events_that_wait_are_bounded_in_sum),
        fixture_test(test_events_do_not_count_towards_max_output),
        fixture_test(test_events_of_pressure),
        fixture_test(test_events_keep_a_silent_connection),
    };
    return cmocka_run_group_tests_name("events", tests, NULL, NULL);
}
