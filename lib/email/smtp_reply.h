/* Reading SMTP replies (RFC 5321 section 4.2) out of a stream of bytes. Pure.
 *
 * Bounded against any relay: longer lines than the RFC's 512 octets are taken up to
 * SMTP_REPLY_MAX_LINE and cut in what is kept; longer ones, and replies without an end, are a
 * protocol failure. */
#ifndef EMAIL_SMTP_REPLY_H
#define EMAIL_SMTP_REPLY_H

#include "base/slice.h"
#include "email/outcome.h"

enum { SMTP_REPLY_MAX_LINE = 2048, SMTP_REPLY_MAX_LINES = 500, SMTP_REPLY_MAX_BYTES = 65536 };

struct smtp_reply {
    int code; /* 200–599 */
    size_t len;
    /* "550 5.1.1 first line / second line": printable ASCII (other bytes, and the backslash, as
     * \xHH), NUL-terminated, cut to what an outcome keeps. */
    char text[OUTCOME_MAX_REPLY + 1];
};

struct smtp_reply_parser { /* private */
    struct smtp_reply reply;
    size_t lines, bytes; /* of this reply */
    size_t column;       /* of this line */
    char code[3];
    bool more;     /* "250-": another line follows */
    bool after_cr; /* the last byte was a CR */
    bool full;     /* reply.text takes no more */
    bool complete; /* reply was handed out: the next byte begins a new one */
    bool broken;
};

enum smtp_reply_state {
    SMTP_REPLY_MORE,  /* all bytes taken, no complete reply yet */
    SMTP_REPLY_READY, /* parser->reply is one, until the next call */
    SMTP_REPLY_BROKEN /* not SMTP, or beyond the bounds; for good */
};

void smtp_reply_parser_init(struct smtp_reply_parser *p);

/* Takes bytes up to the end of one reply; *used says how many. */
enum smtp_reply_state smtp_reply_feed(struct smtp_reply_parser *p, struct slice bytes,
                                      size_t *used);

#endif
