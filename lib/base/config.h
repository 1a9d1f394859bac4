/* Configuration of every program: one table of variables, read from flags over environment over the
 * .env file over defaults (contract §6). A variable NAME is the flag --name with dashes; a secret
 * NAME can be given as NAME_FILE, the path of a file that holds it. An empty value counts as not
 * given. */
#ifndef BASE_CONFIG_H
#define BASE_CONFIG_H

#include <stdint.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/log.h"

enum config_mode { CONFIG_MODE_LOG, CONFIG_MODE_SMTP };
enum config_tls {
    CONFIG_TLS_DEFAULT,
    CONFIG_TLS_NONE,
    CONFIG_TLS_OPPORTUNISTIC,
    CONFIG_TLS_STARTTLS,
    CONFIG_TLS_TLS
};
enum config_outage { CONFIG_OUTAGE_DLQ, CONFIG_OUTAGE_HOLD };
enum config_ambiguous { CONFIG_AMBIGUOUS_RESEND, CONFIG_AMBIGUOUS_PARK };

/* Which programs a variable belongs to (--help lists those, flags of others are refused). */
enum config_program { CONFIG_SERVICE = 1, CONFIG_TOPICS = 2, CONFIG_CTL = 4, CONFIG_PRODUCER = 16 };

struct config_property { /* KAFKA_CONFIG_SECURITY_PROTOCOL: "security.protocol" */
    const char *variable;
    const char *name;
    const char *value;
};

struct config { /* strings are NUL-terminated, live in `arena`, and are NULL where not set */
    struct arena arena;

    const char *kafka_brokers, *kafka_group, *kafka_topic_events, *kafka_topic_dlq;
    uint64_t kafka_partitions, kafka_replication;
    struct config_property *properties;
    size_t properties_len;
    bool enable_kafka;

    const char *redis_url, *redis_host, *redis_user,
        *redis_password; /* the URL's parts where it is given */
    uint64_t redis_port, redis_db;
    bool redis_tls;
    bool redis_given; /* REDIS_HOST or REDIS_URL was given, and is not the default */
    uint64_t ttl_hours, lease_seconds;
    bool fail_open;

    unsigned mode;
    const char *smtp_host, *smtp_user, *smtp_password, *smtp_from, *smtp_from_name, *smtp_ca_file;
    uint64_t smtp_port;
    unsigned smtp_tls; /* never CONFIG_TLS_DEFAULT after loading */
    uint64_t smtp_max_connections, smtp_connect_timeout_s, smtp_timeout_s;
    uint64_t smtp_messages_per_connection, smtp_max_rate; /* 0: no bound */
    unsigned outage_policy, ambiguous_policy;

    uint64_t max_attempts, retry_base_ms, retry_max_ms;
    uint64_t max_in_flight, max_in_flight_bytes, max_event_bytes;
    const char *templates_dir;

    uint64_t http_port;
    const char *http_listen, *service_host;
    unsigned log_level; /* enum log_level */
    uint64_t shutdown_timeout_s;

    bool core_dumps; /* EMAIL_CORE_DUMPS */

    bool dev; /* --dev */
};

enum config_result {
    CONFIG_OK,
    CONFIG_HELP,    /* --help was given: print config_help and exit 0 */
    CONFIG_VERSION, /* --version */
    CONFIG_CHECK,   /* --check-config: as CONFIG_OK, but do no more than that */
    CONFIG_WRONG    /* `mistakes` holds one line each, "NAME: what is wrong" */
};

struct config_sources {
    enum config_program program;
    int argc;
    char **argv;
    char **environ;   /* NULL-terminated NAME=value */
    bool no_env_file; /* not even ./.env */
};

/* Loads and checks everything that can be checked without the rest of the program. Reads files
 * (.env, NAME_FILE). All mistakes are collected; values are never repeated for secrets. */
BASE_CHECK enum config_result config_load(struct config *c, const struct config_sources *sources,
                                          struct buf *mistakes);

/* Overwrites the secrets in the environment and the arguments, which /proc shows to others for as
 * long as the process lives. To be called once they are loaded; for programs, not for a library. */
void config_hide_secrets(const struct config_sources *sources);

/* May the value of this librdkafka property be a secret (sasl.password, ssl.key.pem, …)? */
bool config_property_is_secret(const char *name);

void config_cleanup(struct config *c); /* wipes secrets, frees; legal on a zeroed struct */

/* Adds one more mistake in the same form, for checks of other modules. */
void config_mistake(struct buf *mistakes, const char *variable, const char *format, ...)
    BASE_PRINTF(3, 4);

/* The text of --help: usage, flags, then every variable of the program with its default. */
void config_help(struct buf *out, enum config_program program, const char *usage);

#endif
