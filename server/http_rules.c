/* http_rules.c -- which requests over HTTP are let in. */
#include "http_rules.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>

/* ---- Host ---- */

static void place_of_ip4(struct http_place *place, const struct sockaddr_in *in)
{
    inet_ntop(AF_INET, &in->sin_addr, place->address, sizeof place->address);
    place->port = ntohs(in->sin_port);
    place->is_loopback = ntohl(in->sin_addr.s_addr) >> 24 == 127;
}

static void place_of_ip6(struct http_place *place, const struct sockaddr_in6 *in6)
{
    char text[INET6_ADDRSTRLEN];
    inet_ntop(AF_INET6, &in6->sin6_addr, text, sizeof text);
    snprintf(place->address, sizeof place->address, "[%s]", text);
    place->port = ntohs(in6->sin6_port);
    place->is_loopback = IN6_IS_ADDR_LOOPBACK(&in6->sin6_addr);
}

void http_place_of(struct http_place *place, int fd, bool is_tcp)
{
    struct sockaddr_storage name;
    socklen_t len = sizeof name;
    *place = (struct http_place){.is_tcp = is_tcp};
    if (!is_tcp || getsockname(fd, (struct sockaddr *)&name, &len) != 0) {
        return;
    }
    if (name.ss_family == AF_INET6) {
        place_of_ip6(place, (const struct sockaddr_in6 *)&name);
    } else {
        place_of_ip4(place, (const struct sockaddr_in *)&name);
    }
}

/* Whether `host` is the name, alone or with the port; port 0: with any. */
static bool is_name(const char *host, const char *name, uint16_t port)
{
    size_t len = strlen(name);
    if (strncasecmp(host, name, len) != 0) {
        return false;
    }
    const char *rest = host + len;
    if (*rest == '\0') {
        return true;
    }
    size_t digits = strspn(rest + 1, "0123456789");
    if (*rest != ':' || digits == 0 || digits > 5 || rest[1 + digits] != '\0') {
        return false;
    }
    return port == 0 || strtoul(rest + 1, NULL, 10) == port;
}

/* Whether it is one that was allowed by name.  Such a name may be that of a proxy, whose port is its own affair. */
static bool is_named(const struct http_place *place, const char *host)
{
    for (size_t i = 0; i < place->name_count; i++) {
        if (is_name(host, place->names[i], 0)) {
            return true;
        }
    }
    return false;
}

bool http_host_is_allowed(const struct http_place *place, const char *host)
{
    static const char *const loopback[] = {"localhost", "127.0.0.1", "[::1]"};
    if (!place->is_tcp) {
        return true;
    }
    for (size_t i = 0; place->is_loopback && i < sizeof loopback / sizeof loopback[0]; i++) {
        if (is_name(host, loopback[i], place->port)) {
            return true;
        }
    }
    return (*place->address != '\0' && is_name(host, place->address, place->port)) || is_named(place, host);
}

/* ---- pages ---- */

bool http_origin_is_own(const struct http_place *place, const char *origin, const char *host)
{
    const char *scheme = place->is_tls ? "https://" : "http://";
    if (strncasecmp(origin, scheme, strlen(scheme)) == 0) {
        return strcasecmp(origin + strlen(scheme), host) == 0;
    }
    /* A proxy that was allowed by name may speak TLS where we do not. */
    return is_named(place, host) && strncasecmp(origin, "https://", 8) == 0 && strcasecmp(origin + 8, host) == 0;
}

bool http_site_is_own(const char *value)
{
    return strcmp(value, "same-origin") == 0 || strcmp(value, "none") == 0;
}

/* ---- values ---- */

static const char *skip_space(const char *p)
{
    return p + strspn(p, " \t");
}

bool http_type_is_json(const char *value)
{
    static const char type[] = "application/json";
    if (strncasecmp(value, type, strlen(type)) != 0) {
        return false;
    }
    const char *p = skip_space(value + strlen(type));
    if (*p == '\0') {
        return true;
    }
    if (*p != ';') {
        return false;
    }
    /* Parameters mean nothing for JSON, but for one that claims another encoding. */
    for (; *p == ';'; p += strcspn(p, ";")) {
        p = skip_space(p + 1);
        if (strncasecmp(p, "charset=", 8) == 0) {
            const char *charset = p[8] == '"' ? p + 9 : p + 8;
            size_t len = strcspn(charset, "\"; \t");
            if (len != 5 || strncasecmp(charset, "utf-8", 5) != 0) {
                return false;
            }
        }
    }
    return true;
}

bool http_read_length(uint64_t *length, const char *value)
{
    size_t digits = strspn(value, "0123456789");
    if (digits == 0 || digits > 18 || value[digits] != '\0') {
        return false;
    }
    *length = strtoull(value, NULL, 10);
    return true;
}

bool http_list_has(const char *value, const char *member)
{
    size_t len = strlen(member);
    for (const char *p = value; *p != '\0';) {
        p += strspn(p, ", \t");
        size_t end = strcspn(p, ","), trimmed = end;
        while (trimmed > 0 && (p[trimmed - 1] == ' ' || p[trimmed - 1] == '\t')) {
            trimmed--;
        }
        if (trimmed == len && strncasecmp(p, member, len) == 0) {
            return true;
        }
        p += end;
    }
    return false;
}

/* ---- queries ---- */

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Decodes percent signs and pluses; false: malformed, a NUL, or no room. */
static bool decode(char *value, size_t size, const char *text, size_t len)
{
    size_t n = 0;
    for (size_t i = 0; i < len; i++) {
        char c = text[i] == '+' ? ' ' : text[i];
        if (text[i] == '%') {
            bool is_whole = len - i > 2;
            int high = is_whole ? hex_digit(text[i + 1]) : -1, low = is_whole ? hex_digit(text[i + 2]) : -1;
            if (high < 0 || low < 0) {
                return false;
            }
            c = (char)(16 * high + low);
            i += 2;
        }
        if (c == '\0' || n + 1 >= size) {
            return false;
        }
        value[n++] = c;
    }
    value[n] = '\0';
    return true;
}

bool http_query_value(char *value, size_t size, const char *query, const char *name, bool *is_there)
{
    size_t name_len = strlen(name);
    *is_there = false;
    for (const char *p = query; *p != '\0';) {
        size_t len = strcspn(p, "&"), key_len = strcspn(p, "=&");
        if (key_len == name_len && strncmp(p, name, name_len) == 0) {
            size_t skip = key_len < len ? key_len + 1 : key_len;
            *is_there = true;
            return decode(value, size, p + skip, len - skip);
        }
        p += len + (p[len] == '&');
    }
    return false;
}

/* ---- the bytes of a head ---- */

enum http_guard_state http_guard_look(struct http_guard *guard, const char *bytes, size_t n, size_t *used)
{
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)bytes[i];
        *used = i + 1;
        if (guard->is_after_cr != (c == '\n')) {
            return HTTP_GUARD_BAD; /* one without the other */
        }
        bool is_space = c == ' ' || c == '\t', may_be_space = guard->has_headers || !guard->is_after_space;
        guard->is_after_space = is_space;
        if (c == '\r') {
            guard->is_after_cr = true;
        } else if (c == '\n') {
            bool is_end = guard->has_line && !guard->is_in_line;
            guard->has_headers = guard->has_line;
            guard->is_after_cr = guard->is_in_line = false;
            if (is_end) {
                return HTTP_GUARD_END;
            }
        } else if ((c < ' ' && c != '\t') || c == 0x7f || (is_space && !(guard->is_in_line && may_be_space))) {
            return HTTP_GUARD_BAD;
        } else {
            guard->has_line = guard->is_in_line = true;
        }
    }
    return HTTP_GUARD_MORE;
}
