/* cli_who.h -- whose session a number is, for people. */
#ifndef HEAPD_CLIENT_CLI_WHO_H
#define HEAPD_CLIENT_CLI_WHO_H

#include <stdio.h>

#include <jansson.h>

#include "cli_session.h"

/* cli_who_ask -- what the daemon says of its clients, new; NULL when it does not say. */
json_t *cli_who_ask(struct cli_session *session);

/* cli_who_put -- "session 3 (client 7, tcp 127.0.0.1:40112, holds 2)"; "session 3 (gone)" when
 * `j_clients`, from cli_who_ask(), does not know it; only its number when that is NULL. */
void cli_who_put(FILE *out, const json_t *j_clients, const json_t *j_session);

/* cli_who_name -- the first name that heap.inspect knows an object by, else its session, as text: new
 * (free()); NULL: it has neither. */
char *cli_who_name(const json_t *j_inspected);

#endif
