/* The values that stand in an event's key, and what a claimant decides on meeting one (design §3).
 * Pure: the rules of the delivery protocol without any Redis, so that both stores obey the same
 * ones.
 *
 * Key email:sent:{messageID}; values:
 *   C|token|fp              claimed; expires with the lease
 *   D|token|fp|deadline|n   from just before the final dot on; deadline in Unix ms by the store's
 * clock, n takeovers
 *   {"state":"sent",…}      sent: settles every record with this messageID
 *   {"state":"dead",…}      dead-lettered: settles the record with these coordinates only
 */
#ifndef IDEMPOTENCY_CLAIM_H
#define IDEMPOTENCY_CLAIM_H

#include <stdint.h>

#include "base/buf.h"
#include "base/error.h"

enum { CLAIM_TOKEN_SIZE = 96, CLAIM_FP_LEN = 32 };

#define CLAIM_KEY_PREFIX "email:sent:"   /* and the messageID */
#define CLAIM_PLACE_PREFIX "email:dead:" /* and a record's place, where it has no messageID */

/* Where a record stands in Kafka; what a dead letter's mark settles. topic is NULL for an event
 * that came from no record (the producer library's direct send), partition -1 where it is not known
 * which record it is (a direct send of what Kafka may have taken): any record's dead letter settles
 * that one. */
struct coordinates {
    struct slice topic;
    int32_t partition;
    int64_t offset;
    int64_t published_unix_ms; /* the record's timestamp: a topic that is made anew or cut uses its
                                  offsets again, for other records; <= 0: unknown */
    bool on_purpose; /* redriven: somebody's decision to send the mail again, whatever was parked */
};

enum claim_kind {
    CLAIM_KIND_CLAIMED, /* C, with a readable fingerprint or without (fp empty) */
    CLAIM_KIND_DOT,     /* D */
    CLAIM_KIND_SENT,
    CLAIM_KIND_DEAD,
    CLAIM_KIND_UNREADABLE /* somebody else's garbage: busy, with an alarm, never skipped */
};

struct claim_value { /* slices point into the value that was parsed */
    enum claim_kind kind;
    struct slice token;
    struct slice fp; /* empty where absent or not CLAIM_FP_LEN hexadecimal digits */
    int64_t deadline_unix_ms;
    uint32_t takeovers;
    struct coordinates dead; /* CLAIM_KIND_DEAD */
    int64_t parked_unix_ms;  /* CLAIM_KIND_DEAD: when, where the reason is `ambiguous`; else 0 */
};

/* Never fails: what cannot be read is CLAIM_KIND_UNREADABLE. A sent object without a fingerprint
 * (written by hand) is SENT with an empty fp. */
void claim_value_parse(struct slice value, struct claim_value *out);

enum claim_decision {
    CLAIM_DECIDE_OURS, /* our own token stands there: the reply to an earlier try was lost; won */
    CLAIM_DECIDE_DUPLICATE, /* sent, with our fingerprint or none */
    CLAIM_DECIDE_CONFLICT,  /* another fingerprint */
    CLAIM_DECIDE_SETTLED,   /* dead letter of exactly this record written */
    CLAIM_DECIDE_PARKED, /* its mail was parked as ambiguous after this record was published: a copy
                            of the same mail, not somebody's decision to send it again */
    CLAIM_DECIDE_OVER_DEAD, /* dead letter of another record: claim over it, if it still stands
                               there */
    CLAIM_DECIDE_WAIT,      /* live foreign claim */
    CLAIM_DECIDE_TAKE, /* a D: take it over if its deadline has passed by the store's clock, else
                          wait */
    CLAIM_DECIDE_UNREADABLE
};

/* What to do about a value found on claiming. A dead mark with another fingerprint and other
 * coordinates is claimed over as well: the publisher may mend what could not be sent. */
enum claim_decision claim_decide(const struct claim_value *found, struct slice token,
                                 struct slice fp, const struct coordinates *record);

/* Writers of the values (appended to out). */
void claim_write_claimed(struct buf *out, struct slice token, struct slice fp);
void claim_write_dot(struct buf *out, struct slice token, struct slice fp, int64_t deadline_unix_ms,
                     uint32_t takeovers);
void claim_write_sent(struct buf *out, struct slice token, struct slice fp, int64_t sent_at_unix_ms,
                      uint32_t attempts, uint32_t recipients);
void claim_write_dead(struct buf *out, struct slice token, struct slice fp, int64_t dead_at_unix_ms,
                      const char *reason, const struct coordinates *record);

/* How long to wait before looking again at somebody else's claim: min(ttl_ms + jitter, 5 s), at
 * least 50 ms. jitter is a uniform random number, of which at most 500 ms are used; ttl_ms < 0:
 * unknown. */
uint64_t claim_wait_ms(int64_t ttl_ms, uint64_t random);

#endif
