/* method_gc.c -- collect and gc.*: what CPython's gc module says and does. */
#include "method_handlers.h"

static void write_u64_member(struct out *out, const char *name, uint64_t value)
{
    out_text(out, name);
    out_u64(out, value);
}

bool method_collect(struct call *call)
{
    struct heap_collection collection;
    heap_collect(&collection, call->heap, (int)arg_int(&call->args[0], 2));
    write_u64_member(call->out, "{\"generation\":", (uint64_t)collection.generation);
    write_u64_member(call->out, ",\"unreachable\":", collection.unreachable);
    write_u64_member(call->out, ",\"uncollectable\":", collection.uncollectable);
    write_u64_member(call->out, ",\"freed\":", collection.freed);
    write_u64_member(call->out, ",\"elapsed_us\":", collection.elapsed_us);
    out_char(call->out, '}');
    return true;
}

/* `[a,b,c]` */
static bool write_three(struct out *out, const uint32_t three[3])
{
    write_u64_member(out, "[", three[0]);
    write_u64_member(out, ",", three[1]);
    write_u64_member(out, ",", three[2]);
    out_char(out, ']');
    return true;
}

bool method_gc_get_count(struct call *call)
{
    uint32_t count[3];
    heap_gc_count(call->heap, count);
    return write_three(call->out, count);
}

bool method_gc_get_threshold(struct call *call)
{
    uint32_t threshold[3];
    heap_gc_threshold(call->heap, threshold);
    return write_three(call->out, threshold);
}

bool method_gc_set_threshold(struct call *call)
{
    uint32_t threshold[3];
    heap_gc_threshold(call->heap, threshold);
    for (unsigned i = 0; i < 3; i++) {
        threshold[i] = (uint32_t)arg_int(&call->args[i], threshold[i]);
    }
    heap_gc_set_threshold(call->heap, threshold);
    return call_result_null(call);
}

bool method_gc_enable(struct call *call)
{
    heap_gc_enable(call->heap, true);
    return call_result_null(call);
}

bool method_gc_disable(struct call *call)
{
    heap_gc_enable(call->heap, false);
    return call_result_null(call);
}

bool method_gc_freeze(struct call *call)
{
    heap_gc_freeze(call->heap);
    return call_result_null(call);
}

bool method_gc_unfreeze(struct call *call)
{
    heap_gc_unfreeze(call->heap);
    return call_result_null(call);
}

bool method_gc_get_freeze_count(struct call *call)
{
    out_u64(call->out, heap_gc_frozen(call->heap));
    return true;
}

static bool write_bool(struct call *call, bool value)
{
    out_text(call->out, value ? "true" : "false");
    return true;
}

bool method_gc_isenabled(struct call *call)
{
    return write_bool(call, heap_gc_enabled(call->heap));
}

bool method_gc_is_tracked(struct call *call)
{
    heap_ref obj;
    return call_target(call, 0, &obj) && write_bool(call, heap_gc_is_tracked(call->heap, obj));
}

bool method_gc_get_stats(struct call *call)
{
    struct heap_stats stats;
    heap_stats(&stats, call->heap);
    for (int i = 0; i < 3; i++) {
        write_u64_member(
            call->out, i == 0 ? "[{\"collections\":" : ",{\"collections\":", stats.generations[i].collections);
        write_u64_member(call->out, ",\"collected\":", stats.generations[i].collected);
        write_u64_member(call->out, ",\"uncollectable\":", stats.generations[i].uncollectable);
        out_char(call->out, '}');
    }
    out_char(call->out, ']');
    return true;
}
