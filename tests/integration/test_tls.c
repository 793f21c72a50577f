/* test_tls.c -- TLS on a real daemon: what is spoken and what is refused, large replies, half-closed and cut
 * connections, certificates that change, and heapctl on it.
 *
 * The certificates are made by the openssl tool for each run.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../support/fixture.h"
#include "../support/process.h"

static char folder[32], cert_path[64], key_path[64], new_cert_path[64], new_key_path[64];

/* ---- certificates ---- */

/* A self-signed certificate for localhost, with its key. */
static void make_certificate(const char *cert, const char *key, const char *serial)
{
    struct process_result result;
    const char *const argv[] = {"openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
                                "-nodes", "-days", "2", "-subj", "/CN=localhost", "-set_serial", serial, "-addext",
                                "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", key, "-out", cert, NULL};
    process_run(&result, argv, NULL);
    if (result.exit_code != 0) {
        fail_msg("openssl: %s", result.err);
    }
    process_result_free(&result);
    assert_int_equal(chmod(key, 0600), 0);
}

static int setup_all(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/heapd-tls-XXXXXX");
    assert_non_null(mkdtemp(folder));
    snprintf(cert_path, sizeof cert_path, "%s/cert.pem", folder);
    snprintf(key_path, sizeof key_path, "%s/key.pem", folder);
    snprintf(new_cert_path, sizeof new_cert_path, "%s/new-cert.pem", folder);
    snprintf(new_key_path, sizeof new_key_path, "%s/new-key.pem", folder);
    make_certificate(cert_path, key_path, "1");
    make_certificate(new_cert_path, new_key_path, "2");
    signal(SIGPIPE, SIG_IGN);
    return 0;
}

static int teardown_all(void **state)
{
    (void)state;
    unlink(cert_path);
    unlink(key_path);
    unlink(new_cert_path);
    unlink(new_key_path);
    rmdir(folder);
    return 0;
}

/* ---- a daemon and clients ---- */

struct tls_daemon {
    struct daemon *daemon;
    int port;
};

/* A daemon on its usual addresses and on one with TLS. */
static struct tls_daemon start_with(const char *option, const char *value)
{
    struct tls_daemon tls;
    if (daemon_is_elsewhere()) {
        process_skip("the daemon runs elsewhere");
    }
    tls.daemon = daemon_start((const char *[]){"--listen", "tls:127.0.0.1:0", "--tls-cert", cert_path, "--tls-key",
                                               key_path, "--log-level", "debug", option, value, NULL});
    const char *address = strstr(tls.daemon->ready, "tls:127.0.0.1:");
    assert_non_null(address);
    tls.port = atoi(address + strlen("tls:127.0.0.1:"));
    assert_true(tls.port > 0);
    return tls;
}

static struct tls_daemon start(void)
{
    return start_with(NULL, NULL);
}

/* Nothing is left, and the end is clean. */
static void stop(struct tls_daemon tls)
{
    struct wire *wire = wire_open_unix(tls.daemon);
    fixture_demand_empty(wire);
    wire_close(wire);
    daemon_stop(tls.daemon);
}

/* A client of our own on OpenSSL. */
struct peer {
    int fd;
    SSL *ssl;
    char input[1 << 20]; /* what came and was not yet taken as a line */
    size_t len;
};

static int connect_to(int port)
{
    struct sockaddr_in name = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    struct timeval patience = {.tv_sec = PROCESS_PATIENCE_MS / 1000};
    name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&name, sizeof name), 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    return fd;
}

/* NULL: the handshake failed.  Versions of 0: any. */
static struct peer *try_open(int port, int least, int most)
{
    struct peer *peer = calloc(1, sizeof *peer);
    SSL_CTX *context = SSL_CTX_new(TLS_client_method());
    assert_non_null(peer);
    assert_non_null(context);
    SSL_CTX_set_security_level(context, 0);
    assert_int_equal(SSL_CTX_set_min_proto_version(context, least), 1);
    assert_int_equal(SSL_CTX_set_max_proto_version(context, most), 1);
    assert_int_equal(SSL_CTX_set_cipher_list(context, "ALL:@SECLEVEL=0"), 1);
    peer->fd = connect_to(port);
    peer->ssl = SSL_new(context);
    SSL_CTX_free(context);
    assert_non_null(peer->ssl);
    SSL_set_fd(peer->ssl, peer->fd);
    if (SSL_connect(peer->ssl) == 1) {
        return peer;
    }
    SSL_free(peer->ssl);
    close(peer->fd);
    free(peer);
    return NULL;
}

static struct peer *open_peer(int port)
{
    struct peer *peer = try_open(port, 0, 0);
    assert_non_null(peer);
    return peer;
}

/* Ends it without a word. */
static void drop(struct peer *peer)
{
    SSL_free(peer->ssl);
    close(peer->fd);
    free(peer);
}

static void say(struct peer *peer, const char *text)
{
    size_t written;
    assert_int_equal(SSL_write_ex(peer->ssl, text, strlen(text), &written), 1);
    assert_int_equal(written, strlen(text));
}

/* The next line comes, of that length at least; its newline becomes a NUL, and it stays until the next call. */
static char *hear(struct peer *peer)
{
    static char line[sizeof peer->input];
    for (;;) {
        char *newline = memchr(peer->input, '\n', peer->len);
        if (newline != NULL) {
            size_t len = (size_t)(newline - peer->input);
            memcpy(line, peer->input, len);
            line[len] = '\0';
            peer->len -= len + 1;
            memmove(peer->input, newline + 1, peer->len);
            return line;
        }
        assert_true(peer->len < sizeof peer->input);
        int n = SSL_read(peer->ssl, peer->input + peer->len, (int)(sizeof peer->input - peer->len));
        if (n <= 0) {
            fail_msg("the connection ended: %d", SSL_get_error(peer->ssl, n));
        }
        peer->len += (size_t)n;
    }
}

/* What the end is: SSL_ERROR_ZERO_RETURN when the daemon said that it is done. */
static int hear_end(struct peer *peer)
{
    char byte;
    int n = SSL_read(peer->ssl, &byte, 1);
    assert_true(n <= 0);
    return SSL_get_error(peer->ssl, n);
}

static long serial_of(const struct peer *peer)
{
    X509 *cert = SSL_get1_peer_certificate(peer->ssl);
    assert_non_null(cert);
    long serial = ASN1_INTEGER_get(X509_get0_serialNumber(cert));
    X509_free(cert);
    return serial;
}

static const char PING[] = "{\"id\":1,\"method\":\"ping\"}\n", PONG[] = "{\"id\":1,\"result\":\"pong\"}";

/* ---- what is spoken ---- */

static void test_tls_speaks_1_2_and_1_3(void **state)
{
    (void)state;
    struct tls_daemon tls = start();
    static const int versions[] = {TLS1_2_VERSION, TLS1_3_VERSION};
    for (size_t i = 0; i < 2; i++) {
        struct peer *peer = try_open(tls.port, versions[i], versions[i]);
        assert_non_null(peer);
        say(peer, PING);
        assert_string_equal(hear(peer), PONG);
        say(peer, "{\"id\":2,\"method\":\"server.clients\"}\n");
        assert_non_null(strstr(hear(peer), "\"transport\":\"tls\""));
        drop(peer);
    }
    stop(tls);
}

static void test_tls_refuses_older_versions(void **state)
{
    (void)state;
    struct tls_daemon tls = start();
    static const int versions[] = {TLS1_VERSION, TLS1_1_VERSION};
    for (size_t i = 0; i < 2; i++) {
        assert_null(try_open(tls.port, versions[i], versions[i]));
    }
    stop(tls);
}

/* What is no TLS gets an alert at most, and is closed; TLS on a plain port is closed. */
static void test_tls_and_plain_do_not_mix(void **state)
{
    (void)state;
    struct tls_daemon tls = start();
    static const char *const texts[] = {PING, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", "\x16\x03\x01\xff\xff garbage"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        int fd = connect_to(tls.port);
        char bytes[4096];
        ssize_t n, len = 0;
        assert_int_equal(send(fd, texts[i], strlen(texts[i]), 0), strlen(texts[i]));
        shutdown(fd, SHUT_WR);
        while ((n = recv(fd, bytes + len, sizeof bytes - (size_t)len, 0)) > 0) {
            len += n;
        }
        assert_true(n == 0 || errno == ECONNRESET);
        assert_null(memmem(bytes, (size_t)len, "pong", 4));
        assert_null(memmem(bytes, (size_t)len, "HTTP", 4));
        close(fd);
    }
    assert_null(try_open(tls.daemon->port, 0, 0));
    stop(tls);
}

static void test_tls_has_no_renegotiation(void **state)
{
    (void)state;
    struct tls_daemon tls = start();
    struct peer *peer = try_open(tls.port, TLS1_2_VERSION, TLS1_2_VERSION);
    assert_non_null(peer);
    assert_int_equal(SSL_renegotiate(peer->ssl), 1);
    assert_true(SSL_do_handshake(peer->ssl) <= 0);
    drop(peer);
    stop(tls);
}

static void test_tls_carries_http(void **state)
{
    (void)state;
    struct tls_daemon tls = start();
    struct peer *peer = open_peer(tls.port);
    char request[256];
    snprintf(request, sizeof request, "GET /healthz HTTP/1.1\r\nHost: localhost:%d\r\nConnection: close\r\n\r\n", tls.port);
    say(peer, request);
    assert_string_equal(hear(peer), "HTTP/1.1 200 OK\r");
    drop(peer);
    stop(tls);
}

/* ---- much, little, byte by byte ---- */

/* Replies of megabytes, several at once, while the client reads them late. */
static void test_tls_carries_large_lines(void **state)
{
    (void)state;
    struct tls_daemon tls = start();
    struct peer *peer = open_peer(tls.port);
    enum { COUNT = 60000, REPLIES = 20 };
    char *line = malloc(COUNT * 8 + 200);
    size_t len = (size_t)sprintf(line, "{\"id\":1,\"method\":\"create\",\"params\":{\"name\":\"big\",\"value\":[0");
    for (int i = 1; i < COUNT; i++) {
        len += (size_t)sprintf(line + len, ",%d", 100000 + i);
    }
    strcpy(line + len, "]}}\n");
    say(peer, line);
    assert_non_null(strstr(hear(peer), "\"type\":\"list\""));
    for (int i = 0; i < REPLIES; i++) {
        say(peer, "{\"id\":1,\"method\":\"get\",\"params\":[\"big\"]}\n");
    }
    usleep(200000); /* the daemon's socket is full by now */
    for (int i = 0; i < REPLIES; i++) {
        char *reply = hear(peer);
        assert_int_equal(strlen(reply), strlen("{\"id\":1,\"result\":[0]}") + 7 * (COUNT - 1));
        assert_non_null(strstr(reply, ",159999]}"));
    }
    say(peer, "{\"id\":1,\"method\":\"name.unbind\",\"params\":[\"big\"]}\n");
    hear(peer);
    free(line);
    drop(peer);
    stop(tls);
}

/* Each byte in a record of its own, and records that come apart. */
static void test_tls_takes_single_bytes(void **state)
{
    (void)state;
    struct tls_daemon tls = start();
    struct peer *peer = open_peer(tls.port);
    for (const char *p = PING; *p != '\0'; p++) {
        say(peer, (char[]){*p, '\0'});
    }
    assert_string_equal(hear(peer), PONG);
    drop(peer);
    stop(tls);
}

/* ---- ends ---- */

/* A client that says it is done is answered all it asked, a last line without newline too, and told the same. */
static void test_tls_half_close_is_answered(void **state)
{
    (void)state;
    struct tls_daemon tls = start();
    struct peer *peer = open_peer(tls.port);
    say(peer, "{\"id\":1,\"method\":\"ping\"}\n{\"id\":2,\"method\":\"create\",\"params\":[[1]]}\n{\"id\":3,\"method\":\"ping\"}");
    SSL_shutdown(peer->ssl);
    assert_string_equal(hear(peer), PONG);
    assert_non_null(strstr(hear(peer), "\"type\":\"list\""));
    assert_string_equal(hear(peer), "{\"id\":3,\"result\":\"pong\"}");
    assert_int_equal(hear_end(peer), SSL_ERROR_ZERO_RETURN);
    drop(peer);
    stop(tls);
}

/* Who cuts a connection cannot make a line of the part of one that has come. */
static void test_tls_cut_line_is_none(void **state)
{
    (void)state;
    struct tls_daemon tls = start();
    struct peer *peer = open_peer(tls.port);
    say(peer, "{\"id\":1,\"method\":\"ping\"}\n{\"id\":2,\"method\":\"create\",\"params\":{\"value\":[1],\"name\":\"cut\"}}");
    assert_string_equal(hear(peer), PONG);
    shutdown(peer->fd, SHUT_WR);
    assert_int_equal(hear_end(peer), SSL_ERROR_ZERO_RETURN);
    drop(peer);
    struct wire *wire = wire_open_unix(tls.daemon);
    wire_expect(wire, "{'id':1,'method':'name.list'}", "{'id':1,'result':{'names':[],'next':null}}");
    wire_close(wire);
    stop(tls);
}

/* A daemon that stops answers what it has received, and says that it is done. */
static void test_tls_ends_in_order_when_the_daemon_stops(void **state)
{
    (void)state;
    struct tls_daemon tls = start();
    struct peer *peer = open_peer(tls.port);
    int half_open = connect_to(tls.port); /* its handshake never comes */
    say(peer, "{\"id\":1,\"method\":\"server.shutdown\"}\n");
    assert_string_equal(hear(peer), "{\"id\":1,\"result\":null}");
    assert_int_equal(hear_end(peer), SSL_ERROR_ZERO_RETURN);
    drop(peer);
    daemon_wait(tls.daemon);
    close(half_open);
}

static void test_tls_handshake_has_its_time(void **state)
{
    (void)state;
    struct tls_daemon tls = start_with("--first-byte-timeout", "12"); /* so that it looks often */
    int fd = connect_to(tls.port);
    static const char hello[] = {0x16, 3, 1, 2, 0, 1, 0, 1, (char)0xfc, 3, 3};
    char byte;
    /* A hello of 512 bytes, one at a time, whose end does not come. */
    ssize_t got = -1;
    for (size_t i = 0; i < 500 && got < 0; i++) {
        send(fd, i < sizeof hello ? &hello[i] : "x", 1, MSG_NOSIGNAL);
        usleep(50000);
        got = recv(fd, &byte, 1, MSG_DONTWAIT);
        got = got < 0 && errno != EAGAIN ? 0 : got;
    }
    assert_int_equal(got, 0);
    close(fd);
    struct peer *peer = open_peer(tls.port);
    say(peer, "{\"id\":1,\"method\":\"stats\",\"params\":[\"limits\"]}\n");
    assert_non_null(strstr(hear(peer), "\"tls-handshake\":1"));
    drop(peer);
    stop(tls);
}

/* ---- tokens and certificates ---- */

/* A daemon with a file of tokens, which is gone when it has stopped. */
static struct tls_daemon start_with_tokens(char path[64])
{
    snprintf(path, 64, "%s/tokens", folder);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fchmod(fileno(file), 0600);
    fputs("read reader-1\nwrite writer-1\n", file);
    fclose(file);
    return start_with("--auth-token-file", path);
}

/* Sends a line; the answer is an error of that word. */
static void is_refused(struct peer *peer, const char *line, const char *word)
{
    char wanted[64];
    snprintf(wanted, sizeof wanted, "\"data\":{\"error\":\"%s\"", word);
    say(peer, line);
    const char *answer = hear(peer);
    if (strstr(answer, wanted) == NULL) {
        fail_msg("%s is answered by %s", line, answer);
    }
}

static void show_token(struct peer *peer, const char *token, const char *role)
{
    char text[128];
    snprintf(text, sizeof text, "{\"id\":1,\"method\":\"auth\",\"params\":[\"%s\"]}\n", token);
    say(peer, text);
    snprintf(text, sizeof text, "{\"id\":1,\"result\":{\"role\":\"%s\"}}", role);
    assert_string_equal(hear(peer), text);
}

static void test_tls_wants_tokens_too(void **state)
{
    (void)state;
    char path[64];
    struct tls_daemon tls = start_with_tokens(path);
    struct peer *peer = open_peer(tls.port);
    is_refused(peer, "{\"id\":1,\"method\":\"name.list\"}\n", "unauthenticated");
    show_token(peer, "writer-1", "write");
    drop(peer);
    stop(tls);
    unlink(path);
}

#define CREATE "{\"id\":1,\"method\":\"create\",\"params\":[[1],\"a\"]}"

/* A wrong token, a write with a token for reading, and a session that is over give nothing, as over plain TCP. */
static void test_tls_gives_nothing_to_the_wrong(void **state)
{
    (void)state;
    char path[64], token[33], line[160];
    struct tls_daemon tls = start_with_tokens(path);
    struct peer *writer = open_peer(tls.port), *reader = open_peer(tls.port), *guesser = open_peer(tls.port);
    is_refused(guesser, CREATE "\n", "unauthenticated");
    for (int i = 0; i < 3; i++) {
        is_refused(guesser, "{\"id\":1,\"method\":\"auth\",\"params\":[\"writer-\"]}\n", "unauthenticated");
    }
    assert_int_equal(hear_end(guesser), SSL_ERROR_ZERO_RETURN);
    show_token(reader, "reader-1", "read");
    is_refused(reader, CREATE "\n", "forbidden");
    is_refused(reader, "{\"id\":1,\"method\":\"collect\"}\n", "forbidden");
    show_token(writer, "writer-1", "write");
    say(writer, "{\"id\":1,\"method\":\"session.open\",\"params\":[60000]}\n");
    const char *told = strstr(hear(writer), "\"session\":\"");
    assert_non_null(told);
    snprintf(token, sizeof token, "%s", told + strlen("\"session\":\""));
    /* A session does not lend its maker's role. */
    snprintf(line, sizeof line, "{\"id\":1,\"method\":\"session.resume\",\"params\":[\"%s\"]}\n", token);
    say(reader, line);
    hear(reader);
    is_refused(reader, CREATE "\n", "forbidden");
    say(writer, "{\"id\":1,\"method\":\"session.close\"}\n");
    hear(writer);
    is_refused(writer, line, "not_found");
    drop(guesser);
    drop(reader);
    drop(writer);
    stop(tls); /* which demands that nothing was made */
    unlink(path);
}

/* Sends a POST with these further header lines over a connection of its own; the status of the answer, and its body. */
static int post(int port, const char *headers, const char *json, char body[1024])
{
    char text[1024], *line;
    int status = 0;
    struct peer *peer = open_peer(port);
    snprintf(text, sizeof text, "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n%s"
             "Content-Length: %zu\r\n\r\n%s", headers, strlen(json), json);
    say(peer, text);
    assert_int_equal(sscanf(hear(peer), "HTTP/1.1 %d ", &status), 1);
    do {
        line = hear(peer);
    } while (*line != '\r');
    snprintf(body, 1024, "%s", hear(peer));
    drop(peer);
    return status;
}

static void test_tls_http_gives_nothing_to_the_wrong(void **state)
{
    (void)state;
    char path[64], body[1024];
    struct tls_daemon tls = start_with_tokens(path);
    assert_int_equal(post(tls.port, "", CREATE, body), 401);
    assert_int_equal(post(tls.port, "Authorization: Bearer writer-\r\n", CREATE, body), 401);
    assert_int_equal(post(tls.port, "Authorization: Bearer reader-1\r\n", CREATE, body), 200);
    assert_non_null(strstr(body, "\"forbidden\""));
    assert_int_equal(post(tls.port, "Authorization: Bearer writer-1\r\nHeapd-Session: 0123456789abcdef0123456789abcdef\r\n",
                          CREATE, body), 404);
    assert_non_null(strstr(body, "\"not_found\""));
    stop(tls);
    unlink(path);
}

/* Connections that are there go on with the certificate they know, new ones get the new one. */
static void test_tls_takes_a_new_certificate(void **state)
{
    (void)state;
    struct tls_daemon tls = start();
    char kept_cert[64], kept_key[64];
    snprintf(kept_cert, sizeof kept_cert, "%s/kept-cert.pem", folder);
    snprintf(kept_key, sizeof kept_key, "%s/kept-key.pem", folder);
    struct peer *old = open_peer(tls.port), *fresh = NULL;
    assert_int_equal(serial_of(old), 1);
    assert_int_equal(rename(cert_path, kept_cert), 0);
    assert_int_equal(rename(key_path, kept_key), 0);
    assert_int_equal(link(new_cert_path, cert_path), 0);
    assert_int_equal(link(new_key_path, key_path), 0);
    kill(tls.daemon->pid, SIGHUP);
    for (int64_t deadline = process_now_ms() + PROCESS_PATIENCE_MS; process_now_ms() < deadline; usleep(1000)) {
        fresh = open_peer(tls.port);
        if (serial_of(fresh) == 2) {
            break;
        }
        drop(fresh);
    }
    assert_int_equal(serial_of(fresh), 2);
    say(old, PING);
    assert_string_equal(hear(old), PONG);
    drop(fresh);
    /* Files that are wrong change nothing. */
    assert_int_equal(unlink(key_path), 0);
    kill(tls.daemon->pid, SIGHUP);
    char *log = daemon_log(tls.daemon);
    while (strstr(log, "the certificate is left as it was") == NULL) {
        free(log);
        usleep(1000);
        log = daemon_log(tls.daemon);
    }
    free(log);
    fresh = open_peer(tls.port);
    assert_int_equal(serial_of(fresh), 2);
    drop(fresh);
    drop(old);
    assert_int_equal(rename(kept_cert, cert_path), 0);
    assert_int_equal(rename(kept_key, key_path), 0);
    stop(tls);
}

static void start_fails(const char *why, const char *cert, const char *key)
{
    struct process_result result;
    char program[4200];
    process_program(program, sizeof program, "heapd");
    const char *const argv[] = {program, "--listen", "tls:127.0.0.1:0", "--tls-cert", cert, "--tls-key", key, NULL};
    process_run(&result, argv, NULL);
    if (result.exit_code != 2 || strstr(result.err, why) == NULL) {
        fail_msg("wanted exit code 2 and \"%s\"; came %d, \"%s\"", why, result.exit_code, result.err);
    }
    process_result_free(&result);
}

static void test_tls_refuses_wrong_files(void **state)
{
    (void)state;
    start_fails("cannot use the certificate", "/no/such", key_path);
    start_fails("cannot use the certificate", key_path, key_path);
    start_fails("cannot read /no/such", cert_path, "/no/such");
    start_fails("cannot use the key", cert_path, new_key_path);
    assert_int_equal(chmod(key_path, 0644), 0);
    start_fails("others can read", cert_path, key_path);
    assert_int_equal(chmod(key_path, 0600), 0);
}

/* ---- heapctl ---- */

/* heapctl with this certificate as the one authority. */
static void run_heapctl(struct process_result *result, const char *authority, const char *url, const char *command)
{
    char program[4200];
    process_program(program, sizeof program, "heapctl");
    setenv("SSL_CERT_FILE", authority, 1);
    const char *const argv[] = {program, "--url", url, "--json", command, NULL};
    process_run(result, argv, NULL);
    unsetenv("SSL_CERT_FILE");
}

static void test_tls_heapctl_verifies(void **state)
{
    (void)state;
    struct tls_daemon tls = start();
    struct process_result result;
    char url[64];
    static const char *const hosts[] = {"127.0.0.1", "localhost"};
    for (size_t i = 0; i < 2; i++) {
        snprintf(url, sizeof url, "tls:%s:%d", hosts[i], tls.port);
        run_heapctl(&result, cert_path, url, "ping");
        if (result.exit_code != 0 || strcmp(result.out, "\"pong\"\n") != 0) {
            fail_msg("heapctl on %s: %d, %s%s", url, result.exit_code, result.out, result.err);
        }
        process_result_free(&result);
    }
    run_heapctl(&result, cert_path, url, "rpc.discover"); /* more than one record */
    assert_int_equal(result.exit_code, 0);
    assert_true(result.out_len > 50000);
    process_result_free(&result);
    run_heapctl(&result, new_cert_path, url, "ping"); /* it knows another authority only */
    assert_int_equal(result.exit_code, 3);
    assert_non_null(strstr(result.err, "not to be trusted"));
    process_result_free(&result);
    snprintf(url, sizeof url, "tls:127.0.0.2:%d", tls.port);
    run_heapctl(&result, cert_path, url, "ping");
    assert_int_equal(result.exit_code, 3);
    process_result_free(&result);
    snprintf(url, sizeof url, "tls:127.0.0.1:%d", tls.daemon->port); /* no TLS there */
    run_heapctl(&result, cert_path, url, "ping");
    assert_int_equal(result.exit_code, 3);
    process_result_free(&result);
    stop(tls);
}

#define tls_test(function) cmocka_unit_test(function)

int main(void)
{
    const struct CMUnitTest tests[] = {
        tls_test(test_tls_speaks_1_2_and_1_3),
        tls_test(test_tls_refuses_older_versions),
        tls_test(test_tls_and_plain_do_not_mix),
        tls_test(test_tls_has_no_renegotiation),
        tls_test(test_tls_carries_http),
        tls_test(test_tls_carries_large_lines),
        tls_test(test_tls_takes_single_bytes),
        tls_test(test_tls_half_close_is_answered),
        tls_test(test_tls_cut_line_is_none),
        tls_test(test_tls_ends_in_order_when_the_daemon_stops),
        tls_test(test_tls_handshake_has_its_time),
        tls_test(test_tls_wants_tokens_too),
        tls_test(test_tls_gives_nothing_to_the_wrong),
        tls_test(test_tls_http_gives_nothing_to_the_wrong),
        tls_test(test_tls_takes_a_new_certificate),
        tls_test(test_tls_refuses_wrong_files),
        tls_test(test_tls_heapctl_verifies),
    };
    return cmocka_run_group_tests(tests, setup_all, teardown_all);
}
