/* method_graph.c -- gc.get_objects, gc.get_referents, gc.get_referrers: what the collector knows of the graph. */
#include "method_handlers.h"

#include <stdlib.h>

/* An id as an element of a list, with a comma unless it is the first.  Whether the reply may go on. */
static bool write_id(struct call *call, bool is_first, heap_ref obj)
{
    uint64_t id;
    enum heap_error error = heap_id(&id, call->heap, obj);
    if (error != HEAP_OK) {
        return call_fail(call, error);
    }
    if (!is_first) {
        out_char(call->out, ',');
    }
    out_u64(call->out, id);
    return call_output_ok(call);
}

/* ---- gc.get_objects ---- */

bool method_gc_get_objects(struct call *call)
{
    int generation = (int)arg_int(&call->args[0], -1);
    int64_t limit = arg_int(&call->args[1], 1000), rows = 0;
    uint32_t after = (uint32_t)arg_int(&call->args[2], 0), next;
    heap_ref obj;
    bool more;
    out_text(call->out, "{\"objects\":[");
    while (next = after, (more = heap_gc_next(call->heap, generation, &next, &obj)) && rows < limit) {
        if (!write_id(call, rows == 0, obj)) {
            return false;
        }
        after = next;
        rows++;
    }
    out_text(call->out, "],\"next\":");
    if (more) {
        out_u64(call->out, after);
    } else {
        out_text(call->out, "null");
    }
    return call_result_end(call);
}
