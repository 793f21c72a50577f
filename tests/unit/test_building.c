/* test_building.c -- large values, which a worker builds before their request runs.
 *
 * A test that holds the GIL holds the builder up at the end of its slice at the latest.
 */
#include "rpc_fixture.h"

#include "../../protocol/rpc_internal.h"

#define ROWS 9000 /* of a value: enough to be large, and for many slices under a sanitizer */

/* `head`, a large list that ends in `last`, and `tail`; to be freed. */
static char *large(const char *head, const char *last, const char *tail)
{
    struct out out;
    out_init(&out, 0);
    out_text(&out, head);
    out_char(&out, '[');
    for (int i = 0; i < ROWS; i++) {
        out_text(&out, "[\"some\",{\"key\":1000}],");
    }
    out_text(&out, last);
    out_char(&out, ']');
    out_text(&out, tail);
    out_char(&out, '\0');
    assert_false(out.failed);
    assert_true(out.len > BUILDING_BYTES);
    return out.data;
}

/* Sends a request with such a value, and demands the reply. */
static void tell_large(struct rpc_fixture *f, const char *head, const char *last, const char *tail, const char *expected)
{
    char *line = large(head, last, tail);
    tell(f, line, expected);
    free(line);
}

static void expect_live(struct rpc_fixture *f, int live)
{
    char wanted[64];
    snprintf(wanted, sizeof(wanted), "<has {\"live\":%d}>", live);
    call(f, "stats", "[\"objects\"]", wanted);
    snprintf(wanted, sizeof(wanted), "{\"ok\":true,\"objects\":%d,\"problems\":[]}", live);
    call(f, "heap.check", "{}", wanted);
}

#define LIVE (4 * ROWS + 2) /* of a value whose last item is an immortal, with the interned key */

static void test_building_makes_what_was_sent(void **state)
{
    struct rpc_fixture *f = *state;
    tell_large(f, "{\"id\":1,\"method\":\"create\",\"params\":{\"name\":\"n\",\"value\":", "null", "}}",
               "{\"id\":1,\"result\":{\"object\":<id:list>,\"type\":\"list\",\"refcount\":1}}");
    expect_live(f, LIVE);
    char *expected = large("{\"id\":2,\"result\":", "null", "}\n");
    assert_string_equal(say(f, "{\"id\":2,\"method\":\"get\",\"params\":[\"n\",-1]}\n"), expected);
    free(expected);
    call(f, "name.unbind", "[\"n\"]", "<object>");
    expect_live(f, 0);
}

/* Every place where a value may stand, and what else may be wrong with the request. */
static void test_building_is_for_any_method(void **state)
{
    struct rpc_fixture *f = *state;
    call(f, "create", "{\"value\":[],\"name\":\"l\"}", "<object>");
    call(f, "create", "{\"value\":{},\"name\":\"d\"}", "<object>");
    tell_large(f, "{\"id\":1,\"method\":\"list.append\",\"params\":[\"l\",", "1", "]}", "{\"id\":1,\"result\":null}");
    tell_large(f, "{\"id\":1,\"method\":\"list.extend\",\"params\":[\"l\",", "1", "]}", "{\"id\":1,\"result\":<any>}");
    call(f, "list.len", "[\"l\"]", "{\"len\":9002}");
    tell_large(f, "{\"id\":1,\"method\":\"dict.setitem\",\"params\":[\"d\",\"k\",", "1", "]}", "{\"id\":1,\"result\":<any>}");
    tell_large(f, "{\"id\":1,\"method\":\"dict.setitem\",\"params\":[\"d\",\"k\",", "1", "]}", "{\"id\":1,\"result\":<any>}");
    tell_large(f, "{\"id\":1,\"method\":\"list.append\",\"params\":[\"none\",", "1", "]}", "{\"id\":1,\"error\":<error name_error>}");
    tell_large(f, "{\"id\":1,\"method\":\"list.append\",\"params\":[4321,", "1", "]}", "{\"id\":1,\"error\":<error not_found>}");
    tell_large(f, "{\"id\":1,\"method\":\"list.append\",\"params\":[\"d\",", "1", "]}", "{\"id\":1,\"error\":<error type_error>}");
    tell_large(f, "{\"id\":1,\"method\":\"list.append\",\"params\":[\"l\",", "1e999", "]}", "{\"id\":1,\"error\":<error value_error>}");
    tell_large(f, "{\"id\":1,\"method\":\"create\",\"params\":[", "12345678901234567890", "]}", "{\"id\":1,\"error\":<error value_error>}");
    tell_large(f, "{\"method\":\"create\",\"params\":[", "1", "]}", NULL);
    tell_large(f, "{\"method\":\"create\",\"params\":{\"name\":\"x\",\"value\":", "1", "}}", NULL);
    call(f, "list.len", "[\"x\"]", "<any>");
}

/* Its elements run in order, and its replies are one line. */
static void test_building_in_a_batch(void **state)
{
    struct rpc_fixture *f = *state;
    char *first = large("[{\"id\":1,\"method\":\"create\",\"params\":[", "1", "]},");
    struct out out;
    out_init(&out, 0);
    out_text(&out, first);
    out_text(&out, "{\"id\":2,\"method\":\"list.len\",\"params\":[\"early\"]},");
    char *second = large("{\"id\":3,\"method\":\"create\",\"params\":[", "1", "]},{\"id\":4,\"method\":\"ping\"}]");
    out_text(&out, second);
    out_char(&out, '\0');
    tell(f, out.data,
         "[{\"id\":1,\"result\":<object>},{\"id\":2,\"error\":<error name_error>},{\"id\":3,\"result\":<object>},"
         "{\"id\":4,\"result\":\"pong\"}]");
    out_fini(&out);
    free(first);
    free(second);
}

/* Connections that go while their values wait, are being built, or are built. */
static void test_building_for_a_connection_that_is_gone(void **state)
{
    struct rpc_fixture *f = *state;
    char *line = large("{\"id\":1,\"method\":\"create\",\"params\":[", "1", "]}\n");
    for (int stage = 0; stage < 4; stage++) {
        struct rpc_conn *conns[3];
        for (unsigned i = 0; i < 3; i++) {
            conns[i] = rpc_conn_create(f->thread, 10 + i, &fixture_peer, f);
        }
        fixture_run_once(f);
        for (unsigned i = 0; i < 3; i++) {
            fixture_feed(conns[i], line, strlen(line));
        }
        (void)rpc_thread_run(f->thread);
        for (int slice = 0; slice < 4 * stage; slice++) { /* the builder gets some of the way */
            heap_enter(f->service->heap);
            heap_leave(f->service->heap);
        }
        if (stage == 3) {
            fixture_await_wake(f); /* the first is built, and nobody has looked */
        }
        for (unsigned i = 0; i < 3; i++) {
            rpc_conn_destroy(conns[i], "gone");
        }
        tell(f, "{\"id\":1,\"method\":\"heap.check\"}", "{\"id\":1,\"result\":<has {\"ok\":true}>}");
        call(f, "collect", "{}", "<has {\"unreachable\":0}>");
    }
    free(line);
}

/* Who looks at all objects waits until the value is there, and others are served meanwhile. */
static void test_building_is_invisible(void **state)
{
    struct rpc_fixture *f = *state;
    struct rpc_conn *other = rpc_conn_create(f->thread, 2, &fixture_peer, f);
    char *line = large("{\"id\":1,\"method\":\"create\",\"params\":[", "1", "]}\n");
    static const char *const walks[] = {"{\"id\":7,\"method\":\"heap.check\"}\n", "{\"id\":7,\"method\":\"collect\"}\n",
                                        "{\"id\":7,\"method\":\"gc.get_objects\"}\n", "{\"id\":7,\"method\":\"gc.freeze\"}\n"};
    fixture_run_once(f);
    for (size_t i = 0; i < sizeof(walks) / sizeof(walks[0]); i++) {
        fixture_forget(f);
        heap_enter(f->service->heap);
        heap_build_begin(f->service->heap); /* as if a builder were just between two slices */
        heap_leave(f->service->heap);
        fixture_feed(other, walks[i], strlen(walks[i]));
        fixture_run_once(f);
        assert_true(rpc_conn_is_waiting(other));
        fixture_feed(f->conn, line, strlen(line)); /* one may overlap with another */
        fixture_run(f);
        fixture_match(f, line, "{\"id\":1,\"result\":<object>}\n", f->said);
        assert_true(rpc_conn_is_waiting(other));
        f->said_len = 0;
        heap_enter(f->service->heap);
        heap_build_end(f->service->heap);
        heap_leave(f->service->heap);
        fixture_feed(f->conn, "{\"method\":\"ping\"}\n", 18);
        while (rpc_conn_is_waiting(other)) {
            fixture_run_once(f);
            fixture_step(f);
        }
        fixture_match(f, walks[i], "{\"id\":7,\"result\":<any>}\n", f->said);
    }
    call(f, "gc.unfreeze", "{}", "null");
    rpc_conn_destroy(other, "end of test");
    free(line);
}

/* Without memory for the value there is an error, and nothing of it stays. */
static void test_building_without_memory(void **state)
{
    (void)state;
    struct rpc_limits limits;
    rpc_limits_default(&limits);
    limits.max_memory = 3 << 20;
    struct rpc_fixture *f = fixture_open(&limits);
    call(f, "create", "{\"value\":[],\"name\":\"l\"}", "<object>");
    int taken = 0, refused = 0;
    for (int i = 0; i < 6; i++) {
        char *line = large("{\"id\":1,\"method\":\"list.append\",\"params\":[\"l\",", "1", "]}\n");
        say(f, line);
        refused += strstr(f->said, "memory_error") != NULL;
        taken += strstr(f->said, "\"result\"") != NULL;
        free(line);
        call(f, "heap.check", "{}", "<has {\"ok\":true}>");
    }
    assert_true(taken > 0 && refused > 0 && taken + refused == 6);
    fixture_close(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        fixture_test(test_building_makes_what_was_sent),
        fixture_test(test_building_is_for_any_method),
        fixture_test(test_building_in_a_batch),
        fixture_test(test_building_for_a_connection_that_is_gone),
        fixture_test(test_building_is_invisible),
        cmocka_unit_test(test_building_without_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
