#include "email/breaker.h"

void breaker_init(struct breaker *b, unsigned threshold)
{
    *b = (struct breaker){.threshold = threshold ? threshold : 1};
}

bool breaker_admits(const struct breaker *b, size_t trying)
{
    return !b->open || trying == 0;
}

bool breaker_failure(struct breaker *b)
{
    if (b->failures < b->threshold)
        b->failures++;
    if (b->open || b->failures < b->threshold)
        return false;
    b->open = true;
    return true;
}

bool breaker_success(struct breaker *b)
{
    const bool was_open = b->open;

    b->failures = 0;
    b->open = false;
    return was_open;
}
