#include "kafka/kafka_client.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include <librdkafka/rdkafka.h>

#include "base/log.h"

enum { LOOK_MS = 1000, SILENT_MS = 5000 };

/* ---- events ---- */

static enum log_level log_level_of(const char *facility, int syslog_level)
{
    if (strcmp(facility, "AUTOCREATE") == 0) /* the mock cluster is too old for it, every time */
        return LOG_DEBUG;
    if (syslog_level <= 2)
        return LOG_ERROR;
    if (syslog_level <= 4) /* a connection that failed is an "error" of librdkafka's, and heals */
        return LOG_WARN;
    return syslog_level <= 6 ? LOG_INFO : LOG_DEBUG;
}

static void on_log(struct kafka_client *client, rd_kafka_event_t *event)
{
    const char *facility, *text;
    int level;

    if (rd_kafka_event_log(event, &facility, &text, &level) != 0)
        return;
    /* The same KAFKA_CONFIG_… properties go to the consumer and to the producer. */
    if (strstr(text, "property and will be ignored by"))
        return;
    log_at(log_level_of(facility, level), "Kafka client",
           LOG_STR("client", rd_kafka_name(client->rk)), LOG_STR("facility", facility),
           LOG_STR("detail", text));
}

static void on_stats(struct kafka_client *client, rd_kafka_event_t *event)
{
    struct kafka_stats *stats = kafka_stats_parse(slice_str(rd_kafka_event_stats(event)));

    if (!stats)
        return;
    client->up = kafka_stats_broker_up(stats, SILENT_MS);
    if (client->up)
        client->error[0] = '\0';
    else if (!client->error[0])
        snprintf(client->error, sizeof(client->error), "no broker answers");
    if (client->hooks->stats)
        client->hooks->stats(client->ctx, stats);
    kafka_stats_destroy(stats);
}

static void run_fatal(void *ctx)
{
    struct kafka_client *client = ctx;

    client->hooks->fatal(client->ctx, client->fatal_reason);
}

void kafka_client_fail(struct kafka_client *client, const char *reason)
{
    if (client->failed)
        return;
    client->failed = true;
    snprintf(client->fatal_reason, sizeof(client->fatal_reason), "%s", reason);
    loop_defer(client->loop, &client->fatal_task, run_fatal, client);
}

/* A fatal error comes as an event with whatever code it has (a fenced consumer's is
 * FENCED_INSTANCE_ID, not _FATAL), so it is asked for. */
static void look_for_fatal(struct kafka_client *client)
{
    char reason[256];

    if (rd_kafka_fatal_error(client->rk, reason, sizeof(reason)))
        kafka_client_fail(client, reason);
}

/* True where the error is one that both kinds treat alike. */
static bool on_error(struct kafka_client *client, rd_kafka_event_t *event)
{
    switch (rd_kafka_event_error(event)) {
    case RD_KAFKA_RESP_ERR__FATAL: return true; /* see look_for_fatal */
    case RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN:
        client->up = false; /* and the error tells why, from the connection that failed last */
        if (!client->error[0])
            snprintf(client->error, sizeof(client->error), "all brokers are down");
        return true;
    case RD_KAFKA_RESP_ERR__TRANSPORT:
    case RD_KAFKA_RESP_ERR__RESOLVE:
    case RD_KAFKA_RESP_ERR__AUTHENTICATION:
    case RD_KAFKA_RESP_ERR__SSL:
    case RD_KAFKA_RESP_ERR__TIMED_OUT:
        snprintf(client->error, sizeof(client->error), "%s", rd_kafka_event_error_string(event));
        return true;
    default: return false;
    }
}

static void dispatch(struct kafka_client *client, rd_kafka_event_t *event)
{
    switch (rd_kafka_event_type(event)) {
    case RD_KAFKA_EVENT_LOG: on_log(client, event); return;
    case RD_KAFKA_EVENT_STATS: on_stats(client, event); return;
    case RD_KAFKA_EVENT_ERROR:
        if (on_error(client, event))
            return;
        break;
    default: break;
    }
    client->hooks->event(client->ctx, event);
}

static void drain(struct kafka_client *client)
{
    rd_kafka_event_t *event;

    while ((event = rd_kafka_queue_poll(client->queue, 0))) {
        dispatch(client, event);
        rd_kafka_event_destroy(event);
    }
    look_for_fatal(client);
    client->hooks->drained(client->ctx);
}

static void on_wake(void *ctx, uint32_t events)
{
    struct kafka_client *client = ctx;
    uint64_t count;

    (void)events;
    while (read(client->event_fd, &count, sizeof(count)) < 0 && errno == EINTR)
        ;
    drain(client);
}

static void on_timer(void *ctx)
{
    struct kafka_client *client = ctx;

    kafka_client_hurry(client, LOOK_MS); /* the hooks may hurry it further */
    drain(client);
}

void kafka_client_hurry(struct kafka_client *client, uint64_t delay_ms)
{
    loop_timer_start(client->loop, &client->timer, delay_ms);
}

void kafka_client_watch(struct kafka_client *client, struct rd_kafka_queue_s *queue)
{
    const uint64_t one = 1;

    rd_kafka_queue_io_event_enable(queue, client->event_fd, &one, sizeof(one));
}

void kafka_client_unwatch(struct rd_kafka_queue_s *queue)
{
    rd_kafka_queue_io_event_enable(queue, -1, NULL, 0);
}

/* ---- start and end ---- */

static bool new_handle(struct kafka_client *client, enum kafka_client_kind kind,
                       rd_kafka_conf_t *conf, int events, struct error *err)
{
    const bool consumer = kind == KAFKA_CLIENT_CONSUMER;
    rd_kafka_error_t *error;
    char text[256];

    rd_kafka_conf_set_events(conf, events | RD_KAFKA_EVENT_LOG | RD_KAFKA_EVENT_STATS |
                                       RD_KAFKA_EVENT_ERROR);
    client->rk =
        rd_kafka_new(consumer ? RD_KAFKA_CONSUMER : RD_KAFKA_PRODUCER, conf, text, sizeof(text));
    if (!client->rk) {
        rd_kafka_conf_destroy(conf);
        return error_set(err, "Kafka client: %s", text);
    }
    /* Fails only where the configuration has not asked for a queue of its own (OAUTHBEARER with
     * OIDC). */
    error = rd_kafka_sasl_background_callbacks_enable(client->rk);
    rd_kafka_error_destroy(error);
    if (consumer)
        rd_kafka_poll_set_consumer(client->rk);
    rd_kafka_set_log_queue(client->rk, NULL); /* to the main queue, and so to the consumer's */
    client->queue =
        consumer ? rd_kafka_queue_get_consumer(client->rk) : rd_kafka_queue_get_main(client->rk);
    if (!client->queue)
        return error_set(err, "Kafka client: no queue");
    return true;
}

bool kafka_client_start(struct kafka_client *client, struct loop *loop, enum kafka_client_kind kind,
                        struct rd_kafka_conf_s *conf, int events,
                        const struct kafka_client_hooks *hooks, void *ctx, struct error *err)
{
    *client = (struct kafka_client){.loop = loop, .event_fd = -1, .hooks = hooks, .ctx = ctx};
    loop_timer_init(&client->timer, on_timer, client);
    snprintf(client->error, sizeof(client->error), "not connected yet");
    if (!new_handle(client, kind, conf, events, err))
        goto failed;
    client->event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (client->event_fd < 0) {
        error_set(err, "eventfd: %s", strerror(errno));
        goto failed;
    }
    if (!loop_fd_add(loop, &client->wake, client->event_fd, EPOLLIN, on_wake, client, err))
        goto failed;
    kafka_client_watch(client, client->queue);
    kafka_client_hurry(client, 0); /* events that came before the queue was watched */
    return true;

failed:
    kafka_client_cleanup(client, 1000);
    return false;
}

static void *destroy_thread(void *rk)
{
    rd_kafka_destroy_flags(rk, RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
    return NULL;
}

void kafka_handle_destroy(struct rd_kafka_s *rk, unsigned max_ms)
{
    struct timespec deadline;
    pthread_t thread;

    if (!rk)
        return;
    if (pthread_create(&thread, NULL, destroy_thread, rk) != 0) {
        destroy_thread(rk);
        return;
    }
    clock_gettime(CLOCK_MONOTONIC, &deadline);
    deadline.tv_sec += max_ms / 1000;
    deadline.tv_nsec += (long)(max_ms % 1000) * 1000000;
    if (deadline.tv_nsec >= 1000000000) {
        deadline.tv_nsec -= 1000000000;
        deadline.tv_sec++;
    }
    if (pthread_clockjoin_np(thread, NULL, CLOCK_MONOTONIC, &deadline) != 0)
        pthread_detach(thread);
}

void kafka_client_cleanup(struct kafka_client *client, unsigned max_ms)
{
    if (!client->loop)
        return;
    loop_timer_stop(client->loop, &client->timer);
    loop_undefer(client->loop, &client->fatal_task);
    if (client->queue) {
        kafka_client_unwatch(client->queue);
        rd_kafka_queue_destroy(client->queue);
    }
    kafka_handle_destroy(client->rk, max_ms);
    loop_fd_remove(client->loop, &client->wake);
    if (client->event_fd >= 0)
        close(client->event_fd);
    *client = (struct kafka_client){.event_fd = -1};
}
