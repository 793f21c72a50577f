/* json_inputs.h -- texts for test_json_differential.c: made by a grammar, damaged, or from real files.
 *
 * All that is chosen comes from one process_random, so a seed repeats it.
 */
#ifndef HEAPD_TESTS_JSON_INPUTS_H
#define HEAPD_TESTS_JSON_INPUTS_H

#include <dirent.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../support/process.h"

#define INPUT_MAX 4096 /* bytes of what is made here; real files may be longer */

struct input {
    char text[INPUT_MAX];
    size_t len;
};

static inline void input_add(struct input *input, const char *text, size_t len)
{
    if (len <= sizeof input->text - input->len) {
        memcpy(input->text + input->len, text, len);
        input->len += len;
    }
}

__attribute__((format(printf, 2, 3))) static inline void input_printf(struct input *input, const char *format, ...)
{
    char piece[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(piece, sizeof piece, format, arguments);
    va_end(arguments);
    input_add(input, piece, strlen(piece));
}

/* One of a list of strings that NULL ends. */
static inline const char *input_one_of(struct process_random *random, const char *const *words)
{
    uint32_t n = 0;
    while (words[n] != NULL) {
        n++;
    }
    return words[process_random_below(random, n)];
}

/* ---- by the grammar ---- */

static inline void input_make_space(struct input *input, struct process_random *random)
{
    uint32_t n = process_random_below(random, 8) > 0 ? 0 : process_random_below(random, 20);
    while (n-- > 0) {
        input_add(input, &" \t\r "[process_random_below(random, 4)], 1);
    }
}

static inline void input_make_number(struct input *input, struct process_random *random)
{
    static const char *const numbers[] = {
        "0", "-0", "-0.0", "1", "-1", "255", "256", "257", "-5", "-6", "9007199254740991", "9007199254740993",
        "999999999999999999", "1000000000000000000", "9223372036854775807", "9223372036854775808", "-9223372036854775808",
        "-9223372036854775809", "18446744073709551616", "123456789012345678901234567890", "1e308", "1.8e308", "1e309",
        "-1e400", "1e-400", "5e-324", "2.4703282292062327e-324", "2.4703282292062328e-324", "2.2250738585072011e-308",
        "1.7976931348623157e308", "1.7976931348623159e308", "0.1", "1E+2", "1e-2", "0e99999999999999999999", NULL};
    uint64_t bits = process_random_next(random);
    double real;
    memcpy(&real, &bits, sizeof real);
    switch (process_random_below(random, 6)) {
    case 0:
        input_printf(input, "%s", input_one_of(random, numbers));
        break;
    case 1:
        input_printf(input, "%lld", (long long)(bits >> process_random_below(random, 64)));
        break;
    case 2:
        input_printf(input, "%.*e", (int)process_random_below(random, 25), real == real && real - real == 0 ? real : 0.5);
        break;
    case 3: /* many digits, which a shorter way of reading must not round */
        input_printf(input, "%llu%llu.%llu%llue%d", 1 + (unsigned long long)(bits >> 8), (unsigned long long)bits,
                     (unsigned long long)(bits >> 3), (unsigned long long)bits, (int)process_random_below(random, 700) - 360);
        break;
    case 4: /* near the middle between two floats */
        input_printf(input, "%.*f", (int)process_random_below(random, 60),
                     (double)(bits >> 11) + 0.5 * (double)process_random_below(random, 2));
        break;
    default:
        input_printf(input, "%d.%02u", (int)process_random_below(random, 2000) - 1000, process_random_below(random, 100));
    }
}

static inline void input_make_string(struct input *input, struct process_random *random)
{
    static const char *const pieces[] = {
        "a", "key", "$ref", "$", "\\u0024", " ", "\\n", "\\t", "\\\"", "\\\\", "\\/", "\\b\\f\\r", "\\u0000", "\\u0041",
        "\\u00e4", "\\u20AC", "\\ud83d\\ude00", "\\udbff\\udfff", "\xc3\xa4", "\xe2\x82\xac", "\xf0\x9f\x98\x80", "\x7f",
        "\xf4\x8f\xbf\xbf", "0123456789abcde", "0123456789abcdef", "0123456789abcdef0123456789abcdef", "{", "]", ",", ":",
        "jsonrpc", "id", "method", "params", "value", NULL};
    input_add(input, "\"", 1);
    for (uint32_t n = process_random_below(random, 5); n > 0; n--) {
        const char *piece = input_one_of(random, pieces);
        input_add(input, piece, strlen(piece));
    }
    input_add(input, "\"", 1);
}

/* Any value, at most so deep. */
static inline void input_make_value(struct input *input, struct process_random *random, unsigned depth)
{
    static const char *const words[] = {"null", "true", "false", NULL};
    uint32_t what = process_random_below(random, depth > 0 ? 8 : 4), n = process_random_below(random, 5);
    input_make_space(input, random);
    if (what == 0) {
        input_printf(input, "%s", input_one_of(random, words));
    } else if (what < 3) {
        input_make_number(input, random);
    } else if (what == 3) {
        input_make_string(input, random);
    } else {
        bool is_object = what > 5;
        input_add(input, is_object ? "{" : "[", 1);
        for (uint32_t i = 0; i < n; i++) {
            input_add(input, ",", i > 0);
            if (is_object) {
                input_make_space(input, random);
                input_make_string(input, random);
                input_make_space(input, random);
                input_add(input, ":", 1);
            }
            input_make_value(input, random, depth - 1);
        }
        input_make_space(input, random);
        input_add(input, is_object ? "}" : "]", 1);
    }
    input_make_space(input, random);
}

/* ---- requests ---- */

/* A member of a request, mostly as it should be. */
static inline void input_make_member(struct input *input, struct process_random *random, uint32_t which)
{
    static const char *const versions[] = {"\"2.0\"", "\"2.0\"", "\"2.\\u0030\"", "\"1.0\"", "2.0", "null", NULL};
    static const char *const ids[] = {"1", "\"a\"", "null", "1.0", "-0", "1e3", "\"\\u0041\"", "12345678901234567890",
                                      "1e999", "\"\\u0000\"", "true", "[1]", "{}", NULL};
    static const char *const methods[] = {"\"ping\"", "\"ping\"", "\"p\\u0069ng\"", "\"create\"", "\"create\"", "\"creat\"",
                                          "\"create\"", "\"create\"", "\"\"", "null", "1", NULL};
    static const char *const params[] = {"[]", "{}", "[1]", "{\"a\":1}", "null", "1", "\"a\"", NULL};
    static const char *const names[] = {"\"jsonrpc\":", "\"id\":", "\"method\":", "\"params\":", "\"i\\u0064\":",
                                        "\"more\":", "\"mor\\u0065\":", "\"\":", NULL};
    uint32_t plain = process_random_below(random, 12); /* 0: anything */
    switch (which) {
    case 0:
        input_printf(input, "\"jsonrpc\":%s", plain > 0 ? "\"2.0\"" : input_one_of(random, versions));
        break;
    case 1:
        input_printf(input, "\"id\":%s", plain > 3 ? "1" : input_one_of(random, ids));
        break;
    case 2:
        input_printf(input, "\"method\":%s", input_one_of(random, methods));
        break;
    case 3:
        if (plain > 0) {
            input_printf(input, "\"params\":%s", plain % 2 ? "{\"value\":" : "[");
            input_make_value(input, random, 3);
            input_printf(input, "%s", plain % 2 ? ",\"name\":\"v\"}" : ",\"v\"]");
        } else {
            input_printf(input, "\"params\":%s", input_one_of(random, params));
        }
        break;
    default:
        input_printf(input, "%s", input_one_of(random, names));
        input_make_value(input, random, 2);
    }
}

/* A request, or something that is nearly one. */
static inline void input_make_request(struct input *input, struct process_random *random)
{
    uint32_t order[6] = {0, 1, 2, 3, 4, 4}, count = 3 + process_random_below(random, 2), swaps;
    if (process_random_below(random, 20) == 0) {
        input_make_value(input, random, 2);
        return;
    }
    count = process_random_below(random, 4) == 0 ? process_random_below(random, 7) : count;
    swaps = process_random_below(random, 2) == 0 ? 0 : 4;
    for (uint32_t i = 0; i < swaps; i++) {
        uint32_t a = process_random_below(random, 6), b = process_random_below(random, 6), was = order[a];
        order[a] = order[b];
        order[b] = was;
    }
    input_add(input, "{", 1);
    for (uint32_t i = 0; i < count; i++) {
        input_add(input, ",", i > 0);
        input_make_space(input, random);
        input_make_member(input, random, order[i]);
        input_make_space(input, random);
    }
    input_add(input, "}", 1);
}

/* A request or a batch. */
static inline void input_make_line(struct input *input, struct process_random *random)
{
    input_make_space(input, random);
    if (process_random_below(random, 4) > 0) {
        input_make_request(input, random);
    } else {
        uint32_t n = process_random_below(random, 5);
        input_add(input, "[", 1);
        for (uint32_t i = 0; i < n; i++) {
            input_add(input, ",", i > 0);
            input_make_request(input, random);
        }
        input_make_space(input, random);
        input_add(input, "]", 1);
    }
    input_make_space(input, random);
}

/* ---- damage ---- */

/* One small damage: a byte changed, taken out, put in, a piece copied elsewhere, a bit flipped. */
static inline void input_damage(struct input *input, struct process_random *random)
{
    static const char bytes[] = "{}[]\",:\\ \t0123456789.eE+-truefalsenull$u\x01\x1f\x7f\x80\xbf\xc3\xa4\xed\xf4\xff";
    char *text = input->text;
    size_t len = input->len;
    if (len == 0) {
        return;
    }
    size_t at = process_random_below(random, (uint32_t)len), n = 1 + process_random_below(random, 8);
    char byte = bytes[process_random_below(random, sizeof bytes - 1)];
    switch (process_random_below(random, 5)) {
    case 0:
        text[at] = byte;
        break;
    case 1:
        memmove(text + at, text + at + 1, len - at - 1);
        input->len--;
        break;
    case 2:
        if (len < sizeof input->text) {
            memmove(text + at + 1, text + at, len - at);
            text[at] = byte;
            input->len++;
        }
        break;
    case 3:
        n = n > len - at ? len - at : n;
        memmove(text + process_random_below(random, (uint32_t)(len - n + 1)), text + at, n);
        break;
    default:
        text[at] = (char)(text[at] ^ 1 << process_random_below(random, 8));
    }
}

/* Random bytes that the grammar uses: short, so that many are good. */
static inline void input_make_noise(struct input *input, struct process_random *random)
{
    static const char *const pieces[] = {"{", "}", "[", "]", ",", ":", "\"", "\"a\"", "\"\"", "1", "0", "-", ".", "e",
                                         "E+", " ", "\t", "true", "null", "fal", "se", "\\u0", "\"\\n", "\xc3\xa4", "12",
                                         "1.5", "\"$\"", "[1]", "{}", "1e999", "\"\\u0000\":", NULL};
    for (uint32_t n = 1 + process_random_below(random, 7); n > 0; n--) {
        const char *piece = input_one_of(random, pieces);
        input_add(input, piece, strlen(piece));
    }
}

/* ---- files ---- */

struct corpus {
    struct input *inputs; /* those of JSONTestSuite that are not longer than INPUT_MAX */
    size_t count;
};

/* In the order of their names, so that a seed means the same everywhere.  false: they are not there. */
static inline bool corpus_load(struct corpus *corpus)
{
    char folder[4200], path[4500];
    struct dirent **entries = NULL;
    int count = process_data(folder, sizeof folder, "JSONTestSuite/test_parsing")
                    ? scandir(folder, &entries, NULL, alphasort)
                    : 0;
    *corpus = (struct corpus){.inputs = calloc((size_t)count + 1, sizeof *corpus->inputs)};
    for (int i = 0; i < count; i++) {
        size_t len = 0;
        snprintf(path, sizeof path, "%s/%s", folder, entries[i]->d_name);
        char *text = entries[i]->d_name[0] == '.' ? NULL : process_read_file(path, &len);
        if (text != NULL && len <= INPUT_MAX) {
            input_add(&corpus->inputs[corpus->count++], text, len);
        }
        free(text);
        free(entries[i]);
    }
    free(entries);
    return corpus->count > 0;
}

#endif
