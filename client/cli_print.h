/* cli_print.h -- results as people read them: blocks, tables, units. */
#ifndef HEAPD_CLIENT_CLI_PRINT_H
#define HEAPD_CLIENT_CLI_PRINT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include <jansson.h>

/* Where output goes and what may be done there. */
struct cli_style {
    bool is_terminal; /* control characters of texts are escaped there */
    bool has_color;
    size_t width; /* columns that values are wrapped to */
};

/* cli_style_of -- what `out` is; NO_COLOR and TERM=dumb turn colours off. */
struct cli_style cli_style_of(FILE *out);

/* cli_print_result -- a method's result, ended by a newline.  A list of objects becomes a table, an object
 * a block of "member: value", what is nested in it inline or a section of its own; numbers whose member
 * says bytes, _us or _s get units.  Members that hold literals ("value", "keys") are shown as JSON. */
void cli_print_result(FILE *out, const struct cli_style *style, const json_t *j_result);

/* cli_print_value -- a result that is a literal: JSON, wrapped. */
void cli_print_value(FILE *out, const struct cli_style *style, const json_t *j_value);

/* cli_print_json -- a result's JSON text on one line, as the daemon sent it. */
void cli_print_json(FILE *out, const struct cli_style *style, const char *text, size_t len);

/* A table that is filled cell by cell, row after row, and then written with aligned columns. */
struct cli_grid;
/* cli_grid_create -- NULL: no memory. */
struct cli_grid *cli_grid_create(size_t column_count);
/* cli_grid_add_steal -- the next cell; its text is consumed, NULL is taken for "".  Numbers go right. */
void cli_grid_add_steal(struct cli_grid *grid, char *text, bool is_number);
/* cli_grid_write -- writes all rows, each behind `indent` blanks; with `has_heading` the first is one. */
void cli_grid_write(const struct cli_grid *grid, FILE *out, const struct cli_style *style, size_t indent,
                    bool has_heading);
void cli_grid_destroy(struct cli_grid *grid);

/* cli_grid_add_words -- `count` cells that stand as they are: a heading, or constants. */
void cli_grid_add_words(struct cli_grid *grid, const char *const *words, size_t count);
/* cli_grid_add_member -- a cell with cli_print_cell(); NULL: an empty one. */
void cli_grid_add_member(struct cli_grid *grid, const char *member, const json_t *j_value);
/* cli_grid_add_change -- a signed number: +12, -1.5 KiB; an empty cell for 0. */
void cli_grid_add_change(struct cli_grid *grid, const char *member, json_int_t change);

/* cli_print_inline -- an object as "count 3, max_us 1.2 ms", without a newline.  Of more than four counters
 * only those that count. */
void cli_print_inline(FILE *out, const json_t *j_object);

/* cli_print_cell -- a scalar, or JSON on one line, as text for a cell: escaped, with the unit that `member`
 * asks for.  New (free()); NULL: no memory. */
char *cli_print_cell(const char *member, const json_t *j_value);

#endif
