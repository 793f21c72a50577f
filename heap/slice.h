/* slice.h -- the budget of one hold of the GIL.
 *
 * Who works in slices calls slice_begin(), and slice_spend() with what it has done after each small piece of it;
 * true means that the slice is over.  The clock is asked when 64 objects or 1,024 references have been spent, so
 * a piece may have at most 64 objects and 3,072 references.  The first look begins the slice's time: to ask before it
 * would cost more than the death of a small object does.
 */
#ifndef HEAPD_HEAP_SLICE_H
#define HEAPD_HEAP_SLICE_H

#include "pymalloc.h"

#include <stdbool.h>
#include <stdint.h>

#define SLICE_OBJECTS 64u  /* between two looks at the clock */
#define SLICE_REFS 1024u
#define SLICE_PIECE_REFS 3072u /* the most that one piece may have */
#define SLICE_US_DEFAULT 500u

/* How long slices are, and what they did. */
struct slice_rule {
    uint32_t us;          /* of an operation's slice */
    uint32_t objects;     /* a slice ends after so many; 0: no such bound */
    counter_u64 objects_max, refs_max; /* most objects and references between two looks at the clock so far */
};

struct slice {
    struct slice_rule *rule;
    uint32_t us;           /* 0: it never ends */
    uint64_t end_ns;       /* CLOCK_MONOTONIC; 0 before the first look: most slices are over before it */
    uint32_t objects, refs; /* since the last look */
    uint32_t objects_left; /* of rule->objects */
    bool is_over;
};

/* us 0: it never ends (and rule->objects does not count). */
void slice_begin(struct slice *slice, struct slice_rule *rule, uint32_t us);
/* Asks the clock. */
bool slice_look(struct slice *slice);
/* How many objects may be done before the next look, at least 1. */
static inline uint32_t slice_room(const struct slice *slice)
{
    uint32_t end = slice->objects_left < SLICE_OBJECTS ? slice->objects_left : SLICE_OBJECTS;
    return slice->objects < end ? end - slice->objects : 1;
}
/* So much has been done; true: the slice is over. */
static inline bool slice_spend(struct slice *slice, uint32_t objects, uint32_t refs)
{
    slice->objects += objects;
    slice->refs += refs;
    if (__builtin_expect(slice->objects >= SLICE_OBJECTS || slice->refs >= SLICE_REFS ||
                             slice->objects >= slice->objects_left, 0)) {
        return slice_look(slice);
    }
    return slice->is_over;
}

#endif
