/* cli_bind.c -- binds command line words to parameters and writes them as JSON.
 *
 * Two passes, so that options may stand anywhere: the first takes what is given by name and collects the
 * other words, the second gives those, in order, to the parameters that have nothing yet.
 * Values stay the text that was typed: 1.10, 1e400 and 30 digits reach the daemon as they are, and it is
 * the daemon that judges them.   Start at cli_bind().
 */
#include "cli_bind.h"

#include "cli_json.h"
#include "cli_nearest.h"
#include "cli_words.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- problems ---- */

/* Stores a new sentence in `*problem` unless there is one.  Returns false. */
__attribute__((format(printf, 2, 3))) static bool refuse(char **problem, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    if (*problem == NULL && vasprintf(problem, format, arguments) < 0) {
        *problem = NULL;
    }
    va_end(arguments);
    return false;
}

static void put_upper(FILE *out, const char *text)
{
    for (; *text != '\0'; text++) {
        fputc(toupper((unsigned char)*text), out);
    }
}

char *cli_bind_usage(const struct cli_method *method)
{
    char *usage = NULL;
    size_t len;
    FILE *out = open_memstream(&usage, &len);
    if (out == NULL) {
        return NULL;
    }
    fputs(method->name, out);
    for (size_t i = 0; i < method->param_count; i++) {
        const struct cli_param *param = &method->params[i];
        fputs(param->is_required ? " " : " [", out);
        if (param->kind == CLI_KIND_BOOL) {
            fprintf(out, "--%s|--no-%s", param->name, param->name);
        } else if (param->kind == CLI_KIND_PERIOD) {
            fprintf(out, "--%s[=SECONDS]", param->name);
        } else if (param->letter != '\0') {
            fprintf(out, "-%c ", param->letter);
            put_upper(out, param->name);
        } else {
            if (!param->is_required) {
                fprintf(out, "--%s ", param->name);
            }
            put_upper(out, param->name);
        }
        fputs(param->is_required ? "" : "]", out);
    }
    fclose(out);
    return usage;
}

/* ---- single values ---- */

static bool is_all_digits(const char *word)
{
    return *word != '\0' && word[strspn(word, "0123456789")] == '\0';
}

/* [-]digits without leading zeros, new. */
static char *int_text(const char *word)
{
    const char *sign = *word == '-' ? "-" : "";
    word += *sign != '\0';
    while (*word == '0' && word[1] != '\0') {
        word++;
    }
    char *text = NULL;
    return asprintf(&text, "%s%s", sign, word) < 0 ? NULL : text;
}

static char *quoted_text(char **problem, const char *word)
{
    char *quoted = cli_json_quote(word);
    if (quoted == NULL) {
        refuse(problem, "is not UTF-8");
    }
    return quoted;
}

/* What `word`, which is no JSON text, was probably meant to be: Python's words for three constants, or a
 * str without its quotes.  New (free()); NULL: nothing simple. */
static char *meant_json(const char *word)
{
    static const struct {
        const char *python, *json;
    } words[] = {{"None", "null"}, {"True", "true"}, {"False", "false"}};
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        if (strcmp(word, words[i].python) == 0) {
            return strdup(words[i].json);
        }
    }
    return *word == '{' || *word == '[' || *word == '"' ? NULL : cli_json_quote(word);
}

static void explain_not_json(char **problem, const char *word, const json_error_t *error)
{
    if (*word == '{' || *word == '[' || *word == '"') {
        refuse(problem, "must be a JSON text, as one word of the shell, like '[1, \"a\"]': %s, at byte %d",
               error->text, error->position);
    } else {
        refuse(problem, "must be a JSON text, not %s", *word != '\0' ? word : "an empty word");
    }
}

/* Numbers that no C type holds are JSON all the same; whether they are a value is for the daemon to say. */
static bool is_json(const char *word, json_error_t *error)
{
    json_t *j_value = json_loads(word, JSON_DECODE_ANY | JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL, error);
    enum json_error_code code = json_error_code(error);
    bool is_good =
        j_value != NULL || code == json_error_numeric_overflow || code == json_error_null_byte_in_key;
    json_decref(j_value);
    return is_good;
}

static char *value_text(char **problem, const char *word)
{
    json_error_t error = {0};
    if (is_json(word, &error)) {
        return strdup(word);
    }
    explain_not_json(problem, word, &error);
    return NULL;
}

static char *number_text(char **problem, const char *word)
{
    json_error_t error = {0};
    if (is_json(word, &error) && (*word == '-' || isdigit((unsigned char)*word))) {
        return strdup(word);
    }
    refuse(problem, "must be a number, not %s", word);
    return NULL;
}

/* A time to wait: some, and not for ever. */
static char *period_text(char **problem, const char *word)
{
    char *end = NULL;
    double seconds = strtod(word, &end);
    if (end == word || *end != '\0' || !(seconds > 0) || seconds > 86400) {
        refuse(problem, "must be seconds, like 5 or 0.5, not %s", word);
        return NULL;
    }
    return number_text(problem, word);
}

/* a,b,c as an array of strs; a word that begins with [ is a JSON array already. */
static char *list_text(char **problem, const char *word)
{
    if (*word == '[') {
        return value_text(problem, word);
    }
    json_t *j_list = json_array();
    while (*word != '\0') {
        size_t len = strcspn(word, ",");
        json_t *j_word = json_stringn(word, len);
        if (j_word == NULL) {
            refuse(problem, "is not UTF-8");
            json_decref(j_list);
            return NULL;
        }
        json_array_append_new(j_list, j_word);
        word += len + (word[len] == ',');
    }
    char *text = json_dumps(j_list, JSON_COMPACT);
    json_decref(j_list);
    return text;
}

char *cli_bind_value(char **problem, enum cli_kind kind, const char *word)
{
    *problem = NULL;
    switch (kind) {
    case CLI_KIND_TARGET:
        return is_all_digits(word) ? int_text(word) : quoted_text(problem, word);
    case CLI_KIND_TEXT:
        return quoted_text(problem, word);
    case CLI_KIND_VALUE:
        return value_text(problem, word);
    case CLI_KIND_INT:
        if (is_all_digits(word + (*word == '-'))) {
            return int_text(word);
        }
        refuse(problem, "must be an int, not %s", word);
        return NULL;
    case CLI_KIND_NUMBER:
        return number_text(problem, word);
    case CLI_KIND_BOOL:
        if (strcmp(word, "true") == 0 || strcmp(word, "false") == 0) {
            return strdup(word);
        }
        refuse(problem, "must be true or false, not %s", word);
        return NULL;
    case CLI_KIND_LIST:
        return list_text(problem, word);
    case CLI_KIND_PERIOD:
        return period_text(problem, word);
    }
    return NULL;
}

/* ---- binding ---- */

/* The words, and how far the first pass is. */
struct binder {
    struct cli_call *call;
    char **problem;
    const char *program;
    size_t count;
    char *const *words;
    size_t at;          /* the next word */
    const char **plain; /* words that are no options, in order */
    size_t plain_count;
};

/* Adds to a problem with a value the whole command with the word as it should probably have been. */
static void refuse_value(struct binder *binder, const struct cli_param *param, const char *word, char *why)
{
    char *json = param->kind == CLI_KIND_VALUE ? meant_json(word) : NULL;
    char *quoted = json != NULL ? cli_words_quote(json) : NULL;
    if (quoted == NULL) {
        refuse(binder->problem, "%s: %s %s", binder->call->method->name, param->name, why);
        return;
    }
    char *command = NULL;
    size_t len;
    FILE *out = open_memstream(&command, &len);
    if (out != NULL) {
        fprintf(out, "%s%s", binder->program, binder->call->method->name);
        for (size_t i = 0; i < binder->count; i++) {
            char *other = binder->words[i] == word ? NULL : cli_words_quote(binder->words[i]);
            fprintf(out, " %s", other != NULL ? other : quoted);
            free(other);
        }
        fclose(out);
        refuse(binder->problem, "%s: %s %s; write: %s", binder->call->method->name, param->name, why,
               command);
    }
    free(command);
    free(json);
    free(quoted);
}

static bool set_value(struct binder *binder, const struct cli_param *param, const char *word)
{
    const struct cli_method *method = binder->call->method;
    char **value = &binder->call->values[param - method->params];
    if (*value != NULL) {
        return refuse(binder->problem, "%s: %s is given twice", method->name, param->name);
    }
    char *why = NULL;
    *value = cli_bind_value(&why, param->kind, word);
    if (*value == NULL && why != NULL) {
        refuse_value(binder, param, word, why);
    }
    free(why);
    return *value != NULL;
}

/* Says what is wrong with `word`, and how the command is used. */
static bool refuse_with_usage(struct binder *binder, const char *what, const char *word)
{
    const struct cli_method *method = binder->call->method;
    char *usage = cli_bind_usage(method);
    refuse(binder->problem, "%s: %s %s\nusage: %s%s", method->name, what, word, binder->program,
           usage != NULL ? usage : method->name);
    free(usage);
    return false;
}

static bool refuse_option(struct binder *binder, const char *option)
{
    static const char *const before[] = {"--url", "--token-file", "--timeout", "--version"};
    const struct cli_method *method = binder->call->method;
    for (size_t i = 0; i < sizeof before / sizeof before[0]; i++) {
        if (strncmp(option, before[i], strlen(before[i])) == 0) {
            return refuse(binder->problem, "%s stands before the command", before[i]);
        }
    }
    const char **names = calloc(method->param_count + 1, sizeof *names);
    for (size_t i = 0; names != NULL && i < method->param_count; i++) {
        names[i] = method->params[i].name;
    }
    size_t best = method->param_count;
    if (names != NULL) {
        best = cli_nearest_best(option + strspn(option, "-"), names, method->param_count);
    }
    free(names);
    if (best < method->param_count) {
        return refuse(binder->problem, "%s has no option %s; nearest: --%s", method->name, option,
                      method->params[best].name);
    }
    return refuse_with_usage(binder, "it has no option", option);
}

/* One --word, at binder->at; takes the word after it when that is its value. */
static bool bind_option(struct binder *binder)
{
    const struct cli_method *method = binder->call->method;
    const char *option = binder->words[binder->at++];
    const char *name = option + 2;
    size_t len = strcspn(name, "=");
    const char *value = name[len] == '=' ? name + len + 1 : NULL;
    const struct cli_param *param = cli_method_param(method, name, len);
    if (param == NULL && strncmp(name, "no-", 3) == 0 && value == NULL) {
        param = cli_method_param(method, name + 3, len - 3);
        if (param != NULL && param->kind == CLI_KIND_BOOL) {
            return set_value(binder, param, "false");
        }
        param = NULL;
    }
    if (param == NULL) {
        return refuse_option(binder, option);
    }
    if (value == NULL && param->kind == CLI_KIND_BOOL) {
        return set_value(binder, param, "true");
    }
    if (value == NULL && param->kind == CLI_KIND_PERIOD) {
        return set_value(binder, param, "1");
    }
    if (value == NULL && binder->at == binder->count) {
        return refuse(binder->problem, "%s: --%s needs a value", method->name, param->name);
    }
    return set_value(binder, param, value != NULL ? value : binder->words[binder->at++]);
}

/* One -o, at binder->at, with its value in the same word or the next. */
static bool bind_letter(struct binder *binder)
{
    const char *option = binder->words[binder->at++];
    const struct cli_param *param = cli_method_letter(binder->call->method, option[1]);
    if (param == NULL) {
        return refuse_option(binder, option);
    }
    if (option[2] != '\0') {
        return set_value(binder, param, option + 2);
    }
    if (binder->at == binder->count) {
        return refuse(binder->problem, "%s: %s needs a value", binder->call->method->name, option);
    }
    return set_value(binder, param, binder->words[binder->at++]);
}

/* First pass.  A - alone, and a - with a digit or a point behind it, is no option. */
static bool bind_options(struct binder *binder)
{
    bool options_end = false;
    while (binder->at < binder->count) {
        const char *word = binder->words[binder->at];
        bool is_option = !options_end && word[0] == '-' && word[1] != '\0' && word[1] != '.' &&
                         !isdigit((unsigned char)word[1]);
        if (!is_option) {
            binder->plain[binder->plain_count++] = word;
            binder->at++;
        } else if (strcmp(word, "--") == 0) {
            options_end = true;
            binder->at++;
        } else if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0) {
            binder->call->wants_help = true;
            binder->at++;
        } else if (strcmp(word, "--json") == 0) {
            binder->call->wants_json = true;
            binder->at++;
        } else if (!(word[1] == '-' ? bind_option(binder) : bind_letter(binder))) {
            return false;
        }
    }
    return true;
}

/* Second pass. */
static bool bind_positions(struct binder *binder)
{
    struct cli_call *call = binder->call;
    const struct cli_method *method = call->method;
    size_t next = 0;
    for (size_t i = 0; i < binder->plain_count; i++) {
        while (next < method->param_count &&
               (call->values[next] != NULL || method->params[next].kind == CLI_KIND_PERIOD)) {
            next++;
        }
        if (next == method->param_count) {
            return refuse_with_usage(binder, "one word too many:", binder->plain[i]);
        }
        if (!set_value(binder, &method->params[next], binder->plain[i])) {
            return false;
        }
    }
    for (size_t i = 0; i < method->param_count; i++) {
        if (method->params[i].is_required && call->values[i] == NULL) {
            return refuse_with_usage(binder, "it needs", method->params[i].name);
        }
    }
    return true;
}

bool cli_bind(struct cli_call *call, char **problem, const struct cli_method *method, size_t count,
              char *const *words, const char *program)
{
    *problem = NULL;
    *call = (struct cli_call){.method = method, .values = calloc(method->param_count + 1, sizeof(char *))};
    struct binder binder = {.call = call,
                            .problem = problem,
                            .program = program,
                            .count = count,
                            .words = words,
                            .plain = calloc(count + 1, sizeof(char *))};
    bool is_bound = call->values != NULL && binder.plain != NULL && bind_options(&binder) &&
                    (call->wants_help || bind_positions(&binder));
    free(binder.plain);
    if (!is_bound) {
        cli_call_fini(call);
    }
    return is_bound;
}

void cli_call_fini(struct cli_call *call)
{
    for (size_t i = 0; call->values != NULL && i < call->method->param_count; i++) {
        free(call->values[i]);
    }
    free(call->values);
    *call = (struct cli_call){0};
}

char *cli_call_params(const struct cli_call *call)
{
    char *params = NULL;
    size_t len;
    FILE *out = open_memstream(&params, &len);
    if (out == NULL) {
        return NULL;
    }
    const char *separator = "";
    fputc('{', out);
    for (size_t i = 0; i < call->method->param_count; i++) {
        if (call->values[i] != NULL && !call->method->params[i].is_local) {
            char *name = cli_json_quote(call->method->params[i].name);
            fprintf(out, "%s%s:%s", separator, name != NULL ? name : "\"\"", call->values[i]);
            free(name);
            separator = ",";
        }
    }
    fputc('}', out);
    fclose(out);
    return params;
}

const char *cli_call_value(const struct cli_call *call, const char *param)
{
    const struct cli_param *found = cli_method_param(call->method, param, strlen(param));
    return found != NULL ? call->values[found - call->method->params] : NULL;
}
