/* cli_session.h -- one connection, the daemon's methods, and commands run on them. */
#ifndef HEAPD_CLIENT_CLI_SESSION_H
#define HEAPD_CLIENT_CLI_SESSION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

#include "cli_bind.h"
#include "cli_method.h"
#include "cli_print.h"
#include "heapd_client.h"

/* What heapctl exits with. */
enum cli_exit {
    CLI_EXIT_OK = 0,
    CLI_EXIT_ERROR = 1,      /* the daemon answered with an error, or a script or the output failed */
    CLI_EXIT_USAGE = 2,      /* nothing was sent */
    CLI_EXIT_CONNECTION = 3, /* cannot connect, or the connection was lost, or no answer came in time */
};

/* What the options before the command say. */
struct cli_options {
    const char *url;        /* NULL: the default address */
    const char *token_file; /* NULL: no token is sent */
    int64_t timeout_ms;     /* 0: none */
    bool json;
};

struct cli_session {
    struct cli_options options;  /* its strings are borrowed */
    struct heapd_client *client; /* owned */
    struct cli_table *table;     /* owned */
    struct cli_style style;      /* of stdout */
    bool json;                   /* replies are printed as they came */
    const char *program;         /* before commands in usage lines: "heapctl ", or "" at the prompt */
    const char *where;           /* before messages: "heapctl", or FILE:LINE; borrowed */
    uint64_t holds;              /* taken by commands and not given back by one */
    json_int_t last_held;        /* the object of the newest hold; 0: none yet */
    bool last_only_held;         /* whether `create` made that object without a name */
};

/* cli_session_open -- connects, sends the token, asks for the methods.  Complains on stderr when that
 * fails; the session needs cli_session_close() in any case. */
enum cli_exit cli_session_open(struct cli_session *session, const struct cli_options *options);
void cli_session_close(struct cli_session *session);

/* cli_session_connect -- another connection to the same daemon, with the same token, which drops events: new
 * (heapd_client_destroy()).  NULL: complained. */
struct heapd_client *cli_session_connect(const struct cli_session *session);

/* cli_session_execute -- runs one command, words[0], and prints its result on stdout, or what is wrong on
 * stderr.  `count` is at least 1. */
enum cli_exit cli_session_execute(struct cli_session *session, size_t count, char *const *words);

/* ---- for commands that are more than one method ---- */

/* cli_session_wants_json -- whether this command's replies are printed as they came. */
bool cli_session_wants_json(const struct cli_session *session, const struct cli_call *call);

/* cli_session_askf -- one request, its params packed as by json_pack(format, ...), NULL: none.  `*result`
 * is new.  Complains when there is none, and returns what to exit with. */
enum cli_exit cli_session_askf(struct cli_session *session, const struct cli_call *call, json_t **result,
                               const char *method, const char *format, ...);

/* cli_session_ask_for -- the same with what was typed for the method's own params. */
enum cli_exit cli_session_ask_for(struct cli_session *session, const struct cli_call *call, json_t **result,
                                  const char *method);

/* cli_session_try -- what adds to an answer but is not needed for it: new, or NULL without a complaint. */
json_t *cli_session_try(struct cli_session *session, const char *method, const char *format, ...);

/* cli_session_try_each -- `method` of each of the objects (ids), in one pipeline: a new array of as many
 * results, null where there is none; NULL: no memory.  `j_more`: an object of further params, or NULL. */
json_t *cli_session_try_each(struct cli_session *session, const char *method, const json_t *j_objects,
                             const json_t *j_more);

/* cli_session_complain_reply -- says why the last call failed.  Returns what to exit with. */
enum cli_exit cli_session_complain_reply(const struct cli_session *session, bool as_json);

/* cli_session_show_events -- events are printed on stderr as they come, which is how a session begins. */
void cli_session_show_events(struct cli_session *session);

/* cli_session_print_json -- the last result as it came, on a line of stdout. */
void cli_session_print_json(const struct cli_session *session);

/* cli_session_send_call -- what was typed as one request, its result printed. */
enum cli_exit cli_session_send_call(struct cli_session *session, const struct cli_call *call);

/* cli_session_note_holds -- says on stderr which holds end with the session, if any. */
void cli_session_note_holds(const struct cli_session *session);

/* cli_session_complain -- "WHERE: message" on stderr, behind all output so far. */
__attribute__((format(printf, 2, 3))) void cli_session_complain(const struct cli_session *session,
                                                                const char *format, ...);

#endif
