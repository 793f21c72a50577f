/* faults.c -- a library to be preloaded (LD_PRELOAD) that makes calls fail where a test says so.
 *
 *   heapd, libuv, OpenSSL, jansson -> the functions below -> the C library, or AddressSanitizer
 *                                            |
 *                                  a file of the test, mapped: struct control        faultlib.py
 *
 * Each call has a kind (memory, a file's write, a sync ...) and a site: the hash of the calls that led to it.  The first
 * call from a site puts it into a table, so a test learns which there are by one run, and then has each of them fail in
 * turn.  That works for threads, too, where the n-th call is another one each time.  The daemon runs without address
 * randomisation, so that a site is the same in each run.
 *
 * What may happen at a call: it fails with an errno; it does less than it was asked to (reads and writes); the process is
 * killed before it or after it.  The wall clock can be set off.  Writes to what is neither file nor socket always work:
 * libuv takes it for a defect if they do not.
 *
 * Locking: the tables are shared with the test; a spinlock guards them.     Start at decide().
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>
#include <unwind.h>

/* ---- what is shared with the test: faultlib.py knows these offsets ---- */

enum kind {
    KIND_MEMORY, /* malloc and its family */
    KIND_MAP,    /* mmap, mremap, mprotect, memfd_create: memory from the kernel */
    KIND_THREAD,
    KIND_OPEN,
    KIND_FILE_WRITE,
    KIND_FILE_READ,
    KIND_SYNC,
    KIND_RENAME,
    KIND_UNLINK,
    KIND_ROOM, /* fallocate, ftruncate */
    KIND_SOCKET_WRITE,
    KIND_SOCKET_READ,
    KIND_ACCEPT,
    KIND_LISTEN, /* socket, bind, listen */
    KIND_LOG,    /* a write to stderr */
    KIND_COUNT
};

/* OUTCOME_SHORT_ERROR: the first call does less than it was asked to, the second one fails. */
enum outcome { OUTCOME_ERROR, OUTCOME_SHORT, OUTCOME_KILL_BEFORE, OUTCOME_KILL_AFTER, OUTCOME_SHORT_ERROR };

#define SITES_MAX 8192
#define FRAMES 16

struct site {
    uint64_t hash; /* 0: the table ends here */
    uint32_t kind;
    uint32_t calls;
    uint64_t frames[FRAMES]; /* return addresses, the innermost first */
};

struct control {
    _Atomic uint32_t lock;
    uint32_t is_recording;     /* sites are put into the table */
    uint32_t is_armed;         /* what follows is to happen */
    uint32_t kind, outcome, error;
    uint64_t site;             /* 0: any */
    uint64_t skip;             /* so many calls there go well before it happens */
    uint32_t goes_on;          /* 1: at every later call at that site; 2: at every later call of that kind, too */
    uint32_t hits;             /* how often it happened */
    int64_t wall_offset_s;     /* what the wall clock is off */
    uint32_t depth;            /* so many frames make a site */
    uint32_t site_count;
    uint64_t hit_frames[FRAMES]; /* where it happened first */
    struct site sites[SITES_MAX];
};
_Static_assert(offsetof(struct control, hit_frames) == 64, "faultlib.py counts on it");
_Static_assert(offsetof(struct control, sites) == 192, "faultlib.py counts on it");
_Static_assert(sizeof(struct site) == 144, "faultlib.py counts on it");

/* NULL: nothing fails.  The library is one of the process, so this is a global. */
static struct control *control;
static _Thread_local bool is_busy __attribute__((tls_model("initial-exec"))); /* here: what it calls itself goes well */

static void lock(void)
{
    while (atomic_exchange_explicit(&control->lock, 1, memory_order_acquire) != 0) {
    }
}

static void unlock(void)
{
    atomic_store_explicit(&control->lock, 0, memory_order_release);
}

__attribute__((constructor)) static void map_control(void)
{
    const char *path = getenv("FAULT_CONTROL");
    int fd = path == NULL ? -1 : (int)syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC);
    if (fd < 0) {
        return;
    }
    void *base = (void *)syscall(SYS_mmap, NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    syscall(SYS_close, fd);
    control = base == MAP_FAILED ? NULL : base;
}

/* ---- sites ---- */

struct walk {
    uint64_t *frames;
    unsigned skip, count, most;
};

static _Unwind_Reason_Code on_frame(struct _Unwind_Context *context, void *arg)
{
    struct walk *walk = arg;
    uint64_t address = _Unwind_GetIP(context);
    if (walk->skip > 0) {
        walk->skip--;
        return _URC_NO_REASON;
    }
    if (walk->count == walk->most || address == 0) {
        return _URC_END_OF_STACK;
    }
    walk->frames[walk->count++] = address;
    return _URC_NO_REASON;
}

/* The callers of the function that was interposed, and their hash. */
__attribute__((noinline)) static uint64_t find_site(uint64_t frames[FRAMES], enum kind kind)
{
    struct walk walk = {frames, 3, 0, control->depth < FRAMES ? control->depth : FRAMES};
    memset(frames, 0, FRAMES * sizeof *frames);
    _Unwind_Backtrace(on_frame, &walk);
    uint64_t hash = UINT64_C(14695981039346656037) + kind;
    for (unsigned i = 0; i < walk.count; i++) {
        hash = (hash ^ frames[i]) * UINT64_C(1099511628211);
        hash ^= hash >> 29;
    }
    return hash != 0 ? hash : 1;
}

/* Whether the sanitizer asks where the stack of a new thread is: it takes no error for an answer. */
static bool is_of_sanitizer(const uint64_t frames[FRAMES])
{
    for (unsigned i = 0; i < FRAMES && frames[i] != 0; i++) {
        Dl_info info;
        void *address;
        memcpy(&address, &frames[i], sizeof address);
        if (dladdr(address, &info) != 0 && info.dli_sname != NULL && strcmp(info.dli_sname, "pthread_getattr_np") == 0) {
            return true;
        }
    }
    return false;
}

/* The lock is held. */
static void record(uint64_t hash, enum kind kind, const uint64_t frames[FRAMES])
{
    for (unsigned i = 0, at = hash % SITES_MAX; i < SITES_MAX; i++, at = (at + 1) % SITES_MAX) {
        struct site *site = &control->sites[at];
        if (site->hash == 0 && kind == KIND_MEMORY && is_of_sanitizer(frames)) {
            return;
        }
        if (site->hash == 0) {
            *site = (struct site){.hash = hash, .kind = kind};
            memcpy(site->frames, frames, sizeof site->frames);
            control->site_count++;
        }
        if (site->hash == hash) {
            site->calls++;
            return;
        }
    }
}

/* Whether it is the turn of this call.  The lock is held. */
static bool is_meant(uint64_t hash, enum kind kind, const uint64_t frames[FRAMES])
{
    bool goes_on = control->goes_on == 2 && control->hits > 0;
    if (!control->is_armed || control->kind != kind || (!goes_on && control->site != 0 && control->site != hash)) {
        return false;
    }
    if (kind == KIND_MEMORY && is_of_sanitizer(frames)) {
        return false;
    }
    if (control->skip > 0) {
        control->skip--;
        return false;
    }
    if (control->hits++ == 0) {
        memcpy(control->hit_frames, frames, sizeof control->hit_frames);
    }
    control->is_armed = control->goes_on != 0;
    return true;
}

static void die(void)
{
    syscall(SYS_kill, getpid(), SIGKILL);
}

enum fate { FATE_WORKS, FATE_FAILS, FATE_IS_SHORT, FATE_DIES_AFTER };

/* What becomes of a call.  FATE_FAILS: errno is set. */
__attribute__((noinline)) static enum fate decide(enum kind kind)
{
    if (control == NULL || is_busy || (!control->is_recording && !(control->is_armed && control->kind == kind))) {
        return FATE_WORKS;
    }
    int error = errno;
    uint64_t frames[FRAMES];
    is_busy = true;
    uint64_t hash = find_site(frames, kind);
    lock();
    if (control->is_recording) {
        record(hash, kind, frames);
    }
    bool happens = is_meant(hash, kind, frames);
    enum outcome outcome = (enum outcome)control->outcome;
    if (happens && outcome == OUTCOME_SHORT_ERROR) {
        outcome = control->hits == 1 ? OUTCOME_SHORT : OUTCOME_ERROR;
        control->is_armed = control->hits == 1;
    }
    errno = happens && outcome == OUTCOME_ERROR ? (int)control->error : error;
    unlock();
    is_busy = false;
    if (!happens) {
        return FATE_WORKS;
    }
    switch (outcome) {
    case OUTCOME_ERROR:
        return FATE_FAILS;
    case OUTCOME_SHORT:
    case OUTCOME_SHORT_ERROR:
        return FATE_IS_SHORT;
    case OUTCOME_KILL_BEFORE:
        die();
        break;
    case OUTCOME_KILL_AFTER:
        return FATE_DIES_AFTER;
    }
    return FATE_WORKS;
}

/* What a read or a write of so many bytes is asked for instead. */
static size_t shortened(enum fate fate, size_t bytes)
{
    return fate == FATE_IS_SHORT && bytes > 1 ? bytes / 2 : bytes;
}

/* Of a file descriptor: the kind for files or for sockets; KIND_COUNT: neither. */
static enum kind kind_of(int fd, enum kind of_file, enum kind of_socket)
{
    struct stat status;
    if (fd == STDERR_FILENO && of_file == KIND_FILE_WRITE) {
        return KIND_LOG;
    }
    if (syscall(SYS_fstat, fd, &status) != 0) {
        return KIND_COUNT;
    }
    return S_ISREG(status.st_mode) ? of_file : S_ISSOCK(status.st_mode) ? of_socket : KIND_COUNT;
}

static enum fate decide_for(int fd, enum kind of_file, enum kind of_socket)
{
    if (control == NULL || is_busy || (!control->is_recording && !control->is_armed)) {
        return FATE_WORKS;
    }
    int error = errno;
    enum kind kind = kind_of(fd, of_file, of_socket);
    errno = error;
    return kind == KIND_COUNT ? FATE_WORKS : decide(kind);
}

/* The function that would have been called without this library. */
#define REAL(name)                                                                                             \
    static __typeof__(name) *real;                                                                             \
    if (real == NULL) {                                                                                        \
        bool was_busy = is_busy;                                                                               \
        is_busy = true;                                                                                        \
        void *found = dlsym(RTLD_NEXT, #name);                                                                 \
        memcpy(&real, &found, sizeof real);                                                                    \
        is_busy = was_busy;                                                                                    \
    }

/* The body of a function that returns `failed` when it fails. */
#define FORWARD(kind, failed, call)                                                                            \
    enum fate fate = decide(kind);                                                                             \
    if (fate == FATE_FAILS) {                                                                                  \
        return failed;                                                                                         \
    }                                                                                                          \
    __typeof__(call) result = call;                                                                            \
    if (fate == FATE_DIES_AFTER) {                                                                             \
        die();                                                                                                 \
    }                                                                                                          \
    return result

/* The same for reads and writes. */
#define FORWARD_IO(of_file, of_socket, bytes, call)                                                            \
    enum fate fate = decide_for(fd, of_file, of_socket);                                                       \
    if (fate == FATE_FAILS) {                                                                                  \
        return -1;                                                                                             \
    }                                                                                                          \
    bytes = shortened(fate, bytes);                                                                            \
    ssize_t result = call;                                                                                     \
    if (fate == FATE_DIES_AFTER) {                                                                             \
        die();                                                                                                 \
    }                                                                                                          \
    return result

/* ---- memory ---- */

void *malloc(size_t bytes)
{
    REAL(malloc)
    FORWARD(KIND_MEMORY, NULL, real(bytes));
}

void *calloc(size_t n, size_t bytes)
{
    REAL(calloc)
    FORWARD(KIND_MEMORY, NULL, real(n, bytes));
}

void *realloc(void *block, size_t bytes)
{
    REAL(realloc)
    FORWARD(KIND_MEMORY, NULL, real(block, bytes));
}

int posix_memalign(void **block, size_t alignment, size_t bytes)
{
    REAL(posix_memalign)
    FORWARD(KIND_MEMORY, ENOMEM, real(block, alignment, bytes));
}

void *aligned_alloc(size_t alignment, size_t bytes)
{
    REAL(aligned_alloc)
    FORWARD(KIND_MEMORY, NULL, real(alignment, bytes));
}

void *mmap(void *address, size_t bytes, int protection, int flags, int fd, off_t offset)
{
    REAL(mmap)
    FORWARD(KIND_MAP, MAP_FAILED, real(address, bytes, protection, flags, fd, offset));
}

void *mremap(void *address, size_t old_bytes, size_t bytes, int flags, ...)
{
    REAL(mremap)
    va_list args;
    va_start(args, flags);
    void *wanted = (flags & MREMAP_FIXED) != 0 ? va_arg(args, void *) : NULL;
    va_end(args);
    FORWARD(KIND_MAP, MAP_FAILED, real(address, old_bytes, bytes, flags, wanted));
}

int mprotect(void *address, size_t bytes, int protection)
{
    REAL(mprotect)
    FORWARD(KIND_MAP, -1, real(address, bytes, protection));
}

int memfd_create(const char *name, unsigned flags)
{
    REAL(memfd_create)
    FORWARD(KIND_MAP, -1, real(name, flags));
}

int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *arg), void *arg)
{
    REAL(pthread_create)
    FORWARD(KIND_THREAD, EAGAIN, real(thread, attributes, run, arg));
}

/* ---- files ---- */

static mode_t mode_of(int flags, va_list args)
{
    return (flags & (O_CREAT | O_TMPFILE)) != 0 ? va_arg(args, mode_t) : 0;
}

int open(const char *path, int flags, ...)
{
    REAL(open)
    va_list args;
    va_start(args, flags);
    mode_t mode = mode_of(flags, args);
    va_end(args);
    FORWARD(KIND_OPEN, -1, real(path, flags, mode));
}

int openat(int folder, const char *path, int flags, ...)
{
    REAL(openat)
    va_list args;
    va_start(args, flags);
    mode_t mode = mode_of(flags, args);
    va_end(args);
    FORWARD(KIND_OPEN, -1, real(folder, path, flags, mode));
}

FILE *fopen(const char *path, const char *mode)
{
    REAL(fopen)
    FORWARD(KIND_OPEN, NULL, real(path, mode));
}

int renameat(int from_folder, const char *from, int to_folder, const char *to)
{
    REAL(renameat)
    FORWARD(KIND_RENAME, -1, real(from_folder, from, to_folder, to));
}

int unlinkat(int folder, const char *path, int flags)
{
    REAL(unlinkat)
    FORWARD(KIND_UNLINK, -1, real(folder, path, flags));
}

int unlink(const char *path)
{
    REAL(unlink)
    FORWARD(KIND_UNLINK, -1, real(path));
}

int fallocate(int fd, int mode, off_t offset, off_t bytes)
{
    REAL(fallocate)
    FORWARD(KIND_ROOM, -1, real(fd, mode, offset, bytes));
}

int ftruncate(int fd, off_t bytes)
{
    REAL(ftruncate)
    FORWARD(KIND_ROOM, -1, real(fd, bytes));
}

int fsync(int fd)
{
    REAL(fsync)
    FORWARD(KIND_SYNC, -1, real(fd));
}

int fdatasync(int fd)
{
    REAL(fdatasync)
    FORWARD(KIND_SYNC, -1, real(fd));
}

ssize_t write(int fd, const void *bytes, size_t len)
{
    REAL(write)
    FORWARD_IO(KIND_FILE_WRITE, KIND_SOCKET_WRITE, len, real(fd, bytes, len));
}

ssize_t pwrite(int fd, const void *bytes, size_t len, off_t at)
{
    REAL(pwrite)
    FORWARD_IO(KIND_FILE_WRITE, KIND_SOCKET_WRITE, len, real(fd, bytes, len, at));
}

ssize_t read(int fd, void *bytes, size_t len)
{
    REAL(read)
    FORWARD_IO(KIND_FILE_READ, KIND_SOCKET_READ, len, real(fd, bytes, len));
}

ssize_t pread(int fd, void *bytes, size_t len, off_t at)
{
    REAL(pread)
    FORWARD_IO(KIND_FILE_READ, KIND_SOCKET_READ, len, real(fd, bytes, len, at));
}

/* ---- sockets ---- */

ssize_t writev(int fd, const struct iovec *pieces, int count)
{
    REAL(writev)
    struct iovec first = count > 0 ? pieces[0] : (struct iovec){NULL, 0};
    enum fate fate = decide_for(fd, KIND_FILE_WRITE, KIND_SOCKET_WRITE);
    if (fate == FATE_FAILS) {
        return -1;
    }
    first.iov_len = shortened(fate, first.iov_len);
    ssize_t result = fate == FATE_IS_SHORT ? real(fd, &first, 1) : real(fd, pieces, count);
    if (fate == FATE_DIES_AFTER) {
        die();
    }
    return result;
}

ssize_t recv(int fd, void *bytes, size_t len, int flags)
{
    REAL(recv)
    FORWARD_IO(KIND_FILE_READ, KIND_SOCKET_READ, len, real(fd, bytes, len, flags));
}

ssize_t send(int fd, const void *bytes, size_t len, int flags)
{
    REAL(send)
    FORWARD_IO(KIND_FILE_WRITE, KIND_SOCKET_WRITE, len, real(fd, bytes, len, flags));
}

ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
    REAL(sendmsg)
    size_t len = 0;
    FORWARD_IO(KIND_FILE_WRITE, KIND_SOCKET_WRITE, len, real(fd, message, flags));
}

int accept4(int fd, struct sockaddr *address, socklen_t *len, int flags)
{
    REAL(accept4)
    FORWARD(KIND_ACCEPT, -1, real(fd, address, len, flags));
}

int socket(int domain, int type, int protocol)
{
    REAL(socket)
    FORWARD(KIND_LISTEN, -1, real(domain, type, protocol));
}

int bind(int fd, const struct sockaddr *address, socklen_t len)
{
    REAL(bind)
    FORWARD(KIND_LISTEN, -1, real(fd, address, len));
}

int listen(int fd, int backlog)
{
    REAL(listen)
    FORWARD(KIND_LISTEN, -1, real(fd, backlog));
}

/* ---- the wall clock ---- */

int clock_gettime(clockid_t clock, struct timespec *now)
{
    REAL(clock_gettime)
    int status = real(clock, now);
    if (status == 0 && control != NULL && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) {
        now->tv_sec += control->wall_offset_s;
    }
    return status;
}

time_t time(time_t *result)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (result != NULL) {
        *result = now.tv_sec;
    }
    return now.tv_sec;
}

int gettimeofday(struct timeval *restrict result, void *restrict zone)
{
    struct timespec now;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &now);
    *result = (struct timeval){now.tv_sec, now.tv_nsec / 1000};
    return 0;
}
