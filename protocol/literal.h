/* literal.h -- values of the wire (PROTOCOL section 3) to heap objects and back.
 *
 *   literal_check   shape of the `$` forms and scoping of labels; no heap, no GIL       literal_check.c
 *   literal_read    builds the object, all or nothing                                   literal_read.c
 *   literal_write   writes an object as `get` does                                      literal_write.c
 *
 * The text of a value was validated by json_scan_value() before it comes here.  What is wrong with it is
 * either its shape (wrong JSON type, wrong members, a label that is not there: `invalid_params`, found by
 * literal_check() before anything runs) or its content (base64, digits, identifiers, hashability:
 * `value_error`, found by literal_read()).
 */
#ifndef HEAPD_PROTOCOL_LITERAL_H
#define HEAPD_PROTOCOL_LITERAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../heap/heap.h"
#include "json_reader.h"
#include "json_writer.h"

/* Ids are below 2^53; a JSON number outside 1..LITERAL_ID_MAX is no id. */
#define LITERAL_ID_MAX 9007199254740991

enum literal_fault {
    LITERAL_OK,
    LITERAL_HEAP,           /* error->heap says which: word and code are those of the heap's error */
    LITERAL_INVALID_PARAMS, /* the shape is wrong */
    LITERAL_VALUE,          /* value_error that only the text can have: base64, $float, number too large */
    LITERAL_MEMORY,         /* malloc failed: memory_error */
    LITERAL_CHANGED,        /* literal_writer_step() has to begin again, in one go */
    LITERAL_OUTPUT          /* the answer is larger than it may be: limit_exceeded of max-output */
};

/* What is wrong and with what.  Spans are JSON texts inside the request, quotes included, fit to be copied
 * into a reply. */
struct literal_error {
    enum literal_fault fault;
    enum heap_error heap; /* for LITERAL_HEAP */
    const char *message;  /* static, a sentence that says what to do */
    uint64_t id;          /* HEAP_NOT_FOUND: the id that nobody has; HEAP_TYPE: the object; else 0 */
    const char *name;     /* HEAP_NAME: the unbound name as written; else NULL */
    size_t name_len;
    const char *attr; /* HEAP_ATTR: the attribute as written; else NULL */
    size_t attr_len;
};

/* ---- reading ---- */

/* Whether every object in the value that has a `$` member is a form of the table and every label is one
 * that is in scope.  Need not be called when value->has_dollar is false.  GIL: either. */
bool literal_check(const struct json_value *value, struct literal_error *error);

/* Builds the object of a value that literal_check() passed; that of a `key` parameter too.  Returns: new.
 * On failure every object made on the way is dropped (and dies at the next heap_settle()). */
bool literal_read(heap_ref *obj, struct heap *heap, const struct json_value *value,
                  struct literal_error *error);

/* literal_read() of a large value in which no name starts with `$`, in slices: literal_plain.c. */
enum literal_progress { LITERAL_DONE, LITERAL_GOES_ON, LITERAL_FAILED };
struct literal_builder;
/* The value is copied, its text stays the caller's.  NULL: no memory.  GIL: either. */
struct literal_builder *literal_builder_create(struct heap *heap, const struct json_value *value);
/* One slice of about so many microseconds.  *obj, once done: new. */
enum literal_progress literal_builder_step(heap_ref *obj, struct literal_builder *builder, uint32_t budget_us,
                                           struct literal_error *error);
/* Afterwards, also when it failed or is given up half-way: drops what it owns, in slices; whether it is done. */
bool literal_builder_drop(struct literal_builder *builder, uint32_t budget_us);
/* After that.  GIL: either. */
void literal_builder_destroy(struct literal_builder *builder);

/* The object of a TARGET, an id or a bound name.  Returns: borrowed.  LITERAL_INVALID_PARAMS when the value
 * is neither an integer in 1..LITERAL_ID_MAX nor a string. */
bool literal_target(heap_ref *obj, struct heap *heap, const struct json_value *value,
                    struct literal_error *error);

/* ---- writing ---- */

struct literal_format {
    int64_t depth;        /* containers written out below one another: 0 none, 1 the object, -1 all */
    unsigned max_nesting; /* brackets the value may nest; deeper containers become `$ref`; at least 2 */
    bool shared_let;      /* rebuild sharing and cycles with `$let` instead of `$ref` */
    size_t max_bytes;     /* of this value; 0: no limit */
};

/* Appends the literal of the object.  On failure `out` is as it was.  Gives ids to what it names by
 * `$ref`. */
bool literal_write(struct out *out, struct heap *heap, heap_ref obj, const struct literal_format *format,
                   struct literal_error *error);

/* The same in slices, between which the GIL is given away; the format's shared_let does not count.  What is written is
 * the object as it is at the end of the last slice: LITERAL_CHANGED when what was read has changed since. */
struct literal_writer;
/* `out` stays the caller's, and nobody else appends to it.  NULL: no memory. */
struct literal_writer *literal_writer_create(struct out *out, struct heap *heap, const struct literal_format *format);
/* One slice of about so many microseconds.  Before each but the first the caller makes sure that the object is still
 * found where it was found first. */
enum literal_progress literal_writer_step(struct literal_writer *writer, heap_ref obj, uint32_t budget_us,
                                          struct literal_error *error);
/* At any time. */
void literal_writer_destroy(struct literal_writer *writer);

#endif
