/* The smtp backend of transport.h: the pool behind the interface. */
#include "email/transport.h"

#include <stdio.h>
#include <stdlib.h>

#include "email/smtp_pool.h"
#include "email/transport_impl.h"

static struct delivery *pool_send(struct transport *t, const struct mail *mail,
                                  const struct delivery_callbacks *callbacks, void *ctx)
{
    struct smtp_pool *p = (struct smtp_pool *)t;
    struct smtp_delivery *d = calloc(1, sizeof(*d));

    if (!d)
        return NULL;
    d->base.transport = t;
    d->mail = *mail;
    d->callbacks = *callbacks;
    d->ctx = ctx;
    delivery_put(&p->waiting, d);
    smtp_pool_dispatch_soon(p);
    return &d->base;
}

/* Ends the session under a mail that it carries: unless the mail is only queued behind another
 * one's dot, whose outcome is then waited for. */
static void take_from_session(struct smtp_pool *p, struct smtp_delivery *d)
{
    struct smtp_session *s = d->session;

    if (d == s->queued_owner) {
        s->queued_owner = NULL;
        smtp_session_drop_queued(s);
        return;
    }
    if (s->queued_owner) /* the dot is permitted, but nothing of it has left */
        smtp_pool_hand_back(p, s->queued_owner);
    s->queued_owner = NULL;
    smtp_pool_drop_session(p, &p->working, s);
}

static bool past_dot(const struct smtp_delivery *d)
{
    return d == d->session->mail_owner && smtp_session_past_dot(d->session);
}

static enum smtp_stage stage_of(const struct smtp_delivery *d)
{
    if (!d->session)
        return STAGE_QUEUE;
    return d == d->session->mail_owner
               ? smtp_transaction_stage(smtp_session_transaction(d->session))
               : STAGE_MAIL;
}

static void pool_dot(struct delivery *base, bool go)
{
    struct smtp_delivery *d = (struct smtp_delivery *)base;
    struct smtp_pool *p = (struct smtp_pool *)base->transport;

    if (!d->session || d != d->session->mail_owner || (!go && past_dot(d)))
        return;
    if (go) {
        smtp_session_allow(d->session, true);
        return;
    }
    take_from_session(p, d);
    smtp_pool_give_back(p, d, OUTCOME_CANCELLED, REASON_FENCE, STAGE_FENCE);
    smtp_pool_dispatch_soon(p);
}

static bool pool_cancel(struct delivery *base)
{
    struct smtp_delivery *d = (struct smtp_delivery *)base;
    struct smtp_pool *p = (struct smtp_pool *)base->transport;
    const enum smtp_stage stage = stage_of(d);

    if (d->session && past_dot(d))
        return false;
    if (d->session)
        take_from_session(p, d);
    smtp_pool_give_back(p, d, OUTCOME_CANCELLED, REASON_CANCELLED, stage);
    smtp_pool_dispatch_soon(p);
    return true;
}

static void pool_state(const struct transport *t, struct transport_state *out)
{
    const struct smtp_pool *p = (const struct smtp_pool *)t;

    *out = (struct transport_state){
        .up = !p->breaker.open,
        .idle = p->idle.len,
        .busy = p->working.len,
        .connecting = p->connecting.len,
        .sessions_opened = p->sessions_opened,
        .waiting = p->waiting.len + p->stale.len,
    };
    if (!out->up)
        snprintf(out->error, sizeof(out->error), "%s", p->error);
}

static void pool_shutdown(struct transport *t)
{
    struct smtp_pool *p = (struct smtp_pool *)t;

    p->shutting_down = true;
    smtp_pool_trust_any(p);
    while (!smtp_pool_has_waiting(p) && p->connecting.first)
        smtp_pool_drop_session(p, &p->connecting, p->connecting.first);
    smtp_pool_dispatch_soon(p);
}

static void free_sessions(struct session_list *list)
{
    while (list->first) {
        struct smtp_session *s = list->first;
        session_take(list, s);
        smtp_session_free(s);
    }
}

static void free_deliveries(struct delivery_list *list)
{
    while (list->first) {
        struct smtp_delivery *d = list->first;
        delivery_take(d);
        free(d);
    }
}

static void pool_destroy(struct transport *t)
{
    struct smtp_pool *p = (struct smtp_pool *)t;

    free_sessions(&p->idle);
    free_sessions(&p->connecting);
    free_sessions(&p->working);
    free_sessions(&p->quitting);
    free_sessions(&p->dead);
    free_deliveries(&p->waiting);
    free_deliveries(&p->stale);
    free_deliveries(&p->busy);
    free_deliveries(&p->returned);
    loop_timer_stop(p->loop, &p->reopen_timer);
    loop_timer_stop(p->loop, &p->pace_timer);
    loop_timer_stop(p->loop, &p->watch_timer);
    loop_undefer(p->loop, &p->dispatch_task);
    loop_undefer(p->loop, &p->return_task);
    loop_undefer(p->loop, &p->changed_task);
    loop_undefer(p->loop, &p->bury_task);
    smtp_curl_destroy(p->curl);
    free(p->url);
    free(p);
}

struct transport *smtp_transport_new(struct loop *loop, const struct smtp_settings *settings,
                                     struct error *err)
{
    static const struct transport_ops ops = {pool_send,  pool_dot,      pool_cancel,
                                             pool_state, pool_shutdown, pool_destroy};
    struct smtp_pool *p = calloc(1, sizeof(*p));

    if (!p) {
        error_set(err, "out of memory");
        return NULL;
    }
    p->transport.ops = &ops;
    p->loop = loop;
    p->settings = *settings;
    pace_init(&p->pace, settings->max_connections, settings->mails_per_second);
    breaker_init(&p->breaker, settings->breaker_failures);
    loop_timer_init(&p->reopen_timer, smtp_pool_on_timer, p);
    loop_timer_init(&p->pace_timer, smtp_pool_on_timer, p);
    loop_timer_init(&p->watch_timer, smtp_pool_on_watch, p);
    p->url = smtp_link_url(&p->settings, err);
    p->curl = p->url ? smtp_curl_new(loop, err) : NULL;
    if (p->curl)
        return &p->transport;
    pool_destroy(&p->transport);
    return NULL;
}
