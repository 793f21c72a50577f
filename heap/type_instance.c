/* type_instance.c -- instances: values in the order of their shape's names.
 *
 *   [ header, n | shape | value value value ... ]          n values fit the block
 *   [ header, FLAG_OUT_OF_LINE | shape | room | values* ]   once they did not
 *   [ header, FLAG_SLOTTED, n = shape | value value ... ]  class with slots, which are all there will ever be
 *
 * A class with slots has one shape with all of them; a value of 0 is a slot that is not set.  Otherwise
 * each new attribute moves the instance to a longer shape (shape.c).
 * Start at heap_attr_set_steal().
 */
#include "edges.h"
#include "visit.h"

#define ROOM_HINT_MAX 31u /* attributes that new instances of a class get room for, if others had them */
/* Attributes that an instance with a __dict__ gets room for beyond those, since it may get others at any time and
 * its block cannot grow.  It is what slots save: at least a granule an instance. */
#define ROOM_SPARE 3u
#define ROOM_LEAST 7u /* what a block of 48 bytes has: attributes mostly come after the instance */

/* ---- instances: layout ---- */

static struct instance *instance_at(const struct heap *heap, heap_ref ref)
{
    struct instance *i = (struct instance *)object_at(heap, ref);
    HEAP_ASSERT(i->head.head.type == HEAP_T_INSTANCE);
    return i;
}

static inline uint32_t room_of(const struct instance *i)
{
    return instance_is_outside(i) ? i->u.out.room : i->head.head.n;
}

uint64_t instance_buffer_bytes(const struct instance *i)
{
    return instance_is_outside(i) ? pymalloc_buffer_rounded((size_t)i->u.out.room * 4) : 0;
}

void instance_count_bytes(struct heap *heap, const struct instance *i, int64_t bytes)
{
    counter_add(&info_of(heap, shape_at(heap, instance_shape(i))->class)->bytes, (uint64_t)bytes);
}

static uint64_t instance_bytes(const struct heap *heap, const struct instance *i)
{
    return ((object_block_bytes(heap, &i->head.head) + 15u) & ~15u) + instance_buffer_bytes(i);
}

/* Gives values and shape back.  The class lives: the instance's edge to it is dropped after this. */
void instance_free_buffers(struct heap *heap, struct instance *i)
{
    struct shape *shape = shape_at(heap, instance_shape(i));
    struct class_info *info = info_of(heap, shape->class);
    counter_sub(&info->objects, 1);
    counter_sub(&info->bytes, instance_bytes(heap, i));
    if (instance_is_outside(i)) {
        object_buffer_free(heap, HEAP_T_INSTANCE, i->u.out.values, (size_t)i->u.out.room * 4);
        i->u.out.values = NULL;
        i->u.out.room = 0;
    }
    shape_drop(heap, shape);
}

const char *instance_class_name(const struct heap *heap, const struct instance *i)
{
    return info_of(heap, shape_at(heap, instance_shape(i))->class)->text;
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
    if (!instance_is_outside(i)) {
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

/* Where there is a journal, with its id: only now, because that counts in the bytes of its class. */
static struct instance *with_id(struct heap *heap, struct instance *i, uint32_t bytes)
{
    if (unlikely(heap->lasting.is_on) && i != NULL) {
        i = (struct instance *)lasting_container(heap, &i->head, bytes);
    }
    return i;
}

/* An instance with slots, which needs no room to grow.  NULL: no memory. */
static struct instance *create_slotted(struct heap *heap, const struct shape *root)
{
    uint32_t bytes = (uint32_t)sizeof(struct container) + 4 * root->count;
    struct instance *i = (struct instance *)object_stub_create(heap, HEAP_T_INSTANCE, bytes);
    if (i != NULL) {
        i->head.head.flags = FLAG_SLOTTED;
        i->head.head.n = (uint16_t)root->number;
    }
    return with_id(heap, i, bytes);
}

/* An instance of the root shape with room for `wanted` values, or for three when so many do not fit a block, and
 * some more if there is any.  NULL: no memory. */
static struct instance *create_growing(struct heap *heap, const struct shape *root, uint32_t wanted, uint32_t spare)
{
    uint32_t inside = 3, more = wanted + spare;
    if (wanted <= INSTANCE_INSIDE_MAX) {
        more = spare > 0 && more < ROOM_LEAST ? ROOM_LEAST : more;
        inside = inside_room(more <= INSTANCE_INSIDE_MAX ? more : INSTANCE_INSIDE_MAX);
    }
    uint32_t bytes = INSTANCE_HEAD_BYTES + 4 * inside;
    struct instance *i = (struct instance *)object_stub_create(heap, HEAP_T_INSTANCE, bytes);
    if (i != NULL) {
        i->head.head.n = (uint16_t)inside;
        i->u.in.shape = root->number;
    }
    return with_id(heap, i, bytes);
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
    bool is_slotted = info->has_slots && root->count <= INSTANCE_SLOTS_MAX && root->number <= UINT16_MAX;
    struct instance *i = is_slotted ? create_slotted(heap, root) : create_growing(heap, root, wanted, info->has_slots ? 0 : ROOM_SPARE);
    if (i == NULL) {
        return HEAP_MEMORY;
    }
    root->users++;
    counter_add(&info->objects, 1);
    counter_add(&info->bytes, instance_bytes(heap, i));
    object_incref(heap, class);
    if ((!is_slotted && !values_make_room(heap, i, wanted)) || !gc_track(heap, &i->head)) {
        object_decref(heap, object_ref(heap, i));
        return HEAP_MEMORY;
    }
    *instance = object_ref(heap, i);
    return HEAP_OK;
}

heap_ref heap_instance_class(const struct heap *heap, heap_ref instance)
{
    return shape_at(heap, instance_shape(instance_at(heap, instance)))->class;
}

/* ---- attributes ---- */

/* Where a name is among the values; HEAP_ATTR for a name that is no slot, NOT_FOUND if it is not set. */
static enum heap_error attr_position(uint32_t *position, struct heap *heap, const struct instance *i,
                                     const char *name, size_t len)
{
    const struct shape *shape = shape_at(heap, instance_shape(i));
    uint32_t symbol = symbol_find(heap, name, len);
    *position = symbol != 0 ? shape_find(shape, symbol) : NOT_FOUND;
    if (*position != NOT_FOUND) {
        return HEAP_OK;
    }
    if (symbol == 0 && !symbol_is_identifier(name, len)) {
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
        *value = position != NOT_FOUND ? instance_values(i)[position] : 0;
    }
    return error;
}

/* The instance gets the shape that has `symbol` too; room for its value is there. */
static bool shape_advance(struct heap *heap, struct instance *i, uint32_t symbol)
{
    struct shape *shape = shape_at(heap, instance_shape(i));
    if (!shape->own && shape->count < SHARED_MAX) {
        struct shape *longer = shape_after(heap, shape, symbol);
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
    return shape_append(heap, own, symbol);
}

static enum heap_error attr_add(struct heap *heap, struct instance *i, const char *name, size_t len, heap_ref value)
{
    uint32_t symbol;
    enum heap_error error = symbol_take(&symbol, heap, name, len);
    if (error != HEAP_OK) {
        return error;
    }
    uint32_t position = shape_at(heap, instance_shape(i))->count;
    if (!values_make_room(heap, i, position + 1) || !shape_advance(heap, i, symbol)) {
        symbol_drop(heap, symbol);
        return HEAP_MEMORY;
    }
    symbol_drop(heap, symbol);
    instance_values(i)[position] = value;
    struct class_info *info = info_of(heap, shape_at(heap, instance_shape(i))->class);
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
    visit_before_change(heap, instance);
    uint32_t position;
    enum heap_error error = attr_position(&position, heap, i, name, len);
    if (error == HEAP_OK && position != NOT_FOUND) {
        uint32_t old = instance_values(i)[position];
        instance_values(i)[position] = value;
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
static void own_compact(struct heap *heap, struct instance *i, struct shape *shape)
{
    uint32_t *values = instance_values(i), kept = 0;
    for (uint32_t k = 0; k < shape->count; k++) {
        if (shape->symbols[k] != 0) {
            shape->symbols[kept] = shape->symbols[k];
            gc_before_move(heap, object_ref(heap, i), k, kept, values[k]);
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
    struct shape *shape = shape_at(heap, instance_shape(i));
    if (!shape->own) {
        struct shape *own = shape_copy_own(heap, shape);
        if (own == NULL) {
            return HEAP_MEMORY;
        }
        i->u.in.shape = own->number;
        shape_drop(heap, shape);
        shape = own;
    }
    shape_make_gap(heap, shape, position);
    uint32_t old = instance_values(i)[position];
    instance_values(i)[position] = 0;
    if (shape->gaps > shape->count / 2) {
        own_compact(heap, i, shape);
    }
    object_decref(heap, old);
    return HEAP_OK;
}

enum heap_error heap_attr_del(struct heap *heap, heap_ref instance, const char *name, size_t len)
{
    GIL_ASSERT_HELD(heap);
    struct instance *i = instance_at(heap, instance);
    visit_before_change(heap, instance);
    uint32_t position;
    enum heap_error error = attr_position(&position, heap, i, name, len);
    if (error != HEAP_OK) {
        return error;
    }
    if (position == NOT_FOUND || instance_values(i)[position] == 0) {
        return HEAP_ATTR;
    }
    if (!info_of(heap, shape_at(heap, instance_shape(i))->class)->has_slots) {
        return attr_remove(heap, i, position);
    }
    uint32_t old = instance_values(i)[position];
    instance_values(i)[position] = 0;
    object_decref(heap, old);
    return HEAP_OK;
}

/* Values that have become many go to the dead, with their buffer.  false: they are few, or there is no memory. */
static bool values_take_away(struct heap *heap, struct instance *i, uint32_t count)
{
    if (!instance_is_outside(i) || !dead_take_buffer(heap, i->u.out.values, count, i->u.out.room)) {
        return false;
    }
    uint64_t bytes = instance_buffer_bytes(i);
    instance_count_bytes(heap, i, -(int64_t)bytes);
    counter_sub(&heap->type_bytes[HEAP_T_INSTANCE], bytes);
    i->u.out.values = NULL;
    i->u.out.room = 0;
    return true;
}

void instance_clear(struct heap *heap, heap_ref instance)
{
    struct instance *i = instance_at(heap, instance);
    struct shape *shape = shape_at(heap, instance_shape(i));
    const struct class_info *info = info_of(heap, shape->class);
    uint32_t count = shape->count;
    visit_before_change(heap, instance);
    bool is_taken = !info->has_slots && values_take_away(heap, i, count);
    if (!info->has_slots) { /* back to the shape without names; the values keep their room */
        shape_at(heap, info->root)->users++;
        i->u.in.shape = info->root;
        shape_drop(heap, shape);
    }
    uint32_t *values = instance_values(i);
    for (uint32_t k = 0; k < count && !is_taken; k++) {
        uint32_t old = values[k];
        values[k] = 0;
        heap_decref(heap, old);
    }
}

bool heap_attr_next(const struct heap *heap, heap_ref instance, uint32_t *pos, const char **name, heap_ref *value)
{
    struct instance *i = instance_at(heap, instance);
    const struct shape *shape = shape_at(heap, instance_shape(i));
    for (uint32_t k = *pos; k < shape->count; k++) {
        if (instance_values(i)[k] != 0) {
            *name = symbol_at(heap, shape->symbols[k])->text;
            *value = instance_values(i)[k];
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
