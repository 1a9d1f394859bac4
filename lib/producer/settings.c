#include "producer/settings.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "idempotency/store.h"

enum { MAX_QUEUED = 10000, PUBLISH_TIMEOUT_MS = 10000 };

#define MAX_PUBLISH_TIMEOUT_MS 2147483647 /* librdkafka's own bound */

static const char default_sender[] = "no-reply@localhost"; /* log mode only */

/* ---- the environment ---- */

static size_t name_len(const char *setting)
{
    const char *equals = strchr(setting, '=');

    return equals ? (size_t)(equals - setting) : strlen(setting);
}

/* NAME and NAME_FILE are two ways to say the same. */
static size_t base_len(const char *setting)
{
    static const char suffix[] = "_FILE";
    const size_t len = name_len(setting), suffix_len = sizeof(suffix) - 1;

    if (len > suffix_len && memcmp(setting + len - suffix_len, suffix, suffix_len) == 0)
        return len - suffix_len;
    return len;
}

static bool is_overridden(const char *variable, const char *const *settings)
{
    for (; settings && *settings; settings++)
        if (base_len(*settings) == base_len(variable) &&
            memcmp(*settings, variable, base_len(variable)) == 0)
            return true;
    return false;
}

static size_t count(char *const *list)
{
    size_t n = 0;

    while (list && list[n])
        n++;
    return n;
}

/* What config_load takes for the environment; the strings are borrowed. NULL without memory. */
static char **merge(char *const *from_environment, const char *const *settings)
{
    const size_t most = count(from_environment) + count((char *const *)(uintptr_t)settings);
    char **merged = calloc(most + 1, sizeof(*merged));
    size_t n = 0;

    for (; merged && from_environment && *from_environment; from_environment++)
        if (!is_overridden(*from_environment, settings))
            merged[n++] = *from_environment;
    for (; merged && settings && *settings; settings++)
        merged[n++] = (char *)(uintptr_t)*settings;
    return merged;
}

static void check_form(const char *const *settings, struct buf *mistakes)
{
    for (; settings && *settings; settings++)
        if (!strchr(*settings, '=') || **settings == '=')
            /* Not repeated: it may be a secret. */
            config_mistake(mistakes, "settings", "one of them is not NAME=value");
}

/* ---- what only other modules can judge ---- */

static void check_kafka(struct producer_settings *s, struct buf *mistakes)
{
    const struct config *c = &s->config;
    struct error err = {0};

    s->properties = arena_alloc(&s->arena, (c->properties_len + 1) * sizeof(*s->properties));
    if (!s->properties) {
        config_mistake(mistakes, "configuration", "out of memory");
        return;
    }
    for (size_t i = 0; i < c->properties_len; i++) {
        s->properties[i] = (struct kafka_property){c->properties[i].name, c->properties[i].value};
        error_clear(&err);
        if (!kafka_property_check(&s->properties[i], &err))
            config_mistake(mistakes, c->properties[i].variable, "%s", err.text);
    }
}

static void check_modules(struct producer_settings *s, struct buf *mistakes)
{
    const struct config *c = &s->config;
    struct error err = {0};

    if (c->enable_kafka)
        check_kafka(s, mistakes);
    if (!address_from_parts(&s->arena, slice_str(c->smtp_from ? c->smtp_from : default_sender),
                            slice_str(c->smtp_from_name), &s->from, &err))
        config_mistake(mistakes, "SMTP_FROM", "%s", err.text);
    if (c->redis_tls && !redis_store_has_tls())
        config_mistake(mistakes, "REDIS_URL",
                       "rediss:// needs a build with hiredis 1.0 or later and its TLS library");
    if (!c->enable_kafka && !s->can_send_directly)
        config_mistake(mistakes, "EMAIL_MODE",
                       "log mode needs a log callback (or set EMAIL_MODE=smtp)");
}

/* ---- options ---- */

/* The caller's struct may be of an earlier version, and shorter. */
static email_producer_options known_part(const email_producer_options *options)
{
    email_producer_options known = {0};

    if (options)
        memcpy(&known, options,
               options->struct_size < sizeof(known) ? options->struct_size : sizeof(known));
    return known;
}

static void apply_options(struct producer_settings *s, const email_producer_options *options,
                          struct buf *mistakes)
{
    if (options->publish_timeout_ms < 0 || options->publish_timeout_ms > MAX_PUBLISH_TIMEOUT_MS)
        config_mistake(mistakes, "publish_timeout_ms", "not from 0 to %d", MAX_PUBLISH_TIMEOUT_MS);
    s->publish_timeout_ms = options->publish_timeout_ms > 0 ? (uint64_t)options->publish_timeout_ms
                                                            : PUBLISH_TIMEOUT_MS;
    s->max_queued = options->max_queued ? options->max_queued : MAX_QUEUED;
    s->log = options->log;
    s->log_context = options->log_context;
}

static void name_ourselves(struct producer_settings *s)
{
    if (gethostname(s->host, sizeof(s->host) - 1) < 0 || !s->host[0])
        snprintf(s->host, sizeof(s->host), "localhost");
    snprintf(s->client_id, sizeof(s->client_id), "email-producer-%s-%d", s->host, (int)getpid());
}

bool producer_settings_load(struct producer_settings *s, const email_producer_options *given,
                            struct buf *mistakes)
{
    const email_producer_options options = known_part(given);
    struct config_sources sources = {.program = CONFIG_PRODUCER,
                                     .no_env_file = options.ignore_environment != 0};

    *s = (struct producer_settings){0};
    if (given && given->struct_size == 0)
        config_mistake(mistakes, "options", "struct_size is not set");
    check_form(options.settings, mistakes);
    apply_options(s, &options, mistakes);
    sources.environ = merge(options.ignore_environment ? NULL : environ, options.settings);
    if (!sources.environ) {
        config_mistake(mistakes, "configuration", "out of memory");
    } else if (config_load(&s->config, &sources, mistakes) == CONFIG_OK) {
        s->can_send_directly = s->config.mode == CONFIG_MODE_SMTP || s->log;
        check_modules(s, mistakes);
    }
    free(sources.environ);
    name_ourselves(s);
    return mistakes->len == 0 && !mistakes->failed;
}

void producer_settings_cleanup(struct producer_settings *s)
{
    arena_cleanup(&s->arena);
    config_cleanup(&s->config);
}
