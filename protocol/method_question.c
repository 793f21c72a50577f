/* method_question.c -- heap.why, heap.retained, heap.dominators: questions that walk the whole heap.
 *
 * Their handlers run on the worker thread (question.c), without the GIL.  They take it to look up what is asked
 * about and to begin a picture of that moment, let it go while the picture is completed and thought about, and
 * take it again for the ids of what the answer shows.
 */
#include "document.h"
#include "method_handlers.h"

#include <stdlib.h>

/* ---- a picture with a node in it ---- */

/* What a question about one object works on. */
struct scene {
    struct heap_picture *picture; /* NULL: the object is immortal, and there is no need of one */
    heap_ref obj;                 /* valid at t0 only */
    uint64_t id;
    uint32_t node;
};

/* Looks up the target and takes a picture of the moment.  GIL: not held. */
static bool scene_open(struct scene *scene, struct call *call)
{
    *scene = (struct scene){.node = HEAP_NO_NODE};
    heap_enter(call->heap);
    bool ok = call_target(call, 0, &scene->obj);
    enum heap_error error = ok ? heap_id(&scene->id, call->heap, scene->obj) : HEAP_OK;
    if (ok && error == HEAP_OK && !heap_is_immortal(call->heap, scene->obj)) {
        scene->picture = heap_picture_begin(call->heap, HEAP_PICTURE_GRAPH);
        error = scene->picture != NULL ? HEAP_OK : HEAP_MEMORY;
    }
    heap_leave(call->heap);
    if (!ok || error != HEAP_OK) {
        return ok ? call_fail(call, error) : false;
    }
    if (scene->picture == NULL) {
        return true;
    }
    error = heap_picture_complete(scene->picture, call->cancel);
    if (error == HEAP_OK) {
        scene->node = heap_picture_find(scene->picture, scene->obj);
        return true;
    }
    heap_enter(call->heap);
    heap_picture_destroy(scene->picture);
    heap_leave(call->heap);
    return call_fail(call, error);
}

/* GIL: not held. */
static void scene_close(struct scene *scene, struct heap *heap)
{
    if (scene->picture != NULL) {
        heap_enter(heap);
        heap_picture_destroy(scene->picture);
        heap_leave(heap);
    }
}

/* ---- heap.retained ---- */

bool method_heap_retained(struct call *call)
{
    struct scene scene;
    uint64_t objects = 0, bytes = 0;
    enum heap_error error = HEAP_OK;
    if (!scene_open(&scene, call)) {
        return false;
    }
    if (scene.node != HEAP_NO_NODE) {
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

/* ---- heap.why ---- */

/* How often the question is asked anew because the path has changed before its edges could be named. */
#define WHY_ATTEMPTS 5

static json_t *root_document(const struct heap_root *root)
{
    switch (root->kind) {
    case HEAP_ROOT_NAME:
        return json_pack("{s:s, s:o}", "root", "name", "name", json_stringn(root->name.text, root->name.len));
    case HEAP_ROOT_SESSION:
        return json_pack("{s:s, s:I}", "root", "session", "session", (json_int_t)root->session);
    case HEAP_ROOT_FROZEN:
        return json_pack("{s:s}", "root", "frozen");
    case HEAP_ROOT_GARBAGE:
        return json_pack("{s:s}", "root", "garbage");
    }
    return NULL;
}

/* The path's entries with their ids and edges; NULL: it is no longer there.  GIL: held. */
static json_t *path_document(struct heap *heap, const struct heap_picture *picture, const uint32_t *path,
                             uint32_t length, uint64_t root_number)
{
    struct heap_root root;
    heap_picture_root(&root, picture, root_number);
    json_t *j_path = json_pack("[o]", root_document(&root));
    heap_ref before = 0;
    for (uint32_t i = 0; i < length; i++) {
        char edge[HEAP_EDGE_BYTES];
        heap_ref obj = heap_picture_ref(picture, path[i]);
        uint64_t id;
        if (obj == 0 || heap_id(&id, heap, obj) != HEAP_OK ||
            (before != 0 && !heap_edge_name(edge, heap, before, obj))) {
            json_decref(j_path);
            return NULL;
        }
        json_t *j_entry = json_pack("{s:I}", "object", (json_int_t)id);
        if (before != 0) {
            json_object_set_new(j_entry, "edge", json_string(edge));
        }
        json_array_append_new(j_path, j_entry);
        before = obj;
    }
    return j_path;
}

/* One attempt: *j_path is NULL when nothing reaches the object, or when the path has changed (*changed). */
static bool find_path(struct call *call, json_t **j_path, bool *changed)
{
    struct scene scene;
    uint32_t *path = NULL, length = 0;
    uint64_t root;
    *j_path = NULL;
    *changed = false;
    if (!scene_open(&scene, call)) {
        return false;
    }
    if (scene.picture == NULL) {
        *j_path = json_pack("[{s:s}, {s:I}]", "root", "immortal", "object", (json_int_t)scene.id);
        return true;
    }
    enum heap_error error = heap_picture_why(&path, &length, &root, scene.picture, scene.node);
    heap_enter(call->heap);
    if (error == HEAP_OK && length > 0) {
        *j_path = path_document(call->heap, scene.picture, path, length, root);
        *changed = *j_path == NULL;
    }
    heap_picture_destroy(scene.picture);
    heap_leave(call->heap);
    free(path);
    return error == HEAP_OK || call_fail(call, error);
}

bool method_heap_why(struct call *call)
{
    json_t *j_path;
    bool changed = true;
    for (int attempt = 0; changed; attempt++) {
        if (!find_path(call, &j_path, &changed)) {
            return false;
        }
        if (changed && attempt + 1 == WHY_ATTEMPTS) {
            return fault_set(call->fault, RPC_UNAVAILABLE,
                             "the paths to the object changed while they were being named; ask again when the heap "
                             "is calmer");
        }
    }
    bool reachable = j_path != NULL;
    return call_document_steal(call, json_pack("{s:b, s:o}", "reachable", reachable, "path",
                                               reachable ? j_path : json_array()));
}

/* ---- heap.dominators ---- */

/* Nodes in the order in which they are shown. */
struct ranking {
    uint32_t *nodes;
    uint32_t count;
    uint64_t *objects, *bytes; /* by node */
};

/* Keeps the `keep` nodes with the largest bytes in a heap, smallest at the top. */
static void rank_sift(struct ranking *ranking, uint32_t at)
{
    uint32_t *nodes = ranking->nodes;
    for (;;) {
        uint32_t least = at, left = 2 * at + 1, right = left + 1;
        if (left < ranking->count && ranking->bytes[nodes[left]] < ranking->bytes[nodes[least]]) {
            least = left;
        }
        if (right < ranking->count && ranking->bytes[nodes[right]] < ranking->bytes[nodes[least]]) {
            least = right;
        }
        if (least == at) {
            return;
        }
        uint32_t swapped = nodes[at];
        nodes[at] = nodes[least];
        nodes[least] = swapped;
        at = least;
    }
}

/* The `keep` largest of `n` nodes, largest first.  false: no memory. */
static bool rank(struct ranking *ranking, uint32_t n, uint32_t keep)
{
    ranking->count = keep < n ? keep : n;
    ranking->nodes = calloc((size_t)ranking->count + 1, sizeof *ranking->nodes);
    if (ranking->nodes == NULL) {
        return false;
    }
    for (uint32_t i = 0; i < ranking->count; i++) {
        ranking->nodes[i] = i;
    }
    for (uint32_t i = ranking->count / 2; i-- > 0;) {
        rank_sift(ranking, i);
    }
    for (uint32_t i = ranking->count; i < n; i++) {
        if (ranking->count > 0 && ranking->bytes[i] > ranking->bytes[ranking->nodes[0]]) {
            ranking->nodes[0] = i;
            rank_sift(ranking, 0);
        }
    }
    uint32_t count = ranking->count;
    while (ranking->count > 1) { /* the smallest goes behind those that are left */
        uint32_t smallest = ranking->nodes[0];
        ranking->nodes[0] = ranking->nodes[--ranking->count];
        ranking->nodes[ranking->count] = smallest;
        rank_sift(ranking, 0);
    }
    ranking->count = count;
    return true;
}

/* Rows of up to `limit` ranked nodes that still live.  GIL: held. */
static json_t *dominators_document(struct heap *heap, const struct heap_picture *picture,
                                   const struct ranking *ranking, uint32_t limit)
{
    json_t *j_rows = json_array();
    for (uint32_t i = 0; i < ranking->count && json_array_size(j_rows) < limit; i++) {
        uint32_t node = ranking->nodes[i];
        heap_ref obj = heap_picture_ref(picture, node);
        uint64_t id;
        if (ranking->bytes[node] == 0 || obj == 0 || heap_id(&id, heap, obj) != HEAP_OK) {
            continue;
        }
        json_array_append_new(j_rows, json_pack("{s:I, s:s, s:I, s:I}", "object", (json_int_t)id, "type",
                                                heap_type_name(heap, obj), "objects",
                                                (json_int_t)ranking->objects[node], "bytes",
                                                (json_int_t)ranking->bytes[node]));
    }
    return json_pack("{s:o}", "dominators", j_rows);
}

/* Rows that are ranked beyond those that are asked for, to take the place of what dies meanwhile. */
#define DOMINATORS_SPARE 1000u

bool method_heap_dominators(struct call *call)
{
    uint32_t limit = (uint32_t)arg_int(&call->args[0], 20);
    struct ranking ranking = {0};
    json_t *j_document = NULL;
    heap_enter(call->heap);
    struct heap_picture *picture = heap_picture_begin(call->heap, HEAP_PICTURE_GRAPH);
    heap_leave(call->heap);
    if (picture == NULL) {
        return call_fail(call, HEAP_MEMORY);
    }
    enum heap_error error = heap_picture_complete(picture, call->cancel);
    if (error == HEAP_OK) {
        error = heap_picture_dominators(&ranking.objects, &ranking.bytes, picture);
    }
    if (error == HEAP_OK && !rank(&ranking, heap_picture_nodes(picture), limit + DOMINATORS_SPARE)) {
        error = HEAP_MEMORY;
    }
    heap_enter(call->heap);
    if (error == HEAP_OK) {
        j_document = dominators_document(call->heap, picture, &ranking, limit);
    }
    heap_picture_destroy(picture);
    heap_leave(call->heap);
    free(ranking.nodes);
    free(ranking.objects);
    free(ranking.bytes);
    return error == HEAP_OK ? call_document_steal(call, j_document) : call_fail(call, error);
}
