/* test_question_faults.c -- questions for which there is no memory.
 *
 * The linker gives us malloc, calloc and realloc (Makefile).  On the worker thread, where questions are answered,
 * the n-th call fails: that one alone, or it and all that follow.  For each question n goes from 1 to where nothing
 * fails any more.  An answer is right or a memory_error, and the heap and the marks are as they were.
 * Start at test_faults_of().
 */
#include "malloc_faults.h"
#include "rpc_fixture.h"

/* ---- tests ---- */

static const char *const questions[] = {
    "{\"id\":1,\"method\":\"heap.why\",\"params\":[\"leaf\"]}",
    "{\"id\":1,\"method\":\"heap.retained\",\"params\":[\"a\"]}",
    "{\"id\":1,\"method\":\"heap.dominators\"}",
    "{\"id\":1,\"method\":\"heap.inspect\",\"params\":[\"a\",true]}",
    "{\"id\":1,\"method\":\"heap.mark\",\"params\":[\"later\"]}",
    "{\"id\":1,\"method\":\"heap.diff\",\"params\":[\"first\"]}",
    "{\"id\":1,\"method\":\"heap.diff\",\"params\":[\"first\",\"first\"]}",
    "{\"id\":1,\"method\":\"server.clients\",\"params\":[true]}",
};

/* Asks with every allocation failing in turn.  Returns how often the answer was a memory_error. */
static int ask_with_faults(struct rpc_fixture *f, const char *question, bool all)
{
    int errors = 0;
    for (long n = 1;; n++) {
        assert_true(n < 10000);
        malloc_faults_arm(n, all);
        char line[256];
        snprintf(line, sizeof line, "%s\n", question);
        say(f, line);
        long hits = malloc_faults_disarm();
        bool failed = strstr(f->said, "\"error\"") != NULL;
        if (failed) {
            assert_non_null(strstr(f->said, "memory_error"));
            errors++;
        }
        call(f, "heap.check", "{}", "<has {\"ok\":true}>");
        if (hits == 0) {
            assert_false(failed);
            return errors;
        }
    }
}

static void create_things(struct rpc_fixture *f)
{
    call(f, "create", "{\"value\":[[3000]],\"name\":\"leaf\"}", "<object>");
    call(f, "create", "{\"value\":{\"$class\":\"Node\"},\"name\":\"Node\"}", "<object>");
    call(f, "create", "{\"value\":[1000,{\"k\":[2000]},{\"$instance\":\"Node\",\"attrs\":{\"x\":{\"$ref\":\"leaf\"}}}],"
                      "\"name\":\"a\"}", "<object>");
    call(f, "heap.mark", "[\"first\"]", "<object>");
    call(f, "create", "{\"value\":[4000],\"name\":\"b\"}", "<object>");
}

/* One allocation alone: the question is tried again after a collection, so nobody hears of it. */
static void test_question_faults_of_one_allocation(void **state)
{
    struct rpc_fixture *f = *state;
    malloc_faults_spare_me();
    create_things(f);
    for (size_t i = 0; i < sizeof questions / sizeof questions[0]; i++) {
        assert_int_equal(ask_with_faults(f, questions[i], false), 0);
    }
}

static void test_question_faults_of_all_that_follow(void **state)
{
    struct rpc_fixture *f = *state;
    malloc_faults_spare_me();
    create_things(f);
    for (size_t i = 0; i < sizeof questions / sizeof questions[0]; i++) {
        assert_true(ask_with_faults(f, questions[i], true) > 0);
    }
}

/* A mark that could not be made is not there, and one that could not be replaced is the old one. */
static void test_question_faults_leave_marks_alone(void **state)
{
    struct rpc_fixture *f = *state;
    malloc_faults_spare_me();
    create_things(f);
    for (long n = 1; n < 4; n++) {
        malloc_faults_arm(n, true);
        fail_call(f, "heap.mark", "[\"other\"]", "memory_error", NULL);
        malloc_faults_arm(n, true);
        fail_call(f, "heap.mark", "[\"first\"]", "memory_error", NULL);
        malloc_faults_disarm();
        fail_call(f, "heap.diff", "[\"other\"]", "value_error", NULL);
        call(f, "heap.diff", "[\"first\"]", "<has {\"sessions\":[{\"session\":<int>,\"objects\":2,\"bytes\":<int>}]}>");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        fixture_test(test_question_faults_of_one_allocation),
        fixture_test(test_question_faults_of_all_that_follow),
        fixture_test(test_question_faults_leave_marks_alone),
    };
    return cmocka_run_group_tests_name("question_faults", tests, NULL, NULL);
}
