/* layers.c -- the six layers that memory comes through, with what each has given. */
#include "layers.h"

#include <malloc.h>
#include <stdio.h>
#include <unistd.h>

/* Pages of the process, virtual and resident; 0 where the kernel does not say. */
static void read_pages(uint64_t *virtual_pages, uint64_t *resident_pages)
{
    unsigned long long pages[2] = {0, 0};
    FILE *file = fopen("/proc/self/statm", "re");
    if (file != NULL) {
        if (fscanf(file, "%llu %llu", &pages[0], &pages[1]) != 2) {
            pages[0] = pages[1] = 0;
        }
        fclose(file);
    }
    *virtual_pages = pages[0];
    *resident_pages = pages[1];
}

/* How many mappings the process has. */
static uint64_t count_mappings(void)
{
    uint64_t count = 0;
    FILE *file = fopen("/proc/self/maps", "re");
    if (file != NULL) {
        for (int c = getc(file); c != EOF; c = getc(file)) {
            count += c == '\n';
        }
        fclose(file);
    }
    return count;
}

void layers_read(struct layer_figures layers[LAYER_COUNT], const struct heap_stats *heap)
{
    struct mallinfo2 malloc_figures = mallinfo2();
    uint64_t page_bytes = (uint64_t)sysconf(_SC_PAGESIZE), virtual_pages, resident_pages;
    read_pages(&virtual_pages, &resident_pages);
    layers[0] = (struct layer_figures){3, "object-specific", heap->bytes, heap->live};
    layers[1] = (struct layer_figures){2, "pymalloc", heap->block_bytes, heap->blocks};
    layers[2] = (struct layer_figures){1, "raw", heap->raw_bytes, heap->raw_blocks};
    /* malloc does not count its blocks; what it tells is how many it has mapped one by one. */
    layers[3] = (struct layer_figures){0, "malloc", malloc_figures.uordblks + malloc_figures.hblkhd,
                                       malloc_figures.hblks};
    layers[4] = (struct layer_figures){-1, "virtual", virtual_pages * page_bytes, count_mappings()};
    layers[5] = (struct layer_figures){-2, "resident", resident_pages * page_bytes, resident_pages};
}
