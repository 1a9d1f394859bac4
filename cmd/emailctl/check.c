/* emailctl check: would the service, with this configuration, reach all that it needs? */
#include <stdio.h>

#include "base/json_out.h"
#include "base/log.h"
#include "base/loop.h"
#include "ctl.h"
#include "delivery/delivery_settings.h"
#include "email/smtp_probe.h"
#include "idempotency/store.h"
#include "kafka/topics.h"
#include "plain_text.h"

enum { TICK_MS = 100 };

enum verdict { GOOD, WARNING, BAD, SKIPPED };

struct checking {
    const struct ctl *ctl;
    bool bad;
};

static void report(struct checking *c, enum verdict verdict, const char *what, const char *format,
                   ...) BASE_PRINTF(4, 5);

static void report(struct checking *c, enum verdict verdict, const char *what, const char *format,
                   ...)
{
    static const char *const marks[] = {"✓", "!", "✗", "✓"};
    static const char *const names[] = {"ok", "warning", "failed", "skipped"};
    char text[700];
    struct buf plain = {0};
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    c->bad = c->bad || verdict == BAD;
    if (c->ctl->options->json) {
        buf_add_char(&plain, '{');
        json_out_field_str(&plain, "check", slice_str(what));
        json_out_field_str(&plain, "result", slice_str(names[verdict]));
        json_out_field_str(&plain, "detail", slice_str(text));
        buf_add_str(&plain, "}\n");
    } else {
        buf_addf(&plain, "%s %s: ", marks[verdict], what);
        plain_text(&plain, slice_str(text), false);
        buf_add_char(&plain, '\n');
    }
    if (!ctl_print(&plain))
        c->bad = true;
    buf_cleanup(&plain);
}

/* ---- Kafka ---- */

static void check_topic(struct checking *c, struct topics_admin *admin, const char *topic)
{
    struct topic_facts facts;
    struct error err = {0};
    char what[300];

    snprintf(what, sizeof(what), "Topic %s", topic);
    if (!topics_look(admin, topic, c->ctl->timeout_ms, &facts, &err))
        report(c, BAD, what, "%s", err.text);
    else if (!facts.exists)
        report(c, BAD, what, "does not exist (create-topics creates it)");
    else if (facts.leaderless)
        report(c, BAD, what, "%d of %d partitions have no leader", facts.leaderless,
               facts.partitions);
    else if (facts.replication_factor < 2 && facts.brokers > 1)
        report(c, WARNING, what, "%d partitions on one broker each, of %d brokers: lost with it",
               facts.partitions, facts.brokers);
    else
        report(c, GOOD, what, "%d partitions, replication factor %d", facts.partitions,
               facts.replication_factor);
}

static void check_kafka(struct checking *c)
{
    const struct config *config = c->ctl->config;
    struct error err = {0};
    struct topics_admin *admin = topics_connect(&c->ctl->kafka, c->ctl->timeout_ms, &err);

    if (!admin) {
        report(c, BAD, "Kafka", "%s", err.text);
        return;
    }
    report(c, GOOD, "Kafka", "reached at %s", config->kafka_brokers);
    check_topic(c, admin, config->kafka_topic_events);
    check_topic(c, admin, config->kafka_topic_dlq);
    topics_disconnect(admin);
}

/* ---- Redis ---- */

/* Runs until the store is up, or says for the first time why not. */
static bool wait_for_redis(struct loop *loop, struct store *store, int timeout_ms,
                           struct store_state *state, struct error *err)
{
    const uint64_t end_ms = loop_now_ms(loop) + (uint64_t)timeout_ms;
    struct store_state first;

    store_state(store, &first);
    *state = first;
    while (!state->up && strcmp(state->error, first.error) == 0 && loop_now_ms(loop) < end_ms) {
        if (!loop_tick(loop, TICK_MS, err))
            return false;
        store_state(store, state);
    }
    return true;
}

static void report_redis(struct checking *c, const struct store_state *state)
{
    const struct config *config = c->ctl->config;

    if (!state->up) {
        report(c, BAD, "Redis", "%s:%llu: %s", config->redis_host,
               (unsigned long long)config->redis_port, state->error);
        return;
    }
    report(c, GOOD, "Redis", "%s:%llu, database %llu, version %s%s", config->redis_host,
           (unsigned long long)config->redis_port, (unsigned long long)config->redis_db,
           *state->version ? state->version : "unknown",
           config->redis_password ? ", logged in" : "");
    if (!*state->eviction_policy)
        report(c, WARNING, "Redis eviction",
               "maxmemory-policy is not to be seen; it must be "
               "noeviction");
    else if (state->evicts)
        report(c, WARNING, "Redis eviction",
               "maxmemory-policy is %s: records of sent mails can vanish, and mails go out twice; "
               "set it to noeviction",
               state->eviction_policy);
    else
        report(c, GOOD, "Redis eviction", "maxmemory-policy is %s", state->eviction_policy);
}

static void check_redis(struct checking *c)
{
    const struct config *config = c->ctl->config;
    struct store_settings settings = delivery_store_settings(config);
    struct error err = {0};
    struct loop *loop = loop_new(&err);
    struct store *store;
    struct store_state state;

    settings.timeout_ms = (uint64_t)c->ctl->timeout_ms;
    store = loop ? redis_store_new(loop, &settings, &err) : NULL;
    if (store && wait_for_redis(loop, store, c->ctl->timeout_ms, &state, &err))
        report_redis(c, &state);
    else
        report(c, BAD, "Redis", "%s", err.text);
    store_destroy(store);
    loop_destroy(loop);
}

/* ---- the relay ---- */

static const char *tls_name(enum smtp_tls tls)
{
    switch (tls) {
    case SMTP_TLS_NONE: return "without TLS";
    case SMTP_TLS_OPPORTUNISTIC: return "TLS where it is offered (nothing verified)";
    case SMTP_TLS_STARTTLS: return "TLS (STARTTLS), certificate verified";
    case SMTP_TLS_IMPLICIT: break;
    }
    return "TLS, certificate verified";
}

static void report_relay(struct checking *c, const struct smtp_settings *s,
                         const struct smtp_probe_result *result)
{
    const struct outcome *why = &result->failure;

    if (result->open)
        report(c, s->user && s->tls == SMTP_TLS_NONE ? WARNING : GOOD, "SMTP", "%s:%u, %s, %s",
               s->host, s->port, tls_name(s->tls),
               !s->user                  ? "no login"
               : s->tls == SMTP_TLS_NONE ? "logged in (the password went in clear)"
                                         : "logged in");
    else
        report(c, BAD, "SMTP", "%s:%u: %s%s%s", s->host, s->port, why->error,
               *why->reply ? ": " : "", why->reply);
}

static void check_relay(struct checking *c)
{
    const struct config *config = c->ctl->config;
    const uint64_t configured_ms = config->smtp_connect_timeout_s * 1000;
    const uint64_t timeout_ms = (uint64_t)c->ctl->timeout_ms;
    struct smtp_settings settings = delivery_smtp_settings(config, NULL);
    struct smtp_probe_result result;
    struct error err = {0};

    settings.connect_timeout_ms = configured_ms < timeout_ms ? configured_ms : timeout_ms;
    settings.timeout_ms = settings.idle_timeout_ms = timeout_ms;
    settings.max_connections = settings.breaker_failures = 1;
    if (config->mode == CONFIG_MODE_LOG)
        report(c, SKIPPED, "SMTP", "skipped (log mode)");
    else if (smtp_probe(&settings, &result, &err))
        report_relay(c, &settings, &result);
    else
        report(c, BAD, "SMTP", "%s", err.text);
}

enum ctl_exit ctl_check(const struct ctl *ctl)
{
    struct checking c = {.ctl = ctl};

    log_set_level(LOG_ERROR);
    report(&c, GOOD, "Configuration", "%s mode",
           ctl->config->mode == CONFIG_MODE_SMTP ? "smtp" : "log");
    check_kafka(&c);
    check_redis(&c);
    check_relay(&c);
    return c.bad ? CTL_FAILED : CTL_DONE;
}
