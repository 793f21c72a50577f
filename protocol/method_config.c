/* method_config.c -- server.config and server.slowlog: the daemon's settings, and what took it long.
 *
 * Settings are the host's: it says what there is and takes changes (struct rpc_host).
 */
#include "document.h"
#include "method_handlers.h"
#include "rpc_internal.h"
#include "json_memory.h"

#include <stdlib.h>

/* ---- server.config ---- */

/* A row of the host's options into the object `j_options`: items of one name become a list. */
static void add_option(void *j_options, const struct rpc_option *option)
{
    json_t *j_value = json_null();
    if (option->kind == RPC_OPTION_NUMBER) {
        j_value = json_integer((json_int_t)option->number);
    } else if (option->text != NULL) {
        j_value = json_string(option->text);
    }
    if (option->kind != RPC_OPTION_ITEM) {
        json_object_set_new(j_options, option->name, j_value);
        return;
    }
    if (json_object_get(j_options, option->name) == NULL) {
        json_object_set_new(j_options, option->name, json_array());
    }
    json_array_append_new(json_object_get(j_options, option->name), j_value);
}

/* The options to set as texts, borrowed from the object; whole numbers become texts in `numbers`. */
static bool read_settings(struct call *call, const json_t *j_set, struct rpc_option *settings, char (*numbers)[24])
{
    const char *name;
    json_t *j_value;
    size_t i = 0;
    json_object_foreach((json_t *)(uintptr_t)j_set, name, j_value)
    {
        settings[i] = (struct rpc_option){.name = name, .kind = RPC_OPTION_TEXT, .text = json_string_value(j_value)};
        if (json_is_integer(j_value)) {
            snprintf(numbers[i], sizeof numbers[i], "%lld", (long long)json_integer_value(j_value));
            settings[i].text = numbers[i];
        }
        if (settings[i].text == NULL) {
            fault_set(call->fault, RPC_INVALID_PARAMS,
                      "server.config: set: the value of %.*s must be a string or a whole number",
                      fault_clip(name, strlen(name), 64), name);
            return fault_text(call->fault, "param", "set", strlen("set"));
        }
        i++;
    }
    return true;
}

static bool set_options(struct call *call, const json_t *j_set)
{
    const struct rpc_host *host = &call->service->host;
    size_t count = json_object_size(j_set);
    struct rpc_option *settings = calloc(count + 1, sizeof *settings);
    char(*numbers)[24] = calloc(count + 1, sizeof *numbers);
    char why[RPC_REASON_BYTES] = "this host has no options that can be set";
    bool ok = false;
    if (settings == NULL || numbers == NULL) {
        call_fail(call, HEAP_MEMORY);
    } else if (read_settings(call, j_set, settings, numbers)) {
        struct rpc_limits limits;
        ok = host->set_options != NULL && host->set_options(host->arg, settings, count, &limits, why);
        if (ok) {
            rpc_service_use_limits(call->service, &limits);
        } else {
            fault_set(call->fault, RPC_VALUE_ERROR, "%s", why);
        }
    }
    free(settings);
    free(numbers);
    return ok;
}

bool method_server_config(struct call *call)
{
    const struct rpc_host *host = &call->service->host;
    if (arg_given(&call->args[0])) {
        json_t *j_set = json_loadb(call->args[0].text, call->args[0].len, JSON_ALLOW_NUL, NULL);
        bool is_whole = j_set != NULL && !json_memory_take_shortage();
        bool ok = is_whole ? set_options(call, j_set) : call_fail(call, HEAP_MEMORY);
        json_decref(j_set);
        if (!ok) {
            return false;
        }
    }
    json_t *j_options = json_object();
    if (host->options != NULL) {
        host->options(host->arg, add_option, j_options);
    }
    return call_document_steal(call, j_options);
}

/* ---- server.slowlog ---- */

static json_t *entry_document(const struct slowlog_entry *entry)
{
    return json_pack("{s:f, s:I, s:s, s:I, s:I, s:I, s:I, s:I}", "at", entry->at, "client",
                     (json_int_t)entry->client, "method", entry->method, "us", (json_int_t)entry->us, "gil_wait_us",
                     (json_int_t)entry->gil_wait_us, "gil_hold_us", (json_int_t)entry->gil_hold_us, "bytes_in",
                     (json_int_t)entry->bytes_in, "bytes_out", (json_int_t)entry->bytes_out);
}

bool method_server_slowlog(struct call *call)
{
    size_t limit = (size_t)arg_int(&call->args[0], 100);
    limit = limit < SLOWLOG_ENTRIES ? limit : SLOWLOG_ENTRIES;
    struct slowlog_entry *entries = calloc(limit, sizeof *entries);
    if (entries == NULL) {
        return call_fail(call, HEAP_MEMORY);
    }
    size_t n = slowlog_read(&call->service->slowlog, entries, limit);
    json_t *j_entries = json_array();
    for (size_t i = 0; i < n; i++) {
        json_array_append_new(j_entries, entry_document(&entries[i]));
    }
    free(entries);
    return call_document_steal(call, json_pack("{s:o}", "entries", j_entries));
}
