/* intern.c -- the interned table: one str a text, for the keys of plain JSON objects and sys.intern.
 *
 * Open addressing on the text's hash; the slots are references that own nothing: an interned str dies like
 * any other and leaves the table.  It grows as map32 does, a few slots at a time.
 *
 * Invariant: a str with FLAG_INTERNED is found by its text.   Checker: intern_check().
 * Start at heap_str_intern().
 */
#include "heap_internal.h"

/* It grows as map32 does, a few slots at a time, but finds by text. */
struct intern_table {
    uint32_t *slots, *old; /* old: being emptied, or NULL */
    uint32_t room, old_room;
    uint32_t moved; /* old slots below this one are empty */
    uint32_t count;
};
#define INTERN_ROOM_MIN 64u
#define INTERN_MOVES 8u /* old slots looked at per change; two would keep up */

bool intern_init(struct heap *heap)
{
    heap->interned = pymalloc_table_alloc(&heap->pm, sizeof *heap->interned);
    return heap->interned != NULL;
}

void intern_fini(struct heap *heap)
{
    struct intern_table *table = heap->interned;
    if (table != NULL) {
        pymalloc_table_free(&heap->pm, table->slots, table->room * sizeof *table->slots);
        pymalloc_table_free(&heap->pm, table->old, table->old_room * sizeof *table->old);
        pymalloc_table_free(&heap->pm, table, sizeof *table);
    }
}

static struct text *text_at(const struct heap *heap, uint32_t ref)
{
    return (struct text *)object_at(heap, ref);
}

static bool same_text(const struct text *t, uint32_t hash, const char *text, size_t len)
{
    return t->hash == hash && t->len == len && memcmp(text_bytes(t), text, len) == 0;
}

/* The slot of that text in one of the two arrays, or NULL. */
static uint32_t *intern_slot(struct heap *heap, uint32_t *slots, uint32_t room, uint32_t hash, const char *text,
                             size_t len)
{
    if (room == 0) {
        return NULL;
    }
    for (uint32_t i = hash & (room - 1);; i = (i + 1) & (room - 1)) {
        if (slots[i] == 0) {
            return NULL;
        }
        if (same_text(text_at(heap, slots[i]), hash, text, len)) {
            return &slots[i];
        }
    }
}

static void intern_place(struct heap *heap, uint32_t *slots, uint32_t room, uint32_t ref)
{
    uint32_t i = text_at(heap, ref)->hash & (room - 1);
    while (slots[i] != 0) {
        i = (i + 1) & (room - 1);
    }
    slots[i] = ref;
}

/* Empties slot i and moves later entries of its run back, so that searches need no tombstones. */
static void intern_erase(struct heap *heap, uint32_t *slots, uint32_t room, uint32_t i)
{
    uint32_t mask = room - 1;
    slots[i] = 0;
    for (uint32_t j = (i + 1) & mask; slots[j] != 0; j = (j + 1) & mask) {
        uint32_t home = text_at(heap, slots[j])->hash & mask;
        if (((j - home) & mask) >= ((j - i) & mask)) {
            slots[i] = slots[j];
            slots[j] = 0;
            i = j;
        }
    }
}

/* Moves whole runs out of the old array: erasing shifts within a run, so entries go from the front. */
static void intern_move_some(struct heap *heap, struct intern_table *table)
{
    for (uint32_t n = 0; table->old != NULL && n < INTERN_MOVES; n++) {
        if (table->moved == table->old_room) {
            pymalloc_table_free(&heap->pm, table->old, table->old_room * sizeof *table->old);
            table->old = NULL;
            table->old_room = 0;
        } else if (table->old[table->moved] != 0) {
            intern_place(heap, table->slots, table->room, table->old[table->moved]);
            intern_erase(heap, table->old, table->old_room, table->moved);
        } else {
            table->moved++;
        }
    }
}

static bool intern_make_room(struct heap *heap, struct intern_table *table)
{
    if ((uint64_t)(table->count + 1) * 3 <= (uint64_t)table->room * 2) {
        return true;
    }
    while (table->old != NULL) { /* only after many failed allocations */
        intern_move_some(heap, table);
    }
    uint32_t room = table->room == 0 ? INTERN_ROOM_MIN : table->room * 2;
    uint32_t *slots = pymalloc_table_alloc(&heap->pm, room * sizeof *slots);
    if (slots == NULL) {
        return table->count + 1 < table->room; /* slower, still right */
    }
    table->old = table->slots;
    table->old_room = table->room;
    table->moved = 0;
    table->slots = slots;
    table->room = room;
    if (table->old_room == 0) {
        table->old = NULL;
    }
    return true;
}

void intern_remove(struct heap *heap, const struct text *t)
{
    struct intern_table *table = heap->interned;
    const char *text = text_bytes(t);
    uint32_t *slot = intern_slot(heap, table->slots, table->room, t->hash, text, t->len);
    if (slot != NULL) {
        intern_erase(heap, table->slots, table->room, (uint32_t)(slot - table->slots));
    } else {
        slot = intern_slot(heap, table->old, table->old_room, t->hash, text, t->len);
        HEAP_ASSERT(slot != NULL);
        intern_erase(heap, table->old, table->old_room, (uint32_t)(slot - table->old));
    }
    table->count--;
    intern_move_some(heap, table);
}

uint32_t intern_check(struct heap *heap, FILE *why)
{
    struct intern_table *table = heap->interned;
    uint32_t problems = 0, found = 0;
    for (uint32_t i = 0; i < table->room + table->old_room; i++) {
        uint32_t ref = i < table->room ? table->slots[i] : table->old[i - table->room];
        if (ref == 0) {
            continue;
        }
        found++;
        if (!pymalloc_is_block(&heap->pm, ref, POOL_ATOM) || !(text_at(heap, ref)->head.flags & FLAG_INTERNED)) {
            fprintf(why, "the interned table has %#x, which is no interned str\n", ref);
            problems++;
            continue;
        }
        struct text *t = text_at(heap, ref);
        uint32_t *slot = intern_slot(heap, table->slots, table->room, t->hash, text_bytes(t), t->len);
        if (slot == NULL) {
            slot = intern_slot(heap, table->old, table->old_room, t->hash, text_bytes(t), t->len);
        }
        if (slot == NULL || *slot != ref) {
            fprintf(why, "the interned str %#x is not found by its text\n", ref);
            problems++;
        }
    }
    if (found != table->count) {
        fprintf(why, "the interned table has %u strs and says %u\n", found, table->count);
        problems++;
    }
    return problems;
}

/* ---- the public face ---- */

bool heap_is_interned(const struct heap *heap, heap_ref obj)
{
    const struct object *o = object_at(heap, obj);
    return o->type == HEAP_T_STR && (object_is_immortal(o) || (o->flags & FLAG_INTERNED));
}

enum heap_error heap_str_intern(heap_ref *obj, struct heap *heap, const char *text, size_t len)
{
    GIL_ASSERT_HELD(heap);
    uint32_t shared = len <= 2 ? str_shared(heap, text, len) : 0;
    if (shared != 0) {
        *obj = shared;
        return HEAP_OK;
    }
    struct intern_table *table = heap->interned;
    uint32_t hash = text_hash_short(hash_bytes(heap, text, len));
    uint32_t *slot = intern_slot(heap, table->slots, table->room, hash, text, len);
    if (slot == NULL && table->old != NULL) {
        slot = intern_slot(heap, table->old, table->old_room, hash, text, len);
    }
    if (slot != NULL) {
        *obj = *slot;
        return heap_incref(heap, *slot);
    }
    if (!intern_make_room(heap, table)) {
        return HEAP_MEMORY;
    }
    heap_ref made;
    enum heap_error error = str_create(&made, heap, text, len);
    if (error != HEAP_OK) {
        return error;
    }
    text_at(heap, made)->hash = hash;
    text_at(heap, made)->head.flags |= FLAG_INTERNED;
    intern_place(heap, table->slots, table->room, made);
    table->count++;
    intern_move_some(heap, table);
    *obj = made;
    return HEAP_OK;
}
