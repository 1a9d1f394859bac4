/* Sending without Kafka: the service's own pipeline (claim, composer, transport), fed with events
 * that came from no record. Everything runs on the loop's thread. */
#ifndef PRODUCER_DIRECT_H
#define PRODUCER_DIRECT_H

#include "base/config.h"
#include "base/loop.h"
#include "email/address.h"
#include "kafka/dead_letter.h"

struct direct;

struct direct_item { /* one event; embedded by its owner, zero it before the first use */
    struct direct *direct;
    int64_t
        given_unix_ms; /* set by its owner: when it was published, before Kafka's copy could be */
    struct loop_task ack_task;
    dlq_fn ack;
    void *ack_ctx;
    char error[400]; /* why it was not sent; "" else */
};

enum direct_result {
    DIRECT_SENT,
    DIRECT_SENT_BEFORE,
    DIRECT_FAILED,  /* it is not sent, and will not be */
    DIRECT_UNKNOWN, /* an attempt ended without the relay's reply */
};

/* Exactly once for every item that was sent; from then on nothing points to it. */
typedef void (*direct_fn)(void *ctx, struct direct_item *item, enum direct_result result);

struct direct_settings { /* borrowed; must outlive it */
    const struct config *config;
    struct address from;
    const char *host;
    uint64_t patience_ms; /* how long an event waits for a Redis that is out of reach */
};

BASE_CHECK struct direct *direct_new(struct loop *loop, const struct direct_settings *settings,
                                     direct_fn fn, void *ctx, struct error *err);

/* strict: never without a claim, whatever IDEMPOTENCY_FAIL_OPEN says. */
void direct_send(struct direct *d, struct direct_item *item, struct slice key, struct slice json,
                 bool strict);

/* Gives up all that has not reached its final dot; the results follow. */
void direct_give_up(struct direct *d);

/* Drops what is left, without results. NULL is fine. */
void direct_destroy(struct direct *d);

#endif
