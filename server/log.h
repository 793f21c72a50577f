/* log.h -- the daemon's log: lines on stderr.
 *
 *   text   2026-01-31T12:00:00.123Z info  listening on tcp:127.0.0.1:7411
 *   json   {"time":"2026-01-31T12:00:00.123Z","level":"info","message":"listening on tcp:127.0.0.1:7411"}
 *
 * A line is one write(2), so lines of several threads never mix and there is no lock.  A `struct log` does
 * not change once threads run.
 */
#ifndef HEAPD_SERVER_LOG_H
#define HEAPD_SERVER_LOG_H

/* Level and its word, most urgent first. */
#define LOG_LEVEL_MAP(X)                                                                                       \
    X(LOG_ERROR, "error")                                                                                      \
    X(LOG_WARNING, "warning")                                                                                  \
    X(LOG_INFO, "info")                                                                                        \
    X(LOG_DEBUG, "debug")

enum log_level {
#define X(level, word) level,
    LOG_LEVEL_MAP(X)
#undef X
};

enum log_format { LOG_TEXT, LOG_JSON };

struct log {
    _Atomic unsigned level; /* enum log_level; what is less urgent is not written */
    enum log_format format;
    int fd; /* where the lines go: 2, but for tests */
};

/* Writes a line as printf does, without a newline at its end.  A long message is cut; bytes that are no
 * printable ASCII are escaped.  Any thread. */
void log_write(const struct log *log, enum log_level level, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
