/* test_realdata.c -- the JSON documents that everybody measures with, through the daemon and back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../support/fixture.h"
#include "../support/process.h"

/* How many containers a document has, by jansson's own walk. */
static size_t containers_of(const json_t *j_value)
{
    size_t n = 0, i;
    const char *key;
    json_t *j_child;
    if (json_is_array(j_value)) {
        n = 1;
        json_array_foreach(j_value, i, j_child)
        {
            n += containers_of(j_child);
        }
    } else if (json_is_object(j_value)) {
        void *iter;
        n = 1;
        for (iter = json_object_iter((json_t *)(uintptr_t)j_value); iter != NULL;
             iter = json_object_iter_next((json_t *)(uintptr_t)j_value, iter)) {
            key = json_object_iter_key(iter);
            n += key != NULL ? containers_of(json_object_iter_value(iter)) : 0;
        }
    }
    return n;
}

/* Sends the document's bytes as one create, as they are, line breaks made spaces. */
static void create_document(struct wire *wire, const char *text, size_t len)
{
    char *line = malloc(len);
    assert_non_null(line);
    for (size_t i = 0; i < len; i++) {
        line[i] = text[i] == '\n' || text[i] == '\r' ? ' ' : text[i];
    }
    wire_send_text(wire, "{\"id\":1,\"method\":\"create\",\"params\":[");
    wire_send(wire, line, len);
    free(line);
    wire_expect(wire, "]}", "{'id':1,'result':{'object':<id:document>,'type':'dict','refcount':1}}");
}

static void check_document(void **state, const char *name, int64_t containers)
{
    const struct fixture *fixture = *state;
    struct wire *wire = fixture->wire;
    char path[4200];
    size_t len, reply_len;
    if (!process_data(path, sizeof path, name)) {
        process_skip("../shared/data/%s is not there", name);
    }
    char *text = process_read_file(path, &len);
    json_t *j_want = json_loadb(text, len, 0, NULL);
    assert_non_null(j_want);
    assert_int_equal(containers_of(j_want), containers);
    json_decref(wire_callf(wire, "gc.disable", NULL));
    create_document(wire, text, len);
    json_t *j_count = wire_callf(wire, "gc.get_count", NULL);
    assert_int_equal(json_integer_value(json_array_get(j_count, 0)), containers);
    json_decref(j_count);
    int64_t live = wire_stat(wire, "objects", "live");
    assert_true(live > containers);

    /* It comes back equal, member order included. */
    char *request;
    assert_true(asprintf(&request, "{\"id\":1,\"method\":\"get\",\"params\":[%s,-1]}\n",
                         match_bound(&wire->bindings, "document")) > 0);
    wire_send_text(wire, request);
    free(request);
    const char *reply = wire_line(wire, &reply_len);
    assert_non_null(reply);
    json_t *j_reply = json_loadb(reply, reply_len, 0, NULL), *j_got = json_object_get(j_reply, "result");
    assert_true(json_equal(j_want, j_got));
    char *want_text = json_dumps(j_want, JSON_COMPACT), *got_text = json_dumps(j_got, JSON_COMPACT);
    assert_string_equal(want_text, got_text);
    free(want_text);
    free(got_text);
    json_decref(j_reply);
    json_decref(j_want);
    free(text);

    wire_check_heap(wire);
    wire_expect(
        wire, "{'id':2,'method':'collect'}",
        "{'id':2,'result':{'generation':2,'unreachable':0,'uncollectable':0,'freed':0,'elapsed_us':<int>}}");
    char expected[128];
    snprintf(expected, sizeof expected,
             "{'id':3,'result':{'object':<id:document>,'refcount':0,'freed':%lld}}", (long long)live);
    wire_expect(wire, "{'id':3,'method':'unref','params':[<id:document>]}", expected);
    assert_int_equal(wire_stat(wire, "objects", "live"), 0);
}

static void test_realdata_citm_catalog(void **state)
{
    check_document(state, "citm_catalog.json", 21388);
}

static void test_realdata_canada(void **state)
{
    check_document(state, "canada.json", 56049);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        fixture_test(test_realdata_citm_catalog),
        fixture_test(test_realdata_canada),
    };
    return cmocka_run_group_tests_name("realdata", tests, NULL, NULL);
}
