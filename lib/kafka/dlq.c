#include "kafka/dead_letter.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <librdkafka/rdkafka.h>

#include "base/clock.h"
#include "base/log.h"
#include "kafka/dlq_parcel.h"
#include "kafka/kafka_client.h"

enum { FLUSH_MS = 1000, DESTROY_MS = 2000 };

/* A dead letter under way: produced, or failed at once and waiting for its callback. */
struct letter {
    struct letter *previous, *next;
    struct dlq *dlq;
    dlq_fn fn;
    void *ctx;
    bool failed;
    char error[128];
    struct dlq_cut cut;        /* what had to be left out so far */
    int64_t record_unix_ms;    /* the original's time */
    int64_t timestamp_unix_ms; /* 0: now, by librdkafka */
};

struct dlq {
    struct kafka_client client;
    struct loop *loop;
    char *topic;
    rd_kafka_topic_t *handle; /* makes librdkafka know the topic before the first letter needs it */
    void (*fatal)(void *ctx, const char *reason);
    void *ctx;
    struct letter under_way; /* list head */
    uint64_t waiting;
    struct loop_task failed_task;
    char trouble[160]; /* why the last letter was not acknowledged; "" after one was */
};

/* ---- letters ---- */

static struct letter *letter_new(struct dlq *d, dlq_fn fn, void *ctx)
{
    struct letter *letter = calloc(1, sizeof(*letter));

    if (!letter)
        return NULL;
    letter->dlq = d;
    letter->fn = fn;
    letter->ctx = ctx;
    letter->previous = d->under_way.previous;
    letter->next = &d->under_way;
    letter->previous->next = letter->next->previous = letter;
    d->waiting++;
    return letter;
}

static void letter_free(struct letter *letter)
{
    letter->previous->next = letter->next;
    letter->next->previous = letter->previous;
    letter->dlq->waiting--;
    free(letter);
}

static void letter_end(struct letter *letter, bool acknowledged, const char *error)
{
    struct dlq *d = letter->dlq;
    const dlq_fn fn = letter->fn;
    void *ctx = letter->ctx;
    char text[128];

    snprintf(text, sizeof(text), "%s", error);
    snprintf(d->trouble, sizeof(d->trouble), "%s", text);
    letter_free(letter);
    fn(ctx, acknowledged, text);
}

static void run_failed(void *ctx)
{
    struct dlq *d = ctx;
    struct letter *next;

    /* A callback may produce again, which may fail again: those wait for the next task. */
    for (struct letter *l = d->under_way.next, *last = d->under_way.previous; l != &d->under_way;
         l = next) {
        const bool end = l == last;
        next = l->next;
        if (l->failed)
            letter_end(l, false, l->error);
        if (end)
            break;
    }
}

static void fail_later(struct letter *letter, const char *error)
{
    letter->failed = true;
    snprintf(letter->error, sizeof(letter->error), "%s", error);
    loop_defer(letter->dlq->loop, &letter->dlq->failed_task, run_failed, letter->dlq);
}

/* ---- producing ---- */

static rd_kafka_headers_t *to_rd_headers(const struct dlq_parcel *parcel)
{
    rd_kafka_headers_t *headers = rd_kafka_headers_new(parcel->headers_len);

    for (size_t i = 0; i < parcel->headers_len; i++) {
        const struct record_header *h = &parcel->headers[i];
        if (rd_kafka_header_add(headers, h->name.ptr, (ssize_t)h->name.len, h->value.ptr,
                                (ssize_t)h->value.len) != RD_KAFKA_RESP_ERR_NO_ERROR) {
            rd_kafka_headers_destroy(headers);
            return NULL;
        }
    }
    return headers;
}

static rd_kafka_resp_err_t produce(struct letter *letter, const struct dlq_parcel *parcel)
{
    rd_kafka_headers_t *headers = to_rd_headers(parcel);
    rd_kafka_resp_err_t code;

    if (!headers)
        return RD_KAFKA_RESP_ERR__FAIL;
    /* Everything is copied, as RD_KAFKA_MSG_F_COPY says; the headers are taken over on success. */
    code = rd_kafka_producev(
        letter->dlq->client.rk, RD_KAFKA_V_TOPIC(letter->dlq->topic),
        RD_KAFKA_V_KEY(parcel->key.ptr, parcel->key.len),
        RD_KAFKA_V_VALUE((void *)(uintptr_t)parcel->value.ptr, parcel->value.len),
        RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY), RD_KAFKA_V_HEADERS(headers),
        RD_KAFKA_V_TIMESTAMP(letter->timestamp_unix_ms), RD_KAFKA_V_OPAQUE(letter), RD_KAFKA_V_END);
    if (code)
        rd_kafka_headers_destroy(headers);
    return code;
}

static const char *reason_of(const struct dlq *d, rd_kafka_resp_err_t code, char *text, size_t size)
{
    if (code == RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC || code == RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART)
        snprintf(text, size, "topic '%s' does not exist", d->topic);
    else
        snprintf(text, size, "%s", rd_kafka_err2str(code));
    return text;
}

static bool too_large(rd_kafka_resp_err_t code)
{
    return code == RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE ||
           code == RD_KAFKA_RESP_ERR_RECORD_LIST_TOO_LARGE;
}

/* Produces the parcel, ever smaller where librdkafka itself finds it too large. */
static void send_parcel(struct letter *letter, struct arena *arena, struct dlq_parcel *parcel)
{
    rd_kafka_resp_err_t code = produce(letter, parcel);
    char text[128];

    while (too_large(code) && dlq_parcel_cut(arena, parcel, &letter->cut))
        code = produce(letter, parcel);
    if (code)
        fail_later(letter, reason_of(letter->dlq, code, text, sizeof(text)));
}

void dlq_produce(struct dlq *d, const struct dead_letter *dead, dlq_fn fn, void *ctx)
{
    struct dlq_parcel parcel = {.key = dead->record->key, .value = dead->record->value};
    struct letter *letter = letter_new(d, fn, ctx);
    struct arena arena;

    if (!letter) {
        /* Without memory even for the callback the caller could never learn of it. */
        kafka_client_fail(&d->client, "out of memory");
        return;
    }
    letter->record_unix_ms = dead->record->timestamp_unix_ms;
    arena_init(&arena);
    if (dead_letter_headers(&arena, dead, &parcel.headers, &parcel.headers_len))
        send_parcel(letter, &arena, &parcel);
    else
        fail_later(letter, "out of memory");
    arena_cleanup(&arena);
}

/* ---- delivery reports ---- */

static bool headers_of(struct arena *arena, const rd_kafka_message_t *message,
                       struct dlq_parcel *parcel)
{
    struct record_header *copy;
    rd_kafka_headers_t *headers;
    const char *name;
    const void *value;
    size_t size;

    if (rd_kafka_message_headers(message, &headers) != RD_KAFKA_RESP_ERR_NO_ERROR)
        return true;
    copy = arena_alloc(arena, rd_kafka_header_cnt(headers) * sizeof(*copy));
    if (!copy)
        return false;
    parcel->headers = copy;
    while (rd_kafka_header_get_all(headers, parcel->headers_len, &name, &value, &size) ==
           RD_KAFKA_RESP_ERR_NO_ERROR)
        copy[parcel->headers_len++] =
            (struct record_header){slice_str(name), slice_of(value, size)};
    return true;
}

/* Produces a refused letter once more: cut, or as it was. */
static void send_again(struct letter *letter, const rd_kafka_message_t *message, bool cut)
{
    struct dlq_parcel parcel = {.key = slice_of(message->key, message->key_len),
                                .value = slice_of(message->payload, message->len)};
    struct arena arena;

    arena_init(&arena);
    if (!headers_of(&arena, message, &parcel))
        fail_later(letter, "out of memory");
    else if (!cut || dlq_parcel_cut(&arena, &parcel, &letter->cut))
        send_parcel(letter, &arena, &parcel);
    else
        fail_later(letter, "too large for the topic, even without key, value and headers");
    arena_cleanup(&arena);
}

/* A broker refuses records that are from the future by its clock: where ours is wrong, the original
 * record's time was good enough for it. */
static bool is_of_another_time(struct letter *letter, rd_kafka_resp_err_t code)
{
    if (code != RD_KAFKA_RESP_ERR_INVALID_TIMESTAMP || letter->timestamp_unix_ms != 0 ||
        letter->record_unix_ms <= 0)
        return false;
    letter->timestamp_unix_ms = letter->record_unix_ms;
    return true;
}

static void on_report(const rd_kafka_message_t *message)
{
    struct letter *letter = message->_private;
    char text[128];

    if (!message->err)
        letter_end(letter, true, "");
    else if (too_large(message->err)) /* the broker alone knows (max.message.bytes) */
        send_again(letter, message, true);
    else if (is_of_another_time(letter, message->err))
        send_again(letter, message, false);
    else
        letter_end(letter, false, reason_of(letter->dlq, message->err, text, sizeof(text)));
}

static void on_event(void *ctx, rd_kafka_event_t *event)
{
    struct dlq *d = ctx;
    const rd_kafka_message_t *message;

    switch (rd_kafka_event_type(event)) {
    case RD_KAFKA_EVENT_DR:
        while ((message = rd_kafka_event_message_next(event)))
            on_report(message);
        break;
    case RD_KAFKA_EVENT_ERROR:
        log_warn("Kafka dead-letter producer is in trouble", LOG_STR("topic", d->topic),
                 LOG_STR("error", rd_kafka_event_error_string(event)));
        break;
    default: break;
    }
}

static void on_drained(void *ctx)
{
    (void)ctx;
}

static void on_fatal(void *ctx, const char *reason)
{
    struct dlq *d = ctx;

    d->fatal(d->ctx, reason);
}

/* ---- the producer ---- */

static const struct kafka_client_hooks hooks = {
    .event = on_event, .drained = on_drained, .fatal = on_fatal};

static const struct kafka_property ours[] = {
    {"acks", "all"},
    /* One letter a request: a letter that is too large then fails alone, not with its neighbours.
     */
    {"batch.num.messages", "1"},
    {"delivery.report.only.error", "false"},
    {"delivery.timeout.ms", "30000"},
    {"enable.idempotence", "true"},
    {"linger.ms", "0"},
    {"message.max.bytes", "67108864"}, /* so that the broker decides */
};

struct dlq *dlq_new(struct loop *loop, const struct kafka_settings *kafka, const char *topic,
                    void (*fatal)(void *ctx, const char *reason), void *ctx, struct error *err)
{
    struct dlq *d = calloc(1, sizeof(*d));
    rd_kafka_conf_t *conf;

    if (!d || !(d->topic = strdup(topic))) {
        free(d);
        error_set(err, "out of memory");
        return NULL;
    }
    d->loop = loop;
    d->fatal = fatal;
    d->ctx = ctx;
    d->under_way.previous = d->under_way.next = &d->under_way;
    conf = kafka_conf_new(kafka, ours, sizeof(ours) / sizeof(*ours), err);
    if (conf && kafka_client_start(&d->client, loop, KAFKA_CLIENT_PRODUCER, conf, RD_KAFKA_EVENT_DR,
                                   &hooks, d, err)) {
        d->handle = rd_kafka_topic_new(d->client.rk, topic, NULL);
        if (d->handle)
            return d;
        error_set(err, "topic '%s': %s", topic, rd_kafka_err2str(rd_kafka_last_error()));
    }
    dlq_destroy(d);
    return NULL;
}

void dlq_state(const struct dlq *d, struct dlq_state *out)
{
    *out = (struct dlq_state){.up = d->client.up, .waiting = d->waiting};
    snprintf(out->error, sizeof(out->error), "%s", d->client.up ? d->trouble : d->client.error);
}

static void ignore_outcome(void *ctx, bool acknowledged, const char *error)
{
    (void)ctx;
    (void)acknowledged;
    (void)error;
}

/* Reports are read here, not by rd_kafka_flush(), which leaves events to the application. */
static void flush(struct dlq *d)
{
    const uint64_t deadline_ms = clock_monotonic_ms() + FLUSH_MS;

    for (uint64_t now_ms; d->waiting && (now_ms = clock_monotonic_ms()) < deadline_ms;) {
        rd_kafka_event_t *event = rd_kafka_queue_poll(d->client.queue, (int)(deadline_ms - now_ms));
        if (event && rd_kafka_event_type(event) == RD_KAFKA_EVENT_DR)
            on_event(d, event);
        rd_kafka_event_destroy(event);
    }
}

void dlq_destroy(struct dlq *d)
{
    if (!d)
        return;
    loop_undefer(d->loop, &d->failed_task);
    for (struct letter *l = d->under_way.next; l != &d->under_way; l = l->next)
        l->fn = ignore_outcome;
    if (d->handle)
        rd_kafka_topic_destroy(d->handle);
    if (d->client.rk) {
        flush(d);
        rd_kafka_purge(d->client.rk, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT |
                                         RD_KAFKA_PURGE_F_NON_BLOCKING);
    }
    kafka_client_cleanup(&d->client, DESTROY_MS);
    loop_undefer(d->loop, &d->failed_task);
    while (d->under_way.next != &d->under_way)
        letter_free(d->under_way.next);
    free(d->topic);
    free(d);
}
