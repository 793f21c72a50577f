/* test_storage.c -- where objects lie, and maps of arenas that add up to the allocator's figures. */
#include "heap_fixture.h"

/* The arena of that number as heap_arena_next() has it; false: there is none. */
static bool find_arena(struct heap *heap, uint32_t number, struct heap_arena_figures *arena)
{
    uint32_t position = 0;
    while (heap_arena_next(heap, &position, arena)) {
        if (arena->arena == number) {
            return true;
        }
    }
    return false;
}

/* The sums over all arenas are what heap_stats() says, class by class. */
static void assert_maps_agree(struct heap *heap)
{
    struct heap_stats stats;
    struct heap_arena_figures arena;
    struct heap_class_figures classes[32] = {{0}};
    uint64_t arenas = 0, bytes = 0, free_pools = 0;
    uint32_t position = 0, last = 0;
    while (heap_arena_next(heap, &position, &arena)) {
        assert_true(arena.arena > last);
        last = arena.arena;
        arenas++;
        bytes += arena.bytes;
        for (uint32_t i = 0; i < arena.pool_count; i++) {
            const struct heap_pool_figures *pool = &arena.pools[i];
            if (pool->size == 0) {
                assert_int_equal(pool->used + pool->capacity, 0);
                free_pools++;
                continue;
            }
            assert_true(pool->used <= pool->capacity);
            assert_int_equal(pool->capacity, POOL_BYTES / pool->size);
            struct heap_class_figures *row = &classes[pool->size / 16 - 1];
            row->pools++;
            row->blocks += pool->used;
            row->free += pool->capacity - pool->used;
        }
    }
    heap_stats(&stats, heap);
    assert_int_equal(arenas, stats.arenas);
    assert_int_equal(bytes, stats.arena_bytes);
    assert_int_equal(free_pools, stats.pools_free);
    for (int class = 0; class < 32; class++) {
        assert_int_equal(classes[class].pools, stats.classes[class].pools);
        assert_int_equal(classes[class].blocks, stats.classes[class].blocks);
        assert_int_equal(classes[class].free, stats.classes[class].free);
    }
    assert_int_equal(heap_used_bytes(heap), stats.arena_bytes + stats.raw_bytes + stats.table_bytes);
}

static void test_storage_arenas_add_up_to_the_figures(void **state)
{
    struct heap *heap = *state;
    assert_maps_agree(heap);
    heap_ref keeper = keep(heap, new_list(heap));
    char text[700];
    memset(text, 'x', sizeof text);
    for (uint32_t i = 0; i < 60000; i++) { /* every class, some raw blocks, several arenas of each stretch */
        heap_ref str;
        OK(heap_str_create(&str, heap, text, 2 + i % (sizeof text - 2)));
        OK(heap_list_append_steal(heap, keeper, str));
    }
    assert_maps_agree(heap);
    for (uint32_t i = 50000; i > 0; i -= 2) { /* holes, and blocks in magazines */
        heap_decref(heap, heap_list_pop(heap, keeper, i));
    }
    assert_maps_agree(heap);
    heap_list_clear(heap, keeper);
    heap_settle(heap);
    assert_maps_agree(heap);
    drop(heap, keeper);
}

static void test_storage_of_an_object_is_in_its_arenas_map(void **state)
{
    struct heap *heap = *state;
    heap_ref objects[] = {keep(heap, new_list(heap)), keep(heap, new_str(heap, "a text of some length")),
                          keep(heap, new_int(heap, 1 << 20)), heap_none(heap)};
    const uint32_t sizes[] = {32, 48, 16, 16};
    for (size_t i = 0; i < sizeof objects / sizeof *objects; i++) {
        struct heap_storage storage;
        struct heap_arena_figures arena;
        heap_storage(&storage, heap, objects[i]);
        assert_int_equal(storage.address, (uintptr_t)object_at(heap, objects[i]));
        assert_int_equal(storage.size_class, sizes[i]);
        assert_true(find_arena(heap, storage.arena, &arena));
        assert_true(storage.pool < arena.pool_count);
        assert_int_equal(arena.pools[storage.pool].size, sizes[i]);
        assert_true(arena.pools[storage.pool].used > 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_storage_arenas_add_up_to_the_figures),
        TEST(test_storage_of_an_object_is_in_its_arenas_map),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
