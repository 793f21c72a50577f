/* compare.c -- hash and equality of keys and members, as Python's.
 *
 *   numbers       bool, int and float compare by value, exactly: 1 == 1.0 == true, 2**53 + 1 != 2.0**53
 *   str, bytes    by content, never with each other
 *   tuple         item by item;   frozenset: the same members
 *   others        None, instance, class, weakref: by identity
 *   list, dict, set, and what contains one, cannot be hashed
 *
 * Identity comes before equality, inside tuples too: so a nan is equal to itself as the same object only.
 *
 * Hashes are keyed with the heap's random seed, those of numbers too, so that clients cannot choose keys that
 * collide.  An int hashes by value if it fits 64 bits, else by its limbs; an integral float as the int it
 * equals.
 *
 * Tuples and frozensets are walked with a stack of COMPARE_DEPTH_MAX frames (some 40 KiB) in the function's
 * own frame.  What a walk over a nested or long one finds is kept in heap->hashes until it dies
 * (FLAG_HASHED), so that a tuple which contains one tuple twice, which contains one twice, and so on, is
 * hashed in as many steps as there are tuples.  A comparison remembers some of the pairs it has found equal, for
 * the same reason.  STEPS_MAX bounds one walk, ALLOWANCE all long walks of one request, and what goes beyond is
 * refused as too deep (CPython walks on).
 * Comparing two frozensets hashes members of the one to find them in the other; those steps count, too.
 * Start at object_hash() and object_equal().
 */
#include "edges.h"

/* References looked at by one hash or comparison.  A tuple of 16 million atoms is still a key: 0.2 s. */
#define STEPS_MAX (1u << 24)
/* Steps of all walks between two heap_settle(), those of short walks left out: so many keys of the usual kind
 * are never refused, and a small request that names large keys over and over is, after about 0.3 s. */
#define ALLOWANCE (1u << 25)
#define SHORT_WALK 64u
/* A hash that took a walk over more items, or into another tuple or frozenset, is kept. */
#define KEEP_ABOVE 8u
/* Pairs of one comparison that are remembered as equal. */
#define PROVEN_PAIRS 256u

/* ---- hashes of atoms ---- */

static uint64_t fold_multiply(uint64_t a, uint64_t b)
{
    __uint128_t product = (__uint128_t)a * b;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

/* A hash is 32 bits and never 0. */
static uint32_t shorten(uint64_t hash)
{
    uint32_t shorter = (uint32_t)(hash >> 32 ^ hash);
    return shorter != 0 ? shorter : 1;
}

/* Of a number of any kind that is no text; `kind` keeps equal words of different kinds apart. */
static uint64_t word_hash(const struct heap *heap, uint64_t word, uint64_t kind)
{
    uint64_t once = fold_multiply(word ^ heap->hash_seed[0], heap->hash_seed[1] | 1);
    return fold_multiply(once ^ heap->hash_seed[1], heap->hash_seed[0] ^ kind);
}
#define KIND_INT 0x9E3779B97F4A7C15u
#define KIND_FLOAT 0xC2B2AE3D27D4EB4Fu
#define KIND_IDENTITY 0x165667B19E3779F9u
#define KIND_TUPLE 0x27D4EB2F165667C5u
#define KIND_SET 0x85EBCA77C2B2AE63u

/* The int64 that a double equals.  false: none. */
static bool double_as_int(int64_t *value, double d)
{
    if (!(d >= -0x1p63 && d < 0x1p63) || (double)(int64_t)d != d) {
        return false;
    }
    *value = (int64_t)d;
    return true;
}

static uint64_t double_hash(const struct heap *heap, double d)
{
    int64_t value;
    if (double_as_int(&value, d)) {
        return word_hash(heap, (uint64_t)value, KIND_INT);
    }
    uint32_t limbs[BIGINT_DOUBLE_LIMBS], used;
    if (bigint_from_double(limbs, &used, d)) {
        return hash_bytes(heap, limbs, used * sizeof *limbs);
    }
    uint64_t bits;
    memcpy(&bits, &d, sizeof bits);
    return word_hash(heap, bits, KIND_FLOAT);
}

static uint64_t int_hash(const struct heap *heap, const struct object *o)
{
    if (o->flags & FLAG_BIG) {
        const struct bigint *b = (const struct bigint *)o;
        return hash_bytes(heap, bigint_limbs(b), 4 * (size_t)b->head.n);
    }
    return word_hash(heap, (uint64_t)((const struct number *)o)->value.i, KIND_INT);
}

/* What is known of a hash or comparison without looking inside. */
enum shallow { SHALLOW_DONE, SHALLOW_DEEP, SHALLOW_UNHASHABLE, SHALLOW_INCOMPLETE };

/* The hash of anything but a tuple or frozenset that is not empty. */
static enum shallow shallow_hash(uint32_t *hash, struct heap *heap, uint32_t ref)
{
    struct object *o = object_at(heap, ref);
    switch ((enum heap_type)o->type) {
    case HEAP_T_STR:
    case HEAP_T_BYTES:
        *hash = text_hash(heap, (struct text *)o);
        return SHALLOW_DONE;
    case HEAP_T_INT:
    case HEAP_T_BOOL:
        *hash = shorten(int_hash(heap, o));
        return SHALLOW_DONE;
    case HEAP_T_FLOAT: {
        double d = ((struct number *)o)->value.f;
        /* By identity, as they compare: with one hash for all, a set of many would search for ever. */
        bool is_nan = d != d;
        *hash = shorten(is_nan ? word_hash(heap, ref, KIND_IDENTITY) : double_hash(heap, d));
        return SHALLOW_DONE;
    }
    case HEAP_T_NONE:
    case HEAP_T_CLASS:
    case HEAP_T_INSTANCE:
    case HEAP_T_WEAKREF:
        *hash = shorten(word_hash(heap, ref, KIND_IDENTITY));
        return SHALLOW_DONE;
    case HEAP_T_TUPLE:
        return o->flags & FLAG_INCOMPLETE ? SHALLOW_INCOMPLETE : SHALLOW_DEEP;
    case HEAP_T_FROZENSET:
        return SHALLOW_DEEP;
    case HEAP_T_LIST:
    case HEAP_T_DICT:
    case HEAP_T_SET:
        return SHALLOW_UNHASHABLE;
    case HEAP_T_COUNT:
        break;
    }
    heap_assert_failed("a known type", __FILE__, __LINE__);
}

/* ---- hashes of tuples and frozensets ---- */

struct hash_frame {
    uint32_t ref;       /* the tuple or frozenset */
    struct edges edges; /* items or members */
    uint32_t i;         /* next of them */
    uint32_t height;    /* levels below this one, as far as they are known */
    bool set;
    uint64_t sum;
};

static struct hash_frame hash_enter(struct heap *heap, uint32_t ref)
{
    struct container *c = (struct container *)object_at(heap, ref);
    bool set = c->head.type == HEAP_T_FROZENSET;
    return (struct hash_frame){
        .ref = ref, .edges = object_edges(heap, c), .set = set, .sum = set ? KIND_SET : KIND_TUPLE};
}

/* heap->hashes has the hash of a container under its reference, and its height under this key. */
static uint32_t height_key(uint32_t ref)
{
    return ref | REF_ATOM;
}

/* Keeps what a walk found.  Benign when there is no memory: the next walk finds it again. */
static void keep_hash(struct heap *heap, const struct hash_frame *frame, uint32_t hash)
{
    uint32_t *kept = map32_put(&heap->hashes, frame->ref);
    if (kept == NULL) {
        return;
    }
    *kept = hash;
    kept = map32_put(&heap->hashes, height_key(frame->ref));
    if (kept == NULL) {
        map32_remove(&heap->hashes, frame->ref);
        return;
    }
    *kept = frame->height;
    object_at(heap, frame->ref)->flags |= FLAG_HASHED;
}

static bool find_kept(uint32_t *hash, uint32_t *height, const struct heap *heap, uint32_t ref)
{
    if (!(object_at(heap, ref)->flags & FLAG_HASHED)) {
        return false;
    }
    *hash = *map32_find(&heap->hashes, ref);
    *height = *map32_find(&heap->hashes, height_key(ref));
    return true;
}

void compare_forget(struct heap *heap, struct container *c)
{
    if (c->head.flags & FLAG_HASHED) {
        map32_remove(&heap->hashes, object_ref(heap, c));
        map32_remove(&heap->hashes, height_key(object_ref(heap, c)));
        c->head.flags &= (uint8_t)~FLAG_HASHED;
    }
}

uint32_t compare_check(struct heap *heap, FILE *why)
{
    uint32_t problems = 0, ref, hash;
    uint64_t position = 0;
    while (map32_next(&heap->hashes, &position, &ref, &hash)) {
        ref &= ~REF_ATOM;
        if (!pymalloc_is_block(&heap->pm, ref, POOL_CONTAINER) || !(object_at(heap, ref)->flags & FLAG_HASHED) ||
            map32_find(&heap->hashes, ref) == NULL || map32_find(&heap->hashes, height_key(ref)) == NULL) {
            fprintf(why, "the kept hashes have %#x, which has none\n", ref);
            problems++;
        }
    }
    return problems + map32_check(&heap->hashes, why);
}

/* Members come in any order, items in theirs. */
static void hash_add(const struct heap *heap, struct hash_frame *frame, uint32_t hash)
{
    if (frame->set) {
        frame->sum += word_hash(heap, hash, KIND_SET);
    } else {
        frame->sum = fold_multiply(frame->sum ^ hash, KIND_TUPLE) + hash;
    }
}

/* The item's hash is part of the frame's; `height`: levels from the item on, 0 for an atom. */
static void hash_item(const struct heap *heap, struct hash_frame *frame, uint32_t hash, uint32_t height)
{
    hash_add(heap, frame, hash);
    frame->height = frame->height < height ? height : frame->height;
}

/* All of a frame has been seen: its hash. */
static uint32_t hash_leave(struct heap *heap, const struct hash_frame *frame)
{
    uint32_t hash = shorten(word_hash(heap, frame->sum, frame->set ? KIND_SET : KIND_TUPLE));
    if (frame->height > 0 || frame->edges.count > KEEP_ABOVE) {
        keep_hash(heap, frame, hash);
    }
    return hash;
}

static enum heap_error deep_hash(uint32_t *hash, uint32_t *steps, struct heap *heap, uint32_t ref)
{
    struct hash_frame stack[COMPARE_DEPTH_MAX];
    uint32_t height;
    if (find_kept(hash, &height, heap, ref)) {
        return HEAP_OK;
    }
    stack[0] = hash_enter(heap, ref);
    for (unsigned depth = 0;;) {
        struct hash_frame *frame = &stack[depth];
        if (frame->i == frame->edges.count) {
            uint32_t done = hash_leave(heap, frame);
            if (depth == 0) {
                *hash = done;
                return HEAP_OK;
            }
            hash_item(heap, &stack[--depth], done, frame->height + 1);
            continue;
        }
        uint32_t item = frame->edges.refs[frame->i++];
        if (item == 0) {
            if (!frame->set) {
                return HEAP_INCOMPLETE;
            }
            continue; /* a deleted member */
        }
        uint32_t item_hash;
        switch (shallow_hash(&item_hash, heap, item)) {
        case SHALLOW_DONE:
            hash_item(heap, frame, item_hash, 0);
            break;
        case SHALLOW_DEEP:
            if (find_kept(&item_hash, &height, heap, item)) {
                if (depth + 1 + height >= COMPARE_DEPTH_MAX) {
                    return HEAP_TOO_DEEP;
                }
                hash_item(heap, frame, item_hash, height + 1);
                break;
            }
            if (depth + 1 == COMPARE_DEPTH_MAX) {
                return HEAP_TOO_DEEP;
            }
            stack[++depth] = hash_enter(heap, item);
            break;
        case SHALLOW_UNHASHABLE:
            return HEAP_UNHASHABLE;
        case SHALLOW_INCOMPLETE:
            return HEAP_INCOMPLETE;
        }
        if (++*steps > STEPS_MAX) {
            return HEAP_TOO_DEEP;
        }
    }
}

/* object_hash with an allowance of steps; `steps` counts those taken. */
static enum heap_error counted_hash(uint32_t *hash, uint32_t *steps, struct heap *heap, uint32_t ref)
{
    switch (shallow_hash(hash, heap, ref)) {
    case SHALLOW_DONE:
        return HEAP_OK;
    case SHALLOW_DEEP:
        return deep_hash(hash, steps, heap, ref);
    case SHALLOW_UNHASHABLE:
        return HEAP_UNHASHABLE;
    case SHALLOW_INCOMPLETE:
        return HEAP_INCOMPLETE;
    }
    heap_assert_failed("a known answer", __FILE__, __LINE__);
}

/* Counts a walk's steps against the request's allowance; false: it is used up. */
static bool charge(struct heap *heap, uint32_t steps)
{
    heap->compare_steps += steps > SHORT_WALK ? steps : 0;
    return heap->compare_steps <= ALLOWANCE;
}

enum heap_error object_hash(uint32_t *hash, struct heap *heap, uint32_t ref)
{
    uint32_t steps = 0;
    enum heap_error error = counted_hash(hash, &steps, heap, ref);
    return charge(heap, steps) || error != HEAP_OK ? error : HEAP_TOO_DEEP;
}

uint32_t object_hash_again(struct heap *heap, uint32_t ref)
{
    uint32_t hash = 0, steps = 0;
    enum heap_error error = counted_hash(&hash, &steps, heap, ref);
    HEAP_ASSERT(error == HEAP_OK);
    return hash;
}

/* ---- equality of atoms ---- */

static bool big_equal(const struct object *a, const struct object *b)
{
    return (a->flags & FLAG_BIG) && (b->flags & FLAG_BIG) &&
           (a->flags & FLAG_NEGATIVE) == (b->flags & FLAG_NEGATIVE) && a->n == b->n &&
           memcmp(bigint_limbs((const struct bigint *)a), bigint_limbs((const struct bigint *)b),
                  4 * (size_t)a->n) == 0;
}

static bool is_number(const struct object *o)
{
    return o->type == HEAP_T_INT || o->type == HEAP_T_BOOL || o->type == HEAP_T_FLOAT;
}

/* An int or bool and a float. */
static bool int_equals_double(const struct object *a, double d)
{
    if (a->flags & FLAG_BIG) {
        return bigint_equals_double(bigint_limbs((const struct bigint *)a), a->n, a->flags & FLAG_NEGATIVE, d);
    }
    int64_t value;
    return double_as_int(&value, d) && value == ((const struct number *)a)->value.i;
}

static bool number_equal(const struct object *a, const struct object *b)
{
    const struct number *x = (const struct number *)a, *y = (const struct number *)b;
    if (a->type == HEAP_T_FLOAT) {
        return b->type == HEAP_T_FLOAT ? x->value.f == y->value.f : int_equals_double(b, x->value.f);
    }
    if (b->type == HEAP_T_FLOAT) {
        return int_equals_double(a, y->value.f);
    }
    if ((a->flags | b->flags) & FLAG_BIG) {
        return big_equal(a, b);
    }
    return x->value.i == y->value.i;
}

/* *equal, unless they are two tuples or two frozensets, which is SHALLOW_DEEP. */
static enum shallow shallow_equal(bool *equal, const struct heap *heap, uint32_t a, uint32_t b)
{
    *equal = a == b;
    if (a == b) {
        return SHALLOW_DONE;
    }
    const struct object *x = object_at(heap, a), *y = object_at(heap, b);
    if (x->type == y->type && (x->type == HEAP_T_STR || x->type == HEAP_T_BYTES)) {
        *equal = table_same_text((const struct text *)x, (const struct text *)y);
    } else if (is_number(x) && is_number(y)) {
        *equal = number_equal(x, y);
    } else if (x->type == y->type && (x->type == HEAP_T_TUPLE || x->type == HEAP_T_FROZENSET)) {
        return SHALLOW_DEEP;
    }
    return SHALLOW_DONE;
}

/* ---- equality of tuples and frozensets ---- */

struct equal_frame {
    uint32_t a, b;        /* the pair */
    const uint32_t *refs; /* items of the one tuple, or members of the one set */
    union {
        const uint32_t *refs;    /* items of the other tuple */
        const struct table *set; /* the other set */
    } other;
    uint32_t i, count;        /* the one's next and number */
    bool set, probing;        /* probing: candidates for member i are being compared */
    struct table_probe probe; /* where the next candidate is looked for */
};

/* Pairs that this walk has found equal, so that one which comes again is not walked again; a later pair takes
 * the place of an earlier one. */
struct proven {
    struct {
        uint32_t a, b; /* 0: none */
    } pairs[PROVEN_PAIRS];
};

static unsigned proven_place(uint32_t a, uint32_t b)
{
    return (a * 0x9E3779B1u ^ b * 0x85EBCA77u) >> 24;
}
_Static_assert(PROVEN_PAIRS == 1u << 8, "a place is the upper eight bits");

static bool is_proven(const struct proven *proven, uint32_t a, uint32_t b)
{
    unsigned place = proven_place(a, b);
    return proven->pairs[place].a == a && proven->pairs[place].b == b;
}

static void prove(struct proven *proven, const struct equal_frame *frame)
{
    unsigned place = proven_place(frame->a, frame->b);
    proven->pairs[place].a = frame->a;
    proven->pairs[place].b = frame->b;
}

/* What a step found out about its frame. */
enum verdict { VERDICT_OPEN, VERDICT_EQUAL, VERDICT_UNEQUAL };

/* Of two tuples or two frozensets.  VERDICT_UNEQUAL if their lengths or what is known of their hashes differ;
 * then there is no frame. */
static enum verdict equal_enter(struct equal_frame *frame, struct heap *heap, uint32_t a, uint32_t b)
{
    struct container *x = (struct container *)object_at(heap, a), *y = (struct container *)object_at(heap, b);
    uint32_t hash_a, hash_b, height;
    if (find_kept(&hash_a, &height, heap, a) && find_kept(&hash_b, &height, heap, b) && hash_a != hash_b) {
        return VERDICT_UNEQUAL;
    }
    struct edges edges = object_edges(heap, x);
    *frame = (struct equal_frame){.a = a, .b = b, .refs = edges.refs, .count = edges.count};
    if (x->head.type == HEAP_T_FROZENSET) {
        frame->set = true;
        frame->other.set = (struct table *)y;
        return ((struct table *)x)->live == frame->other.set->live ? VERDICT_OPEN : VERDICT_UNEQUAL;
    }
    struct edges others = object_edges(heap, y);
    frame->other.refs = others.refs;
    return edges.count == others.count ? VERDICT_OPEN : VERDICT_UNEQUAL;
}

/* The pair to compare next; or a verdict. */
static enum heap_error equal_next(enum verdict *verdict, uint32_t *a, uint32_t *b, struct equal_frame *frame,
                                  uint32_t *steps, struct heap *heap)
{
    while (frame->set && !frame->probing && frame->i < frame->count && frame->refs[frame->i] == 0) {
        frame->i++;
    }
    *verdict = VERDICT_EQUAL;
    if (frame->i == frame->count) {
        return HEAP_OK;
    }
    *verdict = VERDICT_OPEN;
    *a = frame->refs[frame->i];
    if (!frame->set) {
        *b = frame->other.refs[frame->i];
        return HEAP_OK;
    }
    if (!frame->probing) {
        frame->probe = (struct table_probe){0};
        enum heap_error error = counted_hash(&frame->probe.hash, steps, heap, *a);
        if (error != HEAP_OK) {
            return error;
        }
        frame->probing = true;
    }
    uint32_t candidate = table_probe_next(frame->other.set, &frame->probe);
    if (candidate == TABLE_NONE) {
        *verdict = VERDICT_UNEQUAL;
    } else {
        *b = *table_entry(frame->other.set, candidate);
    }
    return HEAP_OK;
}

/* The pair that equal_next() gave has been compared. */
static enum verdict equal_told(struct equal_frame *frame, bool equal)
{
    if (equal) {
        frame->i++;
        frame->probing = false;
        return VERDICT_OPEN;
    }
    return frame->set ? VERDICT_OPEN : VERDICT_UNEQUAL;
}

static enum heap_error deep_equal(bool *equal, uint32_t *steps, struct heap *heap, uint32_t first,
                                  uint32_t second)
{
    struct equal_frame stack[COMPARE_DEPTH_MAX];
    struct proven proven = {0};
    unsigned depth = 0;
    enum verdict verdict = equal_enter(&stack[0], heap, first, second);
    for (;;) {
        /* A verdict closes its frame and is told to the one above, which may come to a verdict by that. */
        while (verdict != VERDICT_OPEN) {
            if (depth == 0) {
                *equal = verdict == VERDICT_EQUAL;
                return HEAP_OK;
            }
            if (verdict == VERDICT_EQUAL) {
                prove(&proven, &stack[depth]);
            }
            verdict = equal_told(&stack[--depth], verdict == VERDICT_EQUAL);
        }
        uint32_t a = 0, b = 0;
        enum heap_error error = equal_next(&verdict, &a, &b, &stack[depth], steps, heap);
        if (error != HEAP_OK) {
            return error;
        }
        if (verdict != VERDICT_OPEN) {
            continue;
        }
        bool same;
        if (shallow_equal(&same, heap, a, b) == SHALLOW_DONE) {
            verdict = equal_told(&stack[depth], same);
        } else if (is_proven(&proven, a, b)) {
            verdict = equal_told(&stack[depth], true);
        } else if (depth + 1 == COMPARE_DEPTH_MAX) {
            return HEAP_TOO_DEEP;
        } else {
            verdict = equal_enter(&stack[++depth], heap, a, b);
        }
        if (++*steps > STEPS_MAX) {
            return HEAP_TOO_DEEP;
        }
    }
}

enum heap_error object_equal(bool *equal, struct heap *heap, uint32_t a, uint32_t b)
{
    if (shallow_equal(equal, heap, a, b) == SHALLOW_DONE) {
        return HEAP_OK;
    }
    uint32_t steps = 0;
    enum heap_error error = deep_equal(equal, &steps, heap, a, b);
    return charge(heap, steps) || error != HEAP_OK ? error : HEAP_TOO_DEEP;
}
