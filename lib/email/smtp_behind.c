#include "email/smtp_behind.h"

enum {
    UNHEARD_UNPROVED = 2, /* so many in a row are enough where it has never worked */
    UNHEARD_PROVED = 3,
    DOUBTS = 3, /* so many mails in doubt are enough, whatever was answered between them: one node
                   of a relay may bear it and another one not */
    HEARD_FOR_A_DOUBT = 10000, /* so many answers make up for one of them */
    BURST_MS = 1000,           /* a relay that stops ends many sessions at once: they count once */
    NO_LIMIT = 1000            /* beyond it there is nothing to be won by knowing */
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
    if (b->doubts && ++b->heard >= HEARD_FOR_A_DOUBT) {
        b->doubts--;
        b->heard = 0;
    }
}

static bool count(struct behind *b, bool in_doubt, uint64_t now_ms)
{
    const bool before = b->unheard || b->doubts;

    if (b->off || (b->proved && before && now_ms - b->unheard_ms < BURST_MS))
        return false;
    b->unheard++;
    b->doubts += in_doubt;
    b->unheard_ms = now_ms;
    b->off = b->unheard >= (b->proved ? UNHEARD_PROVED : UNHEARD_UNPROVED) || b->doubts >= DOUBTS;
    return b->off;
}

bool behind_timed_out(struct behind *b, uint64_t now_ms)
{
    return count(b, false, now_ms);
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
    return count(b, !answered, now_ms);
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
