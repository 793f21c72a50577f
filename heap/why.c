/* why.c -- what keeps one object alive: a shortest path from a root, and what it alone keeps.
 *
 * Both are a search from all roots over the nodes of a picture, breadth first, with a queue that each node
 * enters at most once.  They read the picture and nothing else, so they need no GIL.
 * Start at heap_picture_why() and heap_picture_retained().
 */
#include "picture.h"

/* ---- shortest path ---- */

#define NOT_REACHED 0xFFFFFFFFu
#define FROM_ROOT 0xFFFFFFFEu

struct search {
    const struct heap_picture *picture;
    uint32_t *from;  /* of each node: the one it was reached from, FROM_ROOT or NOT_REACHED */
    uint32_t *queue; /* nodes reached, in order */
    uint32_t head, tail;
};

static void search_reach(struct search *search, uint32_t node, uint32_t from)
{
    if (node != HEAP_NO_NODE && search->from[node] == NOT_REACHED) {
        search->from[node] = from;
        search->queue[search->tail++] = node;
    }
}

/* Until `node` is reached or nothing is left. */
static void search_run(struct search *search, uint32_t node)
{
    const struct picture_roots *roots = &search->picture->roots;
    for (uint64_t i = 0; i < roots->count; i++) {
        search_reach(search, roots->roots[i], FROM_ROOT);
    }
    while (search->head < search->tail && search->from[node] == NOT_REACHED) {
        uint32_t at = search->queue[search->head++];
        const struct picture_record *record = picture_record(search->picture, at);
        for (uint32_t k = 0; k < record->count; k++) {
            search_reach(search, record->edges[k], at);
        }
    }
}

/* The first root that is this node; there is one. */
static uint64_t root_of(const struct picture_roots *roots, uint32_t node)
{
    uint64_t i = 0;
    while (roots->roots[i] != node) {
        i++;
    }
    return i;
}

/* Writes the way from a root to `node`, of which the search knows the length. */
static void write_path(uint32_t *path, uint32_t length, const struct search *search, uint32_t node)
{
    for (uint32_t i = length; i-- > 0;) {
        path[i] = node;
        node = search->from[node];
    }
}

static uint32_t path_length(const struct search *search, uint32_t node)
{
    uint32_t length = 0;
    while (node < FROM_ROOT) {
        length++;
        node = search->from[node];
    }
    return node == FROM_ROOT ? length : 0;
}

static bool search_init(struct search *search, const struct heap_picture *picture)
{
    size_t bytes = ((size_t)picture->node_count + 1) * sizeof(uint32_t);
    *search = (struct search){.picture = picture, .from = malloc(bytes), .queue = malloc(bytes)};
    if (search->from != NULL) {
        memset(search->from, 0xFF, bytes);
    }
    return search->from != NULL && search->queue != NULL;
}

static void search_fini(struct search *search)
{
    free(search->from);
    free(search->queue);
}

enum heap_error heap_picture_why(uint32_t **path, uint32_t *length, uint64_t *root,
                                 const struct heap_picture *picture, uint32_t node)
{
    HEAP_ASSERT(picture->is_complete && node < picture->node_count);
    enum heap_error error = HEAP_MEMORY;
    struct search search;
    if (search_init(&search, picture)) {
        search_run(&search, node);
        uint32_t long_is = search.from[node] == NOT_REACHED ? 0 : path_length(&search, node);
        uint32_t *way = malloc(((size_t)long_is + 1) * sizeof *way);
        if (way != NULL) {
            write_path(way, long_is, &search, node);
            *path = way;
            *length = long_is;
            *root = long_is > 0 ? root_of(&picture->roots, way[0]) : 0;
            error = HEAP_OK;
        }
    }
    search_fini(&search);
    return error;
}

/* ---- retained ---- */

struct reach {
    const struct heap_picture *picture;
    uint64_t *seen;  /* a bit a node */
    uint32_t *stack; /* seen, not yet looked at; each node is put there once */
    uint32_t used;
    uint32_t gate; /* the node that is passed over at first */
    bool gate_met;
    uint64_t objects, bytes;
};

static void reach_node(struct reach *reach, uint32_t node)
{
    if (node == reach->gate) {
        reach->gate_met = true;
    } else if (node != HEAP_NO_NODE && !bit_get(reach->seen, node)) {
        bit_set(reach->seen, node);
        reach->stack[reach->used++] = node;
    }
}

/* Everything that the nodes on the stack reach and that has not been seen. */
static void reach_run(struct reach *reach)
{
    while (reach->used > 0) {
        const struct picture_record *record = picture_record(reach->picture, reach->stack[--reach->used]);
        reach->objects++;
        reach->bytes += record->bytes;
        for (uint32_t k = 0; k < record->count; k++) {
            reach_node(reach, record->edges[k]);
        }
    }
}

/* First all that is reached around the gate; then what it reaches besides. */
static void count_retained(struct reach *reach)
{
    const struct picture_roots *roots = &reach->picture->roots;
    for (uint64_t i = 0; i < roots->count; i++) {
        reach_node(reach, roots->roots[i]);
    }
    reach_run(reach);
    reach->objects = reach->bytes = 0;
    if (reach->gate_met) {
        reach->stack[reach->used++] = reach->gate;
        reach_run(reach);
    }
}

enum heap_error heap_picture_retained(uint64_t *objects, uint64_t *bytes, const struct heap_picture *picture,
                                      uint32_t node)
{
    HEAP_ASSERT(picture->is_complete && node < picture->node_count);
    enum heap_error error = HEAP_MEMORY;
    struct reach reach = {
        .picture = picture,
        .gate = node,
        .seen = calloc(picture->node_count / 64 + 1, sizeof *reach.seen),
        .stack = malloc(((size_t)picture->node_count + 1) * sizeof *reach.stack),
    };
    if (reach.seen != NULL && reach.stack != NULL) {
        count_retained(&reach);
        *objects = reach.objects;
        *bytes = reach.bytes;
        error = HEAP_OK;
    }
    free(reach.seen);
    free(reach.stack);
    return error;
}
