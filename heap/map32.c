/* map32.c -- a hash map from nonzero 32-bit keys to 32-bit values that grows a little at a time.
 *
 *   old    [ empty, empty, .. | entries not yet moved ]       while it grows or shrinks, else NULL
 *                             ^ moved
 *   slots  [ entries                                 ]
 *
 * A key sits in the first free slot from its home on (linear probing, around the end).  Removing closes
 * the gap, so there are no tombstones.  In `old`, probing passes over the slots below `moved` as if they
 * were taken: what was pushed beyond them by entries that are gone is still found.
 *
 * Invariants: a key is in one of the two tables, once; no empty slot (but those below `moved`) lies
 * between a key's home and its slot; `slots` always has an empty slot.
 * Cost: a put or remove moves MOVE_SLOTS old slots.  Growing doubles at 3/4 full, so the old table is
 * empty after room / 8 operations, long before the new one is full.  Shrinking halves below 1/8.
 * Locking: every function needs the GIL.   Checker: map32_check().
 * Start at map32_put(); the resizing is resize() and move_some().
 */
#include "map32.h"

#define ROOM_MIN 8u
#define ROOM_MAX 0x80000000u
#define ROOM_KEPT 64u /* an empty map keeps a table up to this size: it will be filled again soon */
#define MOVE_SLOTS 8u
#define LINE_SLOTS 8u /* of a cache line */

_Static_assert(ROOM_MIN % LINE_SLOTS == 0, "a table is whole lines");

void map32_init(struct map32 *map, struct pymalloc *pm)
{
    *map = (struct map32){.pm = pm};
}

void map32_fini(struct map32 *map)
{
    pymalloc_table_free(map->pm, map->slots, map->room * sizeof *map->slots);
    pymalloc_table_free(map->pm, map->old, map->old_room * sizeof *map->old);
    *map = (struct map32){.pm = map->pm};
}

/* ---- one table: `room` slots, those below `from` passed over ---- */

/* The top bits of a product, so that keys in sequence spread; room is a power of two, at least 2. */
static uint32_t home_of(uint32_t key, uint32_t room)
{
    return (uint32_t)(key * UINT64_C(0x9E3779B97F4A7C15) >> (__builtin_clzll(room) + 1));
}

/* The slot that probing looks at after slot i, or i itself if that is not below `from`. */
static uint32_t slot_at(uint32_t i, uint32_t room, uint32_t from)
{
    i &= room - 1;
    return i < from ? from : i;
}

static struct map32_slot *table_find(struct map32_slot *slots, uint32_t room, uint32_t from, uint32_t key)
{
    uint32_t i = slot_at(home_of(key, room), room, from);
    for (uint32_t steps = from; steps < room && slots[i].key != 0; steps++) {
        if (slots[i].key == key) {
            return &slots[i];
        }
        i = slot_at(i + 1, room, from);
    }
    return NULL;
}

/* Adds a key that is in neither table to `slots`. */
static struct map32_slot *table_add(const struct map32 *map, uint32_t key)
{
    uint32_t i = home_of(key, map->room);
    while (map->slots[i].key != 0) {
        i = (i + 1) & (map->room - 1);
    }
    map->slots[i] = (struct map32_slot){.key = key};
    return &map->slots[i];
}

/* Empties slot `hole` and moves back what probing would no longer find. */
static void table_remove(struct map32_slot *slots, uint32_t room, uint32_t from, uint32_t hole)
{
    slots[hole].key = 0;
    for (uint32_t i = slot_at(hole + 1, room, from); slots[i].key != 0; i = slot_at(i + 1, room, from)) {
        /* All between `hole` and i are found from their homes without passing `hole`. */
        uint32_t home = home_of(slots[i].key, room);
        if (((i - home) & (room - 1)) >= ((i - hole) & (room - 1))) {
            slots[hole] = slots[i];
            slots[i].key = 0;
            hole = i;
        }
    }
}

/* ---- resizing ---- */

/* Moves the next old slots; frees the old table after its last. */
static void move_some(struct map32 *map)
{
    if (map->old == NULL) {
        return;
    }
    for (uint32_t i = 0; i < MOVE_SLOTS && map->moved < map->old_room; i++) {
        struct map32_slot *slot = &map->old[map->moved++];
        if (slot->key != 0) {
            table_add(map, slot->key)->value = slot->value;
            slot->key = 0;
        }
    }
    if (map->moved == map->old_room) {
        pymalloc_table_free(map->pm, map->old, map->old_room * sizeof *map->old);
        map->old = NULL;
        map->old_room = map->moved = 0;
    }
}

/* Makes the present table the old one and an empty one of `room` slots the present.  false: no memory. */
static bool resize(struct map32 *map, uint32_t room)
{
    struct map32_slot *slots = pymalloc_table_alloc(map->pm, room * sizeof *slots);
    if (slots == NULL) {
        return false;
    }
    map->old = map->slots;
    map->old_room = map->room;
    map->moved = 0;
    map->slots = slots;
    map->room = room;
    return true;
}

/* Makes room for one key more.  false: no memory. */
static bool grow_if_full(struct map32 *map)
{
    if (map->old != NULL || map->count < map->room - map->room / 4) {
        return true;
    }
    if (map->room < ROOM_MAX && resize(map, map->room == 0 ? ROOM_MIN : map->room * 2)) {
        return true;
    }
    return map->count + 1 < map->room; /* not growing is harmless while an empty slot stays */
}

static void shrink_if_empty(struct map32 *map)
{
    if (map->count == 0 && map->room > ROOM_KEPT) {
        map32_fini(map);
    } else if (map->old == NULL && map->room > ROOM_MIN && map->count < map->room / 8) {
        resize(map, map->room / 2); /* failing is harmless: the next remove tries again */
    }
}

/* ---- the map ---- */

uint32_t *map32_find(const struct map32 *map, uint32_t key)
{
    struct map32_slot *slot = NULL;
    if (map->count > 0) {
        slot = table_find(map->slots, map->room, 0, key);
        if (slot == NULL && map->old != NULL) {
            slot = table_find(map->old, map->old_room, map->moved, key);
        }
    }
    return slot != NULL ? &slot->value : NULL;
}

uint32_t *map32_put(struct map32 *map, uint32_t key)
{
    move_some(map);
    uint32_t *value = map32_find(map, key);
    if (value != NULL) {
        return value;
    }
    if (!grow_if_full(map)) {
        return NULL;
    }
    map->count++;
    return &table_add(map, key)->value;
}

void map32_remove(struct map32 *map, uint32_t key)
{
    move_some(map);
    if (map->count == 0) {
        return;
    }
    struct map32_slot *slot = table_find(map->slots, map->room, 0, key);
    if (slot != NULL) {
        table_remove(map->slots, map->room, 0, (uint32_t)(slot - map->slots));
    } else {
        slot = map->old != NULL ? table_find(map->old, map->old_room, map->moved, key) : NULL;
        if (slot == NULL) {
            return;
        }
        table_remove(map->old, map->old_room, map->moved, (uint32_t)(slot - map->old));
    }
    map->count--;
    shrink_if_empty(map);
}

/* ---- all entries ---- */

/* The slot that a walk looks at in step i: line by line of LINE_SLOTS, with a stride of about 0.618 of the room.  In
 * the order of the slots, which is that of their homes, whoever puts what he meets into another map would fill that
 * from its beginning while it is still small, and each put would search through all that came before. */
static uint32_t slot_of_step(uint32_t i, uint32_t room)
{
    uint32_t lines = room / LINE_SLOTS;
    uint32_t stride = (uint32_t)(lines * UINT64_C(0x9E3779B9) >> 32) | 1u;
    return (i / LINE_SLOTS * stride & (lines - 1)) * LINE_SLOTS + i % LINE_SLOTS;
}

uint32_t *map32_next_value(const struct map32 *map, uint64_t *position, uint64_t end, uint32_t *key)
{
    while (*position < end) {
        uint64_t i = (*position)++;
        struct map32_slot *slot = i < map->old_room
                                      ? &map->old[slot_of_step((uint32_t)i, map->old_room)]
                                      : &map->slots[slot_of_step((uint32_t)(i - map->old_room), map->room)];
        if (slot->key != 0) {
            *key = slot->key;
            return &slot->value;
        }
    }
    return NULL;
}

bool map32_next(const struct map32 *map, uint64_t *position, uint32_t *key, uint32_t *value)
{
    const uint32_t *place = map32_next_value(map, position, map32_end(map), key);
    if (place != NULL) {
        *value = *place;
    }
    return place != NULL;
}

/* ---- checker ---- */

uint32_t map32_check(const struct map32 *map, FILE *why)
{
    uint32_t problems = 0, found = 0;
    for (uint64_t i = 0; i < map32_end(map); i++) {
        bool in_old = i < map->old_room;
        const struct map32_slot *slot = in_old ? &map->old[i] : &map->slots[i - map->old_room];
        if (slot->key == 0) {
            continue;
        }
        found++;
        if (map32_find(map, slot->key) != &slot->value) {
            fprintf(why, "map32: key %u in slot %llu of the %s table is not what a search for it finds\n",
                    slot->key, (unsigned long long)(in_old ? i : i - map->old_room),
                    in_old ? "old" : "present");
            problems++;
        }
    }
    if (found != map->count) {
        fprintf(why, "map32: %u keys counted, %u found\n", map->count, found);
        problems++;
    }
    if (map->room != 0 && found >= map->room) {
        fprintf(why, "map32: %u keys leave none of %u slots empty\n", found, map->room);
        problems++;
    }
    return problems;
}
