/* heap.h -- the public face of the managed heap.
 *
 * A heap holds objects: atoms (None, bool, int, float, str, bytes) and containers (list, tuple, dict,
 * set, frozenset, instance, class, weakref).  It counts references, frees what nobody refers to, and
 * finds the cycles that counting cannot.  Everything hangs from a `struct heap`; two heaps in one
 * process know nothing of each other.
 *
 * Words used by every contract below:
 *
 *   reference   a heap_ref: 32 bits that name a place in the heap's reserved range.  0 is no object.
 *   new         the caller owns one count of the object and must give it away: heap_decref(), or a
 *               function whose name ends in `_steal`, which consumes it also when it fails.  It is no
 *               root: heap_collect(2) frees what only a running function owns, so hold or bind it first.
 *   borrowed    the caller owns nothing; the object lives while its owner keeps it.
 *   hold        a reference owned by a session.     name: an entry of the global namespace.
 *   edge        a reference from a container.
 *
 * Unless a comment says otherwise, every function
 *   - needs the GIL (between heap_enter() and heap_leave());
 *   - returns borrowed references and steals nothing;
 *   - leaves the heap as it was when it fails, and writes its results only when it succeeds;
 *   - can free atoms at once, containers never: a container whose last reference goes waits on the
 *     dead list until heap_settle(), so borrowed containers stay valid until then.
 *
 * Start reading at heap.c, or at object.c for the layout.
 */
#ifndef HEAPD_HEAP_HEAP_H
#define HEAPD_HEAP_HEAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

typedef uint32_t heap_ref;

struct heap;
struct heap_session;
struct heap_collection;

#define HEAP_MUST_USE __attribute__((warn_unused_result))

/* ---- errors ---- */

/* code, the word a client programs against (PROTOCOL section 9), the sentence for a person. */
#define HEAP_ERROR_MAP(X)                                                                                    \
    X(HEAP_NOT_FOUND, "not_found", "no such object: it was freed or never existed")                          \
    X(HEAP_NOT_HELD, "not_held", "this session holds no reference to the object; ref it first")              \
    X(HEAP_TYPE, "type_error", "the object is of a type that this operation is not for")                     \
    X(HEAP_NAME, "name_error", "the name is not bound; bind it with name.bind or create")                    \
    X(HEAP_INDEX, "index_error", "the index is out of range; ask for the length first")                      \
    X(HEAP_KEY, "key_error", "the key is not in the dict")                                                   \
    X(HEAP_ATTR, "attribute_error", "the instance has no such attribute; a class with slots allows only those")                                    \
    X(HEAP_UNHASHABLE, "value_error",                                                                        \
      "lists, dicts, sets and tuples that contain one cannot be a key or member; use a tuple of atoms")      \
    X(HEAP_TOO_DEEP, "value_error", "the key is nested deeper than 1000, or too large to be hashed or compared") \
    X(HEAP_INCOMPLETE, "value_error",                                                                        \
      "a label must be complete before it is used as a key, member or class; define it earlier")             \
    X(HEAP_TUPLE_CYCLE, "value_error", "a cycle through tuples alone is impossible; put a list in between")  \
    X(HEAP_BAD_INT, "value_error", "an int is an optional - and 1 to 4300 decimal digits")                   \
    X(HEAP_BAD_NAME, "value_error", "a bound name is a str of 1 to 1024 bytes")                              \
    X(HEAP_BAD_IDENTIFIER, "value_error",                                                                    \
      "class, slot and attribute names are identifiers of at most 255 bytes, like node_1")                   \
    X(HEAP_RESERVED_CLASS, "value_error", "a class cannot be called like a built-in type; choose another")   \
    X(HEAP_REPEATED_SLOT, "value_error", "a slot is listed twice; list each once")                           \
    X(HEAP_FINALIZED, "value_error", "the object's finalizer has run; an object is finalized once in its life")  \
    X(HEAP_NO_MARK, "value_error", "there is no mark of that label; make one with heap.mark")                \
    X(HEAP_OVERFLOW, "value_error", "the sum is outside 64 bits; the value was left as it was")              \
    X(HEAP_TOO_LONG, "value_error", "a value of this size is more than one object can have")                 \
    X(HEAP_MEMORY, "memory_error",                                                                           \
      "the heap's limit is reached even after a full collection; free something or raise --max-memory")      \
    X(HEAP_CANCELLED, "unavailable", "the question was given up: its connection or the daemon ends")          \
    X(HEAP_LIMIT_REFS, "limit_exceeded", "the object has 2147483648 references and cannot take another")     \
    X(HEAP_LIMIT_HOLDS, "limit_exceeded", "the session's limit of holds is reached; unref something")        \
    X(HEAP_LIMIT_NAMES, "limit_exceeded", "the limit of bound names is reached; unbind something")           \
    X(HEAP_LIMIT_MARKS, "limit_exceeded", "there are 16 marks already; give the label of one to replace it")

enum heap_error {
    HEAP_OK = 0,
#define X(code, word, sentence) code,
    HEAP_ERROR_MAP(X)
#undef X
    HEAP_ERROR_COUNT
};

/* The word and the sentence of an error; static.  GIL: either. */
const char *heap_error_word(enum heap_error error);
const char *heap_error_sentence(enum heap_error error);

/* ---- life of a heap ---- */

/* What a heap is made with.  Zero means the default of each field; `limits` may change later. */
struct heap_limits {
    uint64_t max_bytes; /* arenas, raw blocks and tables together; 0: no limit */
    uint64_t max_holds; /* of one session; 0: no limit */
    uint64_t max_names; /* bound names; 0: no limit */
};

struct heap_config {
    struct heap_limits limits;
    uint64_t reserve_bytes;       /* address space of each half (containers, atoms); default 32 GiB */
    uint32_t switch_interval_us;  /* default 5000 */
};

/* A new heap with its immortals, or NULL when there is no memory or address space.  GIL: not held. */
HEAP_MUST_USE struct heap *heap_create(const struct heap_config *config);
/* Frees everything, whoever refers to it.  Sessions must have been destroyed.  GIL: not held. */
void heap_destroy(struct heap *heap);
void heap_set_limits(struct heap *heap, const struct heap_limits *limits);

/* ---- what the heap tells ---- */

enum heap_event_kind {
    HEAP_EVENT_GC_START,  /* automatic, collection.generation */
    HEAP_EVENT_GC_STOP,   /* automatic, collection */
    HEAP_EVENT_FINALIZED, /* session, object, token, resurrected */
    HEAP_EVENT_WEAKREF,   /* session, weakref, object */
};

/* Something that happened, told while it happens; pointers are good during the call only. */
struct heap_event {
    enum heap_event_kind kind;
    bool automatic;     /* a collection that nobody asked for */
    bool resurrected;   /* the finalized object lives on */
    uint64_t session;   /* number of the session that set the finalizer or made the weakref */
    uint64_t object;    /* id of the finalized object, or of the dead target */
    uint64_t weakref;   /* id */
    const char *token;  /* of the finalizer; NULL: none */
    size_t token_len;
    struct heap_collection *collection; /* of GC_START only `generation` counts */
};

/* Called with the GIL held; must not call the heap.  `event` and `log` may be NULL. */
struct heap_observer {
    void *arg;
    void (*event)(void *arg, const struct heap_event *event);
    void (*log)(void *arg, const char *line); /* what the collector's debug flags say, a line without newline */
};
/* `observer` is copied. */
void heap_set_observer(struct heap *heap, const struct heap_observer *observer);

/* ---- GIL: gil.c says how it is shared ---- */

void heap_enter(struct heap *heap); /* GIL: not held */
/* heap_enter() for a thread that has other things to do than to wait for a long hold.  false: the GIL was not to be had
 * for `us` microseconds, and is not held; *since_us, 0 at the first attempt, remembers since when this thread wants it. */
HEAP_MUST_USE bool heap_enter_within(struct heap *heap, uint32_t us, uint64_t *since_us);
void heap_leave(struct heap *heap);
/* Whether another thread has waited for the GIL for 200 us, or for a switch interval and asks for it: then heap_pass(),
 * between two operations.  GIL: either. */
bool heap_wanted(const struct heap *heap);
/* Hands the GIL over to who waits, and returns with it held again. */
void heap_pass(struct heap *heap);
/* A safe point of a long operation: hands the GIL over if somebody asked, and returns with it held again. */
void heap_yield(struct heap *heap);
/* Unit: microseconds, 1 to 10,000,000.  GIL: either. */
uint32_t heap_switch_interval_us(const struct heap *heap);
void heap_set_switch_interval_us(struct heap *heap, uint32_t interval_us);

/* The end of one of many slices: who waits for the GIL gets it before this thread has it again. */
void heap_give_way(struct heap *heap);

/* ---- the end of an operation ---- */

/* Takes apart what died since the last call, children included, in one hold of the GIL however much it is.  Returns
 * how many objects were freed since then, atoms included.  Can free: anything unreferenced. */
uint64_t heap_settle(struct heap *heap);

/* ---- work in slices ---- */

/* The dying of a large graph, the end of a session with many holds, a full collection and a large young one are
 * done in slices: what begins one returns after its first slice, and heap_step() goes on, oldest deaths first,
 * then the collection.  Other operations run between two slices, and see a death, or a verdict, as one moment:
 * where that needs the rest of the work to be done they fail, and heap_take_wait() says what for.
 * Within a slice the clock is looked at each 64 objects and 4,096 references at least. */

/* What one operation has killed, and is not yet taken apart.  The caller's memory, from heap_settle_slice() or
 * heap_session_end() until is_done; the heap's in between, which fills in everything. */
struct heap_dying {
    struct heap_dying *next;
    uint32_t first, last; /* containers, linked */
    uint32_t left;        /* of the first's references, when it has been begun; else 0 */
    void *finalizers[2];  /* first and last of those that have not run */
    struct heap_session *session; /* whose holds are dropped; NULL: none */
    uint64_t freed;       /* objects so far */
    bool is_done;
};
/* heap_settle() for a slice.  true: it is done, *freed as heap_settle() says.  false: it goes on in heap_step();
 * *dying is in use until it is done, and its `freed` counts from the beginning. */
HEAP_MUST_USE bool heap_settle_slice(uint64_t *freed, struct heap *heap, struct heap_dying *dying);
/* Releases every hold of the session, and ends it unless `keep`, in slices; the session holds nothing at once for
 * everybody but the deaths.  *released: how many, repeats counted.  true: done, deaths included, and dying->freed says how many died; false:
 * as above. */
HEAP_MUST_USE bool heap_session_end(uint64_t *released, struct heap *heap, struct heap_session *session, bool keep,
                                    struct heap_dying *dying);

/* Whether heap_step() has something to do.  GIL: either. */
bool heap_work_pending(const struct heap *heap);
/* One slice of about so many microseconds; returns whether something is left. */
bool heap_step(struct heap *heap, uint32_t budget_us);
/* How long the slice of an operation is; 500 at first.  `objects`, if not 0, ends every slice after so many
 * objects, for tests. */
void heap_set_slice(struct heap *heap, uint32_t us, uint32_t objects);
#if HEAP_DEBUG >= 1
/* Every heap_gc_poll() begins a full collection if none is under way. */
void heap_set_collect_always(struct heap *heap, bool always);
#endif

/* What an operation has to wait for. */
enum heap_wait {
    HEAP_WAIT_NOTHING,
    HEAP_WAIT_DEATHS,    /* all deaths under way */
    HEAP_WAIT_VERDICT,   /* the collection under way is deciding whether the object lives */
    HEAP_WAIT_COLLECTION /* it comes after the collection, or the walk of a question, that is under way, all deaths and
                          * builds */
};
/* Since it was called last, what did an operation meet?  Then it found nothing, as if it were not there, has changed
 * nothing, and is to be run again when heap_wait_is_over(). */
enum heap_wait heap_take_wait(struct heap *heap);
bool heap_wait_is_over(const struct heap *heap, enum heap_wait wait);
/* Whether neither deaths nor a collection nor a build are between two slices; if not, heap_take_wait() tells of it.  For what
 * looks at all objects. */
HEAP_MUST_USE bool heap_is_still(struct heap *heap);
/* heap_enter() when that is so, for a thread that may wait; no collection begins meanwhile.  false: *cancel, which may
 * be NULL, was set, and the GIL is not held. */
HEAP_MUST_USE bool heap_enter_still(struct heap *heap, const _Atomic bool *cancel);

/* From here to heap_build_end() there may be objects that only a running function refers to also while the GIL is not
 * held: a value is made in slices.  The heap is not still then; a full collection waits, the younger generations are
 * collected as always.  Builds may overlap. */
void heap_build_begin(struct heap *heap);
void heap_build_end(struct heap *heap);
/* Whether something waits for the builds to end: the next one should give it a moment. */
bool heap_is_awaited(struct heap *heap);

/* ---- types ---- */

enum heap_type {
    HEAP_T_NONE,
    HEAP_T_BOOL,
    HEAP_T_INT,
    HEAP_T_FLOAT,
    HEAP_T_STR,
    HEAP_T_BYTES,
    HEAP_T_LIST,
    HEAP_T_TUPLE,
    HEAP_T_DICT,
    HEAP_T_SET,
    HEAP_T_FROZENSET,
    HEAP_T_CLASS,
    HEAP_T_INSTANCE,
    HEAP_T_WEAKREF,
    HEAP_T_COUNT
};

enum heap_type heap_type(const struct heap *heap, heap_ref obj);
/* "list", "NoneType", "type"; for an instance its class's name.  Valid while the object is.  Ends in NUL. */
const char *heap_type_name(const struct heap *heap, heap_ref obj);
/* The name of a built-in type; for HEAP_T_INSTANCE "instance".  GIL: either. */
const char *heap_builtin_name(enum heap_type type);
/* list, tuple but the empty one, dict, set, frozenset, class, instance, weakref. */
bool heap_is_container(const struct heap *heap, heap_ref obj);
bool heap_is_immortal(const struct heap *heap, heap_ref obj);

/* ---- references ---- */

#define HEAP_REFCOUNT_IMMORTAL 4294967295u

/* edges + names + holds + entries of gc.garbage (+ what the caller owns just now). */
uint32_t heap_refcount(const struct heap *heap, heap_ref obj);
/* Of the object with that id just now, whatever is dying; 0: there is none. */
uint32_t heap_refcount_of_id(const struct heap *heap, uint64_t id);
/* Fails with HEAP_LIMIT_REFS only. */
HEAP_MUST_USE enum heap_error heap_incref(struct heap *heap, heap_ref obj);
/* Steals one count of `obj`; 0 is allowed and does nothing. */
void heap_decref(struct heap *heap, heap_ref obj);

/* ---- ids ---- */

/* The id of an object: a positive integer below 2^53, never reused; made when first asked for. */
HEAP_MUST_USE enum heap_error heap_id(uint64_t *id, struct heap *heap, heap_ref obj);
/* The object with that id, or 0 if nothing lives there (any integer may be asked). */
heap_ref heap_find(struct heap *heap, uint64_t id);

/* ---- sessions and holds ---- */

HEAP_MUST_USE struct heap_session *heap_session_create(struct heap *heap); /* NULL: no memory */
/* heap_session_end() in one go; returns how many holds (repeats counted) were released.  Does not settle. */
uint64_t heap_session_destroy(struct heap *heap, struct heap_session *session);
uint64_t heap_session_release_all(struct heap *heap, struct heap_session *session); /* and the session goes on */
uint64_t heap_session_number(const struct heap_session *session); /* from 1, never reused.  GIL: either */
uint64_t heap_session_holds(const struct heap_session *session);  /* repeats counted.  GIL: either */
/* Whether a finalizer or weakref may still tell of itself with its number, or with that of one that it has taken in. */
bool heap_session_is_noted(const struct heap_session *session);

/* One more hold.  HEAP_LIMIT_HOLDS, HEAP_LIMIT_REFS, HEAP_MEMORY. */
HEAP_MUST_USE enum heap_error heap_hold(struct heap *heap, struct heap_session *session, heap_ref obj);
/* One hold less; HEAP_NOT_HELD if there is none. */
HEAP_MUST_USE enum heap_error heap_unhold(struct heap *heap, struct heap_session *session, heap_ref obj);
/* How often the session holds the object. */
uint64_t heap_holds_of(struct heap *heap, struct heap_session *session, heap_ref obj);
/* Moves every hold of `from` to `to`, which may then be above its limit, and destroys `from`.  HEAP_MEMORY;
 * HEAP_LIMIT_HOLDS when both hold one immortal more than 4294967295 times together. */
HEAP_MUST_USE enum heap_error heap_session_merge(struct heap *heap, struct heap_session *to, struct heap_session *from);
/* Calls `row` for each session that holds the object, the oldest first.  Linear in sessions. */
void heap_holders_of(struct heap *heap, heap_ref obj, void (*row)(void *arg, uint64_t session, uint64_t holds),
                     void *arg);
/* Who makes objects from now on: noted with each new object while a mark exists (heap_mark()). */
void heap_set_creator(struct heap *heap, const struct heap_session *session);
void heap_set_creator_number(struct heap *heap, uint64_t session); /* by its number, for it may have ended */

/* ---- names ---- */

#define HEAP_NAME_BYTES_MAX 1024

heap_ref heap_name_find(struct heap *heap, const char *name, size_t len); /* 0: not bound */
/* Binds or rebinds; takes the new reference before it drops the old.  HEAP_BAD_NAME, HEAP_LIMIT_NAMES, .. */
HEAP_MUST_USE enum heap_error heap_name_bind(struct heap *heap, const char *name, size_t len, heap_ref obj);
HEAP_MUST_USE enum heap_error heap_name_unbind(struct heap *heap, const char *name, size_t len); /* HEAP_NAME */
/* The first name, in code point (byte) order, that begins with `prefix` and comes after `after`
 * (after_len 0: from the start).  false: none.  *name is valid until the next change of the namespace. */
bool heap_name_next(struct heap *heap, const char *prefix, size_t prefix_len, const char *after, size_t after_len,
                    const char **name, size_t *name_len, heap_ref *obj);

/* Calls `row` for each name bound to the object, in the order of binding; its cost is that of the object's names alone. */
void heap_names_of(struct heap *heap, heap_ref obj, void (*row)(void *arg, const char *name, size_t len), void *arg);

/* ---- atoms ---- */

heap_ref heap_none(const struct heap *heap);               /* borrowed, immortal */
heap_ref heap_bool(const struct heap *heap, bool value);   /* borrowed, immortal */
heap_ref heap_empty_tuple(const struct heap *heap);        /* borrowed, immortal */

/* All of these: Returns: new (a shared immortal for -5..256, "", one Latin-1 character, b"", one byte).
 * HEAP_MEMORY; HEAP_BAD_INT for digits that are no `-?[0-9]{1,4300}`. */
HEAP_MUST_USE enum heap_error heap_int_create(heap_ref *obj, struct heap *heap, int64_t value);
HEAP_MUST_USE enum heap_error heap_int_parse(heap_ref *obj, struct heap *heap, const char *digits, size_t len);
HEAP_MUST_USE enum heap_error heap_float_create(heap_ref *obj, struct heap *heap, double value);
/* `text` is valid UTF-8 of `len` bytes, NUL allowed. */
HEAP_MUST_USE enum heap_error heap_str_create(heap_ref *obj, struct heap *heap, const char *text, size_t len);
/* Whether it is the str that heap_str_intern() gives for its text. */
bool heap_is_interned(const struct heap *heap, heap_ref obj);
/* The one interned str of that text. */
HEAP_MUST_USE enum heap_error heap_str_intern(heap_ref *obj, struct heap *heap, const char *text, size_t len);
HEAP_MUST_USE enum heap_error heap_bytes_create(heap_ref *obj, struct heap *heap, const void *bytes, size_t len);

bool heap_bool_value(const struct heap *heap, heap_ref obj);
/* false if it needs more than 64 bits: then heap_int_digits(). */
bool heap_int_value(int64_t *value, const struct heap *heap, heap_ref obj);
#define HEAP_INT_DIGITS_MAX 4302 /* sign, digits, NUL */
/* Decimal digits of any int into `buf` (of HEAP_INT_DIGITS_MAX bytes); returns their number. */
size_t heap_int_digits(const struct heap *heap, heap_ref obj, char *buf);
double heap_float_value(const struct heap *heap, heap_ref obj);
/* Text of a str, content of a bytes; no NUL at the end.  Valid while the object is. */
const char *heap_text(const struct heap *heap, heap_ref obj, size_t *len);

/* ---- lists and tuples ---- */

/* Returns: new, empty.  `room`: how many items it will get, a hint. */
HEAP_MUST_USE enum heap_error heap_list_create(heap_ref *list, struct heap *heap, uint32_t room);
/* Returns: new (the empty tuple for n = 0).  Steals the n items.  An item may be 0, a hole that
 * heap_fill_steal() fills later; such a tuple is incomplete until heap_tuples_complete(). */
HEAP_MUST_USE enum heap_error heap_tuple_create_steal(heap_ref *tuple, struct heap *heap, const heap_ref *items,
                                                      uint32_t n);
/* Returns: new.  Steals the n items, in which may be holes. */
HEAP_MUST_USE enum heap_error heap_list_create_steal(heap_ref *list, struct heap *heap, const heap_ref *items, uint32_t n);
uint32_t heap_seq_len(const struct heap *heap, heap_ref seq);             /* list or tuple */
heap_ref heap_seq_item(const struct heap *heap, heap_ref seq, uint32_t i); /* i < len; 0: a hole */

/* Steals `item` (0, a hole, is allowed while a literal is being built). */
HEAP_MUST_USE enum heap_error heap_list_append_steal(struct heap *heap, heap_ref list, heap_ref item);
/* Appends every item of a list, tuple, set or frozenset (`list` itself is fine); HEAP_TYPE otherwise. */
HEAP_MUST_USE enum heap_error heap_list_extend(struct heap *heap, heap_ref list, heap_ref from);
/* i is at most the length.  Steals `item`. */
HEAP_MUST_USE enum heap_error heap_list_insert_steal(struct heap *heap, heap_ref list, uint32_t i, heap_ref item);
void heap_list_set_steal(struct heap *heap, heap_ref list, uint32_t i, heap_ref item); /* i < len */
/* Takes item i out.  Returns: new. */
HEAP_MUST_USE heap_ref heap_list_pop(struct heap *heap, heap_ref list, uint32_t i);
void heap_list_clear(struct heap *heap, heap_ref list);

/* ---- dicts: insertion order, keys compare as in Python ---- */

/* What a str is made of: bytes of UTF-8. */
struct heap_text {
    const char *text;
    size_t len;
};

HEAP_MUST_USE enum heap_error heap_dict_create(heap_ref *dict, struct heap *heap, uint32_t room); /* Returns: new */
/* Returns: new.  Steals n keys, each followed by its value; all keys are interned strs.  Where one comes again its
 * first place stays and its last value. */
HEAP_MUST_USE enum heap_error heap_dict_create_steal(heap_ref *dict, struct heap *heap, const heap_ref *pairs, uint32_t n);
uint32_t heap_dict_len(const struct heap *heap, heap_ref dict);
/* *value is 0 when the key is missing.  HEAP_UNHASHABLE, HEAP_TOO_DEEP, HEAP_INCOMPLETE. */
HEAP_MUST_USE enum heap_error heap_dict_get(heap_ref *value, struct heap *heap, heap_ref dict, heap_ref key);
/* Sets or replaces; an equal key that is there stays.  Steals key and value (a value of 0 is a hole). */
HEAP_MUST_USE enum heap_error heap_dict_set_steal(struct heap *heap, heap_ref dict, heap_ref key, heap_ref value);
/* Takes the entry of `key` out.  *own_key, the dict's equal key, and *value: new.  HEAP_KEY if missing. */
HEAP_MUST_USE enum heap_error heap_dict_pop(heap_ref *own_key, heap_ref *value, struct heap *heap, heap_ref dict,
                                            heap_ref key);
/* All or nothing; `from` may be `dict`.  HEAP_TYPE if `from` is no dict. */
HEAP_MUST_USE enum heap_error heap_dict_update(struct heap *heap, heap_ref dict, heap_ref from);
void heap_dict_clear(struct heap *heap, heap_ref dict);
/* Adds `by` to the int under `key` (missing: 0).  HEAP_TYPE if it is no int, HEAP_OVERFLOW. */
HEAP_MUST_USE enum heap_error heap_dict_incr(int64_t *sum, struct heap *heap, heap_ref dict, heap_ref key, int64_t by);
/* The same with a str key given by its text: no object is made to look for it, only to put it into the dict. */
heap_ref heap_dict_get_text(struct heap *heap, heap_ref dict, struct heap_text key); /* 0: missing */
HEAP_MUST_USE enum heap_error heap_dict_incr_text(int64_t *sum, struct heap *heap, heap_ref dict,
                                                  struct heap_text key, int64_t by); /* HEAP_MEMORY too */
/* The next entry at or after *pos (start with 0), which is moved behind it.  false: no more.  A position
 * stays good while entries are only added; a listing that spans changes uses heap_dict_serial_next(). */
bool heap_dict_next(const struct heap *heap, heap_ref dict, uint32_t *pos, heap_ref *key, heap_ref *value);
/* The same over changes: *after is the serial number of the last entry seen (0: none).  Entries that are
 * there during the whole listing are seen once, in insertion order. */
bool heap_dict_serial_next(struct heap *heap, heap_ref dict, uint64_t *after, heap_ref *key, heap_ref *value);

/* ---- sets and frozensets ---- */

HEAP_MUST_USE enum heap_error heap_set_create(heap_ref *set, struct heap *heap, bool frozen, uint32_t room); /* new */
uint32_t heap_set_len(const struct heap *heap, heap_ref set);
HEAP_MUST_USE enum heap_error heap_set_contains(bool *contains, struct heap *heap, heap_ref set, heap_ref member);
/* Steals `member`; *added false if an equal one was there.  Adds to a frozenset too: for building it. */
HEAP_MUST_USE enum heap_error heap_set_add_steal(bool *added, struct heap *heap, heap_ref set, heap_ref member);
/* Takes the set's equal member out.  *own_member: new, 0 if there is none. */
HEAP_MUST_USE enum heap_error heap_set_discard(heap_ref *own_member, struct heap *heap, heap_ref set,
                                               heap_ref member);
void heap_set_clear(struct heap *heap, heap_ref set);
bool heap_set_next(const struct heap *heap, heap_ref set, uint32_t *pos, heap_ref *member);

/* ---- classes and instances ---- */

#define HEAP_IDENTIFIER_BYTES_MAX 255

/* Returns: new.  `slots` NULL: instances have a __dict__.  HEAP_BAD_IDENTIFIER, HEAP_RESERVED_CLASS,
 * HEAP_REPEATED_SLOT. */
HEAP_MUST_USE enum heap_error heap_class_create(heap_ref *class, struct heap *heap, struct heap_text name,
                                                const struct heap_text *slots, uint32_t slot_count);
const char *heap_class_name(const struct heap *heap, heap_ref class); /* valid while the class is; ends in NUL */
bool heap_class_has_slots(const struct heap *heap, heap_ref class);
uint32_t heap_class_slot_count(const struct heap *heap, heap_ref class);
const char *heap_class_slot(const struct heap *heap, heap_ref class, uint32_t i); /* ends in NUL */

/* Returns: new.  `room`: how many attributes it will get.  HEAP_TYPE if `class` is none. */
HEAP_MUST_USE enum heap_error heap_instance_create(heap_ref *instance, struct heap *heap, heap_ref class, uint32_t room);
heap_ref heap_instance_class(const struct heap *heap, heap_ref instance);
/* *value is 0 when it is not set. HEAP_BAD_IDENTIFIER; HEAP_ATTR for a name that is no slot. */
HEAP_MUST_USE enum heap_error heap_attr_get(heap_ref *value, struct heap *heap, heap_ref instance, const char *name,
                                            size_t len);
/* Steals `value` (0 is a hole). HEAP_BAD_IDENTIFIER; HEAP_ATTR for a name that is no slot. */
HEAP_MUST_USE enum heap_error heap_attr_set_steal(struct heap *heap, heap_ref instance, const char *name, size_t len,
                                                  heap_ref value);
HEAP_MUST_USE enum heap_error heap_attr_del(struct heap *heap, heap_ref instance, const char *name, size_t len);
/* The attributes that are set, in the order of setting (slots: of the class); start with *pos = 0. */
bool heap_attr_next(const struct heap *heap, heap_ref instance, uint32_t *pos, const char **name, heap_ref *value);
uint32_t heap_attr_count(const struct heap *heap, heap_ref instance);

/* ---- weak references ---- */

/* The object's one shared weakref.  Returns: new.  HEAP_TYPE on an immortal. */
HEAP_MUST_USE enum heap_error heap_weakref_shared(heap_ref *weakref, struct heap *heap, heap_ref target);
/* A weakref without a target: dead, or one whose target heap_weakref_aim() gives later.  Returns: new. */
HEAP_MUST_USE enum heap_error heap_weakref_create(heap_ref *weakref, struct heap *heap);
/* Gives a weakref of heap_weakref_create(), without a target, one; it becomes the shared one if there is none yet.
 * HEAP_TYPE, HEAP_MEMORY. */
HEAP_MUST_USE enum heap_error heap_weakref_aim(struct heap *heap, heap_ref weakref, heap_ref target);
heap_ref heap_weakref_target(struct heap *heap, heap_ref weakref); /* 0: dead */
/* A weakref of its own that tells HEAP_EVENT_WEAKREF to the session when the target dies; target and weakref
 * get ids.  Returns: new.  HEAP_TYPE on an immortal. */
HEAP_MUST_USE enum heap_error heap_weakref_notify(heap_ref *weakref, struct heap *heap,
                                                  struct heap_session *session, heap_ref target);
/* How many weakrefs live and point at it. */
uint64_t heap_weakref_count(const struct heap *heap, heap_ref target);

/* ---- finalizers: what happens once, when an object is about to die ---- */

struct heap_finalizer {
    struct heap_text token;        /* text NULL: none */
    struct heap_text resurrect_as; /* this name is bound to the object; text NULL: none */
    bool clear;                    /* the object first drops what it refers to */
    bool done;                     /* it has run; of heap_finalizer_get() only */
    uint64_t session;              /* number of the one that set it; of heap_finalizer_get() only */
};
/* Texts are copied; an earlier one is replaced.  The object gets an id.  HEAP_TYPE on an immortal,
 * HEAP_FINALIZED, HEAP_BAD_NAME. */
HEAP_MUST_USE enum heap_error heap_finalizer_set(struct heap *heap, struct heap_session *session, heap_ref obj,
                                                 const struct heap_finalizer *finalizer);
/* Takes it away; whether there was one that has not run. */
bool heap_finalizer_clear(struct heap *heap, heap_ref obj);
/* false: there is none.  Texts are good until the next call that changes or runs it. */
bool heap_finalizer_get(struct heap_finalizer *finalizer, const struct heap *heap, heap_ref obj);
bool heap_is_finalized(const struct heap *heap, heap_ref obj); /* its finalizer has run */

/* ---- graphs that are built piece by piece ---- */

/* Fills a hole, made by putting 0 there: item i of a list or tuple, the value of dict entry i or
 * attribute i, where i is what heap_dict_entry() or heap_attr_entry() says while nothing is deleted.
 * Steals `obj`; cannot fail. */
void heap_fill_steal(struct heap *heap, heap_ref container, uint32_t i, heap_ref obj);
/* Takes out what heap_fill_steal() put there, so that it is a hole again: every cycle that a literal makes
 * leads through a filled hole, so a literal that fails undoes these and then drops what it owns.
 * Returns: new. */
HEAP_MUST_USE heap_ref heap_unfill(struct heap *heap, heap_ref container, uint32_t i);
/* Where the entry of an existing key or attribute sits; undefined for one that is not there. */
uint32_t heap_dict_entry(struct heap *heap, heap_ref dict, heap_ref key);
uint32_t heap_attr_entry(struct heap *heap, heap_ref instance, const char *name, size_t len);
/* After all holes are filled: decides which of these incomplete tuples (all that a literal made, in any
 * order) are tracked.  HEAP_TUPLE_CYCLE if one contains itself through tuples alone; then the caller
 * drops everything. */
HEAP_MUST_USE enum heap_error heap_tuples_complete(struct heap *heap, const heap_ref *tuples, uint32_t n);
/* Whether it is a tuple that still has, or contains a tuple that has, a hole. */
bool heap_is_incomplete(const struct heap *heap, heap_ref obj);

/* ---- the collector ---- */

struct heap_collection {
    int generation;
    uint64_t unreachable;
    uint64_t uncollectable;
    uint64_t freed;
    uint64_t elapsed_us;
};

/* Collects a generation (0..2) to the end in one hold of the GIL, after what is under way.  Cannot fail and
 * allocates nothing it needs. */
void heap_collect(struct heap_collection *result, struct heap *heap, int generation);

enum heap_progress {
    HEAP_DONE,    /* in one slice */
    HEAP_GOES_ON, /* in heap_step() */
    HEAP_BUSY     /* nothing was begun: another one is under way, or a build; HEAP_WAIT_COLLECTION tells when to try again */
};
/* Begins a collection; `automatic`: nobody asked for it, for instance since the heap's limit is reached.
 * HEAP_DONE: *result.  HEAP_GOES_ON: heap_last_collection() has the result once heap_is_collecting() no more. */
HEAP_MUST_USE enum heap_progress heap_collect_begin(struct heap_collection *result, struct heap *heap,
                                                    int generation, bool automatic);
/* Whether a collection is between two slices.  GIL: either. */
bool heap_is_collecting(const struct heap *heap);
/* The collection that ended last. */
void heap_last_collection(const struct heap *heap, struct heap_collection *result);
/* At the end of a request: begins an automatic collection if one is due.  Returns whether it goes on in
 * heap_step(): then the session's next request waits for its end. */
bool heap_gc_poll(struct heap *heap);
void heap_gc_enable(struct heap *heap, bool enabled);
bool heap_gc_enabled(const struct heap *heap);                          /* GIL: either */
void heap_gc_count(const struct heap *heap, uint32_t count[3]);         /* GIL: either */
void heap_gc_threshold(const struct heap *heap, uint32_t threshold[3]); /* GIL: either */
void heap_gc_set_threshold(struct heap *heap, const uint32_t threshold[3]);
/* Moves all tracked objects to the permanent generation, which is a root and never collected, and sets
 * the counts to 0; back to generation 2; how many there are (GIL: either). */
void heap_gc_freeze(struct heap *heap);
void heap_gc_unfreeze(struct heap *heap);
uint64_t heap_gc_frozen(const struct heap *heap);
bool heap_gc_is_tracked(const struct heap *heap, heap_ref obj);
/* 0..2; HEAP_GENERATION_FROZEN; -1: not tracked. */
#define HEAP_GENERATION_FROZEN 3
int heap_gc_generation(const struct heap *heap, heap_ref obj);
/* The next tracked object of a generation (0..2; -1: all three) at or after *position (start with 0), which is
 * moved behind it.  Goes by address, so a listing that spans changes has what is there all the time once. */
bool heap_gc_next(const struct heap *heap, int generation, uint32_t *position, heap_ref *obj);

/* Debug flags; values as in CPython.  SAVEALL keeps what is condemned in gc.garbage, the others log. */
#define HEAP_GC_STATS 1u
#define HEAP_GC_COLLECTABLE 2u
#define HEAP_GC_UNCOLLECTABLE 4u
#define HEAP_GC_SAVEALL 32u
void heap_gc_set_debug(struct heap *heap, unsigned flags);
unsigned heap_gc_debug(const struct heap *heap); /* GIL: either */
/* gc.garbage: a list of references of the collector's own. */
uint64_t heap_garbage_len(const struct heap *heap);
heap_ref heap_garbage_item(const struct heap *heap, uint64_t i);
void heap_garbage_clear(struct heap *heap);

/* ---- one object's neighbours ---- */

/* What a container refers to, as gc.get_referents has it: items; key then value; members; an instance's values,
 * then its class.  Repeats are kept; atoms, classes and weakrefs refer to nothing.  Start with *position = 0. */
bool heap_referent_next(const struct heap *heap, heap_ref obj, uint64_t *position, heap_ref *referent);
uint64_t heap_referent_count(const struct heap *heap, heap_ref obj);

/* Where the header of an object lies. */
struct heap_storage {
    uint64_t address;    /* of the process */
    uint32_t size_class; /* bytes of a block of its class */
    uint32_t pool;       /* which of its arena's pools, from 0, as in struct heap_arena_figures */
    uint32_t arena;      /* number of the arena, as there */
};
void heap_storage(struct heap_storage *storage, const struct heap *heap, heap_ref obj);

/* ---- questions that walk the whole heap ----
 *
 * A picture is the graph as it was at one moment, t0: heap_picture_begin().  The objects are copied in slices
 * of the GIL, while others go on; whatever is about to change or die is copied first (visit.c).  One picture
 * or other walk at a time: the caller sees to that.
 *
 *     GIL   heap_picture_begin(), and whatever else has to be of t0
 *     -     heap_picture_complete(): takes the GIL in slices, then puts the copy in order without it
 *     -     the questions below, as many as one likes
 *     GIL   heap_picture_ref() for what the answer shows; heap_picture_destroy()
 *
 * Objects are nodes 0..nodes-1, in memory order, containers first; immortals are none.  Every edge of a
 * container is an edge of its node, in the order of heap_referent_next(), to a node or to HEAP_NO_NODE
 * (an immortal).  Memory: about 32 bytes a node and 8 an edge, outside the heap's limit. */

struct heap_picture;
#define HEAP_NO_NODE 0xFFFFFFFFu
#define HEAP_EDGE_BYTES 4320 /* of an edge's name, with its NUL: an int key of all the digits there may be */

/* What is copied of each object. */
#define HEAP_PICTURE_GRAPH 0u
#define HEAP_PICTURE_LABELS 1u /* ids of all (made where there are none), and what edges are called */

HEAP_MUST_USE struct heap_picture *heap_picture_begin(struct heap *heap, unsigned what); /* NULL: no memory */
/* HEAP_MEMORY, or HEAP_CANCELLED when *cancel became true; destroy it all the same.  GIL: not held. */
HEAP_MUST_USE enum heap_error heap_picture_complete(struct heap_picture *picture, const _Atomic bool *cancel);
void heap_picture_destroy(struct heap_picture *picture);

struct heap_node {
    enum heap_type type;
    uint64_t bytes;         /* heap_sizeof() */
    uint64_t id;            /* 0 if it had none */
    const char *type_name;  /* ends in NUL */
    const uint32_t *edges;  /* nodes, edge_count of them */
    uint32_t edge_count;
    bool is_weak;           /* a weakref; `target` is the node it points at, or HEAP_NO_NODE */
    uint32_t target;
};
/* GIL: either, once complete; so for all that follow. */
uint32_t heap_picture_nodes(const struct heap_picture *picture);
void heap_picture_node(struct heap_node *node, const struct heap_picture *picture, uint32_t i);
/* The node of an object that lived at t0, which may have died; HEAP_NO_NODE for an immortal or one made later. */
uint32_t heap_picture_find(const struct heap_picture *picture, heap_ref obj);
/* The object of a node, borrowed; 0 if it has died since.  GIL: held. */
heap_ref heap_picture_ref(const struct heap_picture *picture, uint32_t i);

/* The three below are of a picture with HEAP_PICTURE_LABELS.
 * The node as heap_repr() had it at t0, of a long str, bytes or int the beginning; returns its length. */
size_t heap_picture_text(char *text, size_t size, const struct heap_picture *picture, uint32_t i);
/* The content of a str or bytes node at t0, of a long one the beginning, which may end within a character; *is_cut:
 * there was more.  Good as long as the picture. */
void heap_picture_content(struct heap_text *text, bool *is_cut, const struct heap_picture *picture, uint32_t i);
/* What edge `k` of node i is called, as heap_edge_name() has it; also of an edge to HEAP_NO_NODE.  Returns its
 * length. */
size_t heap_picture_edge_name(char text[HEAP_EDGE_BYTES], const struct heap_picture *picture, uint32_t i, uint32_t k);

/* Roots at t0, in this order: names, sessions' holds (once an object and session), frozen objects, gc.garbage. */
enum heap_root_kind { HEAP_ROOT_NAME, HEAP_ROOT_SESSION, HEAP_ROOT_FROZEN, HEAP_ROOT_GARBAGE };
struct heap_root {
    enum heap_root_kind kind;
    uint32_t node;         /* HEAP_NO_NODE: an immortal */
    uint64_t session;      /* of HEAP_ROOT_SESSION */
    struct heap_text name; /* of HEAP_ROOT_NAME */
};
uint64_t heap_picture_roots(const struct heap_picture *picture);
void heap_picture_root(struct heap_root *root, const struct heap_picture *picture, uint64_t i);

/* A shortest path from a root: `path` gets up to *length nodes, root's first, and *root the root's number;
 * HEAP_PICTURE_LABELS is not needed.  *length is the whole length; 0: nothing reaches it.  HEAP_MEMORY. */
HEAP_MUST_USE enum heap_error heap_picture_why(uint32_t **path, uint32_t *length, uint64_t *root,
                                               const struct heap_picture *picture, uint32_t node);
/* Itself and all that roots reach only through it; 0 and 0 when nothing reaches it.  HEAP_MEMORY. */
HEAP_MUST_USE enum heap_error heap_picture_retained(uint64_t *objects, uint64_t *bytes,
                                                    const struct heap_picture *picture, uint32_t node);
/* The dominator tree: what each node retains.  Both arrays, of heap_picture_nodes() each, are the caller's to
 * free(); zeros for what no root reaches.  HEAP_MEMORY. */
HEAP_MUST_USE enum heap_error heap_picture_dominators(uint64_t **objects, uint64_t **bytes,
                                                      const struct heap_picture *picture);
/* What each of these sessions alone keeps alive.  HEAP_MEMORY. */
HEAP_MUST_USE enum heap_error heap_picture_retained_by_sessions(uint64_t *bytes, const uint64_t *sessions, uint32_t n,
                                                                const struct heap_picture *picture);

/* Every container that refers to the object, once, up to `limit`; *more whether there were others.  The list is
 * the caller's to free().  Takes the GIL in slices and answers for the moment of its call.  Objects that die
 * meanwhile are left out.  HEAP_MEMORY, HEAP_CANCELLED.  GIL: held, and held again when it returns; in between
 * others run. */
HEAP_MUST_USE enum heap_error heap_referrers(heap_ref **refs, uint32_t *n, bool *more, struct heap *heap, heap_ref obj,
                                             uint32_t limit, const _Atomic bool *cancel);

/* How `container` refers to `obj`, for a person, into `text` (ended by NUL, cut where it is longer):
 * `[3]`, `['key']`, `[(1, 2)]`, `[frozenset({1})]`, `{}` for a set's member or a dict's key, `.attr`, `.__class__`.
 * false: it does not. */
bool heap_edge_name(char text[HEAP_EDGE_BYTES], struct heap *heap, heap_ref container, heap_ref obj);
/* The object as Python's repr has it, cut at `size` bytes; containers are told by type, id and length.  For a
 * person; returns its length. */
size_t heap_repr(char *text, size_t size, struct heap *heap, heap_ref obj);

/* ---- reading in slices ---- */

/* What somebody has read who gives the GIL away before he is done.  He notes each container before he looks into it.
 * When none of them has changed or died when he goes on, what he has read is as it is then. */
struct heap_watch;
/* NULL: no memory. */
HEAP_MUST_USE struct heap_watch *heap_watch_create(struct heap *heap);
void heap_watch_destroy(struct heap_watch *watch);
/* false: no memory. */
HEAP_MUST_USE bool heap_watch_add(struct heap_watch *watch, heap_ref container);
bool heap_watch_has(const struct heap_watch *watch, heap_ref container);
/* Before the GIL is given away, and when it is held again.  false: something has changed, or may have: he has to begin
 * again.  Whether the object where he began can still be found he has to look by himself: a collection that frees what
 * nobody can reach does not tell. */
void heap_watch_rest(struct heap_watch *watch);
HEAP_MUST_USE bool heap_watch_wake(struct heap_watch *watch);

/* ---- marks: what has grown since ---- */

#define HEAP_MARKS_MAX 16u

/* One line of a difference; `type` or `session` says of what. */
struct heap_growth {
    const char *type; /* good until the next mark or diff */
    uint64_t session;
    int64_t objects, bytes;
};
/* Notes how many objects of which type there are now, and from now on who makes objects.  Replaces a mark of
 * that label.  Where there is a mark already it walks the heap, in slices.  HEAP_LIMIT_MARKS: there are
 * HEAP_MARKS_MAX others.  HEAP_MEMORY, HEAP_CANCELLED.  GIL: not held. */
HEAP_MUST_USE enum heap_error heap_mark(uint64_t *objects, uint64_t *bytes, struct heap *heap, const char *label,
                                        size_t len, const _Atomic bool *cancel);
/* What `to` (NULL: now) has more than `from`, rows of zero left out, in no order: by type, and, of the objects made
 * since `from` that live at `to`, by the session that made them.  Both lists are the caller's to free().
 * HEAP_NO_MARK, HEAP_MEMORY, HEAP_CANCELLED.  GIL: not held. */
HEAP_MUST_USE enum heap_error heap_diff(struct heap_growth **types, uint32_t *type_count,
                                        struct heap_growth **sessions, uint32_t *session_count, struct heap *heap,
                                        const struct heap_text *from, const struct heap_text *to,
                                        const _Atomic bool *cancel);

/* ---- figures ---- */

#define HEAP_ID_BYTES 16u /* what an id costs, in the sizes of the object that has it */

/* Bytes of the object with its own buffers, header, handle and the allocator's rounding. */
uint64_t heap_sizeof(const struct heap *heap, heap_ref obj);

#define HEAP_HISTOGRAM_BUCKETS 40
struct heap_histogram_figures {
    uint64_t count;
    uint64_t max_us;
    uint64_t p99_us; /* upper edge of the bucket that holds it */
    uint64_t sum_us;
    uint64_t buckets[HEAP_HISTOGRAM_BUCKETS]; /* bucket b: how many were below 2^b microseconds and not below
                                               * 2^(b-1); the last one all the longer ones, too */
};

struct heap_class_figures {
    uint32_t size;   /* bytes of a block */
    uint64_t pools;
    uint64_t blocks; /* in use */
    uint64_t free;   /* free blocks in those pools */
};

struct heap_stats {
    /* objects; while nothing changes, bytes + immortal_bytes == block_bytes + raw_bytes + ids * HEAP_ID_BYTES,
     * and live == created - freed */
    uint64_t live, bytes, immortal, created, freed;
    uint64_t immortal_bytes; /* which `bytes` does not have */
    uint64_t ids;            /* of live objects: their entries lie in tables and count in `bytes` */
    uint64_t type_objects[HEAP_T_COUNT], type_bytes[HEAP_T_COUNT]; /* HEAP_T_INSTANCE: all classes together */
    /* allocator */
    uint64_t arenas, arenas_total, arenas_reclaimed, arenas_highwater, arena_bytes;
    uint64_t pools, pools_free, pool_bytes;
    uint64_t blocks, block_bytes, raw_blocks, raw_bytes;
    uint64_t table_bytes; /* handles, names, interned table and the like: malloc'ed, not objects */
    struct heap_class_figures classes[32];
    /* gc */
    bool gc_enabled, gc_collecting;
    uint32_t gc_count[3], gc_threshold[3];
    uint64_t gc_frozen;
    struct {
        uint64_t collections, collected, uncollectable, objects;
    } generations[3];
    struct heap_histogram_figures gc_pauses;
    uint64_t slice_objects_max, slice_refs_max; /* most that was done between two looks at the clock */
    /* gil */
    uint32_t switch_interval_us;
    uint64_t gil_acquisitions, gil_contended, gil_drop_requests, gil_forced_switches;
    struct heap_histogram_figures gil_hold, gil_wait;
    /* sessions and names */
    uint64_t sessions, holds, names;
};

/* The next arena at or after *position (start with 0), which is moved behind it. */
struct heap_pool_figures {
    uint32_t size;     /* bytes of its blocks; 0: a free pool */
    uint32_t used;     /* blocks in use */
    uint32_t capacity; /* blocks there is room for; 0 of a free pool */
};
struct heap_arena_figures {
    uint32_t arena;      /* its number, as in struct heap_storage */
    uint32_t bytes;
    uint32_t pool_count;
    struct heap_pool_figures pools[64];
};
bool heap_arena_next(const struct heap *heap, uint32_t *position, struct heap_arena_figures *arena);
/* Heap bytes as max-memory counts them.  GIL: either. */
uint64_t heap_used_bytes(const struct heap *heap);

/* A snapshot of the counters; each figure is true by itself.  Waits for nothing.  GIL: either. */
void heap_stats(struct heap_stats *stats, const struct heap *heap);
/* Instances by class: calls `row` once a class that has any; names may repeat.  Waits at most for another reader.  GIL: either. */
void heap_stats_classes(const struct heap *heap,
                        void (*row)(void *arg, const char *class_name, uint64_t objects, uint64_t bytes), void *arg);

/* ---- what lasts ----
 *
 * A journal keeps the requests that changed the heap, and replays them into an empty one.  From the heap it needs three
 * things: that what a replayed request makes gets the ids it had, so containers get theirs when they are made, and the
 * heap notes each new one; that what no request did, a collection or a finalizer, is told in order, as effects; and that the replayed heap does nothing of that kind by itself. */

enum heap_effect {
    HEAP_EFFECT_FINALIZED, /* the object's finalizer has run; is_bound: and bound its name */
    HEAP_EFFECT_UNAIMED,   /* the weakref is dead, because a collection condemned its target or itself */
    HEAP_EFFECT_SWEPT,     /* the container is gone: a collection has condemned it */
    HEAP_EFFECT_KEPT,      /* the container has been put into gc.garbage instead */
};
struct heap_journal {
    void *arg;
    void (*effect)(void *arg, enum heap_effect effect, uint64_t id, bool is_bound); /* must not call the heap */
};
/* From now on; of a heap in which nothing lives but what was replayed.  `journal` is copied. */
void heap_set_journal(struct heap *heap, const struct heap_journal *journal);
/* Which new ids are noted, in order, from now on; those noted before are forgotten.  With a journal atoms get an id
 * only while all are noted. */
enum heap_notes {
    HEAP_NOTES_NOTHING,
    HEAP_NOTES_CONTAINERS,
    HEAP_NOTES_ALL,
};
void heap_note_ids(struct heap *heap, enum heap_notes notes);
/* Those noted; good until the next call. */
const uint64_t *heap_noted_ids(const struct heap *heap, size_t *count);
/* What gave the ids will not be repeated, because it failed or changed nothing: what it made and nobody holds goes, cycles
 * too, so that no effect tells of it later; atoms lose the id.  Can free. */
void heap_drop_noted(struct heap *heap);

/* An id is a generation times 2^32 and more.  New ids have a generation of `first` at least and below `end`, which must
 * be more; so ids of an earlier life are not given again, if those were below `first`. */
#define HEAP_GENERATION_END (1u << 21)
void heap_set_id_generations(struct heap *heap, uint32_t first, uint32_t end);
/* Whether ids are about to reach `end`, from which on they take more memory. */
bool heap_wants_generations(const struct heap *heap);

/* Replaying: ids are those that heap_replay_ids() gives, finalizers run when heap_replay_effect() says so, no event is
 * told, and nothing is collected.  heap_replay_end() lets the heap give ids of its own again. */
void heap_replay_begin(struct heap *heap);
void heap_replay_end(struct heap *heap);
/* The next objects that need an id get these, in order; `ids` is the caller's. */
void heap_replay_ids(struct heap *heap, const uint64_t *ids, size_t count);
/* How many of them have not been given. */
size_t heap_replay_ids_left(const struct heap *heap);
/* Happens again.  false: it cannot have happened, because there is no such object. */
HEAP_MUST_USE bool heap_replay_effect(struct heap *heap, enum heap_effect effect, const uint64_t *ids, size_t count,
                                      bool is_bound);
/* A session of that number, which none has; later ones get higher numbers.  NULL: no memory. */
HEAP_MUST_USE struct heap_session *heap_replay_session(struct heap *heap, uint64_t number);

/* A snapshot is what a journal would have to do to make the heap as it is at one moment, t0: a walk over all objects, in
 * slices, each as it was then (visit.c). */
struct heap_snapshot;
/* Called once for each object that is not immortal, with the GIL held; it may ask about this object and make nothing, not
 * even an id. */
typedef void heap_snapshot_row(void *arg, heap_ref obj);
/* At t0, after heap_enter_still(); one walk at a time.  NULL: no memory. */
HEAP_MUST_USE struct heap_snapshot *heap_snapshot_begin(struct heap *heap, heap_snapshot_row *row, void *arg);
/* Half a millisecond of it; true: that was all. */
HEAP_MUST_USE bool heap_snapshot_step(struct heap_snapshot *snapshot);
void heap_snapshot_end(struct heap_snapshot *snapshot);
/* Calls `row` for each immortal. */
void heap_each_immortal(struct heap *heap, heap_snapshot_row *row, void *arg);
/* Calls `row` for each session and object that it holds, session by session; false: it returned false once. */
HEAP_MUST_USE bool heap_each_hold(struct heap *heap, bool (*row)(void *arg, uint64_t session, uint64_t id, uint64_t holds),
                                  void *arg);
/* The object's id; 0: it has none. */
uint64_t heap_id_if_any(const struct heap *heap, heap_ref obj);
/* Whether a weakref is the shared one of its target; the target whatever is dying, 0: dead. */
bool heap_weakref_is_shared(const struct heap *heap, heap_ref weakref);
heap_ref heap_weakref_target_of(const struct heap *heap, heap_ref weakref);
/* What a snapshot brings back: a weakref of heap_weakref_create() that is the shared one, or is not; an object whose
 * finalizer has run.  HEAP_TYPE: the target is immortal, or has a shared one; HEAP_MEMORY. */
HEAP_MUST_USE enum heap_error heap_replay_aim(struct heap *heap, heap_ref weakref, heap_ref target, bool is_shared);
void heap_replay_finalized(struct heap *heap, heap_ref obj);
/* The object of an id, whatever is dying. */
heap_ref heap_replay_find(const struct heap *heap, uint64_t id);

/* ---- the referee ---- */

/* Recounts every reference and walks every arena, pool, free list, generation and table; settles first.
 * Writes a sentence a line to `why` for each problem (at most 100) and returns how many there were. */
HEAP_MUST_USE uint32_t heap_check(struct heap *heap, FILE *why);

#endif
