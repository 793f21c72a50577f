/* test_slice_bounds.c -- never more than 64 objects or 4,096 references between two looks at the clock.
 *
 * The heap keeps the most that was ever done between two looks (heap/slice.h).  Graphs of all shapes and of random
 * sizes, most of them a little below and above those at which something is done in pieces, are made by literals over the
 * wire, collected, let go, emptied, and left behind by sessions that end.  Whatever was done, the most stays in bounds;
 * and it must come near them, or the clock was not asked where it should be.
 *
 * SEED=n repeats a run.  Start at play().
 */
#include "rpc_fixture.h"

#include "../../heap/heap.h"
#include "../../heap/slice.h"
#include "../../protocol/rpc_internal.h"
#include "../support/process.h"

#define OBJECTS_MAX 64u
#define REFS_MAX 4096u

struct bounds {
    struct rpc_fixture *fixture;
    struct process_random random;
    char *line; /* being written */
    size_t len, room;
};

static int setup(void **state)
{
    struct bounds *b = calloc(1, sizeof *b);
    assert_non_null(b);
    struct rpc_limits limits;
    rpc_limits_default(&limits);
    b->fixture = fixture_open(&limits);
    process_random_init(&b->random);
    say(b->fixture, "{\"method\":\"create\",\"params\":{\"value\":{\"$class\":\"Node\"},\"name\":\"Node\"}}\n");
    *state = b;
    return 0;
}

static int teardown(void **state)
{
    struct bounds *b = *state;
    fixture_close(b->fixture);
    free(b->line);
    free(b);
    return 0;
}

/* ---- the bounds ---- */

static bool is_bounded(uint64_t objects, uint64_t refs)
{
    return objects <= OBJECTS_MAX && refs <= REFS_MAX;
}

static struct heap_stats stats_of(struct bounds *b)
{
    struct heap_stats stats;
    heap_stats(&stats, b->fixture->service->heap);
    return stats;
}

static void demand_bounded(struct bounds *b, const char *what)
{
    struct heap_stats stats = stats_of(b);
    if (!is_bounded(stats.slice_objects_max, stats.slice_refs_max)) {
        fail_msg("%s: %llu objects, %llu references between two looks at the clock", what,
                 (unsigned long long)stats.slice_objects_max, (unsigned long long)stats.slice_refs_max);
    }
}

/* ---- literals ---- */

__attribute__((format(printf, 2, 3))) static void write_to(struct bounds *b, const char *format, ...)
{
    va_list arguments;
    if (b->room - b->len < 256) {
        b->room = b->room * 2 + 4096;
        b->line = realloc(b->line, b->room);
        assert_non_null(b->line);
    }
    va_start(arguments, format);
    b->len += (size_t)vsnprintf(b->line + b->len, b->room - b->len, format, arguments);
    va_end(arguments);
}

/* Sizes about those at which pieces begin and end, and others. */
static unsigned choose_size(struct bounds *b)
{
    static const unsigned edges[] = {1, 63, 64, 65, 512, 1024, 3072, 4096, 6144};
    unsigned edge = edges[process_random_below(&b->random, sizeof edges / sizeof *edges)];
    return process_random_below(&b->random, 3) == 0 ? 1 + process_random_below(&b->random, 10000)
                                                     : edge + process_random_below(&b->random, 3);
}

enum shape { ATOMS, LISTS, SAME, DICT, INTS_DICT, SET, TUPLES, INSTANCE, CHAIN, WIDE, WEAKREFS, SHAPES };

/* The items of a container of `count` items. */
static void write_items(struct bounds *b, enum shape shape, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        write_to(b, "%s", i > 0 ? "," : "");
        switch (shape) {
        case LISTS:
            write_to(b, "[{\"$label\":\"top\"}]");
            break;
        case SAME:
            write_to(b, "{\"$label\":\"top\"}");
            break;
        case DICT:
        case INSTANCE:
            write_to(b, "\"a%u\":[%u]", i, 1000 + i);
            break;
        case INTS_DICT:
            write_to(b, "[%u,{\"$label\":\"top\"}]", 1000 + i);
            break;
        case TUPLES:
            write_to(b, "{\"$tuple\":[%u,{\"$label\":\"top\"}]}", 1000 + i);
            break;
        case WEAKREFS:
            write_to(b, "{\"$weakref\":{\"$label\":\"top\"}},[]");
            break;
        default:
            write_to(b, "%u", 1000 + i);
        }
    }
}

/* A list `top` that contains something of that shape and size, and itself if it is to be a cycle. */
static void write_value(struct bounds *b, enum shape shape, unsigned count, bool is_cycle)
{
    static const char *const starts[SHAPES] = {"[", "[", "[", "{", "{\"$dict\":[", "{\"$set\":[", "[",
                                               "{\"$instance\":\"Node\",\"attrs\":{", "", "[", "["};
    static const char *const ends[SHAPES] = {"]", "]", "]", "}", "]}", "]}", "]", "}}", "", "]", "]"};
    write_to(b, "{\"$let\":{\"top\":[");
    if (shape == CHAIN) {
        for (unsigned i = 0; i < 900; i++) {
            write_to(b, "[");
        }
        write_to(b, "%s", is_cycle ? "{\"$label\":\"top\"}" : "1");
        for (unsigned i = 0; i < 900; i++) {
            write_to(b, "]");
        }
    } else if (shape == WIDE) { /* many with many */
        for (unsigned i = 0; i < 8; i++) {
            write_to(b, i > 0 ? ",[" : "[");
            write_items(b, SAME, count);
            write_to(b, "]");
        }
    } else {
        write_to(b, "%s", starts[shape]);
        write_items(b, shape, count);
        write_to(b, "%s", ends[shape]);
    }
    write_to(b, "%s]},\"in\":{\"$label\":\"top\"}}", is_cycle ? ",{\"$label\":\"top\"}" : "");
}

/* ---- requests ---- */

static void begin_line(struct bounds *b, const char *method)
{
    b->len = 0;
    write_to(b, "{\"id\":1,\"method\":\"%s\",\"params\":{", method);
}

/* Sends what has been written; the reply, after any events, must begin so. */
static void send_line(struct bounds *b, const char *start)
{
    static const char event[] = "{\"jsonrpc\":\"2.0\",\"method\":\"event\"";
    write_to(b, "}}\n");
    const char *reply = say_bytes(b->fixture, b->line, b->len);
    while (strncmp(reply, event, strlen(event)) == 0) {
        reply = strchr(reply, '\n') + 1;
    }
    if (strncmp(reply, start, strlen(start)) != 0) {
        fail_msg("%.300s\n  was said to %.300s", b->fixture->said, b->line);
    }
}

#define RESULT "{\"id\":1,\"result\":"

static void ask(struct bounds *b, const char *method, const char *params)
{
    begin_line(b, method);
    write_to(b, "%s", params);
    send_line(b, RESULT);
}

static void create(struct bounds *b, enum shape shape, unsigned count, bool is_cycle)
{
    begin_line(b, "create");
    write_to(b, "\"name\":\"a\",\"value\":");
    write_value(b, shape, count, is_cycle);
    send_line(b, RESULT);
}

/* The end of a session that holds `count` objects, one of them often. */
static void end_session(struct bounds *b, unsigned count)
{
    struct rpc_fixture *f = b->fixture;
    struct rpc_conn *conn = rpc_conn_create(f->thread, 2, &fixture_peer, f);
    assert_non_null(conn);
    for (unsigned i = 0; i < count; i++) {
        static const char one[] = "{\"id\":1,\"method\":\"create\",\"params\":[[[],1000]]}\n"
                                  "{\"id\":1,\"method\":\"ref\",\"params\":[\"Node\"]}\n";
        fixture_feed(conn, one, strlen(one));
    }
    fixture_run(f);
    rpc_conn_destroy(conn, "end of test");
    fixture_run(f);
}

/* ---- one round ---- */

enum end { UNBIND, COLLECT_0, COLLECT_1, COLLECT_2, CLEAR, SAVED, FINALIZED, FAILED, ENDS };

/* What was made goes, one way or another. */
static void let_go(struct bounds *b, enum end end)
{
    static const char *const collections[] = {"\"generation\":0", "\"generation\":1", "\"generation\":2"};
    if (end == CLEAR) {
        ask(b, "list.clear", "\"object\":\"a\"");
    } else if (end == FINALIZED) {
        ask(b, "finalizer.set", "\"object\":\"a\",\"clear\":true,\"resurrect_as\":\"b\"");
    }
    if (end == SAVED) {
        ask(b, "gc.set_debug", "\"flags\":[\"saveall\"]");
    }
    ask(b, "name.unbind", "\"name\":\"a\"");
    ask(b, "collect", end >= COLLECT_0 && end <= COLLECT_2 ? collections[end - COLLECT_0] : "");
    if (end == SAVED) {
        ask(b, "gc.set_debug", "\"flags\":[]");
        ask(b, "gc.garbage", "\"clear\":true");
    } else if (end == FINALIZED) {
        say(b->fixture, "{\"method\":\"name.unbind\",\"params\":[\"b\"]}\n");
    }
    ask(b, "collect", "");
}

/* A literal whose last value is wrong: what was made on the way is dropped. */
static void fail_to_create(struct bounds *b, enum shape shape, unsigned count)
{
    begin_line(b, "create");
    write_to(b, "\"value\":[");
    write_value(b, shape, count, true);
    write_to(b, ",1e999]");
    send_line(b, "{\"id\":1,\"error\":");
}

static void play(struct bounds *b, enum shape shape, enum end end)
{
    static const char *const shapes[] = {"atoms", "lists", "same", "dict", "dict of ints", "set", "tuples", "instance",
                                         "chain", "wide", "weakrefs"};
    char what[100];
    unsigned count = choose_size(b);
    bool is_cycle = process_random_below(&b->random, 3) > 0;
    snprintf(what, sizeof what, "%u %s, end %d", count, shapes[shape], (int)end);
    if (end == FAILED) {
        fail_to_create(b, shape, count);
    } else {
        create(b, shape, count, is_cycle);
        if (process_random_below(&b->random, 2) == 0) { /* alive, in every phase */
            ask(b, "collect", "");
        }
        let_go(b, end);
    }
    demand_bounded(b, what);
}

/* ---- tests ---- */

/* Every shape goes in every way. */
static void test_slice_bounds_hold_whatever_is_done(void **state)
{
    struct bounds *b = *state;
    for (int round = 0; round < process_rounds(2, 40); round++) {
        for (unsigned shape = 0; shape < SHAPES; shape++) {
            for (unsigned end = 0; end < ENDS; end++) {
                play(b, shape, end);
            }
        }
        end_session(b, choose_size(b));
        demand_bounded(b, "the end of a session");
    }
    /* And they are not far away: the clock is asked because of these, not more often. */
    struct heap_stats stats = stats_of(b);
    print_message("at most %llu objects, %llu references\n", (unsigned long long)stats.slice_objects_max,
                  (unsigned long long)stats.slice_refs_max);
    assert_int_equal(stats.slice_objects_max, OBJECTS_MAX);
    assert_in_range(stats.slice_refs_max, 3072, REFS_MAX);
}

/* The figures tell of somebody who does too much at once. */
static void test_slice_bounds_are_told_when_broken(void **state)
{
    struct bounds *b = *state;
    struct slice_rule rule = {0};
    struct slice slice;
    slice_begin(&slice, &rule, 500);
    for (unsigned i = 0; i < 1000; i++) {
        slice_spend(&slice, 1, 17);
    }
    assert_true(is_bounded(rule.objects_max, rule.refs_max));
    assert_int_equal(rule.objects_max, 1024 / 17 + 1);
    slice_spend(&slice, 65, 0);
    assert_false(is_bounded(rule.objects_max, rule.refs_max));
    rule = (struct slice_rule){0};
    slice_begin(&slice, &rule, 0); /* work that is done at once is counted as well */
    slice_spend(&slice, 1, 4097);
    assert_false(is_bounded(rule.objects_max, rule.refs_max));
    demand_bounded(b, "nothing");
}

#define BOUNDS(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        BOUNDS(test_slice_bounds_hold_whatever_is_done),
        BOUNDS(test_slice_bounds_are_told_when_broken),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
