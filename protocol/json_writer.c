/* json_writer.c -- growing the buffer, and strings with their escapes.
 *
 * Start at out_json_string(): it copies runs of bytes that need no escape, 16 at a time where the machine
 * has SSE2, and stops only at quotes, backslashes and control characters.
 */
#include "json_writer.h"

#include <stdlib.h>

#ifdef __SSE2__
#include <emmintrin.h>
#endif

#define OUT_ROOM_FIRST 256

void out_init(struct out *out, size_t max)
{
    *out = (struct out){.max = max};
}

void out_fini(struct out *out)
{
    free(out->data);
    *out = (struct out){.max = out->max};
}

bool out_grow(struct out *out, size_t n)
{
    if (out->failed) {
        return false;
    }
    if (n <= out->room - out->len) {
        return true;
    }
    size_t most = out->max ? out->max : SIZE_MAX / 2;
    if (out->len > most || n > most - out->len) {
        out->failed = out->too_long = true;
        return false;
    }
    size_t room = out->room < OUT_ROOM_FIRST ? OUT_ROOM_FIRST : out->room * 2;
    room = room < out->len + n ? out->len + n : room;
    room = room > most ? most : room;
    char *data = realloc(out->data, room);
    if (!data) {
        out->failed = true;
        return false;
    }
    out->data = data;
    out->room = room;
    return true;
}

void out_take_over(struct out *out, struct out *from)
{
    if (out->len > 0 || out->failed || out->max != from->max) {
        out_bytes(out, from->data, from->len);
        return;
    }
    struct out empty = *out;
    *out = *from;
    *from = empty;
}

/* ---- strings ---- */

static inline bool needs_escape(unsigned char c)
{
    return c < 0x20 || c == '"' || c == '\\';
}

/* How many bytes from `text` on need no escape. */
static size_t plain_run(const char *text, size_t len)
{
    size_t i = 0;
#ifdef __SSE2__
    for (; i + 16 <= len; i += 16) {
        __m128i bytes = _mm_loadu_si128((const __m128i *)(const void *)(text + i));
        __m128i control = _mm_cmpeq_epi8(_mm_max_epu8(bytes, _mm_set1_epi8(0x1f)), _mm_set1_epi8(0x1f));
        __m128i quote = _mm_cmpeq_epi8(bytes, _mm_set1_epi8('"'));
        __m128i backslash = _mm_cmpeq_epi8(bytes, _mm_set1_epi8('\\'));
        int stops = _mm_movemask_epi8(_mm_or_si128(_mm_or_si128(quote, backslash), control));
        if (stops) {
            return i + (size_t)__builtin_ctz((unsigned)stops);
        }
    }
#endif
    while (i < len && !needs_escape((unsigned char)text[i])) {
        i++;
    }
    return i;
}

/* Writes the escape of one byte; returns its length, at most 6. */
static size_t write_escape(char *buf, unsigned char c)
{
    static const char letters[] = "btn\0fr"; /* 8 to 13; 11 has no short form */
    buf[0] = '\\';
    if (c == '"' || c == '\\') {
        buf[1] = (char)c;
        return 2;
    }
    if (c >= '\b' && c <= '\r' && letters[c - '\b']) {
        buf[1] = letters[c - '\b'];
        return 2;
    }
    memcpy(buf + 1, "u00", 3);
    buf[4] = (char)('0' + (c >> 4));
    buf[5] = "0123456789abcdef"[c & 15];
    return 6;
}

void out_json_string(struct out *out, const char *text, size_t len)
{
    size_t start = out->len;
    out_char(out, '"');
    for (;;) {
        /* What is left, the escape that may follow the run, and the closing quote. */
        if (!out_reserve(out, len + 7)) {
            out->len = start;
            return;
        }
        size_t run = plain_run(text, len);
        memcpy(out->data + out->len, text, run);
        out->len += run;
        text += run;
        len -= run;
        if (len == 0) {
            break;
        }
        out->len += write_escape(out->data + out->len, (unsigned char)*text);
        text++;
        len--;
    }
    out->data[out->len++] = '"';
}
