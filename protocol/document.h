/* document.h -- results that are built as jansson documents, because nobody asks for them often. */
#ifndef HEAPD_PROTOCOL_DOCUMENT_H
#define HEAPD_PROTOCOL_DOCUMENT_H

#include "method.h"

#include <jansson.h>

/* Writes the document as the result.  Steals it; NULL: no memory. */
bool call_document_steal(struct call *call, json_t *j_document);
/* A row `{"type","objects","bytes"}`, signed. */
json_t *document_type_row(const char *type, int64_t objects, int64_t bytes);
/* Rows of all types that have objects; classes of one name share a row.  GIL: either. */
json_t *document_types(struct heap *heap);
/* Sorts rows of an array by their `bytes`, largest first; lost ones are below none. */
void document_sort_by_bytes(json_t *j_rows);

#endif
