/* What every Kafka client of ours needs to know. Strings are borrowed and must outlive the client.
 */
#ifndef KAFKA_SETTINGS_H
#define KAFKA_SETTINGS_H

#include <stddef.h>

#include "base/error.h"

struct kafka_property {
    const char *name; /* librdkafka's, e.g. "security.protocol" */
    const char *value;
};

struct kafka_settings {
    const char *brokers;
    const char *client_id;
    const struct kafka_property *properties; /* KAFKA_CONFIG_… */
    size_t properties_len;
};

/* Checks KAFKA_CONFIG_… properties: unknown ones, bad values, and those that the delivery
 * guarantees rest on and that therefore cannot be overridden (enable.auto.offset.store, acks, …).
 * One call a property, the error names it. */
BASE_CHECK bool kafka_property_check(const struct kafka_property *p, struct error *err);

#endif
