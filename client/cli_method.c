/* cli_method.c -- reads an OpenRPC document into rows.   Start at cli_table_create_steal(). */
#include "cli_method.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* Words of "x-kind", and what stands at the end of a schema's "$ref". */
static const struct {
    const char *word;
    enum cli_kind kind;
    bool is_name;
} kind_words[] = {
    {"target", CLI_KIND_TARGET, true},  {"name", CLI_KIND_TEXT, true},
    {"str", CLI_KIND_TEXT, false},      {"string", CLI_KIND_TEXT, false},
    {"enum", CLI_KIND_TEXT, false},     {"value", CLI_KIND_VALUE, false},
    {"key", CLI_KIND_VALUE, false},     {"literal", CLI_KIND_VALUE, false},
    {"int", CLI_KIND_INT, false},       {"integer", CLI_KIND_INT, false},
    {"number", CLI_KIND_NUMBER, false}, {"seconds", CLI_KIND_NUMBER, false},
    {"bool", CLI_KIND_BOOL, false},     {"boolean", CLI_KIND_BOOL, false},
    {"object", CLI_KIND_VALUE, false},
    {"list", CLI_KIND_LIST, false},     {"array", CLI_KIND_LIST, false},
};

static bool kind_from_word(struct cli_param *param, const char *word)
{
    for (size_t i = 0; word != NULL && i < sizeof kind_words / sizeof kind_words[0]; i++) {
        if (strcasecmp(kind_words[i].word, word) == 0) {
            param->kind = kind_words[i].kind;
            param->is_name = kind_words[i].is_name;
            return true;
        }
    }
    return false;
}

static const char *text_of(const json_t *j_object, const char *member)
{
    const char *text = json_string_value(json_object_get(j_object, member));
    return text != NULL ? text : "";
}

/* A schema without a simple type: an int and a string together are a target, anything else is any JSON. */
static bool is_target_schema(const json_t *j_schema)
{
    static const char *const members[] = {"type", "oneOf", "anyOf"};
    bool has_int = false, has_string = false;
    for (size_t m = 0; m < sizeof members / sizeof members[0]; m++) {
        size_t i;
        const json_t *j_choice;
        json_array_foreach(json_object_get(j_schema, members[m]), i, j_choice)
        {
            const char *type =
                json_is_string(j_choice) ? json_string_value(j_choice) : text_of(j_choice, "type");
            has_int = has_int || strcmp(type, "integer") == 0;
            has_string = has_string || strcmp(type, "string") == 0;
        }
    }
    return has_int && has_string;
}

static void read_kind(struct cli_param *param, const json_t *j_param, const json_t *j_schema)
{
    const char *ref = strrchr(text_of(j_schema, "$ref"), '/');
    param->kind = CLI_KIND_VALUE;
    if (kind_from_word(param, json_string_value(json_object_get(j_param, "x-kind"))) ||
        kind_from_word(param, ref != NULL ? ref + 1 : NULL) ||
        kind_from_word(param, json_string_value(json_object_get(j_schema, "type")))) {
        param->is_name = param->is_name || (param->kind == CLI_KIND_TEXT && strcmp(param->name, "name") == 0);
        return;
    }
    if (is_target_schema(j_schema)) {
        param->kind = CLI_KIND_TARGET;
        param->is_name = true;
    }
}

static bool read_param(struct cli_param *param, const json_t *j_param)
{
    const json_t *j_schema = json_object_get(j_param, "schema");
    const json_t *j_items = json_object_get(j_schema, "items");
    const json_t *j_doc = json_object_get(j_param, "summary");
    param->name = json_string_value(json_object_get(j_param, "name"));
    if (param->name == NULL) {
        return false;
    }
    param->is_required = json_is_true(json_object_get(j_param, "required"));
    param->doc = text_of(j_param, j_doc != NULL ? "summary" : "description");
    param->j_default = json_object_get(j_schema, "default");
    param->j_words = json_object_get(j_items != NULL ? j_items : j_schema, "enum");
    read_kind(param, j_param, j_schema);
    return true;
}

/* A result is a literal when it is said to be one, or when its schema leaves open what it is and the method
 * asks about an object: `get`, but not `stats`. */
static bool is_value_result(const struct cli_method *method, const json_t *j_result)
{
    const json_t *j_schema = json_object_get(j_result, "schema");
    struct cli_param result = {.name = ""};
    if (json_object_get(j_result, "x-kind") != NULL || json_object_get(j_schema, "$ref") != NULL) {
        read_kind(&result, j_result, j_schema);
        return result.kind == CLI_KIND_VALUE;
    }
    bool is_open = json_is_true(j_schema) || (json_is_object(j_schema) && json_object_size(j_schema) == 0);
    return is_open && method->param_count > 0 && method->params[0].kind == CLI_KIND_TARGET;
}

static bool read_method(struct cli_method *method, const json_t *j_method)
{
    const json_t *j_params = json_object_get(j_method, "params");
    method->j_method = j_method;
    method->name = json_string_value(json_object_get(j_method, "name"));
    if (method->name == NULL || !json_is_array(j_params)) {
        return false;
    }
    method->doc = text_of(j_method, "summary");
    method->details = text_of(j_method, "description");
    method->group = text_of(j_method, "x-group");
    method->params = calloc(json_array_size(j_params) + 1, sizeof *method->params);
    if (method->params == NULL) {
        return false;
    }
    size_t i;
    const json_t *j_param;
    json_array_foreach(j_params, i, j_param)
    {
        if (!read_param(&method->params[i], j_param)) {
            return false;
        }
    }
    method->param_count = i;
    method->gives_value = is_value_result(method, json_object_get(j_method, "result"));
    return true;
}

struct cli_table *cli_table_create_steal(json_t *j_document)
{
    const json_t *j_methods = json_object_get(j_document, "methods");
    struct cli_table *table = calloc(1, sizeof *table);
    if (table == NULL) {
        json_decref(j_document);
        return NULL;
    }
    table->j_document = j_document;
    table->methods = calloc(json_array_size(j_methods) + 1, sizeof *table->methods);
    table->names = calloc(json_array_size(j_methods) + 1, sizeof *table->names);
    bool is_good = table->methods != NULL && table->names != NULL && json_is_array(j_methods);
    size_t i;
    const json_t *j_method;
    json_array_foreach(j_methods, i, j_method)
    {
        if (!is_good) {
            break;
        }
        table->count = i + 1;
        is_good = read_method(&table->methods[i], j_method);
        table->names[i] = table->methods[i].name;
    }
    if (!is_good) {
        cli_table_destroy(table);
        return NULL;
    }
    return table;
}

void cli_table_destroy(struct cli_table *table)
{
    if (table == NULL) {
        return;
    }
    for (size_t i = 0; i < table->count; i++) {
        free(table->methods[i].params);
    }
    free(table->methods);
    free(table->names);
    json_decref(table->j_document);
    free(table);
}

/* Appends `count` params to those of `method`, which are moved. */
static bool add_params(struct cli_method *method, const struct cli_param *params, size_t count)
{
    struct cli_param *all = reallocarray(method->params, method->param_count + count + 1, sizeof *all);
    if (all == NULL) {
        return false;
    }
    memcpy(all + method->param_count, params, count * sizeof *all);
    method->params = all;
    method->param_count += count;
    return true;
}

bool cli_table_add(struct cli_table *table, const struct cli_method *method)
{
    for (size_t i = 0; i < table->count; i++) {
        if (strcmp(table->methods[i].name, method->name) == 0) {
            return add_params(&table->methods[i], method->params, method->param_count);
        }
    }
    struct cli_method *methods = reallocarray(table->methods, table->count + 1, sizeof *methods);
    if (methods == NULL) {
        return false;
    }
    table->methods = methods;
    const char **names = reallocarray(table->names, table->count + 1, sizeof *names);
    if (names == NULL) {
        return false;
    }
    table->names = names;
    struct cli_method *added = &methods[table->count];
    *added = *method;
    added->params = NULL;
    added->param_count = 0;
    if (!add_params(added, method->params, method->param_count)) {
        return false;
    }
    names[table->count++] = added->name;
    return true;
}

const struct cli_method *cli_table_find(const struct cli_table *table, const char *name)
{
    for (size_t i = 0; i < table->count; i++) {
        if (strcmp(table->methods[i].name, name) == 0) {
            return &table->methods[i];
        }
    }
    return NULL;
}

const struct cli_param *cli_method_param(const struct cli_method *method, const char *name, size_t len)
{
    for (size_t i = 0; i < method->param_count; i++) {
        const char *own = method->params[i].name;
        size_t same = 0;
        while (same < len && (own[same] == name[same] || (own[same] == '_' && name[same] == '-'))) {
            same++;
        }
        if (same == len && own[len] == '\0') {
            return &method->params[i];
        }
    }
    return NULL;
}

const struct cli_param *cli_method_letter(const struct cli_method *method, char letter)
{
    for (size_t i = 0; i < method->param_count; i++) {
        if (letter != '\0' && method->params[i].letter == letter) {
            return &method->params[i];
        }
    }
    return NULL;
}
