/* method_weakref.c -- weakref.create, weakref.get, weakref.count: references that keep nothing alive. */
#include "method_handlers.h"

#define WEAKREF (1u << HEAP_T_WEAKREF)

/* The shared weakref, or one that notifies the session.  Returns: new. */
static enum heap_error make(struct call *call, heap_ref *weakref, heap_ref target)
{
    return arg_bool(&call->args[1], false)
               ? heap_weakref_notify(weakref, call->heap, call->session, target)
               : heap_weakref_shared(weakref, call->heap, target);
}

/* Writes the id of a weakref and takes the session's hold on it. */
static enum heap_error give(struct call *call, heap_ref weakref)
{
    uint64_t id;
    enum heap_error error = heap_id(&id, call->heap, weakref);
    if (error == HEAP_OK && !call->is_notification) {
        error = heap_hold(call->heap, call->session, weakref);
    }
    if (error == HEAP_OK) {
        out_text(call->out, "{\"object\":");
        out_u64(call->out, id);
    }
    return error;
}

bool method_weakref_create(struct call *call)
{
    heap_ref target, weakref;
    if (!call_target(call, 0, &target)) {
        return false;
    }
    enum heap_error error = make(call, &weakref, target);
    if (error == HEAP_TYPE) {
        fault_set(call->fault, RPC_TYPE_ERROR, "this %s is immortal; a weak reference is to what can die",
                  heap_type_name(call->heap, target));
        call_data_object(call, target);
        return false;
    }
    if (error != HEAP_OK) {
        return call_fail_object(call, error, target);
    }
    error = give(call, weakref);
    heap_decref(call->heap, weakref);
    return error == HEAP_OK ? call_result_end(call) : call_fail_object(call, error, target);
}

bool method_weakref_get(struct call *call)
{
    heap_ref weakref;
    if (!call_target_of(call, 0, WEAKREF, &weakref)) {
        return false;
    }
    heap_ref target = heap_weakref_target(call->heap, weakref);
    if (target == 0) {
        out_text(call->out, "{\"object\":null");
        return call_result_end(call);
    }
    return call_item(call, target, (struct call_item){1, 2, true}) && call_result_end(call);
}

bool method_weakref_count(struct call *call)
{
    heap_ref obj;
    if (!call_target(call, 0, &obj)) {
        return false;
    }
    out_u64(call->out, heap_weakref_count(call->heap, obj));
    return true;
}
