/* test_bigint.c -- digits of big ints both ways, and their comparison with doubles. */
#include "heap_fixture.h"

#include <math.h>
#include <stdio.h>

#include "../support/process.h"

/* Digits in, digits out: `digits` without what stands before `expected`. */
static void round_trip(const char *digits, const char *expected)
{
    uint32_t limbs[BIGINT_LIMBS_MAX], used;
    char back[HEAP_INT_DIGITS_MAX];
    bigint_from_digits(limbs, &used, digits, strlen(digits));
    assert_true(used == 0 || limbs[used - 1] != 0);
    size_t len = bigint_to_digits(back, limbs, used);
    assert_int_equal(len, strlen(expected));
    assert_memory_equal(back, expected, len);
}

static void test_bigint_digits_round_trip(void **state)
{
    (void)state;
    const char *const same[] = {"0", "1", "9", "10", "999999999", "1000000000", "1000000001",
                                "4294967295", "4294967296", "18446744073709551615", "18446744073709551616",
                                "340282366920938463463374607431768211456"};
    for (size_t i = 0; i < sizeof same / sizeof *same; i++) {
        round_trip(same[i], same[i]);
    }
    round_trip("000", "0");
    round_trip("00000000000000000000000000000000001", "1");
    round_trip("0000000018446744073709551616", "18446744073709551616");
}

static void test_bigint_limbs_are_little_endian(void **state)
{
    (void)state;
    uint32_t limbs[BIGINT_LIMBS_MAX], used;
    const char *digits = "79228162532711081667253501953"; /* 2**96 + 2**64 + 1 */
    bigint_from_digits(limbs, &used, digits, strlen(digits));
    assert_int_equal(used, 4);
    assert_int_equal(limbs[0], 1);
    assert_int_equal(limbs[1], 0);
    assert_int_equal(limbs[2], 1);
    assert_int_equal(limbs[3], 1);
}

static void test_bigint_longest_ints_round_trip(void **state)
{
    (void)state;
    struct process_random random;
    process_random_init(&random);
    for (int round = 0; round < process_rounds(60, 20); round++) {
        char digits[4301];
        uint32_t len = round < 3 ? 4300 : 1 + process_random_below(&random, 4300);
        for (uint32_t i = 0; i < len; i++) {
            digits[i] = (char)('0' + (round == 0 ? 9 : process_random_below(&random, 10)));
        }
        digits[0] = digits[0] == '0' ? '1' : digits[0];
        digits[len] = '\0';
        round_trip(digits, digits);
    }
}

/* ---- doubles ---- */

static bool equals(const char *digits, bool negative, double value)
{
    uint32_t limbs[BIGINT_LIMBS_MAX], used;
    bigint_from_digits(limbs, &used, digits, strlen(digits));
    return bigint_equals_double(limbs, used, negative, value);
}

static void test_bigint_equals_exactly_the_double_of_its_value(void **state)
{
    (void)state;
    assert_true(equals("0", false, 0.0));
    assert_true(equals("0", false, -0.0));
    assert_true(equals("1", false, 1.0));
    assert_true(equals("1", true, -1.0));
    assert_false(equals("1", true, 1.0));
    assert_false(equals("1", false, 1.5));
    assert_false(equals("0", false, 0.5));
    assert_false(equals("0", false, 5e-324));
    assert_true(equals("9007199254740992", false, 0x1p53));
    assert_false(equals("9007199254740993", false, 0x1p53));
    assert_true(equals("18446744073709551616", false, 0x1p64));
    assert_false(equals("18446744073709551617", false, 0x1p64));
    assert_true(equals("18446744073709551616", true, -0x1p64));
    assert_true(equals("99999999999999991611392", false, 1e23));
    assert_false(equals("100000000000000000000000", false, 1e23));
    assert_false(equals("1", false, INFINITY));
    assert_false(equals("1", false, NAN));
}

static void test_bigint_every_integral_double_comes_back_from_its_digits(void **state)
{
    (void)state;
    struct process_random random;
    process_random_init(&random);
    for (int round = 0; round < process_rounds(2000, 20); round++) {
        double value =
            ldexp((double)(process_random_next(&random) >> 11), (int)process_random_below(&random, 972));
        uint32_t limbs[BIGINT_DOUBLE_LIMBS], used;
        assert_true(bigint_from_double(limbs, &used, value));
        assert_true(used <= BIGINT_DOUBLE_LIMBS && (used == 0 || limbs[used - 1] != 0));
        char digits[400], expected[400];
        size_t len = bigint_to_digits(digits, limbs, used);
        int expected_len = snprintf(expected, sizeof expected, "%.0f", value); /* glibc prints them all */
        assert_int_equal(len, expected_len);
        assert_memory_equal(digits, expected, len);
        expected[len] = '\0';
        assert_true(equals(expected, false, value));
        assert_false(value != 0 && equals(expected, false, nextafter(value, 0)));
    }
    uint32_t limbs[BIGINT_DOUBLE_LIMBS], used;
    assert_true(bigint_from_double(limbs, &used, 0x1.fffffffffffffp1023));
    assert_int_equal(used, 32);
    assert_false(bigint_from_double(limbs, &used, 0.5));
    assert_false(bigint_from_double(limbs, &used, 4503599627370495.5));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bigint_digits_round_trip),
        cmocka_unit_test(test_bigint_limbs_are_little_endian),
        cmocka_unit_test(test_bigint_longest_ints_round_trip),
        cmocka_unit_test(test_bigint_equals_exactly_the_double_of_its_value),
        cmocka_unit_test(test_bigint_every_integral_double_comes_back_from_its_digits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
