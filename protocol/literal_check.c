/* literal_check.c -- the shape of literals, and what their labels mean.
 *
 * One walk over the text, with an explicit stack, compares each `$` object with the table of forms and
 * notes each `$let`, label and use of a label in the order of the text (the plan).  Labels are visible in
 * all values of their `$let`, so what a use means is decided afterwards: names become numbers by sorting,
 * and the noted events are run through a second time with, for each name, the label that is in scope.
 *
 * The text was validated before, so the cursor cannot fail here.
 * Start at literal_plan_make().
 */
#include "literal_internal.h"

#include <stdlib.h>

/* ---- forms ---- */

enum literal_form literal_form_of(const struct json_string *name)
{
    static const struct {
        const char *word;
        size_t len;
        enum literal_form form;
    } forms[] = {
#define X(word, form) {word, sizeof word - 1, form},
        LITERAL_FORM_MAP(X)
#undef X
    };
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        if (json_string_equals(name, forms[i].word, forms[i].len)) {
            return forms[i].form;
        }
    }
    return FORM_NONE;
}

bool literal_grow_array(void *pointer, const void *first, size_t *room, size_t size)
{
    void *items, *grown;
    memcpy(&items, pointer, sizeof items); /* whatever type of pointer it is */
    size_t more = *room ? *room * 2 : 16;
    if (items == first && items) {
        grown = malloc(more * size);
        if (grown) {
            memcpy(grown, items, *room * size);
        }
    } else {
        grown = realloc(items, more * size);
    }
    if (!grown) {
        return false;
    }
    memcpy(pointer, &grown, sizeof grown);
    *room = more;
    return true;
}

/* ---- the walk ---- */

enum level_kind {
    LEVEL_ITEMS,  /* in an array of values */
    LEVEL_PLAIN,  /* in a plain object */
    LEVEL_PAIRS,  /* in the array of a `$dict` */
    LEVEL_PAIR,   /* in one of its pairs */
    LEVEL_ATTRS,  /* in the attributes of an instance */
    LEVEL_LABELS, /* in the labels of a `$let` */
    LEVEL_IN      /* a `$let` whose `in` was seen */
};

struct level {
    enum level_kind kind;
    bool is_form;  /* of LEVEL_ITEMS: the array belongs to a form, whose object ends with it */
    bool pending;  /* the cursor is at a value of this level that was not walked yet */
    uint32_t let;  /* of LEVEL_LABELS and LEVEL_IN */
    uint32_t tail; /* of LEVEL_LABELS and LEVEL_IN: the label whose value this `$let` is; PLAN_NONE */
    uint32_t seen; /* of LEVEL_PAIR: its values so far */
};

/* A name of a label, at its definition or its use. */
struct name {
    struct json_string text; /* without escapes after names_unescape() */
    uint32_t index;          /* of the label or the use */
    bool is_use;
};

enum event { EVENT_LET, EVENT_USE, EVENT_END };

struct walk {
    struct json_cursor cursor;
    struct literal_plan *plan;
    struct literal_error *error;
    struct level *levels;
    size_t depth, level_room;
    struct name *names; /* of all labels and uses */
    size_t name_count, name_room;
    unsigned char *events; /* enum event: beginnings and ends of `$let`s, uses, in the order of the text */
    size_t event_count, event_room;
    char *unescaped; /* the names that had escapes */
};

static bool malformed(struct walk *walk, const char *message)
{
    return literal_fail(walk->error, LITERAL_INVALID_PARAMS, message);
}

#define GROW(walk, array, room, count)                                                                       \
    (LITERAL_GROW(array, NULL, room, count) || literal_fail_memory((walk)->error))

static bool push(struct walk *walk, struct level level)
{
    if (!GROW(walk, walk->levels, walk->level_room, walk->depth)) {
        return false;
    }
    walk->levels[walk->depth++] = level;
    return true;
}

static bool add_event(struct walk *walk, enum event event)
{
    if (!GROW(walk, walk->events, walk->event_room, walk->event_count)) {
        return false;
    }
    walk->events[walk->event_count++] = (unsigned char)event;
    return true;
}

static bool add_name(struct walk *walk, const struct json_string *text, uint32_t index, bool is_use)
{
    if (!GROW(walk, walk->names, walk->name_room, walk->name_count)) {
        return false;
    }
    walk->names[walk->name_count++] = (struct name){*text, index, is_use};
    return true;
}

/* The form's object must end here. */
static bool end_form(struct walk *walk, const char *message)
{
    struct json_string name;
    return !json_next_member(&walk->cursor, &name) || malformed(walk, message);
}

static bool is_target(const struct json_value *value)
{
    return value->kind == JSON_KIND_STRING || (value->kind == JSON_KIND_INT && !value->overflow &&
                                               value->integer >= 1 && value->integer <= LITERAL_ID_MAX);
}

/* {"$label": ..}, the cursor behind the word. */
static bool walk_label(struct walk *walk, uint32_t tail)
{
    static const char message[] = "$label takes the label's name, a string, and nothing else";
    struct literal_plan *plan = walk->plan;
    struct json_value value;
    json_scan_value(&walk->cursor, &value);
    if (value.kind != JSON_KIND_STRING) {
        return malformed(walk, message);
    }
    struct json_string name = json_string_of(&value);
    uint32_t use = (uint32_t)plan->use_count;
    if (!GROW(walk, plan->uses, plan->use_room, plan->use_count) || !add_name(walk, &name, use, true) ||
        !add_event(walk, EVENT_USE)) {
        return false;
    }
    plan->uses[plan->use_count++] = PLAN_NONE;
    if (tail != PLAN_NONE) {
        plan->labels[tail].alias = use;
    }
    return end_form(walk, message);
}

/* The TARGET of `$instance` and `$weakref`, which may be a label. */
static bool walk_target(struct walk *walk, bool null_allowed, const char *message)
{
    struct json_value value;
    struct json_string name;
    if (json_peek(&walk->cursor) == '{') {
        json_enter(&walk->cursor);
        if (!json_next_member(&walk->cursor, &name) || literal_form_of(&name) != FORM_LABEL) {
            return malformed(walk, message);
        }
        return walk_label(walk, PLAN_NONE);
    }
    json_scan_value(&walk->cursor, &value);
    return is_target(&value) || (null_allowed && value.kind == JSON_KIND_NULL) || malformed(walk, message);
}

static bool walk_class(struct walk *walk)
{
    static const char message[] = "$class takes a name and, if wanted, \"slots\", a list of names";
    struct json_value value;
    struct json_string name;
    json_scan_value(&walk->cursor, &value);
    if (value.kind != JSON_KIND_STRING) {
        return malformed(walk, message);
    }
    if (!json_next_member(&walk->cursor, &name)) {
        return true;
    }
    if (!json_string_is(&name, "slots") || json_peek(&walk->cursor) != '[') {
        return malformed(walk, message);
    }
    json_enter(&walk->cursor);
    while (json_next_item(&walk->cursor)) {
        json_scan_value(&walk->cursor, &value);
        if (value.kind != JSON_KIND_STRING) {
            return malformed(walk, message);
        }
    }
    return end_form(walk, message);
}

static bool walk_instance(struct walk *walk)
{
    static const char message[] =
        "$instance takes the id, name or label of a class and, if wanted, \"attrs\", an object";
    struct json_string name;
    if (!walk_target(walk, false, message)) {
        return false;
    }
    if (!json_next_member(&walk->cursor, &name)) {
        return true;
    }
    if (!json_string_is(&name, "attrs") || json_peek(&walk->cursor) != '{') {
        return malformed(walk, message);
    }
    json_enter(&walk->cursor);
    return push(walk, (struct level){.kind = LEVEL_ATTRS});
}

static bool walk_let(struct walk *walk, uint32_t tail)
{
    struct literal_plan *plan = walk->plan;
    if (json_peek(&walk->cursor) != '{') {
        return malformed(walk, "$let takes an object of labels and then \"in\", a value");
    }
    if (!GROW(walk, plan->lets, plan->let_room, plan->let_count) || !add_event(walk, EVENT_LET)) {
        return false;
    }
    uint32_t let = (uint32_t)plan->let_count++;
    plan->lets[let] = (struct plan_let){.first = PLAN_NONE, .last = PLAN_NONE};
    json_enter(&walk->cursor);
    return push(walk, (struct level){.kind = LEVEL_LABELS, .let = let, .tail = tail});
}

/* One value of the given kind and the end of the form. */
static bool walk_simple(struct walk *walk, bool (*is_right)(const struct json_value *value),
                        const char *message)
{
    struct json_value value;
    json_scan_value(&walk->cursor, &value);
    return (is_right(&value) || malformed(walk, message)) && end_form(walk, message);
}

static bool is_string(const struct json_value *value)
{
    return value->kind == JSON_KIND_STRING;
}

static bool is_anything(const struct json_value *value)
{
    (void)value;
    return true;
}

/* The form's array, whose items are values or pairs. */
static bool walk_array(struct walk *walk, enum level_kind kind, const char *message)
{
    if (json_peek(&walk->cursor) != '[') {
        return malformed(walk, message);
    }
    json_enter(&walk->cursor);
    return push(walk, (struct level){.kind = kind, .is_form = true});
}

/* A form, the cursor behind its word and colon.  `tail`: the label whose value it is. */
static bool walk_form(struct walk *walk, enum literal_form form, uint32_t tail)
{
    switch (form) {
    case FORM_REF:
        if (tail != PLAN_NONE) {
            json_peek(&walk->cursor);
            walk->plan->labels[tail].ref = walk->cursor.at;
        }
        return walk_simple(walk, is_target, "$ref takes the id or name of an object and nothing else");
    case FORM_JSON:
        return walk_simple(walk, is_anything, "$json takes one value and nothing else");
    case FORM_TUPLE:
        return walk_array(walk, LEVEL_ITEMS, "$tuple takes a list and nothing else");
    case FORM_SET:
        return walk_array(walk, LEVEL_ITEMS, "$set takes a list and nothing else");
    case FORM_FROZENSET:
        return walk_array(walk, LEVEL_ITEMS, "$frozenset takes a list and nothing else");
    case FORM_DICT:
        return walk_array(walk, LEVEL_PAIRS, "$dict takes a list of [key, value] pairs and nothing else");
    case FORM_BYTES:
        return walk_simple(walk, is_string, "$bytes takes a string of base64 and nothing else");
    case FORM_INT:
        return walk_simple(walk, is_string, "$int takes a string of digits and nothing else");
    case FORM_FLOAT:
        return walk_simple(walk, is_string, "$float takes \"nan\", \"inf\" or \"-inf\" and nothing else");
    case FORM_CLASS:
        return walk_class(walk);
    case FORM_INSTANCE:
        return walk_instance(walk);
    case FORM_WEAKREF: {
        static const char message[] =
            "$weakref takes the id, name or label of an object, or null, and nothing else";
        return walk_target(walk, true, message) && end_form(walk, message);
    }
    case FORM_LET:
        return walk_let(walk, tail);
    case FORM_LABEL:
        return walk_label(walk, tail);
    case FORM_NONE:
        break;
    }
    return malformed(walk, "no such $ form; plain data with $ names goes into {\"$json\": ..} or "
                           "{\"$dict\": ..}");
}

/* The next value.  `tail`: the label whose value it is, or PLAN_NONE. */
static bool walk_value(struct walk *walk, uint32_t tail)
{
    struct json_value value;
    struct json_string name;
    switch (json_peek(&walk->cursor)) {
    case '[':
        json_enter(&walk->cursor);
        return push(walk, (struct level){.kind = LEVEL_ITEMS});
    case '{':
        json_enter(&walk->cursor);
        if (!json_next_member(&walk->cursor, &name)) {
            return true;
        }
        if (literal_is_dollar(&name)) {
            return walk_form(walk, literal_form_of(&name), tail);
        }
        return push(walk, (struct level){.kind = LEVEL_PLAIN, .pending = true});
    default:
        json_scan_value(&walk->cursor, &value);
        return true;
    }
}

/* ---- one step in each kind of level; the level is the top of the stack ---- */

static bool step_items(struct walk *walk, struct level *level)
{
    if (json_next_item(&walk->cursor)) {
        return walk_value(walk, PLAN_NONE);
    }
    bool is_form = level->is_form;
    walk->depth--;
    return !is_form || end_form(walk, "$tuple, $set and $frozenset take a list and nothing else");
}

static bool step_plain(struct walk *walk, struct level *level)
{
    struct json_string name;
    if (level->pending) {
        level->pending = false;
        return walk_value(walk, PLAN_NONE);
    }
    if (!json_next_member(&walk->cursor, &name)) {
        walk->depth--;
        return true;
    }
    if (literal_is_dollar(&name)) {
        return malformed(walk, "a member that starts with $ must come first and makes the object a form; "
                               "plain data with $ names goes into {\"$json\": ..} or {\"$dict\": ..}");
    }
    return walk_value(walk, PLAN_NONE);
}

static const char pairs_message[] = "$dict takes a list of [key, value] pairs and nothing else";

static bool step_pairs(struct walk *walk)
{
    if (!json_next_item(&walk->cursor)) {
        walk->depth--;
        return end_form(walk, pairs_message);
    }
    if (json_peek(&walk->cursor) != '[') {
        return malformed(walk, pairs_message);
    }
    json_enter(&walk->cursor);
    return push(walk, (struct level){.kind = LEVEL_PAIR});
}

static bool step_pair(struct walk *walk, struct level *level)
{
    bool more = json_next_item(&walk->cursor);
    if (more != (level->seen < 2)) {
        return malformed(walk, pairs_message);
    }
    level->seen++;
    if (!more) {
        walk->depth--;
        return true;
    }
    return walk_value(walk, PLAN_NONE);
}

static bool step_attrs(struct walk *walk)
{
    struct json_string name;
    if (json_next_member(&walk->cursor, &name)) {
        return walk_value(walk, PLAN_NONE);
    }
    walk->depth--;
    return end_form(walk, "$instance takes a class and \"attrs\" and nothing else");
}

/* A new label of the `$let`; the cursor is at its value. */
static bool add_label(struct walk *walk, uint32_t let, const struct json_string *name)
{
    struct literal_plan *plan = walk->plan;
    uint32_t label = (uint32_t)plan->label_count;
    if (!GROW(walk, plan->labels, plan->label_room, plan->label_count) ||
        !add_name(walk, name, label, false)) {
        return false;
    }
    plan->labels[plan->label_count++] = (struct plan_label){.value = walk->cursor.at,
                                                            .let = let,
                                                            .next = PLAN_NONE,
                                                            .uses = (uint32_t)plan->use_count,
                                                            .lets = (uint32_t)plan->let_count,
                                                            .alias = PLAN_NONE};
    struct plan_let *owner = &plan->lets[let];
    if (owner->last == PLAN_NONE) {
        owner->first = label;
    } else {
        plan->labels[owner->last].next = label;
    }
    owner->last = label;
    return true;
}

static bool step_labels(struct walk *walk, struct level *level)
{
    struct literal_plan *plan = walk->plan;
    struct json_string name;
    uint32_t let = level->let;
    if (json_next_member(&walk->cursor, &name)) {
        return add_label(walk, let, &name) && walk_value(walk, (uint32_t)plan->label_count - 1);
    }
    if (!json_next_member(&walk->cursor, &name) || !json_string_is(&name, "in")) {
        return malformed(walk, "$let takes an object of labels and then \"in\", a value");
    }
    level->kind = LEVEL_IN;
    plan->lets[let].in = walk->cursor.at;
    plan->lets[let].in_uses = (uint32_t)plan->use_count;
    plan->lets[let].in_lets = (uint32_t)plan->let_count;
    return walk_value(walk, level->tail);
}

static bool step_in(struct walk *walk, struct level *level)
{
    uint32_t let = level->let;
    walk->depth--;
    if (!end_form(walk, "$let takes an object of labels and then \"in\", a value, and nothing else")) {
        return false;
    }
    walk->plan->lets[let].end = walk->cursor.at;
    return add_event(walk, EVENT_END);
}

static bool step(struct walk *walk)
{
    struct level *level = &walk->levels[walk->depth - 1];
    switch (level->kind) {
    case LEVEL_ITEMS:
        return step_items(walk, level);
    case LEVEL_PLAIN:
        return step_plain(walk, level);
    case LEVEL_PAIRS:
        return step_pairs(walk);
    case LEVEL_PAIR:
        return step_pair(walk, level);
    case LEVEL_ATTRS:
        return step_attrs(walk);
    case LEVEL_LABELS:
        return step_labels(walk, level);
    case LEVEL_IN:
        return step_in(walk, level);
    }
    return false;
}

/* ---- what the uses mean ---- */

/* Replaces the names that have escapes by what they mean. */
static bool names_unescape(struct walk *walk)
{
    size_t room = 0;
    for (size_t i = 0; i < walk->name_count; i++) {
        room += walk->names[i].text.has_escapes ? walk->names[i].text.len : 0;
    }
    if (room == 0) {
        return true;
    }
    char *at = walk->unescaped = malloc(room);
    if (!at) {
        return literal_fail_memory(walk->error);
    }
    for (size_t i = 0; i < walk->name_count; i++) {
        struct json_string *text = &walk->names[i].text;
        if (text->has_escapes) {
            size_t len = json_unescape(at, text);
            *text = (struct json_string){at, len, false};
            at += len;
        }
    }
    return true;
}

static int compare_texts(const struct json_string *a, const struct json_string *b)
{
    int order = memcmp(a->text, b->text, a->len < b->len ? a->len : b->len);
    return order ? order : (a->len > b->len) - (a->len < b->len);
}

static int compare_names(const void *a, const void *b)
{
    const struct name *left = a, *right = b;
    return compare_texts(&left->text, &right->text);
}

/* The name's number of every label and every use, in the same order as they; equal names, equal numbers. */
struct numbers {
    uint32_t *of_labels;
    uint32_t *of_uses;
    uint32_t *in_scope; /* for each name: the label that it means just now, or PLAN_NONE */
    uint32_t *hidden;   /* for each label: the label of the same name that it hides */
};

static void number_names(struct walk *walk, const struct numbers *numbers)
{
    if (walk->name_count > 0) {
        qsort(walk->names, walk->name_count, sizeof *walk->names, compare_names);
    }
    uint32_t number = 0;
    for (size_t i = 0; i < walk->name_count; i++) {
        const struct name *name = &walk->names[i];
        number += i > 0 && compare_names(name, name - 1) != 0;
        (name->is_use ? numbers->of_uses : numbers->of_labels)[name->index] = number;
        numbers->in_scope[number] = PLAN_NONE;
    }
}

/* Brings the labels of a `$let` into scope.  Of a label given twice only the last value counts, in the
 * place of the first. */
static void enter_scope(struct literal_plan *plan, const struct numbers *numbers, uint32_t let)
{
    uint32_t *link = &plan->lets[let].first;
    while (*link != PLAN_NONE) {
        uint32_t label = *link;
        uint32_t *meaning = &numbers->in_scope[numbers->of_labels[label]];
        struct plan_label *earlier = *meaning == PLAN_NONE ? NULL : &plan->labels[*meaning];
        if (earlier && earlier->let == let) {
            uint32_t next = earlier->next;
            *link = plan->labels[label].next;
            next = next == label ? *link : next;
            *earlier = plan->labels[label];
            earlier->next = next;
            continue;
        }
        numbers->hidden[label] = *meaning;
        *meaning = label;
        link = &plan->labels[label].next;
    }
}

static void leave_scope(const struct literal_plan *plan, const struct numbers *numbers, uint32_t let)
{
    for (uint32_t i = plan->lets[let].first; i != PLAN_NONE; i = plan->labels[i].next) {
        numbers->in_scope[numbers->of_labels[i]] = numbers->hidden[i];
    }
}

/* A label must not be just another label, one from outside its value, that is. */
static bool check_aliases(struct walk *walk)
{
    struct literal_plan *plan = walk->plan;
    for (size_t i = 0; i < plan->label_count; i++) {
        const struct plan_label *label = &plan->labels[i];
        if (label->alias != PLAN_NONE && plan->labels[plan->uses[label->alias]].let < label->lets) {
            return malformed(walk, "a label cannot be just another label; use that one instead");
        }
    }
    return true;
}

static bool run_events(struct walk *walk, const struct numbers *numbers)
{
    struct literal_plan *plan = walk->plan;
    uint32_t next_let = 0, next_use = 0;
    size_t depth = 0;
    uint32_t *open = numbers->hidden + plan->label_count; /* the `$let`s around */
    for (size_t i = 0; i < walk->event_count; i++) {
        switch ((enum event)walk->events[i]) {
        case EVENT_LET:
            enter_scope(plan, numbers, next_let);
            open[depth++] = next_let++;
            break;
        case EVENT_END:
            leave_scope(plan, numbers, open[--depth]);
            break;
        case EVENT_USE: {
            uint32_t label = numbers->in_scope[numbers->of_uses[next_use]];
            if (label == PLAN_NONE) {
                return malformed(walk, "no such label here; $label names a label of a $let around it");
            }
            plan->uses[next_use++] = label;
            break;
        }
        }
    }
    return check_aliases(walk);
}

static bool resolve(struct walk *walk)
{
    struct literal_plan *plan = walk->plan;
    if (walk->event_count == 0) {
        return true;
    }
    if (!names_unescape(walk)) {
        return false;
    }
    /* of_labels, of_uses, in_scope, hidden, and the open `$let`s, in one block. */
    size_t words = plan->label_count * 2 + plan->use_count + walk->name_count + plan->let_count;
    uint32_t *block = malloc(words * sizeof *block);
    if (!block) {
        return literal_fail_memory(walk->error);
    }
    struct numbers numbers = {.of_labels = block};
    numbers.of_uses = numbers.of_labels + plan->label_count;
    numbers.in_scope = numbers.of_uses + plan->use_count;
    numbers.hidden = numbers.in_scope + walk->name_count;
    number_names(walk, &numbers);
    bool good = run_events(walk, &numbers);
    free(block);
    return good;
}

/* ---- the whole ---- */

bool literal_plan_make(struct literal_plan *plan, const struct json_value *value, struct literal_error *error)
{
    *plan = (struct literal_plan){0};
    struct walk walk = {.plan = plan, .error = error};
    json_cursor_within(&walk.cursor, value);
    bool good = walk_value(&walk, PLAN_NONE);
    while (good && walk.depth > 0) {
        good = step(&walk);
    }
    good = good && resolve(&walk);
    free(walk.levels);
    free(walk.names);
    free(walk.events);
    free(walk.unescaped);
    return good;
}

void literal_plan_fini(struct literal_plan *plan)
{
    free(plan->labels);
    free(plan->lets);
    free(plan->uses);
}

bool literal_check(const struct json_value *value, struct literal_error *error)
{
    struct literal_plan plan;
    bool good = literal_plan_make(&plan, value, error);
    literal_plan_fini(&plan);
    return good;
}
