/* cli_picture.c -- objects and references to be drawn, and the text that Graphviz draws from.
 *
 *   (name cache) --> [dict 12] --['k']--> [list 17] --[3]--> [Point 40]
 *
 * Names and sessions are nodes of their own, made from what heap.inspect tells of an object.  An immortal
 * atom is drawn once for each edge to it: None stands where it is used instead of in the middle of a star.
 * Looking for an edge is linear in edges, which is fine for what fits into a picture.
 * Start at cli_picture_write().
 */
#include "cli_picture.h"

#include "cli_json.h"
#include "cli_print.h"

#include <stdlib.h>
#include <string.h>

/* Room for the digits of an id. */
#define ID_BYTES 24
/* Longer labels are cut. */
#define LABEL_BYTES 48

/* ---- the graph ---- */

bool cli_picture_init(struct cli_picture *picture)
{
    *picture = (struct cli_picture){.j_index = json_object()};
    return picture->j_index != NULL;
}

void cli_picture_fini(struct cli_picture *picture)
{
    for (size_t i = 0; i < picture->node_count; i++) {
        json_decref(picture->nodes[i].j_facts);
        free(picture->nodes[i].text);
    }
    for (size_t i = 0; i < picture->edge_count; i++) {
        free(picture->edges[i].label);
    }
    free(picture->nodes);
    free(picture->edges);
    json_decref(picture->j_index);
}

size_t cli_picture_find(const struct cli_picture *picture, json_int_t object)
{
    char id[ID_BYTES];
    snprintf(id, sizeof id, "%" JSON_INTEGER_FORMAT, object);
    const json_t *j_found = json_object_get(picture->j_index, id);
    return j_found != NULL ? (size_t)json_integer_value(j_found) : picture->node_count;
}

/* Room for one more of `*count`; the array may move. */
static bool reserve_one(void **array, size_t count, size_t *capacity, size_t size)
{
    if (count < *capacity) {
        return true;
    }
    size_t wanted = *capacity > 0 ? *capacity * 2 : 32;
    void *moved = reallocarray(*array, wanted, size);
    if (moved == NULL) {
        return false;
    }
    *array = moved;
    *capacity = wanted;
    return true;
}

size_t cli_picture_add(struct cli_picture *picture, json_int_t object, size_t level)
{
    char id[ID_BYTES];
    size_t found = cli_picture_find(picture, object);
    void *nodes = picture->nodes;
    if (found < picture->node_count) {
        return found;
    }
    if (!reserve_one(&nodes, picture->node_count, &picture->node_capacity, sizeof *picture->nodes)) {
        return picture->node_count;
    }
    picture->nodes = nodes;
    snprintf(id, sizeof id, "%" JSON_INTEGER_FORMAT, object);
    if (json_object_set_new(picture->j_index, id, json_integer((json_int_t)found)) != 0) {
        return picture->node_count;
    }
    picture->nodes[found] = (struct cli_node){.object = object, .level = level};
    picture->node_count++;
    return found;
}

static struct cli_edge *find_edge(const struct cli_picture *picture, size_t from, size_t to,
                                  const char *label)
{
    for (size_t i = 0; i < picture->edge_count; i++) {
        struct cli_edge *edge = &picture->edges[i];
        if (edge->from == from && edge->to == to && (label == NULL || strcmp(edge->label, label) == 0)) {
            return edge;
        }
    }
    return NULL;
}

bool cli_picture_is_linked(const struct cli_picture *picture, size_t from, size_t to)
{
    return find_edge(picture, from, to, NULL) != NULL;
}

void cli_picture_link(struct cli_picture *picture, size_t from, size_t to, const char *label,
                      enum cli_edge_kind kind)
{
    void *edges = picture->edges;
    struct cli_edge *same = find_edge(picture, from, to, label);
    if (same != NULL) {
        same->kind = kind == CLI_EDGE_PATH ? kind : same->kind;
        return;
    }
    if (from >= picture->node_count || to >= picture->node_count ||
        !reserve_one(&edges, picture->edge_count, &picture->edge_capacity, sizeof *picture->edges)) {
        picture->edges = edges;
        return;
    }
    picture->edges = edges;
    char *copy = strdup(label);
    if (copy != NULL) {
        picture->edges[picture->edge_count++] = (struct cli_edge){from, to, copy, kind};
    }
}

/* ---- text for dot ---- */

/* `text` inside a quoted string of dot: no control characters, and nothing that dot would take for an
 * escape or an entity.  What is longer than LABEL_BYTES is cut between characters. */
static void put_escaped(FILE *out, const char *text, size_t len)
{
    char *plain = NULL;
    size_t plain_len, cut = len;
    FILE *plain_out = open_memstream(&plain, &plain_len);
    if (plain_out == NULL) {
        return;
    }
    if (cut > LABEL_BYTES) {
        for (cut = LABEL_BYTES; cut > 0 && ((unsigned char)text[cut] & 0xC0) == 0x80; cut--) {
        }
    }
    cli_json_put_text(plain_out, text, cut, "");
    fputs(cut < len ? ".." : "", plain_out);
    fclose(plain_out);
    for (size_t i = 0; i < plain_len; i++) {
        if (plain[i] == '&') {
            fputs("&amp;", out);
        } else {
            fputs(plain[i] == '"' || plain[i] == '\\' ? "\\" : "", out);
            fputc(plain[i], out);
        }
    }
    free(plain);
}

static void put_json_text(FILE *out, const json_t *j_text)
{
    put_escaped(out, json_string_value(j_text), json_string_length(j_text));
}

static bool is_immortal(const struct cli_node *node)
{
    return json_is_true(json_object_get(node->j_facts, "immortal"));
}

/* ---- nodes ---- */

/* What a node is filled with, by what the object is for. */
static const char *fill_of(const char *type)
{
    static const struct {
        const char *type, *fill;
    } fills[] = {{"dict", "#dbe9f6"},      {"list", "#e2f0d9"}, {"tuple", "#eef6e4"},  {"set", "#f6ead2"},
                 {"frozenset", "#f6ead2"}, {"type", "#e8def5"}, {"weakref", "#f0f0f0"}};
    for (size_t i = 0; i < sizeof fills / sizeof fills[0]; i++) {
        if (strcmp(fills[i].type, type) == 0) {
            return fills[i].fill;
        }
    }
    return "#fde5d4"; /* an instance */
}

static void put_atom(FILE *out, const char *name, size_t number, const struct cli_node *node)
{
    fprintf(out, "  %s%zu [shape=plaintext, fontcolor=\"#444444\", label=\"", name, number);
    put_escaped(out, node->text, strlen(node->text));
    fputs("\"];\n", out);
}

static void put_container(FILE *out, size_t i, const struct cli_node *node)
{
    const json_t *j_type = json_object_get(node->j_facts, "type");
    const char *type = json_is_string(j_type) ? json_string_value(j_type) : "object";
    bool hides = !node->is_expanded && json_integer_value(json_object_get(node->j_facts, "referents")) > 0;
    fprintf(out, "  n%zu [fillcolor=\"%s\", style=\"filled,rounded%s\"%s, label=\"", i, fill_of(type),
            hides ? ",dashed" : "", node->is_target ? ", penwidth=3" : "");
    put_escaped(out, type, strlen(type));
    fprintf(out, " %" JSON_INTEGER_FORMAT, node->object);
    if (json_is_object(node->j_facts)) {
        char *size = cli_print_cell("bytes", json_object_get(node->j_facts, "size"));
        char *refcount = cli_print_cell("refcount", json_object_get(node->j_facts, "refcount"));
        fprintf(out, "\\n%s, refcount %s", size != NULL ? size : "", refcount != NULL ? refcount : "");
        free(size);
        free(refcount);
    }
    fputs(hides || node->has_more ? "\\n.." : "", out);
    fputs("\"];\n", out);
}

/* The names and sessions that refer to node i, with their edges. */
static void put_roots(FILE *out, size_t i, const struct cli_node *node)
{
    size_t k;
    const json_t *j_root;
    json_array_foreach(json_object_get(node->j_facts, "names"), k, j_root)
    {
        fprintf(out, "  r%zu_%zu [shape=ellipse, style=filled, fillcolor=\"#ffd966\", label=\"name ", i, k);
        put_json_text(out, j_root);
        fprintf(out, "\"];\n  r%zu_%zu -> n%zu [penwidth=2];\n", i, k, i);
    }
    json_array_foreach(json_object_get(node->j_facts, "sessions"), k, j_root)
    {
        json_int_t holds = json_integer_value(json_object_get(j_root, "holds"));
        fprintf(out,
                "  s%zu_%zu [shape=ellipse, style=filled, fillcolor=\"#f4b183\", label=\"session "
                "%" JSON_INTEGER_FORMAT,
                i, k, json_integer_value(json_object_get(j_root, "session")));
        if (holds > 1) {
            fprintf(out, "\\n%" JSON_INTEGER_FORMAT " holds", holds);
        }
        fprintf(out, "\"];\n  s%zu_%zu -> n%zu [penwidth=2];\n", i, k, i);
    }
}

static void put_edge(FILE *out, const struct cli_picture *picture, size_t i)
{
    static const char *const attributes[] = {[CLI_EDGE_PLAIN] = "",
                                             [CLI_EDGE_PATH] = ", penwidth=2, color=\"#c00000\"",
                                             [CLI_EDGE_WEAK] = ", style=dashed"};
    const struct cli_edge *edge = &picture->edges[i];
    const struct cli_node *to = &picture->nodes[edge->to];
    bool has_own_leaf = is_immortal(to) && to->text != NULL;
    if (has_own_leaf) {
        put_atom(out, "i", i, to);
    }
    fprintf(out, "  n%zu -> %s%zu [label=\"", edge->from, has_own_leaf ? "i" : "n",
            has_own_leaf ? i : edge->to);
    put_escaped(out, edge->label, strlen(edge->label));
    fprintf(out, "\"%s];\n", attributes[edge->kind]);
}

void cli_picture_write(const struct cli_picture *picture, FILE *out)
{
    fputs("digraph heap {\n"
          "  rankdir=LR;\n"
          "  node [shape=box, fontname=\"Helvetica\", fontsize=11];\n"
          "  edge [fontname=\"Helvetica\", fontsize=9];\n",
          out);
    for (size_t i = 0; i < picture->node_count; i++) {
        const struct cli_node *node = &picture->nodes[i];
        if (node->text == NULL) {
            put_container(out, i, node);
        } else if (!is_immortal(node) || node->is_target) {
            put_atom(out, "n", i, node);
        }
        put_roots(out, i, node);
    }
    for (size_t i = 0; i < picture->edge_count; i++) {
        put_edge(out, picture, i);
    }
    fputs("}\n", out);
}
