/* mark.c -- marks: how many objects there are of which type and by whom they were made, to be compared later.
 *
 *   epochs   0 (no mark yet) | mark a | 1 | mark b | 2 | ...      every mark begins one
 *   cohort   the objects that one session made in one epoch
 *   tags     for each granule that an object begins at: the number of its cohort; 0: of epoch 0
 *
 * While a mark exists each new object gets a tag in a side array, which costs nothing where there is no mark but
 * a branch.  What a mark, or now, has of each cohort is counted by a walk (visit.h) over the objects of that
 * moment; how many of each type there are is known without one.
 *
 * Cohorts are recycled when their last object has died and their session makes no more of them; marks keep copies
 * of what they counted, by session and epoch.
 *
 * Invariant: cohort.live == objects with its tag.   Locking: the GIL, but for heap_mark() and heap_diff(), which
 * take it; marks belong to whoever asks questions, one at a time.   Checker: mark_check().
 * Start at heap_mark() and heap_diff().
 */
#include "visit.h"

#include <stdatomic.h>
#include <sys/mman.h>

/* Objects and bytes of one type. */
struct type_count {
    const char *name;        /* in `names`; ends in NUL */
    uint64_t objects, bytes;
};

/* How many objects of which type there are at one moment, sorted by name; each name once. */
struct census {
    struct type_count *types;
    uint32_t count, room;
    uint64_t objects, bytes; /* of all */
    bool failed;             /* no memory */
};

/* Objects of one cohort at one moment. */
struct cohort_count {
    uint64_t session;
    uint32_t epoch;
    uint64_t objects, bytes;
};

struct mark {
    char *label;
    size_t label_len;
    uint32_t epoch; /* that begins with it */
    struct census census;
    struct cohort_count *cohorts; /* those that had objects */
    uint32_t cohort_count;
};

struct cohort {
    uint64_t session; /* who makes them */
    uint32_t epoch;
    uint32_t next_free; /* of a free one */
    uint64_t live;      /* objects with this tag; a cohort without any is free, unless it is the current one */
};

struct marks {
    uint32_t *tags[2]; /* containers, atoms: a number a granule */
    size_t tag_bytes;  /* of each */
    struct cohort *cohorts; /* 1.. ; 0 is nobody's */
    uint32_t cohort_count, cohort_room, free;
    struct map32 current_of; /* session number -> its cohort of this epoch */
    uint32_t current;        /* of the creator, in this epoch; 0: not made yet */
    uint32_t epoch;
    struct mark marks[HEAP_MARKS_MAX];
    uint32_t count;
    struct census now; /* of the last heap_diff(), whose rows borrow its names */
};

/* ---- census ---- */

static void census_fini(struct census *census)
{
    for (uint32_t i = 0; i < census->count; i++) {
        free((char *)(uintptr_t)census->types[i].name);
    }
    free(census->types);
    *census = (struct census){0};
}

static void census_add(void *arg, const char *name, uint64_t objects, uint64_t bytes)
{
    struct census *census = arg;
    if (objects == 0 || census->failed) {
        return;
    }
    if (census->count == census->room) {
        uint32_t room = census->room == 0 ? 32 : census->room * 2;
        struct type_count *types = realloc(census->types, room * sizeof *types);
        census->failed = types == NULL;
        if (types == NULL) {
            return;
        }
        census->types = types;
        census->room = room;
    }
    char *copy = strdup(name);
    census->failed = copy == NULL;
    if (copy != NULL) {
        census->types[census->count++] = (struct type_count){copy, objects, bytes};
    }
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct type_count *)a)->name, ((const struct type_count *)b)->name);
}

/* Sorts the rows; classes of one name become one. */
static void census_sort(struct census *census)
{
    uint32_t kept = 0;
    if (census->count > 0) {
        qsort(census->types, census->count, sizeof *census->types, by_name);
    }
    for (uint32_t i = 0; i < census->count; i++) {
        struct type_count *row = &census->types[i];
        if (kept > 0 && by_name(&census->types[kept - 1], row) == 0) {
            census->types[kept - 1].objects += row->objects;
            census->types[kept - 1].bytes += row->bytes;
            free((char *)(uintptr_t)row->name);
        } else {
            census->types[kept++] = *row;
        }
    }
    census->count = kept;
}

/* Of this moment, still to be sorted, for which the GIL is not needed.  false: no memory, and there is none.
 * Linear in classes that have instances, as it has to be of one moment: about 50 ns each. */
static bool census_take(struct census *census, const struct heap *heap)
{
    *census = (struct census){0};
    for (unsigned type = 0; type < HEAP_T_COUNT; type++) {
        uint64_t objects = counter_read(&heap->type_objects[type]), bytes = counter_read(&heap->type_bytes[type]);
        census->objects += objects;
        census->bytes += bytes;
        if (type != HEAP_T_INSTANCE) {
            census_add(census, heap_builtin_name((enum heap_type)type), objects, bytes);
        }
    }
    heap_stats_classes(heap, census_add, census);
    if (census->failed) {
        census_fini(census);
        return false;
    }
    return true;
}

/* ---- cohorts ---- */

static uint32_t *tag_of(struct marks *marks, uint32_t ref)
{
    return &marks->tags[ref_is_atom(ref)][ref & ~REF_ATOM];
}

/* A cohort of the creator in this epoch; 0: no memory, and its objects are nobody's. */
static uint32_t cohort_create(struct heap *heap)
{
    struct marks *marks = heap->marks;
    uint32_t number = marks->free;
    if (number != 0) {
        marks->free = marks->cohorts[number].next_free;
    } else if (marks->cohort_count < marks->cohort_room) {
        number = marks->cohort_count++;
    } else {
        uint32_t room = marks->cohort_room * 2;
        struct cohort *cohorts = realloc(marks->cohorts, room * sizeof *cohorts);
        if (cohorts == NULL) {
            return 0;
        }
        marks->cohorts = cohorts;
        marks->cohort_room = room;
        number = marks->cohort_count++;
    }
    marks->cohorts[number] = (struct cohort){.session = heap->creator, .epoch = marks->epoch};
    return number;
}

/* Of a session, for current_of, which has no key 0; two that share one take turns. */
static uint32_t session_key(uint64_t session)
{
    return (uint32_t)session != 0 ? (uint32_t)session : UINT32_MAX;
}

static void cohort_free(struct marks *marks, uint32_t number)
{
    uint32_t key = session_key(marks->cohorts[number].session);
    uint32_t *of_session = map32_find(&marks->current_of, key);
    if (of_session != NULL && *of_session == number) {
        map32_remove(&marks->current_of, key);
    }
    marks->cohorts[number].epoch = 0;
    marks->cohorts[number].next_free = marks->free;
    marks->free = number;
}

/* The creator's cohort of this epoch, made when there is none. */
static uint32_t current_cohort(struct heap *heap)
{
    struct marks *marks = heap->marks;
    uint32_t *of_session = map32_find(&marks->current_of, session_key(heap->creator));
    if (of_session != NULL && marks->cohorts[*of_session].session == heap->creator) {
        return *of_session;
    }
    uint32_t number = cohort_create(heap);
    if (number != 0) {
        of_session = map32_put(&marks->current_of, session_key(heap->creator));
        if (of_session != NULL) { /* else the next change of creators makes another: benign */
            *of_session = number;
        }
    }
    return number;
}

/* The creator or the epoch changes. */
static void forget_current(struct marks *marks)
{
    if (marks->current != 0 && marks->cohorts[marks->current].live == 0) {
        cohort_free(marks, marks->current);
    }
    marks->current = 0;
}

void heap_set_creator(struct heap *heap, const struct heap_session *session)
{
    heap_set_creator_number(heap, session != NULL ? heap_session_number(session) : 0);
}

void heap_set_creator_number(struct heap *heap, uint64_t creator)
{
    if (heap->creator != creator && heap->marks != NULL) {
        forget_current(heap->marks);
    }
    heap->creator = creator;
}

void mark_made(struct heap *heap, uint32_t ref)
{
    struct marks *marks = heap->marks;
    if (marks->current == 0) {
        marks->current = current_cohort(heap);
    }
    *tag_of(marks, ref) = marks->current;
    marks->cohorts[marks->current].live++;
}

void mark_died(struct heap *heap, uint32_t ref)
{
    struct marks *marks = heap->marks;
    uint32_t number = *tag_of(marks, ref);
    *tag_of(marks, ref) = 0;
    if (number != 0 && --marks->cohorts[number].live == 0 && number != marks->current) {
        cohort_free(marks, number);
    }
}

/* ---- counting cohorts ---- */

/* What lived of each cohort at t0. */
struct tally {
    struct visit visit;
    struct cohort_count *counts; /* by number of the cohort at t0 */
    uint32_t count;
};

static void count_node(struct visit *visit, struct heap *heap, uint32_t ref)
{
    struct tally *tally = (struct tally *)visit;
    uint32_t number = *tag_of(heap->marks, ref);
    if (number != 0) {
        HEAP_ASSERT(number < tally->count);
        tally->counts[number].objects++;
        tally->counts[number].bytes += heap_sizeof(heap, ref);
    }
}

/* Begins a walk; GIL: held.  What is to be of the same moment is taken by the caller.  HEAP_MEMORY: `counts` is
 * NULL. */
static enum heap_error tally_begin(struct tally *tally, struct heap *heap)
{
    const struct marks *marks = heap->marks;
    *tally = (struct tally){.visit.node = count_node, .count = marks->cohort_count};
    tally->counts = calloc(marks->cohort_count, sizeof *tally->counts);
    if (tally->counts == NULL) {
        return HEAP_MEMORY;
    }
    if (!visit_begin(&tally->visit, heap)) {
        free(tally->counts);
        tally->counts = NULL;
        return HEAP_MEMORY;
    }
    for (uint32_t i = 1; i < tally->count; i++) {
        tally->counts[i].session = marks->cohorts[i].session;
        tally->counts[i].epoch = marks->cohorts[i].epoch;
    }
    return HEAP_OK;
}

/* One slice.  true: the walk is done. */
static bool tally_slice(struct tally *tally, struct heap *heap)
{
    heap_enter(heap);
    bool done = visit_slice(&tally->visit, heap);
    heap_leave(heap);
    return done;
}

/* Walks to the end and leaves the cohorts that have objects, in front.  GIL: not held. */
static enum heap_error tally_complete(struct tally *tally, struct heap *heap, const _Atomic bool *cancel)
{
    enum heap_error error = HEAP_OK;
    while (!tally_slice(tally, heap)) {
        if (cancel != NULL && atomic_load_explicit(cancel, memory_order_relaxed)) {
            error = HEAP_CANCELLED;
            break;
        }
        visit_pause();
    }
    heap_enter(heap);
    visit_end(&tally->visit, heap);
    heap_leave(heap);
    uint32_t kept = 0;
    for (uint32_t i = 1; i < tally->count; i++) {
        if (tally->counts[i].objects > 0) {
            tally->counts[kept++] = tally->counts[i];
        }
    }
    tally->count = kept;
    if (error != HEAP_OK) {
        free(tally->counts);
        tally->counts = NULL;
    }
    return error;
}

/* ---- marks ---- */

static void mark_fini(struct mark *mark)
{
    free(mark->label);
    free(mark->cohorts);
    census_fini(&mark->census);
}

static struct mark *find_mark(struct marks *marks, const char *label, size_t len)
{
    for (uint32_t i = 0; marks != NULL && i < marks->count; i++) {
        if (marks->marks[i].label_len == len && memcmp(marks->marks[i].label, label, len) == 0) {
            return &marks->marks[i];
        }
    }
    return NULL;
}

/* Address space and tables for the first mark.  GIL: held.  false: no memory. */
static bool marks_create(struct heap *heap)
{
    struct marks *marks = calloc(1, sizeof *marks);
    if (marks == NULL) {
        return false;
    }
    marks->tag_bytes = heap->pm.half_bytes / GRANULE_BYTES * sizeof **marks->tags;
    marks->cohort_room = 64;
    marks->cohort_count = 1;
    marks->cohorts = calloc(marks->cohort_room, sizeof *marks->cohorts);
    char *tags = mmap(NULL, 2 * marks->tag_bytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (marks->cohorts == NULL || tags == MAP_FAILED) {
        if (tags != MAP_FAILED) {
            munmap(tags, 2 * marks->tag_bytes);
        }
        free(marks->cohorts);
        free(marks);
        return false;
    }
    marks->tags[0] = (uint32_t *)(void *)tags;
    marks->tags[1] = (uint32_t *)(void *)(tags + marks->tag_bytes);
    map32_init(&marks->current_of, &heap->pm);
    heap->marks = marks;
    return true;
}

void marks_fini(struct heap *heap)
{
    struct marks *marks = heap->marks;
    if (marks == NULL) {
        return;
    }
    for (uint32_t i = 0; i < marks->count; i++) {
        mark_fini(&marks->marks[i]);
    }
    census_fini(&marks->now);
    map32_fini(&marks->current_of);
    munmap(marks->tags[0], 2 * marks->tag_bytes);
    free(marks->cohorts);
    free(marks);
    heap->marks = NULL;
}

/* From here on a new epoch runs. */
static void next_epoch(struct heap *heap)
{
    struct marks *marks = heap->marks;
    forget_current(marks);
    map32_fini(&marks->current_of);
    map32_init(&marks->current_of, &heap->pm);
    marks->epoch++;
}

/* What a new mark knows at its moment, and the walk for the rest, if `walks`.  GIL: held. */
static enum heap_error mark_begin(struct mark *mark, struct tally *tally, bool *walks, struct heap *heap)
{
    *walks = heap->marks != NULL;
    if (!*walks && !marks_create(heap)) {
        return HEAP_MEMORY;
    }
    heap_settle(heap);
    if (!census_take(&mark->census, heap)) {
        return HEAP_MEMORY;
    }
    *walks = *walks && heap->marks->cohort_count > 1;
    if (*walks && tally_begin(tally, heap) != HEAP_OK) {
        return HEAP_MEMORY;
    }
    next_epoch(heap);
    mark->epoch = heap->marks->epoch;
    return HEAP_OK;
}

enum heap_error heap_mark(uint64_t *objects, uint64_t *bytes, struct heap *heap, const char *label, size_t len,
                          const _Atomic bool *cancel)
{
    struct mark mark = {.label = malloc(len + 1), .label_len = len};
    struct tally tally = {.count = 0};
    bool walks = false;
    enum heap_error error = mark.label != NULL ? HEAP_OK : HEAP_MEMORY;
    if (error == HEAP_OK && !heap_enter_still(heap, cancel)) {
        error = HEAP_CANCELLED;
    } else if (error == HEAP_OK) {
        memcpy(mark.label, label, len);
        struct mark *old = find_mark(heap->marks, label, len);
        bool full = old == NULL && heap->marks != NULL && heap->marks->count == HEAP_MARKS_MAX;
        error = full ? HEAP_LIMIT_MARKS : mark_begin(&mark, &tally, &walks, heap);
        if (error != HEAP_OK && heap->marks != NULL && heap->marks->count == 0) {
            marks_fini(heap); /* the first has failed: nobody's objects are noted */
        }
        heap_leave(heap);
    }
    census_sort(&mark.census);
    if (error == HEAP_OK && walks) {
        error = tally_complete(&tally, heap, cancel);
        mark.cohorts = tally.counts;
        mark.cohort_count = tally.count;
    }
    if (error != HEAP_OK) {
        mark_fini(&mark);
        return error;
    }
    struct marks *marks = heap->marks;
    struct mark *place = find_mark(marks, label, len);
    if (place != NULL) { /* the new one is the newest: the others move up */
        mark_fini(place);
        memmove(place, place + 1, (size_t)(&marks->marks[--marks->count] - place) * sizeof *place);
    }
    marks->marks[marks->count++] = mark;
    *objects = mark.census.objects;
    *bytes = mark.census.bytes;
    return HEAP_OK;
}

/* ---- differences ---- */

/* Rows of `to` less rows of `from`, both sorted by name.  NULL: no memory. */
static struct heap_growth *diff_types(uint32_t *count, const struct census *from, const struct census *to)
{
    struct heap_growth *rows = calloc((size_t)from->count + to->count + 1, sizeof *rows);
    uint32_t n = 0;
    for (uint32_t i = 0, k = 0; rows != NULL && (i < from->count || k < to->count);) {
        int order = i == from->count ? 1 : k == to->count ? -1 : by_name(&from->types[i], &to->types[k]);
        struct heap_growth row = {.type = order <= 0 ? from->types[i].name : to->types[k].name};
        if (order <= 0) {
            row.objects -= (int64_t)from->types[i].objects;
            row.bytes -= (int64_t)from->types[i++].bytes;
        }
        if (order >= 0) {
            row.objects += (int64_t)to->types[k].objects;
            row.bytes += (int64_t)to->types[k++].bytes;
        }
        if (row.objects != 0 || row.bytes != 0) {
            rows[n++] = row;
        }
    }
    *count = n;
    return rows;
}

static int by_session(const void *a, const void *b)
{
    uint64_t x = ((const struct heap_growth *)a)->session, y = ((const struct heap_growth *)b)->session;
    return (x > y) - (x < y);
}

/* Cohorts from `epoch` on, one row a session.  NULL: no memory. */
static struct heap_growth *diff_sessions(uint32_t *count, const struct cohort_count *cohorts, uint32_t cohort_count,
                                         uint32_t epoch)
{
    struct heap_growth *rows = calloc((size_t)cohort_count + 1, sizeof *rows);
    uint32_t n = 0, kept = 0;
    for (uint32_t i = 0; rows != NULL && i < cohort_count; i++) {
        if (cohorts[i].epoch >= epoch) {
            rows[n++] = (struct heap_growth){.session = cohorts[i].session,
                                             .objects = (int64_t)cohorts[i].objects,
                                             .bytes = (int64_t)cohorts[i].bytes};
        }
    }
    if (n > 0) {
        qsort(rows, n, sizeof *rows, by_session);
    }
    for (uint32_t i = 0; i < n; i++) {
        if (kept > 0 && rows[kept - 1].session == rows[i].session) {
            rows[kept - 1].objects += rows[i].objects;
            rows[kept - 1].bytes += rows[i].bytes;
        } else {
            rows[kept++] = rows[i];
        }
    }
    *count = kept;
    return rows;
}

/* The census of now into marks->now, and a walk over the cohorts.  GIL: not held. */
static enum heap_error count_now(struct tally *tally, struct heap *heap, const _Atomic bool *cancel)
{
    struct census now;
    if (!heap_enter_still(heap, cancel)) {
        return HEAP_CANCELLED;
    }
    heap_settle(heap);
    enum heap_error error = census_take(&now, heap) ? tally_begin(tally, heap) : HEAP_MEMORY;
    heap_leave(heap);
    census_sort(&now);
    census_fini(&heap->marks->now);
    heap->marks->now = now;
    return error == HEAP_OK ? tally_complete(tally, heap, cancel) : error;
}

enum heap_error heap_diff(struct heap_growth **types, uint32_t *type_count, struct heap_growth **sessions,
                          uint32_t *session_count, struct heap *heap, const struct heap_text *from,
                          const struct heap_text *to, const _Atomic bool *cancel)
{
    struct marks *marks = heap->marks;
    const struct mark *start = find_mark(marks, from->text, from->len);
    const struct mark *end = to != NULL ? find_mark(marks, to->text, to->len) : NULL;
    if (start == NULL || (to != NULL && end == NULL)) {
        return HEAP_NO_MARK;
    }
    struct tally tally = {.count = 0};
    enum heap_error error = to == NULL ? count_now(&tally, heap, cancel) : HEAP_OK;
    if (error == HEAP_OK) {
        struct heap_growth *type_rows = diff_types(type_count, &start->census, to != NULL ? &end->census : &marks->now);
        struct heap_growth *session_rows =
            to != NULL ? diff_sessions(session_count, end->cohorts, end->cohort_count, start->epoch)
                       : diff_sessions(session_count, tally.counts, tally.count, start->epoch);
        if (type_rows == NULL || session_rows == NULL) {
            free(type_rows);
            free(session_rows);
            error = HEAP_MEMORY;
        } else {
            *types = type_rows;
            *sessions = session_rows;
        }
    }
    free(tally.counts);
    return error;
}

uint32_t marks_cohorts(const struct heap *heap)
{
    return heap->marks != NULL ? heap->marks->cohort_count - 1 : 0;
}

/* ---- checker ---- */

static uint64_t count_tags(struct heap *heap, enum pool_kind kind, uint64_t *by_cohort, FILE *why, uint32_t *problems)
{
    struct marks *marks = heap->marks;
    uint32_t pool = 0, first;
    uint64_t tagged = 0;
    unsigned class;
    while (pymalloc_next_pool(&heap->pm, kind, &pool, &first, &class)) {
        for (uint32_t ref = first & ~63u; (ref ^ first) < 1024; ref += 64) {
            for (uint64_t bits = pymalloc_used_word(&heap->pm, ref); bits != 0; bits &= bits - 1) {
                uint32_t number = *tag_of(marks, ref + (uint32_t)__builtin_ctzll(bits));
                if (number >= marks->cohort_count) {
                    fprintf(why, "an object has the tag %u, and there are %u cohorts\n", number, marks->cohort_count);
                    (*problems)++;
                } else if (number != 0) {
                    by_cohort[number]++;
                    tagged++;
                }
            }
        }
    }
    return tagged;
}

uint32_t mark_check(struct heap *heap, FILE *why)
{
    struct marks *marks = heap->marks;
    uint32_t problems = 0;
    if (marks == NULL) {
        return 0;
    }
    uint64_t *live = calloc(marks->cohort_count, sizeof *live);
    if (live == NULL) {
        fputs("no memory to count cohorts\n", why);
        return 1;
    }
    count_tags(heap, POOL_CONTAINER, live, why, &problems);
    count_tags(heap, POOL_ATOM, live, why, &problems);
    for (uint32_t i = 1; i < marks->cohort_count; i++) {
        if (live[i] != marks->cohorts[i].live) {
            fprintf(why, "cohort %u has %llu objects and says %llu\n", i, (unsigned long long)live[i],
                    (unsigned long long)marks->cohorts[i].live);
            problems++;
        }
    }
    free(live);
    return problems + map32_check(&marks->current_of, why);
}
