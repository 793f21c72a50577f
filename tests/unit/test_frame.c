/* test_frame.c -- lines out of bytes, however the bytes come. */
#include "../../protocol/frame.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

/* What framing a text gives, as text: `number:line|` for a line, `number!|` for an over-long one. */
struct heard {
    char text[4096];
    size_t len;
};

static void hear(struct heard *heard, enum frame_kind kind, const struct frame_line *line)
{
    int n = kind == FRAME_TOO_LONG ? snprintf(heard->text + heard->len, sizeof(heard->text) - heard->len,
                                              "%d!|", (int)line->number)
                                   : snprintf(heard->text + heard->len, sizeof(heard->text) - heard->len,
                                              "%d:%.*s|", (int)line->number, (int)line->len, line->text);
    heard->len += (size_t)n;
    assert_true(heard->len < sizeof(heard->text));
}

/* Frames `input` as it comes in pieces of `piece` bytes, keeping what is unfinished as a connection does. */
static const char *frame_all(struct heard *heard, const char *input, size_t len, size_t piece, size_t max,
                             bool eof)
{
    struct frame frame = {0};
    char *kept = malloc(len + 1);
    size_t kept_len = 0;
    memset(heard, 0, sizeof(*heard));
    for (size_t at = 0; at < len || (eof && at == len); at += piece) {
        size_t n = len - at < piece ? len - at : piece;
        bool last = eof && at + n == len;
        struct frame_line line;
        enum frame_kind kind;
        size_t used, done = 0;
        memcpy(kept + kept_len, input + at, n);
        kept_len += n;
        while ((kind = frame_next(&frame, kept + done, kept_len - done, max, last, &line, &used)) !=
               FRAME_MORE) {
            hear(heard, kind, &line);
            done += used;
        }
        done += used;
        memmove(kept, kept + done, kept_len - done);
        kept_len -= done;
        assert_true(frame.searched <= kept_len);
        if (max != 0) {
            assert_true(kept_len <= max + 1); /* memory stays bounded */
        }
        if (last) {
            assert_int_equal(kept_len, 0);
            break;
        }
    }
    free(kept);
    return heard->text;
}

/* The same whatever the size of the pieces. */
static void demand(const char *input, size_t len, size_t max, bool eof, const char *expected)
{
    struct heard heard;
    for (size_t piece = 1; piece <= len + 1; piece++) {
        assert_string_equal(frame_all(&heard, input, len, piece, max, eof), expected);
    }
}

static void test_frame_splits_lines(void **state)
{
    (void)state;
    demand("one\ntwo\n", 8, 0, false, "1:one|2:two|");
    demand("one\ntwo", 7, 0, false, "1:one|");
    demand("", 0, 0, false, "");
}

static void test_frame_accepts_crlf(void **state)
{
    (void)state;
    demand("one\r\ntwo\r\r\n", 11, 0, false, "1:one|2:two\r|");
}

static void test_frame_counts_and_skips_blank_lines(void **state)
{
    (void)state;
    demand("\n \t\r\n\r\nx\n\n", 10, 0, false, "4:x|");
}

static void test_frame_takes_last_line_at_eof(void **state)
{
    (void)state;
    demand("a\nlast", 6, 0, true, "1:a|2:last|");
    demand("a\nlast\r", 7, 0, true, "1:a|2:last|");
    demand("a\n  ", 4, 0, true, "1:a|");
    demand("a\n", 2, 0, true, "1:a|");
}

static void test_frame_sees_newline_behind_nul(void **state)
{
    (void)state;
    struct frame frame = {0};
    struct frame_line line;
    size_t used;
    assert_int_equal(frame_next(&frame, "a\0b\nc", 5, 0, false, &line, &used), FRAME_LINE);
    assert_int_equal(line.len, 3);
    assert_int_equal(used, 4);
    demand("\0\nx\n", 4, 0, false, "1:|2:x|"); /* a NUL is no blank */
}

static void test_frame_drops_over_long_lines_to_their_end(void **state)
{
    (void)state;
    demand("abcdef\nok\n", 10, 5, false, "1!|2:ok|");
    demand("abcde\nok\n", 9, 5, false, "1:abcde|2:ok|");
    demand("abcde\r\nok\n", 10, 5, false, "1:abcde|2:ok|");
    demand("abcdef\r\nok\n", 11, 5, false, "1!|2:ok|");
    demand("abcdefghijklmnopqrstuvwxyz", 26, 5, true, "1!|");
    demand("abcdefghijklmnopqrstuvwxyz\n\nabcdefghi\nz", 40, 5, true, "1!|3!|4:z|");
}

/* The newline search begins where the last one stopped: what was searched is not read again. */
static void test_frame_never_searches_twice(void **state)
{
    (void)state;
    struct frame frame = {0};
    struct frame_line line;
    size_t used;
    assert_int_equal(frame_next(&frame, "abc", 3, 0, false, &line, &used), FRAME_MORE);
    assert_int_equal(used, 0);
    assert_int_equal(frame.searched, 3);
    /* A newline that appears in searched bytes stays unseen. */
    assert_int_equal(frame_next(&frame, "a\ncd\n", 5, 0, false, &line, &used), FRAME_LINE);
    assert_int_equal(line.len, 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_frame_splits_lines),
        cmocka_unit_test(test_frame_accepts_crlf),
        cmocka_unit_test(test_frame_counts_and_skips_blank_lines),
        cmocka_unit_test(test_frame_takes_last_line_at_eof),
        cmocka_unit_test(test_frame_sees_newline_behind_nul),
        cmocka_unit_test(test_frame_drops_over_long_lines_to_their_end),
        cmocka_unit_test(test_frame_never_searches_twice),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
