/* test_mapped.c -- large raw blocks: they keep what they have, and go back to the kernel a piece at a time. */
#include "pymalloc_fixture.h"

#define MIB ((size_t)1 << 20)

/* Under AddressSanitizer all blocks are malloc's. */
static void need_mappings(void)
{
    if (MAPPED_BYTES_MIN == SIZE_MAX) {
        puts("skipped: all blocks are malloc's under AddressSanitizer");
        skip();
    }
}

static uint64_t waste_bytes(const struct pymalloc *pm)
{
    return counter_read(&pm->private->waste_bytes);
}

static void fill(unsigned char *block, size_t from, size_t to)
{
    for (size_t i = from; i < to; i += 509) {
        block[i] = (unsigned char)(i % 251);
    }
}

static void assert_filled(const unsigned char *block, size_t to)
{
    for (size_t i = 0; i < to; i += 509) {
        assert_int_equal(block[i], i % 251);
    }
}

static void test_mapped_keeps_its_bytes_at_every_size(void **state)
{
    struct pymalloc *pm = &((struct fixture *)*state)->pm;
    static const size_t sizes[] = {1000,        MIB - 1,  MIB,     MIB + 1, 3 * MIB + 7, 5 * MIB, 2 * MIB - 3,
                                   MIB + 65537, 9 * MIB, MIB - 9, 2000,    4 * MIB,     600};
    size_t bytes = 700;
    unsigned char *block = pymalloc_raw_alloc(pm, bytes);
    fill(block, 0, bytes);
    for (unsigned i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        block = pymalloc_raw_realloc(pm, block, bytes, sizes[i]);
        assert_non_null(block);
        assert_filled(block, bytes < sizes[i] ? bytes : sizes[i]);
        bytes = sizes[i];
        fill(block, 0, bytes);
        block[bytes - 1] = (unsigned char)((bytes - 1) % 251); /* all of it can be touched */
        assert_int_equal(fixture_figures(pm).raw_bytes, pymalloc_raw_rounded(bytes));
        assert_int_equal(fixture_figures(pm).raw_blocks, 1);
        fixture_check(pm);
        if (i % 3 == 2) {
            pymalloc_release(pm);
        }
    }
    pymalloc_raw_free(pm, block, bytes);
}

/* Also where one shrinks and grows again, over bytes that it has written before. */
static void test_mapped_tables_are_zero(void **state)
{
    struct pymalloc *pm = &((struct fixture *)*state)->pm;
    static const size_t sizes[] = {MIB / 2, MIB + 100, 2 * MIB, MIB + 5, 3 * MIB, MIB / 4, MIB, MIB + 70000};
    size_t bytes = MIB / 3;
    unsigned char *table = pymalloc_table_alloc(pm, bytes);
    for (unsigned i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        memset(table, 0xEE, bytes);
        table = pymalloc_table_realloc(pm, table, bytes, sizes[i]);
        assert_non_null(table);
        for (size_t k = 0; k < sizes[i]; k++) {
            if (table[k] != (k < bytes ? 0xEE : 0)) {
                fail_msg("byte %zu of %zu, which were %zu, is %#x", k, sizes[i], bytes, table[k]);
            }
        }
        bytes = sizes[i];
    }
    assert_int_equal(fixture_figures(pm).table_bytes, pymalloc_raw_rounded(bytes));
    pymalloc_table_free(pm, table, bytes);
}

static void test_mapped_is_released_in_pieces(void **state)
{
    struct pymalloc *pm = &((struct fixture *)*state)->pm;
    need_mappings();
    char *first = pymalloc_raw_alloc(pm, 5 * MIB + 1), *second = pymalloc_raw_alloc(pm, 3 * MIB);
    memset(first, 'f', 5 * MIB);
    memset(second, 's', 3 * MIB);
    assert_false(pymalloc_can_release(pm));
    pymalloc_raw_free(pm, first, 5 * MIB + 1);
    assert_int_equal(waste_bytes(pm), 5 * MIB + MAPPED_ROUND_BYTES);
    second = pymalloc_raw_realloc(pm, second, 3 * MIB, MIB + 1); /* what is cut off, too */
    assert_int_equal(waste_bytes(pm), 7 * MIB);
    assert_int_equal(second[MIB], 's');
    unsigned pieces = 0;
    while (pymalloc_can_release(pm)) {
        uint64_t before = waste_bytes(pm);
        assert_true(pymalloc_release(pm));
        assert_in_range(before - waste_bytes(pm), 1, MIB);
        assert_int_equal(pymalloc_check(pm, stderr), 0);
        pieces++;
    }
    assert_int_equal(pieces, 6 + 2);
    assert_int_equal(waste_bytes(pm), 0);
    assert_false(pymalloc_release(pm));
    assert_int_equal(second[MIB], 's');
    pymalloc_raw_free(pm, second, MIB + 1); /* the allocator goes while there is waste */
}

/* What is freed counts until the kernel has it, and goes where something else needs the room. */
static void test_mapped_waste_yields_to_the_limit(void **state)
{
    struct pymalloc *pm = &((struct fixture *)*state)->pm;
    need_mappings();
    pm->max_bytes = 8 * MIB;
    void *large = pymalloc_raw_alloc(pm, 6 * MIB);
    assert_non_null(large);
    assert_null(pymalloc_raw_alloc(pm, 3 * MIB));
    pymalloc_raw_free(pm, large, 6 * MIB);
    void *other = pymalloc_raw_alloc(pm, 4 * MIB);
    assert_non_null(other);
    assert_int_equal(waste_bytes(pm), 4 * MIB);
    void *small = pymalloc_alloc(pm, POOL_ATOM, 0); /* an arena */
    assert_non_null(small);
    assert_int_equal(waste_bytes(pm), 3 * MIB);
    assert_null(pymalloc_raw_alloc(pm, 4 * MIB)); /* all that waits is not enough, and gone nevertheless */
    pymalloc_free(pm, POOL_ATOM, 0, small);
    pymalloc_raw_free(pm, other, 4 * MIB);
    pm->max_bytes = 0;
}

static void test_mapped_checker_finds_a_wrong_sum(void **state)
{
    struct fixture *fixture = *state;
    struct pymalloc *pm = &fixture->pm;
    need_mappings();
    pymalloc_raw_free(pm, pymalloc_raw_alloc(pm, 2 * MIB), 2 * MIB);
    assert_int_equal(pymalloc_check(pm, stderr), 0);
    counter_sub(&pm->private->waste_bytes, MIB);
    assert_int_not_equal(pymalloc_check(pm, fixture->nowhere), 0);
    counter_add(&pm->private->waste_bytes, 2 * MIB);
    assert_int_not_equal(pymalloc_check(pm, fixture->nowhere), 0);
    counter_sub(&pm->private->waste_bytes, MIB);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_mapped_keeps_its_bytes_at_every_size), TEST(test_mapped_tables_are_zero),
        TEST(test_mapped_is_released_in_pieces),         TEST(test_mapped_waste_yields_to_the_limit),
        TEST(test_mapped_checker_finds_a_wrong_sum),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
