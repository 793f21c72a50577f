/* pymalloc.c -- blocks of up to 512 bytes: magazines in front of pools of one size class and kind.
 *
 *   alloc/free   magazine (64 references, last in first out)                 inline in pymalloc.h
 *   refill       the 32 lowest free bits of the list's first pool            pymalloc_alloc_slow()
 *   flush        the older half of the magazine, grouped by runs of a pool   pymalloc_free_slow()
 *   open, close  a pool comes from or goes to its arena                      arena.c
 *
 * A pool holds nothing but blocks.  What is free is a bit in `freebit` at the block's first granule; a
 * fresh pool's words are copied from its class's template, so nothing is carved and nothing is divided.
 * Pool states: enum pool_state in pymalloc_private.h.
 * Invariant: for every pool, blocks in use + blocks in the magazine + bits set == capacity.
 * Locking: every function needs the GIL but pymalloc_figures().   Checker: pymalloc_check().
 * Start at pymalloc_alloc_slow() and flush().
 */
#include "pymalloc_private.h"

#include <stdlib.h>

_Static_assert(MAGAZINE_REFILL * 2 == MAGAZINE_ROOM, "a flush leaves room for half, a refill fills half");
_Static_assert(POOL_FREE == 0, "descriptors that were never touched are zero");

/* ---- life ---- */

/* Sets the bits where blocks of class `class` begin in an empty pool. */
static void template_fill(uint64_t words[POOL_WORDS], unsigned class)
{
    for (unsigned granule = 0; granule + class + 1 <= POOL_BYTES / GRANULE_BYTES; granule += class + 1) {
        words[granule / 64] |= (uint64_t)1 << granule % 64;
    }
}

bool pymalloc_init(struct pymalloc *pm, uint64_t half_bytes)
{
    memset(pm, 0, sizeof *pm);
    pm->private = calloc(1, sizeof *pm->private);
    if (pm->private == NULL) {
        return false;
    }
    for (unsigned class = 0; class < SIZE_CLASSES; class++) {
        template_fill(pm->private->templates[class], class);
    }
    if (!arena_init(pm, half_bytes)) {
        free(pm->private);
        return false;
    }
    return true;
}

void pymalloc_fini(struct pymalloc *pm)
{
    raw_fini(pm);
    while (mapped_release(pm)) {
    }
    arena_fini(pm);
    free(pm->private);
}

/* ---- pools ---- */

static uint64_t *pool_words(const struct pymalloc *pm, uint32_t number)
{
    return &pm->freebit[(uint64_t)number * POOL_WORDS];
}

/* Links a USED pool second, so that the pool that serves now goes on until it is full; first if alone. */
static void pool_link(struct pymalloc *pm, uint32_t number)
{
    struct pool *pool = &pm->pools[number];
    uint32_t *head = &pm->private->lists[pool->kind][pool->class];
    pool->prev = *head;
    if (*head == 0) {
        pool->next = 0;
        *head = number;
        return;
    }
    pool->next = pm->pools[*head].next;
    pm->pools[*head].next = number;
    if (pool->next != 0) {
        pm->pools[pool->next].prev = number;
    }
}

static void pool_unlink(struct pymalloc *pm, const struct pool *pool)
{
    if (pool->prev != 0) {
        pm->pools[pool->prev].next = pool->next;
    } else {
        pm->private->lists[pool->kind][pool->class] = pool->next;
    }
    if (pool->next != 0) {
        pm->pools[pool->next].prev = pool->prev;
    }
}

/* A pool of an arena becomes one of this kind and class, all free, on the list.  0: limit or no memory. */
static uint32_t pool_open(struct pymalloc *pm, enum pool_kind kind, unsigned class)
{
    uint32_t number = arena_pool_take(pm, stretch_of(kind));
    if (number == 0) {
        return 0;
    }
    const uint64_t *template = pm->private->templates[class];
    unsigned capacity = POOL_BYTES / ((class + 1) * GRANULE_BYTES);
    memcpy(pool_words(pm, number), template, POOL_WORDS * sizeof *template);
    struct pool *pool = &pm->pools[number];
    *pool = (struct pool){.state = POOL_USED, .kind = (uint8_t)kind, .class = (uint8_t)class};
    pool->free = pool->capacity = (uint16_t)capacity;
    pool_link(pm, number);
    counter_add(&pm->private->classes[kind][class].pools, 1);
    return number;
}

/* `count` blocks of a pool have become free: their bits are set already. */
static void pool_gained(struct pymalloc *pm, uint32_t number, uint32_t count)
{
    struct pool *pool = &pm->pools[number];
    pool->free = (uint16_t)(pool->free + count);
    if (pool->free == pool->capacity) {
        if (pool->state == POOL_USED) {
            pool_unlink(pm, pool);
        }
        pool->state = POOL_FREE;
        counter_sub(&pm->private->classes[pool->kind][pool->class].pools, 1);
        arena_pool_give(pm, number);
    } else if (pool->state == POOL_FULL) {
        pool->state = POOL_USED;
        pool_link(pm, number);
    }
}

/* Takes the lowest free blocks of a USED pool, `room` at most; their number.  Stores them from `end` downwards. */
static uint32_t pool_take(struct pymalloc *pm, uint32_t number, uint32_t *end, uint32_t room)
{
    struct pool *pool = &pm->pools[number];
    uint64_t *words = pool_words(pm, number);
    uint32_t want = pool->free < room ? pool->free : room, taken = 0;
    unsigned i = pool->low;
    for (; taken < want; i++) {
        uint32_t ref = pool_first_ref(number) + i * 64;
        uint64_t bits = words[i];
        for (; bits != 0 && taken < want; bits &= bits - 1) {
            *--end = ref + (uint32_t)__builtin_ctzll(bits);
            taken++;
        }
        words[i] = bits;
    }
    pool->low = (uint8_t)(i - 1); /* the word looked at last may have bits left */
    pool->free = (uint16_t)(pool->free - want);
    if (pool->free == 0) {
        pool->state = POOL_FULL;
        pool_unlink(pm, pool);
    }
    return want;
}

/* ---- magazines ---- */

/* Fills an empty magazine from the pools of its class; a fresh pool only if they have nothing.  Stores
 * the references so that they pop in the order taken, in a pool by ascending address.  Returns how many. */
static uint32_t refill(struct pymalloc *pm, enum pool_kind kind, unsigned class)
{
    const uint32_t *head = &pm->private->lists[kind][class];
    uint32_t *refs = pm->magazines[kind][class].refs, count = 0;
    if (*head == 0 && pool_open(pm, kind, class) == 0) {
        return 0;
    }
    while (count < MAGAZINE_REFILL && *head != 0) {
        count += pool_take(pm, *head, refs + MAGAZINE_REFILL - count, MAGAZINE_REFILL - count);
    }
    if (count < MAGAZINE_REFILL) {
        memmove(refs, refs + MAGAZINE_REFILL - count, count * sizeof *refs);
    }
    counter_add(&pm->private->classes[kind][class].taken, count);
    return count;
}

void *pymalloc_alloc_slow(struct pymalloc *pm, enum pool_kind kind, unsigned class)
{
    struct magazine *magazine = &pm->magazines[kind][class];
    uint32_t count = raw_fault_passed(pm) ? refill(pm, kind, class) : 0;
    if (count == 0) {
        return NULL;
    }
    atomic_store_explicit(&magazine->count, count - 1, memory_order_relaxed);
    void *block = pymalloc_address(pm, magazine->refs[count - 1]);
    BLOCK_UNPOISON(block, (class + 1) * GRANULE_BYTES);
    return block;
}

/* Puts the `count` oldest blocks of a magazine back into their pools. */
static void flush(struct pymalloc *pm, enum pool_kind kind, unsigned class, uint32_t count)
{
    struct magazine *magazine = &pm->magazines[kind][class];
    uint32_t *refs = magazine->refs, i = 0;
    while (i < count) {
        /* refs[0..i) are back in their pools; a run of blocks of one pool costs one look at the pool, and one of
         * blocks of one word one write to it. */
        uint32_t number = refs[i] >> REF_POOL_SHIFT, run = i;
        uint32_t low = UINT32_MAX;
        while (i < count && refs[i] >> REF_POOL_SHIFT == number) {
            uint32_t word = refs[i] >> 6;
            uint64_t bits = 0;
            for (; i < count && refs[i] >> 6 == word; i++) {
                bits |= (uint64_t)1 << (refs[i] & 63);
            }
            pm->freebit[word] |= bits;
            low = word < low ? word : low;
        }
        struct pool *pool = &pm->pools[number];
        low &= POOL_WORDS - 1;
        if (low < pool->low) {
            pool->low = (uint8_t)low;
        }
        pool_gained(pm, number, i - run);
    }
    counter_sub(&pm->private->classes[kind][class].taken, count);
    uint32_t left = atomic_load_explicit(&magazine->count, memory_order_relaxed) - count;
    memmove(refs, refs + count, left * sizeof *refs);
    atomic_store_explicit(&magazine->count, left, memory_order_relaxed);
}

void pymalloc_free_slow(struct pymalloc *pm, enum pool_kind kind, unsigned class, void *block)
{
    flush(pm, kind, class, MAGAZINE_ROOM - MAGAZINE_REFILL);
    struct magazine *magazine = &pm->magazines[kind][class];
    magazine->refs[MAGAZINE_REFILL] = pymalloc_ref(pm, block);
    atomic_store_explicit(&magazine->count, MAGAZINE_REFILL + 1, memory_order_relaxed);
}

void pymalloc_trim(struct pymalloc *pm)
{
    for (enum pool_kind kind = 0; kind < POOL_KINDS; kind++) {
        for (unsigned class = 0; class < SIZE_CLASSES; class++) {
            uint32_t count = atomic_load_explicit(&pm->magazines[kind][class].count, memory_order_relaxed);
            if (count > 0) {
                flush(pm, kind, class, count);
            }
        }
    }
    raw_trim(pm);
}

bool pymalloc_release(struct pymalloc *pm)
{
    return mapped_release(pm) || arena_cool_one(pm);
}

bool pymalloc_can_release(const struct pymalloc *pm)
{
    return counter_read(&pm->private->warm) > 0 || counter_read(&pm->private->waste_bytes) > 0;
}

void pymalloc_free_word(struct pymalloc *pm, uint32_t ref, uint64_t bits)
{
    uint32_t number = ref >> REF_POOL_SHIFT, count = (uint32_t)__builtin_popcountll(bits);
    if (count == 0) {
        return;
    }
    struct pool *pool = &pm->pools[number];
#if defined(__SANITIZE_ADDRESS__)
    for (uint64_t left = bits; left != 0; left &= left - 1) {
        void *block = pymalloc_address(pm, ref + (uint32_t)__builtin_ctzll(left));
        BLOCK_POISON(block, (pool->class + 1) * GRANULE_BYTES);
    }
#endif
    pm->freebit[ref >> 6] |= bits;
    uint8_t word = ref >> 6 & (POOL_WORDS - 1);
    pool->low = word < pool->low ? word : pool->low;
    counter_sub(&pm->private->classes[pool->kind][pool->class].taken, count);
    pool_gained(pm, number, count);
}

/* ---- walking ---- */

bool pymalloc_next_pool(const struct pymalloc *pm, enum pool_kind kind, uint32_t *pool, uint32_t *first,
                        unsigned *class)
{
    const struct arena_stretch *stretch = &pm->private->stretches[stretch_of(kind)];
    uint32_t base = stretch_of(kind) * STRETCH_ARENAS * POOLS_PER_ARENA; /* pool numbers of the stretch */
    uint32_t end = base + (stretch->touched + 1) * POOLS_PER_ARENA;
    uint32_t number = *pool > base ? *pool : base;
    while (number < end) {
        if (stretch->arenas[(number - base) / POOLS_PER_ARENA].mapped == 0) {
            number = (number / POOLS_PER_ARENA + 1) * POOLS_PER_ARENA;
        } else if (pm->pools[number].state == POOL_FREE || pm->pools[number].kind != kind) {
            number++;
        } else {
            *class = pm->pools[number].class;
            *first = pool_first_ref(number);
            *pool = number + 1;
            return true;
        }
    }
    return false;
}

uint64_t pymalloc_used_word(const struct pymalloc *pm, uint32_t ref)
{
    const struct pool *pool = &pm->pools[ref >> REF_POOL_SHIFT];
    if (pool->state == POOL_FREE) {
        return 0;
    }
    return pm->private->templates[pool->class][ref >> 6 & (POOL_WORDS - 1)] & ~pm->freebit[ref >> 6];
}

uint32_t pymalloc_block_bytes(const struct pymalloc *pm, uint32_t ref)
{
    return (pm->pools[ref >> REF_POOL_SHIFT].class + 1u) * GRANULE_BYTES;
}

bool pymalloc_is_block(const struct pymalloc *pm, uint32_t ref, enum pool_kind kind)
{
    const struct arena_stretch *stretch = &pm->private->stretches[(ref & REF_ATOM) != 0];
    if ((ref & ~REF_ATOM) >> REF_ARENA_SHIFT > stretch->touched) {
        return false; /* perhaps beyond the side arrays */
    }
    const struct pool *pool = &pm->pools[ref >> REF_POOL_SHIFT];
    if (pool->state == POOL_FREE || pool->kind != kind || !(pymalloc_used_word(pm, ref) >> (ref & 63) & 1)) {
        return false;
    }
    const struct magazine *magazine = &pm->magazines[kind][pool->class];
    uint32_t count = atomic_load_explicit(&magazine->count, memory_order_relaxed);
    for (uint32_t i = 0; i < count; i++) {
        if (magazine->refs[i] == ref) {
            return false;
        }
    }
    return true;
}

/* ---- figures ---- */

/* Adds the pools and blocks of one kind to a row.  A thread without the GIL may read between the two
 * counts of a refill or flush in progress; then the row is off by that refill, never below zero. */
static void class_add(struct heap_class_figures *row, const struct pymalloc *pm, enum pool_kind kind,
                      unsigned class)
{
    const struct class_counters *counters = &pm->private->classes[kind][class];
    uint64_t waiting = atomic_load_explicit(&pm->magazines[kind][class].count, memory_order_relaxed);
    uint64_t taken = counter_read(&counters->taken), pools = counter_read(&counters->pools);
    uint64_t room = pools * (POOL_BYTES / row->size);
    uint64_t blocks = taken > waiting ? taken - waiting : 0;
    row->pools += pools;
    row->blocks += blocks;
    row->free += room > blocks ? room - blocks : 0;
}

void pymalloc_figures(const struct pymalloc *pm, struct heap_stats *stats)
{
    const struct pymalloc_private *p = pm->private;
    stats->pools = stats->blocks = stats->block_bytes = 0;
    for (unsigned class = 0; class < SIZE_CLASSES; class++) {
        struct heap_class_figures *row = &stats->classes[class];
        *row = (struct heap_class_figures){.size = (class + 1) * GRANULE_BYTES};
        for (enum pool_kind kind = 0; kind < POOL_KINDS; kind++) {
            class_add(row, pm, kind, class);
        }
        stats->pools += row->pools;
        stats->blocks += row->blocks;
        stats->block_bytes += row->blocks * row->size;
    }
    stats->arenas = counter_read(&p->arenas);
    stats->arenas_total = counter_read(&p->arenas_total);
    stats->arenas_reclaimed = counter_read(&p->arenas_reclaimed);
    stats->arenas_highwater = counter_read(&p->arenas_highwater);
    stats->arena_bytes = stats->arenas * ARENA_BYTES;
    uint64_t pools = stats->arenas * POOLS_PER_ARENA;
    stats->pools_free = pools > stats->pools ? pools - stats->pools : 0;
    stats->pool_bytes = stats->pools * POOL_BYTES;
    stats->raw_blocks = counter_read(&p->raw_blocks);
    stats->raw_bytes = counter_read(&p->raw_bytes);
    stats->table_bytes = counter_read(&p->table_bytes);
}
