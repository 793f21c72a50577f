/* method_set.c -- set.*: methods that change a set, and those that read a set or a frozenset. */
#include "method_handlers.h"

#define SET (1u << HEAP_T_SET)
#define SET_OR_FROZENSET (1u << HEAP_T_SET | 1u << HEAP_T_FROZENSET)

/* `{"WORD":true}` */
static bool write_bool(struct call *call, const char *word, bool value)
{
    out_text(call->out, "{\"");
    out_text(call->out, word);
    out_text(call->out, value ? "\":true" : "\":false");
    return call_result_end(call);
}

bool method_set_add(struct call *call)
{
    heap_ref set, value;
    bool added;
    if (!call_target_of(call, 0, SET, &set) || !call_value(call, 1, &value)) {
        return false;
    }
    enum heap_error error = heap_set_add_steal(&added, call->heap, set, value);
    heap_settle(call->heap); /* a member that was there already ends the value, which nobody has seen */
    return error == HEAP_OK ? write_bool(call, "added", added) : call_fail_key(call, error, set, 1);
}

bool method_set_discard(struct call *call)
{
    heap_ref set, value, member;
    if (!call_target_of(call, 0, SET, &set) || !call_value(call, 1, &value)) {
        return false;
    }
    enum heap_error error = heap_set_discard(&member, call->heap, set, value);
    call_drop_value(call, value);
    if (error != HEAP_OK) {
        return call_fail_key(call, error, set, 1);
    }
    /* Last, so that its death is counted also when the value named the member itself. */
    heap_decref(call->heap, member);
    return write_bool(call, "removed", member != 0);
}

bool method_set_contains(struct call *call)
{
    heap_ref set, value;
    bool contains;
    if (!call_target_of(call, 0, SET_OR_FROZENSET, &set) || !call_value(call, 1, &value)) {
        return false;
    }
    enum heap_error error = heap_set_contains(&contains, call->heap, set, value);
    call_drop_value(call, value);
    return error == HEAP_OK ? write_bool(call, "contains", contains) : call_fail_key(call, error, set, 1);
}

bool method_set_clear(struct call *call)
{
    heap_ref set;
    if (!call_target_of(call, 0, SET, &set)) {
        return false;
    }
    heap_set_clear(call->heap, set);
    return call_result_null(call);
}

bool method_set_len(struct call *call)
{
    heap_ref set;
    if (!call_target_of(call, 0, SET_OR_FROZENSET, &set)) {
        return false;
    }
    out_text(call->out, "{\"len\":");
    out_u64(call->out, heap_set_len(call->heap, set));
    return call_result_end(call);
}
