/* finalizer.c -- what happens once, when an object is about to die.
 *
 * A record says what: first `clear`, the object drops what it refers to; then `resurrect_as`, a name is bound
 * to it.  It stays, done, until the object dies, so that heap.inspect can show it.
 *
 *   IDLE     the object lives                                               on no list
 *   DYING    its refcount became 0; finalizer_run_dying() will run it       heap->finalizers.dying
 *   JUDGED   a collection has condemned the object                          heap->finalizers.judged
 *   RAN      ran in this collection; whether it has a name is not known yet heap->finalizers.ran
 *   SETTLED  that is known, but not yet told                                heap->finalizers.settled
 *
 * A dying object is not run where its refcount becomes 0, because binding a name may kill another object with a
 * finalizer, and so on: the record waits in line, which takes neither stack nor memory.  The object stays as it
 * was meanwhile, tracked, with its id and its weakrefs; a str also in the interned table, where it may be found, live
 * and die anew, so that a record may leave the line from anywhere.  One that loses its last reference while it waits to be
 * judged goes over to the dying.
 *
 * An object brought back from death by refcount begins anew in generation 0, as in CPython, which had untracked
 * it.  One that died so while a collection ran goes the way of that collection's survivors.
 *
 * In a collection they run in the order of registration, which is near CPython's order of creation.
 *
 * Invariant: FLAG_FINALIZER on the target == the table has a record for it; outside a drain and a collection
 * every record is IDLE; `waiting` of them have not run.   Checker: finalizer_check().
 * Source of the orders: CPython's PEP 442 and Modules/gcmodule.c.   Start at finalizer_run().
 */
#include "visit.h"

enum place { PLACE_IDLE, PLACE_DYING, PLACE_JUDGED, PLACE_RAN, PLACE_SETTLED };

struct finalizer {
    struct finalizer *next, *prev; /* on the list of `place`; meaningless when idle */
    enum place place;
    uint32_t target;
    uint32_t number;              /* its place in the records */
    uint32_t token_len, name_len; /* of the texts that follow; name_len 0: it binds no name */
    bool has_token, clear;
    bool done;        /* it has run */
    bool told;        /* and that has been told */
    uint64_t serial;  /* ascends in the order of registration */
    uint64_t session; /* number of who set it; 0: nobody */
    char texts[];     /* the token, then the name */
};

static struct finalizer *record_of(const struct heap *heap, uint32_t target)
{
    if (!(object_at(heap, target)->flags & FLAG_FINALIZER)) {
        return NULL;
    }
    return heap->finalizers.records[*map32_find(&heap->finalizers.by_target, target)];
}

static uint8_t finalized_flag(uint32_t ref)
{
    return ref_is_atom(ref) ? FLAG_ATOM_FINALIZED : FLAG_FINALIZED;
}

bool heap_is_finalized(const struct heap *heap, heap_ref obj)
{
    return (object_at(heap, obj)->flags & finalized_flag(obj)) != 0;
}

/* ---- lists of those that wait ---- */

static struct finalizer_list *list_of(struct heap *heap, enum place place)
{
    struct finalizer_table *table = &heap->finalizers;
    switch (place) {
    case PLACE_DYING:
        return &table->dying;
    case PLACE_JUDGED:
        return &table->judged;
    case PLACE_RAN:
        return &table->ran;
    default:
        return &table->settled;
    }
}

/* Deaths that are put down have taken their part of the dying with them: the record may be at an end of theirs. */
static void leave_line(struct heap *heap, const struct finalizer *record)
{
    for (struct heap_dying *dying = heap->dying_first; dying != NULL; dying = dying->next) {
        dying->finalizers[0] = dying->finalizers[0] == record ? record->next : dying->finalizers[0];
        dying->finalizers[1] = dying->finalizers[1] == record ? record->prev : dying->finalizers[1];
    }
}

static void leave_place(struct heap *heap, struct finalizer *record)
{
    if (record->place == PLACE_IDLE) {
        return;
    }
    struct finalizer_list *list = list_of(heap, record->place);
    if (record->prev != NULL) {
        record->prev->next = record->next;
    } else if (list->first == record) {
        list->first = record->next;
    }
    if (record->next != NULL) {
        record->next->prev = record->prev;
    } else if (list->last == record) {
        list->last = record->prev;
    }
    if (unlikely(heap->dying_first != NULL) && record->place == PLACE_DYING) {
        leave_line(heap, record);
    }
    record->place = PLACE_IDLE;
}

static void move_to(struct heap *heap, struct finalizer *record, enum place place)
{
    leave_place(heap, record);
    struct finalizer_list *list = list_of(heap, place);
    record->place = place;
    record->next = NULL;
    record->prev = list->last;
    *(list->last != NULL ? &list->last->next : &list->first) = record;
    list->last = record;
}

/* ---- records ---- */

static size_t record_bytes(const struct finalizer *record)
{
    return sizeof *record + record->token_len + record->name_len;
}

static bool grow_records(struct heap *heap)
{
    struct finalizer_table *table = &heap->finalizers;
    uint32_t room = table->room == 0 ? 16 : table->room * 2;
    void *records = pymalloc_table_realloc(&heap->pm, table->records, table->room * sizeof *table->records,
                                           room * sizeof *table->records);
    if (records == NULL) {
        return false;
    }
    table->records = records;
    table->room = room;
    return true;
}

/* Takes the record away; the last one takes its place in the array. */
static void record_destroy(struct heap *heap, struct finalizer *record)
{
    struct finalizer_table *table = &heap->finalizers;
    leave_place(heap, record);
    table->waiting -= !record->done;
    struct finalizer *moved = table->records[--table->count];
    table->records[record->number] = moved;
    moved->number = record->number;
    *map32_find(&table->by_target, moved->target) = moved->number;
    map32_remove(&table->by_target, record->target);
    object_at(heap, record->target)->flags &= (uint8_t)~FLAG_FINALIZER;
    pymalloc_table_free(&heap->pm, record, record_bytes(record));
}

/* A record that the table does not have yet; NULL: no memory. */
static struct finalizer *record_create(struct heap *heap, struct heap_session *session, heap_ref obj,
                                       const struct heap_finalizer *finalizer)
{
    size_t token_len = finalizer->token.text != NULL ? finalizer->token.len : 0;
    size_t name_len = finalizer->resurrect_as.text != NULL ? finalizer->resurrect_as.len : 0;
    struct finalizer *record = pymalloc_table_alloc(&heap->pm, sizeof *record + token_len + name_len);
    if (record == NULL) {
        return NULL;
    }
    *record = (struct finalizer){.target = obj,
                                 .serial = ++heap->finalizers.serials,
                                 .session = session != NULL ? session_note_number(session) : 0,
                                 .token_len = (uint32_t)token_len,
                                 .name_len = (uint32_t)name_len,
                                 .has_token = finalizer->token.text != NULL,
                                 .clear = finalizer->clear};
    if (token_len > 0) {
        memcpy(record->texts, finalizer->token.text, token_len);
    }
    if (name_len > 0) {
        memcpy(record->texts + token_len, finalizer->resurrect_as.text, name_len);
    }
    return record;
}

/* Puts the record into the table.  false: no memory. */
static bool record_insert(struct heap *heap, struct finalizer *record)
{
    struct finalizer_table *table = &heap->finalizers;
    if (table->count == table->room && !grow_records(heap)) {
        return false;
    }
    uint32_t *number = map32_put(&table->by_target, record->target);
    if (number == NULL) {
        return false;
    }
    *number = record->number = table->count;
    table->records[table->count++] = record;
    table->waiting++;
    object_at(heap, record->target)->flags |= FLAG_FINALIZER;
    return true;
}

/* The object has a record that has not run: the new one takes its place, wherever that is. */
static void record_replace(struct heap *heap, struct finalizer *old, struct finalizer *record)
{
    record->number = old->number;
    heap->finalizers.records[record->number] = record;
    if (old->place != PLACE_IDLE) {
        move_to(heap, record, old->place);
        leave_place(heap, old);
    }
    pymalloc_table_free(&heap->pm, old, record_bytes(old));
}

/* Tells what became of an object whose finalizer has run. */
static void tell(struct heap *heap, struct finalizer *record, bool resurrected)
{
    record->told = true;
    if (heap->observer.event == NULL) {
        return;
    }
    struct heap_event event = {.kind = HEAP_EVENT_FINALIZED,
                               .resurrected = resurrected,
                               .session = record->session,
                               .token = record->has_token ? record->texts : NULL,
                               .token_len = record->token_len};
    event.object = handle_id(heap, record->target);
    heap->observer.event(heap->observer.arg, &event);
}

/* ---- the public face ---- */

enum heap_error heap_finalizer_set(struct heap *heap, struct heap_session *session, heap_ref obj,
                                   const struct heap_finalizer *finalizer)
{
    GIL_ASSERT_HELD(heap);
    const struct heap_text *name = &finalizer->resurrect_as;
    if (object_is_immortal(object_at(heap, obj))) {
        return HEAP_TYPE;
    }
    if (heap_is_finalized(heap, obj)) {
        return HEAP_FINALIZED;
    }
    if (name->text != NULL && (name->len == 0 || name->len > HEAP_NAME_BYTES_MAX)) {
        return HEAP_BAD_NAME;
    }
    visit_before_change(heap, obj);
    if (handle_slot(heap, obj) == 0) {
        return HEAP_MEMORY;
    }
    struct finalizer *old = record_of(heap, obj), *record = record_create(heap, session, obj, finalizer);
    if (record == NULL) {
        return HEAP_MEMORY;
    }
    if (old != NULL) {
        record_replace(heap, old, record);
    } else if (!record_insert(heap, record)) {
        pymalloc_table_free(&heap->pm, record, record_bytes(record));
        return HEAP_MEMORY;
    }
    return HEAP_OK;
}

bool heap_finalizer_clear(struct heap *heap, heap_ref obj)
{
    GIL_ASSERT_HELD(heap);
    struct finalizer *record = record_of(heap, obj);
    if (record == NULL) {
        return false;
    }
    visit_before_change(heap, obj);
    bool waited = !record->done, dying = record->place == PLACE_DYING;
    if (record->done && !record->told) { /* a collection has brought it back, and not yet come to telling so */
        tell(heap, record, true);
    }
    record_destroy(heap, record);
    if (dying && object_at(heap, obj)->refcount == 0) {
        object_death(heap, obj); /* nothing is left to wait for */
    }
    return waited;
}

bool heap_finalizer_get(struct heap_finalizer *finalizer, const struct heap *heap, heap_ref obj)
{
    GIL_ASSERT_HELD(heap);
    const struct finalizer *record = record_of(heap, obj);
    if (record == NULL) {
        return false;
    }
    *finalizer =
        (struct heap_finalizer){.clear = record->clear, .done = record->done, .session = record->session};
    if (record->has_token) {
        finalizer->token = (struct heap_text){record->texts, record->token_len};
    }
    if (record->name_len > 0) {
        finalizer->resurrect_as = (struct heap_text){record->texts + record->token_len, record->name_len};
    }
    return true;
}

void heap_replay_finalized(struct heap *heap, heap_ref obj)
{
    struct finalizer *record = record_of(heap, obj);
    object_at(heap, obj)->flags |= finalized_flag(obj);
    if (record != NULL && !record->done) {
        record->done = record->told = true;
        heap->finalizers.waiting--;
    }
}

/* ---- running ---- */

/* What the record says, once; the caller owns a reference of the object.  A name that cannot be bound is not, nor is
 * one when the name could not be bound the first time. */
static void finalizer_run(struct heap *heap, struct finalizer *record, bool binds)
{
    uint32_t ref = record->target;
    visit_before_change(heap, ref);
    record->done = true;
    heap->finalizers.waiting--;
    object_at(heap, ref)->flags |= finalized_flag(ref);
    if (record->clear) {
        object_clear(heap, ref);
    }
    bool is_bound = false;
    if (record->name_len > 0 && binds) {
        /* Benign when it fails: the object dies, and whoever set the finalizer is told. */
        is_bound = name_bind(heap, record->texts + record->token_len, record->name_len, ref) == HEAP_OK;
    }
    lasting_tell(heap, HEAP_EFFECT_FINALIZED, ref, is_bound);
}

/* ---- death by refcount ---- */

bool finalizer_before_death(struct heap *heap, uint32_t ref)
{
    struct finalizer *record = record_of(heap, ref);
    if (!record->done) {
        move_to(heap, record, PLACE_DYING);
        return true;
    }
    finalizer_forget(heap, ref);
    return false;
}

bool finalizer_is_dying(const struct heap *heap, uint32_t ref)
{
    const uint32_t *number = map32_find(&heap->finalizers.by_target, ref); /* flags may be damaged: heap_check() asks */
    return number != NULL && heap->finalizers.records[*number]->place == PLACE_DYING;
}

void finalizer_forget(struct heap *heap, uint32_t ref)
{
    struct finalizer *record = record_of(heap, ref);
    if (!record->told) {
        tell(heap, record, false);
    }
    record_destroy(heap, record);
}

/* The first of the dying: it owns itself while its finalizer runs, and dies then unless a name has it. */
void finalizer_run_dying(struct heap *heap)
{
    struct finalizer *record = heap->finalizers.dying.first;
    uint32_t ref = record->target;
    struct object *o = object_at(heap, ref);
    leave_place(heap, record);
    if (o->refcount > 0) {
        return; /* somebody has found it, by its id or a weakref, while it waited */
    }
    object_incref(heap, ref);
    finalizer_run(heap, record, true);
    if (o->refcount == 1) {
        tell(heap, record, false);
    } else if (heap->finalizers.judging) {
        move_to(heap, record, PLACE_RAN); /* another finalizer may still bind the name */
    } else {
        tell(heap, record, true);
        if (!gc_is_collecting(&heap->gc)) {
            gc_renew(heap, ref);
        }
    }
    object_decref(heap, ref);
}

/* The first time it was dying, or condemned; in the replay it is dying, or only about to be swept. */
bool finalizer_replay(struct heap *heap, uint32_t ref, bool binds)
{
    struct finalizer *record = record_of(heap, ref);
    if (record == NULL || record->done) {
        return false;
    }
    leave_place(heap, record);
    object_incref(heap, ref);
    finalizer_run(heap, record, binds);
    record->told = true;
    object_decref(heap, ref);
    return true;
}

/* ---- collections ---- */

void finalizer_judge(struct heap *heap, uint32_t ref)
{
    struct finalizer *record = record_of(heap, ref);
    if (!record->done) {
        move_to(heap, record, PLACE_JUDGED);
    }
}

/* ---- the order of registration: a merge sort that can be left at any record ---- */

static void list_append(struct finalizer_list *list, struct finalizer *record)
{
    record->prev = list->last;
    *(list->first != NULL ? &list->last->next : &list->first) = record;
    list->last = record;
}

void finalizer_sort_begin(struct heap *heap)
{
    struct finalizer_sort *sort = &heap->finalizers.sort;
    *sort = (struct finalizer_sort){.rest = heap->finalizers.judged.first};
}

/* Two lists become one, which goes to lists[place]. */
static void merge_begin(struct finalizer_sort *sort, unsigned i, struct finalizer_list other, unsigned place)
{
    sort->a = sort->lists[i];
    sort->b = other;
    sort->merged = sort->lists[i] = (struct finalizer_list){NULL, NULL};
    sort->place = place;
    sort->is_merging = true;
}

/* One record more; at the end what is left of one of the lists. */
static void merge_step(struct finalizer_sort *sort)
{
    if (sort->a.first != NULL && sort->b.first != NULL) {
        struct finalizer_list *lower = sort->a.first->serial < sort->b.first->serial ? &sort->a : &sort->b;
        struct finalizer *record = lower->first;
        lower->first = record->next;
        list_append(&sort->merged, record);
        return;
    }
    const struct finalizer_list *rest = sort->a.first != NULL ? &sort->a : &sort->b;
    struct finalizer *last = rest->last;
    list_append(&sort->merged, rest->first);
    sort->merged.last = last;
    sort->is_merging = false;
}

/* The merged list is put down where it belongs, or merged with the one that is there. */
static void merge_end(struct finalizer_sort *sort)
{
    struct finalizer_list merged = sort->merged;
    sort->merged = (struct finalizer_list){NULL, NULL};
    if (sort->lists[sort->place].first != NULL) {
        merge_begin(sort, sort->place, merged, sort->place + 1);
    } else {
        sort->lists[sort->place] = merged;
    }
}

/* The next record makes a list of one; when there is none, the two shortest lists become one.  true: one is left. */
static bool sort_begin_merge(struct heap *heap, struct finalizer_sort *sort)
{
    struct finalizer *record = sort->rest;
    if (record != NULL) {
        sort->rest = record->next;
        record->next = NULL;
        sort->merged = (struct finalizer_list){record, record};
        sort->place = 0;
        return false;
    }
    unsigned i = 0;
    while (i < FINALIZER_LISTS && sort->lists[i].first == NULL) {
        i++;
    }
    struct finalizer_list shortest = sort->lists[i];
    sort->lists[i] = (struct finalizer_list){NULL, NULL};
    unsigned k = i + 1;
    while (k < FINALIZER_LISTS && sort->lists[k].first == NULL) {
        k++;
    }
    if (k == FINALIZER_LISTS) {
        heap->finalizers.judged = shortest;
        shortest.first->prev = NULL;
        return true;
    }
    merge_begin(sort, k, shortest, k);
    return false;
}

bool finalizer_sort_slice(struct heap *heap, struct slice *slice)
{
    struct finalizer_sort *sort = &heap->finalizers.sort;
    while (!slice->is_over) {
        if (sort->is_merging) {
            merge_step(sort);
        } else if (sort->merged.first != NULL) {
            merge_end(sort);
        } else if (sort_begin_merge(heap, sort)) {
            return true;
        }
        slice_spend(slice, 1, 0);
    }
    return false;
}

/* ---- and what follows ---- */

bool finalizer_run_judged(struct heap *heap)
{
    struct finalizer_table *table = &heap->finalizers;
    struct finalizer *record = table->judged.first;
    table->judging = record != NULL;
    if (record != NULL) {
        uint32_t ref = record->target;
        move_to(heap, record, PLACE_RAN);
        object_incref(heap, ref);
        finalizer_run(heap, record, true);
        object_decref(heap, ref);
    }
    return record != NULL;
}

bool finalizer_next_ran(struct heap *heap, uint32_t *named)
{
    struct finalizer *record = heap->finalizers.ran.first;
    if (record == NULL) {
        return false;
    }
    uint32_t slot = handle_slot_if_any(heap, record->target);
    *named = handle_roots(heap, slot) > 0 ? record->target : 0;
    move_to(heap, record, PLACE_SETTLED);
    return true;
}

/* An atom that another finalizer has let die may be among them, and is no candidate. */
bool finalizer_tell_ran(struct heap *heap)
{
    struct finalizer *record = heap->finalizers.settled.first;
    if (record == NULL) {
        return false;
    }
    leave_place(heap, record);
    tell(heap, record, ref_is_atom(record->target) || !gc_is_condemned(&heap->gc, record->target));
    return true;
}

/* ---- life, checker ---- */

void finalizer_fini(struct heap *heap)
{
    struct finalizer_table *table = &heap->finalizers;
    for (uint32_t i = 0; i < table->count; i++) {
        pymalloc_table_free(&heap->pm, table->records[i], record_bytes(table->records[i]));
    }
    pymalloc_table_free(&heap->pm, table->records, table->room * sizeof *table->records);
    map32_fini(&table->by_target);
}

/* Whether the record may be on the list it is on, between two slices. */
static bool may_be_listed(const struct heap *heap, const struct finalizer *record)
{
    switch (record->place) {
    case PLACE_IDLE:
        return true;
    case PLACE_DYING:
        return heap->dying_first != NULL;
    default: /* finalizers run between t1 and the verdict; NAMED is there */
        return gc_is_judging(&heap->gc);
    }
}

/* The lines of the deaths that are put down have all who are dying, `dying` of them. */
static uint32_t lines_check(const struct heap *heap, uint32_t dying, FILE *why)
{
    uint32_t listed = 0;
    bool is_sound = true;
    for (const struct heap_dying *line = heap->dying_first; line != NULL; line = line->next) {
        const struct finalizer *prev = NULL;
        for (const struct finalizer *record = line->finalizers[0]; record != NULL && is_sound; record = record->next) {
            is_sound = record->place == PLACE_DYING && record->prev == prev;
            prev = record;
            listed++;
        }
        is_sound = is_sound && line->finalizers[1] == prev;
    }
    if (!is_sound || listed != dying) {
        fprintf(why, "%u finalizers wait in the lines of the dying, of %u\n", listed, dying);
        return 1;
    }
    return 0;
}

uint32_t finalizer_check(struct heap *heap, FILE *why)
{
    struct finalizer_table *table = &heap->finalizers;
    uint32_t problems = 0, waiting = 0, dying = 0;
    for (uint32_t i = 0; i < table->count; i++) {
        const struct finalizer *record = table->records[i];
        uint32_t ref = record->target;
        const uint32_t *number = map32_find(&table->by_target, ref);
        waiting += !record->done;
        dying += record->place == PLACE_DYING;
        if (!pymalloc_is_block(&heap->pm, ref, ref_is_atom(ref) ? POOL_ATOM : POOL_CONTAINER) ||
            number == NULL || *number != i || record->number != i ||
            !(object_at(heap, ref)->flags & FLAG_FINALIZER)) {
            fprintf(why, "finalizer %u is of %#x, which does not know it\n", i, ref);
            problems++;
        } else if (!may_be_listed(heap, record) || record->done != heap_is_finalized(heap, ref)) {
            fprintf(why, "the finalizer of %#x is not where it should be\n", ref);
            problems++;
        }
    }
    bool is_listed = table->judged.first != NULL || table->ran.first != NULL || table->settled.first != NULL;
    if (waiting != table->waiting || table->by_target.count != table->count || table->dying.first != NULL ||
        (is_listed && !gc_is_judging(&heap->gc))) {
        fprintf(why, "there are %u finalizers, %u of them have not run; the table says %u and %u\n",
                table->count, waiting, table->by_target.count, table->waiting);
        problems++;
    }
    return problems + lines_check(heap, dying, why) + map32_check(&table->by_target, why);
}
