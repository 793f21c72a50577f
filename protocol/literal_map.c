/* literal_map.c -- heap references to numbers, for visited sets and labels.
 *
 * Linear probing in a table of a power of two, at most half full; nothing is ever taken out.
 */
#include "literal_internal.h"

#include <stdlib.h>

#define MAP_ROOM_FIRST 16

/* The references of one heap are small multiples of a granule: Fibonacci hashing spreads them. */
static inline uint32_t slot_of(const struct literal_map *map, heap_ref key)
{
    return (uint32_t)((key * UINT64_C(0x9e3779b97f4a7c15)) >> 32) & map->mask;
}

uint32_t *literal_map_find(const struct literal_map *map, heap_ref key)
{
    if (!map->entries) {
        return NULL;
    }
    for (uint32_t i = slot_of(map, key); map->entries[i].key != 0; i = (i + 1) & map->mask) {
        if (map->entries[i].key == key) {
            return &map->entries[i].value;
        }
    }
    return NULL;
}

static void insert(struct literal_map *map, heap_ref key, uint32_t value)
{
    uint32_t i = slot_of(map, key);
    while (map->entries[i].key != 0) {
        i = (i + 1) & map->mask;
    }
    map->entries[i].key = key;
    map->entries[i].value = value;
}

static bool grow(struct literal_map *map)
{
    struct literal_map old = *map;
    size_t room = old.entries ? ((size_t)old.mask + 1) * 2 : MAP_ROOM_FIRST;
    map->entries = calloc(room, sizeof *map->entries);
    if (!map->entries) {
        map->entries = old.entries;
        return false;
    }
    map->mask = (uint32_t)(room - 1);
    for (size_t i = 0; old.entries && i <= old.mask; i++) {
        if (old.entries[i].key != 0) {
            insert(map, old.entries[i].key, old.entries[i].value);
        }
    }
    free(old.entries);
    return true;
}

bool literal_map_put(struct literal_map *map, heap_ref key, uint32_t value)
{
    if ((!map->entries || map->count > map->mask / 2) && !grow(map)) {
        return false;
    }
    insert(map, key, value);
    map->count++;
    return true;
}

void literal_map_fini(struct literal_map *map)
{
    free(map->entries);
    *map = (struct literal_map){0};
}
