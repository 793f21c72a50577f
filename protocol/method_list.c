/* method_list.c -- list.*: methods that change a list, and those that read a list or a tuple. */
#include "method_handlers.h"

#define LIST (1u << HEAP_T_LIST)
#define LIST_OR_TUPLE (1u << HEAP_T_LIST | 1u << HEAP_T_TUPLE)

/* Where an index points, which counts from the end when negative. */
static bool find_index(struct call *call, heap_ref list, int64_t index, uint32_t *at)
{
    int64_t len = heap_seq_len(call->heap, list);
    int64_t place = index < 0 ? index + len : index;
    if (place < 0 || place >= len) {
        call_fail_index(call, list, index);
        return false;
    }
    *at = (uint32_t)place;
    return true;
}

static bool write_len(struct call *call, uint64_t len)
{
    out_text(call->out, "{\"len\":");
    out_u64(call->out, len);
    return call_result_end(call);
}

bool method_list_append(struct call *call)
{
    heap_ref list, value;
    if (!call_target_of(call, 0, LIST, &list) || !call_value(call, 1, &value)) {
        return false;
    }
    enum heap_error error = heap_list_append_steal(call->heap, list, value);
    return error == HEAP_OK ? call_result_null(call) : call_fail_object(call, error, list);
}

bool method_list_extend(struct call *call)
{
    heap_ref list, value;
    if (!call_target_of(call, 0, LIST, &list) || !call_value(call, 1, &value)) {
        return false;
    }
    enum heap_error error = heap_list_extend(call->heap, list, value);
    if (error == HEAP_TYPE) {
        fault_set(call->fault, RPC_TYPE_ERROR,
                  "value must be a list, tuple, set or frozenset; this is of type %s",
                  heap_type_name(call->heap, value));
        call_data_object(call, list);
    } else if (error != HEAP_OK) {
        call_fail_object(call, error, list);
    }
    call_drop_value(call, value);
    return error == HEAP_OK && call_result_null(call);
}

bool method_list_insert(struct call *call)
{
    heap_ref list, value;
    if (!call_target_of(call, 0, LIST, &list) || !call_value(call, 2, &value)) {
        return false;
    }
    int64_t len = heap_seq_len(call->heap, list), index = call->args[1].integer;
    index = index < 0 ? index + len : index;
    index = index < 0 ? 0 : index > len ? len : index;
    enum heap_error error = heap_list_insert_steal(call->heap, list, (uint32_t)index, value);
    return error == HEAP_OK ? call_result_null(call) : call_fail_object(call, error, list);
}

bool method_list_getitem(struct call *call)
{
    heap_ref list;
    uint32_t at;
    if (!call_target_of(call, 0, LIST_OR_TUPLE, &list) || !find_index(call, list, call->args[1].integer, &at)) {
        return false;
    }
    return call_item(call, heap_seq_item(call->heap, list, at), (struct call_item){2, 3, false}) &&
           call_result_end(call);
}

bool method_list_setitem(struct call *call)
{
    heap_ref list, value;
    uint32_t at;
    if (!call_target_of(call, 0, LIST, &list) || !find_index(call, list, call->args[1].integer, &at) ||
        !call_value(call, 2, &value)) {
        return false;
    }
    heap_list_set_steal(call->heap, list, at, value);
    return call_result_null(call);
}

bool method_list_delitem(struct call *call)
{
    heap_ref list;
    uint32_t at;
    if (!call_target_of(call, 0, LIST, &list) || !find_index(call, list, call->args[1].integer, &at)) {
        return false;
    }
    heap_decref(call->heap, heap_list_pop(call->heap, list, at));
    return call_result_null(call);
}

bool method_list_pop(struct call *call)
{
    heap_ref list;
    uint32_t at;
    if (!call_target_of(call, 0, LIST, &list) || !find_index(call, list, arg_int(&call->args[1], -1), &at)) {
        return false;
    }
    if (!call_item(call, heap_seq_item(call->heap, list, at), (struct call_item){2, 3, true})) {
        return false;
    }
    heap_decref(call->heap, heap_list_pop(call->heap, list, at));
    return call_result_end(call);
}

bool method_list_clear(struct call *call)
{
    heap_ref list;
    if (!call_target_of(call, 0, LIST, &list)) {
        return false;
    }
    heap_list_clear(call->heap, list);
    return call_result_null(call);
}

bool method_list_len(struct call *call)
{
    heap_ref list;
    return call_target_of(call, 0, LIST_OR_TUPLE, &list) && write_len(call, heap_seq_len(call->heap, list));
}
