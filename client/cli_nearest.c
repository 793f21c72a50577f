/* cli_nearest.c -- edit distance, for "did you mean".  Quadratic in the words' lengths, which are short. */
#include "cli_nearest.h"

#include <string.h>

#define WORD_BYTES_MAX 63

static size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

size_t cli_nearest_distance(const char *a, const char *b)
{
    size_t a_len = strlen(a), b_len = strlen(b);
    if (a_len > WORD_BYTES_MAX || b_len > WORD_BYTES_MAX) {
        return strcmp(a, b) == 0 ? 0 : a_len > b_len ? a_len : b_len;
    }
    /* rows[i % 3][j] is the distance between the first i bytes of a and the first j of b. */
    size_t rows[3][WORD_BYTES_MAX + 1];
    for (size_t j = 0; j <= b_len; j++) {
        rows[0][j] = j;
    }
    for (size_t i = 1; i <= a_len; i++) {
        size_t *row = rows[i % 3];
        const size_t *above = rows[(i + 2) % 3], *above_that = rows[(i + 1) % 3];
        row[0] = i;
        for (size_t j = 1; j <= b_len; j++) {
            row[j] = least(least(above[j], row[j - 1]) + 1, above[j - 1] + (a[i - 1] != b[j - 1]));
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
                row[j] = least(row[j], above_that[j - 2] + 1);
            }
        }
    }
    return rows[a_len % 3][b_len];
}

size_t cli_nearest_best(const char *word, const char *const *candidates, size_t count)
{
    size_t best = count, best_distance = strlen(word) / 3 + 1;
    for (size_t i = 0; i < count; i++) {
        size_t distance = cli_nearest_distance(word, candidates[i]);
        if (distance < best_distance || (distance == best_distance && best == count)) {
            best = i;
            best_distance = distance;
        }
    }
    for (size_t i = 0; i < count && best == count; i++) {
        const char *dot = strrchr(candidates[i], '.');
        if (dot != NULL && strcmp(dot + 1, word) == 0) {
            best = i;
        }
    }
    return best;
}
