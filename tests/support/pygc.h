/* pygc.h -- the garbage collector as a Python program sees it, over the wire: for tests that follow CPython's
 * own.
 *
 * Objects are ids, 0 is None.  Every object made here is held once by the session, as by a local variable;
 * pygc_drop() is the end of that variable.  Events that come between replies are kept until
 * pygc_forget_events().  Whatever fails on the wire fails the running cmocka test.
 */
#ifndef HEAPD_TESTS_PYGC_H
#define HEAPD_TESTS_PYGC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "wire.h"

struct pygc {
    struct wire *wire;
    json_t *j_events; /* params of the events, in the order they came */
};

void pygc_begin(struct pygc *gc, struct wire *wire);
void pygc_end(struct pygc *gc);

/* ---- calls ---- */

/* Calls a method, params packed as by json_pack() (NULL: none), and demands a result, which is new. */
json_t *pygc_call(struct pygc *gc, const char *method, const char *format, ...);
/* The same for a result that nobody needs. */
void pygc_do(struct pygc *gc, const char *method, const char *format, ...);
/* Demands that the call fails with this word of PROTOCOL section 9. */
void pygc_refuse(struct pygc *gc, const char *word, const char *method, const char *format, ...);
/* An integer member of the result, or with `key` NULL the result itself. */
int64_t pygc_int(struct pygc *gc, const char *key, const char *method, const char *format, ...);
bool pygc_bool(struct pygc *gc, const char *method, int64_t object);

/* ---- objects ---- */

/* Makes what a literal says: a JSON text with ' for ", and ids filled in as by printf().  Returns: held once.
 */
int64_t pygc_create(struct pygc *gc, const char *literal, ...) __attribute__((format(printf, 2, 3)));
/* An instance, held once, without attributes; all are of one class, which is named "Node". */
int64_t pygc_instance(struct pygc *gc);
/* Gives one hold back; returns how many objects died. */
int64_t pygc_drop(struct pygc *gc, int64_t object);
bool pygc_lives(struct pygc *gc, int64_t object);
int64_t pygc_refcount(struct pygc *gc, int64_t object);
void pygc_append(struct pygc *gc, int64_t list, int64_t object);
void pygc_set(struct pygc *gc, int64_t instance, const char *attr, int64_t object);
void pygc_unbind(struct pygc *gc, const char *name);

/* ---- the collector ---- */

int64_t pygc_collect(struct pygc *gc, int generation); /* what gc.collect() returns */
/* Of gc.get_count(). */
void pygc_count(struct pygc *gc, int64_t count[3]);
/* collections, collected and uncollectable of a generation. */
void pygc_stats(struct pygc *gc, int generation, int64_t stats[3]);
/* The generation an object is in, by gc.get_objects; -1: in none. */
int pygc_generation(struct pygc *gc, int64_t object);
/* Whether a list of ids, a member of a result, is this one; ends with -1.  Frees `j_result`. */
void pygc_demand_ids(json_t *j_result, const char *key, ...);

/* ---- weakrefs, finalizers, events ---- */

int64_t pygc_weakref(struct pygc *gc, int64_t object);           /* held once */
int64_t pygc_notifying_weakref(struct pygc *gc, int64_t object); /* held once */
int64_t pygc_deref(struct pygc *gc, int64_t weakref);            /* not held; 0: None */
/* `resurrect_as` NULL: the object dies. */
void pygc_finalizer(struct pygc *gc, int64_t object, bool clear, const char *resurrect_as);
/* How many events there were: of the finalizer of this object (0: of any), of this weakref (0: of any). */
size_t pygc_finalized(const struct pygc *gc, int64_t object);
size_t pygc_notified(const struct pygc *gc, int64_t weakref);
/* How many had this word and, in the member `key`, this str. */
size_t pygc_events(const struct pygc *gc, const char *event, const char *key, const char *value);
void pygc_forget_events(struct pygc *gc);

#endif
