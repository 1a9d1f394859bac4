/* What we use of librdkafka's statistics, a JSON text a second. Pure. */
#ifndef KAFKA_STATS_H
#define KAFKA_STATS_H

#include <stdint.h>

#include "base/error.h"
#include "base/slice.h"

struct kafka_stats;

/* NULL where the text is not what librdkafka documents, or memory is out. */
BASE_CHECK struct kafka_stats *kafka_stats_parse(struct slice json);
void kafka_stats_destroy(struct kafka_stats *s); /* NULL is fine */

/* A broker is connected, and answers: one that owes an answer for silent_ms counts as gone, because
 * a frozen one keeps its connection. */
bool kafka_stats_broker_up(const struct kafka_stats *s, int64_t silent_ms);

/* The offset that the group has committed; -1 where it is not known. */
int64_t kafka_stats_committed(const struct kafka_stats *s, const char *topic, int32_t partition);

#endif
