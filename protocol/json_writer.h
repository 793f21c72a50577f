/* json_writer.h -- a growing byte buffer, and JSON written into it.
 *
 * Replies are written here without any document tree.  A call that cannot get memory, or needs more room
 * than `max`, sets `failed` and appends nothing; all later calls do nothing until out_truncate() forgets
 * what came after a known good point.  So a writer checks once, at its end.
 *
 * Invariant: len <= room, and room <= max where there is one; data[0..len) is what was written.
 * Locking: none, a buffer has one owner.
 */
#ifndef HEAPD_PROTOCOL_JSON_WRITER_H
#define HEAPD_PROTOCOL_JSON_WRITER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "number.h"

struct out {
    char *data;    /* from realloc(); NULL while room is 0 */
    size_t len;    /* bytes written */
    size_t room;   /* bytes allocated */
    size_t max;    /* the room never grows beyond this; 0: no limit */
    bool failed;   /* something could not be appended */
    bool too_long; /* why it failed: `max`, not memory */
};

/* An empty buffer; allocates nothing. */
void out_init(struct out *out, size_t max);
void out_fini(struct out *out);

/* Grows the room so that n more bytes fit; the slow path of out_reserve(). */
bool out_grow(struct out *out, size_t n);

/* Room for n more bytes at data + len.  false: the buffer has failed. */
static inline bool out_reserve(struct out *out, size_t n)
{
    return (!out->failed && n <= out->room - out->len) || out_grow(out, n);
}

/* Forgets everything behind the first `len` bytes, a failure included. */
static inline void out_truncate(struct out *out, size_t len)
{
    out->len = len;
    out->failed = false;
    out->too_long = false;
}

static inline void out_bytes(struct out *out, const char *bytes, size_t n)
{
    if (out_reserve(out, n)) {
        memcpy(out->data + out->len, bytes, n);
        out->len += n;
    }
}

/* Many small pieces in a row are written by hand: `char *p = out_room(out, n)`, at most n bytes from p on,
 * `out_take(out, p)` with the end.  NULL: the buffer has failed. */
static inline char *out_room(struct out *out, size_t n)
{
    return out_reserve(out, n) ? out->data + out->len : NULL;
}
static inline void out_take(struct out *out, const char *end)
{
    out->len = (size_t)(end - out->data);
}
/* Appends what `from` has; that may get the memory of `out` in exchange for its own. */
void out_take_over(struct out *out, struct out *from);
/* A constant at p; returns its end. */
#define OUT_PUT(p, constant) ((char *)memcpy((p), "" constant, sizeof(constant) - 1) + sizeof(constant) - 1)

/* A NUL-terminated text as it stands; for constants the length is known to the compiler. */
static inline void out_text(struct out *out, const char *text)
{
    out_bytes(out, text, strlen(text));
}

static inline void out_char(struct out *out, char c)
{
    if (out_reserve(out, 1)) {
        out->data[out->len++] = c;
    }
}

static inline void out_u64(struct out *out, uint64_t value)
{
    if (out_reserve(out, NUMBER_TEXT_MAX)) {
        out->len += number_write_u64(out->data + out->len, value);
    }
}

static inline void out_i64(struct out *out, int64_t value)
{
    if (out_reserve(out, NUMBER_TEXT_MAX)) {
        out->len += number_write_i64(out->data + out->len, value);
    }
}

/* A finite double in the fewest digits that read back as it: 1.1, 1.0, 1e+16, -0.0, 5e-324. */
static inline void out_double(struct out *out, double value)
{
    if (out_reserve(out, NUMBER_TEXT_MAX)) {
        out->len += number_write_double(out->data + out->len, value);
    }
}

/* The JSON string, quotes included, of valid UTF-8 text (NUL allowed).  Quotes, backslashes and control
 * characters are escaped, all else is copied. */
void out_json_string(struct out *out, const char *text, size_t len);

#endif
