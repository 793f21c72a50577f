/* graph.c -- the graphs of graph.h: a random one, and one read from a file.
 *
 * Two passes over the text of the file: the first line says how many nodes there are, and the edges are
 * counted by their commas at most, so the arrays are made once, large enough.
 * Machines with the other byte order are not supported: the crc would differ from Python's.
 */
#include "graph.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

static const char *const kind_name[GRAPH_KIND_COUNT] = {
    [GRAPH_NONE] = "none", [GRAPH_BOOL] = "bool",   [GRAPH_INT] = "int",       [GRAPH_FLOAT] = "float",
    [GRAPH_STR] = "str",   [GRAPH_BYTES] = "bytes", [GRAPH_LIST] = "list",     [GRAPH_TUPLE] = "tuple",
    [GRAPH_DICT] = "dict", [GRAPH_SET] = "set",     [GRAPH_OBJECT] = "object",
};

__attribute__((noreturn)) static void die(const char *path, const char *what)
{
    fprintf(stderr, "graph: %s: %s\n", path, what);
    exit(1);
}

static void *must_alloc(size_t count, size_t size)
{
    void *memory = calloc(count, size);
    if (memory == NULL) {
        die("graph", "no memory");
    }
    return memory;
}

static void graph_alloc(struct graph *graph, uint32_t n, uint32_t edges, uint32_t roots)
{
    *graph = (struct graph){
        .n = n,
        .edges = edges,
        .roots = roots,
        .kind = must_alloc(n, sizeof *graph->kind),
        .start = must_alloc((size_t)n + 1, sizeof *graph->start),
        .bytes = must_alloc(n, sizeof *graph->bytes),
        .edge = must_alloc(edges, sizeof *graph->edge),
        .root = must_alloc(roots, sizeof *graph->root),
    };
}

void graph_free(struct graph *graph)
{
    free(graph->kind);
    free(graph->start);
    free(graph->bytes);
    free(graph->edge);
    free(graph->root);
    *graph = (struct graph){0};
}

/* ---- random ---- */

/* Knuth's linear congruential generator; its upper half is random enough for edges.  0 <= result < n. */
static uint32_t random_below(uint64_t *state, uint32_t n)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)((*state >> 32) * n >> 32);
}

void graph_random(struct graph *graph, uint32_t n, uint64_t seed)
{
    uint64_t state = seed;
    graph_alloc(graph, n, 2 * n, n);
    for (uint32_t i = 0; i < n; i++) {
        graph->kind[i] = GRAPH_LIST;
        graph->start[i] = 2 * i;
        graph->root[i] = i;
    }
    graph->start[n] = 2 * n;
    for (uint32_t j = 0; j < 2 * n; j++) {
        uint32_t other = random_below(&state, n - 1);
        graph->edge[j] = other + (other >= j / 2); /* not itself */
    }
}

/* ---- from a file ---- */

/* The whole text, unpacked, a NUL after it. */
static char *read_unpacked(const char *path)
{
    gzFile file = gzopen(path, "rb");
    size_t room = 1 << 20, len = 0;
    char *text = must_alloc(1, room);
    if (file == NULL) {
        die(path, "cannot be opened");
    }
    for (;;) {
        int n = gzread(file, text + len, (unsigned)(room - len - 1));
        if (n < 0) {
            die(path, "cannot be unpacked");
        }
        len += (size_t)n;
        if (n == 0) {
            break;
        }
        if (room - len < room / 2) {
            room *= 2;
            text = realloc(text, room);
            if (text == NULL) {
                die(path, "no memory");
            }
        }
    }
    gzclose(file);
    text[len] = 0;
    return text;
}

/* Reads `[1,2,3]` at *at into out, and moves *at behind it.  Returns how many there were. */
static uint32_t read_numbers(const char *path, const char **at, uint32_t *out, uint32_t room, uint32_t below)
{
    uint32_t count = 0;
    const char *p = *at;
    if (*p++ != '[') {
        die(path, "a list is missing");
    }
    while (*p != ']') {
        char *end;
        unsigned long value = strtoul(p, &end, 10);
        if (end == p || value >= below || count == room) {
            die(path, "a list has something else than indexes in it");
        }
        out[count++] = (uint32_t)value;
        p = end + strspn(end, ", ");
    }
    *at = p + 1;
    return count;
}

static uint32_t count_char(const char *text, char wanted)
{
    uint32_t count = 0;
    for (const char *at = text; (at = strchr(at, wanted)) != NULL; at++) {
        count++;
    }
    return count;
}

/* Reads `["kind",bytes,[..]]` at *at as node i and moves *at to the next line. */
static void read_node(struct graph *graph, uint32_t i, const char *path, const char **at, uint32_t room)
{
    const char *name = *at + 2;
    const char *quote = strncmp(*at, "[\"", 2) == 0 ? strchr(name, '"') : NULL;
    const char *list = quote != NULL ? strchr(quote, '[') : NULL;
    unsigned kind = 0;
    if (list == NULL || strtoul(quote + 2, NULL, 10) == 0) {
        die(path, "a line is no node");
    }
    size_t len = (size_t)(quote - name);
    while (kind < GRAPH_KIND_COUNT &&
           (strlen(kind_name[kind]) != len || memcmp(kind_name[kind], name, len) != 0)) {
        kind++;
    }
    if (kind == GRAPH_KIND_COUNT) {
        die(path, "a kind is not known");
    }
    graph->kind[i] = (uint8_t)kind;
    graph->start[i] = graph->edges;
    graph->bytes[i] = (uint32_t)strtoul(quote + 2, NULL, 10);
    graph->edges += read_numbers(path, &list, graph->edge + graph->edges, room - graph->edges, graph->n);
    const char *newline = strchr(list, '\n');
    *at = newline != NULL ? newline + 1 : list + strlen(list);
}

void graph_read(struct graph *graph, const char *path)
{
    char *text = read_unpacked(path);
    const char *objects = strstr(text, "\"objects\":");
    const char *roots = strstr(text, "\"roots\":");
    const char *at = strchr(text, '\n');
    if (objects == NULL || roots == NULL || at == NULL || roots > at) {
        die(path, "the first line does not name objects and roots");
    }
    uint32_t n = (uint32_t)strtoul(objects + strlen("\"objects\":"), NULL, 10);
    uint32_t room = count_char(text, ',') + 1;
    graph_alloc(graph, n, room, room);
    roots += strcspn(roots, "[");
    graph->roots = read_numbers(path, &roots, graph->root, room, n);
    graph->edges = 0;
    at++;
    for (uint32_t i = 0; i < n; i++) {
        read_node(graph, i, path, &at, room);
    }
    graph->start[n] = graph->edges;
    free(text);
}

/* ---- figures ---- */

uint32_t graph_containers(const struct graph *graph)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < graph->n; i++) {
        count += graph->kind[i] >= GRAPH_LIST;
    }
    return count;
}

uint32_t graph_crc(const struct graph *graph)
{
    uLong crc = crc32(0, NULL, 0);
    crc = crc32_z(crc, graph->kind, graph->n);
    crc = crc32_z(crc, (const Bytef *)graph->start, ((size_t)graph->n + 1) * sizeof *graph->start);
    crc = crc32_z(crc, (const Bytef *)graph->edge, (size_t)graph->edges * sizeof *graph->edge);
    return (uint32_t)crc32_z(crc, (const Bytef *)graph->root, (size_t)graph->roots * sizeof *graph->root);
}
