/* test_conformance.c -- CPython's tests of callbacks, thresholds, tracking and sys, and their table.
 *
 * tests/conformance.md has a row for each of CPython's tests: which case here follows it, and what differs, or
 * why there can be none.  The last tests hold that page to CPYTHON.md and to the cases that exist.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "../support/fixture.h"
#include "../support/process.h"
#include "../support/pygc.h"

static struct pygc gc_begin(void **state)
{
    struct pygc gc;
    pygc_begin(&gc, ((struct fixture *)*state)->wire);
    pygc_do(&gc, "gc.disable", NULL);
    return gc;
}

static void drop_self_cycle(struct pygc *gc)
{
    int64_t list = pygc_create(gc, "[]");
    pygc_append(gc, list, list);
    pygc_drop(gc, list);
}

/* ---- gc.callbacks are the event `gc` ---- */

/* Demands one event of each phase, both of this generation, the second with what was found. */
static void demand_gc_events(struct pygc *gc, int generation, int unreachable)
{
    assert_int_equal(json_array_size(gc->j_events), 2);
    for (size_t i = 0; i < 2; i++) {
        const json_t *j_event = json_array_get(gc->j_events, i);
        const char *phase = i == 0 ? "start" : "stop";
        assert_string_equal(json_string_value(json_object_get(j_event, "event")), "gc");
        assert_string_equal(json_string_value(json_object_get(j_event, "phase")), phase);
        assert_int_equal(json_integer_value(json_object_get(j_event, "generation")), generation);
        assert_true(json_is_false(json_object_get(j_event, "automatic")));
    }
    const json_t *j_stop = json_array_get(gc->j_events, 1);
    assert_int_equal(json_integer_value(json_object_get(j_stop, "unreachable")), unreachable);
    assert_true(json_is_integer(json_object_get(j_stop, "uncollectable")));
    assert_int_equal(json_integer_value(json_object_get(j_stop, "uncollectable")), 0);
    assert_true(json_is_integer(json_object_get(j_stop, "elapsed_us")));
}

static void test_conformance_callback_collect(void **state)
{
    const struct fixture *fixture = *state;
    struct pygc gc[2];
    gc[0] = gc_begin(state);
    pygc_begin(&gc[1], wire_open(fixture->daemon));
    for (int i = 0; i < 2; i++) {
        pygc_do(&gc[i], "subscribe", "[[s]]", "gc");
    }
    pygc_collect(&gc[0], 2);
    pygc_do(&gc[1], "ping", NULL); /* the events come before its reply */
    for (int i = 0; i < 2; i++) {
        demand_gc_events(&gc[i], 2, 0);
    }
    wire_close(gc[1].wire);
    pygc_end(&gc[0]);
    pygc_end(&gc[1]);
}

static void test_conformance_callback_collect_generation(void **state)
{
    struct pygc gc = gc_begin(state);
    pygc_do(&gc, "subscribe", "[[s]]", "gc");
    for (int generation = 0; generation < 3; generation++) {
        pygc_forget_events(&gc);
        pygc_collect(&gc, generation);
        demand_gc_events(&gc, generation, 0);
    }
    pygc_end(&gc);
}

/* Of CPython's test the part without legacy finalizers: one object on a cycle of its own is found. */
static void test_conformance_callback_collect_garbage(void **state)
{
    struct pygc gc = gc_begin(state);
    drop_self_cycle(&gc);
    pygc_do(&gc, "subscribe", "[[s]]", "gc");
    pygc_collect(&gc, 2);
    demand_gc_events(&gc, 2, 1);
    pygc_demand_ids(pygc_call(&gc, "gc.garbage", NULL), "objects", (int64_t)-1);
    pygc_forget_events(&gc);
    pygc_collect(&gc, 2);
    demand_gc_events(&gc, 2, 0);
    pygc_end(&gc);
}

/* What the flag `stats` says goes to the log, as CPython's goes to stderr. */
static void test_conformance_gc_debug_stats(void **state)
{
    const struct fixture *fixture = *state;
    struct pygc gc = gc_begin(state);
    if (daemon_is_elsewhere()) {
        process_skip("the log of a daemon that runs elsewhere cannot be read");
    }
    pygc_do(&gc, "gc.set_debug", "[[s]]", "stats");
    json_t *j_flags = pygc_call(&gc, "gc.get_debug", NULL);
    assert_int_equal(json_array_size(j_flags), 1);
    assert_string_equal(json_string_value(json_array_get(j_flags, 0)), "stats");
    json_decref(j_flags);
    drop_self_cycle(&gc);
    assert_int_equal(pygc_collect(&gc, 2), 1);
    char *log = daemon_log(fixture->daemon);
    /* The four lines of CPython, in their order. */
    static const char *const lines[] = {"gc: collecting generation 2...", "gc: objects in each generation: ",
                                        "gc: objects in permanent generation: 0",
                                        "gc: done, 1 unreachable, 0 uncollectable, "};
    const char *at = log;
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        at = strstr(at, lines[i]);
        assert_non_null(at);
    }
    assert_non_null(strstr(at, "s elapsed"));
    free(log);
    pygc_end(&gc);
}

/* ---- when a collection runs ---- */

/* How many collections there have been. */
static int64_t collections(struct pygc *gc)
{
    int64_t sum = 0;
    for (int i = 0; i < 3; i++) {
        int64_t stats[3];
        pygc_stats(gc, i, stats);
        sum += stats[0];
    }
    return sum;
}

static void make_lists(struct pygc *gc, int n)
{
    for (int i = 0; i < n; i++) {
        pygc_create(gc, "[]");
    }
}

static void test_conformance_gc_indirect_calls_with_gc_disabled(void **state)
{
    struct pygc gc = gc_begin(state);
    int64_t before = collections(&gc);
    pygc_do(&gc, "gc.set_threshold", "[i,i,i]", 1000, 0, 0);
    make_lists(&gc, 10001);
    assert_int_equal(collections(&gc), before);
    pygc_end(&gc);
}

static void test_conformance_gc_threshold_zero(void **state)
{
    struct pygc gc = gc_begin(state);
    int64_t before = collections(&gc);
    pygc_do(&gc, "gc.set_threshold", "[i]", 0);
    pygc_do(&gc, "gc.enable", NULL);
    make_lists(&gc, 50001);
    assert_int_equal(collections(&gc), before);
    pygc_end(&gc);
}

/* One collection every threshold + 1 containers that are made and stay. */
static void test_conformance_gc_cadence(void **state)
{
    struct pygc gc = gc_begin(state);
    pygc_do(&gc, "gc.set_threshold", "[i,i,i]", 700, 10, 10);
    pygc_collect(&gc, 2);
    pygc_do(&gc, "gc.enable", NULL);
    int64_t before[3], after[3];
    pygc_stats(&gc, 0, before);
    make_lists(&gc, 700);
    pygc_stats(&gc, 0, after);
    assert_int_equal(after[0], before[0]);
    make_lists(&gc, 1);
    pygc_stats(&gc, 0, after);
    assert_int_equal(after[0], before[0] + 1);
    make_lists(&gc, 701 * 10);
    pygc_stats(&gc, 0, after);
    assert_int_equal(after[0], before[0] + 11);
    pygc_stats(&gc, 1, before);
    make_lists(&gc, 701); /* the twelfth is one of generation 1 */
    pygc_stats(&gc, 1, after);
    assert_int_equal(after[0], before[0] + 1);
    pygc_end(&gc);
}

/* ---- which tuples and dicts are tracked ---- */

static void demand_tracked(struct pygc *gc, const char *const literals[], bool tracked)
{
    for (; *literals != NULL; literals++) {
        int64_t object = pygc_create(gc, "%s", *literals);
        if (pygc_bool(gc, "gc.is_tracked", object) != tracked) {
            fail_msg("%s should %sbe tracked", *literals, tracked ? "" : "not ");
        }
        pygc_collect(gc, 2);
        pygc_collect(gc, 2);
        assert_int_equal(pygc_bool(gc, "gc.is_tracked", object), tracked);
    }
}

static void test_conformance_tuple_track_literals(void **state)
{
    struct pygc gc = gc_begin(state);
    demand_tracked(&gc,
                   (const char *const[]){"{'$tuple':[]}", "{'$tuple':[1]}", "{'$tuple':[1,2,'a']}",
                                         "{'$tuple':[1.5,true,null,{'$bytes':'YWI='}]}",
                                         "{'$tuple':[{'$tuple':[1000]},{'$tuple':[]}]}", NULL},
                   false);
    demand_tracked(&gc,
                   (const char *const[]){"{'$tuple':[[]]}", "{'$tuple':[{}]}", "{'$tuple':[{'$set':[]}]}",
                                         "{'$tuple':[{'$tuple':[[]]}]}", NULL},
                   true);
    pygc_end(&gc);
}

/* The same for tuples made of objects that were there before. */
static void test_conformance_tuple_track_dynamic(void **state)
{
    struct pygc gc = gc_begin(state);
    int64_t atom = pygc_create(&gc, "1000"),
            inner = pygc_create(&gc, "{'$tuple':[{'$ref':%lld}]}", (long long)atom),
            outer = pygc_create(&gc, "{'$tuple':[{'$ref':%lld}]}", (long long)inner),
            list = pygc_create(&gc, "[]"),
            with_list = pygc_create(&gc, "{'$tuple':[{'$ref':%lld}]}", (long long)list);
    assert_false(pygc_bool(&gc, "gc.is_tracked", inner));
    assert_false(pygc_bool(&gc, "gc.is_tracked", outer));
    assert_true(pygc_bool(&gc, "gc.is_tracked", with_list));
    pygc_end(&gc);
}

/* A tuple that was not yet complete when it was made is judged by what it holds in the end. */
static void test_conformance_tuple_bug7466(void **state)
{
    struct pygc gc = gc_begin(state);
    int64_t tuple = pygc_create(&gc, "{'$let':{'t':{'$tuple':[1,{'$label':'l'}]},'l':[{'$label':'t'}]},"
                                     "'in':{'$label':'t'}}");
    assert_true(pygc_bool(&gc, "gc.is_tracked", tuple));
    pygc_drop(&gc, tuple);
    assert_int_equal(pygc_collect(&gc, 2), 2);
    pygc_end(&gc);
}

/* Dicts are always tracked, as from CPython 3.14 on. */
static void test_conformance_dict_track(void **state)
{
    struct pygc gc = gc_begin(state);
    demand_tracked(&gc,
                   (const char *const[]){"{}", "{'a':1}", "{'$dict':[[1,{'$tuple':[2]}]]}",
                                         "{'$dict':[[1,[]]]}", "{'$dict':[[1,{'$tuple':[[]]}]]}",
                                         "{'$dict':[[1,{}]]}", NULL},
                   true);
    pygc_end(&gc);
}

/* ---- sys ---- */

static void test_conformance_sys_refcount(void **state)
{
    struct pygc gc = gc_begin(state);
    int64_t none = pygc_create(&gc, "null"), list = pygc_create(&gc, "[null,null]");
    assert_int_equal(pygc_int(&gc, NULL, "sys.getrefcount", "[I]", (json_int_t)none), 4294967295);
    pygc_create(&gc, "{'$tuple':[null,{'$ref':%lld}]}", (long long)none);
    assert_int_equal(pygc_int(&gc, NULL, "sys.getrefcount", "[I]", (json_int_t)none), 4294967295);
    assert_int_equal(pygc_int(&gc, NULL, "sys.getrefcount", "[I]", (json_int_t)list), 2);
    pygc_create(&gc, "[{'$ref':%lld},{'$ref':%lld}]", (long long)list, (long long)list);
    assert_int_equal(pygc_int(&gc, NULL, "sys.getrefcount", "[I]", (json_int_t)list), 4);
    pygc_refuse(&gc, "invalid_params", "sys.getrefcount", NULL);
    pygc_end(&gc);
}

static int64_t allocated_blocks(struct pygc *gc)
{
    return pygc_int(gc, "blocks", "stats", "[s]", "allocator");
}

static void test_conformance_sys_getallocatedblocks(void **state)
{
    struct pygc gc = gc_begin(state);
    for (int i = 0; i < 100; i++) {
        drop_self_cycle(&gc);
    }
    int64_t before = allocated_blocks(&gc);
    assert_true(before > 0);
    pygc_collect(&gc, 2);
    int64_t after = allocated_blocks(&gc);
    assert_true(after <= before);
    pygc_collect(&gc, 2);
    assert_in_range(allocated_blocks(&gc), after > 50 ? after - 50 : 0, after + 50);
    pygc_end(&gc);
}

static void test_conformance_sys_debugmallocstats(void **state)
{
    struct pygc gc = gc_begin(state);
    json_t *j_text = pygc_call(&gc, "sys.debugmallocstats", NULL);
    assert_non_null(json_string_value(j_text));
    assert_non_null(strstr(json_string_value(j_text), "arena"));
    assert_non_null(strstr(json_string_value(j_text), "pool"));
    json_decref(j_text);
    pygc_refuse(&gc, "invalid_params", "sys.debugmallocstats", "[b]", 1);
    pygc_end(&gc);
}

static void test_conformance_sys_intern(void **state)
{
    struct pygc gc = gc_begin(state);
    int64_t first = pygc_int(&gc, "object", "sys.intern", "[s]", "never interned before");
    assert_int_equal(pygc_int(&gc, "object", "sys.intern", "[s]", "never interned before"), first);
    /* A str that a literal writes is a new object all the same. */
    assert_true(pygc_create(&gc, "'never interned before'") != first);
    pygc_refuse(&gc, "invalid_params", "sys.intern", "[{s:s}]", "$bytes", "YWJj");
    pygc_refuse(&gc, "invalid_params", "sys.intern", NULL);
    pygc_end(&gc);
}

static void test_conformance_sys_switchinterval(void **state)
{
    struct pygc gc = gc_begin(state);
    static const double intervals[] = {1e-5, 0.05, 3.0, 0.005};
    pygc_refuse(&gc, "invalid_params", "sys.setswitchinterval", NULL);
    pygc_refuse(&gc, "invalid_params", "sys.setswitchinterval", "[s]", "a");
    pygc_refuse(&gc, "invalid_params", "sys.setswitchinterval", "[f]", -1.0);
    pygc_refuse(&gc, "invalid_params", "sys.setswitchinterval", "[f]", 0.0);
    for (size_t i = 0; i < sizeof intervals / sizeof *intervals; i++) {
        pygc_do(&gc, "sys.setswitchinterval", "[f]", intervals[i]);
        json_t *j_interval = pygc_call(&gc, "sys.getswitchinterval", NULL);
        double difference = json_number_value(j_interval) - intervals[i];
        assert_true(difference < 1e-9 && difference > -1e-9);
        json_decref(j_interval);
    }
    pygc_end(&gc);
}

/* No object is larger than CPython 3.11's, whose size is rounded up to 16 as its allocator does. */
static void test_conformance_sys_objecttypes(void **state)
{
    static const struct {
        const char *literal;
        int64_t cpython;
    } sizes[] = {
        {"1000", 28},
        {"{'$int':'1152921504606846976'}", 36},
        {"1.5", 24},
        {"'hello'", 54},
        {"{'$bytes':'YWJjZGVm'}", 39},
        {"{'$tuple':[1,2,3]}", 64},
        {"[]", 56},
        {"[1]", 72},
        {"[1,2,3]", 88},
        {"{}", 64},
        {"{'a':1,'b':2}", 184},
        {"{'$dict':[[1,2]]}", 224},
        {"{'$set':[]}", 216},
        {"{'$frozenset':[1,2]}", 216},
        {"{'$class':'C'}", 1688},
    };
    struct pygc gc = gc_begin(state);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        int64_t size =
            pygc_int(&gc, NULL, "sys.getsizeof", "[I]", (json_int_t)pygc_create(&gc, "%s", sizes[i].literal));
        if (size > (sizes[i].cpython + 15) / 16 * 16) {
            fail_msg("%s has %lld bytes, in CPython %lld", sizes[i].literal, (long long)size,
                     (long long)sizes[i].cpython);
        }
    }
    pygc_end(&gc);
}

/* A slot takes at most the 8 bytes of one in CPython. */
static void test_conformance_sys_slots(void **state)
{
    struct pygc gc = gc_begin(state);
    int64_t none = pygc_create(&gc, "{'$class':'S0','slots':[]}"),
            four = pygc_create(&gc, "{'$class':'S4','slots':['a','b','c','d']}"),
            eight = pygc_create(&gc, "{'$class':'S8','slots':['a','b','c','d','e','f','g','h']}"), sizes[3];
    const int64_t classes[] = {none, four, eight};
    for (int i = 0; i < 3; i++) {
        int64_t instance = pygc_create(&gc, "{'$instance':%lld}", (long long)classes[i]);
        sizes[i] = pygc_int(&gc, NULL, "sys.getsizeof", "[I]", (json_int_t)instance);
        assert_true(sizes[i] <= sizes[0] + 4 * i * 8);
    }
    assert_true(sizes[0] < sizes[1] && sizes[1] < sizes[2]);
    pygc_end(&gc);
}

/* ---- the table ---- */

#define CASE_MARK "test_conformance_"

/* A file of the project, malloc'ed. */
static char *read_project_file(const char *name)
{
    char path[4200];
    size_t len;
    process_path(path, sizeof path, name);
    char *text = process_read_file(path, &len);
    if (text == NULL) {
        fail_msg("cannot read %s", path);
    }
    return text;
}

/* Takes the next cell of a table's row out of *at, without the blanks around it; false: there is none. */
static bool next_cell(char **at, char **cell)
{
    char *bar = strchr(*at, '|');
    if (bar == NULL) {
        return false;
    }
    *bar = '\0';
    *cell = *at + strspn(*at, " ");
    for (char *end = bar; end > *cell && end[-1] == ' '; end--) {
        end[-1] = '\0';
    }
    *at = bar + 1;
    return true;
}

/* Calls `each` with the first `n` cells of every row of the tables below headings that start with "## 7" or
 * "### 7", and with the section, "7.1"; tables' heads and rules are left out.  Changes `text`. */
static void for_each_row(char *text, size_t n, void (*each)(void *context, const char *section, char *cells[]),
                         void *context)
{
    char section[8] = "";
    bool in_table = false;
    for (char *line = text, *next; line != NULL && *line != '\0'; line = next) {
        next = strchr(line, '\n');
        if (next != NULL) {
            *next++ = '\0';
        }
        if (line[0] == '#') {
            size_t level = strspn(line, "#");
            snprintf(section, sizeof section, "%.3s",
                     line[level] == ' ' && line[level + 1] == '7' ? line + level + 1 : "");
        }
        if (line[0] != '|') {
            in_table = false;
        } else if (section[0] != '\0') {
            char *cells[4] = {NULL}, *at = line + 1;
            size_t count = 0;
            while (count < n && next_cell(&at, &cells[count])) {
                count++;
            }
            if (in_table && strspn(cells[0], "-:") != strlen(cells[0])) {
                assert_int_equal(count, n);
                each(context, section, cells);
            }
            in_table = true;
        }
    }
}

struct page {
    char *sources;   /* the text of all files with cases */
    json_t *j_cases; /* set of cases that the page names */
    json_t *j_rows;  /* "SECTION CELL": how many rows of the page say they are of that row of CPYTHON.md */
    size_t rows;
};

static void read_page_row(void *context, const char *section, char *cells[])
{
    struct page *page = context;
    char key[512], *at = cells[2];
    snprintf(key, sizeof key, "%s %s", section, cells[1]);
    json_object_set_new(page->j_rows, key,
                        json_integer(json_integer_value(json_object_get(page->j_rows, key)) + 1));
    page->rows++;
    if (strcmp(cells[2], "–") == 0) {
        if (strlen(cells[3]) < 10) {
            fail_msg("conformance.md does not say why %s has no case", cells[0]);
        }
        return;
    }
    assert_non_null(strstr(at, CASE_MARK));
    while ((at = strstr(at, CASE_MARK)) != NULL) {
        char name[128], registered[160];
        size_t len = strspn(at, "abcdefghijklmnopqrstuvwxyz0123456789_");
        snprintf(name, sizeof name, "%.*s", (int)len, at);
        snprintf(registered, sizeof registered, "fixture_test(%s)", name);
        if (strstr(page->sources, registered) == NULL) {
            fail_msg("conformance.md names %s, which is no case", name);
        }
        json_object_set_new(page->j_cases, name, json_true());
        at += len;
    }
}

static struct page read_page(void)
{
    struct page page = {.j_cases = json_object(), .j_rows = json_object()};
    char *files[] = {read_project_file("tests/integration/test_conformance.c"),
                     read_project_file("tests/integration/test_conformance_gc.c"),
                     read_project_file("tests/integration/test_conformance_finalization.c")};
    assert_true(asprintf(&page.sources, "%s%s%s", files[0], files[1], files[2]) > 0);
    for (size_t i = 0; i < 3; i++) {
        free(files[i]);
    }
    char *text = read_project_file("tests/conformance.md");
    for_each_row(text, 4, read_page_row, &page);
    free(text);
    return page;
}

static void free_page(struct page *page)
{
    free(page->sources);
    json_decref(page->j_cases);
    json_decref(page->j_rows);
}

/* Every case that the page names exists, and every case that exists is named. */
static void test_conformance_page_names_the_cases(void **state)
{
    struct page page = read_page();
    (void)state;
    assert_in_range(page.rows, 60, 1000);
    static const char mark[] = "fixture_test(" CASE_MARK;
    for (const char *at = page.sources; (at = strstr(at, mark)) != NULL; at++) {
        char name[128];
        const char *start = at + strlen("fixture_test(");
        snprintf(name, sizeof name, "%.*s", (int)strcspn(start, ")"), start);
        if (name[strlen(CASE_MARK)] != '\0' && json_object_get(page.j_cases, name) == NULL) {
            fail_msg("conformance.md does not name %s", name);
        }
    }
    free_page(&page);
}

static void take_row(void *context, const char *section, char *cells[])
{
    struct page *page = context;
    char key[512];
    snprintf(key, sizeof key, "%s %s", section, cells[0]);
    json_int_t left = json_integer_value(json_object_get(page->j_rows, key));
    if (left == 0) {
        fail_msg("conformance.md has no row for \"%s\" of CPYTHON.md", key);
    }
    json_object_set_new(page->j_rows, key, json_integer(left - 1));
}

/* Every row of CPYTHON.md's section 7 has one on the page, or several. */
static void test_conformance_page_has_every_row(void **state)
{
    char path[4200];
    size_t len;
    (void)state;
    process_path(path, sizeof path, "../shared/CPYTHON.md");
    char *text = process_read_file(path, &len);
    if (text == NULL) {
        process_skip("there is no ../shared/CPYTHON.md");
    }
    struct page page = read_page();
    for_each_row(text, 1, take_row, &page);
    free_page(&page);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        fixture_test(test_conformance_callback_collect),
        fixture_test(test_conformance_callback_collect_generation),
        fixture_test(test_conformance_callback_collect_garbage),
        fixture_test(test_conformance_gc_debug_stats),
        fixture_test(test_conformance_gc_indirect_calls_with_gc_disabled),
        fixture_test(test_conformance_gc_threshold_zero),
        fixture_test(test_conformance_gc_cadence),
        fixture_test(test_conformance_tuple_track_literals),
        fixture_test(test_conformance_tuple_track_dynamic),
        fixture_test(test_conformance_tuple_bug7466),
        fixture_test(test_conformance_dict_track),
        fixture_test(test_conformance_sys_refcount),
        fixture_test(test_conformance_sys_getallocatedblocks),
        fixture_test(test_conformance_sys_debugmallocstats),
        fixture_test(test_conformance_sys_intern),
        fixture_test(test_conformance_sys_switchinterval),
        fixture_test(test_conformance_sys_objecttypes),
        fixture_test(test_conformance_sys_slots),
        cmocka_unit_test(test_conformance_page_names_the_cases),
        cmocka_unit_test(test_conformance_page_has_every_row),
    };
    return cmocka_run_group_tests_name("conformance", tests, NULL, NULL);
}
