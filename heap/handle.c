/* handle.c -- ids: what clients call objects by.
 *
 *   id = generation (21 bits) << 32 | slot (32 bits)
 *   entry of a slot: [ ref | generation | roots | next free ]
 *
 * An object gets a slot when a client first sees it.  When the object dies its slot goes to the back of
 * a queue and is used again, with the next generation, only after 65,536 others: so ids are never
 * reused and no slot burns through its generations.  A slot at its last generation is retired.
 *
 * `roots` counts the holds and names of the object, so that the collector finds every root by walking
 * the entries in order.  Immortals need no roots.
 *
 * Containers carry their slot in the header; atoms, few of which have one, in a map.
 * What is loaded may have slots with wide gaps between them, where nothing is but one blank leaf.
 * Invariant: entry.ref != 0 exactly if the object lives; queue length == waiting.   Checker: handle_check().
 */
#include "visit.h"

#include <inttypes.h>

#define ENTRIES_PER_LEAF 4096u
#define LEAF_SHIFT 12
#define LEAF_BYTES (ENTRIES_PER_LEAF * sizeof(struct handle_entry))
#define GENERATION_LAST ((1u << 21) - 1)
#define WAITING_MIN 65536u /* slots that wait before the first is used again */

struct handle_entry {
    uint32_t ref;        /* 0: no object */
    uint32_t generation; /* of the id that is, or will next be, given */
    uint32_t roots;      /* holds + names; 0 for immortals */
    uint32_t next;       /* the slot behind it in the queue; 0: none */
};
_Static_assert(sizeof(struct handle_entry) == HANDLE_BYTES, "heap_sizeof() counts an entry");

struct handle_table {
    struct handle_entry **leaves; /* slot >> 12 -> 4,096 entries, or `blank` */
    struct handle_entry *blank;   /* zeros, for all leaves of which a replay has claimed no slot; NULL: there are none */
    uint32_t leaf_count, leaf_room;
    uint32_t used;                   /* slots 1..used have been given, but for those of blank leaves */
    uint32_t first, last, waiting;   /* the queue of free slots */
    uint32_t generation_first, generation_end; /* new ids have one from the first on and below the end */
    bool wants_generations;          /* the end is near */
    struct map32 atoms;              /* atom -> slot */
};

/* Generations before the end at which one that is further away is asked for. */
#define GENERATIONS_LEFT 8u

static inline struct handle_entry *entry_at(const struct handle_table *table, uint32_t slot)
{
    return &table->leaves[slot >> LEAF_SHIFT][slot & (ENTRIES_PER_LEAF - 1)];
}

static uint64_t id_of_slot(const struct heap *heap, uint32_t slot)
{
    return (uint64_t)entry_at(heap->handles, slot)->generation << 32 | slot;
}

/* ---- life of the table ---- */

bool handle_init(struct heap *heap)
{
    heap->handles = pymalloc_table_alloc(&heap->pm, sizeof *heap->handles);
    if (heap->handles != NULL) {
        map32_init(&heap->handles->atoms, &heap->pm);
        heap->handles->generation_end = HEAP_GENERATION_END;
    }
    return heap->handles != NULL;
}

void handle_fini(struct heap *heap)
{
    struct handle_table *table = heap->handles;
    if (table == NULL) {
        return;
    }
    for (uint32_t i = 0; i < table->leaf_count; i++) {
        if (table->leaves[i] != table->blank) {
            pymalloc_table_free(&heap->pm, table->leaves[i], LEAF_BYTES);
        }
    }
    pymalloc_table_free(&heap->pm, table->blank, LEAF_BYTES);
    pymalloc_table_free(&heap->pm, table->leaves, table->leaf_room * sizeof *table->leaves);
    map32_fini(&table->atoms);
    pymalloc_table_free(&heap->pm, table, sizeof *table);
}

/* Room for leaves up to that one. */
static bool grow_leaves(struct heap *heap, struct handle_table *table, uint32_t leaf)
{
    uint32_t room = table->leaf_room == 0 ? 8 : table->leaf_room;
    while (room <= leaf) {
        room *= 2;
    }
    void *leaves = pymalloc_table_realloc(&heap->pm, table->leaves, table->leaf_room * sizeof *table->leaves,
                                          room * sizeof *table->leaves);
    if (leaves != NULL) {
        table->leaves = leaves;
        table->leaf_room = room;
    }
    return leaves != NULL;
}

/* The leaf of the slot is there; those in front of it that are not are blank.  false: no memory. */
static bool make_leaf(struct heap *heap, struct handle_table *table, uint32_t slot)
{
    uint32_t number = slot >> LEAF_SHIFT;
    if (number < table->leaf_count && table->leaves[number] != table->blank) {
        return true;
    }
    if (number >= table->leaf_room && !grow_leaves(heap, table, number)) {
        return false;
    }
    if (number > table->leaf_count && table->blank == NULL) {
        table->blank = pymalloc_table_alloc(&heap->pm, LEAF_BYTES);
        if (table->blank == NULL) {
            return false;
        }
    }
    struct handle_entry *leaf = pymalloc_table_alloc(&heap->pm, LEAF_BYTES);
    if (leaf == NULL) {
        return false;
    }
    while (table->leaf_count <= number) {
        table->leaves[table->leaf_count++] = table->blank;
    }
    table->leaves[number] = leaf;
    return true;
}

uint64_t handle_next(const struct heap *heap, uint64_t slot)
{
    const struct handle_table *table = heap->handles;
    while (slot <= table->used && table->leaves[slot >> LEAF_SHIFT] == table->blank) {
        slot = ((slot >> LEAF_SHIFT) + 1) << LEAF_SHIFT;
    }
    return slot;
}

/* ---- slots ---- */

/* A slot behind all others; 0: no memory. */
static uint32_t add_slot(struct heap *heap, struct handle_table *table)
{
    if (table->used == UINT32_MAX || !make_leaf(heap, table, table->used + 1)) {
        return 0;
    }
    uint32_t slot = ++table->used;
    entry_at(table, slot)->generation = table->generation_first;
    return slot;
}

/* Whether the slot that waits longest may be given; it may not while its generation is not below the end. */
static bool may_give_first(struct handle_table *table)
{
    if (table->waiting <= WAITING_MIN) {
        return false;
    }
    uint32_t generation = entry_at(table, table->first)->generation;
    if (unlikely(generation + GENERATIONS_LEFT >= table->generation_end)) {
        table->wants_generations = table->generation_end < HEAP_GENERATION_END;
    }
    return generation < table->generation_end;
}

/* A slot that nothing has; 0: no memory. */
static uint32_t take_slot(struct heap *heap)
{
    struct handle_table *table = heap->handles;
    if (unlikely(heap->lasting.replays)) {
        return replay_take_slot(heap);
    }
    if (!may_give_first(table)) {
        return add_slot(heap, table);
    }
    uint32_t slot = table->first;
    table->first = entry_at(table, slot)->next;
    table->waiting--;
    entry_at(table, slot)->next = 0;
    return slot;
}

uint32_t handle_claim_slot(struct heap *heap, uint64_t id)
{
    struct handle_table *table = heap->handles;
    uint32_t slot = (uint32_t)id;
    if (slot == 0 || id >> 32 > GENERATION_LAST) {
        return 0;
    }
    if (!make_leaf(heap, table, slot) || entry_at(table, slot)->ref != 0) {
        return 0;
    }
    table->used = table->used < slot ? slot : table->used;
    struct handle_entry *entry = entry_at(table, slot);
    entry->generation = (uint32_t)(id >> 32);
    return slot;
}

/* An id more (1) or less (-1) counts in the bytes of the object's type. */
static void count_id(struct heap *heap, const struct object *o, int64_t ids)
{
    int64_t bytes = ids * (int64_t)HANDLE_BYTES;
    counter_add(&heap->id_count, (uint64_t)ids);
    counter_add(&heap->type_bytes[o->type], (uint64_t)bytes);
    if (o->type == HEAP_T_INSTANCE) {
        instance_count_bytes(heap, (const struct instance *)o, bytes);
    }
}

/* A free slot, of which the next generation is the one it has, waits behind the others. */
static void queue_slot(struct handle_table *table, uint32_t slot)
{
    entry_at(table, slot)->next = 0;
    if (table->waiting == 0) {
        table->first = slot;
    } else {
        entry_at(table, table->last)->next = slot;
    }
    table->last = slot;
    table->waiting++;
}

/* The slot is free. */
static void return_slot(struct heap *heap, struct handle_table *table, uint32_t slot)
{
    struct handle_entry *entry = entry_at(table, slot);
    entry->ref = 0;
    if (unlikely(heap->lasting.replays) || entry->generation == GENERATION_LAST) {
        return; /* for handle_requeue(), or retired */
    }
    entry->generation++;
    if (unlikely(entry->generation < table->generation_first)) {
        entry->generation = table->generation_first;
    }
    queue_slot(table, slot);
}

void handle_requeue(struct heap *heap)
{
    struct handle_table *table = heap->handles;
    table->waiting = 0;
    for (uint64_t slot = handle_next(heap, 1); slot <= table->used; slot = handle_next(heap, slot + 1)) {
        struct handle_entry *entry = entry_at(table, (uint32_t)slot);
        if (entry->ref == 0) {
            entry->generation = table->generation_first;
            queue_slot(table, (uint32_t)slot);
        }
    }
}

void heap_set_id_generations(struct heap *heap, uint32_t first, uint32_t end)
{
    GIL_ASSERT_HELD(heap);
    HEAP_ASSERT(first < end && end <= HEAP_GENERATION_END);
    heap->handles->generation_first = first;
    heap->handles->generation_end = end;
    heap->handles->wants_generations = false;
}

bool heap_wants_generations(const struct heap *heap)
{
    return heap->handles->wants_generations;
}

uint32_t handle_slot_if_any(const struct heap *heap, uint32_t ref)
{
    const struct object *o = object_at(heap, ref);
    if (!ref_is_atom(ref)) {
        return ((const struct container *)o)->handle;
    }
    return o->flags & FLAG_HANDLE ? *map32_find(&heap->handles->atoms, ref) : 0;
}

uint32_t handle_slot(struct heap *heap, uint32_t ref)
{
    uint32_t slot = handle_slot_if_any(heap, ref);
    if (likely(slot != 0)) {
        return slot;
    }
    struct object *o = object_at(heap, ref);
    uint32_t *atom_slot = NULL;
    visit_before_change(heap, ref);
    slot = handle_slot_if_any(heap, ref); /* the visit may have made one */
    if (slot != 0) {
        return slot;
    }
    if (unlikely(heap->lasting.is_on || heap->lasting.notes != HEAP_NOTES_NOTHING) && !lasting_may_give(heap, ref)) {
        return 0;
    }
    if (ref_is_atom(ref)) {
        atom_slot = map32_put(&heap->handles->atoms, ref);
        if (atom_slot == NULL) {
            return 0;
        }
    }
    slot = take_slot(heap);
    if (slot == 0) {
        map32_remove(&heap->handles->atoms, ref);
        return 0;
    }
    entry_at(heap->handles, slot)->ref = ref;
    if (atom_slot != NULL) {
        *atom_slot = slot;
        o->flags |= FLAG_HANDLE;
    } else {
        ((struct container *)o)->handle = slot;
    }
    if (!object_is_immortal(o)) {
        count_id(heap, o, 1);
    }
    if (unlikely(heap->lasting.notes != HEAP_NOTES_NOTHING)) {
        lasting_note(heap, id_of_slot(heap, slot));
    }
    return slot;
}

void handle_release(struct heap *heap, uint32_t ref)
{
    struct object *o = object_at(heap, ref);
    uint32_t slot = handle_slot_if_any(heap, ref);
    HEAP_ASSERT(slot != 0 && entry_at(heap->handles, slot)->ref == ref);
    HEAP_ASSERT(entry_at(heap->handles, slot)->roots == 0);
    if (ref_is_atom(ref)) {
        map32_remove(&heap->handles->atoms, ref);
        o->flags &= (uint8_t)~FLAG_HANDLE;
    } else {
        ((struct container *)o)->handle = 0;
    }
    return_slot(heap, heap->handles, slot);
    count_id(heap, o, -1);
}

uint32_t handle_ref(const struct heap *heap, uint32_t slot)
{
    return entry_at(heap->handles, slot)->ref;
}

uint32_t handle_count(const struct heap *heap)
{
    return heap->handles->used;
}

/* ---- roots ---- */

static bool slot_is_immortal(const struct heap *heap, uint32_t slot)
{
    return object_is_immortal(object_at(heap, handle_ref(heap, slot)));
}

void handle_root_add(struct heap *heap, uint32_t slot, uint32_t n)
{
    if (!slot_is_immortal(heap, slot)) {
        entry_at(heap->handles, slot)->roots += n;
    }
}

void handle_root_drop(struct heap *heap, uint32_t slot, uint32_t n)
{
    if (!slot_is_immortal(heap, slot)) {
        HEAP_ASSERT(entry_at(heap->handles, slot)->roots >= n);
        entry_at(heap->handles, slot)->roots -= n;
    }
}

uint32_t handle_roots(const struct heap *heap, uint32_t slot)
{
    return entry_at(heap->handles, slot)->roots;
}

/* ---- ids ---- */

enum heap_error heap_id(uint64_t *id, struct heap *heap, heap_ref obj)
{
    GIL_ASSERT_HELD(heap);
    uint32_t slot = handle_slot(heap, obj);
    if (unlikely(slot == 0)) {
        return HEAP_MEMORY;
    }
    *id = id_of_slot(heap, slot);
    return HEAP_OK;
}

uint64_t handle_id(const struct heap *heap, uint32_t ref)
{
    uint32_t slot = handle_slot_if_any(heap, ref);
    HEAP_ASSERT(slot != 0);
    return id_of_slot(heap, slot);
}

/* The entry that the id is, or was last, that of.  NULL: it is not. */
static inline const struct handle_entry *entry_of_id(const struct heap *heap, uint64_t id)
{
    uint32_t slot = (uint32_t)id;
    if (slot == 0 || slot > heap->handles->used) {
        return NULL;
    }
    const struct handle_entry *entry = entry_at(heap->handles, slot);
    return entry->generation == id >> 32 ? entry : NULL;
}

/* What an id names, whatever is dying. */
static inline uint32_t ref_of_id(const struct heap *heap, uint64_t id)
{
    const struct handle_entry *entry = entry_of_id(heap, id);
    return entry != NULL ? entry->ref : 0;
}

uint32_t handle_ref_of_id(const struct heap *heap, uint64_t id)
{
    return ref_of_id(heap, id);
}

bool handle_was_given(const struct heap *heap, uint64_t id)
{
    return entry_of_id(heap, id) != NULL;
}

heap_ref heap_find(struct heap *heap, uint64_t id)
{
    GIL_ASSERT_HELD(heap);
    uint32_t ref = ref_of_id(heap, id);
    return ref != 0 && !dying_decides(heap, ref) ? gc_meet(heap, ref) : 0;
}

uint32_t heap_refcount_of_id(const struct heap *heap, uint64_t id)
{
    GIL_ASSERT_HELD(heap);
    uint32_t ref = ref_of_id(heap, id);
    return ref != 0 ? object_at(heap, ref)->refcount : 0;
}

/* ---- checker ---- */

static bool ref_is_live(const struct heap *heap, uint32_t ref)
{
    return pymalloc_is_block(&heap->pm, ref, ref_is_atom(ref) ? POOL_ATOM : POOL_CONTAINER);
}

uint32_t handle_check(struct heap *heap, FILE *why)
{
    struct handle_table *table = heap->handles;
    uint32_t problems = 0, waiting = 0;
    for (uint64_t slot = handle_next(heap, 1); slot <= table->used; slot = handle_next(heap, slot + 1)) {
        const struct handle_entry *entry = entry_at(table, (uint32_t)slot);
        if (entry->ref == 0) {
            waiting += entry->generation != GENERATION_LAST;
        } else if (!ref_is_live(heap, entry->ref) || handle_slot_if_any(heap, entry->ref) != slot) {
            fprintf(why, "slot %" PRIu64 " of the handle table names %#x, which does not name it\n", slot, entry->ref);
            problems++;
        }
    }
    uint32_t queued = 0;
    for (uint32_t slot = table->waiting > 0 ? table->first : 0; slot != 0 && queued <= table->used;
         slot = entry_at(table, slot)->next) {
        queued++;
    }
    if (queued != table->waiting || waiting < queued) {
        fprintf(why, "the queue of free slots has %u, says %u, and %u slots are free\n", queued, table->waiting,
                waiting);
        problems++;
    }
    return problems + map32_check(&table->atoms, why);
}
