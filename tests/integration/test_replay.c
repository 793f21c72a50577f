/* test_replay.c -- `heapctl replay`: what a trace did on one daemon happens again on another.
 *
 * A source and a target, both with a --data-dir or both without; a load over several sessions changes the source;
 * its trace is replayed on the target, and then both heaps must look the same, but for their ids.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>

#include "../support/daemon.h"
#include "../support/process.h"
#include "../support/wire.h"

#define SESSIONS 4
#define NAMES 12
#define STEPS 600

struct pair {
    struct daemon *source, *target;
    char folder[64]; /* of the traces, and with data folders of both within: /a, /b */
    bool has_data;
};

/* ---- two daemons ---- */

static struct daemon *start(const struct pair *pair, const char *name)
{
    char data[80];
    snprintf(data, sizeof data, "%s/%s", pair->folder, name);
    return pair->has_data ? daemon_start((const char *const[]){"--data-dir", data, NULL}) : daemon_start(NULL);
}

static int setup(void **state, bool has_data)
{
    struct pair *pair = calloc(1, sizeof *pair);
    assert_non_null(pair);
    if (daemon_is_elsewhere()) {
        skip();
    }
    pair->has_data = has_data;
    strcpy(pair->folder, "/tmp/heapd-replay-XXXXXX");
    assert_non_null(mkdtemp(pair->folder));
    pair->source = start(pair, "a");
    pair->target = start(pair, "b");
    *state = pair;
    return 0;
}

static int setup_kept(void **state)
{
    return setup(state, true);
}

static int setup_plain(void **state)
{
    return setup(state, false);
}

static int teardown(void **state)
{
    struct pair *pair = *state;
    struct process_result result;
    for (int i = 0; i < 2; i++) {
        struct daemon *daemon = i == 0 ? pair->source : pair->target;
        struct wire *wire = wire_open(daemon);
        json_decref(wire_callf(wire, "collect", NULL));
        wire_check_heap(wire);
        wire_close_all();
        daemon_stop(daemon);
    }
    process_run(&result, (const char *[]){"rm", "-r", pair->folder, NULL}, NULL);
    process_result_free(&result);
    free(pair);
    return 0;
}

#define kept_test(function) cmocka_unit_test_setup_teardown(function, setup_kept, teardown)
#define plain_test(function) cmocka_unit_test_setup_teardown(function, setup_plain, teardown)

/* ---- a load ---- */

struct load {
    const struct daemon *daemon;
    struct process_random random;
    struct wire *wires[SESSIONS];
    json_t *j_held[SESSIONS]; /* ids */
};

static int below(struct load *load, int n)
{
    return (int)(process_random_next(&load->random) % (uint64_t)n);
}

static void begin_session(struct load *load, int k)
{
    load->wires[k] = wire_open(load->daemon);
    load->j_held[k] = json_array();
}

static void end_session(struct load *load, int k)
{
    wire_close(load->wires[k]);
    json_decref(load->j_held[k]);
}

static json_int_t any_held(struct load *load, int k)
{
    size_t count = json_array_size(load->j_held[k]);
    return count == 0 ? 0 : json_integer_value(json_array_get(load->j_held[k], (size_t)below(load, (int)count)));
}

/* Values with containers in them, cycles, what looks like a form and is none, an object of another session. */
static void create(struct load *load, int k)
{
    static const char *const values[] = {
        "[1,[2,{\"a\":[3.5]}],{\"b\":[]}]",
        "{\"$let\":{\"q\":[{\"$label\":\"q\"},\"$ref\"]},\"in\":{\"$tuple\":[{\"$label\":\"q\"},[]]}}",
        "[{\"$json\":{\"$ref\":3,\"x\":[{\"$weakref\":4}]}},[],\"{\\\"$ref\\\": 5}\"]",
        "{\"k\":\"a, \\\\ and \\\" \\u0000\"}",
        "[]",
    };
    int other = below(load, SESSIONS);
    json_int_t shared = any_held(load, other);
    char name[16] = "null", text[512];
    if (below(load, 2) == 0) {
        snprintf(name, sizeof name, "\"n%d\"", below(load, NAMES));
    }
    if (shared != 0 && below(load, 3) == 0) {
        snprintf(text, sizeof text, "[[7,{\"$ref\":%lld}],%s,true]", (long long)shared, name);
    } else {
        snprintf(text, sizeof text, "[%s,%s,true]", values[below(load, 5)], name);
    }
    json_t *j_params = json_loads(text, JSON_ALLOW_NUL, NULL);
    assert_non_null(j_params);
    json_t *j_result = wire_call(load->wires[k], "create", j_params);
    json_array_append(load->j_held[k], json_object_get(j_result, "object"));
    json_decref(j_result);
}

/* A request that may be refused, as that of a real client: it is in no trace then. */
static void try_request(struct load *load, int k, const char *method, const char *params)
{
    char line[512];
    size_t len;
    snprintf(line, sizeof line, "{\"id\":1,\"method\":\"%s\",\"params\":%s}\n", method, params);
    wire_send_text(load->wires[k], line);
    assert_non_null(wire_line(load->wires[k], &len));
}

static void step(struct load *load)
{
    int k = below(load, SESSIONS), what = below(load, 20);
    long long held = any_held(load, k), other = any_held(load, k);
    char params[128];
    if (what == 0) {
        end_session(load, k);
        begin_session(load, k);
    } else if (what < 7 || held == 0) {
        create(load, k);
    } else if (what < 10) {
        size_t last = json_array_size(load->j_held[k]) - 1;
        snprintf(params, sizeof params, "[%lld]", (long long)json_integer_value(json_array_get(load->j_held[k], last)));
        try_request(load, k, "unref", params);
        json_array_remove(load->j_held[k], last);
    } else if (what < 13) {
        snprintf(params, sizeof params, "[%lld,{\"$ref\":%lld}]", held, other);
        try_request(load, k, "list.append", params);
    } else if (what < 16) {
        snprintf(params, sizeof params, "{\"value\":[[],{}],\"object\":%lld}", held);
        try_request(load, k, "list.append", params);
    } else if (what < 18) {
        snprintf(params, sizeof params, "[%lld,1]", held);
        try_request(load, k, "list.getitem", params);
    } else {
        snprintf(params, sizeof params, "[%lld,\"k\",[%d]]", held, what);
        try_request(load, k, "dict.setitem", params);
    }
}

/* Afterwards only what names reach is left. */
static void run_load(const struct daemon *daemon)
{
    struct load load = {.daemon = daemon};
    process_random_init(&load.random);
    for (int k = 0; k < SESSIONS; k++) {
        begin_session(&load, k);
    }
    for (int i = 0; i < STEPS; i++) {
        step(&load);
    }
    for (int k = 0; k < SESSIONS; k++) {
        end_session(&load, k);
    }
}

/* ---- comparing ---- */

/* Sessions end when their connections do, a little later. */
static void await_one_session(struct wire *wire)
{
    while (wire_stat(wire, "sessions", "count") > 1) {
        usleep(1000);
    }
}

/* Ids in a text are not what it is about. */
static void hide_ids(char *text)
{
    char *to = text;
    for (const char *at = text; *at != '\0';) {
        bool is_ref = strncmp(at, "\"$ref\":", 7) == 0;
        *to++ = *at++;
        if (is_ref) {
            memmove(to, at, 6);
            to += 6;
            at += 6;
            at += strspn(at, "0123456789");
        }
    }
    *to = '\0';
}

/* All that the names reach, and how many objects of each type live: new (free()). */
static char *look_at(const struct daemon *daemon)
{
    struct wire *wire = wire_open(daemon);
    char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    await_one_session(wire);
    json_decref(wire_callf(wire, "collect", NULL));
    json_t *j_names = wire_callf(wire, "name.list", NULL), *j_name;
    size_t i;
    json_array_foreach(json_object_get(j_names, "names"), i, j_name)
    {
        const char *name = json_string_value(json_object_get(j_name, "name"));
        json_t *j_value = wire_callf(wire, "get", "[s,i]", name, -1);
        char *value = json_dumps(j_value, JSON_ENCODE_ANY | JSON_COMPACT);
        fprintf(out, "%s %s\n", name, value);
        free(value);
        json_decref(j_value);
    }
    json_t *j_types = wire_callf(wire, "heap.types", NULL);
    char *types = json_dumps(j_types, JSON_COMPACT);
    fprintf(out, "%s\n", types);
    free(types);
    json_decref(j_types);
    json_decref(j_names);
    wire_close(wire);
    fclose(out);
    hide_ids(text);
    return text;
}

static void expect_same(const struct pair *pair)
{
    char *source = look_at(pair->source), *target = look_at(pair->target);
    assert_string_equal(source, target);
    free(source);
    free(target);
}

/* ---- heapctl ---- */

static void run_heapctl(struct process_result *result, const struct daemon *daemon, const char *input,
                        const char *const words[])
{
    char program[4200], url[256];
    const char *argv[16] = {program, "--url", url, "--json"};
    size_t count = 4;
    process_program(program, sizeof program, "heapctl");
    snprintf(url, sizeof url, "tcp:%s:%d", daemon->host, daemon->port);
    for (; *words != NULL; words++) {
        argv[count++] = *words;
    }
    argv[count] = NULL;
    process_run(result, argv, input);
    if (process_has_complaint(result->err)) {
        fail_msg("%s", result->err);
    }
}

/* Replays with those words behind `replay`, demands the exit code, and returns the figures, new. */
static json_t *replay(const struct pair *pair, int code, const char *input, const char *const words[], char **err)
{
    struct process_result result;
    const char *all[8] = {"replay"};
    for (size_t i = 0; words[i] != NULL; i++) {
        all[i + 1] = words[i];
    }
    run_heapctl(&result, pair->target, input, all);
    json_t *j_figures = json_loads(result.out, 0, NULL);
    if (result.exit_code != code || j_figures == NULL) {
        fail_msg("replay exits with %d and says: %s%s", result.exit_code, result.out, result.err);
    }
    if (err != NULL) {
        *err = result.err;
        result.err = NULL;
    }
    process_result_free(&result);
    return j_figures;
}

static json_int_t count_of(const json_t *j_figures, const char *member)
{
    assert_true(json_is_integer(json_object_get(j_figures, member)));
    return json_integer_value(json_object_get(j_figures, member));
}

/* A process that changes the daemon's heap again and again until it is killed, and leaves nothing. */
static pid_t start_busybody(const struct daemon *daemon)
{
    pid_t busybody = fork();
    if (busybody == 0) {
        process_become_child();
        struct wire *wire = wire_open(daemon);
        for (;;) {
            json_t *j_made = wire_callf(wire, "create", "[[[],[]],n,b]", 1);
            json_decref(wire_callf(wire, "unref", "[O]", json_object_get(j_made, "object")));
            json_decref(j_made);
        }
    }
    return busybody;
}

/* The source's journal, as far as it is written: new (free()). */
static char *read_journal(const struct pair *pair, char *path, size_t size)
{
    size_t len;
    snprintf(path, size, "%s/a/00000001.journal", pair->folder);
    char *text = process_read_file(path, &len);
    assert_non_null(text);
    return text;
}

/* Until the last change is in the file. */
static void await_journal(const struct pair *pair, char *path, size_t size)
{
    struct wire *wire = wire_open(pair->source);
    bool is_there = false;
    await_one_session(wire);
    json_decref(wire_callf(wire, "create", "[s,s]", "the last", "last"));
    while (!is_there) {
        char *text = read_journal(pair, path, size);
        is_there = strstr(text, "\"the last\"") != NULL;
        free(text);
        usleep(is_there ? 0 : 10000);
    }
    wire_close(wire);
}

/* ---- the tests ---- */

static void test_replay_repeats_a_journal(void **state)
{
    const struct pair *pair = *state;
    char path[128];
    run_load(pair->source);
    await_journal(pair, path, sizeof path);
    json_t *j_figures = replay(pair, 0, NULL, (const char *[]){path, NULL}, NULL);
    assert_true(count_of(j_figures, "requests") > STEPS / 4);
    assert_int_equal(count_of(j_figures, "failed") + count_of(j_figures, "skipped"), 0);
    expect_same(pair);
    json_decref(j_figures);
    /* Once more, one request at a time, beside another client: the same names are bound to the same values. */
    pid_t busybody = start_busybody(pair->target);
    json_decref(replay(pair, 0, NULL, (const char *[]){path, "--pipeline", "1", NULL}, NULL));
    kill(busybody, SIGKILL);
    waitpid(busybody, NULL, 0);
    expect_same(pair);
}

/* What was monitored, as JSON and as people see it, is a trace of a daemon without --data-dir. */
static void test_replay_repeats_what_was_monitored(void **state)
{
    const struct pair *pair = *state;
    for (int as_json = 0; as_json < 2; as_json++) {
        char path[128], program[4200], url[256];
        snprintf(path, sizeof path, "%s/trace%d", pair->folder, as_json);
        process_program(program, sizeof program, "heapctl");
        snprintf(url, sizeof url, "tcp:%s:%d", pair->source->host, pair->source->port);
        pid_t monitor = fork();
        if (monitor == 0) {
            process_become_child();
            int out = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
            dup2(out, STDOUT_FILENO);
            execl(program, program, "--url", url, "monitor", as_json ? "--json" : NULL, NULL);
            _exit(127);
        }
        struct wire *wire = wire_open(pair->source);
        while (wire_stat(wire, "sessions", "count") < 2) {
            usleep(1000);
        }
        char *text = NULL;
        do { /* it is subscribed when it prints */
            json_decref(wire_callf(wire, "create", "[[],s]", "n0"));
            usleep(1000);
            free(text);
            text = process_read_file(path, &(size_t){0});
        } while (text == NULL || *text == '\0');
        free(text);
        wire_close(wire);
        run_load(pair->source);
        wire = wire_open(pair->source);
        json_decref(wire_callf(wire, "create", "[s,s]", "the last", "last"));
        bool is_there = false;
        while (!is_there) {
            text = process_read_file(path, &(size_t){0});
            is_there = strstr(text, "the last") != NULL;
            free(text);
        }
        wire_close(wire);
        kill(monitor, SIGTERM);
        int status;
        waitpid(monitor, &status, 0);
        assert_int_equal(status, 0);
        json_decref(replay(pair, 0, NULL, (const char *[]){path, NULL}, NULL));
        expect_same(pair);
    }
}

/* Leases, sessions that join another one, a daemon that ended: as the trace says. */
static void test_replay_follows_sessions(void **state)
{
    const struct pair *pair = *state;
    static const char trace[] =
        "00000000 {\"heapd\":\"journal\",\"version\":1,\"heap\":\"00\",\"number\":1,\"generations\":16}\n"
        "00000000 {\"session\":1,\"method\":\"create\",\"params\":[[1],null,true],\"ids\":[11,1]}\n"
        "00000000 {\"session\":2,\"method\":\"create\",\"params\":[[2],null,true],\"ids\":[12,1]}\n"
        "00000000 {\"session\":3,\"method\":\"create\",\"params\":[[3],null,true],\"ids\":[13,1]}\n"
        "00000000 {\"effect\":\"leased\",\"session\":1,\"lease_ms\":60000,\"token\":\"00\"}\n"
        "00000000 {\"effect\":\"merged\",\"session\":2,\"into\":1}\n"
        "00000000 {\"session\":1,\"method\":\"list.append\",\"params\":[12,{\"$ref\":13}]}\n"
        "00000000 {\"effect\":\"released\",\"session\":3}\n"
        "00000000 {\"heapd\":\"journal\",\"version\":1,\"heap\":\"00\",\"number\":2,\"restart\":true,\"generations\":32}\n"
        "00000000 {\"session\":1,\"method\":\"create\",\"params\":[[{\"$ref\":11},{\"$ref\":12},{\"$ref\":13}],\"all\"],"
        "\"ids\":[14,1]}\n"
        "00000000 {\"effect\":\"released\",\"session\":1}\n";
    json_t *j_figures = replay(pair, 0, trace, (const char *[]){"-", NULL}, NULL);
    assert_int_equal(count_of(j_figures, "requests"), 5);
    json_decref(j_figures);
    struct wire *wire = wire_open(pair->target);
    await_one_session(wire);
    wire_expect(wire, "{'id':1,'method':'get','params':['all',-1]}", "{'id':1,'result':[[1],[2,[3]],{'$ref':<id:three>}]}");
    assert_int_equal(wire_stat(wire, "sessions", "leased"), 0);
    wire_close(wire);
}

/* What cannot be done again is told, counted, and makes the exit code 1; what follows goes on. */
static void test_replay_tells_what_differs(void **state)
{
    const struct pair *pair = *state;
    char *err;
    static const char trace[] =
        "{\"session\":1,\"method\":\"create\",\"params\":[[1,[2]],\"a\"],\"ids\":[1,2]}\n"
        "{\"session\":1,\"method\":\"list.append\",\"params\":[77,1]}\n"
        "{\"session\":1,\"method\":\"list.pop\",\"params\":[\"nobody\"]}\n"
        "{\"session\":1,\"method\":\"list.frobnicate\",\"params\":[\"a\"]}\n"
        "{\"event\":\"lost\",\"count\":3}\n"
        "lost: count 4\n"
        "{\"session\":1,\"method\":\"create\",\"params\":[\"x\",\"b\"],\"ids\":[2,1]}\n"
        "{\"session\":1,\"method\":\"list.app";
    json_t *j_figures = replay(pair, 1, trace, (const char *[]){"-", NULL}, &err);
    assert_int_equal(count_of(j_figures, "requests"), 3);
    assert_int_equal(count_of(j_figures, "differing"), 1);
    assert_int_equal(count_of(j_figures, "failed"), 1);
    assert_int_equal(count_of(j_figures, "skipped"), 2);
    assert_int_equal(count_of(j_figures, "lost"), 7);
    assert_non_null(strstr(err, "-:1: create gave 2 ids, here 1: a trace of a daemon with --data-dir"));
    assert_non_null(strstr(err, "-:2: list.append: no line of the trace that went well gave the object 77"));
    assert_non_null(strstr(err, "-:3: list.pop: "));
    assert_non_null(strstr(err, "-:4: list.frobnicate: this daemon has no such method"));
    assert_non_null(strstr(err, "-:8: it is no line of a journal; the trace ends there"));
    free(err);
    json_decref(j_figures);
}

static void test_replay_keeps_the_pace(void **state)
{
    const struct pair *pair = *state;
    char trace[8192] = "";
    for (int i = 0; i < 60; i++) {
        strcat(trace, "{\"session\":1,\"method\":\"create\",\"params\":[[1],\"a\"],\"ids\":[1,1]}\n");
    }
    json_t *j_figures = replay(pair, 0, trace, (const char *[]){"-", "--speed", "200", NULL}, NULL);
    assert_int_equal(count_of(j_figures, "requests"), 60);
    assert_true(json_number_value(json_object_get(j_figures, "elapsed_s")) >= 59 / 200.0);
    json_decref(j_figures);
}

static void test_replay_refuses_what_it_cannot_do(void **state)
{
    const struct pair *pair = *state;
    static const struct {
        const char *words[4];
        int code;
        const char *says;
    } cases[] = {
        {{"replay", "/nowhere", NULL}, 2, "cannot read /nowhere: No such file or directory"},
        {{"replay", "-", "--pipeline=0", NULL}, 2, "--pipeline is 1 to 65536"},
        {{"replay", "-", "--speed=0", NULL}, 2, "--speed more than 0"},
        {{"replay", NULL}, 2, "FILE"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct process_result result;
        run_heapctl(&result, pair->target, "", cases[i].words);
        assert_int_equal(result.exit_code, cases[i].code);
        if (strstr(result.err, cases[i].says) == NULL) {
            fail_msg("%s", result.err);
        }
        process_result_free(&result);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        kept_test(test_replay_repeats_a_journal),
        plain_test(test_replay_repeats_what_was_monitored),
        plain_test(test_replay_follows_sessions),
        plain_test(test_replay_tells_what_differs),
        plain_test(test_replay_keeps_the_pace),
        plain_test(test_replay_refuses_what_it_cannot_do),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
