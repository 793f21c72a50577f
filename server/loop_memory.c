/* loop_memory.c -- libuv's memory, with a reserve for what it cannot do without.
 *
 * A loop has an array of what it watches, by file number.  When a file comes that is beyond its end libuv makes it twice
 * as long, and ends the process if there is no memory.  So where realloc() fails a reserve stands in for it.  It takes up
 * nothing until then, and has room for the arrays of four loops with 16,384 files.  All else that libuv takes is for calls
 * that can say that there was no memory.
 *
 * The reserve is handed out from its start on, and is whole again when all of its blocks are back.
 *
 * Globals: libuv's allocator is one of the process, and so is what stands behind it.
 * Locking: a mutex, taken only in a shortage and by the return of a reserve's block.
 */
#include "loop_memory.h"

#include <malloc.h>
#include <pthread.h>
#include <stdalign.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#define RESERVE_BYTES 1048576u

/* In front of each block of the reserve. */
struct head {
    alignas(16) size_t bytes; /* of the block */
};

static struct {
    pthread_mutex_t mutex;
    size_t used;   /* bytes handed out */
    size_t blocks; /* of them not yet back */
    alignas(16) char bytes[RESERVE_BYTES];
} reserve = {.mutex = PTHREAD_MUTEX_INITIALIZER};

static bool is_reserved(const void *block)
{
    return (uintptr_t)block - (uintptr_t)reserve.bytes < RESERVE_BYTES;
}

static void *reserve_alloc(size_t bytes)
{
    struct head *head = NULL;
    size_t whole = sizeof *head + ((bytes + 15) & ~(size_t)15);
    pthread_mutex_lock(&reserve.mutex);
    if (bytes < RESERVE_BYTES && whole <= RESERVE_BYTES - reserve.used) {
        head = (struct head *)(void *)(reserve.bytes + reserve.used);
        head->bytes = bytes;
        reserve.used += whole;
        reserve.blocks++;
    }
    pthread_mutex_unlock(&reserve.mutex);
    return head == NULL ? NULL : head + 1;
}

static void loop_free(void *block)
{
    if (block == NULL || !is_reserved(block)) {
        free(block);
        return;
    }
    pthread_mutex_lock(&reserve.mutex);
    if (--reserve.blocks == 0) {
        reserve.used = 0;
    }
    pthread_mutex_unlock(&reserve.mutex);
}

static size_t block_bytes(void *block)
{
    if (block == NULL) {
        return 0;
    }
    return is_reserved(block) ? ((struct head *)block)[-1].bytes : malloc_usable_size(block);
}

static void *loop_realloc(void *block, size_t bytes)
{
    void *moved = is_reserved(block) ? malloc(bytes) : realloc(block, bytes);
    if (moved != NULL && !is_reserved(block)) {
        return moved;
    }
    moved = moved != NULL ? moved : reserve_alloc(bytes);
    if (moved != NULL && block != NULL) {
        size_t old = block_bytes(block);
        memcpy(moved, block, old < bytes ? old : bytes);
        loop_free(block);
    }
    return moved;
}

void loop_memory_use(void)
{
    uv_replace_allocator(malloc, loop_realloc, calloc, loop_free);
}
