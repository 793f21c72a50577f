/* building.c -- a large value of a request is built by a worker, in slices of the GIL, before the request runs.
 *
 *   I/O thread   building_create()    the request is a question; nothing of it has happened
 *   worker       building_run()       reads the text and makes the objects, which nobody can see: no id, no name, no
 *                                     hold leads to them.  What goes wrong is remembered
 *   I/O thread   the request runs as any other, at one moment; building_take() is what its call_value() does
 *
 * Only values without `$` words are built so: they depend on nothing but their text, so it does not matter that
 * others run between two slices.  From the first slice on, and until the value is taken or dropped, the heap is not
 * still (heap_build_begin()), so who looks at all objects never finds half a value.
 *
 * Locking: a building is the question's it belongs to.   Start at building_run().
 */
#include "literal.h"
#include "rpc_internal.h"

#include <stdlib.h>
#include <time.h>

#define SLICE_US 300u         /* of the GIL at a time */
#define LOOK_NS 500000        /* between two looks of give_precedence() */
#define LOOKS_MAX 2000u       /* deaths that come first may take long */

enum building_state {
    BUILDING_BEGUN, /* by the worker, or not yet */
    BUILDING_DONE,  /* `obj` is owned */
    BUILDING_FAILED,
    BUILDING_TAKEN /* what came of it has been told */
};

struct building {
    const struct json_value *value; /* an argument of the request */
    unsigned param;                 /* which */
    uint64_t creator;               /* number of the session */
    enum building_state state;
    heap_ref obj;
    struct literal_error error; /* of BUILDING_FAILED */
};

/* The parameter whose value is to be built; -1: none. */
static int large_param(const struct request *request)
{
    const struct method *method = request->method;
    for (unsigned i = 0; method != NULL && i < method->param_count; i++) {
        const method_arg *arg = &request->args[i];
        if (method->params[i].kind == PARAM_VALUE && arg_given(arg) && arg->len >= BUILDING_BYTES && !arg->has_dollar) {
            return (int)i;
        }
    }
    return -1;
}

bool building_is_wanted(const struct request *request)
{
    return large_param(request) >= 0;
}

struct building *building_create(const struct request *request, uint64_t creator)
{
    struct building *building = calloc(1, sizeof(*building));
    if (building != NULL) {
        building->param = (unsigned)large_param(request);
        building->value = &request->args[building->param];
        building->creator = creator;
    }
    return building;
}

/* ---- the worker ---- */

/* The end of a slice: what died in it is nobody's business, and others have their turn. */
static void end_slice(struct heap *heap)
{
    heap_settle(heap);
    heap_give_way(heap);
}

/* Drops the object, and takes it apart in slices. */
static void drop(struct heap *heap, heap_ref obj)
{
    struct heap_dying dying = {0};
    uint64_t freed;
    heap_settle(heap);
    heap_decref(heap, obj);
    bool is_done = heap_settle_slice(&freed, heap, &dying);
    while (!is_done) {
        heap_give_way(heap);
        heap_step(heap, SLICE_US);
        is_done = dying.is_done;
    }
}

/* Those who wait until nothing is built come first, but do not hold a value up for ever. */
static void give_precedence(struct rpc_service *service, const _Atomic bool *cancel)
{
    struct heap *heap = service->heap;
    uint32_t delays = service->build_delays, turns = service->build_turns;
    for (unsigned i = 0; i < LOOKS_MAX; i++) {
        bool is_delayed = service->build_delays > 0 && service->build_turns - turns < delays;
        if (!is_delayed && !heap_is_awaited(heap)) {
            break;
        }
        heap_leave(heap);
        nanosleep(&(struct timespec){.tv_nsec = LOOK_NS}, NULL);
        heap_enter(heap);
        if (atomic_load_explicit(cancel, memory_order_relaxed)) {
            break;
        }
    }
}

void building_run(struct rpc_service *service, struct building *building, const _Atomic bool *cancel)
{
    struct heap *heap = service->heap;
    struct literal_builder *builder = literal_builder_create(heap, building->value);
    enum literal_progress progress = LITERAL_GOES_ON;
    if (builder == NULL) {
        building->state = BUILDING_FAILED;
        building->error = (struct literal_error){.fault = LITERAL_MEMORY};
        return;
    }
    heap_enter(heap);
    give_precedence(service, cancel);
    heap_build_begin(heap);
    while (progress == LITERAL_GOES_ON && !atomic_load_explicit(cancel, memory_order_relaxed)) {
        heap_set_creator_number(heap, building->creator);
        progress = literal_builder_step(&building->obj, builder, SLICE_US, &building->error);
        end_slice(heap);
    }
    while (!literal_builder_drop(builder, SLICE_US)) {
        end_slice(heap);
    }
    end_slice(heap);
    building->state = progress == LITERAL_DONE ? BUILDING_DONE : BUILDING_FAILED;
    if (building->state == BUILDING_FAILED) {
        heap_build_end(heap);
    }
    heap_leave(heap);
    literal_builder_destroy(builder);
    if (building->state == BUILDING_FAILED) {
        park_wake_others(service, NULL);
    }
}

bool building_owns(const struct building *building)
{
    return building->state == BUILDING_DONE;
}

void building_drop(struct rpc_service *service, struct building *building)
{
    heap_enter(service->heap);
    drop(service->heap, building->obj);
    heap_build_end(service->heap);
    heap_leave(service->heap);
    building->state = BUILDING_TAKEN;
    park_wake_others(service, NULL);
}

/* ---- the request ---- */

bool building_take(struct building *building, struct heap *heap, unsigned param, heap_ref *obj,
                   const struct literal_error **error)
{
    if (building == NULL || building->param != param || building->state == BUILDING_TAKEN) {
        return false;
    }
    *error = building->state == BUILDING_FAILED ? &building->error : NULL;
    if (building->state == BUILDING_DONE) {
        *obj = building->obj;
        heap_build_end(heap);
    }
    building->state = BUILDING_TAKEN;
    return true;
}
