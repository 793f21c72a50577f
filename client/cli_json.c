/* cli_json.c -- JSON values as text for people.
 *
 * The JSON library prints a double with 17 digits, so that 1.1 becomes 1.1000000000000001; here the first
 * of 1 to 17 digits that reads back equal is taken.  A value is measured before it is written on one
 * line; measuring stops as soon as it is known not to fit, so that a large value costs no more than its
 * length.  Recursion is as deep as the value, which the protocol bounds.
 */
#include "cli_json.h"

#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* ---- numbers ---- */

/* Writes digits d1 d2 .. dn (no point) times 10 to the (exponent - n + 1) without an exponent. */
static void put_positional(char *out, const char *digits, size_t count, int exponent)
{
    int point = exponent + 1; /* how many digits stand before the point */
    if (point <= 0) {
        out += sprintf(out, "0.");
        for (int i = point; i < 0; i++) {
            *out++ = '0';
        }
        sprintf(out, "%s", digits);
    } else if ((size_t)point >= count) {
        out += sprintf(out, "%s", digits);
        for (size_t i = count; i < (size_t)point; i++) {
            *out++ = '0';
        }
        sprintf(out, ".0");
    } else {
        sprintf(out, "%.*s.%s", point, digits, digits + point);
    }
}

void cli_json_format_real(char *buffer, double real)
{
    char text[40];
    if (isnan(real) || isinf(real)) {
        snprintf(buffer, CLI_JSON_REAL_BYTES, "%s", isnan(real) ? "nan" : real < 0 ? "-inf" : "inf");
        return;
    }
    int precision = 0;
    do {
        snprintf(text, sizeof text, "%.*e", precision++, real);
    } while (strtod(text, NULL) != real && precision < 17);

    /* text is [-]d[.ddd]e[+-]dd */
    char digits[20];
    size_t count = 0;
    const char *at = text + (text[0] == '-');
    for (; *at != 'e'; at++) {
        if (*at != '.') {
            digits[count++] = *at;
        }
    }
    digits[count] = '\0';
    int exponent = atoi(at + 1);
    char *out = buffer;
    if (text[0] == '-') {
        *out++ = '-';
    }
    if (exponent >= -4 && exponent < 16) {
        put_positional(out, digits, count, exponent);
    } else {
        sprintf(out, "%c%s%se%c%02d", digits[0], count > 1 ? "." : "", digits + 1, exponent < 0 ? '-' : '+',
                abs(exponent));
    }
}

/* ---- text ---- */

/* The code point at `text` (valid UTF-8), and in `*size` its bytes. */
static uint32_t decode(const unsigned char *text, size_t len, size_t *size)
{
    uint32_t first = text[0];
    size_t more = first < 0xC0 ? 0 : first < 0xE0 ? 1 : first < 0xF0 ? 2 : 3;
    if (more >= len) {
        more = len - 1;
    }
    uint32_t point = more == 0 ? first : first & (0x3Fu >> more);
    for (size_t i = 1; i <= more; i++) {
        point = point << 6 | (text[i] & 0x3Fu);
    }
    *size = more + 1;
    return point;
}

/* Controls of ASCII and of Latin-1, line and paragraph separators, and what turns the direction of text. */
static bool is_unprintable(uint32_t point)
{
    return point < 0x20 || (point >= 0x7F && point < 0xA0) || point == 0x061C ||
           (point >= 0x200E && point <= 0x200F) || (point >= 0x2028 && point <= 0x202E) ||
           (point >= 0x2066 && point <= 0x2069) || point == 0xFEFF;
}

static void put_unprintable(FILE *out, uint32_t point)
{
    switch (point) {
    case '\n':
        fputs("\\n", out);
        break;
    case '\t':
        fputs("\\t", out);
        break;
    case '\r':
        fputs("\\r", out);
        break;
    default:
        fprintf(out, "\\u%04x", point);
    }
}

void cli_json_put_text(FILE *out, const char *text, size_t len, const char *extra)
{
    const unsigned char *at = (const unsigned char *)text;
    while (len > 0) {
        size_t size;
        uint32_t point = decode(at, len, &size);
        if (is_unprintable(point)) {
            put_unprintable(out, point);
        } else {
            if (point < 0x80 && strchr(extra, (int)point) != NULL) {
                fputc('\\', out);
            }
            fwrite(at, 1, size, out);
        }
        at += size;
        len -= size;
    }
}

void cli_json_put_string(FILE *out, const char *text, size_t len)
{
    fputc('"', out);
    cli_json_put_text(out, text, len, "\"\\");
    fputc('"', out);
}

void cli_json_put_raw(FILE *out, const char *text, size_t len)
{
    cli_json_put_text(out, text, len, "");
}

char *cli_json_quote(const char *text)
{
    json_t *j_text = json_string(text);
    char *quoted = j_text != NULL ? json_dumps(j_text, JSON_ENCODE_ANY) : NULL;
    json_decref(j_text);
    return quoted;
}

/* ---- values ---- */

static void put_scalar(FILE *out, const json_t *j_value)
{
    char real[CLI_JSON_REAL_BYTES];
    switch (json_typeof(j_value)) {
    case JSON_NULL:
        fputs("null", out);
        break;
    case JSON_TRUE:
        fputs("true", out);
        break;
    case JSON_FALSE:
        fputs("false", out);
        break;
    case JSON_INTEGER:
        fprintf(out, "%" JSON_INTEGER_FORMAT, json_integer_value(j_value));
        break;
    case JSON_REAL:
        cli_json_format_real(real, json_real_value(j_value));
        fputs(real, out);
        break;
    case JSON_STRING:
        cli_json_put_string(out, json_string_value(j_value), json_string_length(j_value));
        break;
    case JSON_OBJECT:
    case JSON_ARRAY:
        break;
    }
}

void cli_json_put(FILE *out, const json_t *j_value)
{
    const char *separator = "";
    if (json_is_array(j_value)) {
        size_t i;
        const json_t *j_item;
        fputc('[', out);
        json_array_foreach(j_value, i, j_item)
        {
            fputs(separator, out);
            separator = ", ";
            cli_json_put(out, j_item);
        }
        fputc(']', out);
    } else if (json_is_object(j_value)) {
        const char *key;
        json_t *j_item;
        fputc('{', out);
        json_object_foreach(cli_json_mutable(j_value), key, j_item)
        {
            fputs(separator, out);
            separator = ", ";
            cli_json_put_string(out, key, strlen(key));
            fputs(": ", out);
            cli_json_put(out, j_item);
        }
        fputc('}', out);
    } else {
        put_scalar(out, j_value);
    }
}

/* Columns that cli_json_put() takes, in bytes, which is near enough; above `limit` any number above it. */
static size_t measure(const json_t *j_value, size_t limit)
{
    size_t width = 2;
    if (json_is_array(j_value)) {
        size_t i;
        const json_t *j_item;
        json_array_foreach(j_value, i, j_item)
        {
            width += measure(j_item, limit) + (i > 0 ? 2 : 0);
            if (width > limit) {
                break;
            }
        }
    } else if (json_is_object(j_value)) {
        const char *key;
        json_t *j_item;
        json_object_foreach(cli_json_mutable(j_value), key, j_item)
        {
            width += strlen(key) + 4 + measure(j_item, limit) + (width > 2 ? 2 : 0);
            if (width > limit) {
                break;
            }
        }
    } else if (json_is_string(j_value)) {
        width += json_string_length(j_value);
    } else if (json_is_integer(j_value)) {
        width = (size_t)snprintf(NULL, 0, "%" JSON_INTEGER_FORMAT, json_integer_value(j_value));
    } else if (json_is_real(j_value)) {
        char real[CLI_JSON_REAL_BYTES];
        cli_json_format_real(real, json_real_value(j_value));
        width = strlen(real);
    } else {
        width = 5;
    }
    return width;
}

static void begin_line(FILE *out, size_t indent)
{
    fprintf(out, "\n%*s", (int)indent, "");
}

void cli_json_put_wrapped(FILE *out, const json_t *j_value, size_t indent, size_t column, size_t width)
{
    size_t room = width > column ? width - column : 0;
    bool is_container = json_is_array(j_value) || json_is_object(j_value);
    if (!is_container || measure(j_value, room) <= room) {
        cli_json_put(out, j_value);
        return;
    }
    const char *separator = "";
    size_t inner = indent + 2;
    if (json_is_array(j_value)) {
        size_t i;
        const json_t *j_item;
        fputc('[', out);
        json_array_foreach(j_value, i, j_item)
        {
            fputs(separator, out);
            separator = ",";
            begin_line(out, inner);
            cli_json_put_wrapped(out, j_item, inner, inner, width);
        }
    } else {
        const char *key;
        json_t *j_item;
        fputc('{', out);
        json_object_foreach(cli_json_mutable(j_value), key, j_item)
        {
            fputs(separator, out);
            separator = ",";
            begin_line(out, inner);
            cli_json_put_string(out, key, strlen(key));
            fputs(": ", out);
            cli_json_put_wrapped(out, j_item, inner, inner + strlen(key) + 4, width);
        }
    }
    begin_line(out, indent);
    fputc(json_is_array(j_value) ? ']' : '}', out);
}
