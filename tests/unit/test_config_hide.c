#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/config.h"

/* What is left of each, in the same order. */
static void test_environment(void **state)
{
    char lines[][64] = {"SMTP_PASSWORD=a secret=with=signs",
                        "REDIS_PASSWORD=x",
                        "REDIS_URL=redis://:x@h",
                        "KAFKA_CONFIG_SASL_PASSWORD=x",
                        "KAFKA_CONFIG_SSL_KEY_PEM=x",
                        "KAFKA_CONFIG_SASL_OAUTHBEARER_CLIENT_SECRET=x",
                        "SMTP_PASSWORD=",
                        "SMTP_PASSWORD",
                        "SMTP_PASSWORD_FILE=/run/x",
                        "SMTP_USER=me",
                        "MY_SMTP_PASSWORD=mine",
                        "KAFKA_CONFIG_SECURITY_PROTOCOL=ssl",
                        "KAFKA_CONFIG_=x",
                        "=x",
                        ""};
    static const char *const left[] = {"SMTP_PASSWORD=",
                                       "REDIS_PASSWORD=",
                                       "REDIS_URL=",
                                       "KAFKA_CONFIG_SASL_PASSWORD=",
                                       "KAFKA_CONFIG_SSL_KEY_PEM=",
                                       "KAFKA_CONFIG_SASL_OAUTHBEARER_CLIENT_SECRET=",
                                       "SMTP_PASSWORD=",
                                       "SMTP_PASSWORD",
                                       "SMTP_PASSWORD_FILE=/run/x",
                                       "SMTP_USER=me",
                                       "MY_SMTP_PASSWORD=mine",
                                       "KAFKA_CONFIG_SECURITY_PROTOCOL=ssl",
                                       "KAFKA_CONFIG_=x",
                                       "=x",
                                       ""};
    enum { COUNT = sizeof(left) / sizeof(left[0]) };
    char *environment[COUNT + 1] = {NULL};
    const struct config_sources sources = {.program = CONFIG_SERVICE, .environ = environment};

    (void)state;
    for (size_t i = 0; i < COUNT; i++)
        environment[i] = lines[i];
    config_hide_secrets(&sources);
    for (size_t i = 0; i < COUNT; i++)
        assert_string_equal(lines[i], left[i]);
    for (size_t i = 0; i < sizeof("a secret=with=signs"); i++)
        assert_int_equal(lines[0][sizeof("SMTP_PASSWORD=") - 1 + i], 0);
}

static void test_arguments(void **state)
{
    char args[][64] = {"email-service",
                       "--smtp-password=x=y",
                       "--smtp-password",
                       "x",
                       "--redis-url",
                       "redis://:x@h",
                       "--smtp-user",
                       "me",
                       "--kafka-config",
                       "sasl.password=x",
                       "--kafka-config=ssl.key.password=x",
                       "--kafka-config",
                       "security.protocol=ssl",
                       "word",
                       "--redis-password"};
    static const char *const left[] = {"email-service",
                                       "--smtp-password=",
                                       "--smtp-password",
                                       "",
                                       "--redis-url",
                                       "",
                                       "--smtp-user",
                                       "me",
                                       "--kafka-config",
                                       "sasl.password=",
                                       "--kafka-config=ssl.key.password=",
                                       "--kafka-config",
                                       "security.protocol=ssl",
                                       "word",
                                       "--redis-password"};
    enum { COUNT = sizeof(left) / sizeof(left[0]) };
    char *argv[COUNT + 1] = {NULL};
    const struct config_sources sources = {.program = CONFIG_SERVICE, .argc = COUNT, .argv = argv};

    (void)state;
    for (size_t i = 0; i < COUNT; i++)
        argv[i] = args[i];
    config_hide_secrets(&sources);
    for (size_t i = 0; i < COUNT; i++)
        assert_string_equal(args[i], left[i]);
}

static void test_secret_properties(void **state)
{
    (void)state;
    assert_true(config_property_is_secret("sasl.password"));
    assert_true(config_property_is_secret("SSL_KEY_PEM"));
    assert_true(config_property_is_secret("sasl.oauthbearer.client.secret"));
    assert_true(config_property_is_secret("sasl.oauthbearer.config"));
    assert_false(config_property_is_secret("sasl.username"));
    assert_false(config_property_is_secret("security.protocol"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_environment),
        cmocka_unit_test(test_arguments),
        cmocka_unit_test(test_secret_properties),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
