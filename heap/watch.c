/* watch.c -- has what somebody read in slices been changed meanwhile?
 *
 *   slice     heap_watch_add()   a bit for each container that is read
 *   between   heap_watch_rest()  the places that tell visits (visit.h) of changes and deaths tell watches, too
 *   slice     heap_watch_wake()  if none of the containers with a bit was among those, all that was read still stands
 *
 *   pages   [ | NULL | | NULL ]      each a bit a granule, made when the first container in it is noted
 *
 * Names and ids given to a container count as changes, which is more than who reads it needs; but that is rare.
 * A full collection frees the unreachable without telling watches: no place where that is done asks for them, and who
 * can still find the object where he began cannot have read what is unreachable, for the edges that lead there are
 * watched.  Only a weakref may be dead before it is touched, from the verdict on.
 *
 * Locking: the GIL for everything.   Start at heap_watch_add() and watch_tell().
 */
#include "visit.h"

#define PAGE_SHIFT 15u /* granules of a page: 4 KiB of bits */
#define PAGE_WORDS ((1u << PAGE_SHIFT) / 64u)
#define PAGES_FIRST 16u

struct heap_watch {
    struct heap *heap;
    struct heap_watch *next; /* of the heap's, while it rests */
    uint64_t **pages;        /* NULL: nothing in it was noted */
    uint32_t page_count;
    bool has_weakref;        /* one was noted */
    bool is_resting;
    bool is_broken;
};

struct heap_watch *heap_watch_create(struct heap *heap)
{
    GIL_ASSERT_HELD(heap);
    struct heap_watch *watch = calloc(1, sizeof *watch);
    if (watch != NULL) {
        watch->heap = heap;
    }
    return watch;
}

/* Takes a resting one out of the heap's. */
static void leave(struct heap_watch *watch)
{
    struct heap *heap = watch->heap;
    struct heap_watch **link = &heap->watches;
    while (*link != watch) {
        link = &(*link)->next;
    }
    *link = watch->next;
    watch->is_resting = false;
    visit_note_watchers(heap);
}

void heap_watch_destroy(struct heap_watch *watch)
{
    GIL_ASSERT_HELD(watch->heap);
    if (watch->is_resting) {
        leave(watch);
    }
    for (uint32_t i = 0; i < watch->page_count; i++) {
        free(watch->pages[i]);
    }
    free(watch->pages);
    free(watch);
}

/* ---- what was read ---- */

/* The page of a container, NULL if nothing in it was noted. */
static inline uint64_t *page_of(const struct heap_watch *watch, uint32_t ref)
{
    uint32_t number = ref >> PAGE_SHIFT;
    return likely(number < watch->page_count) ? watch->pages[number] : NULL;
}

/* The page, made; NULL: no memory. */
static uint64_t *page_create(struct heap_watch *watch, uint32_t ref)
{
    uint32_t number = ref >> PAGE_SHIFT;
    if (number >= watch->page_count) {
        uint32_t count = watch->page_count == 0 ? PAGES_FIRST : 2 * watch->page_count;
        count = count > number ? count : number + 1;
        uint64_t **pages = realloc(watch->pages, count * sizeof *pages);
        if (pages == NULL) {
            return NULL;
        }
        memset(pages + watch->page_count, 0, (count - watch->page_count) * sizeof *pages);
        watch->pages = pages;
        watch->page_count = count;
    }
    watch->pages[number] = calloc(PAGE_WORDS, sizeof(uint64_t));
    return watch->pages[number];
}

bool heap_watch_add(struct heap_watch *watch, heap_ref container)
{
    HEAP_DCHECK(!ref_is_atom(container));
    uint64_t *page = page_of(watch, container);
    if (unlikely(page == NULL)) {
        page = page_create(watch, container);
        if (page == NULL) {
            return false;
        }
    }
    bit_set(page, container & ((1u << PAGE_SHIFT) - 1));
    watch->has_weakref |= object_at(watch->heap, container)->type == HEAP_T_WEAKREF;
    return true;
}

bool heap_watch_has(const struct heap_watch *watch, heap_ref container)
{
    const uint64_t *page = page_of(watch, container);
    return page != NULL && bit_get(page, container & ((1u << PAGE_SHIFT) - 1));
}

/* ---- what changes ---- */

void watch_tell(struct heap *heap, uint32_t ref)
{
    for (struct heap_watch *watch = heap->watches; watch != NULL && !ref_is_atom(ref); watch = watch->next) {
        watch->is_broken |= heap_watch_has(watch, ref);
    }
}

void heap_watch_rest(struct heap_watch *watch)
{
    struct heap *heap = watch->heap;
    GIL_ASSERT_HELD(heap);
    HEAP_ASSERT(!watch->is_resting);
    watch->is_resting = true;
    watch->next = heap->watches;
    heap->watches = watch;
    visit_note_watchers(heap);
}

bool heap_watch_wake(struct heap_watch *watch)
{
    struct heap *heap = watch->heap;
    GIL_ASSERT_HELD(heap);
    HEAP_ASSERT(watch->is_resting);
    leave(watch);
    watch->is_broken |= watch->has_weakref && gc_is_judging(&heap->gc);
    return !watch->is_broken;
}
