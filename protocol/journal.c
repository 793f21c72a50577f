/* journal.c -- when a line is written: around each request, and where the heap and sessions do something by themselves.
 *
 *   journal_attempt    runs a request; its line goes where `log` ended before, in front of what it set off; who
 *                      subscribes to `journal` is told it, also where nothing is kept
 *   on_effect          the heap tells of what no request did; effects of one kind that follow one another are one line
 *   journal_hand_over  at the end of a hold of the GIL: all its lines go to the host at once, which is group commit
 *
 * What a request changed is in the heap before its line is written.  So there must be room for it: in memory, which is
 * reserved before, and on disk, of which the host says how much there is; without that the request is refused.  For what
 * nobody asked for, and nobody can refuse, there is always a buffer: the host gives back what it has written.  Should a
 * line be lost all the same, nothing more is changed.
 *
 * Locking: the GIL, but for what journal.h says.   Start at journal_attempt().
 */
#include "journal_line.h"
#include "rpc_internal.h"

#include <stdlib.h>

/* What a line has besides its request, at the most, and how much longer than the request it can be: texts may need
 * escapes; the ids of `[[],[],..]`, should none follow another, take five times as much.  A header is shorter, too. */
#define LINE_BYTES 1024u
#define PER_BYTE 6u
/* On disk so much stays free for what cannot be refused: effects, ends of sessions. */
#define ROOM_KEPT_BYTES 262144u
/* When so much waits for a disk that is too slow everybody waits: memory is no place to keep more. */
#define BACKLOG_BYTES 268435456u
/* Of a buffer that is empty so much is kept. */
#define KEEP_BYTES 1048576u
/* The least room of a log.  What one hold of the GIL does besides requests finds a place in it. */
#define LOG_BYTES 16384u

/* ---- life ---- */

void journal_init(struct rpc_service *service)
{
    struct journal *journal = &service->journal;
    out_init(&journal->log, 0);
    out_init(&journal->line, 0);
    out_init(&journal->ready, 0);
    out_init(&journal->next, 0);
    out_init(&journal->spare, 0);
    runs_init(&journal->runs);
    pthread_mutex_init(&journal->mutex, NULL);
    pthread_cond_init(&journal->taken, NULL);
    atomic_store(&journal->room, UINT64_MAX);
}

void journal_fini(struct rpc_service *service)
{
    struct journal *journal = &service->journal;
    out_fini(&journal->log);
    out_fini(&journal->line);
    out_fini(&journal->ready);
    out_fini(&journal->next);
    out_fini(&journal->spare);
    runs_fini(&journal->runs);
    pthread_cond_destroy(&journal->taken);
    pthread_mutex_destroy(&journal->mutex);
}

bool journal_reserve(struct rpc_service *service)
{
    struct journal *journal = &service->journal;
    return out_reserve(&journal->spare, LOG_BYTES) && out_reserve(&journal->line, LINE_BYTES) &&
           out_reserve(&journal->runs.text, LINE_BYTES);
}

/* ---- the log's buffers ---- */

/* Until the host has taken or given back something.  The mutex is held. */
static void await_host(struct journal *journal)
{
    journal->sink.wake(journal->sink.arg);
    pthread_cond_wait(&journal->taken, &journal->mutex);
}

/* Gives the log, which has none, a buffer: the spare one, a new one, or the next that the host gives back. */
static bool find_buffer(struct journal *journal, size_t bytes)
{
    struct out *log = &journal->log;
    bool is_found = false, may_come = true;
    pthread_mutex_lock(&journal->mutex);
    while (!is_found && may_come) {
        if (journal->spare.data != NULL) {
            *log = journal->spare;
            out_init(&journal->spare, 0);
        }
        is_found = out_reserve(log, bytes);
        out_truncate(log, 0);
        may_come = journal->is_taken || journal->ready.len > 0 || journal->next.len > 0;
        if (!is_found && log->data == NULL && may_come && bytes <= LOG_BYTES) {
            await_host(journal);
        } else {
            may_come = false;
        }
    }
    pthread_mutex_unlock(&journal->mutex);
    return is_found;
}

static bool reserve_log(struct journal *journal, size_t bytes)
{
    struct out *log = &journal->log;
    if (log->data == NULL) {
        return find_buffer(journal, bytes < LOG_BYTES ? LOG_BYTES : bytes);
    }
    if (out_reserve(log, bytes)) {
        return true;
    }
    out_truncate(log, log->len);
    return false;
}

/* ---- lines ---- */

static void give_back(struct out *out)
{
    out_truncate(out, 0);
    if (out->room > KEEP_BYTES) {
        size_t max = out->max;
        out_fini(out);
        out_init(out, max);
    }
}

/* A change is lost to the journal. */
static void break_journal(struct rpc_service *service)
{
    struct journal *journal = &service->journal;
    if (!atomic_exchange(&journal->is_broken, true) && service->host.log_error != NULL) {
        service->host.log_error(service->host.arg,
                                "no memory to keep a change: nothing can be changed until heapd is started anew");
    }
    out_truncate(&journal->line, 0);
}

void journal_note_appended(struct rpc_service *service)
{
    struct journal *journal = &service->journal;
    atomic_store_explicit(&journal->appended, journal->handed + journal->log.len, memory_order_release);
}

/* The line that was written into journal->line takes its place in the log, at `at`; is_seen: replies can tell of it. */
static void append_line(struct rpc_service *service, size_t at, bool is_seen)
{
    struct journal *journal = &service->journal;
    struct out *log = &journal->log, *line = &journal->line;
    if (line->failed || !reserve_log(journal, line->len)) {
        break_journal(service);
        return;
    }
    if (at < log->len) {
        memmove(log->data + at + line->len, log->data + at, log->len - at);
    }
    memcpy(log->data + at, line->data, line->len);
    log->len += line->len;
    if (is_seen) {
        atomic_store_explicit(&journal->seen, journal->handed + at + line->len, memory_order_release);
    }
    give_back(line);
    journal_note_appended(service);
}

/* Whether somebody is to know of changes: the host, or who subscribes to them. */
static bool wants_lines(const struct rpc_service *service)
{
    return service->journal.is_on || event_is_watched(service, 1u << EVENT_JOURNAL);
}

/* The line that was written into journal->line from `start` on is told, and kept. */
static void tell_line(struct rpc_service *service, size_t start, size_t at)
{
    struct out *line = &service->journal.line;
    if (event_is_watched(service, 1u << EVENT_JOURNAL)) {
        event_journal(service, line, start + JOURNAL_CRC_BYTES);
    }
    if (service->journal.is_on) {
        append_line(service, at, true);
    } else {
        give_back(line);
    }
}

/* ---- effects ---- */

/* The effects that wait become a line. */
static void end_effects(struct rpc_service *service)
{
    struct journal *journal = &service->journal;
    struct out *line = &journal->line;
    if (journal->runs.count == 0) {
        return;
    }
    size_t start = line_begin(line);
    out_text(line, "{\"effect\":\"");
    out_text(line, line_effect_word(journal->effect));
    out_text(line, "\",\"ids\":");
    runs_write(line, &journal->runs);
    if (journal->effect == HEAP_EFFECT_FINALIZED) {
        out_text(line, journal->is_bound ? ",\"bound\":true" : ",\"bound\":false");
    }
    out_char(line, '}');
    line_end(line, start);
    append_line(service, journal->log.len, journal->effect == HEAP_EFFECT_FINALIZED);
}

static void on_effect(void *arg, enum heap_effect effect, uint64_t id, bool is_bound)
{
    struct rpc_service *service = arg;
    struct journal *journal = &service->journal;
    if (effect != journal->effect || is_bound != journal->is_bound) {
        end_effects(service);
    }
    journal->effect = effect;
    journal->is_bound = is_bound;
    runs_add(&journal->runs, id);
    if (effect == HEAP_EFFECT_FINALIZED) {
        end_effects(service); /* others see what it has bound */
    }
    atomic_store_explicit(&journal->waits, true, memory_order_relaxed);
}

/* `{"effect":WORD` into journal->line, behind those that wait; end_line() ends it. */
static struct out *begin_effect(struct rpc_service *service, const char *word, size_t *start)
{
    struct out *line = &service->journal.line;
    end_effects(service);
    *start = line_begin(line);
    out_text(line, "{\"effect\":\"");
    out_text(line, word);
    out_char(line, '"');
    return line;
}

static void end_effect(struct rpc_service *service, size_t start)
{
    struct out *line = &service->journal.line;
    out_char(line, '}');
    line_end(line, start);
    tell_line(service, start, service->journal.log.len);
}

static void add_u64(struct out *line, const char *name, uint64_t value)
{
    out_text(line, name);
    out_u64(line, value);
}

void journal_release(struct rpc_service *service, struct rpc_session *session)
{
    size_t start;
    if (!wants_lines(service) || !session->is_journalled) {
        return;
    }
    session->is_journalled = false;
    add_u64(begin_effect(service, "released", &start), ",\"session\":", session->number);
    end_effect(service, start);
}

void journal_lease(struct rpc_service *service, struct rpc_session *session)
{
    if (!service->journal.is_on) {
        return;
    }
    session->is_journalled = true;
    end_effects(service);
    size_t start = line_begin(&service->journal.line);
    line_write_lease(&service->journal.line, session);
    line_end(&service->journal.line, start);
    append_line(service, service->journal.log.len, true); /* not told: it has something of the token */
}

void journal_merge(struct rpc_service *service, struct rpc_session *from, struct rpc_session *to)
{
    size_t start;
    if (!wants_lines(service) || !from->is_journalled) {
        return;
    }
    from->is_journalled = false;
    to->is_journalled = true;
    struct out *line = begin_effect(service, "merged", &start);
    add_u64(line, ",\"session\":", from->number);
    add_u64(line, ",\"into\":", to->number);
    end_effect(service, start);
}

/* ---- requests ---- */

/* Whether the line of a request that was so long has a place on disk, and so many bytes stay free there. */
static bool has_room(const struct journal *journal, size_t bytes, uint64_t kept)
{
    uint64_t room = atomic_load_explicit(&journal->room, memory_order_relaxed);
    return room >= atomic_load_explicit(&journal->appended, memory_order_relaxed) + kept + LINE_BYTES +
                       PER_BYTE * (uint64_t)bytes;
}

/* Memory for a line of so many bytes. */
static bool reserve_line(struct journal *journal, size_t bytes)
{
    if (reserve_log(journal, bytes) && out_reserve(&journal->line, bytes)) {
        return true;
    }
    out_truncate(&journal->line, 0);
    return false;
}

/* Whether what a request of so many bytes will change can be kept: the fault says why not. */
static bool can_keep(struct call *call, size_t bytes)
{
    struct journal *journal = &call->service->journal;
    /* Reads go on: those that give an id or a hold take from what is kept. */
    uint64_t kept = call->method->lasts == LASTS ? ROOM_KEPT_BYTES : ROOM_KEPT_BYTES / 2;
    if (atomic_load_explicit(&journal->is_broken, memory_order_relaxed)) {
        return fault_set(call->fault, RPC_UNAVAILABLE,
                         "there was no memory to keep a change: nothing was changed; reads go on, and changes will when "
                         "heapd is started anew");
    }
    if (!has_room(journal, bytes, kept)) {
        return fault_set(call->fault, RPC_UNAVAILABLE,
                         "the disk has no room for what is to be kept of a change: nothing was changed; reads go on, and "
                         "changes will when there is room");
    }
    return reserve_line(journal, LINE_BYTES + (size_t)PER_BYTE * bytes) || fault_heap(call->fault, HEAP_MEMORY);
}

/* Whether a request that succeeded has done something that is to be there after a restart. */
static bool did_change(const struct call *call, uint64_t holds_before, size_t ids)
{
    return call->method->lasts == LASTS ||
           (call->method->lasts == LASTS_IF_SEEN &&
            (ids > 0 || heap_session_holds(call->session) != holds_before || method_changes(call->method, call->args)));
}

/* The line of a request that has changed something. */
static void tell_request(struct call *call, const uint64_t *ids, size_t count)
{
    struct rpc_service *service = call->service;
    struct journal *journal = &service->journal;
    struct rpc_session *session = call->conn->session;
    session->is_journalled = true;
    size_t start = line_begin(&journal->line);
    line_write_request(&journal->line, call, session->number, ids, count);
    line_end(&journal->line, start);
    tell_line(service, start, journal->at);
    if (atomic_load_explicit(&journal->is_broken, memory_order_relaxed)) {
        conn_must_close(call->conn, "no memory to keep its change"); /* a reply would promise what may be lost */
    }
}

bool journal_may_lease(struct call *call)
{
    return !call->service->journal.is_on || can_keep(call, 0);
}

/* A read goes on also when nothing can be kept, as long as it needs no id for an atom, and no hold. */
static bool can_go_on(const struct call *call)
{
    return call->method->lasts == LASTS_IF_SEEN && !method_changes(call->method, call->args);
}

bool journal_attempt(struct call *call, const struct request *request)
{
    struct journal *journal = &call->service->journal;
    bool may_be_kept = method_is_kept(call->method);
    if (call->method->lasts == LASTS_BY_EFFECTS || (!journal->is_on && !may_be_kept)) {
        return reply_attempt(call, request);
    }
    if (journal->is_on && may_be_kept && !can_keep(call, request->bytes)) {
        if (!can_go_on(call)) {
            return false;
        }
        may_be_kept = false;
    }
    end_effects(call->service);
    journal->at = journal->log.len;
    uint64_t holds = heap_session_holds(call->session);
    heap_note_ids(call->heap, may_be_kept ? HEAP_NOTES_ALL : HEAP_NOTES_CONTAINERS);
    bool done = reply_attempt(call, request);
    if (!done && !may_be_kept && method_is_kept(call->method) && call->fault->error == RPC_MEMORY_ERROR) {
        (void)can_keep(call, request->bytes); /* it wanted an id: the fault says why there is none */
    }
    size_t count;
    const uint64_t *ids = heap_noted_ids(call->heap, &count);
    if (done && may_be_kept && did_change(call, holds, count)) {
        tell_request(call, ids, count);
    } else {
        heap_drop_noted(call->heap);
    }
    heap_note_ids(call->heap, HEAP_NOTES_NOTHING);
    return done;
}

void journal_tell(const struct call *call, uint64_t session)
{
    struct out *line = &call->service->journal.line;
    if (!method_is_kept(call->method) && method_changes(call->method, call->args)) {
        size_t start = line_begin(line);
        line_write_request(line, call, session, NULL, 0);
        line_end(line, start);
        event_journal(call->service, line, start + JOURNAL_CRC_BYTES);
        give_back(line);
    }
}

void journal_observe_heap(struct rpc_service *service)
{
    const struct heap_journal journal = {.arg = service, .effect = on_effect};
    heap_set_journal(service->heap, &journal);
}

/* ---- the host's side ---- */

/* The end of the ids' generations is raised before it is reached; it counts once it is on disk. */
static void raise_generations(struct rpc_service *service)
{
    struct journal *journal = &service->journal;
    size_t start;
    if (journal->generations_lsn != 0) {
        if (atomic_load_explicit(&journal->durable, memory_order_acquire) >= journal->generations_lsn) {
            heap_set_id_generations(service->heap, journal->generations_first, journal->generations_end);
            journal->generations_lsn = 0;
        }
        return;
    }
    if (!heap_wants_generations(service->heap)) {
        return;
    }
    journal->generations_end = journal_generations_from(journal->generations_end);
    struct out *line = begin_effect(service, "generations", &start);
    add_u64(line, ",\"end\":", journal->generations_end);
    out_char(line, '}');
    line_end(line, start);
    append_line(service, journal->log.len, false); /* no change: nobody is told */
    journal->generations_lsn = journal->handed + journal->log.len;
}

/* Puts the log behind what the host has not taken yet.  false: there is no memory, and the host has something to take.
 * The mutex is held. */
static bool put_behind(struct journal *journal)
{
    bool is_next = journal->next_number != 0;
    struct out *to = is_next ? &journal->next : &journal->ready;
    if (to->len == 0) {
        struct out empty = *to;
        *to = journal->log;
        journal->log = empty;
    } else {
        size_t len = to->len;
        out_bytes(to, journal->log.data, journal->log.len);
        if (to->failed) {
            out_truncate(to, len);
            return false;
        }
    }
    journal->handed = atomic_load_explicit(&journal->appended, memory_order_relaxed);
    *(is_next ? &journal->next_lsn : &journal->ready_lsn) = journal->handed;
    return true;
}

void journal_hand_over(struct rpc_service *service)
{
    struct journal *journal = &service->journal;
    end_effects(service);
    raise_generations(service);
    atomic_store_explicit(&journal->waits, false, memory_order_relaxed);
    if (journal->log.len == 0) {
        return;
    }
    pthread_mutex_lock(&journal->mutex);
    while (!put_behind(journal)) {
        await_host(journal); /* when it has taken all there is no memory needed */
    }
    while (journal->next_number == 0 && journal->ready.len > BACKLOG_BYTES) {
        await_host(journal);
    }
    pthread_mutex_unlock(&journal->mutex);
    out_truncate(&journal->log, 0);
    journal->sink.wake(journal->sink.arg);
}

bool journal_begin_file(struct rpc_service *service, uint64_t number)
{
    struct journal *journal = &service->journal;
    journal_hand_over(service);
    if (!reserve_line(journal, LINE_BYTES)) {
        return false;
    }
    pthread_mutex_lock(&journal->mutex);
    bool is_free = journal->next_number == 0;
    if (is_free) {
        journal->next_number = number;
    }
    pthread_mutex_unlock(&journal->mutex);
    if (is_free) {
        journal->before = journal->loaded + journal->handed;
        line_write_header(&journal->log, service, "journal", number, false);
        journal_note_appended(service);
        journal_hand_over(service);
    }
    return is_free && !atomic_load(&journal->is_broken);
}

bool journal_catch_up(struct rpc_service *service)
{
    uint64_t since_us = 0;
    if (!atomic_load_explicit(&service->journal.waits, memory_order_relaxed)) {
        return true;
    }
    if (!heap_enter_within(service->heap, 0, &since_us)) {
        return false;
    }
    journal_hand_over(service);
    heap_leave(service->heap);
    return true;
}

char *rpc_journal_take(struct rpc_service *service, size_t *len, uint64_t *lsn, uint64_t *number)
{
    struct journal *journal = &service->journal;
    pthread_mutex_lock(&journal->mutex);
    char *bytes = NULL;
    if (journal->ready.len == 0 && journal->next_number != 0) {
        out_fini(&journal->ready);
        journal->ready = journal->next;
        journal->ready_lsn = journal->next_lsn;
        journal->number = journal->next_number;
        journal->next_number = 0;
        out_init(&journal->next, 0);
    }
    *number = journal->number;
    if (journal->ready.len > 0) {
        bytes = journal->ready.data;
        *len = journal->ready.len;
        *lsn = journal->ready_lsn;
        journal->is_taken = true;
        journal->taken_room = journal->ready.room;
        out_init(&journal->ready, 0);
        pthread_cond_signal(&journal->taken);
    }
    pthread_mutex_unlock(&journal->mutex);
    return bytes;
}

void rpc_journal_give_back(struct rpc_service *service, char *bytes)
{
    struct journal *journal = &service->journal;
    pthread_mutex_lock(&journal->mutex);
    bool is_spare = journal->spare.data == NULL && journal->taken_room >= LOG_BYTES && journal->taken_room <= KEEP_BYTES;
    if (is_spare) {
        journal->spare = (struct out){.data = bytes, .room = journal->taken_room};
    } else {
        free(bytes);
    }
    journal->is_taken = false;
    pthread_cond_signal(&journal->taken);
    pthread_mutex_unlock(&journal->mutex);
}

void rpc_journal_set_room(struct rpc_service *service, uint64_t lsn)
{
    atomic_store_explicit(&service->journal.room, lsn, memory_order_relaxed);
}

void rpc_journal_close(struct rpc_service *service)
{
    const struct heap_journal nobody = {.effect = NULL};
    if (service->journal.is_on) {
        heap_enter(service->heap);
        journal_hand_over(service);
        heap_set_journal(service->heap, &nobody);
        service->journal.is_on = false;
        heap_leave(service->heap);
    }
}
