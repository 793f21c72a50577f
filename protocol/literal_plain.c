/* literal_plain.c -- builds the object of a validated literal in which no name starts with `$`.
 *
 * Such a text is read by a loop of its own, for most values are such, and the large ones nearly all:
 *
 *     [ "a", {"k": 1 }, 2 ]          refs:  "a" | "k" 1          levels:  list at 0, object at 1
 *                     ^ p
 *
 * Finished objects wait on a stack of references until their container ends in the text; it is made with exactly
 * the room it needs and takes them over.  A long one is filled a piece at a time (`filling`).  So at every moment
 * all that was made hangs from `refs`, `filling` and the keys remembered, the state is one struct, and building
 * can stop at any value and go on later: literal_builder_step() does a slice.
 *
 * The text was validated: nothing is checked again but what only the content can have, numbers that are too large.
 * It lies in a line with padding behind it, so that blocks can be read across its end.
 * Start at run().
 */
#include "literal_internal.h"

#include <stdlib.h>
#include <time.h>

#include "number.h"

#ifdef __SSE2__
#include <emmintrin.h>
#endif

#define REFS_FIRST 64
#define LEVELS_FIRST 16
#define VALUES_PER_LOOK 64u     /* values begun between two looks at the clock */
#define WHOLE_MAX 1024u         /* references that a container gets at once; longer ones are filled in pieces */
#define KEYS 512u               /* remembered; a power of two */
#define KEYS_TEXT_MIN 2048u     /* bytes of a text for which remembering keys pays */

/* An object or array whose text has begun and not ended: refs[base..] are its. */
struct plain_level {
    size_t base;
    bool is_object;
};

/* A key that has been met, so that the next one of the same text need not be looked for among all interned strs. */
struct plain_key {
    const char *text;
    size_t len;
    heap_ref key; /* owned; 0: free */
};

struct literal_builder {
    struct heap *heap;
    const char *p;   /* where to go on: at a value, or at the bracket that ends the container being filled */
    heap_ref *refs;  /* owned; 0: taken over by `filling` */
    size_t ref_count, ref_room;
    struct plain_level *levels;
    size_t depth, level_room;
    heap_ref filling; /* owned; the container of the top level, if it is long and has ended; else 0 */
    size_t filled;    /* refs below this one are in it */
    struct plain_key *keys; /* KEYS of them, or NULL */
    char *scratch;          /* what a string with escapes means */
    size_t scratch_room;
    heap_ref first_refs[REFS_FIRST]; /* where `refs` and `levels` start */
    struct plain_level first_levels[LEVELS_FIRST];
};

/* ---- the text ---- */

/* The first byte from p on that is no white space; there is one. */
static inline const char *skip_space(const char *p)
{
    if ((unsigned char)*p > ' ') {
        return p;
    }
    if ((unsigned char)p[1] > ' ') {
        return p + 1;
    }
#ifdef __SSE2__
    for (;; p += 16) {
        __m128i bytes = _mm_loadu_si128((const __m128i *)(const void *)p);
        /* White space, and nothing else in a valid text outside of strings, is not above 0x20. */
        __m128i others = _mm_cmpgt_epi8(bytes, _mm_set1_epi8(' '));
        int stops = _mm_movemask_epi8(others);
        if (stops) {
            return p + __builtin_ctz((unsigned)stops);
        }
    }
#else
    while ((unsigned char)*p <= ' ') {
        p++;
    }
    return p;
#endif
}

/* The closing quote of a string, p at the first byte inside; *has_escapes is set if there is a backslash. */
static inline const char *find_quote(const char *p, bool *has_escapes)
{
    for (;;) {
#ifdef __SSE2__
        __m128i bytes = _mm_loadu_si128((const __m128i *)(const void *)p);
        __m128i quotes = _mm_cmpeq_epi8(bytes, _mm_set1_epi8('"'));
        __m128i backslashes = _mm_cmpeq_epi8(bytes, _mm_set1_epi8('\\'));
        int stops = _mm_movemask_epi8(_mm_or_si128(quotes, backslashes));
        if (!stops) {
            p += 16;
            continue;
        }
        p += __builtin_ctz((unsigned)stops);
#else
        while (*p != '"' && *p != '\\') {
            p++;
        }
#endif
        if (*p == '"') {
            return p;
        }
        *has_escapes = true;
        p += 2;
    }
}

/* ---- the stack ---- */

static inline bool push(struct literal_builder *builder, heap_ref obj, struct literal_error *error)
{
    if (!LITERAL_GROW(builder->refs, builder->first_refs, builder->ref_room, builder->ref_count)) {
        heap_decref(builder->heap, obj);
        return literal_fail_memory(error);
    }
    builder->refs[builder->ref_count++] = obj;
    return true;
}

/* The result of a function that makes an object. */
static inline bool push_made(struct literal_builder *builder, enum heap_error made, heap_ref obj,
                             struct literal_error *error)
{
    return made == HEAP_OK ? push(builder, obj, error) : literal_fail_heap(error, made);
}

static inline bool push_level(struct literal_builder *builder, bool is_object, struct literal_error *error)
{
    if (!LITERAL_GROW(builder->levels, builder->first_levels, builder->level_room, builder->depth)) {
        return literal_fail_memory(error);
    }
    builder->levels[builder->depth++] = (struct plain_level){builder->ref_count, is_object};
    return true;
}

/* ---- strings ---- */

/* What a string with escapes means. */
static bool unescape(struct heap_text *text, struct literal_builder *builder, const struct json_string *string,
                     struct literal_error *error)
{
    if (string->len > builder->scratch_room) {
        char *scratch = realloc(builder->scratch, string->len);
        if (scratch == NULL) {
            return literal_fail_memory(error);
        }
        builder->scratch = scratch;
        builder->scratch_room = string->len;
    }
    *text = (struct heap_text){builder->scratch, json_unescape(builder->scratch, string)};
    return true;
}

/* A string, p at its quote.  Returns the byte behind it, or NULL after an error. */
static inline const char *read_string(struct literal_builder *builder, const char *p, struct literal_error *error)
{
    bool has_escapes = false;
    const char *end = find_quote(p + 1, &has_escapes);
    struct heap_text text = {p + 1, (size_t)(end - p - 1)};
    if (has_escapes) {
        struct json_string string = {text.text, text.len, true};
        if (!unescape(&text, builder, &string, error)) {
            return NULL;
        }
    }
    heap_ref obj = 0;
    enum heap_error made = heap_str_create(&obj, builder->heap, text.text, text.len);
    return push_made(builder, made, obj, error) ? end + 1 : NULL;
}

/* Where a key may be remembered; good enough for the few dozen different ones that a text has. */
static inline struct plain_key *place_of_key(struct plain_key *keys, const char *text, size_t len)
{
    uint64_t head, tail = 0;
    memcpy(&head, text, sizeof head);
    if (len >= sizeof tail) {
        memcpy(&tail, text + len - sizeof tail, sizeof tail);
    } else {
        head &= (UINT64_C(1) << len * 8) - 1;
    }
    uint64_t mixed = (head ^ (tail << 7 | tail >> 57) ^ len) * UINT64_C(0x9e3779b97f4a7c15);
    return &keys[mixed >> 32 & (KEYS - 1)];
}

/* Another count of a key that is remembered, or an interned str that is from now on. */
static enum heap_error find_key(heap_ref *obj, struct literal_builder *builder, const char *text, size_t len)
{
    struct heap *heap = builder->heap;
    struct plain_key *place = place_of_key(builder->keys, text, len);
    if (place->key != 0 && place->len == len && memcmp(place->text, text, len) == 0) {
        *obj = place->key;
        return heap_incref(heap, place->key);
    }
    enum heap_error made = heap_str_intern(obj, heap, text, len);
    if (made == HEAP_OK && heap_incref(heap, *obj) == HEAP_OK) {
        heap_decref(heap, place->key);
        *place = (struct plain_key){text, len, *obj};
    }
    return made;
}

/* A key and its colon, p at the quote.  Returns the first byte of the value, or NULL after an error. */
static inline const char *read_key(struct literal_builder *builder, const char *p, struct literal_error *error)
{
    bool has_escapes = false;
    const char *end = find_quote(p + 1, &has_escapes);
    struct heap_text text = {p + 1, (size_t)(end - p - 1)};
    heap_ref key = 0;
    enum heap_error made;
    if (has_escapes) {
        struct json_string string = {text.text, text.len, true};
        if (!unescape(&text, builder, &string, error)) {
            return NULL;
        }
    }
    if (has_escapes || builder->keys == NULL) {
        made = heap_str_intern(&key, builder->heap, text.text, text.len);
    } else {
        made = find_key(&key, builder, text.text, text.len);
    }
    if (!push_made(builder, made, key, error)) {
        return NULL;
    }
    p = skip_space(end + 1); /* at the colon */
    return skip_space(p + 1);
}

/* ---- numbers ---- */

/* A number, p at its first byte.  Returns the byte behind it, or NULL after an error. */
static inline const char *read_number(struct literal_builder *builder, const char *p, struct literal_error *error)
{
    int64_t integer;
    double real;
    heap_ref obj = 0;
    enum heap_error made;
    switch (number_read(&p, &integer, &real)) {
    case NUMBER_INT:
        made = heap_int_create(&obj, builder->heap, integer);
        break;
    case NUMBER_FLOAT:
        made = heap_float_create(&obj, builder->heap, real);
        break;
    case NUMBER_INT_TOO_LARGE:
        literal_fail_int(error);
        return NULL;
    default:
        literal_fail_float(error);
        return NULL;
    }
    return push_made(builder, made, obj, error) ? p : NULL;
}

/* Anything but an array or object, p at its first byte.  Returns the byte behind it, or NULL after an error. */
static inline const char *read_scalar(struct literal_builder *builder, const char *p, struct literal_error *error)
{
    struct heap *heap = builder->heap;
    switch (*p) {
    case '"':
        return read_string(builder, p, error);
    case 't':
        return push(builder, heap_bool(heap, true), error) ? p + 4 : NULL;
    case 'f':
        return push(builder, heap_bool(heap, false), error) ? p + 5 : NULL;
    case 'n':
        return push(builder, heap_none(heap), error) ? p + 4 : NULL;
    default:
        return read_number(builder, p, error);
    }
}

/* ---- containers ---- */

/* The container of the top level takes its place on the stack. */
static bool leave(struct literal_builder *builder, enum heap_error made, heap_ref obj, struct literal_error *error)
{
    builder->ref_count = builder->levels[--builder->depth].base;
    return push_made(builder, made, obj, error);
}

/* Makes the container of the top level, which has few references. */
static inline bool finish_whole(struct literal_builder *builder, struct literal_error *error)
{
    const struct plain_level *level = &builder->levels[builder->depth - 1];
    const heap_ref *refs = builder->refs + level->base;
    uint32_t n = (uint32_t)(builder->ref_count - level->base);
    heap_ref obj = 0;
    enum heap_error made = level->is_object ? heap_dict_create_steal(&obj, builder->heap, refs, n / 2)
                                            : heap_list_create_steal(&obj, builder->heap, refs, n);
    return leave(builder, made, obj, error); /* the references are consumed in any case */
}

/* Makes the container of the top level without what belongs into it. */
static bool begin_filling(struct literal_builder *builder, struct literal_error *error)
{
    const struct plain_level *level = &builder->levels[builder->depth - 1];
    size_t n = builder->ref_count - level->base;
    if (n > UINT32_MAX) {
        return literal_fail_heap(error, HEAP_TOO_LONG);
    }
    enum heap_error made = level->is_object ? heap_dict_create(&builder->filling, builder->heap, (uint32_t)n / 2)
                                            : heap_list_create(&builder->filling, builder->heap, (uint32_t)n);
    builder->filled = level->base;
    return made == HEAP_OK || literal_fail_heap(error, made);
}

/* Takes a reference off the stack without moving the others: its owner is now somebody else. */
static inline heap_ref take(struct literal_builder *builder)
{
    heap_ref obj = builder->refs[builder->filled];
    builder->refs[builder->filled++] = 0;
    return obj;
}

/* Puts the next references into the container that is being filled. */
static bool fill(struct literal_builder *builder, struct literal_error *error)
{
    struct heap *heap = builder->heap;
    bool is_object = builder->levels[builder->depth - 1].is_object;
    enum heap_error made = HEAP_OK;
    for (unsigned i = 0; i < VALUES_PER_LOOK && builder->filled < builder->ref_count && made == HEAP_OK; i++) {
        if (is_object) {
            heap_ref key = take(builder), value = take(builder);
            made = heap_dict_set_steal(heap, builder->filling, key, value);
        } else {
            made = heap_list_append_steal(heap, builder->filling, take(builder));
        }
    }
    return made == HEAP_OK || literal_fail_heap(error, made);
}

/* ---- the whole ---- */

/* What stands at p, behind a value: closes what ends there, up to a long container.  Returns where the next value
 * is, or where the long container ends, or NULL after an error; at the end of all any byte. */
static inline const char *read_closings(struct literal_builder *builder, const char *p, struct literal_error *error)
{
    while (builder->depth > 0) {
        const struct plain_level *level = &builder->levels[builder->depth - 1];
        p = skip_space(p);
        if (*p == ',') {
            p = skip_space(p + 1);
            return level->is_object ? read_key(builder, p, error) : p;
        }
        if (builder->ref_count - level->base > WHOLE_MAX) {
            return begin_filling(builder, error) ? p : NULL;
        }
        if (!finish_whole(builder, error)) {
            return NULL;
        }
        p++;
    }
    return p;
}

/* Fills what is to be filled, then goes on from value to value; so many at most. */
static enum literal_progress run(struct literal_builder *builder, unsigned budget, struct literal_error *error)
{
    const char *p = builder->p;
    if (builder->filling != 0) {
        if (builder->filled < builder->ref_count) {
            return fill(builder, error) ? LITERAL_GOES_ON : LITERAL_FAILED;
        }
        heap_ref filled = builder->filling;
        builder->filling = 0;
        p = leave(builder, HEAP_OK, filled, error) ? read_closings(builder, p + 1, error) : NULL;
    }
    while (p != NULL && builder->filling == 0 && (builder->depth > 0 || builder->ref_count == 0) && budget-- > 0) {
        bool is_object = *p == '{';
        if (!is_object && *p != '[') {
            p = read_scalar(builder, p, error);
        } else if (push_level(builder, is_object, error)) {
            p = skip_space(p + 1);
            if (*p != (is_object ? '}' : ']')) {
                p = is_object ? read_key(builder, p, error) : p;
                continue;
            }
        } else {
            p = NULL;
        }
        p = p != NULL ? read_closings(builder, p, error) : NULL;
    }
    builder->p = p;
    return p == NULL                                       ? LITERAL_FAILED
           : builder->depth == 0 && builder->ref_count > 0 ? LITERAL_DONE
                                                           : LITERAL_GOES_ON;
}

static void init(struct literal_builder *builder, struct heap *heap, const struct json_value *value)
{
    builder->heap = heap;
    builder->p = value->text;
    builder->refs = builder->first_refs;
    builder->ref_room = REFS_FIRST;
    builder->levels = builder->first_levels;
    builder->level_room = LEVELS_FIRST;
    builder->ref_count = builder->depth = builder->filled = builder->scratch_room = 0;
    builder->filling = 0;
    builder->scratch = NULL;
    /* Without memory keys are just not remembered. */
    builder->keys = value->len >= KEYS_TEXT_MIN ? calloc(KEYS, sizeof *builder->keys) : NULL;
}

/* Drops what is left, about so many references; whether that was all. */
static bool drop(struct literal_builder *builder, size_t budget)
{
    for (size_t i = 0; builder->keys != NULL && i < KEYS; i++) {
        heap_decref(builder->heap, builder->keys[i].key);
    }
    free(builder->keys);
    builder->keys = NULL;
    for (; budget > 0 && builder->ref_count > 0; budget--) {
        heap_decref(builder->heap, builder->refs[--builder->ref_count]);
    }
    if (builder->ref_count == 0) {
        heap_decref(builder->heap, builder->filling);
        builder->filling = 0;
    }
    return builder->ref_count == 0;
}

static void fini(struct literal_builder *builder)
{
    if (builder->refs != builder->first_refs) {
        free(builder->refs);
    }
    if (builder->levels != builder->first_levels) {
        free(builder->levels);
    }
    free(builder->scratch);
}

bool literal_read_plain(heap_ref *obj, struct heap *heap, const struct json_value *value, struct literal_error *error)
{
    struct literal_builder builder;
    enum literal_progress progress;
    init(&builder, heap, value);
    do {
        progress = run(&builder, UINT32_MAX, error);
    } while (progress == LITERAL_GOES_ON);
    if (progress == LITERAL_DONE) {
        *obj = builder.refs[--builder.ref_count];
    }
    drop(&builder, SIZE_MAX);
    fini(&builder);
    return progress == LITERAL_DONE;
}

/* ---- in slices ---- */

struct literal_builder *literal_builder_create(struct heap *heap, const struct json_value *value)
{
    struct literal_builder *builder = malloc(sizeof *builder);
    if (builder != NULL) {
        init(builder, heap, value);
    }
    return builder;
}

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

enum literal_progress literal_builder_step(heap_ref *obj, struct literal_builder *builder, uint32_t budget_us,
                                           struct literal_error *error)
{
    uint64_t end = now_ns() + (uint64_t)budget_us * 1000;
    enum literal_progress progress;
    do {
        progress = run(builder, VALUES_PER_LOOK, error);
    } while (progress == LITERAL_GOES_ON && now_ns() < end);
    if (progress == LITERAL_DONE) {
        *obj = builder->refs[--builder->ref_count];
    }
    return progress;
}

bool literal_builder_drop(struct literal_builder *builder, uint32_t budget_us)
{
    uint64_t end = now_ns() + (uint64_t)budget_us * 1000;
    bool is_done;
    do {
        is_done = drop(builder, VALUES_PER_LOOK);
    } while (!is_done && now_ns() < end);
    return is_done;
}

void literal_builder_destroy(struct literal_builder *builder)
{
    fini(builder);
    free(builder);
}
