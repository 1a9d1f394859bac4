/* The delivery protocol as lib/ implements it, for Spin (README.md says what is modelled and what is not).
 *
 * One mail under one Redis key. Two consumers, and in some runs the producer library's direct sender, work on it. Every
 * option of a loop is one atomic step: one input of the per-event machine, or one Lua script at Redis. Between any two
 * steps anything else may happen, a crash too. The names in comments, like on_fence() or SCRIPT_FENCE, are those of the code
 * that does the step; check.py fails where one of them no longer exists.
 *
 * Budgets, policies, the mutation and the properties to check are read from the environment (see init), so that one
 * compiled verifier serves every run of runs.txt. */

c_decl {
static unsigned char param(const char *name) { const char *text = getenv(name); return text ? (unsigned char)atoi(text) : 0; }
}

#include "mutations.pml"

/* ---- the run ---- */

byte crashes, zombies, silences, ambiguities, refusals, nacks, rebalances, drains, losses; /* budgets */
byte lose_what;    /* bits: 1 C, 2 D, 4 final marks, 8 a stale replica takes over */
byte max_attempts, max_resends;
bool park, fail_open;
byte copies;       /* a second record with the same messageID: 0 none, 1 published twice, 2 redriven dead letter */
bool direct;       /* the producer library sends directly as well */
byte mut;
byte props;        /* bits P_… */

#define P_LOST     1  /* committed => accepted by the relay, or in a dead letter of this record */
#define P_ONCE     2  /* accepted at most once */
#define P_BOUND    4  /* accepted at most once, plus what is explained */
#define P_BOTH     8  /* never accepted and in a dead letter that has no doubt */
#define P_RESENDS 16  /* accepted at most 1 + max_resends times */
#define P_TOLD    32  /* what the producer's caller is told is true */
#define P_PARTIAL 64  /* committed => the refused recipients are in a dead letter */

#define GOOD 1     /* the relay takes the mail */
#define BAD 2      /* … refuses it for good, each time */
#define FICKLE 3   /* … now this, now that */
#define PARTLY 4   /* … takes it for some recipients, and refuses the others for good */
byte relay;

/* ---- Redis: the one key ---- */

#define NONE 0
#define C 1
#define D 2
#define SENT 3
#define DEAD 4
typedef Key {
    byte kind, tok;
    byte n;        /* D: takeovers */
    bool over;     /* D: past its deadline */
    byte rec;      /* DEAD: the record that it settles */
    bool doubt     /* DEAD, ghost: its letter says that the mail may have been accepted */
}
Key key;

inline clear_key() { key.kind = NONE; key.tok = 0; key.n = 0; key.over = 0; key.rec = 0; key.doubt = 0 }
inline set_key(kk, tt) { key.kind = kk; key.tok = tt; key.n = 0; key.over = 0; key.rec = 0; key.doubt = 0 }

/* ---- Kafka: one record, or two with the same messageID ---- */

#define NO_RECORD 2             /* the direct sender's event comes from none */
bool published[2], stored[2], committed[2], revoking[2];
byte owner[2];
byte letters[3];                /* dead letters in the topic, by the record that they name */

/* ---- the jobs: one per-event machine an instance; 0 and 1 consumers, 2 the direct sender ---- */

#define IDLE 0
#define GATE 1        /* MACHINE_GATE, _CLAIM_WAIT, _RETRY_WAIT, _AMBIGUOUS_WAIT; _STORE_WAIT before a claim */
#define FOUND 2       /* MACHINE_CLAIMING: something stands there, the second script is to come */
#define SENDING 3     /* MACHINE_PREPARING, _SENDING */
#define FENCED 4      /* MACHINE_FENCING: the fence's answer is there, the dot is not yet on its way */
#define DOT 5         /* MACHINE_DOT: the relay has decided, its reply is on its way */
#define RELEASING 6
#define STORE_WAIT 7  /* a release that has no answer */
#define BURY 8        /* MACHINE_BURYING before the record is out, _BURY_WAIT */
#define BURYING 9     /* … the delivery report is on its way */
#define MARKING 10
#define MARKING_DEAD 11

#define DRAIN 1
#define CANCEL 2

#define REJECTED 1
#define EXHAUSTED 2
#define AMBIGUOUS 3

#define REPLY_OK 1
#define REPLY_PARTLY 2
#define REPLY_4XX 3
#define REPLY_5XX 4
#define REPLY_LOST 5

typedef Job {
    byte st, rec, tok, n, attempts, reason, give_up, reply, after, seen, seen_tok;
    bool unanswered;   /* job.claim_unanswered: the token stays for the next claim */
    bool held, fenced, inherited, unprotected, partial, acked;
    bool in_doubt;     /* job.in_doubt */
    bool mine;         /* its assignment's generation is still the current one */
    bool cancel        /* INPUT_CANCEL is on its way */
}
Job j[3];

/* A command without an answer in time may reach Redis later, or never. MACHINE_MARK_WAIT is one of these. */
#define OP_CLAIM 1
#define OP_FENCE 2
#define OP_RELEASE 3
#define OP_MARK_SENT 4
#define OP_MARK_DEAD 5
typedef Late { byte op, tok, rec; bool doubt }
Late late[3];

/* ---- ghosts ---- */

byte accepted;      /* how often the relay took the mail */
byte explained;     /* what may have made one more copy: takeovers that resend, keys that Redis lost, … */
byte sure_letters;  /* dead letters of the whole mail without a doubt in them */
byte told;          /* what the producer's caller learnt */
bool perhaps, taken, env_done;
#define TOLD_SENT 1
#define TOLD_BEFORE 2
#define TOLD_FAILED 3
#define TOLD_UNKNOWN 4
#define TOLD_CRASHED 5

/* Scratch of one step, 0 between steps. A step says in `out` how it goes on; the end of Instance's loop carries that out. */
byte fresh, how, out, next, telling;
bool won, accepts, lettered;
#define OUT_DIE 1
#define OUT_RELEASE 2
#define OUT_CONTINUE 3
#define OUT_GATE 4
#define OUT_BURY 5
#define OUT_ABANDON 6
#define OUT_SENT 7
#define OUT_DUPLICATE 8
#define OUT_DEAD 9
#define OUT_CRASH 10

#define HELD_BY(w) (j[w].held && j[w].tok == key.tok && j[w].st != RELEASING)
#define RENEWED (HELD_BY(0) || HELD_BY(1) || HELD_BY(2))  /* machine_needs_renewal() */
#define USED(x) (key.tok == x || j[0].tok == x || j[1].tok == x || j[2].tok == x || late[0].tok == x || late[1].tok == x || \
                 late[2].tok == x || j[0].seen_tok == x || j[1].seen_tok == x || j[2].seen_tok == x)
#define SETTLED_ALL ((!published[0] || committed[0]) && (!published[1] || committed[1]) && (!direct || told) && \
                     j[0].st == IDLE && j[1].st == IDLE && j[2].st == IDLE && !revoking[0] && !revoking[1])

/* ---- properties ---- */

inline check_accepted() {
    assert(!(props & P_ONCE) || accepted <= 1);
    assert(!(props & P_BOUND) || accepted <= 1 + explained);
    assert(!(props & P_RESENDS) || accepted <= 1 + max_resends);
    assert(!(props & P_BOTH) || accepted == 0 || sure_letters == 0);
    assert(!(props & P_TOLD) || accepted == 0 || told != TOLD_FAILED)
}
inline relay_accepts() { accepted++; printf("  the relay takes the mail (%d)\n", accepted) }
inline letter_is_in(w) {
    if :: letters[j[w].rec] < 3 -> letters[j[w].rec]++ :: else fi;
    if :: !j[w].in_doubt && !j[w].partial && sure_letters < 3 -> sure_letters++ :: else fi
}
inline check_committed(rr) {
    assert(!(props & P_LOST) || accepted > 0 || letters[rr] > 0);
    assert(!(props & P_PARTIAL) || letters[0] + letters[1] > 0)
}
inline tell(what) { /* tell() of the producer's thread */
    told = what; printf("  the caller is told %d (1 sent, 2 before, 3 failed, 4 unknown)\n", what);
    assert(!(props & P_TOLD) || (told != TOLD_SENT && told != TOLD_BEFORE) || accepted > 0);
    assert(!(props & P_TOLD) || told != TOLD_FAILED || (accepted == 0 && !taken))
}

/* ---- the scripts of redis_scripts.c ---- */

#define OURS(tk) ((key.kind == C || key.kind == D) && key.tok == tk)

inline script_fence(tk) { /* SCRIPT_FENCE */
    won = 1;
    if :: mut == NO_COMPARE -> set_key(D, tk)
       :: mut != NO_COMPARE && key.kind == C && key.tok == tk -> set_key(D, tk)
       :: mut != NO_COMPARE && key.kind == D && key.tok == tk -> key.over = 0
       :: else -> won = 0 fi
}
inline script_release(tk) { /* SCRIPT_RELEASE */
    if :: OURS(tk) || mut == NO_COMPARE -> clear_key() :: else fi
}
inline script_mark_sent(tk) { /* SCRIPT_MARK_SENT: a true fact wins over whatever stands there */
    if :: key.kind != SENT -> set_key(SENT, tk) :: else fi
}
inline script_mark_dead(tk, rr, dd) { /* SCRIPT_MARK_DEAD: over our own C or D, or over nothing */
    if :: OURS(tk) || key.kind == NONE || mut == NO_COMPARE || mut == DEAD_OVER_ANY -> set_key(DEAD, tk); key.rec = rr; key.doubt = dd
       :: else fi
}
inline script_claim(tk) { /* SET NX GET, or SCRIPT_CLAIM */
    if :: key.kind == NONE -> set_key(C, tk); won = 1 :: else -> won = 0 fi
}

#define ANSWERED 0
#define NO_ANSWER 1    /* done, but the reply is lost */
#define NOT_YET 2      /* not done: later, or never */
inline ask() {
    if :: how = ANSWERED
       :: silences > 0 -> silences--; how = NO_ANSWER
       :: silences > 0 -> silences--; how = NOT_YET fi
}
inline send_late(w, what) { late[w].op = what; late[w].tok = j[w].tok; late[w].rec = j[w].rec; late[w].doubt = j[w].in_doubt }

/* ---- the machine's exits ---- */

inline reset_job(w) {
    j[w].st = IDLE; j[w].rec = 0; j[w].tok = 0; j[w].n = 0; j[w].attempts = 0; j[w].reason = 0; j[w].give_up = 0;
    j[w].reply = 0; j[w].after = 0; j[w].seen = 0; j[w].seen_tok = 0; j[w].unanswered = 0; j[w].held = 0; j[w].fenced = 0;
    j[w].inherited = 0; j[w].unprotected = 0; j[w].partial = 0; j[w].acked = 0; j[w].in_doubt = 0; j[w].mine = 0; j[w].cancel = 0
}
inline die(w, why) { j[w].reason = why; out = OUT_DIE }
inline release_then(w, what) { next = what; out = OUT_RELEASE }  /* IDLE stands for ACTION_ABANDON */

inline settle(w) { /* settle(), do_settle(), consumer_done(): only a current generation's offset is stored */
    if :: j[w].rec != NO_RECORD && j[w].mine -> stored[j[w].rec] = 1 :: else fi
}
inline leave_by(w) {
    if :: out == OUT_DIE -> /* die(): a D of a definite failure goes first, a C is kept */
          if :: j[w].fenced && !j[w].inherited -> next = BURY; out = OUT_RELEASE :: else -> out = OUT_BURY fi
       :: else fi;
    if :: out == OUT_RELEASE -> /* release_then() */
          if :: j[w].give_up && next != BURY -> j[w].after = IDLE :: else -> j[w].after = next fi;
          j[w].reply = 0;
          if :: j[w].held && (!j[w].inherited || mut == RELEASE_INHERITED) -> j[w].st = RELEASING; out = 0
             :: else -> out = OUT_CONTINUE fi
       :: else fi;
    if :: out == OUT_CONTINUE -> /* continue_after_release() */
          if :: !j[w].inherited || mut == RELEASE_INHERITED -> j[w].held = 0; j[w].fenced = 0; j[w].inherited = 0 :: else fi;
          if :: j[w].after == BURY -> out = OUT_BURY
             :: j[w].after == GATE -> out = OUT_GATE
             :: else -> out = OUT_ABANDON fi
       :: else fi;
    if :: out == OUT_GATE -> /* enter_gate(), wait_in() */
          if :: j[w].give_up -> out = OUT_ABANDON
             :: else -> j[w].st = GATE; j[w].reply = 0; j[w].after = 0;
                if :: !j[w].held -> j[w].fenced = 0; j[w].inherited = 0; j[w].unprotected = 0; j[w].n = 0;
                      if :: !j[w].unanswered -> j[w].tok = 0 :: else fi
                   :: else fi
          fi
       :: else fi;
    if :: out == OUT_BURY -> /* bury() */
          j[w].after = 0; j[w].reply = 0;
          if :: mut == DEAD_BEFORE_ACK && !j[w].partial -> j[w].st = MARKING_DEAD
             :: else -> j[w].st = BURY fi
       :: out == OUT_ABANDON -> /* abandon(), do_abandon(), consumer_abandon(): the watermark stays before the record */
          printf("  job %d is abandoned\n", w);
          if :: j[w].rec == NO_RECORD -> telling = TOLD_FAILED
             :: mut == ABANDONED_IS_DONE && j[w].rec != NO_RECORD -> settle(w)
             :: else fi
       :: out == OUT_SENT || out == OUT_DUPLICATE || out == OUT_DEAD -> /* finish() */
          if :: j[w].rec != NO_RECORD -> settle(w)
             :: j[w].rec == NO_RECORD && out == OUT_SENT -> telling = TOLD_SENT
             :: j[w].rec == NO_RECORD && out == OUT_DUPLICATE -> telling = TOLD_BEFORE
             :: else -> telling = TOLD_FAILED fi
       :: else fi;
    if :: telling == TOLD_FAILED && (perhaps && mut != PERHAPS_IS_FAILED || j[w].in_doubt) -> /* on_direct(), end_unpublished() */
          telling = TOLD_UNKNOWN
       :: else fi;
    if :: telling -> tell(telling) :: else fi;
    if :: accepts -> relay_accepts() :: else fi;
    if :: lettered -> letter_is_in(w) :: else fi;
    if :: accepts || lettered -> check_accepted() :: else fi;
    if :: out >= OUT_ABANDON ->
          j[w].st = IDLE; j[w].rec = 0; j[w].tok = 0; j[w].n = 0; j[w].attempts = 0; j[w].reason = 0; j[w].give_up = 0;
          j[w].reply = 0; j[w].after = 0; j[w].seen = 0; j[w].seen_tok = 0; j[w].unanswered = 0; j[w].held = 0; j[w].fenced = 0;
          j[w].inherited = 0; j[w].unprotected = 0; j[w].partial = 0; j[w].acked = 0; j[w].in_doubt = 0; j[w].mine = 0; j[w].cancel = 0
       :: else fi;
    out = 0; next = 0; telling = 0; how = 0; won = 0; fresh = 0; accepts = 0; lettered = 0
}

/* ---- claiming: redis_store.c, claim_decide(), on_claim() ---- */

inline new_token(w) { /* store_new_token(): never used before; here, one that nothing refers to any more */
    fresh = 1;
    if :: mut == TOKEN_PER_PROCESS -> skip
       :: else -> do :: USED(fresh) -> fresh++ :: else -> break od fi;
    j[w].tok = fresh
}
inline claim_is_ours(w, dot) { /* on_claim_ours() */
    j[w].held = 1; j[w].unanswered = 0; j[w].seen = 0; j[w].seen_tok = 0;
    j[w].inherited = dot; j[w].fenced = dot; j[w].n = key.n;
    if :: dot -> j[w].in_doubt = 1 :: else fi;
    if :: mut == COMMIT_EARLY -> settle(w) :: else fi;
    if :: j[w].give_up == CANCEL -> release_then(w, IDLE)
       :: j[w].give_up != CANCEL && dot && park -> die(w, AMBIGUOUS)
       :: j[w].give_up != CANCEL && dot && !park && j[w].n > max_resends -> die(w, EXHAUSTED)
       :: else -> j[w].st = SENDING;
          if :: dot && explained < 200 -> explained++ :: else fi
    fi
}
inline claim_without_answer(w) { /* CLAIM_UNAVAILABLE */
    j[w].unanswered = 1; j[w].seen = 0; j[w].seen_tok = 0;
    if :: fail_open && j[w].give_up != CANCEL && j[w].rec != NO_RECORD ->
          j[w].unprotected = 1; j[w].st = SENDING; explained++
       :: else -> out = OUT_GATE fi
}
/* What stands in the key makes the job wait: blocked here, instead of looking again and again. */
#define MUST_WAIT(w) (mut != FOREIGN_IS_DONE && mut != TOKEN_PER_PROCESS && key.tok != j[w].tok && (key.kind == C || (key.kind == D && !key.over)))

inline ask_claim(w) { /* do_claim(), ask_claim(), on_found(), claim_decide() */
    if :: !j[w].unanswered -> new_token(w) :: else fi;
    ask();
    if :: how == NO_ANSWER -> script_claim(j[w].tok); claim_without_answer(w)
       :: how == NOT_YET -> send_late(w, OP_CLAIM); claim_without_answer(w)
       :: how == ANSWERED && key.kind == NONE -> script_claim(j[w].tok); printf("job %d: claim won\n", w); claim_is_ours(w, 0)
       :: how == ANSWERED && key.kind == SENT -> printf("job %d: sent mark, a duplicate\n", w); out = OUT_DUPLICATE /* CLAIM_DECIDE_DUPLICATE */
       :: how == ANSWERED && key.kind == DEAD && (key.rec == j[w].rec && j[w].rec != NO_RECORD || mut == DEAD_SETTLES_ALL ||
          j[w].rec == NO_RECORD && perhaps && key.rec != NO_RECORD && mut != DIRECT_CLAIMS_OVER) ->
          printf("job %d: dead mark of this record\n", w); out = OUT_DEAD                    /* CLAIM_DECIDE_SETTLED */
       :: how == ANSWERED && (key.kind == C || key.kind == D) && key.tok == j[w].tok ->         /* CLAIM_DECIDE_OURS, SCRIPT_RENEW */
          key.over = 0; printf("job %d: the claim was ours already\n", w);
          if :: key.kind == D -> claim_is_ours(w, 1) :: else -> claim_is_ours(w, 0) fi
       :: how == ANSWERED && (key.kind == C || key.kind == D) && key.tok != j[w].tok && mut == FOREIGN_IS_DONE -> out = OUT_DUPLICATE
       :: else -> j[w].st = FOUND; j[w].seen = key.kind; j[w].seen_tok = key.tok /* CLAIM_DECIDE_TAKE, CLAIM_DECIDE_OVER_DEAD */
    fi
}
inline script_take(w) { /* SCRIPT_TAKE: only the D that was read, only past its deadline; it stays a D */
    if :: key.kind == D && key.tok == j[w].seen_tok && key.over || mut == BLIND_SECOND_STEP ->
          if :: mut == TAKE_MAKES_C -> set_key(C, j[w].tok)
             :: else -> fresh = (mut == TAKE_FORGETS_N -> 1 : key.n + 1); set_key(D, j[w].tok); key.n = fresh fi;
          won = 1
       :: else -> won = 0 fi
}
inline script_claim_over(w) { /* SCRIPT_CLAIM_OVER: only the dead mark that was read */
    if :: key.kind == DEAD && key.tok == j[w].seen_tok || mut == BLIND_SECOND_STEP ->
          if :: key.kind == DEAD && key.doubt -> explained++ :: else fi;
          set_key(C, j[w].tok); won = 1
       :: else -> won = 0 fi
}
inline act_on_found(w) { /* act_on_found(), on_claim_integer() */
    if :: how = ANSWERED :: silences > 0 -> silences--; how = NO_ANSWER fi;
    if :: j[w].seen == D -> script_take(w) :: else -> script_claim_over(w) fi;
    if :: how == NO_ANSWER -> claim_without_answer(w)
       :: how == ANSWERED && !won -> j[w].seen = 0; j[w].seen_tok = 0; j[w].unanswered = 0; out = OUT_GATE /* ask_again(), CLAIM_BUSY */
       :: how == ANSWERED && won && key.kind == D -> printf("job %d: takes the D over (%d)\n", w, key.n); claim_is_ours(w, 1)
       :: how == ANSWERED && won && key.kind != D && j[w].seen == D -> /* TAKE_MAKES_C */
          j[w].seen = 0; j[w].seen_tok = 0; j[w].held = 1; j[w].unanswered = 0; j[w].in_doubt = 1; explained++;
          if :: park -> die(w, AMBIGUOUS) :: else -> j[w].st = SENDING fi
       :: how == ANSWERED && won && key.kind != D && j[w].seen != D -> printf("job %d: claims over a dead mark\n", w); claim_is_ours(w, 0)
    fi
}

/* ---- the relay ---- */

inline send_dot(w) { /* transport_dot() */
    j[w].st = DOT;
    if :: relay == GOOD || relay == FICKLE -> j[w].reply = REPLY_OK
       :: relay == BAD || relay == FICKLE -> j[w].reply = REPLY_5XX
       :: relay == PARTLY -> j[w].reply = REPLY_PARTLY
       :: refusals > 0 -> refusals--; j[w].reply = REPLY_4XX
       :: ambiguities > 0 -> ambiguities--; j[w].reply = REPLY_LOST fi;
    printf("job %d: dot, reply %d (1 250, 2 250 for some, 3 4xx, 4 5xx, 5 none)\n", w, j[w].reply);
    if :: j[w].reply == REPLY_OK || j[w].reply == REPLY_PARTLY -> accepts = 1
       :: j[w].reply == REPLY_LOST && relay != BAD -> if :: accepts = 1 :: skip fi
       :: else fi
}
inline count_attempt(w) { if :: j[w].attempts < max_attempts -> j[w].attempts++ :: else fi }
inline on_retry(w) { /* on_retry() */
    count_attempt(w);
    if :: j[w].attempts >= max_attempts -> die(w, EXHAUSTED) :: else -> release_then(w, GATE) fi
}
inline on_ambiguous(w) { /* on_ambiguous() */
    count_attempt(w);
    j[w].in_doubt = 1; j[w].inherited = j[w].held;
    if :: mut == FORGET_DOUBT -> j[w].inherited = 0; release_then(w, GATE)
       :: mut != FORGET_DOUBT && park -> die(w, AMBIGUOUS)
       :: mut != FORGET_DOUBT && !park && j[w].attempts >= max_attempts -> die(w, EXHAUSTED)
       :: else -> j[w].held = 0; out = OUT_GATE fi
}
inline on_outcome(w) { /* on_finished(), on_outcome(), on_sent() */
    if :: j[w].reply == REPLY_OK -> j[w].reply = 0; j[w].st = MARKING
       :: j[w].reply == REPLY_PARTLY -> j[w].reply = 0; j[w].partial = 1;
          if :: mut == PARTIAL_MARK_FIRST -> j[w].st = MARKING :: else -> out = OUT_BURY fi
       :: j[w].reply == REPLY_4XX -> on_retry(w)
       :: j[w].reply == REPLY_5XX -> count_attempt(w); die(w, REJECTED)
       :: j[w].reply == REPLY_LOST -> on_ambiguous(w) fi
}

/* ---- fence, release, dead letter, marks ---- */

inline cancelled_delivery(w) { release_then(w, GATE) } /* OUTCOME_CANCELLED */

inline before_dot(w) { /* on_before_dot(), on_fence() */
    if :: j[w].give_up == CANCEL -> cancelled_delivery(w)
       :: j[w].give_up != CANCEL && (j[w].unprotected || mut == NO_FENCE) -> j[w].st = FENCED
       :: else -> ask();
          if :: how != NOT_YET && mut == MARK_FIRST -> script_mark_sent(j[w].tok); won = 1
             :: how != NOT_YET && mut != MARK_FIRST -> script_fence(j[w].tok)
             :: else -> send_late(w, OP_FENCE) fi;
          if :: how == ANSWERED && won -> j[w].fenced = 1; j[w].st = FENCED; printf("job %d: fence\n", w)
             :: how == ANSWERED && !won -> j[w].held = 0; j[w].inherited = 0; printf("job %d: fence refused\n", w); cancelled_delivery(w)
             :: else -> j[w].fenced = 1; printf("job %d: fence without an answer\n", w);
                if :: (fail_open && j[w].rec != NO_RECORD) || mut == FENCE_LOST_GO -> j[w].st = FENCED;
                      if :: fail_open -> explained++ :: else fi
                   :: else -> cancelled_delivery(w) fi
          fi
    fi
}
inline on_released(w) { /* do release, on_released() */
    ask();
    if :: how != NOT_YET -> script_release(j[w].tok) :: else -> send_late(w, OP_RELEASE) fi;
    printf("job %d: release\n", w);
    if :: how == ANSWERED || j[w].after == IDLE || (j[w].give_up && j[w].after != BURY) || fail_open ->
          if :: j[w].give_up && j[w].after != BURY -> j[w].after = IDLE :: else fi;
          out = OUT_CONTINUE
       :: else -> j[w].st = STORE_WAIT fi
}
inline on_store_is_back(w) { /* on_store_back() */
    if :: j[w].held && !j[w].inherited -> j[w].st = RELEASING :: else -> out = OUT_CONTINUE fi
}
inline do_bury(w) { /* do_bury(), dlq_produce(), on_report(); for the direct sender on_bury() */
    if :: j[w].acked = 1; if :: j[w].rec != NO_RECORD -> lettered = 1 :: else fi
       :: nacks > 0 && j[w].rec != NO_RECORD -> nacks--
       :: nacks > 0 && j[w].rec != NO_RECORD -> nacks--; lettered = 1 fi;
    printf("job %d: dead letter (1 rejected, 2 exhausted, 3 ambiguous): %d, acknowledged %d\n", w, j[w].reason, j[w].acked);
    j[w].st = BURYING
}
inline on_buried(w) { /* on_buried(), give_up_burying() */
    if :: j[w].acked && j[w].partial && mut != PARTIAL_MARK_FIRST -> j[w].acked = 0; j[w].st = MARKING
       :: j[w].acked && (mut == DEAD_BEFORE_ACK || mut == PARTIAL_MARK_FIRST) -> out = OUT_DEAD
       :: j[w].acked && !j[w].partial && mut != DEAD_BEFORE_ACK && mut != PARTIAL_MARK_FIRST -> j[w].acked = 0;
          if :: j[w].rec == NO_RECORD && j[w].inherited && mut != DIRECT_SETTLES_DOUBT -> out = OUT_DEAD
             :: else -> j[w].st = MARKING_DEAD fi
       :: !j[w].acked && j[w].give_up == CANCEL && j[w].partial -> out = OUT_ABANDON
       :: !j[w].acked && j[w].give_up == CANCEL && !j[w].partial -> release_then(w, IDLE)
       :: else -> j[w].st = BURY fi
}
inline do_mark_sent(w) { /* do_mark_sent(), on_marked(); without an answer it is settled all the same: MACHINE_MARK_WAIT */
    ask();
    if :: how != NOT_YET -> script_mark_sent(j[w].tok) :: else -> send_late(w, OP_MARK_SENT) fi;
    printf("job %d: sent mark\n", w);
    if :: j[w].partial && mut == PARTIAL_MARK_FIRST -> j[w].st = BURY
       :: else -> out = OUT_SENT fi
}
inline do_mark_dead(w) { /* do_mark_dead(), on_marked() */
    ask();
    if :: how != NOT_YET -> script_mark_dead(j[w].tok, j[w].rec, j[w].in_doubt) :: else -> send_late(w, OP_MARK_DEAD) fi;
    printf("job %d: dead mark\n", w);
    if :: mut == DEAD_BEFORE_ACK -> j[w].st = BURY :: else -> out = OUT_DEAD fi
}
inline on_late(w) { /* Redis gets to a command that nobody waits for any more */
    printf("a late command of job %d (1 claim, 2 fence, 3 release, 4 sent, 5 dead): %d\n", w, late[w].op);
    if :: late[w].op == OP_CLAIM -> script_claim(late[w].tok)
       :: late[w].op == OP_FENCE -> script_fence(late[w].tok)
       :: late[w].op == OP_RELEASE -> script_release(late[w].tok)
       :: late[w].op == OP_MARK_SENT -> script_mark_sent(late[w].tok)
       :: late[w].op == OP_MARK_DEAD -> script_mark_dead(late[w].tok, late[w].rec, late[w].doubt) fi;
    late[w].op = 0; late[w].tok = 0; late[w].rec = 0; late[w].doubt = 0
}

/* ---- giving up ---- */

inline on_give_up(w, which) { /* on_give_up() */
    if :: j[w].give_up < which -> j[w].give_up = which :: else fi;
    printf("job %d: told to give up (1 drain, 2 cancel): %d\n", w, which);
    if :: j[w].st == GATE -> out = OUT_ABANDON
       :: j[w].st == STORE_WAIT && (which == CANCEL || j[w].after != BURY) -> out = OUT_ABANDON
       :: j[w].st == BURY && which == CANCEL && j[w].partial -> out = OUT_ABANDON
       :: j[w].st == BURY && which == CANCEL && !j[w].partial -> release_then(w, IDLE)
       :: j[w].st == RELEASING && (which == CANCEL || j[w].after != BURY) -> j[w].after = IDLE
       :: j[w].st == SENDING && which == CANCEL -> cancelled_delivery(w)
       :: else fi
}
inline crash(w) {
    printf("instance %d crashes\n", w);
    if :: w == 2 -> telling = TOLD_CRASHED :: else fi;
    for (fresh : 0 .. 1) {
        if :: w < 2 && published[fresh] && owner[fresh] == w && !committed[fresh] ->
              stored[fresh] = 0; revoking[fresh] = 0;
              if :: owner[fresh] = 0 :: owner[fresh] = 1 fi
           :: else fi
    }
    out = OUT_CRASH
}

/* ---- an instance ---- */

#define MAY_TAKE(w, r) (w < 2 && published[r] && owner[r] == w && !committed[r] && !stored[r] && !revoking[r])

inline take(w, rr) { /* consumer_take(), tracker_begin(), pipeline_take(), on_start() */
    printf("instance %d takes record %d\n", w, rr);
    j[w].rec = rr; j[w].mine = 1; j[w].st = GATE
}

proctype Instance(byte w) {
    do
    :: atomic {
        if
    :: j[w].st == IDLE && MAY_TAKE(w, 0) -> take(w, 0)
    :: j[w].st == IDLE && MAY_TAKE(w, 1) -> take(w, 1)
    :: j[w].st == GATE && j[w].held -> j[w].st = SENDING  /* on_wake(), on_gate_open() */
    :: j[w].st == GATE && !j[w].held && !MUST_WAIT(w) && mut != DIRECT_UNCLAIMED -> ask_claim(w)
    :: j[w].st == GATE && !j[w].held && !MUST_WAIT(w) && mut == DIRECT_UNCLAIMED && w < 2 -> ask_claim(w)
    :: j[w].st == GATE && w == 2 && mut == DIRECT_UNCLAIMED -> j[w].unprotected = 1; j[w].st = SENDING
    :: j[w].st == FOUND -> act_on_found(w)
    :: j[w].st == SENDING && (relay == BAD || relay == FICKLE) -> printf("job %d: rejected before the dot\n", w);
                count_attempt(w); die(w, REJECTED)
    :: j[w].st == SENDING && refusals > 0 -> refusals--; printf("job %d: fails before the dot\n", w); on_retry(w)
    :: j[w].st == SENDING && silences > 0 && !j[w].unprotected -> silences--; cancelled_delivery(w) /* on_renew(), no answer */
    :: j[w].st == SENDING -> before_dot(w)
    :: j[w].st == FENCED -> if :: j[w].give_up == CANCEL -> cancelled_delivery(w) :: else -> send_dot(w) fi
    :: j[w].st == DOT -> on_outcome(w)
    :: j[w].st == RELEASING -> on_released(w)
    :: j[w].st == STORE_WAIT -> on_store_is_back(w)
    :: j[w].st == BURY -> do_bury(w)
    :: j[w].st == BURYING -> on_buried(w)
    :: j[w].st == MARKING -> do_mark_sent(w)
    :: j[w].st == MARKING_DEAD -> do_mark_dead(w)
       /* on_renew(): the heartbeat finds the claim lost, or a D past its deadline that nobody has taken over */
    :: j[w].held && key.tok != j[w].tok && (j[w].st == GATE || j[w].st == SENDING || j[w].st == STORE_WAIT || j[w].st == BURY ||
                j[w].st == BURYING) -> j[w].held = 0; j[w].inherited = 0; printf("job %d: claim lost\n", w);
                if :: j[w].st == SENDING -> cancelled_delivery(w) :: j[w].st == GATE -> out = OUT_GATE :: else fi
    :: HELD_BY(w) && key.kind == D && key.over -> key.over = 0
    :: j[w].cancel -> j[w].cancel = 0; on_give_up(w, CANCEL)
    :: drains > 0 && j[w].st != IDLE && !j[w].give_up -> drains--; on_give_up(w, DRAIN)
    :: late[w].op -> on_late(w)
    :: crashes > 0 && (j[w].st != IDLE || (w < 2 && (stored[0] && owner[0] == w || stored[1] && owner[1] == w))) ->
                crashes--; crash(w)
        fi;
        d_step { leave_by(w) }
       }
    :: atomic { env_done && j[w].st == IDLE -> break }
    od
}

/* ---- everything else ---- */

inline commit(rr) { stored[rr] = 0; committed[rr] = 1; revoking[rr] = 0; printf("record %d is committed\n", rr); check_committed(rr) }
inline let_go(rr) { /* let_go(), partition_destroy(): what is stored is committed, or (lost) is not */
    revoking[rr] = 0;
    for (fresh : 0 .. 1) { if :: j[fresh].st != IDLE && j[fresh].rec == rr -> j[fresh].mine = 0 :: else fi }
    if :: stored[rr] -> commit(rr) :: stored[rr] = 0 fi;
    if :: owner[rr] = 0 :: owner[rr] = 1 fi;
    printf("record %d's partition goes to instance %d\n", rr, owner[rr])
}
inline revoke(rr) { /* on_revoke(), pipeline_revoke() */
    rebalances--; revoking[rr] = 1; printf("record %d's partition is revoked\n", rr);
    if :: j[owner[rr]].st != IDLE && j[owner[rr]].rec == rr && j[owner[rr]].mine -> j[owner[rr]].cancel = 1 :: else fi
}
#define LOSABLE (lose_what & 1 && key.kind == C || lose_what & 2 && key.kind == D || lose_what & 4 && key.kind >= SENT)

proctype Env() {
    do
    :: atomic { key.kind == C && !RENEWED -> clear_key(); printf("the lease runs out\n") }
    :: atomic { key.kind == C && RENEWED && zombies > 0 -> zombies--; clear_key(); printf("the lease of a paused one runs out\n") }
    :: atomic { key.kind == D && !key.over && !RENEWED && mut != DOT_EXPIRES -> key.over = 1 }
    :: atomic { key.kind == D && !RENEWED && mut == DOT_EXPIRES -> clear_key() }
    :: atomic { key.kind == D && !key.over && RENEWED && zombies > 0 -> zombies--; key.over = 1; printf("the D of a paused one is over\n") }
    :: atomic { losses > 0 && LOSABLE -> losses--; printf("Redis loses the key (%d)\n", key.kind); clear_key(); explained++ }
    :: atomic { losses > 0 && lose_what & 8 && key.kind >= D -> losses--; explained++; printf("Redis falls back to a stale replica\n");
                if :: key.kind > D -> set_key(D, key.tok) :: set_key(C, key.tok) fi }
    :: atomic { stored[0] -> commit(0) }
    :: atomic { stored[1] -> commit(1) }
    :: atomic { rebalances > 0 && published[0] && !committed[0] && !revoking[0] -> revoke(0) }
    :: atomic { rebalances > 0 && published[1] && !committed[1] && !revoking[1] -> revoke(1) }
    :: atomic { revoking[0] -> let_go(0) }
    :: atomic { revoking[1] -> let_go(1) }
    :: atomic { rebalances > 0 && j[2].st != IDLE && !j[2].cancel && j[2].give_up != CANCEL -> rebalances--; j[2].cancel = 1 } /* direct_give_up() */
    :: atomic { copies == 1 && !published[1] -> published[1] = 1; if :: owner[1] = 0 :: owner[1] = 1 fi; printf("published again\n") }
       /* ctl_dlq_redrive(): only after the operator has mended what was wrong */
    :: atomic { copies == 2 && !published[1] && letters[0] > 0 -> published[1] = 1; if :: owner[1] = 0 :: owner[1] = 1 fi;
                if :: relay == BAD -> relay = GOOD :: else fi; printf("the dead letter is redriven\n") }
       /* on_report() of the producer's thread: NOT_TAKEN, or PERHAPS_TAKEN with or without a copy in Kafka; fall_back(), direct_send() */
    :: atomic { direct && !told && j[2].st == IDLE && !taken && !perhaps ->
                if :: skip :: perhaps = 1 :: perhaps = 1; taken = 1 fi;
                j[2].rec = NO_RECORD; j[2].st = GATE; printf("direct: perhaps %d, taken %d\n", perhaps, taken) }
    :: atomic { direct && taken && !published[0] -> published[0] = 1; printf("Kafka's late copy\n") }
    :: atomic { SETTLED_ALL && (copies != 1 || published[1]) && (!taken || published[0]) -> env_done = 1; break }
    od
}

init {
    atomic {
        c_code {
            now.crashes = param("CRASHES"); now.zombies = param("ZOMBIES"); now.silences = param("SILENCES");
            now.ambiguities = param("AMBIGUITIES"); now.refusals = param("REFUSALS"); now.nacks = param("NACKS");
            now.rebalances = param("REBALANCES"); now.drains = param("DRAINS"); now.losses = param("LOSSES");
            now.lose_what = param("LOSE_WHAT"); now.max_attempts = param("MAX_ATTEMPTS"); now.max_resends = param("MAX_RESENDS");
            now.park = param("PARK"); now.fail_open = param("FAIL_OPEN"); now.copies = param("COPIES");
            now.direct = param("DIRECT"); now.mut = param("MUTATION"); now.props = param("PROPS"); now.relay = param("RELAY");
        };
        if :: relay == 0 -> if :: relay = GOOD :: relay = BAD fi :: else fi;
        published[0] = !direct;
        run Instance(0); run Instance(1); run Env();
        if :: direct -> run Instance(2) :: else fi
    }
}
