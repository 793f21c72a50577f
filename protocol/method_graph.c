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
    if (!heap_is_still(call->heap)) {
        return false;
    }
    out_text(call->out, "{\"objects\":[");
    while (next = after, (more = heap_gc_next(call->heap, generation, &next, &obj)) && rows < limit) {
        if (!write_id(call, rows == 0, obj)) {
            return false;
        }
        after = next;
        rows++;
    }
    return call_result_page(call, more, after);
}

/* ---- gc.get_referents ---- */

/* `],"more":true` */
static void write_more(struct out *out, bool more)
{
    out_text(out, more ? ",\"more\":true" : ",\"more\":false");
}

bool method_gc_get_referents(struct call *call)
{
    int64_t limit = arg_int(&call->args[1], 1000), rows = 0;
    uint64_t position = 0;
    heap_ref obj, referent;
    bool more;
    if (!call_target(call, 0, &obj)) {
        return false;
    }
    out_text(call->out, "{\"objects\":[");
    while ((more = heap_referent_next(call->heap, obj, &position, &referent)) && rows < limit) {
        if (!write_id(call, rows == 0, referent)) {
            return false;
        }
        rows++;
    }
    out_char(call->out, ']');
    write_more(call->out, more);
    return call_result_end(call);
}

/* ---- gc.get_referrers ---- */

/* A list that is written row by row, each behind a comma but the first. */
struct rows {
    struct out *out;
    bool started;
};

static void next_row(struct rows *rows)
{
    if (rows->started) {
        out_char(rows->out, ',');
    }
    rows->started = true;
}

static void write_name(void *arg, const char *name, size_t len)
{
    struct rows *rows = arg;
    next_row(rows);
    out_json_string(rows->out, name, len);
}

static void write_holder(void *arg, uint64_t session, uint64_t holds)
{
    struct rows *rows = arg;
    next_row(rows);
    out_text(rows->out, "{\"session\":");
    out_u64(rows->out, session);
    out_text(rows->out, ",\"holds\":");
    out_u64(rows->out, holds);
    out_char(rows->out, '}');
}

/* `,"names":[..],"sessions":[..]` */
static void write_roots(struct out *out, struct heap *heap, heap_ref obj)
{
    struct rows names = {.out = out}, sessions = {.out = out};
    out_text(out, ",\"names\":[");
    heap_names_of(heap, obj, write_name, &names);
    out_text(out, "],\"sessions\":[");
    heap_holders_of(heap, obj, write_holder, &sessions);
    out_char(out, ']');
}

static bool write_ids(struct call *call, const heap_ref *refs, uint32_t n)
{
    out_text(call->out, "{\"objects\":[");
    for (uint32_t i = 0; i < n; i++) {
        if (!write_id(call, i == 0, refs[i])) {
            return false;
        }
    }
    out_char(call->out, ']');
    return true;
}

/* With the GIL, which heap_referrers() lets go in between: names and holds are those of the moment before it. */
static bool referrers(struct call *call, struct out *roots)
{
    heap_ref obj, *refs;
    uint32_t n;
    bool more;
    if (!call_target(call, 0, &obj)) {
        return false;
    }
    write_roots(roots, call->heap, obj);
    enum heap_error error = heap_referrers(&refs, &n, &more, call->heap, obj,
                                           (uint32_t)arg_int(&call->args[1], 1000), call->cancel);
    if (error != HEAP_OK) {
        return call_fail(call, error);
    }
    bool is_written = write_ids(call, refs, n);
    free(refs);
    if (!is_written) {
        return false;
    }
    out_bytes(call->out, roots->data, roots->len);
    write_more(call->out, more);
    call->out->failed |= roots->failed;
    call->out->too_long |= roots->too_long;
    return call_output_ok(call) && call_result_end(call);
}

bool method_gc_get_referrers(struct call *call)
{
    struct out roots;
    if (!heap_enter_still(call->heap, call->cancel)) {
        return call_fail(call, HEAP_CANCELLED);
    }
    out_init(&roots, call->result_max);
    bool is_done = referrers(call, &roots);
    heap_leave(call->heap);
    out_fini(&roots);
    return is_done;
}
