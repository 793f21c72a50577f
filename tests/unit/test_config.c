/* test_config.c -- flags, environment and file: who wins, what is refused, what the messages say.
 *
 * Programs of server/ are not linked into unit tests, so the sources under test are included.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../../server/address.c"
#include "../../server/config.c"
#include "../../server/machine.c"
#include "../../server/reason.c"
#include "../support/process.h"

#include <sys/stat.h>

extern char **environ;

static struct config config;
static struct reason reason;

/* Loads with these arguments, which end with NULL. */
static bool load(const char *first, ...)
{
    char *argv[32] = {(char *)(uintptr_t) "heapd"};
    int argc = 1;
    va_list args;
    va_start(args, first);
    for (const char *arg = first; arg != NULL; arg = va_arg(args, const char *)) {
        argv[argc++] = (char *)(uintptr_t)arg;
    }
    va_end(args);
    memset(&reason, 0, sizeof reason);
    return config_load(&config, argc, argv, &reason);
}

#define load_ok(...)                                                                                           \
    do {                                                                                                       \
        if (!load(__VA_ARGS__)) {                                                                              \
            fail_msg("refused: %s", reason.text);                                                              \
        }                                                                                                      \
    } while (0)

/* Demands a refusal whose message has both texts in it. */
#define load_fails(where, allowed, ...)                                                                        \
    do {                                                                                                       \
        assert_false(load(__VA_ARGS__));                                                                       \
        if (strstr(reason.text, where) == NULL || strstr(reason.text, allowed) == NULL) {                      \
            fail_msg("the message is: %s", reason.text);                                                       \
        }                                                                                                      \
    } while (0)

/* Without anything of HEAPD_* in the environment. */
static int setup(void **state)
{
    (void)state;
    for (char **entry = environ; *entry != NULL;) {
        char name[64];
        size_t len = strcspn(*entry, "=");
        if (strncmp(*entry, "HEAPD_", 6) == 0 && len < sizeof name) {
            snprintf(name, sizeof name, "%.*s", (int)len, *entry);
            unsetenv(name);
            entry = environ;
        } else {
            entry++;
        }
    }
    setenv("XDG_RUNTIME_DIR", "/run/user/7", 1);
    return 0;
}

/* A file with this text; the path is valid until the next call. */
static const char *write_file(const char *text)
{
    static char path[64];
    snprintf(path, sizeof path, "/tmp/heapd-test-config-XXXXXX");
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    close(fd);
    return path;
}

static void assert_listens(size_t i, const char *expected)
{
    char text[ADDRESS_TEXT_BYTES];
    assert_true(i < config.listen_count);
    address_text(&config.listen[i], text);
    assert_string_equal(text, expected);
}

/* ---- defaults ---- */

static void test_config_defaults(void **state)
{
    (void)state;
    struct rpc_limits limits;
    rpc_limits_default(&limits);
    load_ok(NULL);
    assert_int_equal(config.action, CONFIG_RUN);
    assert_int_equal(config.listen_count, 1);
    assert_listens(0, "unix:/run/user/7/heapd.sock");
    assert_in_range(config.threads, 1, 4);
    assert_int_equal(config.log_level, LOG_INFO);
    assert_int_equal(config.log_format, LOG_TEXT);
    assert_int_not_equal(config.limits.max_memory, 0);
    limits.max_memory = config.limits.max_memory;
    assert_memory_equal(&config.limits, &limits, sizeof limits);
}

static void test_config_default_socket(void **state)
{
    (void)state;
    char expected[64];
    snprintf(expected, sizeof expected, "unix:/tmp/heapd-%lu/heapd.sock", (unsigned long)geteuid());
    unsetenv("XDG_RUNTIME_DIR");
    load_ok(NULL);
    assert_listens(0, expected);
    /* One that is not absolute is to be ignored. */
    setenv("XDG_RUNTIME_DIR", "run", 1);
    load_ok(NULL);
    assert_listens(0, expected);
    /* A slash at the end would look through a symbolic link. */
    setenv("XDG_RUNTIME_DIR", "/run/x///", 1);
    load_ok(NULL);
    assert_listens(0, "unix:/run/x/heapd.sock");
    char long_path[200];
    memset(long_path, 'x', sizeof long_path - 1);
    long_path[0] = '/';
    long_path[sizeof long_path - 1] = '\0';
    setenv("XDG_RUNTIME_DIR", long_path, 1);
    load_fails("unix:", "at most", NULL);
}

static void test_config_memory_is_bounded_by_machine(void **state)
{
    (void)state;
    uint64_t physical = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
    uint64_t bytes = machine_memory_bytes();
    assert_true(bytes > 0 && bytes <= physical);
    load_ok(NULL);
    assert_true(config.limits.max_memory <= bytes / 4 * 3);
}

/* ---- values ---- */

static void test_config_sizes(void **state)
{
    (void)state;
    load_ok("--max-request", "1000", NULL);
    assert_int_equal(config.limits.max_request, 1000);
    load_ok("--max-request", "2k", NULL);
    assert_int_equal(config.limits.max_request, 2048);
    load_ok("--max-request=3M", NULL);
    assert_int_equal(config.limits.max_request, 3 << 20);
    load_ok("--max-memory", "4g", NULL);
    assert_int_equal(config.limits.max_memory, (uint64_t)4 << 30);
    load_ok("--max-memory", "0", NULL);
    assert_int_equal(config.limits.max_memory, 0);
    static const char *const wrong[] = {"", "k", "12x", "1kk", "1.5m", "-1", "+1", " 1", "1 k", "0x10"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        load_fails("--max-request: ", "k, m or g", "--max-request", wrong[i], NULL);
    }
    load_fails("--max-request: ", "out of range", "--max-request", "99999999999g", NULL);
    load_fails("--max-request: ", "out of range", "--max-request", "99999999999999999999999", NULL);
}

static void test_config_numbers(void **state)
{
    (void)state;
    load_ok("--threads", "64", "--max-depth", "2000", "--idle-timeout", "0", NULL);
    assert_int_equal(config.threads, 64);
    assert_int_equal(config.limits.max_depth, 2000);
    assert_int_equal(config.limits.idle_timeout, 0);
    load_fails("--threads: ", "1 to 64", "--threads", "0", NULL);
    load_fails("--threads: ", "1 to 64", "--threads", "65", NULL);
    load_fails("--threads: ", "digits", "--threads", "two", NULL);
    load_fails("--max-depth: ", "0 to 2000", "--max-depth", "2001", NULL);
    load_fails("--max-batch: ", "digits", "--max-batch", "1k", NULL);
    load_fails("--idle-timeout: ", "out of range", "--idle-timeout", "99999999999", NULL);
}

static void test_config_words(void **state)
{
    (void)state;
    load_ok("--log-level", "debug", "--log-format", "json", NULL);
    assert_int_equal(config.log_level, LOG_DEBUG);
    assert_int_equal(config.log_format, LOG_JSON);
    load_fails("--log-level: 'loud'", "error, warning, info, debug", "--log-level", "loud", NULL);
    load_fails("--log-format: 'xml'", "text, json", "--log-format", "xml", NULL);
}

static void test_config_addresses(void **state)
{
    (void)state;
    load_ok("--listen", "unix:rel/s", "--listen", "tcp:127.0.0.1:0", "--listen", "tcp:[::1]:65535", NULL);
    assert_int_equal(config.listen_count, 3);
    assert_listens(0, "unix:rel/s");
    assert_listens(1, "tcp:127.0.0.1:0");
    assert_listens(2, "tcp:[::1]:65535");
    load_ok("--listen", "unix:/a, tcp:127.0.0.2:7411 ,unix:/b", NULL);
    assert_int_equal(config.listen_count, 3);
    assert_listens(1, "tcp:127.0.0.2:7411");
    static const char *const wrong[] = {"",
                                        "/a",
                                        "unix:",
                                        "udp:127.0.0.1:1",
                                        "tcp:127.0.0.1",
                                        "tcp::1",
                                        "tcp:::1:1",
                                        "tcp:[]:1",
                                        "tcp:127.0.0.1:",
                                        "tcp:127.0.0.1:65536",
                                        "tcp:a:b:1",
                                        "unix:/a\tb",
                                        "unix:/a,,",
                                        "tcp:127.0.0.1:-1",
                                        "tcp:127.0.0.1: 1",
                                        "tls:127.0.0.1",
                                        "tls:"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        load_fails("--listen: ", "", "--listen", wrong[i], NULL);
    }
    static const char *const open[] = {"tcp:0.0.0.0:1", "tcp:[::]:1", "tcp:192.0.2.1:1",
                                       "tcp:[::ffff:192.0.2.1]:1"};
    for (size_t i = 0; i < sizeof open / sizeof open[0]; i++) {
        load_fails(open[i], "loopback", "--listen", open[i], NULL);
        load_ok("--listen", open[i], "--auth-token-file", "/etc/tokens", NULL);
    }
}

static void test_config_tls(void **state)
{
    (void)state;
    load_fails("tls:127.0.0.1:1", "tls-cert and tls-key", "--listen", "tls:127.0.0.1:1", NULL);
    load_fails("tls-cert and tls-key", "both or none", "--tls-cert", "/tmp/cert.pem", NULL);
    load_fails("tls-cert and tls-key", "both or none", "--tls-key", "/tmp/key.pem", NULL);
    load_ok("--listen", "tls:[::1]:1", "--tls-key", "/tmp/key.pem", "--tls-cert", "/tmp/cert.pem", NULL);
    assert_listens(0, "tls:[::1]:1");
    assert_true(config.listen[0].is_tls);
    load_fails("tls:0.0.0.0:1", "auth-token-file", "--listen", "tls:0.0.0.0:1", "--tls-key", "/tmp/key.pem",
               "--tls-cert", "/tmp/cert.pem", NULL);
}

static void test_config_too_many_addresses(void **state)
{
    (void)state;
    char list[32 * CONFIG_LISTEN_MAX] = "unix:/0";
    for (unsigned i = 1; i < CONFIG_LISTEN_MAX; i++) {
        snprintf(list + strlen(list), sizeof list - strlen(list), ",unix:/%u", i);
    }
    load_ok("--listen", list, NULL);
    assert_int_equal(config.listen_count, CONFIG_LISTEN_MAX);
    load_fails("--listen: ", "more than 16", "--listen", list, "--listen", "unix:/x", NULL);
}

/* ---- the command line ---- */

static void test_config_actions(void **state)
{
    (void)state;
    load_ok("--help", NULL);
    assert_int_equal(config.action, CONFIG_HELP);
    load_ok("-h", "--no-such", NULL);
    assert_int_equal(config.action, CONFIG_HELP);
    load_ok("--threads", "1", "--version", NULL);
    assert_int_equal(config.action, CONFIG_VERSION);
    load_ok("--check-config", NULL);
    assert_int_equal(config.action, CONFIG_CHECK);
    load_fails("--threads", "1 to 64", "--check-config", "--threads", "0", NULL);
    load_fails("--version", "no value", "--version=1", NULL);
}

static void test_config_unknown_options(void **state)
{
    (void)state;
    load_fails("no option --foo", "--help", "--foo", NULL);
    load_fails("no option --max", "--help", "--max", "1", NULL);
    load_fails("'foo'", "no option", "foo", NULL);
    load_fails("'-x'", "no option", "-x", NULL);
    load_fails("no option --", "--help", "--", NULL);
    load_fails("--threads needs a value", "--help", "--threads", NULL);
}

static void test_config_help_names_every_option(void **state)
{
    (void)state;
    char *text = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&text, &len);
    config_write_help(out);
    fclose(out);
    for (size_t i = 0; i < OPTION_COUNT_ALL; i++) {
        char flag[64];
        snprintf(flag, sizeof flag, "\n  --%s ", options[i].name);
        if (strstr(text, flag) == NULL) {
            fail_msg("--help does not name --%s", options[i].name);
        }
    }
    for (const char *line = text; *line != '\0'; line += strcspn(line, "\n") + 1) {
        assert_true(strcspn(line, "\n") <= 110);
    }
    assert_non_null(strstr(text, "(default: 64m)"));
    assert_non_null(strstr(text, "at most 2000"));
    free(text);
}

/* ---- who wins ---- */

static void test_config_precedence(void **state)
{
    (void)state;
    const char *path = write_file("max-batch = 1\nmax-holds = 1\nmax-names = 1\nlisten = unix:/file\n");
    setenv("HEAPD_MAX_HOLDS", "2", 1);
    setenv("HEAPD_MAX_NAMES", "2", 1);
    load_ok("--max-names", "3", "--config", path, NULL);
    assert_int_equal(config.limits.max_batch, 1);
    assert_int_equal(config.limits.max_holds, 2);
    assert_int_equal(config.limits.max_names, 3);
    assert_listens(0, "unix:/file");
    /* A list is replaced by that of a stronger source, not added to. */
    setenv("HEAPD_LISTEN", "unix:/env1,unix:/env2", 1);
    load_ok("--config", path, NULL);
    assert_int_equal(config.listen_count, 2);
    assert_listens(0, "unix:/env1");
    load_ok("--listen", "unix:/flag", "--config", path, NULL);
    assert_int_equal(config.listen_count, 1);
    assert_listens(0, "unix:/flag");
    /* The file itself can be named in the environment; the last of two equal flags counts. */
    setenv("HEAPD_CONFIG", path, 1);
    load_ok("--max-holds", "5", "--max-holds", "6", NULL);
    assert_int_equal(config.limits.max_batch, 1);
    assert_int_equal(config.limits.max_holds, 6);
    unlink(path);
}

static void test_config_environment(void **state)
{
    (void)state;
    setenv("HEAPD_THREADS", "many", 1);
    load_fails("HEAPD_THREADS: 'many'", "digits", NULL);
    setenv("HEAPD_THREADS", "", 1);
    load_ok(NULL);
    setenv("HEAPD_URL", "is for heapctl", 1);
    setenv("HEAPD_HELP", "1", 1);
    load_ok(NULL);
    assert_int_equal(config.action, CONFIG_RUN);
}

/* ---- the file ---- */

static void test_config_file_lines(void **state)
{
    (void)state;
    const char *path = write_file("# comment\n\n   # indented\n\tmax-batch=7\r\nmax-holds   =   8   \n"
                                  "listen = unix:/a\nlisten = unix:/b , unix:/c d\nlog-level = error");
    load_ok("--config", path, NULL);
    assert_int_equal(config.limits.max_batch, 7);
    assert_int_equal(config.limits.max_holds, 8);
    assert_int_equal(config.listen_count, 3);
    assert_listens(2, "unix:/c d");
    assert_int_equal(config.log_level, LOG_ERROR);
    assert_string_equal(config.file, path);
    unlink(path);
}

static void test_config_file_mistakes(void **state)
{
    (void)state;
    static const char *const texts[][3] = {
        {"\nmax-batch 7\n", ":2: ", "key = value"},
        {"max-batch = 1 \n= 7\n", ":2: ", "no key ''"},
        {"max batch = 1\n", ":1: ", "key = value"},
        {"\n\nmax-bach = 7\n", ":3: ", "no key 'max-bach'"},
        {"[section]\n", ":1: ", "key = value"},
        {"max-batch = 7 # seven\n", ":1: max-batch: ", "digits"},
        {"max-batch =\n", ":1: max-batch: ", "digits"},
        {"config = /tmp/other\n", ":1: ", "no key 'config'"},
        {"help = 1\n", ":1: ", "no key 'help'"},
    };
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        const char *path = write_file(texts[i][0]);
        load_fails(texts[i][1], texts[i][2], "--config", path, NULL);
        assert_memory_equal(reason.text, path, strlen(path));
        unlink(path);
    }
    load_fails("--config", "/no/such/file", "--config", "/no/such/file", NULL);
    load_fails("--config", "cannot read /tmp", "--config", "/tmp", NULL);
    load_fails("--config", "empty", "--config", "", NULL);
}

/* deploy/heapd.conf says `#key = value` for each key, with its default unless a line above says "Example". */
static void test_config_sample_is_right(void **state)
{
    (void)state;
    char path[4200];
    size_t len;
    process_path(path, sizeof path, "deploy/heapd.conf");
    char *text = process_read_file(path, &len);
    assert_non_null(text);
    for (char *line = text; *line != '\0'; line += strcspn(line, "\n") + (line[strcspn(line, "\n")] != '\0')) {
        if (line[0] == '#' && line[1] >= 'a' && line[1] <= 'z') {
            line[0] = ' ';
        }
    }
    for (size_t i = 0; i < OPTION_COUNT_ALL; i++) {
        char key[64];
        snprintf(key, sizeof key, "\n %s = ", options[i].name);
        if ((options[i].places & PLACE_FILE) != 0 && strstr(text, key) == NULL) {
            fail_msg("the sample has no key %s", options[i].name);
        }
    }
    const char *all = write_file(text);
    load_ok("--config", all, NULL);
    unlink(all);
    free(text);
    struct config given = config;
    load_ok(NULL);
    given.limits.max_memory = config.limits.max_memory;
    assert_memory_equal(&given.limits, &config.limits, sizeof config.limits);
    assert_int_equal(given.log_level, config.log_level);
    assert_int_equal(given.log_format, config.log_format);
}

#define config_test(function) cmocka_unit_test_setup(function, setup)

static void test_config_export_dir(void **state)
{
    (void)state;
    load_ok(NULL);
    assert_string_equal(config.export_dir, "");
    load_ok("--config", write_file("export-dir = /usr\n"), NULL);
    assert_string_equal(config.export_dir, "/usr");
    setenv("HEAPD_EXPORT_DIR", "/var", 1);
    load_ok("--config", write_file("export-dir = /usr\n"), NULL);
    assert_string_equal(config.export_dir, "/var");
    load_ok("--export-dir", "/tmp", NULL);
    assert_string_equal(config.export_dir, "/tmp");
    unsetenv("HEAPD_EXPORT_DIR");
    load_fails("--export-dir", "no folder /no/such", "--export-dir", "/no/such", NULL);
    load_fails("--export-dir", "no folder /etc/passwd", "--export-dir", "/etc/passwd", NULL);
    load_fails("--export-dir", "1 to", "--export-dir", "", NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        config_test(test_config_defaults),
        config_test(test_config_default_socket),
        config_test(test_config_memory_is_bounded_by_machine),
        config_test(test_config_sizes),
        config_test(test_config_numbers),
        config_test(test_config_words),
        config_test(test_config_addresses), config_test(test_config_tls),
        config_test(test_config_too_many_addresses),
        config_test(test_config_actions),
        config_test(test_config_unknown_options),
        config_test(test_config_help_names_every_option),
        config_test(test_config_precedence),
        config_test(test_config_environment),
        config_test(test_config_file_lines),
        config_test(test_config_file_mistakes),
        config_test(test_config_export_dir),
        config_test(test_config_sample_is_right),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
