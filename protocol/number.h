/* number.h -- numbers to text and back: 64-bit ints, and doubles in their shortest form.
 *
 * A double is written in the fewest digits that read back as the same double, laid out as Python's repr
 * does; reading rounds to nearest, ties to even, whatever the locale.
 */
#ifndef HEAPD_PROTOCOL_NUMBER_H
#define HEAPD_PROTOCOL_NUMBER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Room that the number_write functions need at `buf`; they write no NUL. */
#define NUMBER_TEXT_MAX 32

/* All three return how many bytes they wrote.  `value` of number_write_double() is finite. */
size_t number_write_u64(char *buf, uint64_t value);
size_t number_write_i64(char *buf, int64_t value);
size_t number_write_double(char *buf, double value);

/* Reads `-?[0-9]+`; false when it is outside 64 bits.  -0 is 0. */
bool number_read_i64(int64_t *value, const char *text, size_t len);
/* Reads a number of JSON's grammar.  Too small becomes 0.0; false when it is too large for a double. */
bool number_read_double(double *value, const char *text, size_t len);

enum number_kind { NUMBER_INT, NUMBER_FLOAT, NUMBER_INT_TOO_LARGE, NUMBER_FLOAT_TOO_LARGE };
/* The number at *text, one of JSON's grammar in a longer text, which says with its next byte where the number ends
 * and goes on for 8 bytes at least; *text is moved behind it.  Writes *integer or *real as the kind says. */
enum number_kind number_read(const char **text, int64_t *integer, double *real);

#endif
