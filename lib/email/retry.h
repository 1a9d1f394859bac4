/* Retry policy: exponential backoff with full jitter. Pure: randomness is a parameter. */
#ifndef EMAIL_RETRY_H
#define EMAIL_RETRY_H

#include <stdbool.h>
#include <stdint.h>

struct retry_policy {
    unsigned max_attempts; /* at least 1 */
    uint64_t base_ms, max_ms;
};

/* True where an event that has used `attempts` attempts has none left. */
bool retry_exhausted(const struct retry_policy *policy, unsigned attempts);

/* The delay before the next attempt after `attempts` (at least 1) have failed: uniform in
 * [0, min(max_ms, base_ms · 2^(attempts−1))]; `random` is a uniform 64-bit number. */
uint64_t retry_delay_ms(const struct retry_policy *policy, unsigned attempts, uint64_t random);

#endif
