/* promtext.c -- reads the text format of Prometheus, and finds fault with it as `promtool check metrics` does. */
#include "promtext.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LINE_BYTES 1024
#define NAME_BYTES 128
#define FAMILIES_MAX 512

enum kind { KIND_COUNTER, KIND_GAUGE, KIND_HISTOGRAM, KIND_SUMMARY, KIND_UNTYPED };

struct reader {
    char (*seen)[NAME_BYTES]; /* families that have begun */
    size_t seen_count;
    char family[NAME_BYTES]; /* the one under way */
    enum kind kind;
    bool has_help, has_type;
    size_t samples; /* of it */
    /* of its histogram */
    double last_edge, last_count, total;
    bool has_sum, has_count, has_infinity;
    char *why;
    unsigned line;
};

static bool fail(struct reader *reader, const char *what, const char *about)
{
    snprintf(reader->why, PROMTEXT_WHY_BYTES, "line %u: %s: %.300s", reader->line, what, about);
    return false;
}

/* ---- names ---- */

static bool ends_with(const char *text, const char *end)
{
    size_t len = strlen(text), end_len = strlen(end);
    return len >= end_len && strcmp(text + len - end_len, end) == 0;
}

/* Whether the name has that word between underscores. */
static bool has_word(const char *name, const char *word)
{
    size_t len = strlen(word);
    for (const char *p = name; (p = strstr(p, word)) != NULL; p += len) {
        if ((p == name || p[-1] == '_') && (p[len] == '_' || p[len] == '\0')) {
            return true;
        }
    }
    return false;
}

static bool check_name(struct reader *reader, const char *name)
{
    static const char *const units[] = {"ms",           "us",           "ns",        "milliseconds", "microseconds",
                                        "nanoseconds",  "minutes",      "hours",     "kb",           "mb",
                                        "kilobytes",    "megabytes",    "kib",       "mib",          "bits",
                                        "percent",      "sec",          "secs",      "msec",         "usec"};
    static const char *const types[] = {"counter", "gauge", "histogram", "summary"};
    if (strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_") != strlen(name) || isdigit((unsigned char)*name)) {
        return fail(reader, "a name is in snake_case", name);
    }
    if (strncmp(name, "heapd_", 6) != 0 && strncmp(name, "process_", 8) != 0) {
        return fail(reader, "a name tells whose it is", name);
    }
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
        if (has_word(name, units[i])) {
            return fail(reader, "units are base units, written out", name);
        }
    }
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        if (has_word(name, types[i])) {
            return fail(reader, "a name does not tell its type", name);
        }
    }
    return true;
}

static bool check_suffix(struct reader *reader)
{
    const char *name = reader->family;
    if ((reader->kind == KIND_COUNTER) != ends_with(name, "_total")) {
        return fail(reader, "counters end in _total, and nothing else does", name);
    }
    if (ends_with(name, "_count") || ends_with(name, "_sum") || ends_with(name, "_bucket")) {
        return fail(reader, "_count, _sum and _bucket are for histograms", name);
    }
    return true;
}

/* ---- families ---- */

/* The family under way is over. */
static bool end_family(struct reader *reader)
{
    if (reader->family[0] == '\0') {
        return true;
    }
    if (!reader->has_help || !reader->has_type) {
        return fail(reader, "a family has HELP and TYPE", reader->family);
    }
    if (reader->samples == 0) {
        return fail(reader, "a family has samples", reader->family);
    }
    if (reader->kind == KIND_HISTOGRAM && !(reader->has_sum && reader->has_count && reader->has_infinity)) {
        return fail(reader, "a histogram has _sum, _count and a bucket +Inf", reader->family);
    }
    return true;
}

static bool begin_family(struct reader *reader, const char *name)
{
    if (!end_family(reader) || !check_name(reader, name)) {
        return false;
    }
    for (size_t i = 0; i < reader->seen_count; i++) {
        if (strcmp(reader->seen[i], name) == 0) {
            return fail(reader, "a family is in one piece", name);
        }
    }
    if (reader->seen_count == FAMILIES_MAX) {
        return fail(reader, "there are too many families", name);
    }
    snprintf(reader->seen[reader->seen_count++], NAME_BYTES, "%s", name);
    snprintf(reader->family, NAME_BYTES, "%s", name);
    reader->has_help = reader->has_type = reader->has_sum = reader->has_count = reader->has_infinity = false;
    reader->samples = 0;
    reader->last_edge = -1;
    reader->last_count = 0;
    return true;
}

/* `# HELP name text` or `# TYPE name word` */
static bool read_comment(struct reader *reader, const char *line)
{
    static const char *const kinds[] = {"counter", "gauge", "histogram", "summary", "untyped"};
    char word[8], name[NAME_BYTES];
    int used = 0;
    if (sscanf(line, "# %7s %127s %n", word, name, &used) != 2 || used == 0) {
        return fail(reader, "a comment is HELP or TYPE", line);
    }
    if (strcmp(name, reader->family) != 0 && !begin_family(reader, name)) {
        return false;
    }
    if (strcmp(word, "HELP") == 0) {
        bool is_twice = reader->has_help || reader->samples > 0;
        reader->has_help = true;
        return is_twice || line[used] == '\0' ? fail(reader, "HELP comes once, first, and says something", line) : true;
    }
    if (strcmp(word, "TYPE") != 0 || reader->has_type || reader->samples > 0) {
        return fail(reader, "TYPE comes once, before the samples", line);
    }
    reader->has_type = true;
    for (unsigned i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        if (strcmp(kinds[i], line + used) == 0) {
            reader->kind = (enum kind)i;
            return check_suffix(reader);
        }
    }
    return fail(reader, "this is no type", line);
}

/* ---- samples ---- */

static bool read_value(double *value, const char *text)
{
    char *end;
    if (strcmp(text, "+Inf") == 0 || strcmp(text, "-Inf") == 0 || strcmp(text, "NaN") == 0) {
        *value = strtod(text, NULL);
        return true;
    }
    *value = strtod(text, &end);
    return end != text && *end == '\0' && strspn(text, "0123456789.eE+-") == strlen(text);
}

/* `label="value",..}`; *end is behind the brace.  The value of `le` goes into edge. */
static bool read_labels(struct reader *reader, const char *labels, const char **end, char edge[32])
{
    const char *p = labels;
    while (*p != '}') {
        size_t name_len = strspn(p, "abcdefghijklmnopqrstuvwxyz_");
        const char *value = p + name_len + 2;
        if (name_len == 0 || strncmp(p + name_len, "=\"", 2) != 0) {
            return fail(reader, "a label is name=\"value\"", labels);
        }
        size_t len = 0;
        while (value[len] != '"') {
            bool is_escape = value[len] == '\\' && value[len + 1] != '\0' && strchr("\\\"n", value[len + 1]) != NULL;
            if (value[len] == '\0' || (value[len] == '\\' && !is_escape)) {
                return fail(reader, "a label's value ends in a quote", labels);
            }
            len += is_escape ? 2 : 1;
        }
        if (name_len == 2 && strncmp(p, "le", 2) == 0) {
            snprintf(edge, 32, "%.*s", (int)len, value);
        }
        p = value + len + 1;
        p += *p == ',';
    }
    *end = p + 1;
    return true;
}

static bool check_bucket(struct reader *reader, const char *line, const char *edge_text, double count)
{
    double edge;
    if (!read_value(&edge, edge_text) || edge <= reader->last_edge || count < reader->last_count) {
        return fail(reader, "buckets have rising edges and counts", line);
    }
    reader->last_edge = edge;
    reader->last_count = count;
    reader->has_infinity |= strcmp(edge_text, "+Inf") == 0;
    return true;
}

/* A sample of a histogram, whose name has a suffix. */
static bool check_histogram(struct reader *reader, const char *line, const char *suffix, const char *edge,
                            double value)
{
    if (strcmp(suffix, "_bucket") == 0) {
        return check_bucket(reader, line, edge, value);
    }
    reader->has_sum |= strcmp(suffix, "_sum") == 0;
    if (strcmp(suffix, "_count") == 0) {
        reader->has_count = true;
        if (!reader->has_infinity || value != reader->last_count) {
            return fail(reader, "_count is what the bucket +Inf has", line);
        }
        return true;
    }
    return strcmp(suffix, "_sum") == 0 || fail(reader, "this is no sample of a histogram", line);
}

/* `name{labels} value` */
static bool read_sample(struct reader *reader, const char *line)
{
    char name[NAME_BYTES], edge[32] = "";
    size_t name_len = strspn(line, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_:");
    const char *p = line + name_len;
    double value;
    snprintf(name, sizeof name, "%.*s", (int)name_len, line);
    if (*p == '{' && !read_labels(reader, p + 1, &p, edge)) {
        return false;
    }
    if (name_len == 0 || *p != ' ' || !read_value(&value, p + 1)) {
        return fail(reader, "a sample is a name, labels, and a number", line);
    }
    size_t family_len = strlen(reader->family);
    if (!reader->has_type || strncmp(name, reader->family, family_len) != 0) {
        return fail(reader, "a sample comes behind the TYPE of its family", line);
    }
    reader->samples++;
    if (value < 0) {
        return fail(reader, "nothing here is below zero", line);
    }
    if (reader->kind == KIND_HISTOGRAM) {
        return check_histogram(reader, line, name + family_len, edge, value);
    }
    return name[family_len] == '\0' || fail(reader, "a sample has its family's name", line);
}

/* Whether what stands before the value occurs in an earlier line, too.  Quadratic; the page is short. */
static bool is_twice(const char *text, const char *line)
{
    const char *space = strrchr(line, ' ');
    size_t len = (size_t)(space + 1 - line);
    unsigned found = 0;
    for (const char *p = text; *p != '\0'; p = strchr(p, '\n') + 1) {
        found += strncmp(p, line, len) == 0;
    }
    return found > 1;
}

/* ---- the page ---- */

bool promtext_check(const char *text, char why[PROMTEXT_WHY_BYTES])
{
    struct reader reader = {.why = why, .seen = calloc(FAMILIES_MAX, NAME_BYTES)};
    bool ok = reader.seen != NULL;
    for (const char *p = text, *newline; ok && *p != '\0'; p = newline + 1) {
        char line[LINE_BYTES];
        reader.line++;
        newline = strchr(p, '\n');
        if (newline == NULL || newline - p >= LINE_BYTES) {
            ok = fail(&reader, "a line ends, and is not endless", "");
            break;
        }
        snprintf(line, sizeof line, "%.*s", (int)(newline - p), p);
        ok = *line == '#' ? read_comment(&reader, line) : read_sample(&reader, line);
        if (ok && *line != '#' && is_twice(text, line)) {
            ok = fail(&reader, "a sample is there once", line);
        }
    }
    ok = ok && end_family(&reader);
    free(reader.seen);
    return ok;
}

bool promtext_value(double *value, const char *text, const char *sample)
{
    size_t len = strlen(sample);
    for (const char *p = text; p != NULL; p = strchr(p, '\n')) {
        p += *p == '\n';
        if (strncmp(p, sample, len) == 0 && p[len] == ' ') {
            *value = strtod(p + len + 1, NULL);
            return true;
        }
    }
    return false;
}

size_t promtext_families(const char *text)
{
    size_t count = 0;
    for (const char *p = text; (p = strstr(p, "# TYPE ")) != NULL; p++) {
        count++;
    }
    return count;
}
