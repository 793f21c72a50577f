/* graph.h -- the graphs that the collectors are measured on, as plain arrays.
 *
 *     node i:   kind[i], refers to edge[start[i]] .. edge[start[i + 1] - 1]
 *     root[]:   the nodes that the program holds; every node is reached from them
 *
 * gc_python.py makes the same arrays from the same seed or file; graph_crc() shows that it did.
 */
#ifndef HEAPD_TESTS_GRAPH_H
#define HEAPD_TESTS_GRAPH_H

#include <stdint.h>

/* The kinds of cpython-heap.jsonl; the order is part of the crc. */
enum graph_kind {
    GRAPH_NONE,
    GRAPH_BOOL,
    GRAPH_INT,
    GRAPH_FLOAT,
    GRAPH_STR,
    GRAPH_BYTES,
    GRAPH_LIST,
    GRAPH_TUPLE,
    GRAPH_DICT,
    GRAPH_SET,
    GRAPH_OBJECT,
    GRAPH_KIND_COUNT
};

struct graph {
    uint32_t n; /* nodes */
    uint32_t edges;
    uint32_t roots;
    uint8_t *kind;   /* n: enum graph_kind */
    uint32_t *start; /* n + 1: start[0] is 0, start[n] is edges */
    uint32_t *bytes; /* n: what CPython's sys.getsizeof said, at least 1; 0 where the graph is no file's */
    uint32_t *edge;  /* edges: nodes, repeats allowed */
    uint32_t *root;  /* roots: nodes */
};

/* n lists of two random others each; all are roots, as where a program has them in a list. */
void graph_random(struct graph *graph, uint32_t n, uint64_t seed);
/* Reads a gzipped file in the format of cpython-heap.jsonl.  On a file that cannot be read, or is not of
 * that format, prints why and exits: there is nothing to measure then. */
void graph_read(struct graph *graph, const char *path);
void graph_free(struct graph *graph);

/* The nodes that are containers. */
uint32_t graph_containers(const struct graph *graph);
/* The crc32 of all the arrays, in the order kind, start, edge, root, 32-bit little-endian but for kind. */
uint32_t graph_crc(const struct graph *graph);

#endif
