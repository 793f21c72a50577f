/* bench_load.c -- the load program: one thread, many TCP connections, the same code for every peer.
 *
 * Each connection sends a batch of requests in one write, waits for all their replies, and sends the next
 * batch.  The bytes of all batches are made before the clock starts:
 *
 *     --request 'A @' --request 'B @' --pipeline 3      batch 0: A 1000, B 1001, A 1002
 *                                                       batch 1: B 1003, A 1004, B 1005, then batch 0 again
 *
 * `@` stands for the request's id.  A reply is what ends at a newline, so RESP's one-line replies and
 * JSON lines are the same here, and it must begin with its --reply text, `@` standing for the same id: a
 * reply that is an error, or is not the one that was due, ends the run with exit code 1.  So do replies too
 * few or too many.
 *
 * With --rate the batches of all connections together are due at even distances, so many requests a second,
 * whether the peer keeps up or not; a batch that is due while the one before is in flight waits its turn.
 *
 * The latency of a reply runs from the moment its batch was written (with --rate: was due) to the moment its last
 * byte was read.  Rate and latencies are those of the window after the warm-up; after it everything sent is still
 * awaited, but with --rate nothing that was due is sent any more.
 * Prints one JSON object.  Start at load_run().
 */
#include "latency.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define TEMPLATES_MAX 8
#define CONNECTIONS_MAX 60000
#define PIPELINE_MAX 4096
#define FIRST_ID 1000
#define EVENTS 128
/* Replies of a whole batch usually fit; a longer single reply than this is an error. */
#define INPUT_BYTES 65536
/* Without a byte from any connection for so long the peer counts as stuck. */
#define STALL_MS 10000

struct options {
    const char *host;
    int port;
    unsigned connections;
    unsigned pipeline;        /* requests of a batch */
    double warmup_s, seconds; /* before the window, and the window itself */
    double rate;              /* requests a second; 0: as fast as replies come */
    const char *request[TEMPLATES_MAX];
    const char *reply[TEMPLATES_MAX]; /* reply[i] is what the answer to request[i] begins with */
    unsigned templates;
};

/* What a reply must begin with. */
struct expected {
    char *text;
    size_t len;
};

struct batch {
    char *bytes; /* `pipeline` requests, one after the other */
    size_t len;
    struct expected *replies; /* one a request */
};

struct connection {
    int fd;
    unsigned batch; /* the one in flight, or the next when none is */
    bool in_flight;
    size_t sent;      /* bytes of the batch in flight that are written */
    unsigned replies; /* of the batch in flight */
    uint64_t sent_ns; /* when the batch's first byte was written, or was due */
    uint64_t due_ns;  /* with a rate: when the next batch is */
    size_t input_len; /* bytes in input: the beginning of a reply */
    char *input;      /* INPUT_BYTES */
};

enum phase { WARMING_UP, MEASURING, FINISHING };

struct load {
    struct options options;
    struct batch *batches; /* options.templates of them: after those the sequence repeats */
    struct connection *connections;
    int epoll_fd;
    enum phase phase;
    uint64_t window_start_ns, window_end_ns; /* the end: planned while MEASURING, true in FINISHING */
    uint64_t window_cpu_ns;                  /* this process's CPU time: at the start, then in the window */
    uint64_t sent, received;                 /* requests and replies in all */
    uint64_t step_ns, interval_ns;           /* with a rate: between two batches, and two of one connection */
    uint64_t due_ns;                         /* with a rate: when the batch that is due next is */
    unsigned due;                            /* its connection */
    unsigned in_flight;                      /* connections that wait for replies */
    struct latency latency;                  /* of the replies inside the window */
};

/* ---- helpers ---- */

__attribute__((noreturn, format(printf, 1, 2))) static void die(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fputs("bench_load: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    exit(1);
}

static void *must_alloc(size_t count, size_t size)
{
    void *memory = calloc(count, size);
    if (memory == NULL) {
        die("no memory");
    }
    return memory;
}

static uint64_t now_ns(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

static uint64_t cpu_ns(void)
{
    struct timespec time;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

/* ---- the bytes, made beforehand ---- */

/* Writes the template with its @ replaced by the id; returns the length, which fits len(template) + 11. */
static size_t template_fill(char *out, const char *template, unsigned id)
{
    size_t len = 0;
    for (const char *at = template; *at != 0; at++) {
        if (*at == '@') {
            len += (size_t)sprintf(out + len, "%u", id);
        } else {
            out[len++] = *at;
        }
    }
    return len;
}

/* The room that a filled template needs, NUL included: each @ becomes at most ten digits. */
static size_t template_room(const char *template)
{
    size_t room = 1;
    for (const char *at = template; *at != 0; at++) {
        room += *at == '@' ? 10 : 1;
    }
    return room;
}

/* Fills batch number `number`; its first request is number * pipeline of the whole sequence. */
static void batch_make(struct batch *batch, const struct options *options, unsigned number)
{
    size_t room = 0;
    for (unsigned i = 0; i < options->templates; i++) {
        room += template_room(options->request[i]);
    }
    batch->bytes = must_alloc(options->pipeline, room);
    batch->replies = must_alloc(options->pipeline, sizeof *batch->replies);
    for (unsigned i = 0; i < options->pipeline; i++) {
        unsigned sequence = number * options->pipeline + i;
        unsigned which = sequence % options->templates;
        struct expected *reply = &batch->replies[i];
        batch->len += template_fill(batch->bytes + batch->len, options->request[which], FIRST_ID + sequence);
        reply->text = must_alloc(1, template_room(options->reply[which]));
        reply->len = template_fill(reply->text, options->reply[which], FIRST_ID + sequence);
    }
}

/* ---- the window ---- */

/* Moves to the phase that belongs to this moment. */
static void phase_advance(struct load *load, uint64_t now)
{
    if (load->phase == WARMING_UP && now >= load->window_start_ns) {
        load->phase = MEASURING;
        load->window_start_ns = now;
        load->window_end_ns = now + (uint64_t)(load->options.seconds * 1e9);
        load->window_cpu_ns = cpu_ns();
        latency_clear(&load->latency);
    } else if (load->phase == MEASURING && now >= load->window_end_ns) {
        load->phase = FINISHING;
        load->window_end_ns = now;
        load->window_cpu_ns = cpu_ns() - load->window_cpu_ns;
    }
}

/* ---- connections ---- */

static void connection_watch(struct load *load, struct connection *connection, uint32_t events, int how)
{
    struct epoll_event event = {.events = events, .data.ptr = connection};
    if (epoll_ctl(load->epoll_fd, how, connection->fd, &event) != 0) {
        die("epoll_ctl: %s", strerror(errno));
    }
}

static void connection_open(struct load *load, struct connection *connection)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)load->options.port)};
    int on = 1;
    if (inet_pton(AF_INET, load->options.host, &address.sin_addr) != 1) {
        die("%s is no IPv4 address", load->options.host);
    }
    connection->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connection->fd < 0 || connect(connection->fd, (struct sockaddr *)&address, sizeof address) != 0) {
        die("cannot connect to %s:%d: %s", load->options.host, load->options.port, strerror(errno));
    }
    setsockopt(connection->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    fcntl(connection->fd, F_SETFL, O_NONBLOCK);
    connection->input = must_alloc(1, INPUT_BYTES);
    connection_watch(load, connection, EPOLLIN, EPOLL_CTL_ADD);
}

/* Writes what is left of the batch in flight; waits for room where the socket is full. */
static void connection_write(struct load *load, struct connection *connection)
{
    const struct batch *batch = &load->batches[connection->batch];
    bool was_waiting = connection->sent > 0;
    while (connection->sent < batch->len) {
        ssize_t n = write(connection->fd, batch->bytes + connection->sent, batch->len - connection->sent);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0 && errno == EAGAIN) {
            connection_watch(load, connection, EPOLLIN | EPOLLOUT, EPOLL_CTL_MOD);
            return;
        }
        if (n <= 0) {
            die("write: %s", strerror(errno));
        }
        connection->sent += (size_t)n;
    }
    if (was_waiting) {
        connection_watch(load, connection, EPOLLIN, EPOLL_CTL_MOD);
    }
}

/* Sends the next batch. */
static void connection_send(struct load *load, struct connection *connection, uint64_t now)
{
    connection->in_flight = true;
    connection->sent = 0;
    connection->replies = 0;
    connection->sent_ns = now;
    load->in_flight++;
    load->sent += load->options.pipeline;
    connection_write(load, connection);
}

/* With a rate: sends the batch that is due, if there is one. */
static void connection_send_due(struct load *load, struct connection *connection, uint64_t now)
{
    if (connection->due_ns <= now) {
        uint64_t due = connection->due_ns;
        connection->due_ns += load->interval_ns;
        connection_send(load, connection, now);
        connection->sent_ns = due;
    }
}

/* The replies of a batch are complete. */
static void connection_finish(struct load *load, struct connection *connection)
{
    connection->in_flight = false;
    connection->batch = (connection->batch + 1) % load->options.templates;
    load->in_flight--;
}

/* Checks one reply, `len` bytes without the newline, against the one that is due. */
static void reply_check(const struct load *load, struct connection *connection, const char *reply, size_t len)
{
    if (!connection->in_flight || connection->replies == load->options.pipeline) {
        die("a reply that nobody asked for: %.*s", (int)len, reply);
    }
    const struct expected *due = &load->batches[connection->batch].replies[connection->replies];
    if (len < due->len || memcmp(reply, due->text, due->len) != 0) {
        die("expected a reply that begins %.*s, got %.*s", (int)due->len, due->text, (int)len, reply);
    }
    connection->replies++;
}

/* Checks every whole reply in the input, keeps the rest for later.  Returns how many there were. */
static unsigned connection_take_replies(struct load *load, struct connection *connection)
{
    const char *at = connection->input;
    const char *end = at + connection->input_len;
    const char *newline;
    unsigned taken = 0;
    while ((newline = memchr(at, '\n', (size_t)(end - at))) != NULL) {
        reply_check(load, connection, at, (size_t)(newline - at));
        taken++;
        at = newline + 1;
    }
    connection->input_len = (size_t)(end - at);
    memmove(connection->input, at, connection->input_len);
    return taken;
}

/* Reads once, counts the replies, and sends the next batch when the last of this one has come. */
static void connection_read(struct load *load, struct connection *connection)
{
    size_t room = INPUT_BYTES - connection->input_len;
    if (room == 0) {
        die("a reply of more than %d bytes", INPUT_BYTES);
    }
    ssize_t n = read(connection->fd, connection->input + connection->input_len, room);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        return;
    }
    if (n <= 0) {
        die("the peer closed the connection: %s", n < 0 ? strerror(errno) : "end of input");
    }
    connection->input_len += (size_t)n;
    uint64_t now = now_ns();
    phase_advance(load, now);
    unsigned taken = connection_take_replies(load, connection);
    load->received += taken;
    if (load->phase == MEASURING && taken > 0) {
        latency_add(&load->latency, now - connection->sent_ns, taken);
    }
    if (connection->in_flight && connection->replies == load->options.pipeline) {
        connection_finish(load, connection);
        if (load->phase != FINISHING && load->interval_ns != 0) {
            connection_send_due(load, connection, now);
        } else if (load->phase != FINISHING) {
            connection_send(load, connection, now);
        }
    }
}

/* ---- the run ---- */

static void load_prepare(struct load *load)
{
    const struct options *options = &load->options;
    load->batches = must_alloc(options->templates, sizeof *load->batches);
    for (unsigned i = 0; i < options->templates; i++) {
        batch_make(&load->batches[i], options, i);
    }
    load->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (load->epoll_fd < 0) {
        die("epoll_create1: %s", strerror(errno));
    }
    load->connections = must_alloc(options->connections, sizeof *load->connections);
    for (unsigned i = 0; i < options->connections; i++) {
        connection_open(load, &load->connections[i]);
    }
}

/* After the last reply no connection has anything more to say. */
static void load_check_end(const struct load *load)
{
    if (load->sent != load->received) {
        die("%" PRIu64 " requests, but %" PRIu64 " replies", load->sent, load->received);
    }
    for (unsigned i = 0; i < load->options.connections; i++) {
        char byte;
        const struct connection *connection = &load->connections[i];
        if (connection->input_len > 0 || recv(connection->fd, &byte, 1, MSG_DONTWAIT) != -1) {
            die("connection %u got more than its replies", i);
        }
    }
}

/* The first batches: all at once, or with a rate one after the other. */
static void load_start(struct load *load)
{
    uint64_t start = now_ns();
    const struct options *options = &load->options;
    load->phase = WARMING_UP;
    load->window_start_ns = start + (uint64_t)(options->warmup_s * 1e9);
    if (options->rate > 0) {
        load->step_ns = (uint64_t)(options->pipeline / options->rate * 1e9);
        load->interval_ns = load->step_ns * options->connections;
        load->due_ns = start;
    }
    for (unsigned i = 0; i < options->connections; i++) {
        if (load->interval_ns != 0) {
            load->connections[i].due_ns = start + load->step_ns * i;
        } else {
            connection_send(load, &load->connections[i], now_ns());
        }
    }
}

/* Sends what is due by now on connections that wait for nothing; returns for how long nothing is due. */
static uint64_t load_send_due(struct load *load)
{
    uint64_t now = now_ns();
    phase_advance(load, now);
    while (load->due_ns <= now && load->phase != FINISHING) {
        struct connection *connection = &load->connections[load->due];
        if (!connection->in_flight) {
            connection_send_due(load, connection, now);
        }
        load->due = (load->due + 1) % load->options.connections;
        load->due_ns += load->step_ns;
    }
    return load->due_ns > now ? load->due_ns - now : 0;
}

/* Waits for events, but with a rate not beyond what is due next. */
static int load_wait(struct load *load, struct epoll_event *events)
{
    if (load->interval_ns == 0 || load->phase == FINISHING) {
        int n = epoll_wait(load->epoll_fd, events, EVENTS, STALL_MS);
        if (n == 0) {
            die("no reply for %d ms; %u connections wait", STALL_MS, load->in_flight);
        }
        return n;
    }
    uint64_t idle = load_send_due(load);
    struct timespec timeout = {.tv_sec = (time_t)(idle / 1000000000u), .tv_nsec = (long)(idle % 1000000000u)};
    return epoll_pwait2(load->epoll_fd, events, EVENTS, &timeout, NULL);
}

/* Sends on every connection, serves events until the window is over and all replies are in. */
static void load_run(struct load *load)
{
    load_start(load);
    while (load->in_flight > 0 || load->phase != FINISHING) {
        struct epoll_event events[EVENTS];
        int n = load_wait(load, events);
        if (n < 0 && errno != EINTR) {
            die("epoll_wait: %s", strerror(errno));
        }
        for (int i = 0; i < n; i++) {
            struct connection *connection = events[i].data.ptr;
            if (events[i].events & EPOLLOUT) {
                connection_write(load, connection);
            }
            if (events[i].events & ~(uint32_t)EPOLLOUT) {
                connection_read(load, connection);
            }
        }
    }
    load_check_end(load);
}

static void load_print(const struct load *load)
{
    double seconds = (double)(load->window_end_ns - load->window_start_ns) / 1e9;
    const struct latency *latency = &load->latency;
    printf("{\"rate\": %.1f, \"requests\": %" PRIu64 ", \"seconds\": %.6f", (double)latency->total / seconds,
           latency->total, seconds);
    printf(", \"p50_us\": %.1f, \"p99_us\": %.1f, \"p999_us\": %.1f, \"max_us\": %.1f",
           (double)latency_quantile(latency, 0.5) / 1e3, (double)latency_quantile(latency, 0.99) / 1e3,
           (double)latency_quantile(latency, 0.999) / 1e3, (double)latency->max_ns / 1e3);
    double busy = (double)load->window_cpu_ns / 1e9 / seconds;
    printf(", \"busy\": %.3f, \"requests_in_all\": %" PRIu64 "}\n", busy, load->received);
}

static void load_free(struct load *load)
{
    for (unsigned i = 0; i < load->options.connections; i++) {
        close(load->connections[i].fd);
        free(load->connections[i].input);
    }
    for (unsigned i = 0; i < load->options.templates; i++) {
        for (unsigned j = 0; j < load->options.pipeline; j++) {
            free(load->batches[i].replies[j].text);
        }
        free(load->batches[i].replies);
        free(load->batches[i].bytes);
    }
    free(load->batches);
    free(load->connections);
    close(load->epoll_fd);
}

/* ---- options ---- */

static const char usage[] =
    "usage: bench_load --host IPV4 --port N [--connections 50] [--pipeline 1] [--warmup S] [--seconds S]\n"
    "                  [--rate PER_SECOND] (--request TEXT --reply TEXT)...\n";

__attribute__((noreturn)) static void usage_error(const char *what)
{
    fprintf(stderr, "bench_load: %s\n%s", what, usage);
    exit(2);
}

static unsigned parse_count(const char *text, unsigned max)
{
    char *end;
    unsigned long value = strtoul(text, &end, 10);
    if (*end != 0 || value == 0 || value > max) {
        usage_error("a number is missing or out of range");
    }
    return (unsigned)value;
}

static void parse_options(struct options *options, int argc, char **argv)
{
    static const struct option names[] = {
        {"host", required_argument, NULL, 'h'},
        {"port", required_argument, NULL, 'p'},
        {"connections", required_argument, NULL, 'c'},
        {"pipeline", required_argument, NULL, 'd'},
        {"warmup", required_argument, NULL, 'w'},
        {"seconds", required_argument, NULL, 's'},
        {"rate", required_argument, NULL, 'R'},
        {"request", required_argument, NULL, 'q'},
        {"reply", required_argument, NULL, 'r'},
        {NULL, 0, NULL, 0},
    };
    unsigned requests = 0, replies = 0;
    int option;
    *options =
        (struct options){.host = "127.0.0.1", .connections = 50, .pipeline = 1, .warmup_s = 0.2, .seconds = 1};
    while ((option = getopt_long(argc, argv, "", names, NULL)) != -1) {
        switch (option) {
        case 'h':
            options->host = optarg;
            break;
        case 'p':
            options->port = (int)parse_count(optarg, 65535);
            break;
        case 'c':
            options->connections = parse_count(optarg, CONNECTIONS_MAX);
            break;
        case 'd':
            options->pipeline = parse_count(optarg, PIPELINE_MAX);
            break;
        case 'w':
            options->warmup_s = strtod(optarg, NULL);
            break;
        case 's':
            options->seconds = strtod(optarg, NULL);
            break;
        case 'R':
            options->rate = strtod(optarg, NULL);
            break;
        case 'q':
            if (requests == TEMPLATES_MAX) {
                usage_error("too many requests");
            }
            options->request[requests++] = optarg;
            break;
        case 'r':
            if (replies == TEMPLATES_MAX) {
                usage_error("too many replies");
            }
            options->reply[replies++] = optarg;
            break;
        default:
            usage_error("an option is not known");
        }
    }
    if (optind != argc || options->port == 0 || requests == 0 || requests != replies) {
        usage_error("--port, and a --reply for each --request, are needed");
    }
    options->templates = requests;
}

int main(int argc, char **argv)
{
    struct load load = {0};
    parse_options(&load.options, argc, argv);
    prctl(PR_SET_TIMERSLACK, 1ul); /* a batch goes out when it is due, not 50 us later */
    load_prepare(&load);
    load_run(&load);
    load_print(&load);
    load_free(&load);
    return 0;
}
