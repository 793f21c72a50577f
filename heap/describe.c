/* describe.c -- objects and references in words, for people: `'key'`, `[3]`, `<list 17 len 3>`.
 *
 * Atoms are told as Python's repr has them, tuples item by item down to a few levels, other containers by
 * type, id and length; in a dict's key frozensets are spelled out as well.  What is told comes from the heap
 * (heap_repr()) or from a picture (heap_picture_text()): the two look_..() functions read either into a
 * struct described, and the rest writes that.
 *
 * A text that does not fit its buffer is cut behind a whole character and ends in three dots.
 * Characters above ASCII are shown, but for the blank and invisible ones and those for private use; Python,
 * which knows the whole Unicode table, also escapes what is not assigned.
 * Start at describe().
 */
#include "picture.h"

#include "edges.h"

#include <inttypes.h>
#include <stdarg.h>

#define LEVELS_MAX 4u /* of tuples and frozensets that are spelled out */
#define ITEMS_MAX 32u /* of one */

/* ---- a text that is cut ---- */

#define DOTS "..."
#define DOTS_LEN 3u

struct out {
    char *text;
    size_t size; /* of the buffer; more than DOTS_LEN */
    size_t len;
    bool is_cut; /* ends in dots; takes no more */
};

/* Appends all of it, or cuts the text here. */
static void put(struct out *out, const char *text, size_t len)
{
    if (out->is_cut) {
        return;
    }
    if (out->len + len + DOTS_LEN >= out->size) {
        text = DOTS;
        len = DOTS_LEN;
        out->is_cut = true;
    }
    memcpy(out->text + out->len, text, len);
    out->len += len;
    out->text[out->len] = '\0';
}

static void put_text(struct out *out, const char *text)
{
    put(out, text, strlen(text));
}

__attribute__((format(printf, 2, 3))) static void put_format(struct out *out, const char *format, ...)
{
    char text[128];
    va_list args;
    va_start(args, format);
    int len = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    put(out, text, (size_t)len);
}

/* The content is not all there. */
static void put_dots(struct out *out)
{
    put(out, DOTS, DOTS_LEN);
    out->is_cut = true;
}

/* ---- str and bytes ---- */

/* Bytes of the UTF-8 sequence that begins so. */
static unsigned sequence_bytes(unsigned char first)
{
    return first < 0x80 ? 1 : first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4;
}

static uint32_t decode(const char *text, unsigned bytes)
{
    static const unsigned char masks[5] = {0, 0x7F, 0x1F, 0x0F, 0x07};
    uint32_t code = (unsigned char)text[0] & masks[bytes];
    for (unsigned i = 1; i < bytes; i++) {
        code = code << 6 | ((unsigned char)text[i] & 0x3F);
    }
    return code;
}

/* Blank or invisible, or for private use: Python writes it as an escape. */
static bool is_escaped(uint32_t code)
{
    static const struct {
        uint32_t first, last;
    } ranges[] = {
        {0x00, 0x1F},     {0x7F, 0xA0},     {0xAD, 0xAD},       {0x600, 0x605},      {0x61C, 0x61C},
        {0x6DD, 0x6DD},   {0x70F, 0x70F},   {0x1680, 0x1680},   {0x180E, 0x180E},    {0x2000, 0x200F},
        {0x2028, 0x202F}, {0x205F, 0x206F}, {0x3000, 0x3000},   {0xD800, 0xF8FF},    {0xFEFF, 0xFEFF},
        {0xFFF0, 0xFFFB}, {0xFFFE, 0xFFFF}, {0xE0000, 0xE00FF}, {0xE01F0, 0x10FFFF},
    };
    for (unsigned i = 0; i < sizeof ranges / sizeof ranges[0]; i++) {
        if (code >= ranges[i].first && code <= ranges[i].last) {
            return true;
        }
    }
    return false;
}

static void put_escape(struct out *out, uint32_t code)
{
    switch (code) {
    case '\n':
        put_text(out, "\\n");
        break;
    case '\r':
        put_text(out, "\\r");
        break;
    case '\t':
        put_text(out, "\\t");
        break;
    default:
        put_format(out,
                   code < 0x100     ? "\\x%02" PRIx32
                   : code < 0x10000 ? "\\u%04" PRIx32
                                    : "\\U%08" PRIx32,
                   code);
        break;
    }
}

/* One character of `bytes` bytes, between quotes of that kind. */
static void put_character(struct out *out, const char *text, unsigned bytes, uint32_t code, char quote)
{
    if (code == (unsigned char)quote || code == '\\') {
        char pair[2] = {'\\', *text};
        put(out, pair, 2);
    } else if (is_escaped(code)) {
        put_escape(out, code);
    } else {
        put(out, text, bytes);
    }
}

static void put_quoted(struct out *out, const char *text, size_t len, bool is_bytes, bool is_cut)
{
    bool has_single = memchr(text, '\'', len) != NULL, has_double = memchr(text, '"', len) != NULL;
    char quote = has_single && !has_double ? '"' : '\'';
    put(out, &quote, 1);
    for (size_t i = 0; i < len && !out->is_cut;) {
        unsigned bytes = is_bytes ? 1 : sequence_bytes((unsigned char)text[i]);
        if (i + bytes > len) {
            break; /* what was kept ends within a character */
        }
        uint32_t code = is_bytes ? (unsigned char)text[i] : decode(text + i, bytes);
        if (is_bytes && code >= 0x80) {
            put_escape(out, code);
        } else {
            put_character(out, text + i, bytes, code, quote);
        }
        i += bytes;
    }
    if (is_cut) {
        put_dots(out);
    }
    put(out, &quote, 1);
}

/* ---- float ---- */

/* The fewest digits that read back as `value`, which is finite and not below 0, without point; the value is
 * 0.DIGITS times ten to *point.  Simple rather than fast: a number takes some 700 ns. */
static void shortest_digits(char digits[20], int *point, double value)
{
    char text[40];
    int precision = value < 2.3e-308 ? 1 : 15; /* every number of 15 digits is its own; not so the denormal */
    do {
        snprintf(text, sizeof text, "%.*e", precision - 1, value);
    } while (strtod(text, NULL) != value && ++precision <= 17);
    char *end = strchr(text, 'e');
    *point = atoi(end + 1) + 1;
    size_t len = 0;
    for (const char *at = text; at < end; at++) {
        if (*at >= '0' && *at <= '9') {
            digits[len++] = *at;
        }
    }
    while (len > 1 && digits[len - 1] == '0') {
        len--;
    }
    digits[len] = '\0';
}

static void put_float(struct out *out, double value)
{
    if (value != value) {
        put_text(out, "nan");
        return;
    }
    if (__builtin_signbit(value)) {
        put_text(out, "-");
        value = -value;
    }
    if (value > 1.7976931348623157e308) {
        put_text(out, "inf");
        return;
    }
    char digits[20];
    int point;
    shortest_digits(digits, &point, value);
    int len = (int)strlen(digits);
    if (value != 0 && (point > 16 || point < -3)) {
        put_format(out, len > 1 ? "%c.%se%c%02d" : "%c%se%c%02d", digits[0], digits + 1,
                   point > 0 ? '+' : '-', point > 0 ? point - 1 : 1 - point);
    } else if (point <= 0) {
        put_format(out, "0.%.*s%s", -point, "000", digits);
    } else if (point >= len) {
        put_format(out, "%s%.*s.0", digits, point - len, "0000000000000000");
    } else {
        put_format(out, "%.*s.%s", point, digits, digits + point);
    }
}

/* ---- objects ---- */

/* What there is to tell of one. */
struct described {
    enum heap_type type;
    const char *type_name;
    const char *class_name; /* of a class */
    uint64_t id;            /* of a container; 0: told without */
    uint64_t len;           /* of a container that has one */
    union {
        int64_t i;
        double f;
    } number;
    const char *text; /* of a str or bytes; digits of a large int, else NULL */
    size_t text_len;
    bool is_cut;           /* there is more of it */
    bool is_dead;          /* a weakref without target */
    const uint32_t *items; /* references, of a tuple and a frozenset; deleted members are 0 */
    uint64_t item_count;
};

/* Where it comes from: the heap, or with `picture` that. */
struct source {
    struct heap *heap;
    const struct heap_picture *picture;
    bool is_key; /* what is told is a dict's key */
    char digits[HEAP_INT_DIGITS_MAX];
};

static void look_at_atom(struct described *is, struct source *source, uint32_t ref)
{
    const struct object *o = object_at(source->heap, ref);
    if (is->type == HEAP_T_STR || is->type == HEAP_T_BYTES) {
        is->text = text_bytes((const struct text *)o);
        is->text_len = text_len((const struct text *)o);
    } else if (is->type == HEAP_T_INT && (o->flags & FLAG_BIG)) {
        is->text_len = heap_int_digits(source->heap, ref, source->digits);
        is->text = source->digits;
    } else {
        is->number.i = ((const struct number *)o)->value.i;
    }
}

/* Whether what it refers to is told, not its id. */
static bool is_spelled(const struct described *is, const struct source *source)
{
    return is->type == HEAP_T_TUPLE || (is->type == HEAP_T_FROZENSET && source->is_key);
}

static void look_in_heap(struct described *is, struct source *source, uint32_t ref)
{
    struct heap *heap = source->heap;
    *is = (struct described){.type = heap_type(heap, ref), .type_name = heap_type_name(heap, ref)};
    if (ref_is_atom(ref)) {
        look_at_atom(is, source, ref);
    } else if (ref != heap->empty_tuple) { /* an immortal, without anything to look at; perhaps there is no GIL */
        if (is->type == HEAP_T_TUPLE || is->type == HEAP_T_FROZENSET) {
            struct edges edges = object_edges(heap, (const struct container *)object_at(heap, ref));
            is->items = edges.refs;
            is->item_count = edges.count;
        }
        is->len = is->type == HEAP_T_DICT ? heap_dict_len(heap, ref) : heap_referent_count(heap, ref);
        is->class_name = is->type == HEAP_T_CLASS ? heap_class_name(heap, ref) : NULL;
        is->is_dead = is->type == HEAP_T_WEAKREF && ((const struct weakref *)object_at(heap, ref))->target == 0;
        if (!is_spelled(is, source) && heap_id(&is->id, heap, ref) != HEAP_OK) {
            is->id = 0;
        }
    }
}

static void look_at_copied_atom(struct described *is, const struct picture_record *record)
{
    const struct picture_atom *atom = picture_atom_of(record);
    if (is->type == HEAP_T_STR || is->type == HEAP_T_BYTES || atom->total > 0) {
        is->text = atom->text;
        is->text_len = atom->kept;
        is->is_cut = atom->kept < atom->total;
    } else {
        memcpy(&is->number, atom->text, sizeof is->number);
    }
}

static void look_in_picture(struct described *is, struct source *source, uint32_t node)
{
    const struct picture_record *record = picture_record(source->picture, node);
    struct heap_node told;
    heap_picture_node(&told, source->picture, node);
    *is = (struct described){
        .type = told.type, .type_name = told.type_name, .id = told.id, .len = told.edge_count};
    if (record->ref & REF_ATOM) {
        look_at_copied_atom(is, record);
    } else if (is->type == HEAP_T_TUPLE || is->type == HEAP_T_FROZENSET) {
        is->items = picture_refs_of(record);
        is->item_count = told.edge_count;
    } else if (is->type == HEAP_T_DICT) {
        is->len /= 2;
    } else if (is->type == HEAP_T_CLASS) {
        is->class_name = picture_class_name(source->picture, record);
    } else {
        is->is_dead = is->type == HEAP_T_WEAKREF && told.target == HEAP_NO_NODE;
    }
}

/* Immortals are in no picture; they never change, so they are read where they are. */
static void look(struct described *is, struct source *source, uint32_t ref)
{
    uint32_t node = source->picture != NULL ? picture_node(source->picture, ref) : HEAP_NO_NODE;
    if (node != HEAP_NO_NODE) {
        look_in_picture(is, source, node);
    } else {
        look_in_heap(is, source, ref);
    }
}

static void put_atom(struct out *out, const struct described *is)
{
    switch (is->type) {
    case HEAP_T_NONE:
        put_text(out, "None");
        break;
    case HEAP_T_BOOL:
        put_text(out, is->number.i != 0 ? "True" : "False");
        break;
    case HEAP_T_FLOAT:
        put_float(out, is->number.f);
        break;
    case HEAP_T_BYTES:
        put_text(out, "b");
        put_quoted(out, is->text, is->text_len, true, is->is_cut);
        break;
    case HEAP_T_STR:
        put_quoted(out, is->text, is->text_len, false, is->is_cut);
        break;
    default: /* int */
        if (is->text == NULL) {
            put_format(out, "%" PRId64, is->number.i);
        } else {
            for (size_t i = 0; i < is->text_len; i++) {
                put(out, is->text + i, 1); /* digit by digit, so that as many as fit are there */
            }
            if (is->is_cut) {
                put_dots(out);
            }
        }
        break;
    }
}

/* `<list 17 len 3>`, `<Point 5>`, `<class Point 4>`, `<weakref 9 dead>` */
static void put_container(struct out *out, const struct described *is)
{
    put_text(out, "<");
    put_text(out, is->class_name != NULL ? "class " : is->type_name);
    if (is->class_name != NULL) {
        put_text(out, is->class_name);
    }
    if (is->id != 0) {
        put_format(out, " %" PRIu64, is->id);
    }
    if (is->type != HEAP_T_INSTANCE && is->type != HEAP_T_CLASS && is->type != HEAP_T_WEAKREF) {
        put_format(out, " len %" PRIu64, is->len);
    }
    put_text(out, is->is_dead ? " dead>" : ">");
}

/* Tuples and frozensets whose items are being told. */
struct level {
    const uint32_t *items;
    uint64_t count, at;
    unsigned told;
    bool is_set;
};

/* Writes an object; of what is spelled only the beginning, and the new level to go on with.  Returns the
 * levels. */
static unsigned put_object(struct out *out, const struct described *is, const struct source *source,
                           struct level *levels, unsigned depth)
{
    bool is_atom = is->type <= HEAP_T_BYTES, is_set = is->type == HEAP_T_FROZENSET;
    if (is_atom) {
        put_atom(out, is);
    } else if (!is_spelled(is, source)) {
        put_container(out, is);
    } else if (depth == LEVELS_MAX) {
        put_text(out, is_set ? "frozenset(...)" : "(...)");
    } else if (is_set && is->len == 0) {
        put_text(out, "frozenset()");
    } else {
        put_text(out, is_set ? "frozenset({" : "(");
        levels[depth++] = (struct level){.items = is->items, .count = is->item_count, .is_set = is_set};
    }
    return depth;
}

static void put_end(struct out *out, const struct level *level)
{
    bool is_single = level->count == 1 && !level->is_set;
    put_text(out, level->at < level->count ? ", ..." : is_single ? "," : "");
    put_text(out, level->is_set ? "})" : ")");
}

/* The next item of the innermost level, or its end.  Returns the levels. */
static unsigned put_item(struct out *out, struct source *source, struct level *levels, unsigned depth)
{
    struct level *level = &levels[depth - 1];
    while (level->is_set && level->at < level->count && level->items[level->at] == 0) {
        level->at++;
    }
    if (level->at == level->count || level->told == ITEMS_MAX) {
        put_end(out, level);
        return depth - 1;
    }
    put_text(out, level->told++ > 0 ? ", " : "");
    uint32_t ref = level->items[level->at++];
    if (ref == 0) {
        put_text(out, "<hole>"); /* of a literal that is being built */
        return depth;
    }
    struct described is;
    look(&is, source, ref);
    return put_object(out, &is, source, levels, depth);
}

static void describe(struct out *out, struct source *source, const struct described *first)
{
    struct level levels[LEVELS_MAX];
    unsigned depth = put_object(out, first, source, levels, 0);
    while (depth > 0 && !out->is_cut) {
        depth = put_item(out, source, levels, depth);
    }
}

/* ---- the public face ---- */

static size_t tell(char *text, size_t size, struct source *source, const struct described *is)
{
    struct out out = {.text = text, .size = size};
    HEAP_ASSERT(size > DOTS_LEN);
    text[0] = '\0';
    describe(&out, source, is);
    return out.len;
}

size_t heap_repr(char *text, size_t size, struct heap *heap, heap_ref obj)
{
    GIL_ASSERT_HELD(heap);
    struct source source;
    source.heap = heap;
    source.picture = NULL;
    source.is_key = false;
    struct described is;
    look(&is, &source, obj);
    return tell(text, size, &source, &is);
}

size_t heap_picture_text(char *text, size_t size, const struct heap_picture *picture, uint32_t i)
{
    HEAP_ASSERT(picture->what & HEAP_PICTURE_LABELS);
    struct source source;
    source.heap = picture->heap;
    source.picture = picture;
    source.is_key = false;
    struct described is;
    look_in_picture(&is, &source, i);
    return tell(text, size, &source, &is);
}

void heap_picture_content(struct heap_text *text, bool *is_cut, const struct heap_picture *picture, uint32_t i)
{
    const struct picture_record *record = picture_record(picture, i);
    HEAP_ASSERT(picture->what & HEAP_PICTURE_LABELS);
    HEAP_ASSERT(record->type == HEAP_T_STR || record->type == HEAP_T_BYTES);
    const struct picture_atom *atom = picture_atom_of(record);
    *text = (struct heap_text){.text = atom->text, .len = atom->kept};
    *is_cut = atom->kept < atom->total;
}

/* ---- edges ---- */

/* `[KEY]`, the key cut so that the bracket is there. */
static size_t put_key(char text[HEAP_EDGE_BYTES], struct source *source, uint32_t key)
{
    struct described is;
    source->is_key = true;
    look(&is, source, key);
    text[0] = '[';
    size_t len = 1 + tell(text + 1, HEAP_EDGE_BYTES - 2, source, &is);
    text[len] = ']';
    text[len + 1] = '\0';
    return len + 1;
}

static size_t put_index(char text[HEAP_EDGE_BYTES], uint32_t i)
{
    return (size_t)snprintf(text, HEAP_EDGE_BYTES, "[%" PRIu32 "]", i);
}

static size_t put_attribute(char text[HEAP_EDGE_BYTES], const char *name)
{
    int len = snprintf(text, HEAP_EDGE_BYTES, ".%s", name);
    return len < (int)HEAP_EDGE_BYTES ? (size_t)len : HEAP_EDGE_BYTES - 1;
}

static size_t put_member(char text[HEAP_EDGE_BYTES])
{
    return (size_t)snprintf(text, HEAP_EDGE_BYTES, "{}");
}

/* The place of `ref` among the edges, of a dict preferably as a value; the count if it is not there. */
static uint32_t find_edge(const struct edges *edges, uint32_t ref, bool is_dict)
{
    uint32_t as_key = edges->count;
    for (uint32_t i = 0; i < edges->count; i++) {
        if (edges->refs[i] == ref) {
            if (!is_dict || i % 2 == 1) {
                return i;
            }
            as_key = i;
        }
    }
    return as_key;
}

static bool instance_edge_name(char text[HEAP_EDGE_BYTES], struct heap *heap, heap_ref instance, heap_ref obj)
{
    const char *name;
    heap_ref value;
    for (uint32_t pos = 0; heap_attr_next(heap, instance, &pos, &name, &value);) {
        if (value == obj) {
            put_attribute(text, name);
            return true;
        }
    }
    if (heap_instance_class(heap, instance) == obj) {
        put_attribute(text, "__class__");
        return true;
    }
    return false;
}

bool heap_edge_name(char text[HEAP_EDGE_BYTES], struct heap *heap, heap_ref container, heap_ref obj)
{
    GIL_ASSERT_HELD(heap);
    enum heap_type type = heap_type(heap, container);
    if (!heap_is_container(heap, container)) {
        return false;
    }
    if (type == HEAP_T_INSTANCE) {
        return instance_edge_name(text, heap, container, obj);
    }
    struct edges edges = object_edges(heap, (const struct container *)object_at(heap, container));
    uint32_t i = find_edge(&edges, obj, type == HEAP_T_DICT);
    if (i == edges.count) {
        return false;
    }
    if (type == HEAP_T_LIST || type == HEAP_T_TUPLE) {
        put_index(text, i);
    } else if (type == HEAP_T_DICT && i % 2 == 1) {
        struct source source;
        source.heap = heap;
        source.picture = NULL;
        put_key(text, &source, edges.refs[i - 1]);
    } else {
        put_member(text);
    }
    return true;
}

size_t heap_picture_edge_name(char text[HEAP_EDGE_BYTES], const struct heap_picture *picture, uint32_t i,
                              uint32_t k)
{
    HEAP_ASSERT(picture->what & HEAP_PICTURE_LABELS);
    const struct picture_record *record = picture_record(picture, i);
    HEAP_ASSERT(k < record->count);
    switch ((enum heap_type)record->type) {
    case HEAP_T_LIST:
    case HEAP_T_TUPLE:
        return put_index(text, k);
    case HEAP_T_DICT:
        if (k % 2 == 1) {
            struct source source;
            source.heap = picture->heap;
            source.picture = picture;
            return put_key(text, &source, picture_refs_of(record)[k - 1]);
        }
        return put_member(text);
    case HEAP_T_INSTANCE:
        return put_attribute(text,
                             k + 1 < record->count ? picture_label_of(picture, record, k) : "__class__");
    default:
        return put_member(text);
    }
}
