/* Keeps a small prefetch from costing rate, with librdkafka before 2.2: there a broker's thread
 * that found all queues full looks again only after a second, unless something else comes up. A
 * request of any kind wakes it, so a look at the topic's metadata is asked for (and its answer not
 * waited for) when a queue runs dry although the partition has more. Later versions look again by
 * themselves (fetch.queue.backoff.ms). */
#include "kafka/consumer_internal.h"

#include <librdkafka/rdkafka.h>

enum { LOOK_MS = 5 };

/* A quarter is left of what the queue has held lately. */
static bool is_low(struct partition *p, int64_t queued)
{
    if (queued > p->queue_peak)
        p->queue_peak = queued;
    return queued * 4 <= p->queue_peak;
}

static bool runs_dry(const struct consumer *c, struct partition *p)
{
    const int64_t queued = (int64_t)(rd_kafka_queue_length(p->queue) + p->batch_len - p->batch_pos);
    int64_t low, high;

    if (!is_low(p, queued) || p->last_offset < 0)
        return false;
    p->queue_peak -= p->queue_peak / 8; /* records may be larger now, and fewer */
    return rd_kafka_get_watermark_offsets(c->client.rk, c->topic, p->id, &low, &high) ==
               RD_KAFKA_RESP_ERR_NO_ERROR &&
           high > p->last_offset + 1 + queued;
}

static void on_timer(void *ctx)
{
    struct consumer *c = ctx;
    const struct rd_kafka_metadata *unused;

    for (size_t i = 0; i < c->partitions_len && !c->closing; i++)
        if (runs_dry(c, c->partitions[i])) {
            if (rd_kafka_metadata(c->client.rk, 0, c->handle, &unused, 0) ==
                RD_KAFKA_RESP_ERR_NO_ERROR)
                rd_kafka_metadata_destroy(unused);
            consumer_fetch_soon(c);
            return;
        }
}

void consumer_fetch_init(struct consumer *c)
{
    loop_timer_init(&c->fetch_timer, on_timer, c);
    if (rd_kafka_version() < 0x02020000)
        c->handle = rd_kafka_topic_new(c->client.rk, c->topic, NULL);
}

void consumer_fetch_soon(struct consumer *c)
{
    if (c->handle && !loop_timer_running(&c->fetch_timer))
        loop_timer_start(c->loop, &c->fetch_timer, LOOK_MS);
}

void consumer_fetch_cleanup(struct consumer *c)
{
    loop_timer_stop(c->loop, &c->fetch_timer);
    if (c->handle)
        rd_kafka_topic_destroy(c->handle);
    c->handle = NULL;
}
