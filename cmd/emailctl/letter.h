/* A dead letter as its readers see it, and whether it is to be redriven. Pure. */
#ifndef EMAILCTL_LETTER_H
#define EMAILCTL_LETTER_H

#include "base/arena.h"
#include "kafka/record.h"
#include "options.h"

struct letter { /* slices are the record's or the arena's; absent where there is none */
    int32_t partition;
    int64_t offset;
    int64_t failed_at_unix_ms; /* dlq-failed-at, or else the record's own time */
    struct slice reason, error, smtp_reply, recipients;
    struct slice message_id, type;
    uint64_t attempts, redriven;
    bool whole; /* false: its value was cut, and can't be sent */
};

/* Works for every record, whatever it holds. False where memory is out. */
BASE_CHECK bool letter_read(struct arena *arena, const struct record *record, struct letter *out);

/* --reason, --since, --until, --type, --message-id */
bool letter_matches(const struct letter *letter, const struct options *o);

/* NULL where it is to be redriven, else why not, for people. */
const char *letter_obstacle(struct arena *arena, const struct letter *letter,
                            const struct record *record, const struct options *o,
                            size_t max_event_bytes, int64_t now_unix_ms);

/* The headers to redrive it with: the original's own, and dlq-redriven. False where memory is out.
 */
BASE_CHECK bool letter_redrive_headers(struct arena *arena, const struct letter *letter,
                                       const struct record *record,
                                       const struct record_header **headers, size_t *len);

#endif
