/* Counting, and what is kept of it for the pages. */
#include "delivery/metrics.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

enum { MINUTE_MS = 60000 };

static const int64_t noon_unix_ms = 1795262400000; /* 2026-11-21T12:00:00Z */

static struct metrics_event event_at(int64_t now_unix_ms, const char *message_id)
{
    return (struct metrics_event){now_unix_ms, slice_str(message_id), slice_str("welcome")};
}

static void counts_each_outcome(void **state)
{
    struct metrics m;
    struct metrics_event e = event_at(noon_unix_ms, "m-1");

    (void)state;
    metrics_init(&m);
    metrics_consumed(&m);
    metrics_sent(&m, &e, 0.1, 0.2);
    metrics_duplicate(&m, &e, 0.001);
    metrics_retry(&m, &e, REASON_TIMEOUT);
    metrics_retry(&m, &e, REASON_TIMEOUT);
    metrics_dead_letter(&m, &e, DEAD_EXPIRED, 0.5);
    metrics_ambiguous(&m);
    assert_int_equal(m.consumed, 1);
    assert_int_equal(m.sent, 1);
    assert_int_equal(m.duplicates, 1);
    assert_int_equal(m.retries_total, 2);
    assert_int_equal(m.retries[REASON_TIMEOUT], 2);
    assert_int_equal(m.dead_total, 1);
    assert_int_equal(m.dead[DEAD_EXPIRED], 1);
    assert_int_equal(m.ambiguous, 1);
    assert_int_equal(m.delivery.count, 3);
    assert_int_equal(m.end_to_end.count, 1);
}

static void a_retry_without_reason_is_not_lost(void **state)
{
    struct metrics m;
    struct metrics_event e = event_at(noon_unix_ms, "m-1");

    (void)state;
    metrics_init(&m);
    metrics_retry(&m, &e, REASON_NONE);
    assert_int_equal(m.retries[REASON_INTERNAL], 1);
    assert_int_equal(m.retries[REASON_NONE], 0);
}

static void puts_durations_into_buckets(void **state)
{
    struct metrics m;
    struct metrics_event e = event_at(noon_unix_ms, "m-1");

    (void)state;
    metrics_init(&m);
    metrics_sent(&m, &e, 0.001, METRICS_UNKNOWN); /* a bound belongs to its bucket */
    metrics_sent(&m, &e, 0.0011, -3);             /* clocks that disagree */
    metrics_sent(&m, &e, 300, 0);
    metrics_sent(&m, &e, 300.1, 1e9);
    assert_int_equal(m.delivery.counts[0], 1);
    assert_int_equal(m.delivery.counts[1], 1);
    assert_int_equal(m.delivery.counts[HISTOGRAM_BOUNDS - 1], 1);
    assert_int_equal(m.delivery.counts[HISTOGRAM_BOUNDS], 1);
    assert_int_equal(m.delivery.count, 4);
    assert_true(m.delivery.sum > 600.102 && m.delivery.sum < 600.1022);
    assert_int_equal(m.end_to_end.counts[0], 2);
    assert_int_equal(m.end_to_end.counts[HISTOGRAM_BOUNDS], 1);
    assert_int_equal(m.end_to_end.count, 3);
    for (int i = 1; i < HISTOGRAM_BOUNDS; i++)
        assert_true(histogram_bounds[i - 1] < histogram_bounds[i]);
}

static void keeps_the_most_recent_outcomes(void **state)
{
    struct metrics m;
    char id[16];

    (void)state;
    metrics_init(&m);
    assert_null(metrics_recent(&m, 0));
    for (int i = 0; i < METRICS_RECENT + 7; i++) {
        struct metrics_event e;
        snprintf(id, sizeof(id), "m-%d", i);
        e = event_at(noon_unix_ms + i, id);
        metrics_sent(&m, &e, 0, 0);
    }
    assert_string_equal(metrics_recent(&m, 0)->message_id, id);
    assert_int_equal(metrics_recent(&m, 0)->at_unix_ms, noon_unix_ms + METRICS_RECENT + 6);
    assert_string_equal(metrics_recent(&m, METRICS_RECENT - 1)->message_id, "m-7");
    assert_null(metrics_recent(&m, METRICS_RECENT));
}

static void keeps_what_each_outcome_was(void **state)
{
    struct metrics m;
    struct metrics_event e = event_at(noon_unix_ms, "m-1"), nameless = {.now_unix_ms = 5};
    const struct recent_outcome *r;

    (void)state;
    metrics_init(&m);
    metrics_retry(&m, &e, REASON_TIMEOUT);
    metrics_dead_letter(&m, &nameless, DEAD_INVALID_EVENT, 0);
    r = metrics_recent(&m, 0);
    assert_int_equal(r->kind, OUTCOME_KIND_DEAD);
    assert_string_equal(r->reason, "invalid_event");
    assert_string_equal(r->message_id, "");
    assert_string_equal(r->type, "");
    r = metrics_recent(&m, 1);
    assert_int_equal(r->kind, OUTCOME_KIND_RETRY);
    assert_string_equal(r->reason, outcome_reason_name(REASON_TIMEOUT));
    assert_string_equal(r->type, "welcome");
}

static void cuts_names_that_are_too_long(void **state)
{
    struct metrics m;
    struct metrics_event e = {.now_unix_ms = noon_unix_ms};
    char text[1000];

    (void)state;
    memset(text, 'x', sizeof(text));
    e.message_id = e.type = slice_of(text, sizeof(text));
    metrics_init(&m);
    metrics_sent(&m, &e, 0, 0);
    assert_int_equal(strlen(metrics_recent(&m, 0)->message_id), 200);
    assert_int_equal(strlen(metrics_recent(&m, 0)->type), 64);
}

static void counts_by_the_minute(void **state)
{
    const int64_t noon = noon_unix_ms / MINUTE_MS;
    struct metrics m;
    struct metrics_event e;

    (void)state;
    metrics_init(&m);
    for (int i = 0; i < METRICS_MINUTES + 5; i++) {
        e = event_at(noon_unix_ms + (int64_t)i * MINUTE_MS + 59999, "m");
        metrics_sent(&m, &e, 0, 0);
        metrics_sent(&m, &e, 0, 0);
        metrics_duplicate(&m, &e, 0);
        metrics_retry(&m, &e, REASON_REPLY);
        metrics_dead_letter(&m, &e, DEAD_REJECTED, 0);
    }
    assert_int_equal(metrics_minute(&m, noon + 5).sent, 2);
    assert_int_equal(metrics_minute(&m, noon + 5).duplicates, 1);
    assert_int_equal(metrics_minute(&m, noon + 5).retries, 1);
    assert_int_equal(metrics_minute(&m, noon + 5).dead, 1);
    assert_int_equal(metrics_minute(&m, noon + 4).sent, 0); /* overwritten */
    assert_int_equal(metrics_minute(&m, noon + METRICS_MINUTES + 5).sent, 0);
    assert_int_equal(metrics_minute(&m, -1).sent, 0);
}

static void survives_clocks_that_jump(void **state)
{
    const int64_t noon = noon_unix_ms / MINUTE_MS;
    struct metrics m;
    struct metrics_event e = event_at(noon_unix_ms, "m");

    (void)state;
    metrics_init(&m);
    metrics_sent(&m, &e, 0, 0);
    e.now_unix_ms -= 2 * MINUTE_MS; /* a little back: goes on in the newest minute */
    metrics_sent(&m, &e, 0, 0);
    assert_int_equal(metrics_minute(&m, noon).sent, 2);
    e.now_unix_ms -= (int64_t)86400000; /* a day back: starts over there */
    metrics_sent(&m, &e, 0, 0);
    assert_int_equal(metrics_minute(&m, e.now_unix_ms / MINUTE_MS).sent, 1);
    e.now_unix_ms = -5;
    metrics_sent(&m, &e, 0, 0);
    assert_int_equal(m.sent, 4);
}

static void names_every_reason(void **state)
{
    (void)state;
    for (int i = 0; i < DEAD_REASONS; i++)
        assert_string_not_equal(dead_reason_name((enum dead_reason)i), "unknown");
    assert_string_equal(dead_reason_name(DEAD_INVALID_EVENT), "invalid_event");
    assert_string_equal(dead_reason_name(DEAD_RETRIES_EXHAUSTED), "retries_exhausted");
    assert_string_equal(dead_reason_name((enum dead_reason)DEAD_REASONS), "unknown");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(counts_each_outcome),
        cmocka_unit_test(a_retry_without_reason_is_not_lost),
        cmocka_unit_test(puts_durations_into_buckets),
        cmocka_unit_test(keeps_the_most_recent_outcomes),
        cmocka_unit_test(keeps_what_each_outcome_was),
        cmocka_unit_test(cuts_names_that_are_too_long),
        cmocka_unit_test(counts_by_the_minute),
        cmocka_unit_test(survives_clocks_that_jump),
        cmocka_unit_test(names_every_reason),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
