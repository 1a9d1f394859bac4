/* One Kafka record, as it came. */
#ifndef KAFKA_RECORD_H
#define KAFKA_RECORD_H

#include <stdint.h>

#include "base/slice.h"

struct record_header {
    struct slice name;
    struct slice value; /* ptr NULL: a null value */
};

struct record {
    struct slice topic;
    int32_t partition;
    int64_t offset;
    int64_t timestamp_unix_ms; /* -1: unknown */
    struct slice key, value;   /* ptr NULL: null */
    const struct record_header *headers;
    size_t headers_len;
    uint64_t generation; /* of the partition's assignment: hand it back with consumer_done */
    void *cookie;        /* whatever its maker wants back; the consumer's is NULL */
};

#endif
