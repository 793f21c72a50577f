/* method_gc.c -- collect and gc.*: what CPython's gc module says and does. */
#include "method_handlers.h"

static void write_u64_member(struct out *out, const char *name, uint64_t value)
{
    out_text(out, name);
    out_u64(out, value);
}

/* The stages of `collect`. */
enum { COLLECT_WANTED, COLLECT_BEGUN };

bool method_collect(struct call *call)
{
    struct heap_collection collection;
    if (call->stage == COLLECT_BEGUN) {
        collection = *call->collection;
    } else {
        enum heap_progress progress =
            heap_collect_begin(&collection, call->heap, (int)arg_int(&call->args[0], 2), false);
        if (progress != HEAP_DONE) {
            call->has_begun_collection = progress == HEAP_GOES_ON;
            return call_wait(call, HEAP_WAIT_COLLECTION,
                             call->has_begun_collection ? COLLECT_BEGUN : COLLECT_WANTED);
        }
    }
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
    if (!heap_is_still(call->heap)) {
        return false;
    }
    heap_gc_freeze(call->heap);
    return call_result_null(call);
}

bool method_gc_unfreeze(struct call *call)
{
    if (!heap_is_still(call->heap)) {
        return false;
    }
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

bool method_gc_is_finalized(struct call *call)
{
    heap_ref obj;
    return call_target(call, 0, &obj) && write_bool(call, heap_is_finalized(call->heap, obj));
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

/* ---- debug flags and gc.garbage ---- */

/* The words of `flags`; DEBUG_FLAGS has what the heap calls them, in the same order. */
const char *const METHOD_GC_DEBUG_WORDS[] = {"stats", "collectable", "uncollectable", "saveall", NULL};
static const unsigned DEBUG_FLAGS[] = {HEAP_GC_STATS, HEAP_GC_COLLECTABLE, HEAP_GC_UNCOLLECTABLE, HEAP_GC_SAVEALL};
#define DEBUG_FLAG_COUNT (sizeof(DEBUG_FLAGS) / sizeof(DEBUG_FLAGS[0]))

bool method_gc_set_debug(struct call *call)
{
    unsigned flags = 0;
    for (unsigned i = 0; i < DEBUG_FLAG_COUNT; i++) {
        flags |= (call->args[0].integer >> i & 1) != 0 ? DEBUG_FLAGS[i] : 0;
    }
    heap_gc_set_debug(call->heap, flags);
    return call_result_null(call);
}

bool method_gc_get_debug(struct call *call)
{
    unsigned flags = heap_gc_debug(call->heap);
    const char *comma = "";
    out_char(call->out, '[');
    for (unsigned i = 0; i < DEBUG_FLAG_COUNT; i++) {
        if ((flags & DEBUG_FLAGS[i]) != 0) {
            out_text(call->out, comma);
            out_json_string(call->out, METHOD_GC_DEBUG_WORDS[i], strlen(METHOD_GC_DEBUG_WORDS[i]));
            comma = ",";
        }
    }
    out_char(call->out, ']');
    return true;
}

/* `{"objects":[..]` of what a reply will be read of. */
static bool write_garbage(struct call *call)
{
    uint64_t n = call->is_notification ? 0 : heap_garbage_len(call->heap);
    out_text(call->out, "{\"objects\":[");
    for (uint64_t i = 0; i < n; i++) {
        uint64_t id;
        enum heap_error error = heap_id(&id, call->heap, heap_garbage_item(call->heap, i));
        if (error != HEAP_OK) {
            return call_fail(call, error);
        }
        if (i > 0) {
            out_char(call->out, ',');
        }
        out_u64(call->out, id);
        if (!call_output_ok(call)) {
            return false;
        }
    }
    out_char(call->out, ']');
    return call_reserve(call, CALL_RESERVED_BYTES);
}

bool method_gc_garbage(struct call *call)
{
    if (!write_garbage(call)) {
        return false;
    }
    if (arg_bool(&call->args[0], false)) {
        heap_garbage_clear(call->heap);
    }
    return call_result_end(call);
}
