/* heapctl.c -- the command line of heapd.
 *
 *   heapctl.c       options, and what to do: one command, a script, the prompt
 *   cli_session.c   a connection and the commands run on it
 *   cli_method.c    the daemon's methods, asked from it        cli_bind.c    words -> params
 *   cli_print.c     replies for people (cli_grid.c, cli_json.c)
 *   cli_run.c       scripts                                     repl.c        the prompt
 *   cli_help.c, cli_complete.c, cli_nearest.c, cli_words.c      what they say on the tin
 *
 * heapctl knows no method by heart but a few whose replies leave something behind (cli_session.c): what
 * there is and how it is called it asks from the daemon.   Start at main().
 */
#include "cli_help.h"
#include "cli_nearest.h"
#include "cli_run.h"
#include "cli_session.h"
#include "repl.h"

#include <errno.h>
#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* What stands before the command, read. */
struct arguments {
    struct cli_options options;
    bool wants_help, wants_version;
    char **words; /* the command and what follows */
    size_t count;
};

__attribute__((format(printf, 1, 2))) static bool refuse(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fputs("heapctl: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    return false;
}

/* The value of option `name` when words[*at] is it, as `--name VALUE` or `--name=VALUE`; *at is then its
 * last word.  NULL: it is another word; `*missing` is set when its value is not there. */
static const char *option_value(const char *name, char **words, int count, int *at, bool *missing)
{
    size_t len = strlen(name);
    const char *word = words[*at];
    if (strncmp(word, name, len) != 0 || (word[len] != '\0' && word[len] != '=')) {
        return NULL;
    }
    if (word[len] == '=') {
        return word + len + 1;
    }
    if (*at + 1 == count) {
        *missing = true;
        return NULL;
    }
    return words[++*at];
}

static bool read_timeout(struct cli_options *options, const char *text)
{
    char *end = NULL;
    double seconds = strtod(text, &end);
    if (end == text || *end != '\0' || !isfinite(seconds) || seconds < 0 || seconds > 1e9) {
        return refuse("--timeout takes seconds, like 5 or 0.5, not %s", text);
    }
    options->timeout_ms = (int64_t)ceil(seconds * 1000);
    return true;
}

static bool refuse_option(const char *option)
{
    static const char *const known[] = {"--url",     "--token-file", "--json",
                                        "--timeout", "--help",       "--version"};
    size_t count = sizeof known / sizeof known[0];
    size_t best = cli_nearest_best(option, known, count);
    if (best < count) {
        return refuse("no option %s; nearest: %s", option, known[best]);
    }
    return refuse("no option %s before a command; see heapctl --help", option);
}

/* Reads the options before the command.  False: complained. */
static bool read_arguments(struct arguments *arguments, int count, char **words)
{
    const char *token_file = getenv("HEAPD_TOKEN_FILE");
    *arguments = (struct arguments){0};
    arguments->options.token_file = token_file != NULL && *token_file != '\0' ? token_file : NULL;
    int at = 1;
    for (; at < count && words[at][0] == '-' && words[at][1] != '\0'; at++) {
        bool missing = false;
        const char *option = words[at], *value;
        if (strcmp(option, "--") == 0) {
            at++;
            break;
        }
        if (strcmp(option, "--json") == 0) {
            arguments->options.json = true;
        } else if (strcmp(option, "--help") == 0 || strcmp(option, "-h") == 0) {
            arguments->wants_help = true;
        } else if (strcmp(option, "--version") == 0) {
            arguments->wants_version = true;
        } else if ((value = option_value("--url", words, count, &at, &missing)) != NULL) {
            arguments->options.url = value;
        } else if ((value = option_value("--token-file", words, count, &at, &missing)) != NULL) {
            arguments->options.token_file = value;
        } else if ((value = option_value("--timeout", words, count, &at, &missing)) != NULL) {
            if (!read_timeout(&arguments->options, value)) {
                return false;
            }
        } else {
            return missing ? refuse("%s needs a value", option) : refuse_option(option);
        }
    }
    arguments->words = words + at;
    arguments->count = (size_t)(count - at);
    return true;
}

/* Connects and does what the arguments say. */
static enum cli_exit run(const struct arguments *arguments)
{
    struct cli_session session;
    enum cli_exit code = cli_session_open(&session, &arguments->options);
    if (code == CLI_EXIT_OK) {
        if (arguments->count == 0) {
            code = repl_run(&session);
        } else if (strcmp(arguments->words[0], "run") == 0) {
            code = cli_run(&session, arguments->count - 1, arguments->words + 1);
        } else {
            code = cli_session_execute(&session, arguments->count, arguments->words);
        }
        if (code != CLI_EXIT_CONNECTION) {
            cli_session_note_holds(&session);
        }
    }
    cli_session_close(&session);
    return code;
}

/* What was printed must have arrived. */
static enum cli_exit finish_output(enum cli_exit code)
{
    if (fflush(stdout) != 0 || ferror(stdout) != 0) {
        refuse("cannot write the output: %s", strerror(errno));
        return code == CLI_EXIT_OK ? CLI_EXIT_ERROR : code;
    }
    return code;
}

int main(int count, char **words)
{
    struct arguments arguments;
    /* Only how bytes are characters: numbers must not get another decimal point. */
    setlocale(LC_CTYPE, "");
    if (!read_arguments(&arguments, count, words)) {
        return CLI_EXIT_USAGE;
    }
    if (arguments.wants_version) {
        puts("heapctl " CLI_VERSION);
        return (int)finish_output(CLI_EXIT_OK);
    }
    if (arguments.wants_help) {
        cli_help_usage(stdout);
        return (int)finish_output(CLI_EXIT_OK);
    }
    if (arguments.count == 0 && (isatty(STDIN_FILENO) == 0 || isatty(STDOUT_FILENO) == 0)) {
        cli_help_usage(stderr);
        return CLI_EXIT_USAGE;
    }
    return (int)finish_output(run(&arguments));
}
