/* cli_run.c -- scripts of commands.   Start at cli_run(). */
#include "cli_run.h"

#include "cli_words.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct script {
    const char *path; /* as messages name it */
    FILE *file;
    bool keep_going;
};

/* One line, its newline taken off. */
static enum cli_exit run_line(struct cli_session *session, const char *line)
{
    struct cli_words words;
    enum cli_exit code = CLI_EXIT_OK;
    if (!cli_words_split(&words, line)) {
        cli_session_complain(session, "no memory");
        return CLI_EXIT_ERROR;
    }
    if (words.is_open && words.quote != '\0') {
        cli_session_complain(session, "the quote %c is not closed", words.quote);
        code = CLI_EXIT_USAGE;
    } else if (words.is_open) {
        cli_session_complain(session, "a backslash ends the line; a command is one line");
        code = CLI_EXIT_USAGE;
    } else if (words.count > 0 && strcmp(words.word[0], "run") == 0) {
        cli_session_complain(session, "a script cannot run another");
        code = CLI_EXIT_USAGE;
    } else if (words.count > 0) {
        code = cli_session_execute(session, words.count, words.word);
    }
    cli_words_fini(&words);
    return code;
}

/* Runs line after line; session->where is FILE:LINE meanwhile. */
static enum cli_exit run_lines(struct cli_session *session, const struct script *script)
{
    char *line = NULL, *where = NULL;
    size_t capacity = 0;
    unsigned long number = 0;
    ssize_t len;
    enum cli_exit code = CLI_EXIT_OK, worst = CLI_EXIT_OK;
    const char *where_before = session->where;
    while ((len = getline(&line, &capacity, script->file)) >= 0) {
        free(where);
        if (asprintf(&where, "%s:%lu", script->path, ++number) < 0) {
            where = NULL;
        }
        session->where = where != NULL ? where : script->path;
        if (memchr(line, '\0', (size_t)len) != NULL) {
            cli_session_complain(session, "there is a NUL in the line");
            code = CLI_EXIT_USAGE;
        } else {
            code = run_line(session, line);
        }
        if (code == CLI_EXIT_OK) {
            continue;
        }
        worst = code == CLI_EXIT_CONNECTION ? code : CLI_EXIT_ERROR;
        if (!script->keep_going || code == CLI_EXIT_CONNECTION) {
            break;
        }
    }
    session->where = where_before;
    if (len < 0 && ferror(script->file) != 0) {
        cli_session_complain(session, "cannot read %s: %s", script->path, strerror(errno));
        worst = CLI_EXIT_ERROR;
    }
    free(where);
    free(line);
    return worst;
}

enum cli_exit cli_run(struct cli_session *session, size_t count, char *const *words)
{
    struct script script = {0};
    for (size_t i = 0; i < count; i++) {
        if (strcmp(words[i], "--keep-going") == 0) {
            script.keep_going = true;
        } else if (script.path == NULL && (words[i][0] != '-' || words[i][1] == '\0')) {
            script.path = words[i];
        } else {
            script.path = NULL;
            break;
        }
    }
    if (script.path == NULL) {
        cli_session_complain(session, "usage: %srun FILE [--keep-going]", session->program);
        return CLI_EXIT_USAGE;
    }
    bool is_stdin = strcmp(script.path, "-") == 0;
    script.file = is_stdin ? stdin : fopen(script.path, "re");
    if (script.file == NULL) {
        cli_session_complain(session, "cannot read %s: %s", script.path, strerror(errno));
        return CLI_EXIT_USAGE;
    }
    if (is_stdin) {
        script.path = "stdin";
    }
    enum cli_exit code = run_lines(session, &script);
    if (!is_stdin) {
        fclose(script.file);
    }
    return code;
}
