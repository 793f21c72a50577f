/* builder.h -- makes the objects of a graph (graph.h) through the interface of the heap, as often as asked.
 *
 * gc_python.py makes the same of Python's own objects.
 */
#ifndef HEAPD_TESTS_BUILDER_H
#define HEAPD_TESTS_BUILDER_H

#include "../../heap/heap.h"
#include "graph.h"

struct builder {
    struct heap *heap;
    struct heap_session *session; /* holds name[], class[] and the holder of the graph */
    const struct graph *graph;
    heap_ref *node;   /* graph->n while building, each with one count of ours; 0: not made yet */
    uint32_t longest; /* the most references that a node has */
    heap_ref *name;   /* [longest], held: interned strs, the keys of dicts */
    heap_ref *class;  /* [longest + 1], held: of the objects with that many attributes; 0: there are none */
};

/* Makes names and classes; the GIL is held here and below. */
void builder_init(struct builder *builder, struct heap *heap, const struct graph *graph);
/* Ends the session, too. */
void builder_fini(struct builder *builder);
/* Builds the whole graph; no collection may run meanwhile.  Returns the holder, held by the session: a list of the
 * roots and itself, so that what is let go hangs from a cycle.  It is made first, as by a program that fills a list. */
heap_ref builder_build(struct builder *builder);

/* Says why and exits: nothing here can fail on a machine with memory enough. */
void must(enum heap_error error);
void *must_alloc(size_t count, size_t size); /* zeroed */

#endif
