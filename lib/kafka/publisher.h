/* A producer for tools: idempotent, acknowledged by all replicas, driven by its caller's calls
 * instead of a loop. Not thread-safe. */
#ifndef KAFKA_PUBLISHER_H
#define KAFKA_PUBLISHER_H

#include <stdint.h>

#include "kafka/kafka_settings.h"
#include "kafka/record.h"

struct publisher;

/* The outcome of one record, with the tag it was sent with. error: "" where it is acknowledged. */
typedef void (*publisher_fn)(void *ctx, uint64_t tag, const char *error);

/* True once a broker answered that the topic is there. A record that is not acknowledged within
 * timeout_ms has failed. */
BASE_CHECK struct publisher *publisher_open(const struct kafka_settings *kafka, const char *topic,
                                            int timeout_ms, publisher_fn outcome, void *ctx,
                                            struct error *err);

/* Copies key, value and headers; waits where the queue is full. Outcomes are told from inside this
 * call and from publisher_flush. False: the record was not taken, and no outcome follows. */
BASE_CHECK bool publisher_send(struct publisher *p, const struct record *record, uint64_t tag,
                               struct error *err);

/* Tells the outcomes that are there; waits at most wait_ms for the first. */
void publisher_poll(struct publisher *p, int wait_ms);

/* Waits until every record has its outcome, which timeout_ms bounds. */
void publisher_flush(struct publisher *p);

void publisher_close(struct publisher *p); /* drops what has no outcome yet; NULL is fine */

#endif
