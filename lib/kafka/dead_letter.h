/* The dead-letter record (contract §5) and the producer that brings it to the DLQ topic. */
#ifndef KAFKA_DEAD_LETTER_H
#define KAFKA_DEAD_LETTER_H

#include "base/arena.h"
#include "base/loop.h"
#include "kafka/kafka_settings.h"
#include "kafka/record.h"

struct dead_letter {
    const struct record *record; /* original key, value bytes, headers and coordinates */
    const char *reason;          /* invalid_event, too_large, expired, … */
    const char *error;           /* readable, without mail content */
    unsigned attempts;
    int64_t failed_at_unix_ms;
    const char *smtp_reply;      /* NULL or "": none */
    const char *recipients_json; /* NULL: all were refused, or none was tried */
};

/* The headers of a dead letter: the record's own, except earlier dlq-* ones (but dlq-redriven,
 * which stays), then ours. Pure; all in the arena. False where memory is out. */
BASE_CHECK bool dead_letter_headers(struct arena *arena, const struct dead_letter *letter,
                                    const struct record_header **headers, size_t *len);

struct dlq; /* an idempotent producer with acks=all */

struct dlq_state {
    bool up;
    uint64_t waiting; /* produced, not yet acknowledged */
    char error[256];
};

/* acknowledged: all in-sync replicas have it. Not acknowledged: it is not known to be there;
 * produce it again. */
typedef void (*dlq_fn)(void *ctx, bool acknowledged, const char *error);

BASE_CHECK struct dlq *dlq_new(struct loop *loop, const struct kafka_settings *kafka,
                               const char *topic, void (*fatal)(void *ctx, const char *reason),
                               void *ctx, struct error *err);

/* Copies all it needs; fn is called exactly once, never before the return, from the loop (error ""
 * where acknowledged). A letter that the broker finds too large is produced again, smaller: the
 * value's beginning under the headers dlq-truncated (original bytes) and dlq-value-xxh128 (XXH3-128
 * of the original, hex), without the original's headers under dlq-headers-dropped (how many),
 * without its key under dlq-key-dropped (original bytes), whatever is largest first. See
 * docs/EMAIL_SERVICE_KAFKA.md. */
void dlq_produce(struct dlq *d, const struct dead_letter *letter, dlq_fn fn, void *ctx);

void dlq_state(const struct dlq *d, struct dlq_state *out);
void dlq_destroy(struct dlq *d); /* waits at most a second for what is under way, drops callbacks;
                                    NULL is fine */

#endif
