/* json_memory.h -- jansson's memory: documents that lack something for want of memory do not pass for whole. */
#ifndef HEAPD_PROTOCOL_JSON_MEMORY_H
#define HEAPD_PROTOCOL_JSON_MEMORY_H

#include <stdbool.h>
#include <stddef.h>

/* Makes jansson take its memory here; once a process, before any document.  Any thread. */
void json_memory_use(void);
/* What jansson calls then. */
void *json_memory_alloc(size_t bytes);
void json_memory_free(void *block);
/* Whether malloc() had nothing for a document of this thread since this was asked last. */
bool json_memory_take_shortage(void);

#endif
