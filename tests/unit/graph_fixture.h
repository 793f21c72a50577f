/* graph_fixture.h -- random graphs of all types, random changes of them, and what a heap has at one moment.
 *
 *   graph_init    a generator of objects; a session of its own holds all of graph->objects
 *   graph_grow    makes an object, graph_change changes, links, drops or collects something
 *   shot_take     copies everything that lives, in memory order, by asking the public face of the heap
 *
 * The seed is printed, and taken from the environment variable SEED.
 */
#ifndef HEAPD_TESTS_GRAPH_FIXTURE_H
#define HEAPD_TESTS_GRAPH_FIXTURE_H

#include "heap_fixture.h"

#include "../../heap/shape.h"

struct graph {
    struct heap *heap;
    uint64_t random;
    struct heap_session *keeper; /* holds each of `objects` once */
    heap_ref *objects;
    uint32_t count, room;
    bool never_collects; /* the test does */
};

static inline uint64_t graph_seed(void)
{
    const char *given = getenv("SEED");
    uint64_t seed = given != NULL ? strtoull(given, NULL, 10) : 20261122;
    print_message("SEED=%llu\n", (unsigned long long)seed);
    return seed;
}

static inline uint32_t graph_random(struct graph *graph, uint32_t below)
{
    graph->random = graph->random * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)((graph->random >> 33) % below);
}

static inline void graph_init(struct graph *graph, struct heap *heap, uint64_t seed)
{
    *graph =
        (struct graph){.heap = heap, .random = seed * 2654435761u + 1, .keeper = heap_session_create(heap)};
    assert_non_null(graph->keeper);
}

/* Lets go of all objects. */
static inline void graph_fini(struct graph *graph)
{
    if (graph->keeper != NULL) {
        heap_session_destroy(graph->heap, graph->keeper);
    }
    free(graph->objects);
    *graph = (struct graph){0};
}

static inline heap_ref graph_any(struct graph *graph)
{
    return graph->count > 0 ? graph->objects[graph_random(graph, graph->count)] : heap_none(graph->heap);
}

/* Gives the caller's reference to the keeper. */
static inline void graph_keep(struct graph *graph, heap_ref obj)
{
    if (graph->count == graph->room) {
        graph->room = graph->room == 0 ? 64 : graph->room * 2;
        graph->objects = realloc(graph->objects, graph->room * sizeof *graph->objects);
        assert_non_null(graph->objects);
    }
    OK(heap_hold(graph->heap, graph->keeper, obj));
    heap_decref(graph->heap, obj);
    graph->objects[graph->count++] = obj;
}

static inline void graph_drop(struct graph *graph, uint32_t i)
{
    OK(heap_unhold(graph->heap, graph->keeper, graph->objects[i]));
    graph->objects[i] = graph->objects[--graph->count];
}

static inline heap_ref graph_atom(struct graph *graph)
{
    heap_ref obj;
    char text[80];
    switch (graph_random(graph, 6)) {
    case 0:
        return new_int(graph->heap, (int64_t)graph_random(graph, 1000) - 100);
    case 1:
        OK(heap_float_create(&obj, graph->heap, graph_random(graph, 1000) / 8.0));
        return obj;
    case 2:
        memset(text, '7', sizeof text);
        OK(heap_int_parse(&obj, graph->heap, text, 20 + graph_random(graph, 60)));
        return obj;
    case 3:
        OK(heap_bytes_create(&obj, graph->heap, "\0ab\xFF", graph_random(graph, 5)));
        return obj;
    default:
        snprintf(text, sizeof text, "k%0*u", (int)graph_random(graph, 40) + 1, graph_random(graph, 100));
        OK(heap_str_create(&obj, graph->heap, text, graph_random(graph, (uint32_t)strlen(text) + 1)));
        return obj;
    }
}

static inline heap_ref graph_tuple(struct graph *graph)
{
    heap_ref items[5], obj;
    uint32_t n = graph_random(graph, 6);
    for (uint32_t i = 0; i < n; i++) {
        items[i] = graph_any(graph);
        OK(heap_incref(graph->heap, items[i]));
    }
    OK(heap_tuple_create_steal(&obj, graph->heap, items, n));
    return obj;
}

static inline heap_ref graph_class(struct graph *graph)
{
    heap_ref class;
    char name[20];
    int len = snprintf(name, sizeof name, "C%u", graph_random(graph, 50));
    static const struct heap_text slots[] = {{"a", 1}, {"b", 1}, {"c1", 2}};
    OK(heap_class_create(&class, graph->heap, (struct heap_text){name, (size_t)len},
                         graph_random(graph, 3) == 0 ? slots : NULL, 3));
    return class;
}

/* Of the first class there is; makes one when there is none. */
static inline heap_ref graph_instance(struct graph *graph)
{
    heap_ref class = 0, instance;
    for (uint32_t i = 0; i < 20 && class == 0; i++) {
        heap_ref obj = graph_any(graph);
        class = heap_type(graph->heap, obj) == HEAP_T_CLASS ? obj : 0;
    }
    if (class == 0) {
        graph_keep(graph, graph_class(graph));
        class = graph->objects[graph->count - 1];
    }
    OK(heap_instance_create(&instance, graph->heap, class, 0));
    return instance;
}

static inline heap_ref graph_weakref(struct graph *graph)
{
    heap_ref obj, target = graph_any(graph);
    if (heap_is_immortal(graph->heap, target)) {
        OK(heap_weakref_create(&obj, graph->heap));
    } else if (graph_random(graph, 2) == 0) {
        OK(heap_weakref_shared(&obj, graph->heap, target));
    } else {
        OK(heap_weakref_notify(&obj, graph->heap, graph->keeper, target));
    }
    return obj;
}

/* One more object. */
static inline void graph_grow(struct graph *graph)
{
    struct heap *heap = graph->heap;
    heap_ref obj;
    switch (graph_random(graph, 12)) {
    case 0:
    case 1:
        obj = new_list(heap);
        break;
    case 2:
    case 3:
        OK(heap_dict_create(&obj, heap, graph_random(graph, 20)));
        break;
    case 4:
        OK(heap_set_create(&obj, heap, false, 0));
        break;
    case 5:
        obj = graph_tuple(graph);
        break;
    case 6:
    case 7:
        obj = graph_instance(graph);
        break;
    case 8:
        obj = graph_weakref(graph);
        break;
    case 9:
        obj = graph_random(graph, 4) == 0 ? graph_class(graph) : new_list(heap);
        break;
    default:
        obj = graph_atom(graph);
        break;
    }
    graph_keep(graph, obj);
}

static inline bool graph_is_hashable(const struct heap *heap, heap_ref obj)
{
    enum heap_type type = heap_type(heap, obj);
    return !heap_is_container(heap, obj) || type == HEAP_T_INSTANCE || type == HEAP_T_CLASS ||
           type == HEAP_T_WEAKREF;
}

/* A name of an attribute. */
static inline size_t graph_name(struct graph *graph, char name[8])
{
    static const char *const names[] = {"a", "b", "c1", "long1", "long2", "x", "y", "z"};
    strcpy(name, names[graph_random(graph, 8)]);
    return strlen(name);
}

/* Lets `container` refer to `item` too, if it can. */
static inline void graph_link(struct graph *graph, heap_ref container, heap_ref item)
{
    struct heap *heap = graph->heap;
    uint32_t len;
    bool added;
    char name[8];
    OK(heap_incref(heap, item));
    switch (heap_type(heap, container)) {
    case HEAP_T_LIST:
        len = heap_seq_len(heap, container);
        if (len > 0 && graph_random(graph, 3) == 0) {
            heap_list_set_steal(heap, container, graph_random(graph, len), item);
        } else if (graph_random(graph, 2) == 0) {
            OK(heap_list_append_steal(heap, container, item));
        } else {
            OK(heap_list_insert_steal(heap, container, graph_random(graph, len + 1), item));
        }
        break;
    case HEAP_T_DICT:
        OK(heap_dict_set_steal(heap, container, graph_atom(graph), item));
        break;
    case HEAP_T_SET:
        if (graph_is_hashable(heap, item)) {
            OK(heap_set_add_steal(&added, heap, container, item));
        } else {
            heap_decref(heap, item);
        }
        break;
    case HEAP_T_INSTANCE:
        len = (uint32_t)graph_name(graph, name);
        (void)!heap_attr_set_steal(heap, container, name, len, item);
        break;
    default:
        heap_decref(heap, item);
        break;
    }
}

static inline void graph_unlink_dict(struct graph *graph, heap_ref dict)
{
    uint32_t pos = 0;
    heap_ref key, value;
    if (heap_dict_next(graph->heap, dict, &pos, &key, &value)) {
        OK(heap_dict_pop(&key, &value, graph->heap, dict, key));
        heap_decref(graph->heap, key);
        heap_decref(graph->heap, value);
    }
}

static inline void graph_unlink_set(struct graph *graph, heap_ref set)
{
    uint32_t pos = 0;
    heap_ref member;
    if (heap_set_next(graph->heap, set, &pos, &member)) {
        OK(heap_set_discard(&member, graph->heap, set, member));
        heap_decref(graph->heap, member);
    }
}

/* Takes a reference of `container` away. */
static inline void graph_unlink(struct graph *graph, heap_ref container)
{
    struct heap *heap = graph->heap;
    char name[8];
    size_t len;
    switch (heap_type(heap, container)) {
    case HEAP_T_LIST:
        if (heap_seq_len(heap, container) > 0) {
            heap_decref(heap,
                        heap_list_pop(heap, container, graph_random(graph, heap_seq_len(heap, container))));
        }
        break;
    case HEAP_T_DICT:
        graph_unlink_dict(graph, container);
        break;
    case HEAP_T_SET:
        graph_unlink_set(graph, container);
        break;
    case HEAP_T_INSTANCE:
        len = graph_name(graph, name);
        (void)!heap_attr_del(heap, container, name, len);
        break;
    default:
        break;
    }
}

static inline void graph_clear(struct graph *graph, heap_ref container)
{
    switch (heap_type(graph->heap, container)) {
    case HEAP_T_LIST:
        heap_list_clear(graph->heap, container);
        break;
    case HEAP_T_DICT:
        heap_dict_clear(graph->heap, container);
        break;
    case HEAP_T_SET:
        heap_set_clear(graph->heap, container);
        break;
    default:
        break;
    }
}

/* Many references at once, so that buffers and indexes are made anew. */
static inline void graph_fill(struct graph *graph, heap_ref container)
{
    if (heap_type(graph->heap, container) == HEAP_T_LIST) {
        OK(heap_list_extend(graph->heap, container, container));
    }
    for (uint32_t i = graph_random(graph, 40); i > 0; i--) {
        graph_link(graph, container, graph_any(graph));
    }
}

/* Gives an id to something that the object refers to. */
static inline void graph_name_referent(struct graph *graph, heap_ref obj)
{
    uint64_t position = 0, id;
    heap_ref referent;
    while (heap_referent_next(graph->heap, obj, &position, &referent) && graph_random(graph, 3) != 0) {
        OK(heap_id(&id, graph->heap, referent));
    }
}

/* Puts another object into a slot of a list, as a literal that is being built does. */
static inline void graph_refill(struct graph *graph, heap_ref obj)
{
    if (heap_type(graph->heap, obj) == HEAP_T_LIST && heap_seq_len(graph->heap, obj) > 0) {
        uint32_t i = graph_random(graph, heap_seq_len(graph->heap, obj));
        heap_ref item = graph_any(graph);
        OK(heap_incref(graph->heap, item));
        heap_decref(graph->heap, heap_unfill(graph->heap, obj, i));
        heap_fill_steal(graph->heap, obj, i, item);
    }
}

/* Lets the object drop what it refers to when it dies. */
static inline void graph_finalize(struct graph *graph, heap_ref obj)
{
    struct heap_finalizer finalizer = {.clear = true};
    if (!heap_is_immortal(graph->heap, obj) && !heap_is_finalized(graph->heap, obj)) {
        OK(heap_finalizer_set(graph->heap, graph->keeper, obj, &finalizer));
    }
}

/* Gives a weakref without a target one. */
static inline void graph_aim(struct graph *graph, heap_ref obj)
{
    heap_ref target = graph_any(graph);
    if (heap_type(graph->heap, obj) == HEAP_T_WEAKREF && heap_weakref_target(graph->heap, obj) == 0 &&
        object_at(graph->heap, obj)->n != WEAKREF_NOTIFY && !heap_is_immortal(graph->heap, target)) {
        OK(heap_weakref_aim(graph->heap, obj, target));
    }
}

/* One random change of an object, of what is held, or of everything. */
static inline void graph_change(struct graph *graph)
{
    struct heap *heap = graph->heap;
    if (graph->count == 0) {
        graph_grow(graph);
        return;
    }
    heap_ref obj = graph_any(graph);
    switch (graph_random(graph, 40)) {
    case 0:
        graph_clear(graph, obj);
        break;
    case 1:
        if (heap_referent_count(heap, obj) < 200) {
            graph_fill(graph, obj);
        }
        break;
    case 2:
        graph_name_referent(graph, obj);
        break;
    case 10:
        graph_refill(graph, obj);
        break;
    case 11:
        graph_finalize(graph, obj);
        break;
    case 12:
    case 13:
        graph_aim(graph, obj);
        break;
    case 3:
        if (!graph->never_collects) {
            collect(heap, (int)graph_random(graph, 3));
        }
        break;
    case 4:
    case 5:
    case 6:
    case 7:
    case 8:
    case 9:
        graph_drop(graph, graph_random(graph, graph->count));
        break;
    default:
        if (graph_random(graph, 5) == 0) {
            graph_grow(graph);
        } else if (graph_random(graph, 2) == 0) {
            graph_link(graph, obj, graph_any(graph));
        } else {
            graph_unlink(graph, obj);
        }
        break;
    }
    heap_settle(heap);
}

/* ---- everything that lives at one moment ---- */

struct shot_object {
    heap_ref ref;
    enum heap_type type;
    uint64_t bytes, id; /* 0: has none */
    heap_ref target;    /* of a weakref */
    heap_ref *edges;
    char **names; /* of the edges */
    uint32_t count;
    char text[100]; /* of an atom */
    char type_name[100];
};

struct shot {
    struct shot_object *objects; /* in memory order, containers first; no immortals */
    uint32_t count;
};

static inline char *shot_text(const char *format, const char *text)
{
    char *copy = malloc(strlen(format) + strlen(text) + 1);
    assert_non_null(copy);
    sprintf(copy, format, text);
    return copy;
}

static inline char *shot_edge_name(struct heap *heap, const struct shot_object *object, uint32_t k)
{
    char text[100];
    switch (object->type) {
    case HEAP_T_LIST:
    case HEAP_T_TUPLE:
        snprintf(text, sizeof text, "%u", k);
        return shot_text("[%s]", text);
    case HEAP_T_DICT:
        if (k % 2 == 0) {
            return shot_text("{}", "");
        }
        heap_repr(text, sizeof text, heap, object->edges[k - 1]);
        return shot_text("[%s]", text);
    case HEAP_T_INSTANCE: {
        const char *name = "__class__";
        uint32_t pos = 0;
        heap_ref value;
        for (uint32_t i = 0; i <= k && k + 1 < object->count; i++) {
            assert_true(heap_attr_next(heap, object->ref, &pos, &name, &value));
        }
        return shot_text(".%s", name);
    }
    default:
        return shot_text("{}", "");
    }
}

static inline void shot_edges(struct heap *heap, struct shot_object *object)
{
    uint64_t position = 0, count = heap_referent_count(heap, object->ref);
    heap_ref referent;
    object->edges = calloc(count + 1, sizeof *object->edges);
    object->names = calloc(count + 1, sizeof *object->names);
    assert_non_null(object->edges);
    assert_non_null(object->names);
    while (heap_referent_next(heap, object->ref, &position, &referent)) {
        assert_true(object->count < count);
        object->edges[object->count++] = referent;
    }
    assert_int_equal(object->count, count);
    for (uint32_t k = 0; k < object->count; k++) {
        object->names[k] = shot_edge_name(heap, object, k);
    }
}

static inline void shot_add(struct shot *shot, struct heap *heap, heap_ref ref)
{
    shot->objects = realloc(shot->objects, (shot->count + 1) * sizeof *shot->objects);
    assert_non_null(shot->objects);
    struct shot_object *object = &shot->objects[shot->count++];
    *object = (struct shot_object){.ref = ref, .type = heap_type(heap, ref), .bytes = heap_sizeof(heap, ref)};
    snprintf(object->type_name, sizeof object->type_name, "%s", heap_type_name(heap, ref));
    if (handle_slot_if_any(heap, ref) != 0) {
        OK(heap_id(&object->id, heap, ref));
    }
    if (object->type == HEAP_T_WEAKREF) {
        object->target = heap_weakref_target(heap, ref);
    }
    if (ref_is_atom(ref)) {
        heap_repr(object->text, sizeof object->text, heap, ref);
    }
    shot_edges(heap, object);
}

static inline void shot_take(struct shot *shot, struct heap *heap)
{
    *shot = (struct shot){0};
    heap_settle(heap);
    for (enum pool_kind kind = 0; kind < POOL_KINDS; kind++) {
        uint32_t pool = 0, first;
        unsigned class;
        while (kind != POOL_BUFFER && pymalloc_next_pool(&heap->pm, kind, &pool, &first, &class)) {
            for (uint32_t ref = first; (ref ^ first) < 1024; ref++) {
                if (pymalloc_is_block(&heap->pm, ref, kind) && !heap_is_immortal(heap, ref)) {
                    shot_add(shot, heap, ref);
                }
            }
        }
    }
}

static inline void shot_free(struct shot *shot)
{
    for (uint32_t i = 0; i < shot->count; i++) {
        for (uint32_t k = 0; k < shot->objects[i].count; k++) {
            free(shot->objects[i].names[k]);
        }
        free(shot->objects[i].edges);
        free(shot->objects[i].names);
    }
    free(shot->objects);
}

/* The number of an object, or UINT32_MAX. */
static inline uint32_t shot_find(const struct shot *shot, heap_ref ref)
{
    uint32_t low = 0, high = shot->count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (shot->objects[middle].ref == ref) {
            return middle;
        }
        if (shot->objects[middle].ref < ref) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return UINT32_MAX;
}

#endif
