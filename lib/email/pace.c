#include "email/pace.h"

enum {
    STEP_MS = 1000,
    HOLD_MS = 10000, /* then more connections are tried although the last ones brought nothing */
    GROWTH_PART = 8, /* of the connections that there are */
    MORE_PER_MILLE =
        30,       /* mails that count as more: a quarter of what an eighth more could bring */
    A_REPLY = 32, /* that it is busy outweighs so many mails taken */
    STRAINED = 3 * A_REPLY,
    A_MAIL = 1000,
    BURST_PART = 20
};

void pace_init(struct pace *p, unsigned most_connections, uint64_t rate_per_second)
{
    *p = (struct pace){.most = most_connections ? most_connections : 1,
                       .strain = STRAINED, /* a relay that says so at the start is heeded */
                       .rate = rate_per_second};
    p->limit = p->most;
}

unsigned pace_connections(const struct pace *p)
{
    return p->limit;
}

bool pace_busy(struct pace *p, unsigned used, uint64_t now_ms)
{
    const unsigned before = p->limit, in_use = used < before ? used : before;
    const bool strained = p->strain + A_REPLY >= STRAINED;

    p->strain = strained ? STRAINED : p->strain + A_REPLY;
    if (!strained || (p->fallen && now_ms - p->fell_ms < STEP_MS))
        return false; /* single mails' matter, or the same burst */
    p->fallen = true;
    p->fell_ms = p->changed_ms = now_ms;
    p->taken = p->before = 0;
    p->limit = in_use > 1 ? in_use / 2 : 1;
    return p->limit < before;
}

static void grow(struct pace *p, uint64_t now_ms)
{
    const unsigned step = p->limit / GROWTH_PART ? p->limit / GROWTH_PART : 1;

    p->limit = step < p->most - p->limit ? p->limit + step : p->most;
    p->changed_ms = now_ms;
    p->taken = 0;
}

void pace_success(struct pace *p, uint64_t now_ms)
{
    const uint64_t passed_ms = now_ms - p->changed_ms;
    uint64_t rate;

    if (p->strain)
        p->strain--;
    if (p->limit == p->most)
        return;
    p->taken++;
    if (passed_ms < STEP_MS)
        return;
    rate = p->taken * A_MAIL * 1000 / passed_ms;
    if (passed_ms < HOLD_MS && rate * 1000 < p->before * (1000 + MORE_PER_MILLE))
        return;
    p->before = rate;
    grow(p, now_ms);
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
