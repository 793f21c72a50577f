/* cli_why.c -- `heapctl why`: the path that keeps an object alive, as an indented tree.
 *
 *   name cache
 *     dict 12
 *       ['k']  list 17
 *         [3]  Point 40   refcount 1, 64 bytes
 *
 * heap.why tells ids and edges; what the objects are is asked for all of them in one pipeline.
 * Start at cli_why().
 */
#include "cli_command.h"
#include "cli_json.h"
#include "cli_who.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Of a longer path the middle is left out: a chain of a million is not for people. */
#define STEPS_MAX 40
/* The first objects of such a path that are shown; the last ones fill up. */
#define STEPS_FIRST 20

/* ---- writing ---- */

static void put_root(FILE *out, const json_t *j_root, const json_t *j_clients)
{
    const char *root = json_string_value(json_object_get(j_root, "root"));
    const json_t *j_name = json_object_get(j_root, "name");
    const json_t *j_session = json_object_get(j_root, "session");
    if (json_is_string(j_name)) {
        fputs("name ", out);
        cli_json_put_text(out, json_string_value(j_name), json_string_length(j_name), "");
    } else if (json_is_integer(j_session)) {
        cli_who_put(out, j_clients, j_session);
    } else if (root != NULL && strcmp(root, "garbage") == 0) {
        fputs("gc.garbage", out);
    } else {
        cli_json_put_text(out, root != NULL ? root : "root", root != NULL ? strlen(root) : 4, "");
    }
    fputc('\n', out);
}

/* "['k']  list 17" */
static void put_step(FILE *out, const json_t *j_step, const json_t *j_type)
{
    const json_t *j_edge = json_object_get(j_step, "edge");
    if (json_is_string(j_edge)) {
        cli_json_put_text(out, json_string_value(j_edge), json_string_length(j_edge), "");
        fputs("  ", out);
    }
    if (json_is_string(j_type)) {
        cli_json_put_text(out, json_string_value(j_type), json_string_length(j_type), "");
    } else {
        fputs("object", out);
    }
    fprintf(out, " %" JSON_INTEGER_FORMAT, json_integer_value(json_object_get(j_step, "object")));
}

static void put_facts(FILE *out, const json_t *j_inspected)
{
    const json_t *j_refcount = json_object_get(j_inspected, "refcount");
    if (json_is_integer(j_refcount)) {
        char *refcount = cli_print_cell("refcount", j_refcount);
        fprintf(out, "   refcount %s, %" JSON_INTEGER_FORMAT " bytes", refcount != NULL ? refcount : "?",
                json_integer_value(json_object_get(j_inspected, "size")));
        free(refcount);
    }
}

/* Objects that stand in the tree: path[1..], without the middle of a long one. */
static bool is_shown(size_t i, size_t count)
{
    return count <= STEPS_MAX || i <= STEPS_FIRST || i + (STEPS_MAX - STEPS_FIRST) > count;
}

/* cli_why_put -- the tree.  `j_types` are those of path[1..] that are shown, in order. */
static void cli_why_put(FILE *out, size_t width, const json_t *j_path, const json_t *j_types,
                        const json_t *j_inspected, const json_t *j_clients)
{
    size_t count = json_array_size(j_path) - 1, shown = 0, left_out = count - STEPS_MAX;
    put_root(out, json_array_get(j_path, 0), j_clients);
    for (size_t i = 1; i <= count; i++) {
        if (!is_shown(i, count)) {
            continue;
        }
        /* Deep ones stay readable: the indent stops at half of the width. */
        size_t level = shown + 1 < width / 4 ? shown + 1 : width / 4;
        if (count > STEPS_MAX && shown == STEPS_FIRST) {
            fprintf(out, "%*s.. %zu more objects ..\n", (int)level * 2, "", left_out);
        }
        fprintf(out, "%*s", (int)level * 2, "");
        put_step(out, json_array_get(j_path, i), json_array_get(j_types, shown++));
        if (i == count) {
            put_facts(out, j_inspected);
        }
        fputc('\n', out);
    }
}

/* ---- asking ---- */

static json_t *shown_objects(const json_t *j_path)
{
    json_t *j_objects = json_array();
    size_t count = json_array_size(j_path) - 1;
    for (size_t i = 1; i <= count; i++) {
        if (is_shown(i, count)) {
            json_array_append(j_objects, json_object_get(json_array_get(j_path, i), "object"));
        }
    }
    return j_objects;
}

static void print_path(struct cli_session *session, const json_t *j_path)
{
    json_t *j_objects = shown_objects(j_path);
    const json_t *j_last = json_array_get(j_objects, json_array_size(j_objects) - 1);
    bool is_session = json_object_get(json_array_get(j_path, 0), "session") != NULL;
    json_t *j_types = cli_session_try_each(session, "type", j_objects, NULL);
    json_t *j_inspected = cli_session_try(session, "heap.inspect", "{s:O}", "object", j_last);
    json_t *j_clients = is_session ? cli_who_ask(session) : NULL;
    cli_why_put(stdout, session->style.width, j_path, j_types, j_inspected, j_clients);
    json_decref(j_clients);
    json_decref(j_inspected);
    json_decref(j_types);
    json_decref(j_objects);
}

/* Alive without a path: a cycle that the collector has not come to yet, or something in it. */
static void print_unreachable(struct cli_session *session, const struct cli_call *call)
{
    json_t *j_target = json_loads(cli_call_value(call, "object"), JSON_DECODE_ANY, NULL);
    json_t *j_inspected = cli_session_try(session, "heap.inspect", "{s:O}", "object", j_target);
    json_t *j_step = json_pack("{s:O?}", "object", json_object_get(j_inspected, "object"));
    put_step(stdout, j_step, json_object_get(j_inspected, "type"));
    put_facts(stdout, j_inspected);
    puts("\nNothing keeps it alive: no name, no session, nothing frozen and not gc.garbage leads to it.\n"
         "It is garbage in a cycle, or hangs on one, and goes with the next collect of its generation.");
    json_decref(j_step);
    json_decref(j_inspected);
    json_decref(j_target);
}

enum cli_exit cli_why(struct cli_session *session, const struct cli_call *call)
{
    json_t *j_why = NULL;
    enum cli_exit code = cli_session_ask_for(session, call, &j_why, "heap.why");
    if (code != CLI_EXIT_OK) {
        return code;
    }
    const json_t *j_path = json_object_get(j_why, "path");
    if (cli_session_wants_json(session, call)) {
        cli_session_print_json(session);
    } else if (json_is_true(json_object_get(j_why, "reachable")) && json_array_size(j_path) > 1) {
        print_path(session, j_path);
    } else {
        print_unreachable(session, call);
    }
    json_decref(j_why);
    return CLI_EXIT_OK;
}
