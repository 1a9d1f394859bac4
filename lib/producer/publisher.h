/* Bringing events to Kafka: one idempotent producer with acks=all on the library's loop. Everything
 * runs on the loop's thread. */
#ifndef PRODUCER_PUBLISHER_H
#define PRODUCER_PUBLISHER_H

#include <stdint.h>

#include "base/loop.h"
#include "base/slice.h"
#include "kafka/kafka_settings.h"

struct publisher;

struct publisher_settings {
    struct kafka_settings kafka;
    const char *topic;
    uint64_t timeout_ms; /* from publishing to the report, at the most */
    size_t max_events;
};

enum publisher_result {
    PUBLISHER_DONE,         /* all in-sync replicas have it */
    PUBLISHER_NOT_TAKEN,    /* it is certainly not in the topic, and will not come there */
    PUBLISHER_PERHAPS_TAKEN /* it may be there, or may come there later */
};

struct publisher_report {
    enum publisher_result result;
    const char *error; /* "" where done; valid during the call */
    int32_t partition;
    int64_t offset;
};

/* Exactly once for every event that was published. */
typedef void (*publisher_fn)(void *ctx, void *event, const struct publisher_report *report);

BASE_CHECK struct publisher *publisher_new(struct loop *loop,
                                           const struct publisher_settings *settings,
                                           publisher_fn fn, void *ctx, struct error *err);

/* Publishes (copies key and value); the report comes later, never before the return. False: it is
 * not taken, there is no report, and err says why. key.ptr NULL: no key. */
BASE_CHECK bool publisher_publish(struct publisher *p, struct slice key, struct slice value,
                                  void *event, struct error *err);

/* Gives up all that is under way; the reports follow. */
void publisher_give_up(struct publisher *p);

/* Drops what is left, without reports; can take two seconds. NULL is fine. */
void publisher_destroy(struct publisher *p);

#endif
