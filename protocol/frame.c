/* frame.c -- bytes into lines.
 *
 * A line ends with \n; one \r before it belongs to the end.  Blank lines are counted and skipped.  A line
 * above the limit is reported when its length is known to be too much, before its end has come, and the
 * rest of it is thrown away as it arrives: so memory stays bounded by the limit and the connection goes
 * on with the next line.
 *
 * The newline is searched with memchr from where the last search stopped: a NUL byte is a byte like any
 * other, and a line that comes one byte at a time is searched once.
 */
#include "frame.h"

#include <string.h>

static bool is_blank(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (text[i] != ' ' && text[i] != '\t' && text[i] != '\r') {
            return false;
        }
    }
    return true;
}

/* The line that ended: `len` bytes at `data`, without newline.  FRAME_MORE: it says nothing. */
static enum frame_kind finish_line(struct frame *frame, const char *data, size_t len, size_t max,
                                   struct frame_line *line)
{
    bool dropped = frame->dropping;
    frame->lines++;
    frame->searched = 0;
    frame->dropping = false;
    if (dropped) {
        return FRAME_MORE;
    }
    if (len > 0 && data[len - 1] == '\r') {
        len--;
    }
    line->text = data;
    line->len = len;
    line->number = frame->lines;
    if (max != 0 && len > max) {
        return FRAME_TOO_LONG;
    }
    return is_blank(data, len) ? FRAME_MORE : FRAME_LINE;
}

/* No newline in sight: keeps what may become a line, throws away what cannot. */
static enum frame_kind wait_for_more(struct frame *frame, const char *data, size_t len, size_t max,
                                     struct frame_line *line, size_t *used)
{
    if (frame->dropping) {
        *used += len;
        return FRAME_MORE;
    }
    /* One byte above the limit may be the \r of the line's end. */
    if (max != 0 && len > max && (len - 1 > max || data[len - 1] != '\r')) {
        frame->dropping = true;
        frame->searched = 0;
        *used += len;
        line->text = data;
        line->len = len;
        line->number = frame->lines + 1;
        return FRAME_TOO_LONG;
    }
    frame->searched = len;
    return FRAME_MORE;
}

enum frame_kind frame_next_of_any_kind(struct frame *frame, const char *data, size_t len, size_t max, bool eof,
                                       struct frame_line *line, size_t *used)
{
    *used = 0;
    while (*used < len) {
        const char *start = data + *used;
        size_t left = len - *used;
        const char *newline = memchr(start + frame->searched, '\n', left - frame->searched);
        if (newline == NULL && !eof) {
            return wait_for_more(frame, start, left, max, line, used);
        }
        size_t line_len = newline == NULL ? left : (size_t)(newline - start);
        *used += newline == NULL ? left : line_len + 1;
        enum frame_kind kind = finish_line(frame, start, line_len, max, line);
        if (kind != FRAME_MORE) {
            return kind;
        }
    }
    return FRAME_MORE;
}
