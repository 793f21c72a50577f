/* cli_run.h -- `heapctl run FILE`: a command a line, in one session. */
#ifndef HEAPD_CLIENT_CLI_RUN_H
#define HEAPD_CLIENT_CLI_RUN_H

#include <stddef.h>

#include "cli_session.h"

/* cli_run -- `words` are what stands behind `run`.  Stops at the first line that fails, unless --keep-going
 * is among them, and at once when the connection is lost. */
enum cli_exit cli_run(struct cli_session *session, size_t count, char *const *words);

#endif
