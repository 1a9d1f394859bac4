#include "kafka/fetch_look.h"

/* Between the last look and the next. */
static uint64_t delay_ms(const struct fetch_look *l)
{
    uint64_t ms = FETCH_LOOK_MS;

    for (unsigned n = FETCH_LOOK_OFTEN; n < l->looks && ms <= FETCH_LOOK_LONGEST_MS; n++)
        ms *= 2;
    return ms;
}

static bool over(const struct fetch_look *l)
{
    return delay_ms(l) > FETCH_LOOK_LONGEST_MS;
}

bool fetch_look_now(struct fetch_look *l, int64_t next_offset, uint64_t now_ms)
{
    if (next_offset != l->next_offset)
        *l = (struct fetch_look){.next_offset = next_offset};
    else if (over(l) || now_ms < l->due_ms)
        return false;
    l->looks++;
    l->due_ms = now_ms + delay_ms(l);
    return true;
}

uint64_t fetch_look_delay_ms(const struct fetch_look *l, uint64_t now_ms)
{
    if (!l->looks || over(l))
        return 0;
    return l->due_ms > now_ms ? l->due_ms - now_ms : 1;
}
