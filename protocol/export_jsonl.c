/* export_jsonl.c -- a picture as JSON lines, for programs of any language.
 *
 *   {"objects":N,"roots":[..],"made_by":"heapd ..","fields":["kind","bytes","refs","id","type"]}
 *   ["list",48,[1,2,2],17,"list"]          one line an object, in the order of its index; refs are indexes
 *
 * `roots` are the indexes of all objects that a name, a session, freezing or gc.garbage keeps.  Kinds are int, str,
 * float, bytes, list, tuple, dict, set (frozensets too), object (instances), class and weakref, whose target is
 * no ref.  A dict's refs are key, value, key, value.  Immortal objects have no line, and refs to them are -1.
 * Start at export_jsonl().
 */
#include "export.h"
#include "rpc.h"

static const char *kind_word(enum heap_type type)
{
    switch (type) {
    case HEAP_T_INSTANCE:
        return "object";
    case HEAP_T_FROZENSET:
        return "set";
    case HEAP_T_CLASS:
        return "class";
    default:
        return heap_builtin_name(type);
    }
}

static void write_object(struct export_sink *sink, const struct heap_picture *picture, uint32_t i)
{
    struct out *out = &sink->out;
    struct heap_node node;
    heap_picture_node(&node, picture, i);
    out_text(out, "[\"");
    out_text(out, kind_word(node.type));
    out_text(out, "\",");
    out_u64(out, node.bytes);
    out_text(out, ",[");
    for (uint32_t k = 0; k < node.edge_count; k++) {
        out_text(out, k == 0 ? "" : ",");
        if (node.edges[k] == HEAP_NO_NODE) {
            out_text(out, "-1");
        } else {
            out_u64(out, node.edges[k]);
        }
    }
    out_text(out, "],");
    out_u64(out, node.id);
    out_text(out, ",\"");
    out_text(out, node.type_name);
    out_text(out, "\"]\n");
}

bool export_jsonl(struct export_sink *sink, const struct heap_picture *picture)
{
    struct out *out = &sink->out;
    uint32_t nodes = heap_picture_nodes(picture);
    const char *comma = "";
    out_text(out, "{\"objects\":");
    out_u64(out, nodes);
    out_text(out, ",\"roots\":[");
    for (uint64_t i = 0; i < heap_picture_roots(picture) && export_flush(sink, false); i++) {
        struct heap_root root;
        heap_picture_root(&root, picture, i);
        if (root.node != HEAP_NO_NODE) {
            out_text(out, comma);
            out_u64(out, root.node);
            comma = ",";
        }
    }
    out_text(out, "],\"made_by\":\"heapd " RPC_VERSION "\",\"fields\":[\"kind\",\"bytes\",\"refs\",\"id\",\"type\"]}\n");
    for (uint32_t i = 0; i < nodes && export_flush(sink, false); i++) {
        write_object(sink, picture, i);
    }
    return export_flush(sink, true);
}
