/* cli_event.c -- events as lines that people read.   Start at cli_event_put(). */
#include "cli_event.h"

#include "cli_json.h"

#include <stdlib.h>
#include <string.h>

/* A str of the daemon's on a terminal must not control it; elsewhere it stands as it is. */
static void put_str(FILE *out, const struct cli_style *style, const json_t *j_text)
{
    const char *text = json_string_value(j_text);
    size_t len = json_string_length(j_text);
    if (style->is_terminal) {
        cli_json_put_raw(out, text, len);
    } else {
        fwrite(text, 1, len, out);
    }
}

/* What the phase of a collection is, and at its end what it found. */
static void put_gc(FILE *out, const json_t *j_params)
{
    const json_t *j_automatic = json_object_get(j_params, "automatic");
    const char *phase = json_string_value(json_object_get(j_params, "phase"));
    json_t *j_found =
        json_pack("{s:O*,s:O*,s:O*,s:O*}", "unreachable", json_object_get(j_params, "unreachable"),
                  "uncollectable", json_object_get(j_params, "uncollectable"), "freed",
                  json_object_get(j_params, "freed"), "elapsed_us", json_object_get(j_params, "elapsed_us"));
    fprintf(out, "%s of%s generation %" JSON_INTEGER_FORMAT, phase != NULL ? phase : "phase",
            json_is_true(j_automatic) ? " automatic" : "",
            json_integer_value(json_object_get(j_params, "generation")));
    if (json_object_size(j_found) > 0) {
        fputs(": ", out);
        cli_print_inline(out, j_found);
    }
    json_decref(j_found);
}

/* The params but "event": what all other kinds say. */
static void put_members(FILE *out, const json_t *j_params)
{
    json_t *j_rest = json_copy(cli_json_mutable(j_params));
    json_object_del(j_rest, "event");
    cli_print_inline(out, j_rest);
    json_decref(j_rest);
}

void cli_event_put(FILE *out, const struct cli_style *style, const json_t *j_params)
{
    const json_t *j_event = json_object_get(j_params, "event");
    const json_t *j_line = json_object_get(j_params, "line");
    const char *event = json_is_string(j_event) ? json_string_value(j_event) : "event";
    if (strcmp(event, "journal") == 0 && json_is_string(j_line)) {
        put_str(out, style, j_line);
    } else {
        cli_json_put_text(out, event, strlen(event), "");
        fputs(": ", out);
        if (strcmp(event, "gc") == 0) {
            put_gc(out, j_params);
        } else {
            put_members(out, j_params);
        }
    }
    fputc('\n', out);
}

void cli_event_put_json(FILE *out, const struct cli_style *style, const json_t *j_params)
{
    char *text = json_dumps(j_params, JSON_COMPACT);
    if (text != NULL) {
        cli_print_json(out, style, text, strlen(text));
    }
    free(text);
}
