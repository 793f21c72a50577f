/* loop_memory.h -- libuv's memory. */
#ifndef HEAPD_SERVER_LOOP_MEMORY_H
#define HEAPD_SERVER_LOOP_MEMORY_H

/* Makes libuv take its memory here.  To be called before anything else of libuv, while there is one thread. */
void loop_memory_use(void);

#endif
