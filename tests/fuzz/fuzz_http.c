/* fuzz_http.c -- any bytes on a connection that speaks HTTP: heads, bodies, chunks, requests behind requests.
 *
 * The first byte of an input says in what pieces the others come.  What is answered is well formed; and the same is
 * answered, status by status, when all comes in one piece: where a request ends does not depend on how it is cut.
 *
 * Programs of server/ are not linked into fuzz targets, so the sources under test are included; what they want of
 * others is made here.
 */
#include "fuzz_service.h"

#include "../../server/buffer.c"
#include "../../server/http.c"
#include "../../server/http_answer.c"
#include "../../server/http_request.c"
#include "../../server/http_rules.c"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

void io_thread_want_run(struct io_thread *thread)
{
    (void)thread; /* run() runs all the time */
}

enum journal_state journal_state(const struct journal_thread *journal)
{
    (void)journal;
    return JOURNAL_RUNNING;
}

/* The limit of one connection is not known here. */
bool conn_has_much_unread(const struct conn *conn, size_t unsent, size_t unread)
{
    (void)unread;
    return unsent > rpc_service_output_high(conn->thread->server->service) / 2;
}

/* What was answered: the statuses, in order. */
struct answers {
    unsigned statuses[4096];
    unsigned count;
};

/* A server with one connection. */
struct world {
    struct fuzz_service f;
    struct server server;
    struct io_thread thread;
    struct conn conn;
};

static void open_world(struct world *world)
{
    fuzz_open(&world->f);
    memset(&world->server, 0, sizeof world->server);
    memset(&world->thread, 0, sizeof world->thread);
    memset(&world->conn, 0, sizeof world->conn);
    world->server.service = world->f.service;
    atomic_store(&world->server.max_request, 4096);
    world->thread.server = &world->server;
    FUZZ_ASSERT(uv_loop_init(&world->thread.loop) == 0);
    world->conn.thread = &world->thread;
    world->conn.rpc = world->f.conns[0];
    uv_pipe_init(&world->thread.loop, &world->conn.handle.pipe, 0);
}

static void close_world(struct world *world)
{
    http_destroy(world->conn.http);
    uv_close(&world->conn.handle.any, NULL);
    uv_run(&world->thread.loop, UV_RUN_DEFAULT);
    FUZZ_ASSERT(uv_loop_close(&world->thread.loop) == 0);
    FUZZ_ASSERT(atomic_load(&world->server.exports) == 0);
    /* It takes messages, which what ends the service does not make. */
    fuzz_reconnect(&world->f, 0);
    fuzz_close(&world->f);
}

/* Runs until nothing waits for the rpc; takes what is to be sent into `said`. */
static void run(struct world *world, struct buffer *said)
{
    struct http *http = world->conn.http;
    struct rpc_conn *rpc = world->conn.rpc;
    size_t len;
    do {
        while (rpc_thread_run(world->f.thread)) {
        }
        while (rpc_thread_next(world->f.thread) != NULL) {
        }
        if (rpc_thread_has_work(world->f.thread)) {
            rpc_thread_step(world->f.thread, 500);
        }
        rpc_conn_resume(rpc);
        http_turn(http);
        FUZZ_ASSERT(!http_must_close(http));
        const char *output = http_output(http, &len);
        buffer_bytes(said, output, len);
        http_sent(http, len);
    } while (len > 0 || rpc_conn_is_waiting(rpc) || rpc_conn_wants_run(rpc) || http_has_more(http));
}

/* Parts what was said into answers; all of it must be one after the other. */
static void read_answers(struct answers *answers, struct buffer *said)
{
    buffer_bytes(said, "", 1);
    const char *at = said->data, *end = said->data + said->len - 1;
    while (at < end) {
        unsigned status;
        const char *body = strstr(at, "\r\n\r\n"), *length = strstr(at, "\r\nContent-Length: ");
        FUZZ_ASSERT(sscanf(at, "HTTP/1.1 %3u ", &status) == 1 && body != NULL);
        at = body + 4;
        if (status == 100) {
            continue; /* whether it is sent depends on whether the body is there already */
        }
        FUZZ_ASSERT(answers->count < 4096);
        answers->statuses[answers->count++] = status;
        if (length == NULL || length > body) {
            FUZZ_ASSERT(status == 204 || status == 200);
            at = status == 204 ? at : end; /* a stream */
        } else if (strncmp(at, "HTTP/1.1 ", 9) != 0) { /* else it was asked for the head */
            size_t len = strtoul(length + 18, NULL, 10);
            FUZZ_ASSERT(len <= (size_t)(end - at) || at == end);
            at += at == end ? 0 : len;
        }
    }
}

/* The answers to input that comes in such pieces. */
static void serve(struct answers *answers, const char *bytes, size_t size, size_t piece)
{
    struct world *world = malloc(sizeof *world);
    struct buffer said = {0};
    FUZZ_ASSERT(world != NULL);
    open_world(world);
    world->conn.http = http_create(&world->conn, "", 0);
    FUZZ_ASSERT(world->conn.http != NULL);
    /* A wrong token is answered after half a second, which is too long here. */
    for (size_t i = 0; i < size && !rpc_conn_is_held(world->conn.rpc); i += piece) {
        char *copy = malloc(piece); /* so that reading beyond it is seen */
        size_t n = size - i < piece ? size - i : piece;
        FUZZ_ASSERT(copy != NULL);
        memcpy(copy, bytes + i, n);
        copy = realloc(copy, n);
        http_received(world->conn.http, copy, n);
        free(copy);
        run(world, &said);
    }
    http_received_end(world->conn.http);
    run(world, &said);
    FUZZ_ASSERT(http_is_over(world->conn.http) || rpc_conn_is_held(world->conn.rpc));
    answers->count = 0;
    read_answers(answers, &said);
    buffer_fini(&said);
    close_world(world);
    free(world);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct answers pieces, whole; /* large for a stack */
    if (size < 2) {
        return 0;
    }
    serve(&pieces, (const char *)data + 1, size - 1, data[0] % 64 + 1u);
    serve(&whole, (const char *)data + 1, size - 1, size);
    FUZZ_ASSERT(pieces.count == whole.count);
    FUZZ_ASSERT(memcmp(pieces.statuses, whole.statuses, pieces.count * sizeof pieces.statuses[0]) == 0);
    return 0;
}
