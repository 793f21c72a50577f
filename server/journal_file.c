/* journal_file.c -- the file that a journal is written to. */
#include "journal_file.h"

#include "../protocol/rpc.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/statvfs.h>
#include <sys/uio.h>
#include <unistd.h>

/* Set aside at a time: a quarter of what there is, within these. */
#define PIECE_LEAST 262144u
#define PIECE_MOST 67108864u
/* Marks take room too, and a file system needs some for itself: of what it says is free, one part in so many is not
 * counted on. */
#define SPARE_PART 16u

bool journal_file_create(struct journal_file *file, int folder, const char *name)
{
    *file = (struct journal_file){.fd = openat(folder, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600)};
    return file->fd >= 0;
}

/* All of it, at `at`.  false: errno. */
static bool write_at(int fd, const char *bytes, size_t len, uint64_t at)
{
    while (len > 0) {
        ssize_t n = pwrite(fd, bytes, len, (off_t)at);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            errno = n == 0 ? ENOSPC : errno;
            return false;
        }
        bytes += n;
        len -= (size_t)n;
        at += (uint64_t)n;
    }
    return true;
}

/* Says how far the file is on disk, if that is news, and there is room for it. */
static bool mark(struct journal_file *file, uint64_t *at)
{
    char line[RPC_JOURNAL_MARK_BYTES];
    if (file->durable <= file->marked || file->is_short) {
        return true;
    }
    size_t len = rpc_journal_mark(line, file->durable, *at);
    if (!write_at(file->fd, line, len, *at)) {
        return false;
    }
    file->marked = file->durable;
    *at += len;
    return true;
}

bool journal_file_write(struct journal_file *file, const char *bytes, size_t len)
{
    uint64_t at = file->at;
    if (!mark(file, &at) || !write_at(file->fd, bytes, len, at)) {
        return false;
    }
    file->at = at + len;
    if (file->set_aside < file->at) {
        file->set_aside = file->at;
    }
    return true;
}

bool journal_file_sync(struct journal_file *file)
{
    if (fdatasync(file->fd) != 0) {
        return false;
    }
    file->durable = file->at;
    return true;
}

/* One piece more.  false: there is no room, or it cannot be done. */
static bool set_aside(struct journal_file *file)
{
    uint64_t piece = file->at / 4;
    piece = piece < PIECE_LEAST ? PIECE_LEAST : piece > PIECE_MOST ? PIECE_MOST : piece;
    for (; piece >= PIECE_LEAST / 4; piece /= 2) {
        if (fallocate(file->fd, 0, (off_t)file->set_aside, (off_t)piece) == 0) {
            file->set_aside += piece;
            return true;
        }
        if (errno == EOPNOTSUPP || errno == ENOSYS) {
            file->cannot_set_aside = true;
            return false;
        }
    }
    return false;
}

/* Bytes that the file system has free for us. */
static uint64_t free_bytes(const struct journal_file *file)
{
    struct statvfs status;
    if (fstatvfs(file->fd, &status) != 0) {
        return 0;
    }
    uint64_t bytes = (uint64_t)status.f_bavail * status.f_frsize;
    return bytes - bytes / SPARE_PART;
}

uint64_t journal_file_set_aside(struct journal_file *file)
{
    file->is_short = false;
    while (!file->cannot_set_aside && file->set_aside - file->at < PIECE_LEAST && !file->is_short) {
        file->is_short = !set_aside(file) && !file->cannot_set_aside;
    }
    uint64_t ahead = file->set_aside - file->at;
    return ahead - ahead / SPARE_PART + free_bytes(file);
}

void journal_file_close(struct journal_file *file)
{
    if (file->fd < 0) {
        return;
    }
    if (journal_file_sync(file)) {
        (void)mark(file, &file->at);
        /* A mark for which there was no room goes, too: half a line may only stand at the end of the last file. */
        if (ftruncate(file->fd, (off_t)file->at) == 0) {
            (void)!fsync(file->fd);
        }
    }
    close(file->fd);
    file->fd = -1;
}
