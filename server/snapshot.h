/* snapshot.h -- a thread that writes the heap down, so that the journal before it is needed no more. */
#ifndef HEAPD_SERVER_SNAPSHOT_H
#define HEAPD_SERVER_SNAPSHOT_H

#include "data_dir.h"
#include "log.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

struct rpc_service;

/* Zeroed at first; `dir`, `log` and `service` are set once. */
struct snapshot {
    const struct data_dir *dir;
    const struct log *log;
    struct rpc_service *service;
    uint64_t number;         /* of the one under way */
    uv_thread_t thread;
    bool is_started;         /* `thread` is to be joined */
    _Atomic bool is_running;
    _Atomic bool cancel;
    _Atomic uint64_t file_number; /* of the journal that is being written; the snapshot waits for its own */
    _Atomic uint64_t bytes;  /* of the last one */
    _Atomic uint64_t done;   /* number of the last one that is complete; 0: there was none */
};

/* Begins one of that number, unless one is under way.  Whether it has. */
bool snapshot_begin(struct snapshot *snapshot, uint64_t number);
/* Gives up the one under way, and waits for that. */
void snapshot_stop(struct snapshot *snapshot);

#endif
