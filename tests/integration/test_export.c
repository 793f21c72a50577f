/* test_export.c -- heap.export: files that other tools can read, and what goes wrong.
 *
 * The snapshot is held to what the loader of DevTools demands, and to what the daemon says of the same
 * objects; tests/devtools loads one in a browser.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "../support/fixture.h"
#include "../support/process.h"

#define FIELDS 7
#define FLOATS 70000 /* more than slots of ids wait before they are used again */
#define NAMES 3000
#define HEAP_NAME_BYTES 1024u /* the longest name */

/* A daemon that may write to a folder of its own. */
struct exporter {
    struct fixture fixture;
    char folder[64];
};

static void exporter_open(struct exporter *exporter)
{
    if (daemon_is_elsewhere()) {
        print_message("skipped: the daemon runs elsewhere, and cannot be given a folder\n");
        skip();
    }
    snprintf(exporter->folder, sizeof exporter->folder, "/tmp/heapd-test-export-XXXXXX");
    assert_non_null(mkdtemp(exporter->folder));
    const char *const arguments[] = {"--export-dir", exporter->folder, NULL};
    fixture_start(&exporter->fixture, arguments);
}

/* Removes what was exported; nothing hidden may be left behind. */
static void exporter_close(struct exporter *exporter)
{
    json_decref(wire_callf(exporter->fixture.wire, "gc.unfreeze", NULL));
    fixture_end(&exporter->fixture);
    DIR *folder = opendir(exporter->folder);
    assert_non_null(folder);
    for (struct dirent *entry; (entry = readdir(folder)) != NULL;) {
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) {
            assert_int_not_equal(entry->d_name[0], '.');
            assert_int_equal(unlinkat(dirfd(folder), entry->d_name, 0), 0);
        }
    }
    closedir(folder);
    assert_int_equal(rmdir(exporter->folder), 0);
}

/* Exports; the answer's `bytes` is the file's size.  Returns the answer's `objects`. */
static int64_t export_to(struct exporter *exporter, const char *format, const char *name, char path[128])
{
    json_t *j_answer = wire_callf(exporter->fixture.wire, "heap.export", "[s, s]", format, name);
    struct stat file;
    snprintf(path, 128, "%s/%s", exporter->folder, name);
    assert_int_equal(stat(path, &file), 0);
    assert_int_equal(file.st_mode & 0777, 0600);
    assert_string_equal(json_string_value(json_object_get(j_answer, "path")), name);
    assert_int_equal(json_integer_value(json_object_get(j_answer, "bytes")), file.st_size);
    int64_t objects = json_integer_value(json_object_get(j_answer, "objects"));
    json_decref(j_answer);
    return objects;
}

/* Cycles, names, holds, a class, weakrefs, texts that need escapes, frozen objects. */
static void plant(struct wire *wire)
{
    json_decref(wire_callf(wire, "create", "[{s:s}, s]", "$class", "Node", "Node"));
    json_decref(wire_callf(wire, "create", "[{s:{s:[i, {s:s}]}, s:{s:s}}, s]", "$let", "a", 1000, "$label",
                           "a", "in", "$label", "a", "ring"));
    json_decref(wire_callf(wire, "create", "[{s:s, s:{s:f, s:s}}]", "$instance", "Node", "attrs", "x", 1.5,
                           "text", "quote \" slash \\ line \n end \xF0\x9F\x98\x80"));
    json_decref(wire_callf(wire, "gc.freeze", NULL));
    json_decref(wire_callf(wire, "create", "[{s:[[i, [i]], [s, {s:s}]]}, s]", "$dict", 5, 7000, "k",
                           "$weakref", "Node", "a name with \" and \\"));
    json_decref(wire_callf(wire, "create", "[{s:[i, {s:[s, f]}]}]", "$set", 8000, "$frozenset", "y", 2.5));
}

static json_int_t at(const json_t *j_array, size_t i)
{
    return json_integer_value(json_array_get(j_array, i));
}

/* Sums and indexes that the loader relies on; returns the document. */
static json_t *load_snapshot(const char *path)
{
    json_error_t error;
    json_t *j_file = json_load_file(path, 0, &error);
    if (j_file == NULL) {
        fail_msg("%s is no JSON: %s", path, error.text);
    }
    const json_t *j_snapshot = json_object_get(j_file, "snapshot"),
                 *j_nodes = json_object_get(j_file, "nodes");
    const json_t *j_edges = json_object_get(j_file, "edges"), *j_strings = json_object_get(j_file, "strings");
    json_int_t nodes = json_integer_value(json_object_get(j_snapshot, "node_count"));
    json_int_t edges = json_integer_value(json_object_get(j_snapshot, "edge_count")), sum = 0;
    json_t *j_ids = json_object();
    assert_int_equal(json_array_size(j_nodes), nodes * FIELDS);
    assert_int_equal(json_array_size(j_edges), edges * 3);
    for (json_int_t i = 0; i < nodes; i++) {
        char id[24];
        snprintf(id, sizeof id, "%lld", (long long)at(j_nodes, (size_t)(i * FIELDS + 2)));
        assert_null(json_object_get(j_ids, id));
        json_object_set_new(j_ids, id, json_true());
        assert_in_range(at(j_nodes, (size_t)(i * FIELDS + 1)), 0, json_array_size(j_strings) - 1);
        sum += at(j_nodes, (size_t)(i * FIELDS + 4));
    }
    assert_int_equal(sum, edges);
    for (json_int_t i = 0; i < edges; i++) {
        json_int_t type = at(j_edges, (size_t)(3 * i)), to = at(j_edges, (size_t)(3 * i + 2));
        assert_int_equal(to % FIELDS, 0);
        assert_in_range(to, FIELDS, (nodes - 1) * FIELDS);
        assert_true(type == 1 || at(j_edges, (size_t)(3 * i + 1)) < (json_int_t)json_array_size(j_strings));
    }
    json_decref(j_ids);
    return j_file;
}

static const char *name_of(const json_t *j_file, size_t node)
{
    return json_string_value(json_array_get(json_object_get(j_file, "strings"),
                                            (size_t)at(json_object_get(j_file, "nodes"), node * FIELDS + 1)));
}

/* The node of an object, by the rule for ids. */
static size_t node_of(const json_t *j_file, int64_t object)
{
    const json_t *j_nodes = json_object_get(j_file, "nodes");
    for (size_t i = 0; i < json_array_size(j_nodes) / FIELDS; i++) {
        if (at(j_nodes, i * FIELDS + 2) == (object & 0x7FFFFFFF) * 2 + 1) {
            return i;
        }
    }
    fail_msg("object %lld is not in the snapshot", (long long)object);
    return 0;
}

/* Number and bytes of the nodes of a type agree with the row of heap.types. */
static void check_type(const json_t *j_file, const json_t *j_row)
{
    const char *type = json_string_value(json_object_get(j_row, "type"));
    const json_t *j_nodes = json_object_get(j_file, "nodes");
    bool is_str = strcmp(type, "str") == 0;
    json_int_t objects = 0, bytes = 0;
    for (size_t i = 0; i < json_array_size(j_nodes) / FIELDS; i++) {
        json_int_t node_type = at(j_nodes, i * FIELDS), size = at(j_nodes, i * FIELDS + 3);
        if (size > 0 && (is_str ? node_type == 2 : node_type == 3 && strcmp(name_of(j_file, i), type) == 0)) {
            objects++;
            bytes += size;
        }
    }
    assert_int_equal(objects, json_integer_value(json_object_get(j_row, "objects")));
    assert_int_equal(bytes, json_integer_value(json_object_get(j_row, "bytes")));
}

static void test_export_heapsnapshot_is_what_the_heap_is(void **state)
{
    struct exporter exporter;
    char path[128];
    (void)state;
    exporter_open(&exporter);
    struct wire *wire = exporter.fixture.wire;
    plant(wire);
    int64_t objects = export_to(&exporter, "heapsnapshot", "a.heapsnapshot", path);
    assert_int_equal(objects, wire_stat(wire, "objects", "live"));
    json_t *j_file = load_snapshot(path), *j_types = wire_callf(wire, "heap.types", NULL), *j_row;
    size_t i;
    json_array_foreach(json_object_get(j_types, "types"), i, j_row)
    {
        check_type(j_file, j_row);
    }
    assert_int_equal(i, 10);
    int64_t ring = wire_call_int(wire, "object", "name.lookup", "[s]", "ring");
    size_t node = node_of(j_file, ring);
    assert_string_equal(name_of(j_file, node), "list");
    json_t *j_size = wire_callf(wire, "sys.getsizeof", "[s]", "ring");
    assert_int_equal(at(json_object_get(j_file, "nodes"), node * FIELDS + 3), json_integer_value(j_size));
    json_decref(j_size);
    json_decref(j_types);
    json_decref(j_file);
    exporter_close(&exporter);
}

/* A text is there as it is, a long one as its beginning, and names are told, however long they are. */
static void test_export_heapsnapshot_has_texts(void **state)
{
    struct exporter exporter;
    char path[128], name[HEAP_NAME_BYTES + 1], title[HEAP_NAME_BYTES + 8], text[400];
    (void)state;
    exporter_open(&exporter);
    struct wire *wire = exporter.fixture.wire;
    memset(name, 'n', HEAP_NAME_BYTES);
    memcpy(name + HEAP_NAME_BYTES - 2, "\xC3\xA9", 3);
    for (size_t i = 0; i < 399; i += 3) {
        memcpy(text + i, "\xE2\x82\xAC", 4);
    }
    snprintf(title, sizeof title, "name %s", name);
    json_decref(wire_callf(wire, "create", "[[s, s, s], s]", "it's \"plain\"\n", "hello", text, name));
    export_to(&exporter, "heapsnapshot", "a", path);
    json_t *j_file = load_snapshot(path), *j_string;
    size_t i, found = 0;
    json_array_foreach(json_object_get(j_file, "strings"), i, j_string)
    {
        const char *string = json_string_value(j_string);
        size_t len = strlen(string);
        found += strcmp(string, "it's \"plain\"\n") == 0 || strcmp(string, "hello") == 0 ||
                 strcmp(string, title) == 0;
        found += len > 33 && len % 3 == 0 && strncmp(string, text, len - 3) == 0 &&
                 strcmp(string + len - 3, "...") == 0;
    }
    assert_int_equal(found, 4);
    json_decref(j_file);
    exporter_close(&exporter);
}

/* What lives on has the same id later, whatever came and went. */
static void test_export_ids_stay(void **state)
{
    struct exporter exporter;
    char path[128];
    (void)state;
    exporter_open(&exporter);
    struct wire *wire = exporter.fixture.wire;
    plant(wire);
    export_to(&exporter, "heapsnapshot", "a", path);
    json_t *j_before = load_snapshot(path);
    int64_t ring = wire_call_int(wire, "object", "name.lookup", "[s]", "ring");
    for (int k = 0; k < 200; k++) {
        json_decref(wire_callf(wire, "create", "[[i, i], s]", 1000 + k, 2000 + k, "passing"));
    }
    export_to(&exporter, "heapsnapshot", "b", path);
    json_t *j_after = load_snapshot(path);
    size_t one = node_of(j_before, ring), other = node_of(j_after, ring);
    assert_string_equal(name_of(j_before, one), name_of(j_after, other));
    assert_int_equal(json_array_size(json_object_get(j_after, "nodes")),
                     json_array_size(json_object_get(j_before, "nodes")) + 4 * FIELDS);
    json_decref(j_before);
    json_decref(j_after);
    exporter_close(&exporter);
}

/* The ids of the floats in a file. */
static json_t *ids_of_floats(const char *path)
{
    json_t *j_file = load_snapshot(path), *j_ids = json_object();
    const json_t *j_nodes = json_object_get(j_file, "nodes");
    for (size_t i = 0; i < json_array_size(j_nodes) / FIELDS; i++) {
        if (strcmp(name_of(j_file, i), "float") == 0) {
            char id[24];
            snprintf(id, sizeof id, "%lld", (long long)at(j_nodes, i * FIELDS + 2));
            json_object_set_new(j_ids, id, json_true());
        }
    }
    json_decref(j_file);
    return j_ids;
}

/* An object in the place of a dead one is another one, also when it has the slot of its id. */
static void test_export_ids_are_not_used_again(void **state)
{
    struct exporter exporter;
    char path[128];
    (void)state;
    exporter_open(&exporter);
    json_t *j_params = json_pack("{s:[], s:s}", "value", "name", "floats"), *j_ids[2];
    for (int i = 0; i < FLOATS; i++) {
        json_array_append_new(json_object_get(j_params, "value"), json_real(i + 0.5));
    }
    for (int round = 0; round < 2; round++) {
        json_decref(wire_callf(exporter.fixture.wire, "create", "O", j_params));
        export_to(&exporter, "heapsnapshot", round == 0 ? "a" : "b", path);
        j_ids[round] = ids_of_floats(path);
        assert_int_equal(json_object_size(j_ids[round]), FLOATS);
        json_decref(wire_callf(exporter.fixture.wire, "name.unbind", "[s]", "floats"));
    }
    for (void *entry = json_object_iter(j_ids[1]); entry != NULL;
         entry = json_object_iter_next(j_ids[1], entry)) {
        assert_null(json_object_get(j_ids[0], json_object_iter_key(entry)));
    }
    json_decref(j_ids[0]);
    json_decref(j_ids[1]);
    json_decref(j_params);
    exporter_close(&exporter);
}

/* Names have nodes of their own, with ids that differ. */
static void test_export_many_names(void **state)
{
    struct exporter exporter;
    char path[128];
    (void)state;
    exporter_open(&exporter);
    struct wire *wire = exporter.fixture.wire;
    json_decref(wire_callf(wire, "create", "[[i], s]", 1000, "name0"));
    for (int i = 1; i < NAMES; i++) {
        char name[24];
        snprintf(name, sizeof name, "name%d", i);
        json_decref(wire_callf(wire, "name.bind", "[s, s]", name, "name0"));
    }
    export_to(&exporter, "heapsnapshot", "a", path);
    json_t *j_file = load_snapshot(path);
    assert_int_equal(json_integer_value(json_object_get(json_object_get(j_file, "snapshot"), "node_count")),
                     NAMES + 4); /* two roots, the list, the int */
    json_decref(j_file);
    export_to(&exporter, "jsonl", "b", path);
    FILE *file = fopen(path, "r");
    json_t *j_head = json_loadf(file, JSON_DISABLE_EOF_CHECK, NULL);
    assert_int_equal(json_array_size(json_object_get(j_head, "roots")), 1);
    json_decref(j_head);
    fclose(file);
    exporter_close(&exporter);
}

/* The tool that loads the heap of a CPython program loads ours, and finds each object and reference. */
static void test_export_jsonl_is_loaded_again(void **state)
{
    struct exporter exporter;
    struct process_result result;
    char path[128], program[512], address[128];
    (void)state;
    exporter_open(&exporter);
    plant(exporter.fixture.wire);
    export_to(&exporter, "jsonl", "a.jsonl", path);
    struct daemon *other = daemon_start(NULL);
    process_program(program, sizeof program, "tests/tools/load_heap");
    snprintf(address, sizeof address, "unix:%s", other->socket);
    const char *const argv[] = {program, address, path, NULL};
    process_run(&result, argv, NULL);
    if (result.exit_code != 0) {
        fail_msg("load_heap: %s%s", result.out, result.err);
    }
    process_result_free(&result);
    daemon_stop(other);
    exporter_close(&exporter);
}

static void test_export_jsonl_has_every_reference(void **state)
{
    struct exporter exporter;
    char path[128], *line = NULL;
    size_t room = 0;
    (void)state;
    exporter_open(&exporter);
    struct wire *wire = exporter.fixture.wire;
    plant(wire);
    int64_t objects = export_to(&exporter, "jsonl", "a.jsonl", path), lines = 0, refs = 0, immortals = 0;
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    assert_true(getline(&line, &room, file) > 0);
    json_t *j_head = json_loads(line, 0, NULL);
    assert_int_equal(json_integer_value(json_object_get(j_head, "objects")), objects);
    assert_true(json_array_size(json_object_get(j_head, "roots")) >= 5);
    json_decref(j_head);
    while (getline(&line, &room, file) > 0) {
        json_t *j_row = json_loads(line, 0, NULL), *j_ref;
        size_t k;
        assert_non_null(j_row);
        json_array_foreach(json_array_get(j_row, 2), k, j_ref)
        {
            assert_in_range(json_integer_value(j_ref), 0, objects - 1);
            refs++;
        }
        json_t *j_referents = wire_callf(wire, "heap.inspect", "[I]", at(j_row, 3));
        immortals += json_integer_value(json_object_get(j_referents, "referents")) - (json_int_t)k;
        assert_string_equal(json_string_value(json_object_get(j_referents, "type")),
                            json_string_value(json_array_get(j_row, 4)));
        json_decref(j_referents);
        json_decref(j_row);
        lines++;
    }
    assert_int_equal(lines, objects);
    assert_true(refs > 10);
    assert_int_equal(immortals, 3); /* 5, "k" and "y" */
    free(line);
    fclose(file);
    exporter_close(&exporter);
}

static void test_export_dot_is_drawn(void **state)
{
    struct exporter exporter;
    char path[128], command[600];
    (void)state;
    if (system("command -v dot >/dev/null 2>&1") != 0) {
        print_message("skipped: there is no graphviz to draw with\n");
        skip();
    }
    exporter_open(&exporter);
    plant(exporter.fixture.wire);
    export_to(&exporter, "dot", "a.dot", path);
    int64_t ring = wire_call_int(exporter.fixture.wire, "object", "name.lookup", "[s]", "ring");
    size_t len;
    char *text = process_read_file(path, &len), edge[64];
    snprintf(edge, sizeof edge, "  n%lld -> n%lld [label=\"[1]\"];\n", (long long)ring, (long long)ring);
    assert_non_null(strstr(text, edge));
    assert_non_null(strstr(text, "  \"name a name with \\\" and \\\\\" -> n"));
    free(text);
    snprintf(command, sizeof command, "dot -Tsvg '%s' >'%s.svg' 2>'%s.err' && ! test -s '%s.err'", path, path,
             path, path);
    assert_int_equal(system(command), 0);
    exporter_close(&exporter);
}

static void test_export_refuses_what_it_should(void **state)
{
    struct exporter exporter;
    char path[128];
    (void)state;
    exporter_open(&exporter);
    struct wire *wire = exporter.fixture.wire;
    static const char *const bad[] = {"", ".hidden", "..", "a/b", "/etc/passwd", "a\\u0000b"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        char line[160];
        snprintf(line, sizeof line, "{'id':1,'method':'heap.export','params':['dot','%s']}", bad[i]);
        wire_expect(wire, line, "{'id':1,'error':<error invalid_params {\"param\":\"path\"}>}");
    }
    wire_expect(wire, "{'id':1,'method':'heap.export','params':['png','a']}",
                "{'id':1,'error':<error invalid_params {\"param\":\"format\"}>}");
    export_to(&exporter, "dot", "a.dot", path);
    wire_expect(wire, "{'id':1,'method':'heap.export','params':['dot','a.dot']}",
                "{'id':1,'error':<error value_error>}");
    exporter_close(&exporter);
}

static void test_export_needs_a_folder(void **state)
{
    const struct fixture *fixture = *state;
    wire_expect(fixture->wire, "{'id':1,'method':'heap.export','params':['dot','a.dot']}",
                "{'id':1,'error':<error forbidden>}");
    wire_expect(fixture->wire, "{'id':1,'method':'heap.export','params':['dot','../a']}",
                "{'id':1,'error':<error forbidden>}");
}

/* The file system gives out in the middle: a clear error, nothing left behind, and the daemon goes on. */
static void test_export_survives_a_full_disk(void **state)
{
    struct exporter exporter;
    char path[128];
    struct stat file;
    (void)state;
    exporter_open(&exporter);
    struct wire *wire = exporter.fixture.wire;
    struct rlimit limit = {1000, 1000};
    plant(wire);
    if (prlimit(exporter.fixture.daemon->pid, RLIMIT_FSIZE, &limit, NULL) != 0) {
        print_message("skipped: the size of the daemon's files cannot be limited here\n");
        exporter_close(&exporter);
        skip();
    }
    wire_expect(wire, "{'id':1,'method':'heap.export','params':['heapsnapshot','a']}",
                "{'id':1,'error':<error value_error>}");
    snprintf(path, sizeof path, "%s/a", exporter.folder);
    assert_int_not_equal(stat(path, &file), 0);
    wire_expect(wire, "{'id':2,'method':'ping'}", "{'id':2,'result':'pong'}");
    exporter_close(&exporter);
}

/* Who asked is gone in the middle: a file that has its name is whole, and nothing else is there. */
static void test_export_given_up(void **state)
{
    struct exporter exporter;
    char path[128];
    (void)state;
    exporter_open(&exporter);
    json_t *j_params = json_pack("{s:[], s:s}", "value", "name", "floats");
    for (int i = 0; i < FLOATS; i++) {
        json_array_append_new(json_object_get(j_params, "value"), json_real(i + 0.5));
    }
    json_decref(wire_call(exporter.fixture.wire, "create", j_params));
    for (int i = 0; i < 5; i++) {
        char line[128];
        struct wire *other = wire_open(exporter.fixture.daemon);
        snprintf(line, sizeof line,
                 "{\"id\":1,\"method\":\"heap.export\",\"params\":[\"heapsnapshot\",\"gone%d\"]}\n", i);
        wire_send_text(other, line);
        usleep((useconds_t)i * 5000);
        wire_reset(other);
    }
    export_to(&exporter, "heapsnapshot", "stayed", path);
    json_decref(load_snapshot(path));
    for (int i = 0; i < 5; i++) {
        snprintf(path, sizeof path, "%s/gone%d", exporter.folder, i);
        if (access(path, F_OK) == 0) {
            json_decref(load_snapshot(path));
        }
    }
    exporter_close(&exporter);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_export_heapsnapshot_is_what_the_heap_is),
        cmocka_unit_test(test_export_heapsnapshot_has_texts),
        cmocka_unit_test(test_export_ids_stay),
        cmocka_unit_test(test_export_ids_are_not_used_again),
        cmocka_unit_test(test_export_many_names),
        cmocka_unit_test(test_export_jsonl_has_every_reference),
        cmocka_unit_test(test_export_jsonl_is_loaded_again),
        cmocka_unit_test(test_export_dot_is_drawn),
        cmocka_unit_test(test_export_refuses_what_it_should),
        fixture_test(test_export_needs_a_folder),
        cmocka_unit_test(test_export_survives_a_full_disk),
        cmocka_unit_test(test_export_given_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
