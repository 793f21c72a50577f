/* fixture.c -- a fresh daemon and one connection to it for each test. */
#include "fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "process.h"

void fixture_start(struct fixture *fixture, const char *const arguments[])
{
    fixture->daemon = daemon_start(arguments);
    fixture->wire = wire_open(fixture->daemon);
}

int fixture_setup(void **state)
{
    struct fixture *fixture = calloc(1, sizeof *fixture);
    *state = fixture;
    fixture_start(fixture, NULL);
    return 0;
}

static void unbind_all(struct wire *wire)
{
    for (;;) {
        json_t *j_page = wire_callf(wire, "name.list", NULL), *j_names = json_object_get(j_page, "names");
        size_t i, n = json_array_size(j_names);
        json_t *j_name;
        json_array_foreach(j_names, i, j_name)
        {
            json_decref(wire_callf(wire, "name.unbind", "[O]", json_object_get(j_name, "name")));
        }
        json_decref(j_page);
        if (n == 0) {
            return;
        }
    }
}

/* Other sessions end some time after their connections are closed; only a hang takes long. */
static void await_last_session(struct wire *wire)
{
    int64_t deadline = process_now_ms() + PROCESS_PATIENCE_MS;
    while (wire_stat(wire, "sessions", "count") > 1 || wire_stat(wire, "sessions", "holds") > 0) {
        if (process_now_ms() > deadline) {
            fail_msg("%lld sessions with %lld holds are left",
                     (long long)wire_stat(wire, "sessions", "count"),
                     (long long)wire_stat(wire, "sessions", "holds"));
        }
        usleep(1000);
    }
}

void fixture_demand_empty(struct wire *wire)
{
    unbind_all(wire);
    await_last_session(wire);
    json_decref(wire_callf(wire, "collect", NULL));
    wire_check_heap(wire);
    assert_int_equal(wire_stat(wire, "objects", "live"), 0);
    assert_int_equal(wire_stat(wire, "names", "count"), 0);
}

void fixture_end(struct fixture *fixture)
{
    if (fixture->wire != NULL) {
        wire_close(fixture->wire);
    }
    struct wire *wire = wire_open(fixture->daemon);
    fixture_demand_empty(wire);
    wire_close(wire);
    daemon_stop(fixture->daemon);
    memset(fixture, 0, sizeof *fixture);
}

int fixture_teardown(void **state)
{
    struct fixture *fixture = *state;
    wire_close_all();
    fixture->wire = NULL;
    if (fixture->daemon != NULL) {
        fixture_end(fixture);
    }
    free(fixture);
    return 0;
}
