#include "delivery/lanes.h"

#include <stdint.h>
#include <stdlib.h>

struct lane {
    struct slice key; /* the first member's */
    uint64_t hash;
    struct lane_member *first, *last;
    struct lane *next; /* in its bucket */
};

struct lanes {
    struct lane **buckets;
    size_t buckets_len; /* a power of two */
    size_t count;
};

struct lanes *lanes_new(void)
{
    struct lanes *l = calloc(1, sizeof(*l));

    if (!l)
        return NULL;
    l->buckets_len = 1024;
    l->buckets = calloc(l->buckets_len, sizeof(struct lane *));
    if (!l->buckets) {
        free(l);
        return NULL;
    }
    return l;
}

void lanes_destroy(struct lanes *l)
{
    if (!l)
        return;
    for (size_t i = 0; i < l->buckets_len; i++)
        while (l->buckets[i]) {
            struct lane *next = l->buckets[i]->next;
            free(l->buckets[i]);
            l->buckets[i] = next;
        }
    free(l->buckets);
    free(l);
}

static uint64_t hash_of(struct slice key) /* FNV-1a, 64 bits */
{
    uint64_t hash = 0xcbf29ce484222325u;

    for (size_t i = 0; i < key.len; i++)
        hash = (hash ^ (unsigned char)key.ptr[i]) * 0x100000001b3u;
    return hash;
}

static struct lane **slot_of(struct lanes *l, uint64_t hash, struct slice key)
{
    struct lane **slot = &l->buckets[hash & (l->buckets_len - 1)];

    while (*slot && ((*slot)->hash != hash || !slice_equal((*slot)->key, key)))
        slot = &(*slot)->next;
    return slot;
}

static void grow(struct lanes *l)
{
    size_t len = l->buckets_len * 2;
    struct lane **buckets = calloc(len, sizeof(struct lane *));

    if (!buckets)
        return; /* slower, not wrong */
    for (size_t i = 0; i < l->buckets_len; i++)
        while (l->buckets[i]) {
            struct lane *lane = l->buckets[i];
            l->buckets[i] = lane->next;
            lane->next = buckets[lane->hash & (len - 1)];
            buckets[lane->hash & (len - 1)] = lane;
        }
    free(l->buckets);
    l->buckets = buckets;
    l->buckets_len = len;
}

static struct lane *find_or_add(struct lanes *l, struct slice key)
{
    uint64_t hash = hash_of(key);
    struct lane **slot = slot_of(l, hash, key);

    if (*slot)
        return *slot;
    if (l->count >= l->buckets_len) {
        grow(l);
        slot = slot_of(l, hash, key);
    }
    *slot = calloc(1, sizeof(**slot));
    if (!*slot)
        return NULL;
    (*slot)->key = key;
    (*slot)->hash = hash;
    l->count++;
    return *slot;
}

enum lane_entry lanes_enter(struct lanes *l, struct lane_member *m, struct slice key, void *owner)
{
    struct lane *lane = find_or_add(l, key);

    if (!lane)
        return LANE_NO_MEMORY;
    *m = (struct lane_member){.lane = lane, .key = key, .before = lane->last, .owner = owner};
    if (lane->last)
        lane->last->after = m;
    else
        lane->first = m;
    lane->last = m;
    return lane->first == m ? LANE_FIRST : LANE_BEHIND;
}

static void drop_lane(struct lanes *l, struct lane *lane)
{
    struct lane **slot = &l->buckets[lane->hash & (l->buckets_len - 1)];

    while (*slot != lane)
        slot = &(*slot)->next;
    *slot = lane->next;
    free(lane);
    l->count--;
}

void *lanes_leave(struct lanes *l, struct lane_member *m)
{
    struct lane *lane = m->lane;
    const bool was_first = lane && lane->first == m;

    if (!lane)
        return NULL;
    if (m->before)
        m->before->after = m->after;
    else
        lane->first = m->after;
    if (m->after)
        m->after->before = m->before;
    else
        lane->last = m->before;
    *m = (struct lane_member){0};
    if (!lane->first) {
        drop_lane(l, lane);
        return NULL;
    }
    lane->key = lane->first->key;
    return was_first ? lane->first->owner : NULL;
}

size_t lanes_count(const struct lanes *l)
{
    return l->count;
}
