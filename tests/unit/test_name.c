/* test_name.c -- the global namespace: binding, order, prefixes, limits, and its checker. */
#include "heap_fixture.h"

#include <stdlib.h>

#include "../support/process.h"

/* ---- helpers ---- */

static void bind(struct heap *heap, const char *name, heap_ref obj)
{
    OK(heap_name_bind(heap, name, strlen(name), obj));
}

/* Binds to a new object, which the name alone keeps. */
static heap_ref bind_new(struct heap *heap, const char *name, size_t len)
{
    heap_ref list = new_list(heap);
    OK(heap_name_bind(heap, name, len, list));
    heap_decref(heap, list);
    return list;
}

static void unbind(struct heap *heap, const char *name)
{
    OK(heap_name_unbind(heap, name, strlen(name)));
}

static heap_ref find(struct heap *heap, const char *name)
{
    return heap_name_find(heap, name, strlen(name));
}

static uint64_t count(struct heap *heap)
{
    return counter_read(&heap->name_count);
}

/* Demands that a listing gives exactly these names, ended by NULL. */
static void assert_names(struct heap *heap, const char *prefix, const char *after,
                         const char *const expected[])
{
    const char *name = after;
    size_t len = strlen(after);
    heap_ref obj;
    for (size_t i = 0; expected[i] != NULL; i++) {
        assert_true(heap_name_next(heap, prefix, strlen(prefix), name, len, &name, &len, &obj));
        assert_int_equal(len, strlen(expected[i]));
        assert_memory_equal(name, expected[i], len);
        assert_int_equal(obj, find(heap, expected[i]));
    }
    assert_false(heap_name_next(heap, prefix, strlen(prefix), name, len, &name, &len, &obj));
}

/* ---- binding ---- */

static void test_name_owns_a_reference(void **state)
{
    struct heap *heap = *state;
    heap_ref list = new_list(heap);
    bind(heap, "a", list);
    bind(heap, "b", list);
    assert_int_equal(heap_refcount(heap, list), 3);
    assert_int_equal(handle_roots(heap, handle_slot_if_any(heap, list)), 2);
    assert_int_equal(find(heap, "a"), list);
    assert_int_equal(find(heap, "c"), 0);
    assert_int_equal(find(heap, ""), 0);
    heap_decref(heap, list);
    fixture_check(heap);
    unbind(heap, "a");
    assert_int_equal(heap_settle(heap), 0);
    assert_int_equal(heap_name_unbind(heap, "a", 1), HEAP_NAME);
    assert_int_equal(count(heap), 1);
    unbind(heap, "b");
    assert_int_equal(heap_settle(heap), 1);
    assert_int_equal(count(heap), 0);
}

static void test_name_rebound_lets_the_old_object_go_last(void **state)
{
    struct heap *heap = *state;
    heap_ref one = bind_new(heap, "x", 1);
    bind(heap, "x", one); /* to itself: it must not die in between */
    assert_int_equal(heap_refcount(heap, one), 1);
    assert_int_equal(heap_settle(heap), 0);
    heap_ref outer = new_list(heap);
    link_to(heap, outer, one);
    bind(heap, "x", outer);
    heap_decref(heap, outer);
    assert_int_equal(heap_refcount(heap, one), 1);
    heap_decref(heap, heap_list_pop(heap, outer, 0)); /* now only a number remembers it */
    bind(heap, "x", heap_none(heap));
    assert_int_equal(heap_settle(heap), 2);
    assert_int_equal(find(heap, "x"), heap_none(heap));
    assert_int_equal(count(heap), 1);
    fixture_check(heap);
    unbind(heap, "x");
}

static void test_name_length_is_limited(void **state)
{
    struct heap *heap = *state;
    char name[HEAP_NAME_BYTES_MAX + 1];
    memset(name, 'n', sizeof name);
    heap_ref none = heap_none(heap);
    assert_int_equal(heap_name_bind(heap, "", 0, none), HEAP_BAD_NAME);
    assert_int_equal(heap_name_bind(heap, name, HEAP_NAME_BYTES_MAX + 1, none), HEAP_BAD_NAME);
    OK(heap_name_bind(heap, name, HEAP_NAME_BYTES_MAX, none));
    OK(heap_name_bind(heap, name, HEAP_NAME_BYTES_MAX - 1, none));
    assert_int_equal(heap_name_find(heap, name, HEAP_NAME_BYTES_MAX), none);
    assert_int_equal(heap_name_find(heap, name, HEAP_NAME_BYTES_MAX + 1), 0);
    assert_int_equal(heap_name_find(heap, name, HEAP_NAME_BYTES_MAX - 2), 0);
    assert_int_equal(heap_name_unbind(heap, name, HEAP_NAME_BYTES_MAX + 1), HEAP_NAME);
    fixture_check(heap);
    OK(heap_name_unbind(heap, name, HEAP_NAME_BYTES_MAX));
    OK(heap_name_unbind(heap, name, HEAP_NAME_BYTES_MAX - 1));
    assert_int_equal(heap_name_unbind(heap, "", 0), HEAP_NAME);
}

static void test_name_limits_leave_everything_as_it_was(void **state)
{
    struct heap *heap = *state;
    heap_set_limits(heap, &(struct heap_limits){.max_names = 2});
    bind(heap, "a", heap_none(heap));
    bind(heap, "b", heap_none(heap));
    heap_ref list = new_list(heap);
    assert_int_equal(heap_name_bind(heap, "c", 1, list), HEAP_LIMIT_NAMES);
    assert_int_equal(heap_refcount(heap, list), 1);
    bind(heap, "b", list); /* rebinding makes no name */
    unbind(heap, "a");
    bind(heap, "c", list);
    heap_decref(heap, list);
    object_at(heap, list)->refcount = REFCOUNT_MAX;
    assert_int_equal(heap_name_bind(heap, "b", 1, list), HEAP_LIMIT_REFS);
    object_at(heap, list)->refcount = 2;
    fixture_check(heap);
    unbind(heap, "b");
    unbind(heap, "c");
}

static void test_name_without_memory_is_not_bound(void **state)
{
    struct heap *heap = *state;
    bind_new(heap, "a", 1);
    heap_set_limits(heap, &(struct heap_limits){.max_bytes = 1});
    assert_int_equal(heap_name_bind(heap, "b", 1, heap_none(heap)), HEAP_MEMORY);
    assert_int_equal(heap_name_bind(heap, "b", 1, find(heap, "a")), HEAP_MEMORY);
    assert_int_equal(heap_refcount(heap, find(heap, "a")), 1);
    assert_int_equal(count(heap), 1);
    fixture_check(heap);
    heap_set_limits(heap, &(struct heap_limits){0});
    unbind(heap, "a");
}

#if HEAP_DEBUG >= 1
static void test_name_any_request_for_memory_may_fail(void **state)
{
    struct heap *heap = *state;
    for (int names = 0; names < 3; names++) {
        heap_ref list = new_list(heap);
        char name = (char)('a' + names);
        enum heap_error error = HEAP_MEMORY;
        for (uint64_t n = 1; error != HEAP_OK; n++) {
            assert_int_equal(count(heap), names);
            assert_int_equal(heap_refcount(heap, list), 1);
            pymalloc_trim(&heap->pm);
            heap->pm.fail_after = n;
            error = heap_name_bind(heap, &name, 1, list);
            heap->pm.fail_after = 0;
            assert_int_equal(name_check(heap, stderr), 0);
        }
        heap_decref(heap, list);
    }
    fixture_check(heap);
    unbind(heap, "a");
    unbind(heap, "b");
    unbind(heap, "c");
}
#endif

/* ---- order ---- */

static void test_name_listing_is_in_byte_order(void **state)
{
    struct heap *heap = *state;
    static const char *const names[] = {
        "b", "a", "ab", "abc", "ac", "B", "\xC3\xA9", "\xE2\x82\xAC", "zz", "z", "\xF0\x9F\x98\x80",
        "~", " "};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        bind(heap, names[i], heap_none(heap));
    }
    assert_names(heap, "", "",
                 (const char *const[]){" ", "B", "a", "ab", "abc", "ac", "b", "z", "zz", "~", "\xC3\xA9",
                                       "\xE2\x82\xAC", "\xF0\x9F\x98\x80", NULL});
    assert_names(heap, "a", "", (const char *const[]){"a", "ab", "abc", "ac", NULL});
    assert_names(heap, "ab", "", (const char *const[]){"ab", "abc", NULL});
    assert_names(heap, "abcd", "", (const char *const[]){NULL});
    assert_names(heap, "a", "ab", (const char *const[]){"abc", "ac", NULL});
    assert_names(heap, "a", "abb", (const char *const[]){"abc", "ac", NULL}); /* one that is not bound */
    assert_names(heap, "a", "A", (const char *const[]){"a", "ab", "abc", "ac", NULL});
    assert_names(heap, "a", "b", (const char *const[]){NULL});
    assert_names(heap, "", "zz",
                 (const char *const[]){"~", "\xC3\xA9", "\xE2\x82\xAC", "\xF0\x9F\x98\x80", NULL});
    assert_names(heap, "", "\xF0\x9F\x98\x80", (const char *const[]){NULL});
    assert_names(heap, "q", "", (const char *const[]){NULL});
    fixture_check(heap);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        unbind(heap, names[i]);
    }
    assert_names(heap, "", "", (const char *const[]){NULL});
}

static void test_name_may_contain_nul(void **state)
{
    struct heap *heap = *state;
    static const struct {
        const char *text;
        size_t len;
    } names[] = {{"\0", 1}, {"\0\0", 2}, {"\0\0\0", 3}, {"a", 1}, {"a\0", 2}, {"a\0b", 3}, {"a\1", 2}};
    enum { N = sizeof names / sizeof *names };
    heap_ref objects[N];
    for (size_t i = 0; i < N; i++) {
        size_t n = (i * 3 + 1) % N; /* in another order */
        objects[n] = bind_new(heap, names[n].text, names[n].len);
    }
    const char *name = NULL;
    size_t len = 0;
    heap_ref obj;
    for (size_t i = 0; i < N; i++) {
        assert_int_equal(heap_name_find(heap, names[i].text, names[i].len), objects[i]);
        assert_true(heap_name_next(heap, "", 0, name, len, &name, &len, &obj));
        assert_int_equal(len, names[i].len);
        assert_memory_equal(name, names[i].text, len);
        assert_int_equal(obj, objects[i]);
    }
    assert_false(heap_name_next(heap, "", 0, name, len, &name, &len, &obj));
    fixture_check(heap);
    for (size_t i = 0; i < N; i++) {
        OK(heap_name_unbind(heap, names[i].text, names[i].len));
    }
}

/* ---- many ---- */

struct name_text {
    char bytes[12];
    uint32_t len;
    bool bound;
};

static int compare_texts(const void *a, const void *b)
{
    const struct name_text *x = a, *y = b;
    uint32_t shorter = x->len < y->len ? x->len : y->len;
    int order = memcmp(x->bytes, y->bytes, shorter);
    return order != 0 ? order : (x->len > y->len) - (x->len < y->len);
}

/* Random texts over few letters, sorted, without repeats; returns how many. */
static uint32_t make_texts(struct name_text *texts, uint32_t n, struct process_random *random)
{
    for (uint32_t i = 0; i < n; i++) {
        texts[i] = (struct name_text){.len = 1 + process_random_below(random, 11)};
        for (uint32_t b = 0; b < texts[i].len; b++) {
            texts[i].bytes[b] = "\0ab\x7F\xC3\xFF"[process_random_below(random, 6)];
        }
    }
    qsort(texts, n, sizeof *texts, compare_texts);
    uint32_t kept = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (kept == 0 || compare_texts(&texts[kept - 1], &texts[i]) != 0) {
            texts[kept++] = texts[i];
        }
    }
    return kept;
}

static void compare_listing(struct heap *heap, const struct name_text *texts, uint32_t n,
                            struct process_random *random)
{
    const struct name_text *prefix = &texts[process_random_below(random, n)];
    uint32_t prefix_len = process_random_below(random, 4) % (prefix->len + 1);
    const struct name_text *start = &texts[process_random_below(random, n)]; /* bound or not */
    const char *name = start->bytes;
    size_t len = start->len;
    heap_ref obj;
    for (uint32_t i = 0; i < n; i++) {
        const struct name_text *t = &texts[i];
        bool listed = t->bound && compare_texts(t, start) > 0 && t->len >= prefix_len &&
                      memcmp(t->bytes, prefix->bytes, prefix_len) == 0;
        if (listed) {
            assert_true(heap_name_next(heap, prefix->bytes, prefix_len, name, len, &name, &len, &obj));
            assert_int_equal(len, t->len);
            assert_memory_equal(name, t->bytes, len);
        }
    }
    assert_false(heap_name_next(heap, prefix->bytes, prefix_len, name, len, &name, &len, &obj));
}

static void test_name_many_behave_as_a_sorted_list(void **state)
{
    struct heap *heap = *state;
    struct process_random random;
    process_random_init(&random);
    enum { N = 3000 };
    struct name_text *texts = malloc(N * sizeof *texts);
    for (int round = 0; round < process_rounds(4, 20); round++) {
        uint32_t n = make_texts(texts, round == 0 ? 5 : N, &random), bound = 0;
        for (uint32_t step = 0; step < 4 * n; step++) {
            struct name_text *t = &texts[process_random_below(&random, n)];
            assert_int_equal(heap_name_find(heap, t->bytes, t->len) != 0, t->bound);
            if (process_random_below(&random, 5) < (step < 2 * n ? 1u : 3u)) {
                assert_int_equal(heap_name_unbind(heap, t->bytes, t->len), t->bound ? HEAP_OK : HEAP_NAME);
                bound -= t->bound;
                t->bound = false;
            } else {
                bind_new(heap, t->bytes, t->len);
                bound += !t->bound;
                t->bound = true;
            }
            if (process_random_below(&random, n) < 5) {
                assert_int_equal(count(heap), bound);
                compare_listing(heap, texts, n, &random);
                fixture_check(heap);
            }
        }
        for (uint32_t i = 0; i < n; i++) {
            if (texts[i].bound) {
                OK(heap_name_unbind(heap, texts[i].bytes, texts[i].len));
            }
        }
    }
    free(texts);
}

/* Names each the beginning of the next make a path as long as there are names; ending the heap needs no
 * stack. */
static void test_name_long_path_is_freed(void **state)
{
    (void)state;
    struct heap *heap = fixture_heap();
    heap_enter(heap);
    char name[HEAP_NAME_BYTES_MAX];
    memset(name, 'p', sizeof name);
    for (size_t len = 1; len <= sizeof name; len++) {
        OK(heap_name_bind(heap, name, len, heap_none(heap)));
        name[len - 1] = 'q'; /* and one that branches off to the other side */
        OK(heap_name_bind(heap, name, len, heap_none(heap)));
        name[len - 1] = 'p';
    }
    fixture_check(heap);
    heap_leave(heap);
    heap_destroy(heap); /* bound names are no leak */
}

/* ---- the names of an object ---- */

/* What heap_names_of() says, each name with a space behind it. */
struct said {
    char text[1024];
    size_t len;
};

static void say(void *arg, const char *name, size_t len)
{
    struct said *said = arg;
    assert_true(said->len + len + 2 <= sizeof said->text);
    memcpy(said->text + said->len, name, len);
    said->len += len;
    said->text[said->len++] = ' ';
}

static void assert_names_of(struct heap *heap, heap_ref obj, const char *expected)
{
    struct said said = {.len = 0};
    heap_names_of(heap, obj, say, &said);
    said.text[said.len] = '\0';
    assert_string_equal(said.text, expected);
}

static void test_name_names_of_an_object_are_told_in_the_order_of_binding(void **state)
{
    struct heap *heap = *state;
    heap_ref list = new_list(heap);
    assert_names_of(heap, list, "");
    bind(heap, "a", list);
    bind(heap, "b", list);
    bind(heap, "c", list);
    heap_ref other = bind_new(heap, "z", 1);
    heap_decref(heap, list);
    assert_names_of(heap, list, "a b c ");
    bind(heap, "b", list); /* to what it was bound to: nothing changes */
    assert_names_of(heap, list, "a b c ");
    unbind(heap, "b"); /* from the middle, */
    assert_names_of(heap, list, "a c ");
    bind(heap, "c", other); /* from the end, */
    assert_names_of(heap, list, "a ");
    assert_names_of(heap, other, "z c ");
    unbind(heap, "z"); /* and from the front */
    assert_names_of(heap, other, "c ");
    bind(heap, "none", heap_none(heap));
    assert_names_of(heap, heap_none(heap), "none ");
    fixture_check(heap);
    unbind(heap, "none");
    assert_names_of(heap, heap_none(heap), "");
    unbind(heap, "a");
    unbind(heap, "c");
}

static void count_row(void *arg, const char *name, size_t len)
{
    (void)name;
    (void)len;
    ++*(int *)arg;
}

/* Names that go from object to object, as they come: each object's list is what a model says. */
static void test_name_lists_follow_random_changes(void **state)
{
    enum { NAMES = 40, OBJECTS = 5, STEPS = 4000 };
    struct heap *heap = *state;
    struct process_random random;
    process_random_init(&random);
    heap_ref objects[OBJECTS];
    int bound[NAMES]; /* number of the object; -1: none */
    for (int i = 0; i < OBJECTS; i++) {
        objects[i] = keep(heap, new_list(heap));
    }
    memset(bound, -1, sizeof bound);
    for (int step = 0; step < STEPS; step++) {
        int n = (int)process_random_below(&random, NAMES), object = (int)process_random_below(&random, OBJECTS);
        char name = (char)(' ' + n);
        if (process_random_below(&random, 3) == 0) {
            assert_int_equal(heap_name_unbind(heap, &name, 1), bound[n] < 0 ? HEAP_NAME : HEAP_OK);
            bound[n] = -1;
        } else {
            OK(heap_name_bind(heap, &name, 1, objects[object]));
            bound[n] = object;
        }
        int names[OBJECTS] = {0}, expected = 0;
        for (int i = 0; i < NAMES; i++) {
            expected += bound[i] == object;
        }
        heap_names_of(heap, objects[object], count_row, &names[object]);
        assert_int_equal(names[object], expected);
        if (step % 500 == 0) {
            assert_int_equal(name_check(heap, stderr), 0);
        }
    }
    for (int i = 0; i < NAMES; i++) {
        char name = (char)(' ' + i);
        assert_int_equal(heap_name_unbind(heap, &name, 1), bound[i] < 0 ? HEAP_NAME : HEAP_OK);
    }
}

/* ---- the checker ---- */

static void test_name_checker_finds_damage(void **state)
{
    struct heap *heap = *state;
    FILE *nowhere = fopen("/dev/null", "w");
    assert_non_null(nowhere);
    for (char name = 'a'; name <= 'z'; name++) {
        bind_new(heap, &name, 1);
    }
    assert_int_equal(name_check(heap, stderr), 0);
    counter_add(&heap->name_count, 1);
    assert_int_not_equal(name_check(heap, nowhere), 0);
    counter_sub(&heap->name_count, 2);
    assert_int_not_equal(name_check(heap, nowhere), 0);
    counter_add(&heap->name_count, 1);

    const char *text;
    size_t len;
    heap_ref obj;
    assert_true(heap_name_next(heap, "k", 1, NULL, 0, &text, &len, &obj));
    struct container *c = (struct container *)object_at(heap, obj);
    c->handle++; /* the object goes by another id than its name knows */
    assert_int_not_equal(name_check(heap, nowhere), 0);
    c->handle--;
    union {
        const char *constant;
        char *changed;
    } cast = {.constant = text};
    *cast.changed = 'b'; /* a name in the wrong place */
    assert_int_not_equal(name_check(heap, nowhere), 0);
    *cast.changed = 'k';
    assert_int_equal(name_check(heap, stderr), 0);

    /* In front of the text lie the links to its object's newer and older names. */
    char *links[2], *wrong[2];
    memcpy(links, cast.changed - sizeof links, sizeof links);
    assert_null(links[0]);
    assert_null(links[1]);
    wrong[0] = wrong[1] = cast.changed - 32; /* the name itself */
    memcpy(cast.changed - sizeof wrong, wrong, sizeof wrong);
    assert_int_not_equal(name_check(heap, nowhere), 0);
    memcpy(cast.changed - sizeof links, links, sizeof links);
    assert_int_equal(name_check(heap, stderr), 0);
    fclose(nowhere);
    for (char name = 'a'; name <= 'z'; name++) {
        OK(heap_name_unbind(heap, &name, 1));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_name_owns_a_reference),
        TEST(test_name_rebound_lets_the_old_object_go_last),
        TEST(test_name_length_is_limited),
        TEST(test_name_limits_leave_everything_as_it_was),
        TEST(test_name_without_memory_is_not_bound),
#if HEAP_DEBUG >= 1
        TEST(test_name_any_request_for_memory_may_fail),
#endif
        TEST(test_name_listing_is_in_byte_order),
        TEST(test_name_may_contain_nul),
        TEST(test_name_many_behave_as_a_sorted_list),
        cmocka_unit_test(test_name_long_path_is_freed),
        TEST(test_name_names_of_an_object_are_told_in_the_order_of_binding),
        TEST(test_name_lists_follow_random_changes),
        TEST(test_name_checker_finds_damage),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
