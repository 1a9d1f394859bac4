/* Whether Redis can be used: the greeting after connecting, the probe while it refuses, and what is
 * refreshed in the background (the number of records, the eviction policy).
 *
 * The greeting is one pipeline: AUTH, SELECT, INFO, SCRIPT LOAD of every script, and a write to
 * try. Redis is up once all of that went well. While connected but refused (LOADING, READONLY, OOM,
 * …) the greeting is repeated every second. */
#ifndef IDEMPOTENCY_REDIS_HEALTH_H
#define IDEMPOTENCY_REDIS_HEALTH_H

#include "idempotency/redis_connection.h"
#include "idempotency/redis_scripts.h"
#include "idempotency/store.h"

#define REDIS_RECORDS_KEY "email:records"

enum { REDIS_SHA_LEN = 40, REDIS_PROBE_KEY_SIZE = CLAIM_TOKEN_SIZE + 16 };

enum redis_condition {
    REDIS_DOWN,    /* no connection, or the greeting is not answered yet */
    REDIS_REFUSED, /* connected, and it refuses to work */
    REDIS_UP
};

enum redis_greeting {
    GREET_AUTH,
    GREET_SELECT,
    GREET_SERVER,
    GREET_REPLICATION,
    GREET_MEMORY,
    GREET_SCRIPTS, /* the first of REDIS_SCRIPTS */
    GREET_PROBE = GREET_SCRIPTS + REDIS_SCRIPTS,
    GREET_STEPS
};

struct redis_health {
    struct loop *loop;
    const struct store_settings *settings;
    struct redis_connection *connection;
    enum redis_condition condition;
    char error[256];

    struct redis_request greeting[GREET_STEPS];
    unsigned unanswered;
    bool unauthorized;
    char cause[256];   /* the first refusal in this greeting */
    unsigned refusals; /* greetings in a row */
    bool scripts_lost;
    char probe_key[REDIS_PROBE_KEY_SIZE];

    char version[32];    /* "" unknown */
    bool has_set_nx_get; /* SET … NX GET: Redis 7 */
    char sha[REDIS_SCRIPTS][REDIS_SHA_LEN + 1];
    char lease_text[24], ttl_text[24], bucket_text[24]; /* ARGV of every script */

    struct redis_request count_request, policy_request;
    unsigned seconds; /* since the eviction policy was asked for */
    int64_t records;  /* -1 unknown */
    bool evicts;
    char policy[32];

    struct loop_timer timer;
    struct loop_task changed_task;
};

BASE_CHECK bool redis_health_init(struct redis_health *h, struct loop *loop,
                                  const struct store_settings *settings, struct error *err);
void redis_health_cleanup(
    struct redis_health *h); /* the connection, too; fine on a zeroed struct */

/* Whether an error reply is about Redis as a whole, rather than about the one key. */
bool redis_health_is_refusal(struct slice error);
/* An operation met such an error: down, until the greeting succeeds again. */
void redis_health_refused(struct redis_health *h, struct slice error);
/* Whether an error reply is NOSCRIPT; they will be loaded again then. */
bool redis_health_script_missing(struct redis_health *h, struct slice error);

/* Calls a script by its SHA1, or with its source, see redis_scripts.h for the arguments. */
BASE_CHECK bool redis_health_call(struct redis_health *h, struct redis_request *r,
                                  enum redis_script script, bool with_source, struct slice key,
                                  const struct claim *claim, struct slice value);

#endif
