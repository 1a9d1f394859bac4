/* One assigned partition: its own queue, cut off from the consumer's, and the offsets under way.
 * Internal to lib/kafka. */
#ifndef KAFKA_PARTITION_H
#define KAFKA_PARTITION_H

#include "kafka/fetch_look.h"
#include "kafka/kafka_client.h"
#include "kafka/tracker.h"

struct rd_kafka_message_s;

enum { PARTITION_BATCH = 32 };

struct partition {
    int32_t id;
    uint64_t generation;
    struct rd_kafka_queue_s *queue;
    struct tracker *tracker;
    struct rd_kafka_message_s
        *batch[PARTITION_BATCH]; /* taken from the queue, not yet handed over */
    size_t batch_pos, batch_len;
    bool maybe_ready;    /* cleared only when the queue was found empty */
    bool leaving;        /* a revocation waits for what is under way */
    int64_t last_offset; /* the last one handed over; -1 before that */
    int64_t stored;      /* the watermark that librdkafka knows; -1 none */
    int64_t queue_peak;  /* consumer_fetch.c: records that the queue has held lately */
    struct fetch_look look;
    int64_t committed; /* by the group, as of the last statistics; -1 unknown */
};

/* To be called before the partition is assigned: its messages then never reach the consumer's
 * queue. */
BASE_CHECK struct partition *partition_new(struct kafka_client *client, const char *topic,
                                           int32_t id, uint64_t generation, struct error *err);
void partition_destroy(
    struct partition *p); /* NULL is fine; messages not handed over are dropped */

/* The next message, which may be an error; NULL: none now. It stays the partition's until
 * partition_shift. */
const struct rd_kafka_message_s *partition_peek(struct partition *p);
void partition_shift(struct partition *p);
void partition_drop_batch(struct partition *p);

/* Offsets went backwards (the log was truncated, or its start was lost): what was tracked is void.
 */
BASE_CHECK bool partition_restart(struct partition *p, uint64_t generation);

#endif
