/* buffer.h -- bytes that wait to be sent: appended at the end, taken from the front. */
#ifndef HEAPD_SERVER_BUFFER_H
#define HEAPD_SERVER_BUFFER_H

#include <stdbool.h>
#include <stddef.h>

/* All zero: empty. */
struct buffer {
    char *data;     /* malloc'ed; NULL while room is 0 */
    size_t len;     /* bytes appended */
    size_t taken;   /* of them, from the front; <= len */
    size_t room;    /* bytes allocated */
    bool is_failed; /* something could not be appended for want of memory; stays */
};

void buffer_fini(struct buffer *buffer);
void buffer_bytes(struct buffer *buffer, const char *bytes, size_t n);
void buffer_text(struct buffer *buffer, const char *text);
void buffer_printf(struct buffer *buffer, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Room for n more bytes at data + len, which the caller fills and counts.  false: no memory. */
bool buffer_reserve(struct buffer *buffer, size_t n);
/* What has not been taken. */
static inline size_t buffer_left(const struct buffer *buffer)
{
    return buffer->len - buffer->taken;
}
/* The first n bytes are done with; memory goes back when nothing is left. */
void buffer_take(struct buffer *buffer, size_t n);

#endif
