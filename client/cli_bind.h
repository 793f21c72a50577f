/* cli_bind.h -- the words behind a command, made into the params of a request. */
#ifndef HEAPD_CLIENT_CLI_BIND_H
#define HEAPD_CLIENT_CLI_BIND_H

#include <stdbool.h>
#include <stddef.h>

#include "cli_method.h"

/* A command that was understood. */
struct cli_call {
    const struct cli_method *method;
    char **values;   /* per parameter its JSON text, owned; NULL: not given */
    bool wants_help; /* -h or --help is among the words: then nothing else of it is of use */
    bool wants_json; /* --json is among the words */
};

/* cli_bind -- understands `words` (count of them, without the command itself) as arguments of `method`.
 * Returns false when they cannot be; then `*problem` says why, new (free()), NULL when memory is short,
 * and `call` needs no fini.  `program` is what stands before a command where it is typed: "heapctl ", or
 * "" at a prompt; problems show commands with it. */
bool cli_bind(struct cli_call *call, char **problem, const struct cli_method *method, size_t count,
              char *const *words, const char *program);
void cli_call_fini(struct cli_call *call);

/* cli_call_params -- the params that are for the daemon as a JSON object, new (free()); NULL: no memory. */
char *cli_call_params(const struct cli_call *call);

/* cli_call_value -- the JSON text given for a parameter; NULL: not given, or the method has none such. */
const char *cli_call_value(const struct cli_call *call, const char *param);

/* cli_bind_value -- one word as the JSON text of a parameter of that kind, new (free()).
 * NULL: it cannot be; `*problem` then says why without naming the parameter, new, or NULL: no memory. */
char *cli_bind_value(char **problem, enum cli_kind kind, const char *word);

/* cli_bind_usage -- "list.append OBJECT VALUE", new (free()); NULL: no memory. */
char *cli_bind_usage(const struct cli_method *method);

#endif
