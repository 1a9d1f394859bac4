#include "idempotency/redis_connection.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "idempotency/redis_resolve.h"
#include "idempotency/redis_tls.h"
#include "idempotency/store_private.h"

#include <hiredis/async.h>
#include <hiredis/hiredis.h>

enum { MIN_BACKOFF_MS = 50, MAX_BACKOFF_MS = 2000, CONNECT_TIMEOUT_MS = 5000, READ_GRACE = 10 };

struct redis_connection {
    struct loop *loop;
    struct redis_connection_settings settings;
    struct redis_tls *tls;

    struct redis_resolve resolve;
    struct redis_addresses addresses;
    unsigned address_next;           /* the one to try next */
    struct loop_timer attempt_timer; /* the next attempt, or the running one's deadline */
    uint64_t backoff_ms, random;

    redisAsyncContext
        *ac; /* NULL while there is none; freed by hiredis or by free_task, see on_cleanup */
    struct loop_fd watcher;
    bool connected; /* TCP is */
    bool adding;    /* a command is being added: write it with the others of this tick */
    bool dropping, destroying;
    char reason[256]; /* why it is dropped */
    struct loop_task write_task, free_task;

    struct redis_request *oldest,
        *newest; /* open ones by deadline, which is the order they were begun in */
    struct loop_timer deadline_timer;
    unsigned grace;
};

/* ---- hiredis' hooks ---- */

static void want(struct redis_connection *c, uint32_t events)
{
    if (c->watcher.active && !loop_fd_change(c->loop, &c->watcher, events))
        redis_connection_drop(c, "epoll_ctl failed");
}

static void add_read(void *ctx)
{
    struct redis_connection *c = ctx;

    want(c, c->watcher.events | EPOLLIN);
}

static void write_now(void *ctx)
{
    struct redis_connection *c = ctx;

    if (c->ac && c->connected)
        redisAsyncHandleWrite(c->ac);
}

static void add_write(void *ctx)
{
    struct redis_connection *c = ctx;

    /* Before it is connected only epoll can tell when: hiredis takes any write event for a success.
     */
    if (c->adding && c->connected)
        loop_defer(c->loop, &c->write_task, write_now, c);
    else
        want(c, c->watcher.events | EPOLLOUT);
}

static void del_write(void *ctx)
{
    struct redis_connection *c = ctx;

    want(c, c->watcher.events & ~(uint32_t)EPOLLOUT);
}

static void lose(struct redis_connection *c, const char *reason);

/* The one place where every connection ends, failed ones included, however it came about: pending
 * commands have had their NULL replies, and hiredis frees ac right after. */
static void on_cleanup(void *ctx)
{
    struct redis_connection *c = ctx;
    char reason[sizeof(c->reason)];

    if (c->reason[0])
        snprintf(reason, sizeof(reason), "%s", c->reason);
    else if (!c->tls || !redis_tls_explain(c->tls, reason, sizeof(reason)))
        snprintf(reason, sizeof(reason), "%s",
                 c->ac->err && c->ac->errstr ? c->ac->errstr : "the connection was closed");
    loop_fd_remove(c->loop, &c->watcher);
    loop_undefer(c->loop, &c->write_task);
    loop_undefer(c->loop, &c->free_task);
    loop_timer_stop(c->loop, &c->attempt_timer);
    c->ac = NULL;
    if (!c->destroying)
        lose(c, reason);
}

static void on_connect(const redisAsyncContext *ac, int status)
{
    struct redis_connection *c = ac->data;
    const int on = 1;

    if (status != REDIS_OK || c->destroying)
        return;                                                            /* on_cleanup follows */
    (void)setsockopt(ac->c.fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)); /* only for speed */
    c->connected = true;
    loop_timer_stop(c->loop, &c->attempt_timer);
    c->settings.on_open(c->settings.ctx);
}

static void on_event(void *ctx, uint32_t events)
{
    struct redis_connection *c = ctx;

    if (events & (EPOLLIN | EPOLLERR | EPOLLHUP))
        redisAsyncHandleRead(c->ac);
    if (c->ac && (events & EPOLLOUT))
        redisAsyncHandleWrite(c->ac);
}

/* ---- connecting ---- */

static void free_context(void *ctx)
{
    struct redis_connection *c = ctx;

    if (c->ac)
        redisAsyncFree(c->ac); /* ends in on_cleanup */
}

void redis_connection_drop(struct redis_connection *c, const char *reason)
{
    if (!c->ac || c->dropping)
        return;
    c->dropping = true;
    snprintf(c->reason, sizeof(c->reason), "%s", reason);
    loop_defer(c->loop, &c->free_task, free_context, c); /* maybe we are inside hiredis */
}

/* hiredis only notes what follows here; it touches no watcher before there is one. */
static bool begin_context(struct redis_connection *c, const char *address, struct error *err)
{
    redisAsyncContext *ac = redisAsyncConnect(address, (int)c->settings.port);

    if (!ac)
        return error_set(err, "out of memory");
    if (ac->err) {
        error_set(err, "%s", ac->errstr);
        goto failed;
    }
    c->watcher = (struct loop_fd){0};
    if (!loop_fd_add(c->loop, &c->watcher, ac->c.fd, EPOLLOUT, on_event, c, err))
        goto failed;
    if (c->tls && !redis_tls_start(c->tls, &ac->c, c->settings.host, err)) {
        loop_fd_remove(c->loop, &c->watcher);
        goto failed;
    }
    c->ac = ac;
    c->connected = c->dropping = false;
    c->reason[0] = '\0';
    ac->data = ac->ev.data = c;
    ac->ev.addRead = add_read;
    ac->ev.addWrite = add_write;
    ac->ev.delWrite = del_write;
    ac->ev.cleanup = on_cleanup;
    (void)redisAsyncSetConnectCallback(ac, on_connect); /* fails only where one is set */
    return true;

failed:
    redisAsyncFree(ac);
    return false;
}

static void lose(struct redis_connection *c, const char *reason)
{
    uint64_t delay_ms = c->backoff_ms / 2 + store_random(&c->random) % (c->backoff_ms / 2 + 1);
    char text[320];

    if (!c->connected && c->address_next < c->addresses.count) {
        loop_timer_start(c->loop, &c->attempt_timer, 0);
        return;
    }
    c->addresses.count = c->address_next = 0; /* the name may mean another server next time */
    c->backoff_ms = c->backoff_ms * 2 > MAX_BACKOFF_MS ? MAX_BACKOFF_MS : c->backoff_ms * 2;
    loop_timer_start(c->loop, &c->attempt_timer, delay_ms);
    if (c->connected)
        snprintf(text, sizeof(text), "%s", reason);
    else
        snprintf(text, sizeof(text), "cannot connect: %s", reason);
    c->connected = false;
    c->settings.on_lost(c->settings.ctx, text);
}

static void connect_next(struct redis_connection *c)
{
    struct error err = {0};

    if (begin_context(c, c->addresses.text[c->address_next++], &err))
        loop_timer_start(c->loop, &c->attempt_timer, CONNECT_TIMEOUT_MS);
    else
        lose(c, err.text);
}

static void on_resolved(void *ctx, const struct redis_addresses *found, const char *error)
{
    struct redis_connection *c = ctx;

    if (!found->count) {
        lose(c, error);
        return;
    }
    c->addresses = *found;
    c->address_next = 0;
    connect_next(c);
}

static void attempt(struct redis_connection *c)
{
    struct error err = {0};

    if (c->address_next < c->addresses.count ||
        redis_resolve_numeric(c->settings.host, &c->addresses))
        connect_next(c);
    else if (!redis_resolve_start(&c->resolve, c->loop, c->settings.host, on_resolved, c, &err))
        lose(c, err.text);
}

static void on_attempt_timer(void *ctx)
{
    struct redis_connection *c = ctx;

    if (c->ac)
        redis_connection_drop(c, "no answer to the connection attempt");
    else
        attempt(c);
}

/* ---- requests ---- */

/* The loop reads before it looks at timers, but hiredis reads 16 KB at a time: after a pause of
 * ours, replies that arrived long ago can still be waiting, and must not count as late. */
static bool replies_wait(struct redis_connection *c)
{
    int bytes = 0;

    return c->ac && c->grace < READ_GRACE && ioctl(c->ac->c.fd, FIONREAD, &bytes) == 0 && bytes > 0;
}

static void on_deadline(void *ctx)
{
    struct redis_connection *c = ctx;
    uint64_t now_ms = loop_now_ms(c->loop);
    char text[64];

    if (!c->oldest)
        return;
    if (now_ms < c->oldest->deadline_ms) {
        c->grace = 0;
        loop_timer_start(c->loop, &c->deadline_timer, c->oldest->deadline_ms - now_ms);
    } else if (replies_wait(c)) {
        c->grace++;
        loop_timer_start(c->loop, &c->deadline_timer, 0);
    } else {
        c->grace = 0;
        snprintf(text, sizeof(text), "no answer within %llu ms",
                 (unsigned long long)c->settings.timeout_ms);
        redis_connection_drop(c, text);
    }
}

void redis_request_begin(struct redis_connection *c, struct redis_request *r, redis_reply_fn fn)
{
    r->fn = fn;
    r->deadline_ms = loop_now_ms(c->loop) + c->settings.timeout_ms;
    r->open = true;
    r->after = NULL;
    r->before = c->newest;
    if (c->newest)
        c->newest->after = r;
    else
        c->oldest = r;
    c->newest = r;
    if (!loop_timer_running(&c->deadline_timer))
        loop_timer_start(c->loop, &c->deadline_timer, c->settings.timeout_ms);
}

void redis_request_end(struct redis_connection *c, struct redis_request *r)
{
    if (!r->open)
        return;
    r->open = false;
    *(r->before ? &r->before->after : &c->oldest) = r->after;
    *(r->after ? &r->after->before : &c->newest) = r->before;
    r->before = r->after = NULL;
}

static struct redis_reply reply_of(const redisReply *raw)
{
    struct redis_reply reply = {.type = REPLY_OTHER};

    if (!raw) {
        reply.type = REPLY_LOST;
        return reply;
    }
    switch (raw->type) {
    case REDIS_REPLY_STRING:
    case REDIS_REPLY_STATUS: reply.type = REPLY_TEXT; break;
    case REDIS_REPLY_ERROR: reply.type = REPLY_ERROR; break;
    case REDIS_REPLY_NIL: reply.type = REPLY_NIL; break;
    case REDIS_REPLY_INTEGER: reply.type = REPLY_INTEGER; break;
    default: return reply;
    }
    if (reply.type == REPLY_TEXT || reply.type == REPLY_ERROR)
        reply.text = slice_of(raw->str, raw->len);
    reply.integer = raw->integer;
    return reply;
}

static void on_reply(redisAsyncContext *ac, void *raw, void *privdata)
{
    struct redis_connection *c = ac->data;
    struct redis_request *r = privdata;
    struct redis_reply reply = reply_of(raw);

    if (!c->destroying)
        r->fn(r, &reply);
}

bool redis_request_send(struct redis_connection *c, struct redis_request *r, int argc,
                        const char **argv, const size_t *lens)
{
    int rc;

    if (!c->ac || !c->connected || c->dropping)
        return false;
    c->adding = true;
    rc = redisAsyncCommandArgv(c->ac, on_reply, r, argc, argv, lens);
    c->adding = false;
    return rc == REDIS_OK;
}

void redis_connection_flush(struct redis_connection *c)
{
    if (!c->write_task.queued)
        return;
    loop_undefer(c->loop, &c->write_task);
    write_now(c);
}

void redis_connection_settle(struct redis_connection *c)
{
    c->backoff_ms = MIN_BACKOFF_MS;
}

/* ---- life ---- */

struct redis_connection *redis_connection_new(struct loop *loop,
                                              const struct redis_connection_settings *settings,
                                              struct error *err)
{
    struct redis_connection *c = calloc(1, sizeof(*c));

    if (!c) {
        error_set(err, "out of memory");
        return NULL;
    }
    c->loop = loop;
    c->settings = *settings;
    c->backoff_ms = MIN_BACKOFF_MS;
    c->random = store_random_seed();
    loop_timer_init(&c->attempt_timer, on_attempt_timer, c);
    loop_timer_init(&c->deadline_timer, on_deadline, c);
    if (settings->tls) {
        c->tls = redis_tls_new(err);
        if (!c->tls) {
            redis_connection_destroy(c);
            return NULL;
        }
    }
    loop_timer_start(loop, &c->attempt_timer, 0);
    return c;
}

void redis_connection_destroy(struct redis_connection *c)
{
    if (!c)
        return;
    c->destroying = true;
    redis_resolve_cancel(&c->resolve);
    free_context(c);
    loop_timer_stop(c->loop, &c->attempt_timer);
    loop_timer_stop(c->loop, &c->deadline_timer);
    redis_tls_destroy(c->tls);
    free(c);
}
