/* method_finalizer.c -- finalizer.set, finalizer.clear: what happens once, when an object is about to die. */
#include "method_handlers.h"

#define TOKEN_BYTES_MAX 1024u

bool method_finalizer_set_check(const method_arg *args, struct fault *fault)
{
    if (arg_given(&args[1]) && args[1].len > TOKEN_BYTES_MAX) {
        fault_set(fault, RPC_INVALID_PARAMS, "finalizer.set: token is a string of at most %u bytes, not %zu",
                  TOKEN_BYTES_MAX, args[1].len);
        return fault_text(fault, "param", "token", strlen("token"));
    }
    return true;
}

static struct heap_text text_of(const method_arg *arg)
{
    return arg_given(arg) ? (struct heap_text){arg->text, arg->len} : (struct heap_text){NULL, 0};
}

/* Why the object took no finalizer. */
static bool fail_set(struct call *call, enum heap_error error, heap_ref obj)
{
    if (error == HEAP_TYPE) {
        fault_set(call->fault, RPC_TYPE_ERROR, "this %s is immortal; a finalizer is for what can die",
                  heap_type_name(call->heap, obj));
        call_data_object(call, obj);
        return false;
    }
    if (error == HEAP_BAD_NAME) {
        return call_fail_name(call, error, 2);
    }
    return call_fail_object(call, error, obj);
}

bool method_finalizer_set(struct call *call)
{
    heap_ref obj;
    if (!call_target(call, 0, &obj)) {
        return false;
    }
    const struct heap_finalizer finalizer = {
        .token = text_of(&call->args[1]),
        .resurrect_as = text_of(&call->args[2]),
        .clear = arg_bool(&call->args[3], false),
    };
    enum heap_error error = heap_finalizer_set(call->heap, call->session, obj, &finalizer);
    return error == HEAP_OK ? call_result_null(call) : fail_set(call, error, obj);
}

bool method_finalizer_clear(struct call *call)
{
    heap_ref obj;
    if (!call_target(call, 0, &obj)) {
        return false;
    }
    out_text(call->out, heap_finalizer_clear(call->heap, obj) ? "true" : "false");
    return true;
}
