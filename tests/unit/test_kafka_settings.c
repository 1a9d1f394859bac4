#include "kafka/kafka_settings.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "kafka/kafka_stats.h"

static void good(const char *name, const char *value)
{
    const struct kafka_property p = {name, value};
    struct error err = {0};

    if (!kafka_property_check(&p, &err))
        fail_msg("%s=%s: %s", name, value, err.text);
    assert_false(err.set);
}

static void bad(const char *name, const char *value, const char *part_of_error)
{
    const struct kafka_property p = {name, value};
    struct error err = {0};

    if (kafka_property_check(&p, &err))
        fail_msg("%s=%s was accepted", name, value);
    assert_true(err.set);
    if (!strstr(err.text, name) || !strstr(err.text, part_of_error))
        fail_msg("error: %s", err.text);
    assert_false(kafka_property_check(&p, NULL));
}

static void accepts(void **state)
{
    (void)state;
    good("security.protocol", "sasl_ssl");
    good("sasl.mechanism", "SCRAM-SHA-512");
    good("sasl.username", "anybody");
    good("sasl.password", "a=b c");
    good("ssl.ca.location", "/etc/ssl/certs/ca-certificates.crt");
    good("session.timeout.ms", "30000");
    good("auto.offset.reset", "latest");
    good("partition.assignment.strategy", "cooperative-sticky");
    good("client.rack", "eu-1a");
    good("compression.type", "lz4");
}

static void refuses_unknown_and_bad(void **state)
{
    (void)state;
    bad("security.protocl", "ssl", "no such property");
    bad("", "x", "");
    bad("security.protocol", "tls", "security.protocol");
    bad("session.timeout.ms", "soon", "session.timeout.ms");
    bad("session.timeout.ms", "0", "session.timeout.ms");
    bad("auto.offset.reset", "sometimes", "auto.offset.reset");
    bad("rebalance_cb", "1", "rebalance_cb");
    bad("opaque", "1", "opaque");
}

static void refuses_what_guarantees_rest_on(void **state)
{
    (void)state;
    bad("enable.auto.offset.store", "true", "cannot be set");
    bad("enable.auto.commit", "false", "cannot be set");
    bad("auto.commit.interval.ms", "0", "cannot be set");
    bad("group.id", "other", "KAFKA_CONSUMER_GROUP");
    bad("bootstrap.servers", "other:9092", "KAFKA_BROKERS");
    bad("metadata.broker.list", "other:9092", "KAFKA_BROKERS");
    bad("acks", "1", "cannot be set");
    bad("request.required.acks", "1", "cannot be set");
    bad("enable.idempotence", "false", "cannot be set");
    bad("enable.partition.eof", "true", "cannot be set");
    bad("isolation.level", "read_uncommitted", "cannot be set");
    bad("statistics.interval.ms", "0", "cannot be set");
    bad("test.mock.num.brokers", "3", "cannot be set");
}

static void secrets_are_not_repeated(void **state)
{
    const struct kafka_property p = {"ssl.key.password.x", "hunter2"};
    const struct kafka_property pem = {"ssl.key.pem", "hunter2hunter2"};
    struct error err = {0};

    (void)state;
    assert_false(kafka_property_check(&p, &err));
    assert_null(strstr(err.text, "hunter2"));
    error_clear(&err);
    if (!kafka_property_check(&pem, &err))
        assert_null(strstr(err.text, "hunter2"));
}

/* ---- statistics ---- */

static struct kafka_stats *parse(const char *json)
{
    return kafka_stats_parse(slice_str(json));
}

static bool up(const char *brokers)
{
    char json[512];
    struct kafka_stats *s;
    bool result;

    snprintf(json, sizeof(json), "{\"brokers\":{%s}}", brokers);
    s = parse(json);
    assert_non_null(s);
    result = kafka_stats_broker_up(s, 5000);
    kafka_stats_destroy(s);
    return result;
}

static void broker_states(void **state)
{
    (void)state;
    assert_false(up(""));
    assert_true(
        up("\"a\":{\"state\":\"UP\",\"source\":\"learned\",\"waitresp_cnt\":0,\"rxidle\":-1}"));
    assert_true(up("\"a\":{\"state\":\"DOWN\"},\"b\":{\"state\":\"UP\",\"waitresp_cnt\":0}"));
    assert_false(up("\"a\":{\"state\":\"CONNECT\",\"source\":\"learned\"}"));
    assert_false(up("\"a\":{\"state\":\"UP\",\"source\":\"logical\",\"waitresp_cnt\":0}"));
    /* connected, but silent: frozen */
    assert_true(up("\"a\":{\"state\":\"UP\",\"waitresp_cnt\":1,\"rxidle\":4900000}"));
    assert_false(up("\"a\":{\"state\":\"UP\",\"waitresp_cnt\":1,\"rxidle\":5100000}"));
    assert_false(up("\"a\":7"));
}

static void committed_offsets(void **state)
{
    struct kafka_stats *s =
        parse("{\"topics\":{\"t\":{\"partitions\":{\"0\":{\"committed_offset\":42},"
              "\"1\":{\"committed_offset\":-1001},\"2\":{}}}}}");

    (void)state;
    assert_non_null(s);
    assert_int_equal(kafka_stats_committed(s, "t", 0), 42);
    assert_int_equal(kafka_stats_committed(s, "t", 1), -1);
    assert_int_equal(kafka_stats_committed(s, "t", 2), -1);
    assert_int_equal(kafka_stats_committed(s, "t", 3), -1);
    assert_int_equal(kafka_stats_committed(s, "other", 0), -1);
    assert_false(kafka_stats_broker_up(s, 5000));
    kafka_stats_destroy(s);
}

static void no_statistics(void **state)
{
    (void)state;
    assert_null(parse(""));
    assert_null(parse("[]"));
    assert_null(parse("{\"brokers\":"));
    assert_null(kafka_stats_parse((struct slice){0}));
    kafka_stats_destroy(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(accepts),
        cmocka_unit_test(refuses_unknown_and_bad),
        cmocka_unit_test(refuses_what_guarantees_rest_on),
        cmocka_unit_test(secrets_are_not_repeated),
        cmocka_unit_test(broker_states),
        cmocka_unit_test(committed_offsets),
        cmocka_unit_test(no_statistics),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
