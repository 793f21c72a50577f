/* fault.c -- filling faults and writing them. */
#include "fault.h"

#include <stdarg.h>
#include <stdio.h>

int fault_clip(const char *text, size_t len, size_t max)
{
    if (len <= max) {
        return (int)len;
    }
    while (max > 0 && ((unsigned char)text[max] & 0xC0) == 0x80) {
        max--;
    }
    return (int)max;
}

bool fault_set(struct fault *fault, enum rpc_error error, const char *format, ...)
{
    va_list arguments;
    fault->error = error;
    fault->count = 0;
    va_start(arguments, format);
    int len = vsnprintf(fault->message, sizeof(fault->message), format, arguments);
    va_end(arguments);
    if (len >= (int)sizeof(fault->message)) {
        size_t last = sizeof(fault->message) - 1;
        /* The byte that was cut off is unknown; drop the last character whole if it is not ASCII. */
        while (last > 0 && ((unsigned char)fault->message[last - 1] & 0x80) != 0) {
            last--;
        }
        fault->message[last] = '\0';
    }
    return false;
}

bool fault_heap(struct fault *fault, enum heap_error error)
{
    return fault_set(fault, errmap_from_heap(error), "%s", heap_error_sentence(error));
}

static struct fault_datum *add(struct fault *fault, const char *name, enum fault_kind kind)
{
    struct fault_datum *datum =
        &fault->data[fault->count < FAULT_DATA_MAX ? fault->count++ : FAULT_DATA_MAX - 1];
    datum->name = name;
    datum->kind = kind;
    return datum;
}

bool fault_number(struct fault *fault, const char *name, int64_t number)
{
    add(fault, name, FAULT_NUMBER)->number = number;
    return false;
}

bool fault_text(struct fault *fault, const char *name, const char *text, size_t len)
{
    if (len > FAULT_DATUM_BYTES_MAX) {
        return false;
    }
    struct fault_datum *datum = add(fault, name, FAULT_TEXT);
    datum->text = text;
    datum->len = len;
    return false;
}

bool fault_json(struct fault *fault, const char *name, const char *json, size_t len)
{
    if (len > FAULT_DATUM_BYTES_MAX) {
        return false;
    }
    struct fault_datum *datum = add(fault, name, FAULT_JSON);
    datum->text = json;
    datum->len = len;
    return false;
}

static void write_datum(struct out *out, const struct fault_datum *datum)
{
    out_text(out, ",\"");
    out_text(out, datum->name);
    out_text(out, "\":");
    switch (datum->kind) {
    case FAULT_NUMBER:
        out_i64(out, datum->number);
        break;
    case FAULT_TEXT:
        out_json_string(out, datum->text, datum->len);
        break;
    case FAULT_JSON:
        out_bytes(out, datum->text, datum->len);
        break;
    }
}

void fault_write(struct out *out, const struct fault *fault)
{
    out_text(out, "{\"code\":");
    out_i64(out, rpc_error_code(fault->error));
    out_text(out, ",\"message\":");
    out_json_string(out, fault->message, strlen(fault->message));
    out_text(out, ",\"data\":{\"error\":\"");
    out_text(out, rpc_error_word(fault->error));
    out_char(out, '"');
    for (unsigned i = 0; i < fault->count; i++) {
        write_datum(out, &fault->data[i]);
    }
    out_text(out, "}}");
}
