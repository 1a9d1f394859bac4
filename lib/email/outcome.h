/* What became of one attempt to deliver a mail: one record, one classifier. Pure. */
#ifndef EMAIL_OUTCOME_H
#define EMAIL_OUTCOME_H

#include <stdbool.h>
#include <stddef.h>

enum outcome_class {
    OUTCOME_SENT,      /* the relay's 250 to the final dot (log mode: the log took it) */
    OUTCOME_RETRY,     /* definitely not taken; may work later */
    OUTCOME_REJECTED,  /* definitely not taken; refused for good (5xx) */
    OUTCOME_AMBIGUOUS, /* lost after the final dot, before a reply: the relay may or may not have
                          taken it */
    OUTCOME_CANCELLED  /* transport_cancel or a refused fence: nothing was taken */
};

/* Where it happened (RFC 5321). Names by outcome_stage_name: "connect", "banner", "ehlo", … */
enum smtp_stage {
    STAGE_NONE,
    STAGE_QUEUE, /* waiting for a session */
    STAGE_CONNECT,
    STAGE_BANNER,
    STAGE_EHLO,
    STAGE_STARTTLS,
    STAGE_AUTH,
    STAGE_MAIL,
    STAGE_RCPT,
    STAGE_DATA,
    STAGE_BODY,
    STAGE_FENCE, /* body written, waiting for the permission to send the final dot */
    STAGE_DOT,
    STAGE_RSET,
    STAGE_QUIT,
    STAGE_LOG /* log mode */
};

/* Why, in one word, for the metric email_retries_total{reason} and the logs. Names by
 * outcome_reason_name. */
enum outcome_reason {
    REASON_NONE,
    REASON_REPLY, /* a 4xx or 5xx reply */
    REASON_TIMEOUT,
    REASON_REFUSED,    /* connection refused, unreachable, name not resolved */
    REASON_LOST,       /* connection lost */
    REASON_TLS,        /* STARTTLS missing, certificate, handshake */
    REASON_AUTH,       /* authentication failed or not offered */
    REASON_PROTOCOL,   /* a reply that is none */
    REASON_OUTAGE,     /* not tried: the relay is in outage */
    REASON_CAPABILITY, /* the relay lacks what the mail needs (SMTPUTF8, SIZE) */
    REASON_FENCE,      /* the claim was lost, or the idempotency store was silent, before the dot */
    REASON_CANCELLED,
    REASON_INTERNAL /* memory, file descriptors */
};

enum { OUTCOME_MAX_REPLY = 512 };

struct refused_recipient {
    size_t index; /* into mail.recipients */
    int code;
    char reply[128]; /* escaped and cut */
};

struct outcome {
    enum outcome_class class;
    enum outcome_reason reason;
    enum smtp_stage stage;
    int code; /* reply code; 0 where there was no reply */
    char reply[OUTCOME_MAX_REPLY +
               1];   /* the reply, printable ASCII, lines joined by " / "; "" where none */
    char error[256]; /* readable, without mail content or addresses; "" when sent */
    bool relay_down; /* the relay as a whole is failing (connection, TLS, authentication) */
    /* OUTCOME_SENT only: recipients that the relay refused for good while others were accepted.
     * Borrowed: valid during the callback that hands over the outcome. */
    const struct refused_recipient *refused;
    size_t refused_len;
};

const char *outcome_class_name(enum outcome_class c);
const char *outcome_stage_name(enum smtp_stage stage);
const char *outcome_reason_name(enum outcome_reason reason);

/* The class of a reply to MAIL, RCPT, DATA or the final dot, by its code (RFC 5321 section 4.2.1):
 * 2yz sent, 4yz and anything unknown retry, 5yz rejected. 421 is retry whatever the stage. A 5yz
 * before MAIL (banner, EHLO, AUTH) is the relay failing as a whole and so a retry; and so is a
 * reply to MAIL that wants a login, or TLS, first. */
enum outcome_class outcome_of_reply(enum smtp_stage stage, int code);

/* 530, 534, 535 or 538 to MAIL (RFC 4954 section 6, RFC 3207 section 4): nobody's mail would be
 * taken. */
bool outcome_is_login_wanted(enum smtp_stage stage, int code);

/* Fills in an outcome: class, reason, stage and `error` as named, everything else empty. */
void outcome_set(struct outcome *out, enum outcome_class class, enum outcome_reason reason,
                 enum smtp_stage stage, const char *format, ...)
    __attribute__((format(printf, 5, 6)));

#endif
