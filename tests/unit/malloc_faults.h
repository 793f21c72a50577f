/* malloc_faults.h -- malloc, calloc and realloc of the program under test, which fail when a test says so.
 *
 * The linker sends every call of them to __wrap_* here (Makefile); those of shared libraries it does not see, but
 * jansson's go through json_memory.c.  One test program has one such state, so this is included by one file of it.
 * Locking: threads may allocate while faults are armed; arming and disarming is for the thread of the test.
 */
#ifndef HEAPD_TESTS_MALLOC_FAULTS_H
#define HEAPD_TESTS_MALLOC_FAULTS_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>

void *__real_malloc(size_t bytes);
void *__real_calloc(size_t n, size_t bytes);
void *__real_realloc(void *block, size_t bytes);
void *__wrap_malloc(size_t bytes);
void *__wrap_calloc(size_t n, size_t bytes);
void *__wrap_realloc(void *block, size_t bytes);

static struct {
    _Atomic long after;   /* the after'th allocation from now fails; 0: none */
    _Atomic long hits;    /* how many have failed since arming */
    bool all;             /* and all that follow */
    bool spares_a_thread; /* `spared` is one whose allocations neither fail nor count */
    pthread_t spared;
} malloc_faults;

/* Nothing of the calling thread fails. */
static inline void malloc_faults_spare_me(void)
{
    malloc_faults.spared = pthread_self();
    malloc_faults.spares_a_thread = true;
}

/* The n-th allocation from now fails, and with `all` those that follow it, too. */
static inline void malloc_faults_arm(long n, bool all)
{
    malloc_faults.hits = 0;
    malloc_faults.all = all;
    malloc_faults.after = n;
}

/* Nothing fails from here.  Returns how many have failed. */
static inline long malloc_faults_disarm(void)
{
    malloc_faults.after = 0;
    return malloc_faults.hits;
}

static bool malloc_fails(void)
{
    long after = atomic_load(&malloc_faults.after);
    if (after == 0 || (malloc_faults.spares_a_thread && pthread_equal(pthread_self(), malloc_faults.spared))) {
        return false;
    }
    if (after > 1) {
        atomic_fetch_sub(&malloc_faults.after, 1);
        return false;
    }
    atomic_fetch_add(&malloc_faults.hits, 1);
    if (!malloc_faults.all) {
        atomic_store(&malloc_faults.after, 0);
    }
    return true;
}

void *__wrap_malloc(size_t bytes)
{
    return malloc_fails() ? NULL : __real_malloc(bytes);
}

void *__wrap_calloc(size_t n, size_t bytes)
{
    return malloc_fails() ? NULL : __real_calloc(n, bytes);
}

void *__wrap_realloc(void *block, size_t bytes)
{
    return malloc_fails() ? NULL : __real_realloc(block, bytes);
}

#endif
