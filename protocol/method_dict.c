/* method_dict.c -- dict.*: dicts, by key.
 *
 * A key is made into an object for the call and dropped after it; a dict keeps the key it had.  Where a str is only
 * looked for, its text will do.
 */
#include "method_handlers.h"

#define DICT (1u << HEAP_T_DICT)

/* The dict of parameter 0 and the key of parameter 1 (Returns: new). */
static bool dict_and_key(struct call *call, heap_ref *dict, heap_ref *key)
{
    return call_target_of(call, 0, DICT, dict) && call_value(call, 1, key);
}

/* Whether parameter 1 is a str as it stands in the request: then no object need be made of it. */
static bool key_is_text(const struct call *call, struct heap_text *text)
{
    const method_arg *key = &call->args[1];
    if (key->kind != JSON_KIND_STRING || key->has_escapes) {
        return false;
    }
    *text = (struct heap_text){key->text + 1, key->len - 2};
    return true;
}

/* The value of a key; drops the key when it fails, a missing one included. */
static bool find_value(struct call *call, heap_ref dict, heap_ref key, heap_ref *value)
{
    enum heap_error error = heap_dict_get(value, call->heap, dict, key);
    if (error == HEAP_OK && *value != 0) {
        return true;
    }
    call_drop_value(call, key);
    return call_fail_key(call, error == HEAP_OK ? HEAP_KEY : error, dict, 1);
}

/* The value literal of parameter 2 when it goes under a key.  What is wrong with the key is told before what
 * is wrong with the value.  Drops the key when it fails. */
static bool value_for_key(struct call *call, heap_ref dict, heap_ref key, heap_ref *value)
{
    heap_ref old;
    if (call_value(call, 2, value)) {
        return true;
    }
    enum heap_error error = heap_dict_get(&old, call->heap, dict, key);
    if (error != HEAP_OK) {
        call_fail_key(call, error, dict, 1);
    }
    call_drop_value(call, key);
    return false;
}

bool method_dict_setitem(struct call *call)
{
    heap_ref dict, key, value;
    if (!dict_and_key(call, &dict, &key) || !value_for_key(call, dict, key, &value)) {
        return false;
    }
    enum heap_error error = heap_dict_set_steal(call->heap, dict, key, value);
    return error == HEAP_OK ? call_result_null(call) : call_fail_key(call, error, dict, 1);
}

bool method_dict_getitem(struct call *call)
{
    heap_ref dict, key, value = 0;
    struct heap_text text;
    if (!call_target_of(call, 0, DICT, &dict)) {
        return false;
    }
    if (key_is_text(call, &text)) {
        value = heap_dict_get_text(call->heap, dict, text);
    }
    if (value == 0) { /* which find_value() tells of when it is a str, too */
        if (!call_value(call, 1, &key) || !find_value(call, dict, key, &value)) {
            return false;
        }
        call_drop_value(call, key);
    }
    return call_item(call, value, (struct call_item){2, 3, false}) && call_result_end(call);
}

/* The ITEM of a value that is under the key already, or is put there: the change comes last. */
static bool item_or_set(struct call *call, heap_ref dict, heap_ref key, heap_ref value, heap_ref old)
{
    const struct call_item how = {3, 4, false};
    heap_ref item = old != 0 ? old : value;
    if (!call_item(call, item, how)) {
        return false;
    }
    if (old != 0) {
        return true;
    }
    enum heap_error error = heap_incref(call->heap, key);
    if (error == HEAP_OK) {
        error = heap_incref(call->heap, value);
        if (error == HEAP_OK) {
            error = heap_dict_set_steal(call->heap, dict, key, value);
        } else {
            heap_decref(call->heap, key);
        }
    }
    if (error != HEAP_OK) {
        call_item_undo(call, item, how);
        return call_fail_key(call, error, dict, 1);
    }
    return true;
}

bool method_dict_setdefault(struct call *call)
{
    heap_ref dict, key, value, old;
    if (!dict_and_key(call, &dict, &key) || !value_for_key(call, dict, key, &value)) {
        return false;
    }
    enum heap_error error = heap_dict_get(&old, call->heap, dict, key);
    bool done =
        error == HEAP_OK ? item_or_set(call, dict, key, value, old) : call_fail_key(call, error, dict, 1);
    call_drop_value(call, key);
    call_drop_value(call, value);
    if (!done) {
        return false;
    }
    out_text(call->out, old == 0 ? ",\"added\":true" : ",\"added\":false");
    return call_result_end(call);
}

bool method_dict_delitem(struct call *call)
{
    heap_ref dict, key, own_key, value;
    if (!dict_and_key(call, &dict, &key) || !find_value(call, dict, key, &value)) {
        return false;
    }
    enum heap_error error = heap_dict_pop(&own_key, &value, call->heap, dict, key);
    call_drop_value(call, key);
    if (error != HEAP_OK) {
        return call_fail_key(call, error, dict, 1);
    }
    heap_decref(call->heap, own_key);
    heap_decref(call->heap, value);
    return call_result_null(call);
}

bool method_dict_pop(struct call *call)
{
    const struct call_item how = {2, 3, true};
    heap_ref dict, key, own_key, value;
    if (!dict_and_key(call, &dict, &key) || !find_value(call, dict, key, &value)) {
        return false;
    }
    if (!call_item(call, value, how)) {
        call_drop_value(call, key);
        return false;
    }
    enum heap_error error = heap_dict_pop(&own_key, &value, call->heap, dict, key);
    if (error != HEAP_OK) {
        call_item_undo(call, value, how);
        call_drop_value(call, key);
        return call_fail_key(call, error, dict, 1);
    }
    call_drop_value(call, key);
    /* Last, so that their deaths are counted also when `key` named the dict's key itself. */
    heap_decref(call->heap, own_key);
    heap_decref(call->heap, value);
    return call_result_end(call);
}

bool method_dict_update(struct call *call)
{
    heap_ref dict, value;
    if (!call_target_of(call, 0, DICT, &dict) || !call_value(call, 1, &value)) {
        return false;
    }
    enum heap_error error = heap_dict_update(call->heap, dict, value);
    if (error == HEAP_TYPE) {
        fault_set(call->fault, RPC_TYPE_ERROR, "value must be a dict; this is of type %s",
                  heap_type_name(call->heap, value));
        call_data_object(call, dict);
    } else if (error != HEAP_OK) {
        call_fail_object(call, error, dict);
    }
    call_drop_value(call, value);
    return error == HEAP_OK && call_result_null(call);
}

bool method_dict_contains(struct call *call)
{
    heap_ref dict, key, value;
    if (!dict_and_key(call, &dict, &key)) {
        return false;
    }
    enum heap_error error = heap_dict_get(&value, call->heap, dict, key);
    call_drop_value(call, key);
    if (error != HEAP_OK) {
        return call_fail_key(call, error, dict, 1);
    }
    out_text(call->out, value != 0 ? "{\"contains\":true" : "{\"contains\":false");
    return call_result_end(call);
}

bool method_dict_keys(struct call *call)
{
    int64_t limit = arg_int(&call->args[1], 1000), rows = 0;
    uint64_t after = (uint64_t)arg_int(&call->args[2], 0), next;
    heap_ref dict, key, value;
    if (!call_target_of(call, 0, DICT, &dict)) {
        return false;
    }
    out_text(call->out, "{\"keys\":[");
    bool more;
    while (next = after,
           (more = heap_dict_serial_next(call->heap, dict, &next, &key, &value)) && rows < limit) {
        if (rows > 0) {
            out_char(call->out, ',');
        }
        if (!call_write_value(call, key, 0, false) || !call_output_ok(call)) {
            return false;
        }
        after = next;
        rows++;
    }
    return call_result_page(call, more, after);
}

bool method_dict_clear(struct call *call)
{
    heap_ref dict;
    if (!call_target_of(call, 0, DICT, &dict)) {
        return false;
    }
    heap_dict_clear(call->heap, dict);
    return call_result_null(call);
}

bool method_dict_len(struct call *call)
{
    heap_ref dict;
    if (!call_target_of(call, 0, DICT, &dict)) {
        return false;
    }
    out_text(call->out, "{\"len\":");
    out_u64(call->out, heap_dict_len(call->heap, dict));
    return call_result_end(call);
}

/* The value under the key is no int. */
static bool fail_incr_type(struct call *call, heap_ref dict, heap_ref key)
{
    heap_ref value;
    call_fail_key(call, HEAP_TYPE, dict, 1);
    if (heap_dict_get(&value, call->heap, dict, key) == HEAP_OK && value != 0) {
        fault_set(call->fault, RPC_TYPE_ERROR,
                  "the value under the key is of type %s, not int; set it to one first",
                  heap_type_name(call->heap, value));
        call_data_object(call, dict);
        fault_json(call->fault, "key", call->args[1].text, call->args[1].len);
    }
    return false;
}

/* The int of parameter 1 in the dict, with `by` more.  false: call->fault says why not. */
static bool incr(struct call *call, heap_ref dict, int64_t by, int64_t *sum)
{
    struct heap_text text;
    heap_ref key;
    if (key_is_text(call, &text) && heap_dict_incr_text(sum, call->heap, dict, text, by) == HEAP_OK) {
        return true;
    }
    if (!call_value(call, 1, &key)) {
        return false;
    }
    enum heap_error error = heap_dict_incr(sum, call->heap, dict, key, by);
    if (error == HEAP_TYPE) {
        fail_incr_type(call, dict, key);
    } else if (error != HEAP_OK) {
        call_fail_key(call, error, dict, 1);
    }
    call_drop_value(call, key);
    return error == HEAP_OK;
}

bool method_dict_incr(struct call *call)
{
    heap_ref dict;
    int64_t sum;
    if (!call_target_of(call, 0, DICT, &dict) || !incr(call, dict, arg_int(&call->args[2], 1), &sum)) {
        return false;
    }
    out_text(call->out, "{\"value\":");
    out_i64(call->out, sum);
    return call_result_end(call);
}
