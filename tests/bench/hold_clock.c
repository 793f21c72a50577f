/* hold_clock.c -- a clock around each hold of the GIL, linked into bench_heapd.
 *
 * The linker puts these functions in the place of heap_enter(), heap_enter_within(), heap_leave() and heap_give_way()
 * (-Wl,--wrap).  The CPU time of each hold goes into a histogram (latency.h) that lies in the file $BENCH_HOLDS, so that others can read
 * it while the daemon runs.  The file has the size of the histogram, and is zero at first.  Without one nothing is noted.
 *
 * Locking: the histogram is written with the GIL held.
 */
#include "../../heap/heap.h"
#include "latency.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

void __real_heap_enter(struct heap *heap);
bool __real_heap_enter_within(struct heap *heap, uint32_t us, uint64_t *since_us);
void __real_heap_leave(struct heap *heap);
void __real_heap_give_way(struct heap *heap);
void __wrap_heap_enter(struct heap *heap);
bool __wrap_heap_enter_within(struct heap *heap, uint32_t us, uint64_t *since_us);
void __wrap_heap_leave(struct heap *heap);
void __wrap_heap_give_way(struct heap *heap);

/* What is wrapped has no argument from which these could hang. */
static struct latency *holds;         /* set before main(); NULL: there is no file */
static _Thread_local uint64_t began_ns; /* CPU time of the thread when it took the GIL */

__attribute__((constructor)) static void map_holds(void)
{
    const char *path = getenv("BENCH_HOLDS");
    int fd = path != NULL ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (fd >= 0) {
        void *memory = mmap(NULL, sizeof *holds, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
        holds = memory != MAP_FAILED ? memory : NULL;
        close(fd);
    }
}

static uint64_t cpu_ns(void)
{
    struct timespec time;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

void __wrap_heap_enter(struct heap *heap)
{
    __real_heap_enter(heap);
    began_ns = cpu_ns();
}

bool __wrap_heap_enter_within(struct heap *heap, uint32_t us, uint64_t *since_us)
{
    bool entered = __real_heap_enter_within(heap, us, since_us);
    began_ns = cpu_ns();
    return entered;
}

static void note_end(void)
{
    if (holds != NULL) {
        latency_add(holds, cpu_ns() - began_ns, 1);
    }
}

void __wrap_heap_leave(struct heap *heap)
{
    note_end();
    __real_heap_leave(heap);
}

/* Lets go, and takes it again behind who waits. */
void __wrap_heap_give_way(struct heap *heap)
{
    note_end();
    __real_heap_give_way(heap);
    began_ns = cpu_ns();
}
