/* errmap.h -- the errors of the wire (PROTOCOL section 9), and which of them a heap error is. */
#ifndef HEAPD_PROTOCOL_ERRMAP_H
#define HEAPD_PROTOCOL_ERRMAP_H

#include "../heap/heap.h"

/* name here, JSON-RPC code, the word in data.error, when it is told. */
#define RPC_ERROR_MAP(X)                                                                                       \
    X(RPC_PARSE_ERROR, -32700, "parse_error", "The line is no JSON text.")                                     \
    X(RPC_INVALID_REQUEST, -32600, "invalid_request", "No valid request.")                                     \
    X(RPC_METHOD_NOT_FOUND, -32601, "method_not_found", "There is no method of that name.")                    \
    X(RPC_INVALID_PARAMS, -32602, "invalid_params", "The shape of the parameters is wrong.")                   \
    X(RPC_INTERNAL_ERROR, -32603, "internal_error", "A defect of the daemon, which it has logged.")            \
    X(RPC_NOT_FOUND, -32001, "not_found", "No such object, client or session.")                                \
    X(RPC_NOT_HELD, -32002, "not_held", "This session does not hold the object.")                              \
    X(RPC_TYPE_ERROR, -32003, "type_error", "The object is of a type that the method is not for.")             \
    X(RPC_NAME_ERROR, -32004, "name_error", "The name is not bound.")                                          \
    X(RPC_INDEX_ERROR, -32005, "index_error", "The index is out of range.")                                    \
    X(RPC_KEY_ERROR, -32005, "key_error", "The key is not in the dict.")                                       \
    X(RPC_ATTRIBUTE_ERROR, -32005, "attribute_error", "The instance has no such attribute.")                   \
    X(RPC_VALUE_ERROR, -32006, "value_error", "The shape is right, the content impossible.")                   \
    X(RPC_MEMORY_ERROR, -32007, "memory_error", "The heap's limit is reached, even after a collection.")       \
    X(RPC_LIMIT_EXCEEDED, -32008, "limit_exceeded", "A limit of the daemon is reached.")                       \
    X(RPC_UNAUTHENTICATED, -32009, "unauthenticated", "A token is needed first.")                              \
    X(RPC_FORBIDDEN, -32010, "forbidden", "The session's role may not do this.")                               \
    X(RPC_UNAVAILABLE, -32011, "unavailable", "The daemon is loading or shutting down.")

enum rpc_error {
    RPC_OK = 0,
#define X(name, code, word, sentence) name,
    RPC_ERROR_MAP(X)
#undef X
        RPC_ERROR_COUNT
};

int rpc_error_code(enum rpc_error error);
const char *rpc_error_word(enum rpc_error error);
const char *rpc_error_sentence(enum rpc_error error);

/* What the wire says for what the heap said.  RPC_OK for HEAP_OK. */
enum rpc_error errmap_from_heap(enum heap_error error);

#endif
