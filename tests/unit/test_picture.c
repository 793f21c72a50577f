/* test_picture.c -- pictures of the whole heap: the copy, what it says of roots, paths and retained sizes.
 *
 * Answers are compared with those of slow and simple oracles, which search the graph anew for each object.
 */
#include "graph_fixture.h"

#include "../../heap/picture.h"

#include <pthread.h>
#include <time.h>

static const _Atomic bool never = false;

/* ---- roots that a test gives its graph ---- */

#define SESSIONS 3u

struct world {
    struct heap *heap;
    struct graph graph;
    struct heap_session *sessions[SESSIONS];
    struct shot shot;
    struct heap_picture *picture;
};

/* Lets some objects be held by sessions and named, and lets go of the others. */
static void give_roots(struct world *world)
{
    struct graph *graph = &world->graph;
    for (unsigned s = 0; s < SESSIONS; s++) {
        world->sessions[s] = heap_session_create(world->heap);
        assert_non_null(world->sessions[s]);
    }
    for (uint32_t i = graph_random(graph, 5); i > 0; i--) {
        struct heap_session *session = world->sessions[graph_random(graph, SESSIONS)];
        OK(heap_hold(world->heap, session, graph_any(graph)));
    }
    for (uint32_t i = graph_random(graph, 4); i > 0; i--) {
        char name[20];
        int len = snprintf(name, sizeof name, "n%u", graph_random(graph, 100));
        OK(heap_name_bind(world->heap, name, (size_t)len, graph_any(graph)));
    }
}

/* A random graph with names, sessions, perhaps frozen objects and gc.garbage, and garbage that no root
 * reaches. */
static void world_create(struct world *world, struct heap *heap, uint64_t seed, uint32_t objects)
{
    *world = (struct world){.heap = heap};
    struct graph *graph = &world->graph;
    graph_init(graph, heap, seed);
    bool freezes = graph_random(graph, 4) == 0, saves = graph_random(graph, 4) == 0;
    for (uint32_t i = 0; i < objects; i++) {
        graph_grow(graph);
        if (i == objects / 8 && freezes) {
            heap_gc_freeze(heap);
        }
    }
    for (uint32_t i = graph_random(graph, objects * 3); i > 0; i--) {
        graph_link(graph, graph_any(graph), graph_any(graph));
    }
    for (uint32_t i = objects / 8; i > 0; i--) { /* large tables, from which entries were deleted */
        heap_ref obj = graph_any(graph);
        graph_fill(graph, obj);
        for (uint32_t k = graph_random(graph, 20); k > 0; k--) {
            graph_unlink(graph, obj);
        }
    }
    give_roots(world);
    for (uint32_t i = objects / 2; saves && i > 0; i--) {
        graph_drop(graph, graph_random(graph, graph->count));
    }
    if (saves) {
        heap_gc_set_debug(heap, HEAP_GC_SAVEALL);
        collect(heap, 2);
        heap_gc_set_debug(heap, 0);
    }
}

/* The picture, taken at once. */
static void world_picture(struct world *world, unsigned what)
{
    struct heap *heap = world->heap;
    world->picture = heap_picture_begin(heap, what);
    assert_non_null(world->picture);
    heap_leave(heap);
    OK(heap_picture_complete(world->picture, &never));
    heap_enter(heap);
}

static void world_destroy(struct world *world)
{
    struct heap *heap = world->heap;
    heap_picture_destroy(world->picture);
    shot_free(&world->shot);
    graph_fini(&world->graph);
    while (heap->sessions != NULL) {
        heap_session_destroy(heap, heap->sessions);
    }
    const char *name;
    size_t len;
    heap_ref obj;
    while (heap_name_next(heap, "", 0, "", 0, &name, &len, &obj)) {
        char copy[20];
        memcpy(copy, name, len);
        OK(heap_name_unbind(heap, copy, len));
    }
    heap_garbage_clear(heap);
    heap_gc_unfreeze(heap);
    heap_settle(heap);
    collect(heap, 2);
    assert_int_equal(fixture_live(heap), 0);
}

/* ---- the copy ---- */

static uint32_t node_of(const struct shot *shot, heap_ref ref)
{
    uint32_t i = ref != 0 ? shot_find(shot, ref) : UINT32_MAX;
    return i == UINT32_MAX ? HEAP_NO_NODE : i;
}

static bool has_labels(const struct world *world)
{
    return world->picture->what & HEAP_PICTURE_LABELS;
}

static void check_labels(const struct world *world, uint32_t i)
{
    const struct shot_object *was = &world->shot.objects[i];
    char text[HEAP_EDGE_BYTES];
    if (was->text[0] != '\0') {
        size_t len = heap_picture_text(text, sizeof text, world->picture, i);
        assert_int_equal(len, strlen(text));
        if (strlen(was->text) < PICTURE_TEXT_BYTES) {
            assert_string_equal(text, was->text);
        } else {
            assert_memory_equal(text, was->text, PICTURE_TEXT_BYTES - 1);
        }
    }
    for (uint32_t k = 0; k < was->count; k++) {
        size_t len = heap_picture_edge_name(text, world->picture, i, k);
        assert_int_equal(len, strlen(text));
        if (len < PICTURE_TEXT_BYTES) {
            assert_string_equal(text, was->names[k]);
        }
    }
}

static void check_node(const struct world *world, uint32_t i)
{
    const struct shot_object *was = &world->shot.objects[i];
    struct heap_node node;
    heap_picture_node(&node, world->picture, i);
    assert_int_equal(heap_picture_find(world->picture, was->ref), i);
    assert_int_equal(node.type, was->type);
    assert_string_equal(node.type_name, was->type_name);
    if (has_labels(world)) {
        assert_int_not_equal(node.id, 0);
        assert_int_equal(node.bytes, was->bytes + (was->id == 0 ? HANDLE_BYTES : 0));
        heap_ref now = heap_find(world->heap, node.id); /* 0 once it is dead */
        assert_int_equal(heap_picture_ref(world->picture, i), now);
        assert_true(now == 0 || now == was->ref);
    } else {
        assert_int_equal(node.bytes, was->bytes);
        assert_int_equal(node.id, was->id);
    }
    assert_int_equal(node.edge_count, was->count);
    for (uint32_t k = 0; k < was->count; k++) {
        assert_int_equal(node.edges[k], node_of(&world->shot, was->edges[k]));
    }
    assert_int_equal(node.is_weak, was->type == HEAP_T_WEAKREF);
    assert_int_equal(node.target, node_of(&world->shot, was->target));
    if (has_labels(world)) {
        check_labels(world, i);
    }
}

static void check_copy(const struct world *world)
{
    assert_int_equal(heap_picture_nodes(world->picture), world->shot.count);
    for (uint32_t i = 0; i < world->shot.count; i++) {
        check_node(world, i);
    }
    assert_int_equal(heap_picture_find(world->picture, heap_none(world->heap)), HEAP_NO_NODE);
    assert_int_equal(heap_picture_find(world->picture, heap_empty_tuple(world->heap)), HEAP_NO_NODE);
}

/* A picture whose slices are of one object, with changes of all kinds in between. */
static void one_changing_world(struct heap *heap, uint64_t seed, unsigned what)
{
    struct world world;
    world_create(&world, heap, seed, 40);
    heap_ref late = new_list(heap);
    heap_decref(heap, late);
    shot_take(&world.shot, heap);
    world.picture = heap_picture_begin(heap, what);
    assert_non_null(world.picture);
    while (!picture_step(world.picture, 1)) {
        for (uint32_t i = graph_random(&world.graph, 3); i > 0; i--) {
            graph_change(&world.graph);
        }
    }
    OK(picture_order(world.picture));
    for (uint32_t i = 0; i < 30; i++) {
        graph_change(&world.graph);
    }
    check_copy(&world);
    world_destroy(&world);
    fixture_check(heap);
}

static void test_picture_is_of_one_moment(void **state)
{
    uint64_t seed = graph_seed();
    for (uint32_t i = 0; i < (fixture_is_small() ? 20u : 300u); i++) {
        one_changing_world(*state, seed + i, i % 2 == 0 ? HEAP_PICTURE_LABELS : HEAP_PICTURE_GRAPH);
    }
}

static void test_picture_of_an_empty_heap(void **state)
{
    struct world world = {.heap = *state};
    world_picture(&world, HEAP_PICTURE_LABELS);
    assert_int_equal(heap_picture_nodes(world.picture), 0);
    assert_int_equal(heap_picture_roots(world.picture), 0);
    uint64_t *objects, *bytes;
    OK(heap_picture_dominators(&objects, &bytes, world.picture));
    free(objects);
    free(bytes);
    world_destroy(&world);
}

static void test_picture_keeps_names_of_classes_that_die(void **state)
{
    struct heap *heap = *state;
    struct world world = {.heap = heap};
    heap_ref class, instance;
    OK(heap_class_create(&class, heap, (struct heap_text){"Gone", 4}, NULL, 0));
    OK(heap_instance_create(&instance, heap, class, 0));
    OK(heap_attr_set_steal(heap, instance, "vanished", 8, new_list(heap)));
    heap_decref(heap, class);
    keep(heap, instance);
    uint64_t id;
    OK(heap_id(&id, heap, class));
    world.picture = heap_picture_begin(heap, HEAP_PICTURE_LABELS);
    assert_non_null(world.picture);
    drop(heap, instance);
    heap_settle(heap);
    assert_int_equal(heap_find(heap, id), 0);
    OK(heap_class_create(&class, heap, (struct heap_text){"Other", 5}, NULL, 0));
    OK(heap_instance_create(&instance, heap, class, 0));
    OK(heap_attr_set_steal(heap, instance, "new", 3, new_list(heap)));
    while (!picture_step(world.picture, 1)) {
    }
    OK(picture_order(world.picture));
    uint32_t found = 0;
    for (uint32_t i = 0; i < heap_picture_nodes(world.picture); i++) {
        struct heap_node node;
        heap_picture_node(&node, world.picture, i);
        if (node.type == HEAP_T_INSTANCE) {
            char text[HEAP_EDGE_BYTES];
            assert_string_equal(node.type_name, "Gone");
            heap_picture_edge_name(text, world.picture, i, 0);
            assert_string_equal(text, ".vanished");
            heap_picture_edge_name(text, world.picture, i, 1);
            assert_string_equal(text, ".__class__");
            found++;
        }
    }
    assert_int_equal(found, 1);
    heap_decref(heap, instance);
    heap_decref(heap, class);
    world_destroy(&world);
}

static void test_picture_tells_an_int_that_is_counted_up(void **state)
{
    struct heap *heap = *state;
    struct world world = {.heap = heap};
    heap_ref dict, key = new_str(heap, "counter"), value;
    int64_t sum;
    OK(heap_dict_create(&dict, heap, 0));
    OK(heap_dict_incr(&sum, heap, dict, key, 1000));
    OK(heap_dict_get(&value, heap, dict, key));
    keep(heap, dict);
    world.picture = heap_picture_begin(heap, HEAP_PICTURE_LABELS);
    assert_non_null(world.picture);
    OK(heap_dict_incr(&sum, heap, dict, key, 1));
    while (!picture_step(world.picture, 1)) {
    }
    OK(picture_order(world.picture));
    char text[100];
    struct heap_node node;
    uint32_t i = heap_picture_find(world.picture, value);
    heap_picture_text(text, sizeof text, world.picture, i);
    assert_string_equal(text, "1000");
    heap_picture_node(&node, world.picture, i);
    assert_int_equal(heap_find(heap, node.id), 0); /* the int 1000 is no more: the sum is another object */
    OK(heap_dict_get(&value, heap, dict, key));
    uint64_t id;
    OK(heap_id(&id, heap, value));
    assert_int_not_equal(id, node.id);
    heap_decref(heap, key);
    world_destroy(&world);
}

/* The empty tuple is in no picture, so it is looked at in the heap, without the GIL.  That failed an assertion. */
static void test_picture_tells_an_empty_tuple_without_the_gil(void **state)
{
    struct heap *heap = *state;
    struct world world = {.heap = heap};
    heap_ref empty, outer, dict;
    OK(heap_tuple_create_steal(&empty, heap, NULL, 0));
    OK(heap_tuple_create_steal(&outer, heap, &empty, 1));
    OK(heap_dict_create(&dict, heap, 0));
    OK(heap_dict_set_steal(heap, dict, empty, outer));
    keep(heap, dict);
    world.picture = heap_picture_begin(heap, HEAP_PICTURE_LABELS);
    assert_non_null(world.picture);
    while (!picture_step(world.picture, 1)) {
    }
    heap_leave(heap);
    OK(picture_order(world.picture));
    char text[100], edge[HEAP_EDGE_BYTES];
    heap_picture_text(text, sizeof text, world.picture, heap_picture_find(world.picture, outer));
    assert_string_equal(text, "((),)");
    heap_picture_edge_name(edge, world.picture, heap_picture_find(world.picture, dict), 1);
    assert_string_equal(edge, "[()]");
    heap_enter(heap);
    world_destroy(&world);
}

/* ---- roots ---- */

static void count_row(void *arg, uint64_t session, uint64_t holds)
{
    (void)session;
    (void)holds;
    (*(uint32_t *)arg)++;
}

struct holder {
    uint64_t session;
    bool holds;
};

static void find_holder(void *arg, uint64_t session, uint64_t holds)
{
    struct holder *holder = arg;
    holder->holds = holder->holds || (session == holder->session && holds > 0);
}

static bool session_holds(struct heap *heap, uint64_t number, heap_ref ref)
{
    struct holder holder = {.session = number};
    heap_holders_of(heap, ref, find_holder, &holder);
    return holder.holds;
}

static void check_root(const struct world *world, const struct heap_root *root, uint64_t garbage)
{
    struct heap *heap = world->heap;
    heap_ref ref = root->node != HEAP_NO_NODE ? world->shot.objects[root->node].ref : 0, named;
    switch (root->kind) {
    case HEAP_ROOT_NAME:
        named = heap_name_find(heap, root->name.text, root->name.len);
        assert_true(named != 0 && (ref == 0 ? heap_is_immortal(heap, named) : named == ref));
        break;
    case HEAP_ROOT_SESSION:
        assert_true(ref == 0 || session_holds(heap, root->session, ref));
        break;
    case HEAP_ROOT_FROZEN:
        assert_int_equal(heap_gc_generation(heap, ref), HEAP_GENERATION_FROZEN);
        break;
    case HEAP_ROOT_GARBAGE:
        assert_int_equal(heap_garbage_item(heap, garbage), ref);
        break;
    }
}

/* Each root is one of the heap, in the order of kinds, and there are as many as the heap has. */
static void check_roots(const struct world *world)
{
    struct heap_stats stats;
    heap_stats(&stats, world->heap);
    uint64_t counts[HEAP_ROOT_GARBAGE + 1] = {0}, immortal_holds = 0;
    uint32_t holders = 0;
    enum heap_root_kind last = HEAP_ROOT_NAME;
    for (uint64_t i = 0; i < heap_picture_roots(world->picture); i++) {
        struct heap_root root;
        heap_picture_root(&root, world->picture, i);
        assert_true(root.kind >= last);
        last = root.kind;
        check_root(world, &root, counts[HEAP_ROOT_GARBAGE]);
        counts[root.kind]++;
        immortal_holds += root.kind == HEAP_ROOT_SESSION && root.node == HEAP_NO_NODE;
    }
    for (uint32_t i = 0; i < world->shot.count; i++) {
        heap_holders_of(world->heap, world->shot.objects[i].ref, count_row, &holders);
    }
    assert_int_equal(counts[HEAP_ROOT_NAME], stats.names);
    assert_int_equal(counts[HEAP_ROOT_SESSION], holders + immortal_holds);
    assert_int_equal(counts[HEAP_ROOT_FROZEN], heap_gc_frozen(world->heap));
    assert_int_equal(counts[HEAP_ROOT_GARBAGE], heap_garbage_len(world->heap));
}

/* What is noted of the names at t0. */
struct bound {
    char name[20];
    size_t len;
    heap_ref ref;
};

static uint32_t note_names(struct heap *heap, struct bound *bound, uint32_t room)
{
    uint32_t count = 0;
    const char *name = "";
    size_t len = 0;
    heap_ref ref;
    while (heap_name_next(heap, "", 0, name, len, &name, &len, &ref)) {
        assert_true(count < room && len < sizeof bound->name);
        memcpy(bound[count].name, name, len);
        bound[count].len = len;
        bound[count++].ref = ref;
    }
    return count;
}

static void change_a_name(struct graph *graph)
{
    char name[20];
    size_t len = (size_t)snprintf(name, sizeof name, "n%u", graph_random(graph, 60));
    if (graph_random(graph, 2) == 0) {
        (void)!heap_name_unbind(graph->heap, name, len);
    } else {
        heap_ref obj = graph_random(graph, 10) == 0 ? heap_none(graph->heap) : graph_any(graph);
        OK(heap_name_bind(graph->heap, name, len, obj));
    }
    heap_settle(graph->heap);
}

/* Names and holds that change while the picture is taken: it has those of t0. */
static void one_world_of_names(struct heap *heap, uint64_t seed, unsigned what)
{
    struct world world = {.heap = heap};
    struct graph *graph = &world.graph;
    struct bound bound[60];
    graph_init(graph, heap, seed);
    for (uint32_t i = 0; i < 30; i++) {
        graph_grow(graph);
        change_a_name(graph);
    }
    shot_take(&world.shot, heap);
    uint32_t names = note_names(heap, bound, 60), held = 0;
    uint64_t keeper = heap_session_number(graph->keeper);
    bool *is_held = calloc(world.shot.count + 1, sizeof *is_held);
    assert_non_null(is_held);
    for (uint32_t i = 0; i < world.shot.count; i++) {
        is_held[i] = session_holds(heap, keeper, world.shot.objects[i].ref);
        held += is_held[i];
    }
    world.picture = heap_picture_begin(heap, what);
    assert_non_null(world.picture);
    while (!picture_step(world.picture, 1)) {
        change_a_name(graph);
        graph_change(graph);
    }
    OK(picture_order(world.picture));
    for (uint64_t i = 0; i < heap_picture_roots(world.picture); i++) {
        struct heap_root root;
        heap_picture_root(&root, world.picture, i);
        if (i < names) {
            assert_int_equal(root.kind, HEAP_ROOT_NAME);
            assert_int_equal(root.name.len, bound[i].len);
            assert_memory_equal(root.name.text, bound[i].name, bound[i].len);
            assert_int_equal(root.node, node_of(&world.shot, bound[i].ref));
        } else {
            assert_int_equal(root.kind, HEAP_ROOT_SESSION);
            assert_int_equal(root.session, keeper);
            assert_true(root.node == HEAP_NO_NODE || is_held[root.node]);
            held -= root.node != HEAP_NO_NODE;
        }
    }
    assert_int_equal(held, 0);
    free(is_held);
    world_destroy(&world);
}

static void test_picture_has_the_roots_of_its_moment(void **state)
{
    uint64_t seed = graph_seed();
    for (uint32_t i = 0; i < (fixture_is_small() ? 20u : 200u); i++) {
        one_world_of_names(*state, seed + i, i % 2 == 0 ? HEAP_PICTURE_LABELS : HEAP_PICTURE_GRAPH);
    }
}

/* ---- oracles: a search for each question ---- */

/* Marks what roots reach, but for those of session `without` (0: none), on ways around node `gate`. */
static void oracle_reach(const struct world *world, bool *seen, uint64_t without, uint32_t gate)
{
    const struct shot *shot = &world->shot;
    uint32_t *stack = calloc(shot->count + 1, sizeof *stack), used = 0;
    assert_non_null(stack);
    memset(seen, 0, shot->count);
    for (uint64_t i = 0; i < heap_picture_roots(world->picture); i++) {
        struct heap_root root;
        heap_picture_root(&root, world->picture, i);
        bool counts = root.kind != HEAP_ROOT_SESSION || root.session != without;
        if (counts && root.node != HEAP_NO_NODE && root.node != gate && !seen[root.node]) {
            seen[root.node] = true;
            stack[used++] = root.node;
        }
    }
    while (used > 0) {
        const struct shot_object *object = &shot->objects[stack[--used]];
        for (uint32_t k = 0; k < object->count; k++) {
            uint32_t to = node_of(shot, object->edges[k]);
            if (to != HEAP_NO_NODE && to != gate && !seen[to]) {
                seen[to] = true;
                stack[used++] = to;
            }
        }
    }
    free(stack);
}

/* What `all` has and `less` has not. */
static void oracle_difference(const struct world *world, const bool *all, const bool *less, uint64_t *objects,
                              uint64_t *bytes)
{
    *objects = *bytes = 0;
    for (uint32_t i = 0; i < world->shot.count; i++) {
        if (all[i] && !less[i]) {
            struct heap_node node;
            heap_picture_node(&node, world->picture, i);
            (*objects)++;
            *bytes += node.bytes;
        }
    }
}

static void check_retained(const struct world *world, bool *all, bool *less)
{
    uint64_t *objects, *bytes;
    OK(heap_picture_dominators(&objects, &bytes, world->picture));
    for (uint32_t i = 0; i < world->shot.count; i++) {
        uint64_t expected_objects, expected_bytes, got_objects, got_bytes;
        oracle_reach(world, less, 0, i);
        oracle_difference(world, all, less, &expected_objects, &expected_bytes);
        assert_int_equal(objects[i], expected_objects);
        assert_int_equal(bytes[i], expected_bytes);
        OK(heap_picture_retained(&got_objects, &got_bytes, world->picture, i));
        assert_int_equal(got_objects, expected_objects);
        assert_int_equal(got_bytes, expected_bytes);
    }
    free(objects);
    free(bytes);
}

static void check_sessions(const struct world *world, const bool *all, bool *less)
{
    uint64_t numbers[SESSIONS + 2] = {[SESSIONS] = 123456789}, bytes[SESSIONS + 2], objects, expected;
    for (unsigned s = 0; s < SESSIONS; s++) {
        numbers[s] = heap_session_number(world->sessions[s]);
    }
    numbers[SESSIONS + 1] =
        world->graph.keeper != NULL ? heap_session_number(world->graph.keeper) : 987654321;
    OK(heap_picture_retained_by_sessions(bytes, numbers, SESSIONS + 2, world->picture));
    for (unsigned s = 0; s < SESSIONS + 2; s++) {
        oracle_reach(world, less, numbers[s], HEAP_NO_NODE);
        oracle_difference(world, all, less, &objects, &expected);
        assert_int_equal(bytes[s], expected);
    }
}

/* Lengths of the shortest ways from a root, in nodes; 0: none.  Bellman and Ford's, as slow as it gets. */
static void oracle_lengths(const struct world *world, uint32_t *lengths)
{
    const struct shot *shot = &world->shot;
    memset(lengths, 0, shot->count * sizeof *lengths);
    for (uint64_t i = 0; i < heap_picture_roots(world->picture); i++) {
        struct heap_root root;
        heap_picture_root(&root, world->picture, i);
        if (root.node != HEAP_NO_NODE) {
            lengths[root.node] = 1;
        }
    }
    for (bool changed = true; changed;) {
        changed = false;
        for (uint32_t i = 0; i < shot->count; i++) {
            for (uint32_t k = 0; lengths[i] != 0 && k < shot->objects[i].count; k++) {
                uint32_t to = node_of(shot, shot->objects[i].edges[k]);
                if (to != HEAP_NO_NODE && (lengths[to] == 0 || lengths[to] > lengths[i] + 1)) {
                    lengths[to] = lengths[i] + 1;
                    changed = true;
                }
            }
        }
    }
}

static bool has_edge(const struct world *world, uint32_t from, uint32_t to)
{
    struct heap_node node;
    heap_picture_node(&node, world->picture, from);
    for (uint32_t k = 0; k < node.edge_count; k++) {
        if (node.edges[k] == to) {
            return true;
        }
    }
    return false;
}

static void check_why(const struct world *world)
{
    uint32_t *lengths = calloc(world->shot.count + 1, sizeof *lengths);
    assert_non_null(lengths);
    oracle_lengths(world, lengths);
    for (uint32_t i = 0; i < world->shot.count; i++) {
        uint32_t *path, length;
        uint64_t at;
        OK(heap_picture_why(&path, &length, &at, world->picture, i));
        assert_int_equal(length, lengths[i]);
        if (length > 0) {
            struct heap_root root;
            heap_picture_root(&root, world->picture, at);
            assert_int_equal(root.node, path[0]);
            assert_int_equal(path[length - 1], i);
        }
        for (uint32_t k = 1; k < length; k++) {
            assert_true(has_edge(world, path[k - 1], path[k]));
        }
        free(path);
    }
    free(lengths);
}

static void one_world(struct heap *heap, uint64_t seed)
{
    struct world world;
    world_create(&world, heap, seed, 8 + (uint32_t)(seed % 40));
    if (seed % 8 != 0) { /* else the keeper goes on to hold all */
        free(world.graph.objects);
        heap_session_destroy(heap, world.graph.keeper);
        world.graph = (struct graph){.heap = heap};
        heap_settle(heap);
    }
    shot_take(&world.shot, heap);
    world_picture(&world, HEAP_PICTURE_GRAPH);
    check_copy(&world);
    check_roots(&world);
    bool *all = calloc(world.shot.count + 1, sizeof *all), *less = calloc(world.shot.count + 1, sizeof *less);
    assert_non_null(all);
    assert_non_null(less);
    oracle_reach(&world, all, 0, HEAP_NO_NODE);
    check_retained(&world, all, less);
    check_sessions(&world, all, less);
    check_why(&world);
    free(all);
    free(less);
    world_destroy(&world);
}

static void test_picture_agrees_with_oracles(void **state)
{
    uint64_t seed = graph_seed();
    for (uint32_t i = 0; i < (fixture_is_small() ? 50u : 1000u); i++) {
        one_world(*state, seed + i);
    }
    fixture_check(*state);
}

/* ---- referrers ---- */

static bool shot_refers(const struct shot_object *object, heap_ref to)
{
    for (uint32_t k = 0; k < object->count; k++) {
        if (object->edges[k] == to) {
            return true;
        }
    }
    return false;
}

static void check_referrers(struct heap *heap, const struct shot *shot, heap_ref obj)
{
    uint32_t expected = 0, n;
    bool more;
    heap_ref *refs;
    for (uint32_t i = 0; i < shot->count; i++) {
        expected += shot_refers(&shot->objects[i], obj);
    }
    OK(heap_referrers(&refs, &n, &more, heap, obj, 1000000, &never));
    assert_int_equal(n, expected);
    assert_false(more);
    for (uint32_t i = 0; i < n; i++) {
        uint32_t found = shot_find(shot, refs[i]);
        assert_true(found != UINT32_MAX && shot_refers(&shot->objects[found], obj));
        assert_true(i == 0 ||
                    refs[i - 1] < refs[i]); /* each once: nothing changed, so they come in memory order */
    }
    free(refs);
    if (expected > 0) {
        OK(heap_referrers(&refs, &n, &more, heap, obj, expected - 1, &never));
        assert_int_equal(n, expected - 1);
        assert_true(more);
        free(refs);
        OK(heap_referrers(&refs, &n, &more, heap, obj, expected, &never));
        assert_int_equal(n, expected);
        assert_false(more);
        free(refs);
    }
}

static void test_referrers_are_all_that_refer(void **state)
{
    struct heap *heap = *state;
    uint64_t seed = graph_seed();
    for (uint32_t i = 0; i < (fixture_is_small() ? 5u : 50u); i++) {
        struct graph graph;
        graph_init(&graph, heap, seed + i);
        for (unsigned k = 0; k < 50; k++) {
            graph_grow(&graph);
        }
        for (unsigned k = 0; k < 100; k++) {
            graph_link(&graph, graph_any(&graph), graph_any(&graph));
        }
        struct shot shot;
        shot_take(&shot, heap);
        for (uint32_t k = 0; k < shot.count; k++) {
            check_referrers(heap, &shot, shot.objects[k].ref);
        }
        check_referrers(heap, &shot, heap_none(heap));
        check_referrers(heap, &shot, heap_empty_tuple(heap));
        shot_free(&shot);
        graph_fini(&graph);
        collect(heap, 2);
    }
}

/* A hunt that is interrupted by others who drop what it has found. */
struct other {
    struct heap *heap;
    _Atomic bool stop;
    heap_ref *lists;
    uint32_t count, dropped;
};

static void *drop_lists(void *arg)
{
    struct other *other = arg;
    while (!other->stop) {
        heap_enter(other->heap);
        if (other->heap->visit != NULL && other->dropped < other->count) {
            drop(other->heap, other->lists[other->dropped++]);
            heap_settle(other->heap);
        }
        heap_leave(other->heap);
        nanosleep(&(struct timespec){.tv_nsec = 50000}, NULL);
    }
    return NULL;
}

static void test_referrers_that_die_meanwhile_are_no_answer(void **state)
{
    struct heap *heap = *state;
    heap_ref sought = keep(heap, new_list(heap));
    struct other other = {.heap = heap, .count = fixture_is_small() ? 20000 : 200000};
    other.lists = calloc(other.count, sizeof *other.lists);
    assert_non_null(other.lists);
    for (uint32_t i = 0; i < other.count; i++) {
        other.lists[i] = keep(heap, new_list(heap));
        link_to(heap, other.lists[i], sought);
    }
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, drop_lists, &other), 0);
    heap_ref *refs;
    uint32_t n;
    bool more;
    OK(heap_referrers(&refs, &n, &more, heap, sought, other.count, &never));
    assert_int_equal(n, other.count - other.dropped);
    assert_false(more);
    for (uint32_t i = 0; i < n; i++) {
        assert_int_equal(heap_type(heap, refs[i]), HEAP_T_LIST);
        assert_int_equal(heap_seq_item(heap, refs[i], 0), sought);
    }
    free(refs);
    other.stop = true;
    heap_leave(heap);
    pthread_join(thread, NULL);
    heap_enter(heap);
    free(other.lists);
}

/* ---- large and unusual graphs ---- */

static uint32_t large(void)
{
    return fixture_is_small() ? 20000 : 1000000;
}

struct task {
    struct heap_picture *picture;
    uint32_t node;
    uint32_t length;
    uint64_t retained, top;
};

/* What is asked of a large graph, on a stack that no recursion over its depth would fit. */
static void *ask_all(void *arg)
{
    struct task *task = arg;
    uint32_t *path;
    uint64_t root, bytes, *objects, *all_bytes;
    OK(heap_picture_complete(task->picture, &never));
    OK(heap_picture_why(&path, &task->length, &root, task->picture, task->node));
    free(path);
    OK(heap_picture_retained(&task->retained, &bytes, task->picture, 0));
    OK(heap_picture_dominators(&objects, &all_bytes, task->picture));
    task->top = objects[0];
    assert_int_equal(all_bytes[0], bytes);
    free(objects);
    free(all_bytes);
    return NULL;
}

static void ask_on_small_stack(struct heap *heap, struct task *task)
{
    pthread_attr_t attr;
    pthread_t thread;
    pthread_attr_init(&attr);
    assert_int_equal(pthread_attr_setstacksize(&attr, 256 << 10), 0);
    heap_leave(heap);
    assert_int_equal(pthread_create(&thread, &attr, ask_all, task), 0);
    pthread_join(thread, NULL);
    heap_enter(heap);
    pthread_attr_destroy(&attr);
}

/* first -> second -> ..; node 0 is the first because it lies lowest. */
static void test_picture_of_a_long_chain(void **state)
{
    struct heap *heap = *state;
    heap_ref first = keep(heap, new_list(heap)), last = first;
    for (uint32_t i = 1; i < large(); i++) {
        heap_ref next = new_list(heap);
        OK(heap_list_append_steal(heap, last, next));
        last = next;
    }
    struct task task = {.picture = heap_picture_begin(heap, HEAP_PICTURE_GRAPH), .node = large() - 1};
    assert_non_null(task.picture);
    ask_on_small_stack(heap, &task);
    assert_int_equal(heap_picture_ref(task.picture, 0), first);
    assert_int_equal(task.length, large());
    assert_int_equal(task.retained, large());
    assert_int_equal(task.top, large());
    heap_picture_destroy(task.picture);
}

static void test_picture_of_a_star(void **state)
{
    struct heap *heap = *state;
    heap_ref star = keep(heap, new_list(heap));
    for (uint32_t i = 1; i < large(); i++) {
        heap_ref ray = new_list(heap);
        link_to(heap, ray, star);
        OK(heap_list_append_steal(heap, star, ray));
    }
    struct task task = {.picture = heap_picture_begin(heap, HEAP_PICTURE_GRAPH), .node = large() - 1};
    assert_non_null(task.picture);
    ask_on_small_stack(heap, &task);
    assert_int_equal(heap_picture_ref(task.picture, 0), star);
    assert_int_equal(task.length, 2);
    assert_int_equal(task.retained, large());
    assert_int_equal(task.top, large());
    heap_picture_destroy(task.picture);
}

static void test_picture_can_be_cancelled(void **state)
{
    struct heap *heap = *state;
    static const _Atomic bool cancelled = true;
    heap_ref list = keep(heap, new_list(heap));
    struct heap_picture *picture = heap_picture_begin(heap, HEAP_PICTURE_LABELS);
    assert_non_null(picture);
    heap_leave(heap);
    assert_int_equal(heap_picture_complete(picture, &cancelled), HEAP_CANCELLED);
    heap_enter(heap);
    link_to(heap, list, list); /* changes after it are no business of anybody's */
    heap_picture_destroy(picture);
    heap_list_clear(heap, list);
    assert_null(heap->visit);
}

static void test_picture_without_memory_for_ids_fails(void **state)
{
    struct heap *heap = *state;
    heap_ref all = keep(heap, new_list(heap));
    for (unsigned i = 0; i < 20000; i++) {
        OK(heap_list_append_steal(heap, all, new_list(heap)));
    }
    heap_set_limits(heap, &(struct heap_limits){.max_bytes = heap_used_bytes(heap)});
    struct heap_picture *picture = heap_picture_begin(heap, HEAP_PICTURE_LABELS);
    assert_non_null(picture);
    heap_leave(heap);
    assert_int_equal(heap_picture_complete(picture, &never), HEAP_MEMORY);
    heap_enter(heap);
    heap_picture_destroy(picture);
    heap_set_limits(heap, &(struct heap_limits){0});
    fixture_check(heap);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_picture_of_an_empty_heap),
        TEST(test_picture_is_of_one_moment),
        TEST(test_picture_keeps_names_of_classes_that_die),
        TEST(test_picture_tells_an_int_that_is_counted_up),
        TEST(test_picture_tells_an_empty_tuple_without_the_gil),
        TEST(test_picture_has_the_roots_of_its_moment),
        TEST(test_picture_agrees_with_oracles),
        TEST(test_referrers_are_all_that_refer),
        TEST(test_referrers_that_die_meanwhile_are_no_answer),
        TEST(test_picture_of_a_long_chain),
        TEST(test_picture_of_a_star),
        TEST(test_picture_can_be_cancelled),
        TEST(test_picture_without_memory_for_ids_fails),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
