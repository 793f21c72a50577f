/* method_sys.c -- sys.*: what CPython's sys module says about objects and the GIL. */
#include "method_handlers.h"

bool method_sys_getrefcount(struct call *call)
{
    heap_ref obj;
    if (!call_target(call, 0, &obj)) {
        return false;
    }
    uint32_t refcount = heap_refcount(call->heap, obj);
    /* One more for the reference that the argument itself holds, as in CPython. */
    out_u64(call->out, refcount == HEAP_REFCOUNT_IMMORTAL ? refcount : (uint64_t)refcount + 1);
    return true;
}

bool method_sys_getsizeof(struct call *call)
{
    heap_ref obj;
    if (!call_target(call, 0, &obj)) {
        return false;
    }
    out_u64(call->out, heap_sizeof(call->heap, obj));
    return true;
}

bool method_sys_intern(struct call *call)
{
    const method_arg *text = &call->args[0];
    heap_ref str;
    uint64_t id;
    enum heap_error error = heap_str_intern(&str, call->heap, text->text, text->len);
    if (error != HEAP_OK) {
        return call_fail(call, error);
    }
    error = heap_id(&id, call->heap, str);
    if (error == HEAP_OK && arg_bool(&call->args[1], true) && !call->is_notification) {
        error = heap_hold(call->heap, call->session, str);
    }
    heap_decref(call->heap, str);
    if (error != HEAP_OK) {
        return call_fail(call, error);
    }
    out_text(call->out, "{\"object\":");
    out_u64(call->out, id);
    return call_result_end(call);
}

bool method_sys_getswitchinterval(struct call *call)
{
    out_double(call->out, heap_switch_interval_us(call->heap) / 1e6);
    return true;
}

bool method_sys_setswitchinterval(struct call *call)
{
    heap_set_switch_interval_us(call->heap, (uint32_t)call->args[0].integer);
    return call_result_null(call);
}
