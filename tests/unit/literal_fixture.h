/* literal_fixture.h -- for tests of literals: a heap, random numbers, texts read and written. */
#ifndef HEAPD_TESTS_LITERAL_FIXTURE_H
#define HEAPD_TESTS_LITERAL_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../../protocol/literal.h"
#include "random_fixture.h"

#define NESTING 1022

/* ---- a heap for each test ---- */

static inline int setup(void **state)
{
    struct heap *heap = heap_create(&(struct heap_config){.reserve_bytes = (uint64_t)512 << 20});
    assert_non_null(heap);
    heap_enter(heap);
    *state = heap;
    return 0;
}

static inline uint64_t live(struct heap *heap)
{
    struct heap_stats stats;
    heap_settle(heap);
    heap_stats(&stats, heap);
    return stats.live;
}

static inline int teardown(void **state)
{
    struct heap *heap = *state;
    struct heap_collection collection;
    heap_collect(&collection, heap, 2);
    assert_int_equal(live(heap), 0);
    assert_int_equal(heap_check(heap, stderr), 0);
    heap_leave(heap);
    heap_destroy(heap);
    return 0;
}

/* ---- texts ---- */

/* A text as the reader wants it; the value is inside it. */
struct text {
    char *data;
    struct json_value value;
};

static inline struct text text_of(const char *json, size_t len)
{
    struct text text = {.data = malloc(len + 1 + JSON_PADDING_BYTES)};
    struct json_error error;
    assert_non_null(text.data);
    memcpy(text.data, json, len);
    memset(text.data + len, 0, 1 + JSON_PADDING_BYTES);
    if (!json_scan(text.data, len, 2000, &text.value, &error)) {
        fail_msg("%s: %s at %zu", json, error.message, error.offset);
    }
    return text;
}

/* false: *error, whose texts are new. */
static inline bool try_read(heap_ref *obj, struct heap *heap, const char *json, struct literal_error *error)
{
    struct text text = text_of(json, strlen(json));
    bool good = !text.value.has_dollar || literal_check(&text.value, error);
    good = good && literal_read(obj, heap, &text.value, error);
    if (!good) { /* these point into the text */
        error->name = error->name ? strndup(error->name, error->name_len) : NULL;
        error->attr = error->attr ? strndup(error->attr, error->attr_len) : NULL;
    }
    free(text.data);
    return good;
}

/* The text is of one value, in any form.  Returns: new. */
static inline heap_ref must_read(struct heap *heap, const char *json)
{
    struct literal_error error;
    heap_ref obj = 0;
    if (!try_read(&obj, heap, json, &error)) {
        fail_msg("%s: %s", json, error.message);
    }
    return obj;
}

/* Ends in NUL; to be freed. */
static inline char *written_as(struct heap *heap, heap_ref obj, struct literal_format format)
{
    struct out out;
    struct literal_error error;
    out_init(&out, 0);
    if (!literal_write(&out, heap, obj, &format, &error)) {
        fail_msg("%s", error.message);
    }
    out_char(&out, '\0');
    return out.data;
}

static inline char *written(struct heap *heap, heap_ref obj)
{
    return written_as(heap, obj, (struct literal_format){.depth = -1, .max_nesting = NESTING});
}

#endif
