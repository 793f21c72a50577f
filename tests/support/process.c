/* process.c -- runs a program to its end, and knows where the project's files are. */
#include "process.h"
#include "splitmix64.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

int64_t process_now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* ---- files ---- */

/* The folder of this build: BUILD of BUILD/tests/integration/test_x. */
static void build_folder(char *path, size_t size)
{
    ssize_t len = readlink("/proc/self/exe", path, size - 1);
    assert_true(len > 0);
    path[len] = '\0';
    for (int up = 0; up < 3; up++) {
        char *slash = strrchr(path, '/');
        assert_non_null(slash);
        *slash = '\0';
    }
}

void process_path(char *path, size_t size, const char *name)
{
    char makefile[4200];
    build_folder(path, size);
    do {
        char *slash = strrchr(path, '/');
        assert_non_null(slash);
        *slash = '\0';
        snprintf(makefile, sizeof makefile, "%s/Makefile", path);
    } while (access(makefile, R_OK) != 0);
    size_t len = strlen(path);
    snprintf(path + len, size - len, "/%s", name);
}

void process_program(char *path, size_t size, const char *name)
{
    const char *chosen = getenv(strcmp(name, "heapd") == 0 ? "HEAPD_BIN" : "HEAPCTL_BIN");
    if (chosen != NULL) {
        snprintf(path, size, "%s", chosen);
        return;
    }
    build_folder(path, size);
    size_t len = strlen(path);
    snprintf(path + len, size - len, "/%s", name);
}

bool process_data(char *path, size_t size, const char *name)
{
    const char *folder = getenv("HEAPD_TEST_DATA");
    if (folder != NULL) {
        snprintf(path, size, "%s/%s", folder, name);
    } else {
        char relative[256];
        snprintf(relative, sizeof relative, "../shared/data/%s", name);
        process_path(path, size, relative);
    }
    return access(path, R_OK) == 0;
}

char *process_read_file(const char *path, size_t *len)
{
    char *text = NULL;
    struct stat info;
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        return NULL;
    }
    if (fstat(fileno(file), &info) == 0 && (text = malloc((size_t)info.st_size + 1)) != NULL) {
        *len = fread(text, 1, (size_t)info.st_size, file);
        text[*len] = '\0';
    }
    fclose(file);
    return text;
}

/* ---- running ---- */

void process_become_child(void)
{
    extern char **environ;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (char **variable = environ; *variable != NULL;) {
        bool is_for_it = strncmp(*variable, "HEAPD_STRESS=", 13) == 0 || strncmp(*variable, "HEAPD_SNAPSHOT_BYTES=", 21) == 0;
        if (strncmp(*variable, "HEAPD_", 6) == 0 && !is_for_it) {
            char name[128];
            snprintf(name, sizeof name, "%.*s", (int)strcspn(*variable, "="), *variable);
            unsetenv(name);
            variable = environ;
        } else {
            variable++;
        }
    }
}

/* Grows `text` by what `fd` has.  false: there will be no more. */
static bool collect_output(int fd, char **text, size_t *len)
{
    char chunk[65536];
    ssize_t n = read(fd, chunk, sizeof chunk);
    if (n <= 0) {
        return n < 0 && (errno == EINTR || errno == EAGAIN);
    }
    *text = realloc(*text, *len + (size_t)n + 1);
    assert_non_null(*text);
    memcpy(*text + *len, chunk, (size_t)n);
    *len += (size_t)n;
    (*text)[*len] = '\0';
    return true;
}

/* Feeds `input` and reads both outputs until the program has closed them. */
static void exchange(struct process_result *result, pid_t pid, int in, int out, int err, const char *input)
{
    size_t left = input == NULL ? 0 : strlen(input);
    int64_t deadline = process_now_ms() + PROCESS_PATIENCE_MS;
    if (left == 0) {
        close(in);
        in = -1;
    }
    while (out >= 0 || err >= 0) {
        struct pollfd fds[3] = {{in, POLLOUT, 0}, {out, POLLIN, 0}, {err, POLLIN, 0}};
        if (process_now_ms() > deadline) {
            kill(pid, SIGKILL);
            fail_msg("the program did not come to an end; stdout: %s; stderr: %s", result->out, result->err);
        }
        poll(fds, 3, 1000);
        if (fds[0].revents != 0) {
            ssize_t n = (fds[0].revents & POLLOUT) ? write(in, input, left) : -1;
            input += n > 0 ? n : 0;
            left -= n > 0 ? (size_t)n : 0;
            if (left == 0 || (n < 0 && errno != EAGAIN)) {
                close(in);
                in = -1;
            }
        }
        if (fds[1].revents != 0 && !collect_output(out, &result->out, &result->out_len)) {
            close(out);
            out = -1;
        }
        if (fds[2].revents != 0 && !collect_output(err, &result->err, &result->err_len)) {
            close(err);
            err = -1;
        }
    }
    if (in >= 0) {
        close(in);
    }
}

void process_run(struct process_result *result, const char *const argv[], const char *input)
{
    int in[2], out[2], err[2], status;
    memset(result, 0, sizeof *result);
    result->out = calloc(1, 1);
    result->err = calloc(1, 1);
    assert_true(pipe2(in, O_CLOEXEC) == 0 && pipe2(out, O_CLOEXEC) == 0 && pipe2(err, O_CLOEXEC) == 0);
    signal(SIGPIPE, SIG_IGN);
    fflush(stdout);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        process_become_child();
        signal(SIGPIPE, SIG_DFL);
        dup2(in[0], 0);
        dup2(out[1], 1);
        dup2(err[1], 2);
        execvp(argv[0], (char *const *)(uintptr_t)argv);
        _exit(127);
    }
    close(in[0]);
    close(out[1]);
    close(err[1]);
    fcntl(in[1], F_SETFL, O_NONBLOCK);
    exchange(result, pid, in[1], out[0], err[0], input);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    result->exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    result->signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

void process_result_free(struct process_result *result)
{
    free(result->out);
    free(result->err);
    memset(result, 0, sizeof *result);
}

bool process_has_complaint(const char *log)
{
    static const char *const marks[] = {"Sanitizer", "runtime error:", "assertion",
                                        "Assertion", "HEAP_ASSERT",    "internal_error"};
    for (size_t i = 0; i < sizeof marks / sizeof *marks; i++) {
        if (strstr(log, marks[i]) != NULL) {
            return true;
        }
    }
    return false;
}

/* ---- random tests ---- */

void process_random_init(struct process_random *random)
{
    const char *seed = getenv("SEED");
    random->state =
        seed != NULL ? strtoull(seed, NULL, 0) : (uint64_t)process_now_ms() * 1000003u ^ (uint64_t)getpid();
    printf("SEED=%llu\n", (unsigned long long)random->state);
    fflush(stdout);
}

uint64_t process_random_next(struct process_random *random)
{
    return splitmix64(&random->state);
}

uint32_t process_random_below(struct process_random *random, uint32_t n)
{
    return (uint32_t)((process_random_next(random) >> 32) * n >> 32);
}

int process_rounds(int rounds, int times)
{
    const char *wanted = getenv("LONG");
    return wanted != NULL && strcmp(wanted, "0") != 0 && *wanted != '\0' ? rounds * times : rounds;
}
