/* journal_snapshot.c -- the heap written down as it was at one moment, in slices, while requests go on.
 *
 * First what is of the moment itself, then objects in any order, then the end:
 *
 *   {"heapd":"snapshot","version":2,"heap":"6f1d..","number":2,"before":4711,"generations":32}  as that of a journal
 *   {"immortal":3,"value":null,"names":["n"]}              an atom that never dies and was given an id, 3
 *   {"effect":"leased",..}                                 a session with a lease, as in a journal
 *   {"effect":"kept","ids":[21,2]}                         gc.garbage, in its order
 *   {"held":17,"session":3,"holds":2}                      what a session holds, and how often
 *   {"list":17,"len":3,"items":[5,[18],[0,77]]}            a container: its id, what it refers to in order; so a "tuple"
 *   {"dict":18,"len":1,"items":["key",[17]]}               keys and values by turns
 *   {"set":19,"len":2,"items":[1,[0,77]]}                  a "frozenset", too
 *   {"class":20,"name":"Point","slots":["x","y"]}          without slots: instances have any attributes
 *   {"instance":22,"class":20,"attrs":{"x":[17]}}          values are items
 *   {"weakref":23,"target":22,"shared":true}               dead without a target; shared: the one that is given again
 *   {"atom":77,"id":21,"value":"text","interned":true}     an atom that more than one thing refers to, or that has an id
 *   {"end":4096}                                           so many bytes are in front of this line; nothing follows
 *
 * An item is `[ID]`, a container; `[0,LABEL]`, an atom with a line of its own; `[]`, the empty tuple; else the literal of
 * an atom that nothing else refers to.  The labels are places in the memory of the daemon that wrote them, and mean
 * nothing else.  A str among the keys of a dict, and nowhere else, is interned unless it has a label.
 *
 * The line of an object with an id may go on with
 *
 *   "names":["a","b"]                                      what it is bound to
 *   "finalizer":{"session":3,"token":"t","resurrect_as":"a","clear":true}    session 0: of none; what it has not is left out
 *   "finalized":true                                       it has run
 *
 * An object that is about to change is written before it does (heap.h: heap_snapshot_begin()), so lines come from
 * whoever changes something, too; all of them hold the GIL.  An atom gets a label when it is met and has more than one
 * reference: as long as two containers of the moment refer to it, neither has been changed without being written first.
 *
 * Start at on_object() and rpc_snapshot_step().
 */
#include "journal_line.h"
#include "literal.h"
#include "rpc_internal.h"

#include <stdlib.h>
#include <sys/mman.h>

/* A bit for each place that an atom can have. */
#define LABELS (UINT64_C(1) << 31)
#define LABEL_BYTES (LABELS / 8)

struct rpc_snapshot {
    struct rpc_service *service;
    struct heap *heap;
    struct heap_snapshot *walk;
    struct out lines;   /* that are to be written */
    struct out line;    /* of the container in hand */
    uint64_t *labelled; /* atoms that have a line; address space, used as far as it is touched */
    uint64_t *nameless; /* atoms that had no id at t0, as far as they were met: they may have one by now */
    uint64_t written;   /* bytes that the host has taken */
    bool is_failed;
};

/* ---- what stands in several kinds of lines ---- */

static void add_u64(struct out *out, const char *name, uint64_t value)
{
    out_text(out, name);
    out_u64(out, value);
}

static void write_atom(struct rpc_snapshot *snapshot, struct out *out, heap_ref atom)
{
    const struct literal_format format = {.depth = 1, .max_nesting = 4};
    struct literal_error error;
    if (!literal_write(out, snapshot->heap, atom, &format, &error)) {
        out->failed = true;
    }
}

struct name_list {
    struct out *out;
    bool has_begun;
};

static void write_name(void *arg, const char *name, size_t len)
{
    struct name_list *list = arg;
    out_text(list->out, list->has_begun ? "," : ",\"names\":[");
    out_json_string(list->out, name, len);
    list->has_begun = true;
}

static void add_text(struct out *out, const char *name, const struct heap_text *text)
{
    if (text->text != NULL) {
        out_text(out, name);
        out_json_string(out, text->text, text->len);
    }
}

/* What an object with an id may have besides its content, and the end of its line. */
static void write_rest(struct rpc_snapshot *snapshot, struct out *out, heap_ref obj)
{
    struct name_list names = {.out = out};
    struct heap_finalizer finalizer;
    heap_names_of(snapshot->heap, obj, write_name, &names);
    if (names.has_begun) {
        out_char(out, ']');
    }
    if (heap_finalizer_get(&finalizer, snapshot->heap, obj)) {
        add_u64(out, ",\"finalizer\":{\"session\":", finalizer.session);
        add_text(out, ",\"token\":", &finalizer.token);
        add_text(out, ",\"resurrect_as\":", &finalizer.resurrect_as);
        out_text(out, finalizer.clear ? ",\"clear\":true}" : "}");
    }
    out_text(out, heap_is_finalized(snapshot->heap, obj) ? ",\"finalized\":true}" : "}");
}

/* ---- atoms ---- */

static uint64_t label_of(heap_ref atom)
{
    return atom & (LABELS - 1);
}

static bool is_marked(const uint64_t *marks, heap_ref atom)
{
    return (marks[label_of(atom) / 64] >> label_of(atom) % 64 & 1) != 0;
}

static void mark(uint64_t *marks, heap_ref atom)
{
    marks[label_of(atom) / 64] |= UINT64_C(1) << label_of(atom) % 64;
}

/* The id that the atom had at t0: who is about to get one is shown first. */
static uint64_t id_of_atom(const struct rpc_snapshot *snapshot, heap_ref atom)
{
    return is_marked(snapshot->nameless, atom) ? 0 : heap_id_if_any(snapshot->heap, atom);
}

/* The line of an atom, once. */
static void write_atom_line(struct rpc_snapshot *snapshot, heap_ref atom)
{
    struct out *out = &snapshot->lines;
    uint64_t label = label_of(atom), id = id_of_atom(snapshot, atom);
    if (is_marked(snapshot->labelled, atom)) {
        return;
    }
    mark(snapshot->labelled, atom);
    size_t start = line_begin(out);
    add_u64(out, "{\"atom\":", label);
    if (id != 0) {
        add_u64(out, ",\"id\":", id);
    }
    out_text(out, ",\"value\":");
    write_atom(snapshot, out, atom);
    out_text(out, heap_is_interned(snapshot->heap, atom) ? ",\"interned\":true" : "");
    if (id != 0) {
        write_rest(snapshot, out, atom);
    } else {
        out_char(out, '}');
    }
    line_end(out, start);
}

static bool is_interned_str(const struct rpc_snapshot *snapshot, heap_ref atom)
{
    return heap_type(snapshot->heap, atom) == HEAP_T_STR && heap_is_interned(snapshot->heap, atom);
}

/* Whether the atom is written where it stands. */
static bool is_inline(const struct rpc_snapshot *snapshot, heap_ref atom, bool is_key)
{
    const struct heap *heap = snapshot->heap;
    if (heap_is_immortal(heap, atom)) {
        return true;
    }
    bool is_str = heap_type(heap, atom) == HEAP_T_STR;
    if (is_str && is_key != is_interned_str(snapshot, atom)) {
        return false;
    }
    if (is_str && is_key) {
        return true;
    }
    return heap_refcount(heap, atom) == 1 && id_of_atom(snapshot, atom) == 0 &&
           !is_marked(snapshot->labelled, atom);
}

static void write_item(struct rpc_snapshot *snapshot, heap_ref item, bool is_key)
{
    struct out *out = &snapshot->line;
    if (heap_is_container(snapshot->heap, item)) {
        add_u64(out, "[", heap_id_if_any(snapshot->heap, item));
        out_char(out, ']');
    } else if (item == heap_empty_tuple(snapshot->heap)) {
        out_text(out, "[]");
    } else if (is_inline(snapshot, item, is_key)) {
        write_atom(snapshot, out, item);
    } else {
        write_atom_line(snapshot, item);
        add_u64(out, "[0,", label_of(item));
        out_char(out, ']');
    }
}

/* ---- containers ---- */

static const char *kind_word(enum heap_type type)
{
    return type == HEAP_T_CLASS ? "class" : type == HEAP_T_INSTANCE ? "instance" : heap_builtin_name(type);
}

static void write_items(struct rpc_snapshot *snapshot, heap_ref seq)
{
    struct out *out = &snapshot->line;
    uint32_t len = heap_seq_len(snapshot->heap, seq);
    add_u64(out, ",\"len\":", len);
    out_text(out, ",\"items\":[");
    for (uint32_t i = 0; i < len; i++) {
        if (i > 0) {
            out_char(out, ',');
        }
        write_item(snapshot, heap_seq_item(snapshot->heap, seq, i), false);
    }
    out_char(out, ']');
}

static void write_dict(struct rpc_snapshot *snapshot, heap_ref dict)
{
    struct out *out = &snapshot->line;
    uint32_t pos = 0;
    heap_ref key, value;
    const char *before = "";
    add_u64(out, ",\"len\":", heap_dict_len(snapshot->heap, dict));
    out_text(out, ",\"items\":[");
    while (heap_dict_next(snapshot->heap, dict, &pos, &key, &value)) {
        out_text(out, before);
        write_item(snapshot, key, true);
        out_char(out, ',');
        write_item(snapshot, value, false);
        before = ",";
    }
    out_char(out, ']');
}

static void write_set(struct rpc_snapshot *snapshot, heap_ref set)
{
    struct out *out = &snapshot->line;
    uint32_t pos = 0;
    heap_ref member;
    const char *before = "";
    add_u64(out, ",\"len\":", heap_set_len(snapshot->heap, set));
    out_text(out, ",\"items\":[");
    while (heap_set_next(snapshot->heap, set, &pos, &member)) {
        out_text(out, before);
        write_item(snapshot, member, false);
        before = ",";
    }
    out_char(out, ']');
}

static void write_class(struct rpc_snapshot *snapshot, heap_ref class)
{
    struct out *out = &snapshot->line;
    const char *name = heap_class_name(snapshot->heap, class);
    out_text(out, ",\"name\":");
    out_json_string(out, name, strlen(name));
    if (heap_class_has_slots(snapshot->heap, class)) {
        out_text(out, ",\"slots\":[");
        for (uint32_t i = 0; i < heap_class_slot_count(snapshot->heap, class); i++) {
            const char *slot = heap_class_slot(snapshot->heap, class, i);
            out_text(out, i > 0 ? "," : "");
            out_json_string(out, slot, strlen(slot));
        }
        out_char(out, ']');
    }
}

static void write_instance(struct rpc_snapshot *snapshot, heap_ref instance)
{
    struct out *out = &snapshot->line;
    uint32_t pos = 0;
    const char *name, *before = "";
    heap_ref value;
    add_u64(out, ",\"class\":", heap_id_if_any(snapshot->heap, heap_instance_class(snapshot->heap, instance)));
    out_text(out, ",\"attrs\":{");
    while (heap_attr_next(snapshot->heap, instance, &pos, &name, &value)) {
        out_text(out, before);
        out_json_string(out, name, strlen(name));
        out_char(out, ':');
        write_item(snapshot, value, false);
        before = ",";
    }
    out_char(out, '}');
}

static void write_weakref(struct rpc_snapshot *snapshot, heap_ref weakref)
{
    struct out *out = &snapshot->line;
    heap_ref target = heap_weakref_target_of(snapshot->heap, weakref);
    if (target != 0) {
        add_u64(out, ",\"target\":", heap_id_if_any(snapshot->heap, target));
        out_text(out, heap_weakref_is_shared(snapshot->heap, weakref) ? ",\"shared\":true" : "");
    }
}

static void write_content(struct rpc_snapshot *snapshot, heap_ref obj, enum heap_type type)
{
    switch (type) {
    case HEAP_T_LIST:
    case HEAP_T_TUPLE:
        write_items(snapshot, obj);
        break;
    case HEAP_T_DICT:
        write_dict(snapshot, obj);
        break;
    case HEAP_T_SET:
    case HEAP_T_FROZENSET:
        write_set(snapshot, obj);
        break;
    case HEAP_T_CLASS:
        write_class(snapshot, obj);
        break;
    case HEAP_T_INSTANCE:
        write_instance(snapshot, obj);
        break;
    case HEAP_T_WEAKREF:
        write_weakref(snapshot, obj);
        break;
    default: /* atoms have lines of their own */
        break;
    }
}

static void on_object(void *arg, heap_ref obj)
{
    struct rpc_snapshot *snapshot = arg;
    struct out *line = &snapshot->line;
    uint64_t id = heap_id_if_any(snapshot->heap, obj);
    enum heap_type type = heap_type(snapshot->heap, obj);
    if (!heap_is_container(snapshot->heap, obj)) {
        if (id != 0) {
            write_atom_line(snapshot, obj);
        } else {
            mark(snapshot->nameless, obj);
        }
        return;
    }
    out_truncate(line, 0);
    size_t start = line_begin(line);
    out_text(line, "{\"");
    out_text(line, kind_word(type));
    add_u64(line, "\":", id);
    write_content(snapshot, obj, type);
    write_rest(snapshot, line, obj);
    line_end(line, start);
    snapshot->is_failed |= line->failed;
    out_bytes(&snapshot->lines, line->data == NULL ? "" : line->data, line->len);
}

/* ---- what belongs to the moment itself ---- */

static void on_immortal(void *arg, heap_ref obj)
{
    struct rpc_snapshot *snapshot = arg;
    struct out *out = &snapshot->lines;
    uint64_t id = heap_id_if_any(snapshot->heap, obj);
    if (id == 0) {
        return;
    }
    size_t start = line_begin(out);
    add_u64(out, "{\"immortal\":", id);
    out_text(out, ",\"value\":");
    write_atom(snapshot, out, obj);
    write_rest(snapshot, out, obj);
    line_end(out, start);
}

static bool on_hold(void *arg, uint64_t session, uint64_t id, uint64_t holds)
{
    struct rpc_snapshot *snapshot = arg;
    struct out *out = &snapshot->lines;
    size_t start = line_begin(out);
    add_u64(out, "{\"held\":", id);
    add_u64(out, ",\"session\":", session);
    add_u64(out, ",\"holds\":", holds);
    out_char(out, '}');
    line_end(out, start);
    return !out->failed;
}

static void write_leases(struct rpc_snapshot *snapshot)
{
    struct out *out = &snapshot->lines;
    for (struct rpc_session *session = snapshot->service->book.first; session != NULL; session = session->next) {
        if (session->token[0] == '\0') {
            continue;
        }
        size_t start = line_begin(out);
        line_write_lease(out, session);
        line_end(out, start);
    }
}

static void write_garbage(struct rpc_snapshot *snapshot)
{
    struct journal_runs runs;
    struct out *out = &snapshot->lines;
    uint64_t len = heap_garbage_len(snapshot->heap);
    if (len == 0) {
        return;
    }
    runs_init(&runs);
    for (uint64_t i = 0; i < len; i++) {
        runs_add(&runs, heap_id_if_any(snapshot->heap, heap_garbage_item(snapshot->heap, i)));
    }
    size_t start = line_begin(out);
    out_text(out, "{\"effect\":\"kept\",\"ids\":");
    runs_write(out, &runs);
    out_char(out, '}');
    line_end(out, start);
    runs_fini(&runs);
}

/* The journal's file begins first: the header says what was in front of it.  Sessions that go on are known to that file by
 * what they hold. */
static bool write_moment(struct rpc_snapshot *snapshot, uint64_t number)
{
    if (!journal_begin_file(snapshot->service, number)) {
        return false;
    }
    line_write_header(&snapshot->lines, snapshot->service, "snapshot", number, false);
    heap_each_immortal(snapshot->heap, on_immortal, snapshot);
    write_leases(snapshot);
    write_garbage(snapshot);
    return heap_each_hold(snapshot->heap, on_hold, snapshot) && !snapshot->lines.failed;
}

/* ---- for the host ---- */

static void destroy(struct rpc_snapshot *snapshot)
{
    if (snapshot->labelled != MAP_FAILED) {
        munmap(snapshot->labelled, 2 * LABEL_BYTES);
    }
    out_fini(&snapshot->lines);
    out_fini(&snapshot->line);
    free(snapshot);
}

static struct rpc_snapshot *create(struct rpc_service *service)
{
    struct rpc_snapshot *snapshot = calloc(1, sizeof(*snapshot));
    if (snapshot == NULL) {
        return NULL;
    }
    snapshot->service = service;
    snapshot->heap = service->heap;
    out_init(&snapshot->lines, 0);
    out_init(&snapshot->line, 0);
    snapshot->labelled =
        mmap(NULL, 2 * LABEL_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (snapshot->labelled == MAP_FAILED) {
        destroy(snapshot);
        return NULL;
    }
    snapshot->nameless = snapshot->labelled + LABELS / 64;
    return snapshot;
}

struct rpc_snapshot *rpc_snapshot_begin(struct rpc_service *service, uint64_t number, const _Atomic bool *cancel)
{
    struct rpc_snapshot *snapshot = create(service);
    if (snapshot == NULL) {
        return NULL;
    }
    pthread_mutex_lock(&service->walk_mutex); /* one walk at a time */
    if (heap_enter_still(service->heap, cancel)) {
        snapshot->walk = service->journal.is_on ? heap_snapshot_begin(service->heap, on_object, snapshot) : NULL;
        if (snapshot->walk != NULL && !write_moment(snapshot, number)) {
            heap_snapshot_end(snapshot->walk);
            snapshot->walk = NULL;
        }
        heap_leave(service->heap);
    }
    if (snapshot->walk == NULL) {
        pthread_mutex_unlock(&service->walk_mutex);
        destroy(snapshot);
        return NULL;
    }
    return snapshot;
}

enum rpc_snapshot_progress rpc_snapshot_step(struct rpc_snapshot *snapshot, char **bytes, size_t *len)
{
    heap_enter(snapshot->heap);
    bool is_done = heap_snapshot_step(snapshot->walk);
    if (is_done) {
        struct out *out = &snapshot->lines;
        uint64_t before = snapshot->written + out->len;
        size_t start = line_begin(out);
        add_u64(out, "{\"end\":", before);
        out_char(out, '}');
        line_end(out, start);
    }
    bool is_failed = snapshot->is_failed || snapshot->lines.failed;
    *bytes = snapshot->lines.data;
    *len = snapshot->lines.len;
    snapshot->written += *len;
    out_init(&snapshot->lines, 0);
    heap_leave(snapshot->heap);
    return is_failed ? RPC_SNAPSHOT_FAILED : is_done ? RPC_SNAPSHOT_DONE : RPC_SNAPSHOT_GOES_ON;
}

void rpc_snapshot_end(struct rpc_snapshot *snapshot)
{
    heap_enter(snapshot->heap);
    heap_snapshot_end(snapshot->walk);
    heap_leave(snapshot->heap);
    pthread_mutex_unlock(&snapshot->service->walk_mutex);
    destroy(snapshot);
}
