/* type_dict.c -- dicts: a table of {key, value} in insertion order.
 *
 * Every live entry owns one reference of its key and one of its value; a value of 0 is a hole that a literal
 * under construction will fill.  References are dropped after the table is consistent again.
 * The table itself is table.c's.
 */
#include "table.h"
#include "visit.h"

static struct table *dict_at(const struct heap *heap, heap_ref ref)
{
    struct table *t = table_at(heap, ref);
    HEAP_ASSERT(t->head.head.type == HEAP_T_DICT);
    return t;
}

enum heap_error heap_dict_create(heap_ref *dict, struct heap *heap, uint32_t room)
{
    GIL_ASSERT_HELD(heap);
    struct table *t = (struct table *)object_container_create(heap, HEAP_T_DICT, sizeof *t);
    if (t == NULL) {
        return HEAP_MEMORY;
    }
    if (!gc_track(heap, &t->head) || table_reserve_hint(heap, t, room) != HEAP_OK) {
        object_decref(heap, object_ref(heap, t));
        return HEAP_MEMORY;
    }
    *dict = object_ref(heap, t);
    return HEAP_OK;
}

uint32_t heap_dict_len(const struct heap *heap, heap_ref dict)
{
    GIL_ASSERT_HELD(heap);
    return dict_at(heap, dict)->live;
}

/* ---- one entry ---- */

enum heap_error heap_dict_get(heap_ref *value, struct heap *heap, heap_ref dict, heap_ref key)
{
    GIL_ASSERT_HELD(heap);
    struct table *t = dict_at(heap, dict);
    uint32_t number, hash;
    enum heap_error error = table_find(&number, &hash, heap, t, key);
    if (error == HEAP_OK) {
        *value = number == TABLE_NONE ? 0 : table_entry(t, number)[1];
    }
    return error;
}

heap_ref heap_dict_get_text(struct heap *heap, heap_ref dict, struct heap_text key)
{
    GIL_ASSERT_HELD(heap);
    struct table *t = dict_at(heap, dict);
    uint32_t hash, number = table_find_text(&hash, heap, t, key);
    return number == TABLE_NONE ? 0 : table_entry(t, number)[1];
}

/* Puts a value into an entry and drops the one that was there.  Steals `value`. */
static void replace_value(struct heap *heap, struct table *t, uint32_t number, heap_ref value)
{
    visit_before_change(heap, object_ref(heap, t));
    heap_ref old = table_entry(t, number)[1];
    table_entry(t, number)[1] = value;
    heap_decref(heap, old);
}

enum heap_error heap_dict_set_steal(struct heap *heap, heap_ref dict, heap_ref key, heap_ref value)
{
    GIL_ASSERT_HELD(heap);
    struct table *t = dict_at(heap, dict);
    uint32_t number, hash;
    enum heap_error error = table_find(&number, &hash, heap, t, key);
    if (error == HEAP_OK && number != TABLE_NONE) {
        replace_value(heap, t, number, value);
        object_decref(heap, key);
        return HEAP_OK;
    }
    if (error == HEAP_OK) {
        error = table_reserve(heap, t, 1);
    }
    if (error != HEAP_OK) {
        object_decref(heap, key);
        heap_decref(heap, value);
        return error;
    }
    table_append(heap, t, hash, key, value);
    return HEAP_OK;
}

enum heap_error heap_dict_pop(heap_ref *own_key, heap_ref *value, struct heap *heap, heap_ref dict, heap_ref key)
{
    GIL_ASSERT_HELD(heap);
    struct table *t = dict_at(heap, dict);
    uint32_t number, hash;
    enum heap_error error = table_find(&number, &hash, heap, t, key);
    if (error != HEAP_OK) {
        return error;
    }
    if (number == TABLE_NONE) {
        return HEAP_KEY;
    }
    *own_key = table_entry(t, number)[0];
    *value = table_entry(t, number)[1];
    gc_barrier(heap, *own_key); /* the counts stay, but what the dict had becomes the caller's */
    gc_barrier(heap, *value);
    table_remove(heap, t, number);
    return HEAP_OK;
}

/* ---- a whole dict ---- */

/* Whether no key of so few comes twice: interned strs are equal only to themselves. */
static bool are_different(const heap_ref *pairs, uint32_t n)
{
    for (uint32_t i = 1; i < n; i++) {
        for (uint32_t k = 0; k < i; k++) {
            if (pairs[2 * i] == pairs[2 * k]) {
                return false;
            }
        }
    }
    return true;
}

enum heap_error heap_dict_create_steal(heap_ref *dict, struct heap *heap, const heap_ref *pairs, uint32_t n)
{
    enum heap_error error = heap_dict_create(dict, heap, n);
    uint32_t i = 0;
    if (error == HEAP_OK && n <= TABLE_SMALL_MAX && are_different(pairs, n)) {
        struct table *t = dict_at(heap, *dict);
        for (; i < n; i++) {
            table_append(heap, t, 0, pairs[2 * i], pairs[2 * i + 1]);
        }
    }
    for (; i < n && error == HEAP_OK; i++) {
        error = heap_dict_set_steal(heap, *dict, pairs[2 * i], pairs[2 * i + 1]);
        if (error != HEAP_OK) {
            heap_decref(heap, *dict);
        }
    }
    for (; i < n; i++) {
        heap_decref(heap, pairs[2 * i]);
        heap_decref(heap, pairs[2 * i + 1]);
    }
    return error;
}

/* ---- all entries ---- */

/* Whether every entry of `from` could be put into `t`: references can be counted up, keys compared. */
static enum heap_error update_check(struct heap *heap, struct table *t, const struct table *from)
{
    for (uint32_t pos = 0, i; (i = table_next(from, &pos)) != TABLE_NONE;) {
        const uint32_t *entry = table_entry(from, i);
        if (object_is_full(object_at(heap, entry[0])) ||
            (entry[1] != 0 && object_is_full(object_at(heap, entry[1])))) {
            return HEAP_LIMIT_REFS;
        }
        if (!ref_is_atom(entry[0])) { /* only tuples and frozensets can be too deep to compare */
            uint32_t number, hash;
            enum heap_error error = table_find(&number, &hash, heap, t, entry[0]);
            if (error != HEAP_OK) {
                return error;
            }
        }
    }
    return HEAP_OK;
}

enum heap_error heap_dict_update(struct heap *heap, heap_ref dict, heap_ref from)
{
    GIL_ASSERT_HELD(heap);
    if (heap_type(heap, from) != HEAP_T_DICT) {
        return HEAP_TYPE;
    }
    if (from == dict) {
        return HEAP_OK;
    }
    struct table *t = dict_at(heap, dict);
    const struct table *source = dict_at(heap, from);
    enum heap_error error = update_check(heap, t, source);
    if (error == HEAP_OK) {
        error = table_reserve(heap, t, source->live);
    }
    if (error != HEAP_OK) {
        return error;
    }
    for (uint32_t pos = 0, i; (i = table_next(source, &pos)) != TABLE_NONE;) {
        heap_ref key = table_entry(source, i)[0], value = table_entry(source, i)[1];
        object_incref(heap, key);
        if (value != 0) {
            object_incref(heap, value);
        }
        error = heap_dict_set_steal(heap, dict, key, value);
        HEAP_ASSERT(error == HEAP_OK);
    }
    return HEAP_OK;
}

void heap_dict_clear(struct heap *heap, heap_ref dict)
{
    GIL_ASSERT_HELD(heap);
    table_clear(heap, dict_at(heap, dict));
}

bool heap_dict_next(const struct heap *heap, heap_ref dict, uint32_t *pos, heap_ref *key, heap_ref *value)
{
    const struct table *t = dict_at(heap, dict);
    uint32_t number = table_next(t, pos);
    if (number == TABLE_NONE) {
        return false;
    }
    *key = table_entry(t, number)[0];
    *value = table_entry(t, number)[1];
    return true;
}

bool heap_dict_serial_next(struct heap *heap, heap_ref dict, uint64_t *after, heap_ref *key, heap_ref *value)
{
    GIL_ASSERT_HELD(heap);
    struct table *t = dict_at(heap, dict);
    uint32_t number = table_serial_next(t, *after, after);
    if (number == TABLE_NONE) {
        return false;
    }
    *key = table_entry(t, number)[0];
    *value = table_entry(t, number)[1];
    return true;
}

uint32_t heap_dict_entry(struct heap *heap, heap_ref dict, heap_ref key)
{
    GIL_ASSERT_HELD(heap);
    uint32_t number, hash;
    enum heap_error error = table_find(&number, &hash, heap, dict_at(heap, dict), key);
    HEAP_ASSERT(error == HEAP_OK && number != TABLE_NONE);
    return number;
}

/* ---- counters ---- */

/* *sum = an int + by.  HEAP_TYPE if it is none, HEAP_OVERFLOW. */
static enum heap_error int_add(int64_t *sum, const struct object *o, int64_t by)
{
    if (o->type != HEAP_T_INT) {
        return HEAP_TYPE;
    }
    __int128_t wide;
    if (o->flags & FLAG_BIG) {
        uint64_t magnitude;
        if (o->n > 2) {
            return HEAP_OVERFLOW;
        }
        memcpy(&magnitude, ((const struct bigint *)o)->u.limbs, sizeof magnitude); /* it is beyond 63 bits */
        wide = o->flags & FLAG_NEGATIVE ? -(__int128_t)magnitude : (__int128_t)magnitude;
    } else {
        wide = ((const struct number *)o)->value.i;
    }
    wide += by;
    if (wide > INT64_MAX || wide < INT64_MIN) {
        return HEAP_OVERFLOW;
    }
    *sum = (int64_t)wide;
    return HEAP_OK;
}

static bool is_small_int(int64_t value)
{
    return value >= SMALL_INT_MIN && value <= SMALL_INT_MAX;
}

/* Writes the sum over an int that only this dict refers to and nobody has an id or weakref of, instead of
 * putting a new one in its place: nobody can tell, when the counters say what they would have said.  false:
 * not possible. */
static bool add_in_place(struct heap *heap, struct object *o, int64_t sum)
{
    visit_before_change(heap, object_ref(heap, o)); /* which may give it an id */
    if (o->refcount != 1 || o->flags != 0 || is_small_int(sum)) {
        return false;
    }
    visit_before_death(heap, object_ref(heap, o));
    ((struct number *)o)->value.i = sum;
    counter_add(&heap->created, 1);
    counter_add(&heap->freed, 1);
    heap->freed_pending++;
    return true;
}

/* A counter that is there. */
static enum heap_error incr_entry(int64_t *sum, struct heap *heap, struct table *t, uint32_t number,
                                  int64_t by)
{
    heap_ref old = table_entry(t, number)[1];
    if (old == 0) {
        return HEAP_TYPE; /* a hole */
    }
    int64_t result;
    enum heap_error error = int_add(&result, object_at(heap, old), by);
    if (error != HEAP_OK) {
        return error;
    }
    visit_before_change(heap, object_ref(heap, t)); /* its int may change without another taking its place */
    if (!add_in_place(heap, object_at(heap, old), result)) {
        heap_ref value;
        error = heap_int_create(&value, heap, result);
        if (error != HEAP_OK) {
            return error;
        }
        replace_value(heap, t, number, value);
    }
    *sum = result;
    return HEAP_OK;
}

/* A counter that begins here. */
static enum heap_error incr_new(int64_t *sum, struct heap *heap, struct table *t, uint32_t hash, heap_ref key,
                                int64_t by)
{
    if (object_is_full(object_at(heap, key))) {
        return HEAP_LIMIT_REFS;
    }
    enum heap_error error = table_reserve(heap, t, 1);
    if (error != HEAP_OK) {
        return error;
    }
    heap_ref value;
    error = heap_int_create(&value, heap, by);
    if (error != HEAP_OK) {
        return error;
    }
    object_incref(heap, key);
    table_append(heap, t, hash, key, value);
    *sum = by;
    return HEAP_OK;
}

enum heap_error heap_dict_incr(int64_t *sum, struct heap *heap, heap_ref dict, heap_ref key, int64_t by)
{
    GIL_ASSERT_HELD(heap);
    struct table *t = dict_at(heap, dict);
    uint32_t number, hash;
    enum heap_error error = table_find(&number, &hash, heap, t, key);
    if (unlikely(error != HEAP_OK)) {
        return error;
    }
    return likely(number != TABLE_NONE) ? incr_entry(sum, heap, t, number, by)
                                        : incr_new(sum, heap, t, hash, key, by);
}

enum heap_error heap_dict_incr_text(int64_t *sum, struct heap *heap, heap_ref dict, struct heap_text key, int64_t by)
{
    GIL_ASSERT_HELD(heap);
    struct table *t = dict_at(heap, dict);
    uint32_t hash, number = table_find_text(&hash, heap, t, key);
    if (likely(number != TABLE_NONE)) {
        return incr_entry(sum, heap, t, number, by);
    }
    heap_ref own_key;
    enum heap_error error = heap_str_create(&own_key, heap, key.text, key.len);
    if (error == HEAP_OK) {
        error = incr_new(sum, heap, t, hash, own_key, by);
        object_decref(heap, own_key);
    }
    return error;
}
