/* Creating the topics, looking at them, and deleting records (Admin API). Blocking: for tools,
 * never for the loop. */
#ifndef KAFKA_TOPICS_H
#define KAFKA_TOPICS_H

#include <stdint.h>

#include "kafka/kafka_settings.h"

struct topics_admin;

/* Connects: true once a broker answered a metadata request within timeout_ms. */
BASE_CHECK struct topics_admin *topics_connect(const struct kafka_settings *kafka, int timeout_ms,
                                               struct error *err);
void topics_disconnect(struct topics_admin *admin); /* NULL is fine */

enum topic_result { TOPIC_CREATED, TOPIC_EXISTED, TOPIC_FAILED };

enum topic_result topics_create(struct topics_admin *admin, const char *topic, int partitions,
                                int replication_factor, int timeout_ms, struct error *err);

struct topic_facts {
    bool exists;
    int partitions;
    int replication_factor; /* of the partition with the fewest replicas */
    int leaderless;         /* partitions that nobody can write to now */
    int brokers;            /* of the cluster */
};

/* False where no broker answered, or the topic may not be seen. */
BASE_CHECK bool topics_look(struct topics_admin *admin, const char *topic, int timeout_ms,
                            struct topic_facts *out, struct error *err);

struct topic_cut {
    int32_t partition;
    int64_t before; /* every record below this offset goes */
};

/* Deletes records for good (DeleteRecords). False where one partition's were not deleted: err names
 * the first such partition, the others' may be gone. */
BASE_CHECK bool topics_delete_records(struct topics_admin *admin, const char *topic,
                                      const struct topic_cut *cuts, size_t len, int timeout_ms,
                                      struct error *err);

#endif
