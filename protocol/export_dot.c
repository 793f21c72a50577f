/* export_dot.c -- a picture as a graph for Graphviz.
 *
 *   "name cache" -> n17;                               what keeps objects: a box for each name and session,
 *                                                      one for the frozen, one for gc.garbage
 *   n17 [label="<list 17 len 3>\nlist 17, 64 bytes"];  an object, called by its object id
 *   n17 -> n18 [label="[0]"];                          an edge with its name; those of weakrefs are dashed
 *
 * Nothing is left out but immortals; Graphviz itself draws some thousands of nodes at most.
 * Start at export_dot().
 */
#include "export.h"

#include <stdio.h>

#define TEXT_BYTES 60u

/* A text between quotes; what Graphviz or a person could trip over is escaped and texts stay different. */
static void quoted_text(struct out *out, const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c == '"' || c == '\\') {
            out_char(out, '\\');
            out_char(out, (char)c);
        } else if (c < 0x20 || c == 0x7F) {
            char escaped[8];
            snprintf(escaped, sizeof escaped, "\\\\x%02x", c);
            out_text(out, escaped);
        } else {
            out_char(out, (char)c);
        }
    }
}

/* The number of each node's object; it is the same in later exports. */
static void write_name(struct out *out, const struct heap_picture *picture, uint32_t i)
{
    struct heap_node node;
    heap_picture_node(&node, picture, i);
    out_char(out, 'n');
    out_u64(out, node.id);
}

static void write_node(struct export_sink *sink, const struct heap_picture *picture, uint32_t i)
{
    struct out *out = &sink->out;
    struct heap_node node;
    char text[TEXT_BYTES];
    heap_picture_node(&node, picture, i);
    size_t len = heap_picture_text(text, sizeof text, picture, i);
    out_text(out, "  ");
    write_name(out, picture, i);
    out_text(out, " [label=\"");
    quoted_text(out, text, len);
    out_text(out, "\\n");
    quoted_text(out, node.type_name, strlen(node.type_name));
    out_char(out, ' ');
    out_u64(out, node.id);
    out_text(out, ", ");
    out_u64(out, node.bytes);
    out_text(out, " bytes\"];\n");
}

static void write_edge(struct export_sink *sink, const struct heap_picture *picture, uint32_t from,
                       uint32_t to, const char *name, size_t len, const char *style)
{
    struct out *out = &sink->out;
    out_text(out, "  ");
    write_name(out, picture, from);
    out_text(out, " -> ");
    write_name(out, picture, to);
    out_text(out, " [label=\"");
    quoted_text(out, name, len);
    out_text(out, "\"");
    out_text(out, style);
    out_text(out, "];\n");
}

static void write_edges(struct export_sink *sink, const struct heap_picture *picture, uint32_t i)
{
    struct heap_node node;
    heap_picture_node(&node, picture, i);
    for (uint32_t k = 0; k < node.edge_count && export_flush(sink, false); k++) {
        if (node.edges[k] != HEAP_NO_NODE) {
            char name[HEAP_EDGE_BYTES];
            size_t len = heap_picture_edge_name(name, picture, i, k);
            write_edge(sink, picture, i, node.edges[k], name, len, "");
        }
    }
    if (node.is_weak && node.target != HEAP_NO_NODE) {
        write_edge(sink, picture, i, node.target, "", 0, ", style=dashed");
    }
}

/* A box and an edge from it; sessions, the frozen and the garbage have one box for all their edges, which
 * Graphviz makes of equal statements. */
static void write_root(struct export_sink *sink, const struct heap_picture *picture, uint64_t i)
{
    struct out *out = &sink->out;
    struct heap_root root;
    heap_picture_root(&root, picture, i);
    if (root.node == HEAP_NO_NODE) {
        return;
    }
    out_text(out, "  \"");
    switch (root.kind) {
    case HEAP_ROOT_NAME:
        out_text(out, "name ");
        quoted_text(out, root.name.text, root.name.len);
        break;
    case HEAP_ROOT_SESSION:
        out_text(out, "session ");
        out_u64(out, root.session);
        break;
    case HEAP_ROOT_FROZEN:
        out_text(out, "frozen");
        break;
    case HEAP_ROOT_GARBAGE:
        out_text(out, "gc.garbage");
        break;
    }
    out_text(out, "\" -> ");
    write_name(out, picture, root.node);
    out_text(out, ";\n");
}

bool export_dot(struct export_sink *sink, const struct heap_picture *picture)
{
    uint32_t nodes = heap_picture_nodes(picture);
    uint64_t roots = heap_picture_roots(picture);
    out_text(&sink->out,
             "digraph heap {\n  rankdir=LR;\n  node [shape=box, style=filled, fillcolor=lightgrey];\n");
    for (uint64_t i = 0; i < roots && export_flush(sink, false); i++) {
        write_root(sink, picture, i);
    }
    out_text(&sink->out, "  node [shape=ellipse, fillcolor=white];\n");
    for (uint32_t i = 0; i < nodes && export_flush(sink, false); i++) {
        write_node(sink, picture, i);
    }
    for (uint32_t i = 0; i < nodes && export_flush(sink, false); i++) {
        write_edges(sink, picture, i);
    }
    out_text(&sink->out, "}\n");
    return export_flush(sink, true);
}
