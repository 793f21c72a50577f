/* data_dir.c -- the folder of --data-dir: its lock and its files. */
#include "data_dir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* Readable bytes behind a mapped file, at least. */
#define PADDING_BYTES 64u

static const char *const suffixes[] = {[DATA_JOURNAL] = ".journal", [DATA_SNAPSHOT] = ".snapshot"};

void data_dir_name(char name[DATA_NAME_BYTES], enum data_kind kind, uint64_t number)
{
    snprintf(name, DATA_NAME_BYTES, "%08" PRIu64 "%s", number, suffixes[kind]);
}

/* The number in the name of a file of that kind; 0: it is none. */
static uint64_t number_of(const char *name, enum data_kind kind)
{
    char *end;
    if (*name < '0' || *name > '9') {
        return 0;
    }
    uint64_t number = strtoull(name, &end, 10);
    return strcmp(end, suffixes[kind]) == 0 ? number : 0;
}

/* ---- the folder ---- */

static bool lock(struct data_dir *dir, const char *path, struct reason *reason)
{
    dir->lock_fd = openat(dir->fd, "lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (dir->lock_fd < 0) {
        return reason_set(reason, "--data-dir: cannot make %.200s/lock: %s", path, strerror(errno));
    }
    if (flock(dir->lock_fd, LOCK_EX | LOCK_NB) != 0) {
        return reason_set(reason, "--data-dir: %.200s is in use by another heapd; each needs a folder of its own", path);
    }
    return true;
}

/* Calls `row` for each file, by its name. */
static bool each_file(const struct data_dir *dir, void (*row)(void *arg, const char *name), void *arg)
{
    int fd = openat(dir->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *stream = fd < 0 ? NULL : fdopendir(fd);
    if (stream == NULL) {
        if (fd >= 0) {
            close(fd);
        }
        return false;
    }
    for (const struct dirent *entry; (entry = readdir(stream)) != NULL;) {
        row(arg, entry->d_name);
    }
    closedir(stream);
    return true;
}

static void note_snapshot(void *arg, const char *name)
{
    struct data_dir *dir = arg;
    uint64_t number = number_of(name, DATA_SNAPSHOT);
    if (number > dir->first) {
        dir->first = number;
        dir->has_snapshot = true;
    }
}

static void note_journal(void *arg, const char *name)
{
    struct data_dir *dir = arg;
    uint64_t number = number_of(name, DATA_JOURNAL);
    if (number > dir->last) {
        dir->last = number;
    }
}

static bool is_there(const struct data_dir *dir, uint64_t number)
{
    char name[DATA_NAME_BYTES];
    data_dir_name(name, DATA_JOURNAL, number);
    return faccessat(dir->fd, name, F_OK, 0) == 0;
}

/* Every journal from the snapshot, or the first one, on. */
static bool check_files(struct data_dir *dir, const char *path, struct reason *reason)
{
    if (dir->last == 0 && !dir->has_snapshot) {
        return true;
    }
    if (!dir->has_snapshot) {
        dir->first = 1;
    }
    for (uint64_t number = dir->first; number <= dir->last; number++) {
        char name[DATA_NAME_BYTES];
        data_dir_name(name, DATA_JOURNAL, number);
        if (!is_there(dir, number)) {
            return reason_set(reason, "--data-dir: %.200s/%s is missing; put it back, or use another folder", path, name);
        }
    }
    if (dir->last < dir->first) {
        dir->last = dir->first;
        return reason_set(reason, "--data-dir: the journal of the snapshot %" PRIu64 " in %.200s is missing", dir->first,
                          path);
    }
    return true;
}

/* Who else may write to the folder can exchange what is loaded from it. */
static bool is_ours(const struct data_dir *dir, const char *path, struct reason *reason)
{
    struct stat status;
    if (fstat(dir->fd, &status) != 0) {
        return reason_set(reason, "--data-dir: cannot look at %.200s: %s", path, strerror(errno));
    }
    if (status.st_uid != geteuid() && geteuid() != 0) {
        return reason_set(reason, "--data-dir: %.200s belongs to user %u, heapd runs as %u: use chown, or another folder",
                          path, (unsigned)status.st_uid, (unsigned)geteuid());
    }
    if ((status.st_mode & S_IWOTH) != 0) {
        return reason_set(reason, "--data-dir: everybody may write to %.200s: chmod o-w it, or use another folder", path);
    }
    return true;
}

bool data_dir_open(struct data_dir *dir, const char *path, struct reason *reason)
{
    *dir = (struct data_dir){.fd = -1, .lock_fd = -1};
    if (mkdir(path, 0700) != 0 && errno != EEXIST) {
        return reason_set(reason, "--data-dir: cannot make %.200s: %s", path, strerror(errno));
    }
    dir->fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir->fd < 0) {
        return reason_set(reason, "--data-dir: cannot open %.200s: %s", path, strerror(errno));
    }
    if (!is_ours(dir, path, reason) || !lock(dir, path, reason)) {
        return false;
    }
    if (!each_file(dir, note_snapshot, dir) || !each_file(dir, note_journal, dir)) {
        return reason_set(reason, "--data-dir: cannot read %.200s: %s", path, strerror(errno));
    }
    return check_files(dir, path, reason);
}

void data_dir_close(struct data_dir *dir)
{
    if (dir->fd >= 0) {
        close(dir->fd);
    }
    if (dir->lock_fd >= 0) {
        close(dir->lock_fd);
    }
    dir->fd = dir->lock_fd = -1;
}

bool data_dir_sync(const struct data_dir *dir)
{
    return fsync(dir->fd) == 0;
}

struct tidying {
    const struct data_dir *dir;
    uint64_t number;
};

static void tidy_file(void *arg, const char *name)
{
    const struct tidying *tidying = arg;
    uint64_t journal = number_of(name, DATA_JOURNAL), snapshot = number_of(name, DATA_SNAPSHOT);
    size_t len = strlen(name);
    bool is_old = (journal != 0 && journal < tidying->number) || (snapshot != 0 && snapshot < tidying->number);
    if (is_old || (len > 4 && strcmp(name + len - 4, ".tmp") == 0)) {
        unlinkat(tidying->dir->fd, name, 0);
    }
}

void data_dir_tidy(const struct data_dir *dir, uint64_t number)
{
    struct tidying tidying = {dir, number};
    each_file(dir, tidy_file, &tidying); /* what stays is tidied the next time */
}

/* ---- files ---- */

/* The file in front of zeros: a mapping of one page more, over which the file is laid. */
static bool map_file(struct data_map *map, int fd)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    map->mapped = (map->len + PADDING_BYTES + page - 1) / page * page;
    map->base = mmap(NULL, map->mapped, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (map->base == MAP_FAILED) {
        return false;
    }
    if (map->len > 0 && mmap(map->base, map->len, PROT_READ, MAP_PRIVATE | MAP_FIXED, fd, 0) == MAP_FAILED) {
        munmap(map->base, map->mapped);
        return false;
    }
    map->bytes = map->base;
    (void)madvise(map->base, map->mapped, MADV_SEQUENTIAL);
    return true;
}

bool data_dir_map(struct data_map *map, const struct data_dir *dir, enum data_kind kind, uint64_t number,
                  struct reason *reason)
{
    char name[DATA_NAME_BYTES];
    struct stat status;
    data_dir_name(name, kind, number);
    int fd = openat(dir->fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    bool ok = fd >= 0 && fstat(fd, &status) == 0;
    if (ok) {
        map->len = (size_t)status.st_size;
        ok = map_file(map, fd);
    }
    if (!ok) {
        reason_set(reason, "cannot read %s of the data folder: %s", name, strerror(errno));
    }
    if (fd >= 0) {
        close(fd);
    }
    return ok;
}

void data_dir_unmap(struct data_map *map)
{
    munmap(map->base, map->mapped);
}

int data_dir_create_tmp(const struct data_dir *dir, const char *name)
{
    if (unlinkat(dir->fd, name, 0) != 0 && errno != ENOENT) {
        return -1;
    }
    return openat(dir->fd, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
}

bool data_dir_sync_file(const struct data_dir *dir, enum data_kind kind, uint64_t number)
{
    char name[DATA_NAME_BYTES];
    data_dir_name(name, kind, number);
    int fd = openat(dir->fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    bool ok = fd >= 0 && fsync(fd) == 0;
    int error = errno;
    if (fd >= 0) {
        close(fd);
    }
    errno = error;
    return ok;
}

bool data_dir_cut(const struct data_dir *dir, enum data_kind kind, uint64_t number, size_t len, struct reason *reason)
{
    char name[DATA_NAME_BYTES];
    data_dir_name(name, kind, number);
    int fd = openat(dir->fd, name, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
    bool ok = fd >= 0 && ftruncate(fd, (off_t)len) == 0 && fsync(fd) == 0;
    if (!ok) {
        reason_set(reason, "cannot cut %s of the data folder: %s", name, strerror(errno));
    }
    if (fd >= 0) {
        close(fd);
    }
    return ok;
}
