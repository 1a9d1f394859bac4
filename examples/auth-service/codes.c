#include "codes.h"

#include <search.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

/* A balanced tree finds addresses: unlike a hash table it has no worst case that a stranger could
 * choose. The list holds the same entries by their latest request, so that those to forget are at
 * its head. */
struct holder {
    const char *address; /* first: the tree compares entries by it */
    TAILQ_ENTRY(holder) by_age;
    char code[CODES_SIZE]; /* "": none is valid */
    unsigned tries_left;
    int64_t expires_ms;
    int64_t latest_ms;
    unsigned requests; /* so far, at most per_address of them below */
    unsigned oldest;   /* where in the ring the next one goes */
    int64_t requested_ms[];
};

struct codes {
    struct codes_limits limits;
    void *tree;
    TAILQ_HEAD(holders, holder) holders;
    size_t count;
};

static int compare(const void *a, const void *b)
{
    return strcmp(((const struct holder *)a)->address, ((const struct holder *)b)->address);
}

struct codes *codes_new(const struct codes_limits *limits)
{
    struct codes *c = calloc(1, sizeof(*c));
    if (!c)
        return NULL;
    c->limits = *limits;
    TAILQ_INIT(&c->holders);
    return c;
}

static void clear_code(struct holder *e)
{
    explicit_bzero(e->code, sizeof(e->code));
}

static void forget(struct codes *c, struct holder *e)
{
    tdelete(e, &c->tree, compare);
    TAILQ_REMOVE(&c->holders, e, by_age);
    c->count--;
    clear_code(e);
    free((char *)e->address);
    free(e);
}

void codes_destroy(struct codes *c)
{
    if (!c)
        return;
    while (!TAILQ_EMPTY(&c->holders))
        forget(c, TAILQ_FIRST(&c->holders));
    free(c);
}

static void forget_old(struct codes *c, int64_t now_ms)
{
    int64_t matters_ms =
        c->limits.window_ms > c->limits.lifetime_ms ? c->limits.window_ms : c->limits.lifetime_ms;
    struct holder *e;
    while ((e = TAILQ_FIRST(&c->holders)) && now_ms - e->latest_ms >= matters_ms)
        forget(c, e);
}

static struct holder *find(const struct codes *c, const char *address)
{
    struct holder key = {.address = address};
    struct holder **node = tfind(&key, &c->tree, compare);
    return node ? *node : NULL;
}

static struct holder *add(struct codes *c, const char *address)
{
    struct holder *e = calloc(1, sizeof(*e) + c->limits.per_address * sizeof(e->requested_ms[0]));
    if (!e)
        return NULL;
    e->address = strdup(address);
    if (!e->address || !tsearch(e, &c->tree, compare)) {
        free((char *)e->address);
        free(e);
        return NULL;
    }
    TAILQ_INSERT_TAIL(&c->holders, e, by_age);
    c->count++;
    return e;
}

bool codes_make(uint32_t random, char code[CODES_SIZE])
{
    const uint32_t codes = 1000000;
    /* 2^32 is no multiple of a million: the rest beyond the last whole million is not used. */
    if (random >= UINT32_MAX - UINT32_MAX % codes)
        return false;
    snprintf(code, CODES_SIZE, "%0*u", CODES_DIGITS, random % codes);
    return true;
}

enum codes_verdict codes_check(struct codes *c, const char *address, int64_t now_ms,
                               int64_t *wait_ms)
{
    *wait_ms = 0;
    forget_old(c, now_ms);
    const struct holder *e = find(c, address);
    if (e) {
        int64_t since_ms = now_ms - e->requested_ms[e->oldest];
        if (e->requests < c->limits.per_address || since_ms >= c->limits.window_ms)
            return CODES_ALLOWED;
        *wait_ms = c->limits.window_ms - since_ms;
        return CODES_TOO_MANY;
    }
    if (c->count < c->limits.max_addresses)
        return CODES_ALLOWED;
    *wait_ms = c->limits.window_ms;
    return CODES_FULL;
}

bool codes_put(struct codes *c, const char *address, const char code[CODES_SIZE], int64_t now_ms)
{
    struct holder *e = find(c, address);
    if (!e && !(e = add(c, address)))
        return false;
    memcpy(e->code, code, CODES_SIZE);
    e->tries_left = c->limits.max_tries;
    e->expires_ms = now_ms + c->limits.lifetime_ms;
    e->latest_ms = now_ms;
    e->requested_ms[e->oldest] = now_ms;
    e->oldest = (e->oldest + 1) % c->limits.per_address;
    if (e->requests < c->limits.per_address)
        e->requests++;
    TAILQ_REMOVE(&c->holders, e, by_age);
    TAILQ_INSERT_TAIL(&c->holders, e, by_age);
    return true;
}

/* Takes the same time wherever the first difference is. */
static bool same_code(const char *a, const char *b)
{
    unsigned char difference = 0;
    for (size_t i = 0; i < CODES_DIGITS; i++)
        difference |= (unsigned char)(a[i] ^ b[i]);
    return difference == 0;
}

bool codes_verify(struct codes *c, const char *address, const char *code, int64_t now_ms)
{
    struct holder *e = find(c, address);
    if (!e || !e->code[0] || strlen(code) != CODES_DIGITS)
        return false;
    bool expired = now_ms >= e->expires_ms;
    bool good = !expired && same_code(e->code, code);
    if (good || expired || --e->tries_left == 0)
        clear_code(e);
    return good;
}

size_t codes_addresses(const struct codes *c)
{
    return c->count;
}
