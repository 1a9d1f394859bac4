/* The per-event state machine: the delivery protocol's promises, by example and by random walk. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "delivery/machine.h"

static struct machine_policy default_policy(void)
{
    return (struct machine_policy){.retry = {.max_attempts = 3, .base_ms = 100, .max_ms = 1000},
                                   .lease_ms = 60000,
                                   .max_resends = 3};
}

/* ---- a small language for scripts ---- */

struct run {
    struct machine m;
    struct machine_policy policy;
    struct machine_actions last;
};

static void begin(struct run *r, struct machine_policy policy)
{
    machine_init(&r->m);
    r->policy = policy;
}

static void feed(struct run *r, struct machine_input input)
{
    input.random = UINT64_MAX / 2;
    r->last = machine_step(&r->m, &r->policy, &input);
}

static void feed_kind(struct run *r, enum machine_input_kind kind)
{
    feed(r, (struct machine_input){.kind = kind});
}

static void feed_claim_n(struct run *r, enum claim_verdict verdict, uint32_t takeovers)
{
    const struct claim_answer answer = {.verdict = verdict, .wait_ms = 77, .takeovers = takeovers};

    feed(r, (struct machine_input){.kind = INPUT_CLAIM, .claim = &answer});
}

static void feed_claim(struct run *r, enum claim_verdict verdict)
{
    feed_claim_n(r, verdict, 1);
}

static void feed_store(struct run *r, enum machine_input_kind kind, enum store_answer answer)
{
    feed(r, (struct machine_input){.kind = kind, .store = answer});
}

static void feed_outcome(struct run *r, struct outcome outcome)
{
    feed(r, (struct machine_input){.kind = INPUT_OUTCOME, .outcome = &outcome});
}

static void feed_class(struct run *r, enum outcome_class class)
{
    feed_outcome(r, (struct outcome){.class = class, .reason = REASON_REPLY});
}

static void feed_buried(struct run *r, bool acknowledged)
{
    feed(r, (struct machine_input){.kind = INPUT_BURIED, .acknowledged = acknowledged});
}

static void expect(const struct run *r, unsigned n, ...)
{
    va_list kinds;

    assert_int_equal(r->last.len, n);
    va_start(kinds, n);
    for (unsigned i = 0; i < n; i++)
        assert_int_equal(r->last.list[i].kind, va_arg(kinds, int));
    va_end(kinds);
}

static void to_gate_open(struct run *r)
{
    feed_kind(r, INPUT_START);
    expect(r, 1, ACTION_ENTER_GATE);
    feed_kind(r, INPUT_GATE_OPEN);
    expect(r, 1, ACTION_CLAIM);
}

static void to_sending(struct run *r)
{
    to_gate_open(r);
    feed_claim(r, CLAIM_WON);
    expect(r, 1, ACTION_PREPARE);
    feed_kind(r, INPUT_PREPARED);
    expect(r, 1, ACTION_SEND);
}

static void to_dot(struct run *r)
{
    to_sending(r);
    feed_kind(r, INPUT_BEFORE_DOT);
    expect(r, 1, ACTION_FENCE);
    feed_store(r, INPUT_FENCE, STORE_DONE);
    expect(r, 1, ACTION_DOT);
    assert_true(r->last.list[0].go);
}

/* ---- by example ---- */

static void sent(void **state)
{
    struct run r;

    (void)state;
    begin(&r, default_policy());
    to_dot(&r);
    feed_class(&r, OUTCOME_SENT);
    expect(&r, 1, ACTION_MARK_SENT);
    feed_store(&r, INPUT_MARKED, STORE_DONE);
    expect(&r, 2, ACTION_SETTLE, ACTION_FREE);
    assert_int_equal(r.last.list[0].result, RESULT_SENT);
}

static void sent_but_the_mark_waits_for_the_store(void **state)
{
    struct run r;

    (void)state;
    begin(&r, default_policy());
    to_dot(&r);
    feed_class(&r, OUTCOME_SENT);
    feed_store(&r, INPUT_MARKED, STORE_UNAVAILABLE);
    expect(&r, 2, ACTION_SETTLE, ACTION_WAIT_STORE);
    feed_kind(&r, INPUT_STORE_UP);
    expect(&r, 1, ACTION_MARK_SENT);
    feed_store(&r, INPUT_MARKED, STORE_DONE);
    expect(&r, 1, ACTION_FREE); /* settled once only */
}

static void duplicate_conflict_settled(void **state)
{
    struct run r;

    (void)state;
    begin(&r, default_policy());
    to_gate_open(&r);
    feed_claim(&r, CLAIM_DUPLICATE);
    expect(&r, 2, ACTION_SETTLE, ACTION_FREE);
    assert_int_equal(r.last.list[0].result, RESULT_DUPLICATE);

    begin(&r, default_policy());
    to_gate_open(&r);
    feed_claim(&r, CLAIM_SETTLED);
    assert_int_equal(r.last.list[0].result, RESULT_DEAD_BEFORE);

    begin(&r, default_policy());
    to_gate_open(&r);
    feed_claim(&r, CLAIM_CONFLICT);
    expect(&r, 1, ACTION_BURY);
    assert_int_equal(r.last.list[0].reason, DEAD_ID_CONFLICT);
    feed_buried(&r, true);
    expect(&r, 2, ACTION_SETTLE, ACTION_FREE); /* the key is another mail's: no mark */

    begin(&r, default_policy());
    to_gate_open(&r);
    feed_claim(&r, CLAIM_PARKED);
    expect(&r, 1, ACTION_BURY);
    assert_int_equal(r.last.list[0].reason, DEAD_AMBIGUOUS);
    feed_buried(&r, true);
    expect(&r, 2, ACTION_SETTLE, ACTION_FREE); /* the mark is the other record's */
}

static void foreign_claim_is_waited_for(void **state)
{
    struct run r;

    (void)state;
    for (int unreadable = 0; unreadable < 2; unreadable++) {
        begin(&r, default_policy());
        to_gate_open(&r);
        feed_claim(&r, unreadable ? CLAIM_UNREADABLE : CLAIM_BUSY);
        expect(&r, 1, ACTION_WAIT);
        assert_int_equal(r.last.list[0].delay_ms, 77);
        feed_kind(&r, INPUT_TIMER);
        expect(&r, 1, ACTION_ENTER_GATE);
        feed_kind(&r, INPUT_GATE_OPEN);
        expect(&r, 1, ACTION_CLAIM);
    }
}

static void no_dot_without_the_fence(void **state)
{
    static const enum store_answer answers[] = {STORE_LOST, STORE_UNAVAILABLE};
    struct run r;

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        begin(&r, default_policy());
        to_sending(&r);
        feed_kind(&r, INPUT_BEFORE_DOT);
        feed_store(&r, INPUT_FENCE, answers[i]);
        expect(&r, 1, ACTION_DOT);
        assert_false(r.last.list[0].go);
        feed_outcome(&r, (struct outcome){.class = OUTCOME_CANCELLED, .reason = REASON_FENCE});
        expect(&r, 1, answers[i] == STORE_LOST ? ACTION_WAIT : ACTION_RELEASE);
        assert_int_equal(r.m.attempts, 0); /* nobody's fault but the store's */
    }
}

/* The mail may have waited for the relay, or for the store, since it was composed. */
static void no_dot_past_expires_at(void **state)
{
    const struct machine_input before_dot = {.kind = INPUT_BEFORE_DOT, .expired = true};
    struct machine_policy policy = default_policy();
    struct run r;

    (void)state;
    begin(&r, policy); /* before the fence: its C is kept until the dead letter is written */
    to_sending(&r);
    feed(&r, before_dot);
    expect(&r, 1, ACTION_DOT);
    assert_false(r.last.list[0].go);
    feed_outcome(&r, (struct outcome){.class = OUTCOME_CANCELLED, .reason = REASON_FENCE});
    expect(&r, 1, ACTION_BURY);
    assert_int_equal(r.last.list[0].reason, DEAD_EXPIRED);
    assert_int_equal(r.m.attempts, 0);
    feed_buried(&r, true);
    expect(&r, 1, ACTION_MARK_DEAD);

    for (int lost = 0; lost < 2; lost++) { /* while the fence went up */
        begin(&r, policy);
        to_sending(&r);
        feed_kind(&r, INPUT_BEFORE_DOT);
        feed(&r, (struct machine_input){.kind = INPUT_FENCE,
                                        .store = lost ? STORE_LOST : STORE_DONE,
                                        .expired = true});
        expect(&r, 1, ACTION_DOT);
        assert_false(r.last.list[0].go);
        feed_outcome(&r, (struct outcome){.class = OUTCOME_CANCELLED, .reason = REASON_FENCE});
        /* A claim that is somebody else's decides nothing. */
        expect(&r, 1, lost ? ACTION_WAIT : ACTION_RELEASE);
        if (lost)
            continue;
        feed_store(&r, INPUT_RELEASED, STORE_DONE);
        expect(&r, 1, ACTION_BURY);
        assert_int_equal(r.last.list[0].reason, DEAD_EXPIRED);
    }

    begin(&r, policy); /* a partition that is gone: no outcome here */
    to_sending(&r);
    feed_kind(&r, INPUT_CANCEL);
    feed(&r, before_dot);
    feed_outcome(&r, (struct outcome){.class = OUTCOME_CANCELLED, .reason = REASON_CANCELLED});
    expect(&r, 1, ACTION_RELEASE);
    feed_store(&r, INPUT_RELEASED, STORE_DONE);
    expect(&r, 2, ACTION_ABANDON, ACTION_FREE);

    policy.fail_open = true; /* without a claim likewise */
    begin(&r, policy);
    to_gate_open(&r);
    feed_claim(&r, CLAIM_UNAVAILABLE);
    feed_kind(&r, INPUT_PREPARED);
    feed(&r, before_dot);
    expect(&r, 1, ACTION_DOT);
    assert_false(r.last.list[0].go);
}

static void retries_until_exhausted(void **state)
{
    struct run r;

    (void)state;
    begin(&r, default_policy());
    for (unsigned attempt = 1; attempt <= 3; attempt++) {
        if (attempt == 1)
            feed_kind(&r, INPUT_START);
        feed_kind(&r, INPUT_GATE_OPEN);
        feed_claim(&r, CLAIM_WON);
        assert_int_equal(machine_last_attempt(&r.m, &r.policy), attempt == 3);
        feed_kind(&r, INPUT_PREPARED);
        feed_class(&r, OUTCOME_RETRY);
        if (attempt == 3)
            break;
        expect(&r, 1, ACTION_RELEASE);
        feed_store(&r, INPUT_RELEASED, STORE_DONE);
        expect(&r, 1, ACTION_WAIT);
        assert_true(r.last.list[0].delay_ms <= 200);
        feed_kind(&r, INPUT_TIMER);
        expect(&r, 1, ACTION_ENTER_GATE);
    }
    expect(&r, 1, ACTION_BURY); /* still holding its C */
    assert_int_equal(r.last.list[0].reason, DEAD_RETRIES_EXHAUSTED);
    assert_true(machine_needs_renewal(&r.m));
    feed_buried(&r, false);
    expect(&r, 1, ACTION_WAIT);
    feed_kind(&r, INPUT_TIMER);
    expect(&r, 1, ACTION_BURY);
    feed_buried(&r, true);
    expect(&r, 1, ACTION_MARK_DEAD);
    feed_store(&r, INPUT_MARKED, STORE_DONE);
    expect(&r, 2, ACTION_SETTLE, ACTION_FREE);
    assert_int_equal(r.last.list[0].result, RESULT_DEAD);
}

static void rejected_after_the_dot_gives_the_d_up_first(void **state)
{
    struct run r;

    (void)state;
    begin(&r, default_policy());
    to_dot(&r);
    feed_class(&r, OUTCOME_REJECTED);
    expect(&r, 1, ACTION_RELEASE);
    feed_store(&r, INPUT_RELEASED, STORE_UNAVAILABLE);
    expect(&r, 1, ACTION_WAIT_STORE);
    feed_kind(&r, INPUT_STORE_UP);
    expect(&r, 1, ACTION_RELEASE);
    feed_store(&r, INPUT_RELEASED, STORE_DONE);
    expect(&r, 1, ACTION_BURY);
    assert_int_equal(r.last.list[0].reason, DEAD_REJECTED);
}

/* Found by fuzzing: the event went back to the gate, and the mail that was refused for good was
 * sent again, beyond any number of attempts. */
static void rejected_stays_rejected_where_the_claim_is_lost(void **state)
{
    struct run r;

    (void)state;
    begin(&r, default_policy());
    to_dot(&r);
    feed_class(&r, OUTCOME_REJECTED);
    feed_store(&r, INPUT_RELEASED, STORE_UNAVAILABLE);
    expect(&r, 1, ACTION_WAIT_STORE);
    feed_store(&r, INPUT_RENEW, STORE_LOST);
    feed_kind(&r, INPUT_DRAIN); /* nor is it given up: the dead letter is still to come */
    expect(&r, 0);
    feed_kind(&r, INPUT_STORE_UP);
    expect(&r, 1, ACTION_BURY);
    assert_int_equal(r.last.list[0].reason, DEAD_REJECTED);
}

static void partly_refused(void **state)
{
    const struct refused_recipient refused = {.index = 1, .code = 550};
    struct run r;

    (void)state;
    begin(&r, default_policy());
    to_dot(&r);
    feed_outcome(&r,
                 (struct outcome){.class = OUTCOME_SENT, .refused = &refused, .refused_len = 1});
    expect(&r, 1, ACTION_BURY);
    feed_buried(&r, true);
    expect(&r, 1, ACTION_MARK_SENT);
    feed_store(&r, INPUT_MARKED, STORE_DONE);
    expect(&r, 2, ACTION_SETTLE, ACTION_FREE);
    assert_int_equal(r.last.list[0].result, RESULT_SENT);
}

static void ambiguous_is_taken_over_and_resent(void **state)
{
    struct run r;

    (void)state;
    begin(&r, default_policy());
    to_dot(&r);
    feed_class(&r, OUTCOME_AMBIGUOUS);
    expect(&r, 1, ACTION_WAIT);
    assert_true(r.last.list[0].delay_ms >= r.policy.lease_ms);
    feed_kind(&r, INPUT_TIMER);
    feed_kind(&r, INPUT_GATE_OPEN);
    expect(&r, 1, ACTION_CLAIM);
    feed_claim_n(&r, CLAIM_TAKEN_OVER, 1);
    expect(&r, 1, ACTION_PREPARE);
    feed_kind(&r, INPUT_PREPARED);
    feed_class(&r, OUTCOME_RETRY); /* a definite failure now does not end the former doubt */
    expect(&r, 1, ACTION_WAIT);
    assert_true(machine_needs_renewal(&r.m));
    feed_kind(&r, INPUT_TIMER);
    feed_kind(&r, INPUT_GATE_OPEN);
    expect(&r, 1, ACTION_PREPARE); /* the D is still ours */
}

/* The producer library's direct send: Kafka's late copy has to meet the doubt. */
static void doubt_is_kept_without_a_dead_letter(void **state)
{
    struct machine_policy policy = default_policy();
    struct run r;

    (void)state;
    policy.park_ambiguous = policy.keep_doubt = true;
    begin(&r, policy);
    to_dot(&r);
    feed_class(&r, OUTCOME_AMBIGUOUS);
    expect(&r, 1, ACTION_BURY);
    feed_buried(&r, true);
    expect(&r, 2, ACTION_SETTLE, ACTION_FREE); /* neither released nor marked */

    begin(&r, policy); /* a failure without a doubt is marked as ever */
    to_dot(&r);
    feed_class(&r, OUTCOME_REJECTED);
    feed_store(&r, INPUT_RELEASED, STORE_DONE);
    expect(&r, 1, ACTION_BURY);
    feed_buried(&r, true);
    expect(&r, 1, ACTION_MARK_DEAD);
}

static void ambiguous_is_parked(void **state)
{
    struct machine_policy policy = default_policy();
    struct run r;

    (void)state;
    policy.park_ambiguous = true;
    begin(&r, policy);
    to_dot(&r);
    feed_class(&r, OUTCOME_AMBIGUOUS);
    expect(&r, 1, ACTION_BURY);
    assert_int_equal(r.last.list[0].reason, DEAD_AMBIGUOUS);
    assert_true(machine_needs_renewal(&r.m)); /* D kept until the mark */
    feed_buried(&r, true);
    expect(&r, 1, ACTION_MARK_DEAD);

    begin(&r, policy); /* and so is somebody else's */
    to_gate_open(&r);
    feed_claim_n(&r, CLAIM_TAKEN_OVER, 1);
    expect(&r, 1, ACTION_BURY);
    assert_int_equal(r.last.list[0].reason, DEAD_AMBIGUOUS);
}

static void too_many_takeovers(void **state)
{
    struct run r;

    (void)state;
    begin(&r, default_policy());
    to_gate_open(&r);
    feed_claim_n(&r, CLAIM_TAKEN_OVER, 4);
    expect(&r, 1, ACTION_BURY);
    assert_int_equal(r.last.list[0].reason, DEAD_RETRIES_EXHAUSTED);
}

static void outage_uses_up_no_attempt(void **state)
{
    struct machine_policy policy = default_policy();
    struct run r;

    (void)state;
    begin(&r, policy);
    to_sending(&r);
    feed_outcome(
        &r, (struct outcome){.class = OUTCOME_RETRY, .reason = REASON_OUTAGE, .relay_down = true});
    expect(&r, 1, ACTION_RELEASE);
    feed_store(&r, INPUT_RELEASED, STORE_DONE);
    expect(&r, 1, ACTION_ENTER_GATE);
    assert_int_equal(r.m.attempts, 0);

    policy.hold_in_outage = true;
    begin(&r, policy);
    feed_kind(&r, INPUT_START);
    for (int i = 0; i < 50; i++) {
        feed_kind(&r, INPUT_GATE_OPEN);
        feed_claim(&r, CLAIM_WON);
        feed_kind(&r, INPUT_PREPARED);
        feed_outcome(&r, (struct outcome){
                             .class = OUTCOME_RETRY, .reason = REASON_REFUSED, .relay_down = true});
        expect(&r, 1, ACTION_RELEASE);
        feed_store(&r, INPUT_RELEASED, STORE_DONE);
        expect(&r, 1, ACTION_WAIT);
        feed_kind(&r, INPUT_TIMER);
    }
    assert_int_equal(r.m.attempts, 0);
}

static void store_away(void **state)
{
    struct machine_policy policy = default_policy();
    struct run r;

    (void)state;
    begin(&r, policy);
    to_gate_open(&r);
    feed_claim(&r, CLAIM_UNAVAILABLE);
    expect(&r, 1, ACTION_WAIT_STORE);
    feed_kind(&r, INPUT_STORE_UP);
    expect(&r, 1, ACTION_ENTER_GATE);

    policy.fail_open = true;
    begin(&r, policy);
    to_gate_open(&r);
    feed_claim(&r, CLAIM_UNAVAILABLE);
    expect(&r, 1, ACTION_PREPARE);
    feed_kind(&r, INPUT_PREPARED);
    feed_kind(&r, INPUT_BEFORE_DOT);
    expect(&r, 1, ACTION_DOT);
    assert_true(r.last.list[0].go);
}

/* Found by a review: what used to be a second mail, or memory without bound. */
static void marks_and_doubts_are_kept(void **state)
{
    const struct refused_recipient refused = {.index = 1, .code = 550};
    struct machine_policy policy = default_policy();
    struct run r;

    (void)state;
    begin(&r, policy); /* a revoked partition's mail still gets its mark */
    to_dot(&r);
    feed_class(&r, OUTCOME_SENT);
    feed_kind(&r, INPUT_CANCEL);
    feed_store(&r, INPUT_MARKED, STORE_UNAVAILABLE);
    expect(&r, 2, ACTION_SETTLE, ACTION_WAIT_STORE);
    feed_kind(&r, INPUT_CANCEL);
    expect(&r, 0);
    feed_kind(&r, INPUT_DRAIN); /* … unless the process ends */
    feed_kind(&r, INPUT_CANCEL);
    expect(&r, 1, ACTION_FREE);

    begin(&r, policy); /* a partly refused mail's D is not given up with its dead letter */
    to_dot(&r);
    feed_outcome(&r,
                 (struct outcome){.class = OUTCOME_SENT, .refused = &refused, .refused_len = 1});
    feed_buried(&r, false);
    expect(&r, 1, ACTION_WAIT);
    feed_kind(&r, INPUT_CANCEL);
    expect(&r, 2, ACTION_ABANDON, ACTION_FREE);

    policy.fail_open = true; /* unprotected mails don't pile up */
    begin(&r, policy);
    to_gate_open(&r);
    feed_claim(&r, CLAIM_UNAVAILABLE);
    feed_kind(&r, INPUT_PREPARED);
    feed_kind(&r, INPUT_BEFORE_DOT);
    feed_class(&r, OUTCOME_SENT);
    feed_store(&r, INPUT_MARKED, STORE_UNAVAILABLE);
    expect(&r, 2, ACTION_SETTLE, ACTION_FREE);
}

static void lost_renewal_cancels_before_the_dot_only(void **state)
{
    struct run r;

    (void)state;
    begin(&r, default_policy());
    to_sending(&r);
    feed_store(&r, INPUT_RENEW, STORE_LOST);
    expect(&r, 1, ACTION_CANCEL_DELIVERY);

    begin(&r, default_policy());
    to_dot(&r);
    feed_store(&r, INPUT_RENEW, STORE_LOST);
    expect(&r, 0);
    feed_class(&r, OUTCOME_SENT); /* a true 250 always wins */
    expect(&r, 1, ACTION_MARK_SENT);
}

static void dead_on_arrival(void **state)
{
    struct run r;

    (void)state;
    begin(&r, default_policy());
    feed(&r,
         (struct machine_input){.kind = INPUT_START, .is_dead = true, .dead = DEAD_INVALID_EVENT});
    expect(&r, 1, ACTION_BURY);
    feed_buried(&r, true);
    expect(&r, 2, ACTION_SETTLE, ACTION_FREE);
}

static void cancelled(void **state)
{
    struct run r;

    (void)state;
    begin(&r, default_policy());
    to_sending(&r);
    feed_kind(&r, INPUT_CANCEL);
    expect(&r, 1, ACTION_CANCEL_DELIVERY);
    feed_outcome(&r, (struct outcome){.class = OUTCOME_CANCELLED, .reason = REASON_CANCELLED});
    expect(&r, 1, ACTION_RELEASE);
    feed_store(&r, INPUT_RELEASED, STORE_UNAVAILABLE);
    expect(&r, 2, ACTION_ABANDON, ACTION_FREE);

    begin(&r, default_policy());
    to_dot(&r);
    feed_kind(&r, INPUT_CANCEL);
    expect(&r, 0);
    feed_class(&r, OUTCOME_SENT);
    expect(&r, 1, ACTION_MARK_SENT);
}

static void drained(void **state)
{
    struct run r;

    (void)state;
    begin(&r, default_policy());
    feed_kind(&r, INPUT_DRAIN);
    expect(&r, 2, ACTION_ABANDON, ACTION_FREE);

    begin(&r, default_policy());
    to_sending(&r);
    feed_kind(&r, INPUT_DRAIN);
    expect(&r, 0);
    feed_class(&r, OUTCOME_RETRY);
    expect(&r, 1, ACTION_RELEASE);
    feed_store(&r, INPUT_RELEASED, STORE_DONE);
    expect(&r, 2, ACTION_ABANDON, ACTION_FREE);
}

/* ---- by random walk: whatever happens, in whatever order ---- */

struct witness {
    bool fence_up; /* the last fence of this attempt was answered with DONE */
    bool dot_sent;
    bool accepted; /* an outcome SENT was fed */
    bool buried;   /* a dead letter was acknowledged */
    bool settled, abandoned, freed;
    bool waiting, waiting_store;
};

static uint64_t next_random(uint64_t *s)
{
    *s ^= *s << 13;
    *s ^= *s >> 7;
    *s ^= *s << 17;
    return *s;
}

static void check_settle(const struct witness *w, const struct machine_action *a)
{
    assert_false(w->settled);
    assert_false(w->abandoned);
    if (a->result == RESULT_SENT)
        assert_true(w->accepted);
    if (a->result == RESULT_DEAD)
        assert_true(w->buried);
}

static void observe(struct run *r, struct witness *w, const struct machine_policy *policy)
{
    for (unsigned i = 0; i < r->last.len; i++) {
        const struct machine_action *a = &r->last.list[i];
        assert_false(w->freed);
        switch (a->kind) {
        case ACTION_CLAIM: w->fence_up = false; break;
        case ACTION_DOT:
            if (a->go) {
                assert_true(w->fence_up || policy->fail_open);
                w->dot_sent = true;
            }
            break;
        case ACTION_MARK_SENT: assert_true(w->accepted); break;
        case ACTION_MARK_DEAD: assert_true(w->buried); break;
        case ACTION_SETTLE:
            check_settle(w, a);
            w->settled = true;
            break;
        case ACTION_ABANDON:
            assert_false(w->settled);
            w->abandoned = true;
            break;
        case ACTION_FREE:
            assert_true(w->settled || w->abandoned);
            assert_int_equal(i, r->last.len - 1);
            w->freed = true;
            break;
        default: break;
        }
    }
}

/* An answer that fits what the machine is waiting for. */
static bool feed_fitting(struct run *r, struct witness *w, uint64_t *seed)
{
    static const enum store_answer answers[] = {STORE_DONE, STORE_DONE, STORE_DONE, STORE_LOST,
                                                STORE_UNAVAILABLE};
    const enum store_answer answer = answers[next_random(seed) % 5];
    const uint64_t dice = next_random(seed);

    switch (r->m.state) {
    case MACHINE_GATE: feed_kind(r, INPUT_GATE_OPEN); break;
    case MACHINE_CLAIMING:
        feed_claim_n(
            r, dice % 2 ? CLAIM_WON : (enum claim_verdict)(dice / 2 % (CLAIM_UNAVAILABLE + 1)),
            (uint32_t)(dice / 32 % 5));
        break;
    case MACHINE_PREPARING:
        feed(r, (struct machine_input){
                    .kind = INPUT_PREPARED, .is_dead = dice % 16 == 0, .dead = DEAD_EXPIRED});
        break;
    case MACHINE_SENDING:
        if (dice % 4)
            feed(r,
                 (struct machine_input){.kind = INPUT_BEFORE_DOT, .expired = dice / 4 % 16 == 0});
        else
            feed_outcome(r,
                         (struct outcome){.class = dice / 4 % 2 ? OUTCOME_RETRY : OUTCOME_REJECTED,
                                          .relay_down = dice / 8 % 2});
        break;
    case MACHINE_FENCING:
        w->fence_up = answer == STORE_DONE;
        feed_store(r, INPUT_FENCE, answer);
        break;
    case MACHINE_DOT: {
        const struct refused_recipient refused = {.index = 0};
        enum outcome_class class = (enum outcome_class)(dice % OUTCOME_CANCELLED);
        w->accepted = w->accepted || class == OUTCOME_SENT;
        feed_outcome(r,
                     (struct outcome){.class = class,
                                      .refused = &refused,
                                      .refused_len = class == OUTCOME_SENT && dice / 8 % 4 == 0});
        break;
    }
    case MACHINE_ABORTING:
        feed_outcome(r, (struct outcome){.class = OUTCOME_CANCELLED, .reason = REASON_FENCE});
        break;
    case MACHINE_RELEASING: feed_store(r, INPUT_RELEASED, answer); break;
    case MACHINE_BURYING:
        w->buried = w->buried || dice % 4 != 0;
        feed_buried(r, dice % 4 != 0);
        break;
    case MACHINE_MARKING:
    case MACHINE_MARKING_DEAD: feed_store(r, INPUT_MARKED, answer); break;
    case MACHINE_OVER: return false;
    default: feed_kind(r, dice % 2 ? INPUT_TIMER : INPUT_STORE_UP); break;
    }
    return true;
}

static void random_walks(void **state)
{
    uint64_t seed = 0x9E3779B97F4A7C15u;

    (void)state;
    for (int walk = 0; walk < 20000; walk++) {
        struct machine_policy policy = default_policy();
        struct witness w = {0};
        struct run r;
        int steps = 0;
        policy.park_ambiguous = next_random(&seed) % 2;
        policy.hold_in_outage = next_random(&seed) % 2;
        policy.fail_open = next_random(&seed) % 4 == 0;
        begin(&r, policy);
        feed_kind(&r, INPUT_START);
        do {
            observe(&r, &w, &policy);
            if (next_random(&seed) % 64 == 0) {
                feed_kind(&r, next_random(&seed) % 2 ? INPUT_CANCEL : INPUT_DRAIN);
                observe(&r, &w, &policy);
            }
            if (next_random(&seed) % 32 == 0) {
                feed_store(&r, INPUT_RENEW, (enum store_answer)(next_random(&seed) % 3));
                observe(&r, &w, &policy);
            }
            assert_true(++steps < 5000); /* it comes to an end */
        } while (feed_fitting(&r, &w, &seed));
        assert_true(w.freed);
        /* Never both, but where the dead letter is about some recipients or says that it is in
         * doubt. */
        if (w.settled && w.accepted && w.buried)
            assert_true(w.dot_sent);
    }
}

/* Late answers must change nothing. */
static void strangers_are_ignored(void **state)
{
    struct run r;

    (void)state;
    begin(&r, default_policy());
    to_sending(&r);
    feed_store(&r, INPUT_MARKED, STORE_DONE);
    expect(&r, 0);
    feed_store(&r, INPUT_RELEASED, STORE_DONE);
    expect(&r, 0);
    feed_buried(&r, true);
    expect(&r, 0);
    feed_claim(&r, CLAIM_DUPLICATE);
    expect(&r, 0);
    assert_int_equal(r.m.state, MACHINE_SENDING);
}

static void states_have_names(void **state)
{
    (void)state;
    for (int i = 0; i <= MACHINE_OVER; i++)
        assert_true(strlen(machine_state_name((enum machine_state)i)) > 2);
    assert_string_equal(machine_state_name(MACHINE_OVER), "over");
    assert_string_equal(machine_state_name(MACHINE_BURYING), "burying");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sent),
        cmocka_unit_test(sent_but_the_mark_waits_for_the_store),
        cmocka_unit_test(duplicate_conflict_settled),
        cmocka_unit_test(foreign_claim_is_waited_for),
        cmocka_unit_test(no_dot_without_the_fence),
        cmocka_unit_test(no_dot_past_expires_at),
        cmocka_unit_test(retries_until_exhausted),
        cmocka_unit_test(rejected_after_the_dot_gives_the_d_up_first),
        cmocka_unit_test(rejected_stays_rejected_where_the_claim_is_lost),
        cmocka_unit_test(partly_refused),
        cmocka_unit_test(ambiguous_is_taken_over_and_resent),
        cmocka_unit_test(ambiguous_is_parked),
        cmocka_unit_test(doubt_is_kept_without_a_dead_letter),
        cmocka_unit_test(too_many_takeovers),
        cmocka_unit_test(outage_uses_up_no_attempt),
        cmocka_unit_test(store_away),
        cmocka_unit_test(marks_and_doubts_are_kept),
        cmocka_unit_test(lost_renewal_cancels_before_the_dot_only),
        cmocka_unit_test(dead_on_arrival),
        cmocka_unit_test(cancelled),
        cmocka_unit_test(drained),
        cmocka_unit_test(random_walks),
        cmocka_unit_test(strangers_are_ignored),
        cmocka_unit_test(states_have_names),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
