/* cli_trace.h -- a trace: the lines of a journal, from a file of --data-dir or from `heapctl monitor`. */
#ifndef HEAPD_CLIENT_CLI_TRACE_H
#define HEAPD_CLIENT_CLI_TRACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "cli_method.h"

enum cli_trace_kind {
    CLI_TRACE_REQUEST,
    CLI_TRACE_RELEASED, /* `session` has let go of everything */
    CLI_TRACE_MERGED,   /* what `session` held is `into`'s */
    CLI_TRACE_LEASED,   /* `session` outlives its connections */
    CLI_TRACE_RESTART,  /* the daemon had ended: sessions without a lease were gone */
    CLI_TRACE_OTHER,    /* what is nothing that a client could do again */
};

/* A text within a line. */
struct cli_trace_text {
    const char *start;
    size_t len;
};

struct cli_trace_line {
    enum cli_trace_kind kind;
    uint64_t session, into;
    char *method;                 /* owned by the trace, as the texts are: until the next line */
    struct cli_trace_text params; /* a JSON array or object; none: start is NULL */
    uint64_t *ids;                /* that the request gave, in order */
    size_t id_count;
};

struct cli_trace {
    FILE *file;
    char *text; /* the line, owned */
    size_t capacity, id_room;
    uint64_t number;    /* of the line, from 1 */
    uint64_t lost;      /* lines that the trace says it misses */
    const char *wrong;  /* why the last line is none; NULL: the end */
    struct cli_trace_line line;
};

/* cli_trace_open -- "-" is stdin.  Returns false with errno. */
bool cli_trace_open(struct cli_trace *trace, const char *path);
void cli_trace_close(struct cli_trace *trace);

/* cli_trace_next -- reads trace->line.  False: there is none, trace->wrong says why. */
bool cli_trace_next(struct cli_trace *trace);

/* What an id of the trace is now; 0: nothing. */
typedef uint64_t cli_trace_lookup(void *arg, uint64_t id);

/* cli_trace_translate -- the line's params with each id that stands for an object replaced, new (free()).
 * NULL: the lookup knows one of them not, `*unknown` is it; or no memory, `*unknown` is 0. */
char *cli_trace_translate(const struct cli_trace_line *line, const struct cli_method *method,
                          cli_trace_lookup *lookup, void *arg, uint64_t *unknown);

/* cli_trace_ids -- of a line's text alone, as a `journal` event has it: the ids and the session.  `ids` is
 * replaced, `*room` is what it has room for.  Returns how many; SIZE_MAX: it is no line, or no memory. */
size_t cli_trace_ids(const char *text, uint64_t *session, uint64_t **ids, size_t *room);

#endif
