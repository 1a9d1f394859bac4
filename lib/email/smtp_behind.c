#include "email/smtp_behind.h"

enum {
    UNHEARD_UNPROVED = 2, /* so many in a row are enough where it has never worked */
    UNHEARD_PROVED = 3,
    BURST_MS = 1000, /* a relay that stops ends many sessions at once: they count once */
    NO_LIMIT = 1000  /* beyond it there is nothing to be won by knowing */
};

bool behind_may(const struct behind *b, unsigned mails, bool on_trial)
{
    /* The mail under way is not among those finished. */
    return !b->off && (b->proved || !on_trial) && (!b->most || mails + 2 <= b->most);
}

void behind_heard(struct behind *b)
{
    b->proved = true;
    b->unheard = 0;
}

static bool count(struct behind *b, uint64_t now_ms)
{
    if (b->off || (b->proved && b->unheard && now_ms - b->unheard_ms < BURST_MS))
        return false;
    b->unheard++;
    b->unheard_ms = now_ms;
    b->off = b->unheard >= (b->proved ? UNHEARD_PROVED : UNHEARD_UNPROVED);
    return b->off;
}

bool behind_timed_out(struct behind *b, uint64_t now_ms)
{
    return count(b, now_ms);
}

/* False where it was known: sessions that were about to pass it all come to the same end. */
static bool learn(struct behind *b, unsigned mails)
{
    if (!mails || (b->most && mails >= b->most))
        return false;
    b->most = mails;
    return true;
}

bool behind_lost(struct behind *b, unsigned mails, bool answered, uint64_t now_ms)
{
    if (answered && !learn(b, mails))
        return false;
    return count(b, now_ms);
}

void behind_limit(struct behind *b, unsigned mails)
{
    (void)learn(b, mails);
    behind_heard(b);
}

void behind_took(struct behind *b, unsigned mails)
{
    if (!b->most || mails <= b->most)
        return;
    b->most = mails < NO_LIMIT / 2 ? mails * 2 : 0;
}
