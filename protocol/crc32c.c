/* crc32c.c -- CRC-32C: the polynomial 0x1EDC6F41, reflected; begins and ends with all bits turned over. */
#include "crc32c.h"

#include <string.h>

/* The remainders of the sixteen half bytes. */
static const uint32_t REMAINDERS[16] = {
    0x00000000, 0x105ec76f, 0x20bd8ede, 0x30e349b1, 0x417b1dbc, 0x5125dad3, 0x61c69362, 0x7198540d,
    0x82f63b78, 0x92a8fc17, 0xa24bb5a6, 0xb21572c9, 0xc38d26c4, 0xd3d3e1ab, 0xe330a81a, 0xf36e6f75,
};

uint32_t crc32c_portable(const void *bytes, size_t len)
{
    const unsigned char *p = bytes;
    uint32_t crc = ~(uint32_t)0;
    for (; len > 0; len--, p++) {
        crc ^= *p;
        crc = crc >> 4 ^ REMAINDERS[crc & 15];
        crc = crc >> 4 ^ REMAINDERS[crc & 15];
    }
    return ~crc;
}

#if defined(__x86_64__)
__attribute__((target("sse4.2"))) static uint32_t crc32c_sse42(const void *bytes, size_t len)
{
    const unsigned char *p = bytes;
    uint64_t crc = ~(uint32_t)0, word;
    for (; len >= sizeof(word); len -= sizeof(word), p += sizeof(word)) {
        memcpy(&word, p, sizeof(word));
        crc = __builtin_ia32_crc32di(crc, word);
    }
    for (; len > 0; len--, p++) {
        crc = __builtin_ia32_crc32qi((uint32_t)crc, *p);
    }
    return ~(uint32_t)crc;
}

uint32_t crc32c(const void *bytes, size_t len)
{
    return __builtin_cpu_supports("sse4.2") ? crc32c_sse42(bytes, len) : crc32c_portable(bytes, len);
}
#else
uint32_t crc32c(const void *bytes, size_t len)
{
    return crc32c_portable(bytes, len);
}
#endif
