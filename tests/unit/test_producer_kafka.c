/* The producer library against an in-process Kafka: many threads, and an end in the middle. */
#include "producer_fixture.h"

#include <stdlib.h>
#include <time.h>

#include "kafka/mock_broker.h"

enum { THREADS = 4, EVENTS = 3000, SMALL_QUEUE = 500 };

static struct mock_broker *broker;
static char brokers[64];
static const char *const settings[] = {brokers, NULL};

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

struct sender {
    pthread_t thread;
    email_producer *p;
    struct seen *seen;
    unsigned full, refused;
};

static void *send_many(void *ctx)
{
    const struct timespec pause = {.tv_nsec = 1000000};
    struct sender *s = ctx;
    email_event e = good_event();

    for (int sent = 0; sent < EVENTS;) {
        switch (email_producer_send(s->p, &e, on_outcome, s->seen, NULL, 0)) {
        case EMAIL_QUEUED: sent++; break;
        case EMAIL_QUEUE_FULL:
            s->full++;
            nanosleep(&pause, NULL);
            break;
        default: s->refused++; return NULL;
        }
    }
    return NULL;
}

static void test_threads(void **state)
{
    struct seen seen = SEEN_INIT;
    email_producer *p = start_with(settings, &seen, SMALL_QUEUE, 60000);
    struct sender senders[THREADS] = {0};

    (void)state;
    for (int i = 0; i < THREADS; i++) {
        senders[i] = (struct sender){.p = p, .seen = &seen};
        assert_int_equal(pthread_create(&senders[i].thread, NULL, send_many, &senders[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_join(senders[i].thread, NULL), 0);
        assert_int_equal(senders[i].refused, 0);
    }
    assert_int_equal(email_producer_flush(p, 60000), 0);
    assert_int_equal(email_producer_queued(p), 0);
    assert_int_equal(seen.outcomes, THREADS * EVENTS);
    assert_int_equal(seen.results[EMAIL_PUBLISHED], THREADS * EVENTS);
    assert_string_equal(seen.topic, "email-events");
    email_producer_destroy(p, 1000);
    assert_int_equal(seen.outcomes, THREADS * EVENTS);
}

static void test_several_producers_at_once(void **state)
{
    struct seen seen[2] = {SEEN_INIT, SEEN_INIT};
    email_producer *p[2];
    email_event e = good_event();

    (void)state;
    for (int i = 0; i < 2; i++)
        p[i] = start_with(settings, &seen[i], 0, 60000);
    for (int i = 0; i < 200; i++)
        assert_int_equal(email_producer_send(p[i % 2], &e, on_outcome, &seen[i % 2], NULL, 0),
                         EMAIL_QUEUED);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(email_producer_flush(p[i], 60000), 0);
        assert_int_equal(seen[i].results[EMAIL_PUBLISHED], 100);
        email_producer_destroy(p[i], 1000);
    }
}

static void test_destroy_with_events_under_way(void **state)
{
    struct seen seen = SEEN_INIT;
    email_producer *p = start_with(settings, &seen, 0, 60000);
    email_event e = good_event();

    (void)state;
    for (int i = 0; i < 1000; i++)
        assert_int_equal(email_producer_send(p, &e, on_outcome, &seen, NULL, 0), EMAIL_QUEUED);
    email_producer_destroy(p, 0);
    assert_int_equal(seen.outcomes, 1000);
    assert_int_equal(seen.results[EMAIL_PUBLISHED] + seen.results[EMAIL_FAILED] +
                         seen.results[EMAIL_UNKNOWN],
                     1000);
    assert_int_equal(seen.mails, 0);
}

static void test_destroy_flushes(void **state)
{
    struct seen seen = SEEN_INIT;
    email_producer *p = start_with(settings, &seen, 0, 60000);
    email_event e = good_event();

    (void)state;
    for (int i = 0; i < 100; i++)
        assert_int_equal(email_producer_send(p, &e, on_outcome, &seen, NULL, 0), EMAIL_QUEUED);
    email_producer_destroy(p, -1);
    assert_int_equal(seen.results[EMAIL_PUBLISHED], 100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_threads),
        cmocka_unit_test(test_several_producers_at_once),
        cmocka_unit_test(test_destroy_with_events_under_way),
        cmocka_unit_test(test_destroy_flushes),
    };

    return cmocka_run_group_tests(tests, start_broker, stop_broker);
}
