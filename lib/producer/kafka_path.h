/* The way of events to Kafka: one idempotent producer with acks=all on the library's loop.
 * Everything but publishing runs on the loop's thread. */
#ifndef PRODUCER_KAFKA_PATH_H
#define PRODUCER_KAFKA_PATH_H

#include <stdint.h>

#include "base/loop.h"
#include "base/slice.h"
#include "kafka/kafka_settings.h"

struct kafka_path;

struct kafka_path_settings {
    struct kafka_settings kafka;
    const char *topic;
    uint64_t timeout_ms; /* from publishing to the report, at the most */
    size_t max_events;
};

enum kafka_path_result {
    KAFKA_PATH_DONE,         /* all in-sync replicas have it */
    KAFKA_PATH_NOT_TAKEN,    /* it is certainly not in the topic, and will not come there */
    KAFKA_PATH_PERHAPS_TAKEN /* it may be there, or may come there later */
};

struct kafka_path_report {
    enum kafka_path_result result;
    const char *error;  /* "" where done; valid during the call, as is what follows */
    struct slice value; /* of the event, as it was published */
    int32_t partition;
    int64_t offset;
};

/* Exactly once for every event that was published. */
typedef void (*kafka_path_fn)(void *ctx, void *event, const struct kafka_path_report *report);

BASE_CHECK struct kafka_path *kafka_path_new(struct loop *loop,
                                             const struct kafka_path_settings *settings,
                                             kafka_path_fn fn, void *ctx, struct error *err);

/* From any thread. Until kafka_path_leave the Kafka client stays as it is. False: there is none for
 * now, since it failed and is being made anew; then nothing is to be left. */
BASE_CHECK bool kafka_path_enter(struct kafka_path *p);
void kafka_path_leave(struct kafka_path *p);

/* Between these two. Publishes (copies key and value); the report comes on the loop's thread, maybe
 * before the return. False: it is not taken, there is no report, and err says why. key.ptr NULL: no
 * key. */
BASE_CHECK bool kafka_path_publish(struct kafka_path *p, struct slice key, struct slice value,
                                   void *event, struct error *err);

/* Waits for the threads that are within. Nobody may enter any more. */
void kafka_path_wait_left(struct kafka_path *p);

/* Gives up all that is under way; the reports follow. */
void kafka_path_give_up(struct kafka_path *p);

/* Drops what is left, without reports; can take two seconds. NULL is fine. */
void kafka_path_destroy(struct kafka_path *p);

#endif
