/* test_sizes.c -- no type costs more memory than in CPython 3.11, and what slots save.
 *
 * sys.getsizeof of an object here counts its block and buffers as the allocator rounds them, and 16 bytes for its
 * id, which every object has that can be asked about.  CPython's figure is what its sys.getsizeof says (64 bit,
 * 3.11), rounded as its allocators do: to 16 bytes, and above 512 bytes after 8 bytes of malloc's header.
 *
 * One limit is no part of the claim, and is measured nowhere below: text is kept as UTF-8, as it comes and goes.
 * That is less than CPython takes for ASCII, but from some fifty characters on more for text that is mostly beyond
 * it, where CPython has one or two bytes a character and UTF-8 two or three.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../support/fixture.h"

/* ---- helpers ---- */

/* What CPython's allocators take for an object of that size. */
static int64_t rounded(int64_t bytes)
{
    return ((bytes > 512 ? bytes + 8 : bytes) + 15) / 16 * 16;
}

static int64_t size_of(struct wire *wire, const char *name)
{
    json_t *j_size = wire_callf(wire, "sys.getsizeof", "[s]", name);
    int64_t size = json_integer_value(j_size);
    json_decref(j_size);
    return size;
}

/* The object of that name costs no more than CPython's of `cpython` bytes. */
static void demand(struct wire *wire, const char *name, int64_t cpython, const char *what, int64_t n)
{
    int64_t size = size_of(wire, name);
    if (size <= 0 || size > rounded(cpython)) {
        fail_msg("%s %lld takes %lld bytes, CPython's %lld", what, (long long)n, (long long)size,
                 (long long)rounded(cpython));
    }
}

/* The same of a new object.  Steals `j_value`. */
static void demand_new(struct wire *wire, json_t *j_value, int64_t cpython, const char *what, int64_t n)
{
    json_decref(wire_callf(wire, "create", "[o,s]", j_value, "x"));
    demand(wire, "x", cpython, what, n);
}

static json_t *list_of(int64_t n)
{
    json_t *j_list = json_array();
    for (int64_t i = 0; i < n; i++) {
        json_array_append_new(j_list, json_integer(i % 100));
    }
    return j_list;
}

/* ---- atoms ---- */

static void test_sizes_of_numbers(void **state)
{
    struct wire *wire = ((struct fixture *)*state)->wire;
    demand_new(wire, json_null(), 16, "None", 0);
    demand_new(wire, json_true(), 28, "bool", 1);
    demand_new(wire, json_real(2.5), 24, "float", 0);
    demand_new(wire, json_integer(0), 28, "int", 0);
    demand_new(wire, json_integer(1000), 28, "int", 1000);
    /* 10^n has n + 1 decimal digits and CPython's 30-bit ones: bits / 30, rounded up. */
    char digits[4302];
    for (int n = 3; n < 4300; n += n < 600 ? 1 : 97) {
        memset(digits, '0', sizeof digits);
        digits[0] = '1';
        digits[n + 1] = '\0';
        int64_t bits = (int64_t)(n * 3.321928094887362) + 1;
        demand_new(wire, json_pack("{s:s}", "$int", digits), 24 + 4 * ((bits + 29) / 30), "int of ten to the power of",
                   n);
    }
}

static void test_sizes_of_text(void **state)
{
    struct wire *wire = ((struct fixture *)*state)->wire;
    static char text[70000];
    memset(text, 'x', sizeof text);
    for (int n = 0; n < (int)sizeof text; n += n < 700 ? 1 : n / 3 + 1) {
        demand_new(wire, json_stringn(text, (size_t)n), 49 + n, "str of ASCII of length", n);
    }
    for (int n = 2; n < 50000; n += n < 700 ? 1 : n / 5) { /* base64 of n zero bytes */
        memset(text, 'A', (size_t)(n + 2) / 3 * 4);
        memset(text + (n * 4 + 2) / 3, '=', (size_t)(3 - n % 3) % 3);
        text[(n + 2) / 3 * 4] = '\0';
        demand_new(wire, json_pack("{s:s}", "$bytes", text), 33 + n, "bytes of length", n);
    }
    for (int n = 1; n <= 40; n++) { /* Latin-1, two bytes and four a character in CPython */
        char wide[256] = "", wider[256] = "", widest[256] = "";
        for (int i = 0; i < n; i++) {
            strcat(wide, "\xC3\xA9");
            strcat(wider, "\xE2\x82\xAC");
            strcat(widest, "\xF0\x9F\x98\x80");
        }
        demand_new(wire, json_string(wide), 73 + n, "str of Latin-1 of length", n);
        demand_new(wire, json_string(wider), 74 + 2 * n, "str of two-byte characters of length", n);
        demand_new(wire, json_string(widest), 76 + 4 * n, "str of four-byte characters of length", n);
    }
}

/* ---- containers ---- */

static void test_sizes_of_tuples_and_list_literals(void **state)
{
    struct wire *wire = ((struct fixture *)*state)->wire;
    for (int64_t n = 0; n < 3000; n += n < 140 ? 1 : n / 5) {
        demand_new(wire, json_pack("{s:o}", "$tuple", list_of(n)), 40 + 8 * n, "tuple of length", n);
        /* Room for an even number of items, as CPython gives a list that is made from an iterable. */
        demand_new(wire, list_of(n), 56 + 8 * ((n + 1) / 2 * 2), "list of length", n);
    }
}

/* Sizes of CPython's tables by how many entries there are: valid from `from` entries on. */
struct step {
    int64_t from, bytes;
};

static int64_t step_bytes(const struct step *steps, size_t count, int64_t n)
{
    size_t i = count - 1;
    while (i > 0 && n < steps[i].from) {
        i--;
    }
    return steps[i].bytes;
}
#define STEP_BYTES(steps, n) step_bytes(steps, sizeof(steps) / sizeof *(steps), n)

/* One that grows by appending has the capacities of list_resize(). */
static void test_sizes_of_growing_containers(void **state)
{
    static const struct step STR_KEYS[] = {{0, 64},     {1, 184},    {6, 272},    {11, 464},
                                           {22, 832},   {43, 1584},  {86, 3328},  {171, 6576}};
    static const struct step OTHER_KEYS[] = {{0, 64},    {1, 224},   {6, 352},   {11, 632},   {22, 1168},
                                             {43, 2264}, {86, 4688}, {171, 9304}, {342, 18512}};
    static const struct step MEMBERS[] = {{0, 216},   {5, 728},    {19, 2264},
                                          {77, 8408}, {307, 32984}, {1229, 131288}};
    struct wire *wire = ((struct fixture *)*state)->wire;
    json_decref(wire_callf(wire, "create", "[[],s]", "list"));
    json_decref(wire_callf(wire, "create", "[{},s]", "strs"));
    json_decref(wire_callf(wire, "create", "[{s:[]},s]", "$dict", "ints"));
    json_decref(wire_callf(wire, "create", "[{s:[]},s]", "$set", "set"));
    int64_t capacity = 0;
    for (int64_t n = 0; n <= 1500; n++) {
        demand(wire, "list", 56 + 8 * capacity, "list of appended", n);
        if (n < 341) { /* where the table of str keys ends */
            demand(wire, "strs", STEP_BYTES(STR_KEYS, n), "dict of str keys", n);
        }
        if (n < 683) {
            demand(wire, "ints", STEP_BYTES(OTHER_KEYS, n), "dict of int keys", n);
        }
        demand(wire, "set", STEP_BYTES(MEMBERS, n), "set", n);
        char key[32];
        snprintf(key, sizeof key, "key%lld", (long long)n);
        json_decref(wire_callf(wire, "list.append", "[s,I]", "list", (json_int_t)n));
        json_decref(wire_callf(wire, "dict.setitem", "[s,s,I]", "strs", key, (json_int_t)n));
        json_decref(wire_callf(wire, "dict.setitem", "[s,I,I]", "ints", (json_int_t)n, (json_int_t)n));
        json_decref(wire_callf(wire, "set.add", "[s,I]", "set", (json_int_t)n));
        if (n + 1 > capacity) {
            capacity = ((n + 1) + ((n + 1) >> 3) + 6) & ~(int64_t)3;
        }
    }
}

/* ---- classes and instances ---- */

/* `{"$class":NAME,"slots":[..]}` of n slots a0, a1, .. */
static json_t *slotted(const char *name, int n)
{
    json_t *j_slots = json_array();
    for (int i = 0; i < n; i++) {
        json_array_append_new(j_slots, json_sprintf("a%d", i));
    }
    return json_pack("{s:s,s:o}", "$class", name, "slots", j_slots);
}

/* An instance with attributes a0..a(n-1). */
static json_t *instance(const char *class, int n)
{
    json_t *j_attrs = json_object();
    for (int i = 0; i < n; i++) {
        char name[16];
        snprintf(name, sizeof name, "a%d", i);
        json_object_set_new(j_attrs, name, json_integer(i));
    }
    return json_pack("{s:s,s:o}", "$instance", class, "attrs", j_attrs);
}

static void test_sizes_of_classes_and_instances(void **state)
{
    struct wire *wire = ((struct fixture *)*state)->wire;
    for (int n = 0; n <= 60; n++) {
        json_decref(wire_callf(wire, "create", "[o,s]", slotted("Slotted", n), "Slotted"));
        json_decref(wire_callf(wire, "create", "[{s:s},s]", "$class", "Plain", "Plain"));
        demand(wire, "Slotted", 1688, "class with slots", n);
        demand(wire, "Plain", 1688, "class", n);
        demand_new(wire, instance("Slotted", n), 32 + 8 * n, "instance with slots", n);
        /* CPython's 56 leave the values out; they are 8 bytes each and a header of 16. */
        demand_new(wire, instance("Plain", n), n <= 3 ? 56 : 56 + 16 + 8 * n, "instance with attributes", n);
    }
    json_decref(wire_callf(wire, "weakref.create", "[s]", "Plain"));
    demand_new(wire, json_pack("{s:s}", "$weakref", "Plain"), 80, "weakref", 0);
}

/* Bytes that all instances of a class take, from the rows of stats objects. */
static int64_t type_bytes(struct wire *wire, const char *type)
{
    int64_t bytes = 0;
    size_t i;
    json_t *j_objects = wire_callf(wire, "stats", "[s]", "objects"), *j_type;
    json_array_foreach(json_object_get(j_objects, "types"), i, j_type)
    {
        if (strcmp(json_string_value(json_object_get(j_type, "type")), type) == 0) {
            bytes = json_integer_value(json_object_get(j_type, "bytes"));
        }
    }
    json_decref(j_objects);
    return bytes;
}

/* A list of n instances, made a thousand a request; what each takes as part of all. */
static int64_t bytes_of_many(struct wire *wire, const char *class, int n, int attributes)
{
    json_decref(wire_callf(wire, "create", "[[],s]", "many"));
    for (int made = 0; made < n; made += 1000) {
        json_t *j_page = json_array();
        for (int i = 0; i < 1000; i++) {
            json_array_append_new(j_page, instance(class, attributes));
        }
        json_decref(wire_callf(wire, "list.extend", "[s,o]", "many", j_page));
    }
    int64_t bytes = type_bytes(wire, class);
    json_decref(wire_callf(wire, "name.unbind", "[s]", "many"));
    return bytes;
}

/* With a __dict__ an instance carries which attributes it has, and room for more. */
static void test_sizes_slots_save(void **state)
{
    enum { MANY = 100000, ATTRIBUTES = 2 };
    struct wire *wire = ((struct fixture *)*state)->wire;
    json_decref(wire_callf(wire, "create", "[o,s]", slotted("Slotted", ATTRIBUTES), "Slotted"));
    json_decref(wire_callf(wire, "create", "[{s:s},s]", "$class", "Plain", "Plain"));
    json_decref(wire_callf(wire, "create", "[o,s]", instance("Slotted", ATTRIBUTES), "slotted"));
    json_decref(wire_callf(wire, "create", "[o,s]", instance("Plain", ATTRIBUTES), "plain"));
    assert_int_equal(size_of(wire, "slotted"), 32 + 16); /* 16: its id */
    assert_int_equal(size_of(wire, "plain"), 48 + 16);
    json_decref(wire_callf(wire, "name.unbind", "[s]", "slotted"));
    json_decref(wire_callf(wire, "name.unbind", "[s]", "plain"));
    /* Those in the list have no ids of their own. */
    assert_int_equal(bytes_of_many(wire, "Slotted", MANY, ATTRIBUTES), MANY * 32);
    assert_int_equal(bytes_of_many(wire, "Plain", MANY, ATTRIBUTES), MANY * 48);
}

/* Slots always cost less than a __dict__; but where the attributes of the first instance of its class come one at a
 * time, some of them fill the room that was left for them. */
static void test_sizes_slots_always_save(void **state)
{
    struct wire *wire = ((struct fixture *)*state)->wire;
    for (int n = 0; n <= 60; n++) {
        json_decref(wire_callf(wire, "create", "[o,s]", slotted("Slotted", n), "Slotted"));
        json_decref(wire_callf(wire, "create", "[{s:s},s]", "$class", "Plain", "Plain"));
        json_decref(wire_callf(wire, "create", "[o,s]", instance("Slotted", n), "slotted"));
        json_decref(wire_callf(wire, "create", "[o,s]", instance("Plain", n), "plain"));
        json_decref(wire_callf(wire, "create", "[{s:s},s]", "$class", "Grown", "Grown"));
        json_decref(wire_callf(wire, "create", "[o,s]", instance("Grown", 0), "grown"));
        for (int i = 0; i < n; i++) {
            char name[16];
            snprintf(name, sizeof name, "a%d", i);
            json_decref(wire_callf(wire, "attr.set", "[s,s,i]", "grown", name, i));
        }
        assert_true(size_of(wire, "slotted") < size_of(wire, "plain"));
        assert_true(size_of(wire, "slotted") < size_of(wire, "grown") || (n > 4 && n < 8));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        fixture_test(test_sizes_of_numbers),
        fixture_test(test_sizes_of_text),
        fixture_test(test_sizes_of_tuples_and_list_literals),
        fixture_test(test_sizes_of_growing_containers),
        fixture_test(test_sizes_of_classes_and_instances),
        fixture_test(test_sizes_slots_save),
        fixture_test(test_sizes_slots_always_save),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
