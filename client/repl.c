/* repl.c -- the prompt: line editing, history and completion with libedit.
 *
 * Tab completes the word before the cursor: a unique candidate replaces it, several are listed after what
 * they have in common was filled in.  Ctrl-C drops the line, Ctrl-D on an empty one ends the session.
 * The history is $XDG_STATE_HOME/heapctl_history, else ~/.heapctl_history, readable to its owner only;
 * lines with a token in them are not kept.
 * Events that arrive while a line is edited are written above it: instead of libedit's own function a wait
 * for the keyboard and the daemon both reads the characters.   Start at repl_run().
 */
#include "repl.h"

#include "cli_complete.h"
#include "cli_event.h"
#include "cli_json.h"
#include "cli_run.h"
#include "cli_words.h"

#include <errno.h>
#include <histedit.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <wchar.h>

#define HISTORY_LINES_MAX 1000
/* Candidates beyond this many are counted instead of listed. */
#define LISTED_MAX 100

/* libedit hands this to the functions that it calls. */
struct repl {
    struct cli_session *session;
    EditLine *edit;
    History *history;
    char prompt[8];
    char *history_path; /* owned; NULL: no home, nothing is kept */
    bool is_cleared;    /* an event was written where the line that is edited stood */
    bool is_alone;      /* the connection is gone, which the next command will say */
};

static struct repl *repl_of(EditLine *edit)
{
    void *data = NULL;
    el_get(edit, EL_CLIENTDATA, &data);
    return data;
}

static char *prompt(EditLine *edit)
{
    return repl_of(edit)->prompt;
}

/* ---- completion ---- */

/* What is before the cursor: its words, the last of which is the one to complete. */
struct typed {
    struct cli_words words;
    char **word; /* words.word, and "" behind it if the cursor is behind a blank; owned */
    size_t count;
    size_t characters; /* of the last word as typed, its quotes included */
    char empty[1];
};

/* Reads the line up to the cursor.  False: no memory. */
static bool typed_init(struct typed *typed, EditLine *edit)
{
    const LineInfo *info = el_line(edit);
    char *line = strndup(info->buffer, (size_t)(info->cursor - info->buffer));
    *typed = (struct typed){0};
    if (line == NULL || !cli_words_split(&typed->words, line)) {
        free(line);
        return false;
    }
    size_t len = strlen(line), count = typed->words.count;
    typed->word = calloc(count + 2, sizeof *typed->word);
    if (typed->word == NULL) {
        cli_words_fini(&typed->words);
        free(line);
        return false;
    }
    memcpy(typed->word, typed->words.word, count * sizeof *typed->word);
    bool is_new = count == 0 || (!typed->words.is_open && (line[len - 1] == ' ' || line[len - 1] == '\t'));
    typed->count = count + is_new;
    if (is_new) {
        typed->word[count] = typed->empty;
    } else {
        size_t characters = mbstowcs(NULL, line + typed->words.at[count - 1], 0);
        typed->characters = characters != (size_t)-1 ? characters : len - typed->words.at[count - 1];
    }
    free(line);
    return true;
}

static void typed_fini(struct typed *typed)
{
    cli_words_fini(&typed->words);
    free(typed->word);
}

/* How many bytes all candidates begin with, whole characters only. */
static size_t common_prefix(const json_t *j_found)
{
    const char *first = json_string_value(json_array_get(j_found, 0));
    size_t len = strlen(first), i;
    const json_t *j_word;
    json_array_foreach(j_found, i, j_word)
    {
        const char *word = json_string_value(j_word);
        size_t same = 0;
        while (same < len && word[same] == first[same]) {
            same++;
        }
        len = same;
    }
    while (len > 0 && ((unsigned char)first[len] & 0xC0) == 0x80) {
        len--;
    }
    return len;
}

/* Puts `text` in place of the word before the cursor. */
static void replace_word(EditLine *edit, const struct typed *typed, const char *text, const char *end)
{
    char *quoted = cli_words_quote(text);
    if (quoted != NULL) {
        el_deletestr(edit, (int)typed->characters);
        el_insertstr(edit, quoted);
        el_insertstr(edit, end);
    }
    free(quoted);
}

static void list_candidates(const json_t *j_found)
{
    size_t i;
    const json_t *j_word;
    fputc('\n', stdout);
    json_array_foreach(j_found, i, j_word)
    {
        if (i == LISTED_MAX) {
            printf(" .. and %zu more", json_array_size(j_found) - i);
            break;
        }
        fputs(i > 0 ? "  " : "", stdout);
        cli_json_put_text(stdout, json_string_value(j_word), json_string_length(j_word), "");
    }
    fputc('\n', stdout);
    fflush(stdout);
}

static unsigned char complete(EditLine *edit, int key)
{
    (void)key;
    struct repl *repl = repl_of(edit);
    struct typed typed;
    if (!typed_init(&typed, edit)) {
        return CC_ERROR;
    }
    unsigned char answer = CC_ERROR;
    json_t *j_found = cli_complete(repl->session->table, repl->session->client, typed.count, typed.word);
    if (json_array_size(j_found) == 1) {
        replace_word(edit, &typed, json_string_value(json_array_get(j_found, 0)), " ");
        answer = CC_REFRESH;
    } else if (json_array_size(j_found) > 1) {
        size_t same = common_prefix(j_found);
        if (same > strlen(typed.word[typed.count - 1])) {
            char *prefix = strndup(json_string_value(json_array_get(j_found, 0)), same);
            if (prefix != NULL) {
                replace_word(edit, &typed, prefix, "");
            }
            free(prefix);
            answer = CC_REFRESH;
        } else {
            list_candidates(j_found);
            answer = CC_REDISPLAY;
        }
    }
    json_decref(j_found);
    typed_fini(&typed);
    return answer;
}

/* Ctrl-C: a fresh line. */
static unsigned char drop_line(EditLine *edit, int key)
{
    (void)key;
    const LineInfo *info = el_line(edit);
    el_cursor(edit, (int)(info->lastchar - info->cursor));
    fputs("^C\n", stdout);
    fflush(stdout);
    info = el_line(edit);
    el_deletestr(edit, (int)(info->lastchar - info->buffer));
    return CC_REDISPLAY;
}

/* ---- history ---- */

static char *history_path(void)
{
    const char *state = getenv("XDG_STATE_HOME");
    const char *home = getenv("HOME");
    char *path = NULL;
    int len = -1;
    if (state != NULL && *state == '/') {
        len = asprintf(&path, "%s/heapctl_history", state);
    } else if (home != NULL && *home == '/') {
        len = asprintf(&path, "%s/.heapctl_history", home);
    }
    return len < 0 ? NULL : path;
}

/* Written after each line, so that nothing is lost however heapctl ends; a file that cannot be written is
 * no reason to complain. */
static void save_history(struct repl *repl)
{
    HistEvent event;
    if (repl->history_path != NULL) {
        mode_t mask = umask(0077);
        history(repl->history, &event, H_SAVE, repl->history_path);
        umask(mask);
    }
}

static void remember(struct repl *repl, const char *line)
{
    HistEvent event;
    line += strspn(line, " \t\r\n");
    if (*line == '\0' || strncmp(line, "auth", 4) == 0 || strncmp(line, "session.resume", 14) == 0) {
        return;
    }
    history(repl->history, &event, H_ENTER, line);
    save_history(repl);
}

/* ---- events above the line ---- */

static void put_above(void *arg, json_t *j_params)
{
    struct repl *repl = arg;
    const struct cli_style *style = &repl->session->style;
    if (!repl->is_cleared) {
        fputs("\r\033[K", stdout);
        repl->is_cleared = true;
    }
    if (repl->session->json) {
        cli_event_put_json(stdout, style, j_params);
    } else {
        fputs("event ", stdout);
        cli_event_put(stdout, style, j_params);
    }
}

/* Writes what has come from the daemon above the line, and the line again below. */
static void show_events_above(struct repl *repl)
{
    repl->is_cleared = false;
    heapd_on_event(repl->session->client, put_above, repl);
    repl->is_alone = heapd_take_events(repl->session->client, NULL) != HEAPD_OK;
    cli_session_show_events(repl->session);
    fflush(stdout);
    if (repl->is_cleared) {
        el_set(repl->edit, EL_REFRESH);
    }
}

/* One byte of the keyboard, what the daemon says being shown meanwhile.  0: the end, -1: an error. */
static int read_byte(struct repl *repl, char *byte)
{
    for (;;) {
        struct pollfd fds[2] = {{STDIN_FILENO, POLLIN, 0},
                                {repl->is_alone ? -1 : heapd_fd(repl->session->client), POLLIN, 0}};
        int ready = poll(fds, 2, -1);
        if (ready < 0 && errno == EINTR) { /* libedit has noted the new size of the window */
            el_set(repl->edit, EL_REFRESH);
        } else if (ready < 0 || fds[0].revents != 0) {
            ssize_t n = ready < 0 ? -1 : read(STDIN_FILENO, byte, 1);
            if (n >= 0 || errno != EINTR) {
                return (int)n;
            }
        } else if (fds[1].revents != 0) {
            show_events_above(repl);
        }
    }
}

/* What libedit calls for each character. */
static int read_character(EditLine *edit, wchar_t *character)
{
    struct repl *repl = repl_of(edit);
    mbstate_t state = {0};
    for (;;) {
        char byte;
        int n = read_byte(repl, &byte);
        if (n <= 0) {
            return n;
        }
        size_t size = mbrtowc(character, &byte, 1, &state);
        if (size == (size_t)-1) { /* not in the locale's encoding: the byte as it is */
            *character = (unsigned char)byte;
            return 1;
        }
        if (size != (size_t)-2) {
            return 1;
        }
    }
}

/* ---- the prompt ---- */

static bool repl_init(struct repl *repl, struct cli_session *session)
{
    HistEvent event;
    *repl = (struct repl){.session = session, .history_path = history_path(), .prompt = "heapd> "};
    repl->edit = el_init("heapctl", stdin, stdout, stderr);
    repl->history = history_init();
    if (repl->edit == NULL || repl->history == NULL) {
        return false;
    }
    history(repl->history, &event, H_SETSIZE, HISTORY_LINES_MAX);
    history(repl->history, &event, H_SETUNIQUE, 1);
    if (repl->history_path != NULL) {
        history(repl->history, &event, H_LOAD, repl->history_path);
    }
    el_set(repl->edit, EL_CLIENTDATA, repl);
    el_set(repl->edit, EL_PROMPT, prompt);
    el_set(repl->edit, EL_EDITOR, "emacs");
    el_set(repl->edit, EL_SIGNAL, 1);
    el_set(repl->edit, EL_HIST, history, repl->history);
    el_wset(repl->edit, EL_GETCFN, read_character);
    /* The wide form keeps the strings as they are; the narrow one copies them and never frees the copies. */
    el_wset(repl->edit, EL_ADDFN, L"heapctl-complete", L"complete the word", complete);
    el_wset(repl->edit, EL_ADDFN, L"heapctl-drop-line", L"drop the line", drop_line);
    el_set(repl->edit, EL_BIND, "^I", "heapctl-complete", NULL);
    el_set(repl->edit, EL_BIND, "^R", "em-inc-search-prev", NULL);
    /* While a line is edited Ctrl-C is a key (and so is Ctrl-Z); while a command runs it ends heapctl. */
    el_set(repl->edit, EL_SETTY, "-d", "-isig", NULL);
    el_set(repl->edit, EL_BIND, "^C", "heapctl-drop-line", NULL);
    return true;
}

static void repl_fini(struct repl *repl)
{
    if (repl->edit != NULL) {
        el_end(repl->edit);
    }
    if (repl->history != NULL) {
        history_end(repl->history);
    }
    free(repl->history_path);
}

/* Runs one line.  Returns false when the session is over. */
static bool run_line(struct repl *repl, const char *line, enum cli_exit *code)
{
    struct cli_session *session = repl->session;
    struct cli_words words;
    bool goes_on = true;
    if (!cli_words_split(&words, line)) {
        cli_session_complain(session, "no memory");
        return true;
    }
    if (words.is_open) {
        cli_session_complain(session, "a quote is not closed");
    } else if (words.count == 1 &&
               (strcmp(words.word[0], "exit") == 0 || strcmp(words.word[0], "quit") == 0)) {
        goes_on = false;
    } else if (words.count > 0) {
        bool is_script = strcmp(words.word[0], "run") == 0;
        *code = is_script ? cli_run(session, words.count - 1, words.word + 1)
                          : cli_session_execute(session, words.count, words.word);
        goes_on = *code != CLI_EXIT_CONNECTION;
    }
    cli_words_fini(&words);
    fflush(stdout);
    return goes_on;
}

enum cli_exit repl_run(struct cli_session *session)
{
    struct repl repl;
    enum cli_exit code = CLI_EXIT_OK;
    if (!repl_init(&repl, session)) {
        repl_fini(&repl);
        cli_session_complain(session, "no memory for the prompt");
        return CLI_EXIT_ERROR;
    }
    session->program = "";
    printf("heapctl on %s.  help lists the commands, Tab completes, Ctrl-D ends the session.\n",
           heapd_address(session->client));
    bool goes_on = true;
    while (goes_on) {
        int len;
        const char *line = el_gets(repl.edit, &len);
        if (line == NULL || len <= 0) {
            fputc('\n', stdout);
            break;
        }
        remember(&repl, line);
        goes_on = run_line(&repl, line, &code);
    }
    repl_fini(&repl);
    return code == CLI_EXIT_CONNECTION ? code : CLI_EXIT_OK;
}
