/* call.c -- what the handlers share: objects from parameters, faults with their data, results.
 *
 * GIL: held in every function that touches the heap.
 */
#include "json_memory.h"
#include "literal.h"
#include "rpc_internal.h"

#include <stdio.h>

/* ---- faults ---- */

void call_data_object(struct call *call, heap_ref obj)
{
    uint64_t id;
    if (heap_id(&id, call->heap, obj) == HEAP_OK) {
        fault_number(call->fault, "object", (int64_t)id);
    }
}

/* The option that a heap limit belongs to, if it has one, with its value. */
static void add_limit(struct call *call, enum heap_error error)
{
    struct fault *fault = call->fault;
    if (error == HEAP_LIMIT_REFS) {
        fault_number(fault, "max", INT64_C(2147483648));
        return;
    }
    if (error == HEAP_LIMIT_MARKS) {
        fault_number(fault, "max", HEAP_MARKS_MAX);
        return;
    }
    const char *limit = NULL;
    uint64_t max = 0;
    if (error == HEAP_MEMORY) {
        limit = "max-memory";
        max = RPC_LIMIT(call->service, max_memory);
    } else if (error == HEAP_LIMIT_HOLDS) {
        limit = "max-holds";
        max = RPC_LIMIT(call->service, max_holds);
    } else if (error == HEAP_LIMIT_NAMES) {
        limit = "max-names";
        max = RPC_LIMIT(call->service, max_names);
    }
    if (limit != NULL) {
        fault_text(fault, "limit", limit, strlen(limit));
        fault_number(fault, "max", (int64_t)max);
    }
}

bool call_fail(struct call *call, enum heap_error error)
{
    fault_heap(call->fault, error);
    add_limit(call, error);
    if (error == HEAP_MEMORY) {
        (void)json_memory_take_shortage(); /* of a document that nobody will see */
    }
    return false;
}

bool call_fail_object(struct call *call, enum heap_error error, heap_ref obj)
{
    call_fail(call, error);
    call_data_object(call, obj);
    return false;
}

bool call_fail_key(struct call *call, enum heap_error error, heap_ref obj, unsigned key_param)
{
    const method_arg *key = &call->args[key_param];
    call_fail_object(call, error, obj);
    return fault_json(call->fault, "key", key->text, key->len);
}

bool call_fail_index(struct call *call, heap_ref obj, int64_t index)
{
    fault_set(call->fault, RPC_INDEX_ERROR, "index %lld is out of range for a %s of length %u",
              (long long)index, heap_type_name(call->heap, obj), heap_seq_len(call->heap, obj));
    call_data_object(call, obj);
    return fault_number(call->fault, "index", index);
}

bool call_fail_name(struct call *call, enum heap_error error, unsigned name_param)
{
    const method_arg *name = &call->args[name_param];
    if (error == HEAP_NAME) {
        fault_set(call->fault, RPC_NAME_ERROR, "name %.*s is not bound; bind it with name.bind or create",
                  fault_clip(name->text, name->len, 64), name->text);
    } else {
        call_fail(call, error);
    }
    return fault_text(call->fault, "name", name->text, name->len);
}

bool call_fail_attr(struct call *call, enum heap_error error, heap_ref obj, unsigned attr_param)
{
    const method_arg *attr = &call->args[attr_param];
    if (error == HEAP_ATTR) {
        bool slots = heap_class_has_slots(call->heap, heap_instance_class(call->heap, obj));
        fault_set(call->fault, RPC_ATTRIBUTE_ERROR, "this %s has no attribute %.*s; %s",
                  heap_type_name(call->heap, obj), fault_clip(attr->text, attr->len, 64), attr->text,
                  slots ? "get of its class lists the slots that it can have" : "attr.list says which it has");
        call_data_object(call, obj);
    } else {
        call_fail_object(call, error, obj);
    }
    return fault_text(call->fault, "attr", attr->text, attr->len);
}

/* The fault of an answer that is too large, or for which there is no memory. */
static bool fail_output(struct call *call, bool too_long)
{
    if (!too_long) {
        return call_fail(call, HEAP_MEMORY);
    }
    uint64_t max = RPC_LIMIT(call->service, max_output);
    if (call->result_max < max) {
        max = call->result_max;
        fault_set(call->fault, RPC_LIMIT_EXCEEDED,
                  "the reply is larger than the %llu bytes that are left of what all connections may have unread; try "
                  "again soon, ask with less depth or in pages, or raise --max-output",
                  (unsigned long long)max);
    } else {
        fault_set(call->fault, RPC_LIMIT_EXCEEDED,
                  "the reply is larger than %llu bytes; ask with less depth or in pages, or raise --max-output",
                  (unsigned long long)max);
    }
    fault_text(call->fault, "limit", "max-output", strlen("max-output"));
    return fault_number(call->fault, "max", (int64_t)max);
}

bool call_fail_literal(struct call *call, unsigned param, const struct literal_error *error)
{
    struct fault *fault = call->fault;
    switch (error->fault) {
    case LITERAL_OK:
    case LITERAL_CHANGED:
        break;
    case LITERAL_HEAP:
        if (error->heap == HEAP_NOT_FOUND && error->id != 0) {
            fault_set(fault, RPC_NOT_FOUND, "no object %llu: it was freed or never existed",
                      (unsigned long long)error->id);
        } else if (error->heap == HEAP_NAME && error->name != NULL) {
            fault_set(fault, RPC_NAME_ERROR, "name %.*s is not bound; bind it with name.bind or create",
                      fault_clip(error->name, error->name_len, 64), error->name);
        } else if (error->heap == HEAP_TYPE) {
            fault_set(fault, RPC_TYPE_ERROR, "%s", error->message);
        } else {
            call_fail(call, error->heap);
        }
        break;
    case LITERAL_INVALID_PARAMS:
        fault_set(fault, RPC_INVALID_PARAMS, "%s", error->message);
        fault_text(fault, "param", call->method->params[param].name, strlen(call->method->params[param].name));
        break;
    case LITERAL_VALUE:
        fault_set(fault, RPC_VALUE_ERROR, "%s", error->message);
        break;
    case LITERAL_MEMORY:
        return call_fail(call, HEAP_MEMORY);
    case LITERAL_OUTPUT:
        return fail_output(call, true);
    }
    if (error->id != 0) {
        fault_number(fault, "object", (int64_t)error->id);
    }
    if (error->name != NULL) {
        fault_json(fault, "name", error->name, error->name_len);
    }
    if (error->attr != NULL) {
        fault_json(fault, "attr", error->attr, error->attr_len);
    }
    return false;
}

/* ---- parameters ---- */

/* The object of an id, or of a name as it stands in the request; 0: literal_target() looks closer. */
static inline heap_ref find_target(struct heap *heap, const method_arg *arg)
{
    if (arg->kind == JSON_KIND_INT) {
        return heap_find(heap, (uint64_t)arg->integer);
    }
    return arg->has_escapes ? 0 : heap_name_find(heap, arg->text + 1, arg->len - 2);
}

/* Why a target is none. */
__attribute__((cold, noinline)) static bool search_target(struct call *call, unsigned param, heap_ref *obj)
{
    struct literal_error error = {0};
    return literal_target(obj, call->heap, &call->args[param], &error) || call_fail_literal(call, param, &error);
}

static inline bool target(struct call *call, unsigned param, heap_ref *obj)
{
    *obj = find_target(call->heap, &call->args[param]);
    return *obj != 0 || search_target(call, param, obj);
}

bool call_target(struct call *call, unsigned param, heap_ref *obj)
{
    return target(call, param, obj);
}

/* "a list or tuple", from a bit set of types. */
static void list_types(char *text, size_t size, unsigned types)
{
    size_t len = 0;
    for (int type = 0; type < HEAP_T_COUNT; type++) {
        if ((types & 1u << type) != 0 && len < size) {
            len += (size_t)snprintf(text + len, size - len, "%s%s", len == 0 ? "" : " or ",
                                    heap_builtin_name((enum heap_type)type));
        }
    }
}

/* The object is of none of the types. */
__attribute__((cold, noinline)) static bool fail_type(struct call *call, unsigned types, heap_ref obj)
{
    char wanted[80];
    list_types(wanted, sizeof(wanted), types);
    fault_set(call->fault, RPC_TYPE_ERROR, "%s is for the type %s; this is of type %s", call->method->name, wanted,
              heap_type_name(call->heap, obj));
    call_data_object(call, obj);
    return false;
}

bool call_target_of(struct call *call, unsigned param, unsigned types, heap_ref *obj)
{
    if (!target(call, param, obj)) {
        return false;
    }
    return (types & 1u << heap_type(call->heap, *obj)) != 0 || fail_type(call, types, *obj);
}

bool call_value(struct call *call, unsigned param, heap_ref *obj)
{
    struct literal_error error = {0};
    const struct literal_error *failed = NULL;
    if (call->building != NULL && building_take(call->building, call->heap, param, obj, &failed)) {
        return failed == NULL || call_fail_literal(call, param, failed);
    }
    if (!literal_read(obj, call->heap, &call->args[param], &error)) {
        return call_fail_literal(call, param, &error);
    }
    heap_settle(call->heap);
    return true;
}

void call_drop_value(struct call *call, heap_ref obj)
{
    call->freed += heap_settle(call->heap);
    heap_decref(call->heap, obj);
    heap_settle(call->heap);
}

/* ---- results ---- */

bool call_output_ok(struct call *call)
{
    struct out *out = call->out;
    if (out->failed) {
        return fail_output(call, out->too_long);
    }
    if (call->result_max != 0 && out->len - call->result_start > call->result_max) {
        return fail_output(call, true);
    }
    return true;
}

bool call_reserve(struct call *call, size_t n)
{
    return out_reserve(call->out, n) || call_output_ok(call);
}

bool call_result_null(struct call *call)
{
    out_text(call->out, "null");
    return true;
}

void call_finish(struct call *call, uint64_t id)
{
    char *p = out_room(call->out, 32 + 2 * NUMBER_TEXT_MAX);
    if (p == NULL) {
        return;
    }
    if (id != 0) {
        p = OUT_PUT(p, ",\"refcount\":");
        p += number_write_u64(p, heap_refcount_of_id(call->heap, id));
    }
    if (call->freed > 0) {
        p = OUT_PUT(p, ",\"freed\":");
        p += number_write_u64(p, call->freed);
    }
    *p++ = '}';
    out_take(call->out, p);
}

/* Settles; false: the rest of the deaths is call->park. */
static bool settle(struct call *call)
{
    struct heap_dying *dying = call->conn == NULL || call->park != NULL ? NULL : park_dying(call->service);
    uint64_t freed;
    if (dying == NULL) {
        call->freed += heap_settle(call->heap);
    } else if (heap_settle_slice(&freed, call->heap, dying)) {
        call->freed += freed;
    } else {
        park_take_dying(call->service, call);
    }
    return call->park == NULL;
}

static bool end_result(struct call *call, uint64_t id)
{
    if (settle(call)) {
        call_finish(call, id);
    } else {
        call->park->id = id;
        call->park->freed = call->freed;
    }
    return true;
}

bool call_result_end(struct call *call)
{
    return end_result(call, 0);
}

bool call_result_end_refcount(struct call *call, uint64_t id)
{
    return end_result(call, id);
}

bool call_wait(struct call *call, enum heap_wait wait, unsigned stage)
{
    call->wait = wait;
    call->stage = stage;
    return false;
}

bool call_result_page(struct call *call, bool more, uint64_t after)
{
    out_text(call->out, "],\"next\":");
    if (more) {
        out_u64(call->out, after);
    } else {
        out_text(call->out, "null");
    }
    return call_result_end(call);
}

/* Deepest nesting of a value in an answer, so that it can be given back in a request. */
static unsigned answer_nesting(const struct call *call)
{
    uint64_t max = RPC_LIMIT(call->service, max_depth);
    unsigned depth = max == 0 || max > RPC_DEPTH_MAX ? RPC_DEPTH_MAX : (unsigned)max;
    /* `{"params":{"value":` stand around it. */
    return depth > 4 ? depth - 2 : 2;
}

bool call_format(struct literal_format *format, struct call *call, int64_t depth, bool shared_let)
{
    size_t used = call->out->len - call->result_start;
    if (call->result_max != 0 && used >= call->result_max) {
        return fail_output(call, true);
    }
    *format = (struct literal_format){.depth = depth,
                                      .max_nesting = answer_nesting(call),
                                      .shared_let = shared_let,
                                      .max_bytes = call->result_max == 0 ? 0 : call->result_max - used};
    return true;
}

bool call_write_value(struct call *call, heap_ref obj, int64_t depth, bool shared_let)
{
    struct literal_format format;
    struct literal_error error = {0};
    return call_format(&format, call, depth, shared_let) &&
           (literal_write(call->out, call->heap, obj, &format, &error) || call_fail_literal(call, 0, &error));
}

bool call_item(struct call *call, heap_ref obj, struct call_item how)
{
    if (call->is_notification) {
        return true;
    }
    uint64_t id;
    const method_arg *depth = &call->args[how.depth_param];
    enum heap_error error = heap_id(&id, call->heap, obj);
    if (error != HEAP_OK) {
        return call_fail(call, error);
    }
    out_text(call->out, "{\"object\":");
    out_u64(call->out, id);
    if (arg_given(depth)) {
        out_text(call->out, ",\"value\":");
        if (!call_write_value(call, obj, depth->integer, false)) {
            return false;
        }
    }
    if (!call_output_ok(call)) {
        return false;
    }
    if (arg_bool(&call->args[how.hold_param], how.hold_default)) {
        error = heap_hold(call->heap, call->session, obj);
        if (error != HEAP_OK) {
            return call_fail_object(call, error, obj);
        }
    }
    return true;
}

void call_item_undo(struct call *call, heap_ref obj, struct call_item how)
{
    if (!call->is_notification && arg_bool(&call->args[how.hold_param], how.hold_default) &&
        heap_unhold(call->heap, call->session, obj) != HEAP_OK) {
        fault_set(call->fault, RPC_INTERNAL_ERROR, "a hold that was just taken is gone");
    }
}
