/* cli_command.h -- heapctl's own commands that ask the daemon: several methods behind one question. */
#ifndef HEAPD_CLIENT_CLI_COMMAND_H
#define HEAPD_CLIENT_CLI_COMMAND_H

#include <stdbool.h>

#include "cli_session.h"

struct cli_command {
    const char *name;
    /* Does it and prints what comes of it; the call is bound to the command's params. */
    enum cli_exit (*run)(struct cli_session *session, const struct cli_call *call);
};

/* cli_command_add_all -- puts them into the table of the daemon's methods, so that they are bound,
 * explained and completed like these.  A command with the name of a method adds its params to it.
 * Returns false when memory is short. */
bool cli_command_add_all(struct cli_table *table);

/* cli_command_find -- NULL: there is none of that name. */
const struct cli_command *cli_command_find(const char *name);

/* ---- the commands, one file a group ---- */

enum cli_exit cli_why(struct cli_session *session, const struct cli_call *call);
enum cli_exit cli_top(struct cli_session *session, const struct cli_call *call);
enum cli_exit cli_types(struct cli_session *session, const struct cli_call *call);
enum cli_exit cli_mark(struct cli_session *session, const struct cli_call *call);
enum cli_exit cli_diff(struct cli_session *session, const struct cli_call *call);
enum cli_exit cli_clients(struct cli_session *session, const struct cli_call *call);
enum cli_exit cli_graph(struct cli_session *session, const struct cli_call *call);
enum cli_exit cli_stats(struct cli_session *session, const struct cli_call *call);
enum cli_exit cli_map(struct cli_session *session, const struct cli_call *call);
enum cli_exit cli_monitor(struct cli_session *session, const struct cli_call *call);
enum cli_exit cli_replay(struct cli_session *session, const struct cli_call *call);

#endif
