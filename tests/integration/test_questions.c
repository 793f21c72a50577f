/* test_questions.c -- questions about the whole heap: right on a real one, while others go on, and while it changes.
 *
 * Two helpers run as children with connections of their own.  The pinger pings as fast as it is answered and says,
 * when asked, how long its pings took; the mover changes the heap without pause.  Times are printed, not demanded.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "../support/fixture.h"
#include "../support/process.h"

/* ---- children ---- */

/* A child process, and the socket on which it is spoken to; it ends when that closes. */
struct child {
    pid_t pid;
    int control;
};

/* Runs `work` in a child of its own with a new connection. */
static void child_start(struct child *child, const struct daemon *daemon,
                        void (*work)(int control, int fd, const void *arg), const void *arg)
{
    int pair[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    fflush(stdout);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        close(pair[0]);
        process_become_child();
        struct wire *wire = wire_try_open(daemon, true);
        if (wire == NULL) {
            _exit(1);
        }
        fcntl(wire->fd, F_SETFL, fcntl(wire->fd, F_GETFL) & ~O_NONBLOCK);
        work(pair[1], wire->fd, arg);
        _exit(0);
    }
    close(pair[1]);
    *child = (struct child){pid, pair[0]};
}

static void child_stop(struct child *child)
{
    int status;
    pid_t pid = child->pid;
    child->pid = 0;
    close(child->control);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* A daemon, a connection to it and a child. */
struct scene {
    struct fixture common; /* first: it is the fixture of fixture.h */
    struct child child;    /* pid 0: there is none */
};

static int scene_setup(void **state)
{
    struct scene *scene = calloc(1, sizeof *scene);
    *state = scene;
    fixture_start(&scene->common, NULL);
    return 0;
}

/* A failed test may have left its child. */
static int scene_teardown(void **state)
{
    struct scene *scene = *state;
    if (scene->child.pid != 0) {
        child_stop(&scene->child);
    }
    return fixture_teardown(state);
}

/* In a child: sends everything and reads until `lines` lines came, or gives up. */
static void child_talk(int fd, const char *text, size_t len, unsigned lines)
{
    char reply[4096];
    while (len > 0) {
        ssize_t n = write(fd, text, len);
        if (n <= 0) {
            _exit(2);
        }
        text += n;
        len -= (size_t)n;
    }
    while (lines > 0) {
        ssize_t n = read(fd, reply, sizeof reply);
        if (n <= 0) {
            _exit(3);
        }
        for (ssize_t i = 0; i < n; i++) {
            lines -= reply[i] == '\n';
        }
    }
}

/* In a child: whether the parent wants something; ends the child when it wants no more. */
static bool child_is_asked(int control)
{
    char byte;
    ssize_t n = recv(control, &byte, 1, MSG_DONTWAIT);
    if (n == 0) {
        _exit(0);
    }
    return n == 1;
}

/* ---- the pinger ---- */

#define PINGS_MAX 2000000u

struct pings {
    uint64_t count;
    double p50_us, p99_us, p999_us, max_us;
};

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static int by_size(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static void report(int control, uint32_t *ns, size_t count)
{
    struct pings pings = {.count = count};
    if (count > 0) {
        qsort(ns, count, sizeof *ns, by_size);
        pings.p50_us = ns[count / 2] / 1e3;
        pings.p99_us = ns[count * 99 / 100] / 1e3;
        pings.p999_us = ns[count * 999 / 1000] / 1e3;
        pings.max_us = ns[count - 1] / 1e3;
    }
    if (write(control, &pings, sizeof pings) != (ssize_t)sizeof pings) {
        _exit(4);
    }
}

static void ping_on(int control, int fd, const void *arg)
{
    static const char ping[] = "{\"id\":1,\"method\":\"ping\"}\n";
    uint32_t *ns = calloc(PINGS_MAX, sizeof *ns);
    size_t count = 0;
    (void)arg;
    while (ns != NULL) {
        uint64_t start = now_ns();
        child_talk(fd, ping, sizeof ping - 1, 1);
        if (count < PINGS_MAX) {
            ns[count++] = (uint32_t)(now_ns() - start);
        }
        if (child_is_asked(control)) {
            report(control, ns, count);
            count = 0;
        }
    }
    _exit(5);
}

/* How long the pings since the last call took. */
static struct pings pings_since(const struct child *pinger)
{
    struct pings pings;
    assert_int_equal(write(pinger->control, "?", 1), 1);
    assert_int_equal(recv(pinger->control, &pings, sizeof pings, MSG_WAITALL), sizeof pings);
    return pings;
}

/* Asks while the pinger pings, prints how long both took, and demands that pings were answered.  Steals params. */
static json_t *ask(const struct scene *scene, const char *method, json_t *j_params)
{
    pings_since(&scene->child);
    uint64_t start = now_ns();
    json_t *j_result = wire_call(scene->common.wire, method, j_params);
    double ms = (double)(now_ns() - start) / 1e6;
    struct pings pings = pings_since(&scene->child);
    printf("%-16s %7.1f ms; %6llu pings meanwhile: p50 %.0f us, p99 %.0f us, p99.9 %.0f us, max %.0f us\n", method, ms,
           (unsigned long long)pings.count, pings.p50_us, pings.p99_us, pings.p999_us, pings.max_us);
    fflush(stdout);
    assert_true(pings.count > 0);
    return j_result;
}

/* ---- answers ---- */

static int64_t number(const json_t *j_object, const char *key)
{
    const json_t *j_number = json_object_get(j_object, key);
    assert_true(json_is_integer(j_number));
    return json_integer_value(j_number);
}

static const char *text(const json_t *j_object, const char *key)
{
    const char *value = json_string_value(json_object_get(j_object, key));
    assert_non_null(value);
    return value;
}

static bool refers_to(struct wire *wire, int64_t container, int64_t object)
{
    json_t *j_answer = wire_callf(wire, "gc.get_referents", "[I]", (json_int_t)container);
    const json_t *j_list = json_is_array(j_answer) ? j_answer : json_object_get(j_answer, "objects"), *j_id;
    bool found = false;
    size_t i;
    json_array_foreach(j_list, i, j_id)
    {
        found = found || json_integer_value(j_id) == object;
    }
    json_decref(j_answer);
    return found;
}

/* What an edge's name says it leads to, where it is an index, an attribute or a plain str key; else `object`. */
static int64_t follow(struct wire *wire, int64_t container, const char *edge, int64_t object)
{
    char name[256];
    int len = 0;
    if (sscanf(edge, ".%255[a-z0-9]%n", name, &len) == 1 && edge[len] == '\0') {
        return wire_call_int(wire, "object", "attr.get", "[Is]", (json_int_t)container, name);
    }
    if (sscanf(edge, "['%255[a-z0-9_]']%n", name, &len) == 1 && len > 0 && edge[len] == '\0') {
        return wire_call_int(wire, "object", "dict.getitem", "[Is]", (json_int_t)container, name);
    }
    return object;
}

/* The path begins with a root, each entry refers to the next as its edge says, and the last is the object. */
static void check_path(struct wire *wire, const json_t *j_why, int64_t object)
{
    const json_t *j_path = json_object_get(j_why, "path"), *j_entry;
    int64_t before = 0;
    size_t i;
    assert_true(json_is_true(json_object_get(j_why, "reachable")));
    assert_true(json_array_size(j_path) >= 2);
    assert_string_equal(text(json_array_get(j_path, 0), "root"), "name");
    json_array_foreach(j_path, i, j_entry)
    {
        if (i == 0) {
            continue;
        }
        int64_t id = number(j_entry, "object");
        assert_int_equal(json_object_size(j_entry), i == 1 ? 1 : 2);
        if (i > 1) {
            assert_true(refers_to(wire, before, id));
            assert_int_equal(follow(wire, before, text(j_entry, "edge"), id), id);
        }
        before = id;
    }
    assert_int_equal(before, object);
}

/* Rows are sorted by bytes and name each object once. */
static void check_rows(const json_t *j_rows)
{
    const json_t *j_row;
    size_t i;
    int64_t last = INT64_MAX;
    json_t *j_seen = json_object();
    json_array_foreach(j_rows, i, j_row)
    {
        char id[32];
        snprintf(id, sizeof id, "%lld", (long long)number(j_row, "object"));
        assert_null(json_object_get(j_seen, id));
        json_object_set_new(j_seen, id, json_true());
        assert_true(number(j_row, "bytes") <= last && number(j_row, "bytes") > 0);
        assert_true(number(j_row, "objects") > 0);
        last = number(j_row, "bytes");
    }
    json_decref(j_seen);
}

/* ---- a real heap ---- */

/* Builds it, and binds what its five roots name to one list, which is then all that keeps it. */
static void load_real_heap(const struct scene *scene, const char *file)
{
    char tool[4200], address[256];
    struct process_result result;
    process_program(tool, sizeof tool, "tests/tools/load_heap");
    snprintf(address, sizeof address, "tcp:%s:%d", scene->common.daemon->host, scene->common.daemon->port);
    const char *const argv[] = {tool, "--keep", address, file, NULL};
    process_run(&result, argv, NULL);
    if (result.exit_code != 0) {
        fail_msg("load_heap: exit code %d: %s", result.exit_code, result.err);
    }
    process_result_free(&result);
    json_decref(wire_callf(scene->common.wire, "create", "{s:[{s:s},{s:s},{s:s},{s:s},{s:s}],s:s}", "value", "$ref", "root0",
                           "$ref", "root1", "$ref", "root2", "$ref", "root3", "$ref", "root4", "name", "all"));
    for (int i = 0; i < 5; i++) {
        char name[16];
        snprintf(name, sizeof name, "root%d", i);
        json_decref(wire_callf(scene->common.wire, "name.unbind", "[s]", name));
    }
}

/* What the one root retains is everything there is. */
static void ask_for_everything(const struct scene *scene)
{
    int64_t live = wire_stat(scene->common.wire, "objects", "live"), bytes = wire_stat(scene->common.wire, "objects", "bytes");
    json_t *j_all = ask(scene, "heap.retained", json_pack("[s]", "all"));
    assert_int_equal(number(j_all, "objects"), live);
    assert_int_equal(number(j_all, "bytes"), bytes);
    json_decref(j_all);
}

/* The rows of the largest agree with heap.retained of the same objects. */
static void ask_for_dominators(const struct scene *scene,
                               struct process_random *random)
{
    enum { ROWS = 1000, SAMPLE = 8 };
    /* Twice, for the first answer gives ids to what it shows, which makes that larger. */
    json_decref(ask(scene, "heap.dominators", json_pack("[i]", ROWS)));
    json_t *j_answer = ask(scene, "heap.dominators", json_pack("[i]", ROWS));
    const json_t *j_rows = json_object_get(j_answer, "dominators");
    assert_int_equal(json_array_size(j_rows), ROWS);
    check_rows(j_rows);
    const json_t *j_first = json_array_get(j_rows, 0);
    assert_int_equal(number(j_first, "object"), wire_call_int(scene->common.wire, "object", "name.lookup", "[s]", "all"));
    assert_int_equal(number(j_first, "objects"), wire_stat(scene->common.wire, "objects", "live"));
    for (int i = 0; i < SAMPLE; i++) {
        const json_t *j_row = json_array_get(j_rows, i < 2 ? (size_t)i + 1 : process_random_below(random, ROWS));
        json_t *j_retained = wire_callf(scene->common.wire, "heap.retained", "[I]", (json_int_t)number(j_row, "object"));
        assert_int_equal(number(j_retained, "objects"), number(j_row, "objects"));
        assert_int_equal(number(j_retained, "bytes"), number(j_row, "bytes"));
        json_decref(j_retained);
    }
    json_decref(j_answer);
}

static void ask_why(const struct scene *scene, struct process_random *random)
{
    enum { IDS = 1000, SAMPLE = 6 };
    json_t *j_page = wire_callf(scene->common.wire, "gc.get_objects", "{s:i,s:i}", "generation", 2, "limit", IDS);
    const json_t *j_ids = json_object_get(j_page, "objects");
    assert_int_equal(json_array_size(j_ids), IDS);
    for (int i = 0; i < SAMPLE; i++) {
        int64_t id = json_integer_value(json_array_get(j_ids, process_random_below(random, IDS)));
        json_t *j_why = ask(scene, "heap.why", json_pack("[I]", (json_int_t)id));
        check_path(scene->common.wire, j_why, id);
        json_decref(j_why);
    }
    json_decref(j_page);
}

/* Questions whose connections close before the answer are given up, and others are answered. */
static void ask_and_go(const struct scene *scene)
{
    for (int i = 0; i < 5; i++) {
        struct wire *wire = wire_open(scene->common.daemon);
        wire_send_text(wire, "{\"id\":1,\"method\":\"heap.dominators\"}\n{\"id\":2,\"method\":\"heap.mark\",\"params\":[\"x\"]}\n");
        wire_close(wire);
    }
    json_decref(wire_callf(scene->common.wire, "heap.retained", "[s]", "all"));
}

static void ask_for_the_rest(const struct scene *scene)
{
    json_decref(ask(scene, "heap.mark", json_pack("[s]", "a")));
    json_decref(wire_callf(scene->common.wire, "create", "{s:[i],s:s}", "value", 1000, "name", "extra"));
    json_t *j_diff = ask(scene, "heap.diff", json_pack("[s]", "a"));
    const json_t *j_sessions = json_object_get(j_diff, "sessions");
    assert_int_equal(json_array_size(json_object_get(j_diff, "types")), 2);
    assert_int_equal(json_array_size(j_sessions), 1);
    assert_int_equal(number(json_array_get(j_sessions, 0), "objects"), 2);
    json_decref(j_diff);
    json_decref(wire_callf(scene->common.wire, "name.unbind", "[s]", "extra"));
    json_t *j_seen = ask(scene, "heap.inspect", json_pack("[sb]", "all", 1));
    assert_int_equal(json_array_size(json_object_get(j_seen, "referrers")), 0);
    json_decref(j_seen);
    json_decref(ask(scene, "server.clients", json_pack("[b]", 1)));
}

static void test_questions_of_a_real_heap(void **state)
{
    struct scene *scene = *state;
    struct process_random random;
    char file[4200];
    if (!process_data(file, sizeof file, "cpython-heap.jsonl.gz")) {
        process_skip("../shared/data/cpython-heap.jsonl.gz is not there");
    }
    process_random_init(&random);
    load_real_heap(scene, file);
    child_start(&scene->child, scene->common.daemon, ping_on, NULL);
    ask_for_everything(scene);
    ask_for_dominators(scene, &random);
    ask_why(scene, &random);
    ask_for_the_rest(scene);
    child_stop(&scene->child);
    ask_and_go(scene);
    wire_check_heap(scene->common.wire);
}

/* ---- a heap that changes ---- */

/* Moves the object between two lists, so that it is in one of them always, and lets large lists die. */
static void move_on(int control, int fd, const void *arg)
{
    char text[8192];
    long long object = *(const int64_t *)arg;
    int len = snprintf(text, sizeof text,
                       "{\"id\":1,\"method\":\"list.append\",\"params\":[\"b\",{\"$ref\":%lld}]}\n"
                       "{\"id\":2,\"method\":\"list.delitem\",\"params\":[\"a\",0]}\n"
                       "{\"id\":3,\"method\":\"create\",\"params\":{\"value\":[",
                       object);
    for (int i = 0; i < 500; i++) {
        len += snprintf(text + len, sizeof text - (size_t)len, "%s[1000]", i > 0 ? "," : "");
    }
    len += snprintf(text + len, sizeof text - (size_t)len,
                    "],\"name\":\"passing\"}}\n"
                    "{\"id\":4,\"method\":\"list.append\",\"params\":[\"a\",{\"$ref\":%lld}]}\n"
                    "{\"id\":5,\"method\":\"list.delitem\",\"params\":[\"b\",0]}\n",
                    object);
    while (!child_is_asked(control)) {
        child_talk(fd, text, (size_t)len, 5);
    }
}

/* A list of so many dicts that stays as it is. */
static void create_what_stays(struct wire *wire, int dicts)
{
    json_t *j_list = json_array();
    for (int i = 0; i < dicts; i++) {
        json_array_append_new(j_list, json_pack("{s:i}", "k", 1000 + i));
    }
    json_decref(wire_callf(wire, "create", "{s:o,s:s}", "value", j_list, "name", "stays"));
}

/* The object is in one of the two lists at any moment, so no answer may say anything else. */
static void check_moving_path(const json_t *j_why, int64_t object)
{
    const json_t *j_path = json_object_get(j_why, "path");
    assert_true(json_is_true(json_object_get(j_why, "reachable")));
    assert_int_equal(json_array_size(j_path), 3);
    const char *name = text(json_array_get(j_path, 0), "name");
    assert_true(strcmp(name, "a") == 0 || strcmp(name, "b") == 0);
    assert_int_equal(number(json_array_get(j_path, 2), "object"), object);
    assert_string_equal(text(json_array_get(j_path, 2), "edge"), "[0]");
}

static void test_questions_of_a_heap_that_changes(void **state)
{
    enum { DICTS = 20000, ROWS = 100 };
    struct scene *scene = *state;
    struct wire *wire = scene->common.wire;
    create_what_stays(wire, DICTS);
    json_decref(wire_callf(wire, "create", "{s:[[]],s:s}", "value", "name", "a"));
    json_decref(wire_callf(wire, "create", "{s:[],s:s}", "value", "name", "b"));
    int64_t object = wire_call_int(wire, "object", "list.getitem", "[si]", "a", 0), changed = 0;
    json_decref(wire_callf(wire, "heap.mark", "[s]", "start"));
    child_start(&scene->child, scene->common.daemon, move_on, &object);
    for (int round = process_rounds(30, 20); round > 0; round--) {
        json_t *j_why = wire_callf(wire, "heap.why", "[I]", (json_int_t)object);
        check_moving_path(j_why, object);
        json_decref(j_why);
        json_t *j_kept = wire_callf(wire, "heap.retained", "[s]", "stays");
        assert_int_equal(number(j_kept, "objects"), 2 * DICTS + 1);
        json_decref(j_kept);
        json_t *j_rows = wire_callf(wire, "heap.dominators", "[i]", ROWS);
        assert_int_equal(json_array_size(json_object_get(j_rows, "dominators")), ROWS);
        check_rows(json_object_get(j_rows, "dominators"));
        json_decref(j_rows);
        json_t *j_diff = wire_callf(wire, "heap.diff", "[s]", "start"), *j_row;
        size_t i;
        json_array_foreach(json_object_get(j_diff, "types"), i, j_row)
        {
            assert_true(strcmp(text(j_row, "type"), "dict") != 0 || number(j_row, "objects") == 0);
        }
        json_array_foreach(json_object_get(j_diff, "sessions"), i, j_row)
        {
            /* `passing` and what is in it, once, or twice while one takes the place of the other. */
            assert_in_range(number(j_row, "objects"), 1, 2 * 1001);
            changed++;
        }
        json_decref(j_diff);
    }
    assert_true(changed > 0);
    child_stop(&scene->child);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, scene_setup, scene_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_questions_of_a_real_heap),
        TEST(test_questions_of_a_heap_that_changes),
    };
    return cmocka_run_group_tests_name("questions", tests, NULL, NULL);
}
