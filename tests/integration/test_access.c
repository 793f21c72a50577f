/* test_access.c -- who gets in, and what for: tokens on a real daemon, peers of a Unix socket, --user. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <pwd.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../support/fixture.h"
#include "../support/process.h"

#define NOBODY 65534

/* ---- a daemon with tokens ---- */

static char token_path[64];

static void write_tokens(const char *text)
{
    FILE *file = fopen(token_path, "w");
    assert_non_null(file);
    assert_int_equal(fchmod(fileno(file), 0600), 0);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

static int setup(void **state)
{
    (void)state;
    snprintf(token_path, sizeof token_path, "/tmp/heapd-tokens-XXXXXX");
    int fd = mkstemp(token_path);
    assert_true(fd >= 0);
    close(fd);
    write_tokens("read reader-1\nwrite writer-1\nadmin admin-1\n");
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    unlink(token_path);
    wire_close_all();
    return 0;
}

/* The daemon's log once that is in it. */
static char *log_with(const struct daemon *daemon, const char *text)
{
    for (int64_t deadline = process_now_ms() + PROCESS_PATIENCE_MS;;) {
        char *log = daemon_log(daemon);
        if (strstr(log, text) != NULL) {
            return log;
        }
        if (process_now_ms() > deadline) {
            fail_msg("waited for \"%s\"; the log: %s", text, log);
        }
        free(log);
        usleep(1000);
    }
}

static struct daemon *start(void)
{
    if (daemon_is_elsewhere()) {
        process_skip("the daemon runs elsewhere");
    }
    return daemon_start((const char *[]){"--auth-token-file", token_path, NULL});
}

/* A TCP connection that has shown the token. */
static struct wire *open_as(const struct daemon *daemon, const char *token)
{
    struct wire *wire = wire_open(daemon);
    json_decref(wire_callf(wire, "auth", "[s]", token));
    return wire;
}

/* Nothing is left, as a peer on the Unix socket sees it, and the end is clean. */
static void stop(struct daemon *daemon)
{
    struct wire *wire = wire_open_unix(daemon);
    fixture_demand_empty(wire);
    wire_close(wire);
    daemon_stop(daemon);
}

static void is_refused(struct wire *wire, const char *line, const char *word)
{
    char expected[128];
    snprintf(expected, sizeof expected, "{'id':1,'error':<error %s>}", word);
    wire_expect(wire, line, expected);
}

/* ---- tokens ---- */

static void test_access_gives_nothing_without_a_token(void **state)
{
    (void)state;
    struct daemon *daemon = start();
    struct wire *wire = wire_open(daemon);
    wire_expect(wire, "{'id':1,'method':'ping'}", "{'id':1,'result':'pong'}");
    is_refused(wire, "{'id':1,'method':'create','params':[[1],'a']}", "unauthenticated");
    is_refused(wire, "{'id':1,'method':'stats','params':['server']}", "unauthenticated");
    is_refused(wire, "{'id':1,'method':'rpc.discover'}", "unauthenticated");
    is_refused(wire, "{'id':1,'method':'server.shutdown'}", "unauthenticated");
    is_refused(wire, "{'id':1,'method':'no.such'}", "unauthenticated");
    wire_expect(wire, "[{'id':1,'method':'name.list'},{'id':2,'method':'ping'}]",
                "[{'id':1,'error':<error unauthenticated>},{'id':2,'result':'pong'}]");
    struct wire *local = wire_open_unix(daemon);
    wire_expect(local, "{'id':1,'method':'name.list'}", "{'id':1,'result':{'names':[],'next':null}}");
    wire_close(local);
    wire_close(wire);
    stop(daemon);
}

static void test_access_gives_each_role_its_own(void **state)
{
    (void)state;
    struct daemon *daemon = start();
    struct wire *reader = open_as(daemon, "reader-1"), *writer = open_as(daemon, "writer-1"),
                *admin = open_as(daemon, "admin-1");
    json_decref(wire_callf(writer, "create", "{s:[i],s:s}", "value", 1, "name", "a"));
    wire_expect(reader, "{'id':1,'method':'get','params':['a']}", "{'id':1,'result':[1]}");
    is_refused(reader, "{'id':1,'method':'list.append','params':['a',2]}", "forbidden");
    is_refused(reader, "{'id':1,'method':'name.lookup','params':['a',true]}", "forbidden");
    is_refused(reader, "{'id':1,'method':'collect'}", "forbidden");
    is_refused(writer, "{'id':1,'method':'heap.check'}", "forbidden");
    is_refused(writer, "{'id':1,'method':'server.clients'}", "forbidden");
    is_refused(writer, "{'id':1,'method':'subscribe','params':[['journal']]}", "forbidden");
    json_t *j_clients = wire_callf(admin, "server.clients", NULL), *j_row;
    size_t i;
    static const char *const roles[] = {"read", "write", "admin"};
    json_array_foreach(json_object_get(j_clients, "clients"), i, j_row)
    {
        assert_string_equal(json_string_value(json_object_get(j_row, "role")), roles[i]);
    }
    assert_int_equal(i, 3);
    json_decref(j_clients);
    json_decref(wire_callf(writer, "name.unbind", "[s]", "a"));
    wire_close(reader);
    wire_close(writer);
    wire_close(admin);
    stop(daemon);
}

/* A session is of whoever has its token, but what may be done in it is a matter of one's own token; and when it is over,
 * its token is worth nothing, over TCP as over the Unix socket. */
static void test_access_gives_nothing_for_sessions(void **state)
{
    (void)state;
    char resume[128];
    struct daemon *daemon = start();
    struct wire *writer = open_as(daemon, "writer-1"), *reader = open_as(daemon, "reader-1"),
                *nobody = wire_open(daemon), *local = wire_open_unix(daemon);
    json_t *j_session = wire_callf(writer, "session.open", "[i]", 60000);
    snprintf(resume, sizeof resume, "{'id':1,'method':'session.resume','params':['%s']}",
             json_string_value(json_object_get(j_session, "session")));
    json_decref(j_session);
    json_decref(wire_callf(writer, "create", "[[i]]", 1));
    is_refused(nobody, resume, "unauthenticated");
    wire_expect(reader, resume, "{'id':1,'result':<any>}");
    is_refused(reader, "{'id':1,'method':'create','params':[[1],'a']}", "forbidden");
    is_refused(reader, "{'id':1,'method':'collect'}", "forbidden");
    json_decref(wire_callf(writer, "session.close", NULL));
    is_refused(writer, resume, "not_found");
    is_refused(reader, resume, "not_found");
    is_refused(local, resume, "not_found");
    /* One that was left alone for longer than its lease. */
    j_session = wire_callf(writer, "session.open", "[i]", 1);
    snprintf(resume, sizeof resume, "{'id':1,'method':'session.resume','params':['%s']}",
             json_string_value(json_object_get(j_session, "session")));
    json_decref(j_session);
    json_decref(wire_callf(writer, "create", "[[i]]", 1));
    wire_close(writer);
    for (int64_t deadline = process_now_ms() + PROCESS_PATIENCE_MS;
         wire_stat(local, "sessions", "leased") > 0 && process_now_ms() < deadline;) {
        usleep(1000);
    }
    is_refused(local, resume, "not_found");
    is_refused(reader, resume, "not_found");
    wire_close(reader);
    wire_close(nobody);
    wire_close(local);
    stop(daemon);
}

/* Who is let in by the kernel's word is refused a wrong token all the same. */
static void test_access_wrong_token_on_the_unix_socket(void **state)
{
    (void)state;
    struct daemon *daemon = start();
    struct wire *local = wire_open_unix(daemon);
    for (int i = 0; i < 3; i++) {
        is_refused(local, "{'id':1,'method':'auth','params':['guess']}", "unauthenticated");
    }
    wire_expect_end(local);
    wire_close(local);
    stop(daemon);
}

static void test_access_delays_and_closes_at_the_third(void **state)
{
    (void)state;
    struct daemon *daemon = start();
    struct wire *wire = wire_open(daemon);
    int64_t began = process_now_ms();
    for (int i = 0; i < 3; i++) {
        is_refused(wire, "{'id':1,'method':'auth','params':['guess']}", "unauthenticated");
    }
    wire_expect_end(wire);
    assert_true(process_now_ms() - began >= 1500);
    wire_close(wire);
    struct wire *local = wire_open_unix(daemon);
    assert_int_equal(wire_stat(local, "limits", "wrong_tokens"), 3);
    wire_close(local);
    char *log = daemon_log(daemon);
    assert_non_null(strstr(log, "has shown 3 wrong tokens"));
    assert_null(strstr(log, "guess"));
    free(log);
    stop(daemon);
}

/* Others do not wait for somebody's wrong tokens. */
static void test_access_serves_others_meanwhile(void **state)
{
    (void)state;
    struct daemon *daemon = start();
    struct wire *guessers[20], *wire = open_as(daemon, "reader-1");
    for (int i = 0; i < 20; i++) {
        guessers[i] = wire_open(daemon);
        wire_send_text(guessers[i], "{\"id\":1,\"method\":\"auth\",\"params\":[\"guess\"]}\n");
    }
    for (int i = 0; i < 100; i++) {
        wire_expect(wire, "{'id':1,'method':'ping'}", "{'id':1,'result':'pong'}");
    }
    for (int i = 0; i < 20; i++) {
        wire_expect_line(guessers[i], "{'id':1,'error':<error unauthenticated>}");
        wire_close(guessers[i]);
    }
    wire_close(wire);
    stop(daemon);
}

static void test_access_reads_tokens_again(void **state)
{
    (void)state;
    struct daemon *daemon = start();
    struct wire *reader = open_as(daemon, "reader-1"), *writer = open_as(daemon, "writer-1");
    write_tokens("read reader-1\nwrite writer-2\n");
    kill(daemon->pid, SIGHUP);
    wire_expect_end(writer); /* its token is gone */
    wire_close(writer);
    wire_expect(reader, "{'id':1,'method':'name.list'}", "{'id':1,'result':{'names':[],'next':null}}");
    struct wire *fresh = open_as(daemon, "writer-2");
    is_refused(fresh, "{'id':1,'method':'auth','params':['admin-1']}", "unauthenticated");
    /* A file that is wrong changes nothing. */
    write_tokens("nonsense\n");
    kill(daemon->pid, SIGHUP);
    char *log = log_with(daemon, "left as they were");
    assert_null(strstr(log, "nonsense"));
    free(log);
    json_decref(wire_callf(fresh, "ping", NULL));
    wire_close(open_as(daemon, "writer-2"));
    wire_close(fresh);
    wire_close(reader);
    stop(daemon);
}

/* Also when something else is wrong with the configuration: here the folder of exports is gone. */
static void test_access_reads_tokens_again_whatever_else_is_wrong(void **state)
{
    (void)state;
    char folder[] = "/tmp/heapd-exports-XXXXXX";
    assert_non_null(mkdtemp(folder));
    if (daemon_is_elsewhere()) {
        process_skip("the daemon runs elsewhere");
    }
    struct daemon *daemon =
        daemon_start((const char *[]){"--auth-token-file", token_path, "--export-dir", folder, NULL});
    struct wire *writer = open_as(daemon, "writer-1");
    assert_int_equal(rmdir(folder), 0);
    write_tokens("read reader-1\n");
    kill(daemon->pid, SIGHUP);
    wire_expect_end(writer); /* its token is gone */
    wire_close(writer);
    char *log = daemon_log(daemon);
    assert_non_null(strstr(log, "the configuration is left as it was"));
    free(log);
    stop(daemon);
}

/* ---- starts ---- */

/* Runs heapd with these arguments, which it refuses with exit code 2, saying so. */
static void start_fails(const char *why, const char *const arguments[])
{
    struct process_result result;
    char program[4200];
    const char *argv[16] = {program};
    process_program(program, sizeof program, "heapd");
    for (size_t i = 0; arguments[i] != NULL; i++) {
        argv[i + 1] = arguments[i];
    }
    process_run(&result, argv, NULL);
    if (result.exit_code != 2 || strstr(result.err, why) == NULL || result.out_len != 0) {
        fail_msg("wanted exit code 2 and \"%s\"; came %d, \"%s\"", why, result.exit_code, result.err);
    }
    process_result_free(&result);
}

static void test_access_refuses_to_start_without_protection(void **state)
{
    (void)state;
    start_fails("needs an auth token", (const char *[]){"--listen", "tcp:0.0.0.0:0", NULL});
    start_fails("needs an auth token", (const char *[]){"--listen", "tcp:[::]:0", NULL});
    start_fails("cannot read /no/such", (const char *[]){"--auth-token-file", "/no/such", NULL});
    start_fails("cannot read /no/such", (const char *[]){"--auth-token-file", "/no/such", "--check-config", NULL});
    assert_int_equal(chmod(token_path, 0644), 0);
    start_fails("others can read", (const char *[]){"--auth-token-file", token_path, NULL});
    write_tokens("");
    start_fails("no token in it", (const char *[]){"--auth-token-file", token_path, NULL});
    start_fails("no user", (const char *[]){"--user", "no-such-user-here", NULL});
}

static void test_access_listens_off_loopback_with_tokens(void **state)
{
    (void)state;
    if (daemon_is_elsewhere()) {
        process_skip("the daemon runs elsewhere");
    }
    struct daemon *daemon = daemon_start_at((const char *[]){"--listen", "tcp:0.0.0.0:0", NULL},
                                            (const char *[]){"--auth-token-file", token_path, NULL});
    strcpy(daemon->host, "127.0.0.1");
    struct wire *wire = open_as(daemon, "admin-1");
    fixture_demand_empty(wire);
    wire_close(wire);
    daemon_stop(daemon);
}

static void test_access_says_who_is_admin_without_tokens(void **state)
{
    (void)state;
    struct daemon *daemon = start();
    char *log = daemon_log(daemon);
    assert_null(strstr(log, "is admin"));
    free(log);
    stop(daemon);
    daemon = daemon_start(NULL);
    log = daemon_log(daemon);
    assert_non_null(strstr(log, "whoever can connect from this machine is admin"));
    free(log);
    daemon_stop(daemon);
}

/* ---- users ---- */

/* In a child that is somebody else: what the socket says to a ping.  Exit code 0: pong, 1: nothing, 2: no connection. */
static int ping_as(uid_t uid, const char *path)
{
    int status;
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        struct sockaddr_un name = {.sun_family = AF_UNIX};
        char reply[64];
        static const char line[] = "{\"id\":1,\"method\":\"ping\"}\n";
        snprintf(name.sun_path, sizeof name.sun_path, "%s", path);
        int fd = socket(AF_UNIX, SOCK_STREAM, 0);
        if (setresuid(uid, uid, uid) != 0 || connect(fd, (struct sockaddr *)&name, sizeof name) != 0) {
            _exit(2);
        }
        (void)!send(fd, line, strlen(line), MSG_NOSIGNAL);
        _exit(recv(fd, reply, sizeof reply, 0) > 0 ? 0 : 1);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

/* Neither the mode of the socket nor that of its folder is all that keeps others out. */
static void test_access_refuses_other_users(void **state)
{
    (void)state;
    if (geteuid() != 0) {
        process_skip("only root can be somebody else");
    }
    struct daemon *daemon = start();
    assert_int_equal(ping_as(0, daemon->socket), 0);
    assert_int_equal(ping_as(NOBODY, daemon->socket), 2);
    assert_int_equal(chmod(daemon->folder, 0755), 0);
    assert_int_equal(chmod(daemon->socket, 0666), 0);
    assert_int_equal(ping_as(NOBODY, daemon->socket), 1);
    char *log = daemon_log(daemon);
    assert_non_null(strstr(log, "a connection of user 65534 was refused"));
    free(log);
    stop(daemon);
}

/* The line of /proc/PID/status that begins so. */
static void demand_status(pid_t pid, const char *name, const char *rest)
{
    char path[64], wanted[128], text[4096];
    snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
    snprintf(wanted, sizeof wanted, "\n%s:\t%s\n", name, rest);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    text[fread(text, 1, sizeof text - 1, file)] = '\0';
    fclose(file);
    if (strstr(text, wanted) == NULL) {
        fail_msg("wanted %s in:\n%s", wanted, text);
    }
}

static void test_access_becomes_the_user(void **state)
{
    (void)state;
    const struct passwd *nobody = getpwnam("nobody");
    if (geteuid() != 0 || daemon_is_elsewhere() || nobody == NULL || nobody->pw_uid != NOBODY) {
        process_skip("only root can become somebody else");
    }
    struct daemon *daemon =
        daemon_start((const char *[]){"--user", "nobody", "--auth-token-file", token_path, NULL});
    demand_status(daemon->pid, "Uid", "65534\t65534\t65534\t65534");
    demand_status(daemon->pid, "CapEff", "0000000000000000");
    demand_status(daemon->pid, "CapPrm", "0000000000000000");
    demand_status(daemon->pid, "NoNewPrivs", "1");
    assert_int_equal(chmod(daemon->folder, 0755), 0);
    assert_int_equal(ping_as(NOBODY, daemon->socket), 0); /* it is the daemon's user now */
    assert_int_equal(ping_as(0, daemon->socket), 0);
    assert_int_equal(chmod(daemon->socket, 0666), 0);
    assert_int_equal(ping_as(NOBODY - 1, daemon->socket), 1);
    stop(daemon);
}

/* Started by root, with the file of tokens that belongs to that user. */
static void test_access_reads_the_files_of_its_user(void **state)
{
    (void)state;
    if (geteuid() != 0 || daemon_is_elsewhere()) {
        process_skip("only root can give files away");
    }
    const char *arguments[] = {"--user", "nobody", "--auth-token-file", token_path, NULL};
    assert_int_equal(chown(token_path, NOBODY, (gid_t)-1), 0);
    start_fails("belongs to user 65534", &arguments[2]);
    struct daemon *daemon = daemon_start(arguments);
    struct wire *writer = open_as(daemon, "writer-1");
    write_tokens("read reader-2\n");
    kill(daemon->pid, SIGHUP);
    wire_expect_end(writer);
    wire_close(writer);
    wire_close(open_as(daemon, "reader-2"));
    char *log = daemon_log(daemon);
    assert_null(strstr(log, "SIGHUP will not read"));
    free(log);
    stop(daemon);
    assert_int_equal(chown(token_path, NOBODY - 1, (gid_t)-1), 0);
    start_fails("belongs to user 65533", arguments);
}

/* What only root can read is read once, and that is told at the start. */
static void test_access_warns_of_files_that_its_user_cannot_read(void **state)
{
    (void)state;
    if (geteuid() != 0 || daemon_is_elsewhere()) {
        process_skip("only root can become somebody else");
    }
    struct daemon *daemon = daemon_start((const char *[]){"--user", "nobody", "--auth-token-file", token_path, NULL});
    char *log = daemon_log(daemon);
    assert_non_null(strstr(log, "SIGHUP will not read /tmp/heapd-tokens-"));
    assert_non_null(strstr(log, "nobody cannot (Permission denied)"));
    free(log);
    write_tokens("read reader-2\n");
    kill(daemon->pid, SIGHUP);
    free(log_with(daemon, "the tokens are left as they were: cannot read /tmp/heapd-tokens-"));
    wire_close(open_as(daemon, "writer-1"));
    stop(daemon);
}

#define access_test(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        access_test(test_access_gives_nothing_without_a_token),
        access_test(test_access_gives_each_role_its_own),
        access_test(test_access_gives_nothing_for_sessions),
        access_test(test_access_wrong_token_on_the_unix_socket),
        access_test(test_access_delays_and_closes_at_the_third),
        access_test(test_access_serves_others_meanwhile),
        access_test(test_access_reads_tokens_again),
        access_test(test_access_reads_tokens_again_whatever_else_is_wrong),
        access_test(test_access_refuses_to_start_without_protection),
        access_test(test_access_listens_off_loopback_with_tokens),
        access_test(test_access_says_who_is_admin_without_tokens),
        access_test(test_access_refuses_other_users),
        access_test(test_access_becomes_the_user),
        access_test(test_access_reads_the_files_of_its_user),
        access_test(test_access_warns_of_files_that_its_user_cannot_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
