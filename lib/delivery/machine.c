#include "delivery/machine.h"

enum {
    STORE_RETRY_MS = 1000, /* where one operation failed: else the store says when it is back */
    BURY_RETRY_MS = 1000,
    LOST_CLAIM_MS = 50 /* after a lost claim: look again soon, somebody else's stands there */
};

void machine_init(struct machine *m)
{
    *m = (struct machine){.state = MACHINE_GATE};
}

const char *machine_state_name(enum machine_state state)
{
    static const char *const names[] = {
        "gate",    "claiming",  "claim_wait", "preparing",    "sending",        "fencing",
        "dot",     "aborting",  "releasing",  "retry_wait",   "ambiguous_wait", "store_wait",
        "burying", "bury_wait", "marking",    "marking_dead", "mark_wait",      "over"};

    return names[state];
}

bool machine_last_attempt(const struct machine *m, const struct machine_policy *policy)
{
    return retry_exhausted(&policy->retry, m->attempts + 1);
}

bool machine_is_active(const struct machine *m)
{
    switch (m->state) {
    case MACHINE_GATE:
    case MACHINE_CLAIM_WAIT:
    case MACHINE_RETRY_WAIT:
    case MACHINE_AMBIGUOUS_WAIT:
    case MACHINE_STORE_WAIT:
    case MACHINE_BURY_WAIT:
    case MACHINE_MARK_WAIT:
    case MACHINE_OVER: return false;
    default: return !m->settled;
    }
}

bool machine_may_probe(const struct machine *m)
{
    switch (m->state) {
    case MACHINE_GATE:
    case MACHINE_CLAIMING:
    case MACHINE_PREPARING:
    case MACHINE_SENDING:
    case MACHINE_FENCING:
    case MACHINE_DOT:
    case MACHINE_ABORTING:
    case MACHINE_RELEASING:
    case MACHINE_RETRY_WAIT: return true;
    default: return false;
    }
}

bool machine_needs_renewal(const struct machine *m)
{
    return m->held && m->state != MACHINE_OVER && m->state != MACHINE_RELEASING &&
           m->state != MACHINE_AMBIGUOUS_WAIT && !m->settled;
}

static bool gives_up(const struct machine *m)
{
    return m->draining || m->cancelled;
}

/* ---- actions ---- */

static void put(struct machine_actions *out, struct machine_action action)
{
    out->list[out->len++] = action;
}

static void act(struct machine_actions *out, enum machine_action_kind kind)
{
    put(out, (struct machine_action){.kind = kind});
}

static void act_wait(struct machine_actions *out, enum machine_action_kind kind, uint64_t delay_ms)
{
    put(out, (struct machine_action){.kind = kind, .delay_ms = delay_ms});
}

/* Without an outcome: the watermark stays before this record. A D of ours stays, a C runs out. */
static void abandon(struct machine *m, struct machine_actions *out)
{
    m->state = MACHINE_OVER;
    m->held = false;
    if (!m->settled)
        act(out, ACTION_ABANDON);
    act(out, ACTION_FREE);
}

static void settle(struct machine *m, struct machine_actions *out, enum machine_result result)
{
    if (m->settled)
        return;
    m->settled = true;
    put(out, (struct machine_action){.kind = ACTION_SETTLE, .result = result, .reason = m->reason});
}

static void finish(struct machine *m, struct machine_actions *out, enum machine_result result)
{
    settle(m, out, result);
    m->held = false;
    m->state = MACHINE_OVER;
    act(out, ACTION_FREE);
}

static void bury(struct machine *m, struct machine_actions *out)
{
    m->state = MACHINE_BURYING;
    put(out, (struct machine_action){.kind = ACTION_BURY, .reason = m->reason});
}

static void enter_gate(struct machine *m, struct machine_actions *out)
{
    if (gives_up(m)) {
        abandon(m, out);
        return;
    }
    m->state = MACHINE_GATE;
    act(out, ACTION_ENTER_GATE);
}

static void wait_in(struct machine *m, struct machine_actions *out, enum machine_state state,
                    uint64_t delay_ms)
{
    if (gives_up(m)) {
        abandon(m, out);
        return;
    }
    m->state = state;
    act_wait(out, state == MACHINE_STORE_WAIT ? ACTION_WAIT_STORE : ACTION_WAIT, delay_ms);
}

/* What comes after a definite failure, the claim given up or not. A D that may stand for a mail
 * already taken is kept: were it given up, the doubt would be forgotten. */
static void continue_after_release(struct machine *m, struct machine_actions *out)
{
    if (!m->inherited)
        m->held = m->fenced = false;
    if (m->after_release == ACTION_BURY)
        bury(m, out);
    else if (m->after_release == ACTION_ABANDON)
        abandon(m, out);
    else if (m->after_release == ACTION_ENTER_GATE)
        enter_gate(m, out);
    else
        wait_in(m, out, MACHINE_RETRY_WAIT, m->after_release_ms);
}

static void release_then(struct machine *m, struct machine_actions *out,
                         enum machine_action_kind next, uint64_t delay_ms)
{
    m->after_release = gives_up(m) && next != ACTION_BURY ? ACTION_ABANDON : next;
    m->after_release_ms = delay_ms;
    if (m->held && !m->inherited) {
        m->state = MACHINE_RELEASING;
        act(out, ACTION_RELEASE);
    } else {
        continue_after_release(m, out);
    }
}

static void die(struct machine *m, struct machine_actions *out, enum dead_reason reason)
{
    m->reason = reason;
    /* A C is kept and renewed while the dead letter is produced. A D has to go first: left behind
     * by a crash it would read as an ambiguous attempt, and this one failed for certain. */
    if (m->fenced && !m->inherited)
        release_then(m, out, ACTION_BURY, 0);
    else
        bury(m, out);
}

/* ---- claim ---- */

static void on_start(struct machine *m, struct machine_actions *out,
                     const struct machine_input *input)
{
    m->dead_on_arrival = input->is_dead;
    m->reason = input->dead;
    if (input->is_dead && !input->has_identity) {
        m->no_mark = true; /* there is no key to write it to */
        bury(m, out);
    } else {
        enter_gate(m, out);
    }
}

static void on_gate_open(struct machine *m, struct machine_actions *out)
{
    if (m->state != MACHINE_GATE)
        return;
    if (m->held) { /* an inherited D, kept over a retry */
        m->state = MACHINE_PREPARING;
        act(out, ACTION_PREPARE);
        return;
    }
    m->state = MACHINE_CLAIMING;
    m->fenced = m->inherited = m->unprotected = false;
    act(out, ACTION_CLAIM);
}

static void on_claim_ours(struct machine *m, const struct machine_policy *policy,
                          struct machine_actions *out, const struct claim_answer *answer)
{
    m->held = true;
    m->inherited = m->fenced = answer->verdict == CLAIM_TAKEN_OVER;
    if (m->cancelled) {
        release_then(m, out, ACTION_ABANDON, 0);
        return;
    }
    if (m->inherited) {
        m->takeovers = answer->takeovers;
        if (policy->park_ambiguous) {
            die(m, out, DEAD_AMBIGUOUS);
            return;
        }
        if (m->takeovers > policy->max_resends) {
            die(m, out, DEAD_RETRIES_EXHAUSTED);
            return;
        }
    }
    m->state = MACHINE_PREPARING;
    act(out, ACTION_PREPARE);
}

/* The key belongs to another mail. */
static void die_without_mark(struct machine *m, struct machine_actions *out,
                             enum dead_reason reason)
{
    m->no_mark = true;
    die(m, out, reason);
}

static void on_claim(struct machine *m, const struct machine_policy *policy,
                     struct machine_actions *out, const struct claim_answer *answer)
{
    if (m->state != MACHINE_CLAIMING)
        return;
    switch (answer->verdict) {
    case CLAIM_WON:
    case CLAIM_TAKEN_OVER: on_claim_ours(m, policy, out, answer); break;
    case CLAIM_DUPLICATE:
        if (m->dead_on_arrival)
            die_without_mark(m, out, m->reason);
        else
            finish(m, out, RESULT_DUPLICATE);
        break;
    case CLAIM_SETTLED: finish(m, out, RESULT_DEAD_BEFORE); break;
    case CLAIM_CONFLICT:
        die_without_mark(m, out, m->dead_on_arrival ? m->reason : DEAD_ID_CONFLICT);
        break;
    case CLAIM_PARKED:
        die_without_mark(m, out, m->dead_on_arrival ? m->reason : DEAD_AMBIGUOUS);
        break;
    case CLAIM_BUSY:
    case CLAIM_UNREADABLE: wait_in(m, out, MACHINE_CLAIM_WAIT, answer->wait_ms); break;
    case CLAIM_UNAVAILABLE:
        if (policy->fail_open && !m->cancelled) {
            m->unprotected = true;
            m->state = MACHINE_PREPARING;
            act(out, ACTION_PREPARE);
        } else {
            wait_in(m, out, MACHINE_STORE_WAIT, STORE_RETRY_MS);
        }
        break;
    }
}

static void on_prepared(struct machine *m, struct machine_actions *out,
                        const struct machine_input *input)
{
    if (m->state != MACHINE_PREPARING)
        return;
    if (input->is_dead) {
        die(m, out, input->dead);
        return;
    }
    m->state = MACHINE_SENDING;
    act(out, ACTION_SEND);
}

/* ---- fence ---- */

static void answer_dot(struct machine *m, struct machine_actions *out, bool go)
{
    m->state = go ? MACHINE_DOT : MACHINE_ABORTING;
    put(out, (struct machine_action){.kind = ACTION_DOT, .go = go});
}

static void on_before_dot(struct machine *m, struct machine_actions *out, bool expired)
{
    if (m->state != MACHINE_SENDING)
        return;
    m->expired = expired && !m->cancelled;
    if (m->cancelled || expired) {
        answer_dot(m, out, false);
    } else if (m->unprotected) {
        answer_dot(m, out, true);
    } else {
        m->state = MACHINE_FENCING;
        act(out, ACTION_FENCE);
    }
}

static void on_fence(struct machine *m, const struct machine_policy *policy,
                     struct machine_actions *out, enum store_answer answer, bool expired)
{
    /* An unanswered fence may have gone up all the same. */
    if (answer != STORE_LOST)
        m->fenced = true;
    if (m->state != MACHINE_FENCING)
        return;
    if (answer == STORE_LOST)
        m->held = m->inherited = false;
    m->expired = expired && !m->cancelled && answer != STORE_LOST;
    answer_dot(m, out,
               !m->cancelled && !m->expired &&
                   (answer == STORE_DONE || (answer == STORE_UNAVAILABLE && policy->fail_open)));
}

/* A claim that is lost, or that nobody confirms, ends the attempt unless its dot is on the way
 * already. */
static void on_renew(struct machine *m, const struct machine_policy *policy,
                     struct machine_actions *out, enum store_answer answer)
{
    if (answer == STORE_DONE || !m->held)
        return;
    if (answer == STORE_UNAVAILABLE && policy->fail_open)
        return;
    if (answer == STORE_LOST && m->state != MACHINE_DOT)
        m->held = m->inherited = false;
    if (m->state == MACHINE_SENDING)
        act(out, ACTION_CANCEL_DELIVERY);
}

/* ---- outcome ---- */

static void on_sent(struct machine *m, struct machine_actions *out, const struct outcome *outcome)
{
    m->partial = outcome->refused_len > 0;
    if (m->partial) {
        m->reason = DEAD_REJECTED;
        bury(m, out);
        return;
    }
    m->state = MACHINE_MARKING;
    act(out, ACTION_MARK_SENT);
}

/* Retries that are nobody's fault but ours, or the relay's as a whole, don't use up an attempt. */
static bool counts(const struct machine_policy *policy, const struct outcome *outcome)
{
    if (outcome->reason == REASON_INTERNAL)
        return false;
    return !(outcome->relay_down && policy->hold_in_outage);
}

static void on_retry(struct machine *m, const struct machine_policy *policy,
                     struct machine_actions *out, const struct machine_input *input)
{
    if (input->outcome->reason == REASON_OUTAGE) { /* not tried at all */
        release_then(m, out, ACTION_ENTER_GATE, 0);
        return;
    }
    m->failures++;
    if (counts(policy, input->outcome))
        m->attempts++;
    if (counts(policy, input->outcome) && retry_exhausted(&policy->retry, m->attempts))
        die(m, out, DEAD_RETRIES_EXHAUSTED);
    else
        release_then(m, out, ACTION_WAIT,
                     retry_delay_ms(&policy->retry, m->failures, input->random));
}

static void on_ambiguous(struct machine *m, const struct machine_policy *policy,
                         struct machine_actions *out, const struct machine_input *input)
{
    m->failures++;
    m->attempts++;
    m->inherited = m->held; /* from now on this D may stand for a mail that was taken */
    if (policy->park_ambiguous)
        die(m, out, DEAD_AMBIGUOUS);
    else if (retry_exhausted(&policy->retry, m->attempts))
        die(m, out, DEAD_RETRIES_EXHAUSTED);
    else if (m->unprotected || !m->held)
        wait_in(m, out, MACHINE_RETRY_WAIT,
                retry_delay_ms(&policy->retry, m->failures, input->random));
    else {
        /* Then it is taken over like anybody else's: the store's clock decides whether the deadline
         * has passed. */
        m->held = false;
        wait_in(m, out, MACHINE_AMBIGUOUS_WAIT, policy->lease_ms + LOST_CLAIM_MS);
    }
}

static void on_outcome(struct machine *m, const struct machine_policy *policy,
                       struct machine_actions *out, const struct machine_input *input)
{
    switch (m->state) {
    case MACHINE_FENCING:
        m->fenced = true; /* its answer is still to come: it may be up already */
        break;
    case MACHINE_SENDING:
    case MACHINE_DOT:
    case MACHINE_ABORTING: break;
    default: return;
    }
    switch (input->outcome->class) {
    case OUTCOME_SENT: on_sent(m, out, input->outcome); break;
    case OUTCOME_RETRY: on_retry(m, policy, out, input); break;
    case OUTCOME_REJECTED:
        m->attempts++;
        die(m, out, DEAD_REJECTED);
        break;
    case OUTCOME_AMBIGUOUS: on_ambiguous(m, policy, out, input); break;
    case OUTCOME_CANCELLED:
        if (m->expired)
            die(m, out, DEAD_EXPIRED);
        else
            release_then(m, out, ACTION_WAIT, LOST_CLAIM_MS);
        break;
    }
}

/* ---- release, dead letter, marks ---- */

static void on_released(struct machine *m, const struct machine_policy *policy,
                        struct machine_actions *out, enum store_answer answer)
{
    if (m->state != MACHINE_RELEASING)
        return;
    if (answer != STORE_UNAVAILABLE || policy->fail_open || m->after_release == ACTION_ABANDON ||
        (gives_up(m) && m->after_release != ACTION_BURY))
        continue_after_release(m, out);
    else {
        m->state = MACHINE_STORE_WAIT; /* also while giving up: the dead letter comes afterwards */
        m->release_due = true;
        act_wait(out, ACTION_WAIT_STORE, STORE_RETRY_MS);
    }
}

/* Where some recipients were refused the others have the mail: its D has to stay. */
static void give_up_burying(struct machine *m, struct machine_actions *out)
{
    if (m->partial)
        abandon(m, out);
    else
        release_then(m, out, ACTION_ABANDON, 0);
}

static void on_buried(struct machine *m, const struct machine_policy *policy,
                      struct machine_actions *out, bool acknowledged)
{
    if (m->state != MACHINE_BURYING)
        return;
    if (!acknowledged) {
        if (m->cancelled)
            give_up_burying(m, out);
        else {
            m->state = MACHINE_BURY_WAIT;
            act_wait(out, ACTION_WAIT, BURY_RETRY_MS);
        }
    } else if (m->partial) {
        m->state = MACHINE_MARKING;
        act(out, ACTION_MARK_SENT);
    } else if (m->no_mark || (m->inherited && policy->keep_doubt)) {
        finish(m, out, RESULT_DEAD);
    } else {
        m->state = MACHINE_MARKING_DEAD;
        act(out, ACTION_MARK_DEAD);
    }
}

static void on_marked(struct machine *m, struct machine_actions *out, enum store_answer answer)
{
    const bool dead = m->state == MACHINE_MARKING_DEAD;
    const enum machine_result result = dead ? RESULT_DEAD : RESULT_SENT;

    if (m->state != MACHINE_MARKING && !dead)
        return;
    /* Unprotected ones wait for nothing: their number would grow for as long as the store is away.
     */
    if (answer != STORE_UNAVAILABLE || m->unprotected || m->out_of_time) {
        finish(m, out, result);
        return;
    }
    /* Final all the same: the D that stands there stops a redelivery, and the mark is written from
     * memory when the store is back. */
    settle(m, out, result);
    m->mark_is_dead = dead;
    m->state = MACHINE_MARK_WAIT;
    act_wait(out, ACTION_WAIT_STORE, STORE_RETRY_MS);
}

/* ---- timers ---- */

/* What was decided before the store went away stays decided, even where the claim was lost. */
static void on_store_back(struct machine *m, struct machine_actions *out)
{
    const bool release_due = m->release_due;

    m->release_due = false;
    if (!release_due) {
        enter_gate(m, out);
    } else if (m->held && !m->inherited) {
        m->state = MACHINE_RELEASING;
        act(out, ACTION_RELEASE);
    } else {
        continue_after_release(m, out);
    }
}

static void on_wake(struct machine *m, struct machine_actions *out)
{
    switch (m->state) {
    case MACHINE_CLAIM_WAIT:
    case MACHINE_RETRY_WAIT:
    case MACHINE_AMBIGUOUS_WAIT: enter_gate(m, out); break;
    case MACHINE_STORE_WAIT: on_store_back(m, out); break;
    case MACHINE_BURY_WAIT: bury(m, out); break;
    case MACHINE_MARK_WAIT:
        m->state = m->mark_is_dead ? MACHINE_MARKING_DEAD : MACHINE_MARKING;
        act(out, m->mark_is_dead ? ACTION_MARK_DEAD : ACTION_MARK_SENT);
        break;
    default: break;
    }
}

static void on_give_up(struct machine *m, struct machine_actions *out, bool cancel)
{
    m->draining = m->draining || !cancel;
    m->cancelled = m->cancelled || cancel;
    m->out_of_time = m->out_of_time || (cancel && m->draining);
    switch (m->state) {
    case MACHINE_GATE:
    case MACHINE_CLAIM_WAIT:
    case MACHINE_RETRY_WAIT:
    case MACHINE_AMBIGUOUS_WAIT: abandon(m, out); break;
    case MACHINE_STORE_WAIT:
        if (cancel || !m->release_due || m->after_release != ACTION_BURY)
            abandon(m, out);
        break;
    case MACHINE_MARK_WAIT:
        if (m->out_of_time)
            abandon(m, out);
        break;
    case MACHINE_BURY_WAIT:
        if (cancel)
            give_up_burying(m, out);
        break;
    case MACHINE_RELEASING:
        if (cancel || m->after_release != ACTION_BURY)
            m->after_release = ACTION_ABANDON;
        break;
    case MACHINE_SENDING:
        if (cancel)
            act(out, ACTION_CANCEL_DELIVERY);
        break;
    default: break; /* decided by the answer that is under way */
    }
}

struct machine_actions machine_step(struct machine *m, const struct machine_policy *policy,
                                    const struct machine_input *input)
{
    struct machine_actions out = {.len = 0};

    if (m->state == MACHINE_OVER)
        return out;
    switch (input->kind) {
    case INPUT_START: on_start(m, &out, input); break;
    case INPUT_GATE_OPEN: on_gate_open(m, &out); break;
    case INPUT_CLAIM: on_claim(m, policy, &out, input->claim); break;
    case INPUT_PREPARED: on_prepared(m, &out, input); break;
    case INPUT_BEFORE_DOT: on_before_dot(m, &out, input->expired); break;
    case INPUT_FENCE: on_fence(m, policy, &out, input->store, input->expired); break;
    case INPUT_RENEW: on_renew(m, policy, &out, input->store); break;
    case INPUT_OUTCOME: on_outcome(m, policy, &out, input); break;
    case INPUT_RELEASED: on_released(m, policy, &out, input->store); break;
    case INPUT_BURIED: on_buried(m, policy, &out, input->acknowledged); break;
    case INPUT_MARKED: on_marked(m, &out, input->store); break;
    case INPUT_TIMER: on_wake(m, &out); break;
    case INPUT_STORE_UP:
        if (m->state == MACHINE_STORE_WAIT || m->state == MACHINE_MARK_WAIT)
            on_wake(m, &out);
        break;
    case INPUT_DRAIN: on_give_up(m, &out, false); break;
    case INPUT_CANCEL: on_give_up(m, &out, true); break;
    }
    return out;
}
