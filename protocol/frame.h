/* frame.h -- bytes into lines.
 *
 * The caller keeps the bytes of the unfinished line in one piece and passes them with what came after
 * them; frame.c says what is a line and never looks at a byte twice for its newline.
 */
#ifndef HEAPD_PROTOCOL_FRAME_H
#define HEAPD_PROTOCOL_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* What is known of the line that has not ended yet.  All zero: a connection that has sent nothing. */
struct frame {
    uint64_t lines;  /* lines that have ended, blank and dropped ones too */
    size_t searched; /* bytes of the unfinished line that hold no newline; 0 while dropping */
    bool dropping;   /* the unfinished line is over-long: its bytes go unseen until a newline */
};

enum frame_kind {
    FRAME_MORE,     /* no whole line is left */
    FRAME_LINE,     /* a line with something in it */
    FRAME_TOO_LONG, /* a line above the limit, told once, as soon as it is known */
};

struct frame_line {
    const char *text; /* without its end */
    size_t len;
    uint64_t number; /* of this connection, from 1 */
};

/* The next line of the `len` bytes at `data`, which begin where the unfinished line begins (or, while
 * dropping, anywhere in it).  `max`: longest line allowed, without its end; 0: any.  `eof`: nothing
 * comes after these bytes, so that what is left is a line.  *used says how many bytes are done with;
 * the caller goes on behind them.  After FRAME_MORE what is not used must be there again, at the front. */
enum frame_kind frame_next_of_any_kind(struct frame *frame, const char *data, size_t len, size_t max, bool eof,
                                       struct frame_line *line, size_t *used);

/* The same; in line for a whole line that begins with something, ends in a plain \n and was not searched before. */
static inline enum frame_kind frame_next(struct frame *frame, const char *data, size_t len, size_t max, bool eof,
                                         struct frame_line *line, size_t *used)
{
    if (len > 0 && (unsigned char)*data > ' ' && frame->searched == 0 && !frame->dropping) {
        const char *newline = memchr(data, '\n', len);
        size_t line_len = newline == NULL ? 0 : (size_t)(newline - data);
        if (newline != NULL && newline[-1] != '\r' && (max == 0 || line_len <= max)) {
            *line = (struct frame_line){.text = data, .len = line_len, .number = ++frame->lines};
            *used = line_len + 1;
            return FRAME_LINE;
        }
    }
    return frame_next_of_any_kind(frame, data, len, max, eof, line, used);
}

#endif
