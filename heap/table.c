/* table.c -- the hash table below dicts and sets: entries in insertion order, an index when there are many.
 *
 *   small, up to 8 entries        [k v][k v][k v]              scanned in order, no index
 *   big     struct table_big      [k v][0 0][k v] ...          entries, `fill` of them, deleted ones zero
 *                 index           [ 3 ][ - ][ 1 ][ 2 ] ...     number + 1, open addressing on the key's hash
 *                 next            [ - ][ 3 ][ - ] ...          the index that will replace it
 *
 * Hashes are not kept here: a str or bytes keeps its own, the others are hashed again when needed.
 *
 * Adding appends an entry and takes one slot of the index.  When two thirds of the slots are used a new
 * index is made.  In a table of more than SYNC_MAX entries this is spread over the following changes, each of
 * which clears some slots of `next` or puts some entries into it; `index` stays complete all the time, and
 * has room enough until `next` has caught up.
 *
 * Removing zeroes the entry and leaves its slot behind.  A small table closes the gap at once.  When more
 * than half of the entries of a big one are deleted it is compacted: the entries move down in place, a few at
 * each removal (in one go up to SYNC_MAX), and their slots are given the new numbers.
 *
 * A slot whose entry was deleted may later name another entry that moved or was added there.  That
 * does no harm: a candidate is what its key compares equal to.
 *
 * Serial numbers, for listings that span changes, are explained in table.h at struct table_big.
 *
 * Invariants: live <= fill <= room; index.used and fill are at most 7/8 of the slots; entries are found by
 * their keys.   Checker: table_check().   Start at table_find(), table_append(), table_remove().
 */
#include "edges.h"
#include "visit.h"

/* ---- constants ---- */

#define SYNC_MAX 4096u      /* up to so many entries an index or a compaction is done in one go: some 50 us */
#define ZERO_BYTES 4096u    /* of a new index cleared at one change */
#define MIGRATE_ENTRIES 16u /* put into it at one change; the old index fills by one meanwhile */
#define SQUEEZE_ENTRIES 32u /* looked at by a compaction at one removal */
#define TRIM_ENTRIES 64u    /* deleted entries dropped from the end at one removal */
#define HINT_MAX 65536u     /* entries a new table gets room for at once: an index of 512 KiB is cleared */
#define INDEX_SLOTS_MIN 16u

/* ---- sizes ---- */

static size_t entry_bytes(const struct table *t)
{
    return table_stride(t) * sizeof(uint32_t);
}

static enum heap_type table_type(const struct table *t)
{
    return (enum heap_type)t->head.head.type;
}

static struct table_big *big_of(const struct table *t)
{
    return t->entries;
}

static uint32_t table_room(const struct table *t)
{
    return table_is_big(t) ? big_of(t)->room : t->head.head.n;
}

static size_t slot_bytes(uint32_t mask)
{
    return mask <= UINT8_MAX ? 1 : mask <= UINT16_MAX ? 2 : 4;
}

static size_t index_bytes(const struct table_index *index)
{
    return index->slots == NULL ? 0 : ((size_t)index->mask + 1) * slot_bytes(index->mask);
}

/* Entries that an index takes: two thirds of its slots. */
static uint32_t index_usable(const struct table_index *index)
{
    return (uint32_t)(((uint64_t)index->mask + 1) * 2 / 3);
}

/* Entries that it can take while its replacement is being made. */
static uint32_t index_limit(const struct table_index *index)
{
    return (uint32_t)(((uint64_t)index->mask + 1) * 7 / 8);
}

/* How far a full table's array grows: a quarter, an eighth when it is long. */
static uint32_t grown_room(const struct table *t, uint32_t need)
{
    uint32_t room = need + (need < 65536 ? need / 4 : need / 8);
    uint32_t per_granule = GRANULE_BYTES / (uint32_t)entry_bytes(t);
    return (room + per_granule - 1) / per_granule * per_granule;
}

static uint32_t small_room(const struct table *t, uint32_t need)
{
    uint32_t per_granule = GRANULE_BYTES / (uint32_t)entry_bytes(t);
    return (need + per_granule - 1) / per_granule * per_granule;
}

uint64_t table_buffer_bytes(const struct table *t)
{
    size_t parts[5] = {table_room(t) * entry_bytes(t)};
    if (table_is_big(t)) {
        const struct table_big *big = big_of(t);
        parts[1] = sizeof *big;
        parts[2] = index_bytes(&big->index);
        parts[3] = index_bytes(&big->next);
        parts[4] = big->serials_room * sizeof *big->serials;
    }
    uint64_t bytes = 0;
    for (unsigned i = 0; i < 5; i++) {
        bytes += parts[i] == 0 ? 0 : pymalloc_buffer_rounded(parts[i]);
    }
    return bytes;
}

/* ---- slots of an index ---- */

static uint32_t slot_load(const struct table_index *index, uint32_t position)
{
    if (index->mask <= UINT8_MAX) {
        return ((const uint8_t *)index->slots)[position];
    }
    if (index->mask <= UINT16_MAX) {
        return ((const uint16_t *)index->slots)[position];
    }
    return ((const uint32_t *)index->slots)[position];
}

static void slot_store(struct table_index *index, uint32_t position, uint32_t slot)
{
    if (index->mask <= UINT8_MAX) {
        ((uint8_t *)index->slots)[position] = (uint8_t)slot;
    } else if (index->mask <= UINT16_MAX) {
        ((uint16_t *)index->slots)[position] = (uint16_t)slot;
    } else {
        ((uint32_t *)index->slots)[position] = slot;
    }
}

/* The bits of a slot, of the hash too, that are above the mask and within the slot's width. */
static uint32_t tag_bits(const struct table_index *index)
{
    uint32_t all = UINT32_MAX >> (32 - 8 * slot_bytes(index->mask));
    return all & ~index->mask;
}

static uint32_t slot_of(const struct table_index *index, uint32_t hash, uint32_t number)
{
    return (hash & tag_bits(index)) | (number + 1);
}

static void index_insert(struct table_index *index, uint32_t hash, uint32_t number)
{
    HEAP_ASSERT(number < index->mask && index->used < index->mask);
    uint32_t position = hash & index->mask;
    while (slot_load(index, position) != 0) {
        position = (position + 1) & index->mask;
    }
    slot_store(index, position, slot_of(index, hash, number));
    index->used++;
}

/* The entry with this hash has moved. */
static void index_renumber(struct table_index *index, uint32_t hash, uint32_t from, uint32_t to)
{
    uint32_t sought = slot_of(index, hash, from);
    uint32_t position = hash & index->mask;
    for (;;) {
        uint32_t slot = slot_load(index, position);
        if (slot == sought) {
            slot_store(index, position, slot_of(index, hash, to));
            return;
        }
        HEAP_ASSERT(slot != 0);
        position = (position + 1) & index->mask;
    }
}

/* ---- finding ---- */

uint32_t table_probe_next(const struct table *t, struct table_probe *probe)
{
    if (!table_is_big(t)) {
        while (probe->steps < t->fill) {
            uint32_t number = probe->steps++;
            if (*table_entry(t, number) != 0) {
                return number;
            }
        }
        return TABLE_NONE;
    }
    const struct table_index *index = &big_of(t)->index;
    uint32_t tag = tag_bits(index);
    for (;;) {
        uint32_t slot = slot_load(index, (probe->hash + probe->steps++) & index->mask);
        if (slot == 0) {
            return TABLE_NONE;
        }
        uint32_t number = (slot & index->mask) - 1;
        if (((slot ^ probe->hash) & tag) == 0 && number < t->fill && *table_entry(t, number) != 0) {
            return number;
        }
    }
}

/* Whether a key need not be hashed to know that it can be. */
static bool always_hashable(const struct heap *heap, uint32_t key)
{
    uint8_t type = object_at(heap, key)->type;
    return ref_is_atom(key) || type == HEAP_T_INSTANCE || type == HEAP_T_CLASS || type == HEAP_T_WEAKREF;
}

/* A str key in a small table, without calling anybody: the way of most dicts. */
static uint32_t find_str(const struct heap *heap, const struct table *t, uint32_t key)
{
    const struct text *sought = (const struct text *)object_at(heap, key);
    uint32_t stride = table_stride(t);
    const uint32_t *entry = t->entries;
    for (uint32_t number = 0; number < t->fill; number++, entry += stride) {
        if (*entry == key) {
            return number;
        }
        if (ref_is_atom(*entry)) { /* a deleted entry is none */
            const struct text *k = (const struct text *)object_at(heap, *entry);
            if (k->head.type == HEAP_T_STR && table_same_text(k, sought)) {
                return number;
            }
        }
    }
    return TABLE_NONE;
}

/* Whether a key is a str of this text. */
static inline bool is_str_of(const struct heap *heap, uint32_t key, struct heap_text text)
{
    if (!ref_is_atom(key)) {
        return false;
    }
    const struct text *k = (const struct text *)object_at(heap, key);
    return k->head.type == HEAP_T_STR && k->len == text.len &&
           table_same_bytes(table_text(k), text.text, text.len);
}

uint32_t table_find_text(uint32_t *hash, const struct heap *heap, const struct table *t, struct heap_text key)
{
    *hash = 0;
    if (!table_is_big(t)) {
        uint32_t stride = table_stride(t);
        const uint32_t *entry = t->entries;
        uint32_t number = 0;
        while (number < t->fill && !is_str_of(heap, *entry, key)) { /* a deleted entry is none */
            number++;
            entry += stride;
        }
        return number < t->fill ? number : TABLE_NONE;
    }
    struct table_probe probe = {.hash = text_hash_short(hash_bytes(heap, key.text, key.len))};
    *hash = probe.hash;
    uint32_t candidate;
    do {
        candidate = table_probe_next(t, &probe);
    } while (candidate != TABLE_NONE && !is_str_of(heap, *table_entry(t, candidate), key));
    return candidate;
}

/* *equal as object_equal() says; strs need not ask it. */
static enum heap_error key_equal(bool *equal, struct heap *heap, uint32_t a, uint32_t b)
{
    *equal = a == b;
    if (a != b && ref_is_atom(a) && ref_is_atom(b)) {
        const struct object *x = object_at(heap, a), *y = object_at(heap, b);
        if (x->type == HEAP_T_STR && y->type == HEAP_T_STR) {
            *equal = table_same_text((const struct text *)x, (const struct text *)y);
            return HEAP_OK;
        }
    }
    return a == b ? HEAP_OK : object_equal(equal, heap, a, b);
}

enum heap_error table_find(uint32_t *number, uint32_t *hash, struct heap *heap, struct table *t, uint32_t key)
{
    if (!table_is_big(t) && object_at(heap, key)->type == HEAP_T_STR) {
        *number = find_str(heap, t, key);
        *hash = 0;
        return HEAP_OK;
    }
    struct table_probe probe = {0};
    if (table_is_big(t) || !always_hashable(heap, key)) {
        enum heap_error error = object_hash(&probe.hash, heap, key);
        if (unlikely(error != HEAP_OK)) {
            return error;
        }
    }
    uint32_t candidate;
    while ((candidate = table_probe_next(t, &probe)) != TABLE_NONE) {
        bool equal;
        enum heap_error error = key_equal(&equal, heap, *table_entry(t, candidate), key);
        if (unlikely(error != HEAP_OK)) {
            return error;
        }
        if (equal) {
            break;
        }
    }
    *number = candidate;
    *hash = probe.hash;
    return HEAP_OK;
}

/* ---- making a new index ---- */

static void next_drop(struct heap *heap, struct table *t)
{
    struct table_big *big = big_of(t);
    object_buffer_free(heap, table_type(t), big->next.slots, index_bytes(&big->next));
    big->next = (struct table_index){0};
    big->migrated = 0;
}

/* Puts entries into `next`, until it has them all and becomes the index. */
static void next_migrate(struct heap *heap, struct table *t)
{
    struct table_big *big = big_of(t);
    uint32_t end = t->fill - big->migrated < MIGRATE_ENTRIES ? t->fill : big->migrated + MIGRATE_ENTRIES;
    if (end > index_limit(&big->next) || big->next.used + (end - big->migrated) > index_limit(&big->next)) {
        next_drop(heap, t); /* more was added meanwhile than it was made for: a larger one will follow */
        return;
    }
    for (uint32_t i = end; i < t->fill && i < end + MIGRATE_ENTRIES; i++) {
        __builtin_prefetch(object_at(heap, *table_entry(t, i)));
    }
    for (uint32_t i = big->migrated; i < end; i++) {
        uint32_t key = *table_entry(t, i);
        if (key != 0) {
            index_insert(&big->next, object_hash_again(heap, key), i);
        }
    }
    big->migrated = end;
    if (end == t->fill) {
        object_buffer_free(heap, table_type(t), big->index.slots, index_bytes(&big->index));
        big->index = big->next;
        big->next = (struct table_index){0};
        big->migrated = 0;
    }
}

/* A bounded step of making the new index. */
static void next_advance(struct heap *heap, struct table *t)
{
    struct table_big *big = big_of(t);
    uint32_t slots = big->next.mask + 1;
    if (big->zeroed < slots) {
        uint32_t width = (uint32_t)slot_bytes(big->next.mask);
        uint32_t n = slots - big->zeroed < ZERO_BYTES / width ? slots - big->zeroed : ZERO_BYTES / width;
        memset((char *)big->next.slots + (size_t)big->zeroed * width, 0, (size_t)n * width);
        big->zeroed += n;
    } else {
        next_migrate(heap, t);
    }
}

static void next_finish(struct heap *heap, struct table *t)
{
    while (big_of(t)->next.slots != NULL) {
        next_advance(heap, t);
    }
}

/* Starts a new index that is at most half full with `need` entries.  false: no memory. */
static bool next_begin(struct heap *heap, struct table *t, uint32_t need)
{
    struct table_big *big = big_of(t);
    uint64_t slots = INDEX_SLOTS_MIN;
    while (slots < (uint64_t)need * 2) {
        slots *= 2;
    }
    struct table_index next = {.mask = (uint32_t)(slots - 1)};
    next.slots = object_buffer_alloc(heap, table_type(t), (size_t)slots * slot_bytes(next.mask));
    if (next.slots == NULL) {
        return false;
    }
    big->next = next;
    big->zeroed = 0;
    big->migrated = 0;
    if (t->fill <= SYNC_MAX) {
        next_finish(heap, t);
    }
    return true;
}

/* ---- room ---- */

static uint32_t occupancy(const struct table *t)
{
    const struct table_big *big = big_of(t);
    return big->index.used > t->fill ? big->index.used : t->fill;
}

static enum heap_error reserve_index(struct heap *heap, struct table *t, uint32_t extra)
{
    struct table_big *big = big_of(t);
    if (big->next.slots != NULL && t->fill + extra > index_usable(&big->next)) {
        next_drop(heap, t); /* made for fewer, perhaps after a compaction */
    }
    if (likely(occupancy(t) + (uint64_t)extra <= index_usable(&big->index))) {
        return HEAP_OK;
    }
    bool begun = big->next.slots != NULL || next_begin(heap, t, t->fill + extra);
    if (occupancy(t) + (uint64_t)extra <= index_limit(&big->index)) {
        return HEAP_OK; /* also without memory for a new index: the next addition asks again */
    }
    if (begun) {
        next_finish(heap, t);
    }
    return occupancy(t) + (uint64_t)extra <= index_limit(&big->index) ? HEAP_OK : HEAP_MEMORY;
}

/* Gives the serial numbers room for so many entries.  false: no memory. */
static bool resize_serials(struct heap *heap, struct table *t, uint32_t room)
{
    struct table_big *big = big_of(t);
    uint64_t *serials = object_buffer_realloc(heap, table_type(t), big->serials,
                                              big->serials_room * sizeof *serials, room * sizeof *serials);
    if (serials == NULL) {
        return false;
    }
    big->serials = serials;
    big->serials_room = room;
    return true;
}

/* Gives a big table room for so many entries, not fewer than it has.  false: no memory. */
static bool resize_entries(struct heap *heap, struct table *t, uint32_t room)
{
    struct table_big *big = big_of(t);
    if (big->serials != NULL && room > big->serials_room && !resize_serials(heap, t, room)) {
        return false;
    }
    uint32_t *refs = object_buffer_realloc(heap, table_type(t), big->refs, big->room * entry_bytes(t),
                                           room * entry_bytes(t));
    if (refs == NULL) {
        return false;
    }
    big->refs = refs;
    big->room = room;
    if (big->serials != NULL && room < big->serials_room) {
        (void)resize_serials(heap, t, room); /* without memory they stay as long as they are */
    }
    return true;
}

static enum heap_error reserve_big(struct heap *heap, struct table *t, uint32_t need)
{
    struct table_big *big = big_of(t);
    if (need > big->room) {
        uint32_t room = grown_room(t, need);
        if (!resize_entries(heap, t, room < TABLE_ENTRIES_MAX ? room : TABLE_ENTRIES_MAX)) {
            return HEAP_MEMORY;
        }
    }
    return reserve_index(heap, t, need - t->fill);
}

/* Gives a small table an index and room for `need` entries. */
static enum heap_error become_big(struct heap *heap, struct table *t, uint32_t need)
{
    enum heap_type type = table_type(t);
    uint64_t slots = INDEX_SLOTS_MIN;
    while (slots * 2 / 3 < need) {
        slots *= 2;
    }
    struct table_index index = {.mask = (uint32_t)(slots - 1)};
    bool growing = need == TABLE_SMALL_MAX + 1; /* else it was told what will come */
    uint32_t room = growing ? grown_room(t, need) : small_room(t, need);
    struct table_big *big = object_buffer_alloc(heap, type, sizeof *big);
    if (big == NULL) {
        goto fail_big;
    }
    index.slots = object_buffer_alloc(heap, type, (size_t)slots * slot_bytes(index.mask));
    if (index.slots == NULL) {
        goto fail_slots;
    }
    uint32_t *refs =
        object_buffer_realloc(heap, type, t->entries, table_room(t) * entry_bytes(t), room * entry_bytes(t));
    if (refs == NULL) {
        goto fail_refs;
    }
    memset(index.slots, 0, index_bytes(&index));
    *big = (struct table_big){.refs = refs, .room = room, .index = index};
    t->entries = big;
    t->head.head.n = TABLE_BIG;
    for (uint32_t i = 0; i < t->fill; i++) {
        uint32_t key = *table_entry(t, i);
        if (key != 0) {
            index_insert(&big->index, object_hash_again(heap, key), i);
        }
    }
    return HEAP_OK;

fail_refs:
    object_buffer_free(heap, type, index.slots, index_bytes(&index));
fail_slots:
    object_buffer_free(heap, type, big, sizeof *big);
fail_big:
    return HEAP_MEMORY;
}

static enum heap_error resize_small(struct heap *heap, struct table *t, uint32_t room)
{
    void *entries = object_buffer_realloc(heap, table_type(t), t->entries, table_room(t) * entry_bytes(t),
                                          room * entry_bytes(t));
    if (entries == NULL) {
        return HEAP_MEMORY;
    }
    t->entries = entries;
    t->head.head.n = (uint16_t)room;
    return HEAP_OK;
}

enum heap_error table_reserve(struct heap *heap, struct table *t, uint32_t extra)
{
    if (extra > TABLE_ENTRIES_MAX - t->fill) {
        return HEAP_TOO_LONG;
    }
    visit_before_change(heap, object_ref(heap, t));
    uint32_t need = t->fill + extra;
    if (table_is_big(t)) {
        return reserve_big(heap, t, need);
    }
    if (likely(need <= table_room(t))) {
        return HEAP_OK;
    }
    return need <= TABLE_SMALL_MAX ? resize_small(heap, t, small_room(t, need)) : become_big(heap, t, need);
}

enum heap_error table_reserve_hint(struct heap *heap, struct table *t, uint32_t room)
{
    return table_reserve(heap, t, room < HINT_MAX ? room : HINT_MAX);
}

/* ---- adding ---- */

uint32_t table_append(struct heap *heap, struct table *t, uint32_t hash, uint32_t key, uint32_t value)
{
    HEAP_ASSERT(t->fill < table_room(t));
    uint32_t number = t->fill++;
    uint32_t *entry = table_entry(t, number);
    entry[0] = key;
    if (table_stride(t) == 2) {
        entry[1] = value;
    }
    t->live++;
    if (table_is_big(t)) {
        struct table_big *big = big_of(t);
        index_insert(&big->index, hash != 0 ? hash : object_hash_again(heap, key), number);
        if (big->serial_next != 0) {
            big->serials[number] = big->serial_next++;
        }
        if (unlikely(big->next.slots != NULL)) {
            next_advance(heap, t);
        }
    }
    return number;
}

/* ---- compaction ---- */

static uint64_t serial_of(const struct table *t, uint32_t number)
{
    const struct table_big *big = table_is_big(t) ? big_of(t) : NULL;
    if (big == NULL || big->serials == NULL || (big->serial_next == 0 && number >= big->loose)) {
        return (uint64_t)number + 1;
    }
    return big->serials[number];
}

/* Moves entry `loose` down to `dense`; they may be the same. */
static void squeeze_move(struct heap *heap, struct table *t)
{
    struct table_big *big = big_of(t);
    uint32_t from = big->loose, to = big->dense;
    uint32_t *entry = table_entry(t, from);
    if (big->serials != NULL) {
        big->serials[to] = serial_of(t, from);
    }
    if (from != to) {
        uint32_t hash = object_hash_again(heap, *entry);
        index_renumber(&big->index, hash, from, to);
        if (from < big->migrated) {
            index_renumber(&big->next, hash, from, to);
        } else if (to < big->migrated) {
            index_insert(&big->next, hash, to);
        }
        for (uint32_t k = 0, stride = table_stride(t); k < stride; k++) {
            gc_before_move(heap, object_ref(heap, t), from * stride + k, to * stride + k, entry[k]);
        }
        memcpy(table_entry(t, to), entry, entry_bytes(t));
        memset(entry, 0, entry_bytes(t));
    }
    big->dense++;
    big->loose++;
}

/* Nothing is loose any more. */
static void squeeze_end(struct heap *heap, struct table *t)
{
    struct table_big *big = big_of(t);
    if (big->serials != NULL && big->serial_next == 0) {
        big->serial_next = (uint64_t)t->fill + 1;
    }
    t->fill = big->dense;
    big->squeezing = false;
    big->dense = big->loose = 0;
    if (big->migrated > t->fill) {
        big->migrated = t->fill;
    }
    uint32_t room = grown_room(t, t->fill + 1);
    if (room < big->room / 4 * 3) {
        (void)resize_entries(heap, t, room); /* without memory the table stays as large as it is */
    }
    if (big->next.slots == NULL && big->index.mask / 8 > t->fill && big->index.mask >= 8 * INDEX_SLOTS_MIN) {
        (void)next_begin(heap, t, t->fill + 1);
    }
}

/* A bounded step of the compaction under way. */
static void squeeze_advance(struct heap *heap, struct table *t)
{
    struct table_big *big = big_of(t);
    for (unsigned i = 0; i < SQUEEZE_ENTRIES && big->loose < t->fill; i++) {
        if (*table_entry(t, big->loose) == 0) {
            big->loose++;
        } else {
            squeeze_move(heap, t);
        }
    }
    if (big->loose >= t->fill) {
        squeeze_end(heap, t);
    }
}

/* Starts one, if more than half of the entries are deleted. */
static void squeeze_begin(struct heap *heap, struct table *t)
{
    struct table_big *big = big_of(t);
    if (t->live >= t->fill / 2) {
        return;
    }
    if ((t->head.head.flags & FLAG_PARTIAL) && big->serials == NULL && !resize_serials(heap, t, big->room)) {
        return; /* it can wait for memory */
    }
    big->squeezing = true;
    big->dense = big->loose = 0;
    while (t->fill <= SYNC_MAX && big->squeezing) {
        squeeze_advance(heap, t);
    }
}

/* ---- removing ---- */

void table_free_buffers(struct heap *heap, struct table *t)
{
    enum heap_type type = table_type(t);
    if (table_is_big(t)) {
        struct table_big *big = big_of(t);
        object_buffer_free(heap, type, big->index.slots, index_bytes(&big->index));
        object_buffer_free(heap, type, big->next.slots, index_bytes(&big->next));
        object_buffer_free(heap, type, big->serials, big->serials_room * sizeof *big->serials);
        object_buffer_free(heap, type, big->refs, big->room * entry_bytes(t));
        object_buffer_free(heap, type, big, sizeof *big);
    } else {
        object_buffer_free(heap, type, t->entries, table_room(t) * entry_bytes(t));
    }
    t->entries = NULL;
    t->head.head.n = 0;
    t->fill = 0;
    t->live = 0;
}

/* A small table closes its gaps at once, unless their numbers are serial numbers too. */
static void remove_small(struct heap *heap, struct table *t, uint32_t number)
{
    if (!(t->head.head.flags & FLAG_PARTIAL)) {
        t->fill--;
        memmove(table_entry(t, number), table_entry(t, number + 1), (t->fill - number) * entry_bytes(t));
    } else {
        while (t->fill > 0 && *table_entry(t, t->fill - 1) == 0) {
            t->fill--;
        }
    }
    uint32_t room = small_room(t, t->fill);
    if (room <= table_room(t) / 2) {
        (void)resize_small(heap, t, room);
    }
}

/* Deleted entries at the end are no entries any more. */
static void trim_big(struct table *t)
{
    struct table_big *big = big_of(t);
    for (unsigned i = 0; i < TRIM_ENTRIES && t->fill > big->loose && *table_entry(t, t->fill - 1) == 0; i++) {
        t->fill--;
    }
    if (big->migrated > t->fill) {
        big->migrated = t->fill;
    }
}

void table_remove(struct heap *heap, struct table *t, uint32_t number)
{
    visit_before_change(heap, object_ref(heap, t));
    memset(table_entry(t, number), 0, entry_bytes(t));
    t->live--;
    if (t->live == 0) {
        table_free_buffers(heap, t);
        return;
    }
    if (!table_is_big(t)) {
        remove_small(heap, t, number);
        return;
    }
    struct table_big *big = big_of(t);
    trim_big(t);
    if (big->next.slots != NULL) {
        next_advance(heap, t);
    }
    if (big->squeezing) {
        squeeze_advance(heap, t);
    } else {
        squeeze_begin(heap, t);
    }
}

void table_clear(struct heap *heap, struct table *t)
{
    visit_before_change(heap, object_ref(heap, t));
    struct table old = *t;
    bool is_taken = dead_take_over(heap, &t->head);
    t->entries = NULL;
    t->head.head.n = 0;
    t->fill = 0;
    t->live = 0;
    if (is_taken) {
        return;
    }
    struct edges edges = table_edges(&old);
    for (uint32_t i = 0; i < edges.count; i++) {
        if (edges.refs[i] != 0) {
            object_decref(heap, edges.refs[i]);
        }
    }
    table_free_buffers(heap, &old);
}

/* ---- walking ---- */

uint32_t table_next(const struct table *t, uint32_t *pos)
{
    while (*pos < t->fill) {
        uint32_t number = (*pos)++;
        if (*table_entry(t, number) != 0) {
            return number;
        }
    }
    return TABLE_NONE;
}

/* The first number in [low, high) with a serial number above `after`, or high. */
static uint32_t serial_search(const struct table *t, uint32_t low, uint32_t high, uint64_t after)
{
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (serial_of(t, middle) > after) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    return low;
}

uint32_t table_serial_next(struct table *t, uint64_t after, uint64_t *serial)
{
    struct table_big *big = table_is_big(t) ? big_of(t) : NULL;
    if (big != NULL && big->squeezing && big->serials == NULL) {
        big->squeezing = false; /* entries stay where they are, which is where their numbers begin to count */
        big->dense = big->loose = 0;
    }
    t->head.head.flags |= FLAG_PARTIAL;
    uint32_t number = 0;
    if (big != NULL && big->squeezing) {
        number = serial_search(t, 0, big->dense, after);
        if (number == big->dense) {
            number = serial_search(t, big->loose, t->fill, after);
        }
    } else {
        number = serial_search(t, 0, t->fill, after);
    }
    number = table_next(t, &number);
    if (number != TABLE_NONE) {
        *serial = serial_of(t, number);
    }
    return number;
}

/* ---- checking ---- */

static uint32_t complain(FILE *why, const struct table *t, const char *what)
{
    fprintf(why, "a %s of %u entries: %s\n", heap_builtin_name(table_type(t)), t->live, what);
    return 1;
}

static uint32_t check_big(const struct table *t, FILE *why)
{
    const struct table_big *big = big_of(t);
    uint32_t problems = 0;
    uint32_t used = 0;
    for (uint32_t i = 0; i <= big->index.mask; i++) {
        used += slot_load(&big->index, i) != 0;
    }
    if (used != big->index.used || used > index_limit(&big->index) || t->fill > index_limit(&big->index)) {
        problems += complain(why, t, "the index counts its slots wrong or has too many");
    }
    if (big->squeezing ? big->dense > big->loose || big->loose > t->fill : big->loose != 0) {
        problems += complain(why, t, "the compaction is out of bounds");
    }
    for (uint32_t i = big->dense; i < big->loose && problems == 0; i++) {
        if (*table_entry(t, i) != 0) {
            problems += complain(why, t, "the compaction left an entry behind");
        }
    }
    if (big->migrated > (big->next.slots != NULL ? t->fill : 0)) {
        problems += complain(why, t, "the new index is ahead of the entries");
    }
    return problems;
}

/* Serial numbers ascend over the live entries. */
static uint32_t check_serials(const struct table *t, FILE *why)
{
    uint64_t last = 0;
    for (uint32_t pos = 0, number; (number = table_next(t, &pos)) != TABLE_NONE;) {
        if (serial_of(t, number) <= last) {
            return complain(why, t, "its serial numbers do not ascend");
        }
        last = serial_of(t, number);
    }
    return 0;
}

uint32_t table_check(struct heap *heap, struct table *t, FILE *why)
{
    if (t->live > t->fill || t->fill > table_room(t) ||
        (!table_is_big(t) && table_room(t) > TABLE_SMALL_MAX)) {
        return complain(why, t, "live, fill and room disagree");
    }
    uint32_t problems = table_is_big(t) ? check_big(t, why) : 0;
    uint32_t live = 0;
    for (uint32_t pos = 0, number; problems == 0 && (number = table_next(t, &pos)) != TABLE_NONE; live++) {
        uint32_t found, hash;
        heap->compare_steps = 0;
        if (table_find(&found, &hash, heap, t, *table_entry(t, number)) != HEAP_OK) {
            problems += complain(why, t, "a key cannot be hashed or compared");
        } else if (found != number) {
            problems += complain(why, t, "a key is not found, or is there twice");
        }
    }
    if (problems == 0 && live != t->live) {
        problems += complain(why, t, "the live entries are miscounted");
    }
    return problems + (problems == 0 ? check_serials(t, why) : 0);
}
