/* cli_top.c -- `heapctl top`: who keeps most memory alive, with bars.
 *
 *   share  retained                        objects  type       id  known as
 *   61.3%  1.2 MiB   ####################    10002  dict       12  name cache
 *
 * Start at cli_top().
 */
#include "cli_command.h"
#include "cli_who.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BAR_WIDTH 20

static json_int_t int_of(const json_t *j_object, const char *member)
{
    return json_integer_value(json_object_get(j_object, member));
}

/* As long as `bytes` are to `largest`, at least one mark for what there is at all. */
static char *bar(json_int_t bytes, json_int_t largest)
{
    char marks[BAR_WIDTH + 1] = "";
    size_t len = largest > 0 ? (size_t)((double)bytes / (double)largest * BAR_WIDTH + 0.5) : 0;
    len = len > BAR_WIDTH ? BAR_WIDTH : len == 0 && bytes > 0 ? 1 : len;
    memset(marks, '#', len);
    return strdup(marks);
}

static char *share(json_int_t bytes, json_int_t all)
{
    char *text = NULL;
    if (all <= 0 || asprintf(&text, "%.1f%%", (double)bytes * 100 / (double)all) < 0) {
        return NULL;
    }
    return text;
}

/* cli_top_put -- the table.  `j_inspected` has an element a row, `heap_bytes` is what 100 % are. */
static void cli_top_put(FILE *out, const struct cli_style *style, const json_t *j_rows,
                        const json_t *j_inspected, json_int_t heap_bytes)
{
    static const char *const heading[] = {"share", "retained", "", "objects", "type", "id", "known as"};
    struct cli_grid *grid = cli_grid_create(sizeof heading / sizeof heading[0]);
    json_int_t largest = int_of(json_array_get(j_rows, 0), "bytes");
    size_t i;
    const json_t *j_row;
    if (grid == NULL) {
        return;
    }
    cli_grid_add_words(grid, heading, sizeof heading / sizeof heading[0]);
    json_array_foreach(j_rows, i, j_row)
    {
        json_int_t bytes = int_of(j_row, "bytes");
        cli_grid_add_steal(grid, share(bytes, heap_bytes), true);
        cli_grid_add_member(grid, "bytes", json_object_get(j_row, "bytes"));
        cli_grid_add_steal(grid, bar(bytes, largest), false);
        cli_grid_add_member(grid, "objects", json_object_get(j_row, "objects"));
        cli_grid_add_member(grid, "type", json_object_get(j_row, "type"));
        cli_grid_add_member(grid, "object", json_object_get(j_row, "object"));
        cli_grid_add_steal(grid, cli_who_name(json_array_get(j_inspected, i)), false);
    }
    cli_grid_write(grid, out, style, 0, true);
    cli_grid_destroy(grid);
}

static json_t *objects_of(const json_t *j_rows)
{
    json_t *j_objects = json_array();
    size_t i;
    const json_t *j_row;
    json_array_foreach(j_rows, i, j_row)
    {
        json_array_append(j_objects, json_object_get(j_row, "object"));
    }
    return j_objects;
}

enum cli_exit cli_top(struct cli_session *session, const struct cli_call *call)
{
    json_t *j_top = NULL;
    enum cli_exit code = cli_session_ask_for(session, call, &j_top, "heap.dominators");
    if (code != CLI_EXIT_OK) {
        return code;
    }
    const json_t *j_rows = json_object_get(j_top, "dominators");
    if (cli_session_wants_json(session, call)) {
        cli_session_print_json(session);
    } else if (json_array_size(j_rows) == 0) {
        puts("The heap is empty: nothing but immortal objects lives.");
    } else {
        json_t *j_objects = objects_of(j_rows);
        json_t *j_inspected = cli_session_try_each(session, "heap.inspect", j_objects, NULL);
        json_t *j_stats = cli_session_try(session, "stats", "{s:s}", "section", "objects");
        cli_top_put(stdout, &session->style, j_rows, j_inspected, int_of(j_stats, "bytes"));
        json_decref(j_stats);
        json_decref(j_inspected);
        json_decref(j_objects);
    }
    json_decref(j_top);
    return CLI_EXIT_OK;
}
