/* test_random.c -- random operations beside a model of the heap that predicts every reply.
 *
 * The model knows each object with its references, so it knows refcounts, who dies by what, what is
 * garbage, and the numbers of a full collection.  Two sessions work on one graph; now and then one of them
 * ends and begins anew.
 *
 * Exact runs have automatic collection off: every refcount, every `freed`, the number of live objects and
 * gc.get_count must be the model's.  Runs with automatic collection on do not touch garbage (which may be
 * gone any time), leave out what depends on it, and compare everything after each full collection.
 *
 * SEED=n repeats a run.  Start at step(), the list of operations; model_drop() is where objects die.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../support/fixture.h"
#include "../support/process.h"

enum { SESSIONS = 2, NAMES = 8, KEYS = 6, ITEMS_MAX = 40, NODES_MAX = 400, NOBODY = -1 };

enum node_kind { KIND_ATOM, KIND_LIST, KIND_TUPLE, KIND_DICT, KIND_INSTANCE, KIND_CLASS, KIND_WEAKREF };

/* One reference, or an immortal small int in its place. */
struct item {
    int key;    /* of a dict or instance */
    int node;   /* NOBODY: an immortal */
    int number; /* the immortal's value */
};

struct node {
    enum node_kind kind;
    bool alive, tracked, marked;
    int64_t id;    /* 0: never told (atoms) */
    int64_t value; /* of an atom */
    int64_t refcount;
    int64_t holds[SESSIONS];
    int weakref; /* its shared weakref that lives, or NOBODY */
    int target;  /* of a weakref that is not dead */
    int item_count;
    struct item items[ITEMS_MAX];
};

struct model {
    struct fixture *fixture;
    struct wire *wires[SESSIONS];
    struct process_random random;
    bool exact;
    bool count0_known;
    struct node nodes[NODES_MAX];
    int names[NAMES]; /* NOBODY: not bound */
    int class;
    int64_t live, count0, next_value, steps;
    int64_t deaths;           /* objects that died by the current operation */
    int dying[NODES_MAX * 4]; /* stack of model_drop() */
    struct match_bindings none;
};

/* ---- the model ---- */

static bool is_container(const struct node *node)
{
    return node->kind != KIND_ATOM;
}

/* A free place, or NOBODY. */
static int model_new(struct model *m, enum node_kind kind)
{
    for (int i = 0; i < NODES_MAX; i++) {
        if (!m->nodes[i].alive) {
            memset(&m->nodes[i], 0, sizeof m->nodes[i]);
            m->nodes[i].kind = kind;
            m->nodes[i].alive = true;
            m->nodes[i].tracked = kind != KIND_ATOM && kind != KIND_TUPLE;
            m->nodes[i].weakref = m->nodes[i].target = NOBODY;
            m->live++;
            m->count0 += kind != KIND_ATOM;
            return i;
        }
    }
    return NOBODY;
}

/* One reference to `i` less; who dies of it dies. */
static void model_drop(struct model *m, int i)
{
    int depth = 0;
    m->dying[depth++] = i;
    while (depth > 0) {
        int n = m->dying[--depth];
        if (n == NOBODY || --m->nodes[n].refcount > 0) {
            continue;
        }
        struct node *node = &m->nodes[n];
        node->alive = false;
        m->live--;
        m->deaths++;
        if (is_container(node) && m->count0 > 0) {
            m->count0--;
        }
        for (int k = 0; k < node->item_count; k++) {
            m->dying[depth++] = node->items[k].node;
        }
        if (node->kind == KIND_INSTANCE) {
            m->dying[depth++] = m->class;
        }
        if (node->weakref != NOBODY) {
            m->nodes[node->weakref].target = NOBODY;
        }
        if (node->target != NOBODY) {
            m->nodes[node->target].weakref = NOBODY;
        }
    }
}

static void model_take(struct model *m, int i)
{
    if (i != NOBODY) {
        m->nodes[i].refcount++;
    }
}

/* Marks what names and holds reach. */
static void model_mark(struct model *m)
{
    int depth = 0;
    for (int i = 0; i < NODES_MAX; i++) {
        m->nodes[i].marked = false;
    }
    for (int i = 0; i < NODES_MAX; i++) {
        bool root = i == m->class;
        for (int s = 0; s < SESSIONS; s++) {
            root = root || m->nodes[i].holds[s] > 0;
        }
        for (int n = 0; n < NAMES; n++) {
            root = root || m->names[n] == i;
        }
        if (m->nodes[i].alive && root && !m->nodes[i].marked) {
            m->nodes[i].marked = true;
            m->dying[depth++] = i;
        }
        while (depth > 0) {
            const struct node *node = &m->nodes[m->dying[--depth]];
            for (int k = 0; k < node->item_count; k++) {
                int child = node->items[k].node;
                if (child != NOBODY && !m->nodes[child].marked) {
                    m->nodes[child].marked = true;
                    m->dying[depth++] = child;
                }
            }
        }
    }
}

/* A full collection; returns its `unreachable`. */
static int64_t model_collect(struct model *m)
{
    int64_t unreachable = 0;
    model_mark(m);
    for (int i = 0; i < NODES_MAX; i++) {
        unreachable += m->nodes[i].alive && !m->nodes[i].marked && m->nodes[i].tracked;
    }
    /* Garbage lets go of everything; what it alone kept dies with it. */
    for (int i = 0; i < NODES_MAX; i++) {
        struct node *node = &m->nodes[i];
        if (node->alive && !node->marked) {
            int count = node->item_count;
            struct item items[ITEMS_MAX];
            memcpy(items, node->items, sizeof items);
            node->item_count = 0;
            node->refcount++; /* until its items are gone */
            for (int k = 0; k < count; k++) {
                model_drop(m, items[k].node);
            }
            model_drop(m, i);
        }
    }
    m->count0 = 0;
    return unreachable;
}

/* ---- choosing ---- */

static uint32_t below(struct model *m, uint32_t n)
{
    return process_random_below(&m->random, n);
}

/* A container of that kind (or any, with `kind` KIND_ATOM) that may be named now; NOBODY: there is none. */
static int choose(struct model *m, enum node_kind kind)
{
    int found = NOBODY, n = 0;
    if (!m->exact) {
        model_mark(m);
    }
    for (int i = 0; i < NODES_MAX; i++) {
        const struct node *node = &m->nodes[i];
        bool fits = kind == KIND_ATOM ? is_container(node) && node->kind != KIND_CLASS : node->kind == kind;
        if (node->alive && fits && (m->exact || node->marked) && below(m, (uint32_t)++n) == 0) {
            found = i;
        }
    }
    return found;
}

/* A value for a container: writes its literal; the reference in it is already counted. */
static struct item choose_value(struct model *m, char *literal, size_t size)
{
    struct item item = {0, NOBODY, 0};
    uint32_t which = below(m, 10);
    int node = which < 6 ? choose(m, KIND_ATOM) : which < 8 ? model_new(m, KIND_ATOM) : NOBODY;
    if (node == NOBODY) {
        item.number = (int)below(m, 200);
        snprintf(literal, size, "%d", item.number);
        return item;
    }
    item.node = node;
    if (m->nodes[node].kind == KIND_ATOM) {
        m->nodes[node].value = m->next_value++;
        snprintf(literal, size, "%lld", (long long)m->nodes[node].value);
    } else {
        snprintf(literal, size, "{\"$ref\":%lld}", (long long)m->nodes[node].id);
    }
    model_take(m, node);
    return item;
}

static bool has_room(const struct model *m)
{
    int used = 0;
    for (int i = 0; i < NODES_MAX; i++) {
        used += m->nodes[i].alive;
    }
    return used < NODES_MAX - 50;
}

/* ---- saying ---- */

static void say_item(FILE *out, const struct model *m, const struct item *item)
{
    if (item->node == NOBODY) {
        fprintf(out, "%d", item->number);
    } else if (m->nodes[item->node].kind == KIND_ATOM) {
        fprintf(out, "%lld", (long long)m->nodes[item->node].value);
    } else {
        fprintf(out, "{\"$ref\":%lld}", (long long)m->nodes[item->node].id);
    }
}

/* What get of depth 1 must say. */
static void say_node(FILE *out, const struct model *m, const struct node *node)
{
    static const char *const before[] = {
        "", "[", "{\"$tuple\":[", "{\"$dict\":[", "{\"$instance\":", "", "{\"$weakref\":"};
    static const char *const after[] = {"", "]", "]}", "]}", "}}", "", "}"};
    if (node->kind == KIND_DICT && node->item_count == 0) {
        fputs("{}", out);
        return;
    }
    fputs(before[node->kind], out);
    if (node->kind == KIND_INSTANCE) {
        fprintf(out, "%lld,\"attrs\":{", (long long)m->nodes[m->class].id);
    }
    if (node->kind == KIND_WEAKREF && node->target == NOBODY) {
        fputs("null", out);
    } else if (node->kind == KIND_WEAKREF) {
        fprintf(out, "%lld", (long long)m->nodes[node->target].id);
    }
    for (int k = 0; k < node->item_count; k++) {
        fputs(k == 0 ? "" : ",", out);
        if (node->kind == KIND_DICT) {
            fprintf(out, "[%d,", node->items[k].key);
        } else if (node->kind == KIND_INSTANCE) {
            fprintf(out, "\"a%d\":", node->items[k].key);
        }
        say_item(out, m, &node->items[k]);
        fputs(node->kind == KIND_DICT ? "]" : "", out);
    }
    fputs(after[node->kind], out);
}

/* Sends a request in session `s` and demands this reply; `result` may use the placeholders of match.h. */
static char *call(struct model *m, int s, const char *request, const char *result)
{
    char why[MATCH_WHY_BYTES], *expected;
    size_t len;
    m->none.count = 0;
    wire_send_text(m->wires[s], request);
    wire_send_text(m->wires[s], "\n");
    char *reply = wire_line(m->wires[s], &len);
    assert_non_null(reply);
    assert_true(asprintf(&expected, "{\"id\":1,%s}", result) > 0);
    if (!match_reply(&m->none, expected, strlen(expected), reply, len, why)) {
        print_error("step %lld, session %d\nrequest:  %s\nexpected: %s\nreply:    %s\n", (long long)m->steps,
                    s, request, expected, reply);
        fail_msg("%s", why);
    }
    free(expected);
    return reply;
}

/* A result that is an object: these members, a refcount (NOBODY: none in it) and what died. */
static const char *object_result(const struct model *m, char *text, size_t size, const char *members,
                                 int node)
{
    char refcount[64] = "", freed[64] = "";
    if (node != NOBODY && m->exact) {
        snprintf(refcount, sizeof refcount, ",\"refcount\":%lld", (long long)m->nodes[node].refcount);
    }
    if (m->deaths > 0 && m->exact) {
        snprintf(freed, sizeof freed, ",\"freed\":%lld", (long long)m->deaths);
    }
    snprintf(text, size, m->exact ? "\"result\":{%s%s%s}" : "\"result\":<has {%s%s%s}>", members, refcount,
             freed);
    return text;
}

/* ---- operations; each leaves the model as the heap must be ---- */

static void op_create(struct model *m, int s)
{
    static const char *const shapes[] = {"", "[%s]", "{\"$tuple\":[%s]}", "{}", "{\"$instance\":\"C\"}",
                                         "", ""};
    static const char *const types[] = {"", "list", "tuple", "dict", "C", "", ""};
    static const enum node_kind kinds[] = {KIND_LIST, KIND_LIST, KIND_TUPLE, KIND_DICT, KIND_INSTANCE};
    char request[512], items[200] = "", shape[300], members[128], text[256];
    enum node_kind kind = kinds[below(m, 5)];
    if (!has_room(m)) {
        return;
    }
    int count = kind == KIND_TUPLE ? 1 + (int)below(m, 3) : kind == KIND_LIST ? (int)below(m, 3) : 0;
    struct item chosen[3];
    for (int k = 0; k < count; k++) {
        char literal[64];
        chosen[k] = choose_value(m, literal, sizeof literal);
        snprintf(items + strlen(items), sizeof items - strlen(items), "%s%s", k == 0 ? "" : ",", literal);
    }
    int i = model_new(m, kind), name = below(m, 3) == 0 ? (int)below(m, NAMES) : NOBODY;
    struct node *node = &m->nodes[i];
    node->item_count = count;
    memcpy(node->items, chosen, (size_t)count * sizeof *chosen);
    for (int k = 0; kind == KIND_TUPLE && k < count; k++) {
        node->tracked = node->tracked || (chosen[k].node != NOBODY && m->nodes[chosen[k].node].tracked);
    }
    if (kind == KIND_INSTANCE) {
        model_take(m, m->class);
    }
    node->refcount = 1;
    snprintf(shape, sizeof shape, shapes[kind], items);
    if (name == NOBODY) {
        node->holds[s] = 1;
        snprintf(request, sizeof request, "{\"id\":1,\"method\":\"create\",\"params\":[%s]}", shape);
    } else {
        model_drop(m, m->names[name]);
        m->names[name] = i;
        snprintf(request, sizeof request, "{\"id\":1,\"method\":\"create\",\"params\":[%s,\"n%d\"]}", shape,
                 name);
    }
    snprintf(members, sizeof members, "\"object\":<id:new>,\"type\":\"%s\"", types[kind]);
    call(m, s, request, object_result(m, text, sizeof text, members, i));
    node->id = strtoll(match_bound(&m->none, "new"), NULL, 10);
}

static void op_weakref(struct model *m, int s)
{
    char request[128], text[256];
    int target = choose(m, KIND_ATOM), i;
    if (target == NOBODY || !has_room(m)) {
        return;
    }
    i = m->nodes[target].weakref;
    if (i == NOBODY) {
        i = model_new(m, KIND_WEAKREF);
        m->nodes[i].target = target;
        m->nodes[target].weakref = i;
    } else if (!m->exact) {
        return; /* the shared weakref may be garbage that is gone by now */
    }
    m->nodes[i].refcount++;
    m->nodes[i].holds[s]++;
    snprintf(request, sizeof request, "{\"id\":1,\"method\":\"create\",\"params\":[{\"$weakref\":%lld}]}",
             (long long)m->nodes[target].id);
    call(m, s, request, object_result(m, text, sizeof text, "\"object\":<id:new>,\"type\":\"weakref\"", i));
    int64_t id = strtoll(match_bound(&m->none, "new"), NULL, 10);
    assert_true(m->nodes[i].id == 0 || m->nodes[i].id == id);
    m->nodes[i].id = id;
}

static void op_ref(struct model *m, int s)
{
    char request[128], members[64], text[256];
    int i = choose(m, KIND_ATOM);
    if (i == NOBODY) {
        return;
    }
    m->nodes[i].refcount++;
    m->nodes[i].holds[s]++;
    snprintf(request, sizeof request, "{\"id\":1,\"method\":\"ref\",\"params\":[%lld]}",
             (long long)m->nodes[i].id);
    snprintf(members, sizeof members, "\"object\":%lld", (long long)m->nodes[i].id);
    call(m, s, request, object_result(m, text, sizeof text, members, i));
}

static void op_unref(struct model *m, int s)
{
    char request[128], members[64], text[256];
    int i = choose(m, KIND_ATOM);
    if (i == NOBODY) {
        return;
    }
    int64_t id = m->nodes[i].id;
    snprintf(request, sizeof request, "{\"id\":1,\"method\":\"unref\",\"params\":[%lld]}", (long long)id);
    if (m->nodes[i].holds[s] == 0) {
        snprintf(text, sizeof text, "\"error\":<error not_held {\"object\":%lld}>", (long long)id);
        call(m, s, request, text);
        return;
    }
    m->nodes[i].holds[s]--;
    model_drop(m, i);
    snprintf(members, sizeof members, "\"object\":%lld", (long long)id);
    call(m, s, request, object_result(m, text, sizeof text, members, i));
    if (!m->nodes[i].alive) {
        snprintf(text, sizeof text, "\"error\":<error not_found {\"object\":%lld}>", (long long)id);
        call(m, s, request, text);
    }
}

static void op_bind(struct model *m, int s)
{
    char request[128], members[64], text[256];
    int i = choose(m, KIND_ATOM), name = (int)below(m, NAMES);
    if (i == NOBODY) {
        return;
    }
    model_take(m, i);
    model_drop(m, m->names[name]);
    m->names[name] = i;
    snprintf(request, sizeof request, "{\"id\":1,\"method\":\"name.bind\",\"params\":[\"n%d\",%lld]}", name,
             (long long)m->nodes[i].id);
    snprintf(members, sizeof members, "\"name\":\"n%d\",\"object\":%lld", name, (long long)m->nodes[i].id);
    call(m, s, request, object_result(m, text, sizeof text, members, i));
}

static void op_unbind(struct model *m, int s)
{
    char request[128], members[64], text[256];
    int name = (int)below(m, NAMES), i = m->names[name];
    snprintf(request, sizeof request, "{\"id\":1,\"method\":\"name.unbind\",\"params\":[\"n%d\"]}", name);
    if (i == NOBODY) {
        call(m, s, request, "\"error\":<error name_error>");
        return;
    }
    snprintf(members, sizeof members, "\"name\":\"n%d\",\"object\":%lld", name, (long long)m->nodes[i].id);
    m->names[name] = NOBODY;
    model_drop(m, i);
    call(m, s, request, object_result(m, text, sizeof text, members, i));
}

/* list.append, insert, setitem */
static void op_list_put(struct model *m, int s)
{
    char request[256], literal[64];
    int i = choose(m, KIND_LIST);
    if (i == NOBODY || m->nodes[i].item_count == ITEMS_MAX || !has_room(m)) {
        return;
    }
    struct node *list = &m->nodes[i];
    int at = (int)below(m, (uint32_t)list->item_count + 1);
    bool set = at < list->item_count && below(m, 2) == 0;
    struct item item = choose_value(m, literal, sizeof literal);
    snprintf(request, sizeof request, "{\"id\":1,\"method\":\"list.%s\",\"params\":[%lld,%d,%s]}",
             set ? "setitem" : "insert", (long long)list->id, set && below(m, 2) ? at - list->item_count : at,
             literal);
    if (set) {
        int old = list->items[at].node;
        list->items[at] = item;
        model_drop(m, old);
    } else {
        memmove(list->items + at + 1, list->items + at,
                (size_t)(list->item_count - at) * sizeof *list->items);
        list->items[at] = item;
        list->item_count++;
    }
    call(m, s, request, "\"result\":null");
}

static void op_list_extend(struct model *m, int s)
{
    char request[256];
    int i = choose(m, KIND_LIST), from = choose(m, below(m, 2) ? KIND_LIST : KIND_TUPLE);
    if (i == NOBODY || from == NOBODY || m->nodes[i].item_count + m->nodes[from].item_count > ITEMS_MAX) {
        return;
    }
    struct node *list = &m->nodes[i];
    for (int k = 0, n = m->nodes[from].item_count; k < n; k++) {
        list->items[list->item_count++] = m->nodes[from].items[k];
        model_take(m, m->nodes[from].items[k].node);
    }
    snprintf(request, sizeof request,
             "{\"id\":1,\"method\":\"list.extend\",\"params\":[%lld,{\"$ref\":%lld}]}", (long long)list->id,
             (long long)m->nodes[from].id);
    call(m, s, request, "\"result\":null");
}

/* Takes item `at` out of the model's container; the reference stays counted. */
static struct item take_out(struct node *node, int at)
{
    struct item item = node->items[at];
    node->item_count--;
    memmove(node->items + at, node->items + at + 1, (size_t)(node->item_count - at) * sizeof item);
    return item;
}

/* list.pop, list.delitem, dict.pop, dict.delitem, attr.del */
static void op_take_out(struct model *m, int s)
{
    static const enum node_kind kinds[] = {KIND_LIST, KIND_DICT, KIND_INSTANCE};
    static const char *const prefixes[] = {"list", "dict", "attr"};
    char request[256], members[64], text[256], place[32];
    int which = (int)below(m, 3), i = choose(m, kinds[which]);
    if (i == NOBODY || m->nodes[i].item_count == 0) {
        return;
    }
    struct node *node = &m->nodes[i];
    int at = (int)below(m, (uint32_t)node->item_count);
    bool pop = which < 2 && below(m, 2) == 0, hold = below(m, 2) == 0;
    snprintf(place, sizeof place, which == 2 ? "\"a%d\"" : "%d", which == 0 ? at : node->items[at].key);
    struct item item = take_out(node, at);
    if (!pop) {
        model_drop(m, item.node);
        snprintf(request, sizeof request, "{\"id\":1,\"method\":\"%s.%s\",\"params\":[%lld,%s]}",
                 prefixes[which], which == 2 ? "del" : "delitem", (long long)node->id, place);
        call(m, s, request, "\"result\":null");
        return;
    }
    /* An atom, which the model cannot name later, is not kept. */
    hold = hold && item.node != NOBODY && m->nodes[item.node].kind != KIND_ATOM;
    snprintf(request, sizeof request, "{\"id\":1,\"method\":\"%s.pop\",\"params\":[%lld,%s,%s]}",
             prefixes[which], (long long)node->id, place, hold ? "true" : "false");
    if (item.node != NOBODY && m->nodes[item.node].kind != KIND_ATOM) {
        snprintf(members, sizeof members, "\"object\":%lld", (long long)m->nodes[item.node].id);
    } else {
        snprintf(members, sizeof members, "\"object\":<int>");
    }
    if (hold) {
        m->nodes[item.node].holds[s]++;
    } else {
        model_drop(m, item.node);
    }
    call(m, s, request, object_result(m, text, sizeof text, members, NOBODY));
}

/* dict.setitem, attr.set: an entry that is there keeps its place. */
static void op_set_entry(struct model *m, int s)
{
    char request[256], literal[64];
    bool attr = below(m, 2) == 0;
    int i = choose(m, attr ? KIND_INSTANCE : KIND_DICT), key = (int)below(m, KEYS), at = 0;
    if (i == NOBODY || !has_room(m)) {
        return;
    }
    struct node *node = &m->nodes[i];
    struct item item = choose_value(m, literal, sizeof literal);
    item.key = key;
    snprintf(request, sizeof request, "{\"id\":1,\"method\":\"%s\",\"params\":[%lld,%s%d%s,%s]}",
             attr ? "attr.set" : "dict.setitem", (long long)node->id, attr ? "\"a" : "", key,
             attr ? "\"" : "", literal);
    while (at < node->item_count && node->items[at].key != key) {
        at++;
    }
    int old = at < node->item_count ? node->items[at].node : NOBODY;
    node->item_count += at == node->item_count;
    node->items[at] = item;
    model_drop(m, old);
    call(m, s, request, "\"result\":null");
}

static void op_clear(struct model *m, int s)
{
    char request[128];
    bool dict = below(m, 2) == 0;
    int i = choose(m, dict ? KIND_DICT : KIND_LIST);
    if (i == NOBODY) {
        return;
    }
    snprintf(request, sizeof request, "{\"id\":1,\"method\":\"%s.clear\",\"params\":[%lld]}",
             dict ? "dict" : "list", (long long)m->nodes[i].id);
    while (m->nodes[i].alive && m->nodes[i].item_count > 0) {
        model_drop(m, take_out(&m->nodes[i], m->nodes[i].item_count - 1).node);
    }
    call(m, s, request, "\"result\":null");
}

static void op_fail(struct model *m, int s)
{
    char request[256];
    int i = choose(m, KIND_LIST);
    if (i == NOBODY) {
        return;
    }
    long long id = (long long)m->nodes[i].id;
    snprintf(request, sizeof request,
             "{\"id\":1,\"method\":\"list.append\",\"params\":[%lld,[[1000],{\"k\":{\"$ref\":%lld}},{\"$"
             "set\":[[]]}]]}",
             id, id);
    call(m, s, request, "\"error\":<error value_error>");
    snprintf(request, sizeof request, "{\"id\":1,\"method\":\"dict.setitem\",\"params\":[%lld,1,[[]]]}", id);
    call(m, s, request, "\"error\":<error type_error {\"object\":<int>}>");
    snprintf(request, sizeof request, "{\"id\":1,\"method\":\"list.delitem\",\"params\":[%lld,%d]}", id,
             m->nodes[i].item_count);
    call(m, s, request, "\"error\":<error index_error>");
    /* What failed has made and dropped containers; how often the counter saw that is its own affair. */
    m->count0_known = false;
}

/* ---- comparing ---- */

static void compare_content(struct model *m, int s)
{
    char request[128], *expected;
    size_t size;
    int i = choose(m, KIND_ATOM);
    if (i == NOBODY || (!m->exact && m->nodes[i].kind == KIND_WEAKREF)) {
        return;
    }
    FILE *out = open_memstream(&expected, &size);
    fputs("\"result\":<ordered ", out);
    say_node(out, m, &m->nodes[i]);
    fputs(">", out);
    fclose(out);
    snprintf(request, sizeof request, "{\"id\":1,\"method\":\"get\",\"params\":[%lld]}",
             (long long)m->nodes[i].id);
    call(m, s, request, expected);
    free(expected);
}

static void compare_counts(struct model *m, int s)
{
    int64_t holds = 0, names = 0;
    for (int i = 0; i < NODES_MAX; i++) {
        for (int t = 0; t < SESSIONS && m->nodes[i].alive; t++) {
            holds += m->nodes[i].holds[t];
        }
    }
    for (int n = 0; n < NAMES; n++) {
        names += m->names[n] != NOBODY;
    }
    assert_int_equal(wire_stat(m->wires[s], "sessions", "holds"), holds);
    assert_int_equal(wire_stat(m->wires[s], "names", "count"), names + 1);
    if (m->exact) {
        assert_int_equal(wire_stat(m->wires[s], "objects", "live"), m->live);
        json_t *j_count = wire_callf(m->wires[s], "gc.get_count", NULL);
        if (m->count0_known) {
            assert_int_equal(json_integer_value(json_array_get(j_count, 0)), m->count0);
        } else {
            m->count0 = json_integer_value(json_array_get(j_count, 0));
            m->count0_known = true;
        }
        json_decref(j_count);
    }
}

static void op_collect(struct model *m, int s)
{
    char text[256];
    int64_t before = m->live, unreachable = model_collect(m);
    if (m->exact) {
        snprintf(text, sizeof text,
                 "\"result\":{\"generation\":2,\"unreachable\":%lld,\"uncollectable\":0,\"freed\":%lld,"
                 "\"elapsed_us\":<int>}",
                 (long long)unreachable, (long long)(before - m->live));
        call(m, s, "{\"id\":1,\"method\":\"collect\"}", text);
    } else {
        call(m, s, "{\"id\":1,\"method\":\"collect\"}", "\"result\":<has {\"generation\":2}>");
    }
    assert_int_equal(wire_stat(m->wires[s], "objects", "live"), m->live);
    for (int i = 0; i < NODES_MAX; i++) {
        if (m->nodes[i].alive && m->nodes[i].id != 0) {
            assert_int_equal(
                wire_call_int(m->wires[s], NULL, "sys.getrefcount", "[I]", (json_int_t)m->nodes[i].id),
                m->nodes[i].refcount + 1);
        }
    }
}

/* The session ends, one way or another, and a new one takes its place. */
static void op_new_session(struct model *m, int s)
{
    if (below(m, 2)) {
        wire_close(m->wires[s]);
    } else {
        wire_reset(m->wires[s]);
    }
    for (int i = 0; i < NODES_MAX; i++) {
        while (m->nodes[i].alive && m->nodes[i].holds[s] > 0) {
            m->nodes[i].holds[s]--;
            model_drop(m, i);
        }
        m->nodes[i].holds[s] = 0;
    }
    m->wires[s] = below(m, 2) ? wire_open(m->fixture->daemon) : wire_open_unix(m->fixture->daemon);
    int64_t deadline = process_now_ms() + PROCESS_PATIENCE_MS;
    while (wire_stat(m->wires[s], "sessions", "count") > SESSIONS) {
        assert_true(process_now_ms() < deadline);
    }
    wire_check_heap(m->wires[s]); /* waits until all that dies of it is dead */
}

/* ---- runs ---- */

static void step(struct model *m)
{
    static void (*const operations[])(struct model *, int) = {
        op_create,    op_create,   op_create,   op_weakref,      op_ref,
        op_unref,     op_unref,    op_unref,    op_unref,        op_bind,
        op_unbind,    op_list_put, op_list_put, op_list_put,     op_list_extend,
        op_take_out,  op_take_out, op_take_out, op_set_entry,    op_set_entry,
        op_set_entry, op_clear,    op_fail,     compare_content, compare_content,
    };
    int s = (int)below(m, SESSIONS);
    m->deaths = 0;
    m->steps++;
    uint32_t rare = below(m, 1000);
    if (rare < 10) {
        compare_counts(m, s);
    } else if (rare < 16) {
        op_collect(m, s);
    } else if (rare < 20) {
        op_new_session(m, s);
    } else if (rare == 20) {
        wire_check_heap(m->wires[s]);
    } else {
        operations[below(m, sizeof operations / sizeof *operations)](m, s);
    }
}

static void run(void **state, bool exact, int steps)
{
    struct model *m = calloc(1, sizeof *m);
    assert_non_null(m);
    m->fixture = *state;
    m->exact = exact;
    m->next_value = 1000;
    process_random_init(&m->random);
    for (int n = 0; n < NAMES; n++) {
        m->names[n] = NOBODY;
    }
    m->wires[0] = m->fixture->wire;
    m->wires[1] = wire_open_unix(m->fixture->daemon);
    m->fixture->wire = NULL;
    json_decref(wire_callf(m->wires[0], exact ? "gc.disable" : "gc.set_threshold", exact ? NULL : "[i,i,i]",
                           5, 2, 2));
    m->class = model_new(m, KIND_CLASS);
    m->nodes[m->class].refcount = 1;
    m->nodes[m->class].id = wire_call_int(m->wires[0], "object", "create", "[{s:s},s]", "$class", "C", "C");
    for (int n = 0; n < steps; n++) {
        step(m);
    }
    op_collect(m, 0);
    for (int s = 0; s < SESSIONS; s++) {
        wire_check_heap(m->wires[s]);
        wire_close(m->wires[s]);
    }
    free(m);
}

static void test_random_exact(void **state)
{
    run(state, true, process_rounds(20000, 50));
}

static void test_random_with_automatic_collection(void **state)
{
    run(state, false, process_rounds(20000, 50));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        fixture_test(test_random_exact),
        fixture_test(test_random_with_automatic_collection),
    };
    return cmocka_run_group_tests_name("random", tests, NULL, NULL);
}
