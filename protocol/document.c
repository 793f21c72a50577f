/* document.c -- results that are built as jansson documents: writing them, and rows that several methods show. */
#include "document.h"

#include "json_memory.h"

#include <stdlib.h>

static int append_text(const char *text, size_t len, void *out)
{
    out_bytes(out, text, len);
    return ((struct out *)out)->failed ? -1 : 0;
}

bool call_document_steal(struct call *call, json_t *j_document)
{
    int failed =
        j_document == NULL ? -1 : json_dump_callback(j_document, append_text, call->out, JSON_COMPACT | JSON_ENCODE_ANY);
    json_decref(j_document);
    if (json_memory_take_shortage()) {
        failed = -1; /* something may be missing in it */
    }
    return failed == 0 ? call_output_ok(call) : call_fail(call, HEAP_MEMORY);
}

json_t *document_type_row(const char *type, int64_t objects, int64_t bytes)
{
    return json_pack("{s:s, s:I, s:I}", "type", type, "objects", (json_int_t)objects, "bytes", (json_int_t)bytes);
}

/* Rows of instances, by the name of their class: classes of one name share a row. */
struct class_rows {
    json_t *j_types;   /* the rows */
    json_t *j_by_name; /* class name -> its row, which is in j_types too */
};

static void add_class(void *arg, const char *class_name, uint64_t objects, uint64_t bytes)
{
    struct class_rows *rows = arg;
    json_t *j_row = json_object_get(rows->j_by_name, class_name);
    if (j_row != NULL) {
        json_t *j_objects = json_object_get(j_row, "objects"), *j_bytes = json_object_get(j_row, "bytes");
        json_integer_set(j_objects, json_integer_value(j_objects) + (json_int_t)objects);
        json_integer_set(j_bytes, json_integer_value(j_bytes) + (json_int_t)bytes);
    } else if (objects > 0) {
        j_row = document_type_row(class_name, (int64_t)objects, (int64_t)bytes);
        json_array_append(rows->j_types, j_row);
        json_object_set_new(rows->j_by_name, class_name, j_row);
    }
}

json_t *document_types(struct heap *heap)
{
    struct class_rows rows = {json_array(), json_object()};
    struct heap_stats stats;
    heap_stats(&stats, heap);
    for (int type = 0; type < HEAP_T_COUNT; type++) {
        if (type != HEAP_T_INSTANCE && stats.type_objects[type] > 0) {
            json_array_append_new(rows.j_types,
                                  document_type_row(heap_builtin_name((enum heap_type)type),
                                                    (int64_t)stats.type_objects[type], (int64_t)stats.type_bytes[type]));
        }
    }
    heap_stats_classes(heap, add_class, &rows);
    json_decref(rows.j_by_name);
    return rows.j_types;
}

/* ---- sorting ---- */

static json_int_t bytes_of(const json_t *j_row)
{
    return json_integer_value(json_object_get(j_row, "bytes"));
}

static int by_bytes(const void *a, const void *b)
{
    const json_t *const *j_a = a, *const *j_b = b;
    json_int_t x = bytes_of(*j_a), y = bytes_of(*j_b);
    return (x < y) - (x > y);
}

void document_sort_by_bytes(json_t *j_rows)
{
    size_t n = json_array_size(j_rows);
    json_t **rows = json_memory_alloc((n + 1) * sizeof *rows); /* so that a list which is not sorted is not shown */
    if (rows == NULL) {
        return;
    }
    for (size_t i = 0; i < n; i++) {
        rows[i] = json_incref(json_array_get(j_rows, i));
    }
    qsort(rows, n, sizeof *rows, by_bytes);
    for (size_t i = 0; i < n; i++) {
        json_array_set_new(j_rows, i, rows[i]);
    }
    json_memory_free(rows);
}
