/* cli_command.c -- the table of heapctl's own commands.
 *
 * Their params are described as those of the daemon's methods are, and stand in the same table.
 */
#include "cli_command.h"

#include <string.h>

#define GROUP "Questions, answered for people"

#define PARAMS_MAX 6

/* What a command is called, does and takes; a param without a name ends the list. */
struct described_command {
    struct cli_command command;
    const char *doc, *details;
    struct cli_param params[PARAMS_MAX];
};

#define WATCH_PARAM                                                                                          \
    {                                                                                                        \
        .name = "watch", .kind = CLI_KIND_PERIOD, .is_local = true,                                          \
        .doc = "Look again and again, every so many seconds; Ctrl-C ends it. (default 1)"                    \
    }
#define COUNT_PARAM                                                                                          \
    {                                                                                                        \
        .name = "count", .kind = CLI_KIND_INT, .is_local = true, .doc = "End after so many looks."           \
    }

static const struct described_command described_commands[] = {
    {{"why", cli_why},
     "Shows what keeps an object alive: the shortest way to it from a name, a session or another root.",
     "Each line is an object, and before it how the one above refers to it.",
     {{.name = "object",
       .kind = CLI_KIND_TARGET,
       .is_required = true,
       .is_name = true,
       .doc = "The object."}}},
    {{"top", cli_top},
     "Lists the objects that keep most memory alive: what would be freed if only they went.",
     "",
     {{.name = "limit", .kind = CLI_KIND_INT, .doc = "How many. (default 20)"}}},
    {{"types", cli_types},
     "Shows how many objects of each type live, and their bytes.",
     "With --watch also what has changed since the look before.",
     {WATCH_PARAM, COUNT_PARAM}},
    {{"mark", cli_mark},
     "Remembers what lives now, for a later diff.",
     "",
     {{.name = "label", .kind = CLI_KIND_TEXT, .is_required = true, .doc = "What to call it."}}},
    {{"diff", cli_diff},
     "Shows what has grown since a mark, by type and by the session that made it.",
     "",
     {{.name = "from", .kind = CLI_KIND_TEXT, .is_required = true, .doc = "The label of the earlier mark."},
      {.name = "to", .kind = CLI_KIND_TEXT, .doc = "That of the later one; now when left out."}}},
    {{"clients", cli_clients},
     "Lists who is connected: what they hold, what only their holds keep, and what they did last.",
     "",
     {{.name = "retained",
       .kind = CLI_KIND_BOOL,
       .doc = "Ask for the bytes that only their holds keep, too; that walks the heap. (default true)"}}},
    {{"graph", cli_graph},
     "Draws an object, what it refers to, and what keeps it alive, with Graphviz.",
     "FILE.svg and FILE.png are drawn by Graphviz's dot, FILE.dot is its input.",
     {{.name = "object", .kind = CLI_KIND_TARGET, .is_name = true, .doc = "Where to begin."},
      {.name = "output",
       .letter = 'o',
       .kind = CLI_KIND_TEXT,
       .is_required = true,
       .doc = "The file: .svg, .png or .dot"},
      {.name = "depth", .kind = CLI_KIND_INT, .doc = "How far to follow references. (default 3)"},
      {.name = "limit", .kind = CLI_KIND_INT, .doc = "The most objects in the picture. (default 100)"},
      {.name = "all", .kind = CLI_KIND_BOOL, .doc = "The whole heap, from its names on. (default false)"}}},
    {{"map", cli_map},
     "Shows the arenas: how many pools of which block size they have, and how full these are.",
     "",
     {{.name = "limit", .kind = CLI_KIND_INT, .doc = "The most arenas. (default 100)"},
      {.name = "after", .kind = CLI_KIND_INT, .doc = "Where the answer before ended."}}},
    {{"stats", cli_stats},
     "Shows the daemon's figures.",
     "With --watch a line a look: what happens a second, and what there is.",
     {WATCH_PARAM, COUNT_PARAM}},
    {{"monitor", cli_monitor},
     "Prints each event as it comes, until it is interrupted.",
     "The event journal is every change of the heap, as a line of the protocol.",
     {{.name = "events", .kind = CLI_KIND_LIST, .doc = "Which, with commas between. (default journal)"},
      {.name = "count", .kind = CLI_KIND_INT, .is_local = true, .doc = "End after so many events."}}},
    {{"replay", cli_replay},
     "Does again, in their order, the changes of a journal: of a file of --data-dir, or of what monitor printed.",
     "Each session of the trace has a connection of its own, which ends where the session did; names stay. Ids are "
     "mapped to those that are given here; a trace of a daemon with --data-dir wants one with it, and the other way "
     "round. Exits with 1 when something went otherwise than the first time.",
     {{.name = "file", .kind = CLI_KIND_TEXT, .is_required = true, .doc = "The trace; - is the standard input."},
      {.name = "speed", .kind = CLI_KIND_NUMBER, .doc = "Requests a second; as fast as it goes when left out."},
      {.name = "pipeline",
       .kind = CLI_KIND_INT,
       .doc = "How many replies of a session may be due; 1 waits for each. (default 64)"}}},
};

#define COMMAND_COUNT (sizeof described_commands / sizeof described_commands[0])

bool cli_command_add_all(struct cli_table *table)
{
    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        const struct described_command *described = &described_commands[i];
        struct cli_param params[PARAMS_MAX];
        size_t count = 0;
        while (count < PARAMS_MAX && described->params[count].name != NULL) {
            params[count] = described->params[count];
            count++;
        }
        const struct cli_method method = {.name = described->command.name,
                                          .doc = described->doc,
                                          .details = described->details,
                                          .group = GROUP,
                                          .param_count = count,
                                          .params = params};
        if (!cli_table_add(table, &method)) {
            return false;
        }
    }
    return true;
}

const struct cli_command *cli_command_find(const char *name)
{
    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        if (strcmp(described_commands[i].command.name, name) == 0) {
            return &described_commands[i].command;
        }
    }
    return NULL;
}
