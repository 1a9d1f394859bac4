/* The pool of sessions with the relay: the smtp backend of transport.h.
 *
 * Mails wait in a queue, first in, first out; sessions are opened as long as mails wait, up to the
 * limit, and the one that became idle last is used first, so that surplus ones expire. Callbacks to
 * the mail's owner are made from the loop only: what an owner's call decides is put on `returned`
 * and handed over by a task. */
#include "email/transport.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "email/breaker.h"
#include "email/smtp_queue.h"

enum { BACKOFF_MIN_MS = 1000, BACKOFF_MAX_MS = 30000 };

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
    struct loop_timer reopen_timer;
    struct loop_task dispatch_task, return_task, changed_task, bury_task;
    bool shutting_down;
};

static unsigned live_sessions(const struct smtp_pool *p)
{
    return p->idle.len + p->working.len;
}

static unsigned all_sessions(const struct smtp_pool *p)
{
    return live_sessions(p) + p->connecting.len + p->quitting.len;
}

/* ---- ends of deliveries ---- */

static void dispatch(void *ctx);

static void dispatch_soon(struct smtp_pool *p)
{
    loop_defer(p->loop, &p->dispatch_task, dispatch, p);
}

static void finish(struct smtp_delivery *d, const struct outcome *outcome)
{
    const struct delivery_callbacks callbacks = d->callbacks;
    void *ctx = d->ctx;

    if (d->list)
        delivery_take(d);
    free(d);
    callbacks.finished(ctx, outcome);
}

static void describe_returned(const struct smtp_pool *p, const struct smtp_delivery *d,
                              struct outcome *out)
{
    const char *what = d->reason == REASON_FENCE    ? "the final dot was not permitted"
                       : d->reason == REASON_OUTAGE ? "not tried, because the relay is in outage: "
                                                    : "cancelled before the relay took it";

    outcome_set(out, d->class, d->reason, d->stage, "%s%s", what,
                d->reason == REASON_OUTAGE ? p->error : "");
    out->relay_down = d->reason == REASON_OUTAGE;
}

static void hand_over_returned(void *ctx)
{
    struct smtp_pool *p = ctx;

    while (p->returned.first) {
        struct outcome outcome;
        describe_returned(p, p->returned.first, &outcome);
        finish(p->returned.first, &outcome);
    }
}

static void give_back(struct smtp_pool *p, struct smtp_delivery *d, enum outcome_class class,
                      enum outcome_reason reason, enum smtp_stage stage)
{
    if (d->list)
        delivery_take(d);
    delivery_put(&p->returned, d);
    d->session = NULL;
    d->class = class;
    d->reason = reason;
    d->stage = stage;
    loop_defer(p->loop, &p->return_task, hand_over_returned, p);
}

/* ---- ends of sessions ---- */

static void bury(void *ctx)
{
    struct smtp_pool *p = ctx;

    while (p->dead.first) {
        struct smtp_session *s = p->dead.first;
        session_take(&p->dead, s);
        smtp_session_free(s);
    }
}

/* Its memory may be in use further up the stack: a task frees it. */
static void bury_soon(struct smtp_pool *p, struct smtp_session *s)
{
    s->mail_owner = NULL;
    session_put(&p->dead, s);
    loop_defer(p->loop, &p->bury_task, bury, p);
}

static void drop_session(struct smtp_pool *p, struct session_list *list, struct smtp_session *s)
{
    session_take(list, s);
    smtp_session_drop(s);
    bury_soon(p, s);
}

static void quit_session(struct smtp_pool *p, struct session_list *list, struct smtp_session *s)
{
    session_take(list, s);
    session_put(&p->quitting, s);
    smtp_session_quit(s);
}

/* ---- outage ---- */

static void tell_changed(void *ctx)
{
    struct smtp_pool *p = ctx;

    p->settings.changed(p->settings.changed_ctx);
}

static void up_changed(struct smtp_pool *p)
{
    if (p->settings.changed)
        loop_defer(p->loop, &p->changed_task, tell_changed, p);
}

static void relay_down(struct smtp_pool *p, const struct outcome *why)
{
    log_warn("SMTP relay is failing, probing with one mail at a time",
             LOG_STR("stage", outcome_stage_name(why->stage)),
             LOG_STR("reason", outcome_reason_name(why->reason)), LOG_STR("error", why->error));
    while (p->connecting.first)
        drop_session(p, &p->connecting, p->connecting.first);
    up_changed(p);
}

static void relay_up(struct smtp_pool *p)
{
    log_info("SMTP relay is working again");
    p->error[0] = '\0';
    up_changed(p);
}

/* While the relay is in outage one mail is kept, to probe it. */
static void hold_back(struct smtp_pool *p)
{
    while (p->waiting.len > 1)
        give_back(p, p->waiting.first->next, OUTCOME_RETRY, REASON_OUTAGE, STAGE_QUEUE);
}

/* ---- opening ---- */

static bool backing_off(const struct smtp_pool *p)
{
    return live_sessions(p) > 0 && loop_now_ms(p->loop) < p->reopen_ms;
}

/* The relay takes no further session but serves those that are open: its limit, not an outage. */
static void back_off(struct smtp_pool *p)
{
    p->backoff_ms = p->backoff_ms ? p->backoff_ms * 2 : BACKOFF_MIN_MS;
    if (p->backoff_ms > BACKOFF_MAX_MS)
        p->backoff_ms = BACKOFF_MAX_MS;
    p->reopen_ms = loop_now_ms(p->loop) + p->backoff_ms;
    loop_timer_start(p->loop, &p->reopen_timer, p->backoff_ms);
}

static void opening_failed(struct smtp_pool *p, const struct outcome *why)
{
    struct smtp_delivery *d;

    if (live_sessions(p) > 0) {
        back_off(p);
        for (d = p->waiting.first; d; d = d->next)
            d->needs_new_session = false; /* there is none to be had now */
        dispatch_soon(p);
        return;
    }
    d = p->waiting.first;
    snprintf(p->error, sizeof(p->error), "%s", why->error);
    if (why->relay_down && breaker_failure(&p->breaker))
        relay_down(p, why);
    dispatch_soon(p);
    if (d)
        finish(d, why);
}

static const struct smtp_session_events session_events;

static bool open_session(struct smtp_pool *p)
{
    struct error err = {0};
    struct outcome why;
    struct smtp_session *s =
        smtp_session_open(p->loop, p->curl, &p->settings, p->url, &session_events, p, &err);

    if (s) {
        session_put(&p->connecting, s);
        return true;
    }
    outcome_set(&why, OUTCOME_RETRY, REASON_INTERNAL, STAGE_CONNECT, "%s", err.text);
    opening_failed(p, &why);
    return false;
}

static void open_sessions(struct smtp_pool *p)
{
    /* All that are open are idle and full up the limit, but what waits can't trust them. */
    if (p->waiting.len && p->idle.len && all_sessions(p) == p->settings.max_connections)
        drop_session(p, &p->idle, p->idle.last);
    while (p->connecting.len < p->waiting.len && all_sessions(p) < p->settings.max_connections &&
           breaker_admits(&p->breaker, p->connecting.len) && !backing_off(p))
        if (!open_session(p))
            return;
}

/* ---- bringing mails and sessions together ---- */

static void start(struct smtp_pool *p, struct session_list *list, struct smtp_session *s,
                  struct smtp_delivery *d)
{
    session_take(list, s);
    session_put(&p->working, s);
    delivery_take(d);
    delivery_put(&p->busy, d);
    d->session = s;
    d->on_new_session = list == &p->connecting;
    s->mail_owner = d;
    smtp_session_start(s, &d->mail);
}

static void quit_idle(struct smtp_pool *p)
{
    while (p->idle.first)
        quit_session(p, &p->idle, p->idle.first);
}

static struct smtp_delivery *next_for_idle(const struct smtp_pool *p)
{
    struct smtp_delivery *d = p->waiting.first;

    while (d && d->needs_new_session)
        d = d->next;
    return d;
}

static void dispatch(void *ctx)
{
    struct smtp_pool *p = ctx;
    struct smtp_delivery *d;

    while (p->idle.first && (d = next_for_idle(p)))
        start(p, &p->idle, p->idle.first, d);
    if (p->shutting_down && live_sessions(p) + p->connecting.len == 0)
        while (p->waiting.first)
            give_back(p, p->waiting.first, OUTCOME_CANCELLED, REASON_CANCELLED, STAGE_QUEUE);
    if (p->shutting_down) {
        if (!p->waiting.len)
            quit_idle(p);
        return;
    }
    if (p->breaker.open)
        hold_back(p);
    open_sessions(p);
}

static void on_reopen_timer(void *ctx)
{
    dispatch(ctx);
}

/* Takes the next mail, or waits for one. `s` is on `list`, and idle. */
static void place(struct smtp_pool *p, struct session_list *list, struct smtp_session *s)
{
    const unsigned limit = p->settings.messages_per_connection;
    struct smtp_delivery *d = list == &p->connecting ? p->waiting.first : next_for_idle(p);

    if ((limit && s->mails >= limit) || (p->shutting_down && !p->waiting.len)) {
        quit_session(p, list, s);
    } else if (d) {
        start(p, list, s, d);
    } else {
        session_take(list, s);
        session_put(&p->idle, s);
    }
}

/* ---- what sessions tell ---- */

static void on_opened(void *owner, struct smtp_session *s)
{
    struct smtp_pool *p = owner;

    p->sessions_opened++;
    p->backoff_ms = p->reopen_ms = 0;
    if (breaker_success(&p->breaker))
        relay_up(p);
    place(p, &p->connecting, s);
    dispatch_soon(p);
}

static void on_open_failed(void *owner, struct smtp_session *s, const struct outcome *why)
{
    struct smtp_pool *p = owner;

    session_take(&p->connecting, s);
    bury_soon(p, s);
    opening_failed(p, why);
}

static void on_before_dot(void *owner, struct smtp_session *s)
{
    struct smtp_delivery *d = s->mail_owner;

    (void)owner;
    if (d->callbacks.before_dot)
        d->callbacks.before_dot(d->ctx, &d->base);
    else
        smtp_session_allow(s, true);
}

/* The relay had closed the session before it was given this mail. Nothing went beyond the envelope,
 * so trying once more on a new one is safe, and is no failed attempt. */
static bool was_stale(const struct smtp_delivery *d, const struct smtp_session *s,
                      const struct outcome *o)
{
    return !d->on_new_session && o->class == OUTCOME_RETRY && o->stage == STAGE_MAIL &&
           ((o->reason == REASON_LOST && !s->transaction.heard) || o->code == 421);
}

static void on_finished(void *owner, struct smtp_session *s, const struct outcome *outcome)
{
    struct smtp_pool *p = owner;
    struct smtp_delivery *d = s->mail_owner;
    const bool stale = was_stale(d, s, outcome);

    d->session = NULL;
    delivery_take(d);
    if (stale) {
        d->needs_new_session = true;
        delivery_put_first(&p->waiting, d);
    }
    s->mail_owner = NULL;
    if (s->state == SESSION_DEAD) {
        session_take(&p->working, s);
        bury_soon(p, s);
    }
    if (p->waiting.len || p->shutting_down)
        dispatch_soon(p);
    /* The outcome lies in the session: it takes its next mail only after this. */
    if (!stale)
        finish(d, outcome);
    if (s->state == SESSION_IDLE)
        place(p, &p->working, s);
}

static void on_expired(void *owner, struct smtp_session *s)
{
    struct smtp_pool *p = owner;

    quit_session(p, &p->idle, s);
}

static void on_closed(void *owner, struct smtp_session *s)
{
    struct smtp_pool *p = owner;

    session_take(s->quit_said ? &p->quitting : &p->idle, s);
    bury_soon(p, s);
    if (p->waiting.len)
        dispatch_soon(p);
}

static const struct smtp_session_events session_events = {
    .opened = on_opened,
    .open_failed = on_open_failed,
    .before_dot = on_before_dot,
    .finished = on_finished,
    .expired = on_expired,
    .closed = on_closed,
};

/* ---- the transport's interface ---- */

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
    dispatch_soon(p);
    return &d->base;
}

static void pool_dot(struct delivery *base, bool go)
{
    struct smtp_delivery *d = (struct smtp_delivery *)base;
    struct smtp_pool *p = (struct smtp_pool *)base->transport;

    if (!d->session || (!go && smtp_session_past_dot(d->session)))
        return;
    if (go) {
        smtp_session_allow(d->session, true);
        return;
    }
    drop_session(p, &p->working, d->session);
    give_back(p, d, OUTCOME_CANCELLED, REASON_FENCE, STAGE_FENCE);
    dispatch_soon(p);
}

static bool pool_cancel(struct delivery *base)
{
    struct smtp_delivery *d = (struct smtp_delivery *)base;
    struct smtp_pool *p = (struct smtp_pool *)base->transport;
    enum smtp_stage stage = STAGE_QUEUE;

    if (d->session) {
        if (smtp_session_past_dot(d->session))
            return false;
        stage = smtp_transaction_stage(&d->session->transaction);
        drop_session(p, &p->working, d->session);
    }
    give_back(p, d, OUTCOME_CANCELLED, REASON_CANCELLED, stage);
    dispatch_soon(p);
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
        .waiting = p->waiting.len,
    };
    if (!out->up)
        snprintf(out->error, sizeof(out->error), "%s", p->error);
}

static void pool_shutdown(struct transport *t)
{
    struct smtp_pool *p = (struct smtp_pool *)t;

    p->shutting_down = true;
    while (!p->waiting.len && p->connecting.first)
        drop_session(p, &p->connecting, p->connecting.first);
    dispatch_soon(p);
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
    free_deliveries(&p->busy);
    free_deliveries(&p->returned);
    loop_timer_stop(p->loop, &p->reopen_timer);
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
    if (!p->settings.max_connections)
        p->settings.max_connections = 1;
    breaker_init(&p->breaker, settings->breaker_failures);
    loop_timer_init(&p->reopen_timer, on_reopen_timer, p);
    p->url = smtp_link_url(&p->settings, err);
    p->curl = p->url ? smtp_curl_new(loop, err) : NULL;
    if (p->curl)
        return &p->transport;
    pool_destroy(&p->transport);
    return NULL;
}
