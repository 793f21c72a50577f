/* fault.h -- one error on its way to a client: the word, the message, and what it is about.
 *
 * A fault is filled where the error is found and written as the reply's `error` member.  The first one
 * of a request wins, because whoever sets it stops.  Text in it is borrowed from the request (or is
 * static), so a fault does not outlive its request.
 */
#ifndef HEAPD_PROTOCOL_FAULT_H
#define HEAPD_PROTOCOL_FAULT_H

#include "errmap.h"
#include "json_writer.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Longer messages are cut, at a character. */
#define FAULT_MESSAGE_BYTES 320
#define FAULT_DATA_MAX 4
/* A longer text or JSON text is left out of `data`: the client has it, and a reply stays small. */
#define FAULT_DATUM_BYTES_MAX 8192u

enum fault_kind {
    FAULT_NUMBER, /* number */
    FAULT_TEXT,   /* text, plain UTF-8 that is written as a JSON string */
    FAULT_JSON,   /* text, a JSON text that is copied */
};

/* A member of `data` behind `error`. */
struct fault_datum {
    const char *name; /* static */
    enum fault_kind kind;
    int64_t number;
    const char *text;
    size_t len;
};

struct fault {
    enum rpc_error error;
    char message[FAULT_MESSAGE_BYTES]; /* UTF-8, ends in NUL */
    unsigned count;                    /* data[0..count) are set */
    struct fault_datum data[FAULT_DATA_MAX];
};

/* Each begins the fault anew, with a message as printf makes it, and returns false so that the finder of an
 * error can return it.  Text of a client goes into a message through fault_clip(). */
bool fault_set(struct fault *fault, enum rpc_error error, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* The fault of a heap error, with the heap's own sentence. */
bool fault_heap(struct fault *fault, enum heap_error error);

/* Add a member to `data`; each returns false, too.  At most FAULT_DATA_MAX. */
bool fault_number(struct fault *fault, const char *name, int64_t number);
bool fault_text(struct fault *fault, const char *name, const char *text, size_t len);
bool fault_json(struct fault *fault, const char *name, const char *json, size_t len);

/* The length of the longest beginning of `text` of at most `max` bytes that cuts no character. */
int fault_clip(const char *text, size_t len, size_t max);

/* `{"code":..,"message":..,"data":{..}}` */
void fault_write(struct out *out, const struct fault *fault);

#endif
