/* heapd_client.c -- one connection to a heapd daemon: requests out, replies in order, events between.
 *
 *   heapd_call = heapd_send + heapd_receive
 *
 *      heapd_send ----> out [ sent | request request ... ] ----> socket
 *                                                                  |
 *      heapd_receive <- in  [ taken | line line | part of a line ] <'
 *
 * The socket never blocks.  While there is something to write and the socket is full, what arrives is read
 * too: the daemon stops reading from a client that lets replies pile up, and both would wait for ever.
 *
 * Replies come in request order, so no table of requests is kept: ids count up, the reply that is due next
 * has id `next_reply_id`.  A reply with id null stands for a line that the daemon could not take, and
 * takes the same place.  Replies to calls that timed out come first and are dropped (`abandoned`).
 *
 * Locking: none; one thread at a time per client.   Start at heapd_call_text() and heapd_receive().
 */
#include "heapd_client.h"

#include "heapd_tls.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

/* A connection that nobody answers is given up after this, even without a time-out for calls. */
#define CONNECT_TIMEOUT_MS 10000
/* Requests wait until this many bytes are queued, so that a pipeline costs few system calls. */
#define FLUSH_BYTES 65536
/* Room made before each read. */
#define READ_BYTES 65536
/* No deadline: any time of the monotonic clock is before it. */
#define NEVER INT64_MAX

/* Bytes [start, end) of `bytes` are in use; what is before `start` is done with. */
struct buffer {
    char *bytes;
    size_t start, end, capacity;
};

struct heapd_client {
    int fd;                  /* -1: not connected */
    struct heapd_tls *tls;   /* what speaks on it; NULL: we do */
    bool input_ended;        /* nothing more comes; what is in `in` can still be taken */
    bool output_failed;      /* the daemon takes nothing more; what it said before may be in `in` */
    bool out_of_step;        /* something came that is no reply: nothing later can be told apart */
    int64_t timeout_ms;      /* of each call; 0: none */
    struct buffer in;        /* received, not yet taken */
    size_t scanned;          /* in.bytes[in.start, scanned) has no newline */
    struct buffer out;       /* queued, not yet sent */
    uint64_t last_id;        /* of the newest request */
    uint64_t next_reply_id;  /* of the reply that is due next; last_id + 1 when none is */
    uint64_t abandoned;      /* how many of the replies that are due next belong to calls that timed out */
    const char *result_text; /* in `in`, or NULL */
    size_t result_text_len;
    heapd_event_callback *event_callback;
    void *event_arg;
    uint64_t events; /* delivered so far, to the callback or to nobody */
    char *address;   /* of the last connect; owned */
    struct heapd_error error;
    char *error_message; /* owned; error.message points here or at a constant */
    char *error_word;    /* owned; error.word points here or at a constant */
};

/* Words for failures that no daemon told, by status. */
static const char *const status_words[] = {
    [HEAPD_OK] = "ok",
    [HEAPD_ERROR] = "error",
    [HEAPD_TIMEOUT] = "timeout",
    [HEAPD_CLOSED] = "closed",
    [HEAPD_PROTOCOL] = "protocol",
    [HEAPD_USAGE] = "usage",
    [HEAPD_NO_MEMORY] = "no_memory",
};

static const struct heapd_error no_client_error = {HEAPD_NO_MEMORY, 0, "no_memory", "no memory for a client",
                                                   NULL};

/* ---- errors ---- */

/* Forgets the last call's error and result text: the first thing every call does. */
static void call_begins(struct heapd_client *client)
{
    free(client->error_message);
    free(client->error_word);
    json_decref(client->error.data);
    client->error_message = client->error_word = NULL;
    client->error = (struct heapd_error){HEAPD_OK, 0, status_words[HEAPD_OK], "no error", NULL};
    client->result_text = NULL;
    client->result_text_len = 0;
}

/* Records a failure of our own and returns its status.  The first of a call wins. */
__attribute__((format(printf, 3, 4))) static enum heapd_status
fail(struct heapd_client *client, enum heapd_status status, const char *format, ...)
{
    if (client->error.status != HEAPD_OK) {
        return client->error.status;
    }
    client->error.status = status;
    client->error.word = status_words[status];
    va_list arguments;
    va_start(arguments, format);
    if (vasprintf(&client->error_message, format, arguments) < 0) {
        client->error_message = NULL;
    }
    va_end(arguments);
    client->error.message =
        client->error_message != NULL ? client->error_message : "no memory for the message";
    return status;
}

static enum heapd_status fail_no_memory(struct heapd_client *client)
{
    return fail(client, HEAPD_NO_MEMORY, "no memory");
}

/* ---- buffers ---- */

/* Makes room for `room` bytes after `end`, moving what is in use to the front first.  False: no memory. */
static bool buffer_reserve(struct buffer *buffer, size_t room)
{
    if (buffer->capacity - buffer->end >= room) {
        return true;
    }
    if (buffer->start > 0) {
        memmove(buffer->bytes, buffer->bytes + buffer->start, buffer->end - buffer->start);
        buffer->end -= buffer->start;
        buffer->start = 0;
    }
    size_t capacity = buffer->capacity > 0 ? buffer->capacity : READ_BYTES;
    while (capacity - buffer->end < room) {
        if (capacity > SIZE_MAX / 2) {
            return false;
        }
        capacity *= 2;
    }
    if (capacity > buffer->capacity) {
        char *bytes = realloc(buffer->bytes, capacity);
        if (bytes == NULL) {
            return false;
        }
        buffer->bytes = bytes;
        buffer->capacity = capacity;
    }
    return true;
}

/* Appends to a buffer that has room. */
static void buffer_put(struct buffer *buffer, const char *bytes, size_t len)
{
    memcpy(buffer->bytes + buffer->end, bytes, len);
    buffer->end += len;
}

/* ---- time ---- */

static int64_t now_ms(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (int64_t)time.tv_sec * 1000 + time.tv_nsec / 1000000;
}

/* When a call that begins now must be over. */
static int64_t call_deadline(const struct heapd_client *client)
{
    return client->timeout_ms > 0 ? now_ms() + client->timeout_ms : NEVER;
}

/* Waits until `fd` is ready for one of `events`.  Returns what it is ready for, 0 at the deadline. */
static short wait_ready(int fd, short events, int64_t deadline)
{
    for (;;) {
        int64_t left = deadline == NEVER ? -1 : deadline - now_ms();
        if (deadline != NEVER && left < 0) {
            left = 0;
        }
        struct pollfd poll_fd = {.fd = fd, .events = events};
        int ready = poll(&poll_fd, 1, left > 86400000 ? 86400000 : (int)left);
        if (ready > 0) {
            return poll_fd.revents;
        }
        if (ready == 0 && deadline != NEVER && now_ms() >= deadline) {
            return 0;
        }
        if (ready < 0 && errno != EINTR && errno != EAGAIN) {
            return POLLERR;
        }
    }
}

/* ---- reading and writing ---- */

static ssize_t receive_bytes(struct heapd_client *client, char *bytes, size_t room)
{
    return client->tls != NULL ? heapd_tls_recv(client->tls, bytes, room)
                               : recv(client->fd, bytes, room, MSG_DONTWAIT);
}

static ssize_t send_bytes(struct heapd_client *client, const char *bytes, size_t len)
{
    return client->tls != NULL ? heapd_tls_send(client->tls, bytes, len)
                               : send(client->fd, bytes, len, MSG_DONTWAIT | MSG_NOSIGNAL);
}

/* Reads what is there, once.  Ends the input at the end or when the connection is gone. */
static enum heapd_status read_some(struct heapd_client *client)
{
    size_t moved = client->in.start;
    if (!buffer_reserve(&client->in, READ_BYTES)) {
        return fail_no_memory(client);
    }
    client->scanned -= moved - client->in.start;
    struct buffer *in = &client->in;
    ssize_t n = receive_bytes(client, in->bytes + in->end, in->capacity - in->end);
    if (n > 0) {
        in->end += (size_t)n;
        /* Nobody would be woken for what TLS has read already. */
        return client->tls != NULL && heapd_tls_has_more(client->tls) ? read_some(client) : HEAPD_OK;
    }
    if (n == 0 || (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR)) {
        client->input_ended = true;
    }
    return HEAPD_OK;
}

/* Sends all that is queued, reading meanwhile.  When the daemon takes nothing more, what is queued is
 * dropped: the reason may still be read, so that is no failure yet. */
static enum heapd_status flush_out(struct heapd_client *client, int64_t deadline)
{
    struct buffer *out = &client->out;
    while (out->start < out->end && !client->output_failed) {
        size_t len = out->end - out->start;
        ssize_t n = send_bytes(client, out->bytes + out->start, len);
        if (n >= 0) {
            out->start += (size_t)n;
            continue;
        }
        if (errno == EINTR) {
            continue;
        }
        if (errno != EAGAIN && errno != EWOULDBLOCK) {
            client->output_failed = true;
            break;
        }
        short ready = wait_ready(client->fd, client->input_ended ? POLLOUT : POLLIN | POLLOUT, deadline);
        if (ready == 0) {
            return fail(client, HEAPD_TIMEOUT, "%s takes no more requests: nothing was read for %lld ms",
                        client->address, (long long)client->timeout_ms);
        }
        if ((ready & POLLIN) != 0 && !client->input_ended && read_some(client) != HEAPD_OK) {
            return client->error.status;
        }
    }
    out->start = out->end = 0;
    return HEAPD_OK;
}

/* Takes the next line out of the input, NUL in place of its newline. */
static enum heapd_status next_line(struct heapd_client *client, char **line, size_t *len, int64_t deadline)
{
    for (;;) {
        struct buffer *in = &client->in;
        size_t fresh = in->end - client->scanned;
        char *newline = fresh > 0 ? memchr(in->bytes + client->scanned, '\n', fresh) : NULL;
        if (newline != NULL) {
            *line = in->bytes + in->start;
            *len = (size_t)(newline - *line);
            *newline = '\0';
            in->start = client->scanned = (size_t)(newline + 1 - in->bytes);
            return HEAPD_OK;
        }
        client->scanned = in->end;
        if (client->input_ended) {
            return fail(client, HEAPD_CLOSED, "the daemon at %s closed the connection", client->address);
        }
        if (wait_ready(client->fd, POLLIN, deadline) == 0) {
            return fail(client, HEAPD_TIMEOUT, "no answer from %s within %lld ms", client->address,
                        (long long)client->timeout_ms);
        }
        if (read_some(client) != HEAPD_OK) {
            return client->error.status;
        }
    }
}

/* Whether the connection can be used for one more call. */
static enum heapd_status check_usable(struct heapd_client *client)
{
    if (client->fd < 0) {
        return fail(client, HEAPD_CLOSED, "not connected");
    }
    if (client->out_of_step) {
        return fail(client, HEAPD_PROTOCOL, "%s sent something that is no reply before; connect again",
                    client->address);
    }
    return HEAPD_OK;
}

/* ---- connecting ---- */

struct heapd_client *heapd_client_create(void)
{
    struct heapd_client *client = calloc(1, sizeof *client);
    if (client == NULL) {
        return NULL;
    }
    client->fd = -1;
    client->next_reply_id = 1;
    call_begins(client);
    return client;
}

void heapd_client_destroy(struct heapd_client *client)
{
    if (client == NULL) {
        return;
    }
    call_begins(client);
    heapd_tls_destroy(client->tls);
    if (client->fd >= 0) {
        close(client->fd);
    }
    free(client->in.bytes);
    free(client->out.bytes);
    free(client->address);
    free(client);
}

bool heapd_default_address(char *buffer, size_t size)
{
    const char *url = getenv("HEAPD_URL");
    const char *folder = getenv("XDG_RUNTIME_DIR");
    int len;
    if (url != NULL && *url != '\0') {
        len = snprintf(buffer, size, "%s", url);
    } else if (folder != NULL && *folder != '\0') {
        len = snprintf(buffer, size, "unix:%s/heapd.sock", folder);
    } else {
        len = snprintf(buffer, size, "unix:/tmp/heapd-%lu/heapd.sock", (unsigned long)getuid());
    }
    return len >= 0 && (size_t)len < size;
}

/* Connects one socket within the deadline.  Returns 0 or an errno; `*fd` is new when 0. */
static int connect_socket(int *fd, int family, const struct sockaddr *address, socklen_t len,
                          int64_t deadline)
{
    int new_fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (new_fd < 0) {
        return errno;
    }
    int reason = 0;
    if (connect(new_fd, address, len) < 0) {
        reason = errno;
    }
    if (reason == EINPROGRESS || reason == EINTR) {
        socklen_t size = sizeof reason;
        if (wait_ready(new_fd, POLLOUT, deadline) == 0) {
            reason = ETIMEDOUT;
        } else if (getsockopt(new_fd, SOL_SOCKET, SO_ERROR, &reason, &size) < 0) {
            reason = errno;
        }
    }
    if (reason != 0) {
        close(new_fd);
        return reason;
    }
    *fd = new_fd;
    return 0;
}

static enum heapd_status fail_connect(struct heapd_client *client, int reason)
{
    if (reason == ETIMEDOUT) {
        return fail(client, HEAPD_TIMEOUT, "cannot connect to %s: it does not answer", client->address);
    }
    return fail(client, HEAPD_CLOSED, "cannot connect to %s: %s", client->address, strerror(reason));
}

static enum heapd_status connect_unix(struct heapd_client *client, const char *path, int64_t deadline)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (*path == '\0' || strlen(path) >= sizeof address.sun_path) {
        return fail(client, HEAPD_USAGE, "bad address %s: a socket's path has 1 to %zu bytes",
                    client->address, sizeof address.sun_path - 1);
    }
    memcpy(address.sun_path, path, strlen(path) + 1);
    const struct sockaddr *generic = (const struct sockaddr *)&address;
    int reason = connect_socket(&client->fd, AF_UNIX, generic, sizeof address, deadline);
    /* A Unix socket whose queue is full says so at once instead of waiting; the daemon is there. */
    while (reason == EAGAIN && now_ms() < deadline) {
        nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
        reason = connect_socket(&client->fd, AF_UNIX, generic, sizeof address, deadline);
    }
    return reason == 0 ? HEAPD_OK : fail_connect(client, reason == EAGAIN ? ETIMEDOUT : reason);
}

/* Splits HOST:PORT or [HOST]:PORT into `host`, which has room for all of `text`; NULL if it is neither,
 * else the port in `text`. */
static const char *split_host_port(char *host, const char *text)
{
    const char *colon = strrchr(text, ':');
    const char *end = colon;
    if (colon == NULL || colon == text || colon[1] == '\0') {
        return NULL;
    }
    if (*text == '[') {
        text++;
        end = colon - 1;
        if (*end != ']' || end == text) {
            return NULL;
        }
    } else if (memchr(text, ':', (size_t)(colon - text)) != NULL) {
        return NULL; /* an IPv6 address without brackets: where the port begins is a guess */
    }
    memcpy(host, text, (size_t)(end - text));
    host[end - text] = '\0';
    return colon + 1;
}

/* The resolver has no time-out of ours: it waits as long as the system's settings say. */
static enum heapd_status connect_tcp(struct heapd_client *client, const char *host_port, int64_t deadline)
{
    char host[256];
    const char *port = strlen(host_port) < sizeof host ? split_host_port(host, host_port) : NULL;
    if (port == NULL) {
        return fail(client, HEAPD_USAGE, "bad address %s: write tcp:HOST:PORT, or tcp:[::1]:PORT for IPv6",
                    client->address);
    }
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
    struct addrinfo *found = NULL;
    int unresolved = getaddrinfo(host, port, &hints, &found);
    if (unresolved != 0) {
        return fail(client, HEAPD_CLOSED, "cannot connect to %s: %s", client->address,
                    gai_strerror(unresolved));
    }
    int reason = ECONNREFUSED;
    for (const struct addrinfo *each = found; each != NULL && client->fd < 0; each = each->ai_next) {
        reason = connect_socket(&client->fd, each->ai_family, each->ai_addr, each->ai_addrlen, deadline);
    }
    freeaddrinfo(found);
    if (client->fd < 0) {
        return fail_connect(client, reason);
    }
    /* Small requests must not wait for the acknowledgement of the one before. */
    setsockopt(client->fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
    return HEAPD_OK;
}

/* The handshake on a socket that is connected. */
static enum heapd_status begin_tls(struct heapd_client *client, const char *host_port, int64_t deadline)
{
    char host[256];
    short events = 0;
    int done;
    split_host_port(host, host_port);
    client->tls = heapd_tls_create(client->fd, host);
    if (client->tls == NULL) {
        return fail_no_memory(client);
    }
    while ((done = heapd_tls_handshake(client->tls, &events)) == 0) {
        if (wait_ready(client->fd, events, deadline) == 0) {
            return fail_connect(client, ETIMEDOUT);
        }
    }
    return done > 0 ? HEAPD_OK
                    : fail(client, HEAPD_CLOSED, "cannot connect to %s: %s", client->address, heapd_tls_why(client->tls));
}

static enum heapd_status connect_tls(struct heapd_client *client, const char *host_port, int64_t deadline)
{
    enum heapd_status status = connect_tcp(client, host_port, deadline);
    if (status == HEAPD_OK) {
        status = begin_tls(client, host_port, deadline);
        if (status != HEAPD_OK) {
            heapd_tls_destroy(client->tls);
            close(client->fd);
            client->tls = NULL;
            client->fd = -1;
        }
    }
    return status;
}

enum heapd_status heapd_connect(struct heapd_client *client, const char *address)
{
    char fallback[4096];
    call_begins(client);
    if (client->fd >= 0) {
        return fail(client, HEAPD_USAGE, "already connected to %s", client->address);
    }
    if (address == NULL) {
        if (!heapd_default_address(fallback, sizeof fallback)) {
            return fail(client, HEAPD_USAGE, "the default address has more than %zu bytes",
                        sizeof fallback - 1);
        }
        address = fallback;
    }
    char *copy = strdup(address);
    if (copy == NULL) {
        return fail_no_memory(client);
    }
    free(client->address);
    client->address = copy;
    int64_t deadline = now_ms() + CONNECT_TIMEOUT_MS;
    int64_t call_ends = call_deadline(client);
    deadline = call_ends < deadline ? call_ends : deadline;
    if (strncmp(address, "unix:", 5) == 0) {
        return connect_unix(client, address + 5, deadline);
    }
    if (strncmp(address, "tcp:", 4) == 0) {
        return connect_tcp(client, address + 4, deadline);
    }
    if (strncmp(address, "tls:", 4) == 0) {
        return connect_tls(client, address + 4, deadline);
    }
    return fail(client, HEAPD_USAGE, "bad address %s: write unix:PATH, tcp:HOST:PORT or tls:HOST:PORT", address);
}

const char *heapd_address(const struct heapd_client *client)
{
    return client->address != NULL ? client->address : "";
}

void heapd_set_timeout_ms(struct heapd_client *client, int64_t timeout_ms)
{
    client->timeout_ms = timeout_ms > 0 ? timeout_ms : 0;
}

int heapd_fd(const struct heapd_client *client)
{
    return client->fd;
}

const struct heapd_error *heapd_last_error(const struct heapd_client *client)
{
    return client != NULL ? &client->error : &no_client_error;
}

/* ---- requests ---- */

/* Queues one line made of `head`, `text` with its line breaks as spaces, and `tail`. */
static enum heapd_status queue_line(struct heapd_client *client, const char *head, const char *text,
                                    const char *tail)
{
    size_t text_len = strlen(text);
    if (!buffer_reserve(&client->out, strlen(head) + text_len + strlen(tail) + 1)) {
        return fail_no_memory(client);
    }
    buffer_put(&client->out, head, strlen(head));
    buffer_put(&client->out, text, text_len);
    char *end = client->out.bytes + client->out.end;
    for (char *at = end - text_len; at < end; at++) {
        if (*at == '\n' || *at == '\r') {
            *at = ' '; /* in JSON a line break can only be white space between tokens */
        }
    }
    buffer_put(&client->out, tail, strlen(tail));
    buffer_put(&client->out, "\n", 1);
    return HEAPD_OK;
}

/* Queues a request with the given id; 0 makes a notification. */
static enum heapd_status queue_request(struct heapd_client *client, uint64_t id, const char *method,
                                       const char *params)
{
    json_t *j_method = json_string(method);
    char *quoted = j_method != NULL ? json_dumps(j_method, JSON_ENCODE_ANY) : NULL;
    json_decref(j_method);
    if (quoted == NULL) {
        return fail(client, HEAPD_USAGE, "the method's name is not UTF-8");
    }
    char id_text[48] = "";
    if (id != 0) {
        snprintf(id_text, sizeof id_text, "\"id\":%llu,", (unsigned long long)id);
    }
    char *head = NULL;
    int made = asprintf(&head, "{\"jsonrpc\":\"2.0\",%s\"method\":%s%s", id_text, quoted,
                        params != NULL ? ",\"params\":" : "");
    free(quoted);
    if (made < 0) {
        return fail_no_memory(client);
    }
    enum heapd_status status = queue_line(client, head, params != NULL ? params : "", "}");
    free(head);
    return status;
}

/* Sends when enough is queued for a system call to be worth it. */
static enum heapd_status flush_when_large(struct heapd_client *client, int64_t deadline)
{
    return client->out.end - client->out.start < FLUSH_BYTES ? HEAPD_OK : flush_out(client, deadline);
}

/* The text of `params`, new (free()); "" for NULL.  NULL after a failure, which is recorded. */
static char *params_text(struct heapd_client *client, json_t *params)
{
    if (params == NULL) {
        return strdup("");
    }
    if (!json_is_object(params) && !json_is_array(params)) {
        fail(client, HEAPD_USAGE, "params must be a JSON object or array");
        return NULL;
    }
    char *text = json_dumps(params, JSON_COMPACT);
    if (text == NULL) {
        fail(client, HEAPD_USAGE, "params are no JSON: they contain themselves, or text that is not UTF-8");
    }
    return text;
}

/* What all ways of sending end in: a request that a reply is due for. */
static enum heapd_status send_request(struct heapd_client *client, const char *method, const char *params,
                                      int64_t deadline)
{
    enum heapd_status status = check_usable(client);
    if (status == HEAPD_OK) {
        status = queue_request(client, client->last_id + 1, method, params);
    }
    if (status == HEAPD_OK) {
        client->last_id++;
        status = flush_when_large(client, deadline);
    }
    return status;
}

enum heapd_status heapd_send_text(struct heapd_client *client, const char *method, const char *params)
{
    call_begins(client);
    return send_request(client, method, params, call_deadline(client));
}

enum heapd_status heapd_send(struct heapd_client *client, const char *method, json_t *params)
{
    call_begins(client);
    char *text = params_text(client, params);
    if (text == NULL) {
        return fail_no_memory(client);
    }
    enum heapd_status status =
        send_request(client, method, *text != '\0' ? text : NULL, call_deadline(client));
    free(text);
    return status;
}

enum heapd_status heapd_notify(struct heapd_client *client, const char *method, json_t *params)
{
    call_begins(client);
    char *text = params_text(client, params);
    if (text == NULL) {
        return fail_no_memory(client);
    }
    enum heapd_status status = check_usable(client);
    if (status == HEAPD_OK) {
        status = queue_request(client, 0, method, *text != '\0' ? text : NULL);
    }
    free(text);
    return status != HEAPD_OK ? status : flush_when_large(client, call_deadline(client));
}

enum heapd_status heapd_flush(struct heapd_client *client)
{
    call_begins(client);
    enum heapd_status status = check_usable(client);
    if (status == HEAPD_OK) {
        status = flush_out(client, call_deadline(client));
    }
    if (status == HEAPD_OK && client->output_failed) {
        status = fail(client, HEAPD_CLOSED, "the daemon at %s closed the connection", client->address);
    }
    return status;
}

enum heapd_status heapd_send_line(struct heapd_client *client, const char *line, size_t len)
{
    call_begins(client);
    enum heapd_status status = check_usable(client);
    if (status != HEAPD_OK) {
        return status;
    }
    if (len > SIZE_MAX / 4 || !buffer_reserve(&client->out, len + 1)) {
        return fail_no_memory(client);
    }
    buffer_put(&client->out, line, len);
    buffer_put(&client->out, "\n", 1);
    return flush_when_large(client, call_deadline(client));
}

/* ---- replies ---- */

/* The index after the JSON value that begins at `at`, in text known to be JSON. */
static size_t skip_value(const char *text, size_t len, size_t at)
{
    size_t depth = 0;
    bool in_string = false;
    for (; at < len; at++) {
        char c = text[at];
        if (in_string) {
            if (c == '\\') {
                at++;
            } else if (c == '"') {
                in_string = false;
            }
        } else if (c == '"') {
            in_string = true;
        } else if (c == '{' || c == '[') {
            depth++;
        } else if (depth == 0 && (c == ',' || c == '}' || c == ']' || c == ':')) {
            break;
        } else if (c == '}' || c == ']') {
            depth--;
        }
    }
    return at;
}

/* Where the value of the member "result" lies in `line`, a JSON object as far as is known. */
static bool find_result(const char *line, size_t len, size_t *start, size_t *end)
{
    size_t at = strcspn(line, "{") + 1;
    while (at < len) {
        size_t colon = skip_value(line, len, at);
        size_t value_end = skip_value(line, len, colon + 1);
        const char *key = colon < len ? memchr(line + at, '"', colon - at) : NULL;
        if (key != NULL && strncmp(key, "\"result\"", 8) == 0) {
            *start = colon + 1 + strspn(line + colon + 1, " \t");
            *end = value_end;
            while (*end > *start && (line[*end - 1] == ' ' || line[*end - 1] == '\t')) {
                --*end;
            }
            return *end > *start;
        }
        at = value_end + 1;
    }
    return false;
}

/* Parses a line.  jansson cannot hold an object key with a NUL in it, which a dict may well have: then the
 * result is left out (null in its place), and `*is_partial` says so. */
static json_t *parse_line(const char *line, size_t len, bool *is_partial, json_error_t *error)
{
    size_t start, end;
    json_t *j_line = json_loadb(line, len, JSON_DECODE_ANY | JSON_ALLOW_NUL, error);
    *is_partial = false;
    if (j_line != NULL || json_error_code(error) != json_error_null_byte_in_key ||
        !find_result(line, len, &start, &end)) {
        return j_line;
    }
    char *partial = NULL;
    int partial_len = asprintf(&partial, "%.*snull%.*s", (int)start, line, (int)(len - end), line + end);
    if (partial_len < 0) {
        return NULL;
    }
    *is_partial = true;
    j_line = json_loadb(partial, (size_t)partial_len, JSON_ALLOW_NUL, error);
    free(partial);
    return j_line;
}

/* One reply as it was read. */
struct reply {
    json_t *j_envelope; /* owned */
    char *line;         /* its text, in the input buffer */
    size_t len;
    bool is_partial; /* null stands in j_envelope for the result */
};

static enum heapd_status fail_out_of_step(struct heapd_client *client, const char *line, const char *what)
{
    client->out_of_step = true;
    return fail(client, HEAPD_PROTOCOL, "%s is no heapd daemon: it sent %s: %.60s", client->address, what,
                line);
}

static void deliver_event(struct heapd_client *client, json_t *j_line)
{
    client->events++;
    if (client->event_callback != NULL) {
        client->event_callback(client->event_arg, json_object_get(j_line, "params"));
    }
}

/* Reads and parses lines until one that is no event. */
static enum heapd_status next_reply(struct heapd_client *client, struct reply *reply, int64_t deadline)
{
    for (;;) {
        enum heapd_status status = next_line(client, &reply->line, &reply->len, deadline);
        if (status != HEAPD_OK) {
            return status;
        }
        json_error_t error;
        json_t *j_line = parse_line(reply->line, reply->len, &reply->is_partial, &error);
        if (j_line == NULL && json_error_code(&error) == json_error_out_of_memory) {
            client->out_of_step = true;
            return fail_no_memory(client);
        }
        if (!json_is_object(j_line)) {
            json_decref(j_line);
            return fail_out_of_step(client, reply->line, "a line that is no JSON object");
        }
        if (json_object_get(j_line, "method") == NULL) {
            reply->j_envelope = j_line;
            return HEAPD_OK;
        }
        deliver_event(client, j_line);
        json_decref(j_line);
    }
}

/* Records the error that the daemon answered with. */
static enum heapd_status fail_answered(struct heapd_client *client, const json_t *j_error)
{
    json_t *j_data = json_object_get(j_error, "data");
    const char *word = json_string_value(json_object_get(j_data, "error"));
    const char *message = json_string_value(json_object_get(j_error, "message"));
    client->error_word = word != NULL ? strdup(word) : NULL;
    client->error_message = message != NULL ? strdup(message) : NULL;
    client->error.status = HEAPD_ERROR;
    client->error.code = (int)json_integer_value(json_object_get(j_error, "code"));
    client->error.word = client->error_word != NULL ? client->error_word : status_words[HEAPD_ERROR];
    client->error.message = client->error_message != NULL ? client->error_message : "no message";
    client->error.data = json_incref(j_data);
    return HEAPD_ERROR;
}

/* Takes the result: its text, and for a caller who wants it the value. */
static enum heapd_status take_result(struct heapd_client *client, json_t **result, const struct reply *reply)
{
    size_t start, end;
    json_t *j_result = json_object_get(reply->j_envelope, "result");
    if (j_result == NULL || !find_result(reply->line, reply->len, &start, &end)) {
        return fail_out_of_step(client, reply->line, "a reply without result and error");
    }
    reply->line[end] = '\0';
    client->result_text = reply->line + start;
    client->result_text_len = end - start;
    if (result != NULL && reply->is_partial) {
        return fail(client, HEAPD_PROTOCOL,
                    "the result has a dict key with a NUL, which jansson cannot hold; "
                    "heapd_result_text() has it");
    }
    if (result != NULL) {
        *result = json_incref(j_result);
    }
    return HEAPD_OK;
}

/* The next reply must be the one with `next_reply_id`: takes its result or its error. */
static enum heapd_status take_reply(struct heapd_client *client, json_t **result, const struct reply *reply)
{
    const json_t *j_id = json_object_get(reply->j_envelope, "id");
    const json_t *j_error = json_object_get(reply->j_envelope, "error");
    if (!json_is_null(j_id) && (uint64_t)json_integer_value(j_id) != client->next_reply_id) {
        return fail_out_of_step(client, reply->line, "a reply to another request");
    }
    client->next_reply_id++;
    return json_is_object(j_error) ? fail_answered(client, j_error) : take_result(client, result, reply);
}

/* A late reply to a call that timed out was read, if `status` says so. */
static void drop_reply(struct heapd_client *client, struct reply *reply, enum heapd_status status)
{
    if (status == HEAPD_OK) {
        client->abandoned--;
        client->next_reply_id++;
        json_decref(reply->j_envelope);
    }
}

/* The reply that is due next, after those of calls that timed out. */
static enum heapd_status receive(struct heapd_client *client, json_t **result, int64_t deadline)
{
    enum heapd_status status = flush_out(client, deadline);
    while (status == HEAPD_OK) {
        struct reply reply = {0};
        status = next_reply(client, &reply, deadline);
        if (status == HEAPD_OK && client->abandoned == 0) {
            status = take_reply(client, result, &reply);
            json_decref(reply.j_envelope);
            break;
        }
        drop_reply(client, &reply, status);
    }
    return status;
}

size_t heapd_due(const struct heapd_client *client)
{
    return (size_t)(client->last_id + 1 - client->next_reply_id - client->abandoned);
}

/* Refuses what would take replies that heapd_receive() is still to give. */
static enum heapd_status check_none_due(struct heapd_client *client)
{
    size_t due = heapd_due(client);
    if (due > 0) {
        return fail(client, HEAPD_USAGE, "%zu replies are due: heapd_receive() them first", due);
    }
    return HEAPD_OK;
}

enum heapd_status heapd_receive(struct heapd_client *client, json_t **result)
{
    call_begins(client);
    enum heapd_status status = check_usable(client);
    if (status == HEAPD_OK && heapd_due(client) == 0) {
        status = fail(client, HEAPD_USAGE, "no reply is due: heapd_send() something first");
    }
    return status != HEAPD_OK ? status : receive(client, result, call_deadline(client));
}

/* One request, one reply; the error state is clean. */
static enum heapd_status call(struct heapd_client *client, json_t **result, const char *method,
                              const char *params)
{
    int64_t deadline = call_deadline(client);
    enum heapd_status status = check_none_due(client);
    if (status != HEAPD_OK) {
        return status;
    }
    status = send_request(client, method, params, deadline);
    if (status == HEAPD_OK) {
        status = receive(client, result, deadline);
    }
    if (status != HEAPD_OK) {
        client->abandoned += heapd_due(client);
    }
    return status;
}

enum heapd_status heapd_call_text(struct heapd_client *client, json_t **result, const char *method,
                                  const char *params)
{
    call_begins(client);
    return call(client, result, method, params);
}

enum heapd_status heapd_call(struct heapd_client *client, json_t **result, const char *method, json_t *params)
{
    call_begins(client);
    char *text = params_text(client, params);
    if (text == NULL) {
        return fail_no_memory(client);
    }
    enum heapd_status status = call(client, result, method, *text != '\0' ? text : NULL);
    free(text);
    return status;
}

enum heapd_status heapd_callf(struct heapd_client *client, json_t **result, const char *method,
                              const char *format, ...)
{
    if (format == NULL || *format == '\0') {
        return heapd_call(client, result, method, NULL);
    }
    call_begins(client);
    json_error_t error;
    va_list arguments;
    va_start(arguments, format);
    json_t *j_params = json_vpack_ex(&error, 0, format, arguments);
    va_end(arguments);
    if (j_params == NULL) {
        return fail(client, HEAPD_USAGE, "params cannot be packed as %s: %s", format, error.text);
    }
    enum heapd_status status = heapd_call(client, result, method, j_params);
    json_decref(j_params);
    return status;
}

const char *heapd_result_text(const struct heapd_client *client, size_t *len)
{
    if (len != NULL) {
        *len = client->result_text_len;
    }
    return client->result_text;
}

/* ---- events and raw lines ---- */

void heapd_on_event(struct heapd_client *client, heapd_event_callback *callback, void *arg)
{
    client->event_callback = callback;
    client->event_arg = arg;
}

/* Sends what is queued and drops the late replies of calls that timed out, so that the next line is one
 * that nobody has asked for yet. */
static enum heapd_status drop_abandoned(struct heapd_client *client, int64_t deadline)
{
    enum heapd_status status = check_usable(client);
    if (status == HEAPD_OK) {
        status = check_none_due(client);
    }
    if (status == HEAPD_OK) {
        status = flush_out(client, deadline);
    }
    while (status == HEAPD_OK && client->abandoned > 0) {
        struct reply reply = {0};
        status = next_reply(client, &reply, deadline);
        drop_reply(client, &reply, status);
    }
    return status;
}

/* Takes the next line, which must be an event, and delivers it. */
static enum heapd_status next_event(struct heapd_client *client, int64_t deadline)
{
    char *line = NULL;
    size_t len = 0;
    enum heapd_status status = next_line(client, &line, &len, deadline);
    if (status != HEAPD_OK) {
        return status;
    }
    json_t *j_line = json_loadb(line, len, JSON_ALLOW_NUL, NULL);
    if (json_object_get(j_line, "method") != NULL) {
        deliver_event(client, j_line);
    } else {
        status = fail_out_of_step(client, line, "a reply that nothing asked for");
    }
    json_decref(j_line);
    return status;
}

enum heapd_status heapd_wait_event(struct heapd_client *client)
{
    call_begins(client);
    int64_t deadline = call_deadline(client);
    uint64_t events = client->events;
    enum heapd_status status = drop_abandoned(client, deadline);
    while (status == HEAPD_OK && client->events == events) {
        status = next_event(client, deadline);
    }
    return status;
}

/* Whether a whole line is in the input. */
static bool has_line(struct heapd_client *client)
{
    const struct buffer *in = &client->in;
    const char *fresh = in->bytes + client->scanned;
    size_t len = in->end - client->scanned;
    const char *newline = len > 0 ? memchr(fresh, '\n', len) : NULL;
    if (newline == NULL) {
        client->scanned = in->end;
    }
    return newline != NULL;
}

enum heapd_status heapd_take_events(struct heapd_client *client, size_t *count)
{
    call_begins(client);
    uint64_t before = client->events;
    enum heapd_status status = drop_abandoned(client, call_deadline(client));
    bool has_more = true;
    while (status == HEAPD_OK && (has_line(client) || has_more)) {
        if (has_line(client)) {
            status = next_event(client, NEVER);
            continue;
        }
        size_t end = client->in.end - client->in.start;
        status = client->input_ended ? HEAPD_OK : read_some(client);
        has_more = client->in.end - client->in.start > end;
    }
    if (status == HEAPD_OK && client->input_ended) {
        status = fail(client, HEAPD_CLOSED, "the daemon at %s closed the connection", client->address);
    }
    if (count != NULL) {
        *count = (size_t)(client->events - before);
    }
    return status;
}

enum heapd_status heapd_read_line(struct heapd_client *client, const char **line, size_t *len)
{
    call_begins(client);
    int64_t deadline = call_deadline(client);
    enum heapd_status status = drop_abandoned(client, deadline);
    char *text = NULL;
    size_t text_len = 0;
    if (status == HEAPD_OK) {
        status = next_line(client, &text, &text_len, deadline);
    }
    if (status == HEAPD_OK) {
        *line = text;
        if (len != NULL) {
            *len = text_len;
        }
    }
    return status;
}
