#include "idempotency/redis_tls.h"

#include <stddef.h>

#ifdef HAVE_HIREDIS_SSL

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>

#include <hiredis/hiredis.h>
#include <hiredis/hiredis_ssl.h>
#include <openssl/err.h>
#include <openssl/ssl.h>

struct redis_tls {
    SSL_CTX *context;
    SSL *current; /* hiredis' own, valid until the connection is freed */
};

bool redis_tls_supported(void)
{
    return true;
}

static bool fail(struct error *err, const char *doing)
{
    char text[160] = "unknown error";
    unsigned long code = ERR_get_error();

    if (code)
        ERR_error_string_n(code, text, sizeof(text));
    ERR_clear_error();
    return error_set(err, "%s: %s", doing, text);
}

struct redis_tls *redis_tls_new(struct error *err)
{
    struct redis_tls *tls = calloc(1, sizeof(*tls));

    if (!tls) {
        error_set(err, "out of memory");
        return NULL;
    }
    tls->context = SSL_CTX_new(TLS_client_method());
    if (!tls->context || !SSL_CTX_set_min_proto_version(tls->context, TLS1_2_VERSION) ||
        !SSL_CTX_set_default_verify_paths(tls->context)) {
        fail(err, "TLS for Redis");
        redis_tls_destroy(tls);
        return NULL;
    }
    SSL_CTX_set_verify(tls->context, SSL_VERIFY_PEER, NULL);
    return tls;
}

void redis_tls_destroy(struct redis_tls *tls)
{
    if (!tls)
        return;
    SSL_CTX_free(tls->context);
    free(tls);
}

/* An address is looked for among the certificate's addresses, and is no server name (RFC 6066
 * section 3). */
static bool expect_host(SSL *ssl, const char *host)
{
    unsigned char binary[sizeof(struct in6_addr)];

    if (inet_pton(AF_INET, host, binary) == 1 || inet_pton(AF_INET6, host, binary) == 1)
        return X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), host) == 1;
    return SSL_set1_host(ssl, host) == 1 && SSL_set_tlsext_host_name(ssl, host) == 1;
}

bool redis_tls_start(struct redis_tls *tls, struct redisContext *connection, const char *host,
                     struct error *err)
{
    SSL *ssl = SSL_new(tls->context);

    if (!ssl)
        return fail(err, "TLS");
    if (!expect_host(ssl, host)) {
        SSL_free(ssl);
        return fail(err, "TLS");
    }
    /* Takes ssl over if it succeeds, and frees it in redisFree(). */
    if (redisInitiateSSL(connection, ssl) != REDIS_OK) {
        SSL_free(ssl);
        return error_set(err, "TLS: %s", connection->errstr);
    }
    tls->current = ssl;
    return true;
}

bool redis_tls_explain(struct redis_tls *tls, char *out, size_t size)
{
    SSL *ssl = tls->current;
    long verified = ssl ? SSL_get_verify_result(ssl) : X509_V_OK;
    bool unfinished = ssl && !SSL_is_init_finished(ssl);
    char text[160] = "the server ended it";
    unsigned long code = ERR_peek_last_error();

    tls->current = NULL;
    ERR_clear_error();
    if (verified != X509_V_OK) {
        snprintf(out, size, "TLS: the server's certificate is refused: %s",
                 X509_verify_cert_error_string(verified));
        return true;
    }
    if (unfinished && code)
        ERR_error_string_n(code, text, sizeof(text));
    if (unfinished)
        snprintf(out, size, "TLS handshake failed: %s", text);
    return unfinished;
}

#else

bool redis_tls_supported(void)
{
    return false;
}

struct redis_tls *redis_tls_new(struct error *err)
{
    error_set(err, "rediss:// needs hiredis 1.0 or later with its TLS part; this build has none");
    return NULL;
}

void redis_tls_destroy(struct redis_tls *tls)
{
    (void)tls; /* there is never one */
}

bool redis_tls_start(struct redis_tls *tls, struct redisContext *connection, const char *host,
                     struct error *err)
{
    (void)tls;
    (void)connection;
    (void)host;
    return error_set(err, "this build has no TLS for Redis");
}

bool redis_tls_explain(struct redis_tls *tls, char *out, size_t size)
{
    (void)tls;
    (void)out;
    (void)size;
    return false;
}

#endif
