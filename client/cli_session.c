/* cli_session.c -- runs commands: words to a request, the reply to text.   Start at cli_session_execute(). */
#include "cli_session.h"

#include "cli_command.h"
#include "cli_complete.h"
#include "cli_event.h"
#include "cli_help.h"
#include "cli_json.h"
#include "cli_nearest.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The refcount of immortal objects: a hold on one keeps nothing. */
#define IMMORTAL_REFCOUNT 4294967295

/* ---- complaints ---- */

/* Writes to stderr; on a terminal all controls but newlines are escaped: there may be words of others in it.
 */
static void put_message(const char *text)
{
    if (isatty(STDERR_FILENO) == 0) {
        fputs(text, stderr);
        return;
    }
    for (;;) {
        size_t line = strcspn(text, "\n");
        cli_json_put_text(stderr, text, line, "");
        if (text[line] == '\0') {
            return;
        }
        fputc('\n', stderr);
        text += line + 1;
    }
}

void cli_session_complain(const struct cli_session *session, const char *format, ...)
{
    char *text = NULL;
    va_list arguments;
    va_start(arguments, format);
    int len = vasprintf(&text, format, arguments);
    va_end(arguments);
    fflush(stdout);
    if (len >= 0) {
        fprintf(stderr, "%s: ", session->where);
        put_message(text);
        fputc('\n', stderr);
        free(text);
    }
}

/* The error reply as a JSON text on stderr, for --json. */
static void complain_json(const struct cli_session *session, const struct heapd_error *error)
{
    json_t *j_error = json_pack("{s:s,s:i,s:s,s:O?}", "where", session->where, "code", error->code, "message",
                                error->message, "data", error->data);
    char *text = json_dumps(j_error, JSON_COMPACT);
    struct cli_style style = cli_style_of(stderr);
    fflush(stdout);
    if (text != NULL) {
        cli_print_json(stderr, &style, text, strlen(text));
    }
    free(text);
    json_decref(j_error);
}

enum cli_exit cli_session_complain_reply(const struct cli_session *session, bool as_json)
{
    const struct heapd_error *error = heapd_last_error(session->client);
    if (error->status != HEAPD_ERROR) {
        cli_session_complain(session, "%s", error->message);
        return error->status == HEAPD_USAGE ? CLI_EXIT_USAGE : CLI_EXIT_CONNECTION;
    }
    if (as_json) {
        complain_json(session, error);
        return CLI_EXIT_ERROR;
    }
    cli_session_complain(session, "%s (%s)", error->message, error->word);
    return CLI_EXIT_ERROR;
}

/* ---- events ---- */

/* Events that come while something else is done, between the output for people and apart from that of
 * programs: on stderr, as JSON for those who asked for JSON. */
static void show_event(void *arg, json_t *j_params)
{
    const struct cli_session *session = arg;
    struct cli_style style = cli_style_of(stderr);
    fflush(stdout);
    if (session->json) {
        cli_event_put_json(stderr, &style, j_params);
    } else {
        fputs("event ", stderr);
        cli_event_put(stderr, &style, j_params);
    }
}

void cli_session_show_events(struct cli_session *session)
{
    heapd_on_event(session->client, show_event, session);
}

/* ---- opening ---- */

/* The token in `path`: the last word of the first line that has one, so that a file with "ROLE TOKEN"
 * lines, as the daemon reads it, will do.  New (free()); NULL: complained. */
static char *read_token(const struct cli_session *session, const char *path)
{
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        cli_session_complain(session, "cannot read the token file %s: %m", path);
        return NULL;
    }
    char *line = NULL, *token = NULL;
    size_t capacity = 0;
    while (token == NULL && getline(&line, &capacity, file) >= 0) {
        char *rest = line, *word;
        while (*line != '#' && (word = strsep(&rest, " \t\r\n")) != NULL) {
            if (*word != '\0') {
                free(token);
                token = strdup(word);
            }
        }
    }
    free(line);
    fclose(file);
    if (token == NULL) {
        cli_session_complain(session, "there is no token in %s", path);
    }
    return token;
}

static enum cli_exit send_token(struct cli_session *session, const char *path)
{
    char *token = read_token(session, path);
    if (token == NULL) {
        return CLI_EXIT_USAGE;
    }
    enum heapd_status status = heapd_callf(session->client, NULL, "auth", "{s:s}", "token", token);
    free(token);
    return status == HEAPD_OK ? CLI_EXIT_OK : cli_session_complain_reply(session, session->json);
}

static enum cli_exit connect_daemon(struct cli_session *session)
{
    const struct cli_options *options = &session->options;
    heapd_set_timeout_ms(session->client, options->timeout_ms);
    if (heapd_connect(session->client, options->url) == HEAPD_OK) {
        return CLI_EXIT_OK;
    }
    enum cli_exit code = cli_session_complain_reply(session, session->json);
    if (code == CLI_EXIT_CONNECTION) {
        const char *url = getenv("HEAPD_URL");
        bool is_default = options->url == NULL && (url == NULL || *url == '\0');
        fprintf(stderr, "is the daemon running?  start it with: heapd%s%s\n", is_default ? "" : " --listen ",
                is_default ? "" : heapd_address(session->client));
    }
    return code;
}

/* Connects, and shows the token if there is one. */
static enum cli_exit enter_daemon(struct cli_session *session)
{
    enum cli_exit code = connect_daemon(session);
    if (code == CLI_EXIT_OK && session->options.token_file != NULL) {
        code = send_token(session, session->options.token_file);
    }
    return code;
}

static enum cli_exit discover(struct cli_session *session)
{
    json_t *j_document = NULL;
    if (heapd_call(session->client, &j_document, "rpc.discover", NULL) != HEAPD_OK) {
        return cli_session_complain_reply(session, session->json);
    }
    session->table = cli_table_create_steal(j_document);
    if (session->table == NULL || !cli_command_add_all(session->table)) {
        cli_session_complain(session, "what %s says of its methods is no OpenRPC document",
                             heapd_address(session->client));
        return CLI_EXIT_CONNECTION;
    }
    return CLI_EXIT_OK;
}

enum cli_exit cli_session_open(struct cli_session *session, const struct cli_options *options)
{
    *session = (struct cli_session){.options = *options,
                                    .client = heapd_client_create(),
                                    .style = cli_style_of(stdout),
                                    .json = options->json,
                                    .program = "heapctl ",
                                    .where = "heapctl"};
    if (session->client == NULL) {
        cli_session_complain(session, "no memory");
        return CLI_EXIT_ERROR;
    }
    cli_session_show_events(session);
    enum cli_exit code = enter_daemon(session);
    return code == CLI_EXIT_OK ? discover(session) : code;
}

struct heapd_client *cli_session_connect(const struct cli_session *session)
{
    struct cli_session another = *session;
    another.client = heapd_client_create();
    if (another.client == NULL) {
        cli_session_complain(session, "no memory");
    } else if (enter_daemon(&another) != CLI_EXIT_OK) {
        heapd_client_destroy(another.client);
        another.client = NULL;
    }
    return another.client;
}

void cli_session_close(struct cli_session *session)
{
    cli_table_destroy(session->table);
    heapd_client_destroy(session->client);
    *session = (struct cli_session){0};
}

/* ---- for commands that are more than one method ---- */

bool cli_session_wants_json(const struct cli_session *session, const struct cli_call *call)
{
    return session->json || call->wants_json;
}

enum cli_exit cli_session_askf(struct cli_session *session, const struct cli_call *call, json_t **result,
                               const char *method, const char *format, ...)
{
    json_t *j_params = NULL;
    if (format != NULL) {
        va_list arguments;
        va_start(arguments, format);
        j_params = json_vpack_ex(NULL, 0, format, arguments);
        va_end(arguments);
    }
    enum heapd_status status = heapd_call(session->client, result, method, j_params);
    json_decref(j_params);
    return status == HEAPD_OK ? CLI_EXIT_OK
                              : cli_session_complain_reply(session, cli_session_wants_json(session, call));
}

enum cli_exit cli_session_ask_for(struct cli_session *session, const struct cli_call *call, json_t **result,
                                  const char *method)
{
    json_t *j_params = json_object();
    for (size_t i = 0; i < call->method->param_count; i++) {
        const char *value = call->values[i];
        if (value != NULL && !call->method->params[i].is_local) {
            json_object_set_new(j_params, call->method->params[i].name,
                                json_loads(value, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL));
        }
    }
    enum heapd_status status =
        heapd_call(session->client, result, method, json_object_size(j_params) > 0 ? j_params : NULL);
    json_decref(j_params);
    return status == HEAPD_OK ? CLI_EXIT_OK
                              : cli_session_complain_reply(session, cli_session_wants_json(session, call));
}

json_t *cli_session_try(struct cli_session *session, const char *method, const char *format, ...)
{
    json_t *j_params = NULL, *j_result = NULL;
    if (format != NULL) {
        va_list arguments;
        va_start(arguments, format);
        j_params = json_vpack_ex(NULL, 0, format, arguments);
        va_end(arguments);
    }
    heapd_call(session->client, &j_result, method, j_params);
    json_decref(j_params);
    return j_result;
}

json_t *cli_session_try_each(struct cli_session *session, const char *method, const json_t *j_objects,
                             const json_t *j_more)
{
    json_t *j_results = json_array();
    size_t i;
    json_t *j_object;
    json_array_foreach(j_objects, i, j_object)
    {
        json_t *j_params = j_more != NULL ? json_copy(cli_json_mutable(j_more)) : json_object();
        json_object_set(j_params, "object", j_object);
        heapd_send(session->client, method, j_params);
        json_decref(j_params);
    }
    while (heapd_due(session->client) > 0) {
        json_t *j_result = NULL;
        enum heapd_status status = heapd_receive(session->client, &j_result);
        if (status != HEAPD_OK && status != HEAPD_ERROR && heapd_result_text(session->client, NULL) == NULL) {
            break;
        }
        json_array_append_new(j_results, j_result != NULL ? j_result : json_null());
    }
    while (json_array_size(j_results) < json_array_size(j_objects)) {
        json_array_append_new(j_results, json_null());
    }
    return j_results;
}

void cli_session_print_json(const struct cli_session *session)
{
    size_t len;
    const char *text = heapd_result_text(session->client, &len);
    cli_print_json(stdout, &session->style, text != NULL ? text : "null", text != NULL ? len : 4);
}

/* ---- holds ---- */

/* Whether the call, when it succeeds, leaves the session one hold more. */
static bool takes_hold(const struct cli_call *call)
{
    static const char *const always[] = {"ref", "weakref.create"};
    for (size_t i = 0; i < sizeof always / sizeof always[0]; i++) {
        if (strcmp(call->method->name, always[i]) == 0) {
            return true;
        }
    }
    const struct cli_param *hold = cli_method_param(call->method, "hold", 4);
    const char *given = cli_call_value(call, "hold");
    if (hold == NULL || given != NULL) {
        return hold != NULL && strcmp(given, "true") == 0;
    }
    /* Without a fixed default a new object is held when it gets no name. */
    return hold->j_default != NULL ? json_is_true(hold->j_default) : cli_call_value(call, "name") == NULL;
}

static void count_holds(struct cli_session *session, const struct cli_call *call, const json_t *j_result)
{
    const json_t *j_object = json_object_get(j_result, "object");
    if (strcmp(call->method->name, "session.close") == 0) {
        session->holds = 0;
    }
    if (!json_is_integer(j_object) ||
        json_integer_value(json_object_get(j_result, "refcount")) == IMMORTAL_REFCOUNT) {
        return;
    }
    if (strcmp(call->method->name, "unref") == 0) {
        session->holds -= session->holds > 0;
    } else if (takes_hold(call)) {
        session->holds++;
        session->last_held = json_integer_value(j_object);
        session->last_only_held = strcmp(call->method->name, "create") == 0 &&
                                  cli_call_value(call, "name") == NULL;
    }
}

void cli_session_note_holds(const struct cli_session *session)
{
    long long object = (long long)session->last_held;
    if (session->holds == 0) {
        return;
    }
    if (session->holds > 1) {
        cli_session_complain(session, "%llu holds of this session end as it exits; names keep objects",
                             (unsigned long long)session->holds);
    } else if (session->last_only_held) {
        cli_session_complain(
            session, "object %lld is released as this session exits; create --name NAME keeps it", object);
    } else {
        cli_session_complain(
            session, "the hold on object %lld ends as this session exits; names keep objects", object);
    }
}

/* ---- commands ---- */

static void print_reply(const struct cli_session *session, const struct cli_call *call,
                        const json_t *j_result, bool as_json)
{
    size_t len;
    const char *text = heapd_result_text(session->client, &len);
    if (as_json || j_result == NULL) {
        cli_print_json(stdout, &session->style, text, len);
    } else if (call->method->gives_value) {
        cli_print_value(stdout, &session->style, j_result);
    } else {
        cli_print_result(stdout, &session->style, j_result);
    }
}

enum cli_exit cli_session_send_call(struct cli_session *session, const struct cli_call *call)
{
    char *params = cli_call_params(call);
    if (params == NULL) {
        cli_session_complain(session, "no memory");
        return CLI_EXIT_ERROR;
    }
    json_t *j_result = NULL;
    bool as_json = cli_session_wants_json(session, call);
    bool has_params = strcmp(params, "{}") != 0;
    heapd_call_text(session->client, &j_result, call->method->name, has_params ? params : NULL);
    free(params);
    /* A result that the JSON library cannot hold is there as text. */
    if (heapd_result_text(session->client, NULL) == NULL) {
        enum cli_exit code = cli_session_complain_reply(session, as_json);
        if (strcmp(heapd_last_error(session->client)->word, "invalid_params") == 0 && !as_json) {
            char *usage = cli_bind_usage(call->method);
            fprintf(stderr, "usage: %s%s\n", session->program, usage != NULL ? usage : call->method->name);
            free(usage);
        }
        return code;
    }
    print_reply(session, call, j_result, as_json);
    count_holds(session, call, j_result);
    json_decref(j_result);
    return CLI_EXIT_OK;
}

static enum cli_exit run_method(struct cli_session *session, const struct cli_method *method, size_t count,
                                char *const *words)
{
    struct cli_call call;
    char *problem = NULL;
    if (!cli_bind(&call, &problem, method, count, words, session->program)) {
        cli_session_complain(session, "%s", problem != NULL ? problem : "no memory");
        free(problem);
        return CLI_EXIT_USAGE;
    }
    enum cli_exit code = CLI_EXIT_OK;
    if (call.wants_help) {
        cli_help_method(stdout, &session->style, method, session->program);
    } else {
        const struct cli_command *command = cli_command_find(method->name);
        code = command != NULL ? command->run(session, &call) : cli_session_send_call(session, &call);
    }
    cli_call_fini(&call);
    return code;
}

static enum cli_exit refuse_command(const struct cli_session *session, const char *command)
{
    size_t best = cli_nearest_best(command, session->table->names, session->table->count);
    if (best < session->table->count) {
        cli_session_complain(session, "no command %s; nearest: %s", command, session->table->names[best]);
    } else {
        cli_session_complain(session, "no command %s; %shelp lists them", command, session->program);
    }
    return CLI_EXIT_USAGE;
}

static enum cli_exit run_help(struct cli_session *session, size_t count, char *const *words)
{
    if (count == 1 || strcmp(words[1], "--help") == 0 || strcmp(words[1], "-h") == 0) {
        cli_help_commands(stdout, &session->style, session->table, session->program);
        return CLI_EXIT_OK;
    }
    const struct cli_method *method = cli_table_find(session->table, words[1]);
    if (count > 2) {
        cli_session_complain(session, "help: one command at a time");
        return CLI_EXIT_USAGE;
    }
    if (method != NULL) {
        cli_help_method(stdout, &session->style, method, session->program);
    } else if (!cli_help_local(stdout, words[1], session->program)) {
        return refuse_command(session, words[1]);
    }
    return CLI_EXIT_OK;
}

/* What could stand for the last word, one a line: for the completion of shells. */
static enum cli_exit run_complete(struct cli_session *session, size_t count, char *const *words)
{
    json_t *j_found = cli_complete(session->table, session->client, count - 1, words + 1);
    size_t i;
    const json_t *j_word;
    json_array_foreach(j_found, i, j_word)
    {
        puts(json_string_value(j_word));
    }
    json_decref(j_found);
    return CLI_EXIT_OK;
}

enum cli_exit cli_session_execute(struct cli_session *session, size_t count, char *const *words)
{
    const struct cli_method *method = cli_table_find(session->table, words[0]);
    if (method != NULL) {
        return run_method(session, method, count - 1, words + 1);
    }
    if (strcmp(words[0], "help") == 0) {
        return run_help(session, count, words);
    }
    if (strcmp(words[0], "complete") == 0) {
        return run_complete(session, count, words);
    }
    return refuse_command(session, words[0]);
}
