/* test_number.c -- numbers to text and back, against the C library. */
#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../../protocol/number.h"
#include "random_fixture.h"

/* LONG=1: many more. */
static int rounds(int n)
{
    const char *more = getenv("LONG");
    return more != NULL && *more != '0' && *more != '\0' ? n * 50 : n;
}

static double double_of(uint64_t bits)
{
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static uint64_t bits_of(double value)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static const char *written(char *buf, double value)
{
    buf[number_write_double(buf, value)] = '\0';
    return buf;
}

/* The shortest digits and their exponent as the C library finds them: the least precision that reads back. */
static void library_shortest(char *buf, size_t room, double value)
{
    for (int precision = 0; precision < 17; precision++) {
        snprintf(buf, room, "%.*e", precision, value);
        if (strtod(buf, NULL) == value) {
            return;
        }
    }
}

static void expect_round_trip(double value)
{
    char buf[NUMBER_TEXT_MAX + 1], digits[40], again[40];
    size_t len = number_write_double(buf, value);
    assert_true(len <= NUMBER_TEXT_MAX);
    buf[len] = '\0';
    if (bits_of(strtod(buf, NULL)) != bits_of(value)) {
        fail_msg("%a is written %s, which strtod reads as %a", value, buf, strtod(buf, NULL));
    }
    double back = 0;
    assert_true(number_read_double(&back, buf, len));
    if (bits_of(back) != bits_of(value)) {
        fail_msg("%s is read as %a, not %a", buf, back, value);
    }
    /* As many digits as the shortest, and at that length the nearest: both texts in the same layout. */
    library_shortest(digits, sizeof digits, value);
    int precision = (int)(strcspn(digits, "e") - (digits[0] == '-'));
    precision = precision > 1 ? precision - 2 : 0;
    char plain[400];
    int n = 0;
    for (const char *p = buf; *p && *p != 'e'; p++) {
        if (*p >= '0' && *p <= '9') {
            plain[n++] = *p;
        }
    }
    plain[n] = '\0';
    char *first = plain;
    while (*first == '0' && first[1]) {
        first++;
    }
    for (size_t last = strlen(first); last > 1 && first[last - 1] == '0'; last--) {
        first[last - 1] = '\0';
    }
    if ((int)strlen(first) > precision + 1) {
        fail_msg("%s has more digits than %s", buf, digits);
    }
    snprintf(again, sizeof again, "%.*e", precision, strtod(buf, NULL));
    assert_string_equal(again, digits);
}

static void test_number_writes_as_repr(void **state)
{
    (void)state;
    static const struct {
        double value;
        const char *text;
    } cases[] = {
        {0.0, "0.0"},
        {-0.0, "-0.0"},
        {1.0, "1.0"},
        {1.1, "1.1"},
        {-1.5, "-1.5"},
        {0.1, "0.1"},
        {0.3, "0.3"},
        {0.1 + 0.2, "0.30000000000000004"},
        {100.0, "100.0"},
        {123456.0, "123456.0"},
        {1e15, "1000000000000000.0"},
        {9999999999999998.0, "9999999999999998.0"},
        {1e16, "1e+16"},
        {1.5e16, "1.5e+16"},
        {123456789012345680.0, "1.2345678901234568e+17"},
        {9007199254740993.0, "9007199254740992.0"},
        {0.0001, "0.0001"},
        {0.00012345, "0.00012345"},
        {0.00001, "1e-05"},
        {0.000012, "1.2e-05"},
        {1e22, "1e+22"},
        {1e23, "1e+23"},
        {9.5367431640625e-07, "9.5367431640625e-07"},
        {1e100, "1e+100"},
        {1e-100, "1e-100"},
        {5e-324, "5e-324"},
        {-5e-324, "-5e-324"},
        {2.2250738585072014e-308, "2.2250738585072014e-308"},
        {2.225073858507201e-308, "2.225073858507201e-308"},
        {DBL_MAX, "1.7976931348623157e+308"},
        {-DBL_MAX, "-1.7976931348623157e+308"},
        {3.141592653589793, "3.141592653589793"},
        {2.0 / 3, "0.6666666666666666"},
        {2251799813685248.5, "2251799813685248.5"},
        {1234567890123456.7, "1234567890123456.8"},
    };
    char buf[NUMBER_TEXT_MAX + 1];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_string_equal(written(buf, cases[i].value), cases[i].text);
        expect_round_trip(cases[i].value);
    }
}

static void test_number_writes_shortest_of_random_bits(void **state)
{
    (void)state;
    for (int i = 0; i < rounds(60000); i++) {
        double value = double_of(random_u64());
        if (isfinite(value)) {
            expect_round_trip(value);
        }
        expect_round_trip((double)(int64_t)(random_u64() >> (i % 60)) / 1000);
    }
}

static void test_number_writes_powers_and_neighbours(void **state)
{
    (void)state;
    for (int exponent = 0; exponent < 2047; exponent++) {
        uint64_t bits = (uint64_t)exponent << 52;
        expect_round_trip(double_of(bits));
        expect_round_trip(double_of(bits + 1));
        if (bits > 0) {
            expect_round_trip(double_of(bits - 1));
        }
    }
    for (int exponent = -323; exponent <= 308; exponent++) {
        char text[16];
        snprintf(text, sizeof text, "1e%d", exponent);
        double value = strtod(text, NULL);
        expect_round_trip(value);
        expect_round_trip(nextafter(value, 0));
        if (value < 1e308) {
            expect_round_trip(nextafter(value, INFINITY));
        }
    }
}

/* Number and kind, as they stand in a longer text. */
static void expect_read_within(const char *text, double expected)
{
    static char padded[2048];
    size_t len = strlen(text);
    for (const char *next = ",] }\n"; *next; next++) {
        memset(padded, '0' + (int)(len % 10), len + 16); /* what is read too far must not matter */
        memcpy(padded, text, len);
        padded[len] = *next;
        const char *at = padded;
        int64_t integer = 0;
        double value = 0;
        enum number_kind kind = number_read(&at, &integer, &value);
        assert_ptr_equal(at, padded + len);
        if (strpbrk(text, ".eE") == NULL) {
            assert_int_equal(kind, number_read_i64(&integer, text, len) ? NUMBER_INT : NUMBER_INT_TOO_LARGE);
        } else if (isinf(expected)) {
            assert_int_equal(kind, NUMBER_FLOAT_TOO_LARGE);
        } else if (kind != NUMBER_FLOAT || bits_of(value) != bits_of(expected)) {
            fail_msg("%s is read as %a of kind %d, the library reads %a", padded, value, (int)kind, expected);
        }
    }
}

static void expect_same_as_library(const char *text)
{
    double expected = strtod(text, NULL);
    double value = 12345;
    bool fits = number_read_double(&value, text, strlen(text));
    if (isinf(expected) == fits || (fits && bits_of(value) != bits_of(expected))) {
        fail_msg("%s is read as %s %a, the library reads %a", text, fits ? "" : "too large", value, expected);
    }
    expect_read_within(text, expected);
}

static void test_number_reads_edges(void **state)
{
    (void)state;
    static const char *const cases[] = {
        "0.0",
        "-0.0",
        "0e0",
        "0e999999999999999999999",
        "0.000e-99999999999999999999",
        "1e0",
        "1E+2",
        "1e-2",
        "1e308",
        "1e309",
        "1.7976931348623157e308",
        "1.7976931348623158e308",
        "1.7976931348623159e308",
        "1797693134862315807937289714053034150799341327100378269361737789804449682927647509466490179775872070"
        "96330"
        "2864166928879109465555478519404026306574886715058206819089020007083836762738548458177115317644757302"
        "70069"
        "855571366959622842914819860834936475292719074168444365510704342711559699508093042880.0",
        "4.9406564584124654e-324",
        "2.4703282292062327e-324",
        "2.4703282292062328e-324",
        "2e-324",
        "3e-324",
        "1e-323",
        "1e-340",
        "1e-400",
        "1e-9999999999999999999999",
        "1e9999999999999999999999",
        "-1e400",
        "2.2250738585072011e-308",
        "2.2250738585072012e-308",
        "2.2250738585072014e-308",
        "9007199254740993.0",
        "9007199254740992.99999999999999999999",
        "9007199254740993.00000000000000000001",
        "4503599627370496.5",
        "4503599627370497.5",
        "4503599627370497.50000000000000000000000000000000000000001",
        "123456789012345678901234567890.0",
        "0.000000000000000000000000000000000000000000000000000000001e57",
        "100000000000000000000000000000000000000000000000000000000000000000000000000000e-77",
        "8.41e+21",
        "9.5367431640625e-07",
        "6250000000000000000000000000000000e-12",
        "1.00000000000000011102230246251565404",
        "1.00000000000000011102230246251565405",
        "1.00000000000000011102230246251565403",
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        expect_same_as_library(cases[i]);
    }
}

static void test_number_reads_random_texts(void **state)
{
    (void)state;
    char text[1400];
    for (int i = 0; i < rounds(200000); i++) {
        int n = 0;
        if (random_u64() & 1) {
            text[n++] = '-';
        }
        int whole = (int)(random_u64() % 22), fraction = (int)(random_u64() % 22);
        text[n++] = (char)('1' + random_u64() % 9);
        for (int k = 0; k < whole; k++) {
            text[n++] = (char)('0' + random_u64() % 10);
        }
        text[n++] = '.';
        for (int k = 0; k <= fraction; k++) {
            text[n++] = (char)('0' + random_u64() % 10);
        }
        snprintf(text + n, 16, "e%d", (int)(random_u64() % 700) - 370);
        expect_same_as_library(text);
    }
}

/* The exact middle of two doubles, and texts just beside it, decide the last bit. */
static void test_number_reads_middles(void **state)
{
    (void)state;
    char text[1400];
    for (int i = 0; i < rounds(4000); i++) {
        /* From the smallest doubles to the largest; long double holds their middle. */
        double low = double_of(random_u64() % UINT64_C(0x7fe0000000000000) >> (i % 3 ? 0 : i % 11));
        long double middle = ((long double)low + nextafter(low, INFINITY)) / 2;
        snprintf(text, sizeof text - 8, "%.1100Le", middle);
        expect_same_as_library(text);
        char *last = strchr(text, 'e') - 1;
        *last = '1';
        expect_same_as_library(text);
        snprintf(text, sizeof text, "%.25Le", middle);
        expect_same_as_library(text);
        snprintf(text, sizeof text, "%.18Le", middle);
        expect_same_as_library(text);
    }
}

static void test_number_writes_ints(void **state)
{
    (void)state;
    char buf[NUMBER_TEXT_MAX + 1], expected[32];
    for (int i = 0; i < 200000; i++) {
        uint64_t value = random_u64() >> (i & 63);
        if (i < 40) { /* powers of ten and the number below */
            value = 1;
            for (int k = 0; k < i / 2; k++) {
                value *= 10;
            }
            value -= i & 1;
        }
        buf[number_write_u64(buf, value)] = '\0';
        snprintf(expected, sizeof expected, "%llu", (unsigned long long)value);
        assert_string_equal(buf, expected);
        buf[number_write_i64(buf, (int64_t)value)] = '\0';
        snprintf(expected, sizeof expected, "%lld", (long long)value);
        assert_string_equal(buf, expected);
        int64_t back = 7;
        assert_true(number_read_i64(&back, buf, strlen(buf)));
        assert_int_equal(back, (int64_t)value);
    }
}

static void test_number_reads_ints_of_64_bits_only(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool fits;
        int64_t value;
    } cases[] = {
        {"0", true, 0},
        {"-0", true, 0},
        {"-1", true, -1},
        {"9223372036854775807", true, INT64_MAX},
        {"9223372036854775808", false, 0},
        {"-9223372036854775808", true, INT64_MIN},
        {"-9223372036854775809", false, 0},
        {"18446744073709551616", false, 0},
        {"99999999999999999999999999", false, 0},
        {"-99999999999999999999999999", false, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int64_t value = 5;
        assert_int_equal(number_read_i64(&value, cases[i].text, strlen(cases[i].text)), cases[i].fits);
        assert_int_equal(value, cases[i].fits ? cases[i].value : 5);
        expect_read_within(cases[i].text, 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_number_writes_as_repr),
        cmocka_unit_test(test_number_writes_shortest_of_random_bits),
        cmocka_unit_test(test_number_writes_powers_and_neighbours),
        cmocka_unit_test(test_number_reads_edges),
        cmocka_unit_test(test_number_reads_random_texts),
        cmocka_unit_test(test_number_reads_middles),
        cmocka_unit_test(test_number_writes_ints),
        cmocka_unit_test(test_number_reads_ints_of_64_bits_only),
    };
    return cmocka_run_group_tests(tests, seed_random, NULL);
}
