/* bigint.c -- ints of more than 64 bits: digits, and what hashing and equality need of them.
 *
 * A number is its magnitude: little-endian limbs of 32 bits without a leading zero limb; zero has no limbs.
 * The sign is the object's (FLAG_NEGATIVE).  Quadratic conversions are enough: 4300 digits take about
 * 0.1 ms, and no int on the wire is longer.
 * Start at bigint_from_digits().
 */
#include "heap_internal.h"

#define CHUNK_DIGITS 9u /* 10^9 is the largest power of ten in a limb */
#define CHUNK 1000000000u

_Static_assert((uint64_t)BIGINT_LIMBS_MAX * 32 > (uint64_t)4300 * 3322 / 1000, "4300 digits fit the limbs");

/* ---- digits ---- */

static uint32_t power_of_ten(unsigned exponent)
{
    uint32_t power = 1;
    while (exponent-- > 0) {
        power *= 10;
    }
    return power;
}

/* limbs = limbs * factor + carry. */
static void multiply_add(uint32_t *limbs, uint32_t *used, uint32_t factor, uint32_t carry)
{
    uint64_t sum = carry;
    for (uint32_t i = 0; i < *used; i++) {
        sum += (uint64_t)limbs[i] * factor;
        limbs[i] = (uint32_t)sum;
        sum >>= 32;
    }
    if (sum != 0) {
        HEAP_ASSERT(*used < BIGINT_LIMBS_MAX);
        limbs[(*used)++] = (uint32_t)sum;
    }
}

void bigint_from_digits(uint32_t *limbs, uint32_t *limbs_used, const char *digits, size_t len)
{
    uint32_t used = 0;
    for (size_t i = 0; i < len;) {
        unsigned n = len - i < CHUNK_DIGITS ? (unsigned)(len - i) : CHUNK_DIGITS;
        uint32_t chunk = 0;
        for (unsigned k = 0; k < n; k++) {
            chunk = chunk * 10 + (uint32_t)(digits[i + k] - '0');
        }
        multiply_add(limbs, &used, power_of_ten(n), chunk);
        i += n;
    }
    *limbs_used = used;
}

/* limbs = limbs / 10^9; returns the remainder. */
static uint32_t divide_by_chunk(uint32_t *limbs, uint32_t *used)
{
    uint64_t rest = 0;
    for (uint32_t i = *used; i-- > 0;) {
        rest = rest << 32 | limbs[i];
        limbs[i] = (uint32_t)(rest / CHUNK);
        rest %= CHUNK;
    }
    while (*used > 0 && limbs[*used - 1] == 0) {
        (*used)--;
    }
    return (uint32_t)rest;
}

size_t bigint_to_digits(char *digits, const uint32_t *limbs, uint32_t limbs_used)
{
    uint32_t rest[BIGINT_LIMBS_MAX];
    uint32_t used = limbs_used;
    HEAP_ASSERT(used <= BIGINT_LIMBS_MAX);
    memcpy(rest, limbs, used * sizeof *rest);

    size_t len = 0; /* digits are made from the last to the first, then turned round */
    do {
        uint32_t chunk = divide_by_chunk(rest, &used);
        for (unsigned k = 0; k < CHUNK_DIGITS && (used > 0 || chunk > 0 || k == 0); k++) {
            digits[len++] = (char)('0' + chunk % 10);
            chunk /= 10;
        }
    } while (used > 0);
    for (size_t i = 0; i < len / 2; i++) {
        char swapped = digits[i];
        digits[i] = digits[len - 1 - i];
        digits[len - 1 - i] = swapped;
    }
    return len;
}

/* ---- doubles ---- */

bool bigint_from_double(uint32_t *limbs, uint32_t *limbs_used, double value)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    unsigned exponent = (unsigned)(bits >> 52) & 0x7FF;
    if (exponent < 1023 || exponent == 0x7FF) { /* below 1, infinite or no number */
        *limbs_used = 0;
        return value == 0.0;
    }
    /* |value| = mantissa * 2^(exponent - 1075) */
    uint64_t mantissa = (bits & 0xFFFFFFFFFFFFFu) | 0x10000000000000u;
    unsigned shift = 0;
    if (exponent < 1075) {
        unsigned fraction_bits = 1075 - exponent;
        if (mantissa & (((uint64_t)1 << fraction_bits) - 1)) {
            return false;
        }
        mantissa >>= fraction_bits;
    } else {
        shift = exponent - 1075;
    }
    memset(limbs, 0, BIGINT_DOUBLE_LIMBS * sizeof *limbs);
    uint32_t low = shift / 32;
    unsigned bit = shift % 32;
    limbs[low] = (uint32_t)(mantissa << bit);
    limbs[low + 1] = (uint32_t)(mantissa << bit >> 32);
    limbs[low + 2] = bit == 0 ? 0 : (uint32_t)(mantissa >> (64 - bit));
    uint32_t used = low + 3;
    while (used > 0 && limbs[used - 1] == 0) {
        used--;
    }
    *limbs_used = used;
    return true;
}

bool bigint_equals_double(const uint32_t *limbs, uint32_t limbs_used, bool negative, double value)
{
    uint32_t other[BIGINT_DOUBLE_LIMBS];
    uint32_t other_used;
    return (value < 0) == negative && bigint_from_double(other, &other_used, value) &&
           other_used == limbs_used && memcmp(other, limbs, limbs_used * sizeof *limbs) == 0;
}
