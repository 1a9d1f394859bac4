/* A session with the relay: opened by a link, then one transaction after the other, deadlines,
 * QUIT. It owns the connection and knows nothing of queues: what becomes of it and of its mail goes
 * to its owner by events.
 *
 * Where the relay offers PIPELINING, the next mail's envelope may travel right behind the final dot
 * (RFC 2920 section 3.1), so that a mail costs one round trip: the owner is asked for it when the
 * dot goes out. That mail is "queued" until the reply to the dot has come. Nothing of it but its
 * envelope can have left by then, so when the session ends first it was not tried at all. */
#ifndef EMAIL_SMTP_SESSION_H
#define EMAIL_SMTP_SESSION_H

#include "email/smtp_link.h"
#include "email/smtp_transaction.h"

enum session_state {
    SESSION_CONNECTING,
    SESSION_IDLE,
    SESSION_BUSY,     /* a mail is under way */
    SESSION_QUITTING, /* QUIT is said */
    SESSION_DEAD      /* connection gone: smtp_session_free is left to do, outside its events */
};

struct smtp_session;

/* All run from the loop, never from inside a call of the owner's. */
struct smtp_session_events {
    void (*opened)(void *owner, struct smtp_session *s);
    void (*open_failed)(void *owner, struct smtp_session *s, const struct outcome *why); /* dead */
    void (*before_dot)(void *owner, struct smtp_session *s); /* answer: smtp_session_allow */
    /* The dot goes out now: the owner may call smtp_session_queue from inside this event, the one
     * that comes from inside a call, smtp_session_allow. */
    void (*may_queue)(void *owner, struct smtp_session *s);
    /* The mail's outcome (finished->outcome). The session is idle, busy with the mail that was
     * queued, or dead; then that one was not tried. */
    void (*finished)(void *owner, struct smtp_session *s, const struct smtp_transaction *finished);
    void (*expired)(void *owner, struct smtp_session *s); /* idle for too long, and still open */
    void (*closed)(void *owner, struct smtp_session *s);  /* it was idle or quitting; dead */
};

struct smtp_session {
    struct smtp_session *prev, *next; /* for the owner's list */
    void *mail_owner, *queued_owner;  /* for the owner: whose mails it carries */
    uint64_t number;                  /* for the owner: in the order of opening; 0 before that */
    enum session_state state;
    unsigned mails; /* finished over this session */
    bool quit_said;

    /* private from here on */
    struct loop *loop;
    const struct smtp_settings *settings;
    const struct smtp_session_events *events;
    void *owner;
    struct smtp_link *link;
    struct loop_fd watch;
    struct loop_timer timer;
    uint64_t deadline_ms; /* the timer runs out at or before it, and is then set anew */
    unsigned progress;    /* of the transaction, when the deadline was set */
    struct loop_task settle_task, quit_task;
    struct smtp_reply_parser parser;
    struct smtp_transaction transactions[2];
    unsigned present;    /* which of them is under way; the other one is free, or queued */
    bool queued;         /* behind the present one's dot */
    bool queued_dropped; /* its owner gave it up: the session ends after the present one */
    bool asked;          /* before_dot was called */
    bool takes_mail;     /* MAIL was accepted at least once */
    size_t quit_sent;
};

/* NULL where memory is out. */
BASE_CHECK struct smtp_session *smtp_session_open(struct loop *loop, struct smtp_curl *curl,
                                                  const struct smtp_settings *settings,
                                                  const char *url,
                                                  const struct smtp_session_events *events,
                                                  void *owner, struct error *err);

/* On an idle session. `mail` must live until `finished`. */
void smtp_session_start(struct smtp_session *s, const struct mail *mail);

void smtp_session_allow(struct smtp_session *s, bool go);

/* From inside may_queue. `mail` must live until it is finished, dropped, or the session dead. */
void smtp_session_queue(struct smtp_session *s, const struct mail *mail);
void smtp_session_drop_queued(struct smtp_session *s);

/* The mail that is under way; on a busy session. */
const struct smtp_transaction *smtp_session_transaction(const struct smtp_session *s);

/* Says QUIT, and closes after the reply or a moment. */
void smtp_session_quit(struct smtp_session *s);

/* True once the final dot may be on its way. */
bool smtp_session_past_dot(const struct smtp_session *s);

/* Drops the connection without an event: dead. */
void smtp_session_drop(struct smtp_session *s);
void smtp_session_free(struct smtp_session *s); /* drops it where it is not dead yet */

#endif
