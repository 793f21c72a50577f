/* cli_stats.c -- `heapctl stats --watch`: the daemon at work.
 *
 * A look is one line, so that the lines of a run are a table of what happened:
 *
 *   time      requests/s  created/s  freed/s    live    bytes  collections/s  pause max  connections
 *   12:00:01        1200        400      398  120034  9.1 MiB              2     1.2 ms            3
 *
 * Start at cli_stats().
 */
#include "cli_command.h"
#include "cli_watch.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* The heading stands again after so many lines. */
#define HEADING_EVERY 20

/* What one look sees; counters since the daemon's start. */
struct look {
    json_int_t requests, created, freed, collections; /* counters */
    json_int_t live, bytes, connections;              /* as they are */
    json_int_t pause_max_us;                          /* the longest so far */
    double at_s;                                      /* on the clock of CLOCK_MONOTONIC */
};

static json_int_t figure(const json_t *j_stats, const char *section, const char *member)
{
    return json_integer_value(json_object_get(json_object_get(j_stats, section), member));
}

/* cli_stats_look -- the figures out of all sections. */
static struct look cli_stats_look(const json_t *j_stats, double at_s)
{
    struct look look = {.requests = figure(j_stats, "server", "requests"),
                        .created = figure(j_stats, "objects", "created"),
                        .freed = figure(j_stats, "objects", "freed"),
                        .live = figure(j_stats, "objects", "live"),
                        .bytes = figure(j_stats, "objects", "bytes"),
                        .connections = figure(j_stats, "server", "connections"),
                        .at_s = at_s};
    const json_t *j_gc = json_object_get(j_stats, "gc");
    size_t i;
    const json_t *j_generation;
    json_array_foreach(json_object_get(j_gc, "generations"), i, j_generation)
    {
        look.collections += json_integer_value(json_object_get(j_generation, "collections"));
    }
    look.pause_max_us = figure(j_gc, "pauses", "max_us");
    return look;
}

/* A counter's growth a second; "-" in the first look, which has none before it. */
static void put_rate(FILE *out, int width, json_int_t now, json_int_t before, double seconds)
{
    if (seconds <= 0) {
        fprintf(out, "  %*s", width, "-");
    } else {
        fprintf(out, "  %*.0f", width, (double)(now - before) / seconds);
    }
}

static void put_with_unit(FILE *out, int width, const char *member, json_int_t value)
{
    json_t *j_value = json_integer(value);
    char *text = cli_print_cell(member, j_value);
    fprintf(out, "  %*s", width, text != NULL ? text : "");
    free(text);
    json_decref(j_value);
}

/* cli_stats_put -- one line, for what happened since `before` (NULL: the first look). */
static void cli_stats_put(FILE *out, const char *time_text, const struct look *look,
                          const struct look *before)
{
    struct look none = {0};
    double seconds = before != NULL ? look->at_s - before->at_s : 0;
    before = before != NULL ? before : &none;
    fprintf(out, "%-8s", time_text);
    put_rate(out, 10, look->requests, before->requests, seconds);
    put_rate(out, 10, look->created, before->created, seconds);
    put_rate(out, 10, look->freed, before->freed, seconds);
    fprintf(out, "  %10" JSON_INTEGER_FORMAT, look->live);
    put_with_unit(out, 10, "bytes", look->bytes);
    put_rate(out, 13, look->collections, before->collections, seconds);
    put_with_unit(out, 9, "max_us", look->pause_max_us);
    fprintf(out, "  %11" JSON_INTEGER_FORMAT "\n", look->connections);
}

static void put_stats_heading(const struct cli_style *style)
{
    printf("%s%-8s  %10s  %10s  %10s  %10s  %10s  %13s  %9s  %11s%s\n", style->has_color ? "\033[1m" : "",
           "time", "requests/s", "created/s", "freed/s", "live", "bytes", "collections/s", "pause max",
           "connections", style->has_color ? "\033[0m" : "");
}

static double seconds_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* All sections: a line a look, the rates beside what there is. */
static void watch_all(struct cli_watch *watch, const struct cli_call *call)
{
    struct look look = {0}, before = {0};
    size_t lines = 0;
    do {
        json_t *j_stats = NULL;
        watch->code = cli_session_askf(watch->session, call, &j_stats, "stats", NULL);
        if (watch->code != CLI_EXIT_OK) {
            break;
        }
        if (cli_session_wants_json(watch->session, call)) {
            cli_session_print_json(watch->session);
        } else {
            char text[16] = "";
            time_t now = time(NULL);
            struct tm local;
            if (localtime_r(&now, &local) != NULL) {
                strftime(text, sizeof text, "%H:%M:%S", &local);
            }
            if (lines % HEADING_EVERY == 0) {
                put_stats_heading(&watch->session->style);
            }
            look = cli_stats_look(j_stats, seconds_now());
            cli_stats_put(stdout, text, &look, lines++ > 0 ? &before : NULL);
            before = look;
        }
        json_decref(j_stats);
    } while (cli_watch_next(watch));
}

/* One section: all of it, again and again. */
static void watch_section(struct cli_watch *watch, const struct cli_call *call)
{
    do {
        json_t *j_section = NULL;
        watch->code = cli_session_ask_for(watch->session, call, &j_section, "stats");
        if (watch->code != CLI_EXIT_OK) {
            break;
        }
        if (cli_session_wants_json(watch->session, call)) {
            cli_session_print_json(watch->session);
        } else {
            cli_watch_clear(watch);
            cli_print_result(stdout, &watch->session->style, j_section);
            fputs(watch->session->style.is_terminal ? "" : "\n", stdout);
        }
        json_decref(j_section);
    } while (cli_watch_next(watch));
}

enum cli_exit cli_stats(struct cli_session *session, const struct cli_call *call)
{
    struct cli_watch watch;
    if (cli_call_value(call, "watch") == NULL && cli_call_value(call, "count") == NULL) {
        return cli_session_send_call(session, call);
    }
    if (!cli_watch_begin(&watch, session, call)) {
        return CLI_EXIT_USAGE;
    }
    if (cli_call_value(call, "section") == NULL) {
        watch_all(&watch, call);
    } else {
        watch_section(&watch, call);
    }
    cli_watch_end(&watch);
    return watch.code;
}
