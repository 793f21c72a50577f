/* test_literal_slices.c -- values written in slices, while the graph changes in between.
 *
 * What is written to its end is, byte for byte, what one go writes at that moment; else the writer says that it has to
 * begin again.
 */
#include "graph_fixture.h"

#include "../../protocol/literal.h"

static const struct literal_format WHOLE = {.depth = -1, .max_nesting = 2000};

/* What one go writes; NUL behind it. */
static void write_at_once(struct out *out, struct heap *heap, heap_ref obj, const struct literal_format *format)
{
    struct literal_error error;
    out_init(out, 0);
    assert_true(literal_write(out, heap, obj, format, &error));
    out_char(out, '\0');
}

/* `out` is what one go writes. */
static void expect_same(const struct out *out, struct heap *heap, heap_ref obj, const struct literal_format *format)
{
    struct out whole;
    write_at_once(&whole, heap, obj, format);
    assert_int_equal(out->len, whole.len - 1);
    assert_memory_equal(out->data, whole.data, out->len);
    out_fini(&whole);
}

/* Writes to the end without a change; how many slices that took. */
static unsigned write_calmly(struct heap *heap, heap_ref obj, const struct literal_format *format)
{
    struct out out;
    struct literal_error error;
    enum literal_progress progress;
    unsigned slices = 0;
    out_init(&out, 0);
    out_text(&out, "before:");
    struct out start = {.len = out.len};
    struct literal_writer *writer = literal_writer_create(&out, heap, format);
    assert_non_null(writer);
    do {
        progress = literal_writer_step(writer, obj, 0, &error);
        slices++;
    } while (progress == LITERAL_GOES_ON);
    assert_int_equal(progress, LITERAL_DONE);
    literal_writer_destroy(writer);
    assert_null(heap->watches);
    assert_memory_equal(out.data, "before:", start.len);
    memmove(out.data, out.data + start.len, out.len - start.len);
    out.len -= start.len;
    expect_same(&out, heap, obj, format);
    out_fini(&out);
    return slices;
}

/* A list of `count` lists of one int, held. */
static heap_ref many_lists(struct heap *heap, uint32_t count)
{
    heap_ref list = keep(heap, new_list(heap));
    for (uint32_t i = 0; i < count; i++) {
        heap_ref inner = new_list(heap);
        OK(heap_list_append_steal(heap, inner, new_int(heap, 1000 + i)));
        OK(heap_list_append_steal(heap, list, inner));
    }
    return list;
}

static heap_ref many_keys(struct heap *heap, uint32_t count)
{
    heap_ref dict;
    OK(heap_dict_create(&dict, heap, 0));
    for (uint32_t i = 0; i < count; i++) {
        char text[20];
        heap_ref key;
        int len = snprintf(text, sizeof text, "key %u", i);
        OK(heap_str_create(&key, heap, text, (size_t)len));
        OK(heap_dict_set_steal(heap, dict, key, new_int(heap, i)));
    }
    return keep(heap, dict);
}

/* Long lists, dicts that are plain and dicts whose last key is not, in one another. */
static void test_literal_slices_write_what_one_go_writes(void **state)
{
    struct heap *heap = *state;
    heap_ref list = many_lists(heap, 3000), plain = many_keys(heap, 5000), odd = many_keys(heap, 5000);
    OK(heap_dict_set_steal(heap, odd, new_int(heap, 5), new_list(heap)));
    assert_true(write_calmly(heap, list, &WHOLE) > 80);
    assert_true(write_calmly(heap, plain, &WHOLE) > 80);
    assert_true(write_calmly(heap, odd, &WHOLE) > 80);
    for (int i = 0; i < 2; i++) {
        OK(heap_incref(heap, plain));
        OK(heap_list_append_steal(heap, list, plain));
        OK(heap_incref(heap, odd));
        OK(heap_list_append_steal(heap, list, odd));
        OK(heap_incref(heap, list));
        OK(heap_list_append_steal(heap, list, list));
    }
    assert_true(write_calmly(heap, list, &WHOLE) > 300);
    assert_true(write_calmly(heap, list, &(struct literal_format){.depth = 1, .max_nesting = 2000}) > 40);
    write_calmly(heap, list, &(struct literal_format){.depth = 0, .max_nesting = 2000});
    write_calmly(heap, heap_none(heap), &WHOLE);
    heap_list_clear(heap, list);
}

/* The answer's limit, and what has no place in the depth of a request. */
static void test_literal_slices_fail(void **state)
{
    struct heap *heap = *state;
    heap_ref list = many_lists(heap, 3000);
    static const struct {
        struct literal_format format;
        enum literal_fault fault;
    } CASES[] = {{{.depth = -1, .max_nesting = 2000, .max_bytes = 10000}, LITERAL_OUTPUT},
                 {{.depth = -1, .max_nesting = 1}, LITERAL_CHANGED}};
    OK(heap_list_append_steal(heap, list, many_keys(heap, 3)));
    OK(heap_incref(heap, heap_seq_item(heap, list, 3000)));
    for (size_t i = 0; i < sizeof CASES / sizeof CASES[0]; i++) {
        struct out out;
        struct literal_error error = {0};
        enum literal_progress progress;
        out_init(&out, 0);
        out_text(&out, "before");
        struct literal_writer *writer = literal_writer_create(&out, heap, &CASES[i].format);
        do {
            progress = literal_writer_step(writer, list, 0, &error);
        } while (progress == LITERAL_GOES_ON);
        assert_int_equal(progress, LITERAL_FAILED);
        assert_int_equal(error.fault, CASES[i].fault);
        assert_int_equal(out.len, strlen("before"));
        literal_writer_destroy(writer);
        out_fini(&out);
    }
}

/* ---- changes in between ---- */

/* What is done to `list` of many_lists() between two slices, of which so many are over; whether it must be noticed. */
struct change {
    const char *name;
    void (*make)(struct heap *heap, heap_ref list);
    bool is_noticed;
};

static void change_read_item(struct heap *heap, heap_ref list)
{
    OK(heap_list_append_steal(heap, heap_seq_item(heap, list, 0), heap_none(heap)));
}

static void change_unread_item(struct heap *heap, heap_ref list)
{
    OK(heap_list_append_steal(heap, heap_seq_item(heap, list, heap_seq_len(heap, list) - 1), heap_none(heap)));
}

static void change_itself(struct heap *heap, heap_ref list)
{
    OK(heap_list_append_steal(heap, list, heap_none(heap)));
}

/* The last item, not yet read, gets to refer to the first, which has been: that stands there a second time. */
static void repeat_read_item(struct heap *heap, heap_ref list)
{
    heap_ref first = heap_seq_item(heap, list, 0);
    OK(heap_incref(heap, first));
    OK(heap_list_append_steal(heap, heap_seq_item(heap, list, heap_seq_len(heap, list) - 1), first));
}

static void kill_itself(struct heap *heap, heap_ref list)
{
    OK(heap_unhold(heap, heap->sessions, list));
    heap_settle(heap);
}

static void change_nothing(struct heap *heap, heap_ref list)
{
    (void)list;
    heap_settle(heap);
    (void)collect(heap, 2);
}

static void test_literal_slices_notice_changes(void **state)
{
    struct heap *heap = *state;
    static const struct change CHANGES[] = {
        {"item that was read", change_read_item, true}, {"item to come", change_unread_item, false},
        {"itself", change_itself, true},                {"repeat", repeat_read_item, false},
        {"nothing", change_nothing, false},             {"death", kill_itself, true},
    };
    for (size_t i = 0; i < sizeof CHANGES / sizeof CHANGES[0]; i++) {
        print_message("%s\n", CHANGES[i].name);
        heap_ref list = many_lists(heap, 1000);
        struct out out;
        struct literal_error error;
        out_init(&out, 0);
        struct literal_writer *writer = literal_writer_create(&out, heap, &WHOLE);
        for (int slice = 0; slice < 5; slice++) {
            assert_int_equal(literal_writer_step(writer, list, 0, &error), LITERAL_GOES_ON);
        }
        CHANGES[i].make(heap, list);
        enum literal_progress progress;
        do {
            progress = literal_writer_step(writer, list, 0, &error);
        } while (progress == LITERAL_GOES_ON);
        assert_int_equal(progress, CHANGES[i].is_noticed ? LITERAL_FAILED : LITERAL_DONE);
        if (CHANGES[i].is_noticed) {
            assert_int_equal(error.fault, LITERAL_CHANGED);
            assert_int_equal(out.len, 0);
        } else {
            expect_same(&out, heap, list, &WHOLE);
        }
        literal_writer_destroy(writer);
        out_fini(&out);
        if (CHANGES[i].make != kill_itself) {
            kill_itself(heap, list);
        }
    }
}

/* One that is given up between two slices is told of nothing any more. */
static void test_literal_slices_are_given_up(void **state)
{
    struct heap *heap = *state;
    heap_ref list = many_lists(heap, 1000);
    struct out out;
    struct literal_error error;
    out_init(&out, 0);
    struct literal_writer *writers[2];
    for (int i = 0; i < 2; i++) {
        writers[i] = literal_writer_create(&out, heap, &WHOLE);
        assert_int_equal(literal_writer_step(writers[i], list, 0, &error), LITERAL_GOES_ON);
    }
    literal_writer_destroy(writers[0]);
    assert_true(heap->is_watched);
    literal_writer_destroy(writers[1]);
    assert_false(heap->is_watched);
    change_itself(heap, list);
    out_fini(&out);
}

/* ---- random graphs ---- */

struct tally {
    unsigned done, done_in_slices, changed, lost;
};

/* A little of what may happen between two slices. */
static void disturb(struct graph *graph)
{
    struct heap_collection result;
    for (uint32_t i = graph_random(graph, 8) == 0 ? graph_random(graph, 3) : 0; i > 0; i--) {
        graph_change(graph);
    }
    if (graph_random(graph, 6) == 0) {
        (void)!heap_collect_begin(&result, graph->heap, (int)graph_random(graph, 3), false);
    }
    for (uint32_t i = graph_random(graph, 3); i > 0; i--) {
        (void)heap_step(graph->heap, 1);
    }
    heap_settle(graph->heap);
}

/* Writes the object of that id, with disturbances, as reading.c does. */
static void write_disturbed(struct graph *graph, uint64_t id, const struct literal_format *format, struct tally *tally)
{
    struct heap *heap = graph->heap;
    struct out out;
    struct literal_error error;
    enum literal_progress progress = LITERAL_GOES_ON;
    heap_ref obj = 0, first = 0;
    unsigned slices = 0;
    out_init(&out, 0);
    struct literal_writer *writer = literal_writer_create(&out, heap, format);
    while (progress == LITERAL_GOES_ON) {
        obj = heap_find(heap, id);
        (void)heap_take_wait(heap);
        if (obj == 0 || (first != 0 && obj != first)) {
            tally->lost++;
            break;
        }
        first = obj;
        progress = literal_writer_step(writer, obj, 0, &error);
        slices++;
        if (progress == LITERAL_GOES_ON) {
            disturb(graph);
        }
    }
    if (progress == LITERAL_DONE) {
        expect_same(&out, heap, obj, format);
        tally->done++;
        tally->done_in_slices += slices > 2;
    } else if (progress == LITERAL_FAILED) {
        assert_int_equal(error.fault, LITERAL_CHANGED);
        tally->changed++;
    }
    literal_writer_destroy(writer);
    out_fini(&out);
}

static void test_literal_slices_of_random_graphs(void **state)
{
    struct heap *heap = *state;
    struct graph graph;
    struct tally tally = {0};
    static const struct literal_format FORMATS[] = {
        {.depth = -1, .max_nesting = 2000}, {.depth = 3, .max_nesting = 2000}, {.depth = -1, .max_nesting = 12}};
    graph_init(&graph, heap, graph_seed());
    heap_set_slice(heap, 500, 1);
    for (unsigned round = 0; round < (fixture_is_small() ? 300u : 20000u); round++) {
        while (graph.count < 400) {
            graph_grow(&graph);
            heap_ref obj = graph_any(&graph);
            graph_link(&graph, graph_any(&graph), obj);
            if (heap_referent_count(heap, obj) < 200) {
                graph_fill(&graph, obj);
            }
        }
        uint64_t id;
        uint32_t i = graph_random(&graph, graph.count);
        OK(heap_id(&id, heap, graph.objects[i]));
        if (graph_random(&graph, 4) == 0) { /* perhaps nobody holds it, and a cycle keeps it */
            graph_drop(&graph, i);
            heap_settle(heap);
        }
        write_disturbed(&graph, id, &FORMATS[graph_random(&graph, 3)], &tally);
        disturb(&graph);
        if (round % 1000 == 0) {
            fixture_check(heap);
        }
    }
    print_message("%u done, %u of them in three slices or more, %u changed, %u lost\n", tally.done, tally.done_in_slices,
                  tally.changed, tally.lost);
    assert_true(tally.done > 0 && tally.done_in_slices > 0 && tally.changed > 0 && tally.lost > 0);
    while (heap_step(heap, 1000)) {
    }
    graph_fini(&graph);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_literal_slices_write_what_one_go_writes),
        TEST(test_literal_slices_fail),
        TEST(test_literal_slices_notice_changes),
        TEST(test_literal_slices_are_given_up),
        TEST(test_literal_slices_of_random_graphs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
