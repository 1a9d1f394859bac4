/* The steps of the delivery protocol that Redis takes atomically, in Lua. Needs Redis 5 (a script
 * that asks for the TIME may write afterwards).
 *
 * All but two get the same arguments, so that one function calls them all:
 *   KEYS[1] the event's key      KEYS[2] email:records
 *   ARGV[1] token   [2] fp   [3] lease_ms   [4] ttl_ms   [5] a value, see each script
 *   [6] bucket_ms of email:records
 * They answer an integer (or what stood in the key: SCRIPT_CLAIM).
 *
 * SCRIPT_FENCE and SCRIPT_MARK_SENT, which every mail needs, take many keys in one call:
 *   KEYS[1] email:records   [2…] the events' keys
 *   ARGV[1] lease_ms   [2] ttl_ms   [3] bucket_ms   then of KEYS[i]: [2i] token   [2i+1] a value
 * They answer a text with a digit for each key. */
#ifndef IDEMPOTENCY_REDIS_SCRIPTS_H
#define IDEMPOTENCY_REDIS_SCRIPTS_H

enum redis_script {
    SCRIPT_CLAIM,
    SCRIPT_CLAIM_OVER,
    SCRIPT_TAKE,
    SCRIPT_RENEW,
    SCRIPT_FENCE,
    SCRIPT_MARK_SENT,
    SCRIPT_MARK_DEAD,
    SCRIPT_RELEASE,
    SCRIPT_COUNT,
    REDIS_SCRIPTS
};

enum { REDIS_MARK_WRITTEN = 1, REDIS_MARK_FOREIGN = 2, REDIS_MARK_REPEATED = 3 };

const char *redis_script_source(enum redis_script script);

#endif
