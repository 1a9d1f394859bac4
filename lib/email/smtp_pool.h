/* The pool's inside, shared by smtp_pool.c (sessions, and what goes over them) and
 * smtp_transport.c (transport.h's interface). */
#ifndef EMAIL_SMTP_POOL_H
#define EMAIL_SMTP_POOL_H

#include "email/breaker.h"
#include "email/pace.h"
#include "email/smtp_queue.h"
#include "email/transport.h"

struct smtp_pool {
    struct transport transport;
    struct loop *loop;
    struct smtp_settings settings;
    char *url;
    struct smtp_curl *curl;
    struct delivery_list waiting, busy, returned;
    struct session_list idle; /* last used first */
    struct session_list connecting, working, quitting, dead;
    uint64_t sessions_opened;
    struct breaker breaker;
    char error[256];
    uint64_t backoff_ms, reopen_ms; /* no further session is opened before, while others work */
    struct pace pace;
    struct loop_timer reopen_timer, pace_timer;
    struct loop_task dispatch_task, return_task, changed_task, bury_task;
    bool shutting_down;
};

/* By the next turn of the loop: mails and sessions are brought together. */
void smtp_pool_dispatch_soon(struct smtp_pool *p);
void smtp_pool_on_timer(void *ctx); /* of both timers */

/* Off its list; its owner is told by a task. */
void smtp_pool_give_back(struct smtp_pool *p, struct smtp_delivery *d, enum outcome_class class,
                         enum outcome_reason reason, enum smtp_stage stage);
/* Back to the head of the queue: nothing of it went beyond the envelope, so trying once more on a
 * new session is safe, and is no failed attempt. */
void smtp_pool_try_on_new_session(struct smtp_pool *p, struct smtp_delivery *d);
void smtp_pool_drop_session(struct smtp_pool *p, struct session_list *list, struct smtp_session *s);

#endif
