/* The pool's inside, shared by smtp_pool.c (sessions, and what goes over them), smtp_events.c (what
 * sessions tell) and smtp_transport.c (transport.h's interface). */
#ifndef EMAIL_SMTP_POOL_H
#define EMAIL_SMTP_POOL_H

#include "email/breaker.h"
#include "email/pace.h"
#include "email/smtp_behind.h"
#include "email/smtp_queue.h"
#include "email/transport.h"

struct smtp_pool {
    struct transport transport;
    struct loop *loop;
    struct smtp_settings settings;
    char *url;
    struct smtp_curl *curl;
    struct delivery_list waiting, busy, returned;
    struct delivery_list stale; /* wait for a session that opens after theirs was found closed; they
                                   go before those that wait for any */
    struct session_list idle;   /* last used first */
    struct session_list connecting, working, quitting, dead;
    uint64_t sessions_opened, mails_ended;
    uint64_t opening_ms; /* when one was last begun */
    struct breaker breaker;
    bool login_wanted; /* MAIL was refused for want of a login: that sessions open proves nothing */
    char error[256];
    uint64_t backoff_ms, reopen_ms; /* no further session is opened before, while others work */
    struct pace pace;
    struct behind behind;
    struct loop_timer reopen_timer, pace_timer, watch_timer;
    struct loop_task dispatch_task, return_task, changed_task, bury_task;
    bool shutting_down;
};

/* By the next turn of the loop: mails and sessions are brought together. */
void smtp_pool_dispatch_soon(struct smtp_pool *p);
void smtp_pool_on_timer(void *ctx); /* of opening and of the pace */
void smtp_pool_on_watch(void *ctx); /* looks after mails behind dots */

bool smtp_pool_has_waiting(const struct smtp_pool *p);
unsigned smtp_pool_live_sessions(const struct smtp_pool *p); /* idle or working */
unsigned
smtp_pool_openable(const struct smtp_pool *p); /* so many more sessions may be opened now */

/* ---- mails ---- */

/* Hands its outcome to its owner; for the loop only. */
void smtp_pool_finish(struct smtp_delivery *d, const struct outcome *outcome);
/* Off its list; its owner is told by a task. */
void smtp_pool_give_back(struct smtp_pool *p, struct smtp_delivery *d, enum outcome_class class,
                         enum outcome_reason reason, enum smtp_stage stage);
/* It is untried: nothing of it went beyond its envelope. Back to the head of the queue, for any
 * session. */
void smtp_pool_hand_back(struct smtp_pool *p, struct smtp_delivery *d);
/* Likewise, but idle sessions may have been closed as well: it takes one that opens from now on. */
void smtp_pool_try_on_new_session(struct smtp_pool *p, struct smtp_delivery *d);
/* There is no new session to be had: those that wait for one take any. */
void smtp_pool_trust_any(struct smtp_pool *p);
/* The mail goes over this session now. */
void smtp_pool_assign(struct smtp_pool *p, struct smtp_session *s, struct smtp_delivery *d);
/* The mail to be put behind this session's dot; NULL where none is. */
struct smtp_delivery *smtp_pool_mail_behind(struct smtp_pool *p, const struct smtp_session *s);

/* ---- sessions ---- */

/* It takes the next mail, or waits for one, or ends. `s` is on `list`, and idle. */
void smtp_pool_place(struct smtp_pool *p, struct session_list *list, struct smtp_session *s);
void smtp_pool_quit_session(struct smtp_pool *p, struct session_list *list, struct smtp_session *s);
void smtp_pool_drop_session(struct smtp_pool *p, struct session_list *list, struct smtp_session *s);
/* It is dead, and on no list: a task frees it. */
void smtp_pool_bury_soon(struct smtp_pool *p, struct smtp_session *s);

/* ---- the relay ---- */

void smtp_pool_opening_failed(struct smtp_pool *p, const struct outcome *why);
void smtp_pool_relay_failed(struct smtp_pool *p, const struct outcome *why);
void smtp_pool_relay_works(struct smtp_pool *p);

extern const struct smtp_session_events smtp_pool_events;

#endif
