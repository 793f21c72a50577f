/* process.h -- runs a program to its end, and knows where the project's files are.
 *
 * Everything here fails the running cmocka test when the machine, not the program, is at fault.
 */
#ifndef HEAPD_TESTS_PROCESS_H
#define HEAPD_TESTS_PROCESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* How long anything may take before a test gives up: only a hang is that slow. */
#define PROCESS_PATIENCE_MS 300000

/* Milliseconds of a clock that only goes forward. */
int64_t process_now_ms(void);

/* Prints the reason and skips the test that calls it. */
#define process_skip(...)                                                                                    \
    do {                                                                                                     \
        printf("skipped because " __VA_ARGS__);                                                              \
        putchar('\n');                                                                                       \
        fflush(stdout);                                                                                      \
        skip();                                                                                              \
    } while (0)

/* Writes the path of `name` below the project's root, the folder of the Makefile. */
void process_path(char *path, size_t size, const char *name);
/* The path of a program of this build: heapd ($HEAPD_BIN wins) or heapctl ($HEAPCTL_BIN wins). */
void process_program(char *path, size_t size, const char *name);
/* The path of a file of the real inputs: $HEAPD_TEST_DATA, else ../shared/data.  false: it is not there. */
bool process_data(char *path, size_t size, const char *name);
/* The whole of a file, malloc'ed, a NUL after it; NULL if it cannot be read. */
char *process_read_file(const char *path, size_t *len);

/* What became of a program.  process_result_free() frees the texts; each has a NUL at its end. */
struct process_result {
    int exit_code; /* -1: ended by a signal */
    int signal;
    char *out, *err;
    size_t out_len, err_len;
};

/* Runs argv[0] (a path, or a name looked up in $PATH) with `input` on stdin (NULL: nothing). */
void process_run(struct process_result *result, const char *const argv[], const char *input);
void process_result_free(struct process_result *result);

/* In a child after fork(): takes HEAPD_*, but HEAPD_STRESS, out of the environment and dies with its parent. */
void process_become_child(void);
/* Whether a sanitizer or an assertion spoke in that text. */
bool process_has_complaint(const char *log);

/* A generator for random tests (splitmix64).  The seed is $SEED, or new; it is printed. */
struct process_random {
    uint64_t state;
};
void process_random_init(struct process_random *random);
uint64_t process_random_next(struct process_random *random);
/* 0 <= result < n. */
uint32_t process_random_below(struct process_random *random, uint32_t n);
/* Whether the long runs were asked for (LONG=1): tests multiply their rounds by `times` then. */
int process_rounds(int rounds, int times);

#endif
