/* heap_internal.h -- what the files of heap/ share: layouts, the heap itself, functions by file.
 *
 * Everything here needs the GIL unless a comment says otherwise, and follows the words of heap.h.
 * Start at object.c for the layout and refcounts, at gc.h for the collector.
 */
#ifndef HEAPD_HEAP_INTERNAL_H
#define HEAPD_HEAP_INTERNAL_H

#include "gc.h"
#include "gil.h"
#include "heap.h"
#include "map32.h"
#include "pymalloc.h"
#include "slice.h"

#include <stdlib.h>

#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

/* ---- assertions ---- */

_Noreturn void heap_assert_failed(const char *condition, const char *file, int line);

/* Always on: the heap is corrupt or a caller broke a contract. */
#define HEAP_ASSERT(condition) (likely(condition) ? (void)0 : heap_assert_failed(#condition, __FILE__, __LINE__))
#if HEAP_DEBUG >= 1
#define HEAP_DCHECK(condition) HEAP_ASSERT(condition)
#else
#define HEAP_DCHECK(condition) ((void)sizeof(condition))
#endif
#define GIL_ASSERT_HELD(heap) HEAP_ASSERT(gil_is_mine(&(heap)->gil))

/* ---- object layout ---- */

#define REFCOUNT_IMMORTAL HEAP_REFCOUNT_IMMORTAL
#define REFCOUNT_MAX 0x80000000u /* an object with so many references takes no more */

/* Flags of both headers. */
#define FLAG_WEAKREF 0x01     /* the weakref table has an entry for it */
#define FLAG_FINALIZER 0x02   /* the finalizer table has an entry for it */
#define FLAG_OUT_OF_LINE 0x04 /* the body holds a pointer to the payload */
/* Of containers. */
#define FLAG_TRACKED 0x08    /* in a generation, or frozen */
#define FLAG_FINALIZED 0x10  /* its finalizer has run */
#define FLAG_PARTIAL 0x20    /* dict: listed in pages, so compaction must keep serial numbers */
#define FLAG_HASHED 0x20     /* tuple, frozenset: compare.c keeps its hash */
#define FLAG_SLOTTED 0x20    /* instance: n = number of its shape, and the values follow the header */
#define FLAG_DEAD 0x40       /* on the dead list; `gc` is the link */
#define FLAG_INCOMPLETE 0x80 /* tuple with a hole in it or below */
/* Of atoms. */
#define FLAG_HANDLE 0x08   /* the atom table of handle.c has its slot */
#define FLAG_INTERNED 0x10 /* str: the interned table has it */
#define FLAG_BIG 0x20      /* int: struct bigint, not struct number */
#define FLAG_NEGATIVE 0x40 /* big int: below zero */
#define FLAG_ATOM_FINALIZED 0x80 /* what FLAG_FINALIZED is for containers */

/* What every object begins with. */
struct object {
    uint32_t refcount; /* REFCOUNT_IMMORTAL: never counted */
    uint8_t type;      /* enum heap_type */
    uint8_t flags;
    uint16_t n; /* containers: what the type's file says; atoms: of struct bigint and long_bytes */
};

/* A container: 16 bytes, then the body. */
struct container {
    struct object head;
    uint32_t handle; /* slot in the handle table; 0: no id yet */
    uint32_t gc;     /* young: slot in a chunk (gc.h); old: 0; dead: the next on the dead list */
    /* body follows */
};

/* None (value 0), bool (value 0 or 1), int of at most 64 bits, float. */
struct number {
    struct object head;
    union {
        int64_t i;
        double f;
    } value;
};

/* Int of more than 64 bits: its magnitude, FLAG_NEGATIVE for the sign.  head.n: how many limbs, so that it takes
 * no more than CPython's, whose digits have 30 bits and whose header is larger. */
struct bigint {
    struct object head;
    union {
        uint32_t limbs[2];   /* head.n of them, the lowest first, when they fit a block */
        uint32_t *elsewhere; /* FLAG_OUT_OF_LINE: a raw block of them */
    } u;
};
#define BIGINT_INSIDE_MAX ((BLOCK_BYTES_MAX - (uint32_t)sizeof(struct object)) / 4u)

/* str, bytes. */
struct text {
    struct object head;
    uint32_t hash; /* 0: not computed yet */
    uint32_t len;  /* bytes */
    union {
        char bytes[8];   /* `len` of them, when they fit a block */
        char *elsewhere; /* FLAG_OUT_OF_LINE, a str: a raw block of `len` bytes */
    } u;
};
/* A bytes with FLAG_OUT_OF_LINE: the smallest block has all of it, so that it takes no more than CPython's.  Its
 * hash is not kept.  Addresses of a process have 48 bits. */
struct long_bytes {
    struct object head; /* n: bits 0..15 of the length */
    uint64_t place;     /* bits 16..31 of the length above the address of a raw block of that length */
};
#define LONG_BYTES_ADDRESS_BITS 48
#define TEXT_HEAD_BYTES 16u
#define TEXT_INLINE_MAX (BLOCK_BYTES_MAX - TEXT_HEAD_BYTES)

/* n = length and `inside` holds the items, or n = LIST_ELSEWHERE. */
struct list {
    struct container head;
    union {
        uint32_t inside[4];
        struct {
            uint32_t *items; /* a buffer of `room` references */
            uint32_t len;
            uint32_t room;
        } out;
    } u;
};
#define LIST_INSIDE_MAX 4u
#define LIST_ELSEWHERE 0xFFFFu

/* n = length, items inline; or FLAG_OUT_OF_LINE. */
struct tuple {
    struct container head;
    union {
        uint32_t inside[4]; /* n of them, at least 1 */
        struct {
            uint32_t *items; /* a buffer of exactly `len` references */
            uint32_t len;
            uint32_t unused;
        } out;
    } u;
};
#define TUPLE_INSIDE_MAX ((BLOCK_BYTES_MAX - (uint32_t)sizeof(struct container)) / 4u)

/* dict: entries of {key, value}; set and frozenset: of {member}.  table.c says more. */
struct table {
    struct container head; /* head.n: room for entries while small, TABLE_BIG above */
    void *entries;         /* small: the entry array, NULL for no room; TABLE_BIG: struct table_big */
    uint32_t fill;         /* entries in the array, deleted ones (all zero) included */
    uint32_t live;         /* entries that are there */
};
#define TABLE_BIG 0xFFFFu

/* Values in the order of the shape's names; type_instance.c says more.  With FLAG_SLOTTED the body is values alone. */
struct instance {
    struct container head; /* n: values the block has room for */
    union {
        struct {
            uint32_t shape;     /* number of its shape, which knows the class and the names */
            uint32_t values[3]; /* n of them; 0: a slot that is not set, or a hole */
        } in;
        struct { /* FLAG_OUT_OF_LINE */
            uint32_t shape;
            uint32_t room;    /* values the buffer has room for */
            uint32_t *values; /* a buffer */
        } out;
    } u;
};
_Static_assert(sizeof(struct instance) == 32, "an instance of three values is one 32-byte block");
#define INSTANCE_HEAD_BYTES 20u /* header and shape; values follow */
#define INSTANCE_INSIDE_MAX ((BLOCK_BYTES_MAX - INSTANCE_HEAD_BYTES) / 4u)
#define INSTANCE_SLOTS_MAX ((BLOCK_BYTES_MAX - (uint32_t)sizeof(struct container)) / 4u)

struct class {
    struct container head;
    struct class_info *info; /* name, slots, root shape; type_instance.c */
    uint64_t unused;
};

struct weakref {
    struct container head; /* n: WEAKREF_SHARED, WEAKREF_NOTIFY or neither */
    uint32_t target;       /* 0: dead; the three below are meaningless then */
    uint32_t next, prev;   /* the target's weakrefs, the shared one first, then newest first; 0: none */
    uint32_t count;        /* of the first: how many the target has */
};
#define WEAKREF_SHARED 1u /* the target's shared one */
#define WEAKREF_NOTIFY 2u /* a struct weakref_notify */

/* One that tells a session of its target's death. */
struct weakref_notify {
    struct weakref weakref;
    uint64_t session; /* its number */
};

_Static_assert(sizeof(struct object) == 8 && sizeof(struct container) == 16, "headers are dense");
_Static_assert(sizeof(struct list) == 32 && sizeof(struct tuple) == 32 && sizeof(struct table) == 32, "32-byte blocks");
_Static_assert(sizeof(struct class) == 32 && sizeof(struct weakref) == 32, "32-byte blocks");
_Static_assert(sizeof(struct number) == 16 && sizeof(struct text) == 24, "atoms are dense");
_Static_assert(sizeof(struct bigint) == 16 && sizeof(struct long_bytes) == 16, "one granule with their pointer");

/* ---- the heap ---- */

struct finalizer;

/* Records that wait for the same thing. */
struct finalizer_list {
    struct finalizer *first, *last;
};

/* A merge sort that can be left and gone on with: lists[i] has 2^i records or more, in order. */
#define FINALIZER_LISTS 40 /* 2^40 records are more than memory can hold */
struct finalizer_sort {
    struct finalizer *rest;                       /* not yet looked at, linked by `next` */
    struct finalizer_list lists[FINALIZER_LISTS]; /* first NULL: none */
    struct finalizer_list a, b, merged;           /* under way: two lists become one, which goes to lists[place] */
    unsigned place;
    bool is_merging;
};

/* What finalizer.c keeps; it says what the lists are. */
struct finalizer_table {
    struct finalizer **records; /* count of them, in no order */
    uint32_t count, room;
    uint32_t waiting;           /* records that have not run */
    uint64_t serials;           /* given */
    struct map32 by_target;     /* object -> number of its record */
    struct finalizer_list dying, judged, ran, settled;
    bool judging;               /* a collection runs its finalizers */
    struct finalizer_sort sort; /* of `judged`, while a collection puts them in order */
};

#define SMALL_INT_MIN (-5)
#define SMALL_INT_MAX 256
#define SMALL_INTS (SMALL_INT_MAX - SMALL_INT_MIN + 1)

/* What lasting.c keeps for a journal, and replay.c of one that is replayed. */
struct lasting {
    bool is_on;     /* containers get ids when they are made, and effects are told */
    enum heap_notes notes; /* ALL also without is_on, when somebody wants to hear of changes */
    bool replays;   /* ids are given[], nothing happens by itself */
    struct heap_journal journal;
    uint64_t *ids;  /* noted */
    size_t count, room;
    const uint64_t *given; /* while it replays */
    size_t given_count, given_at;
    void (*event)(void *arg, const struct heap_event *event); /* the observer's, while it replays */
};

struct heap {
    uint64_t signature; /* HEAP_SIGNATURE while the heap lives */
    struct pymalloc pm;
    struct gil gil;
    struct gc gc;

    /* layer +3: immortals, by value */
    uint32_t none, truth[2], empty_tuple, empty_str, empty_bytes;
    uint32_t small_ints[SMALL_INTS], latin1[256], byte1[256];

    struct handle_table *handles;
    struct name_table *names;
    struct intern_table *interned;
    struct class_table *classes;     /* symbols, shapes, classes */
    struct map32 weakrefs;           /* target -> the first of its weakrefs */
    struct finalizer_table finalizers;
    struct garbage garbage;
    struct heap_session *sessions;   /* all of them, doubly linked */
    uint64_t sessions_made;          /* numbers given */
    uint64_t hash_seed[2];           /* random, for str and bytes */
    struct map32 hashes;             /* tuples and frozensets -> their hash, their height (compare.c) */
    uint32_t compare_steps;          /* of long hashes and comparisons since the last heap_settle() */

    struct heap_limits limits;
    struct heap_observer observer;
    struct lasting lasting;
    uint64_t creator;    /* number of the session that makes objects now */
    struct marks *marks; /* mark.c; NULL: there was never a mark */
    struct visit *visit; /* the walk under way (visit.h); NULL: none */
    struct heap_watch *watches; /* those that rest (watch.c) */
    bool is_watched;            /* there is a visit or a watch to be told of changes and deaths */

    /* Deaths of the operation under way: containers whose refcount is 0, linked by `gc`, not yet taken apart.
     * With finalizers.dying they are what a struct heap_dying keeps of an operation that is over. */
    uint32_t dead_head, dead_tail;
    uint32_t dead_left;     /* of the first's references, when it has been begun; else 0 */
    uint64_t freed_pending; /* objects freed since the last heap_settle() */

    struct slice_rule slices;
    struct heap_dying *dying_first, *dying_last; /* deaths that go on in heap_step(), the oldest first */
    enum heap_wait wait;                         /* for heap_take_wait() */
    atomic_bool work_pending;                    /* heap_step() has something to do */
    _Atomic uint32_t still_wanted;               /* threads in heap_enter_still() */
    uint32_t builds;                             /* begun and not ended */

    /* Counters, written with the GIL and read by anybody. */
    counter_u64 created, freed;
    counter_u64 type_objects[HEAP_T_COUNT], type_bytes[HEAP_T_COUNT]; /* without immortals */
    counter_u64 session_count, hold_count, name_count;
    counter_u64 id_count;    /* ids of what lives, without immortals */
    uint64_t immortal_bytes; /* their blocks; never changes after heap_create() */
};
#define HEAP_SIGNATURE 0x6865617064686561u

/* ---- references ---- */

static inline bool ref_is_atom(uint32_t ref)
{
    return (ref & REF_ATOM) != 0;
}

static inline struct object *object_at(const struct heap *heap, uint32_t ref)
{
    return pymalloc_address(&heap->pm, ref);
}

static inline uint32_t object_ref(const struct heap *heap, const void *object)
{
    return pymalloc_ref(&heap->pm, object);
}

static inline bool object_is_immortal(const struct object *o)
{
    return o->refcount == REFCOUNT_IMMORTAL;
}

/* ---- object.c: memory and refcounts of objects ---- */

static inline uint32_t object_block_rounded(uint32_t bytes)
{
    return (bytes + GRANULE_BYTES - 1) & ~(GRANULE_BYTES - 1);
}

void mark_made(struct heap *heap, uint32_t ref); /* mark.c */
static inline void object_count_made(struct heap *heap, const struct object *o, enum heap_type type, uint32_t bytes)
{
    if (unlikely(heap->marks != NULL)) {
        mark_made(heap, object_ref(heap, o));
    }
    counter_add(&heap->created, 1);
    counter_add(&heap->type_objects[type], 1);
    counter_add(&heap->type_bytes[type], object_block_rounded(bytes));
}

/* A container of `bytes` (at most 512), refcount 1, untracked, body zeroed, counted as made; NULL: HEAP_MEMORY.  For
 * what is no object to others: without an id even where there is a journal.
 * Inline, here and below: where type and bytes are constants a third of it is left. */
static inline struct container *object_stub_create(struct heap *heap, enum heap_type type, uint32_t bytes)
{
    struct container *c = pymalloc_alloc(&heap->pm, POOL_CONTAINER, size_class(bytes));
    if (unlikely(c == NULL)) {
        return NULL;
    }
    memset(c, 0, bytes);
    c->head.refcount = 1;
    c->head.type = (uint8_t)type;
    object_count_made(heap, &c->head, type, bytes);
    gc_count_made(&heap->gc);
    return c;
}

/* The container, of so many bytes, with an id; NULL: there was no memory for that, and it is gone.  lasting.c */
struct container *lasting_container(struct heap *heap, struct container *c, uint32_t bytes);
/* The same for an object. */
static inline struct container *object_container_create(struct heap *heap, enum heap_type type, uint32_t bytes)
{
    struct container *c = object_stub_create(heap, type, bytes);
    return unlikely(heap->lasting.is_on) && c != NULL ? lasting_container(heap, c, bytes) : c;
}

/* Puts a new container into generation 0.  false: no memory for a slot. */
HEAP_MUST_USE static inline bool gc_track(struct heap *heap, struct container *c)
{
    struct gc *gc = &heap->gc;
    struct gc_chunk *chunk = gc->lists[0].head != NO_CHUNK ? gc->chunks[gc->lists[0].head] : NULL;
    if (unlikely(chunk == NULL || chunk->free != 0 || chunk->untouched >= CHUNK_SLOTS - 1)) {
        return gc_track_slowly(heap, c);
    }
    uint32_t slot = chunk->untouched++;
    chunk->used++;
    chunk->refs[slot] = object_ref(heap, c);
    c->gc = (chunk->number << CHUNK_SHIFT) + slot + 1;
    c->head.flags |= FLAG_TRACKED;
    counter_add(&gc->generations[0].objects, 1);
    return true;
}

/* An atom of `bytes` (at most 512), refcount 1, body undefined; NULL: HEAP_MEMORY. */
static inline struct object *object_atom_create(struct heap *heap, enum heap_type type, uint32_t bytes)
{
    struct object *o = pymalloc_alloc(&heap->pm, POOL_ATOM, size_class(bytes));
    if (unlikely(o == NULL)) {
        return NULL;
    }
    *o = (struct object){.refcount = 1, .type = (uint8_t)type};
    object_count_made(heap, o, type, bytes);
    return o;
}
/* Gives back the block alone of a dead object: children and buffers are gone. */
void object_block_free(struct heap *heap, struct object *o);
/* The same of many containers, which are in a run each where they are of one type. */
void object_free_containers(struct heap *heap, const uint32_t *refs, uint32_t count);
/* Counts it as freed, and leaves the block to the caller.  Returns the bytes that it asked for. */
uint32_t object_count_freed(struct heap *heap, const struct object *o);
/* Bytes of the block that the object's header sits in. */
uint32_t object_block_bytes(const struct heap *heap, const struct object *o);
/* Buffers of containers count in type_bytes of their type; 0 bytes is NULL. */
void *object_buffer_alloc(struct heap *heap, enum heap_type type, size_t bytes);
void *object_buffer_realloc(struct heap *heap, enum heap_type type, void *buffer, size_t old_bytes, size_t new_bytes);
void object_buffer_free(struct heap *heap, enum heap_type type, void *buffer, size_t bytes);

/* Edges of a container: `count` references at `refs` (0: a hole), and `extra`, an instance's class or 0.
 * edges.h has object_edges(). */
struct edges {
    uint32_t *refs;
    uint32_t count;
    uint32_t extra;
};

void object_death(struct heap *heap, uint32_t ref); /* the refcount has become 0 */
void object_clear(struct heap *heap, uint32_t ref); /* it drops what it refers to, if it can change */

/* The one barrier: while the collector's machine determines its set, any change of a candidate's refcount reaches it.
 * Sits in object_incref(), object_decref() and where a reference changes owner; atoms and what is no candidate are
 * passed over. */
void gc_touch(struct heap *heap, uint32_t ref);
static inline void gc_barrier(struct heap *heap, uint32_t ref)
{
    if (unlikely(heap->gc.cycle_on)) {
        gc_touch(heap, ref);
    }
}
/* The container's references from place `i` on are about to move up, or, that one being taken out, down. */
static inline void gc_before_insert(struct heap *heap, uint32_t ref, uint32_t i)
{
    if (unlikely(heap->gc.partial.ref == ref) && i < heap->gc.partial.left) {
        heap->gc.partial.left++;
    }
}
static inline void gc_before_remove(struct heap *heap, uint32_t ref, uint32_t i)
{
    if (unlikely(heap->gc.partial.ref == ref) && i < heap->gc.partial.left) {
        heap->gc.partial.left--;
    }
}
/* The container's reference `ref` moves down, from one place to another. */
static inline void gc_before_move(struct heap *heap, uint32_t container, uint32_t from, uint32_t to, uint32_t ref)
{
    const struct gc_partial *partial = &heap->gc.partial;
    if (unlikely(partial->ref == container) && from >= partial->left && to < partial->left && ref != 0) {
        gc_barrier(heap, ref); /* or it would be looked at twice */
    }
}

/* One reference more; the caller has checked REFCOUNT_MAX or knows that it cannot be reached. */
static inline void object_incref(struct heap *heap, uint32_t ref)
{
    struct object *o = object_at(heap, ref);
    if (likely(o->refcount != REFCOUNT_IMMORTAL)) {
        o->refcount++;
        gc_barrier(heap, ref);
    }
}

/* One reference less; may free an atom, may put a container on the dead list. */
static inline void object_decref(struct heap *heap, uint32_t ref)
{
    struct object *o = object_at(heap, ref);
    if (likely(o->refcount != REFCOUNT_IMMORTAL)) {
        gc_barrier(heap, ref);
        if (--o->refcount == 0) {
            object_death(heap, ref);
        }
    }
}

/* Whether one more reference would be too many. */
static inline bool object_is_full(const struct object *o)
{
    return o->refcount >= REFCOUNT_MAX && o->refcount != REFCOUNT_IMMORTAL;
}

/* ---- type_atom.c ---- */

bool atoms_create_immortals(struct heap *heap);
static inline bool text_is_long_bytes(const struct text *t)
{
    return t->head.type == HEAP_T_BYTES && (t->head.flags & FLAG_OUT_OF_LINE);
}

/* Payload of a str or bytes, and its length.  `len` and `elsewhere` are good for a str alone. */
static inline const char *text_bytes(const struct text *t)
{
    if (text_is_long_bytes(t)) {
        uint64_t place = ((const struct long_bytes *)(const void *)t)->place;
        return (const char *)(uintptr_t)(place & (((uint64_t)1 << LONG_BYTES_ADDRESS_BITS) - 1));
    }
    return t->head.flags & FLAG_OUT_OF_LINE ? t->u.elsewhere : t->u.bytes;
}

static inline uint32_t text_len(const struct text *t)
{
    if (text_is_long_bytes(t)) {
        uint64_t place = ((const struct long_bytes *)(const void *)t)->place;
        return (uint32_t)(place >> LONG_BYTES_ADDRESS_BITS) << 16 | t->head.n;
    }
    return t->len;
}

static inline const uint32_t *bigint_limbs(const struct bigint *b)
{
    return b->head.flags & FLAG_OUT_OF_LINE ? b->u.elsewhere : b->u.limbs;
}
size_t atom_payload_bytes(const struct object *o); /* what it asked for outside of its block; 0: nothing */
void atom_free_payload_only(struct heap *heap, struct object *o); /* leaves the interned table alone */
void atom_free_payload(struct heap *heap, struct object *o);
uint32_t text_hash(struct heap *heap, struct text *t); /* never 0; cached, but for long bytes */
uint64_t hash_bytes(const struct heap *heap, const void *bytes, size_t len); /* keyed; for every table of text */
uint32_t text_hash_short(uint64_t hash); /* what text_hash() makes of hash_bytes() */
/* The immortal str of a text of at most one Latin-1 character (len <= 2), or 0. */
uint32_t str_shared(const struct heap *heap, const char *text, size_t len);
HEAP_MUST_USE enum heap_error str_create(heap_ref *obj, struct heap *heap, const char *text, size_t len); /* never shared */

/* ---- intern.c ---- */

bool intern_init(struct heap *heap);
void intern_fini(struct heap *heap);
void intern_remove(struct heap *heap, const struct text *t); /* a dying str with FLAG_INTERNED */
uint32_t intern_check(struct heap *heap, FILE *why);

/* ---- bigint.c: ints of any size; limbs are little-endian base 2^32, no leading zero limb ---- */

/* Digits without sign, 1..4300 of them; *limbs_used on return.  `limbs` has room for BIGINT_LIMBS_MAX. */
#define BIGINT_LIMBS_MAX 448
void bigint_from_digits(uint32_t *limbs, uint32_t *limbs_used, const char *digits, size_t len);
size_t bigint_to_digits(char *digits, const uint32_t *limbs, uint32_t limbs_used); /* no sign, no NUL */
/* |value| of an integral double; false for a fraction, an infinity or a nan.  `limbs` has room for 33. */
#define BIGINT_DOUBLE_LIMBS 33
bool bigint_from_double(uint32_t *limbs, uint32_t *limbs_used, double value);
bool bigint_equals_double(const uint32_t *limbs, uint32_t limbs_used, bool negative, double value);

/* ---- compare.c: hash and equality as Python's ---- */

#define COMPARE_DEPTH_MAX 1000
/* Equal objects have equal hashes.  HEAP_UNHASHABLE, HEAP_TOO_DEEP, HEAP_INCOMPLETE. */
HEAP_MUST_USE enum heap_error object_hash(uint32_t *hash, struct heap *heap, uint32_t ref);
/* Of a key that is in a table, and so has a hash. */
uint32_t object_hash_again(struct heap *heap, uint32_t ref);
/* A dying tuple or frozenset. */
void compare_forget(struct heap *heap, struct container *c);
uint32_t compare_check(struct heap *heap, FILE *why);
/* Of two hashable objects.  HEAP_TOO_DEEP. */
HEAP_MUST_USE enum heap_error object_equal(bool *equal, struct heap *heap, uint32_t a, uint32_t b);

/* ---- table.c, type_dict.c, type_set.c ---- */

/* Gives the buffers back; the references in them have been dropped.  Leaves an empty table. */
void table_free_buffers(struct heap *heap, struct table *t);
uint64_t table_buffer_bytes(const struct table *t); /* rounded as the allocator does */
/* Every live entry is found by its key, exactly once; counters agree.  Problems on `why`. */
uint32_t table_check(struct heap *heap, struct table *t, FILE *why);

/* ---- type_list.c, type_tuple.c ---- */

uint64_t list_buffer_bytes(const struct list *l);
void list_free_buffers(struct heap *heap, struct list *l);
uint64_t tuple_buffer_bytes(const struct tuple *t);
void tuple_free_buffers(struct heap *heap, struct tuple *t);

/* ---- type_instance.c: symbols, shapes, classes, instances ---- */

bool class_table_init(struct heap *heap);
void class_table_fini(struct heap *heap);
uint64_t instance_buffer_bytes(const struct instance *i);
void instance_free_buffers(struct heap *heap, struct instance *i);
void class_free_info(struct heap *heap, struct class *c);
uint64_t class_info_bytes(const struct class *c);
void instance_clear(struct heap *heap, heap_ref instance); /* deletes all attributes; cannot fail */
const char *instance_class_name(const struct heap *heap, const struct instance *i);
/* The bytes of an instance's class change beside those of its type. */
void instance_count_bytes(struct heap *heap, const struct instance *i, int64_t bytes);
uint32_t class_check(struct heap *heap, FILE *why);

/* ---- weakref.c ---- */

/* Clears all weakrefs to a dying object and tells of those that notify, newest first, but of those that are
 * condemned themselves (`condemned` may be NULL: none is). */
void weakref_clear_all(struct heap *heap, uint32_t target,
                       bool (*condemned)(const struct heap *heap, uint32_t ref));
/* The same of the first one, which is there. */
void weakref_clear_first(struct heap *heap, uint32_t target,
                         bool (*condemned)(const struct heap *heap, uint32_t ref));
/* Unlinks a dying weakref from its target. */
void weakref_silence_all(struct heap *heap); /* of a replay */
void weakref_unlink(struct heap *heap, struct weakref *w);
uint32_t weakref_check(struct heap *heap, FILE *why);

/* ---- finalizer.c ---- */

void finalizer_fini(struct heap *heap);
/* The refcount of an object with FLAG_FINALIZER has become 0.  true: it stays as it is until finalizer_run_dying()
 * comes to it.  false: it has no finalizer any more and dies now. */
HEAP_MUST_USE bool finalizer_before_death(struct heap *heap, uint32_t ref);
/* Whether one waits to be run.  While a journal is replayed that says when. */
static inline bool finalizer_is_due(const struct heap *heap)
{
    return heap->finalizers.dying.first != NULL && !heap->lasting.replays;
}
/* Runs, whatever it waits for.  false: there is none, or it has run. */
HEAP_MUST_USE bool finalizer_replay(struct heap *heap, uint32_t ref, bool binds);
void finalizer_run_dying(struct heap *heap); /* of the first of heap->finalizers.dying, which is there */
/* Steps of a collection that has condemned objects.  First for each that has FLAG_FINALIZER. */
void finalizer_judge(struct heap *heap, uint32_t ref);
/* Puts those into the order of registration; begins with finalizer_sort_begin().  true: they are. */
void finalizer_sort_begin(struct heap *heap);
HEAP_MUST_USE bool finalizer_sort_slice(struct heap *heap, struct slice *slice);
/* Runs the next of them.  false: all have run. */
HEAP_MUST_USE bool finalizer_run_judged(struct heap *heap);
/* Then for each that ran, once: it, if it has a name now or is held; 0 if not.  false: no more. */
HEAP_MUST_USE bool finalizer_next_ran(struct heap *heap, uint32_t *named);
/* The record of a dying object that has run goes; tells what has not been told. */
void finalizer_forget(struct heap *heap, uint32_t ref);
/* Tells of the next of these: it lives on unless it is still condemned.  false: no more. */
HEAP_MUST_USE bool finalizer_tell_ran(struct heap *heap);
/* Whether it waits for its finalizer, its refcount being 0. */
bool finalizer_is_dying(const struct heap *heap, uint32_t ref);
uint32_t finalizer_check(struct heap *heap, FILE *why);

/* ---- garbage.c ---- */

void garbage_fini(struct heap *heap);
HEAP_MUST_USE bool garbage_reserve(struct heap *heap, uint64_t more); /* room for so many; false: no memory */
void garbage_append(struct heap *heap, uint32_t ref); /* takes a reference; there is room */
/* What the debug flags say at the start of a collection, of each condemned object, and at the end. */
void debug_say_start(struct heap *heap, int generation);
void debug_say_collectable(struct heap *heap, uint32_t ref);
void debug_say_stop(struct heap *heap, const struct heap_collection *done);

/* ---- handle.c ---- */

#define HANDLE_BYTES HEAP_ID_BYTES /* of an id's entry; counted with the object */

/* lasting.c, replay.c */
void lasting_fini(struct heap *heap);
/* Whether the object may get an id now.  false: no memory to note it; or it is an atom, and no journal would know. */
HEAP_MUST_USE bool lasting_may_give(struct heap *heap, uint32_t ref);
void lasting_note(struct heap *heap, uint64_t id);
void lasting_tell_now(struct heap *heap, enum heap_effect effect, uint32_t ref, bool is_bound);
/* Something has happened to an object with an id that no request has asked for. */
static inline void lasting_tell(struct heap *heap, enum heap_effect effect, uint32_t ref, bool is_bound)
{
    if (unlikely(heap->lasting.is_on)) {
        lasting_tell_now(heap, effect, ref, is_bound);
    }
}
/* The slot of the next id of a replay, made ready for it; 0: there is none. */
uint32_t replay_take_slot(struct heap *heap);

bool handle_init(struct heap *heap);
void handle_fini(struct heap *heap);
/* The slot of an object, made when there is none; 0: no memory. */
uint32_t handle_slot(struct heap *heap, uint32_t ref);
uint32_t handle_slot_if_any(const struct heap *heap, uint32_t ref);
uint32_t handle_ref(const struct heap *heap, uint32_t slot); /* object of a slot in use */
uint64_t handle_id(const struct heap *heap, uint32_t ref); /* the id of an object that has one */
/* One root (hold or name) more or less on the object's slot, beside its refcount. */
void handle_root_add(struct heap *heap, uint32_t slot, uint32_t n);
void handle_root_drop(struct heap *heap, uint32_t slot, uint32_t n);
uint32_t handle_roots(const struct heap *heap, uint32_t slot);
/* The object died: its id is void for ever. */
void handle_release(struct heap *heap, uint32_t ref);
uint32_t handle_ref_of_id(const struct heap *heap, uint64_t id); /* whatever is dying; 0: none */
bool handle_was_given(const struct heap *heap, uint64_t id); /* of a replay: it is, or was last, that of its slot */
/* The slot of an id, unused so far, is ready to be given; 0: it is in use, or there is no memory. */
uint32_t handle_claim_slot(struct heap *heap, uint64_t id);
void handle_requeue(struct heap *heap); /* all free slots wait to be given again */
uint32_t handle_count(const struct heap *heap); /* slots ever used: 1..count are valid to ask */
/* The first from this one on that may have been given; beyond handle_count(): none is. */
uint64_t handle_next(const struct heap *heap, uint64_t slot);
uint32_t handle_check(struct heap *heap, FILE *why);

/* ---- session.c, name.c ---- */

/* Drops the holds of a session that has ended; true: none is left, and the session is gone. */
HEAP_MUST_USE bool session_release_slice(struct heap *heap, struct heap_session *session, struct slice *slice);
/* Its number, for a finalizer or a weakref to keep. */
uint64_t session_note_number(struct heap_session *session);
/* How many holds on the slot are still to be dropped. */
uint32_t session_holds_left(const struct heap_session *session, uint32_t slot);
/* Adds what sessions hold of each handle slot to `roots` (indexed by slot), also those that have ended; for
 * heap_check. */
void session_count_holds(struct heap *heap, uint32_t *roots);
/* Calls `row` for each handle slot that a session holds, session by session, until it says false, which it
 * then returns. */
bool session_walk_holds(struct heap *heap, bool (*row)(void *arg, uint64_t session, uint32_t slot), void *arg);
bool name_init(struct heap *heap);
/* heap_name_bind(), also where the name's object is condemned: of finalizers. */
HEAP_MUST_USE enum heap_error name_bind(struct heap *heap, const char *name, size_t len, heap_ref obj);
void name_fini(struct heap *heap);
void name_count_roots(struct heap *heap, uint32_t *roots); /* indexed by handle slot */
uint32_t name_check(struct heap *heap, FILE *why);

/* ---- mark.c ---- */

/* An object that is freed, where there are marks; mark_made() of a new one stands with object.c. */
void mark_died(struct heap *heap, uint32_t ref);
void marks_fini(struct heap *heap);
uint32_t marks_cohorts(const struct heap *heap); /* that were ever needed at once */
uint32_t mark_check(struct heap *heap, FILE *why);

/* ---- dead.c: the dead list ---- */

void dead_append(struct heap *heap, struct container *c); /* refcount 0, untracked, without id and weakrefs */
/* A dead container of the same type takes over the body of one that is cleared, so that what that referred to dies as
 * if it died itself.  false: that is not worth while, or there is no memory; nothing has changed. */
HEAP_MUST_USE bool dead_take_over(struct heap *heap, const struct container *c);
/* The same for a raw block with room for `room` references, the first `count` of which (0: none) are dropped; the bytes
 * count for a list from here on. */
HEAP_MUST_USE bool dead_take_buffer(struct heap *heap, uint32_t *refs, uint32_t count, uint32_t room);
void dead_drain(struct heap *heap); /* the deaths of the operation under way, until none is left */
HEAP_MUST_USE bool dead_slice(struct heap *heap, struct slice *slice); /* the same; true: none is left */
/* What is left of the deaths of the operation under way, and the holds of dying->session, go on in heap_step(). */
void dying_defer(struct heap *heap, struct heap_dying *dying);
/* Goes on with those; true: none are left. */
HEAP_MUST_USE bool dying_step(struct heap *heap, struct slice *slice);
/* Whether it cannot be said yet if the object lives, because only what is dying may refer to it: nobody holds or
 * names it.  heap->wait says so then. */
bool dying_decides(struct heap *heap, uint32_t ref);
uint32_t dying_check(struct heap *heap, FILE *why);
/* Everything of a container but its block; its edges have been dropped. */
void object_free_buffers(struct heap *heap, struct container *c);

#endif
