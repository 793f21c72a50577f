/* load_heap.c -- builds the heap of a real CPython program in a daemon, over the socket, and lets it go.
 *
 *   load_heap [--keep] ADDRESS FILE        ADDRESS: tcp:HOST:PORT or unix:PATH
 *
 * FILE is gzip'ed JSON lines: a head {"objects":N,"roots":[..]}, then [kind, bytes, [references]] for each
 * object.  What becomes of each kind:
 *
 *   none, bool    the immortal ones
 *   int           a value of its own (1000 + index, larger where CPython needs more digits)
 *   float         index + 0.5
 *   str, bytes    a text of its own, as long as CPython's size says where that is long enough
 *   list          the same items           tuple   the same items; made last, inner ones first
 *   set           the same members           frozenset   a tuple of them
 *   object        an instance of one class; its references are attributes a0, a1, ..
 *   dict          references alternate key, value, where they can: an even number, hashable, different keys;
 *                 CPython shows only the values of a dict with str keys, so else all are values under the
 *                 made-up keys k0, k1, ..
 *
 * So each object has as many references to it as the file says, plus one for the name of a root.  All are
 * equal to none but themselves, so no two keys or members are equal.
 *
 * Steps: create every object (held by the session), link them, bind the roots to names, end the session;
 * then check counts, refcounts and contents of a sample, unbind, collect, and demand that the heap is where
 * it began.  With --keep it stops after the checks and leaves the names bound.  Start at main().
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <zlib.h>

#include "../support/process.h"
#include "../support/wire.h"

enum kind {
    KIND_NONE,
    KIND_BOOL,
    KIND_INT,
    KIND_FLOAT,
    KIND_STR,
    KIND_BYTES,
    KIND_LIST,
    KIND_DICT,
    KIND_SET,
    KIND_OBJECT,
    KIND_TUPLE,
    KIND_COUNT
};

static const char *const kind_names[KIND_COUNT] = {"none", "bool", "int", "float",  "str",  "bytes",
                                                   "list", "dict", "set", "object", "tuple"};

struct node {
    uint64_t id;   /* 0: not made yet */
    uint32_t edge; /* of the loader's edges, the first of this node */
    uint32_t edge_count;
    uint32_t bytes;    /* as sys.getsizeof says */
    uint32_t incoming; /* references to it */
    uint8_t kind;
    bool hashable;   /* valid once it is made */
    bool is_tracked; /* by the collector; valid once it is made */
    bool is_immortal;
    bool is_dead; /* while predict_unreachable() runs */
};

struct loader {
    struct daemon daemon;
    struct wire *wire;
    struct node *nodes;
    uint32_t *edges;
    uint32_t *roots;
    uint32_t node_count, edge_count, root_count;
    uint32_t keys_made_up; /* k0 .. exist up to here */
    uint64_t class_id;
    /* requests not yet sent */
    char *batch;
    size_t batch_len, batch_room;
    uint32_t *asked; /* for each request of the batch: the node that its reply makes, or NOBODY */
    size_t asked_count;
    uint64_t requests;
    /* the heap before */
    int64_t live_before, arenas_before;
};

#define NOBODY UINT32_MAX
#define BATCH_REQUESTS 1000
#define BATCH_BYTES 262144

static void die(const char *what)
{
    fprintf(stderr, "load_heap: %s\n", what);
    exit(1);
}

static void demand(bool ok, const char *what)
{
    if (!ok) {
        die(what);
    }
}

/* ---- reading the file ---- */

static enum kind kind_of(const char *name)
{
    for (int kind = 0; kind < KIND_COUNT; kind++) {
        if (strncmp(name, kind_names[kind], strlen(kind_names[kind])) == 0) {
            return (enum kind)kind;
        }
    }
    if (strncmp(name, "frozenset", strlen("frozenset")) == 0) {
        return KIND_TUPLE;
    }
    die("an object of unknown kind");
    return KIND_NONE;
}

static void read_head(struct loader *l, const char *line)
{
    json_t *j_head = json_loads(line, 0, NULL), *j_roots = json_object_get(j_head, "roots");
    l->node_count = (uint32_t)json_integer_value(json_object_get(j_head, "objects"));
    l->root_count = (uint32_t)json_array_size(j_roots);
    demand(l->node_count > 0 && l->root_count > 0, "the file has no head");
    l->nodes = calloc(l->node_count, sizeof *l->nodes);
    l->roots = calloc(l->root_count, sizeof *l->roots);
    demand(l->nodes != NULL && l->roots != NULL, "no memory");
    for (uint32_t i = 0; i < l->root_count; i++) {
        l->roots[i] = (uint32_t)json_integer_value(json_array_get(j_roots, i));
    }
    json_decref(j_head);
}

/* ["kind",bytes,[1,2,3]] */
static void read_object(struct loader *l, struct node *node, const char *line, size_t *edge_room)
{
    demand(strncmp(line, "[\"", 2) == 0, "a line is no object");
    node->kind = (uint8_t)kind_of(line + 2);
    const char *at = strchr(line, ',');
    demand(at != NULL, "a line is no object");
    char *end;
    node->bytes = (uint32_t)strtoul(at + 1, &end, 10);
    node->edge = l->edge_count;
    at = end + 2;
    while (*at >= '0' && *at <= '9') {
        if (l->edge_count == *edge_room) {
            *edge_room = *edge_room * 2 + 1048576;
            l->edges = realloc(l->edges, *edge_room * sizeof *l->edges);
            demand(l->edges != NULL, "no memory");
        }
        l->edges[l->edge_count++] = (uint32_t)strtoul(at, &end, 10);
        at = end + (*end == ',');
    }
    node->edge_count = l->edge_count - node->edge;
}

static void read_file(struct loader *l, const char *path)
{
    static char line[1 << 20];
    size_t edge_room = 0;
    gzFile file = gzopen(path, "rb");
    demand(file != NULL && gzgets(file, line, sizeof line) != NULL, "cannot read the file");
    read_head(l, line);
    for (uint32_t i = 0; i < l->node_count; i++) {
        demand(gzgets(file, line, sizeof line) != NULL, "the file ends early");
        read_object(l, &l->nodes[i], line, &edge_room);
    }
    gzclose(file);
    for (uint32_t i = 0; i < l->edge_count; i++) {
        demand(l->edges[i] < l->node_count, "a reference to an object that is not there");
        l->nodes[l->edges[i]].incoming++;
    }
}

/* ---- requests ---- */

/* Appends to the batch. */
static void put(struct loader *l, const char *format, ...)
{
    va_list arguments;
    if (l->batch_room - l->batch_len < 16384) {
        l->batch_room = l->batch_room * 2 + 65536;
        l->batch = realloc(l->batch, l->batch_room);
        demand(l->batch != NULL, "no memory");
    }
    va_start(arguments, format);
    l->batch_len +=
        (size_t)vsnprintf(l->batch + l->batch_len, l->batch_room - l->batch_len, format, arguments);
    va_end(arguments);
}

/* Sends the batch and takes its replies: ids of what was made, null or the like for the rest. */
static void flush(struct loader *l)
{
    wire_send(l->wire, l->batch, l->batch_len);
    for (size_t i = 0; i < l->asked_count; i++) {
        size_t len;
        const char *reply = wire_line(l->wire, &len);
        demand(reply != NULL, "the daemon closed the connection");
        if (strncmp(reply, "{\"id\":1,\"result\":", 17) != 0) {
            die(reply);
        }
        if (l->asked[i] != NOBODY) {
            const char *object = strstr(reply, "\"object\":");
            demand(object != NULL, "a reply without an id");
            l->nodes[l->asked[i]].id = strtoull(object + 9, NULL, 10);
        } else if (strstr(reply, "\"added\":false") != NULL) {
            die("a member was in its set already");
        }
    }
    l->requests += l->asked_count;
    l->asked_count = l->batch_len = 0;
}

static void begin_request(struct loader *l, const char *method)
{
    put(l, "{\"id\":1,\"method\":\"%s\",\"params\":[", method);
}

/* `node`: whose id the reply tells, or NOBODY. */
static void end_request(struct loader *l, uint32_t node)
{
    put(l, "]}\n");
    l->asked[l->asked_count++] = node;
    if (l->asked_count == BATCH_REQUESTS || l->batch_len > BATCH_BYTES) {
        flush(l);
    }
}

static void put_ref(struct loader *l, const char *before, uint32_t node)
{
    put(l, "%s{\"$ref\":%llu}", before, (unsigned long long)l->nodes[node].id);
}

/* ---- creating ---- */

static void put_int(struct loader *l, uint32_t i)
{
    /* 28 bytes: below 2^30.  32: below 2^60.  36, 40, 44: 9 decimal digits more each. */
    uint32_t bytes = l->nodes[i].bytes;
    if (bytes <= 28) {
        put(l, "%u", 1000 + i);
    } else if (bytes <= 32) {
        put(l, "%llu", (1ull << 40) + i);
    } else {
        put(l, "{\"$int\":\"1%0*u\"}", (int)(bytes - 28) / 4 * 9, i);
    }
}

static void put_bytes(struct loader *l, uint32_t i)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    put(l, "{\"$bytes\":\"");
    for (uint32_t groups = l->nodes[i].bytes / 3, n = 0; n < groups || n < 3; n++) {
        uint32_t bits = n < 3 ? i >> 12 * n & 0xfff : 0;
        put(l, "%c%cAA", digits[bits >> 6 & 63], digits[bits & 63]);
    }
    put(l, "\"}");
}

static void put_atom(struct loader *l, uint32_t i, uint32_t bools_before)
{
    const struct node *node = &l->nodes[i];
    switch ((enum kind)node->kind) {
    case KIND_NONE:
        put(l, "null");
        break;
    case KIND_BOOL:
        put(l, bools_before == 0 ? "false" : "true");
        break;
    case KIND_INT:
        put_int(l, i);
        break;
    case KIND_FLOAT:
        put(l, "%u.5", i);
        break;
    case KIND_STR:
        put(l, "\"%-*u\"", node->bytes > 49 ? (int)node->bytes - 49 : 1, i);
        break;
    default:
        put_bytes(l, i);
        break;
    }
}

static void create_atoms(struct loader *l)
{
    uint32_t bools = 0;
    for (uint32_t i = 0; i < l->node_count; i++) {
        struct node *node = &l->nodes[i];
        if (node->kind <= KIND_BYTES) {
            begin_request(l, "create");
            put_atom(l, i, bools);
            end_request(l, i);
            bools += node->kind == KIND_BOOL;
            node->is_immortal = node->kind <= KIND_BOOL;
            node->hashable = true;
        }
    }
}

static void create_empty_containers(struct loader *l)
{
    static const char *const empty[KIND_COUNT] = {
        [KIND_LIST] = "[]", [KIND_DICT] = "{}", [KIND_SET] = "{\"$set\":[]}"};
    for (uint32_t i = 0; i < l->node_count; i++) {
        if (empty[l->nodes[i].kind] != NULL) {
            begin_request(l, "create");
            put(l, "%s", empty[l->nodes[i].kind]);
            end_request(l, i);
            l->nodes[i].is_tracked = true;
        }
    }
    flush(l);
}

/* Instances get what exists already as attributes from the start. */
static void create_instances(struct loader *l)
{
    l->class_id = (uint64_t)wire_call_int(l->wire, "object", "create", "[{s:s}]", "$class", "Object");
    for (uint32_t i = 0; i < l->node_count; i++) {
        struct node *node = &l->nodes[i];
        if (node->kind != KIND_OBJECT) {
            continue;
        }
        begin_request(l, "create");
        put(l, "{\"$instance\":%llu,\"attrs\":{", (unsigned long long)l->class_id);
        const char *comma = "";
        for (uint32_t e = 0; e < node->edge_count; e++) {
            uint32_t target = l->edges[node->edge + e];
            if (l->nodes[target].kind < KIND_OBJECT) {
                put(l, "%s\"a%u\":", comma, e);
                put_ref(l, "", target);
                comma = ",";
            }
        }
        put(l, "}}");
        end_request(l, i);
        node->hashable = node->is_tracked = true;
    }
    flush(l);
}

/* Whether all items of a tuple exist; then what they are decides what it is. */
static bool tuple_is_ready(const struct loader *l, struct node *tuple)
{
    tuple->hashable = true;
    tuple->is_tracked = false;
    for (uint32_t e = 0; e < tuple->edge_count; e++) {
        const struct node *item = &l->nodes[l->edges[tuple->edge + e]];
        tuple->hashable = tuple->hashable && item->hashable;
        tuple->is_tracked = tuple->is_tracked || item->is_tracked;
        if (item->id == 0) {
            return false;
        }
    }
    return true;
}

/* Inner tuples before outer ones: each round makes those whose items exist. */
static void create_tuples(struct loader *l)
{
    for (uint32_t made = 1, left = 1; left > 0;) {
        demand(made > 0, "a cycle through tuples alone");
        made = left = 0;
        for (uint32_t i = 0; i < l->node_count; i++) {
            struct node *node = &l->nodes[i];
            if (node->kind != KIND_TUPLE || node->id != 0) {
                continue;
            }
            if (!tuple_is_ready(l, node)) {
                left++;
                continue;
            }
            begin_request(l, "create");
            put(l, "{\"$tuple\":[");
            for (uint32_t e = 0; e < node->edge_count; e++) {
                put_ref(l, e == 0 ? "" : ",", l->edges[node->edge + e]);
            }
            put(l, "]}");
            end_request(l, i);
            node->is_immortal = node->edge_count == 0;
            made++;
        }
        flush(l);
    }
}

/* ---- linking ---- */

static void link_list(struct loader *l, const struct node *list)
{
    if (list->edge_count > 0) {
        begin_request(l, "list.extend");
        put(l, "%llu,[", (unsigned long long)list->id);
        for (uint32_t e = 0; e < list->edge_count; e++) {
            put_ref(l, e == 0 ? "" : ",", l->edges[list->edge + e]);
        }
        put(l, "]");
        end_request(l, NOBODY);
    }
}

static void link_set(struct loader *l, const struct node *set)
{
    for (uint32_t e = 0; e < set->edge_count; e++) {
        begin_request(l, "set.add");
        put(l, "%llu,", (unsigned long long)set->id);
        put_ref(l, "", l->edges[set->edge + e]);
        end_request(l, NOBODY);
    }
}

/* Orders nodes so that those that are equal as keys are neighbours: tuples by content, others by index. */
static int compare_keys(const void *a, const void *b, void *arg)
{
    const struct loader *l = arg;
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    const struct node *p = &l->nodes[x], *q = &l->nodes[y];
    if (p->kind != KIND_TUPLE || q->kind != KIND_TUPLE) {
        bool p_is_tuple = p->kind == KIND_TUPLE, q_is_tuple = q->kind == KIND_TUPLE;
        return p_is_tuple != q_is_tuple ? p_is_tuple - q_is_tuple : x < y ? -1 : x > y;
    }
    for (uint32_t e = 0; e < p->edge_count && e < q->edge_count; e++) {
        int order = compare_keys(&l->edges[p->edge + e], &l->edges[q->edge + e], arg);
        if (order != 0) {
            return order;
        }
    }
    return p->edge_count < q->edge_count ? -1 : p->edge_count > q->edge_count;
}

/* Whether the references of a dict can be taken as key, value, key, value. */
static bool dict_alternates(struct loader *l, const struct node *dict)
{
    uint32_t n = dict->edge_count / 2, *keys = malloc((n + 1) * sizeof *keys);
    bool alternates = dict->edge_count % 2 == 0;
    demand(keys != NULL, "no memory");
    for (uint32_t i = 0; alternates && i < n; i++) {
        keys[i] = l->edges[dict->edge + 2 * i];
        alternates = l->nodes[keys[i]].hashable;
    }
    if (alternates) {
        qsort_r(keys, n, sizeof *keys, compare_keys, l);
        for (uint32_t i = 1; i < n; i++) {
            alternates = alternates && compare_keys(&keys[i], &keys[i - 1], l) != 0;
        }
    }
    free(keys);
    return alternates;
}

static void link_dict(struct loader *l, const struct node *dict)
{
    const uint32_t *edges = l->edges + dict->edge;
    if (dict->edge_count == 0) {
        return;
    }
    bool alternates = dict_alternates(l, dict);
    begin_request(l, "dict.update");
    put(l, "%llu,%s", (unsigned long long)dict->id, alternates ? "{\"$dict\":[" : "{");
    for (uint32_t e = 0; e < dict->edge_count; e += alternates ? 2 : 1) {
        if (alternates) {
            put_ref(l, e == 0 ? "[" : ",[", edges[e]);
            put_ref(l, ",", edges[e + 1]);
            put(l, "]");
        } else {
            put(l, "%s\"k%u\":", e == 0 ? "" : ",", e);
            put_ref(l, "", edges[e]);
        }
    }
    put(l, alternates ? "]}" : "}");
    end_request(l, NOBODY);
    if (!alternates && dict->edge_count > l->keys_made_up) {
        l->keys_made_up = dict->edge_count;
    }
}

/* What could not be an attribute from the start. */
static void link_instance(struct loader *l, const struct node *instance)
{
    for (uint32_t e = 0; e < instance->edge_count; e++) {
        uint32_t target = l->edges[instance->edge + e];
        if (l->nodes[target].kind >= KIND_OBJECT) {
            begin_request(l, "attr.set");
            put(l, "%llu,\"a%u\",", (unsigned long long)instance->id, e);
            put_ref(l, "", target);
            end_request(l, NOBODY);
        }
    }
}

static void link_all(struct loader *l)
{
    for (uint32_t i = 0; i < l->node_count; i++) {
        const struct node *node = &l->nodes[i];
        if (node->kind == KIND_LIST) {
            link_list(l, node);
        } else if (node->kind == KIND_SET) {
            link_set(l, node);
        } else if (node->kind == KIND_DICT) {
            link_dict(l, node);
        } else if (node->kind == KIND_OBJECT) {
            link_instance(l, node);
        }
    }
    flush(l);
}

static void bind_roots(struct loader *l)
{
    for (uint32_t i = 0; i < l->root_count; i++) {
        begin_request(l, "name.bind");
        put(l, "\"root%u\",%llu", i, (unsigned long long)l->nodes[l->roots[i]].id);
        end_request(l, NOBODY);
        l->nodes[l->roots[i]].incoming++;
    }
    flush(l);
}

/* ---- checking ---- */

static int64_t expected_live(const struct loader *l)
{
    int64_t live = l->live_before + 1 + l->keys_made_up; /* the class; k0 .. */
    for (uint32_t i = 0; i < l->node_count; i++) {
        live += !l->nodes[i].is_immortal;
    }
    return live;
}

static void check_refcount(struct loader *l, uint32_t i)
{
    const struct node *node = &l->nodes[i];
    int64_t want = node->is_immortal ? 4294967295 : (int64_t)node->incoming + 1;
    int64_t got = wire_call_int(l->wire, NULL, "sys.getrefcount", "[I]", (json_int_t)node->id);
    if (want != got) {
        fprintf(stderr, "object %u of kind %s: refcount %lld, expected %lld\n", i, kind_names[node->kind],
                (long long)got, (long long)want);
        die("a refcount is not the file's");
    }
}

/* A list's or tuple's containers are those of the file, in order. */
static void check_items(struct loader *l, uint32_t i)
{
    const struct node *node = &l->nodes[i];
    if ((node->kind != KIND_LIST && node->kind != KIND_TUPLE) || node->edge_count > 2000) {
        return;
    }
    json_t *j_value = wire_callf(l->wire, "get", "[I]", (json_int_t)node->id);
    const json_t *j_items = node->kind == KIND_LIST ? j_value : json_object_get(j_value, "$tuple");
    demand(json_array_size(j_items) == node->edge_count, "a list has not as many items as in the file");
    for (uint32_t e = 0; e < node->edge_count; e++) {
        const struct node *item = &l->nodes[l->edges[node->edge + e]];
        const json_t *j_ref = json_object_get(json_array_get(j_items, e), "$ref");
        if (item->kind >= KIND_LIST && !item->is_immortal) {
            demand((uint64_t)json_integer_value(j_ref) == item->id, "an item is another than in the file");
        }
    }
    json_decref(j_value);
}

static void check_sample(struct loader *l)
{
    struct process_random random;
    process_random_init(&random);
    for (uint32_t i = 0; i < l->root_count; i++) {
        check_refcount(l, l->roots[i]);
        check_items(l, l->roots[i]);
    }
    for (int n = 0; n < 2000; n++) {
        uint32_t i = process_random_below(&random, l->node_count);
        check_refcount(l, i);
        check_items(l, i);
    }
}

/* The session that built everything is gone, with its holds. */
static void change_session(struct loader *l)
{
    wire_close(l->wire);
    l->wire = wire_open_unix(&l->daemon);
    while (wire_stat(l->wire, "sessions", "holds") > 0) {
        usleep(1000);
    }
}

static int64_t collect(struct loader *l, int64_t *unreachable, int64_t *elapsed_us)
{
    json_t *j_result = wire_callf(l->wire, "collect", NULL);
    int64_t freed = json_integer_value(json_object_get(j_result, "freed"));
    *unreachable = json_integer_value(json_object_get(j_result, "unreachable"));
    *elapsed_us = json_integer_value(json_object_get(j_result, "elapsed_us"));
    json_decref(j_result);
    return freed;
}

/* How many tracked containers are left for the collector when the names are gone: all but those that die
 * with their last reference. */
static int64_t predict_unreachable(struct loader *l)
{
    uint32_t *dying = malloc(l->node_count * sizeof *dying), depth = 0;
    int64_t left = 0, class_left = 0; /* an instance that is left keeps the class */
    demand(dying != NULL, "no memory");
    for (uint32_t i = 0; i < l->root_count; i++) {
        if (--l->nodes[l->roots[i]].incoming == 0) {
            dying[depth++] = l->roots[i];
        }
        while (depth > 0) {
            struct node *dead = &l->nodes[dying[--depth]];
            dead->is_dead = true;
            for (uint32_t e = 0; e < dead->edge_count; e++) {
                uint32_t target = l->edges[dead->edge + e];
                if (--l->nodes[target].incoming == 0) {
                    dying[depth++] = target;
                }
            }
        }
    }
    for (uint32_t i = 0; i < l->node_count; i++) {
        bool is_left = l->nodes[i].is_tracked && !l->nodes[i].is_dead;
        left += is_left;
        class_left |= is_left && l->nodes[i].kind == KIND_OBJECT;
    }
    free(dying);
    return left + class_left;
}

/* Unbinds the roots, collects, and demands that the heap is as it was before. */
static void let_go(struct loader *l)
{
    int64_t live = wire_stat(l->wire, "objects", "live"), freed = 0, unreachable, elapsed_us;
    int64_t start = process_now_ms();
    for (uint32_t i = 0; i < l->root_count; i++) {
        char name[32];
        snprintf(name, sizeof name, "root%u", i);
        json_t *j_result = wire_callf(l->wire, "name.unbind", "[s]", name);
        freed += json_integer_value(json_object_get(j_result, "freed"));
        json_decref(j_result);
    }
    int64_t by_refcount = freed;
    freed += collect(l, &unreachable, &elapsed_us);
    printf("let go: %lld freed by refcount, %lld by collection (%lld unreachable, %.1f ms), %.2f s\n",
           (long long)by_refcount, (long long)(freed - by_refcount), (long long)unreachable,
           (double)elapsed_us / 1000, (double)(process_now_ms() - start) / 1000);
    wire_check_heap(l->wire);
    demand(wire_stat(l->wire, "objects", "live") == l->live_before, "objects are left");
    demand(freed == live - l->live_before, "the numbers of what was freed do not add up");
    demand(unreachable == predict_unreachable(l), "unreachable is not the number that CPython would give");
    int64_t arenas = wire_stat(l->wire, "allocator", "arenas");
    printf("arenas: %lld before, %lld at most, %lld after\n", (long long)l->arenas_before,
           (long long)wire_stat(l->wire, "allocator", "arenas_highwater"), (long long)arenas);
    demand(arenas <= l->arenas_before + 2, "the arenas did not go back to the system");
}

/* ---- main ---- */

static void parse_address(struct daemon *daemon, const char *address)
{
    const char *colon = strrchr(address, ':');
    if (strncmp(address, "unix:", 5) == 0) {
        snprintf(daemon->socket, sizeof daemon->socket, "%s", address + 5);
    } else if (strncmp(address, "tcp:", 4) == 0 && colon > address + 4) {
        snprintf(daemon->host, sizeof daemon->host, "%.*s", (int)(colon - address - 4), address + 4);
        daemon->port = atoi(colon + 1);
    } else {
        die("ADDRESS is tcp:HOST:PORT or unix:PATH");
    }
}

static void build(struct loader *l)
{
    int64_t start = process_now_ms(), created;
    create_atoms(l);
    create_empty_containers(l);
    create_instances(l);
    create_tuples(l);
    created = process_now_ms();
    printf("created %u objects in %.2f s, %.0f requests/s\n", l->node_count, (double)(created - start) / 1000,
           (double)l->requests * 1000 / (double)(created - start + 1));
    uint64_t requests = l->requests;
    link_all(l);
    bind_roots(l);
    printf("linked %u references in %.2f s, %.0f requests/s\n", l->edge_count,
           (double)(process_now_ms() - created) / 1000,
           (double)(l->requests - requests) * 1000 / (double)(process_now_ms() - created + 1));
    fflush(stdout);
}

int main(int argc, char **argv)
{
    struct loader loader = {0}, *l = &loader;
    int64_t unreachable, elapsed_us, freed;
    bool keep = argc > 1 && strcmp(argv[1], "--keep") == 0;
    if (argc != 3 + keep) {
        fprintf(stderr, "usage: load_heap [--keep] tcp:HOST:PORT|unix:PATH FILE\n");
        return 2;
    }
    parse_address(&l->daemon, argv[1 + keep]);
    read_file(l, argv[2 + keep]);
    l->asked = calloc(BATCH_REQUESTS, sizeof *l->asked);
    demand(l->asked != NULL, "no memory");
    l->wire = wire_open_unix(&l->daemon);
    l->live_before = wire_stat(l->wire, "objects", "live");
    l->arenas_before = wire_stat(l->wire, "allocator", "arenas");
    build(l);

    change_session(l);
    freed = collect(l, &unreachable, &elapsed_us);
    demand(freed == 0 && unreachable == 0, "the collector found garbage in what names reach");
    printf("full collection of the graph: %.1f ms\n", (double)elapsed_us / 1000);
    int64_t live = wire_stat(l->wire, "objects", "live"), bytes = wire_stat(l->wire, "objects", "bytes");
    if (live != expected_live(l)) {
        fprintf(stderr, "live %lld, expected %lld\n", (long long)live, (long long)expected_live(l));
        die("not as many objects as in the file");
    }
    printf("%lld objects live, %.1f bytes each\n", (long long)live, (double)bytes / (double)live);
    wire_check_heap(l->wire);
    check_sample(l);
    if (!keep) {
        let_go(l);
    }
    wire_close(l->wire);
    free(l->nodes);
    free(l->edges);
    free(l->roots);
    free(l->batch);
    free(l->asked);
    return 0;
}
