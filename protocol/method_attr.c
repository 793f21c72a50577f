/* method_attr.c -- attr.*: the attributes of instances. */
#include "method_handlers.h"

#define INSTANCE (1u << HEAP_T_INSTANCE)

bool method_attr_set(struct call *call)
{
    const method_arg *attr = &call->args[1];
    heap_ref instance, value;
    if (!call_target_of(call, 0, INSTANCE, &instance)) {
        return false;
    }
    /* Whether it may be set at all, told before anything that is wrong with the value. */
    enum heap_error error = heap_attr_get(&value, call->heap, instance, attr->text, attr->len);
    if (error != HEAP_OK) {
        return call_fail_attr(call, error, instance, 1);
    }
    if (!call_value(call, 2, &value)) {
        return false;
    }
    error = heap_attr_set_steal(call->heap, instance, attr->text, attr->len, value);
    return error == HEAP_OK ? call_result_null(call) : call_fail_attr(call, error, instance, 1);
}

bool method_attr_get(struct call *call)
{
    const method_arg *attr = &call->args[1];
    heap_ref instance, value;
    if (!call_target_of(call, 0, INSTANCE, &instance)) {
        return false;
    }
    enum heap_error error = heap_attr_get(&value, call->heap, instance, attr->text, attr->len);
    if (error != HEAP_OK || value == 0) {
        return call_fail_attr(call, error == HEAP_OK ? HEAP_ATTR : error, instance, 1);
    }
    return call_item(call, value, (struct call_item){2, 3, false}) && call_result_end(call);
}

bool method_attr_del(struct call *call)
{
    const method_arg *attr = &call->args[1];
    heap_ref instance;
    if (!call_target_of(call, 0, INSTANCE, &instance)) {
        return false;
    }
    enum heap_error error = heap_attr_del(call->heap, instance, attr->text, attr->len);
    return error == HEAP_OK ? call_result_null(call) : call_fail_attr(call, error, instance, 1);
}

bool method_attr_list(struct call *call)
{
    heap_ref instance, value;
    uint32_t pos = 0;
    const char *name, *comma = "";
    if (!call_target_of(call, 0, INSTANCE, &instance)) {
        return false;
    }
    out_text(call->out, "{\"attrs\":[");
    while (heap_attr_next(call->heap, instance, &pos, &name, &value)) {
        out_text(call->out, comma);
        out_json_string(call->out, name, strlen(name));
        comma = ",";
        if (!call_output_ok(call)) {
            return false;
        }
    }
    out_char(call->out, ']');
    return call_result_end(call);
}
