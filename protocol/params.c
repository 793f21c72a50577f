/* params.c -- the parameters of a request against the method's row of the table.
 *
 * By position or by name; each is read once, checked for its JSON type and range, and left as a span of the
 * request: literals are only checked for their shape here, and built when the request runs.  Everything that
 * can be wrong without asking the heap is found here, so that invalid_params comes before not_found.
 * No GIL.  Start at params_bind().
 */
#include "literal.h"
#include "rpc_internal.h"

#include <stdio.h>
#include <stdlib.h>

/* One binding under way. */
struct binding {
    const struct method *method;
    method_arg *args;
    unsigned seen; /* bit i: parameter i was given, null included */
    struct turn *turn;
    struct fault *fault;
};

/* Sets the fault of one parameter. */
__attribute__((cold, noinline)) static enum params_result refuse(struct binding *binding,
                                                                 const struct param *param, const char *what)
{
    fault_set(binding->fault, RPC_INVALID_PARAMS, "%s: %s must be %s", binding->method->name, param->name,
              what);
    fault_text(binding->fault, "param", param->name, strlen(param->name));
    return PARAMS_FAULT;
}

/* Decodes a string into what it means: afterwards text and len are its inside. */
static enum params_result decode(struct binding *binding, method_arg *arg)
{
    struct json_string string = json_string_of(arg);
    if (!string.has_escapes) {
        arg->text = string.text;
        arg->len = string.len;
        return PARAMS_OK;
    }
    char *plain = turn_alloc(binding->turn, string.len);
    if (plain == NULL) {
        return PARAMS_NO_MEMORY;
    }
    arg->len = json_unescape(plain, &string);
    arg->text = plain;
    arg->has_escapes = false;
    return PARAMS_OK;
}

/* ---- one check a kind ---- */

static enum params_result check_literal(struct binding *binding, const struct param *param, method_arg *arg)
{
    struct literal_error error;
    if (!arg->has_dollar || literal_check(arg, &error)) {
        return PARAMS_OK;
    }
    if (error.fault == LITERAL_MEMORY) {
        return PARAMS_NO_MEMORY;
    }
    fault_set(binding->fault, RPC_INVALID_PARAMS, "%s: %s: %s", binding->method->name, param->name,
              error.message);
    fault_text(binding->fault, "param", param->name, strlen(param->name));
    return PARAMS_FAULT;
}

static enum params_result check_target(struct binding *binding, const struct param *param, method_arg *arg)
{
    bool is_id =
        arg->kind == JSON_KIND_INT && !arg->overflow && arg->integer >= 1 && arg->integer <= LITERAL_ID_MAX;
    if (is_id || arg->kind == JSON_KIND_STRING) {
        return PARAMS_OK;
    }
    return refuse(binding, param, "an object id, a whole number from 1 to 9007199254740991, or a bound name");
}

static enum params_result check_int(struct binding *binding, const struct param *param, method_arg *arg)
{
    if (arg->kind == JSON_KIND_INT && !arg->overflow && arg->integer >= param->min &&
        arg->integer <= param->max) {
        return PARAMS_OK;
    }
    char what[80];
    snprintf(what, sizeof(what), "a whole number from %lld to %lld", (long long)param->min,
             (long long)param->max);
    return refuse(binding, param, what);
}

/* The index of the parameter's word that the value is; -1: it is none of them. */
static int64_t find_word(const struct param *param, const struct json_value *value)
{
    if (value->kind == JSON_KIND_STRING) {
        struct json_string string = json_string_of(value);
        for (int64_t i = 0; param->words[i] != NULL; i++) {
            if (json_string_equals(&string, param->words[i], strlen(param->words[i]))) {
                return i;
            }
        }
    }
    return -1;
}

static enum params_result refuse_word(struct binding *binding, const struct param *param, const char *wanted)
{
    char what[160];
    size_t len = (size_t)snprintf(what, sizeof(what), "%s ", wanted);
    for (int64_t i = 0; param->words[i] != NULL && len < sizeof(what); i++) {
        len += (size_t)snprintf(what + len, sizeof(what) - len, "%s\"%s\"", i == 0 ? "" : ", ", param->words[i]);
    }
    return refuse(binding, param, what);
}

static enum params_result check_enum(struct binding *binding, const struct param *param, method_arg *arg)
{
    arg->integer = find_word(param, arg);
    return arg->integer >= 0 ? PARAMS_OK : refuse_word(binding, param, "one of");
}

static enum params_result check_words(struct binding *binding, const struct param *param, method_arg *arg)
{
    struct json_cursor cursor;
    struct json_value item;
    if (arg->kind != JSON_KIND_ARRAY) {
        return refuse_word(binding, param, "a list of some of");
    }
    arg->integer = 0;
    json_cursor_within(&cursor, arg);
    json_enter(&cursor);
    while (json_next_item(&cursor) && json_scan_value(&cursor, &item)) {
        int64_t word = find_word(param, &item);
        if (word < 0) {
            return refuse_word(binding, param, "a list of some of");
        }
        arg->integer |= INT64_C(1) << word;
    }
    return PARAMS_OK;
}

static enum params_result check_seconds(struct binding *binding, const struct param *param, method_arg *arg)
{
    double seconds = -1;
    if (arg->kind == JSON_KIND_INT && !arg->overflow) {
        seconds = (double)arg->integer;
    } else if (arg->kind == JSON_KIND_FLOAT) {
        number_read_double(&seconds, arg->text, arg->len);
    }
    if (seconds > 0 && seconds <= (double)param->max) {
        arg->integer = (int64_t)(seconds * 1e6 + 0.5);
        arg->integer += arg->integer == 0;
        return PARAMS_OK;
    }
    char what[80];
    snprintf(what, sizeof(what), "a number of seconds above 0 and at most %lld", (long long)param->max);
    return refuse(binding, param, what);
}

__attribute__((noinline)) static enum params_result check(struct binding *binding, const struct param *param,
                                                          method_arg *arg)
{
    switch (param->kind) {
    case PARAM_TARGET:
        return check_target(binding, param, arg);
    case PARAM_VALUE:
    case PARAM_KEY:
        return check_literal(binding, param, arg);
    case PARAM_STR:
        return arg->kind == JSON_KIND_STRING ? decode(binding, arg) : refuse(binding, param, "a string");
    case PARAM_INT:
        return check_int(binding, param, arg);
    case PARAM_BOOL:
        return arg->kind == JSON_KIND_TRUE || arg->kind == JSON_KIND_FALSE
                   ? PARAMS_OK
                   : refuse(binding, param, "true or false");
    case PARAM_ENUM:
        return check_enum(binding, param, arg);
    case PARAM_WORDS:
        return check_words(binding, param, arg);
    case PARAM_OBJECT:
        return arg->kind == JSON_KIND_OBJECT ? PARAMS_OK : refuse(binding, param, "an object");
    case PARAM_SECONDS:
        return check_seconds(binding, param, arg);
    }
    return PARAMS_OK;
}

/* Whether check() would pass the value as it is, told by its kind alone; it may pass others. */
static inline bool needs_no_check(const struct param *param, const method_arg *arg)
{
    enum { ANY = 0xff, WORDS = 1 << JSON_KIND_FALSE | 1 << JSON_KIND_TRUE };
    static const uint8_t kinds[] = {[PARAM_TARGET] = 1 << JSON_KIND_STRING,
                                    [PARAM_VALUE] = ANY,
                                    [PARAM_KEY] = ANY,
                                    [PARAM_BOOL] = WORDS,
                                    [PARAM_SECONDS] = 0};
    return (kinds[param->kind] >> arg->kind & 1) != 0 && !arg->has_dollar;
}

/* ---- binding ---- */

/* Reads the value at the cursor as parameter i. */
static enum params_result bind_value(struct binding *binding, struct json_cursor *cursor, unsigned i)
{
    const struct param *param = &binding->method->params[i];
    method_arg *arg = &binding->args[i];
    binding->seen |= 1u << i;
    if (!json_scan_value(cursor, arg)) {
        return PARAMS_SYNTAX;
    }
    if (param->optional && arg->kind == JSON_KIND_NULL) {
        arg->text = NULL;
        return PARAMS_OK;
    }
    return needs_no_check(param, arg) ? PARAMS_OK : check(binding, param, arg);
}

/* The fault of a parameter that the method does not have, `name` as JSON. */
__attribute__((cold, noinline)) static enum params_result refuse_unknown(struct binding *binding,
                                                                         const struct json_string *name)
{
    fault_set(binding->fault, RPC_INVALID_PARAMS, "%s has no parameter %.*s; rpc.discover lists what it has",
              binding->method->name, fault_clip(name->text, name->len, 64), name->text);
    /* The name with its quotes is a JSON string inside the request. */
    fault_json(binding->fault, "param", name->text - 1, name->len + 2);
    return PARAMS_FAULT;
}

/* Whether the name means that of the parameter. */
static bool is_named(const struct param *param, const struct json_string *name)
{
    if (name->has_escapes) {
        return json_string_equals(name, param->name, strlen(param->name));
    }
    for (size_t i = 0; i < name->len; i++) {
        if (name->text[i] != param->name[i]) {
            return false; /* at its end, too: the NUL is in no plain name */
        }
    }
    return param->name[name->len] == '\0';
}

/* Reads the name of the next member; *i: the parameter that it names.  `expected` is the one most clients give next.
 * PARAMS_OK with *i == param_count: there is none, or an error which the cursor has. */
static enum params_result next_by_name(struct binding *binding, struct json_cursor *cursor, unsigned expected,
                                       unsigned *i)
{
    const struct method *method = binding->method;
    struct json_string name;
    *i = expected;
    if (expected < method->param_count && json_take_member_padded(cursor, method->params[expected].member)) {
        return PARAMS_OK;
    }
    *i = 0;
    if (!json_next_member(cursor, &name)) {
        *i = method->param_count;
        return PARAMS_OK;
    }
    while (*i < method->param_count && !is_named(&method->params[*i], &name)) {
        ++*i;
    }
    return *i == method->param_count ? refuse_unknown(binding, &name) : PARAMS_OK;
}

static enum params_result bind_by_name(struct binding *binding, struct json_cursor *cursor)
{
    const struct method *method = binding->method;
    for (unsigned i, expected = 0;; expected = i + 1) {
        enum params_result result = next_by_name(binding, cursor, expected, &i);
        if (result != PARAMS_OK) {
            return result;
        }
        if (i == method->param_count) {
            return json_failed(cursor) ? PARAMS_SYNTAX : PARAMS_OK;
        }
        if ((binding->seen & 1u << i) != 0) {
            return refuse(binding, &method->params[i], "given once, not twice");
        }
        result = bind_value(binding, cursor, i);
        if (result != PARAMS_OK) {
            return result;
        }
    }
}

static enum params_result bind_by_position(struct binding *binding, struct json_cursor *cursor)
{
    const struct method *method = binding->method;
    for (unsigned i = 0; json_next_item(cursor); i++) {
        if (i == method->param_count) {
            static const char *const PLACES[METHOD_PARAMS_MAX + 1] = {"[0]", "[1]", "[2]", "[3]", "[4]", "[5]"};
            fault_set(binding->fault, RPC_INVALID_PARAMS, "%s takes at most %u parameter%s", method->name,
                      method->param_count, method->param_count == 1 ? "" : "s");
            fault_text(binding->fault, "param", PLACES[i], strlen(PLACES[i]));
            return PARAMS_FAULT;
        }
        enum params_result result = bind_value(binding, cursor, i);
        if (result != PARAMS_OK) {
            return result;
        }
    }
    return json_failed(cursor) ? PARAMS_SYNTAX : PARAMS_OK;
}

/* Everything was read: what was left out, and whether the rest goes together. */
static enum params_result finish(struct binding *binding)
{
    const struct method *method = binding->method;
    unsigned missing = ((1u << method->param_count) - 1) & ~binding->seen;
    for (; missing != 0; missing &= missing - 1) {
        unsigned i = (unsigned)__builtin_ctz(missing);
        if (!method->params[i].optional) {
            return refuse(binding, &method->params[i], "given");
        }
        binding->args[i].text = NULL;
    }
    return method->check == NULL || method->check(binding->args, binding->fault) ? PARAMS_OK : PARAMS_FAULT;
}

enum params_result params_bind(struct json_cursor *cursor, const struct method *method, method_arg *args,
                               struct turn *turn, struct fault *fault)
{
    struct binding binding = {.method = method, .args = args, .turn = turn, .fault = fault};
    bool by_name = json_peek(cursor) == '{';
    if (!json_enter(cursor)) {
        return PARAMS_SYNTAX;
    }
    enum params_result result = by_name ? bind_by_name(&binding, cursor) : bind_by_position(&binding, cursor);
    return result == PARAMS_OK ? finish(&binding) : result;
}

enum params_result params_bind_none(const struct method *method, method_arg *args, struct fault *fault)
{
    struct binding binding = {.method = method, .args = args, .fault = fault};
    return finish(&binding);
}
