/* test_journal_damage.c -- files of which whole lines are missing, or which are not those that belong there, do not load.
 *
 * A service writes files as the daemon does with --fsync always: a mark behind each piece.  Then each line in turn is
 * taken out, each file is cut, blanked or exchanged; what is left is loaded by another service.
 */
#include "rpc_fixture.h"

#include <stdatomic.h>

#include "../../protocol/journal_line.h"
#include "../../protocol/rpc_internal.h"

#define FILES 4
#define READABLE 64 /* bytes behind a file, as rpc.h demands */

struct file {
    char *bytes;
    size_t len;
};

/* What a data folder holds: journals from `first` on, and a snapshot of that number or none. */
struct folder {
    struct file journals[FILES], snapshot;
    uint64_t first, last;
};

static void add(struct file *file, const char *bytes, size_t len)
{
    file->bytes = realloc(file->bytes, file->len + len + READABLE);
    assert_non_null(file->bytes);
    memcpy(file->bytes + file->len, bytes, len);
    file->len += len;
    memset(file->bytes + file->len, 0, READABLE);
}

static void add_mark(struct file *file)
{
    char mark[RPC_JOURNAL_MARK_BYTES];
    add(file, mark, rpc_journal_mark(mark, file->len, file->len));
}

static struct file copy_of(const struct file *file)
{
    struct file copy = {0};
    add(&copy, file->bytes, file->len);
    return copy;
}

static struct file *journal_of(struct folder *folder, uint64_t number)
{
    assert_in_range(number, 1, FILES);
    return &folder->journals[number - 1];
}

static void folder_free(struct folder *folder)
{
    for (unsigned i = 0; i < FILES; i++) {
        free(folder->journals[i].bytes);
    }
    free(folder->snapshot.bytes);
    *folder = (struct folder){0};
}

/* ---- writing ---- */

static void on_wake(void *arg)
{
    (void)arg;
}

static void take_lines(struct rpc_service *service, struct folder *folder)
{
    size_t len;
    uint64_t lsn, number;
    char *bytes;
    while ((bytes = rpc_journal_take(service, &len, &lsn, &number)) != NULL) {
        struct file *file = journal_of(folder, number);
        add(file, bytes, len);
        add_mark(file);
        folder->last = number;
        rpc_journal_give_back(service, bytes);
        rpc_journal_durable(service, lsn);
    }
}

static void write_snapshot(struct rpc_service *service, struct folder *folder)
{
    const _Atomic bool never = false;
    enum rpc_snapshot_progress progress = RPC_SNAPSHOT_GOES_ON;
    folder->first = folder->last + 1;
    folder->snapshot.len = 0;
    struct rpc_snapshot *snapshot = rpc_snapshot_begin(service, folder->first, &never);
    assert_non_null(snapshot);
    while (progress == RPC_SNAPSHOT_GOES_ON) {
        char *piece;
        size_t len;
        progress = rpc_snapshot_step(snapshot, &piece, &len);
        add(&folder->snapshot, piece, len);
        free(piece);
    }
    assert_int_equal(progress, RPC_SNAPSHOT_DONE);
    rpc_snapshot_end(snapshot);
    take_lines(service, folder);
}

/* ---- loading ---- */

static const char *heap_of(const struct folder *folder, struct rpc_journal_header *header)
{
    char why[RPC_REASON_BYTES];
    const struct file *files[FILES + 1] = {&folder->snapshot};
    for (unsigned i = 0; i < FILES; i++) {
        files[i + 1] = &folder->journals[i];
    }
    for (unsigned i = 0; i <= FILES; i++) {
        if (files[i]->len > 0 && rpc_journal_read_header(header, files[i]->bytes, files[i]->len, why)) {
            return header->heap;
        }
    }
    return NULL;
}

static enum rpc_load load_file(struct rpc_service *service, const struct file *file, uint64_t number, bool is_snapshot,
                               bool is_last)
{
    struct rpc_load_file load = {.bytes = file->bytes, .len = file->len, .number = number, .is_last = is_last};
    enum rpc_load result = is_snapshot ? rpc_snapshot_load(service, &load) : rpc_journal_load(service, &load);
    assert_true(load.good <= load.len);
    assert_true(result != RPC_LOAD_FAILED || load.why[0] != '\0');
    return result;
}

static enum rpc_load load_all(struct rpc_service *service, struct folder *folder)
{
    enum rpc_load result = RPC_LOADED;
    if (folder->snapshot.bytes != NULL) {
        result = load_file(service, &folder->snapshot, folder->first, true, false);
    }
    for (uint64_t number = folder->first; result == RPC_LOADED && number != 0 && number <= folder->last; number++) {
        struct file *file = journal_of(folder, number);
        if (file->bytes == NULL) {
            add(file, "", 0);
        }
        result = load_file(service, file, number, false, number == folder->last);
    }
    return result;
}

static struct rpc_fixture *begin(const struct folder *folder)
{
    struct rpc_journal_header header;
    const struct rpc_journal_sink sink = {.arg = NULL, .wake = on_wake};
    struct rpc_limits limits;
    rpc_limits_default(&limits);
    struct rpc_fixture *f = fixture_open(&limits);
    assert_true(rpc_journal_begin(f->service, &sink, false, heap_of(folder, &header)));
    return f;
}

static void end(struct rpc_fixture *f, struct folder *folder)
{
    rpc_conn_destroy(f->conn, "the test is over");
    rpc_thread_destroy(f->thread);
    if (folder != NULL) {
        rpc_journal_close(f->service);
        take_lines(f->service, folder);
    }
    rpc_service_destroy(f->service);
    free(f->said);
    pthread_mutex_destroy(&f->mutex);
    pthread_cond_destroy(&f->woken);
    free(f);
}

/* What a start would do with it. */
static enum rpc_load try_folder(struct folder *folder)
{
    struct rpc_fixture *f = begin(folder);
    enum rpc_load result = load_all(f->service, folder);
    end(f, NULL);
    return result;
}

/* One life of a daemon: loads the folder, and goes on in its next file. */
static struct rpc_fixture *start(struct folder *folder)
{
    struct rpc_fixture *f = begin(folder);
    assert_int_equal(load_all(f->service, folder), RPC_LOADED);
    folder->first = folder->first == 0 ? 1 : folder->first;
    assert_true(rpc_journal_open(f->service, folder->last + 1));
    rpc_journal_start(f->service);
    take_lines(f->service, folder);
    return f;
}

static void run(struct rpc_fixture *f, struct folder *folder, const char *request)
{
    fixture_forget(f);
    fixture_feed(f->conn, request, strlen(request));
    fixture_feed(f->conn, "\n", 1);
    fixture_run(f);
    assert_non_null(strstr(f->said, "\"result\""));
    take_lines(f->service, folder);
}

/* Names of three kinds, none of which needs another one. */
static void create_some(struct rpc_fixture *f, struct folder *folder, const char *prefix)
{
    static const char *const values[] = {"[1,2]", "{\"k\":[3]}", "\"text\"", "5000", "{\"$class\":\"C\"}"};
    for (unsigned i = 0; i < 10; i++) {
        char request[256];
        snprintf(request, sizeof(request), "{\"id\":1,\"method\":\"create\",\"params\":[%s,\"%s%u\"]}", values[i % 5],
                 prefix, i);
        run(f, folder, request);
    }
}

/* Three lives. */
static void write_folder(struct folder *folder)
{
    *folder = (struct folder){0};
    for (const char *prefix = "abc"; *prefix != '\0'; prefix++) {
        struct rpc_fixture *f = start(folder);
        create_some(f, folder, prefix);
        end(f, folder);
    }
    assert_int_equal(folder->last, 3);
    assert_int_equal(try_folder(folder), RPC_LOADED);
}

/* ---- damage ---- */

/* The length of the line at `at`, with its newline. */
static size_t line_at(const struct file *file, size_t at)
{
    const char *newline = memchr(file->bytes + at, '\n', file->len - at);
    assert_non_null(newline);
    return (size_t)(newline - file->bytes) + 1 - at;
}

static bool is_mark(const struct file *file, size_t at)
{
    return memmem(file->bytes + at, line_at(file, at), "\"durable\"", strlen("\"durable\"")) != NULL;
}

static void expect_refusal(struct folder *folder, struct file *file, struct file damaged, const char *what, size_t at)
{
    struct file whole = *file;
    *file = damaged;
    enum rpc_load result = try_folder(folder);
    if (result != RPC_LOAD_DAMAGED && result != RPC_LOAD_FAILED) {
        fail_msg("%s at byte %zu of a file was not seen: %d", what, at, (int)result);
    }
    free(file->bytes);
    *file = whole;
}

/* Each of its lines that is no mark is taken out, and is there twice. */
static void damage_lines(struct folder *folder, struct file *file)
{
    for (size_t at = 0, len; at < file->len; at += len) {
        struct file less = {0}, more = {0};
        len = line_at(file, at);
        if (!is_mark(file, at)) {
            add(&less, file->bytes, at);
            add(&less, file->bytes + at + len, file->len - at - len);
            expect_refusal(folder, file, less, "a line taken out", at);
            add(&more, file->bytes, at + len);
            add(&more, file->bytes + at, file->len - at);
            expect_refusal(folder, file, more, "a line that is there twice", at);
        }
    }
}

/* It ends at each of its lines, with nothing or zeros behind. */
static void damage_end(struct folder *folder, struct file *file)
{
    for (size_t at = 0; at < file->len; at += line_at(file, at)) {
        struct file cut = {0}, blank = copy_of(file);
        if (is_mark(file, at) && at + line_at(file, at) == file->len) {
            free(blank.bytes);
            break; /* a last mark alone is no loss */
        }
        add(&cut, file->bytes, at);
        expect_refusal(folder, file, cut, "a cut", at);
        memset(blank.bytes + at, 0, file->len - at);
        expect_refusal(folder, file, blank, "zeros", at);
    }
}

static void test_journal_damage_of_lines_is_seen(void **state)
{
    struct folder folder;
    (void)state;
    write_folder(&folder);
    for (uint64_t number = 1; number <= folder.last; number++) {
        damage_lines(&folder, journal_of(&folder, number));
    }
    folder_free(&folder);
}

static void test_journal_damage_of_an_older_end_is_seen(void **state)
{
    struct folder folder;
    (void)state;
    write_folder(&folder);
    for (uint64_t number = 1; number < folder.last; number++) {
        damage_end(&folder, journal_of(&folder, number));
    }
    folder_free(&folder);
}

static void test_journal_damage_of_a_wrong_file_is_seen(void **state)
{
    struct folder folder, other;
    (void)state;
    write_folder(&folder);
    write_folder(&other);
    for (uint64_t number = 1; number <= folder.last; number++) {
        expect_refusal(&folder, journal_of(&folder, number), copy_of(journal_of(&other, number)), "another heap", number);
        for (uint64_t from = 1; from <= folder.last; from++) {
            if (from != number) {
                expect_refusal(&folder, journal_of(&folder, number), copy_of(journal_of(&folder, from)), "another number", from);
            }
        }
    }
    folder_free(&other);
    folder_free(&folder);
}

/* A first line with the text, in front of the other lines of the file. */
static struct file with_header(const struct file *file, const char *text)
{
    struct file changed = {0};
    struct out out;
    out_init(&out, 0);
    size_t start = line_begin(&out), first = line_at(file, 0);
    out_text(&out, text);
    line_end(&out, start);
    add(&changed, out.data, out.len);
    add(&changed, file->bytes + first, file->len - first);
    out_fini(&out);
    return changed;
}

static void test_journal_damage_of_a_first_line_is_seen(void **state)
{
    static const char *const texts[] = {
        "{\"heapd\":\"journal\",\"version\":1,\"heap\":\"%s\",\"number\":2,\"generations\":32}", /* an older heapd's */
        "{\"heapd\":\"journal\",\"version\":2,\"heap\":\"%s\",\"number\":2,\"generations\":32}",
        "{\"heapd\":\"snapshot\",\"version\":2,\"heap\":\"%s\",\"number\":2,\"before\":%s,\"generations\":32}",
        "{\"heapd\":\"journal\",\"version\":2,\"heap\":\"%s\",\"number\":2,\"before\":1,\"generations\":32}",
        "{\"effect\":\"released\",\"session\":9}",
    };
    struct folder folder;
    struct rpc_journal_header header;
    (void)state;
    write_folder(&folder);
    struct file *file = journal_of(&folder, 2);
    const char *before = strstr(file->bytes, "\"before\":") + strlen("\"before\":");
    char right[24] = {0};
    memcpy(right, before, strspn(before, "0123456789"));
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        char text[256];
        snprintf(text, sizeof(text), texts[i], heap_of(&folder, &header), right);
        expect_refusal(&folder, file, with_header(file, text), text, i);
    }
    folder_free(&folder);
}

/* What a crash leaves is no damage: a file without a first line, torn ends that were cut off, zeros that were set aside. */
static void test_journal_damage_is_not_what_crashes_leave(void **state)
{
    struct folder folder = {.first = 1, .last = 1};
    char zeros[100] = {0};
    (void)state;
    add(journal_of(&folder, 1), zeros, sizeof(zeros));
    struct rpc_fixture *f = start(&folder);
    create_some(f, &folder, "a");
    end(f, &folder);
    struct file *file = journal_of(&folder, 2);
    file->len -= line_at(file, 0); /* somewhere within a line */
    assert_int_equal(try_folder(&folder), RPC_LOAD_TORN);
    while (file->bytes[file->len - 1] != '\n') {
        file->len--;
    }
    add(file, "\nx", 2); /* an empty line, which the search for later lines did not get past */
    assert_int_equal(try_folder(&folder), RPC_LOAD_TORN);
    file->len -= 2;
    add(file, zeros, sizeof(zeros));
    add(journal_of(&folder, 3), "", 0); /* begun, and never written to */
    folder.last = 3;
    f = start(&folder);
    create_some(f, &folder, "b");
    end(f, &folder);
    assert_int_equal(folder.last, 4);
    assert_int_equal(try_folder(&folder), RPC_LOADED);
    damage_lines(&folder, journal_of(&folder, 4));
    folder_free(&folder);
}

/* Nor is what a collection in slices leaves: a line for each slice, while what hangs on the first object dies with it. */
static void test_journal_damage_is_not_what_slices_leave(void **state)
{
    struct folder folder = {0};
    (void)state;
    struct rpc_fixture *f = start(&folder);
    heap_enter(f->service->heap);
    heap_set_slice(f->service->heap, 500, 1);
    heap_leave(f->service->heap);
    run(f, &folder, "{\"id\":1,\"method\":\"create\",\"params\":[[],\"a\"]}");
    run(f, &folder, "{\"id\":1,\"method\":\"list.extend\",\"params\":[\"a\",[[],[[]],{\"k\":[]},[],[],[]]]}");
    run(f, &folder, "{\"id\":1,\"method\":\"list.append\",\"params\":[\"a\",{\"$ref\":\"a\"}]}");
    run(f, &folder, "{\"id\":1,\"method\":\"name.unbind\",\"params\":[\"a\"]}");
    run(f, &folder, "{\"id\":1,\"method\":\"collect\",\"params\":[2]}");
    assert_non_null(strstr(f->said, "\"unreachable\":9"));
    assert_non_null(strstr(folder.journals[0].bytes, "{\"effect\":\"swept\",\"ids\":[1,1]}")); /* in front of the others */
    run(f, &folder, "{\"id\":1,\"method\":\"create\",\"params\":[[],\"kept\"]}");
    end(f, &folder);
    assert_int_equal(try_folder(&folder), RPC_LOADED);
    folder_free(&folder);
}

static void test_journal_damage_of_a_snapshot_is_seen(void **state)
{
    struct folder folder = {0};
    (void)state;
    struct rpc_fixture *f = start(&folder);
    create_some(f, &folder, "a");
    run(f, &folder, "{\"id\":1,\"method\":\"create\",\"params\":[{\"$tuple\":[7,[8]]},null,true]}");
    write_snapshot(f->service, &folder);
    create_some(f, &folder, "b");
    end(f, &folder);
    assert_int_equal(try_folder(&folder), RPC_LOADED);
    f = start(&folder); /* the next file, too, goes on counting */
    create_some(f, &folder, "c");
    end(f, &folder);
    assert_int_equal(try_folder(&folder), RPC_LOADED);
    damage_lines(&folder, &folder.snapshot);
    damage_end(&folder, &folder.snapshot);
    struct file more = copy_of(&folder.snapshot);
    add_mark(&more);
    expect_refusal(&folder, &folder.snapshot, more, "something behind the end", folder.snapshot.len);
    damage_lines(&folder, journal_of(&folder, folder.first));
    damage_end(&folder, journal_of(&folder, folder.first));
    expect_refusal(&folder, &folder.snapshot, copy_of(journal_of(&folder, folder.first)), "no snapshot", 0);
    folder_free(&folder);
}

/* Loads a file of these lines, each of which gets its checksum. */
static enum rpc_load load_by_hand(const char *kind, const char *lines)
{
    bool is_snapshot = strcmp(kind, "snapshot") == 0;
    struct folder folder = {.first = 1};
    struct file file = {0};
    struct out out;
    struct rpc_fixture *f = begin(&folder);
    out_init(&out, 0);
    line_write_header(&out, f->service, kind, 1, false);
    while (*lines != '\0') {
        size_t len = strcspn(lines, "\n"), start = line_begin(&out);
        out_bytes(&out, lines, len);
        line_end(&out, start);
        lines += len + 1;
    }
    if (is_snapshot) {
        size_t start = line_begin(&out);
        out_text(&out, "{\"end\":");
        out_u64(&out, start);
        out_char(&out, '}');
        line_end(&out, start);
    }
    add(&file, out.data, out.len);
    out_fini(&out);
    enum rpc_load result = load_file(f->service, &file, 1, is_snapshot, true);
    if (result == RPC_LOADED) {
        assert_true(rpc_journal_open(f->service, 2));
        rpc_journal_start(f->service);
        take_lines(f->service, &folder);
        run(f, &folder, "{\"id\":1,\"method\":\"create\",\"params\":[[],\"new\"]}");
        assert_int_equal(rpc_service_check(f->service), 0);
    }
    end(f, result == RPC_LOADED ? &folder : NULL);
    folder_free(&folder);
    free(file.bytes);
    return result;
}

static void try_by_hand(const char *kind, const char *const texts[], size_t count, enum rpc_load expected)
{
    for (size_t i = 0; i < count; i++) {
        enum rpc_load result = load_by_hand(kind, texts[i]);
        if (result != expected) {
            fail_msg("%d of this %s: %s", (int)result, kind, texts[i]);
        }
    }
}

/* Lines that are sound, and that no daemon writes: of one object two lines, or of something that is none. */
static void test_journal_damage_of_a_snapshot_by_hand_is_seen(void **state)
{
    static const char *const wholes[] = {
        "{\"list\":1,\"len\":1,\"items\":[[]],\"names\":[\"a\"]}\n{\"immortal\":2,\"value\":null,\"names\":[\"b\"]}\n",
        "{\"effect\":\"kept\",\"ids\":[1,1]}\n{\"dict\":1,\"len\":0,\"items\":[]}\n",
        "{\"dict\":4294967294,\"len\":0,\"items\":[],\"names\":[\"a\"]}\n" /* not 64 GiB of slots in front of it */
        "{\"list\":12345678,\"len\":0,\"items\":[],\"names\":[\"b\"]}\n",
    };
    static const char *const texts[] = {
        "{\"tuple\":1,\"len\":0,\"items\":[]}\n",
        "{\"tuple\":1,\"len\":0,\"items\":[]}\n{\"dict\":1,\"len\":0,\"items\":[],\"names\":[\"a\"]}\n",
        "{\"dict\":1,\"len\":0,\"items\":[]}\n{\"list\":1,\"len\":0,\"items\":[]}\n",
        "{\"immortal\":1,\"value\":1000}\n",
        "{\"immortal\":1,\"value\":[]}\n",
        "{\"immortal\":1,\"value\":null}\n{\"immortal\":2,\"value\":null}\n",
        "{\"atom\":7,\"id\":1,\"value\":\"k\",\"interned\":true}\n{\"atom\":8,\"id\":2,\"value\":\"k\",\"interned\":true}\n",
        "{\"weakref\":1,\"target\":2}\n{\"immortal\":2,\"value\":null}\n",
        "{\"weakref\":1,\"target\":2,\"shared\":true}\n{\"weakref\":3,\"target\":2,\"shared\":true}\n"
        "{\"list\":2,\"len\":0,\"items\":[],\"names\":[\"a\"]}\n",
        "{\"list\":1,\"len\":0,\"items\":[]}\n{\"effect\":\"swept\",\"ids\":[1,1]}\n",
        "{\"list\":1,\"len\":0,\"items\":[]}\n{\"effect\":\"kept\",\"method\":\"collect\",\"params\":[2]}\n",
    };
    (void)state;
    try_by_hand("snapshot", wholes, sizeof(wholes) / sizeof(wholes[0]), RPC_LOADED);
    try_by_hand("snapshot", texts, sizeof(texts) / sizeof(texts[0]), RPC_LOAD_FAILED);
}

/* Effects that cannot have been: on one object twice, or on one that never dies. */
static void test_journal_damage_of_effects_by_hand_is_seen(void **state)
{
#define MADE \
    "{\"effect\":\"generations\",\"end\":32}\n" \
    "{\"session\":1,\"method\":\"create\",\"params\":[[]],\"ids\":[1,1]}\n" \
    "{\"session\":1,\"method\":\"finalizer.set\",\"params\":[1,null,\"back\"]}\n" \
    "{\"session\":1,\"method\":\"create\",\"params\":[null,\"n\"],\"ids\":[2,1]}\n" \
    "{\"session\":1,\"method\":\"unref\",\"params\":[1]}\n"
    static const char *const wholes[] = {
        MADE "{\"effect\":\"finalized\",\"ids\":[1,1],\"bound\":true}\n",
        MADE "{\"effect\":\"swept\",\"ids\":[1,1]}\n",
        MADE "{\"effect\":\"swept\",\"ids\":[1,1]}\n{\"effect\":\"swept\",\"ids\":[1,1]}\n", /* died with the first */
        MADE "{\"effect\":\"generations\",\"end\":2097151}\n",
        MADE "{\"effect\":\"generations\",\"end\":2097152}\n", /* all */
    };
    static const char *const texts[] = {
        MADE "{\"effect\":\"finalized\",\"ids\":[1,1,1,1],\"bound\":true}\n",
        MADE "{\"effect\":\"finalized\",\"ids\":[2,1],\"bound\":true}\n",
        MADE "{\"effect\":\"swept\",\"ids\":[1,1,1,1]}\n",
        MADE "{\"effect\":\"swept\",\"ids\":[2,1]}\n",
        MADE "{\"effect\":\"swept\",\"ids\":[3,1]}\n",
        MADE "{\"effect\":\"generations\",\"end\":2097153}\n",
        MADE "{\"effect\":\"generations\",\"end\":4294967296}\n",
        MADE "{\"effect\":\"swept\",\"ids\":[1,4294967295]}\n", /* 32 GiB of ids */
        MADE "{\"effect\":\"swept\",\"ids\":[1,60000,1,60000]}\n",
    };
#undef MADE
    (void)state;
    try_by_hand("journal", wholes, sizeof(wholes) / sizeof(wholes[0]), RPC_LOADED);
    try_by_hand("journal", texts, sizeof(texts) / sizeof(texts[0]), RPC_LOAD_FAILED);
}

/* Requests that no journal has: those that change nothing, those whose effects are told, and those that are none. */
static void test_journal_damage_of_requests_by_hand_is_seen(void **state)
{
#define CREATE "{\"session\":1,\"method\":\"create\",\"params\":[[]],\"ids\":[1,1]"
    static const char *const others[] = {
        CREATE ",\"method\":\"unref\"}\n",
        CREATE ",\"params\":[{}]}\n",
        CREATE "}\n{\"session\":1,\"method\":\"create\"}\n",
        CREATE "}\n{\"session\":1,\"params\":[[]]}\n",
        CREATE "}\n{\"session\":1,\"params\":[[]],\"method\":\"create\"}\n",
    };
#undef CREATE
    unsigned seen = 0;
    (void)state;
    for (unsigned i = 0; i < METHOD_COUNT; i++) {
        const struct method *method = &METHODS[i];
        char text[1024];
        if (method->lasts != LASTS && method->lasts != LASTS_IF_SEEN) {
            const char *const texts[] = {text};
            snprintf(text, sizeof(text), "{\"session\":1,\"method\":\"%s\",\"params\":%s}\n", method->name,
                     method->example_params != NULL ? method->example_params : "{}");
            try_by_hand("journal", texts, 1, RPC_LOAD_FAILED);
            seen++;
        }
    }
    assert_true(seen > 10);
    try_by_hand("journal", others, sizeof(others) / sizeof(others[0]), RPC_LOAD_FAILED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_journal_damage_of_lines_is_seen),
        cmocka_unit_test(test_journal_damage_of_an_older_end_is_seen),
        cmocka_unit_test(test_journal_damage_of_a_wrong_file_is_seen),
        cmocka_unit_test(test_journal_damage_of_a_first_line_is_seen),
        cmocka_unit_test(test_journal_damage_is_not_what_crashes_leave),
        cmocka_unit_test(test_journal_damage_is_not_what_slices_leave),
        cmocka_unit_test(test_journal_damage_of_a_snapshot_is_seen),
        cmocka_unit_test(test_journal_damage_of_a_snapshot_by_hand_is_seen),
        cmocka_unit_test(test_journal_damage_of_effects_by_hand_is_seen),
        cmocka_unit_test(test_journal_damage_of_requests_by_hand_is_seen),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
