/* The producer's Kafka client fails for good and is made anew, again and again, while threads
 * publish: every event that was taken has its one outcome, and the new client publishes. */
#include "producer_fixture.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

#include "kafka/mock_broker.h"
#include "producer/kafka_path.c" /* instead of the library's, for its client */
#include "producer/producer.h"

enum { THREADS = 4, MOST_EVENTS = 50000, SMALL_QUEUE = 200, FAILURES = 3, PATIENCE_MS = 60000 };

static struct mock_broker *broker;
static char brokers[64];
static const char *const settings[] = {brokers, NULL};
static atomic_uint outcomes[THREADS][MOST_EVENTS];
static atomic_bool enough;

static int start_broker(void **state)
{
    struct error err = {0};

    (void)state;
    broker = mock_broker_start(&err);
    if (!broker || !mock_broker_create_topic(broker, "email-events", 3, &err))
        return -1;
    snprintf(brokers, sizeof(brokers), "KAFKA_BROKERS=%s", mock_broker_bootstrap(broker));
    return 0;
}

static int stop_broker(void **state)
{
    (void)state;
    mock_broker_stop(broker);
    return 0;
}

static void pause_us(long us)
{
    const struct timespec pause = {.tv_nsec = us * 1000};

    nanosleep(&pause, NULL);
}

struct sender {
    pthread_t thread;
    email_producer *p;
    size_t number;
    unsigned sent, refused;
};

static void count(const email_outcome *outcome, void *context)
{
    (void)outcome;
    atomic_fetch_add((atomic_uint *)context, 1);
}

/* Slowly: without Kafka they are sent directly, which is fast, and some are to be under way at each
 * failure. */
static void *send_many(void *ctx)
{
    struct sender *s = ctx;
    email_event e = good_event();

    while (!enough && s->sent < MOST_EVENTS) {
        switch (email_producer_send(s->p, &e, count, &outcomes[s->number][s->sent], NULL, 0)) {
        case EMAIL_QUEUED: s->sent++; break;
        case EMAIL_QUEUE_FULL: break;
        default: s->refused++; return NULL;
        }
        pause_us(200);
    }
    return NULL;
}

/* Within the path the client stays, so that it can be told to fail from here. */
static void fail_for_good(email_producer *p)
{
    while (!kafka_path_enter(p->kafka_path))
        pause_us(10000);
    assert_int_equal(rd_kafka_test_fatal_error(p->kafka_path->client.rk,
                                               RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER,
                                               "a test"),
                     RD_KAFKA_RESP_ERR_NO_ERROR);
    kafka_path_leave(p->kafka_path);
    while (kafka_path_enter(p->kafka_path)) { /* until the failure was seen */
        kafka_path_leave(p->kafka_path);
        pause_us(1000);
    }
}

static void fail_while_publishing(email_producer *p)
{
    while (p->kafka_path->under_way == 0)
        pause_us(100);
    fail_for_good(p);
}

static void publish_one(email_producer *p)
{
    struct seen seen = SEEN_INIT;
    email_event e = good_event();

    while (!kafka_path_enter(p->kafka_path))
        pause_us(10000);
    kafka_path_leave(p->kafka_path);
    assert_int_equal(email_producer_send(p, &e, on_outcome, &seen, NULL, 0), EMAIL_QUEUED);
    assert_int_equal(email_producer_flush(p, PATIENCE_MS), 0);
    assert_int_equal(seen.results[EMAIL_PUBLISHED], 1);
}

static void test_every_event_has_one_outcome(void **state)
{
    struct seen log = SEEN_INIT;
    email_producer *p = start_with(settings, &log, SMALL_QUEUE, PATIENCE_MS);
    struct sender senders[THREADS] = {0};

    (void)state;
    for (size_t i = 0; i < THREADS; i++) {
        senders[i] = (struct sender){.p = p, .number = i};
        assert_int_equal(pthread_create(&senders[i].thread, NULL, send_many, &senders[i]), 0);
    }
    for (int i = 0; i < FAILURES; i++)
        fail_while_publishing(p);
    enough = true;
    for (size_t i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_join(senders[i].thread, NULL), 0);
        assert_int_equal(senders[i].refused, 0);
    }
    assert_int_equal(email_producer_flush(p, PATIENCE_MS), 0);
    publish_one(p);
    email_producer_destroy(p, PATIENCE_MS);
    for (size_t i = 0; i < THREADS; i++)
        for (size_t j = 0; j < senders[i].sent; j++)
            assert_int_equal(atomic_load(&outcomes[i][j]), 1);
}

static void test_destroyed_while_it_is_made_anew(void **state)
{
    struct seen seen = SEEN_INIT;
    email_producer *p = start_with(settings, &seen, 0, PATIENCE_MS);
    email_event e = good_event();

    (void)state;
    for (int i = 0; i < 100; i++)
        assert_int_equal(email_producer_send(p, &e, on_outcome, &seen, NULL, 0), EMAIL_QUEUED);
    fail_for_good(p);
    for (int i = 0; i < 100; i++)
        assert_int_equal(email_producer_send(p, &e, on_outcome, &seen, NULL, 0), EMAIL_QUEUED);
    email_producer_destroy(p, 0);
    assert_int_equal(seen.outcomes, 200);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_event_has_one_outcome),
        cmocka_unit_test(test_destroyed_while_it_is_made_anew),
    };

    return cmocka_run_group_tests(tests, start_broker, stop_broker);
}
