/* map32.h -- a hash map from nonzero 32-bit keys to 32-bit values.
 *
 * Open addressing.  It grows by moving a few entries at each put or remove from the old table to the
 * new one, so that no single operation is long, however many entries there are.  Memory is counted
 * as tables of the allocator.
 */
#ifndef HEAPD_HEAP_MAP32_H
#define HEAPD_HEAP_MAP32_H

#include "pymalloc.h"

struct map32_slot {
    uint32_t key; /* 0: empty */
    uint32_t value;
};

struct map32 {
    struct pymalloc *pm;
    struct map32_slot *slots, *old; /* old: the table being emptied, or NULL */
    uint32_t room, old_room;        /* powers of two, or 0 */
    uint32_t moved;                 /* old slots below this one are empty */
    uint32_t count;                 /* keys in both */
};

void map32_init(struct map32 *map, struct pymalloc *pm); /* allocates nothing */
void map32_fini(struct map32 *map);
/* The value of a key, or NULL.  Valid until the next put or remove. */
uint32_t *map32_find(const struct map32 *map, uint32_t key);
/* The value of a key, made with 0 if it is missing; NULL: no memory. */
uint32_t *map32_put(struct map32 *map, uint32_t key);
void map32_remove(struct map32 *map, uint32_t key); /* a missing key is fine */
/* Each entry once, while no key comes or goes; *position starts at 0.  false: no more. */
bool map32_next(const struct map32 *map, uint64_t *position, uint32_t *key, uint32_t *value);
/* The same with the place of the value, for a walk that takes a piece at a time: *position goes no further than `end`;
 * NULL: no more before that.  The walk is over when it stands at map32_end(). */
uint32_t *map32_next_value(const struct map32 *map, uint64_t *position, uint64_t end, uint32_t *key);
static inline uint64_t map32_end(const struct map32 *map)
{
    return (uint64_t)map->old_room + map->room;
}
/* Every key is found and counted; problems on `why`. */
uint32_t map32_check(const struct map32 *map, FILE *why);

#endif
