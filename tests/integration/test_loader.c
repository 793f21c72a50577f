/* test_loader.c -- 896,780 objects of a real program, built over the socket by tests/tools/load_heap. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../support/fixture.h"
#include "../support/process.h"

static void test_loader_builds_and_lets_go_a_real_heap(void **state)
{
    const struct fixture *fixture = *state;
    char tool[4200], file[4200], address[256];
    struct process_result result;
    if (!process_data(file, sizeof file, "cpython-heap.jsonl.gz")) {
        process_skip("../shared/data/cpython-heap.jsonl.gz is not there");
    }
    process_program(tool, sizeof tool, "tests/tools/load_heap");
    snprintf(address, sizeof address, "tcp:%s:%d", fixture->daemon->host, fixture->daemon->port);
    const char *const argv[] = {tool, address, file, NULL};
    process_run(&result, argv, NULL);
    printf("%s", result.out);
    fflush(stdout);
    if (result.exit_code != 0) {
        fail_msg("load_heap: exit code %d: %s", result.exit_code, result.err);
    }
    process_result_free(&result);
}

int main(void)
{
    const struct CMUnitTest tests[] = {fixture_test(test_loader_builds_and_lets_go_a_real_heap)};
    return cmocka_run_group_tests_name("loader", tests, NULL, NULL);
}
