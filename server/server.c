/* server.c -- the daemon as a whole: start, signals, orderly end.
 *
 * Start at server_run().
 */
#include "server.h"

#include "loop_memory.h"
#include "machine.h"
#include "notify.h"
#include "token_file.h"
#include "unix_socket.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Files that are open besides connections: standard ones, each loop's, each listener's with its lock, and
 * some for what a library opens for a moment. */
#define FILES_BESIDES 32u
#define FILES_A_LOOP 8u
#define FILES_A_LISTENER 2u

/* ---- what protocol/ asks of its host ---- */

static void on_shutdown_request(void *arg)
{
    struct server *server = arg;
    atomic_store(&server->stop_wanted, true);
    io_thread_wake(server->threads[0]);
}

static void on_figures(void *arg, struct rpc_server_figures *figures)
{
    struct server *server = arg;
    figures->connections = atomic_load(&server->connections);
    figures->connections_total = atomic_load(&server->accepted);
}

static void on_defect(void *arg, const char *message)
{
    struct server *server = arg;
    log_write(&server->log, LOG_ERROR, "a defect of heapd: %s", message);
}

static void on_wake(void *arg, void *user)
{
    (void)arg;
    io_thread_wake_to_run(user);
}

static void on_lease(uv_timer_t *timer)
{
    struct server *server = timer->data;
    io_thread_want_run(server->threads[0]);
}

static void on_run_in(void *arg, uint64_t ms)
{
    struct server *server = arg;
    atomic_store(&server->lease_due_ms, uv_hrtime() / 1000000 + ms + 1);
    io_thread_wake(server->threads[0]);
}

static void on_warning(void *arg, const char *line)
{
    struct server *server = arg;
    log_write(&server->log, LOG_WARNING, "%s", line);
}

static void on_log(void *arg, const char *line)
{
    struct server *server = arg;
    log_write(&server->log, LOG_INFO, "%s", line);
}

/* Sets the timer anew when somebody has asked for another time. */
static void arm_lease_timer(struct server *server)
{
    uint64_t due_ms = atomic_exchange(&server->lease_due_ms, 0), now_ms = uv_hrtime() / 1000000;
    if (due_ms != 0 && !uv_is_closing((uv_handle_t *)&server->lease)) {
        uv_update_time(&server->threads[0]->loop);
        uv_timer_start(&server->lease, on_lease, due_ms > now_ms ? due_ms - now_ms : 0, 0);
    }
}

/* ---- configuration ---- */

/* Makes room for the connections that are wanted, or the wish smaller. */
static void fit_clients(struct server *server, struct rpc_limits *limits)
{
    uint64_t besides = FILES_BESIDES + (uint64_t)FILES_A_LOOP * server->config.threads +
                       (uint64_t)FILES_A_LISTENER * server->config.listen_count;
    uint64_t files = machine_raise_files(limits->max_clients == 0 ? 0 : limits->max_clients + besides);
    uint64_t most = files > besides ? files - besides : 1;
    if (limits->max_clients == 0 || limits->max_clients > most) {
        if (limits->max_clients != 0) {
            log_write(&server->log, LOG_WARNING, "max-clients is %llu, because only %llu files may be open",
                      (unsigned long long)most, (unsigned long long)files);
        }
        limits->max_clients = most;
    }
}

/* The server's own part of the limits. */
static void use_limits(struct server *server, const struct rpc_limits *limits)
{
    atomic_store(&server->max_clients, limits->max_clients);
    atomic_store(&server->idle_timeout_s, limits->idle_timeout);
    atomic_store(&server->first_byte_timeout_s, limits->first_byte_timeout);
    atomic_store(&server->max_output, limits->max_output);
    atomic_store(&server->max_request, limits->max_request);
}

/* Takes over what may change while the daemon runs; the service's limits, which this fits to the machine, are
 * left to the caller.  The mutex is held. */
static void use_config(struct server *server, struct config *config)
{
    fit_clients(server, &config->limits);
    server->config.limits = config->limits;
    server->config.slowlog_us = config->slowlog_us;
    server->config.log_level = config->log_level;
    atomic_store(&server->log.level, config->log_level);
    use_limits(server, &config->limits);
    rpc_service_set_slowlog(server->service, config->slowlog_us);
}

/* The tokens of the file are those that are known from here on. */
static bool load_tokens(struct server *server, struct reason *reason)
{
    struct token_file file;
    if (server->config.auth_token_file[0] == '\0') {
        return true;
    }
    if (!token_file_read(&file, server->config.auth_token_file, privileges_owner(&server->privileges), reason)) {
        return false;
    }
    bool ok = rpc_service_set_auth_tokens(server->service, file.tokens, file.count);
    token_file_free(&file);
    return ok || reason_set(reason, "there is no memory for tokens");
}

/* The certificate of the configuration is that of connections from here on. */
static bool load_certificate(struct server *server, struct reason *reason)
{
    const struct config *config = &server->config;
    return tls_context_load(server->tls, config->tls_cert, config->tls_key, privileges_owner(&server->privileges),
                            reason);
}

/* Reads the configuration again. */
static void reload_config(struct server *server)
{
    struct config config;
    struct reason reason;
    if (!config_load(&config, server->argc, server->argv, &reason)) {
        log_write(&server->log, LOG_ERROR, "the configuration is left as it was: %s", reason.text);
        return;
    }
    uv_mutex_lock(&server->config_mutex);
    use_config(server, &config);
    uv_mutex_unlock(&server->config_mutex);
    rpc_service_set_limits(server->service, &config.limits); /* not within the mutex: it waits for the GIL */
    log_write(&server->log, LOG_INFO,
              "the limits, slowlog-us and log-level were read again; other options need a restart");
}

/* SIGHUP.  What is wrong with one of them keeps none of the others: a token that was taken away must be void. */
static void reload(struct server *server)
{
    struct reason reason;
    reload_config(server);
    if (server->tls != NULL && !load_certificate(server, &reason)) {
        log_write(&server->log, LOG_ERROR, "the certificate is left as it was: %s", reason.text);
    }
    if (!load_tokens(server, &reason)) {
        log_write(&server->log, LOG_ERROR, "the tokens are left as they were: %s", reason.text);
    }
}

static void on_options(void *arg, void (*row)(void *row_arg, const struct rpc_option *option), void *row_arg)
{
    struct server *server = arg;
    uv_mutex_lock(&server->config_mutex);
    config_each(&server->config, row, row_arg);
    uv_mutex_unlock(&server->config_mutex);
}

static bool on_set_options(void *arg, const struct rpc_option *settings, size_t count, struct rpc_limits *limits,
                           char why[RPC_REASON_BYTES])
{
    struct server *server = arg;
    struct reason reason;
    bool ok = true;
    uv_mutex_lock(&server->config_mutex);
    struct config config = server->config;
    for (size_t i = 0; ok && i < count; i++) {
        ok = config_set(&config, settings[i].name, settings[i].text, &reason);
    }
    if (ok) {
        use_config(server, &config);
        *limits = config.limits;
    }
    uv_mutex_unlock(&server->config_mutex);
    if (!ok) {
        snprintf(why, RPC_REASON_BYTES, "%s", reason.text);
    }
    return ok;
}

/* ---- stop ---- */

static void close_listeners(struct server *server)
{
    while (server->listener_count > 0) {
        listener_close(server->listeners[--server->listener_count]);
    }
}

/* From here no new connection comes, and every thread winds up. */
static void begin_stop(struct server *server)
{
    server->is_stopping = true;
    notify_send("STOPPING=1");
    close_listeners(server);
    for (unsigned i = 0; i < server->thread_count; i++) {
        io_thread_stop(server->threads[i]);
    }
}

/* ---- ready ---- */

/* Says where it listens, on stdout and to whoever started it. */
static void announce(struct server *server)
{
    server->is_announced = true;
    char text[ADDRESS_TEXT_BYTES];
    printf("heapd ready pid=%ld listen=", (long)getpid());
    for (size_t i = 0; i < server->listener_count; i++) {
        address_text(&server->bound[i], text);
        printf("%s%s", i == 0 ? "" : ",", text);
        if (!address_is_unix(&server->bound[i]) && !server_wants_tokens(server)) {
            log_write(&server->log, LOG_INFO, "%s: whoever can connect from this machine is admin", text);
        }
    }
    putchar('\n');
    fflush(stdout);
    notify_send("READY=1");
}

/* The journal has been loaded, or cannot be. */
static void look_at_journal(struct server *server)
{
    if (server->journal == NULL || server->is_announced || server->is_stopping) {
        return;
    }
    enum journal_state state = journal_state(server->journal);
    if (state == JOURNAL_RUNNING) {
        announce(server);
        if (server->reload_waits) {
            reload(server);
        }
    } else if (state == JOURNAL_FAILED) {
        server->has_failed = true;
        begin_stop(server);
    }
}

void server_woken(struct server *server)
{
    arm_lease_timer(server);
    look_at_journal(server);
    if (atomic_load(&server->stop_wanted) && !server->is_stopping) {
        log_write(&server->log, LOG_INFO, "stopping: a client asked for it");
        begin_stop(server);
    }
}

static void on_signal(uv_signal_t *handle, int number)
{
    struct server *server = handle->data;
    if (number == SIGHUP && !server->is_announced) {
        log_write(&server->log, LOG_INFO, "what can be read again will be when the journal is loaded");
        server->reload_waits = true; /* it needs the GIL, which loading has, and limits do not hold for what is loaded */
    } else if (number == SIGHUP) {
        reload(server);
    } else if (server->is_stopping) {
        log_write(&server->log, LOG_WARNING, "a second %s: ends at once", strsignal(number));
        _exit(1);
    } else {
        log_write(&server->log, LOG_INFO, "stopping: %s", strsignal(number));
        begin_stop(server);
    }
}

static const int SIGNALS[] = {SIGTERM, SIGINT, SIGHUP};

/* They wait until start_signals(); for other threads, which this one creates, they do for good. */
static void hold_signals(sigset_t *set)
{
    sigemptyset(set);
    for (size_t i = 0; i < 3; i++) {
        sigaddset(set, SIGNALS[i]);
    }
    pthread_sigmask(SIG_BLOCK, set, NULL);
}

static void start_signals(struct server *server, const sigset_t *held)
{
    for (size_t i = 0; i < 3; i++) {
        uv_signal_t *handle = &server->signals[i];
        uv_signal_init(&server->threads[0]->loop, handle);
        handle->data = server;
        uv_signal_start(handle, on_signal, SIGNALS[i]);
        uv_unref((uv_handle_t *)handle);
    }
    pthread_sigmask(SIG_UNBLOCK, held, NULL);
}

/* The timer of leases, which does not keep the loop alive. */
static void init_lease_timer(struct server *server)
{
    uv_timer_init(&server->threads[0]->loop, &server->lease);
    server->lease.data = server;
    uv_unref((uv_handle_t *)&server->lease);
}

static void close_own_handles(struct server *server)
{
    uv_close((uv_handle_t *)&server->lease, NULL);
    for (size_t i = 0; i < 3; i++) {
        uv_close((uv_handle_t *)&server->signals[i], NULL);
    }
}

/* ---- start ---- */

static bool create_service(struct server *server, struct reason *reason)
{
    struct rpc_host host = {
        .arg = server, .shutdown = on_shutdown_request, .figures = on_figures, .log_error = on_defect,
        .options = on_options, .set_options = on_set_options, .wake = on_wake,
        .run_in = on_run_in, .log = on_log, .warn = on_warning};
    fit_clients(server, &server->config.limits);
    use_limits(server, &server->config.limits);
    server->service = rpc_service_create(&server->config.limits, &host);
    if (server->service != NULL) {
        rpc_service_set_slowlog(server->service, server->config.slowlog_us);
    }
    if (server->service != NULL && server->config.export_dir[0] != '\0' &&
        !rpc_service_set_export_dir(server->service, server->config.export_dir)) {
        return reason_set(reason, "there is no memory");
    }
    return server->service != NULL ||
           reason_set(reason, "there is no memory or address space for the heap (max-memory is %llu bytes)",
                      (unsigned long long)server->config.limits.max_memory);
}

static bool create_journal(struct server *server, struct reason *reason)
{
    if (server->config.data_dir[0] == '\0') {
        return true;
    }
    server->journal = journal_create(server, reason);
    return server->journal != NULL;
}

static bool create_tls(struct server *server, struct reason *reason)
{
    if (server->config.tls_cert[0] == '\0') {
        return true;
    }
    server->tls = tls_context_create();
    return server->tls != NULL ? load_certificate(server, reason) : reason_set(reason, "there is no memory for TLS");
}

static bool create_threads(struct server *server, struct reason *reason)
{
    while (server->thread_count < server->config.threads) {
        struct io_thread *thread = io_thread_create(server, server->thread_count == 0);
        if (thread == NULL) {
            return reason_set(reason, "there is no memory, or there are no files, for %u threads",
                              server->config.threads);
        }
        server->threads[server->thread_count++] = thread;
    }
    return true;
}

/* The folder of the default socket is checked, whether the socket was named or not. */
static bool check_folder(const struct address *address, struct reason *reason)
{
    struct address fallback;
    struct reason ignored;
    return !address_default(&fallback, &ignored) || !address_equal(address, &fallback) ||
           unix_socket_check_folder(address, reason);
}

static bool open_listeners(struct server *server, struct reason *reason)
{
    for (size_t i = 0; i < server->config.listen_count; i++) {
        const struct address *address = &server->config.listen[i];
        if (!check_folder(address, reason)) {
            return false;
        }
        struct listener *listener = listener_open(server, address, &server->bound[i], reason);
        if (listener == NULL) {
            return false;
        }
        server->listeners[server->listener_count++] = listener;
    }
    return true;
}

/* What root has read, and the daemon's user cannot: better told now than at the SIGHUP that takes a token away. */
static void warn_of_lost_files(struct server *server)
{
    const struct config *config = &server->config;
    const char *paths[] = {config->auth_token_file, config->tls_cert, config->tls_key};
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        if (paths[i][0] != '\0' && access(paths[i], R_OK) != 0) {
            log_write(&server->log, LOG_WARNING, "SIGHUP will not read %s again: %s cannot (%s)", paths[i], config->user,
                      strerror(errno));
        }
    }
}

/* The addresses are taken; what comes now needs no root. */
static bool drop_privileges(struct server *server, struct reason *reason)
{
    const struct privileges *privileges = &server->privileges;
    for (size_t i = 0; privileges->is_wanted && i < server->listener_count; i++) {
        if (!listener_give(server->listeners[i], privileges->uid, privileges->gid, reason)) {
            return false;
        }
    }
    if (!privileges_drop(privileges, server->config.user, reason)) {
        return false;
    }
    if (privileges->is_wanted) {
        warn_of_lost_files(server);
    }
    return true;
}

static bool watch_listeners(struct server *server, struct reason *reason)
{
    for (size_t i = 0; i < server->listener_count; i++) {
        if (!listener_watch(server->listeners[i], reason)) {
            return false;
        }
    }
    return true;
}

static bool start_threads(struct server *server, struct reason *reason)
{
    for (unsigned i = 1; i < server->thread_count; i++) {
        if (!io_thread_start(server->threads[i])) {
            return reason_set(reason, "cannot start a thread");
        }
    }
    return true;
}

/* ---- the whole of it ---- */

bool server_wants_tokens(const struct server *server)
{
    return server->config.auth_token_file[0] != '\0';
}

bool server_check_files(const struct config *config, struct reason *reason)
{
    struct token_file file;
    struct privileges privileges;
    if (!privileges_find(&privileges, config->user, reason)) {
        return false;
    }
    uid_t owner = privileges_owner(&privileges);
    if (config->auth_token_file[0] != '\0') {
        if (!token_file_read(&file, config->auth_token_file, owner, reason)) {
            return false;
        }
        token_file_free(&file);
    }
    if (config->tls_cert[0] != '\0') {
        struct tls_context *context = tls_context_create();
        bool ok = context != NULL ? tls_context_load(context, config->tls_cert, config->tls_key, owner, reason)
                                  : reason_set(reason, "there is no memory for TLS");
        tls_context_destroy(context);
        if (!ok) {
            return false;
        }
    }
    return true;
}

/* Frees everything, in whatever state the start left it.  Whether the end was clean. */
static bool tear_down(struct server *server)
{
    bool clean = true;
    while (server->thread_count > 1) {
        clean &= io_thread_destroy(server->threads[--server->thread_count]);
    }
    if (server->journal != NULL) {
        clean &= journal_destroy(server->journal);
    }
    if (server->thread_count > 0) { /* the others, and the journal, wake it when they end */
        server->thread_count--;
        clean &= io_thread_destroy(server->threads[0]);
    }
    if (server->service != NULL) {
#if HEAP_DEBUG >= 1
        clean &= rpc_service_check(server->service) == 0;
#endif
        rpc_service_destroy(server->service);
    }
    tls_context_destroy(server->tls);
    return clean;
}

/* A start that failed: threads that run already have nothing to do and end at once. */
static void abandon(struct server *server)
{
    close_listeners(server);
    for (unsigned i = 1; i < server->thread_count; i++) {
        if (server->threads[i]->is_started) {
            io_thread_stop(server->threads[i]);
        }
    }
    tear_down(server);
}

static int serve(struct server *server)
{
    struct reason reason;
    sigset_t held;
    hold_signals(&held);
    if (!privileges_find(&server->privileges, server->config.user, &reason) || !create_service(server, &reason) ||
        !load_tokens(server, &reason) || !create_tls(server, &reason) ||
        !open_listeners(server, &reason) ||
        !drop_privileges(server, &reason) || !create_journal(server, &reason) || !create_threads(server, &reason) ||
        !watch_listeners(server, &reason) || !start_threads(server, &reason) ||
        (server->journal != NULL && !journal_start(server->journal, &reason))) {
        fprintf(stderr, "heapd: %s\n", reason.text);
        abandon(server);
        return 1;
    }
    start_signals(server, &held);
    init_lease_timer(server);
    for (size_t i = 0; i < server->listener_count; i++) {
        listener_start(server->listeners[i]);
    }
    if (server->journal == NULL) {
        announce(server);
    }
    io_thread_run(server->threads[0]);
    close_own_handles(server);
    io_thread_run(server->threads[0]);
    struct log log = server->log;
    bool clean = tear_down(server) && !server->has_failed;
    log_write(&log, clean ? LOG_INFO : LOG_ERROR, clean ? "stopped" : "stopped, but not cleanly");
    return clean ? 0 : 1;
}

int server_run(const struct config *config, int argc, char *const argv[])
{
    struct server *server = calloc(1, sizeof *server);
    if (server == NULL) {
        fprintf(stderr, "heapd: no memory\n");
        return 1;
    }
    server->config = *config;
    server->argc = argc;
    server->argv = argv;
    server->log = (struct log){.level = config->log_level,
                               .format = (enum log_format)config->log_format,
                               .fd = STDERR_FILENO};
    loop_memory_use();
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN); /* an export above the file size limit is an error of that export */
    if (uv_mutex_init(&server->config_mutex) != 0) {
        log_write(&server->log, LOG_ERROR, "there is no mutex to be had");
        free(server);
        return 1;
    }
    int code = serve(server);
    uv_mutex_destroy(&server->config_mutex);
    free(server);
    return code;
}
