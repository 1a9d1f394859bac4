/* Operations of one tick that take the same step leave as one script call for all their keys: Redis
 * parses, looks the script up and asks for the time once, and hiredis handles one reply.
 *
 * A script is atomic, and each key's step within it is what it would be alone, so a batch is no
 * more than its steps one after another. What a batch must not do is let another command on one of
 * its keys overtake it: ask redis_batches_hold() first, and flush. */
#ifndef IDEMPOTENCY_REDIS_BATCH_H
#define IDEMPOTENCY_REDIS_BATCH_H

#include "idempotency/redis_health.h"

enum { REDIS_BATCH_MAX = 64 };

/* One key's step; embedded in the caller's structure, which outlives the answer. */
struct redis_step {
    struct slice key, token, value;
    /* Called inside hiredis, or from the call that flushed. REPLY_INTEGER, REPLY_ERROR or
     * REPLY_LOST. */
    void (*fn)(struct redis_step *step, const struct redis_reply *reply);
};

struct redis_batch;

struct redis_batches {
    struct redis_health *health;
    struct loop_task task;
    struct redis_batch *pending[REDIS_SCRIPTS]; /* of scripts that take many keys */
    struct redis_batch *free, *all;
};

void redis_batches_init(struct redis_batches *b, struct redis_health *health);
void redis_batches_cleanup(struct redis_batches *b); /* after the connection; answers nobody */

/* SCRIPT_FENCE or SCRIPT_MARK_SENT, by the end of this tick. False where memory is out. */
BASE_CHECK bool redis_batches_add(struct redis_batches *b, enum redis_script script,
                                  struct redis_step *step);
/* Whether a step on this key waits to be sent. */
bool redis_batches_hold(const struct redis_batches *b, struct slice key);
/* Hands everything to the connection, in the order of the scripts. */
void redis_batches_flush(struct redis_batches *b);

#endif
