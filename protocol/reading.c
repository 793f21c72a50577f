/* reading.c -- `get` of a large value is answered by a worker, in slices of the GIL.
 *
 *   I/O thread   write_short()   writes the value, unless that gets longer than READING_BYTES: then the request becomes
 *                                a question
 *   worker       write_long()    writes it from the beginning, in slices.  After each it makes sure that the target is
 *                                still the same object and that nothing it has read has changed; so the answer is that
 *                                of the moment of the last slice
 *   I/O thread   when that was not so, or the target cannot be found just now, the request runs in one go
 *
 * With `shared` "let" a walk over all comes first, which is not sliced.  Where there is a journal the request runs in
 * one go, too, since that notes the ids that each request gives.
 *
 * Start at method_get() and write_slices().
 */
#include "literal.h"
#include "method_handlers.h"
#include "rpc_internal.h"

#define SLICE_US 300u /* of the GIL at a time */
/* More than a slice writes.  To make room copies what is there, which takes longer than a slice: that is done between two. */
#define SLICE_BYTES 524288u

enum { GET_OBJECT, GET_DEPTH, GET_SHARED }; /* parameters */

static bool is_let(const struct call *call)
{
    return arg_int(&call->args[GET_SHARED], 0) == 1;
}

/* Looks the target up, and how its value is to be written. */
static bool prepare(struct call *call, heap_ref *obj, struct literal_format *format)
{
    return call_target(call, GET_OBJECT, obj) &&
           call_format(format, call, arg_int(&call->args[GET_DEPTH], 1), is_let(call));
}

/* The request is to run elsewhere. */
static bool move(struct call *call)
{
    call->is_moved = true;
    call->fault->error = RPC_OK; /* what is there is of no meaning */
    return false;
}

/* ---- the I/O thread ---- */

static bool may_move(const struct call *call, heap_ref obj)
{
    return call->conn != NULL && !call->conn->runs_at_once && !call->service->journal.is_on && !is_let(call) &&
           heap_is_container(call->heap, obj);
}

static bool write_short(struct call *call)
{
    struct literal_format format;
    struct literal_error error = {0};
    heap_ref obj;
    if (!prepare(call, &obj, &format)) {
        return false;
    }
    bool may = may_move(call, obj) && (format.max_bytes == 0 || format.max_bytes > READING_BYTES);
    format.max_bytes = may ? READING_BYTES : format.max_bytes;
    if (literal_write(call->out, call->heap, obj, &format, &error)) {
        return true;
    }
    return may && error.fault == LITERAL_OUTPUT ? move(call) : call_fail_literal(call, GET_OBJECT, &error);
}

/* ---- the worker ---- */

/* Whether the target is found; what a lookup has to wait for does not count here.  GIL: held. */
static bool find(struct call *call, heap_ref *obj)
{
    bool is_found = call_target(call, GET_OBJECT, obj);
    (void)heap_take_wait(call->heap);
    return is_found;
}

/* Between two slices.  When there is no memory the next one will say so.  GIL: held, and given away. */
static void end_slice(struct call *call)
{
    struct out *out = call->out;
    size_t bytes = out->max != 0 && out->max - out->len < SLICE_BYTES ? out->max - out->len : SLICE_BYTES;
    if (out->room - out->len < bytes) {
        heap_leave(call->heap);
        if (!out_reserve(out, bytes)) {
            out_truncate(out, out->len);
        }
        heap_enter(call->heap);
    } else {
        heap_give_way(call->heap);
    }
}

/* Writes the value.  GIL: held, and given away between the slices. */
static bool write_slices(struct call *call, struct literal_writer *writer)
{
    struct literal_error error = {0};
    enum literal_progress progress = LITERAL_GOES_ON;
    heap_ref obj, first = 0;
    while (progress == LITERAL_GOES_ON) {
        if (!find(call, &obj) || (first != 0 && obj != first)) {
            return move(call);
        }
        first = obj;
        progress = literal_writer_step(writer, obj, SLICE_US, &error);
        if (progress == LITERAL_GOES_ON) {
            end_slice(call);
            if (atomic_load_explicit(call->cancel, memory_order_relaxed)) {
                return call_fail(call, HEAP_CANCELLED);
            }
        }
    }
    if (progress == LITERAL_FAILED) {
        return error.fault == LITERAL_CHANGED ? move(call) : call_fail_literal(call, GET_OBJECT, &error);
    }
    return true;
}

static bool write_long(struct call *call)
{
    struct literal_format format;
    if (!call_format(&format, call, arg_int(&call->args[GET_DEPTH], 1), false)) {
        return false;
    }
    heap_enter(call->heap);
    struct literal_writer *writer = literal_writer_create(call->out, call->heap, &format);
    bool is_written = writer != NULL ? write_slices(call, writer) : call_fail(call, HEAP_MEMORY);
    if (writer != NULL) {
        literal_writer_destroy(writer);
    }
    heap_leave(call->heap);
    return is_written;
}

bool method_get(struct call *call)
{
    return call->cancel == NULL ? write_short(call) : write_long(call);
}
