/* cli_monitor.c -- `heapctl monitor`: events as they come.   Start at cli_monitor(). */
#include "cli_command.h"
#include "cli_event.h"
#include "cli_watch.h"

#include <stdio.h>
#include <stdlib.h>

/* What the callback of a monitor needs. */
struct monitor {
    struct cli_watch watch;
    bool as_json;
};

/* Prints one event, on stdout: here events are the output. */
static void print_event(void *arg, json_t *j_params)
{
    struct monitor *monitor = arg;
    const struct cli_style *style = &monitor->watch.session->style;
    if (monitor->watch.left == 0) {
        return;
    }
    if (monitor->as_json) {
        cli_event_put_json(stdout, style, j_params);
    } else {
        cli_event_put(stdout, style, j_params);
    }
    if (monitor->watch.left != UINT64_MAX) {
        monitor->watch.left--;
    }
}

enum cli_exit cli_monitor(struct cli_session *session, const struct cli_call *call)
{
    struct monitor monitor = {.as_json = cli_session_wants_json(session, call)};
    const char *wanted = cli_call_value(call, "events");
    if (!cli_watch_begin(&monitor.watch, session, call)) {
        return CLI_EXIT_USAGE;
    }
    json_t *j_events = json_loads(wanted != NULL ? wanted : "[\"journal\"]", 0, NULL);
    heapd_on_event(session->client, print_event, &monitor);
    monitor.watch.code = cli_session_askf(session, call, NULL, "subscribe", "{s:O}", "events", j_events);
    while (monitor.watch.code == CLI_EXIT_OK && monitor.watch.left > 0 && cli_watch_events(&monitor.watch)) {
    }
    if (monitor.watch.code == CLI_EXIT_OK) {
        json_decref(cli_session_try(session, "unsubscribe", "{s:O}", "events", j_events));
    }
    json_decref(j_events);
    cli_session_show_events(session);
    cli_watch_end(&monitor.watch);
    return monitor.watch.code;
}
