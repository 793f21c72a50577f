/* method.h -- what a method is: one row of the one table that feeds dispatch, rpc.discover, heapctl's
 * help and the methods section of WIRE.md.
 *
 * The table is method_table.c.  A handler gets a call whose parameters were bound and checked against the
 * row (params.c), does its work on the heap, and writes the result into call->out; or it sets call->fault
 * and returns false, having changed nothing.  What it wrote before failing is thrown away by the caller.
 */
#ifndef HEAPD_PROTOCOL_METHOD_H
#define HEAPD_PROTOCOL_METHOD_H

#include "../heap/heap.h"
#include "fault.h"
#include "json_reader.h"
#include "json_writer.h"
#include "rpc.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct rpc_service;
struct rpc_conn;
struct building;
struct park;

/* ---- parameters ---- */

/* What a parameter takes, and what its arg holds after binding. */
enum param_kind {
    PARAM_TARGET,  /* an id or a bound name: as written, for literal_target() */
    PARAM_VALUE,   /* a literal: as written, its shape checked, for literal_read() */
    PARAM_KEY,     /* the same, as a dict key or set member */
    PARAM_STR,     /* any JSON string: text and len are what it means */
    PARAM_INT,     /* an int from min to max: integer */
    PARAM_BOOL,    /* kind is JSON_KIND_TRUE or JSON_KIND_FALSE */
    PARAM_ENUM,    /* one of words: integer is its index */
    PARAM_WORDS,   /* a list of words, repeats allowed: integer is the set of them, 1 << index each */
    PARAM_OBJECT,  /* a JSON object, as written */
    PARAM_SECONDS, /* a number above 0 and at most max seconds: integer is microseconds, at least 1 */
};

struct param {
    const char *name;
    char member[JSON_MEMBER_BYTES]; /* `"name":`, for json_take_member_padded() */
    enum param_kind kind;
    bool optional;
    int64_t min, max;         /* of a PARAM_INT, and max of a PARAM_SECONDS */
    const char *const *words; /* of a PARAM_ENUM or PARAM_WORDS, ends with NULL */
    const char *fallback;     /* JSON text of what an optional parameter is when left out; NULL: see doc */
    bool changes;             /* of a PARAM_BOOL: true asks for a change, though the method itself makes none */
    const char *doc;          /* one sentence */
};

#define METHOD_PARAMS_MAX 5

/* An argument is the value as it lies in the request, changed as enum param_kind says; text is NULL when
 * an optional one was left out. */
typedef struct json_value method_arg;

static inline bool arg_given(const method_arg *arg)
{
    return arg->text != NULL;
}

static inline bool arg_bool(const method_arg *arg, bool fallback)
{
    return arg_given(arg) ? arg->kind == JSON_KIND_TRUE : fallback;
}

static inline int64_t arg_int(const method_arg *arg, int64_t fallback)
{
    return arg_given(arg) ? arg->integer : fallback;
}

/* ---- calls ---- */

/* One request while it runs. */
struct call {
    struct rpc_service *service;
    struct heap *heap;
    struct rpc_conn *conn;
    struct heap_session *session; /* may be NULL in a call of a method that needs no GIL */
    const struct method *method;
    const method_arg *args; /* of the method's parameters, in the order of its row */
    struct out *out;        /* where the result goes */
    size_t result_start;    /* where in `out` the reply begins: bounds its size */
    size_t value_start;     /* where in `out` the result itself begins */
    size_t result_max;      /* bytes the reply may have; 0: no limit */
    bool is_notification;   /* nobody will read the result: take no hold that only it would tell of */
    uint64_t freed;         /* objects that died by it so far */
    enum rpc_role role;     /* of its connection */
    struct park *park;      /* its deaths go on: the end of the result waits for them; else NULL */
    enum heap_wait wait;    /* what the handler asks to wait for: it returns false and has changed nothing */
    unsigned stage;         /* what it had behind it when it asked, 0 at first */
    bool has_begun_collection; /* it waits for the end of one it has begun */
    struct heap_collection *collection; /* and the collection it began then */
    bool is_moved;              /* the handler has returned false and changed nothing: the request is to run elsewhere */
    struct building *building;  /* a value that is built already; NULL: none */
    const _Atomic bool *cancel; /* of a question: nobody waits for the answer any more; else NULL */
    int *file;                  /* of a question: the answer comes with this file, if it is not -1; else NULL */
    struct fault *fault;
};

/* Returns whether the result was written; false: call->fault says why not. */
typedef bool method_handler(struct call *call);
/* Whether a request with these arguments is a question: it walks the heap for long, and waits for the service's
 * worker thread, which calls the handler (question.c).  There the GIL is not held: the handler takes it, and a
 * picture of the heap, itself, and looks at call->cancel.  call->conn and call->session are NULL, call->out is
 * the question's own.  Only one question runs at a time. */
typedef bool method_asks(const method_arg *args);
bool method_asks_always(const method_arg *args);
/* Whether the arguments go together; false: the fault says why not.  Runs without the GIL. */
typedef bool method_check(const method_arg *args, struct fault *fault);

/* ---- rows ---- */

/* The role that a connection must have at least. */
enum method_role {
    ROLE_ANY = RPC_ROLE_NONE,    /* also before `auth` */
    ROLE_READ = RPC_ROLE_READ,   /* changes nothing, unless an argument asks for it: struct param */
    ROLE_WRITE = RPC_ROLE_WRITE, /* changes the heap */
    ROLE_ADMIN = RPC_ROLE_ADMIN  /* the daemon's own affairs */
};

/* What a journal keeps of a method's requests, so that what they did is there after a restart. */
enum method_lasts {
    LASTS_NOT,       /* nothing: it changes nothing that a restart would not forget */
    LASTS,           /* each that succeeds is repeated */
    LASTS_IF_SEEN,   /* it is, if it gave a hold or an id to what it shows, or was asked to change something */
    LASTS_BY_EFFECTS /* what it does is told as effects, as if nobody had asked for it */
};

struct method {
    const char *name;
    const char *group; /* the heading it stands below in WIRE.md */
    method_handler *handler;
    method_check *check; /* NULL: any arguments that bind are fine */
    method_asks *asks;   /* NULL: never a question */
    bool needs_gil;
    enum method_role role;
    enum method_lasts lasts;
    unsigned param_count;
    struct param params[METHOD_PARAMS_MAX];
    const char *doc;            /* one sentence */
    const char *result_schema;  /* JSON Schema of the result */
    const char *example_params; /* JSON object; runs after the requests of METHOD_EXAMPLE_SETUP */
    const char *example_result; /* what then comes back, as far as it does not depend on ids and times */
};

extern const struct method METHODS[];
extern const unsigned METHOD_COUNT;

/* Requests, as JSON texts, that bind the names the examples use; ends with NULL. */
extern const char *const METHOD_EXAMPLE_SETUP[];

/* "any", "read", "write", "admin". */
const char *method_role_word(enum method_role role);
/* Whether a request with these arguments changes the heap, or what a session holds. */
bool method_changes(const struct method *method, const method_arg *args);
/* Whether a journal has lines of its requests; what others change is forgotten by a restart, or told as effects. */
bool method_is_kept(const struct method *method);
/* "target", "value", "key", "str", "int", "bool", "enum", "list", "object", "seconds". */
const char *method_kind_word(enum param_kind kind);

/* The first and the last eight bytes of a name, all of a shorter one in the first. */
struct method_ends {
    uint64_t first, last;
};

/* A hash index of the table. */
#define METHOD_INDEX_SIZE 256u
struct method_index {
    /* Linear probing. */
    struct {
        struct method_ends ends;
        uint8_t number, name_len; /* number: of the method from 1, 0: none */
    } slots[METHOD_INDEX_SIZE];
};
void method_index_init(struct method_index *index);
/* NULL: there is none of that name. */
const struct method *method_find(const struct method_index *index, const char *name, size_t len);
/* The names closest to one that does not exist, as a JSON list. */
void method_nearest(struct out *out, const char *name, size_t len);

/* ---- what handlers share: call.c ---- */

/* The object of a PARAM_TARGET.  Returns: borrowed. */
bool call_target(struct call *call, unsigned param, heap_ref *obj);
/* The same, of one type; `types` is a bit set of 1 << enum heap_type.  type_error names the method's wish. */
bool call_target_of(struct call *call, unsigned param, unsigned types, heap_ref *obj);
/* The object of a PARAM_VALUE or PARAM_KEY.  Returns: new. */
bool call_value(struct call *call, unsigned param, heap_ref *obj);
/* Drops what call_value() gave, when it was only needed for the call: its death, and the deaths on the way
 * of making it, are not what `freed` tells of. */
void call_drop_value(struct call *call, heap_ref obj);
/* Faults of the heap, with the members of `data` that go with them.  All return false. */
bool call_fail(struct call *call, enum heap_error error);
bool call_fail_object(struct call *call, enum heap_error error, heap_ref obj);
bool call_fail_key(struct call *call, enum heap_error error, heap_ref obj, unsigned key_param);
/* The id of an object into the fault's data; it is left out when there is no memory for one. */
void call_data_object(struct call *call, heap_ref obj);
bool call_fail_index(struct call *call, heap_ref obj, int64_t index);
bool call_fail_name(struct call *call, enum heap_error error, unsigned name_param);
bool call_fail_attr(struct call *call, enum heap_error error, heap_ref obj, unsigned attr_param);
/* Whether what was written so far is a reply that may be sent; else sets the fault.  For handlers whose
 * result can be large, before any change that cannot be taken back.  Results up to CALL_RESERVED_BYTES
 * always fit. */
#define CALL_RESERVED_BYTES 512u
bool call_output_ok(struct call *call);
/* Room for n more bytes, for a handler whose result, though not large, may be longer than that. */
bool call_reserve(struct call *call, size_t n);

/* `null`. */
bool call_result_null(struct call *call);
/* Ends a result that is an object: settles, adds `freed` if something died, closes the brace.  What takes longer
 * than a slice is waited for.  The handler does nothing more. */
bool call_result_end(struct call *call);
/* The same with the refcount that the object of that id has then, in front: 0 if it is gone, its new one if a
 * finalizer brought it back. */
bool call_result_end_refcount(struct call *call, uint64_t id);
/* The end itself, when all is settled: with the refcount of the object of that id, 0: without. */
void call_finish(struct call *call, uint64_t id);
/* The handler cannot go on before that is over; then it runs again, with call->stage.  Returns false. */
bool call_wait(struct call *call, enum heap_wait wait, unsigned stage);
/* Ends a list that comes in pages and the object it is in: `next` is `after`, or null when there is no more. */
bool call_result_page(struct call *call, bool more, uint64_t after);
/* The literal of an object, as `get` writes it. */
bool call_write_value(struct call *call, heap_ref obj, int64_t depth, bool shared_let);

/* Begins an ITEM, `{"object":ID` and, where the parameter `depth` was given, `"value"`; takes the hold that
 * the parameter `hold` (or its default) asks for.  Changes nothing when it fails.  The caller finishes
 * with call_result_end(). */
struct call_item {
    unsigned hold_param, depth_param;
    bool hold_default;
};
bool call_item(struct call *call, heap_ref obj, struct call_item how);
/* Gives back the hold that call_item() took, when what was to follow has failed. */
void call_item_undo(struct call *call, heap_ref obj, struct call_item how);

#endif
