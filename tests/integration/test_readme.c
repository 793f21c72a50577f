/* test_readme.c -- what the README tells to paste works, and prints what it shows. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../support/fixture.h"
#include "../support/process.h"

static void test_readme_tour_is_true(void **state)
{
    const struct daemon *daemon = ((struct fixture *)*state)->daemon;
    char script[4200], readme[4200], build[4200], port[16];
    struct process_result result;
    if (strcmp(daemon->host, "127.0.0.1") != 0) {
        process_skip("the daemon runs elsewhere");
    }
    process_path(script, sizeof script, "tests/integration/readme_tour.py");
    process_path(readme, sizeof readme, "README.md");
    process_program(build, sizeof build, "heapctl");
    char *slash = strrchr(build, '/');
    assert_non_null(slash);
    *slash = '\0';
    snprintf(port, sizeof port, "%d", daemon->port);
    process_run(&result, (const char *[]){"python3", script, readme, build, port, NULL}, NULL);
    if (result.exit_code != 0) {
        fail_msg("%s%s", result.out, result.err);
    }
    process_result_free(&result);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        fixture_test(test_readme_tour_is_true),
    };
    return cmocka_run_group_tests_name("readme", tests, NULL, NULL);
}
