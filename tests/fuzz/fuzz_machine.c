/* The per-event machine in a small world: a store that keeps the key (and answers late, twice as
 * late, or not at all), a relay that knows what it has taken, a dead letter queue, and another
 * consumer after the same event. The input decides what happens next, in any order that the
 * pipeline allows; the promises of the delivery protocol are checked against what the world knows.
 * Behind the input's end the world behaves, and the event must come to its end. */
#include "fuzz.h"

#include "delivery/machine.h"

enum { MAX_OPS = 8, MAX_STEPS = 4000, FOREIGN = -1, LEASE_MS = 60000, BENIGN_STEPS = 400 };

enum key_kind { KEY_NONE, KEY_C, KEY_D, KEY_SENT, KEY_DEAD_OURS, KEY_DEAD_OTHER, KEY_GARBAGE };

struct key {
    enum key_kind kind;
    int owner;  /* of a C or D: the attempt's number, or FOREIGN */
    bool doubt; /* a D that may stand for a mail already taken */
    unsigned takeovers;
};

struct op { /* of the store, under way */
    enum machine_action_kind kind;
    bool is_renewal;
    int token;
    bool applied;
    enum claim_verdict verdict;
    enum store_answer answer;
};

struct world {
    struct machine m;
    struct machine_policy policy;
    struct tape tape;
    bool benign;
    struct key key;
    bool conflicting; /* the foreign values are of another mail */

    struct op ops[MAX_OPS];
    size_t ops_len;
    struct op late; /* answered with UNAVAILABLE, and still to be applied */
    bool has_late, claim_wanted, claim_unanswered, renewing, store_up;
    int token;

    bool gate, timer, burying, delivering, asked, cancelling, at_dot;
    bool prepared_due;
    enum store_answer fence; /* of this attempt */
    bool fence_known, protected;
    enum claim_verdict verdict;

    unsigned taken;    /* by the relay, from us */
    unsigned doubtful; /* … of which we never heard */
    unsigned told_sent, letters_acked;
    bool settled, abandoned, freed;
};

static uint32_t pick(struct world *w, uint32_t below)
{
    return w->benign ? 0 : tape_number(&w->tape, below);
}

static void carry_out(struct world *w, const struct machine_action *a);

static void feed(struct world *w, struct machine_input input)
{
    struct machine_actions actions;
    const enum machine_state before = w->m.state;

    REQUIRE(!w->freed);
    input.random = (uint64_t)pick(w, 256) << 56;
    actions = machine_step(&w->m, &w->policy, &input);
    REQUIRE(actions.len <= MACHINE_MAX_ACTIONS);
    if (before != w->m.state && w->m.state != MACHINE_OVER)
        w->timer = false;
    for (unsigned i = 0; i < actions.len; i++) {
        REQUIRE((actions.list[i].kind != ACTION_FREE) || i + 1 == actions.len);
        carry_out(w, &actions.list[i]);
    }
}

static void feed_kind(struct world *w, enum machine_input_kind kind)
{
    feed(w, (struct machine_input){.kind = kind});
}

/* ---- the store ---- */

static void apply_claim(struct world *w, struct op *op)
{
    struct key *k = &w->key;
    const bool foreign = k->owner != op->token;

    op->verdict = CLAIM_BUSY;
    if (k->kind == KEY_DEAD_OTHER && pick(w, 4) == 3) {
        op->verdict = CLAIM_PARKED;
    } else if (k->kind == KEY_NONE || k->kind == KEY_DEAD_OTHER) {
        *k = (struct key){.kind = KEY_C, .owner = op->token};
        op->verdict = CLAIM_WON;
    } else if (k->kind == KEY_SENT) {
        op->verdict = w->conflicting ? CLAIM_CONFLICT : CLAIM_DUPLICATE;
    } else if (k->kind == KEY_DEAD_OURS) {
        op->verdict = CLAIM_SETTLED;
    } else if (k->kind == KEY_GARBAGE) {
        op->verdict = CLAIM_UNREADABLE;
    } else if (!foreign) {
        op->verdict = k->kind == KEY_C ? CLAIM_WON : CLAIM_TAKEN_OVER;
    } else if (k->owner == FOREIGN && w->conflicting) {
        op->verdict = CLAIM_CONFLICT;
    } else if (k->kind == KEY_D && (w->benign || pick(w, 2))) { /* its deadline has passed */
        k->owner = op->token;
        k->doubt = true;
        k->takeovers++;
        op->verdict = CLAIM_TAKEN_OVER;
    }
}

static void apply(struct world *w, struct op *op)
{
    struct key *k = &w->key;
    const bool live = k->kind == KEY_C || k->kind == KEY_D;
    const bool ours = live && k->owner == op->token;

    if (op->applied)
        return;
    op->applied = true;
    op->answer = ours ? STORE_DONE : STORE_LOST;
    if (op->is_renewal)
        return;
    switch (op->kind) {
    case ACTION_CLAIM: apply_claim(w, op); break;
    case ACTION_FENCE:
        if (ours)
            k->kind = KEY_D;
        break;
    case ACTION_RELEASE:
        /* The doubt must not be forgotten: the next claimant would mail it again. */
        REQUIRE(!ours || !k->doubt || w->policy.fail_open);
        if (ours)
            *k = (struct key){.kind = KEY_NONE};
        break;
    case ACTION_MARK_SENT:
        op->answer = k->kind == KEY_SENT ? STORE_LOST : STORE_DONE;
        *k = (struct key){.kind = KEY_SENT};
        break;
    case ACTION_MARK_DEAD:
        if (ours || k->kind == KEY_NONE) {
            *k = (struct key){.kind = KEY_DEAD_OURS};
            op->answer = STORE_DONE;
        }
        break;
    default: REQUIRE(!"an operation of the store");
    }
}

static void start_op(struct world *w, enum machine_action_kind kind, bool is_renewal)
{
    REQUIRE(w->ops_len < MAX_OPS);
    w->ops[w->ops_len++] = (struct op){.kind = kind, .is_renewal = is_renewal, .token = w->token};
}

/* As the pipeline does: never beside another operation, which still means the former token. */
static void do_claim(struct world *w)
{
    w->claim_wanted = w->ops_len > 0;
    if (w->claim_wanted)
        return;
    if (!w->claim_unanswered)
        w->token++;
    w->fence_known = w->protected = false;
    start_op(w, ACTION_CLAIM, false);
}

static void answer_claim(struct world *w, const struct op *op, bool silent)
{
    struct claim_answer answer = {.verdict = silent ? CLAIM_UNAVAILABLE : op->verdict,
                                  .wait_ms = 50 + pick(w, 4950),
                                  .takeovers = w->key.takeovers};

    w->claim_unanswered = silent;
    w->verdict = answer.verdict;
    w->protected = answer.verdict == CLAIM_WON || answer.verdict == CLAIM_TAKEN_OVER;
    feed(w, (struct machine_input){.kind = INPUT_CLAIM, .claim = &answer});
}

static void answer_op(struct world *w, const struct op *op, bool silent)
{
    struct machine_input input = {.store = silent ? STORE_UNAVAILABLE : op->answer};

    if (op->is_renewal) {
        w->renewing = false;
        input.kind = INPUT_RENEW;
    } else if (op->kind == ACTION_CLAIM) {
        answer_claim(w, op, silent);
        return;
    } else if (op->kind == ACTION_FENCE) {
        input.kind = INPUT_FENCE;
        w->fence = input.store;
        w->fence_known = true;
    } else {
        input.kind = op->kind == ACTION_RELEASE ? INPUT_RELEASED : INPUT_MARKED;
    }
    feed(w, input);
}

/* The oldest operation is answered: operations of one connection are carried out in order. */
static void finish_op(struct world *w)
{
    struct op op = w->ops[0];
    const uint32_t how = pick(w, 8);
    const bool silent = !w->benign && (how >= 6 || !w->store_up);

    memmove(w->ops, w->ops + 1, --w->ops_len * sizeof(w->ops[0]));
    if (!silent || how % 2)
        apply(w, &op);
    else if (!w->has_late) {
        w->late = op;
        w->has_late = true;
    }
    if (!w->freed)
        answer_op(w, &op, silent);
    if (w->claim_wanted && w->ops_len == 0 && !w->freed)
        do_claim(w);
}

/* ---- the relay ---- */

static void finish_delivery(struct world *w, enum outcome_class class, enum outcome_reason reason,
                            bool relay_down)
{
    static const struct refused_recipient refused = {.index = 0, .code = 550};
    struct outcome outcome = {.class = class, .reason = reason, .relay_down = relay_down};

    if (class == OUTCOME_SENT) {
        w->told_sent++;
        outcome.refused = &refused;
        outcome.refused_len = pick(w, 4) == 3;
    }
    if (class == OUTCOME_AMBIGUOUS && w->key.kind == KEY_D && w->key.owner == w->token)
        w->key.doubt = true;
    w->delivering = w->asked = w->at_dot = w->cancelling = false;
    feed(w, (struct machine_input){.kind = INPUT_OUTCOME, .outcome = &outcome});
}

static void relay_answers_dot(struct world *w)
{
    static const enum outcome_class classes[] = {OUTCOME_SENT,      OUTCOME_SENT,
                                                 OUTCOME_RETRY,     OUTCOME_REJECTED,
                                                 OUTCOME_AMBIGUOUS, OUTCOME_AMBIGUOUS};
    const uint32_t how = pick(w, 6);

    w->taken += how < 2 || how == 4;
    w->doubtful += how == 4;
    finish_delivery(w, classes[how], REASON_REPLY, false);
}

static void relay_moves(struct world *w)
{
    const uint32_t how = pick(w, 8);

    if (w->cancelling && how % 2 == 0)
        finish_delivery(w, OUTCOME_CANCELLED, REASON_CANCELLED, false);
    else if (w->at_dot)
        relay_answers_dot(w);
    else if (how < 4 && !w->asked) {
        w->asked = true;
        feed(w, (struct machine_input){.kind = INPUT_BEFORE_DOT, .expired = pick(w, 32) == 31});
    } else if (how == 4)
        finish_delivery(w, OUTCOME_RETRY, REASON_LOST, pick(w, 2));
    else if (how == 5)
        finish_delivery(w, OUTCOME_REJECTED, REASON_REPLY, false);
    else if (how == 6 && !w->asked)
        finish_delivery(w, OUTCOME_RETRY, REASON_OUTAGE, true);
    else if (how == 7)
        finish_delivery(w, OUTCOME_RETRY, REASON_INTERNAL, false);
}

/* ---- what the machine asks for ---- */

static void on_send(struct world *w)
{
    REQUIRE(!w->delivering && !w->settled && !w->abandoned);
    REQUIRE(w->protected || w->policy.fail_open);
    REQUIRE(w->told_sent == 0); /* what is known to be sent is never sent again */
    w->delivering = true;
    w->fence_known = false;
}

static void on_dot(struct world *w, bool go)
{
    REQUIRE(w->delivering && w->asked && !w->at_dot);
    if (go) {
        REQUIRE((w->fence_known && w->fence == STORE_DONE) || w->policy.fail_open);
        w->at_dot = true;
    } else {
        w->cancelling = true;
    }
}

static void on_settle(struct world *w, enum machine_result result)
{
    REQUIRE(!w->settled && !w->abandoned);
    w->settled = true;
    switch (result) {
    case RESULT_SENT: REQUIRE(w->told_sent == 1); break;
    case RESULT_DUPLICATE: REQUIRE(w->verdict == CLAIM_DUPLICATE); break;
    case RESULT_DEAD: REQUIRE(w->letters_acked > 0 && w->told_sent == 0); break;
    case RESULT_DEAD_BEFORE: REQUIRE(w->verdict == CLAIM_SETTLED); break;
    }
}

static void prepared(struct world *w)
{
    const bool expired = pick(w, 16) == 15;

    feed(w, (struct machine_input){.kind = INPUT_PREPARED,
                                   .is_dead = w->m.dead_on_arrival || expired,
                                   .dead = w->m.dead_on_arrival ? w->m.reason : DEAD_EXPIRED});
}

static void carry_out(struct world *w, const struct machine_action *a)
{
    REQUIRE(!w->freed);
    switch (a->kind) {
    case ACTION_ENTER_GATE: w->gate = true; break;
    case ACTION_CLAIM:
        REQUIRE(!w->settled && !w->delivering && !w->claim_wanted);
        do_claim(w);
        break;
    case ACTION_PREPARE: prepared(w); break;
    case ACTION_SEND: on_send(w); break;
    case ACTION_FENCE:
        REQUIRE(w->delivering && w->asked && w->protected);
        start_op(w, ACTION_FENCE, false);
        break;
    case ACTION_DOT: on_dot(w, a->go); break;
    case ACTION_CANCEL_DELIVERY:
        if (w->delivering && !w->at_dot)
            w->cancelling = true;
        break;
    case ACTION_RELEASE: start_op(w, ACTION_RELEASE, false); break;
    case ACTION_WAIT:
    case ACTION_WAIT_STORE:
        REQUIRE(a->delay_ms <= LEASE_MS + 1000);
        w->timer = true;
        break;
    case ACTION_BURY:
        REQUIRE(!w->burying && !w->settled);
        w->burying = true;
        break;
    case ACTION_MARK_SENT:
        REQUIRE(w->told_sent == 1);
        start_op(w, ACTION_MARK_SENT, false);
        break;
    case ACTION_MARK_DEAD:
        REQUIRE(w->letters_acked > 0 && w->told_sent == 0);
        start_op(w, ACTION_MARK_DEAD, false);
        break;
    case ACTION_SETTLE: on_settle(w, a->result); break;
    case ACTION_ABANDON:
        REQUIRE(!w->settled && !w->abandoned);
        w->abandoned = true;
        break;
    case ACTION_FREE:
        REQUIRE(w->settled != w->abandoned && !w->delivering && !w->burying);
        w->freed = true;
        break;
    }
}

/* ---- what happens next ---- */

/* Leases run out, others claim, and so on; never a mark that nobody wrote. */
static void others_move(struct world *w)
{
    struct key *k = &w->key;

    switch (pick(w, 6)) {
    case 0: /* a lease ran out */
        if (k->kind == KEY_C)
            *k = (struct key){.kind = KEY_NONE};
        break;
    case 1: /* another consumer claims what is free */
        if (k->kind == KEY_NONE)
            *k = (struct key){.kind = KEY_C, .owner = FOREIGN};
        break;
    case 2: /* … goes to its dot */
        if (k->kind == KEY_C && k->owner == FOREIGN)
            k->kind = KEY_D;
        break;
    case 3: /* … has sent it */
        if (k->kind == KEY_D && k->owner == FOREIGN)
            *k = (struct key){.kind = KEY_SENT};
        break;
    case 4: /* … takes over what is in doubt, past its deadline */
        if (k->kind == KEY_D && !w->at_dot)
            *k = (struct key){.kind = KEY_D, .owner = FOREIGN, .doubt = true};
        break;
    default:
        /* A claim is several commands, each sent when the one before is answered: what may come
         * late is the first, a SET NX. */
        if (w->has_late && (w->late.kind != ACTION_CLAIM || k->kind == KEY_NONE))
            apply(w, &w->late);
        w->has_late = false;
    }
}

static void bury_ends(struct world *w)
{
    const bool acknowledged = pick(w, 4) != 3;

    w->burying = false;
    w->letters_acked += acknowledged;
    feed(w, (struct machine_input){.kind = INPUT_BURIED, .acknowledged = acknowledged});
}

static void renew(struct world *w)
{
    if (w->renewing || !machine_needs_renewal(&w->m) || w->ops_len >= MAX_OPS - 2)
        return;
    w->renewing = true;
    start_op(w, ACTION_CLAIM, true);
}

static void step(struct world *w)
{
    switch (tape_byte(&w->tape) % 13) {
    case 0:
    case 1:
        if (w->ops_len)
            finish_op(w);
        break;
    case 2:
        if (w->ops_len)
            apply(w, &w->ops[0]);
        break;
    case 3:
    case 4:
        if (w->delivering)
            relay_moves(w);
        break;
    case 5:
        if (w->gate) {
            w->gate = false;
            feed_kind(w, INPUT_GATE_OPEN);
        }
        break;
    case 6:
        if (w->timer) {
            w->timer = false;
            feed_kind(w, INPUT_TIMER);
        }
        break;
    case 7:
        if (w->burying)
            bury_ends(w);
        break;
    case 8: renew(w); break;
    case 9: others_move(w); break;
    case 10:
        w->store_up = !w->store_up;
        if (w->store_up)
            feed_kind(w, INPUT_STORE_UP);
        break;
    case 11:
        if (tape_byte(&w->tape) % 8 == 0)
            feed_kind(w, INPUT_DRAIN);
        break;
    default:
        if (tape_byte(&w->tape) % 8 == 0)
            feed_kind(w, INPUT_CANCEL);
    }
}

/* Everybody else is done, and everything works: somebody must be about to do something for it. */
static void benign_step(struct world *w)
{
    if (w->key.kind == KEY_GARBAGE || (w->key.kind == KEY_C && w->key.owner != w->token))
        w->key = (struct key){.kind = KEY_NONE};
    if (w->ops_len)
        finish_op(w);
    else if (w->delivering)
        relay_moves(w);
    else if (w->burying)
        bury_ends(w);
    else if (w->gate) {
        w->gate = false;
        feed_kind(w, INPUT_GATE_OPEN);
    } else {
        REQUIRE(w->timer); /* else it would wait for ever */
        w->timer = false;
        feed_kind(w, INPUT_TIMER);
    }
}

static void check(const struct world *w)
{
    const struct machine *m = &w->m;

    REQUIRE(m->attempts <= w->policy.retry.max_attempts + 1);
    REQUIRE(strlen(machine_state_name(m->state)) > 0);
    if (w->policy.fail_open)
        return;
    /* A second copy only where the relay's word for the first was never heard. */
    REQUIRE(w->taken <= 1 + w->doubtful);
    if (w->policy.park_ambiguous)
        REQUIRE(w->taken <= 1);
}

static void begin(struct world *w)
{
    static const enum key_kind kinds[] = {KEY_NONE, KEY_NONE, KEY_NONE,       KEY_C,
                                          KEY_D,    KEY_SENT, KEY_DEAD_OTHER, KEY_GARBAGE};
    const uint8_t how = tape_byte(&w->tape), found = tape_byte(&w->tape);
    struct machine_input start = {.kind = INPUT_START};

    w->policy = (struct machine_policy){
        .retry = {.max_attempts = 1 + how % 4, .base_ms = 100, .max_ms = 1000},
        .lease_ms = LEASE_MS,
        .max_resends = 3,
        .hold_in_outage = how & 4,
        .park_ambiguous = how & 8,
        .keep_doubt = (found & 0xC0) == 0xC0,
        .fail_open = (how & 0x30) == 0x30};
    w->key = (struct key){.kind = kinds[found % 8], .owner = FOREIGN};
    w->key.doubt = w->key.kind == KEY_D;
    w->conflicting = (found & 0x30) == 0x30;
    w->store_up = true;
    start.is_dead = (how & 0xC0) == 0xC0;
    start.has_identity = found & 8;
    start.dead = DEAD_INVALID_EVENT;
    machine_init(&w->m);
    feed(w, start);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct world w = {.tape = tape_of(data, size)};
    int steps = 0;

    begin(&w);
    while (!w.freed && !tape_ended(&w.tape) && steps++ < MAX_STEPS) {
        step(&w);
        check(&w);
    }
    w.benign = w.store_up = true;
    for (steps = 0; !w.freed; steps++) {
        REQUIRE(steps < BENIGN_STEPS);
        benign_step(&w);
        check(&w);
    }
    return 0;
}
