/* literal_finish.c -- makes a container when its text has ended, from the references on the stack.
 *
 * A container that was given labels without an object yet gets holes (0) in their places, and each hole a
 * fixup.  In a dict or an instance a later value under the same key may take a hole's place: then the
 * fixup is dropped.
 */
#include "literal_build.h"

#include <stdlib.h>

/* ---- the stack ---- */

/* Drops the level's references, which were consumed or are 0, from the stack and leaves the level. */
static void leave(struct build *build, const struct build_level *level)
{
    build->ref_count = level->base;
    build->hole_count = level->hole_base;
    build->name_count = level->name_base;
    build->depth--;
}

/* How many references the level has; false: more than a container can hold. */
static bool level_size(uint32_t *n, struct build *build, const struct build_level *level)
{
    size_t size = build->ref_count - level->base;
    if (size > UINT32_MAX) {
        return literal_fail_heap(build->error, HEAP_TOO_LONG);
    }
    *n = (uint32_t)size;
    return true;
}

/* Takes a reference off the stack without moving the others: its owner is now somebody else. */
static inline heap_ref take(struct build *build, size_t i)
{
    heap_ref obj = build->refs[i];
    build->refs[i] = 0;
    return obj;
}

/* ---- lists, tuples, sets ---- */

bool build_finish_list(struct build *build, const struct build_level *level)
{
    heap_ref list = 0;
    uint32_t n;
    if (!level_size(&n, build, level)) {
        return false;
    }
    enum heap_error error = heap_list_create(&list, build->heap, n);
    for (uint32_t i = 0; i < n && error == HEAP_OK; i++) {
        error = heap_list_append_steal(build->heap, list, take(build, level->base + i));
    }
    bool good = error == HEAP_OK || literal_fail_heap(build->error, error);
    good = good && build_holes_of_row(build, list, level->base, level->hole_base);
    if (!good) {
        heap_decref(build->heap, list);
        return false;
    }
    leave(build, level);
    return build_push(build, list);
}

bool build_finish_tuple(struct build *build, const struct build_level *level)
{
    heap_ref tuple = 0;
    uint32_t n;
    if (!level_size(&n, build, level)) {
        return false;
    }
    build->ref_count = level->base; /* they are consumed, whatever happens */
    enum heap_error error = heap_tuple_create_steal(&tuple, build->heap, build->refs + level->base, n);
    if (error != HEAP_OK) {
        return literal_fail_heap(build->error, error);
    }
    bool good = build_holes_of_row(build, tuple, level->base, level->hole_base);
    if (good && heap_is_incomplete(build->heap, tuple)) {
        good = LITERAL_GROW(build->tuples, NULL, build->tuple_room, build->tuple_count) ||
               literal_fail_memory(build->error);
        error = good ? heap_incref(build->heap, tuple) : HEAP_OK;
        good = good && (error == HEAP_OK || literal_fail_heap(build->error, error));
        if (good) {
            build->tuples[build->tuple_count++] = tuple;
        }
    }
    if (!good) {
        heap_decref(build->heap, tuple);
        return false;
    }
    leave(build, level);
    return build_push(build, tuple);
}

bool build_finish_set(struct build *build, const struct build_level *level)
{
    heap_ref set = 0;
    uint32_t n;
    bool added;
    if (!level_size(&n, build, level)) {
        return false;
    }
    enum heap_error error = heap_set_create(&set, build->heap, level->kind == BUILD_FROZENSET, n);
    bool good = error == HEAP_OK || literal_fail_heap(build->error, error);
    for (uint32_t i = 0; i < n && good; i++) {
        good = build_complete(build, build->refs[level->base + i]);
        if (good) {
            error = heap_set_add_steal(&added, build->heap, set, take(build, level->base + i));
            good = error == HEAP_OK || literal_fail_heap(build->error, error);
        }
    }
    if (!good) {
        heap_decref(build->heap, set);
        return false;
    }
    leave(build, level);
    return build_push(build, set);
}

/* ---- dicts ---- */

/* The fixup of the value at `position` if that is a hole, whose container and entry are known now.
 * `fixups` has for each entry the number of its fixup + 1, or 0: what stood there before is dropped. */
static bool note_entry(struct build *build, uint32_t *fixups, heap_ref container, uint32_t entry,
                       size_t position, size_t *hole)
{
    if (fixups[entry] != 0) {
        build->fixups[fixups[entry] - 1].dropped = true;
        fixups[entry] = 0;
    }
    if (*hole == build->hole_count || build->holes[*hole].position != position) {
        return true;
    }
    uint32_t fixup = build_add_fixup(build, container, entry, build->holes[*hole].label);
    (*hole)++;
    fixups[entry] = fixup + 1;
    return fixup != PLAN_NONE;
}

/* One key and value of a dict that has holes. */
static bool set_with_hole(struct build *build, heap_ref dict, size_t position, uint32_t *fixups, size_t *hole)
{
    struct heap *heap = build->heap;
    heap_ref key = take(build, position);
    enum heap_error error = heap_incref(heap, key); /* for finding its entry: setting consumes one */
    if (error != HEAP_OK) {
        heap_decref(heap, key);
        return literal_fail_heap(build->error, error);
    }
    error = heap_dict_set_steal(heap, dict, key, take(build, position + 1));
    bool good = error == HEAP_OK || literal_fail_heap(build->error, error);
    good = good && note_entry(build, fixups, dict, heap_dict_entry(heap, dict, key), position + 1, hole);
    heap_decref(heap, key);
    return good;
}

static bool fill_dict_with_holes(struct build *build, const struct build_level *level, heap_ref dict,
                                 uint32_t n)
{
    uint32_t *fixups = calloc(n / 2, sizeof *fixups);
    size_t hole = level->hole_base;
    bool good = fixups || literal_fail_memory(build->error);
    for (uint32_t i = 0; i < n && good; i += 2) {
        good = build_complete(build, build->refs[level->base + i]) &&
               set_with_hole(build, dict, level->base + i, fixups, &hole);
    }
    free(fixups);
    return good;
}

static bool fill_dict(struct build *build, const struct build_level *level, heap_ref dict, uint32_t n)
{
    if (build->hole_count > level->hole_base) {
        return fill_dict_with_holes(build, level, dict, n);
    }
    for (uint32_t i = 0; i < n; i += 2) {
        if (!build_complete(build, build->refs[level->base + i])) {
            return false;
        }
        heap_ref key = take(build, level->base + i), value = take(build, level->base + i + 1);
        enum heap_error error = heap_dict_set_steal(build->heap, dict, key, value);
        if (error != HEAP_OK) {
            return literal_fail_heap(build->error, error);
        }
    }
    return true;
}

bool build_finish_dict(struct build *build, const struct build_level *level)
{
    heap_ref dict = 0;
    uint32_t n;
    if (!level_size(&n, build, level)) {
        return false;
    }
    enum heap_error error = heap_dict_create(&dict, build->heap, n / 2);
    if (error != HEAP_OK) {
        return literal_fail_heap(build->error, error);
    }
    if (!fill_dict(build, level, dict, n)) {
        heap_decref(build->heap, dict);
        return false;
    }
    leave(build, level);
    return build_push(build, dict);
}

/* ---- instances ---- */

static bool set_attr(struct build *build, heap_ref instance, const struct json_string *name, heap_ref value)
{
    struct heap_text text;
    if (!build_text(&text, build, name)) {
        heap_decref(build->heap, value);
        return false;
    }
    enum heap_error error = heap_attr_set_steal(build->heap, instance, text.text, text.len, value);
    if (error == HEAP_OK) {
        return true;
    }
    literal_fail_heap(build->error, error);
    if (error == HEAP_ATTR) {
        build->error->attr = name->text - 1;
        build->error->attr_len = name->len + 2;
    }
    return false;
}

/* `fixups` is NULL when no attribute is a hole. */
static bool fill_instance(struct build *build, const struct build_level *level, heap_ref instance, uint32_t n,
                          uint32_t *fixups)
{
    size_t hole = level->hole_base;
    for (uint32_t i = 0; i < n; i++) {
        const struct json_string *name = &build->names[level->name_base + i];
        size_t position = level->base + 1 + i;
        struct heap_text text;
        if (!set_attr(build, instance, name, take(build, position))) {
            return false;
        }
        if (fixups) {
            if (!build_text(&text, build, name)) {
                return false;
            }
            uint32_t entry = heap_attr_entry(build->heap, instance, text.text, text.len);
            if (!note_entry(build, fixups, instance, entry, position, &hole)) {
                return false;
            }
        }
    }
    return true;
}

bool build_finish_instance(struct build *build, const struct build_level *level)
{
    heap_ref class = build->refs[level->base], instance = 0;
    uint32_t n, *fixups = NULL;
    if (!level_size(&n, build, level)) {
        return false;
    }
    n--; /* the class is one of them */
    enum heap_error error = heap_instance_create(&instance, build->heap, class, n);
    if (error != HEAP_OK) {
        return literal_fail_heap(build->error, error);
    }
    bool good = true;
    if (build->hole_count > level->hole_base) {
        fixups = calloc((size_t)n + heap_class_slot_count(build->heap, class), sizeof *fixups);
        good = fixups || literal_fail_memory(build->error);
    }
    good = good && fill_instance(build, level, instance, n, fixups);
    free(fixups);
    if (!good) {
        heap_decref(build->heap, instance);
        return false;
    }
    heap_decref(build->heap, class);
    leave(build, level);
    return build_push(build, instance);
}
