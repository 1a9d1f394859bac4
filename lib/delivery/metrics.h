/* What the service counts: totals since the start, two histograms, the most recent outcomes and the
 * last hour by the minute. Pure: times are parameters, and nothing is allocated. Not thread-safe.
 */
#ifndef METRICS_H
#define METRICS_H

#include <math.h>
#include <stdint.h>

#include "base/slice.h"
#include "delivery/dead_reason.h"
#include "email/outcome.h"

enum {
    METRICS_RECENT = 50,
    METRICS_MINUTES = 60,
    METRICS_RETRY_REASONS = REASON_INTERNAL + 1,
    HISTOGRAM_BOUNDS = 17
};

/* A duration that is not known, or that must not be counted (again). */
#define METRICS_UNKNOWN NAN

struct histogram {
    uint64_t counts[HISTOGRAM_BOUNDS + 1]; /* not cumulative; the last one is beyond all bounds */
    uint64_t count;
    double sum;
};

extern const double histogram_bounds[HISTOGRAM_BOUNDS]; /* upper bounds in seconds, included */

enum outcome_kind {
    OUTCOME_KIND_SENT,
    OUTCOME_KIND_DUPLICATE,
    OUTCOME_KIND_RETRY,
    OUTCOME_KIND_DEAD
};

struct recent_outcome {
    int64_t at_unix_ms;
    enum outcome_kind kind;
    const char *reason; /* a constant; "" where there is none */
    char message_id[201];
    char type[65];
};

struct minute {
    int64_t index; /* minutes since 1970 */
    uint64_t sent, duplicates, retries, dead;
};

struct metrics { /* to be read by all, changed by the functions below only */
    uint64_t consumed, sent, duplicates, ambiguous;
    uint64_t retries_total, dead_total;
    uint64_t retries[METRICS_RETRY_REASONS]; /* by enum outcome_reason */
    uint64_t dead[DEAD_REASONS];
    struct histogram delivery, end_to_end;
    struct recent_outcome recent[METRICS_RECENT];
    uint64_t recent_total; /* outcomes ever entered; the newest is at (recent_total - 1) %
                              METRICS_RECENT */
    struct minute minutes[METRICS_MINUTES]; /* of minute i at i % METRICS_MINUTES */
    int64_t newest_minute;
};

/* Which event an outcome belongs to. Slices may be absent; they are copied, and cut where they are
 * too long. */
struct metrics_event {
    int64_t now_unix_ms;
    struct slice message_id, type;
};

void metrics_init(struct metrics *m);

void metrics_consumed(struct metrics *m);
/* delivery: seconds from taking the record to its final outcome; end_to_end: from the record's
 * timestamp to the relay's acceptance. Either may be METRICS_UNKNOWN; below zero (clocks that
 * disagree) counts as zero. */
void metrics_sent(struct metrics *m, const struct metrics_event *e, double delivery_seconds,
                  double end_to_end_seconds);
void metrics_duplicate(struct metrics *m, const struct metrics_event *e, double delivery_seconds);
void metrics_retry(struct metrics *m, const struct metrics_event *e, enum outcome_reason reason);
/* For the dead letter of some refused recipients of a mail that was sent, delivery_seconds is
 * METRICS_UNKNOWN: the event was counted by metrics_sent. */
void metrics_dead_letter(struct metrics *m, const struct metrics_event *e, enum dead_reason reason,
                         double delivery_seconds);
/* The relay was lost between the final dot and its reply. */
void metrics_ambiguous(struct metrics *m);

/* The i-th newest outcome, from 0; NULL where there are fewer. */
const struct recent_outcome *metrics_recent(const struct metrics *m, size_t i);
/* What happened in one minute (since 1970); zeros where it is not among those kept. */
struct minute metrics_minute(const struct metrics *m, int64_t index);

const char *outcome_kind_name(enum outcome_kind kind); /* "sent", "duplicate", "retry", "dead" */

#endif
