/* turn.c -- the memory of one turn of a loop: a pointer that moves through large blocks. */
#include "turn.h"

#include <stdlib.h>

/* Large enough for the reads of a busy turn (64 KiB each) with the requests in them. */
#define BLOCK_BYTES (256u * 1024u)
/* Blocks that a turn keeps when it is emptied: what a busy loop fills again and again.  Memory that malloc gives back
 * to the system would cost a page fault every 15 requests. */
#define KEPT_BLOCKS 4u

struct turn_block *turn_block_create(size_t size)
{
    struct turn_block *block = turn_block_grow(NULL, size);
    if (block != NULL) {
        block->used = 0;
        block->next = NULL;
    }
    return block;
}

struct turn_block *turn_block_grow(struct turn_block *block, size_t size)
{
    struct turn_block *grown = size > SIZE_MAX / 2 ? NULL : realloc(block, sizeof(*block) + size + TURN_PADDING);
    if (grown != NULL) {
        grown->size = size;
    }
    return grown;
}

void turn_adopt(struct turn *turn, struct turn_block *block)
{
    block->next = turn->blocks->next;
    turn->blocks->next = block;
}

/* Puts a block with room for n bytes in front.  NULL: no memory. */
static struct turn_block *add_block(struct turn *turn, size_t n)
{
    struct turn_block *block = turn->spare;
    if (block != NULL && n <= BLOCK_BYTES) {
        turn->spare = block->next;
    } else {
        block = turn_block_create(n > BLOCK_BYTES ? n : BLOCK_BYTES);
        if (block == NULL) {
            return NULL;
        }
    }
    block->next = turn->blocks;
    turn->blocks = block;
    return block;
}

struct turn *turn_create(void)
{
    struct turn *turn = calloc(1, sizeof(*turn));
    if (turn == NULL) {
        return NULL;
    }
    turn->users = 1;
    if (add_block(turn, BLOCK_BYTES) == NULL) {
        free(turn);
        return NULL;
    }
    return turn;
}

static void free_blocks(struct turn_block *block)
{
    for (struct turn_block *next; block != NULL; block = next) {
        next = block->next;
        free(block);
    }
}

void turn_destroy(struct turn *turn)
{
    free_blocks(turn->blocks);
    free_blocks(turn->spare);
    free(turn);
}

void turn_reset(struct turn *turn)
{
    struct turn_block *kept = turn->spare, *next;
    unsigned count = 0;
    for (struct turn_block *block = kept; block != NULL; block = block->next) {
        count++;
    }
    for (struct turn_block *block = turn->blocks; block != NULL; block = next) {
        next = block->next;
        if (count < KEPT_BLOCKS && block->size == BLOCK_BYTES) {
            block->used = 0;
            block->next = kept;
            kept = block;
            count++;
        } else {
            free(block);
        }
    }
    /* The first block of every turn is of the usual size, so there is one to keep. */
    turn->blocks = kept;
    turn->spare = kept->next;
    kept->next = NULL;
    turn->users = 1;
}

void *turn_alloc(struct turn *turn, size_t n)
{
    struct turn_block *block = turn->blocks;
    size_t size = (n + 7) & ~(size_t)7;
    if (block->size - block->used < size) {
        block = add_block(turn, size);
        if (block == NULL) {
            return NULL;
        }
    }
    void *result = block->bytes + block->used;
    block->used += size;
    return result;
}

char *turn_reserve(struct turn *turn, size_t n, size_t *room)
{
    struct turn_block *block = turn->blocks;
    if (block->size - block->used < n) {
        block = add_block(turn, n);
        if (block == NULL) {
            return NULL;
        }
    }
    *room = block->size - block->used;
    return block->bytes + block->used;
}

void turn_commit(struct turn *turn, size_t n)
{
    struct turn_block *block = turn->blocks;
    size_t size = (n + 7) & ~(size_t)7;
    block->used = block->size - block->used < size ? block->size : block->used + size;
}
