/* What brokers can refuse a member of the group, by librdkafka's in-process mock cluster: commits
 * and fetches. The first join of a group takes 3 s there. */
#include "kafka/consumer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>
#include <librdkafka/rdkafka.h>
#include <librdkafka/rdkafka_mock.h>

#include "base/clock.h"
#include "base/log.h"

#define TOPIC "events"

enum { FETCH = 1, OFFSET_COMMIT = 8, PATIENCE_MS = 60000 };

struct fixture {
    struct loop *loop;
    rd_kafka_t *carrier; /* of the cluster; also publishes */
    rd_kafka_mock_cluster_t *cluster;
    struct consumer *consumer;
    int64_t next; /* offset that is expected */
    bool closed;
};

static size_t room(void *ctx)
{
    (void)ctx;
    return 1;
}

/* Each record once and in order, whatever is refused in between. */
static void on_record(void *ctx, const struct record *r)
{
    struct fixture *f = ctx;
    char expected[32];

    assert_int_equal(r->offset, f->next);
    snprintf(expected, sizeof(expected), "%lld", (long long)f->next);
    assert_true(slice_is(r->value, expected));
    f->next++;
    consumer_done(f->consumer, r->partition, r->generation, r->offset);
}

static void on_revoking(void *ctx, int32_t partition, uint64_t generation, bool lost)
{
    (void)ctx;
    (void)partition;
    (void)generation;
    assert_false(lost);
}

static void on_fatal(void *ctx, const char *reason)
{
    (void)ctx;
    fail_msg("fatal: %s", reason);
}

static void on_closed(void *ctx)
{
    struct fixture *f = ctx;

    f->closed = true;
}

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    char text[256];

    if (!f)
        return -1;
    *state = f;
    log_set_level(LOG_ERROR);
    f->loop = loop_new(NULL);
    f->carrier = rd_kafka_new(RD_KAFKA_PRODUCER, rd_kafka_conf_new(), text, sizeof(text));
    f->cluster = f->carrier ? rd_kafka_mock_cluster_new(f->carrier, 3) : NULL;
    if (!f->loop || !f->cluster)
        return -1;
    return rd_kafka_mock_topic_create(f->cluster, TOPIC, 1, 3) ? -1 : 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;

    consumer_destroy(f->consumer);
    rd_kafka_mock_cluster_destroy(f->cluster);
    rd_kafka_destroy(f->carrier);
    loop_destroy(f->loop);
    log_cleanup();
    free(f);
    return 0;
}

static void join(struct fixture *f)
{
    static const struct consumer_callbacks callbacks = {room, on_record, on_revoking, on_fatal,
                                                        on_closed};
    const struct consumer_settings settings = {
        .kafka = {.brokers = rd_kafka_mock_cluster_bootstraps(f->cluster), .client_id = "test"},
        .group = "group",
        .topic = TOPIC,
        .revoke_grace_ms = 200,
    };

    f->closed = false;
    f->consumer = consumer_new(f->loop, &settings, &callbacks, f, NULL);
    assert_non_null(f->consumer);
}

static rd_kafka_t *new_client(struct fixture *f, rd_kafka_type_t type)
{
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    char text[256];
    rd_kafka_t *rk;

    rd_kafka_conf_set(conf, "bootstrap.servers", rd_kafka_mock_cluster_bootstraps(f->cluster), text,
                      sizeof(text));
    if (type == RD_KAFKA_CONSUMER)
        rd_kafka_conf_set(conf, "group.id", "group", text, sizeof(text));
    rk = rd_kafka_new(type, conf, text, sizeof(text));
    assert_non_null(rk);
    return rk;
}

static void publish(struct fixture *f, unsigned from, unsigned to)
{
    rd_kafka_t *rk = new_client(f, RD_KAFKA_PRODUCER);

    for (unsigned i = from; i < to; i++) {
        char value[32];
        snprintf(value, sizeof(value), "%u", i);
        assert_int_equal(rd_kafka_producev(rk, RD_KAFKA_V_TOPIC(TOPIC), RD_KAFKA_V_PARTITION(0),
                                           RD_KAFKA_V_VALUE(value, strlen(value)),
                                           RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY),
                                           RD_KAFKA_V_END),
                         0);
    }
    assert_int_equal(rd_kafka_flush(rk, 20000), 0);
    rd_kafka_destroy(rk);
}

static void read_until(struct fixture *f, int64_t next)
{
    const uint64_t until_ms = clock_monotonic_ms() + PATIENCE_MS;

    while (f->next < next) {
        if (clock_monotonic_ms() > until_ms)
            fail_msg("read up to %lld, not to %lld", (long long)f->next, (long long)next);
        assert_true(loop_tick(f->loop, 20, NULL));
    }
}

static int64_t committed(struct fixture *f)
{
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
    rd_kafka_t *rk = new_client(f, RD_KAFKA_CONSUMER);
    int64_t offset;

    rd_kafka_topic_partition_list_add(list, TOPIC, 0);
    assert_int_equal(rd_kafka_committed(rk, list, 20000), 0);
    offset = list->elems[0].offset;
    rd_kafka_topic_partition_list_destroy(list);
    rd_kafka_destroy(rk);
    return offset;
}

static void turn(struct fixture *f, uint64_t ms)
{
    const uint64_t until_ms = clock_monotonic_ms() + ms;

    while (clock_monotonic_ms() < until_ms)
        assert_true(loop_tick(f->loop, 20, NULL));
}

static void await_committed(struct fixture *f, int64_t offset)
{
    const uint64_t until_ms = clock_monotonic_ms() + PATIENCE_MS;

    while (committed(f) != offset) {
        if (clock_monotonic_ms() > until_ms)
            fail_msg("committed %lld, not %lld", (long long)committed(f), (long long)offset);
        turn(f, 200);
    }
}

static void leave(struct fixture *f)
{
    const uint64_t until_ms = clock_monotonic_ms() + PATIENCE_MS;

    consumer_close(f->consumer);
    while (!f->closed) {
        assert_true(clock_monotonic_ms() < until_ms);
        assert_true(loop_tick(f->loop, 20, NULL));
    }
    consumer_destroy(f->consumer);
    f->consumer = NULL;
}

/* Refused for now, or for good as far as that one commit goes: a later one says the same again. */
static void commits_are_tried_again(void **state)
{
    struct fixture *f = *state;

    publish(f, 0, 50);
    rd_kafka_mock_push_request_errors(
        f->cluster, OFFSET_COMMIT, 5, RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS,
        RD_KAFKA_RESP_ERR_NOT_COORDINATOR, RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE,
        RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT, RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART);
    join(f);
    read_until(f, 50);
    publish(f, 50, 60);
    read_until(f, 60);
    await_committed(f, 60);
    leave(f);
    /* Nothing is read twice after that. */
    publish(f, 60, 70);
    join(f);
    read_until(f, 70);
}

static void leader_is_followed(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(rd_kafka_mock_partition_set_leader(f->cluster, TOPIC, 0, 1), 0);
    publish(f, 0, 50);
    join(f);
    read_until(f, 50);
    for (unsigned i = 1; i <= 4; i++) {
        assert_int_equal(
            rd_kafka_mock_partition_set_leader(f->cluster, TOPIC, 0, (int32_t)(i % 3 + 1)), 0);
        publish(f, 50 * i, 50 * i + 50);
        read_until(f, 50 * i + 50);
    }
    rd_kafka_mock_push_request_errors(
        f->cluster, FETCH, 4, RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
        RD_KAFKA_RESP_ERR_KAFKA_STORAGE_ERROR, RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE,
        RD_KAFKA_RESP_ERR_REPLICA_NOT_AVAILABLE);
    publish(f, 250, 300);
    read_until(f, 300);
    await_committed(f, 300);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(commits_are_tried_again, set_up, tear_down),
        cmocka_unit_test_setup_teardown(leader_is_followed, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
