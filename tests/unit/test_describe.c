/* test_describe.c -- objects and edges in words: Python's repr of atoms, tuples, cuts, names of edges. */
#include "heap_fixture.h"

#include <math.h>

static const char *repr(struct heap *heap, heap_ref obj)
{
    static char text[400];
    size_t len = heap_repr(text, sizeof text, heap, obj);
    assert_int_equal(len, strlen(text));
    return text;
}

static void expect_float(struct heap *heap, double value, const char *expected)
{
    heap_ref obj;
    OK(heap_float_create(&obj, heap, value));
    assert_string_equal(repr(heap, obj), expected);
    heap_decref(heap, obj);
}

static void expect_str(struct heap *heap, const char *value, const char *expected)
{
    heap_ref obj = new_str(heap, value);
    assert_string_equal(repr(heap, obj), expected);
    heap_decref(heap, obj);
}

static void test_describe_tells_atoms_as_python(void **state)
{
    struct heap *heap = *state;
    assert_string_equal(repr(heap, heap_none(heap)), "None");
    assert_string_equal(repr(heap, heap_bool(heap, true)), "True");
    assert_string_equal(repr(heap, heap_bool(heap, false)), "False");
    heap_ref obj = new_int(heap, -12345678901);
    assert_string_equal(repr(heap, obj), "-12345678901");
    heap_decref(heap, obj);
    const char *digits = "-100000000000000000000000000000000000000001";
    OK(heap_int_parse(&obj, heap, digits, strlen(digits)));
    assert_string_equal(repr(heap, obj), digits);
    heap_decref(heap, obj);
    OK(heap_bytes_create(&obj, heap, "a\0\xFF'\"\\\n~", 8));
    assert_string_equal(repr(heap, obj), "b'a\\x00\\xff\\'\"\\\\\\n~'");
    heap_decref(heap, obj);
}

static void test_describe_prints_floats_as_python(void **state)
{
    static const struct {
        double value;
        const char *text;
    } cases[] = {
        {0.0, "0.0"},
        {-0.0, "-0.0"},
        {1.0, "1.0"},
        {1.1, "1.1"},
        {-2.5, "-2.5"},
        {0.1, "0.1"},
        {0.30000000000000004, "0.30000000000000004"},
        {1.0 / 3, "0.3333333333333333"},
        {100.0, "100.0"},
        {123456.75, "123456.75"},
        {1e15, "1000000000000000.0"},
        {1e16, "1e+16"},
        {12345678901234567.0, "1.2345678901234568e+16"},
        {1234567890123456.0, "1234567890123456.0"},
        {0.0001, "0.0001"},
        {0.00012345, "0.00012345"},
        {0.00001, "1e-05"},
        {1.5e-7, "1.5e-07"},
        {1e100, "1e+100"},
        {1.7976931348623157e308, "1.7976931348623157e+308"},
        {2.2250738585072014e-308, "2.2250738585072014e-308"},
        {5e-324, "5e-324"},
        {1.5e-323, "1.5e-323"},
        {INFINITY, "inf"},
        {-INFINITY, "-inf"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        expect_float(*state, cases[i].value, cases[i].text);
    }
    expect_float(*state, NAN, "nan");
}

static void test_describe_quotes_str_as_python(void **state)
{
    struct heap *heap = *state;
    expect_str(heap, "key", "'key'");
    expect_str(heap, "", "''");
    expect_str(heap, "it's", "\"it's\"");
    expect_str(heap, "\"'", "'\"\\''");
    expect_str(heap, "say \"a\"", "'say \"a\"'");
    expect_str(heap, "a\nb\tc\rd\\e", "'a\\nb\\tc\\rd\\\\e'");
    expect_str(heap, "\x01\x7f", "'\\x01\\x7f'");
    expect_str(heap, "\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80", "'\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80'");
    expect_str(heap, "\xC2\xA0\xC2\xAD\xE2\x80\xA8\xEE\x80\x80\xF4\x8F\xBF\xBF",
               "'\\xa0\\xad\\u2028\\ue000\\U0010ffff'");
}

static heap_ref tuple_of(struct heap *heap, heap_ref a, heap_ref b)
{
    heap_ref items[2] = {a, b}, tuple;
    OK(heap_tuple_create_steal(&tuple, heap, items, b != 0 ? 2 : 1));
    return tuple;
}

static void test_describe_spells_tuples(void **state)
{
    struct heap *heap = *state;
    assert_string_equal(repr(heap, heap_empty_tuple(heap)), "()");
    heap_ref tuple = tuple_of(heap, new_int(heap, 1), 0);
    assert_string_equal(repr(heap, tuple), "(1,)");
    tuple = tuple_of(heap, tuple, new_str(heap, "two"));
    assert_string_equal(repr(heap, tuple), "((1,), 'two')");
    tuple = tuple_of(heap, tuple, new_list(heap));
    uint64_t id;
    OK(heap_id(&id, heap, heap_seq_item(heap, tuple, 1)));
    char expected[100];
    snprintf(expected, sizeof expected, "(((1,), 'two'), <list %d len 0>)", (int)id);
    assert_string_equal(repr(heap, tuple), expected);
    tuple = tuple_of(heap, tuple_of(heap, tuple, 0), 0);
    assert_string_equal(repr(heap, tuple), "(((((...), 'two'), <list 1 len 0>),),)");
    heap_decref(heap, tuple);
}

static void test_describe_does_not_follow_deep_tuples(void **state)
{
    struct heap *heap = *state;
    heap_ref tuple = heap_empty_tuple(heap);
    for (unsigned i = 0; i < 100000; i++) {
        tuple = tuple_of(heap, tuple, 0);
    }
    assert_string_equal(repr(heap, tuple), "(((((...),),),),)");
    heap_decref(heap, tuple);
}

static void test_describe_tells_containers_by_id(void **state)
{
    struct heap *heap = *state;
    heap_ref list = new_list(heap), dict, set, class, instance, weakref;
    OK(heap_list_append_steal(heap, list, heap_none(heap)));
    assert_string_equal(repr(heap, list), "<list 1 len 1>");
    OK(heap_dict_create(&dict, heap, 0));
    OK(heap_dict_set_steal(heap, dict, new_str(heap, "k"), new_int(heap, 1)));
    assert_string_equal(repr(heap, dict), "<dict 2 len 1>");
    OK(heap_set_create(&set, heap, true, 0));
    assert_string_equal(repr(heap, set), "<frozenset 3 len 0>");
    OK(heap_class_create(&class, heap, (struct heap_text){"Point", 5}, NULL, 0));
    assert_string_equal(repr(heap, class), "<class Point 4>");
    OK(heap_instance_create(&instance, heap, class, 0));
    assert_string_equal(repr(heap, instance), "<Point 5>");
    OK(heap_weakref_shared(&weakref, heap, list));
    assert_string_equal(repr(heap, weakref), "<weakref 6>");
    heap_decref(heap, list);
    heap_settle(heap);
    assert_string_equal(repr(heap, weakref), "<weakref 6 dead>");
    heap_decref(heap, dict);
    heap_decref(heap, set);
    heap_decref(heap, class);
    heap_decref(heap, instance);
    heap_decref(heap, weakref);
}

static void test_describe_cuts_behind_a_character(void **state)
{
    struct heap *heap = *state;
    heap_ref obj = new_str(heap, "ab\xC3\xA9\xC3\xA9\n67890123456789");
    char text[32];
    static const struct {
        size_t size;
        const char *text;
    } cases[] = {{4, "..."},
                 {5, "'..."},
                 {6, "'a..."},
                 {8, "'ab..."},
                 {9, "'ab\xC3\xA9..."},
                 {10, "'ab\xC3\xA9..."},
                 {12, "'ab\xC3\xA9\xC3\xA9..."},
                 {13, "'ab\xC3\xA9\xC3\xA9\\n..."},
                 {14, "'ab\xC3\xA9\xC3\xA9\\n6..."}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        memset(text, 'x', sizeof text);
        assert_int_equal(heap_repr(text, cases[i].size, heap, obj), strlen(cases[i].text));
        assert_string_equal(text, cases[i].text);
        assert_int_equal(text[cases[i].size], 'x');
    }
    heap_decref(heap, obj);
    heap_ref items[100], tuple;
    for (unsigned i = 0; i < 100; i++) {
        items[i] = new_int(heap, 1);
    }
    OK(heap_tuple_create_steal(&tuple, heap, items, 100));
    const char *told = repr(heap, tuple);
    assert_string_equal(told + strlen(told) - 11, " 1, 1, ...)");
    heap_decref(heap, tuple);
}

/* ---- edges ---- */

static void expect_edge(struct heap *heap, heap_ref from, heap_ref to, const char *expected)
{
    char text[HEAP_EDGE_BYTES];
    assert_true(heap_edge_name(text, heap, from, to));
    assert_string_equal(text, expected);
}

static void test_describe_names_edges_of_sequences_and_sets(void **state)
{
    struct heap *heap = *state;
    heap_ref list = new_list(heap), x = new_str(heap, "the x"), y = new_str(heap, "the y"), set;
    char text[HEAP_EDGE_BYTES];
    for (unsigned i = 0; i < 3; i++) {
        OK(heap_list_append_steal(heap, list, heap_none(heap)));
    }
    assert_false(heap_edge_name(text, heap, list, x));
    link_to(heap, list, x);
    link_to(heap, list, y);
    link_to(heap, list, x);
    expect_edge(heap, list, x, "[3]");
    expect_edge(heap, list, y, "[4]");
    expect_edge(heap, list, heap_none(heap), "[0]");
    OK(heap_set_create(&set, heap, false, 0));
    bool added;
    OK(heap_set_add_steal(&added, heap, set, x)); /* gives away the reference of x */
    expect_edge(heap, set, x, "{}");
    assert_false(heap_edge_name(text, heap, set, y));
    assert_false(heap_edge_name(text, heap, x, y));
    heap_ref tuple = tuple_of(heap, list, y);
    expect_edge(heap, tuple, list, "[0]");
    expect_edge(heap, tuple, y, "[1]");
    heap_decref(heap, tuple);
    heap_decref(heap, set);
}

static void test_describe_names_edges_of_dicts(void **state)
{
    struct heap *heap = *state;
    heap_ref dict, value = new_list(heap), key = tuple_of(heap, new_int(heap, 1), new_int(heap, 2));
    char text[HEAP_EDGE_BYTES];
    OK(heap_dict_create(&dict, heap, 0));
    assert_false(heap_edge_name(text, heap, dict, value));
    OK(heap_incref(heap, key));
    OK(heap_dict_set_steal(heap, dict, key, new_str(heap, "other")));
    expect_edge(heap, dict, key, "{}");
    OK(heap_incref(heap, value));
    OK(heap_dict_set_steal(heap, dict, new_str(heap, "it's"), value));
    expect_edge(heap, dict, value, "[\"it's\"]");
    heap_ref other;
    OK(heap_dict_get(&other, heap, dict, key));
    expect_edge(heap, dict, other, "[(1, 2)]");
    OK(heap_incref(heap, key)); /* as a value it is told by its key, though it is a key before */
    OK(heap_dict_set_steal(heap, dict, new_int(heap, 1000), key));
    expect_edge(heap, dict, key, "[1000]");
    char name[HEAP_EDGE_BYTES + 100];
    memset(name, 'a', sizeof name);
    name[sizeof name - 1] = '\0';
    heap_ref deep = new_list(heap);
    OK(heap_incref(heap, deep));
    OK(heap_dict_set_steal(heap, dict, new_str(heap, name), deep));
    assert_true(heap_edge_name(text, heap, dict, deep));
    assert_true(strlen(text) < HEAP_EDGE_BYTES);
    assert_string_equal(text + strlen(text) - 5, "a...]");
    heap_decref(heap, deep);
    heap_decref(heap, dict);
    heap_decref(heap, key);
    heap_decref(heap, value);
}

/* A frozenset with these members, which it takes; `second` may be 0. */
static heap_ref frozenset_of(struct heap *heap, heap_ref first, heap_ref second)
{
    heap_ref set;
    bool added;
    OK(heap_set_create(&set, heap, true, 0));
    OK(heap_set_add_steal(&added, heap, set, first));
    if (second != 0) {
        OK(heap_set_add_steal(&added, heap, set, second));
    }
    return set;
}

static void test_describe_spells_frozensets_in_keys(void **state)
{
    struct heap *heap = *state;
    heap_ref dict, empty, value;
    OK(heap_dict_create(&dict, heap, 0));
    OK(heap_set_create(&empty, heap, true, 0));
    heap_ref two = frozenset_of(heap, new_int(heap, 1000), new_str(heap, "b"));
    heap_ref keys[] = {empty, tuple_of(heap, frozenset_of(heap, two, 0), 0),
                       frozenset_of(heap, tuple_of(heap, new_int(heap, 7), 0), 0)};
    const char *names[] = {"[frozenset()]", "[(frozenset({frozenset({1000, 'b'})}),)]",
                           "[frozenset({(7,)})]"};
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        value = new_list(heap);
        OK(heap_dict_set_steal(heap, dict, keys[i], value));
        expect_edge(heap, dict, value, names[i]);
    }
    heap_decref(heap, dict);
}

static void test_describe_names_edges_of_instances(void **state)
{
    struct heap *heap = *state;
    heap_ref class, instance, x = new_list(heap);
    char text[HEAP_EDGE_BYTES];
    OK(heap_class_create(&class, heap, (struct heap_text){"Point", 5}, NULL, 0));
    OK(heap_instance_create(&instance, heap, class, 0));
    assert_false(heap_edge_name(text, heap, instance, x));
    expect_edge(heap, instance, class, ".__class__");
    OK(heap_attr_set_steal(heap, instance, "first", 5, heap_none(heap)));
    OK(heap_attr_set_steal(heap, instance, "x", 1, x));
    expect_edge(heap, instance, x, ".x");
    char longest[257] = "."; /* a name of 255 bytes behind the dot */
    char *name = longest + 1;
    memset(name, 'n', 255 - 1);
    name[254] = 'z';
    heap_ref last = new_list(heap);
    OK(heap_attr_set_steal(heap, instance, name, 255, last));
    expect_edge(heap, instance, last, longest);
    heap_decref(heap, instance);
    heap_decref(heap, class);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_describe_tells_atoms_as_python),
        TEST(test_describe_prints_floats_as_python),
        TEST(test_describe_quotes_str_as_python),
        TEST(test_describe_spells_tuples),
        TEST(test_describe_does_not_follow_deep_tuples),
        TEST(test_describe_tells_containers_by_id),
        TEST(test_describe_cuts_behind_a_character),
        TEST(test_describe_names_edges_of_sequences_and_sets),
        TEST(test_describe_names_edges_of_dicts),
        TEST(test_describe_spells_frozensets_in_keys),
        TEST(test_describe_names_edges_of_instances),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
