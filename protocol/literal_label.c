/* literal_label.c -- building shared and cyclic graphs: `$let`, labels, holes.
 *
 * The plan says which label each use means and where each label's value begins, so the builder jumps from
 * value to value.  A label that is used before its object is there leaves a hole in the container (an item,
 * a dict's value, an attribute), noted as a fixup of the label; the hole is filled as soon as the object is
 * there.  A weakref is made without a target and aimed then.
 *
 * A tuple with a hole, or with such a tuple in it, is incomplete until all is filled; as a key it is
 * completed early (build_complete()) if everything below it is there.
 */
#include "literal_build.h"

#include <stdlib.h>

/* ---- `$let` ---- */

/* Made when the first `$let` is met: no use of a label can come before it. */
static bool make_plan(struct build *build)
{
    build->has_plan = true;
    build->next_use = build->next_let = 0;
    if (!literal_plan_make(&build->plan, build->root, build->error)) {
        return false;
    }
    size_t count = build->plan.label_count;
    build->labels = malloc((count + 1) * sizeof *build->labels);
    if (!build->labels) {
        build->plan.label_count = 0;
        return literal_fail_memory(build->error);
    }
    for (size_t i = 0; i < count; i++) {
        build->labels[i] = (struct build_label){.fixups = PLAN_NONE};
    }
    return true;
}

/* Labels that stand for existing objects are complete from the start. */
static bool resolve_refs(struct build *build, uint32_t let)
{
    const struct literal_plan *plan = &build->plan;
    for (uint32_t i = plan->lets[let].first; i != PLAN_NONE; i = plan->labels[i].next) {
        if (!plan->labels[i].ref) {
            continue;
        }
        struct json_cursor cursor = build->cursor;
        struct json_value target;
        heap_ref obj;
        cursor.at = plan->labels[i].ref;
        json_scan_value(&cursor, &target);
        if (!literal_target(&obj, build->heap, &target, build->error)) {
            return false;
        }
        enum heap_error error = heap_incref(build->heap, obj);
        if (error != HEAP_OK) {
            return literal_fail_heap(build->error, error);
        }
        build->labels[i].obj = obj;
    }
    return true;
}

bool build_let(struct build *build)
{
    if (!build->has_plan && !make_plan(build)) {
        return false;
    }
    struct build_level level = {.kind = BUILD_LABELS, .let = build->next_let++, .label = PLAN_NONE};
    return resolve_refs(build, level.let) && build_push_level(build, level);
}

/* Goes on reading elsewhere in the text. */
static void jump(struct build *build, const char *at, uint32_t uses, uint32_t lets)
{
    build->cursor.at = at;
    build->next_use = uses;
    build->next_let = lets;
}

/* The label's object is there: whoever waited for it gets it.  Takes `obj` over. */
static bool define(struct build *build, uint32_t number, heap_ref obj)
{
    struct build_label *label = &build->labels[number];
    if (label->obj != 0) { /* resolved when the `$let` began: the same object */
        heap_decref(build->heap, obj);
        return true;
    }
    label->obj = obj;
    enum heap_error error = HEAP_OK;
    for (uint32_t i = label->fixups; i != PLAN_NONE && error == HEAP_OK; i = build->fixups[i].next) {
        struct build_fixup *fixup = &build->fixups[i];
        if (fixup->dropped) {
            continue;
        }
        error = heap_incref(build->heap, obj);
        if (error == HEAP_OK) {
            heap_fill_steal(build->heap, fixup->container, fixup->entry, obj);
            fixup->filled = true;
        }
    }
    if (error == HEAP_OK && label->weakref != 0) {
        error = heap_weakref_aim(build->heap, label->weakref, obj);
    }
    return error == HEAP_OK || literal_fail_heap(build->error, error);
}

bool build_step_labels(struct build *build, struct build_level *level)
{
    const struct plan_let *let = &build->plan.lets[level->let];
    uint32_t done = level->label;
    level->label = done == PLAN_NONE ? let->first : build->plan.labels[done].next;
    uint32_t next = level->label;
    if (next == PLAN_NONE) {
        level->kind = BUILD_IN;
    }
    if (done != PLAN_NONE && !define(build, done, build->refs[--build->ref_count])) {
        return false;
    }
    if (next == PLAN_NONE) {
        jump(build, let->in, let->in_uses, let->in_lets);
    } else {
        const struct plan_label *label = &build->plan.labels[next];
        jump(build, label->value, label->uses, label->lets);
    }
    return build_value(build);
}

void build_step_in(struct build *build, struct build_level *level)
{
    build->cursor.at = build->plan.lets[level->let].end;
    build->cursor.first = false;
    build->depth--;
}

/* ---- uses ---- */

bool build_push_label(struct build *build, uint32_t label)
{
    heap_ref obj = build->labels[label].obj;
    if (obj != 0) {
        enum heap_error error = heap_incref(build->heap, obj);
        return error == HEAP_OK ? build_push(build, obj) : literal_fail_heap(build->error, error);
    }
    if (!LITERAL_GROW(build->holes, NULL, build->hole_room, build->hole_count)) {
        return literal_fail_memory(build->error);
    }
    build->holes[build->hole_count++] = (struct build_hole){build->ref_count, label};
    return build_push(build, 0);
}

bool build_weakref_to_label(heap_ref *weakref, struct build *build, uint32_t number)
{
    struct build_label *label = &build->labels[number];
    enum heap_error error = HEAP_OK;
    if (label->obj != 0) {
        error = heap_weakref_shared(weakref, build->heap, label->obj);
        return error == HEAP_OK || literal_fail_heap(build->error, error);
    }
    if (label->weakref == 0) {
        error = heap_weakref_create(&label->weakref, build->heap);
    }
    if (error == HEAP_OK) {
        error = heap_incref(build->heap, label->weakref);
    }
    if (error != HEAP_OK) {
        return literal_fail_heap(build->error, error);
    }
    *weakref = label->weakref;
    return true;
}

/* ---- holes ---- */

uint32_t build_add_fixup(struct build *build, heap_ref container, uint32_t entry, uint32_t label)
{
    if (build->fixup_count >= PLAN_NONE ||
        !LITERAL_GROW(build->fixups, NULL, build->fixup_room, build->fixup_count)) {
        literal_fail_memory(build->error);
        return PLAN_NONE;
    }
    enum heap_error error = heap_incref(build->heap, container);
    if (error != HEAP_OK) {
        literal_fail_heap(build->error, error);
        return PLAN_NONE;
    }
    uint32_t number = (uint32_t)build->fixup_count++;
    build->fixups[number] =
        (struct build_fixup){.container = container, .entry = entry, .next = build->labels[label].fixups};
    build->labels[label].fixups = number;
    return number;
}

bool build_holes_of_row(struct build *build, heap_ref row, size_t base, size_t hole_base)
{
    for (size_t i = hole_base; i < build->hole_count; i++) {
        uint32_t entry = (uint32_t)(build->holes[i].position - base);
        if (build_add_fixup(build, row, entry, build->holes[i].label) == PLAN_NONE) {
            return false;
        }
    }
    build->hole_count = hole_base;
    return true;
}

/* ---- tuples with holes ---- */

/* Lists the incomplete tuples that a tuple consists of, itself first.  HEAP_INCOMPLETE: one has a hole. */
static enum heap_error list_incomplete(struct build *build, heap_ref tuple, heap_ref **list, size_t *count)
{
    struct heap *heap = build->heap;
    struct literal_map seen = {0};
    size_t room = 0;
    enum heap_error error = HEAP_OK;
    heap_ref next = tuple;
    /* list[0..i) and list[i]'s items below k have been looked at. */
    for (size_t i = 0, k = 0; error == HEAP_OK; k++) {
        if (next != 0 && !literal_map_find(&seen, next)) {
            if (!literal_map_put(&seen, next, 0) || !LITERAL_GROW(*list, NULL, room, *count)) {
                error = HEAP_MEMORY;
                break;
            }
            (*list)[(*count)++] = next;
        }
        while (i < *count && k == heap_seq_len(heap, (*list)[i])) {
            i++;
            k = 0;
        }
        if (i == *count) {
            break;
        }
        heap_ref item = heap_seq_item(heap, (*list)[i], (uint32_t)k);
        error = item == 0 ? HEAP_INCOMPLETE : HEAP_OK;
        next = item != 0 && heap_is_incomplete(heap, item) ? item : 0;
    }
    literal_map_fini(&seen);
    return error;
}

bool build_complete(struct build *build, heap_ref obj)
{
    if (obj == 0) {
        return literal_fail_heap(build->error, HEAP_INCOMPLETE);
    }
    if (build->tuple_count == 0 || !heap_is_incomplete(build->heap, obj)) {
        return true;
    }
    heap_ref *list = NULL;
    size_t count = 0;
    enum heap_error error = list_incomplete(build, obj, &list, &count);
    if (error == HEAP_OK) {
        error = heap_tuples_complete(build->heap, list, (uint32_t)count);
    }
    free(list);
    return error == HEAP_OK || literal_fail_heap(build->error, error);
}

bool build_complete_all(struct build *build)
{
    if (build->tuple_count == 0) {
        return true;
    }
    enum heap_error error = heap_tuples_complete(build->heap, build->tuples, (uint32_t)build->tuple_count);
    return error == HEAP_OK || literal_fail_heap(build->error, error);
}

/* ---- the end ---- */

void build_drop_labels(struct build *build, bool failed)
{
    struct heap *heap = build->heap;
    for (size_t i = 0; failed && i < build->fixup_count; i++) {
        const struct build_fixup *fixup = &build->fixups[i];
        if (fixup->filled) {
            heap_decref(heap, heap_unfill(heap, fixup->container, fixup->entry));
        }
    }
    for (size_t i = 0; i < build->fixup_count; i++) {
        heap_decref(heap, build->fixups[i].container);
    }
    for (size_t i = 0; i < build->tuple_count; i++) {
        heap_decref(heap, build->tuples[i]);
    }
    for (size_t i = 0; build->labels && i < build->plan.label_count; i++) {
        heap_decref(heap, build->labels[i].obj);
        heap_decref(heap, build->labels[i].weakref);
    }
    free(build->fixups);
    free(build->tuples);
    free(build->labels);
    free(build->holes);
    if (build->has_plan) {
        literal_plan_fini(&build->plan);
    }
}
