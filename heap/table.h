/* table.h -- the hash table below dicts and sets, for type_dict.c, type_set.c and compare.c.
 *
 * A table is an array of entries in the order of insertion.  An entry is `stride` references: {key, value}
 * for a dict, {member} for a set; a key of 0 is a deleted entry.  An entry is spoken of by its number, its
 * place in the array.  Numbers change when entries are removed, never when they are added.
 *
 * Nothing here counts references: entries come in and go out as they are.
 * table.c has the picture.
 */
#ifndef HEAPD_HEAP_TABLE_H
#define HEAPD_HEAP_TABLE_H

#include "heap_internal.h"

#define TABLE_SMALL_MAX 8u           /* entries that are scanned without an index */
#define TABLE_NONE 0xFFFFFFFFu       /* no entry */
#define TABLE_ENTRIES_MAX (1u << 30) /* so that an index of 2^31 slots is enough */

/* Slots of 1, 2 or 4 bytes, a power of two of them, probed one after another from hash & mask.  A slot is 0
 * or (number + 1), with the bits above the mask filled up from the hash, so that few others' keys are looked
 * at. A slot is never emptied: one whose entry is gone or has moved away is passed over. */
struct table_index {
    void *slots;   /* NULL: no index */
    uint32_t mask; /* slots - 1; says the width too */
    uint32_t used; /* slots that are not 0; at most 7/8 of them */
};

/* What a table of more than TABLE_SMALL_MAX entries has. */
struct table_big {
    uint32_t *refs;           /* the entries */
    uint32_t room;            /* entries they have room for */
    bool squeezing;           /* a compaction is under way */
    struct table_index index; /* finds every live entry */
    struct table_index next;  /* the index that will take its place; slots NULL: none is being made */
    uint32_t zeroed;          /* slots of `next` that have been cleared, from the first */
    uint32_t migrated;        /* live entries below are in `next`; 0 until all its slots are cleared */
    /* While squeezing: [dense, loose) is deleted, from loose on nothing has moved.  Else 0 and 0. */
    uint32_t dense, loose;
    /* Serial numbers of a dict with FLAG_PARTIAL that has been compacted; else NULL and entry i has i + 1.
     * During the first compaction the entries from `loose` on still have i + 1. */
    uint64_t *serials;     /* ascending, of deleted entries too; or NULL */
    uint32_t serials_room; /* at least `room` */
    uint64_t serial_next;  /* 0 until the first compaction is over */
};

/* A search for candidates: entries whose key may have this hash. */
struct table_probe {
    uint32_t hash;
    uint32_t steps; /* small: entries passed; big: slots passed */
};

static inline bool table_is_big(const struct table *t)
{
    return t->head.head.n == TABLE_BIG;
}

static inline uint32_t table_stride(const struct table *t)
{
    return t->head.head.type == HEAP_T_DICT ? 2 : 1;
}

static inline uint32_t *table_refs(const struct table *t)
{
    return table_is_big(t) ? ((struct table_big *)t->entries)->refs : t->entries;
}

/* The key and what lies behind it.  Valid until the table changes. */
static inline uint32_t *table_entry(const struct table *t, uint32_t number)
{
    return table_refs(t) + (size_t)number * table_stride(t);
}

/* The type's table behind a reference. */
static inline struct table *table_at(const struct heap *heap, uint32_t ref)
{
    return (struct table *)object_at(heap, ref);
}

/* Of a str. */
static inline const char *table_text(const struct text *t)
{
    return t->head.flags & FLAG_OUT_OF_LINE ? t->u.elsewhere : t->u.bytes;
}

/* Whether the bytes are the same, of two texts of one length.  The last byte, in which numbered keys differ, is
 * looked at first. */
static inline bool table_same_bytes(const char *x, const char *y, size_t len)
{
    return len == 0 || (x[len - 1] == y[len - 1] && (len == 1 || memcmp(x, y, len - 1) == 0));
}

/* Whether two strs, or two bytes, are the same. */
static inline bool table_same_text(const struct text *a, const struct text *b)
{
    if (a->head.type == HEAP_T_BYTES) {
        return text_len(a) == text_len(b) && memcmp(text_bytes(a), text_bytes(b), text_len(a)) == 0;
    }
    if (a->len != b->len || (a->hash != b->hash && a->hash != 0 && b->hash != 0)) {
        return false;
    }
    return table_same_bytes(table_text(a), table_text(b), a->len);
}

/* The next candidate, or TABLE_NONE.  A probe begins as {.hash = hash}; no change of the table in between. */
uint32_t table_probe_next(const struct table *t, struct table_probe *probe);

/* *number: the entry with an equal key, or TABLE_NONE; *hash: of the key, 0 if the table needed none.
 * HEAP_UNHASHABLE, HEAP_TOO_DEEP, HEAP_INCOMPLETE. */
HEAP_MUST_USE enum heap_error table_find(uint32_t *number, uint32_t *hash, struct heap *heap, struct table *t,
                                         uint32_t key);
/* The same for a str key given by its text, which is never hashed or compared in vain. */
uint32_t table_find_text(uint32_t *hash, const struct heap *heap, const struct table *t, struct heap_text key);
/* Makes room for `extra` more entries, which table_append() then takes without fail.
 * HEAP_MEMORY, HEAP_TOO_LONG. */
HEAP_MUST_USE enum heap_error table_reserve(struct heap *heap, struct table *t, uint32_t extra);
/* The same for a new table that will probably get `room` entries; a large hint is cut. */
HEAP_MUST_USE enum heap_error table_reserve_hint(struct heap *heap, struct table *t, uint32_t room);
/* Adds an entry whose key is not there; `hash` as table_find() said.  Returns its number.  Room has been
 * reserved. */
uint32_t table_append(struct heap *heap, struct table *t, uint32_t hash, uint32_t key, uint32_t value);
/* Deletes an entry; its references are the caller's. */
void table_remove(struct heap *heap, struct table *t, uint32_t number);
/* Empties the table.  Steals back nothing: drops the references of all entries.  Can free: what they name. */
void table_clear(struct heap *heap, struct table *t);
/* The next live entry at or after *pos, which is moved behind it; TABLE_NONE: no more. */
uint32_t table_next(const struct table *t, uint32_t *pos);
/* The first entry with a serial number above `after`, TABLE_NONE if there is none; *serial is its own.  From
 * now on the dict keeps its numbers. */
uint32_t table_serial_next(struct table *t, uint64_t after, uint64_t *serial);

#endif
