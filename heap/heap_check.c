/* heap_check.c -- the referee: recounts everything and compares.
 *
 *   for each live object   refcount == edges to it + entries of gc.garbage + roots of its handle
 *   for each handle        roots == holds of all sessions + names
 *   each edge              leads to a live object of a known type
 *   tracked                exactly the containers that must be
 *   totals                 live objects and bytes by type are what the counters say
 * and the checkers of arenas, pools, generations, tables, weakrefs, finalizers and shapes.
 *
 * Linear in the heap, with four bytes a granule of memory of its own (not counted against the limit).
 * Start at heap_check().
 */
#include "edges.h"

#include <stdarg.h>
#include <sys/mman.h>

#define PROBLEMS_MAX 100u

struct check {
    struct heap *heap;
    FILE *why;
    uint32_t problems;
    uint32_t *containers, *atoms; /* edges found, by granule of each half */
    uint32_t *roots;              /* holds and names found, by handle slot */
    size_t counts_bytes, roots_bytes;
    uint64_t type_objects[HEAP_T_COUNT], type_bytes[HEAP_T_COUNT];
};

__attribute__((format(printf, 2, 3))) static void problem(struct check *check, const char *format, ...)
{
    if (check->problems++ < PROBLEMS_MAX) {
        va_list args;
        va_start(args, format);
        vfprintf(check->why, format, args);
        va_end(args);
        fputc('\n', check->why);
    }
}

/* ---- memory ---- */

static void *counts_create(size_t bytes)
{
    void *counts = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return counts != MAP_FAILED ? counts : NULL;
}

static bool check_init(struct check *check)
{
    check->counts_bytes = check->heap->pm.half_bytes / GRANULE_BYTES * sizeof(uint32_t);
    check->roots_bytes = ((size_t)handle_count(check->heap) + 1) * sizeof(uint32_t);
    check->containers = counts_create(check->counts_bytes);
    check->atoms = counts_create(check->counts_bytes);
    check->roots = counts_create(check->roots_bytes);
    return check->containers != NULL && check->atoms != NULL && check->roots != NULL;
}

static void check_fini(struct check *check)
{
    if (check->containers != NULL) {
        munmap(check->containers, check->counts_bytes);
    }
    if (check->atoms != NULL) {
        munmap(check->atoms, check->counts_bytes);
    }
    if (check->roots != NULL) {
        munmap(check->roots, check->roots_bytes);
    }
}

static uint32_t *count_of(struct check *check, uint32_t ref)
{
    return ref_is_atom(ref) ? &check->atoms[ref & ~REF_ATOM] : &check->containers[ref];
}

/* ---- walking all objects ---- */

static void for_objects(struct check *check, enum pool_kind kind, void (*visit)(struct check *check, uint32_t ref))
{
    struct heap *heap = check->heap;
    uint32_t pool = 0, first;
    unsigned class;
    while (pymalloc_next_pool(&heap->pm, kind, &pool, &first, &class)) {
        for (uint32_t ref = first & ~63u; (ref ^ first) < 1024; ref += 64) {
            for (uint64_t bits = pymalloc_used_word(&heap->pm, ref); bits != 0; bits &= bits - 1) {
                visit(check, ref + (uint32_t)__builtin_ctzll(bits));
            }
        }
    }
}

static void count_edge(struct check *check, uint32_t from, uint32_t ref)
{
    if (ref == 0) {
        return;
    }
    uint64_t granule = ref_is_atom(ref) ? ref & ~REF_ATOM : ref;
    if (granule * GRANULE_BYTES >= check->heap->pm.half_bytes ||
        !pymalloc_is_block(&check->heap->pm, ref, ref_is_atom(ref) ? POOL_ATOM : POOL_CONTAINER)) {
        problem(check, "%#x refers to %#x, where no object lives", from, ref);
        return;
    }
    (*count_of(check, ref))++;
}

static void count_edges(struct check *check, uint32_t ref)
{
    const struct container *c = (const struct container *)object_at(check->heap, ref);
    if (c->head.type < HEAP_T_LIST || c->head.type >= HEAP_T_COUNT) {
        problem(check, "%#x is among the containers and has type %u", ref, c->head.type);
        return;
    }
    if (gc_is_stripped(&check->heap->gc, ref)) {
        return; /* it has dropped them */
    }
    struct edges edges = object_edges(check->heap, c);
    for (uint32_t i = 0; i < edges.count; i++) {
        count_edge(check, ref, edges.refs[i]);
    }
    count_edge(check, ref, edges.extra);
}

static void count_garbage(struct check *check)
{
    for (uint64_t i = 0; i < heap_garbage_len(check->heap); i++) {
        count_edge(check, 0, heap_garbage_item(check->heap, i));
    }
    const struct gc *gc = &check->heap->gc;
    for (uint64_t i = gc->state == GC_KEEP ? gc->next : 0; i < gc->saved.len; i++) {
        count_edge(check, 0, gc->saved.refs[i]);
    }
}

/* Whether a collection is taking the object apart. */
static bool is_being_swept(const struct heap *heap, uint32_t ref)
{
    return !ref_is_atom(ref) && gc_is_sentenced(&heap->gc) && gc_is_condemned(&heap->gc, ref);
}

/* ---- each object ---- */

/* Whether a container has to be tracked: all but the empty tuple and tuples of nothing tracked. */
static bool must_be_tracked(const struct heap *heap, const struct container *c)
{
    if (c->head.type != HEAP_T_TUPLE) {
        return true;
    }
    struct edges edges = object_edges(heap, c);
    for (uint32_t i = 0; i < edges.count; i++) {
        if (edges.refs[i] != 0 && heap_gc_is_tracked(heap, edges.refs[i])) {
            return true;
        }
    }
    return false;
}

static void check_container(struct check *check, uint32_t ref)
{
    struct heap *heap = check->heap;
    struct container *c = (struct container *)object_at(heap, ref);
    if ((c->head.flags & FLAG_DEAD) || is_being_swept(heap, ref)) {
        return; /* dying_check() and gc_check_generations() know it */
    }
    if (c->head.flags & FLAG_INCOMPLETE) {
        problem(check, "%#x is incomplete and still there", ref);
    }
    if (!object_is_immortal(&c->head) && must_be_tracked(heap, c) != heap_gc_is_tracked(heap, ref)) {
        problem(check, "%s %#x is %stracked and should not be", heap_builtin_name((enum heap_type)c->head.type), ref,
                heap_gc_is_tracked(heap, ref) ? "" : "un");
    }
    if (c->head.type == HEAP_T_DICT || c->head.type == HEAP_T_SET || c->head.type == HEAP_T_FROZENSET) {
        check->problems += table_check(heap, (struct table *)c, check->why);
    }
}

/* Refcount, handle and weakref flag of any object; adds it to the totals. */
static void check_object(struct check *check, uint32_t ref)
{
    struct heap *heap = check->heap;
    const struct object *o = object_at(heap, ref);
    if (o->type >= HEAP_T_COUNT) {
        problem(check, "%#x has no type (%u)", ref, o->type);
        return;
    }
    uint32_t slot = handle_slot_if_any(heap, ref);
    if (slot > handle_count(heap) || (slot != 0 && handle_ref(heap, slot) != ref)) {
        problem(check, "%#x has slot %u, which is not its own", ref, slot);
        slot = 0;
    }
    if (((o->flags & FLAG_WEAKREF) != 0) != (map32_find(&heap->weakrefs, ref) != NULL)) {
        problem(check, "the weakref table and %#x disagree", ref);
    }
    if (((o->flags & FLAG_FINALIZER) != 0) != (map32_find(&heap->finalizers.by_target, ref) != NULL)) {
        problem(check, "the finalizer table and %#x disagree", ref);
    }
    if (object_is_immortal(o)) {
        return;
    }
    uint32_t roots = slot != 0 ? check->roots[slot] : 0;
    bool is_dying = o->refcount == 0 && ((!ref_is_atom(ref) && (o->flags & FLAG_DEAD)) || finalizer_is_dying(heap, ref));
    uint64_t found = (uint64_t)*count_of(check, ref) + roots;
    bool is_wrong = is_being_swept(heap, ref) ? o->refcount < found : o->refcount != found;
    if ((o->refcount == 0) != is_dying || is_wrong) {
        problem(check, "%s %#x has refcount %u, but %u references and %u holds and names",
                heap_builtin_name((enum heap_type)o->type), ref, o->refcount, *count_of(check, ref), roots);
    }
    if (slot != 0 && handle_roots(heap, slot) != roots) {
        problem(check, "slot %u has %u holds and names and says %u", slot, roots, handle_roots(heap, slot));
    }
    check->type_objects[o->type]++;
    check->type_bytes[o->type] += heap_sizeof(heap, ref);
}

/* ---- totals ---- */

static void check_totals(struct check *check)
{
    const struct heap *heap = check->heap;
    for (enum heap_type type = 0; type < HEAP_T_COUNT; type++) {
        uint64_t objects = counter_read(&heap->type_objects[type]), bytes = counter_read(&heap->type_bytes[type]);
        if (objects != check->type_objects[type] || bytes != check->type_bytes[type]) {
            problem(check, "there are %llu %s objects of %llu bytes, and the counters say %llu of %llu",
                    (unsigned long long)check->type_objects[type], heap_builtin_name(type),
                    (unsigned long long)check->type_bytes[type], (unsigned long long)objects,
                    (unsigned long long)bytes);
        }
    }
    struct heap_stats stats;
    heap_stats(&stats, heap);
    if (stats.live != stats.created - stats.freed) {
        problem(check, "%llu objects were made and %llu freed, but %llu live", (unsigned long long)stats.created,
                (unsigned long long)stats.freed, (unsigned long long)stats.live);
    }
    uint64_t objects = stats.bytes + stats.immortal_bytes, ids = stats.ids * HEAP_ID_BYTES;
    if (objects != stats.block_bytes + stats.raw_bytes + ids) {
        problem(check, "objects take %llu bytes, but blocks, raw blocks and ids are %llu + %llu + %llu",
                (unsigned long long)objects, (unsigned long long)stats.block_bytes,
                (unsigned long long)stats.raw_bytes, (unsigned long long)ids);
    }
}

static void check_modules(struct check *check)
{
    struct heap *heap = check->heap;
    FILE *why = check->why;
    check->problems += arena_check(&heap->pm, why) + pymalloc_check(&heap->pm, why) + handle_check(heap, why) +
                       name_check(heap, why) + intern_check(heap, why) + weakref_check(heap, why) +
                       finalizer_check(heap, why) + gc_check_generations(heap, why) + class_check(heap, why) +
                       compare_check(heap, why) + mark_check(heap, why) + dying_check(heap, why);
}

/* heap_check -- collects nothing, but frees what is already dying and gives magazines back. */
uint32_t heap_check(struct heap *heap, FILE *why)
{
    GIL_ASSERT_HELD(heap);
    struct check check = {.heap = heap, .why = why};
    dead_drain(heap);
    pymalloc_trim(&heap->pm);
    if (!check_init(&check)) {
        fputs("no memory to recount the references\n", why);
        check_fini(&check);
        return 1;
    }
    session_count_holds(heap, check.roots);
    name_count_roots(heap, check.roots);
    for_objects(&check, POOL_CONTAINER, count_edges);
    count_garbage(&check);
    if (check.problems == 0) { /* what follows edges needs good ones */
        for_objects(&check, POOL_CONTAINER, check_container);
    }
    for_objects(&check, POOL_CONTAINER, check_object);
    for_objects(&check, POOL_ATOM, check_object);
    check_totals(&check);
    check_modules(&check);
    check_fini(&check);
    return check.problems;
}
