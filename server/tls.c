/* tls.c -- TLS on a connection, with OpenSSL.
 *
 * OpenSSL reads from and writes to a BIO of ours, so that no byte is kept twice: wire bytes come from where the socket
 * was read to, and go to the connection's buffer.  With SSL_MODE_RELEASE_BUFFERS an idle connection has no buffers.
 */
#include "tls.h"

#include "buffer.h"
#include "token_file.h"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

struct tls_context {
    BIO_METHOD *method;    /* of the connections' BIOs */
    pthread_mutex_t mutex; /* guards what follows */
    SSL_CTX *ssl;          /* NULL: nothing is loaded */
};

struct tls {
    SSL *ssl;
    const char *input; /* that was fed and not read */
    size_t input_len;
    struct buffer output;
    bool has_ended;   /* we have said that we are done */
    const char *why;  /* it broke; "": it has not */
};

/* ---- the BIO ---- */

static int bio_read(BIO *bio, char *bytes, int room)
{
    struct tls *tls = BIO_get_data(bio);
    size_t n = room > 0 ? (size_t)room : 0;
    BIO_clear_retry_flags(bio);
    if (tls->input_len == 0) {
        BIO_set_retry_read(bio);
        return -1;
    }
    n = n < tls->input_len ? n : tls->input_len;
    memcpy(bytes, tls->input, n);
    tls->input += n;
    tls->input_len -= n;
    return (int)n;
}

static int bio_write(BIO *bio, const char *bytes, int n)
{
    struct tls *tls = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    buffer_bytes(&tls->output, bytes, (size_t)n);
    return tls->output.is_failed ? -1 : n;
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

/* ---- contexts ---- */

struct tls_context *tls_context_create(void)
{
    struct tls_context *context = calloc(1, sizeof *context);
    if (context == NULL) {
        return NULL;
    }
    context->method = BIO_meth_new(BIO_TYPE_SOURCE_SINK | BIO_get_new_index(), "heapd connection");
    if (context->method == NULL || pthread_mutex_init(&context->mutex, NULL) != 0) {
        BIO_meth_free(context->method);
        free(context);
        return NULL;
    }
    BIO_meth_set_read(context->method, bio_read);
    BIO_meth_set_write(context->method, bio_write);
    BIO_meth_set_ctrl(context->method, bio_control);
    BIO_meth_set_create(context->method, bio_create);
    return context;
}

void tls_context_destroy(struct tls_context *context)
{
    if (context != NULL) {
        SSL_CTX_free(context->ssl);
        BIO_meth_free(context->method);
        pthread_mutex_destroy(&context->mutex);
        free(context);
    }
}

/* The last thing that OpenSSL has complained of. */
static const char *last_error(void)
{
    const char *text = ERR_reason_error_string(ERR_peek_last_error());
    return text != NULL ? text : "unknown error";
}

/* What is spoken. */
static bool set_rules(SSL_CTX *ssl)
{
    SSL_CTX_set_options(ssl, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_NO_TICKET |
                                 SSL_OP_CIPHER_SERVER_PREFERENCE);
    SSL_CTX_set_mode(ssl, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                              SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_session_cache_mode(ssl, SSL_SESS_CACHE_OFF);
    return SSL_CTX_set_num_tickets(ssl, 0) == 1 && SSL_CTX_set_min_proto_version(ssl, TLS1_2_VERSION) == 1 &&
           SSL_CTX_set_cipher_list(ssl, "ECDHE+AESGCM:ECDHE+CHACHA20") == 1;
}

/* Nobody is asked for the passphrase of a key: a daemon has no terminal. */
static int no_passphrase(char *text, int size, int is_writing, void *arg)
{
    (void)text;
    (void)size;
    (void)is_writing;
    (void)arg;
    return -1;
}

static bool load_files(SSL_CTX *ssl, const char *cert_path, const char *key_path, uid_t owner, struct reason *reason)
{
    FILE *key = token_file_open_secret(key_path, owner, reason);
    if (key == NULL) {
        return false;
    }
    fclose(key);
    SSL_CTX_set_default_passwd_cb(ssl, no_passphrase);
    if (SSL_CTX_use_certificate_chain_file(ssl, cert_path) != 1) {
        return reason_set(reason, "cannot use the certificate %.200s: %s", cert_path, last_error());
    }
    if (SSL_CTX_use_PrivateKey_file(ssl, key_path, SSL_FILETYPE_PEM) != 1) {
        return reason_set(reason, "cannot use the key %.200s: %s", key_path, last_error());
    }
    return SSL_CTX_check_private_key(ssl) == 1 ||
           reason_set(reason, "the key %.200s is not that of the certificate %.200s", key_path, cert_path);
}

bool tls_context_load(struct tls_context *context, const char *cert_path, const char *key_path, uid_t owner,
                      struct reason *reason)
{
    ERR_clear_error();
    SSL_CTX *fresh = SSL_CTX_new(TLS_server_method());
    if (fresh == NULL || !set_rules(fresh)) {
        SSL_CTX_free(fresh);
        return reason_set(reason, "OpenSSL is not to be had: %s", last_error());
    }
    if (!load_files(fresh, cert_path, key_path, owner, reason)) {
        SSL_CTX_free(fresh);
        return false;
    }
    pthread_mutex_lock(&context->mutex);
    SSL_CTX *old = context->ssl;
    context->ssl = fresh;
    pthread_mutex_unlock(&context->mutex);
    SSL_CTX_free(old); /* connections that use it keep it */
    return true;
}

/* ---- connections ---- */

struct tls *tls_create(struct tls_context *context)
{
    struct tls *tls = calloc(1, sizeof *tls);
    BIO *bio = tls == NULL ? NULL : BIO_new(context->method);
    if (bio == NULL) {
        free(tls);
        return NULL;
    }
    BIO_set_data(bio, tls);
    tls->why = "";
    pthread_mutex_lock(&context->mutex);
    tls->ssl = SSL_new(context->ssl);
    pthread_mutex_unlock(&context->mutex);
    if (tls->ssl == NULL) {
        BIO_free(bio);
        free(tls);
        return NULL;
    }
    SSL_set_bio(tls->ssl, bio, bio);
    SSL_set_accept_state(tls->ssl);
    return tls;
}

void tls_destroy(struct tls *tls)
{
    if (tls != NULL) {
        SSL_free(tls->ssl);
        buffer_fini(&tls->output);
        free(tls);
    }
}

void tls_feed(struct tls *tls, const char *bytes, size_t n)
{
    tls->input = bytes;
    tls->input_len = n;
}

int tls_read(struct tls *tls, char *bytes, size_t room)
{
    size_t n;
    ERR_clear_error();
    if (SSL_read_ex(tls->ssl, bytes, room < INT32_MAX ? room : INT32_MAX, &n) == 1) {
        return (int)n;
    }
    switch (SSL_get_error(tls->ssl, 0)) {
    case SSL_ERROR_WANT_READ:
    case SSL_ERROR_WANT_WRITE:
        return TLS_MORE;
    case SSL_ERROR_ZERO_RETURN:
        return TLS_ENDED;
    default:
        tls->why = last_error();
        return TLS_BROKEN;
    }
}

bool tls_is_ready(const struct tls *tls)
{
    return SSL_is_init_finished(tls->ssl) == 1;
}

size_t tls_write(struct tls *tls, const char *bytes, size_t n)
{
    size_t written = 0;
    ERR_clear_error();
    if (tls->has_ended || SSL_write_ex(tls->ssl, bytes, n < TLS_WRITE_BYTES ? n : TLS_WRITE_BYTES, &written) != 1) {
        tls->why = tls->output.is_failed ? "no memory" : last_error();
        return 0;
    }
    return written;
}

void tls_end(struct tls *tls)
{
    if (!tls->has_ended && tls_is_ready(tls) && *tls->why == '\0') {
        ERR_clear_error();
        (void)!SSL_shutdown(tls->ssl);
        tls->has_ended = true;
    }
}

const char *tls_output(const struct tls *tls, size_t *len)
{
    *len = buffer_left(&tls->output);
    return tls->output.data == NULL ? "" : tls->output.data + tls->output.taken;
}

void tls_sent(struct tls *tls, size_t n)
{
    buffer_take(&tls->output, n);
}

const char *tls_why(const struct tls *tls)
{
    return *tls->why != '\0' ? tls->why : "it ended without a word";
}
