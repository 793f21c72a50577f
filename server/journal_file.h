/* journal_file.h -- the file that a journal is written to: room that is set aside before it is needed, and marks that say
 * how far it is on disk.
 *
 *   [ header | lines | mark | lines | mark | lines .......... | zeros ]
 *                                                  ^ at        ^ set_aside
 *
 * Room is set aside so that a disk that is full shows before a change is made, and so that making lines durable does not
 * have to make the file longer.
 */
#ifndef HEAPD_SERVER_JOURNAL_FILE_H
#define HEAPD_SERVER_JOURNAL_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct journal_file {
    int fd;             /* -1: none */
    uint64_t at;        /* where the next line goes */
    uint64_t set_aside; /* the file is so long */
    uint64_t durable;   /* bytes that are on disk for sure */
    uint64_t marked;    /* what the last mark says of that */
    bool cannot_set_aside; /* the file system knows no such thing */
    bool is_short;      /* there was no room the last time */
};

/* Makes it, in the folder; it must not exist.  false: errno. */
bool journal_file_create(struct journal_file *file, int folder, const char *name);
/* Writes a piece, after a mark if there is something new to say.  false: errno, and nothing counts as written. */
bool journal_file_write(struct journal_file *file, const char *bytes, size_t len);
/* What was written is on disk.  false: errno, and nobody knows what is. */
bool journal_file_sync(struct journal_file *file);
/* Room for what comes; returns how many bytes more will find a place.  UINT64_MAX: that cannot be known. */
uint64_t journal_file_set_aside(struct journal_file *file);
/* With a last mark, and without the zeros at its end. */
void journal_file_close(struct journal_file *file);

#endif
