/* test_first_line.c -- whether a connection speaks HTTP is told before anything behind its first line is seen.
 *
 * Programs of server/ are not linked into unit tests, so the source under test is included.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "../../server/first_line.c"

/* Whether a text is told to be HTTP when it comes in pieces of `step` bytes, and after how many bytes. */
static bool is_http(const char *text, size_t step, size_t *seen)
{
    struct first_line line = {0};
    size_t len = strlen(text);
    for (size_t i = 0; i < len; i += step) {
        size_t n = len - i < step ? len - i : step;
        *seen = i + n;
        if (first_line_is_http(&line, text + i, n)) {
            return true;
        }
    }
    return false;
}

static void test_first_line_knows_http(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "GET / HTTP/1.1\r\n\r\n{}\n",
        "HEAD / HTTP/1.0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: x\r\n\r\n{}\n",
        "PUT /",
        "DELETE \n",
        "OPTIONS *",
        "PATCH x\n",
        "CONNECT a:1 HTTP/1.1\r\n",
        "TRACE ",
        "PROPFIND / HTTP/1.1\r\n{}\n",
        "X HTTP/2\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "M-SEARCH a HTTP/1.1\n{}\n",
        "HTTP/3\n",
    };
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        for (size_t step = 1; step <= strlen(texts[i]); step++) {
            size_t seen = 0, line = strcspn(texts[i], "\n") + 1;
            if (!is_http(texts[i], step, &seen)) {
                fail_msg("not seen in pieces of %zu: %s", step, texts[i]);
            }
            /* Nothing was passed on but pieces of the first line. */
            assert_true(seen - line < step || seen <= line);
        }
    }
}

static void test_first_line_leaves_others_alone(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "{\"id\":1,\"method\":\"ping\"}\nGET / HTTP/1.1\n",
        "\nPOST / HTTP/1.1\r\n",
        "GET\n",
        "GETX /\n",
        "get / \n",
        "\"HTTP/1.1\"\n",
        "HTTP/\n",
        "HTTP/1.1 \n",
        "TTP/1.1\n",
        "[1,2]\r\n",
        "GE",
        "12345678901234567890\n",
        "1.1\n",
        "                GET / \n",
        "\x16\x03\x01 HTTP\n",
    };
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        for (size_t step = 1; step <= strlen(texts[i]); step++) {
            size_t seen;
            if (is_http(texts[i], step, &seen)) {
                fail_msg("taken for HTTP in pieces of %zu: %s", step, texts[i]);
            }
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_first_line_knows_http),
        cmocka_unit_test(test_first_line_leaves_others_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
