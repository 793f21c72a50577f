/* turn.c -- the memory of one turn of a loop: a pointer that moves through large blocks. */
#include "turn.h"

#include <stdlib.h>

/* Large enough for the reads of a busy turn (64 KiB each) with the requests in them. */
#define BLOCK_BYTES (256u * 1024u)

struct turn_block *turn_block_create(size_t size)
{
    if (size > SIZE_MAX / 2) {
        return NULL;
    }
    struct turn_block *block = malloc(sizeof(*block) + size + TURN_PADDING);
    if (block == NULL) {
        return NULL;
    }
    block->size = size;
    block->used = 0;
    block->next = NULL;
    return block;
}

void turn_adopt(struct turn *turn, struct turn_block *block)
{
    block->next = turn->blocks->next;
    turn->blocks->next = block;
}

/* Puts a block with room for n bytes in front.  NULL: no memory. */
static struct turn_block *add_block(struct turn *turn, size_t n)
{
    struct turn_block *block = turn_block_create(n > BLOCK_BYTES ? n : BLOCK_BYTES);
    if (block == NULL) {
        return NULL;
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

void turn_destroy(struct turn *turn)
{
    struct turn_block *next;
    for (struct turn_block *block = turn->blocks; block != NULL; block = next) {
        next = block->next;
        free(block);
    }
    free(turn);
}

void turn_reset(struct turn *turn)
{
    struct turn_block *keep = NULL, *next;
    for (struct turn_block *block = turn->blocks; block != NULL; block = next) {
        next = block->next;
        if (keep == NULL && block->size == BLOCK_BYTES) {
            keep = block;
        } else {
            free(block);
        }
    }
    /* The first block of every turn is of the usual size, so there is one to keep. */
    keep->next = NULL;
    keep->used = 0;
    turn->blocks = keep;
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
