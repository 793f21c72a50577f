/* heapd_tls.c -- TLS on a connected socket, with OpenSSL.
 *
 * OpenSSL's own way to a socket would raise SIGPIPE, which a library must not; so it has a BIO of ours.
 */
#include "heapd_tls.h"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

struct heapd_tls {
    int fd; /* the caller's */
    SSL *ssl;
    BIO_METHOD *method; /* of its BIO */
    bool is_ready;      /* the handshake is over */
    char why[256];      /* of the handshake */
};

/* ---- the BIO ---- */

static int is_for_later(void)
{
    return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR;
}

static int bio_read(BIO *bio, char *bytes, int room)
{
    const struct heapd_tls *tls = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    int n = (int)recv(tls->fd, bytes, (size_t)room, MSG_DONTWAIT);
    if (n < 0 && is_for_later()) {
        BIO_set_retry_read(bio);
    }
    return n;
}

static int bio_write(BIO *bio, const char *bytes, int len)
{
    const struct heapd_tls *tls = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    int n = (int)send(tls->fd, bytes, (size_t)len, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n < 0 && is_for_later()) {
        BIO_set_retry_write(bio);
    }
    return n;
}

static long bio_control(BIO *bio, int command, long number, void *pointer)
{
    (void)bio;
    (void)number;
    (void)pointer;
    return command == BIO_CTRL_FLUSH; /* there is nothing to flush, and nothing else is known */
}

static int bio_create(BIO *bio)
{
    BIO_set_init(bio, 1);
    return 1;
}

/* ---- life ---- */

/* The certificate must be for that host, a name or a number. */
static bool expect_host(SSL *ssl, const char *host)
{
    struct in6_addr number;
    bool is_number = inet_pton(AF_INET, host, &number) == 1 || inet_pton(AF_INET6, host, &number) == 1;
    if (is_number) {
        return X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), host) == 1;
    }
    return SSL_set_tlsext_host_name(ssl, host) == 1 && SSL_set1_host(ssl, host) == 1;
}

/* A client's end with our rules; NULL: it cannot be had. */
static SSL *new_ssl(const char *host)
{
    SSL_CTX *context = SSL_CTX_new(TLS_client_method());
    SSL *ssl = NULL;
    if (context != NULL && SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION) == 1 &&
        SSL_CTX_set_default_verify_paths(context) == 1) {
        SSL_CTX_set_verify(context, SSL_VERIFY_PEER, NULL);
        SSL_CTX_set_options(context, SSL_OP_NO_RENEGOTIATION);
        SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
        ssl = SSL_new(context);
    }
    SSL_CTX_free(context); /* the SSL keeps it */
    if (ssl != NULL && !expect_host(ssl, host)) {
        SSL_free(ssl);
        ssl = NULL;
    }
    return ssl;
}

struct heapd_tls *heapd_tls_create(int fd, const char *host)
{
    struct heapd_tls *tls = calloc(1, sizeof *tls);
    if (tls == NULL) {
        return NULL;
    }
    tls->fd = fd;
    tls->method = BIO_meth_new(BIO_TYPE_SOURCE_SINK, "heapd client");
    BIO *bio = NULL;
    if (tls->method != NULL) {
        BIO_meth_set_read(tls->method, bio_read);
        BIO_meth_set_write(tls->method, bio_write);
        BIO_meth_set_ctrl(tls->method, bio_control);
        BIO_meth_set_create(tls->method, bio_create);
        bio = BIO_new(tls->method);
    }
    tls->ssl = bio == NULL ? NULL : new_ssl(host);
    if (tls->ssl == NULL) {
        BIO_free(bio);
        BIO_meth_free(tls->method);
        free(tls);
        return NULL;
    }
    BIO_set_data(bio, tls);
    SSL_set_bio(tls->ssl, bio, bio);
    SSL_set_connect_state(tls->ssl);
    return tls;
}

void heapd_tls_destroy(struct heapd_tls *tls)
{
    if (tls != NULL) {
        ERR_clear_error();
        if (tls->is_ready) {
            (void)!SSL_shutdown(tls->ssl);
        }
        SSL_free(tls->ssl);
        BIO_meth_free(tls->method);
        ERR_clear_error();
        free(tls);
    }
}

/* ---- handshake ---- */

static void note_failure(struct heapd_tls *tls)
{
    long verdict = SSL_get_verify_result(tls->ssl);
    const char *text = ERR_reason_error_string(ERR_peek_last_error());
    if (verdict != X509_V_OK) {
        snprintf(tls->why, sizeof tls->why, "its certificate is not to be trusted: %s",
                 X509_verify_cert_error_string(verdict));
    } else {
        snprintf(tls->why, sizeof tls->why, "no TLS: %s", text != NULL ? text : "it closed the connection");
    }
}

int heapd_tls_handshake(struct heapd_tls *tls, short *events)
{
    ERR_clear_error();
    int result = SSL_do_handshake(tls->ssl);
    if (result == 1) {
        tls->is_ready = true;
        return 1;
    }
    switch (SSL_get_error(tls->ssl, result)) {
    case SSL_ERROR_WANT_READ:
        *events = POLLIN;
        return 0;
    case SSL_ERROR_WANT_WRITE:
        *events = POLLOUT;
        return 0;
    default:
        note_failure(tls);
        return -1;
    }
}

const char *heapd_tls_why(const struct heapd_tls *tls)
{
    return tls->why;
}

/* ---- bytes ---- */

/* What recv(2) or send(2) would say of a call that has failed. */
static ssize_t failure(const struct heapd_tls *tls, int result)
{
    switch (SSL_get_error(tls->ssl, result)) {
    case SSL_ERROR_WANT_READ:
    case SSL_ERROR_WANT_WRITE:
        errno = EAGAIN;
        return -1;
    case SSL_ERROR_ZERO_RETURN:
        return 0;
    default:
        errno = ECONNRESET;
        return -1;
    }
}

ssize_t heapd_tls_recv(struct heapd_tls *tls, char *bytes, size_t room)
{
    ERR_clear_error();
    int n = SSL_read(tls->ssl, bytes, room < INT_MAX ? (int)room : INT_MAX);
    return n > 0 ? n : failure(tls, n);
}

ssize_t heapd_tls_send(struct heapd_tls *tls, const char *bytes, size_t len)
{
    ERR_clear_error();
    int n = SSL_write(tls->ssl, bytes, len < INT_MAX ? (int)len : INT_MAX);
    return n > 0 ? n : failure(tls, n);
}

bool heapd_tls_has_more(const struct heapd_tls *tls)
{
    return SSL_has_pending(tls->ssl) == 1;
}
