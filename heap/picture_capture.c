/* picture_capture.c -- what is copied of one object, while the GIL is held: as little as will do.
 *
 *   [ ref count bytes type id | edges .. | what the labels need .. ]     a record, in a chunk
 *
 * Lists, tuples, dicts and sets are one memcpy of their references, holes and deleted entries with them;
 * those are left out when the record is put in order, outside of the GIL.
 * Names of classes and attributes are copied, because they may be gone before anybody reads them: each text
 * once, found by its symbol's number.  That number means one text to all objects of the moment: as long as
 * one that has it is not copied, it keeps the symbol.
 * Start at picture_capture().
 */
#include "picture.h"

#include "edges.h"

#define CHUNK_BYTES (1u << 20)
#define RECORD_ALIGN 8u
/* With a journal an atom without an id gets none, because no replay could repeat that; it is called by its place, and no
 * id is as large. */
#define ATOM_WITHOUT_ID (UINT64_C(1) << 52)

/* ---- room ---- */

struct picture_chunk *picture_chunk_create(size_t bytes)
{
    size_t room = bytes > CHUNK_BYTES ? bytes : CHUNK_BYTES;
    struct picture_chunk *chunk = malloc(sizeof *chunk + room);
    if (chunk != NULL) {
        *chunk = (struct picture_chunk){.room = room};
    }
    return chunk;
}

/* A chunk with room for `bytes` becomes the last.  false: no memory. */
static bool add_chunk(struct heap_picture *picture, size_t bytes)
{
    struct picture_chunk *chunk = picture->spare;
    if (chunk != NULL && chunk->room >= bytes) {
        picture->spare = NULL;
    } else {
        chunk = picture_chunk_create(bytes);
    }
    if (chunk == NULL) {
        return false;
    }
    if (picture->last != NULL) {
        picture->last->next = chunk;
    } else {
        picture->chunks = chunk;
    }
    picture->last = chunk;
    return true;
}

static size_t record_bytes(uint64_t words)
{
    size_t bytes = sizeof(struct picture_record) + words * sizeof(uint32_t);
    return (bytes + RECORD_ALIGN - 1) & ~(size_t)(RECORD_ALIGN - 1);
}

/* Room for a record with so many words behind its head; NULL: no memory, which is noted.  It is taken by
 * record_take(), which may take less. */
static struct picture_record *record_room(struct heap_picture *picture, uint64_t words)
{
    struct picture_chunk *chunk = picture->last;
    size_t bytes = record_bytes(words);
    if (chunk == NULL || chunk->room - chunk->used < bytes) {
        if (!add_chunk(picture, bytes)) {
            picture->error = HEAP_MEMORY;
            return NULL;
        }
        chunk = picture->last;
    }
    return (struct picture_record *)(chunk->data + chunk->used / sizeof chunk->data[0]);
}

static void record_take(struct heap_picture *picture, uint64_t words)
{
    picture->last->used += record_bytes(words);
}

/* ---- labels ---- */

static bool grow_symbols(struct picture_labels *labels, uint32_t symbol)
{
    if (symbol < labels->symbols) {
        return true;
    }
    uint32_t room = symbol + symbol / 2 + 64;
    uint32_t *by_symbol = realloc(labels->by_symbol, room * sizeof *by_symbol);
    if (by_symbol == NULL) {
        return false;
    }
    memset(by_symbol + labels->symbols, 0, (room - labels->symbols) * sizeof *by_symbol);
    labels->by_symbol = by_symbol;
    labels->symbols = room;
    return true;
}

/* Appends a text.  false: no memory, or more than a label can say. */
static bool append_text(struct picture_labels *labels, const char *text, size_t bytes)
{
    if (labels->used + bytes >= UINT32_MAX) {
        return false;
    }
    if (labels->used + bytes > labels->room) {
        size_t room = (labels->used + bytes) * 2;
        char *texts = realloc(labels->texts, room);
        if (texts == NULL) {
            return false;
        }
        labels->texts = texts;
        labels->room = room;
    }
    memcpy(labels->texts + labels->used, text, bytes);
    labels->used += bytes;
    return true;
}

/* The label of a symbol; 0, with the error noted, when there is no memory. */
static uint32_t label_of_symbol(struct heap_picture *picture, struct heap *heap, uint32_t number)
{
    struct picture_labels *labels = &picture->labels;
    const struct symbol *symbol = symbol_at(heap, number);
    if (!grow_symbols(labels, number)) {
        picture->error = HEAP_MEMORY;
        return 0;
    }
    if (labels->by_symbol[number] != 0) {
        return labels->by_symbol[number] - 1;
    }
    uint32_t label = (uint32_t)labels->used;
    if (!append_text(labels, symbol->text, symbol->len + 1)) {
        picture->error = HEAP_MEMORY;
        return 0;
    }
    labels->by_symbol[number] = label + 1;
    return label;
}

/* ---- copying, by type: each fills what lies behind the head and returns how many words that is ---- */

static bool has_labels(const struct heap_picture *picture)
{
    return picture->what & HEAP_PICTURE_LABELS;
}

/* Whether the record of such a type keeps its references beside its edges. */
static bool keeps_refs(const struct heap_picture *picture, unsigned type)
{
    return has_labels(picture) && (type == HEAP_T_DICT || type == HEAP_T_TUPLE || type == HEAP_T_FROZENSET);
}

/* list, tuple, dict, set, frozenset */
static struct picture_record *copy_refs(struct heap_picture *picture, const struct edges *edges,
                                        unsigned type)
{
    uint64_t words = (uint64_t)edges->count * (keeps_refs(picture, type) ? 2 : 1);
    struct picture_record *record = record_room(picture, words);
    if (record != NULL) {
        if (edges->count > 0) {
            memcpy(record->edges, edges->refs, (size_t)edges->count * sizeof(uint32_t));
        }
        record->count = edges->count;
        record_take(picture, words);
    }
    return record;
}

/* Values that are set, then the class; then the labels of the values. */
static struct picture_record *copy_instance(struct heap_picture *picture, struct heap *heap,
                                            const struct instance *i)
{
    const struct shape *shape = shape_at(heap, instance_shape(i));
    struct edges edges = instance_edges(heap, i);
    struct picture_record *record = record_room(picture, (uint64_t)edges.count * 2 + 1);
    if (record == NULL) {
        return NULL;
    }
    uint32_t count = 0;
    uint32_t *labels = record->edges + edges.count + 1;
    for (uint32_t k = 0; k < edges.count; k++) {
        if (edges.refs[k] != 0) {
            if (has_labels(picture)) {
                labels[count] = label_of_symbol(picture, heap, shape->symbols[k]);
            }
            record->edges[count++] = edges.refs[k];
        }
    }
    record->edges[count++] = edges.extra;
    record->count = count;
    if (has_labels(picture)) {
        memmove(record->edges + count, labels, (count - 1) * sizeof *labels);
    }
    record_take(picture, has_labels(picture) ? 2 * count - 1 : count);
    return record;
}

/* A record without edges and one word behind its head. */
static struct picture_record *copy_word(struct heap_picture *picture, uint32_t word)
{
    struct picture_record *record = record_room(picture, 1);
    if (record != NULL) {
        record->count = 0;
        record->edges[0] = word;
        record_take(picture, 1);
    }
    return record;
}

static uint32_t atom_words(uint32_t kept)
{
    return (uint32_t)(sizeof(struct picture_atom) + kept + 3) / 4;
}

static struct picture_record *copy_content(struct heap_picture *picture, const void *bytes, uint32_t kept,
                                           uint32_t total)
{
    struct picture_record *record = record_room(picture, atom_words(kept));
    if (record != NULL) {
        record->count = 0;
        struct picture_atom *atom = (struct picture_atom *)record->edges;
        *atom = (struct picture_atom){.kept = kept, .total = total};
        memcpy(atom->text, bytes, kept);
        record_take(picture, atom_words(kept));
    }
    return record;
}

static struct picture_record *copy_big_int(struct heap_picture *picture, struct heap *heap, uint32_t ref)
{
    char digits[HEAP_INT_DIGITS_MAX];
    uint32_t len = (uint32_t)heap_int_digits(heap, ref, digits);
    return copy_content(picture, digits, len < PICTURE_TEXT_BYTES ? len : PICTURE_TEXT_BYTES, len);
}

static struct picture_record *copy_atom(struct heap_picture *picture, struct heap *heap, uint32_t ref)
{
    const struct object *o = object_at(heap, ref);
    if (!has_labels(picture)) {
        struct picture_record *record = record_room(picture, 0);
        if (record != NULL) {
            record->count = 0;
            record_take(picture, 0);
        }
        return record;
    }
    if (o->type == HEAP_T_STR || o->type == HEAP_T_BYTES) {
        const struct text *t = (const struct text *)o;
        return copy_content(picture, text_bytes(t),
                            text_len(t) < PICTURE_TEXT_BYTES ? text_len(t) : PICTURE_TEXT_BYTES, text_len(t));
    }
    if (o->type == HEAP_T_INT && (o->flags & FLAG_BIG)) {
        return copy_big_int(picture, heap, ref);
    }
    return copy_content(picture, &((const struct number *)o)->value, sizeof(int64_t), 0);
}

static struct picture_record *copy_object(struct heap_picture *picture, struct heap *heap, uint32_t ref)
{
    const struct object *o = object_at(heap, ref);
    if (ref_is_atom(ref)) {
        return copy_atom(picture, heap, ref);
    }
    switch ((enum heap_type)o->type) {
    case HEAP_T_INSTANCE:
        return copy_instance(picture, heap, (const struct instance *)o);
    case HEAP_T_CLASS:
        return copy_word(picture, label_of_symbol(picture, heap, info_of(heap, ref)->name));
    case HEAP_T_WEAKREF:
        return copy_word(picture, ((const struct weakref *)o)->target);
    default: {
        struct edges edges = object_edges(heap, (const struct container *)o);
        return copy_refs(picture, &edges, o->type);
    }
    }
}

void picture_capture(struct visit *visit, struct heap *heap, uint32_t ref)
{
    struct heap_picture *picture = (struct heap_picture *)visit;
    uint64_t id = 0;
    if (picture->error != HEAP_OK) {
        return;
    }
    uint32_t slot = handle_slot_if_any(heap, ref);
    if (slot == 0 && ref_is_atom(ref) && heap->lasting.is_on) {
        id = has_labels(picture) ? ATOM_WITHOUT_ID | ref : 0;
    } else if (has_labels(picture) || slot != 0) {
        picture->error = heap_id(&id, heap, ref);
    }
    if (slot != 0 && handle_roots(heap, slot) > 0) {
        picture_roots_copy_names(picture, ref);
    }
    struct picture_record *record = picture->error == HEAP_OK ? copy_object(picture, heap, ref) : NULL;
    if (record != NULL) {
        record->ref = ref;
        record->type = object_at(heap, ref)->type;
        record->bytes = heap_sizeof(heap, ref);
        record->id = id;
        record->had_id = slot != 0;
    }
}

/* ---- putting in order ---- */

/* Leaves holes and deleted entries out.  Of a dict a key that is 0 takes its value along; a value of 0
 * stays. */
static uint32_t squeeze(uint32_t *refs, uint32_t count, bool is_dict)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t decides = is_dict ? refs[i & ~1u] : refs[i];
        if (decides != 0) {
            refs[kept++] = refs[i];
        }
    }
    return kept;
}

static void order_refs(struct heap_picture *picture, struct picture_record *record)
{
    record->count = squeeze(record->edges, record->count, record->type == HEAP_T_DICT);
    if (keeps_refs(picture, record->type) && record->count > 0) {
        memcpy(record->edges + record->count, record->edges, (size_t)record->count * sizeof(uint32_t));
    }
}

size_t picture_record_order(struct heap_picture *picture, struct picture_record *record)
{
    uint64_t words = record->count;
    if (record->ref & REF_ATOM) {
        words = has_labels(picture) ? atom_words(picture_atom_of(record)->kept) : 0;
    } else if (record->type == HEAP_T_CLASS) {
        words = 1;
    } else if (record->type == HEAP_T_WEAKREF) {
        words = 1;
        record->edges[0] = picture_node(picture, record->edges[0]);
    } else if (record->type == HEAP_T_INSTANCE) {
        words += has_labels(picture) ? record->count - 1 : 0;
    } else {
        words += keeps_refs(picture, record->type) ? record->count : 0;
        order_refs(picture, record);
    }
    for (uint32_t k = 0; k < record->count; k++) {
        record->edges[k] = picture_node(picture, record->edges[k]);
    }
    return record_bytes(words);
}

/* ---- reading ---- */

const struct picture_atom *picture_atom_of(const struct picture_record *record)
{
    return (const struct picture_atom *)record->edges;
}

const uint32_t *picture_refs_of(const struct picture_record *record)
{
    return record->edges + record->count;
}

const char *picture_label_of(const struct heap_picture *picture, const struct picture_record *record,
                             uint32_t k)
{
    return picture->labels.texts + record->edges[record->count + k];
}

const char *picture_class_name(const struct heap_picture *picture, const struct picture_record *record)
{
    return picture->labels.texts + record->edges[0];
}
