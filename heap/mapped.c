/* mapped.c -- raw blocks of a mebibyte and more: mappings of their own, given back to the kernel a piece at a time.
 *
 *   in use   [ ................................ ]
 *   waste    [ next, bytes | ......... | piece  ]    freed; unmapped from its end, a piece a call
 *
 * Giving 40 MiB to the kernel takes 3 ms, which is more than whoever frees a block may spend with the GIL.  So what
 * is freed, or cut off where a block shrinks, only goes to a list, and mapped_release() unmaps MAPPED_PIECE_BYTES
 * (70 us).  Growing moves page tables and no bytes.  malloc would do neither: it frees at once, and a block that it
 * has taken from its own heap is copied and cleared by hand.
 *
 * Under AddressSanitizer no block is that large: malloc knows more about misuse.
 * Invariant: waste_bytes is the sum over the list.   Checker: mapped_check().
 * Locking: every function needs the GIL.
 */
#include "pymalloc_private.h"

#include <sys/mman.h>

#define MAPPED_PIECE_BYTES 1048576u

/* At the beginning of each piece of waste. */
struct waste {
    struct waste *next;
    size_t bytes; /* a multiple of MAPPED_ROUND_BYTES */
};

static void waste_add(struct pymalloc *pm, void *address, size_t bytes)
{
    struct waste *waste = address;
    *waste = (struct waste){.next = pm->private->waste, .bytes = bytes};
    pm->private->waste = waste;
    counter_add(&pm->private->waste_bytes, bytes);
}

void *mapped_alloc(size_t bytes)
{
    void *block = mmap(NULL, pymalloc_raw_rounded(bytes), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return block != MAP_FAILED ? block : NULL;
}

void *mapped_realloc(struct pymalloc *pm, void *block, size_t old_bytes, size_t new_bytes)
{
    size_t before = pymalloc_raw_rounded(old_bytes), after = pymalloc_raw_rounded(new_bytes);
    if (after < before) {
        waste_add(pm, (char *)block + after, before - after);
    }
    if (after <= before) {
        return block;
    }
    void *moved = mremap(block, before, after, MREMAP_MAYMOVE);
    return moved != MAP_FAILED ? moved : NULL;
}

void mapped_free(struct pymalloc *pm, void *block, size_t bytes)
{
    waste_add(pm, block, pymalloc_raw_rounded(bytes));
}

bool mapped_release(struct pymalloc *pm)
{
    struct waste *waste = pm->private->waste;
    if (waste == NULL) {
        return false;
    }
    size_t left = (waste->bytes - 1) / MAPPED_PIECE_BYTES * MAPPED_PIECE_BYTES, piece = waste->bytes - left;
    if (left == 0) {
        pm->private->waste = waste->next;
    } else {
        waste->bytes = left;
    }
    counter_sub(&pm->private->waste_bytes, piece);
    if (munmap((char *)waste + left, piece) != 0) {
        madvise((char *)waste + left, piece, MADV_DONTNEED); /* too many mappings; the pages at least can go */
    }
    return true;
}

uint32_t mapped_check(const struct pymalloc *pm, FILE *why)
{
    uint64_t bytes = 0, counted = counter_read(&pm->private->waste_bytes);
    for (const struct waste *waste = pm->private->waste; waste != NULL && bytes <= counted; waste = waste->next) {
        bytes += waste->bytes;
    }
    if (bytes != counted) {
        fprintf(why, "%llu bytes of freed mappings, counted: %llu\n", (unsigned long long)bytes,
                (unsigned long long)counted);
    }
    return bytes != counted;
}
