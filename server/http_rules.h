/* http_rules.h -- which requests over HTTP are let in: who may be meant, who may ask, what a head may look like.
 *
 * A web page can make a browser send requests to any port of its machine.  What keeps it out: the name that the browser
 * was told to go to (Host, against names that a foreign DNS server lets point here), the page's own origin (Origin),
 * what the browser says of the page (Sec-Fetch-Site), and a content type that a page cannot send without asking first
 * (application/json).
 *
 * Everything here is a function of its arguments.
 */
#ifndef HEAPD_SERVER_HTTP_RULES_H
#define HEAPD_SERVER_HTTP_RULES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Room for an address as it stands in a Host: "[", 45 characters, "]", NUL. */
#define HTTP_ADDRESS_BYTES 48

/* Where a request came in. */
struct http_place {
    bool is_tcp;      /* else a Unix socket, where any Host is fine */
    bool is_tls;
    bool is_loopback; /* only this machine reaches it */
    char address[HTTP_ADDRESS_BYTES]; /* numeric, IPv6 in brackets */
    uint16_t port;
    const char (*names)[256]; /* of --allow-host, name_count of them */
    size_t name_count;
};

/* The place of a connected socket. */
void http_place_of(struct http_place *place, int fd, bool is_tcp);

/* Whether the value of Host is one of the place's names, with its port or without. */
bool http_host_is_allowed(const struct http_place *place, const char *host);
/* Whether the value of Origin is that of a page from here; the Host was allowed. */
bool http_origin_is_own(const struct http_place *place, const char *origin, const char *host);
/* Whether the value of Sec-Fetch-Site is one of a page from here, or of no page. */
bool http_site_is_own(const char *value);
/* Whether the value of Content-Type is application/json, in UTF-8 if it says. */
bool http_type_is_json(const char *value);
/* The number that the value of Content-Length is; false: it is none, or beyond 2^63. */
bool http_read_length(uint64_t *length, const char *value);
/* Whether a comma-separated list has that member, whatever its case. */
bool http_list_has(const char *value, const char *member);
/* The value of a parameter in a query (without its "?"), decoded; false: it is not there, or longer than `size` with
 * its NUL, or malformed.  *is_there tells which. */
bool http_query_value(char *value, size_t size, const char *query, const char *name, bool *is_there);

/* ---- the bytes of a head ----
 *
 * Programs differ in what they take for the end of a line or of a head, which is how requests are smuggled past one
 * to another.  So a head is looked at before it is parsed: lines end in \r\n and in nothing else, none begins with a
 * space, there are no control characters, and the words of the first line have one space between them.  The lines
 * behind the last chunk of a body are looked at in the same way. */

enum http_guard_state { HTTP_GUARD_MORE, HTTP_GUARD_END, HTTP_GUARD_BAD };

/* All zero: nothing has come. */
struct http_guard {
    bool has_line;     /* the first line has begun */
    bool has_headers;  /* it is over */
    bool is_in_line;   /* something has come of the line */
    bool is_after_cr, is_after_space;
};

/* For the lines behind the last chunk, of which there may be none. */
#define HTTP_GUARD_TRAILER ((struct http_guard){.has_line = true, .has_headers = true})

/* Looks at the next bytes of a head, up to its end; *used is how many belong to it. */
enum http_guard_state http_guard_look(struct http_guard *guard, const char *bytes, size_t n, size_t *used);

#endif
