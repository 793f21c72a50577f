/* arena.c -- two reserved stretches of address space, given to pools an arena at a time.
 *
 *   base                                   base + 32 GiB
 *   [ - ][arena 1][arena 2] ...            [ - ][arena 32769] ...          blocks
 *   [ - ][ 8 KiB ][ 8 KiB ] ...            [ - ][ 8 KiB ] ...              freebit, a bit a granule
 *   [ - ][ 1 KiB ][ 1 KiB ] ...            [ - ][ 1 KiB ] ...              pools, a descriptor a pool
 *
 * A reference divides into arena number, pool and granule by shifts; all three rows are indexed by it
 * directly, so looking up an address is arithmetic and needs no tree.  Only what is touched costs memory.
 * The first arena of each stretch ("-") is never used: reference 0 and its surroundings name nothing.
 *
 * An arena is unused (its bytes cannot be touched), usable (on the list that is ascending by free pools),
 * full (on no list) or warm: given back and counted so, but its pages are still there, because what fills a
 * heap and drains it over and over would otherwise spend most of its time on page faults (9 of 12 ns a block).
 * pymalloc_release() takes the pages a little later, an arena a call, when there is nothing better to do.
 * Invariants: last_with[n] is the last arena with n free pools on the usable list; at most one arena of a
 * stretch is wholly free; with a limit, arenas * 1 MiB + warm ones * 1 MiB + raw and table bytes keep to it.
 * Locking: every function needs the GIL.   Checker: arena_check() in pymalloc_check.c.
 * Start at arena_pool_take() and arena_pool_give().
 */
#include "pymalloc_private.h"

#include <stdlib.h>
#include <sys/mman.h>

/* Smallest unit the kernel takes back.  Larger pages only make madvise() on side arrays fail, harmlessly. */
#define PAGE_BYTES 4096u
#define FREEBIT_BYTES_PER_ARENA (ARENA_BYTES / GRANULE_BYTES / 8)
#define POOLS_BYTES_PER_ARENA (POOLS_PER_ARENA * (uint32_t)sizeof(struct pool))
#define ARENAS_PER_POOLS_PAGE (PAGE_BYTES / POOLS_BYTES_PER_ARENA)
_Static_assert(FREEBIT_BYTES_PER_ARENA % PAGE_BYTES == 0, "an arena's bits are whole pages");
_Static_assert(ARENAS_PER_POOLS_PAGE * POOLS_BYTES_PER_ARENA == PAGE_BYTES,
               "descriptors of an arena share one page");

/* ---- reserving ---- */

/* `bytes` at an address of the kernel's choice that is a multiple of ARENA_BYTES; or NULL. */
static char *map_aligned(uint64_t bytes, int protection)
{
    uint64_t total = bytes + ARENA_BYTES;
    char *got = mmap(NULL, total, protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (got == MAP_FAILED) {
        return NULL;
    }
    uint64_t before = -(uintptr_t)got & (ARENA_BYTES - 1);
    if (before > 0) {
        munmap(got, before);
    }
    munmap(got + before + bytes, ARENA_BYTES - before);
    return got + before;
}

/* `bytes` at exactly this address, if nothing is there. */
static bool map_at(uintptr_t address, uint64_t bytes, int protection)
{
    void *wanted = (void *)address;
    void *got = mmap(wanted, bytes, protection,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
    if (got != MAP_FAILED && got != wanted) {
        munmap(got, bytes); /* a kernel before 4.17 takes the address as a hint */
        return false;
    }
    return got == wanted;
}

static uint64_t row_used(uint64_t bytes, uint64_t arenas)
{
    return (bytes * arenas + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES;
}

/* Where address space is limited: one stretch where the kernel likes, the other as far below or above it as
 * it must be.  NULL: both places are taken. */
static char *row_reserve_apart(uint64_t distance, uint64_t used, int protection)
{
    char *got = map_aligned(used, protection);
    if (got == NULL) {
        return NULL;
    }
    uintptr_t address = (uintptr_t)got;
    if (address > distance && map_at(address - distance, used, protection)) {
        return got - distance;
    }
    if (map_at(address + distance, used, protection)) {
        return got;
    }
    munmap(got, used);
    return NULL;
}

/* Address space for a row of `bytes` per arena: `arenas` of them in each stretch.  One mapping is made and
 * what lies between the stretches given back; that finds a place whenever there is enough space in one
 * piece.  NULL: no address space. */
static void *row_reserve(uint64_t bytes, uint64_t arenas, int protection)
{
    uint64_t distance = bytes * STRETCH_ARENAS, used = row_used(bytes, arenas);
    char *row = map_aligned(distance + used, protection);
    if (row == NULL) {
        return row_reserve_apart(distance, used, protection);
    }
    if (used < distance) {
        munmap(row + used, distance - used);
    }
    return row;
}

static void row_release(void *row, uint64_t bytes, uint64_t arenas)
{
    if (row != NULL) {
        munmap(row, row_used(bytes, arenas));
        munmap((char *)row + bytes * STRETCH_ARENAS, row_used(bytes, arenas));
    }
}

bool arena_init(struct pymalloc *pm, uint64_t half_bytes)
{
    uint64_t arenas = half_bytes / ARENA_BYTES + (half_bytes % ARENA_BYTES != 0) + 1;
    if (arenas > STRETCH_ARENAS) {
        arenas = STRETCH_ARENAS;
    }
    pm->half_bytes = arenas * ARENA_BYTES;
    pm->base = row_reserve(ARENA_BYTES, arenas, PROT_NONE);
    pm->freebit = row_reserve(FREEBIT_BYTES_PER_ARENA, arenas, PROT_READ | PROT_WRITE);
    pm->pools = row_reserve(POOLS_BYTES_PER_ARENA, arenas, PROT_READ | PROT_WRITE);
    bool made = pm->base != NULL && pm->freebit != NULL && pm->pools != NULL;
    for (unsigned i = 0; i < STRETCHES; i++) {
        struct arena_stretch *stretch = &pm->private->stretches[i];
        *stretch = (struct arena_stretch){.count = (uint32_t)arenas - 1};
        stretch->arenas = calloc(arenas, sizeof *stretch->arenas);
        made = made && stretch->arenas != NULL;
    }
    if (!made) {
        arena_fini(pm);
    }
    return made;
}

/* Address of an arena; `index` counts within the stretch. */
static char *arena_address(const struct pymalloc *pm, unsigned stretch, uint32_t index)
{
    return pm->base + stretch * HALF_DISTANCE + (uint64_t)index * ARENA_BYTES;
}

void arena_fini(struct pymalloc *pm)
{
    uint64_t arenas = pm->half_bytes / ARENA_BYTES;
    for (unsigned i = 0; i < STRETCHES; i++) {
        struct arena_stretch *stretch = &pm->private->stretches[i];
        for (uint32_t index = 1; index <= stretch->touched; index++) {
            if (stretch->arenas[index].mapped) {
                BLOCK_UNPOISON(arena_address(pm, i, index), ARENA_BYTES);
            }
        }
        for (uint32_t index = stretch->warm; index != 0; index = stretch->arenas[index].next) {
            BLOCK_UNPOISON(arena_address(pm, i, index), ARENA_BYTES);
        }
        free(stretch->arenas);
    }
    row_release(pm->pools, POOLS_BYTES_PER_ARENA, arenas);
    row_release(pm->freebit, FREEBIT_BYTES_PER_ARENA, arenas);
    row_release(pm->base, ARENA_BYTES, arenas);
}

/* ---- the usable list ---- */

static uint32_t free_count(const struct arena *arena)
{
    return (uint32_t)__builtin_popcountll(arena->free_pools);
}

/* Takes an arena with `free` free pools off the list. */
static void usable_unlink(struct arena_stretch *s, uint32_t index, uint32_t free)
{
    const struct arena *arena = &s->arenas[index];
    if (s->last_with[free] == index) {
        bool same = arena->prev != 0 && free_count(&s->arenas[arena->prev]) == free;
        s->last_with[free] = same ? arena->prev : 0;
    }
    if (arena->prev != 0) {
        s->arenas[arena->prev].next = arena->next;
    } else {
        s->usable = arena->next;
    }
    if (arena->next != 0) {
        s->arenas[arena->next].prev = arena->prev;
    }
}

/* Links an arena after `before`; 0: at the head.  It becomes the last with its number of free pools. */
static void usable_link(struct arena_stretch *s, uint32_t index, uint32_t before, uint32_t free)
{
    struct arena *arena = &s->arenas[index];
    arena->prev = before;
    arena->next = before != 0 ? s->arenas[before].next : s->usable;
    if (arena->next != 0) {
        s->arenas[arena->next].prev = index;
    }
    if (before != 0) {
        s->arenas[before].next = index;
    } else {
        s->usable = index;
    }
    s->last_with[free] = index;
}

/* ---- mapping ---- */

/* Takes an arena whose bytes may be touched off the warm or the unused list; 0: there is none. */
static uint32_t arena_find(struct pymalloc *pm, unsigned stretch)
{
    struct arena_stretch *s = &pm->private->stretches[stretch];
    uint32_t index = s->warm;
    if (index != 0) {
        s->warm = s->arenas[index].next;
        counter_sub(&pm->private->warm, 1);
        return index;
    }
    index = s->unused != 0 ? s->unused : s->touched + 1;
    char *address = arena_address(pm, stretch, index);
    if (index > s->count || mprotect(address, ARENA_BYTES, PROT_READ | PROT_WRITE) != 0) {
        return 0;
    }
    BLOCK_POISON(address, ARENA_BYTES);
    if (s->unused != 0) {
        s->unused = s->arenas[index].next;
    } else {
        s->touched++;
    }
    return index;
}

/* Makes a warm or unused arena usable; the usable list is empty.  false: limit, no memory, no address space. */
static bool arena_map(struct pymalloc *pm, unsigned stretch)
{
    struct pymalloc_private *p = pm->private;
    struct arena_stretch *s = &p->stretches[stretch];
    uint32_t index = raw_may_take(pm, ARENA_BYTES) ? arena_find(pm, stretch) : 0;
    if (index == 0) {
        return false;
    }
    struct arena *arena = &s->arenas[index];
    arena->mapped = true;
    arena->free_pools = UINT64_MAX;
    usable_link(s, index, 0, POOLS_PER_ARENA);
    counter_add(&p->arenas, 1);
    counter_add(&p->arenas_total, 1);
    if (counter_read(&p->arenas) > counter_read(&p->arenas_highwater)) {
        counter_add(&p->arenas_highwater, 1);
    }
    return true;
}

/* Gives back the page that holds the descriptors of an unused arena, if its neighbours there are unused. */
static void pools_page_drop(struct pymalloc *pm, unsigned stretch, uint32_t index)
{
    const struct arena_stretch *s = &pm->private->stretches[stretch];
    uint32_t first = index / ARENAS_PER_POOLS_PAGE * ARENAS_PER_POOLS_PAGE;
    for (uint32_t i = first; i < first + ARENAS_PER_POOLS_PAGE && i <= s->touched; i++) {
        if (s->arenas[i].mapped) {
            return;
        }
    }
    struct pool *pools = &pm->pools[(uint64_t)(stretch * STRETCH_ARENAS + first) * POOLS_PER_ARENA];
    madvise(pools, PAGE_BYTES, MADV_DONTNEED);
}

/* Gives the pages of an arena that is on no list to the kernel, with its part of the side arrays. */
static void arena_cool(struct pymalloc *pm, unsigned stretch, uint32_t index)
{
    struct arena_stretch *s = &pm->private->stretches[stretch];
    char *address = arena_address(pm, stretch, index);
    BLOCK_UNPOISON(address, ARENA_BYTES);
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED;
    if (mmap(address, ARENA_BYTES, PROT_NONE, flags, -1, 0) == MAP_FAILED) {
        madvise(address, ARENA_BYTES, MADV_DONTNEED); /* too many mappings; the pages at least can go */
    }
    uint32_t number = stretch * STRETCH_ARENAS + index;
    madvise((char *)pm->freebit + (uint64_t)number * FREEBIT_BYTES_PER_ARENA, FREEBIT_BYTES_PER_ARENA,
            MADV_DONTNEED);
    s->arenas[index].next = s->unused;
    s->unused = index;
    pools_page_drop(pm, stretch, index);
}

bool arena_cool_one(struct pymalloc *pm)
{
    for (unsigned stretch = 0; stretch < STRETCHES; stretch++) {
        struct arena_stretch *s = &pm->private->stretches[stretch];
        uint32_t index = s->warm;
        if (index != 0) {
            s->warm = s->arenas[index].next;
            counter_sub(&pm->private->warm, 1);
            arena_cool(pm, stretch, index);
            return true;
        }
    }
    return false;
}

/* Gives a wholly free arena, off the usable list, back. */
static void arena_unmap(struct pymalloc *pm, unsigned stretch, uint32_t index)
{
    struct pymalloc_private *p = pm->private;
    struct arena_stretch *s = &p->stretches[stretch];
    struct arena *arena = &s->arenas[index];
    arena->mapped = false;
    arena->free_pools = 0;
    counter_sub(&p->arenas, 1);
    counter_add(&p->arenas_reclaimed, 1);
    if (counter_read(&p->warm) < ARENAS_WARM_MAX) {
        arena->next = s->warm;
        s->warm = index;
        counter_add(&p->warm, 1);
    } else {
        arena_cool(pm, stretch, index);
    }
}

/* ---- pools ---- */

uint32_t arena_pool_take(struct pymalloc *pm, unsigned stretch)
{
    struct arena_stretch *s = &pm->private->stretches[stretch];
    if (s->usable == 0 && !arena_map(pm, stretch)) {
        return 0;
    }
    uint32_t index = s->usable;
    struct arena *arena = &s->arenas[index];
    uint32_t free = free_count(arena), pool = (uint32_t)__builtin_ctzll(arena->free_pools);
    if (free == 1) {
        usable_unlink(s, index, free);
    } else {
        /* The head has the fewest free pools of all, so it stays the head, alone with one fewer. */
        if (s->last_with[free] == index) {
            s->last_with[free] = 0;
        }
        s->last_with[free - 1] = index;
    }
    arena->free_pools &= arena->free_pools - 1;
    return (stretch * STRETCH_ARENAS + index) * POOLS_PER_ARENA + pool;
}

void arena_pool_give(struct pymalloc *pm, uint32_t number)
{
    unsigned stretch = number / POOLS_PER_ARENA >= STRETCH_ARENAS;
    struct arena_stretch *s = &pm->private->stretches[stretch];
    uint32_t index = number / POOLS_PER_ARENA % STRETCH_ARENAS;
    struct arena *arena = &s->arenas[index];
    uint32_t free = free_count(arena) + 1, fewer = free - 1;
    uint32_t before = fewer > 0 ? s->last_with[fewer] : 0; /* all up to it have fewer or as many as before */
    if (before == index) {
        before = arena->prev;
    }
    if (fewer > 0) {
        usable_unlink(s, index, fewer);
    }
    arena->free_pools |= (uint64_t)1 << (number % POOLS_PER_ARENA);
    if (free == POOLS_PER_ARENA && s->last_with[free] != 0) {
        arena_unmap(pm, stretch, index);
        return;
    }
    uint32_t last = s->last_with[free];
    usable_link(s, index, before, free);
    if (last != 0) {
        s->last_with[free] = last; /* it came before all others with as many */
    }
}

void arena_drop_empty(struct pymalloc *pm)
{
    for (unsigned stretch = 0; stretch < STRETCHES; stretch++) {
        struct arena_stretch *s = &pm->private->stretches[stretch];
        uint32_t index = s->last_with[POOLS_PER_ARENA];
        if (index != 0) {
            usable_unlink(s, index, POOLS_PER_ARENA);
            arena_unmap(pm, stretch, index);
        }
    }
    while (arena_cool_one(pm)) {
    }
}
