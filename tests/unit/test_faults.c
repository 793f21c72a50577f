/* test_faults.c -- every wire case with every allocation failing in turn.
 *
 * A case of tests/wire is played line by line in this process.  For each line the n-th allocation from its arrival
 * fails, for n from 1 to where nothing fails any more: that one alone, or it and all that follow until the line is
 * dealt with; those of malloc (all of protocol/, jansson's, the heap's raw blocks), which the linker gives us
 * (Makefile), and those of the heap's own slow paths (pymalloc.h).  Then
 *
 *   the reply is a memory_error, the heap is sound, and nothing has changed: the same line is tried again
 *   or the reply is the one that the case demands: what failed was not needed
 *   or the connection must be closed, for there was no room for its bytes: the case begins again without faults up to
 *   this line
 *
 * and in the end all replies were those demanded and the heap is empty.  Who finds no memory collects before giving up,
 * drops events, and lets objects die that a finalizer would have bound to a name: cases that show this (may_differ())
 * end where a reply differs, with a sound heap.  Notifications and batches say too little to be tried again, so nothing
 * fails in them.      Start at play_line().
 */
#include "malloc_faults.h"

/* What the test itself takes, its fixture too, never fails. */
#define malloc __real_malloc
#define calloc __real_calloc
#define realloc __real_realloc
#include "rpc_fixture.h"

#include "../../heap/heap_internal.h"
#include "../../protocol/rpc_internal.h"
#include "../support/process.h"

#include <dirent.h>

/* ---- allocations that fail ---- */

/* Which allocations, and how. */
enum layer { LAYER_MALLOC, LAYER_HEAP };
struct way {
    const char *name;
    enum layer layer;
    bool all;
};

static void arm(struct rpc_fixture *f, const struct way *way, long n)
{
    if (way->layer == LAYER_MALLOC) {
        malloc_faults_arm(n, way->all);
        return;
    }
    struct heap *heap = f->service->heap;
    heap_enter(heap);
    pymalloc_trim(&heap->pm);
#if HEAP_DEBUG >= 1
    heap->pm.fail_after = (uint64_t)n;
    heap->pm.fail_once = !way->all;
#else
    (void)n;
#endif
    heap_leave(heap);
}

/* Nothing fails from here.  Returns whether something did. */
static bool disarm(struct rpc_fixture *f, const struct way *way)
{
    if (way->layer == LAYER_MALLOC) {
        return malloc_faults_disarm() > 0;
    }
    uint64_t left = UINT64_MAX;
#if HEAP_DEBUG >= 1
    struct heap *heap = f->service->heap;
    heap_enter(heap);
    left = heap->pm.fail_after;
    heap->pm.fail_after = 0;
    heap_leave(heap);
#else
    (void)f;
#endif
    return left == (way->all ? 1 : 0);
}

/* ---- a case ---- */

#define LINES_MAX 512

struct fault_case {
    char name[256];
    char *in;                /* its lines, each ended by NUL */
    char *lines[LINES_MAX];  /* of `in` */
    size_t count;
    char *out;
    char *replies[LINES_MAX]; /* of `out` */
    size_t reply_count;
};

/* The lines of a text, which gets a NUL after each.  SIZE_MAX: it has too many, or a NUL byte. */
static size_t split(char *text, size_t len, char *lines[LINES_MAX], bool has_remarks)
{
    size_t count = 0;
    if (memchr(text, '\0', len) != NULL) {
        return SIZE_MAX;
    }
    for (char *line = text; *line != '\0';) {
        char *next = line + strcspn(line, "\n");
        bool is_last = *next == '\0';
        *next = '\0';
        if (!has_remarks || (*line != '#' && *line != '\0')) {
            if (count == LINES_MAX) {
                return SIZE_MAX;
            }
            lines[count++] = line;
        }
        line = is_last ? next : next + 1;
    }
    return count;
}

static char *read_part(const char *name, const char *part, size_t *len)
{
    char relative[320], path[4200];
    snprintf(relative, sizeof relative, "tests/wire/%s/%s", name, part);
    process_path(path, sizeof path, relative);
    return process_read_file(path, len);
}

/* Whether it can be played here: no options of the daemon, nothing that counts what was asked, few lines. */
static bool load(struct fault_case *c)
{
    static const char *const counting[] = {"\"stats\"", "server.clients", "slowlog", "\"subscribe\"", "parse_error",
                                           "gc.get_count", "gc.get_stats"};
    size_t in_len, out_len, flags_len;
    char *flags = read_part(c->name, "flags", &flags_len);
    c->in = read_part(c->name, "in", &in_len);
    c->out = read_part(c->name, "out", &out_len);
    bool is_fit = flags == NULL && c->in != NULL && c->out != NULL && in_len < 20000;
    free(flags);
    for (size_t i = 0; is_fit && i < sizeof counting / sizeof *counting; i++) {
        is_fit = strstr(c->in, counting[i]) == NULL && strstr(c->out, counting[i]) == NULL;
    }
    if (!is_fit) {
        return false;
    }
    c->count = split(c->in, in_len, c->lines, false);
    c->reply_count = split(c->out, out_len, c->replies, true);
    return c->count != SIZE_MAX && c->reply_count != SIZE_MAX;
}

/* Whether its replies show that something was collected early, an event was dropped or a name could not be bound. */
static bool may_differ(const struct fault_case *c)
{
    static const char *const words[] = {"\"collect\"", "finalizer.", "weakref", "gc.get_objects", "heap.inspect",
                                        "heap.check", "heap.why"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        for (size_t line = 0; line < c->count; line++) {
            if (strstr(c->lines[line], words[i]) != NULL) {
                return true;
            }
        }
    }
    return strcmp(c->name, "self-reference-through-every-mutator") == 0;
}

/* ---- playing ---- */

struct play {
    struct rpc_fixture *f;
    const struct fault_case *c;
    size_t line, reply;       /* the next ones */
    size_t errors;            /* memory_errors so far */
    bool is_cut;              /* a reply differs as it may: nothing more of the case is played */
};

/* Ends a fixture in the middle of its case: what the collector keeps, and what finalizers bring back, goes too. */
static void abandon(struct rpc_fixture *f)
{
    for (int i = 0; i < 2; i++) {
        fixture_empty(f);
        say(f, "{\"method\":\"gc.set_debug\",\"params\":[[]]}\n{\"method\":\"gc.garbage\",\"params\":[true]}\n"
               "{\"method\":\"gc.unfreeze\"}\n{\"method\":\"collect\"}\n");
    }
    fixture_close(f);
}

/* Ends what a played case has left and begins anew. */
static void reopen(struct play *play)
{
    struct rpc_limits limits;
    if (play->f != NULL) {
        rpc_conn_destroy(play->f->conn, "again");
        play->f->conn = rpc_conn_create(play->f->thread, 3, &fixture_peer, play->f);
        assert_non_null(play->f->conn);
        abandon(play->f);
    }
    rpc_limits_default(&limits);
    play->f = fixture_open(&limits);
    play->line = play->reply = 0;
}

/* Sends the line, from whose arrival on things fail unless `way` is NULL; its replies are in f->said.  Returns whether
 * something failed. */
static bool send_line(struct play *play, const struct way *way, long n)
{
    struct rpc_fixture *f = play->f;
    const char *line = play->c->lines[play->line];
    size_t len, room;
    char *text = match_substitute(&f->bindings, line, strlen(line), &len), *buffer = text;
    assert_non_null(text);
    text[len++] = '\n'; /* where its NUL was */
    fixture_forget(f);
    if (way != NULL) {
        arm(f, way, n);
    }
    for (size_t sent = 0; sent < len && buffer != NULL;) {
        buffer = rpc_conn_buffer(f->conn, 4096, &room);
        if (buffer != NULL) {
            size_t part = len - sent < room ? len - sent : room;
            memcpy(buffer, text + sent, part);
            rpc_conn_received(f->conn, part);
            sent += part;
        }
    }
    fixture_run(f);
    free(text);
    return way != NULL && disarm(f, way);
}

/* Whether the replies are what the case demands next; if so they are passed over. */
static bool matches(struct play *play, char why[MATCH_WHY_BYTES])
{
    struct rpc_fixture *f = play->f;
    struct match_bindings before = f->bindings;
    size_t reply = play->reply;
    why[0] = '\0';
    for (char *line = f->said; line != NULL && *line != '\0';) {
        char *newline = strchr(line, '\n');
        assert_non_null(newline);
        const char *wanted = reply < play->c->reply_count ? play->c->replies[reply] : "nothing";
        if (!match_reply(&f->bindings, wanted, strlen(wanted), line, (size_t)(newline - line), why)) {
            f->bindings = before;
            return false;
        }
        reply++;
        line = newline + 1;
    }
    play->reply = reply;
    play->line++;
    return true;
}

static bool may_fail(const char *line)
{
    while (*line == ' ' || *line == '\t') {
        line++;
    }
    return *line == '{' && strstr(line, "\"id\"") != NULL;
}

/* Plays up to the line without faults. */
static void play_until(struct play *play, size_t line)
{
    char why[MATCH_WHY_BYTES];
    while (play->line < line) {
        send_line(play, NULL, 0);
        if (!matches(play, why)) {
            fail_msg("%s: without faults: %s: %s", play->c->name, why, play->f->said);
        }
    }
}

/* One line with each allocation failing, until it is answered as demanded with nothing failing. */
static void play_line(struct play *play, const struct way *way)
{
    char why[MATCH_WHY_BYTES];
    /* rpc.discover alone takes thousands: not each of them is tried. */
    for (long n = 1;; n += 1 + (n > 200 ? n / 20 : 0)) {
        assert_true(n < 1000000);
        size_t line = play->line;
        bool has_failed = send_line(play, way, n);
        if (rpc_conn_must_close(play->f->conn) != NULL) {
            assert_true(has_failed);
            reopen(play);
            play_until(play, line);
            continue;
        }
        const char *said = play->f->said;
        bool is_refused = has_failed && said != NULL && strstr(said, "\"memory_error\"") != NULL;
        if (!is_refused && !matches(play, why)) {
            if (may_differ(play->c)) {
                assert_int_equal(rpc_service_check(play->f->service), 0);
                play->is_cut = true;
                return;
            }
            fail_msg("%s, %s %ld: %s\n  line:  %s\n  reply: %s", play->c->name, way->name, n, why,
                     play->c->lines[play->line], said == NULL ? "" : said);
        }
        assert_int_equal(rpc_service_check(play->f->service), 0);
        play->errors += is_refused;
        if (!is_refused && (!has_failed || play->line > line)) {
            return;
        }
    }
}

static void play_case(const struct fault_case *c, const struct way *way, size_t *errors)
{
    struct play play = {.c = c};
    reopen(&play);
    while (play.line < c->count && !play.is_cut) {
        if (may_fail(c->lines[play.line])) {
            play_line(&play, way);
        } else {
            play_until(&play, play.line + 1);
        }
    }
    assert_true(play.is_cut || play.reply == c->reply_count);
    *errors += play.errors;
    if (play.is_cut) {
        abandon(play.f);
    } else {
        fixture_close(play.f);
    }
}

static void play_all(const struct way *way)
{
    char folder_path[4200];
    size_t played = 0, left_out = 0, errors = 0;
    const char *only = getenv("CASE");
    process_path(folder_path, sizeof folder_path, "tests/wire");
    DIR *folder = opendir(folder_path);
    assert_non_null(folder);
    for (struct dirent *entry; (entry = readdir(folder)) != NULL;) {
        if (entry->d_name[0] == '.' || strstr(entry->d_name, ".md") != NULL ||
            (only != NULL && strcmp(only, entry->d_name) != 0)) {
            continue;
        }
        struct fault_case *c = calloc(1, sizeof(*c));
        assert_non_null(c);
        snprintf(c->name, sizeof(c->name), "%s", entry->d_name);
        if (load(c)) {
            play_case(c, way, &errors);
            played++;
        } else {
            left_out++;
        }
        free(c->in);
        free(c->out);
        free(c);
    }
    closedir(folder);
    printf("%s: %zu cases, %zu memory_errors; %zu cases left out, which have options or count requests\n", way->name,
           played, errors, left_out);
    assert_true(only != NULL || played > 150);
    /* One alone is tried again after a collection, so it need not be heard of. */
    assert_true(only != NULL || !way->all || errors > 1000);
}

static void test_faults_of_one_malloc(void **state)
{
    (void)state;
    play_all(&(struct way){.name = "malloc once", .layer = LAYER_MALLOC});
}

static void test_faults_of_malloc_from_there(void **state)
{
    (void)state;
    play_all(&(struct way){.name = "malloc from there", .layer = LAYER_MALLOC, .all = true});
}

/* Faults of the heap itself are for builds with checks. */
static void need_checks(void)
{
#if HEAP_DEBUG < 1
    puts("skipped: no fault injection in this build");
    skip();
#endif
}

static void test_faults_of_one_slow_path(void **state)
{
    (void)state;
    need_checks();
    play_all(&(struct way){.name = "heap once", .layer = LAYER_HEAP});
}

static void test_faults_of_slow_paths_from_there(void **state)
{
    (void)state;
    need_checks();
    play_all(&(struct way){.name = "heap from there", .layer = LAYER_HEAP, .all = true});
}

/* A service that cannot be made leaves nothing behind: the sanitizer looks. */
static void test_faults_of_a_service_that_is_made(void **state)
{
    (void)state;
    struct rpc_limits limits;
    const struct rpc_host host = {0};
    rpc_limits_default(&limits);
    for (int all = 0; all < 2; all++) {
        long hits = 1;
        for (long n = 1; hits > 0; n++) {
            malloc_faults_arm(n, all != 0);
            struct rpc_service *service = rpc_service_create(&limits, &host);
            hits = malloc_faults_disarm();
            assert_true(service != NULL || hits > 0);
            if (service != NULL) {
                assert_int_equal(rpc_service_check(service), 0);
                rpc_service_destroy(service);
            }
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_faults_of_a_service_that_is_made),
        cmocka_unit_test(test_faults_of_one_malloc),
        cmocka_unit_test(test_faults_of_malloc_from_there),
        cmocka_unit_test(test_faults_of_one_slow_path),
        cmocka_unit_test(test_faults_of_slow_paths_from_there),
    };
    return cmocka_run_group_tests_name("faults", tests, NULL, NULL);
}
