/* cli_method.h -- the daemon's methods, as it describes them itself.
 *
 * The table is made from the answer to rpc.discover (an OpenRPC document) at run time, so what heapctl
 * offers, explains and completes is what this daemon does.  How a parameter is written on a command line
 * follows from its kind: the descriptor's member "x-kind", or its JSON schema where that is not there.
 */
#ifndef HEAPD_CLIENT_CLI_METHOD_H
#define HEAPD_CLIENT_CLI_METHOD_H

#include <stdbool.h>
#include <stddef.h>

#include <jansson.h>

enum cli_kind {
    CLI_KIND_TARGET, /* all digits: an id; else a bound name */
    CLI_KIND_TEXT,   /* a str, taken as it stands */
    CLI_KIND_VALUE,  /* a JSON text */
    CLI_KIND_INT,
    CLI_KIND_NUMBER,
    CLI_KIND_BOOL,   /* --hold, --no-hold; true, false by position */
    CLI_KIND_LIST,   /* words separated by commas, or a JSON array */
    CLI_KIND_PERIOD, /* seconds: --watch=5, or --watch alone for one second; never by position */
};

/* One parameter.  Strings and JSON are borrowed from the document. */
struct cli_param {
    const char *name;
    char letter; /* -o stands for --output; 0: there is no such */
    enum cli_kind kind;
    bool is_required;
    bool is_name;            /* it takes a bound name, or one to bind: names complete it */
    const char *doc;         /* "" if there is none */
    const json_t *j_default; /* NULL: none is told */
    const json_t *j_words;   /* array of what it may be, or NULL */
    bool is_local;           /* heapctl's own: it is not sent */
};

struct cli_method {
    const char *name;
    const char *doc;     /* one sentence; "" if there is none */
    const char *details; /* more of them; "" if there are none */
    const char *group;   /* what it belongs to, for the list; "" if that is not told */
    size_t param_count;
    struct cli_param *params; /* in the order of the positions */
    bool gives_value;         /* the result is a literal, to be shown as JSON whatever it looks like */
    const json_t *j_method;   /* all that the daemon says of it */
};

/* methods[] is in the daemon's order; names[i] is methods[i].name, for cli_nearest_best(). */
struct cli_table {
    size_t count;
    struct cli_method *methods;
    const char **names;
    json_t *j_document; /* owned */
};

/* cli_table_create_steal -- NULL: no memory, or `j_document` is no OpenRPC document; it is consumed. */
struct cli_table *cli_table_create_steal(json_t *j_document);
void cli_table_destroy(struct cli_table *table);

/* cli_table_add -- one more method, all of it but `params` borrowed.  Where the table has one of that name
 * it is extended by these params instead.  Returns false when memory is short. */
bool cli_table_add(struct cli_table *table, const struct cli_method *method);

/* Both: NULL if there is none of that name.  A parameter's dashes may stand for underscores. */
const struct cli_method *cli_table_find(const struct cli_table *table, const char *name);
const struct cli_param *cli_method_param(const struct cli_method *method, const char *name, size_t len);
/* cli_method_letter -- the parameter that -LETTER stands for, or NULL. */
const struct cli_param *cli_method_letter(const struct cli_method *method, char letter);

#endif
