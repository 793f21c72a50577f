/* heap_fixture.h -- what every unit test of heap/ begins and ends with: a fresh heap, and the referee.
 *
 * Include it first.  Each test gets `struct heap *` from *state; teardown settles, demands that nothing
 * lives any more, runs heap_check() and destroys the heap.  Reserves little address space, for valgrind.
 */
#ifndef HEAPD_TESTS_HEAP_FIXTURE_H
#define HEAPD_TESTS_HEAP_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "../../heap/heap_internal.h"

/* Set where a test of millions would take minutes, under valgrind: such tests use fewer or skip, and say so. */
static inline bool fixture_is_small(void)
{
    return getenv("HEAPD_TEST_SMALL") != NULL;
}

static inline struct heap *fixture_heap(void)
{
    struct heap *heap = heap_create(&(struct heap_config){.reserve_bytes = (uint64_t)512 << 20});
    assert_non_null(heap);
    return heap;
}

static inline int fixture_setup(void **state)
{
    *state = fixture_heap();
    heap_enter(*state);
    return 0;
}

static inline void fixture_check(struct heap *heap)
{
    assert_int_equal(heap_check(heap, stderr), 0);
}

static inline uint64_t fixture_live(struct heap *heap)
{
    struct heap_stats stats;
    heap_stats(&stats, heap);
    return stats.live;
}

static inline uint64_t collect(struct heap *heap, int generation)
{
    struct heap_collection result;
    heap_collect(&result, heap, generation);
    return result.unreachable;
}

static inline int fixture_teardown(void **state)
{
    struct heap *heap = *state;
    while (heap->sessions != NULL) {
        heap_session_destroy(heap, heap->sessions);
    }
    heap_settle(heap);
    collect(heap, 2);
    assert_int_equal(fixture_live(heap), 0);
    fixture_check(heap);
    heap_leave(heap);
    heap_destroy(heap);
    return 0;
}

/* The result of a call that must succeed. */
#define OK(call) assert_int_equal((call), HEAP_OK)

/* Makes the caller's reference a hold of the test's session, which is a root: full collections and
 * heap_check() do not see what only a running function owns. */
static inline heap_ref keep(struct heap *heap, heap_ref obj)
{
    struct heap_session *session = heap->sessions != NULL ? heap->sessions : heap_session_create(heap);
    OK(heap_hold(heap, session, obj));
    heap_decref(heap, obj);
    return obj;
}

/* Ends one such hold. */
static inline void drop(struct heap *heap, heap_ref obj)
{
    OK(heap_unhold(heap, heap->sessions, obj));
}

static inline heap_ref new_list(struct heap *heap)
{
    heap_ref list;
    OK(heap_list_create(&list, heap, 0));
    return list;
}

static inline heap_ref new_int(struct heap *heap, int64_t value)
{
    heap_ref obj;
    OK(heap_int_create(&obj, heap, value));
    return obj;
}

static inline heap_ref new_str(struct heap *heap, const char *text)
{
    heap_ref obj;
    OK(heap_str_create(&obj, heap, text, strlen(text)));
    return obj;
}

/* list.append(item), the list taking a reference of its own. */
static inline void link_to(struct heap *heap, heap_ref list, heap_ref item)
{
    OK(heap_incref(heap, item));
    OK(heap_list_append_steal(heap, list, item));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

#endif
