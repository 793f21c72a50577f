/* pygc.c -- the garbage collector as a Python program sees it, over the wire. */
#include "pygc.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define LITERAL_BYTES 4096

void pygc_begin(struct pygc *gc, struct wire *wire)
{
    gc->wire = wire;
    gc->j_events = json_array();
    assert_non_null(gc->j_events);
}

void pygc_end(struct pygc *gc)
{
    json_decref(gc->j_events);
}

/* ---- calls ---- */

/* The reply itself; events before it are put aside.  Steals `j_params` (NULL: none). */
static json_t *exchange(struct pygc *gc, const char *method, json_t *j_params)
{
    json_t *j_request = json_pack("{s:i,s:s,s:o*}", "id", 1, "method", method, "params", j_params);
    char *line = json_dumps(j_request, JSON_COMPACT);
    assert_non_null(line);
    json_decref(j_request);
    wire_send(gc->wire, line, strlen(line));
    wire_send(gc->wire, "\n", 1);
    for (;;) {
        json_error_t error;
        size_t len;
        const char *reply = wire_line(gc->wire, &len);
        json_t *j_reply = reply == NULL ? NULL : json_loadb(reply, len, JSON_ALLOW_NUL, &error);
        if (j_reply == NULL) {
            fail_msg("%s was answered with %s", line, reply == NULL ? "a closed connection" : reply);
        }
        if (json_object_get(j_reply, "id") != NULL) {
            free(line);
            return j_reply;
        }
        json_array_append(gc->j_events, json_object_get(j_reply, "params"));
        json_decref(j_reply);
    }
}

static json_t *pack(const char *format, va_list arguments)
{
    json_error_t error;
    json_t *j_params = format == NULL ? NULL : json_vpack_ex(&error, 0, format, arguments);
    if (format != NULL && j_params == NULL) {
        fail_msg("json_pack(\"%s\"): %s", format, error.text);
    }
    return j_params;
}

/* The result of a call.  Steals `j_params`. */
static json_t *call(struct pygc *gc, const char *method, json_t *j_params)
{
    json_t *j_reply = exchange(gc, method, j_params),
           *j_result = json_incref(json_object_get(j_reply, "result"));
    if (j_result == NULL) {
        char *text = json_dumps(j_reply, 0);
        fail_msg("%s was answered with %s", method, text);
    }
    json_decref(j_reply);
    return j_result;
}

json_t *pygc_call(struct pygc *gc, const char *method, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    json_t *j_params = pack(format, arguments);
    va_end(arguments);
    return call(gc, method, j_params);
}

void pygc_do(struct pygc *gc, const char *method, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    json_t *j_params = pack(format, arguments);
    va_end(arguments);
    json_decref(call(gc, method, j_params));
}

void pygc_refuse(struct pygc *gc, const char *word, const char *method, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    json_t *j_params = pack(format, arguments);
    va_end(arguments);
    json_t *j_reply = exchange(gc, method, j_params);
    const char *got = "no error";
    json_unpack(j_reply, "{s:{s:{s:s}}}", "error", "data", "error", &got);
    assert_string_equal(got, word);
    json_decref(j_reply);
}

/* Takes an integer out of a result and frees that. */
static int64_t take_int(json_t *j_result, const char *key, const char *method)
{
    const json_t *j_number = key == NULL ? j_result : json_object_get(j_result, key);
    if (!json_is_integer(j_number)) {
        fail_msg("%s has no integer %s", method, key == NULL ? "as result" : key);
    }
    int64_t number = json_integer_value(j_number);
    json_decref(j_result);
    return number;
}

int64_t pygc_int(struct pygc *gc, const char *key, const char *method, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    json_t *j_params = pack(format, arguments);
    va_end(arguments);
    return take_int(call(gc, method, j_params), key, method);
}

bool pygc_bool(struct pygc *gc, const char *method, int64_t object)
{
    json_t *j_result = pygc_call(gc, method, "[I]", (json_int_t)object);
    assert_true(json_is_boolean(j_result));
    bool is = json_is_true(j_result);
    json_decref(j_result);
    return is;
}

/* ---- objects ---- */

int64_t pygc_create(struct pygc *gc, const char *literal, ...)
{
    char text[LITERAL_BYTES];
    json_error_t error;
    va_list arguments;
    va_start(arguments, literal);
    int len = vsnprintf(text, sizeof text, literal, arguments);
    va_end(arguments);
    assert_in_range(len, 1, sizeof text - 1);
    for (char *c = text; *c != '\0'; c++) {
        *c = *c == '\'' ? '"' : *c;
    }
    json_t *j_value = json_loads(text, JSON_DECODE_ANY, &error);
    if (j_value == NULL) {
        fail_msg("%s: %s", text, error.text);
    }
    return pygc_int(gc, "object", "create", "{s:o}", "value", j_value);
}

int64_t pygc_instance(struct pygc *gc)
{
    json_t *j_reply = exchange(gc, "name.lookup", json_pack("[s]", "Node"));
    if (json_object_get(j_reply, "error") != NULL) {
        pygc_do(gc, "create", "{s:{s:s},s:s}", "value", "$class", "Node", "name", "Node");
    }
    json_decref(j_reply);
    return pygc_create(gc, "{'$instance':'Node'}");
}

int64_t pygc_drop(struct pygc *gc, int64_t object)
{
    json_t *j_result = pygc_call(gc, "unref", "[I]", (json_int_t)object);
    int64_t freed = json_integer_value(json_object_get(j_result, "freed"));
    json_decref(j_result);
    return freed;
}

bool pygc_lives(struct pygc *gc, int64_t object)
{
    json_t *j_reply = exchange(gc, "type", json_pack("[I]", (json_int_t)object));
    bool lives = json_object_get(j_reply, "result") != NULL;
    const char *word = "not_found";
    json_unpack(j_reply, "{s:{s:{s:s}}}", "error", "data", "error", &word);
    assert_string_equal(word, "not_found");
    json_decref(j_reply);
    return lives;
}

int64_t pygc_refcount(struct pygc *gc, int64_t object)
{
    return pygc_int(gc, NULL, "sys.getrefcount", "[I]", (json_int_t)object) - 1;
}

void pygc_append(struct pygc *gc, int64_t list, int64_t object)
{
    pygc_do(gc, "list.append", "[I,{s:I}]", (json_int_t)list, "$ref", (json_int_t)object);
}

void pygc_set(struct pygc *gc, int64_t instance, const char *attr, int64_t object)
{
    pygc_do(gc, "attr.set", "[I,s,{s:I}]", (json_int_t)instance, attr, "$ref", (json_int_t)object);
}

void pygc_unbind(struct pygc *gc, const char *name)
{
    pygc_do(gc, "name.unbind", "[s]", name);
}

/* ---- the collector ---- */

int64_t pygc_collect(struct pygc *gc, int generation)
{
    return pygc_int(gc, "unreachable", "collect", "[i]", generation);
}

void pygc_count(struct pygc *gc, int64_t count[3])
{
    json_t *j_result = pygc_call(gc, "gc.get_count", NULL);
    json_int_t n[3];
    assert_int_equal(json_unpack(j_result, "[I,I,I]", &n[0], &n[1], &n[2]), 0);
    for (int i = 0; i < 3; i++) {
        count[i] = n[i];
    }
    json_decref(j_result);
}

void pygc_stats(struct pygc *gc, int generation, int64_t stats[3])
{
    json_t *j_result = pygc_call(gc, "gc.get_stats", NULL);
    json_int_t n[3];
    assert_int_equal(json_array_size(j_result), 3);
    assert_int_equal(json_unpack(json_array_get(j_result, (size_t)generation), "{s:I,s:I,s:I}", "collections",
                                 &n[0], "collected", &n[1], "uncollectable", &n[2]),
                     0);
    for (int i = 0; i < 3; i++) {
        stats[i] = n[i];
    }
    json_decref(j_result);
}

/* Whether a list of ints, borrowed, has this one. */
static bool has_id(const json_t *j_list, int64_t id)
{
    size_t i;
    json_t *j_id;
    json_array_foreach(j_list, i, j_id)
    {
        if (json_integer_value(j_id) == id) {
            return true;
        }
    }
    return false;
}

int pygc_generation(struct pygc *gc, int64_t object)
{
    int found = -1;
    for (int generation = 0; generation < 3; generation++) {
        json_t *j_result =
            pygc_call(gc, "gc.get_objects", "{s:i,s:i}", "generation", generation, "limit", 100000);
        assert_true(json_is_null(json_object_get(j_result, "next")));
        if (has_id(json_object_get(j_result, "objects"), object)) {
            assert_int_equal(found, -1);
            found = generation;
        }
        json_decref(j_result);
    }
    return found;
}

void pygc_demand_ids(json_t *j_result, const char *key, ...)
{
    const json_t *j_list = json_object_get(j_result, key);
    va_list arguments;
    va_start(arguments, key);
    size_t n = 0;
    for (int64_t id; (id = va_arg(arguments, int64_t)) != -1; n++) {
        assert_int_equal(json_integer_value(json_array_get(j_list, n)), id);
    }
    va_end(arguments);
    assert_int_equal(json_array_size(j_list), n);
    json_decref(j_result);
}

/* ---- weakrefs, finalizers, events ---- */

int64_t pygc_weakref(struct pygc *gc, int64_t object)
{
    return pygc_int(gc, "object", "weakref.create", "[I]", (json_int_t)object);
}

int64_t pygc_notifying_weakref(struct pygc *gc, int64_t object)
{
    return pygc_int(gc, "object", "weakref.create", "[I,b]", (json_int_t)object, 1);
}

int64_t pygc_deref(struct pygc *gc, int64_t weakref)
{
    json_t *j_result = pygc_call(gc, "weakref.get", "[I,b]", (json_int_t)weakref, 0),
           *j_object = json_object_get(j_result, "object");
    assert_true(json_is_integer(j_object) || json_is_null(j_object));
    int64_t object = json_integer_value(j_object);
    json_decref(j_result);
    return object;
}

void pygc_finalizer(struct pygc *gc, int64_t object, bool clear, const char *resurrect_as)
{
    pygc_do(gc, "finalizer.set", "{s:I,s:b,s:s?}", "object", (json_int_t)object, "clear", clear, "resurrect_as",
            resurrect_as);
}

/* How many events have this word and, with `id` not 0, that id in the member `key`. */
static size_t count_events(const struct pygc *gc, const char *event, const char *key, int64_t id)
{
    size_t i, n = 0;
    json_t *j_event;
    json_array_foreach(gc->j_events, i, j_event)
    {
        n += strcmp(json_string_value(json_object_get(j_event, "event")), event) == 0 &&
             (id == 0 || json_integer_value(json_object_get(j_event, key)) == id);
    }
    return n;
}

size_t pygc_finalized(const struct pygc *gc, int64_t object)
{
    return count_events(gc, "finalized", "object", object);
}

size_t pygc_notified(const struct pygc *gc, int64_t weakref)
{
    return count_events(gc, "weakref", "weakref", weakref);
}

size_t pygc_events(const struct pygc *gc, const char *event, const char *key, const char *value)
{
    size_t i, n = 0;
    json_t *j_event;
    json_array_foreach(gc->j_events, i, j_event)
    {
        const char *has = json_string_value(json_object_get(j_event, key));
        n += strcmp(json_string_value(json_object_get(j_event, "event")), event) == 0 && has != NULL &&
             strcmp(has, value) == 0;
    }
    return n;
}

void pygc_forget_events(struct pygc *gc)
{
    json_array_clear(gc->j_events);
}
