/* daemon.c -- the real daemon, started for a test in a folder of its own. */
#include "daemon.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "process.h"

bool daemon_is_elsewhere(void)
{
    return getenv("HEAPD_TEST_ENDPOINT") != NULL;
}

static struct daemon *daemon_elsewhere(void)
{
    struct daemon *daemon = calloc(1, sizeof *daemon);
    const char *endpoint = getenv("HEAPD_TEST_ENDPOINT"), *colon = strrchr(endpoint, ':');
    assert_non_null(daemon);
    assert_non_null(colon);
    snprintf(daemon->host, sizeof daemon->host, "%.*s", (int)(colon - endpoint), endpoint);
    daemon->port = atoi(colon + 1);
    daemon->out = -1;
    return daemon;
}

static void log_path(const struct daemon *daemon, char *path, size_t size)
{
    snprintf(path, size, "%s/stderr", daemon->folder);
}

char *daemon_log(const struct daemon *daemon)
{
    char path[128];
    size_t len;
    log_path(daemon, path, sizeof path);
    char *text = daemon->pid == 0 ? NULL : process_read_file(path, &len);
    return text != NULL ? text : calloc(1, 1);
}

long daemon_resident_bytes(const struct daemon *daemon)
{
    char path[64];
    long pages = 0, resident = 0;
    snprintf(path, sizeof path, "/proc/%d/statm", (int)daemon->pid);
    FILE *file = daemon->pid == 0 ? NULL : fopen(path, "r");
    if (file != NULL) {
        if (fscanf(file, "%ld %ld", &pages, &resident) != 2) {
            resident = 0;
        }
        fclose(file);
    }
    return resident * sysconf(_SC_PAGESIZE);
}

static void die_with_log(struct daemon *daemon, const char *what)
{
    char *log = daemon_log(daemon);
    kill(daemon->pid, SIGKILL);
    waitpid(daemon->pid, NULL, 0);
    print_error("---- stderr of the daemon ----\n%s\n----\n", log);
    fail_msg("%s", what);
}

/* In the child: stdout is the pipe, stderr the log file. */
static void become_daemon(const struct daemon *daemon, int out, const char *const argv[])
{
    char path[128];
    log_path(daemon, path, sizeof path);
    int log = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600),
        nothing = open("/dev/null", O_RDONLY);
    process_become_child();
    dup2(nothing, 0);
    dup2(out, 1);
    dup2(log, 2);
    execv(argv[0], (char *const *)(uintptr_t)argv);
    dprintf(2, "cannot run %s: %s\n", argv[0], strerror(errno));
    _exit(127);
}

static void await_ready(struct daemon *daemon)
{
    int64_t deadline = process_now_ms() + PROCESS_PATIENCE_MS;
    size_t len = 0;
    while (memchr(daemon->ready, '\n', len) == NULL) {
        struct pollfd fd = {daemon->out, POLLIN, 0};
        poll(&fd, 1, 1000);
        ssize_t n =
            fd.revents == 0 ? 0 : read(daemon->out, daemon->ready + len, sizeof daemon->ready - 1 - len);
        if ((fd.revents != 0 && n <= 0) || process_now_ms() > deadline) {
            die_with_log(daemon, "the daemon did not say that it is ready");
        }
        len += (size_t)n;
    }
    *strchr(daemon->ready, '\n') = '\0';
}

/* heapd ready pid=PID listen=ADDR[,ADDR..] */
static void read_ready(struct daemon *daemon)
{
    char expected[64];
    snprintf(expected, sizeof expected, "heapd ready pid=%d listen=", (int)daemon->pid);
    if (strncmp(daemon->ready, expected, strlen(expected)) != 0) {
        print_error("ready line: %s\n", daemon->ready);
        die_with_log(daemon, "the ready line is not as PROTOCOL section 10 says");
    }
    const char *tcp = strstr(daemon->ready, "tcp:"),
               *colon = tcp == NULL ? NULL : tcp + 4 + strcspn(tcp + 4, ",");
    while (colon != NULL && colon > tcp && *colon != ':') {
        colon--;
    }
    if (colon != NULL) {
        snprintf(daemon->host, sizeof daemon->host, "%.*s", (int)(colon - tcp - 4), tcp + 4);
        daemon->port = atoi(colon + 1);
    }
}

struct daemon *daemon_start_at(const char *const listen[], const char *const arguments[])
{
    struct daemon *daemon = calloc(1, sizeof *daemon);
    char program[4200], more[256] = "";
    const char *argv[64] = {program};
    if (getenv("HEAPD_TEST_ARGUMENTS") != NULL) {
        snprintf(more, sizeof more, "%s", getenv("HEAPD_TEST_ARGUMENTS"));
    }
    size_t n = 1;
    int out[2];
    assert_non_null(daemon);
    strcpy(daemon->folder, "/tmp/heapd-test-XXXXXX");
    assert_non_null(mkdtemp(daemon->folder));
    snprintf(daemon->socket, sizeof daemon->socket, "%s/heapd.sock", daemon->folder);
    process_program(program, sizeof program, "heapd");
    char address[128];
    snprintf(address, sizeof address, "unix:%s", daemon->socket);
    const char *const usual[] = {"--listen", address, "--listen", "tcp:127.0.0.1:0", NULL};
    for (listen = listen != NULL ? listen : usual; *listen != NULL; listen++) {
        argv[n++] = *listen;
    }
    for (; arguments != NULL && *arguments != NULL && n < 63; arguments++) {
        argv[n++] = *arguments;
    }
    for (char *word = strtok(more, " "); word != NULL && n < 63; word = strtok(NULL, " ")) {
        argv[n++] = word;
    }
    assert_int_equal(pipe2(out, O_CLOEXEC), 0);
    fflush(stdout);
    daemon->pid = fork();
    assert_true(daemon->pid >= 0);
    if (daemon->pid == 0) {
        become_daemon(daemon, out[1], argv);
    }
    close(out[1]);
    daemon->out = out[0];
    await_ready(daemon);
    read_ready(daemon);
    return daemon;
}

struct daemon *daemon_start(const char *const arguments[])
{
    if (daemon_is_elsewhere()) {
        if (arguments != NULL && *arguments != NULL) {
            process_skip("the daemon of HEAPD_TEST_ENDPOINT cannot be given options");
        }
        return daemon_elsewhere();
    }
    return daemon_start_at(NULL, arguments);
}

/* The folder is flat: a socket, perhaps its lock, the log. */
static void remove_folder(const char *path)
{
    DIR *folder = opendir(path);
    for (struct dirent *entry; folder != NULL && (entry = readdir(folder)) != NULL;) {
        unlinkat(dirfd(folder), entry->d_name, 0);
    }
    if (folder != NULL) {
        closedir(folder);
    }
    rmdir(path);
}

static void forget(struct daemon *daemon)
{
    remove_folder(daemon->folder);
    close(daemon->out);
    free(daemon);
}

void daemon_kill(struct daemon *daemon)
{
    if (daemon->pid != 0) {
        kill(daemon->pid, SIGKILL);
        waitpid(daemon->pid, NULL, 0);
        forget(daemon);
    } else {
        free(daemon);
    }
}

/* The daemon has ended by itself: the demands on its end. */
static void judge_end(struct daemon *daemon, int status)
{
    char *log = daemon_log(daemon);
    bool clean = WIFEXITED(status) && WEXITSTATUS(status) == 0 && !process_has_complaint(log);
    if (!clean) {
        print_error("---- stderr of the daemon ----\n%s\n----\n", log);
    }
    free(log);
    forget(daemon);
    if (!clean) {
        fail_msg("the daemon ended with status %d, signal %d, or complained",
                 WIFEXITED(status) ? WEXITSTATUS(status) : -1, WIFSIGNALED(status) ? WTERMSIG(status) : 0);
    }
}

void daemon_wait(struct daemon *daemon)
{
    int64_t deadline = process_now_ms() + PROCESS_PATIENCE_MS;
    int status;
    if (daemon->pid == 0) {
        free(daemon);
        return;
    }
    while (waitpid(daemon->pid, &status, WNOHANG) == 0) {
        if (process_now_ms() > deadline) {
            die_with_log(daemon, "the daemon does not stop");
        }
        usleep(2000);
    }
    judge_end(daemon, status);
}

void daemon_stop(struct daemon *daemon)
{
    if (daemon->pid != 0) {
        kill(daemon->pid, SIGTERM);
    }
    daemon_wait(daemon);
}
