/* test_readme.c -- what the README tells to paste works, and prints what it shows; its map leaves no file out. */
#include <glob.h>
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

/* The map of the files leaves none out. */
static void test_readme_names_every_file(void **state)
{
    (void)state;
    char root[4096], pattern[4200], named[300];
    process_path(root, sizeof root, "");
    snprintf(pattern, sizeof pattern, "%s/README.md", root);
    FILE *file = fopen(pattern, "r");
    assert_non_null(file);
    static char text[1 << 20];
    text[fread(text, 1, sizeof text - 1, file)] = '\0';
    fclose(file);
    const char *map = strstr(text, "## Every file, in reading order");
    assert_non_null(map);
    glob_t sources;
    snprintf(pattern, sizeof pattern, "%s/{heap,protocol,server,client}/*.[ch]", root);
    assert_int_equal(glob(pattern, GLOB_BRACE, NULL, &sources), 0);
    assert_true(sources.gl_pathc > 100);
    size_t missing = 0;
    for (size_t i = 0; i < sources.gl_pathc; i++) {
        const char *name = strrchr(sources.gl_pathv[i], '/') + 1;
        snprintf(named, sizeof named, "`%.*s", (int)(strrchr(name, '.') + 1 - name), name);
        if (strstr(map, named) == NULL) {
            print_error("not in README's map: %s\n", sources.gl_pathv[i] + strlen(root));
            missing++;
        }
    }
    globfree(&sources);
    assert_int_equal(missing, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        fixture_test(test_readme_tour_is_true),
        cmocka_unit_test(test_readme_names_every_file),
    };
    return cmocka_run_group_tests_name("readme", tests, NULL, NULL);
}
