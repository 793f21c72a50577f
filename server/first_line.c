/* first_line.c -- does a connection speak HTTP?  Its first line says so. */
#include "first_line.h"

#include <string.h>

static bool starts_with_method(const struct first_line *line)
{
    static const char *const methods[] = {"GET ",     "HEAD ",  "POST ",    "PUT ",  "DELETE ",
                                          "OPTIONS ", "PATCH ", "CONNECT ", "TRACE "};
    for (size_t i = 0; i < sizeof methods / sizeof methods[0]; i++) {
        size_t len = strlen(methods[i]);
        if (line->head_len >= len && memcmp(line->head, methods[i], len) == 0) {
            return true;
        }
    }
    return false;
}

/* HTTP/1.1 or HTTP/2, with a \r behind it or not. */
static bool ends_with_version(const struct first_line *line)
{
    char tail[FIRST_LINE_TAIL + 1];
    size_t len = line->tail_len;
    memcpy(tail, line->tail, len);
    if (len > 0 && tail[len - 1] == '\r') {
        len--;
    }
    size_t version = len;
    while (version > 0 &&
           ((tail[version - 1] >= '0' && tail[version - 1] <= '9') || tail[version - 1] == '.')) {
        version--;
    }
    return version < len && version >= 5 && memcmp(tail + version - 5, "HTTP/", 5) == 0;
}

/* Keeps the last bytes of the line. */
static void keep_tail(struct first_line *line, const char *bytes, size_t n)
{
    if (n >= FIRST_LINE_TAIL) {
        memcpy(line->tail, bytes + n - FIRST_LINE_TAIL, FIRST_LINE_TAIL);
        line->tail_len = FIRST_LINE_TAIL;
        return;
    }
    size_t keep = line->tail_len + n <= FIRST_LINE_TAIL ? line->tail_len : FIRST_LINE_TAIL - n;
    memmove(line->tail, line->tail + line->tail_len - keep, keep);
    memcpy(line->tail + keep, bytes, n);
    line->tail_len = (unsigned char)(keep + n);
}

bool first_line_is_http(struct first_line *line, const char *bytes, size_t n)
{
    if (line->is_over) {
        return false;
    }
    const char *newline = memchr(bytes, '\n', n);
    size_t len = newline == NULL ? n : (size_t)(newline - bytes);
    size_t room = FIRST_LINE_HEAD - line->head_len, take = len < room ? len : room;
    memcpy(line->head + line->head_len, bytes, take);
    line->head_len = (unsigned char)(line->head_len + take);
    keep_tail(line, bytes, len);
    line->is_over = newline != NULL;
    return starts_with_method(line) || (line->is_over && ends_with_version(line));
}
