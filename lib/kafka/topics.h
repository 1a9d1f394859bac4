/* Creating the topics (Admin API). Blocking: for create-topics, never for the loop. */
#ifndef KAFKA_TOPICS_H
#define KAFKA_TOPICS_H

#include "kafka/kafka_settings.h"

struct topics_admin;

/* Connects: true once a broker answered a metadata request within timeout_ms. */
BASE_CHECK struct topics_admin *topics_connect(const struct kafka_settings *kafka, int timeout_ms,
                                               struct error *err);
void topics_disconnect(struct topics_admin *admin); /* NULL is fine */

enum topic_result { TOPIC_CREATED, TOPIC_EXISTED, TOPIC_FAILED };

enum topic_result topics_create(struct topics_admin *admin, const char *topic, int partitions,
                                int replication_factor, int timeout_ms, struct error *err);

#endif
