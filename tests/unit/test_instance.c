/* test_instance.c -- classes, slots, shapes and attributes. */
#include "heap_fixture.h"
#include "../../heap/shape.h"

#include <stdlib.h>

static heap_ref new_class(struct heap *heap, const char *name)
{
    heap_ref class;
    OK(heap_class_create(&class, heap, (struct heap_text){name, strlen(name)}, NULL, 0));
    return class;
}

static heap_ref new_instance(struct heap *heap, heap_ref class, uint32_t room)
{
    heap_ref instance;
    OK(heap_instance_create(&instance, heap, class, room));
    return instance;
}

static void set(struct heap *heap, heap_ref instance, const char *name, heap_ref value)
{
    OK(heap_attr_set_steal(heap, instance, name, strlen(name), value));
}

static heap_ref get(struct heap *heap, heap_ref instance, const char *name)
{
    heap_ref value;
    OK(heap_attr_get(&value, heap, instance, name, strlen(name)));
    return value;
}

static void attrs_are(struct heap *heap, heap_ref instance, const char *expected)
{
    char all[4096] = "";
    uint32_t pos = 0;
    const char *name;
    heap_ref value;
    while (heap_attr_next(heap, instance, &pos, &name, &value)) {
        strcat(all, name);
        strcat(all, " ");
    }
    assert_string_equal(all, expected);
}

static void test_instance_attributes_keep_the_order_of_setting(void **state)
{
    struct heap *heap = *state;
    heap_ref class = keep(heap, new_class(heap, "Node"));
    heap_ref a = keep(heap, new_instance(heap, class, 0)), b = keep(heap, new_instance(heap, class, 0));
    assert_string_equal(heap_type_name(heap, a), "Node");
    assert_int_equal(heap_refcount(heap, class), 3);
    set(heap, a, "x", new_int(heap, 1));
    set(heap, a, "y", new_int(heap, 1000));
    set(heap, b, "y", new_int(heap, 2));
    set(heap, b, "x", new_int(heap, 3));
    set(heap, a, "x", new_int(heap, 4));
    attrs_are(heap, a, "x y ");
    attrs_are(heap, b, "y x ");
    assert_int_equal(get(heap, a, "x"), new_int(heap, 4));
    assert_int_equal(get(heap, a, "z"), 0);
    OK(heap_attr_del(heap, a, "x", 1));
    attrs_are(heap, a, "y ");
    set(heap, a, "x", new_int(heap, 5));
    attrs_are(heap, a, "y x ");
    assert_int_equal(heap_attr_del(heap, a, "nope", 4), HEAP_ATTR);
    heap_ref value;
    assert_int_equal(heap_attr_get(&value, heap, a, "1x", 2), HEAP_BAD_IDENTIFIER);
    fixture_check(heap);
}

static void test_instance_of_three_values_is_small(void **state)
{
    struct heap *heap = *state;
    struct heap_text slots[3] = {{"x", 1}, {"y", 1}, {"z", 1}};
    heap_ref plain = new_class(heap, "P"), slotted;
    OK(heap_class_create(&slotted, heap, (struct heap_text){"S", 1}, slots, 3));
    heap_ref a = new_instance(heap, plain, 3), b = new_instance(heap, slotted, 0);
    for (const char *name = "xyz"; *name != '\0'; name++) {
        OK(heap_attr_set_steal(heap, a, name, 1, new_int(heap, 1)));
        OK(heap_attr_set_steal(heap, b, name, 1, new_int(heap, 1)));
    }
    assert_int_equal(heap_sizeof(heap, a), 48);
    assert_int_equal(heap_sizeof(heap, b), 32);
    assert_int_equal(heap_attr_set_steal(heap, b, "w", 1, new_int(heap, 1000)), HEAP_ATTR);
    OK(heap_attr_del(heap, b, "y", 1));
    attrs_are(heap, b, "x z ");
    assert_int_equal(heap_attr_del(heap, b, "y", 1), HEAP_ATTR);
    assert_int_equal(heap_class_slot_count(heap, slotted), 3);
    assert_string_equal(heap_class_slot(heap, slotted, 2), "z");
    heap_decref(heap, plain);
    heap_decref(heap, slotted);
    heap_decref(heap, a);
    heap_decref(heap, b);
}

static void test_instance_bad_classes_are_refused(void **state)
{
    struct heap *heap = *state;
    heap_ref class;
    struct heap_text twice[2] = {{"x", 1}, {"x", 1}}, bad[1] = {{"a b", 3}};
    assert_int_equal(heap_class_create(&class, heap, (struct heap_text){"list", 4}, NULL, 0), HEAP_RESERVED_CLASS);
    assert_int_equal(heap_class_create(&class, heap, (struct heap_text){"", 0}, NULL, 0), HEAP_BAD_IDENTIFIER);
    assert_int_equal(heap_class_create(&class, heap, (struct heap_text){"A", 1}, twice, 2), HEAP_REPEATED_SLOT);
    assert_int_equal(heap_class_create(&class, heap, (struct heap_text){"A", 1}, bad, 1), HEAP_BAD_IDENTIFIER);
    char name[257];
    memset(name, 'a', sizeof name);
    assert_int_equal(heap_class_create(&class, heap, (struct heap_text){name, 256}, NULL, 0), HEAP_BAD_IDENTIFIER);
    OK(heap_class_create(&class, heap, (struct heap_text){name, 255}, NULL, 0));
    heap_decref(heap, class);
    heap_ref list = new_list(heap), instance;
    assert_int_equal(heap_instance_create(&instance, heap, list, 0), HEAP_TYPE);
    heap_decref(heap, list);
}

/* Far more attributes than a shared shape has, set, deleted and set again in random order, beside a model. */
static void test_instance_with_many_attributes(void **state)
{
    struct heap *heap = *state;
    const char *env = getenv("SEED");
    unsigned seed = env != NULL ? (unsigned)atoi(env) : 11u;
    print_message("SEED=%u\n", seed);
    srand(seed);
    heap_ref class = keep(heap, new_class(heap, "Many")), instance = keep(heap, new_instance(heap, class, 0));
    heap_ref model[300] = {0};
    char name[16];
    for (int step = 0; step < 30000; step++) {
        int k = rand() % 300, len = snprintf(name, sizeof name, "attr%d", k);
        if (rand() % 3 != 0) {
            model[k] = new_int(heap, 1000 + step);
            OK(heap_attr_set_steal(heap, instance, name, (size_t)len, model[k]));
        } else {
            assert_int_equal(heap_attr_del(heap, instance, name, (size_t)len), model[k] != 0 ? HEAP_OK : HEAP_ATTR);
            model[k] = 0;
        }
        if (step % 3000 == 0) {
            fixture_check(heap);
        }
    }
    uint32_t count = 0;
    for (int k = 0; k < 300; k++) {
        snprintf(name, sizeof name, "attr%d", k);
        assert_int_equal(get(heap, instance, name), model[k]);
        count += model[k] != 0;
    }
    assert_int_equal(heap_attr_count(heap, instance), count);
    fixture_check(heap);
}

static void test_instance_shapes_without_users_do_not_pile_up(void **state)
{
    struct heap *heap = *state;
    heap_ref class = keep(heap, new_class(heap, "A"));
    char name[16];
    for (int i = 0; i < 5000; i++) {
        heap_ref instance = new_instance(heap, class, 0);
        int len = snprintf(name, sizeof name, "a%d", i);
        OK(heap_attr_set_steal(heap, instance, name, (size_t)len, new_int(heap, 1)));
        heap_decref(heap, instance);
        heap_settle(heap);
    }
    assert_true(heap->classes->shapes.count < 200);
    assert_true(heap->classes->symbols.count < 200);
    fixture_check(heap);
}

struct row {
    uint64_t objects, bytes;
};

static void find_row(void *arg, const char *class_name, uint64_t objects, uint64_t bytes)
{
    if (strcmp(class_name, "Counted") == 0) {
        *(struct row *)arg = (struct row){objects, bytes};
    }
}

static void test_instance_statistics_are_by_class(void **state)
{
    struct heap *heap = *state;
    heap_ref class = new_class(heap, "Counted"), instances[10];
    uint64_t bytes = 0, id;
    for (int i = 0; i < 10; i++) {
        instances[i] = new_instance(heap, class, (uint32_t)i * 20);
        for (int k = 0; k < i * 10; k++) {
            char name[16];
            int len = snprintf(name, sizeof name, "a%d", k);
            OK(heap_attr_set_steal(heap, instances[i], name, (size_t)len, new_int(heap, k)));
        }
        OK(heap_id(&id, heap, instances[i]));
        bytes += heap_sizeof(heap, instances[i]);
    }
    struct row row = {0, 0};
    heap_stats_classes(heap, find_row, &row);
    assert_int_equal(row.objects, 10);
    assert_int_equal(row.bytes, bytes);
    for (int i = 0; i < 10; i++) {
        heap_decref(heap, instances[i]);
    }
    heap_settle(heap);
    row = (struct row){1, 1};
    heap_stats_classes(heap, find_row, &row);
    assert_int_equal(row.objects, 1); /* a class without instances has no row */
    heap_decref(heap, class);
}

/* ---- slots ---- */

/* A class of n slots s0, s1, ... */
static heap_ref new_slotted(struct heap *heap, const char *name, uint32_t n)
{
    static char texts[200][8];
    struct heap_text slots[200];
    heap_ref class;
    for (uint32_t k = 0; k < n; k++) {
        slots[k] = (struct heap_text){texts[k], (size_t)snprintf(texts[k], sizeof texts[k], "s%u", k)};
    }
    OK(heap_class_create(&class, heap, (struct heap_text){name, strlen(name)}, slots, n));
    return class;
}

/* Its values behind the header, or, where they fit no block, as those of other instances. */
static void test_instance_with_slots_is_its_header_and_values(void **state)
{
    struct heap *heap = *state;
    for (uint32_t n = 0; n < 150; n++) {
        heap_ref class = keep(heap, new_slotted(heap, "S", n)), instance = new_instance(heap, class, 0), value;
        if (n <= 124) {
            assert_int_equal(heap_sizeof(heap, instance), (16 + 4 * n + 15) / 16 * 16);
        }
        keep(heap, instance);
        for (uint32_t k = 0; k < n; k++) {
            char name[16];
            snprintf(name, sizeof name, "s%u", k);
            assert_int_equal(get(heap, instance, name), 0);
            set(heap, instance, name, new_int(heap, 1000 + k));
        }
        assert_int_equal(heap_attr_count(heap, instance), n);
        assert_int_equal(heap_attr_set_steal(heap, instance, "other", 5, heap_none(heap)), HEAP_ATTR);
        assert_int_equal(heap_attr_get(&value, heap, instance, "other", 5), HEAP_ATTR);
        for (uint32_t k = 0; k < n; k++) {
            char name[16];
            int64_t number;
            snprintf(name, sizeof name, "s%u", k);
            assert_true(heap_int_value(&number, heap, get(heap, instance, name)));
            assert_int_equal(number, 1000 + k);
        }
        if (n > 1) {
            OK(heap_attr_del(heap, instance, "s1", 2));
            assert_int_equal(get(heap, instance, "s1"), 0);
            assert_int_equal(heap_attr_count(heap, instance), n - 1);
        }
        fixture_check(heap);
        drop(heap, instance);
        drop(heap, class);
        heap_settle(heap);
    }
}

/* The header has 16 bits for the number of the shape: instances of later classes carry it beside their values. */
static void test_instance_of_any_of_many_classes_knows_its_own(void **state)
{
    enum { CLASSES = 66000 };
    struct heap *heap = *state;
    for (int n = 0; n < CLASSES; n++) {
        char name[16];
        snprintf(name, sizeof name, "C%d", n);
        heap_ref class = keep(heap, new_slotted(heap, name, 1));
        if (n % 1000 == 0 || n >= CLASSES - 10) {
            heap_ref instance = keep(heap, new_instance(heap, class, 0));
            assert_string_equal(heap_type_name(heap, instance), name);
            assert_int_equal(heap_instance_class(heap, instance), class);
            set(heap, instance, "s0", new_int(heap, 1000000 + n));
            assert_int_equal(heap_attr_count(heap, instance), 1);
            assert_true(heap_gc_is_tracked(heap, instance));
        }
    }
    fixture_check(heap);
    assert_int_equal(collect(heap, 2), 0);
    fixture_check(heap);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_instance_attributes_keep_the_order_of_setting),
        TEST(test_instance_of_three_values_is_small),
        TEST(test_instance_bad_classes_are_refused),
        TEST(test_instance_with_many_attributes),
        TEST(test_instance_shapes_without_users_do_not_pile_up),
        TEST(test_instance_statistics_are_by_class),
        TEST(test_instance_with_slots_is_its_header_and_values),
        TEST(test_instance_of_any_of_many_classes_knows_its_own),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
