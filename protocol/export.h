/* export.h -- writing a picture of the heap to a file in a format of other tools. */
#ifndef HEAPD_PROTOCOL_EXPORT_H
#define HEAPD_PROTOCOL_EXPORT_H

#include "../heap/heap.h"
#include "json_writer.h"

#include <stdio.h>

/* Where an export is written: a file behind a buffer, written outside the GIL. */
struct export_sink {
    int fd;
    struct out out;             /* what is not written yet */
    uint64_t bytes;             /* written */
    int error;                  /* errno of the first failure; 0: none.  What comes then is thrown away */
    const _Atomic bool *cancel; /* true: give up, which is an error ECANCELED */
};

/* Writes out what waits when it is much; false: it has failed, now or before. */
bool export_flush(struct export_sink *sink, bool everything);

/* Each writes the whole picture (of HEAP_PICTURE_LABELS); false: sink->error says why. */
bool export_heapsnapshot(struct export_sink *sink, const struct heap_picture *picture);
bool export_dot(struct export_sink *sink, const struct heap_picture *picture);
bool export_jsonl(struct export_sink *sink, const struct heap_picture *picture);

#endif
