#include "producer/direct.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "delivery/delivery_settings.h"
#include "delivery/pipeline.h"

enum {
    /* Without Redis the process itself remembers what it sent, for this long. */
    MEMORY_TTL_MS = 600000,
    /* Events of one slot are given up together when Redis stays away. */
    SLOT_MS = 250
};

struct direct {
    struct loop *loop;
    struct direct_settings settings;
    direct_fn fn;
    void *ctx;
    struct metrics metrics;
    struct store *store;
    struct transport *transport;
    struct pipeline *normal;
    struct pipeline *strict; /* fails closed; `normal` itself unless that one fails open */
    size_t under_way;

    /* Events are numbered by slots, which go on only while Redis is away: what came in the same
     * slot has waited for it equally long. */
    uint64_t slot, oldest_slot; /* oldest: that can still hold events */
    uint64_t outage_slot;       /* the one in which the outage began … */
    uint64_t outage_since_ms;   /* … and when; 0: Redis is there */
    struct loop_timer patience_timer;
};

/* ---- results ---- */

static void run_ack(void *ctx)
{
    struct direct_item *item = ctx;

    item->ack(item->ack_ctx, true, "");
}

/* There is no dead-letter topic here: the caller is told instead, and that is acknowledged. */
static void on_bury(void *ctx, const struct dead_letter *letter, dlq_fn fn, void *fn_ctx)
{
    struct direct *d = ctx;
    struct direct_item *item = letter->record->cookie;

    snprintf(item->error, sizeof(item->error), "%s: %s", letter->reason, letter->error);
    item->ack = fn;
    item->ack_ctx = fn_ctx;
    loop_defer(d->loop, &item->ack_task, run_ack, item);
}

static void on_settled(void *ctx, const struct record *record, enum pipeline_result result,
                       bool in_doubt)
{
    static const enum direct_result results[] = {[PIPELINE_SENT] = DIRECT_SENT,
                                                 [PIPELINE_DUPLICATE] = DIRECT_SENT_BEFORE,
                                                 [PIPELINE_DEAD] = DIRECT_FAILED,
                                                 [PIPELINE_ABANDONED] = DIRECT_FAILED};
    struct direct *d = ctx;
    struct direct_item *item = record->cookie;
    enum direct_result mine = results[result];
    struct store_state store;

    d->under_way--;
    if (mine == DIRECT_FAILED && in_doubt)
        mine = DIRECT_UNKNOWN;
    if (result == PIPELINE_DEAD && !item->error[0])
        snprintf(item->error, sizeof(item->error), "its dead letter is written already");
    store_state(d->store, &store);
    if (result == PIPELINE_ABANDONED)
        snprintf(item->error, sizeof(item->error), "%s%s",
                 store.up ? "given up before it was sent" : "Redis is out of reach: ",
                 store.up ? "" : store.error);
    d->fn(d->ctx, item, mine);
}

static void on_record_done(void *ctx, int32_t partition, uint64_t generation, int64_t offset)
{
    (void)ctx;
    (void)partition;
    (void)generation;
    (void)offset;
}

static void on_nothing(void *ctx)
{
    (void)ctx;
}

/* ---- patience with a Redis that is away ---- */

/* Those before `until`, and before the one that events still come to. */
static void give_up_slots(struct direct *d, uint64_t until)
{
    for (; d->oldest_slot < until && d->oldest_slot < d->slot; d->oldest_slot++) {
        pipeline_revoke(d->strict, -1, d->oldest_slot);
        if (d->normal != d->strict && !d->settings.config->fail_open)
            pipeline_revoke(d->normal, -1, d->oldest_slot);
    }
}

static void start_patience_timer(struct direct *d)
{
    if (!loop_timer_running(&d->patience_timer))
        loop_timer_start(d->loop, &d->patience_timer, SLOT_MS);
}

static void look_at_outage(struct direct *d)
{
    const uint64_t now_ms = loop_now_ms(d->loop), patience_ms = d->settings.patience_ms;
    uint64_t lasts_ms;

    if (!d->outage_since_ms) {
        d->outage_since_ms = now_ms;
        d->outage_slot = d->slot;
    }
    lasts_ms = now_ms - d->outage_since_ms;
    d->slot = d->outage_slot + lasts_ms / SLOT_MS;
    if (lasts_ms >= patience_ms)
        give_up_slots(d, d->outage_slot + 1 + (lasts_ms - patience_ms) / SLOT_MS);
}

static void on_patience_timer(void *ctx)
{
    struct direct *d = ctx;
    struct store_state store;

    store_state(d->store, &store);
    if (store.up)
        d->outage_since_ms = 0;
    else
        look_at_outage(d);
    if (d->under_way)
        start_patience_timer(d);
    else
        d->outage_since_ms = 0;
}

/* ---- sending ---- */

void direct_send(struct direct *d, struct direct_item *item, struct slice key, struct slice json,
                 bool strict)
{
    /* Kafka's copy, where there is one, is the same publication: a dead letter of that one is also
     * this one's end. Without a copy it is not, and a new attempt is due. */
    const struct record record = {
        .topic = slice_str(strict ? d->settings.config->kafka_topic_events : ""),
        .partition = -1,
        .offset = -1,
        .timestamp_unix_ms = item->given_unix_ms,
        .key = key,
        .value = json,
        .generation = d->slot,
        .cookie = item};

    item->direct = d;
    if (d->under_way++ == 0)
        d->oldest_slot = d->slot;
    start_patience_timer(d);
    pipeline_take(strict ? d->strict : d->normal, &record);
}

void direct_give_up(struct direct *d)
{
    pipeline_drain(d->normal);
    pipeline_cancel(d->normal);
    if (d->strict != d->normal) {
        pipeline_drain(d->strict);
        pipeline_cancel(d->strict);
    }
}

/* ---- making the parts ---- */

static void on_parts_changed(void *ctx)
{
    struct direct *d = ctx;

    if (d->normal)
        pipeline_parts_changed(d->normal);
    if (d->strict && d->strict != d->normal)
        pipeline_parts_changed(d->strict);
}

static bool start_store(struct direct *d, struct error *err)
{
    const struct config *c = d->settings.config;
    struct store_settings settings = delivery_store_settings(c);

    settings.changed = on_parts_changed;
    settings.changed_ctx = d;
    if (!c->redis_given)
        settings.ttl_ms = MEMORY_TTL_MS;
    if (!c->redis_given)
        log_warn("Neither REDIS_HOST nor REDIS_URL is set: mails that are sent directly are "
                 "remembered by this process only, and an event that Kafka may have taken is never "
                 "sent directly");
    d->store = c->redis_given ? redis_store_new(d->loop, &settings, err)
                              : memory_store_new(d->loop, &settings, err);
    return d->store != NULL;
}

static bool start_transport(struct direct *d, struct error *err)
{
    const struct config *c = d->settings.config;
    struct smtp_settings settings = delivery_smtp_settings(c, d->settings.host);

    settings.changed = on_parts_changed;
    settings.changed_ctx = d;
    d->transport = c->mode == CONFIG_MODE_SMTP ? smtp_transport_new(d->loop, &settings, err)
                                               : log_transport_new(d->loop, err);
    return d->transport != NULL;
}

static struct pipeline *new_pipeline(struct direct *d, bool fail_open, struct error *err)
{
    static const struct pipeline_callbacks callbacks = {.settled = on_settled,
                                                        .done = on_record_done,
                                                        .abandoned = on_record_done,
                                                        .room_again = on_nothing,
                                                        .empty = on_nothing};
    const struct config *c = d->settings.config;
    struct machine_policy policy = delivery_policy(c);
    struct pipeline_settings settings = {
        .message = {.from = d->settings.from},
        .max_event_bytes = c->max_event_bytes,
        .max_in_flight = SIZE_MAX, /* the producer's own queue is the one that is bounded */
        .max_in_flight_bytes = SIZE_MAX,
        .max_active = delivery_max_active(c),
    };
    const struct pipeline_parts parts = {.loop = d->loop,
                                         .store = d->store,
                                         .transport = d->transport,
                                         .bury = on_bury,
                                         .bury_ctx = d,
                                         .metrics = &d->metrics};

    policy.fail_open = fail_open;
    policy.keep_doubt = true;
    settings.policy = policy;
    return pipeline_new(&settings, &parts, &callbacks, d, err);
}

static bool start_pipelines(struct direct *d, struct error *err)
{
    d->normal = new_pipeline(d, d->settings.config->fail_open, err);
    d->strict = d->settings.config->fail_open ? new_pipeline(d, false, err) : d->normal;
    return d->normal && d->strict;
}

struct direct *direct_new(struct loop *loop, const struct direct_settings *settings, direct_fn fn,
                          void *ctx, struct error *err)
{
    struct direct *d = calloc(1, sizeof(*d));

    if (!d) {
        error_set(err, "out of memory");
        return NULL;
    }
    d->loop = loop;
    d->settings = *settings;
    d->fn = fn;
    d->ctx = ctx;
    metrics_init(&d->metrics);
    loop_timer_init(&d->patience_timer, on_patience_timer, d);
    if (start_store(d, err) && start_transport(d, err) && start_pipelines(d, err))
        return d;
    direct_destroy(d);
    return NULL;
}

void direct_destroy(struct direct *d)
{
    if (!d)
        return;
    loop_timer_stop(d->loop, &d->patience_timer);
    transport_destroy(d->transport);
    store_destroy(d->store);
    pipeline_destroy(d->normal);
    if (d->strict != d->normal)
        pipeline_destroy(d->strict);
    free(d);
}
