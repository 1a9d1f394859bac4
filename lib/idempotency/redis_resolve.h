/* Host names to addresses without blocking the loop: hiredis and getaddrinfo() would. A short-lived
 * detached thread asks and posts what it found through a pipe; it shares nothing with the loop, so
 * that giving up needs no locks. */
#ifndef IDEMPOTENCY_REDIS_RESOLVE_H
#define IDEMPOTENCY_REDIS_RESOLVE_H

#include "base/loop.h"

enum { REDIS_ADDRESSES = 8, REDIS_ADDRESS_SIZE = 72 };

struct redis_addresses { /* numeric, in the order to be tried */
    unsigned count;
    char text[REDIS_ADDRESSES][REDIS_ADDRESS_SIZE];
};

/* found->count is 0 where there are none; error says why then. */
typedef void (*redis_resolve_fn)(void *ctx, const struct redis_addresses *found, const char *error);

struct redis_resolve { /* private but for being embedded; zero it before the first use */
    struct loop *loop;
    struct loop_fd watcher;
    int fd;
    redis_resolve_fn fn;
    void *ctx;
};

/* True, with the one address, where host is numeric: no thread is needed. */
bool redis_resolve_numeric(const char *host, struct redis_addresses *out);

/* fn is called once, never before the return. It has no deadline but the system resolver's own. */
BASE_CHECK bool redis_resolve_start(struct redis_resolve *r, struct loop *loop, const char *host,
                                    redis_resolve_fn fn, void *ctx, struct error *err);
void redis_resolve_cancel(struct redis_resolve *r); /* fine where nothing is under way */

#endif
