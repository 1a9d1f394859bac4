/* What the pool sorts: deliveries, and the sessions that carry them. Lists are linked through their
 * members; each member is on one list at a time. */
#ifndef EMAIL_SMTP_QUEUE_H
#define EMAIL_SMTP_QUEUE_H

#include "email/smtp_session.h"
#include "email/transport_impl.h"

struct smtp_delivery {
    struct delivery base;
    struct delivery_list *list;
    struct smtp_delivery *prev, *next;
    struct mail mail;
    struct delivery_callbacks callbacks;
    void *ctx;
    struct smtp_session *session; /* while it is under way */
    uint64_t newer_than;          /* it takes only sessions of a higher number; 0: any */
    unsigned times_stale;         /* how often its session was found closed */
    bool on_new_session;
    bool behind;              /* its envelope was put behind another mail's dot */
    bool alone;               /* it is not put behind one any more */
    uint64_t since_ms;        /* behind: since when it has been queued, then since its turn came */
    uint64_t ended_before;    /* behind: the pool's mails_ended when it was queued */
    enum outcome_class class; /* while on `returned` */
    enum outcome_reason reason;
    enum smtp_stage stage;
};

struct delivery_list {
    struct smtp_delivery *first, *last;
    unsigned len;
};

struct session_list {
    struct smtp_session *first, *last;
    unsigned len;
};

void delivery_put(struct delivery_list *list, struct smtp_delivery *d); /* last */
void delivery_put_first(struct delivery_list *list, struct smtp_delivery *d);
void delivery_take(struct smtp_delivery *d); /* off the list it is on */

void session_put(struct session_list *list, struct smtp_session *s); /* first */
void session_take(struct session_list *list, struct smtp_session *s);

#endif
