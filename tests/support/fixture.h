/* fixture.h -- a fresh daemon and one connection to it for each test.
 *
 * The teardown unbinds every name, ends all sessions but its own, collects, and demands that nothing is
 * left: no object, no hold, no name, a clean heap.check, and a clean end of the daemon.
 */
#ifndef HEAPD_TESTS_FIXTURE_H
#define HEAPD_TESTS_FIXTURE_H

#include "daemon.h"
#include "wire.h"

struct fixture {
    struct daemon *daemon;
    struct wire *wire; /* over TCP; the test may close it and set it to NULL */
};

int fixture_setup(void **state);
/* For a test that wants its daemon started with options. */
void fixture_start(struct fixture *fixture, const char *const arguments[]);
/* The demands, on a daemon that goes on: `wire` must be the only connection with holds. */
void fixture_demand_empty(struct wire *wire);
/* The end of what fixture_start() began, demands included. */
void fixture_end(struct fixture *fixture);
int fixture_teardown(void **state);

/* A test with that setup and teardown. */
#define fixture_test(function) cmocka_unit_test_setup_teardown(function, fixture_setup, fixture_teardown)

#endif
