/* journal_line.h -- the lines of a journal: what stands in each.
 *
 *   {"heapd":"journal","version":2,"heap":"6f1d..","number":2,"before":4711,"restart":true,"generations":32}
 *                                                                              the first of a file, and no other one
 *   {"session":3,"method":"create","params":[[1,[2]],"a"],"ids":[17,2]}        a request
 *   {"effect":"swept","ids":[5,3,90,1]}                                        what no request did
 *
 * A request is one of the protocol, in its short form: by position, an optional parameter that was left out is null.
 * `"notification":true` follows where it was one.  `ids` are the new ids it gave, in the order in which it gave them:
 * runs, each the first and how many followed one another.
 *
 * Effects are `finalized` (with "bound"), `unaimed`, `swept`, `kept` of ids, as enum heap_effect says; `released` of a
 * session; `merged` of a session `into` another; `leased` of a session, with "lease_ms" and "token", the SHA-256 of the
 * token; `generations` with "end", below which ids stay until the next such line.
 *
 * `{"effect":"durable","offset":4000,"at":4096}` is a mark, which the writer of the file puts between the others: up to
 * "offset" the file was on disk when it was written, and the mark itself begins at "at".
 *
 * `restart`: the daemon had ended before; sessions without a lease were gone.  `before`: bytes of all lines but marks in
 * the files that came before, since the first one.  It, and "at", tell when whole lines are missing.
 */
#ifndef HEAPD_PROTOCOL_JOURNAL_LINE_H
#define HEAPD_PROTOCOL_JOURNAL_LINE_H

#include "journal.h"

#define JOURNAL_VERSION 2
/* `CRC ` in front of a line's text. */
#define JOURNAL_CRC_BYTES 9u

/* Room for the checksum, which line_end() puts there; returns where the line begins. */
size_t line_begin(struct out *out);
/* The checksum of what was written since, and the newline. */
void line_end(struct out *out, size_t start);
/* Whether the `len` bytes (without newline) are a line whose checksum is right. */
bool line_is_sound(const char *line, size_t len);

void runs_init(struct journal_runs *runs);
void runs_fini(struct journal_runs *runs);
void runs_add(struct journal_runs *runs, uint64_t id);
/* `[17,3,90,1]`, and there are none any more. */
void runs_write(struct out *out, struct journal_runs *runs);

/* The text of a request: what it asked for, and the ids it gave. */
void line_write_request(struct out *out, const struct call *call, uint64_t session, const uint64_t *ids, size_t count);

/* The text of a lease. */
void line_write_lease(struct out *out, const struct rpc_session *session);
/* The first line of a file, whole. */
void line_write_header(struct out *out, struct rpc_service *service, const char *kind, uint64_t number, bool is_restart);
/* The words of enum heap_effect. */
const char *line_effect_word(enum heap_effect effect);
#define LINE_EFFECTS 4u

/* ---- for journal_restore.c, of a load: journal_replay.c ---- */

/* The heap's session of that number, made if it is missing; NULL: no memory. */
struct heap_session *replay_session(struct replay *replay, uint64_t number);
/* The lines that follow are of that snapshot. */
void replay_begin_snapshot(struct replay *replay, struct rpc_load_file *file);
/* The line at file->good, without its checksum and newline, happens.  false: *why says why not. */
bool replay_line(struct replay *replay, const char *text, size_t len, const char **why);

#endif
