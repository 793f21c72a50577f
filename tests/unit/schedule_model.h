/* schedule_model.h -- what a collection in slices must find and leave, worked out on plain arrays.
 *
 * The model has a few objects with edges, holds and one name, and recomputes reachability whenever it needs it.  It
 * knows nothing of slices, marks or barriers, only what the contract says:
 *
 *   U          the candidates that nothing outside reaches at t0, the moment the collection begins
 *   touched    what of U was reached by an id or a weakref until the verdict, with all that hung on it then
 *   condemned  U without those, and without what a finalizer brought back: reported as unreachable, and freed
 *
 * Deaths by refcount are one moment here.  Sets are bits, one an object.
 */
#ifndef HEAPD_TESTS_SCHEDULE_MODEL_H
#define HEAPD_TESTS_SCHEDULE_MODEL_H

#include <stdbool.h>
#include <stdint.h>

#define MODEL_FIRST 5   /* objects of a graph */
#define MODEL_OBJECTS 9 /* and those that operations make */
#define NOBODY 0xFFu

struct model {
    unsigned count; /* of objects ever made */
    uint8_t edges[MODEL_OBJECTS][MODEL_OBJECTS]; /* [from][to]: how many */
    uint8_t holds[MODEL_OBJECTS];
    uint8_t generation[MODEL_OBJECTS]; /* 0..2; 3: frozen */
    uint8_t named;      /* what the one name is bound to */
    uint8_t finalizer;  /* the object that has one, which binds a name of its own; NOBODY */
    bool clears;        /* and drops what the object refers to first */
    bool finalized;     /* it has run */
    bool brought_back;  /* and its name is bound to the object */
    unsigned lives;
    unsigned weak;      /* objects with a weakref that has not been cleared */
    bool started;       /* t0 has been */
    bool judged;        /* the verdict is known: `condemned` is final */
    unsigned candidates, unreachable, touched, condemned;
    unsigned died_judging; /* of what a finalizer cleared */
};

static inline unsigned bit(unsigned i)
{
    return 1u << i;
}

/* Everything that these objects lead to, themselves included. */
static inline unsigned model_reach(const struct model *m, unsigned from)
{
    unsigned reached = from, todo = from;
    while (todo != 0) {
        unsigned i = (unsigned)__builtin_ctz(todo);
        todo &= todo - 1;
        for (unsigned k = 0; k < m->count; k++) {
            if (m->edges[i][k] != 0 && !(reached & bit(k))) {
                reached |= bit(k);
                todo |= bit(k);
            }
        }
    }
    return reached;
}

/* References to the object from outside the graph. */
static inline unsigned model_roots_of(const struct model *m, unsigned i)
{
    return m->holds[i] + (m->named == i) + (m->brought_back && m->finalizer == i);
}

/* Its refcount, without the edges of `ignored`. */
static inline unsigned model_refcount(const struct model *m, unsigned i, unsigned ignored)
{
    unsigned n = model_roots_of(m, i);
    for (unsigned k = 0; k < m->count; k++) {
        n += m->lives & bit(k) & ~ignored ? m->edges[k][i] : 0;
    }
    return n;
}

static inline unsigned model_rooted(const struct model *m)
{
    unsigned rooted = 0;
    for (unsigned i = 0; i < m->count; i++) {
        rooted |= m->lives & bit(i) && model_roots_of(m, i) > 0 ? bit(i) : 0;
    }
    return rooted;
}

static inline void model_drop_edges(struct model *m, unsigned i)
{
    for (unsigned k = 0; k < m->count; k++) {
        m->edges[i][k] = 0;
    }
}

/* The object's finalizer runs; it lives on. */
static inline void model_finalize(struct model *m)
{
    m->finalized = m->brought_back = true;
    if (m->clears) {
        model_drop_edges(m, m->finalizer);
    }
}

/* What nothing refers to dies, and so on; but for `spared`. */
static inline void model_deaths(struct model *m, unsigned spared)
{
    for (bool again = true; again;) {
        again = false;
        for (unsigned i = 0; i < m->count; i++) {
            if (!(m->lives & bit(i) & ~spared) || model_refcount(m, i, 0) > 0) {
                continue;
            }
            again = true;
            if (m->finalizer == i && !m->finalized) {
                model_finalize(m); /* its weakrefs live on with it */
            } else {
                m->lives &= ~bit(i);
                m->weak &= ~bit(i);
                model_drop_edges(m, i);
            }
        }
    }
}

/* The objects of generation 0..`generation` that nothing outside of them reaches.  They are no candidates of a
 * collection under way. */
static inline unsigned model_unreachable(const struct model *m, int generation, unsigned *candidates)
{
    *candidates = 0;
    for (unsigned i = 0; i < m->count; i++) {
        *candidates |= m->lives & bit(i) & ~m->candidates && m->generation[i] <= generation ? bit(i) : 0;
    }
    return *candidates & ~model_reach(m, model_rooted(m) | (m->lives & ~*candidates));
}

/* t0 */
static inline void model_start(struct model *m, int generation)
{
    unsigned candidates;
    m->started = true;
    m->unreachable = model_unreachable(m, generation, &candidates);
    m->candidates = candidates;
    m->touched = 0;
    m->judged = false;
}

/* What is condemned as far as is known. */
static inline unsigned model_condemned(const struct model *m)
{
    return !m->started ? 0 : m->judged ? m->condemned : m->unreachable & ~m->touched;
}

/* Somebody reached the object by its id or a weakref before the verdict. */
static inline void model_touch(struct model *m, unsigned i)
{
    m->touched |= model_reach(m, bit(i)) & m->unreachable;
}

/* From here on nobody can touch anything: the finalizer runs if its object is condemned, and brings it back. */
static inline void model_judge(struct model *m)
{
    if (m->judged) {
        return;
    }
    m->condemned = m->unreachable & ~m->touched;
    m->judged = true;
    m->weak &= ~m->condemned;
    if (m->finalizer != NOBODY && !m->finalized && m->condemned & bit(m->finalizer)) {
        unsigned lived = m->lives;
        model_finalize(m);
        model_deaths(m, 0);
        m->died_judging = lived & ~m->lives;
        m->condemned &= m->lives & ~model_reach(m, bit(m->finalizer));
    }
}

/* The end: what is condemned is gone, and with it what only that referred to. */
static inline void model_sweep(struct model *m, int generation)
{
    model_judge(m);
    m->lives &= ~m->condemned;
    for (unsigned i = 0; i < m->count; i++) {
        if (m->condemned & bit(i)) {
            model_drop_edges(m, i);
        } else if (m->candidates & bit(i)) {
            m->generation[i] = (uint8_t)(generation < 2 ? generation + 1 : 2);
        }
    }
    m->candidates = 0;
    model_deaths(m, 0);
}

/* What lives until its end and no longer, if nothing else happens: the condemned, and what only they refer to. */
static inline unsigned model_doomed(const struct model *m)
{
    struct model after = *m;
    after.finalized = true; /* what will be brought back is doomed too */
    after.lives &= ~model_condemned(m);
    model_deaths(&after, 0);
    return m->lives & ~after.lives;
}

/* A collection of generation 0 in one go, while a larger one is under way.  Returns how many it found. */
static inline unsigned model_collect_inside(struct model *m)
{
    unsigned candidates, found = model_unreachable(m, 0, &candidates);
    m->lives &= ~found;
    for (unsigned i = 0; i < m->count; i++) {
        if (found & bit(i)) {
            model_drop_edges(m, i);
        } else if (candidates & bit(i)) {
            m->generation[i] = 1;
        }
    }
    model_deaths(m, 0);
    return (unsigned)__builtin_popcount(found);
}

static inline unsigned model_make(struct model *m)
{
    m->lives |= bit(m->count);
    return m->count++;
}

/* ---- operations ---- */

enum op_kind {
    OP_ADD,        /* i refers to j once more */
    OP_DELETE,     /* i refers to j no more */
    OP_POP,        /* the same, and the session holds j */
    OP_MOVE,       /* that reference goes from i to k as it is */
    OP_HOLD,       /* by id */
    OP_RELEASE,    /* one hold */
    OP_BIND,       /* the name, to i */
    OP_UNBIND,
    OP_WEAK,       /* what the weakref of i leads to is held */
    OP_MAKE,       /* a new object that refers to j, held */
    OP_MAKE_INSIDE, /* a new object that i refers to */
    OP_MAKE_CYCLE, /* a new object that refers to itself and to j, and that nobody has */
    OP_CLEAR,      /* i refers to nothing */
    OP_RELEASE_ALL, /* what the session holds, in slices */
    OP_YOUNG,      /* a collection of generation 0 is due */
    OP_KINDS
};
#define OPS_ALL ((1u << OP_KINDS) - 1)
/* Those that change a reference each in another way: the rest is made of them. */
#define OPS_CORE (1u << OP_ADD | 1u << OP_DELETE | 1u << OP_MOVE | 1u << OP_HOLD | 1u << OP_RELEASE)

struct op {
    uint8_t kind, i, j, k;
};
#define OPS_MAX (MODEL_OBJECTS * MODEL_OBJECTS * (MODEL_OBJECTS + 6) + 6 * MODEL_OBJECTS)

struct op_list {
    unsigned count;
    struct op ops[OPS_MAX];
};

static inline void op_add(struct op_list *list, unsigned kinds, unsigned kind, unsigned i, unsigned j, unsigned k)
{
    if (kinds & bit(kind)) {
        list->ops[list->count++] = (struct op){(uint8_t)kind, (uint8_t)i, (uint8_t)j, (uint8_t)k};
    }
}

static inline void ops_of_edge(struct op_list *list, const struct model *m, unsigned kinds, unsigned i, unsigned j)
{
    if (m->edges[i][j] < 2) {
        op_add(list, kinds, OP_ADD, i, j, 0);
    }
    if (m->edges[i][j] > 0) {
        op_add(list, kinds, OP_DELETE, i, j, 0);
        op_add(list, kinds, OP_POP, i, j, 0);
        for (unsigned k = 0; k < m->count; k++) {
            if (m->lives & bit(k) && k != i && m->edges[k][j] < 2) {
                op_add(list, kinds, OP_MOVE, i, j, k);
            }
        }
    }
}

static inline void ops_of_object(struct op_list *list, const struct model *m, unsigned kinds, unsigned i)
{
    bool has_room = m->count < MODEL_OBJECTS;
    op_add(list, kinds, OP_HOLD, i, 0, 0);
    op_add(list, kinds, OP_CLEAR, i, 0, 0);
    if (m->holds[i] > 0) {
        op_add(list, kinds, OP_RELEASE, i, 0, 0);
    }
    if (m->named != i) {
        op_add(list, kinds, OP_BIND, i, 0, 0);
    }
    if (m->weak & bit(i)) {
        op_add(list, kinds, OP_WEAK, i, 0, 0);
    }
    if (has_room) {
        op_add(list, kinds, OP_MAKE, 0, i, 0);
        op_add(list, kinds, OP_MAKE_INSIDE, i, 0, 0);
        op_add(list, kinds, OP_MAKE_CYCLE, 0, i, 0);
    }
}

/* Every operation of these kinds that a client could ask for now. */
static inline void ops_list(struct op_list *list, const struct model *m, unsigned kinds)
{
    list->count = 0;
    for (unsigned i = 0; i < m->count; i++) {
        if (m->lives & bit(i)) {
            ops_of_object(list, m, kinds, i);
            for (unsigned j = 0; j < m->count; j++) {
                if (m->lives & bit(j)) {
                    ops_of_edge(list, m, kinds, i, j);
                }
            }
        }
    }
    if (m->named != NOBODY) {
        op_add(list, kinds, OP_UNBIND, 0, 0, 0);
    }
    op_add(list, kinds, OP_RELEASE_ALL, 0, 0, 0);
    op_add(list, kinds, OP_YOUNG, 0, 0, 0);
}

/* What the operation does, its objects being there; a new object is the last.  Deaths come afterwards. */
static inline void model_do(struct model *m, struct op op)
{
    unsigned n;
    switch ((enum op_kind)op.kind) {
    case OP_ADD:
        m->edges[op.i][op.j]++;
        break;
    case OP_DELETE:
        m->edges[op.i][op.j]--;
        break;
    case OP_POP:
        m->edges[op.i][op.j]--;
        m->holds[op.j]++;
        break;
    case OP_MOVE:
        m->edges[op.i][op.j]--;
        m->edges[op.k][op.j]++;
        break;
    case OP_HOLD:
    case OP_WEAK:
        m->holds[op.i]++;
        break;
    case OP_RELEASE:
        m->holds[op.i]--;
        break;
    case OP_BIND:
        m->named = op.i;
        break;
    case OP_UNBIND:
        m->named = NOBODY;
        break;
    case OP_MAKE:
        n = model_make(m);
        m->holds[n]++;
        m->edges[n][op.j]++;
        break;
    case OP_MAKE_INSIDE:
        n = model_make(m);
        m->edges[op.i][n]++;
        break;
    case OP_MAKE_CYCLE:
        n = model_make(m);
        m->edges[n][n]++;
        m->edges[n][op.j]++;
        break;
    case OP_CLEAR:
        model_drop_edges(m, op.i);
        break;
    case OP_RELEASE_ALL:
        for (unsigned i = 0; i < m->count; i++) {
            m->holds[i] = 0;
        }
        break;
    default: /* OP_YOUNG: the collector's doing */
        break;
    }
}

#endif
