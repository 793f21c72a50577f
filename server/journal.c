/* journal.c -- the thread that keeps changes on disk.
 *
 *   loading   every file, oldest first; a torn end is cut off, damage ends the daemon
 *   running   wait for lines -> gather -> write -> fdatasync (always: each time; everysec: once a second; no: never)
 *             -> publish
 *
 * While one piece is written the next one gathers, so replies that wait for the disk share its writes.  Where none
 * waits, pieces gather some time longer: a write after each turn of the loop takes more of a core than the lines do.
 * The GIL is not held while it writes.
 *
 * A disk that is full: what was already set aside takes what is under way, requests that change something are refused,
 * and each second there is a look whether that has changed.  A new file for which there are no descriptors is waited for.
 * Any other error of the disk ends the daemon: what was acknowledged is there, and nobody knows what else is.
 *
 * Start at thread_main().
 */
#include "journal.h"

#include "data_dir.h"
#include "journal_file.h"
#include "server.h"
#include "snapshot.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Between two lines about how far loading is. */
#define PROGRESS_NS UINT64_C(1000000000)
/* With everysec the disk is synced so often: what is on its way then has as long again to be there within the second. */
#define EVERYSEC_MS UINT64_C(500)
/* Without lines there is a look around so often. */
#define LOOK_MS UINT64_C(1000)
/* A journal up to here is as good as a snapshot. */
#define SNAPSHOT_LEAST_BYTES UINT64_C(67108864)
/* Until a disk that was full is asked again, and how often when the daemon is to end. */
#define AGAIN_MS 200u
#define AGAIN_AT_END 10u
/* For so long lines gather that no reply waits for. */
#define GATHER_MS 2u

struct journal_thread {
    struct server *server;
    struct data_dir dir;
    struct journal_file file;
    enum journal_policy policy;
    uv_thread_t thread;
    bool is_started;
    uint64_t number;      /* of the file */
    uint64_t written_lsn; /* what the file has */
    uint64_t synced_ns;   /* when making it durable last began */
    uint64_t told_ns;     /* when loading said last how far it is */
    uint64_t lines;       /* loaded, of all files before the one under way */
    bool was_full;        /* the log says so */
    bool has_given_up;    /* the daemon ends, and there was no room for what was left */
    struct snapshot snapshot;
    uint64_t older_bytes;    /* of journals since the last snapshot, without the file under way */
    uint64_t snapshot_seen;  /* number of the last one that older_bytes knows of */
    uint64_t snapshot_least; /* below so many bytes there is none */

    _Atomic bool stops;   /* the daemon is to end */
    _Atomic unsigned state;
    pthread_mutex_t mutex; /* guards what follows */
    pthread_cond_t woken;
    bool has_lines, is_ending;
};

/* ---- waiting ---- */

/* Lines were handed over. */
static void on_lines(void *arg)
{
    struct journal_thread *journal = arg;
    pthread_mutex_lock(&journal->mutex);
    if (!journal->has_lines) {
        journal->has_lines = true;
        pthread_cond_signal(&journal->woken);
    }
    pthread_mutex_unlock(&journal->mutex);
}

/* Until there are lines, the end, or it is time for something else.  Whether it is the end. */
static bool wait_for_lines(struct journal_thread *journal, uint64_t ms)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += (long)(ms % 1000) * 1000000;
    until.tv_sec += (time_t)(ms / 1000) + until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    int status = 0;
    pthread_mutex_lock(&journal->mutex);
    while (!journal->has_lines && !journal->is_ending && status == 0) {
        status = pthread_cond_timedwait(&journal->woken, &journal->mutex, &until);
    }
    bool is_ending = journal->is_ending && !journal->has_lines;
    journal->has_lines = false;
    pthread_mutex_unlock(&journal->mutex);
    return is_ending;
}

/* ---- loading ---- */

static void on_progress(void *arg, size_t done, uint64_t lines)
{
    struct journal_thread *journal = arg;
    uint64_t now_ns = uv_hrtime();
    if (now_ns - journal->told_ns >= PROGRESS_NS) {
        journal->told_ns = now_ns;
        log_write(&journal->server->log, LOG_INFO, "loading: %" PRIu64 " lines, %zu MiB of the file of number %" PRIu64,
                  journal->lines + lines, done >> 20, journal->number);
    }
}

/* What is to be done about what a file turned out to be.  false: the daemon cannot start. */
static bool judge_file(struct journal_thread *journal, enum rpc_load result, const struct rpc_load_file *file,
                       enum data_kind kind, const char *name)
{
    const struct log *log = &journal->server->log;
    struct reason reason;
    switch (result) {
    case RPC_LOADED:
        return true;
    case RPC_LOAD_TORN:
        log_write(log, LOG_WARNING, "%s: its end was torn off at byte %zu of %zu: what was not yet acknowledged is cut off",
                  name, file->good, file->len);
        if (!data_dir_cut(&journal->dir, kind, journal->number, file->good, &reason)) {
            log_write(log, LOG_ERROR, "%s", reason.text);
            return false;
        }
        return true;
    case RPC_LOAD_DAMAGED:
        log_write(log, LOG_ERROR, "%s is damaged at byte %zu or behind it: restore the folder from a copy%s%s", name,
                  file->good,
                  kind == DATA_SNAPSHOT ? "" : "; or, to go on with what was before, cut the file off at that byte",
                  kind == DATA_SNAPSHOT || file->is_last ? "" : " and remove those of a greater number");
        return false;
    case RPC_LOAD_FAILED:
        if (!atomic_load(&journal->stops)) {
            log_write(log, LOG_ERROR, "%s: %s", name, file->why);
        }
        return false;
    }
    return false;
}

static bool load_file(struct journal_thread *journal, enum data_kind kind, uint64_t number, bool is_last)
{
    char name[DATA_NAME_BYTES];
    struct data_map map;
    struct reason reason;
    data_dir_name(name, kind, number);
    journal->number = number;
    if (!data_dir_map(&map, &journal->dir, kind, number, &reason)) {
        log_write(&journal->server->log, LOG_ERROR, "%s", reason.text);
        return false;
    }
    struct rpc_load_file file = {.bytes = map.bytes,
                                 .len = map.len,
                                 .number = number,
                                 .is_last = is_last,
                                 .cancel = &journal->stops,
                                 .progress = on_progress,
                                 .arg = journal};
    bool is_journal = kind == DATA_JOURNAL;
    enum rpc_load result = is_journal ? rpc_journal_load(journal->server->service, &file)
                                      : rpc_snapshot_load(journal->server->service, &file);
    data_dir_unmap(&map);
    journal->lines += file.lines;
    journal->older_bytes += is_journal ? file.good : 0;
    if (!is_journal) {
        atomic_store(&journal->snapshot.bytes, map.len);
        journal->snapshot_seen = number;
    }
    return judge_file(journal, result, &file, kind, name);
}

static bool load_all(struct journal_thread *journal)
{
    const struct data_dir *dir = &journal->dir;
    uint64_t began_ns = uv_hrtime();
    journal->told_ns = began_ns;
    if (dir->has_snapshot && !load_file(journal, DATA_SNAPSHOT, dir->first, false)) {
        return false;
    }
    for (uint64_t number = dir->first; number != 0 && number <= dir->last; number++) {
        if (!load_file(journal, DATA_JOURNAL, number, number == dir->last)) {
            return false;
        }
    }
    if (dir->last != 0 && !data_dir_sync_file(dir, DATA_JOURNAL, dir->last)) {
        log_write(&journal->server->log, LOG_ERROR, "cannot sync the newest file of the data folder: %s", strerror(errno));
        return false;
    }
    log_write(&journal->server->log, LOG_INFO, "loaded %" PRIu64 " lines in %.1f s", journal->lines,
              (double)(uv_hrtime() - began_ns) / 1e9);
    return true;
}

/* ---- writing ---- */

/* The disk has failed, in another way than by being full. */
_Noreturn static void give_up(struct journal_thread *journal, const char *what)
{
    log_write(&journal->server->log, LOG_ERROR,
              "cannot %s the journal: %s; heapd ends, what it has acknowledged is on disk", what, strerror(errno));
    _exit(1);
}

static bool is_full(int error)
{
    return error == ENOSPC || error == EDQUOT;
}

/* Something of which there may be enough again soon. */
static bool is_scarce(int error)
{
    return error == EMFILE || error == ENFILE || error == ENOMEM || error == EINTR;
}

static void say_full(struct journal_thread *journal, bool is_short)
{
    if (is_short != journal->was_full) {
        journal->was_full = is_short;
        log_write(&journal->server->log, is_short ? LOG_ERROR : LOG_INFO,
                  is_short ? "the disk of --data-dir is full: changes are refused until there is room"
                           : "the disk of --data-dir has room again");
    }
}

/* Sets room aside, and says how much there is. */
static void look_for_room(struct journal_thread *journal)
{
    uint64_t room = journal_file_set_aside(&journal->file);
    rpc_journal_set_room(journal->server->service, room > UINT64_MAX - journal->written_lsn ? UINT64_MAX : journal->written_lsn + room);
    say_full(journal, journal->file.is_short);
}

/* The disk is full: changes are refused, and a while later it is asked again.  false: the daemon is to end, and that has
 * been tried often enough. */
static bool await_room(struct journal_thread *journal, unsigned *tries)
{
    say_full(journal, true);
    rpc_journal_set_room(journal->server->service, 0);
    *tries = atomic_load(&journal->stops) ? *tries + 1 : 0;
    journal->has_given_up = *tries > AGAIN_AT_END;
    uv_sleep(journal->has_given_up ? 0 : AGAIN_MS);
    return !journal->has_given_up;
}

/* false: has_given_up. */
static bool write_piece(struct journal_thread *journal, const char *bytes, size_t len)
{
    unsigned tries = 0;
    while (!journal_file_write(&journal->file, bytes, len)) {
        if (!is_full(errno)) {
            give_up(journal, "write");
        }
        if (!await_room(journal, &tries)) {
            return false;
        }
    }
    return true;
}

static void make_durable(struct journal_thread *journal)
{
    if (journal->file.durable == journal->file.at) {
        return;
    }
    journal->synced_ns = uv_hrtime();
    while (!journal_file_sync(&journal->file)) {
        if (errno != EINTR) {
            give_up(journal, "sync");
        }
    }
}

/* A snapshot has begun: the old file is complete, and what follows is for a new one.  false: has_given_up. */
static bool change_file(struct journal_thread *journal, uint64_t number)
{
    char name[DATA_NAME_BYTES];
    unsigned tries = 0;
    data_dir_name(name, DATA_JOURNAL, number);
    make_durable(journal);
    journal->older_bytes += journal->file.at;
    journal_file_close(&journal->file);
    for (bool has_complained = false; !journal_file_create(&journal->file, journal->dir.fd, name); has_complained = true) {
        if (!is_full(errno) && !is_scarce(errno)) {
            give_up(journal, "begin a file of");
        }
        if (!is_full(errno) && !has_complained) {
            log_write(&journal->server->log, LOG_ERROR, "cannot begin a file of the journal: %s; changes wait for it",
                      strerror(errno));
        }
        if (!await_room(journal, &tries)) {
            return false;
        }
    }
    journal->number = number;
    (void)journal_file_set_aside(&journal->file);
    atomic_store(&journal->snapshot.file_number, number);
    return true;
}

/* When the journal has grown to twice the last snapshot, the next one is due. */
static void look_for_snapshot(struct journal_thread *journal)
{
    struct snapshot *snapshot = &journal->snapshot;
    uint64_t done = atomic_load(&snapshot->done);
    if (done > journal->snapshot_seen) {
        journal->snapshot_seen = done;
        journal->older_bytes = 0;
    }
    uint64_t twice = 2 * atomic_load(&snapshot->bytes);
    uint64_t due = twice > journal->snapshot_least ? twice : journal->snapshot_least;
    bool may = !atomic_load(&snapshot->is_running) && !atomic_load(&journal->stops);
    if (may && journal->older_bytes + journal->file.at > due) {
        snapshot_begin(snapshot, journal->number + 1);
    }
}

static void gather(const struct journal_thread *journal)
{
    if (journal->policy != JOURNAL_ALWAYS) {
        uv_sleep(GATHER_MS);
    }
}

/* Takes what there is and writes it.  Whether there was something. */
static bool write_lines(struct journal_thread *journal)
{
    size_t len;
    uint64_t lsn, number;
    char *bytes = rpc_journal_take(journal->server->service, &len, &lsn, &number);
    if (bytes == NULL) {
        return false;
    }
    bool is_written = !journal->has_given_up && (number == journal->number || change_file(journal, number)) &&
                      write_piece(journal, bytes, len);
    rpc_journal_give_back(journal->server->service, bytes);
    if (is_written) {
        journal->written_lsn = lsn;
    } else {
        log_write(&journal->server->log, LOG_ERROR, "the disk of --data-dir is full: the last %zu bytes of the journal are lost%s",
                  len, journal->policy == JOURNAL_ALWAYS ? "; nobody was told of what they say" : "");
    }
    return is_written;
}

/* Until the file is to be made durable, 0: now; where it is, or that is the kernel's business, until the next look. */
static uint64_t sync_due_ms(const struct journal_thread *journal)
{
    if (journal->policy == JOURNAL_ALWAYS) {
        return 0;
    }
    if (journal->policy == JOURNAL_NO || journal->file.durable == journal->file.at) {
        return LOOK_MS;
    }
    uint64_t since_ms = (uv_hrtime() - journal->synced_ns) / 1000000;
    return since_ms < EVERYSEC_MS ? EVERYSEC_MS - since_ms : 0;
}

/* As the policy says. */
static void keep_promise(struct journal_thread *journal)
{
    bool is_due = sync_due_ms(journal) == 0;
    if (is_due) {
        make_durable(journal);
    }
    if (is_due || journal->policy == JOURNAL_NO) {
        rpc_journal_durable(journal->server->service, journal->written_lsn);
    }
}

/* The new file, with all that the start itself has to say, is on disk before a request runs. */
static bool begin_file(struct journal_thread *journal)
{
    char name[DATA_NAME_BYTES];
    const struct log *log = &journal->server->log;
    journal->number = journal->dir.last + 1;
    atomic_store(&journal->snapshot.file_number, journal->number);
    data_dir_name(name, DATA_JOURNAL, journal->number);
    if (!rpc_journal_open(journal->server->service, journal->number)) {
        log_write(log, LOG_ERROR, "there is no memory for the journal");
        return false;
    }
    if (!journal_file_create(&journal->file, journal->dir.fd, name)) {
        log_write(log, LOG_ERROR, "cannot make %s in the data folder: %s", name, strerror(errno));
        return false;
    }
    look_for_room(journal);
    if (!write_lines(journal)) {
        return false;
    }
    make_durable(journal);
    if (!data_dir_sync(&journal->dir)) {
        log_write(log, LOG_ERROR, "cannot sync the data folder: %s", strerror(errno));
        return false;
    }
    rpc_journal_durable(journal->server->service, journal->written_lsn);
    return true;
}

static void set_state(struct journal_thread *journal, enum journal_state state)
{
    atomic_store(&journal->state, state);
    io_thread_wake(journal->server->threads[0]);
}

static void thread_main(void *arg)
{
    struct journal_thread *journal = arg;
    if (!load_all(journal) || !begin_file(journal)) {
        set_state(journal, JOURNAL_FAILED);
        return;
    }
    rpc_journal_start(journal->server->service);
    set_state(journal, JOURNAL_RUNNING);
    while (!wait_for_lines(journal, journal->policy == JOURNAL_ALWAYS ? LOOK_MS : sync_due_ms(journal))) {
        for (gather(journal); write_lines(journal); gather(journal)) {
            keep_promise(journal);
            look_for_room(journal);
        }
        keep_promise(journal);
        look_for_room(journal);
        look_for_snapshot(journal);
    }
    snapshot_stop(&journal->snapshot);
    while (write_lines(journal)) {
    }
    make_durable(journal);
    rpc_journal_durable(journal->server->service, journal->written_lsn);
}

/* ---- life ---- */

/* The heap's string, from the first file that has one; *heap is '\0' where there is none.  A first line may be missing
 * where the daemon ended while it made the file; whether it is damaged, loading will see. */
static bool read_heap_string(struct journal_thread *journal, char heap[RPC_JOURNAL_HEAP_BYTES], struct reason *reason)
{
    const struct data_dir *dir = &journal->dir;
    struct rpc_journal_header header;
    struct data_map map;
    char why[RPC_REASON_BYTES];
    *heap = '\0';
    enum data_kind kind = dir->has_snapshot ? DATA_SNAPSHOT : DATA_JOURNAL;
    for (uint64_t number = dir->first; number != 0 && number <= dir->last && *heap == '\0'; kind = DATA_JOURNAL) {
        if (!data_dir_map(&map, dir, kind, number, reason)) {
            return false;
        }
        number += kind == DATA_JOURNAL;
        if (rpc_journal_read_header(&header, map.bytes, map.len, why)) {
            memcpy(heap, header.heap, sizeof header.heap);
        }
        data_dir_unmap(&map);
    }
    return true;
}

static bool begin(struct journal_thread *journal, const struct config *config, struct reason *reason)
{
    char heap[RPC_JOURNAL_HEAP_BYTES];
    const struct rpc_journal_sink sink = {.arg = journal, .wake = on_lines};
    if (!data_dir_open(&journal->dir, config->data_dir, reason)) {
        return false;
    }
    if (!read_heap_string(journal, heap, reason)) {
        return false;
    }
    return rpc_journal_begin(journal->server->service, &sink, journal->policy == JOURNAL_ALWAYS,
                             *heap != '\0' ? heap : NULL) ||
           reason_set(reason, "there is no memory to load what was kept");
}

struct journal_thread *journal_create(struct server *server, struct reason *reason)
{
    struct journal_thread *journal = calloc(1, sizeof *journal);
    pthread_condattr_t attributes;
    if (journal == NULL) {
        reason_set(reason, "there is no memory");
        return NULL;
    }
    journal->server = server;
    journal->policy = (enum journal_policy)server->config.fsync;
    journal->file.fd = -1;
    journal->snapshot = (struct snapshot){.dir = &journal->dir, .log = &server->log, .service = server->service};
    journal->snapshot_least = SNAPSHOT_LEAST_BYTES;
    if (getenv("HEAPD_SNAPSHOT_BYTES") != NULL) { /* tests want many */
        journal->snapshot_least = strtoull(getenv("HEAPD_SNAPSHOT_BYTES"), NULL, 10);
    }
    pthread_mutex_init(&journal->mutex, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&journal->woken, &attributes);
    pthread_condattr_destroy(&attributes);
    if (!begin(journal, &server->config, reason)) {
        journal_destroy(journal);
        return NULL;
    }
    return journal;
}

bool journal_start(struct journal_thread *journal, struct reason *reason)
{
    journal->is_started = uv_thread_create(&journal->thread, thread_main, journal) == 0;
    return journal->is_started || reason_set(reason, "cannot start a thread");
}

enum journal_state journal_state(const struct journal_thread *journal)
{
    return (enum journal_state)atomic_load(&journal->state);
}

bool journal_destroy(struct journal_thread *journal)
{
    atomic_store(&journal->stops, true);
    atomic_store(&journal->snapshot.cancel, true);
    if (journal->is_started) {
        if (journal_state(journal) == JOURNAL_RUNNING) {
            rpc_journal_close(journal->server->service);
        }
        pthread_mutex_lock(&journal->mutex);
        journal->is_ending = true;
        pthread_cond_signal(&journal->woken);
        pthread_mutex_unlock(&journal->mutex);
        uv_thread_join(&journal->thread);
    }
    bool is_whole = !journal->has_given_up || journal->policy == JOURNAL_ALWAYS;
    journal_file_close(&journal->file);
    data_dir_close(&journal->dir);
    pthread_cond_destroy(&journal->woken);
    pthread_mutex_destroy(&journal->mutex);
    free(journal);
    return is_whole;
}
