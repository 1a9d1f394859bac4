/* What the consumer and the dead-letter producer share: one librdkafka handle, its events brought
 * to the loop through one eventfd, its log lines to ours, and whether a broker is reached. Internal
 * to lib/kafka.
 *
 * librdkafka writes the eventfd when a queue turns from empty to non-empty only, so each wake-up
 * drains the event queue, and a timer looks once a second in any case (which also serves
 * max.poll.interval.ms). */
#ifndef KAFKA_CLIENT_H
#define KAFKA_CLIENT_H

#include <stdint.h>

#include "base/loop.h"
#include "kafka/kafka_settings.h"
#include "kafka/kafka_stats.h"

/* librdkafka's own types, by their tags: its header stays in the .c files. */
struct rd_kafka_s;
struct rd_kafka_conf_s;
struct rd_kafka_queue_s;
struct rd_kafka_op_s;

enum kafka_client_kind { KAFKA_CLIENT_CONSUMER, KAFKA_CLIENT_PRODUCER };

struct kafka_client_hooks {
    /* An event that is not common to both kinds (a rebalance, a delivery report, a consumer's
     * error). */
    void (*event)(void *ctx, struct rd_kafka_op_s *event);
    /* All events are drained: after a wake-up, and once a second. */
    void (*drained)(void *ctx);
    /* Once a second. NULL: not wanted. */
    void (*stats)(void *ctx, const struct kafka_stats *stats);
    /* librdkafka gave up for good. At most once, from a task of the loop: the client may be
     * destroyed. */
    void (*fatal)(void *ctx, const char *reason);
};

struct kafka_client {
    struct loop *loop;
    struct rd_kafka_s *rk;
    struct rd_kafka_queue_s *queue; /* all events */
    int event_fd;
    struct loop_fd wake;
    struct loop_timer timer;
    struct loop_task fatal_task;
    const struct kafka_client_hooks *hooks;
    void *ctx;
    bool up;
    bool failed;     /* a fatal error was reported */
    char error[256]; /* the last one while not up */
    char fatal_reason[256];
};

/* The configuration: what all our clients set, then `ours`, then the user's properties (checked
 * again). The caller owns it until kafka_client_start. */
BASE_CHECK struct rd_kafka_conf_s *kafka_conf_new(const struct kafka_settings *settings,
                                                  const struct kafka_property *ours,
                                                  size_t ours_len, struct error *err);

/* Takes conf over, also where it fails. *client is zeroed or cleaned up before. */
BASE_CHECK bool kafka_client_start(struct kafka_client *client, struct loop *loop,
                                   enum kafka_client_kind kind, struct rd_kafka_conf_s *conf,
                                   int events, const struct kafka_client_hooks *hooks, void *ctx,
                                   struct error *err);

/* Lets queue wake the same eventfd. To be undone by kafka_client_unwatch before the queue is
 * destroyed. */
void kafka_client_watch(struct kafka_client *client, struct rd_kafka_queue_s *queue);
void kafka_client_unwatch(struct rd_kafka_queue_s *queue);

/* Looks again after delay_ms instead of a second. */
void kafka_client_hurry(struct kafka_client *client, uint64_t delay_ms);
/* Reports a fatal error of our own through the hook. */
void kafka_client_fail(struct kafka_client *client, const char *reason);

/* Destroys the handle, which can block on a broker that does not answer: after max_ms it is left to
 * itself, because the process is about to end. Legal on a zeroed struct, and twice. */
void kafka_client_cleanup(struct kafka_client *client, unsigned max_ms);

/* The same for a bare handle. */
void kafka_handle_destroy(struct rd_kafka_s *rk, unsigned max_ms);

#endif
