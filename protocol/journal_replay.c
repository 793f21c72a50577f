/* journal_replay.c -- lines of a journal happen again: in a heap that is empty at first, in their order.
 *
 *   rpc_journal_load    each line: sound? -> what is it? -> a request: parameters bound as any request's, and its handler
 *                                                         called, with the ids that it gave
 *                                            an effect: heap_replay_effect(), or something about a session
 *   rpc_journal_open    sessions that had no lease end, what nobody keeps alive any more is collected; that, too, goes
 *                       into the journal, behind a first line that says `restart`, so that it is repeated the next time
 *
 * A line that is not sound is torn, and so the end, unless a later line says that the file was on disk beyond it: then
 * the file has been damaged, and nothing is loaded that might miss something.  Whole lines that are missing show, too: a
 * mark says where it is written, a first line how many bytes of lines were in the files before.
 *
 * The GIL is held by one thread from rpc_journal_load() to rpc_journal_open(); nobody else wants it meanwhile.
 * Start at load_line().
 */
#include "journal_line.h"
#include "rpc_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

/* Lines between two looks at whether somebody wants to know, or to stop. */
#define LINES_PER_LOOK 4096u
#define IDS_UNASKED 65536u /* so many a line may name, whatever there is */
/* A literal may be as deep as any max-depth allows, and stands in an object and a list. */
#define DEPTH (RPC_DEPTH_MAX + 8)
#define SESSION_BUCKETS_REPLAY 65536u

/* A session of the journal. */
struct replay_session {
    struct replay_session *next; /* of its bucket */
    uint64_t number;
    struct heap_session *heap;
    uint64_t lease_ms;                  /* 0: none */
    char token_hash[SHA256_TEXT_BYTES]; /* when leased */
};

/* What is read of a line; what is not there is 0. */
struct replay_line {
    uint64_t session, into, lease_ms, end, offset, at, number;
    struct json_string effect, token, heap, kind;
    const struct method *method;
    bool has_params, is_notification, is_bound, is_restart, is_header, has_before;
    uint64_t version, generations, before;
};

struct replay {
    struct rpc_service *service;
    struct heap *heap;
    struct turn *turn;   /* of the parameters of one request */
    struct out reply;    /* which nobody reads */
    uint64_t *ids;       /* of the line */
    size_t id_count, id_room;
    uint64_t ids_max;    /* 0: nobody has asked */
    method_arg args[METHOD_PARAMS_MAX];
    struct fault fault;
    uint64_t generations; /* no id has reached it */
    struct rpc_load_file *file; /* under way */
    size_t sure;          /* up to here it misses nothing */
    uint64_t count;       /* bytes of lines, marks left out, in this file and all before it */
    uint64_t last_number, last_good; /* the file before it, and how far that goes; number 0: there is none */
    bool is_mark, is_misplaced;      /* the line under way is a mark; which is not where it was written */
    bool is_snapshot;     /* that file */
    struct replay_session *sessions[SESSION_BUCKETS_REPLAY];
    const char *why;      /* of a line that cannot be repeated */
    char text[RPC_REASON_BYTES / 2]; /* where that is put together */
};

/* ---- reading a line ---- */

static bool scan_u64(struct json_cursor *cursor, uint64_t *number)
{
    struct json_value value;
    if (!json_scan_value(cursor, &value) || value.kind != JSON_KIND_INT || value.overflow || value.integer < 0) {
        return false;
    }
    *number = (uint64_t)value.integer;
    return true;
}

static bool scan_string(struct json_cursor *cursor, struct json_string *string)
{
    struct json_value value;
    if (!json_scan_value(cursor, &value) || value.kind != JSON_KIND_STRING) {
        return false;
    }
    *string = json_string_of(&value);
    return true;
}

static bool scan_bool(struct json_cursor *cursor, bool *is)
{
    struct json_value value;
    *is = json_scan_value(cursor, &value) && value.kind == JSON_KIND_TRUE;
    return !json_failed(cursor);
}

/* Whether a line may name so many ids: those of objects that there are, and of what its bytes may make. */
static bool may_name(struct replay *replay, uint64_t count)
{
    if (count > IDS_UNASKED && replay->ids_max == 0) {
        struct heap_stats stats;
        heap_stats(&stats, replay->heap);
        replay->ids_max = IDS_UNASKED + stats.live + replay->file->len;
    }
    return count <= IDS_UNASKED || count <= replay->ids_max;
}

static bool add_run(struct replay *replay, uint64_t first, uint64_t count)
{
    if (count > UINT32_MAX || !may_name(replay, replay->id_count + count)) {
        return false;
    }
    while (replay->id_room - replay->id_count < count) {
        size_t room = replay->id_room == 0 ? 1024 : 2 * replay->id_room;
        uint64_t *ids = realloc(replay->ids, room * sizeof(*ids));
        if (ids == NULL) {
            return false;
        }
        replay->ids = ids;
        replay->id_room = room;
    }
    for (uint64_t i = 0; i < count; i++) {
        replay->ids[replay->id_count++] = first + i;
    }
    return true;
}

static bool scan_ids(struct replay *replay, struct json_cursor *cursor)
{
    uint64_t first, count;
    if (json_peek(cursor) != '[' || !json_enter(cursor)) {
        return false;
    }
    while (json_next_item(cursor)) {
        if (!scan_u64(cursor, &first) || !json_next_item(cursor) || !scan_u64(cursor, &count) ||
            !add_run(replay, first, count)) {
            return false;
        }
    }
    return !json_failed(cursor);
}

/* One member, whose name has been read. */
static bool read_member(struct replay *replay, struct replay_line *line, struct json_cursor *cursor,
                        const struct json_string *name)
{
    struct json_value value;
    struct json_string text;
    if (json_string_is(name, "session")) {
        return scan_u64(cursor, &line->session);
    }
    if (json_string_is(name, "method")) {
        bool is_first = line->method == NULL;
        line->method = scan_string(cursor, &text) ? method_find(&replay->service->index, text.text, text.len) : NULL;
        return is_first && line->method != NULL && method_is_kept(line->method);
    }
    if (json_string_is(name, "params")) {
        line->has_params = line->method != NULL && !line->has_params &&
                           params_bind(cursor, line->method, replay->args, replay->turn, &replay->fault) == PARAMS_OK;
        return line->has_params;
    }
    if (json_string_is(name, "ids")) {
        return scan_ids(replay, cursor);
    }
    if (json_string_is(name, "notification")) {
        return scan_bool(cursor, &line->is_notification);
    }
    if (json_string_is(name, "effect")) {
        return scan_string(cursor, &line->effect);
    }
    if (json_string_is(name, "bound")) {
        return scan_bool(cursor, &line->is_bound);
    }
    if (json_string_is(name, "into")) {
        return scan_u64(cursor, &line->into);
    }
    if (json_string_is(name, "lease_ms")) {
        return scan_u64(cursor, &line->lease_ms);
    }
    if (json_string_is(name, "token")) {
        return scan_string(cursor, &line->token);
    }
    if (json_string_is(name, "end")) {
        return scan_u64(cursor, &line->end);
    }
    if (json_string_is(name, "offset")) {
        return scan_u64(cursor, &line->offset);
    }
    if (json_string_is(name, "at")) {
        return scan_u64(cursor, &line->at);
    }
    if (json_string_is(name, "heapd")) {
        line->is_header = scan_string(cursor, &line->kind);
        return line->is_header;
    }
    if (json_string_is(name, "before")) {
        line->has_before = scan_u64(cursor, &line->before);
        return line->has_before;
    }
    if (json_string_is(name, "version")) {
        return scan_u64(cursor, &line->version);
    }
    if (json_string_is(name, "heap")) {
        return scan_string(cursor, &line->heap);
    }
    if (json_string_is(name, "number")) {
        return scan_u64(cursor, &line->number);
    }
    if (json_string_is(name, "restart")) {
        return scan_bool(cursor, &line->is_restart);
    }
    if (json_string_is(name, "generations")) {
        return scan_u64(cursor, &line->generations);
    }
    return json_scan_value(cursor, &value); /* of a later daemon, and no harm to pass over */
}

/* The text of a sound line; text[len] is its newline. */
static bool read_line(struct replay *replay, struct replay_line *line, const char *text, size_t len)
{
    struct json_cursor cursor;
    struct json_string name;
    *line = (struct replay_line){0};
    replay->id_count = 0;
    replay->ids_max = 0;
    json_cursor_init(&cursor, text, len, DEPTH);
    if (json_peek(&cursor) != '{' || !json_enter(&cursor)) {
        return false;
    }
    while (json_next_member(&cursor, &name)) {
        if (!read_member(replay, line, &cursor, &name)) {
            return false;
        }
    }
    return json_finish(&cursor) && (line->method != NULL) == line->has_params;
}

/* ---- sessions ---- */

static struct replay_session **find_session(struct replay *replay, uint64_t number)
{
    struct replay_session **link = &replay->sessions[number % SESSION_BUCKETS_REPLAY];
    while (*link != NULL && (*link)->number != number) {
        link = &(*link)->next;
    }
    return link;
}

/* NULL: no memory. */
static struct replay_session *need_session(struct replay *replay, uint64_t number)
{
    struct replay_session **link = find_session(replay, number);
    if (*link == NULL) {
        struct replay_session *session = calloc(1, sizeof(*session));
        if (session == NULL) {
            return NULL;
        }
        session->number = number;
        session->heap = heap_replay_session(replay->heap, number);
        if (session->heap == NULL) {
            free(session);
            return NULL;
        }
        *link = session;
    }
    return *link;
}

/* The session is gone, with its holds unless another one has taken them over. */
static void drop_session(struct replay *replay, struct replay_session **link, bool releases)
{
    struct replay_session *session = *link;
    *link = session->next;
    if (releases) {
        heap_session_destroy(replay->heap, session->heap);
        heap_settle(replay->heap);
    }
    free(session);
}

static bool release(struct replay *replay, uint64_t number)
{
    struct replay_session **link = find_session(replay, number);
    if (*link != NULL) {
        drop_session(replay, link, true);
    }
    return true;
}

static bool merge(struct replay *replay, uint64_t number, uint64_t into)
{
    struct replay_session **from = find_session(replay, number);
    struct replay_session *to = need_session(replay, into);
    if (to == NULL || *from == NULL || number == into) {
        return to != NULL && *from == NULL;
    }
    from = find_session(replay, number); /* the other one may have come in front of it */
    if (heap_session_merge(replay->heap, to->heap, (*from)->heap) != HEAP_OK) {
        return false;
    }
    drop_session(replay, from, false);
    return true;
}

static bool lease(struct replay *replay, const struct replay_line *line)
{
    struct replay_session *session = need_session(replay, line->session);
    if (session == NULL || line->token.len != SHA256_TEXT_BYTES - 1) {
        return false;
    }
    session->lease_ms = line->lease_ms;
    memcpy(session->token_hash, line->token.text, line->token.len);
    return true;
}

/* The daemon had ended: sessions without a lease are gone; or all are, when nothing more is loaded. */
static void end_sessions(struct replay *replay, bool leased_too)
{
    for (size_t i = 0; i < SESSION_BUCKETS_REPLAY; i++) {
        struct replay_session **link = &replay->sessions[i];
        while (*link != NULL) {
            if ((*link)->lease_ms == 0 || leased_too) {
                drop_session(replay, link, true);
            } else {
                link = &(*link)->next;
            }
        }
    }
}

/* Those with a lease go on.  false: no memory. */
static bool restore_sessions(struct replay *replay)
{
    bool ok = true;
    for (size_t i = 0; i < SESSION_BUCKETS_REPLAY; i++) {
        while (ok && replay->sessions[i] != NULL) {
            struct replay_session *session = replay->sessions[i];
            ok = lease_restore(replay->service, session->heap, session->lease_ms, session->token_hash);
            if (ok) {
                drop_session(replay, &replay->sessions[i], false);
            }
        }
    }
    return ok;
}

/* ---- lines happen again ---- */

static bool say(struct replay *replay, const char *why)
{
    replay->why = why;
    return false;
}

static bool repeat_request(struct replay *replay, const struct replay_line *line)
{
    struct replay_session *session = need_session(replay, line->session);
    struct call call = {.service = replay->service,
                        .heap = replay->heap,
                        .session = session == NULL ? NULL : session->heap,
                        .args = replay->args,
                        .method = line->method,
                        .out = &replay->reply,
                        .is_notification = line->is_notification,
                        .fault = &replay->fault};
    out_truncate(&replay->reply, 0);
    if (call.session == NULL) {
        return say(replay, "there is no memory for a session");
    }
    heap_replay_ids(replay->heap, replay->ids, replay->id_count);
    if (!line->method->handler(&call)) {
        return say(replay, replay->fault.message);
    }
    heap_settle(replay->heap);
    return heap_replay_ids_left(replay->heap) == 0 || say(replay, "its objects are not those of the first time");
}

static bool reach_generations(struct replay *replay, uint64_t generations)
{
    replay->generations = generations;
    return generations <= HEAP_GENERATION_END || say(replay, "ids have no such generation");
}

static bool repeat_effect(struct replay *replay, const struct replay_line *line)
{
    const struct json_string *word = &line->effect;
    for (unsigned effect = 0; effect < LINE_EFFECTS; effect++) {
        const char *name = line_effect_word((enum heap_effect)effect);
        if (json_string_equals(word, name, strlen(name))) {
            return heap_replay_effect(replay->heap, (enum heap_effect)effect, replay->ids, replay->id_count,
                                      line->is_bound) ||
                   say(replay, "what happened then cannot have happened to these objects");
        }
    }
    if (json_string_is(word, "released")) {
        return release(replay, line->session);
    }
    if (json_string_is(word, "merged")) {
        return merge(replay, line->session, line->into) || say(replay, "there is no memory for a session");
    }
    if (json_string_is(word, "leased")) {
        return lease(replay, line) || say(replay, "the lease is not one");
    }
    if (json_string_is(word, "generations")) {
        return reach_generations(replay, line->end);
    }
    if (json_string_is(word, "durable")) {
        size_t place = replay->file->good;
        replay->is_mark = true;
        replay->is_misplaced = line->at != place || line->offset > place;
        return !replay->is_misplaced || say(replay, "it is a mark of another place");
    }
    return say(replay, "it tells of an effect that this version does not know");
}

/* The files before it hold other lines than were written to them. */
static bool say_count(struct replay *replay, const struct replay_line *line)
{
    int len = snprintf(replay->text, sizeof(replay->text),
                       "%" PRIu64 " bytes of lines were written to the files before this one, and %" PRIu64 " are there",
                       line->before, replay->count);
    if (replay->last_number != 0) {
        snprintf(replay->text + len, sizeof(replay->text) - (size_t)len,
                 "; of number %" PRIu64 ", the last of them, %" PRIu64 " bytes are left", replay->last_number,
                 replay->last_good);
    }
    return say(replay, replay->text);
}

/* Whether the file is the one that belongs here. */
static bool check_header(struct replay *replay, const struct replay_line *line, const char *kind)
{
    const char *heap = replay->service->heap_token;
    if (line->version != JOURNAL_VERSION) {
        return say(replay, "the file is of another version of heapd");
    }
    if (!line->has_before || !json_string_equals(&line->kind, kind, strlen(kind))) {
        return say(replay, "it is not the first line of such a file");
    }
    if (!json_string_equals(&line->heap, heap, strlen(heap))) {
        return say(replay, "the file is of another heap");
    }
    return line->number == replay->file->number || say(replay, "the file is of another number than its name");
}

static bool repeat_header(struct replay *replay, const struct replay_line *line)
{
    if (replay->is_snapshot) {
        replay->count = line->before;
    }
    if (!check_header(replay, line, replay->is_snapshot ? "snapshot" : "journal") ||
        (replay->count != line->before && !say_count(replay, line))) {
        return false;
    }
    if (line->is_restart) {
        end_sessions(replay, false);
    }
    return reach_generations(replay, line->generations);
}

static bool belongs_in_snapshot(const struct replay_line *line)
{
    return line->method == NULL && (json_string_is(&line->effect, "leased") || json_string_is(&line->effect, "kept"));
}

static bool load_line(struct replay *replay, const char *text, size_t len)
{
    struct replay_line line;
    bool is_first = replay->file->good == 0;
    replay->why = "it is no line that this version knows";
    replay->is_mark = replay->is_misplaced = false;
    if (!read_line(replay, &line, text, len)) {
        return false;
    }
    if (line.is_header != is_first) {
        return say(replay, is_first ? "it is not the first line of a file" : "the first line of a file stands here");
    }
    if (replay->is_snapshot && !is_first && !belongs_in_snapshot(&line)) {
        return say(replay, "of all that happens a snapshot has leases and gc.garbage alone");
    }
    if (line.method != NULL) {
        return repeat_request(replay, &line);
    }
    return line.is_header ? repeat_header(replay, &line) : repeat_effect(replay, &line);
}

struct heap_session *replay_session(struct replay *replay, uint64_t number)
{
    const struct replay_session *session = need_session(replay, number);
    return session == NULL ? NULL : session->heap;
}

void replay_begin_snapshot(struct replay *replay, struct rpc_load_file *file)
{
    replay->file = file;
    replay->is_snapshot = true;
}

bool replay_line(struct replay *replay, const char *text, size_t len, const char **why)
{
    bool ok = load_line(replay, text, len);
    *why = replay->why;
    return ok;
}

/* ---- a file ---- */

/* A line at `p`, of which `len` says how long it is without its newline.  false: there is no whole sound one. */
static bool find_line(const char *p, const char *end, size_t *len)
{
    const char *newline = memchr(p, '\n', (size_t)(end - p));
    if (newline == NULL) {
        return false;
    }
    *len = (size_t)(newline - p);
    return line_is_sound(p, *len);
}

/* Whether nothing but zeros is left: room that was set aside. */
static bool is_blank(const char *p, const char *end)
{
    return p == end || (*p == '\0' && memcmp(p, p + 1, (size_t)(end - p) - 1) == 0);
}

/* Whether a later line says that the bytes at `bad` were on disk. */
static bool was_durable(struct replay *replay, const char *start, const char *bad, const char *end)
{
    struct replay_line line;
    size_t len;
    for (const char *p = bad, *newline; p < end; p = newline == NULL ? end : newline + 1) {
        newline = memchr(p, '\n', (size_t)(end - p));
        if (find_line(p, end, &len) && memmem(p, len, "\"durable\"", strlen("\"durable\"")) != NULL &&
            read_line(replay, &line, p + JOURNAL_CRC_BYTES, len - JOURNAL_CRC_BYTES) &&
            line.offset > (uint64_t)(bad - start)) {
            return true;
        }
    }
    return false;
}

static enum rpc_load end_badly(struct replay *replay, struct rpc_load_file *file, const char *bad)
{
    const char *end = file->bytes + file->len;
    if (is_blank(bad, end)) {
        return RPC_LOADED;
    }
    return !file->is_last || was_durable(replay, file->bytes, bad, end) ? RPC_LOAD_DAMAGED : RPC_LOAD_TORN;
}

static bool look_up(struct rpc_load_file *file)
{
    if (file->lines % LINES_PER_LOOK == 0 && file->progress != NULL) {
        file->progress(file->arg, file->good, file->lines);
    }
    return file->cancel == NULL || !atomic_load_explicit(file->cancel, memory_order_relaxed);
}

/* A line of so many bytes has happened. */
static void note_line(struct replay *replay, size_t bytes)
{
    if (replay->is_mark) {
        replay->sure = replay->file->good + bytes;
    } else {
        replay->count += bytes;
    }
    if (replay->turn->blocks->used > 0) {
        turn_reset(replay->turn);
    }
}

static enum rpc_load load(struct replay *replay, struct rpc_load_file *file)
{
    const char *p = file->bytes, *end = p + file->len;
    size_t len;
    for (; p < end; p += len + 1, file->lines++) {
        file->good = (size_t)(p - file->bytes);
        if (!find_line(p, end, &len)) {
            return end_badly(replay, file, p);
        }
        if (!look_up(file)) {
            snprintf(file->why, sizeof(file->why), "it was given up");
            return RPC_LOAD_FAILED;
        }
        if (!load_line(replay, p + JOURNAL_CRC_BYTES, len - JOURNAL_CRC_BYTES)) {
            if (replay->is_misplaced) {
                file->good = replay->sure;
                return RPC_LOAD_DAMAGED;
            }
            snprintf(file->why, sizeof(file->why), "the line at byte %zu cannot be repeated: %s", file->good, replay->why);
            return RPC_LOAD_FAILED;
        }
        note_line(replay, len + 1);
    }
    file->good = file->len;
    return RPC_LOADED;
}

enum rpc_load rpc_journal_load(struct rpc_service *service, struct rpc_load_file *file)
{
    struct replay *replay = service->journal.replay;
    file->good = 0;
    file->lines = 0;
    replay->file = file;
    replay->is_snapshot = false;
    replay->sure = 0;
    heap_enter(service->heap);
    enum rpc_load result = load(replay, file);
    heap_leave(service->heap);
    replay->last_number = file->number;
    replay->last_good = file->good;
    return result;
}

/* ---- begin and end ---- */

static struct replay *replay_create(struct rpc_service *service)
{
    struct replay *replay = calloc(1, sizeof(*replay));
    if (replay == NULL) {
        return NULL;
    }
    replay->service = service;
    replay->heap = service != NULL ? service->heap : NULL;
    replay->turn = turn_create();
    out_init(&replay->reply, 0);
    if (replay->turn == NULL) {
        free(replay);
        return NULL;
    }
    return replay;
}

/* Its sessions are gone. */
static void replay_destroy(struct replay *replay)
{
    turn_destroy(replay->turn);
    out_fini(&replay->reply);
    free(replay->ids);
    free(replay);
}

bool rpc_journal_read_header(struct rpc_journal_header *header, const char *bytes, size_t len, char why[RPC_REASON_BYTES])
{
    struct replay *replay = replay_create(NULL);
    struct replay_line line;
    size_t line_len;
    bool ok = false;
    if (replay == NULL) {
        snprintf(why, RPC_REASON_BYTES, "there is no memory");
        return false;
    }
    if (!find_line(bytes, bytes + len, &line_len) ||
        !read_line(replay, &line, bytes + JOURNAL_CRC_BYTES, line_len - JOURNAL_CRC_BYTES) || !line.is_header) {
        snprintf(why, RPC_REASON_BYTES, "its first line is not that of a journal");
    } else if (line.version != JOURNAL_VERSION || line.heap.len != RPC_JOURNAL_HEAP_BYTES - 1) {
        snprintf(why, RPC_REASON_BYTES, "it is of version %llu, this heapd reads %d", (unsigned long long)line.version,
                 JOURNAL_VERSION);
    } else {
        memcpy(header->heap, line.heap.text, line.heap.len);
        header->heap[line.heap.len] = '\0';
        header->number = line.number;
        ok = true;
    }
    replay_destroy(replay);
    return ok;
}

bool rpc_journal_begin(struct rpc_service *service, const struct rpc_journal_sink *sink, bool keeps_back,
                       const char *heap)
{
    struct journal *journal = &service->journal;
    static const struct heap_limits NONE = {0};
    journal->replay = replay_create(service);
    if (journal->replay == NULL) {
        return false;
    }
    journal->sink = *sink;
    journal->keeps_back = keeps_back;
    if (heap != NULL) {
        snprintf(service->heap_token, sizeof(service->heap_token), "%s", heap);
    }
    heap_enter(service->heap);
    heap_set_limits(service->heap, &NONE); /* what was allowed once is not refused now */
    heap_replay_begin(service->heap);
    heap_leave(service->heap);
    atomic_store(&journal->is_loading, true);
    return true;
}

void journal_give_up_replay(struct rpc_service *service)
{
    struct replay *replay = service->journal.replay;
    if (replay != NULL) {
        end_sessions(replay, true);
        if (!service->journal.is_on) {
            heap_replay_end(service->heap);
        }
        replay_destroy(replay);
        service->journal.replay = NULL;
    }
}

/* New ids are none that any reply ever contained, whatever was lost.  After some 10^11 ids no generation is left: then
 * they are those of the last one, of which a dead object may have had one in an earlier life. */
static void begin_generations(struct rpc_service *service, uint64_t reached)
{
    struct journal *journal = &service->journal;
    journal->generations_first = reached < HEAP_GENERATION_END ? (uint32_t)reached : HEAP_GENERATION_END - 1;
    journal->generations_end = journal_generations_from(journal->generations_first);
    heap_set_id_generations(service->heap, journal->generations_first, journal->generations_end);
}

static struct heap_limits limits_of(struct rpc_service *service)
{
    return (struct heap_limits){.max_bytes = RPC_LIMIT(service, max_memory),
                                .max_holds = RPC_LIMIT(service, max_holds),
                                .max_names = RPC_LIMIT(service, max_names)};
}

bool rpc_journal_open(struct rpc_service *service, uint64_t number)
{
    struct journal *journal = &service->journal;
    struct replay *replay = journal->replay;
    struct heap *heap = service->heap;
    struct heap_collection collection;
    heap_enter(heap);
    begin_generations(service, replay->generations);
    journal->loaded = journal->before = replay->count;
    line_write_header(&journal->log, service, "journal", number, number > 1);
    if (journal->log.failed || !journal_reserve(service)) { /* what follows would be lost */
        heap_leave(heap);
        return false;
    }
    heap_replay_end(heap);
    journal_observe_heap(service);
    journal->number = number;
    journal_note_appended(service);
    end_sessions(replay, false);
    heap_settle(heap);
    heap_collect(&collection, heap, 2);
    heap_settle(heap);
    struct heap_limits limits = limits_of(service);
    heap_set_limits(heap, &limits);
    journal->is_on = true;
    journal_hand_over(service);
    bool ok = restore_sessions(replay) && !atomic_load(&journal->is_broken);
    heap_leave(heap);
    if (ok) {
        replay_destroy(replay);
        journal->replay = NULL;
    }
    return ok;
}

void rpc_journal_start(struct rpc_service *service)
{
    atomic_store(&service->journal.is_loading, false);
    pthread_mutex_lock(&service->mutex);
    for (struct rpc_thread *thread = service->threads; thread != NULL && service->host.wake != NULL;
         thread = thread->next) {
        service->host.wake(service->host.arg, thread->user);
    }
    pthread_mutex_unlock(&service->mutex);
}

size_t rpc_journal_mark(char mark[RPC_JOURNAL_MARK_BYTES], uint64_t offset, uint64_t at)
{
    struct out out;
    out_init(&out, 0);
    size_t start = line_begin(&out), len;
    out_text(&out, "{\"effect\":\"durable\",\"offset\":");
    out_u64(&out, offset);
    out_text(&out, ",\"at\":");
    out_u64(&out, at);
    out_char(&out, '}');
    line_end(&out, start);
    len = out.failed ? 0 : out.len;
    memcpy(mark, out.data == NULL ? "" : out.data, len);
    out_fini(&out);
    return len;
}
