/* What becomes of one event: the delivery protocol (design §3, docs/EMAIL_SERVICE_KAFKA.md) as a
 * state machine. Pure: the pipeline feeds what happened and carries out what comes back; no I/O, no
 * clock, no allocation. */
#ifndef MACHINE_H
#define MACHINE_H

#include <stdbool.h>
#include <stdint.h>

#include "delivery/dead_reason.h"
#include "email/outcome.h"
#include "email/retry.h"
#include "idempotency/store.h"

enum machine_state {
    MACHINE_GATE, /* waiting to be let through: for its predecessors, for room, for the relay */
    MACHINE_CLAIMING,
    MACHINE_CLAIM_WAIT, /* somebody else's live claim: looks again after a while */
    MACHINE_PREPARING,  /* ours; being composed */
    MACHINE_SENDING,    /* with the relay, before the final dot */
    MACHINE_FENCING,    /* body written, the fence goes up */
    MACHINE_DOT,        /* the final dot is on its way */
    MACHINE_ABORTING,   /* fence refused: the connection is being dropped */
    MACHINE_RELEASING,  /* definite failure: giving the claim up */
    MACHINE_RETRY_WAIT,
    MACHINE_AMBIGUOUS_WAIT, /* our D stands until its deadline */
    MACHINE_STORE_WAIT,     /* the idempotency store is away */
    MACHINE_BURYING,        /* dead letter produced, not yet acknowledged */
    MACHINE_BURY_WAIT,      /* Kafka did not take it: again after a while */
    MACHINE_MARKING,        /* writing the sent mark */
    MACHINE_MARKING_DEAD,
    MACHINE_MARK_WAIT, /* settled; the mark is written when the store is back */
    MACHINE_OVER       /* finished or abandoned */
};

enum machine_input_kind {
    INPUT_START, /* decoded; `dead` says whether it is dead on arrival */
    INPUT_GATE_OPEN,
    INPUT_CLAIM,      /* `claim` */
    INPUT_PREPARED,   /* composed, or `dead` (expired, template_error) */
    INPUT_BEFORE_DOT, /* `expired` */
    INPUT_FENCE,      /* `store`, `expired` */
    INPUT_RENEW,      /* `store` */
    INPUT_OUTCOME,    /* `outcome` */
    INPUT_RELEASED,   /* `store` */
    INPUT_BURIED,     /* `acknowledged` */
    INPUT_MARKED,     /* `store` */
    INPUT_TIMER,
    INPUT_STORE_UP,
    INPUT_DRAIN, /* the process stops: wait for nothing any more, finish what is under way */
    INPUT_CANCEL /* the partition is gone, or time is up: give up all that has not reached its dot
                  */
};

struct machine_input {
    enum machine_input_kind kind;
    bool is_dead;
    bool has_identity; /* INPUT_START: a dead one's messageID could be read all the same */
    enum dead_reason dead;
    const struct claim_answer *claim;
    enum store_answer store;
    bool expired; /* expiresAt has passed: no dot */
    const struct outcome *outcome;
    bool acknowledged;
    uint64_t random; /* for jitter */
};

enum machine_action_kind {
    ACTION_ENTER_GATE, /* feed INPUT_GATE_OPEN when it is this event's turn */
    ACTION_CLAIM,      /* with a new token */
    ACTION_PREPARE,    /* check the expiry, compose; feed INPUT_PREPARED */
    ACTION_SEND,
    ACTION_FENCE,
    ACTION_DOT, /* transport_dot(go) */
    ACTION_CANCEL_DELIVERY,
    ACTION_RELEASE,
    ACTION_WAIT,       /* feed INPUT_TIMER after delay_ms */
    ACTION_WAIT_STORE, /* feed INPUT_STORE_UP when the store is back, or INPUT_TIMER after delay_ms
                        */
    ACTION_BURY,       /* produce the dead letter for `reason`; feed INPUT_BURIED */
    ACTION_MARK_SENT,
    ACTION_MARK_DEAD,
    ACTION_SETTLE,  /* final outcome: the offset is done, successors may go */
    ACTION_ABANDON, /* no outcome here: another assignment brings the record again */
    ACTION_FREE     /* always last; nothing is fed afterwards */
};

enum machine_result { /* with ACTION_SETTLE */
                      RESULT_SENT,
                      RESULT_DUPLICATE, /* a mark says that it is sent */
                      RESULT_DEAD,
                      RESULT_DEAD_BEFORE /* a mark says that this record's dead letter is written */
};

struct machine_action {
    enum machine_action_kind kind;
    uint64_t delay_ms;
    bool go;
    enum dead_reason reason;
    enum machine_result result;
};

enum { MACHINE_MAX_ACTIONS = 3 };

struct machine_actions {
    struct machine_action list[MACHINE_MAX_ACTIONS];
    unsigned len;
};

struct machine_policy {
    struct retry_policy retry;
    uint64_t lease_ms;
    unsigned max_resends; /* takeovers of an ambiguous attempt before it is given up */
    bool hold_in_outage;  /* SMTP_OUTAGE_POLICY=hold */
    bool park_ambiguous;  /* SMTP_AMBIGUOUS_POLICY=park */
    bool fail_open;       /* IDEMPOTENCY_FAIL_OPEN */
    bool keep_doubt; /* what dies in doubt keeps its D instead of getting a dead mark: there is no
                        dead letter that a person decides about, and whoever meets the same
                        messageID next (Kafka's late copy) must meet the doubt */
};

struct machine {
    enum machine_state state;
    unsigned attempts;  /* that count against EMAIL_MAX_ATTEMPTS */
    unsigned failures;  /* in a row, counted or not: for the backoff */
    unsigned takeovers; /* of ambiguous attempts, ours included */
    bool held;          /* the key is ours, as far as we know */
    bool fenced;        /* … as D */
    bool inherited;     /* … as a D that may stand for a mail already taken: never released */
    bool unprotected;   /* fail-open: sent without a claim */
    bool expired;       /* MACHINE_ABORTING: that is why */
    bool partial; /* sent, but some recipients were refused: dead letter first, then the mark */
    bool mark_is_dead; /* MACHINE_MARK_WAIT: which mark is still to be written */
    bool settled;
    bool draining, cancelled;
    bool out_of_time;     /* cancelled at the end of a drain: not even marks are waited for */
    bool dead_on_arrival; /* invalid: claimed for its mark's sake only */
    bool no_mark;         /* its dead letter leaves none */
    enum dead_reason reason;
    bool release_due; /* MACHINE_STORE_WAIT: the store did not take the release */
    enum machine_action_kind after_release; /* WAIT, ENTER_GATE, BURY or ABANDON */
    uint64_t after_release_ms;
};

void machine_init(struct machine *m);

/* One transition. Inputs that don't matter in the present state (late answers) give no action. */
struct machine_actions machine_step(struct machine *m, const struct machine_policy *policy,
                                    const struct machine_input *input);

/* True where the next attempt is the last one (mail.last_attempt). */
bool machine_last_attempt(const struct machine *m, const struct machine_policy *policy);
/* True while it is on its way to the relay, or will be after a retry's delay: it tells whether the
 * relay is back. Not while it waits for somebody else's claim, for the store or for Kafka. */
bool machine_may_probe(const struct machine *m);
/* True while a claim must be renewed. */
bool machine_needs_renewal(const struct machine *m);

/* True while it is being worked on, false while it waits for its turn, a timer or the store. */
bool machine_is_active(const struct machine *m);

const char *machine_state_name(enum machine_state state);

#endif
