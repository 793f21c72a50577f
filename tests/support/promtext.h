/* promtext.h -- reads the text format of Prometheus, and finds fault with it as `promtool check metrics` does. */
#ifndef HEAPD_TESTS_PROMTEXT_H
#define HEAPD_TESTS_PROMTEXT_H

#include <stdbool.h>
#include <stddef.h>

#define PROMTEXT_WHY_BYTES 512

/* Whether the text is well formed (each family with HELP and TYPE, in one piece, no sample twice, histograms that add
 * up) and well named (counters end in _total and others do not, base units, no abbreviations, no suffix of a histogram
 * where there is none).  false: `why` tells of the first fault, with its line. */
bool promtext_check(const char *text, char why[PROMTEXT_WHY_BYTES]);
/* The value of a sample as it is written, `name` or `name{label="value"}`; false: there is none. */
bool promtext_value(double *value, const char *text, const char *sample);
/* How many families there are. */
size_t promtext_families(const char *text);

#endif
