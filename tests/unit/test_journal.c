/* test_journal.c -- every method that changes something: its lines, replayed into an empty heap, make an equal one.
 *
 * A service with a journal in memory runs requests; its lines are loaded by a second service, and what both say of every
 * name and everything below, of refcounts, finalizers and weakrefs is compared.  The same once more from a snapshot.
 */
#include "rpc_fixture.h"

#include <jansson.h>
#include <stdatomic.h>

#include "../../protocol/journal_line.h"

/* ---- a service with a journal in memory ---- */

struct kept {
    struct rpc_fixture *f;
    char *bytes; /* of the journal, 64 readable ones behind */
    size_t len;
};

static void on_wake(void *arg)
{
    (void)arg;
}

static void take_lines(struct kept *kept)
{
    size_t len;
    uint64_t lsn, number;
    char *bytes;
    while ((bytes = rpc_journal_take(kept->f->service, &len, &lsn, &number)) != NULL) {
        kept->bytes = realloc(kept->bytes, kept->len + len + 64);
        assert_non_null(kept->bytes);
        memcpy(kept->bytes + kept->len, bytes, len);
        memset(kept->bytes + kept->len + len, 0, 64);
        kept->len += len;
        rpc_journal_give_back(kept->f->service, bytes);
        rpc_journal_durable(kept->f->service, lsn);
    }
}

/* Each file of those that lie behind one another. */
static void load_journal(struct rpc_service *service, const char *journal, size_t len)
{
    static const char FIRST[] = " {\"heapd\":\"journal\"";
    const size_t crc = JOURNAL_CRC_BYTES - 1;
    for (const char *p = journal, *end = journal + len, *next; p < end; p = next) {
        struct rpc_journal_header header;
        char why[RPC_REASON_BYTES];
        next = memmem(p + crc + 1, (size_t)(end - p) - crc - 1, FIRST, sizeof(FIRST) - 1);
        next = next == NULL ? end : next - crc;
        assert_true(rpc_journal_read_header(&header, p, (size_t)(end - p), why));
        struct rpc_load_file file = {.bytes = p, .len = (size_t)(next - p), .number = header.number, .is_last = next == end};
        enum rpc_load result = rpc_journal_load(service, &file);
        if (result != RPC_LOADED) {
            fail_msg("the journal: %d at byte %zu, %s: %.200s", (int)result, file.good, file.why, p + file.good);
        }
    }
}

/* A service that has loaded the snapshot and the journal, either of which may be NULL; `keeps_back` replies until they
 * are durable, or does not. */
static struct kept *kept_open(bool keeps_back, const char *snapshot, size_t snapshot_len, const char *journal,
                              size_t journal_len)
{
    struct kept *kept = calloc(1, sizeof(*kept));
    struct rpc_limits limits;
    const struct rpc_journal_sink sink = {.arg = kept, .wake = on_wake};
    assert_non_null(kept);
    rpc_limits_default(&limits);
    kept->f = fixture_open(&limits);
    struct rpc_journal_header header = {.number = 0};
    const char *first = snapshot != NULL ? snapshot : journal;
    if (first != NULL) {
        char why[RPC_REASON_BYTES];
        assert_true(rpc_journal_read_header(&header, first, snapshot != NULL ? snapshot_len : journal_len, why));
    }
    assert_true(rpc_journal_begin(kept->f->service, &sink, keeps_back, first != NULL ? header.heap : NULL));
    if (snapshot != NULL) {
        struct rpc_load_file file = {.bytes = snapshot, .len = snapshot_len, .number = header.number};
        enum rpc_load result = rpc_snapshot_load(kept->f->service, &file);
        if (result != RPC_LOADED) {
            fail_msg("the snapshot: %d at byte %zu, %s", (int)result, file.good, file.why);
        }
    }
    if (journal != NULL) {
        load_journal(kept->f->service, journal, journal_len);
    }
    assert_true(rpc_journal_open(kept->f->service, header.number + 1));
    rpc_journal_start(kept->f->service);
    take_lines(kept);
    return kept;
}

static void kept_close(struct kept *kept)
{
    assert_int_equal(rpc_service_check(kept->f->service), 0);
    rpc_conn_destroy(kept->f->conn, "the test is over");
    rpc_thread_destroy(kept->f->thread);
    rpc_journal_close(kept->f->service);
    take_lines(kept);
    rpc_service_destroy(kept->f->service);
    free(kept->f->said);
    pthread_mutex_destroy(&kept->f->mutex);
    pthread_cond_destroy(&kept->f->woken);
    free(kept->f);
    free(kept->bytes);
    free(kept);
}

/* The result of a request; events are passed over.  NULL: it failed. */
static json_t *ask(struct kept *kept, const char *method, json_t *j_params)
{
    json_t *j_request = json_pack("{s:i,s:s,s:o}", "id", 1, "method", method, "params", j_params), *j_result = NULL;
    char *text = json_dumps(j_request, JSON_COMPACT);
    json_decref(j_request);
    fixture_forget(kept->f);
    fixture_feed(kept->f->conn, text, strlen(text));
    fixture_feed(kept->f->conn, "\n", 1);
    fixture_run(kept->f);
    take_lines(kept);
    for (char *line = strtok(kept->f->said, "\n"); line != NULL; line = strtok(NULL, "\n")) {
        json_t *j_reply = json_loads(line, JSON_DECODE_ANY, NULL);
        json_t *j_found = json_object_get(j_reply, "result");
        j_result = j_found != NULL ? json_incref(j_found) : j_result;
        json_decref(j_reply);
    }
    free(text);
    return j_result;
}

static json_t *demand(struct kept *kept, const char *method, json_t *j_params)
{
    json_t *j_result = ask(kept, method, j_params);
    if (j_result == NULL) {
        fail_msg("%s: %s", method, kept->f->said);
    }
    return j_result;
}

static void run(struct kept *kept, const char *method, const char *params)
{
    json_error_t error;
    json_t *j_params = json_loads(params, 0, &error);
    if (j_params == NULL) {
        fail_msg("%s: %s", params, error.text);
    }
    json_decref(demand(kept, method, j_params));
}

/* ---- comparing ---- */

/* Everything that names reach, in the order in which it is met. */
static json_t *picture_of(struct kept *kept)
{
    static const char *const QUESTIONS[] = {"get", "sys.getrefcount", "gc.is_finalized", "gc.is_tracked", "weakref.count",
                                            "type"};
    json_t *j_names = demand(kept, "name.list", json_array()), *j_picture = json_array(), *j_row, *j_id;
    json_t *j_seen = json_object();
    size_t i;
    json_array_foreach(json_object_get(j_names, "names"), i, j_row)
    {
        json_array_append(j_picture, j_row);
    }
    for (size_t at = 0; at < json_array_size(j_picture); at++) {
        j_id = json_object_get(json_array_get(j_picture, at), "object");
        char key[32];
        snprintf(key, sizeof(key), "%lld", (long long)json_integer_value(j_id));
        if (json_object_get(j_seen, key) != NULL) {
            continue;
        }
        json_object_set_new(j_seen, key, json_true());
        for (size_t q = 0; q < sizeof(QUESTIONS) / sizeof(QUESTIONS[0]); q++) {
            json_object_set_new(json_array_get(j_picture, at), QUESTIONS[q],
                                demand(kept, QUESTIONS[q], json_pack("[O]", j_id)));
        }
        json_t *j_inspect = demand(kept, "heap.inspect", json_pack("[O]", j_id));
        json_object_set(json_array_get(j_picture, at), "finalizer", json_object_get(j_inspect, "finalizer"));
        json_object_set(json_array_get(j_picture, at), "interned", json_object_get(j_inspect, "interned"));
        json_decref(j_inspect);
        json_t *j_below = demand(kept, "gc.get_referents", json_pack("[O]", j_id));
        json_array_foreach(json_object_get(j_below, "objects"), i, j_row)
        {
            json_array_append_new(j_picture, json_pack("{s:O}", "object", j_row));
        }
        json_decref(j_below);
    }
    json_decref(j_seen);
    json_decref(j_names);
    return j_picture;
}

/* `j_first`, which lists and so gives ids, is of before the other one was loaded. */
static void expect_equal(json_t *j_first, struct kept *other, const char *how)
{
    json_t *j_second = picture_of(other);
    if (!json_equal(j_first, j_second)) {
        char *first = json_dumps(j_first, JSON_COMPACT | JSON_SORT_KEYS);
        char *second = json_dumps(j_second, JSON_COMPACT | JSON_SORT_KEYS);
        size_t at = 0;
        while (first[at] != '\0' && first[at] == second[at]) {
            at++;
        }
        at = at > 300 ? at - 300 : 0;
        print_error("was: %.600s\nis:  %.600s\n", first + at, second + at);
        fail_msg("%s is not as it was", how);
    }
    json_decref(j_second);
}

/* A snapshot of now: its bytes. */
static char *snapshot_of(struct kept *kept, size_t *len)
{
    const _Atomic bool never = false;
    struct rpc_snapshot *snapshot = rpc_snapshot_begin(kept->f->service, 3, &never);
    enum rpc_snapshot_progress progress = RPC_SNAPSHOT_GOES_ON;
    char *all = NULL, *piece;
    size_t piece_len;
    *len = 0;
    assert_non_null(snapshot);
    while (progress == RPC_SNAPSHOT_GOES_ON) {
        progress = rpc_snapshot_step(snapshot, &piece, &piece_len);
        all = realloc(all, *len + piece_len + 64);
        memcpy(all + *len, piece, piece_len);
        *len += piece_len;
        memset(all + *len, 0, 64);
        free(piece);
    }
    assert_int_equal(progress, RPC_SNAPSHOT_DONE);
    rpc_snapshot_end(snapshot);
    return all;
}

/* The journal so far, and a snapshot, each make a heap like this one. */
static void replay_and_compare(struct kept *kept)
{
    json_t *j_before = picture_of(kept);
    struct kept *again = kept_open(false, NULL, 0, kept->bytes, kept->len);
    expect_equal(j_before, again, "the replayed heap");
    kept_close(again);
    size_t len;
    char *snapshot = snapshot_of(kept, &len);
    again = kept_open(false, snapshot, len, NULL, 0);
    expect_equal(j_before, again, "the heap of the snapshot");
    json_decref(j_before);
    kept_close(again);
    free(snapshot);
}

/* ---- the methods ---- */

/* Requests that succeed, each method that lasts among them. */
static const struct {
    const char *method, *params;
} REQUESTS[] = {
    {"create", "[[1,2000,\"text\",[3],{\"k\":\"v\"}],\"list\"]"},
    {"create", "[{\"a\":1,\"b\":[2]},\"dict\"]"},
    {"create", "[{\"$set\":[1,\"two\",{\"$tuple\":[3,{\"$frozenset\":[{\"$frozenset\":[4]},5]}]}]},\"set\"]"},
    {"create", "[{\"$dict\":[[{\"$tuple\":[1,\"x1\"]},1],[2.5,null],[\"$odd\",{\"$bytes\":\"AAECAw==\"}]]},\"odd\"]"},
    {"create", "[{\"$class\":\"Point\",\"slots\":[\"x\",\"y\"]},\"Point\"]"},
    {"create", "[{\"$class\":\"Open\"},\"Open\"]"},
    {"create", "[{\"$instance\":\"Point\",\"attrs\":{\"y\":[1]}},\"p\"]"},
    {"create", "[{\"$instance\":\"Open\",\"attrs\":{\"b\":1,\"a\":\"longer text\"}},\"o\"]"},
    {"create", "[{\"$let\":{\"A\":[{\"$label\":\"A\"},{\"$label\":\"B\"}],\"B\":{\"$tuple\":[{\"$label\":\"A\"}]}},"
               "\"in\":{\"$label\":\"B\"}},\"ring\"]"},
    {"create", "[[{\"$weakref\":\"p\"},{\"$weakref\":null},{\"$float\":\"nan\"},{\"$int\":\"-123456789012345678901234567890\"}],"
               "\"weak\"]"},
    {"create", "{\"value\":\"held and named\",\"name\":\"text\",\"hold\":true}"},
    {"create", "[null,\"nothing\"]"},
    {"ref", "[\"list\"]"},
    {"ref", "[\"list\"]"},
    {"unref", "[\"list\"]"},
    {"name.bind", "[\"alias\",\"dict\"]"},
    {"name.bind", "[\"alias2\",\"p\"]"},
    {"name.unbind", "[\"alias2\"]"},
    {"list.append", "[\"list\",[9]]"},
    {"list.extend", "[\"list\",[\"e1\",\"e2\"]]"},
    {"list.insert", "[\"list\",0,{\"$ref\":\"dict\"}]"},
    {"list.setitem", "[\"list\",1,\"set\"]"},
    {"list.delitem", "[\"list\",2]"},
    {"list.pop", "[\"list\",0]"},
    {"list.pop", "{\"object\":\"list\",\"hold\":false}"},
    {"list.getitem", "[\"list\",1]"},
    {"list.getitem", "{\"object\":\"list\",\"index\":2,\"hold\":true}"},
    {"create", "[[1],\"cleared\"]"},
    {"list.clear", "[\"cleared\"]"},
    {"dict.setitem", "[\"dict\",\"c\",{\"$ref\":\"list\"}]"},
    {"dict.setitem", "[\"dict\",7.0,\"seven\"]"},
    {"dict.getitem", "[\"dict\",7]"},
    {"dict.setdefault", "[\"dict\",\"d\",[4]]"},
    {"dict.setdefault", "{\"object\":\"dict\",\"key\":\"d\",\"value\":[5],\"hold\":true}"},
    {"dict.delitem", "[\"dict\",\"a\"]"},
    {"dict.pop", "[\"dict\",\"b\"]"},
    {"dict.update", "[\"dict\",{\"u\":1,\"v\":\"w\"}]"},
    {"dict.incr", "[\"dict\",\"n\",5000]"},
    {"dict.incr", "[\"dict\",\"n\"]"},
    {"dict.keys", "[\"odd\"]"},
    {"create", "[{\"x\":1},\"emptied\"]"},
    {"dict.clear", "[\"emptied\"]"},
    {"set.add", "[\"set\",\"three\"]"},
    {"set.add", "[\"set\",1.0]"},
    {"set.discard", "[\"set\",\"two\"]"},
    {"create", "[{\"$set\":[1]},\"noset\"]"},
    {"set.clear", "[\"noset\"]"},
    {"attr.set", "[\"o\",\"c\",[1,2]]"},
    {"attr.set", "[\"p\",\"x\",7000]"},
    {"attr.get", "[\"o\",\"a\"]"},
    {"attr.del", "[\"o\",\"b\"]"},
    {"sys.intern", "[\"interned text\"]"},
    {"name.lookup", "{\"name\":\"text\",\"hold\":true}"},
    {"name.list", "[]"},
    {"get", "[\"list\",-1]"},
    {"gc.get_referents", "[\"list\"]"},
    {"weakref.create", "[\"o\"]"},
    {"weakref.create", "[\"o\",true]"},
    {"weakref.get", "[\"alias3\"]"},
    {"finalizer.set", "[\"o\",\"token\",\"reborn\",true]"},
    {"finalizer.set", "[\"p\",\"gone\"]"},
    {"finalizer.clear", "[\"p\"]"},
    {"create", "[[1,2],\"dies\"]"},
    {"finalizer.set", "[\"dies\",\"token\",\"reborn\"]"},
    {"name.unbind", "[\"dies\"]"},
    {"gc.set_debug", "[[\"saveall\"]]"},
    {"create", "[{\"$let\":{\"A\":[{\"$label\":\"A\"},\"kept\"]},\"in\":{\"$label\":\"A\"}},\"loop\"]"},
    {"name.unbind", "[\"loop\"]"},
    {"collect", "[]"},
    {"gc.set_debug", "[[]]"},
    {"gc.garbage", "[]"},
    {"gc.garbage", "[true]"},
    {"collect", "[]"},
};
#define REQUEST_COUNT (sizeof(REQUESTS) / sizeof(REQUESTS[0]))

/* Whether the table of requests has the method. */
static bool is_tried(const char *method)
{
    for (size_t i = 0; i < REQUEST_COUNT; i++) {
        if (strcmp(REQUESTS[i].method, method) == 0) {
            return true;
        }
    }
    return false;
}

static void test_journal_keeps_every_method(void **state)
{
    (void)state;
    struct kept *kept = kept_open(false, NULL, 0, NULL, 0);
    for (size_t i = 0; i < REQUEST_COUNT; i++) {
        if (strcmp(REQUESTS[i].method, "weakref.get") == 0) {
            json_t *j_weak = demand(kept, "list.getitem", json_pack("[s,i]", "weak", 0));
            json_decref(demand(kept, "weakref.get", json_pack("[O]", json_object_get(j_weak, "object"))));
            json_decref(j_weak);
            continue;
        }
        run(kept, REQUESTS[i].method, REQUESTS[i].params);
        if (i % 8 == 7) {
            /* Holds go with the session: what only they keep is not compared. */
            run(kept, "session.close", "[]");
            replay_and_compare(kept);
        }
    }
    run(kept, "session.close", "[]");
    run(kept, "collect", "[]");
    replay_and_compare(kept);
    kept_close(kept);
}

/* A method of role `write` lasts, or is one of those that a restart forgets. */
static void test_journal_knows_what_every_method_does(void **state)
{
    static const char *const FORGOTTEN[] = {"gc.set_threshold", "gc.enable",           "gc.disable", "gc.freeze",
                                            "gc.unfreeze",      "sys.setswitchinterval", "gc.set_debug", "heap.mark"};
    (void)state;
    for (unsigned i = 0; i < METHOD_COUNT; i++) {
        const struct method *method = &METHODS[i];
        bool is_forgotten = false;
        for (size_t k = 0; k < sizeof(FORGOTTEN) / sizeof(FORGOTTEN[0]); k++) {
            is_forgotten |= strcmp(FORGOTTEN[k], method->name) == 0;
        }
        if (method->role == ROLE_WRITE && (method->lasts == LASTS_NOT) != is_forgotten) {
            fail_msg("%s: does it last?", method->name);
        }
        if ((method->lasts == LASTS || method->lasts == LASTS_IF_SEEN) && !is_tried(method->name)) {
            fail_msg("%s lasts, and is not tried here", method->name);
        }
    }
}

/* Cycles with finalizers, collected: one clears, one is brought back and dies later, one only tells. */
static void test_journal_of_condemned_finalizers(void **state)
{
    (void)state;
    static const char *const ENDS[] = {"{\"object\":\"ring\",\"clear\":true}", "{\"object\":\"ring\",\"resurrect_as\":\"back\"}",
                                       "{\"object\":\"ring\",\"token\":\"t\"}"};
    struct kept *kept = kept_open(false, NULL, 0, NULL, 0);
    for (unsigned i = 0; i < sizeof(ENDS) / sizeof(ENDS[0]); i++) {
        run(kept, "create", "[{\"$let\":{\"a\":[{\"$label\":\"b\"},1000],\"b\":{\"k\":{\"$label\":\"a\"}}},\"in\":{\"$label\":\"a\"}},\"ring\"]");
        run(kept, "finalizer.set", ENDS[i]);
        run(kept, "name.unbind", "[\"ring\"]");
        run(kept, "session.close", "[]");
        run(kept, "collect", "[]"); /* a start collects, too: without this it would do so first */
        replay_and_compare(kept);
    }
    run(kept, "name.unbind", "[\"back\"]"); /* its finalizer has run */
    run(kept, "collect", "[]");
    replay_and_compare(kept);
    kept_close(kept);
}

/* ---- changes while a snapshot is written ---- */

static void test_journal_snapshot_is_of_one_moment(void **state)
{
    (void)state;
    const _Atomic bool never = false;
    struct kept *kept = kept_open(false, NULL, 0, NULL, 0);
    for (int i = 0; i < 2000; i++) {
        char params[128];
        snprintf(params, sizeof(params), "[[%d,\"text %d\",[%d]],\"n%d\"]", i + 1000, i % 7, i, i);
        run(kept, "create", params);
    }
    run(kept, "create", "[{\"count\":5},\"counter\"]");
    struct rpc_snapshot *snapshot = rpc_snapshot_begin(kept->f->service, 3, &never);
    assert_non_null(snapshot);
    size_t before = kept->len;
    take_lines(kept);
    /* Everything changes before the walk has seen it. */
    for (int i = 0; i < 2000; i++) {
        char params[128];
        snprintf(params, sizeof(params), i % 3 == 0 ? "[\"n%d\"]" : i % 3 == 1 ? "[\"n%d\",[1]]" : "[\"n%d\",0]", i);
        run(kept, i % 3 == 0 ? "name.unbind" : i % 3 == 1 ? "list.append" : "list.pop", params);
    }
    run(kept, "dict.incr", "[\"counter\",\"count\"]");
    run(kept, "session.close", "[]");
    char *all = NULL, *piece;
    size_t len = 0, piece_len;
    enum rpc_snapshot_progress progress = RPC_SNAPSHOT_GOES_ON;
    while (progress == RPC_SNAPSHOT_GOES_ON) {
        progress = rpc_snapshot_step(snapshot, &piece, &piece_len);
        all = realloc(all, len + piece_len + 64);
        memcpy(all + len, piece, piece_len);
        len += piece_len;
        memset(all + len, 0, 64);
        free(piece);
    }
    rpc_snapshot_end(snapshot);
    take_lines(kept);
    json_t *j_before = picture_of(kept);
    struct kept *again = kept_open(false, all, len, kept->bytes + before, kept->len - before);
    expect_equal(j_before, again, "snapshot and journal together");
    json_decref(j_before);
    kept_close(again);
    kept_close(kept);
    free(all);
}

/* ---- lines ---- */

static void test_journal_line_is_sound_as_it_was_written(void **state)
{
    (void)state;
    char mark[RPC_JOURNAL_MARK_BYTES];
    size_t len = rpc_journal_mark(mark, 4711, 4800);
    assert_int_equal(mark[len - 1], '\n');
    assert_true(line_is_sound(mark, len - 1));
    for (size_t i = 0; i + 1 < len; i++) {
        mark[i] ^= 1;
        assert_false(line_is_sound(mark, len - 1));
        mark[i] ^= 1;
        assert_false(line_is_sound(mark, i));
    }
}

/* A turn whose replies nobody takes. */
static void run_unheard(struct kept *kept)
{
    while (rpc_thread_run(kept->f->thread)) {
    }
    while (rpc_thread_next(kept->f->thread) != NULL) {
    }
}

/* Gives the connection a message, and runs it. */
static void run_message(struct kept *kept, struct rpc_conn *conn, const char *text)
{
    assert_true(rpc_conn_message_add(conn, text, strlen(text)));
    rpc_conn_message_end(conn, NULL, 0);
    run_unheard(kept);
    assert_false(rpc_conn_is_waiting(conn));
}

/* That a message has run is only told when it is durable, whether there are words to say it with or none. */
static void test_journal_keeps_back_messages(void **state)
{
    static const char *const messages[] = {
        "{\"id\":1,\"method\":\"create\",\"params\":{\"value\":[1],\"name\":\"a\"}}",
        "{\"method\":\"create\",\"params\":{\"value\":[2],\"name\":\"b\"}}",
        "[{\"method\":\"create\",\"params\":{\"value\":[3],\"name\":\"c\"}}]",
    };
    struct kept *kept = kept_open(true, NULL, 0, NULL, 0);
    struct rpc_conn *conn = rpc_conn_create(kept->f->thread, 100, &fixture_peer, kept);
    const char *begun;
    size_t len;
    (void)state;
    assert_non_null(conn);
    rpc_conn_take_messages(conn, &begun, &len);
    for (size_t i = 0; i < sizeof messages / sizeof messages[0]; i++) {
        run_message(kept, conn, messages[i]);
        assert_true(rpc_conn_is_kept_back(conn));
        rpc_conn_output(conn, &len);
        assert_int_equal(len, 0);
        take_lines(kept);
        run_unheard(kept);
        assert_false(rpc_conn_is_kept_back(conn));
        rpc_conn_output(conn, &len);
        assert_int_equal(len > 0, i == 0);
        rpc_conn_sent(conn, len);
        rpc_conn_message_taken(conn);
        run_unheard(kept);
        take_lines(kept);
    }
    /* What is durable already is told at once. */
    run_message(kept, conn, "{\"method\":\"ping\"}");
    assert_false(rpc_conn_is_kept_back(conn));
    rpc_conn_destroy(conn, "the test is over");
    run_unheard(kept);
    kept_close(kept);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_journal_keeps_every_method),
        cmocka_unit_test(test_journal_knows_what_every_method_does),
        cmocka_unit_test(test_journal_of_condemned_finalizers),
        cmocka_unit_test(test_journal_snapshot_is_of_one_moment),
        cmocka_unit_test(test_journal_line_is_sound_as_it_was_written),
        cmocka_unit_test(test_journal_keeps_back_messages),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
