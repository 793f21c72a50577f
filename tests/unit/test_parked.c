/* test_parked.c -- requests that wait while the heap works in slices: what waits for what, and who does not.
 *
 * Slices are of one object, so that a test has the time between any two of them.  In requests and expected
 * replies ' stands for ".
 */
#include "rpc_fixture.h"

#include "../../protocol/rpc_internal.h"

#include <sched.h>

/* A fixture in which everything larger than one object takes slices. */
static void cut_small(struct rpc_fixture *f)
{
    struct heap *heap = f->service->heap;
    heap_enter(heap);
    heap_set_slice(heap, 500, 1);
    heap_leave(heap);
}

static int setup(void **state)
{
    fixture_setup(state);
    cut_small(*state);
    return 0;
}

#define parked_test(function) cmocka_unit_test_setup_teardown(function, setup, fixture_teardown)

static struct rpc_conn *another(struct rpc_fixture *f, uint64_t client)
{
    struct rpc_conn *conn = rpc_conn_create(f->thread, client, &fixture_peer, f);
    assert_non_null(conn);
    return conn;
}

static char *with_quotes(const char *text)
{
    char *copy = strdup(text);
    for (char *c = copy; *c != '\0'; c++) {
        *c = *c == '\'' ? '"' : *c;
    }
    return copy;
}

/* Gives a connection the line, and runs the thread once; what it says then is `said`. */
static void ask(struct rpc_fixture *f, struct rpc_conn *conn, const char *line)
{
    size_t len;
    char *quoted = with_quotes(line);
    char *text = match_substitute(&f->bindings, quoted, strlen(quoted), &len);
    assert_non_null(text);
    fixture_forget(f);
    fixture_feed(conn, text, len);
    fixture_feed(conn, "\n", 1);
    fixture_run_once(f);
    free(text);
    free(quoted);
}

/* Demands the first line of `said`, and takes it away. */
static void expect(struct rpc_fixture *f, const char *expected)
{
    char *quoted = with_quotes(expected), *end = strchr(f->said, '\n');
    if (end == NULL) {
        fail_msg("nothing was said, and %s was wanted", expected);
        return;
    }
    *end = '\0';
    fixture_match(f, "what was asked", quoted, f->said);
    f->said_len -= (size_t)(end + 1 - f->said);
    memmove(f->said, end + 1, f->said_len + 1);
    free(quoted);
}

static void expect_silence(struct rpc_fixture *f)
{
    assert_string_equal(f->said, "");
}

/* A request that is answered at once, whatever is under way. */
static void expect_served(struct rpc_fixture *f, struct rpc_conn *conn)
{
    ask(f, conn, "{'id':9,'method':'create','params':[[[1000],1.5]]}");
    expect(f, "{'id':9,'result':{'object':<int>,'type':'list','refcount':1}}");
    expect_silence(f);
}

/* Steps until something is said; how many there were. */
static unsigned step_until_said(struct rpc_fixture *f)
{
    unsigned steps = 0;
    while (f->said_len == 0) {
        assert_true(fixture_step(f));
        steps++;
    }
    return steps;
}

/* Steps until nothing is left to do. */
static void step_to_end(struct rpc_fixture *f)
{
    while (fixture_step(f)) {
    }
}

/* A list of n lists of one float, held and called <id:NAME>. */
static void make_tree(struct rpc_fixture *f, struct rpc_conn *conn, const char *name, unsigned n)
{
    char line[16384], reply[100];
    int len = snprintf(line, sizeof(line), "{'id':1,'method':'create','params':[[");
    for (unsigned i = 0; i < n; i++) {
        len += snprintf(line + len, sizeof(line) - (size_t)len, "%s[%u.5]", i > 0 ? "," : "", i);
    }
    snprintf(line + len, sizeof(line) - (size_t)len, "]]}");
    ask(f, conn, line);
    step_to_end(f);
    snprintf(reply, sizeof(reply), "{'id':1,'result':{'object':<id:%s>,'type':'list','refcount':1}}", name);
    expect(f, reply);
}

/* ---- deaths ---- */

static void test_parked_unref_answers_when_all_is_freed(void **state)
{
    struct rpc_fixture *f = *state;
    struct rpc_conn *other = another(f, 2);
    make_tree(f, f->conn, "tree", 50);
    ask(f, f->conn, "{'id':2,'method':'unref','params':[<id:tree>]}\n{'id':3,'method':'ping'}");
    expect_silence(f);
    assert_true(rpc_conn_is_waiting(f->conn));
    assert_false(rpc_conn_wants_run(f->conn));
    expect_served(f, other);
    assert_true(step_until_said(f) >= 40);
    expect(f, "{'id':2,'result':<ordered {'object':<id:tree>,'refcount':0,'freed':101}>}");
    fixture_run(f);
    expect(f, "{'id':3,'result':'pong'}");
    expect_silence(f);
    rpc_conn_destroy(other, "end of test");
}

/* The object is gone at once; what nobody holds is undecided until the end, whether it dies or not. */
static void test_parked_deaths_are_one_moment_to_everybody(void **state)
{
    struct rpc_fixture *f = *state;
    struct rpc_conn *other = another(f, 2), *third = another(f, 3);
    make_tree(f, f->conn, "tree", 50);
    make_tree(f, f->conn, "rest", 1);
    ask(f, f->conn, "{'id':2,'method':'list.getitem','params':[<id:tree>,-1]}");
    expect(f, "{'id':2,'result':{'object':<id:child>}}");
    ask(f, f->conn, "{'id':2,'method':'list.getitem','params':[<id:child>,0]}");
    expect(f, "{'id':2,'result':{'object':<id:leaf>}}");
    ask(f, f->conn, "{'id':2,'method':'gc.get_referents','params':[<id:rest>]}");
    expect(f, "{'id':2,'result':{'objects':[<id:safe>],'more':false}}");
    ask(f, f->conn, "{'id':3,'method':'unref','params':[<id:tree>]}");
    ask(f, other, "{'id':4,'method':'ref','params':[<id:tree>]}");
    expect(f, "{'id':4,'error':<error not_found {'object':<id:tree>}>}");
    ask(f, other, "{'id':5,'method':'ref','params':[<id:rest>]}");
    expect(f, "{'id':5,'result':{'object':<id:rest>,'refcount':2}}");
    ask(f, other, "{'id':6,'method':'get','params':[<id:leaf>]}");
    expect_silence(f);
    ask(f, third, "{'id':7,'method':'get','params':[<id:safe>]}");
    expect_silence(f);
    step_to_end(f);
    expect(f, "{'id':3,'result':{'object':<id:tree>,'refcount':0,'freed':101}}");
    expect(f, "{'id':6,'error':<error not_found {'object':<id:leaf>}>}");
    expect(f, "{'id':7,'result':[0.5]}");
    rpc_conn_destroy(other, "end of test");
    rpc_conn_destroy(third, "end of test");
}

static void test_parked_batch_stays_one_line(void **state)
{
    struct rpc_fixture *f = *state;
    struct rpc_conn *other = another(f, 2);
    make_tree(f, f->conn, "tree", 30);
    make_tree(f, f->conn, "more", 30);
    ask(f, f->conn, "[{'id':1,'method':'ping'},{'method':'unref','params':[<id:tree>]},"
                    "{'id':2,'method':'unref','params':[<id:more>]},{'id':3,'method':'ping'}]");
    expect_silence(f);
    expect_served(f, other);
    assert_true(step_until_said(f) >= 40);
    fixture_run(f);
    expect(f, "[{'id':1,'result':'pong'},{'id':2,'result':{'object':<id:more>,'refcount':0,'freed':61}},"
              "{'id':3,'result':'pong'}]");
    expect_silence(f);
    rpc_conn_destroy(other, "end of test");
}

static void test_parked_notification_says_nothing(void **state)
{
    struct rpc_fixture *f = *state;
    make_tree(f, f->conn, "tree", 30);
    ask(f, f->conn, "{'method':'unref','params':[<id:tree>]}\n{'id':4,'method':'ping'}");
    expect_silence(f);
    step_until_said(f);
    expect(f, "{'id':4,'result':'pong'}");
    ask(f, f->conn, "{'id':5,'method':'stats','params':['objects']}");
    expect(f, "{'id':5,'result':<has {'live':0}>}");
}

/* Everything that ends with the dead tells of them in the end; results that are null stay null. */
static void test_parked_results_of_all_kinds(void **state)
{
    struct rpc_fixture *f = *state;
    static const char *const CASES[][2] = {
        {"{'id':2,'method':'name.unbind','params':['n']}",
         "{'name':'n','object':<id:o%u>,'refcount':0,'freed':41}"},
        {"{'id':2,'method':'name.bind','params':['n',<id:keep>]}",
         "{'name':'n','object':<id:keep>,'refcount':2,'freed':41}"},
        {"{'id':2,'method':'create','params':{'value':[],'name':'n'}}",
         "{'object':<int>,'type':'list','refcount':1,'freed':41}"},
        {"{'id':2,'method':'list.clear','params':['n']}", "null"},
        {"{'id':2,'method':'session.close'}", "{'released':2,'freed':3}"},
    };
    for (unsigned i = 0; i < sizeof(CASES) / sizeof(CASES[0]); i++) {
        char line[256], wanted[300];
        const char name[] = {'o', (char)('0' + i), '\0'};
        make_tree(f, f->conn, name, 20);
        if (i == 1) {
            make_tree(f, f->conn, "keep", 1);
        }
        snprintf(line, sizeof(line), "{'id':1,'method':'name.bind','params':['n',<id:o%u>]}", i);
        ask(f, f->conn, line);
        step_to_end(f);
        snprintf(line, sizeof(line), "{'method':'unref','params':[<id:o%u>]}", i);
        ask(f, f->conn, line);
        if (i == 4) {
            ask(f, f->conn, "{'method':'ref','params':['n']}");
        }
        ask(f, f->conn, CASES[i][0]);
        step_to_end(f);
        fixture_run(f);
        snprintf(line, sizeof(line), CASES[i][1], i);
        snprintf(wanted, sizeof(wanted), "{'id':2,'result':%s}", line);
        expect(f, wanted);
        expect_silence(f);
        ask(f, f->conn, "{'method':'name.unbind','params':['n']}");
        step_to_end(f);
    }
    ask(f, f->conn, "{'id':3,'method':'session.close'}");
    step_to_end(f);
}

/* ---- the end of a session ---- */

static void make_holds(struct rpc_fixture *f, struct rpc_conn *conn, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        ask(f, conn, "{'method':'create','params':{'value':[[1.5]],'hold':true,'name':'x'}}");
    }
    ask(f, conn, "{'method':'name.unbind','params':['x']}");
    step_to_end(f);
}

static void test_parked_session_close_releases_in_slices(void **state)
{
    struct rpc_fixture *f = *state;
    struct rpc_conn *other = another(f, 2);
    make_holds(f, f->conn, 30);
    ask(f, f->conn, "{'id':2,'method':'session.close'}");
    expect_silence(f);
    expect_served(f, other);
    assert_true(step_until_said(f) >= 25);
    expect(f, "{'id':2,'result':{'released':30,'freed':90}}");
    rpc_conn_destroy(other, "end of test");
}

static void test_parked_kill_answers_when_all_is_released(void **state)
{
    struct rpc_fixture *f = *state;
    struct rpc_conn *other = another(f, 77);
    make_holds(f, other, 30);
    ask(f, f->conn, "{'id':2,'method':'server.kill','params':[77]}");
    assert_non_null(rpc_conn_must_close(other));
    rpc_conn_destroy(other, "end of test");
    expect_silence(f);
    assert_true(step_until_said(f) >= 25);
    expect(f, "{'id':2,'result':{'client':77,'released':30,'freed':90}}");
}

/* A connection that goes while its request, or the end of its session, goes on leaves nothing behind. */
static void test_parked_connection_may_go(void **state)
{
    struct rpc_fixture *f = *state;
    struct rpc_conn *one = another(f, 2), *two = another(f, 3), *three = another(f, 4);
    make_tree(f, one, "tree", 40);
    make_holds(f, two, 30);
    ask(f, one, "{'id':2,'method':'unref','params':[<id:tree>]}");
    ask(f, three, "{'id':2,'method':'collect'}");
    expect_silence(f);
    rpc_conn_destroy(one, "end of test");
    rpc_conn_destroy(two, "end of test");
    rpc_conn_destroy(three, "end of test");
    fixture_run_once(f);
    expect_silence(f);
    assert_true(rpc_thread_has_work(f->thread));
    ask(f, f->conn, "{'id':3,'method':'heap.check'}");
    expect_silence(f);
    fixture_run(f);
    expect(f, "{'id':3,'result':{'ok':true,'objects':0,'problems':[]}}");
}

/* The service may be given up at any moment. */
static void test_parked_service_may_end(void **state)
{
    (void)state;
    for (unsigned steps = 0; steps < 6; steps++) {
        void *own = NULL;
        setup(&own);
        struct rpc_fixture *f = own;
        struct rpc_conn *other = another(f, 2);
        make_tree(f, f->conn, "tree", 40);
        make_holds(f, other, 20);
        ask(f, f->conn, "{'id':2,'method':'unref','params':[<id:tree>]}");
        rpc_conn_destroy(other, "end of test");
        for (unsigned i = 0; i < steps; i++) {
            fixture_step(f);
        }
        rpc_conn_destroy(f->conn, "end of test");
        rpc_thread_destroy(f->thread);
        rpc_service_destroy(f->service);
        pthread_cond_destroy(&f->woken);
        pthread_mutex_destroy(&f->mutex);
        free(f->said);
        free(f);
    }
}

/* ---- collections ---- */

/* n cycles that nothing refers to, and a tree that stays. */
static void make_garbage(struct rpc_fixture *f, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        ask(f, f->conn, "{'id':1,'method':'create','params':[{'$let':{'a':[{'$label':'a'}]},"
                        "'in':{'$label':'a'}}]}");
        expect(f, "{'id':1,'result':{'object':<int>,'type':'list','refcount':2}}");
    }
    ask(f, f->conn, "{'method':'session.close'}");
    step_to_end(f);
}

static void test_parked_collect_answers_at_its_end(void **state)
{
    struct rpc_fixture *f = *state;
    struct rpc_conn *other = another(f, 2);
    make_garbage(f, 20);
    make_tree(f, other, "tree", 20);
    ask(f, f->conn, "{'id':2,'method':'collect'}");
    expect_silence(f);
    expect_served(f, other);
    assert_true(step_until_said(f) >= 20);
    expect(f, "{'id':2,'result':<ordered {'generation':2,'unreachable':20,'uncollectable':0,'freed':20,"
              "'elapsed_us':<int>}>}");
    rpc_conn_destroy(other, "end of test");
}

/* A connection that asks for one collection after the other does not keep another from its own. */
static void test_parked_collections_take_turns(void **state)
{
    struct rpc_fixture *f = *state;
    struct rpc_conn *other = another(f, 2);
    make_tree(f, f->conn, "tree", 20);
    ask(f, f->conn, "{'id':1,'method':'collect'}\n{'id':2,'method':'collect'}\n{'id':3,'method':'collect'}");
    ask(f, other, "{'id':'o','method':'collect'}");
    expect_silence(f);
    step_until_said(f);
    expect(f, "{'id':1,'result':<object>}");
    while (f->said_len == 0) {
        fixture_run_once(f);
        (void)fixture_step(f);
    }
    expect(f, "{'id':'o','result':<object>}");
    while (rpc_conn_is_waiting(f->conn)) {
        fixture_run_once(f);
        (void)fixture_step(f);
    }
    expect(f, "{'id':2,'result':<object>}");
    expect(f, "{'id':3,'result':<object>}");
    expect_silence(f);
    rpc_conn_destroy(other, "end of test");
}

/* Who comes after it does so: another collection, and what looks at all objects. */
static void test_parked_collections_come_one_after_the_other(void **state)
{
    struct rpc_fixture *f = *state;
    static const char *const LINES[] = {"{'id':'c','method':'collect','params':[2]}",
                                        "{'id':'f','method':'gc.freeze'}", "{'id':'u','method':'gc.unfreeze'}",
                                        "{'id':'o','method':'gc.get_objects'}", "{'id':'h','method':'heap.check'}"};
    struct rpc_conn *others[5];
    make_garbage(f, 20);
    ask(f, f->conn, "{'id':2,'method':'collect'}");
    for (int i = 0; i < 5; i++) {
        others[i] = another(f, 2 + (uint64_t)i);
        ask(f, others[i], LINES[i]);
        expect_silence(f);
    }
    for (int i = 0; i < 5; i++) { /* the last one's worker waits until the heap is still, and no thread is woken then */
        while (rpc_conn_is_waiting(others[i])) {
            if (!fixture_step(f)) {
                sched_yield();
                fixture_run_once(f);
            }
        }
    }
    fixture_run(f);
    expect(f, "{'id':2,'result':<has {'generation':2,'unreachable':20}>}");
    unsigned answers = 0;
    for (const char *at = f->said; (at = strchr(at, '\n')) != NULL; at++) {
        answers++;
    }
    assert_int_equal(answers, 5);
    assert_non_null(strstr(f->said, "{\"id\":\"c\",\"result\":{\"generation\":2,\"unreachable\":0,"));
    assert_non_null(strstr(f->said, "{\"id\":\"f\",\"result\":null}"));
    assert_non_null(strstr(f->said, "{\"id\":\"u\",\"result\":null}"));
    assert_non_null(strstr(f->said, "{\"id\":\"o\",\"result\":{\"objects\":[],\"next\":null}}"));
    assert_non_null(strstr(f->said, "{\"id\":\"h\",\"result\":{\"ok\":true,\"objects\":0,\"problems\":[]}}"));
    for (int i = 0; i < 5; i++) {
        rpc_conn_destroy(others[i], "end of test");
    }
}

/* The request that sets one off is answered at once; its connection's next one waits, others do not. */
static void test_parked_next_request_waits_for_an_automatic_collection(void **state)
{
    struct rpc_fixture *f = *state;
    struct rpc_conn *other = another(f, 2);
    make_tree(f, f->conn, "tree", 40);
    ask(f, f->conn, "{'id':1,'method':'gc.set_threshold','params':[1,0,0]}");
    expect(f, "{'id':1,'result':null}");
    fixture_run(f);
    bool has_waited = false;
    for (int i = 0; i < 10 && !has_waited; i++) {
        ask(f, f->conn, "{'id':2,'method':'create','params':[[[],[]]]}");
        expect(f, "{'id':2,'result':<object>}");
        ask(f, f->conn, "{'id':3,'method':'ping'}");
        has_waited = f->said_len == 0;
        if (has_waited) {
            ask(f, other, "{'id':4,'method':'stats','params':['gc']}");
            expect(f, "{'id':4,'result':<has {'collecting':true}>}");
            step_until_said(f);
        }
        expect(f, "{'id':3,'result':'pong'}");
        step_to_end(f);
    }
    assert_true(has_waited);
    ask(f, f->conn, "{'id':5,'method':'gc.set_threshold','params':[700,10,10]}");
    rpc_conn_destroy(other, "end of test");
}

/* Room for two texts of LARGE_BYTES, and one such in *text. */
#define LARGE_BYTES 3000000
static struct rpc_fixture *open_small(char **text, char **line)
{
    struct rpc_limits limits;
    rpc_limits_default(&limits);
    limits.max_memory = 8 * 1048576;
    struct rpc_fixture *f = fixture_open(&limits);
    cut_small(f);
    *text = calloc(1, LARGE_BYTES + 1);
    *line = malloc(LARGE_BYTES + 200);
    memset(*text, 'x', LARGE_BYTES);
    return f;
}

/* Where there is no room a collection is waited for, and then there is. */
static void test_parked_request_waits_for_room(void **state)
{
    (void)state;
    char *text, *line;
    struct rpc_fixture *f = open_small(&text, &line);
    struct rpc_conn *other = another(f, 2);
    sprintf(line, "{'id':1,'method':'create','params':[{'$let':{'a':[{'$label':'a'},'%s']},'in':{'$label':'a'}}]}",
            text);
    for (int i = 0; i < 2; i++) {
        ask(f, f->conn, line);
        expect(f, "{'id':1,'result':<object>}");
        ask(f, f->conn, "{'method':'session.close'}");
        step_to_end(f);
    }
    ask(f, f->conn, line);
    expect_silence(f);
    assert_true(rpc_thread_must_hurry(f->thread));
    expect_served(f, other);
    step_until_said(f);
    expect(f, "{'id':1,'result':<object>}");
    assert_false(rpc_thread_must_hurry(f->thread));
    ask(f, f->conn, line);
    step_to_end(f);
    expect(f, "{'id':1,'result':<object>}");
    ask(f, f->conn, line);
    step_to_end(f);
    fixture_run(f);
    expect(f, "{'id':1,'error':<error memory_error>}");
    rpc_conn_destroy(other, "end of test");
    free(text);
    free(line);
    fixture_close(f);
}

/* The hurry is over with the collection, even when who was in a hurry is gone. */
static void test_parked_hurry_ends_without_its_connection(void **state)
{
    (void)state;
    char *text, *line;
    struct rpc_fixture *f = open_small(&text, &line);
    struct rpc_conn *other = another(f, 2);
    sprintf(line, "{'id':1,'method':'create','params':['%s']}", text);
    make_tree(f, f->conn, "tree", 20);
    for (int i = 0; i < 2; i++) {
        ask(f, f->conn, line);
        fixture_run(f); /* a worker makes the value */
        expect(f, "{'id':1,'result':<object>}");
    }
    ask(f, other, line);
    while (!rpc_thread_must_hurry(f->thread)) {
        fixture_await_wake(f);
        fixture_run_once(f);
    }
    expect_silence(f);
    rpc_conn_destroy(other, "end of test");
    fixture_run_once(f);
    step_to_end(f);
    assert_false(rpc_thread_must_hurry(f->thread));
    free(text);
    free(line);
    fixture_close(f);
}

/* ---- what is told ---- */

/* What the dead tell their session comes before the reply, all of it, however much waits elsewhere. */
static void test_parked_events_come_before_the_reply(void **state)
{
    (void)state;
    struct rpc_limits limits;
    rpc_limits_default(&limits);
    limits.max_events = 3;
    struct rpc_fixture *f = fixture_open(&limits);
    cut_small(f);
    make_tree(f, f->conn, "tree", 20);
    for (int i = 0; i < 20; i++) {
        char line[200];
        snprintf(line, sizeof(line), "{'id':1,'method':'list.getitem','params':[<id:tree>,%d,true]}", i);
        ask(f, f->conn, line);
        snprintf(line, sizeof(line), "{'id':1,'result':{'object':<id:c%d>}}", i);
        expect(f, line);
        snprintf(line, sizeof(line), "{'method':'finalizer.set','params':[<id:c%d>,'t']}\n"
                                     "{'method':'unref','params':[<id:c%d>]}", i, i);
        ask(f, f->conn, line);
        step_to_end(f);
    }
    ask(f, f->conn, "{'id':2,'method':'unref','params':[<id:tree>]}");
    expect_silence(f);
    step_until_said(f);
    for (int i = 0; i < 20; i++) {
        expect(f, "{'jsonrpc':'2.0','method':'event','params':{'event':'finalized','object':<int>,'token':'t',"
                  "'resurrected':false}}");
    }
    expect(f, "{'id':2,'result':{'object':<id:tree>,'refcount':0,'freed':41}}");
    expect_silence(f);
    fixture_close(f);
}

static void test_parked_request_is_in_the_slowlog_once(void **state)
{
    struct rpc_fixture *f = *state;
    make_tree(f, f->conn, "tree", 50);
    rpc_service_set_slowlog(f->service, 0);
    ask(f, f->conn, "{'id':2,'method':'unref','params':[<id:tree>]}");
    step_until_said(f);
    rpc_service_set_slowlog(f->service, 10000000);
    expect(f, "{'id':2,'result':<object>}");
    ask(f, f->conn, "{'id':3,'method':'server.slowlog'}");
    expect(f, "{'id':3,'result':{'entries':[{'at':<any>,'client':1,'method':'unref','us':<int>,'gil_wait_us':<int>,"
              "'gil_hold_us':<int>,'bytes_in':<min 10>,'bytes_out':<min 30>}]}}");
}

/* ---- who takes the slices ---- */

static void test_parked_another_thread_takes_over(void **state)
{
    struct rpc_fixture *f = *state;
    struct rpc_thread *first = rpc_thread_create(f->service, f);
    struct rpc_conn *conn = rpc_conn_create(first, 2, &fixture_peer, f);
    make_tree(f, f->conn, "tree", 40);
    const char *collect = "{\"id\":1,\"method\":\"collect\"}\n";
    fixture_feed(conn, collect, strlen(collect));
    rpc_thread_run(first);
    assert_true(rpc_thread_has_work(first));
    assert_false(rpc_thread_has_company(first));
    ask(f, f->conn, "{'id':2,'method':'unref','params':[<id:tree>]}");
    expect_silence(f);
    assert_true(rpc_thread_has_company(first));
    assert_false(rpc_thread_has_company(first));
    assert_true(rpc_thread_has_parked(f->thread));
    assert_false(rpc_thread_has_work(f->thread));
    rpc_thread_step(first, 500);
    rpc_conn_destroy(conn, "end of test");
    rpc_thread_destroy(first);
    assert_false(rpc_thread_has_work(f->thread));
    fixture_run_once(f);
    assert_true(rpc_thread_has_work(f->thread));
    step_until_said(f);
    expect(f, "{'id':2,'result':{'object':<id:tree>,'refcount':0,'freed':81}}");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        parked_test(test_parked_unref_answers_when_all_is_freed),
        parked_test(test_parked_deaths_are_one_moment_to_everybody),
        parked_test(test_parked_batch_stays_one_line),
        parked_test(test_parked_notification_says_nothing),
        parked_test(test_parked_results_of_all_kinds),
        parked_test(test_parked_session_close_releases_in_slices),
        parked_test(test_parked_kill_answers_when_all_is_released),
        parked_test(test_parked_connection_may_go),
        cmocka_unit_test(test_parked_service_may_end),
        parked_test(test_parked_collect_answers_at_its_end),
        parked_test(test_parked_collections_take_turns),
        parked_test(test_parked_collections_come_one_after_the_other),
        parked_test(test_parked_next_request_waits_for_an_automatic_collection),
        cmocka_unit_test(test_parked_request_waits_for_room),
        cmocka_unit_test(test_parked_hurry_ends_without_its_connection),
        cmocka_unit_test(test_parked_events_come_before_the_reply),
        parked_test(test_parked_request_is_in_the_slowlog_once),
        parked_test(test_parked_another_thread_takes_over),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
