/* method_heap.c -- heap.*: questions about the whole heap. */
#include "method_handlers.h"

#include <stdlib.h>

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
