/* cli_help.h -- what heapctl says about itself and about the daemon's methods. */
#ifndef HEAPD_CLIENT_CLI_HELP_H
#define HEAPD_CLIENT_CLI_HELP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "cli_method.h"
#include "cli_print.h"

#define CLI_VERSION "0.1.0"

/* cli_help_usage -- options, examples, exit codes: all that is known without a daemon. */
void cli_help_usage(FILE *out);

/* cli_help_commands -- every command with its sentence.  `program` stands before commands. */
void cli_help_commands(FILE *out, const struct cli_style *style, const struct cli_table *table,
                       const char *program);

/* cli_help_method -- one command: usage, parameters, how they are written, the result. */
void cli_help_method(FILE *out, const struct cli_style *style, const struct cli_method *method,
                     const char *program);

/* cli_help_local -- the same for a command of heapctl's own.  Returns false if `name` is none. */
bool cli_help_local(FILE *out, const char *name, const char *program);

/* cli_help_local_name -- the name of heapctl's own command number i; NULL after the last. */
const char *cli_help_local_name(size_t i);

#endif
