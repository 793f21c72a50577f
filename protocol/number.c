/* number.c -- numbers to text and back, doubles in their shortest form.
 *
 * Both directions rest on one table, 128 bits of each power of ten:
 *
 *   10^k = (g - error) * 2^e,   2^127 <= g < 2^128,   0 <= error < 1,   e = floor(log2(10^k)) - 127
 *
 * g is rounded up, and exact (error 0) for k in 0..POWER_EXACT_MAX.
 *
 * Writing is Schubfach (Raffaele Giulietti, "The Schubfach way to render doubles"): the interval of the
 * numbers that read back as the double is scaled by a power of ten to where it holds at least one and at
 * most few integers; three multiplications give its ends and the value, and comparisons choose the shortest
 * integer in it, the nearest of the shortest.
 *
 * Reading multiplies the first 19 digits by the power of ten and rounds the upper 128 bits of the product.
 * What the table's error could turn around (one input in 2^70, and ties) goes to strtod.
 *
 * The table is filled before main() and only read afterwards, so it needs no lock.
 * Start at number_write_double() and number_read_double().
 */
#include "number.h"

#include <float.h>
#include <locale.h>
#include <stdlib.h>
#include <string.h>

typedef unsigned __int128 u128;

#define POWER_MIN (-342)   /* 10^19 * 10^-343 rounds to 0.0 */
#define POWER_MAX 324      /* what the smallest double is multiplied with when it is written */
#define POWER_EXACT_MAX 55 /* 5^55 < 2^128 */

#define FRACTION_BITS 52
#define HIDDEN_BIT (UINT64_C(1) << FRACTION_BITS)
#define EXPONENT_BIAS 1075 /* of the double taken as an integer of 53 bits */
#define EXPONENT_MAX 2047

/* Filled by powers_fill(), constant afterwards. */
static u128 powers[POWER_MAX - POWER_MIN + 1];

/* ---- the table ---- */

/* Limbs of 32 bits, least significant first; 5^324 has 753 bits, and 2^BIG_BITS / 5^342 keeps 229. */
#define BIG_LIMBS 32
#define BIG_BITS (BIG_LIMBS * 32 - 1)

/* The upper 128 bits, from the highest bit that is set; *more: whether a bit below them is set. */
static u128 big_top(const uint32_t limbs[BIG_LIMBS], bool *more)
{
    int high = BIG_LIMBS - 1;
    while (limbs[high] == 0) {
        high--;
    }
    int shift = __builtin_clz(limbs[high]);
    u128 top = 0;
    for (int i = high; i > high - 4; i--) {
        top = top << 32 | (i >= 0 ? limbs[i] : 0);
    }
    uint32_t next = high >= 4 ? limbs[high - 4] : 0;
    top <<= shift;
    top |= (uint64_t)next << shift >> 32;
    *more = (uint32_t)((uint64_t)next << shift) != 0;
    for (int i = high - 5; i >= 0 && !*more; i--) {
        *more = limbs[i] != 0;
    }
    return top;
}

/* The constructor runs before main(), when there is one thread. */
__attribute__((constructor)) static void powers_fill(void)
{
    uint32_t limbs[BIG_LIMBS] = {1};
    bool more;
    for (int k = 0; k <= POWER_MAX; k++) {
        u128 top = big_top(limbs, &more);
        powers[k - POWER_MIN] = top + more;
        uint64_t carry = 0;
        for (int i = 0; i < BIG_LIMBS; i++) {
            carry += (uint64_t)limbs[i] * 5;
            limbs[i] = (uint32_t)carry;
            carry >>= 32;
        }
    }
    memset(limbs, 0, sizeof limbs);
    limbs[BIG_LIMBS - 1] = UINT32_C(1) << 31;
    for (int k = -1; k >= POWER_MIN; k--) {
        uint64_t rest = 0;
        for (int i = BIG_LIMBS - 1; i >= 0; i--) {
            rest = rest << 32 | limbs[i];
            limbs[i] = (uint32_t)(rest / 5);
            rest %= 5;
        }
        /* 2^BIG_BITS / 5^-k is never whole, and cutting off a quotient that was cut off before is the same
         * as cutting once: the true value lies above. */
        powers[k - POWER_MIN] = big_top(limbs, &more) + 1;
    }
}

static inline u128 power_of_ten(int k)
{
    return powers[k - POWER_MIN];
}

/* floor(log2(10^k)); exact for |k| <= 1233. */
static inline int floor_log2_pow10(int k)
{
    return (k * 1741647) >> 19;
}

/* ---- ints ---- */

static const char digit_pairs[201] =
    "0001020304050607080910111213141516171819202122232425262728293031323334353637383940414243444546474849"
    "5051525354555657585960616263646566676869707172737475767778798081828384858687888990919293949596979899";

static const uint64_t powers_of_ten_u64[20] = {1u,
                                               10u,
                                               100u,
                                               1000u,
                                               10000u,
                                               100000u,
                                               1000000u,
                                               10000000u,
                                               100000000u,
                                               1000000000u,
                                               10000000000u,
                                               100000000000u,
                                               1000000000000u,
                                               10000000000000u,
                                               100000000000000u,
                                               1000000000000000u,
                                               10000000000000000u,
                                               100000000000000000u,
                                               1000000000000000000u,
                                               10000000000000000000u};

static inline unsigned digit_count(uint64_t value)
{
    unsigned bits = 64 - (unsigned)__builtin_clzll(value | 1);
    unsigned guess = bits * 1233 >> 12; /* floor(bits * log10(2)), the count or one less */
    return guess + (value >= powers_of_ten_u64[guess]) + (value == 0);
}

/* Writes exactly `n` digits of the value, which has no more. */
static inline void write_digits(char *buf, uint64_t value, unsigned n)
{
    while (n >= 2) {
        n -= 2;
        memcpy(buf + n, digit_pairs + value % 100 * 2, 2);
        value /= 100;
    }
    if (n > 0) {
        buf[0] = (char)('0' + value);
    }
}

size_t number_write_u64(char *buf, uint64_t value)
{
    if (value < 10) {
        buf[0] = (char)('0' + value);
        return 1;
    }
    unsigned n = digit_count(value);
    write_digits(buf, value, n);
    return n;
}

size_t number_write_i64(char *buf, int64_t value)
{
    if (value >= 0) {
        return number_write_u64(buf, (uint64_t)value);
    }
    buf[0] = '-';
    return 1 + number_write_u64(buf + 1, 0 - (uint64_t)value);
}

bool number_read_i64(int64_t *value, const char *text, size_t len)
{
    size_t i = text[0] == '-';
    uint64_t most = (uint64_t)INT64_MAX + i;
    uint64_t sum = 0;
    for (size_t k = i; k < len; k++) {
        uint64_t digit = (uint64_t)(text[k] - '0');
        if (sum > (most - digit) / 10) {
            return false;
        }
        sum = sum * 10 + digit;
    }
    *value = (int64_t)(i ? 0 - sum : sum);
    return true;
}

/* ---- doubles to text ---- */

/* digits * 10^exponent */
struct decimal {
    uint64_t digits;
    int exponent;
};

/* floor(g * c / 2^128), its lowest bit set when anything was cut off that g's error cannot explain. */
static inline uint64_t round_to_odd(u128 g, uint64_t c)
{
    u128 low = (u128)(uint64_t)g * c;
    u128 high = (u128)(uint64_t)(g >> 64) * c + (uint64_t)(low >> 64);
    return (uint64_t)(high >> 64) | ((uint64_t)high > 1);
}

/* The shortest decimal that reads back as significand * 2^exponent, the nearest of the shortest; it may
 * end in zeros.  `closer`: the double below is only half as far away as the one above. */
static struct decimal shortest(uint64_t significand, int exponent, bool closer)
{
    bool odd = significand & 1;
    /* k = floor(log10(2^exponent)), or of 3/4 of it: the width of the interval. */
    int k = (exponent * 1262611 - (closer ? 524031 : 0)) >> 22;
    int shift = exponent + floor_log2_pow10(-k) + 1;
    u128 g = power_of_ten(-k);
    /* Four times the value and the ends of its interval, divided by 10^k. */
    uint64_t value = round_to_odd(g, significand << 2 << shift);
    uint64_t lower = round_to_odd(g, ((significand << 2) - 2 + closer) << shift) + odd;
    uint64_t upper = round_to_odd(g, ((significand << 2) + 2) << shift) - odd;
    uint64_t whole = value >> 2;
    if (whole >= 10) {
        uint64_t tens = whole / 10;
        bool below = lower <= 40 * tens;
        bool above = 40 * tens + 40 <= upper;
        if (below != above) {
            return (struct decimal){tens + above, k + 1};
        }
    }
    bool below = lower <= 4 * whole;
    bool above = 4 * whole + 4 <= upper;
    if (below == above) {
        uint64_t middle = 4 * whole + 2;
        above = value > middle || (value == middle && (whole & 1));
    }
    return (struct decimal){whole + above, k};
}

static void strip_zeros(struct decimal *decimal)
{
    if (decimal->digits % 100000000 == 0) {
        decimal->digits /= 100000000;
        decimal->exponent += 8;
    }
    while (decimal->digits % 10 == 0) {
        decimal->digits /= 10;
        decimal->exponent++;
    }
}

/* d.ddde+XX: at least two digits of exponent. */
static size_t write_scientific(char *buf, uint64_t digits, unsigned n, int exponent)
{
    write_digits(buf + 1, digits, n);
    buf[0] = buf[1];
    size_t len = 1;
    if (n > 1) {
        buf[1] = '.';
        len = n + 1;
    }
    buf[len++] = 'e';
    buf[len++] = exponent < 0 ? '-' : '+';
    unsigned size = (unsigned)abs(exponent);
    if (size >= 100) {
        buf[len++] = (char)('0' + size / 100);
        size %= 100;
    }
    memcpy(buf + len, digit_pairs + size * 2, 2);
    return len + 2;
}

/* Python's repr: positional from 1e-4 up to below 1e16, scientific outside. */
static size_t write_decimal(char *buf, struct decimal decimal)
{
    unsigned n = digit_count(decimal.digits);
    int point = (int)n + decimal.exponent; /* digits before the decimal point */
    if (point < -3 || point > 16) {
        return write_scientific(buf, decimal.digits, n, point - 1);
    }
    if (point <= 0) { /* 0.00ddd */
        memcpy(buf, "0.000", 5);
        write_digits(buf + 2 - point, decimal.digits, n);
        return (size_t)(2 - point) + n;
    }
    if (decimal.exponent >= 0) { /* ddd000.0 */
        write_digits(buf, decimal.digits, n);
        memset(buf + n, '0', (size_t)decimal.exponent);
        memcpy(buf + point, ".0", 2);
        return (size_t)point + 2;
    }
    write_digits(buf + 1, decimal.digits, n); /* dd.ddd */
    memmove(buf, buf + 1, (size_t)point);
    buf[point] = '.';
    return n + 1;
}

size_t number_write_double(char *buf, double value)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    uint64_t fraction = bits & (HIDDEN_BIT - 1);
    int biased = (int)(bits >> FRACTION_BITS & EXPONENT_MAX);
    size_t sign = bits >> 63;
    buf[0] = '-'; /* overwritten when there is none */
    buf += sign;
    if (fraction == 0 && biased == 0) {
        memcpy(buf, "0.0", 3);
        return sign + 3;
    }
    struct decimal decimal;
    uint64_t significand = biased ? fraction | HIDDEN_BIT : fraction;
    int exponent = (biased ? biased : 1) - EXPONENT_BIAS;
    if (exponent <= 0 && exponent > -53 && (significand & ((UINT64_C(1) << -exponent) - 1)) == 0) {
        decimal = (struct decimal){significand >> -exponent, 0}; /* a whole number below 2^53 */
    } else {
        decimal = shortest(significand, exponent, fraction == 0 && biased > 1);
        strip_zeros(&decimal);
    }
    return sign + write_decimal(buf, decimal);
}

/* ---- text to doubles ---- */

/* A number of JSON's grammar, taken apart. */
struct parts {
    uint64_t digits;  /* the first 19 significant digits */
    int64_t exponent; /* of the last of them */
    bool negative;
    bool cut;         /* there are more digits, not all zero */
    const char *text; /* first digit */
    const char *end;  /* of the digits; the exponent, if any, follows */
    int64_t written;  /* the exponent as it stands after the `e` */
};

#define DIGITS_MAX 19

/* Exponents are cut off here: no number with as many digits as memory holds needs larger ones. */
#define WRITTEN_MAX INT64_C(1000000000000000)

static int64_t read_exponent(const char *p, const char *end)
{
    int64_t exponent = 0;
    bool negative = *p == '-';
    p += *p == '-' || *p == '+';
    for (; p < end; p++) {
        if (exponent < WRITTEN_MAX) {
            exponent = exponent * 10 + (*p - '0');
        }
    }
    return negative ? -exponent : exponent;
}

static void take_apart(struct parts *parts, const char *text, size_t len)
{
    const char *end = text + len;
    const char *p = text + (*text == '-');
    uint64_t digits = 0;
    int64_t exponent = 0;
    unsigned count = 0; /* significant digits in `digits` */
    bool cut = false;
    bool fraction = false;
    parts->negative = *text == '-';
    parts->text = p;
    for (; p < end && (*p | 0x20) != 'e'; p++) {
        if (*p == '.') {
            fraction = true;
        } else if (count < DIGITS_MAX) {
            digits = digits * 10 + (uint64_t)(*p - '0');
            count += digits != 0;
            exponent -= fraction;
        } else {
            cut |= *p != '0';
            exponent += !fraction;
        }
    }
    parts->end = p;
    parts->written = p < end ? read_exponent(p + 1, end) : 0;
    parts->digits = digits;
    parts->exponent = exponent + parts->written;
    parts->cut = cut;
}

static double double_of_bits(uint64_t bits)
{
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* Rounds product * 2^scale to a double that is subnormal, or too large for `biased` to be its exponent field as it
 * stands.  `shift`: the bits that a normal double would drop.  false: too near to the middle of two. */
__attribute__((noinline)) static bool round_unusual(double *value, u128 product, bool below, int shift, int biased,
                                                    bool exact)
{
    if (biased >= EXPONENT_MAX) {
        *value = double_of_bits((uint64_t)EXPONENT_MAX << FRACTION_BITS);
        return true;
    }
    shift += 1 - biased;
    if (shift > 127) {
        return false;
    }
    uint64_t significand = (uint64_t)(product >> shift);
    u128 rest = product & (((u128)1 << shift) - 1);
    u128 half = (u128)1 << (shift - 1);
    if (rest == half && !exact) {
        return false;
    }
    significand += rest > half || (rest == half && (below || (significand & 1)));
    /* A significand that rounding made one bit longer is the smallest normal one, exponent field and all. */
    *value = double_of_bits(significand);
    return true;
}

/* Rounds digits * 10^exponent, POWER_MIN <= exponent <= 308, digits > 0.  false: too near to the middle of
 * two doubles for the table's precision. */
static inline bool round_product(double *value, uint64_t digits, int exponent)
{
    int zeros = __builtin_clzll(digits);
    uint64_t w = digits << zeros;
    u128 g = power_of_ten(exponent);
    u128 low = (u128)(uint64_t)g * w;
    u128 product = (u128)(uint64_t)(g >> 64) * w + (uint64_t)(low >> 64);
    /* The value is product * 2^scale, give or take less than one unit.  Only where the rest is exactly half
     * can that matter, and not when the power is exact. */
    bool exact = exponent >= 0 && exponent <= POWER_EXACT_MAX;
    uint64_t high = (uint64_t)(product >> 64);
    int drop = 10 + (int)(high >> 63); /* bits of `high` below the significand */
    int biased = floor_log2_pow10(exponent) - 127 + 64 - zeros + 64 + drop + EXPONENT_BIAS;
    if (biased < 1 || biased >= EXPONENT_MAX) {
        return round_unusual(value, product, (uint64_t)low != 0, 64 + drop, biased, exact);
    }
    uint64_t significand = high >> drop;
    uint64_t rest = high & ((UINT64_C(1) << drop) - 1), half = UINT64_C(1) << (drop - 1);
    if (rest == half && (uint64_t)product == 0) { /* to the last bit */
        if (!exact) {
            return false;
        }
        significand += (uint64_t)low != 0 || (significand & 1);
    } else {
        significand += rest >= half;
    }
    /* A significand that rounding made one bit longer carries into the exponent field by itself. */
    *value = double_of_bits(((uint64_t)(biased - 1) << FRACTION_BITS) + significand);
    return true;
}

/* Digits beyond these only say whether the rest is zero: the longest decimal in the middle of two doubles
 * has 768. */
#define SLOW_DIGITS_MAX 800

/* Writes the number with one point at its front, at most SLOW_DIGITS_MAX digits and a 1 for a rest that is
 * not zero, and leaves it to the C library. */
static double read_slowly(const struct parts *parts)
{
    char buf[SLOW_DIGITS_MAX + 40];
    size_t len = 0;
    bool rest = false;
    bool fraction = false;
    int64_t point = 0; /* where the point is, counted from the first significant digit */
    buf[len++] = '.';
    for (const char *p = parts->text; p < parts->end; p++) {
        if (*p == '.') {
            fraction = true;
            continue;
        }
        bool leading = len == 1 && *p == '0';
        if (!leading && len <= SLOW_DIGITS_MAX) {
            buf[len++] = *p;
        } else if (!leading) {
            rest |= *p != '0';
        }
        point += leading ? -(int)fraction : !fraction;
    }
    if (rest) {
        buf[len++] = '1';
    }
    buf[len++] = 'e';
    len += number_write_i64(buf + len, point + parts->written);
    buf[len] = '\0';
    locale_t plain = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    double value = plain ? strtod_l(buf, NULL, plain) : strtod(buf, NULL);
    if (plain) {
        freelocale(plain);
    }
    return value;
}

/* digits * 10^exponent; infinity when it is too large.  false: too near to the middle of two doubles. */
static inline bool compose(double *value, uint64_t digits, int64_t exponent)
{
    static const double exact_powers[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                                          1e8,  1e9,  1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
                                          1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
    if (digits == 0 || exponent < POWER_MIN) {
        *value = 0.0;
        return true;
    }
    if (exponent > DBL_MAX_10_EXP) {
        *value = double_of_bits((uint64_t)EXPONENT_MAX << FRACTION_BITS);
        return true;
    }
    if (FLT_EVAL_METHOD == 0 && digits < HIDDEN_BIT * 2 && exponent >= -22 && exponent <= 22) {
        /* Two doubles without error, one operation that rounds correctly. */
        double whole = (double)digits;
        *value = exponent < 0 ? whole / exact_powers[-exponent] : whole * exact_powers[exponent];
        return true;
    }
    return round_product(value, digits, (int)exponent);
}

static double read_parts(const struct parts *parts)
{
    double value, next;
    if (!compose(&value, parts->digits, parts->exponent) ||
        (parts->cut && (!compose(&next, parts->digits + 1, parts->exponent) || next != value))) {
        return read_slowly(parts);
    }
    return value;
}

bool number_read_double(double *value, const char *text, size_t len)
{
    struct parts parts;
    take_apart(&parts, text, len);
    double magnitude = read_parts(&parts);
    if (magnitude > DBL_MAX) {
        return false;
    }
    *value = parts.negative ? -magnitude : magnitude;
    return true;
}

/* ---- a number of a validated text ---- */

static inline bool is_digit(char c)
{
    return (unsigned char)(c - '0') <= 9;
}

#if defined __BYTE_ORDER__ && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
/* Appends the next eight characters to *digits if they are digits: pairs, then fours, then all are added up in
 * parallel, as in one word (described by Wojciech Mula and by Daniel Lemire). */
static inline bool take_eight(uint64_t *digits, const char *p)
{
    uint64_t word;
    memcpy(&word, p, sizeof word);
    uint64_t high = word & UINT64_C(0xf0f0f0f0f0f0f0f0);
    uint64_t carried = (word + UINT64_C(0x0606060606060606)) & UINT64_C(0xf0f0f0f0f0f0f0f0);
    if (high != UINT64_C(0x3030303030303030) || carried != high) {
        return false;
    }
    word = (word & UINT64_C(0x0f0f0f0f0f0f0f0f)) * (10 * 256 + 1) >> 8;
    word = (word & UINT64_C(0x00ff00ff00ff00ff)) * (100 * 65536 + 1) >> 16;
    word = (word & UINT64_C(0x0000ffff0000ffff)) * (10000 * (UINT64_C(1) << 32) + 1) >> 32;
    *digits = *digits * 100000000 + word;
    return true;
}
#else
static inline bool take_eight(uint64_t *digits, const char *p)
{
    (void)digits;
    (void)p;
    return false;
}
#endif

/* The byte behind the digits at p, which are appended to *digits; what wraps is of no use to anybody. */
static inline const char *take_digits(uint64_t *digits, const char *p)
{
    while (is_digit(*p)) {
        *digits = *digits * 10 + (uint64_t)(*p++ - '0');
    }
    return p;
}

enum number_kind number_read(const char **text, int64_t *integer, double *real)
{
    const char *start = *text;
    bool negative = *start == '-';
    const char *first = start + negative;
    uint64_t digits = 0;
    const char *p = take_digits(&digits, first);
    if (*p != '.' && (*p | 0x20) != 'e') {
        *text = p;
        if (p - first <= 18) {
            *integer = negative ? -(int64_t)digits : (int64_t)digits;
            return NUMBER_INT;
        }
        return number_read_i64(integer, start, (size_t)(p - start)) ? NUMBER_INT : NUMBER_INT_TOO_LARGE;
    }
    int64_t exponent = 0;
    if (*p == '.') {
        const char *fraction = ++p;
        while (take_eight(&digits, p)) {
            p += 8;
        }
        p = take_digits(&digits, p);
        exponent = fraction - p;
    }
    bool fits = p - first <= DIGITS_MAX + (exponent < 0);
    if ((*p | 0x20) == 'e') {
        const char *written = ++p;
        p += *p == '-' || *p == '+';
        while (is_digit(*p)) {
            p++;
        }
        exponent += read_exponent(written, p);
    }
    *text = p;
    double magnitude;
    if (!fits || !compose(&magnitude, digits, exponent)) {
        return number_read_double(real, start, (size_t)(p - start)) ? NUMBER_FLOAT : NUMBER_FLOAT_TOO_LARGE;
    }
    *real = negative ? -magnitude : magnitude;
    return magnitude > DBL_MAX ? NUMBER_FLOAT_TOO_LARGE : NUMBER_FLOAT;
}
