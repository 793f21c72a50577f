/* cli_grid.c -- text in aligned columns.
 *
 * Cells are kept until all widths are known.  Widths are counted in terminal columns as wcwidth() has
 * them; a character it does not know counts as one.
 */
#include "cli_print.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <wchar.h>

#define COLUMN_GAP 2

struct cell {
    char *text; /* owned */
    size_t width;
    bool is_number;
};

struct cli_grid {
    size_t column_count;
    size_t count, capacity; /* of cells; rows are column_count cells each, the last perhaps shorter */
    struct cell *cells;
    bool is_broken; /* memory was short: nothing more is added */
};

/* Terminal columns of a UTF-8 text. */
static size_t text_width(const char *text)
{
    size_t width = 0, left = strlen(text);
    mbstate_t state = {0};
    while (left > 0) {
        wchar_t wide;
        size_t size = mbrtowc(&wide, text, left, &state);
        if (size == 0 || size > left) {
            /* Not in the locale's encoding: count what begins a character of UTF-8. */
            size = 1;
            width += ((unsigned char)*text & 0xC0) != 0x80;
            memset(&state, 0, sizeof state);
        } else {
            int columns = wcwidth(wide);
            width += columns < 0 ? 1 : (size_t)columns;
        }
        text += size;
        left -= size;
    }
    return width;
}

struct cli_grid *cli_grid_create(size_t column_count)
{
    struct cli_grid *grid = calloc(1, sizeof *grid);
    if (grid != NULL) {
        grid->column_count = column_count;
    }
    return grid;
}

void cli_grid_destroy(struct cli_grid *grid)
{
    if (grid == NULL) {
        return;
    }
    for (size_t i = 0; i < grid->count; i++) {
        free(grid->cells[i].text);
    }
    free(grid->cells);
    free(grid);
}

void cli_grid_add_steal(struct cli_grid *grid, char *text, bool is_number)
{
    if (grid->count == grid->capacity && !grid->is_broken) {
        size_t capacity = grid->capacity > 0 ? grid->capacity * 2 : 64;
        struct cell *cells = reallocarray(grid->cells, capacity, sizeof *cells);
        grid->is_broken = cells == NULL;
        if (cells != NULL) {
            grid->cells = cells;
            grid->capacity = capacity;
        }
    }
    if (grid->is_broken) {
        free(text);
        return;
    }
    grid->cells[grid->count++] = (struct cell){text, text != NULL ? text_width(text) : 0, is_number};
}

/* The widest cell of a column, and whether all of it but the heading are numbers or empty. */
static size_t column_width(const struct cli_grid *grid, size_t column, bool has_heading, bool *is_numeric)
{
    size_t width = 0;
    *is_numeric = true;
    for (size_t i = column; i < grid->count; i += grid->column_count) {
        const struct cell *cell = &grid->cells[i];
        width = cell->width > width ? cell->width : width;
        bool is_heading = has_heading && i == column;
        bool is_empty = cell->text == NULL || cell->text[0] == '\0' || strcmp(cell->text, "-") == 0;
        *is_numeric = *is_numeric && (is_heading || is_empty || cell->is_number);
    }
    return width;
}

static void write_cell(FILE *out, const struct cell *cell, size_t width, bool to_the_right, bool is_last,
                       bool is_bold)
{
    size_t pad = width - cell->width;
    if (to_the_right) {
        fprintf(out, "%*s", (int)pad, "");
    }
    fprintf(out, is_bold ? "\033[1m%s\033[0m" : "%s", cell->text != NULL ? cell->text : "");
    if (!is_last) {
        fprintf(out, "%*s", (int)(to_the_right ? 0 : pad) + COLUMN_GAP, "");
    }
}

/* Whether only empty cells follow cell i in its row: then nothing more is written behind it. */
static bool is_last_of_row(const struct cli_grid *grid, size_t i)
{
    while (++i % grid->column_count != 0 && i < grid->count) {
        if (grid->cells[i].width > 0) {
            return false;
        }
    }
    return true;
}

void cli_grid_write(const struct cli_grid *grid, FILE *out, const struct cli_style *style, size_t indent,
                    bool has_heading)
{
    size_t *widths = calloc(grid->column_count + 1, sizeof *widths);
    bool *is_numeric = calloc(grid->column_count + 1, sizeof *is_numeric);
    if (widths != NULL && is_numeric != NULL) {
        for (size_t column = 0; column < grid->column_count; column++) {
            widths[column] = column_width(grid, column, has_heading, &is_numeric[column]);
        }
        for (size_t i = 0; i < grid->count; i++) {
            size_t column = i % grid->column_count;
            bool is_last = is_last_of_row(grid, i);
            if (column == 0) {
                fprintf(out, "%*s", (int)indent, "");
            }
            write_cell(out, &grid->cells[i], widths[column], is_numeric[column], is_last,
                       has_heading && style->has_color && i < grid->column_count);
            if (is_last) {
                fputc('\n', out);
                i += grid->column_count - 1 - column;
            }
        }
    }
    free(widths);
    free(is_numeric);
}
