/* An in-process Kafka for --dev and for unit tests: librdkafka's mock cluster. For trying out: at
 * most 5 MB a partition are kept, older records are dropped silently, and all is gone when the
 * process ends. */
#ifndef KAFKA_MOCK_BROKER_H
#define KAFKA_MOCK_BROKER_H

#include "base/error.h"

struct mock_broker;

BASE_CHECK struct mock_broker *mock_broker_start(struct error *err);
const char *mock_broker_bootstrap(const struct mock_broker *m); /* "127.0.0.1:port" */
BASE_CHECK bool mock_broker_create_topic(struct mock_broker *m, const char *topic, int partitions,
                                         struct error *err);
void mock_broker_stop(struct mock_broker *m); /* NULL is fine */

#endif
