/* test_check.c -- the referee is itself tested: each structure is damaged on purpose, heap_check() must
 * say so, and once mended it must be content again. */
#include "heap_fixture.h"
#include "../../heap/edges.h"

#include <stdlib.h>

struct damaged {
    struct heap *heap;
    heap_ref list, dict, tuple, instance, weakref, str;
    struct heap_session *session;
};

static void build(struct damaged *d, struct heap *heap)
{
    d->heap = heap;
    d->list = new_list(heap);
    d->str = new_str(heap, "some text");
    OK(heap_dict_create(&d->dict, heap, 0));
    OK(heap_dict_set_steal(heap, d->dict, d->str, d->list));
    OK(heap_incref(heap, d->list));
    heap_ref items[1] = {d->list}, class;
    OK(heap_incref(heap, d->list));
    OK(heap_tuple_create_steal(&d->tuple, heap, items, 1));
    OK(heap_class_create(&class, heap, (struct heap_text){"A", 1}, NULL, 0));
    OK(heap_instance_create(&d->instance, heap, class, 0));
    heap_decref(heap, class);
    OK(heap_attr_set_steal(heap, d->instance, "x", 1, d->tuple));
    OK(heap_weakref_shared(&d->weakref, heap, d->list));
    d->session = heap_session_create(heap);
    const heap_ref held[] = {d->list, d->instance, d->weakref};
    for (size_t i = 0; i < sizeof held / sizeof *held; i++) {
        OK(heap_hold(heap, d->session, held[i]));
        heap_decref(heap, held[i]);
    }
    OK(heap_name_bind(heap, "name", 4, d->dict));
    heap_decref(heap, d->dict);
    collect(heap, 1);
    fixture_check(heap);
}

/* What the session holds and the name binds is all there is. */
static void finish(struct damaged *d)
{
    fixture_check(d->heap);
    heap_session_destroy(d->heap, d->session);
    OK(heap_name_unbind(d->heap, "name", 4));
}

/* heap_check() finds something, and among what it says is `expected`. */
static void complains(struct heap *heap, const char *expected)
{
    char *said = NULL;
    size_t len = 0;
    FILE *why = open_memstream(&said, &len);
    uint32_t problems = heap_check(heap, why);
    fclose(why);
    assert_int_not_equal(problems, 0);
    if (strstr(said, expected) == NULL) {
        print_message("expected \"%s\" in:\n%s", expected, said);
    }
    assert_non_null(strstr(said, expected));
    free(said);
}

#define DAMAGE(d, place, value, expected)                                                                    \
    do {                                                                                                     \
        __typeof__(place) kept_ = (place);                                                                   \
        (place) = (value);                                                                                   \
        complains((d)->heap, expected);                                                                      \
        (place) = kept_;                                                                                     \
        fixture_check((d)->heap);                                                                            \
    } while (0)

static struct container *container(struct damaged *d, heap_ref ref)
{
    return (struct container *)object_at(d->heap, ref);
}

static void test_check_finds_wrong_refcounts(void **state)
{
    struct damaged d;
    build(&d, *state);
    DAMAGE(&d, container(&d, d.list)->head.refcount, 9, "refcount 9");
    DAMAGE(&d, object_at(d.heap, d.str)->refcount, 2, "refcount 2");
    finish(&d);
}

static void test_check_finds_wrong_edges(void **state)
{
    struct damaged d;
    build(&d, *state);
    uint32_t *item = &tuple_edges((struct tuple *)container(&d, d.tuple)).refs[0];
    DAMAGE(&d, *item, d.dict, "refcount");
    DAMAGE(&d, *item, d.list + 1, "where no object lives");
    DAMAGE(&d, *item, 0x7FFFFFF0u, "where no object lives");
    finish(&d);
}

static void test_check_finds_wrong_generations(void **state)
{
    struct damaged d;
    build(&d, *state);
    heap_ref young = new_list(d.heap);
    OK(heap_hold(d.heap, d.session, young));
    heap_decref(d.heap, young);
    assert_int_equal(gc_generation(d.heap, d.list), 2);
    assert_int_equal(gc_generation(d.heap, young), 0);
    struct gc *gc = &d.heap->gc;
    DAMAGE(&d, gc->old[d.list >> 6], gc->old[d.list >> 6] & ~((uint64_t)1 << (d.list & 63)), "collector's bits");
    DAMAGE(&d, gc->mark[d.list >> 6], (uint64_t)1 << (d.list & 63), "collector's bits");
    DAMAGE(&d, gc->old[young >> 6], gc->old[young >> 6] | (uint64_t)1 << (young & 63), "which is not only there");
    DAMAGE(&d, container(&d, young)->gc, container(&d, young)->gc + 1, "which is not only there");
    DAMAGE(&d, gc->chunks[gc->lists[0].head]->used, 7, "young chunk");
    DAMAGE(&d, container(&d, d.list)->head.flags, container(&d, d.list)->head.flags & ~FLAG_TRACKED, "untracked");
    finish(&d);
}

static void test_check_finds_wrong_handles_and_weakrefs(void **state)
{
    struct damaged d;
    build(&d, *state);
    DAMAGE(&d, container(&d, d.list)->handle, container(&d, d.dict)->handle, "not its own");
    struct weakref *w = (struct weakref *)container(&d, d.weakref);
    DAMAGE(&d, w->target, d.dict, "points elsewhere");
    DAMAGE(&d, container(&d, d.dict)->head.flags, container(&d, d.dict)->head.flags | FLAG_WEAKREF, "disagree");
    finish(&d);
}

static void test_check_finds_wrong_weakref_lists(void **state)
{
    struct damaged d;
    build(&d, *state);
    heap_ref newer;
    OK(heap_weakref_notify(&newer, d.heap, d.session, d.list));
    keep(d.heap, newer);
    struct weakref *first = (struct weakref *)container(&d, d.weakref);
    struct weakref *second = (struct weakref *)container(&d, newer);
    DAMAGE(&d, first->count, 3, "counts 3");
    DAMAGE(&d, first->next, 0, "counts 2");
    DAMAGE(&d, second->prev, 0, "points elsewhere");
    finish(&d);
}

static void test_check_finds_wrong_finalizers(void **state)
{
    struct damaged d;
    build(&d, *state);
    const struct heap_finalizer finalizer = {.token = {"t", 1}};
    OK(heap_finalizer_set(d.heap, d.session, d.list, &finalizer));
    OK(heap_finalizer_set(d.heap, d.session, d.instance, &finalizer));
    struct finalizer_table *table = &d.heap->finalizers;
    struct object *list = &container(&d, d.list)->head, *dict = &container(&d, d.dict)->head;
    DAMAGE(&d, list->flags, list->flags & ~FLAG_FINALIZER, "finalizer table and");
    DAMAGE(&d, dict->flags, dict->flags | FLAG_FINALIZER, "finalizer table and");
    DAMAGE(&d, list->flags, list->flags | FLAG_FINALIZED, "not where it should be");
    DAMAGE(&d, table->waiting, 1, "have not run");
    DAMAGE(&d, table->judged.first, table->records[0], "have not run");
    DAMAGE(&d, table->records[0], table->records[1], "which does not know it");
    DAMAGE(&d, *map32_find(&table->by_target, d.list), 1, "which does not know it");
    assert_true(heap_finalizer_clear(d.heap, d.list));
    assert_true(heap_finalizer_clear(d.heap, d.instance));
    finish(&d);
}

static void test_check_finds_wrong_garbage(void **state)
{
    struct damaged d;
    build(&d, *state);
    heap_ref saved = new_list(d.heap);
    link_to(d.heap, saved, saved);
    heap_decref(d.heap, saved);
    heap_gc_set_debug(d.heap, HEAP_GC_SAVEALL);
    assert_int_equal(collect(d.heap, 2), 1);
    heap_gc_set_debug(d.heap, 0);
    DAMAGE(&d, d.heap->garbage.refs[0], d.list, "refcount");
    DAMAGE(&d, d.heap->garbage.refs[0], 0x7FFFFFF0u, "where no object lives");
    DAMAGE(&d, d.heap->garbage.len, 0, "refcount 2");
    heap_garbage_clear(d.heap);
    finish(&d);
}

static void test_check_finds_wrong_totals_and_shapes(void **state)
{
    struct damaged d;
    build(&d, *state);
    DAMAGE(&d, d.heap->created, 1, "were made");
    DAMAGE(&d, d.heap->id_count, 1, "blocks, raw blocks and ids");
    DAMAGE(&d, d.heap->immortal_bytes, 1, "blocks, raw blocks and ids");
    DAMAGE(&d, d.heap->type_objects[HEAP_T_LIST], 5, "list objects");
    DAMAGE(&d, d.heap->type_bytes[HEAP_T_DICT], 1, "dict objects");
    struct instance *i = (struct instance *)container(&d, d.instance);
    DAMAGE(&d, shape_at(d.heap, i->u.in.shape)->users, 5, "users");
    DAMAGE(&d, shape_at(d.heap, i->u.in.shape)->gaps, 1, "gaps");
    finish(&d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_check_finds_wrong_refcounts),
        TEST(test_check_finds_wrong_edges),
        TEST(test_check_finds_wrong_generations),
        TEST(test_check_finds_wrong_handles_and_weakrefs),
        TEST(test_check_finds_wrong_weakref_lists),
        TEST(test_check_finds_wrong_finalizers),
        TEST(test_check_finds_wrong_garbage),
        TEST(test_check_finds_wrong_totals_and_shapes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
