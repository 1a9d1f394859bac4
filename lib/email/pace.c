#include "email/pace.h"

enum { STEP_MS = 1000, A_MAIL = 1000, BURST_PART = 20 };

void pace_init(struct pace *p, unsigned most_connections, uint64_t rate_per_second)
{
    *p = (struct pace){.most = most_connections ? most_connections : 1, .rate = rate_per_second};
    p->limit = p->most;
}

unsigned pace_connections(const struct pace *p)
{
    return p->limit;
}

bool pace_busy(struct pace *p, unsigned used, uint64_t now_ms)
{
    const unsigned before = p->limit, in_use = used < before ? used : before;

    if (p->fallen && now_ms - p->fell_ms < STEP_MS)
        return false; /* the same burst */
    p->fallen = true;
    p->fell_ms = p->changed_ms = now_ms;
    p->limit = in_use > 1 ? in_use / 2 : 1;
    return p->limit < before;
}

void pace_success(struct pace *p, uint64_t now_ms)
{
    if (p->limit == p->most || now_ms - p->changed_ms < STEP_MS)
        return;
    p->limit++;
    p->changed_ms = now_ms;
}

/* What the bucket holds at the most. */
static uint64_t burst(const struct pace *p)
{
    const uint64_t mails = p->rate / BURST_PART;

    return (mails ? mails : 1) * A_MAIL;
}

static void fill(struct pace *p, uint64_t now_ms)
{
    const uint64_t most = burst(p), passed_ms = now_ms - p->filled_ms;

    /* A mail a second is a thousandth of a mail a millisecond. */
    if (p->filled_ms == 0 || passed_ms >= most / p->rate + 1)
        p->tokens = most;
    else
        p->tokens += passed_ms * p->rate;
    if (p->tokens > most)
        p->tokens = most;
    p->filled_ms = now_ms;
}

uint64_t pace_delay_ms(struct pace *p, uint64_t now_ms)
{
    if (!p->rate)
        return 0;
    fill(p, now_ms);
    if (p->tokens >= A_MAIL)
        return 0;
    return (A_MAIL - p->tokens + p->rate - 1) / p->rate;
}

void pace_take(struct pace *p)
{
    if (p->rate)
        p->tokens -= p->tokens < A_MAIL ? p->tokens : A_MAIL;
}
