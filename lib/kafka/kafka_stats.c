#include "kafka/kafka_stats.h"

#include <stdio.h>
#include <stdlib.h>

#include <jansson.h>

struct kafka_stats {
    json_t *root;
};

struct kafka_stats *kafka_stats_parse(struct slice json)
{
    struct kafka_stats *s = calloc(1, sizeof(*s));

    if (!s)
        return NULL;
    s->root = json.ptr ? json_loadb(json.ptr, json.len, 0, NULL) : NULL;
    if (json_is_object(s->root))
        return s;
    kafka_stats_destroy(s);
    return NULL;
}

void kafka_stats_destroy(struct kafka_stats *s)
{
    if (!s)
        return;
    json_decref(s->root);
    free(s);
}

static const char *text(const json_t *object, const char *name)
{
    const char *value = json_string_value(json_object_get(object, name));

    return value ? value : "";
}

static bool broker_up(const json_t *broker, int64_t silent_ms)
{
    const int64_t owed = json_integer_value(json_object_get(broker, "waitresp_cnt"));
    const int64_t silent_us = json_integer_value(json_object_get(broker, "rxidle"));

    /* The group coordinator's connection is "logical": it comes on top of the broker's own, and may
     * owe the answer to a JoinGroup for as long as a rebalance takes. */
    if (strcmp(text(broker, "source"), "logical") == 0 || strcmp(text(broker, "state"), "UP") != 0)
        return false;
    return owed == 0 || silent_us / 1000 < silent_ms;
}

bool kafka_stats_broker_up(const struct kafka_stats *s, int64_t silent_ms)
{
    json_t *brokers = json_object_get(s->root, "brokers"), *broker;
    const char *name;

    json_object_foreach(brokers, name, broker)
    {
        if (broker_up(broker, silent_ms))
            return true;
    }
    return false;
}

int64_t kafka_stats_committed(const struct kafka_stats *s, const char *topic, int32_t partition)
{
    const json_t *topics = json_object_get(s->root, "topics"), *found;
    char id[16];

    snprintf(id, sizeof(id), "%d", (int)partition);
    found = json_object_get(json_object_get(json_object_get(topics, topic), "partitions"), id);
    found = json_object_get(found, "committed_offset");
    return json_is_integer(found) && json_integer_value(found) >= 0 ? json_integer_value(found)
                                                                    : -1;
}
