/* Keeps a small prefetch from costing rate, with librdkafka before 2.2: there a broker's thread
 * that found all queues full looks again only after a second, unless something else comes up. A
 * request of any kind wakes it, so a look at the topic's metadata is asked for (and its answer not
 * waited for) when a queue runs dry although the partition has more; see fetch_look.h. Later
 * versions look again by themselves (fetch.queue.backoff.ms). */
#include "kafka/consumer_internal.h"

#include <librdkafka/rdkafka.h>

#include "base/log.h"

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

static void wake_fetcher(struct consumer *c)
{
    const struct rd_kafka_metadata *unused;

    if (rd_kafka_metadata(c->client.rk, 0, c->handle, &unused, 0) == RD_KAFKA_RESP_ERR_NO_ERROR)
        rd_kafka_metadata_destroy(unused);
}

static void look_in(struct consumer *c, uint64_t ms)
{
    c->fetch_due_ms = loop_now_ms(c->loop) + ms;
    loop_timer_start(c->loop, &c->fetch_timer, ms);
}

/* One request does for all partitions. */
static void on_timer(void *ctx)
{
    struct consumer *c = ctx;
    const uint64_t now_ms = loop_now_ms(c->loop);
    uint64_t soonest_ms = 0;
    bool look = false;

    for (size_t i = 0; i < c->partitions_len && !c->closing; i++) {
        struct partition *p = c->partitions[i];
        uint64_t delay_ms;
        if (!runs_dry(c, p))
            continue;
        look |= fetch_look_now(&p->look, p->last_offset + 1, now_ms);
        delay_ms = fetch_look_delay_ms(&p->look, now_ms);
        if (delay_ms && (!soonest_ms || delay_ms < soonest_ms))
            soonest_ms = delay_ms;
    }
    if (look)
        wake_fetcher(c);
    if (soonest_ms)
        look_in(c, soonest_ms);
}

void consumer_fetch_init(struct consumer *c)
{
    loop_timer_init(&c->fetch_timer, on_timer, c);
    if (rd_kafka_version() >= 0x02020000)
        return;
    c->handle = rd_kafka_topic_new(c->client.rk, c->topic, NULL);
    if (!c->handle) /* it works all the same, but slower where much waits */
        log_warn("Kafka's fetcher cannot be woken, reading may be slow", LOG_STR("topic", c->topic),
                 LOG_STR("error", rd_kafka_err2str(rd_kafka_last_error())));
}

/* A timer that waits longer waits for another partition. */
void consumer_fetch_soon(struct consumer *c)
{
    if (c->handle && (!loop_timer_running(&c->fetch_timer) ||
                      c->fetch_due_ms > loop_now_ms(c->loop) + FETCH_LOOK_MS))
        look_in(c, FETCH_LOOK_MS);
}

void consumer_fetch_cleanup(struct consumer *c)
{
    loop_timer_stop(c->loop, &c->fetch_timer);
    if (c->handle)
        rd_kafka_topic_destroy(c->handle);
    c->handle = NULL;
}
