/* test_token_file.c -- the file of tokens: what is read, what is refused, and that no message shows a token. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../../server/reason.c"
#include "../../server/token_file.c"

static char path[64];
static struct token_file file;
static struct reason reason;

static int setup(void **state)
{
    (void)state;
    snprintf(path, sizeof path, "/tmp/heapd-tokens-XXXXXX");
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    token_file_free(&file);
    unlink(path);
    return 0;
}

/* Reads a file of these bytes. */
static bool read_bytes(const char *bytes, size_t len)
{
    FILE *out = fopen(path, "w");
    assert_non_null(out);
    assert_int_equal(fwrite(bytes, 1, len, out), len);
    assert_int_equal(fclose(out), 0);
    return token_file_read(&file, path, geteuid(), &reason);
}

static bool read_text_of(const char *text)
{
    return read_bytes(text, strlen(text));
}

/* The text is refused, with that in the message, and without the token "secret". */
static void refuses(const char *text, const char *why)
{
    assert_false(read_text_of(text));
    if (strstr(reason.text, why) == NULL || strstr(reason.text, "secret") != NULL) {
        fail_msg("wanted \"%s\", came \"%s\"", why, reason.text);
    }
    assert_null(file.text);
}

static void test_token_file_reads_roles_and_tokens(void **state)
{
    (void)state;
    assert_true(read_text_of("# tokens\n\n  read\tr1 \r\nwrite w-2_/+=\n   # more\nadmin a3"));
    assert_int_equal(file.count, 3);
    static const struct rpc_auth_token expected[] = {
        {RPC_ROLE_READ, "r1", 2}, {RPC_ROLE_WRITE, "w-2_/+=", 7}, {RPC_ROLE_ADMIN, "a3", 2}};
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(file.tokens[i].role, expected[i].role);
        assert_int_equal(file.tokens[i].len, expected[i].len);
        assert_string_equal(file.tokens[i].text, expected[i].text);
    }
}

static void test_token_file_names_the_line_that_is_wrong(void **state)
{
    (void)state;
    refuses("read r1\nwrite\n", ":2: it must be `ROLE TOKEN`");
    refuses("root secret\n", ":1: it must be `ROLE TOKEN`");
    refuses("READ secret\n", ":1: it must be `ROLE TOKEN`");
    refuses("secret\n", ":1: it must be `ROLE TOKEN`");
    refuses("read secret secret2\n", ":1: it must be `ROLE TOKEN`");
    refuses("read secret\n\nadmin secret\n", ":3: the same token stands");
    refuses("read secret\x01\n", ":1: a token has at most");
    refuses("read secret\xc3\xa9\n", ":1: a token has at most");
}

static void test_token_file_wants_a_token(void **state)
{
    (void)state;
    refuses("", "has no token");
    refuses("# read secret\n", "has no token");
    assert_false(read_bytes("read a\0b\n", 9));
    assert_non_null(strstr(reason.text, "NUL"));
}

static void test_token_file_bounds_tokens(void **state)
{
    (void)state;
    char text[512];
    snprintf(text, sizeof text, "read %0255d\n", 1);
    assert_true(read_text_of(text));
    assert_int_equal(file.tokens[0].len, 255);
    token_file_free(&file);
    snprintf(text, sizeof text, "read %0256d\n", 1);
    refuses(text, ":1: a token has at most");
}

static void test_token_file_is_nobody_elses(void **state)
{
    (void)state;
    static const mode_t bad[] = {0644, 0604, 0602, 0620, 0606, 0601}, good[] = {0600, 0400, 0640, 0440};
    assert_true(read_text_of("read r1\n"));
    token_file_free(&file);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(chmod(path, bad[i]), 0);
        assert_false(token_file_read(&file, path, geteuid(), &reason));
        assert_non_null(strstr(reason.text, "so that others can read or change it"));
    }
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        assert_int_equal(chmod(path, good[i]), 0);
        assert_true(token_file_read(&file, path, geteuid(), &reason));
        token_file_free(&file);
    }
    if (geteuid() == 0) {
        assert_int_equal(chown(path, 0, 65534), 0);
        assert_true(token_file_read(&file, path, geteuid(), &reason));
        token_file_free(&file);
        /* Root could read the file of anybody, and would then trust them. */
        assert_int_equal(chown(path, 65534, 65534), 0);
        assert_false(token_file_read(&file, path, geteuid(), &reason));
        assert_non_null(strstr(reason.text, "belongs to user 65534"));
    }
    assert_int_equal(chmod(path, 0600), 0);
}

static void test_token_file_must_be_a_file(void **state)
{
    (void)state;
    assert_false(token_file_read(&file, "/no/such/file", geteuid(), &reason));
    assert_non_null(strstr(reason.text, "cannot read /no/such/file"));
    assert_false(token_file_read(&file, "/tmp", geteuid(), &reason));
    assert_non_null(strstr(reason.text, "no plain file"));
    assert_false(token_file_read(&file, "/dev/null", geteuid(), &reason));
    assert_non_null(strstr(reason.text, "no plain file"));
}

#define token_test(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        token_test(test_token_file_reads_roles_and_tokens), token_test(test_token_file_names_the_line_that_is_wrong),
        token_test(test_token_file_wants_a_token),          token_test(test_token_file_bounds_tokens),
        token_test(test_token_file_is_nobody_elses),        token_test(test_token_file_must_be_a_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
