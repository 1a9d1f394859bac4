#include "idempotency/redis_health.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "idempotency/store_private.h"

enum {
    REFRESH_MS = 1000,
    POLICY_SECONDS = 30,
    /* Then the name may mean another server by now (a failover), or AUTH is wanted by now. */
    MAX_REFUSALS = 5,
    MAX_BUCKETS = 1440
};

/* ---- state ---- */

static void tell_changed(void *ctx)
{
    struct redis_health *h = ctx;

    h->settings->changed(h->settings->changed_ctx);
}

static void log_condition(const struct redis_health *h)
{
    char server[300];

    snprintf(server, sizeof(server), "%s:%u", h->settings->host, h->settings->port);
    if (h->condition == REDIS_UP)
        log_info("Redis connected", LOG_STR("redis", server), LOG_STR("version", h->version));
    else if (h->condition == REDIS_REFUSED)
        log_warn("Redis refuses to work", LOG_STR("redis", server), LOG_STR("error", h->error));
    else
        log_warn("Redis out of reach", LOG_STR("redis", server), LOG_STR("error", h->error));
}

static void enter(struct redis_health *h, enum redis_condition condition, const char *error)
{
    bool was_up = h->condition == REDIS_UP;
    /* Not where only the connection comes and goes while the refusal stays the same. */
    bool news = was_up != (condition == REDIS_UP) || strcmp(error, h->error) != 0;

    h->condition = condition;
    if (error != h->error)
        snprintf(h->error, sizeof(h->error), "%s", error);
    if (news)
        log_condition(h);
    if (was_up != (condition == REDIS_UP) && h->settings->changed)
        loop_defer(h->loop, &h->changed_task, tell_changed, h);
}

static void start_timer(struct redis_health *h)
{
    loop_timer_start(h->loop, &h->timer, REFRESH_MS);
}

/* ---- replies ---- */

/* The value of "name:value" in an INFO text; absent where there is no such line. */
static struct slice info_field(struct slice info, const char *name)
{
    size_t name_len = strlen(name);

    for (size_t at = 0; at < info.len;) {
        const char *line = info.ptr + at;
        const char *end = memchr(line, '\n', info.len - at);
        size_t len = end ? (size_t)(end - line) : info.len - at;
        at += len + 1;
        if (len && line[len - 1] == '\r')
            len--;
        if (len > name_len && line[name_len] == ':' && memcmp(line, name, name_len) == 0)
            return slice_of(line + name_len + 1, len - name_len - 1);
    }
    return slice_of(NULL, 0);
}

static void read_policy(struct redis_health *h, struct slice info)
{
    struct slice policy = info_field(info, "maxmemory_policy");
    char before[sizeof(h->policy)];

    memcpy(before, h->policy, sizeof(before));
    snprintf(h->policy, sizeof(h->policy), "%.*s", SLICE_ARG(policy));
    h->evicts = h->policy[0] && strcmp(h->policy, "noeviction") != 0;
    if (strcmp(before, h->policy) == 0)
        return;
    if (h->evicts)
        log_warn("Redis may evict idempotency records, mails could be sent twice: set its "
                 "maxmemory-policy to noeviction",
                 LOG_STR("maxmemoryPolicy", h->policy));
    else if (before[0])
        log_info("Redis' maxmemory-policy changed", LOG_STR("maxmemoryPolicy", h->policy));
}

static void read_version(struct redis_health *h, struct slice info)
{
    struct slice version = info_field(info, "redis_version");

    snprintf(h->version, sizeof(h->version), "%.*s", SLICE_ARG(version));
    h->has_set_nx_get = strtoul(h->version, NULL, 10) >= 7;
}

static void set_cause(struct redis_health *h, const char *doing, struct slice error)
{
    const char *password = h->settings->password;
    char text[200];

    if (h->cause[0])
        return;
    snprintf(text, sizeof(text), "%.*s", SLICE_ARG(error));
    /* "unknown command" quotes the arguments. Looked for in all of it: a password that is cut is
     * one too. */
    if (password && password[0] &&
        (memmem(error.ptr, error.len, password, strlen(password)) ||
         strstr(text, "beginning with")))
        snprintf(text, sizeof(text), "the server rejects the command");
    snprintf(h->cause, sizeof(h->cause), "%s%s", doing, text);
}

static void read_text(struct redis_health *h, unsigned step, struct slice text)
{
    if (step == GREET_SERVER)
        read_version(h, text);
    else if (step == GREET_MEMORY)
        read_policy(h, text);
    else if (step == GREET_REPLICATION && slice_is(info_field(text, "role"), "slave"))
        set_cause(h, "", slice_str("it is a replica, which takes no writes that last"));
    else if (step >= GREET_SCRIPTS && step < GREET_PROBE && text.len == REDIS_SHA_LEN)
        snprintf(h->sha[step - GREET_SCRIPTS], sizeof(h->sha[0]), "%.*s", SLICE_ARG(text));
}

static void read_refusal(struct redis_health *h, unsigned step, struct slice error)
{
    if (step == GREET_AUTH || step == GREET_SELECT) {
        h->unauthorized = true;
        set_cause(h, step == GREET_AUTH ? "authentication failed: " : "SELECT: ", error);
    } else if (step >= GREET_SCRIPTS) {
        set_cause(h, "", error);
    } /* INFO can be forbidden: then version, role and policy are unknown */
}

/* ---- the greeting ---- */

static void count_records(struct redis_health *h);

static void conclude(struct redis_health *h)
{
    if (h->unauthorized) {
        redis_connection_drop(h->connection, h->cause);
        return;
    }
    start_timer(h);
    if (h->cause[0]) {
        enter(h, REDIS_REFUSED, h->cause);
        if (++h->refusals >= MAX_REFUSALS)
            redis_connection_drop(h->connection, h->cause);
        return;
    }
    h->refusals = 0;
    h->scripts_lost = false;
    redis_connection_settle(h->connection);
    enter(h, REDIS_UP, "");
    count_records(h);
}

static void on_greeting(struct redis_request *r, const struct redis_reply *reply)
{
    struct redis_health *h = r->ctx;
    unsigned step = (unsigned)(r - h->greeting);

    redis_request_end(h->connection, r);
    h->unanswered--;
    if (reply->type == REPLY_LOST)
        return;
    if (reply->type == REPLY_TEXT)
        read_text(h, step, reply->text);
    else if (reply->type == REPLY_ERROR)
        read_refusal(h, step, reply->text);
    if (h->unanswered == 0)
        conclude(h);
}

static void greet_with(struct redis_health *h, unsigned step, int argc, const char *const words[])
{
    struct redis_request *r = &h->greeting[step];
    const char *argv[8];
    size_t lens[8];

    for (int i = 0; i < argc; i++) {
        argv[i] = words[i];
        lens[i] = strlen(words[i]);
    }
    r->ctx = h;
    redis_request_begin(h->connection, r, on_greeting);
    h->unanswered++;
    if (!redis_request_send(h->connection, r, argc, argv, lens)) {
        redis_request_end(h->connection, r); /* the connection is gone, and on_lost() comes */
        h->unanswered--;
    }
}

#define GREET(h, step, ...)                                                                        \
    greet_with(h, step, (int)(sizeof((const char *const[]){__VA_ARGS__}) / sizeof(char *)),        \
               (const char *const[]){__VA_ARGS__})

static void introduce(struct redis_health *h)
{
    const struct store_settings *s = h->settings;
    char db[16];

    if (s->password && s->password[0]) {
        if (s->user && s->user[0])
            GREET(h, GREET_AUTH, "AUTH", s->user, s->password);
        else
            GREET(h, GREET_AUTH, "AUTH", s->password);
    }
    if (s->db) {
        snprintf(db, sizeof(db), "%u", s->db);
        GREET(h, GREET_SELECT, "SELECT", db);
    }
}

static void greet(struct redis_health *h)
{
    h->cause[0] = '\0';
    h->unauthorized = false;
    GREET(h, GREET_SERVER, "INFO", "server");
    GREET(h, GREET_REPLICATION, "INFO", "replication");
    GREET(h, GREET_MEMORY, "INFO", "memory");
    for (unsigned i = 0; i < REDIS_SCRIPTS; i++)
        GREET(h, GREET_SCRIPTS + i, "SCRIPT", "LOAD", redis_script_source((enum redis_script)i));
    GREET(h, GREET_PROBE, "SET", h->probe_key, "1", "PX", "1000");
}

static void on_open(void *ctx)
{
    struct redis_health *h = ctx;

    introduce(h);
    greet(h);
}

static void on_lost(void *ctx, const char *reason)
{
    struct redis_health *h = ctx;

    loop_timer_stop(h->loop, &h->timer);
    h->unanswered = 0;
    h->refusals = 0;
    enter(h, REDIS_DOWN, reason);
}

/* ---- in the background ---- */

static void on_count(struct redis_request *r, const struct redis_reply *reply)
{
    struct redis_health *h = r->ctx;

    redis_request_end(h->connection, r);
    if (reply->type == REPLY_INTEGER)
        h->records = reply->integer;
    else if (reply->type == REPLY_ERROR)
        (void)redis_health_script_missing(h, reply->text); /* counted again in a second */
}

static void count_records(struct redis_health *h)
{
    struct redis_request *r = &h->count_request;
    const struct claim nobody = {.token = ""};

    if (r->open)
        return;
    r->ctx = h;
    redis_request_begin(h->connection, r, on_count);
    if (!redis_health_call(h, r, SCRIPT_COUNT, false, slice_str(REDIS_RECORDS_KEY), &nobody,
                           slice_str("")))
        redis_request_end(h->connection, r);
}

static void on_policy(struct redis_request *r, const struct redis_reply *reply)
{
    struct redis_health *h = r->ctx;

    redis_request_end(h->connection, r);
    if (reply->type == REPLY_TEXT)
        read_policy(h, reply->text);
}

static void ask_policy(struct redis_health *h)
{
    struct redis_request *r = &h->policy_request;
    const char *argv[] = {"INFO", "memory"};
    const size_t lens[] = {4, 6};

    if (r->open || ++h->seconds < POLICY_SECONDS)
        return;
    h->seconds = 0;
    r->ctx = h;
    redis_request_begin(h->connection, r, on_policy);
    if (!redis_request_send(h->connection, r, 2, argv, lens))
        redis_request_end(h->connection, r);
}

static void on_timer(void *ctx)
{
    struct redis_health *h = ctx;

    if (h->unanswered) {
        start_timer(h);
    } else if (h->condition == REDIS_REFUSED || h->scripts_lost) {
        greet(h); /* goes on in conclude() */
    } else {
        start_timer(h);
        count_records(h);
        ask_policy(h);
    }
}

/* ---- for the operations ---- */

bool redis_health_is_refusal(struct slice error)
{
    /* What a script's own command met is wrapped: "ERR Error running script (…): @user_script:1:
     * WRONGTYPE …" before Redis 7, "WRONGTYPE … script: …, on @user_script:1." from 7 on. */
    static const char *const codes[] = {"OOM ",        "READONLY ",    "MISCONF ", "NOREPLICAS ",
                                        "MASTERDOWN ", "CLUSTERDOWN ", "NOPERM ",  "LOADING "};
    static const char wrongtype[] = "WRONGTYPE", in_script[] = "user_script";

    for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++)
        if (memmem(error.ptr, error.len, codes[i], strlen(codes[i])))
            return true;
    /* Anything that is neither about the key's type nor a script's failure on its content. */
    return !memmem(error.ptr, error.len, wrongtype, sizeof(wrongtype) - 1) &&
           !memmem(error.ptr, error.len, in_script, sizeof(in_script) - 1);
}

void redis_health_refused(struct redis_health *h, struct slice error)
{
    char text[sizeof(h->error)];

    if (h->condition != REDIS_UP)
        return; /* one of many in flight: known already */
    snprintf(text, sizeof(text), "%.*s", SLICE_ARG(error));
    enter(h, REDIS_REFUSED, text);
    start_timer(h);
}

bool redis_health_script_missing(struct redis_health *h, struct slice error)
{
    static const char code[] = "NOSCRIPT ";

    if (error.len < sizeof(code) - 1 || memcmp(error.ptr, code, sizeof(code) - 1) != 0)
        return false;
    h->scripts_lost = true;
    return true;
}

bool redis_health_call(struct redis_health *h, struct redis_request *r, enum redis_script script,
                       bool with_source, struct slice key, const struct claim *claim,
                       struct slice value)
{
    const struct slice args[] = {
        slice_str(with_source ? "EVAL" : "EVALSHA"),
        slice_str(with_source ? redis_script_source(script) : h->sha[script]),
        slice_str("2"),
        key,
        slice_str(REDIS_RECORDS_KEY),
        slice_str(claim->token),
        slice_str(claim->fp),
        slice_str(h->lease_text),
        slice_str(h->ttl_text),
        value,
        slice_str(h->bucket_text)};
    enum { ARGC = sizeof(args) / sizeof(args[0]) };
    const char *argv[ARGC];
    size_t lens[ARGC];

    for (int i = 0; i < ARGC; i++) {
        argv[i] = args[i].ptr;
        lens[i] = args[i].len;
    }
    return redis_request_send(h->connection, r, ARGC, argv, lens);
}

/* ---- life ---- */

bool redis_health_init(struct redis_health *h, struct loop *loop,
                       const struct store_settings *settings, struct error *err)
{
    const struct redis_connection_settings connection = {.host = settings->host,
                                                         .port = settings->port,
                                                         .tls = settings->tls,
                                                         .timeout_ms = settings->timeout_ms,
                                                         .on_open = on_open,
                                                         .on_lost = on_lost,
                                                         .ctx = h};
    uint64_t bucket_ms = settings->ttl_ms / MAX_BUCKETS;
    char token[CLAIM_TOKEN_SIZE];

    *h = (struct redis_health){.loop = loop, .settings = settings, .records = -1};
    snprintf(h->error, sizeof(h->error), "not connected yet");
    snprintf(h->lease_text, sizeof(h->lease_text), "%" PRIu64, settings->lease_ms);
    snprintf(h->ttl_text, sizeof(h->ttl_text), "%" PRIu64, settings->ttl_ms);
    snprintf(h->bucket_text, sizeof(h->bucket_text), "%" PRIu64,
             bucket_ms < 1000 ? 1000 : bucket_ms);
    store_new_token(token);
    snprintf(h->probe_key, sizeof(h->probe_key), "email:probe:%s", token);
    loop_timer_init(&h->timer, on_timer, h);
    h->connection = redis_connection_new(loop, &connection, err);
    return h->connection != NULL;
}

void redis_health_cleanup(struct redis_health *h)
{
    if (!h->loop)
        return;
    redis_connection_destroy(h->connection);
    loop_timer_stop(h->loop, &h->timer);
    loop_undefer(h->loop, &h->changed_task);
}
