/* literal_internal.h -- what the literal_*.c files share; nobody else includes it.
 *
 *   forms        the `$` words                                   literal_check.c
 *   plan         where the labels of a value are                 literal_check.c
 *   plain        values without `$` words                         literal_plain.c
 *   map          heap reference -> number                        literal_map.c
 */
#ifndef HEAPD_PROTOCOL_LITERAL_INTERNAL_H
#define HEAPD_PROTOCOL_LITERAL_INTERNAL_H

#include "literal.h"

/* ---- forms ---- */

/* word, form */
#define LITERAL_FORM_MAP(X)                                                                                  \
    X("$ref", FORM_REF)                                                                                      \
    X("$json", FORM_JSON)                                                                                    \
    X("$tuple", FORM_TUPLE)                                                                                  \
    X("$set", FORM_SET)                                                                                      \
    X("$frozenset", FORM_FROZENSET)                                                                          \
    X("$dict", FORM_DICT)                                                                                    \
    X("$bytes", FORM_BYTES)                                                                                  \
    X("$int", FORM_INT)                                                                                      \
    X("$float", FORM_FLOAT)                                                                                  \
    X("$class", FORM_CLASS)                                                                                  \
    X("$instance", FORM_INSTANCE)                                                                            \
    X("$weakref", FORM_WEAKREF)                                                                              \
    X("$let", FORM_LET)                                                                                      \
    X("$label", FORM_LABEL)

enum literal_form {
    FORM_NONE, /* a `$` word that is none of ours */
#define X(word, form) form,
    LITERAL_FORM_MAP(X)
#undef X
};

enum literal_form literal_form_of(const struct json_string *name);

/* Whether the name means something that starts with `$`. */
static inline bool literal_is_dollar(const struct json_string *name)
{
    const char *text = name->text;
    return name->len > 0 &&
           (*text == '$' || (*text == '\\' && name->len >= 6 && memcmp(text, "\\u0024", 6) == 0));
}

/* ---- errors: all return false ---- */

static inline bool literal_fail(struct literal_error *error, enum literal_fault fault, const char *message)
{
    *error = (struct literal_error){.fault = fault, .message = message};
    return false;
}

static inline bool literal_fail_heap(struct literal_error *error, enum heap_error heap)
{
    *error =
        (struct literal_error){.fault = LITERAL_HEAP, .heap = heap, .message = heap_error_sentence(heap)};
    return false;
}

static inline bool literal_fail_memory(struct literal_error *error)
{
    return literal_fail(error, LITERAL_MEMORY, "no memory for a value of this size; use smaller pieces");
}

static inline bool literal_fail_int(struct literal_error *error)
{
    return literal_fail(error, LITERAL_VALUE, "an int outside 64 bits is written {\"$int\": \"DIGITS\"}");
}

static inline bool literal_fail_float(struct literal_error *error)
{
    return literal_fail(error, LITERAL_VALUE,
                        "a float this large does not exist; write {\"$float\": \"inf\"}, or "
                        "{\"$int\": \"DIGITS\"} for an int");
}

/* ---- plain values: literal_plain.c ---- */

/* literal_read() of a value in which no name starts with `$`. */
bool literal_read_plain(heap_ref *obj, struct heap *heap, const struct json_value *value,
                        struct literal_error *error);

/* ---- growing arrays ---- */

/* Makes the array that *pointer points to twice as large; `first` (or NULL): where it starts, in no block
 * of malloc.  *room counts items of `size` bytes.  false: no memory. */
bool literal_grow_array(void *pointer, const void *first, size_t *room, size_t size);

/* Makes room for one item behind the first `n`. */
#define LITERAL_GROW(array, first, room, n)                                                                  \
    ((n) < (room) || literal_grow_array(&(array), (first), &(room), sizeof *(array)))

/* ---- the plan of a value: `$let`s, labels and uses of labels, numbered in the order of the text ---- */

#define PLAN_NONE UINT32_MAX

/* A label of a `$let`. */
struct plan_label {
    const char *value; /* its value's text; of the last one if the label is given twice in its `$let` */
    const char *ref;   /* the TARGET if the value is `$ref`, or a `$let` that ends in one; else NULL */
    uint32_t let;      /* whose label it is */
    uint32_t next;     /* the next label of the same `$let`; PLAN_NONE: the last */
    uint32_t uses;     /* uses that stand before the value */
    uint32_t lets;     /* `$let`s that start before the value */
    uint32_t alias;    /* the use that the value is, or that a `$let` there ends in; PLAN_NONE: no use */
};

struct plan_let {
    uint32_t first, last; /* labels; PLAN_NONE: it has none */
    const char *in;       /* the text of the value of `in` */
    uint32_t in_uses;     /* uses that stand before it */
    uint32_t in_lets;     /* `$let`s that start before it */
    const char *end;      /* behind the closing brace */
};

struct literal_plan {
    struct plan_label *labels;
    size_t label_count, label_room;
    struct plan_let *lets;
    size_t let_count, let_room;
    uint32_t *uses; /* the label that each use means */
    size_t use_count, use_room;
};

/* literal_check(), and where the labels are.  The plan is to be given to literal_plan_fini() in any case. */
bool literal_plan_make(struct literal_plan *plan, const struct json_value *value,
                       struct literal_error *error);
void literal_plan_fini(struct literal_plan *plan);

/* ---- maps ---- */

/* Open addressing, at most half full.  All zero: an empty map without memory. */
struct literal_map {
    struct literal_map_entry {
        heap_ref key; /* 0: free */
        uint32_t value;
    } * entries;
    uint32_t mask;  /* number of entries - 1; meaningless while `entries` is NULL */
    uint32_t count; /* keys */
};

/* The number under `key`, or NULL.  Valid until the next literal_map_put(). */
uint32_t *literal_map_find(const struct literal_map *map, heap_ref key);
/* Puts a key that is not there.  false: no memory. */
bool literal_map_put(struct literal_map *map, heap_ref key, uint32_t value);
void literal_map_fini(struct literal_map *map);

#endif
