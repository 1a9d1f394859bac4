/* How hard the relay may be worked: how many connections, and how many mails a second. Pure: the
 * time is a parameter.
 *
 * Connections: as many as are allowed, until the relay says that it is too busy (421, or a 4xx to
 * MAIL, DATA or the final dot; one to RCPT is the mailbox's matter). Then half of those in use are
 * left, and after each second without another such reply an eighth more is tried, at least one, as
 * long as that brings more mails through; once it doesn't, only every ten seconds. A burst of those
 * replies counts once; and where fewer than about one mail in thirty gets one, they are those
 * mails' matter (greylisted, filtered): else one in a thousand would cost most connections for
 * good.
 *
 * Rate: a token bucket that holds a twentieth of a second's mails, at least one. */
#ifndef EMAIL_PACE_H
#define EMAIL_PACE_H

#include <stdbool.h>
#include <stdint.h>

struct pace { /* private */
    unsigned most, limit;
    bool fallen;
    unsigned strain;     /* up with each such reply, down with each mail taken */
    uint64_t fell_ms;    /* when the limit last fell: growth since then is no new burst's excuse */
    uint64_t changed_ms; /* when it was last changed at all */
    uint64_t taken;      /* mails since then */
    uint64_t before;     /* thousandths of a mail a second, with fewer connections; 0: unknown */
    uint64_t rate;       /* a second; 0: no bound */
    uint64_t tokens;     /* thousandths of a mail */
    uint64_t filled_ms;  /* when they were last counted */
};

void pace_init(struct pace *p, unsigned most_connections, uint64_t rate_per_second);

unsigned pace_connections(const struct pace *p);
/* The relay is too busy, with `used` connections. True where the limit fell. */
bool pace_busy(struct pace *p, unsigned used, uint64_t now_ms);
void pace_success(struct pace *p, uint64_t now_ms); /* it took a mail */

/* How long the next mail has to wait; 0: it may go now. */
uint64_t pace_delay_ms(struct pace *p, uint64_t now_ms);
void pace_take(struct pace *p); /* it goes */

#endif
