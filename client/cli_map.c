/* cli_map.c -- `map`: the arenas, a line for each size class in them.   Start at cli_map(). */
#include "cli_command.h"
#include "cli_print.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FILL_WIDTH 20
#define SIZE_CLASSES 32
#define CLASS_BYTES 16 /* between one size class and the next */

/* The pools of one size in an arena. */
struct class_row {
    json_int_t pools, used, capacity;
};

static json_int_t map_int(const json_t *j_object, const char *member)
{
    return json_integer_value(json_object_get(j_object, member));
}

static char *map_number(json_int_t value)
{
    char *text = NULL;
    return asprintf(&text, "%lld", (long long)value) < 0 ? NULL : text;
}

/* How full the blocks are: a mark for each twentieth, dots for the rest. */
static char *map_fill(json_int_t used, json_int_t capacity)
{
    char marks[FILL_WIDTH + 1];
    size_t len = capacity > 0 ? (size_t)((used * FILL_WIDTH + capacity - 1) / capacity) : 0;
    memset(marks, '.', FILL_WIDTH);
    memset(marks, '#', len <= FILL_WIDTH ? len : FILL_WIDTH);
    marks[FILL_WIDTH] = '\0';
    return strdup(marks);
}

/* Row 0 is of the free pools. */
static void sum_pools(const json_t *j_arena, struct class_row rows[SIZE_CLASSES + 1])
{
    size_t i;
    const json_t *j_pool;
    json_array_foreach(json_object_get(j_arena, "pools"), i, j_pool)
    {
        json_int_t class = map_int(j_pool, "size") / CLASS_BYTES;
        struct class_row *row = &rows[class >= 0 && class <= SIZE_CLASSES ? class : 0];
        row->pools++;
        row->used += map_int(j_pool, "used");
        row->capacity += map_int(j_pool, "capacity");
    }
}

static void add_arena(struct cli_grid *grid, const json_t *j_arena)
{
    struct class_row rows[SIZE_CLASSES + 1] = {{0, 0, 0}};
    sum_pools(j_arena, rows);
    for (int class = SIZE_CLASSES; class >= 0; class--) {
        const struct class_row *row = &rows[class];
        if (row->pools == 0) {
            continue;
        }
        cli_grid_add_member(grid, "arena", json_object_get(j_arena, "arena"));
        cli_grid_add_steal(grid, class > 0 ? map_number((json_int_t)class * CLASS_BYTES) : strdup("free"), class > 0);
        cli_grid_add_steal(grid, map_number(row->pools), true);
        cli_grid_add_steal(grid, class > 0 ? map_number(row->used) : NULL, true);
        cli_grid_add_steal(grid, class > 0 ? map_number(row->capacity) : NULL, true);
        cli_grid_add_steal(grid, class > 0 ? map_fill(row->used, row->capacity) : NULL, false);
    }
}

enum cli_exit cli_map(struct cli_session *session, const struct cli_call *call)
{
    static const char *const heading[] = {"arena", "size", "pools", "used", "of", ""};
    json_t *j_map = NULL;
    enum cli_exit code = cli_session_ask_for(session, call, &j_map, "heap.map");
    if (code != CLI_EXIT_OK) {
        return code;
    }
    struct cli_grid *grid = cli_grid_create(sizeof heading / sizeof heading[0]);
    if (cli_session_wants_json(session, call)) {
        cli_session_print_json(session);
    } else if (grid != NULL) {
        size_t i;
        const json_t *j_arena, *j_next = json_object_get(j_map, "next");
        cli_grid_add_words(grid, heading, sizeof heading / sizeof heading[0]);
        json_array_foreach(json_object_get(j_map, "arenas"), i, j_arena)
        {
            add_arena(grid, j_arena);
        }
        cli_grid_write(grid, stdout, &session->style, 0, true);
        if (json_is_integer(j_next)) {
            printf("more with --after %lld\n", (long long)json_integer_value(j_next));
        }
    }
    cli_grid_destroy(grid);
    json_decref(j_map);
    return CLI_EXIT_OK;
}
