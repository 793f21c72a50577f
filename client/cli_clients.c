/* cli_clients.c -- `heapctl clients`: who is connected, and what goes when they go. */
#include "cli_command.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* cli_clients_put -- a row a client or leased session. */
static void cli_clients_put(FILE *out, const struct cli_style *style, const json_t *j_rows)
{
    static const char *const members[] = {"client",         "session", "transport", "peer",       "holds",
                                          "retained_bytes", "age_s",   "idle_s",    "last_method"};
    static const char *const heading[] = {"client",   "session", "transport", "peer",       "holds",
                                          "retained", "age",     "idle",      "last method"};
    size_t columns = sizeof members / sizeof members[0], i;
    struct cli_grid *grid = cli_grid_create(columns);
    const json_t *j_row;
    if (grid == NULL) {
        return;
    }
    cli_grid_add_words(grid, heading, columns);
    json_array_foreach(j_rows, i, j_row)
    {
        for (size_t column = 0; column < columns; column++) {
            cli_grid_add_member(grid, members[column], json_object_get(j_row, members[column]));
        }
    }
    cli_grid_write(grid, out, style, 0, true);
    cli_grid_destroy(grid);
}

enum cli_exit cli_clients(struct cli_session *session, const struct cli_call *call)
{
    const char *retained = cli_call_value(call, "retained");
    json_t *j_clients = NULL;
    enum cli_exit code = cli_session_askf(session, call, &j_clients, "server.clients", "{s:b}", "retained",
                                          retained == NULL || strcmp(retained, "true") == 0);
    if (code == CLI_EXIT_OK && cli_session_wants_json(session, call)) {
        cli_session_print_json(session);
    } else if (code == CLI_EXIT_OK) {
        cli_clients_put(stdout, &session->style, json_object_get(j_clients, "clients"));
    }
    json_decref(j_clients);
    return code;
}
