/* discover.c -- the method table as documents: OpenRPC for programs, Markdown for WIRE.md.
 *
 * OpenRPC 1.4 (https://spec.open-rpc.org) with JSON Schema draft 7.  Extensions: a method has `x-role` and
 * `x-group`, a parameter `x-kind` (the words of method_kind_word()), the document `x-examples-setup`, the
 * requests that make what the examples use.
 */
#include "method.h"
#include "rpc.h"

#include "errmap.h"
#include "json_memory.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- OpenRPC ---- */

/* A constant of the table as a document.  Nothing in the table is malformed: a test parses it all. */
static json_t *parse(const char *text)
{
    return json_loads(text, JSON_DECODE_ANY, NULL);
}

static json_t *reference(const char *path)
{
    return json_pack("{s:s}", "$ref", path);
}

static json_t *words_schema(const char *const *words)
{
    json_t *j_words = json_array();
    for (; *words != NULL; words++) {
        json_array_append_new(j_words, json_string(*words));
    }
    return json_pack("{s:s, s:o}", "type", "string", "enum", j_words);
}

static json_t *param_schema(const struct param *param)
{
    json_t *j_schema = NULL;
    switch (param->kind) {
    case PARAM_TARGET:
        return reference("#/components/schemas/Target");
    case PARAM_VALUE:
    case PARAM_KEY:
        return reference("#/components/schemas/Literal");
    case PARAM_STR:
        j_schema = json_pack("{s:s}", "type", "string");
        break;
    case PARAM_INT:
        j_schema = json_pack("{s:s, s:I, s:I}", "type", "integer", "minimum", (json_int_t)param->min, "maximum",
                             (json_int_t)param->max);
        break;
    case PARAM_BOOL:
        j_schema = json_pack("{s:s}", "type", "boolean");
        break;
    case PARAM_ENUM:
        j_schema = words_schema(param->words);
        break;
    case PARAM_WORDS:
        j_schema = json_pack("{s:s, s:o}", "type", "array", "items", words_schema(param->words));
        break;
    case PARAM_OBJECT:
        j_schema = json_pack("{s:s}", "type", "object");
        break;
    case PARAM_SECONDS:
        j_schema = json_pack("{s:s, s:i, s:I}", "type", "number", "exclusiveMinimum", 0, "maximum",
                             (json_int_t)param->max);
        break;
    }
    if (param->fallback != NULL) {
        json_object_set_new(j_schema, "default", parse(param->fallback));
    }
    return j_schema;
}

static json_t *params_document(const struct method *method)
{
    json_t *j_params = json_array();
    for (unsigned i = 0; i < method->param_count; i++) {
        const struct param *param = &method->params[i];
        json_array_append_new(j_params,
                              json_pack("{s:s, s:s, s:b, s:o, s:s}", "name", param->name, "summary", param->doc,
                                        "required", !param->optional, "schema", param_schema(param), "x-kind",
                                        method_kind_word(param->kind)));
    }
    return j_params;
}

static json_t *example_document(const struct method *method)
{
    json_t *j_given = parse(method->example_params), *j_params = json_array(), *j_value;
    const char *name;
    json_object_foreach(j_given, name, j_value)
    {
        json_array_append_new(j_params, json_pack("{s:s, s:O}", "name", name, "value", j_value));
    }
    json_decref(j_given);
    return json_pack("{s:s, s:o, s:{s:s, s:o}}", "name", method->name, "params", j_params, "result", "name",
                     "result", "value", parse(method->example_result));
}

static json_t *method_document(const struct method *method)
{
    json_t *j_method = json_pack("{s:s, s:s, s:s, s:o}", "name", method->name, "summary", method->doc,
                                 "paramStructure", "either", "params", params_document(method));
    json_object_set_new(j_method, "result",
                        json_pack("{s:s, s:o}", "name", "result", "schema", parse(method->result_schema)));
    json_object_set_new(j_method, "examples", json_pack("[o]", example_document(method)));
    json_object_set_new(j_method, "x-role", json_string(method_role_word(method->role)));
    json_object_set_new(j_method, "x-group", json_string(method->group));
    return j_method;
}

static json_t *errors_document(void)
{
    json_t *j_errors = json_object();
    for (int i = 1; i < RPC_ERROR_COUNT; i++) {
        enum rpc_error error = (enum rpc_error)i;
        json_object_set_new(j_errors, rpc_error_word(error),
                            json_pack("{s:i, s:s, s:{s:s}}", "code", rpc_error_code(error), "message",
                                      rpc_error_sentence(error), "data", "error", rpc_error_word(error)));
    }
    return j_errors;
}

static json_t *components_document(void)
{
    json_t *j_target =
        parse("{\"description\":\"An object id or a bound name.\",\"oneOf\":[{\"type\":\"integer\","
              "\"minimum\":1,\"maximum\":9007199254740991},{\"type\":\"string\"}]}");
    json_t *j_literal =
        parse("{\"description\":\"Plain JSON, or a form: an object whose first member's name starts "
              "with $.\"}");
    return json_pack("{s:{s:o, s:o}, s:o}", "schemas", "Target", j_target, "Literal", j_literal, "errors",
                     errors_document());
}

char *rpc_discover_text(void)
{
    json_t *j_methods = json_array(), *j_setup = json_array();
    for (unsigned i = 0; i < METHOD_COUNT; i++) {
        json_array_append_new(j_methods, method_document(&METHODS[i]));
    }
    for (unsigned i = 0; METHOD_EXAMPLE_SETUP[i] != NULL; i++) {
        json_array_append_new(j_setup, parse(METHOD_EXAMPLE_SETUP[i]));
    }
    json_t *j_document =
        json_pack("{s:s, s:{s:s, s:s, s:s}, s:o, s:o, s:o}", "openrpc", "1.4.0", "info", "title", "heapd",
                  "version", RPC_VERSION, "description", "CPython's memory manager as a network service.",
                  "methods", j_methods, "components", components_document(), "x-examples-setup", j_setup);
    char *text = json_dumps(j_document, JSON_COMPACT);
    if (json_memory_take_shortage()) { /* something may be missing in it */
        json_memory_free(text);
        text = NULL;
    }
    json_decref(j_document);
    return text;
}

/* ---- Markdown ---- */

static void write_param(FILE *page, const struct param *param)
{
    fprintf(page, "- `%s` (%s", param->name, method_kind_word(param->kind));
    if (param->kind == PARAM_ENUM || param->kind == PARAM_WORDS) {
        for (unsigned i = 0; param->words[i] != NULL; i++) {
            fprintf(page, "%s`\"%s\"`", i == 0 ? ": " : ", ", param->words[i]);
        }
    }
    if (param->optional) {
        fprintf(page, ", optional");
    }
    if (param->fallback != NULL) {
        fprintf(page, ", default `%s`", param->fallback);
    }
    fprintf(page, "): %s\n", param->doc);
}

static void write_method(FILE *page, const struct method *method)
{
    fprintf(page, "\n#### `%s`\n\n%s\n\n", method->name, method->doc);
    for (unsigned i = 0; i < method->param_count; i++) {
        write_param(page, &method->params[i]);
    }
    fprintf(page, "%s```\n-> {\"id\":1,\"method\":\"%s\"", method->param_count > 0 ? "\n" : "", method->name);
    if (strcmp(method->example_params, "{}") != 0) {
        fprintf(page, ",\"params\":%s", method->example_params);
    }
    fprintf(page, "}\n<- {\"id\":1,\"result\":%s}\n```\n", method->example_result);
}

char *rpc_methods_markdown(void)
{
    char *text = NULL;
    size_t len;
    FILE *page = open_memstream(&text, &len);
    if (page == NULL) {
        return NULL;
    }
    fprintf(page, "The examples begin with these requests; ids, sizes and times differ.\n\n```\n");
    for (unsigned i = 0; METHOD_EXAMPLE_SETUP[i] != NULL; i++) {
        fprintf(page, "-> %s\n", METHOD_EXAMPLE_SETUP[i]);
    }
    fprintf(page, "```\n");
    const char *group = "";
    for (unsigned i = 0; i < METHOD_COUNT; i++) {
        if (strcmp(group, METHODS[i].group) != 0) {
            group = METHODS[i].group;
            fprintf(page, "\n### %s\n", group);
        }
        write_method(page, &METHODS[i]);
    }
    if (fclose(page) != 0) {
        free(text);
        return NULL;
    }
    return text;
}
