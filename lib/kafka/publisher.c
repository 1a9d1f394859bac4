#include "kafka/publisher.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <librdkafka/rdkafka.h>

#include "base/clock.h"
#include "kafka/kafka_client.h"

enum { DESTROY_MS = 2000, FULL_WAIT_MS = 100, FLUSH_GRACE_MS = 2000 };

struct publisher {
    rd_kafka_t *rk;
    char *topic;
    int timeout_ms;
    publisher_fn outcome;
    void *ctx;
    uint64_t under_way;
    char trouble[200]; /* why the last connection failed */
};

static void on_error(rd_kafka_t *rk, int code, const char *reason, void *opaque)
{
    struct publisher *p = opaque;

    (void)rk;
    if (code != RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN) /* which tells no cause */
        snprintf(p->trouble, sizeof(p->trouble), "%s", reason);
}

static void on_report(rd_kafka_t *rk, const rd_kafka_message_t *message, void *opaque)
{
    struct publisher *p = opaque;
    char text[320] = "";

    (void)rk;
    p->under_way--;
    if (message->err == RD_KAFKA_RESP_ERR__MSG_TIMED_OUT && *p->trouble)
        snprintf(text, sizeof(text), "not acknowledged in time: %s", p->trouble);
    else if (message->err)
        snprintf(text, sizeof(text), "%s", rd_kafka_err2str(message->err));
    p->outcome(p->ctx, (uint64_t)(uintptr_t)message->_private, text);
}

/* ---- opening ---- */

static bool topic_there(struct publisher *p, const char *brokers, struct error *err)
{
    rd_kafka_topic_t *handle = rd_kafka_topic_new(p->rk, p->topic, NULL);
    const struct rd_kafka_metadata *metadata;
    rd_kafka_resp_err_t code;
    bool found = false;

    if (!handle)
        return error_set(err, "topic %s: %s", p->topic, rd_kafka_err2str(rd_kafka_last_error()));
    code = rd_kafka_metadata(p->rk, 0, handle, &metadata, p->timeout_ms);
    rd_kafka_topic_destroy(handle);
    rd_kafka_poll(p->rk, 0); /* for on_error */
    if (code)
        return error_set(err, "no broker of %s answered: %s", brokers,
                         *p->trouble ? p->trouble : rd_kafka_err2str(code));
    code = metadata->topic_cnt == 1 ? metadata->topics[0].err
                                    : RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART;
    found = !code && metadata->topics[0].partition_cnt > 0;
    if (!found)
        error_set(err, "topic %s: %s", p->topic,
                  code == RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART || !code
                      ? "does not exist (create-topics creates it)"
                      : rd_kafka_err2str(code));
    rd_kafka_metadata_destroy(metadata);
    return found;
}

static bool start(struct publisher *p, const struct kafka_settings *kafka, struct error *err)
{
    char timeout_text[16], text[256];
    const struct kafka_property ours[] = {
        {"acks", "all"},
        {"enable.idempotence", "true"},
        {"delivery.timeout.ms", timeout_text},
        {"linger.ms", "5"},
        {"message.max.bytes", "67108864"}, /* so that the broker decides */
        /* The same partition for a key as Java's producer chooses. */
        {"partitioner", "murmur2_random"},
        {"statistics.interval.ms", "0"},
    };
    rd_kafka_conf_t *conf;

    snprintf(timeout_text, sizeof(timeout_text), "%d", p->timeout_ms);
    conf = kafka_conf_new(kafka, ours, sizeof(ours) / sizeof(*ours), err);
    if (!conf)
        return false;
    rd_kafka_conf_set_opaque(conf, p);
    rd_kafka_conf_set_error_cb(conf, on_error);
    rd_kafka_conf_set_dr_msg_cb(conf, on_report);
    p->rk = rd_kafka_new(RD_KAFKA_PRODUCER, conf, text, sizeof(text));
    if (!p->rk) {
        rd_kafka_conf_destroy(conf);
        return error_set(err, "Kafka client: %s", text);
    }
    /* Fails only where the configuration asks for no such thing. */
    rd_kafka_error_destroy(rd_kafka_sasl_background_callbacks_enable(p->rk));
    return topic_there(p, kafka->brokers, err);
}

struct publisher *publisher_open(const struct kafka_settings *kafka, const char *topic,
                                 int timeout_ms, publisher_fn outcome, void *ctx, struct error *err)
{
    struct publisher *p = calloc(1, sizeof(*p));

    if (!p || !(p->topic = strdup(topic))) {
        error_set(err, "out of memory");
        publisher_close(p);
        return NULL;
    }
    p->timeout_ms = timeout_ms;
    p->outcome = outcome;
    p->ctx = ctx;
    if (start(p, kafka, err))
        return p;
    publisher_close(p);
    return NULL;
}

/* ---- sending ---- */

static rd_kafka_headers_t *to_headers(const struct record *record)
{
    rd_kafka_headers_t *headers = rd_kafka_headers_new(record->headers_len);

    for (size_t i = 0; i < record->headers_len; i++) {
        const struct record_header *h = &record->headers[i];
        if (rd_kafka_header_add(headers, h->name.ptr, (ssize_t)h->name.len, h->value.ptr,
                                (ssize_t)h->value.len) != RD_KAFKA_RESP_ERR_NO_ERROR) {
            rd_kafka_headers_destroy(headers);
            return NULL;
        }
    }
    return headers;
}

static rd_kafka_resp_err_t produce(struct publisher *p, const struct record *record, uint64_t tag)
{
    rd_kafka_headers_t *headers = to_headers(record);
    rd_kafka_resp_err_t code;

    if (!headers)
        return RD_KAFKA_RESP_ERR__FAIL;
    /* Everything is copied, as RD_KAFKA_MSG_F_COPY says; the headers are taken over on success. */
    code = rd_kafka_producev(
        p->rk, RD_KAFKA_V_TOPIC(p->topic), RD_KAFKA_V_KEY(record->key.ptr, record->key.len),
        RD_KAFKA_V_VALUE((void *)(uintptr_t)record->value.ptr, record->value.len),
        RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY), RD_KAFKA_V_HEADERS(headers),
        RD_KAFKA_V_OPAQUE((void *)(uintptr_t)tag), RD_KAFKA_V_END);
    if (code)
        rd_kafka_headers_destroy(headers);
    return code;
}

bool publisher_send(struct publisher *p, const struct record *record, uint64_t tag,
                    struct error *err)
{
    rd_kafka_resp_err_t code;

    /* A full queue empties at the latest when its records time out. */
    while ((code = produce(p, record, tag)) == RD_KAFKA_RESP_ERR__QUEUE_FULL)
        rd_kafka_poll(p->rk, FULL_WAIT_MS);
    if (code)
        return error_set(err, "%s", rd_kafka_err2str(code));
    p->under_way++;
    rd_kafka_poll(p->rk, 0);
    return true;
}

void publisher_poll(struct publisher *p, int wait_ms)
{
    rd_kafka_poll(p->rk, wait_ms);
}

void publisher_flush(struct publisher *p)
{
    const uint64_t end_ms = clock_monotonic_ms() + (uint64_t)p->timeout_ms + FLUSH_GRACE_MS;

    while (p->under_way && clock_monotonic_ms() < end_ms)
        rd_kafka_flush(p->rk, FULL_WAIT_MS);
    if (!p->under_way)
        return;
    /* Purged records are told as failed. */
    rd_kafka_purge(p->rk, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT);
    rd_kafka_flush(p->rk, FLUSH_GRACE_MS);
}

void publisher_close(struct publisher *p)
{
    if (!p)
        return;
    if (p->rk)
        rd_kafka_purge(p->rk, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT);
    kafka_handle_destroy(p->rk, DESTROY_MS);
    free(p->topic);
    free(p);
}
