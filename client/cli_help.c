/* cli_help.c -- help texts.  Those of methods come from the daemon's description, see cli_method.h. */
#include "cli_help.h"

#include "cli_bind.h"
#include "cli_json.h"
#include "cli_words.h"

#include <stdlib.h>
#include <string.h>

/* Commands that heapctl does itself. */
static const struct local_command {
    const char *name, *usage, *doc, *details;
} local_commands[] = {
    {"help", "help [COMMAND]", "list the commands, or explain one", ""},
    {"run", "run FILE [--keep-going]", "run a command a line, all in one session",
     "  FILE          a file, or - for stdin.  Words are quoted as in sh; # begins a comment.\n"
     "  --keep-going  go on after an error; the exit code is 1 all the same\n"},
    {"complete", "complete WORD...", "list what the last word may become, for the completion of shells", ""},
};

#define LOCAL_COUNT (sizeof local_commands / sizeof local_commands[0])

void cli_help_usage(FILE *out)
{
    fputs("usage: heapctl [--url ADDR] [--token-file FILE] [--json] [--timeout SECONDS] COMMAND ...\n"
          "       heapctl                     a prompt, on a terminal\n"
          "       heapctl run FILE            a command a line, in one session (- is stdin)\n"
          "       heapctl help [COMMAND]      the commands of the daemon that runs\n"
          "\n"
          "  --url ADDR         unix:PATH, tcp:HOST:PORT or tls:HOST:PORT (default: $HEAPD_URL, else the daemon's\n"
          "                     Unix socket)\n"
          "  --token-file FILE  who you are, for a daemon that asks (default: $HEAPD_TOKEN_FILE)\n"
          "  --json             print each reply as one JSON text\n"
          "  --timeout SECONDS  how long to wait for an answer (default: as long as it takes)\n"
          "  --version, --help\n"
          "\n"
          "Examples:\n"
          "  heapctl create '[1, 2, \"three\"]' --name a    a value is a JSON text: quote it for the shell\n"
          "  heapctl list.append a '\"four\"'              objects are named by id or bound name\n"
          "  heapctl get a --depth -1\n"
          "  heapctl sys.getrefcount a\n"
          "  heapctl stats objects --json\n"
          "\n"
          "A run is a session of its own: objects it creates without --name are released when it ends.\n"
          "Exit codes: 0 ok, 1 the daemon answered with an error, 2 bad usage, 3 cannot connect.\n",
          out);
}

const char *cli_help_local_name(size_t i)
{
    return i < LOCAL_COUNT ? local_commands[i].name : NULL;
}

bool cli_help_local(FILE *out, const char *name, const char *program)
{
    for (size_t i = 0; i < LOCAL_COUNT; i++) {
        const struct local_command *command = &local_commands[i];
        if (strcmp(command->name, name) == 0) {
            fprintf(out, "usage: %s%s\n\n%s\n%s%s", program, command->usage, command->doc,
                    *command->details != '\0' ? "\n" : "", command->details);
            return true;
        }
    }
    return false;
}

/* ---- the list ---- */

static void put_group(FILE *out, const struct cli_style *style, const char *text)
{
    fprintf(out, style->has_color ? "\n\033[1m%s\033[0m\n" : "\n%s\n", text);
}

static void put_row(FILE *out, size_t width, const char *name, const char *doc)
{
    fprintf(out, "  %-*s  %s\n", (int)width, name, doc);
}

void cli_help_commands(FILE *out, const struct cli_style *style, const struct cli_table *table,
                       const char *program)
{
    size_t width = 0;
    const char *group = "";
    for (size_t i = 0; i < table->count; i++) {
        width = strlen(table->names[i]) > width ? strlen(table->names[i]) : width;
    }
    fprintf(out, "More about one: %shelp COMMAND\n", program);
    for (size_t i = 0; i < table->count; i++) {
        if (strcmp(table->methods[i].group, group) != 0) {
            group = table->methods[i].group;
            put_group(out, style, group);
        }
        put_row(out, width, table->names[i], table->methods[i].doc);
    }
    put_group(out, style, "heapctl's own");
    for (size_t i = 0; i < LOCAL_COUNT; i++) {
        put_row(out, width, local_commands[i].name, local_commands[i].doc);
    }
}

/* ---- one command ---- */

static const char *kind_help(const struct cli_param *param)
{
    switch (param->kind) {
    case CLI_KIND_TARGET:
        return "id or name";
    case CLI_KIND_TEXT:
        return param->j_words != NULL ? "word" : "text";
    case CLI_KIND_VALUE:
        return "JSON";
    case CLI_KIND_INT:
        return "int";
    case CLI_KIND_NUMBER:
        return "number";
    case CLI_KIND_BOOL:
        return "yes or no";
    case CLI_KIND_LIST:
        return "word,word..";
    case CLI_KIND_PERIOD:
        return "seconds";
    }
    return "";
}

/* What the daemon says of a parameter: its sentence, what it takes, what it is when left out. */
static char *param_doc(const struct cli_param *param)
{
    char *text = NULL;
    size_t len;
    FILE *out = open_memstream(&text, &len);
    if (out == NULL) {
        return NULL;
    }
    fputs(param->doc, out);
    const char *separator = *param->doc != '\0' ? " One of " : "";
    size_t i;
    const json_t *j_word;
    json_array_foreach(param->j_words, i, j_word)
    {
        fprintf(out, "%s%s", separator, json_is_string(j_word) ? json_string_value(j_word) : "");
        separator = ", ";
    }
    if (param->j_default != NULL) {
        fprintf(out, "%s(default ", ftell(out) > 0 ? " " : "");
        cli_json_put(out, param->j_default);
        fputc(')', out);
    }
    fclose(out);
    return text;
}

static void put_params(FILE *out, const struct cli_style *style, const struct cli_method *method)
{
    struct cli_grid *grid = cli_grid_create(3);
    if (grid == NULL || method->param_count == 0) {
        cli_grid_destroy(grid);
        return;
    }
    for (size_t i = 0; i < method->param_count; i++) {
        const struct cli_param *param = &method->params[i];
        char *option = NULL;
        if (asprintf(&option, "--%s", param->name) < 0) {
            option = NULL;
        }
        cli_grid_add_steal(grid, option, false);
        cli_grid_add_steal(grid, strdup(kind_help(param)), false);
        cli_grid_add_steal(grid, param_doc(param), false);
    }
    fputc('\n', out);
    cli_grid_write(grid, out, style, 2, false);
    cli_grid_destroy(grid);
}

/* One argument of an example, as it would be typed. */
static void put_argument(FILE *out, const struct cli_param *param, const json_t *j_value)
{
    if (param->kind == CLI_KIND_BOOL) {
        fprintf(out, " --%s%s", json_is_true(j_value) ? "" : "no-", param->name);
        return;
    }
    bool is_plain = param->kind != CLI_KIND_VALUE && json_is_string(j_value);
    char *text = is_plain ? strdup(json_string_value(j_value)) : json_dumps(j_value, JSON_ENCODE_ANY);
    char *quoted = text != NULL ? cli_words_quote(text) : NULL;
    fprintf(out, param->is_required ? " " : " --%s ", param->name);
    fputs(quoted != NULL ? quoted : "", out);
    free(text);
    free(quoted);
}

/* The daemon's own examples as commands. */
static void put_examples(FILE *out, const struct cli_method *method, const char *program)
{
    size_t i, k;
    const json_t *j_example, *j_given;
    json_array_foreach(json_object_get(method->j_method, "examples"), i, j_example)
    {
        fprintf(out, "%s  %s%s", i == 0 ? "\nExample:\n" : "", program, method->name);
        json_array_foreach(json_object_get(j_example, "params"), k, j_given)
        {
            const char *name = json_string_value(json_object_get(j_given, "name"));
            const json_t *j_value = json_object_get(j_given, "value");
            const struct cli_param *param =
                name != NULL ? cli_method_param(method, name, strlen(name)) : NULL;
            if (param != NULL && j_value != NULL) {
                put_argument(out, param, j_value);
            }
        }
        fputc('\n', out);
    }
}

static bool takes_json(const struct cli_method *method)
{
    for (size_t i = 0; i < method->param_count; i++) {
        if (method->params[i].kind == CLI_KIND_VALUE) {
            return true;
        }
    }
    return false;
}

void cli_help_method(FILE *out, const struct cli_style *style, const struct cli_method *method,
                     const char *program)
{
    char *usage = cli_bind_usage(method);
    fprintf(out, "usage: %s%s\n", program, usage != NULL ? usage : method->name);
    free(usage);
    if (*method->doc != '\0') {
        fprintf(out, "\n%s\n", method->doc);
    }
    if (*method->details != '\0') {
        fprintf(out, "%s\n", method->details);
    }
    put_params(out, style, method);
    put_examples(out, method, program);
    if (takes_json(method)) {
        fputs("\nJSON is one word, so quote it: '\"text\"', '[1, 2]', '{\"$ref\": \"a\"}'.\n", out);
    }
    if (method->param_count > 0) {
        fputs("\nWhat is given by position may be given by name, and the other way round.\n", out);
    }
}
