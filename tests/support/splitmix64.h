/* splitmix64.h -- the generator of every random test: one word of state, any value of which is a good seed. */
#ifndef HEAPD_TESTS_SPLITMIX64_H
#define HEAPD_TESTS_SPLITMIX64_H

#include <stdint.h>

/* The next number; the state goes on. */
static inline uint64_t splitmix64(uint64_t *state)
{
    uint64_t z = (*state += UINT64_C(0x9e3779b97f4a7c15));
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

#endif
