/* fuzz_journal.c -- files of --data-dir, whole and wrong: loading accepts or refuses them, and what is accepted lasts.
 *
 * The first byte of an input says what the rest is:
 *
 *   bit 0   a snapshot, else a journal
 *   bit 1   the bytes of the file as they are; else texts of lines, each of which gets its checksum, behind a header,
 *           so that most of what is tried reaches what is behind the checksums
 *   bit 2   the journal follows an older one, so its end may not be torn
 *
 * What is accepted is sound, and becomes an equal heap when it is written down as a snapshot and loaded again.  What is
 * refused has a reason and a place within the file, and the service can be given up.
 */
#include "fuzz_service.h"

#include "../../protocol/crc32c.h"

#define READABLE 64 /* bytes behind a file, as rpc.h demands */
#define HEAP "0123456789abcdef0123456789abcdef"
#define FIRST_LINE(kind)                                                                                      \
    "{\"heapd\":\"" kind "\",\"version\":2,\"heap\":\"" HEAP "\",\"number\":1,\"before\":0,\"generations\":32}\n"
/* The last line of a snapshot: it says how many bytes are in front of it. */
#define LAST_LINE "{\"end\":"

struct text {
    char *bytes;
    size_t len, room;
};

static void add(struct text *text, const char *bytes, size_t len)
{
    if (text->len + len + READABLE > text->room) {
        text->room = 2 * (text->len + len + READABLE);
        text->bytes = realloc(text->bytes, text->room);
        FUZZ_ASSERT(text->bytes != NULL);
    }
    if (len > 0) {
        memcpy(text->bytes + text->len, bytes, len);
    }
    text->len += len;
    memset(text->bytes + text->len, 0, READABLE);
}

/* Each line with its checksum in front; what a last one says is made right, or few snapshots would be whole. */
static void add_stamped(struct text *text, const char *lines, size_t len)
{
    while (len > 0) {
        const char *newline = memchr(lines, '\n', len);
        size_t n = newline != NULL ? (size_t)(newline - lines) : len;
        char crc[10], last[40];
        bool is_last = n >= strlen(LAST_LINE) && memcmp(lines, LAST_LINE, strlen(LAST_LINE)) == 0;
        size_t last_len = (size_t)snprintf(last, sizeof(last), LAST_LINE "%zu}", text->len);
        const char *line = is_last ? last : lines;
        size_t len_of_line = is_last ? last_len : n;
        snprintf(crc, sizeof(crc), "%08x ", crc32c(line, len_of_line));
        add(text, crc, 9);
        add(text, line, len_of_line);
        add(text, "\n", 1);
        size_t used = n + (newline != NULL);
        lines += used;
        len -= used;
    }
}

/* ---- a service with a journal that is thrown away ---- */

static void take_lines(struct fuzz_service *f)
{
    size_t len;
    uint64_t lsn, number;
    char *bytes;
    while ((bytes = rpc_journal_take(f->service, &len, &lsn, &number)) != NULL) {
        rpc_journal_give_back(f->service, bytes);
        rpc_journal_durable(f->service, lsn);
    }
}

static void open_journal(struct fuzz_service *f)
{
    const struct rpc_journal_sink sink = {.arg = f, .wake = fuzz_on_nothing};
    fuzz_open(f);
    FUZZ_ASSERT(rpc_journal_begin(f->service, &sink, false, HEAP));
}

/* Whether the file was loaded. */
static bool load(struct fuzz_service *f, const struct text *text, uint64_t number, bool is_snapshot, bool is_last)
{
    struct rpc_load_file file = {.bytes = text->bytes, .len = text->len, .number = number, .is_last = is_last};
    enum rpc_load result = is_snapshot ? rpc_snapshot_load(f->service, &file) : rpc_journal_load(f->service, &file);
    FUZZ_ASSERT(file.good <= text->len);
    FUZZ_ASSERT(result == RPC_LOADED || result == RPC_LOAD_TORN || result == RPC_LOAD_DAMAGED || file.why[0] != '\0');
    FUZZ_ASSERT(result != RPC_LOAD_TORN || (is_last && !is_snapshot));
    return result == RPC_LOADED || result == RPC_LOAD_TORN;
}

static void begin_service(struct fuzz_service *f)
{
    FUZZ_ASSERT(rpc_journal_open(f->service, 2));
    rpc_journal_start(f->service);
    take_lines(f);
    fuzz_run(f);
    FUZZ_ASSERT(rpc_service_check(f->service) == 0);
}

static void close_journal(struct fuzz_service *f)
{
    take_lines(f);
    fuzz_close(f);
}

/* ---- the same heap again ---- */

/* How many objects there are of each type; tables may have other sizes. */
static json_t *count_types(const char *reply)
{
    json_t *j_reply = json_loads(reply, 0, NULL), *j_counts = json_object(), *j_row;
    size_t at;
    FUZZ_ASSERT(j_reply != NULL && j_counts != NULL);
    json_array_foreach(json_object_get(json_object_get(j_reply, "result"), "types"), at, j_row) {
        json_object_set(j_counts, json_string_value(json_object_get(j_row, "type")), json_object_get(j_row, "objects"));
    }
    json_decref(j_reply);
    return j_counts;
}

/* What is compared: how many objects of each type there are, and all names. */
static char *picture(struct fuzz_service *f)
{
    char *seen = NULL;
    json_t *j_counts = count_types(fuzz_ask(f, 0, "{\"id\":1,\"method\":\"heap.types\"}"));
    char *types = json_dumps(j_counts, JSON_SORT_KEYS);
    const char *names = fuzz_ask(f, 0, "{\"id\":1,\"method\":\"name.list\"}");
    FUZZ_ASSERT(strstr(names, "\"result\"") != NULL && asprintf(&seen, "%s\n%s", types, names) > 0);
    free(types);
    json_decref(j_counts);
    take_lines(f);
    return seen;
}

static void write_snapshot(struct text *text, struct fuzz_service *f)
{
    static const _Atomic bool never = false;
    struct rpc_snapshot *snapshot = rpc_snapshot_begin(f->service, 3, &never);
    enum rpc_snapshot_progress progress;
    FUZZ_ASSERT(snapshot != NULL);
    do {
        char *bytes = NULL;
        size_t len = 0;
        progress = rpc_snapshot_step(snapshot, &bytes, &len);
        add(text, bytes, len);
        free(bytes);
    } while (progress == RPC_SNAPSHOT_GOES_ON);
    FUZZ_ASSERT(progress == RPC_SNAPSHOT_DONE);
    rpc_snapshot_end(snapshot);
    take_lines(f);
}

static void expect_to_last(struct fuzz_service *f)
{
    struct text text = {0};
    struct fuzz_service again;
    write_snapshot(&text, f);
    open_journal(&again);
    FUZZ_ASSERT(load(&again, &text, 3, true, false));
    begin_service(&again);
    char *before = picture(f), *after = picture(&again);
    if (strcmp(before, after) != 0) {
        fprintf(stderr, "before: %s\nafter: %s\nsnapshot: %s\n", before, after, text.bytes);
        abort();
    }
    free(before);
    free(after);
    free(text.bytes);
    close_journal(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0) {
        return 0;
    }
    bool is_snapshot = data[0] & 1, is_raw = data[0] & 2, is_last = !(data[0] & 4);
    struct text text = {0};
    if (is_raw) {
        add(&text, (const char *)data + 1, size - 1);
    } else {
        const char *first = is_snapshot ? FIRST_LINE("snapshot") : FIRST_LINE("journal");
        add_stamped(&text, first, strlen(first));
        add_stamped(&text, (const char *)data + 1, size - 1);
    }
    struct fuzz_service f;
    open_journal(&f);
    if (load(&f, &text, 1, is_snapshot, is_last)) {
        begin_service(&f);
        expect_to_last(&f);
        close_journal(&f);
    } else {
        for (unsigned i = 0; i < FUZZ_CONNS; i++) {
            rpc_conn_destroy(f.conns[i], "end");
        }
        rpc_thread_destroy(f.thread);
        rpc_service_destroy(f.service);
    }
    free(text.bytes);
    return 0;
}
