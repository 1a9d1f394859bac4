/* The idempotency store: one claim an event, behind one interface with two backends (Redis,
 * memory).
 *
 * Every operation is asynchronous and answered exactly once, never before the call returns, on the
 * loop's thread, within settings.timeout_ms (STORE_UNAVAILABLE then: the operation may or may not
 * have taken effect, and repeating it with the same token is harmless and right). The claim and its
 * strings stay the caller's and must live until the answer. While the state is not up everything is
 * answered STORE_UNAVAILABLE without being asked. Callbacks may do anything, even destroy the
 * store. Only where there is no memory for an operation is it refused at once, from within the
 * call. Not thread-safe. */
#ifndef IDEMPOTENCY_STORE_H
#define IDEMPOTENCY_STORE_H

#include <stdint.h>

#include "base/loop.h"
#include "base/slice.h"
#include "idempotency/claim.h"

struct claim { /* one attempt's claim on one event's key */
    struct slice message_id;
    bool by_place;                /* that is no messageID but the place of a record that has none */
    char token[CLAIM_TOKEN_SIZE]; /* unique per attempt: store_new_token */
    char fp[CLAIM_FP_LEN + 1];
    struct coordinates record;
};

enum claim_verdict {
    CLAIM_WON,        /* ours as C, for a lease */
    CLAIM_TAKEN_OVER, /* ours as D: an attempt before us ended in ambiguity; `takeovers` counts ours
                         too */
    CLAIM_DUPLICATE,
    CLAIM_SETTLED,
    CLAIM_CONFLICT,
    CLAIM_PARKED,     /* another record of this mail was parked, whose outcome nobody knows */
    CLAIM_BUSY,       /* look again after wait_ms */
    CLAIM_UNREADABLE, /* the same, and raise an alarm */
    CLAIM_UNAVAILABLE
};

struct claim_answer {
    enum claim_verdict verdict;
    uint64_t wait_ms;
    uint32_t takeovers;
};

enum store_answer {
    STORE_DONE,
    STORE_LOST,       /* the key is no longer ours */
    STORE_UNAVAILABLE /* down, slow, LOADING, READONLY, OOM, NOAUTH, … */
};

struct sent_mark {
    int64_t sent_at_unix_ms;
    uint32_t attempts, recipients;
};

struct dead_mark {
    int64_t dead_at_unix_ms;
    const char *reason;
};

typedef void (*claim_fn)(void *ctx, const struct claim_answer *answer);
typedef void (*store_fn)(void *ctx, enum store_answer answer);

struct store_state {
    bool up;             /* operations are expected to succeed */
    bool evicts;         /* Redis' maxmemory_policy is not noeviction: dedup records can vanish */
    int64_t records;     /* mails marked sent and not yet expired, see store_records; -1 unknown */
    uint64_t unreadable; /* foreign values met in our keys, since the start */
    uint64_t late_marks; /* marks that found another attempt's sent mark: duplicates that were
                            explained */
    char error[256];     /* why it is down; "" while up. Never a password. */
    char eviction_policy[32];
    char version[32]; /* of Redis; "" unknown, or no Redis */
};

struct store;

struct store_ops {
    void (*claim)(struct store *s, const struct claim *c, claim_fn fn, void *ctx);
    void (*renew)(struct store *s, const struct claim *c, store_fn fn, void *ctx);
    void (*fence)(struct store *s, const struct claim *c, store_fn fn, void *ctx);
    void (*mark_sent)(struct store *s, const struct claim *c, const struct sent_mark *mark,
                      store_fn fn, void *ctx);
    void (*mark_dead)(struct store *s, const struct claim *c, const struct dead_mark *mark,
                      store_fn fn, void *ctx);
    void (*release)(struct store *s, const struct claim *c, store_fn fn, void *ctx);
    void (*state)(const struct store *s, struct store_state *out);
    void (*destroy)(struct store *s);
};

struct store { /* first member of each backend */
    const struct store_ops *ops;
};

/* SET NX with the lease; decides about what it finds there, and takes over an expired D, keeping it
 * D. */
void store_claim(struct store *s, const struct claim *c, claim_fn fn, void *ctx);
/* Prolongs our C or D by the lease. STORE_LOST: cancel before the dot. */
void store_renew(struct store *s, const struct claim *c, store_fn fn, void *ctx);
/* Right before the final dot: our C (or D) becomes D with a fresh deadline. Anything but
 * STORE_DONE: no dot. */
void store_fence(struct store *s, const struct claim *c, store_fn fn, void *ctx);
/* After the 250, which is true whatever the key holds: writes the sent object and its TTL.
 * STORE_LOST: another attempt's sent object stands there already (kept). */
void store_mark_sent(struct store *s, const struct claim *c, const struct sent_mark *mark,
                     store_fn fn, void *ctx);
/* After the dead letter was acknowledged: only over our own C or D, or over nothing. */
void store_mark_dead(struct store *s, const struct claim *c, const struct dead_mark *mark,
                     store_fn fn, void *ctx);
/* Gives up our own C or D after a definite failure; STORE_LOST where it is not ours (harmless). */
void store_release(struct store *s, const struct claim *c, store_fn fn, void *ctx);

/* Cached, costs nothing: refreshed in the background about once a second. */
void store_state(const struct store *s, struct store_state *out);
/* Drops what is under way, without callbacks; NULL is fine. */
void store_destroy(struct store *s);

struct store_settings { /* strings are borrowed and must outlive the store */
    uint64_t lease_ms, ttl_ms;
    uint64_t timeout_ms; /* an operation that takes longer counts as STORE_UNAVAILABLE */
    /* Redis only */
    const char *host;
    unsigned port;
    const char *user, *password; /* NULL or "": none */
    unsigned db;
    bool tls;                   /* rediss:// */
    void (*changed)(void *ctx); /* `up` changed; may be NULL */
    void *changed_ctx;
};

/* Neither connects nor fails because Redis is away: it connects in the background, and again with
 * backoff. */
BASE_CHECK struct store *redis_store_new(struct loop *loop, const struct store_settings *settings,
                                         struct error *err);
/* False where this build cannot do rediss:// (hiredis before 1.0). */
bool redis_store_has_tls(void);

BASE_CHECK struct store *memory_store_new(struct loop *loop, const struct store_settings *settings,
                                          struct error *err);

/* A token that no other attempt ever had: host, pid, a nonce drawn once a process, a counter. No
 * '|' in it. */
void store_new_token(char out[CLAIM_TOKEN_SIZE]);

#endif
