/* Whether a mail's envelope may travel behind another one's final dot: what the relay has shown to
 * bear. Pure: the time is a parameter.
 *
 * A relay may offer PIPELINING and yet lose what follows the dot: drop it, or close the connection
 * over it, at worst before its reply to the dot was read. So envelopes are tried on one session at
 * a time until one of them was answered; and after a few in a row that were not, or a few mails
 * whose own outcome was lost that way, no more are put behind a dot for the life of the process.
 *
 * Many relays end a session after so many mails. Such a limit is learnt where a session ends with
 * an envelope unanswered: later sessions get none beyond it. It was none where a session takes more
 * mails all the same: then it is put at twice that number, and is forgotten before long. */
#ifndef EMAIL_SMTP_BEHIND_H
#define EMAIL_SMTP_BEHIND_H

#include <stdbool.h>
#include <stdint.h>

struct behind {    /* zeroed before the first use */
    bool off;      /* nothing is put behind a dot any more */
    bool proved;   /* an envelope behind a dot was answered once */
    unsigned most; /* mails on a session, with one behind the dot; 0: no limit is known */

    /* private */
    unsigned unheard;    /* in a row */
    unsigned doubts;     /* with which a mail's own outcome was lost; not in a row */
    unsigned heard;      /* until one of those is forgotten */
    uint64_t unheard_ms; /* when the last one was counted */
};

/* May one be put behind the dot of a session that has finished so many mails? `on_trial`: another
 * session's is still to be answered. */
bool behind_may(const struct behind *b, unsigned mails, bool on_trial);

void behind_heard(struct behind *b);

/* One was not answered. Each returns true where that turned it off. */
bool behind_timed_out(struct behind *b, uint64_t now_ms);
/* The session ended; it had finished so many mails, and the dot before the envelope was answered
 * (answered) or was not: then the relay may have taken a mail without our knowing. */
bool behind_lost(struct behind *b, unsigned mails, bool answered, uint64_t now_ms);

/* The relay refused it because the session was at its end (421): it reads what it is sent. */
void behind_limit(struct behind *b, unsigned mails);

/* The relay took a mail, the session's so manieth. */
void behind_took(struct behind *b, unsigned mails);

#endif
