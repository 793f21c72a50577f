/* test_mark.c -- marks and differences: by type, and by the session that made what is left. */
#include "heap_fixture.h"

#include "../support/process.h"

#include <pthread.h>

/* The rows of one difference. */
struct diff {
    struct heap_growth *types, *sessions;
    uint32_t type_count, session_count;
};

/* The GIL is held, and given up while heap_mark() and heap_diff() run, as on a worker thread. */
static void mark(struct heap *heap, const char *label, uint64_t objects_wanted)
{
    uint64_t objects, bytes;
    heap_leave(heap);
    OK(heap_mark(&objects, &bytes, heap, label, strlen(label), NULL));
    heap_enter(heap);
    assert_int_equal(objects, objects_wanted);
}

static struct diff diff(struct heap *heap, const char *from, const char *to)
{
    struct diff diff;
    struct heap_text start = {from, strlen(from)}, end = {to, to != NULL ? strlen(to) : 0};
    heap_leave(heap);
    OK(heap_diff(&diff.types, &diff.type_count, &diff.sessions, &diff.session_count, heap, &start,
                 to != NULL ? &end : NULL, NULL));
    heap_enter(heap);
    return diff;
}

static void diff_fini(struct diff *diff)
{
    free(diff->types);
    free(diff->sessions);
}

static int64_t type_objects(const struct diff *diff, const char *type)
{
    for (uint32_t i = 0; i < diff->type_count; i++) {
        if (strcmp(diff->types[i].type, type) == 0) {
            return diff->types[i].objects;
        }
    }
    return 0;
}

static int64_t session_objects(const struct diff *diff, const struct heap_session *session)
{
    for (uint32_t i = 0; i < diff->session_count; i++) {
        if (diff->sessions[i].session == heap_session_number(session)) {
            return diff->sessions[i].objects;
        }
    }
    return 0;
}

static void test_mark_tells_growth_by_type_and_maker(void **state)
{
    struct heap *heap = *state;
    struct heap_session *a = heap_session_create(heap), *b = heap_session_create(heap);
    heap_ref before = keep(heap, new_list(heap));
    mark(heap, "one", 1);
    heap_set_creator(heap, a);
    heap_ref list = keep(heap, new_list(heap)), text = keep(heap, new_str(heap, "hello"));
    heap_set_creator(heap, b);
    heap_ref number = keep(heap, new_int(heap, 1000));
    mark(heap, "two", 4);
    heap_ref late = keep(heap, new_int(heap, 2000));

    struct diff d = diff(heap, "one", "two");
    assert_int_equal(d.type_count, 3);
    assert_int_equal(type_objects(&d, "list"), 1);
    assert_int_equal(type_objects(&d, "str"), 1);
    assert_int_equal(type_objects(&d, "int"), 1);
    assert_int_equal(session_objects(&d, a), 2);
    assert_int_equal(session_objects(&d, b), 1);
    diff_fini(&d);

    drop(heap, before);
    drop(heap, text);
    d = diff(heap, "one", NULL);
    assert_int_equal(type_objects(&d, "list"), 0);
    assert_int_equal(type_objects(&d, "str"), 0);
    assert_int_equal(type_objects(&d, "int"), 2);
    assert_int_equal(session_objects(&d, a), 1);
    assert_int_equal(session_objects(&d, b), 2);
    diff_fini(&d);
    d = diff(heap, "two", NULL);
    assert_int_equal(type_objects(&d, "str"), -1);
    assert_int_equal(type_objects(&d, "list"), -1);
    assert_int_equal(d.session_count, 1);
    assert_int_equal(session_objects(&d, b), 1);
    diff_fini(&d);
    d = diff(heap, "two", "one");
    assert_int_equal(type_objects(&d, "int"), -1);
    assert_int_equal(d.session_count, 0);
    diff_fini(&d);
    drop(heap, list);
    drop(heap, number);
    drop(heap, late);
}

/* Bytes are those at the later moment: a list that grew is told with what it has then. */
static void test_mark_counts_bytes_as_they_are(void **state)
{
    struct heap *heap = *state;
    heap_ref list = keep(heap, new_list(heap));
    mark(heap, "a", 1);
    heap_set_creator(heap, heap->sessions);
    heap_ref mine = keep(heap, new_list(heap));
    for (int i = 0; i < 1000; i++) {
        link_to(heap, list, heap->none);
        link_to(heap, mine, heap->none);
    }
    struct diff d = diff(heap, "a", NULL);
    assert_int_equal(d.session_count, 1);
    assert_int_equal(d.sessions[0].objects, 1);
    assert_int_equal(d.sessions[0].bytes, heap_sizeof(heap, mine));
    assert_int_equal(d.types[0].objects, 1);
    assert_true(d.types[0].bytes > d.sessions[0].bytes);
    diff_fini(&d);
    drop(heap, list);
    drop(heap, mine);
}

/* An instance of a class of its own, which dies with it. */
static heap_ref new_instance(struct heap *heap, const char *class_name)
{
    heap_ref class, instance;
    OK(heap_class_create(&class, heap, (struct heap_text){class_name, strlen(class_name)}, NULL, 0));
    OK(heap_instance_create(&instance, heap, class, 0));
    heap_decref(heap, class);
    return instance;
}

/* Classes of one name share a row, and names outlive their classes. */
static void test_mark_counts_classes_by_name(void **state)
{
    enum { CLASSES = 100 };
    struct heap *heap = *state;
    heap_ref twins[2] = {keep(heap, new_instance(heap, "Twin")), keep(heap, new_instance(heap, "Twin"))}, others[CLASSES];
    char name[16];
    for (int i = 0; i < CLASSES; i++) {
        snprintf(name, sizeof name, "C%d", (i * 37) % CLASSES);
        others[i] = keep(heap, new_instance(heap, name));
    }
    mark(heap, "full", 4 + 2 * CLASSES);
    for (int i = 0; i < CLASSES; i++) {
        drop(heap, others[i]);
    }
    drop(heap, twins[0]);
    heap_settle(heap);
    struct diff d = diff(heap, "full", NULL);
    assert_int_equal(d.type_count, CLASSES + 2);
    assert_int_equal(type_objects(&d, "Twin"), -1);
    assert_int_equal(type_objects(&d, "C17"), -1);
    assert_int_equal(type_objects(&d, "type"), -CLASSES - 1);
    diff_fini(&d);
    drop(heap, twins[1]);
}

static void test_mark_replaces_and_refuses(void **state)
{
    struct heap *heap = *state;
    uint64_t objects, bytes;
    char label[16];
    for (int i = 0; i < 16; i++) {
        snprintf(label, sizeof label, "m%d", i);
        mark(heap, label, 0);
    }
    heap_leave(heap);
    assert_int_equal(heap_mark(&objects, &bytes, heap, "more", 4, NULL), HEAP_LIMIT_MARKS);
    heap_enter(heap);
    heap_ref list = keep(heap, new_list(heap));
    mark(heap, "m3", 1);
    struct diff d = diff(heap, "m3", NULL);
    assert_int_equal(d.type_count, 0);
    assert_int_equal(d.session_count, 0);
    diff_fini(&d);
    d = diff(heap, "m4", "m3");
    assert_int_equal(type_objects(&d, "list"), 1);
    diff_fini(&d);
    struct heap_text unknown = {"x", 1}, known = {"m3", 2};
    heap_leave(heap);
    assert_int_equal(heap_diff(&d.types, &d.type_count, &d.sessions, &d.session_count, heap, &unknown, NULL, NULL),
                     HEAP_NO_MARK);
    assert_int_equal(heap_diff(&d.types, &d.type_count, &d.sessions, &d.session_count, heap, &known, &unknown, NULL),
                     HEAP_NO_MARK);
    heap_enter(heap);
    drop(heap, list);
}

/* Sessions that come and go leave nothing behind, however many: cohorts are used again. */
static void test_mark_recycles_cohorts(void **state)
{
    struct heap *heap = *state;
    mark(heap, "start", 0);
    for (int i = 0; i < 5000; i++) {
        struct heap_session *session = heap_session_create(heap);
        heap_set_creator(heap, session);
        heap_ref list = new_list(heap);
        OK(heap_hold(heap, session, list));
        heap_decref(heap, list);
        heap_session_destroy(heap, session);
        heap_settle(heap);
    }
    fixture_check(heap);
    struct diff d = diff(heap, "start", NULL);
    assert_int_equal(d.type_count, 0);
    assert_int_equal(d.session_count, 0);
    diff_fini(&d);
    assert_true(marks_cohorts(heap) < 10);
}

/* Objects made, dropped and cut loose at random by three sessions, beside a count of our own. */
static void test_mark_agrees_with_a_count(void **state)
{
    enum { SESSIONS = 3, OBJECTS = 400, STEPS = 20000 };
    struct heap *heap = *state;
    struct process_random random;
    struct heap_session *sessions[SESSIONS];
    struct {
        heap_ref obj;
        int maker, epoch;
    } made[OBJECTS] = {{0, 0, 0}};
    int epoch = 0;
    process_random_init(&random);
    for (int i = 0; i < SESSIONS; i++) {
        sessions[i] = heap_session_create(heap);
    }
    mark(heap, "first", 0);
    for (int step = 0; step < STEPS; step++) {
        unsigned at = (unsigned)process_random_below(&random, OBJECTS);
        int maker = (int)process_random_below(&random, SESSIONS);
        if (made[at].obj != 0) {
            drop(heap, made[at].obj);
            made[at].obj = 0;
        } else {
            heap_set_creator(heap, sessions[maker]);
            made[at].obj = keep(heap, step % 2 ? new_list(heap) : new_int(heap, 1000 + step));
            made[at].maker = maker;
            made[at].epoch = epoch;
        }
        if (step % 5000 == 4999) {
            uint64_t objects, bytes;
            heap_leave(heap);
            OK(heap_mark(&objects, &bytes, heap, "later", 5, NULL));
            heap_enter(heap);
            epoch++;
        }
        if (step % 1000 == 999) {
            struct diff all = diff(heap, "first", NULL);
            struct diff recent = epoch > 0 ? diff(heap, "later", NULL) : diff(heap, "first", NULL);
            for (int s = 0; s < SESSIONS; s++) {
                int64_t of_all = 0, of_recent = 0;
                for (int i = 0; i < OBJECTS; i++) {
                    bool counts = made[i].obj != 0 && made[i].maker == s;
                    of_all += counts;
                    of_recent += counts && made[i].epoch == epoch;
                }
                assert_int_equal(session_objects(&all, sessions[s]), of_all);
                assert_int_equal(session_objects(&recent, sessions[s]), of_recent);
            }
            diff_fini(&all);
            diff_fini(&recent);
            fixture_check(heap);
        }
    }
    for (int i = 0; i < OBJECTS; i++) {
        if (made[i].obj != 0) {
            drop(heap, made[i].obj);
        }
    }
}

/* Enough objects for several slices of a walk, which live as long as the list. */
static heap_ref keep_many(struct heap *heap)
{
    heap_ref list = keep(heap, new_list(heap));
    for (int i = 0; i < (fixture_is_small() ? 5000 : 300000); i++) {
        OK(heap_list_append_steal(heap, list, new_int(heap, 1000 + i)));
    }
    return list;
}

enum { CHURNED = 500 };

/* A session that has CHURNED lists whenever the GIL is free, and never the same for long. */
struct churn {
    struct heap *heap;
    struct heap_session *session;
    heap_ref lists[CHURNED];
    _Atomic bool ends;
};

static void churn_fill(struct churn *churn, int first, int end)
{
    heap_set_creator(churn->heap, churn->session);
    for (int i = first; i < end; i++) {
        churn->lists[i] = new_list(churn->heap);
        OK(heap_hold(churn->heap, churn->session, churn->lists[i]));
        heap_decref(churn->heap, churn->lists[i]);
    }
}

static void churn_drop(struct churn *churn, int first, int end)
{
    for (int i = first; i < end; i++) {
        OK(heap_unhold(churn->heap, churn->session, churn->lists[i]));
    }
    heap_settle(churn->heap);
}

static void *churn_on(void *arg)
{
    struct churn *churn = arg;
    for (int first = 0; !churn->ends; first = (first + 50) % CHURNED) {
        heap_enter(churn->heap);
        churn_drop(churn, first, first + 50);
        churn_fill(churn, first, first + 50);
        heap_leave(churn->heap);
    }
    return NULL;
}

/* What a walk of several slices counts is all of its first moment, whatever is made and dies meanwhile. */
static void test_mark_counts_one_moment(void **state)
{
    struct heap *heap = *state;
    struct churn churn = {.heap = heap, .session = heap_session_create(heap)};
    pthread_t thread;
    heap_ref many = keep_many(heap);
    uint64_t before = fixture_live(heap);
    mark(heap, "start", before);
    churn_fill(&churn, 0, CHURNED);
    assert_int_equal(pthread_create(&thread, NULL, churn_on, &churn), 0);
    for (int round = fixture_is_small() ? 3 : 20; round > 0; round--) {
        struct diff d = diff(heap, "start", NULL);
        assert_int_equal(d.type_count, 1);
        assert_int_equal(type_objects(&d, "list"), CHURNED);
        assert_int_equal(d.session_count, 1);
        assert_int_equal(session_objects(&d, churn.session), CHURNED);
        assert_int_equal(d.sessions[0].bytes, d.types[0].bytes);
        diff_fini(&d);
        mark(heap, "later", before + CHURNED);
        d = diff(heap, "start", "later");
        assert_int_equal(session_objects(&d, churn.session), CHURNED);
        diff_fini(&d);
    }
    churn.ends = true;
    heap_leave(heap);
    pthread_join(thread, NULL);
    heap_enter(heap);
    churn_drop(&churn, 0, CHURNED);
    drop(heap, many);
}

/* A question that is given up leaves the marks as they were, and no walk behind. */
static void test_mark_can_be_given_up(void **state)
{
    struct heap *heap = *state;
    const _Atomic bool cancel = true;
    struct heap_text start = {"start", 5}, other = {"other", 5};
    struct diff d;
    uint64_t objects, bytes;
    mark(heap, "start", 0);
    heap_ref many = keep_many(heap);
    heap_leave(heap);
    assert_int_equal(heap_mark(&objects, &bytes, heap, "other", 5, &cancel), HEAP_CANCELLED);
    assert_int_equal(heap_mark(&objects, &bytes, heap, "start", 5, &cancel), HEAP_CANCELLED);
    assert_int_equal(heap_diff(&d.types, &d.type_count, &d.sessions, &d.session_count, heap, &start, NULL, &cancel),
                     HEAP_CANCELLED);
    assert_int_equal(heap_diff(&d.types, &d.type_count, &d.sessions, &d.session_count, heap, &other, NULL, NULL),
                     HEAP_NO_MARK);
    heap_enter(heap);
    assert_null(heap->visit);
    d = diff(heap, "start", NULL);
    assert_int_equal(type_objects(&d, "int"), heap_seq_len(heap, many));
    diff_fini(&d);
    drop(heap, many);
}

/* Without address space for the tags there is no mark, and nobody's objects are noted. */
static void test_mark_without_memory(void **state)
{
    struct heap *heap = *state;
    uint64_t objects = 7, bytes = 7, half_bytes = heap->pm.half_bytes;
    heap_ref list = keep(heap, new_list(heap));
    heap->pm.half_bytes = (uint64_t)1 << 60; /* no machine has room for tags of so many */
    heap_leave(heap);
    assert_int_equal(heap_mark(&objects, &bytes, heap, "a", 1, NULL), HEAP_MEMORY);
    heap_enter(heap);
    heap->pm.half_bytes = half_bytes;
    assert_null(heap->marks);
    assert_int_equal(objects, 7);
    assert_int_equal(bytes, 7);
    mark(heap, "a", 1);
    drop(heap, list);
}

static void test_mark_checker_finds_damage(void **state)
{
    struct heap *heap = fixture_heap(); /* one that need not be right at its end */
    (void)state;
    heap_enter(heap);
    mark(heap, "a", 0);
    heap_ref list = keep(heap, new_list(heap));
    FILE *nowhere = fopen("/dev/null", "w");
    assert_non_null(nowhere);
    assert_int_equal(mark_check(heap, nowhere), 0);
    mark_made(heap, list); /* counted twice */
    assert_int_equal(mark_check(heap, nowhere), 1);
    mark_died(heap, list); /* counted once, and without a tag */
    assert_int_equal(mark_check(heap, nowhere), 1);
    fclose(nowhere);
    drop(heap, list);
    heap_session_destroy(heap, heap->sessions);
    heap_settle(heap);
    heap_leave(heap);
    heap_destroy(heap);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_mark_tells_growth_by_type_and_maker),
        TEST(test_mark_counts_bytes_as_they_are),
        TEST(test_mark_counts_classes_by_name),
        TEST(test_mark_replaces_and_refuses),
        TEST(test_mark_recycles_cohorts),
        TEST(test_mark_agrees_with_a_count),
        TEST(test_mark_counts_one_moment),
        TEST(test_mark_can_be_given_up),
        TEST(test_mark_without_memory),
        TEST(test_mark_checker_finds_damage),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
