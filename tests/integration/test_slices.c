/* test_slices.c -- the heap's long work on a real daemon: others are served meanwhile, and nobody can tell.
 *
 * Whether a reply comes in the middle of the work is a matter of luck on a machine that does something else
 * just then, so what has to be seen once is tried several times; what must always be true is demanded each
 * time.  No time is demanded.  In requests and replies ' stands for ".
 */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../support/fixture.h"
#include "../support/process.h"

#define TRIES 30

/* ---- large values ---- */

/* So many; fewer where slices are of one object (HEAPD_STRESS). */
static unsigned many(unsigned n)
{
    return getenv("HEAPD_STRESS") != NULL ? n / 500 : n;
}

/* A line with numbers in it. */
struct text {
    char text[200];
};
__attribute__((format(printf, 1, 2))) static struct text with(const char *format, ...)
{
    struct text text;
    va_list values;
    va_start(values, format);
    vsnprintf(text.text, sizeof(text.text), format, values);
    va_end(values);
    return text;
}

/* A request, without newline, that creates a list of n times `item`; with "name" if there is one.  malloc'ed.
 */
static char *create_many(const char *item, unsigned n, const char *name)
{
    size_t item_len = strlen(item), len;
    char *line = malloc((item_len + 1) * n + 200);
    assert_non_null(line);
    len = (size_t)sprintf(line, "{\"id\":1,\"method\":\"create\",\"params\":{");
    if (name != NULL) {
        len += (size_t)sprintf(line + len, "\"name\":\"%s\",", name);
    }
    len += (size_t)sprintf(line + len, "\"value\":[");
    for (unsigned i = 0; i < n; i++) {
        memcpy(line + len, item, item_len);
        len += item_len;
        line[len++] = i + 1 < n ? ',' : ']';
    }
    strcpy(line + len, "}}\n");
    return line;
}

/* Makes such a list, held and called <id:NAME> or under a name. */
static void make_many(struct wire *wire, const char *item, unsigned n, const char *id, const char *name)
{
    char expected[100];
    char *line = create_many(item, n, name);
    wire_send_text(wire, line);
    free(line);
    snprintf(expected, sizeof(expected), "{'id':1,'result':{'object':<id:%s>,'type':'list','refcount':1}}", id);
    wire_expect_line(wire, expected);
}

/* ---- the others ---- */

/* One request and its reply after the other until the first connection has a line to read; how many there were.
 */
static unsigned talk_until_line(struct wire *other, struct wire *wire)
{
    unsigned replies = 0;
    while (!wire_line_within(wire, 0)) {
        wire_expect(other, "{'id':'o','method':'create','params':{'value':[[1000,'x'],{}],'name':'o'}}",
                    "{'id':'o','result':<has {'type':'list'}>}");
        replies++;
    }
    return replies;
}

/* Needs no GIL, so it is answered in the middle of the work. */
static bool is_collecting(struct wire *wire)
{
    json_t *gc = wire_callf(wire, "stats", "[s]", "gc");
    bool is = json_is_true(json_object_get(gc, "collecting"));
    json_decref(gc);
    return is;
}

static int64_t live(struct wire *wire)
{
    return wire_stat(wire, "objects", "live");
}

/* ---- tests ---- */

/* A million objects die; others are served, and for them the graph is gone from the first moment. */
static void test_slices_unref_of_a_million_objects(void **state)
{
    struct fixture *f = *state;
    struct wire *other = wire_open_unix(f->daemon);
    unsigned most = 0;
    for (int i = 0; i < TRIES && most < 3; i++) {
        f->wire->bindings.count = 0;
        make_many(f->wire, "[0.5]", many(500000), "graph", NULL);
        wire_send_text(f->wire, "{\"id\":2,\"method\":\"unref\",\"params\":[");
        wire_send_text(f->wire, match_bound(&f->wire->bindings, "graph"));
        wire_send_text(f->wire, "]}\n{\"id\":3,\"method\":\"ping\"}\n");
        unsigned replies = talk_until_line(other, f->wire);
        most = replies > most ? replies : most;
        wire_expect_line(
            f->wire,
            with("{'id':2,'result':{'object':<id:graph>,'refcount':0,'freed':%u}}", 2 * many(500000) + 1).text);
        wire_expect_line(f->wire, "{'id':3,'result':'pong'}");
        wire_expect(other, "{'id':4,'method':'create','params':{'value':[],'name':'o'}}",
                    "{'id':4,'result':<object>}");
        assert_int_equal(live(other), 1);
    }
    assert_true(most >= 3 || getenv("HEAPD_STRESS") != NULL); /* which is about what is said */
    wire_check_heap(other);
    wire_expect(other, "{'id':5,'method':'name.unbind','params':['o']}", "{'id':5,'result':<object>}");
    wire_close(other);
}

/* A full collection of a million objects that all live, and one that finds half of them dead. */
static void test_slices_collect_of_a_million_objects(void **state)
{
    struct fixture *f = *state;
    struct wire *other = wire_open_unix(f->daemon);
    wire_expect(f->wire, "{'id':1,'method':'gc.disable'}", "{'id':1,'result':null}");
    make_many(f->wire, "[[]]", many(500000), "graph", "graph");
    unsigned most = 0;
    bool was_seen = false;
    for (int i = 0; i < TRIES && (most < 3 || !was_seen); i++) {
        wire_send_text(f->wire, "{\"id\":2,\"method\":\"collect\"}\n");
        unsigned replies = 0;
        while (!wire_line_within(f->wire, 0)) {
            was_seen |= is_collecting(other);
            replies += talk_until_line(other, f->wire);
        }
        most = replies > most ? replies : most;
        wire_expect_line(f->wire, "{'id':2,'result':<has {'generation':2,'unreachable':0,'freed':0}>}");
    }
    assert_true(most >= 3 || getenv("HEAPD_STRESS") != NULL); /* which is about what is said */
    make_many(f->wire, "{\"$let\":{\"a\":[{\"$label\":\"a\"},0.5]},\"in\":{\"$label\":\"a\"}}", many(100000),
              "dead", "dead");
    wire_expect(f->wire, "{'id':3,'method':'name.unbind','params':['dead']}",
                "{'id':3,'result':{'name':'dead','object':<id:dead>,'refcount':0,'freed':1}}");
    wire_expect(
        f->wire, "{'id':4,'method':'collect'}",
        with("{'id':4,'result':<has {'unreachable':%u,'freed':%u}>}", many(100000), 2 * many(100000)).text);
    wire_check_heap(other);
    wire_expect(other, "{'id':5,'method':'name.unbind','params':['o']}", "{'id':5,'result':<object>}");
    wire_expect(other, "{'id':6,'method':'name.unbind','params':['graph']}",
                with("{'id':6,'result':<has {'freed':%u}>}", 2 * many(500000) + 1).text);
    wire_expect(f->wire, "{'id':7,'method':'gc.enable'}", "{'id':7,'result':null}");
    wire_close(other);
}

#define HOLDS (150 * many(2000))

/* Gives the connection HOLDS holds, each on an object of its own. */
static void take_holds(struct wire *wire)
{
    enum { BATCHES = 150 };
    unsigned of = many(2000);
    char *batch = malloc(of * 100);
    assert_non_null(batch);
    for (int i = 0; i < BATCHES; i++) {
        size_t len = 0;
        for (unsigned k = 0; k < of; k++) {
            len += (size_t)sprintf(batch + len, "%c{\"id\":1,\"method\":\"create\",\"params\":[[0.5]]}",
                                   k == 0 ? '[' : ',');
        }
        strcpy(batch + len, "]\n");
        wire_send_text(wire, batch);
        assert_non_null(wire_line(wire, &len));
    }
    free(batch);
}

/* Sessions with HOLDS holds end: by the connection's close, by session.close, by server.kill. */
static void test_slices_sessions_with_many_holds_end(void **state)
{
    struct fixture *f = *state;
    wire_expect(f->wire, "{'id':1,'method':'subscribe','params':[['clients']]}",
                "{'id':1,'result':['clients']}");
    struct wire *holder = wire_open_unix(f->daemon);
    wire_expect_line(
        f->wire, "{'jsonrpc':'2.0','method':'event','params':<has {'client':<id:one>,'what':'connected'}>}");
    take_holds(holder);
    wire_close(holder);
    wire_expect_line(f->wire,
                     "{'jsonrpc':'2.0','method':'event','params':<has {'client':<id:one>,'what':'closed'}>}");
    assert_int_equal(wire_stat(f->wire, "sessions", "holds"), 0);
    wire_expect(f->wire, "{'id':2,'method':'heap.check'}",
                "{'id':2,'result':{'ok':true,'objects':0,'problems':[]}}");

    unsigned most = 0;
    holder = wire_open_unix(f->daemon);
    wire_expect_line(
        f->wire, "{'jsonrpc':'2.0','method':'event','params':<has {'client':<id:two>,'what':'connected'}>}");
    for (int i = 0; i < TRIES && most < 3; i++) {
        take_holds(holder);
        wire_send_text(holder, "{\"id\":3,\"method\":\"session.close\"}\n");
        unsigned replies = talk_until_line(f->wire, holder);
        most = replies > most ? replies : most;
        wire_expect_line(holder, with("{'id':3,'result':{'released':%u,'freed':%u}}", HOLDS, 2 * HOLDS).text);
    }
    assert_true(most >= 3 || getenv("HEAPD_STRESS") != NULL); /* which is about what is said */
    wire_expect(f->wire, "{'id':4,'method':'name.unbind','params':['o']}", "{'id':4,'result':<object>}");

    take_holds(holder);
    wire_expect(f->wire, "{'id':5,'method':'unsubscribe','params':[['clients']]}", "{'id':5,'result':[]}");
    wire_expect(f->wire, "{'id':6,'method':'server.kill','params':[<id:two>]}",
                with("{'id':6,'result':{'client':<id:two>,'released':%u,'freed':%u}}", HOLDS, 2 * HOLDS).text);
    wire_expect_end(holder);
    wire_close(holder);
}

/* Who asks for an object that dies with a large graph is told that it is gone, whenever that is; and who has
 * said all there is to say gets every reply, in order, and then the end. */
static void test_slices_dying_ids_and_half_close(void **state)
{
    struct fixture *f = *state;
    struct wire *other = wire_open_unix(f->daemon), *holder = wire_open(f->daemon);
    make_many(holder, "[0.5]", many(300000), "graph", NULL);
    wire_expect(holder, "{'id':2,'method':'list.getitem','params':[<id:graph>,-1]}",
                "{'id':2,'result':{'object':<id:child>}}");
    char request[100];
    snprintf(request, sizeof(request), "{\"id\":4,\"method\":\"type\",\"params\":[%s]}\n",
             match_bound(&holder->bindings, "child"));
    wire_send_text(holder, "{\"id\":3,\"method\":\"session.close\"}\n{\"id\":3,\"method\":\"ping\"}\n");
    wire_half_close(holder);
    while (live(other) == 2 * many(300000) + 1) { /* until the close has begun */
    }
    wire_send_text(other, request);
    wire_expect_line(other, "{'id':4,'error':<error not_found>}");
    wire_expect_line(holder, with("{'id':3,'result':{'released':1,'freed':%u}}", 2 * many(300000) + 1).text);
    wire_expect_line(holder, "{'id':3,'result':'pong'}");
    wire_expect_end(holder);
    wire_close(holder);
    wire_close(other);
}

/* Garbage up to the limit, again and again: nobody gets a memory_error, since a collection makes room. */
static void test_slices_make_room_at_the_limit(void **state)
{
    (void)state;
    if (getenv("HEAPD_STRESS") != NULL) {
        process_skip("to reach the limit takes more than slices of one object allow");
    }
    struct fixture f = {NULL, NULL};
    fixture_start(&f, (const char *const[]){"--max-memory", "48m", NULL});
    struct wire *other = wire_open_unix(f.daemon);
    wire_expect(f.wire, "{'id':1,'method':'gc.disable'}", "{'id':1,'result':null}");
    char *line = create_many("{\"$let\":{\"a\":[{\"$label\":\"a\"}]},\"in\":{\"$label\":\"a\"}}", 50000, "g");
    for (int i = 0; i < 40; i++) {
        wire_send_text(f.wire, line);
        talk_until_line(other, f.wire);
        wire_expect_line(f.wire, "{'id':1,'result':<has {'type':'list'}>}");
    }
    free(line);
    wire_expect(f.wire, "{'id':2,'method':'name.unbind','params':['g']}", "{'id':2,'result':<object>}");
    wire_expect(f.wire, "{'id':3,'method':'gc.enable'}", "{'id':3,'result':null}");
    wire_expect(other, "{'id':5,'method':'name.unbind','params':['o']}", "{'id':5,'result':<object>}");
    wire_close(other);
    fixture_end(&f);
}

/* Four threads, and four clients that all make the heap work: each is answered in order, and the heap is sound.
 */
static void test_slices_of_several_threads(void **state)
{
    (void)state;
    enum { CLIENTS = 4, ROUNDS = 8 };
    struct fixture f = {NULL, NULL};
    fixture_start(&f, (const char *const[]){"--threads", "4", NULL});
    struct wire *wires[CLIENTS];
    char *line = create_many("[0.5]", many(50000), NULL);
    for (int i = 0; i < CLIENTS; i++) {
        wires[i] = i % 2 == 0 ? wire_open(f.daemon) : wire_open_unix(f.daemon);
    }
    for (int round = 0; round < ROUNDS; round++) {
        for (int i = 0; i < CLIENTS; i++) {
            wire_send_text(wires[i], line);
            wire_send_text(wires[i],
                           "{\"id\":2,\"method\":\"session.close\"}\n{\"id\":3,\"method\":\"collect\"}\n"
                           "{\"id\":4,\"method\":\"heap.types\"}\n{\"id\":5,\"method\":\"heap.check\"}\n");
        }
        for (int i = 0; i < CLIENTS; i++) {
            wire_expect_line(wires[i], "{'id':1,'result':<has {'refcount':1}>}");
            wire_expect_line(wires[i],
                             with("{'id':2,'result':{'released':1,'freed':%u}}", 2 * many(50000) + 1).text);
            wire_expect_line(wires[i], "{'id':3,'result':<has {'unreachable':0}>}");
            wire_expect_line(wires[i], "{'id':4,'result':<object>}");
            wire_expect_line(wires[i], "{'id':5,'result':<has {'ok':true}>}");
        }
    }
    free(line);
    for (int i = 0; i < CLIENTS; i++) {
        wire_close(wires[i]);
    }
    fixture_end(&f);
}

/* A request that waits for its slices is answered before the daemon ends. */
static void test_slices_end_before_the_daemon_does(void **state)
{
    (void)state;
    for (int i = 0; i < 3; i++) {
        struct daemon *daemon = daemon_start((const char *const[]){"--threads", i == 2 ? "2" : "1", NULL});
        struct wire *wire = wire_open(daemon), *other = wire_open(daemon);
        if (daemon_is_elsewhere()) {
            wire_close_all();
            daemon_stop(daemon);
            process_skip("the daemon runs elsewhere");
        }
        make_many(wire, "[0.5]", many(300000), "graph", NULL);
        make_many(other, "[[]]", many(100000), "rest", NULL);
        wire_send_text(other,
                       i == 0 ? "{\"id\":2,\"method\":\"ping\"}\n" : "{\"id\":2,\"method\":\"collect\"}\n");
        wire_send_text(wire, "{\"id\":2,\"method\":\"session.close\"}\n");
        wire_expect_line(other,
                         i == 0 ? "{'id':2,'result':'pong'}" : "{'id':2,'result':<has {'unreachable':0}>}");
        kill(daemon->pid, SIGTERM);
        wire_expect_line(wire, with("{'id':2,'result':{'released':1,'freed':%u}}", 2 * many(300000) + 1).text);
        wire_expect_end(wire);
        wire_close(wire);
        wire_close(other);
        daemon_wait(daemon);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        fixture_test(test_slices_unref_of_a_million_objects),
        fixture_test(test_slices_collect_of_a_million_objects),
        fixture_test(test_slices_sessions_with_many_holds_end),
        fixture_test(test_slices_dying_ids_and_half_close),
        cmocka_unit_test(test_slices_make_room_at_the_limit),
        cmocka_unit_test(test_slices_of_several_threads),
        cmocka_unit_test(test_slices_end_before_the_daemon_does),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
