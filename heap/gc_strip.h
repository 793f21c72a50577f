/* gc_strip.h -- what both collectors do with what is condemned, inlined with the question who else is.
 *
 * First for all that is condemned: gc_strip(), it drops what else it refers to, its id, its finalizer that has run and
 * its buffers.  Then for each, before its block goes, gc_free_class(): a class keeps its shapes until then, because its
 * instances need them.
 */
#ifndef HEAPD_HEAP_GC_STRIP_H
#define HEAPD_HEAP_GC_STRIP_H

#include "edges.h"

typedef bool gc_question(const struct heap *heap, uint32_t ref);

/* Drops the references in refs[from..to) but to what is condemned. */
static inline __attribute__((always_inline)) void gc_strip_refs(struct heap *heap, const uint32_t *refs, uint32_t from,
                                                                uint32_t to, gc_question *condemned)
{
    for (uint32_t i = from; i < to; i++) {
        uint32_t ref = refs[i];
        if (ref != 0 && (ref_is_atom(ref) || !condemned(heap, ref))) {
            object_decref(heap, ref);
        }
    }
}

/* The rest, when that is done. */
static inline __attribute__((always_inline)) void gc_strip_end(struct heap *heap, struct container *c, uint32_t extra,
                                                               gc_question *condemned)
{
    if (extra != 0 && !condemned(heap, extra)) {
        object_decref(heap, extra);
    }
    if (unlikely(c->head.flags & FLAG_FINALIZER)) {
        finalizer_forget(heap, object_ref(heap, c));
    }
    if (c->handle != 0) {
        lasting_tell(heap, HEAP_EFFECT_SWEPT, object_ref(heap, c), false);
        handle_release(heap, object_ref(heap, c));
    }
    bool has_none = c->head.type == HEAP_T_LIST && list_is_inside((const struct list *)c); /* as many have */
    if (!has_none && c->head.type != HEAP_T_CLASS) {
        object_free_buffers(heap, c);
    }
}

static inline __attribute__((always_inline)) void gc_strip(struct heap *heap, struct container *c, gc_question *condemned)
{
    struct edges edges = object_edges(heap, c);
    gc_strip_refs(heap, edges.refs, 0, edges.count, condemned);
    gc_strip_end(heap, c, edges.extra, condemned);
}

static inline void gc_free_class(struct heap *heap, struct container *c)
{
    if (c->head.type == HEAP_T_CLASS) {
        object_free_buffers(heap, c);
    }
}

#endif
