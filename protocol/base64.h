/* base64.h -- base64 of RFC 4648 section 4, strict: the standard alphabet, padding, nothing else.
 */
#ifndef HEAPD_PROTOCOL_BASE64_H
#define HEAPD_PROTOCOL_BASE64_H

#include <stdbool.h>
#include <stddef.h>

/* Bytes of text for n bytes of data. */
static inline size_t base64_encoded_len(size_t n)
{
    return (n / 3 + (n % 3 != 0)) * 4;
}

/* Writes base64_encoded_len(n) bytes to `text`. */
void base64_encode(char *text, const void *data, size_t n);

/* Decodes into `data`, which has room for len / 4 * 3 bytes, and says in *n how many it wrote; `data` may be
 * `text` itself.  false: not in the standard form (wrong characters, length, padding, or bits behind the end
 * that are not zero). */
bool base64_decode(void *data, size_t *n, const char *text, size_t len);

#endif
