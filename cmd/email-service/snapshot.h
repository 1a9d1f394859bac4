/* The service's state at one instant, gathered by the pipeline for one answer over HTTP. Everything
 * in it is cached somewhere already, so that gathering it costs next to nothing. Strings are
 * borrowed. */
#ifndef SNAPSHOT_H
#define SNAPSHOT_H

#include "email/transport.h"
#include "idempotency/store.h"
#include "kafka/consumer.h"
#include "kafka/dead_letter.h"
#include "process_stats.h"

struct snapshot {
    int64_t now_unix_ms, started_unix_ms;
    const char *version;
    const char *instance; /* tells this process from its siblings, e.g. host and pid */
    const char *mode;     /* "log" or "smtp" */
    const char *events_topic, *dlq_topic;
    unsigned ttl_hours;
    bool dev, shutting_down;

    uint64_t in_flight, in_flight_bytes; /* events taken and not yet finished */
    uint64_t max_in_flight, max_in_flight_bytes;
    uint64_t retry_waiting;
    uint64_t log_dropped_lines;

    struct consumer_state kafka;
    struct dlq_state dlq;
    struct store_state redis;
    struct transport_state smtp;
    const struct partition_state *partitions; /* those assigned */
    size_t partitions_len;
    struct process_stats process;
};

/* Whether partitions can be worked on: Kafka and Redis reached, something assigned, the relay not
 * in outage. */
bool snapshot_ready(const struct snapshot *s);
/* Records behind on all partitions whose lag is known. */
int64_t snapshot_lag(const struct snapshot *s);

#endif
