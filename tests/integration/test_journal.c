/* test_journal.c -- --data-dir: what was acknowledged is there after kill -9, and what damage does to a start.
 *
 * Each test has a data folder of its own and as many daemons, one after the other, as it likes.  compare() asks for
 * every name's object, and all below it, with ids, before and after.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>
#include <dirent.h>
#include <fcntl.h>

#include "../support/daemon.h"
#include "../support/process.h"
#include "../support/wire.h"

#define FIRST "00000001.journal"

struct life {
    char folder[64]; /* of the data */
    struct daemon *daemon;
    struct wire *wire;
};

/* ---- helpers ---- */

static void start_with(struct life *life, const char *policy)
{
    life->daemon = daemon_start((const char *const[]){"--data-dir", life->folder, "--fsync", policy, NULL});
    life->wire = wire_open(life->daemon);
}

static void start(struct life *life)
{
    start_with(life, "always");
}

static void kill_it(struct life *life)
{
    wire_close_all();
    daemon_kill(life->daemon);
    life->daemon = NULL;
}

static void stop(struct life *life)
{
    wire_close_all();
    daemon_stop(life->daemon);
    life->daemon = NULL;
}

static void restart(struct life *life)
{
    kill_it(life);
    start(life);
}

static int setup(void **state)
{
    struct life *life = calloc(1, sizeof *life);
    assert_non_null(life);
    strcpy(life->folder, "/tmp/heapd-data-XXXXXX");
    assert_non_null(mkdtemp(life->folder));
    if (daemon_is_elsewhere()) {
        skip();
    }
    start(life);
    *state = life;
    return 0;
}

/* The folder goes. */
static void empty_folder(const struct life *life)
{
    DIR *folder = opendir(life->folder);
    for (struct dirent *entry; folder != NULL && (entry = readdir(folder)) != NULL;) {
        unlinkat(dirfd(folder), entry->d_name, 0);
    }
    closedir(folder);
    rmdir(life->folder);
}

static int teardown(void **state)
{
    struct life *life = *state;
    if (life->daemon != NULL) {
        wire_check_heap(life->wire);
        stop(life);
    }
    empty_folder(life);
    free(life);
    return 0;
}

/* Everything that names reach: a line `name id`, then a line an object, in the order in which they are met. */
static json_t *picture_of(struct wire *wire)
{
    json_t *j_names = wire_callf(wire, "name.list", NULL), *j_picture = json_array(), *j_name;
    json_t *j_seen = json_object();
    size_t i;
    json_array_foreach(json_object_get(j_names, "names"), i, j_name)
    {
        json_array_append(j_picture, j_name);
    }
    /* What was met and not yet asked for stands behind the names as {"object":ID}. */
    for (size_t at = 0; at < json_array_size(j_picture); at++) {
        json_int_t id = json_integer_value(json_object_get(json_array_get(j_picture, at), "object"));
        char key[32];
        snprintf(key, sizeof key, "%lld", (long long)id);
        if (json_object_get(j_seen, key) != NULL) {
            continue;
        }
        json_object_set_new(j_seen, key, json_true());
        json_t *j_row = json_object();
        json_object_set_new(j_row, "value", wire_callf(wire, "get", "[I]", id));
        json_object_set_new(j_row, "refcount", wire_callf(wire, "sys.getrefcount", "[I]", id));
        json_object_set_new(j_row, "finalized", wire_callf(wire, "gc.is_finalized", "[I]", id));
        json_object_set_new(j_row, "tracked", wire_callf(wire, "gc.is_tracked", "[I]", id));
        json_object_set_new(j_row, "weakrefs", wire_callf(wire, "weakref.count", "[I]", id));
        json_t *j_inspect = wire_callf(wire, "heap.inspect", "[I]", id);
        json_object_set(j_row, "finalizer", json_object_get(j_inspect, "finalizer"));
        json_object_set(j_row, "interned", json_object_get(j_inspect, "interned"));
        json_object_set(j_row, "names", json_object_get(j_inspect, "names"));
        json_decref(j_inspect);
        json_t *j_referents = wire_callf(wire, "gc.get_referents", "[I]", id), *j_id;
        size_t k;
        json_array_foreach(json_object_get(j_referents, "objects"), k, j_id)
        {
            json_array_append_new(j_picture, json_pack("{s:O}", "object", j_id));
        }
        json_object_set(j_row, "referents", json_object_get(j_referents, "objects"));
        json_decref(j_referents);
        json_object_set_new(json_array_get(j_picture, at), "is", j_row);
    }
    json_decref(j_seen);
    json_decref(j_names);
    return j_picture;
}

static void expect_equal(json_t *j_before, json_t *j_after)
{
    if (!json_equal(j_before, j_after)) {
        char *before = json_dumps(j_before, JSON_COMPACT | JSON_SORT_KEYS);
        char *after = json_dumps(j_after, JSON_COMPACT | JSON_SORT_KEYS);
        print_error("before: %.4000s\nafter:  %.4000s\n", before, after);
        free(before);
        free(after);
        fail_msg("the heap is not as it was");
    }
    json_decref(j_before);
    json_decref(j_after);
}

/* The daemon is killed; what names reach is the same afterwards. */
static void compare_over_a_kill(struct life *life)
{
    json_t *j_before = picture_of(life->wire);
    restart(life);
    wire_check_heap(life->wire);
    expect_equal(j_before, picture_of(life->wire));
}

static void path_of(const struct life *life, const char *name, char path[128])
{
    snprintf(path, 128, "%s/%s", life->folder, name);
}

/* A start, as that user unless NULL, must fail with exit code 1, and say something like that. */
static void expect_no_start_as(struct life *life, const char *user, const char *says)
{
    struct process_result result;
    char program[4200];
    process_program(program, sizeof program, "heapd");
    process_run(&result, (const char *const[]){program, "--listen", "tcp:127.0.0.1:0", "--data-dir", life->folder,
                                               user != NULL ? "--user" : NULL, user, NULL},
                NULL);
    if (result.exit_code != 1 || strstr(result.err, says) == NULL || result.out_len > 0) {
        fail_msg("exit %d, expected 1 and `%s`: %s%s", result.exit_code, says, result.out, result.err);
    }
    process_result_free(&result);
}

static void expect_no_start(struct life *life, const char *says)
{
    expect_no_start_as(life, NULL, says);
}

/* ---- what comes back ---- */

static void test_journal_brings_values_and_ids_back(void **state)
{
    struct life *life = *state;
    struct wire *wire = life->wire;
    json_decref(wire_callf(wire, "create", "[{s:[i,i,[s]],s:f,s:n},s]", "list", 1, 2000, "deep", "float", 1.5, "none", "d"));
    wire_expect(wire, "{'id':1,'method':'create','params':[{'$dict':[[{'$tuple':[1,{'$frozenset':[2]}]},'pair']]},'pairs']}",
                "{'id':1,'result':<object>}");
    wire_expect(wire, "{'id':1,'method':'create','params':[{'$let':{'A':[{'$label':'A'}]},'in':[{'$label':'A'},{'$bytes':'AAE='},"
                      "{'$int':'123456789012345678901234567890'},{'$float':'nan'},{'$set':[1,'x']},{'$frozenset':[7]}]},'graph']}",
                "{'id':1,'result':<object>}");
    wire_expect(wire, "{'id':2,'method':'create','params':[{'$class':'Point','slots':['x','y']},'Point']}",
                "{'id':2,'result':<object>}");
    wire_expect(wire, "{'id':3,'method':'create','params':[{'$instance':'Point','attrs':{'x':[1]}},'p']}",
                "{'id':3,'result':<object>}");
    wire_expect(wire, "{'id':4,'method':'create','params':[{'$weakref':'p'},'w']}", "{'id':4,'result':<object>}");
    wire_expect(wire, "{'id':5,'method':'dict.incr','params':['d','n',5]}", "{'id':5,'result':{'value':5}}");
    compare_over_a_kill(life);
    compare_over_a_kill(life);
}

static void test_journal_lets_go_of_holds(void **state)
{
    struct life *life = *state;
    int64_t held = wire_call_int(life->wire, "object", "create", "[[i]]", 1);
    wire_expect(life->wire, "{'id':1,'method':'create','params':[[],'kept']}", "{'id':1,'result':<object>}");
    json_decref(wire_callf(life->wire, "finalizer.set", "[I,s,s]", (json_int_t)held, "bye", "last"));
    restart(life);
    /* It died as if its session had ended: its finalizer has run, and has bound a name. */
    assert_int_equal(wire_stat(life->wire, "sessions", "holds"), 0);
    assert_int_equal(wire_call_int(life->wire, "object", "name.lookup", "[s]", "last"), held);
    compare_over_a_kill(life);
}

static void test_journal_keeps_effects_of_collections(void **state)
{
    struct life *life = *state;
    struct wire *wire = life->wire, *other = wire_open(life->daemon); /* which hears of its finalizer */
    int64_t ring = wire_call_int(wire, "object", "create", "[[]]");
    json_decref(wire_callf(wire, "list.append", "[I,{s:I}]", (json_int_t)ring, "$ref", (json_int_t)ring));
    json_decref(wire_callf(wire, "create", "[{s:I},s]", "$weakref", (json_int_t)ring, "w"));
    json_decref(wire_callf(other, "finalizer.set", "[I,s,s]", (json_int_t)ring, "ring", "back"));
    json_decref(wire_callf(wire, "unref", "[I]", (json_int_t)ring));
    json_decref(wire_callf(wire, "create", "[[],s]", "shared"));
    wire_expect(wire, "{'id':1,'method':'create','params':[{'$let':{'A':[{'$label':'A'},{'$ref':'shared'}]},'in':{'$label':'A'}}]}",
                "{'id':1,'result':{'object':<id:g>,'type':'list','refcount':2}}");
    wire_expect(wire, "{'id':1,'method':'unref','params':[<id:g>]}", "{'id':1,'result':<object>}");
    assert_int_equal(wire_call_int(wire, "unreachable", "collect", NULL), 1);
    /* Brought back, its weakref dead; the other one gone. */
    assert_int_equal(wire_call_int(wire, "object", "name.lookup", "[s]", "back"), ring);
    wire_expect(wire, "{'id':2,'method':'weakref.get','params':['w']}", "{'id':2,'result':{'object':null}}");
    wire_expect(wire, "{'id':3,'method':'sys.getrefcount','params':['shared']}", "{'id':3,'result':2}");
    compare_over_a_kill(life);
    wire_expect(life->wire, "{'id':2,'method':'weakref.get','params':['w']}", "{'id':2,'result':{'object':null}}");
    compare_over_a_kill(life);
}

static void test_journal_keeps_ids_that_reads_gave(void **state)
{
    struct life *life = *state;
    json_decref(wire_callf(life->wire, "create", "[[s,i],s]", "some text", 5000, "l"));
    int64_t id = wire_call_int(life->wire, "object", "list.getitem", "[s,i]", "l", 0);
    int64_t number = wire_call_int(life->wire, "object", "list.getitem", "[s,i]", "l", 1);
    restart(life);
    assert_int_equal(wire_call_int(life->wire, "object", "list.getitem", "[s,i]", "l", 0), id);
    json_t *j_value = wire_callf(life->wire, "get", "[I]", (json_int_t)number);
    assert_int_equal(json_integer_value(j_value), 5000);
    json_decref(j_value);
}

static void test_journal_never_gives_an_id_again(void **state)
{
    struct life *life = *state;
    int64_t last = 0;
    char heap[64] = "";
    for (int round = 0; round < 3; round++) {
        json_t *j_server = wire_callf(life->wire, "stats", "[s]", "server");
        const char *string = json_string_value(json_object_get(j_server, "heap"));
        assert_true(round == 0 || strcmp(string, heap) == 0);
        snprintf(heap, sizeof heap, "%s", string);
        json_decref(j_server);
        for (int i = 0; i < 100; i++) {
            int64_t id = wire_call_int(life->wire, "object", "create", "[[]]");
            assert_true(id > last || round == 0);
            last = id > last ? id : last;
        }
        /* What is not durable is lost, and yet its ids are not given again. */
        char path[128], name[32];
        kill_it(life);
        snprintf(name, sizeof name, "%08d.journal", round + 1);
        path_of(life, name, path);
        char *text = process_read_file(path, &(size_t){0});
        const char *cut = strstr(text, "\"create\"");
        assert_non_null(cut);
        while (cut > text && cut[-1] != '\n') {
            cut--;
        }
        assert_int_equal(truncate(path, cut - text), 0);
        free(text);
        start(life);
    }
}

/* What fails, or only reads, may leave cycles that no line gave an id to: no collection must tell of them later. */
static void test_journal_of_what_was_not_kept(void **state)
{
    struct life *life = *state;
    static const char *const requests[] = {
        "'set.contains','params':['s',%s]", "'set.add','params':['s',%s]",         "'set.discard','params':['s',%s]",
        "'dict.setitem','params':['d',%s,1]", "'dict.setitem','params':['d',[],%s]", "'dict.getitem','params':['d',%s]",
        "'dict.contains','params':['d',%s]",  "'dict.pop','params':['d',%s]",        "'list.extend','params':['l',{'k':%s}]",
        "'list.index','params':['l',%s]",     "'list.count','params':['l',%s]",      "'list.contains','params':['l',%s]",
        "'list.remove','params':['l',%s]",    "'list.setitem','params':['l',99,%s]", "'list.append','params':['nobody',%s]",
        "'create','params':[{'$set':[%s]},'x']",
    };
    static const char *const values[] = {
        "{'$let':{'x':[{'$label':'x'}]},'in':{'$label':'x'}}",
        "{'$let':{'x':{'k':[{'$label':'x'}]}},'in':{'$tuple':[{'$label':'x'},{'$weakref':{'$label':'x'}}]}}",
        "{'$let':{'x':{'$instance':'c','attrs':{'me':{'$label':'x'}}}},'in':{'$label':'x'}}",
    };
    json_decref(wire_callf(life->wire, "create", "[{s:[]},s]", "$set", "s"));
    json_decref(wire_callf(life->wire, "create", "[{},s]", "d"));
    json_decref(wire_callf(life->wire, "create", "[[i,i],s]", 1, 2, "l"));
    json_decref(wire_callf(life->wire, "create", "[{s:s},s]", "$class", "C", "c"));
    int64_t live = wire_stat(life->wire, "objects", "live");
    for (size_t i = 0; i < sizeof requests / sizeof requests[0]; i++) {
        for (size_t k = 0; k < sizeof values / sizeof values[0]; k++) {
            char method[512], line[1024];
            size_t len;
            snprintf(method, sizeof method, requests[i], values[k]);
            snprintf(line, sizeof line, "{'id':1,'method':%s}\n", method);
            for (char *at = line; *at != '\0'; at++) {
                *at = *at == '\'' ? '"' : *at;
            }
            wire_send_text(life->wire, line);
            const char *reply = wire_line(life->wire, &len);
            assert_non_null(reply);
            if (strstr(reply, "parse_error") != NULL || strstr(reply, "invalid_params") != NULL) {
                fail_msg("%s%s", line, reply);
            }
            /* An instance can be a key: what was stored goes again. */
            json_decref(wire_callf(life->wire, "name.bind", "[s,s]", "x", "l"));
            json_decref(wire_callf(life->wire, "name.unbind", "[s]", "x"));
            json_decref(wire_callf(life->wire, "set.clear", "[s]", "s"));
            json_decref(wire_callf(life->wire, "dict.clear", "[s]", "d"));
        }
    }
    json_decref(wire_callf(life->wire, "collect", NULL));
    assert_int_equal(wire_stat(life->wire, "objects", "live"), live);
    json_decref(wire_callf(life->wire, "list.append", "[s,s]", "l", "acknowledged"));
    json_t *j_before = picture_of(life->wire);
    restart(life);
    expect_equal(j_before, picture_of(life->wire));
}

static void test_journal_brings_leased_sessions_back(void **state)
{
    struct life *life = *state;
    struct wire *leased = wire_open(life->daemon), *joined = wire_open(life->daemon);
    int64_t first = wire_call_int(leased, "object", "create", "[[i]]", 1);
    int64_t second = wire_call_int(joined, "object", "create", "[[i]]", 2);
    json_t *j_lease = wire_callf(leased, "session.open", "[i]", 60000);
    char token[64];
    snprintf(token, sizeof token, "%s", json_string_value(json_object_get(j_lease, "session")));
    json_decref(j_lease);
    assert_int_equal(wire_call_int(joined, "holds", "session.resume", "[s]", token), 2);
    json_decref(wire_callf(leased, "ref", "[I]", (json_int_t)first));
    for (int round = 0; round < 2; round++) {
        restart(life);
        assert_int_equal(wire_stat(life->wire, "sessions", "leased"), 1);
        struct wire *wire = wire_open(life->daemon);
        assert_int_equal(wire_call_int(wire, "holds", "session.resume", "[s]", token), 3);
        json_decref(wire_callf(wire, "get", "[I]", (json_int_t)second));
        wire_check_heap(life->wire);
    }
    /* The token is nowhere in the folder. */
    char path[128];
    size_t len;
    path_of(life, FIRST, path);
    char *text = process_read_file(path, &len);
    assert_null(memmem(text, len, token, strlen(token)));
    assert_non_null(memmem(text, len, "\"leased\"", strlen("\"leased\"")));
    free(text);
    struct wire *last = wire_open(life->daemon);
    assert_int_equal(wire_call_int(last, "holds", "session.resume", "[s]", token), 3);
    assert_int_equal(wire_call_int(last, "released", "session.close", NULL), 3);
    restart(life);
    assert_int_equal(wire_stat(life->wire, "sessions", "leased"), 0);
    assert_int_equal(wire_stat(life->wire, "objects", "live"), 0);
}

/* ---- damage ---- */

static void test_journal_cuts_a_torn_end(void **state)
{
    struct life *life = *state;
    char path[128];
    size_t len;
    json_decref(wire_callf(life->wire, "create", "[[i],s]", 1, "whole"));
    json_decref(wire_callf(life->wire, "create", "[[i],s]", 2, "torn"));
    stop(life);
    path_of(life, FIRST, path);
    char *text = process_read_file(path, &len);
    const char *torn = strstr(text, "\"torn\"");
    assert_int_equal(truncate(path, torn + 3 - text), 0);
    free(text);
    start(life);
    char *log = daemon_log(life->daemon);
    assert_non_null(strstr(log, "torn off at byte"));
    free(log);
    wire_expect(life->wire, "{'id':1,'method':'get','params':['whole']}", "{'id':1,'result':[1]}");
    wire_expect(life->wire, "{'id':2,'method':'get','params':['torn']}", "{'id':2,'error':<error name_error>}");
    compare_over_a_kill(life);
}

static void test_journal_refuses_damage_in_the_middle(void **state)
{
    struct life *life = *state;
    char path[128], says[64];
    size_t len;
    for (int i = 0; i < 10; i++) {
        char name[16];
        snprintf(name, sizeof name, "n%d", i);
        json_decref(wire_callf(life->wire, "create", "[[i],s]", i, name));
    }
    kill_it(life);
    path_of(life, FIRST, path);
    char *text = process_read_file(path, &len);
    char *at = strstr(text, "\"n4\""), *line = at;
    while (line[-1] != '\n') {
        line--;
    }
    int fd = open(path, O_WRONLY);
    assert_int_equal(pwrite(fd, "m", 1, at + 1 - text), 1);
    snprintf(says, sizeof says, "is damaged at byte %zu", (size_t)(line - text));
    expect_no_start(life, says);
    /* It was the damage alone. */
    assert_int_equal(pwrite(fd, "n", 1, at + 1 - text), 1);
    close(fd);
    free(text);
    start(life);
    wire_expect(life->wire, "{'id':1,'method':'get','params':['n9']}", "{'id':1,'result':[9]}");
}

/* ---- whole lines that are missing, files that do not belong there ---- */

/* A file of the folder, in memory. */
struct kept_file {
    char path[128];
    char *text;
    size_t len;
};

static struct kept_file keep_file(const struct life *life, const char *name)
{
    struct kept_file file;
    path_of(life, name, file.path);
    file.text = process_read_file(file.path, &file.len);
    assert_non_null(file.text);
    return file;
}

static void put_file(const struct kept_file *file, const char *text, size_t len)
{
    FILE *stream = fopen(file->path, "wb");
    assert_non_null(stream);
    assert_int_equal(fwrite(text, 1, len, stream), len);
    assert_int_equal(fclose(stream), 0);
}

/* Where the line with the text begins. */
static size_t line_with(const struct kept_file *file, const char *text)
{
    const char *at = memmem(file->text, file->len, text, strlen(text));
    assert_non_null(at);
    while (at > file->text && at[-1] != '\n') {
        at--;
    }
    return (size_t)(at - file->text);
}

/* The start must fail with that file, and say something like that; then the file is as it was. */
static void expect_refusal(struct life *life, const struct kept_file *file, const char *text, size_t len,
                           const char *says)
{
    put_file(file, text, len);
    expect_no_start(life, says);
    put_file(file, file->text, file->len);
}

static void expect_line_missed(struct life *life, const struct kept_file *file, const char *name, const char *says)
{
    size_t at = line_with(file, name), end = at + strcspn(file->text + at, "\n") + 1;
    char *less = malloc(file->len);
    assert_non_null(less);
    memcpy(less, file->text, at);
    memcpy(less + at, file->text + end, file->len - end);
    expect_refusal(life, file, less, file->len - (end - at), says);
    free(less);
}

static void create_names(struct life *life, char prefix)
{
    for (int i = 0; i < 20; i++) {
        char name[16];
        snprintf(name, sizeof name, "%c%02d", prefix, i);
        json_decref(wire_callf(life->wire, "create", "[[i],s]", i, name));
    }
}

/* Three files: of a daemon that was stopped, one that was killed, one that was stopped. */
static void write_three_files(struct life *life)
{
    create_names(life, 'a');
    stop(life);
    start(life);
    create_names(life, 'b');
    restart(life);
    create_names(life, 'c');
    stop(life);
}

static void expect_all_names(struct life *life)
{
    start(life);
    json_t *j_names = wire_callf(life->wire, "name.list", NULL);
    assert_int_equal(json_array_size(json_object_get(j_names, "names")), 60);
    json_decref(j_names);
    wire_check_heap(life->wire);
}

static void test_journal_refuses_what_misses_lines(void **state)
{
    struct life *life = *state;
    write_three_files(life);
    struct kept_file files[] = {keep_file(life, FIRST), keep_file(life, "00000002.journal"),
                                keep_file(life, "00000003.journal")};
    static const char *const names[] = {"\"a07\"", "\"b07\"", "\"c07\""};
    static const char *const refusals[] = {FIRST " is damaged at byte", "00000002.journal is damaged at byte",
                                           "00000003.journal is damaged at byte"};
    for (unsigned i = 0; i < 3; i++) {
        expect_line_missed(life, &files[i], names[i], refusals[i]);
    }
    for (unsigned i = 0; i < 2; i++) {
        const char *says = i == 0 ? "00000002.journal: the line at byte 0" : "00000003.journal: the line at byte 0";
        size_t half = line_with(&files[i], names[i]);
        char *blank = calloc(1, files[i].len);
        assert_non_null(blank);
        memcpy(blank, files[i].text, half);
        expect_refusal(life, &files[i], files[i].text, half, says);
        expect_refusal(life, &files[i], blank, files[i].len, says);
        expect_refusal(life, &files[i], "", 0, says);
        free(blank);
    }
    expect_all_names(life); /* it was the damage alone */
    for (unsigned i = 0; i < 3; i++) {
        free(files[i].text);
    }
}

static void test_journal_refuses_other_files(void **state)
{
    struct life *life = *state, other = {.folder = "/tmp/heapd-data-XXXXXX"};
    write_three_files(life);
    assert_non_null(mkdtemp(other.folder));
    start(&other);
    stop(&other);
    struct kept_file file = keep_file(life, "00000002.journal"), first = keep_file(life, FIRST);
    struct kept_file foreign = keep_file(&other, FIRST);
    expect_refusal(life, &file, foreign.text, foreign.len,
                   "00000002.journal: the line at byte 0 cannot be repeated: the file is of another heap");
    expect_refusal(life, &file, first.text, first.len, "of another number than its name");
    assert_int_equal(unlink(file.path), 0);
    expect_no_start(life, "00000002.journal is missing");
    put_file(&file, file.text, file.len);
    expect_all_names(life);
    free(file.text);
    free(first.text);
    free(foreign.text);
    empty_folder(&other);
}

/* ---- the folder ---- */

/* The number of the newest snapshot; 0: there is none. */
static int snapshot_number(const struct life *life)
{
    int newest = 0, number;
    DIR *folder = opendir(life->folder);
    assert_non_null(folder);
    for (struct dirent *entry; (entry = readdir(folder)) != NULL;) {
        size_t len = strlen(entry->d_name);
        bool is_one = len > 9 && strcmp(entry->d_name + len - 9, ".snapshot") == 0;
        if (is_one && sscanf(entry->d_name, "%d", &number) == 1 && number > newest) {
            newest = number;
        }
    }
    closedir(folder);
    return newest;
}

static void await_snapshot(const struct life *life)
{
    while (snapshot_number(life) == 0) {
        usleep(1000);
    }
}

static void expect_heap_string(struct life *life, char heap[64])
{
    json_t *j_server = wire_callf(life->wire, "stats", "[s]", "server");
    const char *string = json_string_value(json_object_get(j_server, "heap"));
    if (*heap != '\0') {
        assert_string_equal(string, heap);
    }
    snprintf(heap, 64, "%s", string);
    json_decref(j_server);
}

/* It is killed when the snapshot is in place, and its journal has been made, but not written. */
static void test_journal_snapshot_alone_is_the_heap(void **state)
{
    struct life *life = *state;
    char heap[64] = "", name[32], path[128];
    kill_it(life);
    setenv("HEAPD_SNAPSHOT_BYTES", "1", 1);
    start(life);
    unsetenv("HEAPD_SNAPSHOT_BYTES");
    create_names(life, 'a');
    expect_heap_string(life, heap);
    await_snapshot(life);
    stop(life);
    int number = snapshot_number(life);
    for (int file = number; file < number + 50; file++) {
        snprintf(name, sizeof name, "%08d.journal", file);
        path_of(life, name, path);
        assert_true((file == number ? truncate(path, 0) : unlink(path)) == 0 || file > number);
    }
    start(life);
    expect_heap_string(life, heap);
    compare_over_a_kill(life);
    expect_heap_string(life, heap);
}

/* What is left of a snapshot that was not finished is not written through, wherever it leads. */
static void test_journal_snapshot_is_a_file_of_its_own(void **state)
{
    struct life *life = *state;
    char tmp[128], victim[128];
    path_of(life, "00000003.snapshot.tmp", tmp);
    path_of(life, "victim", victim);
    FILE *stream = fopen(victim, "wb");
    assert_non_null(stream);
    fputs("as it was", stream);
    fclose(stream);
    kill_it(life);
    assert_int_equal(symlink(victim, tmp), 0);
    setenv("HEAPD_SNAPSHOT_BYTES", "1", 1);
    start(life);
    unsetenv("HEAPD_SNAPSHOT_BYTES");
    create_names(life, 'a');
    await_snapshot(life);
    size_t len;
    char *text = process_read_file(victim, &len);
    assert_string_equal(text, "as it was");
    free(text);
    compare_over_a_kill(life);
}

static void test_journal_folder_is_nobody_elses(void **state)
{
    struct life *life = *state;
    stop(life);
    assert_int_equal(chmod(life->folder, 0777), 0);
    expect_no_start(life, "everybody may write to");
    assert_int_equal(chmod(life->folder, 0755), 0);
    if (geteuid() == 0) {
        expect_no_start_as(life, "nobody", "belongs to user 0");
        assert_int_equal(chown(life->folder, 65534, (gid_t)-1), 0); /* root may use any */
    }
    start(life);
}

static void test_journal_folder_has_one_daemon(void **state)
{
    struct life *life = *state;
    expect_no_start(life, "is in use by another heapd");
}

#define journal_test(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        journal_test(test_journal_brings_values_and_ids_back),
        journal_test(test_journal_lets_go_of_holds),
        journal_test(test_journal_keeps_effects_of_collections),
        journal_test(test_journal_keeps_ids_that_reads_gave),
        journal_test(test_journal_never_gives_an_id_again),
        journal_test(test_journal_of_what_was_not_kept),
        journal_test(test_journal_brings_leased_sessions_back),
        journal_test(test_journal_cuts_a_torn_end),
        journal_test(test_journal_refuses_damage_in_the_middle),
        journal_test(test_journal_refuses_what_misses_lines),
        journal_test(test_journal_refuses_other_files),
        journal_test(test_journal_snapshot_alone_is_the_heap),
        journal_test(test_journal_snapshot_is_a_file_of_its_own),
        journal_test(test_journal_folder_is_nobody_elses),
        journal_test(test_journal_folder_has_one_daemon),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
