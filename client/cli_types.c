/* cli_types.c -- `heapctl types`, `mark` and `diff`: what lives, by type, and how it changes. */
#include "cli_command.h"
#include "cli_watch.h"
#include "cli_who.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* ---- types ---- */

static json_int_t count_of(const json_t *j_row, const char *member)
{
    return json_integer_value(json_object_get(j_row, member));
}

/* The row of a type; NULL: there is none. */
static const json_t *find_type(const json_t *j_rows, const json_t *j_type)
{
    size_t i;
    const json_t *j_row;
    json_array_foreach(j_rows, i, j_row)
    {
        if (json_equal(json_object_get(j_row, "type"), j_type)) {
            return j_row;
        }
    }
    return NULL;
}

/* One row, its change against the row of the look before it (NULL: none) when there was one. */
static void add_type(struct cli_grid *grid, const json_t *j_row, bool has_before, const json_t *j_before)
{
    static const char *const members[] = {"objects", "bytes"};
    cli_grid_add_member(grid, "type", json_object_get(j_row, "type"));
    for (size_t i = 0; i < 2; i++) {
        cli_grid_add_member(grid, members[i], json_object_get(j_row, members[i]));
    }
    for (size_t i = 0; i < 2 && has_before; i++) {
        cli_grid_add_change(grid, members[i], count_of(j_row, members[i]) - count_of(j_before, members[i]));
    }
}

/* Types of the look before that are gone: rows of nothing, so that their going is seen. */
static void add_gone(struct cli_grid *grid, const json_t *j_rows, const json_t *j_rows_before)
{
    size_t i;
    json_t *j_row;
    json_array_foreach(j_rows_before, i, j_row)
    {
        json_t *j_type = json_object_get(j_row, "type");
        if (find_type(j_rows, j_type) == NULL) {
            json_t *j_gone = json_pack("{s:O,s:i,s:i}", "type", j_type, "objects", 0, "bytes", 0);
            add_type(grid, j_gone, true, j_row);
            json_decref(j_gone);
        }
    }
}

/* cli_types_put -- the table, with the changes when there was a look before (`j_rows_before` not NULL). */
static void cli_types_put(FILE *out, const struct cli_style *style, const json_t *j_rows,
                          const json_t *j_rows_before)
{
    static const char *const heading[] = {"type", "objects", "bytes", "change", "in bytes"};
    bool has_before = j_rows_before != NULL;
    size_t columns = has_before ? 5 : 3;
    struct cli_grid *grid = cli_grid_create(columns);
    size_t i;
    const json_t *j_row;
    if (grid == NULL) {
        return;
    }
    cli_grid_add_words(grid, heading, columns);
    json_array_foreach(j_rows, i, j_row)
    {
        add_type(grid, j_row, has_before, find_type(j_rows_before, json_object_get(j_row, "type")));
    }
    add_gone(grid, j_rows, j_rows_before);
    cli_grid_write(grid, out, style, 0, true);
    cli_grid_destroy(grid);
}

/* The time of day, over each look of a watch. */
static void put_time(const struct cli_watch *watch)
{
    char text[32];
    time_t now = time(NULL);
    struct tm local;
    if (watch->period_ms > 0 && localtime_r(&now, &local) != NULL) {
        strftime(text, sizeof text, "%H:%M:%S", &local);
        puts(text);
    }
}

enum cli_exit cli_types(struct cli_session *session, const struct cli_call *call)
{
    struct cli_watch watch;
    json_t *j_before = NULL;
    if (!cli_watch_begin(&watch, session, call)) {
        return CLI_EXIT_USAGE;
    }
    do {
        json_t *j_types = NULL;
        watch.code = cli_session_askf(session, call, &j_types, "heap.types", NULL);
        if (watch.code != CLI_EXIT_OK) {
            break;
        }
        if (cli_session_wants_json(session, call)) {
            cli_session_print_json(session);
        } else {
            cli_watch_clear(&watch);
            put_time(&watch);
            cli_types_put(stdout, &session->style, json_object_get(j_types, "types"),
                          json_object_get(j_before, "types"));
        }
        json_decref(j_before);
        j_before = j_types;
    } while (cli_watch_next(&watch));
    json_decref(j_before);
    cli_watch_end(&watch);
    return watch.code;
}

/* ---- marks ---- */

enum cli_exit cli_mark(struct cli_session *session, const struct cli_call *call)
{
    json_t *j_mark = NULL;
    enum cli_exit code = cli_session_ask_for(session, call, &j_mark, "heap.mark");
    if (code == CLI_EXIT_OK && cli_session_wants_json(session, call)) {
        cli_session_print_json(session);
    } else if (code == CLI_EXIT_OK) {
        cli_print_result(stdout, &session->style, j_mark);
    }
    json_decref(j_mark);
    return code;
}

/* Rows {first column, objects, bytes}, signed; the first column is a type or a session. */
static void put_changes(FILE *out, const struct cli_style *style, const json_t *j_rows, const char *member,
                        const json_t *j_clients)
{
    const char *const heading[] = {member, "objects", "bytes"};
    struct cli_grid *grid = cli_grid_create(3);
    size_t i;
    const json_t *j_row;
    if (grid == NULL) {
        return;
    }
    cli_grid_add_words(grid, heading, 3);
    json_array_foreach(j_rows, i, j_row)
    {
        const json_t *j_first = json_object_get(j_row, member);
        char *who = NULL;
        size_t len;
        FILE *text = json_is_integer(j_first) ? open_memstream(&who, &len) : NULL;
        if (text != NULL) {
            cli_who_put(text, j_clients, j_first);
            fclose(text);
            cli_grid_add_steal(grid, who, false);
        } else {
            cli_grid_add_member(grid, member, j_first);
        }
        cli_grid_add_change(grid, "objects", count_of(j_row, "objects"));
        cli_grid_add_change(grid, "bytes", count_of(j_row, "bytes"));
    }
    cli_grid_write(grid, out, style, 0, true);
    cli_grid_destroy(grid);
}

/* cli_diff_put -- both tables. */
static void cli_diff_put(FILE *out, const struct cli_style *style, const json_t *j_diff,
                         const json_t *j_clients)
{
    const json_t *j_types = json_object_get(j_diff, "types");
    const json_t *j_sessions = json_object_get(j_diff, "sessions");
    if (json_array_size(j_types) == 0 && json_array_size(j_sessions) == 0) {
        fputs("Nothing has changed.\n", out);
    }
    if (json_array_size(j_types) > 0) {
        put_changes(out, style, j_types, "type", NULL);
    }
    if (json_array_size(j_sessions) > 0) {
        fputs(json_array_size(j_types) > 0 ? "\n" : "", out);
        put_changes(out, style, j_sessions, "session", j_clients);
    }
}

enum cli_exit cli_diff(struct cli_session *session, const struct cli_call *call)
{
    json_t *j_diff = NULL;
    enum cli_exit code = cli_session_ask_for(session, call, &j_diff, "heap.diff");
    if (code == CLI_EXIT_OK && cli_session_wants_json(session, call)) {
        cli_session_print_json(session);
    } else if (code == CLI_EXIT_OK) {
        json_t *j_clients = cli_who_ask(session);
        cli_diff_put(stdout, &session->style, j_diff, j_clients);
        json_decref(j_clients);
    }
    json_decref(j_diff);
    return code;
}
