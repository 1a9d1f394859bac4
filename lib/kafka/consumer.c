#include "kafka/consumer_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <librdkafka/rdkafka.h>

#include "base/log.h"

enum {
    STORE_MS = 100, /* watermarks go to librdkafka that often; it commits them every second */
    TROUBLE_MS =
        30000, /* an error that was not repeated since is over, where there are partitions */
    CLOSING_LOOK_MS = 50, /* leaving the group ends without an event */
    POLL_INTERVAL_MS = 60000,
    DESTROY_MS = 3000,
};

static void note_stored(struct consumer *c, const rd_kafka_topic_partition_list_t *list)
{
    for (int i = 0; i < list->cnt; i++) {
        const rd_kafka_topic_partition_t *stored = &list->elems[i];
        struct partition *p = consumer_find(c, stored->partition);
        if (p && !stored->err)
            p->stored = stored->offset;
        else if (stored->err && stored->err != RD_KAFKA_RESP_ERR__STATE)
            log_warn("Storing an offset failed", LOG_STR("topic", c->topic),
                     LOG_INT("partition", stored->partition),
                     LOG_STR("error", rd_kafka_err2str(stored->err)));
    }
}

/* librdkafka commits what is stored, every second and when it lets a partition go. */
void consumer_store_watermarks(struct consumer *c)
{
    rd_kafka_topic_partition_list_t *list = NULL;

    for (size_t i = 0; i < c->partitions_len; i++) {
        const struct partition *p = c->partitions[i];
        int64_t watermark = tracker_watermark(p->tracker);
        if (watermark < 0 || watermark == p->stored)
            continue;
        if (!list)
            list = rd_kafka_topic_partition_list_new((int)c->partitions_len);
        rd_kafka_topic_partition_list_add(list, c->topic, p->id)->offset = watermark;
    }
    if (!list)
        return;
    (void)rd_kafka_offsets_store(c->client.rk, list); /* each element has its own result */
    note_stored(c, list);
    rd_kafka_topic_partition_list_destroy(list);
}

static void on_store_timer(void *ctx)
{
    consumer_store_watermarks(ctx);
}

static void store_soon(struct consumer *c)
{
    if (!loop_timer_running(&c->store_timer))
        loop_timer_start(c->loop, &c->store_timer, STORE_MS);
}

/* ---- events ---- */

void consumer_trouble(struct consumer *c, const char *text)
{
    c->trouble_ms = loop_now_ms(c->loop);
    if (strncmp(c->trouble, text, sizeof(c->trouble) - 1) == 0)
        return;
    snprintf(c->trouble, sizeof(c->trouble), "%s", text);
    log_warn("Kafka consumer is in trouble", LOG_STR("topic", c->topic), LOG_STR("error", text));
}

static void on_consumer_error(struct consumer *c, rd_kafka_event_t *event)
{
    char text[200];

    switch (rd_kafka_event_error(event)) {
    case RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART:
    case RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC:
        snprintf(text, sizeof(text), "topic '%s' does not exist", c->topic);
        consumer_trouble(c, text);
        break;
    default: consumer_trouble(c, rd_kafka_event_error_string(event)); break;
    }
}

/* A message in the consumer's queue: not expected, as every partition's queue is cut off before
 * fetching starts. Going on could skip it for good, so the partition is left to a restart. */
static void on_stray_message(struct consumer *c)
{
    kafka_client_fail(&c->client, "a record arrived outside of its partition's queue");
    c->stopped = true;
}

static void on_event(void *ctx, rd_kafka_event_t *event)
{
    struct consumer *c = ctx;

    switch (rd_kafka_event_type(event)) {
    case RD_KAFKA_EVENT_REBALANCE: consumer_on_rebalance(c, event); break;
    case RD_KAFKA_EVENT_ERROR: on_consumer_error(c, event); break;
    case RD_KAFKA_EVENT_FETCH: on_stray_message(c); break;
    default: break;
    }
}

static void run_closed(void *ctx)
{
    struct consumer *c = ctx;

    c->callbacks.closed(c->ctx);
}

static void on_drained(void *ctx)
{
    struct consumer *c = ctx;

    for (size_t i = 0; i < c->partitions_len; i++)
        c->partitions[i]->maybe_ready = true; /* all queues share the eventfd */
    consumer_take(c);
    if (!c->closing || c->closed)
        return;
    if (rd_kafka_consumer_closed(c->client.rk)) {
        c->closed = true;
        loop_defer(c->loop, &c->closed_task, run_closed, c);
    } else
        kafka_client_hurry(&c->client, CLOSING_LOOK_MS);
}

/* librdkafka never commits backwards by itself. But where the committed offset lies beyond what the
 * topic has (it was truncated, or somebody set it), reading began anew at an earlier one: left
 * where it is, a restart would skip what is not finished below it, once the topic has grown that
 * far. */
static void commit_backwards(struct consumer *c)
{
    rd_kafka_topic_partition_list_t *list = NULL;

    for (size_t i = 0; i < c->partitions_len; i++) {
        const struct partition *p = c->partitions[i];
        const int64_t watermark = tracker_watermark(p->tracker);
        if (p->leaving || watermark < 0 || watermark >= p->committed)
            continue;
        log_warn("Committed offset is beyond what was read, going back", LOG_STR("topic", c->topic),
                 LOG_INT("partition", p->id), LOG_INT("committed", p->committed),
                 LOG_INT("offset", watermark));
        if (!list)
            list = rd_kafka_topic_partition_list_new((int)c->partitions_len);
        rd_kafka_topic_partition_list_add(list, c->topic, p->id)->offset = watermark;
    }
    if (!list)
        return;
    /* Asynchronous; where it fails, the next statistics bring us here again. */
    (void)rd_kafka_commit(c->client.rk, list, 1);
    rd_kafka_topic_partition_list_destroy(list);
}

static void on_stats(void *ctx, const struct kafka_stats *stats)
{
    struct consumer *c = ctx;

    if (c->partitions_len && loop_now_ms(c->loop) - c->trouble_ms > TROUBLE_MS)
        c->trouble[0] = '\0';
    for (size_t i = 0; i < c->partitions_len; i++)
        c->partitions[i]->committed = kafka_stats_committed(stats, c->topic, c->partitions[i]->id);
    if (!c->closing)
        commit_backwards(c);
}

static void on_fatal(void *ctx, const char *reason)
{
    struct consumer *c = ctx;

    c->callbacks.fatal(c->ctx, reason);
}

/* ---- the consumer ---- */

static bool legal_topic(const char *topic)
{
    size_t len = strlen(topic);

    /* Kafka's own rule; it also keeps out "^…", which librdkafka takes for a regular expression. */
    return len > 0 && len <= 249 && strcmp(topic, ".") != 0 && strcmp(topic, "..") != 0 &&
           strspn(topic, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") ==
               len;
}

static bool start_client(struct consumer *c, const struct consumer_settings *settings,
                         struct error *err)
{
    static const struct kafka_client_hooks hooks = {
        .event = on_event, .drained = on_drained, .stats = on_stats, .fatal = on_fatal};
    char poll_interval[24];
    const struct kafka_property ours[] = {
        {"group.id", settings->group},
        {"allow.auto.create.topics", "false"},
        {"auto.commit.interval.ms", "1000"},
        {"auto.offset.reset", "earliest"},
        {"check.crcs", "true"},
        {"enable.auto.commit", "true"},
        {"enable.auto.offset.store", "false"},
        {"enable.partition.eof", "false"},
        {"fetch.error.backoff.ms", "100"},
        {"fetch.message.max.bytes", "131072"},
        /* One fetch at a time is under way with a broker: a partition that was just assigned waits
         * for the long poll of the others. */
        {"fetch.wait.max.ms", "100"},
        {"isolation.level", "read_committed"},
        /* How long the others wait for us in a rebalance, and with a loop that hangs. */
        {"max.poll.interval.ms", poll_interval},
        /* Eager: cooperative-sticky can loop for ever before librdkafka 2.6.1 (its issue 4800). */
        {"partition.assignment.strategy", "range,roundrobin"},
        /* What waits in Kafka shall not wait in our memory: so much a partition is fetched ahead,
         * in bites of a quarter. A larger record is fetched all the same. */
        {"queued.max.messages.kbytes", "512"},
        {"session.timeout.ms", "10000"}, /* after a crash the others go on that much later */
    };
    rd_kafka_conf_t *conf;

    snprintf(poll_interval, sizeof(poll_interval), "%llu",
             (unsigned long long)(POLL_INTERVAL_MS + settings->revoke_grace_ms * 2));
    conf = kafka_conf_new(&settings->kafka, ours, sizeof(ours) / sizeof(*ours), err);
    return conf && kafka_client_start(&c->client, c->loop, KAFKA_CLIENT_CONSUMER, conf,
                                      RD_KAFKA_EVENT_REBALANCE, &hooks, c, err);
}

static bool subscribe(struct consumer *c, struct error *err)
{
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
    rd_kafka_resp_err_t code;

    rd_kafka_topic_partition_list_add(list, c->topic, RD_KAFKA_PARTITION_UA);
    code = rd_kafka_subscribe(c->client.rk, list);
    rd_kafka_topic_partition_list_destroy(list);
    return !code || error_set(err, "subscribing to '%s': %s", c->topic, rd_kafka_err2str(code));
}

struct consumer *consumer_new(struct loop *loop, const struct consumer_settings *settings,
                              const struct consumer_callbacks *callbacks, void *ctx,
                              struct error *err)
{
    struct consumer *c;

    if (!legal_topic(settings->topic)) {
        error_set(err, "'%s' is no legal name of a topic", settings->topic);
        return NULL;
    }
    c = calloc(1, sizeof(*c));
    if (!c || !(c->topic = strdup(settings->topic))) {
        free(c);
        error_set(err, "out of memory");
        return NULL;
    }
    c->loop = loop;
    c->callbacks = *callbacks;
    c->ctx = ctx;
    c->revoke_grace_ms = settings->revoke_grace_ms;
    c->window = settings->window;
    loop_timer_init(&c->grace_timer, consumer_let_go, c);
    loop_timer_init(&c->store_timer, on_store_timer, c);
    if (start_client(c, settings, err)) {
        consumer_fetch_init(c);
        if (subscribe(c, err))
            return c;
    }
    consumer_destroy(c);
    return NULL;
}

static struct partition *current(struct consumer *c, int32_t id, uint64_t generation)
{
    struct partition *p = consumer_find(c, id);

    return p && p->generation == generation ? p : NULL;
}

static void finished(struct consumer *c, const struct partition *p, bool known, int64_t offset)
{
    if (!known)
        log_error("Kafka offset was not under way", LOG_STR("topic", c->topic),
                  LOG_INT("partition", p->id), LOG_INT("offset", offset));
    if (tracker_watermark(p->tracker) != p->stored)
        store_soon(c);
    consumer_settle(c);
}

void consumer_done(struct consumer *c, int32_t partition, uint64_t generation, int64_t offset)
{
    struct partition *p = current(c, partition, generation);

    if (p)
        finished(c, p, tracker_done(p->tracker, offset), offset);
}

void consumer_abandon(struct consumer *c, int32_t partition, uint64_t generation, int64_t offset)
{
    struct partition *p = current(c, partition, generation);

    if (p)
        finished(c, p, tracker_abandon(p->tracker, offset), offset);
}

void consumer_state(const struct consumer *c, struct consumer_state *out)
{
    *out = (struct consumer_state){.up = c->client.up,
                                   .assigned = (unsigned)c->partitions_len,
                                   .consumed = c->consumed,
                                   .rebalances = c->rebalances};
    snprintf(out->error, sizeof(out->error), "%s", c->client.up ? c->trouble : c->client.error);
}

/* From the watermark, or where nothing was taken yet from where the group stands, to the end as of
 * the last fetch. */
static int64_t lag(const struct consumer *c, const struct partition *p, int64_t watermark)
{
    int64_t low = -1, high = -1, from = watermark >= 0 ? watermark : p->committed;

    if (rd_kafka_get_watermark_offsets(c->client.rk, c->topic, p->id, &low, &high) != 0 || high < 0)
        return -1;
    if (from < 0)
        from = low;
    if (from < 0)
        return -1;
    return high > from ? high - from : 0;
}

size_t consumer_partitions(const struct consumer *c, struct partition_state *out, size_t max)
{
    for (size_t i = 0; i < c->partitions_len && i < max; i++) {
        const struct partition *p = c->partitions[i];
        int64_t watermark = tracker_watermark(p->tracker);
        out[i] = (struct partition_state){.partition = p->id,
                                          .lag = lag(c, p, watermark),
                                          .watermark = watermark,
                                          .under_way = tracker_under_way(p->tracker)};
    }
    return c->partitions_len;
}

void consumer_stop_taking(struct consumer *c)
{
    c->stopped = true;
    loop_undefer(c->loop, &c->pump_task);
}

void consumer_close(struct consumer *c)
{
    rd_kafka_error_t *error;

    if (c->closing)
        return;
    consumer_stop_taking(c);
    c->closing = true;
    consumer_store_watermarks(c);
    error = rd_kafka_consumer_close_queue(c->client.rk, c->client.queue);
    if (!error) {
        kafka_client_hurry(&c->client, CLOSING_LOOK_MS);
        return;
    }
    /* After a fatal error there is no group to leave. */
    log_warn("Leaving the Kafka group failed", LOG_STR("error", rd_kafka_error_string(error)));
    rd_kafka_error_destroy(error);
    c->closed = true;
    loop_defer(c->loop, &c->closed_task, run_closed, c);
}

void consumer_destroy(struct consumer *c)
{
    if (!c)
        return;
    loop_timer_stop(c->loop, &c->grace_timer);
    loop_timer_stop(c->loop, &c->store_timer);
    consumer_fetch_cleanup(c);
    loop_undefer(c->loop, &c->pump_task);
    loop_undefer(c->loop, &c->settle_task);
    loop_undefer(c->loop, &c->closed_task);
    /* Whatever holds a partition keeps librdkafka from ending. */
    consumer_drop_all(c);
    kafka_client_cleanup(&c->client, DESTROY_MS);
    free(c->partitions);
    free(c->headers);
    free(c->topic);
    free(c);
}
