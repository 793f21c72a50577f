/* cli_event.h -- events as lines that people read. */
#ifndef HEAPD_CLIENT_CLI_EVENT_H
#define HEAPD_CLIENT_CLI_EVENT_H

#include <stdio.h>

#include <jansson.h>

#include "cli_print.h"

/* cli_event_put -- one line: what it is, what it says.  One of `journal` is its line alone, so that what
 * was monitored is the journal again. */
void cli_event_put(FILE *out, const struct cli_style *style, const json_t *j_params);

/* cli_event_put_json -- one line, the params as JSON. */
void cli_event_put_json(FILE *out, const struct cli_style *style, const json_t *j_params);

#endif
