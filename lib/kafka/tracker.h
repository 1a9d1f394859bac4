/* Which offsets of one partition are finished: the contiguous watermark that may be committed.
 * Pure.
 *
 * Offsets begin in ascending order (gaps are fine: compaction, transactions' markers) and finish in
 * any order. */
#ifndef KAFKA_TRACKER_H
#define KAFKA_TRACKER_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

struct tracker;

BASE_CHECK struct tracker *tracker_new(void);
void tracker_destroy(struct tracker *t); /* NULL is fine */

/* Taken. False where memory is out or offset is not above all begun before. */
BASE_CHECK bool tracker_begin(struct tracker *t, int64_t offset);
/* Final outcome reached. False where the offset is not under way (a mistake of the caller). */
BASE_CHECK bool tracker_done(struct tracker *t, int64_t offset);
/* Given up without an outcome: no longer under way, and the watermark never passes it. */
BASE_CHECK bool tracker_abandon(struct tracker *t, int64_t offset);

/* The offset to commit: one past the last of the finished run at the start, -1 before anything
 * began. */
int64_t tracker_watermark(const struct tracker *t);
size_t tracker_under_way(const struct tracker *t);

#endif
