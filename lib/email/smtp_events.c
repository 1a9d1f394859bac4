/* What the pool's sessions tell: what has become of a session, and of the mails it carried. */
#include "base/log.h"
#include "email/smtp_pool.h"

enum {
    /* How long a mail waits behind a dot, where another session could take it: one that is free, or
       one of those over which so many mails each went meanwhile. */
    BEHIND_A_DOT_MS = 2000,
    OVERTAKEN = 4,
    /* How long, from the dot's reply on, a relay may say nothing to what stood behind it. */
    UNHEARD_MS = 5000,
    WATCH_MS = 500,
    MOST_STALE = 3, /* then the session's end is a failed attempt like any other */
    CODE_CLOSING = 421
};

static void watch(struct smtp_pool *p)
{
    if (!loop_timer_running(&p->watch_timer))
        loop_timer_start(p->loop, &p->watch_timer, WATCH_MS);
}

/* ---- opening ---- */

static void on_opened(void *owner, struct smtp_session *s)
{
    struct smtp_pool *p = owner;

    s->number = ++p->sessions_opened;
    p->backoff_ms = p->reopen_ms = 0;
    if (!p->login_wanted)
        smtp_pool_relay_works(p);
    smtp_pool_place(p, &p->connecting, s);
    smtp_pool_dispatch_soon(p);
}

static void on_open_failed(void *owner, struct smtp_session *s, const struct outcome *why)
{
    struct smtp_pool *p = owner;

    session_take(&p->connecting, s);
    smtp_pool_bury_soon(p, s);
    smtp_pool_opening_failed(p, why);
}

/* ---- the dot, and what is behind it ---- */

static void tell_off(bool off)
{
    if (off)
        log_warn("SMTP relay does not bear a command behind a mail's end, waiting for each reply");
}

static void on_before_dot(void *owner, struct smtp_session *s)
{
    struct smtp_pool *p = owner;
    struct smtp_delivery *d = s->mail_owner;

    if (d->behind)
        behind_heard(&p->behind);
    if (d->callbacks.before_dot)
        d->callbacks.before_dot(d->ctx, &d->base);
    else
        smtp_session_allow(s, true);
}

static void on_may_queue(void *owner, struct smtp_session *s)
{
    struct smtp_pool *p = owner;
    struct smtp_delivery *d = smtp_pool_mail_behind(p, s);

    if (!d)
        return;
    smtp_pool_assign(p, s, d);
    d->behind = true;
    d->since_ms = loop_now_ms(p->loop);
    d->ended_before = p->mails_ended;
    s->queued_owner = d;
    smtp_session_queue(s, &d->mail);
    watch(p);
}

/* Nothing but its envelope has left: it goes over another session now. This one ends after its
 * present mail. */
static void leave_queue(struct smtp_pool *p, struct smtp_session *s)
{
    struct smtp_delivery *d = s->queued_owner;

    s->queued_owner = NULL;
    smtp_session_drop_queued(s);
    smtp_pool_hand_back(p, d);
    smtp_pool_dispatch_soon(p);
}

/* The dot before it is answered, and it is not. No reply, no DATA: nothing but its envelope has
 * left. */
static void give_up_unheard(struct smtp_pool *p, struct smtp_session *s)
{
    struct smtp_delivery *d = s->mail_owner;

    tell_off(behind_timed_out(&p->behind, loop_now_ms(p->loop)));
    d->alone = true;
    smtp_pool_hand_back(p, d);
    smtp_pool_drop_session(p, &p->working, s);
    smtp_pool_dispatch_soon(p);
}

/* Another session would have it sooner. */
static bool waits_in_vain(const struct smtp_pool *p, const struct smtp_delivery *queued)
{
    const uint64_t ended = p->mails_ended - queued->ended_before;

    if (loop_now_ms(p->loop) - queued->since_ms < BEHIND_A_DOT_MS)
        return false;
    return p->idle.len + smtp_pool_openable(p) > p->stale.len + p->waiting.len ||
           ended > (uint64_t)smtp_pool_live_sessions(p) * OVERTAKEN;
}

/* True where it stands for a mail that is to be looked after further. */
static bool look_after(struct smtp_pool *p, struct smtp_session *s)
{
    const struct smtp_delivery *queued = s->queued_owner, *d = s->mail_owner;
    const struct smtp_transaction *t = smtp_session_transaction(s);

    if (queued) {
        if (!waits_in_vain(p, queued))
            return true;
        leave_queue(p, s);
        return false;
    }
    if (!d || !d->behind || t->heard || t->phase == SMTP_PHASE_OVER)
        return false;
    if (loop_now_ms(p->loop) - d->since_ms < UNHEARD_MS)
        return true;
    give_up_unheard(p, s);
    return false;
}

void smtp_pool_on_watch(void *ctx)
{
    struct smtp_pool *p = ctx;
    struct smtp_session *s = p->working.first, *next;
    bool more = false;

    for (; s; s = next) {
        next = s->next;
        more |= look_after(p, s);
    }
    if (more)
        watch(p);
}

/* ---- the end of a mail ---- */

/* No attempt: nothing of it but its envelope has left, and the relay said nothing about it. */
static bool was_unheard(const struct smtp_delivery *d, const struct smtp_transaction *t)
{
    const struct outcome *o = &t->outcome;
    const bool silence = o->reason == REASON_LOST || o->reason == REASON_TIMEOUT;

    return d->behind && o->class == OUTCOME_RETRY && o->stage == STAGE_MAIL &&
           ((silence && !t->heard) || o->code == CODE_CLOSING);
}

/* The relay had closed the session before it was given this mail. */
static bool was_stale(const struct smtp_delivery *d, const struct smtp_transaction *t)
{
    const struct outcome *o = &t->outcome;

    return !d->on_new_session && d->times_stale < MOST_STALE && o->class == OUTCOME_RETRY &&
           o->stage == STAGE_MAIL &&
           ((o->reason == REASON_LOST && !t->heard) || o->code == CODE_CLOSING);
}

/* What the end of a mail tells about the relay and envelopes behind dots. */
static void learn(struct smtp_pool *p, const struct smtp_session *s, const struct smtp_delivery *d,
                  const struct smtp_transaction *t)
{
    const struct outcome *o = &t->outcome;
    const uint64_t now_ms = loop_now_ms(p->loop);

    if (d->behind && t->heard && o->stage == STAGE_MAIL && o->code == CODE_CLOSING)
        behind_limit(&p->behind, s->mails - 1);
    else if (d->behind && t->heard)
        behind_heard(&p->behind);
    else if (was_unheard(d, t) && o->reason == REASON_LOST)
        tell_off(behind_lost(&p->behind, s->mails - 1, true, now_ms));
    else if (was_unheard(d, t))
        tell_off(behind_timed_out(&p->behind, now_ms));
    if (s->queued_owner && s->state == SESSION_DEAD && o->class == OUTCOME_AMBIGUOUS &&
        o->reason == REASON_LOST)
        tell_off(behind_lost(&p->behind, s->mails, false, now_ms));
    if (o->class == OUTCOME_SENT)
        behind_took(&p->behind, s->mails);
}

/* What the relay's answer says about how busy it is. A refused recipient says nothing. */
static void adapt(struct smtp_pool *p, const struct outcome *o)
{
    const uint64_t now_ms = loop_now_ms(p->loop);

    if (o->class == OUTCOME_SENT)
        pace_success(&p->pace, now_ms);
    else if (o->class == OUTCOME_RETRY && o->reason == REASON_REPLY &&
             (o->code == CODE_CLOSING || o->stage != STAGE_RCPT) &&
             pace_busy(&p->pace, smtp_pool_live_sessions(p), now_ms))
        log_warn("SMTP relay is too busy, using fewer connections",
                 LOG_INT("connections", pace_connections(&p->pace)), LOG_INT("replyCode", o->code));
}

/* … and whether it takes our mail at all. */
static void judge(struct smtp_pool *p, const struct outcome *o)
{
    if (o->relay_down) {
        p->login_wanted = true;
        smtp_pool_relay_failed(p, o);
    } else if (p->login_wanted && (o->class == OUTCOME_SENT || o->stage > STAGE_MAIL)) {
        smtp_pool_relay_works(p);
    }
}

/* What was queued behind the mail that is over: it is under way now, or was not tried. */
static void turn_to_queued(struct smtp_pool *p, const struct smtp_session *s,
                           struct smtp_delivery *queued)
{
    if (s->state == SESSION_DEAD)
        smtp_pool_hand_back(p, queued);
    else
        queued->since_ms = loop_now_ms(p->loop);
}

static void on_finished(void *owner, struct smtp_session *s,
                        const struct smtp_transaction *finished)
{
    struct smtp_pool *p = owner;
    struct smtp_delivery *d = s->mail_owner, *queued = s->queued_owner;
    const bool unheard = was_unheard(d, finished);
    const bool again = unheard || was_stale(d, finished);

    p->mails_ended++;
    learn(p, s, d, finished);
    if (!again)
        adapt(p, &finished->outcome);
    s->mail_owner = s->state == SESSION_BUSY ? queued : NULL;
    s->queued_owner = NULL;
    d->session = NULL;
    if (queued)
        turn_to_queued(p, s, queued);
    if (s->state == SESSION_DEAD) {
        session_take(&p->working, s);
        smtp_pool_bury_soon(p, s);
    }
    if (unheard) {
        d->alone = true;
        smtp_pool_hand_back(p, d);
    } else if (again) {
        smtp_pool_try_on_new_session(p, d);
    } else {
        delivery_take(d); /* it is no probe, and goes nowhere else */
        judge(p, &finished->outcome);
    }
    if (smtp_pool_has_waiting(p) || p->shutting_down)
        smtp_pool_dispatch_soon(p);
    /* The outcome lies in the session: it takes its next mail only after this. */
    if (!again)
        smtp_pool_finish(d, &finished->outcome);
    if (s->state == SESSION_IDLE)
        smtp_pool_place(p, &p->working, s);
}

/* ---- the end of a session ---- */

static void on_expired(void *owner, struct smtp_session *s)
{
    struct smtp_pool *p = owner;

    smtp_pool_quit_session(p, &p->idle, s);
}

static void on_closed(void *owner, struct smtp_session *s)
{
    struct smtp_pool *p = owner;

    session_take(s->quit_said ? &p->quitting : &p->idle, s);
    smtp_pool_bury_soon(p, s);
    if (smtp_pool_has_waiting(p))
        smtp_pool_dispatch_soon(p);
}

const struct smtp_session_events smtp_pool_events = {
    .opened = on_opened,
    .open_failed = on_open_failed,
    .before_dot = on_before_dot,
    .may_queue = on_may_queue,
    .finished = on_finished,
    .expired = on_expired,
    .closed = on_closed,
};
