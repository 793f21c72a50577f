/* bench_echo.c -- a bare libuv server that sends back what it reads: the measure for the load program.
 *
 * One loop, no parsing.  What the load program reaches here is what it can do at all; a server that is slower
 * than this one is limited by itself.  Prints `echo ready pid=N listen=tcp:127.0.0.1:PORT libuv=VERSION`
 * and runs until SIGTERM or SIGINT.
 */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>

#define READ_BYTES 65536

/* Hangs from the loop's data. */
struct echo {
    uv_loop_t loop;
    uv_tcp_t listener;
    uv_signal_t sigterm, sigint;
    char input[READ_BYTES]; /* of the read that is being answered: one at a time in a loop */
};

/* Bytes that did not fit into the socket at once. */
struct late_write {
    uv_write_t request;
    char bytes[];
};

static void check(int status, const char *what)
{
    if (status < 0) {
        fprintf(stderr, "bench_echo: %s: %s\n", what, uv_strerror(status));
        exit(1);
    }
}

static void on_freed(uv_handle_t *handle)
{
    free(handle);
}

static void on_written(uv_write_t *request, int status)
{
    (void)status;
    free(request);
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
    struct echo *echo = handle->loop->data;
    (void)suggested;
    *buf = uv_buf_init(echo->input, sizeof echo->input);
}

/* Queues a copy of what the socket did not take. */
static void write_late(uv_stream_t *stream, const char *bytes, size_t len)
{
    struct late_write *late = malloc(sizeof *late + len);
    if (late == NULL) {
        check(UV_ENOMEM, "write");
    }
    memcpy(late->bytes, bytes, len);
    uv_buf_t buf = uv_buf_init(late->bytes, (unsigned)len);
    if (uv_write(&late->request, stream, &buf, 1, on_written) < 0) {
        free(late);
    }
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *input)
{
    if (n < 0) {
        uv_close((uv_handle_t *)stream, on_freed);
        return;
    }
    if (n == 0) {
        return;
    }
    uv_buf_t buf = uv_buf_init(input->base, (unsigned)n);
    int written = uv_try_write(stream, &buf, 1);
    size_t done = written > 0 ? (size_t)written : 0;
    if (done < (size_t)n) {
        write_late(stream, input->base + done, (size_t)n - done);
    }
}

static void on_connection(uv_stream_t *listener, int status)
{
    check(status, "listen");
    uv_tcp_t *client = malloc(sizeof *client);
    if (client == NULL) {
        check(UV_ENOMEM, "accept");
    }
    check(uv_tcp_init(listener->loop, client), "accept");
    check(uv_accept(listener, (uv_stream_t *)client), "accept");
    uv_tcp_nodelay(client, 1);
    uv_read_start((uv_stream_t *)client, on_alloc, on_read);
}

static void close_handle(uv_handle_t *handle, void *arg)
{
    struct echo *echo = arg;
    int ours = handle == (uv_handle_t *)&echo->listener || handle->type == UV_SIGNAL;
    if (!uv_is_closing(handle)) {
        uv_close(handle, ours ? NULL : on_freed);
    }
}

static void on_signal(uv_signal_t *handle, int number)
{
    (void)number;
    uv_walk(handle->loop, close_handle, handle->loop->data);
}

static void announce(struct echo *echo)
{
    struct sockaddr_in address;
    int len = sizeof address;
    check(uv_tcp_getsockname(&echo->listener, (struct sockaddr *)&address, &len), "getsockname");
    printf("echo ready pid=%d listen=tcp:127.0.0.1:%d libuv=%s\n", (int)getpid(), ntohs(address.sin_port),
           uv_version_string());
    fflush(stdout);
}

int main(void)
{
    struct echo echo;
    struct sockaddr_in address;
    check(uv_loop_init(&echo.loop), "loop");
    echo.loop.data = &echo;
    check(uv_ip4_addr("127.0.0.1", 0, &address), "address");
    check(uv_tcp_init(&echo.loop, &echo.listener), "socket");
    check(uv_tcp_bind(&echo.listener, (struct sockaddr *)&address, 0), "bind");
    check(uv_listen((uv_stream_t *)&echo.listener, 511, on_connection), "listen");
    check(uv_signal_init(&echo.loop, &echo.sigterm), "signal");
    check(uv_signal_start(&echo.sigterm, on_signal, SIGTERM), "signal");
    check(uv_signal_init(&echo.loop, &echo.sigint), "signal");
    check(uv_signal_start(&echo.sigint, on_signal, SIGINT), "signal");
    announce(&echo);
    uv_run(&echo.loop, UV_RUN_DEFAULT);
    check(uv_loop_close(&echo.loop), "loop");
    return 0;
}
