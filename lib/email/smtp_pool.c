/* The pool of sessions with the relay: the smtp backend of transport.h.
 *
 * Mails wait in a queue, first in, first out; sessions are opened as long as mails wait, up to the
 * limit, and the one that became idle last is used first, so that surplus ones expire. Callbacks to
 * the mail's owner are made from the loop only: what an owner's call decides is put on `returned`
 * and handed over by a task. */
#include "email/smtp_pool.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"

enum { BACKOFF_MIN_MS = 1000, BACKOFF_MAX_MS = 30000 };

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

void smtp_pool_dispatch_soon(struct smtp_pool *p)
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

void smtp_pool_give_back(struct smtp_pool *p, struct smtp_delivery *d, enum outcome_class class,
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

void smtp_pool_drop_session(struct smtp_pool *p, struct session_list *list, struct smtp_session *s)
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
        smtp_pool_drop_session(p, &p->connecting, p->connecting.first);
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
        smtp_pool_give_back(p, p->waiting.first->next, OUTCOME_RETRY, REASON_OUTAGE, STAGE_QUEUE);
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
        smtp_pool_dispatch_soon(p);
        return;
    }
    d = p->waiting.first;
    snprintf(p->error, sizeof(p->error), "%s", why->error);
    if (why->relay_down && breaker_failure(&p->breaker))
        relay_down(p, why);
    smtp_pool_dispatch_soon(p);
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
    if (p->waiting.len && p->idle.len && all_sessions(p) == pace_connections(&p->pace))
        smtp_pool_drop_session(p, &p->idle, p->idle.last);
    while (p->connecting.len < p->waiting.len && all_sessions(p) < pace_connections(&p->pace) &&
           breaker_admits(&p->breaker, p->connecting.len) && !backing_off(p))
        if (!open_session(p))
            return;
}

/* ---- bringing mails and sessions together ---- */

static void assign(struct smtp_pool *p, struct smtp_session *s, struct smtp_delivery *d)
{
    delivery_take(d);
    delivery_put(&p->busy, d);
    d->session = s;
}

static void start(struct smtp_pool *p, struct session_list *list, struct smtp_session *s,
                  struct smtp_delivery *d)
{
    session_take(list, s);
    session_put(&p->working, s);
    assign(p, s, d);
    pace_take(&p->pace);
    d->on_new_session = list == &p->connecting;
    s->mail_owner = d;
    smtp_session_start(s, &d->mail);
}

void smtp_pool_try_on_new_session(struct smtp_pool *p, struct smtp_delivery *d)
{
    d->session = NULL;
    d->needs_new_session = true;
    delivery_take(d);
    delivery_put_first(&p->waiting, d);
}

static void quit_idle(struct smtp_pool *p)
{
    while (p->idle.first)
        quit_session(p, &p->idle, p->idle.first);
}

/* True where the next mail has to wait for its turn by the clock; dispatch() looks again then. */
static bool paced(struct smtp_pool *p)
{
    const uint64_t delay_ms = pace_delay_ms(&p->pace, loop_now_ms(p->loop));

    if (delay_ms && !loop_timer_running(&p->pace_timer))
        loop_timer_start(p->loop, &p->pace_timer, delay_ms);
    return delay_ms > 0;
}

/* The next mail that a session may take: a new one takes any. */
static struct smtp_delivery *next_mail(struct smtp_pool *p, bool new_session)
{
    struct smtp_delivery *d = p->waiting.first;

    while (d && d->needs_new_session && !new_session)
        d = d->next;
    return d && !paced(p) ? d : NULL;
}

static void dispatch(void *ctx)
{
    struct smtp_pool *p = ctx;
    struct smtp_delivery *d;

    while (p->idle.last && live_sessions(p) > pace_connections(&p->pace))
        quit_session(p, &p->idle, p->idle.last);
    while (p->idle.first && (d = next_mail(p, false)))
        start(p, &p->idle, p->idle.first, d);
    if (p->shutting_down && live_sessions(p) + p->connecting.len == 0)
        while (p->waiting.first)
            smtp_pool_give_back(p, p->waiting.first, OUTCOME_CANCELLED, REASON_CANCELLED,
                                STAGE_QUEUE);
    if (p->shutting_down) {
        if (!p->waiting.len)
            quit_idle(p);
        return;
    }
    if (p->breaker.open)
        hold_back(p);
    if (!p->waiting.first || !paced(p))
        open_sessions(p);
}

void smtp_pool_on_timer(void *ctx)
{
    dispatch(ctx);
}

/* Takes the next mail, or waits for one. `s` is on `list`, and idle. */
static void place(struct smtp_pool *p, struct session_list *list, struct smtp_session *s)
{
    const unsigned limit = p->settings.messages_per_connection;
    const bool spent = (limit && s->mails >= limit) || (p->shutting_down && !p->waiting.len) ||
                       (list == &p->working && live_sessions(p) > pace_connections(&p->pace));
    struct smtp_delivery *d = spent ? NULL : next_mail(p, list == &p->connecting);

    if (spent) {
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
    smtp_pool_dispatch_soon(p);
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

static void on_may_queue(void *owner, struct smtp_session *s)
{
    struct smtp_pool *p = owner;
    const unsigned limit = p->settings.messages_per_connection;
    struct smtp_delivery *d;

    /* An idle session answers sooner than one that waits for the reply to a dot; and one too many
     * ends after its mail. */
    if (p->idle.first || (limit && s->mails + 2 > limit) ||
        live_sessions(p) > pace_connections(&p->pace))
        return;
    d = next_mail(p, false);
    if (!d)
        return;
    assign(p, s, d);
    pace_take(&p->pace);
    d->on_new_session = false;
    s->queued_owner = d;
    smtp_session_queue(s, &d->mail);
}

/* The relay had closed the session before it was given this mail. */
static bool was_stale(const struct smtp_delivery *d, const struct smtp_transaction *t)
{
    const struct outcome *o = &t->outcome;

    return !d->on_new_session && o->class == OUTCOME_RETRY && o->stage == STAGE_MAIL &&
           ((o->reason == REASON_LOST && !t->heard) || o->code == 421);
}

/* What the relay's answer says about how busy it is. A refused recipient says nothing. */
static void adapt(struct smtp_pool *p, const struct outcome *o)
{
    const uint64_t now_ms = loop_now_ms(p->loop);

    if (o->class == OUTCOME_SENT)
        pace_success(&p->pace, now_ms);
    else if (o->class == OUTCOME_RETRY && o->reason == REASON_REPLY &&
             (o->code == 421 || o->stage != STAGE_RCPT) &&
             pace_busy(&p->pace, live_sessions(p), now_ms))
        log_warn("SMTP relay is too busy, using fewer connections",
                 LOG_INT("connections", pace_connections(&p->pace)), LOG_INT("replyCode", o->code));
}

static void on_finished(void *owner, struct smtp_session *s,
                        const struct smtp_transaction *finished)
{
    struct smtp_pool *p = owner;
    struct smtp_delivery *d = s->mail_owner, *queued = s->queued_owner;
    const bool stale = was_stale(d, finished);

    s->mail_owner = s->state == SESSION_BUSY ? queued : NULL;
    s->queued_owner = NULL;
    if (queued && s->state == SESSION_DEAD)
        smtp_pool_try_on_new_session(p, queued);
    if (stale)
        smtp_pool_try_on_new_session(p, d);
    else
        adapt(p, &finished->outcome);
    d->session = NULL;
    if (s->state == SESSION_DEAD) {
        session_take(&p->working, s);
        bury_soon(p, s);
    }
    if (p->waiting.len || p->shutting_down)
        smtp_pool_dispatch_soon(p);
    /* The outcome lies in the session: it takes its next mail only after this. */
    if (!stale)
        finish(d, &finished->outcome);
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
        smtp_pool_dispatch_soon(p);
}

static const struct smtp_session_events session_events = {
    .opened = on_opened,
    .open_failed = on_open_failed,
    .before_dot = on_before_dot,
    .may_queue = on_may_queue,
    .finished = on_finished,
    .expired = on_expired,
    .closed = on_closed,
};
