/* shape.c -- shapes: the names that instances have in common, so that an instance is only values.
 *
 * Setting a new attribute moves an instance to the next shape; a map finds it from (shape, symbol).
 * Deleting one, or having more than SHARED_MAX, gives it a shape of its own, in which a deleted name
 * leaves a gap (symbol 0) and an index finds names once they are many.
 *
 * A shape lives while instances or longer shapes use it, and a class keeps some that nobody uses, so that
 * making and dropping one instance again and again costs no memory.
 *
 * Invariant: shape.users == instances of it + shapes that continue it.   Checker: class_check().
 * Start at shape_after().
 */
#include "edges.h"

#define SHAPES_KEPT 128u /* shapes of a class, above which one without users goes */
#define LEAVE_AT_ONCE 256u /* names of a shape that are dropped when it goes; of a larger one in slices */

static void shape_free(struct heap *heap, struct shape *shape)
{
    pymalloc_table_free(&heap->pm, shape->symbols, shape->room * sizeof *shape->symbols);
    map32_fini(&shape->index);
    pymalloc_table_free(&heap->pm, shape, sizeof *shape);
}

void shape_free_all(struct heap *heap)
{
    struct numbered *shapes = &heap->classes->shapes;
    for (uint32_t n = 1; n <= shapes->count; n++) {
        if (numbered_get(shapes, n) != NULL) {
            shape_free(heap, shape_at(heap, n));
        }
    }
    while (heap->classes->leaving != NULL) {
        struct shape *shape = heap->classes->leaving;
        heap->classes->leaving = shape->left;
        shape_free(heap, shape);
    }
    pymalloc_table_free(&heap->pm, shapes->entries, shapes->room * sizeof(void *));
}

uint32_t shape_find(const struct shape *shape, uint32_t symbol)
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

struct shape *shape_create(struct heap *heap, uint32_t class, uint32_t room)
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

void shape_destroy(struct heap *heap, struct shape *shape)
{
    struct class_info *info = info_of(heap, shape->class);
    if (shape->parent != 0) {
        transition_remove(heap, shape);
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
    if (shape->count > LEAVE_AT_ONCE) {
        shape->left = heap->classes->leaving;
        heap->classes->leaving = shape;
        atomic_store_explicit(&heap->work_pending, true, memory_order_relaxed);
    } else {
        for (uint32_t i = 0; i < shape->count; i++) {
            symbol_drop(heap, shape->symbols[i]);
        }
        shape_free(heap, shape);
    }
}

bool shape_leave_slice(struct heap *heap, struct slice *slice)
{
    struct class_table *table = heap->classes;
    while (table->leaving != NULL && !slice->is_over) {
        struct shape *shape = table->leaving;
        if (shape->count > 0) {
            symbol_drop(heap, shape->symbols[--shape->count]);
            slice_spend(slice, 1, 0);
        } else {
            table->leaving = shape->left;
            shape_free(heap, shape);
        }
    }
    return table->leaving == NULL;
}

/* What nobody uses goes when it is one instance's own, or when the class has many. */
void shape_drop(struct heap *heap, struct shape *shape)
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

struct shape *shape_after(struct heap *heap, struct shape *parent, uint32_t symbol)
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

struct shape *shape_copy_own(struct heap *heap, const struct shape *from)
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

bool shape_append(struct heap *heap, struct shape *shape, uint32_t symbol)
{
    if (!own_make_room(heap, shape)) {
        return false;
    }
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

void shape_make_gap(struct heap *heap, struct shape *shape, uint32_t position)
{
    map32_remove(&shape->index, shape->symbols[position]);
    symbol_drop(heap, shape->symbols[position]);
    shape->symbols[position] = 0;
    shape->gaps++;
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
                uint32_t at = ref + (uint32_t)__builtin_ctzll(bits);
                const struct object *o = object_at(heap, at);
                if (o->type == HEAP_T_INSTANCE && !gc_is_stripped(&heap->gc, at)) {
                    users[instance_shape((const struct instance *)o)]++;
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
