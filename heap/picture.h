/* picture.h -- the graph as it was at one moment: what picture.c, picture_capture.c, picture_roots.c, why.c,
 * dominators.c and describe.c share.
 *
 *   records   one an object, in chunks, in the order of the visit; while it is taken, references in it are
 *             those of the heap, afterwards they are nodes
 *   nodes     node -> record; the number of an object is its rank among the bits of visit.live
 *   roots     who kept what: names, holds, frozen objects, gc.garbage
 *   labels    names of classes and attributes, once a text
 *
 * A record is read with picture_record(), and what lies behind its edges with the functions of
 * picture_capture.c.  Start at picture.c.
 */
#ifndef HEAPD_HEAP_PICTURE_H
#define HEAPD_HEAP_PICTURE_H

#include "visit.h"

/* One object.  Behind the edges, by type:
 *   class      its label, instead of edges
 *   weakref    its target (a node, or HEAP_NO_NODE), instead of edges
 * and with HEAP_PICTURE_LABELS
 *   dict, tuple  the references that the edges are made of, as many
 *   instance     the labels of its attributes, one for each edge but the last
 *   atom         struct picture_atom, instead of edges */
struct picture_record {
    uint32_t ref;
    uint32_t count; /* edges */
    uint64_t bytes : 56;
    uint64_t type : 7;
    uint64_t had_id : 1; /* at t0, not only since it was copied */
    uint64_t id;         /* 0: had none */
    uint32_t edges[];
};

#define PICTURE_TEXT_BYTES 48u /* of a str, bytes or int that are kept */

/* The value of an atom. */
struct picture_atom {
    uint32_t kept;  /* bytes of `text`, beginning of the content */
    uint32_t total; /* bytes of the content; 0 for a number in `text` itself: 8 bytes, int64_t or double */
    char text[];
};

/* Room for records. */
struct picture_chunk {
    struct picture_chunk *next; /* the one filled after it */
    size_t used, room;          /* bytes of `data` */
    uint64_t data[];
};

/* The holds of one session: roots[first, end); before the order holds[first, end). */
struct picture_session {
    uint64_t number;
    uint64_t first, end;
};

/* A name of a root: roots[i] has name i. */
struct picture_name {
    size_t text; /* offset in the texts */
    uint32_t len;
    uint32_t ref;
};

/* Everything that kept objects at t0.  roots[] is names, holds session by session, frozen objects, garbage.
 * It is made when all has been copied, from what comes before it here. */
struct picture_roots {
    struct picture_name *names; /* those of an object are copied with it */
    uint64_t names_count, names_room;
    char *texts;
    size_t texts_used, texts_room;
    struct picture_session *sessions;
    uint64_t session_count, session_room;
    uint32_t *holds; /* handle slots */
    uint64_t holds_count, holds_room;
    uint32_t slots;   /* handle slots that there were */
    uint64_t *frozen; /* a bit a granule */
    size_t frozen_words;
    uint64_t frozen_count;
    uint32_t *garbage; /* references */
    uint64_t garbage_count;
    uint32_t *roots; /* nodes */
    uint64_t count;
    uint64_t names_end, sessions_end, frozen_end; /* of the parts of roots[] */
};

/* Names of classes and attributes.  A label is the offset of its text. */
struct picture_labels {
    uint32_t *by_symbol; /* number of a symbol -> label + 1; 0: not seen yet */
    uint32_t symbols;
    char *texts;
    size_t used, room;
};

struct heap_picture {
    struct visit visit; /* first: the visit's owner is found by it */
    struct heap *heap;
    unsigned what;         /* HEAP_PICTURE_GRAPH or _LABELS */
    enum heap_error error; /* the first while visiting */
    bool is_complete;
    struct picture_chunk *chunks, *last; /* first, and the one that is being filled */
    struct picture_chunk *spare;         /* made ready outside of the GIL; NULL: none */
    uint32_t *rank[2];                   /* of each word of visit.live: nodes before it */
    struct picture_record **nodes;
    uint32_t node_count;
    struct picture_roots roots;
    struct picture_labels labels;
};

static inline const struct picture_record *picture_record(const struct heap_picture *picture, uint32_t node)
{
    return picture->nodes[node];
}

/* ---- picture.c ---- */

/* Visits for about `budget` objects.  true: all are done.  GIL: held. */
HEAP_MUST_USE bool picture_step(struct heap_picture *picture, uint32_t budget);
/* After the last step: numbers the nodes, turns references into nodes.  HEAP_MEMORY.  GIL: either. */
HEAP_MUST_USE enum heap_error picture_order(struct heap_picture *picture);
/* The node of a reference, HEAP_NO_NODE for 0 too.  After the ranks are known. */
uint32_t picture_node(const struct heap_picture *picture, uint32_t ref);

/* ---- picture_capture.c: one record ---- */

/* Copies an object; the visit's `node`.  Notes in picture->error that there was no memory. */
void picture_capture(struct visit *visit, struct heap *heap, uint32_t ref);
/* Turns the references of a fresh record into nodes.  Returns the bytes it takes in its chunk. */
size_t picture_record_order(struct heap_picture *picture, struct picture_record *record);
/* A chunk with room for a usual number of records, touched; NULL: no memory.  GIL: either. */
struct picture_chunk *picture_chunk_create(size_t bytes);
/* Of an ordered record. */
const struct picture_atom *picture_atom_of(const struct picture_record *record);
const uint32_t *picture_refs_of(const struct picture_record *record); /* dict, tuple, frozenset; with labels */
const char *picture_label_of(const struct heap_picture *picture, const struct picture_record *record,
                             uint32_t k);
const char *picture_class_name(const struct heap_picture *picture, const struct picture_record *record);

/* ---- picture_roots.c ---- */

/* Copies all roots but the names of what is no immortal.  false: no memory. */
HEAP_MUST_USE bool picture_roots_copy(struct heap_picture *picture);
/* Copies the names of an object that is being copied.  Notes in picture->error that there was no memory. */
void picture_roots_copy_names(struct heap_picture *picture, uint32_t ref);
/* Makes roots[], when the nodes are known.  false: no memory. */
HEAP_MUST_USE bool picture_roots_order(struct heap_picture *picture);
void picture_roots_free(struct picture_roots *roots);

#endif
