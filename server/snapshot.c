/* snapshot.c -- a thread that writes the heap down, so that the journal before it is needed no more.
 *
 *   NNNNNNNN.snapshot.tmp   while it is written: slices of half a millisecond of the GIL, with pauses for the others
 *   NNNNNNNN.snapshot       when it is on disk, and the journal of the same number too; then older files go
 *
 * Start at take().
 */
#include "snapshot.h"

#include "../protocol/rpc.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* What others get between two slices. */
#define PAUSE_US 300
/* Between two looks at whether the journal's file is there. */
#define LOOK_MS 1

#define TMP_NAME_BYTES (DATA_NAME_BYTES + 4)

static bool write_all(int fd, const char *bytes, size_t len)
{
    while (len > 0) {
        ssize_t n = write(fd, bytes, len);
        if (n < 0 && errno != EINTR) {
            return false;
        }
        bytes += n > 0 ? n : 0;
        len -= n > 0 ? (size_t)n : 0;
    }
    return true;
}

/* Slice by slice.  false: *why says why not. */
static bool write_slices(struct snapshot *snapshot, struct rpc_snapshot *slices, int fd, const char **why)
{
    enum rpc_snapshot_progress progress = RPC_SNAPSHOT_GOES_ON;
    uint64_t bytes = 0;
    while (progress == RPC_SNAPSHOT_GOES_ON) {
        char *piece;
        size_t len;
        if (atomic_load(&snapshot->cancel)) {
            *why = "the daemon stops";
            return false;
        }
        progress = rpc_snapshot_step(slices, &piece, &len);
        bool ok = write_all(fd, piece, len);
        *why = ok ? "there is no memory" : strerror(errno);
        free(piece);
        if (!ok || progress == RPC_SNAPSHOT_FAILED) {
            return false;
        }
        bytes += len;
        usleep(PAUSE_US);
    }
    atomic_store(&snapshot->bytes, bytes);
    return true;
}

/* The journal that begins with it is written. */
static bool await_journal(struct snapshot *snapshot)
{
    while (atomic_load(&snapshot->file_number) < snapshot->number) {
        if (atomic_load(&snapshot->cancel)) {
            return false;
        }
        uv_sleep(LOOK_MS);
    }
    return true;
}

/* The file is complete: it gets its name. */
static bool put_in_place(struct snapshot *snapshot, int fd, const char *tmp, const char *name, const char **why)
{
    bool ok = fsync(fd) == 0 && await_journal(snapshot) && data_dir_sync(snapshot->dir) &&
              renameat(snapshot->dir->fd, tmp, snapshot->dir->fd, name) == 0 && data_dir_sync(snapshot->dir);
    *why = strerror(errno);
    return ok;
}

static bool take(struct snapshot *snapshot, const char *tmp, const char *name, const char **why)
{
    int fd = data_dir_create_tmp(snapshot->dir, tmp);
    if (fd < 0) {
        *why = strerror(errno);
        return false;
    }
    *why = "there is no memory";
    struct rpc_snapshot *slices = rpc_snapshot_begin(snapshot->service, snapshot->number, &snapshot->cancel);
    bool ok = slices != NULL && write_slices(snapshot, slices, fd, why);
    if (slices != NULL) {
        rpc_snapshot_end(slices);
    }
    ok = ok && put_in_place(snapshot, fd, tmp, name, why);
    close(fd);
    if (!ok) {
        unlinkat(snapshot->dir->fd, tmp, 0);
    }
    return ok;
}

static void thread_main(void *arg)
{
    struct snapshot *snapshot = arg;
    char name[DATA_NAME_BYTES], tmp[TMP_NAME_BYTES];
    const char *why;
    uint64_t began_ns = uv_hrtime();
    data_dir_name(name, DATA_SNAPSHOT, snapshot->number);
    snprintf(tmp, sizeof tmp, "%s.tmp", name);
    if (take(snapshot, tmp, name, &why)) {
        data_dir_tidy(snapshot->dir, snapshot->number);
        log_write(snapshot->log, LOG_INFO, "%s: %" PRIu64 " MiB in %.1f s", name, atomic_load(&snapshot->bytes) >> 20,
                  (double)(uv_hrtime() - began_ns) / 1e9);
        atomic_store(&snapshot->done, snapshot->number);
    } else if (!atomic_load(&snapshot->cancel)) {
        log_write(snapshot->log, LOG_WARNING, "no snapshot %s: %s; the journal grows on", name, why);
    }
    atomic_store(&snapshot->is_running, false);
}

bool snapshot_begin(struct snapshot *snapshot, uint64_t number)
{
    if (atomic_load(&snapshot->is_running)) {
        return false;
    }
    snapshot_stop(snapshot);
    atomic_store(&snapshot->cancel, false);
    atomic_store(&snapshot->is_running, true);
    snapshot->number = number;
    snapshot->is_started = uv_thread_create(&snapshot->thread, thread_main, snapshot) == 0;
    if (!snapshot->is_started) {
        atomic_store(&snapshot->is_running, false);
    }
    return snapshot->is_started;
}

void snapshot_stop(struct snapshot *snapshot)
{
    atomic_store(&snapshot->cancel, true);
    if (snapshot->is_started) {
        uv_thread_join(&snapshot->thread);
        snapshot->is_started = false;
    }
}
