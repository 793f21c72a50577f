/* cli_graph.c -- `heapctl graph`: the neighbourhood of an object, drawn by Graphviz.
 *
 * The objects are looked at level by level, all of a level in one pipeline: what they are (heap.inspect),
 * what they refer to (gc.get_referents), and what the edges are called (keys and attributes).  Above the
 * target stand the path that keeps it alive (heap.why) and the objects that refer to it directly.
 * The heap may change between the questions: what has died meanwhile is drawn as "object".
 * Start at cli_graph().
 */
#include "cli_command.h"
#include "cli_json.h"
#include "cli_picture.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define DEPTH_DEFAULT 3
#define LIMIT_DEFAULT 100
/* More than this many no layout can show. */
#define LIMIT_MAX 100000
/* Objects that refer to the target and are on no path are drawn up to this many. */
#define REFERRERS_MAX 10
/* Texts of atoms beyond this size are not asked for. */
#define TEXT_BYTES_MAX 4096

/* What is to be drawn and how far. */
struct graph {
    struct cli_session *session;
    struct cli_picture picture;
    size_t depth, limit;
    bool is_cut; /* there is more than `limit` */
};

/* ---- looking ---- */

static bool is_one_of(const char *type, const char *const *types, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(type, types[i]) == 0) {
            return true;
        }
    }
    return false;
}

static bool is_atom(const char *type)
{
    static const char *const types[] = {"NoneType", "bool", "int", "float", "str", "bytes"};
    return is_one_of(type, types, sizeof types / sizeof types[0]);
}

static bool is_instance(const char *type)
{
    static const char *const types[] = {"list", "tuple", "dict", "set", "frozenset", "type", "weakref", ""};
    return !is_atom(type) && !is_one_of(type, types, sizeof types / sizeof types[0]);
}

static const char *type_of(const struct cli_node *node)
{
    const char *type = json_string_value(json_object_get(node->j_facts, "type"));
    return type != NULL ? type : "";
}

/* What an atom is, as Python would print it or nearly so; its type and id when it is large. */
static char *atom_text(const struct cli_node *node, const json_t *j_value)
{
    char *text = NULL;
    size_t len;
    FILE *out = open_memstream(&text, &len);
    if (out == NULL) {
        return NULL;
    }
    const char *form = json_object_iter_key(json_object_iter(cli_json_mutable(j_value)));
    if (j_value == NULL || json_integer_value(json_object_get(node->j_facts, "size")) > TEXT_BYTES_MAX) {
        fprintf(out, "%s %" JSON_INTEGER_FORMAT, type_of(node), node->object);
    } else if (json_is_null(j_value)) {
        fputs("None", out);
    } else if (json_is_boolean(j_value)) {
        fputs(json_is_true(j_value) ? "True" : "False", out);
    } else if (form != NULL) { /* {"$int": "123.."} */
        const json_t *j_text = json_object_get(j_value, form);
        fprintf(out, "%s ", form + 1);
        cli_json_put(out, j_text);
    } else {
        cli_json_put(out, j_value);
    }
    fclose(out);
    return text;
}

/* Asks what nodes [from, to) are. */
static void inspect(struct graph *graph, size_t from, size_t to)
{
    json_t *j_objects = json_array(), *j_atoms = json_array();
    for (size_t i = from; i < to; i++) {
        json_array_append_new(j_objects, json_integer(graph->picture.nodes[i].object));
    }
    json_t *j_facts = cli_session_try_each(graph->session, "heap.inspect", j_objects, NULL);
    for (size_t i = from; i < to; i++) {
        struct cli_node *node = &graph->picture.nodes[i];
        node->j_facts = json_incref(json_array_get(j_facts, i - from));
        bool is_short = json_integer_value(json_object_get(node->j_facts, "size")) <= TEXT_BYTES_MAX;
        if (is_atom(type_of(node)) && is_short) {
            json_array_append_new(j_atoms, json_integer(node->object));
        }
    }
    json_t *j_values = cli_session_try_each(graph->session, "get", j_atoms, NULL);
    size_t next = 0;
    for (size_t i = from; i < to; i++) {
        struct cli_node *node = &graph->picture.nodes[i];
        const json_t *j_atom = json_array_get(j_atoms, next);
        bool is_asked = j_atom != NULL && json_integer_value(j_atom) == node->object;
        if (is_atom(type_of(node))) {
            node->text = atom_text(node, is_asked ? json_array_get(j_values, next) : NULL);
        }
        next += is_asked;
    }
    json_decref(j_values);
    json_decref(j_facts);
    json_decref(j_atoms);
    json_decref(j_objects);
}

/* The node of an object that a drawn one refers to; SIZE_MAX: it is one too many. */
static size_t reach(struct graph *graph, const json_t *j_object, size_t level)
{
    json_int_t object = json_integer_value(j_object);
    size_t found = cli_picture_find(&graph->picture, object);
    if (found < graph->picture.node_count) {
        return found;
    }
    if (graph->picture.node_count >= graph->limit) {
        graph->is_cut = true;
        return SIZE_MAX;
    }
    return cli_picture_add(&graph->picture, object, level);
}

/* ---- edges ---- */

/* What an edge is called, in the words of heap.why. */
static char *edge_label(const char *type, size_t i, size_t count, const json_t *j_attrs)
{
    const char *attr = json_string_value(json_array_get(j_attrs, i));
    char *label = NULL;
    int len = 0;
    if (strcmp(type, "list") == 0 || strcmp(type, "tuple") == 0) {
        len = asprintf(&label, "[%zu]", i);
    } else if (strcmp(type, "set") == 0 || strcmp(type, "frozenset") == 0) {
        label = strdup("{}");
    } else if (is_instance(type) && attr != NULL) {
        len = asprintf(&label, ".%s", attr);
    } else {
        label = strdup(is_instance(type) && i + 1 == count ? ".__class__" : "");
    }
    return len < 0 ? NULL : label;
}

static void link_steal(struct graph *graph, size_t from, size_t to, char *label, enum cli_edge_kind kind)
{
    cli_picture_link(&graph->picture, from, to, label != NULL ? label : "", kind);
    free(label);
}

/* The text of a str key as Python writes it, in quotes. */
static char *key_label(const json_t *j_key)
{
    char *text = NULL;
    size_t len;
    FILE *out = open_memstream(&text, &len);
    if (out == NULL) {
        return NULL;
    }
    fputc('[', out);
    if (json_is_string(j_key)) {
        fputc('\'', out);
        cli_json_put_text(out, json_string_value(j_key), json_string_length(j_key), "'\\");
        fputc('\'', out);
    } else {
        const char *form = json_object_iter_key(json_object_iter(cli_json_mutable(j_key)));
        bool is_container = form != NULL && strcmp(form, "$int") != 0 && strcmp(form, "$bytes") != 0;
        cli_json_put(out, is_container ? NULL : j_key);
    }
    fputc(']', out);
    fclose(out);
    return text;
}

/* A dict's edges: keys that are atoms name the edges to the values, other keys are drawn. */
static void link_dict(struct graph *graph, size_t from, const json_t *j_objects)
{
    size_t count = json_array_size(j_objects), level = graph->picture.nodes[from].level + 1;
    json_t *j_key_objects = json_array();
    for (size_t i = 0; i + 1 < count; i += 2) {
        json_array_append(j_key_objects, json_array_get(j_objects, i));
    }
    json_t *j_depth = json_pack("{s:i}", "depth", 0);
    json_t *j_keys = cli_session_try_each(graph->session, "get", j_key_objects, j_depth);
    for (size_t i = 0; i + 1 < count; i += 2) {
        const json_t *j_key = json_array_get(j_keys, i / 2);
        bool is_container = json_object_get(j_key, "$ref") != NULL;
        char *label = is_container ? strdup("[key]") : key_label(j_key);
        if (is_container) {
            link_steal(graph, from, reach(graph, json_array_get(j_objects, i), level), strdup("key"),
                       CLI_EDGE_PLAIN);
        }
        link_steal(graph, from, reach(graph, json_array_get(j_objects, i + 1), level), label, CLI_EDGE_PLAIN);
    }
    json_decref(j_keys);
    json_decref(j_depth);
    json_decref(j_key_objects);
}

static void link_weakref(struct graph *graph, size_t from)
{
    struct cli_node *node = &graph->picture.nodes[from];
    json_t *j_target =
        cli_session_try(graph->session, "weakref.get", "{s:I,s:b}", "object", node->object, "hold", 0);
    const json_t *j_object = json_object_get(j_target, "object");
    if (json_is_integer(j_object)) {
        link_steal(graph, from, reach(graph, j_object, node->level + 1), strdup("weak"), CLI_EDGE_WEAK);
    }
    json_decref(j_target);
}

/* All edges of a node, given what gc.get_referents says of it. */
static void link_referents(struct graph *graph, size_t from, const json_t *j_referents)
{
    struct cli_node *node = &graph->picture.nodes[from];
    const json_t *j_objects = json_object_get(j_referents, "objects");
    const char *type = type_of(node);
    size_t level = node->level + 1, i, count = json_array_size(j_objects);
    const json_t *j_object;
    node->is_expanded = j_objects != NULL;
    node->has_more = json_is_true(json_object_get(j_referents, "more"));
    if (strcmp(type, "dict") == 0) {
        link_dict(graph, from, j_objects);
        return;
    }
    json_t *j_attrs = NULL;
    if (is_instance(type)) {
        j_attrs = cli_session_try(graph->session, "attr.list", "{s:I}", "object", node->object);
    } else if (strcmp(type, "weakref") == 0) {
        link_weakref(graph, from);
    }
    json_array_foreach(j_objects, i, j_object)
    {
        char *label = edge_label(type, i, count, json_object_get(j_attrs, "attrs"));
        link_steal(graph, from, reach(graph, j_object, level), label, CLI_EDGE_PLAIN);
    }
    json_decref(j_attrs);
}

/* Expands nodes [from, to), which are inspected. */
static void expand(struct graph *graph, size_t from, size_t to)
{
    json_t *j_objects = json_array();
    json_t *j_limit = json_pack("{s:I}", "limit", (json_int_t)graph->limit);
    for (size_t i = from; i < to; i++) {
        json_array_append_new(j_objects, json_integer(graph->picture.nodes[i].object));
    }
    json_t *j_referents = cli_session_try_each(graph->session, "gc.get_referents", j_objects, j_limit);
    for (size_t i = from; i < to; i++) {
        bool is_atomic = graph->picture.nodes[i].text != NULL;
        if (!is_atomic && graph->picture.nodes[i].level < graph->depth) {
            link_referents(graph, i, json_array_get(j_referents, i - from));
        }
    }
    json_decref(j_referents);
    json_decref(j_limit);
    json_decref(j_objects);
}

/* Level after level: what is there is inspected and expanded, which adds the next. */
static void grow(struct graph *graph)
{
    size_t done = 0;
    while (done < graph->picture.node_count) {
        size_t end = graph->picture.node_count;
        inspect(graph, done, end);
        expand(graph, done, end);
        done = end;
    }
}

/* ---- where to begin ---- */

/* What keeps the target alive.  It belongs into the picture whatever the limit says, but of a path longer
 * than the limit only the end. */
static void add_path(struct graph *graph, const json_t *j_path)
{
    size_t before = SIZE_MAX, count = json_array_size(j_path);
    for (size_t i = count > graph->limit ? count - graph->limit : 1; i < count; i++) {
        const json_t *j_step = json_array_get(j_path, i);
        const char *edge = json_string_value(json_object_get(j_step, "edge"));
        json_int_t object = json_integer_value(json_object_get(j_step, "object"));
        size_t node = cli_picture_add(&graph->picture, object, graph->depth);
        cli_picture_link(&graph->picture, before, node, edge != NULL ? edge : "", CLI_EDGE_PATH);
        before = node;
    }
}

static void add_referrers(struct graph *graph, size_t target, const json_t *j_referrers)
{
    size_t i;
    const json_t *j_object;
    json_array_foreach(json_object_get(j_referrers, "objects"), i, j_object)
    {
        size_t from = reach(graph, j_object, graph->depth);
        bool is_known =
            from < graph->picture.node_count &&
            (graph->picture.nodes[from].is_expanded || cli_picture_is_linked(&graph->picture, from, target));
        if (!is_known) {
            cli_picture_link(&graph->picture, from, target, "", CLI_EDGE_PLAIN);
        }
    }
}

static enum cli_exit draw_object(struct graph *graph, const struct cli_call *call)
{
    json_t *j_target = json_loads(cli_call_value(call, "object"), JSON_DECODE_ANY, NULL), *j_why = NULL;
    enum cli_exit code =
        cli_session_askf(graph->session, call, &j_why, "heap.why", "{s:O}", "object", j_target);
    json_t *j_facts = code != CLI_EXIT_OK
                          ? NULL
                          : cli_session_try(graph->session, "heap.inspect", "{s:O}", "object", j_target);
    if (json_is_object(j_facts)) {
        size_t target = reach(graph, json_object_get(j_facts, "object"), 0);
        graph->picture.nodes[target].is_target = true;
        grow(graph);
        size_t before = graph->picture.node_count;
        add_path(graph, json_object_get(j_why, "path"));
        json_t *j_referrers = cli_session_try(graph->session, "gc.get_referrers", "{s:O,s:i}", "object",
                                              j_target, "limit", REFERRERS_MAX);
        add_referrers(graph, target, j_referrers);
        inspect(graph, before, graph->picture.node_count);
        json_decref(j_referrers);
    }
    json_decref(j_facts);
    json_decref(j_why);
    json_decref(j_target);
    return code;
}

static void reach_all(struct graph *graph, const json_t *j_list, bool are_rows)
{
    size_t i;
    const json_t *j_item;
    json_array_foreach(j_list, i, j_item)
    {
        reach(graph, are_rows ? json_object_get(j_item, "object") : j_item, 0);
    }
}

/* The objects that have names, then the tracked ones, and what they all refer to. */
static enum cli_exit draw_all(struct graph *graph, const struct cli_call *call)
{
    json_t *j_names = NULL, *j_tracked = NULL;
    json_int_t limit = (json_int_t)graph->limit;
    enum cli_exit code =
        cli_session_askf(graph->session, call, &j_names, "name.list", "{s:I}", "limit", limit);
    if (code == CLI_EXIT_OK) {
        code = cli_session_askf(graph->session, call, &j_tracked, "gc.get_objects", "{s:I}", "limit", limit);
    }
    if (code == CLI_EXIT_OK) {
        reach_all(graph, json_object_get(j_names, "names"), true);
        reach_all(graph, json_object_get(j_tracked, "objects"), false);
        graph->is_cut = graph->is_cut || !json_is_null(json_object_get(j_tracked, "next"));
        graph->depth = SIZE_MAX;
        grow(graph);
    }
    json_decref(j_tracked);
    json_decref(j_names);
    return code;
}

/* ---- the file ---- */

/* Runs dot on `text`.  Returns 0, an errno when it cannot be run, or -1 when it failed. */
static int run_dot(const char *format, FILE *text, int out)
{
    extern char **environ;
    posix_spawn_file_actions_t actions;
    char dot[] = "dot", option[16];
    char *const words[] = {dot, option, NULL};
    pid_t pid;
    int status = -1;
    snprintf(option, sizeof option, "-T%s", format);
    rewind(text);
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, fileno(text), STDIN_FILENO);
    posix_spawn_file_actions_adddup2(&actions, out, STDOUT_FILENO);
    int reason = posix_spawnp(&pid, "dot", &actions, NULL, words, environ);
    posix_spawn_file_actions_destroy(&actions);
    while (reason == 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    return reason != 0 ? reason : WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -1;
}

/* A new name: `path` with `end` behind it. */
static char *path_with(const char *path, const char *end)
{
    char *text = NULL;
    return asprintf(&text, "%s%s", path, end) < 0 ? NULL : text;
}

/* Writes the text of dot itself. */
static enum cli_exit save_dot(const struct graph *graph, const char *path)
{
    FILE *file = fopen(path, "we");
    if (file != NULL) {
        cli_picture_write(&graph->picture, file);
    }
    if (file == NULL || fclose(file) != 0) {
        cli_session_complain(graph->session, "cannot write %s: %m", path);
        return CLI_EXIT_ERROR;
    }
    return CLI_EXIT_OK;
}

/* Without Graphviz the text that it would have drawn is of use, too. */
static enum cli_exit save_without_graphviz(const struct graph *graph, const char *path)
{
    char *dot_path = path_with(path, ".dot");
    if (dot_path != NULL && save_dot(graph, dot_path) == CLI_EXIT_OK) {
        cli_session_complain(graph->session,
                             "Graphviz is not installed (apt-get install graphviz), so there is no %s; "
                             "what it would draw is in %s",
                             path, dot_path);
    }
    free(dot_path);
    return CLI_EXIT_ERROR;
}

/* Lets dot draw into a file beside `path` that takes its place when it is whole. */
static enum cli_exit save_drawn(const struct graph *graph, const char *path, const char *format)
{
    char *part = path_with(path, ".part");
    FILE *text = tmpfile();
    int out = part != NULL ? open(part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666) : -1;
    enum cli_exit code = CLI_EXIT_ERROR;
    if (text == NULL || out < 0) {
        cli_session_complain(graph->session, "cannot write %s: %m", path);
    } else {
        cli_picture_write(&graph->picture, text);
        int reason = fflush(text) == 0 ? run_dot(format, text, out) : -1;
        if (reason == 0 && rename(part, path) == 0) {
            code = CLI_EXIT_OK;
        } else if (reason == ENOENT) {
            code = save_without_graphviz(graph, path);
        } else {
            cli_session_complain(graph->session, "Graphviz's dot failed: there is no %s", path);
        }
    }
    if (out >= 0) {
        close(out);
        unlink(part);
    }
    if (text != NULL) {
        fclose(text);
    }
    free(part);
    return code;
}

/* What dot is to make of a file of that name; NULL: nothing that is known. */
static const char *format_of(const char *path)
{
    static const char *const formats[] = {"svg", "png", "dot"};
    const char *end = strrchr(path, '.');
    for (size_t i = 0; end != NULL && i < sizeof formats / sizeof formats[0]; i++) {
        if (strcmp(end + 1, formats[i]) == 0) {
            return formats[i];
        }
    }
    return NULL;
}

/* What has become of it, on stdout. */
static void report(const struct graph *graph, const char *path, bool as_json)
{
    size_t objects = graph->picture.node_count, references = graph->picture.edge_count;
    if (as_json) {
        json_t *j_report = json_pack("{s:s,s:I,s:I}", "path", path, "objects", (json_int_t)objects,
                                     "references", (json_int_t)references);
        char *text = json_dumps(j_report, JSON_COMPACT);
        puts(text != NULL ? text : "null");
        free(text);
        json_decref(j_report);
    } else {
        cli_json_put_text(stdout, path, strlen(path), "");
        printf(": %zu objects, %zu references\n", objects, references);
    }
}

static enum cli_exit save(const struct graph *graph, const char *path, bool as_json)
{
    const char *format = format_of(path);
    enum cli_exit code = strcmp(format, "dot") == 0 ? save_dot(graph, path) : save_drawn(graph, path, format);
    if (code == CLI_EXIT_OK) {
        report(graph, path, as_json);
    }
    if (graph->is_cut) {
        cli_session_complain(graph->session, "the picture ends at %zu objects; --limit N shows more",
                             graph->limit);
    }
    return code;
}

/* ---- the command ---- */

/* An int param between 0 or 1 and `max`.  False: it is not. */
static bool read_size(const struct graph *graph, const struct cli_call *call, const char *param, size_t least,
                      size_t max, size_t *size)
{
    const char *text = cli_call_value(call, param);
    if (text != NULL) {
        errno = 0;
        *size = strtoull(text, NULL, 10);
        if (*text == '-' || errno != 0 || *size < least || *size > max) {
            cli_session_complain(graph->session, "graph: %s must be %zu to %zu, not %s", param, least, max,
                                 text);
            return false;
        }
    }
    return true;
}

enum cli_exit cli_graph(struct cli_session *session, const struct cli_call *call)
{
    struct graph graph = {.session = session, .depth = DEPTH_DEFAULT, .limit = LIMIT_DEFAULT};
    const char *all = cli_call_value(call, "all");
    bool wants_all = all != NULL && strcmp(all, "true") == 0;
    if (!read_size(&graph, call, "depth", 0, LIMIT_MAX, &graph.depth) ||
        !read_size(&graph, call, "limit", 1, LIMIT_MAX, &graph.limit)) {
        return CLI_EXIT_USAGE;
    }
    if (wants_all == (cli_call_value(call, "object") != NULL)) {
        cli_session_complain(session, "graph: it needs an object, or --all");
        return CLI_EXIT_USAGE;
    }
    json_t *j_path = json_loads(cli_call_value(call, "output"), JSON_DECODE_ANY, NULL);
    const char *path = json_string_value(j_path);
    if (path == NULL || format_of(path) == NULL) {
        cli_session_complain(session, "graph: -o takes a file that ends in .svg, .png or .dot");
        json_decref(j_path);
        return CLI_EXIT_USAGE;
    }
    enum cli_exit code = cli_picture_init(&graph.picture) ? CLI_EXIT_OK : CLI_EXIT_ERROR;
    if (code == CLI_EXIT_OK) {
        code = wants_all ? draw_all(&graph, call) : draw_object(&graph, call);
    }
    if (code == CLI_EXIT_OK) {
        code = save(&graph, path, cli_session_wants_json(session, call));
    }
    cli_picture_fini(&graph.picture);
    json_decref(j_path);
    return code;
}
