/* turn.h -- the memory of one turn of a loop.
 *
 *   turn   [ block 256 KiB: bytes read | requests | bytes read | requests .. ] -> [ block ] -> ..
 *
 * Everything that lives from the read of some bytes until their requests have run is carved from a turn
 * by moving a pointer, and goes in one step.  Connections read into the turn itself, so a request is
 * parsed where the kernel put it.
 *
 * A turn is counted: the thread holds the one it fills, and each connection with requests to run holds
 * the one they are in.  So a connection that rests keeps its requests while the thread goes on with a
 * fresh turn.  Only the thread that owns it uses it.
 */
#ifndef HEAPD_PROTOCOL_TURN_H
#define HEAPD_PROTOCOL_TURN_H

#include <stddef.h>
#include <stdint.h>

/* Bytes that are readable behind everything that was read: an end for a last line that has none, and
 * JSON_PADDING_BYTES for the scanner. */
#define TURN_PADDING 80u

struct turn_block {
    struct turn_block *next;
    size_t size, used; /* of bytes[]; used never counts the padding */
    _Alignas(16) char bytes[];
};

struct turn {
    uint32_t users;            /* the thread while it fills it, and connections with requests in it */
    struct turn_block *blocks; /* the one being filled first; never empty */
    struct turn_block *spare;  /* empty ones of the usual size */
    struct turn *next_idle;    /* on the thread's list of idle turns; meaningless while used */
};

/* A block of its own for bytes that outgrow a turn: the caller frees it, or gives it away.  NULL: no memory. */
struct turn_block *turn_block_create(size_t size);
/* The block with more room and what is in it; elsewhere, but a large one is not copied for that: the kernel moves its
 * pages (8 MiB took 4 ms).  NULL: no memory, and the block is as it was. */
struct turn_block *turn_block_grow(struct turn_block *block, size_t size);
/* The turn owns the block from here on. */
void turn_adopt(struct turn *turn, struct turn_block *block);

struct turn *turn_create(void); /* NULL: no memory.  One user. */
void turn_destroy(struct turn *turn);
/* Empties a turn that nobody uses and gives it one user again. */
void turn_reset(struct turn *turn);

/* n bytes, aligned to 8, that live as long as the turn; NULL: no memory. */
void *turn_alloc(struct turn *turn, size_t n);
/* Room for at least n bytes and the padding behind them, without taking it: the next turn_ call may take
 * it.  *room says how much there is. */
char *turn_reserve(struct turn *turn, size_t n, size_t *room);
/* Takes the first n bytes of what turn_reserve() gave. */
void turn_commit(struct turn *turn, size_t n);

#endif
