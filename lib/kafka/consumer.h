/* The consumer: a member of the group that hands over records as the caller has room for them,
 * tracks per partition which are finished, and stores the contiguous watermark for librdkafka to
 * commit. Everything runs on the loop's thread; nothing here blocks. */
#ifndef KAFKA_CONSUMER_H
#define KAFKA_CONSUMER_H

#include <stdint.h>

#include "base/loop.h"
#include "kafka/kafka_settings.h"
#include "kafka/record.h"

struct consumer;

struct consumer_callbacks {
    /* How many more bytes of records the caller takes now; 0: the window is full (call
     * consumer_pump when it is not). */
    size_t (*room)(void *ctx);
    /* One record, only while room() > 0. The record's memory is valid during the call: copy what is
     * needed. Its offset is under way until consumer_done or consumer_abandon. */
    void (*record)(void *ctx, const struct record *record);
    /* The partition is being taken away (lost: it is gone already). No more records of it come. The
     * caller gives up what it can (consumer_abandon, from here or later) and finishes the rest; the
     * consumer waits revoke_grace_ms for that, stores the watermark and lets go. Calls with this
     * generation are harmless for ever after. */
    void (*revoking)(void *ctx, int32_t partition, uint64_t generation, bool lost);
    /* A fatal error: the process must end. */
    void (*fatal)(void *ctx, const char *reason);
    /* After consumer_close: the group was left, commits included. */
    void (*closed)(void *ctx);
};

struct consumer_settings {
    struct kafka_settings kafka;
    const char *group, *topic;
    uint64_t revoke_grace_ms;
    size_t window; /* records under way at the most, shared out evenly to the partitions, so that
                      one that is stuck leaves room for the others; 0: no bound */
};

struct consumer_state {
    bool up;           /* a broker is reached */
    unsigned assigned; /* partitions */
    uint64_t consumed; /* records handed over */
    uint64_t rebalances;
    char error[256]; /* the last error while not up, or that the topic is missing; "" otherwise */
};

struct partition_state {
    int32_t partition;
    int64_t lag;       /* records from the watermark to the end; -1 unknown */
    int64_t watermark; /* offset to be committed; -1 none yet */
    size_t under_way;
};

BASE_CHECK struct consumer *consumer_new(struct loop *loop,
                                         const struct consumer_settings *settings,
                                         const struct consumer_callbacks *callbacks, void *ctx,
                                         struct error *err);

/* There is room again: takes what is there, now and as more arrives. */
void consumer_pump(struct consumer *c);

/* The record has its final outcome / is given up for good in this process (another assignment will
 * bring it again). A generation that is over is ignored. */
void consumer_done(struct consumer *c, int32_t partition, uint64_t generation, int64_t offset);
void consumer_abandon(struct consumer *c, int32_t partition, uint64_t generation, int64_t offset);

void consumer_state(const struct consumer *c, struct consumer_state *out);
/* Fills at most max entries, returns how many partitions are assigned. */
size_t consumer_partitions(const struct consumer *c, struct partition_state *out, size_t max);

/* Stops taking records (room is not asked any more); what is under way can still finish. */
void consumer_stop_taking(struct consumer *c);
/* Stores the watermarks, commits, leaves the group; `closed` follows from the loop. */
void consumer_close(struct consumer *c);
void consumer_destroy(
    struct consumer *c); /* after `closed`, or at any time on a fatal error; NULL is fine */

#endif
