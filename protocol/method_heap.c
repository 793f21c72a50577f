/* method_heap.c -- heap.types, heap.map, heap.check: what there is, without walking edges. */
#include "document.h"
#include "method_handlers.h"

#include <stdio.h>
#include <stdlib.h>

/* ---- heap.check ---- */

/* The lines of a text as a JSON list. */
static void write_lines(struct out *out, const char *text)
{
    const char *comma = "";
    out_char(out, '[');
    while (*text != '\0') {
        size_t len = strcspn(text, "\n");
        out_text(out, comma);
        out_json_string(out, text, len);
        comma = ",";
        text += len + (text[len] == '\n');
    }
    out_char(out, ']');
}

bool method_heap_check(struct call *call)
{
    char *problems = NULL;
    size_t len;
    FILE *stream = open_memstream(&problems, &len);
    if (stream == NULL) {
        return call_fail(call, HEAP_MEMORY);
    }
    uint32_t count = heap_check(call->heap, stream);
    struct heap_stats stats;
    heap_stats(&stats, call->heap);
    if (fclose(stream) != 0) {
        free(problems);
        return call_fail(call, HEAP_MEMORY);
    }
    out_text(call->out, count == 0 ? "{\"ok\":true,\"objects\":" : "{\"ok\":false,\"objects\":");
    out_u64(call->out, stats.live);
    out_text(call->out, ",\"problems\":");
    write_lines(call->out, problems);
    free(problems);
    out_char(call->out, '}');
    return call_output_ok(call);
}

/* ---- heap.types ---- */

bool method_heap_types(struct call *call)
{
    json_t *j_types = document_types(call->heap);
    document_sort_by_bytes(j_types);
    return call_document_steal(call, json_pack("{s:o}", "types", j_types));
}

/* ---- heap.map ---- */

static json_t *arena_document(const struct heap_arena_figures *arena)
{
    json_t *j_pools = json_array();
    for (uint32_t i = 0; i < arena->pool_count; i++) {
        const struct heap_pool_figures *pool = &arena->pools[i];
        json_array_append_new(j_pools, json_pack("{s:i, s:i, s:i}", "size", (int)pool->size, "used", (int)pool->used,
                                                 "capacity", (int)pool->capacity));
    }
    return json_pack("{s:i, s:i, s:o}", "arena", (int)arena->arena, "bytes", (int)arena->bytes, "pools", j_pools);
}

bool method_heap_map(struct call *call)
{
    int64_t limit = arg_int(&call->args[0], 100);
    uint32_t position = (uint32_t)arg_int(&call->args[1], 0), next;
    struct heap_arena_figures arena;
    json_t *j_arenas = json_array(), *j_next = json_null();
    for (;;) {
        next = position;
        if (!heap_arena_next(call->heap, &position, &arena)) {
            break;
        }
        if ((int64_t)json_array_size(j_arenas) == limit) {
            j_next = json_integer(next);
            break;
        }
        json_array_append_new(j_arenas, arena_document(&arena));
    }
    return call_document_steal(call, json_pack("{s:o, s:o}", "arenas", j_arenas, "next", j_next));
}
