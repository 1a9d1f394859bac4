#include "idempotency/redis_batch.h"

#include <stdio.h>
#include <stdlib.h>

/* Of each call, and of each key: see redis_scripts.h. */
enum { WORDS_PER_CALL = 7, WORDS_PER_STEP = 3 };

struct redis_batch {
    struct redis_request request; /* first: replies come back by it */
    struct redis_batches *owner;
    enum redis_script script;
    bool with_source;
    unsigned len;
    uint32_t hashes[REDIS_BATCH_MAX]; /* of the keys */
    struct redis_step *steps[REDIS_BATCH_MAX];
    struct redis_batch *next_free, *next_all;
};

/* FNV-1a. */
static uint32_t hash_of(struct slice key)
{
    uint32_t hash = 2166136261u;

    for (size_t i = 0; i < key.len; i++)
        hash = (hash ^ (unsigned char)key.ptr[i]) * 16777619u;
    return hash;
}

static struct redis_batch *take_batch(struct redis_batches *b, enum redis_script script)
{
    struct redis_batch *batch = b->free;

    if (batch) {
        b->free = batch->next_free;
    } else {
        batch = calloc(1, sizeof(*batch));
        if (!batch)
            return NULL;
        batch->owner = b;
        batch->next_all = b->all;
        b->all = batch;
    }
    batch->script = script;
    batch->with_source = false;
    batch->len = 0;
    return batch;
}

static void recycle(struct redis_batch *batch)
{
    redis_request_end(batch->owner->health->connection, &batch->request);
    batch->next_free = batch->owner->free;
    batch->owner->free = batch;
}

/* ---- answers ---- */

static void answer_all(struct redis_batch *batch, const struct redis_reply *reply)
{
    for (unsigned i = 0; i < batch->len; i++)
        batch->steps[i]->fn(batch->steps[i], reply);
    recycle(batch);
}

/* A digit a key. */
static void answer_each(struct redis_batch *batch, struct slice digits)
{
    for (unsigned i = 0; i < batch->len; i++) {
        const struct redis_reply reply = {.type = REPLY_INTEGER, .integer = digits.ptr[i] - '0'};
        batch->steps[i]->fn(batch->steps[i], &reply);
    }
    recycle(batch);
}

static void send_batch(struct redis_batch *batch);

static void on_error(struct redis_batch *batch, const struct redis_reply *reply)
{
    struct redis_health *h = batch->owner->health;

    if (!batch->with_source && redis_health_script_missing(h, reply->text)) {
        batch->with_source = true;
        send_batch(batch);
    } else {
        answer_all(batch, reply);
    }
}

static void on_reply(struct redis_request *r, const struct redis_reply *reply)
{
    static const struct redis_reply lost = {.type = REPLY_LOST};
    struct redis_batch *batch = (struct redis_batch *)r;

    if (reply->type == REPLY_ERROR)
        on_error(batch, reply);
    else if (reply->type == REPLY_TEXT && reply->text.len == batch->len)
        answer_each(batch, reply->text);
    else
        answer_all(batch, &lost); /* it was, or this is not Redis' protocol */
}

/* ---- sending ---- */

static void add_word(const char **argv, size_t *lens, int *argc, struct slice word)
{
    argv[*argc] = word.ptr;
    lens[(*argc)++] = word.len;
}

static bool send_words(struct redis_batch *batch)
{
    enum { MOST = WORDS_PER_CALL + WORDS_PER_STEP * REDIS_BATCH_MAX };
    const struct redis_health *h = batch->owner->health;
    const struct slice source = slice_str(redis_script_source(batch->script));
    const char *argv[MOST];
    size_t lens[MOST];
    char keys[16];
    int argc = 0;

    snprintf(keys, sizeof(keys), "%u", batch->len + 1);
    add_word(argv, lens, &argc, slice_str(batch->with_source ? "EVAL" : "EVALSHA"));
    add_word(argv, lens, &argc, batch->with_source ? source : slice_str(h->sha[batch->script]));
    add_word(argv, lens, &argc, slice_str(keys));
    add_word(argv, lens, &argc, slice_str(REDIS_RECORDS_KEY));
    for (unsigned i = 0; i < batch->len; i++)
        add_word(argv, lens, &argc, batch->steps[i]->key);
    add_word(argv, lens, &argc, slice_str(h->lease_text));
    add_word(argv, lens, &argc, slice_str(h->ttl_text));
    add_word(argv, lens, &argc, slice_str(h->bucket_text));
    for (unsigned i = 0; i < batch->len; i++) {
        add_word(argv, lens, &argc, batch->steps[i]->token);
        add_word(argv, lens, &argc, batch->steps[i]->value);
    }
    return redis_request_send(h->connection, &batch->request, argc, argv, lens);
}

static void send_batch(struct redis_batch *batch)
{
    static const struct redis_reply lost = {.type = REPLY_LOST};

    if (!batch->request.open)
        redis_request_begin(batch->owner->health->connection, &batch->request, on_reply);
    if (!send_words(batch))
        answer_all(batch, &lost);
}

void redis_batches_flush(struct redis_batches *b)
{
    for (unsigned i = 0; i < REDIS_SCRIPTS; i++) {
        struct redis_batch *batch = b->pending[i];
        b->pending[i] = NULL;
        if (batch)
            send_batch(batch);
    }
}

static void on_task(void *ctx)
{
    struct redis_batches *b = ctx;

    redis_batches_flush(b);
    redis_connection_flush(b->health->connection);
}

/* ---- adding ---- */

bool redis_batches_hold(const struct redis_batches *b, struct slice key)
{
    const uint32_t hash = hash_of(key);

    for (unsigned i = 0; i < REDIS_SCRIPTS; i++)
        for (unsigned n = 0; b->pending[i] && n < b->pending[i]->len; n++)
            if (b->pending[i]->hashes[n] == hash && slice_equal(b->pending[i]->steps[n]->key, key))
                return true;
    return false;
}

bool redis_batches_add(struct redis_batches *b, enum redis_script script, struct redis_step *step)
{
    struct redis_batch *batch = b->pending[script];

    if (!batch)
        batch = b->pending[script] = take_batch(b, script);
    if (!batch)
        return false;
    batch->hashes[batch->len] = hash_of(step->key);
    batch->steps[batch->len++] = step;
    if (batch->len == REDIS_BATCH_MAX)
        redis_batches_flush(b);
    else
        loop_defer(b->health->loop, &b->task, on_task, b);
    return true;
}

/* ---- life ---- */

void redis_batches_init(struct redis_batches *b, struct redis_health *health)
{
    *b = (struct redis_batches){.health = health};
}

void redis_batches_cleanup(struct redis_batches *b)
{
    if (!b->health)
        return;
    loop_undefer(b->health->loop, &b->task);
    while (b->all) {
        struct redis_batch *batch = b->all;
        b->all = batch->next_all;
        free(batch);
    }
}
