/* The consumer against librdkafka's in-process mock cluster. Its first
 * join of a group takes 3 s, so each test does as much as it can with one. */
#include "kafka/consumer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <librdkafka/rdkafka.h>
#include <librdkafka/rdkafka_mock.h>

#include "base/clock.h"
#include "base/log.h"
#include "kafka/consumer_internal.h"
#include "kafka/mock_broker.h"

enum { MAX_TAKEN = 4096, PATIENCE_MS = 60000 };

struct taken {
    int32_t partition;
    int64_t offset;
    uint64_t generation;
    bool open;
    char value[64];
    size_t headers_len;
};

/* What a program around the consumer would be. */
struct member {
    struct consumer *consumer;
    struct taken taken[MAX_TAKEN];
    size_t len, window; /* at most `window` of them are open; 0: no limit */
    bool finish_at_once, finish_on_revoke, abandon_on_revoke;
    unsigned revoked;
    bool closed, fatal;
    struct record last; /* slices point to last_* */
    char last_key[32], last_header[64];
};

struct fixture {
    struct loop *loop;
    struct mock_broker *broker;
    rd_kafka_mock_cluster_t *cluster; /* a second one, for tests that make it refuse */
    rd_kafka_t *producer;
    const char *brokers;
    char group[32];
    struct member a, b;
};

/* ---- the member's callbacks ---- */

static size_t open_records(const struct member *m)
{
    size_t n = 0;

    for (size_t i = 0; i < m->len; i++)
        n += m->taken[i].open;
    return n;
}

static size_t room(void *ctx)
{
    const struct member *m = ctx;

    if (m->len == MAX_TAKEN)
        return 0;
    return !m->window || open_records(m) < m->window ? 1 : 0;
}

static void on_record(void *ctx, const struct record *r)
{
    struct member *m = ctx;
    struct taken *t = &m->taken[m->len++];

    assert_int_equal(room(ctx) > 0 || m->len == MAX_TAKEN || open_records(m) <= m->window, 1);
    *t = (struct taken){r->partition, r->offset, r->generation, true, "", r->headers_len};
    snprintf(t->value, sizeof(t->value), "%.*s", SLICE_ARG(r->value));
    m->last = *r;
    snprintf(m->last_key, sizeof(m->last_key), "%.*s", SLICE_ARG(r->key));
    if (r->headers_len)
        snprintf(m->last_header, sizeof(m->last_header), "%.*s=%.*s", SLICE_ARG(r->headers[0].name),
                 SLICE_ARG(r->headers[0].value));
    if (m->finish_at_once) {
        t->open = false;
        consumer_done(m->consumer, t->partition, t->generation, t->offset);
    }
}

static void finish(struct member *m, struct taken *t, bool done)
{
    if (!t->open)
        return;
    t->open = false;
    if (done)
        consumer_done(m->consumer, t->partition, t->generation, t->offset);
    else
        consumer_abandon(m->consumer, t->partition, t->generation, t->offset);
}

static void finish_all(struct member *m, bool done)
{
    for (size_t i = 0; i < m->len; i++)
        finish(m, &m->taken[i], done);
}

static void on_revoking(void *ctx, int32_t partition, uint64_t generation, bool lost)
{
    struct member *m = ctx;

    (void)lost;
    m->revoked++;
    for (size_t i = 0; i < m->len; i++)
        if (m->taken[i].partition == partition && m->taken[i].generation == generation) {
            if (m->finish_on_revoke)
                finish(m, &m->taken[i], true);
            else if (m->abandon_on_revoke)
                finish(m, &m->taken[i], false);
        }
}

static void on_fatal(void *ctx, const char *reason)
{
    struct member *m = ctx;

    m->fatal = true;
    fail_msg("fatal: %s", reason);
}

static void on_closed(void *ctx)
{
    struct member *m = ctx;

    m->closed = true;
}

/* ---- helpers ---- */

static void join(struct fixture *f, struct member *m, const char *topic, uint64_t grace_ms)
{
    static const struct consumer_callbacks callbacks = {room, on_record, on_revoking, on_fatal,
                                                        on_closed};
    const struct consumer_settings settings = {
        .kafka = {.brokers = f->brokers, .client_id = "test"},
        .group = f->group,
        .topic = topic,
        .revoke_grace_ms = grace_ms,
    };
    struct error err = {0};

    m->closed = false;
    m->consumer = consumer_new(f->loop, &settings, &callbacks, m, &err);
    if (!m->consumer)
        fail_msg("%s", err.text);
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

static void leave(struct fixture *f, struct member *m)
{
    consumer_close(m->consumer);
    assert_false(m->closed);
    wait_until(f, m->closed);
    consumer_destroy(m->consumer);
    m->consumer = NULL;
}

static void publish(struct fixture *f, const char *topic, int32_t partition, unsigned from,
                    unsigned to)
{
    for (unsigned i = from; i < to; i++) {
        char value[32];
        snprintf(value, sizeof(value), "%d/%u", (int)partition, i);
        assert_int_equal(
            rd_kafka_producev(f->producer, RD_KAFKA_V_TOPIC(topic), RD_KAFKA_V_PARTITION(partition),
                              RD_KAFKA_V_KEY("key", 3), RD_KAFKA_V_VALUE(value, strlen(value)),
                              RD_KAFKA_V_HEADER("trace", "t1", 2),
                              RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY), RD_KAFKA_V_END),
            0);
    }
    assert_int_equal(rd_kafka_flush(f->producer, 10000), 0);
}

static void create_topic(struct fixture *f, const char *topic, int partitions)
{
    struct error err = {0};

    if (!mock_broker_create_topic(f->broker, topic, partitions, &err))
        fail_msg("%s", err.text);
}

static unsigned assigned(const struct member *m)
{
    struct consumer_state state;

    consumer_state(m->consumer, &state);
    return state.assigned;
}

/* Per partition: each offset from 0 on, once, in order. */
static void assert_in_order(const struct member *m, int32_t partition, int64_t from, int64_t to)
{
    for (size_t i = 0; i < m->len; i++)
        if (m->taken[i].partition == partition) {
            char value[32];
            assert_int_equal(m->taken[i].offset, from);
            snprintf(value, sizeof(value), "%d/%u", (int)partition, (unsigned)from++);
            assert_string_equal(m->taken[i].value, value);
        }
    assert_int_equal(from, to);
}

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    static unsigned n;
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    char text[256];

    if (!f)
        return -1;
    *state = f;
    log_set_level(LOG_ERROR);
    snprintf(f->group, sizeof(f->group), "group-%u", ++n);
    f->loop = loop_new(NULL);
    f->broker = mock_broker_start(NULL);
    if (!f->loop || !f->broker)
        return -1;
    f->brokers = mock_broker_bootstrap(f->broker);
    rd_kafka_conf_set(conf, "bootstrap.servers", mock_broker_bootstrap(f->broker), text,
                      sizeof(text));
    rd_kafka_conf_set(conf, "linger.ms", "1", text, sizeof(text));
    f->producer = rd_kafka_new(RD_KAFKA_PRODUCER, conf, text, sizeof(text));
    return f->producer ? 0 : -1;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;

    consumer_destroy(f->a.consumer);
    consumer_destroy(f->b.consumer);
    if (f->cluster)
        rd_kafka_mock_cluster_destroy(f->cluster);
    rd_kafka_destroy(f->producer);
    mock_broker_stop(f->broker);
    loop_destroy(f->loop);
    log_drain(100);
    free(f);
    return 0;
}

/* ---- the consumer ---- */

static void takes_everything_once(void **state)
{
    struct fixture *f = *state;
    struct partition_state partitions[8];
    struct consumer_state s;

    create_topic(f, "t", 3);
    for (int32_t p = 0; p < 3; p++)
        publish(f, "t", p, 0, 400);
    f->a.finish_at_once = true;
    join(f, &f->a, "t", 1000);
    wait_until(f, f->a.len == 1200);
    for (int32_t p = 0; p < 3; p++)
        assert_in_order(&f->a, p, 0, 400);
    assert_string_equal(f->a.last_key, "key");
    assert_string_equal(f->a.last_header, "trace=t1");
    assert_in_range(f->a.last.timestamp_unix_ms, 1, clock_unix_ms());

    assert_int_equal(consumer_partitions(f->a.consumer, partitions, 8), 3);
    for (int32_t p = 0; p < 3; p++) {
        assert_int_equal(partitions[p].partition, p);
        assert_int_equal(partitions[p].watermark, 400);
        assert_int_equal(partitions[p].lag, 0);
        assert_int_equal(partitions[p].under_way, 0);
    }
    run_for(f, 1200);
    consumer_state(f->a.consumer, &s);
    assert_true(s.up);
    assert_int_equal(s.assigned, 3);
    assert_int_equal(s.consumed, 1200);
    assert_string_equal(s.error, "");
    leave(f, &f->a);

    /* Everything is committed: the next one gets only what is new. */
    publish(f, "t", 1, 400, 401);
    join(f, &f->b, "t", 1000);
    wait_until(f, f->b.len == 1);
    run_for(f, 500);
    assert_in_order(&f->b, 1, 400, 401);
    assert_int_equal(f->b.len, 1);
}

static void keeps_to_the_window(void **state)
{
    struct fixture *f = *state;
    struct member *m = &f->a;

    create_topic(f, "t", 2);
    publish(f, "t", 0, 0, 300);
    publish(f, "t", 1, 0, 5);
    m->window = 10;
    join(f, m, "t", 1000);
    wait_until(f, m->len == 10);
    run_for(f, 1500);
    assert_int_equal(m->len, 10);

    /* Room again, without a word: nothing; with a word: what there is. */
    finish(m, &m->taken[3], true);
    consumer_pump(m->consumer);
    wait_until(f, m->len == 11);
    for (size_t i = 0; i < 305; i++) {
        wait_until(f, m->len > i);
        finish(m, &m->taken[i], true);
        consumer_pump(m->consumer);
    }
    assert_in_order(m, 0, 0, 300);
    assert_in_order(m, 1, 0, 5);
}

static void commits_the_watermark_only(void **state)
{
    struct fixture *f = *state;
    struct partition_state p;

    create_topic(f, "t", 1);
    publish(f, "t", 0, 0, 10);
    join(f, &f->a, "t", 200);
    wait_until(f, f->a.len == 10);
    for (size_t i = 0; i < 10; i++)
        if (i != 4 && i != 7)
            finish(&f->a, &f->a.taken[i], true);
    finish(&f->a, &f->a.taken[7], false);
    assert_int_equal(consumer_partitions(f->a.consumer, &p, 1), 1);
    assert_int_equal(p.watermark, 4);
    assert_int_equal(p.under_way, 1);
    /* A generation that is over or never was is ignored. */
    consumer_done(f->a.consumer, 0, f->a.taken[4].generation + 1, 4);
    consumer_done(f->a.consumer, 0, 0, 4);
    consumer_done(f->a.consumer, 9, f->a.taken[4].generation, 4);
    assert_int_equal(consumer_partitions(f->a.consumer, &p, 1), 1);
    assert_int_equal(p.watermark, 4);
    leave(f, &f->a); /* offset 4 is still under way: the grace is over, then it goes */

    join(f, &f->b, "t", 200);
    wait_until(f, f->b.len == 6);
    assert_in_order(&f->b, 0, 4, 10);
    finish_all(&f->b, true);
    leave(f, &f->b);
}

/* How many of the 2 × 200 records were not taken yet by either, and how many were taken again. */
static void count(const struct fixture *f, size_t *missing, size_t *again)
{
    unsigned times[2][200] = {0};
    const struct member *members[] = {&f->a, &f->b};

    for (size_t m = 0; m < 2; m++)
        for (size_t i = 0; i < members[m]->len; i++)
            times[members[m]->taken[i].partition][members[m]->taken[i].offset]++;
    *missing = *again = 0;
    for (size_t i = 0; i < 400; i++) {
        *missing += times[i / 200][i % 200] == 0;
        *again += times[i / 200][i % 200] > 1;
    }
}

static bool complete(const struct fixture *f, size_t least_again)
{
    size_t missing, again;

    count(f, &missing, &again);
    return !missing && again >= least_again;
}

/* The second member joins while ten records are under way at the first. The mock cluster refuses
 * commits once a group is rebalancing (Kafka does not), so what the first finishes or gives up in
 * its grace comes again, and what else was not committed yet may. */
static void join_second(struct fixture *f, uint64_t grace_ms, size_t least_again)
{
    size_t missing, again;

    create_topic(f, "t", 2);
    publish(f, "t", 0, 0, 200);
    publish(f, "t", 1, 0, 200);
    f->a.window = 10;
    join(f, &f->a, "t", grace_ms);
    wait_until(f, f->a.len == 10);
    f->b.finish_at_once = true;
    join(f, &f->b, "t", grace_ms);
    wait_until(f, assigned(&f->a) == 1 && assigned(&f->b) == 1);
    assert_true(f->a.revoked >= 2);
    f->a.window = 0;
    f->a.finish_at_once = true;
    consumer_pump(f->a.consumer);
    wait_until(f, complete(f, least_again));
    run_for(f, 500);
    count(f, &missing, &again);
    assert_int_equal(missing, 0);
    assert_in_range(again, least_again, 399);
    assert_true(f->b.len > 0);
}

static void finishes_on_revocation(void **state)
{
    struct fixture *f = *state;

    f->a.finish_on_revoke = true;
    join_second(f, 60000, 0); /* finished at once, so the grace is not waited for */
}

static void abandons_on_revocation(void **state)
{
    struct fixture *f = *state;

    f->a.abandon_on_revoke = true;
    join_second(f, 60000, 10);
}

static void grace_ends(void **state)
{
    struct fixture *f = *state;

    join_second(f, 500, 10);
    finish_all(&f->a, true); /* of a generation that is over: harmless */
    run_for(f, 300);
    assert_false(f->a.fatal || f->b.fatal);
}

static void seek(struct member *m, const char *topic, int64_t offset)
{
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);

    rd_kafka_topic_partition_list_add(list, topic, 0)->offset = offset;
    rd_kafka_error_destroy(rd_kafka_seek_partitions(m->consumer->client.rk, list, 5000));
    rd_kafka_topic_partition_list_destroy(list);
}

/* A truncated log looks like this: offsets that were there come again. */
static void starts_again(void **state)
{
    struct fixture *f = *state;
    struct member *m = &f->a;
    struct partition_state p;
    uint64_t old;

    create_topic(f, "t", 1);
    publish(f, "t", 0, 0, 60);
    join(f, m, "t", 200);
    wait_until(f, m->len == 60);
    old = m->taken[0].generation;
    for (size_t i = 0; i < 30; i++)
        finish(m, &m->taken[i], true);
    seek(m, "t", 20);
    wait_until(f, m->len == 100);
    assert_int_equal(m->revoked, 1);
    assert_int_equal(m->taken[60].offset, 20);
    assert_int_not_equal(m->taken[60].generation, old);
    for (size_t i = 30; i < 60; i++)
        finish(m, &m->taken[i], true); /* of the life that is over: harmless */
    assert_int_equal(consumer_partitions(m->consumer, &p, 1), 1);
    assert_int_equal(p.watermark, 20);
    assert_int_equal(p.under_way, 40);
    finish_all(m, true);
    assert_int_equal(consumer_partitions(m->consumer, &p, 1), 1);
    assert_int_equal(p.watermark, 60);
}

static void use_second_cluster(struct fixture *f, const char *topic)
{
    f->cluster = rd_kafka_mock_cluster_new(f->producer, 1);
    assert_non_null(f->cluster);
    f->brokers = rd_kafka_mock_cluster_bootstraps(f->cluster);
    assert_int_equal(rd_kafka_mock_topic_create(f->cluster, topic, 1, 1), 0);
}

static bool error_says(const struct member *m, const char *text)
{
    struct consumer_state s;

    consumer_state(m->consumer, &s);
    return s.up && s.assigned == 0 && strstr(s.error, text);
}

static void topic_comes_later(void **state)
{
    struct fixture *f = *state;
    struct consumer_state s;

    use_second_cluster(f, "later");
    rd_kafka_mock_topic_set_error(f->cluster, "later", RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART);
    join(f, &f->a, "later", 200);
    wait_until(f, error_says(&f->a, "'later' does not exist"));
    rd_kafka_mock_topic_set_error(f->cluster, "later", RD_KAFKA_RESP_ERR_NO_ERROR);
    wait_until(f, assigned(&f->a) == 1);
    consumer_state(f->a.consumer, &s);
    assert_string_equal(s.error, "");
}

static void ends_at_any_time(void **state)
{
    struct fixture *f = *state;
    const uint64_t from_ms = clock_monotonic_ms();

    create_topic(f, "t", 1);
    publish(f, "t", 0, 0, 50);
    join(f, &f->a, "t", 200); /* closed before it joined */
    leave(f, &f->a);
    join(f, &f->a, "t", 200); /* destroyed before the loop turned once */
    consumer_destroy(f->a.consumer);
    join(f, &f->a, "t", 200); /* destroyed in the middle of joining */
    run_for(f, 1500);
    consumer_destroy(f->a.consumer);
    f->a.window = 3;
    join(f, &f->a, "t", 200); /* destroyed with records under way and in the queue */
    join(f, &f->b, "t", 200);
    wait_until(f, f->a.len + f->b.len >= 3);
    consumer_destroy(f->a.consumer);
    f->a.consumer = NULL;
    consumer_destroy(NULL);
    assert_in_range(clock_monotonic_ms() - from_ms, 0, 60000);
}

static void broker_is_gone(void **state)
{
    struct fixture *f = *state;
    struct consumer_state s = {.up = true};
    uint64_t from_ms;

    create_topic(f, "t", 1);
    publish(f, "t", 0, 0, 5);
    join(f, &f->a, "t", 200);
    wait_until(f, f->a.len == 5);
    run_for(f, 1500);
    rd_kafka_destroy(f->producer);
    mock_broker_stop(f->broker);
    f->broker = NULL;
    f->producer = NULL;
    from_ms = clock_monotonic_ms();
    while (s.up) {
        tick(f);
        consumer_state(f->a.consumer, &s);
    }
    assert_in_range(clock_monotonic_ms() - from_ms, 0, 6000);
    assert_string_not_equal(s.error, "");
    finish_all(&f->a, true);
    consumer_close(f->a.consumer);
    run_for(f, 500);
    from_ms = clock_monotonic_ms();
    consumer_destroy(f->a.consumer); /* in the middle of closing, with nobody to answer */
    f->a.consumer = NULL;
    assert_in_range(clock_monotonic_ms() - from_ms, 0, 8000);
}

static int tear_down_without_broker(void **state)
{
    struct fixture *f = *state;

    if (f->producer)
        return tear_down(state);
    loop_destroy(f->loop);
    free(f);
    return 0;
}

static void refuses_bad_settings(void **state)
{
    static const struct consumer_callbacks callbacks = {room, on_record, on_revoking, on_fatal,
                                                        on_closed};
    static const struct kafka_property acks = {"acks", "1"};
    static const char *const names[] = {"", ".", "..", "^email.*", "a b", "a/b"};
    struct fixture *f = *state;
    struct consumer_settings s = {.kafka = {.brokers = "localhost:1"}, .group = "g"};
    struct error err = {0};

    for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
        s.topic = names[i];
        assert_null(consumer_new(f->loop, &s, &callbacks, NULL, &err));
    }
    error_clear(&err);
    s.topic = "t";
    s.kafka.properties = &acks;
    s.kafka.properties_len = 1;
    assert_null(consumer_new(f->loop, &s, &callbacks, NULL, &err));
    assert_non_null(strstr(err.text, "acks"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(takes_everything_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(keeps_to_the_window, set_up, tear_down),
        cmocka_unit_test_setup_teardown(commits_the_watermark_only, set_up, tear_down),
        cmocka_unit_test_setup_teardown(finishes_on_revocation, set_up, tear_down),
        cmocka_unit_test_setup_teardown(abandons_on_revocation, set_up, tear_down),
        cmocka_unit_test_setup_teardown(grace_ends, set_up, tear_down),
        cmocka_unit_test_setup_teardown(starts_again, set_up, tear_down),
        cmocka_unit_test_setup_teardown(topic_comes_later, set_up, tear_down),
        cmocka_unit_test_setup_teardown(ends_at_any_time, set_up, tear_down),
        cmocka_unit_test_setup_teardown(broker_is_gone, set_up, tear_down_without_broker),
        cmocka_unit_test_setup_teardown(refuses_bad_settings, set_up, tear_down),
    };
    const size_t len = sizeof(tests) / sizeof(*tests);
    int failures = 0, status;

    /* Nearly all of it is waiting, so they run side by side, each in a process of its own. */
    for (size_t i = 0; i < len; i++) {
        const pid_t pid = fork();
        if (pid < 0)
            return 1;
        if (pid == 0) {
            cmocka_set_test_filter(tests[i].name);
            return cmocka_run_group_tests(tests, NULL, NULL);
        }
    }
    for (size_t i = 0; i < len; i++)
        if (wait(&status) < 0 || !WIFEXITED(status) || WEXITSTATUS(status) != 0)
            failures++;
    return failures;
}
