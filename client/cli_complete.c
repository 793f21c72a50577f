/* cli_complete.c -- candidates for the word that is being typed, from the daemon's own description.
 *
 * The words before it say which parameter it is: the one whose --option stands right before it, else the
 * next position.   Start at cli_complete().
 */
#include "cli_complete.h"

#include "cli_help.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* More bound names than this are not offered at once. */
#define NAMES_MAX 200

static bool begins_with(const char *text, const char *prefix)
{
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

static void offer(json_t *j_found, const char *word, const char *typed)
{
    if (begins_with(word, typed)) {
        json_array_append_new(j_found, json_string(word));
    }
}

static void offer_commands(json_t *j_found, const struct cli_table *table, const char *typed)
{
    for (size_t i = 0; i < table->count; i++) {
        offer(j_found, table->names[i], typed);
    }
    for (size_t i = 0; cli_help_local_name(i) != NULL; i++) {
        offer(j_found, cli_help_local_name(i), typed);
    }
}

static void offer_option(json_t *j_found, const char *prefix, const char *name, const char *typed)
{
    char *option = NULL;
    if (asprintf(&option, "--%s%s", prefix, name) >= 0) {
        offer(j_found, option, typed);
        free(option);
    }
}

static void offer_options(json_t *j_found, const struct cli_method *method, const char *typed)
{
    for (size_t i = 0; i < method->param_count; i++) {
        offer_option(j_found, "", method->params[i].name, typed);
        if (method->params[i].kind == CLI_KIND_BOOL) {
            offer_option(j_found, "no-", method->params[i].name, typed);
        }
    }
    offer_option(j_found, "", "json", typed);
    offer_option(j_found, "", "help", typed);
}

/* Names with control characters in them can be bound, but nobody types them. */
static bool is_typeable(const char *name, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if ((unsigned char)name[i] < 0x20 || name[i] == 0x7F) {
            return false;
        }
    }
    return name != NULL;
}

static void offer_names(json_t *j_found, struct heapd_client *client, const char *typed)
{
    json_t *j_page = NULL;
    if (client == NULL || heapd_callf(client, &j_page, "name.list", "{s:s,s:i}", "prefix", typed, "limit",
                                      NAMES_MAX) != HEAPD_OK) {
        return;
    }
    size_t i;
    const json_t *j_row;
    json_array_foreach(json_object_get(j_page, "names"), i, j_row)
    {
        const json_t *j_name = json_object_get(j_row, "name");
        if (is_typeable(json_string_value(j_name), json_string_length(j_name))) {
            offer(j_found, json_string_value(j_name), typed);
        }
    }
    json_decref(j_page);
}

/* Words that a parameter takes; of a list the part behind the last comma is completed. */
static void offer_words(json_t *j_found, const struct cli_param *param, const char *typed)
{
    const char *comma = param->kind == CLI_KIND_LIST ? strrchr(typed, ',') : NULL;
    size_t done = comma != NULL ? (size_t)(comma + 1 - typed) : 0;
    size_t i;
    const json_t *j_word;
    json_array_foreach(param->j_words, i, j_word)
    {
        char *word = NULL;
        if (json_is_string(j_word) &&
            asprintf(&word, "%.*s%s", (int)done, typed, json_string_value(j_word)) >= 0) {
            offer(j_found, word, typed);
            free(word);
        }
    }
}

static void offer_values(json_t *j_found, struct heapd_client *client, const struct cli_param *param,
                         const char *typed)
{
    if (param == NULL) {
        return;
    }
    if (param->kind == CLI_KIND_BOOL) {
        offer(j_found, "true", typed);
        offer(j_found, "false", typed);
    }
    offer_words(j_found, param, typed);
    if (param->is_name) {
        offer_names(j_found, client, typed);
    }
}

/* The parameter that --name stands for and that takes the next word; NULL: none does. */
static const struct cli_param *option_param(const struct cli_method *method, const char *word)
{
    if (strncmp(word, "--", 2) != 0) {
        return NULL;
    }
    const struct cli_param *param = cli_method_param(method, word + 2, strlen(word + 2));
    return param != NULL && param->kind != CLI_KIND_BOOL && param->kind != CLI_KIND_PERIOD ? param : NULL;
}

/* Which parameter the last word is for, if it is no option; NULL: none is left. */
static const struct cli_param *current_param(const struct cli_method *method, size_t count,
                                             char *const *words)
{
    const struct cli_param *awaited = NULL;
    size_t position = 0;
    for (size_t i = 1; i + 1 < count; i++) {
        if (awaited != NULL) {
            awaited = NULL;
        } else if (strncmp(words[i], "--", 2) == 0) {
            awaited = option_param(method, words[i]);
        } else {
            position++;
        }
    }
    if (awaited != NULL) {
        return awaited;
    }
    return position < method->param_count ? &method->params[position] : NULL;
}

json_t *cli_complete(const struct cli_table *table, struct heapd_client *client, size_t count,
                     char *const *words)
{
    json_t *j_found = json_array();
    if (j_found == NULL || count == 0) {
        return j_found;
    }
    const char *typed = words[count - 1];
    const struct cli_method *method = cli_table_find(table, words[0]);
    if (count == 1 || (count == 2 && strcmp(words[0], "help") == 0)) {
        offer_commands(j_found, table, typed);
    } else if (method != NULL && begins_with(typed, "-") && option_param(method, words[count - 2]) == NULL) {
        offer_options(j_found, method, typed);
    } else if (method != NULL) {
        offer_values(j_found, client, current_param(method, count, words), typed);
    }
    return j_found;
}
