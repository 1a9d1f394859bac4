/* One connection to Redis that keeps itself up: resolves, connects, and after a loss again with
 * backoff (50 ms to 2 s).
 *
 * Commands are pipelined: those of one tick leave in one write. Each belongs to a request, which
 * has a deadline; a request that gets no answer in time costs the connection, because replies carry
 * no names: what comes late could not be told from what comes next. The only file that knows
 * hiredis' asynchronous API. */
#ifndef IDEMPOTENCY_REDIS_CONNECTION_H
#define IDEMPOTENCY_REDIS_CONNECTION_H

#include <stdint.h>

#include "base/loop.h"
#include "base/slice.h"

enum redis_reply_type {
    REPLY_LOST, /* the connection was lost: the command may or may not have been carried out */
    REPLY_ERROR,
    REPLY_NIL,
    REPLY_TEXT,
    REPLY_INTEGER,
    REPLY_OTHER
};

struct redis_reply { /* valid during the callback */
    enum redis_reply_type type;
    struct slice text; /* REPLY_ERROR, REPLY_TEXT */
    int64_t integer;
};

struct redis_connection;
struct redis_request;

/* Called inside hiredis: may send on, but must leave anything else to a deferred task. */
typedef void (*redis_reply_fn)(struct redis_request *request, const struct redis_reply *reply);

/* One or more commands, one after another, under one deadline. Embedded in the caller's structures;
 * zero it before the first use. Ends with redis_request_end(), which the reply function must call
 * unless it sends again. */
struct redis_request {
    redis_reply_fn fn;
    void *ctx; /* the caller's */
    uint64_t deadline_ms;
    bool open;
    struct redis_request *before, *after;
};

struct redis_connection_settings { /* strings are borrowed */
    const char *host;
    unsigned port;
    bool tls;
    uint64_t timeout_ms;
    void (*on_open)(void *ctx); /* connected: time to send the greeting */
    void (*on_lost)(void *ctx,
                    const char *reason); /* lost, or could not be had; it is tried again */
    void *ctx;
};

BASE_CHECK struct redis_connection *
redis_connection_new(struct loop *loop, const struct redis_connection_settings *settings,
                     struct error *err);
/* Open requests get no reply. NULL is fine. Never from inside a reply function. */
void redis_connection_destroy(struct redis_connection *c);

/* The server has proven good: the next loss is followed by a quick retry again. */
void redis_connection_settle(struct redis_connection *c);
/* Lets the connection go, and connects again after the backoff. */
void redis_connection_drop(struct redis_connection *c, const char *reason);
/* Writes now what would leave in the next tick. */
void redis_connection_flush(struct redis_connection *c);

void redis_request_begin(struct redis_connection *c, struct redis_request *r, redis_reply_fn fn);
/* At most one command of a request is under way. False where there is no connection: end it then.
 */
BASE_CHECK bool redis_request_send(struct redis_connection *c, struct redis_request *r, int argc,
                                   const char **argv, const size_t *lens);
void redis_request_end(struct redis_connection *c, struct redis_request *r);

#endif
