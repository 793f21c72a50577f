/* literal_write.c -- an object as a literal, as `get` answers it.
 *
 * A walk in the order of the text with an explicit stack of open containers.  What stands in place of a
 * container that is reached:
 *
 *   itself           depth and nesting allow it and this answer has not written it before
 *   {"$ref": ID}     otherwise, and for every class but the object asked for
 *   {"$label": ..}   with sharing, if literal_share.c has given it a label
 *
 * A container with one reference that is reached through an edge cannot be reached a second time, so only
 * the others are remembered, and the object asked for.  Memory is bounded by the limit of the answer: each
 * remembered container has written something.
 *
 * In slices (struct literal_writer) the GIL is given away between two children.  Then counts of references may change
 * meanwhile, so every container is remembered, in a watch of the heap's, which says when one has been changed.
 *
 * Start at literal_write(), then step() and write_container().
 */
#include <math.h>
#include <stdlib.h>
#include <time.h>

#include "base64.h"
#include "literal_graph.h"

/* A container whose text has begun and not ended. */
struct open {
    struct literal_children children;
    int64_t depth;    /* how many containers may be written out below it */
    unsigned nesting; /* brackets open around its children */
    bool plain;       /* a dict written as a plain JSON object */
    bool first;       /* no child was written yet */
    bool unopened;    /* a long dict of which it is being looked at whether it is plain; `children` says how far */
};

#define OPEN_FIRST 16

struct writer {
    struct out *out;
    struct heap *heap;
    const struct literal_format *format;
    struct literal_error *error;
    const struct literal_share *share; /* NULL: repeats are `$ref` */
    heap_ref root;                     /* the object asked for */
    size_t start;                      /* of the answer in `out` */
    struct literal_map written;        /* containers that were written out and could be met again */
    struct heap_watch *watch;          /* in slices: all that were written out; else NULL */
    size_t left;                       /* children before the slice looks at the clock */
    struct open *stack;
    size_t depth, room;
    struct open first_stack[OPEN_FIRST]; /* where `stack` starts */
};

/* ---- errors ---- */

static bool too_large(struct writer *writer)
{
    return literal_fail(writer->error, LITERAL_OUTPUT,
                        "the answer would be larger than --max-output; ask with less depth");
}

/* Whether all is well so far and `more` bytes may follow. */
static bool has_room(struct writer *writer, size_t more)
{
    const struct out *out = writer->out;
    if (out->failed) {
        return out->too_long ? too_large(writer) : literal_fail_memory(writer->error);
    }
    size_t max = writer->format->max_bytes, used = out->len - writer->start;
    return max == 0 || (used <= max && more <= max - used) || too_large(writer);
}

/* ---- walking containers ---- */

heap_ref literal_children_next(struct literal_children *children, const struct heap *heap)
{
    heap_ref child = 0;
    switch (children->type) {
    case HEAP_T_LIST:
    case HEAP_T_TUPLE:
        if (children->pos < heap_seq_len(heap, children->container)) {
            child = heap_seq_item(heap, children->container, children->pos++);
        }
        break;
    case HEAP_T_DICT:
        children->is_key = children->value == 0;
        if (!children->is_key) {
            child = children->value;
            children->value = 0;
        } else {
            (void)heap_dict_next(heap, children->container, &children->pos, &child, &children->value);
        }
        break;
    case HEAP_T_SET:
    case HEAP_T_FROZENSET:
        children->is_key = true;
        (void)heap_set_next(heap, children->container, &children->pos, &child);
        break;
    case HEAP_T_INSTANCE:
        (void)heap_attr_next(heap, children->container, &children->pos, &children->name, &child);
        break;
    default:
        break;
    }
    return child;
}

/* Whether a dict with this key may be written as a plain JSON object. */
static inline bool is_plain_key(const struct heap *heap, heap_ref key)
{
    if (heap_type(heap, key) != HEAP_T_STR) {
        return false;
    }
    size_t len;
    const char *text = heap_text(heap, key, &len);
    return len == 0 || *text != '$';
}

bool literal_is_plain_dict(const struct heap *heap, heap_ref dict)
{
    uint32_t pos = 0;
    heap_ref key, value;
    while (heap_dict_next(heap, dict, &pos, &key, &value)) {
        if (!is_plain_key(heap, key)) {
            return false;
        }
    }
    return true;
}

#define LEVELS_PLAIN 1 /* of a plain dict */
#define LEVELS_MAX 3   /* no container has more brackets of its own */

/* Of a container of that type; of a dict that is not plain. */
static unsigned levels_of_type(enum heap_type type)
{
    switch (type) {
    case HEAP_T_LIST:
        return 1;
    case HEAP_T_DICT:
        return LEVELS_MAX; /* {"$dict":[[ */
    default:
        return 2; /* {"$tuple":[, {"$instance":1,"attrs":{, {"$class":"A","slots":[, {"$weakref":{"$label" */
    }
}

unsigned literal_levels(const struct heap *heap, heap_ref container)
{
    enum heap_type type = heap_type(heap, container);
    return type == HEAP_T_DICT && literal_is_plain_dict(heap, container) ? LEVELS_PLAIN : levels_of_type(type);
}

/* Brackets that an object needs at least. */
static unsigned least_levels(const struct heap *heap, heap_ref obj)
{
    int64_t small;
    switch (heap_type(heap, obj)) {
    case HEAP_T_NONE:
    case HEAP_T_BOOL:
    case HEAP_T_STR:
        return 0;
    case HEAP_T_INT:
        return !heap_int_value(&small, heap, obj);
    case HEAP_T_FLOAT:
        return !isfinite(heap_float_value(heap, obj));
    default: /* {"$ref":..}, {"$bytes":..}; the empty tuple is written out */
        return heap_is_container(heap, obj) || heap_type(heap, obj) == HEAP_T_BYTES ? 1 : 2;
    }
}

/* No child needs more brackets than these. */
#define LEAST_LEVELS_MAX 2

bool literal_fits(const struct heap *heap, heap_ref container, unsigned nesting, unsigned max_nesting)
{
    if (nesting + LEVELS_MAX + LEAST_LEVELS_MAX <= max_nesting) {
        return true;
    }
    unsigned around = nesting + literal_levels(heap, container);
    if (around + LEAST_LEVELS_MAX <= max_nesting || around > max_nesting) {
        return around <= max_nesting;
    }
    struct literal_children children = literal_children_of(heap, container);
    for (heap_ref child = literal_children_next(&children, heap); child != 0;
         child = literal_children_next(&children, heap)) {
        if (around + least_levels(heap, child) > max_nesting) {
            return false;
        }
    }
    return true;
}

/* ---- what stands for a value ---- */

static bool write_ref(struct writer *writer, heap_ref obj)
{
    uint64_t id;
    enum heap_error error = heap_id(&id, writer->heap, obj);
    if (error != HEAP_OK) {
        return literal_fail_heap(writer->error, error);
    }
    out_text(writer->out, "{\"$ref\":");
    out_u64(writer->out, id);
    out_char(writer->out, '}');
    return true;
}

static bool write_label(struct writer *writer, uint32_t label)
{
    out_text(writer->out, "{\"$label\":\"");
    out_u64(writer->out, label);
    out_text(writer->out, "\"}");
    return true;
}

static bool write_text(struct writer *writer, heap_ref str)
{
    size_t len;
    const char *text = heap_text(writer->heap, str, &len);
    if (!has_room(writer, len)) {
        return false;
    }
    out_json_string(writer->out, text, len);
    return true;
}

static bool write_bytes(struct writer *writer, heap_ref bytes)
{
    struct out *out = writer->out;
    size_t n;
    const char *data = heap_text(writer->heap, bytes, &n);
    size_t len = base64_encoded_len(n);
    if (!has_room(writer, len)) {
        return false;
    }
    out_text(out, "{\"$bytes\":\"");
    if (out_reserve(out, len)) {
        base64_encode(out->data + out->len, data, n);
        out->len += len;
    }
    out_text(out, "\"}");
    return true;
}

static void write_int(struct writer *writer, heap_ref obj)
{
    int64_t value;
    if (heap_int_value(&value, writer->heap, obj)) {
        out_i64(writer->out, value);
        return;
    }
    char digits[HEAP_INT_DIGITS_MAX];
    size_t len = heap_int_digits(writer->heap, obj, digits);
    out_text(writer->out, "{\"$int\":\"");
    out_bytes(writer->out, digits, len);
    out_text(writer->out, "\"}");
}

static void write_float(struct writer *writer, heap_ref obj)
{
    double value = heap_float_value(writer->heap, obj);
    if (isfinite(value)) {
        out_double(writer->out, value);
    } else {
        out_text(writer->out, isnan(value) ? "{\"$float\":\"nan\"}"
                              : value > 0  ? "{\"$float\":\"inf\"}"
                                           : "{\"$float\":\"-inf\"}");
    }
}

static bool write_atom(struct writer *writer, heap_ref obj)
{
    struct heap *heap = writer->heap;
    switch (heap_type(heap, obj)) {
    case HEAP_T_NONE:
        out_text(writer->out, "null");
        return true;
    case HEAP_T_BOOL:
        out_text(writer->out, heap_bool_value(heap, obj) ? "true" : "false");
        return true;
    case HEAP_T_INT:
        write_int(writer, obj);
        return true;
    case HEAP_T_FLOAT:
        write_float(writer, obj);
        return true;
    case HEAP_T_STR:
        return write_text(writer, obj);
    case HEAP_T_BYTES:
        return write_bytes(writer, obj);
    default:
        out_text(writer->out, "{\"$tuple\":[]}");
        return true;
    }
}

static bool write_class(struct writer *writer, heap_ref class)
{
    struct out *out = writer->out;
    const struct heap *heap = writer->heap;
    const char *name = heap_class_name(heap, class);
    out_text(out, "{\"$class\":");
    out_json_string(out, name, strlen(name));
    if (heap_class_has_slots(heap, class)) {
        uint32_t count = heap_class_slot_count(heap, class);
        out_text(out, ",\"slots\":[");
        for (uint32_t i = 0; i < count && has_room(writer, 0); i++) {
            const char *slot = heap_class_slot(heap, class, i);
            out_text(out, i > 0 ? "," : "");
            out_json_string(out, slot, strlen(slot));
        }
        out_char(out, ']');
    }
    out_char(out, '}');
    return has_room(writer, 0);
}

static bool write_weakref(struct writer *writer, heap_ref weakref)
{
    struct out *out = writer->out;
    heap_ref target = heap_weakref_target(writer->heap, weakref);
    if (target == 0) {
        out_text(out, "{\"$weakref\":null}");
        return true;
    }
    const struct share_node *node = writer->share ? literal_share_find(writer->share, target) : NULL;
    out_text(out, "{\"$weakref\":");
    if (node) {
        write_label(writer, node->label);
    } else {
        uint64_t id;
        enum heap_error error = heap_id(&id, writer->heap, target);
        if (error != HEAP_OK) {
            return literal_fail_heap(writer->error, error);
        }
        out_u64(out, id);
    }
    out_char(out, '}');
    return true;
}

/* ---- containers ---- */

static bool write_opening(struct writer *writer, heap_ref obj, bool plain)
{
    struct out *out = writer->out;
    uint64_t id;
    enum heap_error error;
    switch (heap_type(writer->heap, obj)) {
    case HEAP_T_LIST:
        out_char(out, '[');
        return true;
    case HEAP_T_TUPLE:
        out_text(out, "{\"$tuple\":[");
        return true;
    case HEAP_T_SET:
        out_text(out, "{\"$set\":[");
        return true;
    case HEAP_T_FROZENSET:
        out_text(out, "{\"$frozenset\":[");
        return true;
    case HEAP_T_DICT:
        out_text(out, plain ? "{" : "{\"$dict\":[");
        return true;
    default: /* an instance */
        error = heap_id(&id, writer->heap, heap_instance_class(writer->heap, obj));
        if (error != HEAP_OK) {
            return literal_fail_heap(writer->error, error);
        }
        out_text(out, "{\"$instance\":");
        out_u64(out, id);
        out_text(out, ",\"attrs\":{");
        return true;
    }
}

static const char *closing_of(const struct open *open)
{
    switch (open->children.type) {
    case HEAP_T_LIST:
        return "]";
    case HEAP_T_DICT:
        return open->plain ? "}" : open->first ? "]}" : "]]}";
    case HEAP_T_INSTANCE:
        return "}}";
    default:
        return "]}";
    }
}

/* In slices a dict with more entries is looked at in pieces. */
#define LOOKED_AT_WHOLE 1024u

/* Looks at keys of the innermost container, a long dict, until it is known whether it is plain; then writes what stands
 * before its children. */
static bool go_on_opening(struct writer *writer)
{
    const struct heap *heap = writer->heap;
    struct open *open = &writer->stack[writer->depth - 1];
    struct literal_children *children = &open->children;
    while (open->unopened && writer->left > 0) {
        heap_ref key = 0, value;
        writer->left--;
        if (!heap_dict_next(heap, children->container, &children->pos, &key, &value)) {
            open->unopened = false;
        } else if (!is_plain_key(heap, key)) {
            open->unopened = open->plain = false;
        }
    }
    if (open->unopened) {
        return true;
    }
    children->pos = 0;
    open->nesting += open->plain ? LEVELS_PLAIN : LEVELS_MAX;
    return write_opening(writer, children->container, open->plain);
}

/* Writes a container out; its children follow in step(). */
static bool open_container(struct writer *writer, heap_ref obj, int64_t depth, unsigned nesting)
{
    enum heap_type type = heap_type(writer->heap, obj);
    if (type == HEAP_T_WEAKREF) {
        return write_weakref(writer, obj);
    }
    if (type == HEAP_T_CLASS) {
        return write_class(writer, obj);
    }
    if (!LITERAL_GROW(writer->stack, writer->first_stack, writer->room, writer->depth)) {
        return literal_fail_memory(writer->error);
    }
    struct open *open = &writer->stack[writer->depth++];
    *open = (struct open){
        .children = {.container = obj, .type = type}, .depth = depth - 1, .nesting = nesting, .first = true};
    if (writer->watch != NULL && type == HEAP_T_DICT && heap_dict_len(writer->heap, obj) > LOOKED_AT_WHOLE) {
        open->unopened = open->plain = true;
        return true;
    }
    open->plain = type == HEAP_T_DICT && literal_is_plain_dict(writer->heap, obj);
    open->nesting += open->plain ? LEVELS_PLAIN : levels_of_type(type);
    return write_opening(writer, obj, open->plain);
}

/* In slices: the container is looked into. */
static bool note_read(struct writer *writer, heap_ref obj)
{
    return writer->watch == NULL || heap_watch_add(writer->watch, obj) || literal_fail_memory(writer->error);
}

/* What has too many brackets for its place is not written, but was looked into: that is not remembered, so in slices
 * the writer must give up. */
static bool write_unfit(struct writer *writer, heap_ref obj)
{
    return writer->watch == NULL ? write_ref(writer, obj) : literal_fail(writer->error, LITERAL_CHANGED, "");
}

/* A container that is a child. */
static bool write_container(struct writer *writer, heap_ref obj, const struct open *in)
{
    struct heap *heap = writer->heap;
    if (writer->share) {
        const struct share_node *node = literal_share_find(writer->share, obj);
        if (!node) {
            return write_ref(writer, obj);
        }
        return node->label != PLAN_NONE ? write_label(writer, node->label)
                                        : open_container(writer, obj, in->depth, in->nesting);
    }
    bool could_repeat = writer->watch == NULL && (heap_refcount(heap, obj) != 1 || obj == writer->root);
    if (in->depth <= 0 || heap_type(heap, obj) == HEAP_T_CLASS ||
        (could_repeat && literal_map_find(&writer->written, obj)) ||
        (writer->watch != NULL && heap_watch_has(writer->watch, obj))) {
        return write_ref(writer, obj);
    }
    if (!literal_fits(heap, obj, in->nesting, writer->format->max_nesting)) {
        return write_unfit(writer, obj);
    }
    if (could_repeat && !literal_map_put(&writer->written, obj, 0)) {
        return literal_fail_memory(writer->error);
    }
    return note_read(writer, obj) && open_container(writer, obj, in->depth, in->nesting);
}

static bool write_child(struct writer *writer, heap_ref obj, const struct open *in)
{
    return heap_is_container(writer->heap, obj) ? write_container(writer, obj, in) : write_atom(writer, obj);
}

/* What stands before a child: commas, brackets of pairs, an attribute's name. */
static void write_separator(struct writer *writer, struct open *open)
{
    struct out *out = writer->out;
    const struct literal_children *children = &open->children;
    if (children->type == HEAP_T_DICT && !children->is_key) {
        out_char(out, open->plain ? ':' : ',');
        return;
    }
    if (children->type == HEAP_T_DICT && !open->plain) {
        out_text(out, open->first ? "[" : "],[");
    } else if (!open->first) {
        out_char(out, ',');
    }
    open->first = false;
    if (children->type == HEAP_T_INSTANCE) {
        out_json_string(out, children->name, strlen(children->name));
        out_char(out, ':');
    }
}

/* Writes children of the innermost open container until one opens a container, none is left, or it is time to look at
 * the clock. */
static bool step(struct writer *writer)
{
    size_t depth = writer->depth;
    if (writer->stack[depth - 1].unopened) {
        return go_on_opening(writer);
    }
    for (; writer->depth == depth && writer->left > 0; writer->left--) {
        struct open *open = &writer->stack[depth - 1];
        heap_ref child = literal_children_next(&open->children, writer->heap);
        if (child == 0) {
            out_text(writer->out, closing_of(open));
            writer->depth--;
            return has_room(writer, 0);
        }
        write_separator(writer, open);
        struct open in = *open; /* the stack may move */
        if (!write_child(writer, child, &in) || !has_room(writer, 0)) {
            return false;
        }
    }
    return true;
}

/* Until all is written, or it is time to look at the clock. */
static bool run(struct writer *writer)
{
    while (writer->depth > 0 && writer->left > 0) {
        if (!step(writer)) {
            return false;
        }
    }
    return has_room(writer, 0);
}

/* ---- the whole ---- */

static int64_t depth_of(const struct literal_format *format)
{
    return format->depth < 0 ? INT64_MAX : format->depth;
}

/* {"$let":{"0":..},"in":..} */
static bool write_let(struct writer *writer, heap_ref obj)
{
    const struct literal_share *share = writer->share;
    out_text(writer->out, "{\"$let\":{");
    for (size_t i = 0; i < share->label_count; i++) {
        out_text(writer->out, i > 0 ? ",\"" : "\"");
        out_u64(writer->out, i);
        out_text(writer->out, "\":");
        const struct share_node *node = &share->nodes[share->labels[i]];
        if (!open_container(writer, node->obj, INT64_MAX, node->nesting) || !run(writer)) {
            return false;
        }
    }
    out_text(writer->out, "},\"in\":");
    struct open in = {.nesting = share->nodes[0].nesting};
    if (!write_container(writer, obj, &in) || !run(writer)) {
        return false;
    }
    out_char(writer->out, '}');
    return has_room(writer, 0);
}

/* The object asked for, repeats as `$ref`. */
static bool write_plain(struct writer *writer, heap_ref obj)
{
    int64_t depth = depth_of(writer->format);
    if (depth == 0) {
        return write_ref(writer, obj);
    }
    if (!literal_fits(writer->heap, obj, 0, writer->format->max_nesting)) {
        return write_unfit(writer, obj);
    }
    if (writer->watch == NULL && !literal_map_put(&writer->written, obj, 0)) {
        return literal_fail_memory(writer->error);
    }
    return note_read(writer, obj) && open_container(writer, obj, depth, 0) && run(writer);
}

static bool write_shared(struct writer *writer, heap_ref obj)
{
    struct literal_share share;
    bool good = literal_share_make(&share, writer->heap, obj, writer->format, writer->error);
    if (good && share.label_count > 0) {
        writer->share = &share;
        good = write_let(writer, obj);
        writer->share = NULL;
    } else if (good) {
        good = write_plain(writer, obj);
    }
    literal_share_fini(&share);
    return good;
}

static void init(struct writer *writer, struct out *out, struct heap *heap, const struct literal_format *format,
                 struct literal_error *error)
{
    writer->out = out;
    writer->heap = heap;
    writer->format = format;
    writer->error = error;
    writer->share = NULL;
    writer->root = 0;
    writer->start = out->len;
    writer->written = (struct literal_map){0};
    writer->watch = NULL;
    writer->left = SIZE_MAX;
    writer->stack = writer->first_stack;
    writer->depth = 0;
    writer->room = OPEN_FIRST;
}

static void fini(struct writer *writer)
{
    literal_map_fini(&writer->written);
    if (writer->stack != writer->first_stack) {
        free(writer->stack);
    }
}

/* Writes the object, or in slices begins to. */
static bool begin(struct writer *writer, heap_ref obj)
{
    const struct literal_format *format = writer->format;
    writer->root = obj;
    if (!heap_is_container(writer->heap, obj)) {
        return write_atom(writer, obj) && has_room(writer, 0);
    }
    if (format->shared_let && format->depth != 0 && heap_type(writer->heap, obj) != HEAP_T_CLASS) {
        return write_shared(writer, obj);
    }
    return write_plain(writer, obj) && has_room(writer, 0);
}

bool literal_write(struct out *out, struct heap *heap, heap_ref obj, const struct literal_format *format,
                   struct literal_error *error)
{
    struct writer writer;
    init(&writer, out, heap, format, error);
    bool good = begin(&writer, obj);
    fini(&writer);
    if (!good) {
        out_truncate(out, writer.start);
    }
    return good;
}

/* ---- in slices ---- */

#define CHILDREN_PER_LOOK 64u

struct literal_writer {
    struct writer writer;
    struct literal_format format;
    bool has_begun;
};

struct literal_writer *literal_writer_create(struct out *out, struct heap *heap, const struct literal_format *format)
{
    struct literal_writer *own = malloc(sizeof *own);
    struct heap_watch *watch = own != NULL ? heap_watch_create(heap) : NULL;
    if (watch == NULL) {
        free(own);
        return NULL;
    }
    own->format = *format;
    own->format.shared_let = false;
    own->has_begun = false;
    init(&own->writer, out, heap, &own->format, NULL);
    own->writer.watch = watch;
    return own;
}

void literal_writer_destroy(struct literal_writer *own)
{
    heap_watch_destroy(own->writer.watch);
    fini(&own->writer);
    free(own);
}

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

enum literal_progress literal_writer_step(struct literal_writer *own, heap_ref obj, uint32_t budget_us,
                                          struct literal_error *error)
{
    struct writer *writer = &own->writer;
    uint64_t end = now_ns() + (uint64_t)budget_us * 1000;
    bool good = !own->has_begun || heap_watch_wake(writer->watch) || literal_fail(error, LITERAL_CHANGED, "");
    writer->error = error;
    do {
        writer->left = CHILDREN_PER_LOOK;
        good = good && (own->has_begun ? run(writer) : begin(writer, obj));
        own->has_begun = true;
    } while (good && writer->depth > 0 && now_ns() < end);
    if (!good) {
        out_truncate(writer->out, writer->start);
        return LITERAL_FAILED;
    }
    if (writer->depth > 0) {
        heap_watch_rest(writer->watch);
        return LITERAL_GOES_ON;
    }
    return LITERAL_DONE;
}
