#include "kafka/kafka_settings.h"

#include <stdio.h>
#include <string.h>

#include <librdkafka/rdkafka.h>

#include "base/config.h"
#include "kafka/kafka_client.h"

/* What the delivery guarantees rest on: which offsets are committed and when, that a dead letter is
 * acknowledged by all replicas, and one at a time in its request, so that one that is too large
 * fails alone; and what the programs need to know a broker's state and to log from the loop's
 * thread. */
static const char *const protected_names[] = {
    "acks",
    "auto.commit.enable",
    "auto.commit.interval.ms",
    "batch.num.messages",
    "bootstrap.servers",
    "delivery.report.only.error",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "enable.gapless.guarantee",
    "enable.idempotence",
    "enable.partition.eof",
    "enabled_events",
    "group.id",
    "group.protocol",
    "group.protocol.type",
    "group.remote.assignor",
    "isolation.level",
    "log.queue",
    "metadata.broker.list",
    "offset.store.method",
    "offset.store.path",
    "offset.store.sync.interval.ms",
    "request.required.acks",
    "statistics.interval.ms",
    "test.mock.broker.rtt",
    "test.mock.num.brokers",
    "transactional.id",
};

static const char *variable_hint(const char *name)
{
    if (strcmp(name, "bootstrap.servers") == 0 || strcmp(name, "metadata.broker.list") == 0)
        return ": set KAFKA_BROKERS";
    if (strcmp(name, "group.id") == 0)
        return ": set KAFKA_CONSUMER_GROUP";
    return ": the service's guarantees rest on it";
}

static bool set(rd_kafka_conf_t *conf, const struct kafka_property *p, struct error *err)
{
    char text[256] = "";

    switch (rd_kafka_conf_set(conf, p->name, p->value, text, sizeof(text))) {
    case RD_KAFKA_CONF_OK: return true;
    case RD_KAFKA_CONF_UNKNOWN:
        return error_set(err, "%s: librdkafka %s has no such property", p->name,
                         rd_kafka_version_str());
    case RD_KAFKA_CONF_INVALID: break;
    }
    return error_set(err, "%s: %s", p->name, text);
}

/* Says what is wrong without repeating the value, which can be a secret (sasl.password,
 * ssl.key.pem). */
static bool set_quietly(rd_kafka_conf_t *conf, const struct kafka_property *p, struct error *err)
{
    struct error inner = {0};

    if (set(conf, p, &inner))
        return true;
    if (config_property_is_secret(p->name))
        return error_set(err, "%s: not a valid value", p->name);
    return error_set(err, "%s", inner.text);
}

bool kafka_property_check(const struct kafka_property *p, struct error *err)
{
    rd_kafka_conf_t *conf;
    bool good;

    for (size_t i = 0; i < sizeof(protected_names) / sizeof(*protected_names); i++)
        if (strcmp(p->name, protected_names[i]) == 0)
            return error_set(err, "%s cannot be set%s", p->name, variable_hint(p->name));
    conf = rd_kafka_conf_new();
    good = set_quietly(conf, p, err);
    rd_kafka_conf_destroy(conf);
    return good;
}

static const struct kafka_property common[] = {
    {"log.connection.close", "false"}, /* brokers close idle connections all the time */
    {"log.queue", "true"},             /* our log belongs to the loop's thread */
    {"reconnect.backoff.max.ms", "2000"},
    {"reconnect.backoff.ms", "100"},
    {"socket.connection.setup.timeout.ms", "10000"},
    {"socket.keepalive.enable", "true"},
    {"socket.nagle.disable", "true"},
    {"socket.timeout.ms", "10000"}, /* a frozen broker is let go after that, not after a minute */
    {"statistics.interval.ms", "1000"},
    {"topic.metadata.propagation.max.ms", "5000"}, /* a missing topic fails after that */
    /* A topic created later is found after that. Not a divisor of the mock cluster's 3 s and 9 s
     * joins: metadata that arrives together with the answer to a join makes the consumer join anew.
     */
    {"topic.metadata.refresh.interval.ms", "2700"},
};

/* Of later versions: a full queue is looked at again after that, not after a second. */
static const struct kafka_property recent = {"fetch.queue.backoff.ms", "5"};

static bool apply(rd_kafka_conf_t *conf, const struct kafka_settings *settings,
                  const struct kafka_property *ours, size_t ours_len, struct error *err)
{
    const struct kafka_property brokers = {"bootstrap.servers", settings->brokers};
    const struct kafka_property client_id = {"client.id", settings->client_id};

    if (!set(conf, &brokers, err) || (settings->client_id && !set(conf, &client_id, err)))
        return false;
    for (size_t i = 0; i < sizeof(common) / sizeof(*common); i++)
        if (!set(conf, &common[i], err))
            return false;
    if (rd_kafka_conf_set(conf, recent.name, recent.value, NULL, 0) == RD_KAFKA_CONF_INVALID)
        return error_set(err, "%s: not a valid value", recent.name);
    for (size_t i = 0; i < ours_len; i++)
        if (!set(conf, &ours[i], err))
            return false;
    for (size_t i = 0; i < settings->properties_len; i++)
        if (!kafka_property_check(&settings->properties[i], err) ||
            !set_quietly(conf, &settings->properties[i], err))
            return false;
    return true;
}

static bool fetches_tokens(const struct kafka_settings *settings)
{
    for (size_t i = 0; i < settings->properties_len; i++)
        if (strcmp(settings->properties[i].name, "sasl.oauthbearer.method") == 0)
            return true;
    return false;
}

struct rd_kafka_conf_s *kafka_conf_new(const struct kafka_settings *settings,
                                       const struct kafka_property *ours, size_t ours_len,
                                       struct error *err)
{
    rd_kafka_conf_t *conf = rd_kafka_conf_new();

    if (apply(conf, settings, ours, ours_len, err)) {
        /* Fetching a token is a blocking HTTP request: librdkafka's background thread does it, not
         * the loop. */
        if (fetches_tokens(settings))
            rd_kafka_conf_enable_sasl_queue(conf, 1);
        return conf;
    }
    rd_kafka_conf_destroy(conf);
    return NULL;
}
