/* config.c -- what the daemon was told: flags, environment, file.
 *
 *   defaults -> file -> environment -> flags, each source over what the one before has set
 *
 * The file has a `key = value` a line; empty lines and lines that begin with # say nothing.  It is read here
 * rather than by inih, which as Debian builds it cuts lines at 200 bytes without a word, takes an indented
 * line for more of the value before, and does not say the number of a line whose value is wrong.
 *
 * Start at config_load(); what options there are stands in the table above it.
 */
#include "config.h"

#include "journal.h"
#include "machine.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- the table ---- */

enum option_kind {
    OPTION_ADDRESSES, /* of listen */
    OPTION_HOSTS,     /* of allow_hosts */
    OPTION_NUMBER,    /* unsigned */
    OPTION_SIZE,      /* uint64_t, with k, m, g; the kinds from here to OPTION_SECONDS are limits, 0: none */
    OPTION_COUNT,     /* uint64_t */
    OPTION_SECONDS,   /* uint64_t */
    OPTION_MICROS,    /* uint64_t; no limit: 0 is a value like others */
    OPTION_WORD,      /* unsigned: which of the words */
    OPTION_PATH,      /* const char * */
    OPTION_FOLDER,    /* char[CONFIG_PATH_BYTES]; it must be there */
    OPTION_PLACE,     /* char[CONFIG_PATH_BYTES]; it is made where it is missing */
    OPTION_FILE,      /* char[CONFIG_PATH_BYTES]; read when the daemon starts */
    OPTION_USER,      /* char[CONFIG_PATH_BYTES]; the same */
    OPTION_ACTION     /* enum config_action; has no argument */
};

/* Where an option may stand besides the command line; PLACE_RUNNING: server.config may change it, too. */
enum option_place { PLACE_ENVIRONMENT = 1, PLACE_FILE = 2, PLACE_ANYWHERE = 3, PLACE_RUNNING = 4 };

struct option {
    const char *name; /* without dashes; also the key in the file */
    enum option_kind kind;
    unsigned places;      /* enum option_place */
    size_t offset;        /* of the member of struct config; for OPTION_ACTION the action itself */
    uint64_t least, most; /* of a number; most 0: as large as it can be */
    const char *const *words;
    const char *doc; /* for --help */
};

static const char *const level_words[] = {
#define X(level, word) word,
    LOG_LEVEL_MAP(X)
#undef X
        NULL};
static const char *const policy_words[] = {
#define X(policy, word) word,
    JOURNAL_POLICY_MAP(X)
#undef X
        NULL};
static const char *const format_words[] = {"text", "json", NULL};

/* How a unit of RPC_LIMIT_MAP is read. */
#define KIND_SIZE OPTION_SIZE
#define KIND_NUMBER OPTION_COUNT
#define KIND_SECONDS OPTION_SECONDS

#define MEMBER(name) offsetof(struct config, name)

static const struct option options[] = {
    {"listen", OPTION_ADDRESSES, PLACE_ANYWHERE, MEMBER(listen), 0, 0, NULL,
     "where to listen: " ADDRESS_GRAMMAR "; may be repeated (default: the Unix socket "
     "$XDG_RUNTIME_DIR/heapd.sock, or /tmp/heapd-UID/heapd.sock)"},
    {"threads", OPTION_NUMBER, PLACE_ANYWHERE, MEMBER(threads), 1, CONFIG_THREADS_MAX, NULL,
     "I/O threads (default: processors - 1, at least 1, at most 4)"},
#define X(member, name, unit, fallback, largest, doc)                                                          \
    {name, KIND_##unit, PLACE_ANYWHERE | PLACE_RUNNING, MEMBER(limits.member), 0, largest, NULL, doc},
    RPC_LIMIT_MAP(X)
#undef X
    {"auth-token-file", OPTION_FILE, PLACE_ANYWHERE, MEMBER(auth_token_file), 0, 0, NULL,
     "a file with a `ROLE TOKEN` a line, ROLE one of read, write, admin: who connects over TCP must show such a token "
     "(default: none; then whoever can connect is admin)"},
    {"tls-cert", OPTION_FILE, PLACE_ANYWHERE, MEMBER(tls_cert), 0, 0, NULL,
     "the certificate for tls: addresses, with those that lead from it to one that clients know, in PEM"},
    {"tls-key", OPTION_FILE, PLACE_ANYWHERE, MEMBER(tls_key), 0, 0, NULL, "its private key, in PEM, not encrypted"},
        {"allow-host", OPTION_HOSTS, PLACE_ANYWHERE, MEMBER(allow_hosts), 0, 0, NULL,
         "a name, or NAME:PORT, that HTTP requests may have as their Host besides the listening address and localhost; "
         "may be repeated"},
        {"data-dir", OPTION_PLACE, PLACE_ANYWHERE, MEMBER(data_dir), 0, 0, NULL,
         "the folder in which changes are kept, so that they are there after a restart: the daemon's user's own, others may "
         "not write to it (default: nothing is kept)"},
    {"fsync", OPTION_WORD, PLACE_ANYWHERE, MEMBER(fsync), 0, 0, policy_words,
     "when a change is on disk: before its reply (always), at most a second later (everysec), when the kernel likes"},
    {"export-dir", OPTION_FOLDER, PLACE_ANYWHERE, MEMBER(export_dir), 0, 0, NULL,
         "the folder in which heap.export may write files (default: it may not)"},
    {"slowlog-us", OPTION_MICROS, PLACE_ANYWHERE | PLACE_RUNNING, MEMBER(slowlog_us), 0, 0, NULL,
         "microseconds from which a request is noted for server.slowlog; 0 notes all"},
    {"user", OPTION_USER, PLACE_ANYWHERE, MEMBER(user), 0, 0, NULL,
     "who to become when started by root, once the addresses are listened on; the folder of the default socket stays "
     "root's, so name a socket with --listen where that user may enter (default: root stays root)"},
    {"log-level", OPTION_WORD, PLACE_ANYWHERE | PLACE_RUNNING, MEMBER(log_level), 0, 0, level_words,
         "what is worth a line on stderr"},
    {"log-format", OPTION_WORD, PLACE_ANYWHERE, MEMBER(log_format), 0, 0, format_words,
     "how such a line looks"},
    {"config", OPTION_PATH, PLACE_ENVIRONMENT, MEMBER(file), 0, 0, NULL, "a file with a `key = value` a line"},
    {"check-config", OPTION_ACTION, 0, CONFIG_CHECK, 0, 0, NULL,
     "read the configuration, say whether it is right, exit"},
    {"version", OPTION_ACTION, 0, CONFIG_VERSION, 0, 0, NULL, "print the version and exit"},
    {"help", OPTION_ACTION, 0, CONFIG_HELP, 0, 0, NULL, "print this and exit"},
};
#define OPTION_COUNT_ALL (sizeof options / sizeof options[0])

static const struct option *find_option(const char *name, size_t len)
{
    for (size_t i = 0; i < OPTION_COUNT_ALL; i++) {
        if (strlen(options[i].name) == len && memcmp(options[i].name, name, len) == 0) {
            return &options[i];
        }
    }
    return NULL;
}

/* ---- values ---- */

/* A value and where it was given, for messages. */
struct given {
    const struct option *option;
    const char *value;
    const char *where; /* "--max-request", "HEAPD_MAX_REQUEST", "FILE:3: max-request" */
};

/* The bytes that a letter behind a number multiplies it with; 0: no such letter. */
static uint64_t unit_bytes(const char *letter)
{
    switch (tolower((unsigned char)*letter)) {
    case '\0':
        return 1;
    case 'k':
        return letter[1] == '\0' ? (uint64_t)1 << 10 : 0;
    case 'm':
        return letter[1] == '\0' ? (uint64_t)1 << 20 : 0;
    case 'g':
        return letter[1] == '\0' ? (uint64_t)1 << 30 : 0;
    default:
        return 0;
    }
}

/* The largest value of an option: of seconds, what still fits in milliseconds many times over. */
static uint64_t most_of(const struct option *option)
{
    if (option->most != 0) {
        return option->most;
    }
    return option->kind == OPTION_SECONDS ? UINT32_MAX : INT64_MAX;
}

/* A number, with a unit where the option has one. */
static bool read_number(uint64_t *result, const struct given *given, struct reason *reason)
{
    const struct option *option = given->option;
    const char *text = given->value;
    size_t digits = strspn(text, "0123456789");
    bool is_size = option->kind == OPTION_SIZE, is_limit = option->kind != OPTION_NUMBER && option->kind != OPTION_MICROS;
    uint64_t unit = digits == 0 || (!is_size && text[digits] != '\0') ? 0 : unit_bytes(text + digits);
    if (unit == 0) {
        return reason_set(reason, "%s: '%.100s' is no %s; allowed: %s%s", given->where, text,
                          is_size ? "size" : "number",
                          is_size ? "a number, with k, m or g (1024s) behind it or nothing" : "digits",
                          is_limit ? "; 0 for no limit" : "");
    }
    errno = 0;
    uint64_t most = most_of(option), number = strtoull(text, NULL, 10);
    if (errno != 0 || number > most / unit || number < option->least) {
        return reason_set(reason, "%s: %.100s is out of range; allowed: %" PRIu64 " to %" PRIu64 "%s",
                          given->where, text, option->least, most, is_limit ? " (0 for no limit)" : "");
    }
    *result = number * unit;
    return true;
}

static bool read_word(unsigned *result, const struct given *given, struct reason *reason)
{
    char allowed[128] = "";
    size_t len = 0;
    for (unsigned i = 0; given->option->words[i] != NULL; i++) {
        if (strcmp(given->option->words[i], given->value) == 0) {
            *result = i;
            return true;
        }
        len += (size_t)snprintf(allowed + len, sizeof allowed - len, "%s%s", i == 0 ? "" : ", ",
                                given->option->words[i]);
    }
    return reason_set(reason, "%s: '%.100s' is none of: %s", given->where, given->value, allowed);
}

/* One more address. */
static bool add_address(struct config *config, const char *text, const char *where, struct reason *reason)
{
    struct reason why;
    struct address *address = &config->listen[config->listen_count];
    if (config->listen_count == CONFIG_LISTEN_MAX) {
        return reason_set(reason, "%s: more than %u addresses", where, CONFIG_LISTEN_MAX);
    }
    if (!address_parse(address, text, &why)) {
        return reason_set(reason, "%s: %s", where, why.text);
    }
    config->listen_count++;
    return true;
}

/* One more name for HTTP, perhaps with a port. */
static bool add_host(struct config *config, const char *text, const char *where, struct reason *reason)
{
    size_t len = strlen(text);
    bool is_name = len > 0 && strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_:[]") == len;
    if (config->allow_host_count == CONFIG_HOSTS_MAX) {
        return reason_set(reason, "%s: more than %u names", where, CONFIG_HOSTS_MAX);
    }
    if (!is_name || len >= CONFIG_HOST_BYTES) {
        return reason_set(reason, "%s: '%.100s' is no host; allowed: a name or an address, such as heap.example.com, "
                          "without http:// and without a path", where, text);
    }
    memcpy(config->allow_hosts[config->allow_host_count++], text, len + 1);
    return true;
}

/* Items with commas between them, spaces around them. */
static bool add_items(struct config *config, const struct given *given, struct reason *reason,
                      bool (*add)(struct config *config, const char *text, const char *where, struct reason *reason))
{
    const char *p = given->value;
    for (;;) {
        char text[REASON_BYTES];
        p += strspn(p, " \t");
        size_t len = strcspn(p, ","), trimmed = len;
        while (trimmed > 0 && (p[trimmed - 1] == ' ' || p[trimmed - 1] == '\t')) {
            trimmed--;
        }
        snprintf(text, sizeof text, "%.*s", (int)(trimmed < sizeof text ? trimmed : sizeof text - 1), p);
        if (!add(config, text, given->where, reason)) {
            return false;
        }
        if (p[len] == '\0') {
            return true;
        }
        p += len + 1;
    }
}

/* A folder that is there and can be written to. */
static bool read_folder(char *path, const struct given *given, struct reason *reason)
{
    size_t len = strlen(given->value);
    struct stat stat_of;
    if (len == 0 || len >= CONFIG_PATH_BYTES) {
        return reason_set(reason, "%s: a path has 1 to %u bytes", given->where, CONFIG_PATH_BYTES - 1);
    }
    if (stat(given->value, &stat_of) != 0 || !S_ISDIR(stat_of.st_mode)) {
        return reason_set(reason, "%s: there is no folder %.200s", given->where, given->value);
    }
    if (access(given->value, W_OK | X_OK) != 0) {
        return reason_set(reason, "%s: %.200s cannot be written to: %s", given->where, given->value, strerror(errno));
    }
    memcpy(path, given->value, len + 1);
    return true;
}

static bool read_place(char *path, const struct given *given, struct reason *reason)
{
    size_t len = strlen(given->value);
    if (len == 0 || len >= CONFIG_PATH_BYTES) {
        return reason_set(reason, "%s: it must have 1 to %u bytes", given->where, CONFIG_PATH_BYTES - 1);
    }
    memcpy(path, given->value, len + 1);
    return true;
}

/* Stores a value in its member. */
static bool apply(struct config *config, const struct given *given, struct reason *reason)
{
    char *member = (char *)config + given->option->offset;
    uint64_t number;
    switch (given->option->kind) {
    case OPTION_ADDRESSES:
        return add_items(config, given, reason, add_address);
    case OPTION_HOSTS:
        return add_items(config, given, reason, add_host);
    case OPTION_NUMBER:
        if (!read_number(&number, given, reason)) {
            return false;
        }
        *(unsigned *)(void *)member = (unsigned)number;
        return true;
    case OPTION_SIZE:
    case OPTION_COUNT:
    case OPTION_SECONDS:
    case OPTION_MICROS:
        return read_number((uint64_t *)(void *)member, given, reason);
    case OPTION_WORD:
        return read_word((unsigned *)(void *)member, given, reason);
    case OPTION_PATH:
        if (*given->value == '\0') {
            return reason_set(reason, "%s: the path is empty", given->where);
        }
        *(const char **)(void *)member = given->value;
        return true;
    case OPTION_FOLDER:
        return read_folder(member, given, reason);
    case OPTION_PLACE:
    case OPTION_FILE:
    case OPTION_USER:
        return read_place(member, given, reason);
    case OPTION_ACTION:
        config->action = (enum config_action)given->option->offset;
        return true;
    }
    return true;
}

/* ---- sources ---- */

static void set_defaults(struct config *config)
{
    unsigned cores = machine_cores();
    memset(config, 0, sizeof *config);
    rpc_limits_default(&config->limits);
    config->limits.max_memory = machine_memory_bytes() / 4 * 3;
    config->threads = cores <= 2 ? 1 : cores > 5 ? 4 : cores - 1;
    config->slowlog_us = 10000;
    config->fsync = JOURNAL_EVERYSEC;
    config->log_level = LOG_INFO;
    config->log_format = LOG_TEXT;
}

/* A line of the file, its newline cut off. */
static bool read_line(struct config *config, char *line, const char *path, unsigned number,
                      struct reason *reason)
{
    char *key = line + strspn(line, " \t"), *end = line + strlen(line);
    while (end > key && isspace((unsigned char)end[-1])) {
        *--end = '\0';
    }
    if (*key == '\0' || *key == '#') {
        return true;
    }
    char where[REASON_BYTES / 2], *equals = strchr(key, '=');
    size_t len = strcspn(key, " \t=");
    if (equals == NULL || key + len + strspn(key + len, " \t") != equals) {
        return reason_set(reason, "%s:%u: '%.100s' is no `key = value`", path, number, key);
    }
    const struct option *option = find_option(key, len);
    if (option == NULL || (option->places & PLACE_FILE) == 0) {
        return reason_set(reason, "%s:%u: there is no key '%.*s'; see heapd --help", path, number,
                          (int)(len < 100 ? len : 100), key);
    }
    snprintf(where, sizeof where, "%s:%u: %s", path, number, option->name);
    struct given given = {option, equals + 1 + strspn(equals + 1, " \t"), where};
    return apply(config, &given, reason);
}

static bool read_file(struct config *config, const char *path, struct reason *reason)
{
    char *line = NULL;
    size_t room = 0;
    unsigned number = 0;
    bool ok = true;
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        return reason_set(reason, "--config: cannot read %s: %s", path, strerror(errno));
    }
    while (ok && getline(&line, &room, file) >= 0) {
        ok = read_line(config, line, path, ++number, reason);
    }
    if (ok && ferror(file)) {
        ok = reason_set(reason, "--config: cannot read %s: %s", path, strerror(errno));
    }
    free(line);
    fclose(file);
    return ok;
}

/* The name of an option in the environment, HEAPD_MAX_REQUEST. */
static void environment_name(const struct option *option, char name[64])
{
    size_t len = (size_t)snprintf(name, 64, "HEAPD_");
    for (const char *p = option->name; *p != '\0' && len < 63; p++) {
        name[len++] = *p == '-' ? '_' : (char)toupper((unsigned char)*p);
    }
    name[len] = '\0';
}

/* The value of an option in the environment; NULL: none.  An empty one is none. */
static const char *environment_value(const struct option *option, char name[64])
{
    environment_name(option, name);
    const char *value = getenv(name);
    return value == NULL || *value == '\0' ? NULL : value;
}

static bool read_environment(struct config *config, struct reason *reason)
{
    size_t listened = config->listen_count, hosted = config->allow_host_count;
    for (size_t i = 0; i < OPTION_COUNT_ALL; i++) {
        char name[64];
        struct given given = {&options[i], environment_value(&options[i], name), name};
        if ((options[i].places & PLACE_ENVIRONMENT) == 0 || given.value == NULL) {
            continue;
        }
        if (options[i].kind == OPTION_ADDRESSES && listened > 0) {
            config->listen_count = 0;
        }
        if (options[i].kind == OPTION_HOSTS && hosted > 0) {
            config->allow_host_count = 0;
        }
        if (!apply(config, &given, reason)) {
            return false;
        }
    }
    return true;
}

/* The argument at argv[*i], with its value, which may be the next one; *i moves over both. */
static bool next_flag(struct given *given, char where[64], int argc, char *const argv[], int *i,
                      struct reason *reason)
{
    const char *text = argv[(*i)++];
    if (strcmp(text, "-h") == 0) {
        text = "--help";
    }
    if (strncmp(text, "--", 2) != 0) {
        return reason_set(reason, "'%.100s' is no option; see heapd --help", text);
    }
    size_t len = strcspn(text + 2, "=");
    const char *value = text[2 + len] == '=' ? text + 2 + len + 1 : NULL;
    given->option = find_option(text + 2, len);
    if (given->option == NULL) {
        return reason_set(reason, "there is no option %.*s; see heapd --help", (int)(len < 100 ? len + 2 : 100),
                          text);
    }
    snprintf(where, 64, "--%s", given->option->name);
    given->where = where;
    if (given->option->kind == OPTION_ACTION) {
        given->value = NULL;
        return value == NULL || reason_set(reason, "%s takes no value", where);
    }
    if (value == NULL && *i < argc) {
        value = argv[(*i)++];
    }
    given->value = value;
    return value != NULL || reason_set(reason, "%s needs a value; see heapd --help", where);
}

/* Before anything else: is the command line well formed, what does it ask for, which file does it name? */
static bool scan_flags(struct config *config, int argc, char *const argv[], struct reason *reason)
{
    for (int i = 1; i < argc;) {
        char where[64];
        struct given given;
        if (!next_flag(&given, where, argc, argv, &i, reason)) {
            return false;
        }
        bool first = given.option->kind == OPTION_ACTION || given.option->kind == OPTION_PATH;
        if (first && !apply(config, &given, reason)) {
            return false;
        }
        if (config->action == CONFIG_HELP || config->action == CONFIG_VERSION) {
            return true;
        }
    }
    return true;
}

static bool read_flags(struct config *config, int argc, char *const argv[], struct reason *reason)
{
    bool listened = false, hosted = false;
    for (int i = 1; i < argc;) {
        char where[64];
        struct given given;
        if (!next_flag(&given, where, argc, argv, &i, reason)) {
            return false;
        }
        if (given.option->kind == OPTION_ADDRESSES && !listened) {
            config->listen_count = 0;
            listened = true;
        }
        if (given.option->kind == OPTION_HOSTS && !hosted) {
            config->allow_host_count = 0;
            hosted = true;
        }
        if (!apply(config, &given, reason)) {
            return false;
        }
    }
    return true;
}

/* Whether what was given goes together, wherever each part of it was given. */
static bool check_access(const struct config *config, struct reason *reason)
{
    bool has_tls = config->tls_cert[0] != '\0';
    if (has_tls != (config->tls_key[0] != '\0')) {
        return reason_set(reason, "tls-cert and tls-key need each other; give both or none");
    }
    for (size_t i = 0; i < config->listen_count; i++) {
        const struct address *address = &config->listen[i];
        char text[ADDRESS_TEXT_BYTES];
        address_text(address, text);
        if (address->is_tls && !has_tls) {
            return reason_set(reason, "listen: '%s' needs tls-cert and tls-key", text);
        }
        if (!address_is_local(address) && config->auth_token_file[0] == '\0') {
            return reason_set(reason,
                              "listen: '%s' can be reached from other machines, which needs an auth token; give "
                              "auth-token-file, or a loopback address such as tcp:127.0.0.1:7411",
                              text);
        }
    }
    return true;
}

bool config_load(struct config *config, int argc, char *const argv[], struct reason *reason)
{
    char name[64];
    set_defaults(config);
    if (!scan_flags(config, argc, argv, reason)) {
        return false;
    }
    if (config->action == CONFIG_HELP || config->action == CONFIG_VERSION) {
        return true;
    }
    const char *file = config->file != NULL ? config->file : environment_value(find_option("config", 6), name);
    if (file != NULL && !read_file(config, file, reason)) {
        return false;
    }
    if (!read_environment(config, reason) || !read_flags(config, argc, argv, reason)) {
        return false;
    }
    if (config->listen_count == 0) {
        config->listen_count = 1;
        return address_default(&config->listen[0], reason) && check_access(config, reason);
    }
    return check_access(config, reason);
}

/* ---- while the daemon runs ---- */

bool config_set(struct config *config, const char *name, const char *value, struct reason *reason)
{
    struct given given = {find_option(name, strlen(name)), value, name};
    if (given.option == NULL || given.option->places == 0) {
        return reason_set(reason, "there is no option %.100s; see heapd --help", name);
    }
    if ((given.option->places & PLACE_RUNNING) == 0) {
        return reason_set(reason, "%s cannot change while the daemon runs; set it and start it again", name);
    }
    return apply(config, &given, reason);
}

static void tell_addresses(const struct config *config, struct rpc_option *row,
                           void (*tell)(void *arg, const struct rpc_option *option), void *arg)
{
    for (size_t i = 0; i < config->listen_count; i++) {
        char text[ADDRESS_TEXT_BYTES];
        address_text(&config->listen[i], text);
        row->kind = RPC_OPTION_ITEM;
        row->text = text;
        tell(arg, row);
    }
}

static void tell_hosts(const struct config *config, struct rpc_option *row,
                       void (*tell)(void *arg, const struct rpc_option *option), void *arg)
{
    row->kind = RPC_OPTION_ITEM;
    for (size_t i = 0; i < config->allow_host_count; i++) {
        row->text = config->allow_hosts[i];
        tell(arg, row);
    }
    if (config->allow_host_count == 0) {
        row->kind = RPC_OPTION_TEXT;
        row->text = NULL;
        tell(arg, row);
    }
}

void config_each(const struct config *config, void (*row)(void *arg, const struct rpc_option *option), void *arg)
{
    for (size_t i = 0; i < OPTION_COUNT_ALL; i++) {
        const struct option *option = &options[i];
        const char *member = (const char *)config + option->offset;
        struct rpc_option told = {.name = option->name, .kind = RPC_OPTION_TEXT};
        switch (option->kind) {
        case OPTION_ADDRESSES:
            tell_addresses(config, &told, row, arg);
            continue;
        case OPTION_HOSTS:
            tell_hosts(config, &told, row, arg);
            continue;
        case OPTION_NUMBER:
            told.kind = RPC_OPTION_NUMBER;
            told.number = *(const unsigned *)(const void *)member;
            break;
        case OPTION_SIZE:
        case OPTION_COUNT:
        case OPTION_SECONDS:
        case OPTION_MICROS:
            told.kind = RPC_OPTION_NUMBER;
            told.number = *(const uint64_t *)(const void *)member;
            break;
        case OPTION_WORD:
            told.text = option->words[*(const unsigned *)(const void *)member];
            break;
        case OPTION_PATH:
            told.text = *(const char *const *)(const void *)member;
            break;
        case OPTION_FOLDER:
        case OPTION_PLACE:
        case OPTION_FILE:
        case OPTION_USER:
            told.text = *member != '\0' ? member : NULL;
            break;
        case OPTION_ACTION:
            continue;
        }
        row(arg, &told);
    }
}

/* ---- --help ---- */

/* Prints text from column `indent` on, broken between words before column 100. */
static void write_wrapped(FILE *out, const char *text, size_t indent)
{
    size_t column = indent;
    while (*text != '\0') {
        size_t len = strcspn(text, " ");
        if (column > indent && column + 1 + len > 100) {
            fprintf(out, "\n%*s", (int)indent, "");
            column = indent;
        } else if (column > indent) {
            fputc(' ', out);
            column++;
        }
        fprintf(out, "%.*s", (int)len, text);
        column += len;
        text += len + strspn(text + len, " ");
    }
    fputc('\n', out);
}

/* What stands behind the option's name. */
static void argument_text(const struct option *option, char *text, size_t size)
{
    static const char *const arguments[] = {
        [OPTION_ADDRESSES] = "ADDR",  [OPTION_HOSTS] = "NAME", [OPTION_NUMBER] = "N", [OPTION_SIZE] = "SIZE", [OPTION_COUNT] = "N",
        [OPTION_SECONDS] = "SECONDS", [OPTION_MICROS] = "N", [OPTION_WORD] = "",    [OPTION_PATH] = "FILE", [OPTION_FOLDER] = "DIR",
        [OPTION_PLACE] = "DIR", [OPTION_FILE] = "FILE", [OPTION_USER] = "NAME", [OPTION_ACTION] = ""};
    size_t len = (size_t)snprintf(text, size, "--%s %s", option->name, arguments[option->kind]);
    for (unsigned i = 0; option->kind == OPTION_WORD && option->words[i] != NULL; i++) {
        len += (size_t)snprintf(text + len, size - len, "%s%s", i == 0 ? "" : "|", option->words[i]);
    }
}

/* The default of a limit as a user would write it; "" where the description says it. */
static void default_text(const struct option *option, const struct config *defaults, char *text, size_t size)
{
    const char *member = (const char *)defaults + option->offset;
    text[0] = '\0';
    if (option->kind == OPTION_WORD) {
        snprintf(text, size, " (default: %s)", option->words[*(const unsigned *)(const void *)member]);
    } else if (option->kind == OPTION_SIZE || option->kind == OPTION_COUNT || option->kind == OPTION_SECONDS ||
               option->kind == OPTION_MICROS) {
        uint64_t number = *(const uint64_t *)(const void *)member;
        bool in_m = option->kind == OPTION_SIZE && number != 0 && number % (1u << 20) == 0;
        const char *most = option->most != 0 ? ", at most " : "";
        char most_number[32] = "";
        if (option->most != 0) {
            snprintf(most_number, sizeof most_number, "%" PRIu64, option->most);
        }
        snprintf(text, size, " (default: %" PRIu64 "%s%s%s)", in_m ? number >> 20 : number, in_m ? "m" : "",
                 most, most_number);
    }
}

void config_write_help(FILE *out)
{
    struct config defaults;
    set_defaults(&defaults);
    fputs("usage: heapd [OPTION]...\n\n"
          "CPython's memory manager as a network service.\n\n"
          "  heapd --listen unix:/run/heapd.sock --listen tcp:127.0.0.1:7411\n\n",
          out);
    for (size_t i = 0; i < OPTION_COUNT_ALL; i++) {
        char argument[64], fallback[64], doc[REASON_BYTES];
        argument_text(&options[i], argument, sizeof argument);
        default_text(&options[i], &defaults, fallback, sizeof fallback);
        bool says_default = strstr(options[i].doc, "(default: ") != NULL;
        snprintf(doc, sizeof doc, "%s%s", options[i].doc, says_default ? "" : fallback);
        fprintf(out, "  %-40s ", argument);
        write_wrapped(out, doc, 43);
    }
    fputs("\nSIZE is a number, with k, m or g (1024s) behind it or nothing.  0 means no limit.\n"
          "Every option but the last three is also an environment variable (HEAPD_MAX_MEMORY=1g) and, but for\n"
          "--config, a key of the file (max-memory = 1g); lists are separated by commas there.  A flag beats\n"
          "the environment, the environment beats the file.\n"
          "SIGTERM and SIGINT stop the daemon cleanly; SIGHUP reads again what may\n"
          "change while it runs: the limits, slowlog-us and log-level, which server.config changes, too; and\n"
          "what stands in the token file and the files of the certificate.\n"
          "Exit codes: 0 clean, 1 failure at run time, 2 bad usage or configuration.\n",
          out);
}
