/* Publishes events of the size of a verification mail (2.2 kB), by the producer library or by
 * librdkafka itself with the same properties, and says how fast they were acknowledged:
 *
 *   bench_publish lib|raw BROKERS TOPIC COUNT [RATE]
 *
 * RATE: events a second, evenly; without it as fast as they are taken. One JSON object on stdout.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include <librdkafka/rdkafka.h>

#include "base/buf.h"
#include "base/clock.h"
#include "producer/email_producer.h"

enum { TEXT_REPEATS = 8, HTML_REPEATS = 18, UNDER_WAY = 10000 };

struct slot {
    uint64_t begun_us, took_us;
};

static struct {
    struct slot *slots;
    size_t count, acknowledged, failed;
} the_run;

static void over(size_t i, bool good)
{
    struct slot *slot = &the_run.slots[i];

    slot->took_us = clock_monotonic_us() - slot->begun_us;
    __atomic_add_fetch(good ? &the_run.acknowledged : &the_run.failed, 1, __ATOMIC_RELAXED);
}

static size_t ended(void)
{
    return __atomic_load_n(&the_run.acknowledged, __ATOMIC_RELAXED) +
           __atomic_load_n(&the_run.failed, __ATOMIC_RELAXED);
}

/* One JSON object; the same text for both ways. */
static void write_event(struct buf *json, size_t i)
{
    buf_clear(json);
    buf_addf(
        json,
        "{\"messageID\":\"bench-%d-%zu\",\"type\":\"verification_code\","
        "\"to\":\"user%zu@example.com\",\"subject\":\"Your verification code %06zu\",\"text\":\"",
        (int)getpid(), i, i, i % 1000000);
    for (int n = 0; n < TEXT_REPEATS; n++)
        buf_add_str(json,
                    "Your code is below. If you didn\xe2\x80\x99t ask for it, ignore this.\\n");
    buf_add_str(json, "\",\"html\":\"");
    for (int n = 0; n < HTML_REPEATS; n++)
        buf_add_str(
            json, "<p class=\\\"code\\\">Enter it on the sign-in page, near Z\xc3\xbcrich.</p>\\n");
    buf_add_str(json, "\"}");
}

/* ---- by the library ---- */

static void on_outcome(const email_outcome *outcome, void *context)
{
    over((size_t)(uintptr_t)context, outcome->result == EMAIL_PUBLISHED);
}

static email_producer *producer;

static bool begin_library(const char *brokers, const char *topic)
{
    char broker_setting[256], topic_setting[300], error[EMAIL_PRODUCER_ERROR_SIZE];
    const char *settings[] = {broker_setting, topic_setting, NULL};
    email_producer_options options = {
        .struct_size = sizeof(options), .settings = settings, .ignore_environment = 1};

    snprintf(broker_setting, sizeof(broker_setting), "KAFKA_BROKERS=%s", brokers);
    snprintf(topic_setting, sizeof(topic_setting), "KAFKA_TOPIC_EMAIL_EVENTS=%s", topic);
    producer = email_producer_new(&options, error, sizeof(error));
    if (!producer)
        fprintf(stderr, "%s\n", error);
    return producer != NULL;
}

static bool send_by_library(size_t i, struct slice json)
{
    return email_producer_send_json(producer, json.ptr, json.len, NULL, on_outcome,
                                    (void *)(uintptr_t)i, NULL, 0) == EMAIL_QUEUED;
}

/* ---- by librdkafka itself ---- */

static rd_kafka_t *raw;
static const char *raw_topic;

static void on_report(rd_kafka_t *rk, const rd_kafka_message_t *message, void *opaque)
{
    (void)rk;
    (void)opaque;
    over((size_t)(uintptr_t)message->_private, !message->err);
}

static bool begin_raw(const char *brokers, const char *topic)
{
    static const char *const properties[][2] = {{"enable.idempotence", "true"},
                                                {"acks", "all"},
                                                {"socket.nagle.disable", "true"},
                                                {"queue.buffering.max.messages", "100000"}};
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    char text[256];

    for (size_t i = 0; i < sizeof(properties) / sizeof(*properties); i++)
        rd_kafka_conf_set(conf, properties[i][0], properties[i][1], NULL, 0);
    rd_kafka_conf_set(conf, "bootstrap.servers", brokers, NULL, 0);
    rd_kafka_conf_set_dr_msg_cb(conf, on_report);
    raw = rd_kafka_new(RD_KAFKA_PRODUCER, conf, text, sizeof(text));
    if (!raw)
        fprintf(stderr, "%s\n", text);
    raw_topic = topic;
    return raw != NULL;
}

static bool send_raw(size_t i, struct slice json)
{
    char key[40];
    const int len = snprintf(key, sizeof(key), "user%zu@example.com", i);

    rd_kafka_poll(raw, 0);
    return rd_kafka_producev(raw, RD_KAFKA_V_TOPIC(raw_topic), RD_KAFKA_V_KEY(key, (size_t)len),
                             RD_KAFKA_V_VALUE((void *)json.ptr, json.len),
                             RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY),
                             RD_KAFKA_V_OPAQUE((void *)(uintptr_t)i),
                             RD_KAFKA_V_END) == RD_KAFKA_RESP_ERR_NO_ERROR;
}

/* ---- the run ---- */

static void sleep_us(uint64_t us)
{
    const struct timespec t = {(time_t)(us / 1000000), (long)(us % 1000000) * 1000};

    nanosleep(&t, NULL);
}

static void pause_until(uint64_t when_us)
{
    for (uint64_t now_us; (now_us = clock_monotonic_us()) < when_us;) {
        if (raw)
            rd_kafka_poll(raw, 0);
        sleep_us(when_us - now_us < 1000 ? when_us - now_us : 1000);
    }
}

static void send_all(bool library, uint64_t rate)
{
    const uint64_t start_us = clock_monotonic_us();
    struct buf json = {0};

    for (size_t i = 0; i < the_run.count; i++) {
        write_event(&json, i);
        if (rate)
            pause_until(start_us + i * 1000000 / rate);
        while (i - ended() >= UNDER_WAY)
            pause_until(clock_monotonic_us() + 200);
        the_run.slots[i].begun_us = clock_monotonic_us();
        while (!(library ? send_by_library : send_raw)(i, buf_slice(&json)))
            pause_until(clock_monotonic_us() + 200);
    }
    if (library)
        (void)email_producer_flush(producer, 120000);
    else
        rd_kafka_flush(raw, 120000);
    buf_cleanup(&json);
}

static int by_duration(const void *a, const void *b)
{
    const uint64_t x = ((const struct slot *)a)->took_us, y = ((const struct slot *)b)->took_us;

    return (x > y) - (x < y);
}

static void report(uint64_t wall_us)
{
    struct rusage usage;
    double cpu_us;

    getrusage(RUSAGE_SELF, &usage);
    cpu_us = (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1e6 +
             (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
    qsort(the_run.slots, the_run.count, sizeof(*the_run.slots), by_duration);
    printf("{\"events\":%zu,\"failed\":%zu,\"rate\":%.0f,\"cpu_us\":%.2f,\"p50_ms\":%.2f,"
           "\"p99_ms\":%.2f}\n",
           the_run.acknowledged, the_run.failed,
           (double)the_run.acknowledged / ((double)wall_us / 1e6), cpu_us / (double)the_run.count,
           (double)the_run.slots[the_run.count / 2].took_us / 1e3,
           (double)the_run.slots[the_run.count * 99 / 100].took_us / 1e3);
}

int main(int argc, char **argv)
{
    const bool library = argc > 1 && strcmp(argv[1], "lib") == 0;
    uint64_t start_us;

    if (argc < 5 || (!library && strcmp(argv[1], "raw") != 0) || atol(argv[4]) < 1) {
        fprintf(stderr, "usage: bench_publish lib|raw BROKERS TOPIC COUNT [RATE]\n");
        return 2;
    }
    the_run.count = (size_t)atol(argv[4]);
    the_run.slots = calloc(the_run.count, sizeof(*the_run.slots));
    if (!the_run.slots || !(library ? begin_library : begin_raw)(argv[2], argv[3]))
        return 1;
    start_us = clock_monotonic_us();
    send_all(library, argc > 5 ? strtoul(argv[5], NULL, 10) : 0);
    report(clock_monotonic_us() - start_us);
    email_producer_destroy(producer, 1000);
    if (raw)
        rd_kafka_destroy(raw);
    free(the_run.slots);
    return the_run.acknowledged == the_run.count ? 0 : 1;
}
