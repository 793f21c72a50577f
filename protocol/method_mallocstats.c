/* method_mallocstats.c -- sys.debugmallocstats: what the allocator has, as tables for a person.
 *
 * In the order and words of CPython's sys._debugmallocstats(), as far as there is the same to tell, and below
 * that how blocks and objects account for each other.  Three sums are printed from their parts, and are what
 * the headings above them say:
 *
 *   arenas    blocks in use + available + free pools + what pools cannot use = arenas * 1 MiB
 *   memory    arenas + raw blocks + tables                                   = what max-memory counts
 *   objects   objects + immortals - their ids' entries, which lie in tables  = blocks in use + raw blocks
 *
 * All figures are of one moment: the GIL is held while they are read.
 */
#include "method_handlers.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define POOL_BYTES 16384u /* of a pool, all blocks */
#define CLASS_COUNT 32

/* Text and commas of a number below 2^64. */
#define NUMBER_BYTES 32

/* 1234567 as `1,234,567`. */
static const char *grouped(char text[NUMBER_BYTES], uint64_t value)
{
    char digits[NUMBER_BYTES];
    int len = snprintf(digits, sizeof(digits), "%" PRIu64, value);
    size_t at = 0;
    for (int i = 0; i < len; i++) {
        if (i > 0 && (len - i) % 3 == 0) {
            text[at++] = ',';
        }
        text[at++] = digits[i];
    }
    text[at] = '\0';
    return text;
}

/* `what = 1,234   meaning`; the meaning may be left out. */
static void write_line(FILE *page, const char *what, uint64_t value, const char *meaning)
{
    char number[NUMBER_BYTES];
    fprintf(page, "%-34s = %20s%s%s\n", what, grouped(number, value), *meaning != '\0' ? "   " : "", meaning);
}

/* The same, with a count in front: `12 unused pools * 16384 bytes = ..`. */
static void write_product(FILE *page, uint64_t count, const char *what, uint64_t bytes, const char *meaning)
{
    char label[96];
    snprintf(label, sizeof(label), "%" PRIu64 " %s", count, what);
    write_line(page, label, bytes, meaning);
}

/* ---- size classes ---- */

static void write_classes(FILE *page, const struct heap_stats *stats)
{
    uint64_t available = 0;
    fprintf(page, "Small block threshold = 512, in %d size classes.\n\n", CLASS_COUNT);
    fputs("class   size   num pools   blocks in use   avail blocks\n"
          "-----   ----   ---------   -------------   ------------\n",
          page);
    for (int i = 0; i < CLASS_COUNT; i++) {
        const struct heap_class_figures *class = &stats->classes[i];
        available += class->free;
        if (class->pools > 0) {
            fprintf(page, "%5d %6" PRIu32 " %11" PRIu64 " %15" PRIu64 " %14" PRIu64 "\n", i, class->size, class->pools,
                    class->blocks, class->free);
        }
    }
    fprintf(page, "  sum        %11" PRIu64 " %15" PRIu64 " %14" PRIu64 "\n\n", stats->pools, stats->blocks,
            available);
}

/* ---- arenas ---- */

static void write_arenas(FILE *page, const struct heap_stats *stats)
{
    uint64_t available = 0, quantization = 0;
    for (int i = 0; i < CLASS_COUNT; i++) {
        const struct heap_class_figures *class = &stats->classes[i];
        available += class->free * class->size;
        quantization += class->pools * (POOL_BYTES % class->size);
    }
    write_line(page, "# arenas allocated total", stats->arenas_total, "mapped since the start");
    write_line(page, "# arenas reclaimed", stats->arenas_reclaimed, "of these, given back to the kernel");
    write_line(page, "# arenas highwater mark", stats->arenas_highwater, "the most at one time");
    write_line(page, "# arenas allocated current", stats->arenas, "");
    write_product(page, stats->arenas, "arenas * 1048576 bytes/arena", stats->arena_bytes, "");
    fputc('\n', page);
    uint64_t unused = stats->pools_free * POOL_BYTES;
    write_line(page, "# bytes in allocated blocks", stats->block_bytes, "blocks in use * their sizes");
    write_line(page, "# bytes in available blocks", available, "free ones of pools that have a class");
    write_product(page, stats->pools_free, "unused pools * 16384 bytes", unused, "pools without a class");
    write_line(page, "# bytes lost to pool headers", 0, "they lie outside of the arenas");
    write_line(page, "# bytes lost to quantization", quantization, "the rest of a pool behind its last block");
    write_line(page, "# bytes lost to arena alignment", 0, "arenas are aligned");
    write_line(page, "Total", stats->block_bytes + available + unused + quantization, "all arenas");
    fputc('\n', page);
}

/* ---- memory ---- */

static void write_memory(FILE *page, const struct heap_stats *stats)
{
    write_product(page, stats->arenas, "arenas", stats->arena_bytes, "blocks of up to 512 bytes");
    write_product(page, stats->raw_blocks, "raw blocks", stats->raw_bytes, "larger ones, from malloc, as it rounds them");
    write_line(page, "# bytes in tables", stats->table_bytes, "ids, names, holds, shapes and the like, from malloc");
    write_line(page, "Total", stats->arena_bytes + stats->raw_bytes + stats->table_bytes,
               "what max-memory counts");
    fputc('\n', page);
}

/* ---- objects ---- */

static void write_objects(FILE *page, const struct heap_stats *stats)
{
    fputs("type           objects                  bytes\n"
          "---------   ----------   --------------------\n",
          page);
    for (enum heap_type type = 0; type < HEAP_T_COUNT; type++) {
        char bytes[NUMBER_BYTES];
        if (stats->type_objects[type] > 0) {
            fprintf(page, "%-9s %12" PRIu64 " %22s\n", heap_builtin_name(type), stats->type_objects[type],
                    grouped(bytes, stats->type_bytes[type]));
        }
    }
    char bytes[NUMBER_BYTES];
    fprintf(page, "%-9s %12" PRIu64 " %22s\n\n", "sum", stats->live, grouped(bytes, stats->bytes));
    uint64_t ids = stats->ids * HEAP_ID_BYTES, total = stats->bytes + stats->immortal_bytes - ids;
    write_product(page, stats->live, "objects", stats->bytes, "as above, with their ids' entries");
    write_product(page, stats->immortal, "immortal objects", stats->immortal_bytes, "which count nowhere above");
    write_product(page, stats->ids, "ids * 16 bytes, subtracted", ids, "their entries lie in tables");
    write_line(page, "Total", total, "allocated blocks and raw blocks");
}

/* ---- the method ---- */

bool method_sys_debugmallocstats(struct call *call)
{
    struct heap_stats stats;
    char *text = NULL;
    size_t len;
    FILE *page = open_memstream(&text, &len);
    if (page == NULL) {
        return call_fail(call, HEAP_MEMORY);
    }
    heap_stats(&stats, call->heap);
    write_classes(page, &stats);
    write_arenas(page, &stats);
    write_memory(page, &stats);
    write_objects(page, &stats);
    bool is_whole = fclose(page) == 0;
    if (is_whole) {
        out_json_string(call->out, text, len);
    }
    free(text);
    return is_whole ? call_output_ok(call) : call_fail(call, HEAP_MEMORY);
}
