/* visit.c -- a walk over all objects as they were at one moment, in slices, while others go on.
 *
 *   live   [1 . . 1 . 1 1 .|. . 1 ..]    a bit a granule: an object that lived at t0 starts here
 *   done   [1 . . 1 . . 1 .|. . . ..]    it has been visited: by a step, or because it was about to change
 *   died   [. . . . . . 1 .|. . . ..]    it has died since t0; what lies there now is another object
 *                     ^ `at`: the words before it are done
 *
 * All three are the walk's own, so a block that is freed and given out again is still known by what was there
 * at t0.  An immortal loses its `live` bit when it is met: none is visited, and when the walk is complete the
 * `live` bits are exactly the objects of t0.
 *
 * Invariants: done and died are part of live; died is part of done.
 * Locking: the GIL for everything.   Start at visit_begin() and visit_step().
 */
#include "visit.h"

#include "clock.h"

#include <time.h>

#define SLICE_NS 500000u      /* of the GIL at a time */
#define PAUSE_NS 300000       /* between two slices, so that others get more than every second one */
#define OBJECTS_PER_CLOCK 32u /* visited between two looks at the clock */

#define HALF_OF(ref) ((ref) >> 31)
#define WORD_OF(ref) (((ref) & ~REF_ATOM) >> 6)

/* ---- the bits ---- */

/* Words that cover every pool of a kind. */
static size_t words_needed(const struct heap *heap, enum pool_kind kind)
{
    uint32_t pool = 0, first, last = 0;
    unsigned class;
    while (pymalloc_next_pool(&heap->pm, kind, &pool, &first, &class)) {
        last = WORD_OF(first | ((1u << REF_POOL_SHIFT) - 1)) + 1;
    }
    return last;
}

static void copy_used(struct visit *visit, const struct heap *heap, enum pool_kind kind)
{
    uint32_t pool = 0, first;
    unsigned class;
    while (pymalloc_next_pool(&heap->pm, kind, &pool, &first, &class)) {
        uint32_t start = first & ~((1u << REF_POOL_SHIFT) - 1);
        for (uint32_t i = 0; i < WORDS_PER_POOL; i++) {
            visit->live[HALF_OF(start)][WORD_OF(start) + i] = pymalloc_used_word(&heap->pm, start + i * 64);
        }
    }
}

/* The blocks in magazines look used, and are free. */
static void clear_magazines(struct visit *visit, const struct heap *heap, enum pool_kind kind)
{
    for (unsigned class = 0; class < SIZE_CLASSES; class ++) {
        const struct magazine *magazine = &heap->pm.magazines[kind][class];
        uint32_t count = atomic_load_explicit(&magazine->count, memory_order_relaxed);
        for (uint32_t i = 0; i < count; i++) {
            uint32_t ref = magazine->refs[i];
            bit_clear(visit->live[HALF_OF(ref)], ref & ~REF_ATOM);
        }
    }
}

static void free_bits(struct visit *visit)
{
    for (unsigned half = 0; half < 2; half++) {
        free(visit->live[half]);
        free(visit->done[half]);
        free(visit->died[half]);
        visit->live[half] = visit->done[half] = visit->died[half] = NULL;
        visit->words[half] = 0;
    }
}

/* An array of one word more than needed, so that it is never empty. */
static uint64_t *bits_create(size_t words)
{
    return calloc(words + 1, sizeof(uint64_t));
}

bool visit_begin(struct visit *visit, struct heap *heap)
{
    GIL_ASSERT_HELD(heap);
    HEAP_ASSERT(heap->visit == NULL);
    gc_finish(heap); /* nothing, if the caller has waited in heap_enter_still() */
    for (unsigned half = 0; half < 2; half++) {
        enum pool_kind kind = half == 0 ? POOL_CONTAINER : POOL_ATOM;
        visit->at[half] = 0;
        visit->words[half] = half == 1 && visit->containers_only ? 0 : words_needed(heap, kind);
        visit->live[half] = bits_create(visit->words[half]);
        visit->done[half] = bits_create(visit->words[half]);
        visit->died[half] = bits_create(visit->words[half]);
        if (visit->live[half] == NULL || visit->done[half] == NULL || visit->died[half] == NULL) {
            visit->words[1] = half == 0 ? 0 : visit->words[1];
            free_bits(visit);
            return false;
        }
        if (visit->words[half] > 0) {
            copy_used(visit, heap, kind);
            clear_magazines(visit, heap, kind);
        }
    }
    heap->visit = visit;
    visit_note_watchers(heap);
    return true;
}

void visit_end(struct visit *visit, struct heap *heap)
{
    GIL_ASSERT_HELD(heap);
    HEAP_ASSERT(heap->visit == visit);
    heap->visit = NULL;
    visit_note_watchers(heap);
    free_bits(visit);
}

/* ---- visiting ---- */

/* Whether the object lived at t0, or is one that took the place of such. */
static bool is_of_t0(const struct visit *visit, uint32_t ref)
{
    unsigned half = HALF_OF(ref);
    return WORD_OF(ref) < visit->words[half] && bit_get(visit->live[half], ref & ~REF_ATOM);
}

/* Visits an object of t0 if that has not been done. */
static void visit_one(struct visit *visit, struct heap *heap, uint32_t ref)
{
    uint64_t *done = visit->done[HALF_OF(ref)];
    if (!bit_get(done, ref & ~REF_ATOM)) {
        bit_set(done, ref & ~REF_ATOM); /* first: giving it an id is a change too */
        visit->node(visit, heap, ref);
    }
}

void visit_now(struct heap *heap, uint32_t ref)
{
    struct visit *visit = heap->visit;
    watch_tell(heap, ref);
    if (visit != NULL && is_of_t0(visit, ref) && !object_is_immortal(object_at(heap, ref))) {
        visit_one(visit, heap, ref);
    }
}

void visit_death(struct heap *heap, uint32_t ref)
{
    struct visit *visit = heap->visit;
    watch_tell(heap, ref);
    if (visit != NULL && is_of_t0(visit, ref)) {
        visit_one(visit, heap, ref);
        bit_set(visit->died[HALF_OF(ref)], ref & ~REF_ATOM);
    }
}

bool visit_has_died(const struct visit *visit, uint32_t ref)
{
    return bit_get(visit->died[HALF_OF(ref)], ref & ~REF_ATOM);
}

/* Visits what is left of a word, at most `budget` objects.  Returns how many that were. */
static uint32_t visit_word(struct visit *visit, struct heap *heap, unsigned half, size_t word,
                           uint32_t budget)
{
    uint32_t count = 0;
    uint32_t first = (uint32_t)word * 64 + (half == 0 ? 0 : REF_ATOM);
    uint64_t bits = visit->live[half][word] & ~visit->done[half][word];
    for (; bits != 0 && count < budget; bits &= bits - 1) {
        uint32_t ref = first + (uint32_t)__builtin_ctzll(bits);
        if (object_is_immortal(object_at(heap, ref))) {
            bit_clear(visit->live[half], ref & ~REF_ATOM);
        } else {
            visit_one(visit, heap, ref);
        }
        count++;
    }
    return count;
}

bool visit_step(struct visit *visit, struct heap *heap, uint32_t budget)
{
    GIL_ASSERT_HELD(heap);
    uint32_t words_budget = budget * 16; /* words without an object cost something too */
    uint32_t count = 0, words = 0;
    for (unsigned half = 0; half < 2; half++) {
        while (visit->at[half] < visit->words[half]) {
            if (count >= budget || words++ >= words_budget) {
                return false;
            }
            count += visit_word(visit, heap, half, visit->at[half], budget - count);
            visit->at[half] += count < budget; /* else the word may have more */
        }
    }
    return true;
}

/* ---- slices ---- */

bool visit_slice(struct visit *visit, struct heap *heap)
{
    uint64_t end = clock_ns() + SLICE_NS;
    bool is_done = false;
    while (!is_done && clock_ns() < end) {
        is_done = visit_step(visit, heap, OBJECTS_PER_CLOCK);
    }
    return is_done;
}

void visit_pause(void)
{
    nanosleep(&(struct timespec){.tv_nsec = PAUSE_NS}, NULL);
}
