/* cli_json.h -- JSON values as text for people: short numbers, escaped controls, lines that fit. */
#ifndef HEAPD_CLIENT_CLI_JSON_H
#define HEAPD_CLIENT_CLI_JSON_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <jansson.h>

/* jansson iterates over objects that are not const only, without changing them. */
static inline json_t *cli_json_mutable(const json_t *j_value)
{
    return (json_t *)(uintptr_t)j_value;
}

/* Room for any double: sign, 17 digits, point, exponent. */
#define CLI_JSON_REAL_BYTES 32

/* cli_json_format_real -- the shortest digits that read back as `real`, in Python's layout: 1.1, 1.0,
 * 1e+16.  Writes at most CLI_JSON_REAL_BYTES, NUL included. */
void cli_json_format_real(char *buffer, double real);

/* cli_json_put_text -- writes `text` (UTF-8), but control characters, and those that reorder what a
 * terminal shows, as \n, \t, \u001b..  `extra`: further ASCII characters that get a backslash. */
void cli_json_put_text(FILE *out, const char *text, size_t len, const char *extra);

/* cli_json_put_string -- a JSON string: cli_json_put_text() in quotes. */
void cli_json_put_string(FILE *out, const char *text, size_t len);

/* cli_json_put -- `j_value` on one line, with blanks after , and : */
void cli_json_put(FILE *out, const json_t *j_value);

/* cli_json_put_wrapped -- as cli_json_put(), but containers that would not fit into `width` columns when
 * they begin at column `column` are written one element a line, indented by `indent` and two more a level. */
void cli_json_put_wrapped(FILE *out, const json_t *j_value, size_t indent, size_t column, size_t width);

/* cli_json_put_raw -- JSON text as it came; only what would control a terminal is escaped, which leaves
 * its meaning as it was. */
void cli_json_put_raw(FILE *out, const char *text, size_t len);

/* cli_json_quote -- `text` as a JSON string, new (free()); NULL: not UTF-8, or no memory. */
char *cli_json_quote(const char *text);

#endif
