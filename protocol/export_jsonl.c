/* export_jsonl.c -- a picture as JSON lines, for programs of any language.
 *
 *   {"objects":N,"roots":[..],"made_by":"heapd ..","fields":["kind","bytes","refs","id","type","target"]}
 *   ["list",48,[1,2,2],17,"list"]          one line an object, in the order of its index; refs are indexes
 *
 * `roots` are the indexes of all objects that a name, a session, freezing or gc.garbage keeps, each once.
 * Kinds are int, str, float, bytes, list, tuple, dict, set, frozenset and object, which stands for instances,
 * classes and weakrefs: the type tells them apart.  A weakref that is alive has the index of its target as a
 * sixth field, for its target is no ref.  A dict's refs are key, value, key, value.  Immortal objects have no
 * line, and refs to them are left out.   Start at export_jsonl().
 */
#include "export.h"
#include "rpc.h"

#include <errno.h>
#include <stdlib.h>

static const char *kind_word(enum heap_type type)
{
    switch (type) {
    case HEAP_T_INSTANCE:
    case HEAP_T_CLASS:
    case HEAP_T_WEAKREF:
        return "object";
    default:
        return heap_builtin_name(type);
    }
}

static void write_object(struct export_sink *sink, const struct heap_picture *picture, uint32_t i)
{
    struct out *out = &sink->out;
    struct heap_node node;
    const char *comma = "";
    heap_picture_node(&node, picture, i);
    out_text(out, "[\"");
    out_text(out, kind_word(node.type));
    out_text(out, "\",");
    out_u64(out, node.bytes);
    out_text(out, ",[");
    for (uint32_t k = 0; k < node.edge_count && export_flush(sink, false); k++) {
        if (node.edges[k] != HEAP_NO_NODE) {
            out_text(out, comma);
            out_u64(out, node.edges[k]);
            comma = ",";
        }
    }
    out_text(out, "],");
    out_u64(out, node.id);
    out_text(out, ",\"");
    out_text(out, node.type_name);
    out_char(out, '"');
    if (node.is_weak && node.target != HEAP_NO_NODE) {
        out_char(out, ',');
        out_u64(out, node.target);
    }
    out_text(out, "]\n");
}

/* The indexes of what has a root, in order. */
static void write_roots(struct export_sink *sink, const struct heap_picture *picture)
{
    uint32_t nodes = heap_picture_nodes(picture);
    uint64_t roots = heap_picture_roots(picture);
    bool *is_root = calloc((size_t)nodes + 1, sizeof *is_root);
    const char *comma = "";
    if (is_root == NULL) {
        sink->error = ENOMEM;
        return;
    }
    for (uint64_t i = 0; i < roots; i++) {
        struct heap_root root;
        heap_picture_root(&root, picture, i);
        if (root.node != HEAP_NO_NODE) {
            is_root[root.node] = true;
        }
    }
    for (uint32_t i = 0; i < nodes && export_flush(sink, false); i++) {
        if (is_root[i]) {
            out_text(&sink->out, comma);
            out_u64(&sink->out, i);
            comma = ",";
        }
    }
    free(is_root);
}

bool export_jsonl(struct export_sink *sink, const struct heap_picture *picture)
{
    struct out *out = &sink->out;
    uint32_t nodes = heap_picture_nodes(picture);
    out_text(out, "{\"objects\":");
    out_u64(out, nodes);
    out_text(out, ",\"roots\":[");
    write_roots(sink, picture);
    out_text(out, "],\"made_by\":\"heapd " RPC_VERSION
                  "\",\"fields\":[\"kind\",\"bytes\",\"refs\",\"id\",\"type\",\"target\"]}\n");
    for (uint32_t i = 0; i < nodes && export_flush(sink, false); i++) {
        write_object(sink, picture, i);
    }
    return export_flush(sink, true);
}
