#include "producer/kafka_path.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <librdkafka/rdkafka.h>

#include "base/log.h"
#include "kafka/kafka_client.h"

enum {
    DESTROY_MS = 2000,
    RESTART_MS = 1000, /* after a fatal error of librdkafka's */
    MIN_TIMEOUT_MS = 100,
    MAX_QUEUE = 10000000 /* librdkafka's own bound */
};

struct kafka_path {
    struct loop *loop;
    struct kafka_path_settings settings;
    kafka_path_fn fn;
    void *ctx;
    struct kafka_client client;
    rd_kafka_topic_t *handle; /* makes librdkafka know the topic before the first event needs it */
    atomic_size_t under_way;  /* without their reports */
    atomic_size_t within;     /* threads that are publishing */
    atomic_bool usable;
    struct loop_timer restart_timer;
};

/* ---- delivery reports ---- */

static enum kafka_path_result result_of(const rd_kafka_message_t *message)
{
    const rd_kafka_msg_status_t status = rd_kafka_message_status(message);

    if (!message->err || status == RD_KAFKA_MSG_STATUS_PERSISTED)
        return KAFKA_PATH_DONE;
    return status == RD_KAFKA_MSG_STATUS_NOT_PERSISTED ? KAFKA_PATH_NOT_TAKEN
                                                       : KAFKA_PATH_PERHAPS_TAKEN;
}

static const char *why(rd_kafka_resp_err_t code)
{
    switch (code) {
    case RD_KAFKA_RESP_ERR__MSG_TIMED_OUT: return "Kafka did not acknowledge it in time";
    case RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC:
    case RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART: return "the topic does not exist";
    case RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE:
        return "it, or the batch that it went in, is larger than the topic's max.message.bytes "
               "(see KAFKA_CONFIG_BATCH_SIZE)";
    case RD_KAFKA_RESP_ERR__PURGE_QUEUE:
    case RD_KAFKA_RESP_ERR__PURGE_INFLIGHT: return "given up before Kafka acknowledged it";
    default: return rd_kafka_err2str(code);
    }
}

static void on_report(struct kafka_path *p, const rd_kafka_message_t *message)
{
    const struct kafka_path_report report = {.result = result_of(message),
                                             .error = message->err ? why(message->err) : "",
                                             .value = slice_of(message->payload, message->len),
                                             .partition = message->partition,
                                             .offset = message->offset};

    p->under_way--;
    p->fn(p->ctx, message->_private, &report);
}

static void on_event(void *ctx, rd_kafka_event_t *event)
{
    struct kafka_path *p = ctx;
    const rd_kafka_message_t *message;

    switch (rd_kafka_event_type(event)) {
    case RD_KAFKA_EVENT_DR:
        while ((message = rd_kafka_event_message_next(event)))
            on_report(p, message);
        break;
    case RD_KAFKA_EVENT_ERROR:
        log_warn("Kafka producer is in trouble", LOG_STR("topic", p->settings.topic),
                 LOG_STR("error", rd_kafka_event_error_string(event)));
        break;
    default: break;
    }
}

static void on_drained(void *ctx)
{
    (void)ctx;
}

void kafka_path_give_up(struct kafka_path *p)
{
    if (p->client.rk)
        rd_kafka_purge(p->client.rk, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT |
                                         RD_KAFKA_PURGE_F_NON_BLOCKING);
}

/* An idempotent producer that lost its sequence is of no more use, but a new one is. */
static void on_fatal(void *ctx, const char *reason)
{
    struct kafka_path *p = ctx;

    log_error("Kafka producer failed, a new one is made", LOG_STR("error", reason));
    p->usable = false;
    kafka_path_give_up(p);
    loop_timer_start(p->loop, &p->restart_timer, RESTART_MS);
}

/* ---- start and end ---- */

static const struct kafka_client_hooks hooks = {
    .event = on_event, .drained = on_drained, .fatal = on_fatal};

static rd_kafka_conf_t *new_conf(const struct kafka_path *p, struct error *err)
{
    const struct kafka_path_settings *s = &p->settings;
    char timeout[24], queue[24];
    const struct kafka_property ours[] = {
        {"acks", "all"},
        /* Half of what a topic takes by default, so that no batch is refused as a whole; an event
         * that is larger goes alone. */
        {"batch.size", "524288"},
        {"delivery.report.only.error", "false"},
        {"delivery.timeout.ms", timeout},
        {"enable.idempotence", "true"},
        {"linger.ms", "5"},
        {"message.max.bytes", "67108864"}, /* so that the broker decides */
        {"partitioner", "murmur2_random"}, /* as Java's: a key's partition is the same for all */
        {"queue.buffering.max.kbytes", "2097151"}, /* our own queue is the one that is bounded */
        {"queue.buffering.max.messages", queue},
    };

    snprintf(timeout, sizeof(timeout), "%" PRIu64,
             s->timeout_ms < MIN_TIMEOUT_MS ? MIN_TIMEOUT_MS : s->timeout_ms);
    /* librdkafka counts an event until all the reports that came along with its own are done with.
     * By then as many may have been published again. */
    snprintf(queue, sizeof(queue), "%zu",
             s->max_events < MAX_QUEUE / 2 ? 2 * s->max_events + 1 : (size_t)MAX_QUEUE);
    return kafka_conf_new(&s->kafka, ours, sizeof(ours) / sizeof(*ours), err);
}

static bool start(struct kafka_path *p, struct error *err)
{
    rd_kafka_conf_t *conf = new_conf(p, err);

    if (!conf || !kafka_client_start(&p->client, p->loop, KAFKA_CLIENT_PRODUCER, conf,
                                     RD_KAFKA_EVENT_DR, &hooks, p, err))
        return false;
    p->handle = rd_kafka_topic_new(p->client.rk, p->settings.topic, NULL);
    if (!p->handle)
        return error_set(err, "topic '%s': %s", p->settings.topic,
                         rd_kafka_err2str(rd_kafka_last_error()));
    p->usable = true;
    return true;
}

static void stop(struct kafka_path *p)
{
    p->usable = false;
    if (p->handle)
        rd_kafka_topic_destroy(p->handle);
    p->handle = NULL;
    kafka_client_cleanup(&p->client, DESTROY_MS);
}

static void on_restart_timer(void *ctx)
{
    struct kafka_path *p = ctx;
    struct error err = {0};

    if (p->within == 0 && p->under_way == 0) {
        stop(p);
        if (start(p, &err))
            return;
        stop(p);
        log_error("Kafka producer cannot be made", LOG_STR("error", err.text));
    } else {
        kafka_path_give_up(p); /* what a thread that was within has published since */
    }
    loop_timer_start(p->loop, &p->restart_timer, RESTART_MS);
}

struct kafka_path *kafka_path_new(struct loop *loop, const struct kafka_path_settings *settings,
                                  kafka_path_fn fn, void *ctx, struct error *err)
{
    struct kafka_path *p = calloc(1, sizeof(*p));

    if (!p) {
        error_set(err, "out of memory");
        return NULL;
    }
    p->loop = loop;
    p->settings = *settings;
    p->fn = fn;
    p->ctx = ctx;
    loop_timer_init(&p->restart_timer, on_restart_timer, p);
    if (start(p, err))
        return p;
    kafka_path_destroy(p);
    return NULL;
}

void kafka_path_destroy(struct kafka_path *p)
{
    if (!p)
        return;
    loop_timer_stop(p->loop, &p->restart_timer);
    kafka_path_give_up(p);
    stop(p);
    free(p);
}

/* ---- publishing ---- */

/* Whoever finds it usable has made itself seen before, and whoever makes it unusable looks for such
 * threads afterwards. */
bool kafka_path_enter(struct kafka_path *p)
{
    p->within++;
    if (p->usable)
        return true;
    p->within--;
    return false;
}

void kafka_path_leave(struct kafka_path *p)
{
    p->within--;
}

void kafka_path_wait_left(struct kafka_path *p)
{
    const struct timespec a_while = {.tv_nsec = 100000};

    while (p->within > 0)
        nanosleep(&a_while, NULL);
}

bool kafka_path_publish(struct kafka_path *p, struct slice key, struct slice value, void *event,
                        struct error *err)
{
    p->under_way++; /* before its report can come */
    if (rd_kafka_produce(p->handle, RD_KAFKA_PARTITION_UA, RD_KAFKA_MSG_F_COPY,
                         (void *)(uintptr_t)value.ptr, value.len, key.ptr, key.len, event) == 0)
        return true;
    p->under_way--;
    return error_set(err, "%s", why(rd_kafka_last_error()));
}
