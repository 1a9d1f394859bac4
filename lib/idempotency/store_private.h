/* What the two backends share and nobody else needs: operations that wait for their answer's
 * delivery, and the checks of the settings. */
#ifndef IDEMPOTENCY_STORE_PRIVATE_H
#define IDEMPOTENCY_STORE_PRIVATE_H

#include "idempotency/store.h"

/* A callback and its answer. Exactly one of the two functions is set. */
struct answer {
    claim_fn claim_fn;
    store_fn store_fn;
    void *ctx;
    struct claim_answer claim;
    enum store_answer store;
    struct answer *next;
};

/* Hands answers out from a task of the loop: never before the asking call returns, and never inside
 * a callback of the library below, so that the user may do anything in it, even destroy the store.
 */
struct answer_queue {
    struct loop *loop;
    struct loop_task task;
    struct answer *head, *tail;
    void (*recycle)(void *ctx, struct answer *a); /* just before the user's callback */
    void (*delivered)(void *ctx);                 /* after a batch */
    void *ctx;
    bool *destroyed; /* set while a batch is being delivered */
};

void answer_queue_init(struct answer_queue *q, struct loop *loop,
                       void (*recycle)(void *ctx, struct answer *a), void (*delivered)(void *ctx),
                       void *ctx);
void answer_queue_push(struct answer_queue *q, struct answer *a);
/* Forgets what is queued; the answers are the owner's to free. */
void answer_queue_cleanup(struct answer_queue *q);

/* The answer of an operation for which there was no memory. */
void answer_refuse(claim_fn claim_callback, store_fn store_callback, void *ctx);

BASE_CHECK bool store_settings_check(const struct store_settings *settings, struct error *err);

/* splitmix64: enough for jitter. Seed with store_random_seed(). */
uint64_t store_random(uint64_t *state);
uint64_t store_random_seed(void);

#endif
