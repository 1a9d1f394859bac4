#include "kafka/partition.h"

#include <stdlib.h>

#include <librdkafka/rdkafka.h>

static rd_kafka_queue_t *detached_queue(struct kafka_client *client, const char *topic, int32_t id)
{
    rd_kafka_queue_t *queue = rd_kafka_queue_get_partition(client->rk, topic, id);

    if (!queue)
        return NULL;
    /* librdkafka forwards a partition's queue to the consumer's when fetching starts, unless the
     * application has set a forward of its own by then, even to nowhere. */
    rd_kafka_queue_forward(queue, NULL);
    kafka_client_watch(client, queue);
    return queue;
}

struct partition *partition_new(struct kafka_client *client, const char *topic, int32_t id,
                                uint64_t generation, struct error *err)
{
    struct partition *p = calloc(1, sizeof(*p));

    if (!p) {
        error_set(err, "out of memory");
        return NULL;
    }
    p->id = id;
    p->generation = generation;
    p->last_offset = p->stored = p->committed = -1;
    p->maybe_ready = true;
    p->tracker = tracker_new();
    p->queue = p->tracker ? detached_queue(client, topic, id) : NULL;
    if (p->queue)
        return p;
    error_set(err, p->tracker ? "partition %d has no queue" : "out of memory", (int)id);
    partition_destroy(p);
    return NULL;
}

void partition_destroy(struct partition *p)
{
    if (!p)
        return;
    partition_drop_batch(p);
    if (p->queue) {
        kafka_client_unwatch(p->queue);
        rd_kafka_queue_destroy(p->queue);
    }
    tracker_destroy(p->tracker);
    free(p);
}

static void fill_batch(struct partition *p)
{
    ssize_t n = rd_kafka_consume_batch_queue(p->queue, 0, p->batch, PARTITION_BATCH);

    p->batch_pos = 0;
    p->batch_len = n > 0 ? (size_t)n : 0;
    p->maybe_ready = p->batch_len > 0;
}

const struct rd_kafka_message_s *partition_peek(struct partition *p)
{
    if (p->batch_pos == p->batch_len && p->maybe_ready)
        fill_batch(p);
    return p->batch_pos < p->batch_len ? p->batch[p->batch_pos] : NULL;
}

void partition_shift(struct partition *p)
{
    rd_kafka_message_destroy(p->batch[p->batch_pos++]);
}

void partition_drop_batch(struct partition *p)
{
    while (p->batch_pos < p->batch_len)
        partition_shift(p);
}

bool partition_restart(struct partition *p, uint64_t generation)
{
    struct tracker *fresh = tracker_new();

    if (!fresh)
        return false;
    tracker_destroy(p->tracker);
    p->tracker = fresh;
    p->generation = generation;
    p->last_offset = p->stored = -1;
    return true;
}
