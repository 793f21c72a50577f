/* picture_roots.c -- what keeps objects alive, copied at the moment of a picture in one go.
 *
 *   roots[]   | names, in byte order | holds of a session | .. of the next | frozen objects | gc.garbage |
 *                                     ^ names_end                           ^ sessions_end   ^ frozen_end
 *
 * Frozen objects are copied as the bits that they are; their part of roots[] is filled when the nodes are
 * known. Linear in names, holds and garbage: about 20 ns each, all with the GIL.
 * Start at picture_roots_copy().
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

static bool add_root(struct picture_roots *roots, uint32_t ref)
{
    uint32_t *moved = grown(roots->roots, roots->count, &roots->room, sizeof *moved);
    if (moved == NULL) {
        return false;
    }
    roots->roots = moved;
    roots->roots[roots->count++] = ref;
    return true;
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

/* ---- copying ---- */

static bool add_name(struct picture_roots *roots, const char *name, size_t len, uint32_t ref)
{
    struct picture_name *names = grown(roots->names, roots->count, &roots->names_room, sizeof *names);
    if (names == NULL) {
        return false;
    }
    roots->names = names;
    names[roots->count] = (struct picture_name){.text = roots->texts_used, .len = (uint32_t)len};
    return add_text(roots, name, len) && add_root(roots, ref);
}

static bool copy_names(struct picture_roots *roots, struct heap *heap)
{
    const char *name = "";
    size_t len = 0;
    heap_ref ref;
    while (heap_name_next(heap, "", 0, name, len, &name, &len, &ref)) {
        if (!add_name(roots, name, len, ref)) {
            return false;
        }
    }
    roots->names_end = roots->count;
    return true;
}

static bool add_hold(void *arg, uint64_t session, uint32_t ref)
{
    struct picture_roots *roots = arg;
    if (roots->session_count == 0 || roots->sessions[roots->session_count - 1].number != session) {
        struct picture_session *sessions =
            grown(roots->sessions, roots->session_count, &roots->session_room, sizeof *sessions);
        if (sessions == NULL) {
            return false;
        }
        roots->sessions = sessions;
        sessions[roots->session_count++] = (struct picture_session){.number = session, .first = roots->count};
    }
    if (!add_root(roots, ref)) {
        return false;
    }
    roots->sessions[roots->session_count - 1].end = roots->count;
    return true;
}

/* Copies the bits of the frozen objects, and leaves room for them. */
static bool copy_frozen(struct picture_roots *roots, const struct heap_picture *picture)
{
    const struct heap *heap = picture->heap;
    uint64_t count = heap_gc_frozen(heap);
    if (count == 0) {
        return true;
    }
    size_t words = picture->visit.words[0];
    roots->frozen = malloc(words * sizeof *roots->frozen);
    uint32_t *moved = realloc(roots->roots, (roots->count + count) * sizeof *moved);
    if (moved != NULL) {
        roots->roots = moved;
        roots->room = roots->count + count;
    }
    if (moved == NULL || roots->frozen == NULL) {
        return false;
    }
    memcpy(roots->frozen, heap->gc.frozen, words * sizeof *roots->frozen);
    roots->frozen_words = words;
    roots->count += count;
    return true;
}

static bool copy_garbage(struct picture_roots *roots, const struct heap *heap)
{
    uint64_t len = heap_garbage_len(heap);
    for (uint64_t i = 0; i < len; i++) {
        if (!add_root(roots, heap_garbage_item(heap, i))) {
            return false;
        }
    }
    return true;
}

bool picture_roots_copy(struct heap_picture *picture)
{
    struct picture_roots *roots = &picture->roots;
    if (!copy_names(roots, picture->heap) || !session_walk_holds(picture->heap, add_hold, roots)) {
        return false;
    }
    roots->sessions_end = roots->count;
    if (!copy_frozen(roots, picture)) {
        return false;
    }
    roots->frozen_end = roots->count;
    return copy_garbage(roots, picture->heap);
}

/* ---- afterwards ---- */

static void list_frozen(struct picture_roots *roots)
{
    uint64_t at = roots->sessions_end;
    for (size_t word = 0; word < roots->frozen_words; word++) {
        for (uint64_t bits = roots->frozen[word]; bits != 0; bits &= bits - 1) {
            roots->roots[at++] = (uint32_t)word * 64 + (uint32_t)__builtin_ctzll(bits);
        }
    }
    HEAP_ASSERT(at == roots->frozen_end);
    free(roots->frozen);
    roots->frozen = NULL;
}

void picture_roots_order(struct heap_picture *picture)
{
    struct picture_roots *roots = &picture->roots;
    list_frozen(roots);
    for (uint64_t i = 0; i < roots->count; i++) {
        roots->roots[i] = picture_node(picture, roots->roots[i]);
    }
}

void picture_roots_free(struct picture_roots *roots)
{
    free(roots->roots);
    free(roots->names);
    free(roots->texts);
    free(roots->sessions);
    free(roots->frozen);
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
