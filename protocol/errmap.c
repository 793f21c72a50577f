/* errmap.c -- the one place where heap errors become errors of the wire.
 *
 * The switch has no default, so that the compiler names an error of heap.h that was forgotten here.
 */
#include "errmap.h"

static const struct {
    int code;
    const char *word, *sentence;
} ERRORS[RPC_ERROR_COUNT] = {[RPC_OK] = {0, "ok", "No error."},
#define X(name, error_code, error_word, error_sentence) [name] = {error_code, error_word, error_sentence},
                             RPC_ERROR_MAP(X)
#undef X
};

int rpc_error_code(enum rpc_error error)
{
    return ERRORS[error].code;
}

const char *rpc_error_word(enum rpc_error error)
{
    return ERRORS[error].word;
}

const char *rpc_error_sentence(enum rpc_error error)
{
    return ERRORS[error].sentence;
}

enum rpc_error errmap_from_heap(enum heap_error error)
{
    switch (error) {
    case HEAP_OK:
        return RPC_OK;
    case HEAP_NOT_FOUND:
        return RPC_NOT_FOUND;
    case HEAP_NOT_HELD:
        return RPC_NOT_HELD;
    case HEAP_TYPE:
        return RPC_TYPE_ERROR;
    case HEAP_NAME:
        return RPC_NAME_ERROR;
    case HEAP_INDEX:
        return RPC_INDEX_ERROR;
    case HEAP_KEY:
        return RPC_KEY_ERROR;
    case HEAP_ATTR:
        return RPC_ATTRIBUTE_ERROR;
    case HEAP_UNHASHABLE:
    case HEAP_TOO_DEEP:
    case HEAP_INCOMPLETE:
    case HEAP_TUPLE_CYCLE:
    case HEAP_BAD_INT:
    case HEAP_BAD_NAME:
    case HEAP_BAD_IDENTIFIER:
    case HEAP_RESERVED_CLASS:
    case HEAP_REPEATED_SLOT:
    case HEAP_FINALIZED:
    case HEAP_NO_MARK:
    case HEAP_OVERFLOW:
    case HEAP_TOO_LONG:
        return RPC_VALUE_ERROR;
    case HEAP_MEMORY:
        return RPC_MEMORY_ERROR;
    case HEAP_LIMIT_REFS:
    case HEAP_LIMIT_HOLDS:
    case HEAP_LIMIT_NAMES:
    case HEAP_LIMIT_MARKS:
        return RPC_LIMIT_EXCEEDED;
    case HEAP_CANCELLED:
        return RPC_UNAVAILABLE;
    case HEAP_ERROR_COUNT:
        break;
    }
    return RPC_INTERNAL_ERROR;
}
