/* test_discover.c -- the method table as documents: OpenRPC that is valid, examples that run, and a WIRE.md
 * that says the same.
 */
#include "../../protocol/method.h"
#include "rpc_fixture.h"

#include <jansson.h>
#include <unistd.h>

#include "../support/process.h"

static json_t *discover(void)
{
    char *text = rpc_discover_text();
    assert_non_null(text);
    json_error_t error;
    json_t *j_document = json_loads(text, 0, &error);
    if (j_document == NULL) {
        fail_msg("rpc.discover is no JSON: %s", error.text);
    }
    free(text);
    return j_document;
}

static const char *string_of(const json_t *j_object, const char *name)
{
    const char *text = json_string_value(json_object_get(j_object, name));
    if (text == NULL) {
        fail_msg("%s is no string", name);
    }
    return text;
}

/* A schema is an object; a reference points at something that is there. */
static void check_schema(const json_t *j_document, const json_t *j_schema)
{
    assert_true(json_is_object(j_schema));
    const char *path = json_string_value(json_object_get(j_schema, "$ref"));
    if (path != NULL) {
        const char *prefix = "#/components/schemas/";
        assert_memory_equal(path, prefix, strlen(prefix));
        const json_t *j_schemas = json_object_get(json_object_get(j_document, "components"), "schemas");
        assert_true(json_is_object(json_object_get(j_schemas, path + strlen(prefix))));
    }
}

/* What OpenRPC 1.4 requires of a document, a method, a content descriptor and an example. */
static void test_discover_is_valid_openrpc(void **state)
{
    (void)state;
    json_t *j_document = discover(), *j_method, *j_param;
    json_t *j_methods = json_object_get(j_document, "methods");
    size_t i, k;
    assert_memory_equal(string_of(j_document, "openrpc"), "1.", 2);
    string_of(json_object_get(j_document, "info"), "title");
    string_of(json_object_get(j_document, "info"), "version");
    assert_true(json_array_size(j_methods) > 50);
    json_array_foreach(j_methods, i, j_method)
    {
        const char *name = string_of(j_method, "name");
        for (size_t earlier = 0; earlier < i; earlier++) {
            assert_string_not_equal(name, string_of(json_array_get(j_methods, earlier), "name"));
        }
        assert_true(strlen(string_of(j_method, "summary")) > 10);
        assert_string_equal(string_of(j_method, "paramStructure"), "either");
        string_of(j_method, "x-role");
        bool optional_seen = false;
        json_array_foreach(json_object_get(j_method, "params"), k, j_param)
        {
            string_of(j_param, "name");
            string_of(j_param, "x-kind");
            assert_true(json_is_boolean(json_object_get(j_param, "required")));
            /* Positional parameters: no required one behind an optional one. */
            assert_false(optional_seen && json_is_true(json_object_get(j_param, "required")));
            optional_seen |= json_is_false(json_object_get(j_param, "required"));
            check_schema(j_document, json_object_get(j_param, "schema"));
        }
        json_t *j_result = json_object_get(j_method, "result");
        string_of(j_result, "name");
        check_schema(j_document, json_object_get(j_result, "schema"));
        json_t *j_example = json_array_get(json_object_get(j_method, "examples"), 0);
        string_of(j_example, "name");
        assert_true(json_is_array(json_object_get(j_example, "params")));
        assert_non_null(json_object_get(json_object_get(j_example, "result"), "value"));
    }
    json_decref(j_document);
}

static void test_discover_answers_on_the_wire(void **state)
{
    struct rpc_fixture *f = *state;
    char *text = rpc_discover_text();
    say(f, "{\"id\":1,\"method\":\"rpc.discover\"}\n");
    assert_memory_equal(f->said, "{\"id\":1,\"result\":", 17);
    assert_memory_equal(f->said + 17, text, strlen(text));
    assert_string_equal(f->said + 17 + strlen(text), "}\n");
    free(text);
}

/* ---- examples ---- */

/* Whether what came has the members and types of what the table shows; a list may have more rows. */
static void check_shape(const char *method, const json_t *j_shown, const json_t *j_came)
{
    const char *name;
    json_t *j_value;
    if (json_typeof(j_shown) != json_typeof(j_came) && !(json_is_boolean(j_shown) && json_is_boolean(j_came))) {
        fail_msg("the example of %s shows another type than came", method);
    }
    if (strcmp(method, "rpc.discover") == 0) {
        return;
    }
    json_object_foreach((json_t *)(uintptr_t)j_shown, name, j_value)
    {
        const json_t *j_other = json_object_get(j_came, name);
        if (j_other == NULL) {
            fail_msg("the example of %s shows %s, which did not come", method, name);
        }
        check_shape(method, j_value, j_other);
    }
    assert_int_equal(json_object_size(j_shown), json_object_size(j_came));
    for (size_t i = 0; i < json_array_size(j_shown); i++) {
        assert_true(json_array_size(j_came) > i);
        check_shape(method, json_array_get(j_shown, i), json_array_get(j_came, i));
    }
}

/* Values that depend on ids, sizes or times are not compared, all others are. */
static bool is_exact(const char *shown)
{
    static const char *const CHANGING[] = {"\"object\"", "elapsed_us", "\"objects\"", "openrpc",
                                           "\"session\"", "size classes", "\"arenas\"", "\"bytes\""};
    for (size_t i = 0; i < sizeof(CHANGING) / sizeof(CHANGING[0]); i++) {
        if (strstr(shown, CHANGING[i]) != NULL) {
            return false;
        }
    }
    return true;
}

/* The token of a lease, where an example cannot show a good one. */
static const char *open_session(struct rpc_fixture *f)
{
    static char token[33];
    say(f, "{\"id\":1,\"method\":\"session.open\",\"params\":[60000]}\n");
    assert_int_equal(sscanf(f->said, "{\"id\":1,\"result\":{\"session\":\"%32[0-9a-f]", token), 1);
    return token;
}

static void run_example(struct rpc_fixture *f, const json_t *j_document, const json_t *j_method)
{
    const char *name = string_of(j_method, "name");
    json_t *j_setup = json_object_get(j_document, "x-examples-setup"), *j_request, *j_param;
    json_t *j_example = json_array_get(json_object_get(j_method, "examples"), 0);
    json_t *j_shown = json_object_get(json_object_get(j_example, "result"), "value");
    json_t *j_params = json_object();
    size_t i;
    json_array_foreach(j_setup, i, j_request)
    {
        char *line = json_dumps(j_request, JSON_COMPACT);
        tell(f, line, "{\"id\":<int>,\"result\":<object>}");
        free(line);
    }
    json_array_foreach(json_object_get(j_example, "params"), i, j_param)
    {
        json_object_set(j_params, string_of(j_param, "name"), json_object_get(j_param, "value"));
    }
    if (strcmp(name, "session.resume") == 0) {
        json_object_set_new(j_params, "session", json_string(open_session(f)));
    }
    if (strcmp(name, "auth") == 0) {
        const char *token = string_of(j_params, "token");
        struct rpc_auth_token known = {RPC_ROLE_WRITE, token, strlen(token)};
        assert_true(rpc_service_set_auth_tokens(f->service, &known, 1));
    }
    json_t *j_call = json_pack("{s:i, s:s, s:o}", "id", 1, "method", name, "params", j_params);
    char *line = json_dumps(j_call, JSON_COMPACT);
    fixture_forget(f);
    fixture_feed(f->conn, line, strlen(line));
    say(f, "\n");
    json_t *j_reply = json_loads(f->said, 0, NULL);
    json_t *j_came = json_object_get(j_reply, "result");
    if (j_came == NULL) {
        fail_msg("the example of %s answers %s", name, f->said);
    }
    check_shape(name, j_shown, j_came);
    char *shown = json_dumps(j_shown, JSON_ENCODE_ANY | JSON_COMPACT);
    if (is_exact(shown) && strcmp(name, "sys.getsizeof") != 0 && !json_equal(j_shown, j_came)) {
        fail_msg("the example of %s shows %s; came %s", name, shown, f->said);
    }
    free(shown);
    free(line);
    json_decref(j_call);
    json_decref(j_reply);
}

static void test_discover_examples_run(void **state)
{
    (void)state;
    json_t *j_document = discover(), *j_method;
    size_t i;
    json_array_foreach(json_object_get(j_document, "methods"), i, j_method)
    {
        struct rpc_limits limits;
        rpc_limits_default(&limits);
        struct rpc_fixture *f = fixture_open(&limits);
        char folder[] = "/tmp/heapd-test-XXXXXX", path[64];
        assert_non_null(mkdtemp(folder));
        assert_true(rpc_service_set_export_dir(f->service, folder));
        run_example(f, j_document, j_method);
        snprintf(path, sizeof path, "%s/before.heapsnapshot", folder);
        unlink(path);
        assert_int_equal(rmdir(folder), 0);
        fixture_close(f);
    }
    json_decref(j_document);
}

/* ---- WIRE.md ---- */

/* The part between the two marker comments is rpc_methods_markdown(). */
/* Every parameter has its name in the form in which requests are expected to have it, too. */
static void test_discover_params_have_members(void **state)
{
    (void)state;
    for (unsigned i = 0; i < METHOD_COUNT; i++) {
        for (unsigned k = 0; k < METHODS[i].param_count; k++) {
            const struct param *param = &METHODS[i].params[k];
            char wanted[JSON_MEMBER_BYTES + 1];
            assert_int_equal(snprintf(wanted, sizeof wanted, "\"%s\":", param->name), strlen(param->name) + 3);
            assert_true(strlen(wanted) <= sizeof param->member);
            assert_memory_equal(param->member, wanted, strlen(wanted));
        }
    }
}

static void test_discover_agrees_with_wire_page(void **state)
{
    (void)state;
    static const char BEGIN[] = "<!-- methods: generated from the method table -->\n";
    static const char END[] = "<!-- end of methods -->\n";
    char path[4200], *methods = rpc_methods_markdown();
    size_t len;
    process_path(path, sizeof(path), "protocol/WIRE.md");
    char *page = process_read_file(path, &len);
    assert_non_null(methods);
    assert_non_null(page);
    char *begin = strstr(page, BEGIN), *end = strstr(page, END);
    assert_non_null(begin);
    assert_non_null(end);
    begin += strlen(BEGIN);
    if (getenv("UPDATE_WIRE_PAGE") != NULL) {
        FILE *file = fopen(path, "w");
        assert_non_null(file);
        fprintf(file, "%.*s%s%s", (int)(begin - page), page, methods, end);
        assert_int_equal(fclose(file), 0);
    } else if ((size_t)(end - begin) != strlen(methods) || memcmp(begin, methods, strlen(methods)) != 0) {
        fail_msg("WIRE.md differs from the method table; run this test with UPDATE_WIRE_PAGE=1 and look at the "
                 "page");
    }
    free(page);
    free(methods);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_discover_is_valid_openrpc),
        fixture_test(test_discover_answers_on_the_wire),
        cmocka_unit_test(test_discover_examples_run),
        cmocka_unit_test(test_discover_params_have_members),
        cmocka_unit_test(test_discover_agrees_with_wire_page),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
