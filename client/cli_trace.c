/* cli_trace.c -- lines of a journal, read as text: `CRC {"session":3,"method":"create","params":[..],"ids":[17,2]}`.
 *
 * heapd writes them, so a line is in one form, and its params are sent again as they stand but for the ids in
 * them: a jansson value could not hold every key, nor write every number as it was.  Checksums are the daemon's
 * business: what is cut off is no JSON object, and that ends the trace.
 *
 * Start at cli_trace_next() and cli_trace_translate().
 */
#include "cli_trace.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* `CRC ` in front of a line of a file. */
#define CRC_BYTES 9
/* More ids than that no request can give. */
#define RUN_MAX (UINT64_C(1) << 32)

/* ---- JSON as text ---- */

/* Behind the string that begins at `at`; `end` if it has no end. */
static const char *skip_string(const char *at, const char *end)
{
    for (at++; at < end && *at != '"'; at++) {
        at += *at == '\\';
    }
    return at < end ? at + 1 : end;
}

/* Behind the value that begins at `at`; `end` if it has no end. */
static const char *skip_value(const char *at, const char *end)
{
    size_t depth = 0;
    while (at < end && (depth > 0 || strchr(",]}", *at) == NULL)) {
        depth += *at == '{' || *at == '[';
        depth -= *at == '}' || *at == ']';
        at = *at == '"' ? skip_string(at, end) : at + 1;
    }
    return at;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool text_is(const struct cli_trace_text *text, const char *word)
{
    return text->len == strlen(word) && memcmp(text->start, word, text->len) == 0;
}

/* ---- a line ---- */

/* `"name":VALUE` at *at, which goes behind it and a comma.  False: there is none. */
static bool next_member(const char **at, const char *end, struct cli_trace_text *name, struct cli_trace_text *value)
{
    const char *key = *at, *key_end = key < end && *key == '"' ? skip_string(key, end) : end;
    if (key_end + 1 >= end || *key_end != ':') {
        return false;
    }
    *name = (struct cli_trace_text){key + 1, (size_t)(key_end - key) - 2};
    value->start = key_end + 1;
    const char *value_end = skip_value(value->start, end);
    value->len = (size_t)(value_end - value->start);
    *at = value_end + (value_end < end && *value_end == ',');
    return value_end < end && value->len > 0;
}

/* The ids of runs, `[17,2,90,1]`, behind one another.  SIZE_MAX: they are none, or no memory. */
static size_t read_runs(const char *at, uint64_t **ids, size_t *room)
{
    size_t count = 0;
    do {
        char *next;
        uint64_t first = strtoull(at + 1, &next, 10);
        uint64_t run = *next == ',' ? strtoull(next + 1, &next, 10) : RUN_MAX;
        if (run >= RUN_MAX || (*next != ',' && *next != ']')) {
            return SIZE_MAX;
        }
        if (*room - count < run) {
            size_t wanted = 2 * (count + (size_t)run);
            uint64_t *more = reallocarray(*ids, wanted, sizeof *more);
            if (more == NULL) {
                return SIZE_MAX;
            }
            *ids = more;
            *room = wanted;
        }
        for (uint64_t i = 0; i < run; i++) {
            (*ids)[count++] = first + i;
        }
        at = next;
    } while (*at == ',');
    return count;
}

/* What an effect is. */
static enum cli_trace_kind kind_of_effect(const struct cli_trace_text *word)
{
    static const struct {
        const char *word;
        enum cli_trace_kind kind;
    } kinds[] = {{"\"released\"", CLI_TRACE_RELEASED}, {"\"merged\"", CLI_TRACE_MERGED}, {"\"leased\"", CLI_TRACE_LEASED}};
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        if (text_is(word, kinds[i].word)) {
            return kinds[i].kind;
        }
    }
    return CLI_TRACE_OTHER;
}

/* One member of a line; the text ends with a NUL, so numbers end.  False: it cannot be. */
static bool take_member(struct cli_trace_line *line, size_t *room, const struct cli_trace_text *name,
                        const struct cli_trace_text *value)
{
    if (text_is(name, "session")) {
        line->session = strtoull(value->start, NULL, 10);
    } else if (text_is(name, "into")) {
        line->into = strtoull(value->start, NULL, 10);
    } else if (text_is(name, "method") && value->len > 2) {
        free(line->method);
        line->method = strndup(value->start + 1, value->len - 2);
        line->kind = CLI_TRACE_REQUEST;
        return line->method != NULL;
    } else if (text_is(name, "params")) {
        line->params = *value;
    } else if (text_is(name, "ids")) {
        line->id_count = read_runs(value->start, &line->ids, room);
        return line->id_count != SIZE_MAX;
    } else if (text_is(name, "effect")) {
        line->kind = kind_of_effect(value);
    } else if (text_is(name, "restart") && *value->start == 't') {
        line->kind = CLI_TRACE_RESTART;
    }
    return true;
}

/* A JSON object of the form that heapd writes. */
static bool read_object(struct cli_trace_line *line, size_t *room, const char *text, const char *end)
{
    struct cli_trace_text name, value;
    const char *at = text + 1;
    free(line->method);
    *line = (struct cli_trace_line){.kind = CLI_TRACE_OTHER, .ids = line->ids};
    if (*text != '{' || end[-1] != '}') {
        return false;
    }
    while (at < end - 1) {
        if (!next_member(&at, end, &name, &value) || !take_member(line, room, &name, &value)) {
            return false;
        }
    }
    return line->kind != CLI_TRACE_REQUEST || (line->params.start != NULL && *line->params.start == '[');
}

size_t cli_trace_ids(const char *text, uint64_t *session, uint64_t **ids, size_t *room)
{
    struct cli_trace_line line = {.ids = *ids};
    bool ok = read_object(&line, room, text, text + strlen(text));
    free(line.method);
    *ids = line.ids;
    *session = line.session;
    return ok ? line.id_count : SIZE_MAX;
}

/* ---- the trace ---- */

bool cli_trace_open(struct cli_trace *trace, const char *path)
{
    *trace = (struct cli_trace){.file = strcmp(path, "-") == 0 ? stdin : fopen(path, "re")};
    return trace->file != NULL;
}

void cli_trace_close(struct cli_trace *trace)
{
    if (trace->file != NULL && trace->file != stdin) {
        fclose(trace->file);
    }
    free(trace->text);
    free(trace->line.method);
    free(trace->line.ids);
}

/* Of what `heapctl --json monitor` printed: a `journal` event's line takes the place of the text.  False: it is
 * another event, which is passed over. */
static bool unwrap(struct cli_trace *trace, size_t *len)
{
    json_t *j_event = json_loads(trace->text, JSON_ALLOW_NUL, NULL);
    const char *event = json_string_value(json_object_get(j_event, "event"));
    const json_t *j_line = json_object_get(j_event, "line");
    bool is_line = json_is_string(j_line) && json_string_length(j_line) <= *len; /* escaped it was longer */
    if (is_line) {
        *len = json_string_length(j_line);
        memcpy(trace->text, json_string_value(j_line), *len + 1);
    } else if (event != NULL && strcmp(event, "lost") == 0) {
        trace->lost += (uint64_t)json_integer_value(json_object_get(j_event, "count"));
    }
    json_decref(j_event);
    return is_line;
}

/* As people see it: `lost: count 3`. */
static bool is_loss(struct cli_trace *trace)
{
    static const char head[] = "lost: ";
    bool is = strncmp(trace->text, head, sizeof head - 1) == 0;
    if (is) {
        trace->lost += strtoull(trace->text + strcspn(trace->text, "0123456789"), NULL, 10);
    }
    return is;
}

bool cli_trace_next(struct cli_trace *trace)
{
    ssize_t got;
    while ((got = getline(&trace->text, &trace->capacity, trace->file)) >= 0) {
        size_t len = (size_t)got;
        trace->number++;
        len -= len > 0 && trace->text[len - 1] == '\n';
        trace->text[len] = '\0';
        if (*trace->text == '\0') { /* room that the file has set aside, or an empty line */
            continue;
        }
        if (is_loss(trace) || (strncmp(trace->text, "{\"event\":", 9) == 0 && !unwrap(trace, &len))) {
            continue;
        }
        const char *text = trace->text + (len > CRC_BYTES && trace->text[CRC_BYTES - 1] == ' ' ? CRC_BYTES : 0);
        if (len < 2 || !read_object(&trace->line, &trace->id_room, text, trace->text + len)) {
            trace->wrong = "it is no line of a journal";
            return false;
        }
        return true;
    }
    trace->wrong = ferror(trace->file) ? strerror(errno) : NULL;
    return false;
}

/* ---- ids in params ---- */

struct translation {
    FILE *out;
    cli_trace_lookup *lookup;
    void *arg;
    uint64_t unknown;
};

/* The number at `at` is an id: writes what it is now.  Returns what is behind it. */
static const char *put_id(struct translation *translation, const char *at)
{
    char *behind;
    uint64_t id = strtoull(at, &behind, 10), now = translation->lookup(translation->arg, id);
    if (now == 0) {
        translation->unknown = id;
    }
    fprintf(translation->out, "%llu", (unsigned long long)now);
    return behind;
}

/* The string at `at`, and what belongs to it when it is the key of a form that names an object, or of plain
 * JSON, in which nothing is a form.  Returns what is behind. */
static const char *put_string(struct translation *translation, const char *at, const char *end)
{
    static const char *const forms[] = {"$ref", "$weakref", "$instance"};
    const char *behind = skip_string(at, end);
    struct cli_trace_text text = {at + 1, (size_t)(behind - at) - 2};
    bool is_key = behind < end && *(behind + strspn(behind, " \t")) == ':';
    if (is_key) {
        behind += strspn(behind, " \t") + 1;
        behind += strspn(behind, " \t");
        behind = text_is(&text, "$json") ? skip_value(behind, end) : behind;
    }
    fwrite(at, 1, (size_t)(behind - at), translation->out);
    for (size_t i = 0; is_key && is_digit(*behind) && i < sizeof forms / sizeof forms[0]; i++) {
        if (text_is(&text, forms[i])) {
            return put_id(translation, behind);
        }
    }
    return behind;
}

/* Whether a number in the place of that parameter is an id. */
static bool is_target(const struct cli_method *method, size_t index)
{
    return index < method->param_count && method->params[index].kind == CLI_KIND_TARGET;
}

static void translate_params(struct translation *translation, const struct cli_trace_text *params,
                       const struct cli_method *method)
{
    const char *at = params->start, *end = at + params->len;
    size_t depth = 0, index = 0;
    bool is_first = false; /* at the beginning of a parameter */
    while (at < end) {
        if (*at == '"') {
            at = put_string(translation, at, end);
            is_first = false;
            continue;
        }
        if (is_first && is_digit(*at) && is_target(method, index)) {
            at = put_id(translation, at);
            is_first = false;
            continue;
        }
        depth += *at == '{' || *at == '[';
        depth -= *at == '}' || *at == ']';
        index += *at == ',' && depth == 1;
        is_first = depth == 1 && (*at == ',' || *at == '[' || (is_first && *at == ' '));
        fputc(*at++, translation->out);
    }
}

char *cli_trace_translate(const struct cli_trace_line *line, const struct cli_method *method,
                          cli_trace_lookup *lookup, void *arg, uint64_t *unknown)
{
    char *text = NULL;
    size_t len;
    struct translation translation = {.out = open_memstream(&text, &len), .lookup = lookup, .arg = arg};
    *unknown = 0;
    if (translation.out == NULL) {
        return NULL;
    }
    translate_params(&translation, &line->params, method);
    bool ok = fclose(translation.out) == 0;
    *unknown = translation.unknown;
    if (!ok || translation.unknown != 0) {
        free(text);
        return NULL;
    }
    return text;
}
