/* alloc_called.h -- heap/'s allocator as functions that are called, for bench_alloc.c. */
#ifndef HEAPD_TESTS_ALLOC_CALLED_H
#define HEAPD_TESTS_ALLOC_CALLED_H

#include "../../heap/pymalloc.h"

/* A block of `bytes` > 0, or NULL; and back, with the same size. */
void *alloc_called(struct pymalloc *pm, size_t bytes);
void free_called(struct pymalloc *pm, void *block, size_t bytes);

#endif
