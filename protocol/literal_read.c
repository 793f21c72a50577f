/* literal_read.c -- builds the object of a validated and checked literal.
 *
 * A value without `$` words is literal_plain.c's affair; this is for the others.  One pass over the text.  Finished objects wait on a stack of references until the container they belong
 * to ends in the text; then it is made with exactly the room it needs and takes them over:
 *
 *     [ "a", {"k": 1 }, 2 ]          refs:  "a" | "k" 1          levels:  list at 0, object at 1
 *                     ^
 *
 * So at every moment all that was made hangs from the stack (or from what literal_label.c keeps), and
 * an error drops it from there.  The state is one struct build: between two steps of literal_read()'s loop
 * nothing is on the C stack.
 *
 * Start at literal_read(), then build_value() and step().
 */
#include "literal_build.h"

#include <math.h>
#include <stdlib.h>

#include "base64.h"
#include "number.h"

/* ---- the stack ---- */

static bool fail_heap(struct build *build, enum heap_error error)
{
    return literal_fail_heap(build->error, error);
}

bool build_push(struct build *build, heap_ref obj)
{
    if (!LITERAL_GROW(build->refs, build->first_refs, build->ref_room, build->ref_count)) {
        heap_decref(build->heap, obj);
        return literal_fail_memory(build->error);
    }
    build->refs[build->ref_count++] = obj;
    return true;
}

/* The result of a function that makes an object. */
static bool push_made(struct build *build, enum heap_error error, heap_ref obj)
{
    return error == HEAP_OK ? build_push(build, obj) : fail_heap(build, error);
}

/* Another reference to an object that is there. */
static bool push_existing(struct build *build, heap_ref obj)
{
    return push_made(build, heap_incref(build->heap, obj), obj);
}

bool build_push_level(struct build *build, struct build_level level)
{
    if (!LITERAL_GROW(build->levels, build->first_levels, build->level_room, build->depth)) {
        return literal_fail_memory(build->error);
    }
    level.base = build->ref_count;
    level.hole_base = build->hole_count;
    level.name_base = build->name_count;
    build->levels[build->depth++] = level;
    return true;
}

/* ---- texts ---- */

bool build_text(struct heap_text *text, struct build *build, const struct json_string *string)
{
    if (!string->has_escapes) {
        *text = (struct heap_text){string->text, string->len};
        return true;
    }
    if (string->len > build->scratch_room) {
        char *scratch = realloc(build->scratch, string->len);
        if (!scratch) {
            return literal_fail_memory(build->error);
        }
        build->scratch = scratch;
        build->scratch_room = string->len;
    }
    *text = (struct heap_text){build->scratch, json_unescape(build->scratch, string)};
    return true;
}

static bool push_str(struct build *build, const struct json_value *value)
{
    struct json_string string = json_string_of(value);
    struct heap_text text;
    heap_ref obj = 0;
    if (!build_text(&text, build, &string)) {
        return false;
    }
    enum heap_error error = heap_str_create(&obj, build->heap, text.text, text.len);
    return push_made(build, error, obj);
}

/* The key of a plain JSON object. */
static bool push_key(struct build *build, const struct json_string *name)
{
    struct heap_text text;
    heap_ref obj = 0;
    if (!build_text(&text, build, name)) {
        return false;
    }
    enum heap_error error = heap_str_intern(&obj, build->heap, text.text, text.len);
    return push_made(build, error, obj);
}

/* ---- atoms ---- */

static bool push_float(struct build *build, double value)
{
    heap_ref obj = 0;
    enum heap_error error = heap_float_create(&obj, build->heap, value);
    return push_made(build, error, obj);
}

static bool push_scalar(struct build *build, const struct json_value *value)
{
    heap_ref obj = 0;
    double real;
    enum heap_error error;
    switch (value->kind) {
    case JSON_KIND_NULL:
        return build_push(build, heap_none(build->heap));
    case JSON_KIND_FALSE:
    case JSON_KIND_TRUE:
        return build_push(build, heap_bool(build->heap, value->kind == JSON_KIND_TRUE));
    case JSON_KIND_INT:
        if (value->overflow) {
            return literal_fail_int(build->error);
        }
        error = heap_int_create(&obj, build->heap, value->integer);
        return push_made(build, error, obj);
    case JSON_KIND_FLOAT:
        if (!number_read_double(&real, value->text, value->len)) {
            return literal_fail_float(build->error);
        }
        return push_float(build, real);
    case JSON_KIND_STRING:
        return push_str(build, value);
    case JSON_KIND_ARRAY:
    case JSON_KIND_OBJECT:
        break;
    }
    return literal_fail(build->error, LITERAL_INVALID_PARAMS, "a value is expected");
}

static bool push_bytes(struct build *build, const struct json_string *string)
{
    struct heap_text text;
    heap_ref obj = 0;
    if (!build_text(&text, build, string)) {
        return false;
    }
    char *data = malloc(text.len / 4 * 3 + 1);
    if (!data) {
        return literal_fail_memory(build->error);
    }
    size_t n;
    bool good = base64_decode(data, &n, text.text, text.len);
    if (good) {
        enum heap_error error = heap_bytes_create(&obj, build->heap, data, n);
        good = push_made(build, error, obj);
    } else {
        literal_fail(build->error, LITERAL_VALUE,
                     "$bytes takes base64 of the standard alphabet (A-Z a-z 0-9 + /) with = padding");
    }
    free(data);
    return good;
}

static bool push_big_int(struct build *build, const struct json_string *string)
{
    struct heap_text text;
    heap_ref obj = 0;
    if (!build_text(&text, build, string)) {
        return false;
    }
    enum heap_error error = heap_int_parse(&obj, build->heap, text.text, text.len);
    return push_made(build, error, obj);
}

static bool push_special_float(struct build *build, const struct json_string *string)
{
    if (json_string_is(string, "nan")) {
        return push_float(build, NAN);
    }
    if (json_string_is(string, "inf")) {
        return push_float(build, INFINITY);
    }
    if (json_string_is(string, "-inf")) {
        return push_float(build, -INFINITY);
    }
    return literal_fail(build->error, LITERAL_VALUE, "$float takes \"nan\", \"inf\" or \"-inf\"");
}

/* ---- targets ---- */

static bool unbound(struct literal_error *error, const struct json_value *value)
{
    literal_fail_heap(error, HEAP_NAME);
    error->name = value->text;
    error->name_len = value->len;
    return false;
}

/* A name of HEAP_NAME_BYTES_MAX has at most six times as many bytes when it is escaped. */
#define NAME_TEXT_MAX ((size_t)HEAP_NAME_BYTES_MAX * 6)

static bool named(heap_ref *obj, struct heap *heap, const struct json_value *value,
                  struct literal_error *error)
{
    char buf[NAME_TEXT_MAX];
    struct json_string name = json_string_of(value);
    if (name.len > NAME_TEXT_MAX) {
        return unbound(error, value);
    }
    size_t len = name.has_escapes ? json_unescape(buf, &name) : name.len;
    heap_ref found = heap_name_find(heap, name.has_escapes ? buf : name.text, len);
    if (found == 0) {
        return unbound(error, value);
    }
    *obj = found;
    return true;
}

bool literal_target(heap_ref *obj, struct heap *heap, const struct json_value *value,
                    struct literal_error *error)
{
    if (value->kind == JSON_KIND_STRING) {
        return named(obj, heap, value, error);
    }
    if (value->kind != JSON_KIND_INT || value->overflow || value->integer < 1 ||
        value->integer > LITERAL_ID_MAX) {
        return literal_fail(error, LITERAL_INVALID_PARAMS, "an object is given by its id or its name");
    }
    heap_ref found = heap_find(heap, (uint64_t)value->integer);
    if (found == 0) {
        literal_fail_heap(error, HEAP_NOT_FOUND);
        error->id = (uint64_t)value->integer;
        return false;
    }
    *obj = found;
    return true;
}

/* HEAP_TYPE, with the id of the object that is of the wrong type, and what to do. */
static bool wrong_type(struct build *build, heap_ref obj, const char *message)
{
    uint64_t id = 0;
    if (heap_id(&id, build->heap, obj) != HEAP_OK) {
        id = 0;
    }
    literal_fail_heap(build->error, HEAP_TYPE);
    build->error->message = message;
    build->error->id = id;
    return false;
}

/* The form's object ends here. */
static bool end_form(struct build *build)
{
    struct json_string name;
    return !json_next_member(&build->cursor, &name) ||
           literal_fail(build->error, LITERAL_INVALID_PARAMS, "this form has no such member");
}

/* The label that a {"$label": ..} under the cursor means. */
static uint32_t read_label(struct build *build)
{
    struct json_string name;
    struct json_value value;
    json_enter(&build->cursor);
    json_next_member(&build->cursor, &name);
    json_scan_value(&build->cursor, &value);
    json_next_member(&build->cursor, &name);
    return build_use(build);
}

/* ---- forms ---- */

static bool push_ref(struct build *build)
{
    struct json_value value;
    heap_ref obj;
    json_scan_value(&build->cursor, &value);
    return literal_target(&obj, build->heap, &value, build->error) && push_existing(build, obj) &&
           end_form(build);
}

static bool push_weakref(struct build *build)
{
    heap_ref weakref = 0, target = 0;
    enum heap_error error;
    if (json_peek(&build->cursor) == '{') {
        return build_weakref_to_label(&weakref, build, read_label(build)) && build_push(build, weakref) &&
               end_form(build);
    }
    struct json_value value;
    json_scan_value(&build->cursor, &value);
    if (value.kind == JSON_KIND_NULL) {
        error = heap_weakref_create(&weakref, build->heap);
    } else {
        if (!literal_target(&target, build->heap, &value, build->error)) {
            return false;
        }
        error = heap_weakref_shared(&weakref, build->heap, target);
        if (error == HEAP_TYPE) {
            return wrong_type(build, target, "an immortal object cannot have a weakref; refer to it plainly");
        }
    }
    return push_made(build, error, weakref) && end_form(build);
}

/* The items of an array of strings that was checked; the cursor is behind it then.  *texts and the block
 * they point into are one piece of malloc; NULL: no memory. */
static struct heap_text *read_slots(struct build *build, uint32_t *count)
{
    struct json_value array, value;
    struct json_cursor cursor = build->cursor;
    json_scan_value(&build->cursor, &array);
    size_t n = 0;
    json_enter(&cursor);
    while (json_next_item(&cursor)) {
        json_scan_value(&cursor, &value);
        n++;
    }
    struct heap_text *texts = malloc(n * sizeof *texts + array.len);
    if (!texts) {
        return NULL;
    }
    char *at = (char *)(texts + n);
    json_cursor_within(&cursor, &array);
    json_enter(&cursor);
    for (size_t i = 0; json_next_item(&cursor); i++) {
        json_scan_value(&cursor, &value);
        struct json_string string = json_string_of(&value);
        texts[i] = (struct heap_text){at, json_unescape(at, &string)};
        at += texts[i].len;
    }
    *count = n > UINT32_MAX ? UINT32_MAX : (uint32_t)n;
    return texts;
}

static bool push_class(struct build *build)
{
    struct json_value value;
    struct json_string name, member;
    struct heap_text *slots = NULL, text;
    uint32_t count = 0;
    heap_ref class = 0;
    json_scan_value(&build->cursor, &value);
    name = json_string_of(&value);
    if (json_next_member(&build->cursor, &member)) {
        slots = read_slots(build, &count);
        if (!slots) {
            return literal_fail_memory(build->error);
        }
        end_form(build);
    }
    bool good = build_text(&text, build, &name);
    if (good) {
        enum heap_error error = heap_class_create(&class, build->heap, text, slots, count);
        good = push_made(build, error, class);
    }
    free(slots);
    return good;
}

/* The class under the cursor.  Returns: borrowed, 0 after an error. */
static heap_ref read_class(struct build *build)
{
    heap_ref class = 0;
    if (json_peek(&build->cursor) == '{') {
        class = build->labels[read_label(build)].obj;
        if (class == 0) {
            fail_heap(build, HEAP_INCOMPLETE);
            return 0;
        }
    } else {
        struct json_value value;
        json_scan_value(&build->cursor, &value);
        if (!literal_target(&class, build->heap, &value, build->error)) {
            return 0;
        }
    }
    if (heap_type(build->heap, class) != HEAP_T_CLASS) {
        wrong_type(build, class, "$instance takes a class; make one with {\"$class\": NAME}");
        return 0;
    }
    return class;
}

static bool push_instance(struct build *build)
{
    struct json_string name;
    heap_ref class = read_class(build), instance = 0;
    if (class == 0) {
        return false;
    }
    if (!json_next_member(&build->cursor, &name)) {
        enum heap_error error = heap_instance_create(&instance, build->heap, class, 0);
        return push_made(build, error, instance);
    }
    json_enter(&build->cursor);
    return build_push_level(build, (struct build_level){.kind = BUILD_INSTANCE}) &&
           push_existing(build, class);
}

/* A form that is an array of values or pairs. */
static bool begin_array(struct build *build, enum build_kind kind)
{
    json_peek(&build->cursor);
    json_enter(&build->cursor);
    return build_push_level(build, (struct build_level){.kind = kind, .is_form = true});
}

static bool begin_json(struct build *build)
{
    build->plain = true;
    return build_push_level(build, (struct build_level){.kind = BUILD_JSON}) && build_value(build);
}

static bool push_string_form(struct build *build, enum literal_form form)
{
    struct json_value value;
    json_scan_value(&build->cursor, &value);
    struct json_string string = json_string_of(&value);
    bool good = form == FORM_BYTES ? push_bytes(build, &string)
                : form == FORM_INT ? push_big_int(build, &string)
                                   : push_special_float(build, &string);
    return good && end_form(build);
}

static bool push_label(struct build *build)
{
    struct json_value value;
    json_scan_value(&build->cursor, &value);
    return end_form(build) && build_push_label(build, build_use(build));
}

/* A form, the cursor behind its word and colon. */
static bool push_form(struct build *build, enum literal_form form)
{
    switch (form) {
    case FORM_REF:
        return push_ref(build);
    case FORM_JSON:
        return begin_json(build);
    case FORM_TUPLE:
        return begin_array(build, BUILD_TUPLE);
    case FORM_SET:
        return begin_array(build, BUILD_SET);
    case FORM_FROZENSET:
        return begin_array(build, BUILD_FROZENSET);
    case FORM_DICT:
        return begin_array(build, BUILD_PAIRS);
    case FORM_BYTES:
    case FORM_INT:
    case FORM_FLOAT:
        return push_string_form(build, form);
    case FORM_CLASS:
        return push_class(build);
    case FORM_INSTANCE:
        return push_instance(build);
    case FORM_WEAKREF:
        return push_weakref(build);
    case FORM_LET:
        return build_let(build);
    case FORM_LABEL:
        return push_label(build);
    case FORM_NONE:
        break;
    }
    return literal_fail(build->error, LITERAL_INVALID_PARAMS, "no such $ form");
}

static bool begin_object(struct build *build)
{
    struct json_string name;
    json_enter(&build->cursor);
    if (!json_next_member(&build->cursor, &name)) {
        heap_ref dict = 0;
        enum heap_error error = heap_dict_create(&dict, build->heap, 0);
        return push_made(build, error, dict);
    }
    if (!build->plain && literal_is_dollar(&name)) {
        return push_form(build, literal_form_of(&name));
    }
    return build_push_level(build, (struct build_level){.kind = BUILD_OBJECT, .pending = true}) &&
           push_key(build, &name);
}

bool build_value(struct build *build)
{
    struct json_value value;
    switch (json_peek(&build->cursor)) {
    case '[':
        json_enter(&build->cursor);
        return build_push_level(build, (struct build_level){.kind = BUILD_LIST});
    case '{':
        return begin_object(build);
    default:
        json_scan_value(&build->cursor, &value);
        return push_scalar(build, &value);
    }
}

/* ---- one step in each kind of level ---- */

/* Items until one begins a level of its own, or the array ends. */
static bool step_array(struct build *build, struct build_level *level)
{
    size_t depth = build->depth;
    while (json_next_item(&build->cursor)) {
        if (!build_value(build)) {
            return false;
        }
        if (build->depth != depth) {
            return true;
        }
    }
    level = &build->levels[depth - 1];
    if (level->is_form && !end_form(build)) {
        return false;
    }
    switch (level->kind) {
    case BUILD_LIST:
        return build_finish_list(build, level);
    case BUILD_TUPLE:
        return build_finish_tuple(build, level);
    default:
        return build_finish_set(build, level);
    }
}

static bool step_object(struct build *build, struct build_level *level)
{
    size_t depth = build->depth;
    struct json_string name;
    if (level->pending) { /* the value behind the key that begin_object() has read */
        level->pending = false;
        if (!build_value(build)) {
            return false;
        }
    }
    while (build->depth == depth) {
        if (!json_next_member(&build->cursor, &name)) {
            return build_finish_dict(build, level);
        }
        if (!push_key(build, &name) || !build_value(build)) {
            return false;
        }
        level = &build->levels[depth - 1];
    }
    return true;
}

static bool step_pairs(struct build *build, struct build_level *level)
{
    if (json_next_item(&build->cursor)) {
        json_enter(&build->cursor);
        return build_push_level(build, (struct build_level){.kind = BUILD_PAIR});
    }
    return end_form(build) && build_finish_dict(build, level);
}

static bool step_pair(struct build *build)
{
    if (json_next_item(&build->cursor)) {
        return build_value(build);
    }
    build->depth--; /* key and value stay for the `$dict` */
    return true;
}

static bool step_instance(struct build *build, struct build_level *level)
{
    struct json_string name;
    if (!json_next_member(&build->cursor, &name)) {
        return end_form(build) && build_finish_instance(build, level);
    }
    if (!LITERAL_GROW(build->names, NULL, build->name_room, build->name_count)) {
        return literal_fail_memory(build->error);
    }
    build->names[build->name_count++] = name;
    return build_value(build);
}

static bool step(struct build *build)
{
    struct build_level *level = &build->levels[build->depth - 1];
    switch (level->kind) {
    case BUILD_LIST:
    case BUILD_TUPLE:
    case BUILD_SET:
    case BUILD_FROZENSET:
        return step_array(build, level);
    case BUILD_OBJECT:
        return step_object(build, level);
    case BUILD_PAIRS:
        return step_pairs(build, level);
    case BUILD_PAIR:
        return step_pair(build);
    case BUILD_JSON:
        build->plain = false;
        build->depth--;
        return end_form(build);
    case BUILD_INSTANCE:
        return step_instance(build, level);
    case BUILD_LABELS:
        return build_step_labels(build, level);
    case BUILD_IN:
        build_step_in(build, level);
        return true;
    }
    return false;
}

/* ---- the whole ---- */

static void build_init(struct build *build, struct heap *heap, const struct json_value *value,
                       struct literal_error *error)
{
    build->heap = heap;
    build->error = error;
    json_cursor_within(&build->cursor, value);
    build->root = value;
    build->plain = build->has_plan = false;
    build->refs = build->first_refs;
    build->ref_room = BUILD_REFS_FIRST;
    build->levels = build->first_levels;
    build->level_room = BUILD_LEVELS_FIRST;
    build->holes = NULL;
    build->names = NULL;
    build->scratch = NULL;
    build->labels = NULL;
    build->fixups = NULL;
    build->tuples = NULL;
    build->ref_count = build->depth = build->hole_count = build->name_count = 0;
    build->hole_room = build->name_room = build->scratch_room = build->fixup_room = build->tuple_room = 0;
    build->fixup_count = build->tuple_count = 0;
}

/* Drops what is left: after success nothing of the stack. */
static void build_fini(struct build *build, bool failed)
{
    build_drop_labels(build, failed);
    for (size_t i = 0; i < build->ref_count; i++) {
        heap_decref(build->heap, build->refs[i]);
    }
    if (build->refs != build->first_refs) {
        free(build->refs);
    }
    if (build->levels != build->first_levels) {
        free(build->levels);
    }
    free(build->names);
    free(build->scratch);
}

bool literal_read(heap_ref *obj, struct heap *heap, const struct json_value *value,
                  struct literal_error *error)
{
    struct build build;
    if (!value->has_dollar) {
        return literal_read_plain(obj, heap, value, error);
    }
    build_init(&build, heap, value, error);
    bool good = build_value(&build);
    while (good && build.depth > 0) {
        good = step(&build);
    }
    good = good && build_complete_all(&build);
    if (good) {
        *obj = build.refs[--build.ref_count];
    }
    build_fini(&build, !good);
    return good;
}
