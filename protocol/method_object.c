/* method_object.c -- create, ref, unref, type: PROTOCOL section 4.  `get` is in reading.c. */
#include "method_handlers.h"

bool method_create_check(const method_arg *args, struct fault *fault)
{
    const method_arg *name = &args[1], *hold = &args[2];
    if (arg_given(name) || arg_bool(hold, true)) {
        return true;
    }
    fault_set(fault, RPC_INVALID_PARAMS,
              "create: without a name and without a hold the object would die at once; "
              "give one of them");
    return fault_text(fault, "param", "hold", strlen("hold"));
}

/* Holds the new object and binds its name, as asked; all or nothing. */
static bool keep(struct call *call, heap_ref obj, bool hold)
{
    const method_arg *name = &call->args[1];
    enum heap_error error;
    if (arg_given(name) && (name->len == 0 || name->len > HEAP_NAME_BYTES_MAX)) {
        return call_fail_name(call, HEAP_BAD_NAME, 1);
    }
    if (hold) {
        error = heap_hold(call->heap, call->session, obj);
        if (error != HEAP_OK) {
            return call_fail(call, error);
        }
    }
    if (!arg_given(name)) {
        return true;
    }
    error = heap_name_bind(call->heap, name->text, name->len, obj);
    if (error == HEAP_OK) {
        return true;
    }
    call_fail_name(call, error, 1);
    if (hold && heap_unhold(call->heap, call->session, obj) != HEAP_OK) {
        fault_set(call->fault, RPC_INTERNAL_ERROR, "a hold that was just taken is gone");
    }
    return false;
}

bool method_create(struct call *call)
{
    bool named = arg_given(&call->args[1]);
    /* Without a name only the result of a notification would tell of the hold. */
    bool hold = arg_bool(&call->args[2], !named) && (named || !call->is_notification);
    heap_ref obj;
    uint64_t id;
    if (!call_value(call, 0, &obj)) {
        return false;
    }
    enum heap_error error = heap_id(&id, call->heap, obj);
    bool kept = error == HEAP_OK ? keep(call, obj, hold) : call_fail(call, error);
    if (!kept || (call->is_notification && !named)) {
        heap_decref(call->heap, obj);
        return kept;
    }
    heap_decref(call->heap, obj);
    out_text(call->out, "{\"object\":");
    out_u64(call->out, id);
    out_text(call->out, ",\"type\":\"");
    out_text(call->out, heap_type_name(call->heap, obj));
    out_char(call->out, '"');
    /* The name's old object may have referred to the new one; its finalizer may have taken the name back. */
    return call_result_end_refcount(call, id);
}

/* ref and unref: `change` is heap_hold() or heap_unhold(). */
static bool change_holds(struct call *call, enum heap_error (*change)(struct heap *heap, struct heap_session *session,
                                                                       heap_ref obj))
{
    heap_ref obj;
    uint64_t id;
    if (!call_target(call, 0, &obj)) {
        return false;
    }
    enum heap_error error = heap_id(&id, call->heap, obj);
    if (error == HEAP_OK) {
        error = change(call->heap, call->session, obj);
    }
    if (error != HEAP_OK) {
        return call_fail_object(call, error, obj);
    }
    out_text(call->out, "{\"object\":");
    out_u64(call->out, id);
    return call_result_end_refcount(call, id);
}

bool method_ref(struct call *call)
{
    return change_holds(call, heap_hold);
}

bool method_unref(struct call *call)
{
    return change_holds(call, heap_unhold);
}

bool method_type(struct call *call)
{
    heap_ref obj;
    if (!call_target(call, 0, &obj)) {
        return false;
    }
    const char *name = heap_type_name(call->heap, obj);
    out_json_string(call->out, name, strlen(name));
    return true;
}
