/* referrers.c -- one object's neighbours: what it refers to, and what refers to it.
 *
 * References lead one way, so who refers to an object is found by looking at all containers.  That is a visit
 * (visit.h) that copies nothing: a container about to change is looked at before, and what was found and has
 * died is left out of the answer.
 * Start at heap_referrers().
 */
#include "edges.h"
#include "visit.h"

/* ---- referents ---- */

bool heap_referent_next(const struct heap *heap, heap_ref obj, uint64_t *position, heap_ref *referent)
{
    GIL_ASSERT_HELD(heap);
    if (!heap_is_container(heap, obj)) {
        return false;
    }
    struct edges edges = object_edges(heap, (const struct container *)object_at(heap, obj));
    while (*position < edges.count) {
        uint32_t ref = edges.refs[(*position)++];
        if (ref != 0) {
            *referent = ref;
            return true;
        }
    }
    if (*position == edges.count && edges.extra != 0) {
        (*position)++;
        *referent = edges.extra;
        return true;
    }
    return false;
}

uint64_t heap_referent_count(const struct heap *heap, heap_ref obj)
{
    GIL_ASSERT_HELD(heap);
    switch (heap_type(heap, obj)) {
    case HEAP_T_LIST:
    case HEAP_T_TUPLE:
        return heap_seq_len(heap, obj);
    case HEAP_T_DICT:
        return (uint64_t)heap_dict_len(heap, obj) * 2;
    case HEAP_T_SET:
    case HEAP_T_FROZENSET:
        return heap_set_len(heap, obj);
    case HEAP_T_INSTANCE:
        return (uint64_t)heap_attr_count(heap, obj) + 1;
    default:
        return 0;
    }
}

/* ---- referrers ---- */

struct hunt {
    struct visit visit; /* first: found by it */
    uint32_t sought;
    uint32_t limit;
    uint32_t *found; /* containers, each once */
    uint32_t count, room;
    bool no_memory;
};

static bool refers_to(const struct heap *heap, uint32_t container, uint32_t sought)
{
    struct edges edges = object_edges(heap, (const struct container *)object_at(heap, container));
    for (uint32_t i = 0; i < edges.count; i++) {
        if (edges.refs[i] == sought) {
            return true;
        }
    }
    return edges.extra == sought;
}

/* Those that died since they were found are no answer. */
static void drop_dead(struct hunt *hunt)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < hunt->count; i++) {
        if (!visit_has_died(&hunt->visit, hunt->found[i])) {
            hunt->found[kept++] = hunt->found[i];
        }
    }
    hunt->count = kept;
}

/* Room for one more; false when there is no memory. */
static bool make_room(struct hunt *hunt)
{
    if (hunt->count < hunt->room) {
        return true;
    }
    uint32_t room = hunt->room == 0 ? 64 : hunt->room * 2;
    uint32_t *found = realloc(hunt->found, (size_t)room * sizeof *found);
    if (found == NULL) {
        return false;
    }
    hunt->found = found;
    hunt->room = room;
    return true;
}

static void look_at(struct visit *visit, struct heap *heap, uint32_t ref)
{
    struct hunt *hunt = (struct hunt *)visit;
    if (hunt->no_memory || !refers_to(heap, ref, hunt->sought)) {
        return;
    }
    hunt->no_memory = !make_room(hunt);
    if (!hunt->no_memory) {
        hunt->found[hunt->count++] = ref;
    }
}

/* Whether more than `limit` are found that live. */
static bool is_full(struct hunt *hunt)
{
    if (hunt->count > hunt->limit) {
        drop_dead(hunt);
    }
    return hunt->count > hunt->limit;
}

static enum heap_error run(struct hunt *hunt, struct heap *heap, const _Atomic bool *cancel)
{
    while (!visit_slice(&hunt->visit, heap) && !is_full(hunt) && !hunt->no_memory) {
        heap_leave(heap);
        visit_pause();
        heap_enter(heap);
        if (*cancel) {
            return HEAP_CANCELLED;
        }
    }
    return hunt->no_memory ? HEAP_MEMORY : HEAP_OK;
}

enum heap_error heap_referrers(heap_ref **refs, uint32_t *n, bool *more, struct heap *heap, heap_ref obj,
                               uint32_t limit, const _Atomic bool *cancel)
{
    GIL_ASSERT_HELD(heap);
    struct hunt hunt = {.visit = {.node = look_at, .containers_only = true}, .sought = obj, .limit = limit};
    if (!visit_begin(&hunt.visit, heap)) {
        return HEAP_MEMORY;
    }
    enum heap_error error = make_room(&hunt) ? run(&hunt, heap, cancel) : HEAP_MEMORY;
    if (error == HEAP_OK) {
        drop_dead(&hunt);
        *more = hunt.count > limit;
        *n = *more ? limit : hunt.count;
        *refs = hunt.found;
    } else {
        free(hunt.found);
    }
    visit_end(&hunt.visit, heap);
    return error;
}
