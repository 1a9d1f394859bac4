#include "delivery/delivery_settings.h"

enum {
    STORE_TIMEOUT_MS = 2000, /* a Redis that takes longer is as good as away */
    SMTP_IDLE_MS = 60000,
    BREAKER_FAILURES = 5,
    MAX_RESENDS = 3,
    LOG_MODE_ACTIVE = 256,
    SLOW_MAIL_S = 10 /* what a mail takes at a relay that is slow, and works */
};

struct store_settings delivery_store_settings(const struct config *c)
{
    return (struct store_settings){.lease_ms = c->lease_seconds * 1000,
                                   .ttl_ms = c->ttl_hours * 3600 * 1000,
                                   .timeout_ms = STORE_TIMEOUT_MS,
                                   .host = c->redis_host,
                                   .port = (unsigned)c->redis_port,
                                   .user = c->redis_user,
                                   .password = c->redis_password,
                                   .db = (unsigned)c->redis_db,
                                   .tls = c->redis_tls};
}

static enum smtp_tls tls_of(unsigned configured)
{
    switch (configured) {
    case CONFIG_TLS_NONE: return SMTP_TLS_NONE;
    case CONFIG_TLS_OPPORTUNISTIC: return SMTP_TLS_OPPORTUNISTIC;
    case CONFIG_TLS_TLS: return SMTP_TLS_IMPLICIT;
    default: return SMTP_TLS_STARTTLS;
    }
}

struct smtp_settings delivery_smtp_settings(const struct config *c, const char *helo_name)
{
    return (struct smtp_settings){.host = c->smtp_host,
                                  .port = (unsigned)c->smtp_port,
                                  .user = c->smtp_user,
                                  .password = c->smtp_password,
                                  .tls = tls_of(c->smtp_tls),
                                  .ca_file = c->smtp_ca_file,
                                  .helo_name = helo_name,
                                  .max_connections = (unsigned)c->smtp_max_connections,
                                  .connect_timeout_ms = c->smtp_connect_timeout_s * 1000,
                                  .timeout_ms = c->smtp_timeout_s * 1000,
                                  .idle_timeout_ms = SMTP_IDLE_MS,
                                  .messages_per_connection =
                                      (unsigned)c->smtp_messages_per_connection,
                                  .mails_per_second = c->smtp_max_rate,
                                  .breaker_failures = BREAKER_FAILURES};
}

struct machine_policy delivery_policy(const struct config *c)
{
    return (struct machine_policy){.retry = {.max_attempts = (unsigned)c->max_attempts,
                                             .base_ms = c->retry_base_ms,
                                             .max_ms = c->retry_max_ms},
                                   .lease_ms = c->lease_seconds * 1000,
                                   .max_resends = MAX_RESENDS,
                                   .hold_in_outage = c->outage_policy == CONFIG_OUTAGE_HOLD,
                                   .park_ambiguous = c->ambiguous_policy == CONFIG_AMBIGUOUS_PARK,
                                   .fail_open = c->fail_open};
}

/* With a bound of mails a second, more of them would only wait under a claim, and perhaps until
 * they expire: two seconds' worth, and one for each connection that they can keep busy. */
static size_t max_waiting_for_rate(const struct config *c)
{
    const size_t under_way = c->smtp_max_rate * SLOW_MAIL_S;

    return c->smtp_max_rate * 2 +
           (under_way < c->smtp_max_connections ? under_way : c->smtp_max_connections);
}

size_t delivery_max_active(const struct config *c)
{
    size_t most, paced;

    if (c->mode != CONFIG_MODE_SMTP)
        return LOG_MODE_ACTIVE;
    /* For each connection one mail, another one queued behind its final dot, and a third one whose
     * claim is under way. */
    most = c->smtp_max_connections * 3 + 16;
    paced = max_waiting_for_rate(c);
    return c->smtp_max_rate && paced < most ? paced : most;
}
