#include "idempotency/store.h"

#include "idempotency/store_private.h"

void store_claim(struct store *s, const struct claim *c, claim_fn fn, void *ctx)
{
    s->ops->claim(s, c, fn, ctx);
}

void store_renew(struct store *s, const struct claim *c, store_fn fn, void *ctx)
{
    s->ops->renew(s, c, fn, ctx);
}

void store_fence(struct store *s, const struct claim *c, store_fn fn, void *ctx)
{
    s->ops->fence(s, c, fn, ctx);
}

void store_mark_sent(struct store *s, const struct claim *c, const struct sent_mark *mark,
                     store_fn fn, void *ctx)
{
    s->ops->mark_sent(s, c, mark, fn, ctx);
}

void store_mark_dead(struct store *s, const struct claim *c, const struct dead_mark *mark,
                     store_fn fn, void *ctx)
{
    s->ops->mark_dead(s, c, mark, fn, ctx);
}

void store_release(struct store *s, const struct claim *c, store_fn fn, void *ctx)
{
    s->ops->release(s, c, fn, ctx);
}

void store_state(const struct store *s, struct store_state *out)
{
    s->ops->state(s, out);
}

void store_destroy(struct store *s)
{
    if (s)
        s->ops->destroy(s);
}

bool store_settings_check(const struct store_settings *settings, struct error *err)
{
    if (!settings->lease_ms || !settings->timeout_ms)
        return error_set(err, "the idempotency lease and time-out must not be 0");
    /* A D lives for the TTL and must not vanish before its deadline, which is a lease away. */
    if (settings->ttl_ms <= settings->lease_ms)
        return error_set(err, "the idempotency TTL must be longer than the lease");
    return true;
}

void answer_queue_init(struct answer_queue *q, struct loop *loop,
                       void (*recycle)(void *ctx, struct answer *a), void (*delivered)(void *ctx),
                       void *ctx)
{
    *q =
        (struct answer_queue){.loop = loop, .recycle = recycle, .delivered = delivered, .ctx = ctx};
}

static void call_back(const struct answer *a)
{
    if (a->claim_fn)
        a->claim_fn(a->ctx, &a->claim);
    else
        a->store_fn(a->ctx, a->store);
}

static void deliver(void *ctx)
{
    struct answer_queue *q = ctx;
    /* What callbacks ask anew waits for the next tick, so that a store that is down can't hold the
     * loop. */
    const struct answer *last = q->tail;
    bool destroyed = false, more = true;

    q->destroyed = &destroyed;
    while (more && q->head) {
        struct answer *a = q->head;
        struct answer copy = *a;
        q->head = a->next;
        if (!q->head)
            q->tail = NULL;
        more = a != last;
        q->recycle(q->ctx, a);
        call_back(&copy);
        if (destroyed)
            return;
    }
    q->destroyed = NULL;
    q->delivered(q->ctx);
}

void answer_queue_push(struct answer_queue *q, struct answer *a)
{
    a->next = NULL;
    if (q->tail)
        q->tail->next = a;
    else
        q->head = a;
    q->tail = a;
    loop_defer(q->loop, &q->task, deliver, q);
}

void answer_queue_cleanup(struct answer_queue *q)
{
    if (q->destroyed)
        *q->destroyed = true;
    loop_undefer(q->loop, &q->task);
    q->head = q->tail = NULL;
}

void answer_refuse(claim_fn claim_callback, store_fn store_callback, void *ctx)
{
    const struct answer a = {.claim_fn = claim_callback,
                             .store_fn = store_callback,
                             .ctx = ctx,
                             .claim = {.verdict = CLAIM_UNAVAILABLE},
                             .store = STORE_UNAVAILABLE};

    call_back(&a);
}

uint64_t store_random(uint64_t *state)
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}
