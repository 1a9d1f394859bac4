/* Publishes events of the size of a verification mail (2.3 kB) and says how fast they were
 * acknowledged:
 *
 *   bench_publish lib|json|raw BROKERS TOPIC COUNT [RATE [THREADS [FILE]]]
 *
 * lib: by the producer library from a struct, of which it makes the JSON; json: by the library from
 * the JSON itself; raw: by librdkafka, given the same JSON, with the properties that matter set as
 * the library sets them. RATE: events a second in all, evenly; without it, or 0, as fast as they
 * are taken. THREADS: threads that send (1). FILE: gets a line for each event, with its number and
 * CLOCK_MONOTONIC's microseconds of the call and of the acknowledgement.
 *
 * The first event opens the connections and is not measured. Latency is from the call to the
 * acknowledgement. One JSON object on stdout. */
#include <inttypes.h>
#include <pthread.h>
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

enum { TEXT_REPEATS = 8, HTML_REPEATS = 18, UNDER_WAY = 10000, MAX_THREADS = 64 };

struct slot {
    uint64_t begun_us, took_us;
};

static struct {
    struct slot *slots;
    size_t count, threads, acknowledged, failed;
    uint64_t rate, start_us;
    bool (*send)(size_t i, struct buf *scratch);
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

/* ---- the event ---- */

static struct buf text, html, tail; /* the same in all; tail: both as JSON, to the end */

static void write_bodies(void)
{
    char now[RFC3339_SIZE];

    for (int n = 0; n < TEXT_REPEATS; n++)
        buf_add_str(&text,
                    "Your code is below. If you didn\xe2\x80\x99t ask for it, ignore this.\n");
    for (int n = 0; n < HTML_REPEATS; n++)
        buf_add_str(&html,
                    "<p class=\"code\">Enter it on the sign-in page, near Z\xc3\xbcrich.</p>\n");
    buf_add_str(&tail, "\",\"text\":\"");
    for (int n = 0; n < TEXT_REPEATS; n++)
        buf_add_str(&tail,
                    "Your code is below. If you didn\xe2\x80\x99t ask for it, ignore this.\\n");
    buf_add_str(&tail, "\",\"html\":\"");
    for (int n = 0; n < HTML_REPEATS; n++)
        buf_add_str(
            &tail,
            "<p class=\\\"code\\\">Enter it on the sign-in page, near Z\xc3\xbcrich.</p>\\n");
    rfc3339_format(clock_unix_ms(), now);
    buf_addf(&tail, "\",\"createdAt\":\"%s\"}", now);
}

struct names {
    char message_id[48], to[48], subject[48];
};

static void name(struct names *n, size_t i)
{
    snprintf(n->message_id, sizeof(n->message_id), "bench-%d-%zu", (int)getpid(), i);
    snprintf(n->to, sizeof(n->to), "user%zu@example.com", i);
    snprintf(n->subject, sizeof(n->subject), "Your verification code %06zu", i % 1000000);
}

static void write_json(struct buf *json, const struct names *n)
{
    buf_clear(json);
    buf_addf(json, "{\"messageID\":\"%s\",\"type\":\"verification_code\",\"to\":[\"%s\"],",
             n->message_id, n->to);
    buf_addf(json, "\"subject\":\"%s", n->subject);
    buf_add_slice(json, buf_slice(&tail));
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

/* True where it was taken; false: the queue is full. A refusal would be a mistake of ours. */
static bool taken(email_status status, const char *error)
{
    if (status == EMAIL_QUEUED || status == EMAIL_QUEUE_FULL)
        return status == EMAIL_QUEUED;
    fprintf(stderr, "%s\n", error);
    exit(1);
}

static bool send_struct(size_t i, struct buf *scratch)
{
    char error[EMAIL_PRODUCER_ERROR_SIZE];
    email_event event = EMAIL_EVENT_INIT;
    struct names n;

    (void)scratch;
    name(&n, i);
    event.message_id = n.message_id;
    event.type = "verification_code";
    event.to = n.to;
    event.subject = n.subject;
    event.text = text.ptr;
    event.html = html.ptr;
    return taken(email_producer_send(producer, &event, on_outcome, (void *)(uintptr_t)i, error,
                                     sizeof(error)),
                 error);
}

static bool send_json(size_t i, struct buf *scratch)
{
    char error[EMAIL_PRODUCER_ERROR_SIZE];
    struct names n;

    name(&n, i);
    write_json(scratch, &n);
    return taken(email_producer_send_json(producer, scratch->ptr, scratch->len, NULL, on_outcome,
                                          (void *)(uintptr_t)i, error, sizeof(error)),
                 error);
}

/* ---- by librdkafka itself ---- */

static rd_kafka_t *raw;
static rd_kafka_topic_t *raw_topic;
static pthread_t raw_thread;
static bool raw_over;

static void on_report(rd_kafka_t *rk, const rd_kafka_message_t *message, void *opaque)
{
    (void)rk;
    (void)opaque;
    over((size_t)(uintptr_t)message->_private, !message->err);
}

/* As the library has one: so that an acknowledgement is told when it comes. */
static void *poll_raw(void *arg)
{
    (void)arg;
    while (!__atomic_load_n(&raw_over, __ATOMIC_RELAXED))
        rd_kafka_poll(raw, 100);
    return NULL;
}

static bool begin_raw(const char *brokers, const char *topic)
{
    static const char *const properties[][2] = {{"enable.idempotence", "true"},
                                                {"acks", "all"},
                                                {"linger.ms", "5"},
                                                {"partitioner", "murmur2_random"},
                                                {"socket.nagle.disable", "true"},
                                                {"queue.buffering.max.messages", "100000"}};
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    char why[256];

    for (size_t i = 0; i < sizeof(properties) / sizeof(*properties); i++)
        rd_kafka_conf_set(conf, properties[i][0], properties[i][1], NULL, 0);
    rd_kafka_conf_set(conf, "bootstrap.servers", brokers, NULL, 0);
    rd_kafka_conf_set_dr_msg_cb(conf, on_report);
    raw = rd_kafka_new(RD_KAFKA_PRODUCER, conf, why, sizeof(why));
    if (!raw) {
        fprintf(stderr, "%s\n", why);
        return false;
    }
    raw_topic = rd_kafka_topic_new(raw, topic, NULL);
    return raw_topic && pthread_create(&raw_thread, NULL, poll_raw, NULL) == 0;
}

static bool send_raw(size_t i, struct buf *scratch)
{
    struct names n;

    name(&n, i);
    write_json(scratch, &n);
    return rd_kafka_produce(raw_topic, RD_KAFKA_PARTITION_UA, RD_KAFKA_MSG_F_COPY, scratch->ptr,
                            scratch->len, n.to, strlen(n.to), (void *)(uintptr_t)i) == 0;
}

static void end_raw(void)
{
    __atomic_store_n(&raw_over, true, __ATOMIC_RELAXED);
    pthread_join(raw_thread, NULL);
    rd_kafka_topic_destroy(raw_topic);
    rd_kafka_destroy(raw);
}

/* ---- the run ---- */

static void sleep_until(uint64_t when_us)
{
    const struct timespec t = {(time_t)(when_us / 1000000), (long)(when_us % 1000000) * 1000};

    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) != 0)
        ;
}

static void pause_us(uint64_t us)
{
    sleep_until(clock_monotonic_us() + us);
}

static void send_one(size_t i, struct buf *scratch)
{
    do
        the_run.slots[i].begun_us = clock_monotonic_us();
    while (!the_run.send(i, scratch) && (pause_us(200), true));
}

/* Every `threads`-th event; the first of all is sent already. */
static void *send_share(void *arg)
{
    const size_t share = (size_t)(uintptr_t)arg;
    struct buf scratch = {0};

    for (size_t i = 1 + share; i < the_run.count; i += the_run.threads) {
        if (the_run.rate)
            sleep_until(the_run.start_us + i * 1000000 / the_run.rate);
        while (i > ended() + UNDER_WAY)
            pause_us(200);
        send_one(i, &scratch);
    }
    buf_cleanup(&scratch);
    return NULL;
}

static void wait_ended(size_t number, uint64_t pause)
{
    while (ended() < number)
        pause_us(pause);
}

static void open_connections(void)
{
    struct buf scratch = {0};

    send_one(0, &scratch);
    wait_ended(1, 1000);
    buf_cleanup(&scratch);
}

static bool send_all(void)
{
    pthread_t threads[MAX_THREADS];

    the_run.start_us = clock_monotonic_us();
    for (size_t n = 1; n < the_run.threads; n++)
        if (pthread_create(&threads[n], NULL, send_share, (void *)(uintptr_t)n) != 0)
            return false;
    send_share(NULL);
    for (size_t n = 1; n < the_run.threads; n++)
        pthread_join(threads[n], NULL);
    wait_ended(the_run.count, 200);
    return true;
}

static bool write_instants(const char *path)
{
    FILE *file = fopen(path, "w");

    for (size_t i = 0; file && i < the_run.count; i++)
        fprintf(file, "%zu %" PRIu64 " %" PRIu64 "\n", i, the_run.slots[i].begun_us,
                the_run.slots[i].begun_us + the_run.slots[i].took_us);
    return file && fclose(file) == 0;
}

static double cpu_us(void)
{
    struct rusage usage;

    getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1e6 +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
}

static int by_duration(const void *a, const void *b)
{
    const uint64_t x = ((const struct slot *)a)->took_us, y = ((const struct slot *)b)->took_us;

    return (x > y) - (x < y);
}

static void report(uint64_t wall_us, double cpu)
{
    const size_t measured = the_run.count > 1 ? the_run.count - 1 : 1;
    struct slot *slots = the_run.slots + (the_run.count - measured);

    qsort(slots, measured, sizeof(*slots), by_duration);
    printf("{\"events\":%zu,\"failed\":%zu,\"threads\":%zu,\"rate\":%.0f,\"cpu_us\":%.2f,"
           "\"p50_ms\":%.2f,\"p99_ms\":%.2f,\"max_ms\":%.2f}\n",
           the_run.acknowledged, the_run.failed, the_run.threads,
           (double)measured / ((double)wall_us / 1e6), cpu / (double)measured,
           (double)slots[measured / 2].took_us / 1e3,
           (double)slots[measured * 99 / 100].took_us / 1e3,
           (double)slots[measured - 1].took_us / 1e3);
}

static bool parse(int argc, char **argv)
{
    const char *way = argc > 1 ? argv[1] : "";

    if (argc < 5 || atol(argv[4]) < 1)
        return false;
    the_run.count = (size_t)atol(argv[4]);
    the_run.rate = argc > 5 ? strtoul(argv[5], NULL, 10) : 0;
    the_run.threads = argc > 6 ? strtoul(argv[6], NULL, 10) : 1;
    the_run.send = strcmp(way, "lib") == 0    ? send_struct
                   : strcmp(way, "json") == 0 ? send_json
                   : strcmp(way, "raw") == 0  ? send_raw
                                              : NULL;
    return the_run.send && the_run.threads >= 1 && the_run.threads <= MAX_THREADS;
}

int main(int argc, char **argv)
{
    uint64_t wall_us;
    double cpu;
    bool good;

    if (!parse(argc, argv)) {
        fprintf(stderr,
                "usage: bench_publish lib|json|raw BROKERS TOPIC COUNT [RATE [THREADS [FILE]]]\n");
        return 2;
    }
    write_bodies();
    the_run.slots = calloc(the_run.count, sizeof(*the_run.slots));
    if (!the_run.slots || !(the_run.send == send_raw ? begin_raw : begin_library)(argv[2], argv[3]))
        return 1;
    open_connections();
    cpu = cpu_us();
    good = send_all();
    wall_us = clock_monotonic_us() - the_run.start_us;
    cpu = cpu_us() - cpu;
    if (good && argc > 7)
        good = write_instants(argv[7]);
    if (good)
        report(wall_us, cpu);
    email_producer_destroy(producer, 1000);
    if (raw)
        end_raw();
    free(the_run.slots);
    buf_cleanup(&text);
    buf_cleanup(&html);
    buf_cleanup(&tail);
    return good && the_run.acknowledged == the_run.count ? 0 : 1;
}
