/* cli_complete.h -- what a word that is being typed may become. */
#ifndef HEAPD_CLIENT_CLI_COMPLETE_H
#define HEAPD_CLIENT_CLI_COMPLETE_H

#include <stddef.h>

#include <jansson.h>

#include "cli_method.h"
#include "heapd_client.h"

/* cli_complete -- the whole words that the last of `words` may become: commands, options, bound names
 * (asked from the daemon; `client` may be NULL), words that a parameter takes.  The first word is the
 * command.  Returns a new array of strings, empty if there are none; NULL: no memory. */
json_t *cli_complete(const struct cli_table *table, struct heapd_client *client, size_t count,
                     char *const *words);

#endif
