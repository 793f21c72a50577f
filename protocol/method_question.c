/* method_question.c -- heap.why, heap.retained, heap.dominators: questions that walk the whole heap.
 *
 *   GIL        look up what is asked about; begin a picture of that moment
 *   -          complete it, which takes the GIL in slices; think
 *   in slices  ids, types and edges of what the answer shows; destroy the picture
 *
 * Their handlers run on the worker thread (question.c), without the GIL.  An answer is of one moment; what it
 * shows is named later, when some of it may have died or changed.  heap.dominators leaves the dead out; heap.why
 * asks again, and in the end takes a picture with all names in it.
 */
#include "method_handlers.h"
#include "rpc_internal.h"

#include <stdlib.h>
#include <time.h>

/* ---- slices ---- */

#define SLICE_NS 500000u /* of the GIL at a time */
#define PAUSE_NS 300000u /* between two slices */

/* A loop under the GIL that lets others in between. */
struct slices {
    struct heap *heap;
    uint64_t end; /* of this slice */
};

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* Takes the GIL; who is done gives it back with heap_leave(). */
static struct slices slices_begin(struct heap *heap)
{
    heap_enter(heap);
    return (struct slices){.heap = heap, .end = now_ns() + SLICE_NS};
}

/* After each step: gives the GIL away for a moment when the slice is over. */
static void slices_step(struct slices *slices)
{
    if (now_ns() >= slices->end) {
        heap_leave(slices->heap);
        nanosleep(&(struct timespec){.tv_nsec = PAUSE_NS}, NULL);
        *slices = slices_begin(slices->heap);
    }
}

/* Makes room for so many entries of a usual length, so that slices need not wait for a large reply to move.
 * Without memory the reply fails, as it would later.  GIL: not held. */
static void reserve_entries(struct call *call, uint64_t count, size_t bytes_each)
{
    size_t bytes = count * bytes_each;
    out_reserve(call->out, call->result_max != 0 && bytes > call->result_max ? call->result_max : bytes);
}

/* ---- a picture with a node in it ---- */

/* What a question about one object works on. */
struct scene {
    struct heap_picture *picture; /* NULL: the object is immortal, and there is no need of one */
    uint64_t id;                  /* of the object */
    uint32_t node;                /* the object; HEAP_NO_NODE: it is immortal */
};

/* GIL: not held. */
static void scene_close(struct scene *scene, struct heap *heap)
{
    if (scene->picture != NULL) {
        heap_enter(heap);
        heap_picture_destroy(scene->picture);
        heap_leave(heap);
    }
}

/* Looks the target up and begins a picture with it.  GIL: held. */
static bool scene_begin(struct scene *scene, heap_ref *obj, struct call *call, unsigned what)
{
    *scene = (struct scene){.node = HEAP_NO_NODE};
    if (!call_target(call, 0, obj)) {
        return false;
    }
    enum heap_error error = heap_id(&scene->id, call->heap, *obj);
    if (error == HEAP_OK && !heap_is_immortal(call->heap, *obj)) {
        scene->picture = heap_picture_begin(call->heap, what);
        error = scene->picture != NULL ? HEAP_OK : HEAP_MEMORY;
    }
    return error == HEAP_OK || call_fail(call, error);
}

/* A picture of the moment in which the target was looked up.  GIL: not held. */
static bool scene_open(struct scene *scene, struct call *call, unsigned what)
{
    heap_ref obj;
    if (!heap_enter_still(call->heap, call->cancel)) {
        return call_fail(call, HEAP_CANCELLED);
    }
    bool has_begun = scene_begin(scene, &obj, call, what);
    heap_leave(call->heap);
    if (!has_begun || scene->picture == NULL) {
        return has_begun;
    }
    enum heap_error error = heap_picture_complete(scene->picture, call->cancel);
    if (error != HEAP_OK) {
        scene_close(scene, call->heap);
        return call_fail(call, error);
    }
    scene->node = heap_picture_find(scene->picture, obj);
    return true;
}

/* ---- heap.why ---- */

/* How often a path is looked for whose names are asked of the heap as it is when the path is known.  That is
 * enough where things are calm, and needs no ids of all objects, as the names of a picture do. */
#define WHY_ATTEMPTS 3

static void write_root(struct out *out, const struct heap_root *root)
{
    switch (root->kind) {
    case HEAP_ROOT_NAME:
        out_text(out, "{\"root\":\"name\",\"name\":");
        out_json_string(out, root->name.text, root->name.len);
        break;
    case HEAP_ROOT_SESSION:
        out_text(out, "{\"root\":\"session\",\"session\":");
        out_u64(out, root->session);
        break;
    case HEAP_ROOT_FROZEN:
        out_text(out, "{\"root\":\"frozen\"");
        break;
    case HEAP_ROOT_GARBAGE:
        out_text(out, "{\"root\":\"garbage\"");
        break;
    }
    out_char(out, '}');
}

/* An object of the path, and what leads to it. */
struct step {
    uint64_t id;
    char edge[HEAP_EDGE_BYTES]; /* not of the first */
};

/* Step i of a path as the heap has it now.  HEAP_NOT_FOUND: it is not there any more.  HEAP_MEMORY.  GIL: held. */
static enum heap_error step_now(struct step *step, struct heap *heap, const struct heap_picture *picture,
                                const uint32_t *path, uint32_t i)
{
    heap_ref obj = heap_picture_ref(picture, path[i]);
    if (obj == 0) {
        return HEAP_NOT_FOUND;
    }
    if (i > 0) {
        heap_ref before = heap_picture_ref(picture, path[i - 1]);
        if (before == 0 || !heap_edge_name(step->edge, heap, before, obj)) {
            return HEAP_NOT_FOUND;
        }
    }
    return heap_id(&step->id, heap, obj);
}

/* Step i of a path as the picture has it, which is one with labels. */
static void step_then(struct step *step, const struct heap_picture *picture, const uint32_t *path, uint32_t i)
{
    struct heap_node node;
    heap_picture_node(&node, picture, path[i]);
    step->id = node.id;
    if (i > 0) {
        uint32_t k = 0;
        heap_picture_node(&node, picture, path[i - 1]);
        while (node.edges[k] != path[i]) {
            k++;
        }
        heap_picture_edge_name(step->edge, picture, path[i - 1], k);
    }
}

/* The objects of a path.  HEAP_NOT_FOUND: some of it is not there any more.  HEAP_MEMORY.  GIL: not held. */
static enum heap_error write_steps(struct call *call, const struct heap_picture *picture, bool has_labels,
                                   const uint32_t *path, uint32_t length)
{
    enum heap_error error = HEAP_OK;
    struct step step;
    reserve_entries(call, length, sizeof(",{\"object\":1234567890,\"edge\":\"[12345]\"}"));
    struct slices slices = slices_begin(call->heap);
    for (uint32_t i = 0; i < length && error == HEAP_OK; i++) {
        if (has_labels) {
            step_then(&step, picture, path, i);
        } else {
            error = step_now(&step, call->heap, picture, path, i);
        }
        out_text(call->out, ",{\"object\":");
        out_u64(call->out, step.id);
        if (i > 0) {
            out_text(call->out, ",\"edge\":");
            out_json_string(call->out, step.edge, strlen(step.edge));
        }
        out_char(call->out, '}');
        slices_step(&slices);
    }
    heap_leave(call->heap);
    return error;
}

/* The result, from a scene.  HEAP_NOT_FOUND: the path is not there any more.  HEAP_MEMORY.  GIL: not held. */
static enum heap_error write_why(struct call *call, const struct scene *scene, bool has_labels)
{
    uint32_t *path, length;
    uint64_t number;
    if (scene->picture == NULL) {
        out_text(call->out, "{\"reachable\":true,\"path\":[{\"root\":\"immortal\"},{\"object\":");
        out_u64(call->out, scene->id);
        out_text(call->out, "}]}");
        return HEAP_OK;
    }
    enum heap_error error = heap_picture_why(&path, &length, &number, scene->picture, scene->node);
    if (error != HEAP_OK) {
        return error;
    }
    if (length == 0) {
        out_text(call->out, "{\"reachable\":false,\"path\":[]}");
    } else {
        struct heap_root root;
        heap_picture_root(&root, scene->picture, number);
        out_text(call->out, "{\"reachable\":true,\"path\":[");
        write_root(call->out, &root);
        error = write_steps(call, scene->picture, has_labels, path, length);
        out_text(call->out, "]}");
    }
    free(path);
    return error;
}

bool method_heap_why(struct call *call)
{
    enum heap_error error = HEAP_NOT_FOUND;
    for (int attempt = 0; error == HEAP_NOT_FOUND; attempt++) {
        struct scene scene;
        bool has_labels = attempt == WHY_ATTEMPTS; /* then everything is there */
        if (!scene_open(&scene, call, has_labels ? HEAP_PICTURE_LABELS : HEAP_PICTURE_GRAPH)) {
            return false;
        }
        out_truncate(call->out, call->value_start);
        error = write_why(call, &scene, has_labels);
        scene_close(&scene, call->heap);
    }
    return error == HEAP_OK ? call_output_ok(call) : call_fail(call, error);
}

/* ---- heap.retained ---- */

bool method_heap_retained(struct call *call)
{
    struct scene scene;
    uint64_t objects = 0, bytes = 0;
    enum heap_error error = HEAP_OK;
    if (!scene_open(&scene, call, HEAP_PICTURE_GRAPH)) {
        return false;
    }
    if (scene.picture != NULL) {
        error = heap_picture_retained(&objects, &bytes, scene.picture, scene.node);
    }
    scene_close(&scene, call->heap);
    if (error != HEAP_OK) {
        return call_fail(call, error);
    }
    out_text(call->out, "{\"objects\":");
    out_u64(call->out, objects);
    out_text(call->out, ",\"bytes\":");
    out_u64(call->out, bytes);
    out_char(call->out, '}');
    return true;
}

/* ---- heap.dominators ---- */

/* What each node retains, and the nodes from which the largest is taken again and again. */
struct ranking {
    uint64_t *objects, *bytes; /* by node */
    uint32_t *nodes;           /* a binary heap: no node has more bytes than the one at half its place */
    uint32_t count;
};

/* Lets the node at `at` sink to where the order holds; below it the order holds already. */
static void ranking_sift(struct ranking *ranking, uint32_t at)
{
    uint32_t *nodes = ranking->nodes, node = nodes[at];
    uint64_t bytes = ranking->bytes[node];
    for (;;) {
        uint64_t child = (uint64_t)at * 2 + 1;
        if (child + 1 < ranking->count && ranking->bytes[nodes[child + 1]] > ranking->bytes[nodes[child]]) {
            child++;
        }
        if (child >= ranking->count || ranking->bytes[nodes[child]] <= bytes) {
            nodes[at] = node;
            return;
        }
        nodes[at] = nodes[child];
        at = (uint32_t)child;
    }
}

/* Ranks the nodes that roots reach.  HEAP_MEMORY. */
static enum heap_error ranking_init(struct ranking *ranking, const struct heap_picture *picture)
{
    uint32_t nodes = heap_picture_nodes(picture);
    enum heap_error error = heap_picture_dominators(&ranking->objects, &ranking->bytes, picture);
    if (error != HEAP_OK) {
        return error;
    }
    ranking->nodes = malloc(((size_t)nodes + 1) * sizeof *ranking->nodes);
    if (ranking->nodes == NULL) {
        return HEAP_MEMORY;
    }
    for (uint32_t i = 0; i < nodes; i++) {
        if (ranking->bytes[i] > 0) {
            ranking->nodes[ranking->count++] = i;
        }
    }
    for (uint32_t i = ranking->count / 2; i-- > 0;) {
        ranking_sift(ranking, i);
    }
    return HEAP_OK;
}

/* Takes the largest out; there is one. */
static uint32_t ranking_pop(struct ranking *ranking)
{
    uint32_t node = ranking->nodes[0];
    ranking->nodes[0] = ranking->nodes[--ranking->count];
    if (ranking->count > 0) {
        ranking_sift(ranking, 0);
    }
    return node;
}

static void ranking_fini(struct ranking *ranking)
{
    free(ranking->objects);
    free(ranking->bytes);
    free(ranking->nodes);
}

/* Not an atom that nobody has seen, where there is a journal: that could not repeat giving it an id. */
static bool has_place_in_answer(const struct call *call, heap_ref obj)
{
    return !call->service->journal.is_on || heap_is_container(call->heap, obj) || heap_id_if_any(call->heap, obj) != 0;
}

/* One row, of an object that lives.  HEAP_MEMORY.  GIL: held. */
static enum heap_error write_dominator(struct call *call, heap_ref obj, uint64_t objects, uint64_t bytes)
{
    uint64_t id;
    enum heap_error error = heap_id(&id, call->heap, obj);
    if (error == HEAP_OK) {
        const char *type = heap_type_name(call->heap, obj);
        out_text(call->out, "{\"object\":");
        out_u64(call->out, id);
        out_text(call->out, ",\"type\":");
        out_json_string(call->out, type, strlen(type));
        out_text(call->out, ",\"objects\":");
        out_u64(call->out, objects);
        out_text(call->out, ",\"bytes\":");
        out_u64(call->out, bytes);
        out_char(call->out, '}');
    }
    return error;
}

/* Rows of the largest that still live, as many as there may be.  HEAP_MEMORY.  GIL: not held. */
static enum heap_error write_dominators(struct call *call, const struct heap_picture *picture,
                                        struct ranking *ranking)
{
    int64_t limit = arg_int(&call->args[0], 20), rows = 0;
    enum heap_error error = HEAP_OK;
    reserve_entries(call, limit < ranking->count ? (uint64_t)limit : ranking->count,
                    sizeof(",{\"object\":1234567890,\"type\":\"a name\",\"objects\":1234567,\"bytes\":1234567890}"));
    struct slices slices = slices_begin(call->heap);
    out_text(call->out, "{\"dominators\":[");
    while (error == HEAP_OK && rows < limit && ranking->count > 0) {
        uint32_t node = ranking_pop(ranking);
        heap_ref obj = heap_picture_ref(picture, node);
        if (obj != 0 && has_place_in_answer(call, obj)) {
            out_text(call->out, rows++ > 0 ? "," : "");
            error = write_dominator(call, obj, ranking->objects[node], ranking->bytes[node]);
        }
        slices_step(&slices);
    }
    heap_leave(call->heap);
    out_text(call->out, "]}");
    return error;
}

bool method_heap_dominators(struct call *call)
{
    struct ranking ranking = {0};
    struct scene scene = {.node = HEAP_NO_NODE};
    if (!heap_enter_still(call->heap, call->cancel)) {
        return call_fail(call, HEAP_CANCELLED);
    }
    scene.picture = heap_picture_begin(call->heap, HEAP_PICTURE_GRAPH);
    heap_leave(call->heap);
    if (scene.picture == NULL) {
        return call_fail(call, HEAP_MEMORY);
    }
    enum heap_error error = heap_picture_complete(scene.picture, call->cancel);
    if (error == HEAP_OK) {
        error = ranking_init(&ranking, scene.picture);
    }
    if (error == HEAP_OK) {
        error = write_dominators(call, scene.picture, &ranking);
    }
    scene_close(&scene, call->heap);
    ranking_fini(&ranking);
    return error == HEAP_OK ? call_output_ok(call) : call_fail(call, error);
}
