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

enum {
    BACKOFF_MIN_MS = 1000,
    BACKOFF_MAX_MS = 30000,
    OPENS_SOON_MS = 1000 /* a session that takes longer is not waited for */
};

unsigned smtp_pool_live_sessions(const struct smtp_pool *p)
{
    return p->idle.len + p->working.len;
}

static unsigned all_sessions(const struct smtp_pool *p)
{
    return smtp_pool_live_sessions(p) + p->connecting.len + p->quitting.len;
}

bool smtp_pool_has_waiting(const struct smtp_pool *p)
{
    return p->waiting.len + p->stale.len > 0;
}

/* ---- ends of deliveries ---- */

static void dispatch(void *ctx);

void smtp_pool_dispatch_soon(struct smtp_pool *p)
{
    loop_defer(p->loop, &p->dispatch_task, dispatch, p);
}

void smtp_pool_finish(struct smtp_delivery *d, const struct outcome *outcome)
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
        smtp_pool_finish(p->returned.first, &outcome);
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

void smtp_pool_hand_back(struct smtp_pool *p, struct smtp_delivery *d)
{
    d->session = NULL;
    d->behind = false;
    d->newer_than = 0;
    delivery_take(d);
    delivery_put_first(&p->waiting, d);
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
void smtp_pool_bury_soon(struct smtp_pool *p, struct smtp_session *s)
{
    s->mail_owner = NULL;
    session_put(&p->dead, s);
    loop_defer(p->loop, &p->bury_task, bury, p);
}

void smtp_pool_drop_session(struct smtp_pool *p, struct session_list *list, struct smtp_session *s)
{
    session_take(list, s);
    smtp_session_drop(s);
    smtp_pool_bury_soon(p, s);
}

void smtp_pool_quit_session(struct smtp_pool *p, struct session_list *list, struct smtp_session *s)
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

/* While the relay is in outage one mail is kept, to probe it. */
static void hold_back(struct smtp_pool *p)
{
    struct smtp_delivery *kept = p->stale.first ? p->stale.first : p->waiting.first, *d, *next;

    for (d = p->stale.first; d; d = next) {
        next = d->next;
        if (d != kept)
            smtp_pool_give_back(p, d, OUTCOME_RETRY, REASON_OUTAGE, STAGE_QUEUE);
    }
    for (d = p->waiting.first; d; d = next) {
        next = d->next;
        if (d != kept)
            smtp_pool_give_back(p, d, OUTCOME_RETRY, REASON_OUTAGE, STAGE_QUEUE);
    }
}

void smtp_pool_relay_failed(struct smtp_pool *p, const struct outcome *why)
{
    snprintf(p->error, sizeof(p->error), "%s", why->error);
    if (why->relay_down && breaker_failure(&p->breaker))
        relay_down(p, why);
    if (p->breaker.open)
        hold_back(p);
}

void smtp_pool_relay_works(struct smtp_pool *p)
{
    p->login_wanted = false;
    if (!breaker_success(&p->breaker))
        return;
    log_info("SMTP relay is working again");
    p->error[0] = '\0';
    up_changed(p);
}

/* ---- opening ---- */

static bool backing_off(const struct smtp_pool *p)
{
    return smtp_pool_live_sessions(p) > 0 && loop_now_ms(p->loop) < p->reopen_ms;
}

/* The relay takes no further session but serves those that are open: its limit, not an outage.
 * Several that are opened together are turned away together, and count once. */
static void back_off(struct smtp_pool *p)
{
    if (backing_off(p))
        return;
    p->backoff_ms = p->backoff_ms ? p->backoff_ms * 2 : BACKOFF_MIN_MS;
    if (p->backoff_ms > BACKOFF_MAX_MS)
        p->backoff_ms = BACKOFF_MAX_MS;
    p->reopen_ms = loop_now_ms(p->loop) + p->backoff_ms;
    loop_timer_start(p->loop, &p->reopen_timer, p->backoff_ms);
}

void smtp_pool_trust_any(struct smtp_pool *p)
{
    while (p->stale.last)
        smtp_pool_hand_back(p, p->stale.last);
}

void smtp_pool_opening_failed(struct smtp_pool *p, const struct outcome *why)
{
    struct smtp_delivery *d;

    if (smtp_pool_live_sessions(p) > 0) {
        back_off(p);
        smtp_pool_trust_any(p);
        smtp_pool_dispatch_soon(p);
        return;
    }
    d = p->stale.first ? p->stale.first : p->waiting.first;
    if (d)
        delivery_take(d);
    smtp_pool_relay_failed(p, why);
    smtp_pool_dispatch_soon(p);
    if (d)
        smtp_pool_finish(d, why);
}

unsigned smtp_pool_openable(const struct smtp_pool *p)
{
    const unsigned all = all_sessions(p), most = pace_connections(&p->pace);

    if (p->shutting_down || backing_off(p) || all >= most ||
        !breaker_admits(&p->breaker, p->connecting.len))
        return 0;
    return p->breaker.open ? 1 : most - all;
}

static bool open_session(struct smtp_pool *p)
{
    struct error err = {0};
    struct outcome why;
    struct smtp_session *s =
        smtp_session_open(p->loop, p->curl, &p->settings, p->url, &smtp_pool_events, p, &err);

    if (s) {
        p->opening_ms = loop_now_ms(p->loop);
        session_put(&p->connecting, s);
        return true;
    }
    outcome_set(&why, OUTCOME_RETRY, REASON_INTERNAL, STAGE_CONNECT, "%s", err.text);
    smtp_pool_opening_failed(p, &why);
    return false;
}

/* ---- mails whose session was found closed ---- */

static bool fits(const struct smtp_session *s, const struct smtp_delivery *d)
{
    return s->number > d->newer_than;
}

static struct smtp_session *find_fit(const struct session_list *list, const struct smtp_delivery *d)
{
    struct smtp_session *s = list->first;

    while (s && !fits(s, d))
        s = s->next;
    return s;
}

/* Some of them can go over no session that is open or being opened. */
static bool new_one_is_needed(const struct smtp_pool *p)
{
    const struct smtp_delivery *d = p->connecting.len ? NULL : p->stale.first;

    while (d && (find_fit(&p->idle, d) || find_fit(&p->working, d)))
        d = d->next;
    return d != NULL;
}

/* … and to open one, another one has to end. */
static bool slot_is_needed(const struct smtp_pool *p)
{
    return p->stale.len && !p->quitting.len && !p->breaker.open && !p->shutting_down &&
           !backing_off(p) && !smtp_pool_openable(p) && new_one_is_needed(p);
}

void smtp_pool_try_on_new_session(struct smtp_pool *p, struct smtp_delivery *d)
{
    d->times_stale++;
    smtp_pool_hand_back(p, d);
    if (backing_off(p) || p->shutting_down) /* there is none to be had */
        return;
    delivery_take(d);
    d->newer_than = p->sessions_opened;
    delivery_put(&p->stale, d);
}

/* ---- bringing mails and sessions together ---- */

void smtp_pool_assign(struct smtp_pool *p, struct smtp_session *s, struct smtp_delivery *d)
{
    delivery_take(d);
    delivery_put(&p->busy, d);
    d->session = s;
    d->behind = d->on_new_session = false;
    pace_take(&p->pace);
}

static void start(struct smtp_pool *p, struct session_list *list, struct smtp_session *s,
                  struct smtp_delivery *d)
{
    session_take(list, s);
    session_put(&p->working, s);
    smtp_pool_assign(p, s, d);
    d->on_new_session = list == &p->connecting;
    s->mail_owner = d;
    smtp_session_start(s, &d->mail);
}

static void quit_idle(struct smtp_pool *p)
{
    while (p->idle.first)
        smtp_pool_quit_session(p, &p->idle, p->idle.first);
}

/* True where the next mail has to wait for its turn by the clock; dispatch() looks again then. */
static bool paced(struct smtp_pool *p)
{
    const uint64_t delay_ms = pace_delay_ms(&p->pace, loop_now_ms(p->loop));

    if (delay_ms && !loop_timer_running(&p->pace_timer))
        loop_timer_start(p->loop, &p->pace_timer, delay_ms);
    return delay_ms > 0;
}

/* In outage one mail is under way at a time. */
static bool is_probed(const struct smtp_pool *p, const struct session_list *list)
{
    return p->breaker.open && p->working.len > (list == &p->working ? 1 : 0);
}

/* The next mail that a session may take. */
static struct smtp_delivery *next_mail(struct smtp_pool *p, const struct session_list *list,
                                       const struct smtp_session *s)
{
    struct smtp_delivery *d = p->stale.first;

    for (; d && !fits(s, d); d = d->next)
        if (find_fit(&p->idle, d))
            return NULL; /* its turn is first: dispatch() brings the two together */
    if (!d)
        d = p->waiting.first;
    return d && !is_probed(p, list) && !paced(p) ? d : NULL;
}

static bool start_on_idle(struct smtp_pool *p)
{
    struct smtp_session *s = NULL;
    struct smtp_delivery *d = p->stale.first;

    for (; d && !(s = find_fit(&p->idle, d)); d = d->next)
        ;
    if (!d) {
        d = p->waiting.first;
        s = p->idle.first;
    }
    if (!d || !s || is_probed(p, &p->idle) || paced(p))
        return false;
    start(p, &p->idle, s, d);
    return true;
}

/* Those that need a new session have it opened before their turn by the clock: else mails that go
 * over open ones might take every turn. */
static void open_sessions(struct smtp_pool *p)
{
    unsigned wanted = p->stale.len + p->waiting.len;

    if (p->idle.last && slot_is_needed(p))
        smtp_pool_drop_session(p, &p->idle, p->idle.last);
    if (is_probed(p, NULL))
        wanted = 0;
    else if (wanted && paced(p))
        wanted = new_one_is_needed(p);
    while (p->connecting.len < wanted && smtp_pool_openable(p))
        if (!open_session(p))
            return;
}

static void give_back_all(struct smtp_pool *p, struct delivery_list *list)
{
    while (list->first)
        smtp_pool_give_back(p, list->first, OUTCOME_CANCELLED, REASON_CANCELLED, STAGE_QUEUE);
}

static void dispatch(void *ctx)
{
    struct smtp_pool *p = ctx;

    while (p->idle.last && smtp_pool_live_sessions(p) > pace_connections(&p->pace))
        smtp_pool_quit_session(p, &p->idle, p->idle.last);
    if (p->breaker.open && !p->shutting_down)
        hold_back(p);
    while (start_on_idle(p))
        ;
    if (!p->shutting_down) {
        open_sessions(p);
        return;
    }
    if (smtp_pool_live_sessions(p) + p->connecting.len == 0) {
        give_back_all(p, &p->stale);
        give_back_all(p, &p->waiting);
    }
    if (!smtp_pool_has_waiting(p))
        quit_idle(p);
}

void smtp_pool_on_timer(void *ctx)
{
    dispatch(ctx);
}

void smtp_pool_place(struct smtp_pool *p, struct session_list *list, struct smtp_session *s)
{
    const unsigned limit = p->settings.messages_per_connection;
    const bool spent =
        (limit && s->mails >= limit) || (p->shutting_down && !smtp_pool_has_waiting(p)) ||
        (list == &p->working &&
         (smtp_pool_live_sessions(p) > pace_connections(&p->pace) || slot_is_needed(p)));
    struct smtp_delivery *d = spent ? NULL : next_mail(p, list, s);

    if (spent) {
        smtp_pool_quit_session(p, list, s);
    } else if (d) {
        start(p, list, s, d);
    } else {
        session_take(list, s);
        session_put(&p->idle, s);
    }
}

/* ---- behind a dot ---- */

/* An envelope behind a dot of which nobody knows whether the relay bears it. */
static bool on_trial(const struct smtp_pool *p)
{
    const struct smtp_session *s = p->working.first;

    for (; s; s = s->next) {
        const struct smtp_delivery *d = s->mail_owner;
        if (s->queued_owner || (d && d->behind && !smtp_session_transaction(s)->heard))
            return true;
    }
    return false;
}

/* The first ones are left to sessions that are being opened, which they may have sooner: unless
 * that takes so long that nobody knows. */
static struct smtp_delivery *beyond_new_sessions(struct smtp_pool *p)
{
    struct smtp_delivery *d = p->waiting.first;
    const unsigned openable = smtp_pool_openable(p);
    unsigned left = openable;

    if (openable)
        smtp_pool_dispatch_soon(p);
    if (loop_now_ms(p->loop) - p->opening_ms < OPENS_SOON_MS)
        left += p->connecting.len;
    left = left > p->stale.len ? left - p->stale.len : 0;
    for (; d && left; left--)
        d = d->next;
    return d;
}

/* A session that ends its mail takes one that fits it, or makes room for a new session. */
static bool is_for_stale(const struct smtp_pool *p, const struct smtp_session *s)
{
    const struct smtp_delivery *d = p->stale.first;

    while (d && !fits(s, d))
        d = d->next;
    return d || slot_is_needed(p);
}

struct smtp_delivery *smtp_pool_mail_behind(struct smtp_pool *p, const struct smtp_session *s)
{
    const unsigned limit = p->settings.messages_per_connection;
    struct smtp_delivery *d;

    /* An idle session answers sooner than one that waits for the reply to a dot; and one too many
     * ends after its mail. */
    if (!p->waiting.first || p->idle.first || p->breaker.open ||
        smtp_pool_live_sessions(p) > pace_connections(&p->pace) ||
        (limit && s->mails + 2 > limit) ||
        !behind_may(&p->behind, s->mails, !p->behind.proved && on_trial(p)) || is_for_stale(p, s))
        return NULL;
    d = beyond_new_sessions(p);
    return d && !d->alone && !paced(p) ? d : NULL;
}
