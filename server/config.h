/* config.h -- what the daemon was told: flags, environment, file.
 *
 *   flag  --max-request 1m    beats    environment  HEAPD_MAX_REQUEST=1m    beats    file  max-request = 1m
 *
 * One table in config.c feeds the reading of all three, the messages about mistakes, and --help.  A
 * `struct config` is a plain value that owns nothing: it borrows from argv and the environment, which stay.
 */
#ifndef HEAPD_SERVER_CONFIG_H
#define HEAPD_SERVER_CONFIG_H

#include "../protocol/rpc.h"
#include "address.h"
#include "log.h"
#include "reason.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

/* Addresses to listen on. */
#define CONFIG_LISTEN_MAX 16u
/* More threads than this only wait for each other. */
#define CONFIG_THREADS_MAX 64u

/* Of a folder's path, with its NUL. */
#define CONFIG_PATH_BYTES 1024u

/* Names for --allow-host, and bytes of one, with its NUL. */
#define CONFIG_HOSTS_MAX 16u
#define CONFIG_HOST_BYTES 256u

/* What the command line asks for. */
enum config_action {
    CONFIG_RUN,
    CONFIG_CHECK,  /* --check-config */
    CONFIG_HELP,   /* --help */
    CONFIG_VERSION /* --version */
};

struct config {
    enum config_action action;
    struct address listen[CONFIG_LISTEN_MAX]; /* without a --listen: the default Unix socket */
    size_t listen_count;
    char data_dir[CONFIG_PATH_BYTES]; /* "": nothing is kept */
    unsigned fsync;           /* enum journal_policy */
    unsigned threads;         /* loops, each with a thread */
    unsigned log_level;       /* enum log_level */
    unsigned log_format;      /* enum log_format */
    char auth_token_file[CONFIG_PATH_BYTES]; /* "": none */
    char tls_cert[CONFIG_PATH_BYTES], tls_key[CONFIG_PATH_BYTES]; /* "": none; both or neither */
    char user[CONFIG_PATH_BYTES];       /* who to become; "": nobody else */
    char export_dir[CONFIG_PATH_BYTES]; /* where heap.export may write; "": nowhere */
    char allow_hosts[CONFIG_HOSTS_MAX][CONFIG_HOST_BYTES]; /* names that HTTP may mean us by, besides the addresses */
    size_t allow_host_count;
    uint64_t slowlog_us;      /* requests that take so long are noted */
    struct rpc_limits limits; /* max_memory 0: no limit was wanted */
    const char *file;         /* --config; NULL: none */
};

/* Reads everything.  On failure the reason names the option, where it was given and what is allowed. */
bool config_load(struct config *config, int argc, char *const argv[], struct reason *reason);
/* Sets an option that may change while the daemon runs; on failure nothing is set. */
bool config_set(struct config *config, const char *name, const char *value, struct reason *reason);
/* Calls `row` for each option that has a value. */
void config_each(const struct config *config, void (*row)(void *arg, const struct rpc_option *option), void *arg);
/* The text of --help. */
void config_write_help(FILE *out);

#endif
