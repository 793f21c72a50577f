/* repl.h -- the prompt. */
#ifndef HEAPD_CLIENT_REPL_H
#define HEAPD_CLIENT_REPL_H

#include "cli_session.h"

/* repl_run -- reads commands from the terminal until `exit`, Ctrl-D or the end of the connection. */
enum cli_exit repl_run(struct cli_session *session);

#endif
