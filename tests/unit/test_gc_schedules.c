/* test_gc_schedules.c -- the collector in slices is exact, whatever is done between them.
 *
 * Small graphs, a collection in slices of one object, and operations at every point between two slices.  After
 * each the heap is compared with the model of schedule_model.h: nobody who can be reached is freed, all that is
 * condemned is gone for everybody at once, the number reported is |U| less what was touched, refcounts and
 * generations are right.
 *
 * Exhaustive, each graph once of those that differ in the names of objects only; "references": OPS_CORE.
 *   graphs of lists                      operations, at any points              when
 *   2, all                               any 1, any 2                           always
 *   3, all                               any 1; 1 of OPS_WEAK with weakrefs     always
 *   3, all, 1 to 3 of them young         1 of OPS_YOUNG in a young collection   always
 *   3, all                               2 on references                        LONG=1
 *   4, at most 4 references, no loops    1 on a reference                       always
 *   4, all                               any 1                                  LONG=1
 *   5, at most 3 references, no loops    1 on a reference                       always
 *   5, all without loops                 1 on a reference                       LONG=1, most of an hour
 *
 * Sampled: 500,000 (LONG=1: 20 M) graphs of 2 to 5 lists, dicts and instances, also with more references than a piece of
 * a slice may have, weakrefs, a finalizer, older and frozen objects, `saveall`; any 1 to 6 operations at random points.
 * With a finalizer no young collection comes between (the model does not know what it finds then); tests/fuzz/stress.py
 * has both.  SEED in the environment repeats a sample.  Checked builds run the first row and a 20th of the sample.
 *
 * PART=1/2 in the environment takes the first of two halves of the graphs, for as many processes as there are cores;
 * long runs say on standard error how far they are.
 *
 * The schedules of a graph are walked without saving a heap: a path is a list of choices, and the next one is run from
 * the beginning with the last choice that has another changed.
 */
#include "schedule_run.h"

#define CHOICES_MAX 2000
#define RUNS_OF_A_HEAP 64 /* each takes new slots of the handle table, which a collection walks */

/* ---- choosing ---- */

struct chooser {
    bool is_random;
    uint64_t random;
    unsigned taken[CHOICES_MAX], of[CHOICES_MAX];
    unsigned length; /* choices that are known */
    unsigned at;     /* of this run */
};

static uint32_t random_below(struct chooser *chooser, uint32_t n)
{
    chooser->random = chooser->random * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)((chooser->random >> 33) % n);
}

/* One of 0..n - 1. */
static unsigned choose(struct chooser *chooser, unsigned n)
{
    if (chooser->is_random) {
        return random_below(chooser, n);
    }
    assert_true(chooser->at < CHOICES_MAX);
    if (chooser->at == chooser->length) {
        chooser->taken[chooser->length] = 0;
        chooser->of[chooser->length++] = n;
    }
    assert_int_equal(chooser->of[chooser->at], n); /* a run that is begun again goes the same way */
    return chooser->taken[chooser->at++];
}

/* The next path; false: that was the last. */
static bool next_path(struct chooser *chooser)
{
    chooser->at = 0;
    while (chooser->length > 0 && chooser->taken[chooser->length - 1] + 1 == chooser->of[chooser->length - 1]) {
        chooser->length--;
    }
    if (chooser->length > 0) {
        chooser->taken[chooser->length - 1]++;
    }
    return chooser->length > 0;
}

/* ---- one schedule after the other ---- */

struct explorer {
    struct chooser chooser;
    struct run run;
    struct setup setup;
    unsigned kinds;      /* of operations */
    unsigned operations; /* of a schedule */
    struct op_list list;
    struct op done[RUN_OPS]; /* of this run, and before which slice */
    unsigned before[RUN_OPS], done_count;
    bool is_running;
    unsigned part, parts; /* this process takes every parts-th graph */
    uint64_t found;       /* graphs, of all parts */
    uint64_t graphs, schedules, collections_in_slices, parked, inside;
    unsigned slices_max;
};

static void heap_open(struct explorer *e)
{
    struct heap *heap = heap_create(&(struct heap_config){.reserve_bytes = (uint64_t)64 << 20});
    assert_non_null(heap);
    heap_enter(heap);
    run_watch(&e->run, heap);
}

static void heap_close(struct explorer *e)
{
    struct heap *heap = e->run.heap;
    heap_session_destroy(heap, e->run.session);
    OK(heap_name_unbind(heap, "Node", 4));
    heap_settle(heap);
    fixture_check(heap);
    assert_int_equal(fixture_live(heap), 0);
    heap_leave(heap);
    heap_destroy(heap);
    e->run.heap = NULL;
}

static int explorer_setup(void **state)
{
    struct explorer *e = calloc(1, sizeof *e);
    assert_non_null(e);
    const char *text = getenv("SEED");
    e->chooser.random = text != NULL ? strtoull(text, NULL, 10) : 20;
    e->part = e->parts = 1;
    text = getenv("PART");
    assert_true(text == NULL || (sscanf(text, "%u/%u", &e->part, &e->parts) == 2 && 0 < e->part && e->part <= e->parts));
    *state = e;
    return 0;
}

/* Says where a run failed. */
static void say_run(const struct explorer *e)
{
    static const char *const hows[] = {"", " middle", " frozen"};
    const struct setup *s = &e->setup;
    print_error("schedule %llu: %u objects, edges %#llx, held %#x, weak %#x, settled %#x%s, generation %d, shapes",
                (unsigned long long)e->schedules + 1, s->objects,
                (unsigned long long)s->edges, s->held, s->weak, s->settled, hows[s->how], s->generation);
    for (unsigned i = 0; i < s->objects; i++) {
        print_error(" %u", s->shapes[i]);
    }
    print_error("%s, finalizer %u%s\n", s->saveall ? ", saveall" : "", s->finalizer, s->clears ? " clears" : "");
    static const char *const names[] = {"add", "delete", "pop", "move", "hold", "release", "bind", "unbind", "weak",
                                        "make", "make inside", "make cycle", "clear", "release all", "young"};
    for (unsigned i = 0; i < e->done_count; i++) {
        print_error("  after slice %u: %s %u %u %u\n", e->before[i], names[e->done[i].kind], e->done[i].i, e->done[i].j,
                    e->done[i].k);
    }
    print_error("  failed after slice %u\n", e->run.slices);
}

static int explorer_teardown(void **state)
{
    struct explorer *e = *state;
    if (e->is_running) { /* something failed: the heap is lost */
        say_run(e);
    } else if (e->run.heap != NULL) {
        heap_close(e);
    }
    free(e);
    return 0;
}

static void say_total(const struct explorer *e, const char *what)
{
    print_message("%s: %llu graphs, %llu schedules, %llu collections in more than one slice, at most %u; "
                  "%llu operations parked, %llu young collections inside\n",
                  what, (unsigned long long)e->graphs, (unsigned long long)e->schedules,
                  (unsigned long long)e->collections_in_slices, e->slices_max, (unsigned long long)e->parked,
                  (unsigned long long)e->inside);
    assert_true(e->schedules > 0);
    assert_true(e->collections_in_slices > e->schedules / 2);
}

/* The operations of the schedule, each at a point of its own choice. */
static void operate_somewhere(struct explorer *e)
{
    struct run *run = &e->run;
    while (!run->is_over && e->done_count < e->operations) {
        if (e->chooser.is_random && choose(&e->chooser, 8) > 0) {
            run_step(run);
            continue;
        }
        ops_list(&e->list, &run->model, e->kinds);
        unsigned chosen = choose(&e->chooser, e->list.count + !e->chooser.is_random);
        if (chosen == e->list.count) {
            run_step(run);
            continue;
        }
        e->before[e->done_count] = run->slices;
        e->done[e->done_count++] = e->list.ops[chosen];
        run_operate(run, e->list.ops[chosen], e->chooser.is_random ? choose(&e->chooser, 5) : 4);
    }
}

static void run_schedule(struct explorer *e)
{
    if (e->run.heap != NULL && e->schedules % RUNS_OF_A_HEAP == 0) {
        heap_close(e);
    }
    if (e->run.heap == NULL) {
        heap_open(e);
    }
    struct run *run = &e->run;
    e->is_running = true;
    e->done_count = 0;
    run->checks_often = e->schedules % 1024 == 0;
    run_begin(run, &e->setup);
    operate_somewhere(e);
    run_end(run);
    e->is_running = false;
    e->schedules++;
    e->collections_in_slices += run->slices > 1;
    e->slices_max = run->slices > e->slices_max ? run->slices : e->slices_max;
    e->parked += run->parked;
    e->inside += run->inside;
}

/* Every schedule of the graph of e->setup, when it is in this part. */
static void run_all_schedules(struct explorer *e)
{
    if (e->found++ % e->parts != e->part - 1) {
        return;
    }
    if (++e->graphs % 10000 == 0) {
        print_error("%llu graphs, %llu schedules\n", (unsigned long long)e->graphs, (unsigned long long)e->schedules);
    }
    e->chooser.length = e->chooser.at = 0;
    do {
        run_schedule(e);
    } while (next_path(&e->chooser));
}

/* ---- all graphs ---- */

/* The graph with its objects renamed: object i becomes order[i].  Edges above, held below. */
static uint64_t renamed(const struct setup *setup, const unsigned *order)
{
    unsigned n = setup->objects;
    uint64_t code = 0;
    for (unsigned i = 0; i < n; i++) {
        code |= (uint64_t)(setup->held >> i & 1) << order[i];
        for (unsigned k = 0; k < n; k++) {
            code |= (setup->edges >> (i * n + k) & 1) << (n + order[i] * n + order[k]);
        }
    }
    return code;
}

static bool next_permutation(unsigned *order, unsigned n)
{
    unsigned i = n - 1, k = n - 1;
    while (i > 0 && order[i - 1] >= order[i]) {
        i--;
    }
    if (i == 0) {
        return false;
    }
    while (order[k] <= order[i - 1]) {
        k--;
    }
    unsigned swapped = order[i - 1];
    order[i - 1] = order[k];
    order[k] = swapped;
    for (k = n - 1; i < k; i++, k--) {
        swapped = order[i];
        order[i] = order[k];
        order[k] = swapped;
    }
    return true;
}

/* Whether no renaming gives a graph that comes earlier: of those that are alike one is enough. */
static bool is_first_of_its_kind(const struct setup *setup)
{
    unsigned order[MODEL_FIRST] = {0, 1, 2, 3, 4};
    uint64_t code = renamed(setup, order);
    while (next_permutation(order, setup->objects)) {
        if (renamed(setup, order) < code) {
            return false;
        }
    }
    return true;
}

struct scope {
    unsigned objects, edges_max;
    bool loops;          /* an object may refer to itself */
    unsigned kinds, operations;
    bool weak;           /* each object has a weakref */
    int generation;
    unsigned settled;    /* how many objects are older */
    enum shape shape;
};

/* Every schedule of every graph. */
static void explore(struct explorer *e, const struct scope *scope, const char *what)
{
    unsigned n = scope->objects;
    uint64_t loops = 0;
    for (unsigned i = 0; i < n; i++) {
        loops |= (uint64_t)1 << (i * n + i);
    }
    e->kinds = scope->kinds;
    e->operations = scope->operations;
    e->found = e->graphs = e->schedules = e->collections_in_slices = e->parked = e->inside = e->slices_max = 0;
    for (uint64_t edges = 0; edges < (uint64_t)1 << (n * n); edges++) {
        if ((unsigned)__builtin_popcountll(edges) > scope->edges_max || (!scope->loops && (edges & loops) != 0)) {
            continue;
        }
        for (unsigned held = 0; held < bit(n); held++) {
            e->setup = (struct setup){.objects = n, .edges = edges, .held = held, .finalizer = NOBODY};
            e->setup.weak = scope->weak ? bit(n) - 1 : 0;
            e->setup.generation = scope->generation;
            e->setup.settled = bit(scope->settled) - 1;
            memset(e->setup.shapes, scope->shape, sizeof e->setup.shapes);
            if (scope->settled > 0 || is_first_of_its_kind(&e->setup)) {
                run_all_schedules(e);
            }
        }
    }
    say_total(e, what);
}


#define OPS_WEAK (1u << OP_WEAK | 1u << OP_DELETE | 1u << OP_RELEASE | 1u << OP_MAKE_CYCLE)
#define ALL_EDGES 25

static bool is_long(void)
{
    const char *text = getenv("LONG");
    return text != NULL && strcmp(text, "0") != 0;
}

/* Sanitizers and valgrind run some of everything: what they look for does not hide in a certain schedule. */
static bool is_checked_build(void)
{
    return HEAP_DEBUG >= 1 || fixture_is_small();
}

static void skip_if_checked(void)
{
    if (is_checked_build() && !is_long()) {
        print_message("skipped: this build runs the smallest graphs and a sample\n");
        skip();
    }
}


/* What a young collection has to know of: new references to the young, and from them. */
#define OPS_YOUNG (OPS_CORE | 1u << OP_CLEAR | 1u << OP_POP)

static void test_gc_schedules_of_two_objects(void **state)
{
    explore(*state, &(struct scope){.objects = 2, .edges_max = ALL_EDGES, .loops = true, .kinds = OPS_ALL,
                                    .operations = 1, .generation = 2},
            "2 objects, any operation");
    if (!is_checked_build() || is_long()) {
        explore(*state, &(struct scope){.objects = 2, .edges_max = ALL_EDGES, .loops = true, .kinds = OPS_ALL,
                                        .operations = 2, .generation = 2},
                "2 objects, any 2 operations");
    }
}

static void test_gc_schedules_of_three_objects(void **state)
{
    skip_if_checked();
    explore(*state, &(struct scope){.objects = 3, .edges_max = ALL_EDGES, .loops = true, .kinds = OPS_ALL,
                                    .operations = 1, .generation = 2},
            "3 objects, any operation");
    explore(*state, &(struct scope){.objects = 3, .edges_max = ALL_EDGES, .loops = true, .kinds = OPS_WEAK,
                                    .operations = 1, .generation = 2, .weak = true},
            "3 objects with weakrefs, an operation with one");
    if (is_long()) {
        explore(*state, &(struct scope){.objects = 3, .edges_max = ALL_EDGES, .loops = true, .kinds = OPS_CORE,
                                        .operations = 2, .generation = 2},
                "3 objects, 2 operations on references");
    }
}

static void test_gc_schedules_of_three_young_objects(void **state)
{
    skip_if_checked();
    static const char *const whats[] = {"3 young objects", "2 young objects and an old one",
                                        "1 young object and 2 old ones"};
    for (unsigned settled = 0; settled < 3; settled++) {
        explore(*state, &(struct scope){.objects = 3, .edges_max = ALL_EDGES, .loops = true, .kinds = OPS_YOUNG,
                                        .operations = 1, .generation = 0, .settled = settled},
                whats[settled]);
    }
}

static void test_gc_schedules_of_four_objects(void **state)
{
    skip_if_checked();
    explore(*state, &(struct scope){.objects = 4, .edges_max = is_long() ? ALL_EDGES : 4, .loops = is_long(),
                                    .kinds = is_long() ? OPS_ALL : OPS_CORE, .operations = 1, .generation = 2},
            is_long() ? "4 objects, any operation" : "4 objects with at most 4 references, an operation on one");
}

static void test_gc_schedules_of_five_objects(void **state)
{
    skip_if_checked();
    explore(*state, &(struct scope){.objects = 5, .edges_max = is_long() ? ALL_EDGES : 3, .loops = false,
                                    .kinds = OPS_CORE, .operations = 1, .generation = 2},
            is_long() ? "5 objects, none of which refers to itself, an operation on a reference"
                      : "5 objects with at most 3 references, an operation on one");
}

/* ---- samples ---- */

static void choose_setup(struct explorer *e)
{
    struct chooser *c = &e->chooser;
    struct setup *s = &e->setup;
    unsigned n = 2 + choose(c, MODEL_FIRST - 1), density = 1 + choose(c, 4);
    *s = (struct setup){.objects = n, .held = choose(c, bit(n)), .finalizer = NOBODY, .generation = 2};
    for (unsigned i = 0; i < n * n; i++) {
        s->edges |= (uint64_t)(choose(c, 8) < density) << i;
    }
    s->held &= choose(c, 2) == 0 ? choose(c, bit(n)) : ~0u;
    s->weak = choose(c, 3) == 0 ? choose(c, bit(n)) : 0;
    s->settled = choose(c, 2) == 0 ? bit(choose(c, n + 1)) - 1 : 0;
    s->how = (enum settling)choose(c, 3);
    s->generation = choose(c, 3) == 0 ? (int)choose(c, 2) : 2;
    s->saveall = choose(c, 8) == 0;
    e->kinds = OPS_ALL & ~(s->generation < 2 ? 1u << OP_YOUNG : 0); /* all young collections are large then */
    if (s->generation == 2 && choose(c, 4) == 0) {
        s->finalizer = (uint8_t)choose(c, n);
        s->clears = choose(c, 2) == 0;
        e->kinds &= ~(1u << OP_YOUNG);
    }
    bool same = choose(c, 2) == 0;
    unsigned shapes = choose(c, 200) == 0 ? SHAPES : SHAPE_WIDE_LIST;
    for (unsigned i = 0; i < n; i++) {
        s->shapes[i] = same ? SHAPE_LIST : (uint8_t)choose(c, shapes);
    }
    e->operations = 1 + choose(c, 6);
}

static void test_gc_schedules_of_a_sample(void **state)
{
    struct explorer *e = *state;
    uint64_t wanted = is_long() ? 20000000 : 500000;
    wanted = is_checked_build() ? wanted / 20 : wanted;
    print_message("SEED=%llu\n", (unsigned long long)e->chooser.random);
    e->chooser.is_random = true;
    for (e->graphs = 0; e->graphs < wanted; e->graphs++) {
        choose_setup(e);
        run_schedule(e);
    }
    say_total(e, "2 to 5 objects of all kinds, any 6 operations, a sample");
}

#define SCHEDULES(name) cmocka_unit_test_setup_teardown(name, explorer_setup, explorer_teardown)

/* An argument is the name of the one test to run. */
int main(int argc, char **argv)
{
    if (argc > 1) {
        cmocka_set_test_filter(argv[1]);
    }
    const struct CMUnitTest tests[] = {
        SCHEDULES(test_gc_schedules_of_two_objects),   SCHEDULES(test_gc_schedules_of_three_objects),
        SCHEDULES(test_gc_schedules_of_three_young_objects), SCHEDULES(test_gc_schedules_of_four_objects),
        SCHEDULES(test_gc_schedules_of_five_objects),  SCHEDULES(test_gc_schedules_of_a_sample),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
