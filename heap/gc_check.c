/* gc_check.c -- the collector's checker, in any state between two slices.
 *
 *   always         every tracked object in one place, chunks and counters right
 *   idle           no mark, no candidate
 *   before t1      who is marked and scanned refers to marked objects and to what is no candidate
 *   from t1 on     who is not condemned refers to nothing that is, but for those that are yet to be scanned
 * Start at gc_check_generations().
 */
#include "edges.h"

#include <sys/mman.h>

/* ---- places ---- */

static uint32_t check_chunk(struct heap *heap, const struct gc_chunk *chunk, FILE *why)
{
    uint32_t problems = 0, used = 0;
    for (uint32_t i = 0; i < chunk->untouched; i++) {
        uint32_t ref = chunk->refs[i];
        if (ref == 0) {
            continue;
        }
        used++;
        const struct container *c = (const struct container *)object_at(heap, ref);
        if (!pymalloc_is_block(&heap->pm, ref, POOL_CONTAINER) || !(c->head.flags & FLAG_TRACKED) ||
            c->gc != (chunk->number << CHUNK_SHIFT) + i + 1 || bit_get(heap->gc.old, ref) ||
            bit_get(heap->gc.frozen, ref)) {
            fprintf(why, "slot %u of young chunk %u has %#x, which is not only there\n", i, chunk->number, ref);
            problems++;
        }
    }
    uint32_t free = 0;
    if (chunk->list == LIST_CANDIDATE) { /* its free slots are not used again before they are threaded */
        free = chunk->untouched - used;
    }
    for (uint32_t slot = chunk->list == LIST_CANDIDATE ? 0 : chunk->free; slot != 0 && free <= CHUNK_SLOTS; slot = chunk->scratch[slot - 1]) {
        free++;
    }
    if (used != chunk->used || free != chunk->untouched - used) {
        fprintf(why, "young chunk %u has %u objects and %u free slots of %u, and says %u\n", chunk->number,
                used, free, chunk->untouched, chunk->used);
        problems++;
    }
    return problems;
}

static uint32_t check_list(struct heap *heap, uint32_t list, uint64_t *in_list, FILE *why)
{
    const struct gc *gc = &heap->gc;
    uint32_t problems = 0, seen = 0;
    uint64_t objects = 0;
    bool full = false;
    for (uint32_t n = gc->lists[list].head; n != NO_CHUNK && seen++ <= gc->chunk_count;
         n = gc->chunks[n]->next) {
        const struct gc_chunk *chunk = gc->chunks[n];
        problems += check_chunk(heap, chunk, why);
        objects += chunk->used;
        if (chunk->list != list || (full && chunk->used < CHUNK_SLOTS)) {
            fprintf(why, "young chunk %u is out of place in list %u\n", n, list);
            problems++;
        }
        full = chunk->used == CHUNK_SLOTS && list != LIST_CANDIDATE;
    }
    *in_list = objects;
    return problems;
}

/* Objects of each generation, and of the permanent one. */
struct tally {
    uint64_t objects[3], frozen;
};

/* Old and frozen bits sit on tracked containers without a slot, and nowhere else; the machine's on objects. */
static uint32_t check_bits(struct heap *heap, struct tally *tally, FILE *why)
{
    struct gc *gc = &heap->gc;
    uint32_t problems = 0, pool = 0, first;
    unsigned class;
    while (pymalloc_next_pool(&heap->pm, POOL_CONTAINER, &pool, &first, &class)) {
        for (uint32_t ref = first & ~1023u; (ref ^ first) < 1024; ref += 64) {
            uint64_t used = pymalloc_used_word(&heap->pm, ref), tracked = 0;
            for (uint64_t bits = used; bits != 0; bits &= bits - 1) {
                uint32_t at = ref + (uint32_t)__builtin_ctzll(bits);
                const struct container *c = (const struct container *)object_at(heap, at);
                tracked |= (c->head.flags & FLAG_TRACKED) && c->gc == 0 ? bits & -bits : 0;
            }
            uint64_t o = gc->old[ref >> 6], f = gc->frozen[ref >> 6];
            uint64_t bits_of_machine = gc->mark[ref >> 6] | gc->young[ref >> 6];
            tally->objects[2] += (uint64_t)__builtin_popcountll(o);
            tally->frozen += (uint64_t)__builtin_popcountll(f);
            if ((o | f) != tracked || (o & f) != 0 || (bits_of_machine & ~used) != 0 ||
                (bits_of_machine != 0 && (gc->state <= GC_DRAIN || gc->state >= GC_KEEP || ref < gc->swept))) {
                fprintf(why, "the collector's bits of the 64 granules at %#x are wrong\n", ref);
                problems++;
            }
        }
    }
    return problems;
}

static uint32_t check_places(struct heap *heap, FILE *why)
{
    struct gc *gc = &heap->gc;
    struct tally tally = {.frozen = 0};
    uint64_t free = 0, candidates = 0;
    uint32_t problems = check_list(heap, 0, &tally.objects[0], why) + check_list(heap, 1, &tally.objects[1], why) +
                        check_list(heap, LIST_FREE, &free, why) + check_list(heap, LIST_CANDIDATE, &candidates, why) +
                        check_bits(heap, &tally, why);
    tally.objects[gc->target] += candidates;
    for (unsigned g = 0; g < 3; g++) {
        if (tally.objects[g] != counter_read(&gc->generations[g].objects)) {
            fprintf(why, "generation %u has %llu objects and says %llu\n", g, (unsigned long long)tally.objects[g],
                    (unsigned long long)counter_read(&gc->generations[g].objects));
            problems++;
        }
    }
    if (tally.frozen != counter_read(&gc->frozen_count)) {
        fprintf(why, "%llu objects are frozen and it says %llu\n", (unsigned long long)tally.frozen,
                (unsigned long long)counter_read(&gc->frozen_count));
        problems++;
    }
    if (free != 0 || (candidates != 0 && gc->state <= GC_DRAIN)) {
        fprintf(why, "%llu objects are in free chunks and %llu are candidates of nothing\n", (unsigned long long)free,
                (unsigned long long)candidates);
        problems++;
    }
    return problems;
}

/* ---- who refers to whom, while the machine is at work ---- */

/* A container that has no bit in the arrays yet may be a candidate by its chunk. */
static bool is_candidate(const struct heap *heap, uint32_t ref)
{
    const struct gc *gc = &heap->gc;
    const struct container *c = (const struct container *)object_at(heap, ref);
    return bit_get(gc->candidates, ref) || ((c->head.flags & FLAG_TRACKED) && c->gc != 0 &&
                                            gc->chunks[(c->gc - 1) >> CHUNK_SHIFT]->list == LIST_CANDIDATE);
}

/* Whether what an object refers to must be reached: `waits` has those that are still to be scanned. */
static bool must_have_reached(const struct heap *heap, uint32_t ref, const uint64_t *waits)
{
    const struct gc *gc = &heap->gc;
    if (gc_is_determining(gc)) {
        return bit_get(gc->mark, ref) && !bit_get(waits, ref) && !gc->overflowed && gc->state != GC_RESCAN &&
               gc->state != GC_NAMED_AGAIN;
    }
    const struct container *c = (const struct container *)object_at(heap, ref);
    return (gc_is_judging(gc) || gc_is_sentenced(gc)) && !gc_is_condemned(gc, ref) && !(c->head.flags & FLAG_DEAD);
}

static uint32_t check_references(struct heap *heap, uint32_t ref, FILE *why)
{
    const struct gc *gc = &heap->gc;
    struct edges edges = object_edges(heap, (const struct container *)object_at(heap, ref));
    for (uint32_t i = 0; i <= edges.count; i++) {
        uint32_t to = i < edges.count ? edges.refs[i] : edges.extra;
        if (to == 0 || ref_is_atom(to)) {
            continue;
        }
        bool is_missed = gc_is_determining(gc) ? is_candidate(heap, to) && !bit_get(gc->mark, to) : gc_is_condemned(gc, to);
        if (is_missed) {
            fprintf(why, "%#x is reached, but %#x, to which it refers, is not\n", ref, to);
            return 1;
        }
    }
    return 0;
}

/* Bits of what is on the stack or being scanned; NULL: no memory. */
static uint64_t *bits_of_waiting(const struct gc *gc)
{
    uint64_t *waits = mmap(NULL, gc->bitmap_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                           -1, 0);
    if (waits == MAP_FAILED) {
        return NULL;
    }
    for (uint64_t i = 0; i < gc->stack_used; i++) {
        bit_set(waits, gc->stack[i]);
    }
    if (gc->partial.ref != 0) {
        bit_set(waits, gc->partial.ref);
    }
    return waits;
}

static uint32_t check_reached(struct heap *heap, FILE *why)
{
    struct gc *gc = &heap->gc;
    uint64_t *waits = bits_of_waiting(gc);
    if (waits == NULL) {
        fputs("no memory to check what is reached\n", why);
        return 1;
    }
    uint32_t problems = 0, pool = 0, first;
    unsigned class;
    while (pymalloc_next_pool(&heap->pm, POOL_CONTAINER, &pool, &first, &class)) {
        for (uint32_t ref = first & ~1023u; (ref ^ first) < 1024; ref += 64) {
            for (uint64_t bits = pymalloc_used_word(&heap->pm, ref); bits != 0; bits &= bits - 1) {
                uint32_t at = ref + (uint32_t)__builtin_ctzll(bits);
                problems += must_have_reached(heap, at, waits) ? check_references(heap, at, why) : 0;
            }
        }
    }
    munmap(waits, gc->bitmap_bytes);
    return problems;
}

/* ---- the checker ---- */

uint32_t gc_check_generations(struct heap *heap, FILE *why)
{
    const struct gc *gc = &heap->gc;
    uint32_t problems = check_places(heap, why);
    bool is_at_rest = gc->stack_used == 0 && gc->partial.ref == 0;
    if (gc->cycle_on != gc_is_determining(gc) || (!gc->cycle_on && !is_at_rest)) {
        fputs("the barrier or the stack are not as the collector's state has them\n", why);
        problems++;
    }
    /* Edges of damaged objects are not followed. */
    return problems + (problems == 0 && gc->state > GC_DRAIN ? check_reached(heap, why) : 0);
}
