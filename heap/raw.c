/* raw.c -- the raw layer: malloc and mapped.c, counted; buffers that may be either; tables.
 *
 * Callers say how large a block was when they give it back, so nothing is stored beside it and the
 * counters stay true.  Counted is what a block takes (pymalloc_raw_rounded()), not what was asked for.
 * Invariant: with a limit, (arenas, warm ones too) * 1 MiB + raw_bytes + table_bytes + waste_bytes <= max_bytes, unless
 * the limit was lowered later.
 * Locking: every function needs the GIL.
 */
#include "pymalloc_private.h"

#include <malloc.h>
#include <stdlib.h>

/* Freed bytes from which on malloc_trim(), which walks malloc's lists, is worth its time. */
#define TRIM_BYTES_MIN (1u << 20)

bool raw_fault_passed(struct pymalloc *pm)
{
#if HEAP_DEBUG >= 1
    if (pm->fail_after > 1) {
        pm->fail_after--;
    } else if (pm->fail_after == 1) {
        pm->fail_after = pm->fail_once ? 0 : 1;
        return false;
    }
#else
    (void)pm;
#endif
    return true;
}

/* Whether `more` bytes can come on top of what is taken. */
static bool limit_allows(const struct pymalloc *pm, uint64_t more)
{
    const struct pymalloc_private *p = pm->private;
    uint64_t arena_bytes = counter_read(&p->arenas) * ARENA_BYTES;
    uint64_t taken = arena_bytes + counter_read(&p->raw_bytes) + counter_read(&p->table_bytes);
    return pm->max_bytes == 0 || (taken <= pm->max_bytes && more <= pm->max_bytes - taken);
}

/* What has been given back and still takes memory. */
static uint64_t waiting_bytes(const struct pymalloc *pm)
{
    return counter_read(&pm->private->warm) * ARENA_BYTES + counter_read(&pm->private->waste_bytes);
}

bool raw_may_take(struct pymalloc *pm, uint64_t more)
{
    if (!raw_fault_passed(pm)) {
        return false;
    }
    /* What is only waiting for the kernel may have to go, and then what is kept for the next pool. */
    while (!limit_allows(pm, more + waiting_bytes(pm)) && pymalloc_release(pm)) {
    }
    if (!limit_allows(pm, more)) {
        arena_drop_empty(pm);
    }
    return limit_allows(pm, more);
}

/* ---- raw blocks and tables: both are the same, counted on different counters ---- */

static bool is_mapped(size_t bytes)
{
    return bytes >= MAPPED_BYTES_MIN;
}

static void *counted_alloc(struct pymalloc *pm, counter_u64 *bytes_counter, size_t bytes, bool zero)
{
    if (bytes > PTRDIFF_MAX || !raw_may_take(pm, pymalloc_raw_rounded(bytes))) {
        return NULL;
    }
    void *block = is_mapped(bytes) ? mapped_alloc(bytes) : zero ? calloc(1, bytes) : malloc(bytes);
    if (block != NULL) {
        counter_add(bytes_counter, pymalloc_raw_rounded(bytes));
    }
    return block;
}

static void uncounted_free(struct pymalloc *pm, void *block, size_t bytes)
{
    if (is_mapped(bytes)) {
        mapped_free(pm, block, bytes);
    } else {
        free(block);
        pm->private->malloc_freed += pymalloc_raw_rounded(bytes);
    }
}

/* realloc() from one of the two to the other. */
static void *move_across(struct pymalloc *pm, void *block, size_t old_bytes, size_t new_bytes)
{
    void *moved = is_mapped(new_bytes) ? mapped_alloc(new_bytes) : malloc(new_bytes);
    if (moved != NULL) {
        memcpy(moved, block, old_bytes < new_bytes ? old_bytes : new_bytes);
        uncounted_free(pm, block, old_bytes);
    }
    return moved;
}

static void *uncounted_realloc(struct pymalloc *pm, void *block, size_t old_bytes, size_t new_bytes)
{
    if (is_mapped(old_bytes) != is_mapped(new_bytes)) {
        return move_across(pm, block, old_bytes, new_bytes);
    }
    if (is_mapped(old_bytes)) {
        return mapped_realloc(pm, block, old_bytes, new_bytes);
    }
    void *moved = realloc(block, new_bytes);
    if (moved != NULL && new_bytes < old_bytes) {
        pm->private->malloc_freed += pymalloc_raw_rounded(old_bytes) - pymalloc_raw_rounded(new_bytes);
    }
    return moved;
}

static void *counted_realloc(struct pymalloc *pm, counter_u64 *bytes_counter, void *block, size_t old_bytes,
                             size_t new_bytes)
{
    uint64_t before = pymalloc_raw_rounded(old_bytes), after = pymalloc_raw_rounded(new_bytes);
    if (new_bytes > PTRDIFF_MAX || (after > before && !raw_may_take(pm, after - before))) {
        return NULL;
    }
    void *moved = uncounted_realloc(pm, block, old_bytes, new_bytes);
    if (moved != NULL) {
        counter_add(bytes_counter, after - before); /* modulo 2^64, so less is right too */
    }
    return moved;
}

static void counted_free(struct pymalloc *pm, counter_u64 *bytes_counter, void *block, size_t bytes)
{
    uncounted_free(pm, block, bytes);
    counter_sub(bytes_counter, pymalloc_raw_rounded(bytes));
}

void *pymalloc_raw_alloc(struct pymalloc *pm, size_t bytes)
{
    void *block = counted_alloc(pm, &pm->private->raw_bytes, bytes, false);
    if (block != NULL) {
        counter_add(&pm->private->raw_blocks, 1);
    }
    return block;
}

void *pymalloc_raw_realloc(struct pymalloc *pm, void *block, size_t old_bytes, size_t new_bytes)
{
    return counted_realloc(pm, &pm->private->raw_bytes, block, old_bytes, new_bytes);
}

void pymalloc_raw_free(struct pymalloc *pm, void *block, size_t bytes)
{
    counted_free(pm, &pm->private->raw_bytes, block, bytes);
    counter_sub(&pm->private->raw_blocks, 1);
}

void *pymalloc_table_alloc(struct pymalloc *pm, size_t bytes)
{
    return counted_alloc(pm, &pm->private->table_bytes, bytes, true);
}

/* Behind a table that has grown nothing but 0 is found from here on: a mapping adds pages, which are. */
static size_t dirty_end(size_t old_bytes, size_t new_bytes)
{
    if (!is_mapped(new_bytes)) {
        return new_bytes;
    }
    size_t end = is_mapped(old_bytes) ? pymalloc_raw_rounded(old_bytes) : old_bytes;
    return end < new_bytes ? end : new_bytes;
}

void *pymalloc_table_realloc(struct pymalloc *pm, void *table, size_t old_bytes, size_t new_bytes)
{
    if (table == NULL) {
        return pymalloc_table_alloc(pm, new_bytes);
    }
    char *moved = counted_realloc(pm, &pm->private->table_bytes, table, old_bytes, new_bytes);
    if (moved != NULL && new_bytes > old_bytes) {
        memset(moved + old_bytes, 0, dirty_end(old_bytes, new_bytes) - old_bytes);
    }
    return moved;
}

void pymalloc_table_free(struct pymalloc *pm, void *table, size_t bytes)
{
    if (table != NULL) {
        counted_free(pm, &pm->private->table_bytes, table, bytes);
    }
}

void pymalloc_table_to_raw(struct pymalloc *pm, size_t bytes)
{
    counter_sub(&pm->private->table_bytes, pymalloc_raw_rounded(bytes));
    counter_add(&pm->private->raw_bytes, pymalloc_raw_rounded(bytes));
    counter_add(&pm->private->raw_blocks, 1);
}

/* ---- malloc's free pages ---- */

/* 80 us a MiB, and none of the heap's affairs: so neither the holder of the GIL nor a thread that others wait for does
 * it. */
static void *trim_main(void *arg)
{
    struct pymalloc_private *p = arg;
    malloc_trim(0);
    atomic_store(&p->is_trimmed, true);
    return NULL;
}

void raw_trim(struct pymalloc *pm)
{
    struct pymalloc_private *p = pm->private;
    if (p->malloc_freed < TRIM_BYTES_MIN || (p->has_trimmer && !atomic_load(&p->is_trimmed))) {
        return; /* what is freed meanwhile counts the next time */
    }
    raw_fini(pm);
    p->malloc_freed = 0;
    atomic_store(&p->is_trimmed, false);
    p->has_trimmer = pthread_create(&p->trimmer, NULL, trim_main, p) == 0; /* failing is harmless */
}

void raw_fini(struct pymalloc *pm)
{
    if (pm->private->has_trimmer) {
        pthread_join(pm->private->trimmer, NULL);
        pm->private->has_trimmer = false;
    }
}

/* ---- buffers of any size ---- */

void *pymalloc_buffer_realloc(struct pymalloc *pm, void *buffer, size_t old_bytes, size_t new_bytes)
{
    bool was_raw = old_bytes > BLOCK_BYTES_MAX, is_raw = new_bytes > BLOCK_BYTES_MAX;
    if (was_raw && is_raw) {
        return pymalloc_raw_realloc(pm, buffer, old_bytes, new_bytes);
    }
    if (!was_raw && !is_raw && size_class(old_bytes) == size_class(new_bytes)) {
        return buffer;
    }
    void *moved = pymalloc_buffer_alloc(pm, new_bytes);
    if (moved != NULL) {
        memcpy(moved, buffer, old_bytes < new_bytes ? old_bytes : new_bytes);
        pymalloc_buffer_free(pm, buffer, old_bytes);
    }
    return moved;
}
