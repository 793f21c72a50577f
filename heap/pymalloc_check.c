/* pymalloc_check.c -- proves that magazines, pools, arenas and counters agree.
 *
 * Everything is counted twice: once by walking the pools of the mapped arenas, once by walking the lists,
 * and compared with the counters.  Reads all, changes nothing, cannot loop on a damaged list.
 * Locking: every function needs the GIL.
 * Start at pymalloc_check() and arena_check().
 */
#include "pymalloc_private.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>

/* What one run of pymalloc_check() has seen. */
struct check {
    const struct pymalloc *pm;
    FILE *why;
    uint32_t problems;
    uint64_t pools[POOL_KINDS][SIZE_CLASSES]; /* USED and FULL */
    uint64_t used[POOL_KINDS][SIZE_CLASSES];  /* USED */
    uint64_t taken[POOL_KINDS][SIZE_CLASSES]; /* blocks whose bit is clear */
};

__attribute__((format(printf, 2, 3))) static void problem(struct check *check, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vfprintf(check->why, format, args);
    va_end(args);
    fputc('\n', check->why);
    check->problems++;
}

/* ---- pools ---- */

/* Bits and counts of a pool that is USED or FULL, whose kind and class are sound. */
static void check_bits(struct check *check, uint32_t number, const struct pool *pool)
{
    const uint64_t *words = &check->pm->freebit[(uint64_t)number * POOL_WORDS];
    const uint64_t *template = check->pm->private->templates[pool->class];
    uint32_t free = 0, capacity = 0, below_low = 0;
    for (unsigned i = 0; i < POOL_WORDS; i++) {
        if ((words[i] & ~template[i]) != 0) {
            problem(check, "pool %u: a free bit in word %u is not where a block begins", number, i);
        }
        free += (uint32_t)__builtin_popcountll(words[i]);
        capacity += (uint32_t)__builtin_popcountll(template[i]);
        below_low += i < pool->low ? (uint32_t)__builtin_popcountll(words[i]) : 0;
    }
    if (pool->capacity != capacity) {
        problem(check, "pool %u: capacity is %u, class %u has %u", number, pool->capacity, pool->class,
                capacity);
    }
    if (pool->free != free) {
        problem(check, "pool %u: %u blocks counted free, %u bits set", number, pool->free, free);
    }
    if (below_low != 0) {
        problem(check, "pool %u: %u free blocks below word %u, where none should be", number, below_low,
                pool->low);
    }
    bool used = pool->free > 0 && pool->free < pool->capacity;
    if (pool->state == POOL_USED ? !used : pool->free != 0) {
        problem(check, "pool %u: state %u with %u of %u blocks free", number, pool->state, pool->free,
                pool->capacity);
    }
    check->taken[pool->kind][pool->class] += capacity - free;
}

static void check_pool(struct check *check, uint32_t number, unsigned stretch, bool free)
{
    const struct pool *pool = &check->pm->pools[number];
    if (pool->state > POOL_FULL || free != (pool->state == POOL_FREE)) {
        problem(check, "pool %u: state %u, but its arena has it %s", number, pool->state,
                free ? "free" : "in use");
        return;
    }
    if (free) {
        return;
    }
    if (pool->kind >= POOL_KINDS || pool->class >= SIZE_CLASSES || stretch_of(pool->kind) != stretch) {
        problem(check, "pool %u: kind %u, class %u in stretch %u", number, pool->kind, pool->class, stretch);
        return;
    }
    check->pools[pool->kind][pool->class]++;
    check->used[pool->kind][pool->class] += pool->state == POOL_USED;
    check_bits(check, number, pool);
}

static void check_pools(struct check *check)
{
    for (unsigned i = 0; i < STRETCHES; i++) {
        const struct arena_stretch *s = &check->pm->private->stretches[i];
        for (uint32_t index = 1; index <= s->touched; index++) {
            const struct arena *arena = &s->arenas[index];
            for (uint32_t n = 0; arena->mapped && n < POOLS_PER_ARENA; n++) {
                uint32_t number = (i * STRETCH_ARENAS + index) * POOLS_PER_ARENA + n;
                check_pool(check, number, i, arena->free_pools >> n & 1);
            }
        }
    }
}

/* Whether a pool number lies in a mapped arena, so that its descriptor may be believed. */
static bool pool_is_mapped(const struct pymalloc *pm, uint32_t number)
{
    uint32_t arena = number / POOLS_PER_ARENA;
    const struct arena_stretch *s = &pm->private->stretches[arena >= STRETCH_ARENAS];
    uint32_t index = arena % STRETCH_ARENAS;
    return arena < ARENA_NUMBERS && index != 0 && index <= s->touched && s->arenas[index].mapped;
}

/* The list holds as many pools as are USED, all of them USED and of this kind and class.  Links back
 * agree with links forward, so none is there twice. */
static void check_list(struct check *check, enum pool_kind kind, unsigned class)
{
    const struct pymalloc *pm = check->pm;
    uint64_t length = 0;
    uint32_t before = 0, number = pm->private->lists[kind][class];
    while (number != 0 && length <= check->used[kind][class]) {
        const struct pool *pool = pool_is_mapped(pm, number) ? &pm->pools[number] : NULL;
        if (pool == NULL || pool->state != POOL_USED || pool->kind != kind || pool->class != class ||
            pool->prev != before) {
            problem(check, "list of kind %u, class %u: pool %u does not belong after pool %u", kind, class,
                    number, before);
            return;
        }
        length++;
        before = number;
        number = pool->next;
    }
    if (length != check->used[kind][class]) {
        problem(check, "list of kind %u, class %u: %" PRIu64 " pools on it, %" PRIu64 " are used", kind,
                class, length, check->used[kind][class]);
    }
}

static int compare_refs(const void *a, const void *b)
{
    uint32_t left = *(const uint32_t *)a, right = *(const uint32_t *)b;
    return (left > right) - (left < right);
}

/* Each reference in the magazine is a block of its kind and class whose bit is clear, and is there once. */
static void check_magazine(struct check *check, enum pool_kind kind, unsigned class)
{
    const struct magazine *magazine = &check->pm->magazines[kind][class];
    uint32_t refs[MAGAZINE_ROOM], count = atomic_load_explicit(&magazine->count, memory_order_relaxed);
    if (count > MAGAZINE_ROOM) {
        problem(check, "magazine of kind %u, class %u: count is %u", kind, class, count);
        return;
    }
    memcpy(refs, magazine->refs, count * sizeof *refs);
    qsort(refs, count, sizeof *refs, compare_refs);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t number = refs[i] >> REF_POOL_SHIFT;
        const struct pool *pool = pool_is_mapped(check->pm, number) ? &check->pm->pools[number] : NULL;
        if (pool == NULL || pool->kind != kind || pool->class != class ||
            !(pymalloc_used_word(check->pm, refs[i] & ~63u) >> (refs[i] & 63) & 1)) {
            problem(check, "magazine of kind %u, class %u: %u is no block taken from a pool", kind, class,
                    refs[i]);
        } else if (i > 0 && refs[i] == refs[i - 1]) {
            problem(check, "magazine of kind %u, class %u: block %u is there twice", kind, class, refs[i]);
        }
    }
}

static void check_counters(struct check *check, enum pool_kind kind, unsigned class)
{
    const struct class_counters *counters = &check->pm->private->classes[kind][class];
    uint64_t pools = counter_read(&counters->pools), taken = counter_read(&counters->taken);
    if (pools != check->pools[kind][class]) {
        problem(check, "kind %u, class %u: %" PRIu64 " pools counted, there are %" PRIu64, kind, class, pools,
                check->pools[kind][class]);
    }
    if (taken != check->taken[kind][class]) {
        problem(check, "kind %u, class %u: %" PRIu64 " blocks counted as taken, there are %" PRIu64, kind,
                class, taken, check->taken[kind][class]);
    }
}

/* Afterwards, with 0 problems: capacity == used + free + in magazine for every pool.  The blocks in use are
 * those neither free nor in the magazine; both of these were proved to be blocks of the pool, once each. */
uint32_t pymalloc_check(struct pymalloc *pm, FILE *why)
{
    struct check check = {.pm = pm, .why = why};
    check_pools(&check);
    for (enum pool_kind kind = 0; kind < POOL_KINDS; kind++) {
        for (unsigned class = 0; class < SIZE_CLASSES; class++) {
            check_list(&check, kind, class);
            check_magazine(&check, kind, class);
            check_counters(&check, kind, class);
        }
    }
    return check.problems + mapped_check(pm, why);
}

/* ---- arenas ---- */

/* Every address of an arena maps back to it, and nothing of an arena that is not mapped is on offer. */
static void check_arena(struct check *check, unsigned stretch, uint32_t index)
{
    const struct pymalloc *pm = check->pm;
    const struct arena *arena = &pm->private->stretches[stretch].arenas[index];
    uint32_t number = stretch * STRETCH_ARENAS + index, first = number << REF_ARENA_SHIFT;
    uint32_t last = first + ARENA_BYTES / GRANULE_BYTES - 1;
    const char *begin = pymalloc_address(pm, first), *end = pymalloc_address(pm, last);
    if (pymalloc_ref(pm, begin) != first || pymalloc_ref(pm, end) != last ||
        (uintptr_t)begin % ARENA_BYTES != 0 || end - begin != ARENA_BYTES - GRANULE_BYTES) {
        problem(check, "arena %u: its addresses do not map back to it", number);
    }
    if (!arena->mapped && arena->free_pools != 0) {
        problem(check, "arena %u: not mapped, but has free pools", number);
    }
}

/* The usable list: ascending, each arena that has free pools once, last_with true. */
static void check_usable(struct check *check, unsigned stretch, uint32_t usable)
{
    const struct arena_stretch *s = &check->pm->private->stretches[stretch];
    uint32_t last_with[POOLS_PER_ARENA + 1] = {0}, before = 0, length = 0, free_before = 1;
    uint32_t index = s->usable;
    for (; index != 0 && length <= usable; length++) {
        uint32_t free = index <= s->touched ? (uint32_t)__builtin_popcountll(s->arenas[index].free_pools) : 0;
        if (free == 0 || s->arenas[index].prev != before) {
            problem(check, "stretch %u: arena %u does not belong after %u on the usable list", stretch, index,
                    before);
            return;
        }
        if (free < free_before) {
            problem(check, "stretch %u: arena %u with %u free pools comes after one with %u", stretch, index,
                    free, free_before);
        }
        last_with[free] = before = index;
        free_before = free;
        index = s->arenas[index].next;
    }
    if (length != usable) {
        problem(check, "stretch %u: %u arenas on the usable list, %u have free pools", stretch, length,
                usable);
    }
    for (uint32_t free = 0; free <= POOLS_PER_ARENA; free++) {
        if (s->last_with[free] != last_with[free]) {
            problem(check, "stretch %u: the last arena with %u free pools is %u, noted is %u", stretch, free,
                    last_with[free], s->last_with[free]);
        }
    }
}

/* The arenas on the warm or the unused list; more than `most` where it is a circle. */
static uint32_t count_unmapped(struct check *check, unsigned stretch, const char *name, uint32_t head, uint32_t most)
{
    const struct arena_stretch *s = &check->pm->private->stretches[stretch];
    uint32_t length = 0;
    for (uint32_t index = head; index != 0 && length <= most; length++) {
        if (index > s->touched || s->arenas[index].mapped) {
            problem(check, "stretch %u: arena %u is on the %s list", stretch, index, name);
            return length;
        }
        index = s->arenas[index].next;
    }
    return length;
}

/* Every arena that is not mapped is on one of the two lists.  Returns how many are warm. */
static uint32_t check_unmapped(struct check *check, unsigned stretch, uint32_t unmapped)
{
    const struct arena_stretch *s = &check->pm->private->stretches[stretch];
    uint32_t warm = count_unmapped(check, stretch, "warm", s->warm, unmapped);
    uint32_t unused = count_unmapped(check, stretch, "unused", s->unused, unmapped);
    if (warm + unused != unmapped) {
        problem(check, "stretch %u: %u arenas on the warm list, %u on the unused list, %u are not mapped", stretch,
                warm, unused, unmapped);
    }
    return warm;
}

uint32_t arena_check(struct pymalloc *pm, FILE *why)
{
    struct check check = {.pm = pm, .why = why};
    const struct pymalloc_private *p = pm->private;
    uint64_t mapped = 0;
    uint64_t warm = 0;
    for (unsigned i = 0; i < STRETCHES; i++) {
        const struct arena_stretch *s = &p->stretches[i];
        uint32_t usable = 0, unmapped = 0, empty = 0;
        for (uint32_t index = 1; index <= s->touched; index++) {
            check_arena(&check, i, index);
            mapped += s->arenas[index].mapped;
            unmapped += !s->arenas[index].mapped;
            usable += s->arenas[index].free_pools != 0;
            empty += s->arenas[index].free_pools == UINT64_MAX;
        }
        check_usable(&check, i, usable);
        warm += check_unmapped(&check, i, unmapped);
        if (empty > 1) {
            problem(&check, "stretch %u: %u arenas are wholly free, one may be", i, empty);
        }
    }
    if (warm != counter_read(&p->warm) || warm > ARENAS_WARM_MAX) {
        problem(&check, "%" PRIu64 " arenas are warm, counted: %" PRIu64, warm, counter_read(&p->warm));
    }
    uint64_t arenas = counter_read(&p->arenas), total = counter_read(&p->arenas_total);
    uint64_t reclaimed = counter_read(&p->arenas_reclaimed), highwater = counter_read(&p->arenas_highwater);
    if (arenas != mapped || total - reclaimed != arenas || highwater < arenas || highwater > total) {
        problem(&check,
                "%" PRIu64 " arenas are mapped; counted: %" PRIu64 " now, %" PRIu64 " in all, %" PRIu64
                " reclaimed, %" PRIu64 " at most",
                mapped, arenas, total, reclaimed, highwater);
    }
    return check.problems;
}
