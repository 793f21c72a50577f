/* cli_who.c -- whose session a number is, for people. */
#include "cli_who.h"

#include "cli_json.h"

#include <stdlib.h>
#include <string.h>

json_t *cli_who_ask(struct cli_session *session)
{
    return cli_session_try(session, "server.clients", NULL);
}

static void put_client_member(FILE *out, const char *separator, const json_t *j_client, const char *member)
{
    const json_t *j_text = json_object_get(j_client, member);
    if (json_string_length(j_text) > 0) {
        fputs(separator, out);
        cli_json_put_text(out, json_string_value(j_text), json_string_length(j_text), "");
    }
}

static void put_client(FILE *out, const json_t *j_client)
{
    const json_t *j_number = json_object_get(j_client, "client");
    if (json_is_integer(j_number)) {
        fprintf(out, " (client %" JSON_INTEGER_FORMAT, json_integer_value(j_number));
        put_client_member(out, ", ", j_client, "transport");
        put_client_member(out, " ", j_client, "peer");
    } else {
        fputs(" (leased, nobody is connected", out);
    }
    fprintf(out, ", holds %" JSON_INTEGER_FORMAT ")", json_integer_value(json_object_get(j_client, "holds")));
}

void cli_who_put(FILE *out, const json_t *j_clients, const json_t *j_session)
{
    size_t i;
    const json_t *j_client;
    fprintf(out, "session %" JSON_INTEGER_FORMAT, json_integer_value(j_session));
    json_array_foreach(json_object_get(j_clients, "clients"), i, j_client)
    {
        if (json_equal(json_object_get(j_client, "session"), j_session)) {
            put_client(out, j_client);
            return;
        }
    }
    fputs(json_is_object(j_clients) ? " (gone)" : "", out);
}

char *cli_who_name(const json_t *j_inspected)
{
    const json_t *j_name = json_array_get(json_object_get(j_inspected, "names"), 0);
    const json_t *j_session =
        json_object_get(json_array_get(json_object_get(j_inspected, "sessions"), 0), "session");
    char *text = NULL;
    size_t len;
    FILE *out = json_is_string(j_name) || json_is_integer(j_session) ? open_memstream(&text, &len) : NULL;
    if (out == NULL) {
        return NULL;
    }
    if (json_is_string(j_name)) {
        fputs("name ", out);
        cli_json_put_text(out, json_string_value(j_name), json_string_length(j_name), "");
    } else {
        cli_who_put(out, NULL, j_session);
    }
    fclose(out);
    return text;
}
