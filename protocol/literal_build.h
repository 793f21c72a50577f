/* literal_build.h -- the state of a literal that is being built.
 *
 * Shared by literal_read.c (the text), literal_finish.c (containers) and literal_label.c (`$let`).
 *
 * Every reference that stands here is owned: on the stack `refs`, by a label, a fixup, the list of tuples.
 * A cycle can only come about by filling a hole, so a literal that fails empties the holes it has filled
 * and then drops all it owns, and nothing is left behind.
 */
#ifndef HEAPD_PROTOCOL_LITERAL_BUILD_H
#define HEAPD_PROTOCOL_LITERAL_BUILD_H

#include "literal_internal.h"

enum build_kind {
    BUILD_LIST,
    BUILD_TUPLE,
    BUILD_SET,
    BUILD_FROZENSET,
    BUILD_OBJECT,   /* a plain JSON object: key, value, key, value on the stack */
    BUILD_PAIRS,    /* the array of a `$dict`: the same */
    BUILD_PAIR,     /* one of its pairs */
    BUILD_JSON,     /* the value of a `$json` */
    BUILD_INSTANCE, /* the attributes of an instance: class, value, value on the stack, names in `names` */
    BUILD_LABELS,   /* the labels of a `$let` */
    BUILD_IN        /* the value of its `in` */
};

/* A container whose text has begun and not ended. */
struct build_level {
    enum build_kind kind;
    bool pending;     /* the cursor is at a value of this level that was not begun */
    bool is_form;     /* the text's object ends behind this array or object */
    size_t base;      /* refs[base..] are its */
    size_t hole_base; /* holes[hole_base..] are its */
    size_t name_base; /* names[name_base..] are its */
    uint32_t let;     /* of BUILD_LABELS and BUILD_IN */
    uint32_t label;   /* of BUILD_LABELS: whose value is being built */
};

/* A place on the stack that waits for a label. */
struct build_hole {
    size_t position; /* refs[position] is 0 */
    uint32_t label;
};

/* A place in a container that waits, or has waited, for a label. */
struct build_fixup {
    heap_ref container; /* owned */
    uint32_t entry;     /* heap_fill_steal()'s i */
    uint32_t next;      /* the label's next fixup; PLAN_NONE */
    bool filled;
    bool dropped; /* the entry got another value since */
};

/* What is known of a label while building. */
struct build_label {
    heap_ref obj;     /* owned; 0: not built yet */
    heap_ref weakref; /* owned; the weakref that waits for obj, or 0 */
    uint32_t fixups;  /* the first of those that wait for obj; PLAN_NONE */
};

#define BUILD_REFS_FIRST 64
#define BUILD_LEVELS_FIRST 8

struct build {
    struct heap *heap;
    struct literal_error *error;
    struct json_cursor cursor;
    const struct json_value *root; /* the whole value */
    bool plain;                    /* inside `$json`: `$` means nothing */

    heap_ref *refs; /* finished objects of unfinished containers; 0: a hole */
    size_t ref_count, ref_room;
    struct build_level *levels;
    size_t depth, level_room;
    struct build_hole *holes; /* those of `refs`, in order of position */
    size_t hole_count, hole_room;
    struct json_string *names; /* attributes of unfinished instances */
    size_t name_count, name_room;
    char *scratch; /* what a string means while it is turned into an object */
    size_t scratch_room;

    bool has_plan; /* a `$let` was met: plan and labels are there */
    struct literal_plan plan;
    struct build_label *labels;  /* one for each of the plan's */
    uint32_t next_use, next_let; /* what comes next in the text, in the plan's numbers */
    struct build_fixup *fixups;
    size_t fixup_count, fixup_room;
    heap_ref *tuples; /* owned; those that were made incomplete */
    size_t tuple_count, tuple_room;

    heap_ref first_refs[BUILD_REFS_FIRST]; /* where `refs` and `levels` start */
    struct build_level first_levels[BUILD_LEVELS_FIRST];
};

/* ---- literal_read.c ---- */

/* Puts an owned reference on the stack; drops it when that fails. */
bool build_push(struct build *build, heap_ref obj);
/* Begins a container at the stack's end. */
bool build_push_level(struct build *build, struct build_level level);
/* What the inside of a string means; valid until the next call.  false: no memory. */
bool build_text(struct heap_text *text, struct build *build, const struct json_string *string);
/* Reads or begins the next value: at the end one reference more, or one level more, is on its stack. */
bool build_value(struct build *build);

/* ---- literal_finish.c: the container of a level, the top one, takes the level's place on the stack ---- */

bool build_finish_list(struct build *build, const struct build_level *level);
bool build_finish_tuple(struct build *build, const struct build_level *level);
bool build_finish_set(struct build *build, const struct build_level *level); /* a frozenset too */
bool build_finish_dict(struct build *build, const struct build_level *level);
bool build_finish_instance(struct build *build, const struct build_level *level);

/* ---- literal_label.c ---- */

/* A `$let`, the cursor at its labels. */
bool build_let(struct build *build);
bool build_step_labels(struct build *build, struct build_level *level);
void build_step_in(struct build *build, struct build_level *level);
/* The label that the next use in the text means. */
static inline uint32_t build_use(struct build *build)
{
    return build->plan.uses[build->next_use++];
}
/* A label as a value: its object, or a hole. */
bool build_push_label(struct build *build, uint32_t label);
/* A weakref to a label's object, which may come later. */
bool build_weakref_to_label(heap_ref *weakref, struct build *build, uint32_t label);
/* Notes that the entry of a container on the stack waits for a label.  PLAN_NONE: no memory. */
uint32_t build_add_fixup(struct build *build, heap_ref container, uint32_t entry, uint32_t label);
/* Notes the stack's holes from hole_base on as those of a list or tuple whose items began at `base`, and
 * takes them off. */
bool build_holes_of_row(struct build *build, heap_ref row, size_t base, size_t hole_base);
/* Makes sure that an object (0: a label not yet built) can be a key or member. */
bool build_complete(struct build *build, heap_ref obj);
/* After the last value: completes the tuples that had holes. */
bool build_complete_all(struct build *build);
/* Drops everything but the stack; `failed`: and empties the holes first. */
void build_drop_labels(struct build *build, bool failed);

#endif
