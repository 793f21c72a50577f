/* test_jsontestsuite.c -- the 318 parser cases of JSONTestSuite, as request lines and as values.
 *
 * Names tell what must be: y_ is JSON, n_ is none, i_ is left to the reader.  A file that contains newlines
 * is several lines here, so its own verdict says nothing about them; then it is only demanded that each is
 * answered.  A y_ number may be beyond what an object holds: value_error says that it was read as JSON.
 * After each file the connection still works, and nothing stays in the heap.
 */
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../support/fixture.h"
#include "../support/process.h"

struct suite_file {
    const struct fixture *fixture;
    char name[256];
    char *bytes;
    size_t len;
};

/* The word of the error that a reply line is, "" for a result; "?" for something else. */
static const char *word_of(const char *line, size_t len, char *word, size_t size)
{
    json_t *j_reply = json_loadb(line, len, JSON_DECODE_ANY, NULL);
    const json_t *j_error = json_object_get(j_reply, "error");
    const char *text = json_string_value(json_object_get(json_object_get(j_error, "data"), "error"));
    snprintf(word, size, "%s", json_object_get(j_reply, "result") != NULL ? "" : text != NULL ? text : "?");
    json_decref(j_reply);
    return word;
}

/* Sends what is in `line` and a ping behind it; returns how many replies came before the pong, and the word
 * of the last one. */
static int replies_to(struct wire *wire, const char *line, size_t len, char *word, size_t size)
{
    size_t reply_len;
    int replies = 0;
    wire_send(wire, line, len);
    wire_send_text(wire, "\n{\"id\":\"the end\",\"method\":\"ping\"}\n");
    for (const char *reply; (reply = wire_line(wire, &reply_len)) != NULL; replies++) {
        if (strcmp(reply, "{\"id\":\"the end\",\"result\":\"pong\"}") == 0) {
            return replies;
        }
        if (!match_is_json(reply, reply_len)) {
            fail_msg("the reply is no JSON: %s", reply);
        }
        /* A batch reply means that the line was read. */
        if (*reply == '[') {
            snprintf(word, size, "invalid_request");
        } else {
            word_of(reply, reply_len, word, size);
        }
    }
    fail_msg("the daemon closed the connection");
    return 0;
}

static bool is_blank(const char *bytes, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (strchr(" \t\r\n", bytes[i]) == NULL || bytes[i] == '\0') {
            return false;
        }
    }
    return true;
}

/* Whether the reply says that the text was no JSON, or nested beyond the limit. */
static bool is_refused(const char *word)
{
    return strcmp(word, "parse_error") == 0 || strcmp(word, "limit_exceeded") == 0;
}

/* As a line of its own: no file is a request, so all that are JSON are invalid_request. */
static void play_as_lines(const struct suite_file *file, struct wire *wire)
{
    char word[64] = "";
    int replies = replies_to(wire, file->bytes, file->len, word, sizeof word);
    if (memchr(file->bytes, '\n', file->len) != NULL || is_blank(file->bytes, file->len)) {
        return;
    }
    assert_int_equal(replies, 1);
    if (file->name[0] == 'y') {
        assert_string_equal(word, "invalid_request");
    } else if (file->name[0] == 'n' && !is_refused(word)) {
        fail_msg("accepted as JSON: answered with %s", word);
    }
}

/* As the value of a create, named so that get must say the same. */
static void play_as_value(const struct suite_file *file, struct wire *wire)
{
    static const char head[] = "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"create\",\"params\":{\"value\":";
    static const char tail[] = ",\"name\":\"a\"}}";
    char *line = malloc(file->len + sizeof head + sizeof tail), word[64] = "";
    size_t len = sizeof head - 1, reply_len;
    memcpy(line, head, len);
    memcpy(line + len, file->bytes, file->len);
    len += file->len;
    memcpy(line + len, tail, sizeof tail - 1);
    len += sizeof tail - 1;
    int replies = replies_to(wire, line, len, word, sizeof word);
    free(line);
    if (memchr(file->bytes, '\n', file->len) != NULL || is_blank(file->bytes, file->len)) {
        return;
    }
    assert_int_equal(replies, 1);
    if (file->name[0] == 'n' && !is_refused(word)) {
        fail_msg("accepted as a value: answered with \"%s\"", word);
    }
    if (file->name[0] == 'y' && word[0] != '\0' && strcmp(word, "value_error") != 0) {
        fail_msg("refused as a value with %s", word);
    }
    if (word[0] == '\0') {
        /* Where jansson reads it too, get must give what it reads. */
        json_t *j_want = json_loadb(file->bytes, file->len, JSON_DECODE_ANY, NULL);
        wire_send_text(wire, "{\"id\":1,\"method\":\"get\",\"params\":[\"a\",-1]}\n");
        const char *reply = wire_line(wire, &reply_len);
        json_t *j_reply = json_loadb(reply, reply_len, JSON_DECODE_ANY, NULL);
        const json_t *j_got = json_object_get(j_reply, "result");
        if (j_want != NULL && j_reply != NULL && !json_equal(j_want, j_got)) {
            fail_msg("get says %s", reply);
        }
        json_decref(j_want);
        json_decref(j_reply);
        json_decref(wire_callf(wire, "name.unbind", "[s]", "a"));
    }
}

static void test_file(void **state)
{
    const struct suite_file *file = *state;
    struct wire *wire = wire_open(file->fixture->daemon);
    play_as_lines(file, wire);
    play_as_value(file, wire);
    wire_close(wire);
    fixture_demand_empty(file->fixture->wire);
}

static void test_jsontestsuite_daemon_ends_clean(void **state)
{
    fixture_end(*state);
}

static void test_jsontestsuite(void **state)
{
    (void)state;
    process_skip("there is no JSONTestSuite in ../shared/data");
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct CMUnitTest *)a)->name, ((const struct CMUnitTest *)b)->name);
}

/* The files as tests; returns how many. */
static size_t list_files(struct CMUnitTest *tests, size_t room, const struct fixture *fixture)
{
    char folder_path[4200];
    size_t n = 0;
    if (!process_data(folder_path, sizeof folder_path, "JSONTestSuite/test_parsing")) {
        return 0;
    }
    DIR *folder = opendir(folder_path);
    for (struct dirent *entry; folder != NULL && n < room && (entry = readdir(folder)) != NULL;) {
        char path[4500];
        if (entry->d_name[0] == '.') {
            continue;
        }
        struct suite_file *file = calloc(1, sizeof *file);
        file->fixture = fixture;
        snprintf(file->name, sizeof file->name, "%s", entry->d_name);
        snprintf(path, sizeof path, "%s/%s", folder_path, entry->d_name);
        file->bytes = process_read_file(path, &file->len);
        tests[n++] = (struct CMUnitTest){file->name, test_file, NULL, NULL, file};
    }
    closedir(folder);
    qsort(tests, n, sizeof *tests, by_name);
    return n;
}

int main(void)
{
    static struct CMUnitTest tests[1024];
    struct fixture fixture = {0};
    size_t n = list_files(tests, 1000, &fixture);
    if (n == 0) {
        const struct CMUnitTest none[] = {cmocka_unit_test(test_jsontestsuite)};
        return cmocka_run_group_tests_name("jsontestsuite", none, NULL, NULL);
    }
    fixture_start(&fixture, NULL);
    tests[n++] = (struct CMUnitTest){"test_jsontestsuite_daemon_ends_clean",
                                     test_jsontestsuite_daemon_ends_clean, NULL, NULL, &fixture};
    return _cmocka_run_group_tests("jsontestsuite", tests, n, NULL, NULL);
}
