#include "kafka/consumer_internal.h"

#include <stdlib.h>

#include <librdkafka/rdkafka.h>

#include "base/log.h"

enum {
    TURN = 16,          /* records of one partition before the next has its turn */
    TICK_RECORDS = 512, /* records in one tick of the loop, and their bytes */
    TICK_BYTES = 2 * 1024 * 1024,
    LEAST_SHARE = 16, /* of the window, for a partition */
};

static bool read_headers(struct consumer *c, const rd_kafka_message_t *message, size_t *len)
{
    rd_kafka_headers_t *headers;
    const char *name;
    const void *value;
    size_t size;

    *len = 0;
    if (rd_kafka_message_headers(message, &headers) != RD_KAFKA_RESP_ERR_NO_ERROR)
        return true;
    size = rd_kafka_header_cnt(headers);
    if (size > c->headers_cap) {
        struct record_header *grown = realloc(c->headers, size * sizeof(*grown));
        if (!grown)
            return false;
        c->headers = grown;
        c->headers_cap = size;
    }
    while (*len < c->headers_cap && rd_kafka_header_get_all(headers, *len, &name, &value, &size) ==
                                        RD_KAFKA_RESP_ERR_NO_ERROR) {
        c->headers[*len].name = slice_str(name);
        c->headers[(*len)++].value = slice_of(value, size);
    }
    return true;
}

static bool hand_over(struct consumer *c, struct partition *p, const rd_kafka_message_t *message)
{
    rd_kafka_timestamp_type_t kind;
    struct record record = {
        .topic = slice_str(c->topic),
        .partition = p->id,
        .offset = message->offset,
        .timestamp_unix_ms = rd_kafka_message_timestamp(message, &kind),
        .key = slice_of(message->key, message->key_len),
        .value = slice_of(message->payload, message->len),
    };

    if (!read_headers(c, message, &record.headers_len) ||
        !tracker_begin(p->tracker, message->offset)) {
        kafka_client_fail(&c->client, "out of memory");
        c->stopped = true;
        return false;
    }
    record.headers = c->headers;
    record.generation = p->generation;
    p->last_offset = message->offset;
    c->consumed++;
    c->callbacks.record(c->ctx, &record);
    return true;
}

/* The log was truncated under us, or the committed offset had expired: librdkafka went back as
 * auto.offset.reset says. What is under way belongs to a life of the partition that is over. */
static bool start_again(struct consumer *c, struct partition *p)
{
    const uint64_t over = p->generation;

    log_warn("Partition starts again at an earlier offset", LOG_STR("topic", c->topic),
             LOG_INT("partition", p->id), LOG_INT("offset", p->last_offset));
    if (!partition_restart(p, ++c->generation)) {
        kafka_client_fail(&c->client, "out of memory");
        c->stopped = true;
        return false;
    }
    c->callbacks.revoking(c->ctx, p->id, over, true);
    return true;
}

static void on_message_error(struct consumer *c, const rd_kafka_message_t *message)
{
    if (message->err == RD_KAFKA_RESP_ERR__PARTITION_EOF)
        return;
    consumer_trouble(c, rd_kafka_message_errstr(message));
}

static bool has_share(const struct consumer *c, const struct partition *p)
{
    size_t share = c->window / c->partitions_len;

    if (share < LEAST_SHARE)
        share = LEAST_SHARE;
    return c->window == 0 || tracker_under_way(p->tracker) < share;
}

/* Up to TURN messages of one partition; how many there were. */
static size_t take_turn(struct consumer *c, struct partition *p, size_t *bytes)
{
    const rd_kafka_message_t *message;
    size_t taken = 0;

    while (taken < TURN && !c->stopped && !p->leaving && has_share(c, p) &&
           c->callbacks.room(c->ctx) > 0 && (message = partition_peek(p))) {
        taken++;
        *bytes += message->len;
        if (message->err)
            on_message_error(c, message);
        else if (message->offset <= p->last_offset && !start_again(c, p))
            return taken;
        else if (!hand_over(c, p, message))
            return taken;
        partition_shift(p);
    }
    return taken;
}

/* Turn by turn until nobody has anything, or the window is full, or the rest of the loop has waited
 * long enough. */
void consumer_take(struct consumer *c)
{
    size_t taken = 0, bytes = 0, idle = 0;

    while (!c->stopped && idle < c->partitions_len && taken < TICK_RECORDS && bytes < TICK_BYTES) {
        struct partition *p = c->partitions[c->turn++ % c->partitions_len];
        size_t n = take_turn(c, p, &bytes);
        idle = n ? 0 : idle + 1;
        taken += n;
    }
    if (taken)
        consumer_fetch_soon(c);
    if (taken >= TICK_RECORDS || bytes >= TICK_BYTES)
        consumer_pump(c);
}

static void run_pump(void *ctx)
{
    consumer_take(ctx);
}

void consumer_pump(struct consumer *c)
{
    if (!c->stopped)
        loop_defer(c->loop, &c->pump_task, run_pump, c);
}
