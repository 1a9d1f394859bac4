/* What is produced for a dead letter, and how it is made smaller where the topic does not take it.
 * Pure.
 *
 * The largest part gives way first: the value to its beginning (64 KiB, then half, and so on), the
 * original's headers and the key entirely. What is missing is said in headers, and dlq-topic,
 * dlq-partition and dlq-offset tell where the whole record is. */
#ifndef KAFKA_DLQ_PARCEL_H
#define KAFKA_DLQ_PARCEL_H

#include "base/arena.h"
#include "base/error.h"
#include "kafka/record.h"

struct dlq_parcel {
    struct slice key, value;
    const struct record_header *headers; /* the original's, then ours (dlq-…) */
    size_t headers_len;
};

/* Kept from one cut to the next, zeroed at first. */
struct dlq_cut {
    bool value, key, headers, details;
};

/* Makes the parcel smaller, in the arena; false where nothing can go any more, or memory is out. */
BASE_CHECK bool dlq_parcel_cut(struct arena *arena, struct dlq_parcel *parcel, struct dlq_cut *cut);

#endif
