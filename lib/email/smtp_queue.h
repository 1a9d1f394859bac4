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
    bool needs_new_session;       /* the last one had been closed by the relay while idle */
    bool on_new_session;
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
