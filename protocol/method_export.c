/* method_export.c -- heap.export: a picture of the heap in a file.
 *
 * The file is written without a name (O_TMPFILE), or under a hidden one where the file system cannot do that,
 * and gets its name when it is whole and on disk: so a part-written one never carries the name, and an
 * existing one is not overwritten.  What is to be read at once, over HTTP, never gets a name.  A question: the handler runs on the worker thread, without the GIL.
 * Start at method_heap_export().
 */
#include "document.h"
#include "export.h"
#include "method_handlers.h"
#include "rpc_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

/* Written at once. */
#define FLUSH_BYTES (256u * 1024u)
#define NAME_BYTES_MAX 255u /* as most file systems have it */

const char *const METHOD_EXPORT_FORMATS[] = {"heapsnapshot", "dot", "jsonl", NULL};

static bool (*const WRITERS[])(struct export_sink *sink, const struct heap_picture *picture) = {
    export_heapsnapshot, export_dot, export_jsonl};

/* ---- the file ---- */

bool export_flush(struct export_sink *sink, bool everything)
{
    if (sink->out.failed && sink->error == 0) {
        sink->error = ENOMEM;
    }
    if (sink->error == 0 && atomic_load_explicit(sink->cancel, memory_order_relaxed)) {
        sink->error = ECANCELED;
    }
    if (sink->error == 0 && sink->out.len < FLUSH_BYTES && !everything) {
        return true;
    }
    for (size_t done = 0; sink->error == 0 && done < sink->out.len;) {
        ssize_t n = write(sink->fd, sink->out.data + done, sink->out.len - done);
        if (n > 0) {
            done += (size_t)n;
            sink->bytes += (uint64_t)n;
        } else if (n == 0 || errno != EINTR) {
            sink->error = n == 0 ? EIO : errno;
        }
    }
    out_truncate(&sink->out, 0);
    return sink->error == 0;
}

/* A file on its way into the folder. */
struct new_file {
    int folder, fd;
    char hidden[32]; /* its name meanwhile; "" : none */
};

/* 0, or the errno. */
static int new_file_open(struct new_file *file, const char *folder)
{
    *file = (struct new_file){.folder = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC), .fd = -1};
    if (file->folder < 0) {
        return errno;
    }
    file->fd = openat(file->folder, ".", O_TMPFILE | O_WRONLY | O_CLOEXEC, 0600);
    if (file->fd < 0 && (errno == EOPNOTSUPP || errno == EISDIR)) {
        snprintf(file->hidden, sizeof file->hidden, ".heapd-export-%ld", (long)getpid());
        unlinkat(file->folder, file->hidden,
                 0); /* of a daemon of this number that was killed in mid-export */
        file->fd =
            openat(file->folder, file->hidden, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC | O_NOFOLLOW, 0600);
    }
    return file->fd < 0 ? errno : 0;
}

/* Puts the file on disk and gives it its name.  0, or the errno. */
static int new_file_name(struct new_file *file, const char *name)
{
    char self[40];
    if (fsync(file->fd) != 0) {
        return errno;
    }
    snprintf(self, sizeof self, "/proc/self/fd/%d", file->fd);
    int failed = file->hidden[0] == '\0' ? linkat(AT_FDCWD, self, file->folder, name, AT_SYMLINK_FOLLOW)
                                         : linkat(file->folder, file->hidden, file->folder, name, 0);
    if (failed != 0) {
        return errno;
    }
    /* The name is there and the file whole: should the folder not reach the disk, a crash at worst takes the
     * name. */
    int folder = openat(file->folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (folder >= 0) {
        fsync(folder);
        close(folder);
    }
    return 0;
}

static void new_file_close(struct new_file *file)
{
    if (file->hidden[0] != '\0') {
        unlinkat(file->folder, file->hidden, 0);
    }
    if (file->fd >= 0) {
        close(file->fd);
    }
    if (file->folder >= 0) {
        close(file->folder);
    }
}

/* ---- what is asked ---- */

/* Whether it is a plain file name. */
static bool check_path(const method_arg *path, struct fault *fault)
{
    if (path->len > 0 && path->len <= NAME_BYTES_MAX && path->text[0] != '.' &&
        memchr(path->text, '/', path->len) == NULL && memchr(path->text, '\0', path->len) == NULL) {
        return true;
    }
    fault_set(fault, RPC_INVALID_PARAMS,
              "path must be a plain file name of 1 to %u bytes, without / and without a dot at its beginning",
              NAME_BYTES_MAX);
    return fault_text(fault, "param", "path", strlen("path"));
}

/* The fault that an errno of the file system makes. */
static bool fail_file(struct call *call, int error, const char *name)
{
    if (error == ENOMEM) {
        return call_fail(call, HEAP_MEMORY);
    }
    if (error == ECANCELED) {
        return call_fail(call, HEAP_CANCELLED);
    }
    if (error == EEXIST) {
        return fault_set(call->fault, RPC_VALUE_ERROR,
                         "there is a file %s already; choose another name or remove it", name);
    }
    char reason[128] = "";
    const char *text = strerror_r(error, reason, sizeof reason);
    return fault_set(call->fault, RPC_VALUE_ERROR,
                     "the file %s cannot be written: %s; nothing was left behind", name, text);
}

/* The picture into the file.  0, or the errno. */
static int write_picture(struct call *call, const struct heap_picture *picture, int fd, uint64_t *bytes)
{
    struct export_sink sink = {.fd = fd, .cancel = call->cancel};
    out_init(&sink.out, 0);
    bool ok = WRITERS[call->args[0].integer](&sink, picture);
    out_fini(&sink.out);
    *bytes = sink.bytes;
    return ok ? 0 : sink.error;
}

/* What an export has come to. */
struct outcome {
    uint32_t objects;
    uint64_t bytes;
    int failed;            /* 0, or the errno of the file system */
    enum heap_error error; /* of the heap */
};

/* A picture of the heap as it is now, into the file. */
static void export_heap(struct call *call, int fd, struct outcome *outcome)
{
    if (!heap_enter_still(call->heap, call->cancel)) {
        outcome->error = HEAP_CANCELLED;
        return;
    }
    struct heap_picture *picture = heap_picture_begin(call->heap, HEAP_PICTURE_LABELS);
    heap_leave(call->heap);
    outcome->error = picture == NULL ? HEAP_MEMORY : heap_picture_complete(picture, call->cancel);
    if (outcome->error == HEAP_OK) {
        outcome->objects = heap_picture_nodes(picture);
        outcome->failed = write_picture(call, picture, fd, &outcome->bytes);
    }
    if (picture != NULL) {
        heap_enter(call->heap);
        heap_picture_destroy(picture);
        heap_leave(call->heap);
    }
}

/* The answer, or the fault. */
static bool tell_outcome(struct call *call, const struct outcome *outcome, const char *name)
{
    if (outcome->error != HEAP_OK || outcome->failed != 0) {
        return outcome->error != HEAP_OK ? call_fail(call, outcome->error)
                                         : fail_file(call, outcome->failed, name);
    }
    return call_document_steal(call, json_pack("{s:s, s:I, s:I}", "path", name, "objects",
                                               (json_int_t)outcome->objects, "bytes", (json_int_t)outcome->bytes));
}

/* Everything between the name that was checked and the answer. */
static bool export(struct call *call, const char *folder, const char *name)
{
    struct new_file file;
    struct outcome outcome = {.error = HEAP_OK};
    outcome.failed = new_file_open(&file, folder);
    if (outcome.failed == 0 && faccessat(file.folder, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0) {
        outcome.failed = EEXIST; /* said before the work; new_file_name() sees to the rest */
    }
    if (outcome.failed == 0) {
        export_heap(call, file.fd, &outcome);
    }
    if (outcome.failed == 0 && outcome.error == HEAP_OK) {
        outcome.failed = new_file_name(&file, name);
    }
    new_file_close(&file);
    return tell_outcome(call, &outcome, name);
}

bool method_heap_export(struct call *call)
{
    const method_arg *path = &call->args[1];
    const char *folder = call->service->export_dir;
    if (folder == NULL) {
        return fault_set(call->fault, RPC_FORBIDDEN,
                         "this daemon writes no files; start it with --export-dir DIR to allow it");
    }
    if (!check_path(path, call->fault)) {
        return false;
    }
    char *name = strndup(path->text, path->len);
    bool ok = name != NULL ? export(call, folder, name) : call_fail(call, HEAP_MEMORY);
    free(name);
    return ok;
}

/* ---- an export that is read instead ---- */

/* A file without a name, for what is too large to wait in memory: in the folder of exports if there is one, else where
 * temporary files are; where none can be made, in memory after all.  -1: errno says why. */
static int open_nameless(const char *folder)
{
    const char *temporary = getenv("TMPDIR");
    const char *folders[] = {folder, temporary, P_tmpdir};
    for (size_t i = 0; i < sizeof folders / sizeof folders[0]; i++) {
        int fd = folders[i] == NULL ? -1 : open(folders[i], O_TMPFILE | O_RDWR | O_CLOEXEC | O_EXCL, 0600);
        if (fd >= 0) {
            return fd;
        }
    }
    return memfd_create("heapd-export", MFD_CLOEXEC);
}

static bool export_to_read(struct call *call)
{
    struct outcome outcome = {.error = HEAP_OK};
    int fd = open_nameless(call->service->export_dir);
    if (fd < 0) {
        outcome.failed = errno;
    } else {
        export_heap(call, fd, &outcome);
    }
    bool ok = tell_outcome(call, &outcome, "without a name");
    if (ok) {
        *call->file = fd;
    } else if (fd >= 0) {
        close(fd);
    }
    return ok;
}

const struct method METHOD_EXPORT_TO_READ = {
    .name = "heap.export", .handler = export_to_read, .asks = method_asks_always, .role = ROLE_READ, .param_count = 1};
