/* test_languages.c -- clients in other languages: Python with its socket module, a shell with nc. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "../support/fixture.h"
#include "../support/process.h"

static bool has_program(const char *name)
{
    struct process_result result;
    process_run(&result, (const char *[]){"sh", "-c", "command -v \"$1\"", "sh", name, NULL}, NULL);
    bool has = result.exit_code == 0;
    process_result_free(&result);
    return has;
}

static void test_languages_python(void **state)
{
    const struct fixture *fixture = *state;
    char script[4200], address[256];
    if (!has_program("python3")) {
        process_skip("there is no python3");
    }
    process_path(script, sizeof script, "tests/integration/example_client.py");
    wire_close(fixture->wire); /* the script counts sessions */
    ((struct fixture *)*state)->wire = NULL;
    for (int over_unix = 0; over_unix < 2 && (!over_unix || fixture->daemon->pid != 0); over_unix++) {
        struct process_result result;
        if (over_unix) {
            snprintf(address, sizeof address, "unix:%s", fixture->daemon->socket);
        } else {
            snprintf(address, sizeof address, "tcp:%s:%d", fixture->daemon->host, fixture->daemon->port);
        }
        process_run(&result, (const char *[]){"python3", script, address, NULL}, NULL);
        if (result.exit_code != 0) {
            fail_msg("exit code %d: %s%s", result.exit_code, result.out, result.err);
        }
        process_result_free(&result);
    }
}

static void test_languages_nc(void **state)
{
    const struct daemon *daemon = ((struct fixture *)*state)->daemon;
    struct process_result result;
    static const char input[] = "{\"id\":1,\"method\":\"create\",\"params\":[[1,2],\"a\"]}\n{\"id\":2,"
                                "\"method\":\"get\",\"params\":[\"a\"]}\n";
    char port[16];
    if (!has_program("nc")) {
        process_skip("there is no nc");
    }
    snprintf(port, sizeof port, "%d", daemon->port);
    process_run(&result, (const char *[]){"nc", "-N", daemon->host, port, NULL}, input);
    if (result.exit_code != 0 || strstr(result.out, "{\"id\":2,\"result\":[1,2]}\n") == NULL) {
        fail_msg("exit code %d: %s%s", result.exit_code, result.out, result.err);
    }
    process_result_free(&result);
    if (daemon->pid != 0) {
        process_run(&result, (const char *[]){"nc", "-N", "-U", daemon->socket, NULL}, input);
        if (result.exit_code != 0 || strstr(result.out, "{\"id\":2,\"result\":[1,2]}\n") == NULL) {
            fail_msg("exit code %d: %s%s", result.exit_code, result.out, result.err);
        }
        process_result_free(&result);
    }
}

/* The shell itself, through /dev/tcp. */
static void test_languages_bash(void **state)
{
    const struct daemon *daemon = ((struct fixture *)*state)->daemon;
    struct process_result result;
    char script[512];
    if (!has_program("bash")) {
        process_skip("there is no bash");
    }
    snprintf(script, sizeof script,
             "exec 3<>/dev/tcp/%s/%d; echo '{\"id\":1,\"method\":\"ping\"}' >&3; read -r reply <&3; echo "
             "\"$reply\"",
             daemon->host, daemon->port);
    process_run(&result, (const char *[]){"bash", "-c", script, NULL}, NULL);
    assert_string_equal(result.out, "{\"id\":1,\"result\":\"pong\"}\n");
    process_result_free(&result);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        fixture_test(test_languages_python),
        fixture_test(test_languages_nc),
        fixture_test(test_languages_bash),
    };
    return cmocka_run_group_tests_name("languages", tests, NULL, NULL);
}
