/* type_class.c -- classes: a name, and fixed slots or none.
 *
 * A class has no edges and no attributes of its own, so it dies when it is unnamed and without instances.
 * Locking: the GIL; the list of classes also under `stats_lock`, for heap_stats_classes().
 */
#include "shape.h"

/* ---- the table ---- */

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

void class_table_fini(struct heap *heap)
{
    struct class_table *table = heap->classes;
    if (table == NULL) {
        return;
    }
    symbol_free_all(heap);
    shape_free_all(heap);
    map32_fini(&table->symbol_by_hash);
    map32_fini(&table->transitions);
    pthread_mutex_destroy(&table->stats_lock);
    pymalloc_table_free(&heap->pm, table, sizeof *table);
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
        bool ok = shape_append(heap, root, symbol);
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
