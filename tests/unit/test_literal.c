/* test_literal.c -- literals to objects and back. */
#include "literal_fixture.h"

#include <math.h>

#include "../../protocol/base64.h"

static char *written_let(struct heap *heap, heap_ref obj)
{
    return written_as(heap, obj,
                      (struct literal_format){.depth = -1, .max_nesting = NESTING, .shared_let = true});
}

/* Reads one text and expects to write another. */
static void expect_text(struct heap *heap, const char *in, const char *expected)
{
    heap_ref obj = must_read(heap, in);
    char *text = written(heap, obj);
    assert_string_equal(text, expected);
    free(text);
    heap_decref(heap, obj);
}

static void expect_let(struct heap *heap, const char *in, const char *expected)
{
    heap_ref obj = must_read(heap, in);
    char *text = written_let(heap, obj);
    assert_string_equal(text, expected);
    free(text);
    heap_decref(heap, obj);
}

/* The text must be refused so, and leave nothing behind. */
static struct literal_error expect_fault(struct heap *heap, const char *in, enum literal_fault fault)
{
    struct literal_error error = {0};
    heap_ref obj = 0;
    uint64_t before = live(heap);
    if (try_read(&obj, heap, in, &error)) {
        fail_msg("taken: %s", in);
    }
    if (error.fault != fault) {
        fail_msg("%s: fault %d, not %d: %s", in, error.fault, fault, error.message);
    }
    if (live(heap) != before) {
        fail_msg("%s leaves objects behind", in);
    }
    assert_true(strlen(error.message) > 10);
    return error;
}

static void expect_heap_error(struct heap *heap, const char *in, enum heap_error expected)
{
    struct literal_error error = expect_fault(heap, in, LITERAL_HEAP);
    if (error.heap != expected) {
        fail_msg("%s: %s, not %s", in, error.message, heap_error_sentence(expected));
    }
    free((void *)(uintptr_t)error.name);
    free((void *)(uintptr_t)error.attr);
}

static void bind(struct heap *heap, const char *name, const char *json)
{
    heap_ref obj = must_read(heap, json);
    assert_int_equal(heap_name_bind(heap, name, strlen(name), obj), HEAP_OK);
    heap_decref(heap, obj);
}

static void unbind(struct heap *heap, const char *name)
{
    assert_int_equal(heap_name_unbind(heap, name, strlen(name)), HEAP_OK);
}

/* ---- plain values ---- */

static void test_literal_plain_values(void **state)
{
    struct heap *heap = *state;
    static const char *const same[] = {"null",
                                       "true",
                                       "false",
                                       "0",
                                       "-1",
                                       "256",
                                       "257",
                                       "9223372036854775807",
                                       "-9223372036854775808",
                                       "1.1",
                                       "1.0",
                                       "1e+16",
                                       "-0.0",
                                       "5e-324",
                                       "\"\"",
                                       "\"a\"",
                                       "\"\\u0000\"",
                                       "\"\xc3\xa4\xf0\x9f\x98\x80\"",
                                       "[]",
                                       "[1,[2,[3]],\"x\"]",
                                       "{}",
                                       "{\"b\":1,\"a\":{\"\":null}}",
                                       "{\"$tuple\":[]}",
                                       "{\"$tuple\":[1,[2]]}",
                                       "{\"$set\":[]}",
                                       "{\"$set\":[1]}",
                                       "{\"$frozenset\":[]}",
                                       "{\"$frozenset\":[{\"$frozenset\":[\"a\"]}]}",
                                       "{\"$dict\":[[1,2],[\"a\",[]]]}",
                                       "{\"$dict\":[[\"$a\",1]]}",
                                       "{\"$dict\":[[{\"$tuple\":[1,2]},3]]}",
                                       "{\"$bytes\":\"\"}",
                                       "{\"$bytes\":\"AA==\"}",
                                       "{\"$bytes\":\"AAH/\"}",
                                       "{\"$bytes\":\"+/8=\"}",
                                       "{\"$int\":\"9223372036854775808\"}",
                                       "{\"$int\":\"-123456789012345678901234567890\"}",
                                       "{\"$float\":\"nan\"}",
                                       "{\"$float\":\"inf\"}",
                                       "{\"$float\":\"-inf\"}",
                                       "{\"$class\":\"Node\"}",
                                       "{\"$class\":\"Point\",\"slots\":[\"x\",\"y\"]}",
                                       "{\"$class\":\"Empty\",\"slots\":[]}",
                                       "{\"$weakref\":null}",
                                       "[{\"$weakref\":null}]"};
    for (size_t i = 0; i < sizeof same / sizeof *same; i++) {
        expect_text(heap, same[i], same[i]);
        expect_let(heap, same[i], same[i]);
    }
    static const char *const other[][2] = {
        {"-0", "0"},
        {" [ 1 , { \"a\" : 2 } ] ", "[1,{\"a\":2}]"},
        {"1e5", "100000.0"},
        {"1e-400", "0.0"},
        {"-1e-400", "-0.0"},
        {"\"\\u0041\\/\"", "\"A/\""},
        {"{\"a\":1,\"b\":2,\"a\":3}", "{\"a\":3,\"b\":2}"},
        {"{\"\\u0061\":1,\"a\":2}", "{\"a\":2}"},
        {"{\"$int\":\"-0\"}", "0"},
        {"{\"$int\":\"007\"}", "7"},
        {"{\"$int\":\"\\u0031\"}", "1"},
        {"{\"\\u0024tuple\":[1]}", "{\"$tuple\":[1]}"},
        {"{\"$dict\":[[\"a\",1],[\"b\",2]]}", "{\"a\":1,\"b\":2}"},
        {"{\"$dict\":[]}", "{}"},
        {"{\"$dict\":[[1,\"a\"],[1.0,\"b\"],[true,\"c\"]]}", "{\"$dict\":[[1,\"c\"]]}"},
        {"{\"$set\":[1,1.0,true]}", "{\"$set\":[1]}"},
        {"{\"$json\":{\"$ref\":1,\"a\":[{\"$x\":{}}]}}",
         "{\"$dict\":[[\"$ref\",1],[\"a\",[{\"$dict\":[[\"$x\",{}]]}]]]}"},
        {"[{\"$json\":1},{\"$tuple\":[2]}]", "[1,{\"$tuple\":[2]}]"},
        {"[{\"$json\":[]},{\"$tuple\":[2]}]", "[[],{\"$tuple\":[2]}]"},
    };
    for (size_t i = 0; i < sizeof other / sizeof *other; i++) {
        expect_text(heap, other[i][0], other[i][1]);
    }
}

static void test_literal_interns_keys_of_plain_objects_only(void **state)
{
    struct heap *heap = *state;
    heap_ref list = must_read(heap, "[{\"key\":\"key\"},{\"key\":\"key\"},{\"$dict\":[[\"key\",1]]}]");
    heap_ref keys[3], values[3];
    for (uint32_t i = 0; i < 3; i++) {
        uint32_t pos = 0;
        assert_true(heap_dict_next(heap, heap_seq_item(heap, list, i), &pos, &keys[i], &values[i]));
    }
    assert_int_equal(keys[0], keys[1]);
    assert_int_not_equal(keys[0], keys[2]);
    assert_int_not_equal(values[0], values[1]);
    assert_int_equal(heap_refcount(heap, keys[0]), 2);
    heap_decref(heap, list);
}

static void test_literal_refuses_malformed_forms(void **state)
{
    struct heap *heap = *state;
    static const char *const bad[] = {
        "{\"$\":1}",
        "{\"$nope\":1}",
        "{\"a\":1,\"$ref\":2}",
        "{\"$ref\":1,\"a\":2}",
        "{\"$ref\":1,\"$ref\":1}",
        "{\"$ref\":0}",
        "{\"$ref\":-1}",
        "{\"$ref\":1.0}",
        "{\"$ref\":9007199254740992}",
        "{\"$ref\":null}",
        "{\"$ref\":[]}",
        "{\"$ref\":{\"$label\":\"a\"}}",
        "{\"$ref\":99999999999999999999}",
        "{\"$json\":1,\"a\":1}",
        "{\"$tuple\":1}",
        "{\"$tuple\":{}}",
        "{\"$tuple\":[],\"x\":1}",
        "{\"$tuple\":[],\"$tuple\":[]}",
        "{\"$set\":null}",
        "{\"$frozenset\":\"a\"}",
        "{\"$dict\":{}}",
        "{\"$dict\":[1]}",
        "{\"$dict\":[[1]]}",
        "{\"$dict\":[[1,2,3]]}",
        "{\"$dict\":[[]]}",
        "{\"$dict\":[],\"a\":1}",
        "{\"$bytes\":1}",
        "{\"$bytes\":null}",
        "{\"$bytes\":\"\",\"a\":1}",
        "{\"$int\":1}",
        "{\"$float\":1.5}",
        "{\"$class\":1}",
        "{\"$class\":\"A\",\"slots\":1}",
        "{\"$class\":\"A\",\"slots\":[1]}",
        "{\"$class\":\"A\",\"slot\":[]}",
        "{\"$class\":\"A\",\"slots\":null}",
        "{\"slots\":[],\"$class\":\"A\"}",
        "{\"$class\":\"A\",\"slots\":[],\"slots\":[]}",
        "{\"$instance\":null}",
        "{\"$instance\":[]}",
        "{\"$instance\":{\"$ref\":1}}",
        "{\"$instance\":1,\"attrs\":[]}",
        "{\"$instance\":1,\"attr\":{}}",
        "{\"$instance\":1,\"attrs\":null}",
        "{\"$instance\":1,\"attrs\":{},\"x\":1}",
        "{\"$weakref\":true}",
        "{\"$weakref\":{}}",
        "{\"$weakref\":null,\"a\":1}",
        "{\"$let\":[]}",
        "{\"$let\":{}}",
        "{\"$let\":{},\"in\":1,\"x\":1}",
        "{\"$let\":{},\"on\":1}",
        "{\"in\":1,\"$let\":{}}",
        "{\"$label\":\"a\"}",
        "{\"$label\":1}",
        "{\"$let\":{\"a\":1},\"in\":{\"$label\":\"b\"}}",
        "{\"$let\":{\"a\":1},\"in\":{\"$label\":1}}",
        "{\"$let\":{\"a\":{\"$label\":\"a\"}},\"in\":1}",
        "{\"$let\":{\"a\":{\"$label\":\"b\"},\"b\":[]},\"in\":1}",
        "{\"$let\":{\"b\":[],\"a\":{\"$label\":\"b\"}},\"in\":1}",
        "{\"$let\":{\"b\":[],\"a\":{\"$let\":{},\"in\":{\"$label\":\"b\"}}},\"in\":1}",
        "[{\"$let\":{\"a\":1},\"in\":2},{\"$label\":\"a\"}]",
        "{\"$weakref\":{\"$label\":\"a\"}}",
        "{\"$let\":{\"a\":[{\"$let\":{\"b\":1},\"in\":2},{\"$label\":\"b\"}]},\"in\":1}",
        "{\"$instance\":{\"$label\":\"a\"}}",
        "[[[{\"a\":{\"$nope\":1}}]]]",
        "{\"a\":[],\"\\u0024b\":1}",
        "{\"$tuple\":[{\"$tuple\":[{\"$set\":0}]}]}",
        "{\"$dict\":[[{\"$x\":1},2]]}",
        "{\"$dict\":[[1,{\"$x\":1}]]}"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        expect_fault(heap, bad[i], LITERAL_INVALID_PARAMS);
    }
}

static void test_literal_refuses_impossible_content(void **state)
{
    struct heap *heap = *state;
    static const char *const bad[] = {"9223372036854775808",
                                      "-9223372036854775809",
                                      "1e400",
                                      "-1e400",
                                      "[1,[2,1e999]]",
                                      "{\"$float\":\"NaN\"}",
                                      "{\"$float\":\"\"}",
                                      "{\"$bytes\":\"A\"}",
                                      "{\"$bytes\":\"AA\"}",
                                      "{\"$bytes\":\"AA=A\"}",
                                      "{\"$bytes\":\"AAA\"}",
                                      "{\"$bytes\":\"====\"}",
                                      "{\"$bytes\":\"A===\"}",
                                      "{\"$bytes\":\"AB==\"}",
                                      "{\"$bytes\":\"AAB=\"}",
                                      "{\"$bytes\":\"AA==AA==\"}",
                                      "{\"$bytes\":\"AA-_\"}",
                                      "{\"$bytes\":\"AA A\"}",
                                      "{\"$bytes\":\"AAA\\n\"}"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        expect_fault(heap, bad[i], LITERAL_VALUE);
    }
    static const struct {
        const char *text;
        enum heap_error error;
    } cases[] = {
        {"{\"$int\":\"\"}", HEAP_BAD_INT},
        {"{\"$int\":\"-\"}", HEAP_BAD_INT},
        {"{\"$int\":\"+1\"}", HEAP_BAD_INT},
        {"{\"$int\":\"1 \"}", HEAP_BAD_INT},
        {"{\"$class\":\"\"}", HEAP_BAD_IDENTIFIER},
        {"{\"$class\":\"1a\"}", HEAP_BAD_IDENTIFIER},
        {"{\"$class\":\"list\"}", HEAP_RESERVED_CLASS},
        {"{\"$class\":\"A\",\"slots\":[\"x\",\"x\"]}", HEAP_REPEATED_SLOT},
        {"{\"$class\":\"A\",\"slots\":[\"-\"]}", HEAP_BAD_IDENTIFIER},
        {"[[1],{\"$set\":[[]]}]", HEAP_UNHASHABLE},
        {"[[1],{\"$set\":[1,2,{}]}]", HEAP_UNHASHABLE},
        {"{\"$dict\":[[1,[]],[[],[]]]}", HEAP_UNHASHABLE},
        {"{\"$dict\":[[{\"$tuple\":[1,[2]]},1]]}", HEAP_UNHASHABLE},
        {"{\"$frozenset\":[{\"$set\":[]}]}", HEAP_UNHASHABLE},
        {"{\"$ref\":4242424242}", HEAP_NOT_FOUND},
        {"{\"$ref\":\"nobody\"}", HEAP_NAME},
        {"[[],{\"$ref\":\"\"}]", HEAP_NAME},
        {"{\"$weakref\":77777777}", HEAP_NOT_FOUND},
        {"{\"$instance\":\"nobody\",\"attrs\":{\"a\":[1]}}", HEAP_NAME},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        expect_heap_error(heap, cases[i].text, cases[i].error);
    }
}

static void test_literal_errors_name_what_they_are_about(void **state)
{
    struct heap *heap = *state;
    struct literal_error error = expect_fault(heap, "[{\"$ref\":123456789}]", LITERAL_HEAP);
    assert_int_equal(error.id, 123456789);
    error = expect_fault(heap, "[{\"$ref\":\"no\\u0041\"}]", LITERAL_HEAP);
    assert_string_equal(error.name, "\"no\\u0041\"");
    free((void *)(uintptr_t)error.name);
    bind(heap, "Slots", "{\"$class\":\"Slots\",\"slots\":[\"x\"]}");
    error = expect_fault(heap, "{\"$instance\":\"Slots\",\"attrs\":{\"x\":[],\"y\":[]}}", LITERAL_HEAP);
    assert_int_equal(error.heap, HEAP_ATTR);
    assert_string_equal(error.attr, "\"y\"");
    free((void *)(uintptr_t)error.attr);
    unbind(heap, "Slots");
    bind(heap, "list", "[]");
    error = expect_fault(heap, "[[],{\"$instance\":\"list\"}]", LITERAL_HEAP);
    assert_int_equal(error.heap, HEAP_TYPE);
    assert_true(error.id > 0);
    unbind(heap, "list");
}

/* ---- existing objects ---- */

static void test_literal_refs_and_instances(void **state)
{
    struct heap *heap = *state;
    char text[200], expected[200];
    uint64_t id, class_id;
    bind(heap, "shared", "[1]");
    bind(heap, "Node", "{\"$class\":\"Node\"}");
    bind(heap, "Point", "{\"$class\":\"Point\",\"slots\":[\"x\",\"y\"]}");
    heap_ref shared = heap_name_find(heap, "shared", 6);
    heap_ref node = heap_name_find(heap, "Node", 4);
    assert_int_equal(heap_id(&id, heap, shared), HEAP_OK);
    assert_int_equal(heap_id(&class_id, heap, node), HEAP_OK);

    snprintf(text, sizeof text, "[{\"$ref\":\"shared\"},{\"$ref\":%llu},{\"$ref\":\"sh\\u0061red\"}]",
             (unsigned long long)id);
    heap_ref list = must_read(heap, text);
    assert_int_equal(heap_refcount(heap, shared), 4);
    assert_int_equal(heap_seq_item(heap, list, 0), shared);
    assert_int_equal(heap_seq_item(heap, list, 2), shared);
    char *answer = written(heap, list);
    snprintf(expected, sizeof expected, "[[1],{\"$ref\":%llu},{\"$ref\":%llu}]", (unsigned long long)id,
             (unsigned long long)id);
    assert_string_equal(answer, expected);
    free(answer);
    heap_decref(heap, list);
    heap_ref same = must_read(heap, "{\"$ref\":\"shared\"}");
    assert_int_equal(same, shared);
    heap_decref(heap, same);

    snprintf(expected, sizeof expected, "{\"$instance\":%llu,\"attrs\":{\"b\":2,\"a\":[3]}}",
             (unsigned long long)class_id);
    expect_text(heap, "{\"$instance\":\"Node\",\"attrs\":{\"b\":1,\"a\":[3],\"b\":2}}", expected);
    snprintf(expected, sizeof expected, "{\"$instance\":%llu,\"attrs\":{}}", (unsigned long long)class_id);
    expect_text(heap, "{\"$instance\":\"Node\"}", expected);
    expect_heap_error(heap, "{\"$instance\":\"Node\",\"attrs\":{\"a b\":[]}}", HEAP_BAD_IDENTIFIER);
    expect_heap_error(heap, "{\"$instance\":\"Node\",\"attrs\":{\"$a\":[]}}", HEAP_BAD_IDENTIFIER);
    expect_heap_error(heap, "{\"$weakref\":\"nobody\"}", HEAP_NAME);

    heap_ref weak = must_read(heap, "[{\"$weakref\":\"shared\"},{\"$weakref\":\"shared\"}]");
    assert_int_equal(heap_seq_item(heap, weak, 0), heap_seq_item(heap, weak, 1));
    assert_int_equal(heap_refcount(heap, shared), 1);
    heap_decref(heap, weak);
    unbind(heap, "shared");
    unbind(heap, "Node");
    unbind(heap, "Point");
}

static void test_literal_weakref_to_an_immortal_is_refused(void **state)
{
    struct heap *heap = *state;
    bind(heap, "none", "null");
    expect_heap_error(heap, "[[],{\"$weakref\":\"none\"}]", HEAP_TYPE);
    expect_heap_error(heap, "{\"$let\":{\"w\":{\"$weakref\":{\"$label\":\"a\"}},\"a\":true},\"in\":1}",
                      HEAP_TYPE);
    unbind(heap, "none");
}

/* ---- $let ---- */

static void test_literal_let_shares(void **state)
{
    struct heap *heap = *state;
    heap_ref list = must_read(heap, "{\"$let\":{\"a\":[1]},\"in\":[{\"$label\":\"a\"},{\"$label\":\"a\"}]}");
    heap_ref inner = heap_seq_item(heap, list, 0);
    assert_int_equal(inner, heap_seq_item(heap, list, 1));
    assert_int_equal(heap_refcount(heap, inner), 2);
    heap_decref(heap, list);
    /* Labels may be atoms, may be unused, and may have any name. */
    expect_text(
        heap, "{\"$let\":{\"a\":1,\"\":2,\"$x\":3,\"b\":[]},\"in\":[{\"$label\":\"\"},{\"$label\":\"$x\"}]}",
        "[2,3]");
    expect_text(heap, "{\"$let\":{},\"in\":7}", "7");
    expect_text(heap, "{\"$let\":{\"\\u0061b\":[5]},\"in\":{\"$label\":\"a\\u0062\"}}", "[5]");
    assert_int_equal(live(heap), 0);
}

static void test_literal_let_scopes(void **state)
{
    struct heap *heap = *state;
    expect_text(
        heap,
        "{\"$let\":{\"a\":\"outer\",\"b\":{\"$let\":{\"a\":\"inner\"},\"in\":[{\"$label\":\"a\"}]}},"
        "\"in\":[{\"$label\":\"a\"},{\"$label\":\"b\"},{\"$let\":{\"b\":1},\"in\":{\"$label\":\"b\"}}]}",
        "[\"outer\",[\"inner\"],1]");
    /* The inner one is meant even before it is defined. */
    expect_text(heap,
                "{\"$let\":{\"a\":\"outer\"},\"in\":{\"$let\":{\"x\":[{\"$label\":\"a\"}],\"a\":\"inner\"},"
                "\"in\":{\"$label\":\"x\"}}}",
                "[\"inner\"]");
    /* Given twice: the last value, in the place of the first. */
    expect_text(heap, "{\"$let\":{\"a\":[1],\"b\":[{\"$label\":\"a\"}],\"a\":[2]},\"in\":{\"$label\":\"b\"}}",
                "[[2]]");
    expect_text(
        heap,
        "{\"$let\":{\"a\":[1],\"a\":[2],\"a\":[3],\"b\":4},\"in\":[{\"$label\":\"a\"},{\"$label\":\"b\"}]}",
        "[[3],4]");
    expect_text(
        heap,
        "[{\"$let\":{\"a\":[]},\"in\":{\"$label\":\"a\"}},{\"$let\":{\"a\":{}},\"in\":{\"$label\":\"a\"}}]",
        "[[],{}]");
    /* Let in the place of a label's value. */
    expect_text(
        heap,
        "{\"$let\":{\"a\":{\"$let\":{\"b\":[8]},\"in\":{\"$label\":\"b\"}}},\"in\":[{\"$label\":\"a\"}]}",
        "[[8]]");
}

static void test_literal_let_builds_cycles(void **state)
{
    struct heap *heap = *state;
    struct heap_collection collection;
    heap_ref a = must_read(heap, "{\"$let\":{\"a\":[{\"$label\":\"a\"}]},\"in\":{\"$label\":\"a\"}}");
    assert_int_equal(heap_seq_item(heap, a, 0), a);
    assert_int_equal(heap_refcount(heap, a), 2);
    heap_decref(heap, a);
    heap_ref d = must_read(
        heap, "{\"$let\":{\"d\":{\"l\":{\"$label\":\"l\"},\"t\":{\"$label\":\"t\"}},"
              "\"t\":{\"$tuple\":[{\"$label\":\"l\"},{\"$label\":\"d\"}]},\"l\":[{\"$label\":\"t\"}]},"
              "\"in\":{\"$label\":\"d\"}}");
    heap_ref key, l, t;
    uint32_t pos = 0;
    assert_true(heap_dict_next(heap, d, &pos, &key, &l));
    assert_true(heap_dict_next(heap, d, &pos, &key, &t));
    assert_int_equal(heap_type(heap, l), HEAP_T_LIST);
    assert_int_equal(heap_type(heap, t), HEAP_T_TUPLE);
    assert_int_equal(heap_seq_item(heap, t, 0), l);
    assert_int_equal(heap_seq_item(heap, t, 1), d);
    assert_int_equal(heap_seq_item(heap, l, 0), t);
    assert_true(heap_gc_is_tracked(heap, t));
    assert_false(heap_is_incomplete(heap, t));
    heap_decref(heap, d);
    heap_collect(&collection, heap, 2);
    assert_int_equal(collection.unreachable, 4);
    assert_int_equal(live(heap), 0);
}

static void test_literal_let_instances_and_weakrefs(void **state)
{
    struct heap *heap = *state;
    heap_ref list = must_read(
        heap,
        "{\"$let\":{\"C\":{\"$class\":\"C\"},\"n\":{\"$instance\":{\"$label\":\"C\"},\"attrs\":{\"next\":"
        "{\"$label\":\"m\"},\"w\":{\"$weakref\":{\"$label\":\"m\"}},\"next\":{\"$label\":\"m\"}}},"
        "\"w\":{\"$weakref\":{\"$label\":\"m\"}},\"m\":{\"$instance\":{\"$label\":\"C\"},\"attrs\":{\"back\":"
        "{\"$label\":\"n\"},\"w\":{\"$weakref\":{\"$label\":\"n\"}}}}},"
        "\"in\":[{\"$label\":\"n\"},{\"$label\":\"w\"},{\"$weakref\":{\"$label\":\"m\"}}]}");
    heap_ref n = heap_seq_item(heap, list, 0), w = heap_seq_item(heap, list, 1), m, found;
    assert_int_equal(heap_attr_get(&m, heap, n, "next", 4), HEAP_OK);
    assert_int_equal(heap_type(heap, m), HEAP_T_INSTANCE);
    assert_int_equal(heap_weakref_target(heap, w), m);
    assert_int_equal(heap_seq_item(heap, list, 2), w);
    assert_int_equal(heap_attr_get(&found, heap, n, "w", 1), HEAP_OK);
    assert_int_equal(found, w);
    assert_int_equal(heap_refcount(heap, w), 3);
    assert_int_equal(heap_attr_get(&found, heap, m, "back", 4), HEAP_OK);
    assert_int_equal(found, n);
    assert_int_equal(heap_refcount(heap, m), 1);
    assert_int_equal(heap_refcount(heap, n), 2);
    heap_decref(heap, list);
    struct heap_collection collection;
    heap_collect(&collection, heap, 2);
    assert_int_equal(live(heap), 0);
}

/* A key or attribute that comes again takes a hole's place, or puts a hole where a value was. */
static void test_literal_let_holes_are_replaced(void **state)
{
    struct heap *heap = *state;
    expect_text(heap,
                "{\"$let\":{\"d\":{\"k\":{\"$label\":\"a\"},\"k\":1},\"a\":[]},\"in\":{\"$label\":\"d\"}}",
                "{\"k\":1}");
    expect_text(
        heap,
        "{\"$let\":{\"d\":{\"k\":1,\"j\":2,\"k\":{\"$label\":\"a\"}},\"a\":[3]},\"in\":{\"$label\":\"d\"}}",
        "{\"k\":[3],\"j\":2}");
    expect_text(
        heap,
        "{\"$let\":{\"d\":{\"k\":{\"$label\":\"b\"},\"k\":{\"$label\":\"a\"},\"k\":{\"$label\":\"b\"}},"
        "\"a\":[3],\"b\":[4]},\"in\":{\"$label\":\"d\"}}",
        "{\"k\":[4]}");
    expect_text(
        heap,
        "{\"$let\":{\"d\":{\"$dict\":[[1,{\"$label\":\"a\"}],[2,[]],[1.0,{\"$label\":\"b\"}],[true,5]]},"
        "\"a\":[3],\"b\":[4]},\"in\":{\"$label\":\"d\"}}",
        "{\"$dict\":[[1,5],[2,[]]]}");
    /* The container with the hole is itself thrown away. */
    expect_text(heap,
                "{\"$let\":{\"d\":{\"k\":[{\"$label\":\"a\"}],\"k\":1},\"a\":[]},\"in\":{\"$label\":\"d\"}}",
                "{\"k\":1}");
    expect_text(heap,
                "{\"$let\":{\"d\":{\"k\":{\"$tuple\":[{\"$label\":\"a\"}]},\"k\":1},\"a\":[]},"
                "\"in\":{\"$label\":\"d\"}}",
                "{\"k\":1}");
    char *text;
    bind(heap, "P", "{\"$class\":\"P\",\"slots\":[\"x\",\"y\"]}");
    heap_ref list =
        must_read(heap, "{\"$let\":{\"p\":{\"$instance\":\"P\",\"attrs\":{\"y\":{\"$label\":\"a\"},"
                        "\"x\":{\"$label\":\"b\"},\"y\":{\"$label\":\"b\"}}},\"a\":[3],\"b\":[4]},"
                        "\"in\":[{\"$label\":\"b\"},{\"$label\":\"p\"}]}");
    heap_ref p = heap_seq_item(heap, list, 1), x, y;
    assert_int_equal(heap_attr_get(&x, heap, p, "x", 1), HEAP_OK);
    assert_int_equal(heap_attr_get(&y, heap, p, "y", 1), HEAP_OK);
    assert_int_equal(x, heap_seq_item(heap, list, 0));
    assert_int_equal(x, y);
    text = written(heap, list);
    assert_true(strstr(text, "[[4],") == text);
    free(text);
    heap_decref(heap, list);
    unbind(heap, "P");
}

static void test_literal_let_keys_must_be_complete(void **state)
{
    struct heap *heap = *state;
    static const char *const bad[] = {
        "{\"$let\":{\"d\":{\"$dict\":[[{\"$label\":\"a\"},1]]},\"a\":1},\"in\":1}",
        "{\"$let\":{\"d\":{\"$set\":[{\"$label\":\"a\"}]},\"a\":1},\"in\":1}",
        "{\"$let\":{\"d\":{\"$frozenset\":[1,{\"$label\":\"d\"}]}},\"in\":1}",
        "{\"$let\":{\"t\":{\"$tuple\":[{\"$label\":\"a\"}]},\"d\":{\"$dict\":[[{\"$label\":\"t\"},1]]},\"a\":"
        "1},\"in\":1}",
        "{\"$let\":{\"t\":{\"$tuple\":[{\"$label\":\"a\"}]},\"u\":{\"$tuple\":[[],{\"$label\":\"t\"}]},"
        "\"s\":{\"$set\":[{\"$label\":\"u\"}]},\"a\":1},\"in\":1}",
        "{\"$let\":{\"s\":{\"$set\":[{\"$tuple\":[{\"$label\":\"a\"}]}]},\"a\":1},\"in\":1}",
        "{\"$let\":{\"i\":{\"$instance\":{\"$label\":\"C\"}},\"C\":{\"$class\":\"C\"}},\"in\":1}",
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        expect_heap_error(heap, bad[i], HEAP_INCOMPLETE);
    }
    /* Complete by then. */
    expect_text(
        heap,
        "{\"$let\":{\"t\":{\"$tuple\":[{\"$label\":\"a\"},{\"$label\":\"u\"}]},\"a\":1,"
        "\"u\":{\"$tuple\":[2]},\"open\":[{\"$label\":\"later\"},{\"$tuple\":[{\"$label\":\"later\"}]}],"
        "\"d\":{\"$dict\":[[{\"$label\":\"t\"},{\"$label\":\"later\"}]]},"
        "\"later\":9},\"in\":[{\"$label\":\"d\"},{\"$label\":\"open\"}]}",
        "[{\"$dict\":[[{\"$tuple\":[1,{\"$tuple\":[2]}]},9]]},[9,{\"$tuple\":[9]}]]");
    bind(heap, "key", "{\"$tuple\":[1]}");
    expect_text(heap,
                "{\"$let\":{\"s\":{\"$set\":[{\"$label\":\"k\"}]},\"k\":{\"$ref\":\"key\"}},\"in\":{\"$"
                "label\":\"s\"}}",
                "{\"$set\":[{\"$tuple\":[1]}]}");
    unbind(heap, "key");
}

static void test_literal_let_refuses_cycles_of_tuples(void **state)
{
    struct heap *heap = *state;
    expect_heap_error(heap, "{\"$let\":{\"t\":{\"$tuple\":[{\"$label\":\"t\"}]}},\"in\":1}",
                      HEAP_TUPLE_CYCLE);
    expect_heap_error(heap,
                      "{\"$let\":{\"t\":{\"$tuple\":[1,[],{\"$label\":\"u\"}]},"
                      "\"u\":{\"$tuple\":[{\"$label\":\"t\"}]}},\"in\":[{\"$label\":\"t\"}]}",
                      HEAP_TUPLE_CYCLE);
    expect_heap_error(
        heap,
        "{\"$let\":{\"t\":{\"$tuple\":[{\"$label\":\"t\"}]},\"s\":{\"$set\":[{\"$label\":\"t\"}]}},"
        "\"in\":1}",
        HEAP_TUPLE_CYCLE);
}

/* Whatever was built before the error, cycles too, is gone. */
static void test_literal_let_failing_leaves_nothing(void **state)
{
    struct heap *heap = *state;
    expect_fault(
        heap,
        "{\"$let\":{\"a\":[{\"$label\":\"a\"},{\"$label\":\"d\"}],\"d\":{\"x\":{\"$label\":\"a\"},\"y\":"
        "{\"$label\":\"t\"}},\"t\":{\"$tuple\":[{\"$label\":\"a\"},{\"$label\":\"w\"}]},"
        "\"w\":{\"$weakref\":{\"$label\":\"a\"}},\"C\":{\"$class\":\"C\"},\"i\":{\"$instance\":"
        "{\"$label\":\"C\"},\"attrs\":{\"i\":{\"$label\":\"i\"}}},\"z\":{\"$bytes\":\"!\"}},\"in\":1}",
        LITERAL_VALUE);
    expect_fault(heap, "{\"$let\":{\"a\":[{\"$label\":\"a\"},[{\"$label\":\"b\"}],1e999],\"b\":1},\"in\":1}",
                 LITERAL_VALUE);
    expect_fault(heap, "[{\"$let\":{\"a\":[{\"$label\":\"a\"}]},\"in\":{\"$label\":\"a\"}},1e999]",
                 LITERAL_VALUE);
}

/* ---- get ---- */

static void test_literal_write_depth(void **state)
{
    struct heap *heap = *state;
    heap_ref list = must_read(heap, "[[[1]],{\"a\":{}},2]");
    unsigned long long id[4];
    heap_ref nodes[4] = {list, heap_seq_item(heap, list, 0), heap_seq_item(heap, list, 1), 0};
    nodes[3] = heap_seq_item(heap, nodes[1], 0);
    for (int i = 0; i < 4; i++) {
        uint64_t number;
        assert_int_equal(heap_id(&number, heap, nodes[i]), HEAP_OK);
        id[i] = number;
    }
    char expected[4][200];
    snprintf(expected[0], 200, "{\"$ref\":%llu}", id[0]);
    snprintf(expected[1], 200, "[{\"$ref\":%llu},{\"$ref\":%llu},2]", id[1], id[2]);
    snprintf(expected[2], 80, "[[{\"$ref\":%llu}],{\"a\":{\"$ref\":", id[3]);
    snprintf(expected[3], 200, "[[[1]],{\"a\":{}},2]");
    for (int depth = 0; depth < 5; depth++) {
        char *text = written_as(heap, list, (struct literal_format){.depth = depth, .max_nesting = NESTING});
        if (depth == 2) {
            assert_memory_equal(text, expected[2], strlen(expected[2]));
        } else {
            assert_string_equal(text, expected[depth < 3 ? depth : 3]);
        }
        free(text);
    }
    heap_decref(heap, list);
}

static void test_literal_write_nesting(void **state)
{
    struct heap *heap = *state;
    char text[200];
    size_t n = 0;
    for (int i = 0; i < 60; i++) {
        text[n++] = '[';
    }
    for (int i = 0; i < 60; i++) {
        text[n++] = ']';
    }
    text[n] = '\0';
    heap_ref list = must_read(heap, text);
    for (unsigned max = 2; max < 70; max++) {
        for (int let = 0; let < 2; let++) {
            struct literal_format format = {.depth = -1, .max_nesting = max, .shared_let = let};
            char *answer = written_as(heap, list, format);
            assert_int_equal(strcmp(answer, text) == 0, max >= 60);
            struct text back = text_of(answer, strlen(answer));
            struct json_error error;
            struct json_value value;
            struct literal_error fault;
            assert_true(json_scan(back.data, strlen(answer), max, &value, &error));
            heap_ref copy = 0;
            assert_true(literal_check(&value, &fault));
            assert_true(literal_read(&copy, heap, &value, &fault));
            if (let && max > 8) { /* deep as it was, and nothing of the original in it */
                char *again = written(heap, copy);
                assert_string_equal(again, text);
                free(again);
            }
            heap_decref(heap, copy);
            free(back.data);
            free(answer);
        }
    }
    heap_decref(heap, list);
}

static void test_literal_write_nests_atoms_too(void **state)
{
    struct heap *heap = *state;
    static const struct {
        const char *text;
        unsigned levels;
    } cases[] = {{"[[1]]", 2},
                 {"[[{\"$bytes\":\"AA==\"}]]", 3},
                 {"[[{\"$tuple\":[]}]]", 4},
                 {"[{\"$tuple\":[1]}]", 3},
                 {"{\"a\":{\"$dict\":[[1,2]]}}", 4},
                 {"[{\"$set\":[]}]", 3},
                 {"[{\"$weakref\":null}]", 2}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        heap_ref obj = must_read(heap, cases[i].text);
        for (unsigned max = 2; max < 7; max++) {
            char *answer = written_as(heap, obj, (struct literal_format){.depth = -1, .max_nesting = max});
            bool whole = strcmp(answer, cases[i].text) == 0;
            bool weakref = strstr(cases[i].text, "weakref") != NULL; /* counted as if it named a label */
            assert_int_equal(whole, max >= cases[i].levels + weakref);
            struct text back = text_of(answer, strlen(answer));
            struct json_error error;
            struct json_value value;
            assert_true(json_scan(back.data, strlen(answer), max, &value, &error));
            free(back.data);
            free(answer);
        }
        heap_decref(heap, obj);
    }
}

static void test_literal_write_repeats_as_refs(void **state)
{
    struct heap *heap = *state;
    char expected[200];
    uint64_t id, inner_id;
    heap_ref list =
        must_read(heap, "{\"$let\":{\"l\":[{\"$label\":\"x\"},[{\"$label\":\"x\"}],{\"$label\":\"l\"}],"
                        "\"x\":{}},\"in\":{\"$label\":\"l\"}}");
    assert_int_equal(heap_id(&id, heap, list), HEAP_OK);
    assert_int_equal(heap_id(&inner_id, heap, heap_seq_item(heap, list, 0)), HEAP_OK);
    char *text = written(heap, list);
    snprintf(expected, sizeof expected, "[{},[{\"$ref\":%llu}],{\"$ref\":%llu}]",
             (unsigned long long)inner_id, (unsigned long long)id);
    assert_string_equal(text, expected);
    free(text);
    text = written_let(heap, list);
    assert_string_equal(text, "{\"$let\":{\"0\":[{\"$label\":\"1\"},[{\"$label\":\"1\"}],{\"$label\":\"0\"}],"
                              "\"1\":{}},\"in\":{\"$label\":\"0\"}}");
    free(text);
    heap_list_clear(heap, list);
    heap_decref(heap, list);
}

/* The object asked for is remembered even when its only reference is in what it refers to. */
static void test_literal_write_of_a_lonely_cycle(void **state)
{
    struct heap *heap = *state;
    heap_ref list = must_read(heap, "{\"$let\":{\"l\":[{\"$label\":\"l\"}]},\"in\":{\"$label\":\"l\"}}");
    heap_decref(heap, list);
    assert_int_equal(heap_refcount(heap, list), 1);
    char *text = written(heap, list);
    assert_true(strstr(text, "[{\"$ref\":") == text);
    free(text);
}

static void test_literal_write_keeps_to_the_limit(void **state)
{
    struct heap *heap = *state;
    static const char *const texts[] = {"[1,2,3,[4,5,6],{\"a\":\"bcdefghijkl\"}]",
                                        "\"a string of some length\"",
                                        "{\"$bytes\":\"AAAAAAAAAAAAAAAAAAAAAAAA\"}", "[[[[[[[[]]]]]]]]",
                                        "{\"$class\":\"Abc\",\"slots\":[\"de\",\"fgh\"]}"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        heap_ref obj = must_read(heap, texts[i]);
        size_t len = strlen(texts[i]);
        for (size_t max = 1; max < len + 3; max++) {
            struct out out;
            struct literal_error error = {0};
            struct literal_format format = {
                .depth = -1, .max_nesting = NESTING, .max_bytes = max, .shared_let = max & 1};
            out_init(&out, 0);
            out_text(&out, "before");
            bool good = literal_write(&out, heap, obj, &format, &error);
            assert_int_equal(good, max >= len);
            assert_int_equal(error.fault, good ? LITERAL_OK : LITERAL_OUTPUT);
            assert_int_equal(out.len, good ? len + 6 : 6);
            out_fini(&out);
            out_init(&out, max); /* the buffer's own limit */
            format.max_bytes = 0;
            if (!literal_write(&out, heap, obj, &format, &error)) {
                assert_int_equal(error.fault, LITERAL_OUTPUT);
                assert_int_equal(out.len, 0);
                assert_false(out.failed);
            }
            out_fini(&out);
        }
        heap_decref(heap, obj);
    }
}

static void test_literal_let_answers(void **state)
{
    struct heap *heap = *state;
    static const char *const cases[][2] = {
        /* Shared keys come before the dicts and sets that hash them. */
        {"{\"$let\":{\"t\":{\"$tuple\":[1,2]}},\"in\":[{\"$set\":[{\"$label\":\"t\"}]},{\"$label\":\"t\"}]}",
         "{\"$let\":{\"0\":{\"$tuple\":[1,2]},\"1\":{\"$set\":[{\"$label\":\"0\"}]}},\"in\":[{\"$label\":"
         "\"1\"},"
         "{\"$label\":\"0\"}]}"},
        {"{\"$let\":{\"t\":{\"$tuple\":[1,2]}},\"in\":{\"$dict\":[[{\"$label\":\"t\"},{\"$label\":\"t\"}]]}}",
         "{\"$let\":{\"0\":{\"$tuple\":[1,2]},\"1\":{\"$dict\":[[{\"$label\":\"0\"},{\"$label\":\"0\"}]]}},"
         "\"in\":{\"$label\":\"1\"}}"},
        /* A key that contains what is shared. */
        {"{\"$let\":{\"t\":{\"$tuple\":[1]}},\"in\":[{\"$dict\":[[{\"$tuple\":[{\"$label\":\"t\"}]},2]]},"
         "{\"$label\":\"t\"}]}",
         "{\"$let\":{\"0\":{\"$tuple\":[1]},\"1\":{\"$dict\":[[{\"$tuple\":[{\"$label\":\"0\"}]},2]]}},"
         "\"in\":[{\"$label\":\"1\"},{\"$label\":\"0\"}]}"},
        /* Nothing is shared. */
        {"{\"$dict\":[[{\"$tuple\":[1]},{\"$set\":[{\"$frozenset\":[{\"$tuple\":[2]}]}]}]]}",
         "{\"$dict\":[[{\"$tuple\":[1]},{\"$set\":[{\"$frozenset\":[{\"$tuple\":[2]}]}]}]]}"},
        /* A weakref's target inside. */
        {"{\"$let\":{\"a\":[]},\"in\":[{\"$label\":\"a\"},{\"$weakref\":{\"$label\":\"a\"}}]}",
         "{\"$let\":{\"0\":[]},\"in\":[{\"$label\":\"0\"},{\"$weakref\":{\"$label\":\"0\"}}]}"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        expect_let(heap, cases[i][0], cases[i][1]);
        expect_let(heap, cases[i][1], cases[i][1]);
    }
}

/* ---- random graphs through get with `let` and create ---- */

#define GRAPH_MAX 40

/* Keeps the reference in one of the graph's containers; 0 when it cannot go there. */
static void put_into(struct heap *heap, heap_ref container, heap_ref item, heap_ref key)
{
    char name[8];
    bool added;
    assert_int_equal(heap_incref(heap, item), HEAP_OK);
    switch (heap_type(heap, container)) {
    case HEAP_T_LIST:
        assert_int_equal(heap_list_append_steal(heap, container, item), HEAP_OK);
        return;
    case HEAP_T_DICT:
        assert_int_equal(heap_incref(heap, key), HEAP_OK);
        if (heap_dict_set_steal(heap, container, key, item) != HEAP_OK) { /* not hashable */
            assert_int_equal(heap_incref(heap, item), HEAP_OK);
            heap_ref str = must_read(heap, "\"fallback\"");
            assert_int_equal(heap_dict_set_steal(heap, container, str, item), HEAP_OK);
        }
        return;
    case HEAP_T_SET:
        if (heap_set_add_steal(&added, heap, container, item) != HEAP_OK) {
            return;
        }
        return;
    case HEAP_T_INSTANCE:
        snprintf(name, sizeof name, "a%u", random_below(5));
        assert_int_equal(heap_attr_set_steal(heap, container, name, 2, item), HEAP_OK);
        return;
    default:
        heap_decref(heap, item);
    }
}

static heap_ref random_atom(struct heap *heap)
{
    static const char *const atoms[] = {"null",
                                        "1",
                                        "1234567",
                                        "2.5",
                                        "\"text\"",
                                        "\"\"",
                                        "{\"$bytes\":\"AAAA\"}",
                                        "{\"$tuple\":[]}",
                                        "true",
                                        "{\"$int\":\"99999999999999999999\"}"};
    return must_read(heap, atoms[random_below(sizeof atoms / sizeof *atoms)]);
}

/* A new container; tuples and frozensets get their content now, from what is there. */
static heap_ref random_container(struct heap *heap, const heap_ref *nodes, uint32_t count, heap_ref class)
{
    heap_ref obj = 0, items[4];
    uint32_t n = random_below(5);
    enum heap_error error = HEAP_OK;
    bool added;
    switch (random_below(9)) {
    case 0:
    case 1:
        error = heap_list_create(&obj, heap, 0);
        break;
    case 2:
    case 3:
        error = heap_dict_create(&obj, heap, 0);
        break;
    case 4:
        error = heap_set_create(&obj, heap, false, 0);
        break;
    case 5:
        error = heap_instance_create(&obj, heap, class, 0);
        break;
    case 6:
        if (count == 0) {
            error = heap_weakref_create(&obj, heap);
        } else {
            error = heap_weakref_shared(&obj, heap, nodes[random_below(count)]);
        }
        break;
    case 7:
        error = heap_set_create(&obj, heap, true, 0);
        for (uint32_t i = 0; i < n && count > 0; i++) {
            heap_ref item = nodes[random_below(count)];
            assert_int_equal(heap_incref(heap, item), HEAP_OK);
            if (heap_set_add_steal(&added, heap, obj, item) != HEAP_OK) {
                continue;
            }
        }
        break;
    default:
        n = n > 3 ? 4 : n + 1; /* not the immortal one */
        for (uint32_t i = 0; i < n; i++) {
            items[i] = count > 0 ? nodes[random_below(count)] : heap_none(heap);
            assert_int_equal(heap_incref(heap, items[i]), HEAP_OK);
        }
        error = heap_tuple_create_steal(&obj, heap, items, n);
    }
    assert_int_equal(error, HEAP_OK);
    return obj;
}

/* A list that refers to all nodes of a random graph.  Returns: new. */
static heap_ref random_graph(struct heap *heap, heap_ref class)
{
    heap_ref nodes[GRAPH_MAX], root;
    uint32_t count = 1 + random_below(GRAPH_MAX - 1);
    for (uint32_t i = 0; i < count; i++) {
        nodes[i] = random_container(heap, nodes, i, class);
    }
    for (uint32_t i = random_below(3 * count); i > 0; i--) {
        heap_ref item = nodes[random_below(count)], atom = random_atom(heap);
        heap_ref key = random_below(2) ? atom : nodes[random_below(count)];
        put_into(heap, nodes[random_below(count)], random_below(4) ? item : atom, key);
        heap_decref(heap, atom);
    }
    assert_int_equal(heap_list_create(&root, heap, 0), HEAP_OK);
    for (uint32_t i = 0; i < count; i++) {
        if (random_below(4) == 0) {
            put_into(heap, root, nodes[i], 0);
        }
    }
    for (uint32_t i = 0; i < count; i++) {
        heap_decref(heap, nodes[i]);
    }
    /* What hangs from nothing must not be a weakref's target in one graph and gone in the other. */
    assert_int_equal(heap_name_bind(heap, "root", 4, root), HEAP_OK);
    struct heap_collection collection;
    heap_collect(&collection, heap, 2);
    return root;
}

/* A graph as a row of nodes with colours: equal colours of all nodes after as many rounds as there are
 * nodes mean the same shape, as far as this test needs. */
struct graph {
    heap_ref nodes[2000];
    uint64_t colours[2000], next[2000];
    uint32_t count;
};

static uint64_t mix(uint64_t a, uint64_t b)
{
    uint64_t z =
        (a ^ (b + UINT64_C(0x9e3779b97f4a7c15) + (a << 6) + (a >> 2))) * UINT64_C(0xbf58476d1ce4e5b9);
    return z ^ z >> 29;
}

static uint32_t number_of(struct graph *graph, heap_ref obj)
{
    for (uint32_t i = 0; i < graph->count; i++) {
        if (graph->nodes[i] == obj) {
            return i;
        }
    }
    assert_true(graph->count < 2000);
    graph->nodes[graph->count] = obj;
    return graph->count++;
}

static uint64_t colour_of(struct heap *heap, struct graph *graph, heap_ref obj)
{
    if (obj != 0 && heap_is_container(heap, obj)) {
        return graph->colours[number_of(graph, obj)];
    }
    uint64_t colour = 17;
    if (obj != 0) {
        char *text = written(heap, obj);
        for (const char *p = text; *p; p++) {
            colour = mix(colour, (uint64_t)*p);
        }
        free(text);
    }
    return colour;
}

static uint64_t recolour(struct heap *heap, struct graph *graph, heap_ref obj)
{
    uint64_t colour = mix(colour_of(heap, graph, obj), heap_type(heap, obj)), sum = 0;
    uint32_t pos = 0;
    heap_ref key, value;
    const char *name;
    switch (heap_type(heap, obj)) {
    case HEAP_T_LIST:
    case HEAP_T_TUPLE:
        for (uint32_t i = 0; i < heap_seq_len(heap, obj); i++) {
            colour = mix(colour, colour_of(heap, graph, heap_seq_item(heap, obj, i)));
        }
        return colour;
    case HEAP_T_DICT:
        while (heap_dict_next(heap, obj, &pos, &key, &value)) {
            colour = mix(mix(colour, colour_of(heap, graph, key)), colour_of(heap, graph, value));
        }
        return colour;
    case HEAP_T_SET:
    case HEAP_T_FROZENSET:
        while (heap_set_next(heap, obj, &pos, &key)) {
            sum += mix(3, colour_of(heap, graph, key));
        }
        return mix(colour, sum);
    case HEAP_T_INSTANCE:
        while (heap_attr_next(heap, obj, &pos, &name, &value)) {
            colour = mix(mix(colour, (uint64_t)name[1]), colour_of(heap, graph, value));
        }
        return colour;
    case HEAP_T_WEAKREF:
        return mix(colour, colour_of(heap, graph, heap_weakref_target(heap, obj)));
    default:
        return colour;
    }
}

static int compare_u64(const void *a, const void *b)
{
    const uint64_t *left = a, *right = b;
    return (*left > *right) - (*left < *right);
}

/* The colours of everything that the object reaches, sorted; the refcounts are in them. */
static void colour_graph(struct heap *heap, struct graph *graph, heap_ref root)
{
    graph->count = 0;
    number_of(graph, root);
    memset(graph->colours, 0, sizeof graph->colours);
    for (uint32_t i = 0; i < graph->count; i++) { /* finds the nodes */
        recolour(heap, graph, graph->nodes[i]);
    }
    for (uint32_t i = 0; i < graph->count; i++) {
        heap_ref obj = graph->nodes[i];
        graph->colours[i] = heap_type(heap, obj) == HEAP_T_CLASS ? 5 : mix(1, heap_refcount(heap, obj));
    }
    for (uint32_t round = 0; round < graph->count && round < 50; round++) {
        for (uint32_t i = 0; i < graph->count; i++) {
            graph->next[i] = recolour(heap, graph, graph->nodes[i]);
        }
        memcpy(graph->colours, graph->next, graph->count * sizeof *graph->next);
    }
    qsort(graph->colours, graph->count, sizeof *graph->colours, compare_u64);
}

static void test_literal_let_rebuilds_random_graphs(void **state)
{
    struct heap *heap = *state;
    static struct graph original, copied;
    bind(heap, "C", "{\"$class\":\"C\"}");
    heap_ref class = heap_name_find(heap, "C", 1);
    for (int i = 0; i < 1500; i++) {
        heap_ref root = random_graph(heap, class);
        unsigned max_nesting = i % 3 ? NESTING : 8 + random_below(10);
        struct literal_format format = {.depth = -1, .max_nesting = max_nesting, .shared_let = true};
        char *text = written_as(heap, root, format);
        unbind(heap, "root"); /* one reference less: the copy has none by name */
        struct json_error json_error;
        struct json_value value;
        struct text whole = text_of(text, strlen(text));
        assert_true(json_scan(whole.data, strlen(text), max_nesting, &value, &json_error));
        heap_ref copy = must_read(heap, text);
        if (strstr(text, "$ref")) {
            fail_msg("%s refers to the original", text);
        }
        colour_graph(heap, &original, root);
        colour_graph(heap, &copied, copy);
        if (original.count != copied.count ||
            memcmp(original.colours, copied.colours, original.count * sizeof *original.colours) != 0) {
            char *again = written_let(heap, copy);
            fail_msg("%s\n is rebuilt as\n%s", text, again);
        }
        free(whole.data);
        free(text);
        heap_decref(heap, copy);
        heap_decref(heap, root);
        if (i % 50 == 0) {
            struct heap_collection collection;
            heap_collect(&collection, heap, 2);
            assert_int_equal(live(heap), 1);
            assert_int_equal(heap_check(heap, stderr), 0);
        }
    }
    unbind(heap, "C");
}

/* Depth and `let` together: below the depth the original, above it labels. */
static void test_literal_let_with_depth(void **state)
{
    struct heap *heap = *state;
    char expected[200];
    uint64_t id;
    heap_ref list =
        must_read(heap, "{\"$let\":{\"a\":[[1]]},\"in\":[{\"$label\":\"a\"},{\"$label\":\"a\"}]}");
    heap_ref a = heap_seq_item(heap, list, 0);
    assert_int_equal(heap_id(&id, heap, heap_seq_item(heap, a, 0)), HEAP_OK);
    struct literal_format format = {.depth = 2, .max_nesting = NESTING, .shared_let = true};
    char *text = written_as(heap, list, format);
    snprintf(expected, sizeof expected,
             "{\"$let\":{\"0\":[{\"$ref\":%llu}]},\"in\":[{\"$label\":\"0\"},{\"$label\":\"0\"}]}",
             (unsigned long long)id);
    assert_string_equal(text, expected);
    free(text);
    heap_decref(heap, list);
}

/* ---- robustness ---- */

/* Damaged literals are refused or taken, and nothing leaks. */
static void test_literal_survives_mutations(void **state)
{
    struct heap *heap = *state;
    static const char *const seeds[] = {
        "{\"$let\":{\"a\":[{\"$label\":\"b\"},{\"$label\":\"a\"}],\"b\":{\"k\":{\"$label\":\"a\"},\"k\":{\"$"
        "label\":\"c\"}},"
        "\"c\":{\"$tuple\":[{\"$label\":\"a\"},1]}},\"in\":[{\"$label\":\"a\"},{\"$label\":\"c\"}]}",
        "{\"$let\":{\"C\":{\"$class\":\"C\",\"slots\":[\"x\",\"y\"]},\"i\":{\"$instance\":{\"$label\":\"C\"},"
        "\"attrs\":"
        "{\"x\":{\"$label\":\"i\"},\"y\":{\"$weakref\":{\"$label\":\"i\"}}}}},\"in\":{\"$label\":\"i\"}}",
        "[{\"$set\":[1,{\"$tuple\":[2]}]},{\"$dict\":[[1,2],[{\"$frozenset\":[3]},4]]},{\"$json\":{\"$a\":1}}"
        "]",
        "[{\"$bytes\":\"AAAA\"},{\"$int\":\"123\"},{\"$float\":\"nan\"},{\"$ref\":\"n\"},{\"$weakref\":\"n\"}"
        ",1.5e3]"};
    static const char *const words[] = {"\"a\"",    "\"b\"",    "\"c\"", "\"$label\"", "\"$let\"",
                                        "\"in\"",   "1",        "[]",    "{}",         "\"$tuple\"",
                                        "\"$set\"", "\"$ref\"", "1e999", "null"};
    bind(heap, "n", "[]");
    int taken = 0;
    for (int i = 0; i < 40000; i++) {
        char text[600];
        const char *seed = seeds[random_below(sizeof seeds / sizeof *seeds)];
        size_t len = strlen(seed);
        memcpy(text, seed, len + 1);
        for (uint32_t rounds = 1 + random_below(2); rounds > 0; rounds--) {
            /* Puts a word in the place of another token. */
            size_t at = random_below((uint32_t)len), end;
            while (at > 0 && !strchr("[]{},:", text[at - 1])) {
                at--;
            }
            for (end = at; text[end] && !strchr("[]{},:", text[end]); end++) {
            }
            const char *word = words[random_below(sizeof words / sizeof *words)];
            size_t n = strlen(word);
            memmove(text + at + n, text + end, len - end + 1);
            memcpy(text + at, word, n);
            len = len - (end - at) + n;
        }
        struct json_error json_error;
        struct json_value value;
        struct literal_error error = {0};
        char *data = calloc(1, len + 1 + JSON_PADDING_BYTES);
        memcpy(data, text, len);
        heap_ref obj = 0;
        uint64_t before = live(heap);
        if (json_scan(data, len, 2000, &value, &json_error)) {
            if (literal_check(&value, &error) && literal_read(&obj, heap, &value, &error)) {
                char *answer = written_let(heap, obj);
                free(answer);
                heap_decref(heap, obj);
                taken++;
                struct heap_collection collection;
                heap_collect(&collection, heap, 2);
            }
            assert_int_equal(live(heap), before);
        }
        free(data);
    }
    assert_true(taken > 1000);
    unbind(heap, "n");
}

/* Every limit of bytes below what is needed fails as memory_error and leaves nothing. */
static void test_literal_fails_cleanly_without_memory(void **state)
{
    (void)state;
    static const char text[] =
        "{\"$let\":{\"C\":{\"$class\":\"C\"},\"i\":{\"$instance\":{\"$label\":\"C\"},\"attrs\":{\"x\":{\"$"
        "label\":\"i\"},"
        "\"y\":{\"$weakref\":{\"$label\":\"i\"}}}},\"t\":{\"$tuple\":[{\"$label\":\"i\"},{\"$label\":\"l\"}]}"
        ","
        "\"l\":[{\"$label\":\"t\"},{\"a\":\"some "
        "text\",\"b\":{\"$set\":[1000,2000,{\"$frozenset\":[3000]}]}}]},"
        "\"in\":[{\"$label\":\"l\"},{\"$label\":\"t\"},{\"$dict\":[[1.5,{\"$label\":\"t\"}]]}]}";
    int failed = 0;
    for (uint64_t limit = 1; limit < (uint64_t)64 << 20; limit += limit / 8 + 1) {
        struct heap *heap = heap_create(
            &(struct heap_config){.limits.max_bytes = limit, .reserve_bytes = (uint64_t)512 << 20});
        if (!heap) {
            continue;
        }
        heap_enter(heap);
        struct literal_error error = {0};
        heap_ref obj = 0;
        if (try_read(&obj, heap, text, &error)) {
            heap_decref(heap, obj);
        } else {
            assert_int_equal(error.fault, LITERAL_HEAP);
            assert_int_equal(error.heap, HEAP_MEMORY);
            assert_int_equal(live(heap), 0);
            failed++;
        }
        struct heap_collection collection;
        heap_collect(&collection, heap, 2);
        assert_int_equal(live(heap), 0);
        assert_int_equal(heap_check(heap, stderr), 0);
        heap_leave(heap);
        heap_destroy(heap);
    }
    assert_true(failed > 0);
}

/* Many labels, deep scopes: linear or nearly so. */
static void test_literal_let_scales(void **state)
{
    struct heap *heap = *state;
    struct out out;
    out_init(&out, 0);
    out_text(&out, "{\"$let\":{\"l\":[]");
    for (uint64_t i = 0; i < 20000; i++) {
        out_text(&out, ",\"label");
        out_u64(&out, i);
        out_text(&out, "\":[{\"$label\":\"label");
        out_u64(&out, (i * 7919 + 1) % 20000);
        out_text(&out, "\"}]");
    }
    out_text(&out, "},\"in\":{\"$label\":\"label0\"}}");
    out_char(&out, '\0');
    heap_ref obj = must_read(heap, out.data);
    char *text = written_let(heap, obj);
    heap_ref copy = must_read(heap, text);
    char *again = written_let(heap, copy);
    assert_string_equal(text, again);
    free(text);
    free(again);
    heap_decref(heap, obj);
    heap_decref(heap, copy);
    out_truncate(&out, 0);
    for (int i = 0; i < 300; i++) {
        out_text(&out, "{\"$let\":{\"a\":[{\"$label\":\"b\"}],\"b\":");
    }
    out_text(&out, "1");
    for (int i = 0; i < 300; i++) {
        out_text(&out, "},\"in\":[{\"$label\":\"a\"},{\"$label\":\"b\"}]}");
    }
    out_char(&out, '\0');
    obj = must_read(heap, out.data);
    heap_decref(heap, obj);
    out_fini(&out);
}

/* ---- base64 ---- */

static void test_literal_base64_round_trips(void **state)
{
    (void)state;
    for (size_t n = 0; n < 300; n++) {
        unsigned char data[300], back[300];
        char text[404];
        for (size_t i = 0; i < n; i++) {
            data[i] = (unsigned char)random_u64();
        }
        size_t len = base64_encoded_len(n), back_len = 0;
        base64_encode(text, data, n);
        assert_true(base64_decode(back, &back_len, text, len));
        assert_int_equal(back_len, n);
        assert_memory_equal(back, data, n);
        if (n > 0) {
            text[random_below((uint32_t)len)] = "-_ \n=\x80"[random_below(6)];
            size_t again_len = 0;
            if (base64_decode(back, &again_len, text, len)) {
                /* Only what encodes so may be read. */
                char again[404];
                base64_encode(again, back, again_len);
                assert_memory_equal(again, text, len);
            }
        }
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_literal_plain_values),
        TEST(test_literal_interns_keys_of_plain_objects_only),
        TEST(test_literal_refuses_malformed_forms),
        TEST(test_literal_refuses_impossible_content),
        TEST(test_literal_errors_name_what_they_are_about),
        TEST(test_literal_refs_and_instances),
        TEST(test_literal_weakref_to_an_immortal_is_refused),
        TEST(test_literal_let_shares),
        TEST(test_literal_let_scopes),
        TEST(test_literal_let_builds_cycles),
        TEST(test_literal_let_instances_and_weakrefs),
        TEST(test_literal_let_holes_are_replaced),
        TEST(test_literal_let_keys_must_be_complete),
        TEST(test_literal_let_refuses_cycles_of_tuples),
        TEST(test_literal_let_failing_leaves_nothing),
        TEST(test_literal_write_depth),
        TEST(test_literal_write_nesting),
        TEST(test_literal_write_nests_atoms_too),
        TEST(test_literal_write_repeats_as_refs),
        TEST(test_literal_write_of_a_lonely_cycle),
        TEST(test_literal_write_keeps_to_the_limit),
        TEST(test_literal_let_answers),
        TEST(test_literal_let_rebuilds_random_graphs),
        TEST(test_literal_let_with_depth),
        TEST(test_literal_survives_mutations),
        cmocka_unit_test(test_literal_fails_cleanly_without_memory),
        TEST(test_literal_let_scales),
        cmocka_unit_test(test_literal_base64_round_trips),
    };
    return cmocka_run_group_tests(tests, seed_random, NULL);
}
