/* crc32c.h -- the checksum of a journal's lines: CRC-32C (Castagnoli), as in iSCSI, with the processor's own instruction
 * where it has one. */
#ifndef HEAPD_PROTOCOL_CRC32C_H
#define HEAPD_PROTOCOL_CRC32C_H

#include <stddef.h>
#include <stdint.h>

uint32_t crc32c(const void *bytes, size_t len);
/* The same without the instruction, for tests. */
uint32_t crc32c_portable(const void *bytes, size_t len);

#endif
