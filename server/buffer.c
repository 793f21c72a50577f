/* buffer.c -- bytes that wait to be sent: appended at the end, taken from the front. */
#include "buffer.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The least that is allocated. */
#define ROOM_MIN 512u
/* A buffer above this is given back when it is empty: thousands of connections may be idle. */
#define KEEP_BYTES 4096u

void buffer_fini(struct buffer *buffer)
{
    free(buffer->data);
    *buffer = (struct buffer){0};
}

/* Moves what is left to the front when what was taken has become the larger part. */
static void compact(struct buffer *buffer)
{
    if (buffer->taken > buffer->len / 2) {
        memmove(buffer->data, buffer->data + buffer->taken, buffer_left(buffer));
        buffer->len -= buffer->taken;
        buffer->taken = 0;
    }
}

bool buffer_reserve(struct buffer *buffer, size_t n)
{
    if (buffer->is_failed) {
        return false;
    }
    compact(buffer);
    if (buffer->room - buffer->len >= n) {
        return true;
    }
    size_t room = buffer->room < ROOM_MIN ? ROOM_MIN : 2 * buffer->room;
    while (room - buffer->len < n) {
        room *= 2;
    }
    char *data = realloc(buffer->data, room);
    if (data == NULL) {
        buffer->is_failed = true;
        return false;
    }
    buffer->data = data;
    buffer->room = room;
    return true;
}

void buffer_bytes(struct buffer *buffer, const char *bytes, size_t n)
{
    if (n > 0 && buffer_reserve(buffer, n)) {
        memcpy(buffer->data + buffer->len, bytes, n);
        buffer->len += n;
    }
}

void buffer_text(struct buffer *buffer, const char *text)
{
    buffer_bytes(buffer, text, strlen(text));
}

void buffer_printf(struct buffer *buffer, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int n = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (n >= 0 && buffer_reserve(buffer, (size_t)n + 1)) {
        va_start(args, format);
        vsnprintf(buffer->data + buffer->len, (size_t)n + 1, format, args);
        va_end(args);
        buffer->len += (size_t)n;
    }
}

void buffer_take(struct buffer *buffer, size_t n)
{
    buffer->taken += n;
    if (buffer->taken < buffer->len) {
        return;
    }
    buffer->taken = buffer->len = 0;
    if (buffer->room > KEEP_BYTES) {
        free(buffer->data);
        buffer->data = NULL;
        buffer->room = 0;
    }
}
