/* method_mark.c -- heap.mark and heap.diff: what has grown.  Questions: see method_question.c. */
#include "document.h"
#include "method_handlers.h"

#include <stdlib.h>

#define LABEL_BYTES_MAX 1024u

/* Whether a label is of a length that it may have. */
static bool check_label(const method_arg *label, const char *param, struct fault *fault)
{
    if (!arg_given(label) || (label->len > 0 && label->len <= LABEL_BYTES_MAX)) {
        return true;
    }
    fault_set(fault, RPC_INVALID_PARAMS, "%s must be a label of 1 to %u bytes", param, LABEL_BYTES_MAX);
    return fault_text(fault, "param", param, strlen(param));
}

bool method_heap_mark_check(const method_arg *args, struct fault *fault)
{
    return check_label(&args[0], "label", fault);
}

bool method_heap_mark(struct call *call)
{
    const method_arg *label = &call->args[0];
    uint64_t objects, bytes;
    enum heap_error error = heap_mark(&objects, &bytes, call->heap, label->text, label->len, call->cancel);
    if (error != HEAP_OK) {
        return call_fail(call, error);
    }
    out_text(call->out, "{\"label\":");
    out_json_string(call->out, label->text, label->len);
    out_text(call->out, ",\"objects\":");
    out_u64(call->out, objects);
    out_text(call->out, ",\"bytes\":");
    out_u64(call->out, bytes);
    out_char(call->out, '}');
    return call_output_ok(call);
}

bool method_heap_diff_check(const method_arg *args, struct fault *fault)
{
    return check_label(&args[0], "from", fault) && check_label(&args[1], "to", fault);
}

/* Rows in an array, those of sessions with their number.  Frees them. */
static json_t *growth_document(struct heap_growth *rows, uint32_t count, bool of_sessions)
{
    json_t *j_rows = json_array();
    for (uint32_t i = 0; i < count; i++) {
        const struct heap_growth *row = &rows[i];
        json_array_append_new(j_rows, of_sessions ? json_pack("{s:I, s:I, s:I}", "session", (json_int_t)row->session,
                                                              "objects", (json_int_t)row->objects, "bytes",
                                                              (json_int_t)row->bytes)
                                                  : document_type_row(row->type, row->objects, row->bytes));
    }
    free(rows);
    document_sort_by_bytes(j_rows);
    return j_rows;
}

bool method_heap_diff(struct call *call)
{
    struct heap_text from = {call->args[0].text, call->args[0].len}, to = {call->args[1].text, call->args[1].len};
    struct heap_growth *types, *sessions;
    uint32_t type_count, session_count;
    enum heap_error error = heap_diff(&types, &type_count, &sessions, &session_count, call->heap, &from,
                                      arg_given(&call->args[1]) ? &to : NULL, call->cancel);
    if (error != HEAP_OK) {
        return call_fail(call, error);
    }
    json_t *j_types = growth_document(types, type_count, false);
    return call_document_steal(call, json_pack("{s:o, s:o}", "types", j_types, "sessions",
                                               growth_document(sessions, session_count, true)));
}
