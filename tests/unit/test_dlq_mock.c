/* The dead-letter producer against librdkafka's in-process mock cluster. */
#include "kafka/dead_letter.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>
#include <librdkafka/rdkafka.h>
#include <librdkafka/rdkafka_mock.h>

#include "base/clock.h"
#include "base/log.h"

enum { PATIENCE_MS = 60000 };

struct fixture {
    struct loop *loop;
    rd_kafka_t *carrier; /* of the cluster */
    rd_kafka_mock_cluster_t *cluster;
    const char *brokers;
};

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    rd_kafka_conf_t *conf = rd_kafka_conf_new();

    if (!f)
        return -1;
    *state = f;
    log_set_level(LOG_ERROR);
    rd_kafka_conf_set_log_cb(conf, NULL);
    f->loop = loop_new(NULL);
    f->carrier = rd_kafka_new(RD_KAFKA_PRODUCER, conf, NULL, 0);
    f->cluster = f->carrier ? rd_kafka_mock_cluster_new(f->carrier, 1) : NULL;
    if (!f->loop || !f->cluster)
        return -1;
    f->brokers = rd_kafka_mock_cluster_bootstraps(f->cluster);
    return rd_kafka_mock_topic_create(f->cluster, "dlq", 1, 1) ? -1 : 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;

    rd_kafka_mock_cluster_destroy(f->cluster);
    rd_kafka_destroy(f->carrier);
    loop_destroy(f->loop);
    log_drain(100);
    free(f);
    return 0;
}

static void tick(struct fixture *f)
{
    assert_true(loop_tick(f->loop, 20, NULL));
}

#define wait_until(f, condition)                                                                   \
    do {                                                                                           \
        const uint64_t until_ms_ = clock_monotonic_ms() + PATIENCE_MS;                             \
        while (!(condition)) {                                                                     \
            if (clock_monotonic_ms() > until_ms_)                                                  \
                fail_msg("never came true: %s", #condition);                                       \
            tick(f);                                                                               \
        }                                                                                          \
    } while (0)

static void run_for(struct fixture *f, uint64_t ms)
{
    const uint64_t until_ms = clock_monotonic_ms() + ms;

    while (clock_monotonic_ms() < until_ms)
        tick(f);
}

struct answer {
    unsigned acknowledged, refused;
    char error[128];
};

static void on_answer(void *ctx, bool acknowledged, const char *error)
{
    struct answer *a = ctx;

    assert_non_null(error);
    a->acknowledged += acknowledged;
    a->refused += !acknowledged;
    snprintf(a->error, sizeof(a->error), "%s", error);
}

static void on_dlq_fatal(void *ctx, const char *reason)
{
    (void)ctx;
    fail_msg("fatal: %s", reason);
}

static struct dlq *new_dlq(struct fixture *f, const char *brokers)
{
    const struct kafka_settings settings = {.brokers = brokers, .client_id = "test"};
    struct error err = {0};
    struct dlq *d = dlq_new(f->loop, &settings, "dlq", on_dlq_fatal, f, &err);

    if (!d)
        fail_msg("%s", err.text);
    return d;
}

/* With a plain client, so that nothing of ours is believed. */
static void read_back(struct fixture *f)
{
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    rd_kafka_topic_t *topic;
    rd_kafka_message_t *message;
    rd_kafka_headers_t *headers;
    rd_kafka_t *rk;
    const void *value;
    size_t size;

    rd_kafka_conf_set(conf, "bootstrap.servers", f->brokers, NULL, 0);
    rk = rd_kafka_new(RD_KAFKA_CONSUMER, conf, NULL, 0);
    assert_non_null(rk);
    topic = rd_kafka_topic_new(rk, "dlq", NULL);
    assert_int_equal(rd_kafka_consume_start(topic, 0, RD_KAFKA_OFFSET_BEGINNING), 0);
    message = rd_kafka_consume(topic, 0, PATIENCE_MS);
    assert_non_null(message);
    assert_memory_equal(message->payload, "not json", message->len);
    assert_memory_equal(message->key, "key", message->key_len);
    assert_int_equal(rd_kafka_message_headers(message, &headers), 0);
    assert_int_equal(rd_kafka_header_cnt(headers), 8);
    assert_int_equal(rd_kafka_header_get_last(headers, "dlq-reason", &value, &size), 0);
    assert_string_equal(value, "invalid_event");
    assert_int_equal(rd_kafka_header_get_last(headers, "trace", &value, &size), 0);
    assert_string_equal(value, "t1");
    rd_kafka_message_destroy(message);
    message = rd_kafka_consume(topic, 0, PATIENCE_MS);
    assert_non_null(message);
    assert_null(message->payload);
    assert_null(message->key);
    rd_kafka_message_destroy(message);
    rd_kafka_consume_stop(topic, 0);
    rd_kafka_topic_destroy(topic);
    rd_kafka_destroy(rk);
}

static void letter_arrives(void **state)
{
    struct fixture *f = *state;
    const struct record_header own[] = {{{"trace", 5}, {"t1", 2}}};
    struct record record = {.topic = slice_str("t"),
                            .partition = 7,
                            .offset = 99,
                            .key = slice_str("key"),
                            .value = slice_str("not json"),
                            .headers = own,
                            .headers_len = 1};
    const struct dead_letter letter = {
        .record = &record, .reason = "invalid_event", .error = "not JSON", .attempts = 1};
    struct answer answer = {0};
    struct dlq_state s;
    struct dlq *d;

    d = new_dlq(f, f->brokers);
    dlq_produce(d, &letter, on_answer, &answer);
    dlq_state(d, &s);
    assert_int_equal(s.waiting, 1);
    assert_int_equal(answer.acknowledged + answer.refused, 0);
    wait_until(f, answer.acknowledged == 1);
    record.key = (struct slice){0}; /* a tombstone without a key */
    record.value = (struct slice){0};
    dlq_produce(d, &letter, on_answer, &answer);
    wait_until(f, answer.acknowledged == 2);
    run_for(f, 1200);
    dlq_state(d, &s);
    assert_true(s.up);
    assert_int_equal(s.waiting, 0);
    assert_string_equal(s.error, "");
    dlq_destroy(d);
    dlq_destroy(NULL);

    read_back(f);
}

static void letter_too_large(void **state)
{
    struct fixture *f = *state;
    static char value[300000];
    const struct record record = {
        .topic = slice_str("t"), .key = slice_str("key"), .value = {value, sizeof(value)}};
    const struct dead_letter letter = {.record = &record, .reason = "too_large"};
    struct answer answer = {0};
    struct dlq *d;

    d = new_dlq(f, f->brokers);
    rd_kafka_mock_push_request_errors(
        f->cluster, 0 /* Produce */, 3, RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE,
        RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE, RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE);
    dlq_produce(d, &letter, on_answer, &answer);
    wait_until(f, answer.acknowledged == 1); /* the fourth time, with a quarter of 64 KiB */
    for (unsigned i = 0; i < 40; i++)
        rd_kafka_mock_push_request_errors(f->cluster, 0, 1, RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE);
    dlq_produce(d, &letter, on_answer, &answer);
    wait_until(f, answer.refused == 1); /* never takes anything: said, not retried for ever */
    assert_non_null(strstr(answer.error, "too large"));
    dlq_destroy(d);
}

static void nobody_listens(void **state)
{
    struct fixture *f = *state;
    const struct record record = {.topic = slice_str("t"), .value = slice_str("v")};
    const struct dead_letter letter = {.record = &record, .reason = "expired"};
    struct answer answer = {0};
    struct dlq_state s;
    struct dlq *d = new_dlq(f, "127.0.0.1:1");
    uint64_t from_ms;

    dlq_produce(d, &letter, on_answer, &answer);
    run_for(f, 1500);
    dlq_state(d, &s);
    assert_false(s.up);
    assert_non_null(strstr(s.error, "refused"));
    assert_int_equal(s.waiting, 1);
    from_ms = clock_monotonic_ms();
    dlq_destroy(d);
    assert_in_range(clock_monotonic_ms() - from_ms, 0, 8000);
    assert_int_equal(answer.acknowledged + answer.refused, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(letter_arrives, set_up, tear_down),
        cmocka_unit_test_setup_teardown(letter_too_large, set_up, tear_down),
        cmocka_unit_test_setup_teardown(nobody_listens, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
