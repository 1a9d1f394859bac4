/* The store over Redis. An operation is one or a few commands under one deadline; the rules are
 * claim_decide()'s and the scripts', the connection's state is redis_health's. */
#include "idempotency/store.h"

#include <stdlib.h>

#include "base/buf.h"
#include "base/loop.h"
#include "idempotency/redis_batch.h"
#include "idempotency/redis_health.h"
#include "idempotency/redis_tls.h"
#include "idempotency/store_private.h"

enum {
    MAX_ROUNDS =
        5, /* of reading a key that changes all the time, before the caller is asked to wait */
    UNREADABLE_WAIT_MS = 5000
};

enum step {
    STEP_CLAIM, /* what stands there? */
    STEP_OURS,  /* our own token did: give it a fresh lease */
    STEP_OVER,  /* claiming over another record's dead mark */
    STEP_TAKE,  /* taking an expired D over */
    STEP_TTL,   /* somebody else's claim: for how long? */
    STEP_SENT,
    STEP_SIMPLE /* renew, fence, dead, release: 1 is done, 0 is lost */
};

struct redis_op {
    struct redis_request request; /* first: replies come back by it */
    struct answer answer;
    struct redis_store *store;
    const struct claim *claim;
    enum step step;
    enum redis_script script; /* the last one called */
    bool with_source;
    unsigned rounds;
    bool dot;           /* STEP_OURS: what stood there was our D */
    uint32_t takeovers; /* of that D */
    struct buf key, value;
    struct redis_step batched; /* of a fence or a sent mark */
    struct redis_op *next_free, *next_all;
};

struct redis_store {
    struct store base;
    struct store_settings settings;
    struct redis_health health;
    struct redis_batches batches;
    struct answer_queue answers;
    struct redis_op *free, *all;
    uint64_t random, unreadable, late_marks;
};

/* ---- operations' memory ---- */

static struct redis_op *op_of(struct answer *a)
{
    return (struct redis_op *)((char *)a - offsetof(struct redis_op, answer));
}

static struct redis_op *take_op(struct redis_store *s)
{
    struct redis_op *op = s->free;

    if (op) {
        s->free = op->next_free;
        return op;
    }
    op = calloc(1, sizeof(*op));
    if (!op)
        return NULL;
    op->store = s;
    op->next_all = s->all;
    s->all = op;
    return op;
}

static void recycle_op(void *ctx, struct answer *a)
{
    struct redis_store *s = ctx;
    struct redis_op *op = op_of(a);

    op->next_free = s->free;
    s->free = op;
}

static void free_ops(struct redis_store *s)
{
    while (s->all) {
        struct redis_op *op = s->all;
        s->all = op->next_all;
        buf_cleanup(&op->key);
        buf_cleanup(&op->value);
        free(op);
    }
}

/* ---- answering ---- */

static void finish(struct redis_op *op)
{
    redis_request_end(op->store->health.connection, &op->request);
    answer_queue_push(&op->store->answers, &op->answer);
}

static void finish_store(struct redis_op *op, enum store_answer answer)
{
    op->answer.store = answer;
    finish(op);
}

static void finish_claim(struct redis_op *op, enum claim_verdict verdict, uint64_t wait_ms,
                         uint32_t takeovers)
{
    op->answer.claim = (struct claim_answer){verdict, wait_ms, takeovers};
    finish(op);
}

static void finish_busy(struct redis_op *op, int64_t ttl_ms)
{
    finish_claim(op, CLAIM_BUSY, claim_wait_ms(ttl_ms, store_random(&op->store->random)), 0);
}

static void finish_unavailable(struct redis_op *op)
{
    op->answer.claim = (struct claim_answer){.verdict = CLAIM_UNAVAILABLE};
    op->answer.store = STORE_UNAVAILABLE;
    finish(op);
}

static void finish_unreadable(struct redis_op *op)
{
    op->store->unreadable++;
    if (op->answer.claim_fn)
        finish_claim(op, CLAIM_UNREADABLE, UNREADABLE_WAIT_MS, 0);
    else
        finish_store(op, STORE_LOST);
}

/* ---- asking ---- */

static void call(struct redis_op *op, enum redis_script script, bool with_source)
{
    op->script = script;
    op->with_source = with_source;
    if (!redis_health_call(&op->store->health, &op->request, script, with_source,
                           buf_slice(&op->key), op->claim, buf_slice(&op->value)))
        finish_unavailable(op);
}

static void send_words(struct redis_op *op, int argc, const struct slice *words)
{
    const char *argv[8];
    size_t lens[8];

    for (int i = 0; i < argc; i++) {
        argv[i] = words[i].ptr;
        lens[i] = words[i].len;
    }
    if (!redis_request_send(op->store->health.connection, &op->request, argc, argv, lens))
        finish_unavailable(op);
}

static void ask_claim(struct redis_op *op)
{
    const struct redis_health *h = &op->store->health;

    op->step = STEP_CLAIM;
    buf_clear(&op->value);
    claim_write_claimed(&op->value, slice_str(op->claim->token), slice_str(op->claim->fp));
    if (op->value.failed) {
        finish_unavailable(op);
    } else if (h->has_set_nx_get) {
        const struct slice words[] = {
            slice_str("SET"), buf_slice(&op->key), buf_slice(&op->value),   slice_str("NX"),
            slice_str("GET"), slice_str("PX"),     slice_str(h->lease_text)};
        send_words(op, 7, words);
    } else {
        call(op, SCRIPT_CLAIM, false);
    }
}

static void ask_ttl(struct redis_op *op)
{
    const struct slice words[] = {slice_str("PTTL"), buf_slice(&op->key)};

    op->step = STEP_TTL;
    send_words(op, 2, words);
}

static void ask_again(struct redis_op *op)
{
    if (++op->rounds < MAX_ROUNDS)
        ask_claim(op);
    else
        finish_busy(op, 0);
}

/* The scripts that act on what was read get it as their value, and act only if it still stands
 * there. */
static void act_on_found(struct redis_op *op, enum step step, enum redis_script script,
                         struct slice found)
{
    op->step = step;
    buf_clear(&op->value);
    buf_add_slice(&op->value, found);
    if (op->value.failed)
        finish_unavailable(op);
    else
        call(op, script, false);
}

/* ---- what Redis answered ---- */

static void on_found(struct redis_op *op, struct slice found)
{
    const struct claim *c = op->claim;
    struct claim_value value;

    claim_value_parse(found, &value);
    switch (claim_decide(&value, slice_str(c->token), slice_str(c->fp), &c->record)) {
    case CLAIM_DECIDE_OURS:
        op->dot = value.kind == CLAIM_KIND_DOT;
        op->takeovers = value.takeovers;
        act_on_found(op, STEP_OURS, SCRIPT_RENEW, found);
        return;
    case CLAIM_DECIDE_DUPLICATE: finish_claim(op, CLAIM_DUPLICATE, 0, 0); return;
    case CLAIM_DECIDE_CONFLICT: finish_claim(op, CLAIM_CONFLICT, 0, 0); return;
    case CLAIM_DECIDE_SETTLED: finish_claim(op, CLAIM_SETTLED, 0, 0); return;
    case CLAIM_DECIDE_PARKED: finish_claim(op, CLAIM_PARKED, 0, 0); return;
    case CLAIM_DECIDE_OVER_DEAD: act_on_found(op, STEP_OVER, SCRIPT_CLAIM_OVER, found); return;
    case CLAIM_DECIDE_WAIT: ask_ttl(op); return;
    case CLAIM_DECIDE_TAKE: act_on_found(op, STEP_TAKE, SCRIPT_TAKE, found); return;
    case CLAIM_DECIDE_UNREADABLE: finish_unreadable(op); return;
    }
}

static void on_claim_integer(struct redis_op *op, int64_t n)
{
    if (op->step == STEP_TTL) {
        if (n == -2)
            ask_again(op); /* gone meanwhile */
        else
            finish_busy(op, n);
    } else if (n == 0) {
        ask_again(op);
    } else if (op->step == STEP_TAKE) {
        if (n < 0)
            finish_busy(op, -n);
        else
            finish_claim(op, CLAIM_TAKEN_OVER, 0, (uint32_t)n);
    } else if (op->step == STEP_OURS && op->dot) {
        finish_claim(op, CLAIM_TAKEN_OVER, 0, op->takeovers);
    } else {
        finish_claim(op, CLAIM_WON, 0, 0);
    }
}

static void on_sent_integer(struct redis_op *op, int64_t n)
{
    struct redis_store *s = op->store;

    if (n == REDIS_MARK_WRITTEN && s->health.records >= 0)
        s->health.records++; /* at once, for /health; the next refresh counts again */
    if (n == REDIS_MARK_FOREIGN)
        s->late_marks++;
    finish_store(op, n == REDIS_MARK_FOREIGN ? STORE_LOST : STORE_DONE);
}

static void on_error(struct redis_op *op, struct slice error)
{
    struct redis_health *h = &op->store->health;

    if (!op->with_source && redis_health_script_missing(h, error)) {
        call(op, op->script, true);
    } else if (redis_health_is_refusal(error)) {
        redis_health_refused(h, error);
        finish_unavailable(op);
    } else {
        finish_unreadable(op);
    }
}

static void on_reply(struct redis_request *r, const struct redis_reply *reply)
{
    struct redis_op *op = (struct redis_op *)r;

    if (reply->type == REPLY_LOST)
        finish_unavailable(op);
    else if (reply->type == REPLY_ERROR)
        on_error(op, reply->text);
    else if (op->step == STEP_CLAIM && reply->type == REPLY_NIL)
        finish_claim(op, CLAIM_WON, 0, 0);
    else if (op->step == STEP_CLAIM && reply->type == REPLY_TEXT)
        on_found(op, reply->text);
    else if (op->step == STEP_CLAIM || reply->type != REPLY_INTEGER)
        finish_unavailable(op); /* not Redis' protocol */
    else if (op->step == STEP_SENT)
        on_sent_integer(op, reply->integer);
    else if (op->step == STEP_SIMPLE)
        finish_store(op, reply->integer == 1 ? STORE_DONE : STORE_LOST);
    else
        on_claim_integer(op, reply->integer);
}

static void on_batch_reply(struct redis_step *step, const struct redis_reply *reply)
{
    struct redis_op *op = (struct redis_op *)((char *)step - offsetof(struct redis_op, batched));

    op->with_source = true; /* the batch has seen to that */
    on_reply(&op->request, reply);
}

/* ---- the interface ---- */

/* NULL where the answer is on its way already. */
static struct redis_op *begin(struct store *base, const struct claim *c, claim_fn claim_callback,
                              store_fn store_callback, void *ctx)
{
    struct redis_store *s = (struct redis_store *)base;
    struct redis_op *op = take_op(s);

    if (!op) {
        answer_refuse(claim_callback, store_callback, ctx);
        return NULL;
    }
    op->answer =
        (struct answer){.claim_fn = claim_callback, .store_fn = store_callback, .ctx = ctx};
    op->claim = c;
    op->rounds = 0;
    op->with_source = false;
    buf_clear(&op->value);
    buf_clear(&op->key);
    buf_add_str(&op->key, c->by_place ? CLAIM_PLACE_PREFIX : CLAIM_KEY_PREFIX);
    buf_add_slice(&op->key, c->message_id);
    buf_add(&op->value, "", 0); /* hiredis wants a pointer even for nothing */
    if (op->key.failed || op->value.failed || s->health.condition != REDIS_UP) {
        finish_unavailable(op);
        return NULL;
    }
    if (redis_batches_hold(&s->batches, buf_slice(&op->key)))
        redis_batches_flush(&s->batches); /* nothing overtakes what was asked before */
    redis_request_begin(s->health.connection, &op->request, on_reply);
    return op;
}

/* Leaves with the others of this tick, in one call. */
static void call_in_batch(struct redis_op *op, enum step step, enum redis_script script)
{
    op->step = step;
    op->batched = (struct redis_step){.key = buf_slice(&op->key),
                                      .token = slice_str(op->claim->token),
                                      .value = buf_slice(&op->value),
                                      .fn = on_batch_reply};
    if (op->value.failed || !redis_batches_add(&op->store->batches, script, &op->batched))
        finish_unavailable(op);
}

static void begin_simple(struct store *s, const struct claim *c, enum redis_script script,
                         store_fn fn, void *ctx)
{
    struct redis_op *op = begin(s, c, NULL, fn, ctx);

    if (!op)
        return;
    op->step = STEP_SIMPLE;
    call(op, script, false);
}

static void redis_claim(struct store *s, const struct claim *c, claim_fn fn, void *ctx)
{
    struct redis_op *op = begin(s, c, fn, NULL, ctx);

    if (op)
        ask_claim(op);
}

static void redis_renew(struct store *s, const struct claim *c, store_fn fn, void *ctx)
{
    begin_simple(s, c, SCRIPT_RENEW, fn, ctx);
}

static void redis_fence(struct store *s, const struct claim *c, store_fn fn, void *ctx)
{
    struct redis_op *op = begin(s, c, NULL, fn, ctx);

    if (!op)
        return;
    claim_write_claimed(&op->value, slice_str(c->token), slice_str(c->fp));
    call_in_batch(op, STEP_SIMPLE, SCRIPT_FENCE);
}

static void redis_release(struct store *s, const struct claim *c, store_fn fn, void *ctx)
{
    begin_simple(s, c, SCRIPT_RELEASE, fn, ctx);
}

static void redis_mark_sent(struct store *s, const struct claim *c, const struct sent_mark *mark,
                            store_fn fn, void *ctx)
{
    struct redis_op *op = begin(s, c, NULL, fn, ctx);

    if (!op)
        return;
    claim_write_sent(&op->value, slice_str(c->token), slice_str(c->fp), mark->sent_at_unix_ms,
                     mark->attempts, mark->recipients);
    call_in_batch(op, STEP_SENT, SCRIPT_MARK_SENT);
}

static void redis_mark_dead(struct store *s, const struct claim *c, const struct dead_mark *mark,
                            store_fn fn, void *ctx)
{
    struct redis_op *op = begin(s, c, NULL, fn, ctx);

    if (!op)
        return;
    claim_write_dead(&op->value, slice_str(c->token), slice_str(c->fp), mark->dead_at_unix_ms,
                     mark->reason, &c->record);
    op->step = STEP_SIMPLE;
    if (op->value.failed)
        finish_unavailable(op);
    else
        call(op, SCRIPT_MARK_DEAD, false);
}

static void redis_state(const struct store *base, struct store_state *out)
{
    const struct redis_store *s = (const struct redis_store *)base;
    const struct redis_health *h = &s->health;

    *out = (struct store_state){.up = h->condition == REDIS_UP,
                                .evicts = h->evicts,
                                .records = h->records,
                                .unreadable = s->unreadable,
                                .late_marks = s->late_marks};
    memcpy(out->error, h->error, sizeof(out->error));
    memcpy(out->eviction_policy, h->policy, sizeof(out->eviction_policy));
    memcpy(out->version, h->version, sizeof(out->version));
}

static void redis_destroy(struct store *base)
{
    struct redis_store *s = (struct redis_store *)base;

    redis_health_cleanup(&s->health);
    redis_batches_cleanup(&s->batches);
    answer_queue_cleanup(&s->answers);
    free_ops(s);
    free(s);
}

static void on_delivered(void *ctx)
{
    struct redis_store *s = ctx;

    /* What the callbacks asked for leaves now, in one write, without another turn of the loop. */
    redis_batches_flush(&s->batches);
    redis_connection_flush(s->health.connection);
}

bool redis_store_has_tls(void)
{
    return redis_tls_supported();
}

struct store *redis_store_new(struct loop *loop, const struct store_settings *settings,
                              struct error *err)
{
    static const struct store_ops ops = {.claim = redis_claim,
                                         .renew = redis_renew,
                                         .fence = redis_fence,
                                         .mark_sent = redis_mark_sent,
                                         .mark_dead = redis_mark_dead,
                                         .release = redis_release,
                                         .state = redis_state,
                                         .destroy = redis_destroy};
    struct redis_store *s;

    if (!store_settings_check(settings, err))
        return NULL;
    s = calloc(1, sizeof(*s));
    if (!s) {
        error_set(err, "out of memory");
        return NULL;
    }
    s->base.ops = &ops;
    s->settings = *settings;
    s->random = store_random_seed();
    answer_queue_init(&s->answers, loop, recycle_op, on_delivered, s);
    redis_batches_init(&s->batches, &s->health);
    if (!redis_health_init(&s->health, loop, &s->settings, err)) {
        redis_destroy(&s->base);
        return NULL;
    }
    return &s->base;
}
