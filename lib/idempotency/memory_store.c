/* The store in memory, for --dev and tests: the same values under the same rules as in Redis, for
 * one process. Answers come from a task of the loop, as Redis' do. */
#include "idempotency/memory_store.h"

#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "idempotency/store_private.h"

enum { SWEEP_MS = 1000, UNREADABLE_WAIT_MS = 5000 };

struct memory_op {
    struct answer answer; /* first: it comes back by it */
    struct memory_op *next_free, *next_all;
};

struct memory_store {
    struct store base;
    struct loop *loop;
    uint64_t lease_ms;
    struct memory_table *table;
    struct answer_queue answers;
    struct memory_op *free, *all;
    struct loop_timer sweep_timer;
    struct buf key, value;
    uint64_t random, unreadable, late_marks;
};

/* ---- operations ---- */

static void recycle_op(void *ctx, struct answer *a)
{
    struct memory_store *s = ctx;
    struct memory_op *op = (struct memory_op *)a;

    op->next_free = s->free;
    s->free = op;
}

static struct memory_op *take_op(struct memory_store *s)
{
    struct memory_op *op = s->free;

    if (op) {
        s->free = op->next_free;
        return op;
    }
    op = calloc(1, sizeof(*op));
    if (!op)
        return NULL;
    op->next_all = s->all;
    s->all = op;
    return op;
}

/* Queues the answer; the key is in s->key from then on. NULL where there is no memory for either.
 */
static struct answer *begin(struct store *base, const struct claim *c, claim_fn claim_callback,
                            store_fn store_callback, void *ctx)
{
    struct memory_store *s = (struct memory_store *)base;
    struct memory_op *op = take_op(s);

    if (!op) {
        answer_refuse(claim_callback, store_callback, ctx);
        return NULL;
    }
    op->answer = (struct answer){.claim_fn = claim_callback,
                                 .store_fn = store_callback,
                                 .ctx = ctx,
                                 .claim = {.verdict = CLAIM_UNAVAILABLE},
                                 .store = STORE_UNAVAILABLE};
    buf_clear(&s->key);
    buf_clear(&s->value);
    buf_add_str(&s->key, c->by_place ? CLAIM_PLACE_PREFIX : CLAIM_KEY_PREFIX);
    buf_add_slice(&s->key, c->message_id);
    answer_queue_push(&s->answers, &op->answer);
    return s->key.failed ? NULL : &op->answer;
}

/* ---- the key ---- */

static struct slice get(struct memory_store *s, uint64_t *left_ms)
{
    return memory_table_get(s->table, buf_slice(&s->key), loop_now_ms(s->loop), left_ms);
}

static bool set(struct memory_store *s, enum memory_lifetime lifetime, bool counted)
{
    return !s->value.failed && memory_table_set(s->table, buf_slice(&s->key), buf_slice(&s->value),
                                                lifetime, counted, loop_now_ms(s->loop));
}

static bool set_claimed(struct memory_store *s, const struct claim *c)
{
    claim_write_claimed(&s->value, slice_str(c->token), slice_str(c->fp));
    return set(s, MEMORY_LEASE, false);
}

static bool set_dot(struct memory_store *s, const struct claim *c, uint32_t takeovers)
{
    claim_write_dot(&s->value, slice_str(c->token), slice_str(c->fp),
                    clock_unix_ms() + (int64_t)s->lease_ms, takeovers);
    return set(s, MEMORY_TTL, false);
}

/* Whether `found` is this attempt's own C or D. */
static bool is_ours(const struct claim_value *found, const struct claim *c)
{
    return (found->kind == CLAIM_KIND_CLAIMED || found->kind == CLAIM_KIND_DOT) &&
           slice_is(found->token, c->token);
}

/* Our own C or D for another lease; the fence turns a C into a D. */
static enum store_answer keep(struct memory_store *s, const struct claim *c, bool fence)
{
    struct claim_value found;
    bool written;

    claim_value_parse(get(s, NULL), &found);
    if (!is_ours(&found, c))
        return STORE_LOST;
    if (found.kind == CLAIM_KIND_DOT || fence)
        written = set_dot(s, c, found.takeovers);
    else
        written = set_claimed(s, c);
    return written ? STORE_DONE : STORE_UNAVAILABLE;
}

/* ---- claiming ---- */

static void win(struct memory_store *s, const struct claim *c, struct claim_answer *out)
{
    if (set_claimed(s, c))
        out->verdict = CLAIM_WON;
}

static void hold(struct memory_store *s, const struct claim *c, uint32_t takeovers,
                 struct claim_answer *out)
{
    if (set_dot(s, c, takeovers))
        *out = (struct claim_answer){.verdict = CLAIM_TAKEN_OVER, .takeovers = takeovers};
}

static void wait(struct memory_store *s, int64_t left_ms, struct claim_answer *out)
{
    *out = (struct claim_answer){.verdict = CLAIM_BUSY,
                                 .wait_ms = claim_wait_ms(left_ms, store_random(&s->random))};
}

static void take(struct memory_store *s, const struct claim *c, const struct claim_value *found,
                 struct claim_answer *out)
{
    int64_t left_ms = found->deadline_unix_ms - clock_unix_ms();

    if (left_ms > 0)
        wait(s, left_ms, out);
    else
        hold(s, c, found->takeovers + 1, out);
}

static void claim_found(struct memory_store *s, const struct claim *c, struct slice text,
                        uint64_t left_ms, struct claim_answer *out)
{
    struct claim_value found;

    claim_value_parse(text, &found);
    switch (claim_decide(&found, slice_str(c->token), slice_str(c->fp), &c->record)) {
    case CLAIM_DECIDE_OURS:
        if (found.kind == CLAIM_KIND_DOT)
            hold(s, c, found.takeovers, out);
        else
            win(s, c, out);
        break;
    case CLAIM_DECIDE_DUPLICATE: out->verdict = CLAIM_DUPLICATE; break;
    case CLAIM_DECIDE_CONFLICT: out->verdict = CLAIM_CONFLICT; break;
    case CLAIM_DECIDE_SETTLED: out->verdict = CLAIM_SETTLED; break;
    case CLAIM_DECIDE_PARKED: out->verdict = CLAIM_PARKED; break;
    case CLAIM_DECIDE_OVER_DEAD: win(s, c, out); break;
    case CLAIM_DECIDE_WAIT: wait(s, (int64_t)left_ms, out); break;
    case CLAIM_DECIDE_TAKE: take(s, c, &found, out); break;
    case CLAIM_DECIDE_UNREADABLE:
        s->unreadable++;
        *out = (struct claim_answer){.verdict = CLAIM_UNREADABLE, .wait_ms = UNREADABLE_WAIT_MS};
        break;
    }
}

static void memory_claim(struct store *base, const struct claim *c, claim_fn fn, void *ctx)
{
    struct memory_store *s = (struct memory_store *)base;
    struct answer *a = begin(base, c, fn, NULL, ctx);
    uint64_t left_ms = 0;
    struct slice text;

    if (!a)
        return;
    text = get(s, &left_ms);
    if (text.ptr)
        claim_found(s, c, text, left_ms, &a->claim);
    else
        win(s, c, &a->claim);
}

/* ---- the rest of the interface ---- */

static void memory_renew(struct store *base, const struct claim *c, store_fn fn, void *ctx)
{
    struct answer *a = begin(base, c, NULL, fn, ctx);

    if (a)
        a->store = keep((struct memory_store *)base, c, false);
}

static void memory_fence(struct store *base, const struct claim *c, store_fn fn, void *ctx)
{
    struct answer *a = begin(base, c, NULL, fn, ctx);

    if (a)
        a->store = keep((struct memory_store *)base, c, true);
}

static void memory_mark_sent(struct store *base, const struct claim *c,
                             const struct sent_mark *mark, store_fn fn, void *ctx)
{
    struct memory_store *s = (struct memory_store *)base;
    struct answer *a = begin(base, c, NULL, fn, ctx);
    struct claim_value found;

    if (!a)
        return;
    claim_value_parse(get(s, NULL), &found);
    if (found.kind == CLAIM_KIND_SENT) {
        bool ours = slice_is(found.token, c->token);
        s->late_marks += !ours;
        a->store = ours ? STORE_DONE : STORE_LOST;
        return;
    }
    claim_write_sent(&s->value, slice_str(c->token), slice_str(c->fp), mark->sent_at_unix_ms,
                     mark->attempts, mark->recipients);
    a->store = set(s, MEMORY_TTL, true) ? STORE_DONE : STORE_UNAVAILABLE;
}

static void memory_mark_dead(struct store *base, const struct claim *c,
                             const struct dead_mark *mark, store_fn fn, void *ctx)
{
    struct memory_store *s = (struct memory_store *)base;
    struct answer *a = begin(base, c, NULL, fn, ctx);
    struct claim_value found;
    struct slice text;

    if (!a)
        return;
    text = get(s, NULL);
    claim_value_parse(text, &found);
    if (found.kind == CLAIM_KIND_DEAD && slice_is(found.token, c->token)) {
        a->store = STORE_DONE;
    } else if (text.ptr && !is_ours(&found, c)) {
        a->store = STORE_LOST;
    } else {
        claim_write_dead(&s->value, slice_str(c->token), slice_str(c->fp), mark->dead_at_unix_ms,
                         mark->reason, &c->record);
        a->store = set(s, MEMORY_TTL, false) ? STORE_DONE : STORE_UNAVAILABLE;
    }
}

static void memory_release(struct store *base, const struct claim *c, store_fn fn, void *ctx)
{
    struct memory_store *s = (struct memory_store *)base;
    struct answer *a = begin(base, c, NULL, fn, ctx);
    struct claim_value found;

    if (!a)
        return;
    claim_value_parse(get(s, NULL), &found);
    a->store = is_ours(&found, c) ? STORE_DONE : STORE_LOST;
    if (a->store == STORE_DONE)
        memory_table_delete(s->table, buf_slice(&s->key));
}

static void memory_state(const struct store *base, struct store_state *out)
{
    const struct memory_store *s = (const struct memory_store *)base;

    *out = (struct store_state){.up = true,
                                .records =
                                    (int64_t)memory_table_counted(s->table, loop_now_ms(s->loop)),
                                .unreadable = s->unreadable,
                                .late_marks = s->late_marks};
}

/* ---- life ---- */

static void on_sweep(void *ctx)
{
    struct memory_store *s = ctx;

    memory_table_sweep(s->table, loop_now_ms(s->loop));
    loop_timer_start(s->loop, &s->sweep_timer, SWEEP_MS);
}

static void on_delivered(void *ctx)
{
    (void)ctx; /* nothing to flush */
}

static void memory_destroy(struct store *base)
{
    struct memory_store *s = (struct memory_store *)base;

    answer_queue_cleanup(&s->answers);
    loop_timer_stop(s->loop, &s->sweep_timer);
    while (s->all) {
        struct memory_op *op = s->all;
        s->all = op->next_all;
        free(op);
    }
    memory_table_destroy(s->table);
    buf_cleanup(&s->key);
    buf_cleanup(&s->value);
    free(s);
}

struct memory_table *memory_store_table(struct store *s)
{
    return ((struct memory_store *)s)->table;
}

struct store *memory_store_new(struct loop *loop, const struct store_settings *settings,
                               struct error *err)
{
    static const struct store_ops ops = {.claim = memory_claim,
                                         .renew = memory_renew,
                                         .fence = memory_fence,
                                         .mark_sent = memory_mark_sent,
                                         .mark_dead = memory_mark_dead,
                                         .release = memory_release,
                                         .state = memory_state,
                                         .destroy = memory_destroy};
    struct memory_store *s;

    if (!store_settings_check(settings, err))
        return NULL;
    s = calloc(1, sizeof(*s));
    if (!s) {
        error_set(err, "out of memory");
        return NULL;
    }
    s->base.ops = &ops;
    s->loop = loop;
    s->lease_ms = settings->lease_ms;
    s->random = store_random_seed();
    answer_queue_init(&s->answers, loop, recycle_op, on_delivered, s);
    loop_timer_init(&s->sweep_timer, on_sweep, s);
    s->table = memory_table_new(settings->lease_ms, settings->ttl_ms, err);
    if (!s->table) {
        memory_destroy(&s->base);
        return NULL;
    }
    loop_timer_start(loop, &s->sweep_timer, SWEEP_MS);
    return &s->base;
}
