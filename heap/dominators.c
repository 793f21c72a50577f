/* dominators.c -- what each object alone keeps alive: the dominator tree of a picture.
 *
 *           root                    vertices: the nodes, then one a session, then the root of all
 *         /  |   \                  edges of the root: names, sessions, frozen objects, gc.garbage
 *    name  session  frozen          edges of a session: what it holds
 *              |
 *           objects
 *
 * a dominates b if every path from the root to b leads through a; what a dominates is what dies with it.
 * Since sessions are vertices too, one tree answers for objects and for sessions.
 *
 *   number     depth first from the root; everything below goes by these numbers, the root's is 0
 *   sources    of each number the numbers that refer to it, as one array
 *   semi-NCA   backwards: the semidominator of each number, by path compression; forwards: the immediate
 *              dominator is the nearest common ancestor of parent and semidominator in the tree built so far
 *   retain     backwards: each adds what it retains to its dominator
 *
 * Memory: 32 bytes a vertex and 4 an edge while the tree is made, beside the results.  No GIL.
 * Source: Georgiadis, Linear-Time Algorithms for Dominators and Related Problems (2005), section 2.2.
 * Start at make_tree().
 */
#include "picture.h"

#define NO_NUMBER 0xFFFFFFFFu

struct tree {
    const struct heap_picture *picture;
    uint32_t vertices; /* nodes + sessions + 1 */
    uint32_t *top;     /* edges of the root: vertices */
    uint64_t top_count;
    uint32_t *number; /* of a vertex; NO_NUMBER: not reached */
    uint32_t count;   /* numbers given: 0..count-1 */
    /* All below are by number. */
    uint32_t *vertex;
    uint32_t *dominator;    /* first the parent in the search, in the end the immediate dominator */
    uint32_t *ancestor;     /* the parent, then what path compression makes of it */
    uint32_t *low;          /* the least semidominator on the compressed path */
    uint32_t *semi;         /* semidominator */
    uint32_t *scratch;      /* where the search is in a vertex's edges; later the path that is compressed */
    uint32_t *source_start; /* sources of n: sources[source_start[n] .. source_start[n + 1]) */
    uint32_t *sources;
};

/* ---- the graph ---- */

static const uint32_t *edges_of(const struct tree *tree, uint32_t vertex, uint64_t *count)
{
    const struct heap_picture *picture = tree->picture;
    if (vertex < picture->node_count) {
        const struct picture_record *record = picture_record(picture, vertex);
        *count = record->count;
        return record->edges;
    }
    if (vertex == tree->vertices - 1) {
        *count = tree->top_count;
        return tree->top;
    }
    const struct picture_session *session = &picture->roots.sessions[vertex - picture->node_count];
    *count = session->end - session->first;
    return picture->roots.roots + session->first;
}

/* The edges of the root: all roots that are no holds, and the sessions.  false: no memory. */
static bool make_top(struct tree *tree)
{
    const struct picture_roots *roots = &tree->picture->roots;
    uint64_t behind = roots->count - roots->sessions_end;
    tree->top_count = roots->names_end + roots->session_count + behind;
    tree->top = malloc((tree->top_count + 1) * sizeof *tree->top);
    if (tree->top == NULL) {
        return false;
    }
    uint64_t at = 0;
    for (uint64_t i = 0; i < roots->names_end; i++) {
        tree->top[at++] = roots->roots[i];
    }
    for (uint64_t i = 0; i < roots->session_count; i++) {
        tree->top[at++] = tree->picture->node_count + (uint32_t)i;
    }
    for (uint64_t i = roots->sessions_end; i < roots->count; i++) {
        tree->top[at++] = roots->roots[i];
    }
    return true;
}

/* ---- numbering ---- */

static void give_number(struct tree *tree, uint32_t vertex, uint32_t parent)
{
    uint32_t number = tree->count++;
    tree->number[vertex] = number;
    tree->vertex[number] = vertex;
    tree->dominator[number] = tree->ancestor[number] = parent;
    tree->low[number] = number;
    tree->scratch[number] = 0;
}

/* The next vertex without a number that this one refers to, or NO_NUMBER. */
static uint32_t next_below(struct tree *tree, uint32_t number)
{
    uint64_t count;
    const uint32_t *edges = edges_of(tree, tree->vertex[number], &count);
    uint32_t k = tree->scratch[number];
    while (k < count && (edges[k] == HEAP_NO_NODE || tree->number[edges[k]] != NO_NUMBER)) {
        k++;
    }
    tree->scratch[number] = k + 1;
    return k < count ? edges[k] : NO_NUMBER;
}

/* Depth first; the way back is the parents. */
static void number_all(struct tree *tree)
{
    memset(tree->number, 0xFF, tree->vertices * sizeof *tree->number);
    give_number(tree, tree->vertices - 1, 0);
    uint32_t at = 0;
    for (;;) {
        uint32_t below = next_below(tree, at);
        if (below != NO_NUMBER) {
            give_number(tree, below, at);
            at = tree->count - 1;
        } else if (at != 0) {
            at = tree->dominator[at];
        } else {
            return;
        }
    }
}

/* ---- sources ---- */

/* Counts the sources of each number into source_start[number + 2].  false: there are too many. */
static bool count_sources(struct tree *tree)
{
    uint64_t total = 0;
    memset(tree->source_start, 0, ((size_t)tree->count + 2) * sizeof *tree->source_start);
    for (uint32_t n = 0; n < tree->count; n++) {
        uint64_t count;
        const uint32_t *edges = edges_of(tree, tree->vertex[n], &count);
        total += count;
        for (uint64_t k = 0; k < count; k++) {
            if (edges[k] != HEAP_NO_NODE) {
                tree->source_start[tree->number[edges[k]] + 2]++;
            }
        }
        if (total > UINT32_MAX) {
            return false;
        }
    }
    return true;
}

/* While it runs, source_start[n + 1] is where the next source of n goes; in the end that is where n + 1
 * begins. */
static void fill_sources(struct tree *tree)
{
    for (uint32_t n = 0; n < tree->count; n++) {
        uint64_t count;
        const uint32_t *edges = edges_of(tree, tree->vertex[n], &count);
        for (uint64_t k = 0; k < count; k++) {
            if (edges[k] != HEAP_NO_NODE) {
                tree->sources[tree->source_start[tree->number[edges[k]] + 1]++] = n;
            }
        }
    }
}

static bool make_sources(struct tree *tree)
{
    tree->source_start = malloc(((size_t)tree->count + 2) * sizeof *tree->source_start);
    if (tree->source_start == NULL || !count_sources(tree)) {
        return false;
    }
    for (uint32_t n = 2; n < tree->count + 2; n++) {
        tree->source_start[n] += tree->source_start[n - 1];
    }
    tree->sources = malloc(((size_t)tree->source_start[tree->count + 1] + 1) * sizeof *tree->sources);
    if (tree->sources == NULL) {
        return false;
    }
    fill_sources(tree);
    return true;
}

/* ---- semi-NCA ---- */

/* The least semidominator on the way from `number` up to the numbers that are not done yet, which are those
 * up to `last`.  Compresses the way: everything on it then points above it. */
static uint32_t least_on_path(struct tree *tree, uint32_t number, uint32_t last)
{
    if (tree->ancestor[number] <= last) {
        return tree->low[number];
    }
    uint32_t depth = 0, at = number;
    while (tree->ancestor[at] > last) {
        tree->scratch[depth++] = at;
        at = tree->ancestor[at];
    }
    while (depth > 0) { /* `at` is above the next one, and compressed */
        uint32_t below = tree->scratch[--depth];
        if (tree->low[at] < tree->low[below]) {
            tree->low[below] = tree->low[at];
        }
        tree->ancestor[below] = tree->ancestor[at];
        at = below;
    }
    return tree->low[number];
}

static void find_semidominators(struct tree *tree)
{
    for (uint32_t n = tree->count - 1; n > 0; n--) {
        uint32_t semi = tree->dominator[n];
        for (uint32_t i = tree->source_start[n]; i < tree->source_start[n + 1]; i++) {
            uint32_t least = least_on_path(tree, tree->sources[i], n);
            semi = least < semi ? least : semi;
        }
        tree->semi[n] = semi;
        tree->low[n] = semi;
    }
}

static void find_dominators(struct tree *tree)
{
    for (uint32_t n = 1; n < tree->count; n++) {
        uint32_t dominator = tree->dominator[n];
        while (dominator > tree->semi[n]) {
            dominator = tree->dominator[dominator];
        }
        tree->dominator[n] = dominator;
    }
}

/* ---- the whole ---- */

static uint32_t *array_of(const struct tree *tree)
{
    return malloc(tree->vertices * sizeof(uint32_t));
}

static bool make_arrays(struct tree *tree)
{
    tree->number = array_of(tree);
    tree->vertex = array_of(tree);
    tree->dominator = array_of(tree);
    tree->ancestor = array_of(tree);
    tree->low = array_of(tree);
    tree->semi = array_of(tree);
    tree->scratch = array_of(tree);
    return tree->number != NULL && tree->vertex != NULL && tree->dominator != NULL &&
           tree->ancestor != NULL && tree->low != NULL && tree->semi != NULL && tree->scratch != NULL;
}

static void tree_fini(struct tree *tree)
{
    free(tree->top);
    free(tree->number);
    free(tree->vertex);
    free(tree->dominator);
    free(tree->ancestor);
    free(tree->low);
    free(tree->semi);
    free(tree->scratch);
    free(tree->source_start);
    free(tree->sources);
}

/* false: no memory.  tree_fini() in either case. */
static bool make_tree(struct tree *tree, const struct heap_picture *picture)
{
    uint64_t vertices = (uint64_t)picture->node_count + picture->roots.session_count + 1;
    *tree = (struct tree){.picture = picture, .vertices = (uint32_t)vertices};
    if (vertices >= NO_NUMBER || !make_top(tree) || !make_arrays(tree)) {
        return false;
    }
    number_all(tree);
    if (!make_sources(tree)) {
        return false;
    }
    find_semidominators(tree);
    find_dominators(tree);
    return true;
}

/* What each vertex retains, itself included; sessions and the root have no bytes of their own. */
static void add_retained(const struct tree *tree, uint64_t *objects, uint64_t *bytes)
{
    for (uint32_t n = tree->count - 1; n > 0; n--) {
        uint32_t vertex = tree->vertex[n], dominator = tree->vertex[tree->dominator[n]];
        if (vertex < tree->picture->node_count) {
            objects[vertex]++;
            bytes[vertex] += picture_record(tree->picture, vertex)->bytes;
        }
        objects[dominator] += objects[vertex];
        bytes[dominator] += bytes[vertex];
    }
}

/* Arrays by vertex: nodes, then sessions. */
static enum heap_error retain(uint64_t **objects, uint64_t **bytes, const struct heap_picture *picture)
{
    HEAP_ASSERT(picture->is_complete);
    struct tree tree;
    bool ok = make_tree(&tree, picture);
    uint64_t *o = ok ? calloc(tree.vertices, sizeof *o) : NULL;
    uint64_t *b = ok ? calloc(tree.vertices, sizeof *b) : NULL;
    ok = o != NULL && b != NULL;
    if (ok) {
        add_retained(&tree, o, b);
        *objects = o;
        *bytes = b;
    } else {
        free(o);
        free(b);
    }
    tree_fini(&tree);
    return ok ? HEAP_OK : HEAP_MEMORY;
}

enum heap_error heap_picture_dominators(uint64_t **objects, uint64_t **bytes,
                                        const struct heap_picture *picture)
{
    return retain(objects, bytes, picture);
}

/* The bytes of one session; 0 for one that held nothing. */
static uint64_t bytes_of_session(const struct heap_picture *picture, const uint64_t *bytes, uint64_t session)
{
    const struct picture_roots *roots = &picture->roots;
    for (uint64_t i = 0; i < roots->session_count; i++) {
        if (roots->sessions[i].number == session) {
            return bytes[picture->node_count + i];
        }
    }
    return 0;
}

enum heap_error heap_picture_retained_by_sessions(uint64_t *bytes, const uint64_t *sessions, uint32_t n,
                                                  const struct heap_picture *picture)
{
    uint64_t *objects, *by_vertex;
    enum heap_error error = retain(&objects, &by_vertex, picture);
    if (error != HEAP_OK) {
        return error;
    }
    for (uint32_t i = 0; i < n; i++) {
        bytes[i] = bytes_of_session(picture, by_vertex, sessions[i]);
    }
    free(objects);
    free(by_vertex);
    return HEAP_OK;
}
