/* Secrets are read once; what the kernel shows of the process' start is overwritten afterwards. */
#include <stdio.h>
#include <string.h>

#include "base/config_table.h"

bool config_property_is_secret(const char *name)
{
    static const char *const signs[] = {"password", "secret", "pem", "oauthbearer.config", "token"};

    for (size_t i = 0; i < sizeof(signs) / sizeof(signs[0]); i++)
        if (strcasestr(name, signs[i]))
            return true;
    return false;
}

/* KAFKA_CONFIG_SASL_PASSWORD, or SASL_PASSWORD where a flag names it: "." and "_" are the same. */
static bool names_secret_property(struct slice name)
{
    static const char prefix[] = "KAFKA_CONFIG_";
    char text[128];
    size_t i;

    if (name.len >= sizeof(text))
        return true; /* no property of librdkafka's */
    for (i = 0; i < name.len; i++)
        text[i] = name.ptr[i] == '_' ? '.' : name.ptr[i];
    text[i] = '\0';
    return config_property_is_secret(
        strncmp(name.ptr, prefix, sizeof(prefix) - 1) == 0 ? text + sizeof(prefix) - 1 : text);
}

/* Flags are compared as variables: "smtp-password" is SMTP_PASSWORD. */
static bool is_variable(struct slice name, const char *variable)
{
    if (name.len != strlen(variable))
        return false;
    for (size_t i = 0; i < name.len; i++) {
        const char c = name.ptr[i] == '-'                         ? '_'
                       : name.ptr[i] >= 'a' && name.ptr[i] <= 'z' ? (char)(name.ptr[i] & ~0x20)
                                                                  : name.ptr[i];
        if (c != variable[i])
            return false;
    }
    return true;
}

static bool is_secret(struct slice name)
{
    for (size_t i = 0; i < config_table_len; i++)
        if (config_table[i].flags & CONFIG_SECRET && is_variable(name, config_table[i].name))
            return true;
    return false;
}

static void wipe(char *text)
{
    explicit_bzero(text, strlen(text));
}

static void hide_environment(char **environment)
{
    static const char prefix[] = "KAFKA_CONFIG_";

    for (char **env = environment; env && *env; env++) {
        char *equals = strchr(*env, '=');
        const struct slice name = slice_of(*env, equals ? (size_t)(equals - *env) : 0);
        const bool property =
            name.len >= sizeof(prefix) - 1 && memcmp(name.ptr, prefix, sizeof(prefix) - 1) == 0;
        if (equals && (is_secret(name) || (property && names_secret_property(name))))
            wipe(equals + 1);
    }
}

/* `pair` is name=value of --kafka-config. */
static void hide_pair(char *pair)
{
    char *equals = strchr(pair, '=');

    if (equals && names_secret_property(slice_of(pair, (size_t)(equals - pair))))
        wipe(equals + 1);
}

static void hide_value(struct slice flag, char *value)
{
    if (is_secret(flag))
        wipe(value);
    else if (slice_is(flag, "kafka-config"))
        hide_pair(value);
}

static void hide_arguments(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        char *equals;
        if (strncmp(argv[i], "--", 2) != 0)
            continue;
        equals = strchr(argv[i], '=');
        if (equals)
            hide_value(slice_of(argv[i] + 2, (size_t)(equals - argv[i]) - 2), equals + 1);
        else if (i + 1 < argc)
            hide_value(slice_str(argv[i] + 2), argv[i + 1]);
    }
}

void config_hide_secrets(const struct config_sources *sources)
{
    hide_environment(sources->environ);
    hide_arguments(sources->argc, sources->argv);
}
