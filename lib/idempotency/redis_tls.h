/* TLS to Redis (rediss://), where hiredis has it (1.0 on). The server's certificate must be valid,
 * by the system's certificates, for the host's name or address. The only file that knows OpenSSL
 * and hiredis_ssl. */
#ifndef IDEMPOTENCY_REDIS_TLS_H
#define IDEMPOTENCY_REDIS_TLS_H

#include <stddef.h>

#include "base/error.h"

struct redis_tls;
struct redisContext;

bool redis_tls_supported(void);
BASE_CHECK struct redis_tls *redis_tls_new(struct error *err);
void redis_tls_destroy(struct redis_tls *tls); /* NULL is fine */

/* Makes a connection that was just begun speak TLS; one at a time. */
BASE_CHECK bool redis_tls_start(struct redis_tls *tls, struct redisContext *connection,
                                const char *host, struct error *err);

/* Why TLS ended the connection that is just being given up, which hiredis reports as "Success".
 * False where TLS was not the cause. */
BASE_CHECK bool redis_tls_explain(struct redis_tls *tls, char *out, size_t size);

#endif
