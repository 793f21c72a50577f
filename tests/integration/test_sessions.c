/* test_sessions.c -- what ends a session gives back what it held: close, reset, kill -9, in mid-request. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "../support/fixture.h"
#include "../support/process.h"

/* Waits until so many objects live; only a hang takes long. */
static void await_live(struct wire *wire, int64_t live)
{
    int64_t deadline = process_now_ms() + PROCESS_PATIENCE_MS;
    while (wire_stat(wire, "objects", "live") != live) {
        if (process_now_ms() > deadline) {
            fail_msg("%lld objects live, expected %lld", (long long)wire_stat(wire, "objects", "live"),
                     (long long)live);
        }
        usleep(1000);
    }
}

/* A graph of 5 objects of which one is shared by name, held by the connection. */
static void take_holds(struct wire *wire)
{
    wire_expect(wire, "{'id':1,'method':'create','params':[['mine',{'shared':{'$ref':'shared'}}]]}",
                "{'id':1,'result':{'object':<id:mine>,'type':'list','refcount':1}}");
    wire_expect(wire, "{'id':2,'method':'ref','params':['shared']}",
                "{'id':2,'result':{'object':<id:shared>,'refcount':<min 3>}}");
    wire_expect(wire, "{'id':3,'method':'ref','params':[<id:mine>]}",
                "{'id':3,'result':{'object':<id:mine>,'refcount':2}}");
}

static void create_shared(struct wire *wire)
{
    wire_expect(wire, "{'id':1,'method':'create','params':[[1000],'shared']}",
                "{'id':1,'result':{'object':<id:shared>,'type':'list','refcount':1}}");
}

static void test_sessions_release_on_close(void **state)
{
    const struct fixture *fixture = *state;
    create_shared(fixture->wire);
    for (int over_unix = 0; over_unix < 2; over_unix++) {
        struct wire *wire = over_unix ? wire_open_unix(fixture->daemon) : wire_open(fixture->daemon);
        take_holds(wire);
        assert_int_equal(wire_stat(fixture->wire, "sessions", "holds"), 3);
        wire_close(wire);
        await_live(fixture->wire, 2);
        assert_int_equal(wire_call_int(fixture->wire, NULL, "sys.getrefcount", "[s]", "shared"), 2);
    }
}

static void test_sessions_release_on_reset(void **state)
{
    const struct fixture *fixture = *state;
    create_shared(fixture->wire);
    struct wire *wire = wire_open(fixture->daemon);
    take_holds(wire);
    wire_reset(wire);
    await_live(fixture->wire, 2);
    /* The same with replies on their way that nobody will read. */
    wire = wire_open(fixture->daemon);
    take_holds(wire);
    for (int i = 0; i < 1000; i++) {
        wire_send_text(wire, "{\"id\":1,\"method\":\"create\",\"params\":[[1000,2000]]}\n");
    }
    wire_reset(wire);
    await_live(fixture->wire, 2);
    assert_int_equal(wire_call_int(fixture->wire, NULL, "sys.getrefcount", "[s]", "shared"), 2);
}

static void test_sessions_release_after_half_close(void **state)
{
    const struct fixture *fixture = *state;
    create_shared(fixture->wire);
    struct wire *wire = wire_open(fixture->daemon);
    take_holds(wire);
    wire_send_text(wire, "{\"id\":4,\"method\":\"create\",\"params\":[[1000]]}");
    wire_half_close(wire);
    wire_expect_line(wire, "{'id':4,'result':{'object':<id:last>,'type':'list','refcount':1}}");
    wire_expect_end(wire);
    wire_close(wire);
    await_live(fixture->wire, 2);
}

static void test_sessions_release_cycles_for_the_collector(void **state)
{
    const struct fixture *fixture = *state;
    struct wire *wire = wire_open(fixture->daemon);
    wire_expect(wire,
                "{'id':1,'method':'create','params':[{'$let':{'x':[{'$label':'x'}]},'in':{'$label':'x'}}]}",
                "{'id':1,'result':{'object':<id:x>,'type':'list','refcount':2}}");
    wire_close(wire);
    while (wire_stat(fixture->wire, "sessions", "holds") > 0) {
        usleep(1000);
    }
    assert_int_equal(wire_stat(fixture->wire, "objects", "live"), 1);
    wire_expect(
        fixture->wire, "{'id':1,'method':'collect'}",
        "{'id':1,'result':{'generation':2,'unreachable':1,'uncollectable':0,'freed':1,'elapsed_us':<int>}}");
}

static void test_sessions_are_apart(void **state)
{
    const struct fixture *fixture = *state;
    struct wire *other = wire_open_unix(fixture->daemon);
    create_shared(fixture->wire);
    wire_expect(fixture->wire, "{'id':2,'method':'ref','params':['shared']}",
                "{'id':2,'result':{'object':<id:shared>,'refcount':2}}");
    wire_expect(other, "{'id':3,'method':'unref','params':['shared']}",
                "{'id':3,'error':<error not_held {'object':<int>}>}");
    wire_expect(other, "{'id':4,'method':'ref','params':['shared']}",
                "{'id':4,'result':{'object':<int>,'refcount':3}}");
    wire_expect(fixture->wire, "{'id':5,'method':'unref','params':['shared']}",
                "{'id':5,'result':{'object':<id:shared>,'refcount':2}}");
    wire_expect(fixture->wire, "{'id':6,'method':'unref','params':['shared']}",
                "{'id':6,'error':<error not_held {'object':<id:shared>}>}");
    /* Names and ids are the same for everybody. */
    wire_expect(fixture->wire, "{'id':7,'method':'name.unbind','params':['shared']}",
                "{'id':7,'result':{'name':'shared','object':<id:shared>,'refcount':1}}");
    wire_expect(fixture->wire, "{'id':8,'method':'get','params':[<id:shared>]}", "{'id':8,'result':[1000]}");
    wire_close(other);
    await_live(fixture->wire, 0);
    wire_expect(fixture->wire, "{'id':9,'method':'get','params':[<id:shared>]}",
                "{'id':9,'error':<error not_found {'object':<id:shared>}>}");
}

static void test_sessions_end_with_many_holds(void **state)
{
    const struct fixture *fixture = *state;
    struct wire *wire = wire_open(fixture->daemon);
    const int n = process_rounds(20000, 20);
    for (int i = 0; i < n; i++) {
        wire_send_text(wire, "{\"method\":\"ping\"}\n{\"id\":1,\"method\":\"create\",\"params\":[[1000]]}\n");
    }
    for (int i = 0; i < n; i++) {
        size_t len;
        assert_non_null(wire_line(wire, &len));
    }
    assert_int_equal(wire_stat(fixture->wire, "sessions", "holds"), n);
    assert_int_equal(wire_stat(fixture->wire, "objects", "live"), 2 * n);
    wire_close(wire);
    await_live(fixture->wire, 0);
}

/* ---- clients that are killed ---- */

/* In a child: connects and sends mixed requests for ever, reading replies as they come. */
static void be_a_client(const struct daemon *daemon, uint64_t seed)
{
    static const char *const requests[] = {
        "{\"id\":1,\"method\":\"create\",\"params\":[[1000,{\"key\":\"value\"},[[[]]]]]}\n",
        "{\"id\":2,\"method\":\"create\",\"params\":[{\"$let\":{\"x\":[{\"$label\":\"x\"}]},\"in\":{\"$"
        "label\":\"x\"}}]}\n",
        "{\"id\":3,\"method\":\"ref\",\"params\":[\"shared\"]}\n",
        "{\"id\":4,\"method\":\"unref\",\"params\":[\"shared\"]}\n",
        "{\"method\":\"ref\",\"params\":[\"shared\"]}\n",
        "{\"id\":5,\"method\":\"list.append\",\"params\":[\"list\",{\"deep\":[1000,\"text\"]}]}\n",
        "{\"id\":6,\"method\":\"list.pop\",\"params\":[\"list\"]}\n",
        "{\"id\":7,\"method\":\"dict.setitem\",\"params\":[\"dict\",\"key\",[\"fresh\"]]}\n",
        "{\"id\":8,\"method\":\"dict.incr\",\"params\":[\"dict\",\"count\"]}\n",
        "{\"id\":9,\"method\":\"get\",\"params\":[\"shared\",-1]}\n",
        "{\"id\":10,\"method\":\"collect\",\"params\":[0]}\n",
        "[{\"id\":11,\"method\":\"create\",\"params\":[[[],[]]]},{\"method\":\"ref\",\"params\":[\"list\"]},{"
        "\"id\":12}]\n",
        "{\"id\":13,\"method\":\"create\",\"params\":[[1,{\"$ref\":\"nobody\"}]]}\n",
        "{\"id\":14,\"method\":\"stats\"}\n",
        "{\"id\":15,\"method\":\"list.setitem\",\"params\":[\"list\",0,{\"$tuple\":[{\"$ref\":\"dict\"}]}]}"
        "\n",
        "{\"id\":16,\"method\":\"set.add\",\"params\":[\"set\",{\"$tuple\":[1,2.5]}]}\n",
        "{\"id\":17,\"method\":\"create\",\"params\":[[],\"again\"]}\n",
        "{\"id\":18,\"method\":\"ge",
    };
    struct process_random random = {seed};
    struct wire *wire = wire_try_open(daemon, seed % 2 == 0);
    if (wire == NULL) {
        _exit(1);
    }
    for (;;) {
        const char *request = requests[process_random_below(&random, sizeof requests / sizeof *requests)];
        size_t len = strlen(request), cut = 1 + process_random_below(&random, (uint32_t)len);
        if (!wire_try_send(wire, request, cut)) {
            _exit(2);
        }
        if (process_random_below(&random, 2) == 0) {
            usleep(process_random_below(&random, 4000));
        }
        if (!wire_try_send(wire, request + cut, len - cut) ||
            (request[len - 1] != '\n' && !wire_try_send(wire, "\n", 1))) {
            _exit(2);
        }
        wire->start = wire->len = wire->scanned = 0; /* what came is not looked at */
    }
}

static pid_t start_client(const struct daemon *daemon, uint64_t seed)
{
    fflush(stdout);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        process_become_child();
        be_a_client(daemon, seed);
    }
    return pid;
}

/* The client must have been alive until now: one that ended by itself had lost its connection. */
static void kill_client(pid_t pid)
{
    int status;
    kill(pid, SIGKILL);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (!WIFSIGNALED(status)) {
        fail_msg("a client could not go on: exit code %d", WEXITSTATUS(status));
    }
}

static void create_common_objects(struct wire *wire)
{
    create_shared(wire);
    json_decref(wire_callf(wire, "create", "[[],s]", "list"));
    json_decref(wire_callf(wire, "create", "[{},s]", "dict"));
    json_decref(wire_callf(wire, "create", "[{s:[]},s]", "$set", "set"));
}

static void test_sessions_release_on_kill(void **state)
{
    const struct fixture *fixture = *state;
    create_common_objects(fixture->wire);
    for (uint64_t seed = 0; seed < 6; seed++) {
        pid_t pid = start_client(fixture->daemon, seed);
        while (wire_stat(fixture->wire, "sessions", "holds") < 50) {
            usleep(1000);
        }
        kill_client(pid);
        while (wire_stat(fixture->wire, "sessions", "count") > 1) {
            usleep(1000);
        }
        assert_int_equal(wire_stat(fixture->wire, "sessions", "holds"), 0);
        wire_check_heap(fixture->wire); /* waits until all that dies of it is dead */
        assert_int_equal(wire_call_int(fixture->wire, NULL, "sys.getrefcount", "[s]", "shared"), 2);
    }
}

/* 200 at once, killed in random order, each replaced while there are rounds left. */
static void test_sessions_of_200_clients_killed_at_random(void **state)
{
    enum { CLIENTS = 200 };
    const struct fixture *fixture = *state;
    struct process_random random;
    pid_t pids[CLIENTS];
    const int kills = process_rounds(300, 20);
    process_random_init(&random);
    create_common_objects(fixture->wire);
    for (int i = 0; i < CLIENTS; i++) {
        pids[i] = start_client(fixture->daemon, process_random_next(&random));
    }
    while (wire_stat(fixture->wire, "server", "connections") < CLIENTS) {
        usleep(10000);
    }
    for (int n = 0; n < kills; n++) {
        uint32_t i = process_random_below(&random, CLIENTS);
        kill_client(pids[i]);
        pids[i] = start_client(fixture->daemon, process_random_next(&random));
    }
    for (int i = 0; i < CLIENTS; i++) {
        kill_client(pids[i]);
    }
    while (wire_stat(fixture->wire, "sessions", "count") > 1) {
        usleep(1000);
    }
    assert_int_equal(wire_stat(fixture->wire, "sessions", "holds"), 0);
    wire_check_heap(fixture->wire);
    assert_int_equal(wire_call_int(fixture->wire, NULL, "sys.getrefcount", "[s]", "shared"), 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        fixture_test(test_sessions_release_on_close),
        fixture_test(test_sessions_release_on_reset),
        fixture_test(test_sessions_release_after_half_close),
        fixture_test(test_sessions_release_cycles_for_the_collector),
        fixture_test(test_sessions_are_apart),
        fixture_test(test_sessions_end_with_many_holds),
        fixture_test(test_sessions_release_on_kill),
        fixture_test(test_sessions_of_200_clients_killed_at_random),
    };
    return cmocka_run_group_tests_name("sessions", tests, NULL, NULL);
}
