/* test_errmap.c -- the errors of the wire: codes and words, against WIRE.md and against heap.h. */
#include "../../protocol/errmap.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "../support/process.h"

/* Every heap error has the word that heap.h says, and a code of the daemon's own. */
static void test_errmap_agrees_with_heap_words(void **state)
{
    (void)state;
    assert_int_equal(errmap_from_heap(HEAP_OK), RPC_OK);
    for (int i = 1; i < HEAP_ERROR_COUNT; i++) {
        enum rpc_error error = errmap_from_heap((enum heap_error)i);
        assert_int_not_equal(error, RPC_INTERNAL_ERROR);
        assert_string_equal(rpc_error_word(error), heap_error_word((enum heap_error)i));
        assert_in_range(-rpc_error_code(error), 32001, 32099);
        assert_true(strlen(heap_error_sentence((enum heap_error)i)) > 10);
    }
}

/* The table of WIRE.md has a row for each error, with its code and word. */
static void test_errmap_agrees_with_wire_page(void **state)
{
    (void)state;
    char path[4200];
    size_t len;
    process_path(path, sizeof(path), "protocol/WIRE.md");
    char *page = process_read_file(path, &len);
    assert_non_null(page);
    for (int i = 1; i < RPC_ERROR_COUNT; i++) {
        char row[256];
        snprintf(row, sizeof(row), "\n| %d | `%s` | %s |\n", rpc_error_code((enum rpc_error)i),
                 rpc_error_word((enum rpc_error)i), rpc_error_sentence((enum rpc_error)i));
        if (strstr(page, row) == NULL) {
            fail_msg("WIRE.md lacks the row %s", row);
        }
    }
    free(page);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_errmap_agrees_with_heap_words),
        cmocka_unit_test(test_errmap_agrees_with_wire_page),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
