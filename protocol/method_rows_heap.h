/* method_rows_heap.h -- rows of method_table.c, which includes it there: heap.*. */
    {.name = "heap.check",
     .group = "Inspection and administration",
     .handler = method_heap_check,
     .needs_gil = true,
     .role = ROLE_ADMIN,
     .doc = "Recounts every reference and walks every structure of the heap, holding everybody up.",
     .result_schema = "{\"type\":\"object\",\"required\":[\"ok\",\"objects\",\"problems\"],\"properties\":{"
                      "\"ok\":" SCHEMA_BOOL ",\"objects\":" SCHEMA_COUNT
                      ",\"problems\":{\"type\":\"array\",\"items\":" SCHEMA_STR "}}}",
     .example_params = "{}",
     .example_result = "{\"ok\":true,\"objects\":12,\"problems\":[]}"},
