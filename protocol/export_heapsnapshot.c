/* export_heapsnapshot.c -- a picture as Chrome DevTools' Memory panel loads it (.heapsnapshot).
 *
 *   node 0        the root, synthetic
 *   node 1        "(heapd roots)", synthetic: of the frozen and of gc.garbage
 *   then          one for each name and session, the user roots, one for the frozen, one for gc.garbage
 *   then          the objects, in the picture's order
 *
 * The loader looks for the members in this order and reads the arrays as runs of digits; edges stand in the
 * order of their nodes, and `to_node` counts fields, not nodes.  Strings come last, each text once.
 *
 * The class column shows a node's name, so an object's node is called by its type, but a str by its text.
 * Types `array` and `hidden` are not used: their size would be added to their owner.  Edges of root nodes are
 * shortcuts, which makes names and sessions the roots of the page, and weakrefs have weak edges.
 *
 * The node of an object has an odd id that node_id() makes of its object id, 2 * ID + 1 in a young heap:
 * equal in later exports of the same object, and unique among those that live.  Roots have even ids.
 * Source: V8's heap snapshot serializer and the loader of DevTools.   Start at export_heapsnapshot().
 */
#include "export.h"

#include "fault.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define NODE_FIELDS 7u
#define TITLE_BYTES (HEAP_NAME_BYTES_MAX + 16u) /* of a root */
#define STR_BYTES 256u                          /* of a str that is cut */

/* Numbers of node_types and edge_types below. */
enum node_type { NODE_STRING = 2, NODE_OBJECT = 3, NODE_NATIVE = 8, NODE_SYNTHETIC = 9 };
enum edge_type { EDGE_ELEMENT = 1, EDGE_PROPERTY = 2, EDGE_INTERNAL = 3, EDGE_SHORTCUT = 5, EDGE_WEAK = 6 };

static const char meta[] =
    "{\"snapshot\":{\"meta\":{\"node_fields\":[\"type\",\"name\",\"id\",\"self_size\",\"edge_count\",\"trace_"
    "node_id\","
    "\"detachedness\"],\"node_types\":[[\"hidden\",\"array\",\"string\",\"object\",\"code\",\"closure\","
    "\"regexp\","
    "\"number\",\"native\",\"synthetic\",\"concatenated string\",\"sliced string\",\"symbol\",\"bigint\","
    "\"object "
    "shape\"],\"string\",\"number\",\"number\",\"number\",\"number\",\"number\"],\"edge_fields\":[\"type\","
    "\"name_or_index\",\"to_node\"],\"edge_types\":[[\"context\",\"element\",\"property\",\"internal\","
    "\"hidden\","
    "\"shortcut\",\"weak\"],\"string_or_number\",\"node\"],\"trace_function_info_fields\":[],\"trace_node_"
    "fields\":[],"
    "\"sample_fields\":[],\"location_fields\":[]},\"node_count\":";

/* ---- strings: each text once ---- */

struct strings {
    struct out bytes; /* all texts, one behind the other */
    size_t *starts;   /* of text i in `bytes`; one more behind the last */
    uint32_t count, room;
    uint32_t *slots; /* hash table of numbers + 1; 0: empty */
    uint32_t mask;
    bool failed; /* no memory */
};

static uint32_t hash_text(const char *text, size_t len)
{
    uint64_t hash = 0xCBF29CE484222325u; /* FNV-1a */
    for (size_t i = 0; i < len; i++) {
        hash = (hash ^ (unsigned char)text[i]) * 0x100000001B3u;
    }
    return (uint32_t)(hash ^ hash >> 32);
}

static uint32_t *find_slot(const struct strings *strings, const char *text, size_t len)
{
    uint32_t i = hash_text(text, len) & strings->mask;
    for (; strings->slots[i] != 0; i = (i + 1) & strings->mask) {
        size_t start = strings->starts[strings->slots[i] - 1], end = strings->starts[strings->slots[i]];
        if (end - start == len && memcmp(strings->bytes.data + start, text, len) == 0) {
            break;
        }
    }
    return &strings->slots[i];
}

/* Room for one more text in both tables. */
static bool strings_grow(struct strings *strings)
{
    uint32_t room = strings->room == 0 ? 1024 : strings->room * 2;
    size_t *starts = realloc(strings->starts, ((size_t)room + 1) * sizeof *starts);
    uint32_t *slots = calloc((size_t)room * 2, sizeof *slots);
    if (starts != NULL) {
        strings->starts = starts;
    }
    if (starts == NULL || slots == NULL) {
        free(slots);
        return false;
    }
    free(strings->slots);
    strings->slots = slots;
    strings->mask = room * 2 - 1;
    strings->room = room;
    for (uint32_t i = 0; i < strings->count; i++) {
        const char *text = strings->bytes.data + starts[i];
        *find_slot(strings, text, starts[i + 1] - starts[i]) = i + 1;
    }
    return true;
}

/* The number of a text; 0 when there is no memory. */
static uint32_t string_number(struct strings *strings, const char *text, size_t len)
{
    if (strings->failed || (strings->count == strings->room && !strings_grow(strings))) {
        strings->failed = true;
        return 0;
    }
    uint32_t *slot = find_slot(strings, text, len);
    if (*slot == 0) {
        out_bytes(&strings->bytes, text, len);
        strings->failed = strings->bytes.failed;
        if (strings->count == 0) {
            strings->starts[0] = 0;
        }
        strings->starts[++strings->count] = strings->bytes.len;
        *slot = strings->count;
    }
    return *slot - 1;
}

static void strings_fini(struct strings *strings)
{
    out_fini(&strings->bytes);
    free(strings->starts);
    free(strings->slots);
}

/* ---- roots as nodes ---- */

/* A user root: one name or session, or all of the frozen, or of gc.garbage. */
struct root_node {
    enum heap_root_kind kind;
    uint64_t session;
    struct heap_text name;
    uint64_t first, count; /* its roots of the picture */
};

struct snapshot {
    struct export_sink *sink;
    const struct heap_picture *picture;
    uint32_t objects; /* nodes of the picture */
    struct root_node *roots;
    uint32_t root_count;
    struct strings strings;
    const char *comma; /* before the next number of an array */
};

/* Roots of one session, of the frozen and of the garbage follow each other in the picture. */
static bool same_root(const struct root_node *node, const struct heap_root *root)
{
    return node->kind == root->kind && root->kind != HEAP_ROOT_NAME &&
           (root->kind != HEAP_ROOT_SESSION || node->session == root->session);
}

static bool collect_roots(struct snapshot *snapshot)
{
    uint64_t n = heap_picture_roots(snapshot->picture), room = 0;
    for (uint64_t i = 0; i < n; i++) {
        struct heap_root root;
        heap_picture_root(&root, snapshot->picture, i);
        struct root_node *last = snapshot->root_count > 0 ? &snapshot->roots[snapshot->root_count - 1] : NULL;
        if (last != NULL && same_root(last, &root)) {
            last->count++;
            continue;
        }
        if (snapshot->root_count == room) {
            room = room == 0 ? 64 : room * 2;
            struct root_node *roots = realloc(snapshot->roots, room * sizeof *roots);
            if (roots == NULL) {
                return false;
            }
            snapshot->roots = roots;
        }
        snapshot->roots[snapshot->root_count++] = (struct root_node){
            .kind = root.kind, .session = root.session, .name = root.name, .first = i, .count = 1};
    }
    return true;
}

/* What a user root is called; returns its length. */
static size_t root_title(char text[TITLE_BYTES], const struct root_node *root)
{
    int len = 0;
    switch (root->kind) {
    case HEAP_ROOT_NAME:
        memcpy(text, "name ", 5);
        memcpy(text + 5, root->name.text, root->name.len); /* may have a NUL in it */
        return 5 + root->name.len;
        break;
    case HEAP_ROOT_SESSION:
        len = snprintf(text, TITLE_BYTES, "session %llu", (unsigned long long)root->session);
        break;
    case HEAP_ROOT_FROZEN:
        len = snprintf(text, TITLE_BYTES, "(frozen)");
        break;
    case HEAP_ROOT_GARBAGE:
        len = snprintf(text, TITLE_BYTES, "(gc.garbage)");
        break;
    }
    return (size_t)len;
}

/* Whether a root's node hangs from "(heapd roots)" rather than from the root itself. */
static bool is_system(const struct root_node *root)
{
    return root->kind == HEAP_ROOT_FROZEN || root->kind == HEAP_ROOT_GARBAGE;
}

/* ---- numbers ---- */

static void number(struct snapshot *snapshot, uint64_t value)
{
    out_text(&snapshot->sink->out, snapshot->comma);
    out_u64(&snapshot->sink->out, value);
    snapshot->comma = ",";
}

static uint32_t text_number(struct snapshot *snapshot, const char *text)
{
    return string_number(&snapshot->strings, text, strlen(text));
}

static void node_row(struct snapshot *snapshot, enum node_type type, uint32_t name, uint64_t id,
                     uint64_t bytes, uint64_t edges)
{
    number(snapshot, type);
    number(snapshot, name);
    number(snapshot, id);
    number(snapshot, bytes);
    number(snapshot, edges);
    number(snapshot, 0);
    number(snapshot, 0);
    out_char(&snapshot->sink->out, '\n');
}

/* `node` counts all nodes of the snapshot. */
static void edge_row(struct snapshot *snapshot, enum edge_type type, uint64_t name_or_index, uint64_t node)
{
    number(snapshot, type);
    number(snapshot, name_or_index);
    number(snapshot, node * NODE_FIELDS);
    out_char(&snapshot->sink->out, '\n');
}

/* The number of an object's node. */
static uint64_t object_node(const struct snapshot *snapshot, uint32_t i)
{
    return 2 + (uint64_t)snapshot->root_count + i;
}

/* ---- nodes ---- */

/* Edges that are written: those to immortals are not. */
static uint64_t count_edges(const struct heap_node *node)
{
    uint64_t count = node->is_weak && node->target != HEAP_NO_NODE;
    for (uint32_t k = 0; k < node->edge_count; k++) {
        count += node->edges[k] != HEAP_NO_NODE;
    }
    return count;
}

static uint64_t count_root_edges(const struct snapshot *snapshot, const struct root_node *root)
{
    uint64_t count = 0;
    for (uint64_t i = 0; i < root->count; i++) {
        struct heap_root one;
        heap_picture_root(&one, snapshot->picture, root->first + i);
        count += one.node != HEAP_NO_NODE;
    }
    return count;
}

static uint32_t count_system(const struct snapshot *snapshot)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < snapshot->root_count; i++) {
        count += is_system(&snapshot->roots[i]);
    }
    return count;
}

/* The id of the node of root number i: even, as those of objects are odd; equal in later exports of a
 * session. Names, which come first, are numbered: hashes of 100,000 names would not all differ. */
static uint64_t root_id(const struct root_node *root, uint32_t i)
{
    switch (root->kind) {
    case HEAP_ROOT_SESSION:
        return (root->session * 4 + 8) & 0xFFFFFFFE;
    case HEAP_ROOT_NAME:
        return (uint64_t)i * 4 + 10;
    case HEAP_ROOT_FROZEN:
        return 4;
    case HEAP_ROOT_GARBAGE:
        return 6;
    }
    return 0;
}

/* DevTools keeps 32 bits of a node's id, an object id has 53: the slot below, and above how often the slot
 * was used before.  Of slots that many heaps ever use the count is kept as far as there is room, so that a
 * comparison does not take an object for the one that had its slot before; the others are unique by their
 * slot alone. */
#define SLOT_BITS 23
#define COUNT_BITS 7
static uint64_t node_id(uint64_t object_id)
{
    uint64_t slot = object_id & UINT32_MAX, count = object_id >> 32 & ((1u << COUNT_BITS) - 1);
    bool is_low = slot < UINT64_C(1) << SLOT_BITS;
    return 2 * (is_low ? slot | count << SLOT_BITS : slot + (UINT64_C(1) << (SLOT_BITS + COUNT_BITS))) + 1;
}

/* The name of an object's node: the text of a str, or its beginning and three dots, else the type. */
static uint32_t object_name(struct snapshot *snapshot, const struct heap_node *node, uint32_t i)
{
    struct strings *strings = &snapshot->strings;
    struct heap_text text;
    bool is_cut;
    if (node->type != HEAP_T_STR) {
        return text_number(snapshot, node->type_name);
    }
    heap_picture_content(&text, &is_cut, snapshot->picture, i);
    if (!is_cut) {
        return string_number(strings, text.text, text.len);
    }
    char shown[STR_BYTES];
    size_t len =
        (size_t)fault_clip(text.text, text.len, text.len < STR_BYTES - 3 ? text.len - 1 : STR_BYTES - 3);
    memcpy(shown, text.text, len);
    memcpy(shown + len, "...", 3);
    return string_number(strings, shown, len + 3);
}

/* DevTools sorts objects called `Object` by their attributes, as plain JavaScript ones; natives keep their
 * name. */
static enum node_type object_type(const struct heap_node *node)
{
    if (node->type == HEAP_T_STR) {
        return NODE_STRING;
    }
    return strcmp(node->type_name, "Object") == 0 ? NODE_NATIVE : NODE_OBJECT;
}

static void write_nodes(struct snapshot *snapshot)
{
    uint32_t system = count_system(snapshot);
    char title[TITLE_BYTES];
    node_row(snapshot, NODE_SYNTHETIC, text_number(snapshot, ""), 1, 0, snapshot->root_count - system + 1);
    node_row(snapshot, NODE_SYNTHETIC, text_number(snapshot, "(heapd roots)"), 2, 0, system);
    for (uint32_t i = 0; i < snapshot->root_count && export_flush(snapshot->sink, false); i++) {
        const struct root_node *root = &snapshot->roots[i];
        size_t len = root_title(title, root);
        node_row(snapshot, is_system(root) ? NODE_SYNTHETIC : NODE_OBJECT,
                 string_number(&snapshot->strings, title, len), root_id(root, i), 0,
                 count_root_edges(snapshot, root));
    }
    for (uint32_t i = 0; i < snapshot->objects && export_flush(snapshot->sink, false); i++) {
        struct heap_node node;
        heap_picture_node(&node, snapshot->picture, i);
        node_row(snapshot, object_type(&node), object_name(snapshot, &node, i), node_id(node.id), node.bytes,
                 count_edges(&node));
    }
}

/* ---- edges ---- */

static void write_root_edges(struct snapshot *snapshot)
{
    for (uint32_t i = 0; i < snapshot->root_count && export_flush(snapshot->sink, false); i++) {
        if (!is_system(&snapshot->roots[i])) {
            char title[TITLE_BYTES];
            size_t len = root_title(title, &snapshot->roots[i]);
            edge_row(snapshot, EDGE_SHORTCUT, string_number(&snapshot->strings, title, len), 2 + i);
        }
    }
    edge_row(snapshot, EDGE_ELEMENT, 1, 1);
    uint32_t index = 0;
    for (uint32_t i = 0; i < snapshot->root_count; i++) {
        if (is_system(&snapshot->roots[i])) {
            edge_row(snapshot, EDGE_ELEMENT, ++index, 2 + i);
        }
    }
    for (uint32_t i = 0; i < snapshot->root_count && export_flush(snapshot->sink, false); i++) {
        const struct root_node *root = &snapshot->roots[i];
        for (uint64_t k = 0; k < root->count && export_flush(snapshot->sink, false); k++) {
            struct heap_root one;
            heap_picture_root(&one, snapshot->picture, root->first + k);
            if (one.node != HEAP_NO_NODE && root->kind == HEAP_ROOT_NAME) {
                edge_row(snapshot, EDGE_INTERNAL, text_number(snapshot, "object"),
                         object_node(snapshot, one.node));
            } else if (one.node != HEAP_NO_NODE) {
                edge_row(snapshot, EDGE_ELEMENT, k, object_node(snapshot, one.node));
            }
        }
    }
}

/* An edge of an object: an element where its name is an index. */
static void object_edge(struct snapshot *snapshot, const struct heap_node *node, uint32_t i, uint32_t k)
{
    uint64_t to = object_node(snapshot, node->edges[k]);
    char name[HEAP_EDGE_BYTES];
    if (node->type == HEAP_T_LIST || node->type == HEAP_T_TUPLE) {
        edge_row(snapshot, EDGE_ELEMENT, k, to);
        return;
    }
    size_t len = heap_picture_edge_name(name, snapshot->picture, i, k);
    size_t skip = name[0] == '.'; /* DevTools puts the dot itself */
    edge_row(snapshot, EDGE_PROPERTY, string_number(&snapshot->strings, name + skip, len - skip), to);
}

static void write_edges(struct snapshot *snapshot)
{
    write_root_edges(snapshot);
    for (uint32_t i = 0; i < snapshot->objects && export_flush(snapshot->sink, false); i++) {
        struct heap_node node;
        heap_picture_node(&node, snapshot->picture, i);
        for (uint32_t k = 0; k < node.edge_count && export_flush(snapshot->sink, false); k++) {
            if (node.edges[k] != HEAP_NO_NODE) {
                object_edge(snapshot, &node, i, k);
            }
        }
        if (node.is_weak && node.target != HEAP_NO_NODE) {
            edge_row(snapshot, EDGE_WEAK, text_number(snapshot, "target"),
                     object_node(snapshot, node.target));
        }
    }
}

/* ---- the whole ---- */

/* How many edges there will be: the loader demands that the number is right. */
static uint64_t count_all_edges(const struct snapshot *snapshot)
{
    uint64_t count = (uint64_t)snapshot->root_count + 1;
    for (uint32_t i = 0; i < snapshot->root_count; i++) {
        count += count_root_edges(snapshot, &snapshot->roots[i]);
    }
    for (uint32_t i = 0; i < snapshot->objects; i++) {
        struct heap_node node;
        heap_picture_node(&node, snapshot->picture, i);
        count += count_edges(&node);
    }
    return count;
}

static void write_strings(struct snapshot *snapshot)
{
    struct strings *strings = &snapshot->strings;
    struct out *out = &snapshot->sink->out;
    for (uint32_t i = 0; i < strings->count && export_flush(snapshot->sink, false); i++) {
        out_text(out, i == 0 ? "" : ",\n");
        out_json_string(out, strings->bytes.data + strings->starts[i],
                        strings->starts[i + 1] - strings->starts[i]);
    }
}

static void write_all(struct snapshot *snapshot)
{
    struct out *out = &snapshot->sink->out;
    out_text(out, meta);
    out_u64(out, object_node(snapshot, snapshot->objects));
    out_text(out, ",\"edge_count\":");
    out_u64(out, count_all_edges(snapshot));
    out_text(out, ",\"trace_function_count\":0},\n\"nodes\":[");
    snapshot->comma = "";
    write_nodes(snapshot);
    out_text(out, "],\n\"edges\":[");
    snapshot->comma = "";
    write_edges(snapshot);
    out_text(out, "],\n\"trace_function_infos\":[],\n\"trace_tree\":[],\n\"samples\":[],\n\"locations\":[],"
                  "\n\"strings\":[");
    write_strings(snapshot);
    out_text(out, "]}\n");
}

bool export_heapsnapshot(struct export_sink *sink, const struct heap_picture *picture)
{
    struct snapshot snapshot = {.sink = sink, .picture = picture, .objects = heap_picture_nodes(picture)};
    out_init(&snapshot.strings.bytes, 0);
    /* The first text is empty, and has a place to begin at all the same. */
    if (out_reserve(&snapshot.strings.bytes, 1) && collect_roots(&snapshot)) {
        write_all(&snapshot);
    } else {
        snapshot.strings.failed = true;
    }
    bool no_memory = snapshot.strings.failed;
    strings_fini(&snapshot.strings);
    free(snapshot.roots);
    if (no_memory && sink->error == 0) {
        sink->error = ENOMEM;
    }
    return export_flush(sink, true);
}
