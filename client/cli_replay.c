/* cli_replay.c -- `heapctl replay`: the changes of a trace happen again, on a daemon that may be another.
 *
 *   a line of the trace -> its session's actor, a connection of its own -> its params with ids as they are here
 *                       -> sent; at most `pipeline` replies are due, all of them the current actor's
 *   a reply             -> what the ids that the line gave are here      ids[]
 *
 * Lines happen in the order of the trace: before another session has its turn all replies are awaited.
 *
 * Where a line gave one id and its result has "object", that is what the id is here.  Else (containers within a
 * value, at a daemon with --data-dir) the actor subscribes to `journal` while it has its turn, and hears the ids of
 * its own change right before the reply, in the same order.
 *
 * Start at cli_replay() and replay_request().
 */
#include "cli_command.h"
#include "cli_trace.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define PIPELINE_DEFAULT 64
#define PIPELINE_MAX 65536
/* So many failures are told one by one. */
#define TOLD_MAX 10
#define SECOND_NS INT64_C(1000000000)
/* A lease that moves holds from one connection to another; it ends with session.close. */
#define LEASE_MS 60000
/* Latencies are counted by their highest bits: four of them, so a step is a sixteenth. */
#define STEP_BITS 4
#define STEPS (64 << STEP_BITS)

/* ---- numbers by number ---- */

/* Open addressing; key 0: empty.  Nothing is taken out. */
struct number_map {
    uint64_t *keys, *values;
    size_t used, room; /* room: a power of two */
};

/* Where `key` is, or would be. */
static size_t map_slot(const struct number_map *map, uint64_t key)
{
    size_t slot = (size_t)(key * UINT64_C(0x9E3779B97F4A7C15) >> 32) & (map->room - 1);
    while (map->keys[slot] != 0 && map->keys[slot] != key) {
        slot = (slot + 1) & (map->room - 1);
    }
    return slot;
}

static uint64_t map_get(const struct number_map *map, uint64_t key)
{
    return map->room > 0 ? map->values[map_slot(map, key)] : 0;
}

static bool map_grow(struct number_map *map)
{
    size_t room = map->room > 0 ? 2 * map->room : 1024;
    struct number_map more = {.keys = calloc(room, sizeof *more.keys),
                              .values = calloc(room, sizeof *more.values),
                              .used = map->used,
                              .room = room};
    if (more.keys == NULL || more.values == NULL) {
        free(more.keys);
        free(more.values);
        return false;
    }
    for (size_t i = 0; i < map->room; i++) {
        if (map->keys[i] != 0) {
            size_t slot = map_slot(&more, map->keys[i]);
            more.keys[slot] = map->keys[i];
            more.values[slot] = map->values[i];
        }
    }
    free(map->keys);
    free(map->values);
    *map = more;
    return true;
}

/* False: no memory. */
static bool map_put(struct number_map *map, uint64_t key, uint64_t value)
{
    if (key == 0 || (4 * (map->used + 1) > 3 * map->room && !map_grow(map))) {
        return key == 0;
    }
    size_t slot = map_slot(map, key);
    map->used += map->keys[slot] == 0;
    map->keys[slot] = key;
    map->values[slot] = value;
    return true;
}

static void map_fini(struct number_map *map)
{
    free(map->keys);
    free(map->values);
}

/* ---- the replay ---- */

/* A session of the trace. */
struct actor {
    uint64_t number;             /* in the trace */
    struct heapd_client *client; /* owned; NULL: it has ended */
    uint64_t session;            /* its number at this daemon; 0: not asked for yet */
    bool is_leased;              /* in the trace */
    bool has_lease;              /* here */
    bool listens;                /* it is subscribed to `journal` */
};

/* A request whose reply is due. */
struct due {
    uint64_t line;
    int64_t sent_ns;
    char *method;  /* owned */
    uint64_t *ids; /* owned: of the trace */
    size_t count;
};

struct replay {
    struct cli_session *session;
    const struct cli_call *call;
    struct cli_trace trace;
    const char *path;
    struct actor *actors;
    size_t actor_count;
    struct number_map by_session; /* index in actors, plus 1 */
    struct number_map ids;        /* of the trace -> here; PENDING: its reply is due; 0: there is none */
    struct actor *current;        /* whose turn it is; NULL: nobody's */
    struct due *due;              /* a ring */
    size_t pipeline, first_due, due_count;
    double speed; /* requests a second; 0: as fast as it goes */
    enum cli_exit code;
    /* before the reply that is read next: the ids that its own change gave, and those of the last change told */
    uint64_t *given, *told;
    size_t given_count, given_room, told_room;
    /* what came of it */
    uint64_t sent, failed, skipped, differing;
    int64_t started_ns, ended_ns, told_ns, slowest_ns;
    uint64_t latencies[STEPS];
};

#define PENDING UINT64_MAX

static int64_t replay_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * SECOND_NS + now.tv_nsec;
}

/* It cannot go on. */
static bool give_up(struct replay *replay, enum cli_exit code)
{
    replay->code = code;
    return false;
}

static bool no_memory(struct replay *replay)
{
    cli_session_complain(replay->session, "replay: no memory");
    return give_up(replay, CLI_EXIT_ERROR);
}

/* One of the lines did not do what it did the first time: the first few are told. */
__attribute__((format(printf, 3, 4))) static void tell(struct replay *replay, uint64_t line, const char *format, ...)
{
    char *text = NULL;
    va_list arguments;
    va_start(arguments, format);
    int len = vasprintf(&text, format, arguments);
    va_end(arguments);
    uint64_t told = replay->failed + replay->skipped + replay->differing;
    if (len >= 0 && told <= TOLD_MAX) {
        cli_session_complain(replay->session, "%s:%" PRIu64 ": %s", replay->path, line, text);
    }
    if (told == TOLD_MAX) {
        cli_session_complain(replay->session, "replay: no more of these are told one by one");
    }
    free(text);
}

/* ---- latencies ---- */

static size_t step_of(uint64_t ns)
{
    unsigned bits = ns >> STEP_BITS == 0 ? 0 : 63u - (unsigned)__builtin_clzll(ns) - STEP_BITS;
    return ((size_t)bits << STEP_BITS) + (size_t)(ns >> bits);
}

/* The latency in us that `share` of the replies did not exceed: the end of its step. */
static double percentile_us(const struct replay *replay, double share)
{
    uint64_t total = 0, seen = 0;
    for (size_t i = 0; i < STEPS; i++) {
        total += replay->latencies[i];
    }
    for (size_t i = 0; i < STEPS; i++) {
        seen += replay->latencies[i];
        if (seen > 0 && (double)seen >= share * (double)total) {
            size_t bits = i >> STEP_BITS > 0 ? (i >> STEP_BITS) - 1 : 0;
            int64_t end_ns = (int64_t)((uint64_t)(i - (bits << STEP_BITS) + 1) << bits);
            return round((double)(end_ns < replay->slowest_ns ? end_ns : replay->slowest_ns) / 100) / 10;
        }
    }
    return 0;
}

/* ---- replies ---- */

/* A change was told, perhaps that of another: the ids that ours gave. */
static void on_change(void *arg, json_t *j_params)
{
    struct replay *replay = arg;
    const char *text = json_string_value(json_object_get(j_params, "line"));
    uint64_t session = 0;
    size_t count = text != NULL ? cli_trace_ids(text, &session, &replay->told, &replay->told_room) : SIZE_MAX;
    if (count != SIZE_MAX && session == replay->current->session) {
        uint64_t *ids = replay->given;
        size_t room = replay->given_room;
        replay->given = replay->told;
        replay->given_room = replay->told_room;
        replay->given_count = count;
        replay->told = ids;
        replay->told_room = room;
    }
}

/* What the ids that a line gave are here. */
static bool learn_ids(struct replay *replay, const struct due *due, const json_t *j_result)
{
    const json_t *j_object = json_object_get(j_result, "object");
    bool is_same = replay->given_count == due->count;
    bool ok = true;
    if (!is_same && due->count == 1 && json_is_integer(j_object)) {
        return map_put(&replay->ids, due->ids[0], (uint64_t)json_integer_value(j_object)) || no_memory(replay);
    }
    for (size_t i = 0; i < due->count; i++) {
        ok = ok && map_put(&replay->ids, due->ids[i], is_same ? replay->given[i] : 0);
    }
    if (!is_same) {
        replay->differing++;
        tell(replay, due->line, "%s gave %zu ids, here %zu: a trace of a daemon with --data-dir wants one with it, and "
             "the other way round", due->method, due->count, replay->given_count);
    }
    return ok || no_memory(replay);
}

static void forget_due(struct replay *replay)
{
    struct due *due = &replay->due[replay->first_due];
    free(due->method);
    free(due->ids);
    replay->first_due = (replay->first_due + 1) % replay->pipeline;
    replay->due_count--;
}

/* Reads the reply that is due next.  False: the connection is of no more use. */
static bool receive(struct replay *replay)
{
    struct due *due = &replay->due[replay->first_due];
    struct heapd_client *client = replay->current->client;
    json_t *j_result = NULL;
    replay->given_count = 0;
    enum heapd_status status = heapd_receive(client, due->count > 0 ? &j_result : NULL);
    bool ok = true;
    if (status == HEAPD_ERROR) {
        replay->failed++;
        tell(replay, due->line, "%s: %s", due->method, heapd_last_error(client)->message);
        for (size_t i = 0; i < due->count; i++) {
            ok = ok && map_put(&replay->ids, due->ids[i], 0);
        }
        ok = ok || no_memory(replay);
    } else if (status == HEAPD_OK || heapd_result_text(client, NULL) != NULL) {
        ok = due->count == 0 || learn_ids(replay, due, j_result);
    } else {
        cli_session_complain(replay->session, "%s:%" PRIu64 ": %s", replay->path, due->line,
                             heapd_last_error(client)->message);
        ok = give_up(replay, CLI_EXIT_CONNECTION);
    }
    json_decref(j_result);
    int64_t took_ns = replay_now_ns() - due->sent_ns;
    replay->latencies[step_of((uint64_t)took_ns)]++;
    replay->slowest_ns = took_ns > replay->slowest_ns ? took_ns : replay->slowest_ns;
    forget_due(replay);
    return ok;
}

static bool receive_until(struct replay *replay, size_t left)
{
    bool ok = true;
    while (ok && replay->due_count > left) {
        ok = receive(replay);
    }
    return ok;
}

/* ---- actors ---- */

/* One call of the actor's besides those of the trace. */
__attribute__((format(printf, 4, 5))) static bool ask(struct replay *replay, const struct actor *actor, json_t **result,
                                                      const char *method_and_params, ...)
{
    char *text = NULL;
    va_list arguments;
    va_start(arguments, method_and_params);
    int len = vasprintf(&text, method_and_params, arguments);
    va_end(arguments);
    if (len < 0) {
        return no_memory(replay);
    }
    char *params = strchr(text, ' ');
    *params++ = '\0';
    enum heapd_status status = heapd_call_text(actor->client, result, text, params);
    if (status != HEAPD_OK) {
        cli_session_complain(replay->session, "replay: %s: %s", text, heapd_last_error(actor->client)->message);
    }
    free(text);
    return status == HEAPD_OK || give_up(replay, status == HEAPD_ERROR ? CLI_EXIT_ERROR : CLI_EXIT_CONNECTION);
}

/* The number that the actor's session has here: who holds a new object is that session. */
static bool ask_session(struct replay *replay, struct actor *actor)
{
    json_t *j_made = NULL, *j_inspected = NULL;
    bool ok = ask(replay, actor, &j_made, "create {\"value\":[],\"hold\":true}");
    long long object = json_integer_value(json_object_get(j_made, "object"));
    ok = ok && ask(replay, actor, &j_inspected, "heap.inspect [%lld]", object);
    ok = ok && ask(replay, actor, NULL, "unref [%lld]", object);
    const json_t *j_session = json_array_get(json_object_get(j_inspected, "sessions"), 0);
    actor->session = (uint64_t)json_integer_value(json_object_get(j_session, "session"));
    json_decref(j_made);
    json_decref(j_inspected);
    return ok;
}

static bool listen_to(struct replay *replay, struct actor *actor)
{
    if (!receive_until(replay, 0) || (actor->session == 0 && !ask_session(replay, actor)) ||
        !ask(replay, actor, NULL, "subscribe [[\"journal\"]]")) {
        return false;
    }
    heapd_on_event(actor->client, on_change, replay);
    actor->listens = true;
    return true;
}

/* All that the current actor was asked is answered, and it is none any more. */
static bool settle(struct replay *replay)
{
    struct actor *actor = replay->current;
    bool ok = receive_until(replay, 0);
    if (ok && actor != NULL && actor->listens) {
        actor->listens = false;
        heapd_on_event(actor->client, NULL, NULL);
        ok = ask(replay, actor, NULL, "unsubscribe [[\"journal\"]]");
    }
    replay->current = NULL;
    return ok;
}

static struct actor *find_actor(struct replay *replay, uint64_t number)
{
    uint64_t index = map_get(&replay->by_session, number);
    return index > 0 ? &replay->actors[index - 1] : NULL;
}

/* The session's actor, connected.  NULL: it cannot be. */
static struct actor *need_actor(struct replay *replay, uint64_t number)
{
    struct actor *actor = find_actor(replay, number);
    if (actor != NULL && actor->client != NULL) {
        return actor;
    }
    if (actor == NULL) {
        bool ok = settle(replay); /* the actors may move */
        struct actor *more = reallocarray(replay->actors, replay->actor_count + 1, sizeof *more);
        replay->actors = more != NULL ? more : replay->actors;
        if (more == NULL || !map_put(&replay->by_session, number, replay->actor_count + 1)) {
            ok = no_memory(replay);
        }
        if (!ok) {
            return NULL;
        }
        actor = &more[replay->actor_count++];
    }
    *actor = (struct actor){.number = number, .client = cli_session_connect(replay->session)};
    if (actor->client == NULL) {
        give_up(replay, CLI_EXIT_CONNECTION);
        return NULL;
    }
    return actor;
}

/* It lets go of everything. */
static bool end_actor(struct replay *replay, struct actor *actor)
{
    bool ok = settle(replay);
    if (actor != NULL && actor->client != NULL) {
        ok = ok && (!actor->has_lease || ask(replay, actor, NULL, "session.close []"));
        heapd_client_destroy(actor->client);
        actor->client = NULL;
        actor->session = 0;
    }
    return ok;
}

/* What `from` holds is `into`'s: its connection joins the other one's session, and ends. */
static bool merge_actors(struct replay *replay, uint64_t from, uint64_t into)
{
    json_t *j_lease = NULL;
    if (!settle(replay) || need_actor(replay, into) == NULL || need_actor(replay, from) == NULL) {
        return false;
    }
    struct actor *giver = find_actor(replay, from), *taker = find_actor(replay, into);
    bool ok = ask(replay, taker, &j_lease, "session.open [%d]", LEASE_MS);
    taker->has_lease = ok;
    ok = ok && ask(replay, giver, NULL, "session.resume [\"%s\"]",
                   json_string_value(json_object_get(j_lease, "session")));
    json_decref(j_lease);
    return end_actor(replay, giver) && ok;
}

static bool end_unleased(struct replay *replay)
{
    bool ok = true;
    for (size_t i = 0; i < replay->actor_count && ok; i++) {
        ok = replay->actors[i].is_leased || end_actor(replay, &replay->actors[i]);
    }
    return ok;
}

/* ---- requests ---- */

/* What an id of the trace is here, for which a reply may have to come. */
static uint64_t look_up(void *arg, uint64_t id)
{
    struct replay *replay = arg;
    uint64_t now = map_get(&replay->ids, id);
    if (now == PENDING && receive_until(replay, 0)) {
        now = map_get(&replay->ids, id);
    }
    return now == PENDING ? 0 : now;
}

/* Waits until it is time for the next request. */
static bool keep_pace(struct replay *replay)
{
    if (replay->speed <= 0) {
        return true;
    }
    int64_t at_ns = replay->started_ns + (int64_t)((double)replay->sent / replay->speed * 1e9);
    int64_t left_ns = at_ns - replay_now_ns();
    if (left_ns > 0 && !receive_until(replay, 0)) {
        return false;
    }
    left_ns = at_ns - replay_now_ns();
    if (left_ns > 0) {
        nanosleep(&(struct timespec){.tv_sec = left_ns / SECOND_NS, .tv_nsec = left_ns % SECOND_NS}, NULL);
    }
    return true;
}

/* Whether the reply alone says what the ids of the line are here: there is one, and the result has "object". */
static bool is_told_by_reply(const struct cli_trace_line *line, const struct cli_method *method)
{
    const json_t *j_schema = json_object_get(json_object_get(method->j_method, "result"), "schema");
    return line->id_count == 0 ||
           (line->id_count == 1 && json_object_get(json_object_get(j_schema, "properties"), "object") != NULL);
}

/* The request is queued; its reply is due. */
static bool send_line(struct replay *replay, const struct cli_trace_line *line, const char *params)
{
    struct due *due = &replay->due[(replay->first_due + replay->due_count) % replay->pipeline];
    *due = (struct due){.line = replay->trace.number,
                        .method = strdup(line->method),
                        .ids = line->id_count > 0 ? reallocarray(NULL, line->id_count, sizeof *due->ids) : NULL,
                        .count = line->id_count};
    bool ok = due->method != NULL && (due->count == 0 || due->ids != NULL);
    for (size_t i = 0; ok && i < due->count; i++) {
        due->ids[i] = line->ids[i];
        ok = map_put(&replay->ids, line->ids[i], PENDING);
    }
    if (!ok) {
        free(due->method);
        free(due->ids);
        return no_memory(replay);
    }
    due->sent_ns = replay_now_ns();
    replay->due_count++;
    replay->sent++;
    heapd_send_text(replay->current->client, line->method, params); /* what is wrong, receive() will see */
    return true;
}

static bool replay_request(struct replay *replay)
{
    const struct cli_trace_line *line = &replay->trace.line;
    const struct cli_method *method = cli_table_find(replay->session->table, line->method);
    uint64_t unknown = 0;
    if (strncmp(line->method, "session.", 8) == 0) {
        return true; /* the line of what it did to holds tells more */
    }
    if (replay->current == NULL || replay->current->number != line->session) {
        if (!settle(replay) || (replay->current = need_actor(replay, line->session)) == NULL) {
            return false;
        }
    }
    char *params = method != NULL ? cli_trace_translate(line, method, look_up, replay, &unknown) : NULL;
    bool ok = replay->code == CLI_EXIT_OK && keep_pace(replay);
    if (ok && params == NULL) {
        replay->skipped++;
        if (method == NULL) {
            tell(replay, replay->trace.number, "%s: this daemon has no such method", line->method);
        } else if (unknown == 0) {
            ok = no_memory(replay);
        } else {
            tell(replay, replay->trace.number, "%s: no line of the trace that went well gave the object %" PRIu64,
                 line->method, unknown);
        }
    } else if (ok) {
        ok = (replay->current->listens || is_told_by_reply(line, method) || listen_to(replay, replay->current)) &&
             (replay->due_count < replay->pipeline || receive_until(replay, replay->pipeline / 2)) &&
             send_line(replay, line, params);
    }
    free(params);
    return ok;
}

/* ---- the command ---- */

static void show_progress(struct replay *replay)
{
    int64_t now_ns = replay_now_ns();
    if (now_ns - replay->told_ns >= SECOND_NS && isatty(STDERR_FILENO) != 0) {
        replay->told_ns = now_ns;
        fprintf(stderr, "\r%" PRIu64 " requests, line %" PRIu64 " ", replay->sent, replay->trace.number);
    }
}

static bool replay_line(struct replay *replay)
{
    const struct cli_trace_line *line = &replay->trace.line;
    struct actor *actor = find_actor(replay, line->session);
    switch (line->kind) {
    case CLI_TRACE_REQUEST:
        return replay_request(replay);
    case CLI_TRACE_RELEASED:
        return end_actor(replay, actor);
    case CLI_TRACE_MERGED:
        return merge_actors(replay, line->session, line->into);
    case CLI_TRACE_RESTART:
        return end_unleased(replay);
    case CLI_TRACE_LEASED:
        if (actor != NULL) {
            actor->is_leased = true;
        }
        return true;
    case CLI_TRACE_OTHER:
        return true;
    }
    return true;
}

/* All lines.  What is no line ends the trace, and is told. */
static void replay_all(struct replay *replay)
{
    bool ok = true;
    replay->started_ns = replay->told_ns = replay_now_ns();
    while (ok && cli_trace_next(&replay->trace)) {
        ok = replay_line(replay);
        show_progress(replay);
    }
    ok = ok && settle(replay);
    replay->ended_ns = replay_now_ns();
    if (replay->told_ns != replay->started_ns) {
        fputc('\n', stderr);
    }
    if (ok && replay->trace.wrong != NULL) {
        cli_session_complain(replay->session, "%s:%" PRIu64 ": %s; the trace ends there", replay->path,
                             replay->trace.number, replay->trace.wrong);
        give_up(replay, CLI_EXIT_ERROR);
    }
    for (size_t i = 0; ok && i < replay->actor_count; i++) {
        ok = end_actor(replay, &replay->actors[i]);
    }
}

static void print_figures(const struct replay *replay)
{
    double seconds = (double)(replay->ended_ns - replay->started_ns) / 1e9;
    json_t *j_figures = json_pack(
        "{s:I,s:I,s:I,s:I,s:I,s:f,s:I,s:f,s:f,s:f,s:f}", "requests", (json_int_t)replay->sent, "failed",
        (json_int_t)replay->failed, "skipped", (json_int_t)replay->skipped, "differing", (json_int_t)replay->differing,
        "lost", (json_int_t)replay->trace.lost, "elapsed_s", round(seconds * 1e3) / 1e3, "rate",
        (json_int_t)(seconds > 0 ? (double)replay->sent / seconds : 0), "p50_us", percentile_us(replay, 0.5), "p99_us",
        percentile_us(replay, 0.99), "p999_us", percentile_us(replay, 0.999), "max_us",
        percentile_us(replay, 1));
    char *text = json_dumps(j_figures, JSON_COMPACT | JSON_REAL_PRECISION(6));
    if (text != NULL && cli_session_wants_json(replay->session, replay->call)) {
        cli_print_json(stdout, &replay->session->style, text, strlen(text));
    } else {
        cli_print_result(stdout, &replay->session->style, j_figures);
    }
    free(text);
    json_decref(j_figures);
}

/* What was typed, but for the file.  False: complained. */
static bool take_options(struct replay *replay)
{
    const char *speed = cli_call_value(replay->call, "speed"), *pipeline = cli_call_value(replay->call, "pipeline");
    long long depth = pipeline != NULL ? strtoll(pipeline, NULL, 10) : PIPELINE_DEFAULT;
    replay->speed = speed != NULL ? strtod(speed, NULL) : 0;
    if (depth < 1 || depth > PIPELINE_MAX || (speed != NULL && !(replay->speed > 0))) {
        cli_session_complain(replay->session, "replay: --pipeline is 1 to %d, --speed more than 0", PIPELINE_MAX);
        return false;
    }
    replay->pipeline = (size_t)depth;
    replay->due = calloc(replay->pipeline, sizeof *replay->due);
    return replay->due != NULL || no_memory(replay);
}

static void replay_fini(struct replay *replay)
{
    while (replay->due_count > 0) {
        forget_due(replay);
    }
    for (size_t i = 0; i < replay->actor_count; i++) {
        heapd_client_destroy(replay->actors[i].client);
    }
    cli_trace_close(&replay->trace);
    map_fini(&replay->by_session);
    map_fini(&replay->ids);
    free(replay->actors);
    free(replay->given);
    free(replay->told);
    free(replay->due);
}

enum cli_exit cli_replay(struct cli_session *session, const struct cli_call *call)
{
    struct replay replay = {.session = session, .call = call};
    json_t *j_path = json_loads(cli_call_value(call, "file"), JSON_DECODE_ANY, NULL);
    replay.path = json_string_value(j_path);
    if (replay.path == NULL || !take_options(&replay)) {
        json_decref(j_path);
        return CLI_EXIT_USAGE;
    }
    if (!cli_trace_open(&replay.trace, replay.path)) {
        cli_session_complain(session, "cannot read %s: %s", replay.path, strerror(errno));
        replay.code = CLI_EXIT_USAGE;
    } else {
        replay_all(&replay);
        print_figures(&replay);
        bool differs = replay.failed + replay.skipped + replay.differing + replay.trace.lost > 0;
        replay.code = replay.code == CLI_EXIT_OK && differs ? CLI_EXIT_ERROR : replay.code;
    }
    replay_fini(&replay);
    json_decref(j_path);
    return replay.code;
}
