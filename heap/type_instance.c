/* type_instance.c -- classes, shapes and instances.
 *
 *   symbol     a name of a class, attribute or slot, once a text; counted by its users
 *   shape      the names of an instance's attributes, in order, and its class; shared by all instances
 *              that were given the same attributes in the same order:
 *                root of the class --x--> (x) --y--> (x, y)
 *   instance   [ header | shape | value value value ... ], in the order of the shape's names
 *
 * Setting a new attribute moves an instance to the next shape.  Deleting one, or having more than
 * SHARED_MAX, gives it a shape of its own, in which a deleted name leaves a gap (symbol 0) and an index
 * finds names once they are many.  A class with slots has one shape with all of them; a value of 0 is a
 * slot that is not set.
 *
 * Symbols and shapes are no objects and have no ids; a class has no edges; an instance has one to its
 * class.  A shape lives while instances or longer shapes use it, and a class keeps some that nobody uses,
 * so that making and dropping one instance again and again costs no memory.
 *
 * Locking: the GIL; the list of classes also under `stats_lock`, for heap_stats_classes().
 * Invariant: shape.users == instances of it + shapes that continue it.   Checker: class_check().
 * Start at heap_attr_set_steal().
 */
#include "heap_internal.h"

#include <pthread.h>

#define SHARED_MAX 32u   /* attributes of a shared shape; looking one up scans so many symbols */
#define SHAPES_KEPT 128u /* shapes without users that a class keeps */
#define ROOM_HINT_MAX 31u

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
    struct class_info *classes;
    pthread_mutex_t stats_lock;
};

/* ---- numbered tables ---- */

/* The number of a new entry; 0: no memory. */
static uint32_t numbered_add(struct heap *heap, struct numbered *table, void *entry)
{
    if (table->free != 0) {
        uint32_t number = table->free;
        table->free = (uint32_t)((uintptr_t)table->entries[number] >> 1);
        table->entries[number] = entry;
        return number;
    }
    if (table->count + 1 >= table->room) {
        uint32_t room = table->room == 0 ? 16 : table->room * 2;
        void *moved = pymalloc_table_realloc(&heap->pm, table->entries, table->room * sizeof(void *),
                                             room * sizeof(void *));
        if (moved == NULL) {
            return 0;
        }
        table->entries = moved;
        table->room = room;
    }
    table->entries[++table->count] = entry;
    return table->count;
}

static void numbered_remove(struct numbered *table, uint32_t number)
{
    table->entries[number] = (void *)((uintptr_t)table->free << 1 | 1);
    table->free = number;
}

/* Entry `number`, or NULL for a free one. */
static void *numbered_get(const struct numbered *table, uint32_t number)
{
    void *entry = table->entries[number];
    return (uintptr_t)entry & 1 ? NULL : entry;
}

static inline struct symbol *symbol_at(const struct heap *heap, uint32_t number)
{
    return heap->classes->symbols.entries[number];
}

static inline struct shape *shape_at(const struct heap *heap, uint32_t number)
{
    return heap->classes->shapes.entries[number];
}

/* ---- life ---- */

bool class_table_init(struct heap *heap)
{
    struct class_table *table = pymalloc_table_alloc(&heap->pm, sizeof *table);
    if (table == NULL) {
        return false;
    }
    map32_init(&table->symbol_by_hash, &heap->pm);
    map32_init(&table->transitions, &heap->pm);
    pthread_mutex_init(&table->stats_lock, NULL);
    heap->classes = table;
    return true;
}

static size_t symbol_bytes(const struct symbol *symbol)
{
    return sizeof *symbol + symbol->len + 1;
}

static void shape_free(struct heap *heap, struct shape *shape)
{
    pymalloc_table_free(&heap->pm, shape->symbols, shape->room * sizeof *shape->symbols);
    map32_fini(&shape->index);
    pymalloc_table_free(&heap->pm, shape, sizeof *shape);
}

void class_table_fini(struct heap *heap)
{
    struct class_table *table = heap->classes;
    if (table == NULL) {
        return;
    }
    for (uint32_t n = 1; n <= table->symbols.count; n++) {
        struct symbol *symbol = numbered_get(&table->symbols, n);
        if (symbol != NULL) {
            pymalloc_table_free(&heap->pm, symbol, symbol_bytes(symbol));
        }
    }
    for (uint32_t n = 1; n <= table->shapes.count; n++) {
        if (numbered_get(&table->shapes, n) != NULL) {
            shape_free(heap, shape_at(heap, n));
        }
    }
    pymalloc_table_free(&heap->pm, table->symbols.entries, table->symbols.room * sizeof(void *));
    pymalloc_table_free(&heap->pm, table->shapes.entries, table->shapes.room * sizeof(void *));
    map32_fini(&table->symbol_by_hash);
    map32_fini(&table->transitions);
    pthread_mutex_destroy(&table->stats_lock);
    pymalloc_table_free(&heap->pm, table, sizeof *table);
}

/* ---- symbols ---- */

static bool is_identifier(const char *text, size_t len)
{
    if (len == 0 || len > HEAP_IDENTIFIER_BYTES_MAX || (text[0] >= '0' && text[0] <= '9')) {
        return false;
    }
    for (size_t i = 0; i < len; i++) {
        char c = text[i];
        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_')) {
            return false;
        }
    }
    return true;
}

static uint32_t symbol_hash(const struct heap *heap, const char *text, size_t len)
{
    uint32_t hash = (uint32_t)hash_bytes(heap, text, len);
    return hash != 0 ? hash : 1;
}

/* The symbol of that text, or 0. */
static uint32_t symbol_find(const struct heap *heap, uint32_t hash, const char *text, size_t len)
{
    const uint32_t *first = map32_find(&heap->classes->symbol_by_hash, hash);
    for (uint32_t n = first != NULL ? *first : 0; n != 0; n = symbol_at(heap, n)->next) {
        if (symbol_at(heap, n)->len == len && memcmp(symbol_at(heap, n)->text, text, len) == 0) {
            return n;
        }
    }
    return 0;
}

static uint32_t symbol_create(struct heap *heap, uint32_t hash, const char *text, size_t len)
{
    struct class_table *table = heap->classes;
    size_t bytes = sizeof(struct symbol) + len + 1;
    struct symbol *symbol = pymalloc_table_alloc(&heap->pm, bytes);
    if (symbol == NULL) {
        return 0;
    }
    uint32_t number = numbered_add(heap, &table->symbols, symbol);
    if (number == 0) {
        goto fail_number;
    }
    uint32_t *first = map32_put(&table->symbol_by_hash, hash);
    if (first == NULL) {
        goto fail_put;
    }
    *symbol = (struct symbol){.hash = hash, .users = 1, .next = *first, .len = (uint32_t)len};
    memcpy(symbol->text, text, len);
    *first = number;
    return number;

fail_put:
    numbered_remove(&table->symbols, number);
fail_number:
    pymalloc_table_free(&heap->pm, symbol, bytes);
    return 0;
}

/* The symbol of an identifier, with one user more. */
static enum heap_error symbol_take(uint32_t *symbol, struct heap *heap, const char *text, size_t len)
{
    uint32_t hash = symbol_hash(heap, text, len);
    uint32_t number = symbol_find(heap, hash, text, len);
    if (number != 0) {
        symbol_at(heap, number)->users++;
    } else if (!is_identifier(text, len)) {
        return HEAP_BAD_IDENTIFIER;
    } else {
        number = symbol_create(heap, hash, text, len);
        if (number == 0) {
            return HEAP_MEMORY;
        }
    }
    *symbol = number;
    return HEAP_OK;
}

static void symbol_drop(struct heap *heap, uint32_t number)
{
    if (number == 0 || --symbol_at(heap, number)->users > 0) {
        return;
    }
    struct class_table *table = heap->classes;
    struct symbol *symbol = symbol_at(heap, number);
    uint32_t *first = map32_find(&table->symbol_by_hash, symbol->hash), *link = first;
    while (*link != number) {
        link = &symbol_at(heap, *link)->next;
    }
    *link = symbol->next;
    if (*first == 0) {
        map32_remove(&table->symbol_by_hash, symbol->hash);
    }
    numbered_remove(&table->symbols, number);
    pymalloc_table_free(&heap->pm, symbol, symbol_bytes(symbol));
}

/* ---- shapes ---- */

#define NOT_FOUND UINT32_MAX

/* The position of a symbol in a shape, or NOT_FOUND. */
static uint32_t shape_find(const struct shape *shape, uint32_t symbol)
{
    if (shape->index.count > 0) {
        const uint32_t *position = map32_find(&shape->index, symbol);
        return position != NULL ? *position - 1 : NOT_FOUND;
    }
    for (uint32_t i = 0; i < shape->count; i++) {
        if (shape->symbols[i] == symbol) {
            return i;
        }
    }
    return NOT_FOUND;
}

static struct class_info *info_of(const struct heap *heap, uint32_t class)
{
    return ((const struct class *)object_at(heap, class))->info;
}

/* A shape of that class with room for so many names, in the class's list, without users; NULL: no memory. */
static struct shape *shape_create(struct heap *heap, uint32_t class, uint32_t room)
{
    struct class_table *table = heap->classes;
    struct shape *shape = pymalloc_table_alloc(&heap->pm, sizeof *shape);
    if (shape == NULL) {
        return NULL;
    }
    map32_init(&shape->index, &heap->pm);
    shape->room = room;
    shape->symbols = room > 0 ? pymalloc_table_alloc(&heap->pm, room * sizeof *shape->symbols) : NULL;
    shape->number = shape->symbols != NULL || room == 0 ? numbered_add(heap, &table->shapes, shape) : 0;
    if (shape->number == 0) {
        shape_free(heap, shape);
        return NULL;
    }
    struct class_info *info = info_of(heap, class);
    shape->class = class;
    shape->next = info->shapes;
    if (shape->next != 0) {
        shape_at(heap, shape->next)->prev = shape->number;
    }
    info->shapes = shape->number;
    info->shape_count++;
    return shape;
}

static uint32_t transition_key(uint32_t parent, uint32_t symbol)
{
    uint64_t mixed = ((uint64_t)parent << 32 | symbol) * 0x9E3779B97F4A7C15u;
    uint32_t key = (uint32_t)(mixed >> 32);
    return key != 0 ? key : 1;
}

static void transition_remove(struct heap *heap, const struct shape *shape)
{
    struct map32 *transitions = &heap->classes->transitions;
    uint32_t key = transition_key(shape->parent, shape->symbols[shape->count - 1]);
    uint32_t *first = map32_find(transitions, key), *link = first;
    while (*link != shape->number) {
        link = &shape_at(heap, *link)->chain;
    }
    *link = shape->chain;
    if (*first == 0) {
        map32_remove(transitions, key);
    }
}

static void shape_destroy(struct heap *heap, struct shape *shape)
{
    struct class_info *info = info_of(heap, shape->class);
    if (shape->parent != 0) {
        transition_remove(heap, shape);
    }
    for (uint32_t i = 0; i < shape->count; i++) {
        symbol_drop(heap, shape->symbols[i]);
    }
    if (shape->prev != 0) {
        shape_at(heap, shape->prev)->next = shape->next;
    } else {
        info->shapes = shape->next;
    }
    if (shape->next != 0) {
        shape_at(heap, shape->next)->prev = shape->prev;
    }
    info->shape_count--;
    numbered_remove(&heap->classes->shapes, shape->number);
    shape_free(heap, shape);
}

/* One user less.  What nobody uses goes when it is one instance's own, or when the class has many. */
static void shape_drop(struct heap *heap, struct shape *shape)
{
    struct class_info *info = info_of(heap, shape->class);
    while (--shape->users == 0 && shape->number != info->root && (shape->own || info->shape_count > SHAPES_KEPT)) {
        uint32_t parent = shape->parent;
        shape_destroy(heap, shape);
        if (parent == 0) {
            return;
        }
        shape = shape_at(heap, parent);
    }
}

/* The shape that has `symbol` behind the names of `parent`, or NULL. */
static struct shape *transition_find(const struct heap *heap, uint32_t parent, uint32_t symbol)
{
    const uint32_t *first = map32_find(&heap->classes->transitions, transition_key(parent, symbol));
    for (uint32_t n = first != NULL ? *first : 0; n != 0; n = shape_at(heap, n)->chain) {
        struct shape *shape = shape_at(heap, n);
        if (shape->parent == parent && shape->symbols[shape->count - 1] == symbol) {
            return shape;
        }
    }
    return NULL;
}

/* That shape, made if need be, with one user more; NULL: no memory. */
static struct shape *transition_take(struct heap *heap, struct shape *parent, uint32_t symbol)
{
    struct shape *shape = transition_find(heap, parent->number, symbol);
    if (shape == NULL) {
        shape = shape_create(heap, parent->class, parent->count + 1);
        if (shape == NULL) {
            return NULL;
        }
        uint32_t *first = map32_put(&heap->classes->transitions, transition_key(parent->number, symbol));
        if (first == NULL) {
            shape_destroy(heap, shape);
            return NULL;
        }
        for (uint32_t i = 0; i < parent->count; i++) {
            shape->symbols[i] = parent->symbols[i];
            symbol_at(heap, shape->symbols[i])->users++;
        }
        shape->symbols[parent->count] = symbol;
        symbol_at(heap, symbol)->users++;
        shape->count = parent->count + 1;
        shape->parent = parent->number;
        shape->chain = *first;
        *first = shape->number;
        parent->users++;
    }
    shape->users++;
    return shape;
}

static bool own_index_fill(struct shape *shape)
{
    if (shape->count - shape->gaps <= SHARED_MAX) {
        return true;
    }
    for (uint32_t i = 0; i < shape->count; i++) {
        if (shape->symbols[i] != 0) {
            uint32_t *position = map32_put(&shape->index, shape->symbols[i]);
            if (position == NULL) {
                map32_fini(&shape->index);
                map32_init(&shape->index, shape->index.pm);
                return false;
            }
            *position = i + 1;
        }
    }
    return true;
}

/* A shape of one instance's own with the names of another, with one user; NULL: no memory. */
static struct shape *shape_copy_own(struct heap *heap, const struct shape *from)
{
    struct shape *shape = shape_create(heap, from->class, from->count + 4);
    if (shape == NULL) {
        return NULL;
    }
    shape->own = true;
    shape->users = 1;
    for (uint32_t i = 0; i < from->count; i++) {
        shape->symbols[i] = from->symbols[i];
        symbol_at(heap, shape->symbols[i])->users++;
    }
    shape->count = from->count;
    if (!own_index_fill(shape)) {
        shape_drop(heap, shape);
        return NULL;
    }
    return shape;
}

/* Room for one name more in an own shape. */
static bool own_make_room(struct heap *heap, struct shape *shape)
{
    if (shape->count < shape->room) {
        return true;
    }
    uint32_t room = shape->room + shape->room / 2 + 4;
    void *symbols = pymalloc_table_realloc(&heap->pm, shape->symbols, shape->room * sizeof *shape->symbols,
                                           room * sizeof *shape->symbols);
    if (symbols == NULL) {
        return false;
    }
    shape->symbols = symbols;
    shape->room = room;
    return true;
}

/* Adds a name to an own shape that has room; takes one user of the symbol.  false: no memory. */
static bool own_append(struct heap *heap, struct shape *shape, uint32_t symbol)
{
    shape->symbols[shape->count] = symbol;
    shape->count++;
    bool ok;
    if (shape->index.count > 0) {
        uint32_t *position = map32_put(&shape->index, symbol);
        ok = position != NULL;
        if (ok) {
            *position = shape->count;
        }
    } else {
        ok = own_index_fill(shape);
    }
    if (!ok) {
        shape->symbols[--shape->count] = 0;
        return false;
    }
    symbol_at(heap, symbol)->users++;
    return true;
}

/* ---- classes ---- */

static const struct class *class_at(const struct heap *heap, heap_ref ref)
{
    const struct class *c = (const struct class *)object_at(heap, ref);
    HEAP_ASSERT(c->head.head.type == HEAP_T_CLASS);
    return c;
}

static bool is_builtin_name(struct heap_text name)
{
    for (enum heap_type type = 0; type < HEAP_T_COUNT; type++) {
        const char *builtin = heap_builtin_name(type);
        if (type != HEAP_T_INSTANCE && strlen(builtin) == name.len && memcmp(builtin, name.text, name.len) == 0) {
            return true;
        }
    }
    return false;
}

static enum heap_error take_slots(struct heap *heap, struct shape *root, const struct heap_text *slots, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        uint32_t symbol;
        enum heap_error error = symbol_take(&symbol, heap, slots[i].text, slots[i].len);
        if (error != HEAP_OK) {
            return error;
        }
        if (shape_find(root, symbol) != NOT_FOUND) {
            symbol_drop(heap, symbol);
            return HEAP_REPEATED_SLOT;
        }
        bool ok = own_append(heap, root, symbol);
        symbol_drop(heap, symbol);
        if (!ok) {
            return HEAP_MEMORY;
        }
    }
    return HEAP_OK;
}

static void class_link(struct heap *heap, struct class_info *info)
{
    struct class_table *table = heap->classes;
    pthread_mutex_lock(&table->stats_lock);
    info->next = table->classes;
    if (info->next != NULL) {
        info->next->prev = info;
    }
    table->classes = info;
    pthread_mutex_unlock(&table->stats_lock);
}

static void class_unlink(struct heap *heap, struct class_info *info)
{
    struct class_table *table = heap->classes;
    pthread_mutex_lock(&table->stats_lock);
    if (info->prev != NULL) {
        info->prev->next = info->next;
    } else {
        table->classes = info->next;
    }
    if (info->next != NULL) {
        info->next->prev = info->prev;
    }
    pthread_mutex_unlock(&table->stats_lock);
}

uint64_t class_info_bytes(const struct class *c)
{
    return c->info != NULL ? pymalloc_buffer_rounded(sizeof *c->info) : 0;
}

/* Also of a class that was only half made: then nothing is linked yet. */
static void class_release(struct heap *heap, struct class *c)
{
    struct class_info *info = c->info;
    while (info->shapes != 0) {
        shape_destroy(heap, shape_at(heap, info->shapes));
    }
    symbol_drop(heap, info->name);
    object_buffer_free(heap, HEAP_T_CLASS, info, sizeof *info);
    c->info = NULL;
}

void class_free_info(struct heap *heap, struct class *c)
{
    if (c->info != NULL) {
        class_unlink(heap, c->info);
        class_release(heap, c);
    }
}

static enum heap_error class_fill(struct heap *heap, struct class *c, struct heap_text name,
                                  const struct heap_text *slots, uint32_t slot_count)
{
    struct class_info *info = c->info;
    enum heap_error error = symbol_take(&info->name, heap, name.text, name.len);
    if (error != HEAP_OK) {
        return error;
    }
    info->text = symbol_at(heap, info->name)->text;
    struct shape *root = shape_create(heap, object_ref(heap, c), slot_count);
    if (root == NULL) {
        return HEAP_MEMORY;
    }
    info->root = root->number;
    info->has_slots = slots != NULL;
    return slots != NULL ? take_slots(heap, root, slots, slot_count) : HEAP_OK;
}

enum heap_error heap_class_create(heap_ref *class, struct heap *heap, struct heap_text name,
                                  const struct heap_text *slots, uint32_t slot_count)
{
    GIL_ASSERT_HELD(heap);
    if (is_builtin_name(name)) {
        return HEAP_RESERVED_CLASS;
    }
    struct class *c = (struct class *)object_container_create(heap, HEAP_T_CLASS, sizeof *c);
    if (c == NULL) {
        return HEAP_MEMORY;
    }
    enum heap_error error = HEAP_MEMORY;
    struct class_info *info = object_buffer_alloc(heap, HEAP_T_CLASS, sizeof *info);
    if (info != NULL) {
        memset(info, 0, sizeof *info);
        c->info = info;
        error = class_fill(heap, c, name, slots, slot_count);
        if (error == HEAP_OK && !gc_track(heap, &c->head)) {
            error = HEAP_MEMORY;
        }
        if (error == HEAP_OK) {
            class_link(heap, info);
            *class = object_ref(heap, c);
            return HEAP_OK;
        }
        class_release(heap, c);
    }
    object_decref(heap, object_ref(heap, c));
    return error;
}

bool heap_class_has_slots(const struct heap *heap, heap_ref class)
{
    return class_at(heap, class)->info->has_slots;
}

uint32_t heap_class_slot_count(const struct heap *heap, heap_ref class)
{
    const struct class_info *info = class_at(heap, class)->info;
    return info->has_slots ? shape_at(heap, info->root)->count : 0;
}

const char *heap_class_slot(const struct heap *heap, heap_ref class, uint32_t i)
{
    const struct shape *root = shape_at(heap, class_at(heap, class)->info->root);
    HEAP_ASSERT(i < root->count);
    return symbol_at(heap, root->symbols[i])->text;
}

const char *heap_class_name(const struct heap *heap, heap_ref class)
{
    return class_at(heap, class)->info->text;
}

/* ---- instances: layout ---- */

static struct instance *instance_at(const struct heap *heap, heap_ref ref)
{
    struct instance *i = (struct instance *)object_at(heap, ref);
    HEAP_ASSERT(i->head.head.type == HEAP_T_INSTANCE);
    return i;
}

static inline bool is_outside(const struct instance *i)
{
    return (i->head.head.flags & FLAG_OUT_OF_LINE) != 0;
}

static inline uint32_t *values_of(struct instance *i)
{
    return is_outside(i) ? i->u.out.values : i->u.in.values;
}

static inline uint32_t room_of(const struct instance *i)
{
    return is_outside(i) ? i->u.out.room : i->head.head.n;
}

struct edges instance_edges(const struct heap *heap, const struct instance *i)
{
    union {
        const struct instance *in;
        struct instance *out;
    } cast = {.in = i};
    const struct shape *shape = shape_at(heap, i->u.in.shape);
    return (struct edges){.refs = values_of(cast.out), .count = shape->count, .extra = shape->class};
}

uint64_t instance_buffer_bytes(const struct instance *i)
{
    return is_outside(i) ? pymalloc_buffer_rounded((size_t)i->u.out.room * 4) : 0;
}

void instance_count_bytes(struct heap *heap, const struct instance *i, int64_t bytes)
{
    counter_add(&info_of(heap, shape_at(heap, i->u.in.shape)->class)->bytes, (uint64_t)bytes);
}

static uint64_t instance_bytes(const struct heap *heap, const struct instance *i)
{
    return ((object_block_bytes(heap, &i->head.head) + 15u) & ~15u) + instance_buffer_bytes(i);
}

/* Gives values and shape back.  The class lives: the instance's edge to it is dropped after this. */
void instance_free_buffers(struct heap *heap, struct instance *i)
{
    struct shape *shape = shape_at(heap, i->u.in.shape);
    struct class_info *info = info_of(heap, shape->class);
    counter_sub(&info->objects, 1);
    counter_sub(&info->bytes, instance_bytes(heap, i));
    if (is_outside(i)) {
        object_buffer_free(heap, HEAP_T_INSTANCE, i->u.out.values, (size_t)i->u.out.room * 4);
        i->u.out.values = NULL;
        i->u.out.room = 0;
    }
    shape_drop(heap, shape);
}

const char *instance_class_name(const struct heap *heap, const struct instance *i)
{
    return info_of(heap, shape_at(heap, i->u.in.shape)->class)->text;
}

/* ---- instances: making ---- */

/* Values that fill the block which has room for `wanted`. */
static uint32_t inside_room(uint32_t wanted)
{
    uint32_t bytes = (INSTANCE_HEAD_BYTES + 4 * wanted + 15) & ~15u;
    uint32_t room = (bytes - INSTANCE_HEAD_BYTES) / 4;
    return room < 3 ? 3 : room;
}

/* Values move to a buffer of that room.  Their block stays as it is. */
static bool move_outside(struct heap *heap, struct instance *i, uint32_t room)
{
    uint32_t *values = object_buffer_alloc(heap, HEAP_T_INSTANCE, (size_t)room * 4);
    if (values == NULL) {
        return false;
    }
    memset(values, 0, (size_t)room * 4);
    memcpy(values, i->u.in.values, (size_t)i->head.head.n * 4);
    i->head.head.flags |= FLAG_OUT_OF_LINE;
    i->u.out.room = room;
    i->u.out.values = values;
    instance_count_bytes(heap, i, (int64_t)instance_buffer_bytes(i));
    return true;
}

static bool values_make_room(struct heap *heap, struct instance *i, uint32_t wanted)
{
    uint32_t room = room_of(i);
    if (wanted <= room) {
        return true;
    }
    uint32_t more = wanted + wanted / 4 + 3;
    if (!is_outside(i)) {
        return move_outside(heap, i, more);
    }
    uint32_t *values = object_buffer_realloc(heap, HEAP_T_INSTANCE, i->u.out.values, (size_t)room * 4,
                                             (size_t)more * 4);
    if (values == NULL) {
        return false;
    }
    instance_count_bytes(heap, i, -(int64_t)instance_buffer_bytes(i));
    memset(values + room, 0, (size_t)(more - room) * 4);
    i->u.out.values = values;
    i->u.out.room = more;
    instance_count_bytes(heap, i, (int64_t)instance_buffer_bytes(i));
    return true;
}

enum heap_error heap_instance_create(heap_ref *instance, struct heap *heap, heap_ref class, uint32_t room)
{
    GIL_ASSERT_HELD(heap);
    if (heap_type(heap, class) != HEAP_T_CLASS) {
        return HEAP_TYPE;
    }
    if (object_is_full(object_at(heap, class))) {
        return HEAP_LIMIT_REFS;
    }
    struct class_info *info = info_of(heap, class);
    struct shape *root = shape_at(heap, info->root);
    uint32_t wanted = info->has_slots ? root->count : room > info->room_hint ? room : info->room_hint;
    uint32_t inside = inside_room(wanted <= INSTANCE_INSIDE_MAX ? wanted : 3);
    struct instance *i = (struct instance *)object_container_create(heap, HEAP_T_INSTANCE,
                                                                    INSTANCE_HEAD_BYTES + 4 * inside);
    if (i == NULL) {
        return HEAP_MEMORY;
    }
    i->head.head.n = (uint16_t)inside;
    i->u.in.shape = root->number;
    root->users++;
    counter_add(&info->objects, 1);
    counter_add(&info->bytes, instance_bytes(heap, i));
    object_incref(heap, class);
    if (!values_make_room(heap, i, wanted) || !gc_track(heap, &i->head)) {
        object_decref(heap, object_ref(heap, i));
        return HEAP_MEMORY;
    }
    *instance = object_ref(heap, i);
    return HEAP_OK;
}

heap_ref heap_instance_class(const struct heap *heap, heap_ref instance)
{
    return shape_at(heap, instance_at(heap, instance)->u.in.shape)->class;
}

/* ---- attributes ---- */

/* Where a name is among the values; HEAP_ATTR for a name that is no slot, NOT_FOUND if it is not set. */
static enum heap_error attr_position(uint32_t *position, struct heap *heap, const struct instance *i,
                                     const char *name, size_t len)
{
    const struct shape *shape = shape_at(heap, i->u.in.shape);
    uint32_t symbol = symbol_find(heap, symbol_hash(heap, name, len), name, len);
    *position = symbol != 0 ? shape_find(shape, symbol) : NOT_FOUND;
    if (*position != NOT_FOUND) {
        return HEAP_OK;
    }
    if (symbol == 0 && !is_identifier(name, len)) {
        return HEAP_BAD_IDENTIFIER;
    }
    return info_of(heap, shape->class)->has_slots ? HEAP_ATTR : HEAP_OK;
}

enum heap_error heap_attr_get(heap_ref *value, struct heap *heap, heap_ref instance, const char *name, size_t len)
{
    GIL_ASSERT_HELD(heap);
    struct instance *i = instance_at(heap, instance);
    uint32_t position;
    enum heap_error error = attr_position(&position, heap, i, name, len);
    if (error == HEAP_OK) {
        *value = position != NOT_FOUND ? values_of(i)[position] : 0;
    }
    return error;
}

/* The instance gets the shape that has `symbol` too; room for its value is there. */
static bool shape_advance(struct heap *heap, struct instance *i, uint32_t symbol)
{
    struct shape *shape = shape_at(heap, i->u.in.shape);
    if (!shape->own && shape->count < SHARED_MAX) {
        struct shape *longer = transition_take(heap, shape, symbol);
        if (longer == NULL) {
            return false;
        }
        i->u.in.shape = longer->number;
        shape_drop(heap, shape);
        return true;
    }
    struct shape *own = shape->own ? shape : shape_copy_own(heap, shape);
    if (own == NULL) {
        return false;
    }
    if (own != shape) { /* a copy is right whether or not the name can be added */
        i->u.in.shape = own->number;
        shape_drop(heap, shape);
    }
    return own_make_room(heap, own) && own_append(heap, own, symbol);
}

static enum heap_error attr_add(struct heap *heap, struct instance *i, const char *name, size_t len, heap_ref value)
{
    uint32_t symbol;
    enum heap_error error = symbol_take(&symbol, heap, name, len);
    if (error != HEAP_OK) {
        return error;
    }
    uint32_t position = shape_at(heap, i->u.in.shape)->count;
    if (!values_make_room(heap, i, position + 1) || !shape_advance(heap, i, symbol)) {
        symbol_drop(heap, symbol);
        return HEAP_MEMORY;
    }
    symbol_drop(heap, symbol);
    values_of(i)[position] = value;
    struct class_info *info = info_of(heap, shape_at(heap, i->u.in.shape)->class);
    if (position + 1 > info->room_hint && position < ROOM_HINT_MAX) {
        info->room_hint = position + 1;
    }
    return HEAP_OK;
}

enum heap_error heap_attr_set_steal(struct heap *heap, heap_ref instance, const char *name, size_t len,
                                    heap_ref value)
{
    GIL_ASSERT_HELD(heap);
    struct instance *i = instance_at(heap, instance);
    uint32_t position;
    enum heap_error error = attr_position(&position, heap, i, name, len);
    if (error == HEAP_OK && position != NOT_FOUND) {
        uint32_t old = values_of(i)[position];
        values_of(i)[position] = value;
        heap_decref(heap, old);
        return HEAP_OK;
    }
    if (error == HEAP_OK) {
        error = attr_add(heap, i, name, len, value);
    }
    if (error != HEAP_OK) {
        heap_decref(heap, value);
    }
    return error;
}

/* Takes the gaps out of an own shape and its instance's values. */
static void own_compact(struct instance *i, struct shape *shape)
{
    uint32_t *values = values_of(i), kept = 0;
    for (uint32_t k = 0; k < shape->count; k++) {
        if (shape->symbols[k] != 0) {
            shape->symbols[kept] = shape->symbols[k];
            values[kept] = values[k];
            kept++;
        }
    }
    memset(values + kept, 0, (size_t)(shape->count - kept) * 4);
    shape->count = kept;
    shape->gaps = 0;
    if (shape->index.count > 0) { /* each name has an entry: only positions change */
        for (uint32_t k = 0; k < kept; k++) {
            *map32_find(&shape->index, shape->symbols[k]) = k + 1;
        }
    }
}

static enum heap_error attr_remove(struct heap *heap, struct instance *i, uint32_t position)
{
    struct shape *shape = shape_at(heap, i->u.in.shape);
    if (!shape->own) {
        struct shape *own = shape_copy_own(heap, shape);
        if (own == NULL) {
            return HEAP_MEMORY;
        }
        i->u.in.shape = own->number;
        shape_drop(heap, shape);
        shape = own;
    }
    map32_remove(&shape->index, shape->symbols[position]);
    symbol_drop(heap, shape->symbols[position]);
    shape->symbols[position] = 0;
    shape->gaps++;
    uint32_t old = values_of(i)[position];
    values_of(i)[position] = 0;
    if (shape->gaps > shape->count / 2) {
        own_compact(i, shape);
    }
    object_decref(heap, old);
    return HEAP_OK;
}

enum heap_error heap_attr_del(struct heap *heap, heap_ref instance, const char *name, size_t len)
{
    GIL_ASSERT_HELD(heap);
    struct instance *i = instance_at(heap, instance);
    uint32_t position;
    enum heap_error error = attr_position(&position, heap, i, name, len);
    if (error != HEAP_OK) {
        return error;
    }
    if (position == NOT_FOUND || values_of(i)[position] == 0) {
        return HEAP_ATTR;
    }
    if (!info_of(heap, shape_at(heap, i->u.in.shape)->class)->has_slots) {
        return attr_remove(heap, i, position);
    }
    uint32_t old = values_of(i)[position];
    values_of(i)[position] = 0;
    object_decref(heap, old);
    return HEAP_OK;
}

bool heap_attr_next(const struct heap *heap, heap_ref instance, uint32_t *pos, const char **name, heap_ref *value)
{
    struct instance *i = instance_at(heap, instance);
    const struct shape *shape = shape_at(heap, i->u.in.shape);
    for (uint32_t k = *pos; k < shape->count; k++) {
        if (values_of(i)[k] != 0) {
            *name = symbol_at(heap, shape->symbols[k])->text;
            *value = values_of(i)[k];
            *pos = k + 1;
            return true;
        }
    }
    *pos = shape->count;
    return false;
}

uint32_t heap_attr_count(const struct heap *heap, heap_ref instance)
{
    struct edges edges = instance_edges(heap, instance_at(heap, instance));
    uint32_t count = 0;
    for (uint32_t k = 0; k < edges.count; k++) {
        count += edges.refs[k] != 0;
    }
    return count;
}

uint32_t heap_attr_entry(struct heap *heap, heap_ref instance, const char *name, size_t len)
{
    uint32_t position;
    enum heap_error error = attr_position(&position, heap, instance_at(heap, instance), name, len);
    HEAP_ASSERT(error == HEAP_OK && position != NOT_FOUND);
    return position;
}

/* ---- statistics ---- */

void heap_stats_classes(const struct heap *heap,
                        void (*row)(void *arg, const char *class_name, uint64_t objects, uint64_t bytes), void *arg)
{
    struct class_table *table = heap->classes;
    pthread_mutex_lock(&table->stats_lock);
    for (const struct class_info *info = table->classes; info != NULL; info = info->next) {
        uint64_t objects = counter_read(&info->objects);
        if (objects > 0) {
            row(arg, info->text, objects, counter_read(&info->bytes));
        }
    }
    pthread_mutex_unlock(&table->stats_lock);
}

/* ---- checker ---- */

/* `users` counts, by shape number, instances and continuing shapes. */
static uint32_t check_shape(struct heap *heap, const struct shape *shape, const uint32_t *users, FILE *why)
{
    uint32_t root = info_of(heap, shape->class)->root, problems = 0;
    if (users[shape->number] != shape->users) {
        fprintf(why, "shape %u has %u users and says %u\n", shape->number, users[shape->number], shape->users);
        problems++;
    }
    if (shape->number != root && !shape->own &&
        transition_find(heap, shape->parent, shape->symbols[shape->count - 1]) != shape) {
        fprintf(why, "shape %u is not found from its parent %u\n", shape->number, shape->parent);
        problems++;
    }
    uint32_t gaps = 0;
    for (uint32_t i = 0; i < shape->count; i++) {
        gaps += shape->symbols[i] == 0;
        if (shape->symbols[i] != 0 && shape_find(shape, shape->symbols[i]) != i) {
            fprintf(why, "name %u of shape %u is not found\n", i, shape->number);
            problems++;
        }
    }
    if (gaps != shape->gaps) {
        fprintf(why, "shape %u has %u gaps and says %u\n", shape->number, gaps, shape->gaps);
        problems++;
    }
    return problems;
}

static void count_instances(struct heap *heap, uint32_t *users)
{
    uint32_t pool = 0, first;
    unsigned class;
    while (pymalloc_next_pool(&heap->pm, POOL_CONTAINER, &pool, &first, &class)) {
        for (uint32_t ref = first & ~63u; (ref ^ first) < 1024; ref += 64) {
            for (uint64_t bits = pymalloc_used_word(&heap->pm, ref); bits != 0; bits &= bits - 1) {
                const struct object *o = object_at(heap, ref + (uint32_t)__builtin_ctzll(bits));
                if (o->type == HEAP_T_INSTANCE) {
                    users[((const struct instance *)o)->u.in.shape]++;
                }
            }
        }
    }
}

uint32_t class_check(struct heap *heap, FILE *why)
{
    const struct numbered *shapes = &heap->classes->shapes;
    uint32_t *users = calloc(shapes->count + 1, sizeof *users), problems = 0;
    if (users == NULL) {
        fputs("no memory to check the shapes\n", why);
        return 1;
    }
    count_instances(heap, users);
    for (uint32_t n = 1; n <= shapes->count; n++) {
        const struct shape *shape = numbered_get(shapes, n);
        if (shape != NULL && shape->parent != 0) {
            users[shape->parent]++;
        }
    }
    for (uint32_t n = 1; n <= shapes->count; n++) {
        const struct shape *shape = numbered_get(shapes, n);
        if (shape != NULL) {
            problems += check_shape(heap, shape, users, why);
        }
    }
    free(users);
    return problems + map32_check(&heap->classes->symbol_by_hash, why) +
           map32_check(&heap->classes->transitions, why);
}
