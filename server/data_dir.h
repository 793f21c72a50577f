/* data_dir.h -- the folder of --data-dir: its lock and its files.
 *
 *   lock               locked by the one daemon that uses the folder
 *   00000002.snapshot  the heap as it was when 00000002.journal began; journals before it are not needed any more
 *   00000002.journal   what has changed since; the number grows by one with each start and each snapshot
 *   *.tmp              a snapshot that is not complete: of no use after a restart
 */
#ifndef HEAPD_SERVER_DATA_DIR_H
#define HEAPD_SERVER_DATA_DIR_H

#include "reason.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What is to be loaded: the snapshot of number `first`, if there is one, then journals first..last. */
struct data_dir {
    int fd;      /* of the folder; -1: none */
    int lock_fd;
    bool has_snapshot;
    uint64_t first, last; /* 0: there are none */
};

enum data_kind { DATA_JOURNAL, DATA_SNAPSHOT };
#define DATA_NAME_BYTES 40
/* The name of a file: "00000002.journal". */
void data_dir_name(char name[DATA_NAME_BYTES], enum data_kind kind, uint64_t number);

/* Makes the folder if it is missing, locks it, sees what there is.  It must belong to who runs the daemon, unless that is
 * root, and not be everybody's to write to. */
bool data_dir_open(struct data_dir *dir, const char *path, struct reason *reason);
void data_dir_close(struct data_dir *dir);
/* Removes what is older than the snapshot of that number, and what was never complete. */
void data_dir_tidy(const struct data_dir *dir, uint64_t number);
/* Files that were made, renamed or removed are so after a loss of power.  false: errno. */
bool data_dir_sync(const struct data_dir *dir);

/* A whole file in memory, read-only, with at least 64 bytes behind it. */
struct data_map {
    const char *bytes;
    size_t len;
    void *base; /* of the mapping */
    size_t mapped;
};
bool data_dir_map(struct data_map *map, const struct data_dir *dir, enum data_kind kind, uint64_t number,
                  struct reason *reason);
void data_dir_unmap(struct data_map *map);
/* A file for writing that was not there, in place of one that may be left of a daemon that was killed.  -1: errno. */
int data_dir_create_tmp(const struct data_dir *dir, const char *name);
/* What was read of the file is on disk: the next one relies on it.  false: errno. */
bool data_dir_sync_file(const struct data_dir *dir, enum data_kind kind, uint64_t number);
/* Cuts the file off behind its first `len` bytes, for good. */
bool data_dir_cut(const struct data_dir *dir, enum data_kind kind, uint64_t number, size_t len, struct reason *reason);

#endif
