/* cli_nearest.h -- the word that was probably meant. */
#ifndef HEAPD_CLIENT_CLI_NEAREST_H
#define HEAPD_CLIENT_CLI_NEAREST_H

#include <stddef.h>

/* cli_nearest_distance -- how many bytes must be added, removed, replaced or swapped with their neighbour
 * to make `a` into `b`; words longer than 63 bytes are as far apart as the longer one is long. */
size_t cli_nearest_distance(const char *a, const char *b);

/* cli_nearest_best -- the index of the candidate nearest to `word`, `count` if none is near enough to be
 * what was meant: a third of the word may be wrong, or it is the last part of a dotted name. */
size_t cli_nearest_best(const char *word, const char *const *candidates, size_t count);

#endif
