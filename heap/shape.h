/* shape.h -- what symbol.c, shape.c, type_class.c and type_instance.c share.
 *
 *   symbol     a name of a class, attribute or slot, once a text; counted by its users
 *   shape      the names of an instance's attributes, in order, and its class; shared by all instances
 *              that were given the same attributes in the same order:
 *                root of the class --x--> (x) --y--> (x, y)
 *   instance   [ header | shape | value value value ... ], in the order of the shape's names
 *
 * Symbols and shapes are no objects and have no ids.  Everything here needs the GIL.
 */
#ifndef HEAPD_HEAP_SHAPE_H
#define HEAPD_HEAP_SHAPE_H

#include "heap_internal.h"

#include <pthread.h>

#define SHARED_MAX 32u /* attributes of a shared shape; looking one up scans so many symbols */

struct symbol {
    uint32_t hash;
    uint32_t users;
    uint32_t next; /* symbol with the same hash; or the next free number */
    uint32_t len;
    char text[]; /* ends in NUL */
};

struct shape {
    uint32_t number;
    uint32_t class;       /* the class, borrowed: its instances keep it */
    uint32_t parent;      /* shape without the last name; 0: a root or a shape of one instance's own */
    uint32_t users;
    uint32_t count, room; /* names, gaps included */
    uint32_t *symbols;    /* 0: a gap, in an own shape */
    uint32_t gaps;
    uint32_t chain;       /* shape with the same transition key */
    uint32_t next, prev;  /* shapes of the class */
    bool own;             /* of one instance */
    struct shape *left;   /* the next of those that class_table.leaving says */
    struct map32 index;   /* own shapes of more than SHARED_MAX names: symbol -> position + 1 */
};

struct class_info {
    uint32_t name; /* symbol */
    bool has_slots;
    uint32_t root;      /* shape of a new instance */
    uint32_t shapes;    /* list of its shapes */
    uint32_t shape_count;
    uint32_t room_hint; /* attributes an instance has had */
    counter_u64 objects, bytes; /* of its instances */
    struct class_info *next, *prev;
    const char *text; /* of the name, for readers of the statistics */
};

/* Things by number, from 1.  A number that is free has an odd value: the next free number * 2 + 1. */
struct numbered {
    void **entries;
    uint32_t count, room;
    uint32_t free; /* first free number; 0: none */
};

struct class_table {
    struct numbered symbols;     /* struct symbol */
    struct map32 symbol_by_hash; /* hash -> first symbol */
    struct numbered shapes;      /* struct shape */
    struct map32 transitions;    /* key of (shape, symbol) -> first shape of the chain */
    struct shape *leaving;       /* shapes of many names that are destroyed, but for what is left of the names */
    struct class_info *classes;
    pthread_mutex_t stats_lock;
};

static inline struct symbol *symbol_at(const struct heap *heap, uint32_t number)
{
    return heap->classes->symbols.entries[number];
}

static inline struct shape *shape_at(const struct heap *heap, uint32_t number)
{
    return heap->classes->shapes.entries[number];
}

static inline struct class_info *info_of(const struct heap *heap, uint32_t class)
{
    return ((const struct class *)object_at(heap, class))->info;
}

/* ---- symbol.c ---- */

/* The number of a new entry; 0: no memory. */
uint32_t numbered_add(struct heap *heap, struct numbered *table, void *entry);
void numbered_remove(struct numbered *table, uint32_t number);
void *numbered_get(const struct numbered *table, uint32_t number); /* NULL: the number is free */

bool symbol_is_identifier(const char *text, size_t len);
/* The symbol of that text, or 0. */
uint32_t symbol_find(const struct heap *heap, const char *text, size_t len);
/* The symbol of an identifier, with one user more.  HEAP_BAD_IDENTIFIER, HEAP_MEMORY. */
HEAP_MUST_USE enum heap_error symbol_take(uint32_t *symbol, struct heap *heap, const char *text, size_t len);
void symbol_drop(struct heap *heap, uint32_t number); /* one user less; 0 is allowed */
void symbol_free_all(struct heap *heap);

/* ---- shape.c ---- */

#define NOT_FOUND UINT32_MAX
/* The position of a symbol in a shape, or NOT_FOUND. */
uint32_t shape_find(const struct shape *shape, uint32_t symbol);
/* A shape of that class with room for so many names, without users, in the class's list; NULL: no memory. */
struct shape *shape_create(struct heap *heap, uint32_t class, uint32_t room);
/* Names of a large one go in heap_step(). */
void shape_destroy(struct heap *heap, struct shape *shape);
/* Goes on with those.  true: none are left. */
HEAP_MUST_USE bool shape_leave_slice(struct heap *heap, struct slice *slice);
void shape_drop(struct heap *heap, struct shape *shape); /* one user less */
/* The shape with one name more, made if need be, with one user more; NULL: no memory. */
struct shape *shape_after(struct heap *heap, struct shape *parent, uint32_t symbol);
/* A shape of one instance's own with the names of another, with one user; NULL: no memory. */
struct shape *shape_copy_own(struct heap *heap, const struct shape *from);
/* Adds a name to an own shape; takes one user of the symbol.  false: no memory. */
HEAP_MUST_USE bool shape_append(struct heap *heap, struct shape *shape, uint32_t symbol);
/* Leaves a gap in an own shape at that position. */
void shape_make_gap(struct heap *heap, struct shape *shape, uint32_t position);
void shape_free_all(struct heap *heap);

#endif
