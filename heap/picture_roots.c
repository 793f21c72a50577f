/* picture_roots.c -- what kept objects alive at the moment of a picture.
 *
 *   roots[]   | names, in byte order | holds of a session | .. of the next | frozen objects | gc.garbage |
 *                                     ^ names_end                           ^ sessions_end   ^ frozen_end
 *
 * At t0 are copied, in one go: which handle slots each session holds, the bits of the frozen objects,
 * gc.garbage, and names of immortals.  That is linear in holds, some nanoseconds each.  Names of other
 * objects are copied with the object, in the slices: whoever binds or unbinds one tells the visit before.
 *
 * A slot becomes a node by the records: those that had an id at t0 know theirs.
 * Start at picture_roots_copy() and picture_roots_order().
 */
#include "picture.h"

/* ---- growing ---- */

/* Makes an array of `room` items of `size` bytes hold one more than `count`.  NULL: no memory, all is as it
 * was. */
static void *grown(void *items, uint64_t count, uint64_t *room, size_t size)
{
    if (count < *room) {
        return items;
    }
    uint64_t more = *room == 0 ? 256 : *room * 2;
    void *moved = realloc(items, more * size);
    if (moved != NULL) {
        *room = more;
    }
    return moved;
}

static bool add_text(struct picture_roots *roots, const char *text, size_t len)
{
    if (roots->texts_used + len > roots->texts_room) {
        size_t room = (roots->texts_used + len) * 2;
        char *texts = realloc(roots->texts, room);
        if (texts == NULL) {
            return false;
        }
        roots->texts = texts;
        roots->texts_room = room;
    }
    memcpy(roots->texts + roots->texts_used, text, len);
    roots->texts_used += len;
    return true;
}

/* ---- names ---- */

struct named {
    struct heap_picture *picture;
    uint32_t ref;
};

static void add_name(void *arg, const char *name, size_t len)
{
    const struct named *named = arg;
    struct picture_roots *roots = &named->picture->roots;
    struct picture_name *names = grown(roots->names, roots->names_count, &roots->names_room, sizeof *names);
    if (names == NULL) {
        named->picture->error = HEAP_MEMORY;
        return;
    }
    roots->names = names;
    names[roots->names_count++] =
        (struct picture_name){.text = roots->texts_used, .len = (uint32_t)len, .ref = named->ref};
    if (!add_text(roots, name, len)) {
        named->picture->error = HEAP_MEMORY;
    }
}

void picture_roots_copy_names(struct heap_picture *picture, uint32_t ref)
{
    struct named named = {.picture = picture, .ref = ref};
    heap_names_of(picture->heap, ref, add_name, &named);
}

static void copy_names_of_each(struct heap_picture *picture, const uint32_t *refs, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        picture_roots_copy_names(picture, refs[i]);
    }
}

/* No immortal is visited. */
static void copy_names_of_immortals(struct heap_picture *picture)
{
    const struct heap *heap = picture->heap;
    const uint32_t single[] = {heap->none, heap->truth[0], heap->truth[1], heap->empty_tuple};
    copy_names_of_each(picture, single, sizeof single / sizeof single[0]);
    copy_names_of_each(picture, &heap->empty_str, 1);
    copy_names_of_each(picture, &heap->empty_bytes, 1);
    copy_names_of_each(picture, heap->small_ints, SMALL_INTS);
    copy_names_of_each(picture, heap->latin1, 256);
    copy_names_of_each(picture, heap->byte1, 256);
}

/* ---- holds, frozen objects, garbage ---- */

static struct picture_session *session_add(struct picture_roots *roots, uint64_t number)
{
    struct picture_session *sessions =
        grown(roots->sessions, roots->session_count, &roots->session_room, sizeof *sessions);
    if (sessions == NULL) {
        return NULL;
    }
    roots->sessions = sessions;
    sessions[roots->session_count] = (struct picture_session){.number = number, .first = roots->holds_count};
    return &sessions[roots->session_count++];
}

static bool add_hold(void *arg, uint64_t number, uint32_t slot)
{
    struct picture_roots *roots = arg;
    struct picture_session *session =
        roots->session_count > 0 ? &roots->sessions[roots->session_count - 1] : NULL;
    if (session == NULL || session->number != number) {
        session = session_add(roots, number);
    }
    if (session == NULL) {
        return false;
    }
    uint32_t *holds = grown(roots->holds, roots->holds_count, &roots->holds_room, sizeof *holds);
    if (holds == NULL) {
        return false;
    }
    roots->holds = holds;
    holds[roots->holds_count++] = slot;
    session->end = roots->holds_count;
    return true;
}

static bool copy_frozen(struct picture_roots *roots, const struct heap_picture *picture)
{
    roots->frozen_count = heap_gc_frozen(picture->heap);
    if (roots->frozen_count == 0) {
        return true;
    }
    roots->frozen_words = picture->visit.words[0];
    roots->frozen = malloc(roots->frozen_words * sizeof *roots->frozen);
    if (roots->frozen != NULL) {
        memcpy(roots->frozen, picture->heap->gc.frozen, roots->frozen_words * sizeof *roots->frozen);
    }
    return roots->frozen != NULL;
}

static bool copy_garbage(struct picture_roots *roots, const struct heap *heap)
{
    roots->garbage_count = heap_garbage_len(heap);
    roots->garbage = malloc((roots->garbage_count + 1) * sizeof *roots->garbage);
    for (uint64_t i = 0; roots->garbage != NULL && i < roots->garbage_count; i++) {
        roots->garbage[i] = heap_garbage_item(heap, i);
    }
    return roots->garbage != NULL;
}

bool picture_roots_copy(struct heap_picture *picture)
{
    struct picture_roots *roots = &picture->roots;
    roots->slots = handle_count(picture->heap);
    copy_names_of_immortals(picture);
    return picture->error == HEAP_OK && session_walk_holds(picture->heap, add_hold, roots) &&
           copy_frozen(roots, picture) && copy_garbage(roots, picture->heap);
}

/* ---- roots[] ---- */

/* Byte order, a name before those it begins. */
static int compare_names(const void *a, const void *b, void *texts)
{
    const struct picture_name *x = a, *y = b;
    int order = memcmp((const char *)texts + x->text, (const char *)texts + y->text,
                       x->len < y->len ? x->len : y->len);
    return order != 0 ? order : x->len < y->len ? -1 : x->len > y->len;
}

static void add_root(struct picture_roots *roots, uint32_t node)
{
    roots->roots[roots->count++] = node;
}

static void list_names(struct heap_picture *picture)
{
    struct picture_roots *roots = &picture->roots;
    if (roots->names_count > 0) {
        qsort_r(roots->names, roots->names_count, sizeof *roots->names, compare_names, roots->texts);
    }
    for (uint64_t i = 0; i < roots->names_count; i++) {
        add_root(roots, picture_node(picture, roots->names[i].ref));
    }
    roots->names_end = roots->count;
}

/* The node of each slot that there was; HEAP_NO_NODE for those of immortals.  NULL: no memory. */
static uint32_t *nodes_by_slot(const struct heap_picture *picture)
{
    size_t bytes = ((size_t)picture->roots.slots + 1) * sizeof(uint32_t);
    uint32_t *nodes = malloc(bytes);
    if (nodes == NULL) {
        return NULL;
    }
    memset(nodes, 0xFF, bytes);
    for (uint32_t i = 0; i < picture->node_count; i++) {
        const struct picture_record *record = picture_record(picture, i);
        if (record->had_id) {
            nodes[(uint32_t)record->id] = i;
        }
    }
    return nodes;
}

static bool list_holds(struct heap_picture *picture)
{
    struct picture_roots *roots = &picture->roots;
    uint32_t *nodes = nodes_by_slot(picture);
    if (nodes == NULL) {
        return false;
    }
    for (uint64_t i = 0; i < roots->session_count; i++) {
        roots->sessions[i].first += roots->names_end;
        roots->sessions[i].end += roots->names_end;
    }
    for (uint64_t i = 0; i < roots->holds_count; i++) {
        add_root(roots, nodes[roots->holds[i]]);
    }
    free(nodes);
    roots->sessions_end = roots->count;
    return true;
}

static void list_frozen(struct heap_picture *picture)
{
    struct picture_roots *roots = &picture->roots;
    for (size_t word = 0; word < roots->frozen_words; word++) {
        for (uint64_t bits = roots->frozen[word]; bits != 0; bits &= bits - 1) {
            uint32_t ref = (uint32_t)word * 64 + (uint32_t)__builtin_ctzll(bits);
            add_root(roots, picture_node(picture, ref));
        }
    }
    roots->frozen_end = roots->count;
    HEAP_ASSERT(roots->frozen_end - roots->sessions_end == roots->frozen_count);
}

bool picture_roots_order(struct heap_picture *picture)
{
    struct picture_roots *roots = &picture->roots;
    uint64_t count = roots->names_count + roots->holds_count + roots->frozen_count + roots->garbage_count;
    roots->roots = malloc((count + 1) * sizeof *roots->roots);
    if (roots->roots == NULL) {
        return false;
    }
    list_names(picture);
    if (!list_holds(picture)) {
        return false;
    }
    list_frozen(picture);
    for (uint64_t i = 0; i < roots->garbage_count; i++) {
        add_root(roots, picture_node(picture, roots->garbage[i]));
    }
    return true;
}

void picture_roots_free(struct picture_roots *roots)
{
    free(roots->names);
    free(roots->texts);
    free(roots->sessions);
    free(roots->holds);
    free(roots->frozen);
    free(roots->garbage);
    free(roots->roots);
}

/* ---- the public face ---- */

uint64_t heap_picture_roots(const struct heap_picture *picture)
{
    return picture->roots.count;
}

/* The session whose holds include root i. */
static uint64_t session_at(const struct picture_roots *roots, uint64_t i)
{
    uint64_t low = 0, high = roots->session_count;
    while (high - low > 1) {
        uint64_t middle = low + (high - low) / 2;
        if (roots->sessions[middle].first <= i) {
            low = middle;
        } else {
            high = middle;
        }
    }
    return roots->sessions[low].number;
}

void heap_picture_root(struct heap_root *root, const struct heap_picture *picture, uint64_t i)
{
    const struct picture_roots *roots = &picture->roots;
    HEAP_ASSERT(picture->is_complete && i < roots->count);
    *root = (struct heap_root){.node = roots->roots[i]};
    if (i < roots->names_end) {
        root->kind = HEAP_ROOT_NAME;
        root->name =
            (struct heap_text){.text = roots->texts + roots->names[i].text, .len = roots->names[i].len};
    } else if (i < roots->sessions_end) {
        root->kind = HEAP_ROOT_SESSION;
        root->session = session_at(roots, i);
    } else {
        root->kind = i < roots->frozen_end ? HEAP_ROOT_FROZEN : HEAP_ROOT_GARBAGE;
    }
}
