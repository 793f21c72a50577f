/* machine.h -- what the machine, or the control group that the daemon runs in, lets it have. */
#ifndef HEAPD_SERVER_MACHINE_H
#define HEAPD_SERVER_MACHINE_H

#include <stdint.h>

/* Bytes of memory: the smaller of the physical memory and the control group's limit; 0: unknown. */
uint64_t machine_memory_bytes(void);
/* Processors that this process may run on, at least 1. */
unsigned machine_cores(void);
/* Raises the number of files that may be open to `wanted` (0: as many as allowed), as far as the hard limit
 * allows.  Returns what it is now. */
uint64_t machine_raise_files(uint64_t wanted);

#endif
