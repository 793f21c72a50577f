/* test_wire.c -- plays the wire cases: folders tests/wire/<what-it-is-about>/ with
 *
 *   in      the bytes that are sent, then the sending side is closed
 *   out     the replies demanded, a line each, in the language of match.h; lines that start with # are
 * remarks flags   options that the daemon must be started with, if there are any
 *
 * Each case is played three times: sent whole, one byte at a time, and split at random.  Where a line of
 * `in` uses <id:NAME>, it is sent after the reply that tells the id.  After the last reply the daemon must
 * close the connection, and nothing of the case may be left in the heap.
 * Start at play(); one case is one cmocka test, named like its folder.
 */
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../support/fixture.h"
#include "../support/process.h"

enum way { WAY_WHOLE, WAY_BYTES, WAY_SPLIT, WAY_COUNT };

/* What all cases share. */
struct player {
    struct fixture common; /* the daemon of the cases without flags */
    struct process_random random;
    bool dirty; /* a case is being played, or failed, and may have left something behind */
};

struct wire_case {
    struct player *player;
    char name[256];
};

/* A case while it is played. */
struct play {
    struct wire *wire;
    enum way way;
    struct process_random *random;
    char *in, *out;
    size_t in_len;
    const char *next_out; /* the next line of out */
};

/* ---- files ---- */

static char *read_part(const char *name, const char *part, size_t *len)
{
    char relative[320], path[4200];
    snprintf(relative, sizeof relative, "tests/wire/%s/%s", name, part);
    process_path(path, sizeof path, relative);
    return process_read_file(path, len);
}

/* Where the next reply demanded stands in out, behind remarks; "" at the end. */
static const char *skip_remarks(const char *line)
{
    while (*line == '#' || *line == '\n') {
        line += strcspn(line, "\n");
        line += *line == '\n';
    }
    return line;
}

/* The next reply demanded as a string of its own; NULL: no more. */
static char *next_expected(struct play *play)
{
    const char *line = skip_remarks(play->next_out);
    size_t len = strcspn(line, "\n");
    play->next_out = line + len;
    return len == 0 ? NULL : strndup(line, len);
}

/* ---- playing ---- */

static void expect_next(struct play *play, const char *what_for)
{
    char why[MATCH_WHY_BYTES], *expected = next_expected(play);
    size_t len = 0;
    if (expected == NULL) {
        fail_msg("out has no reply that tells %s", what_for);
    }
    const char *line = wire_line(play->wire, &len);
    if (line == NULL) {
        fail_msg("the daemon closed instead of saying %.1000s", expected);
    }
    if (!match_reply(&play->wire->bindings, expected, strlen(expected), line, len, why)) {
        print_error("way %d\nexpected: %.3000s\nreply:    %.3000s\n", play->way, expected, line);
        fail_msg("%s", why);
    }
    free(expected);
}

static void send_piece(struct play *play, const char *bytes, size_t len)
{
    while (len > 0) {
        size_t n = play->way == WAY_WHOLE   ? len
                   : play->way == WAY_BYTES ? 1
                                            : 1 + process_random_below(play->random, 80);
        n = n < len ? n : len;
        if (!wire_try_send(play->wire, bytes, n)) {
            return; /* the replies, or their absence, will tell */
        }
        bytes += n;
        len -= n;
    }
}

/* Sends a line that uses ids, once the replies so far have told them. */
static void send_filled(struct play *play, const char *line, size_t len)
{
    size_t filled_len;
    char *filled;
    while ((filled = match_substitute(&play->wire->bindings, line, len, &filled_len)) == NULL) {
        expect_next(play, "an id that is used");
    }
    send_piece(play, filled, filled_len);
    free(filled);
}

static void send_all(struct play *play)
{
    const char *at = play->in, *end = play->in + play->in_len;
    while (at < end) {
        const char *mark = memmem(at, (size_t)(end - at), "<id:", 4);
        const char *line = mark != NULL ? mark : end;
        while (mark != NULL && line > at && line[-1] != '\n') {
            line--;
        }
        send_piece(play, at, (size_t)(line - at));
        at = line;
        if (mark != NULL) {
            const char *newline = memchr(at, '\n', (size_t)(end - at));
            size_t len = newline != NULL ? (size_t)(newline - at) + 1 : (size_t)(end - at);
            send_filled(play, at, len);
            at += len;
        }
    }
}

static void play(struct wire_case *wire_case, struct daemon *daemon, enum way way)
{
    struct play play = {.way = way, .random = &wire_case->player->random};
    size_t out_len = 0;
    play.in = read_part(wire_case->name, "in", &play.in_len);
    play.out = read_part(wire_case->name, "out", &out_len);
    assert_non_null(play.in);
    assert_non_null(play.out);
    play.next_out = play.out;
    play.wire = way == WAY_BYTES ? wire_open_unix(daemon) : wire_open(daemon);
    send_all(&play);
    wire_half_close(play.wire);
    while (*skip_remarks(play.next_out) != '\0') {
        expect_next(&play, "");
    }
    wire_expect_end(play.wire);
    wire_close(play.wire);
    free(play.in);
    free(play.out);
}

/* One case, all ways; between them the heap must be empty and the collector as at the start. */
static void test_case(void **state)
{
    struct wire_case *wire_case = *state;
    struct fixture own = {0}, *fixture = &wire_case->player->common;
    size_t len;
    char *flags = read_part(wire_case->name, "flags", &len);
    wire_case->player->dirty = flags == NULL;
    if (flags != NULL) {
        const char *arguments[16] = {NULL};
        size_t n = 0;
        for (char *word = strtok(flags, " \n"); word != NULL && n < 15; word = strtok(NULL, " \n")) {
            arguments[n++] = word;
        }
        fixture_start(&own, arguments);
        fixture = &own;
    }
    for (int way = 0; way < WAY_COUNT; way++) {
        play(wire_case, fixture->daemon, (enum way)way);
        json_decref(wire_callf(fixture->wire, "gc.enable", NULL));
        json_decref(wire_callf(fixture->wire, "gc.set_threshold", "[i,i,i]", 700, 10, 10));
        fixture_demand_empty(fixture->wire);
    }
    if (flags != NULL) {
        fixture_end(&own);
        free(flags);
    }
    wire_case->player->dirty = false;
}

static void test_wire_daemon_ends_clean(void **state)
{
    struct player *player = *state;
    if (!player->dirty) {
        fixture_end(&player->common);
    }
}

/* The case after a failed one gets a new daemon. */
static int begin_case(void **state)
{
    struct player *player = ((struct wire_case *)*state)->player;
    if (player->dirty) {
        daemon_kill(player->common.daemon);
    }
    if (player->dirty || player->common.daemon == NULL) {
        fixture_start(&player->common, NULL);
    }
    player->dirty = false;
    return 0;
}

/* ---- the list of cases ---- */

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct CMUnitTest *)a)->name, ((const struct CMUnitTest *)b)->name);
}

int main(int argc, char **argv)
{
    static struct CMUnitTest tests[2048];
    struct player player = {0};
    char folder_path[4200];
    size_t n = 0;
    process_path(folder_path, sizeof folder_path, "tests/wire");
    process_random_init(&player.random);
    DIR *folder = opendir(folder_path);
    for (struct dirent *entry; folder != NULL && n < 2047 && (entry = readdir(folder)) != NULL;) {
        size_t len;
        char *in = entry->d_name[0] == '.' ? NULL : read_part(entry->d_name, "in", &len);
        if (in != NULL && (argc < 2 || strstr(entry->d_name, argv[1]) != NULL)) {
            struct wire_case *wire_case = calloc(1, sizeof *wire_case);
            wire_case->player = &player;
            snprintf(wire_case->name, sizeof wire_case->name, "%s", entry->d_name);
            tests[n++] = (struct CMUnitTest){wire_case->name, test_case, begin_case, NULL, wire_case};
        }
        free(in);
    }
    closedir(folder);
    qsort(tests, n, sizeof *tests, by_name);
    tests[n++] =
        (struct CMUnitTest){"test_wire_daemon_ends_clean", test_wire_daemon_ends_clean, NULL, NULL, &player};
    return _cmocka_run_group_tests("wire", tests, n, NULL, NULL);
}
