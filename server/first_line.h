/* first_line.h -- does a connection speak HTTP?  Its first line says so.
 *
 * A web page can make a browser send HTTP to any port of its machine, with a body of the page's choice.  So
 * nothing that comes behind a line of HTTP may be taken for a request.  A line is HTTP when it starts with a
 * method of HTTP and a space, or ends in HTTP/ and a version; no JSON text does either.
 */
#ifndef HEAPD_SERVER_FIRST_LINE_H
#define HEAPD_SERVER_FIRST_LINE_H

#include <stdbool.h>
#include <stddef.h>

/* The longest method, with its space. */
#define FIRST_LINE_HEAD 8u
/* "HTTP/1.1\r", and one to spare. */
#define FIRST_LINE_TAIL 10u

struct first_line {
    char head[FIRST_LINE_HEAD]; /* how the line starts */
    char tail[FIRST_LINE_TAIL]; /* how what is known of it ends */
    unsigned char head_len, tail_len;
    bool is_over; /* its end has been seen: the verdict stands */
};

/* Takes the connection's next bytes, before anybody else sees them.  Whether the line is HTTP, as far as can
 * be told; it is told at the latest by the bytes that bring the line's end. */
bool first_line_is_http(struct first_line *line, const char *bytes, size_t n);

#endif
