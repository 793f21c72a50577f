/* cli_print.c -- results as people read them.
 *
 *   list of objects      table, a column a member
 *   page                 {"names": [..], "next": ..}: the list, and how to go on
 *   object               block: "member: value" lines; objects and lists of objects in it are inline when
 *                        small, else indented sections below their name
 *   all else             one line
 *
 * The shape alone decides, not the method, so that methods this program has never heard of look right.
 * Start at cli_print_result().
 */
#include "cli_print.h"

#include "cli_json.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

/* Without a terminal to ask: what fits into most windows and mails. */
#define WIDTH_FALLBACK 100
/* Objects of up to this many scalars stand on their member's line. */
#define INLINE_MEMBERS_MAX 4
#define INDENT 2
/* In tables with more rows than this, those of nothing but zeros are left out. */
#define ZERO_ROWS_MAX 8
/* The refcount of immortal objects. */
#define IMMORTAL_REFCOUNT 4294967295

struct cli_style cli_style_of(FILE *out)
{
    struct cli_style style = {.is_terminal = isatty(fileno(out)) != 0, .width = WIDTH_FALLBACK};
    const char *no_color = getenv("NO_COLOR");
    const char *term = getenv("TERM");
    struct winsize window;
    style.has_color = style.is_terminal && (no_color == NULL || *no_color == '\0') && term != NULL &&
                      strcmp(term, "dumb") != 0;
    if (style.is_terminal && ioctl(fileno(out), TIOCGWINSZ, &window) == 0 && window.ws_col >= 20) {
        style.width = window.ws_col;
    }
    return style;
}

/* ---- cells ---- */

static bool ends_with(const char *text, const char *end)
{
    size_t text_len = strlen(text), end_len = strlen(end);
    return text_len >= end_len && strcmp(text + text_len - end_len, end) == 0;
}

static bool is_bytes_member(const char *member)
{
    return strcmp(member, "bytes") == 0 || ends_with(member, "_bytes") || strncmp(member, "bytes_", 6) == 0 ||
           strcmp(member, "max-memory") == 0 || strcmp(member, "max-request") == 0 ||
           strcmp(member, "max-output") == 0;
}

static void put_bytes(FILE *out, json_int_t bytes)
{
    static const char *const units[] = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    double scaled = (double)bytes;
    size_t unit = 0;
    if (bytes < 1024 && bytes > -1024) {
        fprintf(out, "%" JSON_INTEGER_FORMAT " B", bytes);
        return;
    }
    for (scaled /= 1024; (scaled >= 1023.95 || scaled <= -1023.95) && unit < 5; unit++) {
        scaled /= 1024;
    }
    fprintf(out, "%.1f %s", scaled, units[unit]);
}

static void put_microseconds(FILE *out, json_int_t us)
{
    if (us < 1000) {
        fprintf(out, "%" JSON_INTEGER_FORMAT " us", us);
    } else if (us < 1000000) {
        fprintf(out, "%.3g ms", (double)us / 1e3);
    } else {
        fprintf(out, "%.2f s", (double)us / 1e6);
    }
}

static void put_seconds(FILE *out, json_int_t s)
{
    if (s < 60) {
        fprintf(out, "%" JSON_INTEGER_FORMAT " s", s);
    } else if (s < 3600) {
        fprintf(out, "%lld min %lld s", (long long)s / 60, (long long)s % 60);
    } else if (s < 86400) {
        fprintf(out, "%lld h %lld min", (long long)s / 3600, (long long)s / 60 % 60);
    } else {
        fprintf(out, "%lld d %lld h", (long long)s / 86400, (long long)s / 3600 % 24);
    }
}

static void put_int(FILE *out, const char *member, json_int_t value)
{
    if (is_bytes_member(member)) {
        put_bytes(out, value);
    } else if (ends_with(member, "_us") || strcmp(member, "us") == 0) {
        put_microseconds(out, value);
    } else if (ends_with(member, "_s")) {
        put_seconds(out, value);
    } else {
        fprintf(out, "%" JSON_INTEGER_FORMAT, value);
        if (strcmp(member, "refcount") == 0 && value == IMMORTAL_REFCOUNT) {
            fputs(" (immortal)", out);
        }
    }
}

static void put_cell(FILE *out, const char *member, const json_t *j_value)
{
    if (json_is_integer(j_value) && strcmp(member, "value") != 0) {
        put_int(out, member, json_integer_value(j_value));
    } else if (json_is_string(j_value) && json_string_length(j_value) > 0 && strcmp(member, "value") != 0) {
        cli_json_put_text(out, json_string_value(j_value), json_string_length(j_value), "");
    } else if (json_is_null(j_value) && strcmp(member, "value") != 0) {
        fputs("-", out);
    } else {
        cli_json_put(out, j_value);
    }
}

char *cli_print_cell(const char *member, const json_t *j_value)
{
    char *text = NULL;
    size_t len;
    FILE *out = open_memstream(&text, &len);
    if (out == NULL) {
        return NULL;
    }
    put_cell(out, member, j_value);
    fclose(out);
    return text;
}

void cli_grid_add_words(struct cli_grid *grid, const char *const *words, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        cli_grid_add_steal(grid, strdup(words[i]), false);
    }
}

void cli_grid_add_member(struct cli_grid *grid, const char *member, const json_t *j_value)
{
    cli_grid_add_steal(grid, j_value != NULL ? cli_print_cell(member, j_value) : NULL,
                       json_is_number(j_value));
}

void cli_grid_add_change(struct cli_grid *grid, const char *member, json_int_t change)
{
    json_t *j_change = json_integer(change);
    char *text = cli_print_cell(member, j_change), *signed_text = NULL;
    if (change == 0 || text == NULL || asprintf(&signed_text, "%s%s", change > 0 ? "+" : "", text) < 0) {
        signed_text = NULL;
    }
    cli_grid_add_steal(grid, signed_text, true);
    free(text);
    json_decref(j_change);
}

/* ---- shapes ---- */

static bool is_scalar(const json_t *j_value)
{
    return !json_is_object(j_value) && !json_is_array(j_value);
}

/* Objects with $ members are literals, as all below the members that hold literals. */
static bool is_literal(const char *member, const json_t *j_value)
{
    if (json_is_array(j_value)) {
        j_value = json_array_get(j_value, 0);
    }
    const char *key = json_object_iter_key(json_object_iter(cli_json_mutable(j_value)));
    return strcmp(member, "value") == 0 || strcmp(member, "keys") == 0 || (key != NULL && *key == '$');
}

/* Whether the members are scalars, or lists of scalars: what fits into the cells of a table. */
static bool is_row(const json_t *j_value)
{
    const char *key;
    json_t *j_member;
    json_object_foreach(cli_json_mutable(j_value), key, j_member)
    {
        const json_t *j_cell = json_is_array(j_member) ? json_array_get(j_member, 0) : j_member;
        if (j_cell != NULL && !is_scalar(j_cell)) {
            return false;
        }
    }
    return json_is_object(j_value);
}

/* The first row stands for all. */
static bool is_table(const char *member, const json_t *j_value)
{
    return json_is_array(j_value) && is_row(json_array_get(j_value, 0)) && !is_literal(member, j_value);
}

/* Whether all members are scalars. */
static bool is_flat(const json_t *j_object)
{
    const char *key;
    json_t *j_member;
    json_object_foreach(cli_json_mutable(j_object), key, j_member)
    {
        if (!is_scalar(j_member)) {
            return false;
        }
    }
    return true;
}

/* Whether no member is a scalar: then each is a section, whatever its size. */
static bool is_all_sections(const json_t *j_object)
{
    const char *key;
    json_t *j_member;
    json_object_foreach(cli_json_mutable(j_object), key, j_member)
    {
        if (is_scalar(j_member)) {
            return false;
        }
    }
    return json_object_size(j_object) > 0;
}

/* Whether a member of a block stands below its name instead of beside it. */
static bool is_section(const char *member, const json_t *j_value, bool all_sections, size_t depth)
{
    if (is_literal(member, j_value) || is_scalar(j_value)) {
        return false;
    }
    if (json_is_object(j_value) && json_object_size(j_value) > 0) {
        bool is_small = is_flat(j_value) && (depth > 0 || json_object_size(j_value) <= INLINE_MEMBERS_MAX);
        return all_sections || !is_small;
    }
    return is_table(member, j_value);
}

/* ---- writing ---- */

/* All of the context that the recursive steps share. */
struct printer {
    FILE *out;
    const struct cli_style *style;
};

static void put_block(const struct printer *printer, const json_t *j_object, size_t depth);

static void put_heading(const struct printer *printer, const char *text, size_t indent)
{
    fprintf(printer->out, "%*s%s", (int)indent, "", printer->style->has_color ? "\033[1m" : "");
    cli_json_put_text(printer->out, text, strlen(text), "");
    fprintf(printer->out, "%s\n", printer->style->has_color ? "\033[0m" : "");
}

/* The members of all rows, in order of first appearance: a new array of strings. */
static json_t *collect_columns(const json_t *j_rows)
{
    json_t *j_columns = json_object();
    size_t i;
    const json_t *j_row;
    json_array_foreach(j_rows, i, j_row)
    {
        const char *key;
        json_t *j_member;
        json_object_foreach(cli_json_mutable(j_row), key, j_member)
        {
            if (json_object_get(j_columns, key) == NULL) {
                json_object_set_new(j_columns, key, json_null());
            }
        }
    }
    return j_columns;
}

/* Whether all cells behind the first are the number 0. */
static bool is_zero_row(const json_t *j_row)
{
    const char *key;
    json_t *j_cell;
    size_t zeros = 0;
    json_object_foreach(cli_json_mutable(j_row), key, j_cell)
    {
        zeros += json_is_integer(j_cell) && json_integer_value(j_cell) == 0;
    }
    const json_t *j_first = json_object_iter_value(json_object_iter(cli_json_mutable(j_row)));
    bool first_is_zero = json_is_integer(j_first) && json_integer_value(j_first) == 0;
    return json_object_size(j_row) > 1 && zeros - first_is_zero + 1 == json_object_size(j_row);
}

static void put_table(const struct printer *printer, const json_t *j_rows, size_t indent)
{
    size_t left_out = 0;
    bool without_zeros = json_array_size(j_rows) > ZERO_ROWS_MAX;
    json_t *j_columns = collect_columns(j_rows);
    struct cli_grid *grid = cli_grid_create(json_object_size(j_columns));
    const char *key;
    json_t *j_unused;
    json_object_foreach(j_columns, key, j_unused)
    {
        if (grid != NULL) {
            json_t *j_key = json_string(key);
            cli_grid_add_steal(grid, cli_print_cell("", j_key), false);
            json_decref(j_key);
        }
    }
    size_t i;
    const json_t *j_row;
    json_array_foreach(j_rows, i, j_row)
    {
        if (without_zeros && is_zero_row(j_row)) {
            left_out++;
            continue;
        }
        json_object_foreach(j_columns, key, j_unused)
        {
            const json_t *j_cell = json_object_get(j_row, key);
            if (grid != NULL) {
                cli_grid_add_steal(grid, j_cell != NULL ? cli_print_cell(key, j_cell) : NULL,
                                   json_is_number(j_cell));
            }
        }
    }
    if (grid != NULL) {
        cli_grid_write(grid, printer->out, printer->style, indent, true);
        if (left_out > 0) {
            fprintf(printer->out, "%*sand %zu rows of zeros\n", (int)indent, "", left_out);
        }
    }
    cli_grid_destroy(grid);
    json_decref(j_columns);
}

void cli_print_inline(FILE *out, const json_t *j_object)
{
    const char *key, *separator = "";
    json_t *j_member;
    bool only_set = json_object_size(j_object) > INLINE_MEMBERS_MAX;
    json_object_foreach(cli_json_mutable(j_object), key, j_member)
    {
        if (only_set && json_is_integer(j_member) && json_integer_value(j_member) == 0) {
            continue;
        }
        fputs(separator, out);
        separator = ", ";
        cli_json_put_text(out, key, strlen(key), "");
        fputc(' ', out);
        put_cell(out, key, j_member);
    }
    if (*separator == '\0') {
        fputs("none", out);
    }
}

static void put_member(const struct printer *printer, const char *member, const json_t *j_value,
                       size_t indent, size_t column)
{
    if (is_literal(member, j_value)) {
        cli_json_put_wrapped(printer->out, j_value, indent, column, printer->style->width);
    } else if (json_is_object(j_value)) {
        cli_print_inline(printer->out, j_value);
    } else if (json_is_array(j_value) && json_array_size(j_value) == 0) {
        fputs("none", printer->out);
    } else if (json_is_array(j_value)) {
        cli_json_put_wrapped(printer->out, j_value, indent, column, printer->style->width);
    } else {
        put_cell(printer->out, member, j_value);
    }
    fputc('\n', printer->out);
}

static void put_section(const struct printer *printer, const char *member, const json_t *j_value,
                        size_t depth)
{
    put_heading(printer, member, depth * INDENT);
    if (json_is_object(j_value)) {
        put_block(printer, j_value, depth + 1);
    } else {
        put_table(printer, j_value, (depth + 1) * INDENT);
    }
}

/* The widest name among the members that stand on one line. */
static size_t label_width(const json_t *j_object, bool all_sections, size_t depth)
{
    size_t width = 0;
    const char *key;
    json_t *j_member;
    json_object_foreach(cli_json_mutable(j_object), key, j_member)
    {
        if (!is_section(key, j_member, all_sections, depth) && strlen(key) > width) {
            width = strlen(key);
        }
    }
    return width;
}

static void put_block(const struct printer *printer, const json_t *j_object, size_t depth)
{
    bool all_sections = depth == 0 && is_all_sections(j_object);
    size_t width = label_width(j_object, all_sections, depth) + 2, indent = depth * INDENT;
    const char *key;
    json_t *j_member;
    json_object_foreach(cli_json_mutable(j_object), key, j_member)
    {
        if (is_section(key, j_member, all_sections, depth)) {
            put_section(printer, key, j_member, depth);
            continue;
        }
        fprintf(printer->out, "%*s", (int)indent, "");
        cli_json_put_text(printer->out, key, strlen(key), "");
        fprintf(printer->out, ":%*s", (int)(width > strlen(key) + 1 ? width - strlen(key) - 1 : 1), "");
        put_member(printer, key, j_member, indent, indent + width);
    }
}

/* One element a line: ids, names, literals. */
static void put_lines(const struct printer *printer, const char *member, const json_t *j_list)
{
    size_t i;
    const json_t *j_item;
    json_array_foreach(j_list, i, j_item)
    {
        if (is_literal(member, j_list)) {
            cli_json_put_wrapped(printer->out, j_item, 0, 0, printer->style->width);
        } else {
            put_cell(printer->out, "", j_item);
        }
        fputc('\n', printer->out);
    }
}

/* A list that comes in pages: {"names": [..], "next": null}.  False: `j_result` is none. */
static bool put_page(const struct printer *printer, const json_t *j_result)
{
    const json_t *j_next = json_object_get(j_result, "next");
    void *iter = json_object_iter(cli_json_mutable(j_result));
    const char *member = json_object_iter_key(iter);
    const json_t *j_list = json_object_iter_value(iter);
    if (j_next == NULL || json_object_size(j_result) != 2 || !json_is_array(j_list)) {
        return false;
    }
    if (json_array_size(j_list) == 0) {
        fputs("none\n", printer->out);
    } else if (is_table(member, j_list)) {
        put_table(printer, j_list, 0);
    } else {
        put_lines(printer, member, j_list);
    }
    if (!json_is_null(j_next)) {
        fputs("more: --after ", printer->out);
        put_cell(printer->out, "", j_next);
        fputc('\n', printer->out);
    }
    return true;
}

void cli_print_result(FILE *out, const struct cli_style *style, const json_t *j_result)
{
    const struct printer printer = {out, style};
    if (json_is_null(j_result)) {
        fputs("ok\n", out);
    } else if (json_is_string(j_result)) {
        const char *text = json_string_value(j_result);
        size_t len = json_string_length(j_result);
        if (!style->is_terminal) {
            fwrite(text, 1, len, out);
            fputs(len > 0 && text[len - 1] == '\n' ? "" : "\n", out);
            return;
        }
        while (len > 0) {
            const char *newline = memchr(text, '\n', len);
            size_t line = newline != NULL ? (size_t)(newline - text) : len;
            cli_json_put_text(out, text, line, "");
            fputc('\n', out);
            line += newline != NULL;
            text += line;
            len -= line;
        }
    } else if (is_table("", j_result)) {
        put_table(&printer, j_result, 0);
    } else if (json_is_object(j_result) && !is_literal("", j_result) && json_object_size(j_result) > 0) {
        if (!put_page(&printer, j_result)) {
            put_block(&printer, j_result, 0);
        }
    } else {
        cli_print_value(out, style, j_result);
    }
}

void cli_print_value(FILE *out, const struct cli_style *style, const json_t *j_value)
{
    cli_json_put_wrapped(out, j_value, 0, 0, style->width);
    fputc('\n', out);
}

void cli_print_json(FILE *out, const struct cli_style *style, const char *text, size_t len)
{
    if (style->is_terminal) {
        cli_json_put_raw(out, text, len);
    } else {
        fwrite(text, 1, len, out);
    }
    fputc('\n', out);
}
