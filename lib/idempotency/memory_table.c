#include "idempotency/memory_table.h"

#include <stdlib.h>

#include "idempotency/store_private.h"

enum { FIRST_SLOTS = 256 };

struct entry {
    struct entry *next_in_slot;
    struct entry *older, *younger; /* of the same lifetime */
    uint64_t hash, expires_ms;
    enum memory_lifetime lifetime;
    bool counted;
    size_t key_len, value_len;
    char bytes[]; /* key, value */
};

struct lifetime {
    uint64_t length_ms;
    struct entry *oldest, *youngest;
};

struct memory_table {
    struct entry **slots; /* a power of two of them */
    size_t slots_len, size, counted;
    uint64_t seed;
    struct lifetime lifetimes[MEMORY_LIFETIMES];
};

/* FNV-1a from a random start. */
static uint64_t hash_key(const struct memory_table *t, struct slice key)
{
    uint64_t hash = t->seed;

    for (size_t i = 0; i < key.len; i++)
        hash = (hash ^ (unsigned char)key.ptr[i]) * 0x100000001b3u;
    return hash ^ hash >> 32;
}

static struct entry **find(const struct memory_table *t, struct slice key, uint64_t hash)
{
    struct entry **link = &t->slots[hash & (t->slots_len - 1)];

    while (*link &&
           !((*link)->hash == hash && slice_equal(slice_of((*link)->bytes, (*link)->key_len), key)))
        link = &(*link)->next_in_slot;
    return link;
}

static void put_last(struct memory_table *t, struct entry *e)
{
    struct lifetime *l = &t->lifetimes[e->lifetime];

    e->younger = NULL;
    e->older = l->youngest;
    *(l->youngest ? &l->youngest->younger : &l->oldest) = e;
    l->youngest = e;
}

static void take_out(struct memory_table *t, struct entry **link)
{
    struct entry *e = *link;
    struct lifetime *l = &t->lifetimes[e->lifetime];

    *link = e->next_in_slot;
    *(e->older ? &e->older->younger : &l->oldest) = e->younger;
    *(e->younger ? &e->younger->older : &l->youngest) = e->older;
    t->size--;
    t->counted -= e->counted;
    free(e);
}

struct slice memory_table_get(struct memory_table *t, struct slice key, uint64_t now_ms,
                              uint64_t *left_ms)
{
    struct entry **link = find(t, key, hash_key(t, key));
    struct entry *e = *link;

    if (e && e->expires_ms <= now_ms) {
        take_out(t, link);
        e = NULL;
    }
    if (!e)
        return slice_of(NULL, 0);
    if (left_ms)
        *left_ms = e->expires_ms - now_ms;
    return slice_of(e->bytes + e->key_len, e->value_len);
}

/* A table that cannot grow works on, only slower. */
static void grow(struct memory_table *t)
{
    size_t slots_len = t->slots_len * 2;
    struct entry **slots = calloc(slots_len, sizeof(struct entry *));

    if (!slots)
        return;
    for (size_t i = 0; i < t->slots_len; i++)
        for (struct entry *e = t->slots[i], *next; e; e = next) {
            struct entry **slot = &slots[e->hash & (slots_len - 1)];
            next = e->next_in_slot;
            e->next_in_slot = *slot;
            *slot = e;
        }
    free(t->slots);
    t->slots = slots;
    t->slots_len = slots_len;
}

bool memory_table_set(struct memory_table *t, struct slice key, struct slice value,
                      enum memory_lifetime lifetime, bool counted, uint64_t now_ms)
{
    struct entry *e = malloc(sizeof(*e) + key.len + value.len);
    struct entry **link;

    if (!e)
        return false;
    *e = (struct entry){.hash = hash_key(t, key),
                        .expires_ms = now_ms + t->lifetimes[lifetime].length_ms,
                        .lifetime = lifetime,
                        .counted = counted,
                        .key_len = key.len,
                        .value_len = value.len};
    memcpy(e->bytes, key.ptr, key.len);
    if (value.len)
        memcpy(e->bytes + key.len, value.ptr, value.len);
    link = find(t, key, e->hash);
    if (*link)
        take_out(t, link); /* only now: value may point into it */
    else if (t->size >= t->slots_len)
        grow(t);
    link = &t->slots[e->hash & (t->slots_len - 1)];
    e->next_in_slot = *link;
    *link = e;
    put_last(t, e);
    t->size++;
    t->counted += counted;
    return true;
}

void memory_table_delete(struct memory_table *t, struct slice key)
{
    struct entry **link = find(t, key, hash_key(t, key));

    if (*link)
        take_out(t, link);
}

void memory_table_sweep(struct memory_table *t, uint64_t now_ms)
{
    for (int i = 0; i < MEMORY_LIFETIMES; i++) {
        struct entry *e;
        while ((e = t->lifetimes[i].oldest) && e->expires_ms <= now_ms)
            take_out(t, find(t, slice_of(e->bytes, e->key_len), e->hash));
    }
}

size_t memory_table_size(const struct memory_table *t)
{
    return t->size;
}

size_t memory_table_counted(const struct memory_table *t, uint64_t now_ms)
{
    size_t counted = t->counted;

    for (int i = 0; i < MEMORY_LIFETIMES; i++)
        for (const struct entry *e = t->lifetimes[i].oldest; e && e->expires_ms <= now_ms;
             e = e->younger)
            counted -= e->counted;
    return counted;
}

struct memory_table *memory_table_new(uint64_t lease_ms, uint64_t ttl_ms, struct error *err)
{
    struct memory_table *t = calloc(1, sizeof(*t));

    if (t)
        t->slots = calloc(FIRST_SLOTS, sizeof(struct entry *));
    if (!t || !t->slots) {
        free(t);
        error_set(err, "out of memory");
        return NULL;
    }
    t->slots_len = FIRST_SLOTS;
    t->seed = store_random_seed();
    t->lifetimes[MEMORY_LEASE].length_ms = lease_ms;
    t->lifetimes[MEMORY_TTL].length_ms = ttl_ms;
    return t;
}

void memory_table_destroy(struct memory_table *t)
{
    if (!t)
        return;
    for (int i = 0; i < MEMORY_LIFETIMES; i++)
        for (struct entry *e = t->lifetimes[i].oldest, *next; e; e = next) {
            next = e->younger;
            free(e);
        }
    free(t->slots);
    free(t);
}
