#include "base/config_table.h"

#include <stddef.h>

#define FIELD(f) offsetof(struct config, f)
#define ALL (CONFIG_SERVICE | CONFIG_TOPICS | CONFIG_CTL | CONFIG_PRODUCER)
/* emailctl takes what the service takes, so that its check is of the service's configuration. */
#define SERVICE (CONFIG_SERVICE | CONFIG_CTL)
#define SENDER (SERVICE | CONFIG_PRODUCER)

#define STRING(name, field, initial, programs, help)                                               \
    {                                                                                              \
        name, CONFIG_STRING, FIELD(field), initial, 0, 0, NULL, programs, 0, help                  \
    }
#define SECRET(name, field, programs, help)                                                        \
    {                                                                                              \
        name, CONFIG_STRING, FIELD(field), NULL, 0, 0, NULL, programs, CONFIG_SECRET, help         \
    }
#define NUMBER(name, field, initial, min, max, programs, help)                                     \
    {                                                                                              \
        name, CONFIG_NUMBER, FIELD(field), initial, min, max, NULL, programs, 0, help              \
    }
#define BOOL(name, field, initial, programs, help)                                                 \
    {                                                                                              \
        name, CONFIG_BOOL, FIELD(field), initial, 0, 0, NULL, programs, 0, help                    \
    }
#define CHOICE(name, field, initial, choices, programs, help)                                      \
    {                                                                                              \
        name, CONFIG_CHOICE, FIELD(field), initial, 0, 0, choices, programs, 0, help               \
    }

static const char *const modes[] = {"log", "smtp", NULL};
/* The first stands for "by the port" and cannot be chosen by name. */
static const char *const tls_modes[] = {"", "none", "opportunistic", "starttls", "tls", NULL};
static const char *const outage_policies[] = {"dlq", "hold", NULL};
static const char *const ambiguous_policies[] = {"resend", "park", NULL};
static const char *const log_levels[] = {"debug", "info", "warn", "error", NULL};

const struct config_entry config_table[] = {
    STRING("KAFKA_BROKERS", kafka_brokers, "localhost:9092", ALL,
           "brokers to start from, host:port with commas"),
    STRING("KAFKA_TOPIC_EMAIL_EVENTS", kafka_topic_events, "email-events", ALL,
           "topic of the events to send"),
    STRING("KAFKA_TOPIC_EMAIL_DLQ", kafka_topic_dlq, "email-events-dlq", ALL,
           "topic of the dead letters"),
    STRING("KAFKA_CONSUMER_GROUP", kafka_group, "email-service-group", SERVICE, "consumer group"),
    NUMBER("KAFKA_TOPIC_PARTITIONS", kafka_partitions, "3", 1, 10000, ALL,
           "partitions of topics that create-topics makes"),
    NUMBER("KAFKA_TOPIC_REPLICATION_FACTOR", kafka_replication, "1", 1, 100, ALL,
           "replicas of topics that create-topics makes"),
    BOOL("ENABLE_KAFKA", enable_kafka, "true", ALL,
         "producer library: false sends directly, without Kafka"),

    STRING("REDIS_HOST", redis_host, "localhost", SENDER, "Redis host"),
    NUMBER("REDIS_PORT", redis_port, "6379", 1, 65535, SENDER, "Redis port"),
    SECRET("REDIS_PASSWORD", redis_password, SENDER, "Redis password"),
    NUMBER("REDIS_DB", redis_db, "0", 0, 1000000, SENDER, "Redis database number"),
    SECRET("REDIS_URL", redis_url, SENDER,
           "instead of the four above: redis://[[user]:password@]host[:port][/db], or rediss://"),
    NUMBER("IDEMPOTENCY_TTL_HOURS", ttl_hours, "24", 1, 24 * 366, SENDER,
           "hours for which a mail is remembered as sent"),
    NUMBER("IDEMPOTENCY_LEASE_SECONDS", lease_seconds, "60", 1, 3600, SENDER,
           "seconds after which a crashed instance's claim ends"),
    BOOL("IDEMPOTENCY_FAIL_OPEN", fail_open, "false", SENDER,
         "send although Redis is out of reach; RISKS DUPLICATES"),

    CHOICE("EMAIL_MODE", mode, "log", modes, SENDER,
           "log: write mails to the log; smtp: send them"),
    STRING("SMTP_HOST", smtp_host, NULL, SENDER, "the relay (needed in smtp mode)"),
    NUMBER("SMTP_PORT", smtp_port, "587", 1, 65535, SENDER, "the relay's port"),
    STRING("SMTP_USER", smtp_user, NULL, SENDER, "login at the relay; none: no authentication"),
    SECRET("SMTP_PASSWORD", smtp_password, SENDER, "password for it"),
    STRING("SMTP_FROM", smtp_from, NULL, SENDER, "default sender address (needed in smtp mode)"),
    STRING("SMTP_FROM_NAME", smtp_from_name, NULL, SENDER, "its display name"),
    CHOICE(
        "SMTP_TLS", smtp_tls, NULL, tls_modes, SENDER,
        "starttls: required; tls: from the first byte (default on port 465); opportunistic; none "
        "(default: starttls)"),
    STRING("SMTP_CA_FILE", smtp_ca_file, NULL, SENDER,
           "PEM file of certificate authorities (default: the system's)"),
    NUMBER("SMTP_MAX_CONNECTIONS", smtp_max_connections, "20", 1, 10000, SENDER,
           "connections to the relay at the most"),
    NUMBER("SMTP_MESSAGES_PER_CONNECTION", smtp_messages_per_connection, "1000", 0, 1000000000,
           SENDER, "mails over one connection at the most; 0: no bound"),
    NUMBER("SMTP_MAX_RATE_PER_SECOND", smtp_max_rate, "0", 0, 1000000, SENDER,
           "mails that are begun in a second at the most; 0: no bound"),
    NUMBER("SMTP_CONNECT_TIMEOUT_SECONDS", smtp_connect_timeout_s, "10", 1, 3600, SENDER,
           "seconds to connect, for TLS and login, all together"),
    NUMBER("SMTP_TIMEOUT_SECONDS", smtp_timeout_s, "60", 1, 3600, SENDER,
           "seconds for each stage of a mail"),
    CHOICE("SMTP_OUTAGE_POLICY", outage_policy, "dlq", outage_policies, SENDER,
           "while the relay is down, the probing event runs out of attempts (dlq) or never does "
           "(hold)"),
    CHOICE("SMTP_AMBIGUOUS_POLICY", ambiguous_policy, "resend", ambiguous_policies, SENDER,
           "a mail that the relay may or may not have taken: resend it, or park it in the DLQ"),

    NUMBER("EMAIL_MAX_ATTEMPTS", max_attempts, "5", 1, 1000, SENDER, "attempts for an event"),
    NUMBER("EMAIL_RETRY_BASE_MS", retry_base_ms, "1000", 1, 86400000, SENDER,
           "milliseconds of the first retry's longest delay"),
    NUMBER("EMAIL_RETRY_MAX_MS", retry_max_ms, "60000", 1, 86400000, SENDER,
           "milliseconds of any retry's longest delay"),
    NUMBER("EMAIL_MAX_IN_FLIGHT", max_in_flight, "1000", 1, 1000000, SERVICE,
           "events taken and not yet finished, at the most"),
    NUMBER("EMAIL_MAX_IN_FLIGHT_BYTES", max_in_flight_bytes, "67108864", 65536, 1ull << 40, SENDER,
           "bytes of such events, at the most"),
    NUMBER("EMAIL_MAX_EVENT_BYTES", max_event_bytes, "1048576", 1024, 64 * 1024 * 1024, SENDER,
           "largest event"),
    STRING("EMAIL_TEMPLATES_DIR", templates_dir, "templates", SENDER, "folder of the templates"),

    NUMBER("EMAIL_SERVICE_PORT", http_port, "8085", 1, 65535, SERVICE, "HTTP port"),
    STRING("EMAIL_SERVICE_LISTEN", http_listen, "0.0.0.0", SERVICE, "HTTP address to listen on"),
    STRING("EMAIL_SERVICE_HOST", service_host, "email-service", SERVICE,
           "where other services reach this one"),
    CHOICE("LOG_LEVEL", log_level, "info", log_levels, ALL, "debug, info, warn or error"),
    BOOL("EMAIL_CORE_DUMPS", core_dumps, "false", CONFIG_SERVICE,
         "allow core dumps and debuggers: they show mails and passwords"),
    NUMBER("SHUTDOWN_TIMEOUT_SECONDS", shutdown_timeout_s, "30", 1, 3600, SERVICE,
           "seconds that a stop waits for mails in flight"),
};

const size_t config_table_len = sizeof(config_table) / sizeof(config_table[0]);
