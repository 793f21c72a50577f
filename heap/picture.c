/* picture.c -- the graph of all objects as it was at one moment, for questions that look at the whole heap.
 *
 *   heap_picture_begin      t0: bits of what lives, holds                                GIL
 *   heap_picture_complete   slices of half a millisecond: a record an object             GIL, in turns
 *                           then: ranks, node -> record, references become nodes         -
 *   why, retained, ..       read it                                                      -
 *
 *   visit.live   [1..1.11.|..1..1..|...]     a bit an object of t0
 *   rank         [0       |4       |..]      nodes before each word: node = rank + bits before its own
 *
 * The visit goes on hearing of deaths until the picture is destroyed, so it knows which nodes still are
 * objects. Nothing here counts references, and no memory of the heap is used but for ids.
 * Start at heap_picture_begin() and heap_picture_complete().
 */
#include "picture.h"

/* ---- life ---- */

struct heap_picture *heap_picture_begin(struct heap *heap, unsigned what)
{
    GIL_ASSERT_HELD(heap);
    struct heap_picture *picture = calloc(1, sizeof *picture);
    if (picture == NULL) {
        return NULL;
    }
    picture->heap = heap;
    picture->what = what;
    picture->visit.node = picture_capture;
    if (!visit_begin(&picture->visit, heap)) {
        free(picture);
        return NULL;
    }
    if (!picture_roots_copy(picture)) {
        heap_picture_destroy(picture);
        return NULL;
    }
    return picture;
}

static void free_chunks(struct picture_chunk *chunk)
{
    while (chunk != NULL) {
        struct picture_chunk *next = chunk->next;
        free(chunk);
        chunk = next;
    }
}

void heap_picture_destroy(struct heap_picture *picture)
{
    visit_end(&picture->visit, picture->heap);
    free_chunks(picture->chunks);
    free(picture->spare);
    free(picture->rank[0]);
    free(picture->rank[1]);
    free(picture->nodes);
    picture_roots_free(&picture->roots);
    free(picture->labels.by_symbol);
    free(picture->labels.texts);
    free(picture);
}

/* ---- taking it ---- */

bool picture_step(struct heap_picture *picture, uint32_t budget)
{
    return visit_step(&picture->visit, picture->heap, budget);
}

/* Has a chunk ready whose pages are there, so that a slice need not wait for the kernel.  Benign when it
 * fails. */
static struct picture_chunk *prepare_spare(void)
{
    struct picture_chunk *spare = picture_chunk_create(0);
    if (spare != NULL) {
        memset(spare->data, 0, spare->room);
    }
    return spare;
}

enum heap_error heap_picture_complete(struct heap_picture *picture, const _Atomic bool *cancel)
{
    struct picture_chunk *spare = NULL; /* only with the GIL is it the picture's: others capture, too */
    enum heap_error error = HEAP_OK;
    HEAP_ASSERT(!picture->is_complete);
    for (bool is_done = false; !is_done && error == HEAP_OK;) {
        if (*cancel) {
            error = HEAP_CANCELLED;
            break;
        }
        spare = spare != NULL ? spare : prepare_spare();
        heap_enter(picture->heap);
        if (picture->spare == NULL) {
            picture->spare = spare;
            spare = NULL;
        }
        is_done = visit_slice(&picture->visit, picture->heap);
        error = picture->error;
        heap_leave(picture->heap);
        if (!is_done && error == HEAP_OK) {
            visit_pause();
        }
    }
    free(spare);
    return error == HEAP_OK ? picture_order(picture) : error;
}

/* ---- order ---- */

/* Counts the nodes before each word.  false: no memory. */
static bool make_ranks(struct heap_picture *picture)
{
    const struct visit *visit = &picture->visit;
    uint32_t before = 0;
    for (unsigned half = 0; half < 2; half++) {
        uint32_t *rank = malloc((visit->words[half] + 1) * sizeof *rank);
        if (rank == NULL) {
            return false;
        }
        picture->rank[half] = rank;
        for (size_t word = 0; word < visit->words[half]; word++) {
            rank[word] = before;
            before += (uint32_t)__builtin_popcountll(visit->live[half][word]);
        }
    }
    picture->node_count = before;
    return true;
}

uint32_t picture_node(const struct heap_picture *picture, uint32_t ref)
{
    unsigned half = ref >> 31;
    size_t word = (ref & ~REF_ATOM) >> 6;
    if (word >= picture->visit.words[half]) {
        return HEAP_NO_NODE;
    }
    uint64_t live = picture->visit.live[half][word], bit = (uint64_t)1 << (ref & 63);
    return live & bit ? picture->rank[half][word] + (uint32_t)__builtin_popcountll(live & (bit - 1))
                      : HEAP_NO_NODE;
}

/* Numbers the records of a chunk.  Returns how many there are. */
static uint32_t order_chunk(struct heap_picture *picture, struct picture_chunk *chunk)
{
    uint32_t count = 0;
    for (size_t at = 0; at < chunk->used; count++) {
        struct picture_record *record = (struct picture_record *)(chunk->data + at / sizeof chunk->data[0]);
        picture->nodes[picture_node(picture, record->ref)] = record;
        at += picture_record_order(picture, record);
    }
    return count;
}

enum heap_error picture_order(struct heap_picture *picture)
{
    if (!make_ranks(picture)) {
        return HEAP_MEMORY;
    }
    picture->nodes = malloc(((size_t)picture->node_count + 1) * sizeof(struct picture_record *));
    if (picture->nodes == NULL) {
        return HEAP_MEMORY;
    }
    uint32_t count = 0;
    for (struct picture_chunk *chunk = picture->chunks; chunk != NULL; chunk = chunk->next) {
        count += order_chunk(picture, chunk);
    }
    HEAP_ASSERT(count == picture->node_count);
    if (!picture_roots_order(picture)) {
        return HEAP_MEMORY;
    }
    free(picture->labels.by_symbol);
    picture->labels.by_symbol = NULL;
    picture->is_complete = true;
    return HEAP_OK;
}

/* ---- reading ---- */

uint32_t heap_picture_nodes(const struct heap_picture *picture)
{
    HEAP_ASSERT(picture->is_complete);
    return picture->node_count;
}

/* The name of an instance's class, which is its last edge. */
static const char *type_name(const struct heap_picture *picture, const struct picture_record *record)
{
    if (record->type != HEAP_T_INSTANCE) {
        return heap_builtin_name((enum heap_type)record->type);
    }
    return picture_class_name(picture, picture_record(picture, record->edges[record->count - 1]));
}

void heap_picture_node(struct heap_node *node, const struct heap_picture *picture, uint32_t i)
{
    HEAP_ASSERT(picture->is_complete && i < picture->node_count);
    const struct picture_record *record = picture_record(picture, i);
    bool is_weak = record->type == HEAP_T_WEAKREF;
    *node = (struct heap_node){
        .type = (enum heap_type)record->type,
        .bytes = record->bytes,
        .id = record->id,
        .type_name = type_name(picture, record),
        .edges = record->edges,
        .edge_count = record->count,
        .is_weak = is_weak,
        .target = is_weak ? record->edges[0] : HEAP_NO_NODE,
    };
}

uint32_t heap_picture_find(const struct heap_picture *picture, heap_ref obj)
{
    HEAP_ASSERT(picture->is_complete);
    return picture_node(picture, obj);
}

heap_ref heap_picture_ref(const struct heap_picture *picture, uint32_t i)
{
    GIL_ASSERT_HELD(picture->heap);
    HEAP_ASSERT(picture->is_complete && i < picture->node_count);
    uint32_t ref = picture_record(picture, i)->ref;
    return visit_has_died(&picture->visit, ref) ? 0 : ref;
}
