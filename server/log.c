/* log.c -- the daemon's log: lines on stderr. */
#include "log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* A message of this length, each byte escaped, and its head still fit a pipe's atomic write of 4096. */
#define MESSAGE_BYTES 640u
#define LINE_BYTES 4096u
_Static_assert(6 * MESSAGE_BYTES + 128 <= LINE_BYTES, "a line holds any message");

static const char *level_word(enum log_level level)
{
    switch (level) {
#define X(value, word)                                                                                         \
    case value:                                                                                                \
        return word;
        LOG_LEVEL_MAP(X)
#undef X
    }
    return "?";
}

/* Now, as ISO 8601 in UTC with milliseconds. */
static void write_time(char *text, size_t size)
{
    struct timespec now;
    struct tm utc;
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &utc);
    size_t n = strftime(text, size, "%Y-%m-%dT%H:%M:%S", &utc);
    snprintf(text + n, size - n, ".%03dZ", (int)(now.tv_nsec / 1000000));
}

/* Appends the message with whatever could break the line, or a terminal, escaped as in JSON.  `quoted`:
 * it stands in a JSON string.  Returns the new length. */
static size_t append_escaped(char *line, size_t len, const char *message, bool quoted)
{
    for (const char *p = message; *p != '\0'; p++) {
        unsigned char byte = (unsigned char)*p;
        if (quoted && (byte == '"' || byte == '\\')) {
            line[len++] = '\\';
            line[len++] = *p;
        } else if (byte < 0x20 || byte >= 0x7f) {
            len += (size_t)snprintf(line + len, LINE_BYTES - len, "\\u%04x", byte);
        } else {
            line[len++] = *p;
        }
    }
    return len;
}

/* The whole of it, whatever signals come; what stderr does not take is lost. */
static void write_all(int fd, const char *line, size_t len)
{
    while (len > 0) {
        ssize_t n = write(fd, line, len);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return;
        }
        line += n;
        len -= (size_t)n;
    }
}

void log_write(const struct log *log, enum log_level level, const char *format, ...)
{
    if (level > log->level) {
        return;
    }
    char message[MESSAGE_BYTES], line[LINE_BYTES], when[64];
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    write_time(when, sizeof when);
    bool json = log->format == LOG_JSON;
    size_t len;
    if (json) {
        len = (size_t)snprintf(line, sizeof line, "{\"time\":\"%s\",\"level\":\"%s\",\"message\":\"", when,
                               level_word(level));
    } else {
        len = (size_t)snprintf(line, sizeof line, "%s %-7s ", when, level_word(level));
    }
    len = append_escaped(line, len, message, json);
    if (json) {
        line[len++] = '"';
        line[len++] = '}';
    }
    line[len++] = '\n';
    write_all(log->fd, line, len);
}
