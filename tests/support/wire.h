/* wire.h -- one raw connection to a daemon, over TCP or its Unix socket, on libcurl.
 *
 * Bytes go out as they are and lines come in as they are; nothing here knows requests but wire_expect()
 * and wire_call().  Whatever goes wrong fails the running cmocka test, with the lines in question.
 * A conversation reads like this (' stands for " where the name ends in `expect`; see match.h):
 *
 *     wire_expect(wire, "{'id':1,'method':'create','params':{'value':[1]}}",
 *                       "{'id':1,'result':{'object':<id:a>,'type':'list','refcount':1}}");
 *     wire_expect(wire, "{'id':2,'method':'unref','params':[<id:a>]}",
 *                       "{'id':2,'result':{'object':<id:a>,'refcount':0,'freed':1}}");
 */
#ifndef HEAPD_TESTS_WIRE_H
#define HEAPD_TESTS_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

#include "daemon.h"
#include "match.h"

struct wire {
    void *curl;
    int fd;
    char *input; /* what came and was not yet taken as lines */
    size_t start, len, room, scanned;
    bool closed; /* the daemon has closed, or reset, the connection */
    bool reset;
    struct match_bindings bindings;
    struct wire *next; /* of the connections that are open */
};

/* ---- connecting ---- */

struct wire *wire_open(const struct daemon *daemon);      /* TCP */
struct wire *wire_open_unix(const struct daemon *daemon); /* TCP when the daemon runs elsewhere */
/* The same, but NULL when it cannot connect; usable outside of a test, in a child process. */
struct wire *wire_try_open(const struct daemon *daemon, bool over_unix);
void wire_close(struct wire *wire);
/* Closes every connection of this process: a failed test leaves some behind. */
void wire_close_all(void);
/* Closes with a reset instead of an orderly end. */
void wire_reset(struct wire *wire);
/* No more will be sent; replies can still be read. */
void wire_half_close(struct wire *wire);

/* ---- bytes ---- */

/* Sends everything, reading replies meanwhile so that neither side waits for ever. */
void wire_send(struct wire *wire, const char *bytes, size_t len);
void wire_send_text(struct wire *wire, const char *text);
/* false: the daemon has closed the connection. */
bool wire_try_send(struct wire *wire, const char *bytes, size_t len);
/* As much as goes without waiting, reading nothing; how much that was. */
size_t wire_send_blindly(struct wire *wire, const char *bytes, size_t len);

/* The next line without its newline, a NUL after it, valid until the next call; NULL: the daemon closed. */
char *wire_line(struct wire *wire, size_t *len);
/* Whether a line, or the end, is there within so many milliseconds. */
bool wire_line_within(struct wire *wire, int64_t ms);
/* Reads on until the daemon closes; how many bytes came. */
size_t wire_drain(struct wire *wire);

/* ---- conversations ---- */

/* Sends the line `request` (with <id:NAME> filled in) and demands a reply like `expected`. */
void wire_expect(struct wire *wire, const char *request, const char *expected);
/* The same for a reply to something sent before. */
void wire_expect_line(struct wire *wire, const char *expected);
/* Demands that the daemon closes the connection and says nothing before. */
void wire_expect_end(struct wire *wire);

/* Calls a method and demands a result, which is new.  Steals `params` (NULL: none). */
json_t *wire_call(struct wire *wire, const char *method, json_t *params);
/* The same, the params packed as by json_pack(); `format` NULL: none. */
json_t *wire_callf(struct wire *wire, const char *method, const char *format, ...);
/* The same, of the result the integer that json_unpack() finds with `path`, like "{s:I}" and a key. */
int64_t wire_call_int(struct wire *wire, const char *key, const char *method, const char *format, ...);
/* A member of a section of stats. */
int64_t wire_stat(struct wire *wire, const char *section, const char *member);
/* How often a limit was in somebody's way. */
int64_t wire_limit_reached(struct wire *wire, const char *name);
/* heap.check is clean. */
void wire_check_heap(struct wire *wire);

#endif
