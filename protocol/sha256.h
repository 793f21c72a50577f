/* sha256.h -- SHA-256 (FIPS 180-4), for what must be recognised and not told: a journal has the hash of a session's
 * token, so that who reads the file cannot resume the session. */
#ifndef HEAPD_PROTOCOL_SHA256_H
#define HEAPD_PROTOCOL_SHA256_H

#include <stddef.h>

#define SHA256_TEXT_BYTES 65
/* The hash in hex, with a NUL. */
void sha256_text(char text[SHA256_TEXT_BYTES], const void *bytes, size_t len);

#endif
