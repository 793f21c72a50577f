/* object.c -- headers, memory and references of objects; what every type has in common.
 *
 *   container   [ refcount type flags n | handle gc ][ body ... ]   16 bytes, then the type's own
 *   atom        [ refcount type flags n ][ payload ... ]             8 bytes, then the value
 *
 * A reference is 32 bits: the granule of the header, counted from the start of the reserved range; bit 31
 * tells atoms, so that the collector passes them over without touching them.  What does not fit a block
 * of 512 bytes has a stub of 16 or 32 bytes here and its payload in the raw layer.
 *
 * Life: create (refcount 1, owned by the caller) -> object_incref/object_decref -> object_death when the
 * count is 0.  Atoms are freed there and then; containers go to the dead list (dead.c); what has a finalizer
 * waits for it first (finalizer.c).
 *
 * Invariant: refcount == edges + names + holds + what running functions own just now.
 * Locking: the GIL for everything.   Checker: heap_check().
 * Start at object_container_create() and object_death().
 */
#include "visit.h"

/* ---- sizes ---- */

static uint32_t tuple_block_bytes(const struct tuple *t)
{
    if (t->head.head.flags & FLAG_OUT_OF_LINE) {
        return sizeof *t;
    }
    uint32_t bytes = (uint32_t)sizeof t->head + 4u * t->head.head.n;
    return bytes < sizeof *t ? (uint32_t)sizeof *t : bytes;
}

static uint32_t text_block_bytes(const struct text *t)
{
    if (text_is_long_bytes(t)) {
        return sizeof(struct long_bytes);
    }
    return t->head.flags & FLAG_OUT_OF_LINE ? (uint32_t)sizeof *t : TEXT_HEAD_BYTES + t->len;
}

static uint32_t bigint_block_bytes(const struct object *o)
{
    return o->flags & FLAG_OUT_OF_LINE ? (uint32_t)sizeof(struct bigint) : (uint32_t)sizeof *o + 4u * o->n;
}

/* object_block_bytes -- bytes the object asked its block for (the block is that, rounded up to 16). */
uint32_t object_block_bytes(const struct heap *heap, const struct object *o)
{
    switch ((enum heap_type)o->type) {
    case HEAP_T_NONE:
    case HEAP_T_BOOL:
    case HEAP_T_FLOAT:
        return sizeof(struct number);
    case HEAP_T_INT:
        return o->flags & FLAG_BIG ? bigint_block_bytes(o) : (uint32_t)sizeof(struct number);
    case HEAP_T_STR:
    case HEAP_T_BYTES:
        return text_block_bytes((const struct text *)o);
    case HEAP_T_TUPLE:
        return tuple_block_bytes((const struct tuple *)o);
    case HEAP_T_INSTANCE:
        return o->flags & FLAG_SLOTTED ? pymalloc_block_bytes(&heap->pm, object_ref(heap, o))
                                       : INSTANCE_HEAD_BYTES + 4u * o->n;
    case HEAP_T_LIST:
    case HEAP_T_DICT:
    case HEAP_T_SET:
    case HEAP_T_FROZENSET:
    case HEAP_T_CLASS:
        return 32;
    case HEAP_T_WEAKREF:
        return o->n == WEAKREF_NOTIFY ? sizeof(struct weakref_notify) : sizeof(struct weakref);
    case HEAP_T_COUNT:
        break;
    }
    heap_assert_failed("a known type", __FILE__, __LINE__);
}

/* The same; most objects are of a type whose block has one size. */
static inline uint32_t freed_bytes(const struct heap *heap, const struct object *o)
{
    static const uint8_t fixed_bytes[HEAP_T_COUNT] = {
        [HEAP_T_FLOAT] = sizeof(struct number),
        [HEAP_T_LIST] = sizeof(struct list),
        [HEAP_T_DICT] = sizeof(struct table),
        [HEAP_T_SET] = sizeof(struct table),
    };
    uint32_t fixed = fixed_bytes[o->type];
    return likely(fixed != 0) ? fixed : object_block_bytes(heap, o);
}

static uint64_t payload_bytes(const struct heap *heap, const struct object *o)
{
    (void)heap;
    switch ((enum heap_type)o->type) {
    case HEAP_T_LIST:
        return list_buffer_bytes((const struct list *)o);
    case HEAP_T_TUPLE:
        return tuple_buffer_bytes((const struct tuple *)o);
    case HEAP_T_DICT:
    case HEAP_T_SET:
    case HEAP_T_FROZENSET:
        return table_buffer_bytes((const struct table *)o);
    case HEAP_T_INSTANCE:
        return instance_buffer_bytes((const struct instance *)o);
    case HEAP_T_CLASS:
        return class_info_bytes((const struct class *)o);
    default: /* an atom or a weakref */
        break;
    }
    return o->flags & FLAG_OUT_OF_LINE ? pymalloc_buffer_rounded(atom_payload_bytes(o)) : 0;
}

uint64_t heap_sizeof(const struct heap *heap, heap_ref obj)
{
    GIL_ASSERT_HELD(heap);
    const struct object *o = object_at(heap, obj);
    uint64_t handle = handle_slot_if_any(heap, obj) != 0 && !object_is_immortal(o) ? HANDLE_BYTES : 0;
    return object_block_rounded(object_block_bytes(heap, o)) + payload_bytes(heap, o) + handle;
}

/* ---- memory ---- */

/* `ref` is the object's.  Returns the bytes that it asked for. */
static inline uint32_t count_freed(struct heap *heap, const struct object *o, uint32_t ref)
{
    uint32_t bytes = freed_bytes(heap, o);
    enum heap_type type = (enum heap_type)o->type;
    counter_add(&heap->freed, 1);
    counter_sub(&heap->type_objects[type], 1);
    counter_sub(&heap->type_bytes[type], object_block_rounded(bytes));
    heap->freed_pending++;
    if (unlikely(heap->marks != NULL)) {
        mark_died(heap, ref);
    }
    if (!ref_is_atom(ref)) {
        gc_count_freed(&heap->gc, 1);
    }
    return bytes;
}

uint32_t object_count_freed(struct heap *heap, const struct object *o)
{
    return count_freed(heap, o, object_ref(heap, o));
}

void object_block_free(struct heap *heap, struct object *o)
{
    uint32_t ref = object_ref(heap, o);
    uint32_t bytes = count_freed(heap, o, ref);
    if (ref_is_atom(ref)) {
        pymalloc_free(&heap->pm, POOL_ATOM, size_class(bytes), o);
    } else {
        pymalloc_free(&heap->pm, POOL_CONTAINER, size_class(bytes), o);
    }
}

/* So many objects of one type, whose blocks take so many bytes, are freed. */
static void count_run(struct heap *heap, enum heap_type type, uint32_t objects, uint64_t bytes)
{
    counter_add(&heap->freed, objects);
    counter_sub(&heap->type_objects[type], objects);
    counter_sub(&heap->type_bytes[type], bytes);
    heap->freed_pending += objects;
    gc_count_freed(&heap->gc, objects);
}

void object_free_containers(struct heap *heap, const uint32_t *refs, uint32_t count)
{
    uint32_t i = 0;
    while (i < count) {
        uint8_t type = object_at(heap, refs[i])->type;
        uint64_t bytes = 0;
        uint32_t from = i;
        for (; i < count && object_at(heap, refs[i])->type == type; i++) {
            struct object *o = object_at(heap, refs[i]);
            uint32_t asked = freed_bytes(heap, o);
            bytes += object_block_rounded(asked);
            if (unlikely(heap->marks != NULL)) {
                mark_died(heap, refs[i]);
            }
            pymalloc_free(&heap->pm, POOL_CONTAINER, size_class(asked), o);
        }
        count_run(heap, (enum heap_type)type, i - from, bytes);
    }
}

void *object_buffer_alloc(struct heap *heap, enum heap_type type, size_t bytes)
{
    void *buffer = pymalloc_buffer_alloc(&heap->pm, bytes);
    if (likely(buffer != NULL)) {
        counter_add(&heap->type_bytes[type], pymalloc_buffer_rounded(bytes));
    }
    return buffer;
}

void *object_buffer_realloc(struct heap *heap, enum heap_type type, void *buffer, size_t old_bytes,
                            size_t new_bytes)
{
    if (buffer == NULL) {
        return object_buffer_alloc(heap, type, new_bytes);
    }
    void *moved = pymalloc_buffer_realloc(&heap->pm, buffer, old_bytes, new_bytes);
    if (likely(moved != NULL)) {
        counter_add(&heap->type_bytes[type],
                    pymalloc_buffer_rounded(new_bytes) - pymalloc_buffer_rounded(old_bytes));
    }
    return moved;
}

void object_buffer_free(struct heap *heap, enum heap_type type, void *buffer, size_t bytes)
{
    if (buffer != NULL) {
        counter_sub(&heap->type_bytes[type], pymalloc_buffer_rounded(bytes));
        pymalloc_buffer_free(&heap->pm, buffer, bytes);
    }
}

/* ---- death ---- */

/* What the side tables have of a dying object goes.  false: it has a finalizer to wait for. */
static bool leave_tables(struct heap *heap, uint32_t ref, uint8_t flags)
{
    if ((flags & FLAG_FINALIZER) && finalizer_before_death(heap, ref)) {
        return false;
    }
    if (flags & FLAG_WEAKREF) {
        weakref_clear_all(heap, ref, NULL);
    }
    return true;
}

/* Out of line: most atoms have none of what is asked here.  false: it has a finalizer to wait for. */
static __attribute__((noinline)) bool atom_leave_tables(struct heap *heap, struct object *o)
{
    uint32_t ref = object_ref(heap, o);
    if (!leave_tables(heap, ref, o->flags)) {
        return false;
    }
    visit_before_death(heap, ref); /* which may give it an id */
    if (o->flags & FLAG_HANDLE) {
        handle_release(heap, ref);
    }
    return true;
}

static void atom_death(struct heap *heap, struct object *o)
{
    bool is_known = (o->flags & (FLAG_WEAKREF | FLAG_HANDLE)) != 0; /* what has a finalizer has an id */
    if (unlikely(is_known || heap->visit != NULL) && !atom_leave_tables(heap, o)) {
        return;
    }
    if (o->flags & (FLAG_INTERNED | FLAG_OUT_OF_LINE)) {
        atom_free_payload(heap, o);
    }
    object_block_free(heap, o);
}

/* A container leaves everything that could find it, and waits to be taken apart. */
static void container_death(struct heap *heap, struct container *c)
{
    uint32_t ref = object_ref(heap, c);
    if (unlikely(c->head.flags & (FLAG_WEAKREF | FLAG_FINALIZER)) && !leave_tables(heap, ref, c->head.flags)) {
        return;
    }
    visit_before_death(heap, ref); /* its children are there, whatever else is dying */
    if (c->handle != 0) {
        handle_release(heap, ref);
    }
    if (c->head.flags & FLAG_TRACKED) {
        gc_untrack(heap, c);
    }
    if (c->head.type == HEAP_T_WEAKREF) {
        weakref_unlink(heap, (struct weakref *)c);
    }
    if (unlikely(heap->gc.state != GC_IDLE)) {
        gc_forget(&heap->gc, ref);
    }
    dead_append(heap, c);
}

void object_death(struct heap *heap, uint32_t ref)
{
    if (ref_is_atom(ref)) {
        atom_death(heap, object_at(heap, ref));
    } else {
        container_death(heap, (struct container *)object_at(heap, ref));
    }
}

void object_clear(struct heap *heap, uint32_t ref)
{
    switch (object_at(heap, ref)->type) {
    case HEAP_T_LIST:
        heap_list_clear(heap, ref);
        break;
    case HEAP_T_DICT:
        heap_dict_clear(heap, ref);
        break;
    case HEAP_T_SET:
        heap_set_clear(heap, ref);
        break;
    case HEAP_T_INSTANCE:
        instance_clear(heap, ref);
        break;
    default: /* an atom, or a container that does not change */
        break;
    }
}

/* ---- the public face ---- */

enum heap_type heap_type(const struct heap *heap, heap_ref obj)
{
    return (enum heap_type)object_at(heap, obj)->type;
}

const char *heap_builtin_name(enum heap_type type)
{
    static const char *const names[HEAP_T_COUNT] = {
        [HEAP_T_NONE] = "NoneType",
        [HEAP_T_BOOL] = "bool",
        [HEAP_T_INT] = "int",
        [HEAP_T_FLOAT] = "float",
        [HEAP_T_STR] = "str",
        [HEAP_T_BYTES] = "bytes",
        [HEAP_T_LIST] = "list",
        [HEAP_T_TUPLE] = "tuple",
        [HEAP_T_DICT] = "dict",
        [HEAP_T_SET] = "set",
        [HEAP_T_FROZENSET] = "frozenset",
        [HEAP_T_CLASS] = "type",
        [HEAP_T_INSTANCE] = "instance",
        [HEAP_T_WEAKREF] = "weakref",
    };
    return names[type];
}

const char *heap_type_name(const struct heap *heap, heap_ref obj)
{
    enum heap_type type = heap_type(heap, obj);
    if (type == HEAP_T_INSTANCE) {
        return instance_class_name(heap, (const struct instance *)object_at(heap, obj));
    }
    return heap_builtin_name(type);
}

bool heap_is_container(const struct heap *heap, heap_ref obj)
{
    return !ref_is_atom(obj) && obj != heap->empty_tuple;
}

bool heap_is_immortal(const struct heap *heap, heap_ref obj)
{
    return object_is_immortal(object_at(heap, obj));
}

uint32_t heap_refcount(const struct heap *heap, heap_ref obj)
{
    GIL_ASSERT_HELD(heap);
    return object_at(heap, obj)->refcount;
}

enum heap_error heap_incref(struct heap *heap, heap_ref obj)
{
    GIL_ASSERT_HELD(heap);
    if (unlikely(object_is_full(object_at(heap, obj)))) {
        return HEAP_LIMIT_REFS;
    }
    object_incref(heap, obj);
    return HEAP_OK;
}

void heap_decref(struct heap *heap, heap_ref obj)
{
    GIL_ASSERT_HELD(heap);
    if (obj != 0) {
        object_decref(heap, obj);
    }
}
