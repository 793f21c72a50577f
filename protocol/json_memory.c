/* json_memory.c -- jansson's memory, with a reserve for when malloc() has none.
 *
 * jansson leaves out of a document what it finds no memory for, unless each call is checked, and its reader ends the
 * process by an assertion when a token cannot grow.  So a small reserve stands in for malloc() where that fails, and
 * the thread remembers it: the document gets built, nobody sees it, and its request is a memory_error.
 *
 * The reserve is handed out from its start on, and is whole again when all of its blocks are back.
 *
 * Globals: jansson's allocator is one of the process, and so is what stands behind it.
 * Locking: a mutex, taken only in a shortage and by the free of a reserve's block.
 */
#include "json_memory.h"

#include <jansson.h>
#include <pthread.h>
#include <stdalign.h>
#include <stdint.h>
#include <stdlib.h>

#define RESERVE_BYTES 1048576u /* rpc.discover's document takes less */

static struct {
    pthread_mutex_t mutex;
    size_t used;   /* bytes handed out */
    size_t blocks; /* of them not yet back */
    alignas(16) char bytes[RESERVE_BYTES];
} reserve = {.mutex = PTHREAD_MUTEX_INITIALIZER};

static _Thread_local bool is_short;

static void *reserve_alloc(size_t bytes)
{
    void *block = NULL;
    bytes = (bytes + 15) & ~(size_t)15;
    pthread_mutex_lock(&reserve.mutex);
    if (bytes <= RESERVE_BYTES - reserve.used) {
        block = reserve.bytes + reserve.used;
        reserve.used += bytes;
        reserve.blocks++;
    }
    pthread_mutex_unlock(&reserve.mutex);
    return block;
}

static void reserve_free(void)
{
    pthread_mutex_lock(&reserve.mutex);
    if (--reserve.blocks == 0) {
        reserve.used = 0;
    }
    pthread_mutex_unlock(&reserve.mutex);
}

void *json_memory_alloc(size_t bytes)
{
    void *block = malloc(bytes);
    if (block == NULL) {
        is_short = true;
        block = reserve_alloc(bytes);
    }
    return block;
}

void json_memory_free(void *block)
{
    if (block != NULL && (uintptr_t)block - (uintptr_t)reserve.bytes < RESERVE_BYTES) {
        reserve_free();
    } else {
        free(block);
    }
}

bool json_memory_take_shortage(void)
{
    bool was_short = is_short;
    is_short = false;
    return was_short;
}

void json_memory_use(void)
{
    json_set_alloc_funcs(json_memory_alloc, json_memory_free);
}
