/* test_heapctl_live.c -- what goes on in heapctl until it is interrupted: watches, monitor, the prompt.
 *
 * The prompt runs on a terminal of its own (forkpty); a shell runs what must be sent a signal.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../support/fixture.h"
#include "../support/process.h"

static void heapctl_path(char *program, size_t size, char *url, size_t url_size, void **state)
{
    const struct daemon *daemon = ((struct fixture *)*state)->daemon;
    process_program(program, size, "heapctl");
    snprintf(url, url_size, "tcp:%s:%d", daemon->host, daemon->port);
}

/* Runs a script of bash; in it $H is heapctl on the fixture's daemon.  Its stdout, malloc'ed. */
static char *run_script(void **state, const char *script)
{
    char program[4200], url[256], text[8192];
    struct process_result result;
    heapctl_path(program, sizeof program, url, sizeof url, state);
    snprintf(text, sizeof text, "H='%s --url %s'; T=$(mktemp -d); trap 'rm -r $T' EXIT; %s", program, url,
             script);
    process_run(&result, (const char *[]){"bash", "-c", text, NULL}, NULL);
    if (process_has_complaint(result.err)) {
        fail_msg("%s", result.err);
    }
    char *out = result.out;
    result.out = NULL;
    process_result_free(&result);
    return out;
}

static void demand_script(void **state, const char *script, const char *expected)
{
    char *out = run_script(state, script);
    if (strcmp(out, expected) != 0) {
        fail_msg("%s\nprinted: %s\nexpected: %s", script, out, expected);
    }
    free(out);
}

/* ---- watches ---- */

static void test_heapctl_live_stats_watch_counts(void **state)
{
    char *out = run_script(state, "$H stats --watch=0.01 --count 3; echo code $?");
    assert_non_null(strstr(out, "requests/s"));
    size_t lines = 0;
    for (const char *at = out; (at = strchr(at, '\n')) != NULL; at++) {
        lines++;
    }
    assert_int_equal(lines, 5); /* the heading, three looks, the code */
    assert_non_null(strstr(out, "code 0\n"));
    assert_null(strchr(out, '\033'));
    free(out);
    demand_script(state, "$H --json stats names --watch=0.01 --count 2", "{\"count\":0}\n{\"count\":0}\n");
    demand_script(state, "$H stats --count 2 2>&1; echo code $?",
                  "heapctl: stats: --count goes with --watch\ncode 2\n");
    demand_script(state, "$H stats --watch --count 0 2>&1; echo code $?",
                  "heapctl: stats: --count must be at least 1\ncode 2\n");
    demand_script(state, "$H stats names --watch=x >/dev/null 2>&1; echo code $?", "code 2\n");
}

/* Ended by a signal in the middle of its pause, it has shown what it had, and exits cleanly. */
static void test_heapctl_live_watch_ends_on_signals(void **state)
{
    static const char *const signals[] = {"INT", "TERM"};
    for (size_t i = 0; i < 2; i++) {
        char script[512];
        snprintf(script, sizeof script,
                 "$H stats names --watch=3600 >$T/out & p=$!; until [ -s $T/out ]; do sleep 0.01; done; "
                 "kill -%s $p; wait $p; echo code $?; cat $T/out",
                 signals[i]);
        demand_script(state, script, "code 0\ncount: 0\n\n");
    }
}

/* When the daemon goes, so does the watch, and says why. */
static void test_heapctl_live_watch_ends_with_its_client(void **state)
{
    char *out = run_script(state, "$H stats names --watch=3600 >$T/out 2>$T/err & p=$!; "
                                  "until [ -s $T/out ]; do sleep 0.01; done; "
                                  "c=$($H --json server.clients | grep -o '\"client\":[0-9]*,[^}]*\"stats\"' "
                                  "| grep -o '[0-9]*' | head -1); $H server.kill $c >/dev/null; "
                                  "wait $p; echo code $?; cat $T/err");
    assert_non_null(strstr(out, "code 3\n"));
    assert_non_null(strstr(out, "closed the connection"));
    free(out);
}

/* ---- monitor ---- */

static void test_heapctl_live_monitor_prints_events(void **state)
{
    struct wire *wire = ((struct fixture *)*state)->wire;
    static const char script[] = "$H %s monitor --events gc --count 2 >$T/out & p=$!; "
                                 "until [ $($H --json server.clients | grep -c '\"events\":1\\|subscribe') "
                                 "-gt 0 ]; do sleep 0.01; done; "
                                 "while kill -0 $p 2>/dev/null; do $H collect >/dev/null; done; "
                                 "wait $p; echo code $?; cat $T/out";
    char text[1024];
    (void)wire;
    snprintf(text, sizeof text, script, "");
    char *out = run_script(state, text);
    assert_non_null(strstr(out, "code 0\n"));
    assert_non_null(strstr(out, "gc: start of generation 2\n"));
    assert_non_null(strstr(out, "gc: stop of generation 2: "));
    free(out);
    snprintf(text, sizeof text, script, "--json");
    out = run_script(state, text);
    assert_non_null(
        strstr(out, "{\"event\":\"gc\",\"phase\":\"start\",\"generation\":2,\"automatic\":false}\n"));
    free(out);
}

static void test_heapctl_live_monitor_ends_cleanly(void **state)
{
    demand_script(state,
                  "$H monitor --events clients >$T/out & p=$!; "
                  "until [ -s $T/out ]; do $H ping >/dev/null; done; kill -INT $p; wait $p; echo code $?",
                  "code 0\n");
    char *out = run_script(state, "$H monitor --events nonsense 2>&1; echo code $?");
    assert_non_null(strstr(out, "code 1\n"));
    assert_non_null(strstr(out, "invalid_params"));
    free(out);
}

/* Events of a command's own session: apart from its output, also with --json. */
static void test_heapctl_live_events_stay_out_of_the_output(void **state)
{
    static const char script[] = "printf 'subscribe gc\\ncollect 0\\n' | $H %s run - 2>$T/err >$T/out; "
                                 "grep -c event $T/out; grep -c event $T/err";
    char text[512];
    snprintf(text, sizeof text, script, "");
    demand_script(state, text, "0\n2\n");
    snprintf(text, sizeof text, script, "--json");
    demand_script(state, text, "0\n2\n");
}

/* ---- the prompt ---- */

/* heapctl on a terminal, and what it has written there that nobody has waited for yet. */
struct prompt {
    pid_t pid;
    int terminal;
    char text[65536];
    size_t len;
};

static void prompt_start(struct prompt *prompt, void **state)
{
    char program[4200], url[256];
    struct winsize window = {.ws_row = 24, .ws_col = 100};
    heapctl_path(program, sizeof program, url, sizeof url, state);
    prompt->len = 0;
    prompt->pid = forkpty(&prompt->terminal, NULL, NULL, &window);
    assert_true(prompt->pid >= 0);
    if (prompt->pid == 0) {
        process_become_child();
        setenv("TERM", "xterm", 1);
        setenv("LC_ALL", "C.UTF-8", 1);
        unsetenv("HOME");
        unsetenv("XDG_STATE_HOME");
        execl(program, program, "--url", url, (char *)NULL);
        _exit(127);
    }
}

/* Reads until `expected` was written, and takes all up to its end; a hang fails. */
static void prompt_await(struct prompt *prompt, const char *expected)
{
    int64_t deadline = process_now_ms() + PROCESS_PATIENCE_MS;
    for (;;) {
        prompt->text[prompt->len] = '\0';
        const char *found = strstr(prompt->text, expected);
        if (found != NULL) {
            const char *rest = found + strlen(expected);
            prompt->len -= (size_t)(rest - prompt->text);
            memmove(prompt->text, rest, prompt->len);
            return;
        }
        struct pollfd fd = {prompt->terminal, POLLIN, 0};
        ssize_t n = poll(&fd, 1, 1000) > 0 ? read(prompt->terminal, prompt->text + prompt->len,
                                                  sizeof prompt->text - 1 - prompt->len)
                                           : 0;
        if (n < 0 || process_now_ms() > deadline || prompt->len + 1 == sizeof prompt->text) {
            fail_msg("waited for \"%s\", got \"%s\"", expected, prompt->text);
        }
        prompt->len += (size_t)n;
    }
}

static void prompt_type(struct prompt *prompt, const char *text)
{
    assert_int_equal(write(prompt->terminal, text, strlen(text)), strlen(text));
}

/* An event arrives while a line is typed: it is shown at once, and the line goes on where it was. */
static void test_heapctl_live_prompt_shows_events_above_the_line(void **state)
{
    struct wire *wire = ((struct fixture *)*state)->wire;
    struct prompt prompt;
    prompt_start(&prompt, state);
    prompt_await(&prompt, "heapd> ");
    prompt_type(&prompt, "subscribe gc\r");
    prompt_await(&prompt, "heapd> ");
    prompt_type(&prompt, "create '\"\xc3\xa4");
    prompt_await(&prompt, "\xc3\xa4");
    json_decref(wire_callf(wire, "collect", "{s:i}", "generation", 1));
    prompt_await(&prompt, "event gc: stop of generation 1");
    prompt_await(&prompt, "create '\"\xc3\xa4");
    prompt_type(&prompt, "bc\"' --name a\r");
    prompt_await(&prompt, "refcount");
    prompt_await(&prompt, "heapd> ");
    json_t *j_value = wire_callf(wire, "get", "[s]", "a");
    assert_string_equal(json_string_value(j_value), "\xc3\xa4"
                                                    "bc");
    json_decref(j_value);
    prompt_type(&prompt, "ping\r");
    prompt_await(&prompt, "pong");
    prompt_await(&prompt, "heapd> ");
    prompt_type(&prompt, "exit\r");
    int status;
    assert_int_equal(waitpid(prompt.pid, &status, 0), prompt.pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    close(prompt.terminal);
}

/* Ctrl-C ends a watch, not the session. */
static void test_heapctl_live_prompt_survives_a_watch(void **state)
{
    struct prompt prompt;
    prompt_start(&prompt, state);
    prompt_await(&prompt, "heapd> ");
    prompt_type(&prompt, "stats --watch=3600\r");
    prompt_await(&prompt, "requests/s");
    prompt_type(&prompt, "\003");
    prompt_await(&prompt, "heapd> ");
    prompt_type(&prompt, "ping\r");
    prompt_await(&prompt, "pong");
    prompt_await(&prompt, "heapd> ");
    prompt_type(&prompt, "exit\r");
    int status;
    assert_int_equal(waitpid(prompt.pid, &status, 0), prompt.pid);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    close(prompt.terminal);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        fixture_test(test_heapctl_live_stats_watch_counts),
        fixture_test(test_heapctl_live_watch_ends_on_signals),
        fixture_test(test_heapctl_live_watch_ends_with_its_client),
        fixture_test(test_heapctl_live_monitor_prints_events),
        fixture_test(test_heapctl_live_monitor_ends_cleanly),
        fixture_test(test_heapctl_live_events_stay_out_of_the_output),
        fixture_test(test_heapctl_live_prompt_shows_events_above_the_line),
        fixture_test(test_heapctl_live_prompt_survives_a_watch),
    };
    return cmocka_run_group_tests_name("heapctl_live", tests, NULL, NULL);
}
