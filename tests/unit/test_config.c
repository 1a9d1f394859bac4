/* Configuration: precedence, files, mistakes, URLs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <unistd.h>

#include "base/config.h"
#include "base/config_table.h"

static char folder[] = "/tmp/test-config-XXXXXX";
static char env_file[64], secret_file[64];

static int set_up(void **state)
{
    (void)state;
    if (!mkdtemp(folder) || chdir(folder) != 0)
        return -1;
    snprintf(env_file, sizeof(env_file), "%s/vars", folder);
    snprintf(secret_file, sizeof(secret_file), "%s/secret", folder);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    unlink(env_file);
    unlink(secret_file);
    return chdir("/") || rmdir(folder);
}

static void write_file(const char *path, const char *text)
{
    FILE *f = fopen(path, "w");

    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    assert_int_equal(fclose(f), 0);
}

static void write_bytes(const char *path, const char *bytes, size_t len)
{
    FILE *f = fopen(path, "w");

    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, len, f), len);
    assert_int_equal(fclose(f), 0);
}

static struct buf mistakes;

static enum config_result load(struct config *c, const char *const *args, const char *const *env)
{
    char *argv[16] = {(char *)(uintptr_t) "program"}, *environment[16] = {NULL};
    int argc = 1;

    for (; args && args[argc - 1]; argc++)
        argv[argc] = (char *)(uintptr_t)args[argc - 1];
    for (int i = 0; env && env[i]; i++)
        environment[i] = (char *)(uintptr_t)env[i];
    buf_clear(&mistakes);
    return config_load(
        c,
        &(struct config_sources){
            .program = CONFIG_SERVICE, .argc = argc, .argv = argv, .environ = environment},
        &mistakes);
}

static void defaults(void **state)
{
    struct config c;

    (void)state;
    assert_int_equal(load(&c, NULL, NULL), CONFIG_OK);
    assert_string_equal(c.kafka_brokers, "localhost:9092");
    assert_string_equal(c.kafka_topic_events, "email-events");
    assert_int_equal(c.kafka_partitions, 3);
    assert_int_equal(c.ttl_hours, 24);
    assert_int_equal(c.mode, CONFIG_MODE_LOG);
    assert_int_equal(c.smtp_port, 587);
    assert_int_equal(c.smtp_tls, CONFIG_TLS_STARTTLS);
    assert_int_equal(c.max_in_flight_bytes, 67108864);
    assert_true(c.enable_kafka);
    assert_false(c.fail_open);
    assert_null(c.smtp_user);
    config_cleanup(&c);
    config_cleanup(&c);
}

static void precedence(void **state)
{
    static const char *const args[] = {"--kafka-brokers", "flag:1", "--smtp-port=465",
                                       "--env-file",      env_file, NULL};
    static const char *const env[] = {"KAFKA_BROKERS=env:1", "KAFKA_CONSUMER_GROUP=env-group",
                                      "SMTP_FROM_NAME=", NULL};
    struct config c;

    (void)state;
    write_file(env_file, "# comment\nKAFKA_BROKERS=file:1\nexport KAFKA_CONSUMER_GROUP=file-group\n"
                         "SMTP_FROM_NAME = \"file host\" # why not\nSMTP_FROM='It''s'\n\n"
                         "EMAIL_MAX_ATTEMPTS=7 # seven\n");
    assert_int_equal(load(&c, args, env),
                     CONFIG_WRONG); /* 'It''s' has something behind its quote */
    config_cleanup(&c);
    write_file(env_file, "KAFKA_BROKERS=file:1\nexport KAFKA_CONSUMER_GROUP=file-group\n"
                         "SMTP_FROM_NAME = \"file\\thost\"\n");
    assert_int_equal(load(&c, args, env), CONFIG_WRONG); /* a tab in a value */
    config_cleanup(&c);
    write_file(env_file, "KAFKA_BROKERS=file:1\nexport KAFKA_CONSUMER_GROUP=file-group\r\n"
                         "SMTP_FROM_NAME = \"file host\" # why not\nEMAIL_MAX_ATTEMPTS=7 # seven");
    assert_int_equal(load(&c, args, env), CONFIG_OK);
    assert_string_equal(c.kafka_brokers, "flag:1");
    assert_string_equal(c.kafka_group, "env-group");
    assert_string_equal(c.smtp_from_name,
                        "file host"); /* empty in the environment counts as not given */
    assert_int_equal(c.max_attempts, 7);
    assert_int_equal(c.smtp_tls, CONFIG_TLS_TLS); /* by the port */
    config_cleanup(&c);
}

static void secrets_from_files(void **state)
{
    char file_line[128], both[] = "REDIS_PASSWORD=direct";
    const char *const env[] = {file_line, NULL}, *const two[] = {file_line, both, NULL};
    const char *const missing[] = {"SMTP_PASSWORD_FILE=/does/not/exist", NULL};
    struct config c;

    (void)state;
    snprintf(file_line, sizeof(file_line), "REDIS_PASSWORD_FILE=%s", secret_file);
    write_file(secret_file, "s3cret with spaces\n");
    assert_int_equal(load(&c, NULL, env), CONFIG_OK);
    assert_string_equal(c.redis_password, "s3cret with spaces");
    config_cleanup(&c);

    assert_int_equal(load(&c, NULL, two), CONFIG_WRONG);
    assert_non_null(strstr(mistakes.ptr, "REDIS_PASSWORD_FILE: REDIS_PASSWORD is given as well"));
    config_cleanup(&c);

    assert_int_equal(load(&c, NULL, missing), CONFIG_WRONG);
    assert_non_null(strstr(mistakes.ptr, "SMTP_PASSWORD_FILE: "));
    config_cleanup(&c);

    write_file(secret_file, "\n");
    assert_int_equal(load(&c, NULL, env), CONFIG_WRONG);
    assert_non_null(strstr(mistakes.ptr, "is empty"));
    config_cleanup(&c);
}

/* It would end there without a word. */
static void no_value_holds_nul(void **state)
{
    static const char env_line[] = "REDIS_HOST=a\0b\nKAFKA_CONFIG_CLIENT_RACK=x\0y\n";
    const char *const names[] = {"REDIS_PASSWORD", "KAFKA_CONFIG_SASL_PASSWORD"};
    char file_line[128];
    const char *const env[] = {file_line, NULL}, *const args[] = {"--env-file", env_file, NULL};
    struct config c;

    (void)state;
    write_bytes(secret_file, "s3c\0ret", 7);
    for (size_t i = 0; i < 2; i++) {
        snprintf(file_line, sizeof(file_line), "%s_FILE=%s", names[i], secret_file);
        assert_int_equal(load(&c, NULL, env), CONFIG_WRONG);
        assert_non_null(strstr(mistakes.ptr, names[i]));
        assert_non_null(strstr(mistakes.ptr, "_FILE: holds a NUL character"));
        config_cleanup(&c);
    }
    write_bytes(env_file, env_line, sizeof(env_line) - 1);
    assert_int_equal(load(&c, args, NULL), CONFIG_WRONG);
    assert_non_null(strstr(mistakes.ptr, "REDIS_HOST: holds a NUL character"));
    assert_non_null(strstr(mistakes.ptr, "KAFKA_CONFIG_CLIENT_RACK: holds a NUL character"));
    config_cleanup(&c);
    unlink(env_file);
}

static void all_mistakes_at_once(void **state)
{
    static const char *const env[] = {"EMAIL_MODE=pigeon",
                                      "SMTP_PORT=70000",
                                      "REDIS_PORT=-1",
                                      "EMAIL_MAX_ATTEMPTS=1.5",
                                      "IDEMPOTENCY_FAIL_OPEN=perhaps",
                                      "LOG_LEVEL=loud",
                                      "IDEMPOTENCY_TTL_HOURS=99999999999999999999999",
                                      NULL};
    static const char *const args[] = {"--no-such-flag", "--smtp-tls", "", NULL};
    struct config c;

    (void)state;
    assert_int_equal(load(&c, args, env), CONFIG_WRONG);
    for (size_t i = 0; env[i]; i++) {
        char name[64];
        snprintf(name, sizeof(name), "%.*s: ", (int)strcspn(env[i], "="), env[i]);
        assert_non_null(strstr(mistakes.ptr, name));
    }
    assert_non_null(strstr(mistakes.ptr, "--no-such-flag: "));
    config_cleanup(&c);
}

static void smtp_needs(void **state)
{
    static const char *const env[] = {"EMAIL_MODE=smtp", "SMTP_USER=u", NULL};
    static const char *const dev[] = {"--dev", NULL};
    struct config c;

    (void)state;
    assert_int_equal(load(&c, NULL, env), CONFIG_WRONG);
    assert_non_null(strstr(mistakes.ptr, "SMTP_HOST: "));
    assert_non_null(strstr(mistakes.ptr, "SMTP_FROM: "));
    assert_non_null(strstr(mistakes.ptr, "SMTP_PASSWORD: "));
    config_cleanup(&c);
    assert_int_equal(load(&c, dev, (const char *const[]){"EMAIL_MODE=smtp", NULL}), CONFIG_OK);
    assert_int_equal(c.mode, CONFIG_MODE_LOG);
    config_cleanup(&c);
}

static void kafka_properties(void **state)
{
    static const char *const env[] = {"KAFKA_CONFIG_SECURITY_PROTOCOL=ssl",
                                      "KAFKA_CONFIG_CLIENT_RACK=from-env", NULL};
    static const char *const args[] = {"--kafka-config", "client.rack=from-flag", NULL};
    struct config c;

    (void)state;
    assert_int_equal(load(&c, args, env), CONFIG_OK);
    assert_int_equal(c.properties_len, 2);
    for (size_t i = 0; i < 2; i++)
        if (strcmp(c.properties[i].name, "client.rack") == 0)
            assert_string_equal(c.properties[i].value, "from-flag");
        else
            assert_string_equal(c.properties[i].name, "security.protocol");
    config_cleanup(&c);
}

static void redis_urls(void **state)
{
    static const struct {
        const char *url, *host, *user, *password;
        unsigned port, db;
        bool tls;
    } good[] = {
        {"redis://h", "h", NULL, NULL, 6379, 0, false},
        {"redis://h:1/", "h", NULL, NULL, 1, 0, false},
        {"rediss://:p%40ss@h.example:6380/5", "h.example", NULL, "p@ss", 6380, 5, true},
        {"redis://u:p@[::1]:7000", "::1", "u", "p", 7000, 0, false},
        {"redis://u:a:b@c@h", "h", "u", "a:b@c", 6379, 0, false},
    };
    static const char *const bad[] = {"http://h",      "redis://",      "redis://h:0",
                                      "redis://h:x",   "redis://u@h",   "redis://h/x",
                                      "redis://:p%@h", "redis://:%00@h"};
    struct config c = {0};

    (void)state;
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        struct error err = {0};
        assert_true(config_parse_redis_url(&c, slice_str(good[i].url), &err));
        assert_string_equal(c.redis_host, good[i].host);
        assert_int_equal(c.redis_port, good[i].port);
        assert_int_equal(c.redis_db, good[i].db);
        assert_int_equal(c.redis_tls, good[i].tls);
        assert_int_equal(c.redis_user != NULL, good[i].user != NULL);
        if (good[i].password)
            assert_string_equal(c.redis_password, good[i].password);
    }
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct error err = {0};
        assert_false(config_parse_redis_url(&c, slice_str(bad[i]), &err));
        assert_true(err.set);
    }
    config_cleanup(&c);
}

static void switches_and_help(void **state)
{
    struct config c;
    struct buf text = {0};

    (void)state;
    assert_int_equal(load(&c, (const char *const[]){"-h", NULL}, NULL), CONFIG_HELP);
    assert_int_equal(load(&c, (const char *const[]){"--version", NULL}, NULL), CONFIG_VERSION);
    assert_int_equal(load(&c, (const char *const[]){"--check-config", NULL}, NULL), CONFIG_CHECK);
    config_cleanup(&c);
    assert_int_equal(load(&c, (const char *const[]){"--smtp-host", NULL}, NULL), CONFIG_WRONG);
    assert_non_null(strstr(mistakes.ptr, "a value must follow"));
    config_cleanup(&c);
    config_help(&text, CONFIG_SERVICE, "Usage: x\n");
    for (size_t i = 0; i < config_table_len; i++)
        assert_non_null(strstr(text.ptr, config_table[i].name));
    buf_cleanup(&text);
    config_help(&text, CONFIG_TOPICS, "Usage: x\n");
    assert_null(strstr(text.ptr, "SMTP_HOST"));
    assert_non_null(strstr(text.ptr, "KAFKA_TOPIC_PARTITIONS"));
    buf_cleanup(&text);
    buf_cleanup(&mistakes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults),
        cmocka_unit_test(precedence),
        cmocka_unit_test(secrets_from_files),
        cmocka_unit_test(no_value_holds_nul),
        cmocka_unit_test(all_mistakes_at_once),
        cmocka_unit_test(smtp_needs),
        cmocka_unit_test(kafka_properties),
        cmocka_unit_test(redis_urls),
        cmocka_unit_test(switches_and_help),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
