/* journal_restore.c -- a snapshot becomes a heap again: journal_snapshot.c says what stands in its lines.
 *
 * A line may refer to what later lines make, and a key must be whole before it is hashed.  So the file is gone through
 * several times, each pass with the lines it is for:
 *
 *   MAKE         atoms, classes, and empty containers of every kind, each with its id
 *   INSTANCES    which need their class
 *   FILL         lists, tuples, attributes, targets of weakrefs; then it is decided which tuples are tracked
 *   FROZENSETS   as often as it takes: one that contains another comes after it
 *   TABLES       dicts and sets, whose keys are whole now
 *   REST         names, finalizers, holds, leases, gc.garbage
 *   LET_GO       what was made is kept by what refers to it, and by nothing else
 *
 * Start at rpc_snapshot_load().
 */
#include "journal_line.h"
#include "literal.h"
#include "rpc_internal.h"

#include <stdio.h>
#include <stdlib.h>

enum pass { PASS_MAKE, PASS_INSTANCES, PASS_FILL, PASS_FROZENSETS, PASS_TABLES, PASS_REST, PASS_LET_GO };

/* ---- what atoms are called ---- */

/* Open addressing; a label is never 0. */
struct label_map {
    uint32_t *labels;
    heap_ref *atoms;
    size_t room, count; /* room: a power of two */
};

static size_t label_place(const struct label_map *map, uint32_t label)
{
    size_t i = (label * 2654435769u) & (map->room - 1);
    while (map->labels[i] != 0 && map->labels[i] != label) {
        i = (i + 1) & (map->room - 1);
    }
    return i;
}

static bool label_grow(struct label_map *map)
{
    struct label_map more = {.room = map->room == 0 ? 1024 : 2 * map->room, .count = map->count};
    more.labels = calloc(more.room, sizeof(*more.labels));
    more.atoms = calloc(more.room, sizeof(*more.atoms));
    if (more.labels == NULL || more.atoms == NULL) {
        free(more.labels);
        free(more.atoms);
        return false;
    }
    for (size_t i = 0; i < map->room; i++) {
        if (map->labels[i] != 0) {
            size_t place = label_place(&more, map->labels[i]);
            more.labels[place] = map->labels[i];
            more.atoms[place] = map->atoms[i];
        }
    }
    free(map->labels);
    free(map->atoms);
    *map = more;
    return true;
}

static bool label_add(struct label_map *map, uint32_t label, heap_ref atom)
{
    if (2 * map->count >= map->room && !label_grow(map)) {
        return false;
    }
    size_t place = label_place(map, label);
    map->labels[place] = label;
    map->atoms[place] = atom;
    map->count++;
    return true;
}

static heap_ref label_find(const struct label_map *map, uint32_t label)
{
    return map->room == 0 ? 0 : map->atoms[label_place(map, label)];
}

/* ---- the state of a load ---- */

struct restore {
    struct replay *replay;
    struct rpc_service *service;
    struct heap *heap;
    enum pass pass;
    struct label_map labels;
    heap_ref *tuples; /* that have been made */
    uint32_t tuple_count, tuple_room;
    struct label_map unfilled; /* frozensets that wait: 1 */
    uint64_t waiting, filled;  /* of them, in this pass */
    struct turn *turn; /* of texts with escapes */
    struct out text;
    const char *why;
};

/* What is read of a line; a span that is not there has no text. */
struct snapshot_line {
    char kind[12];  /* the first member's name */
    uint64_t id;    /* and its value */
    uint64_t own_id, class, target, session, holds, len;
    struct json_value items, attrs, value, name, slots, names, finalizer;
    bool is_shared, is_interned, is_finalized, is_effect, is_header, is_end;
    const char *text;
    size_t text_len;
};

static bool say(struct restore *restore, const char *why)
{
    restore->why = why;
    return false;
}

static bool ok_or_say(struct restore *restore, enum heap_error error)
{
    return error == HEAP_OK || say(restore, heap_error_sentence(error));
}

/* ---- reading ---- */

static bool scan_u64(struct json_cursor *cursor, uint64_t *number)
{
    struct json_value value;
    bool ok = json_scan_value(cursor, &value) && value.kind == JSON_KIND_INT && !value.overflow && value.integer >= 0;
    *number = ok ? (uint64_t)value.integer : 0;
    return ok;
}

static bool scan_true(struct json_cursor *cursor, bool *is)
{
    struct json_value value;
    *is = json_scan_value(cursor, &value) && value.kind == JSON_KIND_TRUE;
    return *is;
}

static bool read_member(struct snapshot_line *line, struct json_cursor *cursor, const struct json_string *name)
{
    struct json_value value;
    if (json_string_is(name, "id")) {
        return scan_u64(cursor, &line->own_id);
    }
    if (json_string_is(name, "len")) {
        return scan_u64(cursor, &line->len);
    }
    if (json_string_is(name, "class")) {
        return scan_u64(cursor, &line->class);
    }
    if (json_string_is(name, "target")) {
        return scan_u64(cursor, &line->target);
    }
    if (json_string_is(name, "session")) {
        return scan_u64(cursor, &line->session);
    }
    if (json_string_is(name, "holds")) {
        return scan_u64(cursor, &line->holds);
    }
    if (json_string_is(name, "shared")) {
        return scan_true(cursor, &line->is_shared);
    }
    if (json_string_is(name, "interned")) {
        return scan_true(cursor, &line->is_interned);
    }
    if (json_string_is(name, "finalized")) {
        return scan_true(cursor, &line->is_finalized);
    }
    struct json_value *span = json_string_is(name, "items")       ? &line->items
                              : json_string_is(name, "attrs")     ? &line->attrs
                              : json_string_is(name, "value")     ? &line->value
                              : json_string_is(name, "name")      ? &line->name
                              : json_string_is(name, "slots")     ? &line->slots
                              : json_string_is(name, "names")     ? &line->names
                              : json_string_is(name, "finalizer") ? &line->finalizer
                                                                  : &value;
    if (!json_scan_value(cursor, span)) {
        return false;
    }
    if (span == &line->attrs || span == &line->finalizer) {
        return span->kind == JSON_KIND_OBJECT;
    }
    if (span == &line->items || span == &line->slots || span == &line->names) {
        return span->kind == JSON_KIND_ARRAY;
    }
    return span != &line->name || span->kind == JSON_KIND_STRING;
}

/* Goes into a span of a line.  false: it is not there, and has nothing in it. */
static bool span_enter(struct json_cursor *cursor, const struct json_value *span)
{
    if (span->text == NULL) {
        return false;
    }
    json_cursor_within(cursor, span);
    return json_enter(cursor);
}

/* text[len] is the newline. */
static bool read_line(struct snapshot_line *line, const char *text, size_t len)
{
    struct json_cursor cursor;
    struct json_string name;
    *line = (struct snapshot_line){.text = text, .text_len = len};
    json_cursor_init(&cursor, text, len, RPC_DEPTH_MAX);
    if (json_peek(&cursor) != '{' || !json_enter(&cursor) || !json_next_member(&cursor, &name) ||
        name.len >= sizeof(line->kind)) {
        return false;
    }
    memcpy(line->kind, name.text, name.len);
    line->is_effect = json_string_is(&name, "effect");
    line->is_header = json_string_is(&name, "heapd");
    line->is_end = json_string_is(&name, "end");
    if (line->is_effect || line->is_header) {
        return true;
    }
    if (!scan_u64(&cursor, &line->id)) {
        return false;
    }
    while (json_next_member(&cursor, &name)) {
        if (!read_member(line, &cursor, &name)) {
            return false;
        }
    }
    return json_finish(&cursor);
}

static bool is_kind(const struct snapshot_line *line, const char *kind)
{
    return strcmp(line->kind, kind) == 0;
}

/* What a string means; good until the turn is reset. */
static bool text_of(struct restore *restore, const struct json_value *value, struct heap_text *text)
{
    struct json_string string = json_string_of(value);
    *text = (struct heap_text){string.text, string.len};
    if (!string.has_escapes) {
        return true;
    }
    char *plain = turn_alloc(restore->turn, string.len + 1);
    if (plain == NULL) {
        return say(restore, "there is no memory");
    }
    text->len = json_unescape(plain, &string);
    text->text = plain;
    return true;
}

/* ---- items ---- */

/* The literal of an atom.  Returns: new. */
static bool read_literal(struct restore *restore, heap_ref *obj, const struct json_value *value)
{
    struct literal_error error = {0};
    if (value->text == NULL || (value->has_dollar && !literal_check(value, &error)) ||
        !literal_read(obj, restore->heap, value, &error)) {
        return say(restore, "an atom's literal is none");
    }
    if (heap_is_container(restore->heap, *obj)) {
        heap_decref(restore->heap, *obj);
        return say(restore, "an atom's literal is of a container");
    }
    return true;
}

/* A str as an interned one. */
static bool read_interned(struct restore *restore, heap_ref *obj, const struct json_value *value)
{
    struct heap_text text;
    return (value->kind == JSON_KIND_STRING || say(restore, "an interned str is none")) && text_of(restore, value, &text) &&
           ok_or_say(restore, heap_str_intern(obj, restore->heap, text.text, text.len));
}

/* `[]`, `[ID]`, `[0,LABEL]`. */
static bool read_reference(struct restore *restore, heap_ref *obj, const struct json_value *value)
{
    struct json_cursor cursor;
    uint64_t id = 0, label = 0;
    json_cursor_within(&cursor, value);
    if (!json_enter(&cursor)) {
        return say(restore, "an item is none");
    }
    bool is_empty = !json_next_item(&cursor);
    if (!is_empty && (!scan_u64(&cursor, &id) || (id == 0 && (!json_next_item(&cursor) || !scan_u64(&cursor, &label))))) {
        return say(restore, "an item is none");
    }
    *obj = is_empty ? heap_empty_tuple(restore->heap)
           : id != 0 ? heap_replay_find(restore->heap, id)
                     : label_find(&restore->labels, (uint32_t)label);
    return *obj != 0 ? ok_or_say(restore, heap_incref(restore->heap, *obj)) : say(restore, "an item has no line of its own");
}

/* The next item.  Returns: new. */
static bool read_item(struct restore *restore, heap_ref *obj, struct json_cursor *cursor, bool is_key)
{
    struct json_value value;
    if (!json_scan_value(cursor, &value)) {
        return say(restore, "an item is none");
    }
    if (value.kind == JSON_KIND_ARRAY) {
        return read_reference(restore, obj, &value);
    }
    return is_key && value.kind == JSON_KIND_STRING ? read_interned(restore, obj, &value)
                                                    : read_literal(restore, obj, &value);
}

/* ---- MAKE ---- */

static bool add_tuple(struct restore *restore, heap_ref tuple)
{
    if (restore->tuple_count == restore->tuple_room) {
        uint32_t room = restore->tuple_room == 0 ? 1024 : 2 * restore->tuple_room;
        heap_ref *tuples = realloc(restore->tuples, room * sizeof(*tuples));
        if (tuples == NULL) {
            return say(restore, "there is no memory");
        }
        restore->tuples = tuples;
        restore->tuple_room = room;
    }
    restore->tuples[restore->tuple_count++] = tuple;
    return true;
}

static bool make_tuple(struct restore *restore, const struct snapshot_line *line)
{
    bool is_possible = line->len <= line->text_len; /* an item has a byte or more */
    heap_ref *holes = is_possible ? calloc(line->len + 1, sizeof(*holes)) : NULL, tuple;
    if (holes == NULL) {
        return say(restore, "there is no memory");
    }
    enum heap_error error = heap_tuple_create_steal(&tuple, restore->heap, holes, (uint32_t)line->len);
    free(holes);
    return ok_or_say(restore, error) && add_tuple(restore, tuple);
}

#define SLOTS_MAX 65536u

static bool read_slots(struct restore *restore, const struct json_value *list, struct heap_text *slots, uint32_t *count)
{
    struct json_cursor cursor;
    struct json_value value;
    *count = 0;
    for (bool ok = span_enter(&cursor, list); ok && json_next_item(&cursor);) {
        if (*count == SLOTS_MAX || !json_scan_value(&cursor, &value) || value.kind != JSON_KIND_STRING || !text_of(restore, &value, &slots[(*count)++])) {
            return say(restore, "a class has slots that are none");
        }
    }
    return true;
}

static bool make_class(struct restore *restore, const struct snapshot_line *line)
{
    struct heap_text name, *slots = NULL;
    uint32_t count = 0;
    heap_ref class;
    if (line->name.text == NULL || !text_of(restore, &line->name, &name)) {
        return say(restore, "a class has no name");
    }
    if (line->slots.text != NULL) {
        slots = turn_alloc(restore->turn, SLOTS_MAX * sizeof(*slots));
        if (slots == NULL || !read_slots(restore, &line->slots, slots, &count)) {
            return say(restore, "there is no memory for a class");
        }
    }
    return ok_or_say(restore, heap_class_create(&class, restore->heap, name, slots, count));
}

static bool make_instance(struct restore *restore, const struct snapshot_line *line)
{
    heap_ref class = heap_replay_find(restore->heap, line->class), instance;
    bool has_class = class != 0 && heap_type(restore->heap, class) == HEAP_T_CLASS;
    return has_class ? ok_or_say(restore, heap_instance_create(&instance, restore->heap, class, 0))
                     : say(restore, "an instance has no class");
}

/* Whether the id is that of an object that is to be made, and only now. */
static bool is_new_id(struct restore *restore, uint64_t id)
{
    return (id != 0 && heap_replay_find(restore->heap, id) == 0) || say(restore, "two objects have one id");
}

/* Whether what has just been made took the id that was there for it.  What is shared has its own: the empty tuple, an
 * immortal that has a line already. */
static bool has_its_id(struct restore *restore)
{
    return heap_replay_ids_left(restore->heap) == 0 || say(restore, "one object has two ids");
}

static bool make_atom(struct restore *restore, const struct snapshot_line *line)
{
    heap_ref atom;
    uint64_t id;
    if (line->id == 0 || line->id > UINT32_MAX || label_find(&restore->labels, (uint32_t)line->id) != 0) {
        return say(restore, "two atoms have one label");
    }
    if (line->own_id != 0 && !is_new_id(restore, line->own_id)) {
        return false;
    }
    bool ok = line->is_interned ? read_interned(restore, &atom, &line->value) : read_literal(restore, &atom, &line->value);
    if (!ok || !label_add(&restore->labels, (uint32_t)line->id, atom)) {
        return ok ? say(restore, "there is no memory") : false;
    }
    heap_replay_ids(restore->heap, &line->own_id, line->own_id != 0);
    return line->own_id == 0 || (ok_or_say(restore, heap_id(&id, restore->heap, atom)) && has_its_id(restore));
}

static bool make_immortal(struct restore *restore, const struct snapshot_line *line)
{
    heap_ref obj;
    uint64_t id;
    if (!read_literal(restore, &obj, &line->value)) {
        return false;
    }
    bool is_immortal = heap_is_immortal(restore->heap, obj);
    if (!is_immortal) {
        heap_decref(restore->heap, obj);
        return say(restore, "an immortal is none");
    }
    return ok_or_say(restore, heap_id(&id, restore->heap, obj));
}

/* A container as its line has it, without what it refers to. */
static bool make_container(struct restore *restore, const struct snapshot_line *line)
{
    struct heap *heap = restore->heap;
    uint32_t room = (uint32_t)(line->len < line->text_len ? line->len : line->text_len); /* an item has a byte or more */
    heap_ref obj;
    if (is_kind(line, "list")) {
        return ok_or_say(restore, heap_list_create(&obj, heap, room));
    }
    if (is_kind(line, "dict")) {
        return ok_or_say(restore, heap_dict_create(&obj, heap, room));
    }
    if (is_kind(line, "tuple")) {
        return make_tuple(restore, line);
    }
    if (is_kind(line, "set")) {
        return ok_or_say(restore, heap_set_create(&obj, heap, false, room));
    }
    if (is_kind(line, "frozenset")) {
        return ok_or_say(restore, heap_set_create(&obj, heap, true, room)) &&
               (line->len == 0 || label_add(&restore->unfilled, obj, 1) || say(restore, "there is no memory"));
    }
    if (is_kind(line, "class")) {
        return make_class(restore, line);
    }
    if (is_kind(line, "instance")) {
        return make_instance(restore, line);
    }
    return is_kind(line, "weakref") && ok_or_say(restore, heap_weakref_create(&obj, heap));
}

/* An object with the id of its line. */
static bool make(struct restore *restore, const struct snapshot_line *line)
{
    if (!is_new_id(restore, line->id)) {
        return false;
    }
    heap_replay_ids(restore->heap, &line->id, 1);
    bool is_made = is_kind(line, "immortal") ? make_immortal(restore, line) : make_container(restore, line);
    return is_made && has_its_id(restore);
}

static bool pass_make(struct restore *restore, const struct snapshot_line *line)
{
    if (is_kind(line, "atom")) {
        return make_atom(restore, line);
    }
    return is_kind(line, "held") || is_kind(line, "instance") || make(restore, line);
}

/* ---- the other passes ---- */

static bool pass_instances(struct restore *restore, const struct snapshot_line *line)
{
    return !is_kind(line, "instance") || make(restore, line);
}

static bool fill_attrs(struct restore *restore, const struct snapshot_line *line, heap_ref instance)
{
    struct json_cursor cursor;
    struct json_string name;
    heap_ref value;
    for (bool ok = span_enter(&cursor, &line->attrs); ok && json_next_member(&cursor, &name);) {
        if (!read_item(restore, &value, &cursor, false) ||
            !ok_or_say(restore, heap_attr_set_steal(restore->heap, instance, name.text, name.len, value))) {
            return false;
        }
    }
    return true;
}

static bool fill_items(struct restore *restore, const struct snapshot_line *line, heap_ref seq, bool is_tuple)
{
    struct json_cursor cursor;
    heap_ref item;
    uint32_t i = 0;
    for (bool ok = span_enter(&cursor, &line->items); ok && json_next_item(&cursor); i++) {
        if (!read_item(restore, &item, &cursor, false)) {
            return false;
        }
        if (is_tuple && i >= line->len) {
            heap_decref(restore->heap, item);
            return say(restore, "a tuple has more items than it says");
        }
        if (is_tuple) {
            heap_fill_steal(restore->heap, seq, i, item);
        } else if (!ok_or_say(restore, heap_list_append_steal(restore->heap, seq, item))) {
            return false;
        }
    }
    return !is_tuple || i == line->len || say(restore, "a tuple has fewer items than it says");
}

static bool aim(struct restore *restore, const struct snapshot_line *line, heap_ref weakref)
{
    heap_ref target = line->target != 0 ? heap_replay_find(restore->heap, line->target) : 0;
    if (line->target == 0) {
        return true;
    }
    return target != 0 ? ok_or_say(restore, heap_replay_aim(restore->heap, weakref, target, line->is_shared))
                       : say(restore, "a weakref has no target");
}

static bool pass_fill(struct restore *restore, const struct snapshot_line *line)
{
    heap_ref obj = heap_replay_find(restore->heap, line->id);
    if (is_kind(line, "list") || is_kind(line, "tuple")) {
        return fill_items(restore, line, obj, is_kind(line, "tuple"));
    }
    if (is_kind(line, "instance")) {
        return fill_attrs(restore, line, obj);
    }
    return !is_kind(line, "weakref") || aim(restore, line, obj);
}

static bool fill_set(struct restore *restore, const struct snapshot_line *line, heap_ref set)
{
    struct json_cursor cursor;
    heap_ref member;
    bool added;
    for (bool ok = span_enter(&cursor, &line->items); ok && json_next_item(&cursor);) {
        if (!read_item(restore, &member, &cursor, false) ||
            !ok_or_say(restore, heap_set_add_steal(&added, restore->heap, set, member))) {
            return false;
        }
    }
    return true;
}

static bool fill_dict(struct restore *restore, const struct snapshot_line *line, heap_ref dict)
{
    struct json_cursor cursor;
    heap_ref key, value;
    for (bool ok = span_enter(&cursor, &line->items); ok && json_next_item(&cursor);) {
        if (!read_item(restore, &key, &cursor, true)) {
            return false;
        }
        if (!json_next_item(&cursor) || !read_item(restore, &value, &cursor, false)) {
            heap_decref(restore->heap, key);
            return say(restore, "a key has no value");
        }
        if (!ok_or_say(restore, heap_dict_set_steal(restore->heap, dict, key, value))) {
            return false;
        }
    }
    return true;
}

/* ---- FROZENSETS ---- */

/* Whether everything that decides the hash of a member is there: below it, through tuples, is no frozenset that waits.
 * The stack lies in restore->text. */
static bool is_whole(struct restore *restore, heap_ref member)
{
    struct out *stack = &restore->text;
    struct heap *heap = restore->heap;
    out_truncate(stack, 0);
    out_bytes(stack, (const char *)&member, sizeof(member));
    while (stack->len > 0 && !stack->failed) {
        heap_ref obj, below;
        uint64_t position = 0;
        memcpy(&obj, stack->data + stack->len - sizeof(obj), sizeof(obj));
        out_truncate(stack, stack->len - sizeof(obj));
        if (heap_type(heap, obj) == HEAP_T_FROZENSET && label_find(&restore->unfilled, obj) != 0) {
            return false;
        }
        while (heap_type(heap, obj) == HEAP_T_TUPLE && heap_referent_next(heap, obj, &position, &below)) {
            if (heap_is_container(heap, below)) {
                out_bytes(stack, (const char *)&below, sizeof(below));
            }
        }
    }
    return !stack->failed;
}

/* Whether all members are. */
static bool members_are_whole(struct restore *restore, const struct snapshot_line *line, bool *are_whole)
{
    struct json_cursor cursor;
    heap_ref member;
    *are_whole = true;
    for (bool ok = span_enter(&cursor, &line->items); ok && json_next_item(&cursor);) {
        if (!read_item(restore, &member, &cursor, false)) {
            return false;
        }
        *are_whole = *are_whole && is_whole(restore, member);
        heap_decref(restore->heap, member);
    }
    return true;
}

static bool pass_frozensets(struct restore *restore, const struct snapshot_line *line)
{
    bool are_whole;
    heap_ref set = is_kind(line, "frozenset") ? heap_replay_find(restore->heap, line->id) : 0;
    if (set == 0 || label_find(&restore->unfilled, set) == 0) {
        return true;
    }
    if (!members_are_whole(restore, line, &are_whole)) {
        return false;
    }
    if (!are_whole) {
        restore->waiting++;
        return true;
    }
    restore->unfilled.atoms[label_place(&restore->unfilled, set)] = 0;
    restore->filled++;
    return fill_set(restore, line, set);
}

/* ---- TABLES, REST, LET_GO ---- */

static bool pass_tables(struct restore *restore, const struct snapshot_line *line)
{
    heap_ref obj = heap_replay_find(restore->heap, line->id);
    if (is_kind(line, "dict")) {
        return fill_dict(restore, line, obj);
    }
    return !is_kind(line, "set") || fill_set(restore, line, obj);
}

static bool bind_names(struct restore *restore, const struct snapshot_line *line, heap_ref obj)
{
    struct json_cursor cursor;
    struct json_value value;
    struct heap_text name;
    for (bool ok = span_enter(&cursor, &line->names); ok && json_next_item(&cursor);) {
        if (!json_scan_value(&cursor, &value) || value.kind != JSON_KIND_STRING || !text_of(restore, &value, &name) ||
            !ok_or_say(restore, heap_name_bind(restore->heap, name.text, name.len, obj))) {
            return false;
        }
    }
    return true;
}

static bool set_finalizer(struct restore *restore, const struct snapshot_line *line, heap_ref obj)
{
    struct json_cursor cursor;
    struct json_string name;
    struct json_value value;
    struct heap_finalizer finalizer = {.clear = false};
    for (bool ok = span_enter(&cursor, &line->finalizer); ok && json_next_member(&cursor, &name);) {
        ok = json_scan_value(&cursor, &value);
        if (json_string_is(&name, "session") && value.kind == JSON_KIND_INT) {
            finalizer.session = (uint64_t)value.integer;
        } else if (json_string_is(&name, "clear")) {
            finalizer.clear = true;
        } else if (value.kind != JSON_KIND_STRING) {
            return say(restore, "a finalizer is none");
        } else if (!text_of(restore, &value, json_string_is(&name, "token") ? &finalizer.token : &finalizer.resurrect_as)) {
            return false;
        }
    }
    struct heap_session *session = finalizer.session == 0 ? NULL : replay_session(restore->replay, finalizer.session);
    return ok_or_say(restore, heap_finalizer_set(restore->heap, session, obj, &finalizer));
}

static bool add_holds(struct restore *restore, const struct snapshot_line *line, heap_ref obj)
{
    struct heap_session *session = replay_session(restore->replay, line->session);
    if (session == NULL) {
        return say(restore, "there is no memory");
    }
    for (uint64_t i = 0; i < line->holds; i++) {
        if (!ok_or_say(restore, heap_hold(restore->heap, session, obj))) {
            return false;
        }
    }
    return true;
}

static bool pass_rest(struct restore *restore, const struct snapshot_line *line)
{
    if (line->is_effect) {
        return replay_line(restore->replay, line->text, line->text_len, &restore->why);
    }
    heap_ref obj = is_kind(line, "atom") ? label_find(&restore->labels, (uint32_t)line->id)
                                         : heap_replay_find(restore->heap, line->id);
    if (obj == 0) {
        return say(restore, "it is of an object that has no line of its own");
    }
    if (is_kind(line, "held")) {
        return add_holds(restore, line, obj);
    }
    if ((line->names.text != NULL && !bind_names(restore, line, obj)) ||
        (line->finalizer.text != NULL && !set_finalizer(restore, line, obj))) {
        return false;
    }
    if (line->is_finalized) {
        heap_replay_finalized(restore->heap, obj);
    }
    return true;
}

static bool pass_let_go(struct restore *restore, const struct snapshot_line *line)
{
    if (!is_kind(line, "immortal") && !is_kind(line, "held")) {
        heap_decref(restore->heap, is_kind(line, "atom") ? label_find(&restore->labels, (uint32_t)line->id)
                                                         : heap_replay_find(restore->heap, line->id));
    }
    return true;
}

/* ---- passes over the file ---- */

static bool take_line(struct restore *restore, const struct snapshot_line *line, const struct rpc_load_file *file)
{
    bool is_first = file->good == 0;
    if (line->is_header || is_first) {
        return restore->pass != PASS_MAKE || replay_line(restore->replay, line->text, line->text_len, &restore->why);
    }
    if (line->is_effect && restore->pass != PASS_REST) {
        return true;
    }
    switch (restore->pass) {
    case PASS_MAKE:
        return pass_make(restore, line);
    case PASS_INSTANCES:
        return pass_instances(restore, line);
    case PASS_FILL:
        return pass_fill(restore, line);
    case PASS_FROZENSETS:
        return pass_frozensets(restore, line);
    case PASS_TABLES:
        return pass_tables(restore, line);
    case PASS_REST:
        return pass_rest(restore, line);
    case PASS_LET_GO:
        return pass_let_go(restore, line);
    }
    return false;
}

#define LINES_PER_LOOK 4096u

static bool is_wanted(struct rpc_load_file *file)
{
    if (file->lines % LINES_PER_LOOK == 0 && file->progress != NULL) {
        file->progress(file->arg, file->good, file->lines);
    }
    return file->cancel == NULL || !atomic_load_explicit(file->cancel, memory_order_relaxed);
}

/* All lines once.  The first pass looks at their checksums.  The last one says how many bytes are in front of it. */
static enum rpc_load go_through(struct restore *restore, struct rpc_load_file *file)
{
    const char *p = file->bytes, *end = p + file->len, *newline;
    struct snapshot_line line = {.is_end = false};
    for (; p < end && !line.is_end; p = newline + 1) {
        file->good = (size_t)(p - file->bytes);
        newline = memchr(p, '\n', (size_t)(end - p));
        if (newline == NULL || (restore->pass == PASS_MAKE && !line_is_sound(p, (size_t)(newline - p)))) {
            return RPC_LOAD_DAMAGED;
        }
        file->lines += restore->pass == PASS_MAKE;
        if (!is_wanted(file)) {
            restore->why = "it was given up";
            return RPC_LOAD_FAILED;
        }
        restore->why = "it is no line that this version knows";
        p += JOURNAL_CRC_BYTES;
        if (!read_line(&line, p, (size_t)(newline - p)) || (!line.is_end && !take_line(restore, &line, file))) {
            return RPC_LOAD_FAILED;
        }
        if (restore->turn->blocks->used > 0) {
            turn_reset(restore->turn);
        }
    }
    if (line.is_end && line.id != file->good) {
        restore->why = "lines in front of it are missing, or are too many";
        return RPC_LOAD_FAILED;
    }
    return line.is_end && p == end ? RPC_LOADED : RPC_LOAD_DAMAGED;
}

/* What a pass leaves to be done when it has seen all lines.  *again: it is to see them once more. */
static bool end_pass(struct restore *restore, bool *again)
{
    *again = false;
    if (restore->pass == PASS_FILL) {
        return ok_or_say(restore, heap_tuples_complete(restore->heap, restore->tuples, restore->tuple_count));
    }
    if (restore->pass == PASS_FROZENSETS) {
        *again = restore->waiting > 0;
        bool has_progress = restore->waiting == 0 || restore->filled > 0;
        restore->waiting = restore->filled = 0;
        return has_progress || say(restore, "its frozensets contain one another");
    }
    heap_settle(restore->heap);
    return true;
}

static enum rpc_load restore_all(struct restore *restore, struct rpc_load_file *file)
{
    enum rpc_load result = RPC_LOADED;
    for (restore->pass = PASS_MAKE; result == RPC_LOADED && restore->pass <= PASS_LET_GO; restore->pass++) {
        bool again = true;
        while (result == RPC_LOADED && again) {
            result = go_through(restore, file);
            if (result == RPC_LOADED && !end_pass(restore, &again)) {
                result = RPC_LOAD_FAILED;
            }
        }
    }
    return result;
}

enum rpc_load rpc_snapshot_load(struct rpc_service *service, struct rpc_load_file *file)
{
    struct restore restore = {.replay = service->journal.replay, .service = service, .heap = service->heap};
    restore.turn = turn_create();
    file->good = 0;
    file->lines = 0;
    if (restore.turn == NULL) {
        snprintf(file->why, sizeof(file->why), "there is no memory");
        return RPC_LOAD_FAILED;
    }
    out_init(&restore.text, 0);
    replay_begin_snapshot(restore.replay, file);
    heap_enter(service->heap);
    enum rpc_load result = restore_all(&restore, file);
    heap_leave(service->heap);
    if (result == RPC_LOAD_FAILED) {
        snprintf(file->why, sizeof(file->why), "the line at byte %zu is not to be understood: %s", file->good, restore.why);
    }
    turn_destroy(restore.turn);
    out_fini(&restore.text);
    free(restore.labels.labels);
    free(restore.labels.atoms);
    free(restore.unfilled.labels);
    free(restore.unfilled.atoms);
    free(restore.tuples);
    return result;
}
