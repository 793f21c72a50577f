/* address.c -- where to listen: unix:PATH, tcp:HOST:PORT or tls:HOST:PORT. */
#include "address.h"

#include <arpa/inet.h>
#include <limits.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

_Static_assert(sizeof(((struct sockaddr_un *)0)->sun_path) + sizeof("unix:") <= ADDRESS_TEXT_BYTES,
               "the text of a Unix address fits");

/* ---- Unix ---- */

/* A path that the ready line and a list in the configuration can show as it is. */
static bool is_plain_path(const char *path)
{
    for (const char *p = path; *p != '\0'; p++) {
        if ((unsigned char)*p < 0x20 || *p == 0x7f || *p == ',') {
            return false;
        }
    }
    return *path != '\0';
}

static bool parse_unix(struct address *address, const char *path, struct reason *reason)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    size_t len = strlen(path);
    if (!is_plain_path(path)) {
        return reason_set(
            reason, "'unix:%s': the path must not be empty, nor have commas or control characters in it", path);
    }
    if (len >= sizeof name.sun_path) {
        return reason_set(reason, "'unix:%.60s..': the path has %zu bytes; a Unix socket's has at most %zu",
                          path, len, sizeof name.sun_path - 1);
    }
    memcpy(name.sun_path, path, len + 1);
    memset(address, 0, sizeof *address);
    memcpy(&address->name, &name, sizeof name);
    address->len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len + 1);
    return true;
}

bool address_default(struct address *address, struct reason *reason)
{
    char path[PATH_MAX];
    const char *runtime = getenv("XDG_RUNTIME_DIR");
    if (runtime != NULL && runtime[0] == '/') {
        size_t len = strlen(runtime);
        /* A folder with a slash behind it would be looked at through a symbolic link. */
        while (len > 1 && runtime[len - 1] == '/') {
            len--;
        }
        snprintf(path, sizeof path, "%.*s/heapd.sock", (int)(len < PATH_MAX ? len : PATH_MAX), runtime);
    } else {
        snprintf(path, sizeof path, "/tmp/heapd-%lu/heapd.sock", (unsigned long)geteuid());
    }
    return parse_unix(address, path, reason);
}

/* ---- TCP, with TLS or without ---- */

/* HOST:PORT or [HOST]:PORT apart.  `host` has room for `size` bytes. */
static bool split_host(const char *text, char *host, size_t size, const char **port)
{
    const char *colon = strrchr(text, ':');
    if (colon == NULL) {
        return false;
    }
    size_t len = (size_t)(colon - text);
    bool bracketed = len >= 2 && text[0] == '[' && text[len - 1] == ']';
    if (bracketed) {
        text++;
        len -= 2;
    }
    if (len == 0 || len >= size || (!bracketed && memchr(text, ':', len) != NULL)) {
        return false;
    }
    memcpy(host, text, len);
    host[len] = '\0';
    *port = colon + 1;
    return true;
}

static bool is_port(const char *text)
{
    size_t len = strlen(text);
    return len >= 1 && len <= 5 && strspn(text, "0123456789") == len && atoi(text) <= 65535;
}

/* `scheme` is how the text began, for messages. */
static bool parse_tcp(struct address *address, const char *scheme, const char *text, struct reason *reason)
{
    char host[256];
    const char *port;
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM}, *found = NULL;
    if (!split_host(text, host, sizeof host, &port) || !is_port(port)) {
        return reason_set(reason, "'%s:%.200s' is no address; allowed: " ADDRESS_GRAMMAR, scheme, text);
    }
    /* A number needs no resolver, whose libraries would cost the start milliseconds. */
    hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV;
    int status = getaddrinfo(host, port, &hints, &found);
    if (status == EAI_NONAME) {
        hints.ai_flags = AI_NUMERICSERV;
        status = getaddrinfo(host, port, &hints, &found);
    }
    if (status != 0) {
        return reason_set(reason, "'%s:%.200s': there is no host '%.200s': %s", scheme, text, host,
                          gai_strerror(status));
    }
    memset(address, 0, sizeof *address);
    memcpy(&address->name, found->ai_addr, found->ai_addrlen);
    address->len = found->ai_addrlen;
    freeaddrinfo(found);
    return true;
}

bool address_parse(struct address *address, const char *text, struct reason *reason)
{
    if (strncmp(text, "unix:", 5) == 0) {
        return parse_unix(address, text + 5, reason);
    }
    if (strncmp(text, "tcp:", 4) == 0) {
        return parse_tcp(address, "tcp", text + 4, reason);
    }
    if (strncmp(text, "tls:", 4) == 0) {
        address->is_tls = parse_tcp(address, "tls", text + 4, reason);
        return address->is_tls;
    }
    return reason_set(reason, "'%.200s' is no address; allowed: " ADDRESS_GRAMMAR, text);
}

/* ---- questions ---- */

bool address_is_unix(const struct address *address)
{
    return address->name.ss_family == AF_UNIX;
}

const char *address_path(const struct address *address)
{
    return ((const struct sockaddr_un *)&address->name)->sun_path;
}

bool address_is_local(const struct address *address)
{
    if (address->name.ss_family == AF_INET) {
        const struct sockaddr_in *in = (const struct sockaddr_in *)&address->name;
        return ntohl(in->sin_addr.s_addr) >> 24 == 127;
    }
    if (address->name.ss_family == AF_INET6) {
        const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)&address->name;
        return IN6_IS_ADDR_LOOPBACK(&in6->sin6_addr) ||
               (IN6_IS_ADDR_V4MAPPED(&in6->sin6_addr) && in6->sin6_addr.s6_addr[12] == 127);
    }
    return true;
}

bool address_equal(const struct address *a, const struct address *b)
{
    return a->len == b->len && memcmp(&a->name, &b->name, a->len) == 0;
}

void address_text(const struct address *address, char text[ADDRESS_TEXT_BYTES])
{
    char host[INET6_ADDRSTRLEN] = "";
    const char *scheme = address->is_tls ? "tls" : "tcp";
    if (address->name.ss_family == AF_INET) {
        const struct sockaddr_in *in = (const struct sockaddr_in *)&address->name;
        inet_ntop(AF_INET, &in->sin_addr, host, sizeof host);
        snprintf(text, ADDRESS_TEXT_BYTES, "%s:%s:%u", scheme, host, ntohs(in->sin_port));
    } else if (address->name.ss_family == AF_INET6) {
        const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)&address->name;
        inet_ntop(AF_INET6, &in6->sin6_addr, host, sizeof host);
        snprintf(text, ADDRESS_TEXT_BYTES, "%s:[%s]:%u", scheme, host, ntohs(in6->sin6_port));
    } else {
        snprintf(text, ADDRESS_TEXT_BYTES, "unix:%s", address_path(address));
    }
}
