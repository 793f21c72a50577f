/* test_server.c -- start, options, sockets and the end of the daemon. */
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "../support/fixture.h"
#include "../support/process.h"

static void expect_pong(struct wire *wire)
{
    wire_expect(wire, "{'id':1,'method':'ping'}", "{'id':1,'result':'pong'}");
}

/* Runs heapd with these arguments (ended by NULL) to its end. */
static void run_heapd(struct process_result *result, const char *const arguments[])
{
    char program[4200];
    const char *argv[16] = {"timeout", "-k", "5", "120", program};
    process_program(program, sizeof program, "heapd");
    for (size_t i = 0; arguments[i] != NULL && i < 10; i++) {
        argv[i + 5] = arguments[i];
    }
    process_run(result, argv, NULL);
    if (process_has_complaint(result->err)) {
        fail_msg("%s", result->err);
    }
}

/* ---- options ---- */

static void test_server_refuses_bad_options(void **state)
{
    static const char *const bad[][3] = {
        {"--nope"},
        {"--max-depth"},
        {"--max-depth", "x"},
        {"--max-depth", "-1"},
        {"--max-depth", "2001"},
        {"--max-depth", ""},
        {"--max-request", "12q"},
        {"--max-request", "1.5m"},
        {"--max-request", "99999999999999999999"},
        {"--max-memory", "g"},
        {"--threads", "x"},
        {"--threads", "-1"},
        {"--idle-timeout", "soon"},
        {"--listen", "foo"},
        {"--listen", "tcp:127.0.0.1"},
        {"--listen", "tcp:127.0.0.1:99999"},
        {"--listen", "tcp:127.0.0.1:x"},
        {"--listen", "unix:"},
        {"--log-level", "loud"},
        {"--log-format", "xml"},
        {"--config", "/nonexistent/heapd.conf"},
        {"stray"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct process_result result;
        run_heapd(&result, bad[i]);
        if (result.exit_code != 2 || result.err_len == 0 || result.out_len != 0) {
            fail_msg("heapd %s %s: exit code %d, stdout \"%s\", stderr \"%s\"", bad[i][0],
                     bad[i][1] ? bad[i][1] : "", result.exit_code, result.out, result.err);
        }
        process_result_free(&result);
    }
}

static void test_server_help_and_version(void **state)
{
    static const char *const options[] = {
        "--listen",      "--threads",    "--max-memory",   "--max-request",
        "--max-depth",   "--max-batch",  "--max-holds",    "--max-names",
        "--max-clients", "--max-leases", "--max-output", "--idle-timeout", "--first-byte-timeout",
        "--config",      "--log-level",  "--version",      "--help"};
    struct process_result result;
    (void)state;
    run_heapd(&result, (const char *[]){"--help", NULL});
    assert_int_equal(result.exit_code, 0);
    for (size_t i = 0; i < sizeof options / sizeof *options; i++) {
        if (strstr(result.out, options[i]) == NULL) {
            fail_msg("--help does not know %s", options[i]);
        }
    }
    process_result_free(&result);
    run_heapd(&result, (const char *[]){"--version", NULL});
    assert_int_equal(result.exit_code, 0);
    assert_non_null(strstr(result.out, "heapd"));
    process_result_free(&result);
}

static void test_server_refuses_tcp_off_loopback_without_token(void **state)
{
    struct process_result result;
    (void)state;
    run_heapd(&result, (const char *[]){"--listen", "tcp:0.0.0.0:0", NULL});
    assert_in_range(result.exit_code, 1, 2);
    assert_int_equal(result.out_len, 0);
    assert_true(result.err_len > 0);
    process_result_free(&result);
}

static void write_file(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static int64_t limit_of(const struct daemon *daemon, const char *name)
{
    struct wire *wire = wire_open_unix(daemon);
    int64_t limit = wire_stat(wire, "limits", name);
    wire_close(wire);
    return limit;
}

/* A flag beats the environment, which beats the file. */
static void test_server_options_from_flag_environment_and_file(void **state)
{
    char folder[] = "/tmp/heapd-test-XXXXXX", path[128], program[4200], listen[160];
    struct process_result result;
    (void)state;
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/heapd.conf", folder);
    write_file(path, "# limits\nmax-batch = 5\nmax-depth = 50\n\nmax-request = 2m\n");
    struct daemon *daemon = daemon_start((const char *[]){"--config", path, "--max-depth", "60", NULL});
    assert_int_equal(limit_of(daemon, "max-batch"), 5);
    assert_int_equal(limit_of(daemon, "max-depth"), 60);
    assert_int_equal(limit_of(daemon, "max-request"), 2097152);
    daemon_stop(daemon);

    process_program(program, sizeof program, "heapd");
    snprintf(listen, sizeof listen, "unix:%s/s", folder);
    const char *const bad_environment[] = {"env", "HEAPD_MAX_DEPTH=many", program, "--check-config", NULL};
    process_run(&result, bad_environment, NULL);
    assert_int_equal(result.exit_code, 2);
    process_result_free(&result);
    const char *const good_environment[] = {"env", "HEAPD_MAX_DEPTH=70", program, "--config",
                                            path,  "--check-config",     NULL};
    process_run(&result, good_environment, NULL);
    assert_int_equal(result.exit_code, 0);
    process_result_free(&result);
    write_file(path, "max-batch = many\n");
    run_heapd(&result, (const char *[]){"--check-config", "--config", path, NULL});
    assert_int_equal(result.exit_code, 2);
    process_result_free(&result);
    write_file(path, "max-bytch = 5\n");
    run_heapd(&result, (const char *[]){"--check-config", "--config", path, NULL});
    assert_int_equal(result.exit_code, 2);
    process_result_free(&result);
    unlink(path);
    rmdir(folder);
}

static void test_server_rereads_its_configuration_on_sighup(void **state)
{
    char folder[] = "/tmp/heapd-test-XXXXXX", path[128];
    (void)state;
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/heapd.conf", folder);
    write_file(path, "max-batch = 5\n");
    struct daemon *daemon = daemon_start((const char *[]){"--config", path, "--max-depth", "60", NULL});
    assert_int_equal(limit_of(daemon, "max-batch"), 5);
    write_file(path, "max-batch = 7\nmax-depth = 50\nmax-names = 9\n");
    kill(daemon->pid, SIGHUP);
    int64_t deadline = process_now_ms() + PROCESS_PATIENCE_MS;
    while (limit_of(daemon, "max-batch") != 7) {
        assert_true(process_now_ms() < deadline);
        usleep(1000);
    }
    assert_int_equal(limit_of(daemon, "max-names"), 9);
    assert_int_equal(limit_of(daemon, "max-depth"), 60); /* a flag beats the file, still */
    /* A broken file changes nothing and stops nothing. */
    write_file(path, "max-batch = 8\nmax-depth = many\n");
    kill(daemon->pid, SIGHUP);
    usleep(300000);
    assert_int_equal(limit_of(daemon, "max-batch"), 7);
    daemon_stop(daemon);
    unlink(path);
    rmdir(folder);
}

/* The service manager hears READY=1 no later than stdout says so. */
static void test_server_notifies_the_service_manager(void **state)
{
    char folder[] = "/tmp/heapd-test-XXXXXX", message[512];
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    (void)state;
    assert_non_null(mkdtemp(folder));
    snprintf(address.sun_path, sizeof address.sun_path, "%s/notify", folder);
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    setenv("NOTIFY_SOCKET", address.sun_path, 1);
    struct daemon *daemon = daemon_start((const char *[]){"--max-depth", "1000", NULL});
    unsetenv("NOTIFY_SOCKET");
    struct pollfd wait = {fd, POLLIN, 0};
    assert_int_equal(poll(&wait, 1, PROCESS_PATIENCE_MS), 1);
    ssize_t n = recv(fd, message, sizeof message - 1, 0);
    assert_true(n > 0);
    message[n] = '\0';
    assert_non_null(strstr(message, "READY=1"));
    daemon_stop(daemon);
    close(fd);
    unlink(address.sun_path);
    rmdir(folder);
}

/* ---- sockets ---- */

static void test_server_ready_line_and_socket_mode(void **state)
{
    const struct fixture *fixture = *state;
    const struct daemon *daemon = fixture->daemon;
    char expected[512];
    struct stat info;
    if (daemon->pid == 0) {
        process_skip("the daemon runs elsewhere");
    }
    snprintf(expected, sizeof expected, "heapd ready pid=%d listen=unix:%s,tcp:127.0.0.1:%d",
             (int)daemon->pid, daemon->socket, daemon->port);
    assert_string_equal(daemon->ready, expected);
    assert_int_equal(stat(daemon->socket, &info), 0);
    assert_true(S_ISSOCK(info.st_mode));
    assert_int_equal(info.st_mode & 0777, 0600);
    assert_int_equal(wire_stat(fixture->wire, "server", "pid"), daemon->pid);
}

static void test_server_listens_on_several_addresses(void **state)
{
    char folder[] = "/tmp/heapd-test-XXXXXX", a[128], b[128];
    (void)state;
    assert_non_null(mkdtemp(folder));
    snprintf(a, sizeof a, "unix:%s/a", folder);
    snprintf(b, sizeof b, "unix:%s/b", folder);
    const char *const listen[] = {"--listen",    a,          "--listen",        b,   "--listen",
                                  "tcp:[::1]:0", "--listen", "tcp:127.0.0.1:0", NULL};
    const char *const listen4[] = {"--listen", a, "--listen", b, "--listen", "tcp:127.0.0.1:0", NULL};
    bool has_ipv6 = access("/proc/net/if_inet6", R_OK) == 0;
    struct daemon *daemon = daemon_start_at(has_ipv6 ? listen : listen4, NULL);
    for (int i = 0; i < 2; i++) {
        snprintf(daemon->socket, sizeof daemon->socket, "%s/%c", folder, 'a' + i);
        struct wire *wire = wire_open_unix(daemon);
        expect_pong(wire);
        wire_close(wire);
    }
    if (has_ipv6) {
        assert_string_equal(daemon->host, "[::1]");
    }
    struct wire *wire = wire_open(daemon);
    expect_pong(wire);
    wire_close(wire);
    daemon_stop(daemon);
    assert_int_equal(access(a + 5, F_OK), -1); /* a clean end removes the sockets */
    unlink(a + 5);
    unlink(b + 5);
    char lock[140];
    snprintf(lock, sizeof lock, "%s.lock", a + 5);
    unlink(lock);
    snprintf(lock, sizeof lock, "%s.lock", b + 5);
    unlink(lock);
    rmdir(folder);
}

static void test_server_default_socket(void **state)
{
    char folder[] = "/tmp/heapd-test-XXXXXX", program[4200], variable[128];
    struct process_result result;
    (void)state;
    assert_non_null(mkdtemp(folder));
    process_program(program, sizeof program, "heapd");
    snprintf(variable, sizeof variable, "XDG_RUNTIME_DIR=%s", folder);
    const char *const argv[] = {"env", variable, "timeout", "-s", "TERM", "-k", "60", "3", program, NULL};
    process_run(&result, argv, NULL);
    char expected[256];
    snprintf(expected, sizeof expected, " listen=unix:%s/heapd.sock\n", folder);
    if (strstr(result.out, expected) == NULL) {
        fail_msg("stdout: %s stderr: %s", result.out, result.err);
    }
    assert_false(process_has_complaint(result.err));
    process_result_free(&result);
    /* A folder that others can enter is refused. */
    chmod(folder, 0755);
    process_run(&result, argv, NULL);
    assert_in_range(result.exit_code, 1, 2);
    assert_int_equal(result.out_len, 0);
    process_result_free(&result);
    char command[256];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    assert_int_equal(system(command), 0);
}

static void bind_stale_socket(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    close(fd);
}

static void test_server_replaces_a_stale_socket(void **state)
{
    char folder[] = "/tmp/heapd-test-XXXXXX", path[100], listen[128];
    (void)state;
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/s", folder);
    snprintf(listen, sizeof listen, "unix:%s", path);
    bind_stale_socket(path);
    const char *const addresses[] = {"--listen", listen, NULL};
    struct daemon *daemon = daemon_start_at(addresses, NULL);
    strcpy(daemon->socket, path);
    struct wire *wire = wire_open_unix(daemon);
    expect_pong(wire);
    /* A second one finds it alive. */
    struct process_result result;
    run_heapd(&result, addresses);
    assert_int_equal(result.exit_code, 1);
    assert_int_equal(result.out_len, 0);
    assert_true(result.err_len > 0);
    process_result_free(&result);
    expect_pong(wire);
    wire_close(wire);
    wire = wire_open_unix(daemon);
    expect_pong(wire);
    wire_close(wire);
    /* One that was killed leaves its socket, which the next one replaces. */
    daemon_kill(daemon);
    daemon = daemon_start_at(addresses, NULL);
    strcpy(daemon->socket, path);
    wire = wire_open_unix(daemon);
    expect_pong(wire);
    wire_close(wire);
    daemon_stop(daemon);
    char command[256];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    assert_int_equal(system(command), 0);
}

/* What is no socket is not ours to remove. */
static void test_server_leaves_a_plain_file_alone(void **state)
{
    char folder[] = "/tmp/heapd-test-XXXXXX", path[100], listen[128];
    struct process_result result;
    struct stat info;
    (void)state;
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/s", folder);
    snprintf(listen, sizeof listen, "unix:%s", path);
    write_file(path, "precious\n");
    run_heapd(&result, (const char *[]){"--listen", listen, NULL});
    assert_in_range(result.exit_code, 1, 2);
    process_result_free(&result);
    assert_int_equal(stat(path, &info), 0);
    assert_true(S_ISREG(info.st_mode));
    char command[256];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    assert_int_equal(system(command), 0);
}

static void test_server_port_in_use(void **state)
{
    const struct fixture *fixture = *state;
    struct process_result result;
    char listen[256];
    snprintf(listen, sizeof listen, "tcp:%s:%d", fixture->daemon->host, fixture->daemon->port);
    run_heapd(&result, (const char *[]){"--listen", listen, NULL});
    assert_int_equal(result.exit_code, 1);
    assert_int_equal(result.out_len, 0);
    assert_true(result.err_len > 0);
    process_result_free(&result);
}

/* ---- the end ---- */

/* Replies of what was run before the signal are complete and in order. */
static void end_with_signal(int signal_number)
{
    struct daemon *daemon = daemon_start(NULL);
    if (daemon->pid == 0) {
        process_skip("the daemon runs elsewhere");
    }
    struct wire *wires[20], *idle = wire_open_unix(daemon);
    json_t *j_list = json_array();
    for (int i = 0; i < 1000; i++) {
        json_array_append_new(j_list, json_integer(i + 1000));
    }
    json_decref(wire_callf(idle, "create", "[o,s]", j_list, "list"));
    for (int i = 0; i < 20; i++) {
        wires[i] = i % 2 ? wire_open(daemon) : wire_open_unix(daemon);
        for (int n = 0; n < 20; n++) {
            char request[128];
            snprintf(request, sizeof request, "{\"id\":%d,\"method\":\"get\",\"params\":[\"list\"]}\n", n);
            wire_send_text(wires[i], request);
        }
        assert_true(wire_line_within(wires[i], PROCESS_PATIENCE_MS));
    }
    kill(daemon->pid, signal_number);
    for (int i = 0; i < 20; i++) {
        const char *reply;
        size_t len;
        int n = 0;
        for (; (reply = wire_line(wires[i], &len)) != NULL; n++) {
            char head[64];
            snprintf(head, sizeof head, "{\"id\":%d,\"result\":[1000,", n);
            assert_int_equal(strncmp(reply, head, strlen(head)), 0);
            assert_int_equal(reply[len - 1], '}');
        }
        assert_in_range(n, 1, 20);
        assert_false(wires[i]->reset);
        wire_close(wires[i]);
    }
    wire_expect_end(idle);
    wire_close(idle);
    daemon_wait(daemon);
}

static void test_server_ends_clean_on_sigterm(void **state)
{
    (void)state;
    end_with_signal(SIGTERM);
}

static void test_server_ends_clean_on_sigint(void **state)
{
    (void)state;
    end_with_signal(SIGINT);
}

/* With objects, cycles, names and holds alive, and a client that is in the middle of a line. */
static void test_server_ends_clean_with_a_full_heap(void **state)
{
    struct daemon *daemon = daemon_start(NULL);
    struct wire *wire = wire_open(daemon), *half = wire_open(daemon);
    (void)state;
    for (int i = 0; i < 2000; i++) {
        wire_expect(wire,
                    "{'id':1,'method':'create','params':[{'$let':{'x':[{'$label':'x'},{'k':['text',1000]}]},'"
                    "in':{'$label':'x'}}]}",
                    "{'id':1,'result':{'object':<int>,'type':'list','refcount':2}}");
    }
    json_decref(wire_callf(wire, "create", "[[[]],s]", "name"));
    wire_send_text(half, "{\"id\":1,\"method\":\"cre");
    daemon_stop(daemon);
    wire_expect_end(wire);
    wire_close(wire);
    wire_close(half);
}

/* ---- figures ---- */

static void test_server_counts_connections_requests_and_bytes(void **state)
{
    const struct fixture *fixture = *state;
    struct wire *wire = fixture->wire;
    int64_t requests = wire_stat(wire, "server", "requests"),
            notifications = wire_stat(wire, "server", "notifications");
    int64_t bytes_in = wire_stat(wire, "server", "bytes_in"),
            total = wire_stat(wire, "server", "connections_total");
    struct wire *other = wire_open_unix(fixture->daemon);
    for (int i = 0; i < 10; i++) {
        wire_send_text(other, "{\"method\":\"ping\"}\n");
        expect_pong(other);
    }
    assert_int_equal(wire_stat(wire, "server", "connections_total"), total + 1);
    assert_int_equal(wire_stat(wire, "server", "connections"), 2);
    assert_int_equal(wire_stat(wire, "sessions", "count"), 2);
    assert_true(wire_stat(wire, "server", "requests") >= requests + 10);
    assert_int_equal(wire_stat(wire, "server", "notifications"), notifications + 10);
    assert_true(wire_stat(wire, "server", "bytes_in") > bytes_in + 10 * 40);
    assert_true(wire_stat(wire, "server", "bytes_out") > 0);
    wire_close(other);
    json_t *j_first = wire_callf(wire, "stats", "[s]", "server");
    assert_true(strlen(json_string_value(json_object_get(j_first, "heap"))) >= 8);
    json_decref(j_first);
}

/* Two daemons know nothing of each other; each beginning heap has a new name. */
static void test_server_heaps_have_different_names(void **state)
{
    const struct fixture *fixture = *state;
    struct fixture other;
    fixture_start(&other, NULL);
    json_t *j_a = wire_callf(fixture->wire, "stats", "[s]", "server"),
           *j_b = wire_callf(other.wire, "stats", "[s]", "server");
    const char *a = json_string_value(json_object_get(j_a, "heap")),
               *b = json_string_value(json_object_get(j_b, "heap"));
    if (!daemon_is_elsewhere()) {
        assert_string_not_equal(a, b);
    }
    json_decref(j_a);
    json_decref(j_b);
    fixture_end(&other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_server_refuses_bad_options),
        cmocka_unit_test(test_server_help_and_version),
        cmocka_unit_test(test_server_refuses_tcp_off_loopback_without_token),
        cmocka_unit_test(test_server_options_from_flag_environment_and_file),
        cmocka_unit_test(test_server_rereads_its_configuration_on_sighup),
        cmocka_unit_test(test_server_notifies_the_service_manager),
        fixture_test(test_server_ready_line_and_socket_mode),
        cmocka_unit_test(test_server_listens_on_several_addresses),
        cmocka_unit_test(test_server_default_socket),
        cmocka_unit_test(test_server_replaces_a_stale_socket),
        cmocka_unit_test(test_server_leaves_a_plain_file_alone),
        fixture_test(test_server_port_in_use),
        cmocka_unit_test(test_server_ends_clean_on_sigterm),
        cmocka_unit_test(test_server_ends_clean_on_sigint),
        cmocka_unit_test(test_server_ends_clean_with_a_full_heap),
        fixture_test(test_server_counts_connections_requests_and_bytes),
        fixture_test(test_server_heaps_have_different_names),
    };
    return cmocka_run_group_tests_name("server", tests, NULL, NULL);
}
