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

/* On the worker of questions: its one hold of the GIL is long, and the I/O threads answer what needs no GIL meanwhile. */
bool method_heap_check(struct call *call)
{
    char *problems = NULL;
    size_t len;
    FILE *stream = open_memstream(&problems, &len);
    if (stream == NULL) {
        return call_fail(call, HEAP_MEMORY);
    }
    if (!heap_enter_still(call->heap, call->cancel)) {
        fclose(stream);
        free(problems);
        return call_fail(call, HEAP_CANCELLED);
    }
    uint32_t count = heap_check(call->heap, stream);
    struct heap_stats stats;
    heap_stats(&stats, call->heap);
    heap_leave(call->heap);
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

static void write_arena(struct out *out, const struct heap_arena_figures *arena)
{
    out_text(out, "{\"arena\":");
    out_u64(out, arena->arena);
    out_text(out, ",\"bytes\":");
    out_u64(out, arena->bytes);
    out_text(out, ",\"pools\":[");
    for (uint32_t i = 0; i < arena->pool_count; i++) {
        const struct heap_pool_figures *pool = &arena->pools[i];
        out_text(out, i > 0 ? ",{\"size\":" : "{\"size\":");
        out_u64(out, pool->size);
        out_text(out, ",\"used\":");
        out_u64(out, pool->used);
        out_text(out, ",\"capacity\":");
        out_u64(out, pool->capacity);
        out_char(out, '}');
    }
    out_text(out, "]}");
}

/* The GIL is held: there is no document, which would take ten times as long. */
bool method_heap_map(struct call *call)
{
    struct out *out = call->out;
    int64_t limit = arg_int(&call->args[0], 100), rows = 0;
    uint32_t position = (uint32_t)arg_int(&call->args[1], 0), next = position;
    struct heap_arena_figures arena;
    bool more;
    out_text(out, "{\"arenas\":[");
    while ((more = heap_arena_next(call->heap, &position, &arena)) && rows < limit) {
        out_text(out, rows++ > 0 ? "," : "");
        write_arena(out, &arena);
        next = position;
    }
    return call_result_page(call, more, next) && call_output_ok(call);
}
