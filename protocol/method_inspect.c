/* method_inspect.c -- heap.inspect: all there is to say of one object.
 *
 * With `referrers` it is a question, since finding them walks the heap: then the handler runs without the GIL,
 * and takes it.
 */
#include "document.h"
#include "method_handlers.h"

#include <stdio.h>
#include <stdlib.h>

#define INSPECT_REFERRERS_MAX 100u

static void add_name(void *j_names, const char *name, size_t len)
{
    json_array_append_new(j_names, json_stringn(name, len));
}

static void add_holder(void *j_sessions, uint64_t session, uint64_t holds)
{
    json_array_append_new(j_sessions, json_pack("{s:I, s:I}", "session", (json_int_t)session, "holds",
                                                (json_int_t)holds));
}

static json_t *text_or_null(const struct heap_text *text)
{
    return text->text != NULL ? json_stringn(text->text, text->len) : json_null();
}

static json_t *finalizer_document(const struct heap *heap, heap_ref obj)
{
    struct heap_finalizer finalizer;
    if (!heap_finalizer_get(&finalizer, heap, obj)) {
        return json_null();
    }
    return json_pack("{s:o, s:o, s:b, s:b}", "token", text_or_null(&finalizer.token), "resurrect_as",
                     text_or_null(&finalizer.resurrect_as), "clear", finalizer.clear, "done", finalizer.done);
}

static json_t *generation_document(const struct heap *heap, heap_ref obj)
{
    int generation = heap_gc_generation(heap, obj);
    return generation < 0                          ? json_null()
           : generation == HEAP_GENERATION_FROZEN ? json_string("frozen")
                                                  : json_integer(generation);
}

static json_t *storage_document(const struct heap_storage *storage)
{
    return json_pack("{s:s, s:i, s:i, s:i}", "layer", "pymalloc", "size_class", (int)storage->size_class, "pool",
                     (int)storage->pool, "arena", (int)storage->arena);
}

/* What there is to say of one object, but for its referrers.  GIL: held. */
static json_t *inspect_document(struct call *call, heap_ref obj, uint64_t id)
{
    struct heap *heap = call->heap;
    struct heap_storage storage;
    char address[24];
    bool is_admin = call->role == RPC_ROLE_ADMIN; /* where things lie helps those who look for a way in */
    json_t *j_names = json_array(), *j_sessions = json_array();
    heap_storage(&storage, heap, obj);
    snprintf(address, sizeof address, "0x%llx", (unsigned long long)storage.address);
    heap_names_of(heap, obj, add_name, j_names);
    heap_holders_of(heap, obj, add_holder, j_sessions);
    return json_pack(
        "{s:I, s:s, s:I, s:b, s:b, s:I, s:s?, s:b, s:o, s:o, s:I, s:o, s:o, s:o, s:I}", "object", (json_int_t)id, "type",
        heap_type_name(heap, obj), "refcount", (json_int_t)heap_refcount(heap, obj), "immortal",
        heap_is_immortal(heap, obj), "interned", heap_is_interned(heap, obj), "size",
        (json_int_t)heap_sizeof(heap, obj), "address", is_admin ? address : NULL, "tracked", heap_gc_is_tracked(heap, obj), "generation",
        generation_document(heap, obj), "finalizer", finalizer_document(heap, obj), "weakrefs",
        (json_int_t)heap_weakref_count(heap, obj), "storage", storage_document(&storage), "names", j_names, "sessions",
        j_sessions, "referents", (json_int_t)heap_referent_count(heap, obj));
}

/* Ids of up to INSPECT_REFERRERS_MAX containers that refer to the object.  GIL: held; others run meanwhile. */
static bool add_referrers(struct call *call, json_t *j_document, heap_ref obj)
{
    heap_ref *refs = NULL;
    uint32_t n;
    bool more;
    enum heap_error error = heap_referrers(&refs, &n, &more, call->heap, obj, INSPECT_REFERRERS_MAX, call->cancel);
    json_t *j_referrers = json_array();
    for (uint32_t i = 0; error == HEAP_OK && i < n; i++) {
        uint64_t id;
        error = heap_id(&id, call->heap, refs[i]);
        if (error == HEAP_OK) {
            json_array_append_new(j_referrers, json_integer((json_int_t)id));
        }
    }
    free(refs);
    if (error == HEAP_OK) {
        json_object_set_new(j_document, "referrers", j_referrers);
        return true;
    }
    json_decref(j_referrers);
    return call_fail(call, error);
}

/* GIL: held. */
static json_t *inspect(struct call *call, bool referrers)
{
    heap_ref obj;
    uint64_t id;
    if (!call_target(call, 0, &obj)) {
        return NULL;
    }
    enum heap_error error = heap_id(&id, call->heap, obj);
    if (error != HEAP_OK) {
        call_fail(call, error);
        return NULL;
    }
    json_t *j_document = inspect_document(call, obj, id);
    if (j_document == NULL) {
        call_fail(call, HEAP_MEMORY);
    } else if (referrers && !add_referrers(call, j_document, obj)) {
        json_decref(j_document);
        j_document = NULL;
    }
    return j_document;
}

bool method_heap_inspect_asks(const method_arg *args)
{
    return arg_bool(&args[1], false);
}

bool method_heap_inspect(struct call *call)
{
    bool is_question = call->cancel != NULL;
    if (is_question && !heap_enter_still(call->heap, call->cancel)) {
        return call_fail(call, HEAP_CANCELLED);
    }
    json_t *j_document = inspect(call, is_question);
    if (is_question) {
        heap_leave(call->heap);
    }
    return j_document != NULL && call_document_steal(call, j_document);
}
