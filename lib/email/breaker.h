/* Circuit breaker for the relay. Pure.
 *
 * Closed: everybody may try. Open, after `threshold` failures in a row: one at a time may try (the
 * probe). The first success closes it. There is no clock in it: how often a probe comes is the
 * retry policy's business. */
#ifndef EMAIL_BREAKER_H
#define EMAIL_BREAKER_H

#include <stdbool.h>
#include <stddef.h>

struct breaker {
    unsigned threshold; /* at least 1 */
    unsigned failures;  /* in a row */
    bool open;
};

void breaker_init(struct breaker *b, unsigned threshold);

/* May another one try while `trying` are at it? */
bool breaker_admits(const struct breaker *b, size_t trying);

/* Each returns true where it changed the state. */
bool breaker_failure(struct breaker *b);
bool breaker_success(struct breaker *b);

#endif
