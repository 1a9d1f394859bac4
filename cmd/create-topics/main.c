/* create-topics: creates the two topics of the service (contract: running it again is harmless). */
#include <stdio.h>
#include <unistd.h>

#include "base/config.h"
#include "base/process_guard.h"
#include "kafka/topics.h"

/* A broker that is down is given up on within ten seconds. */
enum { CONNECT_MS = 8000, CREATE_MS = 8000 };

static const char usage[] = "Usage: create-topics [options]\n\n"
                            "Creates the topics of the events to send and of the dead letters.\n"
                            "Topics that exist already are left as they are.\n";

static const char rule[] = "============================================================\n";

static bool print(const struct buf *text, FILE *to)
{
    return !text->failed && fwrite(text->ptr ? text->ptr : "", 1, text->len, to) == text->len &&
           fflush(to) == 0;
}

static void print_banner(const struct config *c)
{
    printf("%s  Kafka topics of the email service\n%s", rule, rule);
    printf("Kafka Brokers: %s\n", c->kafka_brokers);
    printf("Email Events Topic: %s\n", c->kafka_topic_events);
    printf("DLQ Topic: %s\n", c->kafka_topic_dlq);
    printf("Partitions: %llu\n", (unsigned long long)c->kafka_partitions);
    printf("Replication Factor: %llu\n%s", (unsigned long long)c->kafka_replication, rule);
}

static bool create(struct topics_admin *admin, const struct config *c, const char *topic)
{
    struct error err = {0};

    switch (topics_create(admin, topic, (int)c->kafka_partitions, (int)c->kafka_replication,
                          CREATE_MS, &err)) {
    case TOPIC_CREATED: printf("✓ Topic '%s' created successfully\n", topic); return true;
    case TOPIC_EXISTED: printf("✓ Topic '%s' already exists\n", topic); return true;
    case TOPIC_FAILED: break;
    }
    printf("✗ Failed to create topic '%s': %s\n", topic, err.text);
    return false;
}

static bool create_both(const struct config *c, const struct kafka_settings *kafka)
{
    struct topics_admin *admin;
    struct error err = {0};
    bool good;

    print_banner(c);
    puts("Connecting to Kafka...");
    fflush(stdout);
    admin = topics_connect(kafka, CONNECT_MS, &err);
    if (!admin) {
        printf("✗ Failed to connect to Kafka: %s\n", err.text);
        return false;
    }
    puts("✓ Connected to Kafka");
    puts("Creating topics...");
    fflush(stdout);
    good = create(admin, c, c->kafka_topic_events);
    good = create(admin, c, c->kafka_topic_dlq) && good;
    topics_disconnect(admin);
    return good;
}

/* The KAFKA_CONFIG_… properties, each checked; NULL where there is no memory. */
static struct kafka_property *check_properties(struct config *c, struct buf *mistakes)
{
    struct kafka_property *properties =
        arena_alloc(&c->arena, (c->properties_len + 1) * sizeof(*properties));

    for (size_t i = 0; properties && i < c->properties_len; i++) {
        struct error err = {0};
        properties[i] = (struct kafka_property){c->properties[i].name, c->properties[i].value};
        if (!kafka_property_check(&properties[i], &err))
            config_mistake(mistakes, c->properties[i].variable, "%s", err.text);
    }
    return properties;
}

static int run(struct config *c, bool only_check, struct buf *mistakes)
{
    const struct kafka_settings kafka = {.brokers = c->kafka_brokers,
                                         .client_id = "create-topics",
                                         .properties = check_properties(c, mistakes),
                                         .properties_len = c->properties_len};
    bool good;

    if (mistakes->len || mistakes->failed || !kafka.properties) {
        fputs("create-topics: the configuration is wrong:\n", stderr);
        if (!print(mistakes, stderr) || !kafka.properties)
            fputs("out of memory\n", stderr);
        return 2;
    }
    if (only_check)
        return puts("The configuration is right.") >= 0 && fflush(stdout) == 0 ? 0 : 1;
    good = create_both(c, &kafka);
    return fflush(stdout) == 0 && good ? 0 : 1;
}

int main(int argc, char **argv)
{
    const struct config_sources sources = {
        .program = CONFIG_TOPICS, .argc = argc, .argv = argv, .environ = environ};
    struct config config;
    struct buf text = {0};
    struct error err = {0};
    enum config_result result;
    int code;

    if (!process_guard(&err)) {
        fprintf(stderr, "create-topics: %s\n", err.text);
        return 1;
    }
    result = config_load(&config, &sources, &text);
    config_hide_secrets(&sources);
    switch (result) {
    case CONFIG_HELP:
        config_help(&text, CONFIG_TOPICS, usage);
        code = print(&text, stdout) ? 0 : 1;
        break;
    case CONFIG_VERSION:
        code = printf("create-topics %s\n", EMAIL_VERSION) > 0 && fflush(stdout) == 0 ? 0 : 1;
        break;
    default: code = run(&config, result == CONFIG_CHECK, &text); break;
    }
    buf_cleanup(&text);
    config_cleanup(&config);
    return code;
}
