/* slice.c -- looking at the clock. */
#include "slice.h"

#include "clock.h"

static void raise_to(counter_u64 *max, uint64_t value)
{
    if (value > counter_read(max)) {
        atomic_store_explicit(max, value, memory_order_relaxed);
    }
}

void slice_begin(struct slice *slice, struct slice_rule *rule, uint32_t us)
{
    *slice = (struct slice){
        .rule = rule,
        .us = us,
        .objects_left = us != 0 && rule->objects != 0 ? rule->objects : UINT32_MAX,
    };
}

bool slice_look(struct slice *slice)
{
    struct slice_rule *rule = slice->rule;
    raise_to(&rule->objects_max, slice->objects);
    raise_to(&rule->refs_max, slice->refs);
    if (slice->objects_left != UINT32_MAX) {
        slice->objects_left -= slice->objects < slice->objects_left ? slice->objects : slice->objects_left;
    }
    slice->objects = slice->refs = 0;
    slice->is_over = slice->is_over || slice->objects_left == 0;
    if (slice->us != 0 && !slice->is_over) {
        uint64_t now = clock_ns();
        if (slice->end_ns == 0) {
            slice->end_ns = now + (uint64_t)slice->us * 1000u;
        }
        slice->is_over = now >= slice->end_ns;
    }
    return slice->is_over;
}
