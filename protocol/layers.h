/* layers.h -- the six layers that memory comes through, with what each has given, for `stats layers` and metrics. */
#ifndef HEAPD_PROTOCOL_LAYERS_H
#define HEAPD_PROTOCOL_LAYERS_H

#include "../heap/heap.h"

#define LAYER_COUNT 6u

struct layer_figures {
    int layer;        /* 3 to -2 */
    const char *name; /* static */
    uint64_t bytes, count;
};

/* Top first, as PROTOCOL section 4 lists them.  What the kernel does not say is 0.  GIL: either. */
void layers_read(struct layer_figures layers[LAYER_COUNT], const struct heap_stats *heap);

#endif
