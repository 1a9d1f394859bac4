#include "email/retry.h"

bool retry_exhausted(const struct retry_policy *policy, unsigned attempts)
{
    return attempts >= policy->max_attempts;
}

static uint64_t ceiling_ms(const struct retry_policy *policy, unsigned attempts)
{
    uint64_t ceiling = policy->base_ms < policy->max_ms ? policy->base_ms : policy->max_ms;

    while (attempts-- > 1 && ceiling && ceiling < policy->max_ms)
        ceiling = ceiling > policy->max_ms - ceiling ? policy->max_ms : ceiling * 2;
    return ceiling;
}

uint64_t retry_delay_ms(const struct retry_policy *policy, unsigned attempts, uint64_t random)
{
    const uint64_t ceiling = ceiling_ms(policy, attempts);

    if (ceiling == UINT64_MAX)
        return random;
    /* The high word of the product is uniform in [0, ceiling], without the bias of a remainder. */
    return (uint64_t)(((unsigned __int128)random * (ceiling + 1)) >> 64);
}
