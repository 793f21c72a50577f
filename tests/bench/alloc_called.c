/* alloc_called.c -- a file of its own, so that the compiler cannot inline the calls. */
#include "alloc_called.h"

void *alloc_called(struct pymalloc *pm, size_t bytes)
{
    return pymalloc_buffer_alloc(pm, bytes);
}

void free_called(struct pymalloc *pm, void *block, size_t bytes)
{
    pymalloc_buffer_free(pm, block, bytes);
}
