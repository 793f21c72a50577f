/* test_map32.c -- the map against an array, while it grows and shrinks a little at a time. */
#include "pymalloc_fixture.h"

#include "../../heap/map32.h"

static void test_map32_starts_empty_without_memory(void **state)
{
    struct fixture *fixture = *state;
    struct map32 map;
    map32_init(&map, &fixture->pm);
    uint64_t position = 0;
    uint32_t key, value;
    assert_null(map32_find(&map, 7));
    map32_remove(&map, 7);
    assert_false(map32_next(&map, &position, &key, &value));
    assert_int_equal(map32_check(&map, stderr), 0);
    assert_int_equal(fixture_figures(&fixture->pm).table_bytes, 0);
    map32_fini(&map);
}

static void test_map32_put_makes_zero_and_finds_again(void **state)
{
    struct fixture *fixture = *state;
    struct map32 map;
    map32_init(&map, &fixture->pm);
    uint32_t *value = map32_put(&map, 0xFFFFFFFFu);
    assert_non_null(value);
    assert_int_equal(*value, 0);
    *value = 5;
    assert_int_equal(*map32_put(&map, 0xFFFFFFFFu), 5);
    assert_int_equal(map.count, 1);
    map32_remove(&map, 0xFFFFFFFFu);
    assert_null(map32_find(&map, 0xFFFFFFFFu));
    assert_int_equal(*map32_put(&map, 0xFFFFFFFFu), 0);
    map32_fini(&map);
}

/* Each entry exactly once, also in the middle of a move. */
static void demand_same(const struct map32 *map, const uint32_t *expected, uint32_t keys)
{
    uint64_t position = 0;
    uint32_t key, value, seen = 0, present = 0;
    while (map32_next(map, &position, &key, &value)) {
        assert_in_range(key, 1, keys - 1);
        assert_int_equal(value, expected[key]);
        seen++;
    }
    for (key = 1; key < keys; key++) {
        const uint32_t *found = map32_find(map, key);
        assert_int_equal(found != NULL ? *found : 0, expected[key]);
        present += found != NULL;
    }
    assert_int_equal(seen, present);
    assert_int_equal(map->count, present);
}

/* Random puts and removes; in turn puts and removes prevail, so that it grows and shrinks. */
static void test_map32_is_an_array(void **state)
{
    struct fixture *fixture = *state;
    enum { KEYS = 5000, STEPS = 120000, PHASE = 15000 };
    uint32_t *expected = calloc(KEYS, sizeof *expected), moving = 0;
    struct map32 map;
    assert_non_null(expected);
    map32_init(&map, &fixture->pm);
    for (uint32_t step = 0; step < STEPS; step++) {
        uint32_t key = 1 + fixture_random(fixture, KEYS - 1);
        if (fixture_random(fixture, 8) < (step / PHASE % 2 == 0 ? 6 : 1)) {
            uint32_t *value = map32_put(&map, key);
            assert_int_equal(*value, expected[key]);
            *value = expected[key] = step + 1;
        } else {
            map32_remove(&map, key);
            expected[key] = 0;
        }
        moving += map.old != NULL;
        if (step % 997 == 0) {
            assert_int_equal(map32_check(&map, stderr), 0);
            demand_same(&map, expected, KEYS);
        }
    }
    assert_true(moving > 100); /* the interesting state was met */
    for (uint32_t key = 1; key < KEYS; key++) {
        map32_remove(&map, key);
    }
    assert_int_equal(map.count, 0);
    assert_true(map.room <= 64 && map.old == NULL); /* memory went back */
    map32_fini(&map);
    free(expected);
}

/* Every state between two tables: after each number of entries, remove each of them and put it back. */
static void test_map32_removes_in_the_middle_of_a_move(void **state)
{
    struct fixture *fixture = *state;
    enum { KEYS = 400 };
    uint32_t expected[KEYS] = {0};
    struct map32 map;
    map32_init(&map, &fixture->pm);
    for (uint32_t key = 1; key < KEYS; key++) {
        *map32_put(&map, key) = expected[key] = key * 3;
        uint32_t other = 1 + fixture_random(fixture, key);
        map32_remove(&map, other);
        expected[other] = 0;
        assert_int_equal(map32_check(&map, stderr), 0);
        demand_same(&map, expected, KEYS);
        if (other != key) {
            *map32_put(&map, other) = expected[other] = other * 5;
        }
        demand_same(&map, expected, KEYS);
    }
    map32_fini(&map);
}

/* No put or remove may touch many entries, however many there are: the old table goes in small steps. */
static void test_map32_moves_a_little_at_a_time(void **state)
{
    struct fixture *fixture = *state;
    struct map32 map;
    map32_init(&map, &fixture->pm);
    for (uint32_t key = 1; key <= 100000; key++) {
        uint32_t moved = map.moved, room = map.room;
        assert_non_null(map32_put(&map, key));
        assert_true(map.room != room || map.old == NULL || map.moved - moved <= 8);
    }
    assert_true(map.count <= map.room - map.room / 4);
    map32_fini(&map);
}

static void test_map32_survives_lack_of_memory(void **state)
{
    struct fixture *fixture = *state;
    struct map32 map;
    map32_init(&map, &fixture->pm);
    fixture->pm.max_bytes = 1; /* nothing at all */
    assert_null(map32_put(&map, 1));
    assert_int_equal(map.count, 0);
    fixture->pm.max_bytes = 0;
    uint32_t put = 0;
    assert_non_null(map32_put(&map, ++put));
    fixture->pm.max_bytes = 1; /* from here on it cannot grow, but fills what it has */
    while (map32_put(&map, put + 1) != NULL) {
        put++;
    }
    assert_in_range(put, 5, 8);
    assert_int_equal(map.count, put);
    assert_int_equal(map32_check(&map, stderr), 0);
    for (uint32_t key = 1; key <= put; key++) {
        assert_non_null(map32_find(&map, key));
    }
    fixture->pm.max_bytes = 0;
    assert_non_null(map32_put(&map, put + 1));
    map32_fini(&map);
}

static void test_map32_check_notices_damage(void **state)
{
    struct fixture *fixture = *state;
    struct map32 map;
    map32_init(&map, &fixture->pm);
    for (uint32_t key = 1; key <= 50; key++) {
        assert_non_null(map32_put(&map, key));
    }
    assert_int_equal(map32_check(&map, stderr), 0);
    map.count++;
    assert_int_not_equal(map32_check(&map, fixture->nowhere), 0);
    map.count--;
    uint32_t full = 0;
    while (map.slots[full].key == 0) {
        full++;
    }
    struct map32_slot kept = map.slots[full];
    map.slots[full].key = 0; /* a key lost */
    assert_int_not_equal(map32_check(&map, fixture->nowhere), 0);
    map.slots[full] = kept;
    uint32_t *other = map32_find(&map, kept.key % 50 + 1);
    struct map32_slot *twice = (struct map32_slot *)((char *)other - offsetof(struct map32_slot, value));
    uint32_t key = twice->key;
    twice->key = kept.key; /* a key twice, another gone */
    assert_int_not_equal(map32_check(&map, fixture->nowhere), 0);
    twice->key = key;
    assert_int_equal(map32_check(&map, stderr), 0);
    map32_fini(&map);
}

/* The longest row of taken slots, which is what a search may have to pass. */
static uint32_t longest_run(const struct map32 *map)
{
    uint32_t longest = 0, run = 0;
    for (uint32_t i = 0; i < map->room; i++) {
        run = map->slots[i].key != 0 ? run + 1 : 0;
        longest = run > longest ? run : longest;
    }
    return longest;
}

#define MANY 100000u
#define RUN_MAX 2000u /* a random order has a tenth of that */

/* Puts into `to` as many keys as `from` has, in the order in which they lie in `from`; no run gets long. */
static void put_in_order_of(struct map32 *to, const uint32_t *keys)
{
    for (uint32_t i = 0; i < MANY; i++) {
        assert_non_null(map32_put(to, keys[i]));
        if (i % 1000 == 0) {
            assert_in_range(longest_run(to), 1, RUN_MAX);
        }
    }
}

/* A map filled in the order of another one, as when a session is let go in the order of its holds and what it had
 * is used again in that order: with the same homes in both the keys pile up at the beginning of a map that is
 * still small, and each put searches through all of them. */
static void test_map32_stays_spread_in_the_order_of_another(void **state)
{
    struct fixture *fixture = *state;
    struct map32 one, other;
    uint64_t position = 0;
    uint32_t value, *keys = calloc(MANY, sizeof *keys);
    assert_non_null(keys);
    map32_init(&one, &fixture->pm);
    map32_init(&other, &fixture->pm);
    for (uint32_t key = 1; key <= MANY; key++) {
        assert_non_null(map32_put(&one, key));
    }
    for (uint32_t i = 0; i < MANY; i++) {
        assert_true(map32_next(&one, &position, &keys[i], &value));
    }
    put_in_order_of(&other, keys);
    for (uint32_t i = 0; i < MANY; i++) {
        map32_remove(&one, keys[i]);
    }
    put_in_order_of(&one, keys); /* its own order, after it was empty */
    assert_int_equal(map32_check(&one, stderr), 0);
    map32_fini(&one);
    map32_fini(&other);
    free(keys);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_map32_starts_empty_without_memory),
        TEST(test_map32_put_makes_zero_and_finds_again),
        TEST(test_map32_is_an_array),
        TEST(test_map32_removes_in_the_middle_of_a_move),
        TEST(test_map32_moves_a_little_at_a_time),
        TEST(test_map32_stays_spread_in_the_order_of_another),
        TEST(test_map32_survives_lack_of_memory),
        TEST(test_map32_check_notices_damage),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
