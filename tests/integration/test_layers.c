/* test_layers.c -- the memory figures of one daemon agree with each other, from objects down to the kernel's pages.
 *
 *   3 object-specific  == sum of the types == sum of sys.getsizeof over all objects
 *        |  objects + immortals - 16 bytes an id == blocks + raw blocks: an id's entry counts in its object's
 *        |  size but lies in a table, and immortals count nowhere
 *   2 pymalloc         == sum of blocks * size over the classes of stats allocator == the same over heap.map
 *   1 raw              == raw_bytes and raw_blocks of stats allocator
 *        |  arenas * 1 MiB == pools in use + free pools; a pool == its blocks, free blocks and a rest
 *   0 malloc           >= raw + tables
 *  -1 virtual          == the size in /proc/PID/statm, and the lines of /proc/PID/maps
 *  -2 resident         == the resident pages in /proc/PID/statm
 *
 * All of it to the byte but one line.  malloc's own figure cannot agree with raw + tables: libuv, jansson, the
 * connections' buffers and the C library itself also use malloc, and blocks that it maps one by one are whole
 * pages; so it may only not be less.  For the same reason the layers below 0 are compared with the kernel's
 * figures and not with a sum.  The kernel's figures move while a process works: they are compared when they were
 * the same before and after the daemon told its own.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "../support/fixture.h"
#include "../support/process.h"

#define ARENA_BYTES 1048576
#define POOL_BYTES 16384
#define ID_BYTES 16

/* ---- reading figures ---- */

static int64_t int_of(const json_t *j_object, const char *name)
{
    const json_t *j_value = json_object_get(j_object, name);
    if (!json_is_integer(j_value)) {
        fail_msg("%s is no int", name);
    }
    return json_integer_value(j_value);
}

/* A row of stats layers, borrowed. */
static const json_t *layer(const json_t *j_layers, const char *name)
{
    size_t i;
    json_t *j_layer;
    json_array_foreach((json_t *)(uintptr_t)j_layers, i, j_layer)
    {
        if (strcmp(json_string_value(json_object_get(j_layer, "name")), name) == 0) {
            return j_layer;
        }
    }
    fail_msg("there is no layer %s", name);
    return NULL;
}

/* The int behind ` = ` in the first line of debugmallocstats, from `text` on, that has `what` in front of it. */
static int64_t line_of(const char *text, const char *what)
{
    const char *line = strstr(text, what);
    const char *equals = line == NULL ? NULL : strchr(line, '=');
    if (equals == NULL) {
        fail_msg("no line %s", what);
        return 0;
    }
    int64_t value = 0;
    for (const char *p = equals + 1 + strspn(equals + 1, " "); (*p >= '0' && *p <= '9') || *p == ','; p++) {
        value = *p == ',' ? value : value * 10 + (*p - '0');
    }
    return value;
}

/* ---- a heap to look at ---- */

/* Names of what fill() makes, each with an id; what hangs below has none. */
static const char *const ROOTS[] = {"strs", "ints", "dict", "sets", "tuples", "class", "slots", "instances"};
#define ROOT_COUNT (sizeof ROOTS / sizeof *ROOTS)

static void create(struct wire *wire, const char *name, json_t *j_value)
{
    json_decref(wire_callf(wire, "create", "[o,s]", j_value, name));
}

/* Objects of every type, blocks of many classes and raw blocks, with holes between them. */
static void fill(struct wire *wire)
{
    json_t *j_strs = json_array(), *j_ints = json_array(), *j_dict = json_object(), *j_sets = json_array();
    json_t *j_tuples = json_array(), *j_instances = json_array();
    char text[3100];
    memset(text, 'x', sizeof text);
    for (int i = 0; i < 3000; i++) {
        json_array_append_new(j_strs, json_stringn(text, 2 + (size_t)i));
        json_array_append_new(j_ints, json_integer(1000 + i));
        char key[32];
        snprintf(key, sizeof key, "key %d", i);
        json_object_set_new(j_dict, key, json_pack("[f,{}]", i / 8.0));
        json_array_append_new(j_sets, json_pack("{s:[i,i,s]}", i % 2 == 0 ? "$set" : "$frozenset", i, i + 1, key));
        json_array_append_new(j_tuples, json_pack("{s:[i,[]]}", "$tuple", i));
        json_array_append_new(j_instances, json_pack("{s:s,s:{s:i,s:i}}", "$instance", i % 2 == 0 ? "class" : "slots",
                                                     "attrs", "x", i, "y", 300 + i));
    }
    create(wire, "strs", j_strs);
    create(wire, "ints", j_ints);
    create(wire, "dict", j_dict);
    create(wire, "sets", j_sets);
    create(wire, "tuples", j_tuples);
    create(wire, "class", json_pack("{s:s}", "$class", "Plain"));
    create(wire, "slots", json_pack("{s:s,s:[s,s]}", "$class", "Slotted", "slots", "x", "y"));
    create(wire, "instances", j_instances);
    for (int i = 2998; i >= 0; i -= 3) { /* holes */
        json_decref(wire_callf(wire, "list.delitem", "[s,i]", "strs", i));
        json_decref(wire_callf(wire, "list.delitem", "[s,i]", "instances", i));
    }
}

/* ---- objects ---- */

static void check_objects(const json_t *j_stats)
{
    const json_t *j_objects = json_object_get(j_stats, "objects");
    const json_t *j_layer = layer(json_object_get(j_stats, "layers"), "object-specific");
    int64_t objects = 0, bytes = 0;
    size_t i;
    json_t *j_type;
    json_array_foreach(json_object_get(j_objects, "types"), i, j_type)
    {
        objects += int_of(j_type, "objects");
        bytes += int_of(j_type, "bytes");
    }
    assert_int_equal(int_of(j_objects, "live"), objects);
    assert_int_equal(int_of(j_objects, "bytes"), bytes);
    assert_int_equal(int_of(j_objects, "created") - int_of(j_objects, "freed"), objects);
    assert_int_equal(int_of(j_layer, "bytes"), bytes);
    assert_int_equal(int_of(j_layer, "count"), objects);
}

/* ---- blocks, pools, arenas ---- */

/* Bytes of blocks in use over the classes; checks each class. */
static int64_t check_classes(const json_t *j_allocator)
{
    int64_t pools = 0, blocks = 0, bytes = 0;
    size_t i;
    json_t *j_class, *j_classes = json_object_get(j_allocator, "classes");
    assert_int_equal(json_array_size(j_classes), 32);
    json_array_foreach(j_classes, i, j_class)
    {
        int64_t size = int_of(j_class, "size");
        assert_int_equal(size, (int64_t)(i + 1) * 16);
        assert_int_equal(int_of(j_class, "blocks") + int_of(j_class, "free"),
                         int_of(j_class, "pools") * (POOL_BYTES / size));
        pools += int_of(j_class, "pools");
        blocks += int_of(j_class, "blocks");
        bytes += int_of(j_class, "blocks") * size;
    }
    assert_int_equal(int_of(j_allocator, "pools"), pools);
    assert_int_equal(int_of(j_allocator, "blocks"), blocks);
    return bytes;
}

static void check_allocator(const json_t *j_stats)
{
    const json_t *j_allocator = json_object_get(j_stats, "allocator"), *j_layers = json_object_get(j_stats, "layers");
    const json_t *j_blocks = layer(j_layers, "pymalloc"), *j_raw = layer(j_layers, "raw");
    assert_int_equal(int_of(j_blocks, "bytes"), check_classes(j_allocator));
    assert_int_equal(int_of(j_blocks, "count"), int_of(j_allocator, "blocks"));
    assert_int_equal(int_of(j_raw, "bytes"), int_of(j_allocator, "raw_bytes"));
    assert_int_equal(int_of(j_raw, "count"), int_of(j_allocator, "raw_blocks"));
    int64_t arena_bytes = int_of(j_allocator, "arena_bytes");
    assert_int_equal(arena_bytes, int_of(j_allocator, "arenas") * ARENA_BYTES);
    assert_int_equal(arena_bytes, int_of(j_allocator, "pool_bytes") + int_of(j_allocator, "pools_free") * POOL_BYTES);
    assert_int_equal(int_of(j_allocator, "pool_bytes"), int_of(j_allocator, "pools") * POOL_BYTES);
    assert_int_equal(int_of(j_allocator, "arenas_total") - int_of(j_allocator, "arenas_reclaimed"),
                     int_of(j_allocator, "arenas"));
    assert_true(int_of(j_allocator, "arenas_highwater") >= int_of(j_allocator, "arenas"));
}

/* What heap.map adds up to. */
struct map_sums {
    int64_t arenas, bytes, pools, pools_free, blocks, block_bytes;
};

static void add_arena(struct map_sums *sums, const json_t *j_arena)
{
    size_t i;
    json_t *j_pool;
    sums->arenas++;
    sums->bytes += int_of(j_arena, "bytes");
    json_array_foreach(json_object_get(j_arena, "pools"), i, j_pool)
    {
        int64_t size = int_of(j_pool, "size"), used = int_of(j_pool, "used");
        sums->pools += size > 0;
        sums->pools_free += size == 0;
        sums->blocks += used;
        sums->block_bytes += used * size;
        assert_int_equal(int_of(j_pool, "capacity"), size == 0 ? 0 : POOL_BYTES / size);
        assert_true(used <= int_of(j_pool, "capacity"));
    }
}

/* The same, a page of two arenas at a time. */
static void check_map(struct wire *wire, const json_t *j_stats)
{
    const json_t *j_allocator = json_object_get(j_stats, "allocator");
    struct map_sums sums = {0};
    json_t *j_after = json_null();
    while (j_after != NULL) {
        json_t *j_page = wire_callf(wire, "heap.map", "{s:i,s:O}", "limit", 2, "after", j_after), *j_arena;
        size_t i;
        json_array_foreach(json_object_get(j_page, "arenas"), i, j_arena)
        {
            add_arena(&sums, j_arena);
        }
        json_decref(j_after);
        json_t *j_next = json_object_get(j_page, "next");
        j_after = json_is_null(j_next) ? NULL : json_incref(j_next);
        json_decref(j_page);
    }
    assert_int_equal(sums.arenas, int_of(j_allocator, "arenas"));
    assert_int_equal(sums.bytes, int_of(j_allocator, "arena_bytes"));
    assert_int_equal(sums.pools, int_of(j_allocator, "pools"));
    assert_int_equal(sums.pools_free, int_of(j_allocator, "pools_free"));
    assert_int_equal(sums.blocks, int_of(j_allocator, "blocks"));
    assert_int_equal(sums.block_bytes, int_of(layer(json_object_get(j_stats, "layers"), "pymalloc"), "bytes"));
}

/* ---- sys.debugmallocstats ---- */

/* Its own sums, and that it says what stats says. */
static void check_tables(const char *text, const json_t *j_stats, int64_t ids)
{
    const json_t *j_allocator = json_object_get(j_stats, "allocator"), *j_objects = json_object_get(j_stats, "objects");
    const json_t *j_layers = json_object_get(j_stats, "layers");
    int64_t blocks = line_of(text, "# bytes in allocated blocks");
    assert_int_equal(blocks, int_of(layer(j_layers, "pymalloc"), "bytes"));
    assert_int_equal(line_of(text, "# arenas allocated total"), int_of(j_allocator, "arenas_total"));
    assert_int_equal(line_of(text, "# arenas reclaimed"), int_of(j_allocator, "arenas_reclaimed"));
    assert_int_equal(line_of(text, "# arenas highwater mark"), int_of(j_allocator, "arenas_highwater"));
    assert_int_equal(line_of(text, "# arenas allocated current"), int_of(j_allocator, "arenas"));
    int64_t unused = line_of(text, "unused pools * 16384 bytes");
    assert_int_equal(unused, int_of(j_allocator, "pools_free") * POOL_BYTES);

    int64_t arenas = blocks + line_of(text, "# bytes in available blocks") + unused +
                     line_of(text, "# bytes lost to pool headers") + line_of(text, "# bytes lost to quantization") +
                     line_of(text, "# bytes lost to arena alignment");
    const char *total = strstr(text, "Total");
    assert_int_equal(arenas, int_of(j_allocator, "arena_bytes"));
    assert_int_equal(line_of(total, "Total"), arenas);
    assert_int_equal(line_of(text, "arenas * 1048576 bytes/arena"), arenas);

    int64_t raw = line_of(total, "raw blocks"), tables = line_of(total, "# bytes in tables");
    assert_int_equal(raw, int_of(j_allocator, "raw_bytes"));
    total = strstr(total + 1, "Total");
    assert_int_equal(line_of(total, "Total"), arenas + raw + tables);

    total = strstr(total, "\nsum ");
    int64_t objects = line_of(total, " objects "), immortals = line_of(total, " immortal objects");
    int64_t entries = line_of(total, "ids * 16 bytes, subtracted");
    assert_int_equal(objects, int_of(j_objects, "bytes"));
    assert_int_equal(entries, ids * ID_BYTES);
    total = strstr(total + 1, "Total");
    assert_int_equal(line_of(total, "Total"), blocks + raw);
    assert_int_equal(objects + immortals - entries, blocks + raw);
    int64_t in_malloc = int_of(layer(j_layers, "malloc"), "bytes");
    if (in_malloc > 0) { /* a sanitizer's malloc tells nothing */
        assert_true(in_malloc >= raw + tables);
    }
}

/* ---- the tests ---- */

static void test_layers_agree_from_objects_to_arenas(void **state)
{
    struct wire *wire = ((struct fixture *)*state)->wire;
    json_t *j_fresh = wire_callf(wire, "stats", "[s]", "layers");
    int64_t immortal_bytes = int_of(layer(j_fresh, "pymalloc"), "bytes");
    assert_int_equal(int_of(layer(j_fresh, "object-specific"), "bytes"), 0);
    json_decref(j_fresh);
    fill(wire);
    for (size_t left = ROOT_COUNT; left > 0; left--) {
        json_t *j_stats = wire_callf(wire, "stats", NULL), *j_layers = json_object_get(j_stats, "layers");
        check_objects(j_stats);
        check_allocator(j_stats);
        check_map(wire, j_stats);
        assert_int_equal(int_of(layer(j_layers, "object-specific"), "bytes") + immortal_bytes -
                             (int64_t)left * ID_BYTES,
                         int_of(layer(j_layers, "pymalloc"), "bytes") + int_of(layer(j_layers, "raw"), "bytes"));
        json_t *j_text = wire_callf(wire, "sys.debugmallocstats", NULL);
        assert_non_null(strstr(json_string_value(j_text), "Small block threshold = 512, in 32 size classes."));
        check_tables(json_string_value(j_text), j_stats, (int64_t)left);
        json_decref(j_text);
        json_decref(j_stats);
        /* From the end, so that classes go after their instances, and have ids of their own. */
        json_decref(wire_callf(wire, "name.unbind", "[s]", ROOTS[left - 1]));
    }
}

/* Every object's own size, found by following edges from what the collector tracks. */
static void test_layers_objects_are_the_sum_of_their_sizes(void **state)
{
    struct wire *wire = ((struct fixture *)*state)->wire;
    create(wire, "a", json_pack("[[f,s,i],{s:[],s:{s:[i,s]}},{s:s}]", 2.5, "some text", 1000000, "key one", "key two",
                                "$set", 70000, "member", "$bytes", "AAECAwQF"));
    create(wire, "b", json_pack("{s:[{s:s}]}", "$tuple", "$class", "C"));
    create(wire, "c", json_pack("{s:s}", "$weakref", "a"));
    json_t *j_seen = json_object(), *j_page = wire_callf(wire, "gc.get_objects", NULL), *j_id;
    json_t *j_work = json_deep_copy(json_object_get(j_page, "objects"));
    json_decref(j_page);
    int64_t objects = 0, bytes = 0;
    for (size_t at = 0; at < json_array_size(j_work); at++) {
        char key[32];
        snprintf(key, sizeof key, "%lld", (long long)json_integer_value(json_array_get(j_work, at)));
        if (json_object_get(j_seen, key) != NULL) {
            continue;
        }
        json_object_set_new(j_seen, key, json_true());
        json_t *j_more = wire_callf(wire, "gc.get_referents", "[O]", json_array_get(j_work, at));
        size_t i;
        json_array_foreach(json_object_get(j_more, "objects"), i, j_id)
        {
            json_array_append(j_work, j_id);
        }
        json_decref(j_more);
    }
    size_t n = json_array_size(j_work);
    json_object_clear(j_seen);
    for (size_t at = 0; at < n; at++) {
        char key[32];
        json_t *j_object = json_array_get(j_work, at);
        snprintf(key, sizeof key, "%lld", (long long)json_integer_value(j_object));
        json_t *j_refcount = wire_callf(wire, "sys.getrefcount", "[O]", j_object);
        bool counts = json_integer_value(j_refcount) != 4294967295 && json_object_get(j_seen, key) == NULL;
        json_decref(j_refcount);
        if (counts) {
            json_t *j_size = wire_callf(wire, "sys.getsizeof", "[O]", j_object);
            bytes += json_integer_value(j_size);
            objects++;
            json_decref(j_size);
        }
        json_object_set_new(j_seen, key, json_true());
    }
    assert_int_equal(wire_stat(wire, "objects", "live"), objects);
    assert_int_equal(wire_stat(wire, "objects", "bytes"), bytes);
    json_decref(j_work);
    json_decref(j_seen);
}

/* ---- the process ---- */

struct kernel_figures {
    long long virtual_pages, resident_pages;
    long long mappings;
};

/* A file of the daemon's in /proc, which has no length beforehand. */
static FILE *open_proc(const struct daemon *daemon, const char *name)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/%s", (int)daemon->pid, name);
    FILE *file = fopen(path, "re");
    assert_non_null(file);
    return file;
}

static struct kernel_figures kernel_figures(const struct daemon *daemon)
{
    struct kernel_figures figures = {0};
    FILE *statm = open_proc(daemon, "statm"), *maps = open_proc(daemon, "maps");
    assert_int_equal(fscanf(statm, "%lld %lld", &figures.virtual_pages, &figures.resident_pages), 2);
    for (int c = getc(maps); c != EOF; c = getc(maps)) {
        figures.mappings += c == '\n';
    }
    fclose(statm);
    fclose(maps);
    return figures;
}

static void test_layers_end_at_the_kernels_own_figures(void **state)
{
    struct fixture *fixture = *state;
    if (daemon_is_elsewhere()) {
        print_message("skipped: the daemon runs elsewhere, and its process cannot be looked into\n");
        skip();
    }
    fill(fixture->wire);
    int64_t page_bytes = sysconf(_SC_PAGESIZE);
    bool is_sanitized = false;
    for (int attempt = 0; attempt < 200; attempt++) {
        struct kernel_figures before = kernel_figures(fixture->daemon);
        json_t *j_layers = wire_callf(fixture->wire, "stats", "[s]", "layers");
        struct kernel_figures after = kernel_figures(fixture->daemon);
        bool is_quiet = memcmp(&before, &after, sizeof before) == 0;
        if (is_quiet) {
            const json_t *j_virtual = layer(j_layers, "virtual"), *j_resident = layer(j_layers, "resident");
            assert_int_equal(int_of(j_virtual, "bytes"), after.virtual_pages * page_bytes);
            assert_int_equal(int_of(j_virtual, "count"), after.mappings);
            assert_int_equal(int_of(j_resident, "bytes"), after.resident_pages * page_bytes);
            assert_int_equal(int_of(j_resident, "count"), after.resident_pages);
            assert_true(int_of(j_virtual, "bytes") >= int_of(layer(j_layers, "raw"), "bytes"));
        }
        is_sanitized = int_of(layer(j_layers, "malloc"), "bytes") == 0;
        json_decref(j_layers);
        if (is_quiet) {
            return;
        }
    }
    if (is_sanitized) {
        print_message("skipped: a sanitizer keeps what was freed for a while, so each request takes new pages\n");
        skip();
    }
    fail_msg("the daemon's pages never stood still");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        fixture_test(test_layers_agree_from_objects_to_arenas),
        fixture_test(test_layers_objects_are_the_sum_of_their_sizes),
        fixture_test(test_layers_end_at_the_kernels_own_figures),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
