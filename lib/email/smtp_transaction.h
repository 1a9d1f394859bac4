/* One mail over an open session: MAIL, RCPT, DATA, body, dot (RFC 5321), pipelined where the relay
 * offers it (RFC 2920). Pure: the owner writes smtp_transaction_output() to the relay, reports what
 * was taken and feeds the replies back; time-outs and losses are told by smtp_transaction_fail().
 *
 * What it guarantees: the terminating dot is not part of any output before
 * smtp_transaction_allow(true); once a byte of it may have left, only a reply gives another outcome
 * than OUTCOME_AMBIGUOUS; and a relay that refused all recipients, or one for now, is never given a
 * message to deliver.
 *
 * It counts its own expected replies and writes nothing behind the dot, so that a session may put
 * the next mail's transaction behind this one: output goes out in the order of the transactions,
 * replies go to the first that waits for one. */
#ifndef EMAIL_SMTP_TRANSACTION_H
#define EMAIL_SMTP_TRANSACTION_H

#include "base/buf.h"
#include "email/outcome.h"
#include "email/smtp_capabilities.h"
#include "email/smtp_reply.h"
#include "email/transport.h"

enum smtp_phase {
    SMTP_PHASE_ENVELOPE, /* MAIL to DATA */
    SMTP_PHASE_BODY,
    SMTP_PHASE_FENCE, /* body handed over, waiting for smtp_transaction_allow */
    SMTP_PHASE_DOT,
    SMTP_PHASE_RSET, /* the outcome is known; the session is being made usable again */
    SMTP_PHASE_OVER  /* `outcome` is final; `reusable` tells about the session */
};

struct smtp_transaction {   /* zeroed, or cleaned up, before the first use; its memory is kept from
                               mail to mail */
    enum smtp_phase phase;  /* to be read by the owner */
    struct outcome outcome; /* when over */
    bool reusable;          /* when over: the session can take another mail */
    unsigned progress;      /* changes where a stage's deadline begins anew */
    bool heard;             /* a reply has come */

    /* private from here on */
    const struct mail *mail;
    struct smtp_capabilities relay;
    bool decided;            /* outcome is set; what remains is to leave the session clean */
    bool stuffing;           /* some line of the message begins with a dot */
    bool dot_started;        /* a byte of the dot may have left */
    size_t issued, answered; /* commands: 0 is MAIL, 1 … n the recipients, n + 1 DATA */
    bool mail_accepted;
    size_t accepted, deferred; /* recipients; deferred: refused with 4xx */
    struct buf out;            /* commands, stuffed body, dot */
    size_t out_at, body_at;    /* taken so far of `out`, of the message */
    size_t body_mark;          /* of the message, where the deadline last began anew */
    struct refused_recipient *refused;
    size_t refused_len, refused_cap;
    struct smtp_reply first_refusal, first_deferral;
};

void smtp_transaction_cleanup(struct smtp_transaction *t);

/* May be over at once, where the mail can't be sent over this relay. `mail` must live until it is
 * over. */
void smtp_transaction_begin(struct smtp_transaction *t, const struct mail *mail,
                            const struct smtp_capabilities *relay);

/* What to write next; empty where there is nothing at present. The same bytes until they are
 * reported as sent. */
struct slice smtp_transaction_output(struct smtp_transaction *t);

/* Before the output is given to a layer that may send part of it and yet say that it took nothing
 * (TLS). */
void smtp_transaction_writing(struct smtp_transaction *t);
void smtp_transaction_sent(struct smtp_transaction *t, size_t len);

void smtp_transaction_reply(struct smtp_transaction *t, const struct smtp_reply *reply);

/* In phase FENCE: go on to the dot; or give up (OUTCOME_CANCELLED, REASON_FENCE). */
void smtp_transaction_allow(struct smtp_transaction *t, bool go);

/* The session is lost, silent or talks nonsense: ends the transaction. */
void smtp_transaction_fail(struct smtp_transaction *t, enum outcome_reason reason,
                           const char *what);

enum smtp_stage smtp_transaction_stage(const struct smtp_transaction *t);

#endif
