/* Every page, from snapshots made by hand. */
#include "pages.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>

static const int64_t noon_unix_ms = 1795262400000; /* 2026-11-21T12:00:00Z */

static const struct partition_state partitions[] = {
    {.partition = 0, .lag = 12, .watermark = 100, .under_way = 3},
    {.partition = 1, .lag = -1, .watermark = -1},
    {.partition = 2, .lag = 5, .watermark = 7},
};

static struct snapshot good_snapshot(void)
{
    struct snapshot s = {
        .now_unix_ms = noon_unix_ms,
        .started_unix_ms = noon_unix_ms - 90061000,
        .version = "1.2.3",
        .instance = "host-1/42",
        .mode = "smtp",
        .events_topic = "email-events",
        .dlq_topic = "email-events-dlq",
        .ttl_hours = 24,
        .in_flight = 17,
        .in_flight_bytes = 34567,
        .max_in_flight = 1000,
        .max_in_flight_bytes = 67108864,
        .retry_waiting = 4,
        .log_dropped_lines = 2,
        .kafka = {.up = true, .assigned = 3, .rebalances = 1},
        .dlq = {.up = true, .waiting = 1},
        .redis = {.up = true, .records = 321, .unreadable = 6, .late_marks = 7},
        .smtp = {.up = true, .idle = 2, .busy = 9, .connecting = 1, .waiting = 3},
        .partitions = partitions,
        .partitions_len = 3,
        .process = {.known = true,
                    .cpu_seconds = 1.5,
                    .start_time_seconds = 1795000000.25,
                    .virtual_bytes = 1000000,
                    .resident_bytes = 500000,
                    .max_virtual_bytes = INFINITY,
                    .max_fds = 1024,
                    .open_fds = 33},
    };

    snprintf(s.redis.eviction_policy, sizeof(s.redis.eviction_policy), "noeviction");
    return s;
}

static struct metrics some_metrics(void)
{
    struct metrics m;
    struct metrics_event e = {noon_unix_ms, slice_str("m-1"), slice_str("welcome")};

    metrics_init(&m);
    for (int i = 0; i < 5; i++)
        metrics_consumed(&m);
    metrics_sent(&m, &e, 0.004, 0.25);
    metrics_sent(&m, &e, 1000, 2000);
    metrics_duplicate(&m, &e, 0.001);
    metrics_retry(&m, &e, REASON_TIMEOUT);
    metrics_dead_letter(&m, &e, DEAD_REJECTED, 2);
    metrics_ambiguous(&m);
    return m;
}

/* The page's text; the caller frees. */
static char *page(const char *path, const struct snapshot *s, const struct metrics *m,
                  unsigned expected)
{
    const char *content_type = NULL;
    struct buf body = {0};

    assert_int_equal(pages_render(path, s, m, &body, &content_type), expected);
    assert_false(body.failed);
    assert_non_null(content_type);
    assert_int_equal(strlen(body.ptr), body.len);
    return body.ptr;
}

static json_t *json_page(const char *path, const struct snapshot *s, unsigned expected)
{
    struct metrics m = some_metrics();
    char *text = page(path, s, &m, expected);
    json_error_t error;
    json_t *root = json_loads(text, JSON_REJECT_DUPLICATES, &error);

    if (!root)
        fail_msg("%s: %s in %s", path, error.text, text);
    free(text);
    return root;
}

static void assert_text(json_t *object, const char *name, const char *expected)
{
    const char *value = json_string_value(json_object_get(object, name));

    assert_non_null(value);
    assert_string_equal(value, expected);
}

/* `path` is "kafka.lag" or the like. */
static json_int_t number(json_t *object, const char *path)
{
    char copy[128];
    json_t *value = object;

    snprintf(copy, sizeof(copy), "%s", path);
    for (char *rest = NULL, *name = strtok_r(copy, ".", &rest); name;
         name = strtok_r(NULL, ".", &rest))
        value = json_object_get(value, name);
    if (!json_is_integer(value))
        fail_msg("%s is no integer", path);
    return json_integer_value(value);
}

/* ---- /health, /live, /ready ---- */

static void health_is_as_promised(void **state)
{
    struct snapshot s = good_snapshot();
    json_t *root = json_page("/health", &s, 200);

    (void)state;
    assert_int_equal(json_object_size(root), 6);
    assert_text(root, "status", "healthy");
    assert_text(root, "service", "email-service");
    assert_text(root, "redis", "connected");
    assert_text(root, "kafka", "connected");
    assert_text(root, "timestamp", "2026-11-21T12:00:00.000Z");
    assert_int_equal(number(root, "idempotency_records"), 321);
    json_decref(root);
}

static void health_tells_what_is_away(void **state)
{
    struct snapshot s = good_snapshot();
    json_t *root;

    (void)state;
    s.redis.up = false;
    root = json_page("/health", &s, 503);
    assert_text(root, "status", "unhealthy");
    assert_text(root, "redis", "disconnected");
    assert_text(root, "kafka", "connected");
    json_decref(root);
    s = good_snapshot();
    s.kafka.up = false;
    s.redis.records = -1;
    root = json_page("/health", &s, 503);
    assert_text(root, "kafka", "disconnected");
    assert_true(json_is_null(json_object_get(root, "idempotency_records")));
    json_decref(root);
    s = good_snapshot();
    s.smtp.up = false; /* the relay is no matter of health, only of readiness */
    json_decref(json_page("/health", &s, 200));
}

static void is_alive_whatever_happens(void **state)
{
    struct snapshot s = {.version = "", .instance = "", .mode = ""};
    json_t *root = json_page("/live", &s, 200);

    (void)state;
    assert_text(root, "status", "alive");
    json_decref(root);
}

static void assert_only_reason(const struct snapshot *s, const char *expected)
{
    json_t *root = json_page("/ready", s, 503);
    json_t *reasons = json_object_get(root, "reasons");

    assert_text(root, "status", "not ready");
    assert_int_equal(json_array_size(reasons), 1);
    assert_string_equal(json_string_value(json_array_get(reasons, 0)), expected);
    json_decref(root);
}

static void ready_gives_its_reasons(void **state)
{
    struct snapshot s = good_snapshot();
    json_t *root = json_page("/ready", &s, 200);

    (void)state;
    assert_text(root, "status", "ready");
    json_decref(root);
    s.kafka.up = false;
    snprintf(s.kafka.error, sizeof(s.kafka.error), "all brokers are \"down\"\n");
    assert_only_reason(&s, "kafka unreachable: all brokers are \"down\"\n");
    s = good_snapshot();
    s.kafka.assigned = 0;
    assert_only_reason(&s, "no partitions assigned yet");
    s = good_snapshot();
    s.redis.up = false;
    snprintf(s.redis.error, sizeof(s.redis.error), "OOM");
    assert_only_reason(&s, "redis unreachable: OOM");
    s = good_snapshot();
    s.smtp.up = false;
    snprintf(s.smtp.error, sizeof(s.smtp.error), "connection refused");
    assert_only_reason(&s, "relay in outage: connection refused");
    s = good_snapshot();
    s.shutting_down = true;
    assert_only_reason(&s, "shutting down");
    s.kafka.up = s.redis.up = s.smtp.up = false;
    root = json_page("/ready", &s, 503);
    assert_int_equal(json_array_size(json_object_get(root, "reasons")), 4);
    json_decref(root);
}

/* ---- /stats ---- */

static void stats_has_all_counters(void **state)
{
    struct snapshot s = good_snapshot();
    json_t *root = json_page("/stats", &s, 200), *first;

    (void)state;
    assert_int_equal(number(root, "idempotency_records"), 321);
    assert_int_equal(number(root, "ttl_hours"), 24);
    assert_int_equal(number(root, "uptime_seconds"), 90061);
    assert_int_equal(number(root, "events.consumed"), 5);
    assert_int_equal(number(root, "events.sent"), 2);
    assert_int_equal(number(root, "events.duplicates"), 1);
    assert_int_equal(number(root, "events.retries"), 1);
    assert_int_equal(number(root, "events.dead_letters"), 1);
    assert_int_equal(number(root, "events.ambiguous"), 1);
    assert_int_equal(number(root, "retries.timeout"), 1);
    assert_int_equal(number(root, "dead_letters.rejected"), 1);
    assert_int_equal(json_object_size(json_object_get(root, "dead_letters")), DEAD_REASONS);
    assert_int_equal(number(root, "window.in_flight"), 17);
    assert_int_equal(number(root, "window.retry_waiting"), 4);
    assert_int_equal(number(root, "kafka.lag"), 17);
    assert_int_equal(number(root, "redis.unreadable_keys"), 6);
    assert_int_equal(number(root, "redis.late_marks"), 7);
    assert_int_equal(number(root, "smtp.busy"), 9);
    assert_int_equal(number(root, "delivery_seconds.count"), 4);
    assert_int_equal(number(root, "log.dropped_lines"), 2);
    first = json_array_get(json_object_get(json_object_get(root, "kafka"), "partitions"), 0);
    assert_int_equal(number(first, "lag"), 12);
    assert_text(root, "started_at", "2026-11-20T10:58:59.000Z");
    json_decref(root);
}

/* ---- /metrics ---- */

static void assert_line(const char *text, const char *line)
{
    char wanted[256];

    snprintf(wanted, sizeof(wanted), "\n%s\n", line);
    if (!strstr(text, wanted))
        fail_msg("no line \"%s\" in:\n%s", line, text);
}

static void metrics_has_the_promised_names(void **state)
{
    static const char *const lines[] = {
        "# TYPE email_events_consumed_total counter",
        "email_events_consumed_total 5",
        "email_sent_total 2",
        "email_duplicates_total 1",
        "email_retries_total{reason=\"timeout\"} 1",
        "email_retries_total{reason=\"reply\"} 0",
        "email_retries_total{reason=\"internal\"} 0",
        "email_dead_letters_total{reason=\"rejected\"} 1",
        "email_dead_letters_total{reason=\"ambiguous\"} 0",
        "# TYPE email_delivery_seconds histogram",
        "email_delivery_seconds_bucket{le=\"0.001\"} 1",
        "email_delivery_seconds_bucket{le=\"0.005\"} 2",
        "email_delivery_seconds_bucket{le=\"300\"} 3",
        "email_delivery_seconds_bucket{le=\"+Inf\"} 4",
        "email_delivery_seconds_sum 1002.005000",
        "email_delivery_seconds_count 4",
        "email_end_to_end_seconds_count 2",
        "email_in_flight 17",
        "email_retry_waiting 4",
        "email_consumer_lag{topic=\"email-events\",partition=\"0\"} 12",
        "email_consumer_lag{topic=\"email-events\",partition=\"2\"} 5",
        "email_smtp_connections{state=\"idle\"} 2",
        "email_smtp_connections{state=\"busy\"} 9",
        "email_smtp_connections{state=\"connecting\"} 1",
        "email_idempotency_records 321",
        "email_kafka_up 1",
        "email_redis_up 1",
        "email_smtp_up 1",
        "email_redis_evicting 0",
        "email_build_info{version=\"1.2.3\"} 1",
        "email_ambiguous_total 1",
        "email_unreadable_keys_total 6",
        "email_late_marks_total 7",
        "email_log_dropped_lines_total 2",
        "process_cpu_seconds_total 1.500",
        "process_open_fds 33",
        "process_max_fds 1024",
        "process_resident_memory_bytes 500000",
        "process_virtual_memory_bytes 1000000",
        "process_virtual_memory_max_bytes +Inf",
        "process_start_time_seconds 1795000000.250",
    };
    struct snapshot s = good_snapshot();
    struct metrics m = some_metrics();
    char *text = page("/metrics", &s, &m, 200);

    (void)state;
    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++)
        assert_line(text, lines[i]);
    assert_null(strstr(text, "partition=\"1\"")); /* its lag is not known */
    free(text);
}

/* The name that a sample belongs to: what HELP and TYPE announced last. */
static bool belongs_to(const char *line, const char *family)
{
    static const char *const suffixes[] = {"", "_bucket", "_sum", "_count"};
    size_t len = strcspn(line, "{ ");
    char name[128];

    for (size_t i = 0; i < 4; i++) {
        snprintf(name, sizeof(name), "%s%s", family, suffixes[i]);
        if (strlen(name) == len && strncmp(line, name, len) == 0)
            return true;
    }
    return false;
}

static void every_sample_is_announced(void **state)
{
    struct snapshot s = good_snapshot();
    struct metrics m = some_metrics();
    char *text = page("/metrics", &s, &m, 200), *rest = NULL;
    char family[128] = "", helped[128] = "";
    unsigned samples = 0;

    (void)state;
    assert_int_equal(text[strlen(text) - 1], '\n');
    for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        char *end = NULL;
        if (sscanf(line, "# HELP %127s", helped) == 1)
            continue;
        if (sscanf(line, "# TYPE %127s", family) == 1) {
            assert_string_equal(family, helped);
            continue;
        }
        if (!belongs_to(line, family))
            fail_msg("\"%s\" below the type of %s", line, family);
        assert_non_null(strrchr(line, ' '));
        (void)strtod(strrchr(line, ' ') + 1, &end);
        assert_int_equal(*end, '\0');
        samples++;
    }
    assert_true(samples > 80);
    free(text);
}

static void metrics_escapes_labels_and_says_unknown(void **state)
{
    struct snapshot s = good_snapshot();
    struct metrics m = some_metrics();
    char *text;

    (void)state;
    s.version = "a\"b\\c\nd";
    s.redis.records = -1;
    s.redis.up = s.kafka.up = s.smtp.up = false;
    s.process.known = false;
    text = page("/metrics", &s, &m, 200);
    assert_line(text, "email_build_info{version=\"a\\\"b\\\\c\\nd\"} 1");
    assert_line(text, "email_idempotency_records NaN");
    assert_line(text, "email_redis_up 0");
    assert_line(text, "email_kafka_up 0");
    assert_line(text, "email_smtp_up 0");
    assert_null(strstr(text, "process_open_fds"));
    free(text);
}

/* ---- / ---- */

static void assert_has(const char *text, const char *part)
{
    if (!strstr(text, part))
        fail_msg("no \"%s\" in the page", part);
}

static void status_page_shows_the_state(void **state)
{
    struct snapshot s = good_snapshot();
    struct metrics m = some_metrics();
    char *text = page("/", &s, &m, 200);

    (void)state;
    assert_int_equal(strncmp(text, "<!DOCTYPE html>", 15), 0);
    assert_has(text, "<span class=\"pill ok\">ready</span>");
    assert_has(text, "up 1 d 1 h");
    assert_has(text, "email-events");
    assert_has(text, "3 partitions assigned");
    assert_has(text, "9 busy, 2 idle, 1 connecting");
    assert_has(text, "m-1");
    assert_has(text, "<td>rejected</td>");
    assert_has(text, "12:00 UTC: 2 sent, 1 dead letters, 1 retries, 1 duplicates");
    assert_has(text, ">unknown</td>");
    assert_has(text, "</html>");
    assert_null(strstr(text, "<script"));
    assert_null(strstr(text, "src="));
    free(text);
}

static void status_page_shows_trouble(void **state)
{
    struct snapshot s = good_snapshot();
    struct metrics m;
    char *text;

    (void)state;
    metrics_init(&m);
    s.kafka = (struct consumer_state){.error = "no broker <reached>"};
    s.partitions_len = 0;
    s.redis.evicts = true;
    snprintf(s.redis.eviction_policy, sizeof(s.redis.eviction_policy), "volatile-lru");
    s.smtp.up = false;
    text = page("/", &s, &m, 200);
    assert_has(text, "<span class=\"pill bad\">not ready</span>");
    assert_has(text, "no broker &lt;reached&gt;");
    assert_has(text, "volatile-lru");
    assert_has(text, "in outage");
    assert_has(text, "None assigned.");
    assert_has(text, "No event has been handled yet.");
    free(text);
    s = good_snapshot();
    s.shutting_down = s.dev = true;
    s.mode = "log";
    text = page("/", &s, &m, 200);
    assert_has(text, "shutting down");
    assert_has(text, "development mode");
    assert_has(text, "no mail is sent");
    free(text);
}

static void status_page_escapes_everything(void **state)
{
    static const char evil[] = "<script>alert('1')</script>&\"\x01\xFF\xC2\x9B\xE2\x82\xAC";
    struct snapshot s = good_snapshot();
    struct metrics m;
    struct metrics_event e = {noon_unix_ms, slice_str(evil), slice_str(evil)};
    char *text;

    (void)state;
    metrics_init(&m);
    metrics_sent(&m, &e, 0, 0);
    s.version = s.instance = s.events_topic = s.dlq_topic = evil;
    snprintf(s.kafka.error, sizeof(s.kafka.error), "%s", evil);
    snprintf(s.redis.error, sizeof(s.redis.error), "%s", evil);
    snprintf(s.smtp.error, sizeof(s.smtp.error), "%s", evil);
    s.redis.evicts = true;
    snprintf(s.redis.eviction_policy, sizeof(s.redis.eviction_policy), "<script>");
    text = page("/", &s, &m, 200);
    assert_null(strstr(text, "<script"));
    assert_null(strstr(text, "\xFF"));
    assert_null(strstr(text, "\xC2\x9B"));
    assert_has(text, "&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;&amp;&quot;"
                     "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\xE2\x82\xAC");
    free(text);
}

/* ---- the rest ---- */

static void knows_no_other_pages(void **state)
{
    static const char *const paths[] = {"", "/health/", "/Health", "/metricsx", "//", "*"};
    struct snapshot s = good_snapshot();
    struct metrics m = some_metrics();

    (void)state;
    for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
        const char *content_type = NULL;
        struct buf body = {0};
        assert_int_equal(pages_render(paths[i], &s, &m, &body, &content_type), 0);
        assert_int_equal(body.len, 0);
        buf_cleanup(&body);
    }
}

static void reads_the_process_s_own_numbers(void **state)
{
    struct process_stats p, again;
    int fds[2];

    (void)state;
    process_stats_init(&p);
    process_stats_read(&p);
    assert_true(p.known);
    assert_true(p.start_time_seconds > 1.7e9);
    assert_true(p.resident_bytes > 100000 && p.virtual_bytes >= p.resident_bytes);
    assert_true(p.max_fds >= 64 && p.max_virtual_bytes > 0);
    assert_true(p.open_fds >= 1);
    again = p;
    assert_int_equal(pipe(fds), 0);
    process_stats_read(&again);
    assert_int_equal(again.open_fds, p.open_fds + 2);
    assert_true(again.start_time_seconds == p.start_time_seconds);
    assert_true(again.cpu_seconds >= p.cpu_seconds);
    close(fds[0]);
    close(fds[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(health_is_as_promised),
        cmocka_unit_test(health_tells_what_is_away),
        cmocka_unit_test(is_alive_whatever_happens),
        cmocka_unit_test(ready_gives_its_reasons),
        cmocka_unit_test(stats_has_all_counters),
        cmocka_unit_test(metrics_has_the_promised_names),
        cmocka_unit_test(every_sample_is_announced),
        cmocka_unit_test(metrics_escapes_labels_and_says_unknown),
        cmocka_unit_test(status_page_shows_the_state),
        cmocka_unit_test(status_page_shows_trouble),
        cmocka_unit_test(status_page_escapes_everything),
        cmocka_unit_test(knows_no_other_pages),
        cmocka_unit_test(reads_the_process_s_own_numbers),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
