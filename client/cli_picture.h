/* cli_picture.h -- objects and references to be drawn, and the text that Graphviz draws from. */
#ifndef HEAPD_CLIENT_CLI_PICTURE_H
#define HEAPD_CLIENT_CLI_PICTURE_H

#include <stdbool.h>
#include <stdio.h>

#include <jansson.h>

/* One object.  Its facts are what heap.inspect says. */
struct cli_node {
    json_int_t object;
    json_t *j_facts;  /* owned; json null: it died meanwhile */
    char *text;       /* owned: what an atom is; NULL for containers */
    size_t level;     /* references from where the picture begins */
    bool is_target;   /* the picture is about it */
    bool is_expanded; /* its edges are in the picture */
    bool has_more;    /* but not all of them */
};

enum cli_edge_kind {
    CLI_EDGE_PLAIN, /* a reference */
    CLI_EDGE_PATH,  /* one of those that keep the target alive */
    CLI_EDGE_WEAK,  /* a weakref to its target */
};

struct cli_edge {
    size_t from, to; /* nodes */
    char *label;     /* owned; "" for none */
    enum cli_edge_kind kind;
};

struct cli_picture {
    size_t node_count, node_capacity, edge_count, edge_capacity;
    struct cli_node *nodes; /* node i stands at the same index for good */
    struct cli_edge *edges;
    json_t *j_index; /* owned: the id as text -> index of the node */
};

/* cli_picture_init -- an empty one.  False: no memory. */
bool cli_picture_init(struct cli_picture *picture);
void cli_picture_fini(struct cli_picture *picture);

/* cli_picture_find -- the index of an object's node, or node_count when it has none. */
size_t cli_picture_find(const struct cli_picture *picture, json_int_t object);

/* cli_picture_add -- the index of an object's node, which is made at this level if it is not there.
 * Returns node_count at the time of the return when memory is short: an index that is no node's. */
size_t cli_picture_add(struct cli_picture *picture, json_int_t object, size_t level);

/* cli_picture_link -- an edge.  One that is there with that label stays, as one of the path if it is said to
 * be that now; one whose end is no node is not made. */
void cli_picture_link(struct cli_picture *picture, size_t from, size_t to, const char *label,
                      enum cli_edge_kind kind);
/* cli_picture_is_linked -- whether there is an edge, whatever its label. */
bool cli_picture_is_linked(const struct cli_picture *picture, size_t from, size_t to);

/* cli_picture_write -- all of it in the language of dot, with every text of the heap escaped. */
void cli_picture_write(const struct cli_picture *picture, FILE *out);

#endif
