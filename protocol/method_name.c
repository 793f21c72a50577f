/* method_name.c -- name.bind, name.lookup, name.unbind, name.list: the global namespace. */
#include "method_handlers.h"

/* Longest text of a binding: every byte of the name escaped, and the rest. */
#define BINDING_BYTES_MAX (6 * HEAP_NAME_BYTES_MAX + CALL_RESERVED_BYTES)

/* `{"name":"a","object":17` */
static void write_binding(struct call *call, const method_arg *name, uint64_t id)
{
    out_text(call->out, "{\"name\":");
    out_json_string(call->out, name->text, name->len);
    out_text(call->out, ",\"object\":");
    out_u64(call->out, id);
}

bool method_name_bind(struct call *call)
{
    const method_arg *name = &call->args[0];
    heap_ref obj;
    uint64_t id;
    if (name->len == 0 || name->len > HEAP_NAME_BYTES_MAX) {
        return call_fail_name(call, HEAP_BAD_NAME, 0);
    }
    if (!call_target(call, 1, &obj) || !call_reserve(call, BINDING_BYTES_MAX)) {
        return false;
    }
    enum heap_error error = heap_id(&id, call->heap, obj);
    if (error == HEAP_OK) {
        error = heap_name_bind(call->heap, name->text, name->len, obj);
    }
    if (error != HEAP_OK) {
        return call_fail_name(call, error, 0);
    }
    /* The old object may have referred to the new one; its finalizer may have taken the name back. */
    write_binding(call, name, id);
    return call_result_end_refcount(call, id);
}

/* The object of the name in parameter 0, and its id. */
static bool find(struct call *call, heap_ref *obj, uint64_t *id)
{
    const method_arg *name = &call->args[0];
    *obj = heap_name_find(call->heap, name->text, name->len);
    if (*obj == 0) {
        return call_fail_name(call, HEAP_NAME, 0);
    }
    enum heap_error error = heap_id(id, call->heap, *obj);
    return error == HEAP_OK || call_fail_name(call, error, 0);
}

bool method_name_lookup(struct call *call)
{
    const method_arg *depth = &call->args[2];
    bool hold = arg_bool(&call->args[1], false) && !call->is_notification;
    heap_ref obj;
    uint64_t id;
    if (!find(call, &obj, &id)) {
        return false;
    }
    uint32_t refcount = heap_refcount(call->heap, obj);
    write_binding(call, &call->args[0], id);
    out_text(call->out, ",\"refcount\":");
    out_u64(call->out, refcount + (hold && refcount != HEAP_REFCOUNT_IMMORTAL ? 1 : 0));
    if (arg_given(depth) && !call->is_notification) {
        out_text(call->out, ",\"value\":");
        if (!call_write_value(call, obj, depth->integer, false) || !call_output_ok(call)) {
            return false;
        }
    }
    if (hold) {
        enum heap_error error = heap_hold(call->heap, call->session, obj);
        if (error != HEAP_OK) {
            return call_fail_object(call, error, obj);
        }
    }
    return call_result_end(call);
}

bool method_name_unbind(struct call *call)
{
    const method_arg *name = &call->args[0];
    heap_ref obj;
    uint64_t id;
    if (!find(call, &obj, &id) || !call_reserve(call, BINDING_BYTES_MAX)) {
        return false;
    }
    enum heap_error error = heap_name_unbind(call->heap, name->text, name->len);
    if (error != HEAP_OK) {
        return call_fail_name(call, error, 0);
    }
    write_binding(call, name, id);
    return call_result_end_refcount(call, id);
}

/* One row of name.list. */
static bool write_row(struct call *call, bool first, const char *name, size_t len, heap_ref obj)
{
    uint64_t id;
    enum heap_error error = heap_id(&id, call->heap, obj);
    if (error != HEAP_OK) {
        return call_fail(call, error);
    }
    out_text(call->out, first ? "{\"name\":" : ",{\"name\":");
    out_json_string(call->out, name, len);
    out_text(call->out, ",\"object\":");
    out_u64(call->out, id);
    out_char(call->out, '}');
    return call_output_ok(call);
}

bool method_name_list(struct call *call)
{
    struct heap *heap = call->heap;
    const method_arg *prefix = &call->args[0], *after = &call->args[2];
    int64_t limit = arg_int(&call->args[1], 1000), rows = 0;
    const char *prefix_text = arg_given(prefix) ? prefix->text : "";
    size_t prefix_len = arg_given(prefix) ? prefix->len : 0;
    const char *name, *last = arg_given(after) ? after->text : "";
    size_t len, last_len = arg_given(after) ? after->len : 0;
    heap_ref obj;
    bool more;
    out_text(call->out, "{\"names\":[");
    while ((more = heap_name_next(heap, prefix_text, prefix_len, last, last_len, &name, &len, &obj)) &&
           rows < limit) {
        if (!write_row(call, rows == 0, name, len, obj)) {
            return false;
        }
        last = name;
        last_len = len;
        rows++;
    }
    out_text(call->out, "],\"next\":");
    if (more) {
        out_json_string(call->out, last, last_len);
    } else {
        out_text(call->out, "null");
    }
    return call_result_end(call);
}
