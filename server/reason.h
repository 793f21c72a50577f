/* reason.h -- why something failed, in words for a person.
 *
 * A function that can fail for reasons that a person must read takes a `struct reason` as its last
 * parameter, fills it with one sentence without a full stop, and returns false.
 */
#ifndef HEAPD_SERVER_REASON_H
#define HEAPD_SERVER_REASON_H

#include <stdbool.h>

#define REASON_BYTES 512u

struct reason {
    char text[REASON_BYTES]; /* ends in a NUL; meaningless unless a function has failed with it */
};

/* Sets the reason as printf does, cut where it is too long.  Always false, for `return reason_set(..)`. */
bool reason_set(struct reason *reason, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
